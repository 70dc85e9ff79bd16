"""Objects of a bucket as files: the bytes of the object, in few requests, wherever one reads."""

from __future__ import annotations

import io
import pickle
import random

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.servers.backends import FAST

from jammi_files import StorageError, patience, ranges
from jammi_files.ranges import LARGEST_WINDOW, SMALLEST_WINDOW, Ranges
from jammi_files.roots import open_storage

SIZE = 400_000
BYTES = random.Random(7).randbytes(SIZE)
MOVES = st.lists(
    st.tuples(st.integers(0, SIZE + 10), st.sampled_from([0, 1, 100, 70_000, 300_000])),
    max_size=8,
)


class Bytes:
    """An object, and what was asked of it."""

    def __init__(self, data=BYTES):
        self.data = data
        self.asked = []

    def read(self, start, end):
        assert 0 <= start < end <= len(self.data)
        self.asked.append((start, end))
        return self.data[start:end]

    def open(self):
        return Ranges(self.read, len(self.data))


@settings(deadline=None)
@given(MOVES)
def test_a_read_returns_what_a_file_returns(moves):
    """Wherever the position, a read is that of a file in memory, by one request at most."""
    bucket, expected = Bytes(), io.BytesIO(BYTES)
    file = bucket.open()
    for position, wanted in moves:
        before = len(bucket.asked)
        assert file.seek(position) == expected.seek(position)
        assert file.read(wanted) == expected.read(wanted)
        assert file.tell() == max(position, expected.tell())
        assert len(bucket.asked) <= before + 1


def test_seeking():
    """Positions count from the beginning, from here and from the end, and never below 0."""
    file = Bytes().open()
    assert file.seek(-4, io.SEEK_END) == SIZE - 4
    assert file.read() == BYTES[-4:]
    assert file.seek(-8, io.SEEK_CUR) == SIZE - 8
    assert file.seek(-SIZE, io.SEEK_CUR) == 0
    assert file.readable()
    assert file.seekable()
    assert not file.writable()


def test_reading_straight_on_asks_ever_more():
    """A large object is read in few requests, none larger than the largest window."""
    size = 3 * LARGEST_WINDOW
    bucket = Bytes(bytes(size))
    file = bucket.open()
    while file.read(1 << 20):
        pass
    lengths = [end - start for start, end in bucket.asked]
    assert sum(lengths) == size
    assert max(lengths) <= LARGEST_WINDOW
    assert len(lengths) <= 12


def test_reading_here_and_there_asks_little():
    """A jump asks for a small window, and for what it holds nothing is asked again."""
    size = 64 * SMALLEST_WINDOW
    bucket = Bytes(bytes(size))
    file = bucket.open()
    for part in (50, 10, 30):
        for offset in range(0, SMALLEST_WINDOW, SMALLEST_WINDOW // 4):
            file.seek(part * SMALLEST_WINDOW + offset)
            file.read(100)
    assert [end - start for start, end in bucket.asked] == [SMALLEST_WINDOW] * 3


def test_an_object_that_became_shorter(s3_server, monkeypatch):
    """An object that was replaced by a shorter one is an error, never fewer bytes."""
    root, options = s3_server.root()
    storage = open_storage(root, storage_options=options, cache_dir="off")
    storage.create("k", bytes(200_000))
    monkeypatch.setattr(patience, "MAX_ATTEMPTS", 2)
    file = storage.open("k")
    storage.replace("k", bytes(150_000))
    with pytest.raises(StorageError, match="bytes came where"):
        file.read()


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_a_dataset_asks_for_a_size_once(server):
    """It is opened twice, its size asked for once; a missing one is said to be so."""
    root, options = server.root()
    storage = open_storage(root, storage_options=options, cache_dir="off")
    table = pa.table({"a": range(1000), "b": [str(n) for n in range(1000)]})
    with storage.writer("t.parquet") as out:
        pq.write_table(table, pa.PythonFile(_Sink(out), mode="w"))
    path, filesystem = storage.arrow_path("t.parquet")
    with server.log.counting() as seen:
        dataset = ds.dataset(path, filesystem=filesystem, format="parquet")
    assert len(seen) == 2
    with server.log.counting() as seen:
        assert dataset.to_table(columns=["a"]) == table.select(["a"])
    assert len(seen) <= 2
    assert dataset.files == [path]
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes
    assert again.to_table() == table
    assert again.filesystem == filesystem
    missing, _ = storage.arrow_path("none.parquet")
    with pytest.raises(FileNotFoundError):
        ds.dataset(missing, filesystem=filesystem, format="parquet")
    with pytest.raises(FileNotFoundError):
        filesystem.open_input_file(missing)


class _Sink(io.RawIOBase):
    def __init__(self, out):
        self._out = out

    def writable(self):
        return True

    def write(self, data):
        return self._out.write(bytes(data))


def test_file_systems_of_two_roots_differ(s3_server):
    """Two handles on one root read through equal file systems, two roots do not."""
    (one, options), (other, _) = s3_server.root(), s3_server.root()
    systems = [
        open_storage(root, storage_options=options).arrow_path("k")[1] for root in (one, one, other)
    ]
    assert systems[0] == systems[1]
    assert systems[0] != systems[2]
    assert systems[0].handler != object()
    assert hash(systems[0].handler) == hash(systems[1].handler)
    assert isinstance(systems[0].handler, ranges.RangeFiles)
