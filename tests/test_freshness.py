"""Freshness: what changed, vanished or was made again, near or far, and what nobody can tell."""

from __future__ import annotations

import datetime as dt
import itertools
import json

import pyarrow as pa
import pytest
from support.files import listing as files
from support.graphs import adopt, adopt_graph, result
from support.pipelines import (
    ENV,
    NEWER_ENV,
    at,
    descriptor,
    docs,
    hashed,
    listing,
    lose,
    make,
    on,
    opened,
    row,
)
from support.scopes import ACME, BETA

from jammi_files import (
    AncestorStale,
    AnchorKind,
    CurrentAnchor,
    DefinitionChanged,
    DependencyCycleError,
    FormatError,
    Fresh,
    InputAdvanced,
    InputAnchor,
    InputSuperseded,
    InputVanished,
    InvalidInputError,
    NotFoundError,
    NotReady,
    Stale,
    TableNotFoundError,
    Unattested,
    Undecidable,
    unpinned_anchor,
)
from jammi_files.reasons import MOST_CAUSES

ROOTS = (f"freshness{number}" for number in itertools.count())
READ_AT = "2026-01-02T03:04:05Z"


@pytest.fixture
def parent(store):
    """Return a result without inputs."""
    return make(store)


@pytest.fixture
def child(store, parent):
    """Return a result made from it."""
    return make(store, on(store, parent), "graph")


@pytest.fixture
def grandchild(store, child):
    """Return a result made from that."""
    return make(store, on(store, child), "report")


# --- the values ---------------------------------------------------------------------------------

ADVANCED = {"reason": "input_advanced", "source": "s", "recorded": "1", "current": "2"}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Fresh(), {"staleness": "fresh"}),
        (Stale(()), {"staleness": "stale", "reasons": []}),
        (
            Undecidable(("s",), (InputVanished("p"),)),
            {
                "staleness": "undecidable",
                "unpinned": ["s"],
                "decided_reasons": [{"reason": "input_vanished", "source": "p"}],
            },
        ),
        (Unattested(), {"staleness": "missing_manifest"}),
        (Fresh(definition_compared=False), {"staleness": "fresh", "definition_compared": False}),
        (Stale((), more=3), {"staleness": "stale", "reasons": [], "more": 3}),
    ],
    ids=repr,
)
def test_staleness_json(value, form):
    """`B016`: the tag is under `staleness`, and what belongs to it beside."""
    assert value.to_dict() == form
    assert list(value.to_dict()) == list(form)
    assert json.loads(json.dumps(value.to_dict())) == form
    assert value.ok == (form["staleness"] == "fresh")


@pytest.mark.parametrize(
    ("reason", "form"),
    [
        (
            DefinitionChanged("1", "2"),
            {"reason": "definition_changed", "recorded": "1", "current": "2"},
        ),
        (InputAdvanced("s", "1", "2"), ADVANCED),
        (InputVanished("s", "why"), {"reason": "input_vanished", "source": "s"}),
        (InputSuperseded("s", "t"), {"reason": "input_superseded", "source": "s", "newer": "t"}),
        (NotReady("failed"), {"reason": "not_ready", "status": "failed"}),
        (
            AncestorStale(("p", "s"), InputAdvanced("s", "1", "2")),
            {"reason": "ancestor_stale", "path": ["p", "s"], "cause": ADVANCED},
        ),
    ],
    ids=lambda value: value["reason"] if isinstance(value, dict) else "",
)
def test_reason_json(reason, form):
    """`B017`, `B242`, `B243`: the tag is under `reason`, and what belongs to it beside."""
    assert reason.to_dict() == form
    assert json.loads(json.dumps(reason.to_dict())) == form


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (
            CurrentAnchor.at(AnchorKind.RESULT_DIGEST, "ab"),
            {"current_anchor": "result_digest", "digest": "ab"},
        ),
        (
            CurrentAnchor.at(AnchorKind.SOURCE_VERSION, "7"),
            {"current_anchor": "source_version", "version": "7"},
        ),
        (CurrentAnchor.vanished(), {"current_anchor": "vanished"}),
        (CurrentAnchor.undecidable(), {"current_anchor": "undecidable"}),
    ],
    ids=repr,
)
def test_current_anchor_json(value, form):
    """`B018`: every state of an input can be written."""
    assert value.to_dict() == form


# --- B232 to B245 -------------------------------------------------------------------------------


