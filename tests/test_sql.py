"""`store.sql`: one statement over the catalog and the results that it names, and nothing else."""

from __future__ import annotations

import os
import re
import sys
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.results import CONTRACT, DATA, TABLE, build, row, rows

from jammi_files import connect
from jammi_files.artifacts import Artifacts
from jammi_files.errors import (
    FormatError,
    InvalidInputError,
    JammiFilesError,
    MissingPackageError,
    StateError,
    StorageError,
    TableNotFoundError,
)

MINE, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def publish(store, name, data=DATA):
    """Make a ready result under a name of one's own."""
    info = store.catalog.create_result_table(**row(name))
    with store.open_writer(name, data.schema) as out:
        out.write(data)
    contract = CONTRACT["descriptor"], CONTRACT["env"], CONTRACT["inputs"]
    store.finalize_with_manifest(info.table_name, data.num_rows, *contract)
    return name


@pytest.fixture
def opened(monkeypatch):
    """Return the names of the results whose data was opened, in order."""
    names, dataset = [], Artifacts.dataset
    monkeypatch.setattr(
        Artifacts,
        "dataset",
        lambda self, record: names.append(record.table_name) or dataset(self, record),
    )
    return names


def values(table):
    return [tuple(each.values()) for each in table.to_pylist()]


def test_rows_of_the_catalog(store):
    """The rows are those of `scan`, every column, to the nanosecond."""
    build(store)
    store.catalog.create_result_tables(rows("x", "y"))
    found = store.sql("SELECT * FROM catalog ORDER BY table_name")
    expected = store.catalog.scan().sort_by("table_name")
    assert found.column_names == expected.column_names
    for name in ("table_name", "status", "row_count", "text_columns", "input_anchors"):
        assert found[name].to_pylist() == expected[name].to_pylist()
    assert found["created_at"].cast(pa.int64()) == expected["created_at"].cast(pa.int64())
    assert store.sql("SELECT count(*) FROM CATALOG").column(0).to_pylist() == [3]


def test_a_result_by_its_name(store):
    """A generated name, quoted, is the data of the result; joins and CTEs work as anywhere."""
    name = build(store)
    assert values(store.sql(f'FROM "{name}" WHERE score >= 0.5 ORDER BY id')) == [
        ("a", 0.5),
        ("c", 1.0),
    ]
    joined = store.sql(
        f'WITH best AS (SELECT max(score) AS score FROM "{name}") '  # noqa: S608 - our own name
        f'SELECT id, source_id FROM best JOIN "{name}" USING (score) '
        f"JOIN catalog ON table_name = '{name}'"
    )
    assert values(joined) == [("c", "docs")]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("PIVOT n ON id USING sum(score)", [(0.5, 0.25, 1.0)]),
        ("DESCRIBE n", [("id", "VARCHAR"), ("score", "DOUBLE")]),
        ("VALUES (1), (2)", [(1,), (2,)]),
        ("SELECT max(score) FROM (TABLE n)", [(1.0,)]),
        ("SELECT id FROM n WHERE id IN (SELECT id FROM m) ORDER BY id", [("a",), ("b",), ("c",)]),
        ("WITH m AS (SELECT 7 AS x) SELECT x FROM m", [(7,)]),
        ("FROM query_table('n') SELECT count(*)", [(3,)]),
        ("SELECT 1; ", [(1,)]),
    ],
)
def test_forms_of_a_statement(store, statement, expected):
    """Whatever reads is taken, in each form that DuckDB has for it."""
    publish(store, "n")
    publish(store, "m")
    assert [each[:3] if len(each) == 3 else each[:2] for each in values(store.sql(statement))] == (
        expected
    )


def test_explain_tells_that_a_filter_reaches_the_file(store):
    """The condition and the columns are handed down to the scan of the data."""
    publish(store, "n")
    told = store.sql("EXPLAIN SELECT 1 FROM n WHERE id = 'a'")["explain_value"][0].as_py()
    assert re.search(r"Filters: \W*id\W* ?= ?'a'", told)
    assert "score" not in told


@pytest.mark.parametrize("name", ["a b", 'we"ird', "é日本", "a.b", "x-y", "Ünï", "it's", "select"])
def test_odd_names(store, name):
    """Whatever can name a result can be quoted in a statement."""
    publish(store, name)
    quoted = name.replace('"', '""')
    assert store.sql(f'SELECT count(*) FROM "{quoted}"').column(0).to_pylist() == [3]  # noqa: S608


def test_only_what_is_named_is_opened(store, opened):
    """Of many results one statement opens those that it names, each once."""
    publish(store, "n")
    publish(store, "m")
    store.catalog.create_result_tables(rows(*(f"x{number}" for number in range(500))))
    store.sql("SELECT 1")
    assert opened == []
    assert store.sql("SELECT count(*) FROM catalog").column(0).to_pylist() == [502]
    assert opened == []
    store.sql("SELECT count(*) FROM n AS a, n AS b, m")
    assert sorted(opened) == ["m", "n"]


