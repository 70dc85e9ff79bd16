"""The changes that the catalog allows: pure functions from a draft to its next rows.

Uniqueness, tenancy and status are checked here, against the very rows that the commit stands on;
a commit that lost a race runs its rule again on the winner's rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import manifest
from jammi_files.draft import Draft
from jammi_files.errors import (
    AlreadyExistsError,
    ConflictError,
    ReferencedError,
    StateError,
    TableNotFoundError,
)
from jammi_files.rows import Row, rows_of
from jammi_files.schema import (
    InputAnchor,
    Lease,
    ResultTableRecord,
    ResultTableStatus,
    require_sound,
)
from jammi_files.scope import Scope
from jammi_files.timestamps import CLOCK, format_timestamp

_IDENTITY = ("source_id", "model_id", "task", "kind", "parquet_path")

BUILD_KEY = "build_key"
"""The property of a row that says for which result it was claimed (`B127`)."""


def create(draft: Draft, scope: Scope, record: ResultTableRecord) -> ResultTableRecord:
    """Insert a ``building`` row and stamp it (`B056` to `B062`).

    Raises:
        AlreadyExistsError: the name is taken, by whichever tenant (`B058`).
        TableNotFoundError: ``derived_from`` is no visible row (`B061`, `B062`).
    """
    if draft.get(record.table_name) is not None:
        raise taken(record.table_name)
    if record.derived_from is not None:
        visible_row(draft, scope, record.derived_from)
    record = dataclasses.replace(record, created_at=format_timestamp(CLOCK.now()))
    draft.put(record, "create")
    return record


def create_or_get(
    draft: Draft, scope: Scope, record: ResultTableRecord, dead: Collection[Lease | None]
) -> ResultTableRecord:
    """Insert a row, or return the ``building`` row of that name that the same tenant owns (`B066`).

    A row whose lease is among the ``dead`` gets the lease of ``record``: who retries builds it now.

    Raises:
        AlreadyExistsError: the name is taken by another tenant, by a finished row, or by a row
            of another source, model, task, kind or path.
    """
    row = draft.get(record.table_name)
    if row is None:
        return create(draft, scope, record)
    same = all(getattr(row.record, name) == getattr(record, name) for name in _IDENTITY)
    building = row.record.status is ResultTableStatus.BUILDING
    if same and building and scope.owns(row.record.tenant_id):
        if row.record.lease not in dead:
            return row.record
        taken_over = dataclasses.replace(row.record, lease=record.lease)
        draft.put(taken_over, "update")
        return taken_over
    raise taken(record.table_name)


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """What a build is about to make, and the last version that was seen without it (`B127`)."""

    key: str
    definition_hash: str
    since: int


def claim(
    draft: Draft, scope: Scope, record: ResultTableRecord, wanted: Claim
) -> ResultTableRecord:
    """Insert a ``building`` row that holds a key, or return the visible row that has it (`B127`).

    That row is ``building``, or became ``ready`` after ``wanted.since``. Two lookups, no scan.
    """
    view = draft.view()
    rows = view.select("status", ResultTableStatus.BUILDING)
    made = view.select("definition_hash", wanted.definition_hash)
    rows += [row for row in made if row.record.is_ready and row.seq > wanted.since]
    for row in rows:
        if holds_key(row.record, wanted.key) and scope.sees(row.record.tenant_id):
            return row.record
    properties = {**(record.properties or {}), BUILD_KEY: wanted.key}
    return create(draft, scope, dataclasses.replace(record, properties=properties))


def holds_key(record: ResultTableRecord, key: str) -> bool:
    """Say whether a row was claimed for a key, whatever has become of it."""
    return (record.properties or {}).get(BUILD_KEY) == key


def create_many(draft: Draft, scope: Scope, table: pa.Table) -> int:
    """Insert ``building`` rows in bulk; ``table`` has the columns `SCHEMA`, names unique.

    Raises:
        AlreadyExistsError: one of the names is taken; nothing is inserted.
        TableNotFoundError: a ``derived_from`` is neither a visible row nor in the table.
    """
    names = table.column("table_name")
    for name in draft.view().held(names):
        if draft.get(name) is not None:
            raise taken(name)
    own = set(names.to_pylist()) if table.column("derived_from").null_count < len(names) else ()
    for parent in pc.unique(table.column("derived_from").drop_null()).to_pylist():
        if parent not in own:
            visible_row(draft, scope, parent)
    first, step = CLOCK.first_of(table.num_rows), pa.scalar(1, pa.int64())
    instants = pc.add(pc.cumulative_sum(pa.repeat(step, table.num_rows)), first - 1)
    created = instants.cast(table.schema.field("created_at").type)
    at = table.schema.get_field_index("created_at")
    table = table.set_column(at, table.schema.field(at), created)
    if table.num_rows > manifest.INLINE_ROWS:
        draft.add_run(table, "create")
    else:
        stored = table.append_column("seq", pa.repeat(pa.scalar(0, pa.int64()), table.num_rows))
        stored = stored.append_column("deleted", pa.repeat(pa.scalar(False), table.num_rows))
        for row in rows_of(stored):
            draft.put(row.record, "create")
    return int(table.num_rows)


def require_no_vacuum(draft: Draft, since: int) -> None:
    """Refuse to name objects that a vacuum after version ``since`` may have taken for garbage.

    Raises:
        ConflictError: there was one.
    """
    vacuumed = draft.base.header.retention.vacuumed
    if vacuumed > since:
        msg = f"vacuum made version {vacuumed} while objects were copied; nothing was inserted,"
        raise ConflictError(f"{msg} import again")


def adopt(draft: Draft, records: Sequence[ResultTableRecord]) -> list[str]:
    """Insert complete rows, whatever their status and tenant, unless their name is taken."""
    adopted = []
    for record in records:
        if draft.get(record.table_name) is None:
            draft.put(record, "import")
            adopted.append(record.table_name)
    return adopted


def update_status(
    draft: Draft, scope: Scope, name: str, status: ResultTableStatus, row_count: int, **also: object
) -> ResultTableRecord:
    """Move a visible row to ``status`` with ``row_count`` rows (`B067` to `B075`).

    Raises:
        TableNotFoundError: no visible row has the name.
        StateError: the move is not a legal one.
    """
    record = visible_row(draft, scope, name).record
    if not record.status.may_become(status):
        legal = ", ".join(
            sorted(move for move in ResultTableStatus if record.status.may_become(move))
        )
        msg = (
            f"Result table '{name}' is {record.status} and cannot become {status}; "
            f"legal moves: {legal or 'none'}"
        )
        raise StateError(msg)
    completed = format_timestamp(CLOCK.now()) if status.is_terminal else None
    record = dataclasses.replace(
        record,
        status=status,
        row_count=row_count,
        completed_at=completed,
        lease=None if status.is_terminal else record.lease,
        **also,  # type: ignore[arg-type]  # columns of the record
    )
    draft.put(record, status.value if status.is_terminal else "update")
    return record


def fail(draft: Draft, scope: Scope, name: str, error: str) -> ResultTableRecord:
    """Move a visible row to ``failed`` with no rows and the error's text (`B089`)."""
    text = error.encode(errors="backslashreplace").decode()  # a path in it may hold surrogates
    properties = dict(visible_row(draft, scope, name).record.properties or {}, error=text)
    failed = ResultTableStatus.FAILED
    return update_status(draft, scope, name, failed, 0, properties=properties)


