"""The catalog's writes, each one rule applied to a draft, for `Catalog` and for `Transaction`."""

from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from jammi_files import bulk, lease, naming, rules
from jammi_files.draft import Draft
from jammi_files.errors import ConflictError, InvalidInputError
from jammi_files.garbage import CATALOG, is_temporary
from jammi_files.reads import Reads
from jammi_files.rows import Row
from jammi_files.schema import (
    InputAnchor,
    Lease,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
    require_anchors,
)
from jammi_files.scope import Scope
from jammi_files.storage import Storage
from jammi_files.validation import (
    require_count,
    require_strings,
    require_table_name,
    require_text,
    require_utf8,
)

R = TypeVar("R")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Operations(Reads):
    """Every operation of the catalog that changes rows.

    Each checks its arguments first and raises `InvalidInputError` before anything is written.
    """

    _storage: Storage

    @abc.abstractmethod
    def _commit(self, change: Callable[[Draft], R]) -> R:
        """Apply a rule."""

    @abc.abstractmethod
    def _peek(self, table_name: str) -> Row | None:
        """Return the row as far as it is known without asking the storage."""

    @abc.abstractmethod
    def _ended(self, table_name: str) -> None:
        """Drop what a finished build leaves beside the catalog, once the change is committed."""

    @property
    @abc.abstractmethod
    def scope(self) -> Scope:
        """What this handle may see and change."""

    def create_result_table(  # noqa: PLR0913 - one keyword per column
        self,
        table_name: str,
        *,
        source_id: str,
        model_id: str,
        task: ModelTask | str,
        parquet_path: str,
        kind: ResultTableKind | str = ResultTableKind.MODEL,
        derived_from: str | None = None,
        index_path: str | None = None,
        dimensions: int | None = None,
        key_column: str | None = None,
        text_columns: Sequence[str] | None = None,
        properties: Mapping[str, str] | None = None,
        if_not_exists: bool = False,
        claim: rules.Claim | None = None,
    ) -> ResultTableRecord:
        """Insert one ``building`` row for this handle's tenant and return it (`B056` to `B066`).

        ``if_not_exists`` returns the row of that name instead of failing when it is this tenant's
        and still ``building``, for retried tasks; a dead process's build becomes this one's.
        ``claim``, of `ResultStore.get_or_build`, returns the row that holds its key already, if
        there is one (`B127`).

        Raises:
            InvalidInputError: an argument is wrong.
            AlreadyExistsError: the name is taken, by whichever tenant.
            TableNotFoundError: ``derived_from`` names no visible row.
        """
        record = ResultTableRecord(
            table_name=require_table_name(table_name),
            source_id=require_text("source_id", source_id),
            model_id=require_text("model_id", model_id),
            task=ModelTask.parse(task),
            kind=ResultTableKind.parse(kind),
            derived_from=_optional_text("derived_from", derived_from),
            parquet_path=self._stored_path("parquet_path", parquet_path),
            index_path=None if index_path is None else self._stored_path("index_path", index_path),
            dimensions=None
            if dimensions is None
            else require_count("dimensions", dimensions, least=1),
            key_column=_optional_text("key_column", key_column),
            text_columns=None
            if text_columns is None
            else require_strings("text_columns", text_columns),
            properties=None if properties is None else _checked_properties(properties),
            created_at="",
            tenant_id=self.scope.tenant,
            lease=lease.new_lease(),
        )
        scope = self.scope
        if claim is not None:
            return self._commit(lambda draft: rules.claim(draft, scope, record, claim))
        if if_not_exists:
            dead = self._dead_leases(record.table_name)
            return self._commit(lambda draft: rules.create_or_get(draft, scope, record, dead))
        return self._commit(lambda draft: rules.create(draft, scope, record))

    def create_result_tables(self, rows: object) -> int:
        """Insert many ``building`` rows in one commit and return how many (all or none).

        ``rows`` is a `pyarrow.Table` (or speaks the Arrow PyCapsule interface) whose columns are
        the keywords of `create_result_table`.

        Raises:
            InvalidInputError: a column or value is wrong; the message names it.
            AlreadyExistsError: one of the names is taken.
            TableNotFoundError: a ``derived_from`` is neither a visible row nor in ``rows``.
        """
        scope = self.scope
        table = bulk.building_rows(
            rows,
            tenant=scope.tenant,
            lease=dataclasses.asdict(lease.new_lease()),
            locate=lambda path: self._stored_path("path", path),
        )
        if not table.num_rows:
            return 0
        return self._commit(lambda draft: rules.create_many(draft, scope, table))

    def update_result_table_status(
        self, table_name: str, status: ResultTableStatus | str, row_count: int
    ) -> ResultTableRecord:
        """Set status and row count of a visible row in one commit (`B067` to `B075`).

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the move is none of building -> building, ready, failed; ready -> failed.
        """
        wanted, count = ResultTableStatus.parse(status), require_count("row_count", row_count)
        name, scope = require_text("table_name", table_name), self.scope
        ends = wanted.is_terminal and self._may_have_state(name)
        record = self._commit(lambda draft: rules.update_status(draft, scope, name, wanted, count))
        if ends:
            self._ended(name)
        return record

    def fail_result_table(self, table_name: str, error: str) -> ResultTableRecord:
        """Mark a visible row ``failed`` with the error's text as property ``error`` (`B089`).

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the row is ``failed`` already.
        """
        name, scope = require_text("table_name", table_name), self.scope
        text = str(error)
        ends = self._may_have_state(name)
        record = self._commit(lambda draft: rules.fail(draft, scope, name, text))
        if ends:
            self._ended(name)
        return record

    def promote_result_table_with_manifest(  # noqa: PLR0913 - one argument per column
        self,
        table_name: str,
        row_count: int,
        definition_hash: str,
        input_anchors: Sequence[InputAnchor],
        *,
        artifact_digest: str | None = None,
        descriptor_digest: str | None = None,
        build: ResultTableRecord | None = None,
    ) -> ResultTableRecord:
        """Make a ``building`` row ``ready`` with its contract, in one commit (`B076` to `B079`).

        The build's last checkpoint lands in the row. Returns the promoted row, whose ``tenant_id``
        is its owner's whoever promoted it. With the digests of the data and of the descriptor, as
        the sidecar has them, later questions about this row need not read the sidecar. ``build`` is
        the row that was built, as it was last seen: no other build of the name is promoted.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the row is not ``building``, or not that of ``build``: deleted and made
                again, or taken over by another process.
        """
        name, count = require_text("table_name", table_name), require_count("row_count", row_count)
        contract = rules.Contract(
            require_text("definition_hash", definition_hash),
            require_anchors(input_anchors),
            _optional_text("artifact_digest", artifact_digest),
            _optional_text("descriptor_digest", descriptor_digest),
        )
        scope = self.scope
        checkpoint, ends = self._last_checkpoint(name), self._may_have_state(name)
        record = self._commit(
            lambda draft: rules.promote(
                draft, scope, name, count, contract=contract, checkpoint=checkpoint, build=build
            )
        )
        if ends:
            self._ended(name)
        return record

    def delete_result_tables_for_source(
        self, source_id: str, *, cascade: bool = False
    ) -> list[ResultTableRecord]:
        """Remove this tenant's rows of a source and return them, oldest first (`B143` to `B149`).

        An unbound handle removes GLOBAL rows; the admin mark changes nothing. ``cascade`` takes
        the rows derived from them along, as far as this tenant owns those.

        Raises:
            ReferencedError: a row that would stay derives from one that would go.
        """
        source, scope = require_text("source_id", source_id), self.scope
        removed = self._commit(
            lambda draft: rules.delete_for_source(draft, scope, source, cascade=cascade)
        )
        return self._end_builds(removed)

    def delete_result_table(
        self, table_name: str, *, cascade: bool = False
    ) -> list[ResultTableRecord]:
        """Remove one row that this tenant owns and return what was removed (`B151`).

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the row is visible but belongs to another scope.
            ReferencedError: a row that would stay derives from one that would go.
        """
        name, scope = require_text("table_name", table_name), self.scope
        removed = self._commit(lambda draft: rules.delete_one(draft, scope, name, cascade=cascade))
        return self._end_builds(removed)

    def adopt_result_tables(
        self,
        records: Sequence[ResultTableRecord],
        *,
        copied_since: int | None = None,
        objects: Sequence[str] = (),
    ) -> list[str]:
        """Insert complete rows in any status and of any tenant; return the names inserted.

        For imports: names that exist are left as they are, so a second run changes nothing. Until
        the commit no row names what was copied under the root, so vacuum may take it for garbage:
        give the version that was the newest before the first was copied, and the keys.

        Raises:
            InvalidInputError: a name or a path is wrong.
            ConflictError: vacuum ran since, or an object is gone: nothing was inserted, import
                again.
        """
        records = [self._adoptable(record) for record in records]

        def change(draft: Draft) -> list[str]:
            if copied_since is not None:
                rules.require_no_vacuum(draft, copied_since)
            for key in objects:
                if self._storage.size(key) is None:
                    raise ConflictError(f"'{key}' was deleted before a row named it; import again")
            return rules.adopt(draft, records)

        return self._commit(change) if records else []

    def _last_checkpoint(self, table_name: str) -> int | None:
        row = self._peek(table_name) or self._seen()[0].get(table_name)
        if row is None or not self.scope.sees(row.record.tenant_id):
            return None  # nobody else's build state is read: it might be damaged, and that be told
        return lease.last_checkpoint(self._storage, row.record)

    def _may_have_state(self, table_name: str) -> bool:
        row = self._peek(table_name)
        if row is None:
            return True
        is_building = row.record.status is ResultTableStatus.BUILDING
        return is_building and lease.may_have_state(self._storage, row.record)

    def _dead_leases(self, table_name: str) -> list[Lease | None]:
        """Return the lease of a building row if its build is dead."""
        row = self._seen()[0].get(table_name)
        if row is None or not self.scope.owns(row.record.tenant_id):
            return []
        if row.record.status is not ResultTableStatus.BUILDING:
            return []
        alive = lease.find_build_death(self._storage, row.record) is None
        return [] if alive else [row.record.lease]

    def _end_builds(self, removed: list[ResultTableRecord]) -> list[ResultTableRecord]:
        for record in removed:
            is_building = record.status is ResultTableStatus.BUILDING
            if is_building and lease.may_have_state(self._storage, record):
                self._ended(record.table_name)
        return removed

    def _adoptable(self, record: ResultTableRecord) -> ResultTableRecord:
        """Return a record that is to be adopted; what it refers to by an absolute path stays so."""
        require_table_name(record.table_name)
        path, index = record.parquet_path, record.index_path
        stored = self._stored_path("parquet_path", path)
        at = None if index is None else self._stored_path("index_path", index)
        if (stored, at) == (path, index) or _is_absolute(path):
            return record
        return dataclasses.replace(record, parquet_path=stored, index_path=at)

    def _stored_path(self, what: str, path: str) -> str:
        """Return a path relative to the root if it lies under it, else as it is (`B055`).

        One object has one such path, so that rows which name it can be told by comparing.
        """
        given = require_text(what, path)
        text = self._storage.relative(given)
        if "\0" in text:
            raise InvalidInputError(f"{what} {path!r} leaves the root")
        if text == given and _is_absolute(text):
            return text
        text = "/".join(part for part in text.split("/") if part not in ("", "."))
        parts = text.replace("\\", "/").split("/")
        if ".." in parts:
            raise InvalidInputError(f"{what} {path!r} leaves the root")
        if not text:
            raise InvalidInputError(f"{what} {path!r} is the root itself; expected an object in it")
        if CATALOG in map(str.casefold, parts):  # some file systems take both for one name
            raise InvalidInputError(f"{what} {path!r} lies among the catalog's own objects")
        if what != "index_path" and (text.endswith(naming.SIBLINGS) or is_temporary(text)):
            msg = f"{what} {path!r} ends like what lies beside data; expected e.g. '<name>.parquet'"
            raise InvalidInputError(msg)
        return text


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or _SCHEME.match(path) is not None


def _optional_text(what: str, value: str | None) -> str | None:
    return None if value is None else require_text(what, value)


def _checked_properties(properties: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(properties, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in properties.items()
    ):
        raise InvalidInputError(f"properties must map strings to strings, not {properties!r}")
    for key, value in properties.items():
        require_utf8("a property's name", key)
        require_utf8(f"property '{key}'", value)
    return dict(properties)
