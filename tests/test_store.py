"""What one does with results: verify, pin, open, move, delete."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import multiprocessing
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support.files import listing
from support.results import DATA, DESCRIPTOR, ENV, INPUTS, TABLE, build, finalize, row, write
from support.scopes import ACME, BETA

from jammi_files import (
    External,
    FormatError,
    InputAnchor,
    InvalidInputError,
    Match,
    MatchWithUnpinnedInputs,
    MaterializationManifest,
    Mismatch,
    MissingArtifact,
    MissingManifest,
    ReferencedError,
    StateError,
    TableNotFoundError,
    UnsupportedVersionError,
    connect,
    definition_hash,
)
from jammi_files.fsck import Kind, fsck
from jammi_files.operations import Operations

OTHER = External(producer_id="tests", params={"seed": "2"})


def data_of(store, name):
    return Path(store.root) / f"{name}.parquet"


def sidecar_of(store, name):
    return Path(store.root) / f"{name}.materialization.json"


def fresh(store):
    return connect(store.root, durability="os")


def build_with(store, inputs=INPUTS, descriptor=DESCRIPTOR, data=DATA, **also):
    contract = {"descriptor": descriptor, "env": ENV, "inputs": inputs}
    with store.build(*TABLE, **contract, **also) as out:
        out.write(data)
    return out.table_name


def rewrite_sidecar(store, name, **changes):
    """Replace fields of a sidecar, the rest being as it was."""
    sidecar = sidecar_of(store, name)
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | changes, indent=2))


def data_objects(store):
    return sorted(path.name for path in Path(store.root).iterdir() if path.name != "_catalog")


# --- verify


def test_match(store):
    """`B223`, `B231`: an untouched result matches, as often as it is asked, and nothing changes."""
    name = build(store)
    before = listing(store.root)
    for opened in (store, fresh(store), store):
        assert opened.verify_materialization(name) == Match()
        assert opened.verify_materialization(name, definition_hash(DESCRIPTOR, ENV)) == Match()
    assert listing(store.root) == before


def test_unpinned(store):
    """`B217`, `B223`: unpinned inputs are named in the verdict, in producer order."""
    anchors = [
        InputAnchor.unpinned_at_instant("z", "2026-01-01T00:00:00+00:00"),
        InputAnchor.mutable_version("docs", 1),
        InputAnchor.unpinned_at_instant("a", "2026-01-01T00:00:00+00:00"),
    ]
    verdict = store.verify_materialization(build_with(store, anchors))
    assert verdict == MatchWithUnpinnedInputs(("z", "a"))
    assert verdict.ok


@pytest.mark.parametrize("status", ["building", "ready"])
def test_missing_sidecar(store, status):
    """`B074`, `B188`, `B220`: without a sidecar there is no verdict on the data, there or not."""
    record = store.catalog.create_result_table(**row("t"))
    store.catalog.update_result_table_status("t", status, 0)
    assert store.verify_materialization("t") == MissingManifest()
    (Path(store.root) / record.parquet_path).write_bytes(b"anything")
    assert store.verify_materialization("t") == MissingManifest()
    assert store.read_materialization_manifest("t") is None
    assert store.producing_descriptor("t") is None


def test_missing_data(store):
    """`B228`: a result whose data is gone has a verdict of its own."""
    name = build(store)
    data_of(store, name).unlink()
    assert store.verify_materialization(name) == MissingArtifact()
    assert not store.verify_materialization(name, "other").ok


DAMAGE = {
    "first byte": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "middle byte": lambda data: data[: len(data) // 2] + b"\xff" + data[len(data) // 2 + 1 :],
    "last byte": lambda data: data[:-1] + bytes([data[-1] ^ 0x80]),
    "appended": lambda data: data + b"\0",
    "prepended": lambda data: b"\0" + data,
    "one missing": lambda data: data[:-1],
    "first missing": lambda data: data[1:],
    "emptied": lambda _: b"",
    "doubled": lambda data: data * 2,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_data(store, damage):
    """`B221`, `B224`: one byte more, less or other is found; both digests are told."""
    name = build(store)
    recorded = store.read_materialization_manifest(name).artifact
    path = data_of(store, name)
    damaged = DAMAGE[damage](path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    found = hashlib.sha256(damaged).hexdigest()
    for expected in (None, definition_hash(DESCRIPTOR, ENV), "other"):
        verdict = store.verify_materialization(name, expected)
        assert verdict == Mismatch(expected=recorded, found=found)


def test_same_rows_other_file(store):
    """`B221`: the same rows in another encoding are other bytes."""
    name = build(store)
    pq.write_table(DATA, data_of(store, name), compression="none")
    assert isinstance(store.verify_materialization(name), Mismatch)


def test_data_larger_than_a_block(store):
    """`B230`: data of several blocks is digested whole: a change at its very end is found."""
    rows = pa.table({"n": pa.array(range(600_000), pa.int64())})
    info = store.create_table(*TABLE)
    with store.open_writer(info, rows.schema, compression="none") as out:
        out.write(rows)
    store.finalize_with_manifest(info.table_name, len(rows), DESCRIPTOR, ENV, INPUTS)
    path = data_of(store, info.table_name)
    assert path.stat().st_size > 3 << 20
    assert store.verify_materialization(info.table_name) == Match()
    with path.open("r+b") as file:
        file.seek(-5, 2)
        byte = file.read(1)
        file.seek(-5, 2)
        file.write(bytes([byte[0] ^ 1]))
    assert isinstance(store.verify_materialization(info.table_name), Mismatch)


def test_other_definition(store):
    """`B222`: sound bytes of another definition than expected are a mismatch of the hashes."""
    name = build(store)
    expected, found = definition_hash(OTHER, ENV), definition_hash(DESCRIPTOR, ENV)
    assert store.verify_materialization(name, expected) == Mismatch(expected=expected, found=found)


def test_row_against_sidecar(store):
    """`B229`: a sidecar whose definition or inputs are not those of the row is a mismatch."""
    name = build(store)
    honest = sidecar_of(store, name).read_bytes()
    recorded = store.catalog.get_result_table(name).definition_hash
    rewrite_sidecar(store, name, definition_hash="ab" * 32)
    verdict = store.verify_materialization(name)
    assert verdict == Mismatch(expected=recorded, found="ab" * 32)
    sidecar_of(store, name).write_bytes(honest)
    rewrite_sidecar(store, name, input_anchors=[])
    assert isinstance(store.verify_materialization(name), Mismatch)
    sidecar_of(store, name).write_bytes(honest)
    assert store.verify_materialization(name) == Match()


def test_forged_sidecar(store):
    """`B229`: data and sidecar replaced together do not pass: the row remembers."""
    name, other = build(store), build_with(store, descriptor=OTHER, data=DATA.slice(1))
    shutil.copy(data_of(store, other), data_of(store, name))
    shutil.copy(sidecar_of(store, other), sidecar_of(store, name))
    assert isinstance(store.verify_materialization(name), Mismatch)


def test_forged_data_of_one_definition(store):
    """`B229`: nor do other data of the same definition and inputs, with the sidecar of those."""
    name, other = build(store), build_with(store, data=DATA.slice(1))
    digests = [store.catalog.get_result_table(each).artifact_digest for each in (name, other)]
    shutil.copy(data_of(store, other), data_of(store, name))
    shutil.copy(sidecar_of(store, other), sidecar_of(store, name))
    assert store.verify_materialization(name) == Mismatch(*digests)


def test_forged_descriptor(store):
    """`B229`: a descriptor that was exchanged under its hash contradicts the row."""
    name = build(store)
    recorded = store.catalog.get_result_table(name).descriptor_digest
    rewrite_sidecar(store, name, descriptor=OTHER.to_dict())
    assert store.verify_materialization(name).expected == recorded


@pytest.mark.parametrize("suffix", [".usearch", ".rowmap", ".manifest.json", ".idx"])
def test_index_files_do_not_count(store, suffix):
    """`B179`, `B225`: whatever lies in the index files, the verdict is the same."""
    name = build(store)
    (Path(store.root) / f"{name}{suffix}").write_bytes(b"damaged")
    assert store.verify_materialization(name) == Match()


BROKEN = {
    "empty": (b"", FormatError),
    "no json": (b"{", FormatError),
    "list": (b"[]", FormatError),
    "null": (b"null", FormatError),
    "not utf-8": (b"\xff\xfe", FormatError),
    "older": ({"manifest_version": 2}, UnsupportedVersionError),
    "newer": ({"manifest_version": 4}, UnsupportedVersionError),
    "no artifact": ({"artifact": None}, FormatError),
    "no kind": ({"input_anchors": [{"source": "a", "anchor": "b"}]}, FormatError),
    "odd kind": (
        {"input_anchors": [{"source": "a", "anchor": "b", "kind": "guess"}]},
        FormatError,
    ),
}


@pytest.fixture(params=BROKEN)
def broken(request, store):
    """Return a store, a result with a broken sidecar, and the error that says so."""
    name = build(store)
    content, error = BROKEN[request.param]
    if isinstance(content, bytes):
        sidecar_of(store, name).write_bytes(content)
    else:
        rewrite_sidecar(store, name, **content)
    return store, name, error


def test_broken_sidecar(broken):
    """`B185` to `B187`, `B227`: a broken sidecar is an error that names it, never a verdict."""
    store, name, error = broken
    for call in (
        store.verify_materialization,
        store.read_materialization_manifest,
        store.producing_descriptor,
        store.result_digest_anchor,
    ):
        with pytest.raises(error, match=f"{name}.materialization.json"):
            call(name)


def test_broken_sidecar_among_others(broken):
    """`B230`: verifying everything reports the broken one with its error and judges the rest."""
    store, name, _ = broken
    sound = build(store)
    verdicts = {v.table_name: v for v in store.verify_all()}
    assert verdicts[sound].verdict == Match()
    assert (verdicts[name].verdict, verdicts[name].ok) == (None, False)
    assert f"{name}.materialization.json" in verdicts[name].error


@pytest.mark.parametrize(
    "call",
    [
        lambda store, name: store.verify_materialization(name),
        lambda store, name: store.read_materialization_manifest(name),
        lambda store, name: store.producing_descriptor(name),
        lambda store, name: store.result_digest_anchor(name),
        lambda store, name: store.open_table(name),
        lambda store, name: store.url(name),
        lambda store, name: store.delete_table(name),
        lambda store, name: store.delete_table(name, dry_run=True),
    ],
)
def test_invisible_results(store, call):
    """`B174`, `B226`: an invisible result is not found, in the words of an absent one."""
    hidden = build(store.pinned_to_tenant(BETA))
    for opened in (store, store.pinned_to_tenant(ACME)):
        for name in ("absent", hidden):
            with pytest.raises(TableNotFoundError, match=f"^Result table '{name}' not found$"):
                call(opened, name)
    call(store.pinned_to_tenant(BETA), hidden)


# --- verify_all

EXECUTORS = {
    "default": lambda: None,
    "threads": lambda: concurrent.futures.ThreadPoolExecutor(3),
    "processes": lambda: concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn")
    ),
}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_verify_all(store, kind):
    """`B230`: every ready result is judged on any executor, oldest first, with progress."""
    names = [build(store) for _ in range(5)]
    store.create_table(*TABLE)
    build(store.pinned_to_tenant(BETA))
    data_of(store, names[1]).write_bytes(b"other")
    sidecar_of(store, names[3]).unlink()
    executor, calls = EXECUTORS[kind](), []
    try:
        found = store.verify_all(executor, lambda done, total: calls.append((done, total)))
    finally:
        if executor is not None:
            executor.shutdown()
    assert [v.table_name for v in found] == names
    assert [v.ok for v in found] == [True, False, True, False, True]
    assert [type(v.verdict) for v in found[1:4]] == [Mismatch, Match, MissingManifest]
    assert calls == [(number, 5) for number in range(1, 6)]
    assert len(store.as_admin().verify_all()) == 6


def test_verify_nothing(store, root):
    """`B230`: an empty store verifies to nothing, and is not created by it."""
    assert store.verify_all(progress=lambda *_: pytest.fail("nothing to report")) == []
    assert not root.exists()


# --- anchors


def test_result_digest_anchor(store):
    """`B215`: the anchor is the digest that the sidecar records, even of other bytes."""
    name = build(store)
    digest = hashlib.sha256(data_of(store, name).read_bytes()).hexdigest()
    assert store.result_digest_anchor(name) == InputAnchor.result_digest(name, digest)
    data_of(store, name).write_bytes(b"other")
    assert store.result_digest_anchor(name).anchor == digest
    data_of(store, name).unlink()
    assert store.result_digest_anchor(name).anchor == digest


def test_anchor_without_sidecar(store):
    """`B215`: without a sidecar the digest is that of the bytes; without those there is none."""
    name = store.create_table(*TABLE).table_name
    with pytest.raises(StateError, match=name):
        store.result_digest_anchor(name)
    write(store, name)
    digest = hashlib.sha256(data_of(store, name).read_bytes()).hexdigest()
    assert store.result_digest_anchor(name).anchor == digest


# --- open


def test_open_table(store):
    """`B174`: a ready result opens as a dataset of its rows."""
    dataset = fresh(store).open_table(build(store))
    assert dataset.schema == DATA.schema
    assert dataset.to_table() == DATA
    assert dataset.count_rows(filter=ds.field("score") > 0.3) == 2


def test_open_unfinished(store):
    """A result that is not ready, or has lost its data, does not open."""
    name = store.create_table(*TABLE).table_name
    write(store, name)
    with pytest.raises(StateError, match="is building, not ready"):
        store.open_table(name)
    finalize(store, name)
    data_of(store, name).unlink()
    with pytest.raises(StateError, match="is gone"):
        store.open_table(name)
    store.catalog.update_result_table_status(name, "failed", 0)
    with pytest.raises(StateError, match="is failed, not ready"):
        store.open_table(name)


# --- moving


def test_moved_root(store, tmp_path):
    """`B055`: a copied or moved root has the same results, which verify, open and are deleted."""
    names = [build(store), build(store.pinned_to_tenant(ACME))]
    moved = shutil.move(store.root, tmp_path / "else where")
    other = connect(moved, durability="os")
    assert [v.ok for v in other.as_admin().verify_all()] == [True, True]
    assert other.open_table(names[0]).to_table() == DATA
    assert other.url(names[0]) == f"{moved}/{names[0]}.parquet"
    build(other)
    other.delete_table(names[0])
    assert not data_of(other, names[0]).exists()
    assert not Path(store.root).exists()


def test_data_outside_the_root(store, tmp_path):
    """`B055`: data that lies elsewhere is read where it lies, and never deleted."""
    outside = tmp_path / "elsewhere.parquet"
    pq.write_table(DATA, outside)
    store.catalog.create_result_table(**row("t", parquet_path=str(outside)))
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    manifest = MaterializationManifest.attest(
        DESCRIPTOR, ENV, INPUTS, artifact=digest, produced_at="2026-01-01T00:00:00+00:00"
    )
    (tmp_path / "elsewhere.materialization.json").write_bytes(manifest.to_json_bytes())
    store.catalog.promote_result_table_with_manifest("t", 3, manifest.definition_hash, INPUTS)
    assert fresh(store).verify_materialization("t") == Match()
    assert store.open_table("t").to_table() == DATA
    store.delete_table("t")
    assert outside.exists()
    assert (tmp_path / "elsewhere.materialization.json").exists()


# --- delete


def add_index(store, name):
    for suffix in (".usearch", ".rowmap", ".manifest.json"):
        (Path(store.root) / f"{name}{suffix}").write_bytes(b"index")


def test_delete_table(store):
    """`B148`, `B151`: the row goes with its data, sidecar and index files; the others stay."""
    gone, stays = build(store), build(store)
    add_index(store, gone)
    add_index(store, stays)
    record, before = store.catalog.get_result_table(gone), listing(store.root)
    assert store.delete_table(gone, dry_run=True) == [record]
    assert listing(store.root) == before
    assert store.delete_table(gone) == [record]
    assert all(name.startswith(stays) for name in data_objects(store))
    assert len(data_objects(store)) == 5
    assert fresh(store).verify_materialization(stays) == Match()


def test_delete_source(store):
    """`B143`, `B148`: all results of a source go with their objects, this tenant's only."""
    names = [build(store) for _ in range(3)]
    acme = build(store.pinned_to_tenant(ACME))
    assert [r.table_name for r in store.delete_source("docs")] == names
    assert data_objects(store) == [f"{acme}.materialization.json", f"{acme}.parquet"]
    assert store.delete_source("docs") == []


