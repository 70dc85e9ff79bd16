"""Results computed again: on their new parents, once, resumed, and never half."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pytest
from support.invariants import check_invariants
from support.pipelines import lose
from support.recomputing import (
    DIAMOND,
    ENV,
    Summing,
    at,
    docs,
    how,
    make,
    make_graph,
    table,
    total,
)
from support.scopes import ACME, BETA

import jammi_files as jf
from jammi_files import (
    AnchorKind,
    Device,
    Embedding,
    FormatError,
    InputAnchor,
    InvalidInputError,
    MaterializationEnv,
    ModelIdentity,
    NeighborGraph,
    NotFoundError,
    NotRecomputableError,
    RecomputeOutcome,
    RecomputePlan,
    RecomputeReport,
    RecomputeResult,
    StateError,
    TableNotFoundError,
    connect,
    definition_hash,
    source_anchor,
    unpinned_anchor,
)

SIDECAR = "{}.materialization.json"


@pytest.fixture
def names(store):
    """Return the tables of a diamond by label."""
    return make_graph(store, DIAMOND)


@pytest.fixture
def summing():
    """Return a producer for all of them."""
    return Summing()


@pytest.fixture
def plan(store, names):
    """Return the plan of the whole diamond."""
    return store.recompute_plan(names["a"], "downstream")


def run(store, plan, summing, **also):
    also.setdefault("resolvers", at("1"))
    return store.recompute(plan, summing.producers, **also)


def outcomes(report):
    return [each.outcome.value for each in report]


def digest(store, name):
    return store.read_materialization_manifest(name).artifact


def rows(store):
    return set(store.catalog.scan(columns=["table_name"])["table_name"].to_pylist())


# --- what comes out


def test_report_only(store, names, summing):
    """`B268`, `B270`: the named table alone is computed; the report names old, new and dependants.

    The keys of jammi-db's own report are the same.
    """
    report = run(store, store.recompute_plan(names["a"]), summing)
    [result] = report
    assert (result.original, result.outcome) == (names["a"], RecomputeOutcome.COMPUTED)
    assert result.recomputed not in names.values()
    assert summing.calls == ["a"]
    told = report.to_dict()
    assert told["downstream_stale"] == [names["b"], names["d"], names["c"]]
    assert told["recomputed"][0].items() >= {
        ("original", names["a"]),
        ("recomputed", result.recomputed),
        ("outcome", "computed"),
    }


def test_original_stays(store, plan, names, summing):
    """`B270`: no row and no byte of the old tables changes."""
    before = {name: store.catalog.get_result_table(name) for name in names.values()}
    report = run(store, plan, summing)
    assert outcomes(report) == ["computed"] * 4
    assert {name: store.catalog.get_result_table(name) for name in names.values()} == before
    assert all(check.ok for check in store.verify_all())
    assert len(rows(store)) == 8


def test_same_bytes(store, plan, names, summing):
    """`B271`: over the same inputs each Parquet is byte for byte the old one, under a new name."""
    report = run(store, plan, summing)
    for name in names.values():
        new = report.recomputed[name]
        assert new != name
        assert digest(store, new) == digest(store, name)
        old_bytes, new_bytes = (store.storage.read(f"{each}.parquet") for each in (name, new))
        assert new_bytes == old_bytes


def test_unchanged_table_is_computed(store, names, summing):
    """`B271`, `B123`: the named table is computed though it is exactly what exists already."""
    for number in (1, 2):
        [result] = run(store, store.recompute_plan(names["a"]), summing)
        assert result.outcome is RecomputeOutcome.COMPUTED
        assert len(summing.calls) == number
    row = store.catalog.get_result_table(names["a"])
    same = store.catalog.find_ready_result_tables_by_definition(row.definition_hash)
    assert len(same) == 3


def test_children_on_new_parents(store, plan, names):
    """`B272`: each child's anchors, derived_from and definition name the new parents."""
    report = run(store, plan, Summing(a=10), resolvers=at("2"))
    new = {label: report.recomputed[name] for label, name in names.items()}
    assert [total(store, new[label]) for label in "abcd"] == [10, 11, 11, 23]
    assert [total(store, names[label]) for label in "abcd"] == [1, 2, 2, 5]
    for label, parents in DIAMOND.items():
        row = store.catalog.get_result_table(new[label])
        above = [new[parent] for parent in parents]
        anchors = [store.result_digest_anchor(name) for name in above] or docs("2")
        assert list(row.input_anchors) == anchors
        assert row.derived_from == (above[0] if above else None)
        assert store.producing_descriptor(row.table_name) == how(label, above)
        assert row.definition_hash == definition_hash(how(label, above), ENV)
    edges = {(edge.input, edge.derived) for edge in store.derives_from_closure(new["a"])}
    assert edges == {(new[p], new[label]) for label in DIAMOND for p in DIAMOND[label]}


