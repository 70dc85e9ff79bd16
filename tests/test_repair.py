"""Repair: what loses nothing is mended, what loses something needs consent, nothing is guessed."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.faults import CountingStorage, Crash, CrashingStorage, When
from support.invariants import check_invariants
from support.results import CONTRACT, DATA, DESCRIPTOR, ENV, build, finalize, row, rows, write
from support.roots import LocalRoots, MemoryRoots, contents
from support.scopes import ACME, BETA

import jammi_files
from jammi_files import (
    Embedding,
    InputAnchor,
    InvalidInputError,
    MaterializationManifest,
    NeighborGraph,
    RepairStep,
    StateError,
    StorageError,
    UnsupportedVersionError,
    artifact_digest,
    lease,
    manifest,
    repair,
    root_format,
)
from jammi_files.catalog import Catalog
from jammi_files.copy_objects import Pair
from jammi_files.copy_root import copy_root
from jammi_files.errors import ConflictError, FormatError
from jammi_files.fsck import Kind, Remedy, Severity, fsck
from jammi_files.interop import import_jammi
from jammi_files.log import key_of
from jammi_files.store import ResultStore

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"


@pytest.fixture(params=["local", "memory"])
def roots(request, tmp_path):
    (tmp_path / "roots").mkdir()
    supply = LocalRoots(tmp_path / "roots") if request.param == "local" else MemoryRoots()
    yield supply
    supply.close()


@pytest.fixture
def storage(roots):
    return roots.new()


@pytest.fixture
def store(storage):
    return ResultStore(Catalog(storage))


def lose(storage, prefix="_catalog/"):
    """Delete everything whose key begins so."""
    for key in contents(storage):
        if key.startswith(prefix) and key != "_catalog/lock":
            storage.delete(key)


def opened(storage):
    return ResultStore(Catalog(storage)).as_admin()


def errors(storage):
    found = fsck(Catalog(storage).as_admin(), deep=True)
    return [finding for finding in found if finding.severity is Severity.ERROR]


def steps(report):
    return [(str(action.step), action.subject) for action in report.actions]


def known(record):
    """Return what a rebuilt row can know; the rest only the catalog knew."""
    fields = dataclasses.asdict(record)
    return {
        name: value
        for name, value in fields.items()
        if name not in ("completed_at", "properties", "checkpoint", "lease", "created_at")
    }


# A catalog that is gone


def test_lost_catalog(storage, store):
    """Every attested result gets its row back, of the tenant that its footer names."""
    before = {}
    for tenant in (None, ACME, BETA):
        mine = store.pinned_to_tenant(tenant)
        name = build(mine, dimensions=3, key_column="id", text_columns=["a", "b"])
        before[name] = mine.catalog.get_result_table(name)
    lose(storage)
    plan = repair(storage)
    assert plan.dry_run
    assert steps(plan)[0] == ("format", "_catalog/format.json")
    assert not any(key.startswith("_catalog/") for key in contents(storage) if "lock" not in key)
    report = repair(storage, dry_run=False)
    assert report.actions == plan.actions
    assert (report.version, report.ok, report.remaining) == (1, True, ())
    found = opened(storage)
    assert {r.table_name for r in found.catalog.list_result_tables_by_status("ready")} == {*before}
    for name, record in before.items():
        anew = found.catalog.get_result_table(name)
        assert known(anew) == known(record)
        assert anew.created_at <= record.created_at  # the name was made just before the row
        assert anew.created_at <= anew.completed_at <= record.completed_at
        assert found.verify_materialization(name).ok
    seen = ResultStore(Catalog(storage)).pinned_to_tenant(ACME).catalog
    assert seen.scan().num_rows == 2
    check_invariants(storage)


def test_rows_come_from_descriptors(storage, store):
    """Without a footer the sidecar's descriptor says source, model, task and parent."""
    embedding = Embedding(
        model_id="org/model",
        task="text_embedding",
        source_id="do/cs",
        columns=["a"],
        key_column="id",
        dimensions=2,
    )
    with store.build(
        "do/cs", "text_embedding", "model", "org/model", **{**CONTRACT, "descriptor": embedding}
    ) as out:
        out.write(DATA)
    parent = out.table_name
    graph = NeighborGraph(
        source_table=parent,
        k=1,
        mutual=False,
        self_exclude=True,
        exact=True,
        exact_max_rows=10,
    )
    contract = {
        "descriptor": graph,
        "env": ENV,
        "inputs": [store.result_digest_anchor(parent)],
    }
    with store.build(
        "do/cs", "text_embedding", "neighbor_graph", "neighbor_graph", **contract
    ) as out:
        out.write(DATA)
    child = out.table_name
    before = {name: store.catalog.get_result_table(name) for name in (parent, child)}
    _strip_footers(store)
    lose(storage)
    report = repair(storage, dry_run=False, owner="global")
    assert report.ok
    found = opened(storage).catalog
    assert found.get_result_table(parent).source_id == "do/cs"
    assert found.get_result_table(parent).dimensions == 2
    assert found.get_result_table(parent).index_path == before[parent].index_path
    assert found.get_result_table(child).derived_from == parent
    assert found.get_result_table(child).kind == "neighbor_graph"
    assert [edge.derived for edge in opened(storage).derives_from(parent)] == [child]


