"""Who makes results: this process, by an id that no other process ever has."""

from __future__ import annotations

import os
import uuid

_PRODUCER_IDS: dict[int, str] = {}


def producer_id() -> str:
    """Return the id of this process: 32 hex digits, one for its lifetime (`B182`).

    A forked child is another process and has its own.
    """
    return _PRODUCER_IDS.setdefault(os.getpid(), uuid.uuid4().hex)  # setdefault: one for threads
