"""The whole lineage of a name, down and up: in order, in one scan, as one tenant sees it."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.faults import CountingStorage
from support.graphs import adopt, adopt_graph, pairs, result
from support.roots import MemoryRoots
from support.scopes import ACME, BETA, HANDLES

from jammi_files import (
    AnchorKind,
    Catalog,
    DependencyCycleError,
    FormatError,
    InputAnchor,
    InvalidInputError,
    Lineage,
    LineageEdge,
    ModelTask,
    ResultStore,
    ResultTableStatus,
    TableNotFoundError,
    connect,
)
from jammi_files.interop import import_jammi
from jammi_files.lineage import derives_from_closure
from jammi_files.local import LocalStorage
from jammi_files.reads import Reads
from jammi_files.snapshot import Snapshot

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
EXPECTED = json.loads((FIXTURE / "expected.json").read_bytes())["derives_from"]
DEEP = 100_000
CYCLE = "dependency cycle in derives-from lineage at table `{}`"


@pytest.fixture(scope="module")
def deep():
    """Return a store with a chain t0 -> t1 -> ... of 100,000 results over the raw source raw."""
    roots = MemoryRoots()
    store = ResultStore(Catalog(roots.new()))
    parents = ["raw", *(f"t{number}" for number in range(DEEP - 1))]
    adopt(store, (result(f"t{number}", [parent]) for number, parent in enumerate(parents)))
    yield store
    roots.close()


# --- downstream


def test_chain_of_three(store):
    """`B135`: every edge that is reachable downstream is reported, not those of one hop only."""
    adopt_graph(store, a=["raw"], b=["a"], c=["b"], other=["elsewhere"])
    assert store.derives_from_closure("a") == [
        LineageEdge("a", "b", AnchorKind.RESULT_DIGEST),
        LineageEdge("b", "c", AnchorKind.RESULT_DIGEST),
    ]
    assert pairs(store.derives_from_closure("raw")) == [("raw", "a"), ("a", "b"), ("b", "c")]


def test_depth_first_order(store):
    """`B135`: a dependant's own dependants come before the next dependant, the oldest first."""
    adopt_graph(store, z=["raw"], a=["raw"], z2=["z"], z1=["z"], z21=["z2"], a1=["a"])
    assert pairs(store.derives_from_closure("raw")) == [
        ("raw", "z"),
        ("z", "z2"),
        ("z2", "z21"),
        ("z", "z1"),
        ("raw", "a"),
        ("a", "a1"),
    ]


def test_order_of_equal_ages(store):
    """`B135`: rows created in the same instant come by name."""
    instant = "2026-01-01T00:00:00.000000000Z"
    adopt(store, (result(name, ["raw"], created_at=instant) for name in "zabA"))
    derived = [edge.derived for edge in store.derives_from_closure("raw")]
    assert derived == ["A", "a", "b", "z"]


def test_nothing_derives(store):
    """`B133`, `B135`: no dependants is an empty list, for a name that nobody knows too."""
    assert store.derives_from_closure("a") == []
    adopt_graph(store, a=["raw"])
    assert store.derives_from_closure("a") == []
    assert store.derives_from_closure("nothing") == []


@pytest.mark.parametrize("bad", ["", None, 5, "\ud800"])
def test_no_source(store, bad):
    """`B135`: the source of a closure must be text."""
    with pytest.raises(InvalidInputError, match="source"):
        store.derives_from_closure(bad)


def test_several_anchors_on_one_source(store):
    """`B131`, `B135`: each anchor is an edge of its kind; the dependant is expanded once."""
    pinned = InputAnchor.mutable_version("raw", 1)
    unpinned = InputAnchor.unpinned_at_instant("raw", "2026-01-01T00:00:00+00:00")
    adopt_graph(store, a=[pinned, InputAnchor.source_version("x", "1"), unpinned], b=["a"])
    edges = store.derives_from_closure("raw")
    assert pairs(edges) == [("raw", "a"), ("a", "b"), ("raw", "a")]
    assert [edge.kind for edge in edges] == [pinned.kind, AnchorKind.RESULT_DIGEST, unpinned.kind]