def test_delete_without_objects(store):
    """`B147`: objects that are gone already are no error."""
    name, building = build(store), store.create_table(*TABLE).table_name
    data_of(store, name).unlink()
    assert len(store.delete_source("docs")) == 2
    assert store.catalog.get_result_table(building) is None
    assert data_objects(store) == []


def test_delete_with_an_obstacle(store, caplog):
    """`B147`: the rows go first; an object that cannot be removed does not keep the others."""
    first, second = build(store), build(store)
    data_of(store, first).unlink()
    data_of(store, first).mkdir()
    with caplog.at_level(logging.WARNING, "jammi_files"):
        assert [r.table_name for r in store.delete_source("docs")] == [first, second]
    assert first in caplog.text
    assert store.catalog.scan().num_rows == 0
    assert f"{first}.parquet" in data_objects(store)
    assert not any(second in name for name in data_objects(store))


def test_delete_a_parent(store):
    """`B149`: a refused delete removes no object; with cascade all objects go."""
    parent = build(store)
    child = build_with(store, [store.result_digest_anchor(parent)], derived_from=parent)
    before = listing(store.root)
    with pytest.raises(ReferencedError, match=child):
        store.delete_table(parent)
    with pytest.raises(ReferencedError, match=child):
        store.delete_table(parent, dry_run=True)
    assert listing(store.root) == before
    assert len(store.delete_table(parent, cascade=True, dry_run=True)) == 2
    assert listing(store.root) == before
    assert [r.table_name for r in store.delete_table(parent, cascade=True)] == [parent, child]
    assert data_objects(store) == []


