"""What a build takes as rows: whatever an Arrow table can be made of, and nothing else."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support.results import CONTRACT, DATA, TABLE

from jammi_files import InvalidInputError, frames

ROWS = DATA.to_pylist()


def published(store, given, **also):
    """Return what became of rows given to a build, as the file holds it."""
    with store.build(*TABLE, **CONTRACT, **also) as out:
        out.write(given)
    return pq.read_table(out.info.parquet_path)


def relation(table):
    return duckdb.connect().register("given", table).sql("FROM given")


class Batch:
    """Speaks the part of Arrow's interface that is for one batch."""

    def __arrow_c_array__(self, requested_schema=None):
        return DATA.to_batches()[0].__arrow_c_array__(requested_schema)


GIVEN = {
    "table": lambda: DATA,
    "batch": lambda: DATA.to_batches()[0],
    "one batch by the interface": Batch,
    "reader": DATA.to_reader,
    "dataset": lambda: ds.dataset(DATA),
    "scanner": lambda: ds.dataset(DATA).scanner(),
    "mapping": DATA.to_pydict,
    "pandas": lambda: pd.DataFrame(DATA.to_pydict()),
    "polars": lambda: pl.DataFrame(DATA.to_pydict()),
    "duckdb": lambda: relation(DATA),
    "batches": lambda: iter(DATA.to_batches(max_chunksize=1)),
    "frames": lambda: [pd.DataFrame(DATA.slice(0, 1).to_pydict()), pl.DataFrame(DATA.slice(1))],
}


@pytest.mark.parametrize("give", GIVEN.values(), ids=GIVEN)
def test_taken(store, give):
    """Each form becomes the same rows, in a build and as what a function returns."""
    found = published(store, give(), schema=DATA.schema)
    assert found.to_pylist() == ROWS
    assert found.schema.remove_metadata() == DATA.schema
    obtained = store.get_or_build(
        CONTRACT["descriptor"], CONTRACT["env"], (), give, source_id="docs", task="ner"
    )
    assert store.open_table(obtained.table_name).to_table().to_pylist() == ROWS


@pytest.mark.parametrize("give", GIVEN.values(), ids=GIVEN)
def test_a_writer_takes_the_same(store, give):
    """`open_writer` takes what a build takes."""
    info = store.create_table(*TABLE)
    with store.open_writer(info, DATA.schema) as out:
        out.write(give())
    assert pq.read_table(info.parquet_path).to_pylist() == ROWS


def test_types_of_polars_can_be_stored(store):
    """Strings and categories of Polars, whose newest Arrow types Parquet cannot hold."""
    kind = pl.Series(["x", "y", "x"], dtype=pl.Categorical)
    found = published(store, pl.DataFrame({"kind": kind, "text": ["a", "b", None]}))
    assert found.to_pydict() == {"kind": ["x", "y", "x"], "text": ["a", "b", None]}
    assert pa.types.is_dictionary(found.schema.field("kind").type)


def test_row_numbers_of_pandas_are_no_column(store):
    """What filtering leaves of a default index does not become `__index_level_0__`."""
    frame = pd.DataFrame({"score": [3, 1, 2]})
    for given in (frame, frame[frame["score"] > 1], frame.sort_values("score")):
        found = published(store, given)
        assert found.to_pydict() == {"score": given["score"].tolist()}


def test_a_named_index_is_columns(store):
    """Named levels of an index come before the other columns, under their names."""
    frame = pd.DataFrame({"doc": ["a", "b"], "part": [1, 2], "score": [0.5, 1.0]})
    for keys in (["doc"], ["doc", "part"]):
        assert published(store, frame.set_index(keys)).to_pylist() == frame.to_dict("records")
    assert published(store, frame[["score"]].rename_axis("n")).column_names == ["n", "score"]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (["a", "b"], "has values and no name"),
        (pd.to_datetime(["2026-01-01", "2026-01-02"]), "has values and no name"),
        (pd.MultiIndex.from_tuples([(1, 2), (3, 4)]), "has values and no name"),
        (pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=["a", None]), "has values and no name"),
        (pd.Index([1, 2], name="score"), "both named score"),
    ],
    ids=["strings", "times", "levels", "one level", "taken"],
)
def test_an_index_is_never_dropped_unseen(store, index, message):
    """An index that holds values but cannot be columns is refused, with what to write."""
    frame = pd.DataFrame({"score": [1, 2]}, index=index)
    with pytest.raises(InvalidInputError, match=message) as refused:
        published(store, frame)
    assert "reset_index(drop=True)" in str(refused.value)


