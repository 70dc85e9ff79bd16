"""Checks of single arguments: each returns the value or says what was wrong and expected."""

from __future__ import annotations

from collections.abc import Iterable

from jammi_files.errors import InvalidInputError

INT64_MAX = 2**63 - 1


def require_text(what: str, value: object) -> str:
    """Return ``value`` if it is a non-empty string that UTF-8 can carry.

    Raises:
        InvalidInputError: naming ``what`` and the offending value.
    """
    if not isinstance(value, str):
        msg = f"{what} must be a string, not {type(value).__name__}"
        raise InvalidInputError(msg)
    if not value:
        msg = f"{what} is required"
        raise InvalidInputError(msg)
    require_utf8(what, value)
    return value


def require_utf8(what: str, value: str) -> None:
    """Refuse text that UTF-8 cannot carry."""
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = f"{what} {value!r} holds a lone surrogate, which UTF-8 cannot store"
        raise InvalidInputError(msg) from None


def require_count(what: str, value: object, *, least: int = 0) -> int:
    """Return ``value`` if it is an int64 of at least ``least`` (bools are no counts)."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= INT64_MAX:
        msg = f"{what} must be an integer between {least} and 2**63-1, not {value!r}"
        raise InvalidInputError(msg)
    return value


def require_strings(what: str, value: object) -> tuple[str, ...]:
    """Return a sequence of non-empty strings as a tuple, in caller order (`B214`)."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        msg = f"{what} must be a sequence of strings, not {value!r}"
        raise InvalidInputError(msg)
    return tuple(require_text(f"an item of {what}", item) for item in value)


LONGEST_TABLE_NAME = 255 - len(".materialization.json.01234567.tmp")
"""Bytes of UTF-8 that leave room for the longest suffix in a file name, a temporary one's."""


def require_table_name(name: object) -> str:
    """Return ``name`` if it can name a result on every storage (`B050` to `B054`).

    Raises:
        InvalidInputError: the name is empty, leaves the root, hides itself, holds a control
            character, or its files would have names of more than 255 bytes.
    """
    text = require_text("table_name", name)
    if "/" in text or "\\" in text or ".." in text or text.startswith("."):
        msg = f"table_name {text!r} must not hold '/', '\\' or '..', nor begin with '.'"
        raise InvalidInputError(msg)
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text):
        msg = f"table_name {text!r} holds a control character"
        raise InvalidInputError(msg)
    if len(text.encode()) > LONGEST_TABLE_NAME:
        msg = f"table_name {text[:40]!r}... must be at most {LONGEST_TABLE_NAME} bytes of UTF-8"
        raise InvalidInputError(msg)
    return text
