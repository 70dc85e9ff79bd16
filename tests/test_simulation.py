"""The whole library in simulated time: what is promised holds under every fault and every order.

CI plays a share of the seeds; ``python -m support.simulation --seeds 100000`` plays as many as one
likes. Each protection is taken away once, and some seed among the first notices.
"""

from __future__ import annotations

import pytest
from support.simulation.plan import draw
from support.simulation.run import Run, shrink, simulate

from jammi_files import funnel, lease, log, objects, vacuum

SEEDS = 120
PARTS = 4
MOST = 300
"""Seeds among which a missing protection has to be noticed."""


@pytest.mark.parametrize("part", range(PARTS))
def test_promises_hold(part):
    """Whatever fails, in whichever order: no promise is broken."""
    for seed in range(part, SEEDS, PARTS):
        run = simulate(draw(seed))
        assert run.violation is None, f"seed {seed}: {run.violation}"


def test_faults_and_races_happen():
    """The plans are not idle: every kind of fault and call occurs, and clients meet."""
    plans = [draw(seed) for seed in range(SEEDS)]
    faults = {each.fault for plan in plans for client in plan.clients for each in client.troubles}
    assert len(faults) == 13
    runs = [simulate(plan) for plan in plans[:20]]
    assert sum(run.faults.total() for run in runs) > 20
    assert {"done", "denied"} <= {str(call.result) for run in runs for call in run.calls}


def test_a_seed_is_one_trace():
    """The same seed gives the same trace, event by event; another seed another one."""
    first, second = simulate(draw(7)), simulate(draw(7))
    assert first.trace == second.trace
    assert first.digest != simulate(draw(8)).digest


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


PROTECTIONS = {
    "a refused create is read back": (objects.ObjectStorage, "_found", lambda: lambda *_: b""),
    "retired versions keep their names": (vacuum, "remove_group", lambda: _deletes),
    "vacuum's version stops who stands on an older one": (
        vacuum,
        "_commit",
        lambda: lambda _, plan: plan.state.version,
    ),
    "a live build is not recovered": (lease, "find_death", lambda: lambda *_: "assumed"),
    "the sidecar comes before the promotion": (
        funnel.Funnel,
        "_put_sidecar",
        lambda: lambda _self, _record, manifest: manifest,
    ),
    "a lost race is judged again": (log.Log, "_apply_to", _reapplies_blindly),
}
"""What is promised -> where it is kept, and what makes the replacement that does not."""


@pytest.mark.parametrize("promise", PROTECTIONS)
def test_a_missing_protection_is_noticed(promise, monkeypatch):
    """Each protection is what keeps its promise: without it a seed fails."""
    where, name, careless = PROTECTIONS[promise]
    for seed in range(MOST):
        with monkeypatch.context() as patched:
            patched.setattr(where, name, careless())
            if simulate(draw(seed)).violation is not None:
                return
    pytest.fail(f"none of {MOST} seeds noticed")


def test_a_store_that_overwrites_is_noticed_and_shrunk():
    """Without exclusive creates a seed fails, fails again alike, and shrinks to less of it."""
    run = first_failure(careless="_catalog/manifest/")
    again = simulate(run.plan, careless="_catalog/manifest/")
    assert (again.violation, again.trace) == (run.violation, run.trace)
    small = shrink(run, most=60, careless="_catalog/manifest/")
    assert small.violation is not None
    assert small.plan.size < run.plan.size / 2
