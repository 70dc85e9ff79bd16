"""What lies under a root that no kept version needs: found by listing, proved by reading.

A version becomes garbage when the next one is committed, and whatever else a version reaches
becomes garbage with it; so the age of a thing is that of the commit which gave it up, never that of
its bytes (FORMAT section "Vacuum"). All times are the storage's own, in whole seconds.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from enum import StrEnum

from jammi_files import lease, naming, root_format
from jammi_files.draft import SEGMENTS
from jammi_files.errors import FormatError
from jammi_files.log import PREFIX, number_of
from jammi_files.materialization import MaterializationManifest
from jammi_files.retired import without_mark_size
from jammi_files.storage import NoFileError, ObjectInfo, Storage

CATALOG = "_catalog"

CLOCK = f"{CATALOG}/vacuum"
"""What the object begins with by which a vacuum asks for the storage's time."""

_CLOCK_GRACE = 3600
"""Seconds for which no vacuum takes another one's clock for garbage, whatever its grace."""

_TEMPORARY = re.compile(r"(.+)\.[0-9a-f]{8}\.tmp", re.ASCII | re.DOTALL)
_SEGMENT = re.compile(r"[0-9a-f]{32}\.parquet", re.ASCII)


class VacuumKind(StrEnum):
    """What sort of object vacuum found."""

    VERSION = "version"
    SEGMENT = "segment"
    INDEX = "index"
    DATA = "data"
    SIDECAR = "sidecar"
    SIGNATURE = "signature"
    BUILD_STATE = "build_state"
    TEMPORARY_FILE = "temporary_file"
    FOREIGN = "foreign"


@dataclasses.dataclass(frozen=True, slots=True)
class VacuumAction:
    """One object that vacuum removes, and why; ``size`` is its bytes.

    A version is emptied and keeps its name, a ``FOREIGN`` object is left alone, all others are
    deleted. ``error`` says why an object could not be removed: the next vacuum tries again.
    """

    key: str
    kind: VacuumKind
    size: int
    reason: str
    error: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Age:
    """Whether something is older than the grace; both instants are cut to whole seconds."""

    now: dt.datetime
    grace: int

    def is_over(self, since: dt.datetime) -> bool:
        """Say whether ``since`` lies ``grace`` seconds back, however the store rounds its times."""
        passed = int(self.now.timestamp()) - int(since.timestamp())
        return passed >= (self.grace + 1 if self.grace else 0)

    def for_loose(self, key: str) -> Age:
        """Return the age that counts for a temporary file: a clock may be in use."""
        is_clock = key.startswith(f"{CLOCK}.")
        return Age(self.now, max(self.grace, _CLOCK_GRACE)) if is_clock else self


@dataclasses.dataclass(frozen=True, slots=True)
class Stem:
    """The objects of one result: ``name`` is what their keys have in common."""

    name: str
    objects: tuple[VacuumAction, ...]
    newest: dt.datetime
    oldest: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """Every object that vacuum looks at, as it was listed."""

    versions: dict[int, ObjectInfo]
    segments: tuple[ObjectInfo, ...]
    builds: tuple[ObjectInfo, ...]
    stems: tuple[Stem, ...]
    temporary: tuple[tuple[str, ObjectInfo], ...]
    foreign: tuple[VacuumAction, ...]

    @property
    def newest(self) -> dt.datetime:
        """The last change that the storage knows of: a bound of its clock."""
        found = (*self.versions.values(), *self.segments, *self.builds)
        times = [info.modified for info in found] + [stem.newest for stem in self.stems]
        return max(times, default=dt.datetime.min.replace(tzinfo=dt.UTC))

    @property
    def oldest_version(self) -> dt.datetime:
        """When the first version was written that nobody has emptied since."""
        times = [info.modified for _, info in sorted(self.versions.items()) if info.size]
        return times[0] if times else self.newest


def take_listing(storage: Storage, executor: Executor, *, without: str | None = None) -> Listing:
    """List everything under a root that vacuum may judge: plain listings, side by side.

    ``without`` is the key of an object of vacuum's own.
    """
    groups = [f"{PREFIX}/{name}" for name in storage.list(PREFIX)]
    places = ["", CATALOG, SEGMENTS, lease.BUILDS, root_format.PROBES, PREFIX, *groups]
    found = dict(zip(places, executor.map(storage.list_objects, places), strict=True))
    temporary = [
        (_join(place, info.name), info)
        for place in places
        for info in found[place]
        if (is_temporary(info.name) or place == root_format.PROBES)
        and _join(place, info.name) != without
    ]
    segments = [info for info in found[SEGMENTS] if not is_temporary(info.name)]
    others = [info for info in segments if not _SEGMENT.fullmatch(info.name)]
    results = [info for info in found[""] if not is_temporary(info.name)]
    stems, unknown = _by_stem(results)
    return Listing(
        {number: info for group in groups for number, info in _versions(group, found[group])},
        tuple(info for info in segments if _SEGMENT.fullmatch(info.name)),
        tuple(info for info in found[lease.BUILDS] if not is_temporary(info.name)),
        tuple(stems),
        tuple(temporary),
        (*_foreign(SEGMENTS, others), *_foreign("", unknown)),
    )


