"""A Parquet, CSV or Arrow file of any size as a stream of Arrow data, with the file's digest."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

from jammi_files.errors import FormatError, InvalidInputError, StateError
from jammi_files.frames import grouped
from jammi_files.ipc_claims import MAGIC, require_bounded

_BLOCK = 1 << 20
_CSV_BLOCK = 8 << 20  # the first block decides the types of the columns
_PARQUET_ROWS = 8192  # 50 MB of 1536 floats each


class FileFormat(StrEnum):
    """What `open_data_file` reads."""

    PARQUET = "parquet"
    CSV = "csv"
    TSV = "tsv"
    ARROW = "arrow"


_SUFFIXES = {
    ".parquet": FileFormat.PARQUET,
    ".pq": FileFormat.PARQUET,
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.TSV,
    ".arrow": FileFormat.ARROW,
    ".arrows": FileFormat.ARROW,
    ".feather": FileFormat.ARROW,
    ".ipc": FileFormat.ARROW,
}


@dataclasses.dataclass(frozen=True, slots=True)
class DataFile:
    """An open file: ``digest`` is the SHA-256 of its ``size`` bytes in hex.

    ``tables`` yields the rows in parts that make good row groups, and raises `FormatError` where
    the file is damaged and `StateError` at its end if the file changed since it was digested.
    """

    format: FileFormat
    digest: str
    size: int
    schema: pa.Schema
    tables: Iterator[pa.Table]


@contextlib.contextmanager
def open_data_file(
    path: str | os.PathLike[str],
    file_format: FileFormat | None = None,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[DataFile]:
    """Digest a file and open it; without ``file_format`` the name's suffix tells it.

    ``progress`` is called with the bytes read so far and in all: a file is read twice.

    Raises:
        InvalidInputError: the suffix says nothing, or the path is no regular file.
        FormatError: the file is not of that format, a batch of Arrow's takes too much memory, or no
            Parquet file could have its columns.
        OSError: there is no such file, or it cannot be read.
    """
    place = Path(path)
    kind = file_format or _format_of(place)
    if not stat.S_ISREG(place.stat().st_mode):
        raise InvalidInputError(f"'{place}' is no regular file")
    with place.open("rb") as file:
        before = _state(file)
        size = before[0]
        digest = _digest(file, lambda done: progress(done, 2 * size))
        with _reading(place, kind):
            schema, batches = _OPENERS[kind](file)
            _require_storable(place, schema)
        tables = _tables(place, kind, batches, file, before)
        yield DataFile(kind, digest, size, schema, _told(tables, file, size, progress))


def _format_of(path: Path) -> FileFormat:
    found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        known = ", ".join(_SUFFIXES)
        raise InvalidInputError(
            f"'{path}': the suffix tells no format; give --format, or one of {known}"
        )
    return found


def _state(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _digest(file: BinaryIO, tell: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
        tell(file.tell())
    file.seek(0)
    return digest.hexdigest()


def _told(
    tables: Iterator[pa.Table], file: BinaryIO, size: int, progress: Callable[[int, int], None]
) -> Iterator[pa.Table]:
    for table in tables:
        yield table
        # Not `tell`: a thread of Arrow reads the file meanwhile.
        progress(size + min(size, os.lseek(file.fileno(), 0, os.SEEK_CUR)), 2 * size)


_Opened = tuple[pa.Schema, Iterator[pa.RecordBatch]]


def _open_parquet(file: BinaryIO) -> _Opened:
    parquet = pq.ParquetFile(file)
    return parquet.schema_arrow, parquet.iter_batches(_PARQUET_ROWS)


def _open_csv(file: BinaryIO, delimiter: str = ",") -> _Opened:
    reader = pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
    )
    return reader.schema, iter(reader)


def _open_tsv(file: BinaryIO) -> _Opened:
    return _open_csv(file, "\t")


def _open_arrow(file: BinaryIO) -> _Opened:
    require_bounded(file)
    file.seek(0)
    is_file = file.read(len(MAGIC)) == MAGIC  # the other form is a stream
    file.seek(0)
    if not is_file:
        stream = pyarrow.ipc.open_stream(file)
        return stream.schema, map(_valid, stream)
    reader = pyarrow.ipc.open_file(file)
    batches = map(reader.get_batch, range(reader.num_record_batches))
    return reader.schema, map(_valid, batches)


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Refuse what Arrow takes as it is: an index beyond its dictionary would end the process."""
    batch.validate(full=True)
    return batch


_OPENERS: dict[FileFormat, Callable[[BinaryIO], _Opened]] = {
    FileFormat.PARQUET: _open_parquet,
    FileFormat.CSV: _open_csv,
    FileFormat.TSV: _open_tsv,
    FileFormat.ARROW: _open_arrow,
}


@contextlib.contextmanager
def _reading(path: Path, kind: FileFormat) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"'{path}' cannot be read as {kind}: {error}") from error


def _require_storable(path: Path, schema: pa.Schema) -> None:
    """Refuse what would fail only after the build has begun."""
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise FormatError(f"'{path}' has more than one column named {', '.join(map(repr, twice))}")
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), schema).close()
    except pa.ArrowException as error:
        raise FormatError(f"'{path}' has a column that Parquet cannot hold: {error}") from error


def _tables(
    path: Path,
    kind: FileFormat,
    batches: Iterator[pa.RecordBatch],
    file: BinaryIO,
    before: tuple[int, int],
) -> Iterator[pa.Table]:
    def read() -> Iterator[pa.RecordBatch]:
        while True:
            with _reading(path, kind):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    yield from grouped(read())
    if _state(file) != before:
        raise StateError(f"'{path}' changed while it was read; nothing was published")
