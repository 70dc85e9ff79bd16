"""One root for long: a hundred thousand commits onto a million rows, with vacuum now and then."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import workload
from benchmarks.harness import Measurement, timing_of
from benchmarks.setting import Setting, single
from benchmarks.targets import OURS
from jammi_files import Catalog

_SAMPLE = 1000
"""Commits at either end whose time is kept."""


def scale(setting: Setting) -> Iterator[Measurement]:
    """Commit on and on, row after row and status after status; nothing is synced.

    A vacuum after each tenth keeps the newest version. Disk is what files occupy, the names of
    emptied versions among them: they have no bytes.
    """
    commits = 4000 if setting.quick else 100_000
    count = setting.rows[-1]
    with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
        root = Path(scratch) / "root"
        catalog = workload.filled(root, workload.rows_of(count), durability="os")
        catalog.compact()
        catalog.vacuum(0, dry_run=False)
        yield single("disk of a row, at first", count, OURS, _disk(root) / count, "bytes")
        taken = []
        for number in range(commits):
            if number % (commits // 10) == 0:
                catalog.vacuum(0, dry_run=False)
            start = time.perf_counter_ns()
            _commit(catalog, number)
            taken.append((time.perf_counter_ns() - start) / 1000)
        yield Measurement("one of the first commits", commits, OURS, timing_of(taken[:_SAMPLE]))
        yield Measurement("one of the last commits", commits, OURS, timing_of(taken[-_SAMPLE:]))
        yield single("disk of a row, before vacuum", count, OURS, _disk(root) / count, "bytes")
        catalog.vacuum(0, dry_run=False)
        yield single("disk of a row, vacuumed", count, OURS, _disk(root) / count, "bytes")


def _commit(catalog: Catalog, number: int) -> None:
    """Make a row, or change the one before: half of the commits each."""
    if number % 2:
        name = str(workload.new_row(number)["table_name"])
        catalog.update_result_table_status(name, "building", number)
    else:
        catalog.create_result_table(**workload.new_row(number + 1))  # type: ignore[arg-type]


def _disk(root: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file())
