"""Small results with chosen definitions and inputs, for questions about reuse and freshness."""

from __future__ import annotations

import pyarrow as pa
from support.faults import CountingStorage

from jammi_files import (
    AnchorKind,
    Catalog,
    Device,
    External,
    InputAnchor,
    MaterializationEnv,
    ResultStore,
    definition_hash,
)
from jammi_files.local import LocalStorage

ENV = MaterializationEnv("0.32.0", Device.cpu())
NEWER_ENV = MaterializationEnv("0.33.0", Device.cpu())


def descriptor(producer="embed", **params):
    """Return how a result of `make` is produced."""
    return External(producer_id=producer, params=params)


def make(store, inputs=(), producer="embed", *, source="docs", data="a", env=ENV, **params):
    """Produce one ready result and return its name."""
    how = descriptor(producer, **params)
    task = (source, "classification", "model", producer)
    with store.build(*task, descriptor=how, env=env, inputs=inputs) as out:
        out.write(pa.table({"id": [data]}))
    return out.table_name


def on(store, *names):
    """Return the anchors of a result that is made from these."""
    return [store.result_digest_anchor(name) for name in names]


def docs(version="1"):
    """Return the anchors of a result that is made from one pinned source."""
    return [InputAnchor.source_version("docs", version)]


def hashed(producer="embed", env=ENV, **params):
    """Return the definition hash of what `make` makes."""
    return definition_hash(descriptor(producer, **params), env)


def lose(store, name):
    """Delete the data of a result and leave its row and its sidecar."""
    assert store.storage.delete(f"{name}.parquet")


def listing(store):
    """Return `staleness_all` by table name, without reasons and words: the tags."""
    table = store.staleness_all()
    return dict(zip(table["table_name"].to_pylist(), table["staleness"].to_pylist(), strict=True))


def at(version):
    """Return resolvers that say where the source stands."""
    return {AnchorKind.SOURCE_VERSION: lambda _: version}


def row(store, name, **how):
    """Return the row of `staleness_all` about one result."""
    rows = {each["table_name"]: each for each in store.staleness_all(**how).to_pylist()}
    return rows[name]


def opened(root):
    """Return the results under a root, and what counts each question to storage."""
    storage = CountingStorage(LocalStorage(root, "os"))
    return ResultStore(Catalog(storage)), storage
