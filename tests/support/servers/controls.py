"""What stands between a server and its clients: the log, and every fault on its way.

A `Controls` lives where its server lives, which may be another process: what its methods take and
return can be pickled. Tests use it through `Log` and `Faults`.
"""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass, field
from enum import StrEnum

from support.servers.dialects import CHANGING, Dialect
from support.servers.messages import Answer, Request, Response
from support.servers.traffic import RECORDED_HEADERS, Exchange

LIMIT = 120.0
"""Seconds after which a held request goes on even though nobody released it."""

UNRECORDED = "x-unrecorded"
"""The header of a request that prepares a test: neither recorded nor faulted."""


class Fault(StrEnum):
    """What can happen to a request; a lost request is not a lost response."""

    REFUSED_403 = "refused-403"
    REFUSED_500 = "refused-500"
    REFUSED_503 = "refused-503"
    REFUSED_429 = "refused-429"
    CONFLICT_409 = "conflict-409"
    LOST_REQUEST = "lost-request"
    LOST_RESPONSE = "lost-response"
    APPLIED_500 = "applied-500"
    STALLED = "stalled"
    HELD_BEFORE = "held-before"
    HELD_AFTER = "held-after"

    @property
    def applied(self) -> bool:
        """Whether the server acts on such a request, before or after it is told so."""
        return self in _APPLIED

    @property
    def status(self) -> int | None:
        """The status that the client is told instead of the server's own, if any."""
        number = self.value.rpartition("-")[2]
        return int(number) if number.isdigit() else None


_APPLIED = frozenset(
    {
        Fault.LOST_RESPONSE,
        Fault.APPLIED_500,
        Fault.STALLED,
        Fault.HELD_BEFORE,
        Fault.HELD_AFTER,
    }
)
_LOST = frozenset({Fault.LOST_REQUEST, Fault.LOST_RESPONSE})

RANDOM_FAULTS = tuple(
    fault
    for fault in Fault
    if fault not in {Fault.HELD_BEFORE, Fault.HELD_AFTER, Fault.REFUSED_403}
)
"""What goes wrong by chance, and might go well the next time."""


@dataclass(frozen=True)
class Rule:
    """Which requests meet a fault: the next ``times`` (None: all) after the first ``skip``.

    ``key`` and ``query`` are regular expressions searched for in `Exchange.key` and
    `Exchange.query`. ``seconds`` is how long a stalled answer waits.
    """

    fault: Fault
    key: str = ""
    methods: tuple[str, ...] = CHANGING
    query: str = ""
    times: int | None = 1
    skip: int = 0
    seconds: float = 1.0

    def matches(self, request: Request, key: str) -> bool:
        """Return whether the rule speaks of such a request."""
        return (
            request.method in self.methods
            and re.search(self.key, key) is not None
            and re.search(self.query, request.query) is not None
        )


@dataclass(frozen=True)
class Chance:
    """A share of the requests of these methods, drawn by a seeded generator, meets a fault."""

    share: float
    seed: int
    faults: tuple[Fault, ...] = RANDOM_FAULTS
    key: str = ""
    methods: tuple[str, ...] = CHANGING
    seconds: float = 0.05


@dataclass
class _Active:
    rule: Rule
    seen: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def meets(self, request: Request, key: str) -> bool:
        if not self.rule.matches(request, key):
            return False
        self.seen += 1
        number = self.seen - self.rule.skip
        return number > 0 and (self.rule.times is None or number <= self.rule.times)


