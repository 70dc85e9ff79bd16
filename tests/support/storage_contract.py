"""What every storage promises: one class of tests that runs unchanged against each of them.

A subclass gives the fixture ``storage``, and `Contract.left` if more than objects can be left over.
"""

from __future__ import annotations

import datetime as dt
import io
import multiprocessing
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest
from support.processes import run_together
from support.results import DATA
from support.roots import contents

from jammi_files import objects
from jammi_files.errors import InvalidInputError, StateError, StorageError
from jammi_files.storage import AmbiguousError

WRITERS, ROUNDS = 16, 100
LIMIT = 60.0
PART = 5 << 20  # bytes; the least that S3 takes for a part that is not the last

NAMES = [
    "a b",
    " a  b ",
    "100%",
    "%20",
    "a%2Fb%23",
    "a#b",
    "a#123",
    "a?b",
    "a?versionId=1",
    "a?versionid=2026-01-01T00:00:00.0000000Z",
    "a?generation=5",
    "a+b",
    "a&b=c;d,e:f@g",
    "*[q]?{x}**",
    "$~!'()\"<>|^`",
    "http:",
    "~",
    "é日本",
    "e\u0301",
    "\U0001f600",
    "x" * 200,
]
"""What means something to a URL, a glob, a shell or a backend, and is but a part of a name here."""


