"""How long a writer waits before it tries to commit, beside a lock and without one.

Without a lock, a version that another writer makes first is a create in vain, and whoever has just
made a version is nearest to the next: it would win again and again. So who makes versions in a row
pauses before each whose number is a multiple of `TURN`, and there another writer comes first who
has waited for it. Who meets nobody asks nothing. Who lost once tries the next version at once;
after two losses in a row the log is *crowded* for a while, and one waits for a turn.
"""

from __future__ import annotations

import abc
import random
import time
from typing import Protocol

from jammi_files import events
from jammi_files.events import Event

TURN = 8
"""Before each version of such a number another writer may come first, in a crowded log."""
ALONE = 32
"""The same while nobody else is known of."""

_PAUSE = 3
"""Latencies that one lets pass there: the other one sees the version before, and writes."""
_IN_A_ROW = 2
"""Latencies within which a writer that goes on begins its next version."""
_BUSY = 2.5
"""Latencies between two versions, above which nobody goes on and waiting for a turn is no use."""
_UNUSED = 4
"""Turns in a row that nobody took, after which a log is crowded no more."""
_FEWEST, _MOST = 8, 64
"""Among so many turns a writer picks one at random: twice as many after each that it lost."""
_LONGEST = 4.0
"""Seconds of sleep at a time."""
_POLLS = 8


class Pace(abc.ABC):
    """When to try; told of every outcome. Threads may share it: a torn count costs a wait."""

    def __init__(self) -> None:
        self._losses = 0
        self._latency = 0.0
        self._has_won = False

    @abc.abstractmethod
    def wait(self, deadline: float) -> None:
        """Return when it is time to try, by ``deadline`` (`time.monotonic`) or soon after it."""

    def won(self, seconds: float) -> None:
        """Take note of a version that was made in so much time."""
        self._observe(seconds)
        self._has_won = True
        self._losses = 0

    def lost(self, seconds: float, version: int) -> None:
        """Take note of a version that another writer made first, and that was read since."""
        if not self._has_won:
            self._observe(seconds / 2)
        self._losses += 1
        losses = self._losses
        events.debug(Event.CONFLICT, "lost version %s", version, version=version, losses=losses)

    def _observe(self, seconds: float) -> None:
        step = 4 if self._latency else 1
        self._latency += (min(1.0, seconds) - self._latency) / step

    def _sleep(self, latencies: float) -> None:
        time.sleep(min(_LONGEST, latencies * self._latency))


class LockedPace(Pace):
    """Beside a lock, which keeps writers in order: a loss is rare and followed by a pause."""

    def wait(self, deadline: float) -> None:  # noqa: ARG002 - a pause is short
        """Sleep for a random time that doubles from the latency seen."""
        if self._losses:
            self._sleep(random.uniform(0, 2.0**self._losses))  # noqa: S311 - jitter


class Numbered(Protocol):
    """A state of the log."""

    @property
    def version(self) -> int:
        """Its number."""


class Followed(Protocol):
    """A log as `Turns` looks at it."""

    @property
    def known(self) -> Numbered:
        """The newest state seen so far."""

    def head(self) -> object:
        """Move on to the newest version."""

    def newest(self, at_least: int) -> int:
        """Return the number of the newest version by one listing."""

    def reach(self, version: int) -> bool:
        """Move on to a version if it exists: one question."""


class Turns(Pace):
    """Without a lock."""

    def __init__(self, log: Followed) -> None:
        super().__init__()
        self._log = log
        self._is_crowded = self._was_crowded = False
        self._unused = 0
        self._choice = _FEWEST
        self._won_at = float("-inf")

    def wait(self, deadline: float) -> None:
        """Return at once, after the pause of one who goes on, or when one's turn has come."""
        if self._losses > 1 or (self._losses and self._is_crowded):
            self._await_turn(self._pick(1, self._choice), deadline)
        elif self._losses == 0:
            self._begin(deadline)

    def won(self, seconds: float) -> None:
        """Take note of a version; after a turn that was waited for, pick among fewer."""
        if self._losses > 2:
            self._choice = max(_FEWEST, self._choice // 2)
        super().won(seconds)
        self._won_at = time.monotonic()

    def lost(self, seconds: float, version: int) -> None:
        """Take note of a loss; after a turn that was waited for, pick among more."""
        super().lost(seconds, version)
        self._unused, self._was_crowded = 0, self._is_crowded
        if self._losses > 1:
            self._is_crowded = True
        if self._losses > 2:
            self._choice = min(_MOST, self._choice * 2)

    @property
    def _version(self) -> int:
        return self._log.known.version

    def _begin(self, deadline: float) -> None:
        """Begin a commit after one that was made."""
        following = self._version + 1
        if time.monotonic() - self._won_at > _IN_A_ROW * self._latency:
            if self._is_crowded:  # others have gone on meanwhile
                self._log.head()
                self._note(is_taken=self._version >= following)
        elif following % (TURN if self._is_crowded else ALONE) == 0:
            self._sleep(_PAUSE)
            if self._is_crowded and self._note(is_taken=self._log.reach(following)):
                self._await_turn(self._pick(self._choice // 2, self._choice), deadline)

    def _note(self, *, is_taken: bool) -> bool:
        self._unused = 0 if is_taken else self._unused + 1
        self._is_crowded = self._unused < _UNUSED
        return is_taken

    def _pick(self, nearest: int, farthest: int) -> int:
        """Choose a version to wait for; the first one is one before which everybody pauses."""
        version = self._version
        if not self._was_crowded:
            return (version // ALONE + random.randint(1, 2)) * ALONE  # noqa: S311 - jitter
        return (version // TURN + random.randint(nearest, farthest)) * TURN  # noqa: S311 - jitter

    def _await_turn(self, turn: int, deadline: float) -> None:
        """Return when the version before ``turn`` is the newest, or when nobody goes on."""
        known, seen_at = self._version, time.monotonic()
        self._sleep(random.uniform(_BUSY, 2 * _BUSY))  # noqa: S311 - jitter
        while time.monotonic() < deadline:
            now, newest = time.monotonic(), self._log.newest(known)
            pace = (now - seen_at) / max(1, newest - known)
            known, seen_at = newest, now
            if pace > _BUSY * self._latency:
                break
            if known >= turn:  # it was missed: the next but none
                turn = (known // TURN + 1) * TURN
            missing = turn - 1 - known
            if missing > 2:
                time.sleep(min(_LONGEST, 32 * self._latency, 0.6 * missing * pace))
            elif any(self._log.reach(turn - 1) for _ in range(_POLLS)):
                return
        if known > self._version:
            self._log.reach(known)
