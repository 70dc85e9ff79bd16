"""Which result was made from what: edges read from anchors, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.results import DATA, DESCRIPTOR, ENV, TABLE, row
from support.scopes import ACME, BETA

from jammi_files import AnchorKind, InputAnchor, InvalidInputError, LineageEdge, connect
from jammi_files.interop import import_jammi

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())["derives_from"]
RESULT, VERSION = AnchorKind.RESULT_DIGEST, AnchorKind.MUTABLE_VERSION


def ready(store, name, *anchors, **also):
    store.catalog.create_result_table(**row(name, **also))
    store.catalog.promote_result_table_with_manifest(name, 1, "hash", anchors)


def test_edges_of_the_engine(store):
    """`B131`, `B133`: the edges of imported results are those that the real engine tells."""
    import_jammi(FIXTURE, store)
    assert EXPECTED
    for name, edges in EXPECTED.items():
        assert [edge.to_dict() for edge in store.derives_from(name)] == edges


def test_edges_of_builds(store):
    """`B131`: a result built from another is an edge of the kind by which it was pinned."""
    contract = {"descriptor": DESCRIPTOR, "env": ENV}
    with store.build(*TABLE, **contract, inputs=[InputAnchor.mutable_version("raw", 1)]) as out:
        out.write(DATA)
    parent = out.table_name
    with store.build(*TABLE, **contract, inputs=[store.result_digest_anchor(parent)]) as out:
        out.write(DATA)
    again = connect(store.root)
    assert again.derives_from(parent) == [LineageEdge(parent, out.table_name, RESULT)]
    assert again.derives_from("raw") == [LineageEdge("raw", parent, VERSION)]


def test_one_edge_for_each_anchor(store):
    """`B131`: two anchors on one source are two edges; dependents come oldest first."""
    docs = InputAnchor.mutable_version("docs", 1)
    unpinned = InputAnchor.unpinned_at_instant("docs", "2026-01-01T00:00:00+00:00")
    ready(store, "z", docs, InputAnchor.mutable_version("other", 1), unpinned)
    ready(store, "a", docs)
    assert store.derives_from("docs") == [
        LineageEdge("docs", "z", VERSION),
        LineageEdge("docs", "z", AnchorKind.UNPINNED_AT_INSTANT),
        LineageEdge("docs", "a", VERSION),
    ]


@pytest.mark.parametrize("source", ["nothing", "DOCS", "doc", "docs%", "d_cs", 'd"', "\\"])
def test_nothing_derives(store, source):
    """`B129`, `B130`, `B132`, `B133`: any text may be a source; no dependent is an empty list."""
    ready(store, "t", InputAnchor.mutable_version("docs", 1))
    assert store.derives_from(source) == []


@pytest.mark.parametrize("source", ['a"b', "a\\b", "%", "_", "é\n\x01", "a/b"])
def test_odd_sources(store, source):
    """`B129`, `B130`: a source of any characters is found by exactly these."""
    ready(store, "t", InputAnchor.mutable_version(source, 1))
    ready(store, "u", InputAnchor.mutable_version("other", 1))
    assert connect(store.root).derives_from(source) == [LineageEdge(source, "t", VERSION)]


@pytest.mark.parametrize("bad", ["", None, 5])
def test_no_source(store, bad):
    """A source must be a non-empty string."""
    with pytest.raises(InvalidInputError, match="source"):
        store.derives_from(bad)


def test_only_ready_results(store):
    """`B131`: a building or failed result is no dependent, even if it was ready once."""
    docs = InputAnchor.mutable_version("docs", 1)
    ready(store, "t", docs)
    assert len(store.derives_from("docs")) == 1
    store.catalog.update_result_table_status("t", "failed", 0)
    assert store.derives_from("docs") == []
    ready(store, "u", docs)
    store.delete_table("u")
    assert store.derives_from("docs") == []


def test_derived_from_is_no_edge(store):
    """`B134`: edges come from anchors alone; ``derived_from`` makes none."""
    ready(store, "parent")
    ready(store, "child", derived_from="parent")
    assert store.derives_from("parent") == []


def test_edges_are_scoped(store):
    """`B128`, `B166`: dependents of other tenants are not told."""
    docs = InputAnchor.mutable_version("docs", 1)
    for tenant in (None, ACME, BETA):
        ready(store.pinned_to_tenant(tenant), f"of {tenant}", docs)
    edges = {
        "unbound": store.derives_from("docs"),
        "acme": store.pinned_to_tenant(ACME).derives_from("docs"),
        "admin": store.as_admin().derives_from("docs"),
    }
    found = {who: [edge.derived for edge in those] for who, those in edges.items()}
    everyone = [f"of {tenant}" for tenant in (None, ACME, BETA)]
    assert found == {"unbound": everyone[:1], "acme": everyone[:2], "admin": everyone}
