"""One picture per piece of work: its cost against rows, ours and the peers'."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import MICROSECONDS, Measurement
from benchmarks.targets import OURS


def draw(found: Sequence[Measurement], directory: Path) -> list[Path]:
    """Write an SVG for every work that was measured at several numbers of rows."""
    works: dict[str, list[Measurement]] = {}
    for each in found:
        if each.timing.unit == MICROSECONDS:
            works.setdefault(each.work, []).append(each)
    directory.mkdir(exist_ok=True)
    return [
        _draw_one(work, series, directory)
        for work, series in works.items()
        if len({each.rows for each in series}) > 1
    ]


def _draw_one(work: str, series: Sequence[Measurement], directory: Path) -> Path:
    import matplotlib as mpl  # noqa: PLC0415 - only with the extra [bench]

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "jammi_files"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    systems = dict.fromkeys(each.who for each in series)
    for who in sorted(systems, key=lambda who: who != OURS):
        points = sorted((each.rows, each.timing) for each in series if each.who == who)
        rows, costs = [row for row, _ in points], [timing.p50 for _, timing in points]
        axes.plot(rows, costs, marker="o", label=who, linewidth=2.5 if who == OURS else 1.2)
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="microseconds, p50", title=work)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    path = directory / f"{re.sub('[^a-z0-9]+', '-', work.lower()).strip('-')}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