@pytest.mark.parametrize("status", ["building", "failed"])
def test_only_ready_rows_make_edges(store, status):
    """`B131`, `B134`: a row that is not ready is no dependant and leads nowhere."""
    middle = result("b", ["a"], status=ResultTableStatus(status))
    adopt(store, [result("a"), middle, result("c", ["b"])])
    assert store.derives_from_closure("a") == []
    assert pairs(store.derives_from_closure("b")) == [("b", "c")]
    assert pairs(store.upstream_closure("c")) == [("b", "c")]
    assert store.upstream_closure("b") == []


def test_chain_of_200(store):
    """`B136`: a chain of 200 results is followed to its end."""
    adopt(store, (result(f"t{number + 1}", [f"t{number}"]) for number in range(200)))
    expected = [(f"t{number}", f"t{number + 1}") for number in range(200)]
    assert pairs(store.derives_from_closure("t0")) == expected


def test_chain_of_100_000_downstream(deep):
    """`B136`: depth costs no recursion."""
    edges = deep.derives_from_closure("raw")
    assert len(edges) == DEEP
    assert all(edge.derived == f"t{number}" for number, edge in enumerate(edges))


def test_chain_of_100_000_upstream(deep):
    """`B136`, `B142`: nor does it upwards."""
    edges = deep.upstream_closure(f"t{DEEP - 1}")
    assert len(edges) == DEEP
    assert edges[0] == LineageEdge(f"t{DEEP - 2}", f"t{DEEP - 1}", AnchorKind.RESULT_DIGEST)
    assert edges[-1] == LineageEdge("raw", "t0", AnchorKind.RESULT_DIGEST)


def test_drawings_of_100_000(deep):
    """`B136`: a drawing of a deep chain holds each edge in a line of bounded length."""
    lineage = deep.lineage(f"t{DEEP // 2}")
    assert len(lineage.upstream) + len(lineage.downstream) == DEEP
    for drawn in (lineage.to_text(), lineage.to_dot(), lineage.to_mermaid()):
        lines = drawn.splitlines()
        assert len(lines) >= DEEP
        assert max(map(len, lines)) < 250


def test_diamond(store):
    """`B137`: a shared child is expanded once, both edges into it are reported, it is no cycle."""
    adopt_graph(store, a=[], b=["a"], c=["a"], d=["b", "c"], e=["d"])
    expected = [("a", "b"), ("b", "d"), ("d", "e"), ("a", "c"), ("c", "d")]
    assert pairs(store.derives_from_closure("a")) == expected


def test_wide_diamond(store):
    """`B137`: 500 paths to one child with 500 dependants are 1,500 edges, not 250,000."""
    middle = [f"m{number}" for number in range(500)]
    leaves = [f"l{number}" for number in range(500)]
    shared = result("shared", middle)
    adopt(store, [*(result(name, ["top"]) for name in middle), shared])
    adopt(store, [result(name, ["shared"]) for name in leaves])
    edges = store.derives_from_closure("top")
    assert len(edges) == len(set(edges)) == 1500
    assert len(store.upstream_closure("l0")) == 1001


def test_stacked_diamonds(store):
    """`B137`: 60 diamonds on each other hold 2**60 paths and 240 edges."""
    rows = []
    for level in range(60):
        sides = [f"{level}l", f"{level}r"]
        rows += [result(side, [f"{level}"]) for side in sides]
        rows.append(result(f"{level + 1}", sides))
    adopt(store, rows)
    assert len(store.derives_from_closure("0")) == 240
    assert len(store.upstream_closure("60")) == 240


