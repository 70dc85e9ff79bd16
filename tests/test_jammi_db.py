"""A jammi-db artifact directory: what is read, what is said of its damage, what is written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from jammi_files import jammi_rows
from jammi_files.errors import FormatError, InvalidInputError, StorageError
from jammi_files.jammi_db import find_misfit, read_jammi_catalog, written_catalog
from jammi_files.schema import ModelTask, ResultTableKind, ResultTableRecord, ResultTableStatus

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
EMBEDDING = "docs__text_embedding___srv_models_all-MiniLM-L6-v2__20261122T214953517770075_31245072"
GRAPH = "docs__text_embedding__graph_propagate__20261122T214954061597286_842489d0"
JOIN = "trades__text_embedding__asof-join__20261122T214954075629913_811733de"
COUNT = 15


@pytest.fixture
def engine_dir(tmp_path):
    """Return a writable copy of what the real engine wrote."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "engine", copy_function=shutil.copyfile))


def run_sql(directory, *statements):
    with contextlib.closing(sqlite3.connect(directory / "catalog.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # leave one file behind
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def set_column(directory, table, column, expression):
    run_sql(
        directory,
        f"UPDATE result_tables SET {column} = {expression} WHERE table_name = '{table}'",  # noqa: S608 - test data
    )


def by_name(directory):
    return {result.table_name: result for result in read_jammi_catalog(directory)}


def listing(directory):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_fixture_is_sound():
    """Every row of a real catalog is read, oldest first, with its Parquet and without a problem."""
    results = read_jammi_catalog(FIXTURE)
    assert len(results) == COUNT
    assert [result.problems for result in results] == [()] * COUNT
    for result in results:
        assert result.parquet == FIXTURE / "jammi_db" / f"{result.table_name}.parquet"
    stamps = [result.table_name[-30:-9] for result in results]
    assert stamps == sorted(stamps)


def test_all_columns():
    """`B023`, `B033`, `B085`: every column of a row arrives, typed."""
    record = by_name(FIXTURE)[EMBEDDING].record
    location = f"file:///srv/jammi/set1/jammi_db/{EMBEDDING}"
    files = FIXTURE / "jammi_db"
    said = json.loads((files / f"{EMBEDDING}.materialization.json").read_bytes())["descriptor"]
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert record == ResultTableRecord(
        table_name=EMBEDDING,
        source_id="docs",
        model_id="/srv/models/all-MiniLM-L6-v2",
        task=ModelTask.TEXT_EMBEDDING,
        parquet_path=f"{location}.parquet",
        index_path=f"{location}.idx",
        dimensions=384,
        row_count=25,
        status=ResultTableStatus.READY,
        key_column="doc_id",
        text_columns=("title", "body"),
        created_at="2026-11-22T21:49:53.517770075Z",
        completed_at="2026-11-22T21:49:53.889000000Z",
        definition_hash="e7cdfa44e73e226983b9c8fc333564d102815042d616ceba354bd4dd31e41fb3",
        input_anchors=record.input_anchors,
        artifact_digest=hashlib.sha256((files / f"{EMBEDDING}.parquet").read_bytes()).hexdigest(),
        descriptor_digest=hashlib.sha256(canonical.encode()).hexdigest(),
    )
    assert record.input_anchors_json == (
        '[{"source":"docs","anchor":"2026-11-22T21:49:53.517760380+00:00",'
        '"kind":"unpinned_at_instant"}]'
    )


def test_lineage_and_tenants():
    """`B026`, `B032`: a derivation names its parent and kind, a tenant's row its owner."""
    results = by_name(FIXTURE)
    graph = results[GRAPH].record
    assert graph.derived_from == EMBEDDING
    assert [anchor.kind for anchor in graph.input_anchors] == ["result_digest", "result_digest"]
    kinds = [result.record.kind for result in results.values()]
    assert kinds.count(ResultTableKind.NEIGHBOR_GRAPH) == 3
    assert kinds.count(ResultTableKind.ASOF_JOIN) == 5
    tenants = [result.record.tenant_id for result in results.values()]
    assert tenants.count("01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a") == 3
    assert tenants.count(None) == 10


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("2026-11-22 21:49:54", "2026-11-22T21:49:54.075629913Z"),
        ("2026-11-22 21:49:55", "2026-11-22T21:49:55.000000000Z"),
        ("2026-11-22T21:49:54.000000007Z", "2026-11-22T21:49:54.000000007Z"),
    ],
)
def test_created_at(engine_dir, stored, read):
    """`B029`, `B039`: whole seconds take the name's nanoseconds if they agree, else stay."""
    set_column(engine_dir, JOIN, "created_at", f"'{stored}'")
    assert by_name(engine_dir)[JOIN].record.created_at == read


