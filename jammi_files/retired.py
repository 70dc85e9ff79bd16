"""What a bucket holds in place of a retired version: the digest of the bytes that were there.

The answer to a create can be lost, and its version be retired before the writer reads it back: by
the digest the writer knows its own (FORMAT section "Create on an object store").
"""

from __future__ import annotations

import hashlib
import re

_MARK_BYTES = 72
_MARK = re.compile(rb"retired [0-9a-f]{64}")


def mark_of(data: bytes) -> bytes:
    """Return what is left of an object that held ``data``."""
    return b"retired " + hashlib.sha256(data).hexdigest().encode()


def without_mark(data: bytes) -> bytes:
    """Return what an object shows to its readers: nothing if it is retired."""
    return b"" if _MARK.fullmatch(data) else data


def without_mark_size(size: int) -> int:
    """Return the size that a version's object shows: a manifest is always larger than a mark."""
    return 0 if size <= _MARK_BYTES else size
