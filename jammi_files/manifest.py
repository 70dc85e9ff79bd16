"""Manifests and segments as Parquet, and the policy that keeps files small and few.

A version is one *manifest*: at most `INLINE_ROWS` of the newest rows, and a list of *segments*,
immutable sorted runs that hold the rest. For a name the row with the highest ``seq`` wins; a
tombstone hides it. Only this module reads or writes Parquet of rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jammi_files.errors import FormatError, InvalidInputError, UnsupportedVersionError
from jammi_files.parquet_claims import MOST_TIMES, require_bounded
from jammi_files.parquet_footer import MOST_MEMORY
from jammi_files.retention import Retention
from jammi_files.row_pages import Stripe, metadata_of, to_parquet
from jammi_files.rows import STORED, Row, conform, rows_of, with_dictionaries
from jammi_files.schema import LOW_CARDINALITY
from jammi_files.segment_file import SegmentFile, open_parquet, owned
from jammi_files.timestamps import format_timestamp, parse_timestamp

T = TypeVar("T")

FORMAT_VERSION = 1
METADATA_KEY = b"jammi_files"

INLINE_ROWS = 128
"""Rows that a manifest carries itself; one more turns them into a segment."""

INLINE_BYTES = 8 * 2**20
"""The size above which a manifest's rows become a segment, however few they are."""

FAN_OUT = 8
"""Segments of one level that are merged into one of the next."""

MERGE_IN_COMMIT_ROWS = 8192
"""Rows up to which a merge is part of the commit that causes it; larger ones follow it."""

MAX_MANIFEST_BYTES = 64 * 2**20
MAX_MANIFEST_ROWS = 65_536
MAX_HEADER_BYTES = 4 * 2**20
"""What is refused before it is decoded; no writer comes near."""

ROW_GROUP_ROWS = 16_384

_GROUP_BYTES = 64 * 2**20
"""Bytes of rows in memory from which on a row group has fewer of them: readers have a limit."""


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


class MissingSegmentError(FormatError):
    """A manifest lists a segment that is not there: damage, or vacuum retired that version."""


_OWN_FIELDS = ("version", "commit_id", "operation", "committed_at", "writer", "segments")
_RETENTION_FIELDS = tuple(field.name for field in dataclasses.fields(Retention))


def encode_manifest(header: Header, table: pa.Table) -> bytes:
    """Return the bytes of one version's manifest; ``table`` holds its inline rows (`table_of`).

    A commit takes `encode_stripes`, unless rows have columns of a newer library.
    """
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        writer.add_key_value_metadata({METADATA_KEY: _said(header)})
        writer.write_table(table)
    return sink.getvalue()


def encode_stripes(header: Header, stripes: Sequence[Stripe]) -> bytes:
    """Return the bytes of one version's manifest whose inline rows are given as stripes."""
    return to_parquet(stripes, {METADATA_KEY: _said(header)})


def _said(header: Header) -> bytes:
    fields = dict(header.extra)
    fields |= {name: getattr(header, name) for name in _OWN_FIELDS}
    fields |= {name: getattr(header.retention, name) for name in _RETENTION_FIELDS}
    fields |= {
        "format_version": FORMAT_VERSION,
        "committed_at": format_timestamp(header.committed_at),
    }
    return orjson.dumps(fields)


def decode_header(key: str, data: bytes) -> Header:
    """Read what a manifest says of its version, without its rows.

    Raises:
        FormatError: the bytes are no manifest.
        UnsupportedVersionError: a newer library wrote it in a format this one does not know.
    """
    return _header(key, _look(key, data))


def decode_manifest(
    key: str, data: bytes, known: Mapping[str, Row] | None = None
) -> tuple[Header, pa.Table, list[Row]]:
    """Read a manifest's header and inline rows, as a table and as records.

    ``known`` are rows of another version of this catalog, by name; those that are still the same,
    of the same ``seq``, are taken from there.

    Raises:
        FormatError: the bytes are no manifest.
        UnsupportedVersionError: a newer library wrote it in a format this one does not know.
    """
    header = _header(key, _look(key, data))
    try:
        with open_parquet(pa.BufferReader(data), ()) as file:
            table = conform(file.read(use_threads=False))
        table.validate(full=True)
        return header, table, _rows(table, known or {})
    except (pa.ArrowException, OSError, ValueError, TypeError, FormatError) as error:
        raise FormatError(f"manifest '{key}' is damaged: {error}") from error


