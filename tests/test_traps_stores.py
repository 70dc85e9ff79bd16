"""What stores and their clients do that bit other catalogs: each trap is a test that names it."""

from __future__ import annotations

import hashlib
import json
import random
import re
from urllib.parse import quote

import pyarrow as pa
import pytest
from support.buckets import Bucket
from support.results import DATA, DESCRIPTOR, ENV, INPUTS, TABLE, build, row, rows
from support.servers.backends import CARELESS, FAST, HONEST, backends
from support.servers.guarded import opaque_tags, unordered
from support.servers.plain import split
from support.threads import begin
from support.witness import objects_in, unfinished_in

from jammi_files import Catalog, Match, StorageError, definition_hash, numbering
from jammi_files.draft import SEGMENTS
from jammi_files.fsck import fsck
from jammi_files.lease import BUILDS
from jammi_files.log import PREFIX, key_of
from jammi_files.root_format import PROBES

CLIENTS = backends("moto", "gcs", "azurite")
"""One server for each client library: s3fs, gcsfs, adlfs."""

LIMIT = 120.0
MIB = 2**20
ONE_PUT = {"moto": 100 * MIB, "gcs": 50 * MIB, "azurite": 64 * MIB}
"""From how many bytes on each client sends a body in parts."""


@pytest.fixture
def bucket(server):
    return Bucket(server)


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


# --- 11 to 13: what is asked, and what is never written


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_11_there_is_no_pointer_to_the_newest_version(bucket):
    """`trap 11`: every object is created under the condition that there is none, and stays.

    Only the side objects of running builds are replaced.
    """
    with bucket.server.log.counting() as seen:
        name = build(bucket.store)
        bucket.catalog.create_result_tables(rows(*(f"n{number:03}" for number in range(200))))
        bucket.catalog.set_checkpoint("t", 1)
        bucket.catalog.set_checkpoint("t", 2)
        bucket.catalog.compact()
    written = [one for one in seen if one.method in ("PUT", "POST")]
    assert len(written) >= 8
    unconditional = [
        one.key
        for one in written
        if "if-none-match" not in one.headers and "ifGenerationMatch=0" not in one.query
    ]
    assert len(unconditional) == 2
    assert all(BUILDS in key for key in unconditional)
    assert {f"{name}.parquet", f"{name}.materialization.json"} <= set(bucket.objects())


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_12_an_open_lists_two_groups_of_versions(bucket, monkeypatch):
    """`trap 12`: however long the history, an open lists the groups, then the newest group."""
    monkeypatch.setattr(numbering, "GROUP", 8)
    for number in range(40):
        bucket.catalog.update_result_table_status("t", "building", number)
    with bucket.server.log.counting() as seen:
        assert bucket.connect().catalog.get_result_table("t").row_count == 39
    lists = [one for one in seen if "/" not in one.key]
    assert len(lists) == 2
    assert re.search("0{16}5", lists[1].query)
    assert bucket.connect().catalog.version == 41


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_13_readers_write_nothing(bucket):
    """`trap 13`: opening, asking, verifying, judging, planning: no request changes anything."""
    name = build(bucket.store)
    with bucket.server.log.counting() as seen:
        reader = bucket.connect()
        reader.catalog.scan()
        reader.catalog.history()
        reader.lookup_cached(definition_hash(DESCRIPTOR, ENV), INPUTS)
        assert reader.verify_materialization(name) == Match()
        reader.staleness_all(check_bytes="digest")
        reader.open_table(name).to_table()
        reader.recover(dry_run=True)
        reader.catalog.vacuum(0, dry_run=True)
        fsck(reader.catalog)
    assert set(seen.methods) <= {"GET", "HEAD"}


