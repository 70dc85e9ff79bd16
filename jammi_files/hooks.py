"""Who is told of a change once it stands: the logger, OpenTelemetry, and the hooks of callers.

A change is told of by the thread that asked for it, once the version that holds it is durable and
no lock is held; with nobody to tell, a commit costs two comparisons more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeAlias, TypeVar

from jammi_files import events, tracing
from jammi_files.draft import Change, Draft
from jammi_files.errors import InvalidInputError
from jammi_files.events import Event
from jammi_files.log import Log
from jammi_files.reads import admit_table
from jammi_files.schema import ResultTableRecord, ResultTableStatus
from jammi_files.scope import Scope, hearer
from jammi_files.snapshot import Snapshot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommitEvent:
    """A change of this process is durable: what `Hooks.on_commit` is told.

    ``version`` is the version that holds it. ``operation`` is what was done: ``create``,
    ``update``, ``ready``, ``failed``, ``delete``, ``import``, ``tag``, ``untag`` or ``vacuum``, and
    several joined by ``+`` if the change was a transaction. ``rows`` is how many rows it changed.
    Both say nothing of rows that the subscriber's scope does not see. ``attempts`` is how often it
    was applied, 1 unless other writers came first; ``seconds`` is how long all of it took.
    """

    root: str
    version: int
    operation: str
    rows: int
    attempts: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadyEvent:
    """A row of this process became ``ready``: what `Hooks.on_ready` is told.

    ``record`` is the row as it stands in ``version``: made, promoted by recovery, or imported.
    """

    root: str
    version: int
    record: ResultTableRecord

    @property
    def table_name(self) -> str:
        """The result's name."""
        return self.record.table_name


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent:
    """A row of this process became ``failed``: what `Hooks.on_failed` is told.

    ``record`` is the row as it stands in ``version``.
    """

    root: str
    version: int
    record: ResultTableRecord

    @property
    def table_name(self) -> str:
        """The result's name."""
        return self.record.table_name

    @property
    def error(self) -> str | None:
        """The text of the error, None if nobody gave one."""
        return (self.record.properties or {}).get("error")


CommitHook: TypeAlias = Callable[[CommitEvent], object]
ReadyHook: TypeAlias = Callable[[ReadyEvent], object]
FailedHook: TypeAlias = Callable[[FailedEvent], object]

H = TypeVar("H", bound=Callable[..., object])
R = TypeVar("R")


@dataclasses.dataclass(frozen=True, slots=True)
class _Subscription:
    kind: type[CommitEvent | ReadyEvent | FailedEvent]
    scope: Scope
    hook: Callable[[Any], object]


class Hooks:
    """What is called after changes of this process, as far as one handle's scope sees them.

    They belong to one `connect` and are called for what any handle that stems from it changes, be
    it another tenant's: a hook of a handle bound to a tenant hears of that tenant's and of GLOBAL
    rows, one of an unbound handle of GLOBAL rows, one of ``as_admin()`` of all. Each is a
    decorator, and returns what it is given.

    A hook is called after the change is durable and holding no lock, by the thread that asked for
    the change, before its call returns; so a slow hook makes that call slow. It may use the store.
    What it raises is logged as ``hook_failed``; the change stands, other hooks are called. Of two
    processes only the one hears that made the change, and a process that is killed between change
    and call tells nobody: follow `Catalog.changes` to miss nothing. A pickled handle takes no hooks
    along; a forked process has those of its parent.
    """

    def __init__(self, observers: Observers, scope: Scope) -> None:
        self._observers = observers
        self._scope = scope

    def on_commit(self, hook: Callable[[CommitEvent], R]) -> Callable[[CommitEvent], R]:
        """Call ``hook`` after each commit that changed rows, tags or, by vacuum, what is kept.

        A commit of tags or of vacuum is told to unbound handles and admins. Merges of segments,
        which change no answer, are not told.

        Raises:
            InvalidInputError: ``hook`` cannot be called.
        """
        return self._subscribe(CommitEvent, hook)

    def on_ready(self, hook: Callable[[ReadyEvent], R]) -> Callable[[ReadyEvent], R]:
        """Call ``hook`` for each row that became ``ready``: built, recovered or imported.

        Raises:
            InvalidInputError: ``hook`` cannot be called.
        """
        return self._subscribe(ReadyEvent, hook)

    def on_failed(self, hook: Callable[[FailedEvent], R]) -> Callable[[FailedEvent], R]:
        """Call ``hook`` for each row that became ``failed``: by an exception, or by recovery.

        Raises:
            InvalidInputError: ``hook`` cannot be called.
        """
        return self._subscribe(FailedEvent, hook)

    def remove(self, hook: Callable[..., object]) -> None:
        """Call ``hook`` no more for what it was subscribed to in this scope.

        Raises:
            InvalidInputError: it is not subscribed.
        """
        mine = [
            each
            for each in list(self._observers.subscribed)
            if each.hook == hook and each.scope == self._scope
        ]
        if not mine:
            raise InvalidInputError(f"{hook!r} is no hook of this scope")
        for each in mine:
            with contextlib.suppress(ValueError):  # another thread was first
                self._observers.subscribed.remove(each)

    def _subscribe(self, kind: type[CommitEvent | ReadyEvent | FailedEvent], hook: H) -> H:
        if not callable(hook):
            raise InvalidInputError(f"a hook must be callable with one event, not {hook!r}")
        self._observers.subscribed.append(_Subscription(kind, self._scope, hook))
        return hook