def _rows(table: pa.Table, known: Mapping[str, Row]) -> list[Row]:
    """Return the rows of a table; those that are known cost nothing.

    A commit puts its changes last, so whoever is behind lacks rows from some place on.
    """
    if table.num_columns > len(STORED):  # a newer library may add a column to rows as they are
        return rows_of(table)
    rows = []
    for name, seq in zip(
        *(table.column(n).to_pylist() for n in ("table_name", "seq")), strict=True
    ):
        row = known.get(name)
        if row is None or row.seq != seq:
            break
        rows.append(row)
    return rows + (rows_of(table.slice(len(rows))) if len(rows) < table.num_rows else [])


def decode_columns(key: str, data: bytes, columns: Sequence[str]) -> tuple[Header, pa.Table]:
    """Read a manifest's header and some columns of its inline rows, for whoever reads very many.

    Raises:
        FormatError: the bytes are no manifest.
        UnsupportedVersionError: a newer library wrote it in a format this one does not know.
    """
    header = _header(key, _look(key, data))
    try:
        with open_parquet(pa.BufferReader(data), ()) as file:
            return header, file.read(columns=list(columns), use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"manifest '{key}' is damaged: {error}") from error


def is_too_large(data: bytes) -> bool:
    """Say whether a manifest's rows should be a segment, because of their bytes."""
    if len(data) <= INLINE_BYTES // 4:  # LZ4 packs 255 bytes into one at best
        return False
    return len(data) > INLINE_BYTES or metadata_of(data, MOST_MEMORY) is None


