"""What a data object says of its row: enough to make the row anew, nothing that differs by run."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.results import CONTRACT, DATA, build
from support.scopes import ACME

from jammi_files.origin import METADATA_KEY, Origin, without_origin
from jammi_files.schema import ModelTask, ResultTableKind

ORIGIN = Origin(
    source_id='do"cs\né',
    model_id="org/model:1",
    task=ModelTask.NER,
    kind=ResultTableKind.MODEL,
    dimensions=None,
    key_column="id",
    text_columns=("a", "b"),
    tenant_id=ACME,
)


def metadata_of(store, name):
    record = store.catalog.get_result_table(name)
    with store.storage.open(record.parquet_path) as file:
        return pq.read_metadata(file).metadata


@pytest.mark.parametrize("tenant", [None, ACME])
def test_every_result_carries_it(tenant, store):
    """The footer of what the funnel writes repeats source, model, task, kind, shape and tenant."""
    store = store.pinned_to_tenant(tenant)
    name = build(store, dimensions=3, key_column="id", text_columns=["x", "y"])
    found = Origin.find(metadata_of(store, name))
    assert found == Origin.of(store.catalog.get_result_table(name))
    assert (found.tenant_id, found.dimensions, found.text_columns) == (tenant, 3, ("x", "y"))


def test_same_inputs_same_bytes(store):
    """`B271`: a second build of the same thing has the same digest: no name and no time in it."""
    first, second = (store.catalog.get_result_table(build(store)) for _ in range(2))
    assert first.artifact_digest == second.artifact_digest


def test_round_trip():
    """What was written is read."""
    assert Origin.find({METADATA_KEY: ORIGIN.to_json_bytes()}) == ORIGIN


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"ner"', b'"dreaming"'),
        (b'"model"', b'"oracle"'),
        (ACME.encode(), b"nobody"),
        (b'"id"', b"7"),
        (b'["a","b"]', b'"ab"'),
        (b'"source_id"', b'"source"'),
        (b'"dimensions":null', b'"dimensions":-1'),
        (b"{", b"["),
    ],
)
def test_what_cannot_be_trusted(old, new):
    """A footer that says something impossible says nothing: no row is made of half of it."""
    data = ORIGIN.to_json_bytes()
    assert old in data
    assert Origin.find({METADATA_KEY: data.replace(old, new)}) is None


def test_no_origin():
    """Other programs' files say nothing."""
    assert Origin.find(None) is None
    assert Origin.find({b"pandas": b"{}"}) is None
    assert Origin.find({METADATA_KEY: b"\xff"}) is None
    assert Origin.find({METADATA_KEY: b"5"}) is None


def test_a_schema_that_was_read_from_a_result(store):
    """A result whose schema came from another's file carries its own origin and the rest."""
    parent = build(store.pinned_to_tenant(ACME))
    table = store.pinned_to_tenant(ACME).open_table(parent).to_table()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"mine": b"1"})
    with store.build("other", "ner", "model", "m", **CONTRACT) as out:
        out.write(table)
    metadata = metadata_of(store, out.table_name)
    assert Origin.find(metadata).source_id == "other"
    assert Origin.find(metadata).tenant_id is None
    assert metadata[b"mine"] == b"1"
    assert store.open_table(out.table_name).to_table().equals(DATA)


def test_without_origin():
    """Only the origin is taken out of a schema."""
    schema = pa.schema([("a", pa.int64())], metadata={METADATA_KEY: b"x", b"b": b"c"})
    assert without_origin(schema).metadata == {b"b": b"c"}
    assert without_origin(without_origin(schema)).metadata == {b"b": b"c"}
    assert not without_origin(pa.schema([], metadata={METADATA_KEY: b"x"})).metadata
