"""JSON as sidecars and definition hashes need it: strict on the way in, canonical on the way out.

orjson keeps the last of two equal keys, reads a long integer as a float and writes NaN as null,
each without a word. Everything that is hashed or kept passes `plain` or `loads`, which refuse them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

from jammi_files.errors import FormatError, InvalidInputError

MAX_DEPTH = 64
"""Levels of nesting that are read or written; a context set of jammi-db has five."""


MAX_COMMAS = 500_000
"""Commas in one text: a bound of its values, which take a hundred times the bytes once decoded."""


def loads(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Decode one JSON text and nothing else (`B187`, `B190`).

    Raises:
        FormatError: no JSON, not UTF-8, bytes after the value, a key twice in one object, NaN, a
            number that is no finite double or 64-bit integer, or nested too deep.
    """
    if data.count(b",") > MAX_COMMAS:
        raise FormatError(f"not a JSON text that can be trusted: over {MAX_COMMAS} commas")
    try:
        return plain(json.loads(str(data, "utf-8"), object_pairs_hook=_without_doubles))
    except (ValueError, RecursionError) as error:
        msg = f"not a JSON text that can be trusted: {error}"
        raise FormatError(msg) from None


def canonical_json(value: object) -> bytes:
    """Encode with sorted keys, no blanks and unescaped UTF-8; arrays keep their order (`B193`).

    Raises:
        InvalidInputError: ``value`` is not JSON; with the text of `B201`.
    """
    try:
        return orjson.dumps(plain(value), option=orjson.OPT_SORT_KEYS)
    except InvalidInputError as error:
        msg = f"producing descriptor is not canonicalisable: {error}"
        raise InvalidInputError(msg) from None


def pretty_json(value: object) -> bytes:
    """Encode as sidecars are written: two blanks of indent, keys in order, no newline (`B177`).

    Raises:
        InvalidInputError: ``value`` is not JSON, or has more values than `loads` takes.
    """
    data = orjson.dumps(plain(value), option=orjson.OPT_INDENT_2)
    if data.count(b",") > MAX_COMMAS:
        raise InvalidInputError(f"over {MAX_COMMAS} commas in JSON: nobody would read it again")
    return data


def plain(value: object, *, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON value
    """Return a deep copy of ``value`` made of dict, list, str, int, float, bool and None.

    Raises:
        InvalidInputError: another type, a key that is no string, a lone surrogate, NaN or
            infinity, an integer of more than 64 bits, or more than `MAX_DEPTH` levels.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, (int, float)):
        return _plain_number(value)
    if depth == MAX_DEPTH:
        msg = f"nested deeper than {MAX_DEPTH} levels"
        raise InvalidInputError(msg)
    if isinstance(value, Mapping):
        return {_plain_key(key): plain(item, depth=depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth=depth + 1) for item in value]
    msg = f"a {type(value).__name__} is not JSON"
    raise InvalidInputError(msg)


def _plain_key(key: object) -> str:
    if isinstance(key, str):
        return _plain_text(key)
    msg = f"the key {key!r} is not a string"
    raise InvalidInputError(msg)


def _plain_text(text: str) -> str:
    try:
        return text.encode().decode()
    except UnicodeEncodeError:
        msg = f"{text!r} holds a lone surrogate, which UTF-8 cannot store"
        raise InvalidInputError(msg) from None


def _plain_number(number: float) -> int | float:
    if isinstance(number, float):
        if math.isfinite(number):
            return float(number)
        msg = f"{number} is not JSON"
        raise InvalidInputError(msg)
    if -(2**63) <= number < 2**64:
        return int(number)
    msg = "an integer of more than 64 bits"
    raise InvalidInputError(msg)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            msg = f"the key {key!r} occurs twice"
            raise ValueError(msg)
        members[key] = value
    return members
