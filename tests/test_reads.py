"""The reads of the catalog: get, list, find, by definition, anchored on, resolve, scan, damage."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import shrink_runs
from support.graphs import adopt, result
from support.results import row, rows
from support.scopes import ACME, BETA

from jammi_files import (
    Catalog,
    FormatError,
    InputAnchor,
    InvalidInputError,
    ModelTask,
    ResultTableStatus,
    TableNotFoundError,
    connect,
    manifest,
)
from jammi_files.log import key_of
from jammi_files.schema import LOW_CARDINALITY, SCHEMA

ODD_NAMES = [
    "100%",
    "a_c",
    "abc",
    "a\\c",
    'a"c',
    "a\x01c",
    "Docs",
    "docs",
    "日本",
    "a'c",
    "\U0001f600",
]


def create(catalog, name, **also):
    return catalog.create_result_table(**row(name, **also))


def make_ready(catalog, name, anchors=(), definition="hash", **also):
    create(catalog, name, **also)
    return catalog.promote_result_table_with_manifest(name, 1, definition, list(anchors))


def fail(catalog, name):
    return catalog.update_result_table_status(name, "failed", 0)


def again(catalog):
    return Catalog.open(catalog.storage.root, durability="os")


def names(records):
    return [record.table_name for record in records]


@pytest.fixture(params=["inline", "segments"])
def stored(request, monkeypatch):
    """Run a test twice: with its rows in the manifest, and with most of them in segments."""
    if request.param == "segments":
        shrink_runs(monkeypatch)


# --- get


@pytest.mark.parametrize("status", ["building", "ready", "failed"])
def test_get(catalog, status):
    """`B092`, `B094`: get returns the row in any state."""
    create(catalog, "t")
    catalog.update_result_table_status("t", status, 1)
    assert again(catalog).get_result_table("t").status == status


@pytest.mark.parametrize("name", ["absent", "", "\ud800", "T", "t ", "../t", "t\0"])
def test_get_unknown(catalog, name):
    """`B092`, `B096`: a name that no row has exactly is None, no error."""
    catalog.create_result_tables(rows("t", *(f"x{i}" for i in range(200))))
    assert catalog.get_result_table(name) is None
    assert again(catalog).get_result_table(name) is None


# --- list


@pytest.mark.usefixtures("stored")
def test_list_by_status(catalog):
    """`B097`, `B101`: each state lists its rows, oldest first, whatever their names."""
    order = ["z", "m", "a", "q", "b", "y", "c"]
    for name in order:
        create(catalog, name)
    for name in order[::3]:
        catalog.update_result_table_status(name, "ready", 1)
    catalog.update_result_table_status("z", "failed", 0)
    for opened in (catalog, again(catalog)):
        assert names(opened.list_result_tables_by_status("building")) == ["m", "a", "b", "y"]
        assert names(opened.list_result_tables_by_status("ready")) == ["q", "c"]
        assert names(opened.list_result_tables_by_status(ResultTableStatus.FAILED)) == ["z"]


def test_ties(catalog):
    """`B098`: rows of one instant are ordered by name."""
    record = create(catalog, "first")
    twins = [dataclasses.replace(record, table_name=name) for name in ("c", "a", "b")]
    catalog.adopt_result_tables(twins)
    listed = names(catalog.list_result_tables_by_status("building"))
    assert listed == ["a", "b", "c", "first"]
    assert names(catalog.find_result_tables("docs", newest_first=True)) == listed[::-1]


@pytest.mark.parametrize("status", ResultTableStatus)
def test_empty_catalog(catalog, root, status):
    """`B100`: an empty catalog answers every question with nothing, and stays unwritten."""
    assert catalog.list_result_tables_by_status(status) == []
    assert catalog.find_result_tables("docs", status=status) == []
    assert catalog.find_ready_result_tables_by_definition("h") == []
    assert catalog.find_ready_result_tables_anchored_on("docs") == []
    assert catalog.scan().num_rows == 0
    assert catalog.scan().schema == SCHEMA
    assert (catalog.version, catalog.history(), catalog.damaged()) == (0, [], [])
    assert not root.exists()


@pytest.mark.parametrize("bad", ["Ready", " ready", "", "done", None, 3, []])
def test_unknown_status(catalog, bad):
    """`B002`, `B010`: a status that is none is refused with its text."""
    with pytest.raises(InvalidInputError, match=r"^Unknown result table status: "):
        catalog.list_result_tables_by_status(bad)


# --- find


@pytest.mark.usefixtures("stored")
def test_find(catalog):
    """`B102`, `B103`, `B105`: task and model narrow the source's rows exactly, in any state."""
    given = [
        ("a", "docs", "ner", "org/m:1"),
        ("b", "docs", "ner", "org_m_1"),
        ("c", "docs", "regression", "org/m:1"),
        ("d", "Docs", "ner", "org/m:1"),
        ("e", "docs", "ner", "org/m:1"),
    ]
    for name, source, task, model in given:
        create(catalog, name, source_id=source, task=task, model_id=model)
    fail(catalog, "a")
    for opened in (catalog, again(catalog)):
        find = opened.find_result_tables
        assert names(find("docs")) == ["a", "b", "c", "e"]
        assert names(find("docs", "ner")) == ["a", "b", "e"]
        assert names(find("docs", None, "org/m:1")) == ["a", "c", "e"]
        assert names(find("docs", ModelTask.NER, "org/m:1")) == ["a", "e"]
        assert find("docs", "ner", "org/m") == find("doc") == find("docs\0") == []


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"kind": "neighbor_graph"}, "b"),
        ({"status": "failed"}, "c"),
        ({"status": "building", "kind": "model"}, "adef"),
        ({"key_column": "id"}, "d"),
        ({"text_columns": ["x", "y"]}, "e"),
        ({"text_columns": ("y", "x")}, ""),
        ({"text_columns": []}, "f"),
        ({"newest_first": True}, "fedcba"),
        ({"limit": 2}, "ab"),
        ({"limit": 2, "newest_first": True}, "fe"),
        ({"limit": 0}, ""),
        ({"limit": 99, "model_id": "other"}, ""),
        ({"status": "building", "limit": 1}, "a"),
    ],
)
def test_find_filters(catalog, filters, found):
    """`B106`: every further filter must hold; the limit counts after filters and order."""
    create(catalog, "a")
    create(catalog, "b", kind="neighbor_graph")
    create(catalog, "c")
    fail(catalog, "c")
    create(catalog, "d", key_column="id")
    create(catalog, "e", text_columns=["x", "y"])
    create(catalog, "f", text_columns=[])
    assert "".join(names(catalog.find_result_tables("docs", **filters))) == found


