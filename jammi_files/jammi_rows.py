"""The SQLite file of a jammi-db directory as plain rows: read from a private copy, or written anew.

Anybody may have written what is read: only a plain table of bounded size is.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from jammi_files.errors import FormatError, StorageError

_COPY_ATTEMPTS = 5
_JOURNALS = ("-wal", "-journal")

_MOST_COLUMNS = 100
"""Columns of the table; the engine's has 20."""

_LONGEST_VALUE = 16 * 2**20
_MOST_TEXT = 512 * 2**20
"""Bytes in one value and in all rows, above which a catalog.db is refused."""


def read_rows(file: Path, known: Collection[str]) -> list[dict[str, Any]]:
    """Return the ``known`` columns of ``result_tables``, a plain table of bounded size.

    A view or a generated column would be a program of whoever made the file, with as many rows and
    bytes as it likes.

    Raises:
        FormatError: the file is no SQLite database, or has no such table.
        StorageError: it kept changing while it was read, or cannot be read.
    """
    with _copied(file) as connection:
        connection.text_factory = _decode
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        try:
            columns = _columns(connection, known)
            query = f"SELECT {', '.join(columns)} FROM result_tables"  # noqa: S608 - our own column names
            return _bounded(columns, connection.execute(query))
        except (sqlite3.Error, UnicodeError) as error:
            msg = f"'{file}' cannot be read as a jammi-db catalog: {error}"
            raise FormatError(msg) from error


def _columns(connection: sqlite3.Connection, known: Collection[str]) -> list[str]:
    """Return which of the ``known`` columns the table has, which must be a plain one."""
    query = "SELECT type FROM sqlite_master WHERE name = 'result_tables' AND rootpage > 0"
    if [kind for (kind,) in connection.execute(query)] != ["table"]:
        raise sqlite3.DatabaseError("it has no table 'result_tables'")
    info = connection.execute("PRAGMA table_xinfo(result_tables)")
    columns = [(each[1], each[6]) for each in info]
    if len(columns) > _MOST_COLUMNS:
        raise sqlite3.DatabaseError(f"it has {len(columns)} columns, over {_MOST_COLUMNS}")
    computed = [name for name, is_hidden in columns if is_hidden]
    if computed:
        raise sqlite3.DatabaseError(f"columns are computed: {', '.join(computed)}")
    found = [name for name, _ in columns if name in known]
    if not found:
        raise sqlite3.DatabaseError("its table 'result_tables' has no column of a result")
    return found


def _bounded(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    found, size = [], 0
    for row in rows:
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if size > _MOST_TEXT:
            raise sqlite3.DatabaseError(f"its rows hold over {_MOST_TEXT} bytes")
        found.append(dict(zip(columns, row, strict=True)))
    return found


@contextlib.contextmanager
def _copied(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a private copy: reading a WAL database in place would write its ``-shm`` there."""
    with _scratch() as scratch:
        try:
            _copy_unchanged(file, scratch)
        except OSError as error:
            msg = f"cannot read '{file}': {error}"
            raise StorageError(msg) from error
        with contextlib.closing(sqlite3.connect(scratch / file.name)) as connection:
            yield connection


def _copy_unchanged(file: Path, scratch: Path) -> None:
    for _ in range(_COPY_ATTEMPTS):
        before = _signature(file)
        with contextlib.suppress(FileNotFoundError):  # a journal that its writer has just removed
            for name in before:
                shutil.copyfile(file.parent / name, scratch / name)
            if before == _signature(file):
                return
        for name in before:
            (scratch / name).unlink(missing_ok=True)
    msg = "it is being written; close the jammi-db engine that holds it"
    raise OSError(msg)


def _signature(file: Path) -> dict[str, tuple[int, int]]:
    paths = [file, *(file.with_name(file.name + suffix) for suffix in _JOURNALS)]
    stats = {path.name: path.stat() for path in paths if is_file(path)}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


@contextlib.contextmanager
def written_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[BinaryIO]:
    """Yield the bytes of an engine's database whose ``result_tables`` holds the rows.

    Raises:
        StorageError: the temporary directory has no room for it.
    """
    with _scratch() as scratch:
        path = scratch / "catalog.db"
        try:
            _fill(path, rows)
        except sqlite3.Error as error:
            msg = f"cannot write '{path}': {error}"
            raise StorageError(msg) from error
        with path.open("rb") as file:
            yield file


def _fill(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    schema = resources.files("jammi_files").joinpath("jammi_db_schema.sql").read_text("utf-8")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema)
        for row in rows:
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            insert = f"INSERT INTO result_tables ({columns}) VALUES ({marks})"  # noqa: S608 - our own column names
            connection.execute(insert, tuple(row.values()))
        connection.commit()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    try:
        directory = tempfile.TemporaryDirectory(prefix="jammi-files-")
    except OSError as error:
        msg = f"a temporary directory cannot be made: {error}; set TMPDIR to one with room"
        raise StorageError(msg) from error
    with directory as path:
        yield Path(path)


def _decode(text: bytes) -> str:
    """Keep bytes that are no UTF-8: they make their own row unreadable, not the whole query."""
    return text.decode(errors="surrogateescape")


def is_file(path: Path) -> bool:
    """Say whether there is a file, which may be asked of any path."""
    try:
        return path.is_file()
    except OSError:  # a name too long for this system, a directory that may not be searched
        return False
