"""Rows given as an Arrow table: the same checks, the same rows, all of them or none."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from support.files import listing
from support.results import row, rows
from support.scopes import ACME, BETA

from jammi_files import (
    AlreadyExistsError,
    Catalog,
    InvalidInputError,
    TableNotFoundError,
    manifest,
)
from jammi_files.draft import SEGMENTS
from jammi_files.log import key_of
from jammi_files.schema import RECORD_FIELDS, SCHEMA
from jammi_files.validation import LONGEST_TABLE_NAME

SMALL, LARGE = 5, manifest.INLINE_ROWS + 1


@pytest.fixture(params=[SMALL, LARGE], ids=["inline", "segment"])
def count(request):
    """Return how many rows a batch has: few go into the manifest, many into a segment."""
    return request.param


def batch(count, **columns):
    """Return ``count`` sound rows, with whole columns replaced or added, given per row."""
    table = rows(*(f"t{index:04}" for index in range(count)))
    for name, values in columns.items():
        field_type = SCHEMA.field(name).type
        array = values if isinstance(values, pa.Array) else pa.array(values, field_type)
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, array)
        else:
            table = table.append_column(name, array)
    return table


def with_last(count, name, value):
    """Return a batch in whose last row one column holds ``value``, sound in all others."""
    table = batch(count)
    given = table[name].to_pylist() if name in table.column_names else [None] * count
    return batch(count, **{name: [*given[:-1], value]})


def again(catalog):
    return Catalog.open(catalog.storage.root, durability="os")


def test_rows_equal_single_ones(catalog, count):
    """`B025`, `B056`: a bulk row is what `create_result_table` makes of the same arguments."""
    columns = {
        "kind": ["neighbor_graph"] + [None] * (count - 1),
        "derived_from": [None] * (count - 1) + ["t0000"],
        "index_path": ["t.idx"] * count,
        "dimensions": [384] + [None] * (count - 1),
        "key_column": [None] * (count - 1) + ["id"],
        "text_columns": [["b", "a,c"], [], *[None] * (count - 2)],
        "properties": [[("a", "é")], [], *[None] * (count - 2)],
    }
    table = batch(count, **columns)
    acme = catalog.pinned_to_tenant(ACME)
    assert acme.create_result_tables(table) == count
    assert catalog.version == 1
    again_acme = again(catalog).pinned_to_tenant(ACME)
    singles = Catalog.open("memory://test-bulk", tenant=ACME)
    stamps = []
    for fields in table.to_pylist():
        found = again_acme.get_result_table(fields["table_name"])
        properties = fields.pop("properties")
        arguments = {name: value for name, value in fields.items() if value is not None}
        if properties is not None:
            arguments["properties"] = dict(properties)
        expected = singles.create_result_table(**arguments)
        same = set(RECORD_FIELDS) - {"created_at", "lease"}
        assert {n: getattr(found, n) for n in same} == {n: getattr(expected, n) for n in same}
        assert found.lease.pid == expected.lease.pid
        stamps.append(found.created_at)
    assert stamps == sorted(set(stamps))
    singles.as_admin().delete_result_tables_for_source("docs")


def test_one_version(catalog, root, count):
    """A batch is one version, of one manifest and at most one segment."""
    catalog.create_result_tables(batch(count))
    assert catalog.version == 1
    assert len(list(root.glob("_catalog/manifest/*/*"))) == 1
    assert len(list(root.glob("_catalog/segments/*"))) == (count > manifest.INLINE_ROWS)
    assert again(catalog).scan().num_rows == count


def test_threshold(catalog, root):
    """As many rows as a manifest carries stay in it; one more becomes a segment."""
    catalog.create_result_tables(batch(manifest.INLINE_ROWS))
    assert not list(root.glob("_catalog/segments/*"))
    catalog.create_result_table(**row("one more"))
    assert len(list(root.glob("_catalog/segments/*"))) == 1
    assert again(catalog).scan().num_rows == manifest.INLINE_ROWS + 1


WRONG = [
    ("table_name", "", "table_name is required"),
    ("table_name", None, "table_name"),
    ("table_name", "a/b", "'a/b'"),
    ("table_name", "a\\b", "must not hold"),
    ("table_name", "..", "must not hold"),
    ("table_name", ".hidden", "'.hidden'"),
    ("table_name", "a\nb", "control character"),
    ("table_name", "a\x85b", "control character"),
    ("table_name", "n" * (LONGEST_TABLE_NAME + 1), "bytes of UTF-8"),
    ("table_name", "é" * (LONGEST_TABLE_NAME // 2 + 1), "bytes of UTF-8"),
    ("table_name", "t0000", "'t0000' comes twice"),
    ("source_id", "", "source_id is required"),
    ("source_id", None, "source_id"),
    ("model_id", "", "model_id is required"),
    ("model_id", None, "model_id"),
    ("task", "NER", "Unknown model task 'NER'"),
    ("task", "", "task"),
    ("task", None, "task"),
    ("kind", "Model", "Unknown result-table kind 'Model'"),
    ("kind", "", "Unknown result-table kind ''"),
    ("derived_from", "", "derived_from is required"),
    ("parquet_path", "", "parquet_path is required"),
    ("parquet_path", None, "parquet_path"),
    ("parquet_path", "../t.parquet", "leaves the root"),
    ("parquet_path", "a/../../t.parquet", "leaves the root"),
    ("parquet_path", "a\0b", "leaves the root"),
    ("parquet_path", "./.", "is the root itself"),
    ("parquet_path", ".//_catalog/x.parquet", "the catalog's own objects"),
    ("parquet_path", "_Catalog/x.parquet", "the catalog's own objects"),
    ("index_path", "", "index_path is required"),
    ("index_path", "../t.idx", "leaves the root"),
    ("dimensions", 0, "dimensions must be at least 1"),
    ("dimensions", -1, "dimensions must be at least 1"),
    ("key_column", "", "key_column is required"),
    ("text_columns", ["a", ""], "text_columns"),
    ("text_columns", ["a", None], "text_columns"),
    ("properties", [("a", None)], "properties"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_one_wrong_value(catalog, root, count, wrong):
    """One wrong value in the last row refuses the batch, naming it, before anything is written."""
    name, value, text = wrong
    with pytest.raises(InvalidInputError) as caught:
        catalog.create_result_tables(with_last(count, name, value))
    assert text in str(caught.value)
    assert not root.exists()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, value, _ in WRONG if value not in (None, "t0000")]
)
def test_the_same_alone(catalog, root, name, value):
    """What a batch refuses, `create_result_table` refuses too."""
    given = dict(value) if name == "properties" else value
    with pytest.raises(InvalidInputError):
        catalog.create_result_table(**row("t") | {name: given})
    assert not root.exists()


@pytest.mark.parametrize(
    "column",
    [
        ("task", pa.array([1] * SMALL)),
        ("source_id", pa.array([b"\xff"] * SMALL)),
        ("dimensions", pa.array([1.5] * SMALL)),
        ("dimensions", pa.array([2**63] * SMALL, pa.uint64())),
        ("dimensions", pa.array(["three"] * SMALL)),
        ("text_columns", pa.array(["a,b"] * SMALL)),
        ("properties", pa.array([{"a": 1}] * SMALL)),
        ("table_name", pa.array([None] * SMALL, pa.null())),
    ],
)
def test_wrong_type(catalog, root, column):
    """A column of a type that the row does not take is refused by its name."""
    name, array = column
    with pytest.raises(InvalidInputError, match=name):
        catalog.create_result_tables(batch(SMALL, **{name: array}))
    assert not root.exists()


@pytest.mark.parametrize("name", ["table_name", "source_id", "model_id", "task", "parquet_path"])
def test_missing_column(catalog, root, name):
    """Every required column must be there."""
    with pytest.raises(InvalidInputError, match=rf"missing columns \['{name}'\]"):
        catalog.create_result_tables(batch(SMALL).drop_columns(name))
    assert not root.exists()


@pytest.mark.parametrize("name", ["status", "tenant_id", "seq", "row_count", "typo"])
def test_unknown_column(catalog, root, name):
    """A column that is no argument is refused: a batch cannot choose its state or tenant."""
    table = batch(SMALL).append_column(name, pa.array(["x"] * SMALL))
    with pytest.raises(InvalidInputError, match=rf"unknown columns \['{name}'\]"):
        catalog.create_result_tables(table)
    assert not root.exists()


def test_column_twice(catalog, root):
    """A table with two columns of one name is refused, not guessed at."""
    table = batch(SMALL)
    with pytest.raises(InvalidInputError, match="task"):
        catalog.create_result_tables(table.append_column("task", table["task"]))
    assert not root.exists()


@pytest.mark.parametrize("given", [None, 5, "rows", [1, 2], object()])
def test_no_table(catalog, root, given):
    """What does not speak Arrow is refused."""
    with pytest.raises(InvalidInputError, match=r"Arrow|pyarrow"):
        catalog.create_result_tables(given)
    assert not root.exists()


@pytest.mark.parametrize("taken", ["inline", "segment"])
def test_taken_name(catalog, root, count, taken):
    """`B057`: one taken name refuses the whole batch, wherever the row that has it lies."""
    if taken == "segment":
        catalog.create_result_tables(rows(*(f"x{index}" for index in range(LARGE))))
    catalog.create_result_table(**row("x3") if taken == "inline" else row("y"))
    before = listing(root)
    with pytest.raises(AlreadyExistsError, match="'x3'"):
        catalog.create_result_tables(with_last(count, "table_name", "x3"))
    assert listing(root) == before


def test_taken_by_a_stranger(catalog, count):
    """`B058`: a name that another tenant has is taken, for a batch as well."""
    catalog.pinned_to_tenant(BETA).create_result_table(**row("t0001"))
    with pytest.raises(AlreadyExistsError, match="'t0001'"):
        catalog.pinned_to_tenant(ACME).create_result_tables(batch(count))
    assert catalog.as_admin().scan().num_rows == 1


def test_deleted_names_are_free(catalog, count):
    """Names deleted before may come again, whether their tombstones are inline or in a segment."""
    for _ in range(3):
        assert catalog.create_result_tables(batch(count)) == count
        assert len(catalog.delete_result_tables_for_source("docs")) == count
    catalog.create_result_tables(batch(count))
    assert again(catalog).scan().num_rows == count
    assert len(again(catalog).list_result_tables_by_status("building")) == count


@pytest.mark.parametrize("parent", ["absent", "hidden"])
def test_parents(catalog, count, parent):
    """`B061`, `B062`: a parent is a visible row or one of the batch; else nothing is inserted."""
    catalog.pinned_to_tenant(BETA).create_result_table(**row("hidden"))
    catalog.create_result_table(**row("there"))
    with pytest.raises(TableNotFoundError, match=f"^Result table '{parent}' not found$"):
        catalog.create_result_tables(with_last(count, "derived_from", parent))
    assert catalog.scan().num_rows == 1
    parents = ["there", "t0000", *[None] * (count - 2)]
    catalog.create_result_tables(batch(count, derived_from=parents))
    assert catalog.get_result_table("t0001").derived_from == "t0000"


@pytest.mark.parametrize("parents", [["t0000"], ["t0001", "t0000"]])
def test_parents_in_a_circle(catalog, parents):
    """`B026`, `B061`: no row of a batch derives from itself, at first or second hand."""
    table = batch(len(parents), derived_from=parents)
    with pytest.raises((InvalidInputError, TableNotFoundError)):
        catalog.create_result_tables(table)


def test_paths_are_located(catalog, root, count):
    """`B055`: paths under the root become relative in a batch as well."""
    paths = [f"{root}/a/{index}.parquet" for index in range(count - 1)]
    catalog.create_result_tables(batch(count, parquet_path=[*paths, "s3://other/t.parquet"]))
    assert catalog.get_result_table("t0000").parquet_path == "a/0.parquet"
    last = catalog.get_result_table(f"t{count - 1:04}")
    assert last.parquet_path == "s3://other/t.parquet"


class Exporter:
    """Speaks the Arrow PyCapsule interface and nothing else."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


