"""Plans run by several processes: at once, one after the other, and by one that is killed."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import Counter
from itertools import pairwise

import pytest
from support.askers import LIMIT
from support.invariants import check_invariants
from support.processes import run_together
from support.recomputing import (
    DIAMOND,
    Summing,
    at,
    make,
    make_graph,
    plan_and_run,
    run_and_tell,
    run_marked,
    run_stopping,
)

from jammi_files import unpinned_anchor

CHAIN = {"a": (), **{label: (parent,) for parent, label in pairwise("abcdef")}}


@pytest.fixture
def marks(tmp_path):
    """Return a directory for marks, and a function that counts and clears them."""
    (tmp_path / "marks").mkdir()

    def count():
        found = list((tmp_path / "marks").iterdir())
        for path in found:
            path.unlink()
        return Counter(path.name.rpartition(".")[0] for path in found)

    return str(tmp_path / "marks"), count


@pytest.mark.parametrize("links", [DIAMOND, CHAIN], ids=["diamond", "chain"])
@pytest.mark.parametrize("number", [2, 4])
def test_together(store, root, marks, links, number):
    """`B127`: of processes that run one plan at once, one computes each step; all get the same."""
    names = make_graph(store, links)
    plan = store.recompute_plan(names["a"], "downstream").to_dict()
    told = run_together(run_marked, [(str(root), plan, marks[0])] * number)
    assert marks[1]() == Counter(list(links))
    for name in names.values():
        assert len({answer[name][1] for answer in told}) == 1
        outcomes = sorted(answer[name][0] for answer in told)
        assert outcomes == ["computed"] + ["reused"] * (number - 1)
    assert len(store.catalog.list_result_tables_by_status("ready")) == 2 * len(links)
    assert all(check.ok for check in store.verify_all())
    check_invariants(root)


def test_together_over_an_unpinned_source(store, root, marks):
    """`B115`: also where no result of others could be reused, the plan's own is computed once."""
    parent = make(store, "a", inputs=[unpinned_anchor("docs")])
    make(store, "b", [parent])
    plan = store.recompute_plan(parent, "downstream").to_dict()
    told = run_together(run_marked, [(str(root), plan, marks[0])] * 3)
    assert marks[1]() == Counter("ab")
    assert len({tuple(sorted(name for _, name in answer.values())) for answer in told}) == 1


def test_resume_in_another_process(store, root, marks):
    """What this process left undone another one does, and only that."""
    names = make_graph(store, DIAMOND)
    summing = Summing()
    summing.failing["c"] = ValueError("x")
    plan = store.recompute_plan(names["a"], "downstream")
    first = store.recompute(plan, summing.producers, resolvers=at("1"))
    [told] = run_together(run_marked, [(str(root), plan.to_dict(), marks[0])])
    assert marks[1]() == Counter("cd")
    assert {name: new for name, (_, new) in told.items()}.items() >= first.recomputed.items()


class Stopping:
    """A process that runs a plan and stops inside the producer of each result."""

    def __init__(self, root, plan, *, written=False):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        given = (str(root), plan.to_dict(), theirs, written)
        self._process = context.Process(target=run_stopping, args=given, daemon=True)
        self._process.start()
        theirs.close()

    def run_into(self, label):
        """Let it go on until it is inside the producer of a result."""
        while True:
            assert self._pipe.poll(LIMIT)
            if self._pipe.recv() == label:
                return
            self._pipe.send("go on")

    def kill(self):
        self._process.kill()
        self._process.join(LIMIT)
        assert self._process.exitcode is not None


@pytest.fixture
def stopping(root):
    """Return a function that starts such a process; none outlives the test."""
    started = []

    def start(plan, **also):
        started.append(Stopping(root, plan, **also))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.mark.parametrize("label", "abcd")
@pytest.mark.parametrize("written", [False, True], ids=["before", "after the first batch"])
def test_kill(*, store, root, marks, stopping, label, written):
    """A process that is killed inside a producer: another goes on, computing what is missing."""
    names = make_graph(store, DIAMOND)
    plan = store.recompute_plan(names["a"], "downstream")
    process = stopping(plan, written=written)
    process.run_into(label)
    process.kill()
    [half] = store.catalog.list_result_tables_by_status("building")
    assert half.properties["recompute_of"] == names[label]
    assert half.properties["recompute_plan"] == plan.plan_id
    [told] = run_together(run_marked, [(str(root), plan.to_dict(), marks[0])])
    missing = "abcd"["abcd".index(label) :]
    assert marks[1]() == Counter(missing)
    assert [told[names[each]][0] for each in "abcd"] == ["reused"] * (4 - len(missing)) + [
        "computed"
    ] * len(missing)
    assert store.catalog.get_result_table(half.table_name).status == "failed"
    assert store.catalog.list_result_tables_by_status("building") == []
    assert all(check.ok for check in store.verify_all())
    store.recover()
    check_invariants(root)


def test_kill_while_another_waits(store, root, marks, stopping):
    """Who waits for a step takes it over when the process that computes it is killed."""
    names = make_graph(store, DIAMOND)
    plan = store.recompute_plan(names["a"], "downstream")
    process = stopping(plan)
    process.run_into("c")
    with telling(root, plan, marks[0]) as heard:
        assert [next(heard) for _ in range(5)] == ["begins", "reused"] * 2 + ["begins"]
        process.kill()
        assert [next(heard) for _ in range(3)] == ["computed", "begins", "computed"]
    assert marks[1]() == Counter("cd")


@contextlib.contextmanager
def telling(root, plan, marks):
    """Run a plan in a process, and yield what it tells of its steps."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe()
    given = (str(root), plan.to_dict(), marks, ours)
    process = context.Process(target=run_and_tell, args=given, daemon=True)
    process.start()

    def heard():
        while True:
            assert theirs.poll(LIMIT)
            yield theirs.recv()

    try:
        yield heard()
    finally:
        process.kill()
        process.join(LIMIT)


def test_plan_made_in_two_processes(store, root, marks):
    """A plan that each process makes for itself is one job under one id."""
    names = make_graph(store, DIAMOND)
    given = (str(root), names["a"], marks[0])
    told = run_together(plan_and_run, [given] * 2)
    assert marks[1]() == Counter("abcd")
    assert {name: new for name, (_, new) in told[0].items()} == {
        name: new for name, (_, new) in told[1].items()
    }
