"""``python -m support.long_run --builds 10000 --processes 6``, run in ``tests/``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support.long_run import Asked, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run at the size that is asked for and print the figures."""
    parser = argparse.ArgumentParser(prog="support.long_run", description=__doc__)
    parser.add_argument("--builds", type=int, default=10_000, help="acknowledged (default 10000)")
    parser.add_argument("--processes", type=int, default=6, help="builders (default 6)")
    parser.add_argument("--kill-every", type=float, default=1.0, help="seconds (default 1)")
    parser.add_argument("--durability", choices=("os", "fsync"), default="os")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--keep", help="an empty directory to keep root and notes in")
    asked = parser.parse_args(argv)
    size = Asked(
        builds=asked.builds,
        processes=asked.processes,
        kill_every=asked.kill_every,
        durability=asked.durability,
        seconds=asked.seconds,
    )
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(asked.keep or scratch)
        (place / "notes").mkdir(parents=True)
        figures = run(str(place / "root"), place / "notes", size)
    for name, value in figures.items():
        text = f"{value:.0f}" if isinstance(value, float) else value
        print(f"{name}: {text}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