def test_without_a_contract(store):
    """`B232`: a row without hash and anchors is `missing_manifest`."""
    info = store.create_table("docs", "ner", "model", "m")
    store.catalog.update_result_table_status(info.table_name, "ready", 0)
    assert store.staleness(info.table_name) == Unattested()
    assert row(store, info.table_name)["staleness"] == "missing_manifest"


def test_fresh(store, child):
    """`B233`: the same definition over inputs as they were is fresh."""
    assert store.staleness(child, hashed("graph")) == Fresh()


def test_no_anchors(store, parent):
    """`B238`: no inputs and the same definition is fresh."""
    assert store.staleness(parent, hashed()) == Fresh()


def test_definition_comes_first(store):
    """`B234`: a changed definition comes first, then the inputs in anchor order."""
    name = make(store, [InputAnchor.source_version(each, "1") for each in "cab"])
    verdict = store.staleness(name, hashed(seed="2"), resolvers=at("2"))
    assert verdict == Stale(
        (
            DefinitionChanged(hashed(), hashed(seed="2")),
            *(InputAdvanced(each, "1", "2") for each in "cab"),
        )
    )


def test_advanced(store, root, parent, child):
    """`B235`: a parent whose digest is another one now has advanced."""
    digest = store.result_digest_anchor(parent).anchor
    path = root / f"{parent}.materialization.json"
    path.write_text(path.read_text().replace(digest, "cd" * 32))
    expected = InputAdvanced(parent, digest, "cd" * 32)
    assert store.staleness(child, hashed("graph")) == Stale((expected,))
    [reason] = row(store, child, check_bytes=True)["reasons"]
    assert reason["current"] == "cd" * 32
    assert store.staleness(child, check_bytes="exists").ok  # the row's own word


@pytest.mark.parametrize("sidecar", [None, b"{"], ids=["gone", "damaged"])
def test_digest_of_the_bytes(store, root, parent, child, sidecar):
    """`B215`, `B235`: without a sidecar that can be read the parent's own bytes are digested."""
    path = root / f"{parent}.materialization.json"
    path.unlink()
    if sidecar:
        path.write_bytes(sidecar)
    assert store.staleness(child).ok
    data = root / f"{parent}.parquet"
    data.write_bytes(data.read_bytes() + b"\0")
    assert store.staleness(child).to_dict()["reasons"][0]["reason"] == "input_advanced"


def test_vanished_row(store):
    """`B236`: an input that no row has has vanished."""
    name = make(store, [InputAnchor.result_digest("gone", "ab" * 32)])
    assert store.staleness(name, hashed()) == Stale((InputVanished("gone"),))


def test_vanished_for_this_tenant(store):
    """`B236`: an input that this scope does not see has vanished for it; its owner sees it."""
    acme = store.pinned_to_tenant(ACME)
    parent = make(acme)
    child = make(store, on(acme, parent), "graph")
    assert store.staleness(child).to_dict()["reasons"] == [InputVanished(parent).to_dict()]
    assert acme.staleness(child).ok
    assert store.as_admin().staleness(child).ok


@pytest.mark.parametrize(
    "anchor",
    [
        InputAnchor.unpinned_at_instant("docs", READ_AT),
        InputAnchor.mutable_version("docs", 1),
        InputAnchor.source_version("docs", "1"),
    ],
    ids=lambda anchor: str(anchor.kind),
)
def test_undecidable(store, anchor):
    """`B237`: what nobody can look at is never fresh, and decided reasons are still listed."""
    name = make(store, [InputAnchor.result_digest("gone", "ab"), anchor])
    verdict = store.staleness(name, hashed())
    assert verdict == Undecidable(("docs",), (InputVanished("gone"),))
    assert verdict.is_stale
    alone = store.staleness(make(store, [anchor]), hashed())
    assert alone == Undecidable(("docs",))
    assert not alone.is_stale
    assert not alone.ok


def test_nothing_is_written(store, root, grandchild):
    """`B239`: asking leaves every file as it was."""
    before = files(root)
    store.staleness(grandchild)
    store.staleness_all()
    store.explain(grandchild)
    assert files(root) == before


def test_unknown_table(store):
    """`B240`: a table that does not exist or is not seen is not found."""
    hidden = make(store.pinned_to_tenant(BETA))
    for name in ("nothing", hidden):
        with pytest.raises(TableNotFoundError, match=f"^Result table '{name}' not found$"):
            store.staleness(name)


