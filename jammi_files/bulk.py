"""Rows given as an Arrow table: checked in Arrow kernels, brought to the stored columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files.errors import InvalidInputError
from jammi_files.schema import SCHEMA, ModelTask, ResultTableKind, ResultTableStatus
from jammi_files.validation import LONGEST_TABLE_NAME, require_table_name

REQUIRED = ("table_name", "source_id", "model_id", "task", "parquet_path")
OPTIONAL = (
    "kind",
    "derived_from",
    "index_path",
    "dimensions",
    "key_column",
    "text_columns",
    "properties",
)
_ODD_PATH = r"^[/.]|/[/.]|/$|[:\\\x{0}]|(?i:_catalog)"
_SUSPECT_NAME = r"[/\\\x{0}-\x{1f}\x{7f}-\x{9f}]|\.\.|^\."


def building_rows(
    rows: object, *, tenant: str | None, lease: dict[str, Any], locate: Callable[[str], str]
) -> pa.Table:
    """Return new ``building`` rows in the columns `SCHEMA`, checked as `create_result_table` does.

    ``rows`` is a `pyarrow.Table` or anything that speaks the Arrow PyCapsule interface; its columns
    are the keywords of `create_result_table`. ``locate`` brings a path to its stored form.

    Raises:
        InvalidInputError: naming the column and the first offending value; nothing was written.
    """
    given = _as_table(rows)
    columns = {field.name: _typed(given, field) for field in SCHEMA if field.name in _COLUMNS}
    _require_names(columns["table_name"])
    for name in (*REQUIRED[1:], "derived_from", "index_path", "key_column"):
        _refuse(pc.equal(columns[name], ""), columns["table_name"], f"{name} is required")
    for name, enum in (("task", ModelTask), ("kind", ResultTableKind)):
        for value in pc.unique(columns[name]).to_pylist():
            if value is not None:
                enum.parse(value)
    dimensions = columns["dimensions"]
    _refuse(pc.less(dimensions, 1), columns["table_name"], "dimensions must be at least 1")
    _require_texts(columns["text_columns"], columns["table_name"])
    if columns["properties"].items.null_count:
        raise InvalidInputError("column 'properties' maps a key to null; give a string")
    _require_acyclic(columns["table_name"], columns["derived_from"])
    for name in ("parquet_path", "index_path"):
        columns[name] = _located(columns[name], locate)
    constant = {
        "distance_metric": "cosine",
        "row_count": 0,
        "status": ResultTableStatus.BUILDING.value,
        "tenant_id": tenant,
        "lease": lease,
    }
    if columns["kind"].null_count:
        columns["kind"] = pc.fill_null(columns["kind"], ResultTableKind.MODEL.value)
    arrays = [
        columns[field.name]
        if field.name in columns
        else pa.repeat(pa.scalar(constant.get(field.name), field.type), given.num_rows)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, names=SCHEMA.names)


_COLUMNS = frozenset({*REQUIRED, *OPTIONAL})


def _as_table(rows: object) -> pa.Table:
    try:
        table = rows if isinstance(rows, pa.Table) else pa.table(rows)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InvalidInputError(f"rows must be a pyarrow.Table: {error}") from error
    if len(set(table.column_names)) < table.num_columns:
        raise InvalidInputError(f"rows: a column comes twice: {', '.join(table.column_names)}")
    unknown = sorted(set(table.column_names) - _COLUMNS)
    missing = [name for name in REQUIRED if name not in table.column_names]
    if unknown or missing:
        raise InvalidInputError(
            f"rows: unknown columns {unknown}, missing columns {missing}; "
            f"required are {', '.join(REQUIRED)}, optional {', '.join(OPTIONAL)}"
        )
    return table


def _typed(table: pa.Table, field: pa.Field) -> pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    given = table.column(field.name).type
    text = pa.types.is_string(field.type) and not _is_text(given)
    number = pa.types.is_integer(field.type) and not pa.types.is_integer(given)
    if (text or number) and not pa.types.is_null(given):
        raise InvalidInputError(f"column '{field.name}': must be {field.type}, not {given}")
    try:
        column = table.column(field.name).cast(field.type).combine_chunks()
    except (pa.ArrowException, ValueError) as error:
        raise InvalidInputError(f"column '{field.name}': {error}") from error
    if field.name in REQUIRED and column.null_count:
        raise InvalidInputError(f"column '{field.name}' holds a null; every row needs a value")
    return column


def _is_text(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(found) for is_kind in kinds)


def _require_names(names: pa.Array) -> None:
    odd = pc.or_(
        pc.match_substring_regex(names, _SUSPECT_NAME),
        pc.or_(pc.equal(names, ""), pc.greater(pc.binary_length(names), LONGEST_TABLE_NAME)),
    )
    for name in names.filter(odd).to_pylist():
        require_table_name(name)
    ordered = names.take(pc.sort_indices(names))
    following, before = ordered.slice(1), ordered.slice(0, max(len(names) - 1, 0))
    twice = following.filter(pc.equal(following, before))
    if len(twice):
        raise InvalidInputError(f"table_name '{twice[0]}' comes twice in one batch")


def _refuse(wrong: pa.Array, names: pa.Array, text: str) -> None:
    offenders = names.filter(pc.fill_null(wrong, False))
    if len(offenders):
        raise InvalidInputError(f"row '{offenders[0]}': {text}")


def _require_texts(lists: pa.Array, names: pa.Array) -> None:
    items = pc.list_flatten(lists)
    wrong = pc.or_(items.is_null(), pc.equal(pc.fill_null(items, ""), ""))
    rows = pc.list_parent_indices(lists).filter(wrong)
    if len(rows):
        raise InvalidInputError(f"row '{names[rows[0].as_py()]}': an item of text_columns is empty")


def _require_acyclic(names: pa.Array, parents: pa.Array) -> None:
    """Refuse rows of one batch that derive from themselves, at whatever distance."""
    if parents.null_count == len(parents):
        return
    parent_of = dict(zip(names.to_pylist(), parents.to_pylist(), strict=True))
    rooted: set[str] = set()
    for name in parent_of:
        path: dict[str, None] = {}
        step: str | None = name
        while step is not None and step in parent_of and step not in rooted:
            if step in path:
                raise InvalidInputError(f"row '{step}': its derived_from leads back to it")
            path[step] = None
            step = parent_of[step]
        rooted.update(path)


def _located(paths: pa.Array, locate: Callable[[str], str]) -> pa.Array:
    """Bring paths to their stored form; one that is plainly relative is in it already."""
    odd = pc.fill_null(pc.match_substring_regex(paths, _ODD_PATH), False)
    if not pc.any(odd, min_count=0).as_py():
        return paths
    stored = pa.array([locate(path) for path in paths.filter(odd).to_pylist()], pa.string())
    return pc.replace_with_mask(paths, odd, stored)
