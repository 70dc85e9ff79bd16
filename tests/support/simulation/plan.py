"""What one simulation does: who runs what and which requests go wrong, as a function of a seed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from enum import StrEnum


class Fault(StrEnum):
    """What becomes of one request, or of its process while it waits for the answer."""

    LOST = "lost"
    """The request never arrives; the client gives up waiting."""
    UNANSWERED = "unanswered"
    """Done, but the answer is lost."""
    LATE = "late"
    """The client gives up waiting; the request arrives later, perhaps much later."""
    RESENT = "resent"
    """The answer is lost and the client library sends again; its second answer counts."""
    DOUBLED = "doubled"
    """Answered in time, and a copy of the request arrives once more, later."""
    CONFLICT = "409"
    THROTTLED = "429"
    BROKEN = "500"
    """Answered by 500: done or not."""
    UNAVAILABLE = "503"
    """Answered by 503, not done."""
    SLOW = "slow"
    """Seconds on the way, so that others pass."""
    PAUSE = "pause"
    """The process stands still for minutes or days after the answer."""
    CLOCK = "clock"
    """The wall clock of the machine jumps."""
    CRASH = "crash"
    """The process dies: its request is on the way, or was never sent."""


WEIGHTS = {
    Fault.LOST: 3,
    Fault.UNANSWERED: 8,
    Fault.LATE: 8,
    Fault.RESENT: 6,
    Fault.DOUBLED: 4,
    Fault.CONFLICT: 4,
    Fault.THROTTLED: 3,
    Fault.BROKEN: 5,
    Fault.UNAVAILABLE: 2,
    Fault.SLOW: 8,
    Fault.PAUSE: 6,
    Fault.CLOCK: 2,
    Fault.CRASH: 4,
}

OPERATIONS = {
    "append": 10,
    "transaction": 4,
    "claim": 4,
    "read": 4,
    "pinned": 3,
    "build": 5,
    "delete": 2,
    "recover": 3,
    "vacuum": 4,
    "tag": 2,
    "untag": 1,
    "bulk": 2,
    "compact": 1,
    "wait": 3,
}

TAKEOVER = {"build": 6, "overtake": 6, "recover": 1, "append": 1, "vacuum": 1, "wait": 1}
"""The calls of plans in which builds fall silent, and others act just as they go on."""

UPKEEP = {"append": 8, "bulk": 3, "vacuum": 7, "compact": 3, "read": 1, "pinned": 1, "tag": 1}
"""The calls of plans in which merges and vacuums meet; such plans have few and tiny runs."""

OUTAGE = (Fault.LOST, Fault.LATE, Fault.UNANSWERED, Fault.BROKEN)
"""What befalls several requests of one client in a row, so that it gives up not knowing."""

DOUBT = {"append": 6, "transaction": 2, "claim": 2, "bulk": 1, "read": 1, "wait": 1}
"""The calls of plans in which a commit is lost sight of, and arrives when nobody counts on it."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of a client; ``number`` names it in the run, ``chance`` decides its details."""

    number: int
    kind: str
    chance: float


@dataclasses.dataclass(frozen=True)
class Trouble:
    """A fault of the request that a client makes as its number ``at``.

    Only requests are counted that hold ``on``, as in ``create bucket/root/_catalog/segments/``. The
    ``lost`` requests that follow never arrive.
    """

    at: int
    fault: Fault
    chance: float
    on: str = ""
    lost: int = 0