def test_failed_parent(store, parent, child):
    """`B241`: a parent that was failed has vanished."""
    store.catalog.fail_result_table(parent, "withdrawn")
    verdict = store.staleness(child, hashed("graph"))
    assert verdict == Stale((InputVanished(parent),))
    assert "its row is failed" in verdict.explain()
    assert listing(store)[child] == "stale"


@pytest.mark.parametrize("sidecar", [True, False], ids=["with sidecar", "without"])
def test_parent_without_bytes(store, root, parent, child, sidecar):
    """`B241`: a parent whose bytes are gone has vanished; jammi-db 0.32 says fresh, or raises."""
    lose(store, parent)
    if not sidecar:
        (root / f"{parent}.materialization.json").unlink()
    verdict = store.staleness(child, hashed("graph"))
    assert verdict == Stale((InputVanished(parent),))
    assert "its bytes are gone" in verdict.explain()
    assert store.staleness(child, hashed("graph"), check_bytes=False) == Fresh()


def test_failed_itself(store, child):
    """A result that was failed after it was attested is not fresh, whatever its inputs are."""
    store.catalog.fail_result_table(child, "withdrawn")
    assert store.staleness(child, hashed("graph")) == Stale((NotReady("failed"),))
    assert child not in listing(store)


def test_source_changed(store):
    """`B244`: a source that changed makes what was made from it stale; 0.32 cannot tell."""
    name = make(store, docs("1"))
    assert store.staleness(name, hashed(), resolvers=at("1")) == Fresh()
    expected = Stale((InputAdvanced("docs", "1", "2"),))
    assert store.staleness(name, hashed(), resolvers=at("2")) == expected


def test_re_embedded_source(store):
    """`B242`: embedding a changed source again makes the old embedding's children stale."""
    old = make(store, docs("1"))
    graph = make(store, on(store, old), "graph")
    new = make(store, docs("2"), data="b")
    assert store.staleness(graph, hashed("graph")) == Stale((InputSuperseded(old, new),))
    again = make(store, on(store, new), "graph")
    assert store.staleness(again, hashed("graph"), resolvers=at("2")) == Fresh()


def test_recomputed_parent(store, parent, child):
    """`B242`: a parent that was produced again is superseded by the newest, whatever the reason."""
    for _ in range(3):
        newest = make(store)
    assert store.staleness(child, hashed("graph")) == Stale((InputSuperseded(parent, newest),))


def test_superseded_in_another_environment(store, parent, child):
    """`B242`: the descriptor decides, not the hash: a new engine's result supersedes an old one's.

    The rows know, so no sidecar is needed for it.
    """
    newer = make(store, env=NEWER_ENV)
    assert store.staleness(child, hashed("graph")) == Stale((InputSuperseded(parent, newer),))
    for check in (False, "exists", "size", "digest"):
        verdict = store.staleness(child, hashed("graph"), check_bytes=check)
        assert verdict == Stale((InputSuperseded(parent, newer),))
    make(store, env=NEWER_ENV, seed="2")
    assert store.staleness(child, hashed("graph")) == Stale((InputSuperseded(parent, newer),))


@pytest.mark.parametrize(
    "other",
    [{"seed": "2"}, {"source": "mail"}, {"producer": "other"}],
    ids=["descriptor", "source", "model"],
)
def test_another_output_supersedes_nothing(store, child, other):
    """`B242`: a newer result that differs in source, model or descriptor is another output."""
    make(store, **other)
    assert store.staleness(child, hashed("graph")) == Fresh()


def test_only_ready_results_supersede(store, child):
    """`B242`: a build, or a failed result, supersedes nothing."""
    store.catalog.fail_result_table(make(store), "no")
    with store.build(
        "docs", "classification", "model", "embed", descriptor=descriptor(), env=ENV, inputs=[]
    ) as out:
        assert store.staleness(child).ok
        out.write(pa.table({"id": ["a"]}))
    assert store.staleness(child).is_stale


def test_owners_supersede_their_own(store, parent, child):
    """`B242`: a tenant's newer result is no news to a GLOBAL child, a GLOBAL one is to a tenant."""
    acme = store.pinned_to_tenant(ACME)
    own = make(acme, on(acme, parent), "graph")
    private = make(acme)
    assert acme.staleness(child).ok
    assert acme.as_admin().staleness(child).ok
    expected = [InputSuperseded(parent, private).to_dict()]
    assert acme.staleness(own).to_dict()["reasons"] == expected
    shared = make(store)
    for who, name in ((store, child), (acme, child), (acme, own)):
        expected = [InputSuperseded(parent, shared).to_dict()]
        assert who.staleness(name).to_dict()["reasons"] == expected


