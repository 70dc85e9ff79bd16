"""What would be computed again: order, reasons, obstacles, scope, and the plan as a value."""

from __future__ import annotations

import json
import pickle
import threading
from graphlib import TopologicalSorter
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.faults import CountingStorage
from support.graphs import adopt as adopt_rows
from support.graphs import adopt_graph, result
from support.pipelines import lose
from support.recomputing import DIAMOND, adopt_attested, docs, how, make, make_graph
from support.roots import MemoryRoots
from support.scopes import ACME, BETA

import jammi_files as jf
from jammi_files import (
    Cascade,
    DependencyCycleError,
    FormatError,
    InputAnchor,
    InvalidInputError,
    NotRecomputableError,
    Obstacle,
    ParentRecomputed,
    ParentReplaced,
    RecomputePlan,
    Requested,
    ResultStore,
    TableNotFoundError,
    UnsupportedVersionError,
)
from jammi_files.catalog import Catalog
from jammi_files.strict_json import canonical_json

SIDECAR = "{}.materialization.json"


@pytest.fixture
def names(store):
    """Return the tables of a diamond by label."""
    return make_graph(store, DIAMOND)


def obstacles(plan):
    return {each.table_name: each.obstacle for each in plan.unplannable}


# --- what is asked


def test_cascade_strings():
    """`B019`: there are two cascades; `report_only` is the default."""
    assert [each.value for each in Cascade] == ["report_only", "downstream"]
    assert Cascade.default() is Cascade.REPORT_ONLY
    assert [Cascade.parse(each.value) for each in Cascade] == list(Cascade)


@pytest.mark.parametrize("wrong", ["", "Downstream", "upstream", " report_only"])
def test_other_cascades(store, wrong):
    """`B019`: any other is a ValueError with this text, before the table is looked for."""
    text = f"cascade must be 'report_only' or 'downstream' (got '{wrong}')"
    with pytest.raises(ValueError) as caught:
        store.recompute_plan("none", wrong)
    assert str(caught.value) == text
    assert isinstance(caught.value, InvalidInputError)


def test_unknown_table(store):
    """A table that is not there cannot be planned."""
    with pytest.raises(TableNotFoundError, match="Result table 'none' not found"):
        store.recompute_plan("none")


def test_no_sidecar(store, names):
    """`B267`: a table without a sidecar is refused in these words."""
    store.storage.delete(SIDECAR.format(names["a"]))
    for cascade in Cascade:
        with pytest.raises(NotRecomputableError) as caught:
            store.recompute_plan(names["a"], cascade)
        text = f"table `{names['a']}` carries no materialization contract and cannot be recomputed"
        assert str(caught.value) == text


def test_rows_that_a_caller_gave(store):
    """`B267`, `B212`: what is defined by its very rows has no producer, in the words of 0.33."""
    name = store.materialize_computed_embedding_table(
        "docs",
        "mine",
        pa.array(["a"]),
        pa.array([[3.0, 4.0]]),
        producer_id="mine",
        params={},
        env=jf.MaterializationEnv("1", jf.Device.cpu()),
        inputs=[],
        dimensions=2,
    )
    text = f"table `{name}` has no engine-recomputable producer and cannot be recomputed"
    with pytest.raises(NotRecomputableError) as caught:
        store.recompute_plan(name)
    assert str(caught.value).startswith(text)
    assert "replaced_by" in str(caught.value)


def test_damaged_sidecar_of_the_named_table(store, names):
    """A damaged sidecar is an error of its own and never taken for a missing one (`B187`)."""
    store.storage.replace(SIDECAR.format(names["a"]), b"{")
    with pytest.raises(FormatError):
        store.recompute_plan(names["a"])
    forge(store, names["b"], manifest_version=4)
    with pytest.raises(UnsupportedVersionError):
        store.recompute_plan(names["b"])


def test_named_table_whose_sidecar_lies(store, names):
    """A sidecar that contradicts its row says nothing about how to compute the table."""
    forge(store, names["a"])
    with pytest.raises(NotRecomputableError, match="its sidecar says"):
        store.recompute_plan(names["a"])


def test_named_table_whose_input_is_gone(store, names):
    """An input that cannot be read again is told before anything is run."""
    lose(store, names["a"])
    with pytest.raises(NotRecomputableError, match="has vanished: its bytes are gone"):
        store.recompute_plan(names["b"])


