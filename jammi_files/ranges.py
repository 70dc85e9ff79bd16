"""Objects of a bucket read by ranges: as a file, and as the files that pyarrow opens.

A range is asked for in one request and answered whole. Reading straight on widens the window, so a
file that is read from its beginning takes few requests, and one that is read here and there few
bytes. fsspec's own files ask for an object's size at every opening, and some of them twice.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.fs as pafs

from jammi_files.positioned import Positioned

SMALLEST_WINDOW = 64 * 2**10
LARGEST_WINDOW = 16 * 2**20

ReadRange = Callable[[int, int], bytes]
"""Returns the bytes from a start up to an end, all of them."""


def open_ranges(read: ReadRange, size: int) -> BinaryIO:
    """Return an object of ``size`` bytes as a file; ``read`` is asked for what is needed."""
    return io.BufferedReader(Ranges(read, size), SMALLEST_WINDOW)


class Ranges(Positioned):
    """An object of a known size as a file; a read asks by one request at most."""

    def __init__(self, read: ReadRange, size: int) -> None:
        super().__init__(size)
        self._read = read
        self._start = 0
        self._window = b""
        self._length = SMALLEST_WINDOW // 2

    def read_at(self, start: int, size: int) -> bytes:
        """Return bytes of the window, which is moved to where they are."""
        stop = start + size
        if not self._start <= start <= stop <= self._start + len(self._window):
            self._move_window(start, stop)
        return self._window[start - self._start : stop - self._start]

    def _move_window(self, start: int, stop: int) -> None:
        """Let the window begin at ``start`` and reach ``stop`` or farther."""
        goes_on = self._start <= start <= self._start + len(self._window)
        kept = self._window[start - self._start :] if goes_on else b""
        self._length = min(LARGEST_WINDOW, self._length * 2) if goes_on else SMALLEST_WINDOW
        first = start + len(kept)
        last = min(self._size, max(stop, first + self._length))
        self._window = kept + self._read(first, last)
        self._start = start


class Bucket(Protocol):
    """What is read from, by key."""

    @property
    def fs(self) -> Any:  # noqa: ANN401 - fsspec has no types
        """The fsspec file system."""

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, None if there is none."""

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` up to ``end``, all of them."""


class RangeFiles(pafs.FSSpecHandler):  # type: ignore[misc]  # pyarrow has no types
    """The file system that `pyarrow.dataset` reads a bucket's immutable objects through.

    An object's size is asked once. ``base`` is what the paths of the bucket's keys begin with.
    """

    def __init__(self, bucket: Bucket, base: str) -> None:
        self._bucket, self._base = bucket, base
        self._sizes: dict[str, int] = {}

    @property
    def fs(self) -> Any:  # noqa: ANN401 - a forked child has another one
        """The fsspec file system, for everything but reading."""
        return self._bucket.fs

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeFiles):
            return NotImplemented
        return bool(self.fs == other.fs) and self._base == other._base

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), self._base))

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        """Return whether there is such an object, and its size; a prefix is none."""
        return [self._info(path) for path in paths]

    def open_input_file(self, path: str) -> pa.PythonFile:
        """Open an object for random access."""
        size = self._info(path).size if path not in self._sizes else self._sizes[path]
        if size is None:
            raise FileNotFoundError(path)
        key = self._key(path)
        read = lambda start, end: self._bucket.read_range(key, start, end)  # noqa: E731
        return pa.PythonFile(Ranges(read, size), mode="r")

    def open_input_stream(self, path: str) -> pa.PythonFile:
        """Open an object to be read from its beginning."""
        return self.open_input_file(path)

    def _info(self, path: str) -> pafs.FileInfo:
        size = self._bucket.size(self._key(path))
        if size is None:
            return pafs.FileInfo(path, pafs.FileType.NotFound)
        self._sizes[path] = size
        return pafs.FileInfo(path, pafs.FileType.File, size=size)

    def _key(self, path: str) -> str:
        return path.removeprefix(f"{self._base}/")