def test_increments(store):
    """`B242`: what is made from an earlier result of the same output does not outdate its parts."""
    first = make(store, docs("1"))
    chain = [first]
    for _ in range(4):
        chain.append(make(store, on(store, chain[-1])))
    report = make(store, on(store, first), "report")
    for name in chain[1:]:
        assert store.staleness(name, hashed(), resolvers=at("1")) == Fresh()
    assert store.staleness(report, resolvers=at("1")).reasons[0] == InputSuperseded(
        first, chain[-1]
    )


def test_alternating_increments(store):
    """`B242`: nor does it when another output lies between two of its increments."""
    name = make(store)
    names = []
    for _ in range(3):
        names.append(make(store, on(store, name), "expect"))
        name = make(store, on(store, names[-1]))
        names.append(name)
    assert [store.staleness(each).staleness for each in names] == ["fresh"] * 6
    assert set(listing(store).values()) == {"fresh"}
    correction = make(store)
    assert store.staleness(names[-2]).reasons[0] == InputSuperseded(names[-3], correction)


def test_ancestors(store, child, grandchild):
    """`B243`: what makes an ancestor stale makes a result stale, and the path is told."""
    parent = store.read_materialization_manifest(child).input_anchors[0].source
    newer = make(store)
    assert store.staleness(grandchild, hashed("report")) == Stale(
        (AncestorStale((child,), InputSuperseded(parent, newer)),)
    )
    lose(store, child)
    assert store.staleness(grandchild).reasons[0] == InputVanished(child)


def test_path_to_a_far_ancestor(store):
    """`B243`: the path runs from the direct input to the ancestor whose input changed."""
    names = [make(store, docs("1"))]
    for number in range(5):
        names.append(make(store, on(store, names[-1]), f"step{number}"))
    verdict = store.staleness(names[-1], resolvers=at("2"))
    cause = InputAdvanced("docs", "1", "2")
    assert verdict.reasons == (AncestorStale(tuple(names[-2::-1]), cause),)
    assert " -> ".join(f"'{name}'" for name in names[-2::-1]) in verdict.explain()
    found = row(store, names[-1])
    assert found["staleness"] == "undecidable"
    rows = {each["table_name"]: each for each in store.staleness_all(resolvers=at("2")).to_pylist()}
    path, name = [], names[-1]
    while rows[name]["reasons"][0]["reason"] == "ancestor_stale":
        assert rows[name]["reasons"][0]["ancestor"] == names[0]
        name = rows[name]["reasons"][0]["source"]
        path.append(name)
    assert path == names[-2::-1]


def test_diamond(store):
    """`B243`: an ancestor that two paths reach is told of once, by a shortest path."""
    top = make(store, docs("1"))
    left, right = make(store, on(store, top), "left"), make(store, on(store, top), "right")
    bottom = make(store, on(store, left, right), "bottom")
    reasons = store.staleness(bottom, resolvers=at("2")).reasons
    assert reasons == (AncestorStale((left, top), InputAdvanced("docs", "1", "2")),)


def test_undecidable_ancestor(store):
    """`B237`, `B243`: a result over an embedding of an unpinned source is not fresh; 0.32 says so.

    A stale one is stale whatever the open inputs of its ancestors turn out to be.
    """
    embedding = make(store, [unpinned_anchor("docs")])
    graph = make(store, on(store, embedding), "graph")
    verdict = store.staleness(graph, hashed("graph"))
    assert verdict == Undecidable(("docs",))
    assert verdict.inputs[0].path == (embedding,)
    assert embedding in verdict.explain()
    newer = make(store, [unpinned_anchor("docs")])
    assert store.staleness(graph, hashed("graph")) == Stale((InputSuperseded(embedding, newer),))


def test_parent_without_a_contract(store):
    """A parent without a contract counts as a raw source that its digest pins."""
    info = store.create_table("docs", "classification", "model", "m")
    with store.open_writer(info, pa.schema([("id", pa.string())])) as out:
        out.write(pa.table({"id": ["a"]}))
    store.catalog.update_result_table_status(info.table_name, "ready", 1)
    child = make(store, on(store, info.table_name), "graph")
    assert store.staleness(child, hashed("graph")) == Fresh()
    assert listing(store)[child] == "fresh"