def forge(store, name, **fields):
    """Let a table's sidecar attest something else than its row holds."""
    manifest = json.loads(store.storage.read(SIDECAR.format(name)))
    manifest |= fields or {"definition_hash": "f" * 64}
    store.storage.replace(SIDECAR.format(name), json.dumps(manifest).encode())


# --- the steps


def test_report_only(store, names):
    """`B268`: the named table is the one step, its dependants are listed once each, as found."""
    plan = store.recompute_plan(names["a"])
    assert plan.cascade is Cascade.REPORT_ONLY
    assert plan.table_names == (names["a"],)
    assert plan.downstream == (names["b"], names["d"], names["c"])
    edges = store.derives_from_closure(names["a"])
    assert plan.downstream == tuple(dict.fromkeys(edge.derived for edge in edges))
    assert len(edges) == 4


def test_downstream(store, names):
    """`B269`: parents first, siblings by name, each once, the named table first."""
    plan = store.recompute_plan(names["a"], "downstream")
    assert plan.table_names == tuple(names[label] for label in "abcd")
    assert store.recompute_plan(names["b"], "downstream").table_names == (names["b"], names["d"])
    assert store.recompute_plan(names["d"], "downstream").table_names == (names["d"],)


def test_siblings_by_name(store):
    """`B269`: ties are broken by name, whatever the age of the rows."""
    adopt_attested(store, {"root": (), "z": ["root"], "m": ["root"], "a": ["root"]})
    assert store.recompute_plan("root", "downstream").table_names == ("root", "a", "m", "z")


def test_order_of_the_engine(store):
    """`B269`: breadth first, as 0.32 does it: what an earlier table makes ready comes earlier."""
    links = {"p1": (), "g2": ["p1"], "n3": ["p1"], "nx": ["g2"], "g5": ["p1", "n3"]}
    adopt_attested(store, links)
    plan = store.recompute_plan("p1", "downstream")
    assert plan.table_names == ("p1", "g2", "n3", "nx", "g5")


def test_what_a_step_says(store, names):
    """A step holds its reasons, its descriptor, its anchors and which parents are made anew."""
    other = make(store, "other", value=5)
    last = make(store, "last", [names["d"], other])
    plan = store.recompute_plan(names["a"], "downstream")
    first, *_, step = plan
    assert first.reasons == (Requested(),)
    assert (first.parents, first.sources) == ((), tuple(docs()))
    assert step.table_name == last
    assert step.reasons == (ParentRecomputed(names["d"]),)
    assert [(each.table_name, each.anew) for each in step.parents] == [
        (names["d"], True),
        (other, False),
    ]
    assert step.descriptor == how("last", [names["d"], other])
    assert step.inputs == store.catalog.get_result_table(last).input_anchors
    assert step.definition_hash == store.catalog.get_result_table(last).definition_hash
    assert step.sources == ()


def test_every_parent_is_a_reason(store, names):
    """A table with several parents that are made anew has a reason for each, in producer order."""
    step = store.recompute_plan(names["a"], "downstream").steps[-1]
    assert step.reasons == (ParentRecomputed(names["b"]), ParentRecomputed(names["c"]))


def test_nothing_is_written(store, names):
    """Planning makes no version and no object."""
    before = store.catalog.version, sorted(store.storage.list(""))
    store.recompute_plan(names["a"], "downstream")
    assert (store.catalog.version, sorted(store.storage.list(""))) == before


# --- what cannot be planned


def test_dependant_without_sidecar(store, names):
    """A dependant without a sidecar is told with what hangs on it; the others are planned."""
    store.storage.delete(SIDECAR.format(names["b"]))
    plan = store.recompute_plan(names["a"], "downstream")
    assert plan.table_names == (names["a"], names["c"])
    assert obstacles(plan) == {
        names["b"]: Obstacle.MISSING_SIDECAR,
        names["d"]: Obstacle.PARENT_UNPLANNABLE,
    }
    assert plan.downstream == (names["b"], names["d"], names["c"])
    assert f"- {names['b']}: it has no sidecar" in str(plan)


