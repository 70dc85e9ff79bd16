"""The freshness of everything at once: one pass, the same answers as one by one."""

from __future__ import annotations

import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs import adopt, result
from support.pipelines import ENV, NEWER_ENV, at, docs, listing, lose, make, on, opened
from support.scopes import ACME

from jammi_files import InputAnchor, connect
from jammi_files.interop import import_jammi

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
ROOTS = (f"sweep{number}" for number in itertools.count())


def test_all_columns(store):
    """`staleness_all` lists the ready results, oldest first, with typed columns."""
    assert store.staleness_all().num_rows == 0
    names = [make(store, producer=each) for each in "cab"]
    table = store.staleness_all()
    assert table.schema.names == [
        "table_name",
        "staleness",
        "reasons",
        "unpinned",
        "explanation",
    ]
    assert table.schema == connect(f"memory://{next(ROOTS)}").staleness_all().schema
    assert table["table_name"].to_pylist() == names
    assert table["explanation"].null_count == 3


def test_all_for_a_tenant(store):
    """`staleness_all` shows and uses what the scope sees."""
    acme = store.pinned_to_tenant(ACME)
    parent = make(acme)
    child = make(store, on(acme, parent), "graph")
    assert listing(store) == {child: "stale"}
    assert listing(acme) == {parent: "fresh", child: "fresh"}


def wide(store, *, parents, children):
    """Adopt so many parents, and children of which each is made from the same three of them."""
    names = [make(store, docs("1"), f"p{number}") for number in range(parents)]
    anchors = [store.result_digest_anchor(name) for name in names]
    adopt(
        store,
        [
            result(f"c{number:05}", anchors[:3], definition_hash=f"{number:064}")
            for number in range(children)
        ],
    )
    return names


def test_requests_of_all(store, root):
    """One pass: storage is asked once per distinct parent, however many results have it.

    That the data exists takes a stat; sidecars are read only if the caller wants that.
    """
    names = wide(store, parents=3, children=2000)
    warm, storage = opened(root)
    warm.catalog.scan()
    with storage.counting() as calls:
        table = warm.staleness_all(resolvers=at("1"))
    assert set(table["staleness"].to_pylist()) == {"fresh"}
    exist = [("size", f"{name}.parquet") for name in names]
    assert (calls.looks, sorted(calls.of_results)) == (1, sorted(exist))
    with storage.counting() as calls:
        warm.staleness_all(resolvers=at("1"), check_bytes=True)
    attest = [("read", f"{name}.materialization.json") for name in names]
    assert (calls.looks, sorted(calls.of_results)) == (1, sorted(exist + attest))
    with storage.counting() as calls:
        warm.staleness_all(resolvers=at("1"), check_bytes=False)
    assert (calls.looks, calls.of_results) == (1, [])


def test_executor(store, root):
    """Parents can be looked at on an executor: the same questions, the same answers."""
    names = wide(store, parents=5, children=10)
    warm, storage = opened(root)
    with ThreadPoolExecutor(2) as executor:
        with storage.counting() as calls:
            assert warm.staleness_all(executor=executor).equals(store.staleness_all())
        looked_at = calls.keys("size")
        assert len(looked_at) == len(set(looked_at)) > 0
        lose(store, names[1])
        assert warm.staleness_all(executor=executor).equals(store.staleness_all())


def test_processes(root, store):
    """Processes can look at the parents too."""
    names = wide(store, parents=3, children=4)
    lose(store, names[0])
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, context) as executor:
        found = connect(root).staleness_all(executor=executor)
    assert found.equals(store.staleness_all())


def test_resolvers_are_asked_once(store):
    """Each source is resolved once, however many results were made from it."""
    wide(store, parents=2, children=50)
    asked = []
    store.staleness_all(
        check_bytes=False, resolvers={"source_version": lambda s: asked.append(s) or "1"}
    )
    assert asked == ["docs"]


def test_real_artifacts(store):
    """`B237`, `B243`: 0.32 calls the graphs of its own fixture fresh; their sources are unpinned.

    A resolver that says when the sources last changed decides all of them.
    """
    import_jammi(FIXTURE, store)
    assert set(listing(store).values()) == {"undecidable"}

    def judged(changed):
        resolvers = {"unpinned_at_instant": lambda _: changed}
        table = store.staleness_all(resolvers=resolvers, check_bytes=False)
        return set(table["staleness"].to_pylist())

    assert judged("2026-11-22T21:00:00Z") == {"fresh"}
    assert judged("2026-11-22T22:00:00Z") == {"stale"}