@pytest.mark.parametrize("kind", ["source_version", "mutable_version"])
def test_resolvers(store, kind):
    """`B244`: a resolver of the anchor's kind decides: unchanged, advanced, gone or unknown."""
    name = make(store, [InputAnchor("docs", "7", kind)])

    def ask(answer):
        return store.staleness(name, hashed(), resolvers={kind: lambda _: answer})

    assert ask("7") == ask(7) == Fresh()
    assert ask("8") == ask(8) == Stale((InputAdvanced("docs", "7", "8"),))
    assert ask(None) == ask(CurrentAnchor.undecidable()) == Undecidable(("docs",))
    assert ask(CurrentAnchor.vanished("moved")) == Stale((InputVanished("docs"),))
    assert "moved" in ask(CurrentAnchor.vanished("moved")).explain()


@pytest.mark.parametrize("error", [NotFoundError, FileNotFoundError])
def test_resolver_finds_nothing(store, error):
    """`B244`: a resolver that finds nothing where the source was says that it has vanished."""
    name = make(store, docs())

    def gone(source):
        raise error(f"no {source}")

    verdict = store.staleness(name, hashed(), resolvers={"source_version": gone})
    assert verdict == Stale((InputVanished("docs"),))
    assert "no docs" in verdict.explain()


def test_resolver_fails(store):
    """`B244`: any other error of a resolver is the caller's, never an answer."""
    name = make(store, docs())

    def broken(source):
        raise RuntimeError(source)

    with pytest.raises(RuntimeError, match="docs"):
        store.staleness(name, resolvers={"source_version": broken})


@pytest.mark.parametrize(
    ("changed", "fresh"),
    [
        (READ_AT, True),
        ("2026-01-02T03:04:04.999999999Z", True),
        ("2026-01-02T03:04:05.000000001Z", False),
        (dt.datetime(2026, 1, 2, 3, 4, 4, tzinfo=dt.UTC), True),
        (dt.datetime(2026, 1, 2, 4, 4, 6, tzinfo=dt.timezone(dt.timedelta(hours=1))), False),
    ],
)
def test_resolver_of_unpinned_inputs(store, changed, fresh):
    """`B244`: for an unpinned input the resolver says when the source last changed."""
    name = make(store, [InputAnchor.unpinned_at_instant("docs", READ_AT)])
    verdict = store.staleness(name, hashed(), resolvers={"unpinned_at_instant": lambda _: changed})
    assert verdict.ok == fresh
    assert verdict.is_stale == (not fresh)


def test_instant_of_another_form(store):
    """`B244`: an instant that cannot be read decides nothing in favour of fresh."""
    name = make(store, [InputAnchor.unpinned_at_instant("docs", "yesterday")])
    assert store.staleness(name, resolvers={"unpinned_at_instant": lambda _: READ_AT}).is_stale


@pytest.mark.parametrize(
    ("resolvers", "message"),
    [
        ({"version": str}, "Unknown anchor kind 'version'"),
        ({"result_digest": str}, "result_digest inputs are looked up here"),
        ({"source_version": "7"}, "must be callable, not '7'"),
        ({"source_version": lambda _: 1.5}, "returned 1.5 for 'docs'"),
        ({"source_version": lambda _: True}, "returned True for 'docs'"),
        ({"unpinned_at_instant": lambda _: "soon"}, "is not a UTC timestamp"),
    ],
)
def test_wrong_resolvers(store, resolvers, message):
    """`B244`: a resolver that cannot be one is refused, one that answers nonsense too."""
    name = make(store, [*docs(), InputAnchor.unpinned_at_instant("docs", READ_AT)])
    with pytest.raises(InvalidInputError, match=message):
        store.staleness(name, resolvers=resolvers)


def test_inputs_only(store, child):
    """`B245`: without a definition only inputs are compared, and the answer says so."""
    verdict = store.staleness(child)
    assert verdict == Fresh(definition_compared=False)
    assert verdict.to_dict()["definition_compared"] is False
    assert "no definition was given" in verdict.explain()
    make(store)
    assert "no definition was given" in store.staleness(child).explain()
    assert store.staleness(make(store, docs())).to_dict()["definition_compared"] is False


@pytest.mark.parametrize("wrong", ["", 7])
def test_wrong_definition(store, child, wrong):
    """A definition that is no hash is refused."""
    with pytest.raises(InvalidInputError, match="current_definition"):
        store.staleness(child, wrong)


