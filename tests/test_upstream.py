"""The real engine 0.32.0 and this library read each other's directories and agree.

Runs wherever ``pip install jammi-ai==0.32.0`` works, and must run in CI.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
from pathlib import Path

import pyarrow as pa
import pytest
from support.engine import Engine, EngineError, find_engine

from jammi_files import (
    AsofJoin,
    Device,
    External,
    MaterializationEnv,
    NotRecomputableError,
    TableNotFoundError,
    connect,
    definition_hash,
)
from jammi_files.interop import export_jammi, import_jammi

pytestmark = pytest.mark.upstream

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
EXPECTED = json.loads((FIXTURE / "expected.json").read_bytes())
EMBEDDING = next(iter(EXPECTED["derives_from"]))
ENV = MaterializationEnv("0.32.0", Device.cpu())
TENANTS = ("01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a", "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9b")
JOIN = {"spine_by": ["acct"], "spine_time": "ts", "facts_by": ["acct"], "facts_time": "ts"}
ODD_NAMES = ("a b", "é日本", "quo'te", "a.b", "*[q]", 'dou"ble')
UNREADABLE_NAMES = ("p%20q", "h#x", "q?y")


@pytest.fixture(scope="session")
def python():
    """Return the interpreter that has the engine."""
    found, reason = find_engine()
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return found


@pytest.fixture
def store(tmp_path):
    return connect(tmp_path / "root", durability="os")


@pytest.fixture
def exported(store, tmp_path):
    """Return a directory that this library wrote from the fixture, for every tenant."""
    import_jammi(FIXTURE, store)
    export_jammi(store.as_admin(), tmp_path / "exported")
    return tmp_path / "exported"


def add_sources(engine):
    for path in (FIXTURE / "sources").glob("*.parquet"):
        engine("add_source", path.stem, url=str(path), format="parquet")


def count_rows(engine, name):
    quoted = name.replace('"', '""')
    return engine("sql", f'SELECT count(*) AS n FROM "jammi.{quoted}"')[0]["n"]  # noqa: S608 - an identifier cannot be a parameter


def as_json(verdict):
    return json.loads(json.dumps(verdict.to_dict()))


def build(store, descriptor, name="src", **columns):
    table = pa.table({"id": ["a", "b"]})
    with store.build(
        name,
        "text_embedding",
        "asof_join",
        "m",
        descriptor=descriptor,
        env=ENV,
        inputs=(),
        **columns,
    ) as out:
        out.write(table)
    return out.table_name


def join_descriptor(spine):
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


def test_engine_reads_our_export(python, exported):
    """Import, export, reopen: the engine gives the answers that it gave before."""
    with Engine(python, exported) as engine:
        for name, verdict in EXPECTED["verify"].items():
            assert engine("verify_materialization", name) == verdict
        for name, edges in EXPECTED["derives_from"].items():
            assert engine("derives_from", name) == edges


def test_tenants_of_our_export(python, store, exported):
    """Every tenant is shown the same tables and verdicts on both sides (`B166`)."""
    names = [record.table_name for record in ready(store.as_admin())]
    with Engine(python, exported) as engine:
        for tenant in (None, *TENANTS):
            ours = store.pinned_to_tenant(tenant)
            visible = {record.table_name for record in ready(ours)}
            if tenant is not None:
                engine("set_tenant", tenant)
            for name in names:
                if name in visible:
                    answer = engine("verify_materialization", name)
                    assert answer == as_json(ours.verify_materialization(name))
                else:
                    with pytest.raises(EngineError, match="not found"):
                        engine("verify_materialization", name)


def ready(store):
    return store.catalog.list_result_tables_by_status("ready")


def test_engine_works_on(python, store, exported):
    """The engine goes on producing in an exported directory, and we import what it adds."""
    with Engine(python, exported) as engine:
        add_sources(engine)
        graphs = [
            engine("build_neighbor_graph", "docs", k=3, table=EMBEDDING, exact=exact)
            for exact in (False, True)
        ]
        engine(
            "propagate_embeddings", "docs", embedding_table=EMBEDDING, edge_graph_table=graphs[1]
        )
        engine("recompute", graphs[1])
        engine("register_channel", "ours", priority=9, columns=[("score", "Float32")])
        edges = engine("derives_from", EMBEDDING)
        assert count_rows(engine, graphs[0]) == 75
    report = import_jammi(exported, store)
    assert len(report.imported) == 4
    assert report.skipped == report.remarks == ()
    assert [edge.to_dict() for edge in store.derives_from(EMBEDDING)] == edges
    assert_attested(store, report.imported)


def test_we_read_the_engine(python, store, tmp_path):
    """What the engine writes into a fresh directory verifies here, its hashes recomputed."""
    with Engine(python, tmp_path / "fresh") as engine:
        add_sources(engine)
        names = [
            engine("asof_join", "trades", "quotes", **JOIN, **extra)
            for extra in (
                {},
                {"direction": "forward", "boundary": "exclusive"},
                {"direction": "nearest", "tolerance_duration_micros": 3_600_000_000},
                {"tolerance_steps": 2, "project": ["px"]},
                {"tie_break_column": "seq"},
            )
        ]
        verdicts = [engine("verify_materialization", name) for name in names]
    report = import_jammi(tmp_path / "fresh", store)
    assert report.imported == tuple(names)
    assert [as_json(store.verify_materialization(name)) for name in names] == verdicts
    assert_attested(store, names)


def assert_attested(store, names):
    for name in names:
        assert store.verify_materialization(name).ok
        manifest = store.read_materialization_manifest(name)
        assert definition_hash(manifest.descriptor, ENV) == manifest.definition_hash
        assert store.catalog.get_result_table(name).definition_hash == manifest.definition_hash


def test_live_engine(python, store, tmp_path):
    """Results that a running engine has only in its write-ahead log are imported."""
    with Engine(python, tmp_path / "live") as engine:
        add_sources(engine)
        name = engine("asof_join", "trades", "quotes", **JOIN)
        assert (tmp_path / "live" / "catalog.db-wal").stat().st_size
        assert import_jammi(tmp_path / "live", store).imported == (name,)
        assert engine("verify_materialization", name)["verdict"] == "match_with_unpinned_inputs"


def test_corruption(python, store, exported):
    """`B221`, `B224`: one flipped byte is the same mismatch on both sides."""
    name = next(iter(EXPECTED["verify"]))
    for path in (exported / "jammi_db" / f"{name}.parquet", Path(store.url(name))):
        data = bytearray(path.read_bytes())
        data[1000] ^= 1
        path.write_bytes(data)
    with Engine(python, exported) as engine:
        verdict = engine("verify_materialization", name)
    assert verdict["verdict"] == "mismatch"
    assert as_json(store.verify_materialization(name)) == verdict
    corrupt = connect(exported.parent / "corrupt", durability="os")
    import_jammi(exported, corrupt)
    assert as_json(corrupt.verify_materialization(name)) == verdict


def test_our_own_results(python, store, tmp_path):
    """The engine verifies what this library attested and reads its rows, under odd names too."""
    names = [build(store, join_descriptor(name), name) for name in ODD_NAMES]
    export_jammi(store, tmp_path / "odd é")
    with Engine(python, tmp_path / "odd é") as engine:
        for name in names:
            assert engine("verify_materialization", name) == {"verdict": "match"}
            assert count_rows(engine, name) == 2


def test_unreadable_names(python, store, tmp_path):
    """What an export remarks on is so: the engine verifies such a table, but reads no rows."""
    names = [build(store, join_descriptor(name), name) for name in UNREADABLE_NAMES]
    report = export_jammi(store, tmp_path / "out")
    assert [remark.table_name for remark in report.remarks] == names
    with Engine(python, tmp_path / "out") as engine:
        for name in names:
            assert engine("verify_materialization", name) == {"verdict": "match"}
            assert count_rows(engine, name) == 0


def test_external_producer(python, store, tmp_path):
    """`B212`: the engine opens and serves an external result; only its contract is beyond it."""
    good = build(store, join_descriptor("good"))
    external = build(store, External(producer_id="mine", params={"a": "b"}))
    export_jammi(store, tmp_path / "out")
    with Engine(python, tmp_path / "out") as engine:
        assert engine("verify_materialization", good) == {"verdict": "match"}
        assert count_rows(engine, external) == 2
        with pytest.raises(EngineError, match="unknown variant `external`"):
            engine("verify_materialization", external)


@pytest.mark.parametrize("column", ["row_count", "dimensions"])
def test_misfits_are_real(python, exported, column):
    """`B028`: the engine cannot open a catalog with the numbers that an export leaves out."""
    with contextlib.closing(sqlite3.connect(exported / "catalog.db")) as connection:
        connection.execute(f"UPDATE result_tables SET {column} = 2147483648")  # noqa: S608 - a literal
        connection.commit()
    with pytest.raises(EngineError, match=column), Engine(python, exported):
        pass


def test_moved_export(python, exported, tmp_path):
    """An export that is moved loses its tables: the engine looks for them where they were.

    This is what the documentation of `export_jammi` warns of, and why rows never point to our root.
    """
    moved = tmp_path / "moved"
    shutil.move(exported, moved)
    name = next(iter(EXPECTED["verify"]))
    with Engine(python, moved) as engine:
        assert engine("verify_materialization", name) == {"verdict": "missing_manifest"}
    assert (moved / "jammi_db" / f"{name}.parquet").exists()


@pytest.mark.parametrize("seed", range(3))
def test_recompute_order(python, store, exported, seed):
    """`B268`, `B269`: over a random graph our plan is what the engine does, in its very order."""
    chance = random.Random(seed)
    with Engine(python, exported) as engine:
        graphs = [engine("build_neighbor_graph", "docs", k=2, table=EMBEDDING, exact=True)]
        named = propagate(engine, EMBEDDING, graphs[0])
        tables = [named]
        for _ in range(8):
            parent = chance.choice(tables)
            if chance.random() < 0.5:
                graphs.append(engine("build_neighbor_graph", "docs", k=2, table=parent, exact=True))
            else:
                tables.append(propagate(engine, parent, chance.choice(graphs)))
        import_jammi(exported, store)
        reported = engine("recompute", named)
        swept = engine("recompute", named, cascade="downstream")
    plan = store.recompute_plan(named, "downstream")
    assert list(plan.table_names) == [each["original"] for each in swept["recomputed"]]
    assert list(plan.downstream) == swept["downstream_stale"]
    assert [each["original"] for each in reported["recomputed"]] == [named]
    assert list(store.recompute_plan(named).downstream) == reported["downstream_stale"]
    assert plan.unplannable == ()


def propagate(engine, embedding, graph):
    return engine("propagate_embeddings", "docs", embedding_table=embedding, edge_graph_table=graph)


def test_recompute_refused(python, store, exported):
    """`B267`: a table without sidecar is refused in the engine's words, an unknown one too."""
    with Engine(python, exported) as engine:
        name = engine("build_neighbor_graph", "docs", k=2, table=EMBEDDING, exact=True)
        import_jammi(exported, store)
        (exported / "jammi_db" / f"{name}.materialization.json").unlink()
        Path(store.url(name)).with_suffix(".materialization.json").unlink()
        for table, error in ((name, NotRecomputableError), ("none", TableNotFoundError)):
            with pytest.raises(EngineError) as theirs:
                engine("recompute", table)
            with pytest.raises(error) as ours:
                store.recompute_plan(table)
            assert str(ours.value) in str(theirs.value)


