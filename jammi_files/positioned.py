"""A file of a known size that is read at a position."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from typing import Any


class Positioned(io.RawIOBase):
    """A file of ``size`` bytes; what lies where is up to `read_at`.

    A position beyond the end is allowed, and nothing is read there.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0

    @abstractmethod
    def read_at(self, start: int, size: int) -> bytes:
        """Return the ``size`` bytes from ``start`` on; there are so many, and at least one."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, as in `io.BytesIO` never to before the beginning; nothing is read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return ``size`` bytes, fewer only where the file ends; all that are left by default."""
        left = max(0, self._size - self._position)
        length = left if size is None or size < 0 else min(size, left)
        data = self.read_at(self._position, length) if length else b""
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        """Fill the buffer as far as the file reaches and return with how many bytes."""
        with memoryview(buffer).cast("B") as out:
            data = self.read(len(out))
            out[: len(data)] = data
        return len(data)