def test_fresh_afterwards(store, plan, names):
    """The new tables are fresh, and the old ones stale: their source moved on."""
    report = run(store, plan, Summing(a=10), resolvers=at("2"))
    told = store.staleness_all(resolvers=at("2")).to_pylist()
    state = {row["table_name"]: row["staleness"] for row in told}
    assert all(state[name] == "fresh" for name in report.recomputed.values())
    assert all(state[name] == "stale" for name in names.values())


def test_row_is_the_old_one(store, summing):
    """What the old row says of itself the new one says too, its own properties included."""
    also = {"key_column": "id", "text_columns": ("x", "y"), "dimensions": 3}
    name = make(store, "a", inputs=docs(), properties={"team": "search"}, **also)
    [result] = run(store, store.recompute_plan(name, plan_id="p"), summing)
    old, new = (store.catalog.get_result_table(each) for each in (name, result.recomputed))
    for column in ("source_id", "model_id", "task", "kind", "row_count", *also):
        assert getattr(new, column) == getattr(old, column)
    properties = dict(new.properties)
    properties.pop("build_key")
    assert properties == {"team": "search", "recompute_plan": "p", "recompute_of": name}


def test_failed_table_is_recomputed(store, names, summing):
    """A table that was failed after it had been attested is made again without its error."""
    store.catalog.fail_result_table(names["b"], "the disk was full")
    [result] = run(store, store.recompute_plan(names["b"]), summing)
    new = store.catalog.get_result_table(result.recomputed)
    assert new.is_ready
    assert "error" not in new.properties


def test_claims(store, plan, names, summing):
    """FORMAT, "Recompute": the named table is claimed for its plan, the others for themselves."""
    report = run(store, plan, summing)
    rows = {
        label: store.catalog.get_result_table(report.recomputed[names[label]]) for label in "ab"
    }
    anchor = ["docs", "1", "source_version"]
    named = [rows["a"].definition_hash, [anchor], "recompute_plan", plan.plan_id, names["a"]]
    [edge] = rows["b"].input_anchors
    other = [rows["b"].definition_hash, [edge.to_dict()]]
    for label, identity in (("a", named), ("b", other)):
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        key = hashlib.sha256(text.encode()).hexdigest()
        assert rows[label].properties["build_key"] == key


def test_recomputed_table_is_recomputed(store, names, summing):
    """A recomputed table can be planned in its turn; its row names the later plan alone."""
    [first] = run(store, store.recompute_plan(names["a"], plan_id="one"), summing)
    [second] = run(store, store.recompute_plan(first.recomputed, plan_id="two"), summing)
    properties = store.catalog.get_result_table(second.recomputed).properties
    assert properties["recompute_plan"] == "two"
    assert properties["recompute_of"] == first.recomputed


def test_descriptors_of_the_engine(store):
    """`B272`: the parameter that names the parent names the new one, for jammi-db's own kinds."""
    embedding = Embedding(
        model_id="m",
        task="text_embedding",
        source_id="docs",
        columns=["body"],
        key_column="id",
        dimensions=2,
    )
    env = MaterializationEnv("0.32.0", Device.cpu(), [ModelIdentity("m", "candle")])
    first = store.get_or_build(embedding, env, docs(), lambda: table(1)).table_name
    graph = NeighborGraph(
        source_table=first, k=1, mutual=False, self_exclude=True, exact=True, exact_max_rows=9
    )
    inputs = [store.result_digest_anchor(first)]
    second = store.get_or_build(graph, ENV, inputs, lambda: table(2)).table_name
    seen = {}

    def neighbours(context):
        seen["rows"] = context.dataset(context.descriptor.source_table).to_table()
        return table(2)

    report = store.recompute(
        store.recompute_plan(first, "downstream"),
        {Embedding: lambda _: table(7), "neighbor_graph": neighbours},
        resolvers=at("2"),
    )
    new = report.recomputed[second]
    assert store.producing_descriptor(new).source_table == report.recomputed[first]
    assert store.catalog.get_result_table(new).kind == "neighbor_graph"
    assert seen["rows"] == table(7)
    assert store.read_materialization_manifest(report.recomputed[first]).definition_hash == (
        definition_hash(embedding, env)
    )


# --- reuse


def test_exact_match_is_reused(store, plan, names, summing):
    """A dependant that exists exactly on the new parent is reused, not computed."""
    first = run(store, plan, summing)
    summing.calls.clear()
    newer = first.recomputed[names["a"]]
    again = store.recompute_plan(names["a"], "downstream", replaced_by=newer)
    second = run(store, again, summing)
    assert outcomes(second) == ["reused"] * 3
    assert summing.calls == []
    assert second.recomputed.items() <= first.recomputed.items()


