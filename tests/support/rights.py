"""Files' modes that hold for this thread, too, where it is root's: without its two capabilities.

Not another user: what is imported meanwhile may lie where only the owner may look.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_VERSION = 0x20080522
_OVERRIDES = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""


@contextlib.contextmanager
def owners_only() -> Iterator[None]:
    """Be refused what a file's mode refuses its owner, as every user but root is."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)  # of this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, in two words each
    _require(libc.capget(header, sets))
    before = sets[0]
    sets[0] &= ~_OVERRIDES
    _require(libc.capset(header, sets))
    try:
        yield
    finally:
        sets[0] = before
        _require(libc.capset(header, sets))


def _require(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
