"""A log of numbered immutable versions over bytes that it never looks into.

Version N lives at ``<prefix>/<N // 1000, 17 digits>/<N, 20 digits>.parquet``, so two plain listings
find the newest. A commit creates the name of version N + 1 exclusively; whoever loses re-applies
its change to the winner's state and tries again (FORMAT section "Commit"). Version numbers are
never reused: a retired version keeps its name with an empty body.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from jammi_files.errors import (
    CommitUnknownError,
    ConflictError,
    FormatError,
    JammiFilesError,
    StorageError,
    VersionNotFoundError,
)
from jammi_files.storage import Storage, nested_use

PREFIX = "_catalog/manifest"
GROUP = 1000
MAX_ATTEMPTS = 64
MAX_SECONDS = 60.0

_GROUP_NAME = re.compile(r"\d{17}", re.ASCII)
_VERSION_NAME = re.compile(r"(\d{20})\.parquet", re.ASCII)


class State(Protocol):
    """What a version decodes to; immutable."""

    @property
    def version(self) -> int:
        """The version's number; 0 is the empty log."""

    @property
    def commit_id(self) -> str:
        """The id by which a commit whose answer was lost can be recognised."""


S = TypeVar("S", bound=State)
D = TypeVar("D")
R = TypeVar("R")


class Codec(Protocol[S, D]):
    """How the log's user turns bytes into states and changes into bytes."""

    def empty(self) -> S:
        """Return the state before the first commit."""

    def decode(self, version: int, data: bytes, known: S) -> S:
        """Read a version; what ``known`` has loaded already may be reused."""

    def draft(self, state: S) -> D:
        """Begin a change of ``state``."""

    def mark(self, draft: D) -> object:
        """Return a point in the draft to which `rollback` can go back."""

    def rollback(self, draft: D, mark: object) -> None:
        """Undo what the draft has taken since ``mark``."""

    def encode(self, draft: D) -> tuple[bytes, S] | None:
        """Return the next version's bytes and state, or None when the draft holds no change."""


class _Ticket:
    """One caller's change on its way through a commit that it may share with other threads."""

    __slots__ = ("answered", "batch", "change", "error", "finished", "leads", "result", "wake")

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self.change = change
        self.result: Any = None
        self.error: BaseException | None = None
        self.answered = False  # result or error is known to be true
        self.finished = False  # the caller may go on
        self.leads = False
        self.batch: list[_Ticket] = []  # what this ticket's thread commits while it leads
        self.wake = threading.Event()


