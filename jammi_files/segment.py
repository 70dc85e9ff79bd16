"""One immutable sorted run of rows in memory: loaded on first use, indexed on first use.

Nothing here knows of versions or tenants. An index costs O(rows) once per segment and is shared by
every snapshot that lists the segment; a lookup then costs a bisection and one block of 64 values.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import manifest
from jammi_files.errors import FormatError, JammiFilesError
from jammi_files.header import SegmentInfo
from jammi_files.indexes import Positions, Postings, SortedIndex
from jammi_files.manifest import MissingSegmentError
from jammi_files.rows import Row, RowReader
from jammi_files.schema import ModelTask, ResultTableKind, ResultTableStatus
from jammi_files.segment_file import SegmentFile
from jammi_files.storage import READERS, Storage

T = TypeVar("T")

Explain = Callable[["Segment", MissingSegmentError], JammiFilesError]

WHOLE_GROUPS = 8
"""Row groups up to which a far segment is read whole, in one round trip: a part takes three."""

_CACHED_ROWS = 65_536


class Segment:
    """A sorted run: one row per name, read from its object when something first asks for it."""

    def __init__(
        self,
        info: SegmentInfo,
        storage: Storage | None = None,
        table: pa.Table | None = None,
        explain: Explain | None = None,
    ) -> None:
        """Take the storage that holds the segment's object, or its rows if it has none yet.

        ``explain`` turns the error of an object that is gone into one that says why.
        """
        self.info = info
        self.listed_by = 0
        """The newest version known to list the segment."""
        self.saved = storage is not None
        self.storage = storage
        self._table = table
        self._explain = explain
        self.loading = threading.RLock()
        self._groups: _RowGroups | None = None
        self._indexes: dict[str, SortedIndex | Postings] = {}
        self._rows: dict[int, Row] = {}
        self._reader: RowReader | None = None

    @property
    def table(self) -> pa.Table:
        """All rows, in one chunk, sorted by name."""
        if self._table is None:
            with self.loading:
                if self._table is None:
                    self._table = self._sound(lambda: self._decode(*self._read()))
                    self._groups = None
        return self._table

    @property
    def is_loaded(self) -> bool:
        """Whether all rows are in memory."""
        return self._table is not None

    @property
    def is_far(self) -> bool:
        """Whether reading a row means to ask a store that many processes share."""
        return self._table is None and self.storage is not None and not self.storage.is_locked

    @property
    def is_read_in_parts(self) -> bool:
        """Whether a name is looked up in one row group, until something asks for all rows."""
        groups = WHOLE_GROUPS if self.is_far else 1
        return self._table is None and self.info.rows > groups * manifest.ROW_GROUP_ROWS

    def load(self, data: bytes) -> None:
        """Take all rows from the object's bytes, which somebody else has read."""
        with self.loading:
            if self._table is None:
                read = iter([(self.info.key, data)])
                self._table = self._sound(lambda: self._decode(*next(read, None) or self._read()))
                self._groups = None

    def is_near(self, name: str) -> bool:
        """Say whether `lookup` of that name needs nothing from the storage."""
        if self._table is not None or not self.info.min_name <= name <= self.info.max_name:
            return True
        return self._groups is not None and self._groups.is_near(name)

    def lookup(self, name: str) -> Row | None:
        """Return the row of that name; a large segment reads one row group for it."""
        if not self.info.min_name <= name <= self.info.max_name:
            return None
        if self.is_read_in_parts:
            return self._group_holding(name)
        position = self.position(name)
        return None if position is None else self.row(position)

    def position(self, name: str) -> int | None:
        """Return the position of that name's row."""
        if not self.info.min_name <= name <= self.info.max_name:
            return None
        found = self._index("table_name").find(name)
        return found[0] if found else None

    def positions(self, column: str, key: str) -> Sequence[int]:
        """Return the positions of the rows whose ``column`` holds ``key``.

        ``anchor`` stands for the sources of ``input_anchors``; a row comes once however many of its
        anchors match. ``embedding`` stands for the ``source_id`` of ready embeddings of kind
        ``model``, which come newest first.
        """
        return self._index(column).find(key)

    def narrow(self, positions: Sequence[int], equal: Iterable[tuple[str, str]]) -> Sequence[int]:
        """Return those of the positions whose low-cardinality columns hold the given values."""
        rows = (
            positions.array if isinstance(positions, Positions) else pa.array(positions, pa.int64())
        )
        for column, value in equal:
            values = self.table.column(column).chunk(0)
            code = pc.index(values.dictionary, value).as_py()
            rows = rows.filter(pc.equal(values.indices.take(rows), code))
        found: list[int] = rows.to_pylist()
        return found

    def without(self, names: Collection[str]) -> Segment | None:
        """Return the segment without the rows of these names; None if nothing is left."""
        lost = [at for at in map(self.position, names) if at is not None]
        if not lost:
            return self
        keep = pc.invert(pc.is_in(pa.array(range(self.info.rows)), pa.array(lost)))
        table = self.table.filter(keep).combine_chunks()
        if not table.num_rows:
            return None
        return Segment(manifest.describe_segment(self.info.key, table), table=table)

    def row(self, position: int) -> Row:
        """Return one row, kept once made."""
        row = self._rows.get(position)
        if row is None:
            if len(self._rows) >= _CACHED_ROWS:
                self._rows.clear()
            if self._reader is None:
                self._reader = RowReader(self.table)
            row = self._rows[position] = self._reader.read(position)
        return row

    def seq(self, position: int) -> int:
        """Return the version that wrote one row."""
        seq: int = self.table.column("seq")[position].as_py()
        return seq

    def _read(self) -> tuple[str, bytes]:
        key, storage = self.info.key, self._stored_in()
        try:
            return key, storage.read(key)
        except FileNotFoundError:
            raise manifest.missing_segment(key) from None

    def _decode(self, key: str, data: bytes) -> pa.Table:
        return manifest.decode_segment(key, data, listed=self.info)

    def _sound(self, read: Callable[[], T]) -> T:
        """Read, and once more if it was a damaged copy that was read."""
        try:
            return read()
        except MissingSegmentError as error:
            raise (error if self._explain is None else self._explain(self, error)) from None
        except FormatError:
            if not self._stored_in().distrust(self.info.key):
                raise
            self._groups = None
            return read()

    def _stored_in(self) -> Storage:
        assert self.storage is not None  # noqa: S101 - a segment without object has its table
        return self.storage

    def _index(self, column: str) -> SortedIndex | Postings:
        index = self._indexes.get(column)
        if index is None:
            with self.loading:
                index = self._indexes.get(column) or self._build_index(column)
                self._indexes[column] = index
        return index

    def _build_index(self, column: str) -> SortedIndex | Postings:
        if column == "table_name":
            return SortedIndex(_one_chunk(self.table, column), ordered=True)
        if column == "anchor":
            return self._anchor_index()
        if column == "embedding":
            return self._embedding_index()
        values = _one_chunk(self.table, column)
        if pa.types.is_dictionary(values.type):
            if len(values.dictionary) <= len(values) // 4 + 1:
                return Postings(values)
            values = values.cast(pa.string())
        rows = pc.indices_nonzero(values.is_valid())
        return SortedIndex(values.drop_null(), rows)

    def _anchor_index(self) -> SortedIndex:
        anchors = _one_chunk(self.table, "input_anchors")
        rows = pc.list_parent_indices(anchors)
        sources = pc.struct_field(pc.list_flatten(anchors), "source")
        pairs = pa.table({"row": rows, "source": sources})
        pairs = pairs.group_by(["row", "source"], use_threads=False).aggregate([])
        return SortedIndex(_one_chunk(pairs, "source"), _one_chunk(pairs, "row"))

    def _embedding_index(self) -> SortedIndex:
        embeddings = [task.value for task in ModelTask if task.is_embedding]
        columns = ["source_id", "created_at", "table_name"]
        rows = self.table.select(columns).append_column("row", pa.array(range(self.info.rows)))
        wanted = (
            pc.invert(self.table.column("deleted")),
            pc.equal(self.table.column("status"), ResultTableStatus.READY.value),
            pc.equal(self.table.column("kind"), ResultTableKind.MODEL.value),
            pc.is_in(self.table.column("task").cast(pa.string()), pa.array(embeddings)),
        )
        rows = rows.filter(functools.reduce(pc.and_, wanted))
        newest = [("source_id", "ascending"), ("created_at", "descending")]
        rows = rows.set_column(0, "source_id", rows.column("source_id").cast(pa.string()))
        rows = rows.sort_by([*newest, ("table_name", "descending")])
        return SortedIndex(_one_chunk(rows, "source_id"), _one_chunk(rows, "row"), ordered=True)

    def _group_holding(self, name: str) -> Row | None:
        def find() -> Row | None:
            if self._groups is None:
                info, opener = self.info, self._stored_in().open
                file = manifest.open_segment(info.key, opener, listed=info)
                self._groups = _RowGroups(info.key, file)
            return self._groups.lookup(name)

        with self.loading:
            return self._sound(find)


