"""A root copied into a bucket and out of it again, on each kind of store."""

from __future__ import annotations

import pytest
from support.copies import opened, rows_of, shown
from support.invariants import check_invariants
from support.results import DATA, build
from support.roots import BucketRoots, contents
from support.servers.backends import FAST, HONEST
from support.servers.controls import Fault, Rule

import jammi_files
from jammi_files import copy_objects, fsck, root_format
from jammi_files.catalog import Catalog
from jammi_files.copy_objects import Pair
from jammi_files.copy_root import copy_root
from jammi_files.errors import StateError, StorageError
from jammi_files.local import LocalStorage
from jammi_files.roots import open_storage

LEFT = {fsck.Kind.ORPHAN_OBJECT, fsck.Kind.ORPHAN_SEGMENT}


@pytest.fixture
def source(tmp_path, small_runs):  # noqa: ARG001 - segments and merges want few rows
    storage = LocalStorage(tmp_path / "source", "os")
    store = opened(storage)
    for _ in range(4):
        build(store)
    return storage


def both(source, target):
    return copy_root(Pair(source, target, verify=True))


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_into_a_bucket_and_out_again(server, source, tmp_path):
    """A copy in a bucket shows what the source shows; brought forward, and copied out, it does."""
    bucket = BucketRoots(server).new()
    back = LocalStorage(tmp_path / "back", "os")
    assert both(source, bucket).ok
    for number in range(2):
        names = [build(opened(source)) for _ in range(3)]
        report = both(source, bucket)
        assert (report.ok, report.since) == (True, 8 + 6 * number)
        assert both(bucket, back).ok
        for storage in (bucket, back):
            assert rows_of(storage) == rows_of(source)
            check_invariants(storage, LEFT)
            assert opened(storage).open_table(names[0]).to_table() == DATA
        here, there = shown(source), shown(back)
        assert {key for key, data in there.items() if here.get(key) != data} == set()
    assert root_format.read(bucket).stores == (bucket.store,)
    assert both(source, bucket).copied == both(bucket, back).copied == 0


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_into_a_store_that_ignores_conditions(server, source):
    """A copy there is refused like any first write: nobody could commit to it safely."""
    bucket = BucketRoots(server).new()
    with (
        server.faults.ignoring_preconditions(),
        pytest.raises(StorageError, match="overwrites an object that was to be created only if"),
    ):
        both(source, bucket)
    assert contents(bucket) == {}


def test_again_sends_nothing(s3_server, source):
    """A copy of what has not changed sends no object and asks for no data."""
    bucket = BucketRoots(s3_server).new()
    both(source, bucket)
    with s3_server.log.counting() as seen:
        both(source, bucket)
    assert {one.method for one in seen} <= {"GET", "HEAD"}
    data = [one.key for one in seen if one.key.endswith(".parquet") and "_catalog" not in one.key]
    assert data == []


def test_large_objects_go_in_parts(s3_server, source, monkeypatch):
    """What is larger than a part is streamed, whole at the other end."""
    monkeypatch.setattr("jammi_files.objects.PART_BYTES", 5 << 20)
    monkeypatch.setattr(copy_objects, "BLOCK", 1 << 20)
    store = opened(source)
    store.catalog.create_result_table(
        "large", source_id="docs", model_id="m", task="ner", parquet_path="large.parquet"
    )
    source.create("large.parquet", bytes(range(256)) * 50_000)
    store.catalog.update_result_table_status("large", "ready", 1)
    bucket = BucketRoots(s3_server).new()
    assert both(source, bucket).ok
    assert bucket.read("large.parquet") == source.read("large.parquet")


def test_an_empty_object(s3_server, source):
    """An empty file that no row names gets into a bucket, which cannot create it exclusively."""
    bucket = BucketRoots(s3_server).new()
    source.replace("notes/empty", b"")
    assert copy_root(Pair(source, bucket, verify=True), foreign=True).ok
    assert bucket.size("notes/empty") == 0


def test_lost_answers(s3_server, source):
    """A store whose answers are lost now and then gets a whole copy all the same."""
    bucket = BucketRoots(s3_server).new()
    s3_server.faults.add(Rule(Fault.LOST_RESPONSE, methods=("PUT",), times=4))
    assert both(source, bucket).ok
    assert rows_of(bucket) == rows_of(source)
    check_invariants(bucket)


def test_a_store_that_refuses_in_the_middle(s3_server, source):
    """A copy that the store cuts short cannot be opened, and is finished by the next call."""
    bucket = BucketRoots(s3_server).new()
    rule = Rule(Fault.REFUSED_403, "manifest", methods=("PUT",), times=1)
    s3_server.faults.add(rule)
    with pytest.raises(StorageError):
        both(source, bucket)
    s3_server.faults.clear()
    with pytest.raises(StateError, match="unfinished"):
        Catalog(bucket)
    report = both(source, bucket)
    assert (report.ok, report.resumed) == (True, True)
    assert report.present > 0
    assert rows_of(bucket) == rows_of(source)
    check_invariants(bucket)


def test_by_url(s3_server, source, tmp_path):
    """`copy` takes the storage options of either side, and keeps nothing in the cache."""
    url, options = s3_server.root()
    there = f"{url}/copy"
    jammi_files.copy(source.root, there, dst_storage_options=options)
    report = jammi_files.copy(there, tmp_path / "out", src_storage_options=options)
    assert report.ok
    assert rows_of(LocalStorage(tmp_path / "out")) == rows_of(source)
    assert rows_of(open_storage(there, storage_options=options)) == rows_of(source)
