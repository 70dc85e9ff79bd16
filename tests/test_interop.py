"""Results move between a store and a jammi-db artifact directory, unchanged and repeatably."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from support.faults import UnlockedStorage
from support.invariants import check_invariants

import jammi_files
from jammi_files import AsofJoin, External, InputAnchor, MaterializationEnv, connect
from jammi_files.catalog import Catalog
from jammi_files.errors import AlreadyExistsError, InvalidInputError, StorageError
from jammi_files.interop import export_jammi, import_jammi
from jammi_files.jammi_db import read_jammi_catalog
from jammi_files.local import LocalStorage
from jammi_files.memory import MemoryStorage
from jammi_files.store import ResultStore
from jammi_files.timestamps import parse_timestamp

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
EXPECTED = json.loads((FIXTURE / "expected.json").read_bytes())
PREFIX = "docs__text_embedding__"
EMBEDDING = f"{PREFIX}_srv_models_all-MiniLM-L6-v2__20261122T214953517770075_31245072"
NEIGHBORS = f"{PREFIX}neighbor_graph__20261122T214954052493048_80842598"
JOIN = "trades__text_embedding__asof-join__20261122T214954075629913_811733de"
TENANT_A = "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a"
TENANT_B = "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9b"
ENV = MaterializationEnv("0.32.0", jammi_files.Device.cpu())
MODES = ("copy", "reference")
FILES = len(list((FIXTURE / "jammi_db").iterdir()))


@pytest.fixture
def engine_dir(tmp_path):
    """Return a writable copy of what the real engine wrote."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "engine", copy_function=shutil.copyfile))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def store(root):
    return connect(root, durability="os")


@pytest.fixture
def imported(store):
    """Return a store that holds the fixture."""
    import_jammi(FIXTURE, store)
    return store