def test_doubles_become_one(store, summing):
    """Two tables of one definition over one parent are computed once (`B111`)."""
    parent = make(store, "a", inputs=docs())
    doubles = [make(store, "b", [parent]) for _ in range(2)]
    report = run(store, store.recompute_plan(parent, "downstream"), summing)
    assert outcomes(report) == ["computed", "computed", "reused"]
    assert report.recomputed[doubles[0]] == report.recomputed[doubles[1]]
    assert summing.calls == ["a", "b"]


def test_replaced_by(store, names, summing):
    """Dependants move to a result that was made elsewhere; the replaced table is not computed."""
    newer = make(store, "a", value=100, inputs=docs("2"))
    plan = store.recompute_plan(names["a"], "downstream", replaced_by=newer)
    report = run(store, plan, summing, resolvers=None)
    assert summing.calls == ["b", "c", "d"]
    assert total(store, report.recomputed[names["d"]]) == 203
    row = store.catalog.get_result_table(report.recomputed[names["b"]])
    assert row.input_anchors == (store.result_digest_anchor(newer),)
    assert report.ok


# --- failure and resume


def test_failed_step(store, plan, names, summing, root):
    """A failing producer: its step failed, what descends from it skipped, the rest computed."""
    summing.failing["b"] = ValueError("no vectors\nfor b")
    report = run(store, plan, summing)
    assert outcomes(report) == ["computed", "failed", "computed", "skipped"]
    _, failed, _, skipped = report
    assert (failed.recomputed, failed.error) == (None, "ValueError: no vectors\nfor b")
    assert failed.exception is summing.failing["b"]
    assert skipped.error == f"its parent '{names['b']}' failed"
    assert not report.ok
    assert names["d"] not in report.recomputed
    [row] = store.catalog.list_result_tables_by_status("failed")
    assert row.properties["recompute_of"] == names["b"]
    assert "no vectors" in row.properties["error"]
    check_invariants(root)


def test_skipped_after_skipped(store, summing):
    """What descends from a skipped step is skipped for it."""
    names = make_graph(store, {"a": (), "b": ("a",), "c": ("b",)})
    summing.failing["a"] = ValueError("x")
    report = run(store, store.recompute_plan(names["a"], "downstream"), summing)
    assert outcomes(report) == ["failed", "skipped", "skipped"]
    assert report.results[2].error == f"its parent '{names['b']}' skipped"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("label", ["a", "b", "d"])
def test_resume(*, store, plan, names, summing, error, label):
    """A second run of the plan, from its JSON and on a new handle, computes what is missing."""
    summing.failing[label] = error
    if isinstance(error, Exception):
        first = run(store, plan, summing)
        assert not first.ok
    else:
        with pytest.raises(type(error)):
            run(store, plan, summing)
    done = set(summing.calls) - {label}
    summing.calls.clear()
    summing.failing.clear()
    again = RecomputePlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    report = run(connect(store.root, durability="os"), again, summing)
    assert report.ok
    assert set(summing.calls) == set("abcd") - done
    assert {each.original for each in report.of("reused")} == {names[each] for each in done}
    ready = store.catalog.list_result_tables_by_status("ready")
    assert len(ready) == 8
    assert store.catalog.list_result_tables_by_status("building") == []
    check_invariants(store.root)


def test_finished_plan_computes_nothing(store, plan, summing):
    """A plan that is run once more after its end finds all its results and makes no version."""
    first = run(store, plan, summing)
    version = store.catalog.version
    summing.calls.clear()
    second = run(store, plan, summing)
    assert outcomes(second) == ["reused"] * 4
    assert second.recomputed == first.recomputed
    assert (store.catalog.version, summing.calls) == (version, [])


def test_plan_id_makes_the_same_plan(store, names, summing):
    """A plan that is made again under its id goes on where the first one stopped."""
    summing.failing["d"] = ValueError("x")
    for calls in (list("abcd"), ["d"]):
        plan = store.recompute_plan(names["a"], "downstream", plan_id="nightly")
        report = run(store, plan, summing)
        assert summing.calls == calls
        summing.calls.clear()
        summing.failing.clear()
    assert report.ok


def test_another_plan_is_another_job(store, names, summing):
    """What a plan left unfinished is not taken over by another one."""
    summing.failing["d"] = ValueError("x")
    run(store, store.recompute_plan(names["a"], "downstream"), summing)
    summing.calls.clear()
    summing.failing.clear()
    run(store, store.recompute_plan(names["a"], "downstream"), summing)
    assert summing.calls == list("abcd")


