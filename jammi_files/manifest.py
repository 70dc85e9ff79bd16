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
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jammi_files import footer_digest
from jammi_files.errors import FormatError, InvalidInputError
from jammi_files.header import METADATA_KEY, Header, SegmentInfo, header_to_json, parse_header
from jammi_files.parquet_claims import MOST_TIMES, require_bounded
from jammi_files.parquet_footer import MOST_MEMORY, footer_of
from jammi_files.row_pages import Stripe, metadata_of, to_parquet
from jammi_files.rows import STORED, Row, conform, rows_of, with_dictionaries
from jammi_files.schema import LOW_CARDINALITY
from jammi_files.segment_file import SegmentFile, open_parquet, owned

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
"""What is refused before it is decoded; no writer comes near."""

ROW_GROUP_ROWS = 16_384

_GROUP_BYTES = 64 * 2**20
"""Bytes of rows in memory from which on a row group has fewer of them: readers have a limit."""


class MissingSegmentError(FormatError):
    """A manifest lists a segment that is not there: damage, or vacuum retired that version."""


def encode_manifest(header: Header, table: pa.Table) -> bytes:
    """Return the bytes of one version's manifest; ``table`` holds its inline rows (`table_of`).

    A commit takes `encode_stripes`, unless rows have columns of a newer library.
    """
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema.remove_metadata(),  # that of the file it was read from
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        writer.add_key_value_metadata(_metadata(header))
        writer.write_table(table)
    return footer_digest.sealed(sink.getvalue())


def encode_stripes(header: Header, stripes: Sequence[Stripe]) -> bytes:
    """Return the bytes of one version's manifest whose inline rows are given as stripes."""
    return footer_digest.sealed(to_parquet(stripes, _metadata(header)))


def _metadata(header: Header) -> dict[bytes, bytes]:
    return {METADATA_KEY: header_to_json(header), **footer_digest.UNSEALED}


def decode_header(key: str, data: bytes) -> Header:
    """Read what a manifest says of its version, without its rows.

    Raises:
        FormatError: the bytes are no manifest.
        UnsupportedVersionError: a newer library wrote it in a format this one does not know.
    """
    return parse_header(key, _look(key, data))


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
    header = parse_header(key, _look(key, data))
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
    header = parse_header(key, _look(key, data))
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
    with pq.ParquetWriter(
        sink,
        table.schema.remove_metadata(),
        compression="zstd",
        compression_level=1,
        use_dictionary=list(LOW_CARDINALITY),
        write_statistics=["table_name", "seq"],
        write_page_checksum=True,
    ) as writer:
        writer.add_key_value_metadata(footer_digest.UNSEALED)
        most = table.num_rows * _GROUP_BYTES // max(1, size)
        writer.write_table(table, row_group_size=max(1, min(ROW_GROUP_ROWS, most)))
    data = footer_digest.sealed(sink.getvalue())
    if size > _GROUP_BYTES:
        try:
            require_bounded(data, LOW_CARDINALITY, max(MOST_MEMORY, MOST_TIMES * len(data)))
        except ValueError as error:
            raise InvalidInputError(f"rows are too large for a segment: {error}") from error
    return data


def open_segment(
    key: str, opener: Callable[[str], BinaryIO], listed: SegmentInfo | None = None
) -> SegmentFile:
    """Open a segment for reading by row group; see `read_group`.

    ``listed`` is what the manifest says of it.

    Raises:
        FormatError: the object is missing, although a manifest lists it, no Parquet file, or
            another segment than the one that is listed.
    """
    with contextlib.ExitStack() as opened:
        try:
            file = opener(key)
            opened.callback(file.close)
            found = SegmentFile(file, LOW_CARDINALITY)
            if listed and (found.rows, found.least[:1]) != (listed.rows, [listed.min_name]):
                raise ValueError(_not_listed(listed))
        except FileNotFoundError:  # at the first read on storage without open files
            raise missing_segment(key) from None
        except (OSError, ValueError) as error:
            raise FormatError(f"segment '{key}' is damaged: {error}") from error
        opened.pop_all()
        return found


def missing_segment(key: str) -> MissingSegmentError:
    """Word the error of a segment that is not there."""
    return MissingSegmentError(f"segment '{key}' is missing, although a manifest lists it")


def decode_segment(key: str, data: bytes, listed: SegmentInfo | None = None) -> pa.Table:
    """Return a segment's rows in one chunk; ``listed`` is what the manifest says of it.

    Raises:
        FormatError: the bytes are damaged, or another segment than the one that is listed.
    """

    def read() -> pa.Table:
        most = max(MOST_MEMORY, MOST_TIMES * len(data))
        said, folded = require_bounded(data, LOW_CARDINALITY, most)
        footer_digest.require(footer_of(data), said.metadata)
        with open_parquet(pa.BufferReader(owned(data)), folded) as file:
            return file.read()

    return _read(key, read, listed)


def read_group(key: str, file: SegmentFile, group: int) -> pa.Table:
    """Return the rows of one row group in one chunk; the file stays open.

    Raises:
        FormatError: the bytes are damaged.
    """
    return _read(key, lambda: file.read(group))


def _read(key: str, read: Callable[[], pa.Table], listed: SegmentInfo | None = None) -> pa.Table:
    try:
        table = with_dictionaries(conform(read())).combine_chunks()
        # A checksum covers a page but not its header: values, offsets and codes are checked here.
        table.validate(full=True)
        if listed and not is_listed(table, listed):
            raise ValueError(_not_listed(listed))
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


def is_listed(table: pa.Table, info: SegmentInfo) -> bool:
    """Say whether a sorted run is the one that a manifest's entry describes."""
    if not 0 < table.num_rows == info.rows:
        return False
    return dataclasses.replace(describe_segment(info.key, table), level=info.level) == info


def _not_listed(listed: SegmentInfo) -> str:
    where = f"{listed.rows} rows from '{listed.min_name}' to '{listed.max_name}'"
    return f"it is another one than the manifest lists, which has {where}"


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
        footer_digest.require(footer_of(data), found[1])
    except ValueError as error:
        raise FormatError(f"manifest '{key}' is damaged: {error}") from error
    rows, metadata = found
    if rows > MAX_MANIFEST_ROWS:
        raise FormatError(f"manifest '{key}' has {rows} rows, over {MAX_MANIFEST_ROWS}")
    return metadata