def settle(storage: Storage) -> None:
    """Make durable what lies under a root, also what a process left that was killed over it."""
    groups = [f"{PREFIX}/{name}" for name in storage.list(PREFIX)]
    for place in ("", SEGMENTS, PREFIX, *groups):
        storage.settle(place)


def list_versions(storage: Storage) -> dict[int, ObjectInfo]:
    """Return every version's object by its number; an empty one was retired."""
    groups = [f"{PREFIX}/{name}" for name in storage.list(PREFIX)]
    return {
        n: info for group in groups for n, info in _versions(group, storage.list_objects(group))
    }


def loose_objects(listing: Listing) -> Iterator[tuple[str, VacuumAction, dt.datetime]]:
    """Yield the build states and temporary files, each with its table and its last change.

    The table is "" for what belongs to none.
    """
    for info in listing.builds:
        key, table = f"{lease.BUILDS}/{info.name}", info.name.removesuffix(".json")
        if lease.key_of(table) == key:
            reason = "the build that it belongs to has ended"
            yield table, VacuumAction(key, VacuumKind.BUILD_STATE, info.size, reason), info.modified
    for key, info in listing.temporary:
        reason = "a write was cut off"
        action = VacuumAction(key, VacuumKind.TEMPORARY_FILE, info.size, reason)
        yield table_of(key), action, info.modified


def is_temporary(name: str) -> bool:
    """Say whether an object has the name of a write that is on its way or was cut off."""
    return _TEMPORARY.fullmatch(name) is not None


def table_of(key: str) -> str:
    """Return whose build may be writing a temporary file: a table's name or the stem of its path.

    It is "" for the catalog's own.
    """
    match = _TEMPORARY.fullmatch(key)
    target = key if match is None else match[1]
    if target.startswith(f"{lease.BUILDS}/"):
        return target.rpartition("/")[2].removesuffix(".json")
    return "" if target.startswith(f"{CATALOG}/") else stem_of(target)


def stem_of(path: str) -> str:
    """Return what the names of all objects of one result begin with: its data's, without suffix."""
    name = path.rpartition("/")[2]
    for suffix in (*_SUFFIXES, naming.INDEX_SUFFIX):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def is_own(storage: Storage, stem: Stem) -> bool:
    """Say whether a result was made by this library: by its name, else by a readable sidecar."""
    if naming.is_generated(stem.name):
        return True
    keys = [each.key for each in stem.objects if each.kind is VacuumKind.SIDECAR]
    try:
        data = storage.peek(keys[0]) if keys else None
        return data is not None and bool(MaterializationManifest.from_json_bytes(data).artifact)
    except (FormatError, NoFileError):
        return False


def foreign(stem: Stem, reason: str) -> Iterator[VacuumAction]:
    """Word why the objects of a result are left alone."""
    for each in stem.objects:
        yield dataclasses.replace(each, kind=VacuumKind.FOREIGN, reason=reason)


_SUFFIXES = {
    naming.SIDECAR_SUFFIX: VacuumKind.SIDECAR,
    naming.SIGNATURE_SUFFIX: VacuumKind.SIGNATURE,
    naming.DATA_SUFFIX: VacuumKind.DATA,
    **dict.fromkeys(naming.INDEX_SIBLINGS, VacuumKind.INDEX),
}
_ORDER = (VacuumKind.INDEX, VacuumKind.DATA, VacuumKind.SIGNATURE, VacuumKind.SIDECAR)
"""The sidecar goes last: what a crash leaves of a result can still be told to be one."""


def _by_stem(found: Iterable[ObjectInfo]) -> tuple[list[Stem], list[ObjectInfo]]:
    grouped: dict[str, list[tuple[VacuumKind, ObjectInfo]]] = {}
    unknown = []
    for info in found:
        kind = next((_SUFFIXES[suffix] for suffix in _SUFFIXES if info.name.endswith(suffix)), None)
        if kind is None:
            unknown.append(info)
        else:
            grouped.setdefault(stem_of(info.name), []).append((kind, info))
    stems = []
    for name, objects in grouped.items():
        objects.sort(key=lambda each: _ORDER.index(each[0]))
        times = [info.modified for _, info in objects]
        actions = tuple(
            VacuumAction(info.name, kind, info.size, "no row of a kept version names it")
            for kind, info in objects
        )
        stems.append(Stem(name, actions, max(times), min(times)))
    return stems, unknown


def _versions(group: str, found: Iterable[ObjectInfo]) -> Iterator[tuple[int, ObjectInfo]]:
    for info in found:
        number = number_of(f"{group}/{info.name}")
        if number is not None:
            yield number, info._replace(size=without_mark_size(info.size))


def _foreign(place: str, found: Sequence[ObjectInfo]) -> Iterator[VacuumAction]:
    reason = "it has no name that this library gives"
    for info in found:
        yield VacuumAction(_join(place, info.name), VacuumKind.FOREIGN, info.size, reason)


def _join(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name