def test_the_catalog_is_read_only_when_named(store, monkeypatch):
    """A statement over results makes no table of the rows."""
    publish(store, "n")
    reads = type(store.catalog.snapshot())
    monkeypatch.setattr(reads, "scan", lambda *_: pytest.fail("the rows were scanned"))
    assert store.sql("SELECT count(*) FROM n").column(0).to_pylist() == [3]


def test_one_version(store, monkeypatch):
    """What another commits meanwhile is not seen: rows and results are of one version."""
    publish(store, "n")
    dataset = Artifacts.dataset

    def late(self, record):
        store.catalog.create_result_table(**row("late"))
        return dataset(self, record)

    monkeypatch.setattr(Artifacts, "dataset", late)
    counted = store.sql("SELECT count(DISTINCT table_name) FROM n, catalog")
    assert counted.column(0).to_pylist() == [1]
    assert store.sql("SELECT count(*) FROM catalog").column(0).to_pylist() == [2]


def test_tenants(store, opened):
    """`B174`: a foreign result is as unknown as one that never was, and none of it is opened."""
    mine, other = store.pinned_to_tenant(MINE), store.pinned_to_tenant(OTHER)
    publish(store, "everyones")
    publish(mine, "mine")
    publish(other, "theirs")
    assert values(mine.sql("SELECT table_name FROM catalog ORDER BY 1")) == [
        ("everyones",),
        ("mine",),
    ]
    for statement in ('SELECT * FROM "{}"', "DESCRIBE {}", "FROM mine JOIN {} USING (id)"):
        told = []
        for name in ("theirs", "absent"):
            opened.clear()
            with pytest.raises(TableNotFoundError) as caught:
                mine.sql(statement.format(name))
            assert set(opened) <= {"mine"}
            told.append(str(caught.value).replace(name, "_"))
        assert told == ["Result table '_' not found"] * 2
    assert mine.sql("SELECT count(*) FROM everyones, mine").column(0).to_pylist() == [9]
    with pytest.raises(TableNotFoundError):
        store.sql("FROM mine")
    assert store.as_admin().sql("SELECT count(*) FROM mine, theirs").column(0).to_pylist() == [9]


def test_another_spelling(store):
    """`B096`: another case is another name, and two that differ only in it are refused together."""
    publish(store, "Docs")
    with pytest.raises(TableNotFoundError, match="'docs'"):
        store.sql("FROM docs")
    publish(store, "docs", DATA.slice(0, 1))
    assert store.sql("SELECT count(*) FROM docs").column(0).to_pylist() == [1]
    assert store.sql("SELECT count(*) FROM Docs").column(0).to_pylist() == [3]
    with pytest.raises(InvalidInputError, match="one name to DuckDB"):
        store.sql('FROM "docs" UNION ALL FROM "Docs"')


def test_a_result_that_is_not_ready(store):
    """A building or failed result has no data to be queried, and the error says so."""
    store.catalog.create_result_table(**row("n"))
    with pytest.raises(StateError, match="building, not ready"):
        store.sql("FROM n")


def test_data_that_is_gone(store, root):
    """Data that is gone or damaged is a typed error that names it."""
    publish(store, "n")
    path = root / "n.parquet"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(StateError, match="'n' is gone"):
        store.sql("FROM n")
    path.write_bytes(whole[:30])
    with pytest.raises(FormatError, match=r"n\.parquet' is no Parquet file"):
        store.sql("FROM n")


def test_data_that_goes_while_it_is_read(store, root, monkeypatch):
    """What cannot be read any more while DuckDB reads it is a `StorageError`."""
    publish(store, "n")
    dataset = Artifacts.dataset

    def opened(self, record):
        found = dataset(self, record)
        os.truncate(root / "n.parquet", 40)
        return found

    monkeypatch.setattr(Artifacts, "dataset", opened)
    with pytest.raises(StorageError, match="could not be read"):
        store.sql("SELECT sum(score) FROM n")


@pytest.mark.parametrize(
    "data",
    [
        pa.table({"a": pa.array([1.0], pa.float16())}),
        pa.table({"a": pa.array([[1.0]], pa.list_(pa.float16()))}),
        pa.table({"a": pa.array([Decimal("1e50")], pa.decimal256(76, 0))}),
        pa.table({}),
    ],
    ids=["float16", "list of float16", "decimal256", "no columns"],
)
def test_data_that_duckdb_does_not_take(store, data):
    """A result of types that DuckDB lacks is named, with what reads it instead."""
    publish(store, "n", data)
    with pytest.raises(InvalidInputError, match=r"does not take 'n': .*; read it with open_table"):
        store.sql("FROM n")
    assert store.open_table("n").to_table() == data


