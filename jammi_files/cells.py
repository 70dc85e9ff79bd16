"""Values of records as Arrow takes them, column by column."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from jammi_files.timestamps import parse_timestamp

TO_ARROW: dict[str, Callable[[Any], Any]] = {
    "created_at": parse_timestamp,
    "completed_at": parse_timestamp,
    "input_anchors": lambda anchors: [anchor.to_dict() for anchor in anchors],
    "properties": lambda properties: list(properties.items()),
    "lease": lambda held: {name: getattr(held, name) for name in held.__slots__},
}
"""By column, how a value that is not null becomes one that Arrow stores; other columns as is."""


def arrow_column(field: pa.Field, values: Iterable[Any]) -> pa.Array:
    """Return the values that records hold in a column as an array of the field's type."""
    convert = TO_ARROW.get(field.name)
    if convert is not None:
        values = (None if value is None else convert(value) for value in values)
    return pa.array(list(values), field.type)
