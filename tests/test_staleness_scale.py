"""Freshness and lineage of a hundred thousand results: what is asked of storage, and how often.

Everything is counted: scans, rows looked up one by one, walks of the graph, requests. No clock.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.faults import CountingStorage
from support.graphs import adopt, pairs, result
from support.pipelines import NEWER_ENV, at, docs, lose, make, on, opened
from support.roots import MemoryRoots
from support.scopes import ACME, BETA

from jammi_files import Catalog, InputAnchor, ResultStore, known_rows, successors
from jammi_files.descent import Descent
from jammi_files.disk import NAMES_PER_REQUEST, OBJECTS_PER_ROW
from jammi_files.known import READY, Known, Pin
from jammi_files.local import LocalStorage
from jammi_files.reads import Reads
from jammi_files.snapshot import Snapshot
from jammi_files.storage import Storage
from jammi_files.successors import DEFINITIONS, Outputs, Question

ROWS = 100_000
ANCHORS = 3
SOURCES = 1000
PARENTS = 20_000
DIGEST = "0" * 64


def name_of(number):
    return f"t{number:06}"


def results(rows, *, definitions, parents):
    """Yield rows with three anchors each: the first ``parents`` on sources, the rest on earlier."""
    drawn = random.Random(7)
    for number in range(rows):
        if number < parents:
            sources = drawn.sample(range(SOURCES), ANCHORS)
            anchors = [InputAnchor.source_version(f"s{each}", "1") for each in sources]
        else:
            above = drawn.sample(range(max(0, number - parents), number), ANCHORS)
            anchors = [InputAnchor.result_digest(name_of(each), DIGEST) for each in above]
        digest = f"{number % definitions:064}"
        yield result(
            name_of(number),
            anchors,
            source_id=f"d{number % 500}",
            definition_hash=digest,
            descriptor_digest=digest,
            artifact_digest=DIGEST,
        )


class Bucket(CountingStorage):
    """Counts, and is to the library what a bucket is: every question is a request."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.is_locked = False


@pytest.fixture(scope="module")
def large(request):
    """Return 100,000 ready rows with 300,000 anchors and so many definitions."""
    definitions = request.param
    roots = MemoryRoots()
    storage = CountingStorage(roots.new())
    store = ResultStore(Catalog(storage))
    adopt(store, results(ROWS, definitions=definitions, parents=PARENTS))
    store.catalog.scan()
    yield store, storage
    roots.close()


@pytest.fixture
def passes(monkeypatch):
    """Count scans, and refuse every look-up of single rows."""
    scans, scan = [], Reads.scan
    monkeypatch.setattr(Reads, "scan", lambda *args, **how: scans.append(1) or scan(*args, **how))
    monkeypatch.setattr(Snapshot, "select", None)
    return scans


def distinct_parents(store):
    anchors = store.catalog.scan(columns=["input_anchors"])["input_anchors"].combine_chunks()
    members = anchors.flatten()
    kinds = members.field("kind").to_pylist()
    sources = members.field("source").to_pylist()
    return {s for s, kind in zip(sources, kinds, strict=True) if kind == "result_digest"}


# --- one pass -------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [ROWS, 50], indirect=True)
def test_everything_in_one_pass(large, passes, monkeypatch):
    """100,000 rows, 300,000 anchors: one scan, one look for a new version, nothing per row."""
    store, storage = large
    monkeypatch.setattr(Snapshot, "get", None)
    with storage.counting() as calls:
        table = store.staleness_all(check_bytes=False, resolvers=at("1"))
    assert (len(passes), calls.looks, calls.of_results) == (1, 1, [])
    assert table.num_rows == ROWS
    assert table["table_name"].to_pylist() == [name_of(number) for number in range(ROWS)]
    explained = table["explanation"].is_valid().to_pylist()
    tags = table["staleness"].to_pylist()
    assert explained == [tag != "fresh" for tag in tags]
    assert tags[0] == "fresh"


@pytest.mark.parametrize("large", [50], indirect=True)
def test_stat_for_each_parent(large, passes):
    """Whether the parents' data is there takes a stat for each, and not one read of a sidecar."""
    store, storage = large
    expected = Counter(f"{name}.parquet" for name in distinct_parents(store))
    passes.clear()
    with storage.counting() as calls:
        table = store.staleness_all(resolvers=at("1"))
    assert (len(passes), calls.looks) == (1, 1)
    assert Counter(key for _, key in calls.of_results) == expected
    assert {kind for kind, _ in calls.of_results} == {"size"}
    assert table.num_rows == ROWS
    assert table["staleness"].to_pylist().count("stale") == ROWS - PARENTS  # by newer results


