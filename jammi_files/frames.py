"""What a build may be given as rows, brought to Arrow tables one after the other.

A stream stays a stream: no more of it is in memory than makes a good row group. pandas, Polars and
Hugging Face `datasets` are recognised where the process has imported them, and never imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from jammi_files.errors import InvalidInputError

_GROUP_ROWS = 122_880
_GROUP_BYTES = 64 << 20
_HUGGING_FACE_ROWS = 1000  # what it writes, and so maps, at a time

EXPECTED = (
    "a pyarrow table, batch, reader or dataset, a pandas or Polars DataFrame, a Hugging Face"
    " dataset, whatever else speaks the Arrow PyCapsule interface, a mapping of columns, or an"
    " iterable of those"
)


def tables(data: object, tick: Callable[[], object] = bool) -> Iterator[pa.Table]:
    """Yield rows as tables, at least one unless an iterable is empty: a stream has a schema.

    The small batches of a stream are put together, each item of another iterable stays a table.
    ``tick`` is called now and then while a stream is read.

    Of a pandas DataFrame the named levels of the index become columns before the others; row
    numbers, which are what an index of integers without a name holds, are left out. What pandas
    notes of itself in the schema is left out too: it would tell its version from equal data.

    Raises:
        InvalidInputError: it is nothing of the kind, or Arrow cannot hold its values; with what is
            expected and, for the likely mistakes, what to write.
    """
    found = _tables_of(data, tick)
    if found is not None:
        yield from found
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        for number, item in enumerate(data):
            found = _tables_of(item, tick)
            if found is None:
                raise _unfit(item, f"item {number} of the {type(data).__name__}")
            yield from found
    else:
        raise _unfit(data, "the data")


def grouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield batches as tables that make good row groups."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _tables_of(data: Any, tick: Callable[[], object]) -> Iterator[pa.Table] | None:  # noqa: ANN401 - anything is looked at
    """Return the tables of what is rows by itself, None for anything else."""
    if isinstance(data, pa.Table):
        return iter((data,))
    if isinstance(data, pa.RecordBatch):
        return iter((pa.Table.from_batches([data]),))
    for package, name, read in _FRAMES:
        kind = getattr(sys.modules.get(package), name, None)
        if kind is not None and isinstance(data, kind):
            return _streamed(*read(data), tick)
    if not isinstance(data, pa.RecordBatchReader) and hasattr(data, "__arrow_c_stream__"):
        data = _imported(pa.RecordBatchReader.from_stream, data)
    if isinstance(data, pa.RecordBatchReader):
        return _streamed(data.schema, data, tick)
    if hasattr(data, "__arrow_c_array__") or isinstance(data, Mapping):
        return iter((_imported(pa.table, data),))
    return None


def _streamed(
    schema: pa.Schema | None, batches: Iterable[pa.RecordBatch], tick: Callable[[], object]
) -> Iterator[pa.Table]:
    """Yield what a stream holds; if that is nothing, a table that has its schema."""

    def ticking() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            tick()
            yield batch

    table = None
    for table in grouped(ticking()):
        yield table
    if table is None and schema is not None:
        yield schema.empty_table()


def _imported(read: Callable[[Any], Any], data: object) -> Any:  # noqa: ANN401 - of pyarrow
    try:
        return read(data)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InvalidInputError(f"{_kind(data)} is no table for Arrow: {error}") from error


# --- what is known by its class: its schema, None if that is not known, and its batches

_Stream = tuple[pa.Schema | None, Iterable[pa.RecordBatch]]


def _of_pandas(frame: Any) -> _Stream:  # noqa: ANN401 - pandas may be missing
    index = frame.index
    named = [name for name in index.names if name is not None]
    if named and len(named) == index.nlevels:
        taken = sorted({str(name) for name in named} & {str(name) for name in frame.columns})
        if taken:
            raise InvalidInputError(
                f"the index and a column of the DataFrame are both named {', '.join(taken)};"
                " rename one, or drop the index: df.reset_index(drop=True)"
            )
        frame = frame.reset_index()
    elif named or getattr(index.dtype, "kind", "") not in tuple("iu"):
        raise InvalidInputError(
            "the index of the DataFrame has values and no name, so it cannot be a column; name it:"
            " df.rename_axis('id'), or drop it: df.reset_index(drop=True)"
        )
    table = _imported(lambda given: pa.Table.from_pandas(given, preserve_index=False), frame)
    metadata = {key: text for key, text in table.schema.metadata.items() if key != b"pandas"}
    table = table.replace_schema_metadata(metadata or None)
    return table.schema, table.to_batches()


def _of_polars(frame: Any) -> _Stream:  # noqa: ANN401 - Polars may be missing
    # Parquet cannot hold the newest of its types, views of strings in a dictionary.
    oldest = sys.modules["polars"].CompatLevel.oldest()
    table = _imported(lambda given: given.to_arrow(compat_level=oldest), frame)
    return table.schema, table.to_batches()


def _of_hugging_face(dataset: Any) -> _Stream:  # noqa: ANN401 - datasets may be missing
    # By its own reader: `.data` is what the dataset was before `select`, `filter` and `shuffle`.
    read = dataset.with_format("arrow").iter(_HUGGING_FACE_ROWS)
    schema = None if dataset.features is None else dataset.features.arrow_schema
    return schema, (batch for table in read for batch in table.to_batches())


def _of_dataset(dataset: Any) -> _Stream:  # noqa: ANN401 - of pyarrow, whose module is slow to load
    return _of_scanner(dataset.scanner())


def _of_scanner(scanner: Any) -> _Stream:  # noqa: ANN401 - as above
    reader = scanner.to_reader()
    return reader.schema, reader


def _no_series(series: Any) -> _Stream:  # noqa: ANN401 - of pandas or Polars
    raise InvalidInputError(
        f"a Series is no table; give series.to_frame({series.name or 'name'!r})"
    )


def _no_plan(frame: Any) -> _Stream:  # noqa: ANN401 - of Polars
    raise InvalidInputError(f"a {type(frame).__name__} has no rows yet; give frame.collect()")


def _no_splits(splits: Any) -> _Stream:  # noqa: ANN401 - of datasets
    names = ", ".join(map(repr, splits))
    raise InvalidInputError(f"a {type(splits).__name__} is several tables; give one of {names}")


_FRAMES: tuple[tuple[str, str, Callable[[Any], _Stream]], ...] = (
    ("pyarrow.dataset", "Dataset", _of_dataset),
    ("pyarrow.dataset", "Scanner", _of_scanner),
    ("pandas", "DataFrame", _of_pandas),
    ("pandas", "Series", _no_series),
    ("polars", "DataFrame", _of_polars),
    ("polars", "LazyFrame", _no_plan),
    ("polars", "Series", _no_series),
    ("datasets", "Dataset", _of_hugging_face),
    ("datasets", "IterableDataset", _of_hugging_face),
    ("datasets", "DatasetDict", _no_splits),
    ("datasets", "IterableDatasetDict", _no_splits),
)


def _unfit(data: object, what: str) -> InvalidInputError:
    return InvalidInputError(f"{what} is {_kind(data)}; expected {EXPECTED}")


def _kind(data: object) -> str:
    kind = type(data)
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
