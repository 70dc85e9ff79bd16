"""Compare the catalog's everyday operations with sqlite3 on the same rows and equal durability.

Both sides sync every commit (SQLite: WAL, synchronous=FULL) and return the same record. The ratio
is theirs / ours: above 1 we are faster. Where we lose comes first.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from benchmarks.harness import Timing, environment, measure
from jammi_files import Catalog
from jammi_files.schema import RECORD_FIELDS, ResultTableRecord

PLAIN = [name for name in RECORD_FIELDS if name not in ("input_anchors", "properties", "lease")]
SOURCES = 1000


class Sqlite:
    """The same rows in one indexed table, with the best index for each query."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        columns = ", ".join(f"{name} TEXT" for name in PLAIN[1:])
        self._db.execute(f"CREATE TABLE rows (table_name TEXT PRIMARY KEY, {columns})")
        self._db.execute("CREATE INDEX by_source ON rows (source_id, task, model_id, created_at)")

    def fill(self, records: list[ResultTableRecord]) -> None:
        """Insert in one transaction."""
        self._db.execute("BEGIN")
        self._db.executemany(self._insert, [self._values(record) for record in records])
        self._db.execute("COMMIT")

    def create(self, record: ResultTableRecord) -> None:
        """Insert one row, durably."""
        self._db.execute(self._insert, self._values(record))

    def get(self, name: str) -> ResultTableRecord:
        """Read one record by name."""
        return self._records("table_name = ?", name)[0]

    def find(self, source: str) -> list[ResultTableRecord]:
        """Read the records of a source, oldest first."""
        return self._records("source_id = ? ORDER BY created_at", source)

    _insert = f"INSERT INTO rows VALUES ({', '.join('?' * len(PLAIN))})"  # noqa: S608 - constants

    @staticmethod
    def _values(record: ResultTableRecord) -> list[object]:
        return [getattr(record, name) for name in PLAIN]

    def _records(self, where: str, value: str) -> list[ResultTableRecord]:
        statement = f"SELECT {', '.join(PLAIN)} FROM rows WHERE {where}"  # noqa: S608 - constants
        rows = self._db.execute(statement, (value,)).fetchall()
        return [ResultTableRecord(**dict(zip(PLAIN, row, strict=True))) for row in rows]


def rows_of(count: int) -> pa.Table:
    """Return ``count`` rows to create."""
    names = [f"t{number:08d}" for number in range(count)]
    return pa.table(
        {
            "table_name": names,
            "source_id": [f"source-{number % SOURCES}" for number in range(count)],
            "model_id": ["all-MiniLM-L6-v2"] * count,
            "task": ["text_embedding"] * count,
            "parquet_path": [f"{name}.parquet" for name in names],
        }
    )


def floor(directory: Path) -> Callable[[int], object]:
    """Return the least that a durable commit by rename can cost: 4 kB written, synced, renamed."""

    def write(number: int) -> None:
        temporary, final = directory / f"{number}.tmp", directory / str(number)
        with temporary.open("xb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(final)
        descriptor = os.open(directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    return write


def compare(count: int, times: int) -> list[tuple[str, Timing, Timing]]:
    """Measure (name, ours, theirs) at ``count`` rows."""
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        directory = Path(scratch)
        (directory / "floor").mkdir()
        catalog = Catalog.open(directory / "root")
        catalog.create_result_tables(rows_of(count))
        peer = Sqlite(directory / "peer.db")
        records = catalog.find_result_tables("source-0")
        for number in range(1, SOURCES):
            records += catalog.find_result_tables(f"source-{number}")
        peer.fill(records)
        template = records[0]

        def ours_create(number: int) -> None:
            catalog.create_result_table(
                f"new{number:08d}",
                source_id="new",
                model_id=template.model_id,
                task=template.task,
                parquet_path="new.parquet",
            )

        def theirs_create(number: int) -> None:
            peer.create(dataclasses.replace(template, table_name=f"new{number:08d}"))

        name, source = f"t{count // 2:08d}", f"source-{SOURCES // 2}"
        commit = measure(ours_create, times=times)
        return [
            ("create, durable", commit, measure(theirs_create, times=times)),
            ("create, against the floor", commit, measure(floor(directory / "floor"), times=times)),
            (
                "get by name",
                measure(lambda _: catalog.get_result_table(name), times=times * 10),
                measure(lambda _: peer.get(name), times=times * 10),
            ),
            (
                "find by source",
                measure(lambda _: catalog.find_result_tables(source), times=times),
                measure(lambda _: peer.find(source), times=times),
            ),
        ]


def main() -> None:
    """Print one table per number of rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--times", type=int, default=300)
    arguments = parser.parse_args()
    print(environment())
    for count in arguments.rows:
        print(f"\n{count} rows, microseconds: p50 / p99, ratio = theirs / ours")
        found = compare(count, arguments.times)
        for name, ours, theirs in sorted(found, key=lambda row: row[2].p50 / row[1].p50):
            ratio = theirs.p50 / ours.p50
            print(
                f"{name:28} ours {ours.p50:9.1f} / {ours.p99:9.1f}   "
                f"theirs {theirs.p50:9.1f} / {theirs.p99:9.1f}   ratio {ratio:6.2f}"
            )


if __name__ == "__main__":
    main()
