"""Descriptors that name other inputs: in the fields that name one, and in nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_files import (
    AnnCandidates,
    AsofJoin,
    ContextSet,
    EdgeCandidates,
    EdgeGather,
    Embedding,
    External,
    GraphPropagation,
    HybridCandidates,
    Inference,
    NeighborGraph,
    NeighborGraphEdges,
    RegisteredEdges,
)
from jammi_files.descriptors import UnknownDescriptor, parse_descriptor
from jammi_files.naming import is_generated, new_table_name
from jammi_files.retarget import retarget
from jammi_files.schema import ModelTask

OLD, NEW = "old", "new"
RENAMED = {OLD: NEW}

GATHER = EdgeGather(edge_source=NeighborGraphEdges(table_name=OLD), hops=1, direction="out")
DESCRIPTORS = {
    "inference": Inference(
        model_id=OLD, task="ner", source_id=OLD, content_columns=[OLD], key_column=OLD
    ),
    "embedding": Embedding(
        model_id=OLD,
        task="text_embedding",
        source_id=OLD,
        columns=[OLD],
        key_column=OLD,
        dimensions=2,
    ),
    "neighbor_graph": NeighborGraph(
        source_table=OLD, k=1, mutual=False, self_exclude=True, exact=True, exact_max_rows=9
    ),
    "graph_propagation": GraphPropagation(
        source_table=OLD,
        edge_source=NeighborGraphEdges(table_name=OLD),
        kernel_id=OLD,
        direction="out",
        hops=1,
        alpha_bits=0,
        weighting="uniform",
        output="final",
        dimensions=2,
    ),
    "context_set": ContextSet(
        encoder_id=OLD,
        source_id=OLD,
        embedding_table=OLD,
        candidate_source=HybridCandidates(ann_k=1, gather=GATHER),
        value_columns=[OLD],
        aggregator="mean",
        exclude_self=True,
        split=OLD,
        dimensions=2,
    ),
    "asof_join": AsofJoin(
        spine=OLD,
        facts=OLD,
        spine_by=[OLD],
        facts_by=[OLD],
        spine_time=OLD,
        facts_time=OLD,
        direction="backward",
        boundary="inclusive",
    ),
    "external": External(producer_id=OLD, params={"of": OLD, OLD: "x"}),
}
NAMED = {
    "inference": {"source_id"},
    "embedding": {"source_id"},
    "neighbor_graph": {"source_table"},
    "graph_propagation": {"source_table", "edge_source.table_name"},
    "context_set": {
        "source_id",
        "embedding_table",
        "candidate_source.gather.edge_source.table_name",
    },
    "asof_join": {"spine", "facts"},
    "external": {"params.of"},
}
"""The members of the JSON form that name an input; every other text is the same word by chance."""


def texts(value, path=""):
    """Yield the path and the text of each string in a JSON value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, path)
    elif isinstance(value, str):
        yield path, value


@pytest.mark.parametrize("producer", DESCRIPTORS)
def test_what_names_an_input(producer):
    """`B272`: exactly the fields that name an input name the new one."""
    told = retarget(DESCRIPTORS[producer], RENAMED)
    assert type(told) is type(DESCRIPTORS[producer])
    changed = {path for path, text in texts(told.to_dict()) if text == NEW}
    assert changed == NAMED[producer]
    before, after = (set(texts(each.to_dict())) for each in (DESCRIPTORS[producer], told))
    assert {(path, OLD) for path in changed} <= before
    assert before - after == {(path, OLD) for path in changed}


@pytest.mark.parametrize(
    "candidates", [AnnCandidates(k=1), EdgeCandidates(gather=GATHER)], ids=["ann", "edges"]
)
def test_candidates(candidates):
    """`B210`: edges are found in whatever kind of candidates they stand."""
    told = retarget(
        dataclasses.replace(DESCRIPTORS["context_set"], candidate_source=candidates), RENAMED
    )
    expected = {"gather"} if isinstance(candidates, EdgeCandidates) else set()
    assert {
        path.split(".")[1]
        for path, text in texts(told.to_dict())
        if text == NEW and path.startswith("candidate_source.")
    } == expected


def test_registered_edges():
    """`B208`: edges of a registered source name that source."""
    edges = RegisteredEdges(source_id=OLD, src_column=OLD, dst_column="d")
    told = retarget(
        dataclasses.replace(DESCRIPTORS["graph_propagation"], edge_source=edges), RENAMED
    )
    assert told.edge_source == dataclasses.replace(edges, source_id=NEW)


@pytest.mark.parametrize("producer", DESCRIPTORS)
def test_nothing_to_change(producer):
    """A descriptor that names none of them is returned as it is, stored key order included."""
    descriptor = parse_descriptor(dict(reversed(DESCRIPTORS[producer].to_dict().items())))
    told = retarget(descriptor, {"other": NEW})
    assert told is descriptor
    assert list(told.to_dict()) == list(descriptor.to_dict())


def test_unknown_fields_and_producers():
    """What a newer engine wrote is searched through: a value that is an old name is replaced."""
    fields = {"producer": "novel", "on": [OLD, {"deep": OLD, OLD: 1}], "note": f"not {OLD}", "n": 2}
    told = retarget(parse_descriptor(fields), RENAMED)
    assert isinstance(told, UnknownDescriptor)
    assert told.to_dict() == {
        "producer": "novel",
        "on": [NEW, {"deep": NEW, OLD: 1}],
        "note": f"not {OLD}",
        "n": 2,
    }
    known = dataclasses.replace(DESCRIPTORS["neighbor_graph"], extra={"also": OLD})
    assert retarget(known, RENAMED).extra == {"also": NEW}


def test_names_within_a_text():
    """A generated name is replaced within a longer text too; a plain word is not."""
    old, other, new = (new_table_name("docs", ModelTask.NER, "m") for _ in range(3))
    descriptor = External(producer_id="p", params={"of": f"{old},{other}", "as": f"my {OLD}"})
    told = retarget(descriptor, {old: new, OLD: NEW})
    assert told.params == {"of": f"{new},{other}", "as": f"my {OLD}"}


@given(source=st.text(min_size=1), model=st.text(min_size=1))
def test_generated_names_are_known(source, model):
    """`B040`: every generated name is told from a chosen one."""
    try:
        name = new_table_name(source, ModelTask.NER, model)
    except ValueError:
        return
    assert is_generated(name)
    assert not is_generated(f"{name}x")
    assert not is_generated(f"{name}\n")
