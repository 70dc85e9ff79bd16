"""Reuse or build: a hit costs nothing, a miss is computed once, whoever else asks meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from pathlib import Path

import pyarrow as pa
import pytest
from support.askers import ROW, ask, ask_marked, askers, first_heard
from support.faults import CountingStorage, HookedStorage
from support.files import listing
from support.pipelines import lose
from support.processes import run_together
from support.results import CONTRACT, DATA, DESCRIPTOR, ENV, INPUTS, build
from support.scopes import ACME
from support.threads import begin

from jammi_files import (
    AnnCandidates,
    AsofJoin,
    Catalog,
    ConflictError,
    ContextSet,
    Embedding,
    External,
    Inference,
    InputAnchor,
    InvalidInputError,
    NeighborGraph,
    ResultStore,
    TableNotFoundError,
    connect,
    definition_hash,
    lease,
    unpinned_anchor,
)
from jammi_files.local import LocalStorage
from jammi_files.rules import BUILD_KEY

LIMIT = 60.0


class Computed(list):
    """A function to be computed that counts its calls."""

    def __call__(self):
        self.append(DATA)
        return DATA


def refuse():
    raise AssertionError("computed what was there")


def test_hit_changes_nothing(store, root):
    """`B122`: two hits make no row, no object and no version."""
    made = ask(store, lambda: DATA)
    before, version = listing(root), store.catalog.version
    assert [ask(store, refuse).table_name for _ in range(2)] == [made.table_name] * 2
    assert listing(root) == before
    assert store.catalog.version == version


def test_hit_cost(store, root):
    """`B122`: a hit on a warm handle is one look for a new version and one at the data."""
    ask(store, lambda: DATA)
    storage = CountingStorage(LocalStorage(str(root), "os"))
    warm = ResultStore(Catalog(storage))
    ask(warm, refuse)
    with storage.counting() as calls:
        ask(warm, refuse)
    assert (calls.looks, [kind for kind, _ in calls.of_results]) == (1, ["size"])


def test_bypass_never_looks(store):
    """`B123`: a second run gives a second table with another name and the same hash."""
    made = [ask(store, lambda: DATA, policy="bypass") for _ in range(2)]
    assert made[0].table_name != made[1].table_name
    assert made[0].record.definition_hash == made[1].record.definition_hash
    assert [each.outcome.is_reused for each in made] == [False, False]


def test_outcome_is_told(store):
    """`B124`: the answer says computed, or reused and which table; reuse is never silent."""
    made, again = ask(store, lambda: DATA), ask(store, refuse)
    assert made.outcome.to_dict() == {"cache_outcome": "computed"}
    assert again.outcome.to_dict() == {"cache_outcome": "reused", "table": made.table_name}
    assert again.record == made.record == store.catalog.get_result_table(made.table_name)


def test_key_is_what_is_recorded(store):
    """`B125`: the hash looked for before the work is the one recorded after it."""
    record = ask(store, lambda: DATA).record
    assert record.definition_hash == definition_hash(DESCRIPTOR, ENV)
    manifest = store.read_materialization_manifest(record.table_name)
    assert manifest.definition_hash == record.definition_hash
    assert store.verify_materialization(record.table_name).ok


def test_damaged_match_is_computed_again(store, root):
    """`B126`: with ``verify`` a damaged object is not handed out."""
    made = ask(store, lambda: DATA)
    path = root / f"{made.table_name}.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert ask(store, refuse).table_name == made.table_name
    again = ask(store, lambda: DATA, verify="size")
    assert again.outcome.cache_outcome == "computed"
    assert ask(store, refuse, verify="digest").table_name == again.table_name


def test_lost_match_is_computed_again(store):
    """`B119`: a match whose data is gone is a miss; its claim does not stand in the way."""
    made = ask(store, lambda: DATA)
    lose(store, made.table_name)
    again = ask(store, lambda: DATA)
    assert again.outcome.cache_outcome == "computed"
    assert ask(store, refuse).table_name == again.table_name


def test_one_of_four_processes_computes(root, tmp_path):
    """`B127`: of four that ask at once one computes, three reuse its table."""
    marks = tmp_path / "marks"
    marks.mkdir()
    told = run_together(ask_marked, [(str(root), str(marks))] * 4)
    assert len(list(marks.iterdir())) == 1
    assert sorted(done for done, _ in told) == ["computed", "reused", "reused", "reused"]
    assert len({table for _, table in told}) == 1
    assert connect(root).catalog.scan().num_rows == 1


def test_one_of_many_threads_computes(store):
    """`B127`: the same holds for threads that share a store."""
    computed = Computed()
    asked = [begin(ask, store, computed) for _ in range(8)]
    assert not wait(asked, LIMIT).not_done
    assert len(computed) == 1
    assert sorted(each.result().outcome.is_reused for each in asked) == [False] + [True] * 7


def test_a_waiter_takes_over_from_the_dead(store, root):
    """`B127`: when the computing process is killed, one waiter computes; its row fails once."""
    with askers(root, 1) as [victim]:
        assert victim.hear() == "computing"
        with askers(root, 3) as waiting:
            assert [each.hear(waiting=True) for each in waiting] == ["waiting"] * 3
            victim.kill()
            heir = first_heard(waiting)
            assert heir.hear() == "computing"
            heir.tell("ok")
            outcome, table = heir.hear()
            others = [each.hear() for each in waiting if each is not heir]
    assert outcome == "computed"
    assert others == [("reused", table)] * 2
    [dead] = store.catalog.list_result_tables_by_status("failed")
    assert dead.table_name != table
    assert "is gone" in dead.properties["error"]
    assert store.catalog.scan().num_rows == 2


def test_a_waiter_computes_after_a_failure(store, root):
    """`B127`: an exception fails the row and is its caller's alone; a waiter computes."""
    with askers(root, 1) as [first]:
        assert first.hear() == "computing"
        with askers(root, 2) as waiting:
            assert [each.hear(waiting=True) for each in waiting] == ["waiting"] * 2
            first.tell("disk full")
            assert first.hear() == ("error", "disk full")
            heir = first_heard(waiting)
            assert heir.hear() == "computing"
            heir.tell("ok")
            outcome, table = heir.hear()
            others = [each.hear() for each in waiting if each is not heir]
    assert outcome == "computed"
    assert others == [("reused", table)]
    [failed] = store.catalog.list_result_tables_by_status("failed")
    assert failed.properties["error"] == "RuntimeError: disk full"


