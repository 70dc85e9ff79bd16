"""Explanations: the nearest result, and what differs, in words and as data."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contracts import DESCRIPTORS
from support.faults import CountingStorage
from support.pipelines import ENV, NEWER_ENV, descriptor, docs, hashed, lose, make, on
from support.scopes import ACME

from jammi_files import (
    Catalog,
    DefinitionChanged,
    Device,
    Difference,
    FormatError,
    InputAnchor,
    InvalidInputError,
    MaterializationEnv,
    MaterializationManifest,
    MissExplanation,
    ModelIdentity,
    ResultStore,
    TableNotFoundError,
    unpinned_anchor,
)
from jammi_files.descriptors import parse_descriptor
from jammi_files.explain import CANDIDATES, anchor_differences, definition_differences
from jammi_files.local import LocalStorage

MODEL = ModelIdentity("minilm", "candle")


def miss(store, inputs=(), producer="embed", env=ENV, **params):
    """Explain a request as `pipelines.make` would make it."""
    return store.explain_miss(descriptor(producer, **params), env, inputs)


def test_hit(store):
    """A request that finds a result says which."""
    name = make(store, docs())
    told = miss(store, docs())
    assert told == MissExplanation("hit", hit=name)
    assert told.explain() == f"hit: '{name}' is this very result"


def test_nothing_near(store):
    """Where nothing of the producer was made from these sources, there is nothing to compare."""
    make(store, docs(), "other")
    make(store, [InputAnchor.source_version("mail", "1")], source="mail", seed="2")
    told = miss(store, docs())
    assert told == MissExplanation("nothing_near")
    assert "produce it" in str(told)


def test_bytes_gone(store):
    """A match whose bytes are gone is named."""
    name = make(store, docs())
    lose(store, name)
    told = miss(store, docs())
    assert told == MissExplanation("bytes_gone", nearest=name)
    assert "its bytes are gone; produce it again" in told.explain()


def test_other_inputs(store):
    """A result of this definition over other inputs: which inputs differ, and how."""
    near = make(store, [*docs("1"), InputAnchor.mutable_version("m", 1)])
    make(store, docs("0"))
    told = miss(store, [InputAnchor.mutable_version("m", 1), *docs("2")])
    assert told.reason == "anchors_differ"
    assert told.nearest == near
    assert told.differences == (
        Difference("anchors", "docs", "source_version:1", "source_version:2"),
    )
    assert "anchors docs: recorded 'source_version:1', wanted 'source_version:2'" in told.explain()


def test_unpinned(store):
    """`B115`: a request with an unpinned input is a miss for that reason, whatever is near."""
    inputs = [unpinned_anchor("docs")]
    assert miss(store, inputs) == MissExplanation("unpinned_inputs", unpinned=("docs",))
    name = make(store, inputs)
    for told in (miss(store, inputs), miss(store, inputs, seed="2")):
        assert told.reason == "unpinned_inputs"
        assert told.nearest == name
        assert "pin docs by source_anchor" in told.explain()


def test_other_descriptor(store):
    """A result of the same producer and source: which fields differ, inner ones by their path."""
    make(store, docs(), seed="1", k="5", mode="x")
    near = make(store, docs(), seed="1", k="7", mode="y")
    told = miss(store, docs(), seed="1", k="9")
    assert told.reason == "descriptor_differs"
    assert told.nearest == near
    assert told.differences == (
        Difference("descriptor", "params.k", "7", "9"),
        Difference("descriptor", "params.mode", "y", None),
    )


def test_most_equal_fields_win(store):
    """The nearest result has most fields equal; of equals it is the newest."""
    embedding = DESCRIPTORS["embedding"]

    def produce(**fields):
        how = parse_descriptor({**embedding, **fields})
        task = ("docs", "text_embedding", "model", "m")
        with store.build(*task, descriptor=how, env=ENV, inputs=docs()) as out:
            out.write(pa.table({"x": [1]}))
        return out.table_name

    first = produce(dimensions=1)
    second = produce(dimensions=2)
    third = produce(dimensions=3, key_column="k")
    wanted = parse_descriptor({**embedding, "dimensions": 9})
    assert store.explain_miss(wanted, ENV, docs()).nearest == second
    wanted = parse_descriptor({**embedding, "dimensions": 1, "columns": ["z"]})
    assert store.explain_miss(wanted, ENV, docs()).nearest == first
    wanted = parse_descriptor({**embedding, "dimensions": 3, "columns": ["z"]})
    assert store.explain_miss(wanted, ENV, docs()).nearest == third


@pytest.mark.parametrize(
    ("recorded", "wanted", "differences"),
    [
        (
            {"engine_version": "0.32.0"},
            {"engine_version": "0.33.0"},
            [("engine_version", "0.32.0", "0.33.0")],
        ),
        (
            {"device": Device.cpu()},
            {"device": Device.cuda(1)},
            [("device", "cpu", {"cuda": {"ordinal": 1}})],
        ),
        (
            {"device": Device.cuda(3)},
            {"device": Device.cuda(0)},
            [("device.cuda.ordinal", 3, 0)],
        ),
        (
            {"models": ()},
            {"models": (MODEL,)},
            [("models", [], [{"model_id": "minilm", "backend": "candle"}])],
        ),
        (
            {"engine_version": "0.32.0", "device": Device.cpu()},
            {"engine_version": "0.33.0", "device": Device.metal(0)},
            [("engine_version", "0.32.0", "0.33.0"), ("device", "cpu", {"metal": {"ordinal": 0}})],
        ),
        (
            {"models": (ModelIdentity("other", "ort"),)},
            {"models": (MODEL,)},
            [
                (
                    "device or models",
                    None,
                    {"device": "cpu", "models": [{"model_id": "minilm", "backend": "candle"}]},
                )
            ],
        ),
    ],
    ids=["engine", "device", "ordinal", "models", "two", "unknown"],
)
def test_other_environment(store, recorded, wanted, differences):
    """A result that differs in its environment: exactly how, where its hash betrays it.

    The sidecar records the engine's version alone.
    """
    plain = {"engine_version": "0.32.0", "device": Device.cpu()}
    near = make(store, docs(), env=MaterializationEnv(**{**plain, **recorded}))
    told = miss(store, docs(), env=MaterializationEnv(**{**plain, **wanted}))
    assert told.reason == "env_differs"
    assert told.nearest == near
    assert told.differences == tuple(Difference("env", *each) for each in differences)
    assert json.loads(json.dumps(told.to_dict()))["reason"] == "env_differs"


def test_derived_results(store):
    """A graph over a newer embedding is compared with the graph over the older one."""
    old = make(store, docs("1"))
    graph = make(store, on(store, old), "graph", over="old")
    new = make(store, docs("2"), data="b")
    told = miss(store, on(store, new), "graph", over="new")
    assert told.nearest == graph
    assert [each.field for each in told.differences if each.part == "anchors"] == [new, old]


def test_without_inputs(store):
    """A request without inputs is compared with every result of the producer."""
    name = make(store, seed="1")
    assert miss(store, seed="2").nearest == name


def test_damaged_neighbours(store, root):
    """A neighbour without a sidecar that can be read is passed over."""
    near, lost, damaged = (make(store, docs(), seed=each) for each in "123")
    (root / f"{lost}.materialization.json").unlink()
    (root / f"{damaged}.materialization.json").write_bytes(b"{")
    assert miss(store, docs(), seed="9").nearest == near


def test_tenants(store):
    """`B121`: a neighbour that the scope does not see is none."""
    make(store.pinned_to_tenant(ACME), docs(), seed="1")
    assert miss(store, docs(), seed="2").reason == "nothing_near"
    assert miss(store.pinned_to_tenant(ACME), docs(), seed="2").reason == "descriptor_differs"


def test_nothing_is_searched_without_end(root, store):
    """The search for the nearest reads a bounded number of sidecars."""
    for number in range(CANDIDATES + 3):
        make(store, docs(), seed=str(number))
    storage = CountingStorage(LocalStorage(root, "os"))
    warm = ResultStore(Catalog(storage))
    miss(warm, docs(), seed="none")
    with storage.counting() as calls:
        assert miss(warm, docs(), seed="none").reason == "descriptor_differs"
    assert (calls.looks, len(calls.of_results)) == (1, CANDIDATES)


def test_as_data(store):
    """An explanation can be written as JSON, each difference with part, field and both values."""
    name = make(store, docs("1"))
    told = miss(store, docs("2")).to_dict()
    assert json.loads(json.dumps(told)) == {
        "reason": "anchors_differ",
        "hit": None,
        "nearest": name,
        "differences": [
            {
                "part": "anchors",
                "field": "docs",
                "recorded": "source_version:1",
                "wanted": "source_version:2",
            }
        ],
        "unpinned": [],
    }


def test_wrong_request(store):
    """What is no descriptor, environment or anchor is refused."""
    with pytest.raises(InvalidInputError, match="definition_hash takes"):
        store.explain_miss({}, ENV, [])
    with pytest.raises(InvalidInputError, match="InputAnchor"):
        store.explain_miss(descriptor(), ENV, ["docs"])


# --- why a result no longer holds ---------------------------------------------------------------


def test_stale_by_definition(store):
    """`B234`: a changed definition is told field by field, beside the verdict."""
    name = make(store, seed="1")
    told = store.explain_stale(name, descriptor(seed="2"), NEWER_ENV)
    assert told.staleness.reasons == (
        DefinitionChanged(hashed(seed="1"), hashed(env=NEWER_ENV, seed="2")),
    )
    assert told.differences == (
        Difference("descriptor", "params.seed", "1", "2"),
        Difference("env", "engine_version", "0.32.0", "0.33.0"),
    )
    assert told.explain().startswith(f"'{name}' is stale")
    assert "- descriptor params.seed: recorded '1', wanted '2'" in told.explain()


def test_same_definition(store):
    """`B233`: an unchanged definition has no differences."""
    name = make(store)
    told = store.explain_stale(name, descriptor(), ENV)
    assert told.differences == ()
    assert told.staleness.ok
    assert str(told) == f"'{name}' is fresh: every input is as it was read"


def test_stale_by_inputs(store):
    """`explain` says of a name what `staleness` says, in words."""
    old = make(store, docs("1"))
    graph = make(store, on(store, old), "graph")
    new = make(store, docs("2"))
    told = store.explain(graph)
    assert told == store.explain_stale(graph)
    assert told.staleness == store.staleness(graph)
    assert f"input '{old}' was made again: produce this from '{new}'" in told.explain()
    assert json.loads(json.dumps(told.to_dict()))["table_name"] == graph
    assert store.explain(old, hashed(seed="9")).staleness.is_stale


def test_without_a_sidecar(store, root):
    """A result whose sidecar is gone is judged by its row; no fields can be told."""
    name = make(store, seed="1")
    (root / f"{name}.materialization.json").unlink()
    told = store.explain_stale(name, descriptor(seed="2"), ENV)
    assert told.staleness.is_stale
    assert told.differences == ()


def test_with_a_damaged_sidecar(store, root):
    """A damaged sidecar is an error that names it."""
    name = make(store)
    (root / f"{name}.materialization.json").write_bytes(b"{")
    with pytest.raises(FormatError, match=name):
        store.explain_stale(name, descriptor(), ENV)


def test_half_a_definition(store):
    """A descriptor without environment defines nothing, nor the other way round."""
    name = make(store)
    for half in ({"descriptor": descriptor()}, {"env": ENV}):
        with pytest.raises(InvalidInputError, match="give descriptor and env, or neither"):
            store.explain_stale(name, **half)


def test_unknown_table(store):
    """`B240`: a table that is not there is not found."""
    for ask in (store.explain, store.explain_stale):
        with pytest.raises(TableNotFoundError, match=r"^Result table 'nothing' not found$"):
            ask("nothing")


# --- properties ---------------------------------------------------------------------------------

anchors = st.lists(
    st.builds(
        InputAnchor,
        st.sampled_from(["a", "b"]),
        st.sampled_from(["1", "2"]),
        st.sampled_from(["result_digest", "source_version"]),
    ),
    max_size=4,
)


@given(recorded=anchors, wanted=anchors)
def test_anchor_differences(recorded, wanted):
    """Applied to the recorded anchors, the differences give the wanted ones: none is made up."""
    found = list(anchor_differences(recorded, wanted))
    state = sorted((each.source, f"{each.kind}:{each.anchor}") for each in recorded)
    for each in found:
        if each.recorded is not None:
            state.remove((each.field, each.recorded))
        if each.wanted is not None:
            state.append((each.field, each.wanted))
    assert sorted(state) == sorted((each.source, f"{each.kind}:{each.anchor}") for each in wanted)
    assert (found == []) == (sorted(recorded) == sorted(wanted))


params = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"))
envs = st.builds(
    MaterializationEnv,
    st.sampled_from(["0.32.0", "0.33.0"]),
    st.sampled_from([Device.cpu(), Device.cuda(0), Device.cuda(1), Device.metal(0)]),
    st.sampled_from([(), (MODEL,)]),
)


@given(old=params, new=params, old_env=envs, new_env=envs)
def test_definition_differences(old, new, old_env, new_env):
    """There are differences exactly if the definition hash differs, and each is one."""
    recorded = MaterializationManifest.attest(
        descriptor(**old), old_env, (), artifact="ab", produced_at="x"
    )
    found = list(definition_differences(recorded, descriptor(**new), new_env))
    same = hashed(env=old_env, **old) == hashed(env=new_env, **new)
    assert (found == []) == same
    assert all(each.recorded != each.wanted for each in found)
    fields = {each.field for each in found if each.part == "descriptor"}
    assert fields == {f"params.{key}" for key in "abc" if old.get(key) != new.get(key)}