FORMS = {
    "capsule": Exporter,
    "batch": lambda table: table.combine_chunks().to_batches()[0],
    "reader": lambda table: table.to_reader(max_chunksize=2),
    "chunks": lambda table: pa.concat_tables([table.slice(0, 3), table.slice(3)]),
    "slice": lambda table: pa.concat_tables([table, table]).slice(table.num_rows, table.num_rows),
    "dictionaries": lambda table: pa.table(
        {name: table[name].dictionary_encode() for name in table.column_names}
    ),
    "large strings": lambda table: table.cast(
        pa.schema([(name, pa.large_string()) for name in table.column_names])
    ),
    "views": lambda table: table.cast(
        pa.schema([(name, pa.string_view()) for name in table.column_names])
    ),
    "reordered": lambda table: table.select(table.column_names[::-1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrow_in_every_form(catalog, count, form):
    """Any Arrow form of the columns will do: chunked, sliced, encoded, streamed, reordered."""
    assert catalog.create_result_tables(FORMS[form](batch(count))) == count
    found = sorted(again(catalog).scan(columns=["table_name"])[0].to_pylist())
    assert found == [f"t{index:04}" for index in range(count)]


def test_empty_batch(catalog, root):
    """No rows are no version, and a wrong table is refused even if it is empty."""
    assert catalog.create_result_tables(batch(SMALL).slice(0, 0)) == 0
    assert not root.exists()
    with pytest.raises(InvalidInputError):
        catalog.create_result_tables(pa.table({"table_name": pa.array([], pa.string())}))


def test_unsorted_batch(catalog):
    """The order of the batch does not matter for finding its rows."""
    names = [f"n{index * 7919 % 1000:03}" for index in range(1000)]
    catalog.create_result_tables(rows(*names))
    opened = again(catalog)
    assert all(opened.get_result_table(name).table_name == name for name in names[::37])
    by_age = [r.table_name for r in opened.find_result_tables("docs")]
    assert by_age == names


def test_rows_too_large_for_a_manifest(catalog, monkeypatch):
    """A few huge rows become a segment: no commit makes a manifest that readers would refuse."""
    monkeypatch.setattr(manifest, "INLINE_BYTES", 30_000)
    monkeypatch.setattr(manifest, "MAX_MANIFEST_BYTES", 60_000)
    for number in range(4):
        huge = {"text": random.Random(number).randbytes(20_000).hex()}
        catalog.create_result_table(**row(f"t{number}", properties=huge))
        assert again(catalog).get_result_table(f"t{number}").properties == huge
    catalog.create_result_table(**row("small"))
    sizes = [catalog.storage.size(key_of(number)) for number in range(1, 6)]
    assert max(sizes) < manifest.INLINE_BYTES
    assert catalog.storage.list(SEGMENTS) != []
    assert len(again(catalog).list_result_tables_by_status("building")) == 5
