"""Values in Thrift's compact protocol, in which Parquet writes its headers and its footer."""

from __future__ import annotations

from typing import Any, TypeAlias

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


# --- reading: bytes that anybody may have written

DEEPEST = 16
"""Structs and lists within each other that are read; Parquet needs 6."""

NUMBER = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
"""What an integer matches; `integer` decodes it."""

_TOO_DEEP = f"its Thrift is nested more than {DEEPEST} deep"

Fields: TypeAlias = dict[int, Any]
"""A struct that was read: by field id an int, a bool, bytes, a list, or another struct."""


def read_struct(data: bytes, at: int, *, last: int = 0) -> tuple[Fields, int]:
    """Read the struct that begins at a place; return it, and where it ends.

    ``last`` is the id of the field before that place, if somebody has read some of them.

    Reading takes time and memory in proportion to the bytes, whatever they say.

    Raises:
        ValueError: the bytes are no such struct: they end within, nest too deep, hold a field
            twice or out of order, or a type that Parquet has none of.
    """
    try:
        return _struct(data, at, DEEPEST, last)
    except IndexError:
        raise ValueError("the bytes end within a struct") from None


def read_list(data: bytes, at: int) -> tuple[list[Any], int]:
    """Read the list that begins at a place; return it, and where it ends.

    Raises:
        ValueError: as `read_struct`.
    """
    try:
        return _list(data, at, DEEPEST)
    except IndexError:
        raise ValueError("the bytes end within a list") from None


def _struct(data: bytes, at: int, deepest: int, last: int = 0) -> tuple[Fields, int]:
    if deepest <= 0:
        raise ValueError(_TOO_DEEP)
    fields: Fields = {}
    while True:
        head = data[at]
        at += 1
        if not head:
            return fields, at
        kind = head & 15
        if head > 15:
            last += head >> 4
        else:
            number, at = _zigzag(data, at)
            if number <= last:
                raise ValueError("fields are out of order")
            last = number
        if 4 <= kind <= 6 and (number := data[at]) < 0x80:  # most are: no call for them
            fields[last] = (number >> 1) ^ -(number & 1)
            at += 1
        elif kind <= 2:
            fields[last] = kind == TRUE
        else:
            fields[last], at = _value(data, at, kind, deepest)


def _value(data: bytes, at: int, kind: int, deepest: int) -> tuple[Any, int]:
    if 4 <= kind <= 6:
        return _zigzag(data, at)
    if kind == BINARY:
        length, at = _varint(data, at)
        if length > len(data) - at:
            raise ValueError("a string is longer than what is left")
        return data[at : at + length], at + length
    if kind == STRUCT:
        return _struct(data, at, deepest - 1)
    if kind in {9, 10}:
        return _list(data, at, deepest - 1)
    if kind in {3, 7}:
        width = 1 if kind == 3 else 8
        if width > len(data) - at:
            raise IndexError
        return data[at : at + width], at + width
    raise ValueError(f"there is no type {kind}")


def _list(data: bytes, at: int, deepest: int) -> tuple[list[Any], int]:
    if deepest <= 0:
        raise ValueError(_TOO_DEEP)
    count, kind, at = _list_head(data, at)
    items = []
    for _ in range(count):
        if kind <= 2:
            item, at = data[at] == TRUE, at + 1
        else:
            item, at = _value(data, at, kind, deepest)
        items.append(item)
    return items, at


def read_list_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Read how many items of which type a list has; return both, and where the first begins.

    Raises:
        ValueError: as `read_struct`.
    """
    try:
        return _list_head(data, at)
    except IndexError:
        raise ValueError("the bytes end within a list") from None


def _list_head(data: bytes, at: int) -> tuple[int, int, int]:
    count, kind = data[at] >> 4, data[at] & 15
    at += 1
    if count == 15:
        count, at = _varint(data, at)
    if count > len(data) - at:
        raise ValueError("a list is longer than what is left")
    return count, kind, at


def integer(encoded: bytes) -> int:
    """Return the signed integer of a whole varint.

    Raises:
        ValueError: it has more than 64 bits.
    """
    length = len(encoded)
    if length == 1:
        number = encoded[0]
    elif length == 2:
        number = encoded[0] & 0x7F | encoded[1] << 7
    elif length == 3:
        number = encoded[0] & 0x7F | (encoded[1] & 0x7F) << 7 | encoded[2] << 14
    else:
        number = _varint(encoded, 0)[0]
    return (number >> 1) ^ -(number & 1)


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            break
    if number >> 64 or shift > 63:
        raise ValueError("a number has more than 64 bits")
    return number, at
