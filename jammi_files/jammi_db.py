"""A jammi-db artifact directory: its ``catalog.db`` read into records and written from records.

The format is that of jammi-db 0.32, whose 22 migrations `jammi_db_schema.sql` holds as one script.
Facts that the code rests on, all seen in the real engine:

- the engine stores ``file://`` plus the bare path: nothing in it is percent-encoded;
- it deletes what its rows point to when a sidecar is missing, so a written row must never point
  outside its own directory, and a written directory must not be moved;
- one row with a number over 2**31-1 or an unknown task makes the whole catalog unopenable;
- its SQL finds no rows, and no error, under a path that holds ``%``, ``#`` or ``?``;
- ``created_at`` has whole seconds; rows of one second keep the order in which they were inserted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jammi_files.disk_files import read_whole
from jammi_files.errors import FormatError, InvalidInputError
from jammi_files.jammi_rows import is_file, read_rows, written_rows
from jammi_files.materialization import MAX_SIDECAR_BYTES, MaterializationManifest
from jammi_files.naming import DATA_SUFFIX, INDEX_SUFFIX, SIDECAR_SUFFIX, sibling
from jammi_files.schema import (
    RECORD_FIELDS,
    InputAnchor,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
)
from jammi_files.scope import TenantId
from jammi_files.strict_json import loads
from jammi_files.timestamps import format_timestamp, parse_timestamp
from jammi_files.validation import (
    require_count,
    require_strings,
    require_table_name,
    require_text,
)

CATALOG = "catalog.db"
DATA_DIRECTORY = "jammi_db"
UNREADABLE = frozenset("%#?")
"""Characters of a path that hide its rows from the engine's SQL."""

_SECOND = 1_000_000_000
_INT32_MAX = 2**31 - 1
_NAME_STAMP = re.compile(r"__(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{9})_[0-9a-f]{8}", re.ASCII)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_REMOTE = frozenset({"memory", "s3", "gs", "gcs", "azure", "abfs", "abfss", "r2"})
_COLUMNS = frozenset({*RECORD_FIELDS, "input_anchors_json"})
"""What is read of a row, as far as the table has it."""


@dataclasses.dataclass(frozen=True, slots=True)
class JammiResult:
    """One row of a catalog.db: what it says, where its Parquet is, and what is wrong with it.

    ``record`` is None when the row itself cannot be read. A result is sound, and only then worth
    importing, when ``problems`` is empty. The paths in the record are those that the row gives.
    ``tenant`` is whose it is as the row says it, be that a tenant or not.
    """

    table_name: str
    tenant: str | None
    record: ResultTableRecord | None
    parquet: Path | None
    problems: tuple[str, ...]


def read_jammi_catalog(directory: str | os.PathLike[str]) -> list[JammiResult]:
    """Return every result of a jammi-db artifact directory, oldest first; nothing is written there.

    A broken row is returned with its problems and stops no other (`B037`, `B260`). A Parquet is
    looked for where the row says, then in ``jammi_db/`` and beside the catalog.db, so that a copied
    directory can be read. ``created_at`` takes its nanoseconds from a generated name (`B039`) that
    agrees with the row's second.

    Raises:
        InvalidInputError: the directory holds no catalog.db.
        FormatError: the catalog.db is no SQLite database or has no ``result_tables``.
        StorageError: the catalog.db kept changing while it was read, or cannot be read.
    """
    home = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would follow links
    if not is_file(home / CATALOG):
        msg = f"'{home}' holds no {CATALOG}; expected the artifact directory of jammi-db"
        raise InvalidInputError(msg)
    results = [_to_result(row, home) for row in read_rows(home / CATALOG, _COLUMNS)]
    return sorted(results, key=_age)


