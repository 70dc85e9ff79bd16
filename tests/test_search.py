"""`store.search`: the nearest rows by cosine, exactly and by the indexes that jammi-db wrote."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from support.results import CONTRACT, build, row
from usearch.index import Index

from jammi_files import connect
from jammi_files import search as search_module
from jammi_files.ann_index import AnnIndex
from jammi_files.errors import (
    FormatError,
    InvalidInputError,
    MissingPackageError,
    StateError,
    TableNotFoundError,
    UnsupportedVersionError,
)
from jammi_files.interop import import_jammi

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
INDEXED = [path.stem for path in sorted((FIXTURE / "jammi_db").glob("*.usearch"))]
FLOATS = pa.list_(pa.float32())


def publish(store, ids, vectors, kind=FLOATS, key="_row_id", **also):
    """Make an embedding table and return its name."""
    table = pa.table({key: ids, "vector": pa.array(vectors, kind), "number": range(len(ids))})
    with store.build("docs", "text_embedding", "model", "m", **CONTRACT, **also) as out:
        out.write(table)
    return out.table_name


def cosine(one, other):
    """Return the cosine as a textbook has it, in arithmetic that does not round the sum."""
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    length = math.sqrt(math.fsum(a * a for a in one) * math.fsum(b * b for b in other))
    return product / length if length else 0.0


def brute_force(ids, vectors, query, k):
    """Return keys and similarities of the nearest, by definition."""
    rounded = [float(np.float32(cosine(vector, query))) for vector in vectors]
    return sorted(zip(ids, rounded, strict=True), key=lambda each: (-each[1], each[0]))[:k]


def ranked(table):
    return list(zip(table.column(0).to_pylist(), table["similarity"].to_pylist(), strict=True))


@pytest.fixture
def imported(store):
    """Return a store with what a real engine has written, of every tenant."""
    import_jammi(FIXTURE, store)
    return store.as_admin()


@pytest.fixture
def some(store):
    return publish(store, ["a", "b", "c", "d"], [[1, 0], [0.6, 0.8], [0, 1], [-1, 0]])


# --- exact


def test_nearest_first(store, some):
    """The nearest come first, with the cosine as float32; the length of a vector is nothing."""
    found = store.search(some, [2, 0], 3)
    assert found.schema.names == ["_row_id", "similarity"]
    assert found.schema.field("similarity").type == pa.float32()
    assert ranked(found) == [("a", 1.0), ("b", float(np.float32(0.6))), ("c", 0.0)]
    assert [each for each, _ in ranked(store.search(some, [-3, 0], 1))] == ["d"]


@pytest.mark.parametrize("batch_bytes", [1, 1 << 10, 8 << 20])
@pytest.mark.parametrize("k", [1, 7, 10, 500])
def test_against_the_definition(store, monkeypatch, k, batch_bytes):
    """Whatever the batches, the answer is that of the definition, similarity by similarity."""
    monkeypatch.setattr(search_module, "_BATCH_BYTES", batch_bytes)
    chance = np.random.default_rng(7)
    vectors = chance.integers(-3, 4, (300, 4)).astype(np.float32)  # many ties, some zeros
    ids = [f"r{number:03}" for number in chance.permutation(300)]
    name = publish(store, ids, vectors.tolist())
    for query in ([1, 2, 3, 4], [0.1, 0, -0.5, 0], [-1, -1, -1, -1]):
        expected = brute_force(ids, vectors.tolist(), query, k)
        assert ranked(store.search(name, query, k)) == expected


def test_a_row_alone_decides_its_similarity(store):
    """The same vector has the same similarity wherever it stands, so ties go by key."""
    chance = np.random.default_rng(3)
    vector = chance.standard_normal(1536).astype(np.float32)
    others = chance.standard_normal((500, 1536)).astype(np.float32)
    vectors = np.concatenate([others[:250], [vector], others[250:], [vector * 2], [vector]])
    ids = [f"r{number:03}" for number in range(503)][::-1]
    name = publish(store, ids, vectors.tolist())
    found = ranked(store.search(name, chance.standard_normal(1536) * 0.01 + vector, 3))
    assert [key for key, _ in found] == ["r000", "r001", "r252"]
    assert len({similarity for _, similarity in found}) == 1


@pytest.mark.parametrize("batch_bytes", [1, 8 << 20])
def test_ties_go_to_the_smallest_key(store, monkeypatch, batch_bytes):
    """Equally near rows come by key, in the order of its type, however they lie in the file."""
    monkeypatch.setattr(search_module, "_BATCH_BYTES", batch_bytes)
    name = publish(store, ["b", "a", "é", "Z"], [[1, 0], [2, 0], [5, 0], [0.1, 0]])
    assert store.search(name, [1, 0], 3)["_row_id"].to_pylist() == ["Z", "a", "b"]
    numbers = publish(store, [10, 9, -1], [[1, 0]] * 3, key="id", key_column="id")
    assert store.search(numbers, [1, 0], 2)["id"].to_pylist() == [-1, 9]


@pytest.mark.parametrize("kind", [FLOATS, pa.large_list(pa.float64()), pa.list_(pa.float32(), 2)])
@pytest.mark.parametrize(
    "spelt",
    [
        list,
        tuple,
        np.array,
        lambda numbers: np.array(numbers, np.float16),
        lambda numbers: pa.array(numbers, pa.float32()),
        lambda numbers: pa.chunked_array([pa.array(numbers, pa.int64())]),
        lambda numbers: pa.array([numbers], pa.list_(pa.float64()))[0],
    ],
)
def test_forms_of_vectors(store, kind, spelt):
    """A query is whatever holds numbers; a table keeps its vectors in any list of floats."""
    name = publish(store, ["a", "b"], [[0, 1], [1, 0]], kind)
    assert store.search(name, spelt([4, 0]), 1)["_row_id"].to_pylist() == ["b"]


def test_the_key(store):
    """The key is `_row_id`, else the row's key column, else the one that is given."""
    ids, vectors = ["x", "y"], [[1, 0], [0, 1]]
    named = publish(store, ids, vectors, key="doc_id", key_column="doc_id")
    assert store.search(named, [1, 0], 1).to_pylist() == [{"doc_id": "x", "similarity": 1.0}]
    assert store.search(named, [0, 1], 1, key_column="number")["number"].to_pylist() == [1]
    bare = publish(store, ids, vectors, key="doc_id")
    with pytest.raises(InvalidInputError, match="pass key_column, one of doc_id, vector, number"):
        store.search(bare, [1, 0])
    with pytest.raises(InvalidInputError, match="no column 'other'"):
        store.search(bare, [1, 0], key_column="other")
    with pytest.raises(InvalidInputError, match="cannot be ordered by 'vector'"):
        store.search(bare, [1, 0], key_column="vector")


