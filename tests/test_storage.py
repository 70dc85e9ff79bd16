"""The contract of a directory and of memory, and what only a directory has to prove."""

from __future__ import annotations

import errno
import io
import os
import uuid

import fsspec
import pytest
from support.faults import HookedStorage
from support.invariants import check_invariants
from support.results import row
from support.storage_contract import Contract, objects_of

from jammi_files import local
from jammi_files.catalog import Catalog
from jammi_files.errors import ConflictError, StorageError
from jammi_files.local import LocalStorage
from jammi_files.memory import MemoryStorage
from jammi_files.roots import open_storage


class LocalContract(Contract):
    """What holds for a directory under either durability."""

    durability = "fsync"

    @pytest.fixture
    def storage(self, tmp_path):
        return LocalStorage(tmp_path / "not" / "yet", self.durability)

    def test_create_of_nothing(self, storage):
        """`B278`: here an object of no bytes is created exclusively too, unlike in a bucket."""
        storage.create("k", b"")
        for data in (b"", b"second"):
            with pytest.raises(FileExistsError):
                storage.create("k", data)
        assert objects_of(storage) == {"k": b""}


class TestLocalFsync(LocalContract):
    """A directory, synced."""

    def test_every_link_is_durable(self, storage, monkeypatch):
        """`B276`: file synced before its name, directory synced after it, parents before use."""
        calls = _record(monkeypatch)
        storage.create("a/b/k", b"1")
        storage.replace("a/b/k", b"2")
        with storage.writer("a/b/w") as out:
            out.write(b"3")
        root = storage.root
        base = os.path.dirname(os.path.dirname(root))  # noqa: PTH120 - as text
        around = os.path.dirname(base)  # noqa: PTH120 - as text
        parents = [("sync", each) for each in (around, base, f"{base}/not", root)]
        assert calls == [
            *parents,
            ("sync", f"{root}/a/b/k.tmp"),
            ("link", f"{root}/a/b/k"),
            ("sync", f"{root}/a"),
            ("sync", f"{root}/a/b"),
            ("sync", f"{root}/a/b/k.tmp"),
            ("replace", f"{root}/a/b/k"),
            ("sync", f"{root}/a/b"),
            ("sync", f"{root}/a/b/w.tmp"),
            ("link", f"{root}/a/b/w"),
            ("sync", f"{root}/a/b"),
        ]


class TestLocalOs(LocalContract):
    """A directory, left to the operating system."""

    durability = "os"

    def test_nothing_is_synced(self, storage, monkeypatch):
        """`B276`: ``durability="os"`` costs no sync at all, and still only links are published."""
        calls = _record(monkeypatch)
        storage.create("a/k", b"1")
        storage.replace("a/k", b"2")
        root = storage.root
        assert calls == [("link", f"{root}/a/k"), ("replace", f"{root}/a/k")]


class TestLocalWithoutHardLinks(LocalContract):
    """A directory on a file system that knows no hard links."""

    durability = "os"

    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch):
        def refuse(*_):
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)

    def test_catalog(self, storage):
        """`B278`: the whole commit protocol works there, the lock being held already."""
        catalog = Catalog(storage)
        catalog.create_result_table(**row("t"))
        with catalog.transaction() as tx:
            tx.update_result_table_status("t", "building", 3)
        assert Catalog(self.again(storage)).get_result_table("t").row_count == 3
        check_invariants(storage)


class TestMemory(Contract):
    """fsspec's in-process file system."""

    processes = False

    @pytest.fixture
    def storage(self):
        root = f"memory://{uuid.uuid4().hex}"
        yield MemoryStorage(root)
        fs = fsspec.filesystem("memory")
        if fs.exists(root):
            fs.rm(root, recursive=True)


class TestWholeMemory(Contract):
    """All of fsspec's in-process file system: a root without a name."""

    processes = False

    @pytest.fixture(params=["memory://", "memory:///"])
    def storage(self, request):
        store = fsspec.filesystem("memory").store
        others = dict(store)
        store.clear()
        yield MemoryStorage(request.param)
        store.clear()
        store.update(others)

    def test_catalog(self, storage):
        """`B048`: it is a root like any other, and what lies in it has a relative path."""
        catalog = Catalog(open_storage(storage.root))
        record = catalog.create_result_table(**row("t", parquet_path="memory://t.parquet"))
        assert record.parquet_path == "t.parquet"
        assert storage.url("t.parquet") == "memory://t.parquet"
        check_invariants(storage)


def test_temporary_names(tmp_path):
    """`B257`: a temporary file stands beside its target as ``<target>.<8 hex>.tmp``."""
    storage = LocalStorage(tmp_path, "os")
    out = storage.writer("t.parquet")
    (name,) = storage.list("")
    out.abort()
    stem, token, suffix = name.rsplit(".", 2)
    assert (stem, suffix) == ("t.parquet", "tmp")
    assert len(token) == 8
    assert int(token, 16) >= 0


def test_lock_gives_up(tmp_path, monkeypatch):
    """`B274`, `B278`: one opening of a root keeps out every other; who waits too long is told."""
    monkeypatch.setattr(local, "LOCK_TIMEOUT", 0.01)
    with (
        LocalStorage(tmp_path).lock(),
        pytest.raises(ConflictError, match="nothing was changed"),
        LocalStorage(tmp_path).lock(),
    ):
        pass
    with LocalStorage(tmp_path).lock():
        pass


