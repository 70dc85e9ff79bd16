"""Mend a root: what loses nothing at once, what loses something only if the caller says so.

A catalog that is gone is made anew from sidecars and Parquet files. One that is damaged falls back
to what can be read, in a version of its own that says so, never silently (FORMAT section "Repair").
"""

from __future__ import annotations

import dataclasses
import functools
import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from enum import StrEnum
from typing import Any, Literal

from jammi_files import garbage, lease, naming, parts, recovery, reformat, root_format
from jammi_files.artifacts import Artifacts
from jammi_files.catalog import Catalog
from jammi_files.draft import CatalogCodec, Draft
from jammi_files.errors import (
    ConflictError,
    InvalidInputError,
    StateError,
    StorageError,
)
from jammi_files.fsck import Finding, Kind, Severity, fsck
from jammi_files.log import key_of
from jammi_files.parts import Progress, Workers
from jammi_files.rebuild import Rebuilt, rebuild
from jammi_files.reformat import LostFormat
from jammi_files.roots import open_storage
from jammi_files.salvage import Salvage, salvage
from jammi_files.schema import ResultTableRecord, ResultTableStatus
from jammi_files.scope import TenantId
from jammi_files.storage import Storage
from jammi_files.timestamps import CLOCK, format_timestamp

OPERATION = "repair"
GLOBAL: Literal["global"] = "global"
"""The owner of results that belong to no tenant."""

_ATTESTED = (
    "status",
    "row_count",
    "definition_hash",
    "input_anchors",
    "artifact_digest",
    "descriptor_digest",
)
"""What a row says of a result that is ready, as data and sidecar have it."""


class RepairStep(StrEnum):
    """What repair does with one table or object."""

    FORMAT = "format"
    FALL_BACK = "fall_back"
    ADOPT = "adopt"
    QUARANTINE = "quarantine"
    RECOVER = "recover"
    RENEW = "renew"
    DELETE = "delete"
    LEAVE = "leave"


@dataclasses.dataclass(frozen=True, slots=True)
class RepairAction:
    """One decision: ``subject`` (a table's name or an object's key), what is done, and why.

    `FORMAT` writes ``format.json`` anew. `FALL_BACK` makes a version of what can be read; ``loses``
    says what that gives up for good. `ADOPT` makes a row ready, `QUARANTINE` makes it failed and
    keeps its data. `RENEW` replaces a damaged side object, so that the build has `LEASE_SECONDS` to
    show that it lives. `RECOVER` ends a dead build or sweeps what it left. `LEAVE` changes nothing.
    `DELETE` is not given any more: a live build lost its lease by it.
    """

    step: RepairStep
    subject: str
    reason: str
    loses: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RepairReport:
    """What `repair` did, or with ``dry_run`` would do, in order; ``remaining`` is what is left.

    ``version`` is the version that it made for rows it rebuilt or fell back to, None if it made
    none. ``remaining`` are the findings of a fsck after the repair, empty for a plan.
    """

    actions: tuple[RepairAction, ...]
    remaining: tuple[Finding, ...]
    version: int | None
    dry_run: bool

    @property
    def ok(self) -> bool:
        """True if no error remains."""
        return not any(finding.severity is Severity.ERROR for finding in self.remaining)


@dataclasses.dataclass(slots=True)
class _Rebuilding:
    """The rows that are to be made anew, and the results that get none."""

    records: list[ResultTableRecord]
    actions: list[RepairAction]
    unowned: list[str]