def _strip_footers(store):
    """Write every data object as another program would, attested anew, under the same name."""
    for record in store.catalog.list_result_tables_by_status("ready"):
        sink = pa.BufferOutputStream()
        pq.write_table(DATA, sink)
        data = sink.getvalue().to_pybytes()
        sidecar = store.read_materialization_manifest(record.table_name)
        sidecar = dataclasses.replace(sidecar, artifact=artifact_digest(data))
        store.storage.replace(record.parquet_path, data)
        key = record.parquet_path.replace(".parquet", ".materialization.json")
        store.storage.replace(key, sidecar.to_json_bytes())
        assert MaterializationManifest.from_json_bytes(store.storage.read(key)) == sidecar


def test_an_unknown_owner_is_never_guessed(storage, store):
    """Whose a result is must be written or said: a rebuilt row never becomes GLOBAL by itself."""
    mine = store.pinned_to_tenant(ACME)
    foreign, own = build(mine), build(store.pinned_to_tenant(BETA))
    record = store.as_admin().catalog.get_result_table(own)
    footer = storage.read(record.parquet_path)
    _strip_footers(mine)
    assert storage.read(record.parquet_path) == footer
    lose(storage)
    assert (
        "nothing says whose it is"
        in {a.subject: a.reason for a in repair(storage).actions}[foreign]
    )
    before = contents(storage)
    with pytest.raises(InvalidInputError, match=rf"whose 1 results.*'{foreign}'.*give owner"):
        repair(storage, dry_run=False)
    assert contents(storage) == before
    with pytest.raises(InvalidInputError, match="tenant id"):
        repair(storage, dry_run=False, owner="everybody")
    assert contents(storage) == before
    assert repair(storage, dry_run=False, owner=ACME).ok
    assert opened(storage).catalog.get_result_table(foreign).tenant_id == ACME
    assert opened(storage).catalog.get_result_table(own).tenant_id == BETA
    assert ResultStore(Catalog(storage)).catalog.scan().num_rows == 0


def test_imported_results_need_an_owner(tmp_path):
    """What a real engine wrote carries no tenant: with an owner its results are all there again."""
    root = tmp_path / "root"
    store = jammi_files.connect(root, durability="os")
    names = import_jammi(FIXTURE, store).imported
    ready = {
        record.table_name: record
        for record in store.as_admin().catalog.list_result_tables_by_status("ready")
    }
    shutil.rmtree(root / "_catalog")
    with pytest.raises(InvalidInputError, match="give owner"):
        repair(root, dry_run=False)
    report = repair(str(root), dry_run=False, owner="global")
    assert report.ok
    found = jammi_files.connect(root)
    for name, record in ready.items():
        anew = found.catalog.get_result_table(name)
        for column in (
            "task",
            "kind",
            "row_count",
            "definition_hash",
            "input_anchors",
            "dimensions",
        ):
            assert getattr(anew, column) == getattr(record, column), (name, column)
        assert found.verify_materialization(name).ok
    assert set(ready) <= set(names)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda storage, name: storage.delete(f"{name}.materialization.json"), "nothing attests"),
        (
            lambda storage, name: storage.replace(f"{name}.materialization.json", b"{}"),
            "the sidecar is damaged",
        ),
        (
            lambda storage, name: storage.replace(f"{name}.parquet", b"PAR1 and no more"),
            "no Parquet file",
        ),
    ],
)
def test_what_is_not_attested_is_kept_under_a_failed_row(damage, problem, storage, store):
    """Data that cannot be judged gets a failed row and keeps its bytes: vacuum leaves it alone."""
    name, sound = build(store), build(store)
    damage(storage, name)
    lose(storage)
    report = repair(storage, dry_run=False, owner="global")
    assert ("quarantine", name) in steps(report)
    assert ("adopt", sound) in steps(report)
    found = opened(storage).catalog
    record = found.get_result_table(name)
    assert (record.status, record.row_count, record.definition_hash) == ("failed", 0, None)
    assert problem in record.properties["error"]
    found.create_result_table(**row("later"))
    found.vacuum(0, dry_run=False)
    assert storage.size(f"{name}.parquet")


