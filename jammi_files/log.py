"""A log of numbered immutable versions over bytes that it never looks into.

Version N lives at ``<prefix>/<N // 1000, 17 digits>/<N, 20 digits>.parquet``, so two plain listings
find the newest. A commit creates the name of version N + 1 exclusively; whoever loses re-applies
its change to the winner's state and tries again (FORMAT section "Commit"). Version numbers are
never reused: a retired version keeps its name with an empty body.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from jammi_files.codec import Codec, D, S
from jammi_files.errors import (
    CommitUnknownError,
    ConflictError,
    FormatError,
    StorageError,
    VersionNotFoundError,
)
from jammi_files.group_commit import CommitQueue, Ticket
from jammi_files.numbering import PREFIX, Numbering, key_of, number_of
from jammi_files.storage import AmbiguousError, ObjectExistsError, Storage, nested_use
from jammi_files.turns import LockedPace, Pace, Turns

__all__ = ["MAX_ATTEMPTS", "MAX_SECONDS", "PREFIX", "Log", "key_of", "number_of"]

MAX_ATTEMPTS = 64
MAX_SECONDS = 60.0

R = TypeVar("R")


class Log(Generic[S, D]):
    """The versions under one storage, and the newest state that this process has seen."""

    def __init__(self, storage: Storage, codec: Codec[S, D]) -> None:
        self._storage = storage
        self._codec = codec
        self.numbering = Numbering(storage)
        self._head = codec.empty()
        self._checked_at = float("-inf")
        self._durable_version = 0
        self._transaction_thread: int | None = None
        self._pace: Pace = LockedPace() if storage.is_locked else Turns(self)
        self.forget_threads()
        _LOGS.add(self)

    def forget_threads(self) -> None:
        """Start without callers: a forked child has none of its parent's threads."""
        self._queue = CommitQueue()
        self._mutex = threading.Lock()
        self._transaction_thread = None

    def reach(self, version: int) -> bool:
        """Move on to a version if it exists: one question."""
        data = self._storage.peek(key_of(version))
        if data is not None:
            self._learn(version, data)
        return data is not None

    @property
    def known(self) -> S:
        """The newest state seen so far; costs nothing and may be behind."""
        return self._head

    def head(self, max_staleness: float = 0.0) -> S:
        """Return the newest state: one existence check unless one was made recently.

        ``max_staleness`` is in seconds; 0 always checks.
        """
        if not max_staleness:
            return self._advance()
        now = time.monotonic()
        if now - self._checked_at < max_staleness:
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

    def newest(self, at_least: int) -> int:
        """Find the newest version by listing; it is not read."""
        return self.numbering.newest(at_least)

    def versions(self) -> list[int]:
        """Return every version number in the log, ascending, retired ones included."""
        return self.numbering.all()

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
        result: R = self._queue.run(change, self._commit_batch)
        return result

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writers' lock; what its last holder died over is made durable first."""
        with self._storage.lock() as was_abandoned:
            if was_abandoned:
                self._advance()
                self.settle()
            yield

    def settle(self) -> None:
        """Make the newest known version durable, whoever made it and may have died over it."""
        version = self._head.version
        if version > self._durable_version:
            self._storage.settle(key_of(version))
            self._durable_version = version

    @contextlib.contextmanager
    def transaction(self) -> Iterator[D]:
        """Hold the writers' lock, yield a draft of the newest state, commit it at the end.

        Where the storage has no lock the commit may lose: then `ConflictError`, certainly not
        applied. An exception in the block leaves no trace.
        """
        if self._transaction_thread == threading.get_ident():
            raise nested_use()
        self._pace.wait(time.monotonic() + MAX_SECONDS)
        with self.writing():
            self._transaction_thread = threading.get_ident()
            try:
                draft = self._codec.draft(self._advance())
                yield draft
                if not self._append(draft):
                    msg = "another writer committed first; nothing of the transaction was applied"
                    raise ConflictError(msg)
            finally:
                self._transaction_thread = None

    def _commit_batch(self, ticket: Ticket) -> None:
        deadline, losses = time.monotonic() + MAX_SECONDS, 0
        while losses < MAX_ATTEMPTS and (losses == 0 or time.monotonic() < deadline):
            with self._locked(ticket, deadline):
                # Only now: all who came while others held the lock share it.
                self._queue.take(ticket)
                if self._try(ticket.batch):
                    for each in ticket.batch:
                        each.answered = True
                    return
            losses += 1
        msg = f"other writers won {losses} times in a row; nothing was applied, retry safely"
        raise ConflictError(msg)

    def _try(self, batch: list[Ticket]) -> bool:
        """Apply a batch and append it; False if it has to be done again.

        So it is also where vacuum has deleted what the attempt stood on: it was not the newest.
        """
        stood_on = self._head.version
        try:
            draft = self._apply_all(batch)
            retired = any(isinstance(each.error, VersionNotFoundError) for each in batch)
            if retired and self._advance().version > stood_on:
                return False
            return self._append_all(batch, draft)
        except VersionNotFoundError:
            if self._advance().version > stood_on:
                return False
            raise

    def _append_all(self, batch: list[Ticket], draft: D) -> bool:
        """Append a batch; if that fails, nobody is refused for a change that may not be there."""
        try:
            return self._append(draft)
        except Exception as error:
            for each in batch:
                if each.error is not None:
                    self._apply(each, self._codec.draft(self._head))
                    each.error, each.answered = each.error or _undecided(error), True
            raise

    def _apply_all(self, batch: list[Ticket]) -> D:
        """Apply a batch to the newest state.

        Without a lock between processes the newest state known is tried first, as creating the
        next version proves it to be the newest; whatever writes nothing has no such proof.
        """
        if not self._storage.is_locked and self._head.version:
            known = self._head
            draft = self._apply_to(known, batch)
            writes_all = self._codec.is_changed(draft) and not any(each.error for each in batch)
            if writes_all or self._advance() is known:
                return draft
            return self._apply_to(self._head, batch)
        return self._apply_to(self._advance(), batch)

    def _apply_to(self, state: S, batch: list[Ticket]) -> D:
        draft = self._codec.draft(state)
        for each in batch:
            self._apply(each, draft)
        return draft

    @contextlib.contextmanager
    def _locked(self, ticket: Ticket, deadline: float) -> Iterator[None]:
        """Wait for the time to try, hold the lock; an error of either is everybody's who waits."""
        with contextlib.ExitStack() as stack:
            try:
                self._pace.wait(deadline)
                stack.enter_context(self.writing())
            except Exception:
                self._queue.take(ticket)
                raise
            yield

    def _apply(self, ticket: Ticket, draft: D) -> None:
        mark = self._codec.mark(draft)
        ticket.error, ticket.answered = None, False
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
        started = time.monotonic()
        try:
            self._storage.create(key, data)
        except FileExistsError as error:
            self._pace.lost(time.monotonic() - started, state.version)
            if isinstance(error, ObjectExistsError):
                self._learn(state.version, error.found)
            return False
        except StorageError as error:
            if not isinstance(error, AmbiguousError) and self._is_absent(key):
                raise
            msg = f"version {state.version} may have been committed: {error}"
            raise CommitUnknownError(msg, state.commit_id) from error
        self._pace.won(time.monotonic() - started)
        self._adopt(state)
        return True

    def _is_absent(self, key: str) -> bool:
        """Say whether there is certainly no such object."""
        try:
            return self._storage.size(key) is None
        except StorageError:
            return False

    def _learn(self, version: int, winner: bytes) -> None:
        """Take over the version that another writer made, or that vacuum retired meanwhile."""
        if winner:
            self._adopt(self._codec.decode(version, winner, self._head))
        else:
            self._advance()

    def _advance(self) -> S:
        """Move on to the newest version: one question when there is no newer one."""
        head, data = self._head, None
        number = head.version or self.numbering.newest()
        if number == head.version:
            if not number and self._storage.is_locked:
                return head
            # By name also where nothing was listed: a listing may be behind, a name never is.
            data = self._storage.peek(key_of(number + 1))
            if data is None:
                return head
            number, data = self._newest_from(number + 1, data)
        return self._adopt(self._codec.decode(*self._settled(number, data), head))

    def _newest_from(self, number: int, data: bytes) -> tuple[int, bytes | None]:
        """Return the newest version, from one with its bytes on; its bytes if they are at hand.

        One more is asked for by name, a listing finds any further ones. A disk, which lists a group
        a hundred times slower than it finds a name, is asked in strides.
        """
        if self._storage.is_locked:
            newest = self.numbering.stride(number)
        else:
            second = self._storage.peek(key_of(number + 1))
            if second is None:
                return number, data
            number, data = number + 1, second
            newest = self.numbering.newest(number)
        return newest, data if newest == number else None

    def _settled(self, number: int, data: bytes | None) -> tuple[int, bytes]:
        """Return the newest version and its bytes, however many are committed meanwhile."""
        while True:
            try:
                return number, data or self.read(number)
            except VersionNotFoundError:  # retired since it was found, so a newer one exists
                newer = self.numbering.newest(number)
                if newer == number:
                    msg = f"{key_of(number)} is the newest version and empty; run fsck"
                    raise FormatError(msg) from None
                number, data = newer, None

    def _adopt(self, state: S) -> S:
        with self._mutex:
            if state.version > self._head.version:
                self._head = state
            return self._head


def _undecided(error: Exception) -> Exception:
    """Return the error of a change that a change beside it forbade, of which nobody knows."""
    if isinstance(error, CommitUnknownError):
        msg = f"it was not applied; what another thread committed beside it forbids it: {error}"
        return ConflictError(f"{msg}; look again, retry is safe")
    return error


_LOGS: weakref.WeakSet[Log[Any, Any]] = weakref.WeakSet()


def _forget_threads() -> None:
    for log in _LOGS:
        log.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