def test_busy_choices(store, root):
    """`B127`: a caller may fail at once, wait for so long only, or compute too."""
    with askers(root, 1) as [busy]:
        assert busy.hear() == "computing"
        [building] = store.catalog.list_result_tables_by_status("building")
        for choice in ({"on_busy": "fail"}, {"wait_seconds": 0}, {"wait_seconds": 0.05}):
            with pytest.raises(ConflictError, match=building.table_name):
                ask(store, refuse, **choice)
        too = ask(store, lambda: DATA, on_busy="compute")
        assert too.outcome.cache_outcome == "computed"
        assert ask(store, refuse, on_busy="fail").table_name == too.table_name
        busy.tell("ok")
        assert busy.hear() == ("computed", building.table_name)
    assert ask(store, refuse).table_name == too.table_name  # the newest by created_at


def test_fail_fast_takes_over_from_the_dead(store, root):
    """`B127`: a dead build is nobody to yield to, whatever the caller chose."""
    with askers(root, 1) as [victim]:
        assert victim.hear() == "computing"
        victim.kill()
    assert not ask(store, lambda: DATA, on_busy="fail").outcome.is_reused
    assert len(store.catalog.list_result_tables_by_status("failed")) == 1


def test_the_dead_are_buried_once(store, root):
    """`B127`: who comes too late to fail a dead build goes on with what came of it."""
    made = []

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock") and not made:
            made.append(None)
            made[0] = ask(store, lambda: DATA).table_name

    with askers(root, 1) as [victim]:
        assert victim.hear() == "computing"
        victim.kill()
    late = ResultStore(Catalog(HookedStorage(LocalStorage(str(root), "os"), hook)))
    assert ask(late, refuse).outcome.reused_table == made[0]
    assert len(store.catalog.list_result_tables_by_status("failed")) == 1


