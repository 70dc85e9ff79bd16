"""The same rows in SQLite: with the best index for each query, or with jammi-db's own indexes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson
import pyarrow as pa

from benchmarks.workload import COLUMNS
from jammi_files.schema import (
    InputAnchor,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
)

_NEWEST = (
    "status = 'ready' AND kind = 'model' "
    "AND task IN ('text_embedding', 'image_embedding', 'audio_embedding')"
)
IDEAL = (
    "CREATE INDEX by_hash ON rows (definition_hash, status, created_at)",
    "CREATE INDEX by_source ON rows (source_id, task, model_id, created_at)",
    f"CREATE INDEX newest ON rows (source_id, created_at) WHERE {_NEWEST}",
)
JAMMI_DB = tuple(
    f"CREATE INDEX {column}_index ON rows ({column})"
    for column in ("source_id", "task", "status", "tenant_id", "kind", "definition_hash")
)
_NUMBERS = {"dimensions", "row_count", "checkpoint"}
_INSERT = f"INSERT INTO rows VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - constants
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM rows WHERE tenant_id IS NULL AND "  # noqa: S608


class Sqlite:
    """One indexed table in WAL mode; every commit is synced."""

    def __init__(self, path: Path, indexes: Iterable[str] = IDEAL) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        kinds = [f"{name} {'INTEGER' if name in _NUMBERS else 'TEXT'}" for name in COLUMNS[1:]]
        self._db.execute(f"CREATE TABLE rows (table_name TEXT PRIMARY KEY, {', '.join(kinds)})")
        for index in indexes:
            self._db.execute(index)

    def insert(self, rows: Iterable[Sequence[object]]) -> None:
        """Insert rows of `workload.flat` in one transaction."""
        self._db.execute("BEGIN")
        self._db.executemany(_INSERT, rows)
        self._db.execute("COMMIT")

    def create(self, row: Sequence[object]) -> None:
        """Insert one row."""
        self._db.execute(_INSERT, row)

    def promote(self, name: str) -> None:
        """Make one row ready."""
        self._db.execute(
            "UPDATE rows SET status = 'ready', row_count = 50, definition_hash = ?, "
            "completed_at = '2026-11-22 00:00:00' WHERE table_name = ?",
            ("0" * 64, name),
        )

    def get(self, name: str) -> ResultTableRecord:
        """Read one record by name."""
        return self._records("table_name = ?", name)[0]

    def find_hash(self, definition_hash: str) -> list[ResultTableRecord]:
        """Read the ready records of a definition, newest first."""
        where = "definition_hash = ? AND status = 'ready' ORDER BY created_at DESC"
        return self._records(where, definition_hash)

    def find(self, source: str, task: str, model: str) -> list[ResultTableRecord]:
        """Read the records of a source, task and model, oldest first."""
        where = "source_id = ? AND task = ? AND model_id = ? ORDER BY created_at"
        return self._records(where, source, task, model)

    def newest(self, source: str) -> ResultTableRecord:
        """Read the newest ready embedding of a source."""
        where = f"source_id = ? AND {_NEWEST} ORDER BY created_at DESC LIMIT 1"
        return self._records(where, source)[0]

    def ready(self) -> pa.Table:
        """Read all ready rows into Arrow."""
        rows = self._db.execute(_SELECT + "status = 'ready'").fetchall()
        return pa.table(dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)))

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _records(self, where: str, *values: str) -> list[ResultTableRecord]:
        return [_record(row) for row in self._db.execute(_SELECT + where, values)]


def _record(row: Sequence[object]) -> ResultTableRecord:
    fields = dict(zip(COLUMNS, row, strict=True))
    fields["task"] = ModelTask(fields["task"])
    fields["kind"] = ResultTableKind(fields["kind"])
    fields["status"] = ResultTableStatus(fields["status"])
    fields["text_columns"] = tuple(orjson.loads(fields["text_columns"]))  # type: ignore[arg-type]
    anchors = orjson.loads(fields["input_anchors"])  # type: ignore[arg-type]
    fields["input_anchors"] = tuple(InputAnchor.stored(**anchor) for anchor in anchors)
    return ResultTableRecord(**fields)  # type: ignore[arg-type]