def test_other_bytes_are_not_made_ready(storage, store):
    """A result whose data is not what its sidecar attests is never made ready."""
    name, other = build(store), build(store.pinned_to_tenant(ACME))
    storage.replace(f"{name}.parquet", storage.read(f"{other}.parquet"))
    lose(storage)
    repair(storage, dry_run=False)
    record = opened(storage).catalog.get_result_table(name)
    assert record.status == "failed"
    assert record.properties["error"] == "repair: the sidecar attests other bytes"


def test_what_nothing_describes_gets_no_row(storage, store):
    """A row needs source, model and task: where no witness names them the result is only told."""
    store.catalog.create_result_table(**row("mine"))
    write(store, "mine")
    finalize(store, "mine")
    _strip_footers(store)
    storage.create("somebody's.parquet", b"data")
    storage.create("alone.materialization.json", storage.read("mine.materialization.json"))
    build(store)
    lose(storage)
    report = repair(storage, dry_run=False, owner="global")
    left = {a.subject: a.reason for a in report.actions if a.step is RepairStep.LEAVE}
    assert left == {
        "mine": "neither footer nor sidecar nor name says its source_id and model_id and task",
        "alone": "there is no data object",
    }
    assert opened(storage).catalog.get_result_table("mine") is None
    assert storage.size("mine.parquet")


def test_own_names_with_a_footer(storage, store):
    """A result under a name that its maker chose is found by its footer and sidecar."""
    store.catalog.create_result_table(**row("mine"))
    write(store, "mine")
    finalize(store, "mine")
    before = store.catalog.get_result_table("mine")
    lose(storage)
    assert repair(storage, dry_run=False).ok
    assert known(opened(storage).catalog.get_result_table("mine")) == known(before)


def test_a_parent_that_is_gone(storage, store):
    """A row whose parent cannot be rebuilt is cut from it; its anchors still say what it was."""
    parent = build(store)
    anchor = InputAnchor.result_digest(parent, "0" * 64)
    contract = {"descriptor": DESCRIPTOR, "env": ENV, "inputs": [anchor]}
    with store.build("docs", "ner", "model", "m", derived_from=parent, **contract) as out:
        out.write(DATA)
    child = out.table_name
    lose(storage)
    for suffix in (".parquet", ".materialization.json"):
        storage.delete(f"{parent}{suffix}")
    assert repair(storage, dry_run=False).ok
    record = opened(storage).catalog.get_result_table(child)
    assert record.derived_from is None
    assert record.input_anchors == (anchor,)