def test_recompute_what_the_engine_made(python, store, exported):
    """`B271`, `B272`: a graph of the engine, computed again from its own data, is exactly it.

    The engine's sweep leaves the new propagation on the old graph (`B272`); ours does not.
    """
    with Engine(python, exported) as engine:
        graph = engine("build_neighbor_graph", "docs", k=2, table=EMBEDDING, exact=True)
        child = propagate(engine, EMBEDDING, graph)
        theirs = engine("recompute", graph, cascade="downstream")
    import_jammi(exported, store)
    new_graph, new_child = (each["recomputed"] for each in theirs["recomputed"])
    assert graph in {edge.input for edge in store.upstream_closure(new_child)}
    assert new_graph not in {edge.input for edge in store.upstream_closure(new_child)}

    def again(context):
        return store.open_table(context.original.table_name).to_table()

    producers = {"neighbor_graph": again, "graph_propagation": again}
    plan = store.recompute_plan(graph, "downstream")
    report = store.recompute(plan, producers)
    assert report.ok, str(report)
    ours = report.recomputed[child]
    assert {edge.input for edge in store.upstream_closure(ours)} >= {report.recomputed[graph]}
    assert graph not in {edge.input for edge in store.upstream_closure(ours)}
    described = store.producing_descriptor(ours)
    assert described.edge_source.table_name == report.recomputed[graph]
    hashes = {store.catalog.get_result_table(each).definition_hash for each in (graph, new_graph)}
    assert store.catalog.get_result_table(report.recomputed[graph]).definition_hash in hashes
