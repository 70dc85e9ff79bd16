"""Values in Thrift's compact protocol, in which Parquet writes its headers and its footer."""

from __future__ import annotations

TRUE, I32, BINARY, STRUCT = 1, 5, 8, 12
"""Types of fields."""


_SHORT = [bytes((number,)) for number in range(0x80)]


def varint(number: int) -> bytes:
    """Encode an unsigned integer."""
    if number < 0x80:
        return _SHORT[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """Encode a signed integer."""
    if 0 <= number < _SIZES:
        return _ZIGZAG[number]
    return varint(number << 1 if number >= 0 else ~(number << 1))


_SIZES = 4096
_ZIGZAG = [varint(number << 1) for number in range(_SIZES)]
"""Sizes of pages and numbers of rows: a manifest holds two hundred of them."""


def binary(value: bytes) -> bytes:
    """Encode a string of bytes."""
    return varint(len(value)) + value


def list_of(kind: int, items: list[bytes]) -> bytes:
    """Encode a list of values of one type."""
    count = len(items)
    head = bytes((count << 4 | kind,)) if count < 15 else bytes((0xF0 | kind,)) + varint(count)
    return head + b"".join(items)


def struct_of(*fields: tuple[int, int, bytes]) -> bytes:
    """Encode a struct of (id, type, value), ids ascending."""
    out, last = b"", 0
    for number, kind, value in fields:
        out, last = out + bytes(((number - last) << 4 | kind,)) + value, number
    return out + b"\0"
