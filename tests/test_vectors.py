"""Caller-computed vectors: bad rows are named, the digest is the engine's byte for byte."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_files.errors import InvalidInputError
from jammi_files.vectors import embedding_content_digest, require_embeddings, unit_embeddings

IDS = pa.array(["a", "é", ""])
VECTORS = pa.array([[3.0, 4.0], [0.0, -2.0], [1e-3, 1e3]], pa.list_(pa.float32()))


def engine_digest(ids, rows) -> str:
    """Normalise and digest one number after the other, in single precision."""
    data = b""
    for row_id, row in zip(ids, rows, strict=True):
        total = np.float32(0)
        for x in row:
            total = np.float32(total + np.float32(x) * np.float32(x))
        norm = np.sqrt(total)
        data += struct.pack("<Q", len(row_id.encode())) + row_id.encode()
        data += struct.pack("<Q", len(row))
        data += b"".join(struct.pack("<f", np.float32(x) / norm) for x in row)
    return hashlib.sha256(data).hexdigest()


def digest(ids, vectors, dimensions):
    return embedding_content_digest(*unit_embeddings(ids, vectors, dimensions=dimensions))


def test_golden_digest():
    """`B213`: id length, id, width and elements of each row, little endian, in row order."""
    data = struct.pack("<Q", 1) + b"k" + struct.pack("<Q", 2) + struct.pack("<2f", 1.0, 0.0)
    vectors = pa.array([[5.0, 0.0]], pa.list_(pa.float32(), 2))
    assert digest(pa.array(["k"]), vectors, 2) == hashlib.sha256(data).hexdigest()


def test_engine_digest():
    """`B213`: the digest is that of the engine's arithmetic, ids of any length."""
    assert digest(IDS, VECTORS, 2) == engine_digest(IDS.to_pylist(), VECTORS.to_pylist())


@given(
    st.integers(1, 9).flatmap(
        lambda width: st.lists(
            st.lists(
                st.floats(0.5, 1e6, width=32) | st.floats(-1e6, -0.5, width=32),
                min_size=width,
                max_size=width,
            ),
            min_size=1,
            max_size=5,
        )
    )
)
def test_any_digest(rows):
    """`B213`: sums and quotients are rounded to single precision one by one, as there."""
    ids = [f"row-{position}" for position in range(len(rows))]
    vectors = pa.array(rows, pa.list_(pa.float32()))
    assert digest(pa.array(ids), vectors, len(rows[0])) == engine_digest(ids, rows)


def test_blocks():
    """`B213`: many rows are digested in blocks, without a seam."""
    rows = [[1.0, float(number)] for number in range(10_000)]
    ids = [str(number) for number in range(10_000)]
    vectors = pa.array(rows, pa.list_(pa.float32()))
    assert digest(pa.array(ids), vectors, 2) == engine_digest(ids, rows)


@pytest.mark.parametrize(
    ("ids", "vectors"),
    [
        (IDS.cast(pa.large_string()), VECTORS),
        (IDS.cast(pa.string_view()), VECTORS),
        (IDS, VECTORS.cast(pa.large_list(pa.float32()))),
        (IDS, VECTORS.cast(pa.list_(pa.float32(), 2))),
        (IDS, pa.chunked_array([VECTORS.slice(0, 1), VECTORS.slice(1)])),
        (pa.chunked_array([IDS]), pa.concat_arrays([VECTORS, VECTORS]).slice(3)),
        (
            pa.concat_arrays([IDS, IDS]).slice(3),
            pa.concat_arrays([VECTORS, VECTORS]).cast(pa.list_(pa.float32(), 2)).slice(3),
        ),
    ],
)
def test_same_rows(ids, vectors):
    """`B213`: chunks, offsets and Arrow's several string and list types do not matter."""
    assert digest(ids, vectors, 2) == digest(IDS, VECTORS, 2)


def test_part_of_rows():
    """`B213`: a slice is digested as the rows that it shows."""
    ids, unit = unit_embeddings(IDS, VECTORS, dimensions=2)
    part = digest(IDS.slice(1, 1), VECTORS.slice(1, 1), 2)
    assert embedding_content_digest(ids.slice(1, 1), unit.slice(1, 1)) == part


def test_double_precision():
    """`B213`: doubles are rounded to single precision before anything else."""
    doubles = pa.array([[0.1, 0.2]], pa.list_(pa.float64()))
    singles = pa.array([[0.1, 0.2]], pa.list_(pa.float32()))
    assert digest(pa.array(["k"]), doubles, 2) == digest(pa.array(["k"]), singles, 2)


def test_no_rows():
    """`B213`: no rows have the digest of no bytes."""
    empty = pa.array([], pa.list_(pa.float32()))
    assert digest(pa.array([], pa.string()), empty, 3) == hashlib.sha256().hexdigest()