@dataclasses.dataclass(frozen=True, slots=True)
class Contract:
    """What a sidecar attests, as the row repeats it; the digests are None if nobody says them."""

    definition_hash: str
    input_anchors: tuple[InputAnchor, ...]
    artifact_digest: str | None = None
    descriptor_digest: str | None = None


def promote(  # noqa: PLR0913 - what is promoted, by whom, and with what
    draft: Draft,
    scope: Scope,
    name: str,
    row_count: int,
    *,
    contract: Contract,
    checkpoint: int | None,
    build: ResultTableRecord | None = None,
) -> ResultTableRecord:
    """Make a ``building`` row ``ready`` together with its contract (`B076` to `B079`).

    Raises:
        TableNotFoundError: no visible row has the name.
        StateError: the row is not ``building``: promoted already, or failed by recovery. Or it is
            not that of ``build``, whose contract this is.
    """
    record = visible_row(draft, scope, name).record
    if record.status is not ResultTableStatus.BUILDING:
        msg = f"Result table '{name}' is {record.status}; only a building table can be promoted"
        raise StateError(msg)
    if build is not None:
        _require_same_build(record, build)
    return update_status(
        draft,
        scope,
        name,
        ResultTableStatus.READY,
        row_count,
        definition_hash=contract.definition_hash,
        input_anchors=contract.input_anchors,
        artifact_digest=contract.artifact_digest,
        descriptor_digest=contract.descriptor_digest,
        checkpoint=record.checkpoint if checkpoint is None else checkpoint,
    )


