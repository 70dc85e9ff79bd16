"""Lineage for other eyes: trees, DOT, Mermaid, OpenLineage events, in-toto Statements."""

from __future__ import annotations

import json
import logging
import re
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openlineage.client import event_v2, facet_v2
from openlineage.client.serde import Serde
from support.faults import CountingStorage
from support.graphs import adopt, adopt_graph, result
from support.results import DATA, DESCRIPTOR, ENV, TABLE, build, finalize, write
from support.scopes import ACME, BETA

from jammi_files import (
    AnchorKind,
    Catalog,
    DependencyCycleError,
    FormatError,
    InputAnchor,
    Lineage,
    LineageEdge,
    MaterializationManifest,
    ResultStore,
    StateError,
    TableNotFoundError,
    artifact_digest,
    connect,
)
from jammi_files.interop import import_jammi
from jammi_files.local import LocalStorage

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
EXPECTED = json.loads((FIXTURE / "expected.json").read_bytes())
RESULT, VERSION = AnchorKind.RESULT_DIGEST, AnchorKind.MUTABLE_VERSION
HOSTILE = [
    'a"b',
    "a\\",
    'a\\"',
    "a\nb",
    "\x1b[31mred",
    "<b>&amp;</b>",
    "%%{init}%%",
    "]-->x",
    "é#1;",
    "\u202egnirts",
    "- 1. `x`",
]

_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def edge(start, end, kind=RESULT):
    return LineageEdge(start, end, kind)


@pytest.fixture
def family(store):
    """Return a store in which report stands in the middle of two diamonds."""
    raw = InputAnchor.mutable_version("raw", 1)
    adopt_graph(store, a=[raw], b=["a"], c=["a"], report=["b", "c"])
    adopt_graph(store, d=["report"], e=["report"], f=["d", "e"], g=["f"])
    return store


# --- the text tree


def test_tree(family):
    """A tree shows inputs and dependants; a diamond is drawn once in full, then marked (`B137`)."""
    assert family.lineage("report").to_text() == (
        "report\n"
        "made from:\n"
        "├── b (result_digest)\n"
        "│   └── a (result_digest)\n"
        "│       └── raw (mutable_version)\n"
        "└── c (result_digest)\n"
        "    └── a (result_digest) (shown above)\n"
        "used by:\n"
        "├── d (result_digest)\n"
        "│   └── f (result_digest)\n"
        "│       └── g (result_digest)\n"
        "└── e (result_digest)\n"
        "    └── f (result_digest) (shown above)"
    )


def test_tree_of_one_side(family):
    """A side without edges has no heading."""
    assert family.lineage("g").to_text().startswith("g\nmade from:\n└── f")
    adopt_graph(family, alone=[])
    assert family.lineage("alone").to_text() == "alone"


def test_tree_of_many_levels(store):
    """Below 32 levels the level stands in brackets; no line grows without end."""
    adopt_graph(store, **{f"t{number + 1}": [f"t{number}"] for number in range(2000)})
    lines = store.lineage("t1").to_text().splitlines()[4:]
    assert len(lines) == 1999
    assert lines[31] == " " * 4 * 31 + "└── t33 (result_digest)"
    assert lines[32] == " " * 4 * 32 + "[33] t34 (result_digest)"
    assert lines[-1] == " " * 4 * 32 + "[1999] t2000 (result_digest)"


@pytest.mark.parametrize("name", HOSTILE)
def test_tree_escapes(name):
    """A name cannot break the line, move the cursor or colour the terminal."""
    text = Lineage("t", (edge(name, "t", VERSION),), ()).to_text()
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.count("\n") == 2


def test_drawn_cycles_are_errors():
    """`B138`: edges that hold a cycle are drawn by nothing."""
    cyclic = [
        Lineage("a", (), (edge("a", "b"), edge("b", "a"))),
        Lineage("a", (edge("a", "a"),), ()),
        Lineage("a", (edge("b", "a"), edge("c", "b"), edge("b", "c")), ()),
    ]
    for lineage in cyclic:
        for draw in (lineage.to_text, lineage.to_dot, lineage.to_mermaid):
            with pytest.raises(DependencyCycleError):
                draw()


# --- DOT


DOT_STRING = r'"((?:[^"\\]|\\.)*)"'
DOT_NODE = re.compile(
    rf"  {DOT_STRING} \[label={DOT_STRING}, shape=(box|ellipse)(, style=bold)?\];"
)
DOT_EDGE = re.compile(rf'  {DOT_STRING} -> {DOT_STRING} \[label="(\w+)"\];')


