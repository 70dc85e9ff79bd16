"""Work in processes of its own: commits by several at once, a cold start, imports, memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.harness import Measurement, timing_of
from benchmarks.setting import Setting, single
from benchmarks.targets import OURS

_BASE = "pyarrow + fsspec"

_COMMIT = """
import json, os, sys, time
from jammi_files import Catalog
root, seconds, number = sys.argv[1], float(sys.argv[2]), sys.argv[3]
catalog = Catalog.open(root)
row = dict(source_id="s", model_id="m", task="ner", parquet_path="p")
catalog.create_result_table(f"{number}-first", **row)
print("ready", flush=True)
sys.stdin.readline()
taken, end = [], time.perf_counter() + seconds
while (start := time.perf_counter()) < end:
    catalog.create_result_table(f"{number}-{len(taken)}", **row)
    taken.append((time.perf_counter() - start) * 1e6)
print(json.dumps(taken))
"""

_COLD = """
import json, sys, time
from jammi_files import Catalog
start = time.perf_counter()
catalog = Catalog.open(sys.argv[1])
assert catalog.get_result_table(sys.argv[2]) is not None
print(json.dumps((time.perf_counter() - start) * 1e6))
"""

_IMPORT = """
import json, sys, time
start = time.perf_counter()
for name in sys.argv[1:]:
    __import__(name)
print(json.dumps((time.perf_counter() - start) * 1e6))
"""

_MEMORY = """
import ctypes, gc, json, sys
import pyarrow as pa
import jammi_files

def resident():
    gc.collect()
    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass
    return int(open("/proc/self/statm").read().split()[1]) * 4096

catalog = jammi_files.Catalog.open(sys.argv[1])
small = jammi_files.Catalog.open(sys.argv[2])
for each in (small, catalog):  # what the first use of a kernel takes is not counted
    before = resident()
    table = each.scan(columns=["status"])
    del table
    loaded = resident()
    source, name, digest = sys.argv[3:]
    each.find_result_tables(source)
    each.find_result_tables(source, "ner", "none")
    each.get_result_table(name)
    each.find_ready_result_tables_by_definition(digest)
    each.find_ready_result_tables_anchored_on(source)
    each.resolve_embedding_table(source)
    each.list_result_tables_by_status("building")
    indexed = resident()
print(json.dumps([loaded - before, indexed - loaded]))
"""


def commit_rates(root: Path, count: int, seconds: float) -> list[list[float]]:
    """Return, for each of ``count`` processes, how many microseconds each commit took."""
    from jammi_files import Catalog  # noqa: PLC0415 - the children import it for themselves

    Catalog.open(root).create_result_table(**workload.new_row(0))  # type: ignore[arg-type]
    crowd = [
        subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-c", _COMMIT, str(root), str(seconds), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for each in crowd:
        assert each.stdout is not None  # noqa: S101 - asked for above
        each.stdout.readline()
    for each in crowd:
        assert each.stdin is not None  # noqa: S101 - asked for above
        each.stdin.write("go\n")
        each.stdin.flush()
    return [json.loads(each.communicate()[0]) for each in crowd]


def cold(setting: Setting) -> Iterator[Measurement]:
    """Open and get one row in a fresh process; the system's cache is warm."""
    for count in setting.rows:
        with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
            root = Path(scratch) / "root"
            workload.filled(root, workload.rows_of(count))
            names = [workload.name_of(count * step // 10) for step in range(10)]
            taken = [_answer(_COLD, str(root), name) for name in names]
            yield Measurement("cold open and one get", count, OURS, timing_of(taken))


def imports(setting: Setting) -> Iterator[Measurement]:
    """Import this library, and what it needs alone, each in fresh processes in turn.

    A public name loads its module when it is asked for, so what opens a catalog and what makes
    results are imported too: the package alone would say little.
    """
    programs = {
        ("import", OURS): ["jammi_files"],
        ("import", _BASE): ["pyarrow", "fsspec"],
        ("import, a catalog", OURS): ["jammi_files.catalog"],
        ("import, a catalog", "all it is built on"): [
            "pyarrow.parquet", "pyarrow.compute", "fsspec", "orjson",
        ],
        ("import, results", OURS): ["jammi_files.store"],
    }  # fmt: skip
    taken: dict[tuple[str, str], list[float]] = {which: [] for which in programs}
    for _ in range(5 if setting.quick else 15):
        for which, names in programs.items():
            taken[which].append(_answer(_IMPORT, *names))
    for (work, who), series in taken.items():
        yield Measurement(work, 0, who, timing_of(series))
        if (work, who) == ("import", _BASE):
            for other in ("import, a catalog", "import, results"):
                yield Measurement(other, 0, who, timing_of(series))


def memory(setting: Setting) -> Iterator[Measurement]:
    """Resident bytes of a row: all segments loaded, then all indexes built."""
    for count in setting.rows[1:]:
        with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
            roots = [Path(scratch) / name for name in ("large", "small")]
            workload.filled(roots[0], workload.rows_of(count))
            workload.filled(roots[1], workload.rows_of(1000))
            keys = workload.source_of(1), workload.name_of(1), workload.hash_of(1)
            loaded, indexed = _answer(_MEMORY, str(roots[0]), str(roots[1]), *keys)
        for work, value in (("loaded", loaded), ("all indexes", indexed)):
            yield single(f"memory of a row, {work}", count, OURS, value / count, "bytes")


def _answer(program: str, *arguments: str) -> Any:  # noqa: ANN401 - what the program prints
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return json.loads(done.stdout)