def delete_for_source(
    draft: Draft, scope: Scope, source_id: str, *, cascade: bool
) -> list[ResultTableRecord]:
    """Remove the rows of a source that the scope owns and return them (`B143` to `B149`).

    Raises:
        ReferencedError: a row that would stay derives from one that would go.
    """
    rows = draft.view().select("source_id", source_id)
    return _delete(
        draft, scope, [row for row in rows if scope.owns(row.record.tenant_id)], cascade=cascade
    )


def delete_one(draft: Draft, scope: Scope, name: str, *, cascade: bool) -> list[ResultTableRecord]:
    """Remove one owned row and return what was removed (`B151`).

    Raises:
        TableNotFoundError: no visible row has the name.
        StateError: the row is visible but not owned, so this handle must not delete it.
        ReferencedError: a row that would stay derives from one that would go.
    """
    row = visible_row(draft, scope, name, sound=False)
    if not scope.owns(row.record.tenant_id):
        msg = f"Result table '{name}' belongs to another scope; open a handle bound to its tenant"
        raise StateError(msg)
    return _delete(draft, scope, [row], cascade=cascade)


def visible_row(draft: Draft, scope: Scope, name: str, *, sound: bool = True) -> Row:
    """Return the live row of that name if the scope sees it.

    Raises:
        TableNotFoundError: absent or invisible: the caller cannot tell which.
        FormatError: the row is damaged, unless ``sound`` is False.
    """
    row = draft.get(name)
    if row is None or not scope.sees(row.record.tenant_id):
        raise TableNotFoundError.named(name)
    if sound:
        require_sound(row.record)
    return row


def require_unchanged(draft: Draft, seen: ResultTableRecord) -> None:
    """Refuse a decision about a row that has changed since it was looked at.

    Raises:
        StateError: it has.
    """
    row = draft.get(seen.table_name)
    if row is None or row.record != seen:
        raise StateError(f"Result table '{seen.table_name}' has changed meanwhile")


def _require_same_build(record: ResultTableRecord, build: ResultTableRecord) -> None:
    """Refuse for one build what another has made; the row's count and status may have changed."""
    name = record.table_name
    if record.created_at != build.created_at:
        msg = f"Result table '{name}' was deleted and made again: it is another build now"
        raise StateError(f"{msg}; build this result under a new name")
    if _owner(record) != _owner(build):
        raise StateError(
            f"Result table '{name}' was taken over by another process, which builds it"
        )


def _owner(record: ResultTableRecord) -> str | None:
    return None if record.lease is None else record.lease.owner


def taken(name: str) -> AlreadyExistsError:
    """Word the error of a second row of one name (`B057`)."""
    return AlreadyExistsError(f"catalog: result_tables.table_name '{name}' already exists")


def _delete(
    draft: Draft, scope: Scope, rows: Collection[Row], *, cascade: bool
) -> list[ResultTableRecord]:
    going = {row.record.table_name: row.record for row in rows}
    staying: list[ResultTableRecord] = []
    waiting = list(going)
    view = draft.view()
    while waiting:
        for row in view.select("derived_from", waiting.pop()):
            child = row.record
            if child.table_name in going:
                continue
            if cascade and scope.sees(child.tenant_id) and scope.owns(child.tenant_id):
                going[child.table_name] = child
                waiting.append(child.table_name)
            else:
                staying.append(child)
    if staying:
        raise _referenced(scope, staying)
    for record in going.values():
        draft.put(record, "delete", deleted=True)
    return sorted(going.values(), key=lambda record: (record.created_at, record.table_name))


def _referenced(scope: Scope, staying: Sequence[ResultTableRecord]) -> ReferencedError:
    seen = sorted({r.table_name for r in staying if scope.sees(r.tenant_id)})
    named = ", ".join(f"'{name}'" for name in seen)
    others = "" if all(scope.sees(r.tenant_id) for r in staying) else "tables of other tenants"
    who = " and ".join(part for part in (named, others) if part)
    return ReferencedError(f"still derived from by {who}; delete those first, or pass cascade=True")
