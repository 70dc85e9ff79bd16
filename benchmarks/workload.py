"""The rows that every system is given: ready embeddings of many sources, by jammi-db's columns."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import orjson
import pyarrow as pa

from jammi_files import Catalog
from jammi_files.schema import SCHEMA

COLUMNS = (
    "table_name", "source_id", "model_id", "task", "parquet_path", "index_path", "dimensions",
    "distance_metric", "row_count", "status", "key_column", "text_columns", "checkpoint",
    "created_at", "completed_at", "tenant_id", "kind", "derived_from", "definition_hash",
    "input_anchors",
)  # fmt: skip
"""The 20 columns of jammi-db's table, in its order."""

TASKS = ("text_embedding", "image_embedding", "classification")
MODELS = ("org/mini", "org/small", "org/base", "org/large")
PER_SOURCE = 120
"""Rows of a source: ten for each of its tasks and models."""

_START = 1_790_000_000_000_000_000
_SECOND = 1_000_000_000


def name_of(number: int) -> str:
    """Return the name of a row."""
    return f"{source_of(number)}__{task_of(number)}__{number:09d}"


def source_of(number: int) -> str:
    """Return the source of a row; its rows are spread over all names and times."""
    return f"source-{number // PER_SOURCE:06d}"


def task_of(number: int) -> str:
    """Return the task of a row."""
    return TASKS[number % len(TASKS)]


def model_of(number: int) -> str:
    """Return the model of a row."""
    return MODELS[number // len(TASKS) % len(MODELS)]


def hash_of(number: int) -> str:
    """Return the definition hash of a row, which two rows share."""
    return hashlib.sha256(b"%d" % (number // 2)).hexdigest()


@functools.lru_cache(1)
def rows_of(count: int) -> pa.Table:
    """Return ``count`` rows, all but every hundredth of them ready, with all columns."""
    numbers = range(count)
    names = [name_of(number) for number in numbers]
    sources = [source_of(number) for number in numbers]
    instants = [_START + number * _SECOND for number in numbers]
    given = {
        "table_name": names,
        "source_id": sources,
        "model_id": [model_of(number) for number in numbers],
        "task": [task_of(number) for number in numbers],
        "kind": ["model"] * count,
        "parquet_path": [f"{name}.parquet" for name in names],
        "dimensions": [384] * count,
        "distance_metric": ["cosine"] * count,
        "row_count": [50] * count,
        "status": ["failed" if number % 100 == 99 else "ready" for number in numbers],
        "key_column": ["id"] * count,
        "text_columns": [["title", "body"]] * count,
        "created_at": instants,
        "completed_at": [instant + _SECOND for instant in instants],
        "definition_hash": [hash_of(number) for number in numbers],
        "input_anchors": [
            [{"source": source, "anchor": "2026-11-22", "kind": "source_version"}]
            for source in sources
        ],
    }
    arrays = [
        pa.array(given[field.name], field.type)
        if field.name in given
        else pa.nulls(count, field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def new_row(number: int) -> dict[str, str | int | list[str]]:
    """Return the arguments of a further row for `Catalog.create_result_table`."""
    name = f"new__{number:09d}"
    return {
        "table_name": name,
        "source_id": "source-000000",
        "model_id": MODELS[0],
        "task": TASKS[0],
        "parquet_path": f"{name}.parquet",
        "dimensions": 384,
        "key_column": "id",
        "text_columns": ["title", "body"],
    }


def flat(rows: pa.Table) -> list[tuple[object, ...]]:
    """Return rows as SQLite takes them: text, numbers and JSON in the order of `COLUMNS`."""
    columns = []
    for name in COLUMNS:
        values = rows.column(name)
        if pa.types.is_timestamp(values.type):
            columns.append(values.cast(pa.string()).to_pylist())
        elif pa.types.is_list(values.type):
            columns.append([_json(value) for value in values.to_pylist()])
        else:
            columns.append(values.to_pylist())
    return list(zip(*columns, strict=True))


def _json(value: Sequence[object] | None) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def filled(root: Path, rows: pa.Table, **options: object) -> Catalog:
    """Return a catalog that holds the rows, as one import made them."""
    catalog = Catalog.open(root, **options)  # type: ignore[arg-type]
    catalog.create_result_table(**new_row(0))  # type: ignore[arg-type]
    catalog.log.commit(lambda draft: draft.add_run(rows, "import"))
    return catalog
