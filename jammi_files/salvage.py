"""What can still be read of a damaged catalog, newest first, down to a version that is whole.

The rule of rows makes sense of any set of pieces: for a name the row with the highest ``seq``. A
version that is whole is a floor under the search: its rows are complete, and what is newer lies
over them. Segments that no version lists are never used: their commits were not made.
"""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import garbage, manifest
from jammi_files.draft import new_segment
from jammi_files.errors import FormatError, UnsupportedVersionError
from jammi_files.log import key_of
from jammi_files.manifest import Header
from jammi_files.retention import Retention
from jammi_files.rows import STORED, with_dictionaries
from jammi_files.runs import Runs
from jammi_files.segment import Segment
from jammi_files.snapshot import Snapshot
from jammi_files.storage import Storage


@dataclasses.dataclass(frozen=True, slots=True)
class Salvage:
    """The rows that were found, and what could not be read.

    ``newest`` is the number of the newest version, damaged or not, 0 if there is none; ``base`` the
    newest one that is whole. ``lost`` names each object that could not be read, with its problem.
    """

    newest: int
    base: int
    header: Header
    rows: pa.Table
    lost: tuple[tuple[str, str], ...]

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
    for number in sorted((n for n in sizes if sizes[n] or n == newest), reverse=True):
        key = key_of(number)
        try:
            found, inline, _ = manifest.decode_manifest(key, storage.read(key))
        except UnsupportedVersionError:
            raise
        except (FormatError, FileNotFoundError) as error:
            problems[key] = str(error)
            continue
        header = header or found
        pieces.append(with_dictionaries(inline))
        for info in found.segments:
            if info.key not in segments:
                segments[info.key] = _read(storage, info.key, problems)
        if all(segments[info.key] is not None for info in found.segments):
            base = number
            break
    pieces += [table for table in segments.values() if table is not None]
    header = dataclasses.replace(header or _unknown(newest), version=newest)
    rows = manifest.merge_runs([*pieces, _nothing()])
    return Salvage(newest, base, header, rows, tuple(problems.items()))


def _read(storage: Storage, key: str, problems: dict[str, str]) -> pa.Table | None:
    try:
        return manifest.decode_segment(key, storage.read(key))
    except FileNotFoundError:
        problems[key] = f"segment '{key}' is missing"
    except FormatError as error:
        problems[key] = str(error)
    return None


def _unknown(newest: int) -> Header:
    """Return the header of a catalog no version of which can be read: none is kept."""
    retention = Retention(floor=newest + 1)
    return Header(newest, "", "", 0, "", retention=retention)


def _nothing() -> pa.Table:
    return with_dictionaries(STORED.empty_table())
