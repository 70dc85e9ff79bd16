"""The stream from record batches to a result's data object, hashed on its way."""

from __future__ import annotations

import hashlib
import io
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_files import events
from jammi_files.artifacts import Artifact
from jammi_files.errors import AlreadyExistsError, InvalidInputError, StateError, StorageError
from jammi_files.events import Event
from jammi_files.frames import tables
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
            _require_readable(schema)
            written = without_origin(schema)  # of the result that the schema was read from
            self._parquet = pq.ParquetWriter(self._sink, written, compression=compression)
            self._parquet.add_key_value_metadata({METADATA_KEY: Origin.of(record).to_json_bytes()})
        except (pa.ArrowException, TypeError, ValueError, OSError) as error:
            target.abort()
            if isinstance(error, (StorageError, InvalidInputError)):
                raise
            raise InvalidInputError(f"Parquet cannot hold this schema: {error}") from error
        self._renew = renew
        self._closed = closed
        self._started = self._renewed = time.monotonic()
        self._name = record.table_name
        self.rows = 0

    @property
    def schema(self) -> pa.Schema:
        """The schema that every batch must have."""
        return self._schema

    def write(self, data: Any) -> None:  # noqa: ANN401 - whatever speaks Arrow
        """Append rows, in whatever form `Build.write` takes; a stream is not taken into memory.

        Renews the build's lease now and then.

        Raises:
            InvalidInputError: the data is none of those, or has another schema.
            StateError: the writer is closed.
        """
        if self._parquet is None:
            raise StateError("this writer is closed; a result is written once")
        for table in tables(data, self.tick):
            self._write(self._parquet, table)

    def tick(self) -> None:
        """Renew the build's lease if it is time to."""
        if time.monotonic() - self._renewed > LEASE_SECONDS / 3:
            self._renewed = time.monotonic()
            self._renew()

    def _write(self, parquet: pq.ParquetWriter, table: pa.Table) -> None:
        try:
            parquet.write_table(table.cast(self._schema))
        except (
            pa.ArrowInvalid,
            pa.ArrowTypeError,
            pa.ArrowNotImplementedError,
            ValueError,
        ) as error:
            raise InvalidInputError(f"a batch does not fit the result's schema: {error}") from error
        self.rows += table.num_rows
        self.tick()

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
        events.debug(
            Event.WRITTEN,
            "wrote %s",
            self._name,
            table_name=self._name,
            rows=artifact.rows,
            bytes=artifact.size,
            seconds=time.monotonic() - self._started,
        )
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


def _require_readable(schema: pa.Schema) -> None:
    """Refuse what Parquet takes and no reader of Arrow's gives back."""
    if not isinstance(schema, pa.Schema):
        raise InvalidInputError(f"a schema must be a pyarrow.Schema, not {type(schema).__name__}")
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        names = ", ".join(map(repr, twice))
        raise InvalidInputError(f"more than one column is named {names}; give each its own name")
    if any(map(_is_deep, schema.types)):  # which by its own limit Arrow may not read
        trial = pa.BufferOutputStream()
        pq.ParquetWriter(trial, schema).close()
        pq.ParquetFile(pa.BufferReader(trial.getvalue()))


def _is_deep(kind: pa.DataType) -> bool:
    return any(pa.types.is_nested(kind.field(number).type) for number in range(kind.num_fields))


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