def repair(  # noqa: PLR0913 - one keyword per choice
    root: str | os.PathLike[str] | Storage,
    *,
    dry_run: bool = True,
    owner: str | uuid.UUID | None = None,
    accept_loss: bool = False,
    catalog_id: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> RepairReport:
    """Mend a root, or with ``dry_run`` say how.

    Without ``accept_loss`` only what loses nothing is done: a damaged ``format.json`` is written
    anew, a catalog that is gone is rebuilt from the results themselves, dead builds are ended and
    their left-overs swept. With it, a newest version that cannot be read in full is followed by one
    that holds what can: from older versions, and from results that none of them knows.

    Copies know their source by the id in ``format.json``. Where that is lost, ``catalog_id`` must
    say it (the ``format.json`` of a copy has it), or its loss be accepted.

    A rebuilt row says what footer, sidecar and name of its result say; data that its sidecar does
    not attest gets a failed row, and keeps its bytes. Whose a result is stands in its footer; where
    it does not (imported files, other writers), ``owner`` must say it: a tenant, or ``"global"``.
    It is never guessed, as a wrong guess would show a tenant's results to others.

    Every result is digested once, by ``executor`` (any, as `jammi_files.parts` says), threads by
    default; ``progress`` is called with the number of results read and the total.

    Raises:
        InvalidInputError: results without a known owner, and no ``owner``: nothing was written. Or
            a directory of jammi-db: import it. Or ``executor`` or ``catalog_id`` is none.
        StateError: something would be lost, and ``accept_loss`` is False: nothing was written. Or
            the root is an unfinished copy.
        UnsupportedVersionError: a newer library wrote the catalog.
        FormatError: the root is the catalog of another program.
        StorageError: there is neither a catalog nor a result to make one from.
        ConflictError: another process committed meanwhile: look again.
    """
    parts.require_executor(executor)
    storage = root if isinstance(root, Storage) else _open(root, storage_options)
    whose = None if owner is None else GLOBAL if owner == GLOBAL else TenantId(owner)
    lost, found = reformat.find_loss(storage, catalog_id), salvage(storage)
    actions, rebuilding = [*_reformat(lost, found)], _Rebuilding([], [], [])
    if not found.is_whole or not found.newest:
        with Workers(executor) as workers:
            rebuilding = _rebuild(storage, found, whose, workers, progress)
        if not (found.newest or rebuilding.actions) and storage.size(root_format.KEY) is None:
            raise StorageError(f"no catalog at '{storage.root}', and no results to make one from")
        actions += [*_fall_back(found), *rebuilding.actions]
    if actions and dry_run:
        return RepairReport(tuple(actions), (), None, dry_run)
    version = None
    if actions:
        _require_consent(actions, rebuilding.unowned, accept_loss=accept_loss)
        reformat.write(storage, lost)
        version = _commit(storage, found, rebuilding.records)
    catalog = Catalog(storage).as_admin()
    actions += _mend(catalog, dry_run=dry_run)
    return RepairReport(tuple(actions), () if dry_run else tuple(fsck(catalog)), version, dry_run)


def _open(root: str | os.PathLike[str], options: Mapping[str, Any] | None) -> Storage:
    return open_storage(root, storage_options=options)


def _reformat(lost: LostFormat | None, found: Salvage) -> Iterator[RepairAction]:
    if lost is None:
        return
    reason, loses = lost.reason, None
    if lost.catalog_id is None and found.newest:
        reason += "; nothing says the catalog's id: give catalog_id, if a copy's format.json has it"
        loses = "the catalog's id: its copies cannot be brought forward any more, only made anew"
    yield RepairAction(RepairStep.FORMAT, root_format.KEY, reason, loses)


def _fall_back(found: Salvage) -> Iterator[RepairAction]:
    if found.is_whole:
        return
    where = f"version {found.base}" if found.base else "single rows: no version is whole"
    loses = "; ".join([*(f"what only {key} held" for key, _ in found.lost), *found.unkept])
    for number, (key, problem) in enumerate(found.lost):
        reason = f"{problem}; what can be read goes back to {where}"
        yield RepairAction(RepairStep.FALL_BACK, key, reason, None if number else loses)


def _rebuild(
    storage: Storage,
    found: Salvage,
    owner: str | None,
    workers: Workers,
    progress: Progress | None,
) -> _Rebuilding:
    known, building = found.stems, found.building()
    listing = garbage.take_listing(storage, workers.threads)
    stems = [each for each in listing.stems if each.name not in known or each.name in building]
    result = _Rebuilding([], [], [])
    answers = workers.run(functools.partial(rebuild, storage), stems, doubt=_is_unsound)
    found_of_all = parts.in_order(answers, len(stems), progress)
    for stem, rebuilt in zip(stems, found_of_all, strict=True):
        if stem.name in building:
            _finish(building[stem.name], rebuilt, result)
        elif isinstance(rebuilt, Rebuilt):
            _adopt(rebuilt, owner, result)
        elif garbage.is_own(storage, stem):
            result.actions.append(RepairAction(RepairStep.LEAVE, stem.name, rebuilt))
    names = {record.table_name for record in result.records} | known
    result.records = [_with_parent(record, names) for record in result.records]
    _fail_vanished(storage, found, listing, result)
    return result


def _adopt(rebuilt: Rebuilt, owner: str | None, result: _Rebuilding) -> None:
    """Give a result that no row names a row of its own."""
    record = rebuilt.record
    if not rebuilt.is_owned:
        if owner is None:
            result.unowned.append(record.table_name)
        record = dataclasses.replace(record, tenant_id=None if owner == GLOBAL else owner)
    result.records.append(record)
    result.actions.append(_adoption(rebuilt, owner))


def _finish(record: ResultTableRecord, rebuilt: Rebuilt | str, result: _Rebuilding) -> None:
    """Make a row ready that a lost version may have made so: its sidecar attests the data."""
    if isinstance(rebuilt, str) or rebuilt.problem is not None:
        return  # recovery judges it, as it does every build
    said = {name: getattr(rebuilt.record, name) for name in _ATTESTED}
    completed = max(str(rebuilt.record.completed_at), record.created_at)
    ready = dataclasses.replace(record, **said, completed_at=completed, lease=None)
    result.records.append(ready)
    reason = "its sidecar attests the data, and a lost version may have made it ready"
    result.actions.append(RepairAction(RepairStep.ADOPT, record.table_name, reason))


def _fail_vanished(
    storage: Storage, found: Salvage, listing: garbage.Listing, result: _Rebuilding
) -> None:
    """Fail the ready rows that a lost version may have deleted: nothing is left of them."""
    there = {each.key for stem in listing.stems for each in stem.objects}
    artifacts = Artifacts(storage)
    reason = "neither its data nor its sidecar is left: it was deleted, or lost"
    for record in found.attested():
        sidecar = naming.sibling(record.parquet_path, naming.SIDECAR_SUFFIX)
        paths = {record.parquet_path, sidecar}
        if paths & there or any(_is_there(artifacts, path) for path in paths):
            continue
        failed = dataclasses.replace(
            record,
            status=ResultTableStatus.FAILED,
            row_count=0,
            completed_at=format_timestamp(CLOCK.now()),
            properties={**(record.properties or {}), "error": f"{OPERATION}: {reason}"},
        )
        result.records.append(failed)
        result.actions.append(RepairAction(RepairStep.QUARANTINE, record.table_name, reason))


def _is_there(artifacts: Artifacts, path: str) -> bool:
    storage, key = artifacts.locate(path)
    return storage.size(key) is not None


def _with_parent(record: ResultTableRecord, names: Collection[str]) -> ResultTableRecord:
    """Cut the link to a parent of which nothing is left; the anchors still name it."""
    is_there = record.derived_from is None or record.derived_from in names
    return record if is_there else dataclasses.replace(record, derived_from=None)


def _is_unsound(rebuilt: Rebuilt | str) -> bool:
    return isinstance(rebuilt, str) or rebuilt.problem is not None


def _adoption(rebuilt: Rebuilt, owner: str | None) -> RepairAction:
    name = rebuilt.record.table_name
    notes = [f"{' and '.join(rebuilt.guessed)} from the name"] if rebuilt.guessed else []
    if not rebuilt.is_owned:
        notes.append("nothing says whose it is" if owner is None else f"given to {owner}")
    if rebuilt.problem is None:
        reason = "; ".join(["its sidecar attests the data", *notes])
        return RepairAction(RepairStep.ADOPT, name, reason)
    return RepairAction(RepairStep.QUARANTINE, name, "; ".join([rebuilt.problem, *notes]))


def _require_consent(
    actions: Sequence[RepairAction], unowned: Sequence[str], *, accept_loss: bool
) -> None:
    """Raise if something would be given up, or given to nobody."""
    for action in actions:
        if action.loses is not None and not accept_loss:
            msg = (
                f"{action.reason}; restore '{action.subject}' from a backup, or give up what only"
                " it held with accept_loss (a plan with dry_run names all of it); nothing was"
                " changed"
            )
            raise StateError(msg)
    if unowned:
        msg = (
            f"nothing says whose {len(unowned)} results are (the first is '{unowned[0]}'): give "
            "owner, a tenant or 'global'; nothing was changed"
        )
        raise InvalidInputError(msg)


def _commit(storage: Storage, found: Salvage, records: Sequence[ResultTableRecord]) -> int | None:
    """Make the version after the newest one, readable or not, of what was found and made anew."""
    if found.is_whole and not records:
        return None
    garbage.settle(storage)
    codec = CatalogCodec(storage)
    draft = Draft(found.state())
    for record in records:
        draft.put(record, OPERATION)
    kept = draft.retention
    draft.retain(kept.vacuumed_by(draft.version, kept.floor), OPERATION)  # merges begin anew
    encoded = codec.encode(draft)
    assert encoded is not None  # noqa: S101 - the retention has changed
    data, state = encoded
    try:
        storage.create(key_of(state.version), data)
    except FileExistsError:
        msg = f"another process made version {state.version} meanwhile; look again"
        raise ConflictError(msg) from None
    return state.version


def _mend(catalog: Catalog, *, dry_run: bool) -> Iterator[RepairAction]:
    """Renew leases that cannot be read and end dead builds: nothing is lost by it."""
    renewed = set()
    for finding in fsck(catalog):
        if finding.kind is Kind.DAMAGED_BUILD_STATE:
            name = lease.name_of(finding.subject)
            record = catalog.get_result_table(name)
            if record is not None and (dry_run or lease.mend_state(catalog.storage, record)):
                renewed.add(name)
                yield RepairAction(RepairStep.RENEW, finding.subject, finding.detail)
    report = recovery.recover(catalog, dry_run=dry_run, reap=False, builds_only=True)
    for action in report.actions:
        skipped = action.action is recovery.RecoveryStep.SKIP
        if skipped and action.table_name in renewed:
            continue  # a plan still finds it damaged
        step = RepairStep.LEAVE if skipped else RepairStep.RECOVER
        yield RepairAction(step, action.table_name, f"{action.action}: {action.reason}")
