"""Check a whole root: rows against sidecars, bytes, segments and versions; change nothing.

Every finding has a kind, says what it is about, and proposes what to do. `Severity.ERROR` means
that an answer of the catalog may be wrong or data is lost; `Severity.NOTICE` is what a crash may
leave: harmless, and named in FORMAT's table "Crash points".
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from enum import StrEnum
from itertools import pairwise

from jammi_files import garbage, lease, naming, parts
from jammi_files.artifacts import Artifacts, disagreement
from jammi_files.catalog import Catalog
from jammi_files.draft import SEGMENTS
from jammi_files.errors import FormatError, JammiFilesError, VersionNotFoundError
from jammi_files.log import PREFIX, key_of
from jammi_files.parts import Progress, Workers
from jammi_files.reads import CatalogSnapshot
from jammi_files.retention import Retention
from jammi_files.schema import ResultTableRecord, ResultTableStatus, find_damage
from jammi_files.segment import Segment
from jammi_files.signing import find_flaw, opened
from jammi_files.snapshot import Snapshot
from jammi_files.storage import TEMP_SUFFIX

_OBJECTS = (naming.DATA_SUFFIX, naming.SIDECAR_SUFFIX, naming.SIGNATURE_SUFFIX)
"""What the names of a result's objects end with, beside its index files."""


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    NOTICE = "notice"


class Remedy(StrEnum):
    """What ends a finding; `jammi_files.repair` applies the first two where nothing is lost."""

    REPAIR = "repair"
    RECOVER = "recover"
    VACUUM = "vacuum"
    RESTORE = "restore"
    UPGRADE = "upgrade"
    REPORT = "report"


class Kind(StrEnum):
    """What can be found; the value is stable, for `--json`."""

    DAMAGED_MANIFEST = "damaged_manifest"
    MISSING_VERSION = "missing_version"
    DAMAGED_SEGMENT = "damaged_segment"
    BROKEN_ORDER = "broken_order"
    DAMAGED_ROW = "damaged_row"
    DANGLING_PARENT = "dangling_parent"
    READY_WITHOUT_SIDECAR = "ready_without_sidecar"
    READY_WITHOUT_DATA = "ready_without_data"
    DAMAGED_SIDECAR = "damaged_sidecar"
    SIDECAR_DISAGREES = "sidecar_disagrees"
    SIGNATURE_DISAGREES = "signature_disagrees"
    DATA_DISAGREES = "data_disagrees"
    DAMAGED_BUILD_STATE = "damaged_build_state"
    DEAD_BUILD = "dead_build"
    ORPHAN_OBJECT = "orphan_object"
    ORPHAN_SEGMENT = "orphan_segment"
    ORPHAN_BUILD_STATE = "orphan_build_state"
    RETIRED_VERSION = "retired_version"
    TEMPORARY_FILE = "temporary_file"

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        return Severity.NOTICE if self in _NOTICES else Severity.ERROR


