"""Check a whole root: rows against sidecars, bytes, segments and versions; change nothing.

Every finding has a kind, says what it is about, and proposes what to do. `Severity.ERROR` means
that an answer of the catalog may be wrong or data is lost; `Severity.NOTICE` is what a crash may
leave: harmless, and named in FORMAT's table "Crash points".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise

from jammi_files import lease, naming
from jammi_files.artifacts import Artifacts, disagreement
from jammi_files.catalog import Catalog
from jammi_files.draft import SEGMENTS
from jammi_files.errors import FormatError, JammiFilesError, VersionNotFoundError
from jammi_files.log import PREFIX, key_of
from jammi_files.reads import CatalogSnapshot
from jammi_files.schema import ResultTableRecord, ResultTableStatus, find_damage
from jammi_files.segment import Segment
from jammi_files.snapshot import Snapshot
from jammi_files.storage import TEMP_SUFFIX


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    NOTICE = "notice"


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
    DATA_DISAGREES = "data_disagrees"
    DAMAGED_BUILD_STATE = "damaged_build_state"
    DEAD_BUILD = "dead_build"
    ORPHAN_OBJECT = "orphan_object"
    ORPHAN_SEGMENT = "orphan_segment"
    ORPHAN_BUILD_STATE = "orphan_build_state"
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
        Kind.TEMPORARY_FILE,
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; ``subject`` is a table's name or an object's key."""

    kind: Kind
    subject: str
    detail: str
    repair: str

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        return self.kind.severity


def fsck(catalog: Catalog, *, deep: bool = False) -> list[Finding]:
    """Check everything that the handle's scope sees; admin also checks the catalog's own objects.

    ``deep`` digests every data object; otherwise existence and sidecars are checked. A live build
    is no finding.
    """
    findings: list[Finding] = []
    try:
        snapshot = catalog.snapshot()
        findings += _check_rows(catalog, snapshot, deep=deep)
    except FormatError as error:
        findings.append(
            Finding(
                Kind.DAMAGED_MANIFEST,
                key_of(catalog.log.versions()[-1]),
                str(error),
                "read an earlier version with snapshot(version=...)",
            )
        )
    if catalog.scope.admin:
        findings += _check_versions(catalog)
        findings += _check_objects(catalog)
    return findings


def _check_rows(catalog: Catalog, snapshot: CatalogSnapshot, *, deep: bool) -> Iterator[Finding]:
    artifacts = Artifacts(catalog.storage)
    for record in snapshot.damaged():
        repair = "upgrade the library, or delete the table"
        yield Finding(Kind.DAMAGED_ROW, record.table_name, str(find_damage(record)), repair)
    for status in ResultTableStatus:
        for record in snapshot.list_result_tables_by_status(status):
            parent = record.derived_from
            if parent is not None and catalog.as_admin().get_result_table(parent) is None:
                detail, repair = f"derived_from '{parent}' is gone", "delete or rebuild the table"
                yield Finding(Kind.DANGLING_PARENT, record.table_name, detail, repair)
            if status is ResultTableStatus.BUILDING:
                yield from _check_building(catalog, record)
            elif status is ResultTableStatus.READY:
                yield from _check_ready(artifacts, record, deep=deep)


def _check_building(catalog: Catalog, record: ResultTableRecord) -> Iterator[Finding]:
    try:
        death = lease.find_build_death(catalog.storage, record)
    except FormatError as error:
        key = lease.key_of(record.table_name)
        yield Finding(Kind.DAMAGED_BUILD_STATE, key, str(error), "delete the object")
        return
    if death is not None:
        yield Finding(Kind.DEAD_BUILD, record.table_name, f"building, but {death}", "run recover")


def _check_ready(
    artifacts: Artifacts, record: ResultTableRecord, *, deep: bool
) -> Iterator[Finding]:
    name, restore = record.table_name, "restore the object, or delete the table and rebuild it"
    if not artifacts.exists(record):
        where = artifacts.url(record.parquet_path)
        yield Finding(Kind.READY_WITHOUT_DATA, name, f"no data at '{where}'", restore)
    try:
        sidecar = artifacts.read_sidecar(record)
    except JammiFilesError as error:
        yield Finding(Kind.DAMAGED_SIDECAR, name, str(error), restore)
        return
    if sidecar is None:
        if record.definition_hash is not None:
            detail = "the row has a contract, but there is no sidecar"
            yield Finding(Kind.READY_WITHOUT_SIDECAR, name, detail, "run recover")
        return
    contradiction = disagreement(record, sidecar)
    if contradiction is not None:
        detail = f"row says {contradiction.expected}, sidecar {contradiction.found}"
        yield Finding(Kind.SIDECAR_DISAGREES, name, detail, restore)
    if deep and artifacts.digest(record) not in (None, sidecar.artifact):
        detail = f"the data is not what the sidecar attests ({sidecar.artifact})"
        yield Finding(Kind.DATA_DISAGREES, name, detail, restore)


