"""A change under construction: what the next version will hold, before it is encoded.

A `Draft` stands on one snapshot. Rules read it and put rows into it; `CatalogCodec` turns it into
the next version's manifest, new segments first (FORMAT section "Commit").
"""

from __future__ import annotations

import dataclasses
import os
import socket
import uuid
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import manifest
from jammi_files.errors import FormatError, JammiFilesError, VersionNotFoundError
from jammi_files.header import Header, SegmentInfo
from jammi_files.log import Log, key_of
from jammi_files.manifest import MissingSegmentError
from jammi_files.retention import Retention
from jammi_files.row_pages import Stripe, stripe
from jammi_files.rows import Row, table_of, with_dictionaries
from jammi_files.runs import Runs
from jammi_files.schema import ResultTableRecord
from jammi_files.segment import Segment
from jammi_files.snapshot import Snapshot, empty_snapshot
from jammi_files.storage import Storage
from jammi_files.timestamps import CLOCK

SEGMENTS = "_catalog/segments"

Mark: TypeAlias = tuple[int, list[Segment], Retention, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A part of a draft: what one caller changed, for those who are told of it once it stands.

    ``steps`` are what was done to single rows, in order, each with the row as it became; ``runs``
    are rows added in bulk, and ``upkeep`` is an operation on the catalog as a whole.
    """

    version: int
    steps: tuple[tuple[str, Row], ...]
    runs: tuple[Segment, ...]
    upkeep: str | None

    def __bool__(self) -> bool:
        return bool(self.steps or self.runs or self.upkeep)


class Draft:
    """The rows of one snapshot and the changes made to them so far."""

    def __init__(self, base: Snapshot) -> None:
        self.base = base
        self.version = base.version + 1
        self.changes: dict[str, Row] = {}
        self.added: list[Segment] = []
        self.merged: list[Segment] = []
        self.removed: frozenset[Segment] = frozenset()
        self.retention = base.header.retention
        self.operations: dict[str, None] = {}
        self._journal: list[tuple[str, Row | None, str]] = []
        self._bulk: list[Segment] = []
        self._upkeep: str | None = None
        self._view: Snapshot | None = None

    @property
    def is_empty(self) -> bool:
        """True while nothing would differ in the next version."""
        changed = self.changes or self.added or self.merged or self.removed
        return not changed and self.retention == self.base.header.retention

    def lookup(self, name: str) -> Row | None:
        """Return the newest row of that name, be it a tombstone."""
        row = self.changes.get(name)
        for segment in self.added if row is None else ():
            row = segment.lookup(name) or row
        return row if row is not None else self.base.lookup(name)

    def get(self, name: str) -> Row | None:
        """Return the live row of that name."""
        row = self.lookup(name)
        return None if row is None or row.deleted else row

    def put(self, record: ResultTableRecord, operation: str, *, deleted: bool = False) -> None:
        """Write the row of ``record.table_name``, or its tombstone."""
        before = self.lookup(record.table_name)
        extra = None if before is None or before.deleted else before.extra
        name = record.table_name
        self._journal.append((name, self.changes.get(name), operation))
        self.changes[name] = Row(record, self.version, deleted, extra)
        self.operations[operation] = None
        self._view = None

    def add_run(self, table: pa.Table, operation: str) -> None:
        """Add rows in bulk: the columns `SCHEMA`, none of whose names is live."""
        rows = table.num_rows
        table = table.append_column("seq", pa.repeat(pa.scalar(self.version, pa.int64()), rows))
        table = table.append_column("deleted", pa.repeat(pa.scalar(False), rows))
        run = new_segment(_sorted(with_dictionaries(table)))
        for name in [name for name in self.changes if run.lookup(name) is not None]:
            # Deleted in this very draft.
            self._journal.append((name, self.changes.pop(name), operation))
            self.added = [kept for each in self.added if (kept := each.without((name,)))]
        self.added.append(run)
        self._bulk.append(run)
        self.operations[operation] = None
        self._view = None

    def retain(self, retention: Retention, operation: str) -> None:
        """Change what is kept of the past; nothing if it is kept already."""
        if retention != self.retention:
            self.retention = retention
            self.operations[operation] = None
            self._upkeep = operation

    def swap_runs(
        self, old: Sequence[SegmentInfo], new: Segment | None, operation: str, *, since: int
    ) -> bool:
        """Replace merged segments by their outcome; False if one of them is gone already.

        ``new`` is None when the merge left no row. Its object was written on top of version
        ``since``: False too if a vacuum was committed after that, for it may have been deleted.
        """
        wanted = {info.key for info in old}
        present = [segment for segment in self.base.runs.segments if segment.info.key in wanted]
        if len(present) != len(wanted) or self.base.header.retention.vacuumed > since:
            return False
        self.removed |= frozenset(present)
        self.merged += [] if new is None else [new]
        self.operations[operation] = None
        return True

    def mark(self) -> Mark:
        """Return the point to which `rollback` can go back."""
        return len(self._journal), list(self.added), self.retention, len(self._bulk)

    def rollback(self, mark: Mark) -> None:
        """Undo every `put`, `add_run` and `retain` since ``mark``."""
        changes, self.added, self.retention, runs = mark
        del self._bulk[runs:]
        while len(self._journal) > changes:
            name, before, _ = self._journal.pop()
            if before is None:
                del self.changes[name]
            else:
                self.changes[name] = before
        self._view = None

    def since(self, mark: Mark) -> Change:
        """Return what was changed since ``mark``."""
        changes, _, retention, runs = mark
        steps = tuple(
            (operation, row)
            for name, _, operation in self._journal[changes:]
            if (row := self.changes.get(name)) is not None
        )
        upkeep = self._upkeep if self.retention != retention else None
        return Change(self.version, steps, tuple(self._bulk[runs:]), upkeep)

    def view(self) -> Snapshot:
        """Return the draft as a snapshot, for the reads of a rule or of a transaction."""
        if self.is_empty:
            return self.base
        if self._view is None:
            runs = self.base.runs
            if self.added:
                runs = Runs([*runs.segments, *self.added], runs)
            header = Header(self.version, "", "", 0, "", retention=self.retention)
            self._view = Snapshot(header, runs, self.inline())
        return self._view

    def inline(self) -> dict[str, Row]:
        """Return the rows over the segments, older ones first: an added run supersedes those."""
        gone = set(self.changes)
        for run in self.added:
            gone.update(name for name in self.base.inline if run.lookup(name))
        older = {name: row for name, row in self.base.inline.items() if name not in gone}
        return older | self.changes

    def runs(self) -> list[Segment]:
        """Return the segments of the next version, before flush and merge.

        A row added in bulk and changed again in the same draft stays in the change only: two rows
        of one name must never have the same ``seq``.
        """
        added = [segment.without(self.changes) for segment in self.added]
        kept = [segment for segment in self.base.runs.segments if segment not in self.removed]
        return [*kept, *self.merged, *(segment for segment in added if segment is not None)]


class CatalogCodec:
    """Drafts to versions and back, for a `Log`; writes the segments of a version before it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def empty(self) -> Snapshot:
        """Return the state before the first commit."""
        return empty_snapshot()

    def decode(self, version: int, data: bytes, known: Snapshot) -> Snapshot:
        """Read a version; segments that ``known`` has loaded are shared."""
        header, table, rows = manifest.decode_manifest(key_of(version), data, known.inline)
        if header.version != version:
            msg = f"'{key_of(version)}' says that it is version {header.version}"
            raise FormatError(msg)
        loaded = {segment.info.key: segment for segment in known.runs.segments}
        segments = [loaded.get(info.key) or self._stored(info) for info in header.segments]
        inline = {row.record.table_name: row for row in rows}
        stripes = {name: known.stripes[name] for name in known.still_inline(inline)}
        runs = self._runs(version, segments, known)
        return Snapshot(header, runs, inline, table, stripes=stripes)

    def draft(self, state: Snapshot) -> Draft:
        """Begin a change of ``state``."""
        return Draft(state)

    def mark(self, draft: Draft) -> object:
        """Return a point in the draft to which `rollback` can go back."""
        return draft.mark()

    def rollback(self, draft: Draft, mark: object) -> None:
        """Undo what the draft has taken since ``mark``."""
        draft.rollback(mark)  # type: ignore[arg-type]  # what `mark` returned

    def is_changed(self, draft: Draft) -> bool:
        """Return whether there is anything to `encode`."""
        return not draft.is_empty

    def encode(self, draft: Draft) -> tuple[bytes, Snapshot] | None:
        """Write the draft's new segments and return its manifest and state; None if empty."""
        if draft.is_empty:
            return None
        segments, inline = draft.runs(), draft.inline()
        if len(inline) > manifest.INLINE_ROWS:
            inline = _flush(draft, inline, segments)
        data, state = self._encode(draft, segments, inline)
        if manifest.is_too_large(data) and inline:  # few rows, but huge ones
            segments = [*state.runs.segments, _segment_of(inline.values())]
            data, state = self._encode(draft, segments, {})
        return data, state

    def _encode(
        self, draft: Draft, segments: list[Segment], inline: dict[str, Row]
    ) -> tuple[bytes, Snapshot]:
        grown = len(segments) > len(draft.base.runs.segments)
        segments, merge_due = _merge_small(segments)
        for segment in segments:
            self.save(segment)
        header = Header(
            version=draft.version,
            commit_id=uuid.uuid4().hex,
            operation="+".join(draft.operations),
            committed_at=CLOCK.now(),
            writer=_writer(),
            segments=tuple(segment.info for segment in segments),
            retention=draft.retention,
            extra=draft.base.header.extra,
        )
        stripes = _stripes(draft.base, inline)
        runs = self._runs(draft.version, segments, draft.base)
        state = Snapshot(header, runs, inline, stripes=stripes, merge_due=merge_due and grown)
        if stripes is None:
            return manifest.encode_manifest(header, state.inline_table), state
        return manifest.encode_stripes(header, list(stripes.values())), state

    def save(self, segment: Segment) -> None:
        """Write a segment's object, unless it has been written."""
        if not segment.saved:
            self._storage.create(segment.info.key, manifest.encode_segment(segment.table))
            segment.saved = True

    def _stored(self, info: SegmentInfo) -> Segment:
        return Segment(info, self._storage, explain=self._explain)

    def _explain(self, segment: Segment, error: MissingSegmentError) -> JammiFilesError:
        """Tell a lost segment, which a kept version lists, from one that vacuum deleted."""
        kept = Log(self._storage, self).head().header.retention
        if kept.keeps(segment.listed_by):
            return error
        return VersionNotFoundError(
            f"version {segment.listed_by} was retired by vacuum, and what it held is gone; take a"
            " new snapshot, or tag versions that must stay readable"
        )

    @staticmethod
    def _runs(version: int, segments: Sequence[Segment], known: Snapshot) -> Runs:
        for segment in segments:
            segment.listed_by = max(segment.listed_by, version)
        # What is hidden stays hidden in later versions; in an earlier one it may still show.
        if {*segments} == {*known.runs.segments}:
            return known.runs
        return Runs(segments, known.runs if version > known.version else None)


def new_segment(table: pa.Table) -> Segment:
    """Return a segment that is in memory only, under a new key; ``table`` is sorted by name."""
    key = f"{SEGMENTS}/{uuid.uuid4().hex}.parquet"
    return Segment(manifest.describe_segment(key, table), table=table)


def merge_segments(merging: Sequence[Segment], everything: Sequence[Segment]) -> Segment | None:
    """Merge segments into a new one in memory; None if nothing but dead tombstones was left."""
    infos = [segment.info for segment in merging]
    oldest = manifest.droppable_tombstones(infos, [segment.info for segment in everything])
    table = manifest.merge_runs([s.table for s in merging], drop_deleted_up_to=oldest)
    return new_segment(table) if table.num_rows else None


def _flush(draft: Draft, inline: dict[str, Row], segments: list[Segment]) -> dict[str, Row]:
    """Turn inline rows into a segment: all of them, or all but this change if that is small."""
    rest = {} if len(draft.changes) > manifest.INLINE_ROWS else draft.changes
    segments.append(_segment_of(row for name, row in inline.items() if name not in rest))
    return dict(rest)


def _segment_of(rows: Iterable[Row]) -> Segment:
    table = with_dictionaries(table_of([*rows]))
    return new_segment(_sorted(table))


def _sorted(table: pa.Table) -> pa.Table:
    """Return a table by name, in one chunk; columns of nulls stay where they are."""
    order = pc.sort_indices(table.column("table_name"))
    rows = table.num_rows
    columns = [
        column.combine_chunks() if column.null_count == rows else column.take(order)
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema).combine_chunks()


def _stripes(base: Snapshot, inline: dict[str, Row]) -> dict[str, Stripe] | None:
    """Return the stripes of inline rows, each made once; None if a row can have none."""
    stripes = {name: base.stripes[name] for name in base.still_inline(inline)}
    for name, row in inline.items():
        made = stripes.get(name) or stripe(row)
        if made is None:
            return None
        stripes[name] = made
    return {name: stripes[name] for name in inline}


def _merge_small(segments: list[Segment]) -> tuple[list[Segment], bool]:
    """Merge while a level is full and its merge is small; say whether a large merge is due."""
    while crowd := manifest.find_merge([segment.info for segment in segments]):
        if sum(info.rows for info in crowd) > manifest.MERGE_IN_COMMIT_ROWS:
            return segments, True
        keys = {info.key for info in crowd}
        merging = [segment for segment in segments if segment.info.key in keys]
        merged = merge_segments(merging, segments)
        segments = [segment for segment in segments if segment.info.key not in keys]
        if merged is not None:
            segments.append(merged)
    return segments, False


def _writer() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
