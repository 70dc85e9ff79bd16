"""All rows at one version: the segments that a manifest lists, and its inline rows over them.

A `Snapshot` is immutable and knows nothing of tenants; `reads` puts a scope before it. A commit
makes a new one out of the old in O(inline rows), sharing every segment and index.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files.header import Header
from jammi_files.row_pages import Stripe
from jammi_files.rows import Row, table_of, with_dictionaries
from jammi_files.runs import HOT, SMALL, Equal, Runs, age
from jammi_files.schema import ModelTask, ResultTableKind, ResultTableRecord, ResultTableStatus
from jammi_files.segment import Segment

INDEXED: dict[str, Callable[[ResultTableRecord], Iterable[str | None]]] = {
    "source_id": lambda record: (record.source_id,),
    "derived_from": lambda record: (record.derived_from,),
    "definition_hash": lambda record: (record.definition_hash,),
    "status": lambda record: (record.status,),
    "anchor": lambda record: (anchor.source for anchor in record.input_anchors or ()),
}
"""The columns that `Snapshot.select` looks up, and how an inline row answers for them."""


class Snapshot:
    """The rows at one version."""

    def __init__(  # noqa: PLR0913 - the parts of a version, some of them known in two forms
        self,
        header: Header,
        runs: Runs,
        inline: dict[str, Row],
        inline_table: pa.Table | None = None,
        *,
        stripes: Mapping[str, Stripe] | None = None,
        merge_due: bool = False,
    ) -> None:
        self.header = header
        self.runs = runs
        self.inline = inline
        self._inline_table = inline_table
        self._by_key: dict[str, dict[str | None, list[Row]]] = {}
        self._newest: dict[str, Row | None] = {}
        self.stripes = stripes or {}
        """Inline rows as manifests hold them: those that a commit of this process has made."""
        self.merge_due = merge_due

    @property
    def version(self) -> int:
        """The number of the commit that made this state; 0 is the empty catalog."""
        return self.header.version

    @property
    def commit_id(self) -> str:
        """The id of that commit."""
        return self.header.commit_id

    @property
    def inline_table(self) -> pa.Table:
        """The inline rows as Arrow, in the order of ``inline``."""
        if self._inline_table is None:
            self._inline_table = table_of(list(self.inline.values()))
        return self._inline_table

    def still_inline(self, inline: Mapping[str, Row]) -> Iterator[str]:
        """Yield the names of the rows with a stripe that are the same in another version."""
        return (name for name in self.stripes if inline.get(name) is self.inline[name])

    def lookup(self, name: str) -> Row | None:
        """Return the newest row of that name, be it a tombstone."""
        row = self.inline.get(name)
        return row if row is not None else self.runs.lookup(name)

    def get(self, name: str) -> Row | None:
        """Return the live row of that name."""
        row = self.inline.get(name) or self.runs.lookup(name)
        return None if row is None or row.deleted else row

    def held(self, names: pa.ChunkedArray) -> list[str]:
        """Return those of ``names`` that some row has or had: candidates for `get`."""
        found = [name for name in self.inline if pc.index(names, name).as_py() >= 0]
        self.runs.load()
        for segment in self.runs.segments:
            if len(names) <= SMALL:
                found += [name for name in names.to_pylist() if segment.position(name) is not None]
            else:
                known = segment.table.column("table_name").combine_chunks()
                found += names.filter(pc.is_in(names, known)).to_pylist()
        return found

    def select(self, column: str, key: str, equal: Equal = ()) -> list[Row]:
        """Return the live rows whose ``column`` (one of `INDEXED`) holds ``key``, in no order.

        Each column of ``equal`` must hold its value besides.
        """
        inline = self.inline
        rows = [
            row
            for row in self.runs.select(column, key, equal)
            if row.record.table_name not in inline
        ]
        own = self._inline_by(column).get(key, ())
        if not own:
            return rows
        return rows + [
            row for row in own if all(getattr(row.record, name) == value for name, value in equal)
        ]

    def newest_embeddings(self, source_id: str) -> Iterator[Row]:
        """Yield the live ready embedding rows of kind ``model`` of a source, newest first (`B153`).

        The first few cost no more than a bisection per segment, however many there are.
        """
        own = [row for row in self._inline_by("source_id").get(source_id, ()) if _is_embedding(row)]
        stored = (
            row
            for row in self.runs.newest_embeddings(source_id)
            if row.record.table_name not in self.inline
        )
        if not own:
            return stored
        return heapq.merge(sorted(own, key=age, reverse=True), stored, key=age, reverse=True)

    def newest_embedding(self, source_id: str) -> Row | None:
        """Return the first of `newest_embeddings`: a dictionary's lookup for whoever asks again."""
        try:
            return self._newest[source_id]
        except KeyError:
            if len(self._newest) >= HOT:
                self._newest.clear()
            first = self._newest[source_id] = next(self.newest_embeddings(source_id), None)
            return first

    def _inline_by(self, column: str) -> dict[str | None, list[Row]]:
        """Return the live inline rows by what their ``column`` holds."""
        by_key = self._by_key.get(column)
        if by_key is None:
            by_key, values_of = {}, INDEXED[column]
            for row in self.inline.values():
                for value in () if row.deleted else {*values_of(row.record)}:
                    by_key.setdefault(value, []).append(row)
            self._by_key[column] = by_key
        return by_key

    def tables(self, *, since: int = 0, deleted: bool = False) -> Iterator[pa.Table]:
        """Yield the rows that no newer row hides, in stored columns, low ones as dictionaries.

        ``since`` leaves out what versions up to it wrote; ``deleted`` asks for tombstones instead.
        """
        written = [segment for segment in self.runs.segments if segment.info.max_seq > since]
        if written:
            self.runs.load()
        for segment in written:
            yield _filtered(segment.table, since, self._mask(segment), deleted=deleted)
        if self.inline:
            yield _filtered(self._encoded_inline, since, None, deleted=deleted)

    @cached_property
    def _encoded_inline(self) -> pa.Table:
        """The inline rows as segments have them."""
        return with_dictionaries(self.inline_table)

    @cached_property
    def _covered(self) -> dict[Segment, set[int]]:
        """The rows of each segment that an inline row hides."""
        covered: dict[Segment, set[int]] = {}
        if self.inline:
            self.runs.load()
        for segment in self.runs.segments:
            for name in self.inline:
                position = segment.position(name)
                if position is not None:
                    covered.setdefault(segment, set()).add(position)
        return covered

    def _mask(self, segment: Segment) -> bytearray | None:
        hidden = self.runs.hidden.get(segment)
        covered = self._covered.get(segment)
        if not covered:
            return hidden
        mask = bytearray(segment.info.rows) if hidden is None else bytearray(hidden)
        for position in covered:
            mask[position] = 1
        return mask


def empty_snapshot() -> Snapshot:
    """Return the state before the first commit."""
    header = Header(version=0, commit_id="", operation="", committed_at=0, writer="")
    return Snapshot(header, Runs(()), {})


def _is_embedding(row: Row) -> bool:
    record = row.record
    return (
        record.status is ResultTableStatus.READY
        and record.kind is ResultTableKind.MODEL
        and isinstance(record.task, ModelTask)
        and record.task.is_embedding
    )


def _filtered(table: pa.Table, since: int, mask: bytearray | None, *, deleted: bool) -> pa.Table:
    if not (deleted or since or mask or pc.any(table.column("deleted")).as_py()):
        return table  # as it is: a filter copies a million rows in a second
    # Not by an expression: for a few rows that takes twice as long.
    wanted = table.column("deleted") if deleted else pc.invert(table.column("deleted"))
    if since:
        wanted = pc.and_(wanted, pc.greater(table.column("seq"), since))
    if mask is not None:
        hidden = pa.Array.from_buffers(pa.uint8(), len(mask), [None, pa.py_buffer(mask)])
        wanted = pc.and_(wanted, pc.equal(hidden, 0))
    return table.filter(wanted)