@pytest.mark.parametrize(
    ("anchors", "start", "at"),
    [
        ({"a": ["c"], "b": ["a"], "c": ["b"]}, "a", "a"),
        ({"a": ["c"], "b": ["a"], "c": ["b"]}, "b", "b"),
        ({"a": ["raw", "c"], "b": ["a"], "c": ["b"]}, "raw", "a"),
        ({"a": ["b"], "b": ["a"]}, "a", "a"),
    ],
)
def test_back_edge(store, anchors, start, at):
    """`B138`: a back edge is a typed error whose text names the table that closes the cycle."""
    adopt_graph(store, **anchors)
    with pytest.raises(DependencyCycleError) as caught:
        store.derives_from_closure(start)
    assert str(caught.value) == CYCLE.format(at)


def test_back_edge_upstream(store):
    """`B138`, `B142`: the upward walk names the table at which it came back to its own path."""
    adopt_graph(store, a=["c"], b=["a"], c=["b"], leaf=["c"])
    with pytest.raises(DependencyCycleError) as caught:
        store.upstream_closure("leaf")
    assert str(caught.value) == CYCLE.format("c")
    with pytest.raises(DependencyCycleError):
        store.lineage("leaf")


def test_self_edge(store):
    """`B139`: a table that is anchored on itself is a cycle in both directions."""
    adopt_graph(store, a=["a"], b=["a"])
    for closure in (store.derives_from_closure, store.upstream_closure):
        with pytest.raises(DependencyCycleError) as caught:
            closure("a")
        assert str(caught.value) == CYCLE.format("a")


def test_cycle_elsewhere(store):
    """`B138`: a cycle that the walk does not reach is not this closure's concern."""
    adopt_graph(store, a=["b"], b=["a"], x=["raw"], y=["x"])
    assert pairs(store.derives_from_closure("raw")) == [("raw", "x"), ("x", "y")]
    assert pairs(store.upstream_closure("y")) == [("x", "y"), ("raw", "x")]


# --- tenants


def test_tenants_at_every_hop(store):
    """`B140`: a hop through another tenant's result is no hop, though what follows is visible."""
    mine, theirs = {"tenant_id": ACME}, {"tenant_id": BETA}
    rows = [result("a"), result("mine", ["a"], **mine), result("theirs", ["a"], **theirs)]
    adopt(store, [*rows, result("m2", ["mine"]), result("t2", ["theirs"]), result("g", ["a"])])
    seen = {
        "unbound": {("a", "g")},
        "acme": {("a", "mine"), ("mine", "m2"), ("a", "g")},
    }
    everything = {*seen["acme"], ("a", "theirs"), ("theirs", "t2")}
    for name, handle in HANDLES.items():
        edges = pairs(handle(store).derives_from_closure("a"))
        assert set(edges) == seen.get(name, everything)
        assert len(edges) == len(set(edges))


def test_tenants_upstream(store):
    """`B140`, `B142`: a visible row's anchors are told, an invisible parent's are not."""
    theirs = result("theirs", ["raw"], tenant_id=BETA)
    adopt(store, [theirs, result("child", ["theirs"])])
    assert pairs(store.upstream_closure("child")) == [("theirs", "child")]
    both = [("theirs", "child"), ("raw", "theirs")]
    assert pairs(store.as_admin().upstream_closure("child")) == both


def test_cycle_of_a_stranger(store):
    """`B140`: a cycle through rows that the tenant does not see is none."""
    adopt(store, [result("a", ["b"]), result("b", ["a"], tenant_id=BETA)])
    assert store.derives_from_closure("a") == []
    assert pairs(store.derives_from_closure("b")) == [("b", "a")]
    with pytest.raises(DependencyCycleError):
        store.pinned_to_tenant(BETA).derives_from_closure("a")


# --- upstream