def test_an_interrupted_claim_is_nobodys(store, monkeypatch):
    """`B127`: a claim whose caller was interrupted does not block the process that made it."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(ResultStore, "_compute", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ask(store, refuse)
    assert not ask(store, lambda: DATA, on_busy="fail").outcome.is_reused
    [failed] = store.catalog.list_result_tables_by_status("failed")
    assert "it was interrupted" in failed.properties["error"]


def test_ready_between_look_and_claim(store, root):
    """`B127`: a result that came after the look and before the claim is reused."""
    made = []

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock") and not made:
            made.append(None)
            made[0] = ask(store, lambda: DATA).table_name

    late = ResultStore(Catalog(HookedStorage(LocalStorage(str(root), "os"), hook)))
    obtained = ask(late, refuse)
    assert obtained.outcome.reused_table == made[0]
    assert store.catalog.scan().num_rows == 1


def test_waiting_costs_one_look_each_time(store, root):
    """`B127`: a waiting process asks the storage only whether there is a newer version."""
    storage = CountingStorage(LocalStorage(str(root), "os"))
    waiting = ResultStore(Catalog(storage))

    def compute():
        with pytest.raises(ConflictError):
            ask(waiting, refuse, wait_seconds=0)
        with storage.counting() as calls, pytest.raises(ConflictError):
            ask(waiting, refuse, wait_seconds=0)
        assert (calls.looks, calls.of_results) == (1, [])
        return DATA

    assert not ask(store, compute).outcome.is_reused


def test_waits_by_the_newest_version(store, root):
    """`B127`: a handle that may be behind sees the end of a build as soon as another."""
    lazy = connect(root, durability="os", max_staleness=3600)
    started, ended = threading.Event(), threading.Event()

    def compute():
        started.set()
        assert ended.wait(LIMIT)
        return DATA

    first = begin(ask, store, compute)
    assert started.wait(LIMIT)
    assert lazy.catalog.scan().num_rows == 1
    second = begin(ask, lazy, refuse)
    ended.set()
    assert second.result(LIMIT).table_name == first.result(LIMIT).table_name


def test_unpinned_never_shares(store):
    """`B115`, `B127`: with an unpinned input every caller computes, also while another does."""
    inputs = (unpinned_anchor("docs"),)

    def compute():
        nested = store.get_or_build(DESCRIPTOR, ENV, inputs, lambda: DATA, **ROW)
        assert nested.outcome.cache_outcome == "computed"
        return DATA

    outer = store.get_or_build(DESCRIPTOR, ENV, inputs, compute, **ROW)
    assert outer.outcome.cache_outcome == "computed"
    assert store.catalog.scan().num_rows == 2
    assert outer.record.properties is None


def test_plain_builds_are_reused(store):
    """A result that `build` made is reused like any other."""
    name = build(store)
    assert ask(store, refuse).table_name == name


def test_order_of_inputs_is_no_part_of_the_key(store):
    """`B113`, `B127`: the key compares anchors without order, and knows one from another."""
    inputs = [InputAnchor.source_version("a", "1"), InputAnchor.source_version("b", "1")]
    keys = [
        store.get_or_build(DESCRIPTOR, ENV, given, lambda: DATA, **ROW).record.properties
        for given in (inputs, inputs[:1])
    ]
    assert keys[0] != keys[1]
    again = store.get_or_build(DESCRIPTOR, ENV, inputs[::-1], refuse, **ROW)
    assert again.record.properties == keys[0]


def test_inputs_in_another_order_are_awaited(store):
    """`B113`, `B127`: who asks with the same inputs in another order meets the same build."""
    inputs = [InputAnchor.source_version("b", "1"), InputAnchor.source_version("a", "1")]

    def compute():
        with pytest.raises(ConflictError):
            store.get_or_build(DESCRIPTOR, ENV, inputs[::-1], refuse, **ROW, on_busy="fail")
        return DATA

    assert store.get_or_build(DESCRIPTOR, ENV, inputs, compute, **ROW).record.is_ready


def test_tenants(store):
    """`B121`, `B127`: a tenant waits for and reuses GLOBAL results; nobody waits for a tenant's."""
    acme = store.pinned_to_tenant(ACME)

    def compute_as_tenant():
        assert not ask(store, compute_global, on_busy="fail").outcome.is_reused
        return DATA

    def compute_global():
        with pytest.raises(ConflictError):
            ask(acme, refuse, on_busy="fail")
        return DATA

    ask(acme, compute_as_tenant)
    assert [len(each.catalog.scan()) for each in (store, acme, store.as_admin())] == [1, 2, 2]


