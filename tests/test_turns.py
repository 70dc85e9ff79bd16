"""How long writers wait for each other: a clock that only moves when they sleep or ask."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from jammi_files import turns
from jammi_files.turns import ALONE, TURN, LockedPace, Turns

LATENCY = 0.1
FAR = 1e9


class Clock:
    """The time of a test, and how it was slept through."""

    def __init__(self):
        self.now, self.naps = 1000.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.now += seconds


class OtherWriters:
    """A log to which others add a version every ``period`` seconds, but for ``pauses`` of theirs.

    A pause is ``(version, seconds)``: that version comes so much later.
    """

    def __init__(self, clock, *, version=1, period=FAR, pauses=()):
        self._clock, self._period, self._pauses = clock, period, dict(pauses)
        self._version, self._at = version, clock.now
        self.known, self.asked = SimpleNamespace(version=version), []

    def newest(self, at_least):
        """List, which takes a latency."""
        assert at_least <= self._there()
        return self._ask("newest", self._there())

    def reach(self, version):
        found = self._ask(version, self._there() >= version)
        if found:
            self.known.version = max(self.known.version, version)
        return found

    def head(self):
        self.known.version = self._ask("head", self._there())

    def _ask(self, what, answer):
        self.asked.append(what)
        self._clock.now += LATENCY
        return answer

    def _there(self):
        while self._at + self._next() <= self._clock.now:
            self._at += self._next()
            self._version += 1
        return self._version

    def _next(self):
        return self._period + self._pauses.get(self._version + 1, 0.0)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(turns, "time", clock)
    monkeypatch.setattr(turns, "random", random.Random(7))
    return clock


def commit(pace, log, clock):
    """Make the next version without a loss."""
    pace.wait(FAR)
    clock.now += LATENCY
    log.known.version += 1
    log._version = log.known.version
    log._at = clock.now
    pace.won(LATENCY)


def lose(pace, times=1):
    for _ in range(times):
        pace.lost(2 * LATENCY, 1)


def test_who_is_alone_asks_nothing(clock):
    """A pause now and then is all that a hundred commits in a row cost who meets nobody."""
    log = OtherWriters(clock, version=0)
    pace = Turns(log)
    for _ in range(100):
        commit(pace, log, clock)
    assert log.asked == []
    assert clock.naps == [pytest.approx(3 * LATENCY)] * (100 // ALONE)


def test_who_commits_now_and_then_does_not_even_pause(clock):
    """Between commits that do not follow each other at once anybody can come."""
    log = OtherWriters(clock, version=0)
    pace = Turns(log)
    for _ in range(100):
        clock.now += 3 * LATENCY
        commit(pace, log, clock)
    assert (log.asked, clock.naps) == ([], [])


def test_a_first_loss_is_followed_by_the_next_try_at_once(clock):
    """The winner's version was read: there is nothing to wait for and nothing to ask."""
    log = OtherWriters(clock)
    pace = Turns(log)
    lose(pace)
    pace.wait(FAR)
    assert (log.asked, clock.naps) == ([], [])


@pytest.mark.parametrize(("losses", "stride"), [(2, ALONE), (3, TURN)])
def test_a_turn_is_awaited(clock, monkeypatch, losses, stride):
    """It ends where the others pause, in time: before a multiple of `ALONE`, or in a crowd `TURN`.

    What versions cost is guessed, so one in ten may come too late, which costs a create in vain.
    """
    in_time = 0
    for seed in range(50):
        monkeypatch.setattr(turns, "random", random.Random(seed))
        pauses = dict.fromkeys(range(0, 1000, stride), 3 * LATENCY)
        log = OtherWriters(clock, version=5, period=1.2 * LATENCY, pauses=pauses)
        pace = Turns(log)
        lose(pace, losses)
        pace.wait(FAR)
        assert log.known.version % stride == stride - 1
        assert log.known.version < 2 * ALONE if losses == 2 else (2 * turns._FEWEST + 1) * TURN
        assert log.asked.count("newest") < 16
        in_time += log.known.version == log._there()
    assert in_time >= 45


