"""jammi-ai 0.32.0 in a virtual environment and a process of its own, both made on first use."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import Call
from benchmarks.setting import Setting

_REQUIREMENT = "jammi-ai==0.32.0"
_SERVE = """
import json, sys
import jammi_ai
db = jammi_ai.Database(jammi_ai.open_local(artifact_dir=sys.argv[1], gpu_device=-1))
for source in ("trades", "quotes"):
    db.add_source(source, url=f"{sys.argv[2]}/{source}.parquet", format="parquet")
print("ready", flush=True)
for line in sys.stdin:
    db.asof_join("trades", "quotes", spine_by=["k"], spine_time="t", facts_by=["k"], facts_time="t")
    print("done", flush=True)
"""


@contextlib.contextmanager
def started(setting: Setting, directory: Path) -> Iterator[Call | None]:
    """Yield a call that makes one result of 50 rows; None if the engine is not wanted or not had.

    Its Parquet file is not synced, its catalog (SQLite) is.
    """
    python = _interpreter() if setting.has("jammi-ai") else None
    if python is None:
        yield None
        return
    _write_sources(directory)
    process = subprocess.Popen(  # noqa: S603 - the environment made below
        [str(python), "-c", _SERVE, str(directory / "jammi"), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    reader, writer = process.stdout, process.stdin
    assert reader is not None  # noqa: S101 - asked for above
    assert writer is not None  # noqa: S101 - asked for above

    def join(_: int) -> None:
        writer.write("join\n")
        writer.flush()
        if reader.readline() != "done\n":
            raise RuntimeError("jammi-ai has failed")

    try:
        yield join if reader.readline() == "ready\n" else None
    finally:
        process.communicate()


def _write_sources(directory: Path) -> None:
    for source, value in (("trades", "qty"), ("quotes", "px")):
        instants = pa.array(range(0, 50_000_000, 1_000_000), pa.timestamp("us"))
        table = pa.table({"k": ["a"] * 50, "t": instants, value: [1.0] * 50})
        pq.write_table(table, directory / f"{source}.parquet")


def _interpreter() -> Path | None:
    home = Path.home() / ".cache" / "jammi-files-tests" / _REQUIREMENT.replace("==", "-")
    python = home / "bin" / "python"
    if not python.exists():
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", _REQUIREMENT],
        ):
            if subprocess.run(command, check=False, capture_output=True).returncode:  # noqa: S603
                return None
    return python