def test_nothing_to_make_a_catalog_from(storage, tmp_path):
    """Where there is no catalog and no result nothing is written: the root may be a mistake."""
    storage.create("notes.txt", b"x")
    before = contents(storage)
    with pytest.raises(StorageError, match="no catalog at"):
        repair(storage, dry_run=False)
    assert contents(storage) == before
    with pytest.raises(StorageError, match="no catalog at"):
        repair(tmp_path / "nowhere", dry_run=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_of_the_engine_is_imported(tmp_path):
    """A directory of jammi-db is no lost catalog."""
    engine = Path(shutil.copytree(FIXTURE, tmp_path / "engine", copy_function=shutil.copyfile))
    with pytest.raises(InvalidInputError, match="import it"):
        repair(engine, dry_run=False)


# format.json


def wreck_format(storage, data):
    """Let ``format.json`` have those bytes, or be missing."""
    storage.delete("_catalog/format.json")
    if data is not None:
        storage.create("_catalog/format.json", data)


@pytest.mark.parametrize("data", [None, b"", b"{", b"[]", b'{"format": "jammi_files"}', b"\xff"])
def test_format_is_written_anew(data, storage, store):
    """The versions are what the catalog is; only the id, which copies know, can be lost with it."""
    name = build(store)
    rows_before = store.catalog.scan()
    wreck_format(storage, data)
    before = contents(storage)
    (action,) = repair(storage).actions
    assert (action.step, action.subject) == (RepairStep.FORMAT, "_catalog/format.json")
    assert "the catalog's id" in action.loses
    with pytest.raises(StateError, match=r"give catalog_id.*accept_loss"):
        repair(storage, dry_run=False)
    assert contents(storage) == before
    report = repair(storage, dry_run=False, accept_loss=True)
    assert (report.version, report.ok) == (None, True)
    assert opened(storage).catalog.scan() == rows_before
    assert opened(storage).verify_materialization(name).ok


@pytest.mark.parametrize("given", [False, True])
def test_a_copy_still_knows_its_source(given, roots, storage, store):
    """The id is read from what is left of format.json, or is the caller's: copies go on."""
    build(store)
    mirror = roots.new()
    copy_root(Pair(storage, mirror, verify=True))
    catalog_id = root_format.read(mirror).catalog_id
    sound = storage.read("_catalog/format.json")
    wreck_format(storage, None if given else sound[: sound.index(b"library_version")])
    hint = catalog_id if given else None
    assert [action.loses for action in repair(storage, catalog_id=hint).actions] == [None]
    assert repair(storage, dry_run=False, catalog_id=hint).ok
    assert root_format.read(storage).catalog_id == catalog_id
    build(opened(storage))
    copied = copy_root(Pair(storage, mirror, verify=True))
    assert copied.version == opened(storage).catalog.version


def test_another_catalogs_id(storage, store):
    """An id that is none, or not that of a sound format.json, is refused: nothing is written."""
    build(store)
    before = contents(storage)
    for wrong, problem in (("x", "32 hex digits"), ("0" * 32, "the id of this catalog is")):
        with pytest.raises(InvalidInputError, match=problem):
            repair(storage, dry_run=False, catalog_id=wrong)
    assert contents(storage) == before
    known = root_format.read(storage).catalog_id
    assert repair(storage, dry_run=False, catalog_id=known).actions == ()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"format": "other"}', FormatError),
        (
            b'{"format": "jammi_files", "format_version": 99, "catalog_id": "x"}',
            UnsupportedVersionError,
        ),
    ],
)
def test_another_format_is_not_mended(data, error, storage, store):
    """What another program or a newer library wrote is whole: it is only not ours."""
    build(store)
    storage.replace("_catalog/format.json", data)
    before = contents(storage)
    with pytest.raises(error):
        repair(storage, dry_run=False, accept_loss=True)
    assert contents(storage) == before


# A damaged catalog


def damage(storage, key):
    storage.replace(key, storage.read(key)[:-40] + b"damage".ljust(40))


def test_damaged_newest_version(storage, store):
    """Falling back is never silent: it needs consent, says what it gives up, and is a version."""
    kept, lost = build(store), build(store)
    storage.create("orphan.parquet.0123abcd.tmp", b"half")
    newest = store.catalog.version
    damage(storage, key_of(newest))
    with pytest.raises(FormatError):
        Catalog(storage).scan()
    before = contents(storage)
    (finding, *_) = errors(storage)
    assert (finding.kind, finding.remedy) == (Kind.DAMAGED_MANIFEST, Remedy.REPAIR)
    with pytest.raises(StateError, match=rf"restore '{key_of(newest)}'.*accept_loss"):
        repair(storage, dry_run=False)
    plan = repair(storage)
    assert contents(storage) == before
    action, adoption = plan.actions
    assert (action.step, action.subject) == (RepairStep.FALL_BACK, key_of(newest))
    assert (adoption.step, adoption.subject) == (RepairStep.ADOPT, lost)
    assert action.loses == f"what only {key_of(newest)} held"
    assert f"goes back to version {newest - 1}" in action.reason
    report = repair(storage, dry_run=False, accept_loss=True)
    assert report.version == newest + 1
    found = opened(storage)
    assert [info.operation for info in found.catalog.history()][-2:] == ["create", "repair"]
    assert found.catalog.get_result_table(kept).is_ready
    assert found.catalog.get_result_table(lost).is_ready
    assert [finding.subject for finding in errors(storage)] == [key_of(newest)]
    found.catalog.create_result_table(**row("later"))
    found.catalog.vacuum(0, dry_run=False)
    assert errors(storage) == []