sources = st.sampled_from(["docs", "mail"])
steps = st.lists(
    st.fixed_dictionaries(
        {
            "producer": st.sampled_from(["e", "g"]),
            "parents": st.lists(st.integers(0, 30), max_size=2),
            "raw": st.one_of(st.none(), sources),
            "tenant": st.sampled_from([None, None, ACME]),
            "env": st.sampled_from([ENV, ENV, NEWER_ENV]),
            "harm": st.sampled_from([None, None, None, "fail", "lose", "delete"]),
        }
    ),
    max_size=7,
)


def play(history):
    """Make results in a fresh root as the history says; return the store and their names."""
    store = connect(f"memory://{next(ROOTS)}")
    names = []
    for step in history:
        mine = store.pinned_to_tenant(step["tenant"])
        above = dict.fromkeys(names[each % len(names)] for each in step["parents"] if names)
        inputs = [InputAnchor.result_digest(each, "ab") for each in above]
        admin = store.as_admin()
        for position, each in enumerate(above):
            if admin.catalog.get_result_table(each) is not None:
                inputs[position] = admin.result_digest_anchor(each)
        if step["raw"]:
            inputs.append(InputAnchor.source_version(step["raw"], "1"))
        names.append(make(mine, inputs, step["producer"], env=step["env"]))
    for step, name in zip(history, names, strict=True):
        mine = store.pinned_to_tenant(step["tenant"])
        if step["harm"] == "fail":
            mine.catalog.fail_result_table(name, "no")
        elif step["harm"] == "lose":
            lose(store, name)
        elif step["harm"] == "delete":
            mine.delete_table(name)
    return store, names


def direct(verdict):
    """Return the reasons of a verdict that are its own, as `staleness_all` writes them."""
    reasons = verdict.reasons if verdict.staleness == "stale" else ()
    reasons = verdict.decided_reasons if verdict.staleness == "undecidable" else reasons
    return [each.to_dict() for each in reasons if each.reason != "ancestor_stale"]


@settings(max_examples=60, deadline=None)
@given(
    history=steps,
    current=st.sampled_from(["1", "2"]),
    check_bytes=st.sampled_from([False, True, "exists", "sidecar", "size", "digest"]),
)
def test_one_and_all_agree(history, current, check_bytes):
    """`staleness` and `staleness_all` say the same of every ready result, in every scope."""
    store, _ = play(history)
    resolvers = {"source_version": {"docs": current}.get}
    for scope in (store, store.pinned_to_tenant(ACME), store.as_admin()):
        table = scope.staleness_all(resolvers=resolvers, check_bytes=check_bytes)
        ready = scope.catalog.list_result_tables_by_status("ready")
        assert table["table_name"].to_pylist() == [record.table_name for record in ready]
        for found in table.to_pylist():
            one = scope.staleness(found["table_name"], resolvers=resolvers, check_bytes=check_bytes)
            assert found["staleness"] == one.staleness
            own = [
                {key: value for key, value in each.items() if value is not None}
                for each in found["reasons"]
                if each["reason"] != "ancestor_stale"
            ]
            assert own == direct(one)
            assert bool(found["explanation"]) == (not one.ok)


@settings(max_examples=60, deadline=None)
@given(history=steps, current=st.sampled_from(["1", "2"]))
def test_stale_by_reachability(history, current):
    """`B243`: a result is stale exactly if it or some ancestor has a reason of its own."""
    store, _ = play(history)
    admin = store.as_admin()
    resolvers = {"source_version": lambda _: current}
    ready = {
        record.table_name: [
            each.source for each in record.input_anchors if each.kind == "result_digest"
        ]
        for record in admin.catalog.list_result_tables_by_status("ready")
    }
    verdicts = {name: admin.staleness(name, resolvers=resolvers) for name in ready}
    for name, verdict in verdicts.items():
        family, waiting = set(), [name]
        while waiting:
            each = waiting.pop()
            if each in ready and each not in family:
                family.add(each)
                waiting += ready[each]
        assert verdict.is_stale == any(direct(verdicts[each]) for each in family)
        assert verdict.ok == (not verdict.is_stale)
