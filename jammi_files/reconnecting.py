"""Storages that came by a pickle: a process keeps the last few, as each part of a work brings one.

A new connection to a bucket costs more than a small request, so what is unpickled again with the
same arguments is the same storage. It is current all the same: a storage keeps no answers.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

KEPT = 4
"""Storages that a process keeps; a copy needs two."""

_storages: dict[bytes, Any] = {}


def reconnect(make: Callable[..., Any], *given: Any) -> Any:  # noqa: ANN401 - whatever it makes
    """Return ``make(*given)``, or what an earlier call with equal arguments has made."""
    key = pickle.dumps((make, given))  # exact where a `repr` would hide what differs
    found = _storages.get(key)
    if found is None:
        found = make(*given)
        # No lock, which a fork would leave held; each of these steps is atomic.
        _storages[key] = found
        for old in list(_storages)[:-KEPT]:
            _storages.pop(old, None)
    return found
