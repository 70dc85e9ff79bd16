"""Hostile bytes, names and places: each ends in a value or a typed error, within bounds.

`tests/fuzz.py` lets a coverage-guided fuzzer look for more; here its seeds and some thousand
mutations of them are played, the same ones every time.
"""

from __future__ import annotations

import contextlib
import io
import sqlite3
import unicodedata
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import hostile
from support.hostile import TARGETS, Escaped, Keeper, Target, mutations
from support.results import build, row
from support.stored import record

from jammi_files import (
    AlreadyExistsError,
    FormatError,
    InvalidInputError,
    JammiFilesError,
    Match,
    MaterializationManifest,
    Mismatch,
    StorageError,
    connect,
    lease,
    manifest,
    root_format,
    strict_json,
)
from jammi_files.interop import import_jammi
from jammi_files.rows import Row, table_of
from jammi_files.validation import LONGEST_TABLE_NAME

COUNTS = {
    "manifest": 400,
    "segment": 400,
    "parts": 400,
    "header": 200,
    "root": 60,
    "sidecar": 1000,
    "signature": 600,
    "format": 1500,
    "lease": 1000,
    "plan": 800,
    "import": 150,
    "cli": 80,
}


@pytest.fixture
def keeper(request):
    """Return what holds a target to its contract."""
    made = Keeper(request.param)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("keeper", "count"), COUNTS.items(), indirect=["keeper"], ids=COUNTS.keys()
)
def test_mutations(keeper, count):
    """Whatever is done to bytes that are read, the reader answers or refuses, and stays inside."""
    for data in (*keeper.seeds, *mutations(keeper.seeds, count, seed=5)):
        keeper.feed(data)


def test_every_target_is_played():
    """What the fuzzer plays at night is played here too."""
    assert COUNTS.keys() == TARGETS.keys()


def _broken(run):
    return Target(lambda: [b"seed"], run)


@pytest.mark.parametrize(
    ("run", "error"),
    [
        (lambda *_: {}["key"], KeyError),
        (lambda _, scratch: (scratch.parents[1] / "out.txt").write_bytes(b""), Escaped),
        (lambda _, scratch: scratch.rename(scratch.parents[1] / "moved"), Escaped),
        (lambda *_: pa.allocate_buffer(80 << 20), AssertionError),
    ],
    ids=["another exception", "a file outside", "moved out", "too much memory"],
)
def test_the_contract_can_be_broken(monkeypatch, run, error):
    """The checks above see each of the things that they are there for."""
    monkeypatch.setattr(hostile, "MOST_MEMORY", 64 << 20)
    POOLS.append(pa.proxy_memory_pool(POOL))
    monkeypatch.setattr(hostile, "_watched_pool", lambda: POOLS[-1])
    monkeypatch.setitem(TARGETS, "broken", _broken(run))
    keeper = Keeper("broken")
    with pytest.raises(error):
        keeper.feed(b"data")
    keeper.close()


POOL = pa.system_memory_pool()


# --- manifests that ask for too much


def table_of_names(count: int) -> pa.Table:
    return table_of([Row(record(f"t{each:05}", each), each) for each in range(1, count + 1)])


