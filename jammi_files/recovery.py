"""From what a crash left to exactly one terminal state, never touching a live build.

`plan` decides, row by row, by FORMAT's table "Recovery"; `apply` carries one decision out. Only a
``building`` row whose lease is dead is touched, and only if it is still the row that was looked
at: a build that went on meanwhile wins, and one that comes too late gets `StateError`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import StrEnum

import pyarrow.parquet as pq

from jammi_files import events, garbage, lease, naming, removal, tracing
from jammi_files.artifacts import NOBODY, Artifacts
from jammi_files.catalog import Catalog
from jammi_files.errors import FormatError, JammiFilesError, StateError, TableNotFoundError
from jammi_files.events import Event
from jammi_files.materialization import MaterializationManifest
from jammi_files.origin import Origin
from jammi_files.reads import CatalogSnapshot
from jammi_files.rules import Contract
from jammi_files.schema import ResultTableRecord, ResultTableStatus, find_damage
from jammi_files.scope import heard_by
from jammi_files.signing import Signing

_MARK = "recovery: "
"""How the error text of a row begins that recovery has failed."""


class RecoveryStep(StrEnum):
    """What recovery does with one row or object."""

    PROMOTE = "promote"
    FAIL = "fail"
    QUARANTINE = "quarantine"
    REAP = "reap"
    SWEEP = "sweep"
    SKIP = "skip"


@dataclasses.dataclass(frozen=True, slots=True)
class RecoveryAction:
    """One decision: ``table_name`` (for `SWEEP` the object's key), what is done, and why.

    `PROMOTE` makes the row ready. `FAIL` fails a row without data. `QUARANTINE` fails it and keeps
    its bytes, `REAP` deletes them. `SWEEP` removes a crash's left-over. `SKIP` changes nothing.
    """

    table_name: str
    action: RecoveryStep
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What `ResultStore.recover` did, or with ``dry_run`` would do; in order of the rows' age."""

    actions: tuple[RecoveryAction, ...]
    dry_run: bool

    def __bool__(self) -> bool:
        return bool(self.actions)


@dataclasses.dataclass(frozen=True, slots=True)
class _Mode:
    """The keywords of `recover`."""

    dry_run: bool
    reap: bool
    builds_only: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Decision:
    action: RecoveryAction
    record: ResultTableRecord | None = None
    sidecar: MaterializationManifest | None = None
    rows: int = 0


def recover(
    catalog: Catalog,
    *,
    dry_run: bool,
    reap: bool,
    builds_only: bool = False,
    signing: Signing = NOBODY,
) -> RecoveryReport:
    """Drive every dead build of every tenant to ``ready`` or ``failed`` (`B246` to `B266`).

    The report names only what the handle's scope sees. ``builds_only`` leaves rows alone that are
    ready and have lost their sidecar: somebody may have a copy of it. Where somebody signs or
    verifies, no build is made ready whose signature is missing or not believed; none is made here.
    """
    span = tracing.span("recover", root=catalog.storage.root, dry_run=dry_run)
    with span, heard_by(catalog.scope):
        artifacts = Artifacts(catalog.storage, signing)
        report = _recover(catalog, artifacts, _Mode(dry_run, reap, builds_only))
        span.set(actions=len(report.actions))
    return report


def _recover(catalog: Catalog, artifacts: Artifacts, mode: _Mode) -> RecoveryReport:
    everything = catalog.as_admin().current()
    # One snapshot for all questions: a build that becomes ready meanwhile is not judged twice.
    snapshot = everything.snapshot()
    if not mode.dry_run:
        everything.log.settle()  # what it says may be of a process that died over it
    actions = []
    for decision in _plan(everything, artifacts, snapshot, mode):
        action = decision.action
        if not mode.dry_run:
            try:
                _apply(everything, artifacts, decision)
            except (JammiFilesError, OSError) as error:  # one row's trouble is not the others'
                moved_on = isinstance(error, StateError | TableNotFoundError)
                reason = f"moved on: {error}" if moved_on else str(error)
                action = RecoveryAction(action.table_name, RecoveryStep.SKIP, reason)
        owner = decision.record
        if catalog.scope.admin or (owner is not None and catalog.scope.sees(owner.tenant_id)):
            actions.append(action)
            if not mode.dry_run:
                _log(action)
    return RecoveryReport(tuple(actions), mode.dry_run)


def _plan(
    catalog: Catalog, artifacts: Artifacts, snapshot: CatalogSnapshot, mode: _Mode
) -> Iterator[_Decision]:
    ended: set[str] = set()  # by a dry run; otherwise the rows themselves say it
    for record in snapshot.list_result_tables_by_status(ResultTableStatus.BUILDING):
        try:
            death = lease.find_build_death(catalog.storage, record)
            if death is not None:
                decision = _decide_building(artifacts, record, death, reap=mode.reap)
                yield _spare_shared(snapshot, decision)
                if mode.dry_run:
                    ended.add(record.table_name)
        except (JammiFilesError, OSError) as error:
            yield _skip(record, str(error))
    present = set(catalog.storage.list(""))
    ready = snapshot.list_result_tables_by_status(ResultTableStatus.READY)
    for record in () if mode.builds_only else ready:
        try:
            for decision in _decide_ready(artifacts, record, present, reap=mode.reap):
                yield _spare_shared(snapshot, decision)
        except (JammiFilesError, OSError) as error:
            yield _skip(record, str(error))
    if mode.reap:
        yield from _plan_kept(snapshot, present)
    for record in snapshot.damaged():
        yield _skip(record, str(find_damage(record)))
    yield from _sweep(catalog, ended, present)


def _plan_kept(snapshot: CatalogSnapshot, present: set[str]) -> Iterator[_Decision]:
    """Name the rows that recovery failed earlier and whose data it has kept."""
    for record in snapshot.list_result_tables_by_status(ResultTableStatus.FAILED):
        if record.parquet_path in present and _was_recovered(record):
            try:
                if not _is_shared(snapshot, record):
                    reason = "recovery failed it and kept its data"
                    yield _decision(record, RecoveryStep.REAP, reason)
            except (JammiFilesError, OSError) as error:
                yield _skip(record, str(error))


def _decide_building(
    artifacts: Artifacts, record: ResultTableRecord, death: str, *, reap: bool
) -> _Decision:
    kept = RecoveryStep.REAP if reap else RecoveryStep.QUARANTINE
    try:
        rows = artifacts.count_rows(record)
    except FileNotFoundError:
        return _decision(record, RecoveryStep.FAIL, f"no data object (`B247`); {death}")
    except FormatError:
        return _decision(record, RecoveryStep.REAP, f"the data has no footer (`B248`); {death}")
    sidecar = artifacts.read_sidecar(record)
    if sidecar is None:
        return _decision(record, kept, f"data without sidecar (`B249`, `B263`); {death}")
    doubt = _find_doubt(artifacts, record, sidecar)
    if doubt is not None:
        return _decision(record, kept, f"{doubt}; {death}")
    action = RecoveryAction(
        record.table_name, RecoveryStep.PROMOTE, f"data and sidecar agree (`B250`); {death}"
    )
    return _Decision(action, record, sidecar, rows)


def _spare_shared(snapshot: CatalogSnapshot, decision: _Decision) -> _Decision:
    """Keep the data of a row that is to fail if another row names it too."""
    record, action = decision.record, decision.action
    if record is None or action.action is not RecoveryStep.REAP:
        return decision
    if not _is_shared(snapshot, record):
        return decision
    reason = f"{action.reason}; another row names the data"
    return _decision(record, RecoveryStep.QUARANTINE, reason)


def _is_shared(snapshot: CatalogSnapshot, record: ResultTableRecord) -> bool:
    return bool(removal.find_named(snapshot, [record.parquet_path], [record]))


def _find_doubt(
    artifacts: Artifacts, record: ResultTableRecord, sidecar: MaterializationManifest
) -> str | None:
    """Say why a build that has data and sidecar must not become ready, None if it may."""
    if artifacts.digest(record) != sidecar.artifact:
        return "the sidecar attests other bytes (`B261`)"
    origin = _read_origin(artifacts, record)
    if origin not in (None, Origin.of(record)):
        return "the data is of an earlier result of that name, as its footer says"
    if artifacts.signing == NOBODY:
        return None
    if artifacts.read_signature(record) is None:
        return "the sidecar has no signature"
    unbelieved = artifacts.judge_signature(record, sidecar)
    return None if unbelieved is None else f"the signature is not believed: {unbelieved}"


def _read_origin(artifacts: Artifacts, record: ResultTableRecord) -> Origin | None:
    """Return what the data's footer says of its row; None of data that another program wrote."""
    storage, key = artifacts.locate(record.parquet_path)
    with storage.open(key) as file:
        return Origin.find(pq.read_metadata(file).metadata)


def _decide_ready(
    artifacts: Artifacts, record: ResultTableRecord, present: set[str], *, reap: bool
) -> Iterator[_Decision]:
    if record.definition_hash is None:
        return  # made ready without a contract: nothing to hold it to (`B254`)
    sidecar = naming.sibling(record.parquet_path, naming.SIDECAR_SUFFIX)
    storage, key = artifacts.locate(sidecar)
    there = key in present if storage is artifacts.storage else storage.size(key) is not None
    if not there and storage.size(key) is None:
        step = RecoveryStep.REAP if reap else RecoveryStep.QUARANTINE
        yield _decision(record, step, "ready, but its sidecar is gone (`B253`, `B263`)")


def _sweep(catalog: Catalog, ended: set[str], present: set[str]) -> Iterator[_Decision]:
    """Name what no live build can be using: temporary files and side objects of ended builds.

    The listings come first and the rows after: whatever was listed of a build that is still going
    on has its row, and a build that begins now was not listed.
    """
    states = list(lease.names_with_state(catalog.storage))
    rows = catalog.snapshot()
    building = rows.list_result_tables_by_status(ResultTableStatus.BUILDING)
    going_on = [record for record in building if record.table_name not in ended]
    going_on += rows.damaged()
    names = {record.table_name for record in going_on}
    in_use = names | {garbage.stem_of(record.parquet_path) for record in going_on}
    for name in sorted(present):
        table = garbage.table_of(name)
        if garbage.is_temporary(name) and table not in in_use:
            record = rows.get_result_table(table)
            if record is not None:
                yield _left_over(name, record, "a temporary file of a build that has ended")
    for table in states:
        if table not in names and table not in ended:
            reason = "the side object of a build that has ended"
            yield _left_over(lease.key_of(table), rows.get_result_table(table), reason)


def _apply(catalog: Catalog, artifacts: Artifacts, decision: _Decision) -> None:
    record, step = decision.record, decision.action.action
    if step is RecoveryStep.SWEEP:
        _sweep_object(catalog, decision.action.table_name)
        return
    if record is None or step is RecoveryStep.SKIP:
        return
    if record.status is ResultTableStatus.FAILED:
        _remove_data(catalog, artifacts, record)
        return
    if decision.sidecar is not None:
        sidecar = decision.sidecar
        contract = Contract(
            sidecar.definition_hash,
            sidecar.input_anchors,
            sidecar.artifact,
            sidecar.descriptor_digest,
        )
        artifacts.settle(record)
        ended = catalog.promote_unchanged(record, decision.rows, contract)
    else:
        ended = catalog.fail_unchanged(record, f"{_MARK}{decision.action.reason}")
    _delete_state(catalog, record.table_name)
    if step is RecoveryStep.REAP:
        _remove_data(catalog, artifacts, ended)  # only now: it can no longer become ready


def _remove_data(catalog: Catalog, artifacts: Artifacts, failed: ResultTableRecord) -> None:
    """Delete the data of a failed row, if it is still that row and no other one names it.

    Raises:
        StateError: it is not.
    """
    path = failed.parquet_path
    outcomes = removal.remove(catalog, artifacts, [path], ended=[failed])
    if path not in outcomes:
        raise StateError(f"another row names the data of '{failed.table_name}' by now")
    if (error := outcomes[path]) is not None:
        raise error


def _sweep_object(catalog: Catalog, key: str) -> None:
    """Delete a left-over.

    Raises:
        StateError: it is a side object whose name is being built anew.
    """
    if garbage.is_temporary(key):  # no name of those is used twice
        catalog.storage.delete(key)
    elif not _delete_state(catalog, garbage.table_of(key)):
        raise StateError(f"Result table '{garbage.table_of(key)}' is being built")


def _delete_state(catalog: Catalog, table_name: str) -> bool:
    """Delete the side object of a build that has ended, unless its name is being built anew."""
    with catalog.log.writing():
        row = catalog.log.head().get(table_name)
        if row is not None and row.record.status is ResultTableStatus.BUILDING:
            return False
        lease.delete_state(catalog.storage, table_name)
    return True


def _log(action: RecoveryAction) -> None:
    text, fields = "%(table_name)s: %(action)s, %(reason)s", dataclasses.asdict(action)
    events.info(Event.RECOVERED, text, fields, **fields)


def _was_recovered(record: ResultTableRecord) -> bool:
    return (record.properties or {}).get("error", "").startswith(_MARK)


def _decision(record: ResultTableRecord, step: RecoveryStep, reason: str) -> _Decision:
    return _Decision(RecoveryAction(record.table_name, step, reason), record)


def _skip(record: ResultTableRecord, reason: str) -> _Decision:
    return _decision(record, RecoveryStep.SKIP, reason)


def _left_over(key: str, record: ResultTableRecord | None, reason: str) -> _Decision:
    return _Decision(RecoveryAction(key, RecoveryStep.SWEEP, reason), record)
