"""One plan, played from its first event to its last."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import traceback
from collections import Counter
from collections.abc import Iterator

from support.simulation.bucket import Bucket
from support.simulation.clients import Client
from support.simulation.history import Call, check_linearizable
from support.simulation.patches import simulated
from support.simulation.plan import ClientPlan, Plan, Step, Trouble, smaller
from support.simulation.witness import Witness
from support.simulation.world import Process, StuckError, Task, World


@dataclasses.dataclass
class Run:
    """What came of a plan: `violation` is None if every promise was kept."""

    plan: Plan
    violation: str | None
    trace: list[str]
    digest: int
    requests: int
    events: int
    calls: list[Call]
    faults: Counter[str]
    versions: int
    behind: int
    met: frozenset[tuple[str, Trouble]]
    """The faults that happened, each with its client."""


def simulate(plan: Plan, *, careless: str = "") -> Run:
    """Play a plan; a create of a key that holds ``careless`` overwrites, as it never should."""
    world = World(plan.seed)
    bucket = Bucket(world, plan)
    bucket.careless = careless
    witness = Witness(world, bucket)
    calls: list[Call] = []
    violation = None
    with simulated(world, plan), _silent():
        try:
            _play(world, bucket, witness, plan, calls)
        except (AssertionError, StuckError) as error:
            violation = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 - whatever the library lets out is a finding
            violation = "".join(traceback.format_exception(error))
    return Run(
        plan,
        violation,
        world.trace,
        world.digest,
        sum(task.requests for task in world.tasks),
        world.events,
        calls,
        bucket.injected,
        witness.newest.number,
        witness.behind,
        frozenset(bucket.met),
    )


def _play(world: World, bucket: Bucket, witness: Witness, plan: Plan, calls: list[Call]) -> None:
    processes = [Process(index, host) for index, host in enumerate(plan.hosts)]
    bodies = []
    for each in plan.clients:
        task = Task(each.name, processes[each.process], random.Random(f"{plan.seed} {each.name}"))
        bodies.append((task, Client(world, bucket, witness, each, calls).run))
    world.run(bodies)
    last = ClientPlan("end", len(processes), (Step(0, "end", 0.0),), ())
    task = Task("end", Process(len(processes), 9), random.Random("end"))
    world.run([(task, Client(world, bucket, witness, last, calls).run)])
    end = calls[-1]
    assert end.kind == "end", end
    assert end.error == "", f"the end cannot be read: {end.error}"
    check_linearizable(calls, end.told, bucket.stale)


def shrink(run: Run, *, most: int = 400, **how: str) -> Run:
    """Return the smallest run found by leaving out clients, calls and faults that still fails."""
    tried, found = 1, True
    pruned = simulate(_without_idle(run), **how)
    run = run if pruned.violation is None else pruned
    while found and tried < most:
        found = False
        for plan in smaller(run.plan):
            tried += 1
            shorter = simulate(plan, **how)
            if shorter.violation is not None:
                run, found = shorter, True
                break
            if tried >= most:
                break
    return run


def _without_idle(run: Run) -> Plan:
    """Leave out the faults of requests that were never made."""
    clients = [
        dataclasses.replace(
            each, troubles=tuple(t for t in each.troubles if (each.name, t) in run.met)
        )
        for each in run.plan.clients
    ]
    return dataclasses.replace(run.plan, clients=tuple(clients))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    logger = logging.getLogger("jammi_files")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
