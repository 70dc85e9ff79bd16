"""The contract of every storage, and what only a local directory has to prove."""

from __future__ import annotations

import errno
import io
import os
import pickle
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from support.faults import HookedStorage
from support.invariants import check_invariants
from support.results import row
from support.roots import contents

from jammi_files import local
from jammi_files.catalog import Catalog
from jammi_files.errors import ConflictError, InvalidInputError, StateError, StorageError
from jammi_files.local import LocalStorage
from jammi_files.memory import MemoryStorage
from jammi_files.roots import open_storage

WRITERS, ROUNDS = 16, 100
LIMIT = 60.0


@pytest.fixture
def _hasty():
    """Let threads change places as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Contract:
    """What `jammi_files.storage.Storage` promises; a subclass says of which storage."""

    @pytest.fixture
    def storage(self):
        raise NotImplementedError

    def again(self, storage):
        """Return a second storage of the same root, as another process would have."""
        return pickle.loads(pickle.dumps(storage))  # noqa: S301 - our own bytes

    @pytest.mark.usefixtures("_hasty")
    def test_create_has_one_winner(self, storage):
        """`B278`, `B280`: of 16 racing creators of one key exactly one wins, in each round."""
        storages = [storage, self.again(storage)]
        barrier = threading.Barrier(WRITERS)

        def race(key, number):
            data = f"{number}".encode() * 1000
            barrier.wait(LIMIT)
            try:
                storages[number % 2].create(key, data)
            except FileExistsError:
                return None
            return data

        with ThreadPoolExecutor(WRITERS) as pool:
            for number in range(ROUNDS):
                key = f"race/{number}"
                won = list(pool.map(race, [key] * WRITERS, range(WRITERS)))
                winners = [data for data in won if data is not None]
                assert winners == [storage.read(key)]
        assert storage.list("race") == sorted(map(str, range(ROUNDS)))

    def test_create_is_exclusive(self, storage):
        """`B278`: a key that exists is not created again and keeps its bytes, even no bytes."""
        for first in (b"first", b""):
            key = f"k{len(first)}"
            storage.create(key, first)
            with pytest.raises(FileExistsError):
                storage.create(key, b"second")
            with pytest.raises(FileExistsError), storage.writer(key) as out:
                out.write(b"third")
            assert storage.read(key) == first
        assert sorted(_objects(storage)) == ["k0", "k5"]

    def test_read_what_was_written(self, storage):
        """An object is its bytes, whole, by every way to read it."""
        data = bytes(range(256)) * 5000
        storage.create("deep/down/object", data)
        assert storage.read("deep/down/object") == data
        assert storage.size("deep/down/object") == len(data)
        with storage.open("deep/down/object") as file:
            assert file.seek(1000) == 1000
            assert file.read(24) == data[1000:1024]
            assert file.seek(-8, io.SEEK_END) == len(data) - 8
            assert file.read() == data[-8:]

    def test_absent(self, storage):
        """What is not there is not found, has no size, is in no list, and is deleted in vain."""
        with pytest.raises(FileNotFoundError):
            storage.read("none")
        with pytest.raises(FileNotFoundError):
            storage.open("none")
        assert storage.size("none") is None
        assert storage.list("none/below") == []
        assert storage.delete("none/at/all") is False
        assert _objects(storage) == {}

    def test_replace(self, storage):
        """`replace` creates what is absent and overwrites what is there, larger or smaller."""
        for data in (b"one", b"three and more", b"", b"4"):
            storage.replace("builds/t.json", data)
            assert storage.read("builds/t.json") == data
        assert list(_objects(storage)) == ["builds/t.json"]

    def test_replace_shows_old_or_new(self, storage):
        """`B277`: a reader of an object that is replaced all the time never sees a torn one."""
        bodies = [bytes([number]) * (1 << 16) for number in range(4)]
        storage.create("k", bodies[0])
        done = threading.Event()

        def read():
            seen = set()
            while not done.is_set():
                seen.add(storage.read("k"))
            return seen

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            for number in range(200):
                storage.replace("k", bodies[number % 4])
            done.set()
            for reader in readers:
                assert reader.result(LIMIT) <= set(bodies)

    def test_list(self, storage):
        """A list is sorted, names only what lies directly under the prefix, and is never stale."""
        for key in ("b", "a", "d/x", "d/y", "d/e/f", "dd"):
            storage.create(key, b"1")
        assert _names(storage) == ["a", "b", "d", "dd"]
        assert storage.list("d") == ["e", "x", "y"]
        storage.create("d/w", b"1")
        storage.delete("d/y")
        assert storage.list("d") == ["e", "w", "x"]

    def test_delete(self, storage):
        """A deleted object is gone at once, and its key can be created again."""
        storage.create("k", b"1")
        assert storage.delete("k") is True
        assert storage.size("k") is None
        assert storage.delete("k") is False
        storage.create("k", b"2")
        assert storage.read("k") == b"2"

    def test_writer_shows_nothing_before_publish(self, storage):
        """`B273`: an object on its way is not there; published, it is there whole."""
        out = storage.writer("dir/k")
        out.write(b"half")
        assert storage.size("dir/k") is None
        assert "k" not in storage.list("dir")
        out.write(b" and half")
        out.publish()
        assert storage.read("dir/k") == b"half and half"
        out.abort()
        out.publish()
        assert _objects(storage) == {"dir/k": b"half and half"}
        with pytest.raises(StateError):
            out.write(b"more")

    def test_writer_aborted(self, storage):
        """`B275`: an aborted or failed writer leaves nothing, not even a temporary name."""
        out = storage.writer("dir/k")
        out.write(b"x" * 100_000)
        out.abort()
        out = storage.writer("dir/k")

        def interrupted():
            with out:
                out.write(b"x" * 100_000)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert _objects(storage) == {}
        with pytest.raises(StateError):
            out.write(b"more")

    def test_writers_race(self, storage):
        """`B090`: of two writers of one key the first to publish wins, the other leaves nothing."""
        first, second = storage.writer("k"), storage.writer("k")
        first.write(b"first")
        second.write(b"second")
        second.publish()
        with pytest.raises(FileExistsError):
            first.publish()
        assert _objects(storage) == {"k": b"second"}

    @pytest.mark.parametrize("key", ["../k", "a/../../k", "/etc/k", "a/..", "..", "a\0b"])
    def test_keys_stay_under_the_root(self, storage, key):
        """`B054`: a key that leaves the root is refused by every operation."""
        for attempt in (
            storage.read,
            storage.size,
            storage.open,
            lambda key: storage.writer(key).publish(),
            storage.list,
            storage.delete,
            lambda key: storage.create(key, b""),
            lambda key: storage.replace(key, b""),
        ):
            with pytest.raises(InvalidInputError, match="leaves the root"):
                attempt(key)

    def test_lock_is_not_for_the_same_thread_twice(self, storage):
        """A thread that holds the lock is told so instead of waiting for itself for ever."""
        with storage.lock(), pytest.raises(StateError), storage.lock():
            pass
        with storage.lock():
            pass

    def test_lock_excludes_threads(self, storage):
        """`B274`: two threads never hold the lock of one storage at once; a raise lets it go."""
        inside, most = [], []

        def hold(number):
            try:
                with storage.lock():
                    inside.append(number)
                    most.append(len(inside))
                    inside.remove(number)
                    raise KeyError(number)
            except KeyError:
                return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(hold, range(200), timeout=LIMIT))
        assert set(most) == {1}

    def test_relative(self, storage):
        """`B055`: a location under the root becomes a key, any other stays as it is."""
        assert storage.relative(storage.url("t.parquet")) == "t.parquet"
        assert storage.relative("t.parquet") == "t.parquet"
        assert storage.relative("s3://other/t.parquet") == "s3://other/t.parquet"
        assert storage.relative(storage.url("")) == storage.url("")

    def test_pickled(self, storage):
        """A storage can be sent to another process: it serves the same root there."""
        storage.create("k", b"1")
        assert self.again(storage).read("k") == b"1"


class LocalContract(Contract):
    """What holds for a directory under either durability."""

    durability = "fsync"

    @pytest.fixture
    def storage(self, tmp_path):
        return LocalStorage(tmp_path / "not" / "yet", self.durability)


class TestLocalFsync(LocalContract):
    """A directory, synced."""

    def test_every_link_is_durable(self, storage, monkeypatch):
        """`B276`: file synced before its name, directory synced after it, parents as they grow."""
        calls = _record(monkeypatch)
        storage.create("a/b/k", b"1")
        storage.replace("a/b/k", b"2")
        with storage.writer("a/b/w") as out:
            out.write(b"3")
        root = storage.root
        base = os.path.dirname(os.path.dirname(root))  # noqa: PTH120 - as text
        made = [("sync", base), ("sync", f"{base}/not"), ("sync", root), ("sync", f"{root}/a")]
        assert calls == [
            *made,
            ("sync", f"{root}/a/b/k.tmp"),
            ("link", f"{root}/a/b/k"),
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

    @pytest.fixture
    def storage(self):
        root = f"memory://{uuid.uuid4().hex}"
        yield MemoryStorage(root)
        fs = fsspec.filesystem("memory")
        if fs.exists(root):
            fs.rm(root, recursive=True)


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
    assert _objects(storage) == {"k": b"old"}


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


def _objects(storage):
    """Return everything that lies under the root, but for the file of the lock."""
    return {key: data for key, data in contents(storage).items() if key != "_catalog/lock"}


def _names(storage):
    return [name for name in storage.list("") if name != "_catalog"]


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