def test_find_by_time(catalog):
    """`B106`: both bounds are exclusive instants, as text or as a datetime with its zone."""
    at = [create(catalog, name).created_at for name in "abc"]
    find = catalog.find_result_tables
    assert names(find("docs", created_after=at[0])) == ["b", "c"]
    assert names(find("docs", created_before=at[2])) == ["a", "b"]
    assert names(find("docs", created_after=at[0], created_before=at[2])) == ["b"]
    assert find("docs", created_after=at[1], created_before=at[1]) == []
    moment = dt.datetime.fromisoformat(at[0]).astimezone(dt.timezone(dt.timedelta(hours=5)))
    assert len(find("docs", created_after=moment - dt.timedelta(seconds=1))) == 3
    assert find("docs", created_before=moment - dt.timedelta(seconds=1)) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"task": "NER"},
        {"kind": "graph"},
        {"status": "done"},
        {"limit": -1},
        {"limit": 1.5},
        {"limit": True},
        {"created_after": "yesterday"},
        {"created_before": dt.datetime(2026, 1, 1)},  # noqa: DTZ001 - naive on purpose
        {"created_after": 5},
        {"text_columns": "ab"},
        {"model_id": 5},
        {"key_column": 5},
    ],
)
def test_find_refuses(catalog, bad):
    """`B106`: a filter that can never hold is an error, not an empty answer."""
    with pytest.raises(InvalidInputError):
        catalog.find_result_tables("docs", **bad)