def test_impossible_stamp(engine_dir):
    """A name that only looks generated (month 13) does not date its row."""
    run_sql(
        engine_dir,
        "INSERT INTO result_tables (table_name, source_id, model_id, task, parquet_path, status,"
        " created_at) VALUES ('a__20261322T214954075629913_811733de', 's', 'm', 'ner', 'x',"
        " 'failed', '2026-11-22 21:49:54')",
    )
    record = by_name(engine_dir)["a__20261322T214954075629913_811733de"].record
    assert record.created_at == "2026-11-22T21:49:54.000000000Z"


def test_source_is_left_alone(engine_dir):
    """Reading neither changes a file nor leaves one behind."""
    before = listing(engine_dir)
    read_jammi_catalog(engine_dir)
    assert listing(engine_dir) == before


def test_wal(engine_dir):
    """What an engine committed to its write-ahead log is read, and the log is left as it is."""
    with contextlib.closing(sqlite3.connect(engine_dir / "catalog.db")) as engine:
        engine.execute("PRAGMA journal_mode = WAL")
        engine.execute("UPDATE result_tables SET row_count = 77")
        engine.commit()
        before = listing(engine_dir)
        assert before[engine_dir / "catalog.db-wal"][1]
        results = read_jammi_catalog(engine_dir)
        assert {result.record.row_count for result in results} == {77}
        assert listing(engine_dir) == before


BROKEN = {
    "task": ("'zz'", "Unknown model task 'zz'. Expected: text_embedding"),
    "kind": ("'zz'", "Unknown result-table kind 'zz'. Expected: model"),
    "status": ("'zz'", "Unknown result table status: 'zz'"),
    "parquet_path": ("'ftp://x/y'", "invalid storage URL 'ftp://x/y': unknown scheme 'ftp://'"),
    "tenant_id": ("'acme'", "tenant id 'acme': expected a UUID"),
    "row_count": ("-1", "row_count must be an integer between 0 and"),
    "dimensions": ("'many'", "dimensions must be an integer"),
    "created_at": ("'yesterday'", "'yesterday' is not a UTC timestamp"),
    "completed_at": ("''", "completed_at is required"),
    "source_id": ("X'00'", "source_id must be a string, not bytes"),
    "model_id": ("CAST(X'FF' AS TEXT)", "lone surrogate"),
    "text_columns": ("'a,,b'", "an item of text_columns is required"),
    "table_name": ("'a/b'", "table_name 'a/b' must not hold '/'"),
    "input_anchors_json": ("'[{'", "input_anchors_json: not a JSON text"),
}


@pytest.mark.parametrize("column", BROKEN)
def test_broken_row(engine_dir, column):
    """`B037`, `B260`: a broken row is reported with its reason and stops no other."""
    value, problem = BROKEN[column]
    set_column(engine_dir, JOIN, column, value)
    broken = [result for result in read_jammi_catalog(engine_dir) if result.problems]
    assert len(broken) == 1
    assert broken[0].record is None
    assert problem in broken[0].problems[0]


@pytest.mark.parametrize(
    ("anchors", "problem"),
    [
        ("7", "input_anchors_json must be a list, not '7'"),
        ('["x"]', "an anchor needs the string fields source, anchor and kind"),
        ('[{"source":"s","anchor":"1","kind":"k"}]', "Unknown anchor kind 'k'"),
        ('[{"source":"s","source":"t","anchor":"1","kind":"k"}]', "occurs twice"),
    ],
)
def test_broken_anchors(engine_dir, anchors, problem):
    """`B181`, `B190`: anchors that are not a list of anchors make their own row unreadable."""
    set_column(engine_dir, JOIN, "input_anchors_json", f"'{anchors}'")
    result = by_name(engine_dir)[JOIN]
    assert result.record is None
    assert problem in result.problems[0]


