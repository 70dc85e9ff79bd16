"""Time a call many times and print p50, p90, p99 and the worst; no means, no verdicts."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple


class Timing(NamedTuple):
    """Microseconds at the percentiles of one series of calls."""

    p50: float
    p90: float
    p99: float
    worst: float


def measure(call: Callable[[int], object], *, times: int, warm_up: int = 3) -> Timing:
    """Call ``call(i)`` ``warm_up`` times untimed and then ``times`` times, ``i`` counting on."""
    for number in range(warm_up):
        call(number)
    taken = []
    for number in range(warm_up, warm_up + times):
        start = time.perf_counter_ns()
        call(number)
        taken.append((time.perf_counter_ns() - start) / 1000)
    taken.sort()
    return Timing(*(taken[min(int(times * q), times - 1)] for q in (0.5, 0.9, 0.99, 1.0)))


def environment() -> str:
    """Describe where the numbers come from, in one line."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("pyarrow", "jammi_files"))
    cores = os.cpu_count()
    return f"{platform.platform()}, {cores} cores, Python {platform.python_version()}, {packages}"
