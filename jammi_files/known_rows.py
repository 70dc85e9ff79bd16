"""Two ways to the rows of one version: looked up by name, a few of them, or all in one scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files.descent import Descent, climb
from jammi_files.errors import FormatError, TableNotFoundError
from jammi_files.known import READY, UNREADABLE, Known, Pin
from jammi_files.reads import Reads
from jammi_files.schema import ENUM_COLUMNS, AnchorKind, ResultTableRecord
from jammi_files.timestamps import parse_timestamp

T = TypeVar("T")

FEW = 2000
"""Rows looked up one by one (30 us each) before all are taken from one scan (5 us each)."""

_PLAIN = ("table_name", "tenant_id", "definition_hash", "parquet_path", "row_count")
_DIGESTS = ("artifact_digest", "descriptor_digest")
_LOGICAL = ("source_id", "kind", "task", "model_id")
_SHAPE = ("derived_from", "dimensions", "key_column", "text_columns")
_COLUMNS = (*_PLAIN, *_DIGESTS, *_LOGICAL, *_SHAPE, "status", "created_at", "input_anchors")
_RESULT = AnchorKind.RESULT_DIGEST.value


class Everything:
    """All visible rows, from one scan of Arrow columns; no record is made."""

    def __init__(self, reads: Reads) -> None:
        self._by_name = {known.table_name: known for known in _rows(reads.scan(columns=_COLUMNS))}

    def __len__(self) -> int:
        return len(self._by_name)

    @cached_property
    def ready(self) -> list[Known]:
        """The ready rows, oldest first."""
        ready = [known for known in self._by_name.values() if known.status == READY]
        return sorted(ready, key=_age)

    @cached_property
    def inputs(self) -> dict[str, list[Known]]:
        """The ready results that each ready result was made from."""
        return {known.table_name: parents_of(self, known) for known in self.ready}

    @cached_property
    def family(self) -> Descent:
        """All ready results.

        Raises:
            DependencyCycleError: one of them is its own ancestor.
        """
        return Descent(self.ready, self.inputs)

    @property
    def used(self) -> list[Known]:
        """Every ready result that another was made from, once."""
        used = {each.table_name: each for above in self.inputs.values() for each in above}
        return list(used.values())

    def get(self, table_name: str) -> Known | None:
        """Return the row of that name in any status."""
        return self._by_name.get(table_name)

    def siblings(self, known: Known) -> Sequence[Known]:
        """Return the ready rows with the same ``logical`` part, the row itself among them."""
        return self._groups.get(known.logical, ())

    def parents(self, known: Known) -> list[Known]:
        """Return the ready results that a ready result was made from, in anchor order."""
        found = self.inputs.get(known.table_name)
        return parents_of(self, known) if found is None else found

    def descent(self, results: Iterable[Known]) -> Descent:  # noqa: ARG002 - all are at hand
        """Return ready results with all of their ancestors."""
        return self.family

    @cached_property
    def _groups(self) -> dict[tuple[str, ...], list[Known]]:
        groups: dict[tuple[str, ...], list[Known]] = {}
        for known in self.ready:
            groups.setdefault(known.logical, []).append(known)
        return groups


class Lookup:
    """Rows by name as they are asked for; when these become many, all of them at once."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._known: dict[str, Known | None] = {}
        self._parents: dict[str, list[Known]] = {}

    def __len__(self) -> int:
        return len(self._everything) if self._has_all else len(self._known)

    def require(self, table_name: str) -> Known:
        """Return the row of that name.

        Raises:
            TableNotFoundError: no visible row has the name.
            FormatError: it holds a value that this library does not know.
        """
        record = self._reads.get_result_table(table_name)
        if record is None:
            raise TableNotFoundError.named(table_name)
        return self._remember(record)

    def get(self, table_name: str) -> Known | None:
        """Return the row of that name in any status."""
        if table_name not in self._known:
            if len(self._known) >= FEW:
                return self._everything.get(table_name)
            self._known[table_name] = self._read(table_name)
        return self._known[table_name]

    def siblings(self, known: Known) -> Sequence[Known]:
        """Return the ready rows with the same ``logical`` part, the row itself among them."""
        if self._has_all:
            return self._everything.siblings(known)
        source, kind, task, model = known.logical
        records = self._reads.find_result_tables(source, task, model, kind=kind, status=READY)
        return [self._remember(record) for record in records]

    def parents(self, known: Known) -> list[Known]:
        """Return the ready results that a result was made from, in anchor order."""
        if known.table_name not in self._parents:
            self._parents[known.table_name] = parents_of(self, known)
        return self._parents[known.table_name]

    def descent(self, results: Iterable[Known]) -> Descent:
        """Return ready results with all of their ancestors."""
        found = climb(results, self.parents)
        above = {name: parents for name, (_, parents) in found.items()}
        return Descent((known for known, _ in found.values()), above)

    @cached_property
    def _everything(self) -> Everything:
        return Everything(self._reads)

    @property
    def _has_all(self) -> bool:
        return "_everything" in self.__dict__

    def _read(self, table_name: str) -> Known | None:
        try:
            record = self._reads.get_result_table(table_name)
        except FormatError:
            return _unreadable(table_name)
        return None if record is None else _of_record(record)

    def _remember(self, record: ResultTableRecord) -> Known:
        known = self._known.get(record.table_name)
        if known is None:
            known = self._known[record.table_name] = _of_record(record)
        return known