def parse_dot(text):
    """Return nodes {id: (label, shape)} and edges of the DOT subset; anything else fails."""
    head, direction, *body, tail = text.split("\n")
    assert (head, direction, tail) == ("digraph lineage {", "  rankdir=LR;", "}")
    nodes, edges = {}, []
    for line in body:
        node = DOT_NODE.fullmatch(line)
        if node:
            assert node[1] not in nodes
            label = re.sub(r"\\(.)", r"\1", node[2]).replace("&amp;", "&")
            nodes[node[1]] = (label, node[3])
        else:
            edges.append(DOT_EDGE.fullmatch(line).groups())
    return nodes, edges


def test_dot(family):
    """DOT holds every name and edge once; results are boxes, what may be raw is an ellipse."""
    lineage = family.lineage("report")
    nodes, edges = parse_dot(lineage.to_dot())
    assert nodes == {name: (name, "box") for name in ("a", "b", "c", "report", *"defg")} | {
        "raw": ("raw", "ellipse")
    }
    expected = [(each.input, each.derived, each.kind.value) for each in lineage.edges]
    assert edges == expected
    assert '  "report" [label="report", shape=box, style=bold];' in lineage.to_dot()


def test_dot_of_a_vanished_result():
    """What is anchored by a digest is a result, though no row of the name is left."""
    nodes, _ = parse_dot(Lineage("t", (edge("gone", "t"),), ()).to_dot())
    assert nodes["gone"] == ("gone", "box")


@given(names=st.lists(_names | st.sampled_from(HOSTILE), min_size=1, max_size=6, unique=True))
def test_dot_quotes(names):
    """Any names stay apart, stay in their strings, and are labelled as a tree shows them."""
    lineage = Lineage("t", tuple(edge(name, "t") for name in names if name != "t"), ())
    nodes, edges = parse_dot(lineage.to_dot())
    shown = {line[4:-16] for line in lineage.to_text().split("\n")[2:]} | {"t"}
    assert {label for label, _ in nodes.values()} == shown
    assert len(nodes) == len({*names, "t"})
    assert all(start in nodes and end in nodes for start, end, _ in edges)


# --- Mermaid


MERMAID_NODE = re.compile(r'    (n\d+)(\[|\(\[)"([^"]*)"(\]|\]\))')
MERMAID_EDGE = re.compile(r"    (n\d+) -->\|(\w+)\| (n\d+)")


def parse_mermaid(text):
    """Return nodes {id: (label, round)} and edges of the Mermaid subset; anything else fails."""
    head, *body = text.split("\n")
    assert head == "flowchart LR"
    nodes, edges = {}, []
    for line in body:
        node = MERMAID_NODE.fullmatch(line)
        if node:
            assert not re.search(r"[<>`&%{}\[\]()\\|]|#(?!\d+;)", node[3])
            label = re.sub(r"#(\d+);", lambda match: chr(int(match[1])), node[3])
            nodes[node[1]] = (label, node[2] == "([")
        else:
            start, kind, end = MERMAID_EDGE.fullmatch(line).groups()
            edges.append((nodes[start][0], nodes[end][0], kind))
    return nodes, edges


def test_mermaid(family):
    """Mermaid holds every name and edge once; what may be a raw source is round."""
    lineage = family.lineage("report")
    nodes, edges = parse_mermaid(lineage.to_mermaid())
    assert sorted(nodes.values()) == sorted(
        (name, name == "raw") for name in ("raw", "report", *"abcdefg")
    )
    assert edges == [(each.input, each.derived, each.kind.value) for each in lineage.edges]


@given(names=st.lists(_names | st.sampled_from(HOSTILE), min_size=1, max_size=6, unique=True))
def test_mermaid_quotes(names):
    """Any names become labels that hold no syntax of Mermaid or Markdown."""
    lineage = Lineage("t", tuple(edge(name, "t") for name in names if name != "t"), ())
    nodes, _ = parse_mermaid(lineage.to_mermaid())
    shown = {line[4:-16] for line in lineage.to_text().split("\n")[2:]} | {"t"}
    assert {label for label, _ in nodes.values()} == shown
    assert len(nodes) == len({*names, "t"})


