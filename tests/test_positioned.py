"""Files that are read at a position behave like a file in memory, whatever lies behind them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_files.cache_files import CacheFiles
from jammi_files.ranges import Ranges
from jammi_files.segment_file import _Pieces

BYTES = bytes(range(1, 251)) * 300
"""More than one block of the cache's and one window of a bucket's, and no zeros."""
SIZE = len(BYTES)
NAME = "an object"

MOVES = st.lists(
    st.tuples(
        st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]),
        st.integers(-SIZE - 10, SIZE + 10),
        st.sampled_from([None, -1, 0, 1, 7, 70_000, SIZE + 10]),
        st.booleans(),
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a way to open the bytes through each of the classes."""
    cache = CacheFiles(tmp_path_factory.mktemp("cache"), 10 * SIZE)
    cache.put(NAME, BYTES)
    return {
        "ranges": lambda: Ranges(lambda start, end: BYTES[start:end], SIZE),
        "pieces": lambda: _Pieces(
            (0, BYTES[:1000]), (1000, BYTES[1000:70_000]), (70_000, BYTES[70_000:])
        ),
        "cache": lambda: cache.open(NAME, pytest.fail),
    }


@pytest.mark.parametrize("name", ["ranges", "pieces", "cache"])
@settings(deadline=None)
@given(moves=MOVES)
def test_like_a_file_in_memory(name, files, moves):
    """Every move and read answers what `io.BytesIO` answers, and so does the position after it."""
    with files[name]() as file, io.BytesIO(BYTES) as expected:
        for whence, moved, size, into in moves:
            offset = abs(moved) if whence == io.SEEK_SET else moved
            assert file.seek(offset, whence) == expected.seek(offset, whence)
            if into:
                ours, theirs = bytearray(100), bytearray(100)
                assert file.readinto(ours) == expected.readinto(theirs)
                assert ours == theirs
            else:
                assert file.read(size) == expected.read(size)
            assert file.tell() == expected.tell()
        assert file.readable()
        assert file.seekable()


def test_zeros_lie_between_pieces():
    """What no piece covers reads as zeros, also within one read across several pieces."""
    file = _Pieces((2, b"ab"), (6, b"cd"))
    assert file.read() == b"\0\0ab\0\0cd"
    file.seek(3)
    assert file.read(4) == b"b\0\0c"