@pytest.mark.parametrize(
    ("ids", "rows"),
    [
        (["b", "é", ""], VECTORS),
        (["é", "a", ""], VECTORS),
        (["a", "é", ""], [[4.0, 3.0], [0.0, -2.0], [1e-3, 1e3]]),
        (["a", "é", ""], [[0.0, -2.0], [3.0, 4.0], [1e-3, 1e3]]),
    ],
)
def test_other_rows(ids, rows):
    """`B213`: another id, element or order of rows gives another digest."""
    assert digest(pa.array(ids), pa.array(rows, VECTORS.type), 2) != digest(IDS, VECTORS, 2)


def test_scale():
    """`B213`: rows that differ in length only are one point, as search sees them."""
    assert digest(IDS, pa.array([[6.0, 8.0], [0.0, -4.0], [2e-3, 2e3]], VECTORS.type), 2) == digest(
        IDS, VECTORS, 2
    )


def test_unit_length():
    """`B213`: stored vectors are scaled copies; what was given stays as it was."""
    ids, unit = unit_embeddings(IDS, VECTORS, dimensions=2)
    assert ids.to_pylist() == IDS.to_pylist()
    assert unit.type == pa.list_(pa.field("item", pa.float32(), nullable=False), 2)
    assert unit[0].as_py() == pytest.approx([0.6, 0.8])
    assert VECTORS[0].as_py() == [3.0, 4.0]


def test_unscaled():
    """`B213`: checking alone changes no number."""
    _, same = require_embeddings(IDS, VECTORS, dimensions=2)
    assert same.to_pylist() == VECTORS.to_pylist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0], [1.0], [1.0, 2.0]], "row 'é' has width 1; expected 2"),
        ([[1.0, 2.0], [1.0, 2.0, 3.0], [1.0]], "row 'é' has width 3; expected 2"),
        ([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]], "row 'é' has norm 0.0; expected a finite"),
        ([[1.0, 2.0], [0.0, float("nan")], [0.0, 0.0]], "row 'é' has norm nan; expected a finite"),
        ([[1.0, 2.0], [float("-inf"), 1.0], [1.0, 2.0]], "row 'é' has norm inf; expected a finite"),
        ([[1.0, 2.0], [3e38, 3e38], [1.0, 2.0]], "row 'é' has norm inf; expected a finite"),
        ([[1.0, 2.0], [1e-30, 0.0], [1.0, 2.0]], "row 'é' has norm 0.0; expected a finite"),
        ([[1.0, 2.0], None, [1.0, 2.0]], "row 'é' has no vector"),
        ([[1.0, 2.0], [1.0, None], [1.0, 2.0]], "row 'é' has null at position 1"),
    ],
)
def test_bad_row(rows, message):
    """`B213`: a width mismatch, a zero or non-finite norm and nulls name the first such row."""
    with pytest.raises(InvalidInputError, match=f"^{message}"):
        unit_embeddings(IDS, pa.array(rows, VECTORS.type), dimensions=2)


def test_fixed_width():
    """`B213`: a column of another fixed width is refused at its first row."""
    with pytest.raises(InvalidInputError, match=r"^row 'a' has width 2; expected 3"):
        unit_embeddings(IDS, VECTORS.cast(pa.list_(pa.float32(), 2)), dimensions=3)


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (pa.array([1, 2, 3]), VECTORS, "row ids must be strings, not int64"),
        (pa.array(["a", None, "c"]), VECTORS, "the row id at position 1 is null"),
        (IDS.slice(1), VECTORS, "2 row ids but 3 vectors"),
        (IDS, pa.array([[1], [2], [3]]), "vectors must be lists of floats, not list<"),
        (IDS, pa.array([1.0, 2.0, 3.0]), "vectors must be lists of floats, not double"),
        (["a"], VECTORS, "a column must be an Arrow array, not list"),
    ],
)
def test_bad_columns(ids, vectors, message):
    """`B213`: columns of another type or length are refused before any row is looked at."""
    with pytest.raises(InvalidInputError, match=f"^{message}"):
        require_embeddings(ids, vectors, dimensions=1)


@pytest.mark.parametrize("dimensions", [0, -1, True, 2.0])
def test_bad_dimensions(dimensions):
    """`B027`: the width is an integer of at least one."""
    with pytest.raises(InvalidInputError, match=r"^dimensions must be"):
        require_embeddings(IDS, VECTORS, dimensions=dimensions)


@pytest.mark.parametrize(
    "vectors",
    [
        VECTORS,
        pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2)),
        pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
        pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        pa.array([[1.0, 2.0], [1.0, None], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
    ],
)
def test_digest_form(vectors):
    """`B213`: only checked rows are digested; nulls and other forms are refused."""
    with pytest.raises(InvalidInputError, match="vectors"):
        embedding_content_digest(IDS, vectors)
