"""What decoding an Arrow IPC file or stream takes, by its messages and before Arrow sees them.

A buffer of a few kilobytes may unpack to gigabytes, and many may be the same bytes. Where they are
stands in the flatbuffer of a message, of which only the few fields that tell it are read here; how
long one is unpacked, in its first 8 bytes. Numbers of fields are those of ``Message.fbs`` and
``File.fbs``. What no flatbuffer can be is left to Arrow, which checks each before it uses it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from jammi_files.parquet_footer import MOST_MEMORY

MAGIC = b"ARROW1"
"""What a file begins and ends with; a stream begins with its schema."""

_MOST_TIMES = 16
"""How many times the file's size a batch may take, if that is more than `MOST_MEMORY`."""

_CONTINUES = b"\xff\xff\xff\xff"
_DICTIONARY, _BATCH = 2, 3
"""Kinds of messages that have buffers."""

_CUT_OFF = "a message is longer than the file, which may be cut off"
_OLDEST_COMPRESSION = b"ARROW:experimental_compression"


def require_bounded(file: BinaryIO) -> None:
    """Refuse what has a batch that takes too much memory, together with the dictionaries.

    Raises:
        ValueError: there is one, or what a message says cannot be so.
    """
    size = os.fstat(file.fileno()).st_size
    most = max(MOST_MEMORY, _MOST_TIMES * size)
    dictionaries: dict[int, int] = {}
    held = 0
    try:
        for message in _messages(file, size):
            taken = _memory(file, message)
            if held + taken > most:
                raise ValueError(
                    f"a batch would take {held + taken} bytes of memory, over {most};"
                    " write it in batches of fewer rows"
                )
            if message.kind == _DICTIONARY:
                number = _number("<q", message.flat, _field(message.flat, message.header, 0))
                is_delta = _number("?", message.flat, _field(message.flat, message.header, 2))
                known = dictionaries.get(number, 0)
                dictionaries[number] = taken + (known if is_delta else 0)
                held += dictionaries[number] - known
    except struct.error as error:
        raise ValueError(f"a message is cut off: {error}") from error


class _Message(NamedTuple):
    """A flatbuffer, where in it the header is, and where in the file the body begins and ends."""

    flat: bytes
    kind: int
    header: int
    body: int
    end: int


def _messages(file: BinaryIO, size: int) -> Iterator[_Message]:
    if _read(file, 0, len(MAGIC)) == MAGIC:
        for at, length in _blocks(file, size):
            yield _message(file, size, at, length)
        return
    at = 0
    while length := _length(_read(file, at, 8)):
        message = _message(file, size, at, length)
        yield message
        at = message.end


def _blocks(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Yield where the messages of a file are, dictionaries first, as Arrow reads them."""
    end = size - len(MAGIC) - 4
    (length,) = struct.unpack("<i", _read(file, end, 4))
    footer = _read(file, end - length, length)
    for number in (2, 3):
        for at, metadata, body in _vector("<qi4xq", footer, _follow(footer, 0), number):
            if not 0 <= body <= size - at - metadata:
                raise ValueError(_CUT_OFF)
            yield at, metadata


def _length(begin: bytes) -> int:
    """Return how long the flatbuffer and what is before it are; 0 at the end of a stream."""
    if len(begin) < 4 or begin == _CONTINUES:
        return 0
    skipped = 4 if begin.startswith(_CONTINUES) else 0  # not before Arrow 0.15
    (length,) = struct.unpack_from("<i", begin, skipped)
    return int(length) and int(length) + skipped + 4


def _message(file: BinaryIO, size: int, at: int, length: int) -> _Message:
    begin = _read(file, at, length)
    flat = begin[8 if begin.startswith(_CONTINUES) else 4 :]
    root = _follow(flat, 0)
    body = at + length
    end = body + _number("<q", flat, _field(flat, root, 3))
    if not at < body <= end <= size:
        raise ValueError(_CUT_OFF)
    header = _field(flat, root, 2)
    kind = _number("B", flat, _field(flat, root, 1))
    return _Message(flat, kind, _follow(flat, header) if header else 0, body, end)


def _memory(file: BinaryIO, message: _Message) -> int:
    """Return how long the buffers of a message are, unpacked; Arrow copies what they share."""
    flat, batch = message.flat, message.header
    if message.kind not in {_DICTIONARY, _BATCH}:
        return 0
    if _OLDEST_COMPRESSION in flat:
        raise ValueError("it is packed as by Arrow 0.17 only; write it anew with a later one")
    if message.kind == _DICTIONARY:
        batch = _follow(flat, _field(flat, batch, 1))
    buffers = _vector("<qq", flat, batch, 2)
    if not _field(flat, batch, 3):
        return sum(length for _, length in buffers)
    return sum(_unpacked(file, message.body + at, length) for at, length in buffers if length)


def _unpacked(file: BinaryIO, at: int, length: int) -> int:
    (claimed,) = struct.unpack("<q", _read(file, at, 8))
    if claimed < -1:
        raise ValueError(f"a buffer is said to have {claimed} bytes")
    return length if claimed == -1 else int(claimed)  # -1: it would not have become shorter


def _read(file: BinaryIO, at: int, length: int) -> bytes:
    if min(at, length) < 0:
        raise ValueError(f"{length} bytes are said to be at {at}")
    file.seek(at)
    return file.read(length)


# --- a flatbuffer: a table begins with the way back to the places of its fields


def _field(flat: bytes, table: int, number: int) -> int:
    """Return where a field of a table is, 0 if it has none."""
    places = table - _number("<i", flat, table)
    if 4 + 2 * number >= _number("<H", flat, places):
        return 0
    found = _number("<H", flat, places + 4 + 2 * number)
    return found and table + found


def _number(form: str, flat: bytes, at: int) -> int:
    return int(struct.unpack_from(form, flat, at)[0]) if at else 0


def _follow(flat: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", flat, at)[0])


def _vector(form: str, flat: bytes, table: int, number: int) -> Iterator[tuple[Any, ...]]:
    at = _field(flat, table, number)
    if not at:
        return iter(())
    begin = _follow(flat, at)
    return struct.iter_unpack(
        form, flat[begin + 4 :][: struct.calcsize(form) * _count(flat, begin)]
    )


def _count(flat: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", flat, at)[0])
