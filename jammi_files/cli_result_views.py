"""Data, freshness and differences of results, as plain JSON values and as blocks for people."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jammi_files.errors import FormatError
from jammi_files.explain import StaleExplanation
from jammi_files.reasons import Staleness
from jammi_files.schema import ResultTableRecord
from jammi_files.terminal import Block, Table, printable

_WIDEST = 60
"""Characters of a value that a cell shows."""

_SHOWN = 3
"""Members of a list that a cell shows."""


def chosen(tables: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """Return rows of the catalog in the columns that were asked for."""
    lines = [[cell(table[name], widest=None) for name in columns] for table in tables]
    return Table([name.upper() for name in columns], lines)


def data(document: Mapping[str, Any]) -> Block:
    """Return the head of a result's data; long values are shortened."""
    names = [column["name"] for column in document["columns"]]
    if not names:
        return "No columns."
    return Table(
        [*map(printable, names)], [[cell(row[name]) for name in names] for row in document["rows"]]
    )


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as JSON values.

    Raises:
        FormatError: two columns have one name, or a value has no JSON form.
    """
    if len(set(table.column_names)) < table.num_columns:
        raise FormatError("two columns have the same name, so rows cannot be told by name")
    columns = [_values(name, table.column(name)) for name in table.column_names]
    return [
        dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)
    ]


def _values(name: str, column: pa.ChunkedArray) -> list[Any]:
    try:
        if pa.types.is_duration(column.type):
            column = column.cast(pa.int64())
        elif pa.types.is_temporal(column.type):
            column = column.cast(pa.string())  # Python's own instants know no nanoseconds
        return [plain(value) for value in column.to_pylist()]
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise FormatError(f"column '{name}' has no JSON form: {error}") from error


def plain(value: Any) -> Any:  # noqa: ANN401 - any value of a column
    """Return a value as JSON can hold it."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return base64.b64encode(value).decode()
        case list() | tuple():
            return [plain(each) for each in value]
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case _:
            return str(value)


def cell(value: Any, widest: int | None = _WIDEST) -> str:  # noqa: ANN401 - any JSON value
    """Return a value as a cell of a table shows it; what is long is cut, and says so."""
    if value is None:
        return "-"
    if isinstance(value, list):
        rest = f", … {len(value)}" if len(value) > _SHOWN else ""
        return f"[{', '.join(cell(each, widest) for each in value[:_SHOWN])}{rest}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if widest is None or len(text) <= widest else f"{text[: widest - 1]}…"


def status_document(found: Sequence[Mapping[str, Any]], version: int) -> dict[str, Any]:
    """Return the answers of `staleness_all`, counted."""
    results = [
        {
            "table_name": each["table_name"],
            "staleness": each["staleness"],
            "is_stale": bool(each["reasons"]),
            "reasons": each["reasons"],
            "unpinned": each["unpinned"],
            "explanation": each["explanation"],
        }
        for each in found
    ]
    counts = Counter(each["staleness"] for each in results)
    ok = not any(each["is_stale"] for each in results)
    return {"ok": ok, "version": version, "counts": dict(counts), "results": results}


def status(document: Mapping[str, Any]) -> list[Block]:
    """Return the same for people: one row for each result, and the counts."""
    lines = [
        [each["staleness"], each["explanation"] or "", each["table_name"]]
        for each in document["results"]
    ]
    counts = ", ".join(f"{count} {tag}" for tag, count in sorted(document["counts"].items()))
    return [Table(["STALENESS", "WHY", "TABLE"], lines), f"{len(lines)} results: {counts}"]


def why_document(told: StaleExplanation) -> dict[str, Any]:
    """Return a verdict with the same keys whatever it is."""
    verdict: Staleness = told.staleness
    fields = verdict.to_dict()
    return {
        "table_name": told.table_name,
        "staleness": verdict.staleness,
        "is_stale": verdict.is_stale,
        "reasons": fields.get("reasons", fields.get("decided_reasons", [])),
        "unpinned": fields.get("unpinned", []),
        "more": fields.get("more", 0),
        "explanation": told.explain(),
    }


def change(
    change: Mapping[str, Any], before: ResultTableRecord | None, after: ResultTableRecord | None
) -> dict[str, Any]:
    """Return what has become of one row between two versions."""
    old, new = (None if row is None else row.to_dict() for row in (before, after))
    columns = [] if old is None or new is None else [key for key in new if old[key] != new[key]]
    return {
        "table_name": change["table_name"],
        "change": change["change_type"],
        "version": change["version"],
        "columns": columns,
        "before": old,
        "after": new,
    }


def changes(document: Mapping[str, Any]) -> list[Block]:
    """Return the changes as a table and their number."""
    lines = [
        [each["change"], str(each["version"]), _difference(each), each["table_name"]]
        for each in document["changes"]
    ]
    counts = Counter(each["change"] for each in document["changes"])
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    between = f"between version {document['old']} and {document['new']}"
    if not lines:
        return [f"No difference {between}."]
    return [Table(["CHANGE", "VERSION", "WHAT", "TABLE"], lines), f"{told} {between}"]


def _difference(each: Mapping[str, Any]) -> str:
    if each["before"] is not None and each["after"] is not None:
        return ", ".join(
            f"{name} {cell(each['before'][name])} -> {cell(each['after'][name])}"
            if name == "status"
            else name
            for name in each["columns"]
        )
    row = each["after"] or each["before"]
    return "" if row is None else f"{row['status']}, {row['row_count']} rows"