def test_source_that_moved_on_between_runs(store, plan, summing):
    """A run that goes on never builds on what was read from an older state of the source."""
    summing.failing["d"] = ValueError("x")
    run(store, plan, summing, resolvers=at("2"))
    summing.calls.clear()
    summing.failing.clear()
    report = run(store, plan, summing, resolvers=at("3"))
    assert summing.calls == list("abcd")
    [first, *_] = report.recomputed.values()
    assert list(store.catalog.get_result_table(first).input_anchors) == docs("3")


def test_lost_bytes_between_runs(store, plan, names, summing):
    """A result of the plan whose bytes are gone is computed again."""
    summing.failing["d"] = ValueError("x")
    first = run(store, plan, summing)
    lose(store, first.recomputed[names["a"]])
    summing.calls.clear()
    summing.failing.clear()
    assert run(store, plan, summing).ok
    assert summing.calls == list("abcd")


def test_resume_with_an_unpinned_source(store, summing):
    """`B115`: an unpinned input matches nothing, except what the very same plan has made."""
    anchors = [unpinned_anchor("docs")]
    parent = make(store, "a", inputs=anchors)
    make(store, "b", [parent])
    resolvers = {"unpinned_at_instant": unpinned_anchor}
    plan = store.recompute_plan(parent, "downstream")
    summing.failing["b"] = ValueError("x")
    first = run(store, plan, summing, resolvers=resolvers)
    summing.failing.clear()
    second = run(store, plan, summing, resolvers=resolvers)
    assert summing.calls == ["a", "b", "b"]
    assert second.recomputed[parent] == first.recomputed[parent]
    run(store, store.recompute_plan(parent, "downstream"), summing, resolvers=resolvers)
    assert summing.calls == ["a", "b", "b", "a", "b"]


def test_resume_with_an_unpinned_source_in_the_middle(store, summing):
    """`B115`: so is a dependant that reads an unpinned source besides its parent."""
    parent = make(store, "a", inputs=docs())
    inputs = [store.result_digest_anchor(parent), unpinned_anchor("logs")]
    child = make(store, "b", [parent], inputs=inputs)
    make(store, "c", [child])
    resolvers = {**at("1"), "unpinned_at_instant": unpinned_anchor}
    plan = store.recompute_plan(parent, "downstream")
    summing.failing["c"] = ValueError("x")
    run(store, plan, summing, resolvers=resolvers)
    summing.failing.clear()
    assert run(store, plan, summing, resolvers=resolvers).ok
    assert summing.calls == ["a", "b", "c", "c"]


# --- what producers return


def schema_of(**metadata):
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), 2)),
            pa.field("kind", pa.dictionary(pa.int8(), pa.string())),
            pa.field("at", pa.timestamp("s", "UTC")),
        ],
        metadata=metadata or None,
    )


def rich(schema=None):
    """Return two batches of a table with types that Parquet stores in other ways."""
    columns = {
        "id": ["a", "b"],
        "vector": [[0.0, 1.0], [1.0, 0.0]],
        "kind": ["x", "y"],
        "at": [0, 1],
    }
    return pa.table(columns, schema=schema or schema_of(made="by hand")).to_batches(1)


@pytest.mark.parametrize(
    "wrap",
    [
        pa.Table.from_batches,
        lambda batches: pa.RecordBatchReader.from_batches(batches[0].schema, batches),
        iter,
        list,
        lambda batches: (pa.Table.from_batches([each]) for each in batches),
    ],
)
def test_whatever_speaks_arrow(store, wrap):
    """`B271`: tables, readers and iterators give the bytes that they gave when built first."""
    args = (how("a"), ENV, docs(), lambda: wrap(rich()))
    name = store.get_or_build(*args, source_id="docs", task="ner").table_name
    plan = store.recompute_plan(name)
    report = store.recompute(plan, {"external": lambda _: wrap(rich())}, resolvers=at("1"))
    assert report.ok, str(report)
    assert digest(store, report.recomputed[name]) == digest(store, name)


