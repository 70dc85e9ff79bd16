"""Switches a server's faults on and off, wherever the server lives."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from support.servers.controls import LIMIT, Chance, Controls, Fault, Rule
from support.servers.dialects import CHANGING
from support.threads import begin


class Hold:
    """Requests that wait at a server until they are released."""

    def __init__(self, controls: Controls, number: int) -> None:
        self._controls, self._number = controls, number

    def wait(self) -> None:
        """Return when a request is held."""
        assert self._controls.arrived(self._number, LIMIT / 2), "no such request came in time"

    def release(self) -> None:
        """Let what is held go on, and hold nothing more."""
        self._controls.release(self._number)


class Faults:
    """The faults of one server; the same from whatever process they are switched."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    def add(self, rule: Rule) -> None:
        """Let a fault happen to the requests that a rule speaks of."""
        self._controls.add_rule(rule)

    def next(self, fault: Fault, key: str = "", *methods: str, seconds: float = 1.0) -> None:
        """Let a fault happen to the next request of these methods, by default a changing one."""
        self.add(Rule(fault, key, methods or CHANGING, seconds=seconds))

    @contextlib.contextmanager
    def hold(
        self, key: str = "", *methods: str, applied: bool = False, times: int | None = 1
    ) -> Iterator[Hold]:
        """Hold the next request before the server acts, or once it has; release it at the end."""
        fault = Fault.HELD_AFTER if applied else Fault.HELD_BEFORE
        rule = Rule(fault, key, methods or CHANGING, times=times)
        held = Hold(self._controls, self._controls.add_rule(rule))
        try:
            yield held
        finally:
            held.release()

    def in_rounds(self, ask: Callable[[], Any], *sizes: int) -> Any:
        """Return what ``ask()`` returns while its requests are released in rounds of these sizes.

        A round is released once all of its requests are at the server, and not before: a call that
        comes to its end takes no more round trips than there are rounds.
        """
        controls = self._controls
        any_method = ("GET", "HEAD", *CHANGING)
        held = [Rule(Fault.HELD_BEFORE, methods=any_method, times=size) for size in sizes]
        numbers = [controls.add_rule(rule) for rule in held]  # the oldest is used first
        asked = begin(ask)
        for number, size in zip(numbers, sizes, strict=True):
            end = time.monotonic() + LIMIT / 4
            while controls.seen(number) < size:
                assert not asked.done(), f"no round of {size} requests: {asked.result(0)!r}"
                assert time.monotonic() < end, f"a round of {size} was not filled"
                time.sleep(0.002)
            controls.release(number)
        return asked.result(LIMIT)

    @contextlib.contextmanager
    def by_chance(self, chance: Chance) -> Iterator[None]:
        """Let faults happen by chance within the block."""
        self._controls.set_chance(chance)
        try:
            yield
        finally:
            self._controls.set_chance(None)

    @contextlib.contextmanager
    def ignoring_preconditions(self) -> Iterator[None]:
        """Strip each request's conditions: what a store does that never heard of them."""
        self._controls.set_preconditions(False)
        try:
            yield
        finally:
            self._controls.set_preconditions(True)

    @contextlib.contextmanager
    def latency(self, seconds: float) -> Iterator[None]:
        """Let every request of the block wait that long before the server sees it."""
        self._controls.set_latency(seconds)
        try:
            yield
        finally:
            self._controls.set_latency(0.0)

    def clear(self) -> None:
        """Forget every fault, and what the log holds."""
        self._controls.clear()