def test_missing_parquet(engine_dir):
    """A ready row without its Parquet says where it was looked for."""
    (engine_dir / "jammi_db" / f"{JOIN}.parquet").unlink()
    result = by_name(engine_dir)[JOIN]
    assert result.parquet is None
    assert f"neither at 'file:///srv/jammi/set1/jammi_db/{JOIN}.parquet'" in result.problems[0]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (Path.unlink, "is missing, though the row has a definition hash"),
        (lambda path: path.write_bytes(b"{"), "is damaged"),
        (
            lambda path: path.write_bytes(
                path.read_bytes().replace(b'"manifest_version": 3', b'"manifest_version": 4')
            ),
            "manifest format version 4 is incompatible with supported version 3",
        ),
    ],
)
def test_sidecar_problem(engine_dir, damage, problem):
    """`B185`, `B187`: a contract without a readable sidecar is reported, not passed on."""
    damage(engine_dir / "jammi_db" / f"{JOIN}.materialization.json")
    result = by_name(engine_dir)[JOIN]
    assert problem in result.problems[0]
    assert result.record is not None


def test_pre_contract_row(engine_dir):
    """`B254`: a ready row without hash, anchors and sidecar is sound."""
    set_column(engine_dir, JOIN, "definition_hash", "NULL, input_anchors_json = NULL")
    (engine_dir / "jammi_db" / f"{JOIN}.materialization.json").unlink()
    result = by_name(engine_dir)[JOIN]
    assert result.problems == ()
    assert result.record.input_anchors is None


def test_no_inputs(engine_dir):
    """`B086`: ``[]`` is a result without inputs, another thing than NULL."""
    set_column(engine_dir, JOIN, "input_anchors_json", "'[]'")
    assert by_name(engine_dir)[JOIN].record.input_anchors == ()


def test_failed_row(engine_dir):
    """`B247`: a failed row needs no files."""
    set_column(engine_dir, JOIN, "status", "'failed'")
    for path in (engine_dir / "jammi_db").glob(f"{JOIN}*"):
        path.unlink()
    assert by_name(engine_dir)[JOIN].problems == ()


def test_building_row(engine_dir):
    """A build that the engine has not finished is not taken over."""
    set_column(engine_dir, JOIN, "status", "'building'")
    assert "let jammi-db finish or recover it" in by_name(engine_dir)[JOIN].problems[0]


def test_recorded_path_first(engine_dir, tmp_path):
    """The recorded path wins, and nothing in it is percent-decoded, as the engine writes it."""
    place = tmp_path / "odd é%20 #?"
    place.mkdir()
    for suffix in (".parquet", ".materialization.json"):
        name = JOIN + suffix
        shutil.copyfile(engine_dir / "jammi_db" / name, place / name)
    set_column(engine_dir, JOIN, "parquet_path", f"'file://{place}/{JOIN}.parquet'")
    assert by_name(engine_dir)[JOIN].parquet == place / f"{JOIN}.parquet"
    set_column(engine_dir, JOIN, "parquet_path", f"'{place}/{JOIN}.parquet'")
    assert by_name(engine_dir)[JOIN].parquet == place / f"{JOIN}.parquet"


@pytest.mark.parametrize(
    "recorded", ["file:///srv/x", "s3://bucket/x", "relative", "/" + "x" * 300]
)
def test_beside_the_catalog(engine_dir, recorded):
    """`B055`: a Parquet that is not where its row says is found beside the catalog.db."""
    for suffix in (".parquet", ".materialization.json"):
        (engine_dir / "jammi_db" / (JOIN + suffix)).rename(engine_dir / (JOIN + suffix))
    set_column(engine_dir, JOIN, "parquet_path", f"'{recorded}/{JOIN}.parquet'")
    result = by_name(engine_dir)[JOIN]
    assert result.parquet == engine_dir / f"{JOIN}.parquet"
    assert result.problems == ()


def test_older_schema(engine_dir):
    """A catalog from before a column existed is read with that column's default."""
    run_sql(
        engine_dir,
        "DROP INDEX idx_result_tables_kind",
        "ALTER TABLE result_tables DROP COLUMN kind",
        "DROP INDEX idx_result_tables_definition_hash",
        "ALTER TABLE result_tables DROP COLUMN definition_hash",
        "ALTER TABLE result_tables DROP COLUMN input_anchors_json",
    )
    record = by_name(engine_dir)[JOIN].record
    assert record.kind is ResultTableKind.MODEL
    assert (record.definition_hash, record.input_anchors) == (None, None)


def test_no_catalog(tmp_path):
    """A directory without catalog.db is a wrong argument, and is not created."""
    with pytest.raises(InvalidInputError, match=r"holds no catalog\.db"):
        read_jammi_catalog(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 50])
def test_not_a_catalog(tmp_path, content):
    """A file that is no SQLite database, or has no result_tables, is of another format."""
    (tmp_path / "catalog.db").write_bytes(content)
    with pytest.raises(FormatError, match="cannot be read as a jammi-db catalog"):
        read_jammi_catalog(tmp_path)