@pytest.mark.parametrize(
    ("spoil", "obstacle"),
    [
        (lambda store, name: store.storage.replace(SIDECAR.format(name), b"{"), "damaged_sidecar"),
        (forge, "sidecar_disagrees"),
        (
            lambda store, name: forge(store, name, descriptor=how("other").to_dict()),
            "sidecar_disagrees",
        ),
        (lambda store, name: forge(store, name, input_anchors=[]), "sidecar_disagrees"),
    ],
)
def test_dependant_whose_sidecar_lies(store, names, spoil, obstacle):
    """A damaged or contradicting sidecar keeps its table from being planned, not the others."""
    spoil(store, names["c"])
    plan = store.recompute_plan(names["a"], "downstream")
    assert plan.table_names == (names["a"], names["b"])
    assert obstacles(plan)[names["c"]] == obstacle


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lose, "its bytes are gone"),
        (lambda store, name: store.catalog.fail_result_table(name, "x"), "its row is failed"),
        (lambda store, name: store.delete_table(name), "there is no such result here"),
    ],
)
def test_dependant_whose_other_input_is_gone(store, names, spoil, why):
    """An input outside of the plan that cannot be read is told, and which one it is."""
    other = make(store, "other")
    last = make(store, "last", [names["d"], other], derived_from=names["d"])
    spoil(store, other)
    plan = store.recompute_plan(names["a"], "downstream")
    assert obstacles(plan) == {last: Obstacle.INPUT_VANISHED}
    assert plan.unplannable[0].why == f"its input '{other}' has vanished: {why}"


# --- replaced_by


def test_replaced_by(store, names):
    """A result that exists already takes the table's place: its dependants alone are planned."""
    newer = make(store, "a", value=7, inputs=docs("2"))
    plan = store.recompute_plan(names["a"], "downstream", replaced_by=newer)
    assert plan.table_names == tuple(names[label] for label in "bcd")
    assert plan.steps[0].reasons == (ParentReplaced(names["a"], newer),)
    assert plan.steps[2].reasons == (ParentRecomputed(names["b"]), ParentRecomputed(names["c"]))
    assert f"is replaced by '{newer}'" in str(plan)


def test_replacement_that_derives_from_what_it_replaces(store, names):
    """An increment derives from what it replaces; neither it nor what it carries is planned."""
    newer = make(store, "a2", [names["a"]])
    make(store, "e", [newer])
    plan = store.recompute_plan(names["a"], "downstream", replaced_by=newer)
    assert plan.table_names == tuple(names[label] for label in "bcd")


def test_wrong_replacement(store, names):
    """A replacement is a ready visible result, another than the table, and goes downstream."""
    pending = store.create_table("s", "ner", "model", "m").table_name
    for also, error in [
        ({"replaced_by": names["b"]}, InvalidInputError),
        ({"cascade": "downstream", "replaced_by": names["a"]}, InvalidInputError),
        ({"cascade": "downstream", "replaced_by": "none"}, TableNotFoundError),
        ({"cascade": "downstream", "replaced_by": pending}, InvalidInputError),
    ]:
        with pytest.raises(error):
            store.recompute_plan(names["a"], **also)


# --- graphs


def test_cycle(store):
    """`B269`, `B138`: a cycle is refused, whichever cascade is asked for."""
    adopt_graph(store, a=["c"], b=["a"], c=["b"])
    for cascade in Cascade:
        with pytest.raises(DependencyCycleError, match=r"dependency cycle .* at table `a`"):
            store.recompute_plan("a", cascade)


def test_self_edge(store):
    """`B139`: a table that was made from itself is a cycle."""
    adopt_graph(store, a=["a"])
    with pytest.raises(DependencyCycleError):
        store.recompute_plan("a", "downstream")


def test_deep_chain():
    """`B136`: a chain of 2,000 tables is planned without recursion, each sidecar read once."""
    roots = MemoryRoots()
    storage = CountingStorage(roots.new())
    store = ResultStore(Catalog(storage))
    chain = [f"t{number:04}" for number in range(2000)]
    links = {name: [parent] for parent, name in pairwise(chain)}
    adopt_attested(store, {chain[0]: (), **links})
    with storage.counting() as calls:
        assert store.recompute_plan(chain[0], "downstream").table_names == tuple(chain)
    read = [call.key for call in calls if call.kind == "read" and "_catalog" not in call.key]
    assert read == [SIDECAR.format(name) for name in chain]
    roots.close()