Rows = Everything | Lookup
"""The visible rows of one version."""


def parents_of(rows: Rows, known: Known) -> list[Known]:
    """Return the ready results that a result was made from, in anchor order."""
    found = [rows.get(pin.source) for pin in known.pins or () if pin.kind == _RESULT]
    return [parent for parent in found if parent is not None and parent.status == READY]


def _age(known: Known) -> tuple[int, str]:
    return known.age


def _of_record(record: ResultTableRecord) -> Known:
    anchors = record.input_anchors
    pins = (
        None
        if anchors is None
        else tuple(Pin(each.source, each.anchor, str(each.kind)) for each in anchors)
    )
    return Known(
        record.table_name,
        str(record.status),
        record.tenant_id,
        (parse_timestamp(record.created_at), record.table_name),
        record.definition_hash,
        (record.source_id, str(record.kind), str(record.task), record.model_id),
        (record.derived_from, record.dimensions, record.key_column, record.text_columns),
        record.parquet_path,
        record.row_count,
        pins,
        record.artifact_digest,
        record.descriptor_digest,
    )


def _unreadable(name: str) -> Known:
    return Known(name, UNREADABLE, None, (0, name), None, ("", "", "", ""), (), "", 0, None)


def _rows(table: pa.Table) -> Iterator[Known]:
    columns = {name: table.column(name).to_pylist() for name in (*_PLAIN, *_DIGESTS)}
    ages = table.column("created_at").cast(pa.int64()).to_pylist()
    logical = _shared(_together, [table.column(name).combine_chunks() for name in _LOGICAL])
    shapes = [table.column(name).to_pylist() for name in _SHAPE]
    shapes[-1] = [None if each is None else tuple(each) for each in shapes[-1]]
    pins = list(_pins(table.column("input_anchors")))
    return map(
        Known,
        columns["table_name"],
        _statuses(table),
        columns["tenant_id"],
        zip(ages, columns["table_name"], strict=True),
        columns["definition_hash"],
        logical,
        zip(*shapes, strict=True),
        columns["parquet_path"],
        columns["row_count"],
        pins,
        *(columns[name] for name in _DIGESTS),
    )


def _statuses(table: pa.Table) -> list[str]:
    """Return the statuses, `UNREADABLE` where a column holds a value that is not known here."""
    sound = pc.invert(_has_odd_anchor(table.column("input_anchors")))
    for column, enum in ENUM_COLUMNS.items():
        values = pa.array([member.value for member in enum])
        sound = pc.and_(sound, pc.is_in(table.column(column), values))
    statuses: list[str] = pc.if_else(sound, table.column("status"), UNREADABLE).to_pylist()
    return statuses


def _has_odd_anchor(column: pa.ChunkedArray) -> pa.Array:
    kinds = pa.array([kind.value for kind in AnchorKind])
    anchors = column.combine_chunks()
    odd = pc.invert(pc.is_in(pc.struct_field(pc.list_flatten(anchors), "kind"), kinds))
    rows = pc.list_parent_indices(anchors).filter(odd)
    return pc.is_in(pa.array(range(len(anchors)), rows.type), rows)


def _together(*values: str) -> tuple[str, ...]:
    return values


def _pins(column: pa.ChunkedArray) -> Iterator[tuple[Pin, ...] | None]:
    anchors = column.combine_chunks()
    flat = pc.list_flatten(anchors)
    pins = _shared(Pin, [pc.struct_field(flat, name) for name in Pin._fields])
    start = 0
    lengths = pc.fill_null(pc.list_value_length(anchors), 0).to_pylist()
    for length, is_null in zip(lengths, anchors.is_null().to_pylist(), strict=True):
        yield None if is_null else tuple(pins[start : start + length])
        start += length


def _shared(make: Callable[..., T], fields: list[pa.Array]) -> list[T]:
    """Return what ``make`` makes of text columns, equal rows as one object: most come often."""
    lengths = [pc.cast(pc.binary_length(field), pa.string()) for field in fields]
    codes = pc.binary_join_element_wise(*fields, *lengths, "\0").dictionary_encode()
    first = pc.index_in(codes.dictionary, pc.cast(codes, pa.string()))
    distinct = list(map(make, *(field.take(first).to_pylist() for field in fields)))
    return [distinct[code] for code in codes.indices.to_pylist()]
