"""Producing descriptors: the stored form, key by key, and that every field decides the hash."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contracts import (
    ANN,
    DESCRIPTORS,
    EDGES,
    GATHER,
    GRAPH_EDGES,
    HYBRID,
    REGISTERED_EDGES,
    at,
    changed,
    leaves,
)

from jammi_files.described import OMITTED
from jammi_files.descriptor_parts import (
    AnnCandidates,
    AsofTolerance,
    EdgeCandidates,
    EdgeDirection,
    EdgeGather,
    HybridCandidates,
    NeighborGraphEdges,
    RegisteredEdges,
    float32_bits,
    float64_bits,
)
from jammi_files.descriptors import (
    AsofJoin,
    ContextSet,
    Embedding,
    External,
    GraphPropagation,
    Inference,
    NeighborGraph,
    UnknownDescriptor,
    parse_descriptor,
)
from jammi_files.errors import InvalidInputError
from jammi_files.materialization import Device, MaterializationEnv, definition_hash
from jammi_files.schema import ModelTask

ENV = MaterializationEnv("0.32.0", Device.cpu(), [])
CLASSES = {
    "inference": Inference,
    "embedding": Embedding,
    "neighbor_graph": NeighborGraph,
    "graph_propagation": GraphPropagation,
    "context_set": ContextSet,
    "asof_join": AsofJoin,
    "external": External,
}
BEHAVIOUR = {
    "inference": "B203",
    "embedding": "B204",
    "neighbor_graph": "B205",
    "graph_propagation": "B207",
    "context_set": "B209",
    "asof_join": "B211",
    "external": "B212",
}
# Where another value of the same type would not be legal.
OTHER = {
    ("inference", "task"): "ner",
    ("embedding", "task"): "image_embedding",
    ("graph_propagation", "direction"): "undirected",
    ("graph_propagation", "weighting"): "uniform",
    ("graph_propagation", "output"): "jumping_knowledge",
    ("context_set", "aggregator"): "max",
    ("context_set", "candidate_source", "gather", "fanout"): 8,
    ("context_set", "candidate_source", "gather", "direction"): "in",
    ("asof_join", "direction"): "nearest",
    ("asof_join", "boundary"): "exclusive",
}
FIXED = {"producer", "edge_source", "candidate", "merge"}  # tags, and an enum with one value
FIELDS = [
    pytest.param(name, path, id=f"{BEHAVIOUR[name]}-{name}-{'.'.join(path)}")
    for name, fields in DESCRIPTORS.items()
    for path in leaves(fields)
    if path[-1] not in FIXED
]


def other(name, path, value):
    if (name, *path) in OTHER:
        return OTHER[name, *path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return [*value, "more"] if isinstance(value, list) else f"{value or ''}x"


def hash_of(fields):
    return definition_hash(parse_descriptor(fields), ENV)


def stored(value):
    """Give the text too: equal dicts may differ in the order of their keys."""
    return json.dumps(value)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_stored_form(name):
    """`B180`, `B203` to `B212`: tag first, then the fields in the engine's order, verbatim."""
    fields = DESCRIPTORS[name]
    parsed = parse_descriptor(fields)
    assert type(parsed) is CLASSES[name]
    assert parsed.producer == name
    assert stored(parsed.to_dict()) == stored(fields)
    rebuilt = dataclasses.replace(parsed)  # forgets what it was parsed from
    assert stored(rebuilt.to_dict()) == stored(fields)
    assert rebuilt == parsed
    assert hash(rebuilt) == hash(parsed)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_constructor(name):
    """`B203` to `B212`: the constructor takes the stored names, and JSON for nested values."""
    arguments = {key: value for key, value in DESCRIPTORS[name].items() if key != "producer"}
    made = CLASSES[name](**arguments)
    assert made == parse_descriptor(DESCRIPTORS[name])
    assert stored(made.to_dict()) == stored(DESCRIPTORS[name])


