"""The footer of a Parquet file, read before anything decodes it.

Anybody may have written the file. Arrow allocates what a footer says, and ends the process over
some that are damaged; so it is read here first, strictly, in time and memory that follow its bytes.
The measure is memory: the bytes that pages unpack to, and `VALUE_BYTES` for each value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jammi_files.thrift import (
    BINARY,
    NUMBER,
    STRUCT,
    Fields,
    binary,
    integer,
    list_of,
    read_list,
    read_list_head,
    read_struct,
)

MOST_MEMORY = 2**30
"""Bytes that decoding a manifest, or a row group of a segment, may take."""

MOST_GROUP_ROWS = 65_536
"""Rows of a row group; no writer of this library makes more than `manifest.ROW_GROUP_ROWS`."""

MOST_COLUMNS = 1024
"""Leaf columns; rows have some 40."""

VALUE_BYTES = 16
"""What a value takes beside its own bytes: levels, offsets, codes."""

MAGIC = b"PAR1"
TAIL = 8
"""Bytes at the end of a file: the footer's length, and `MAGIC`."""

_DEEPEST = 32
_LONGEST_SCHEMA, _MOST_SCHEMAS = 16_384, 8
_SCHEMAS: dict[bytes, tuple[Leaf, ...]] = {}
"""Schemas that were read lately, by the bytes that footers begin with: there are hardly two."""


class Leaf(NamedTuple):
    """A leaf column: its physical type, its path, and that as a footer spells it."""

    kind: int
    path: tuple[bytes, ...]
    spelled: bytes


class Chunk(NamedTuple):
    """One column of one row group: the place of its pages, and what they are said to hold."""

    leaf: Leaf
    start: int
    end: int
    values: int
    unpacked: int
    least: bytes | None
    """The least value as the statistics give it."""


class Group(NamedTuple):
    """One row group."""

    rows: int
    chunks: tuple[Chunk, ...]

    @property
    def start(self) -> int:
        """Where its pages begin."""
        return min(chunk.start for chunk in self.chunks)

    @property
    def end(self) -> int:
        """Where they end."""
        return max(chunk.end for chunk in self.chunks)

    @property
    def memory(self) -> int:
        """Bytes that decoding it takes, as the footer says."""
        return sum(chunk.unpacked + VALUE_BYTES * chunk.values for chunk in self.chunks)


class Footer(NamedTuple):
    """What a file says of itself."""

    leaves: tuple[Leaf, ...]
    groups: tuple[Group, ...]
    rows: int
    metadata: dict[bytes, bytes]


def footer_of(data: bytes) -> bytes:
    """Return the footer of a file that is given whole.

    Raises:
        ValueError: the bytes are no Parquet file, or cut off.
    """
    if len(data) < len(MAGIC) + TAIL or data[: len(MAGIC)] != MAGIC:
        raise ValueError("it does not begin as a Parquet file does")
    length = footer_length(data[-TAIL:], len(data))
    return data[-TAIL - length : -TAIL]


def footer_length(tail: bytes, size: int) -> int:
    """Return the length of a footer by the last bytes of a file of ``size`` bytes.

    Raises:
        ValueError: the bytes are not the end of a Parquet file, or the footer is longer than it.
    """
    length = int.from_bytes(tail[:4], "little")
    if len(tail) != TAIL or tail[4:] != MAGIC:
        raise ValueError("it does not end as a Parquet file does")
    if length > size - len(MAGIC) - TAIL:
        raise ValueError(f"its footer is said to have {length} bytes, the file has {size}")
    return length


def read_footer(footer: bytes, end: int) -> Footer:
    """Read all that a file says of itself; ``end`` is where its pages end and the footer begins.

    Raises:
        ValueError: the footer is damaged, contradicts itself, or says more than is allowed.
    """
    leaves, at = schema_of(footer)
    rows, many, at = groups_of(footer, at)
    groups = []
    for _ in range(many):
        group, at = read_group(footer, at, leaves, end)
        groups.append(group)
    metadata = metadata_at(footer, at)
    if rows != sum(group.rows for group in groups):
        raise ValueError(f"its row groups do not have the {rows} rows that it is said to have")
    return Footer(leaves, tuple(groups), rows, metadata)


def metadata_at(footer: bytes, at: int) -> dict[bytes, bytes]:
    """Return the key-value metadata; ``at`` is where the footer goes on behind the row groups.

    Raises:
        ValueError: what is left of the footer is damaged, or is not all of it.
    """
    fields, at = read_struct(footer, at, last=4)
    if at != len(footer):
        raise ValueError("there are bytes after its footer")
    pairs = field_of({5: [], **fields}, 5, list)
    return {field_of(pair, 1, bytes): _value_of(pair) for pair in pairs}


