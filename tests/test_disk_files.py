"""What a local root may hold in the place of an object, and how large one may be."""

from __future__ import annotations

import os

import pytest
from support.results import build, row

from jammi_files import (
    Catalog,
    FormatError,
    StorageError,
    connect,
    copy,
    disk_files,
    lease,
    manifest,
    materialization,
    root_format,
    signing,
)
from jammi_files.disk_files import most_bytes
from jammi_files.fsck import Kind, fsck
from jammi_files.local import LocalStorage
from jammi_files.log import key_of
from jammi_files.storage import NoFileError

LIMITS = {
    root_format.KEY: 16 * root_format._MAX_BYTES,
    lease.key_of("t"): lease._MAX_BYTES,
    key_of(1): manifest.MAX_MANIFEST_BYTES,
    "t.materialization.json": materialization.MAX_SIDECAR_BYTES,
    "t.intoto.jsonl": signing.MAX_ENVELOPE_BYTES,
}


@pytest.fixture(params=["pipe", "device"])
def put(request):
    """Return a function that puts what is no file in the place of one."""

    def put_one(path):
        path.unlink(missing_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")

    return put_one


def test_what_is_no_file_is_not_read(tmp_path, put):
    """Nobody waits for a pipe, or reads a device: both are refused by name."""
    put(tmp_path / "k")
    storage = LocalStorage(tmp_path)
    for attempt in (storage.read, storage.peek, storage.open, lambda k: storage.read_many([k])):
        with pytest.raises(NoFileError, match="k' is a pipe, a socket or a device"):
            attempt("k")
    with pytest.raises(StorageError):
        storage.settle("k")


@pytest.mark.parametrize("key", [root_format.KEY, key_of(1)])
def test_in_the_place_of_the_catalog(root, put, key):
    """A root whose objects are none is an error that says so."""
    Catalog.open(root, durability="os").create_result_table(**row("t"))
    put(root / key)
    with pytest.raises(NoFileError, match="is a pipe"):
        _ = Catalog.open(root).version


def test_in_the_place_of_the_lock(root, put):
    """Nor is one taken for the lock, and nothing is written then."""
    catalog = Catalog.open(root, durability="os")
    catalog.create_result_table(**row("t"))
    put(root / "_catalog/lock")
    with pytest.raises(NoFileError, match=r"lock' is a (pipe|link)"):
        Catalog.open(root).create_result_table(**row("u"))
    assert catalog.version == 1


def test_in_the_place_of_a_result(store, root, put):
    """Whoever looks after a root is not stopped by what is no file among the results."""
    names = [build(store) for _ in range(3)]
    for name, suffix in zip(
        names, ("parquet", "materialization.json", "intoto.jsonl"), strict=True
    ):
        put(root / f"{name}.{suffix}")
    (root / "x.parquet").touch()
    put(root / "x.materialization.json")
    found = {each.table_name: each for each in store.verify_all()}
    assert "is a pipe" in found[names[0]].error
    assert "is a pipe" in found[names[1]].error
    assert found[names[2]].ok
    store.recover(reap=True)
    store.catalog.vacuum(0, dry_run=False)
    assert (root / "x.parquet").exists()


@pytest.mark.parametrize("key", LIMITS)
def test_too_large(tmp_path, key):
    """An object that is larger than its reader takes is refused before it is read."""
    path, storage = tmp_path / key, LocalStorage(tmp_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, LIMITS[key])
    assert len(storage.read(key)) == most_bytes(key) == LIMITS[key]
    for size in (LIMITS[key] + 1, 2**40):
        os.truncate(path, size)
        for attempt in (storage.read, storage.peek):
            with pytest.raises(FormatError, match=f"has {size} bytes, over {LIMITS[key]}"):
                attempt(key)


def test_what_has_no_bound():
    """Data, index files and segments may have any size."""
    for key in ("t.parquet", "t.rowmap", f"_catalog/segments/{'0' * 32}.parquet"):
        assert most_bytes(key) is None


def test_too_large_among_others(store, root):
    """What is too large is a finding like other damage, and of no use to vacuum."""
    name = build(store)
    os.truncate(root / f"{name}.materialization.json", 2**40)
    (root / "x.parquet").touch()
    (root / "x.materialization.json").touch()
    os.truncate(root / "x.materialization.json", 2**40)
    kinds = {each.subject: each.kind for each in fsck(store.as_admin().catalog)}
    assert kinds[name] is Kind.DAMAGED_SIDECAR
    store.catalog.vacuum(0, dry_run=False)
    assert (root / "x.parquet").exists()


@pytest.mark.parametrize("seconds", [1e12, -1e12, 2**62])
def test_times_of_any_year(store, root, tmp_path, seconds):
    """Where a file's time is of a year that no calendar has, upkeep goes on as for the last one."""
    name = build(store)
    for path in (root / f"{name}.parquet", root / key_of(1)):
        try:
            os.utime(path, (seconds, seconds))
        except OverflowError:
            pytest.skip("this system has no such time")
    store.catalog.vacuum(0, dry_run=False)
    assert fsck(store.as_admin().catalog) == []
    copy(root, tmp_path / "copy")
    assert connect(root).verify_materialization(name).ok


@pytest.mark.parametrize("seconds", [1e12, -1e12, 2.0**62])
def test_times_that_a_file_system_keeps(seconds):
    """The same where the file system of the tests would not keep such a time."""

    class Entry:
        name, st_size, st_mtime = "k", 1, seconds

        def is_dir(self, **_):
            return False

        def stat(self, **_):
            return self

    year = disk_files.describe(Entry()).modified.year
    assert year == (2262 if seconds > 0 else 1677)
