"""Stored rows of any content, drawn or made, and what a set of runs of them must mean."""

from __future__ import annotations

import string
from collections.abc import Iterable

from hypothesis import strategies as st

from jammi_files.draft import new_segment
from jammi_files.rows import Row, table_of, with_dictionaries
from jammi_files.schema import (
    AnchorKind,
    InputAnchor,
    Lease,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
)
from jammi_files.segment import Segment
from jammi_files.timestamps import format_timestamp

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(string.ascii_letters + "_.é日\U0001f600", min_size=1, max_size=3)
INT64 = st.integers(-(2**63), 2**63 - 1)
INSTANTS = INT64.map(format_timestamp)
ANCHORS = st.builds(InputAnchor, NAMES, TEXT, st.sampled_from(AnchorKind))
LEASES = st.builds(Lease, owner=TEXT, host=TEXT, pid=INT64, process_start=TEXT, expires_at=INT64)

RECORDS = st.builds(
    ResultTableRecord,
    table_name=NAMES,
    source_id=TEXT,
    model_id=TEXT,
    task=st.sampled_from(ModelTask),
    kind=st.sampled_from(ResultTableKind),
    derived_from=st.none() | TEXT,
    parquet_path=TEXT,
    index_path=st.none() | TEXT,
    dimensions=st.none() | INT64,
    distance_metric=st.none() | TEXT,
    row_count=INT64,
    status=st.sampled_from(ResultTableStatus),
    key_column=st.none() | TEXT,
    text_columns=st.none() | st.lists(TEXT, max_size=3).map(tuple),
    checkpoint=st.none() | INT64,
    created_at=INSTANTS,
    completed_at=st.none() | INSTANTS,
    tenant_id=st.none() | TEXT,
    definition_hash=st.none() | TEXT,
    input_anchors=st.none() | st.lists(ANCHORS, max_size=3).map(tuple),
    properties=st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
    storage_precision=st.none() | TEXT,
    oversample=st.none() | INT64,
    lease=st.none() | LEASES,
    artifact_digest=st.none() | TEXT,
    descriptor_digest=st.none() | TEXT,
)
ROWS = st.builds(Row, RECORDS, INT64, st.booleans(), st.none())


def record(name: str, seq: int, **also: object) -> ResultTableRecord:
    """Return a sound record that only its name and age matter of."""
    fields = {
        "table_name": name,
        "source_id": "docs",
        "model_id": "m",
        "task": ModelTask.NER,
        "parquet_path": f"{name}.parquet",
        "created_at": format_timestamp(seq),
        "row_count": seq,
    }
    return ResultTableRecord(**fields | also)


def segment(rows: Iterable[Row]) -> Segment:
    """Return a run in memory."""
    table = with_dictionaries(table_of(list(rows)))
    return new_segment(table.sort_by("table_name").combine_chunks())


def newest(*runs: Iterable[Row]) -> dict[str, Row]:
    """Return for each name the row with the highest ``seq``: what any set of runs means."""
    found: dict[str, Row] = {}
    for row in (row for run in runs for row in run):
        name = row.record.table_name
        if name not in found or row.seq > found[name].seq:
            found[name] = row
    return found


def live(*runs: Iterable[Row]) -> dict[str, Row]:
    """Return `newest` without the deleted."""
    return {name: row for name, row in newest(*runs).items() if not row.deleted}