# --- find ready by definition


@pytest.mark.usefixtures("stored")
def test_find_by_definition(catalog):
    """`B107` to `B111`: all ready rows of a hash, newest first; no other state, no NULL."""
    for name in ("z", "a", "m"):
        make_ready(catalog, name, [InputAnchor.mutable_version("docs", ord(name))])
    make_ready(catalog, "failed")
    fail(catalog, "failed")
    make_ready(catalog, "other", definition="HASH")
    create(catalog, "building")
    create(catalog, "bare")
    catalog.update_result_table_status("bare", "ready", 1)
    for opened in (catalog, again(catalog)):
        assert names(opened.find_ready_result_tables_by_definition("hash")) == ["m", "a", "z"]
        assert opened.find_ready_result_tables_by_definition("has") == []
        assert opened.find_ready_result_tables_by_definition("None") == []


def test_newest_of_a_definition_first(store):
    """`B108`: newest first by creation, then by name from the end; the promotion does not count."""
    rows = [
        result(name, created_at=instant) for name, instant in zip("bcda", INSTANTS, strict=True)
    ]
    adopt(store, rows)
    found = store.catalog.find_ready_result_tables_by_definition(rows[0].definition_hash)
    assert names(found) == ["a", "d", "c", "b"]


INSTANTS = [f"2026-01-01T00:00:00.00000000{nanosecond}Z" for nanosecond in (1, 2, 2, 3)]


def test_rows_without_a_definition(store):
    """`B110`: a ready row without a hash is found by no text, whichever way it came to be."""
    adopt(store, [result("bare", definition_hash=None, input_anchors=None), result("good")])
    store.catalog.create_result_table(**row("updated"))
    store.catalog.update_result_table_status("updated", "ready", 1)
    for text in ("None", "null", "NULL", "bare", "updated", "nan"):
        assert store.catalog.find_ready_result_tables_by_definition(text) == []
    [found] = store.catalog.find_ready_result_tables_by_definition("0" * 64)
    assert found.table_name == "good"
    with pytest.raises(InvalidInputError):
        store.catalog.find_ready_result_tables_by_definition(None)


# --- find ready anchored on


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("source", ODD_NAMES)
def test_anchored_on(catalog, source):
    """`B128` to `B130`: the source is compared exactly with decoded anchors, byte for byte."""
    for name in ODD_NAMES:
        make_ready(catalog, f"on {ODD_NAMES.index(name)}", [InputAnchor.mutable_version(name, 1)])
    for opened in (catalog, again(catalog)):
        found = opened.find_ready_result_tables_anchored_on(source)
        assert names(found) == [f"on {ODD_NAMES.index(source)}"]


@pytest.mark.usefixtures("stored")
def test_anchored_on_several(catalog):
    """`B128`: a row comes once however many of its anchors match; oldest first, ready only."""
    docs = [InputAnchor.mutable_version("docs", 1), InputAnchor.mutable_version("docs", 2)]
    for name in "zab":
        make_ready(catalog, name, [InputAnchor.source_version("x", "1"), *docs])
    make_ready(catalog, "failed", docs)
    fail(catalog, "failed")
    make_ready(catalog, "none")
    for opened in (catalog, again(catalog)):
        assert names(opened.find_ready_result_tables_anchored_on("docs")) == ["z", "a", "b"]
        assert opened.find_ready_result_tables_anchored_on("nothing") == []


