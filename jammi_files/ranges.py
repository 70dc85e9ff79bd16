"""An object that is read by ranges as a file: a window that doubles while the reading goes on."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO

_SMALLEST = 64 * 2**10
_LARGEST = 16 * 2**20

ReadRange = Callable[[int, int], bytes]
"""Returns the bytes from a start up to an end."""


def open_ranges(read: ReadRange, size: int) -> BinaryIO:
    """Return an object of ``size`` bytes as a file; ``read`` is asked for what is needed."""
    return io.BufferedReader(_Ranges(read, size), _SMALLEST)


class _Ranges(io.RawIOBase):
    def __init__(self, read: ReadRange, size: int) -> None:
        self._read, self._size = read, size
        self._position = self._start = 0
        self._window = b""
        self._length = _SMALLEST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        end = self._start + len(self._window)
        if not self._start <= self._position < end:
            goes_on = self._position == end
            self._length = min(_LARGEST, self._length * 2) if goes_on else _SMALLEST
            stop = min(self._size, self._position + max(wanted, self._length))
            self._window = self._read(self._position, stop)
            self._start = self._position
        offset = self._position - self._start
        part = self._window[offset : offset + wanted]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)