class Log(Generic[S, D]):
    """The versions under one storage, and the newest state that this process has seen."""

    def __init__(self, storage: Storage, codec: Codec[S, D]) -> None:
        self._storage = storage
        self._codec = codec
        self._head = codec.empty()
        self._checked_at = float("-inf")
        self._transaction_thread: int | None = None
        self.forget_threads()
        _LOGS.add(self)

    def forget_threads(self) -> None:
        """Start without callers: a forked child has none of its parent's threads."""
        self._queue: list[_Ticket] = []
        self._mutex = threading.Lock()
        self._leading = False
        self._transaction_thread = None

    @property
    def known(self) -> S:
        """The newest state seen so far; costs nothing and may be behind."""
        return self._head

    def head(self, max_staleness: float = 0.0) -> S:
        """Return the newest state: one existence check unless one was made recently.

        ``max_staleness`` is in seconds; 0 always checks.
        """
        now = time.monotonic()
        if max_staleness > 0 and now - self._checked_at < max_staleness:
            return self._head
        state = self._advance()
        self._checked_at = now
        return state

    def at(self, version: int) -> S:
        """Return the state at ``version``.

        Raises:
            VersionNotFoundError: it was never committed, or has been retired.
        """
        known = self._head
        if version == known.version:
            return known
        if version == 0:
            return self._codec.empty()
        data = self.read(version)
        return self._codec.decode(version, data, known)

    def read(self, version: int) -> bytes:
        """Return a version's bytes.

        Raises:
            VersionNotFoundError: it was never committed, or has been retired.
        """
        try:
            data = self._storage.read(key_of(version))
        except FileNotFoundError:
            msg = f"version {version} does not exist in {self._storage.root}"
            raise VersionNotFoundError(msg) from None
        if not data:
            msg = f"version {version} was retired by vacuum; newer versions hold its rows"
            raise VersionNotFoundError(msg)
        return data

    def versions(self) -> list[int]:
        """Return every version number in the log, ascending, retired ones included."""
        return [number for group in self._groups() for number in self._versions_in(group)]

    def commit(self, change: Callable[[D], R]) -> R:
        """Apply ``change`` to the newest state and make the outcome the next version.

        ``change`` is a pure function of the draft it is given: it runs again after a conflict. If
        it raises, nothing of it is committed. Threads that commit at once share a version.

        Raises:
            ConflictError: other writers kept winning; certainly not applied.
            CommitUnknownError: the storage failed and the version may exist.
        """
        if self._transaction_thread == threading.get_ident():
            raise nested_use()
        ticket = _Ticket(change)
        try:
            with self._mutex:
                self._queue.append(ticket)
                ticket.leads = not self._leading
                self._leading = True
            if not ticket.leads:
                ticket.wake.wait()
            if not ticket.finished:
                self._lead(ticket)
        finally:
            self._settle(ticket)
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[no-any-return]  # what `change` returned

    @contextlib.contextmanager
    def transaction(self) -> Iterator[D]:
        """Hold the writers' lock, yield a draft of the newest state, commit it at the end.

        Where the storage has no lock the commit may lose: then `ConflictError`, certainly not
        applied. An exception in the block leaves no trace.
        """
        if self._transaction_thread == threading.get_ident():
            raise nested_use()
        with self._storage.lock():
            self._transaction_thread = threading.get_ident()
            try:
                draft = self._codec.draft(self._advance())
                yield draft
                if not self._append(draft):
                    msg = "another writer committed first; nothing of the transaction was applied"
                    raise ConflictError(msg)
            finally:
                self._transaction_thread = None

    def _lead(self, ticket: _Ticket) -> None:
        """Commit everything that waits."""
        try:
            self._commit_batch(ticket)
        except Exception as error:  # noqa: BLE001 - every waiting caller gets it
            for each in ticket.batch:
                each.error, each.answered = each.error or error, True

    def _settle(self, ticket: _Ticket) -> None:
        """Let those go on for whom this thread has led, and hand the lead to one who waits.

        Also after an interrupt, wherever it struck: nobody waits for a thread that is gone.
        """
        for each in ticket.batch:
            if not each.answered:
                each.error = _interrupted(self._head.version + 1)
            each.finished = True
            each.wake.set()
        with self._mutex:
            if ticket in self._queue:
                self._queue.remove(ticket)
            if ticket.leads:
                ticket.leads = False
                heir = self._queue[0] if self._queue else None
                self._leading = heir is not None
                if heir is not None:
                    heir.leads = True
                    heir.wake.set()

    def _commit_batch(self, ticket: _Ticket) -> None:
        deadline = time.monotonic() + MAX_SECONDS
        for attempt in range(MAX_ATTEMPTS):
            with self._locked(ticket):
                self._take(ticket)  # only now: all who came while others held the lock share it
                draft = self._codec.draft(self._advance())
                for each in ticket.batch:
                    self._apply(each, draft)
                if self._append(draft):
                    for each in ticket.batch:
                        each.answered = True
                    return
            if time.monotonic() > deadline:
                break
            time.sleep(random.uniform(0, min(1.0, 0.002 * 2**attempt)))  # noqa: S311 - jitter
        msg = f"other writers won {attempt + 1} times in a row; nothing was applied, retry safely"
        raise ConflictError(msg)

    @contextlib.contextmanager
    def _locked(self, ticket: _Ticket) -> Iterator[None]:
        """Hold the writers' lock; an error of the lock is everybody's who waits for it."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._storage.lock())
            except Exception:
                self._take(ticket)
                raise
            yield

    def _take(self, ticket: _Ticket) -> None:
        with self._mutex:
            ticket.batch += self._queue
            self._queue.clear()

    def _apply(self, ticket: _Ticket, draft: D) -> None:
        mark = self._codec.mark(draft)
        ticket.error = None
        try:
            ticket.result = ticket.change(draft)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            self._codec.rollback(draft, mark)
            ticket.error = error

    def _append(self, draft: D) -> bool:
        """Create the next version; False if another writer has it, nothing being applied."""
        encoded = self._codec.encode(draft)
        if encoded is None:
            return True
        data, state = encoded
        key = key_of(state.version)
        try:
            self._storage.create(key, data)
        except FileExistsError:
            return False
        except StorageError as error:
            if self._storage.size(key) is None:
                raise
            msg = f"version {state.version} may have been committed: {error}"
            raise CommitUnknownError(msg, state.commit_id) from error
        self._adopt(state)
        return True

    def _advance(self) -> S:
        """Move on to the newest version: one existence check when there is no newer one."""
        head = self._head
        if head.version == 0:
            newest = self._newest()
        elif self._storage.size(key_of(head.version + 1)) is None:
            return head
        else:
            newest = self._newest(head.version + 1)
        if newest == head.version:
            return head
        while True:
            try:
                data = self.read(newest)
            except VersionNotFoundError:  # retired since it was listed, so a newer one exists
                newer = self._newest(newest)
                if newer == newest:
                    msg = f"{key_of(newest)} is the newest version and empty; run fsck"
                    raise FormatError(msg) from None
                newest = newer
            else:
                return self._adopt(self._codec.decode(newest, data, head))

    def _adopt(self, state: S) -> S:
        with self._mutex:
            if state.version > self._head.version:
                self._head = state
            return self._head

    def _newest(self, at_least: int = 0) -> int:
        """Find the newest version by listing the last groups (an empty one is a crash's trace)."""
        for group in reversed(self._groups()):
            if group < at_least // GROUP:
                break
            numbers = self._versions_in(group)
            if numbers:
                return max(numbers[-1], at_least)
        return at_least

    def _groups(self) -> list[int]:
        return [int(name) for name in self._storage.list(PREFIX) if _GROUP_NAME.fullmatch(name)]

    def _versions_in(self, group: int) -> list[int]:
        names = self._storage.list(f"{PREFIX}/{group:017d}")
        return [int(match[1]) for name in names if (match := _VERSION_NAME.fullmatch(name))]


_LOGS: weakref.WeakSet[Log[Any, Any]] = weakref.WeakSet()


def _forget_threads() -> None:
    for log in _LOGS:
        log.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def key_of(version: int) -> str:
    """Return the key of a version's object."""
    return f"{PREFIX}/{version // GROUP:017d}/{version:020d}.parquet"


def _interrupted(version: int) -> JammiFilesError:
    msg = f"the thread that was committing version {version} was interrupted"
    return CommitUnknownError(msg, commit_id="")
