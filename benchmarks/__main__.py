"""Measure this library against what users would pick instead, in one run on one machine.

Every comparison calls the systems in turn, at equal durability; the ratio is theirs / ours, so
above 1 we are faster. Where we lose comes first.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import processes, reads, report, requests, scale, table, writes
from benchmarks.harness import Measurement, Progress, Timing, environment
from benchmarks.picture import draw
from benchmarks.requests import Cost
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
    "scale": scale.scale,
}
REQUESTS = "requests"
PEERS = ("sqlite3", "duckdb", "deltalake", "pyiceberg", "lance", "jammi-ai")
HOME = Path(__file__).parent
RESULTS = HOME / "results.json"


class Figures(NamedTuple):
    """What a run has found, and where."""

    told: str
    found: list[Measurement]
    costs: list[Cost]


def main() -> None:
    """Run what the command line asks for and print the table."""
    arguments = _parse()
    figures = _load(RESULTS) if arguments.redraw else _run(arguments)
    print(figures.told)
    for line in table.lines(figures.found):
        print(line)
    for line in requests.lines(figures.costs) if figures.costs else ():
        print(line)
    if arguments.write:
        _save(RESULTS, figures)
    if arguments.write or arguments.redraw:
        pictures = draw(figures.found, HOME / "pictures")
        page = HOME / "RESULTS.md"
        report.write(page, figures.told, figures.found, figures.costs, pictures)


def _run(arguments: argparse.Namespace) -> Figures:
    figures = Figures(environment(), [], [])
    names = arguments.names or [*WORKS, REQUESTS]
    progress = Progress(len(names))
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        setting = Setting(
            rows=tuple(arguments.rows or (_QUICK_ROWS if arguments.quick else _ROWS)),
            times=100 if arguments.quick else 400,
            seconds=0.8 if arguments.quick else 5.0,
            bulk_rows=100_000,
            threads=256,
            peers=frozenset(arguments.peers),
            scratch=Path(scratch),
            quick=arguments.quick,
        )
        for name in names:
            progress.begin(name)
            if name in WORKS:
                figures.found.extend(WORKS[name](setting))
            elif requests.is_possible():
                figures.costs.extend(requests.measure(setting.peers))
            if arguments.json:  # a long run that is broken off leaves what it has measured
                _save(arguments.json, figures)
    progress.end()
    return figures


_QUICK_ROWS = (1000, 20_000)
_ROWS = (1000, 100_000, MILLION)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *WORKS, REQUESTS], help="what to measure")
    parser.add_argument("--rows", type=int, nargs="+", help="rows of the tables, ascending")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--scratch", type=Path, default=Path(), help="a directory on the disk")
    parser.add_argument("--write", action="store_true", help="keep figures and draw the pictures")
    parser.add_argument("--redraw", action="store_true", help="show and draw what is kept")
    return parser.parse_args()


def _save(path: Path, figures: Figures) -> None:
    measured = [
        {"work": each.work, "rows": each.rows, "who": each.who} | _rounded(each.timing)
        for each in figures.found
    ]
    counted = [cost._asdict() for cost in figures.costs]
    head = json.dumps({"command": sys.argv[1:], "environment": figures.told})[1:-1]
    path.write_text(
        f'{{{head},\n "measurements": [{_lines(measured)}],\n "requests": [{_lines(counted)}]}}\n',
        encoding="utf-8",
    )


def _lines(entries: list[dict[str, Any]]) -> str:
    return ",".join(f"\n  {json.dumps(entry)}" for entry in entries)


def _rounded(timing: Timing) -> dict[str, Any]:
    values = timing._asdict()
    return {
        name: round(value, 2) if isinstance(value, float) else value
        for name, value in values.items()
    }


def _load(path: Path) -> Figures:
    kept = json.loads(path.read_bytes())
    found = []
    for each in kept["measurements"]:
        work, rows, who = (each.pop(name) for name in ("work", "rows", "who"))
        found.append(Measurement(work, rows, who, Timing(**each)))
    return Figures(kept["environment"], found, [Cost(**each) for each in kept["requests"]])


if __name__ == "__main__":
    main()