def test_mermaid_keeps_plain_names():
    """Underscores inside a name, as every generated name has them, stay readable."""
    name = "docs__text_embedding__m__20261122T214953_31245072"
    assert f'["{name}"]' in Lineage(name, (), ()).to_mermaid()
    assert "#95;#95;x#95;" in Lineage("__x_", (), ()).to_mermaid()


# --- OpenLineage


def as_client_event(event):
    """Rebuild an event from the client's own classes, which check types, ids and instants."""
    run = event_v2.Run(event["run"]["runId"], facets=as_client_facets(event["run"]["facets"]))
    job = event_v2.Job(event["job"]["namespace"], event["job"]["name"], facets={})
    return event_v2.RunEvent(
        eventTime=event["eventTime"],
        eventType=event_v2.RunState[event["eventType"]],
        producer=event["producer"],
        run=run,
        job=job,
        inputs=[as_client_dataset(event_v2.InputDataset, each) for each in event["inputs"]],
        outputs=[as_client_dataset(event_v2.OutputDataset, each) for each in event["outputs"]],
    )


def as_client_dataset(kind, dataset):
    fields = {key: value for key, value in dataset.items() if key not in ("facets", "outputFacets")}
    if "outputFacets" in dataset:
        fields["outputFacets"] = as_client_facets(dataset["outputFacets"])
    return kind(**fields, facets=as_client_facets(dataset["facets"]))


statistics = facet_v2.output_statistics_output_dataset
CLIENT_FACETS = {
    "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
    "dataSource": facet_v2.datasource_dataset.DatasourceDatasetFacet,
    "outputStatistics": statistics.OutputStatisticsOutputDatasetFacet,
    "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet,
}


def as_client_facets(facets):
    made = {}
    for name, facet in facets.items():
        members = {key: value for key, value in facet.items() if not key.startswith("_")}
        if name == "schema":
            kind = facet_v2.schema_dataset.SchemaDatasetFacetFields
            members["fields"] = [kind(**field) for field in members["fields"]]
        if name in CLIENT_FACETS:
            made[name] = CLIENT_FACETS[name](**members, producer=facet["_producer"])
        else:
            base = facet_v2.RunFacet if name == "jammi_materialization" else facet_v2.DatasetFacet
            made[name] = base(producer=facet["_producer"]).with_additional_properties(**members)
    return made


def without_versions(value):
    """Drop the versions from specification URLs: a newer client names newer ones."""
    text = json.dumps(value)
    return json.loads(re.sub(r"/\d+-\d+-\d+/", "/", text))


def check_event(event):
    """Check that the client, given the same facts, would send the same JSON."""
    sent = json.loads(Serde.to_json(as_client_event(event)))
    assert without_versions(prune(sent)) == without_versions(prune(event))