# --- resolve


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("task", [task for task in ModelTask if task.is_embedding])
def test_resolve(catalog, task):
    """`B152` to `B155`: the newest ready model embedding wins, never the greatest name."""
    make_ready(catalog, "zzz_model", task=task)
    make_ready(catalog, "aaa_model", task=task)
    make_ready(catalog, "deleted", task=task)
    catalog.delete_result_table("deleted")
    make_ready(catalog, "graph", task=task, kind="neighbor_graph")
    make_ready(catalog, "join", task=task, kind="asof_join")
    make_ready(catalog, "other task", task="classification")
    make_ready(catalog, "other source", task=task, source_id="Docs")
    create(catalog, "building", task=task)
    make_ready(catalog, "failed", task=task)
    fail(catalog, "failed")
    for opened in (catalog, again(catalog)):
        assert opened.resolve_embedding_table("docs").table_name == "aaa_model"


def test_resolve_never_gives_a_deleted_row(catalog, monkeypatch):
    """`B152`: a deleted embedding does not come back when its tombstone moves into a segment."""
    shrink_runs(monkeypatch)
    monkeypatch.setattr(manifest, "FAN_OUT", 99)
    make_ready(catalog, "gone", task="text_embedding")
    catalog.delete_result_table("gone")
    catalog.create_result_tables(rows(*(f"t{index}" for index in range(4))))
    for opened in (catalog, again(catalog)):
        with pytest.raises(TableNotFoundError):
            opened.resolve_embedding_table("docs")


def test_resolve_ties(catalog):
    """`B153`: of one instant the greatest name wins."""
    record = make_ready(catalog, "m", task="text_embedding")
    catalog.adopt_result_tables([dataclasses.replace(record, table_name=n) for n in ("a", "z")])
    assert catalog.resolve_embedding_table("docs").table_name == "z"


def test_resolve_nothing(catalog):
    """`B156`: no candidate is an error that names the source."""
    make_ready(catalog, "t")
    with pytest.raises(TableNotFoundError, match=r"^No ready embedding table for source 'docs'$"):
        catalog.resolve_embedding_table("docs")


def test_resolve_over_tenants(catalog):
    """`B160`: own and GLOBAL rows compete by age; another tenant's never takes part."""
    acme = catalog.pinned_to_tenant(ACME)
    make_ready(acme, "own", task="text_embedding")
    make_ready(catalog, "global", task="text_embedding")
    make_ready(catalog.pinned_to_tenant(BETA), "hidden", task="text_embedding")
    assert acme.resolve_embedding_table("docs").table_name == "global"
    make_ready(acme, "own again", task="text_embedding")
    assert acme.resolve_embedding_table("docs").table_name == "own again"
    assert catalog.resolve_embedding_table("docs").table_name == "global"
    assert catalog.as_admin().resolve_embedding_table("docs").table_name == "own again"


def test_resolve_by_name(catalog):
    """`B157`, `B158`: a named table must exist, be ready and be of the source."""
    make_ready(catalog, "graph", kind="neighbor_graph")
    create(catalog, "building")
    assert catalog.resolve_embedding_table("docs", "graph").table_name == "graph"
    with pytest.raises(TableNotFoundError, match=r"^Result table 'absent' not found$"):
        catalog.resolve_embedding_table("docs", "absent")
    with pytest.raises(InvalidInputError, match="'building' is building, not ready"):
        catalog.resolve_embedding_table("docs", "building")
    with pytest.raises(InvalidInputError, match="belongs to source 'docs', not 'Docs'"):
        catalog.resolve_embedding_table("Docs", "graph")


def test_resolve_narrowed(catalog):
    """`B159`: task, model and the exclusion of derivations narrow the candidates."""
    make_ready(catalog, "text", task="text_embedding", model_id="a")
    make_ready(catalog, "image", task="image_embedding", model_id="b")
    make_ready(catalog, "propagated", task="text_embedding", derived_from="text", model_id="g")
    resolve = catalog.resolve_embedding_table
    assert resolve("docs").table_name == "propagated"
    assert resolve("docs", exclude_derived=True).table_name == "image"
    assert resolve("docs", task="text_embedding", exclude_derived=True).table_name == "text"
    assert resolve("docs", model_id="a").table_name == "text"
    with pytest.raises(TableNotFoundError):
        resolve("docs", model_id="b", task="text_embedding")


