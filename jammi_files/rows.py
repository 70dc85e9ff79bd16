"""Stored rows: records with their version and tombstone mark, to Arrow and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from jammi_files.cells import arrow_column
from jammi_files.errors import FormatError
from jammi_files.schema import (
    LOW_CARDINALITY,
    RECORD_FIELDS,
    SCHEMA,
    InputAnchor,
    Lease,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
)
from jammi_files.timestamps import format_timestamp

STORED = pa.schema(
    [
        *SCHEMA,
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("deleted", pa.bool_(), nullable=False),
    ]
)
"""The columns of a manifest and of a segment."""

_STORED_NAMES = frozenset(STORED.names)


class Row(NamedTuple):
    """A record as stored: with the version that wrote it and the mark of a tombstone.

    ``extra`` carries the columns of a newer library, each an array of one value, so that a rewrite
    loses nothing.
    """

    record: ResultTableRecord
    seq: int
    deleted: bool = False
    extra: Mapping[str, Any] | None = None


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Return stored rows as an Arrow table with the columns `STORED`, extra columns behind."""
    columns = [
        arrow_column(field, (getattr(row.record, field.name) for row in rows)) for field in SCHEMA
    ]
    columns.append(pa.array([row.seq for row in rows], pa.int64()))
    columns.append(pa.array([row.deleted for row in rows], pa.bool_()))
    table = pa.Table.from_arrays(columns, schema=STORED)
    extras = {name: None for row in rows if row.extra for name in row.extra}
    for name in extras:
        values = [(row.extra or {}).get(name) for row in rows]
        typed = next(value.type for value in values if value is not None)
        pieces = [pa.nulls(1, typed) if value is None else value for value in values]
        table = table.append_column(name, pa.concat_arrays(pieces))
    return table


def rows_of(table: pa.Table) -> list[Row]:
    """Return the rows of a conformed table; unknown enum values stay strings (`B037`)."""
    columns = {name: _python_values(table.column(name), name) for name in RECORD_FIELDS}
    extra_names = [name for name in table.column_names if name not in _STORED_NAMES]
    seqs, deleted = table.column("seq").to_pylist(), table.column("deleted").to_pylist()
    rows = []
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        record = ResultTableRecord(**dict(zip(RECORD_FIELDS, values, strict=True)))
        extra = {name: _one(table.column(name), index) for name in extra_names} or None
        rows.append(Row(record, seqs[index], deleted[index], extra))
    return rows


class RowReader:
    """Single rows of a conformed one-chunk table: 30 us each, where `rows_of` a slice takes 300."""

    def __init__(self, table: pa.Table) -> None:
        columns = [(name, _ints(table.column(name).chunk(0))) for name in RECORD_FIELDS]
        self._columns = [
            (name, column, _TO_PYTHON.get(name))
            for name, column in columns
            if column.null_count < len(column)
        ]
        self._nulls = {name: None for name, column in columns if column.null_count == len(column)}
        self._seq, self._deleted = table.column("seq").chunk(0), table.column("deleted").chunk(0)
        self._extra = [
            (name, table.column(name)) for name in table.column_names if name not in _STORED_NAMES
        ]

    def read(self, position: int) -> Row:
        """Return the row at ``position``."""
        values: dict[str, Any] = dict(self._nulls)
        for name, column, convert in self._columns:
            value = column[position].as_py()
            values[name] = value if value is None or convert is None else convert(value)
        extra = {name: _one(column, position) for name, column in self._extra} or None
        record = ResultTableRecord(**values)
        return Row(record, self._seq[position].as_py(), self._deleted[position].as_py(), extra)


def conform(table: pa.Table) -> pa.Table:
    """Give a table every column of `STORED` in order, nulls where an older library wrote none.

    Raises:
        FormatError: a column that no row may lack is absent, or one has another type.
    """
    if table.schema.equals(STORED):
        return table
    columns = []
    for field in STORED:
        index = table.schema.get_field_index(field.name)
        if index < 0:
            if not field.nullable:
                raise FormatError(f"column '{field.name}' is missing")
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(index)
        found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if found != field.type:
            raise FormatError(f"column '{field.name}' has type {found}, expected {field.type}")
        columns.append(column)
    unknown = [name for name in table.column_names if name not in _STORED_NAMES]
    names = [*STORED.names, *unknown]
    return pa.table([*columns, *(table.column(name) for name in unknown)], names=names)


def with_dictionaries(table: pa.Table) -> pa.Table:
    """Return the table with its low-cardinality columns dictionary-encoded, as segments are."""
    for name in LOW_CARDINALITY:
        index = table.schema.get_field_index(name)
        if not pa.types.is_dictionary(table.schema.types[index]):
            table = table.set_column(index, name, table.column(index).dictionary_encode())
    return table


def _python_values(column: pa.ChunkedArray, name: str) -> list[Any]:
    values: list[Any] = _ints(column).to_pylist()
    if name not in _TO_PYTHON:
        return values
    convert = _TO_PYTHON[name]
    return [None if value is None else convert(value) for value in values]


def _one(column: pa.ChunkedArray, index: int) -> pa.Array:
    return column.slice(index, 1).combine_chunks()


def _ints(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Return instants as integers: as_py() of nanoseconds would need pandas."""
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column


def _anchors(values: list[dict[str, str]]) -> tuple[InputAnchor, ...]:
    return tuple(InputAnchor.stored(**value) for value in values)


_TO_PYTHON: dict[str, Callable[[Any], Any]] = {
    "task": ModelTask.stored,
    "kind": ResultTableKind.stored,
    "status": ResultTableStatus.stored,
    "text_columns": tuple,
    "created_at": format_timestamp,
    "completed_at": format_timestamp,
    "input_anchors": _anchors,
    "properties": dict,
    "lease": lambda fields: Lease(**fields),
}
