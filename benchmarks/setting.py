"""What one run measures with: how long, at how many rows, against whom, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.harness import Call, Measurement, Timing, measure_in_turn


@dataclasses.dataclass(frozen=True)
class Setting:
    """The size of a run; ``seconds`` is the most that one system spends on one piece of work."""

    rows: tuple[int, ...]
    times: int
    seconds: float
    bulk_rows: int
    threads: int
    peers: frozenset[str]
    scratch: Path
    quick: bool

    def has(self, peer: str) -> bool:
        """Say whether a peer is wanted."""
        return peer in self.peers

    def in_turn(
        self, work: str, rows: int, calls: Mapping[str, Call], *, burst: int = 1, times: int = 0
    ) -> Iterator[Measurement]:
        """Measure the same work of several systems in turn."""
        wanted = times or self.times
        found = measure_in_turn(calls, times=wanted, seconds=self.seconds, burst=burst)
        for who, timing in found.items():
            yield Measurement(work, rows, who, timing)


Work = Callable[[Setting], Iterable[Measurement]]


def single(work: str, rows: int, who: str, value: float, unit: str) -> Measurement:
    """Return a measurement of one value."""
    return Measurement(work, rows, who, Timing(value, value, value, value, 1, unit))