@pytest.mark.usefixtures("small_runs")
def test_fall_back_loses_only_the_newest(storage, store, monkeypatch):
    """Rows keep their versions, tags and tenants; builds that are dead are ended as ever."""
    catalog = store.pinned_to_tenant(ACME).catalog
    for number in range(13):
        catalog.create_result_table(**row(f"t{number}"))
    catalog.delete_result_table("t3")
    store.catalog.tag("a", 5)
    name = build(store)
    expected = store.as_admin().catalog.snapshot(store.catalog.version - 1).scan()
    version = store.catalog.version
    damage(storage, key_of(version))
    monkeypatch.setattr(lease, "find_death", lambda held, *_: "gone" if held else None)
    report = repair(storage, dry_run=False, accept_loss=True)
    found = opened(storage)
    assert found.catalog.tags() == {"a": 5}
    assert found.catalog.snapshot(tag="a").scan().num_rows == 5
    assert found.catalog.get_result_table("t3") is None
    assert found.catalog.get_result_table(name).is_ready
    assert ("adopt", name) in steps(report)
    assert ("recover", "t0") in steps(report)
    others = pc.field("table_name") != name
    fallen = found.catalog.snapshot(version + 1).scan().filter(others)
    assert fallen.sort_by("table_name") == expected.filter(others).sort_by("table_name")
    assert found.catalog.changes(since=version - 1).num_rows == 13  # all that died, and this one


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.usefixtures("small_runs")
def test_damaged_segment(missing, storage, store):
    """Rows of a lost segment come from older versions, and from the results themselves."""
    catalog = store.catalog
    names = [build(store) for _ in range(9)]
    catalog.delete_result_table(names[0])
    doomed = max(catalog.log.head().header.segments, key=lambda info: info.rows)
    if missing:
        storage.delete(doomed.key)
    else:
        damage(storage, doomed.key)
    finding = next(f for f in errors(storage) if f.kind is Kind.DAMAGED_SEGMENT)
    assert finding.remedy is Remedy.REPAIR
    with pytest.raises(StateError, match=doomed.key):
        repair(storage, dry_run=False)
    report = repair(storage, dry_run=False, accept_loss=True)
    assert ("fall_back", doomed.key) in steps(report)
    ready = opened(storage).catalog.list_result_tables_by_status("ready")
    assert {record.table_name for record in ready} == set(names[1:])
    assert all(record.definition_hash for record in ready)


@pytest.mark.parametrize("others", [6, 9])
def test_swapped_segments(others, storage, monkeypatch):
    """Sound segments under each other's keys are damage to readers; repair has the rows of both."""
    monkeypatch.setattr("jammi_files.manifest.INLINE_ROWS", 4)
    catalog = Catalog(storage)
    catalog.create_result_tables(rows(*(f"a{each}" for each in range(6))))
    catalog.create_result_tables(rows(*(f"b{each}" for each in range(others))))
    first, second = (info.key for info in catalog.log.head().header.segments)
    before = storage.read(first), storage.read(second)
    storage.replace(first, before[1])
    storage.replace(second, before[0])
    for use in (Catalog.scan, lambda catalog: catalog.get_result_table("a1")):
        with pytest.raises(FormatError, match="another one than the manifest lists"):
            use(Catalog(storage))
    found = {(finding.kind, finding.subject) for finding in errors(storage)}
    assert found == {(Kind.DAMAGED_SEGMENT, first), (Kind.DAMAGED_SEGMENT, second)}
    with pytest.raises(StateError, match=first):
        repair(storage, owner="global", dry_run=False)
    report = repair(storage, owner="global", dry_run=False, accept_loss=True)
    lost = {each.subject for each in report.actions if each.step is RepairStep.FALL_BACK}
    assert lost == {first, second}
    names = {f"a{each}" for each in range(6)} | {f"b{each}" for each in range(others)}
    assert {*Catalog(storage).scan(columns=["table_name"])[0].to_pylist()} >= names


def test_a_segment_of_another_catalog(storage, monkeypatch):
    """Rows of a segment that no version describes stay out, whatever key it lies under."""
    monkeypatch.setattr("jammi_files.manifest.INLINE_ROWS", 4)
    catalog, foreign = Catalog(storage), Catalog(MemoryRoots().new())
    catalog.create_result_tables(rows(*(f"a{each}" for each in range(6))))
    foreign.create_result_tables(rows(*(f"b{each}" for each in range(6))))
    (info,), (other,) = (each.log.head().header.segments for each in (catalog, foreign))
    storage.replace(info.key, foreign.storage.read(other.key))
    repair(storage, owner="global", dry_run=False, accept_loss=True)
    assert Catalog(storage).scan().num_rows == 0


