"""One SQL statement over the catalog and the results that it names, run by DuckDB.

DuckDB runs in memory and for one statement. It reaches no file and no network by itself: it reads
what is registered with it as Arrow data. A name is looked up only when DuckDB has asked for it, so
what a statement does not name costs nothing, and what the scope does not see is not there.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jammi_files import extras
from jammi_files.errors import InvalidInputError, StateError, StorageError, TableNotFoundError
from jammi_files.reads import CatalogSnapshot
from jammi_files.schema import ResultTableRecord
from jammi_files.validation import require_text

if TYPE_CHECKING:
    import pyarrow.dataset as ds

Parameters = Sequence[Any] | Mapping[str, Any]
"""Values for ``?`` and ``$1`` by position, or for ``$name`` by name."""

CATALOG = "catalog"
"""The name by which a statement finds the rows of the catalog."""

_CLOSED = {
    "enable_external_access": False,  # no file, no network, no extension to be loaded
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,  # a name is no variable of the program around the call
    "temp_directory": "",  # nothing is written, not even what memory has no room for
}
_READING = {"SELECT", "EXPLAIN", "MULTI"}
"""Kinds of statements that only read; PIVOT is several to DuckDB."""
_UNKNOWN = re.compile(r"Table with name (.*?) does not exist!(?:\n|\Z)", re.DOTALL)
_UNREADABLE = re.compile(
    r"stream registered as|get_next|\b(?:IO|OS|Storage)Error\b|Parquet (?:input|magic|file)"
)
"""What DuckDB says of an error that Arrow or the storage raised under it."""


def query(
    reads: CatalogSnapshot,
    dataset: Callable[[ResultTableRecord], ds.Dataset],
    statement: str,
    parameters: Parameters | None = None,
) -> pa.Table:
    """Run one statement over ``reads`` and the data that ``dataset`` opens; see `Answers.sql`."""
    duckdb = extras.load("duckdb", extra="duckdb", purpose="sql")
    require_text("a statement", statement)
    if isinstance(parameters, str) or not isinstance(parameters, Sequence | Mapping | None):
        raise InvalidInputError(f"parameters must be a sequence or a mapping, not {parameters!r}")
    values = None if parameters is None else _plain(parameters)
    with contextlib.closing(duckdb.connect(":memory:", config=_CLOSED)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")
        with _translated(duckdb):
            _require_reading(connection, statement)
        known: set[str] = set()
        while True:
            with _translated(duckdb):
                try:
                    return connection.sql(statement, params=values).to_arrow_table()
                except duckdb.CatalogException as error:
                    name = _unknown_name(error)
                    if name is None or name in known:
                        raise
            known.add(name)
            _require_one_spelling(reads, statement, name)
            found = _find(reads, dataset, name)
            try:
                connection.register(name, found)
            except duckdb.Error as error:
                raise InvalidInputError(
                    f"DuckDB does not take '{name}': {error}; read it with open_table"
                ) from error


def _plain(parameters: Parameters) -> list[Any] | dict[str, Any]:
    return dict(parameters) if isinstance(parameters, Mapping) else list(parameters)


def _require_reading(connection: Any, statement: str) -> None:  # noqa: ANN401 - without types
    kinds = [each.type.name for each in connection.extract_statements(statement)]
    if len(kinds) != 1:
        raise InvalidInputError(f"sql takes one statement, not {len(kinds)}")
    if kinds[0] not in _READING:
        raise InvalidInputError(f"sql only reads; it takes no {kinds[0]} statement")


def _unknown_name(error: Exception) -> str | None:
    found = _UNKNOWN.search(str(error))
    return found and found[1]


def _require_one_spelling(reads: CatalogSnapshot, statement: str, name: str) -> None:
    """Refuse names of two results that DuckDB, which knows no case, would take for one (`B096`)."""
    written = re.escape(name.replace('"', '""'))
    for match in re.finditer(written, statement, re.IGNORECASE):
        other = match[0].replace('""', '"')
        if other != name and reads.get_result_table(other) is not None:
            raise InvalidInputError(
                f"'{name}' and '{other}' are two results, but one name to DuckDB; "
                "query them in two statements, or with open_table"
            )


def _find(
    reads: CatalogSnapshot, dataset: Callable[[ResultTableRecord], ds.Dataset], name: str
) -> pa.Table | ds.Dataset:
    if name.lower() == CATALOG:
        return reads.scan()
    record = reads.get_result_table(name)
    if record is None:
        raise TableNotFoundError.named(name)
    if not record.is_ready:
        raise StateError(f"Result table '{name}' is {record.status}, not ready")
    return dataset(record)


@contextlib.contextmanager
def _translated(duckdb: Any) -> Iterator[None]:  # noqa: ANN401 - a module without types
    try:
        yield
    except duckdb.Error as error:
        name, text = _unknown_name(error), str(error)
        if isinstance(error, duckdb.CatalogException) and name is not None:
            raise TableNotFoundError.named(name) from error
        if isinstance(error, duckdb.PermissionException):
            raise InvalidInputError(
                f"{text}; sql sees '{CATALOG}' and results by name, and no files"
            ) from error
        if _UNREADABLE.search(text):
            raise StorageError(f"a result could not be read: {text}") from error
        raise InvalidInputError(text) from error
