"""``python -m support.simulation --seeds 100000``, run in ``tests/``."""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections import Counter

from support.simulation.plan import draw
from support.simulation.run import Run, shrink, simulate


def main() -> int:
    """Search; 1 if a seed fails."""
    parser = argparse.ArgumentParser(prog="support.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--trace", action="store_true", help="print the trace of a failing seed")
    asked = parser.parse_args()
    totals: Counter[str] = Counter()
    started = time.monotonic()
    digest = 0
    for count, seed in enumerate(range(asked.first, asked.first + asked.seeds), 1):
        run = simulate(draw(seed))
        digest = zlib.crc32(run.digest.to_bytes(4, "big"), digest)
        totals.update(requests=run.requests, calls=len(run.calls), versions=run.versions)
        totals.update(faults=run.faults.total())
        if run.violation is not None:
            _report(run, trace=asked.trace)
            return 1
        if count % 500 == 0 or count == asked.seeds:
            seconds = time.monotonic() - started
            figures = f"{dict(totals)}, digest {digest:08x}"
            print(f"{count} seeds, {seconds:.0f} s, {figures}", flush=True)  # noqa: T201
    return 0


def _report(run: Run, *, trace: bool) -> None:
    small = shrink(run)
    print(f"seed {run.plan.seed}: {run.violation}")  # noqa: T201
    print(f"shrunk from {run.plan.size} to {small.plan.size}: {small.violation}")  # noqa: T201
    for client in small.plan.clients:
        print(f"  {client}")  # noqa: T201
    if trace:
        print("\n".join(small.trace))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
