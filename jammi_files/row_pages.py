"""Stored rows straight to a Parquet file: a commit costs what its own change costs.

Arrow's writer takes 0.5 ms for the 38 leaves of a row however few rows there are, and arrays of
Python values half of that again. Here a row is *striped* once, into levels and plain values for
each leaf, and a file is its rows' stripes joined: one row group, one page for each leaf, LZ4 where
that pays, checksums, no statistics. It is ordinary Parquet.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from jammi_files.cells import TO_ARROW
from jammi_files.parquet_footer import VALUE_BYTES
from jammi_files.parquet_tree import BOOLEAN, Leaf, Node, schema_of
from jammi_files.rows import STORED, Row
from jammi_files.schema import RECORD_FIELDS
from jammi_files.thrift import (
    BINARY,
    I32,
    NUMBER,
    STRUCT,
    binary,
    integer,
    list_of,
    read_struct,
    struct_of,
    zigzag,
)
from jammi_files.thrift import varint as varint_of

Stripe: TypeAlias = tuple[bytes, ...]
"""One row: for each leaf its repetition levels, its definition levels, as far as it has any, and
its values; levels are a byte each."""

_MAGIC = b"PAR1"
_CREATED_BY = b"jammi_files version 1"
_UNPACKED, _LZ4_RAW = 0, 7
_PACKED_FROM = 192
"""Bytes of a page from which on compression is worth the call."""
_MOST_ROWS = 1024
"""Rows up to which a manifest is looked at as one of ours: they have far fewer."""
_PATTERNS = 256
"""Patterns of nulls that are kept encoded for each leaf."""
_LZ4 = pa.Codec("lz4_raw")
_PAGE = re.compile(
    rb"\x15\0\x15(%b)\x15(%b)\x15%b\x1c\x15(%b)\x15\0\x15\x06\x15\x06\0\0" % ((NUMBER,) * 4),
    re.DOTALL,
)
"""The header of a page as `_Column.chunk` writes it: its size, as it is stored, and its values."""


def stripe(row: Row) -> Stripe | None:
    """Return the pieces of a row; None if it has columns of a newer library.

    Raises:
        FormatError: a column that no row may lack is null.
    """
    if row.extra:
        return None
    pieces: list[bytes] = []
    for node, convert, value in zip(_NODES, _CONVERT, _values_of(row.record), strict=False):
        pieces += node.stripe(value if value is None or convert is None else convert(value))
    pieces += _SEQ.stripe(row.seq)
    pieces += _DELETED.stripe(row.deleted)
    return tuple(pieces)


def to_parquet(stripes: Sequence[Stripe], metadata: Mapping[bytes, bytes]) -> bytes:
    """Return a Parquet file of the rows in the columns `STORED`, with key-value metadata."""
    body, described = [_MAGIC], []
    offset, unpacked, rows = len(_MAGIC), 0, len(stripes)
    parts = iter([b"".join(part) for part in zip(*stripes, strict=True)])
    for leaf in _LEAVES if rows else ():
        repeated = next(parts) if leaf.shape.is_repeated else b""
        defined = next(parts) if leaf.shape.is_optional else b""
        values = next(parts)
        chunk = (leaf.chunk if values else leaf.nulls)(rows, repeated, defined, values)
        body.append(chunk.page)
        described.append(b"\x26\0\x1c%b\x26%b\0\0" % (chunk.described, zigzag(offset)))
        offset += len(chunk.page)
        unpacked += chunk.unpacked
    footer = _layout(rows, described, unpacked, offset) + _closing(metadata)
    return b"".join((*body, footer, len(footer).to_bytes(4, "little"), _MAGIC))


def metadata_of(data: bytes, most: int) -> tuple[int, dict[bytes, bytes]] | None:
    """Return the rows and the key-value metadata of a file that `to_parquet` made.

    None if it was made otherwise, or takes more than ``most`` bytes of memory: see
    `parquet_claims`. The pages are walked and the footer is made anew from them, so nothing is in
    one that is told to be ours but what has been looked at, whoever wrote it.
    """
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    if end < len(_MAGIC) or data[:4] != _MAGIC or data[-4:] != _MAGIC:
        return None
    described: list[bytes] = []
    at, rows, unpacked, values = len(_MAGIC), 0, 0, 0
    absent = b""
    for leaf in _LEAVES if at < end else ():
        found = leaf.read(data, at, absent)
        if found is None:
            return None
        length, count, size, text = found
        if not described:
            if count > _MOST_ROWS:
                return None
            rows, absent = count, bytes(count)
        described.append(b"\x26\0\x1c%b\x26%b\0\0" % (text, zigzag(at)))
        at, values, unpacked = at + length, values + count, unpacked + size
    layout = _layout(rows, described, unpacked, end)
    if at != end or not data.startswith(layout, end) or unpacked + VALUE_BYTES * values > most:
        return None
    try:
        said, stop = read_struct(data, end + len(layout), last=4)
        metadata = {pair[1]: pair[2] for pair in said[5]}
    except (ValueError, LookupError, TypeError):
        return None
    return (rows, metadata) if stop == len(data) - 8 and said.keys() == {5, 6} else None


class _Chunk(NamedTuple):
    """A column's only page, its size unpacked, and its metadata up to the page's offset."""

    page: bytes
    unpacked: int
    described: bytes


class _Column:
    """One leaf as it is written."""

    def __init__(self, shape: Leaf) -> None:
        self.shape = shape
        path = [binary(name.encode()) for name in shape.path]
        encodings = [zigzag(0), zigzag(3)]  # plain values, levels as runs
        self._described = b"\x15%b\x19%b\x19%b" % (
            zigzag(shape.kind),
            list_of(I32, encodings),
            list_of(BINARY, path),
        )
        self.nulls = functools.lru_cache(_PATTERNS)(self.chunk)
        """`chunk` of a column without values, as most are."""

    def chunk(self, rows: int, repeated: bytes, defined: bytes, values: bytes) -> _Chunk:
        """Return the column's chunk."""
        count = len(defined) if self.shape.is_optional else rows
        plain = _bits(values) if self.shape.kind == BOOLEAN else values
        if self.shape.is_optional:
            plain = _levels(defined) + plain
        if self.shape.is_repeated:
            plain = _levels(repeated) + plain
        data = plain
        if len(plain) >= _PACKED_FROM:
            packed = _LZ4.compress(plain, asbytes=True)
            if len(packed) < len(plain):
                data = packed
        header = b"\x15\0\x15%b\x15%b\x15%b\x1c\x15%b\x15\0\x15\x06\x15\x06\0\0" % (
            zigzag(len(plain)),
            zigzag(len(data)),
            zigzag(_signed(zlib.crc32(data))),
            zigzag(count),
        )
        unpacked, packed = len(header) + len(plain), len(header) + len(data)
        return _Chunk(header + data, unpacked, self._describe(count, unpacked, packed))

    def read(self, data: bytes, at: int, absent: bytes) -> tuple[int, int, int, bytes] | None:
        """Return length, values, size unpacked and description of the chunk at a place of a file.

        None if no `chunk` begins there. ``absent`` are the levels of a column without values.
        """
        if absent and self.shape.is_optional:
            nulls = self.nulls(len(absent), absent if self.shape.is_repeated else b"", absent, b"")
            if data.startswith(nulls.page, at):
                return len(nulls.page), len(absent), nulls.unpacked, nulls.described
        page = _PAGE.match(data, at)
        if page is None:
            return None
        plain, stored, count = map(integer, page.groups())
        header = page.end() - at
        unpacked, packed = header + plain, header + stored
        if not 0 <= stored <= plain or packed > len(data) - at or count < 0:
            return None
        return packed, count, unpacked, self._describe(count, unpacked, packed)

    def _describe(self, count: int, unpacked: int, packed: int) -> bytes:
        return b"%b\x15%b\x16%b\x16%b\x16%b" % (
            self._described,
            zigzag(_LZ4_RAW if packed < unpacked else _UNPACKED),
            zigzag(count),
            zigzag(unpacked),
            zigzag(packed),
        )


