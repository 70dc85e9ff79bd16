"""What a manifest says of its version, as JSON in its key-value metadata."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson

from jammi_files.errors import FormatError, UnsupportedVersionError
from jammi_files.retention import Retention
from jammi_files.timestamps import format_timestamp, parse_timestamp

T = TypeVar("T")

FORMAT_VERSION = 1
METADATA_KEY = b"jammi_files"

MAX_HEADER_BYTES = 4 * 2**20
"""What is refused before it is decoded; no writer comes near."""


@dataclasses.dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A manifest's entry for one segment; ``level`` counts the merges behind it."""

    key: str
    rows: int
    level: int
    min_name: str
    max_name: str
    min_seq: int
    max_seq: int


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What a manifest says of its version; ``committed_at`` is nanoseconds since the epoch.

    ``extra`` holds the keys of a newer library, which every commit carries on.
    """

    version: int
    commit_id: str
    operation: str
    committed_at: int
    writer: str
    segments: tuple[SegmentInfo, ...] = ()
    retention: Retention = dataclasses.field(default_factory=Retention)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_OWN_FIELDS = ("version", "commit_id", "operation", "committed_at", "writer", "segments")
_RETENTION_FIELDS = tuple(field.name for field in dataclasses.fields(Retention))


def header_to_json(header: Header) -> bytes:
    """Return a header's JSON, which stands under `METADATA_KEY`."""
    fields = dict(header.extra)
    fields |= {name: getattr(header, name) for name in _OWN_FIELDS}
    fields |= {name: getattr(header.retention, name) for name in _RETENTION_FIELDS}
    fields |= {
        "format_version": FORMAT_VERSION,
        "committed_at": format_timestamp(header.committed_at),
    }
    return orjson.dumps(fields)


def parse_header(key: str, metadata: Mapping[bytes, bytes]) -> Header:
    """Read a header from a manifest's key-value metadata.

    Raises:
        FormatError: it is none, or damaged.
        UnsupportedVersionError: a newer library wrote it in a format this one does not know.
    """
    try:
        said = metadata[METADATA_KEY]
        if len(said) > MAX_HEADER_BYTES:
            raise ValueError(f"{len(said)} bytes of JSON are over {MAX_HEADER_BYTES}")
        fields = orjson.loads(said)
        found = fields["format_version"]
        if found != FORMAT_VERSION:
            msg = (
                f"manifest '{key}' has format version {found}, this library reads {FORMAT_VERSION}"
            )
            raise UnsupportedVersionError(msg)
        fields["committed_at"] = parse_timestamp(fields["committed_at"])
        fields["segments"] = tuple(_typed(SegmentInfo, entry) for entry in fields["segments"])
        own = {*_OWN_FIELDS, *_RETENTION_FIELDS, "format_version"}
        extra = {name: value for name, value in fields.items() if name not in own}
        retention = Retention.parse(*(fields.get(name) for name in _RETENTION_FIELDS))
        return _typed(Header, {**fields, "retention": retention, "extra": extra})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"'{key}' is no manifest of this catalog: {error!r}") from error


def _typed(cls: type[T], fields: dict[str, Any]) -> T:
    """Build a dataclass of its own keys, leaving out those that a newer library added."""
    values = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # both callers pass one
        value = values[field.name] = fields[field.name]
        if field.type in _JSON_TYPES and type(value) is not _JSON_TYPES[field.type]:
            raise TypeError(f"{field.name} must be {field.type}, not {value!r}")
    return cls(**values)


_JSON_TYPES: dict[object, type] = {"int": int, "str": str}