class Observers:
    """What the handles of one `connect` share: who is told, and the telling."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.subscribed: list[_Subscription] = []
        """Appended to and removed from in single steps, so that threads need no lock."""

    def commit(self, log: Log[Snapshot, Draft], change: Callable[[Draft], R], scope: Scope) -> R:
        """Do as `Log.commit`, and tell of it; ``scope`` is that of the handle that commits."""
        if not self._is_watched():
            return log.commit(change)
        watched, started = _Watched(change), time.perf_counter()
        with tracing.span("commit", root=self._root) as span:
            result = log.commit(watched)
            seconds = time.perf_counter() - started
            told = _Told(self._root, scope, watched.seen, watched.attempts, seconds)
            told.describe(span)
        self._tell(told)
        return result

    @contextlib.contextmanager
    def transaction(self, log: Log[Snapshot, Draft], scope: Scope) -> Iterator[Draft]:
        """Do as `Log.transaction`, and tell of it."""
        started = time.perf_counter()
        with tracing.span("commit", root=self._root) as span:
            with log.transaction() as draft:
                begun = draft.mark()
                yield draft
            seconds = time.perf_counter() - started
            told = _Told(self._root, scope, draft.since(begun), 1, seconds)
            told.describe(span)
        self._tell(told)

    def tell_upkeep(self, version: int, operation: str, seconds: float, scope: Scope) -> None:
        """Tell of a commit that concerned no row."""
        self._tell(_Told(self._root, scope, Change(version, (), (), operation), 1, seconds))

    def _is_watched(self) -> bool:
        return bool(self.subscribed) or events.is_heard(logging.INFO) or tracing.is_used()

    def _tell(self, told: _Told) -> None:
        if not told.change:
            return
        told.log()
        for kind in (CommitEvent, ReadyEvent, FailedEvent) if self.subscribed else ():
            for each in list(self.subscribed):
                if each.kind is kind:
                    for event in told.events(kind, each.scope):
                        _call(each.hook, event)


class _Watched(Generic[R]):
    """A change that remembers what it changed, however often it is applied."""

    def __init__(self, change: Callable[[Draft], R]) -> None:
        self._change = change
        self.attempts = 0
        self.seen = Change(0, (), (), None)

    def __call__(self, draft: Draft) -> R:
        self.attempts += 1
        begun = draft.mark()
        result = self._change(draft)
        self.seen = draft.since(begun)
        return result


@dataclasses.dataclass(frozen=True, slots=True)
class _Told:
    """A change that stands, to be told of.

    Spans and the logger, which know no tenants, are told what the committing handle itself sees:
    an import or a recovery may change rows of others.
    """

    root: str
    scope: Scope
    change: Change
    attempts: int
    seconds: float

    def describe(self, span: tracing.Span) -> None:
        """Give the attributes of its span, if there is one."""
        if not tracing.is_used():
            return
        scope = hearer(self.scope)
        operation, rows = self._summary(scope)
        if operation:
            span.set(
                version=self.change.version,
                operation=operation,
                rows=rows,
                attempts=self.attempts,
                table_name=self._only_name(scope),
            )

    def log(self) -> None:
        """Tell the logger."""
        scope, version = hearer(self.scope), self.change.version
        operation, rows = self._summary(scope) if events.is_heard(logging.DEBUG) else ("", 0)
        if operation:
            name = self._only_name(scope)
            events.debug(
                Event.COMMIT,
                "version %s: %s",
                version,
                operation,
                root=self.root,
                version=version,
                operation=operation,
                rows=rows,
                attempts=self.attempts,
                seconds=self.seconds,
                **({} if name is None else {"table_name": name}),
            )
        if events.is_heard(logging.INFO):
            for record in self._ended(ResultTableStatus.READY, scope):
                self._log_end(Event.READY, record, rows=record.row_count)
            for record in self._ended(ResultTableStatus.FAILED, scope):
                error = (record.properties or {}).get("error")
                self._log_end(Event.FAILED, record, error=error)

    def events(
        self, kind: type[CommitEvent | ReadyEvent | FailedEvent], scope: Scope
    ) -> Iterator[CommitEvent | ReadyEvent | FailedEvent]:
        """Yield what a hook of a scope is told."""
        version = self.change.version
        if kind is CommitEvent:
            operation, rows = self._summary(scope)
            if operation:
                yield CommitEvent(
                    root=self.root,
                    version=version,
                    operation=operation,
                    rows=rows,
                    attempts=self.attempts,
                    seconds=self.seconds,
                )
        elif kind is ReadyEvent:
            for record in self._ended(ResultTableStatus.READY, scope):
                yield ReadyEvent(root=self.root, version=version, record=record)
        else:
            for record in self._ended(ResultTableStatus.FAILED, scope):
                yield FailedEvent(root=self.root, version=version, record=record)

    def _summary(self, scope: Scope) -> tuple[str, int]:
        """Return what was done to the rows that a scope sees, and to how many."""
        done: dict[str, None] = {}
        names: set[str] = set()
        for operation, row in self.change.steps:
            if scope.sees(row.record.tenant_id):
                done[operation] = None
                names.add(row.record.table_name)
        rows = len(names)
        for run in self.change.runs:
            seen = admit_table([run.table], scope, ["table_name"]).num_rows
            rows += seen - sum(run.lookup(name) is not None for name in names)
            done |= {"create": None} if seen else {}
        if self.change.upkeep is not None and scope.is_catalog_wide:
            done[self.change.upkeep] = None
        return "+".join(done), rows

    def _ended(self, status: ResultTableStatus, scope: Scope) -> list[ResultTableRecord]:
        """Return the rows that a scope sees and that have come to an end, each once."""
        rows = {row.record.table_name: row for _, row in self.change.steps}
        return [
            row.record
            for row in rows.values()
            if row.record.status is status and not row.deleted and scope.sees(row.record.tenant_id)
        ]

    def _only_name(self, scope: Scope) -> str | None:
        records = (row.record for _, row in self.change.steps)
        names = {record.table_name for record in records if scope.sees(record.tenant_id)}
        return names.pop() if len(names) == 1 and not self.change.runs else None

    def _log_end(self, event: Event, record: ResultTableRecord, **fields: object) -> None:
        events.info(
            event,
            "%s is %s",
            record.table_name,
            event,
            root=self.root,
            version=self.change.version,
            table_name=record.table_name,
            **fields,
        )


def _call(hook: Callable[[Any], object], event: CommitEvent | ReadyEvent | FailedEvent) -> None:
    try:
        hook(event)
    except Exception as error:  # noqa: BLE001 - the change stands, whatever a hook makes of it
        text = "a hook of %s failed; the change stands: %r"
        told = type(event).__name__
        events.failure(error, Event.HOOK_FAILED, text, told, hook, hook=repr(hook))
