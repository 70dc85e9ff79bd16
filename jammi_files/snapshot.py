"""All rows at one version: the segments that a manifest lists, and its inline rows over them.

A `Snapshot` is immutable and knows nothing of tenants; `reads` puts a scope before it. A commit
makes a new one out of the old in O(inline rows), sharing every segment and index.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files.manifest import Header
from jammi_files.row_pages import Stripe
from jammi_files.rows import Row, table_of, with_dictionaries
from jammi_files.schema import ModelTask, ResultTableKind, ResultTableRecord, ResultTableStatus
from jammi_files.segment import Segment, load_all, load_for

_SMALL = 4096
"""Rows of a new segment up to which its names are looked up one by one in the others."""

_HOT = 8192
"""Rows found by name that are kept at hand; when there are more, all are let go."""

_ANSWER_ROWS = 256
"""Rows of the longest answer that is kept at hand."""

_ANSWERS_ROWS = 65_536
"""Rows, with one more for each answer, of all answers kept; above that, all are let go."""

Equal: TypeAlias = tuple[tuple[str, str], ...]
"""Low-cardinality columns and what they must hold."""

INDEXED: dict[str, Callable[[ResultTableRecord], Iterable[str | None]]] = {
    "source_id": lambda record: (record.source_id,),
    "derived_from": lambda record: (record.derived_from,),
    "definition_hash": lambda record: (record.definition_hash,),
    "status": lambda record: (record.status,),
    "anchor": lambda record: (anchor.source for anchor in record.input_anchors or ()),
}
"""The columns that `Snapshot.select` looks up, and how an inline row answers for them."""


class Runs:
    """The segments of a version, newest first, and which of their rows a newer one hides."""

    def __init__(self, segments: Iterable[Segment], before: Runs | None = None) -> None:
        self.segments = tuple(sorted(segments, key=lambda s: s.info.max_seq, reverse=True))
        # What was worked out before is kept only if it is there: no chain of ancestors grows.
        self._before = before if before is not None and "hidden" in before.__dict__ else None
        self._is_loaded = False
        self._is_far = any(segment.is_far for segment in self.segments)
        self._hot: dict[str, Row] = {}
        self._answers: dict[tuple[str, str, Equal], Sequence[Row]] = {}
        self._answers_rows = 0
        self._newest: dict[str, Row | None] = {}

    def load(self) -> None:
        """Bring every row into memory, as whoever looks at all segments does."""
        if not self._is_loaded:
            load_all(self.segments)
            self._is_loaded, self._is_far = True, False

    def lookup(self, name: str) -> Row | None:
        """Return the newest row of that name, be it a tombstone."""
        row = self._hot.get(name)
        if row is None and (row := self._search(name)) is not None:
            if len(self._hot) >= _HOT:
                self._hot.clear()
            self._hot[name] = row
        return row

    def select(self, column: str, key: str, equal: Equal = ()) -> Sequence[Row]:
        """Return the rows that `Snapshot.select` asks for and that no newer segment hides.

        An answer is kept: whoever asks again, in this version or after further commits, pays for
        a dictionary's lookup.
        """
        question = column, key, equal
        rows = self._answers.get(question)
        if rows is None:
            rows = [*self._find(column, key, equal)]
            if len(rows) <= _ANSWER_ROWS:
                self._keep(question, rows)
        return rows

    def newest_embeddings(self, source_id: str) -> Iterator[Row]:
        """Yield what `Snapshot.newest_embeddings` asks for; the first one is kept."""
        first = self._newest.get(source_id)
        further: Iterator[Row] | None = None
        if first is None and source_id not in self._newest:
            further = self._embeddings(source_id)
            first = next(further, None)
            if len(self._newest) >= _HOT:
                self._newest.clear()
            self._newest[source_id] = first
        if first is not None:
            yield first
            yield from further or itertools.islice(self._embeddings(source_id), 1, None)

    def _find(self, column: str, key: str, equal: Equal) -> Iterator[Row]:
        self.load()
        for segment in self.segments:
            positions = segment.positions(column, key)
            if equal and positions:
                positions = segment.narrow(positions, equal)
            yield from self._shown(segment, positions)

    def _embeddings(self, source_id: str) -> Iterator[Row]:
        self.load()
        found = [
            self._shown(segment, segment.positions("embedding", source_id))
            for segment in self.segments
        ]
        return heapq.merge(*found, key=_age, reverse=True)

    def _shown(self, segment: Segment, positions: Sequence[int]) -> Iterator[Row]:
        hidden = self.hidden.get(segment) if positions else None
        for position in positions:
            if not (hidden and hidden[position]):
                row = segment.row(position)
                if not row.deleted:
                    yield row

    def _keep(self, question: tuple[str, str, Equal], rows: Sequence[Row]) -> None:
        self._answers_rows += 1 + len(rows)
        if self._answers_rows > _ANSWERS_ROWS:
            self._answers.clear()
            self._answers_rows = 1 + len(rows)
        self._answers[question] = rows

    def _search(self, name: str) -> Row | None:
        if self._is_far:  # near by, an older segment is better not read if a newer one answers
            load_for(name, self.segments)
        best: Row | None = None
        for segment in self.segments:
            if best is not None and segment.info.max_seq < best.seq:
                break
            row = segment.lookup(name)
            if row is not None and (best is None or row.seq > best.seq):
                best = row
        return best

    @cached_property
    def hidden(self) -> dict[Segment, bytearray]:
        """For each segment that has hidden rows: one byte per row, 1 = hidden by another."""
        self.load()
        before, self._before = self._before, None
        if before is not None:
            added = [segment for segment in self.segments if segment not in before.segments]
            if all(segment.info.rows <= _SMALL for segment in added):
                return self._extend(before.hidden, added)
        return self._compare_all()

    def _extend(
        self, known: dict[Segment, bytearray], added: list[Segment]
    ) -> dict[Segment, bytearray]:
        """Look the names of small new segments up in the others: no pass over old rows."""
        hidden = {
            segment: bytearray(known[segment]) for segment in self.segments if segment in known
        }
        for new in added:
            for name, position in zip(
                new.table.column("table_name").to_pylist(), range(new.info.rows), strict=True
            ):
                seq = new.seq(position)
                for other in self.segments:
                    found = None if other is new else other.position(name)
                    if found is not None:
                        loser = (other, found) if other.seq(found) < seq else (new, position)
                        _hide(hidden, *loser)
        return hidden

    def _compare_all(self) -> dict[Segment, bytearray]:
        """Find every name that several segments hold; all its rows but the newest are hidden."""
        hidden: dict[Segment, bytearray] = {}
        if len(self.segments) < 2:
            return hidden
        by_size = sorted(self.segments, key=lambda segment: segment.info.rows)
        tables = [_names_of(segment, number) for number, segment in enumerate(by_size)]
        largest, smaller = tables[-1], pa.concat_tables(tables[:-1])
        shared = largest.filter(
            pc.is_in(largest.column("name"), smaller.column("name").combine_chunks())
        )
        everything = pa.concat_tables([smaller, shared])
        everything = everything.sort_by([("name", "ascending"), ("seq", "descending")])
        names = everything.column("name").combine_chunks()
        again = pc.equal(names.slice(1), names.slice(0, len(names) - 1))
        losers = everything.select(["segment", "row"]).slice(1).filter(again)
        for number, row in zip(*(column.to_pylist() for column in losers.columns), strict=True):
            _hide(hidden, by_size[number], row)
        return hidden


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
        row = self.lookup(name)
        return None if row is None or row.deleted else row

    def held(self, names: pa.ChunkedArray) -> list[str]:
        """Return those of ``names`` that some row has or had: candidates for `get`."""
        found = [name for name in self.inline if pc.index(names, name).as_py() >= 0]
        self.runs.load()
        for segment in self.runs.segments:
            if len(names) <= _SMALL:
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
        return heapq.merge(sorted(own, key=_age, reverse=True), stored, key=_age, reverse=True)

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
            inline = with_dictionaries(self.inline_table)
            yield _filtered(inline, since, None, deleted=deleted)

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


def _age(row: Row) -> tuple[str, str]:
    return row.record.created_at, row.record.table_name


def _hide(hidden: dict[Segment, bytearray], segment: Segment, position: int) -> None:
    if segment not in hidden:
        hidden[segment] = bytearray(segment.info.rows)
    hidden[segment][position] = 1


def _names_of(segment: Segment, number: int) -> pa.Table:
    rows = segment.info.rows
    return pa.table(
        {
            "name": segment.table.column("table_name"),
            "seq": segment.table.column("seq"),
            "segment": pa.repeat(pa.scalar(number, pa.int32()), rows),
            "row": pa.array(range(rows), pa.int64()),
        }
    )


def _filtered(table: pa.Table, since: int, mask: bytearray | None, *, deleted: bool) -> pa.Table:
    if not (deleted or since or mask or pc.any(table.column("deleted")).as_py()):
        return table  # as it is: a filter copies a million rows in a second
    wanted = pc.field("deleted") if deleted else ~pc.field("deleted")
    if since:
        wanted &= pc.field("seq") > since
    if mask is not None:
        hidden = pa.Array.from_buffers(pa.uint8(), len(mask), [None, pa.py_buffer(bytes(mask))])
        table = table.append_column("_hidden", hidden)
        return table.filter(wanted & (pc.field("_hidden") == 0)).drop_columns("_hidden")
    return table.filter(wanted)