@dataclasses.dataclass(frozen=True)
class ClientPlan:
    """One thread: its process, its calls and its troubles."""

    name: str
    process: int
    steps: tuple[Step, ...]
    troubles: tuple[Trouble, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """One run. ``hosts`` is the machine of each process, ``knobs`` the sizes of runs."""

    seed: int
    hosts: tuple[int, ...]
    clients: tuple[ClientPlan, ...]
    knobs: tuple[tuple[str, int], ...]
    stale_listings: float = 0.0
    """Seconds that a listing may be behind, which FORMAT forbids a store: then a reader may be too.
    """

    @property
    def size(self) -> int:
        """Clients, calls and faults together."""
        return sum(1 + len(each.steps) + len(each.troubles) for each in self.clients)


def draw(seed: int) -> Plan:
    """Return the plan of a seed."""
    chance = random.Random(f"plan {seed}")
    weights = (OPERATIONS, UPKEEP, OPERATIONS, TAKEOVER, UPKEEP, DOUBT)[seed % 6]
    upkeep = weights is UPKEEP
    processes = chance.randint(2, 4)
    hosts = tuple(n if weights is TAKEOVER else chance.randrange(2) for n in range(processes))
    threads = [chance.choice((1, 1, 1, 2)) for _ in range(processes)]
    rate = chance.choice((0.01, 0.03, 0.06) if upkeep else (0.0, 0.01, 0.03, 0.06, 0.12))
    clients = []
    for process, count in enumerate(threads):
        for thread in range(count):
            name = f"p{process}t{thread}"
            steps = _steps(chance, weights)
            troubles = _troubles(chance, rate, slow=upkeep)
            aimed = _aimed(chance, weights)
            clients.append(ClientPlan(name, process, steps, (*troubles, *aimed)))
    knobs = (
        ("INLINE_ROWS", 1 if upkeep else chance.choice((2, 4, 128))),
        ("FAN_OUT", 2 if upkeep else chance.choice((2, 3))),
        ("MERGE_IN_COMMIT_ROWS", 2 if upkeep else chance.choice((2, 6, 8192))),
    )
    stale = 10 ** chance.uniform(-1.5, 1.5) if seed % 10 == 5 else 0.0
    return Plan(seed, hosts, tuple(clients), knobs, stale)


def _steps(chance: random.Random, weights: dict[str, int]) -> tuple[Step, ...]:
    kinds = chance.choices([*weights], [*weights.values()], k=chance.randint(2, 6))
    return tuple(Step(n, kind, chance.random()) for n, kind in enumerate(kinds))


def _troubles(chance: random.Random, rate: float, *, slow: bool) -> tuple[Trouble, ...]:
    if not rate:
        return ()
    found: list[Trouble] = []
    at = 0
    while (at := at + 1 + int(chance.expovariate(rate))) < 200:
        (fault,) = chance.choices([*WEIGHTS], [*WEIGHTS.values()])
        if slow and chance.random() < 0.5:
            fault = Fault.SLOW
        length = chance.randint(3, 12) if fault in OUTAGE and chance.random() < 0.3 else 1
        for _ in range(length):
            found.append(Trouble(at, fault, chance.random()))
            at += 1
            fault = chance.choice(OUTAGE)
    return tuple(found)


def _aimed(chance: random.Random, weights: dict[str, int]) -> Iterator[Trouble]:
    """Yield faults of the very requests that the calls of such plans hang on."""
    manifest, number = "create bucket/root/_catalog/manifest/", chance.randint(1, 4)
    if weights is UPKEEP and chance.random() < 0.5:
        fault = chance.choice((Fault.PAUSE, Fault.PAUSE, Fault.SLOW, Fault.CRASH))
        yield Trouble(number, fault, chance.random(), "create bucket/root/_catalog/segments/")
    if weights is TAKEOVER:
        silence = chance.uniform(0.44, 0.5)  # longer than a lease lasts
        yield Trouble(chance.randint(1, 2), Fault.PAUSE, silence, "create bucket/root/docs")
        yield Trouble(number, Fault.SLOW, chance.random() / 2, manifest)
    if weights is DOUBT and chance.random() < 0.6:
        late, lost = chance.uniform(0.1, 0.6), chance.choice((0, 3, 4, 5))
        yield Trouble(number, Fault.LATE, late, manifest, lost)


def smaller(plan: Plan) -> Iterator[Plan]:
    """Yield plans with something left out, the largest omissions first."""
    for client in plan.clients:
        if len(plan.clients) > 1:
            rest = tuple(each for each in plan.clients if each is not client)
            yield dataclasses.replace(plan, clients=rest)
    for field in ("steps", "troubles"):
        for client in plan.clients:
            items = getattr(client, field)
            for size in sorted({len(items), len(items) // 2, 1} - {0}, reverse=True):
                for at in range(0, len(items), size):
                    kept = items[:at] + items[at + size :]
                    changed = dataclasses.replace(client, **{field: kept})
                    yield _with(plan, client, changed)


def _with(plan: Plan, old: ClientPlan, new: ClientPlan) -> Plan:
    clients = tuple(new if each is old else each for each in plan.clients)
    return dataclasses.replace(plan, clients=clients)