def prune(value):
    """Drop what is empty, as the client may or may not."""
    if isinstance(value, dict):
        pruned = {key: prune(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item not in (None, {}, [])}
    return [prune(item) for item in value] if isinstance(value, list) else value


def test_event_of_a_build(store):
    """A result is one COMPLETE event: its inputs, its output, how it was made, what it holds."""
    name = build(store)
    record = store.catalog.get_result_table(name)
    (event,) = store.openlineage_events(name)
    check_event(event)
    assert event["eventType"] == "COMPLETE"
    assert event["eventTime"] == record.completed_at
    assert event["job"]["name"] == "model/classification/docs/org/model"
    namespace = Path(store.root).as_uri()
    assert event["job"]["namespace"] == namespace
    (source,) = event["inputs"]
    assert (source["namespace"], source["name"]) == (namespace, "docs")
    assert source["facets"]["version"]["datasetVersion"] == "7"
    (output,) = event["outputs"]
    assert (output["namespace"], output["name"]) == (namespace, name)
    fields = [{"name": "id", "type": "string"}, {"name": "score", "type": "double"}]
    assert output["facets"]["schema"]["fields"] == fields
    sidecar = store.read_materialization_manifest(name)
    assert output["facets"]["version"]["datasetVersion"] == sidecar.artifact
    assert output["facets"]["dataSource"]["uri"] == Path(store.url(name)).as_uri()
    counted = output["outputFacets"]["outputStatistics"]
    size = (Path(store.root) / f"{name}.parquet").stat().st_size
    assert (counted["rowCount"], counted["size"]) == (3, size)
    facets = event["run"]["facets"]
    assert facets["processing_engine"]["version"] == ENV.engine_version
    made = facets["jammi_materialization"]
    assert made["definition_hash"] == record.definition_hash
    assert made["descriptor"] == DESCRIPTOR.to_dict()


def test_events_of_the_fixture(store):
    """Every result of the real engine becomes an event that the client accepts."""
    import_jammi(FIXTURE, store)
    events = store.openlineage_events()
    known = {"docs", "cites", "trades", "quotes"}
    for event in events:
        check_event(event)
        assert {each["name"] for each in event["inputs"]} <= known
        known.add(event["outputs"][0]["name"])
    ready = {record.table_name for record in store.catalog.list_result_tables_by_status("ready")}
    assert len(events) == len(ready)
    assert known >= ready >= set(EXPECTED["derives_from"])


def test_events_meet(store):
    """The output of one event is the input of the next, in the same version."""
    parent = build(store)
    anchor = store.result_digest_anchor(parent)
    with store.build(*TABLE, descriptor=DESCRIPTOR, env=ENV, inputs=[anchor]) as out:
        out.write(DATA)
    first, second = store.openlineage_events()
    output, (source,) = first["outputs"][0], second["inputs"]
    assert (source["namespace"], source["name"]) == (output["namespace"], output["name"])
    assert source["facets"]["version"] == output["facets"]["version"]
    assert second["job"] == first["job"]


def test_runs_have_stable_ids(store):
    """A run's id is a UUID of the result alone: the same each time, another for each result."""
    names = [build(store), build(store)]
    ids = [event["run"]["runId"] for event in store.openlineage_events()]
    assert ids == [event["run"]["runId"] for event in connect(store.root).openlineage_events()]
    assert [uuid.UUID(each).version for each in ids] == [5, 5]
    assert len(set(ids)) == 2
    assert [store.openlineage_events(name)[0]["run"]["runId"] for name in names] == ids


def test_a_name_used_again_is_another_run(store):
    """A result that was deleted and made anew under its name is another run."""
    adopt(store, [result("a")])
    (first,) = store.openlineage_events()
    store.delete_table("a")
    adopt(store, [result("a")])
    (second,) = store.openlineage_events()
    assert first["run"]["runId"] != second["run"]["runId"]


def test_inputs_come_first(store):
    """Events come inputs first, whatever the age or name of the rows."""
    adopt(store, [result("a", ["b", "c"]), result("b", ["c"]), result("c", ["raw"])])
    names = [event["outputs"][0]["name"] for event in store.openlineage_events()]
    assert names == ["c", "b", "a"]


def test_several_anchors_on_one_input(store):
    """A source that was read twice is one dataset; both anchors are told, the first pin wins."""
    unpinned = InputAnchor.unpinned_at_instant("raw", "2026-01-01T00:00:00+00:00")
    anchors = [
        unpinned,
        InputAnchor.mutable_version("raw", 4),
        InputAnchor.mutable_version("raw", 5),
    ]
    adopt(store, [result("a", anchors), result("b", [unpinned])])
    twice, once = store.openlineage_events()
    check_event(twice)
    (source,) = twice["inputs"]
    assert source["facets"]["version"]["datasetVersion"] == "4"
    told = source["facets"]["jammi_anchors"]["anchors"]
    assert [each["anchor"] for each in told] == [each.anchor for each in anchors]
    assert "version" not in once["inputs"][0]["facets"]


def test_events_without_files(store, caplog):
    """A result whose objects are gone or damaged still has its event, without what they knew."""
    names = [build(store), build(store)]
    (Path(store.root) / f"{names[0]}.parquet").unlink()
    (Path(store.root) / f"{names[0]}.materialization.json").unlink()
    (Path(store.root) / f"{names[1]}.parquet").write_bytes(b"no parquet")
    (Path(store.root) / f"{names[1]}.materialization.json").write_bytes(b"{")
    with caplog.at_level(logging.WARNING, "jammi_files"):
        events = store.openlineage_events()
    for event in events:
        check_event(event)
        assert set(event["outputs"][0]["facets"]) == {"dataSource"}
        assert set(event["run"]["facets"]) == {"jammi_materialization"}
    assert "an event without schema" in caplog.text
    assert "an event without sidecar" in caplog.text


def test_events_that_read_no_files(root):
    """With ``read_files=False`` only the catalog is asked: one operation for any number."""
    storage = CountingStorage(LocalStorage(root, "os"))
    store = ResultStore(Catalog(storage))
    adopt(store, (result(f"t{number + 1}", [f"t{number}"]) for number in range(300)))
    store.openlineage_events(read_files=False)
    with storage.counting() as seen:
        events = store.openlineage_events(read_files=False)
    assert len(events) == 300
    assert [operation.kind for operation in seen] == ["peek"]
    check_event(events[0])


def test_events_as_a_tenant_sees_them(store):
    """`B140`: there are events for visible ready results only."""
    rows = [result("a"), result("mine", ["a"], tenant_id=ACME), result("theirs", tenant_id=BETA)]
    adopt(store, rows)
    write_only = store.create_table("docs", "ner", "model", "m").table_name

    def names(handle):
        events = handle.openlineage_events(read_files=False)
        return sorted(event["outputs"][0]["name"] for event in events)

    assert names(store) == ["a"]
    assert names(store.pinned_to_tenant(ACME)) == ["a", "mine"]
    assert names(store.as_admin()) == ["a", "mine", "theirs"]
    with pytest.raises(TableNotFoundError):
        store.openlineage_events("theirs")
    with pytest.raises(StateError, match="is building, not ready"):
        store.openlineage_events(write_only)


def test_events_of_a_cycle(store):
    """`B138`: a cycle is an error in events too, and only for those that it concerns."""
    adopt_graph(store, a=["b"], b=["a"], x=["raw"])
    for name in ("a", None):
        with pytest.raises(DependencyCycleError):
            store.openlineage_events(name, read_files=False)
    assert len(store.openlineage_events("x", read_files=False)) == 1


def test_events_of_no_results(store):
    """An empty catalog has no events."""
    assert store.openlineage_events() == []


@pytest.mark.parametrize("root", ["memory://exports-a/b"])
def test_namespace_of_a_url(root):
    """The namespace of a root that is a URL is that URL."""
    store = connect(root)
    adopt(store, [result("a", ["raw"])])
    (event,) = store.openlineage_events(read_files=False)
    check_event(event)
    assert event["job"]["namespace"] == event["inputs"][0]["namespace"] == root
    store.delete_table("a")


# --- in-toto


def check_statement(statement):
    """Check the fields by the rules of the Statement v1 and ResourceDescriptor specifications."""
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"]
    names = [subject["name"] for subject in statement["subject"]]
    assert len(set(names)) == len(names)
    for subject in statement["subject"]:
        assert set(subject) == {"name", "digest"}
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in subject["digest"].values())
        assert set(subject["digest"]) == {"sha256"}
    uri = urlsplit(statement["predicateType"])
    assert uri.scheme
    assert uri.netloc
    assert isinstance(statement["predicate"], dict)
    assert json.loads(json.dumps(statement)) == statement


