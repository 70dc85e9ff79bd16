"""Time calls in turn and keep percentiles: warm-up, p50, p90, p99 and the worst; no means.

What is compared is called in turn, one call of each and then the next, so that whatever else the
machine does meets all of them alike.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

Call = Callable[[int], object]

MICROSECONDS = "us"


class Timing(NamedTuple):
    """One series at its percentiles; microseconds unless ``unit`` says otherwise."""

    p50: float
    p90: float
    p99: float
    worst: float
    times: int
    unit: str = MICROSECONDS


class Measurement(NamedTuple):
    """What one system took for one piece of work at a number of rows."""

    work: str
    rows: int
    who: str
    timing: Timing


class Progress:
    """A bar on the terminal: how many of the steps are done, and which one runs."""

    _WIDTH = 30

    def __init__(self, steps: int) -> None:
        self._steps, self._done = steps, 0
        self._begun = time.monotonic()

    def begin(self, what: str) -> None:
        """Show a step, once the one before is done."""
        full = self._WIDTH * self._done // self._steps
        bar = "#" * full + "." * (self._WIDTH - full)
        seconds = time.monotonic() - self._begun
        text = f"[{bar}] {self._done}/{self._steps} {seconds:4.0f} s  {what}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{text[:110]}")
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
        self._done += 1

    def end(self) -> None:
        """Leave the bar behind."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")


def measure_in_turn(
    calls: Mapping[str, Call], *, times: int, seconds: float, burst: int = 1, warm_up: int = 2
) -> dict[str, Timing]:
    """Call each ``call(i)`` in turn, ``burst`` times at a turn, ``i`` counting on.

    Ends after ``times`` calls of each. Whoever has taken ``seconds`` sits out the further turns,
    but is called at least three times.
    """
    for call in calls.values():
        for number in range(warm_up):
            call(number)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    for turn in range(warm_up, warm_up + times, burst):
        for name, call in calls.items():
            if spent[name] > seconds * 1e6 and len(taken[name]) >= 3:
                continue
            for number in range(turn, turn + burst):
                start = time.perf_counter_ns()
                call(number)
                taken[name].append((time.perf_counter_ns() - start) / 1000)
            spent[name] += sum(taken[name][-burst:])
    return {name: timing_of(series) for name, series in taken.items()}


def timing_of(series: list[float], unit: str = MICROSECONDS) -> Timing:
    """Return the percentiles of a series."""
    ordered, count = sorted(series), len(series)
    at = [ordered[min(int(count * share), count - 1)] for share in (0.5, 0.9, 0.99, 1.0)]
    return Timing(*at, times=count, unit=unit)


def floor(directory: Path) -> Call:
    """Return the least that a durable commit by rename can cost: 4 kB written, synced, renamed."""
    directory.mkdir()

    def write(number: int) -> None:
        temporary, final = directory / f"{number}.tmp", directory / str(number)
        with temporary.open("xb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(final)
        descriptor = os.open(directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    return write


_PACKAGES = ("jammi_files", "pyarrow", "duckdb", "deltalake", "pyiceberg", "pylance")


def environment() -> str:
    """Describe where the numbers come from, in one line."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    cores = os.cpu_count()
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    python = f"Python {platform.python_version()}"
    return ", ".join([platform.platform(), f"{cores} cores", load, python, *found])