def test_columns_and_filter(store, some):
    """Other columns come along; a filter decides which rows are ranked at all."""
    found = store.search(some, [1, 0], 2, columns=["number", "vector"])
    assert found.schema.names == ["_row_id", "similarity", "number", "vector"]
    assert found["number"].to_pylist() == [0, 1]
    assert found["vector"][1].as_py() == pytest.approx([0.6, 0.8])
    late = store.search(some, [1, 0], 2, filter=pc.field("number") >= 2)
    assert late["_row_id"].to_pylist() == ["c", "d"]
    assert store.search(some, [1, 0], filter=pc.field("number") > 9).num_rows == 0
    for wrong in (["other"], ["similarity"], "number", [1]):
        with pytest.raises(InvalidInputError):
            store.search(some, [1, 0], columns=wrong)
    for condition in (pc.field("other") == 1, pc.field("number") == "x", "number > 1"):
        with pytest.raises(InvalidInputError):
            store.search(some, [1, 0], filter=condition)


@pytest.mark.parametrize("exact", [True, False])
def test_k(store, some, exact):
    """As many as there are at most, none for 0, and what is no count is refused."""
    assert store.search(some, [1, 0], 99, exact=exact).num_rows == 4
    none = store.search(some, [1, 0], 0, columns=["number"], exact=exact)
    assert (none.num_rows, none.schema.names) == (0, ["_row_id", "similarity", "number"])
    for wrong in (-1, 1.5, True, "3", None):
        with pytest.raises(InvalidInputError, match="k must be"):
            store.search(some, [1, 0], wrong, exact=exact)