class Controls:
    """Passes requests on to a server, records each, and lets faults happen to them."""

    def __init__(self, dialect: Dialect, answer: Answer) -> None:
        self._dialect, self._answer = dialect, answer
        self._lock = threading.Lock()
        self._exchanges: list[Exchange] = []
        self._rules: dict[int, _Active] = {}
        self._numbers = iter(range(1, 1 << 30))
        self._chance: tuple[Chance, random.Random] | None = None
        self._preconditions = True
        self._latency = 0.0
        self._closing = threading.Event()

    def handle(self, request: Request) -> Response | None:
        """Answer a request; None means that the connection ends without an answer."""
        if request.header(UNRECORDED):
            return self._answer(request.without_headers(UNRECORDED))
        key = self._dialect.key(request)
        fault, active, seconds = self._fate(request, key)
        self._closing.wait(self._latency)
        self._hold(active, fault, Fault.HELD_BEFORE)
        own = None
        if fault is None or fault.applied:
            plain = self._dialect.without_preconditions(request)
            own = self._answer(request if self._preconditions else plain)
        self._hold(active, fault, Fault.HELD_AFTER)
        if fault is Fault.STALLED:
            self._closing.wait(seconds)
        told = self._told(own, fault)
        self._record(request, key, own, told, fault)
        return told

    def exchanges(self, start: int) -> list[Exchange]:
        """Return the exchanges from number ``start`` on."""
        with self._lock:
            return self._exchanges[start:]

    def exchange_count(self) -> int:
        """Return how many exchanges there have been."""
        return len(self._exchanges)

    def add_rule(self, rule: Rule) -> int:
        """Let a fault happen; of several rules that match a request the oldest is used."""
        with self._lock:
            number = next(self._numbers)
            self._rules[number] = _Active(rule)
            return number

    def arrived(self, number: int, seconds: float) -> bool:
        """Wait until a request of that rule is held; return whether one is."""
        return self._rules[number].arrived.wait(seconds)

    def release(self, number: int) -> None:
        """Let the requests held by that rule go on and forget the rule."""
        with self._lock:
            active = self._rules.pop(number, None)
        if active is not None:
            active.released.set()

    def seen(self, number: int) -> int:
        """Return how many requests matched that rule, skipped ones included."""
        return self._rules[number].seen

    def set_chance(self, chance: Chance | None) -> None:
        """Let faults happen by chance to requests that no rule speaks of; None ends that."""
        with self._lock:
            self._chance = (chance, random.Random(chance.seed)) if chance else None

    def set_preconditions(self, honoured: bool) -> None:  # noqa: FBT001 - the only argument
        """Hand conditional requests on as they are, or stripped of their conditions."""
        self._preconditions = honoured

    def set_latency(self, seconds: float) -> None:
        """Let every request wait that long before the server sees it."""
        self._latency = seconds

    def clear(self) -> None:
        """Release what is held, forget every fault, latency and exchange."""
        with self._lock:
            active, self._rules = list(self._rules.values()), {}
            self._chance, self._preconditions, self._latency = None, True, 0.0
            self._exchanges.clear()
        for one in active:
            one.released.set()

    def close(self) -> None:
        """Let everything that waits go on, for ever."""
        self._closing.set()
        for number in list(self._rules):
            self.release(number)

    def _fate(self, request: Request, key: str) -> tuple[Fault | None, _Active | None, float]:
        with self._lock:
            for active in self._rules.values():
                if active.meets(request, key):
                    return active.rule.fault, active, active.rule.seconds
            if self._chance is not None:
                chance, generator = self._chance
                if (
                    request.method in chance.methods
                    and re.search(chance.key, key)
                    and generator.random() < chance.share
                ):
                    return generator.choice(chance.faults), None, chance.seconds
        return None, None, 0.0

    def _hold(self, active: _Active | None, fault: Fault | None, where: Fault) -> None:
        if active is not None and fault is where:
            active.arrived.set()
            active.released.wait(LIMIT)

    def _told(self, own: Response | None, fault: Fault | None) -> Response | None:
        if fault in _LOST:
            return None
        if fault is not None and fault.status is not None:
            return self._dialect.error(fault.status)
        return own

    def _record(
        self,
        request: Request,
        key: str,
        own: Response | None,
        told: Response | None,
        fault: Fault | None,
    ) -> None:
        headers = {
            name.lower(): value
            for name, value in request.headers
            if name.lower() in RECORDED_HEADERS
        }
        exchange = Exchange(
            request.method,
            key,
            request.query,
            headers,
            len(request.body),
            own.status if own else None,
            told.status if told else None,
            len(told.body) if told else 0,
            str(fault) if fault else None,
        )
        with self._lock:
            self._exchanges.append(exchange)
