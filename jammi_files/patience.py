"""How long a store is waited for, and how often it is asked again.

A store that has never answered is probably the wrong one: it gets less patience, as whoever has
mistyped an endpoint is watching. The clients repeat requests by themselves, some for an hour; what
is waited for one answer is therefore bounded here.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

MAX_ATTEMPTS = 8
MAX_SECONDS = 60.0
"""How long a request is begun again; before the first answer of a store, `FIRST_SECONDS`."""
FIRST_SECONDS = 10.0

FIRST_ANSWER_SECONDS = 30.0
"""How long the first answer of a store is waited for, credentials included."""
ANSWER_SECONDS = 60.0
"""How long an answer is waited for, beyond what its bytes take at `SLOWEST_RATE`."""
SLOWEST_RATE = 2**20
"""Bytes a second."""

_LONGEST_PAUSE = 8.0


class Patience:
    """For one request: full jitter, doubling from the latency seen, bounded in time and tries."""

    def __init__(self, *, is_reached: bool, size: int) -> None:
        """``size`` is the number of bytes that may pass."""
        self.limit = ANSWER_SECONDS + size / SLOWEST_RATE if is_reached else FIRST_ANSWER_SECONDS
        """Seconds to wait for one answer."""
        self._deadline = time.monotonic() + (MAX_SECONDS if is_reached else FIRST_SECONDS)
        self._attempt = 0
        self._latency = 0.01

    @contextlib.contextmanager
    def observing(self) -> Iterator[None]:
        """Take the latency of the request in the block."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._latency = min(1.0, max(self._latency, time.monotonic() - started))

    def wait(self) -> bool:
        """Pause before the next try; False when there is none."""
        self._attempt += 1
        if self._attempt >= MAX_ATTEMPTS or time.monotonic() > self._deadline:
            return False
        longest = min(_LONGEST_PAUSE, self._latency * 2**self._attempt)
        time.sleep(random.uniform(0, longest))  # noqa: S311 - jitter, not a secret
        return True
