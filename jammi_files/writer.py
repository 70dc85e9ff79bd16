"""The stream from record batches to a result's data object, hashed on its way."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_files.artifacts import Artifact
from jammi_files.errors import AlreadyExistsError, InvalidInputError, StateError, StorageError
from jammi_files.lease import LEASE_SECONDS
from jammi_files.origin import METADATA_KEY, Origin, without_origin
from jammi_files.schema import ResultTableRecord
from jammi_files.storage import ObjectWriter


class ResultWriter:
    """Writes one result's Parquet file; nothing is visible before `close` (`B091`).

    Use it as a context manager: an exception discards what was written.
    """

    def __init__(  # noqa: PLR0913 - what is written where, and what happens on the way
        self,
        target: ObjectWriter,
        schema: pa.Schema,
        *,
        compression: str,
        record: ResultTableRecord,
        renew: Callable[[], None],
        closed: Callable[[Artifact], None],
    ) -> None:
        self._sink = _HashingSink(target)
        self._target = target
        self._schema = schema
        self._parquet: pq.ParquetWriter | None = None
        try:
            written = without_origin(schema)  # of the result that the schema was read from
            self._parquet = pq.ParquetWriter(self._sink, written, compression=compression)
            self._parquet.add_key_value_metadata({METADATA_KEY: Origin.of(record).to_json_bytes()})
        except (pa.ArrowException, TypeError, ValueError, OSError) as error:
            target.abort()
            if isinstance(error, StorageError):
                raise
            raise InvalidInputError(f"Parquet cannot hold this schema: {error}") from error
        self._renew = renew
        self._closed = closed
        self._renewed = time.monotonic()
        self.rows = 0

    @property
    def schema(self) -> pa.Schema:
        """The schema that every batch must have."""
        return self._schema

    def write(self, data: Any) -> None:  # noqa: ANN401 - whatever speaks Arrow
        """Append a record batch, a table, or anything that speaks the Arrow PyCapsule interface.

        Renews the build's lease now and then.

        Raises:
            InvalidInputError: the data has another schema.
            StateError: the writer is closed.
        """
        if self._parquet is None:
            raise StateError("this writer is closed; a result is written once")
        table = as_table(data)
        try:
            self._parquet.write_table(table.cast(self._schema))
        except (
            pa.ArrowInvalid,
            pa.ArrowTypeError,
            pa.ArrowNotImplementedError,
            ValueError,
        ) as error:
            raise InvalidInputError(f"a batch does not fit the result's schema: {error}") from error
        self.rows += table.num_rows
        if time.monotonic() - self._renewed > LEASE_SECONDS / 3:
            self._renewed = time.monotonic()
            self._renew()

    def close(self) -> Artifact:
        """Write the footer, make the object durable and visible, and return what it is.

        Raises:
            AlreadyExistsError: the result has a data object already.
            StateError: the writer is closed.
        """
        if self._parquet is None:
            raise StateError("this writer is closed; a result is written once")
        parquet, self._parquet = self._parquet, None
        try:
            parquet.close()
            self._sink.discard()
            self._target.publish()
        except FileExistsError:
            raise AlreadyExistsError(
                "the result has a data object already; it is immutable"
            ) from None
        finally:
            self._target.abort()
        artifact = Artifact(self._sink.digest.hexdigest(), self._sink.size, self.rows)
        self._closed(artifact)
        return artifact

    def abort(self) -> None:
        """Discard what was written; does nothing after `close`."""
        if self._parquet is not None:
            parquet, self._parquet = self._parquet, None
            self._sink.discard()
            self._target.abort()
            parquet.close()  # writes its footer into the void, now and not when it is collected

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif self._parquet is not None:
            self.close()


class _HashingSink(io.RawIOBase):
    """Hashes the bytes that pass; closing it is not closing the object."""

    def __init__(self, target: ObjectWriter) -> None:
        self._target: ObjectWriter | None = target
        self.digest = hashlib.sha256()
        self.size = 0

    def discard(self) -> None:
        """Swallow what is still written."""
        self._target = None

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        block = bytes(data)
        if self._target is not None:
            self._target.write(block)
        self.digest.update(block)
        self.size += len(block)
        return len(block)


def as_table(data: Any) -> pa.Table:  # noqa: ANN401 - whatever speaks Arrow
    """Return data as a table.

    Raises:
        InvalidInputError: it does not speak Arrow.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    try:
        return pa.table(data)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InvalidInputError(
            f"expected Arrow data, not {type(data).__name__}: {error}"
        ) from error


def pieces(made: Any) -> Iterator[Any]:  # noqa: ANN401 - whatever speaks Arrow
    """Yield what a function returned in pieces that a build can write; a stream stays a stream.

    Raises:
        InvalidInputError: it neither speaks Arrow nor can be iterated over.
    """
    if isinstance(made, (pa.Table, pa.RecordBatch)) or hasattr(made, "__arrow_c_array__"):
        yield made
    elif hasattr(made, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(made)
        batches = iter(reader)
        yield next(batches, reader.schema.empty_table())  # without batches it has a schema still
        yield from batches
    elif isinstance(made, Iterable):
        yield from made
    else:
        raise InvalidInputError(
            f"the function must return Arrow data or an iterable of it, not {type(made).__name__}"
        )