def test_looser_schema_is_tightened(store):
    """Which columns may be null, and metadata where none is given, are those of the old result."""
    contract = {"descriptor": how("a"), "env": ENV, "inputs": docs(), "schema": schema_of(k="v")}
    with store.build("docs", "ner", "model", "m", **contract) as out:
        out.write(pa.Table.from_batches(rich()))
    loose = pa.schema([field.with_nullable(True) for field in schema_of()])
    report = store.recompute(
        store.recompute_plan(out.table_name),
        {"external": lambda _: pa.Table.from_batches(rich(loose))},
        resolvers=at("1"),
    )
    new = store.open_table(report.recomputed[out.table_name]).schema
    assert new.equals(store.open_table(out.table_name).schema, check_metadata=True)


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        (pa.table({"total": ["1"]}), "other columns: total: string; expected: total: int64"),
        (pa.table({"total": pa.array([1], pa.int32())}), "other columns: total: int32"),
        (pa.table({"sum": [1]}), "other columns: sum: int64"),
        (pa.table({"total": [1], "more": [2]}), "more: int64; expected: total: int64"),
        (pa.table({}), "other columns: none"),
        (None, "the data is NoneType; expected a pyarrow table"),
        (42, "the data is int; expected a pyarrow table"),
        ([], "yielded nothing"),
        (iter(()), "yielded nothing"),
        (["x"], "item 0 of the list is str; expected a pyarrow table"),
        ([table(1), pa.table({"sum": [1]})], "other columns: sum: int64"),
    ],
)
def test_wrong_returns(store, names, summing, returned, error):
    """A producer that returns the wrong thing, or nothing, fails its step and leaves no bytes."""
    summing.returning["a"] = returned
    [result] = run(store, store.recompute_plan(names["a"]), summing)
    assert result.outcome is RecomputeOutcome.FAILED
    assert error in result.error
    assert isinstance(result.exception, InvalidInputError)
    [row] = store.catalog.list_result_tables_by_status("failed")
    assert store.storage.size(row.parquet_path) is None
    assert store.storage.size(SIDECAR.format(row.table_name)) is None
    check_invariants(store.root)


def test_stream_that_breaks(store, names, summing, root):
    """A producer that fails after its first batch leaves a failed row and none of its rows."""

    def broken():
        yield table(1)
        raise OSError("the model is gone")

    summing.returning["a"] = broken()
    [result] = run(store, store.recompute_plan(names["a"]), summing)
    assert result.error == "OSError: the model is gone"
    assert len(store.catalog.list_result_tables_by_status("ready")) == 4
    [row] = store.catalog.list_result_tables_by_status("failed")
    assert store.storage.size(row.parquet_path) is None
    check_invariants(root)


def test_empty_result(store, names, summing):
    """A result without rows is a result: a table with the right columns and none of them."""
    summing.returning["a"] = table(1).slice(0, 0)
    [result] = run(store, store.recompute_plan(names["a"]), summing)
    assert result.ok
    assert store.catalog.get_result_table(result.recomputed).row_count == 0


def test_old_data_is_gone(store, names, summing):
    """Without the old data there are no columns to compare: the definition alone decides."""
    lose(store, names["a"])
    summing.returning["a"] = pa.table({"sum": [1]})
    [result] = run(store, store.recompute_plan(names["a"]), summing)
    assert result.ok


# --- who computes what


def test_most_specific_producer(store, names):
    """Table name before definition hash, before `external:<producer_id>`, before the kind."""
    called = []

    def named(tag):
        return lambda context: called.append(tag) or table(len(context.parents))

    row = store.catalog.get_result_table(names["b"])
    producers = {
        "external": named("kind"),
        "external:b": named("producer id"),
        row.definition_hash: named("definition"),
        names["b"]: named("table"),
    }
    plan = store.recompute_plan(names["b"])
    for tag in ("table", "definition", "producer id", "kind"):
        store.recompute(store.recompute_plan(names["b"]), producers)
        assert called.pop() == tag
        del producers[next(key for key in plan.steps[0].producer_keys if key in producers)]
    with pytest.raises(NotRecomputableError):
        store.recompute(plan, producers)


def test_missing_producer(store, names, plan):
    """A step without producer is told before anything is run, with what would help."""
    graph = NeighborGraph(
        source_table=names["a"], k=1, mutual=False, self_exclude=True, exact=True, exact_max_rows=9
    )
    other = make(store, "g", [names["a"]], descriptor=graph)
    plan = store.recompute_plan(names["a"], "downstream")
    summing = Summing()
    before = store.catalog.version
    with pytest.raises(NotRecomputableError) as caught:
        run(store, plan, summing)
    assert f"`{other}` (neighbor_graph)" in str(caught.value)
    assert "producers={'neighbor_graph': f}" in str(caught.value)
    assert (store.catalog.version, summing.calls) == (before, [])


def test_many_missing_producers(store):
    """The message names ten tables and counts the rest."""
    root = make(store, "r", inputs=docs())
    for number in range(12):
        make(store, f"c{number}", [root])
    plan = store.recompute_plan(root, "downstream")
    with pytest.raises(NotRecomputableError, match=r"and 3 more; give producers="):
        store.recompute(plan, {})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"producers": [len]}, "producers must be a mapping"),
        ({"producers": {"external": 1}}, r"producers\['external'\] must be callable"),
        ({"producers": {"": len}}, "a key of producers is required"),
        ({"producers": {int: len}}, "a key of producers must be a string"),
        ({"env": "cpu"}, "env must be a MaterializationEnv"),
        ({"env": {"external": "cpu"}}, "env must be a MaterializationEnv"),
        ({"wait_seconds": -1}, "wait_seconds"),
        ({"resolvers": {"result_digest": len}}, "give no resolver"),
        ({"plan": "docs"}, "plan must be what recompute_plan"),
    ],
)
def test_wrong_arguments(store, plan, summing, arguments, error):
    """A wrong argument is refused before anything is written."""
    before = store.catalog.version
    given = {"plan": plan, "producers": summing.producers, "resolvers": at("1"), **arguments}
    with pytest.raises(InvalidInputError, match=error):
        store.recompute(given.pop("plan"), given.pop("producers"), **given)
    assert store.catalog.version == before