def test_a_directory_in_the_place_of_data(store, root):
    """What stands where the data should be is a typed error whatever it is."""
    publish(store, "n")
    (root / "n.parquet").unlink()
    (root / "n.parquet").mkdir()
    with pytest.raises(JammiFilesError):
        store.sql("FROM n")


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """Return the directory that the program works in, with files that no statement may read."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"secret": [1]}), "secret.parquet")
    (tmp_path / "secret.csv").write_text("secret\n1\n")
    return tmp_path


@pytest.mark.parametrize(
    "statement",
    [
        "FROM 'secret.parquet'",
        "FROM read_parquet('secret.parquet')",
        "FROM read_csv('secret.csv')",
        "FROM read_text('secret.csv')",
        "FROM read_blob('*')",
        "FROM glob('*')",
        "FROM parquet_metadata('secret.parquet')",
        "FROM read_csv('http://127.0.0.1:1/secret.csv')",
        "FROM 's3://bucket/secret.parquet'",
        "COPY (SELECT 1) TO 'made.csv'",
        "EXPORT DATABASE 'made'",
        "ATTACH 'made.db' AS made",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA enable_external_access",
        "CALL force_checkpoint()",
        "FROM duckdb_secrets()",
        "FROM query('SELECT * FROM read_text(''secret.csv'')')",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'made.csv'",
    ],
)
def test_no_file_is_reachable(store, secret, statement):
    """No statement reads a file, writes one, or opens the way to it."""
    publish(store, "n")
    before = sorted(secret.iterdir())
    with pytest.raises((InvalidInputError, TableNotFoundError)):
        store.sql(statement)
    assert sorted(secret.iterdir()) == before


def test_no_variable_is_reachable(store):
    """A name is never a variable of the program around the call."""
    hidden = pa.table({"x": [1]})
    with pytest.raises(TableNotFoundError, match="'hidden'"):
        store.sql("FROM hidden")
    assert hidden.num_rows == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO n VALUES ('x', 1)",
        "DELETE FROM n",
        "DROP VIEW n",
        "SELECT 1; SELECT 2",
        "-- nothing",
        "selct 1",
        "SELECT nosuch FROM n",
        "SELECT nosuch(1)",
        "SELECT CAST(id AS INTEGER) FROM n",
        "SELECT error('it')",
        "",
        None,
        7,
    ],
)
def test_what_is_no_statement_that_reads(store, statement):
    """Anything else is an `InvalidInputError`, with DuckDB's own words where it has some."""
    publish(store, "n")
    with pytest.raises(InvalidInputError):
        store.sql(statement)
    assert store.sql("SELECT count(*) FROM n").column(0).to_pylist() == [3]


def test_parameters(store):
    """Values come by position or by name, and never become part of the statement."""
    publish(store, "n")
    assert values(store.sql("SELECT id FROM n WHERE score = ?", [1.0])) == [("c",)]
    assert values(store.sql("SELECT id FROM n WHERE score > $2 AND id < $1", ("c", 0.3))) == [
        ("a",)
    ]
    assert values(store.sql("SELECT $a AS it", {"a": "'; DROP VIEW n"})) == [("'; DROP VIEW n",)]
    for wrong in ([], [1, 2], {"b": 1}, "a", 5):
        with pytest.raises(InvalidInputError):
            store.sql("SELECT id FROM n WHERE score = ?", wrong)


def test_without_duckdb(store, monkeypatch):
    """Where DuckDB is not installed the error names the extra, and is an ImportError too."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'jammi_files\[duckdb\]'"):
        store.sql("SELECT 1")


def test_in_a_bucket(s3_server, monkeypatch):
    """A result in a bucket is read by columns: the wide one is not fetched for the narrow one."""
    assert s3_server.request("PUT", "/my-bucket").status == 200
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testtest")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = connect("s3://my-bucket/sql")
    wide = pa.table({"id": range(4000), "text": [os.urandom(500).hex() for _ in range(4000)]})
    with store.build(*TABLE, **CONTRACT) as out:
        out.write(wide)
    query = f'SELECT sum(id) AS total, count(*) AS n FROM "{out.table_name}", catalog'  # noqa: S608
    with s3_server.log.counting() as seen:
        found = store.sql(query)
    assert values(found) == [(sum(range(4000)), 4000)]
    narrow = seen.matching(key=r"\.parquet$").received
    with s3_server.log.counting() as seen:
        store.sql(query.replace("sum(id)", "max(text)"))
    assert 0 < 4 * narrow < seen.matching(key=r"\.parquet$").received