class Contract:
    """What `jammi_files.storage.Storage` promises; a subclass says of which storage."""

    processes = True
    """Whether another process can see the same root."""

    @pytest.fixture
    def storage(self):
        raise NotImplementedError

    @pytest.fixture
    def _hasty(self):
        """Let threads change places as often as the interpreter can."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(interval)

    @pytest.fixture
    def _small_parts(self, monkeypatch):
        """Send an object in parts from 5 MiB on."""
        monkeypatch.setattr(objects, "PART_BYTES", PART)

    def again(self, storage):
        """Return a second storage of the same root, as another process would have."""
        return pickle.loads(pickle.dumps(storage))  # noqa: S301 - our own bytes

    def left(self, _storage):
        """Return what a reader does not see and yet takes room."""
        return []

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
        storage.create("k", b"first")
        storage.create("retired", b"first")
        storage.retire("retired")
        for key, kept in (("k", b"first"), ("retired", b"")):
            with pytest.raises(FileExistsError):
                storage.create(key, b"second")
            with pytest.raises(FileExistsError), storage.writer(key) as out:
                out.write(b"third")
            assert storage.read(key) == storage.peek(key) == kept
        assert sorted(objects_of(storage)) == ["k", "retired"]

    def test_a_key_without_bytes_is_taken(self, storage):
        """Where nothing says whose an empty object was, whoever creates it is not told of success.

        In a bucket its own answer may have been lost, so that is doubt; elsewhere it is certain.
        """
        storage.replace("emptied", b"")
        with pytest.raises((FileExistsError, AmbiguousError)):
            storage.create("emptied", b"second")
        assert storage.read("emptied") == b""

    def test_retire(self, storage):
        """What is retired reads as empty, however often it is, and keeps its key."""
        storage.create("k", b"first")
        for _ in range(2):
            storage.retire("k")
            assert storage.read("k") == b""
            assert "k" in storage.list("")

    def test_retire_what_is_lost(self, storage):
        """A key whose object is gone is taken again, without bytes."""
        storage.retire("k")
        assert storage.read("k") == b""
        with pytest.raises((FileExistsError, AmbiguousError)):
            storage.create("k", b"second")

    def test_read_what_was_written(self, storage):
        """An object is its bytes, whole, by every way to read it."""
        data = bytes(range(256)) * 5000
        storage.create("deep/down/object", data)
        assert storage.read("deep/down/object") == data
        assert storage.peek("deep/down/object") == data
        assert storage.size("deep/down/object") == len(data)
        with storage.open("deep/down/object") as file:
            assert file.seek(1000) == 1000
            assert file.read(24) == data[1000:1024]
            assert file.tell() == 1024
            assert file.seek(-8, io.SEEK_END) == len(data) - 8
            assert file.read() == data[-8:]
            assert file.read(1) == b""
            file.seek(0)
            assert file.read() == data

    def test_read_many(self, storage):
        """Whole objects come in the order of their keys, each as often as it is named."""
        for number in range(40):
            storage.create(f"many/{number}", b"%d" % number)
        keys = [f"many/{number}" for number in (*reversed(range(40)), 7, 7)]
        assert storage.read_many(keys) == [key[5:].encode() for key in keys]
        assert storage.read_many([]) == []
        with pytest.raises(FileNotFoundError):
            storage.read_many([*keys, "many/none"])

    def test_absent(self, storage):
        """What is not there is not found, has no size, is in no list, and is deleted in vain."""
        for key in ("none", "none/at/all"):
            with pytest.raises(FileNotFoundError):
                storage.read(key)
            with pytest.raises(FileNotFoundError):
                storage.open(key)
            assert storage.peek(key) is None
            assert storage.size(key) is None
            assert storage.list(key) == []
            assert storage.list_objects(key) == []
            assert storage.delete(key) is False
        assert storage.list("") == []
        assert objects_of(storage) == {}

    def test_replace(self, storage):
        """`replace` creates what is absent and overwrites what is there, larger or smaller."""
        for data in (b"one", b"three and more", b"", b"4"):
            storage.replace("builds/t.json", data)
            assert storage.read("builds/t.json") == data
            assert storage.peek("builds/t.json") == data
            assert storage.size("builds/t.json") == len(data)
            with storage.open("builds/t.json") as file:
                assert file.read() == data
        assert list(objects_of(storage)) == ["builds/t.json"]

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

    @pytest.mark.parametrize("name", NAMES)
    def test_odd_names(self, storage, name):
        """`B050`, `B051`: a name is a name to every operation, whatever a URL makes of it."""
        key = f"{name}.parquet"
        storage.create(key, b"1")
        with pytest.raises(FileExistsError):
            storage.create(key, b"2")
        assert storage.read(key) == storage.peek(key) == b"1"
        assert storage.size(key) == 1
        storage.replace(key, b"three")
        with storage.open(key) as file:
            assert file.read() == b"three"
        with storage.writer(f"d/{name}/{name}") as out:
            out.write(b"below")
        assert _top(storage) == sorted([key, "d"])
        assert [(each.name, each.size) for each in storage.list_objects("")] == [(key, 5)]
        assert storage.list("d") == storage.list(f"d/{name}") == [name]
        assert objects_of(storage) == {key: b"three", f"d/{name}/{name}": b"below"}
        assert storage.relative(storage.url(key)) == key
        assert storage.delete(key) is True
        assert list(objects_of(storage)) == [f"d/{name}/{name}"]

    @pytest.mark.parametrize("name", NAMES)
    def test_arrow_reads_odd_names(self, storage, name):
        """A table can be read where `arrow_path` says that it is."""
        key = f"{name}.parquet"
        with storage.writer(key) as out:
            pq.write_table(DATA, sink := io.BytesIO())
            out.write(sink.getvalue())
        path, filesystem = storage.arrow_path(key)
        assert pq.read_table(path, filesystem=filesystem) == DATA

    def test_list(self, storage):
        """A list is sorted, names only what lies directly under the prefix, and is never stale."""
        for key in ("b", "a", "d/x", "d/y", "d/e/f", "dd", "ddd/x", "de/x"):
            storage.create(key, b"1")
        assert _top(storage) == ["a", "b", "d", "dd", "ddd", "de"]
        assert [each.name for each in storage.list_objects("")] == ["a", "b", "dd"]
        assert storage.list("d") == ["e", "x", "y"]
        storage.create("d/w", b"1")
        storage.delete("d/y")
        assert storage.list("d") == ["e", "w", "x"]
        assert [each.name for each in storage.list_objects("d")] == ["w", "x"]
        storage.delete("d/e/f")
        assert storage.list("d") in (["w", "x"], ["e", "w", "x"])  # a directory may stay

    def test_list_of_many(self, storage):
        """A list has no end that a page of the store's has."""
        names = [f"{number:04}" for number in range(1203)]
        keys = [f"many/{name}" + "/x" * (name[-1] in "357") for name in names]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: storage.replace(key, b"1"), keys))
        assert storage.list("many") == names
        found = [f"many/{each.name}" for each in storage.list_objects("many")]
        assert found == [key for key in keys if not key.endswith("x")]

    def test_list_objects(self, storage):
        """Sizes are bytes; times are the store's own, in UTC, and move on with each write."""
        storage.create("d/empty-to-be", b"1")
        storage.create("d/k", b"12345")
        storage.create("d/below/x", b"1")
        storage.replace("d/empty-to-be", b"")
        before = {each.name: each for each in storage.list_objects("d")}
        assert [(each.name, each.size) for each in before.values()] == [
            ("empty-to-be", 0),
            ("k", 5),
        ]
        again = {each.name: each for each in storage.list_objects("d")}
        assert again == before
        storage.replace("d/k", b"1")
        after = {each.name: each for each in storage.list_objects("d")}
        assert after["k"].modified >= before["k"].modified
        assert after["empty-to-be"] == before["empty-to-be"]
        for each in (*before.values(), *after.values()):
            assert each.modified.utcoffset() == dt.timedelta(0)
            assert abs(each.modified - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)

    def test_delete(self, storage):
        """A deleted object is gone at once, and its key can be created again."""
        storage.create("k", b"1")
        assert storage.delete("k") is True
        assert storage.size("k") is None
        assert storage.peek("k") is None
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
        assert objects_of(storage) == {"dir/k": b"half and half"}
        with pytest.raises(StateError):
            out.write(b"more")

    @pytest.mark.usefixtures("_small_parts")
    @pytest.mark.parametrize(
        "sizes",
        [
            (PART,),
            (PART + 1,),
            (2 * PART, 2 * PART),
            (1, 3 * PART, 1),
            (1 << 18,) * 67,
            (PART - 1, 1, 1, PART - 1),
        ],
        ids=["part", "part+1", "2+2 parts", "1+3 parts+1", "67 pieces", "part-1+1+1+part-1"],
    )
    def test_writer_of_a_large_object(self, storage, sizes):
        """`B273`: whatever the pieces, nothing is there before the end and then every byte is."""
        pieces = [os.urandom(size) for size in sizes]
        out = storage.writer("dir/k")
        for piece in pieces:
            assert out.write(piece) == len(piece)
        assert storage.size("dir/k") is None
        out.publish()
        assert storage.read("dir/k") == b"".join(pieces)
        assert storage.size("dir/k") == sum(sizes)
        assert list(objects_of(storage)) == ["dir/k"]
        assert self.left(storage) == []

    @pytest.mark.usefixtures("_small_parts")
    @pytest.mark.parametrize("size", [100_000, 3 * PART + 7])
    def test_writer_aborted(self, storage, size):
        """`B275`: an aborted or failed writer leaves nothing, not even a temporary name."""
        out = storage.writer("dir/k")
        out.write(b"x" * size)
        out.abort()
        out = storage.writer("dir/k")

        def interrupted():
            with out:
                out.write(b"x" * size)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert objects_of(storage) == {}
        assert storage.list("dir") == []
        with pytest.raises(StateError):
            out.write(b"more")

    @pytest.mark.usefixtures("_small_parts")
    def test_parts_of_an_aborted_writer(self, storage):
        """`B275`: no part is kept either, and the key is free."""
        out = storage.writer("dir/k")
        out.write(b"x" * (3 * PART + 7))
        out.abort()
        assert self.left(storage) == []
        storage.create("dir/k", b"free")

    @pytest.mark.usefixtures("_small_parts")
    @pytest.mark.parametrize(
        "sizes",
        [(5, 5), (2 * PART, 5), (5, 2 * PART), (2 * PART, 2 * PART)],
        ids=["small", "large, small", "small, large", "large"],
    )
    def test_writers_race(self, storage, sizes):
        """`B090`: of two writers of one key the first to publish wins, the other leaves nothing."""
        first, second = storage.writer("k"), storage.writer("k")
        bodies = [os.urandom(size) for size in sizes]
        first.write(bodies[0])
        second.write(bodies[1])
        second.publish()
        with pytest.raises(FileExistsError):
            first.publish()
        assert objects_of(storage) == {"k": bodies[1]}

    @pytest.mark.usefixtures("_small_parts")
    def test_a_large_object_meets_one_that_is_there(self, storage):
        """`B278`: writing in parts overwrites nothing, however long the other has been there."""
        storage.create("k", b"first")

        def write():
            with storage.writer("k") as out:
                for _ in range(5):
                    out.write(b"x" * (PART - 1))

        with pytest.raises(FileExistsError):
            write()
        assert objects_of(storage) == {"k": b"first"}
        assert self.left(storage) == []

    @pytest.mark.parametrize("key", ["../k", "a/../../k", "/etc/k", "a/..", "..", "a\0b"])
    def test_keys_stay_under_the_root(self, storage, key):
        """`B054`: a key that leaves the root is refused by every operation."""
        for attempt in (
            storage.read,
            storage.peek,
            storage.size,
            storage.open,
            lambda key: storage.read_many([key]),
            lambda key: storage.writer(key).publish(),
            storage.list,
            storage.list_objects,
            storage.delete,
            lambda key: storage.create(key, b"1"),
            lambda key: storage.replace(key, b"1"),
        ):
            with pytest.raises(InvalidInputError, match="leaves the root"):
                attempt(key)

    @pytest.mark.parametrize("key", ["./k", "k/", "a//k", "a/./k", "k/.", "."])
    def test_one_key_for_one_object(self, storage, key):
        """Nothing is written or deleted by a key that is another one's to a file system."""
        storage.create("k", b"1")
        storage.create("a/k", b"1")
        for attempt in (
            lambda: storage.create(key, b"2"),
            lambda: storage.replace(key, b"2"),
            lambda: storage.retire(key),
            lambda: storage.writer(key),
            lambda: storage.delete(key),
        ):
            with pytest.raises((InvalidInputError, FileNotFoundError, StorageError)):
                attempt()
        assert objects_of(storage) == {"k": b"1", "a/k": b"1"}

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
        again = self.again(storage)
        assert again.read("k") == b"1"
        assert (again.root, again.store, again.is_locked) == (
            storage.root,
            storage.store,
            storage.is_locked,
        )

    @pytest.mark.parametrize("start", ["fork", "spawn"])
    def test_processes(self, storage, start):
        """Children see what their parent wrote and race with it; what was connected stays so."""
        if not self.processes:
            pytest.skip("another process does not see this root")
        if start not in multiprocessing.get_all_start_methods():
            pytest.skip("no fork here")
        storage.create("k", b"parent")
        work = [(storage, number) for number in range(3)]
        won = run_together(_create_some, work, start=start)
        assert sorted(name for names in won for name in names) == [f"{n:02}" for n in range(20)]
        assert storage.list("some") == [f"{n:02}" for n in range(20)]
        assert storage.read("k") == b"parent"


def _create_some(storage, number):
    """Race for twenty keys; return the names won."""
    assert storage.read("k") == b"parent"
    won = []
    for name in (f"{n:02}" for n in range(20)):
        try:
            storage.create(f"some/{name}", b"%d" % number)
        except FileExistsError:
            continue
        assert storage.read(f"some/{name}") == b"%d" % number
        won.append(name)
    return won


def _top(storage):
    """Return what lies at the top, but for the directory of the lock."""
    return [name for name in storage.list("") if name != "_catalog"]


def objects_of(storage):
    """Return everything that lies under the root, but for the file of the lock."""
    return {key: data for key, data in contents(storage).items() if key != "_catalog/lock"}