def test_context(store, plan, names, summing):
    """A producer is given the new definition, the new parents opened, and the old row."""
    report = run(store, plan, summing)
    context = summing.contexts["d"]
    new = {label: report.recomputed[names[label]] for label in "abcd"}
    assert context.step == plan.steps[-1]
    assert context.original == store.catalog.get_result_table(names["d"])
    assert context.env == ENV
    assert [anchor.source for anchor in context.inputs] == [new["b"], new["c"]]
    assert [(each.original, each.table_name) for each in context.parents] == [
        (names["b"], new["b"]),
        (names["c"], new["c"]),
    ]
    assert context.dataset(new["b"]).to_table() == context.dataset(names["b"]).to_table()
    assert context.store.open_table(new["b"]).to_table() == table(2)
    for wrong in (None, "x"):
        with pytest.raises(InvalidInputError, match="name one of its parents"):
            context.dataset(wrong)
    with pytest.raises(InvalidInputError, match="it has none"):
        summing.contexts["a"].dataset()


def test_kept_parent(store, names, summing):
    """A parent outside of the plan is read as it is, and pinned as it is."""
    other = make(store, "other", value=50)
    last = make(store, "last", [names["d"], other])
    report = run(store, store.recompute_plan(names["d"], "downstream"), summing)
    row = store.catalog.get_result_table(report.recomputed[last])
    assert row.input_anchors[1] == store.result_digest_anchor(other)
    parents = summing.contexts["last"].parents
    assert [each.original == each.table_name for each in parents] == [False, True]
    assert total(store, row.table_name) == total(store, last)


# --- environments


def test_recorded_environment(store, summing):
    """Without `env` a result is computed in the environment that its hash stands for."""
    env = MaterializationEnv("2", Device.cuda(3))
    name = make(store, "a", inputs=docs(), env=env)
    report = run(store, store.recompute_plan(name), summing)
    assert summing.contexts["a"].env == env
    old, new = (store.catalog.get_result_table(each) for each in (name, report.recomputed[name]))
    assert new.definition_hash == old.definition_hash


def test_given_environment(store, plan, names, summing):
    """`env` is that of every step, or of those that its keys name; the definition follows it."""
    newer = MaterializationEnv("2", Device.cpu())
    run(store, plan, summing, env=newer)
    assert {context.env for context in summing.contexts.values()} == {newer}
    run(store, store.recompute_plan(names["a"], "downstream"), summing, env={names["b"]: newer})
    assert {label: each.env for label, each in summing.contexts.items()} == {
        "a": ENV,
        "b": newer,
        "c": ENV,
        "d": ENV,
    }


def test_unknown_environment(store, summing):
    """An environment that nobody can know is asked for before anything is run."""
    odd = MaterializationEnv("1", Device.cpu(), [ModelIdentity("secret", "tpu")])
    name = make(store, "a", inputs=docs(), env=odd)
    before = store.catalog.version
    with pytest.raises(InvalidInputError, match=f"the environment of `{name}`"):
        run(store, store.recompute_plan(name), summing)
    assert (store.catalog.version, summing.calls) == (before, [])
    assert run(store, store.recompute_plan(name), summing, env={"external": odd}).ok


# --- raw sources


def test_open_source(store, plan, summing):
    """A source that no resolver decides stops the run before it begins; nothing is unpinned."""
    before = store.catalog.version
    for resolvers in (None, {"source_version": lambda _: None}, {"mutable_version": str}):
        with pytest.raises(InvalidInputError, match=r"source 'docs' .* source_versions\("):
            run(store, plan, summing, resolvers=resolvers)
    assert (store.catalog.version, summing.calls) == (before, [])


def test_vanished_source(store, plan, summing, tmp_path):
    """A source that is gone is told before anything is run."""
    gone = jf.source_versions({"docs": tmp_path / "gone.csv"})
    with pytest.raises(StateError, match=r"sources .* have vanished: 'docs': "):
        run(store, plan, summing, resolvers={"source_version": gone})
    assert summing.calls == []