def encoded(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


SAID = manifest.header_to_json(manifest.Header(1, "a" * 32, "create", 10**18, "host:1"))
"""The JSON of a manifest."""

POOLS: list[pa.MemoryPool] = []
"""Pools outlive what was allocated from them."""


def bomb(table: pa.Table, **options) -> bytes:
    """Return a file that is a manifest and a segment of these rows."""
    return encoded(table.replace_schema_metadata({b"jammi_files": SAID}), **options)


def test_more_rows_than_a_manifest_may_have():
    """A manifest of a hundred thousand rows is refused by its footer."""
    data = bomb(table_of_names(1).take(pa.array([0] * 70_000)), compression="zstd")
    with pytest.raises(FormatError, match="has 70000 rows"):
        manifest.decode_manifest("key", data)


@pytest.mark.parametrize("said", [b" " * (5 << 20), b"[" * 100_000, b'{"a":' * 5000])
def test_json_of_a_manifest(said):
    """JSON that is too long or nested too deep is refused, not decoded or recursed into."""
    table = table_of_names(1).replace_schema_metadata({b"jammi_files": said})
    with pytest.raises(FormatError, match="is no manifest"):
        manifest.decode_manifest("key", encoded(table))


# --- JSON


DEEP = [b"[" * 60_000, b'{"a":' * 12_000, b"[" * 70 + b"]" * 70]


@pytest.mark.parametrize("data", DEEP)
@pytest.mark.parametrize(
    "read",
    [
        MaterializationManifest.from_json_bytes,
        lambda data: root_format.decode("where", data),
        lambda data: lease.BuildState.from_json_bytes("key", data),
    ],
    ids=["sidecar", "format", "lease"],
)
def test_deep_json(read, data):
    """Nesting is refused by every reader of JSON."""
    with pytest.raises(FormatError):
        read(data)


def test_many_values_in_few_bytes():
    """A text whose values would take a hundred times its bytes is refused before it is decoded."""
    with pytest.raises(FormatError, match="commas"):
        strict_json.loads(b"[" + b"[]," * strict_json.MAX_COMMAS + b"[],[]]")
    with pytest.raises(InvalidInputError, match="commas"):
        strict_json.pretty_json([0] * (strict_json.MAX_COMMAS + 2))
    allowed = [0] * (strict_json.MAX_COMMAS - 1)
    assert strict_json.loads(strict_json.pretty_json(allowed)) == allowed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("checkpoint", "3"),
        ("checkpoint", -1),
        ("checkpoint", True),
        ("table_name", 3),
        ("owner", []),
        ("host", None),
        ("process_start", 1),
        ("pid", "1"),
        ("pid", 1.5),
        ("expires_at", 2**63),
        ("expires_at", False),
    ],
)
def test_build_state_of_other_types(field, value):
    """What a build state says is checked field by field: recovery computes with it."""
    state = orjson.loads(lease.BuildState("t", lease.new_lease(), 3).to_json_bytes())
    (state if field in state else state["lease"])[field] = value
    with pytest.raises(FormatError, match="build state 'key' is damaged"):
        lease.BuildState.from_json_bytes("key", orjson.dumps(state))


