"""The two sides of a call: what it asks of the library, and what it asks of the oracle.

Both answer in plain values that compare as they are; a refusal is a `Refusal` on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from support.calls import Call
from support.oracle import Oracle, OracleError, Row, Who

from jammi_files.errors import JammiFilesError, ReferencedError
from jammi_files.schema import SCHEMA, InputAnchor, ResultTableRecord

# Bookkeeping of the library, which jammi-db's table does not have.
_OUR_OWN = (
    "lease",
    "storage_precision",
    "oversample",
    "artifact_digest",
    "descriptor_digest",
)
_INSTANTS = ("created_at", "completed_at")
_REQUIRED = ("table_name", "source_id", "model_id", "task", "parquet_path")
_NEVER = "9999-12-31T23:59:59.999999999Z"

Ours = Callable[[Any], Any]
Theirs = Callable[[Oracle, Any], Any]


class Refusal(NamedTuple):
    """An error's class, and for `ReferencedError` the rows that it names, and if there are more."""

    kind: str
    names: tuple[str, ...] = ()
    unnamed: bool = False


def plan(call: Call, who: Who) -> tuple[Ours, Theirs]:
    """Return what the call asks of a handle, and of the oracle once the library has answered.

    The oracle is given the answer for the instants in it; it reads nothing else.
    """
    ours, theirs = _SIDES[call.operation](who, **call.arguments)
    return lambda target: _attempt(ours, target), lambda oracle, got: _consult(theirs, oracle, got)


def instants_of(call: Call, answer: Any) -> list[str]:
    """Return the instants that a write which changed rows has just stamped, in their order."""
    if call.operation == "create":
        return [answer["created_at"]]
    if call.operation == "create_many":
        return sorted(row["created_at"] for row in answer[1].values())
    if call.operation in ("update", "promote", "fail") and answer["status"] != "building":
        return [answer["completed_at"]]
    return []


def rows_of_table(table: pa.Table) -> list[Row]:
    """Return the rows of a scan as the oracle shows rows, sorted by name."""
    for name in _INSTANTS:
        at = table.schema.get_field_index(name)
        text = pc.replace_substring(table.column(at).cast(pa.string()), " ", "T")
        table = table.set_column(at, name, text)
    rows = table.drop_columns(_OUR_OWN).to_pylist(maps_as_pydicts="strict")
    return sorted(map(_as_stored, rows), key=lambda row: row["table_name"])


def _attempt(ours: Ours, target: Any) -> Any:
    try:
        return _plain(ours(target))
    except JammiFilesError as error:
        if isinstance(error, ReferencedError):
            named = tuple(sorted(re.findall(r"'([^']*)'", str(error))))
            return Refusal("ReferencedError", named, "tables of other tenants" in str(error))
        return Refusal(type(error).__name__)


def _consult(theirs: Theirs, oracle: Oracle, got: Any) -> Any:
    oracle.changed_rows = 0
    try:
        with oracle.all_or_nothing():
            return theirs(oracle, got)
    except OracleError as refusal:
        oracle.changed_rows = 0
        return Refusal(refusal.kind, refusal.names, bool(refusal.unnamed))


def _plain(answer: Any) -> Any:
    if isinstance(answer, ResultTableRecord):
        return _as_stored({k: v for k, v in answer.to_dict().items() if k not in _OUR_OWN})
    if isinstance(answer, pa.Table):
        assert answer.schema == SCHEMA
        return rows_of_table(answer)
    if isinstance(answer, list | tuple):
        return type(answer)(map(_plain, answer))
    if isinstance(answer, dict):
        return {key: _plain(value) for key, value in answer.items()}
    return answer


def _as_stored(row: Row) -> Row:
    return row | {"input_anchors_json": row.pop("input_anchors")}


def _instant(got: Any, name: str) -> str:
    """Return the library's instant; a refused call has none, and the oracle must refuse it too."""
    return _NEVER if got is None or isinstance(got, Refusal) else got[name]


def _create(who: Who, row: Row, *, if_not_exists: bool):
    row = {"parquet_path": f"{row['table_name']}.parquet"} | row
    keywords = {key: value for key, value in row.items() if key != "table_name"}
    return (
        lambda target: target.create_result_table(
            row["table_name"], **keywords, if_not_exists=if_not_exists
        ),
        lambda oracle, got: oracle.create(
            who,
            row | {"created_at": _instant(got, "created_at")},
            if_not_exists=if_not_exists,
        ),
    )