def test_source_is_fingerprinted_anew(store, tmp_path, summing):
    """A file is pinned by its content of now."""
    path = tmp_path / "docs.csv"
    path.write_text("1")
    name = make(store, "a", inputs=[source_anchor("docs", path)])
    path.write_text("2")
    resolvers = {"source_version": jf.source_versions({"docs": path})}
    [result] = run(store, store.recompute_plan(name), summing, resolvers=resolvers)
    row = store.catalog.get_result_table(result.recomputed)
    assert row.input_anchors == (source_anchor("docs", path),)
    assert store.staleness(row.table_name, resolvers=resolvers).ok


def test_each_source_is_looked_at_once(store, summing):
    """One run sees one state of a source, however many steps read it."""
    parent = make(store, "a", inputs=docs())
    anchors = [store.result_digest_anchor(parent), *docs()]
    for label in "bc":
        make(store, label, [parent], inputs=anchors)
    asked = []
    versions = iter("23456")
    resolvers = {"source_version": lambda source: asked.append(source) or next(versions)}
    plan = store.recompute_plan(parent, "downstream")
    report = run(store, plan, summing, resolvers=resolvers)
    assert asked == ["docs"]
    for name in report.recomputed.values():
        assert store.catalog.get_result_table(name).input_anchors[-1] == docs("2")[0]


def test_unpinned_source(store, tmp_path, summing):
    """`B218`: an unpinned source stays so only by a resolver's word; it can be pinned instead."""
    path = tmp_path / "docs.csv"
    path.write_text("1")
    name = make(
        store, "a", inputs=[InputAnchor.unpinned_at_instant("docs", "2020-01-01T00:00:00Z")]
    )
    plan = store.recompute_plan(name)
    with pytest.raises(InvalidInputError, match="was read without a version"):
        run(store, plan, summing, resolvers={"source_version": str})
    for resolver, kind in (
        (unpinned_anchor, AnchorKind.UNPINNED_AT_INSTANT),
        (lambda _: "2021-01-01T00:00:00Z", AnchorKind.UNPINNED_AT_INSTANT),
        (lambda source: source_anchor(source, path), AnchorKind.SOURCE_VERSION),
    ):
        resolvers = {"unpinned_at_instant": resolver}
        [result] = run(store, store.recompute_plan(name), summing, resolvers=resolvers)
        [anchor] = store.catalog.get_result_table(result.recomputed).input_anchors
        assert (anchor.source, anchor.kind) == ("docs", kind)
        assert anchor.anchor > "2021-01-01T00:00:00Z"


# --- a plan and its catalog


def test_deleted_table(store, plan, names, summing):
    """A table that has been deleted since stops the run before it begins."""
    store.delete_table(names["d"])
    with pytest.raises(TableNotFoundError, match=names["d"]):
        run(store, plan, summing)
    assert summing.calls == []


def test_changed_sidecar(store, plan, names, summing):
    """A sidecar that is not the planned one, or gone, or damaged, stops the run."""
    key = SIDECAR.format(names["c"])
    manifest = json.loads(store.storage.read(key))
    manifest["descriptor"]["params"] = {}
    for data, error in ((json.dumps(manifest).encode(), StateError), (b"{", FormatError)):
        store.storage.replace(key, data)
        with pytest.raises(error):
            run(store, plan, summing)
    store.storage.delete(key)
    with pytest.raises(StateError, match="make a new plan"):
        run(store, plan, summing)
    assert summing.calls == []


def test_lost_input(store, names, summing):
    """An input outside of the plan that is lost since stops the run before it begins."""
    plan = store.recompute_plan(names["d"], "downstream")
    lose(store, names["b"])
    with pytest.raises(StateError, match="has lost its bytes"):
        run(store, plan, summing)
    newer = make(store, "a", inputs=docs())
    plan = store.recompute_plan(names["a"], "downstream", replaced_by=newer)
    store.catalog.fail_result_table(newer, "x")
    with pytest.raises(StateError, match="is failed"):
        run(store, plan, summing)
    assert summing.calls == []


def test_unplannable_is_no_success(store, names, summing):
    """A report is not `ok` while a dependant could not be planned; what could be is computed."""
    store.storage.delete(SIDECAR.format(names["b"]))
    plan = store.recompute_plan(names["a"], "downstream")
    report = run(store, plan, summing)
    assert outcomes(report) == ["computed", "computed"]
    assert not report.ok
    assert [each["table_name"] for each in report.to_dict()["unplannable"]] == [
        names["b"],
        names["d"],
    ]
    assert "cannot be recomputed:" in str(report)


# --- tenants