# --- a catalog.db that is a program

ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS table_name FROM n"
)
PROGRAMS = {
    "view": f"CREATE VIEW result_tables AS {ENDLESS}",
    "virtual table": "CREATE VIRTUAL TABLE result_tables USING fts5(table_name)",
    "generated column": "CREATE TABLE result_tables (table_name TEXT, task TEXT"
    " GENERATED ALWAYS AS (hex(zeroblob(100000000))) VIRTUAL);"
    "INSERT INTO result_tables (table_name) VALUES ('t')",
    "short generated column": "CREATE TABLE result_tables (table_name TEXT, task TEXT"
    " GENERATED ALWAYS AS ('ner') STORED); INSERT INTO result_tables (table_name) VALUES ('t')",
    "other name": "CREATE TABLE others (table_name TEXT)",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_catalog_that_is_a_program(store, tmp_path, program):
    """Only a plain table is read: a view or a computed column could go on for ever."""
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as db:
        db.executescript(PROGRAMS[program])
    with pytest.raises(FormatError, match="catalog"):
        import_jammi(tmp_path, store)


def test_catalog_of_another_shape(store, tmp_path):
    """A row that lacks a column is named with what it lacks; nothing else is raised."""
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as db, db:
        db.execute("CREATE TABLE result_tables (table_name TEXT, status TEXT)")
        db.execute("INSERT INTO result_tables VALUES ('t', 'ready')")
    report = import_jammi(tmp_path, store)
    assert [each.problem for each in report.skipped] == ["column 'created_at' is missing"]


def test_catalog_with_a_column_that_is_no_text(store, tmp_path):
    """A column whose name is no UTF-8 is none that is read; the program does not fail."""
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as db, db:
        db.execute("CREATE TABLE result_tables (table_name TEXT, column_xx TEXT)")
        db.execute("INSERT INTO result_tables VALUES ('t', 'x')")
    path = tmp_path / "catalog.db"
    path.write_bytes(path.read_bytes().replace(b"column_xx", b"column_\x96\xff"))
    assert [each.table_name for each in import_jammi(tmp_path, store).skipped] == ["t"]


@pytest.mark.parametrize("count", [101, 2000])
def test_catalog_of_many_columns(store, tmp_path, count):
    """A table far wider than the engine's is refused before a row of it is read."""
    columns = ", ".join(f"c{number}" for number in range(count - 1))
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as db, db:
        db.execute(f"CREATE TABLE result_tables (table_name TEXT, {columns})")
        db.execute("INSERT INTO result_tables (table_name) VALUES ('t')")
    with pytest.raises(FormatError, match=f"{count} columns"):
        import_jammi(tmp_path, store)


def test_catalog_with_columns_of_its_own(store, tmp_path):
    """Columns that no result has are not read, and a table without any that it has is none."""
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as db, db:
        db.execute("CREATE TABLE result_tables (mine TEXT)")
        db.execute("INSERT INTO result_tables VALUES (zeroblob(20000000))")
    with pytest.raises(FormatError, match="no column of a result"):
        import_jammi(tmp_path, store)
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as db, db:
        db.execute("ALTER TABLE result_tables ADD COLUMN table_name TEXT DEFAULT 't'")
    assert [each.table_name for each in import_jammi(tmp_path, store).skipped] == ["t"]


def test_catalog_of_too_much_text(store, tmp_path, monkeypatch):
    """Rows are counted as they are read."""
    monkeypatch.setattr("jammi_files.jammi_rows._MOST_TEXT", 1000)
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as db, db:
        db.execute("CREATE TABLE result_tables (table_name TEXT)")
        db.executemany("INSERT INTO result_tables VALUES (?)", [("x" * 400,)] * 3)
    with pytest.raises(FormatError, match="over 1000 bytes"):
        import_jammi(tmp_path, store)


# --- names

REFUSED = (
    "../t",
    "..",
    "a/../b",
    "/etc/passwd",
    "a\\b",
    "a\0b",
    "a\nb",
    "\x1b[2J",
    ".hidden",
    "x" * (LONGEST_TABLE_NAME + 1),
    "é" * (LONGEST_TABLE_NAME // 2 + 1),
    "\ud800",
)
ALIKE = (
    "Table",
    "table",
    "TABLE",
    "t\u0430ble",  # Cyrillic
    "ta\u200bble",  # a blank without width
    "table\u202e",  # right to left from here
    unicodedata.normalize("NFC", "tablé"),
    unicodedata.normalize("NFD", "tablé"),
    "x" * LONGEST_TABLE_NAME,
    "é" * (LONGEST_TABLE_NAME // 2),
    "CON",
    "table ",
    "~table",
    "-table",
    "%2e%2e%2ftable",
)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("call", ["create", "checkpoint", "renew", "writer", "delete"])
def test_names_that_leave_the_root(store, tmp_path, name, call):
    """A name that could lead anywhere else is refused by every write, and nothing is written."""
    calls = {
        "create": lambda: store.catalog.create_result_table(**row(name, parquet_path="t.parquet")),
        "checkpoint": lambda: store.catalog.set_checkpoint(name, 1),
        "renew": lambda: store.catalog.renew_lease(name),
        "writer": lambda: store.open_writer(name, pa.schema([])),
        "delete": lambda: store.delete_table(name),
    }
    with pytest.raises(JammiFilesError):
        calls[call]()
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files <= {"format.json", "lock"}


def test_names_that_look_alike(store, root):
    """Names are compared by their bytes: each of these is a result of its own, in its own file."""
    for number, name in enumerate(ALIKE):
        store.catalog.create_result_table(**row(name, source_id=f"s{number}"))
        with store.open_writer(name, pa.schema([("n", pa.int64())])) as out:
            out.write(pa.table({"n": [number]}))
    for number, name in enumerate(ALIKE):
        assert store.catalog.get_result_table(name).source_id == f"s{number}"
        assert pq.read_table(root / f"{name}.parquet")["n"].to_pylist() == [number]
        with pytest.raises(AlreadyExistsError):
            store.catalog.create_result_table(**row(name))
    assert sorted(store.catalog.scan()["table_name"].to_pylist()) == sorted(ALIKE)


# --- places


@pytest.mark.parametrize("place", ["manifest", "segments", "builds"])
def test_nothing_is_written_through_a_link_out_of_the_root(root, tmp_path, monkeypatch, place):
    """`trap 20`: a directory of the catalog that leads elsewhere is refused by what would write."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 1)
    outside = tmp_path / "outside"
    outside.mkdir()
    store = connect(root, durability="os")
    store.catalog.create_result_table(**row("t0"))
    store = connect(root, durability="os")
    there = root / "_catalog" / place
    if place == "manifest":
        there.rename(outside / "manifest")
        there.symlink_to(outside / "manifest")
    else:
        there.symlink_to(outside)
    before = sorted(outside.rglob("*"))

    def write() -> None:
        for name in ("t1", "t2"):
            store.catalog.create_result_table(**row(name))
            store.catalog.set_checkpoint(name, 1)

    with pytest.raises(StorageError, match="leads out of the root"):
        write()
    assert sorted(outside.rglob("*")) == before


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_in_the_place_of_the_lock(root, tmp_path, is_there):
    """The lock is no file of another place, and none is made there."""
    outside = tmp_path / "outside"
    if is_there:
        outside.write_bytes(b"precious")
    connect(root, durability="os").catalog.create_result_table(**row("t0"))
    (root / "_catalog" / "lock").unlink()
    (root / "_catalog" / "lock").symlink_to(outside)
    with pytest.raises(StorageError, match="is a link, expected a file; remove it"):
        connect(root, durability="os").catalog.create_result_table(**row("t1"))
    assert outside.exists() is is_there
    assert not is_there or outside.read_bytes() == b"precious"


def test_a_link_in_the_place_of_the_catalog(root, tmp_path):
    """No lock is made in another place, be it for a moment."""
    outside = tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / "_catalog").symlink_to(outside)
    with pytest.raises(StorageError, match="leads out of the root"):
        connect(root, durability="os").catalog.create_result_table(**row("t1"))
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_an_object_is_not_followed_by_writes(store, root, tmp_path):
    """A create finds the name taken; a replacement and a deletion take the link, not its target."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    for number, name in enumerate(("created", "deleted")):
        store.catalog.create_result_table(**row(name))
        (root / f"{name}.parquet").symlink_to(precious)
        state = root / "_catalog" / "builds" / f"{name}.json"
        state.parent.mkdir(exist_ok=True)
        state.symlink_to(precious)
        store.catalog.renew_lease(name) if number else None
    out = store.open_writer("created", pa.schema([("n", pa.int64())]))
    out.write(pa.table({"n": [1]}))
    with pytest.raises(AlreadyExistsError):
        out.close()
    store.delete_table("deleted")
    assert not (root / "deleted.parquet").is_symlink()
    assert precious.read_bytes() == b"precious"


def test_a_sidecar_that_lies(store, root):
    """A sidecar that attests other bytes, or another definition, is told and not believed."""
    name = build(store)
    path = root / f"{name}.materialization.json"
    said = orjson.loads(path.read_bytes())
    assert store.verify_materialization(name) == Match()
    path.write_bytes(orjson.dumps({**said, "artifact": "0" * 64}))
    found = store.verify_materialization(name)
    assert isinstance(found, Mismatch)
    assert found.expected == "0" * 64
    path.write_bytes(orjson.dumps({**said, "definition_hash": "1" * 64}))
    assert isinstance(store.verify_materialization(name), Mismatch)
    assert Path(store.url(name)).exists()