class _RowGroups:
    """The row groups of a segment that is not worth loading whole yet."""

    def __init__(self, key: str, file: SegmentFile) -> None:
        self._key, self._file = key, file
        self._loaded: dict[int, Segment] = {}

    def is_near(self, name: str) -> bool:
        group = bisect_right(self._file.least, name) - 1
        return group < 0 or group in self._loaded

    def lookup(self, name: str) -> Row | None:
        group = bisect_right(self._file.least, name) - 1
        if group < 0:
            return None
        if group not in self._loaded:
            table = manifest.read_group(self._key, self._file, group)
            info = manifest.describe_segment(self._key, table)
            self._loaded[group] = Segment(info, table=table)
        return self._loaded[group].lookup(name)


def load_all(segments: Iterable[Segment]) -> None:
    """Load those that are not in memory, reading their objects side by side, each once."""
    missing = sorted((s for s in segments if not s.is_loaded), key=lambda s: s.info.key)
    while len(missing) > 1:
        some, missing = missing[:READERS], missing[READERS:]
        with contextlib.ExitStack() as held:  # in one order, or two threads would block each other
            for segment in some:
                held.enter_context(segment.loading)
            _load_together([segment for segment in some if not segment.is_loaded])


def _load_together(segments: list[Segment]) -> None:
    storage = segments[0].storage if segments else None
    if storage is not None:  # it is the storage of them all
        try:
            objects = storage.read_many([segment.info.key for segment in segments])
        except FileNotFoundError:  # whoever needs the missing one words the error
            return
        for segment in reversed(segments):
            segment.load(objects.pop())


def load_for(name: str, segments: Iterable[Segment]) -> None:
    """Read side by side what looking a name up takes: small segments whole, parts of large ones."""
    cold = [segment for segment in segments if not segment.is_near(name)]
    if len(cold) < 2:
        return
    large = [segment for segment in cold if segment.is_read_in_parts]
    with ThreadPoolExecutor(max(1, min(READERS, len(large)))) as threads:
        found = [threads.submit(segment.lookup, name) for segment in large]
        load_all(segment for segment in cold if segment not in large)
        for each in found:
            each.result()


def _one_chunk(table: pa.Table, column: str) -> pa.Array:
    """Return a column as one array; tables of this module are combined, aggregates are not."""
    chunked = table.column(column)
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    return chunked.combine_chunks()
