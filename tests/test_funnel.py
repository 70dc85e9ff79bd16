"""From building to ready by single steps: create, write, finalize; and the embedding helpers."""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.faults import UnlockedStorage
from support.files import listing
from support.results import DATA, DESCRIPTOR, ENV, INPUTS, TABLE, build, finalize, row, write
from support.scopes import ACME, BETA

from jammi_files import (
    AlreadyExistsError,
    Catalog,
    External,
    InputAnchor,
    InvalidInputError,
    Match,
    MaterializationEnv,
    MaterializationManifest,
    ResultStore,
    StateError,
    TableNotFoundError,
    connect,
    definition_hash,
)
from jammi_files.local import LocalStorage
from jammi_files.memory import MemoryStorage


def fresh(store):
    """Open the same root a second time: nothing is remembered, all is read."""
    return connect(store.root, durability="os")


def paths_of(store, name):
    return Path(store.root) / f"{name}.parquet", Path(store.root) / f"{name}.materialization.json"


class Recording(LocalStorage):
    """Notes which keys are made and which are opened, in their order."""

    def __init__(self, root):
        super().__init__(root, "os")
        self.made: list[str] = []
        self.opened: list[str] = []

    def writer(self, key):
        out = super().writer(key)
        publish = out.publish

        def recorded():
            publish()
            self.made.append(key)

        out.publish = recorded
        return out

    def open(self, key):
        self.opened.append(key)
        return super().open(key)


# --- create_table


def test_create_table(store):
    """`B038`, `B056`, `B063`: a building row under a fresh name, and nothing else in the root."""
    info = store.create_table(
        "docs", "text_embedding", "model", "org/m", dimensions=3, text_columns=["b", "a"]
    )
    record = fresh(store).catalog.get_result_table(info.table_name)
    assert record.status == "building"
    assert (record.dimensions, record.text_columns) == (3, ("b", "a"))
    assert [path.name for path in Path(store.root).iterdir()] == ["_catalog"]


def test_derivation_takes_its_parents_key(store):
    """`B034`: a derivation has its parent's key column unless it is given another."""
    parent = store.create_table(*TABLE, key_column="doc_id").table_name
    made = {
        key: store.create_table(*TABLE, derived_from=parent, key_column=key).table_name
        for key in (None, "own")
    }
    assert store.catalog.get_result_table(made[None]).key_column == "doc_id"
    assert store.catalog.get_result_table(made["own"]).key_column == "own"


def test_unknown_key_stays_unknown(store):
    """`B035`: no key column means that none is known; an empty one is refused."""
    name = store.create_table(*TABLE).table_name
    assert store.catalog.get_result_table(name).key_column is None
    with pytest.raises(InvalidInputError, match="key_column"):
        store.create_table(*TABLE, key_column="")


def test_parent_of_a_stranger(store):
    """`B062`: a parent that the store does not see is not found, and its key is not inherited."""
    hidden = store.pinned_to_tenant(BETA).create_table(*TABLE, key_column="secret").table_name
    version = store.catalog.version
    with pytest.raises(TableNotFoundError, match=hidden):
        store.pinned_to_tenant(ACME).create_table(*TABLE, derived_from=hidden)
    assert store.catalog.version == version


# --- open_writer


def test_writer(store):
    """`B091`: nothing is visible before close; then the object is there, hashed and counted."""
    name = store.create_table(*TABLE).table_name
    data, _ = paths_of(store, name)
    writer = store.open_writer(name, DATA.schema)
    writer.write(DATA)
    assert not data.exists()
    artifact = writer.close()
    assert artifact.digest == hashlib.sha256(data.read_bytes()).hexdigest()
    assert (artifact.size, artifact.rows) == (data.stat().st_size, 3)
    assert pq.read_table(data) == DATA


@pytest.mark.parametrize(
    "given",
    [
        DATA,
        DATA.to_batches()[0],
        DATA.to_reader(),
        pa.concat_tables([DATA.slice(0, 1), DATA.slice(1)]),
        DATA.cast(pa.schema([("id", pa.large_string()), ("score", pa.float32())])),
        {"id": ["a", "b", "c"], "score": [0.5, 0.25, 1.0]},
    ],
    ids=["table", "batch", "reader", "chunks", "other types", "dict"],
)
def test_writer_takes_arrow(store, given):
    """Whatever speaks Arrow is written in the result's own schema."""
    name = store.create_table(*TABLE).table_name
    with store.open_writer(name, DATA.schema) as out:
        out.write(given)
    assert pq.read_table(paths_of(store, name)[0]) == DATA