# --- 14: caches of listings


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_trap_14_what_another_process_did_is_seen_at_once(server):
    """`trap 14`: no listing, size or content is remembered, neither of what was there nor not."""
    bucket = Bucket(server)
    mine, others = bucket.storage(), bucket.storage()
    path, files = mine.arrow_path("d/k")

    def seen():
        return (
            mine.list("d"),
            [(info.name, info.size) for info in mine.list_objects("d")],
            mine.size("d/k"),
            mine.peek("d/k"),
            files.get_file_info(path).size,
        )

    assert seen() == ([], [], None, None, None)
    others.create("d/k", b"one")
    assert seen() == (["k"], [("k", 3)], 3, b"one", 3)
    others.replace("d/k", b"other")
    assert seen() == (["k"], [("k", 5)], 5, b"other", 5)
    others.delete("d/k")
    assert seen() == ([], [], None, None, None)


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_14_reads_are_whole(server):
    """`trap 14`: a large object comes back with all its bytes, whole and by ranges."""
    storage = Bucket(server).storage()
    data = noise(9 * MIB + 1)
    storage.create("k", data)
    assert storage.read("k") == data
    with storage.open("k") as file:
        assert file.read() == data
        file.seek(-1, 2)
        assert file.read() == data[-1:]
    assert storage.read_range("k", 5 * MIB, len(data)) == data[5 * MIB :]


