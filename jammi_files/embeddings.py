"""Embedding tables in the columns of jammi-db: ``_row_id, _source_id, _model_id, vector``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import pyarrow as pa

from jammi_files.descriptors import External
from jammi_files.vectors import embedding_content_digest, require_embeddings, unit_embeddings

Column: TypeAlias = pa.Array | pa.ChunkedArray


def embedding_table(
    source_id: str, model_id: str, row_ids: Column, vectors: Column, *, dimensions: int
) -> pa.Table:
    """Return rows as an embedding table; vectors are lists of ``dimensions`` floats.

    Raises:
        InvalidInputError: a row without id or vector, or of another width; it names the row.
    """
    return _table(source_id, model_id, *require_embeddings(row_ids, vectors, dimensions=dimensions))


def computed_embedding_table(  # noqa: PLR0913 - the table's columns and the producer's identity
    source_id: str,
    model_id: str,
    row_ids: Column,
    vectors: Column,
    *,
    dimensions: int,
    producer_id: str,
    params: Mapping[str, str],
) -> tuple[pa.Table, External]:
    """Return vectors that a caller computed, at unit length, and the descriptor of these very rows.

    Raises:
        InvalidInputError: as `embedding_table`; a zero or non-finite norm; or ``params`` holds the
            reserved key ``content_digest`` (`B213`).
    """
    descriptor = External(producer_id=producer_id, params=params)
    ids, unit = unit_embeddings(row_ids, vectors, dimensions=dimensions)
    descriptor = descriptor.with_content_digest(embedding_content_digest(ids, unit))
    return _table(source_id, model_id, ids, unit), descriptor


def _table(source_id: str, model_id: str, ids: Column, vectors: Column) -> pa.Table:
    count = len(ids)
    schema = pa.schema(
        [
            pa.field("_row_id", pa.string(), nullable=False),
            pa.field("_source_id", pa.string(), nullable=False),
            pa.field("_model_id", pa.string(), nullable=False),
            pa.field("vector", vectors.type, nullable=False),
        ]
    )
    columns = [
        ids.cast(pa.string()),
        pa.repeat(pa.scalar(source_id), count),
        pa.repeat(pa.scalar(model_id), count),
        vectors,
    ]
    return pa.Table.from_arrays(columns, schema=schema)