@pytest.mark.usefixtures("small_runs")
def test_no_version_is_whole(storage, store):
    """With every manifest damaged and its segments unlisted the results alone make the catalog."""
    names = [build(store.pinned_to_tenant(tenant)) for tenant in (None, ACME)]
    for number in range(1, store.catalog.version + 1):
        damage(storage, key_of(number))
    newest = store.catalog.log.known.version
    report = repair(storage, dry_run=False, accept_loss=True)
    assert report.version == newest + 1
    found = opened(storage)
    ready = found.catalog.list_result_tables_by_status("ready")
    assert [record.table_name for record in ready] == names
    assert [record.tenant_id for record in ready] == [None, ACME]
    assert report.ok  # no older version is kept any more, so none is missed
    assert found.catalog.log.head().header.retention.floor == newest + 1


def swap(storage, one, other):
    """Let each of two objects hold the other's bytes."""
    first, second = storage.read(one), storage.read(other)
    storage.replace(one, second)
    storage.replace(other, first)


def test_a_lost_vacuum_stays_done(storage, store):
    """What a lost version had retired is not kept again: a tag on it goes, and the plan says so."""
    for name in ("old", "gone"):
        build(store)
        store.catalog.tag(name)
    build(store)
    tags = store.catalog.tags()
    store.catalog.untag("gone")
    store.catalog.vacuum(0, keep_last=2, dry_run=False)
    floor, newest = store.catalog.log.head().header.retention.floor, store.catalog.version
    for lost in (newest, newest - 1):  # the vacuum, and what removed the tag
        damage(storage, key_of(lost))
    plan = repair(storage)
    loses = next(action.loses for action in plan.actions if action.step is RepairStep.FALL_BACK)
    assert f"tag 'gone', as version {tags['gone']} is empty or missing" in loses
    assert f"versions 1 to {floor - 1} without a tag" in loses
    report = repair(storage, dry_run=False, accept_loss=True)
    assert report.actions == plan.actions
    kept = opened(storage).catalog.log.head().header.retention
    assert (kept.floor, dict(kept.tags)) == (floor, {"old": tags["old"]})
    damaged = {key_of(newest), key_of(newest - 1)}
    assert {finding.subject for finding in report.remaining} == damaged
    assert not repair(storage, dry_run=False, accept_loss=True).actions
    opened(storage).catalog.vacuum(0, dry_run=False)
    assert errors(storage) == []


def test_what_a_lost_version_made_ready(storage, store):
    """A result whose sidecar attests its data is ready again, though its maker still lives."""
    mine = store.pinned_to_tenant(ACME)
    mine.catalog.create_result_table(**row("written"))
    write(mine, "written")
    how = {"source_id": "docs", "task": "ner", "model_id": "m"}
    name = mine.get_or_build(DESCRIPTOR, ENV, [], lambda: DATA, **how).table_name
    before = mine.catalog.get_result_table(name)
    damage(storage, key_of(store.catalog.version))
    repair(storage, dry_run=False, accept_loss=True)
    found = ResultStore(Catalog(storage)).pinned_to_tenant(ACME)
    anew = found.catalog.get_result_table(name)
    assert known(anew) == known(before)
    assert (anew.properties, anew.lease) == (before.properties, None)
    assert found.verify_materialization(name).ok
    assert found.catalog.get_result_table("written").status == "building"  # nothing attests it
    made = found.get_or_build(DESCRIPTOR, ENV, [], lambda: pytest.fail("it is there"), **how)
    assert made.table_name == name


@pytest.mark.parametrize("left", [(), (".parquet",), (".materialization.json",)])
def test_a_deleted_row_does_not_come_back_ready(left, storage, store):
    """A ready row of which neither data nor sidecar is left is failed: there is nothing to read."""
    name, other = build(store), build(store)
    damage(storage, key_of(store.catalog.version))
    for suffix in {".parquet", ".materialization.json"} - {*left}:
        storage.delete(f"{name}{suffix}")
    report = repair(storage, dry_run=False, accept_loss=True)
    record = opened(storage).catalog.get_result_table(name)
    assert (("quarantine", name) in steps(report)) is not bool(left)
    assert record.status == ("ready" if left else "failed")
    if not left:
        assert (record.row_count, record.lease) == (0, None)
        assert "was deleted, or lost" in record.properties["error"]
        assert [finding.kind for finding in report.remaining] == [Kind.DAMAGED_MANIFEST]
    assert opened(storage).catalog.get_result_table(other).is_ready


