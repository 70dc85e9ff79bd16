"""Ready results that anchor each other, adopted in one commit, whatever graph they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jammi_files import InputAnchor, ModelTask, ResultStore, ResultTableRecord, ResultTableStatus
from jammi_files.timestamps import CLOCK, format_timestamp

Anchors = Sequence[InputAnchor | str]


def result(name: str, anchors: Anchors = (), **also: object) -> ResultTableRecord:
    """Return a ready row; an anchor given as text is a digest of the result of that name."""
    now = format_timestamp(CLOCK.now())
    fields: dict[str, object] = {
        "source_id": "docs",
        "model_id": "org/model",
        "task": ModelTask.NER,
        "parquet_path": f"{name}.parquet",
        "status": ResultTableStatus.READY,
        "row_count": 1,
        "created_at": now,
        "completed_at": now,
        "definition_hash": "0" * 64,
        "input_anchors": tuple(
            InputAnchor.result_digest(each, "0" * 64) if isinstance(each, str) else each
            for each in anchors
        ),
    }
    return ResultTableRecord(**{"table_name": name, **fields, **also})  # type: ignore[arg-type]


def adopt(store: ResultStore, records: Iterable[ResultTableRecord]) -> None:
    """Commit the rows; every name must be new."""
    wanted = list(records)
    assert len(store.catalog.adopt_result_tables(wanted)) == len(wanted)


def adopt_graph(store: ResultStore, **anchors: Anchors) -> None:
    """Commit one ready row for each keyword, made from what its value names."""
    adopt(store, [result(name, inputs) for name, inputs in anchors.items()])


def pairs(edges: Iterable[object]) -> list[tuple[str, str]]:
    """Return edges as (input, derived)."""
    return [(edge.input, edge.derived) for edge in edges]  # type: ignore[attr-defined]
