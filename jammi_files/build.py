"""``with store.build(...) as out``: the whole funnel as one block."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import pyarrow as pa

from jammi_files import tracing
from jammi_files.errors import (
    CommitUnknownError,
    InvalidInputError,
    JammiFilesError,
    StateError,
)
from jammi_files.frames import tables
from jammi_files.materialization import MaterializationManifest
from jammi_files.writer import ResultWriter


class Created(Protocol):
    """A table that was just created."""

    @property
    def table_name(self) -> str:
        """The table's name."""


C = TypeVar("C", bound=Created)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Steps(Generic[C]):
    """What a build does, in this order; ``abandon`` when it does not come to its end."""

    create: Callable[[], C]
    open_writer: Callable[[C, pa.Schema], ResultWriter]
    finalize: Callable[[str, int], MaterializationManifest]
    abandon: Callable[[str, BaseException], None]
    checkpoint: Callable[[str, int], None]


class Build(Generic[C]):
    """A result under construction; leaving the block makes it ready.

    An exception in the block marks the row failed with the exception's text, removes the bytes and
    goes on to the caller (`B089`).
    """

    def __init__(self, steps: Steps[C], schema: pa.Schema | None) -> None:
        self._steps = steps
        self._schema = schema
        self._info: C | None = None
        self._writer: ResultWriter | None = None
        self._manifest: MaterializationManifest | None = None
        self._span = tracing.span("build")

    @property
    def info(self) -> C:
        """The table's name and paths, once the block is entered."""
        if self._info is None:
            raise StateError("the build has not begun; use it in a with statement")
        return self._info

    @property
    def table_name(self) -> str:
        """The result's name."""
        return self.info.table_name

    @property
    def rows(self) -> int:
        """The rows written so far."""
        return 0 if self._writer is None else self._writer.rows

    @property
    def manifest(self) -> MaterializationManifest:
        """The sidecar, once the block has been left."""
        if self._manifest is None:
            raise StateError("the result is not ready; leave the with block first")
        return self._manifest

    def write(self, data: Any) -> None:  # noqa: ANN401 - see `frames.tables`
        """Append rows, in whatever form an Arrow table can be made of; a stream stays a stream.

        That is a pyarrow table, batch, reader, scanner or dataset; a pandas or Polars DataFrame; a
        Hugging Face dataset; whatever else speaks the Arrow PyCapsule interface; a mapping of
        columns; or an iterable of those.

        Named levels of a pandas index become columns, row numbers are left out.

        Raises:
            InvalidInputError: the data is none of those, or has another schema than before.
        """
        for table in tables(data, self._tick):
            if self._writer is None:
                self._writer = self._steps.open_writer(self.info, self._schema or table.schema)
            self._writer.write(table)

    def checkpoint(self, batch: int) -> None:
        """Record how far the build has come; the last one lands in the row (`B161`)."""
        self._steps.checkpoint(self.table_name, batch)

    def __enter__(self) -> Self:
        if self._info is not None:
            raise StateError("a build runs once; call store.build again")
        with contextlib.ExitStack() as stack:
            self._span = stack.enter_context(tracing.span("build"))
            self._info = self._steps.create()
            self._span.set(table_name=self._info.table_name)
            stack.pop_all()  # the span ends with the block
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            try:
                self._give_up(error)
            finally:
                self._span.__exit__(kind, error, trace)
            return
        with contextlib.ExitStack() as leaving:
            leaving.push(self._span)
            try:
                self._finish()
            except CommitUnknownError as unknown:
                # Never clean up here: the result may be ready. If it is not, recovery makes it so.
                unknown.add_note(f"'{self.table_name}' is complete; recover() settles its state")
                raise
            except BaseException as failure:
                self._give_up(failure)
                raise

    def _finish(self) -> None:
        if self._writer is None:
            if self._schema is None:
                raise InvalidInputError("nothing was written and no schema given: give schema=")
            self._writer = self._steps.open_writer(self.info, self._schema)
        artifact = self._writer.close()
        self._manifest = self._steps.finalize(self.table_name, artifact.rows)
        self._span.set(
            rows=artifact.rows,
            bytes=artifact.size,
            definition_hash=self._manifest.definition_hash,
        )

    def _tick(self) -> None:
        if self._writer is not None:
            self._writer.tick()

    def _give_up(self, error: BaseException) -> None:
        if self._writer is not None:
            self._writer.abort()
        try:
            self._steps.abandon(self.table_name, error)
        except (JammiFilesError, OSError) as second:
            error.add_note(f"'{self.table_name}' could not be marked failed: {second}")