# --- 15: files that are written


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
@pytest.mark.parametrize("size", [10, 20 * MIB], ids=["small", "parts"])
def test_trap_15_an_exception_commits_no_partial_file(bucket, size):
    """`trap 15`: a block that raises leaves no object, nor parts of one."""
    table = pa.table({"noise": [noise(size // 5, seed) for seed in range(5)]})

    def fail():
        with bucket.store.build(*TABLE, descriptor=DESCRIPTOR, env=ENV, inputs=INPUTS) as out:
            out.write(table)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [key for key in bucket.objects() if "/" not in key] == []
    if bucket.server.dialect != "az":  # which forgets the blocks in a week
        assert unfinished_in(bucket.storage()) == []
    (failed,) = bucket.catalog.list_result_tables_by_status("failed")
    assert "ZeroDivisionError" in failed.properties["error"]


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_15_a_writer_does_not_overwrite(server):
    """`trap 15`: what is written in parts does not replace what came meanwhile."""
    bucket = Bucket(server)
    storage = bucket.storage()
    out = storage.writer("k")
    out.write(noise(17 * MIB))
    bucket.storage().create("k", b"first")
    with pytest.raises(FileExistsError):
        out.publish()
    assert storage.read("k") == b"first"


# --- 17: what the documentation of the stores says


def test_trap_17_listings_in_no_order(guarded, monkeypatch):
    """`trap 17`: directory buckets list in no order; versions are found and told in theirs."""
    bucket = Bucket(guarded)
    monkeypatch.setattr(numbering, "GROUP", 5)
    for number in range(23):
        bucket.catalog.update_result_table_status("t", "building", number)
    guarded.guard = unordered
    catalog = bucket.connect().catalog
    assert catalog.version == 24
    assert [info.version for info in catalog.history()] == list(range(1, 25))
    assert bucket.errors() == []
    assert catalog.vacuum(0, dry_run=False).versions_retired == 23


@pytest.mark.parametrize("size", [10, 20 * MIB], ids=["small", "parts"])
def test_trap_17_entity_tags_are_no_digests(guarded, size):
    """`trap 17`: what the store calls an object's tag decides nothing: the digest is our own."""
    bucket = Bucket(guarded)
    guarded.guard = opaque_tags
    table = pa.table({"noise": [noise(size // 5, seed) for seed in range(5)]})
    with bucket.store.build(*TABLE, descriptor=DESCRIPTOR, env=ENV, inputs=INPUTS) as out:
        out.write(table)
    reader = bucket.connect()
    assert reader.verify_materialization(out.table_name) == Match()
    data = bucket.objects()[f"{out.table_name}.parquet"]
    anchor = reader.result_digest_anchor(out.table_name)
    assert anchor.anchor == hashlib.sha256(data).hexdigest()
    assert reader.open_table(out.table_name).to_table() == table


def test_trap_17_replaced_objects_are_not_cached(gcs_server):
    """`trap 17`: public objects of GCS are cached for an hour, but not those that may change."""
    bucket = Bucket(gcs_server)
    bucket.catalog.set_checkpoint("t", 1)
    bucket.catalog.update_result_table_status("t", "building", 1)
    bucket.catalog.vacuum(0, dry_run=False)
    for key in (f"{BUILDS}/t.json", key_of(1)):
        name, path = split(f"{bucket.root}/{key}")
        answer = gcs_server.request("GET", f"/storage/v1/b/{name}/o/{quote(path, safe='')}")
        assert json.loads(answer.body)["cacheControl"] == "no-store"


@pytest.mark.parametrize("server", [*FAST, *CARELESS], indirect=True)
def test_trap_17_a_store_that_ignores_the_condition(server):
    """`trap 17`: a store that overwrites is refused before the first write, and left as it was.

    So do some emulators, and zonal buckets of GCS.
    """
    root, options = server.root()
    catalog = Catalog.open(root, storage_options=options, cache_dir="off")
    with server.faults.ignoring_preconditions(), server.log.counting() as seen:
        assert catalog.version == 0
        for _ in range(2):
            with pytest.raises(StorageError, match="overwrites an object that was to be created"):
                catalog.create_result_table(**row("t"))
    written = {one.key for one in seen if one.method in ("PUT", "POST")}
    assert written
    assert all(PROBES in key for key in written)
    assert objects_in(catalog.storage) == {}


# --- 18: bodies


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_18_an_empty_body(server):
    """`trap 18`: an empty object cannot be created exclusively: refused, nothing is sent."""
    storage = Bucket(server).storage()
    with server.log.counting() as seen, pytest.raises(StorageError, match="would be empty"):
        storage.create("k", b"")
    assert seen == []
    with storage.writer("w") as out, pytest.raises(StorageError, match="would be empty"):
        out.publish()
    assert storage.size("w") is None


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_18_a_body_above_one_put(server, request):
    """`trap 18`: a body that the client sends in parts is created exclusively all the same."""
    bucket, size = Bucket(server), ONE_PUT[request.node.callspec.params["server"]] + 1
    storage, data = bucket.storage(), noise(size)
    storage.create("k", data)
    with pytest.raises(FileExistsError):
        bucket.storage().create("k", data[::-1])
    storage.create("k", data)  # the same bytes: this very create
    with storage.open("k") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_18_a_race_above_one_put(server, request):
    """`trap 18`: of two such creates at once one wins, and the other one learns that it did not."""
    bucket, size = Bucket(server), ONE_PUT[request.node.callspec.params["server"]] + 1

    def create(seed):
        data = noise(size, seed)
        try:
            bucket.storage().create("k", data)
        except FileExistsError:
            return None
        return data

    made = [each.result(LIMIT) for each in [begin(create, seed) for seed in range(2)]]
    (winner,) = filter(None, made)
    assert bucket.storage().read("k") == winner


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_18_a_commit_is_one_put(bucket):
    """`trap 18`: however large the rows, the manifest that commits them is one small put."""
    huge = {"text": noise(6 * MIB).hex()}
    with bucket.server.log.counting() as seen:
        bucket.catalog.create_result_table(**row("huge", properties=huge))
    (commit,) = seen.matching(key=re.escape(key_of(2)))
    assert commit.sent < MIB
    assert seen.count(key=SEGMENTS) == 1
    assert bucket.connect().catalog.get_result_table("huge").properties == huge
    assert [key for key in bucket.objects() if key.startswith(PREFIX)] == [key_of(1), key_of(2)]
    assert bucket.store.open_table(build(bucket.store)).to_table() == DATA