# --- scan


@pytest.mark.usefixtures("stored")
def test_scan(catalog):
    """The scan is all visible rows in the columns of the schema, filtered and chosen by Arrow."""
    for index in range(12):
        create(catalog, f"t{index:02}", dimensions=index + 1)
    catalog.delete_result_table("t05")
    create(catalog.pinned_to_tenant(ACME), "hidden", dimensions=1)
    assert catalog.scan().schema == SCHEMA
    assert catalog.scan().num_rows == 11
    big = catalog.scan(pc.field("dimensions") > 10, ["dimensions", "table_name"])
    assert big.column_names == ["dimensions", "table_name"]
    assert sorted(big["table_name"].to_pylist()) == ["t10", "t11"]
    assert catalog.scan(pc.field("source_id") == "docs").num_rows == 11
    assert catalog.scan(pc.field("tenant_id").is_valid()).num_rows == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"columns": ["nothing"]},
        {"columns": ["seq"]},
        {"filter": pc.field("deleted")},
        {"filter": pc.field("row_count") == "x"},
        {"filter": "row_count > 3"},
    ],
)
def test_scan_refuses(catalog, bad):
    """A filter or column that does not fit the schema is refused with the list of columns."""
    create(catalog, "t")
    with pytest.raises(InvalidInputError, match="table_name, source_id"):
        catalog.scan(**bad)


def test_scan_as_capsule(catalog):
    """The catalog itself speaks the Arrow PyCapsule interface, scoped like every read (`B174`)."""
    create(catalog, "t")
    create(catalog.pinned_to_tenant(ACME), "hidden")
    table = pa.table(catalog)
    assert table == catalog.scan()
    assert pa.table(catalog.snapshot(0)).num_rows == 0
    assert pa.RecordBatchReader.from_stream(catalog.as_admin()).read_all().num_rows == 2


# --- damage


DAMAGE = {
    "task": ("translation", "Unknown model task 'translation'"),
    "kind": ("view", "Unknown result-table kind 'view'"),
    "status": ("paused", "Unknown result table status: 'paused'"),
    "input_anchors": (
        [{"source": "docs", "anchor": "1", "kind": "guessed"}],
        "Unknown anchor kind 'guessed'",
    ),
}


def damage(catalog, column):
    """Write a version in which the row ``bad`` holds a value that no library of ours writes."""
    make_ready(catalog, "bad", [InputAnchor.mutable_version("docs", 1)], task="text_embedding")
    version = catalog.version
    data = catalog.storage.read(key_of(version))
    header, table, stored_rows = manifest.decode_manifest("", data)
    at = table.schema.get_field_index(column)
    values = table.column(at).to_pylist()
    bad = [r.record.table_name for r in stored_rows].index("bad")
    values[bad] = DAMAGE[column][0]
    table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.types[at]))
    seqs = [version + 1 if at == bad else r.seq for at, r in enumerate(stored_rows)]
    at = table.schema.get_field_index("seq")
    table = table.set_column(at, table.schema.field(at), pa.array(seqs))
    header = dataclasses.replace(header, version=version + 1, commit_id="f" * 32)
    catalog.storage.create(key_of(version + 1), manifest.encode_manifest(header, table))


@pytest.fixture(params=DAMAGE)
def damaged(request, catalog, monkeypatch):
    """Return a catalog with a sound row on either side of a damaged one, and what it says of it."""
    make_ready(catalog, "before", [InputAnchor.mutable_version("docs", 1)], task="text_embedding")
    damage(catalog, request.param)
    make_ready(catalog, "after", [InputAnchor.mutable_version("docs", 1)], task="text_embedding")
    shrink_runs(monkeypatch)
    return catalog, request.param, DAMAGE[request.param][1]


