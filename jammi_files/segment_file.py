"""A large segment of which one row group is read at a time.

Arrow is given a footer that names this row group alone and has been read here before: it takes no
time to read, and nothing is in it that could ask for too much.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Collection
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_files import footer_digest
from jammi_files import parquet_footer as footers
from jammi_files.parquet_claims import check_pages, fold
from jammi_files.positioned import Positioned
from jammi_files.thrift import NUMBER, zigzag

_FIRST_READ = 64 * 2**10
"""Bytes at the end that are read at first: the footer of a million rows has twice as many."""


class SegmentFile:
    """The row groups of an open segment; ``least`` is the first name in each, in order.

    ``rows`` is how many there are as its footer says, ``folded`` the columns that are read as
    dictionaries.

    Raises:
        ValueError: the footer is damaged, says more than is allowed, or has no statistics of names.
    """

    def __init__(self, file: BinaryIO, folded: Collection[str]) -> None:
        self._file = file
        size = file.seek(0, os.SEEK_END)
        tail = self._bytes(max(0, size - _FIRST_READ), size)
        length = footers.footer_length(tail[-footers.TAIL :], size)
        self._end = size - footers.TAIL - length
        known = tail[: -footers.TAIL]
        missing = length - len(known)
        if missing > 0:
            known = self._bytes(self._end, self._end + missing) + known
        self._footer = known[len(known) - length :]
        self._leaves, self._schema_end = footers.schema_of(self._footer)
        self.folded = fold(self._leaves, folded)
        self._starts = self._find_groups()
        self._after = self._end_of_groups()
        self.least = [self._least_at(start) for start in self._starts]
        if self.least != sorted(self.least):
            raise ValueError("its row groups are not sorted by name")
        # Not by `__del__`: of a cycle the file may be finalised first, and warn that it is open.
        weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, group: int) -> pa.Table:
        """Return the rows of one row group.

        Raises:
            ValueError, pa.ArrowException, OSError: they are damaged, or take too much memory.
        """
        start = self._starts[group]
        said, stop = footers.read_group(self._footer, start, self._leaves, self._end)
        footers.require_memory(said.end - said.start, footers.MOST_MEMORY, "a row group")
        pages = self._bytes(said.start, said.end)
        check_pages(pages, said.start, said, self.folded)
        alone = b"\x16%b\x19\x1c" % zigzag(said.rows)
        parts = self._footer[: self._schema_end], alone, self._footer[start:stop], self._after
        footer = b"".join(parts)
        tail = footer + len(footer).to_bytes(4, "little") + footers.MAGIC
        pieces = _Pieces((said.start, pages), (self._end, tail))
        with open_parquet(pa.PythonFile(pieces, mode="r"), self.folded) as file:
            table = file.read(use_threads=False)  # see `owned`
        if not table.num_rows:
            raise ValueError("a row group has no rows")
        return table

    def close(self) -> None:
        """Close the file now; it is closed at the latest when nobody has this object any more."""
        self._file.close()

    def _find_groups(self) -> list[int]:
        """Return where in the footer each row group begins.

        Reading all of a large footer takes longer than a row group does. So its row groups are
        looked for by how they begin, with the column of names, and read one after the other only
        where they are not as many as there should be.
        """
        self.rows, many, at = footers.groups_of(self._footer, self._schema_end)
        if not many:
            return []
        found = []
        if self._leaves and self._leaves[0].path == (b"table_name",):
            head = rb"\x19(?:[\x1c-\xec]|\xfc%b)\x26%b\x1c\x15%b\x19[\x15-\x55](?:%b){1,5}?\x19"
            pattern = head % ((NUMBER,) * 4) + re.escape(self._leaves[0].spelled)
            found = [match.start() for match in re.finditer(pattern, self._footer, re.DOTALL)]
        if len(found) == many and found[0] == at:
            return found
        found = []
        for _ in range(many):
            found.append(at)
            _, at = footers.read_group(self._footer, at, self._leaves, self._end)
        return found

    def _end_of_groups(self) -> bytes:
        """Return what follows the row groups in the footer."""
        *_, at = footers.groups_of(self._footer, self._schema_end)
        if self._starts:
            _, at = footers.read_group(self._footer, self._starts[-1], self._leaves, self._end)
        footer_digest.require(self._footer, footers.metadata_at(self._footer, at))
        return self._footer[at:]

    def _least_at(self, start: int) -> str:
        least = footers.least_in(self._footer, start, self._leaves, self._end, (b"table_name",))
        if least is None:
            raise ValueError("it has no statistics of 'table_name'")
        return least.decode()

    def _bytes(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(end - start)
        if len(data) != end - start:
            raise ValueError("it became shorter while it was read")
        return bytes(data)


def open_parquet(source: BinaryIO | pa.NativeFile, folded: Collection[str]) -> pq.ParquetFile:
    """Open a Parquet file whose pages are checked against their checksums when they are read."""
    return pq.ParquetFile(
        source,
        read_dictionary=[*folded],
        page_checksum_verification=True,
        pre_buffer=False,  # it is in memory, and would be read by threads; see `owned`
    )


def owned(data: bytes) -> pa.Buffer:
    """Return bytes in memory of Arrow's own, for whoever reads with threads.

    A thread of Arrow's may be the last to let go of what it has read from. If that is Python's, it
    asks for the interpreter, and aborts the process if that is about to end.
    """
    buffer = pa.allocate_buffer(len(data))
    memoryview(buffer).cast("B")[:] = data
    return buffer


class _Pieces(Positioned):
    """A file of which some pieces are known, the last of them at its end; zeros are between."""

    def __init__(self, *pieces: tuple[int, bytes]) -> None:
        start, data = pieces[-1]
        super().__init__(start + len(data))
        self._pieces = pieces

    def read_at(self, start: int, size: int) -> bytes:
        out = bytearray(size)
        for first, data in self._pieces:
            low, high = max(start, first), min(start + size, first + len(data))
            if high - low == size:
                return data[low - first : high - first]
            if low < high:
                out[low - start : high - start] = data[low - first : high - first]
        return bytes(out)