@pytest.mark.parametrize("large", [50], indirect=True)
def test_listing_in_a_bucket(large, passes):
    """In a bucket one listing answers for every parent: a request for a thousand names."""
    bucket = Bucket(large[1].inner)
    remote = ResultStore(Catalog(bucket))
    remote.catalog.scan()
    passes.clear()
    with bucket.counting() as calls:
        remote.staleness_all(resolvers=at("1"))
    assert (len(passes), calls.of_results) == (1, [("list_objects", "")])


@pytest.mark.parametrize("large", [50], indirect=True)
def test_closures_in_one_pass(large, passes):
    """Full closures are one scan each, and what an independent breadth-first search finds."""
    store, storage = large
    top, leaf = "s1", name_of(ROWS - 1)
    table = store.catalog.scan(columns=["table_name", "input_anchors"])
    edges = [
        (anchor["source"], name)
        for name, anchors in zip(*(c.to_pylist() for c in table.columns), strict=True)
        for anchor in anchors
    ]
    passes.clear()
    with storage.counting() as calls:
        down, up = store.derives_from_closure(top), store.upstream_closure(leaf)
        whole = store.lineage(leaf)
    assert (len(passes), calls.looks, calls.of_results) == (3, 3, [])
    below = reach(top, edges)
    assert sorted(pairs(down)) == sorted(e for e in edges if e[0] in below)
    above = reach(leaf, [(derived, source) for source, derived in edges])
    assert sorted(pairs(up)) == sorted(e for e in edges if e[1] in above)
    assert whole.upstream == tuple(up)


def reach(start, steps):
    """Return what steps lead to from ``start``, by breadth-first search."""
    out = {}
    for source, target in steps:
        out.setdefault(source, []).append(target)
    found, queue = {start}, deque([start])
    while queue:
        for target in out.get(queue.popleft(), ()):
            if target not in found:
                found.add(target)
                queue.append(target)
    return found


# --- no shape of graph is slow --------------------------------------------------------------------


def chain(size):
    """Make each from the one before: increments of one output."""
    return [([number - 1] if number else [], "o") for number in range(size)]


def renewed(size):
    """Make an output anew again and again, each with a child: all but the last are replaced."""
    return [([], "o") if number % 2 == 0 else ([number - 1], number) for number in range(size)]


def hub(size):
    """Make many from one, a hub from all of those, and many newer ones of the first from that."""
    half = size // 2
    first = [([], "o"), *(([0], number) for number in range(1, half))]
    return [*first, (range(1, half), "hub"), *(([half], "o") for _ in range(half, size - 1))]


def ladder(size):
    """Make each from the two before, two outputs in turn."""
    return [([n for n in (number - 1, number - 2) if n >= 0], number % 2) for number in range(size)]


SHAPES = {"chain": chain, "renewed": renewed, "hub": hub, "ladder": ladder}


