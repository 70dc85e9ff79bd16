"""The catalog of one root: jammi-db's result-table operations, each change one version.

A handle carries its scope: ``pinned_to_tenant`` and ``as_admin`` give further handles over the same
catalog; there is no ambient switch. Handles are safe to share between threads.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

import pyarrow as pa

from jammi_files import events, lease, manifest, root_format, rules
from jammi_files.draft import CatalogCodec, Draft, merge_segments
from jammi_files.errors import InvalidInputError, JammiFilesError, StateError, VersionNotFoundError
from jammi_files.events import Event
from jammi_files.header import SegmentInfo
from jammi_files.history import CommitInfo, find_version_at, read_history
from jammi_files.hooks import Observers
from jammi_files.log import Log
from jammi_files.reads import CatalogSnapshot, changes_between
from jammi_files.retention import require_tag_name
from jammi_files.roots import open_storage
from jammi_files.rows import Row
from jammi_files.schema import ResultTableRecord, ResultTableStatus
from jammi_files.scope import Scope, TenantId
from jammi_files.snapshot import Snapshot
from jammi_files.storage import Durability, Storage
from jammi_files.timestamps import parse_instant
from jammi_files.transaction import Transaction
from jammi_files.upkeep import Upkeep
from jammi_files.validation import require_count, require_text

R = TypeVar("R")


class _Shared:
    """What all handles over one root in one process have in common."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.codec = CatalogCodec(storage)
        self.log: Log[Snapshot, Draft] = Log(storage, self.codec)
        self.observers = Observers(storage.root)
        self.merging = threading.Lock()
        self.may_write = False
        self.format = self._look()

    def _look(self) -> root_format.RootFormat | None:
        """Read the root's format; where every answer takes long, list the log meanwhile."""
        if self.storage.is_locked:
            return root_format.read(self.storage)
        with ThreadPoolExecutor(1) as pool:
            listing = pool.submit(self.log.numbering.list_ahead)
            found = root_format.read(self.storage)
            listing.result()
        return found


