"""The segments of a version, and which of their rows a newer one hides.

Versions share a `Runs` until a commit makes another segment, and with it whatever was looked up.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files.rows import Row
from jammi_files.segment import Segment, load_all, load_for

SMALL = 4096
"""Rows of a new segment up to which its names are looked up one by one in the others."""

HOT = 8192
"""Rows found by name that are kept at hand; when there are more, all are let go."""

_ANSWER_ROWS = 256
"""Rows of the longest answer that is kept at hand."""

_ANSWERS_ROWS = 65_536
"""Rows, with one more for each answer, of all answers kept; above that, all are let go."""

Equal: TypeAlias = tuple[tuple[str, str], ...]
"""Low-cardinality columns and what they must hold."""


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
            if len(self._hot) >= HOT:
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
            if len(self._newest) >= HOT:
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
        return heapq.merge(*found, key=age, reverse=True)

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
            if all(segment.info.rows <= SMALL for segment in added):
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


def age(row: Row) -> tuple[str, str]:
    """Return what rows are ordered by, the oldest first."""
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