@pytest.mark.parametrize("of_newest", [True, False])
def test_another_versions_bytes(of_newest, storage, store):
    """A manifest that says that it is another version is not taken for the one in its place."""
    names = [build(store) for _ in range(3)]
    newest = store.catalog.version
    swap(storage, key_of(newest if of_newest else newest - 1), key_of(2))
    if not of_newest:
        damage(storage, key_of(newest))
    report = repair(storage, dry_run=False, accept_loss=True)
    base = newest - 1 if of_newest else newest - 2
    assert f"goes back to version {base}" in report.actions[0].reason
    assert any("says that it is version 2" in action.reason for action in report.actions)
    found = opened(storage).catalog
    assert {r.table_name for r in found.list_result_tables_by_status("ready")} == {*names}


def test_a_newer_library_is_no_damage(storage, store, monkeypatch):
    """A version of a newer format is whole: nobody falls back behind it."""
    build(store)
    key = key_of(store.catalog.version)
    header, table, _ = manifest.decode_manifest(key, storage.read(key))
    with monkeypatch.context() as patched:
        patched.setattr("jammi_files.header.FORMAT_VERSION", 2)
        storage.replace(key, manifest.encode_manifest(header, table))
    before = contents(storage)
    with pytest.raises(UnsupportedVersionError):
        repair(storage, dry_run=False, accept_loss=True)
    assert contents(storage) == before


def test_orphan_segments_are_never_used(storage, store):
    """Rows of a commit that was never made stay out: their segment is listed by no version."""
    store.catalog.create_result_tables(rows(*(f"t{number}" for number in range(200))))
    (info,) = store.catalog.log.head().header.segments
    build(store)
    storage.create(f"_catalog/segments/{'0' * 32}.parquet", storage.read(info.key))
    storage.delete(info.key)
    repair(storage, dry_run=False, accept_loss=True)
    names = opened(storage).catalog.scan(columns=["table_name"]).column(0).to_pylist()
    assert "t7" not in names
    assert len(names) == 1


def test_a_process_that_knows_better_comes_first(storage, store):
    """A live writer that still has the damaged version in memory heals it; repair then loses."""
    build(store)
    damage(storage, key_of(store.catalog.version))

    class Late(CountingStorage):
        def create(self, key, data):
            if "manifest" in key:
                store.catalog.create_result_table(**row("alive"))
            super().create(key, data)

    with pytest.raises(ConflictError, match="look again"):
        repair(Late(storage), dry_run=False, accept_loss=True)
    assert opened(storage).catalog.scan().num_rows == 2
    assert repair(storage, dry_run=False).version is None


def test_healthy_root(storage, store):
    """Of a healthy root nothing is changed, dry or not."""
    build(store)
    before = contents(storage)
    for dry_run in (True, False):
        report = repair(storage, dry_run=dry_run)
        assert (report.actions, report.version, report.ok) == ((), None, True)
    assert contents(storage) == before


def test_dead_builds_and_their_traces(storage, store, monkeypatch):
    """What recover does without loss is done; a ready row that lost its sidecar is only told."""
    ready = build(store)
    store.catalog.create_result_table(**row("dead"))
    store.catalog.create_result_table(**row("odd"))
    storage.create(lease.key_of("odd"), b"damaged")
    storage.create(lease.key_of("over"), b"{}")
    storage.delete(f"{ready}.materialization.json")
    monkeypatch.setattr(lease, "find_death", lambda *_: "gone")
    plan = repair(storage)
    report = repair(storage, dry_run=False)
    assert {("recover", "dead"), ("recover", lease.key_of("over"))} <= {*steps(plan)}
    assert {("renew", lease.key_of("odd")), ("recover", "odd")} <= {*steps(report)}
    found = opened(storage).catalog
    assert found.get_result_table("dead").status == "failed"
    assert found.get_result_table(ready).is_ready
    assert [finding.kind for finding in report.remaining] == [Kind.READY_WITHOUT_SIDECAR]
    assert not report.ok


