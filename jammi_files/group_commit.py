"""Threads of one process that commit at once share a version: one of them leads, the others wait.

Whoever finds no leader leads: it commits everything that waits by the time it holds the lock, then
hands the lead to one of those who came meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from jammi_files.errors import CommitUnknownError


class Ticket:
    """One caller's change on its way through a commit that it may share with other threads."""

    __slots__ = ("answered", "batch", "change", "error", "finished", "leads", "result", "wake")

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self.change = change
        self.result: Any = None
        self.error: BaseException | None = None
        self.answered = False  # result or error is known to be true
        self.finished = False  # the caller may go on
        self.leads = False
        self.batch: list[Ticket] = []  # what this ticket's thread commits while it leads
        self.wake = threading.Event()


class CommitQueue:
    """The changes that wait for a commit, and who leads."""

    def __init__(self) -> None:
        self._waiting: list[Ticket] = []
        self._mutex = threading.Lock()
        self._leading = False

    def run(self, change: Callable[[Any], Any], lead: Callable[[Ticket], None]) -> Any:  # noqa: ANN401
        """Return the result of ``change``, committed by this thread or by another one.

        ``lead(ticket)`` commits ``ticket.batch``, filled by `take`; it is called in the thread
        that leads, and what it raises is everybody's error whose change it took.
        """
        ticket = Ticket(change)
        try:
            with self._mutex:
                self._waiting.append(ticket)
                ticket.leads = not self._leading
                self._leading = True
            if not ticket.leads:
                ticket.wake.wait()
            if not ticket.finished:
                try:
                    lead(ticket)
                except Exception as error:  # noqa: BLE001 - every waiting caller gets it
                    for each in ticket.batch:
                        if not each.answered:  # what refused it may be part of what failed
                            each.error, each.answered = error, True
        finally:
            self._settle(ticket)
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    def take(self, ticket: Ticket) -> None:
        """Add everything that waits to what the leader commits."""
        with self._mutex:
            ticket.batch += self._waiting
            self._waiting.clear()

    def _settle(self, ticket: Ticket) -> None:
        """Let those go on for whom this thread has led, and hand the lead to one who waits.

        Also after an interrupt, wherever it struck: nobody waits for a thread that is gone.
        """
        for each in ticket.batch:
            if not each.answered:
                msg = "the thread that was committing this change was interrupted"
                each.error = CommitUnknownError(msg, commit_id="")
            each.finished = True
            each.wake.set()
        with self._mutex:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            if ticket.leads:
                ticket.leads = False
                heir = self._waiting[0] if self._waiting else None
                self._leading = heir is not None
                if heir is not None:
                    heir.leads = True
                    heir.wake.set()
