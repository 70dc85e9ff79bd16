"""What a copy of one version consists of, and what of it a target has already."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import pyarrow as pa

from jammi_files import garbage, manifest, naming
from jammi_files.copy_objects import ObjectJob, Pair, Part, ResultJob
from jammi_files.copy_versions import RETIRED, Standing, VersionJob
from jammi_files.draft import Draft
from jammi_files.errors import FormatError
from jammi_files.header import Header
from jammi_files.log import PREFIX, Log, key_of, number_of
from jammi_files.reads import admit_table
from jammi_files.retention import Retention
from jammi_files.retired import without_mark_size
from jammi_files.schema import ResultTableStatus
from jammi_files.scope import Scope
from jammi_files.snapshot import Snapshot
from jammi_files.storage import Storage

_COLUMNS = (
    "table_name",
    "status",
    "parquet_path",
    "index_path",
    "definition_hash",
    "created_at",
    "artifact_digest",
    "seq",
)
_ROWS = 65_536
_AT_ONCE = 256
"""Manifests that are in memory at one time, some 20 kB each."""

Stamps = Mapping[str, int]
"""By key, when the thing that lies there was made: the same stamp is the same thing."""


class Listing:
    """The sizes of objects, listed directory by directory when they are first asked for."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._places: dict[str, dict[str, int]] = {}

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, None if it was not there."""
        place, _, name = key.rpartition("/")
        return self.of(place).get(name)

    def of(self, place: str) -> dict[str, int]:
        """Return the sizes of all objects directly under ``place``, by name."""
        if place not in self._places:
            found = self._storage.list_objects(place)
            self._places[place] = {info.name: info.size for info in found}
        return self._places[place]


@dataclasses.dataclass(slots=True)
class Plan:
    """What is to be done. ``newest`` is the manifest of ``version``, b"" for the empty catalog.

    ``troubles`` are the things that the source lacks, although the version names them: by key, with
    their stamp and what is wrong. ``stamps`` are those of all that jobs deal with. ``present`` are
    the sizes of objects that need no job, ``outdated`` the versions that the target should retire.
    """

    version: int
    commit_id: str
    newest: bytes
    retention: Retention
    stamps: dict[str, int] = dataclasses.field(default_factory=dict)
    results: list[ResultJob] = dataclasses.field(default_factory=list)
    objects: list[ObjectJob] = dataclasses.field(default_factory=list)
    versions: list[VersionJob] = dataclasses.field(default_factory=list)
    between: list[Header] = dataclasses.field(default_factory=list)
    between_bytes: int = 0
    troubles: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    building: list[str] = dataclasses.field(default_factory=list)
    elsewhere: list[str] = dataclasses.field(default_factory=list)
    outdated: list[int] = dataclasses.field(default_factory=list)
    present: list[int] = dataclasses.field(default_factory=list)

    @property
    def parts(self) -> Iterator[int]:
        """The sizes of all objects that jobs deal with."""
        for job in self.results:
            yield from (part.size for part in job.parts)
            if job.sidecar is not None:
                yield job.sidecar.size
        yield from (job.part.size for job in self.objects)
        yield from (job.size for job in self.versions)


@dataclasses.dataclass(frozen=True, slots=True)
class Planner:
    """Plans the copy of the newest version of ``log``.

    ``foreign`` asks for objects that no row names, too. ``settled`` and ``done`` are what earlier
    plans of the same copy have met and done, by key.
    """

    pair: Pair
    log: Log[Snapshot, Draft]
    standing: Standing
    threads: Executor
    foreign: bool
    settled: Stamps
    done: Stamps

    def plan(self) -> Plan:
        """Look at the source and the target.

        Raises:
            VersionNotFoundError: the version was retired while it was looked at.
            FormatError: the newest version of the source is damaged.
        """
        state = self.log.head()
        newest = self.log.read(state.version) if state.version else b""
        plan = Plan(state.version, state.commit_id, newest, state.header.retention)
        here, there = Listing(self.pair.source), Listing(self.pair.target)
        named = set(self._add_results(plan, state, here, there))
        if self.foreign:
            self._add_foreign(plan, named, here, there)
        self._add_versions(plan, state, here, there)
        return plan

    def _add_results(
        self, plan: Plan, state: Snapshot, here: Listing, there: Listing
    ) -> Iterator[str]:
        """Yield the keys that rows name, whether they are copied or not."""
        for row in _rows(state):
            if _is_elsewhere(row["parquet_path"]):
                plan.elsewhere.append(row["table_name"])
                continue
            keys = _keys_of(row)
            if self.foreign:
                yield from keys
            if row["status"] == ResultTableStatus.BUILDING:
                plan.building.append(row["table_name"])
                continue
            data, stamp = row["parquet_path"], row["created_at"]
            job = self._result_job(row, keys, here, there)
            lacking = _lacking(row, job)
            if lacking:
                plan.troubles[data] = stamp, lacking
            parts = [*job.parts, *([] if job.sidecar is None else [job.sidecar])]
            if data in plan.stamps:
                continue  # two rows name the same object
            if self.done.get(data) == stamp:
                continue
            if row["seq"] <= self.standing.known and {*parts} <= {*job.there}:
                plan.present += [part.size for part in parts]
            elif parts:
                plan.stamps[data] = stamp
                plan.results.append(job)

    def _result_job(
        self, row: dict[str, Any], keys: Sequence[str], here: Listing, there: Listing
    ) -> ResultJob:
        data = row["parquet_path"]
        sidecar = naming.sibling(data, naming.SIDECAR_SUFFIX)
        parts = {part.key: part for part in _present(keys, here)}
        return ResultJob(
            pair=self.pair,
            data=data,
            parts=tuple(part for key, part in parts.items() if key != sidecar),
            sidecar=parts.get(sidecar),
            there=tuple(_present(keys, there)),
            digest=row["artifact_digest"],
            is_ready=row["status"] == ResultTableStatus.READY,
            is_settled=self.settled.get(data) == row["created_at"],
        )

    def _add_foreign(
        self, plan: Plan, named: Collection[str], here: Listing, there: Listing
    ) -> None:
        for key, size in _walk(self.pair.source, here, ""):
            if key not in named and not garbage.is_temporary(key.rpartition("/")[2]):
                self._add_object(plan, Part(key, size), there, is_segment=False)

    def _add_object(self, plan: Plan, part: Part, there: Listing, *, is_segment: bool) -> None:
        plan.stamps[part.key] = 0
        if part.key not in self.done:
            job = ObjectJob(
                self.pair, part, there.size(part.key), is_segment, part.key in self.settled
            )
            plan.objects.append(job)

    def _add_versions(self, plan: Plan, state: Snapshot, here: Listing, there: Listing) -> None:
        """Add the versions that the target lacks, and the segments that they list."""
        retention = plan.retention
        ours = _versions(self.pair.source, here)
        theirs = _versions(self.pair.target, there)
        since = self.standing.version
        kept = [retention.floor, *retention.tags.values(), *theirs]
        first = max(1, min(kept)) if since is None else since + 1  # without a gap
        sizes = {n: ours.get(n, 0) for n in range(first, plan.version) if retention.keeps(n)}
        segments: dict[str, None] = {}
        for number, header in self._headers(plan, range(first, plan.version), sizes):
            if header is not None:
                segments |= dict.fromkeys(info.key for info in header.segments)
            if since is None:
                self._add_version(plan, number, sizes.get(number, 0), theirs.get(number))
            else:
                told = header or Header(number, "", "", 0, "")
                plan.between.append(dataclasses.replace(told, segments=()))
                plan.between_bytes += sizes.get(number, 0)
        segments |= dict.fromkeys(info.key for info in state.header.segments)
        self._add_segments(plan, segments, here, there)
        plan.outdated = [
            n for n, size in theirs.items() if size and n < first and not retention.keeps(n)
        ]

    def _add_version(self, plan: Plan, number: int, size: int, there: int | None) -> None:
        key = key_of(number)
        plan.stamps[key] = 0
        if key not in self.done or there != size:
            job = VersionJob(self.pair, number, size, there, key in self.settled)
            plan.versions.append(job)

    def _headers(
        self, plan: Plan, numbers: range, sizes: Mapping[int, int]
    ) -> Iterator[tuple[int, Header | None]]:
        """Yield the header of each version, None for one that is retired or cannot be read."""

        def peek(number: int) -> bytes | None:
            return self.pair.source.peek(key_of(number)) if sizes.get(number) else None

        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            for number, data in zip(some, self.threads.map(peek, some), strict=True):
                key, header = key_of(number), None
                try:
                    header = manifest.decode_header(key, data) if data else None
                except FormatError as error:
                    plan.troubles[key] = 0, str(error)
                if number in sizes and not data:
                    plan.troubles[key] = 0, RETIRED
                yield number, header

    def _add_segments(
        self, plan: Plan, keys: Collection[str], here: Listing, there: Listing
    ) -> None:
        for key in keys:
            size = here.size(key)
            if size is None:
                plan.troubles[key] = 0, "it is gone"
            elif key in self.standing.segments - self.done.keys() and there.size(key) == size:
                plan.present.append(size)
            else:
                self._add_object(plan, Part(key, size), there, is_segment=True)


def _rows(state: Snapshot) -> Iterator[dict[str, Any]]:
    everything = Scope(None, admin=True)
    table = admit_table(state.tables(), everything, _COLUMNS)
    at = table.schema.get_field_index("created_at")
    table = table.set_column(at, "created_at", table.column(at).cast(pa.int64()))
    for batch in table.to_batches(_ROWS):
        yield from batch.to_pylist()


def _keys_of(row: dict[str, Any]) -> list[str]:
    """Return where the objects of a result may lie, the data object first."""
    data, index = row["parquet_path"], row["index_path"]
    suffixes = (*naming.INDEX_SIBLINGS, naming.SIGNATURE_SUFFIX, naming.SIDECAR_SUFFIX)
    keys = [data, *(naming.sibling(data, suffix) for suffix in suffixes)]
    return keys if index is None or _is_elsewhere(index) else [*keys, index]


def _is_elsewhere(path: str) -> bool:
    return path.startswith("/") or "://" in path


def _present(keys: Sequence[str], listing: Listing) -> Iterator[Part]:
    for key in keys:
        size = listing.size(key)
        if size is not None:
            yield Part(key, size)


def _lacking(row: dict[str, Any], job: ResultJob) -> str | None:
    """Say what a ready result lacks at the source."""
    if row["status"] != ResultTableStatus.READY:
        return None
    if job.data not in {part.key for part in job.parts}:
        return "it is ready, and its data is gone"
    if row["definition_hash"] is not None and job.sidecar is None:
        return "it is ready, and its sidecar is gone"
    return None


def _versions(storage: Storage, listing: Listing) -> dict[int, int]:
    """Return the size of every version's manifest, 0 if it is retired."""
    groups = [f"{PREFIX}/{name}" for name in storage.list(PREFIX)]
    found = {}
    for group in groups:
        for name, size in listing.of(group).items():
            number = number_of(f"{group}/{name}")
            if number is not None:
                found[number] = without_mark_size(size)
    return found


def _walk(storage: Storage, listing: Listing, place: str) -> Iterator[tuple[str, int]]:
    """Yield every object that is not the catalog's own."""
    prefix = f"{place}/" if place else ""
    files = listing.of(place)
    yield from ((f"{prefix}{name}", size) for name, size in files.items())
    for name in storage.list(place):
        if name not in files and f"{prefix}{name}" != garbage.CATALOG:
            yield from _walk(storage, listing, f"{prefix}{name}")
