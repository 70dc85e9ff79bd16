"""Polars, DuckDB, pandas and DataFusion take what the library returns by Arrow's own interface."""

from __future__ import annotations

import datafusion
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.results import build, row, rows

from jammi_files import ResultTableRecord, records_table
from jammi_files.schema import RECORD_FIELDS, SCHEMA


def by_polars(given):
    return pl.DataFrame(given).to_arrow()


def by_duckdb(given):
    return duckdb.connect().register("given", given).sql("FROM given").to_arrow_table()


def by_pandas(given):
    frame = pd.DataFrame.from_arrow(given)
    return pa.table({name: pa.array(list(frame[name])) for name in ("table_name", "row_count")})


def by_datafusion(given):
    return datafusion.SessionContext().from_arrow(given).to_arrow_table()


READERS = {
    "polars": by_polars,
    "duckdb": by_duckdb,
    "pandas": by_pandas,
    "datafusion": by_datafusion,
    "pyarrow": pa.table,
}


@pytest.fixture
def filled(store):
    """Return a store with a ready result, and rows that have every kind of value and none."""
    name = build(store, properties={"run": "7", "by": "é"}, text_columns=["title", "body"])
    store.catalog.create_result_tables(rows("x", "y"))
    store.catalog.create_result_table(**row("z", derived_from=name, dimensions=384))
    return store


def plain(table):
    """Return what two readers must agree on, in an order of its own."""
    columns = [
        name for name in ("table_name", "row_count", "dimensions") if name in table.schema.names
    ]
    return sorted(table.select(columns).to_pylist(), key=lambda each: each["table_name"])


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_has_rows(filled, read):
    """A catalog, a snapshot, its `scan` and records are tables to each reader as they are."""
    expected = filled.catalog.scan()
    found = [filled.catalog.get_result_table(name) for name in expected["table_name"].to_pylist()]
    for given in (filled.catalog, filled.catalog.snapshot(), expected, records_table(found)):
        table = read(given)
        assert plain(table) == plain(expected.select(table.schema.names))


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_one_record(filled, read):
    """A record is a table of one row to each reader."""
    for record in filled.catalog.find_result_tables("docs"):
        table = read(record)
        assert table.num_rows == 1
        assert plain(table)[0].items() <= record.to_dict().items()


def test_records_are_rows_of_the_scan(filled):
    """`records_table` gives each record as `scan` gives its row, column for column."""
    scan = filled.catalog.scan().sort_by("table_name")
    found = [filled.catalog.get_result_table(name) for name in scan["table_name"].to_pylist()]
    assert records_table(found).equals(scan)
    assert (
        records_table(iter(found[::-1])).column("table_name").to_pylist()
        == (scan["table_name"].to_pylist()[::-1])
    )
    assert records_table([]).schema == SCHEMA
    for record in found:
        assert pa.record_batch(record).schema == SCHEMA


def test_every_column_of_a_record(filled):
    """No column of a record is lost on the way to Arrow."""
    name = filled.catalog.scan()["table_name"][0].as_py()
    table = pa.table(filled.catalog.get_result_table(name))
    assert tuple(table.column_names) == RECORD_FIELDS
    assert isinstance(filled.catalog.get_result_table(name), ResultTableRecord)


def test_a_schema_is_asked_for(filled):
    """Who asks for another type of a column gets it, as the interface says."""
    record = filled.catalog.find_result_tables("docs")[0]
    wanted = SCHEMA.set(
        SCHEMA.get_field_index("table_name"),
        pa.field("table_name", pa.large_string(), nullable=False),
    )
    assert pa.record_batch(record, schema=wanted).schema.field("table_name").type == (
        pa.large_string()
    )


def addresses(table, column):
    return [
        buffer.address for chunk in table[column].chunks for buffer in chunk.buffers() if buffer
    ]


def test_no_copy(store):
    """Numbers and vectors reach Polars, DataFusion and pandas where they lie in memory."""
    item = pa.field("item", pa.float32(), nullable=False)
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array([0.5] * 30, pa.float32()), type=pa.list_(item, 3)
    )
    table = pa.table({"number": pa.array(range(10), pa.int64()), "vector": vectors})
    frame = pl.DataFrame(table)
    assert addresses(frame.to_arrow(), "number") == addresses(table, "number")
    flat = pa.table({"v": frame["vector"].to_arrow().flatten()})
    assert addresses(flat, "v") == addresses(pa.table({"v": vectors.flatten()}), "v")
    fusion = datafusion.SessionContext().from_arrow(table).to_arrow_table()
    assert addresses(fusion, "number") == addresses(table, "number")
    numbers = table.to_pandas(types_mapper=pd.ArrowDtype)["number"]
    assert addresses(pa.table({"n": pa.array(numbers.array)}), "n") == (addresses(table, "number"))
    scan = filled_scan(store)
    assert addresses(pl.DataFrame(scan).to_arrow(), "row_count") == addresses(scan, "row_count")


def filled_scan(store):
    store.catalog.create_result_tables(rows("x", "y"))
    return store.catalog.scan()


def test_a_dataset_in_each(filled):
    """What `open_table` returns is scanned by Polars, DuckDB, DataFusion and pandas."""
    name = filled.catalog.list_result_tables_by_status("ready")[0].table_name
    data = filled.open_table(name)
    expected = [{"id": "a", "score": 0.5}, {"id": "c", "score": 1.0}]
    chosen = pl.scan_pyarrow_dataset(data).filter(pl.col("score") >= 0.5).collect()
    assert chosen.to_dicts() == expected
    relation = duckdb.connect().register("data", data).sql("FROM data WHERE score >= 0.5")
    assert relation.to_arrow_table().to_pylist() == expected
    context = datafusion.SessionContext()
    context.register_dataset("data", data)
    found = context.sql("SELECT * FROM data WHERE score >= 0.5").to_arrow_table()
    assert found.to_pylist() == expected
    frame = pd.DataFrame.from_arrow(data.scanner().to_reader())
    assert frame[frame["score"] >= 0.5].to_dict("records") == expected