def _create_many(who: Who, rows: list[Row]):
    rows = [{"parquet_path": f"{row['table_name']}.parquet"} | row for row in rows]
    names = [row["table_name"] for row in rows]
    used = [name for name in SCHEMA.names if name in _REQUIRED or any(name in r for r in rows)]
    columns = {name: _column(name, [row.get(name) for row in rows]) for name in used}

    def ours(target):
        count = target.create_result_tables(pa.table(columns))
        return count, {name: target.get_result_table(name) for name in names}

    def theirs(oracle, got):
        created = {} if isinstance(got, Refusal) else got[1]
        stamped = [
            row | {"created_at": _instant(created.get(row["table_name"]), "created_at")}
            for row in rows
        ]
        count = oracle.create_many(who, stamped)
        return count, {name: oracle.get(who, name) for name in names}

    return ours, theirs


def _column(name: str, values: list[Any]) -> pa.Array:
    as_pairs = [list(value.items()) if isinstance(value, dict) else value for value in values]
    return pa.array(as_pairs, SCHEMA.field(name).type)


def _update(who: Who, name: str, status: str, row_count: int):
    return (
        lambda target: target.update_result_table_status(name, status, row_count),
        lambda oracle, got: oracle.update(
            who, name, status, row_count, _instant(got, "completed_at")
        ),
    )


def _promote(who: Who, name: str, row_count: int, definition_hash: str, anchors: list[InputAnchor]):
    contract = definition_hash, [anchor.to_dict() for anchor in anchors]
    return (
        lambda target: target.promote_result_table_with_manifest(
            name, row_count, definition_hash, anchors
        ),
        lambda oracle, got: oracle.promote(
            who, name, row_count, contract, _instant(got, "completed_at")
        ),
    )


def _fail(who: Who, name: str, error: str):
    return (
        lambda target: target.fail_result_table(name, error),
        lambda oracle, got: oracle.fail(who, name, error, _instant(got, "completed_at")),
    )


def _delete_one(who: Who, name: str, *, cascade: bool):
    def ours(target):
        if not hasattr(target, "plan_delete"):  # a transaction
            return target.delete_result_table(name, cascade=cascade)
        planned = target.plan_delete(name, cascade=cascade)
        assert target.delete_result_table(name, cascade=cascade) == planned
        return planned

    return ours, lambda oracle, _: oracle.delete_one(who, name, cascade=cascade)


def _delete(who: Who, source: str, *, cascade: bool):
    return (
        lambda target: target.delete_result_tables_for_source(source, cascade=cascade),
        lambda oracle, _: oracle.delete_for_source(who, source, cascade=cascade),
    )


def _get(who: Who, name: str):
    return (
        lambda target: target.get_result_table(name),
        lambda oracle, _: oracle.get(who, name),
    )


def _by_status(who: Who, status: str):
    return (
        lambda target: target.list_result_tables_by_status(status),
        lambda oracle, _: oracle.by_status(who, status),
    )


def _find(who: Who, source: str, filters: Row, *, newest_first: bool, limit: int | None):
    return (
        lambda target: target.find_result_tables(
            source, **filters, newest_first=newest_first, limit=limit
        ),
        lambda oracle, _: oracle.find(who, source, filters, newest_first=newest_first)[:limit],
    )


def _by_definition(who: Who, definition_hash: str):
    return (
        lambda target: target.find_ready_result_tables_by_definition(definition_hash),
        lambda oracle, _: oracle.by_definition(who, definition_hash),
    )


def _anchored_on(who: Who, source: str):
    return (
        lambda target: target.find_ready_result_tables_anchored_on(source),
        lambda oracle, _: oracle.anchored_on(who, source),
    )


def _resolve(who: Who, source: str, filters: Row, *, underived: bool):
    return (
        lambda target: target.resolve_embedding_table(source, **filters, exclude_derived=underived),
        lambda oracle, _: oracle.resolve(who, source, filters, underived=underived),
    )


def _resolve_named(who: Who, source: str, name: str):
    return (
        lambda target: target.resolve_embedding_table(source, name),
        lambda oracle, _: oracle.resolve_named(who, source, name),
    )


def _scan(who: Who, status: str | None):
    condition = None if status is None else pc.field("status") == status
    return lambda target: target.scan(condition), lambda oracle, _: oracle.scan(who, status)


def _set_checkpoint(who: Who, name: str, batch: int):
    return (
        lambda target: target.set_checkpoint(name, batch),
        lambda oracle, _: oracle.set_checkpoint(who, name, batch),
    )


def _get_checkpoint(who: Who, name: str):
    return (
        lambda target: target.get_checkpoint(name),
        lambda oracle, _: oracle.get_checkpoint(who, name),
    )


_SIDES = {
    "create": _create,
    "create_many": _create_many,
    "update": _update,
    "promote": _promote,
    "fail": _fail,
    "delete": _delete,
    "delete_one": _delete_one,
    "get": _get,
    "by_status": _by_status,
    "find": _find,
    "by_definition": _by_definition,
    "anchored_on": _anchored_on,
    "resolve": _resolve,
    "resolve_named": _resolve_named,
    "scan": _scan,
    "set_checkpoint": _set_checkpoint,
    "get_checkpoint": _get_checkpoint,
}
