"""The same table in DuckDB, Delta Lake, Iceberg and Lance: insert one row, make one row ready.

DuckDB syncs its log at each commit. The others leave writing back to the operating system, as
``strace`` shows, so they are compared with ours under ``durability="os"``; the SQLite catalog of
Iceberg alone syncs, as pyiceberg sets it up.
"""

from __future__ import annotations

import abc
from pathlib import Path

import pyarrow as pa


class Peer(abc.ABC):
    """One table of another system, filled with rows."""

    name: str
    is_synced = False
    """Whether a commit is on the disk when it returns."""

    @abc.abstractmethod
    def create(self, row: pa.Table) -> None:
        """Commit one row."""

    @abc.abstractmethod
    def promote(self, name: str) -> None:
        """Commit ``status = 'ready'`` of one row."""


class Duckdb(Peer):
    """A database file with a primary key."""

    name = "duckdb"
    is_synced = True

    def __init__(self, directory: Path, rows: pa.Table) -> None:
        import duckdb  # noqa: PLC0415 - a peer may be absent

        self._db = duckdb.connect(str(directory / "peer.duckdb"))
        self._db.register("given", rows)
        self._db.execute("CREATE TABLE rows AS SELECT * FROM given")
        self._db.execute("ALTER TABLE rows ADD PRIMARY KEY (table_name)")

    def create(self, row: pa.Table) -> None:
        """Insert by values: an Arrow table would have to be registered first."""
        values = list(row.to_pylist()[0].values())
        marks = ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO rows VALUES ({marks})", values)  # noqa: S608 - constants

    def promote(self, name: str) -> None:
        """Update by key."""
        self._db.execute("UPDATE rows SET status = 'ready' WHERE table_name = ?", [name])


class Delta(Peer):
    """A Delta table."""

    name = "deltalake"

    def __init__(self, directory: Path, rows: pa.Table) -> None:
        import deltalake  # noqa: PLC0415 - a peer may be absent

        self._module, self._path = deltalake, str(directory / "delta")
        deltalake.write_deltalake(self._path, microseconds(rows))
        self._table = deltalake.DeltaTable(self._path)

    def create(self, row: pa.Table) -> None:
        """Append to the table in hand."""
        self._module.write_deltalake(self._table, microseconds(row), mode="append")

    def promote(self, name: str) -> None:
        """Update by predicate."""
        self._table.update(predicate=f"table_name = '{name}'", updates={"status": "'ready'"})


class Iceberg(Peer):
    """An Iceberg table whose catalog is SQLite."""

    name = "pyiceberg"

    def __init__(self, directory: Path, rows: pa.Table) -> None:
        from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415 - a peer may be absent

        home = directory / "iceberg"
        home.mkdir()
        uri = f"sqlite:///{home}/catalog.db"
        catalog = SqlCatalog("peer", uri=uri, warehouse=f"file://{home}")
        catalog.create_namespace("peer")
        rows = microseconds(rows)
        self._table = catalog.create_table("peer.rows", schema=rows.schema)
        self._table.append(rows)
        self._schema = rows.schema

    def create(self, row: pa.Table) -> None:
        """Append."""
        self._table.append(microseconds(row))

    def promote(self, name: str) -> None:
        """Replace the row by its new state: there is no update."""
        row = self._table.scan(row_filter=f"table_name = '{name}'").to_arrow()
        at = row.schema.get_field_index("status")
        ready = row.set_column(at, "status", pa.array(["ready"]))
        self._table.overwrite(ready.cast(self._schema), overwrite_filter=f"table_name = '{name}'")


class Lance(Peer):
    """A Lance dataset."""

    name = "lance"

    def __init__(self, directory: Path, rows: pa.Table) -> None:
        import lance  # noqa: PLC0415 - a peer may be absent

        self._data = lance.write_dataset(simple(rows), str(directory / "peer.lance"))

    def create(self, row: pa.Table) -> None:
        """Append to the dataset in hand."""
        self._data.insert(simple(row), mode="append")

    def promote(self, name: str) -> None:
        """Update by predicate."""
        self._data.update({"status": "'ready'"}, where=f"table_name = '{name}'")


PEERS: tuple[type[Peer], ...] = (Duckdb, Delta, Iceberg, Lance)


def microseconds(rows: pa.Table) -> pa.Table:
    """Delta and Iceberg know no nanoseconds, and Iceberg no maps without values."""
    rows = simple(rows)
    for at, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            wanted = pa.timestamp("us", "UTC")
            rows = rows.set_column(at, field.name, rows.column(at).cast(wanted))
    return rows


def simple(rows: pa.Table) -> pa.Table:
    """Leave out the columns that jammi-db does not have, which not every system can store."""
    return rows.drop_columns(
        [
            name
            for name in ("properties", "storage_precision", "oversample", "lease",
                         "artifact_digest", "descriptor_digest")
            if name in rows.column_names
        ]
    )  # fmt: skip
