"""A descriptor told of other tables: what named an old input names the one that took its place.

A result that is made anew on new parents must say so, or its definition would lie (`B272`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from jammi_files.described import Described
from jammi_files.descriptor_parts import NeighborGraphEdges, RegisteredEdges
from jammi_files.descriptors import (
    AsofJoin,
    ContextSet,
    Embedding,
    External,
    GraphPropagation,
    Inference,
    NeighborGraph,
)
from jammi_files.naming import is_generated

D = TypeVar("D", bound=Described)

_REFERENCES: dict[type[Described], tuple[str, ...]] = {
    Inference: ("source_id",),
    Embedding: ("source_id",),
    NeighborGraph: ("source_table",),
    GraphPropagation: ("source_table",),
    ContextSet: ("source_id", "embedding_table"),
    AsofJoin: ("spine", "facts"),
    NeighborGraphEdges: ("table_name",),
    RegisteredEdges: ("source_id",),
}
"""The fields that name an input; a model or a column may bear the same name and is left alone."""


def retarget(value: D, renamed: Mapping[str, str]) -> D:
    """Return a descriptor, or a part of one, that names the inputs by their new names.

    ``renamed`` maps old names to new ones. Besides the fields that name an input, text that is an
    old name is replaced in the ``params`` of an external producer and in fields that this version
    does not know; there a generated name also as part of a longer text. What names none of them is
    returned as it is.
    """
    names = _REFERENCES.get(type(value), ())
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        old = getattr(value, field.name)
        new = old
        if field.name in names:
            new = renamed.get(old, old)
        elif isinstance(old, Described):
            new = retarget(old, renamed)
        elif field.name == "extra" or (isinstance(value, External) and field.name == "params"):
            new = _replaced(old, renamed)
        if new != old:
            changed[field.name] = new
    return dataclasses.replace(value, **changed) if changed else value


def _replaced(value: Any, renamed: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return {key: _replaced(item, renamed) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, renamed) for item in value]
    if not isinstance(value, str):
        return value
    if value in renamed:
        return renamed[value]
    for old, new in renamed.items():
        if is_generated(old):
            value = value.replace(old, new)
    return value