def _value_of(pair: Fields) -> bytes:
    value: bytes = field_of({2: b"", **pair}, 2, bytes)
    return value


def schema_of(footer: bytes) -> tuple[tuple[Leaf, ...], int]:
    """Return the leaf columns of a file, and where its footer goes on behind the schema.

    Raises:
        ValueError: the footer does not begin with a version and a schema.
    """
    for known, leaves in tuple(_SCHEMAS.items()):  # other threads read, too
        if footer.startswith(known):
            return leaves, len(known)
    if footer[:1] != b"\x15" or footer[1:2] >= b"\x80" or footer[2:3] != b"\x19":
        raise ValueError("its footer does not begin with a version and a schema")
    elements, at = read_list(footer, 3)
    leaves = leaves_of(elements)
    if at < _LONGEST_SCHEMA:
        if len(_SCHEMAS) >= _MOST_SCHEMAS:
            _SCHEMAS.clear()
        _SCHEMAS[footer[:at]] = leaves
    return leaves, at


def leaves_of(elements: Sequence[Any]) -> tuple[Leaf, ...]:
    """Return the leaf columns of a schema's elements, in order.

    Raises:
        ValueError: they are no tree, or a larger one than is allowed.
    """
    if len(elements) > 4 * MOST_COLUMNS:
        raise ValueError(f"its schema has {len(elements)} elements, over {4 * MOST_COLUMNS}")
    if not all(isinstance(each, dict) for each in elements):
        raise ValueError("an element of its schema is none")
    rest = iter(elements)
    leaves = tuple(_leaves(next(rest, {}), rest, ()))
    if next(rest, None) is not None:
        raise ValueError("its schema is no tree")
    if len(leaves) > MOST_COLUMNS:
        raise ValueError(f"it has {len(leaves)} columns, over {MOST_COLUMNS}")
    return leaves


def _leaves(root: Fields, rest: Iterator[Fields], path: tuple[bytes, ...]) -> Iterator[Leaf]:
    if len(path) > _DEEPEST:
        raise ValueError(f"its columns are nested more than {_DEEPEST} deep")
    for _ in range(count_of(root, 5, "children of a column")):
        child = next(rest, None)
        if child is None:
            raise ValueError("its schema is no tree")
        below = (*path, field_of(child, 4, bytes))
        if child.get(5):
            yield from _leaves(child, rest, below)
        else:
            spelled = list_of(BINARY, [binary(each) for each in below])
            yield Leaf(count_of(child, 1, "type of a column"), below, spelled)


def groups_of(footer: bytes, at: int) -> tuple[int, int, int]:
    """Return how many rows and row groups a file has, and where in its footer the groups begin.

    ``at`` is where the footer goes on behind the schema.

    Raises:
        ValueError: the footer goes on in another way.
    """
    rows, at = _next_count(footer, at)
    return rows, *_next_list(footer, at)


def least_in(
    footer: bytes, at: int, leaves: Sequence[Leaf], end: int, path: tuple[bytes, ...]
) -> bytes | None:
    """Return the least value of one column of the row group at a place of a footer.

    Raises:
        ValueError: as `read_group`, of the columns up to that one.
    """
    _, at = _next_list(footer, at)
    for leaf in leaves:
        chunk, at = _read_chunk(footer, at, leaf, end)
        if leaf.path == path:
            return chunk.least
    return None


def read_group(footer: bytes, at: int, leaves: Sequence[Leaf], end: int) -> tuple[Group, int]:
    """Read the row group at a place of a footer; return it, and where it ends.

    Raises:
        ValueError: it contradicts the schema or the file, or says more than is allowed.
    """
    many, at = _next_list(footer, at)
    if many != len(leaves) or not leaves:
        raise ValueError(f"a row group has {many} columns, the schema {len(leaves)}")
    chunks = []
    for leaf in leaves:
        chunk, at = _read_chunk(footer, at, leaf, end)
        chunks.append(chunk)
    fields, at = read_struct(footer, at, last=1)
    rows = count_of(fields, 3, "rows of a row group")
    if rows > MOST_GROUP_ROWS:
        raise ValueError(f"a row group has {rows} rows, over {MOST_GROUP_ROWS}")
    group = Group(rows, tuple(chunks))
    require_memory(group.memory, MOST_MEMORY, "a row group")
    return group, at


def require_memory(memory: int, most: int, what: str) -> None:
    """Refuse what would take more memory than is allowed.

    Raises:
        ValueError: it would.
    """
    if memory > most:
        raise ValueError(f"{what} would take {memory} bytes of memory, over {most}")


