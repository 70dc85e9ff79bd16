"""The rows of an embedding table nearest to a vector, by cosine similarity.

Exact search streams the table in batches and keeps the best rows so far. Each row's similarity is
computed alone, in double precision and in the order of its elements, so that it depends on nothing
but the row and the query; rounded to single precision it ranks, and ties go to the smallest key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import ann_index, extras
from jammi_files.artifacts import Artifacts
from jammi_files.errors import FormatError, InvalidInputError, StateError, StorageError
from jammi_files.schema import ResultTableRecord
from jammi_files.validation import require_count, require_strings, require_text

Vector: TypeAlias = Any
"""A vector of numbers: a sequence, a NumPy array, an Arrow array or a list scalar."""

Array: TypeAlias = Any
"""A NumPy array, or NumPy itself, which has no types here."""

ROW_ID, VECTOR, SIMILARITY = "_row_id", "vector", "similarity"
_BATCH_BYTES = 8 << 20
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_CANDIDATES = 64
"""Rows that an index is asked for at least; more are looked at than returned, and ranked anew."""


class Searcher:
    """One embedding table, opened for many searches; `ResultStore.searcher` makes it."""

    def __init__(
        self,
        artifacts: Artifacts,
        record: ResultTableRecord,
        *,
        key_column: str | None = None,
        vector_column: str = VECTOR,
    ) -> None:
        self._np = extras.load("numpy", extra="search", purpose="search")
        self._artifacts, self._record = artifacts, record
        if record.distance_metric not in (None, "cosine"):
            msg = f"{self._named} is for metric '{record.distance_metric}'; search knows cosine"
            raise StateError(msg)
        self._data = artifacts.dataset(record)
        self._vector = self._require_vectors(require_text("vector_column", vector_column))
        self._key = self._choose_key(key_column)
        self._index: ann_index.AnnIndex | None = None
        self._looked = False

    def search(
        self,
        query: Vector,
        k: int = 10,
        *,
        exact: bool = True,
        filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's own word for it
        columns: Sequence[str] = (),
    ) -> pa.Table:
        """Return the ``k`` nearest rows; see `ResultStore.search` for arguments and errors."""
        count = require_count("k", k)
        also = self._require_columns(columns)
        wanted = self._direction(query)
        schema = self._answer_schema(also)
        index = None if exact or filter is not None else self._open_index()
        if count == 0:
            return schema.empty_table()
        if index is not None:
            return self._nearest(index, wanted, count, schema)
        return self._scan(wanted, count, filter, schema)

    @property
    def _named(self) -> str:
        return f"Result table '{self._record.table_name}'"

    def _require_vectors(self, name: str) -> pa.Field:
        found = self._data.schema.get_field_index(name)
        field = self._data.schema.field(found) if found >= 0 else None
        if field is None or not _holds_vectors(field.type):
            what = f"has no column '{name}'" if field is None else f"has {field.type} in '{name}'"
            known = ", ".join(self._data.schema.names)
            msg = f"{self._named} {what}, which should hold lists of floats; columns: {known}"
            raise InvalidInputError(msg)
        return field

    def _choose_key(self, given: str | None) -> str:
        names = self._data.schema.names
        if given is not None:
            if given not in names:
                msg = f"{self._named} has no column '{given}'; columns: {', '.join(names)}"
                raise InvalidInputError(msg)
            return given
        for name in (ROW_ID, self._record.key_column):
            if name in names:
                return str(name)
        msg = (
            f"{self._named} says of no column that it names the rows; pass key_column, one of "
            f"{', '.join(names)}"
        )
        raise InvalidInputError(msg)

    def _require_columns(self, columns: Sequence[str]) -> list[str]:
        also = [name for name in require_strings("columns", columns) if name != self._key]
        known = self._data.schema.names
        for name in also:
            if name not in known:
                msg = f"{self._named} has no column '{name}'; columns: {', '.join(known)}"
                raise InvalidInputError(msg)
        if SIMILARITY in (self._key, *also):
            msg = f"a column of {self._named} is called '{SIMILARITY}', as the answer's own is"
            raise InvalidInputError(msg)
        return also

    def _answer_schema(self, also: Sequence[str]) -> pa.Schema:
        fields = [self._data.schema.field(name) for name in (self._key, *also)]
        fields.insert(1, pa.field(SIMILARITY, pa.float32(), nullable=False))
        return pa.schema(fields)

    def _direction(self, query: Vector) -> Array:
        """Return the query at unit length, in double precision."""
        np = self._np
        given = query.as_py() if isinstance(query, pa.Scalar) else query
        try:
            array = np.asarray(given)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"the query is no vector of numbers: {error}") from error
        if array.ndim != 1 or array.dtype.kind not in "fiu":
            msg = f"the query must be one vector of numbers, not {array.ndim}-d of {array.dtype}"
            raise InvalidInputError(msg)
        self._require_width(len(array))
        numbers = array.astype(np.float64)
        largest = np.abs(numbers).max() if len(numbers) else 0.0
        if not 0 < largest < np.inf:
            msg = "the query has no direction: it is zero, or a number in it is not finite"
            raise InvalidInputError(msg)
        numbers /= largest  # no square is out of range
        return numbers / np.sqrt(np.add.reduce(numbers * numbers))

    def _require_width(self, width: int) -> None:
        kind = self._vector.type
        known = kind.list_size if pa.types.is_fixed_size_list(kind) else self._record.dimensions
        if known is not None and width != known:
            msg = f"the query has {width} dimensions; {self._named} has {known}"
            raise InvalidInputError(msg)

    # --- exact

    def _scan(
        self,
        query: Array,
        k: int,
        condition: pc.Expression | None,
        schema: pa.Schema,
    ) -> pa.Table:
        best = schema.empty_table()
        for batch in self._batches(query, condition, schema):
            found = self._similarities(batch, query)
            columns = [batch.column(name) for name in schema.names if name != SIMILARITY]
            columns.insert(1, pa.array(found, pa.float32()))
            new = pa.Table.from_arrays(columns, schema=schema)
            if best.num_rows == k:
                worst = best.column(SIMILARITY)[k - 1].as_py()
                new = new.filter(pa.array(found >= worst))
            if new.num_rows:
                best = self._ranked(pa.concat_tables([best, new]), k)
        return best

    def _batches(
        self,
        query: Array,
        condition: pc.Expression | None,
        schema: pa.Schema,
    ) -> Iterator[pa.RecordBatch]:
        names = [name for name in schema.names if name != SIMILARITY]
        wanted = list(dict.fromkeys([*names, self._vector.name]))
        rows = max(1, _BATCH_BYTES // (8 * len(query)))
        try:
            yield from (
                batch
                for batch in self._data.to_batches(
                    columns=wanted, filter=condition, batch_size=rows
                )
                if batch.num_rows
            )
        except StorageError:
            raise
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
            raise InvalidInputError(f"search: {error}") from error
        except OSError as error:
            raise StorageError(f"could not read {self._named}: {error}") from error

    def _similarities(self, batch: pa.RecordBatch, query: Array) -> Array:
        lists = batch.column(self._vector.name)
        if lists.null_count:
            self._refuse(batch, pc.index(lists.is_null(), value=True), "has no vector")
        widths = pc.list_value_length(lists)
        odd = pc.index(pc.not_equal(widths, len(query)), value=True).as_py()
        if odd >= 0:
            key, width = batch.column(self._key)[odd].as_py(), widths[odd].as_py()
            msg = f"the query has {len(query)} dimensions; row {key!r} of {self._named} has {width}"
            raise InvalidInputError(msg)
        flat = lists.flatten()
        if flat.null_count:
            at = pa.scalar(pc.index(flat.is_null(), value=True).as_py() // len(query))
            self._refuse(batch, at, "has a vector with a null in it")
        vectors = flat.to_numpy(zero_copy_only=False).reshape(-1, len(query))
        found = similarities(self._np, vectors, query)
        bad = self._np.flatnonzero(self._np.isnan(found))
        if len(bad):
            self._refuse(batch, pa.scalar(int(bad[0])), "has a vector that is not finite")
        return found

    def _refuse(self, batch: pa.RecordBatch, position: pa.Scalar, what: str) -> None:
        key = batch.column(self._key)[position.as_py()].as_py()
        msg = f"row {key!r} of {self._named} {what}; pass a filter that leaves such rows out"
        raise StateError(msg)

    def _ranked(self, rows: pa.Table, k: int) -> pa.Table:
        try:
            order = pc.sort_indices(
                rows, sort_keys=[(SIMILARITY, "descending"), (self._key, "ascending")]
            )
        except (pa.ArrowNotImplementedError, TypeError) as error:
            kind = rows.schema.field(self._key).type
            msg = f"rows cannot be ordered by '{self._key}', which is {kind}: {error}"
            raise InvalidInputError(msg) from error
        return rows.take(order.slice(0, k)).combine_chunks()

    # --- by index

    def _open_index(self) -> ann_index.AnnIndex | None:
        if not self._looked and (self._key, self._vector.name) == (ROW_ID, VECTOR):
            self._index = ann_index.open_index(self._artifacts, self._record)
        self._looked = True
        return self._index

    def _nearest(
        self,
        index: ann_index.AnnIndex,
        query: Array,
        k: int,
        schema: pa.Schema,
    ) -> pa.Table:
        positions, ids, vectors = index.nearest(query, max(k, _CANDIDATES))
        found = pa.array(similarities(self._np, vectors, query))
        keys = pa.array(ids, schema.field(0).type)
        best = self._ranked(pa.table([keys, found, positions], [self._key, SIMILARITY, "at"]), k)
        also = schema.names[2:]
        columns = [best.column(0), best.column(1)]
        if also:
            rows = self._data.take(best.column(2).combine_chunks(), columns=[self._key, *also])
            if rows.column(0) != columns[0]:
                msg = f"the index of {self._named} names other rows; search with exact=True"
                raise FormatError(msg)
            columns += [rows.column(name) for name in also]
        return pa.Table.from_arrays(columns, schema=schema)


def similarities(np: Array, vectors: Array, query: Array) -> Array:
    """Return the cosine of each row of ``vectors`` with the unit vector ``query``, as float32.

    A zero vector has similarity 0, as in 0.32; one that is not finite has NaN.
    """
    exact = np.ascontiguousarray(vectors, np.float64)
    # Not `exact @ query`: that sums in an order that depends on the number of rows.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        products = np.add.reduce(exact * query, axis=1)
        norms = np.sqrt(np.add.reduce(exact * exact, axis=1))
        cosines = np.where(norms == 0, 0.0, products / norms)
        cosines[~np.isfinite(norms)] = np.nan
    return np.clip(cosines, -1.0, 1.0).astype(np.float32)


def _holds_vectors(kind: pa.DataType) -> bool:
    return any(of_kind(kind) for of_kind in _LISTS) and pa.types.is_floating(kind.value_type)