def _on_another_machine(store, name, expires_at):
    """Let a row be built on another machine; return the lease that it has."""
    store.catalog.create_result_table(**row(name))
    far = dataclasses.replace(
        store.catalog.get_result_table(name).lease,
        host="far",
        owner="far",
        expires_at=expires_at,
    )

    def change(draft):
        draft.put(dataclasses.replace(draft.get(name).record, lease=far), "update")

    store.catalog.log.commit(change)
    return far


def test_a_damaged_lease_ends_no_build(storage, store, monkeypatch):
    """Whose lease cannot be read has as long as a new lease runs to show that the build lives."""
    now = lease.CLOCK.now()
    held = _on_another_machine(store, "x", now - 60 * 10**9)
    state = lease.BuildState("x", dataclasses.replace(held, expires_at=now + 800 * 10**9), 5)
    damaged = state.to_json_bytes()[:-9]
    storage.replace(lease.key_of("x"), damaged)
    plan = repair(storage)
    assert storage.read(lease.key_of("x")) == damaged
    report = repair(storage, dry_run=False)
    assert steps(report) == steps(plan) == [("renew", lease.key_of("x"))]
    assert report.ok
    assert not repair(storage, dry_run=False).actions
    assert opened(storage).catalog.get_result_table("x").status == "building"
    renewed = lease.read_state(storage, "x").lease
    assert renewed == dataclasses.replace(held, expires_at=renewed.expires_at)
    monkeypatch.setattr(lease.CLOCK, "now", lambda: renewed.expires_at)
    assert ("recover", "x") in steps(repair(storage, dry_run=False))


def test_a_process_that_is_gone_may_have_passed_its_build_on(storage, store):
    """A row's process that is gone says nothing of who wrote the side object that is damaged."""
    store.catalog.create_result_table(**row("x"))
    own = store.catalog.get_result_table("x").lease
    gone = dataclasses.replace(own, process_start="another", expires_at=0)
    record = dataclasses.replace(store.catalog.get_result_table("x"), lease=gone)
    store.catalog.log.commit(lambda draft: draft.put(record, "update"))
    storage.replace(lease.key_of("x"), b"{")
    assert steps(repair(storage, dry_run=False)) == [("renew", lease.key_of("x"))]
    assert lease.find_build_death(storage, record) is None


def test_an_owner_that_renewed_meanwhile(storage, store):
    """A side object that its owner has written anew since it was found damaged is left alone."""
    store.catalog.create_result_table(**row("x"))
    store.catalog.set_checkpoint("x", 7)
    sound = storage.read(lease.key_of("x"))
    record = store.catalog.get_result_table("x")
    assert lease.mend_state(storage, record) is False
    assert storage.read(lease.key_of("x")) == sound


def test_progress_and_executor(storage, store):
    """Every result is read once, by the caller's executor, and counted."""
    for _ in range(3):
        build(store)
    lose(storage)
    seen = []
    with ThreadPoolExecutor(1) as executor:
        repair(storage, executor=executor, progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_dry_run_writes_nothing(storage, store):
    """A plan of any repair reads only."""
    for _ in range(3):
        build(store)
    for wreck in (lambda: None, lambda: damage(storage, key_of(2)), lambda: lose(storage)):
        wreck()
        counting = CountingStorage(storage)
        before = contents(storage)
        repair(counting)
        assert contents(storage) == before
        changing = {"create", "replace", "writer", "publish", "delete", "lock"}
        assert not changing & set(counting.calls.kinds)


@pytest.mark.parametrize("wreck", ["lost", "damaged"])
def test_killed_repair(wreck, roots):
    """Wherever a repair is cut off, the next one ends it."""
    prepared = roots.new()
    store = ResultStore(Catalog(prepared))
    names = {build(store) for _ in range(3)}
    if wreck == "lost":
        lose(prepared)
    else:
        damage(prepared, key_of(store.catalog.version))
        store.catalog.log.read(1)
    for at, when in ((at, when) for at in itertools.count() for when in (When.BEFORE, When.AFTER)):
        storage = roots.copy(prepared)
        try:
            repair(CrashingStorage(storage, at, when), dry_run=False, accept_loss=True)
        except Crash:
            repair(storage, dry_run=False, accept_loss=True)
        else:
            break
        rows_found = opened(storage).catalog.scan(columns=["table_name"]).column(0).to_pylist()
        assert set(rows_found) == names
    assert at > 1