QUERIES = {
    "zero": ([0, 0], "no direction"),
    "not a number": ([1, math.nan], "no direction"),
    "infinite": ([math.inf, 1], "no direction"),
    "too short": ([1], "1 dimensions"),
    "too long": ([1, 2, 3], "3 dimensions"),
    "empty": ([], "0 dimensions|vector of numbers"),
    "several": ([[1, 0], [0, 1]], "one vector of numbers"),
    "ragged": ([[1], [0, 1]], "vector of numbers"),
    "a number": (1.0, "one vector of numbers"),
    "text": ("ab", "one vector of numbers"),
    "texts": (["1", "0"], "one vector of numbers"),
    "truths": ([True, False], "one vector of numbers"),
    "a null": ([1, None], "one vector of numbers"),
    "nothing": (None, "one vector of numbers"),
}


@pytest.mark.parametrize("kind", [FLOATS, pa.list_(pa.float32(), 2)], ids=["list", "fixed"])
@pytest.mark.parametrize(("query", "told"), QUERIES.values(), ids=QUERIES)
def test_what_is_no_query(store, kind, query, told):
    """A query without direction or of another width is refused; the engine answers at random."""
    name = publish(store, ["a"], [[1, 0]], kind, dimensions=2)
    with pytest.raises(InvalidInputError, match=told):
        store.search(name, query)


def test_numbers_of_any_size(store):
    """Neither huge nor tiny queries leave the range of numbers."""
    name = publish(store, ["a", "b"], [[1, 1], [1, -1]])
    for factor in (1e300, 1e-300):
        assert ranked(store.search(name, [factor, factor], 1)) == [("a", 1.0)]


BAD_VECTORS = {
    "null": (None, StateError, "row 'b' .* has no vector"),
    "null in it": ([1, None], StateError, "row 'b' .* null in it"),
    "not a number": ([1, math.nan], StateError, "row 'b' .* not finite"),
    "infinite": ([1, math.inf], StateError, "row 'b' .* not finite"),
    "another width": ([1, 2, 3], InvalidInputError, "row 'b' .* has 3"),
}


@pytest.mark.parametrize(("vector", "error", "told"), BAD_VECTORS.values(), ids=BAD_VECTORS)
def test_a_vector_that_has_no_direction(store, vector, error, told):
    """A row that cannot be ranked is named; the engine ranks it, NaN above all others."""
    name = publish(store, ["a", "b", "c"], [[1, 0], vector, [0, 1]])
    with pytest.raises(error, match=told):
        store.search(name, [1, 0])
    rest = store.search(name, [1, 0], filter=pc.field("_row_id") != "b")
    assert rest["_row_id"].to_pylist() == ["a", "c"]


def test_a_zero_vector_in_the_table(store):
    """A zero vector has similarity 0 as in 0.32: after what is near, before what is opposite."""
    name = publish(store, ["a", "b", "c"], [[-1, 0], [0, 0], [1, 0]])
    assert ranked(store.search(name, [1, 0])) == [("c", 1.0), ("b", 0.0), ("a", -1.0)]


def test_tables_that_cannot_be_searched(store, imported):
    """A table that is not there, not ready, or holds no vectors, is told by name."""
    with pytest.raises(TableNotFoundError):
        store.search("none", [1.0])
    store.catalog.create_result_table(**row("n"))
    with pytest.raises(StateError, match="building, not ready"):
        store.search("n", [1.0])
    with pytest.raises(InvalidInputError, match="no column 'vector'"):
        store.search(build(store), [1.0])
    with pytest.raises(InvalidInputError, match="has double in 'score'"):
        store.search(build(store), [1.0], vector_column="score")
    graph = next(
        record
        for record in imported.catalog.find_result_tables("docs")
        if record.kind == "neighbor_graph"
    )
    with pytest.raises(InvalidInputError, match="columns: src, dst"):
        imported.search(graph.table_name, [1.0])


