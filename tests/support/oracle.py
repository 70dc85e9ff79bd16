"""What the catalog should answer, told by SQLite: jammi-db's table, its statements and its keys.

The oracle shares no code with the library. Uniqueness, references and legal moves are the
database's own constraints (a primary key, a foreign key, a trigger); tenancy is a predicate in each
statement, as in jammi-db. Answers are plain dicts and lists; a refusal is an `OracleError` whose
``kind`` is the name of the library's error class.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import Any, NamedTuple

_TABLE = """
CREATE TABLE result_tables (
    table_name         TEXT PRIMARY KEY,
    source_id          TEXT NOT NULL,
    model_id           TEXT NOT NULL,
    task               TEXT NOT NULL,
    parquet_path       TEXT NOT NULL,
    index_path         TEXT,
    dimensions         INTEGER,
    distance_metric    TEXT DEFAULT 'cosine',
    row_count          INTEGER NOT NULL DEFAULT 0,
    status             TEXT NOT NULL DEFAULT 'building',
    key_column         TEXT,
    text_columns       TEXT,
    checkpoint         INTEGER,
    created_at         TEXT NOT NULL,
    completed_at       TEXT,
    tenant_id          TEXT,
    kind               TEXT NOT NULL DEFAULT 'model',
    derived_from       TEXT REFERENCES result_tables(table_name),
    definition_hash    TEXT,
    input_anchors_json TEXT,
    properties         TEXT
);
CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON result_tables
WHEN NOT (OLD.status = 'building' OR OLD.status = 'ready' AND NEW.status = 'failed')
BEGIN SELECT RAISE(ABORT, 'illegal move'); END;
CREATE TABLE builds (
    table_name TEXT PRIMARY KEY REFERENCES result_tables(table_name) ON DELETE CASCADE,
    checkpoint INTEGER NOT NULL
);
"""

# 0.32 encodes its lists as text; JSON keeps them apart from the text that they hold.
_AS_JSON = ("text_columns", "properties", "input_anchors_json")
_VISIBLE = "(:admin OR tenant_id IS NULL OR tenant_id = :tenant)"
_OLDEST = "ORDER BY created_at, table_name"
_NEWEST = "ORDER BY created_at DESC, table_name DESC"
_REFUSALS = {
    "SQLITE_CONSTRAINT_PRIMARYKEY": "AlreadyExistsError",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "ReferencedError",
    "SQLITE_CONSTRAINT_TRIGGER": "StateError",
}

Row = dict[str, Any]


class Who(NamedTuple):
    """The caller: a tenant (None = unbound) and the admin mark."""

    tenant: str | None
    admin: bool = False


IDENTITY = ("source_id", "model_id", "task", "kind", "parquet_path")
"""What a retried create must have in common with the row that it finds; the default is a kind."""


class OracleError(Exception):
    """A refusal; ``kind`` names the error class, ``names`` the rows that it may name."""

    def __init__(self, kind: str, names: tuple[str, ...] = (), unnamed: int = 0) -> None:
        super().__init__(kind, names, unnamed)
        self.kind, self.names, self.unnamed = kind, names, unnamed


class Oracle:
    """One catalog: every operation of the library, as statements over one table."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.create_function("anchored", 2, _is_anchored, deterministic=True)
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_TABLE)
        self.changed_rows = 0
        """How many rows the last call has written; whoever makes a call sets it to 0 before."""

    def copy(self) -> Oracle:
        """Return another oracle that goes on from this one's present state."""
        other = Oracle()
        self._db.backup(other._db)
        return other

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def all_or_nothing(self):
        """Undo what the block did if it raises."""
        self._db.execute("SAVEPOINT block")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK TO block")
            raise
        finally:
            self._db.execute("RELEASE block")

    def create(self, who: Who, row: Row, *, if_not_exists: bool = False) -> Row:
        there = self.get(who, row["table_name"]) if if_not_exists else None
        own = there and there["status"] == "building" and there["tenant_id"] == who.tenant
        if own and all(row.get(name, "model") == there[name] for name in IDENTITY):
            return there
        self._insert(who, [row])
        return self._row(row["table_name"])

    def create_many(self, who: Who, rows: list[Row]) -> int:
        """Insert all rows or none; ``derived_from`` may name another row of the same batch."""
        if _is_circular({row["table_name"]: row.get("derived_from") for row in rows}):
            raise OracleError("InvalidInputError")
        self._insert(who, rows)
        return len(rows)

    def update(self, who: Who, name: str, status: str, row_count: int, completed_at: str) -> Row:
        self._visible(who, name)
        self._write(
            "UPDATE result_tables SET status = :status, row_count = :row_count,"
            " completed_at = CASE WHEN :status = 'building' THEN NULL ELSE :completed_at END"
            " WHERE table_name = :name",
            name=name,
            status=status,
            row_count=row_count,
            completed_at=completed_at,
        )
        self._end_build(name)
        return self._row(name)

    def promote(
        self,
        who: Who,
        name: str,
        row_count: int,
        contract: tuple[str, list[Row]],
        completed_at: str,
    ) -> Row:
        if self._visible(who, name)["status"] != "building":
            raise OracleError("StateError")
        definition_hash, anchors = contract
        self._write(
            "UPDATE result_tables SET status = 'ready', row_count = :row_count,"
            " completed_at = :completed_at, definition_hash = :definition_hash,"
            " input_anchors_json = :anchors WHERE table_name = :name",
            name=name,
            row_count=row_count,
            completed_at=completed_at,
            definition_hash=definition_hash,
            anchors=_encode("input_anchors_json", anchors),
        )
        self._write(
            "UPDATE result_tables SET checkpoint = (SELECT checkpoint FROM builds"
            " WHERE table_name = :name) WHERE table_name = :name",
            name=name,
        )
        self._end_build(name)
        return self._row(name)

    def fail(self, who: Who, name: str, error: str, completed_at: str) -> Row:
        properties = self._visible(who, name)["properties"] or {}
        self._write(
            "UPDATE result_tables SET properties = :properties WHERE table_name = :name",
            name=name,
            properties=_encode("properties", properties | {"error": error}),
        )
        return self.update(who, name, "failed", 0, completed_at)

    def get(self, who: Who, name: str) -> Row | None:
        found = self._rows(f"table_name = :name AND {_VISIBLE}", who, name=name)
        return found[0] if found else None

    def by_status(self, who: Who, status: str) -> list[Row]:
        return self._rows(f"status = :status AND {_VISIBLE} {_OLDEST}", who, status=status)

    def find(self, who: Who, source: str, filters: Row, *, newest_first: bool) -> list[Row]:
        equal = "".join(f" AND {name} = :{name}" for name in filters)
        order = _NEWEST if newest_first else _OLDEST
        return self._rows(
            f"source_id = :source{equal} AND {_VISIBLE} {order}", who, source=source, **filters
        )

    def by_definition(self, who: Who, definition_hash: str) -> list[Row]:
        return self._rows(
            f"status = 'ready' AND definition_hash = :hash AND {_VISIBLE} {_NEWEST}",
            who,
            hash=definition_hash,
        )

    def anchored_on(self, who: Who, source: str) -> list[Row]:
        return self._rows(
            "status = 'ready' AND input_anchors_json IS NOT NULL"
            f" AND anchored(input_anchors_json, :source) AND {_VISIBLE} {_OLDEST}",
            who,
            source=source,
        )

    def resolve(self, who: Who, source: str, filters: Row, *, underived: bool) -> Row:
        equal = "".join(f" AND {name} = :{name}" for name in filters)
        found = self._rows(
            "source_id = :source AND kind = 'model' AND status = 'ready'"
            " AND task IN ('text_embedding', 'image_embedding', 'audio_embedding')"
            f"{equal} AND NOT (:underived AND derived_from IS NOT NULL)"
            f" AND {_VISIBLE} {_NEWEST} LIMIT 1",
            who,
            source=source,
            underived=underived,
            **filters,
        )
        if not found:
            raise OracleError("TableNotFoundError")
        return found[0]

    def resolve_named(self, who: Who, source: str, name: str) -> Row:
        row = self._visible(who, name)
        if row["status"] != "ready" or row["source_id"] != source:
            raise OracleError("InvalidInputError")
        return row

    def delete_for_source(self, who: Who, source: str, *, cascade: bool) -> list[Row]:
        first = "source_id = :source AND tenant_id IS :tenant"
        return self._delete(who, first, cascade=cascade, source=source)

    def delete_one(self, who: Who, name: str, *, cascade: bool) -> list[Row]:
        if self._visible(who, name)["tenant_id"] != who.tenant:
            raise OracleError("StateError")
        return self._delete(who, "table_name = :name", cascade=cascade, name=name)

    def set_checkpoint(self, who: Who, name: str, batch: int) -> None:
        if self._visible(who, name)["status"] != "building":
            raise OracleError("StateError")
        if batch < (self.get_checkpoint(who, name) or 0):
            raise OracleError("StateError")
        self._db.execute("REPLACE INTO builds VALUES (?, ?)", (name, batch))

    def get_checkpoint(self, who: Who, name: str) -> int | None:
        row = self.get(who, name)
        if row is None:
            return None
        build = self._db.execute("SELECT checkpoint FROM builds WHERE table_name = ?", (name,))
        found = build.fetchone()
        return found[0] if found else row["checkpoint"]

    def scan(self, who: Who, status: str | None = None) -> list[Row]:
        wanted = "(:status IS NULL OR status = :status)"
        return self._rows(f"{wanted} AND {_VISIBLE} ORDER BY table_name", who, status=status)

    def _delete(self, who: Who, going: str, *, cascade: bool, **values: Any) -> list[Row]:
        if cascade:
            going = f"""table_name IN (
                WITH RECURSIVE going(name) AS (
                    SELECT table_name FROM result_tables WHERE {going}
                    UNION
                    SELECT table_name FROM result_tables JOIN going ON derived_from = going.name
                    WHERE tenant_id IS :tenant)
                SELECT name FROM going)"""  # noqa: S608 - our names
        deleted = self._rows(f"{going} {_OLDEST}", who, **values)
        try:
            self._write(f"DELETE FROM result_tables WHERE {going}", tenant=who.tenant, **values)  # noqa: S608 - our names
        except OracleError as refusal:
            raise self._name_blockers(who, refusal, deleted) from None
        return deleted

    def _insert(self, who: Who, rows: list[Row]) -> None:
        self._db.execute("PRAGMA defer_foreign_keys = ON")  # a batch may name its own rows
        try:
            for row in rows:
                values = {name: _encode(name, value) for name, value in row.items()}
                values["tenant_id"] = who.tenant
                self._write(
                    f"INSERT INTO result_tables ({', '.join(values)})"  # noqa: S608 - our names
                    f" VALUES (:{', :'.join(values)})",
                    **values,
                )
            for row in rows:
                parent = row.get("derived_from")
                itself = parent == row["table_name"]
                if parent is not None and (itself or self.get(who, parent) is None):
                    raise OracleError("TableNotFoundError")
        finally:
            self._db.execute("PRAGMA defer_foreign_keys = OFF")

    def _visible(self, who: Who, name: str) -> Row:
        row = self.get(who, name)
        if row is None:
            raise OracleError("TableNotFoundError")
        return row

    def _end_build(self, name: str) -> None:
        """Drop the checkpoint beside the row if the build is over."""
        self._db.execute(
            "DELETE FROM builds WHERE table_name = ? AND 'building' !="
            " (SELECT status FROM result_tables r WHERE r.table_name = builds.table_name)",
            (name,),
        )

    def _name_blockers(self, who: Who, refusal: OracleError, deleted: list[Row]) -> OracleError:
        going = {row["table_name"] for row in deleted}
        blockers = {
            row["table_name"]
            for row in self.scan(Who(None, admin=True))
            if row["derived_from"] in going and row["table_name"] not in going
        }
        named = {name for name in blockers if self.get(who, name) is not None}
        return OracleError(refusal.kind, tuple(sorted(named)), len(blockers - named))

    def _row(self, name: str) -> Row | None:
        return self.get(Who(None, admin=True), name)

    def _rows(self, where: str, who: Who, **values: Any) -> list[Row]:
        cursor = self._db.execute(
            f"SELECT * FROM result_tables WHERE {where}",  # noqa: S608 - our statements
            {"admin": who.admin, "tenant": who.tenant, **values},
        )
        return [{name: _decode(name, row[name]) for name in row.keys()} for row in cursor]  # noqa: SIM118 - a sqlite3.Row iterates over its values

    def _write(self, statement: str, **values: Any) -> None:
        try:
            self.changed_rows += self._db.execute(statement, values).rowcount
        except sqlite3.IntegrityError as error:
            raise OracleError(_REFUSALS[error.sqlite_errorname]) from error


def _encode(name: str, value: Any) -> Any:
    return json.dumps(value) if name in _AS_JSON and value is not None else value


def _decode(name: str, value: Any) -> Any:
    return json.loads(value) if name in _AS_JSON and value is not None else value


def _is_circular(parents: dict[str, str | None]) -> bool:
    while leaves := [name for name, parent in parents.items() if parent not in parents]:
        for name in leaves:
            del parents[name]
    return bool(parents)


def _is_anchored(anchors: str, source: str) -> bool:
    """Compare decoded names; SQLite's own JSON functions stop at NUL."""
    return any(anchor["source"] == source for anchor in json.loads(anchors))