@pytest.mark.parametrize("period", [FAR, 5 * LATENCY])
def test_nobody_waits_for_a_turn_where_nobody_goes_on(clock, period):
    """Where versions come seldom the newest is learnt and tried."""
    log = OtherWriters(clock, version=5, period=period)
    pace = Turns(log)
    lose(pace, 2)
    pace.wait(FAR)
    assert log.asked[0] == "newest"
    assert len(log.asked) <= 2
    assert log.known.version >= 5
    assert clock.now < 1000 + 8 * LATENCY


def test_who_goes_on_in_a_crowd_lets_others_come_first(clock):
    """Before each multiple of `TURN` it pauses and looks; while nobody comes it goes on."""
    log = OtherWriters(clock, version=TURN)
    pace = Turns(log)
    lose(pace, 2)
    commit(pace, log, clock)
    log.asked.clear()
    clock.naps.clear()
    for _ in range(2 * TURN):
        commit(pace, log, clock)
    assert log.asked == [2 * TURN, 3 * TURN]
    assert clock.naps == [pytest.approx(3 * LATENCY)] * 2


def test_a_turn_that_was_taken_is_the_end_of_ones_own(clock):
    """Who finds another writer's version after the pause waits for a later turn."""
    log = OtherWriters(clock, version=TURN)
    pace = Turns(log)
    lose(pace, 2)
    for _ in range(TURN - 1):
        commit(pace, log, clock)
    pauses = dict.fromkeys(range(3 * TURN, 1000, TURN), 3 * LATENCY)
    log._period, log._pauses = 1.2 * LATENCY, pauses
    pace.wait(FAR)
    assert log.known.version % TURN == TURN - 1
    assert log.known.version >= (1 + turns._FEWEST // 2) * TURN - 1


def test_a_crowd_is_forgotten(clock):
    """After some turns that nobody took a log is as if nobody had been there."""
    log = OtherWriters(clock, version=TURN)
    pace = Turns(log)
    lose(pace, 2)
    for _ in range(6 * TURN):
        commit(pace, log, clock)
    log.asked.clear()
    for _ in range(100):
        commit(pace, log, clock)
    assert log.asked == []


def test_in_a_crowd_who_was_away_looks_first(clock):
    """Others have gone on meanwhile: one look spares a create in vain."""
    log = OtherWriters(clock, version=TURN)
    pace = Turns(log)
    lose(pace, 2)
    commit(pace, log, clock)
    log.asked.clear()
    clock.now += 100 * LATENCY
    commit(pace, log, clock)
    assert log.asked == ["head"]


def test_a_deadline_ends_the_waiting(clock):
    """However busy the others are, after the deadline it is time for a last try."""
    log = OtherWriters(clock, version=5, period=1.2 * LATENCY)
    pace = Turns(log)
    lose(pace, 40)
    pace.wait(clock.now + 2.0)
    assert clock.now < 1000 + 2.0 + 33 * LATENCY


def test_more_losses_spread_over_more_turns(clock):
    """Each turn lost doubles the turns among which the next is picked, each won halves them."""
    pace = Turns(OtherWriters(clock))
    lose(pace, 2)
    seen = []
    for _ in range(5):
        lose(pace)
        seen.append(pace._choice)
    pace.won(LATENCY)
    seen.append(pace._choice)
    assert seen == [16, 32, 64, 64, 64, 32]


def test_beside_a_lock(clock):
    """There one waits only after a loss: at random, twice as long each time, 4 s at the most."""
    pace = LockedPace()
    for _ in range(10):
        pace.won(LATENCY)
        pace.wait(FAR)
    assert clock.naps == []
    for _ in range(20):
        lose(pace)
        pace.wait(FAR)
    assert all(nap <= min(4.0, LATENCY * 2**n) for n, nap in enumerate(clock.naps, 1))
    assert max(clock.naps) > 1.0
