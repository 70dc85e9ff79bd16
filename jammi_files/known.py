"""Results as freshness sees them: a few facts of each row, and its anchors as stored."""

from __future__ import annotations

from typing import NamedTuple

READY = "ready"
UNREADABLE = "unreadable"
"""The status, here, of a row that holds values which this version does not know (`B037`)."""


class Pin(NamedTuple):
    """An anchor as stored; its kind may be one that this version does not know."""

    source: str
    anchor: str
    kind: str


class Known(NamedTuple):
    """What freshness needs of a row; ``age`` orders rows, ``shape`` and ``logical`` group them."""

    table_name: str
    status: str
    tenant_id: str | None
    age: tuple[int, str]
    definition_hash: str | None
    logical: tuple[str, str, str, str]
    shape: tuple[object, ...]
    parquet_path: str
    row_count: int
    pins: tuple[Pin, ...] | None
    artifact_digest: str | None = None
    descriptor_digest: str | None = None

    @property
    def is_attested(self) -> bool:
        """True if the row carries a contract (`B232`)."""
        return self.definition_hash is not None and self.pins is not None
