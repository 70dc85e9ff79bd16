"""What can still be read of a damaged catalog, newest first, down to a version that is whole.

The rule of rows makes sense of any set of pieces: for a name the row with the highest ``seq``. A
version that is whole is a floor under the search: its rows are complete, and what is newer lies
over them. Segments that no version lists are never used: their commits were not made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import garbage, manifest
from jammi_files.draft import CatalogCodec, new_segment
from jammi_files.errors import FormatError, UnsupportedVersionError
from jammi_files.header import Header, SegmentInfo
from jammi_files.log import key_of
from jammi_files.retention import Retention
from jammi_files.rows import STORED, rows_of, with_dictionaries
from jammi_files.runs import Runs
from jammi_files.schema import ResultTableRecord, ResultTableStatus
from jammi_files.segment import Segment
from jammi_files.snapshot import Snapshot, empty_snapshot
from jammi_files.storage import Storage


@dataclasses.dataclass(frozen=True, slots=True)
class Salvage:
    """The rows that were found, and what could not be read.

    ``newest`` is the number of the newest version, damaged or not, 0 if there is none; ``base`` the
    newest one that is whole. ``lost`` names each object that could not be read, with its problem;
    ``unkept`` says what of the past ``header`` keeps no longer, as it is gone.
    """

    newest: int
    base: int
    header: Header
    rows: pa.Table
    lost: tuple[tuple[str, str], ...]
    unkept: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the newest version can be read in full."""
        return self.base == self.newest

    def state(self) -> Snapshot:
        """Return the rows as if the newest version held them, in one segment that is not stored."""
        live = self.rows.filter(~pc.field("deleted")).combine_chunks()
        runs: list[Segment] = [new_segment(live)] if live.num_rows else []
        return Snapshot(dataclasses.replace(self.header, segments=()), Runs(runs), {})

    @property
    def stems(self) -> set[str]:
        """Return the results of which something is known, deleted ones included."""
        paths = [path for path in self.rows.column("parquet_path").to_pylist() if path]
        return {*map(garbage.stem_of, paths), *self.rows.column("table_name").to_pylist()}

    def building(self) -> dict[str, ResultTableRecord]:
        """Return the rows of builds in the root itself, by the stem of their objects."""
        records = self._records(pc.field("status") == ResultTableStatus.BUILDING.value)
        own = (record for record in records if "/" not in record.parquet_path)
        return {garbage.stem_of(record.parquet_path): record for record in own}

    def attested(self) -> list[ResultTableRecord]:
        """Return the ready rows whose results have a sidecar."""
        is_ready = pc.field("status") == ResultTableStatus.READY.value
        return self._records(is_ready & pc.field("definition_hash").is_valid())

    def _records(self, wanted: pc.Expression) -> list[ResultTableRecord]:
        return [row.record for row in rows_of(self.rows.filter(~pc.field("deleted") & wanted))]


def salvage(storage: Storage) -> Salvage:
    """Read what can be read; nothing is written.

    Raises:
        UnsupportedVersionError: a newer library wrote a version: that is no damage.
    """
    sizes = {number: info.size for number, info in garbage.list_versions(storage).items()}
    newest, base = max(sizes, default=0), 0
    pieces: list[pa.Table] = []
    problems: dict[str, str] = {}
    segments: dict[str, pa.Table | None] = {}
    header: Header | None = None
    codec, nothing = CatalogCodec(storage), empty_snapshot()
    for number in sorted((n for n in sizes if sizes[n] or n == newest), reverse=True):
        key = key_of(number)
        try:
            state = codec.decode(number, storage.read(key), nothing)
        except UnsupportedVersionError:
            raise
        except (FormatError, FileNotFoundError) as error:
            problems[key] = str(error)
            continue
        header = header or state.header
        pieces.append(with_dictionaries(state.inline_table))
        for info in state.header.segments:
            if info.key not in segments:
                segments[info.key] = _read(storage, info, state.header, problems)
        if not any(info.key in problems for info in state.header.segments):
            base = number
            break
    pieces += [table for table in segments.values() if table is not None]
    header = dataclasses.replace(header or _unknown(newest), version=newest)
    there = {number for number, size in sizes.items() if size}
    retention, unkept = _mend(header.retention, there, newest)
    header = dataclasses.replace(header, retention=retention)
    rows = manifest.merge_runs([*pieces, _nothing()])
    return Salvage(newest, base, header, rows, tuple(problems.items()), tuple(unkept))


def _read(
    storage: Storage, info: SegmentInfo, header: Header, problems: dict[str, str]
) -> pa.Table | None:
    key = info.key
    try:
        table = manifest.decode_segment(key, storage.read(key))
        if not manifest.is_listed(table, info):
            problems[key] = f"segment '{key}' is another one than the manifest lists"
        if any(manifest.is_listed(table, each) for each in header.segments):
            return table  # also under the key of another: its rows were committed
    except FileNotFoundError:
        problems[key] = f"segment '{key}' is missing"
    except FormatError as error:
        problems[key] = str(error)
    return None


def _mend(retention: Retention, there: Collection[int], newest: int) -> tuple[Retention, list[str]]:
    """Keep nothing that is gone, and say what that gives up.

    The versions that were lost may have been vacuum's, or have removed tags: what an older header
    keeps is empty then. A version that is empty or missing was retired, or no vacuum could tell.
    """
    before = range(newest - 1, retention.floor - 1, -1)
    floor = next((number + 1 for number in before if number not in there), retention.floor)
    tags = {name: version for name, version in retention.tags.items() if version in there}
    unkept = [
        f"tag '{name}', as version {version} is empty or missing"
        for name, version in retention.tags.items()
        if name not in tags
    ]
    if floor > retention.floor:
        unkept.append(
            f"versions {retention.floor} to {floor - 1} without a tag, as the last of them is empty"
            " or missing"
        )
    return dataclasses.replace(retention, floor=floor, tags=tags), unkept


def _unknown(newest: int) -> Header:
    """Return the header of a catalog no version of which can be read: none is kept."""
    retention = Retention(floor=newest + 1)
    return Header(newest, "", "", 0, "", retention=retention)


def _nothing() -> pa.Table:
    return with_dictionaries(STORED.empty_table())