def test_pandas_leaves_no_trace(store):
    """Equal rows make equal files, whichever version of pandas they came by."""
    found = published(store, pd.DataFrame({"a": [1]}))
    assert b"pandas" not in (found.schema.metadata or {})
    assert published(store, pa.table({"a": [1]})).schema.remove_metadata() == (
        found.schema.remove_metadata()
    )


REFUSED = {
    "nothing": (None, "the data is NoneType; expected a pyarrow table"),
    "text": ("a,b", "the data is str; expected"),
    "number": (7, "the data is int; expected"),
    "rows": ([{"id": "a"}, 7], "item 1 of the list is int; expected"),
    "lists": ([[DATA]], "item 0 of the list is list; expected"),
    "array": (np.zeros((2, 2)), "item 0 of the ndarray is numpy.ndarray; expected"),
    "pandas series": (pd.Series([1], name="a"), r"series.to_frame\('a'\)"),
    "polars series": (pl.Series([1]), r"series.to_frame\('name'\)"),
    "polars plan": (pl.LazyFrame({"a": [1]}), r"frame.collect\(\)"),
    "arrow array": (pa.array([1]), "Int64Array is no table for Arrow"),
    "chunks": (pa.chunked_array([[1]]), "no table for Arrow"),
    "mixed values": (pd.DataFrame({"a": [1, "x"]}), "no table for Arrow: .*column a"),
    "uneven": ({"a": [1], "b": [1, 2]}, "no table for Arrow"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(store, given, message):
    """Anything else is a typed error that says what was given and what is expected."""
    with pytest.raises(InvalidInputError, match=message), store.build(*TABLE, **CONTRACT) as out:
        out.write(given)
    assert store.catalog.list_result_tables_by_status("ready") == []


def test_an_error_of_the_caller_stays_its_own(store):
    """What an iterator of batches raises goes on as it is, and the row says so."""

    def batches():
        yield DATA
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError), store.build(*TABLE, **CONTRACT) as out:
        out.write(batches())
    failed = store.catalog.get_result_table(out.table_name)
    assert failed.properties["error"] == "ZeroDivisionError: by zero"


def test_an_empty_stream_has_its_schema(store):
    """A stream, frame or dataset without rows becomes a result without rows."""
    empty = DATA.slice(0, 0)
    for given in (empty, empty.to_reader(), ds.dataset(empty), pd.DataFrame({"a": [1]})[:0]):
        found = published(store, given)
        assert found.num_rows == 0
        assert found.num_columns > 0


def test_a_stream_is_not_taken_into_memory(store, monkeypatch):
    """Small batches are put together into row groups, and no more are drawn than fill one."""
    monkeypatch.setattr(frames, "_GROUP_ROWS", 100)
    drawn = []

    def batches():
        for number in range(30):
            drawn.append(out.rows)
            yield pa.record_batch({"n": [number] * 10})

    schema = pa.schema({"n": pa.int64()})
    with store.build(*TABLE, **CONTRACT) as out:
        out.write(pa.RecordBatchReader.from_batches(schema, batches()))
    assert drawn == [0] * 10 + [100] * 10 + [200] * 10
    groups = pq.ParquetFile(out.info.parquet_path).metadata
    assert [groups.row_group(at).num_rows for at in range(groups.num_row_groups)] == [100] * 3


def test_a_slow_stream_renews_the_lease(store, monkeypatch):
    """While batches are drawn that fill no row group yet, the build is known to live."""
    with store.build(*TABLE, **CONTRACT) as out:
        out.write(DATA)
        renewed = []
        monkeypatch.setattr(out._writer, "_renew", lambda: renewed.append(True))
        out._writer._renewed = float("-inf")
        out.write(DATA.to_reader(max_chunksize=1))
    assert renewed