def test_new_tables_of_a_tenant(store, summing):
    """`B059`: what a handle computes again is its own, also if the old table was GLOBAL."""
    shared = make(store, "a", inputs=docs())
    acme = store.pinned_to_tenant(ACME)
    mine = make(acme, "b", [shared])
    theirs = make(store.pinned_to_tenant(BETA), "c", [shared])
    report = run(acme, acme.recompute_plan(shared, "downstream"), summing)
    assert set(report.recomputed) == {shared, mine}
    assert summing.calls == ["a", "b"]
    assert theirs not in json.dumps(report.to_dict()) + str(report)
    for name in report.recomputed.values():
        assert acme.catalog.get_result_table(name).tenant_id == ACME
        assert store.catalog.get_result_table(name) is None


def test_new_tables_of_an_admin(store, summing):
    """An admin's recomputation leaves every table with its owner: nothing leaks to another."""
    shared = make(store, "a", inputs=docs())
    owners = {shared: None}
    for tenant, label in ((ACME, "b"), (BETA, "c")):
        owners[make(store.pinned_to_tenant(tenant), label, [shared])] = tenant
    admin = store.pinned_to_tenant(ACME).as_admin()
    report = run(admin, admin.recompute_plan(shared, "downstream"), summing)
    assert report.ok, str(report)
    for old, new in report.recomputed.items():
        assert admin.catalog.get_result_table(new).tenant_id == owners[old]


def test_plan_of_another_scope(store, summing):
    """A plan that an admin made tells a tenant's handle nothing: its tables are not found."""
    theirs = make(store.pinned_to_tenant(BETA), "a", inputs=docs())
    plan = store.as_admin().recompute_plan(theirs)
    with pytest.raises(TableNotFoundError):
        run(store.pinned_to_tenant(ACME), plan, summing)


# --- what is told


def test_progress(store, plan, names, summing):
    """The callback hears of each step when it begins and when it has ended."""
    summing.failing["b"] = ValueError("x")
    told = []
    run(store, plan, summing, progress=told.append)
    assert [(each.done, each.total) for each in told] == [
        (number, 4) for step in range(4) for number in (step, step + 1)
    ]
    assert [each.step.table_name for each in told[::2]] == list(plan.table_names)
    assert [each.result for each in told[::2]] == [None] * 4
    assert outcomes(each.result for each in told[1::2]) == [
        "computed",
        "failed",
        "computed",
        "skipped",
    ]
    assert str(told[0]) == f"0/4 {names['a']} begins"
    assert str(told[3]).startswith(f"2/4 {names['b']} failed: ValueError: x (")


def test_report_in_words(store, plan, names, summing):
    """The report counts the outcomes, has a line for each step, and says how to go on."""
    summing.failing["b"] = ValueError("two\nlines")
    report = run(store, plan, summing)
    lines = str(report).splitlines()
    assert lines[0] == f"recompute {names['a']}: 2 computed, 1 failed, 1 skipped"
    assert lines[1].startswith(f"- {names['a']} computed as {report.recomputed[names['a']]} (")
    assert lines[2].startswith(f"- {names['b']} failed: ValueError: two\\nlines (")
    assert lines[-1] == "recompute the same plan again to go on where it stopped"
    assert len(lines) == 6
    summing.failing.clear()
    assert "go on" not in str(run(store, plan, summing))


def test_report_is_json(store, plan, summing):
    """The report as data: one entry per step with its time, and the plan it belongs to."""
    report = run(store, plan, summing)
    told = json.loads(json.dumps(report.to_dict()))
    assert told["plan_id"] == plan.plan_id
    assert told["ok"] is True
    assert [list(each) for each in told["recomputed"]] == [
        ["original", "recomputed", "outcome", "error", "seconds"]
    ] * 4
    assert all(each["seconds"] > 0 for each in told["recomputed"])
    assert len(report) == 4


def test_report_of_nothing(store, names):
    """A plan without steps has a report without steps, and that went well."""
    newer = make(store, "d", inputs=docs())
    plan = store.recompute_plan(names["d"], "downstream", replaced_by=newer)
    report = store.recompute(plan, {})
    assert (len(plan), len(report), report.ok) == (0, 0, True)
    assert plan
    assert report
    assert str(report) == f"recompute {names['d']}: nothing to do"


def test_outcomes():
    """An outcome is one of four words; two of them mean that there is a result."""
    assert [each.value for each in RecomputeOutcome] == ["computed", "reused", "failed", "skipped"]
    assert [each.ok for each in RecomputeOutcome] == [True, True, False, False]
    result = RecomputeResult("a", "b", RecomputeOutcome.REUSED)
    assert result.ok
    with pytest.raises(ValueError):
        RecomputeReport(None, (result,)).of("done")


def test_not_found_is_told_by_the_producer(store, names, summing):
    """A producer's own NotFoundError is its step's failure, not the run's."""
    summing.failing["a"] = NotFoundError("no such model")
    [result] = run(store, store.recompute_plan(names["a"]), summing)
    assert result.error == "NotFoundError: no such model"