# --- shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "graph",
    [{"a": ["a"]}, {"a": ["b"], "b": ["a"]}, {"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}],
    ids=["self", "two", "above"],
)
def test_cycles(store, graph):
    """`B138`, `B139`: a result that is its own ancestor is an error, not an endless walk."""
    adopt_graph(store, **graph)
    for ask in (lambda: store.staleness(next(iter(graph))), store.staleness_all):
        with pytest.raises(DependencyCycleError, match="dependency cycle in derives-from lineage"):
            ask()


def test_deep_chain(store):
    """`B136`, `B243`: 20,000 generations are no recursion, and the far cause is found."""
    count = 20_000
    names = [f"t{number:05}" for number in range(count)]
    rows = [result(names[0], docs("1"), definition_hash="0" * 64)]
    rows += [
        result(name, [above], definition_hash=f"{number:064}")
        for number, (above, name) in enumerate(itertools.pairwise(names), 1)
    ]
    adopt(store, rows)
    verdict = store.staleness(names[-1], check_bytes=False, resolvers=at("2"))
    assert len(verdict.reasons[0].path) == count - 1
    assert store.staleness(names[-1], check_bytes=False, resolvers=at("1")).ok
    table = store.staleness_all(check_bytes=False, resolvers=at("2"))
    assert set(table["staleness"].to_pylist()) == {"stale"}
    assert table["reasons"][-1].as_py()[0]["ancestor"] == names[0]


def test_many_causes(store):
    """`B243`: the nearest causes are spelled out, the others counted."""
    count = MOST_CAUSES + 7
    names = [f"t{number:03}" for number in range(count + 1)]
    rows = [
        result(name, [*docs("1"), *above], definition_hash=f"{number:064}")
        for number, (name, above) in enumerate(
            zip(names, [[], *([n] for n in names)], strict=False)
        )
    ]
    adopt(store, rows)
    verdict = store.staleness(names[-1], check_bytes=False, resolvers=at("2"))
    assert len(verdict.reasons) == 1 + MOST_CAUSES
    assert verdict.more == 7
    assert verdict.reasons[1].path == (names[-2],)
    assert "7 more ancestors are stale" in verdict.explain()


def test_damaged_parent_row(store):
    """`B037`: a row of a newer library is no input that can be trusted; alone it is an error."""
    adopt(store, [result("odd", task="poetry"), result("child", ["odd"], definition_hash="1" * 64)])
    verdict = store.staleness("child", check_bytes=False)
    assert verdict.reasons == (InputVanished("odd"),)
    assert "unreadable" in verdict.explain()
    assert row(store, "child")["reasons"][0]["reason"] == "input_vanished"
    assert "odd" not in listing(store)
    with pytest.raises(FormatError, match="Unknown model task 'poetry'"):
        store.staleness("odd")


def test_every_answer_explains_itself(store):
    """Every answer that is not fresh says in words what is wrong and what helps."""
    old = make(store, docs("1"))
    lost, failed = make(store, producer="lost"), make(store, producer="failed")
    lose(store, lost)
    names = [
        make(store, [unpinned_anchor("docs")], "unpinned"),
        make(store, [InputAnchor.mutable_version("m", 1)], "mutable"),
        make(store, [InputAnchor.result_digest("gone", "ab")], "gone"),
        make(store, [InputAnchor.result_digest(lost, "ab")], "over lost"),
        make(store, on(store, failed), "over failed"),
        make(store, on(store, old), "graph"),
    ]
    store.catalog.fail_result_table(failed, "no")
    make(store, docs("2"))
    for name in names:
        told = store.staleness(name).explain()
        assert told.count("\n- ") >= 1
        assert any(word in told for word in ("produce", "pass resolvers", "restore", "pin it"))
        assert row(store, name)["explanation"]


def test_requests_of_staleness(root, parent, child):
    """A warm handle asks for the next version, then once each for the parent's data and sidecar."""
    warm, storage = opened(root)
    warm.staleness(child)
    with storage.counting() as calls:
        assert warm.staleness(child).ok
    exists, attests = ("size", f"{parent}.parquet"), ("read", f"{parent}.materialization.json")
    assert (calls.looks, calls.of_results) == (1, [exists, attests])
    with storage.counting() as calls:
        warm.staleness(child, check_bytes="exists")
    assert (calls.looks, calls.of_results) == (1, [exists])
    with storage.counting() as calls:
        warm.staleness(child, check_bytes=False)
    assert (calls.looks, calls.of_results) == (1, [])
