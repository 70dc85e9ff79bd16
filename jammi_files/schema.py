"""The row: its Arrow schema, its record, its enums, and what a legal row looks like.

A row is stored with the columns of jammi-db's ``result_tables`` (`B023`) and a few of our own.
``seq`` (the version that wrote the row) and ``deleted`` (a tombstone) are bookkeeping: they never
reach a caller. No I/O happens here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Self

import orjson
import pyarrow as pa

from jammi_files.cells import arrow_column
from jammi_files.errors import FormatError, InvalidInputError
from jammi_files.validation import require_text, require_utf8


class _StoredEnum(StrEnum):
    """An enum whose values are the stored strings; parsing is exact (`B010`)."""

    @classmethod
    def parse(cls, value: str) -> Self:
        """Return the member stored as ``value``.

        Raises:
            InvalidInputError: with the text of `B002`, `B004` or `B007`.
        """
        try:
            return cls(value)
        except ValueError:
            raise InvalidInputError(_unknown(cls, value)) from None

    @classmethod
    def stored(cls, value: str) -> str:
        """Return the member stored as ``value``, or the string itself if a newer library wrote it.

        `find_damage` tells the two apart, so that one odd row leaves the others readable (`B037`).
        """
        return cls._value2member_map_.get(value, value)  # type: ignore[return-value]


class ResultTableStatus(_StoredEnum):
    """Where a result stands: ``building -> ready | failed``, ``ready -> failed`` (`B001`)."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """True for ``ready`` and ``failed``: the row has a ``completed_at`` (`B068`)."""
        return self is not ResultTableStatus.BUILDING

    def may_become(self, new: ResultTableStatus) -> bool:
        """Say whether the move is legal; ``building -> building`` reports progress (`B073`)."""
        return new in _LEGAL_MOVES[self]


_LEGAL_MOVES = {
    ResultTableStatus.BUILDING: frozenset(ResultTableStatus),
    ResultTableStatus.READY: frozenset({ResultTableStatus.FAILED}),
    ResultTableStatus.FAILED: frozenset[ResultTableStatus](),
}


class ResultTableKind(_StoredEnum):
    """What sort of producer wrote the table (`B003`)."""

    MODEL = "model"
    NEIGHBOR_GRAPH = "neighbor_graph"
    ASOF_JOIN = "asof_join"


class ModelTask(_StoredEnum):
    """The task of the model behind a result, in declaration order (`B006`)."""

    TEXT_EMBEDDING = "text_embedding"
    IMAGE_EMBEDDING = "image_embedding"
    AUDIO_EMBEDDING = "audio_embedding"
    CLASSIFICATION = "classification"
    NER = "ner"
    REGRESSION = "regression"

    @property
    def is_embedding(self) -> bool:
        """True for the text, image and audio embedding tasks (`B008`)."""
        return self.value.endswith("_embedding")


class AnchorKind(_StoredEnum):
    """How an input was pinned (`B011`)."""

    RESULT_DIGEST = "result_digest"
    MUTABLE_VERSION = "mutable_version"
    SOURCE_VERSION = "source_version"
    UNPINNED_AT_INSTANT = "unpinned_at_instant"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class InputAnchor:
    """One input of a result and the state in which it was read (`B181`, `B215`, `B216`)."""

    source: str
    anchor: str
    kind: AnchorKind

    def __post_init__(self) -> None:
        require_text("an anchor's source", self.source)
        if not isinstance(self.anchor, str):
            msg = f"an anchor's value must be a string, not {type(self.anchor).__name__}"
            raise InvalidInputError(msg)
        require_utf8("an anchor's value", self.anchor)
        object.__setattr__(self, "kind", AnchorKind.parse(self.kind))

    @classmethod
    def result_digest(cls, source: str, value: str) -> Self:
        """Pin a result table by the SHA-256 that its own sidecar records."""
        return cls(source, value, AnchorKind.RESULT_DIGEST)

    @classmethod
    def mutable_version(cls, source: str, value: int | str) -> Self:
        """Pin a mutable table by its decimal version."""
        return cls(source, str(value), AnchorKind.MUTABLE_VERSION)

    @classmethod
    def source_version(cls, source: str, value: str) -> Self:
        """Pin a raw source by any version string that its owner understands."""
        return cls(source, value, AnchorKind.SOURCE_VERSION)

    @classmethod
    def unpinned_at_instant(cls, source: str, value: str) -> Self:
        """Record only when an unversioned source was read (RFC 3339, taken before the read)."""
        return cls(source, value, AnchorKind.UNPINNED_AT_INSTANT)

    @classmethod
    def stored(cls, source: str, anchor: str, kind: str) -> Self:
        """Build an anchor from a stored row without checks: `find_damage` makes them (`B037`)."""
        self = object.__new__(cls)
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "anchor", anchor)
        object.__setattr__(self, "kind", AnchorKind.stored(kind))
        return self

    @property
    def is_pinned(self) -> bool:
        """False when the anchor cannot tell whether the input has changed since."""
        return self.kind is not AnchorKind.UNPINNED_AT_INSTANT

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form, keys in the order source, anchor, kind (`B085`)."""
        return {"source": self.source, "anchor": self.anchor, "kind": str(self.kind)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build an anchor from its JSON form.

        Raises:
            InvalidInputError: a field is missing or of the wrong type.
        """
        try:
            return cls(fields["source"], fields["anchor"], fields["kind"])
        except (KeyError, TypeError):
            msg = f"an anchor needs the string fields source, anchor and kind, not {fields!r}"
            raise InvalidInputError(msg) from None


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """Who is building a row: written with the row, so no building row is ever without an owner.

    ``host`` names one boot of one machine (and one process namespace); ``process_start`` tells
    this ``pid`` from a later process of the same number; ``expires_at`` is nanoseconds since the
    epoch and decides only where the owner cannot be looked at (`B065`, `B258`).
    """

    owner: str
    host: str
    pid: int
    process_start: str
    expires_at: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResultTableRecord:
    """One row of the catalog; the fields are the columns (`B023`).

    ``parquet_path`` and ``index_path`` are relative to the root when they lie under it (`B055`).
    ``created_at`` and ``completed_at`` are UTC text with nanoseconds (`B029`). ``input_anchors`` is
    None for a row that was made ready without a contract, ``()`` for one without inputs (`B086`).
    ``artifact_digest`` and ``descriptor_digest`` are what the sidecar says of the bytes and of how
    they were made, so that no question about many results reads a sidecar for each; None where
    the row was made ready without them, and the sidecar has to be asked.
    """

    table_name: str
    source_id: str
    model_id: str
    task: ModelTask
    kind: ResultTableKind = ResultTableKind.MODEL
    derived_from: str | None = None
    parquet_path: str
    index_path: str | None = None
    dimensions: int | None = None
    distance_metric: str | None = "cosine"
    row_count: int = 0
    status: ResultTableStatus = ResultTableStatus.BUILDING
    key_column: str | None = None
    text_columns: tuple[str, ...] | None = None
    checkpoint: int | None = None
    created_at: str
    completed_at: str | None = None
    tenant_id: str | None = None
    definition_hash: str | None = None
    input_anchors: tuple[InputAnchor, ...] | None = None
    properties: Mapping[str, str] | None = None
    storage_precision: str | None = None
    oversample: int | None = None
    lease: Lease | None = None
    artifact_digest: str | None = None
    descriptor_digest: str | None = None

    @property
    def input_anchors_json(self) -> str | None:
        """The anchors as jammi-db stores them: compact JSON, producer order (`B085`)."""
        if self.input_anchors is None:
            return None
        return orjson.dumps([anchor.to_dict() for anchor in self.input_anchors]).decode()

    @property
    def is_ready(self) -> bool:
        """True once the result is published."""
        return self.status is ResultTableStatus.READY

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; enums as their stored strings (`B005`)."""
        return {name: _plain(getattr(self, name)) for name in RECORD_FIELDS}

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        """Export a batch of one row by the Arrow PyCapsule interface; see `records_table`."""
        batch = records_table([self]).to_batches()[0]
        return batch.__arrow_c_array__(requested_schema)


RECORD_FIELDS = tuple(field.name for field in dataclasses.fields(ResultTableRecord))

_ANCHOR_TYPE = pa.struct([("source", pa.string()), ("anchor", pa.string()), ("kind", pa.string())])
_LEASE_TYPE = pa.struct(
    [
        ("owner", pa.string()),
        ("host", pa.string()),
        ("pid", pa.int64()),
        ("process_start", pa.string()),
        ("expires_at", pa.int64()),
    ]
)
_INSTANT = pa.timestamp("ns", "UTC")

SCHEMA = pa.schema(
    [
        pa.field("table_name", pa.string(), nullable=False),
        pa.field("source_id", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("derived_from", pa.string()),
        pa.field("parquet_path", pa.string(), nullable=False),
        pa.field("index_path", pa.string()),
        pa.field("dimensions", pa.int64()),
        pa.field("distance_metric", pa.string()),
        pa.field("row_count", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("key_column", pa.string()),
        pa.field("text_columns", pa.list_(pa.string())),
        pa.field("checkpoint", pa.int64()),
        pa.field("created_at", _INSTANT, nullable=False),
        pa.field("completed_at", _INSTANT),
        pa.field("tenant_id", pa.string()),
        pa.field("definition_hash", pa.string()),
        pa.field("input_anchors", pa.list_(_ANCHOR_TYPE)),
        pa.field("properties", pa.map_(pa.string(), pa.string())),
        pa.field("storage_precision", pa.string()),
        pa.field("oversample", pa.int64()),
        pa.field("lease", _LEASE_TYPE),
        pa.field("artifact_digest", pa.string()),
        pa.field("descriptor_digest", pa.string()),
    ]
)
"""The columns that callers see, in stored order."""

LOW_CARDINALITY = (
    "source_id",
    "model_id",
    "task",
    "kind",
    "distance_metric",
    "status",
    "tenant_id",
)
"""Columns that stay dictionary-encoded in memory and in segments."""


def records_table(records: Iterable[ResultTableRecord]) -> pa.Table:
    """Return records as an Arrow table with the columns of `scan`, in the order given."""
    rows = list(records)
    columns = [arrow_column(field, (getattr(row, field.name) for row in rows)) for field in SCHEMA]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def require_anchors(value: Sequence[InputAnchor]) -> tuple[InputAnchor, ...]:
    """Return the anchors as a tuple in producer order."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        msg = f"input_anchors must be a sequence of InputAnchor values, not {value!r}"
        raise InvalidInputError(msg)
    anchors = tuple(value)
    for anchor in anchors:
        if not isinstance(anchor, InputAnchor):
            msg = f"input_anchors must hold InputAnchor values, not {anchor!r}"
            raise InvalidInputError(msg)
    return anchors


def require_sound(record: ResultTableRecord) -> ResultTableRecord:
    """Return the record if its task, kind and status are known ones (`B037`).

    Raises:
        FormatError: naming the row, the column and the value.
    """
    damage = find_damage(record)
    if damage is not None:
        raise FormatError(damage)
    return record


def find_damage(record: ResultTableRecord) -> str | None:
    """Say what makes the record unreadable, or None; other rows are not affected (`B037`)."""
    for anchor in record.input_anchors or ():
        if anchor.kind.__class__ is not AnchorKind:
            break
    else:  # every read of every row comes here: classes are compared, nothing is looked up by name
        found = record.task.__class__, record.kind.__class__, record.status.__class__
        if found == _SOUND:
            return None
    for column, enum in ENUM_COLUMNS.items():
        value = getattr(record, column)
        if not isinstance(value, enum):
            return f"row '{record.table_name}', column {column}: {_unknown(enum, value)}"
    for anchor in record.input_anchors or ():
        if not isinstance(anchor.kind, AnchorKind):
            what = _unknown(AnchorKind, anchor.kind)
            return f"row '{record.table_name}', column input_anchors: {what}"
    return None


ENUM_COLUMNS: dict[str, type[_StoredEnum]] = {
    "task": ModelTask,
    "kind": ResultTableKind,
    "status": ResultTableStatus,
}
_SOUND = tuple(ENUM_COLUMNS.values())


def _plain(value: Any) -> Any:  # noqa: ANN401 - any column's value
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, InputAnchor):
        return value.to_dict()
    if isinstance(value, Lease):
        return dataclasses.asdict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _unknown(enum: type[_StoredEnum], value: object) -> str:
    if enum is ResultTableStatus:
        return f"Unknown result table status: '{value}'"
    what = {ResultTableKind: "result-table kind", ModelTask: "model task"}.get(enum, "anchor kind")
    return f"Unknown {what} '{value}'. Expected: {', '.join(enum)}"
