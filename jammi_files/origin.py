"""What a data object says of its own row, in its Parquet footer, for the day the catalog is lost.

Only what is the same for every result of one definition stands there, no name and no instant, so
that the same inputs still give the same bytes (`B271`). Sidecar and name say the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import orjson
import pyarrow as pa

from jammi_files.errors import InvalidInputError
from jammi_files.schema import ModelTask, ResultTableKind, ResultTableRecord
from jammi_files.scope import TenantId
from jammi_files.validation import require_count, require_strings, require_text

METADATA_KEY = b"jammi_files.origin"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The columns of a row that its data object repeats; ``tenant_id`` None is GLOBAL."""

    source_id: str
    model_id: str
    task: ModelTask
    kind: ResultTableKind
    dimensions: int | None
    key_column: str | None
    text_columns: tuple[str, ...] | None
    tenant_id: str | None

    @classmethod
    def of(cls, record: ResultTableRecord) -> Self:
        """Return what the data object of a row says of it."""
        return cls(**{field.name: getattr(record, field.name) for field in dataclasses.fields(cls)})

    def to_json_bytes(self) -> bytes:
        """Return the value of the footer's key `METADATA_KEY`."""
        return orjson.dumps(dataclasses.asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def find(cls, metadata: Mapping[bytes, bytes] | None) -> Self | None:
        """Read it from a footer's metadata; None if there is none, or none that can be trusted."""
        try:
            fields = orjson.loads((metadata or {})[METADATA_KEY])
            return cls(**{name: check(name, fields[name]) for name, check in _CHECKS.items()})
        except (KeyError, TypeError, ValueError):  # InvalidInputError is a ValueError
            return None


def without_origin(schema: pa.Schema) -> pa.Schema:
    """Return a schema without what was read of another result's origin."""
    metadata = dict(schema.metadata or {})
    if metadata.pop(METADATA_KEY, None) is None:
        return schema
    return schema.with_metadata(metadata or None)


def _optional(check: Any) -> Any:  # noqa: ANN401 - one of the functions below
    return lambda what, value: None if value is None else check(what, value)


def _tenant(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} must be a string")
    return TenantId(value)


_CHECKS: dict[str, Any] = {
    "source_id": require_text,
    "model_id": require_text,
    "task": lambda _, value: ModelTask.parse(value),
    "kind": lambda _, value: ResultTableKind.parse(value),
    "dimensions": _optional(require_count),
    "key_column": _optional(require_text),
    "text_columns": _optional(require_strings),
    "tenant_id": _optional(_tenant),
}