def _layout(rows: int, described: list[bytes], unpacked: int, end: int) -> bytes:
    """Return what a footer says of rows and pages."""
    group = b"\x19%b\x16%b\x16%b\x26%b\x16%b\0" % (
        list_of(STRUCT, described),
        zigzag(unpacked),
        zigzag(rows),
        zigzag(len(_MAGIC)),
        zigzag(end - len(_MAGIC)),
    )
    groups = list_of(STRUCT, [group] if rows else [])
    return b"\x15\x04\x19%b\x16%b\x19%b" % (_SCHEMA, zigzag(rows), groups)


def _closing(metadata: Mapping[bytes, bytes]) -> bytes:
    """Return what comes last in a footer."""
    pairs = [
        struct_of((1, BINARY, binary(key)), (2, BINARY, binary(value)))
        for key, value in metadata.items()
    ]
    return b"\x19%b\x18%b\0" % (list_of(STRUCT, pairs), binary(_CREATED_BY))


@functools.lru_cache(1024)
def _levels(levels: bytes) -> bytes:
    """Encode levels as runs, their length in front."""
    runs = [varint_of(len([*run]) << 1) + bytes([level]) for level, run in groupby(levels)]
    encoded = b"".join(runs)
    return len(encoded).to_bytes(4, "little") + encoded


def _bits(values: bytes) -> bytes:
    number = sum(1 << at for at, value in enumerate(values) if value)
    return number.to_bytes((len(values) + 7) // 8, "little")


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number


_NODES = [Node(field) for field in STORED]
_SEQ, _DELETED = _NODES[-2:]
_LEAVES = [_Column(leaf) for node in _NODES for leaf in node.leaves]
_SCHEMA = list_of(STRUCT, schema_of(_NODES))
_CONVERT = [TO_ARROW.get(name) for name in RECORD_FIELDS]
_values_of = attrgetter(*RECORD_FIELDS)