def test_lease_is_renewed_while_it_computes(root, monkeypatch):
    """`B165`: a function that computes for long before it writes keeps its lease."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.003)
    renewed = threading.Event()

    def hook(moment, kind, key):
        if (moment, kind) == ("after", "replace") and lease.BUILDS in key:
            renewed.set()

    store = ResultStore(Catalog(HookedStorage(LocalStorage(str(root), "os"), hook)))

    def compute():
        assert renewed.wait(LIMIT)
        return DATA

    assert ask(store, compute).record.is_ready
    assert not list(Path(root, lease.BUILDS).iterdir())


def test_renewed_lease_counts(store, root, monkeypatch):
    """`B258`: a build on another host lives as long as its side object says, not its row."""

    def compute():
        [row] = store.catalog.list_result_tables_by_status("building")
        late = row.lease.expires_at + 1
        with monkeypatch.context() as there:
            there.setattr(lease, "_host", lambda _: "elsewhere")
            there.setattr(lease.CLOCK, "now", lambda: late)
            store.catalog.renew_lease(row.table_name)
            there.setattr(lease, "_host", lambda _: "here")
            with pytest.raises(ConflictError):
                ask(connect(root), refuse, on_busy="fail")
        return DATA

    assert ask(store, compute).record.is_ready


@pytest.mark.parametrize(
    "made",
    [
        DATA,
        DATA.to_batches()[0],
        DATA.to_reader(),
        DATA.to_batches(max_chunksize=1),
        iter([DATA.slice(0, 1), DATA.slice(1)]),
        DATA.to_struct_array().combine_chunks(),
    ],
    ids=["table", "batch", "stream", "batches", "tables", "array"],
)
def test_what_a_function_may_return(store, made):
    """Tables, batches, streams and iterables of them become the same result."""
    if isinstance(made, pa.Array):
        made = pa.RecordBatch.from_struct_array(made)
    name = ask(store, lambda: made).table_name
    assert store.open_table(name).to_table().equals(DATA)


def test_empty_stream_keeps_its_schema(store):
    """A stream without batches is a result without rows."""
    reader = pa.RecordBatchReader.from_batches(DATA.schema, [])
    obtained = ask(store, lambda: reader)
    assert obtained.record.row_count == 0
    assert store.open_table(obtained.table_name).schema == DATA.schema


@pytest.mark.parametrize("made", [None, 7, "text", {"id": 7}, []])
def test_what_it_may_not_return(store, made):
    """Anything else fails the row and says what is wanted."""
    with pytest.raises(
        InvalidInputError, match=r"expected a pyarrow table|no table for Arrow|nothing was written"
    ):
        ask(store, lambda: made)
    assert len(store.catalog.list_result_tables_by_status("failed")) == 1


def test_decorator(store):
    """A decorated function answers with the result; parts of the key may follow its arguments."""
    computed = []

    @store.cached(
        descriptor=lambda seed, **_: External(producer_id="noise", params={"seed": str(seed)}),
        env=ENV,
        inputs=lambda _, *, version: [InputAnchor.source_version("docs", version)],
        source_id="docs",
        task="classification",
    )
    def noise(seed, *, version):
        """Make some noise."""
        computed.append((seed, version))
        yield pa.table({"seed": [seed]})

    names = [noise(1, version="a").table_name, noise(2, version="a").table_name]
    assert noise(1, version="a").outcome.reused_table == names[0]
    assert not noise(1, version="b").outcome.is_reused
    assert computed == [(1, "a"), (2, "a"), (1, "b")]
    assert noise.__doc__ == "Make some noise."
    assert store.open_table(names[1]).to_table().to_pylist() == [{"seed": 2}]


def test_decorator_of_constants(store):
    """Descriptor, environment and inputs may be given as they are, with every choice of a call."""

    @store.cached(**CONTRACT, **ROW, policy="bypass")
    def data():
        return DATA

    assert data().table_name != data().table_name


INFERENCE = Inference(
    model_id="org/ner", task="ner", source_id="docs", content_columns=("body",), key_column="id"
)
EMBEDDING = Embedding(
    model_id="org/embed",
    task="text_embedding",
    source_id="docs",
    columns=("body",),
    key_column="id",
    dimensions=3,
)


def said(record):
    return (record.source_id, record.task, record.kind, record.model_id, record.dimensions)


def test_rows_follow_their_descriptor(store):
    """What the descriptor holds need not be said again."""
    inferred = store.get_or_build(INFERENCE, ENV, INPUTS, lambda: DATA).record
    assert said(inferred) == ("docs", "ner", "model", "org/ner", None)
    embedded = store.get_or_build(EMBEDDING, ENV, INPUTS, lambda: DATA).record
    assert said(embedded) == ("docs", "text_embedding", "model", "org/embed", 3)
    assert inferred.key_column == embedded.key_column == "id"
    external = ask(store, lambda: DATA, dimensions=4).record
    assert said(external) == ("docs", "classification", "model", "tests", 4)


def graph(source_table):
    return NeighborGraph(
        source_table=source_table,
        k=2,
        mutual=False,
        self_exclude=True,
        exact=True,
        exact_max_rows=9,
    )


def test_graphs_follow_their_parent(store):
    """A neighbour graph takes source, task and key column from the table that it is made of."""
    parent = store.get_or_build(EMBEDDING, ENV, INPUTS, lambda: DATA).table_name
    record = store.get_or_build(graph(parent), ENV, [], lambda: DATA).record
    assert said(record) == ("docs", "text_embedding", "neighbor_graph", "neighbor_graph", None)
    assert (record.derived_from, record.key_column) == (parent, "id")


def test_contexts_and_joins(store):
    """A context set says source, encoder and width; an as-of join says what kind of table it is."""
    context = ContextSet(
        encoder_id="org/context",
        source_id="docs",
        embedding_table=None,
        candidate_source=AnnCandidates(k=3),
        value_columns=("label",),
        aggregator="mean",
        exclude_self=True,
        dimensions=5,
    )
    pooled = store.get_or_build(context, ENV, INPUTS, lambda: DATA, task="text_embedding").record
    assert said(pooled) == ("docs", "text_embedding", "model", "org/context", 5)
    join = AsofJoin(
        spine="docs",
        facts="prices",
        spine_by=("id",),
        facts_by=("id",),
        spine_time="t",
        facts_time="t",
        direction="backward",
        boundary="inclusive",
    )
    also = {**ROW, "model_id": "join"}
    joined = store.get_or_build(join, ENV, INPUTS, lambda: DATA, **also).record
    assert said(joined) == ("docs", "classification", "asof_join", "join", None)


def test_given_columns_win(store):
    """A keyword wins over the descriptor."""
    also = {"source_id": "other", "model_id": "m", "properties": {"colour": "blue"}}
    record = store.get_or_build(EMBEDDING, ENV, INPUTS, lambda: DATA, **also).record
    assert (record.source_id, record.model_id) == ("other", "m")
    assert record.properties.keys() == {"colour", BUILD_KEY}


@pytest.mark.parametrize(
    ("descriptor", "missing"),
    [
        (DESCRIPTOR, "External descriptor does not say source_id and task;"),
        (graph("nowhere"), "NeighborGraph descriptor does not say source_id and task;"),
    ],
)
def test_missing_columns_are_named(store, root, descriptor, missing):
    """What neither the caller nor the descriptor says is named before anything is written."""
    with pytest.raises(InvalidInputError, match=missing):
        store.get_or_build(descriptor, ENV, INPUTS, refuse)
    assert not root.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "refresh"},
        {"on_busy": "panic"},
        {"wait_seconds": -1},
        {"wait_seconds": True},
        {"wait_seconds": "5"},
        {"wait_seconds": float("nan")},
        {"task": "poetry"},
        {"kind": "table"},
        {"properties": {BUILD_KEY: "mine"}},
        {"properties": 5},
        {"dimensions": 0},
    ],
    ids=str,
)
def test_wrong_arguments(store, root, wrong):
    """A wrong argument is refused before a row is written."""
    with pytest.raises(InvalidInputError):
        ask(store, refuse, **wrong)
    assert not list(Path(root).rglob("*.parquet"))


def test_unknown_parent(store):
    """`B061`: a parent that is not there is refused with the claim."""
    with pytest.raises(TableNotFoundError):
        ask(store, refuse, derived_from="nowhere")
    assert store.catalog.scan().num_rows == 0