@pytest.mark.parametrize(("name", "path"), FIELDS)
def test_each_field_moves_the_hash(name, path):
    """`B203` to `B212`: a result with any other parameter is another result."""
    fields = DESCRIPTORS[name]
    new = changed(fields, path, other(name, path, at(fields, path)))
    assert parse_descriptor(new).to_dict() == new
    assert hash_of(new) != hash_of(fields)


@pytest.mark.parametrize(("name", "path"), FIELDS)
def test_null_moves_the_hash(name, path):
    """`B193`: null is a value of its own where it is allowed, and refused elsewhere."""
    fields = DESCRIPTORS[name]
    new = changed(fields, path, None)
    if at(fields, path) is None:
        return
    try:
        parsed = parse_descriptor(new)
    except InvalidInputError as error:
        assert path[-1] in str(error)  # noqa: PT017 - either outcome is right, by field
    else:
        assert definition_hash(parsed, ENV) != hash_of(fields)
        assert stored(dataclasses.replace(parsed).to_dict()) == stored(new)


@pytest.mark.parametrize(("name", "path"), FIELDS)
def test_missing_field(name, path):
    """`B186`: a missing field is refused, and the message names it."""
    fields = copy.deepcopy(DESCRIPTORS[name])
    *parents, key = path
    if parents == ["params"] or "tolerance" in parents:
        return
    del at(fields, parents)[key]
    with pytest.raises(InvalidInputError, match=f"missing field `{key}`"):
        parse_descriptor(fields)


@pytest.mark.parametrize(("name", "path"), FIELDS)
@pytest.mark.parametrize("wrong", [1.5, [1], {"a": 1}, -1])
def test_wrong_type(name, path, wrong):
    """`B186`: a value of another type is refused, and the message names the field."""
    with pytest.raises(InvalidInputError, match=str(path[-1])):
        parse_descriptor(changed(DESCRIPTORS[name], path, wrong))


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_unknown_keys(name):
    """`B186`, `B191`: fields of a newer engine are kept, where they stood, and move the hash."""
    fields = {"new_first": [1, {"b": None}], **DESCRIPTORS[name], "new_last": "x"}
    parsed = parse_descriptor(fields)
    assert stored(parsed.to_dict()) == stored(fields)
    assert parsed.extra == {"new_first": [1, {"b": None}], "new_last": "x"}
    assert parsed != parse_descriptor(DESCRIPTORS[name])
    assert hash_of(fields) != hash_of(DESCRIPTORS[name])


def test_unknown_nested_keys():
    """`B186`, `B191`: so are those of nested objects."""
    edges = {**REGISTERED_EDGES, "new": 1}
    source = {**HYBRID, "gather": {"new": 2, **GATHER, "edge_source": edges}, "new": 3}
    fields = {**DESCRIPTORS["context_set"], "candidate_source": source}
    parsed = parse_descriptor(fields)
    assert stored(parsed.to_dict()) == stored(fields)
    assert definition_hash(parsed, ENV) == definition_hash(dataclasses.replace(parsed), ENV)
    assert hash_of(fields) != hash_of(DESCRIPTORS["context_set"])


def test_replace_keeps_unknown_keys():
    """`B191`: a changed copy keeps what it does not know, since that decides the output too."""
    parsed = parse_descriptor({**DESCRIPTORS["neighbor_graph"], "new": 1})
    assert dataclasses.replace(parsed, k=9).to_dict() == {
        **DESCRIPTORS["neighbor_graph"],
        "new": 1,
        "k": 9,
    }


def test_extra_repeats_nothing():
    """`B190`: ``extra`` cannot hold a key a second time."""
    for key in ("producer", "producer_id"):
        with pytest.raises(InvalidInputError, match=f"external.extra repeats the field '{key}'"):
            External(producer_id="p", params={}, extra={key: "x"})


def test_unknown_producer():
    """`B191`: the descriptor of an unknown producer is kept whole, and hashed like any other."""
    fields = {"zeta": 1, "producer": "telepathy", "nested": {"b": [1, None], "a": 2}}
    parsed = parse_descriptor(fields)
    assert parsed == UnknownDescriptor(
        producer="telepathy", extra={"nested": {"b": [1, None], "a": 2}, "zeta": 1}
    )
    assert stored(parsed.to_dict()) == stored(fields)
    assert hash_of(fields) != hash_of({**fields, "zeta": 2})