def test_upstream(store):
    """`B142`: ancestors come depth-first in producer order, back to raw sources."""
    raw = InputAnchor.source_version("raw", "v1")
    adopt_graph(store, a=[raw], b=["z", "a"], c=["b", "a"])
    assert pairs(store.upstream_closure("c")) == [
        ("b", "c"),
        ("z", "b"),
        ("a", "b"),
        ("raw", "a"),
        ("a", "c"),
    ]
    assert store.upstream_closure("a") == [LineageEdge("raw", "a", AnchorKind.SOURCE_VERSION)]


def test_upstream_of_no_inputs(store):
    """`B142`: a result without inputs, or from before the contract, has no ancestors."""
    adopt(store, [result("empty"), result("old", input_anchors=None)])
    assert store.upstream_closure("empty") == store.upstream_closure("old") == []


def test_unknown_table(store):
    """`B142`: the table must be a visible row; a raw source has no ancestors to ask for."""
    adopt(store, [result("a", ["raw"]), result("theirs", tenant_id=BETA)])
    for name in ("raw", "nothing", "theirs"):
        for call in (store.upstream_closure, store.lineage):
            with pytest.raises(TableNotFoundError, match=f"^Result table '{name}' not found$"):
                call(name)


# --- the past


def test_as_of(store):
    """`B281`: closures of an instant are those of the rows that were committed by then."""
    adopt_graph(store, a=["raw"], b=["a"])
    adopt_graph(store, c=["b"])
    store.delete_table("c")
    first, second, last = (commit.committed_at for commit in store.catalog.history())
    for as_of, known in ((first, "b"), (second, "c"), (last, "b")):
        edges = [("raw", "a"), ("a", "b"), *([("b", "c")] if known == "c" else [])]
        assert pairs(store.derives_from_closure("raw", as_of=as_of)) == edges
        assert pairs(store.upstream_closure(known, as_of=as_of)) == edges[::-1]
        assert pairs(store.lineage("a", as_of=as_of).edges) == edges
    with pytest.raises(TableNotFoundError):
        store.lineage("c", as_of=last)


def test_before_the_first_commit(store):
    """Before the first commit there was nothing, and an instant must say its time zone."""
    adopt_graph(store, a=["raw"])
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert store.derives_from_closure("raw", as_of=long_ago) == []
    with pytest.raises(TableNotFoundError):
        store.upstream_closure("a", as_of=long_ago)
    with pytest.raises(InvalidInputError):
        store.lineage("a", as_of="yesterday")


# --- one scan, and where rows lie


@pytest.mark.parametrize("rows", [3, 300])
def test_one_scan(root, monkeypatch, rows):
    """`B141`: a closure asks for the rows once, and storage once whether that is still current."""
    storage = CountingStorage(LocalStorage(root, "os"))
    store = ResultStore(Catalog(storage))
    adopt(store, (result(f"t{number + 1}", [f"t{number}"]) for number in range(rows)))
    scans, scan = [], Reads.scan
    monkeypatch.setattr(Reads, "scan", lambda *args: scans.append(1) or scan(*args))
    monkeypatch.setattr(Snapshot, "select", None)
    calls = {
        store.derives_from_closure: "t0",
        store.upstream_closure: f"t{rows}",
        store.lineage: "t2",
    }
    for call, name in calls.items():
        call(name)  # warm: the rows are in memory from here on
        scans.clear()
        with storage.counting() as seen:
            call(name)
        assert len(scans) == 1
        assert [operation.kind for operation in seen] == ["peek"]


@pytest.mark.usefixtures("small_runs")
def test_segments_and_inline_rows(store):
    """`B135`, `B141`: edges are the same wherever rows lie, and superseded rows make none."""
    for number in range(12):
        adopt_graph(store, **{f"t{number + 1}": [f"t{number}"]})
    store.catalog.fail_result_table("t9", "gone bad")
    store.delete_table("t3", cascade=False)
    expected = [(f"t{number}", f"t{number + 1}") for number in range(3, 8)]
    for opened in (store, connect(store.root)):
        assert pairs(opened.derives_from_closure("t0")) == [("t0", "t1"), ("t1", "t2")]
        assert pairs(opened.derives_from_closure("t3")) == expected
        assert pairs(opened.upstream_closure("t8")) == expected[::-1]