class Meeting(CountingStorage):
    """A store without locks whose reads of sidecars each wait for another one."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_locked, self.barrier = False, threading.Barrier(2)

    def read(self, key):
        if key.endswith(".materialization.json"):
            self.barrier.wait(30)
        return super().read(key)


def test_sidecars_side_by_side():
    """Where the storage has no lock, in a bucket, sidecars are read several at a time."""
    roots = MemoryRoots()
    inner = roots.new()
    adopt_attested(ResultStore(Catalog(inner)), {"a": (), "b": ["a"], "c": ["a"], "d": ["b"]})
    store = ResultStore(Catalog(Meeting(inner)))
    assert store.recompute_plan("a", "downstream").table_names == ("a", "b", "c", "d")
    roots.close()


@st.composite
def graphs(draw):
    """Draw edges from earlier to later nodes, under names whose order says nothing of it."""
    labels = draw(st.permutations([f"t{number}" for number in range(8)]))
    return {
        label: draw(st.lists(st.sampled_from(labels[:number]), unique=True)) if number else []
        for number, label in enumerate(labels)
    }


@settings(max_examples=60, deadline=None)
@given(links=graphs())
def test_any_graph(links):
    """`B269`: the order is topological, complete, and that of an independent computation."""
    roots = MemoryRoots()
    store = ResultStore(Catalog(roots.new()))
    adopt_attested(store, links)
    for start in links:
        plan = store.recompute_plan(start, "downstream")
        order = plan.table_names
        reached = descendants(links, start)
        assert len(order) == len(set(order))
        assert set(order) == reached
        assert order[0] == start
        within = {name: [each for each in links[name] if each in reached] for name in reached}
        assert list(order) == waves(within)
        position = {name: number for number, name in enumerate(order)}
        assert all(position[each] < position[name] for name in within for each in within[name])
        assert set(plan.downstream) == reached - {start}
    roots.close()


def descendants(links, start):
    """Return the names that a start leads to, itself included: by growing a set until it stays."""
    found = {start}
    while True:
        more = {name for name, parents in links.items() if found.intersection(parents)} - found
        if not more:
            return found
        found |= more


def waves(parents):
    """Return the order of 0.32 by its definition: sorted by when the last parent came, then name.

    Python's own sorter says what is ready; only the tie-break is ours.
    """
    sorter = TopologicalSorter(parents)
    sorter.prepare()
    order, ready = [], list(sorter.get_ready())
    while ready:
        ready.sort(key=lambda name: (max(map(order.index, parents[name]), default=-1), name))
        first = ready.pop(0)
        order.append(first)
        sorter.done(first)
        ready += sorter.get_ready()
    return order


# --- tenants


def test_foreign_dependants(store):
    """`B140`: a foreign tenant's dependants are neither planned, nor listed, nor counted."""
    shared = make(store, "shared", inputs=docs())
    mine = make(store.pinned_to_tenant(ACME), "mine", [shared])
    theirs = make(store.pinned_to_tenant(BETA), "theirs", [shared])
    acme = store.pinned_to_tenant(ACME)
    plan = acme.recompute_plan(shared, "downstream")
    assert plan.table_names == (shared, mine)
    assert theirs not in json.dumps(plan.to_dict()) + str(plan)
    assert acme.recompute_plan(shared).downstream == (mine,)
    unbound = store.recompute_plan(shared, "downstream")
    assert (unbound.table_names, unbound.downstream) == ((shared,), ())
    assert "1 step" in str(unbound)
    everything = store.as_admin().recompute_plan(shared, "downstream")
    assert set(everything.table_names) == {shared, mine, theirs}


def test_foreign_obstacles(store):
    """What keeps a foreign tenant's table from being planned is not told either."""
    shared = make(store, "shared", inputs=docs())
    theirs = make(store.pinned_to_tenant(BETA), "theirs", [shared])
    store.storage.delete(SIDECAR.format(theirs))
    assert store.pinned_to_tenant(ACME).recompute_plan(shared, "downstream").unplannable == ()
    with pytest.raises(TableNotFoundError):
        store.pinned_to_tenant(ACME).recompute_plan(theirs)


def test_foreign_path_between_own_tables(store):
    """`B140`: what is reached only through a foreign table is not reached."""
    shared = make(store, "shared", inputs=docs())
    theirs = make(store.pinned_to_tenant(BETA), "theirs", [shared])
    adopt_rows(store, [result("mine", [theirs], tenant_id=ACME)])
    plan = store.pinned_to_tenant(ACME).recompute_plan(shared, "downstream")
    assert plan.table_names == (shared,)