def _read_chunk(footer: bytes, at: int, leaf: Leaf, end: int) -> tuple[Chunk, int]:
    head = _HEAD.match(footer, at)
    if head is not None and footer.startswith(leaf.spelled, head.end()):
        rest = _REST.match(footer, head.end() + len(leaf.spelled))
        if rest is not None:
            numbers = [integer(each) for each in rest.groups(b"\0")]
            return _chunk(leaf, end, integer(head[1]), numbers, None), rest.end()
    column, at = read_struct(footer, at)
    said = field_of(column, 3, dict)
    if said.get(3) != [*leaf.path] or 1 in column:
        raise ValueError(f"column '{name_of(leaf)}' is not where the schema says")
    numbers = [count_of(said, number, "a number of a column") for number in (5, 6, 7, 9)]
    numbers.append(count_of({11: 0, **said}, 11, "place of a page"))
    statistics = said.get(12)
    least = statistics.get(6) if isinstance(statistics, dict) else None
    kind = count_of(said, 1, "type of a column")
    return _chunk(leaf, end, kind, numbers, least if isinstance(least, bytes) else None), at


def _chunk(leaf: Leaf, end: int, kind: int, numbers: Sequence[int], least: bytes | None) -> Chunk:
    values, unpacked, packed, start, dictionary = numbers
    if kind != leaf.kind:
        raise ValueError(f"column '{name_of(leaf)}' is not of the type that the schema says")
    if 0 < dictionary < start:
        start = dictionary
    if not packed:  # of no rows
        start = len(MAGIC)
    if min(numbers) < 0 or start < len(MAGIC) or start + packed > end:
        raise ValueError(f"column '{name_of(leaf)}' lies outside of the file's pages")
    return Chunk(leaf, start, start + packed, values, unpacked, least)


def name_of(leaf: Leaf) -> str:
    """Return what messages call a column."""
    return b".".join(leaf.path).decode(errors="replace")


def _grammar() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return what most columns of a footer match, before their path and after it.

    They are of the types that Thrift would read there, and no string is among them, so that both
    find the same end. Several times as fast as `read_struct`, which reads all others.
    """
    number = NUMBER

    def many(kind: int, item: bytes, most: int) -> bytes:
        counts = [re.escape(bytes([n << 4 | kind])) + item * n for n in range(most + 1)]
        return b"(?:" + b"|".join(counts) + b")"

    longs = many(6, number, 6)
    pages = many(12, rb"\x15%b\x15%b\x15%b\x00" % (number, number, number), 4)
    head = rb"\x26%b\x1c\x15(%b)\x19%b\x19" % (number, number, many(5, number, 5))
    rest = rb"\x15%b\x16(%b)\x16(%b)\x16(%b)\x26(%b)(?:\x26(%b))?" % ((number,) * 6)
    rest += rb"(?:[\x29\x49]%b)?(?:\x3c(?:\x16%b)?(?:[\x19\x29]%b)?(?:[\x19\x29\x39]%b)?\x00)?" % (
        pages,
        number,
        longs,
        longs,
    )
    return re.compile(head, re.DOTALL), re.compile(rest + rb"\x00\x00", re.DOTALL)


_HEAD, _REST = _grammar()
_COUNT = re.compile(rb"\x16(%b)" % NUMBER, re.DOTALL)


def field_of(fields: Any, number: int, kind: type) -> Any:  # noqa: ANN401 - as read
    """Return a field of a struct that was read.

    Raises:
        ValueError: it is missing, or of another type.
    """
    value = fields.get(number) if isinstance(fields, dict) else None
    if not isinstance(value, kind):
        msg = f"field {number} of its Thrift is missing or no {kind.__name__}"
        raise ValueError(msg)  # noqa: TRY004 - of bytes that were read, not of an argument
    return value


def _next_count(footer: bytes, at: int) -> tuple[int, int]:
    match = _COUNT.match(footer, at)
    number = -1 if match is None else integer(match[1])
    if match is None or number < 0:
        raise ValueError("its footer has no count of rows")
    return number, match.end()


def _next_list(footer: bytes, at: int) -> tuple[int, int]:
    """Return how many structs the list has that is the next field, and where the first begins."""
    if footer[at : at + 1] != b"\x19":
        raise ValueError("a list is missing from its footer")
    many, kind, at = read_list_head(footer, at + 1)
    if kind != STRUCT and many:
        raise ValueError("a list of its footer is of another type")
    return many, at


def count_of(fields: Fields, number: int, what: str) -> int:
    """Return a field that counts something.

    Raises:
        ValueError: it is missing, or no count.
    """
    value = fields.get(number)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{what}: {value!r} is no count")
    return value
