"""A pipeline as a user writes one: CSV, vectors, neighbours, report; each step is asked for.

Two sources take the same way until the report joins them: what depends on one must not be computed
again because the other changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv
from support.askers import mark

from jammi_files import (
    Device,
    Embedding,
    External,
    MaterializationEnv,
    NeighborGraph,
    RecomputeContext,
    RecomputePlan,
    ResultStore,
    connect,
    source_anchor,
    source_versions,
)

SOURCES = ("articles", "products")
STEPS = [f"{step} {source}" for source in SOURCES for step in ("embed", "graph")] + ["report"]
ENV = MaterializationEnv(engine_version="1", device=Device.cpu())
WIDTH, NEIGHBOURS = 16, 2


def write_sources(directory: Path, rows: int = 40) -> None:
    """Write the CSV of each source."""
    for source in SOURCES:
        lines = [f"{row},{source} number {row} of {row % 7}" for row in range(rows)]
        (directory / f"{source}.csv").write_text("\n".join(["id,body", *lines]) + "\n")


def run(root: str, directory: str, marks: str) -> dict[str, tuple[str, str]]:
    """Run every step; return for each what was done, and the name of its table."""
    pipeline = _Pipeline(connect(root, durability="os"), Path(directory), Path(marks))
    graphs = [pipeline.graph(source, pipeline.embed(source)) for source in SOURCES]
    pipeline.report(graphs)
    return pipeline.done


def recompute(
    root: str, directory: str, marks: str, plan: dict[str, Any]
) -> dict[str, tuple[str, str | None]]:
    """Run a plan of these tables with the steps' own functions; answer by their old names."""

    def embed(context: RecomputeContext) -> Iterator[pa.RecordBatch]:
        source = context.original.source_id
        mark(marks, f"embed {source}")
        return (_embedded(source, batch) for batch in csv.open_csv(_path(directory, source)))

    def graph(context: RecomputeContext) -> pa.Table:
        mark(marks, f"graph {context.original.source_id}")
        return _neighbours(context.dataset(context.descriptor.source_table).to_table())

    def report(context: RecomputeContext) -> pa.Table:
        mark(marks, "report")
        return _reported([parent.dataset.to_table() for parent in context.parents])

    done = connect(root, durability="os").recompute(
        RecomputePlan.from_dict(plan),
        {Embedding: embed, NeighborGraph: graph, "external:report": report},
        resolvers=resolvers(directory),
    )
    assert done.ok, str(done)
    return {each.original: (each.outcome.value, each.recomputed) for each in done}


def resolvers(directory: str | Path) -> dict[str, Any]:
    """Return what says where the sources stand: their files' contents."""
    places = {source: _path(directory, source) for source in SOURCES}
    return {"source_version": source_versions(places)}


def _path(directory: str | Path, source: str) -> Path:
    return Path(directory) / f"{source}.csv"


class _Pipeline:
    def __init__(self, store: ResultStore, directory: Path, marks: Path) -> None:
        self.store, self.directory, self.marks = store, directory, marks
        self.done: dict[str, tuple[str, str]] = {}

    def embed(self, source: str) -> str:
        path = _path(self.directory, source)
        descriptor = Embedding(
            model_id="hashed words",
            task="text_embedding",
            source_id=source,
            columns=("body",),
            key_column="id",
            dimensions=WIDTH,
        )

        def compute() -> Iterator[pa.RecordBatch]:
            return (_embedded(source, batch) for batch in csv.open_csv(path))

        return self._ask(f"embed {source}", descriptor, [source_anchor(source, path)], compute)

    def graph(self, source: str, table: str) -> str:
        descriptor = NeighborGraph(
            source_table=table,
            k=NEIGHBOURS,
            mutual=False,
            self_exclude=True,
            exact=True,
            exact_max_rows=10_000,
        )

        def compute() -> pa.Table:
            rows = self.store.open_table(table).to_table()
            return _neighbours(rows)

        inputs = [self.store.result_digest_anchor(table)]
        return self._ask(f"graph {source}", descriptor, inputs, compute)

    def report(self, graphs: list[str]) -> str:
        def compute() -> pa.Table:
            return _reported([self.store.open_table(name).to_table() for name in graphs])

        inputs = [self.store.result_digest_anchor(name) for name in graphs]
        descriptor = External(producer_id="report", params={"of": "similarity"})
        also = {"source_id": "report", "task": "regression"}
        return self._ask("report", descriptor, inputs, compute, **also)

    def _ask(self, step: str, descriptor: Any, inputs: Any, compute: Any, **also: Any) -> str:
        def marked() -> Any:
            mark(self.marks, step)
            return compute()

        obtained = self.store.get_or_build(descriptor, ENV, inputs, marked, **also)
        self.done[step] = (obtained.outcome.cache_outcome, obtained.table_name)
        return obtained.table_name


def _reported(graphs: list[pa.Table]) -> pa.Table:
    means = [float(np.mean(table["similarity"].to_numpy())) for table in graphs]
    edges = [table.num_rows for table in graphs]
    return pa.table({"source": list(SOURCES), "edges": edges, "mean": means})


def _embedded(source: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give each text a vector of unit length: the sum of one vector for each of its words."""
    vectors = np.array([_vector(text) for text in batch["body"].to_pylist()], np.float32)
    flat = pa.array(vectors.ravel(), pa.float32())
    return pa.record_batch(
        {
            "_row_id": batch["id"].cast(pa.string()),
            "_source_id": pa.repeat(source, batch.num_rows),
            "vector": pa.FixedSizeListArray.from_arrays(flat, WIDTH),
        }
    )


def _vector(text: str) -> np.ndarray:
    words = [hashlib.sha256(word.encode()).digest()[:WIDTH] for word in text.split()]
    total = sum(np.frombuffer(word, np.int8).astype(np.float32) for word in words)
    return np.asarray(total / np.linalg.norm(total))


def _neighbours(rows: pa.Table) -> pa.Table:
    ids = np.array(rows["_row_id"].to_pylist())
    vectors = np.stack(rows["vector"].to_numpy())
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]
    return pa.table(
        {
            "from": ids.repeat(NEIGHBOURS),
            "to": ids[nearest.ravel()],
            "similarity": np.take_along_axis(similarity, nearest, axis=1).ravel(),
        }
    )