def test_invisible_input_is_as_absent(store):
    """An input of another tenant is told like one that is not there at all."""
    theirs = make(store.pinned_to_tenant(BETA), "theirs", inputs=docs())
    absent = [InputAnchor.result_digest("absent", "0" * 64)]
    foreign = [InputAnchor.result_digest(theirs, "0" * 64)]
    told = []
    for anchors, name in ((absent, "absent"), (foreign, theirs)):
        mine = make(store.pinned_to_tenant(ACME), "mine", inputs=anchors)
        with pytest.raises(NotRecomputableError) as caught:
            store.pinned_to_tenant(ACME).recompute_plan(mine)
        told.append(str(caught.value).replace(name, "it").replace(mine, "mine"))
    assert told[0] == told[1]


# --- the plan as a value


def test_plan_is_json(store, names):
    """A plan survives JSON and pickling; what is frozen cannot be changed."""
    plan = store.recompute_plan(names["a"], "downstream")
    again = RecomputePlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301 - our own bytes
    assert canonical_json(again.to_dict()) == canonical_json(plan.to_dict())
    with pytest.raises(AttributeError):
        plan.plan_id = "other"


def test_json_of_a_plan(store, names):
    """The JSON form has these keys; reasons and obstacles carry their tag first."""
    store.storage.delete(SIDECAR.format(names["c"]))
    data = store.recompute_plan(names["a"], "downstream").to_dict()
    assert list(data) == [
        "plan_id",
        "table_name",
        "cascade",
        "version",
        "replaced_by",
        "steps",
        "downstream",
        "unplannable",
    ]
    assert data["steps"][1]["reasons"] == [{"reason": "parent_recomputed", "parent": names["a"]}]
    assert data["steps"][1]["parents"] == [{"table_name": names["a"], "anew": True}]
    assert data["unplannable"][0] == {
        "table_name": names["c"],
        "obstacle": "missing_sidecar",
        "why": "it has no sidecar",
    }


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda data: data.pop("plan_id"), "missing field `plan_id`"),
        (lambda data: data.update(cascade="up"), "cascade must be"),
        (lambda data: data.update(steps={}), "steps must be a list"),
        (lambda data: data["steps"][0].update(reasons=[{"reason": "x"}]), "unknown `reason`"),
        (lambda data: data["steps"][0].update(reasons="x"), "reasons must be a list"),
        (lambda data: data["steps"][0].pop("descriptor"), "missing field `descriptor`"),
        (lambda data: data["steps"][0].update(inputs=[{}]), "an anchor needs"),
        (lambda data: data.update(version=-1), "version must be an integer"),
        (lambda data: data["steps"].reverse(), "each table once, after its parents"),
        (lambda data: data["steps"].append(data["steps"][0]), "each table once"),
        (lambda data: data["steps"].pop(1), "after its parents"),
    ],
)
def test_wrong_json(store, names, spoil, named):
    """What is no plan is refused, and the field is named."""
    data = store.recompute_plan(names["a"], "downstream").to_dict()
    spoil(data)
    with pytest.raises(InvalidInputError, match=named):
        RecomputePlan.from_dict(data)


def test_plan_in_words(store, names):
    """A plan prints each step, its kind, why it is there, and what else it reads."""
    other = make(store, "other")
    make(store, "last", [names["d"], other])
    lines = str(store.recompute_plan(names["a"], "downstream")).splitlines()
    assert lines[:5] == [
        f"recompute {names['a']} (downstream): 5 steps",
        f"1. {names['a']} (external)",
        "   because it was asked for",
        "   reads source 'docs'",
        f"2. {names['b']} (external)",
    ]
    assert lines[-1] == f"   reads '{other}'"
    reported = str(store.recompute_plan(names["a"])).splitlines()
    assert reported[0] == f"recompute {names['a']} (report_only): 1 step"
    assert reported[-5] == "depends on it and stays as it is:"
    assert reported[-4] == f"- {names['b']}"


def test_hostile_names(store):
    """What is printed of a name cannot steer a terminal."""
    adopt_attested(store, {"a": (), "b\u202e": ["a"]})
    assert "\u202e" not in str(store.recompute_plan("a", "downstream"))
    assert "\u202e" not in str(store.recompute_plan("a"))


def test_plan_id(store, names):
    """Each plan is a job of its own, unless the caller gives it an id."""
    first, second = (store.recompute_plan(names["a"]) for _ in range(2))
    assert first.plan_id != second.plan_id
    assert store.recompute_plan(names["a"], plan_id="nightly").plan_id == "nightly"
    with pytest.raises(InvalidInputError, match="plan_id"):
        store.recompute_plan(names["a"], plan_id="")