def test_being_written(engine_dir, monkeypatch):
    """A catalog that changes under every attempt to copy it is refused, not half-read."""

    def copy_while_written(source, target):
        target.write_bytes(source.read_bytes())
        stat = source.stat()
        os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))

    monkeypatch.setattr(jammi_rows.shutil, "copyfile", copy_while_written)
    with pytest.raises(StorageError, match="it is being written"):
        read_jammi_catalog(engine_dir)


def test_journal_vanishes(engine_dir, monkeypatch):
    """An engine that closes while its catalog is copied removes its log; the copy starts again."""
    log = engine_dir / "catalog.db-wal"
    log.touch()

    def copy_and_close(source, target):
        log.unlink(missing_ok=True)
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(jammi_rows.shutil, "copyfile", copy_and_close)
    assert len(read_jammi_catalog(engine_dir)) == COUNT


def describe_schema(connection):
    """Describe a schema by what SQLite makes of it, not by its text."""
    names = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
    described = {"objects": sorted(names)}
    for kind, name in names:
        if kind == "table":
            described[name] = (
                connection.execute(f'PRAGMA table_info("{name}")').fetchall(),
                connection.execute(f'PRAGMA foreign_key_list("{name}")').fetchall(),
                {row[1:] for row in connection.execute(f'PRAGMA index_list("{name}")')},
            )
        else:
            described[name] = connection.execute(f'PRAGMA index_info("{name}")').fetchall()
    return described


SEEDS = {
    "applied_migrations": "SELECT name FROM applied_migrations ORDER BY 1",
    "channels": "SELECT tenant_id, channel_name, priority FROM evidence_channels ORDER BY 3",
    "columns": "SELECT tenant_id, channel_name, column_name, column_type, ordinal"
    " FROM evidence_channel_columns ORDER BY 2, 5",
}


def write(home, records):
    with written_catalog(records, home / "jammi_db") as file:
        (home / "catalog.db").write_bytes(file.read())


def test_written_schema(engine_dir, tmp_path):
    """The written schema is that of the real engine: tables, columns, keys, indexes, seed rows."""
    write(tmp_path, [])
    with (
        contextlib.closing(sqlite3.connect(engine_dir / "catalog.db")) as theirs,
        contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as ours,
    ):
        assert describe_schema(ours) == describe_schema(theirs)
        for query in SEEDS.values():
            assert ours.execute(query).fetchall() == theirs.execute(query).fetchall()


def raw_rows(directory):
    with contextlib.closing(sqlite3.connect(directory / "catalog.db")) as connection:
        return connection.execute("SELECT * FROM result_tables").fetchall()


def test_written_rows(engine_dir, tmp_path):
    """Rows that were read and written are those of the engine, value for value, but for paths."""
    home = tmp_path / "odd é%20"
    home.mkdir()
    write(home, [result.record for result in read_jammi_catalog(engine_dir)])
    moved = [
        tuple(
            value.replace("file:///srv/jammi/set1/", f"file://{home}/")
            if isinstance(value, str)
            else value
            for value in row
        )
        for row in raw_rows(engine_dir)
    ]
    assert raw_rows(home) == moved


def test_no_room(monkeypatch, tmp_path):
    """A temporary directory that refuses the database is a storage error."""

    def refuse(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(jammi_rows.sqlite3, "connect", refuse)
    with pytest.raises(StorageError, match="disk is full"), written_catalog([], tmp_path):
        pass


def test_no_temporary_directory(engine_dir, monkeypatch, tmp_path):
    """Where no temporary directory can be made, reading and writing say so and what to set."""

    def refuse(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(jammi_rows.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(StorageError, match=r"temporary directory cannot be made.*TMPDIR"):
        read_jammi_catalog(engine_dir)
    with pytest.raises(StorageError, match="TMPDIR"), written_catalog([], tmp_path):
        pass


@pytest.mark.parametrize("column", ["row_count", "dimensions", "checkpoint"])
def test_misfit(column):
    """`B028`: numbers over 32 bits, which 0.32 cannot read back, are a misfit; the limit is not."""
    fields = {
        "table_name": "t",
        "source_id": "s",
        "model_id": "m",
        "task": ModelTask.NER,
        "parquet_path": "t.parquet",
        "created_at": "2026-11-22T21:49:53.000000000Z",
    }
    assert find_misfit(ResultTableRecord(**fields, **{column: 2**31 - 1})) is None
    assert f"{column} is 2147483648" in find_misfit(ResultTableRecord(**fields, **{column: 2**31}))