def test_unknown_producer_is_unknown():
    """`B191`: a known producer cannot slip past its checks as an unknown one."""
    with pytest.raises(InvalidInputError, match="producer 'external' is known: use External"):
        UnknownDescriptor(producer="external", extra={})


@pytest.mark.parametrize("fields", [{}, {"producer": None}, {"producer": 3}, [], "external", None])
def test_no_producer(fields):
    """`B186`: without a producer there is no descriptor."""
    with pytest.raises(InvalidInputError, match="string field `producer`"):
        parse_descriptor(fields)


def test_wrong_class():
    """`B186`: a class reads its own producer only."""
    with pytest.raises(InvalidInputError, match="`producer` must be 'inference', not 'embedding'"):
        Inference.from_dict(DESCRIPTORS["embedding"])


def test_later_storage_precision():
    """`B191`, `B206`: the field of 0.42 is absent, null or a name: three definitions."""
    fields = DESCRIPTORS["neighbor_graph"]
    null, f16 = ({**fields, "index_storage_precision": value} for value in (None, "f16"))
    assert parse_descriptor(fields).index_storage_precision is OMITTED
    assert parse_descriptor(null).index_storage_precision is None
    assert parse_descriptor(f16).index_storage_precision == "f16"
    assert len({hash_of(fields), hash_of(null), hash_of(f16)}) == 3
    for each in (null, f16):
        assert stored(dataclasses.replace(parse_descriptor(each)).to_dict()) == stored(each)


@pytest.mark.parametrize("precision", [1, "", ["f16"]])
def test_bad_storage_precision(precision):
    """`B206`: the precision is a name."""
    fields = {**DESCRIPTORS["neighbor_graph"], "index_storage_precision": precision}
    with pytest.raises(InvalidInputError, match="index_storage_precision"):
        parse_descriptor(fields)


def test_swapped_edge_columns():
    """`B208`: edges the other way round are another graph."""
    fields = DESCRIPTORS["graph_propagation"]
    swapped = {**REGISTERED_EDGES, "src_column": "to", "dst_column": "from"}
    assert hash_of({**fields, "edge_source": swapped}) != hash_of(fields)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(NeighborGraphEdges, GRAPH_EDGES), (RegisteredEdges, REGISTERED_EDGES)],
)
def test_edge_sources(kind, fields):
    """`B208`: an edge source is told by its tag."""
    whole = {**DESCRIPTORS["graph_propagation"], "edge_source": fields}
    parsed = parse_descriptor(whole)
    assert type(parsed.edge_source) is kind
    assert stored(parsed.edge_source.to_dict()) == stored(fields)
    assert stored(dataclasses.replace(parsed).to_dict()) == stored(whole)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(AnnCandidates, ANN), (EdgeCandidates, EDGES), (HybridCandidates, HYBRID)],
)
def test_candidate_sources(kind, fields):
    """`B210`: a candidate source is told by its tag."""
    whole = {**DESCRIPTORS["context_set"], "candidate_source": fields}
    parsed = parse_descriptor(whole)
    assert type(parsed.candidate_source) is kind
    assert stored(parsed.candidate_source.to_dict()) == stored(fields)
    assert stored(dataclasses.replace(parsed).to_dict()) == stored(whole)
    sources = (ANN, EDGES, HYBRID)
    assert len({hash_of({**whole, "candidate_source": each}) for each in sources}) == 3