def test_delete_of_a_stranger(store):
    """`B144`: a GLOBAL result is visible to a tenant, and neither row nor bytes are its own."""
    name = build(store)
    with pytest.raises(StateError, match="another scope"):
        store.pinned_to_tenant(ACME).delete_table(name)
    assert store.pinned_to_tenant(ACME).delete_source("docs") == []
    assert store.verify_materialization(name) == Match()


@pytest.mark.parametrize(
    "path",
    [
        "_catalog/format.json",
        "_catalog/x.parquet",
        "./_catalog/lock",
        "././_catalog/format.json",
        ".//./_catalog/manifest/00000000000000000/00000000000000000003.parquet",
        "//_catalog/lock",
        "_CATALOG/format.json",
        "_catalog",
    ],
)
def test_the_catalogs_own_objects(store, path):
    """`B051`: no row names an object of the catalog as its data, to be deleted with it."""
    catalog = store.catalog
    record = catalog.create_result_table(**row("known"))
    given = path.lstrip("/")
    for wrong in (given, f"{store.root}/{path}", f"file://{store.root}/{path}"):
        for column in ("parquet_path", "index_path"):
            columns = row("t") | {column: wrong}
            odd = dataclasses.replace(record, table_name="t", **{column: wrong})
            for attempt in (
                lambda columns=columns: catalog.create_result_table(**columns),
                lambda columns=columns: catalog.create_result_tables(pa.table(_one(columns))),
                lambda odd=odd: catalog.adopt_result_tables([odd]),
            ):
                with pytest.raises(InvalidInputError, match=r"(?i)_catalog"):
                    attempt()
    assert catalog.scan().num_rows == 1