def test_transaction_sees_its_own(store):
    """Closures work on any reads, those of an open transaction too."""
    with store.catalog.transaction() as tx:
        tx.adopt_result_tables([result("a", ["raw"])])
        assert pairs(derives_from_closure(tx, "raw")) == [("raw", "a")]


def test_damaged_rows_make_no_edges(store, caplog):
    """`B037`: a damaged row, one with an unknown anchor kind too, leaves the others readable."""
    odd = InputAnchor.stored("a", "1", "guessed")
    adopt(store, [result("a"), result("b", ["a"]), result("bad", ["a", odd])])
    adopt(store, [result("worse", ["a"], task=ModelTask.stored("translation"))])
    for opened in (store, connect(store.root)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "jammi_files"):
            assert pairs(opened.derives_from_closure("a")) == [("a", "b")]
        assert "'bad' has an anchor of unknown kind" in caplog.text
        assert opened.derives_from_closure("a") == opened.derives_from("a")
        with pytest.raises(FormatError, match="guessed"):
            opened.upstream_closure("bad")


# --- the real engine's edges


def test_closures_of_the_fixture(store):
    """`B135`, `B142`: both closures of imported results follow from the engine's own edges."""
    import_jammi(FIXTURE, store)
    one_hop = {(e["input"], e["derived"], e["kind"]) for each in EXPECTED.values() for e in each}
    children = {(start, end) for start, end, _ in one_hop}
    for name in EXPECTED:
        below = reach({name}, children)
        closure = {tuple(edge.to_dict().values()) for edge in store.derives_from_closure(name)}
        assert closure == {edge for edge in one_hop if edge[0] in below}
        above = reach({name}, {(end, start) for start, end in children})
        results = {
            edge for edge in store.upstream_closure(name) if edge.kind is AnchorKind.RESULT_DIGEST
        }
        found = {tuple(edge.to_dict().values()) for edge in results}
        assert found == {edge for edge in one_hop if edge[1] in above}
        assert store.upstream_closure(name)


def test_raw_sources_of_the_fixture(store):
    """`B132`, `B142`: the walk up ends at the raw sources that the engine read."""
    import_jammi(FIXTURE, store)
    names = set(EXPECTED)
    raw = {edge.input for name in names for edge in store.upstream_closure(name)} - names
    assert raw == {"docs", "cites", "trades", "quotes"}
    for source in raw:
        assert store.derives_from_closure(source)


# --- against a breadth-first search


OWNERS = (None, ACME, BETA)
NODES = [f"n{number}" for number in range(8)]
NAMES = ["raw", *NODES]


@st.composite
def graphs(draw, *, acyclic):
    """Draw rows (name, owner, status, anchors); without cycles a row anchors earlier names only."""
    rows = []
    for number, name in enumerate(NODES):
        inputs = st.sampled_from(["raw", *(NODES[:number] if acyclic else NODES)])
        anchor = st.builds(InputAnchor, inputs, st.just("1"), st.sampled_from(AnchorKind))
        anchors = draw(st.lists(anchor, max_size=3))
        status = draw(st.sampled_from(["ready", "ready", "ready", "failed"]))
        rows.append((name, draw(st.sampled_from(OWNERS)), status, anchors))
    return draw(st.permutations(rows))


def visible_edges(rows, tenant):
    return [
        (anchor.source, name, anchor.kind)
        for name, owner, status, anchors in rows
        if status == "ready" and owner in (None, tenant)
        for anchor in anchors
    ]


def is_visible(rows, name, tenant):
    return any(name == row and owner in (None, tenant) for row, owner, _, _ in rows)


def reach(starts, steps):
    found, queue = set(starts), deque(starts)
    while queue:
        node = queue.popleft()
        for start, end in steps:
            if start == node and end not in found:
                found.add(end)
                queue.append(end)
    return found