_NOTICES = frozenset(
    {
        Kind.DEAD_BUILD,
        Kind.ORPHAN_OBJECT,
        Kind.ORPHAN_SEGMENT,
        Kind.ORPHAN_BUILD_STATE,
        Kind.RETIRED_VERSION,
        Kind.TEMPORARY_FILE,
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; ``subject`` is a table's name or an object's key.

    ``repair`` says in words what ``remedy`` means here.
    """

    kind: Kind
    subject: str
    detail: str
    remedy: Remedy
    repair: str

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        return self.kind.severity


def fsck(
    catalog: Catalog,
    *,
    deep: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """Check everything that the handle's scope sees; admin also checks the catalog's own objects.

    ``deep`` digests every data object; otherwise existence and sidecars are checked. A live build
    is no finding. ``executor`` is any `concurrent.futures.Executor`, of a cluster too, threads by
    default: it checks the ready results, and `jammi_files.parts` says what is done again when it
    loses a worker. ``progress`` is called with the number of those checked and the total.

    Raises:
        InvalidInputError: ``executor`` is not an executor.
    """
    parts.require_executor(executor)
    storage = catalog.storage.uncached()
    is_cached = storage is not catalog.storage  # what is lost there may still be kept here
    catalog = Catalog(storage, scope=catalog.scope) if is_cached else catalog.current()
    findings: list[Finding] = []
    is_readable = True
    try:
        snapshot = catalog.snapshot()
        findings += _check_damage(snapshot)
        ready = snapshot.list_result_tables_by_status(ResultTableStatus.READY)
        check = functools.partial(check_ready, Artifacts(storage), deep)
        with Workers(executor) as workers:
            checked = parts.in_order(workers.run(check, ready, doubt=bool), len(ready), progress)
        of_ready = dict(zip((each.table_name for each in ready), checked, strict=True))
        findings += _check_rows(catalog, snapshot, of_ready)
    except FormatError as error:
        is_readable = False
        if not catalog.scope.admin:  # else its object is found below
            subject, repair = key_of(catalog.log.versions()[-1]), "run repair as admin"
            kind = Kind.DAMAGED_MANIFEST
            findings.append(Finding(kind, subject, str(error), Remedy.REPAIR, repair))
    if catalog.scope.admin:
        findings += _check_versions(catalog)
        findings += _check_objects(catalog) if is_readable else ()
    return findings


def _check_damage(snapshot: CatalogSnapshot) -> Iterator[Finding]:
    for record in snapshot.damaged():
        damage, repair = str(find_damage(record)), "upgrade the library, or delete the table"
        yield Finding(Kind.DAMAGED_ROW, record.table_name, damage, Remedy.UPGRADE, repair)


def _check_rows(
    catalog: Catalog, snapshot: CatalogSnapshot, of_ready: Mapping[str, list[Finding]]
) -> Iterator[Finding]:
    for status in ResultTableStatus:
        for record in snapshot.list_result_tables_by_status(status):
            parent = record.derived_from
            if parent is not None and snapshot.get_result_table(parent) is None:
                name, detail = record.table_name, f"derived_from '{parent}' is gone"
                repair = "delete or rebuild the table"
                yield Finding(Kind.DANGLING_PARENT, name, detail, Remedy.RESTORE, repair)
            if status is ResultTableStatus.BUILDING:
                yield from _check_building(catalog, record)
            elif status is ResultTableStatus.READY:
                yield from of_ready[record.table_name]


def _check_building(catalog: Catalog, record: ResultTableRecord) -> Iterator[Finding]:
    try:
        death = lease.find_build_death(catalog.storage, record)
    except FormatError as error:
        key, repair = lease.key_of(record.table_name), "run repair: it writes a new lease"
        yield Finding(Kind.DAMAGED_BUILD_STATE, key, str(error), Remedy.REPAIR, repair)
        return
    if death is not None:
        name, detail = record.table_name, f"building, but {death}"
        yield Finding(Kind.DEAD_BUILD, name, detail, Remedy.RECOVER, "run recover")


def check_ready(artifacts: Artifacts, deep: bool, record: ResultTableRecord) -> list[Finding]:  # noqa: FBT001 - handed to an executor
    """Check what a ready row promises, wherever this is called."""
    return [*_check_ready(artifacts, record, deep=deep)]


def _check_ready(
    artifacts: Artifacts, record: ResultTableRecord, *, deep: bool
) -> Iterator[Finding]:
    name, restore = record.table_name, "restore the object, or delete the table and rebuild it"
    if not artifacts.exists(record):
        where = artifacts.url(record.parquet_path)
        detail = f"no data at '{where}'"
        yield Finding(Kind.READY_WITHOUT_DATA, name, detail, Remedy.RESTORE, restore)
    try:
        sidecar = artifacts.read_sidecar(record)
    except JammiFilesError as error:
        yield Finding(Kind.DAMAGED_SIDECAR, name, str(error), Remedy.RESTORE, restore)
        return
    if sidecar is None:
        if record.definition_hash is not None:
            detail = "the row has a contract, but there is no sidecar"
            repair = "restore it, or run recover, which fails the row and keeps the data"
            yield Finding(Kind.READY_WITHOUT_SIDECAR, name, detail, Remedy.RESTORE, repair)
        return
    contradiction = disagreement(record, sidecar)
    if contradiction is not None:
        detail = f"row says {contradiction.expected}, sidecar {contradiction.found}"
        yield Finding(Kind.SIDECAR_DISAGREES, name, detail, Remedy.RESTORE, restore)
    signature = artifacts.read_signature(record)
    if signature is not None:
        try:
            flaw = find_flaw(name, sidecar, opened(signature)[0])
        except FormatError as error:
            flaw = str(error)
        if flaw is not None:
            detail = f"the signature beside the sidecar is none of it: {flaw}"
            yield Finding(Kind.SIGNATURE_DISAGREES, name, detail, Remedy.RESTORE, restore)
    if deep and artifacts.digest(record) not in (None, sidecar.artifact):
        detail = f"the data is not what the sidecar attests ({sidecar.artifact})"
        yield Finding(Kind.DATA_DISAGREES, name, detail, Remedy.RESTORE, restore)


def _check_versions(catalog: Catalog) -> Iterator[Finding]:
    versions = garbage.list_versions(catalog.storage)
    numbers = sorted(versions)
    for before, after in pairwise(numbers):
        for missing in range(before + 1, after):
            detail, repair = "a version number is missing between two others", "restore the object"
            yield Finding(Kind.MISSING_VERSION, key_of(missing), detail, Remedy.RESTORE, repair)
    keeps = _find_retention(catalog, numbers).keeps
    for number in numbers:
        if versions[number].size and not keeps(number):
            detail, repair = "vacuum was cut off before it was emptied", "run vacuum again"
            yield Finding(Kind.RETIRED_VERSION, key_of(number), detail, Remedy.VACUUM, repair)
    listed: dict[str, Segment] = {}
    for number in filter(keeps, numbers):
        yield from _check_version(catalog, number, versions[number].size, numbers[-1], listed)
    keys = set(listed)
    while listed:  # none stays in memory once it is checked
        _, segment = listed.popitem()
        yield from _check_segment(segment, is_needed=segment.listed_by == numbers[-1])
    for name in catalog.storage.list(SEGMENTS):
        key = f"{SEGMENTS}/{name}"
        if key not in keys and not name.endswith(TEMP_SUFFIX):
            detail = "no version lists it: a commit was cut off before its manifest"
            repair = "leave it to vacuum"
            yield Finding(Kind.ORPHAN_SEGMENT, key, detail, Remedy.VACUUM, repair)


def _check_version(
    catalog: Catalog, number: int, size: int, newest: int, listed: dict[str, Segment]
) -> Iterator[Finding]:
    """Check a version that is kept, and add its segments to ``listed``."""
    try:
        snapshot = catalog.log.at(number)
    except FormatError as error:
        yield _damaged_manifest(number, str(error), newest=number == newest)
    except VersionNotFoundError as error:
        if not size:
            kind, repair = Kind.MISSING_VERSION, "restore the object"
            yield Finding(kind, key_of(number), str(error), Remedy.RESTORE, repair)
    else:
        yield from _check_order(snapshot)
        listed |= {segment.info.key: segment for segment in snapshot.runs.segments}


def _find_retention(catalog: Catalog, numbers: Sequence[int]) -> Retention:
    """Return what the newest readable version says; the first that is not empty if none does."""
    for number in reversed(numbers):
        with contextlib.suppress(FormatError, VersionNotFoundError):
            return catalog.log.at(number).header.retention
    return Retention()


def _damaged_manifest(number: int, problem: str, *, newest: bool) -> Finding:
    key = key_of(number)
    if newest:
        repair = "restore the object, or fall back to what is readable with repair(accept_loss)"
        return Finding(Kind.DAMAGED_MANIFEST, key, problem, Remedy.REPAIR, repair)
    repair = "restore the object; later versions do not need it, and vacuum retires it"
    return Finding(Kind.DAMAGED_MANIFEST, key, problem, Remedy.VACUUM, repair)


def _check_order(snapshot: Snapshot) -> Iterator[Finding]:
    key = key_of(snapshot.version)
    for row in snapshot.inline.values():
        if not 0 < row.seq <= snapshot.version:
            detail = f"'{row.record.table_name}' has seq {row.seq}"
            repair = "report this as a bug"
            yield Finding(Kind.BROKEN_ORDER, key, detail, Remedy.REPORT, repair)


def _check_segment(segment: Segment, *, is_needed: bool) -> Iterator[Finding]:
    info = segment.info
    try:
        names = segment.table.column("table_name").to_pylist()
    except FormatError as error:
        remedy, repair = Remedy.VACUUM, "restore the object; the newest version does not need it"
        if is_needed:
            remedy = Remedy.REPAIR
            repair = "restore the object, or save what is readable with repair(accept_loss)"
        yield Finding(Kind.DAMAGED_SEGMENT, info.key, str(error), remedy, repair)
        return
    except VersionNotFoundError:
        return  # retired meanwhile
    sound = names == sorted(set(names)) and len(names) == info.rows
    if not sound or (names[0], names[-1]) != (info.min_name, info.max_name):
        detail = "its rows are not sorted, not unique or not as many as its manifest says"
        repair = "report this as a bug"
        yield Finding(Kind.BROKEN_ORDER, info.key, detail, Remedy.REPORT, repair)


def _check_objects(catalog: Catalog) -> Iterator[Finding]:
    """Name objects that no row accounts for."""
    rows = catalog.scan(columns=["table_name", "parquet_path", "status"]).to_pylist()
    building = {row["table_name"] for row in rows if row["status"] == ResultTableStatus.BUILDING}
    owned = {row["parquet_path"] for row in rows}
    for name in catalog.storage.list(""):
        suffix = next((each for each in _OBJECTS if name.endswith(each)), None)
        if suffix is not None and name.removesuffix(suffix) + naming.DATA_SUFFIX not in owned:
            detail = "no row names it: its row was deleted, or another program put it here"
            repair = "vacuum deletes it if this library made it"
            yield Finding(Kind.ORPHAN_OBJECT, name, detail, Remedy.VACUUM, repair)
    for key in _temporary_files(catalog):
        detail, repair = "a write was cut off, or is going on", "run recover and vacuum"
        yield Finding(Kind.TEMPORARY_FILE, key, detail, Remedy.VACUUM, repair)
    for table in lease.names_with_state(catalog.storage):
        if table not in building:
            key, detail = lease.key_of(table), "the build that it belongs to has ended"
            yield Finding(Kind.ORPHAN_BUILD_STATE, key, detail, Remedy.RECOVER, "run recover")


def _temporary_files(catalog: Catalog) -> Iterator[str]:
    places = ["", "_catalog", SEGMENTS, lease.BUILDS, PREFIX]
    places += [f"{PREFIX}/{group}" for group in catalog.storage.list(PREFIX)]
    for place in places:
        for name in catalog.storage.list(place):
            if name.endswith(TEMP_SUFFIX):
                yield f"{place}/{name}" if place else name