def encode_segment(table: pa.Table) -> bytes:
    """Return the bytes of a segment: ``table`` sorted by name, one row per name.

    Raises:
        InvalidInputError: a row is so large that no reader would take it.
    """
    sink, size = io.BytesIO(), table.nbytes
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=list(LOW_CARDINALITY),
        write_statistics=["table_name", "seq"],
        row_group_size=max(1, min(ROW_GROUP_ROWS, table.num_rows * _GROUP_BYTES // max(1, size))),
        write_page_checksum=True,
    )
    data = sink.getvalue()
    if size > _GROUP_BYTES:
        try:
            require_bounded(data, LOW_CARDINALITY, max(MOST_MEMORY, MOST_TIMES * len(data)))
        except ValueError as error:
            raise InvalidInputError(f"rows are too large for a segment: {error}") from error
    return data


def open_segment(key: str, opener: Callable[[str], BinaryIO]) -> SegmentFile:
    """Open a segment for reading by row group; see `read_group`.

    Raises:
        FormatError: the object is missing, although a manifest lists it, or no Parquet file.
    """
    with contextlib.ExitStack() as opened:
        try:
            file = opener(key)
            opened.callback(file.close)
            found = SegmentFile(file, LOW_CARDINALITY)
        except FileNotFoundError:  # at the first read on storage without open files
            raise missing_segment(key) from None
        except (OSError, ValueError) as error:
            raise FormatError(f"segment '{key}' is damaged: {error}") from error
        opened.pop_all()
        return found


def missing_segment(key: str) -> MissingSegmentError:
    """Word the error of a segment that is not there."""
    return MissingSegmentError(f"segment '{key}' is missing, although a manifest lists it")


def decode_segment(key: str, data: bytes) -> pa.Table:
    """Return a segment's rows in one chunk.

    Raises:
        FormatError: the bytes are damaged.
    """

    def read() -> pa.Table:
        most = max(MOST_MEMORY, MOST_TIMES * len(data))
        _, folded = require_bounded(data, LOW_CARDINALITY, most)
        with open_parquet(pa.BufferReader(owned(data)), folded) as file:
            return file.read()

    return _read(key, read)


def read_group(key: str, file: SegmentFile, group: int) -> pa.Table:
    """Return the rows of one row group in one chunk; the file stays open.

    Raises:
        FormatError: the bytes are damaged.
    """
    return _read(key, lambda: file.read(group))


def _read(key: str, read: Callable[[], pa.Table]) -> pa.Table:
    try:
        table = with_dictionaries(conform(read())).combine_chunks()
        # A checksum covers a page but not its header: values, offsets and codes are checked here.
        table.validate(full=True)
    except FileNotFoundError:  # on storage without open files
        raise missing_segment(key) from None
    except (pa.ArrowException, OSError, ValueError, FormatError) as error:
        raise FormatError(f"segment '{key}' is damaged: {error}") from error
    return table


def describe_segment(key: str, table: pa.Table) -> SegmentInfo:
    """Return the manifest entry of a sorted run."""
    names, seqs = table.column("table_name"), pc.min_max(table.column("seq")).as_py()
    return SegmentInfo(
        key=key,
        rows=table.num_rows,
        level=level_of(table.num_rows),
        min_name=names[0].as_py(),
        max_name=names[-1].as_py(),
        min_seq=seqs["min"],
        max_seq=seqs["max"],
    )


def level_of(rows: int) -> int:
    """Return the level of a run of that many rows: each level is `FAN_OUT` times the last."""
    level, limit = 0, INLINE_ROWS
    while rows > limit:
        level, limit = level + 1, limit * FAN_OUT
    return level


def find_merge(segments: Sequence[SegmentInfo]) -> tuple[SegmentInfo, ...]:
    """Return the segments that should become one, lowest level first; () when all is well."""
    by_level: dict[int, list[SegmentInfo]] = {}
    for segment in segments:
        by_level.setdefault(segment.level, []).append(segment)
    for _, crowd in sorted(by_level.items()):
        if len(crowd) >= FAN_OUT:
            return tuple(crowd)
    return ()


def merge_runs(tables: Iterable[pa.Table], *, drop_deleted_up_to: int = 0) -> pa.Table:
    """Merge runs into one sorted run: for each name the row with the highest ``seq``.

    Tombstones with ``seq <= drop_deleted_up_to`` go: the caller knows that nothing older is left
    for them to hide.
    """
    merged = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
    order = pc.sort_indices(merged, sort_keys=[("table_name", "ascending"), ("seq", "descending")])
    merged = merged.take(order).combine_chunks()
    names = merged.column("table_name")
    if merged.num_rows > 1:
        first = pc.not_equal(names.slice(1), names.slice(0, merged.num_rows - 1))
        mask = pa.chunked_array([pa.array([True]), *first.chunks])
        merged = merged.filter(mask)
    if drop_deleted_up_to:
        merged = merged.filter(~((pc.field("deleted")) & (pc.field("seq") <= drop_deleted_up_to)))
    return merged.combine_chunks()


def droppable_tombstones(merging: Sequence[SegmentInfo], segments: Sequence[SegmentInfo]) -> int:
    """Return the ``seq`` up to which no segment outside the merge can hold an older row."""
    outside = [segment.min_seq for segment in segments if segment not in merging]
    return min(outside) - 1 if outside else max(segment.max_seq for segment in merging)


def _look(key: str, data: bytes) -> Mapping[bytes, bytes]:
    """Return a manifest's key-value metadata, if what it is said to hold is not too much."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise FormatError(f"manifest '{key}' has {len(data)} bytes, over {MAX_MANIFEST_BYTES}")
    found = metadata_of(data, MOST_MEMORY)
    try:
        if found is None:
            said, _ = require_bounded(data, (), MOST_MEMORY)
            found = said.rows, said.metadata
    except ValueError as error:
        raise FormatError(f"manifest '{key}' is damaged: {error}") from error
    rows, metadata = found
    if rows > MAX_MANIFEST_ROWS:
        raise FormatError(f"manifest '{key}' has {rows} rows, over {MAX_MANIFEST_ROWS}")
    return metadata


def _header(key: str, metadata: Mapping[bytes, bytes]) -> Header:
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
