"""The reads of one handle: every question a snapshot can answer, as seen from one scope.

Every record and table leaves through `_admitted` or `admit_table`; no read can forget tenancy.
"""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import events
from jammi_files.errors import InvalidInputError, TableNotFoundError
from jammi_files.events import Event
from jammi_files.rows import STORED, Row, table_of
from jammi_files.schema import (
    ENUM_COLUMNS,
    SCHEMA,
    AnchorKind,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
    find_damage,
    require_sound,
)
from jammi_files.scope import Scope, hearer
from jammi_files.snapshot import Snapshot
from jammi_files.timestamps import format_timestamp, parse_instant
from jammi_files.validation import require_count, require_strings, require_text


class Reads(abc.ABC):
    """The read operations; `Catalog` answers them now, `CatalogSnapshot` at one version."""

    @abc.abstractmethod
    def _seen(self) -> tuple[Snapshot, Scope]:
        """Return the rows to ask and the scope that asks."""

    def get_result_table(self, table_name: str) -> ResultTableRecord | None:
        """Return the visible row of that name in any status, or None (`B092` to `B096`).

        Raises:
            FormatError: the row holds a value that this library does not know (`B037`).
        """
        if not isinstance(table_name, str):
            raise InvalidInputError(f"table_name must be a string, not {table_name!r}")
        snapshot, scope = self._seen()
        row = snapshot.get(table_name)
        if row is None or not scope.sees(row.record.tenant_id):
            return None
        return require_sound(row.record)

    def list_result_tables_by_status(
        self, status: ResultTableStatus | str
    ) -> list[ResultTableRecord]:
        """Return the visible rows of a status, oldest first (`B097` to `B101`)."""
        wanted = ResultTableStatus.parse(status)
        snapshot, scope = self._seen()
        return _oldest_first(_admitted(snapshot.select("status", wanted.value), scope))

    def find_result_tables(  # noqa: PLR0913 - one keyword per filter
        self,
        source_id: str,
        task: ModelTask | str | None = None,
        model_id: str | None = None,
        *,
        kind: ResultTableKind | str | None = None,
        status: ResultTableStatus | str | None = None,
        key_column: str | None = None,
        text_columns: Sequence[str] | None = None,
        created_after: str | dt.datetime | None = None,
        created_before: str | dt.datetime | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> list[ResultTableRecord]:
        """Return the visible rows of a source, oldest first (`B102` to `B106`).

        Every filter given must hold exactly; ``created_after`` and ``created_before`` are
        exclusive instants; ``limit`` counts rows after ordering.
        """
        low = {
            "task": None if task is None else ModelTask.parse(task),
            "model_id": None if model_id is None else require_text("model_id", model_id),
            "kind": None if kind is None else ResultTableKind.parse(kind),
            "status": None if status is None else ResultTableStatus.parse(status),
        }
        equal = tuple((name, value) for name, value in low.items() if value is not None)
        key = None if key_column is None else require_text("key_column", key_column)
        texts = None if text_columns is None else require_strings("text_columns", text_columns)
        after = "" if created_after is None else _instant(created_after)
        before = "~" if created_before is None else _instant(created_before)
        count = None if limit is None else require_count("limit", limit)
        snapshot, scope = self._seen()
        rows = snapshot.select("source_id", require_text("source_id", source_id), equal)
        found = [
            record
            for record in _admitted(rows, scope)
            if after < record.created_at < before
            and key in (None, record.key_column)
            and texts in (None, record.text_columns)
        ]
        ordered = _newest_first(found) if newest_first else _oldest_first(found)
        return ordered[:count]

    def find_ready_result_tables_by_definition(
        self, definition_hash: str
    ) -> list[ResultTableRecord]:
        """Return the visible ready rows of a definition, newest first (`B107` to `B111`)."""
        require_text("definition_hash", definition_hash)
        snapshot, scope = self._seen()
        rows = snapshot.select("definition_hash", definition_hash)
        return _newest_first(record for record in _admitted(rows, scope) if record.is_ready)

    def find_ready_result_tables_anchored_on(self, source: str) -> list[ResultTableRecord]:
        """Return the visible ready rows that were made from ``source``, oldest first.

        ``source`` is compared exactly with the decoded anchors (`B128` to `B130`); it may be a
        result table's name or a raw source id.
        """
        require_text("source", source)
        snapshot, scope = self._seen()
        rows = snapshot.select("anchor", source)
        return _oldest_first(record for record in _admitted(rows, scope) if record.is_ready)

    def resolve_embedding_table(
        self,
        source_id: str,
        table_name: str | None = None,
        *,
        task: ModelTask | str | None = None,
        model_id: str | None = None,
        exclude_derived: bool = False,
    ) -> ResultTableRecord:
        """Return the newest visible ready embedding table of a source (`B152` to `B160`).

        With ``table_name`` return that table; it must be ready and of this source.
        ``exclude_derived`` leaves out what was propagated or composed from other tables.

        Raises:
            TableNotFoundError: no such table.
            InvalidInputError: the named table is not ready or belongs to another source (`B158`).
        """
        require_text("source_id", source_id)
        if table_name is not None:
            return self._resolve_named(source_id, table_name)
        snapshot, scope = self._seen()
        if task is None and model_id is None and not exclude_derived:
            first = snapshot.newest_embedding(source_id)
            if first is not None and _is_admitted(first, scope):
                return first.record
        wanted = None if task is None else ModelTask.parse(task)
        candidates = (
            record
            for record in _admitted(snapshot.newest_embeddings(source_id), scope)
            if wanted in (None, record.task)
            and model_id in (None, record.model_id)
            and not (exclude_derived and record.derived_from is not None)
        )
        newest = next(candidates, None)
        if newest is None:
            raise TableNotFoundError(f"No ready embedding table for source '{source_id}'")
        return newest

    def scan(
        self,
        filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's own word for it
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Return the visible rows as an Arrow table with the columns `SCHEMA`, in no order.

        ``filter`` is a `pyarrow.compute.Expression` over those columns; ``columns`` chooses and
        orders what comes back.

        Raises:
            InvalidInputError: the filter or a column name does not fit the schema.
        """
        snapshot, scope = self._seen()
        wanted = SCHEMA.names
        if filter is None and columns and set(columns) <= set(wanted):
            wanted = list(columns)  # the others need not be decoded
        return _select(admit_table(snapshot.tables(), scope, wanted), filter, columns)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export `scan` by the Arrow PyCapsule interface, for Polars, DuckDB and pandas."""
        return self.scan().__arrow_c_stream__(requested_schema)

    def damaged(self) -> list[ResultTableRecord]:
        """Return the visible rows that hold a value this library does not know (`B037`).

        Other reads leave them out; `scan` shows them as they are.
        """
        snapshot, scope = self._seen()
        columns = ["table_name", "input_anchors", *ENUM_COLUMNS]
        table = self.scan(columns=columns).combine_chunks()
        odd = [
            pc.indices_nonzero(pc.invert(pc.is_in(table.column(column), pa.array(list(enum)))))
            for column, enum in ENUM_COLUMNS.items()
        ]
        anchors = table.column("input_anchors")
        kinds = pc.struct_field(pc.list_flatten(anchors), "kind")
        unknown = pc.invert(pc.is_in(kinds, pa.array(list(AnchorKind))))
        odd.append(pc.list_parent_indices(anchors).filter(unknown))
        positions = {position for each in odd for position in each.to_pylist()}
        at = pa.array(sorted(positions), pa.int64())
        names = table.column("table_name").take(at).to_pylist()
        rows = (seen_row(snapshot, name, scope) for name in names)
        return [row.record for row in rows if row is not None]

    def _resolve_named(self, source_id: str, table_name: str) -> ResultTableRecord:
        record = self.get_result_table(table_name)
        if record is None:
            raise TableNotFoundError.named(table_name)
        if not record.is_ready:
            raise InvalidInputError(f"Result table '{table_name}' is {record.status}, not ready")
        if record.source_id != source_id:
            raise InvalidInputError(
                f"Result table '{table_name}' belongs to source '{record.source_id}', "
                f"not '{source_id}'"
            )
        return record


class Pinning(Protocol):
    """The catalog that a snapshot is of, which can make it again elsewhere."""

    def snapshot(self, version: int) -> CatalogSnapshot:
        """Return the catalog pinned at a version."""


class CatalogSnapshot(Reads):
    """The catalog at one version, for one scope: reads repeat while others commit (`B281`)."""

    def __init__(self, snapshot: Snapshot, scope: Scope, origin: Pinning) -> None:
        self._snapshot = snapshot
        self._scope = scope
        self._origin = origin

    def __reduce__(self) -> tuple[Callable[..., CatalogSnapshot], tuple[Pinning, int]]:
        return _pin, (self._origin, self.version)

    def _seen(self) -> tuple[Snapshot, Scope]:
        return self._snapshot, self._scope

    @property
    def version(self) -> int:
        """The number of the commit that made this state; 0 is the empty catalog."""
        return self._snapshot.version

    @property
    def committed_at(self) -> str | None:
        """When that commit was made, UTC text; None for the empty catalog."""
        instant = self._snapshot.header.committed_at
        return format_timestamp(instant) if instant else None

    def __repr__(self) -> str:
        return f"<CatalogSnapshot version={self.version}>"


def _pin(origin: Pinning, version: int) -> CatalogSnapshot:
    return origin.snapshot(version)


def _admitted(rows: Iterable[Row], scope: Scope) -> Iterator[ResultTableRecord]:
    """Let through what the scope sees; a damaged row is named in the log and left out (`B037`)."""
    return (row.record for row in rows if _is_admitted(row, scope))


def _is_admitted(row: Row, scope: Scope) -> bool:
    if not scope.sees(row.record.tenant_id):
        return False
    damage = find_damage(row.record)
    if damage is not None and hearer(scope).sees(row.record.tenant_id):
        name = row.record.table_name
        events.warn(Event.LEFT_OUT, "left out a damaged row: %s", damage, table_name=name)
    return damage is None


def admit_table(
    tables: Iterable[pa.Table], scope: Scope, names: Sequence[str] = SCHEMA.names
) -> pa.Table:
    """Return what the scope sees of stored tables, in the columns ``names``."""
    schema = pa.schema([STORED.field(name) for name in names])
    parts = [_as_stored(_visible(table, scope), schema) for table in tables]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _as_stored(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return some columns of a table without their dictionaries; most have none: as they are."""
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for field in schema
        for column in (table.column(field.name),)
    ]
    return pa.table(columns, schema=schema)


def _visible(table: pa.Table, scope: Scope) -> pa.Table:
    visible = scope.visible()
    if visible is None or scope.sees_all(table.column("tenant_id")):
        return table
    return table.filter(visible)


def _select(
    table: pa.Table, condition: pc.Expression | None, columns: Sequence[str] | None
) -> pa.Table:
    try:
        if condition is not None:
            table = table.filter(condition)
        return table if columns is None else table.select(list(columns))
    except (pa.ArrowException, KeyError, TypeError) as error:
        msg = f"scan: {error}; the columns are {', '.join(SCHEMA.names)}"
        raise InvalidInputError(msg) from error


def _age(record: ResultTableRecord) -> tuple[str, str]:
    return record.created_at, record.table_name


def _oldest_first(records: Iterable[ResultTableRecord]) -> list[ResultTableRecord]:
    return sorted(records, key=_age)


def _newest_first(records: Iterable[ResultTableRecord]) -> list[ResultTableRecord]:
    return sorted(records, key=_age, reverse=True)


def _instant(value: str | dt.datetime) -> str:
    """Return an instant as stored text; a datetime must say its time zone."""
    return format_timestamp(parse_instant(value))


def changes_between(old: Snapshot, new: Snapshot, scope: Scope) -> pa.Table:
    """Return what differs between two versions as the scope sees it; see `Catalog.changes`."""
    stored = [*SCHEMA.names, "seq"]
    live = admit_table(new.tables(since=old.version), scope, stored)
    kinds = [
        "update" if seen_row(old, name, scope) else "insert"
        for name in live.column("table_name").to_pylist()
    ]
    dead = [row._replace(seq=version) for row, version in vanished(old, new, scope)]
    gone = admit_table([table_of(dead)], scope, stored)
    table = pa.concat_tables([live, gone])
    kinds += ["delete"] * gone.num_rows
    columns = [pa.array(kinds, pa.string()), table.column("seq")]
    columns += [table.column(name) for name in SCHEMA.names]
    return pa.table(columns, names=["change_type", "version", *SCHEMA.names])


def vanished(old: Snapshot, new: Snapshot, scope: Scope) -> Iterator[tuple[Row, int]]:
    """Yield the rows that the scope sees in ``old`` and not in ``new``, and what version did it.

    Where a merge has dropped the tombstone, the version is that of ``new``.
    """
    names = set(old.inline)
    for segment in old.runs.segments:
        if segment not in new.runs.segments:
            names.update(segment.table.column("table_name").to_pylist())
    for deleted in (False, True):
        for table in new.tables(since=old.version, deleted=deleted):
            names.update(table.column("table_name").to_pylist())
    for name in names:
        row = seen_row(old, name, scope)
        if row is not None and seen_row(new, name, scope) is None:
            successor = new.lookup(name)
            yield row, new.version if successor is None else successor.seq


def seen_row(snapshot: Snapshot, name: str, scope: Scope) -> Row | None:
    """Return the live row of that name if the scope sees it."""
    row = snapshot.get(name)
    return row if row is not None and scope.sees(row.record.tenant_id) else None