def test_another_metric(store, some):
    """A table that was made for another metric is not ranked by cosine."""
    record = store.catalog.get_result_table(some)
    other = type(record)(
        **{name: getattr(record, name) for name in record.__slots__} | {"distance_metric": "l2"}
    )
    with pytest.raises(StateError, match="metric 'l2'"):
        search_module.Searcher(store._artifacts, other)


def test_tenants(store):
    """`B174`: a foreign table is as unknown as one that never was."""
    mine = store.pinned_to_tenant("11111111-1111-4111-8111-111111111111")
    name = publish(mine, ["a"], [[1, 0]])
    with pytest.raises(TableNotFoundError, match=f"Result table '{name}' not found"):
        store.search(name, [1, 0])
    assert mine.search(name, [1, 0]).num_rows == 1


def test_memory_is_bounded(store, monkeypatch):
    """The table is read in batches of some megabytes, and only `k` rows are kept of each."""
    name = publish(store, [f"r{number:05}" for number in range(5000)], [[1.0] * 64] * 5000)
    monkeypatch.setattr(search_module, "_BATCH_BYTES", 64 << 10)
    seen, kept = [], []
    compute, rank = search_module.similarities, search_module.Searcher._ranked
    monkeypatch.setattr(
        search_module, "similarities", lambda *args: seen.append(len(args[1])) or compute(*args)
    )
    monkeypatch.setattr(
        search_module.Searcher,
        "_ranked",
        lambda self, rows, k: kept.append(rows.num_rows) or rank(self, rows, k),
    )
    assert store.search(name, [1.0] * 64, 3).num_rows == 3
    assert sum(seen) == 5000
    assert max(seen) <= 128
    assert max(kept) <= 128 + 3


def test_columns_that_are_not_asked_for_are_not_read(store, some):
    """Only the key and the vectors are read, and what is asked for."""
    read, batches = [], ds.FileSystemDataset.to_batches
    searcher = store.searcher(some)

    class Spy:
        schema = searcher._data.schema

        def to_batches(self, **how):
            read.append(how["columns"])
            return batches(data, **how)

    data, searcher._data = searcher._data, Spy()
    searcher.search([1, 0])
    searcher.search([1, 0], columns=["number", "vector"])
    assert read == [["_row_id", "vector"], ["_row_id", "number", "vector"]]


# --- by the indexes that jammi-db wrote


@pytest.fixture
def asked(monkeypatch):
    """Return how often an index was asked."""
    calls, nearest = [], AnnIndex.nearest
    monkeypatch.setattr(AnnIndex, "nearest", lambda *args: calls.append(args[2]) or nearest(*args))
    return calls


@pytest.mark.parametrize("name", INDEXED)
def test_the_index_answers_as_brute_force(imported, name, asked):
    """Every index of the fixture gives the neighbours and similarities of the exact search."""
    table = imported.open_table(name).to_table()
    ids, vectors = table["_row_id"].to_pylist(), table["vector"].to_pylist()
    searcher = imported.searcher(name)
    for query in vectors[::4]:
        exact = searcher.search(query, 5, columns=["_source_id"])
        assert asked == []
        assert ranked(exact) == brute_force(ids, vectors, query, 5)
        assert searcher.search(query, 5, columns=["_source_id"], exact=False) == exact
        assert searcher.search(query, 5, exact=False) == exact.select([0, 1])
        assert asked
        asked.clear()
    assert searcher.search(vectors[0], 99, exact=False) == searcher.search(vectors[0], 99)