def check_others(catalog, caplog):
    with caplog.at_level(logging.WARNING, "jammi_files"):
        ready = [n for n in names(catalog.list_result_tables_by_status("ready")) if n[0] in "ab"]
        assert ready == ["before", "after"]
        assert {"before", "after"} <= set(names(catalog.find_result_tables("docs")))
        anchored = names(catalog.find_ready_result_tables_anchored_on("docs"))
        assert {"before", "after"} <= set(anchored) <= {"before", "after"} | set(NEW)
        catalog.find_ready_result_tables_by_definition("hash")
        catalog.resolve_embedding_table("docs")
    assert catalog.get_result_table("before").is_ready
    assert "bad" in catalog.scan(columns=["table_name"])[0].to_pylist()


NEW = [f"new{index}" for index in range(12)]


def test_damaged_row_is_named(damaged):
    """`B037`: reading a row with an unknown value is a typed error that names column and value."""
    catalog, column, text = damaged
    for opened in (catalog, again(catalog)):
        with pytest.raises(FormatError, match=f"'bad', column {column}: {text}"):
            opened.get_result_table("bad")
        with pytest.raises(FormatError, match=text):
            opened.fail_result_table("bad", "why")
        with pytest.raises(FormatError, match=text):
            opened.resolve_embedding_table("docs", "bad")


def test_damaged_row_is_listed(damaged):
    """`B037`, `B260`: the rows that other reads leave out can be asked for; nothing is hidden."""
    catalog, _, _ = damaged
    assert names(catalog.damaged()) == ["bad"]
    assert names(again(catalog).damaged()) == ["bad"]


def test_damaged_row_is_alone(damaged, caplog):
    """`B037`: only the damaged row is left out of answers, and the log says why."""
    catalog, _, text = damaged
    check_others(catalog, caplog)
    assert text in caplog.text
    check_others(again(catalog), caplog)


def test_damaged_row_survives_rewrites(damaged, caplog):
    """`B037`: commits, flushes and merges go on and carry the odd value along unchanged."""
    catalog, column, _ = damaged
    before = catalog.scan(pc.field("table_name") == "bad")
    for name in NEW:
        make_ready(catalog, name)
    check_others(catalog, caplog)
    for opened in (catalog, again(catalog)):
        assert opened.scan(pc.field("table_name") == "bad", [column]) == before.select([column])
    catalog.compact()
    check_others(again(catalog), caplog)


def test_damaged_row_in_changes(damaged):
    """`B037`: changes and history, which show rows as they are, show this one too."""
    catalog, _, _ = damaged
    assert "bad" in catalog.changes(0)["table_name"].to_pylist()
    assert any("bad" in commit.tables for commit in catalog.history())


def test_damaged_row_can_be_deleted(damaged):
    """`B037`: the way out of damage is to delete the row."""
    catalog, _, _ = damaged
    assert names(catalog.delete_result_table("bad")) == ["bad"]
    assert again(catalog).damaged() == []
    create(catalog, "bad")


def test_damaged_row_prints(damaged):
    """`B037`: whoever shows rows can show this one."""
    catalog, column, _ = damaged
    (record,) = catalog.snapshot().damaged()
    assert repr(record)
    assert record.to_dict()[column] == DAMAGE[column][0]
    assert record.input_anchors_json


def test_low_cardinality_columns_stay_plain(catalog):
    """The scan's columns have plain types however segments keep them."""
    catalog.create_result_tables(rows(*(f"t{index}" for index in range(300))))
    scan = again(catalog).scan()
    assert all(scan.schema.field(name).type == pa.string() for name in LOW_CARDINALITY)


def test_memory_root():
    """Every read works on ``memory://``, where nothing is a file."""
    catalog = connect("memory://test-reads").catalog
    make_ready(catalog, "t", [InputAnchor.mutable_version("docs", 1)], task="text_embedding")
    other = Catalog.open("memory://test-reads")
    assert other.resolve_embedding_table("docs") == catalog.get_result_table("t")
    catalog.delete_result_table("t")
