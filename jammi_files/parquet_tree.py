"""An Arrow schema as Parquet's tree of columns, and values taken apart into its leaves.

A leaf holds its values in a row, and beside them levels that say where a list goes on (repetition)
and how much of the path to a value is there (definition). Numbers are those of ``parquet.thrift``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa

from jammi_files.errors import FormatError
from jammi_files.thrift import BINARY, I32, STRUCT, TRUE, binary, struct_of, zigzag

BOOLEAN, INT64, BYTE_ARRAY = 0, 2, 6
"""Physical types."""

Cell: TypeAlias = tuple[int, int, bytes]
"""Repetition level, definition level and plain value of one entry of a leaf."""

_Field: TypeAlias = tuple[int, int, bytes]
_REQUIRED, _OPTIONAL, _REPEATED = 0, 1, 2


class Leaf(NamedTuple):
    """One leaf column."""

    kind: int
    path: tuple[str, ...]
    is_optional: bool
    is_repeated: bool


class Node:
    """A field of the schema, and how a value of it becomes levels and bytes."""

    def __init__(
        self, field: pa.Field, path: tuple[str, ...] = (), defined: int = 0, repeated: int = 0
    ) -> None:
        self._type, self._is_nullable = field.type, field.nullable
        self.name, self._path = field.name, (*path, field.name)
        self._defined, self._repeated = defined + field.nullable, repeated
        self._is_map = pa.types.is_map(field.type)
        self._is_many = self._is_map or pa.types.is_list(field.type)
        self._children: list[Node] = []
        if pa.types.is_list(field.type):
            self._children = [self._below(field.type.value_field.with_name("element"), "list")]
        elif self._is_map:
            entry = field.type.key_field.with_name("key"), field.type.item_field.with_name("value")
            self._children = [self._below(each, "key_value") for each in entry]
        elif pa.types.is_struct(field.type):
            self._children = [self._below(each) for each in field.type]
        self._encode = _ENCODERS[self._physical]
        self.leaves: list[Leaf] = [leaf for child in self._children for leaf in child.leaves]
        if not self._children:
            marks = self._defined > 0, self._repeated > 0
            self.leaves = [Leaf(self._physical, self._path, *marks)]

    def stripe(self, value: Any) -> tuple[bytes, ...]:  # noqa: ANN401 - of the field's type
        """Return a row's value as pieces: for each leaf its levels, as far as it has any, and data.

        Lists are sequences, maps sequences of pairs, structs dictionaries.

        Raises:
            FormatError: a value that must be there is None.
        """
        if not self._children:
            if value is not None:
                data = self._encode(value)
                return (b"\1", data) if self._is_nullable else (data,)
            if self._is_nullable:
                return b"\0", b""
        pieces: list[bytes] = []
        for leaf, cells in zip(self.leaves, self.cells(value, 0), strict=True):
            if leaf.is_repeated:
                pieces.append(bytes([repeated for repeated, _, _ in cells]))
            if leaf.is_optional:
                pieces.append(bytes([defined for _, defined, _ in cells]))
            pieces.append(b"".join([data for _, _, data in cells]))
        return tuple(pieces)

    def elements(self) -> Iterator[bytes]:
        """Yield the entries of the file's schema for this field and those under it."""
        own = _OPTIONAL if self._is_nullable else _REQUIRED
        count = _count(len(self._children))
        if self._is_many:
            outer, inner = (_MAP, "key_value") if self._is_map else (_LIST, "list")
            yield element(self.name, own, [_count(1), *outer])
            yield element(inner, _REPEATED, [count])
        elif self._children:
            yield element(self.name, own, [count])
        else:
            yield element(self.name, own, _annotation(self._type), kind=self._physical)
        for child in self._children:
            yield from child.elements()

    def _below(self, field: pa.Field, *between: str) -> Node:
        deeper = len(between)
        path = (*self._path, *between)
        return Node(field, path, self._defined + deeper, self._repeated + deeper)

    @property
    def _physical(self) -> int:
        if pa.types.is_boolean(self._type):
            return BOOLEAN
        is_number = pa.types.is_integer(self._type) or pa.types.is_timestamp(self._type)
        return INT64 if is_number else BYTE_ARRAY

    def cells(self, value: Any, level: int) -> list[list[Cell]]:  # noqa: ANN401 - as `stripe`
        """Return the entries of each leaf for a value that begins at a repetition level."""
        if value is None:
            if not self._is_nullable:
                raise FormatError(f"column '{'.'.join(self._path)}' is null in a row")
            return [[(level, self._defined - 1, b"")] for _ in self.leaves]
        if not self._children:
            return [[(level, self._defined, self._encode(value))]]
        if not self._is_many:
            return self._together([value[child.name] for child in self._children], level)
        if not value:
            return [[(level, self._defined, b"")] for _ in self.leaves]
        out: list[list[Cell]] = [[] for _ in self.leaves]
        for item in value:
            entry = self._together(item if self._is_map else (item,), level)
            for cells, more in zip(out, entry, strict=True):
                cells.extend(more)
            level = self._repeated + 1
        return out

    def _together(self, values: Any, level: int) -> list[list[Cell]]:  # noqa: ANN401 - a sequence
        pairs = zip(self._children, values, strict=True)
        return [cells for child, value in pairs for cells in child.cells(value, level)]


def element(
    name: str, repetition: int | None, rest: list[_Field], kind: int | None = None
) -> bytes:
    """Encode one entry of the file's schema."""
    first = [] if kind is None else [(1, I32, zigzag(kind))]
    second = [] if repetition is None else [(3, I32, zigzag(repetition))]
    return struct_of(*first, *second, (4, BINARY, binary(name.encode())), *rest)


def schema_of(nodes: list[Node]) -> list[bytes]:
    """Return the entries of a file's schema, the root first."""
    below = [each for node in nodes for each in node.elements()]
    return [element("schema", None, [_count(len(nodes))]), *below]


def _count(children: int) -> _Field:
    return 5, I32, zigzag(children)


def _named(converted: int | None, logical: int, content: bytes = b"\0") -> list[_Field]:
    older = [] if converted is None else [(6, I32, zigzag(converted))]
    return [*older, (10, STRUCT, struct_of((logical, STRUCT, content)))]


_TEXT, _MAP, _LIST = _named(0, 1), _named(1, 2), _named(3, 3)
_IN_NANOSECONDS = struct_of((3, STRUCT, b"\0"))
_INSTANT = _named(None, 8, struct_of((1, TRUE, b""), (2, STRUCT, _IN_NANOSECONDS)))


def _annotation(kind: pa.DataType) -> list[_Field]:
    if pa.types.is_timestamp(kind):
        return _INSTANT
    return _TEXT if pa.types.is_string(kind) else []


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(4, "little") + data


_ENCODERS: dict[int, Callable[[Any], bytes]] = {
    BOOLEAN: lambda value: b"\1" if value else b"\0",
    INT64: struct.Struct("<q").pack,
    BYTE_ARRAY: _text,
}