def test_the_engines_own_answer(imported):
    """These are the neighbours that the real engine 0.32.0 gave, to its six digits."""
    name = INDEXED[0]
    query = imported.open_table(name).to_table()["vector"][3]
    engine = [
        ("d003", 1.0),
        ("d019", 0.7403124570846558),
        ("d014", 0.7132182717323303),
        ("d009", 0.6519917249679565),
        ("d022", 0.6461414098739624),
    ]
    for exact in (True, False):
        found = ranked(imported.search(name, query, 5, exact=exact))
        assert [key for key, _ in found] == [key for key, _ in engine]
        for (_, ours), (_, theirs) in zip(found, engine, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-6)


def index_files(root, name):
    return {
        suffix: root / f"{name}{suffix}" for suffix in (".usearch", ".rowmap", ".manifest.json")
    }


@pytest.fixture
def indexed(imported, root):
    """Return a search by an index, and the index files to be damaged."""
    name = INDEXED[0]
    query = imported.open_table(name).to_table()["vector"][3]
    return lambda **how: imported.search(name, query, 3, exact=False, **how), index_files(
        root, name
    )


@pytest.mark.parametrize("suffix", [".usearch", ".rowmap", ".manifest.json"])
def test_an_index_that_is_not_whole_is_none(indexed, suffix, asked):
    """Where a file of the index is not there, every vector is compared."""
    find, files = indexed
    expected = find()
    assert asked == [64]
    files[suffix].unlink()
    assert find() == expected
    assert asked == [64]


def test_a_filter_is_exact(indexed, asked):
    """An index cannot leave rows out, so with a filter every vector is compared."""
    find, _ = indexed
    assert find(filter=pc.field("_row_id") != "d003")["_row_id"][0].as_py() == "d019"
    assert asked == []