@pytest.mark.parametrize(
    ("name", "field", "wrong", "message"),
    [
        ("graph_propagation", "edge_source", {"edge_source": "csv"}, "unknown `edge_source` 'csv'"),
        ("graph_propagation", "edge_source", "docs__graph", "unknown `edge_source` 'docs__graph'"),
        ("graph_propagation", "edge_source", ANN, "unknown `edge_source` None"),
        (
            "graph_propagation",
            "direction",
            "both",
            "unknown value 'both'. Expected: out, in, undir",
        ),
        ("graph_propagation", "hops", True, "hops must be an integer between 0 and 2"),
        ("context_set", "candidate_source", {"candidate": ["ann"]}, "unknown `candidate` .'ann'."),
        ("context_set", "aggregator", "MEAN", "unknown value 'MEAN'. Expected: mean, sum, max"),
        ("context_set", "exclude_self", 1, "exclude_self must be true or false, not 1"),
        ("embedding", "task", "sing", "Unknown model task 'sing'. Expected: text_embedding, "),
        ("embedding", "columns", "body", "columns must be a sequence of strings, not 'body'"),
        ("embedding", "columns", {"b", "a"}, "columns must be a list: a set has no order"),
        ("embedding", "columns", ["a", 1], "an item of embedding.columns must be a string"),
        ("embedding", "key_column", "", "embedding.key_column is required"),
        ("embedding", "model_id", "\ud800", "lone surrogate"),
        ("embedding", "dimensions", 2**64, "dimensions must be an integer between 0 and 2"),
        ("neighbor_graph", "min_similarity_bits", 2**32, "min_similarity_bits must be an integer"),
        ("asof_join", "tolerance", 5, "a tolerance is"),
        ("asof_join", "tolerance", {}, "a tolerance is"),
        ("asof_join", "tolerance", {"duration": 1, "steps": 2}, "a tolerance is"),
        (
            "asof_join",
            "tolerance",
            {"weeks": 1},
            "unknown value 'weeks'. Expected: duration, steps",
        ),
        ("asof_join", "tolerance", {"steps": -1}, "tolerance.steps must be an integer"),
        ("external", "params", {"a": 1}, r"external.params\['a'\] must be a string, not int"),
        ("external", "params", {1: "a"}, "external.params: the key 1 is not a string"),
        ("external", "params", ["a"], "external.params must be an object"),
    ],
)
def test_bad_arguments(name, field, wrong, message):
    """`B186`: what is wrong is refused at construction, naming the field and what is expected."""
    arguments = {key: value for key, value in DESCRIPTORS[name].items() if key != "producer"}
    with pytest.raises(InvalidInputError, match=message):
        CLASSES[name](**{**arguments, field: wrong})


def test_column_order():
    """`B214`: the order of columns is the caller's and counts."""
    fields = {**DESCRIPTORS["embedding"], "columns": ["b", "a"]}
    assert parse_descriptor(fields).columns == ("b", "a")
    assert hash_of(fields) != hash_of({**fields, "columns": ["a", "b"]})


def test_params_order():
    """`B212`: params in another order are the same descriptor, stored sorted."""
    one = External(producer_id="p", params={"b": "1", "a": "2"})
    other_order = External(producer_id="p", params={"a": "2", "b": "1"})
    assert one == other_order
    assert list(one.to_dict()["params"]) == ["a", "b"]
    assert definition_hash(one, ENV) == definition_hash(other_order, ENV)


def test_params_are_copied():
    """`B212`: changing the caller's dict afterwards changes no descriptor."""
    params = {"a": "1"}
    made = External(producer_id="p", params=params)
    params["a"] = "2"
    assert made.params == {"a": "1"}


def test_content_digest():
    """`B213`: the digest of the rows becomes a param, and the caller may not bring one."""
    plain = External(producer_id="p", params={"a": "1"})
    folded = plain.with_content_digest("ab" * 32)
    assert folded.params == {"a": "1", "content_digest": "ab" * 32}
    assert definition_hash(folded, ENV) != definition_hash(plain, ENV)
    with pytest.raises(InvalidInputError, match="params must not hold 'content_digest'"):
        folded.with_content_digest("cd" * 32)


