"""Measure this library against what users would pick instead, in one run on one machine.

Every comparison calls the systems in turn, at equal durability; the ratio is theirs / ours, so
above 1 we are faster. Where we lose comes first.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import processes, reads, table, writes
from benchmarks.harness import Measurement, Progress, Timing, environment
from benchmarks.picture import draw
from benchmarks.setting import Setting, Work
from benchmarks.targets import MILLION

WORKS: dict[str, Work] = {
    "commit": writes.one_row,
    "threads": writes.threads,
    "processes": writes.processes,
    "bulk": writes.bulk,
    "cycle": writes.cycle,
    "lookups": reads.lookups,
    "refresh": reads.refresh,
    "cold": processes.cold,
    "import": processes.imports,
    "memory": processes.memory,
}
PEERS = ("sqlite3", "duckdb", "deltalake", "pyiceberg", "lance", "jammi-ai")
HOME = Path(__file__).parent
RESULTS = HOME / "results.json"


def main() -> None:
    """Run what the command line asks for and print the table."""
    arguments = _parse()
    names = arguments.names or list(WORKS)
    if arguments.redraw:
        told, found = _load(RESULTS)
    else:
        told, found = environment(), _run(names, arguments)
    print(told)
    for line in table.lines(found):
        print(line)
    if arguments.json:
        _save(arguments.json, told, found)
    if arguments.write:
        _save(RESULTS, told, found)
    if arguments.write or arguments.redraw:
        draw(found, HOME / "pictures")


def _run(names: Sequence[str], arguments: argparse.Namespace) -> list[Measurement]:
    found: list[Measurement] = []
    progress = Progress(len(names))
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        setting = Setting(
            rows=tuple(arguments.rows or ((1000, 20_000) if arguments.quick else _ROWS)),
            times=100 if arguments.quick else 400,
            seconds=0.8 if arguments.quick else 10.0,
            bulk_rows=100_000,
            threads=256,
            peers=frozenset(arguments.peers),
            scratch=Path(scratch),
            quick=arguments.quick,
        )
        for name in names:
            progress.begin(name)
            found += WORKS[name](setting)
    progress.end()
    return found


_ROWS = (1000, 100_000, MILLION)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *WORKS], help="what to measure")
    parser.add_argument("--rows", type=int, nargs="+", help="rows of the tables, ascending")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--scratch", type=Path, default=Path(), help="a directory on the disk")
    parser.add_argument("--write", action="store_true", help="keep figures and draw the pictures")
    parser.add_argument("--redraw", action="store_true", help="show and draw what is kept")
    return parser.parse_args()


def _save(path: Path, told: str, found: Sequence[Measurement]) -> None:
    measured = [
        {"work": each.work, "rows": each.rows, "who": each.who} | _rounded(each.timing)
        for each in found
    ]
    lines = ",\n  ".join(json.dumps(each) for each in measured)
    head = json.dumps({"command": sys.argv[1:], "environment": told})[1:-1]
    path.write_text(f'{{{head},\n "measurements": [\n  {lines}\n]}}\n', encoding="utf-8")


def _rounded(timing: Timing) -> dict[str, Any]:
    values = timing._asdict()
    return {
        name: round(value, 2) if isinstance(value, float) else value
        for name, value in values.items()
    }


def _load(path: Path) -> tuple[str, list[Measurement]]:
    kept = json.loads(path.read_bytes())
    found = []
    for each in kept["measurements"]:
        work, rows, who = (each.pop(name) for name in ("work", "rows", "who"))
        found.append(Measurement(work, rows, who, Timing(**each)))
    return kept["environment"], found


if __name__ == "__main__":
    main()