def changed(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


DAMAGE = {
    "graph cut": (
        FormatError,
        lambda f: f[".usearch"].write_bytes(f[".usearch"].read_bytes()[:99]),
    ),
    "graph empty": (FormatError, lambda f: f[".usearch"].write_bytes(b"")),
    "graph of nothing": (
        FormatError,
        lambda f: Index(ndim=384, dtype="f32").save(str(f[".usearch"])),
    ),
    "rowmap cut": (FormatError, lambda f: f[".rowmap"].write_bytes(f[".rowmap"].read_bytes()[:-2])),
    "rowmap short": (
        FormatError,
        lambda f: f[".rowmap"].write_bytes(f[".rowmap"].read_bytes()[:-8]),
    ),
    "rowmap empty": (FormatError, lambda f: f[".rowmap"].write_bytes(b"")),
    "rowmap no text": (FormatError, lambda f: changed(f[".rowmap"], b"d003", b"\xff\xff\xff\xff")),
    "rowmap newer": (
        UnsupportedVersionError,
        lambda f: changed(f[".rowmap"], b"\1\0\0\0", b"\2\0\0\0"),
    ),
    "manifest no JSON": (FormatError, lambda f: f[".manifest.json"].write_bytes(b"{")),
    "manifest a list": (FormatError, lambda f: f[".manifest.json"].write_bytes(b"[]")),
    "manifest count": (FormatError, lambda f: changed(f[".manifest.json"], b": 25", b": 26")),
    "manifest width": (FormatError, lambda f: changed(f[".manifest.json"], b"384", b"385")),
    "another metric": (
        UnsupportedVersionError,
        lambda f: changed(f[".manifest.json"], b"cosine", b"l2"),
    ),
    "newer": (
        UnsupportedVersionError,
        lambda f: changed(f[".manifest.json"], b'"version": 1', b'"version": 2'),
    ),
}


@pytest.mark.parametrize(("error", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_index(indexed, imported, error, damage):
    """A damaged index is told, not passed over in silence; the exact search goes on."""
    find, files = indexed
    damage(files)
    with pytest.raises(error, match="the index of"):
        find()
    query = imported.open_table(INDEXED[0]).to_table()["vector"][3]
    assert imported.search(INDEXED[0], query, 1)["_row_id"].to_pylist() == ["d003"]


def test_an_index_of_other_rows(indexed):
    """An index that names other rows than the table is found out when their columns are read."""
    find, files = indexed
    changed(files[".rowmap"], b"d019", b"zzzz")
    with pytest.raises(FormatError, match="names other rows"):
        find(columns=["_source_id"])


def test_an_index_of_less_precision_is_not_asked(indexed, asked):
    """An index that rounds the vectors would rank them otherwise: every vector is compared."""
    find, files = indexed
    expected = find()
    whole = Index.restore(str(files[".usearch"]))
    rough = Index(ndim=384, metric="cos", dtype="f16")
    rough.add(np.arange(25), np.stack(whole.get(np.arange(25))))
    rough.save(str(files[".usearch"]))
    asked.clear()
    assert find() == expected
    assert asked == []


@pytest.mark.usefixtures("imported")
def test_a_large_index(store, root, asked):
    """Over many rows an index asks few of them and finds nearly all; what it finds is exact."""
    chance = np.random.default_rng(5)
    vectors = chance.standard_normal((3000, 384)).astype(np.float32)
    vectors[1::2] = vectors[::2]
    ids = [f"r{number:04}" for number in range(3000)][::-1]
    name = publish(store, ids, vectors.tolist())
    files = index_files(root, name)
    for suffix, path in index_files(root, INDEXED[0]).items():
        shutil.copy(path, files[suffix])
    changed(files[".manifest.json"], b": 25,", b": 3000,")
    words = (len(key).to_bytes(4, "little") + key.encode() for key in ids)
    files[".rowmap"].write_bytes((1).to_bytes(4, "little") + b"".join(words))
    graph = Index(ndim=384, metric="cos", dtype="f32")
    graph.add(np.arange(3000), vectors, threads=1)
    graph.save(str(files[".usearch"]))
    found = total = 0
    for query in vectors[:20]:
        exact = store.search(name, query + 0.1, 10)
        near = store.search(name, query + 0.1, 10, exact=False, columns=["number"])
        similar = dict(ranked(store.search(name, query + 0.1, 3000)))
        assert [similar[key] for key, _ in ranked(near)] == near["similarity"].to_pylist()
        assert near["number"].to_pylist() == [ids.index(key) for key, _ in ranked(near)]
        assert ranked(near) == sorted(ranked(near), key=lambda each: (-each[1], each[0]))
        found += len(set(ranked(near)) & set(ranked(exact)))
        total += 10
    assert asked == [64] * 20
    assert found >= 0.5 * total  # random directions are the hardest there are


def test_many_searches_open_once(imported, monkeypatch):
    """A searcher reads the catalog, the footer and the index once, however often it is asked."""
    searcher = imported.searcher(INDEXED[0])
    query = imported.open_table(INDEXED[0]).to_table()["vector"][3]
    first = searcher.search(query, 3, exact=False)
    for name in ("read", "open", "size", "arrow_path"):
        monkeypatch.setattr(imported.storage, name, lambda *_: pytest.fail("read again"))
    assert searcher.search(query, 3, exact=False) == first
    assert searcher.search(query, 3) == first


@pytest.mark.parametrize("package", ["numpy", "usearch.index"])
def test_without_the_extra(indexed, monkeypatch, package):
    """Where NumPy or usearch is not installed the error names the extra."""
    find, _ = indexed
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r"pip install 'jammi_files\[search\]'"):
        find()


def test_in_a_bucket(s3_server, monkeypatch, imported):
    """A table and its index are searched in a bucket as in a directory."""
    assert s3_server.request("PUT", "/my-bucket").status == 200
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testtest")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = connect("s3://my-bucket/search")
    import_jammi(FIXTURE, bucket)
    query = imported.open_table(INDEXED[0]).to_table()["vector"][3]
    expected = imported.search(INDEXED[0], query, 5, columns=["_model_id"])
    for exact in (True, False):
        found = bucket.search(INDEXED[0], query, 5, columns=["_model_id"], exact=exact)
        assert found == expected