def test_statement(store):
    """A Statement binds the sidecar, unchanged, to the digest of the bytes."""
    name = build(store)
    statement = store.in_toto_statement(name)
    check_statement(statement)
    data = (Path(store.root) / f"{name}.parquet").read_bytes()
    assert statement["subject"] == [{"name": name, "digest": {"sha256": artifact_digest(data)}}]
    sidecar = (Path(store.root) / f"{name}.materialization.json").read_bytes()
    assert statement["predicate"] == json.loads(sidecar)
    assert list(statement["predicate"]) == list(json.loads(sidecar))
    assert statement["predicateType"].endswith("v3")


def test_statements_of_the_fixture(store):
    """The sidecars of the real engine come back out of their Statements, byte for byte (`B177`)."""
    import_jammi(FIXTURE, store)
    for name in EXPECTED["verify"]:
        statement = store.in_toto_statement(name)
        check_statement(statement)
        again = MaterializationManifest.from_dict(statement["predicate"])
        assert (
            again.to_json_bytes()
            == (FIXTURE / "jammi_db" / f"{name}.materialization.json").read_bytes()
        )


def test_no_statement(store):
    """Without a ready result and its sidecar nothing is stated."""
    info = store.create_table(*TABLE)
    write(store, info.table_name)
    with pytest.raises(StateError, match="is building, not ready"):
        store.in_toto_statement(info.table_name)
    finalize(store, info.table_name)
    sidecar = Path(store.root) / f"{info.table_name}.materialization.json"
    sidecar.write_bytes(b"{}")
    with pytest.raises(FormatError):
        store.in_toto_statement(info.table_name)
    sidecar.unlink()
    with pytest.raises(StateError, match="has no sidecar: nothing is attested"):
        store.in_toto_statement(info.table_name)
    with pytest.raises(TableNotFoundError):
        store.in_toto_statement("nothing")
