"""Where the rows of a segment that hold a value are: indexes that stay in Arrow."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_BLOCK = 64


class Positions(Sequence[int]):
    """A part of an Arrow array of positions, turned into Python integers block by block."""

    def __init__(self, values: pa.Array, start: int, length: int) -> None:
        self._values, self._start, self._length = values, start, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        size = _BLOCK
        for start in range(0, self._length, size):
            count = min(size, self._length - start)
            yield from self._values.slice(self._start + start, count).to_pylist()

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - an int or a slice, as in Sequence
        return list(self)[index]

    @property
    def array(self) -> pa.Array:
        """The positions as Arrow has them."""
        return self._values.slice(self._start, self._length)


class SortedIndex:
    """Row positions by the value of one string column.

    The values stay in Arrow; only every 64th is a Python string (1.5 MB per million rows, where
    a dict of all of them takes 200 MB).
    """

    def __init__(
        self, values: pa.Array, rows: pa.Array | None = None, *, ordered: bool = False
    ) -> None:
        if not ordered:
            order = pc.sort_indices(values)
            values = values.take(order)
            rows = order if rows is None else rows.take(order)
        self._values = values
        self._rows = rows
        self._fences: list[str] = values.take(_every(len(values))).to_pylist()

    def find(self, key: str) -> Sequence[int]:
        """Return the positions of the rows that hold ``key``."""
        first = max(bisect_left(self._fences, key) - 1, 0)
        last = bisect_right(self._fences, key) - 1
        if last < 0:
            return ()
        start = first * _BLOCK + bisect_left(self._block(first), key)
        end = last * _BLOCK + bisect_right(self._block(last), key)
        if self._rows is None:
            return range(start, end)
        return Positions(self._rows, start, max(end - start, 0))

    def _block(self, number: int) -> list[str]:
        values: list[str] = self._values.slice(number * _BLOCK, _BLOCK).to_pylist()
        return values


def _every(rows: int) -> pa.Array:
    """Return the position of the first row of each block.

    Not by `pa.array`: the first conversion of Python values in a process imports pandas, where
    there is one, which takes longer than all the rest of a cold look-up.
    """
    starts = array("q", range(0, rows, _BLOCK))
    return pa.Array.from_buffers(pa.int64(), len(starts), [None, pa.py_buffer(starts)])


class Postings:
    """Row positions by the value of one dictionary-encoded column of few distinct values."""

    def __init__(self, column: pa.DictionaryArray) -> None:
        codes = column.indices
        self._order = pc.sort_indices(codes)
        counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(codes).to_pylist()}
        self._spans: dict[str, tuple[int, int]] = {}
        start = 0
        for code, value in enumerate(column.dictionary.to_pylist()):
            count = counts.get(code, 0)
            self._spans[value] = (start, count)
            start += count

    def find(self, key: str) -> Sequence[int]:
        """Return the positions of the rows that hold ``key``."""
        start, count = self._spans.get(key, (0, 0))
        return Positions(self._order, start, count)