def run_sql(directory, *statements):
    with contextlib.closing(sqlite3.connect(directory / "catalog.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def raw_rows(directory):
    """Read the rows of a catalog.db without the code under test; paths relative to it."""
    with contextlib.closing(sqlite3.connect(directory / "catalog.db")) as connection:
        home = connection.execute("SELECT parquet_path FROM result_tables").fetchone()[0]
        home = home[: home.index("jammi_db/")]
        rows = connection.execute("SELECT * FROM result_tables").fetchall()
    return [
        tuple(value.removeprefix(home) if isinstance(value, str) else value for value in row)
        for row in rows
    ]


def listing(directory):
    return {
        path.relative_to(directory): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def build(store, descriptor, *, inputs=(), **columns):
    """Make one small ready result the ordinary way and return its name."""
    table = pa.table({"id": ["a", "b"]})
    with store.build(
        "src",
        "text_embedding",
        "asof_join",
        "m",
        descriptor=descriptor,
        env=ENV,
        inputs=inputs,
        schema=table.schema,
        **columns,
    ) as out:
        out.write(table)
    return out.table_name


def join_descriptor(spine="spine"):
    return AsofJoin(
        spine=spine,
        facts="facts",
        spine_by=("k",),
        facts_by=("k",),
        spine_time="t",
        facts_time="t",
        direction="backward",
        boundary="inclusive",
    )


def skipped(report):
    return {finding.table_name: finding.problem for finding in report.skipped}


@pytest.mark.parametrize("mode", MODES)
def test_import_answers(store, mode):
    """Imported results verify and trace exactly as in the real engine (`B131`, `B223`)."""
    report = import_jammi(FIXTURE, store, mode=mode)
    assert len(report.imported) == 15
    assert (report.already_present, report.skipped, report.remarks) == ((), (), ())
    for name, verdict in EXPECTED["verify"].items():
        answer = json.loads(json.dumps(store.verify_materialization(name).to_dict()))
        assert answer == verdict
    for name, edges in EXPECTED["derives_from"].items():
        assert [edge.to_dict() for edge in store.derives_from(name)] == edges
    assert all(verification.ok for verification in store.as_admin().verify_all())
    check_invariants(store.root)


@pytest.mark.parametrize("mode", MODES)
def test_import_rows(store, mode):
    """Every column of every row arrives; only the paths differ (`B055`)."""
    import_jammi(FIXTURE, store, mode=mode)
    catalog = store.catalog.as_admin()
    for result in read_jammi_catalog(FIXTURE):
        place = "" if mode == "copy" else f"{FIXTURE}/jammi_db/"
        fields = result.record.to_dict()
        fields["parquet_path"] = f"{place}{result.table_name}.parquet"
        if fields["index_path"] is not None:
            fields["index_path"] = f"{place}{result.table_name}.idx"
        assert catalog.get_result_table(result.table_name).to_dict() == fields


def test_import_files(imported, root):
    """A copy brings Parquet, sidecar and ANN files, byte for byte, in one version (`B047`)."""
    copied = {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}
    assert copied == {path.name: path.read_bytes() for path in (FIXTURE / "jammi_db").iterdir()}
    assert imported.catalog.version == 1


def test_import_reference(store, root):
    """A reference copies nothing, and deleting its row leaves the engine's file alone."""
    import_jammi(FIXTURE, store, mode="reference")
    assert [path.name for path in root.iterdir()] == ["_catalog"]
    store.delete_table(JOIN)
    assert (FIXTURE / "jammi_db" / f"{JOIN}.parquet").exists()


@pytest.mark.parametrize("mode", MODES)
def test_source_is_only_read(store, engine_dir, mode):
    """An import neither changes nor adds a file of the engine."""
    before = listing(engine_dir)
    import_jammi(engine_dir, store, mode=mode)
    assert listing(engine_dir) == before


@pytest.mark.parametrize("mode", MODES)
def test_import_twice(store, mode):
    """A second import finds everything present and makes no version."""
    first = import_jammi(FIXTURE, store, mode=mode)
    second = import_jammi(FIXTURE, store, mode=mode)
    assert second.imported == ()
    assert second.already_present == first.imported
    assert store.catalog.version == 1


def test_import_later_results(store, engine_dir):
    """What the engine has finished since the last import comes with the next one."""
    update = "UPDATE result_tables SET {} WHERE table_name = '{}'"
    run_sql(engine_dir, update.format("status = 'building'", JOIN))
    assert skipped(import_jammi(engine_dir, store)).keys() == {JOIN}
    run_sql(engine_dir, update.format("status = 'ready'", JOIN))
    assert import_jammi(engine_dir, store).imported == (JOIN,)


def test_import_for_tenants(store):
    """`B032`, `B166`: a row keeps its tenant whoever imports it, and only that tenant sees it."""
    import_jammi(FIXTURE, store.pinned_to_tenant(TENANT_A))
    counts = {
        tenant: len(store.pinned_to_tenant(tenant).catalog.list_result_tables_by_status("ready"))
        for tenant in (None, TENANT_A, TENANT_B)
    }
    assert counts == {None: 10, TENANT_A: 13, TENANT_B: 12}


def crash_after(patch, survivors):
    """Let a number of objects be begun; the next one ends the program."""
    begin, begun = LocalStorage.writer, []

    def writer(self, key):
        if not key.startswith("_catalog"):
            begun.append(key)
            if len(begun) > survivors:
                raise KeyboardInterrupt
        return begin(self, key)

    patch.setattr(LocalStorage, "writer", writer)


@pytest.mark.parametrize("survivors", [0, 1, 20, 40])
def test_import_crash(root, monkeypatch, survivors):
    """`B080`: a crash while copying leaves no row, no part of a file, and a second run finishes."""
    with monkeypatch.context() as patch:
        crash_after(patch, survivors)
        with pytest.raises(KeyboardInterrupt):
            import_jammi(FIXTURE, connect(root, durability="os"))
    store = connect(root, durability="os")
    assert store.as_admin().catalog.scan().num_rows == 0
    assert len(import_jammi(FIXTURE, store).imported) == 15
    check_invariants(root)


def test_import_disk_full(root, monkeypatch):
    """A root that refuses a write ends the import with its error; nothing is imported by half."""

    def refuse(_, key):
        raise StorageError(f"cannot write '{key}': no space left on device")

    store = connect(root, durability="os")
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "writer", refuse)
        with pytest.raises(StorageError, match="no space left"):
            import_jammi(FIXTURE, store)
    assert store.as_admin().catalog.scan().num_rows == 0


def test_import_broken_rows(store, engine_dir):
    """`B260`: broken results are named with their reasons; all others are imported."""
    joins = sorted(path.stem for path in (engine_dir / "jammi_db").glob("trades*.parquet"))
    update = "UPDATE result_tables SET {} WHERE table_name = '{}'"
    run_sql(
        engine_dir,
        update.format("task = 'zz'", joins[0]),
        update.format("parquet_path = 'ftp://x/y'", joins[1]),
        update.format("input_anchors_json = '{'", joins[2]),
    )
    (engine_dir / "jammi_db" / f"{joins[3]}.parquet").unlink()
    (engine_dir / "jammi_db" / f"{joins[4]}.materialization.json").unlink()
    report = import_jammi(engine_dir, store)
    assert len(report.imported) == 10
    assert {name: problem[:24] for name, problem in skipped(report).items()} == {
        joins[0]: "Unknown model task 'zz'.",
        joins[1]: "invalid storage URL 'ftp",
        joins[2]: "input_anchors_json: not ",
        joins[3]: "its Parquet is neither a",
        joins[4]: f"its sidecar '{engine_dir}"[:24],
    }


@pytest.mark.parametrize("mode", MODES)
def test_import_orphan(store, engine_dir, mode):
    """A result whose parent could not be imported keeps the parent's name, and a remark says so."""
    (engine_dir / "jammi_db" / f"{EMBEDDING}.parquet").unlink()
    report = import_jammi(engine_dir, store, mode=mode)
    assert skipped(report).keys() == {EMBEDDING}
    assert {remark.table_name for remark in report.remarks} == {
        edge["derived"] for edge in EXPECTED["derives_from"][EMBEDDING]
    }
    assert EMBEDDING in report.remarks[0].problem
    assert store.catalog.get_result_table(NEIGHBORS).derived_from == EMBEDDING
    assert [edge.to_dict() for edge in store.derives_from(EMBEDDING)] == (
        EXPECTED["derives_from"][EMBEDDING]
    )


def test_import_beside_a_deletion():
    """Without a lock, objects that no row names may be under deletion: they are copied anew."""
    base = MemoryStorage(f"memory://{uuid.uuid4().hex}")
    held_up, hook = importing_before_deletion(base)
    store = bucket_like(base, hook)
    import_jammi(FIXTURE, store)
    store.delete_table(JOIN)
    assert held_up[0].imported == (JOIN,)
    assert store.verify_materialization(JOIN).ok
    assert store.catalog.get_result_table(JOIN).parquet_path != f"{JOIN}.parquet"
    check_invariants(base)


def test_import_beside_a_vacuum():
    """So they are where a vacuum may be at them, which has looked at the rows before."""
    base = MemoryStorage(f"memory://{uuid.uuid4().hex}")
    held_up, hook = importing_before_deletion(base)
    store = bucket_like(base)
    store.catalog.create_result_table(
        "first", source_id="s", model_id="m", task="ner", parquet_path="first.parquet"
    )
    import_jammi(FIXTURE, store)
    store.catalog.delete_result_table(JOIN)
    bucket_like(base, hook).catalog.vacuum(0, dry_run=False)
    assert held_up[0].imported == (JOIN,)
    assert store.verify_materialization(JOIN).ok
    check_invariants(base)


def importing_before_deletion(base):
    """Return a hook that imports right before data is first deleted, and where its report goes."""
    reports = []

    def hook(moment, kind, key):
        if (moment, kind, key) == ("before", "delete", f"{JOIN}.parquet") and not reports:
            reports.append(import_jammi(FIXTURE, bucket_like(base)))

    return reports, hook


def bucket_like(base, hook=lambda *_: None):
    storage = UnlockedStorage(base, hook)
    storage.is_locked = False
    return ResultStore(Catalog(storage))


def test_import_obstacle(store, root):
    """An object with other bytes under a table's key is not overwritten; the table is skipped."""
    root.mkdir()
    obstacle = root / f"{JOIN}.parquet"
    obstacle.write_bytes(b"mine")
    report = import_jammi(FIXTURE, store)
    assert skipped(report) == {JOIN: f"another object '{obstacle}' is in the way"}
    assert obstacle.read_bytes() == b"mine"
    assert len(report.imported) == 14


def test_import_namesake(store):
    """`B058`: a row of the same name of another result is neither replaced nor called present."""
    store.catalog.create_result_table(
        JOIN, source_id="mine", model_id="m", task="ner", parquet_path=f"{JOIN}.parquet"
    )
    report = import_jammi(FIXTURE, store)
    assert skipped(report) == {JOIN: "another table of this name is in the catalog"}
    assert store.catalog.get_result_table(JOIN).source_id == "mine"


def test_import_corrupt_bytes(store, engine_dir):
    """`B221`, `B224`: corrupt data is moved as it is, and verifying it says so."""
    parquet = engine_dir / "jammi_db" / f"{JOIN}.parquet"
    data = bytearray(parquet.read_bytes())
    data[100] ^= 1
    parquet.write_bytes(data)
    assert JOIN in import_jammi(engine_dir, store).imported
    assert store.verify_materialization(JOIN).verdict == "mismatch"


def test_import_in_place(engine_dir):
    """A root laid over the engine's own ``jammi_db`` adopts its files where they lie."""
    before = listing(engine_dir / "jammi_db")
    store = connect(engine_dir / "jammi_db", durability="os")
    assert len(import_jammi(engine_dir, store).imported) == 15
    after = listing(engine_dir / "jammi_db")
    assert {path: after[path] for path in before} == before
    assert all(verification.ok for verification in store.as_admin().verify_all())


def test_import_into_memory():
    """Any storage will do as the target."""
    store = connect("memory://interop-import")
    assert len(import_jammi(FIXTURE, store).imported) == 15
    assert store.verify_materialization(JOIN).verdict == "match_with_unpinned_inputs"


def test_import_arguments(store, tmp_path):
    """A wrong mode or directory is refused before anything is written."""
    with pytest.raises(InvalidInputError, match="mode must be 'copy' or 'reference', not 'move'"):
        import_jammi(FIXTURE, store, mode="move")
    with pytest.raises(InvalidInputError, match=r"holds no catalog\.db"):
        import_jammi(tmp_path, store)
    assert not store.catalog.exists


@pytest.mark.parametrize("mode", MODES)
def test_round_trip(store, tmp_path, mode):
    """What was imported is exported as it was: every row, every file, in the same order."""
    import_jammi(FIXTURE, store, mode=mode)
    report = export_jammi(store.as_admin(), tmp_path / "out")
    assert len(report.exported) == 15
    assert (report.skipped, report.remarks) == ((), ())
    assert raw_rows(tmp_path / "out") == raw_rows(FIXTURE)
    assert listing(tmp_path / "out" / "jammi_db") == listing(FIXTURE / "jammi_db")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"catalog.db", "jammi_db"}


def test_exported_paths(imported, tmp_path, monkeypatch):
    """Rows name files of the exported directory, absolutely, whatever way it was given."""
    monkeypatch.chdir(tmp_path)
    export_jammi(imported, "x/../odd é")
    for result in read_jammi_catalog("odd é"):
        place = f"{tmp_path.resolve()}/odd é/jammi_db/{result.table_name}.parquet"
        assert result.record.parquet_path == f"file://{place}"
        assert result.parquet == Path(place)


@pytest.mark.parametrize(("tenant", "count"), [(None, 10), (TENANT_A, 13), (TENANT_B, 12)])
def test_export_is_scoped(imported, tmp_path, tenant, count):
    """`B166`: an export holds what the handle sees, rows and files alike."""
    report = export_jammi(imported.pinned_to_tenant(tenant), tmp_path / "out")
    assert len(report.exported) == count
    assert {row[15] for row in raw_rows(tmp_path / "out")} == {None, tenant}
    files = (tmp_path / "out" / "jammi_db").glob("*.parquet")
    assert {path.stem for path in files} == set(report.exported)


def test_export_never_overwrites(imported, tmp_path):
    """A directory that holds a catalog.db is refused, and left as it is."""
    (tmp_path / "catalog.db").write_bytes(b"theirs")
    with pytest.raises(AlreadyExistsError, match=r"holds a catalog\.db already"):
        export_jammi(imported, tmp_path)
    assert (tmp_path / "catalog.db").read_bytes() == b"theirs"
    assert not (tmp_path / "jammi_db").exists()


def test_export_race(imported, tmp_path, monkeypatch):
    """Of two exports to one directory one wins; the other says that it did not."""
    monkeypatch.setattr(Path, "exists", lambda _: False)
    (tmp_path / "catalog.db").write_bytes(b"theirs")
    with pytest.raises(AlreadyExistsError, match=r"holds a catalog\.db already"):
        export_jammi(imported, tmp_path)
    assert (tmp_path / "catalog.db").read_bytes() == b"theirs"


@pytest.mark.parametrize("survivors", [0, 1, 20, FILES])
def test_export_crash(imported, tmp_path, monkeypatch, survivors):
    """`B080`: a crashed export leaves no catalog.db and no half file; a second run finishes."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        crash_after(patch, survivors)
        with pytest.raises(KeyboardInterrupt):
            export_jammi(imported.as_admin(), out)
    assert not (out / "catalog.db").exists()
    assert len(export_jammi(imported.as_admin(), out).exported) == 15
    assert listing(out / "jammi_db") == listing(FIXTURE / "jammi_db")
    assert raw_rows(out) == raw_rows(FIXTURE)


def test_export_obstacle(imported, tmp_path):
    """A file with other bytes under a table's name is not overwritten; the table is skipped."""
    obstacle = tmp_path / "jammi_db" / f"{JOIN}.parquet"
    obstacle.parent.mkdir()
    obstacle.write_bytes(b"theirs")
    report = export_jammi(imported, tmp_path)
    assert skipped(report) == {JOIN: f"another object '{obstacle.resolve()}' is in the way"}
    assert obstacle.read_bytes() == b"theirs"
    assert JOIN not in {row[0] for row in raw_rows(tmp_path)}


def test_export_obstructed(imported, tmp_path):
    """A directory that cannot be written is a storage error, and nothing is exported by half."""
    (tmp_path / "jammi_db").write_bytes(b"a file")
    with pytest.raises(StorageError, match="jammi_db"):
        export_jammi(imported, tmp_path)
    assert not (tmp_path / "catalog.db").exists()


def test_export_own_results(store, tmp_path):
    """Results of this library are exported with their contract and come back the same."""
    parent = build(store, join_descriptor(), text_columns=("a", "b"), key_column="id")
    anchor = store.result_digest_anchor(parent)
    child = build(store, join_descriptor(parent), inputs=(anchor,), derived_from=parent)
    report = export_jammi(store, tmp_path / "out")
    assert report.exported == (parent, child)
    other = connect(tmp_path / "other", durability="os")
    import_jammi(tmp_path / "out", other)
    for name in (parent, child):
        before = store.catalog.get_result_table(name).to_dict()
        after = other.catalog.get_result_table(name).to_dict()
        completed = before.pop("completed_at"), after.pop("completed_at")
        assert completed[0][:23] + "000000Z" == completed[1]
        created = [parse_timestamp(fields.pop("created_at")) for fields in (before, after)]
        assert 0 <= created[0] - created[1] < 1_000_000_000
        assert after == before
        assert other.verify_materialization(name).verdict == "match"


def test_export_skips(store, tmp_path):
    """`B028`: what 0.32 cannot hold, and results without their files, are named and left out."""
    building = store.create_table("src", "ner", "model", "m").table_name
    big = store.create_table("src", "ner", "model", "m").table_name
    store.catalog.update_result_table_status(big, "ready", 2**31)
    bare, lost, damaged, good = (
        build(store, join_descriptor(spine)) for spine in ("bare", "lost", "damaged", "good")
    )
    store.storage.delete(f"{bare}.materialization.json")
    store.storage.delete(f"{lost}.parquet")
    store.storage.replace(f"{damaged}.materialization.json", b"{")
    report = export_jammi(store, tmp_path / "out")
    assert report.exported == (good,)
    problems = skipped(report)
    assert problems[building] == "it is building"
    assert problems[big].startswith("row_count is 2147483648; jammi-db 0.32 cannot")
    assert problems[bare] == "its sidecar is missing: the engine would mark it failed"
    assert problems[lost].startswith("its Parquet is missing: ")
    assert "not a JSON text" in problems[damaged]
    assert [row[0] for row in raw_rows(tmp_path / "out")] == [good]


def test_export_failed_row(store, tmp_path):
    """A failed row is exported without files."""
    name = build(store, join_descriptor())
    store.catalog.fail_result_table(name, "wrong")
    assert export_jammi(store, tmp_path / "out").exported == (name,)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["catalog.db"]


def test_export_detached(store, tmp_path):
    """`B134`: a parent that is not exported leaves ``derived_from`` empty; the anchors stay."""
    parent = build(store, join_descriptor())
    anchor = store.result_digest_anchor(parent)
    child = build(store, join_descriptor(parent), inputs=(anchor,), derived_from=parent)
    store.storage.delete(f"{parent}.parquet")
    report = export_jammi(store, tmp_path / "out")
    assert report.exported == (child,)
    assert [remark.table_name for remark in report.remarks] == [child]
    record = read_jammi_catalog(tmp_path / "out")[0].record
    assert record.derived_from is None
    assert record.input_anchors == (anchor,)


def test_export_external(store, tmp_path):
    """`B212`: a producer that 0.32 does not know is exported, with a remark on what it costs."""
    name = build(store, External(producer_id="mine", params={"a": "b"}))
    report = export_jammi(store, tmp_path / "out")
    assert report.exported == (name,)
    assert [remark.problem for remark in report.remarks] == [
        "0.32 does not know its producer: it serves the table but cannot verify it"
    ]


@pytest.mark.parametrize("character", "%#?")
def test_export_unreadable(store, tmp_path, character):
    """What hides rows from the engine's SQL is refused in the path and remarked in a name."""
    with pytest.raises(InvalidInputError, match="finds no rows under"):
        export_jammi(store, tmp_path / f"a{character}b")
    assert not (tmp_path / f"a{character}b").exists()
    name = f"a{character}b"
    store.catalog.create_result_table(
        name, source_id="s", model_id="m", task="ner", parquet_path=f"{name}.parquet"
    )
    store.storage.create(f"{name}.parquet", b"bytes")
    store.catalog.update_result_table_status(name, "ready", 1)
    report = export_jammi(store, tmp_path / "out")
    assert report.exported == (name,)
    assert "its SQL finds no rows" in report.remarks[0].problem


def test_export_from_memory(tmp_path):
    """Any storage will do as the source."""
    store = connect("memory://interop-export")
    name = build(store, join_descriptor(), inputs=(InputAnchor.source_version("s", "1"),))
    assert export_jammi(store, tmp_path).exported == (name,)
    assert read_jammi_catalog(tmp_path)[0].problems == ()


def test_export_nothing(tmp_path):
    """An empty store exports an empty catalog, and is not created by it."""
    store = ResultStore(Catalog.open(tmp_path / "root"))
    assert export_jammi(store, tmp_path / "out").exported == ()
    assert read_jammi_catalog(tmp_path / "out") == []
    assert not (tmp_path / "root").exists()