def _one(columns):
    return {name: [value] for name, value in columns.items()}


@pytest.mark.parametrize("alias", ["./{}", ".//{}", "././{}", "{}/", "{}/.", "/{}", "sub/../{}"])
def test_data_of_another_by_another_path(store, alias):
    """However a path is spelt, a table that names another's data does not delete it."""
    name = build(store.pinned_to_tenant(ACME))
    path = alias.format(f"{name}.parquet")
    thief = store.pinned_to_tenant(BETA)
    given = [f"{store.root}/{path}", *([] if path.startswith("/") else [path])]
    record = thief.catalog.create_result_table(**row("known"))
    for number, each in enumerate(given):
        made = [f"{kind}{number}" for kind in ("one", "many", "adopted")]
        for attempt in (
            lambda n, each=each: thief.catalog.create_result_table(**row(n, parquet_path=each)),
            lambda n, each=each: thief.catalog.create_result_tables(
                pa.table(_one(row(n, parquet_path=each)))
            ),
            lambda n, each=each: thief.catalog.adopt_result_tables(
                [dataclasses.replace(record, table_name=n, parquet_path=each)]
            ),
        ):
            table = made.pop(0)
            if ".." in alias:
                with pytest.raises(InvalidInputError, match="leaves the root"):
                    attempt(table)
                continue
            attempt(table)
            stored = thief.catalog.get_result_table(table).parquet_path
            is_kept = table.startswith("adopted") and each.startswith("/")
            assert stored == (each if is_kept else f"{name}.parquet")
            thief.delete_table(table)
    assert store.pinned_to_tenant(ACME).verify_materialization(name) == Match()