def adopt_shape(store, shape):
    adopt(
        store,
        [
            result(
                name_of(number),
                [InputAnchor.result_digest(name_of(each), DIGEST) for each in above],
                definition_hash=f"{output}",
                descriptor_digest=f"{output}",
                artifact_digest=DIGEST,
            )
            for number, (above, output) in enumerate(shape)
        ],
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_work_is_no_square(monkeypatch, shape):
    """Descent is asked for all in a few walks, and each walk has bits for a few results only."""
    walks, spread = [], Descent.spread
    monkeypatch.setattr(
        Descent, "spread", lambda self, bits: walks.append(len(bits)) or spread(self, bits)
    )
    counts = []
    for size in (500, 5000):
        roots = MemoryRoots()
        each = ResultStore(Catalog(roots.new()))
        adopt_shape(each, SHAPES[shape](size))
        walks.clear()
        each.staleness_all(check_bytes=False)
        assert max(walks, default=0) <= successors.BLOCK_BITS
        counts.append(len(walks))
        roots.close()
    assert counts[1] <= counts[0] + 3  # ten times as many rows


def test_shapes_are_judged_right(store):
    """An increment replaces nothing that it was made from; what was made anew replaces the old."""
    adopt_shape(store, chain(300))
    assert set(store.staleness_all(check_bytes=False)["staleness"].to_pylist()) == {"fresh"}
    roots = MemoryRoots()
    for shape, stale in ((hub(400), 0), (renewed(400), 199)):
        other = ResultStore(Catalog(roots.new()))
        adopt_shape(other, shape)
        found = other.staleness_all(check_bytes=False)["staleness"].to_pylist()
        assert found.count("stale") == stale
    roots.close()


def test_many_open_inputs_are_not_multiplied(store):
    """What a result inherits is named by the ancestor that has it, not copied without end."""
    raw = [InputAnchor.source_version(f"s{number:05}", "1") for number in range(5000)]
    adopt(store, [result("top", raw)])
    adopt(
        store,
        (result(f"c{each:05}", ["top"], definition_hash=f"{each:064}") for each in range(1, 2001)),
    )
    table = store.staleness_all(check_bytes=False)
    assert set(table["staleness"].to_pylist()) == {"undecidable"}
    assert len(table["unpinned"][0]) == len(raw)
    assert len(table["unpinned"].combine_chunks().flatten()) < 2 * 5000 + 2000 * 100
    assert "'top' is undecidable" in table["explanation"][-1].as_py()


# --- who replaces whom, against the definition ----------------------------------------------------


OWNERS = (None, ACME, BETA)


@st.composite
def worlds(draw):
    """Draw ready results of a few outputs, by age; each may be made from any that are older."""
    members = []
    for number in range(draw(st.integers(1, 14))):
        above = draw(st.lists(st.integers(0, max(0, number - 1)), max_size=3, unique=True))
        pins = tuple(Pin(name_of(each), DIGEST, "result_digest") for each in above if number)
        output = draw(st.sampled_from("abc"))
        members.append(
            Known(
                name_of(number),
                READY,
                draw(st.sampled_from(OWNERS)),
                (number, name_of(number)),
                output,
                ("docs", "model", "ner", "m"),
                (),
                "",
                1,
                pins,
                DIGEST,
                output,
            )
        )
    lost = draw(st.sets(st.sampled_from([each.table_name for each in members]), max_size=3))
    return members, lost


class World:
    """Rows that are all there, and a disk that has lost some."""

    def __init__(self, members, lost):
        self.members = {each.table_name: each for each in members}
        self.lost = lost

    def siblings(self, known):
        return [each for each in self.members.values() if each.logical == known.logical]

    def parents(self, known):
        return [self.members[pin.source] for pin in known.pins]

    def descent(self, _):
        return Descent(
            self.members.values(),
            {name: self.parents(each) for name, each in self.members.items()},
        )

    def is_usable(self, known):
        return known.table_name not in self.lost

    def family(self, known):
        """Return a result and all that it was made from."""
        return {known.table_name}.union(*(self.family(each) for each in self.parents(known)))

    def successor(self, known, judged):
        """Say by the definition alone what ``judged`` could be made from instead of ``known``."""
        seen = [
            each
            for each in self.members.values()
            if each.descriptor_digest == known.descriptor_digest
            and each.tenant_id in (None, judged.tenant_id)
        ]
        replaced = set().union(*(self.family(each) - {each.table_name} for each in seen))
        fit = [
            each
            for each in seen
            if each.age > known.age
            and each.table_name not in replaced
            and judged.table_name not in self.family(each)
            and self.is_usable(each)
        ]
        return max(fit, key=lambda each: each.age).table_name if fit else None


@settings(max_examples=300, deadline=None)
@given(drawn=worlds(), chunk=st.integers(1, 4), bits=st.integers(1, 6))
def test_successors_by_definition(drawn, chunk, bits):
    """`B242`: in whatever portions they are asked for, the answers are those of the definition."""
    world = World(*drawn)
    questions = {known.table_name: Question(known, []) for known in world.members.values()}
    for judged in world.members.values():
        for known in world.parents(judged):
            questions[known.table_name].made_from_it.append(judged)
    asked = [each for each in questions.values() if each.made_from_it]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(successors, "FIRST_CHUNK", chunk)
        patch.setattr(successors, "BLOCK_BITS", bits)
        found = Outputs(world, world).newer(asked)
    for known, made_from_it in asked:
        for judged in made_from_it:
            key = (known.table_name, judged.table_name)
            assert found.get(key) == world.successor(known, judged)


# --- one by one, and when one has very many ancestors ---------------------------------------------


@pytest.mark.parametrize("few", [0, 3, 10_000])
def test_few_and_many_lookups_agree(store, monkeypatch, few):
    """`staleness` looks rows up one by one, and takes them from one scan when they are many."""
    adopt_shape(store, [*chain(20), ([3], "r"), ([7], "r")])
    adopt(store, [result("open", docs("1")), result("last", [name_of(19), name_of(21), "open"])])
    expected = store.staleness("last", check_bytes=False)
    monkeypatch.setattr(known_rows, "FEW", few)
    scans, scan = [], Reads.scan
    monkeypatch.setattr(Reads, "scan", lambda *args, **how: scans.append(1) or scan(*args, **how))
    assert store.staleness("last", check_bytes=False) == expected
    paths = [reason.path for reason in expected.reasons]
    assert paths == [(name_of(21),)]  # made from an earlier increment than the last
    assert len(scans) == (few < 20)


def test_one_with_very_many_ancestors(store, monkeypatch):
    """100 ancestors are looked up; of 10,000 most come from one scan."""
    monkeypatch.setattr(known_rows, "FEW", 50)
    looked_up, get = [], Reads.get_result_table
    monkeypatch.setattr(Reads, "get_result_table", lambda *args: looked_up.append(1) or get(*args))
    adopt_shape(store, chain(3000))
    assert store.staleness(name_of(2999), check_bytes=False).ok
    assert len(looked_up) <= 51


# --- rows that do not say what their sidecars do --------------------------------------------------


def forget_digests(store, root):
    """Return the same results in another root whose rows were written before there were digests."""
    everything = store.catalog.list_result_tables_by_status("ready")
    other = ResultStore(Catalog(LocalStorage(str(root), "os")))
    for path in store.storage.list(""):
        if path != "_catalog":
            other.storage.create(path, store.storage.read(path))
    adopt(
        other,
        (dataclasses.replace(r, artifact_digest=None, descriptor_digest=None) for r in everything),
    )
    return other


def test_rows_without_digests(store, tmp_path):
    """Rows from before the digest columns get the same answers: their sidecars are asked."""
    old = make(store, docs("1"))
    child = make(store, on(store, old), "graph")
    newer = make(store, docs("1"), env=NEWER_ENV)
    lost = make(store, producer="lost")
    orphan = make(store, on(store, lost), "graph2")
    lose(store, lost)
    expected = store.staleness_all(resolvers=at("1"))
    before = forget_digests(store, tmp_path / "before")
    assert before.staleness_all(resolvers=at("1")).equals(expected)
    tags = dict(zip(*(expected[c].to_pylist() for c in ("table_name", "staleness")), strict=True))
    assert tags == {
        old: "fresh",
        newer: "fresh",
        lost: "fresh",
        child: "stale",
        orphan: "stale",
    }
    assert (
        before.staleness_all(resolvers=at("1"), check_bytes=False)["staleness"].to_pylist()[1]
        == "fresh"
    )  # nothing that may be looked at says that the outputs are one


def test_sidecars_read_for_old_rows(tmp_path, store):
    """What old rows cost: a sidecar for each parent and some of each group, never one per row."""
    parents = [make(store, docs("1"), seed=str(number)) for number in range(3)]
    anchors = on(store, *parents)
    children = 2 * DEFINITIONS + 10
    for number in range(children):
        make(store, anchors, "child", seed=str(number))
    before = forget_digests(store, tmp_path / "before")
    warm, storage = opened(before.root)
    warm.catalog.scan()
    with storage.counting() as calls:
        table = warm.staleness_all(resolvers=at("1"))
    reads = [key for kind, key in calls.of_results if kind == "read"]
    assert Counter(reads).most_common(1)[0][1] <= 2
    assert len(reads) <= 2 * len(parents)  # the children's group is never asked for
    assert set(table["staleness"].to_pylist()) == {"fresh"}


def test_promoted_rows_say_what_their_sidecars_do(store):
    """A published row repeats the digests of its sidecar, and so does a recovered one."""
    name = make(store, docs("1"))
    record = store.catalog.get_result_table(name)
    sidecar = store.read_materialization_manifest(name)
    assert record.artifact_digest == sidecar.artifact
    assert record.descriptor_digest == sidecar.descriptor_digest
    assert len(record.descriptor_digest) == 64


# --- what a look at the disk costs ----------------------------------------------------------------


@pytest.fixture
def bucket(root):
    """Return three parents and their many children in a bucket, and what counts its requests."""
    store = ResultStore(Catalog(LocalStorage(str(root), "os")))
    parents = [make(store, producer=f"p{number}") for number in range(3)]
    for number in range(5):
        make(store, on(store, *parents), f"c{number}")
    storage = Bucket(LocalStorage(str(root), "os"))
    remote = ResultStore(Catalog(storage))
    remote.catalog.scan()
    return remote, storage, parents


def test_listing_says_what_is_gone(bucket):
    """One listing tells which parents are there; what it lacks has vanished."""
    store, storage, parents = bucket
    lose(store, parents[1])
    with storage.counting() as calls:
        table = store.staleness_all()
    assert calls.of_results == [("list_objects", "")]
    [reason] = table["reasons"][-1].as_py()
    assert (reason["reason"], reason["source"]) == ("input_vanished", parents[1])


@pytest.mark.parametrize("check", ["sidecar", True])
def test_listing_and_sidecars(bucket, check):
    """Sidecars are read only where the data is there."""
    store, storage, parents = bucket
    lose(store, parents[1])
    with storage.counting() as calls:
        store.staleness_all(check_bytes=check)
    reads = [("read", f"{name}.materialization.json") for name in parents if name != parents[1]]
    assert sorted(calls.of_results) == sorted([("list_objects", ""), *reads])


def test_one_parent_is_asked_for(bucket):
    """For a single parent a listing would cost as much, so it is asked for itself."""
    store, storage, parents = bucket
    child = make(store, on(store, parents[0]), "single")
    with storage.counting() as calls:
        store.staleness(child, check_bytes="exists")
    assert calls.of_results == [("size", f"{parents[0]}.parquet")]


def test_few_parents_of_a_large_catalog(root):
    """A listing of very many names is no bargain for a few parents."""
    store = ResultStore(Catalog(LocalStorage(str(root), "os")))
    parents = [make(store, producer=f"p{number}") for number in range(3)]
    make(store, on(store, *parents), "child")
    others = 3 * NAMES_PER_REQUEST // OBJECTS_PER_ROW
    adopt(store, (result(name_of(number)) for number in range(others)))
    bucket = Bucket(LocalStorage(str(root), "os"))
    remote = ResultStore(Catalog(bucket))
    remote.catalog.scan()
    with bucket.counting() as calls:
        remote.staleness_all()
    assert sorted(calls.of_results) == sorted(("size", f"{name}.parquet") for name in parents)


def test_results_elsewhere_are_asked_for(tmp_path, bucket):
    """What does not lie directly under the root is not in its listing, and is looked at itself."""
    store, storage, parents = bucket
    elsewhere = tmp_path / "elsewhere" / "x.parquet"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(storage.read(f"{parents[0]}.parquet"))
    below = "sub/y.parquet"
    storage.create(below, elsewhere.read_bytes())
    digest = store.result_digest_anchor(parents[0]).anchor
    also = {"artifact_digest": digest}
    adopt(
        store,
        [
            result("far", parquet_path=str(elsewhere), definition_hash="1", **also),
            result("below", parquet_path=below, definition_hash="2", **also),
            result("gone", parquet_path="sub/none.parquet", definition_hash="3", **also),
            result(
                "child",
                [InputAnchor.result_digest(each, digest) for each in ("far", "below", "gone")],
                definition_hash="4",
            ),
        ],
    )
    with storage.counting() as calls:
        rows = {each["table_name"]: each for each in store.staleness_all().to_pylist()}
    assert [each["source"] for each in rows["child"]["reasons"]] == ["gone"]
    assert ("list_objects", "") in calls.of_results
    assert ("size", below) in calls.of_results


def test_replacements_are_looked_at_once(bucket):
    """A result that would replace a parent must be there; that too is asked once for all."""
    store, storage, _ = bucket
    newer = [make(store, producer="p0") for _ in range(2)]
    lose(store, newer[1])
    with storage.counting() as calls:
        table = store.staleness_all()
    assert calls.of_results == [("list_objects", "")]
    told = [each["newer"] for each in itertools.chain(*table["reasons"].to_pylist())]
    assert told == [newer[0]] * 5


def test_replacements_on_a_local_disk(root, store):
    """There it takes one stat more for each output, not one for each child."""
    old = make(store)
    for number in range(5):
        make(store, on(store, old), f"c{number}")
    newer = make(store)
    warm, storage = opened(root)
    warm.catalog.scan()
    with storage.counting() as calls:
        warm.staleness_all()
    assert calls.of_results == [("size", f"{old}.parquet"), ("size", f"{newer}.parquet")]