@contextlib.contextmanager
def written_catalog(records: Iterable[ResultTableRecord], data: Path) -> Iterator[BinaryIO]:
    """Yield the bytes of a ``catalog.db`` for results whose files lie in the directory ``data``.

    ``records`` are in catalog order; each one has passed `find_misfit` and its ``derived_from``
    names another of them. Whether a result has an ANN index is read off its ``index_path``.

    Raises:
        StorageError: the temporary directory has no room for it.
    """
    with written_rows([_to_row(record, data) for record in records]) as file:
        yield file


def find_misfit(record: ResultTableRecord) -> str | None:
    """Say why jammi-db 0.32 cannot hold the row, None if it can (`B028`)."""
    for column in ("row_count", "dimensions", "checkpoint"):
        value = getattr(record, column)
        if value is not None and value > _INT32_MAX:
            return (
                f"{column} is {value}; jammi-db 0.32 cannot open a catalog with over {_INT32_MAX}"
            )
    return None


def _to_result(row: Mapping[str, Any], home: Path) -> JammiResult:
    name, owner = str(row.get("table_name")), row.get("tenant_id")
    tenant = None if owner is None else str(owner)
    try:
        record = _to_record(row)
        parquet = _find_parquet(record.parquet_path, home)
    except (InvalidInputError, KeyError) as error:
        problem = f"column {error} is missing" if isinstance(error, KeyError) else str(error)
        return JammiResult(name, tenant, None, None, (problem,))
    problems = tuple(_find_problems(record, parquet, home))
    if parquet is None or problems or not record.is_ready or record.definition_hash is None:
        return JammiResult(name, record.tenant_id, record, parquet, problems)
    try:
        record = _attested(record, Path(sibling(str(parquet), SIDECAR_SUFFIX)))
    except FormatError as error:
        problems = (str(error),)
    return JammiResult(name, record.tenant_id, record, parquet, problems)


def _attested(record: ResultTableRecord, sidecar: Path) -> ResultTableRecord:
    """Add what the sidecar says of data and descriptor, unless it contradicts the row (`B229`)."""
    try:
        said = MaterializationManifest.from_json_bytes(read_whole(str(sidecar), MAX_SIDECAR_BYTES))
    except FileNotFoundError:
        msg = f"its sidecar '{sidecar}' is missing, though the row has a definition hash"
        raise FormatError(msg) from None
    except OSError as error:
        raise FormatError(f"its sidecar cannot be read: {error}") from error
    except FormatError as error:
        raise FormatError(f"its sidecar '{sidecar}' is damaged: {error}") from error
    if (said.definition_hash, said.input_anchors) != (record.definition_hash, record.input_anchors):
        return record
    return dataclasses.replace(
        record, artifact_digest=said.artifact, descriptor_digest=said.descriptor_digest
    )


def _to_record(row: Mapping[str, Any]) -> ResultTableRecord:
    name = require_table_name(row["table_name"])
    created = parse_timestamp(require_text("created_at", row["created_at"]))
    completed = _optional_text(row, "completed_at")
    tenant = _optional_text(row, "tenant_id")
    return ResultTableRecord(
        table_name=name,
        source_id=require_text("source_id", row["source_id"]),
        model_id=require_text("model_id", row["model_id"]),
        task=ModelTask.parse(row["task"]),
        kind=ResultTableKind.parse(row.get("kind", ResultTableKind.MODEL)),
        derived_from=_optional_text(row, "derived_from"),
        parquet_path=require_text("parquet_path", row["parquet_path"]),
        index_path=_optional_text(row, "index_path"),
        dimensions=_optional_count(row, "dimensions"),
        distance_metric=_optional_text(row, "distance_metric"),
        row_count=require_count("row_count", row["row_count"]),
        status=ResultTableStatus.parse(row["status"]),
        key_column=_optional_text(row, "key_column"),
        text_columns=_split(row["text_columns"]),
        checkpoint=_optional_count(row, "checkpoint"),
        created_at=format_timestamp(_refine(created, name)),
        completed_at=completed and format_timestamp(parse_timestamp(completed)),
        tenant_id=tenant and TenantId(tenant),
        definition_hash=_optional_text(row, "definition_hash"),
        input_anchors=_parse_anchors(row.get("input_anchors_json")),
    )