class Catalog(Upkeep):
    """A handle on the catalog of one root, bound to one scope."""

    def __init__(
        self,
        storage: Storage,
        *,
        scope: Scope = Scope(),
        max_staleness: float = 0.0,
        _shared: _Shared | None = None,
    ) -> None:
        is_number = isinstance(max_staleness, (int, float)) and not isinstance(max_staleness, bool)
        if not is_number or not max_staleness >= 0:
            raise InvalidInputError(f"max_staleness must be seconds >= 0, not {max_staleness!r}")
        self._storage = storage
        self._scope = scope
        self._max_staleness = max_staleness
        self._shared = _shared or _Shared(storage)
        self._observers = self._shared.observers

    @classmethod
    def open(  # noqa: PLR0913 - each says one thing of where and how
        cls,
        root: str | os.PathLike[str],
        *,
        tenant: str | uuid.UUID | None = None,
        storage_options: Mapping[str, Any] | None = None,
        durability: Durability = "fsync",
        max_staleness: float = 0.0,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Open the catalog at a path or URL; the first write creates it.

        ``tenant`` binds the handle; None is unbound and sees GLOBAL rows only. ``durability="os"``
        leaves syncing to the operating system: a crash of the machine may lose the last commits.
        Reads are always current unless ``max_staleness`` (seconds) lets them skip the check.
        In a bucket ``storage_options`` go to s3fs, gcsfs or adlfs, credentials of the environment
        are found by those, and immutable segments are cached in ``cache_dir`` (default: among the
        user's caches; ``"off"`` for none).

        Raises:
            InvalidInputError: a wrong argument.
            StorageError: the root is a file or cannot be read.
            FormatError: the directory's ``format.json`` is not of this library, or too new.
        """
        scope = Scope(None if tenant is None else TenantId(tenant))
        storage = open_storage(
            root, storage_options=storage_options, durability=durability, cache_dir=cache_dir
        )
        return cls(storage, scope=scope, max_staleness=max_staleness)

    def __reduce__(self) -> tuple[Callable[..., Catalog], tuple[Storage, Scope, float]]:
        return _reopen, (self._storage, self._scope, self._max_staleness)

    def __repr__(self) -> str:
        who = "admin" if self._scope.admin else self._scope.tenant or "unbound"
        return f"<Catalog {self._storage.root} {who}>"

    @property
    def storage(self) -> Storage:
        """The bytes under the root."""
        return self._storage

    @property
    def scope(self) -> Scope:
        """What this handle may see and change."""
        return self._scope

    @property
    def tenant(self) -> TenantId | None:
        """The tenant that this handle is bound to, None if unbound."""
        return self._scope.tenant

    @property
    def version(self) -> int:
        """The number of the newest commit; 0 for an empty catalog."""
        return self._head().version

    @property
    def log(self) -> Log[Snapshot, Draft]:
        """The versions behind this catalog, for `fsck`; they know no tenants."""
        return self._shared.log

    @property
    def exists(self) -> bool:
        """True once something has been committed, or a first commit has begun."""
        return self._shared.format is not None or root_format.read(self._storage) is not None

    def pinned_to_tenant(self, tenant: str | uuid.UUID | None) -> Catalog:
        """Return a handle over the same catalog bound to ``tenant``, without the admin mark."""
        return self._with(Scope(None if tenant is None else TenantId(tenant)))

    def as_admin(self) -> Catalog:
        """Return a handle that sees every tenant's rows; what it creates keeps this tenant."""
        return self._with(Scope(self._scope.tenant, admin=True))

    def current(self) -> Catalog:
        """Return this handle without its ``max_staleness``: for whoever deletes by what it says."""
        return Catalog(self._storage, scope=self._scope, _shared=self._shared)

    def snapshot(
        self,
        version: int | None = None,
        as_of: str | dt.datetime | None = None,
        *,
        tag: str | None = None,
    ) -> CatalogSnapshot:
        """Return the catalog pinned at a version, at an instant, at a tag, or now.

        ``as_of`` takes the newest version committed at or before it; versions are taken to have
        been committed in the order of their numbers.

        Raises:
            InvalidInputError: more than one is given, or one is malformed.
            VersionNotFoundError: no such version or tag, or vacuum retired it.
        """
        if sum(each is not None for each in (version, as_of, tag)) > 1:
            raise InvalidInputError("give one of version, as_of and tag")
        if tag is not None:
            version = self._head().header.retention.find(require_tag_name(tag))
        if as_of is not None:
            version = find_version_at(self._shared.log, parse_instant(as_of))
        if version is None:
            return CatalogSnapshot(self._head(), self._scope, self)
        number = require_count("version", version)
        return CatalogSnapshot(self._shared.log.at(number), self._scope, self)

    def last_seen(self) -> CatalogSnapshot:
        """Return the newest version that this process has seen: asks nothing, may be behind."""
        return CatalogSnapshot(self._shared.log.known, self._scope, self)

    def history(self, limit: int | None = None, *, since: int = 0) -> list[CommitInfo]:
        """Return the commits that changed visible rows, oldest first; admin sees every commit.

        ``limit`` asks for the newest, ``since`` for those after a version. Costs one read per
        version; what vacuum has retired is forgotten.
        """
        count = None if limit is None else require_count("limit", limit)
        return read_history(self._shared.log, self._scope, count, require_count("since", since))

    def changes(self, since: int, until: int | None = None) -> pa.Table:
        """Return what differs between version ``since`` and ``until`` (now), net, in no order.

        Columns: ``change_type`` (insert, update, delete), ``version`` (that made the change),
        then `SCHEMA`. An insert or update shows the new row, a delete the last one.

        Raises:
            VersionNotFoundError: one of them was never committed, or vacuum retired it.
        """
        new = self._head() if until is None else self._shared.log.at(require_count("until", until))
        return changes_between(self._shared.log.at(require_count("since", since)), new, self._scope)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Make many changes one version: ``with catalog.transaction() as tx: tx.create…``.

        The block sees its own changes and no one else's: other writers wait (on storage without
        a lock the commit raises `ConflictError` instead if one came first). An exception leaves
        no trace. Keep the block short, and do not use the catalog's own writes inside it.
        """
        self._prepare()
        with self._observers.transaction(self._shared.log, self._scope) as draft:
            tx = Transaction(draft, self._storage, self._scope)
            try:
                yield tx
            finally:
                tx.close()
        for name in tx.ended:
            self._ended(name)
        self._merge_if_due()

    def set_checkpoint(self, table_name: str, batch: int, *, force: bool = False) -> None:
        """Record how far a build has come and renew its lease: no version is made (`B161`, `B165`).

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the row is not ``building``, or ``batch`` is smaller than the last
                checkpoint and ``force`` is False.
        """
        number = require_count("batch", batch)
        record = self._building(table_name)
        last = lease.last_checkpoint(self._storage, record)
        if last is not None and number < last and not force:
            raise StateError(f"checkpoint {number} is behind {last}; pass force=True to go back")
        lease.write_state(self._storage, record, number)

    def get_checkpoint(self, table_name: str) -> int | None:
        """Return the last checkpoint; None if there is none or the row is not visible (`B161`)."""
        record = self.get_result_table(table_name)
        if record is None or record.status is not ResultTableStatus.BUILDING:
            return None if record is None else record.checkpoint
        last = lease.read_checkpoint(self._storage, record)
        return record.checkpoint if last is None else last

    def renew_lease(self, table_name: str) -> None:
        """Say that this process still builds the table; makes no version.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the row is not ``building``.
        """
        record = self._building(table_name)
        checkpoint = lease.last_checkpoint(self._storage, record)
        lease.write_state(self._storage, record, checkpoint)

    def _building(self, table_name: str) -> ResultTableRecord:
        require_text("table_name", table_name)
        record = rules.visible_row(Draft(self._head()), self._scope, table_name).record
        if record.status is not ResultTableStatus.BUILDING:
            raise StateError(f"Result table '{table_name}' is {record.status}, not building")
        return record

    def plan_delete(self, table_name: str, *, cascade: bool = False) -> list[ResultTableRecord]:
        """Return what `delete_result_table` would remove, raising as it would (`B151`)."""
        name = require_text("table_name", table_name)
        return rules.delete_one(Draft(self._head()), self._scope, name, cascade=cascade)

    def promote_unchanged(
        self, seen: ResultTableRecord, row_count: int, contract: rules.Contract
    ) -> ResultTableRecord:
        """Promote a row for recovery if it is still the one that was looked at."""
        name, checkpoint = seen.table_name, self._last_checkpoint(seen.table_name)

        def change(draft: Draft) -> ResultTableRecord:
            rules.require_unchanged(draft, seen)
            return rules.promote(
                draft, self._scope, name, row_count, contract=contract, checkpoint=checkpoint
            )

        return self._commit(change)

    def fail_unchanged(self, seen: ResultTableRecord, error: str) -> ResultTableRecord:
        """Fail a row if it is still the one that was looked at: by recovery, or a lost build."""

        def change(draft: Draft) -> ResultTableRecord:
            rules.require_unchanged(draft, seen)
            return rules.fail(draft, self._scope, seen.table_name, error)

        failed = self._commit(change)
        if lease.may_have_state(self._storage, seen):
            self._ended(seen.table_name)
        return failed

    def compact(self) -> int:
        """Merge all segments into one and return the version that lists it.

        The answers of the catalog stay the same; rarely needed, as commits merge as they go.
        """
        with self._shared.merging:
            while True:
                segments = self._head().runs.segments
                if len(segments) < 2 or self._merge([s.info for s in segments], "compact"):
                    return self._shared.log.known.version

    def _seen(self) -> tuple[Snapshot, Scope]:
        if self._shared.format is None:
            return self._head(), self._scope
        return self._shared.log.head(self._max_staleness), self._scope

    def _head(self) -> Snapshot:
        head = self._shared.log.head(self._max_staleness)
        if self._shared.format is None and head.version:  # opened before there was a catalog
            self._shared.format = root_format.read(self._storage)
            return self._shared.log.head()
        return head

    def _with(self, scope: Scope) -> Catalog:
        return Catalog(
            self._storage, scope=scope, max_staleness=self._max_staleness, _shared=self._shared
        )

    def _prepare(self) -> None:
        if not self._shared.may_write:
            self._shared.format = root_format.ensure(self._storage, self._shared.format)
            self._shared.may_write = True

    def _commit(self, change: Callable[[Draft], R]) -> R:
        self._prepare()
        result = self._observers.commit(self._shared.log, change, self._scope)
        self._merge_if_due()
        return result

    def _peek(self, table_name: str) -> Row | None:
        return self._shared.log.known.get(table_name)

    def _ended(self, table_name: str) -> None:
        lease.delete_state(self._storage, table_name)

    def _merge_if_due(self) -> None:
        """Merge what the last commit made due; that commit stands, whatever comes of the merge."""
        if not self._shared.log.known.merge_due:
            return
        if self._shared.merging.acquire(blocking=False):
            try:
                infos = [segment.info for segment in self._shared.log.known.runs.segments]
                while crowd := manifest.find_merge(infos):
                    self._merge(crowd, "merge")
                    infos = [segment.info for segment in self._shared.log.known.runs.segments]
            except JammiFilesError as error:
                events.warn(Event.NOT_MERGED, "put off a merge of segments: %s", error)
            finally:
                self._shared.merging.release()

    def _merge(self, crowd: Sequence[SegmentInfo], operation: str) -> bool:
        """Merge outside the lock, commit the swap; False, nothing done, if it came too late."""
        known = self._shared.log.known
        everything = known.runs.segments
        merging = [segment for segment in everything if segment.info in crowd]
        if len(merging) < len(crowd):  # another thread has read a version that lists others
            return False
        try:
            merged = merge_segments(merging, everything)
        except VersionNotFoundError:  # vacuum deleted them: a newer version lists others
            self._shared.log.head()
            return False
        if merged is not None:
            self._shared.codec.save(merged)
        swapped = self._shared.log.commit(
            lambda draft: draft.swap_runs(crowd, merged, operation, since=known.version)
        )
        if swapped:
            events.debug(Event.MERGED, "merged %s segments", len(crowd), segments=len(crowd))
        elif merged is not None:
            self._storage.delete(merged.info.key)
        return swapped


def _reopen(storage: Storage, scope: Scope, max_staleness: float) -> Catalog:
    return Catalog(storage, scope=scope, max_staleness=max_staleness)
