"""RESULTS.md: the targets and every comparison of the kept run, where we lose first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks import table
from benchmarks.harness import Measurement
from benchmarks.requests import ROWS, Cost
from benchmarks.targets import judge

_HEAD = """\
# What was measured

Written by `python -m benchmarks --write`; `results.json` beside it has every percentile. Systems
were called in turn in one run: {told}.

A ratio is theirs / ours at p50, so above 1 we are faster. *Durable*: every commit is synced on both
sides (SQLite: WAL, `synchronous=FULL`). *Not synced*: on neither, because Delta, Iceberg and Lance
leave writing back to the system (Iceberg's SQLite catalog syncs all the same). SQLite has the best
index for each query; *jammi-db indexes* are those of jammi-db 0.32. A lookup asks for 1,000 rows
again and again, *first time* for each of them once; both sides return the same records. jammi-ai
syncs its catalog but not its Parquet file, ours syncs both.
"""


def write(
    path: Path, told: str, found: Sequence[Measurement], costs: Sequence[Cost], pictures: list[Path]
) -> None:
    """Write the page."""
    path.write_text("\n".join(_page(path, told, found, costs, pictures)) + "\n", encoding="utf-8")


def _page(
    path: Path, told: str, found: Sequence[Measurement], costs: Sequence[Cost], pictures: list[Path]
) -> Iterator[str]:
    yield _HEAD.format(told=told)
    yield "## Where we lose, and where we win\n"
    yield from _rows(
        ("work", "rows", "against", "ours p50", "ours p99", "theirs p50", "theirs p99", "ratio"),
        (
            (
                ours.work, f"{ours.rows:,}", theirs.who,
                table.show(ours.timing.p50, ours.timing.unit),
                table.show(ours.timing.p99, ours.timing.unit),
                table.show(theirs.timing.p50, theirs.timing.unit),
                table.show(theirs.timing.p99, theirs.timing.unit),
                f"{ratio:.3g}",
            )
            for ratio, ours, theirs in table.comparisons(found)
        ),
    )  # fmt: skip
    yield "\n## Ours alone\n"
    yield from _rows(
        ("work", "rows", "p50", "p99", "times"),
        (
            (
                each.work, f"{each.rows:,}", table.show(each.timing.p50, each.timing.unit),
                table.show(each.timing.p99, each.timing.unit), f"{each.timing.times:,}",
            )
            for each in table.alone(found)
        ),
    )  # fmt: skip
    yield "\n## Targets\n"
    yield from _rows(
        ("target", "measured", "", "why not"),
        (
            (
                table.words(verdict),
                table.figure(verdict),
                "met" if verdict.is_met else "**missed**",
                "" if verdict.is_met else verdict.target.why,
            )
            for verdict in sorted(judge(found), key=lambda verdict: verdict.is_met)
        ),
    )  # fmt: skip
    if costs:
        yield f"\n## Requests in a bucket\n\nCounted at an S3 server, {ROWS} rows.\n"
        yield from _rows(
            ("operation", "system", "writes", "reads", "lists", "bytes"),
            (
                (cost.work, cost.who, *map(str, cost[2:5]), f"{cost.bytes:,}")
                for cost in sorted(costs, key=lambda cost: cost.work)
            ),
        )
    yield "\n## Cost against rows\n"
    for picture in pictures:
        where = picture.relative_to(path.parent).as_posix()
        yield f"![{picture.stem.replace('-', ' ')}]({where})"


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |"