def _check_versions(catalog: Catalog) -> Iterator[Finding]:
    versions = catalog.log.versions()
    for before, after in pairwise(versions):
        for missing in range(before + 1, after):
            detail = "a version number is missing between two others"
            yield Finding(Kind.MISSING_VERSION, key_of(missing), detail, "restore the object")
    checked: set[str] = set()
    for version in versions:
        try:
            snapshot = catalog.log.at(version)
        except VersionNotFoundError:
            continue  # retired
        except FormatError as error:
            detail, repair = str(error), "restore the object; later versions do not need it"
            yield Finding(Kind.DAMAGED_MANIFEST, key_of(version), detail, repair)
            continue
        yield from _check_order(snapshot)
        for segment in snapshot.runs.segments:
            if segment.info.key not in checked:
                checked.add(segment.info.key)
                yield from _check_segment(segment)
    for name in catalog.storage.list(SEGMENTS):
        key = f"{SEGMENTS}/{name}"
        if key not in checked and not name.endswith(TEMP_SUFFIX):
            detail = "no version lists it: a commit was cut off before its manifest"
            yield Finding(Kind.ORPHAN_SEGMENT, key, detail, "leave it to vacuum")


def _check_order(snapshot: Snapshot) -> Iterator[Finding]:
    key = key_of(snapshot.version)
    for row in snapshot.inline.values():
        if not 0 < row.seq <= snapshot.version:
            detail = f"'{row.record.table_name}' has seq {row.seq}"
            yield Finding(Kind.BROKEN_ORDER, key, detail, "report this as a bug")


def _check_segment(segment: Segment) -> Iterator[Finding]:
    info = segment.info
    try:
        names = segment.table.column("table_name").to_pylist()
    except FormatError as error:
        detail, repair = str(error), "restore the object; its rows are lost otherwise"
        yield Finding(Kind.DAMAGED_SEGMENT, info.key, detail, repair)
        return
    sound = names == sorted(set(names)) and len(names) == info.rows
    if not sound or (names[0], names[-1]) != (info.min_name, info.max_name):
        detail = "its rows are not sorted, not unique or not as many as its manifest says"
        yield Finding(Kind.BROKEN_ORDER, info.key, detail, "report this as a bug")


def _check_objects(catalog: Catalog) -> Iterator[Finding]:
    """Name objects that no row accounts for."""
    rows = catalog.scan(columns=["table_name", "parquet_path", "status"]).to_pylist()
    building = {row["table_name"] for row in rows if row["status"] == ResultTableStatus.BUILDING}
    owned = {row["parquet_path"] for row in rows}
    for name in catalog.storage.list(""):
        data = name.removesuffix(naming.SIDECAR_SUFFIX) + naming.DATA_SUFFIX
        expected = name if name.endswith(naming.DATA_SUFFIX) else data
        is_ours = name.endswith((naming.DATA_SUFFIX, naming.SIDECAR_SUFFIX))
        if is_ours and expected not in owned:
            detail = "no row names it: its row was deleted, or another program put it here"
            yield Finding(Kind.ORPHAN_OBJECT, name, detail, "delete it if nothing else uses it")
    for key in _temporary_files(catalog):
        detail = "a write was cut off, or is going on"
        yield Finding(Kind.TEMPORARY_FILE, key, detail, "run recover; vacuum removes the rest")
    for table in lease.names_with_state(catalog.storage):
        if table not in building:
            detail = "the build that it belongs to has ended"
            yield Finding(Kind.ORPHAN_BUILD_STATE, lease.key_of(table), detail, "run recover")


def _temporary_files(catalog: Catalog) -> Iterator[str]:
    places = ["", "_catalog", SEGMENTS, lease.BUILDS, PREFIX]
    places += [f"{PREFIX}/{group}" for group in catalog.storage.list(PREFIX)]
    for place in places:
        for name in catalog.storage.list(place):
            if name.endswith(TEMP_SUFFIX):
                yield f"{place}/{name}" if place else name
