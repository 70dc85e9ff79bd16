"""A whole pipeline on one root: each result is made once, and again exactly when it must be."""

from __future__ import annotations

from collections import Counter

import pytest
from support import pipeline
from support.invariants import check_invariants
from support.pipelines import lose
from support.processes import run_together

from jammi_files import Fresh, InputVanished

ARTICLES = {"embed articles", "graph articles", "report"}
"""The steps downstream of one source."""


@pytest.fixture
def runs(root, tmp_path):
    """Return a function that runs the pipeline in processes; it returns their answers."""
    given = [tmp_path / "sources", tmp_path / "marks"]
    for path in given:
        path.mkdir()
    pipeline.write_sources(given[0])
    return lambda number=1: run_together(
        pipeline.run, [(str(root), *(str(path) for path in given))] * number
    )


@pytest.fixture
def computed(tmp_path):
    """Return a function that says how often each step has been computed since it was last asked."""

    def count():
        marks = list((tmp_path / "marks").iterdir())
        for path in marks:
            path.unlink()
        return Counter(path.name.rpartition(".")[0] for path in marks)

    return count


@pytest.fixture
def verdicts(store, tmp_path):
    """Return a function that judges the tables of a run, the sources looked at where they are."""
    resolvers = pipeline.resolvers(tmp_path / "sources")

    def judge(done):
        return {
            step: store.staleness(name, resolvers=resolvers) for step, (_, name) in done.items()
        }

    return judge


def stale(verdicts):
    return {step for step, verdict in verdicts.items() if verdict.is_stale}


def test_four_processes_compute_each_step_once(runs, computed, verdicts, store, root):
    """`B124`, `B127`: of four that run at once one computes each step; all get the same tables."""
    told = runs(4)
    assert computed() == Counter(pipeline.STEPS)
    for step in pipeline.STEPS:
        assert sorted(done[step][0] for done in told) == ["computed"] + ["reused"] * 3
        assert len({done[step][1] for done in told}) == 1
    assert store.catalog.scan().num_rows == len(pipeline.STEPS)
    assert all(isinstance(each, Fresh) for each in verdicts(told[0]).values())
    report = store.open_table(told[0]["report"][1]).to_table().to_pylist()
    assert [row["edges"] for row in report] == [80, 80]
    assert all(check.ok for check in store.verify_all())
    check_invariants(root)


def test_second_run_computes_nothing(runs, computed, store):
    """`B122`: a second run makes no result and no version."""
    [first] = runs()
    computed()
    version = store.catalog.version
    [second] = runs()
    assert not computed()
    assert second == {step: ("reused", name) for step, (_, name) in first.items()}
    assert store.catalog.version == version


def test_one_touched_row_recomputes_what_is_downstream(runs, computed, verdicts, tmp_path):
    """`B114`: one changed source row makes its downstream stale, and that alone is made again."""
    [first] = runs()
    computed()
    path = tmp_path / "sources" / "articles.csv"
    path.write_text(path.read_text().replace("number 3 of", "number three of"))
    assert stale(verdicts(first)) == ARTICLES
    told = runs(4)
    assert computed() == Counter(ARTICLES)
    assert {step for step, (_, name) in told[0].items() if name != first[step][1]} == ARTICLES
    assert not stale(verdicts(told[0]))


def test_lost_file_is_repaired(runs, computed, verdicts, store):
    """`B119`: a vanished Parquet file makes its dependants stale; the next run repairs them."""
    [first] = runs()
    computed()
    lost = first["embed articles"][1]
    lose(store, lost)
    before = verdicts(first)
    assert stale(before) >= {"graph articles", "report"}
    assert stale(before).isdisjoint({"embed products", "graph products"})
    assert isinstance(before["graph articles"].reasons[0], InputVanished)
    assert lost in str(before["report"].explain())
    told = runs(4)
    assert computed() == Counter(ARTICLES)
    assert not stale(verdicts(told[0]))
    assert told[0]["graph products"] == ("reused", first["graph products"][1])


@pytest.fixture
def recomputed(root, tmp_path):
    """Return a function that runs a plan in processes; it returns their answers."""
    given = (str(root), str(tmp_path / "sources"), str(tmp_path / "marks"))
    return lambda plan, number=1: run_together(
        pipeline.recompute, [(*given, plan.to_dict())] * number
    )


def touch(tmp_path):
    path = tmp_path / "sources" / "articles.csv"
    path.write_text(path.read_text().replace("number 3 of", "number three of"))


def test_recompute_after_a_touched_row(*, runs, recomputed, computed, store, tmp_path, root):
    """`B272`: after a source changed, one plan makes everything downstream anew, and it is fresh.

    Two processes run it, and each step is computed once. What did not depend on the source stays.
    """
    [first] = runs()
    computed()
    touch(tmp_path)
    names = {step: name for step, (_, name) in first.items()}
    plan = store.recompute_plan(names["embed articles"], "downstream")
    assert plan.table_names == tuple(
        names[step] for step in ("embed articles", "graph articles", "report")
    )
    told = recomputed(plan, 2)
    assert computed() == Counter(ARTICLES)
    new = {old: name for old, (_, name) in told[0].items()}
    assert new == {old: name for old, (_, name) in told[1].items()}
    resolvers = pipeline.resolvers(tmp_path / "sources")
    rows = store.staleness_all(resolvers=resolvers).to_pylist()
    state = {row["table_name"]: row["staleness"] for row in rows}
    assert all(state[name] == "fresh" for name in new.values())
    assert all(state[old] == "stale" for old in new)
    assert all(state[names[step]] == "fresh" for step in names.keys() - ARTICLES)
    report = store.catalog.get_result_table(new[names["report"]])
    sources = [anchor.source for anchor in report.input_anchors]
    assert sources == [new[names["graph articles"]], names["graph products"]]
    check_invariants(root)


def test_pipeline_takes_what_was_recomputed(runs, recomputed, computed, store, tmp_path):
    """`B119`: after a recomputation the pipeline itself finds everything made and computes nothing.

    So a recomputed result is exactly the one that its step would have made.
    """
    [first] = runs()
    touch(tmp_path)
    [told] = recomputed(store.recompute_plan(first["embed articles"][1], "downstream"))
    computed()
    [again] = runs()
    assert not computed()
    assert {name for _, name in again.values()} >= {name for _, name in told.values()}


def test_recompute_of_what_is_unchanged(runs, recomputed, store):
    """`B271`: over unchanged sources every new Parquet has the digest of the old one."""
    [first] = runs()
    name = first["embed articles"][1]
    [told] = recomputed(store.recompute_plan(name, "downstream"))
    for old, (outcome, new) in told.items():
        assert outcome == "computed"
        assert new != old
        digests = [store.read_materialization_manifest(each).artifact for each in (old, new)]
        assert digests[0] == digests[1]
