"""What decoding a Parquet file takes, by its footer and the headers of its pages.

To what the footer says (`parquet_footer`) come the values that take more than their page does: a
code of one byte may stand for a string of a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from jammi_files.parquet_footer import (
    MOST_MEMORY,
    TAIL,
    VALUE_BYTES,
    Chunk,
    Footer,
    Group,
    Leaf,
    count_of,
    field_of,
    footer_of,
    name_of,
    read_footer,
    require_memory,
)
from jammi_files.thrift import NUMBER, integer, read_struct

MOST_TIMES = 1024
"""How many times its own size a whole segment may take, if that is more than `MOST_MEMORY`."""

_BYTE_ARRAY, _FIXED = 6, 7
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_2 = 0, 2, 3
_CONTENT = {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_2: 8}
"""The field of a page's header that says what is in it, by the page's kind."""

_DICTIONARY = frozenset({2, 8})
_BOUNDED = frozenset({0, 2, 3, 4, 5, 6, 8, 9})
"""Encodings whose values take no more than their page and `VALUE_BYTES` each, or a dictionary's.

Not `DELTA_BYTE_ARRAY`: each value may repeat the one before, so a few bytes stand for gigabytes.
"""

_PAGE = re.compile(
    rb"\x15\x00\x15(%b)\x15(%b)(?:\x15%b\x1c|\x2c)\x15(%b)\x15(%b)\x15%b\x15%b"
    rb"(?:\x1c(?:\x36%b)?\x00)?\x00\x00" % ((NUMBER,) * 8),
    re.DOTALL,
)
_FOLDER = re.compile(
    rb"\x15\x04\x15(%b)\x15(%b)(?:\x15%b\x3c|\x4c)\x15(%b)\x15(%b)[\x11\x12]?\x00\x00"
    % ((NUMBER,) * 5),
    re.DOTALL,
)
"""The headers of most data pages and dictionaries; `read_struct` reads all others."""


def require_bounded(data: bytes, columns: Collection[str], most: int) -> tuple[Footer, list[str]]:
    """Refuse a file whose decoding takes more memory than ``most`` bytes.

    Return what it says of itself, and as which of the ``columns`` it can be read as dictionaries.

    Raises:
        ValueError: it takes more, or it is damaged.
    """
    footer = footer_of(data)
    said = read_footer(footer, len(data) - TAIL - len(footer))
    folded = fold(said.leaves, columns)
    require_memory(sum(group.memory for group in said.groups), most, "it")
    memory = sum(check_pages(data, 0, group, folded) for group in said.groups)
    require_memory(memory, most, "it")
    return said, folded


def fold(leaves: Collection[Leaf], columns: Collection[str]) -> list[str]:
    """Return those columns as they can be read as dictionaries: all, or of older files none."""
    there = {leaf.path[0] for leaf in leaves}
    return [*columns] if all(each.encode() in there for each in columns) else []


def check_pages(
    pages: bytes, start: int, group: Group, folded: Collection[str], most: int = MOST_MEMORY
) -> int:
    """Read the headers of a row group's pages; return the memory that decoding them takes.

    ``pages`` are the file's bytes from ``start`` on. The columns ``folded`` are decoded without
    writing out their dictionaries.

    Raises:
        ValueError: they are damaged, contradict the footer, or take more than ``most`` bytes.
    """
    memory = VALUE_BYTES * sum(chunk.values for chunk in group.chunks)
    names = {each.encode() for each in folded}
    for chunk in group.chunks:
        is_folded = chunk.leaf.path[0] in names
        memory += _pages_memory(pages[chunk.start - start : chunk.end - start], chunk, is_folded)
        if memory > most:
            break
    require_memory(memory, most, "a row group")
    return memory


def _pages_memory(data: bytes, chunk: Chunk, is_folded: bool) -> int:  # noqa: FBT001 - private
    at, values, memory, longest = 0, 0, 0, 0
    while at < len(data):
        page = _PAGE.match(data, at)
        if page is not None:
            unpacked, packed, count, encoding = [integer(each) for each in page.groups()]
            kind, at = _DATA_PAGE, page.end()
        elif (page := _FOLDER.match(data, at)) is not None:
            unpacked, packed, count, encoding = [integer(each) for each in page.groups()]
            kind, at = _DICTIONARY_PAGE, page.end()
        else:
            kind, unpacked, packed, count, encoding, at = _read_page(data, at)
        if min(unpacked, packed, count) < 0 or packed > len(data) - at:
            raise ValueError(f"a page of column '{name_of(chunk.leaf)}' is longer than the column")
        at += packed
        memory += unpacked
        if kind == _DICTIONARY_PAGE:
            longest = unpacked
            continue
        if encoding not in _BOUNDED:
            raise ValueError(f"a page has encoding {encoding}, which has no bound")
        values += count
        if encoding in _DICTIONARY and not is_folded and chunk.leaf.kind in {_BYTE_ARRAY, _FIXED}:
            memory += count * longest
    if values != chunk.values:
        raise ValueError(f"a column's pages hold {values} values, its footer says {chunk.values}")
    return memory


def _read_page(data: bytes, at: int) -> tuple[int, int, int, int, int, int]:
    header, at = read_struct(data, at)
    kind = count_of(header, 1, "kind of a page")
    if kind not in _CONTENT:
        raise ValueError(f"a page is of kind {kind}")
    said = field_of(header, _CONTENT[kind], dict)
    encoding = said.get(4 if kind == _DATA_PAGE_2 else 2)
    sizes = (count_of(header, number, "size of a page") for number in (2, 3))
    return kind, *sizes, count_of(said, 1, "values of a page"), encoding, at