def has_cycle(steps, nodes):
    """Say whether some node among ``nodes`` can come back to itself."""
    return any(
        node in reach({end for start, end in steps if start == node}, steps) for node in nodes
    )


def by_recursion(start, out, seen):
    """Return the edges in depth-first discovery order, by the textbook."""
    found = []
    for edge in out:
        if edge[0] == start:
            found.append(edge)
            if edge[1] not in seen:
                seen.add(edge[1])
                found += by_recursion(edge[1], out, seen)
    return found


def stored(rows):
    roots = MemoryRoots()
    store = ResultStore(Catalog(roots.new()))
    adopt(
        store,
        (
            result(name, anchors, tenant_id=owner, status=ResultTableStatus(status))
            for name, owner, status, anchors in rows
        ),
    )
    return roots, store


def flat(edges):
    return [(edge.input, edge.derived, edge.kind) for edge in edges]


@settings(max_examples=150, deadline=None)
@given(rows=graphs(acyclic=True), tenant=st.sampled_from(OWNERS), name=st.sampled_from(NAMES))
def test_closures_against_breadth_first_search(rows, tenant, name):
    """`B135` to `B137`, `B140`, `B142`: both closures hold what a breadth-first search finds."""
    roots, store = stored(rows)
    handle = store.pinned_to_tenant(tenant)
    edges = visible_edges(rows, tenant)
    down = {(start, end) for start, end, _ in edges}
    downstream, below = flat(handle.derives_from_closure(name)), reach({name}, down)
    assert sorted(downstream) == sorted(edge for edge in edges if edge[0] in below)
    assert downstream == by_recursion(name, edges, {name})
    if is_visible(rows, name, tenant):
        above = reach({name}, {(end, start) for start, end in down})
        upstream = flat(handle.upstream_closure(name))
        assert sorted(upstream) == sorted(edge for edge in edges if edge[1] in above)
        lineage = handle.lineage(name)
        assert (flat(lineage.upstream), flat(lineage.downstream)) == (upstream, downstream)
    roots.close()


@settings(max_examples=150, deadline=None)
@given(rows=graphs(acyclic=False), tenant=st.sampled_from(OWNERS), name=st.sampled_from(NAMES))
def test_cycles_against_breadth_first_search(rows, tenant, name):
    """`B138`, `B139`, `B140`: exactly the graphs in which a cycle is reached are refused."""
    roots, store = stored(rows)
    handle = store.pinned_to_tenant(tenant)
    down = {(start, end) for start, end, _ in visible_edges(rows, tenant)}
    check_refusal(handle.derives_from_closure, name, down)
    if is_visible(rows, name, tenant):
        check_refusal(handle.upstream_closure, name, {(end, start) for start, end in down})
    roots.close()


def check_refusal(closure, name, steps):
    if has_cycle(steps, reach({name}, steps)):
        with pytest.raises(DependencyCycleError):
            closure(name)
    else:
        closure(name)


# --- the value


def test_lineage_value(store):
    """A lineage is a frozen value with both closures and a JSON form."""
    adopt_graph(store, a=["raw"], b=["a"], c=["b"])
    lineage = store.lineage("b")
    assert lineage.table_name == "b"
    assert list(lineage.upstream) == store.upstream_closure("b")
    assert list(lineage.downstream) == store.derives_from_closure("b")
    assert lineage.edges == lineage.upstream + lineage.downstream
    assert json.loads(json.dumps(lineage.to_dict())) == {
        "table_name": "b",
        "upstream": [
            {"input": "a", "derived": "b", "kind": "result_digest"},
            {"input": "raw", "derived": "a", "kind": "result_digest"},
        ],
        "downstream": [{"input": "b", "derived": "c", "kind": "result_digest"}],
    }
    assert lineage == Lineage("b", lineage.upstream, lineage.downstream)
    assert hash(lineage)
