"""What the versions of a catalog reach: the segments that they list, the results that they name.

Every version that is asked for is read, manifest by manifest: no rule about what may have changed
between two of them stands in for looking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import manifest
from jammi_files.draft import Draft
from jammi_files.errors import FormatError
from jammi_files.garbage import stem_of
from jammi_files.header import SegmentInfo
from jammi_files.log import Log, key_of
from jammi_files.schema import ResultTableStatus
from jammi_files.snapshot import Snapshot
from jammi_files.storage import Storage

_AT_ONCE = 256
"""Manifests that are in memory at one time, some 20 kB each."""

_COLUMNS = ("table_name", "parquet_path", "index_path", "seq", "deleted")


class _Mention(NamedTuple):
    """What one stored row says of the results that are asked about."""

    table_name: str
    seq: int
    stems: frozenset[str]
    """Those that it names; empty for a tombstone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Root:
    """The versions and objects of one catalog, and who reads and deletes them side by side."""

    log: Log[Snapshot, Draft]
    storage: Storage
    executor: Executor


class Reach:
    """Asks versions what they reach."""

    def __init__(self, root: Root, stems: Collection[str]) -> None:
        """``stems`` are the results that are asked about."""
        self._root = root
        self._asked = frozenset(stems)
        self._mentions: dict[str, list[_Mention]] = {}

    def of(self, versions: Sequence[int]) -> Iterator[tuple[list[str], set[str]]]:
        """Yield for each version the keys of its segments, and which results its rows name.

        A version that another vacuum retires meanwhile reaches nothing any more.

        Raises:
            FormatError: a version that is kept, or a segment that it lists, is damaged or gone.
        """
        wanted = [version for version in versions if version]
        while some := wanted[:_AT_ONCE]:
            wanted = wanted[_AT_ONCE:]
            found = self._root.executor.map(self._root.storage.peek, map(key_of, some))
            for version, data in zip(some, found, strict=True):
                if data:
                    yield from self._of_one(version, data)
                else:
                    self._require_retired(version, f"version {version} is missing or empty")

    def _of_one(self, version: int, data: bytes) -> Iterator[tuple[list[str], set[str]]]:
        key = key_of(version)
        if not self._asked:
            header = manifest.decode_header(key, data)
            yield [info.key for info in header.segments], set()
            return
        header, inline = manifest.decode_columns(key, data, _COLUMNS)
        newest: dict[str, _Mention] = {}
        try:
            pieces = [self._segment_mentions(info) for info in header.segments]
        except FormatError as error:
            self._require_retired(version, str(error))
            return
        for each in (mention for piece in (*pieces, self._find(inline)) for mention in piece):
            known = newest.get(each.table_name)
            if known is None or known.seq < each.seq:
                newest[each.table_name] = each
        named = {stem for mention in newest.values() for stem in mention.stems}
        yield [info.key for info in header.segments], named

    def _segment_mentions(self, info: SegmentInfo) -> list[_Mention]:
        key = info.key
        if key not in self._mentions:
            data = self._root.storage.peek(key)
            if data is None:
                raise manifest.missing_segment(key)
            self._mentions[key] = self._find(manifest.decode_segment(key, data, listed=info))
        return self._mentions[key]

    def _find(self, table: pa.Table) -> list[_Mention]:
        """Return the rows that name a result which is asked about, or whose table is called so."""
        if not table.num_rows:
            return []
        table = table.select(list(_COLUMNS))
        wanted = pc.is_in(table.column("table_name"), pa.array(self._asked, pa.string()))
        for column in ("parquet_path", "index_path"):
            named = pc.is_in(_stems(table.column(column)), pa.array(self._asked, pa.string()))
            wanted = pc.or_(wanted, named)
        return [
            _Mention(
                row["table_name"],
                row["seq"],
                frozenset() if row["deleted"] else self._asked & set(_stems_of(row)),
            )
            for row in table.filter(wanted).to_pylist()
        ]

    def _require_retired(self, version: int, problem: str) -> None:
        retention = self._root.log.head().header.retention
        if retention.keeps(version):
            tags = [f"'{name}'" for name, tagged in retention.tags.items() if tagged == version]
            way = f"untag {', '.join(tags)}" if tags else "keep fewer and younger versions"
            msg = f"{problem}, and version {version} is kept: restore the object, or {way}"
            raise FormatError(f"{msg}; nothing was removed")


def named_stems(tables: Iterable[pa.Table]) -> set[str]:
    """Return what the rows of some tables name: the stems of their paths, and their own names."""
    found: set[str] = set()
    for table in tables:
        found.update(table.column("table_name").to_pylist())
        for column in ("parquet_path", "index_path"):
            found.update(map(stem_of, filter(None, table.column(column).to_pylist())))
    return found


def building_stems(state: Snapshot) -> set[str]:
    """Return the names and stems of what is being built, or whose build nobody has ended yet."""
    records = [row.record for row in state.select("status", ResultTableStatus.BUILDING)]
    names = {record.table_name for record in records}
    return names | {stem_of(record.parquet_path) for record in records}


def _stems(paths: pa.ChunkedArray) -> pa.Array:
    """Return `stem_of` of every path of a column, null for null."""
    unique = pc.unique(paths).to_pylist()
    names = pa.array([None if each is None else stem_of(each) for each in unique], pa.string())
    return names.take(pc.index_in(paths.combine_chunks(), pa.array(unique, paths.type)))


def _stems_of(row: dict[str, str | None]) -> Iterator[str]:
    for column in ("parquet_path", "index_path"):
        path = row[column]
        if path is not None:
            yield stem_of(path)