@pytest.mark.parametrize("suffix", ["", ".materialization.json", ".intoto.jsonl", ".usearch"])
def test_what_lies_beside_anothers_data(store, suffix, monkeypatch):
    """A table that names another's sidecar as its data, or the name of both, deletes neither."""
    name = build(store.pinned_to_tenant(ACME))
    thief = store.pinned_to_tenant(BETA)
    with monkeypatch.context() as patch:  # an older library took any
        patch.setattr(Operations, "_stored_path", lambda _, __, path: path)
        thief.catalog.create_result_table(**row("t", parquet_path=name + suffix))
    thief.delete_table("t")
    assert store.pinned_to_tenant(ACME).verify_materialization(name) == Match()


@pytest.mark.parametrize("alias", ["./{}", "././_catalog/format.json"])
def test_a_row_of_an_older_library_with_another_path(store, alias, monkeypatch):
    """It deletes nothing and writes nothing, and whoever looks after the root is not stopped."""
    name = build(store.pinned_to_tenant(ACME))
    thief, path = store.pinned_to_tenant(BETA), alias.format(f"{name}.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(Operations, "_stored_path", lambda _, __, path: path)
        for table in ("odd", "ready"):
            thief.catalog.create_result_table(**row(table, parquet_path=path))
    thief.catalog.update_result_table_status("ready", "ready", 3)
    with pytest.raises(InvalidInputError, match="nothing is written"):
        thief.open_writer("odd", DATA.schema)
    admin = store.as_admin()
    assert {each.kind for each in fsck(admin.catalog)} <= {Kind.ORPHAN_OBJECT}
    assert {each.table_name: each.verdict for each in thief.verify_all()}
    admin.recover(reap=True)
    admin.catalog.vacuum(0, dry_run=False)
    for table in ("odd", "ready"):
        thief.delete_table(table)
    assert store.storage.size("_catalog/format.json")
    assert store.pinned_to_tenant(ACME).verify_materialization(name) == Match()


@pytest.mark.parametrize(
    "suffix", [".materialization.json", ".intoto.jsonl", ".usearch", ".parquet.deadbeef.tmp"]
)
def test_data_that_looks_like_what_lies_beside_data(store, suffix):
    """Whoever cleans up would take it for a sidecar, or for a write that was cut off."""
    with pytest.raises(InvalidInputError, match="what lies beside data"):
        store.catalog.create_result_table(**row("t", parquet_path=f"b{suffix}"))
    store.catalog.create_result_table(**row("t", index_path=f"b{suffix}"))


# --- handles


def test_store_pickles(store):
    """A store travels with its root and scope."""
    name = build(store.pinned_to_tenant(ACME))
    copy = pickle.loads(pickle.dumps(store.pinned_to_tenant(ACME)))  # noqa: S301 - our own bytes
    assert copy.verify_materialization(name) == Match()
    assert repr(copy) == repr(store.pinned_to_tenant(ACME))
    assert (copy.root, store.as_admin().root) == (store.root, store.root)


def test_records_are_values(store):
    """A record and a manifest compare, copy and pickle as the values they are."""
    name = build(store, properties={"a": "b"})
    for value in (store.catalog.get_result_table(name), store.read_materialization_manifest(name)):
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.definition_hash = "x"
    json.dumps(store.catalog.get_result_table(name).to_dict())
    again = store.read_materialization_manifest(name).to_json_bytes()
    assert MaterializationManifest.from_json_bytes(again).artifact


def test_shared_data_outlives_one_of_its_rows(store):
    """`B147`: data that another row names, of whatever tenant, is kept until the last one goes."""
    name = build(store)
    path = store.catalog.get_result_table(name).parquet_path
    alias = store.pinned_to_tenant("01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a")
    alias.catalog.create_result_table(
        "alias", source_id="docs", model_id="m", task="ner", parquet_path=path
    )
    alias.delete_table("alias")
    assert store.verify_materialization(name) == Match()
    store.delete_table(name)
    assert store.storage.size(path) is None