def test_root_is_a_file(tmp_path):
    """`B049`: a root that is a file is refused by name."""
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(StorageError, match="is a file"):
        open_storage(file)


def test_file_in_place_of_a_directory(tmp_path):
    """A key below a file is a `StorageError` that names the object, for reads and writes."""
    storage = LocalStorage(tmp_path)
    storage.create("file", b"")
    for attempt in (storage.read, storage.size, storage.open, storage.list, storage.delete):
        with pytest.raises(StorageError, match="file/below"):
            attempt("file/below")
    for attempt in (storage.create, storage.replace):
        with pytest.raises(StorageError, match="file/below"):
            attempt("file/below", b"1")


@pytest.mark.parametrize("call", ["open", "mkdir"])
def test_no_permission(call, tmp_path, monkeypatch):
    """A directory that may not be written is a `StorageError`, and reading goes on."""
    catalog = Catalog.open(tmp_path / "root")
    if call == "open":
        catalog.create_result_table(**row("t"))

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        if call == "open":
            patch.setattr(local, "open", refuse, raising=False)
        else:
            patch.setattr(os, "mkdir", refuse)
        with pytest.raises(StorageError, match="Permission denied"):
            catalog.create_result_table(**row("u"))
    names = [fields["table_name"] for fields in catalog.scan(columns=["table_name"]).to_pylist()]
    assert names == (["t"] if call == "open" else [])
    catalog.create_result_table(**row("u"))
    check_invariants(tmp_path / "root")


class _FullDisk(io.FileIO):
    """A file on a disk that has no room: the system's own buffering stands before it."""

    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def _fill(monkeypatch):
    full = lambda path, mode: io.BufferedWriter(_FullDisk(path, mode))  # noqa: E731
    monkeypatch.setattr(local, "open", full, raising=False)


@pytest.mark.parametrize("size", [100, 100_000])
@pytest.mark.parametrize("way", ["create", "replace", "writer"])
def test_disk_full(size, way, tmp_path, monkeypatch):
    """`B275`: a full disk is a `StorageError`; nothing is left, not even a temporary file."""
    storage = LocalStorage(tmp_path)
    storage.create("k", b"old")
    _fill(monkeypatch)

    def write():
        with storage.writer("new") as out:
            out.write(b"x" * size)

    ways = {
        "create": lambda: storage.create("new", b"x" * size),
        "replace": lambda: storage.replace("k", b"x" * size),
        "writer": write,
    }
    with pytest.raises(StorageError, match="No space left"):
        ways[way]()
    assert objects_of(storage) == {"k": b"old"}


def test_disk_full_on_commit(tmp_path, monkeypatch):
    """`B275`, `B276`: a commit on a full disk changes nothing; reads go on, and later commits."""
    catalog = Catalog.open(tmp_path)
    catalog.create_result_table(**row("t"))
    with monkeypatch.context() as patch:
        _fill(patch)
        with pytest.raises(StorageError, match="No space left"):
            catalog.create_result_table(**row("u"))
        assert catalog.version == 1
        assert catalog.get_result_table("u") is None
        assert catalog.get_result_table("t").row_count == 0
    check_invariants(tmp_path)
    catalog.create_result_table(**row("u"))
    assert Catalog.open(tmp_path).version == 2


def test_full_disk_never_breaks_the_catalog(tmp_path, monkeypatch):
    """`B276`: whatever a full disk raises, the version that was being written is not there."""
    catalog = Catalog.open(tmp_path)
    catalog.create_result_table(**row("t"))
    with monkeypatch.context() as patch:
        _fill(patch)
        with pytest.raises(OSError, match="No space left"):
            catalog.create_result_table(**row("u"))
    assert Catalog.open(tmp_path).version == 1
    catalog.create_result_table(**row("u"))
    assert Catalog.open(tmp_path).version == 2


def test_hooked_storage_is_a_storage(tmp_path):
    """The wrappers of these tests change nothing by themselves."""
    seen = []
    storage = HookedStorage(LocalStorage(tmp_path), lambda *event: seen.append(event))
    Catalog(storage).create_result_table(**row("t"))
    assert Catalog.open(tmp_path).get_result_table("t") is not None
    assert len(seen) % 2 == 0


def _record(monkeypatch):
    """Record what is synced, linked and replaced, in order, temporary names made plain."""
    calls, sync, link, replace = [], os.fsync, os.link, os.replace

    def plain(path):
        parts = str(path).split(".")
        return ".".join([*parts[:-2], "tmp"]) if parts[-1] == "tmp" else str(path)

    def spy_sync(descriptor):
        calls.append(("sync", plain(os.readlink(f"/proc/self/fd/{descriptor}"))))  # noqa: PTH115
        sync(descriptor)

    def spy_link(source, target):
        calls.append(("link", plain(target)))
        link(source, target)

    def spy_replace(source, target):
        calls.append(("replace", plain(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_sync)
    monkeypatch.setattr(os, "link", spy_link)
    monkeypatch.setattr(os, "replace", spy_replace)
    return calls
