"""The whole library in simulated time: what is promised holds under every fault and every order.

CI plays a share of the seeds; ``python -m support.simulation --seeds 100000`` plays as many as one
likes. Each protection is taken away once, and a plan that is kept, or some seed among the first,
notices.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from support.simulation import cases
from support.simulation.cases import CASES
from support.simulation.history import Result
from support.simulation.plan import Fault, Plan, draw
from support.simulation.run import Run, shrink, simulate

from jammi_files import attesting, draft, lease, log, objects, rules, vacuum

SEEDS = 500
PARTS = 10
MOST = 300
"""Seeds among which a missing protection has to be noticed."""


@pytest.mark.parametrize("part", range(PARTS))
def test_promises_hold(part):
    """Whatever fails, in whichever order: no promise is broken; and much fails and races."""
    faults, behind, results = 0, 0, set()
    for seed in range(part, SEEDS, PARTS):
        run = simulate(draw(seed))
        assert run.violation is None, f"seed {seed}: {run.violation}"
        assert run.plan.stale_listings or not run.behind
        faults, behind = faults + run.faults.total(), behind + run.behind
        results |= {call.result for call in run.calls}
    assert faults > SEEDS / PARTS
    assert results == set(Result)
    assert part == 5 or not behind  # the plans of that part have listings that are behind


def test_plans_hold_every_fault():
    """No kind of fault is left out, and a tenth of the plans have listings that are behind."""
    plans = [draw(seed) for seed in range(SEEDS)]
    faults = {each.fault for plan in plans for client in plan.clients for each in client.troubles}
    assert faults == set(Fault)
    assert sum(plan.stale_listings > 0 for plan in plans) == SEEDS / 10


@pytest.mark.parametrize("case", CASES)
def test_cases(case):
    """What once broke a promise, or would without a protection: none is broken."""
    assert simulate(CASES[case]).violation is None


def test_a_seed_is_one_trace():
    """The same seed gives the same trace, event by event; another seed another one."""
    first, second = simulate(draw(7)), simulate(draw(7))
    assert first.trace == second.trace
    assert first.digest != simulate(draw(8)).digest


def test_a_seed_is_one_trace_in_every_process():
    """No order of a set and no address decides anything: another process plays the same."""
    played = {_play_elsewhere(hash_seed) for hash_seed in ("1", "2")}
    assert len(played) == 1
    assert "digest" in played.pop()


def _play_elsewhere(hash_seed: str) -> str:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), str(here)])
    done = subprocess.run(
        [sys.executable, "-m", "support.simulation", "--first", "60", "--seeds", "6"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout[done.stdout.index("{") :]


def first_failure(**how) -> Run:
    for seed in range(MOST):
        run = simulate(draw(seed), **how)
        if run.violation is not None:
            return run
    return pytest.fail(f"none of {MOST} seeds noticed")


def _deletes(storage_, group):
    for action in group:
        storage_.delete(action.key)
    return group


def _reapplies_blindly():
    """Return a `Log._apply_to` that carries a lost attempt's rows over without asking the rules."""
    earlier = {}
    original = log.Log._apply_to

    def apply_to(self, state, batch):
        before = earlier.get(tuple(map(id, batch)))
        if before is None:
            made = original(self, state, batch)
        else:
            made = self._codec.draft(state)
            for row in before[0].changes.values():
                made.put(row.record, "blind", deleted=row.deleted)
        earlier[tuple(map(id, batch))] = made, list(batch)  # which keeps the ids taken
        return made

    return apply_to


def _merges_whatever_was_vacuumed():
    original = draft.Draft.swap_runs
    return lambda self, *how, since: original(self, *how, since=max(since, 10**9))


def _spares_nothing(_root, state, plan):
    plan.state, plan.retention = state, state.header.retention


NUMBERS = count()

PROTECTIONS = {
    "a refused create is read back": (objects.ObjectStorage, "_found", lambda: lambda *_: b"?"),
    "retired versions keep their names": (vacuum, "remove_group", lambda: _deletes),
    "vacuum's version stops who stands on an older one": (
        vacuum,
        "_commit",
        lambda: lambda _, plan: plan.state.version,
    ),
    "a live build is not recovered": (lease, "find_death", lambda: lambda *_: "assumed"),
    "the sidecar comes before the promotion": (
        attesting,
        "put",
        lambda: lambda _artifacts, _record, manifest: manifest,
    ),
    "a lost race is judged again": (log.Log, "_apply_to", _reapplies_blindly),
}
"""What is promised -> where it is kept, and what makes the replacement that does not."""

AIMED = {
    "a retired version says whose it was": (
        cases.EMPTIED_AND_SENT_TWICE,
        (objects, "mark_of", lambda: lambda _: b"retired %064x" % next(NUMBERS)),
    ),
    "the log does not take doubt for a refusal": (
        cases.DELAYED,
        (log, "AmbiguousError", lambda: NotImplementedError),
    ),
    "the storage tells doubt from a refusal": (
        cases.DELAYED,
        (objects, "AmbiguousError", lambda: objects.StorageError),
    ),
    "a merge that a vacuum came before is done again": (
        cases.MERGED_TOO_LATE,
        (draft.Draft, "swap_runs", _merges_whatever_was_vacuumed),
    ),
    "vacuum spares what was committed since its listing": (
        cases.COMMITTED_AFTER_THE_LISTING,
        (vacuum, "_spare_new", lambda: _spares_nothing),
    ),
    "recovery fails only the row that it has judged": (
        cases.READY_AFTER_THE_JUDGEMENT,
        (rules, "require_unchanged", lambda: lambda *_: None),
    ),
}
"""The same for what seeds notice too rarely: each with the plan that does."""


@pytest.mark.parametrize("promise", PROTECTIONS)
def test_a_missing_protection_is_noticed(promise, monkeypatch):
    """Each protection is what keeps its promise: without it a seed fails."""
    plans = (draw(seed) for seed in range(MOST))
    assert any(_is_noticed(plan, PROTECTIONS[promise], monkeypatch) for plan in plans)


@pytest.mark.parametrize("promise", AIMED)
def test_a_missing_protection_is_noticed_by_its_plan(promise, monkeypatch):
    """The plan that is kept for a protection fails without it."""
    assert _is_noticed(*AIMED[promise], monkeypatch)


def _is_noticed(plan: Plan, protection, monkeypatch) -> bool:
    where, name, careless = protection
    with monkeypatch.context() as patched:
        patched.setattr(where, name, careless())
        return simulate(plan).violation is not None


def test_a_store_that_overwrites_is_noticed_and_shrunk():
    """Without exclusive creates a seed fails, fails again alike, and shrinks to less of it."""
    run = first_failure(careless="_catalog/manifest/")
    again = simulate(run.plan, careless="_catalog/manifest/")
    assert (again.violation, again.trace) == (run.violation, run.trace)
    small = shrink(run, most=60, careless="_catalog/manifest/")
    assert small.violation is not None
    assert small.plan.size < run.plan.size / 2
