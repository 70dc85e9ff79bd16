"""Vectors that a caller computed: checked, brought to unit length, and digested (`B213`).

The arithmetic is the engine's, in single precision and in the order of the elements, so the digest
of the same rows is the same here and there. numpy is not needed; Arrow's kernels run column-wise.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files.errors import InvalidInputError
from jammi_files.validation import require_count

_Column: TypeAlias = pa.Array | pa.ChunkedArray
_Rows: TypeAlias = tuple[pa.LargeStringArray, pa.FixedSizeListArray]
_BLOCK_ROWS = 4096
_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def require_embeddings(row_ids: _Column, vectors: _Column, *, dimensions: int) -> _Rows:
    """Return the rows as ``large_string`` ids and ``fixed_size_list<float>[dimensions]``.

    Takes arrays or chunked arrays: ids of any string type, vectors as lists of any float type.

    Raises:
        InvalidInputError: another type or number of rows, an id or vector that is null, a vector
            with another width or a null element; the message names the row.
    """
    require_count("dimensions", dimensions, least=1)
    ids, lists = _ids(row_ids), _combined(vectors)
    _require_floats(lists)
    if len(ids) != len(lists):
        msg = f"{len(ids)} row ids but {len(lists)} vectors"
        raise InvalidInputError(msg)
    absent = _first(lists.is_null())
    if absent is not None:
        msg = f"row '{ids[absent]}' has no vector"
        raise InvalidInputError(msg)
    widths = pc.list_value_length(lists)
    wrong = _first(pc.not_equal(widths, dimensions))
    if wrong is not None:
        msg = f"row '{ids[wrong]}' has width {widths[wrong]}; expected {dimensions}"
        raise InvalidInputError(msg)
    flat = lists.flatten()
    hole = _first(flat.is_null())
    if hole is not None:
        msg = f"row '{ids[hole // dimensions]}' has null at position {hole % dimensions}"
        raise InvalidInputError(msg)
    item = pa.field("item", pa.float32(), nullable=False)
    single = flat.cast(pa.float32(), safe=False)
    return ids, pa.FixedSizeListArray.from_arrays(single, type=pa.list_(item, dimensions))


def unit_embeddings(row_ids: _Column, vectors: _Column, *, dimensions: int) -> _Rows:
    """Return the rows as `require_embeddings` does, each vector scaled to length one.

    Raises:
        InvalidInputError: as `require_embeddings`, or a norm that is zero, infinite or NaN in
            single precision: such a vector has no direction to search by. It names the row.
    """
    ids, single = require_embeddings(row_ids, vectors, dimensions=dimensions)
    norms = _norms(single, dimensions)
    bad = _first(pc.invert(pc.and_(pc.is_finite(norms), pc.greater(norms, 0))))
    if bad is not None:
        msg = f"row '{ids[bad]}' has norm {norms[bad]}; expected a finite norm above zero"
        raise InvalidInputError(msg)
    each = norms.take(pc.list_parent_indices(single))
    unit = pc.divide(single.flatten(), each)
    return ids, pa.FixedSizeListArray.from_arrays(unit, type=single.type)


def embedding_content_digest(row_ids: _Column, vectors: _Column) -> str:
    """Return the SHA-256, in hex, of ids and vectors in row order, as `External` params carry it.

    Takes what `unit_embeddings` returns. Each row counts as the length of its id (u64, little
    endian), the id in UTF-8, the width (u64) and the elements (f32).

    Raises:
        InvalidInputError: the arrays are not of that form.
    """
    ids, lists = _ids(row_ids), _combined(vectors)
    if not pa.types.is_fixed_size_list(lists.type) or lists.type.value_type != pa.float32():
        msg = f"vectors must be fixed_size_list<float>, not {lists.type}"
        raise InvalidInputError(msg)
    width: int = lists.type.list_size
    floats = lists.flatten()
    if len(floats) - floats.null_count != len(ids) * width:
        msg = f"{len(ids)} row ids need as many vectors of {width} floats, none of them null"
        raise InvalidInputError(msg)
    values, prefix = _float_bytes(floats), width.to_bytes(8, "little")
    digest = hashlib.sha256()
    for start in range(0, len(ids), _BLOCK_ROWS):
        parts: list[bytes | memoryview] = []
        for row, row_id in enumerate(ids.slice(start, _BLOCK_ROWS).to_pylist(), start):
            key = row_id.encode()
            vector = values[4 * width * row : 4 * width * (row + 1)]
            parts += (len(key).to_bytes(8, "little"), key, prefix, vector)
        digest.update(b"".join(parts))
    return digest.hexdigest()


def _ids(row_ids: _Column) -> pa.LargeStringArray:
    array = _combined(row_ids)
    if not any(of_kind(array.type) for of_kind in _STRINGS):
        msg = f"row ids must be strings, not {array.type}"
        raise InvalidInputError(msg)
    hole = _first(array.is_null())
    if hole is not None:
        msg = f"the row id at position {hole} is null"
        raise InvalidInputError(msg)
    return array.cast(pa.large_string())


def _require_floats(lists: pa.Array) -> None:
    if any(of_kind(lists.type) for of_kind in _LISTS) and pa.types.is_floating(
        lists.type.value_type
    ):
        return
    msg = f"vectors must be lists of floats, not {lists.type}"
    raise InvalidInputError(msg)


def _combined(column: _Column) -> pa.Array:
    if not isinstance(column, (pa.Array, pa.ChunkedArray)):
        msg = f"a column must be an Arrow array, not {type(column).__name__}"
        raise InvalidInputError(msg)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _norms(vectors: pa.FixedSizeListArray, dimensions: int) -> pa.Array:
    squares = pa.repeat(pa.scalar(0, pa.float32()), len(vectors))
    for position in range(dimensions):  # one sum after the other, as the engine adds them
        element = pc.list_element(vectors, position)
        squares = pc.add(squares, pc.multiply(element, element))
    return pc.sqrt(squares)


def _first(mask: pa.BooleanArray) -> int | None:
    position: int = pc.index(mask, value=True).as_py()
    return None if position < 0 else position


def _float_bytes(floats: pa.FloatArray) -> memoryview:
    buffer = floats.buffers()[1]
    if buffer is None:
        return memoryview(b"")
    return memoryview(buffer).cast("B")[4 * floats.offset : 4 * (floats.offset + len(floats))]