def test_float_bits():
    """`B200`: floats are stored by their bits, single precision as u32, double as u64."""
    assert float64_bits(0.1) == 4591870180066957722
    assert float32_bits(0.25) == 1048576000
    assert float32_bits(0.1) == 0x3DCCCCCD
    assert float64_bits(-0.0) == 2**63


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_any_float_bits(value):
    """`B200`: the float reads back exactly from the descriptor's property."""
    graph = {**DESCRIPTORS["neighbor_graph"], "min_similarity_bits": float32_bits(value)}
    walk = {**DESCRIPTORS["graph_propagation"], "alpha_bits": float64_bits(value)}
    gather = {**GATHER, "min_weight_bits": float64_bits(value)}
    for back in (
        parse_descriptor(graph).min_similarity,
        parse_descriptor(walk).alpha,
        EdgeGather.from_dict(gather).min_weight,
    ):
        assert struct.pack("<d", back) == struct.pack("<d", value)


def test_no_float():
    """`B200`: no threshold has no bits."""
    graph = {**DESCRIPTORS["neighbor_graph"], "min_similarity_bits": None}
    assert parse_descriptor(graph).min_similarity is None
    assert EdgeGather.from_dict({**GATHER, "min_weight_bits": None}).min_weight is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e39])
def test_no_finite_float(value):
    """`B200`: NaN, infinity and what overflows single precision are refused."""
    with pytest.raises(InvalidInputError, match="is not a finite number of 32 bits"):
        float32_bits(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "0.1", None])
def test_no_finite_double(value):
    """`B200`: so is what is no double."""
    with pytest.raises(InvalidInputError, match="is not a finite number of 64 bits"):
        float64_bits(value)


def test_typed_values():
    """`B207` to `B211`: strings become enums, nested values may be given as such."""
    gather = EdgeGather(
        edge_source=NeighborGraphEdges(table_name="g"), hops=1, direction=EdgeDirection.IN
    )
    made = ContextSet(
        encoder_id="e",
        source_id="s",
        embedding_table="t",
        candidate_source=EdgeCandidates(gather=gather),
        value_columns=("a",),
        aggregator="sum",
        exclude_self=False,
        dimensions=2,
    )
    assert made.to_dict()["candidate_source"] == {
        "candidate": "edges",
        "gather": {
            "edge_source": {"edge_source": "neighbor_graph", "table_name": "g"},
            "hops": 1,
            "fanout": None,
            "direction": "in",
            "edge_types": None,
            "min_weight_bits": None,
            "as_of": None,
        },
    }
    assert parse_descriptor(made.to_dict()) == made
    assert parse_descriptor(DESCRIPTORS["embedding"]).task is ModelTask.TEXT_EMBEDDING
    join = parse_descriptor(DESCRIPTORS["asof_join"])
    assert join.tolerance == AsofTolerance.duration(7200000000)
    assert dataclasses.replace(join, tolerance=AsofTolerance.steps(3)).to_dict()["tolerance"] == {
        "steps": 3
    }


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_values(name):
    """`B197`: descriptors are frozen, compare, hash, pickle and copy as values."""
    parsed = parse_descriptor(DESCRIPTORS[name])
    assert pickle.loads(pickle.dumps(parsed)) == parsed  # noqa: S301 - our own bytes
    assert copy.deepcopy(parsed) == parsed
    assert {parsed: 1}[parse_descriptor(DESCRIPTORS[name])] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        parsed.extra = {}
    returned = parsed.to_dict()
    returned.clear()
    assert parsed.to_dict() == DESCRIPTORS[name]


def test_largest_size():
    """`B205`: the engine's "no limit", 2**64-1, is a legal size."""
    fields = {**DESCRIPTORS["neighbor_graph"], "exact_max_rows": 2**64 - 1}
    assert parse_descriptor(fields).to_dict() == fields


@given(st.sampled_from(sorted(DESCRIPTORS)), st.randoms(use_true_random=False))
def test_key_order(name, random):
    """`B197`: the order of keys is kept in the stored form and does not move the hash."""
    items = list(DESCRIPTORS[name].items())
    random.shuffle(items)
    parsed = parse_descriptor(dict(items))
    assert stored(parsed.to_dict()) == stored(dict(items))
    assert parsed == parse_descriptor(DESCRIPTORS[name])
    assert definition_hash(parsed, ENV) == hash_of(DESCRIPTORS[name])