@pytest.mark.parametrize(
    "given",
    [
        None,
        [1, 2],
        pa.table({"id": ["a"]}),
        pa.table({"score": [0.5], "id": ["a"]}),
        pa.table({"id": ["a"], "score": [0.5], "more": [1]}),
        pa.table({"id": ["a"], "score": ["high"]}),
    ],
)
def test_writer_refuses(store, given):
    """Data of another schema is refused; what was written before it is discarded with the block."""
    name = store.create_table(*TABLE).table_name
    with pytest.raises(InvalidInputError), store.open_writer(name, DATA.schema) as out:  # noqa: PT012 - the block is the subject
        out.write(DATA)
        out.write(given)
    assert [path.name for path in Path(store.root).iterdir()] == ["_catalog"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_writer_discards(store, error):
    """`B088`: a writer that an exception leaves makes no object, and another may write it."""
    name = store.create_table(*TABLE).table_name
    with pytest.raises(error), store.open_writer(name, DATA.schema) as out:  # noqa: PT012 - the block is the subject
        out.write(DATA)
        raise error
    assert [path.name for path in Path(store.root).iterdir()] == ["_catalog"]
    write(store, name)
    finalize(store, name)
    assert store.verify_materialization(name) == Match()


def test_writer_is_used_once(store):
    """A closed or aborted writer refuses more data and a second close."""
    closed = store.open_writer(store.create_table(*TABLE), DATA.schema)
    closed.close()
    aborted = store.open_writer(store.create_table(*TABLE), DATA.schema)
    aborted.abort()
    aborted.abort()
    for writer in (closed, aborted):
        with pytest.raises(StateError, match="closed"):
            writer.write(DATA)
        with pytest.raises(StateError, match="closed"):
            writer.close()


def test_data_is_immutable(store):
    """A result is written once: a second writer is refused and the first data stays."""
    name = store.create_table(*TABLE).table_name
    second = store.open_writer(name, DATA.schema)
    write(store, name)
    before = paths_of(store, name)[0].read_bytes()
    with pytest.raises(AlreadyExistsError, match="immutable"):
        second.close()
    assert paths_of(store, name)[0].read_bytes() == before
    finalize(store, name)
    assert store.verify_materialization(name) == Match()


@pytest.mark.parametrize("status", ["ready", "failed"])
def test_writer_of_a_finished_row(store, status):
    """A finished row takes no data."""
    name = store.create_table(*TABLE).table_name
    store.catalog.update_result_table_status(name, status, 0)
    with pytest.raises(StateError, match=f"is {status}, not building"):
        store.open_writer(name, DATA.schema)


def test_writer_of_nothing(store):
    """An absent or invisible row takes no data."""
    hidden = store.pinned_to_tenant(BETA).create_table(*TABLE).table_name
    for name in ("absent", hidden):
        with pytest.raises(TableNotFoundError):
            store.open_writer(name, DATA.schema)


# --- finalize_with_manifest


def test_finalize(store):
    """`B084`: the manifest returned is the sidecar, and its hash and anchors are the row's."""
    name = store.create_table(*TABLE).table_name
    write(store, name)
    manifest = store.finalize_with_manifest(name, 3, DESCRIPTOR, ENV, INPUTS)
    record = fresh(store).catalog.get_result_table(name)
    assert (record.status, record.row_count) == ("ready", 3)
    assert record.definition_hash == manifest.definition_hash == definition_hash(DESCRIPTOR, ENV)
    assert record.input_anchors == manifest.input_anchors == INPUTS
    assert fresh(store).read_materialization_manifest(name) == manifest
    data, sidecar = paths_of(store, name)
    assert sidecar.read_bytes() == manifest.to_json_bytes()
    assert manifest.artifact == hashlib.sha256(data.read_bytes()).hexdigest()


def test_publish_order(root):
    """`B080`: first the data, then the sidecar, then the version that makes the row ready."""
    storage = Recording(root)
    store = ResultStore(Catalog(storage))
    name = store.create_table(*TABLE).table_name
    del storage.made[:]
    write(store, name)
    finalize(store, name)
    data, sidecar = (path.name for path in paths_of(store, name))
    assert storage.made[:2] == [data, sidecar]
    assert [key.split("/")[1] for key in storage.made[2:]] == ["manifest"]


def test_data_is_not_read_again(root):
    """`B091`: the digest is taken from the stream; the object is not read to compute it."""
    storage = Recording(root)
    store = ResultStore(Catalog(storage))
    read = []
    storage.read = lambda key: read.append(key) or LocalStorage.read(storage, key)
    build(store)
    assert [key for key in read if key.endswith(".parquet") and "/" not in key] == []


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_data_of_another_program(store, compression):
    """`B063`, `B091`: any program may write the Parquet to the path given; finalize attests it."""
    info = store.create_table(*TABLE)
    pq.write_table(DATA, info.parquet_path, compression=compression)
    manifest = store.finalize_with_manifest(info.table_name, 3, DESCRIPTOR, ENV, INPUTS)
    assert manifest.artifact == hashlib.sha256(Path(info.parquet_path).read_bytes()).hexdigest()
    assert store.verify_materialization(info.table_name) == Match()
    assert store.open_table(info.table_name).to_table() == DATA


@pytest.mark.parametrize("finalizer", ["writer", "other store", "other program"])
@pytest.mark.parametrize("row_count", [0, 2, 4, 2**40])
def test_wrong_row_count(store, finalizer, row_count):
    """`B091`: a row count that is not the data's is refused; no sidecar, the row stays building."""
    info = store.create_table(*TABLE)
    if finalizer == "other program":
        pq.write_table(DATA, info.parquet_path)
    else:
        write(store, info.table_name)
    opened = fresh(store) if finalizer == "other store" else store
    with pytest.raises(InvalidInputError, match=f"row_count is {row_count}, .* 3 rows"):
        opened.finalize_with_manifest(info.table_name, row_count, DESCRIPTOR, ENV, INPUTS)
    assert not paths_of(store, info.table_name)[1].exists()
    assert store.catalog.get_result_table(info.table_name).status == "building"
    finalize(opened, info.table_name)


@pytest.mark.parametrize("data", ["never written", "vanished", "truncated", "no parquet"])
@pytest.mark.parametrize("opening", ["same", "other"])
def test_finalize_without_sound_data(store, data, opening):
    """`B088`, `B091`: a result whose data is missing or no Parquet cannot become ready."""
    name = store.create_table(*TABLE).table_name
    path, sidecar = paths_of(store, name)
    if data != "never written":
        write(store, name)
    if data == "vanished":
        path.unlink()
    elif data == "truncated":
        path.write_bytes(path.read_bytes()[:-4])
    elif data == "no parquet":
        path.write_bytes(b"x" * 100)
    opened = store if opening == "same" else fresh(store)
    with pytest.raises(Exception, match=name):
        finalize(opened, name)
    assert not sidecar.exists()
    assert fresh(store).catalog.get_result_table(name).status == "building"


@pytest.mark.parametrize("status", ["ready", "failed"])
def test_finalize_a_finished_row(store, status):
    """`B079`: a row that is ready or failed is not finalized again; its files stay as they are."""
    name = store.create_table(*TABLE).table_name
    write(store, name)
    store.catalog.update_result_table_status(name, status, 0)
    before = listing(store.root)
    with pytest.raises(StateError):
        finalize(store, name)
    assert listing(store.root) == before


@pytest.mark.parametrize("wrong", ["row_count", "descriptor", "env", "inputs"])
def test_finalize_refuses(store, wrong):
    """A wrong argument is refused before anything is written; the build can still be finished."""
    name = store.create_table(*TABLE).table_name
    write(store, name)
    before = listing(store.root)
    arguments = {
        "table_name": name,
        "row_count": 3,
        "descriptor": DESCRIPTOR,
        "env": ENV,
        "inputs": INPUTS,
    }
    for bad in ("x", None, 5.5, ["docs"]):
        with pytest.raises(InvalidInputError):
            store.finalize_with_manifest(**arguments | {wrong: bad})
    assert listing(store.root) == before
    store.finalize_with_manifest(**arguments)


def crash_before_commit(store, name, monkeypatch):
    """Finalize as far as the sidecar."""

    def crash(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "promote_result_table_with_manifest", crash)
        with pytest.raises(MemoryError):
            finalize(store, name)


def test_finalize_again(store, monkeypatch):
    """`B082`, `B090`: an equal sidecar left by a cut off finalize is kept; the row is promoted."""
    name = store.create_table(*TABLE).table_name
    write(store, name)
    crash_before_commit(store, name, monkeypatch)
    left = paths_of(store, name)[1].read_bytes()
    manifest = fresh(store).finalize_with_manifest(name, 3, DESCRIPTOR, ENV, INPUTS)
    assert paths_of(store, name)[1].read_bytes() == left == manifest.to_json_bytes()
    assert store.verify_materialization(name) == Match()


@pytest.mark.parametrize(
    "other",
    [
        {"descriptor": External(producer_id="tests", params={"seed": "2"})},
        {"env": MaterializationEnv("0.33.0", ENV.device)},
        {"inputs": [InputAnchor.mutable_version("docs", 8)]},
        {"inputs": []},
    ],
)
def test_other_sidecar_is_there(store, monkeypatch, other):
    """`B090`: a sidecar that says something else is never overwritten; the row stays building."""
    name = store.create_table(*TABLE).table_name
    write(store, name)
    crash_before_commit(store, name, monkeypatch)
    left = paths_of(store, name)[1].read_bytes()
    contract = {"descriptor": DESCRIPTOR, "env": ENV, "inputs": INPUTS} | other
    with pytest.raises(AlreadyExistsError, match=r"materialization\.json"):
        fresh(store).finalize_with_manifest(name, 3, **contract)
    assert paths_of(store, name)[1].read_bytes() == left
    assert store.catalog.get_result_table(name).status == "building"


def test_foreign_sidecar_is_there(store):
    """`B090`: a sidecar that cannot be read is an error of its own, and stays."""
    name = store.create_table(*TABLE).table_name
    write(store, name)
    paths_of(store, name)[1].write_bytes(b"not json")
    with pytest.raises(Exception, match=r"materialization\.json"):
        finalize(store, name)
    assert paths_of(store, name)[1].read_bytes() == b"not json"
    assert store.catalog.get_result_table(name).status == "building"


@pytest.fixture(params=["directory", "bucket"])
def two(request, root):
    """Return two stores over one root, as two processes have them; one root is without a lock."""
    if request.param == "directory":
        return connect(root, durability="os"), connect(root, durability="os")
    base = MemoryStorage(f"memory://{uuid.uuid4().hex}")
    return bucket_like(base), bucket_like(base)


def bucket_like(base):
    return ResultStore(Catalog(UnlockedStorage(base, lambda *_: None)))


def take_over(store, name, record):
    """Let a process of another machine build the table."""
    lease = dataclasses.replace(record.lease, owner="0" * 32, host="elsewhere")
    store.catalog.delete_result_table(name)
    store.catalog.adopt_result_tables([dataclasses.replace(record, lease=lease)])


def make_again(store, name, record):
    """Free the name and begin another build under it; the first one's data is still there."""
    store.catalog.delete_result_table(name)
    store.catalog.create_result_table(**row(name, model_id=f"no {record.model_id}"))


@pytest.mark.parametrize(
    ("change", "text"), [(take_over, "taken over by another"), (make_again, "made again")]
)
def test_finalize_the_build_of_another(two, change, text):
    """`B079`: a build makes no other build ready that has got its name meanwhile."""
    mine, other = two
    record = mine.catalog.create_result_table(**row("x"))
    write(mine, "x")
    change(other, "x", record)
    theirs = other.catalog.get_result_table("x")
    with pytest.raises(StateError, match=text):
        finalize(mine, "x")
    assert other.catalog.get_result_table("x") == theirs


def test_digest_of_an_earlier_build(two):
    """`B091`: what was written under a name says nothing of what a later build of it wrote."""
    mine, other = two
    mine.catalog.create_result_table(**row("x"))
    write(mine, "x")
    mine.delete_table("x")
    mine.catalog.create_result_table(**row("x"))
    with other.open_writer("x", DATA.schema) as out:
        out.write(DATA.set_column(0, "id", pa.array(["d", "e", "f"])))
    finalize(mine, "x")
    assert mine.verify_materialization("x") == Match()


def test_finalize_for_another_tenant(store):
    """`B077`, `B078`: a tenant may finish a GLOBAL build; the row stays GLOBAL."""
    name = store.create_table(*TABLE).table_name
    acme = store.pinned_to_tenant(ACME)
    write(acme, name)
    finalize(acme, name)
    assert store.catalog.get_result_table(name).tenant_id is None


def test_same_definition_same_hash(store):
    """`B111`, `B125`: results of one definition share the hash that is known before the work."""
    names = [build(store) for _ in range(2)]
    key = definition_hash(DESCRIPTOR, ENV)
    found = store.catalog.find_ready_result_tables_by_definition(key)
    assert [record.table_name for record in found] == names[::-1]


# --- embeddings

IDS = pa.array(["a", "b"])
VECTORS = pa.array([[3.0, 4.0], [0.0, -2.0]])
PLACE = {"env": ENV, "inputs": INPUTS, "dimensions": 2}


def computed(store, ids=IDS, vectors=VECTORS, params=None, **also):
    return store.materialize_computed_embedding_table(
        "docs", "org/m", ids, vectors, **PLACE | also, producer_id="mine", params=params or {}
    )


@pytest.mark.parametrize("task", ["text_embedding", "image_embedding", "audio_embedding"])
def test_materialize_embeddings(store, task):
    """`B087`: vectors go through the same funnel, as they are, and resolve as the embedding."""
    name = store.materialize_embedding_table(
        "docs",
        "org/m",
        IDS,
        VECTORS,
        descriptor=DESCRIPTOR,
        **PLACE,
        task=task,
        key_column="id",
        text_columns=["body"],
    )
    record = store.catalog.resolve_embedding_table("docs")
    assert (record.table_name, record.task, record.row_count) == (name, task, 2)
    assert (record.dimensions, record.key_column) == (2, "id")
    assert store.verify_materialization(name) == Match()
    table = store.open_table(name).to_table()
    assert table.column_names == ["_row_id", "_source_id", "_model_id", "vector"]
    assert table["_row_id"].to_pylist() == ["a", "b"]
    assert set(table["_source_id"].to_pylist()) == {"docs"}
    assert table["vector"].to_pylist() == VECTORS.to_pylist()


def test_materialize_computed(store):
    """`B213`: computed vectors are kept at unit length under a definition of these very rows."""
    name = computed(store, params={"version": "1"})
    vectors = store.open_table(name).to_table()["vector"].to_pylist()
    assert vectors == [pytest.approx([0.6, 0.8]), [0.0, -1.0]]
    params = store.producing_descriptor(name).params
    assert params["version"] == "1"
    assert set(params) == {"version", "content_digest"}
    assert store.verify_materialization(name) == Match()


def test_computed_definition(store):
    """`B213`: the same rows share a definition; another id, vector, order or param does not."""
    swapped = pa.array([1, 0])
    made = [
        computed(store),
        computed(store),
        computed(store, ids=pa.array(["a", "c"])),
        computed(store, vectors=pa.array([[3.0, 4.0], [1.0, -2.0]])),
        computed(store, ids=IDS.take(swapped), vectors=VECTORS.take(swapped)),
        computed(store, params={"a": "b"}),
    ]
    hashes = [store.catalog.get_result_table(name).definition_hash for name in made]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 5


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"vectors": pa.array([[3.0, 4.0], [1.0]])}, "row 'b' has width 1"),
        ({"vectors": pa.array([[3.0, 4.0], [0.0, 0.0]])}, "row 'b' has norm 0"),
        ({"vectors": pa.array([[3.0, float("nan")], [1.0, 0.0]])}, "row 'a' has norm nan"),
        ({"vectors": pa.array([[3.0, float("inf")], [1.0, 0.0]])}, "row 'a' has norm inf"),
        ({"vectors": pa.array([[3.0, 4.0], None])}, "row 'b' has no vector"),
        ({"ids": pa.array(["a", None])}, "id"),
        ({"ids": pa.array(["a"])}, "1 row ids but 2 vectors"),
        ({"params": {"content_digest": "x"}}, "content_digest"),
        ({"params": {"a": 1}}, "params"),
        ({"dimensions": 3}, "expected 3"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_computed_refuses(store, root, wrong, text):
    """`B213`: wrong vectors are refused with the row's name before a row or file is made."""
    with pytest.raises(InvalidInputError, match=text):
        computed(store, **wrong)
    assert not root.exists()


def test_embeddings_without_rows(store):
    """No vectors are an empty, ready table."""
    name = computed(
        store, ids=pa.array([], pa.string()), vectors=pa.array([], pa.list_(pa.float64()))
    )
    assert store.catalog.get_result_table(name).row_count == 0
    assert store.open_table(name).count_rows() == 0


def test_computed_embeddings_by_arrow_ids(store):
    """Chunked and large columns are as good as plain ones."""
    large = pa.chunked_array(
        [pa.array(["a"], pa.large_string()), pa.array(["b"], pa.large_string())]
    )
    name = computed(store, ids=large, vectors=VECTORS.cast(pa.list_(pa.float32(), 2)))
    assert store.open_table(name).count_rows(filter=pc.field("_row_id") == "a") == 1


def test_sidecar_is_the_engines(store):
    """`B176`, `B184`: the sidecar of any result parses as one of jammi-db, version 3."""
    manifest = MaterializationManifest.from_json_bytes(
        paths_of(store, build(store))[1].read_bytes()
    )
    assert (manifest.engine_version, manifest.manifest_version) == ("0.32.0", 3)