def _find_problems(record: ResultTableRecord, parquet: Path | None, home: Path) -> Iterator[str]:
    if record.status is ResultTableStatus.BUILDING:
        yield "it is building: let jammi-db finish or recover it, then import again"
    elif not record.is_ready:
        return
    elif parquet is None:
        yield (
            f"its Parquet is neither at '{record.parquet_path}' "
            f"nor in '{home / DATA_DIRECTORY}' nor in '{home}'"
        )


def _find_parquet(recorded: str, home: Path) -> Path | None:
    scheme = _SCHEME.match(recorded)
    if scheme is not None and scheme[1] not in _REMOTE | {"file"}:
        msg = f"invalid storage URL '{recorded}': unknown scheme '{scheme[1]}://'"
        raise InvalidInputError(msg)
    name = recorded.rpartition("/")[2]
    places = [home / DATA_DIRECTORY / name, home / name]
    local = Path(recorded.removeprefix("file://"))
    if local.is_absolute():
        places.insert(0, local)
    return next((place for place in places if is_file(place)), None)


def _refine(created: int, name: str) -> int:
    """Take the instant in a generated name where it agrees with a row of whole seconds."""
    stamp = _NAME_STAMP.fullmatch(name, max(name.rfind("__"), 0))
    if stamp is None or created % _SECOND:
        return created
    try:
        precise = parse_timestamp("{}-{}-{}T{}:{}:{}.{}".format(*stamp.groups()))
    except InvalidInputError:
        return created
    return precise if precise // _SECOND == created // _SECOND else created


def _parse_anchors(text: object) -> tuple[InputAnchor, ...] | None:
    if text is None:
        return None
    try:
        anchors = loads(require_text("input_anchors_json", text).encode())
    except FormatError as error:
        msg = f"input_anchors_json: {error}"
        raise InvalidInputError(msg) from None
    if not isinstance(anchors, list):
        msg = f"input_anchors_json must be a list, not {text!r}"
        raise InvalidInputError(msg)
    return tuple(InputAnchor.from_dict(anchor) for anchor in anchors)


def _split(columns: object) -> tuple[str, ...] | None:
    if columns is None:
        return None
    if not isinstance(columns, str):
        msg = f"text_columns must be a string, not {columns!r}"
        raise InvalidInputError(msg)
    return require_strings("text_columns", columns.split(",") if columns else ())


def _optional_text(row: Mapping[str, Any], column: str) -> str | None:
    value = row.get(column)
    return None if value is None else require_text(column, value)


def _optional_count(row: Mapping[str, Any], column: str) -> int | None:
    value = row.get(column)
    return None if value is None else require_count(column, value)


def _age(result: JammiResult) -> tuple[str, str]:
    return result.record.created_at if result.record else "", result.table_name


def _to_row(record: ResultTableRecord, data: Path) -> dict[str, Any]:
    base = f"file://{data.as_posix()}/{record.table_name}"
    created = parse_timestamp(record.created_at)
    completed = record.completed_at and parse_timestamp(record.completed_at)
    return {
        "table_name": record.table_name,
        "source_id": record.source_id,
        "model_id": record.model_id,
        "task": record.task.value,
        "parquet_path": base + DATA_SUFFIX,
        "index_path": record.index_path and base + INDEX_SUFFIX,
        "dimensions": record.dimensions,
        "distance_metric": record.distance_metric,
        "row_count": record.row_count,
        "status": record.status.value,
        "key_column": record.key_column,
        "text_columns": None if record.text_columns is None else ",".join(record.text_columns),
        "checkpoint": record.checkpoint,
        "created_at": format_timestamp(created)[:19].replace("T", " "),
        "completed_at": completed and format_timestamp(completed)[:23] + "Z",
        "tenant_id": record.tenant_id,
        "kind": record.kind.value,
        "derived_from": record.derived_from,
        "definition_hash": record.definition_hash,
        "input_anchors_json": record.input_anchors_json,
    }
