"""Vacuum beside writers, readers and other vacuums, each stopped at every storage operation.

The grace is 0 throughout: what holds here holds by protocol, not by luck with clocks.
"""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
from support.faults import HookedStorage
from support.invariants import check_invariants
from support.processes import run_together
from support.results import DATA, build, finalize, row, rows, write
from support.roots import LocalRoots, MemoryRoots

from jammi_files import local, manifest
from jammi_files.catalog import Catalog
from jammi_files.errors import (
    AlreadyExistsError,
    ConflictError,
    JammiFilesError,
    StateError,
    StorageError,
    VersionNotFoundError,
)
from jammi_files.fsck import Kind
from jammi_files.interop import import_jammi
from jammi_files.local import LocalStorage
from jammi_files.store import ResultStore

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
NOTICES = {
    Kind.DEAD_BUILD,
    Kind.ORPHAN_OBJECT,
    Kind.ORPHAN_SEGMENT,
    Kind.ORPHAN_BUILD_STATE,
    Kind.RETIRED_VERSION,
    Kind.TEMPORARY_FILE,
}


class Paused(HookedStorage):
    """Lets somebody else act once, before operation number ``at``; has no lock, or a shared one."""

    def __init__(self, inner, at, act, *, locked=False, known_first=False):
        super().__init__(inner, self._count)
        self.at, self.act, self.locked = at, act, locked
        self.is_locked = not known_first
        self.done, self.acted = 0, False

    def _count(self, moment, _, __):
        if moment == "before":
            self.done += 1
            if self.done > self.at and not self.acted:
                self.acted = True
                self.act(self.inner)

    def lock(self):
        return super().lock() if self.locked else contextlib.nullcontext()


@pytest.fixture(params=["local", "memory"])
def roots(request, tmp_path):
    (tmp_path / "roots").mkdir()
    supply = LocalRoots(tmp_path / "roots") if request.param == "local" else MemoryRoots()
    yield supply
    supply.close()


@pytest.fixture
def memory_roots():
    supply = MemoryRoots()
    yield supply
    supply.close()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(manifest, "INLINE_ROWS", 4)
    monkeypatch.setattr(manifest, "FAN_OUT", 2)


def grow(catalog, number, first=0):
    for each in range(first, first + number):
        catalog.create_result_table(**row(f"t{each}"))


def names(reads):
    return set(reads.scan(columns=["table_name"]).column(0).to_pylist())


def vacuum(storage):
    """Commit something, so that there is a version to retire, and vacuum everything else away."""
    catalog = Catalog(storage)
    catalog.create_result_table(**row(f"rival{catalog.version}"))
    assert catalog.vacuum(0, dry_run=False).version


def compact_and_vacuum(storage):
    """Let no segment of an earlier version be left."""
    catalog = Catalog(storage)
    catalog.create_result_tables(rows(*(f"rival{catalog.version}.{each}" for each in range(6))))
    catalog.compact()
    assert len(catalog.log.head().runs.segments) == 1
    vacuum(storage)


def _transaction(store):
    with store.catalog.transaction() as tx:
        tx.create_result_table(**row("new"))
        tx.delete_result_table("t1")
        tx.create_result_tables(rows(*(f"more{number}" for number in range(6))))


def _large_merge(store):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "MERGE_IN_COMMIT_ROWS", 1)
        store.catalog.create_result_tables(rows(*(f"new{number}" for number in range(7))))


def _build_named(store):
    store.catalog.create_result_table(**row("new"))
    write(store, "new")
    finalize(store, "new")


WRITERS = {
    "create": lambda store: store.catalog.create_result_table(**row("z")),
    "bulk": lambda store: store.catalog.create_result_tables(rows("new0", "new1")),
    "run": lambda store: store.catalog.create_result_tables(rows(*(f"new{n}" for n in range(8)))),
    "large_merge": _large_merge,
    "update": lambda store: store.catalog.update_result_table_status("t3", "building", 9),
    "delete": lambda store: store.catalog.delete_result_table("t3"),
    "transaction": _transaction,
    "compact": lambda store: store.catalog.compact(),
    "build": build,
    "build_named": _build_named,
    "recover": lambda store: store.recover(),
    "delete_table": lambda store: store.delete_table(
        store.catalog.list_result_tables_by_status("ready")[0].table_name
    ),
    "tag": lambda store: store.catalog.tag("x"),
}


PURE = {"create", "bulk", "run", "large_merge", "update", "delete", "compact", "tag"}
"""Acts that read nothing but in their commit, which begins anew: a vacuum cannot fail them."""


@pytest.mark.parametrize("rival", [vacuum, compact_and_vacuum])
@pytest.mark.parametrize("name", WRITERS)
def test_paused_writer(name, rival, memory_roots):
    """`trap 3`, `trap 7`, `trap 19`: a writer that comes back late loses and breaks nothing.

    It stops before each of its storage operations in turn, while others commit, merge, retire its
    versions and delete its segments, as if for days; then it goes on. In memory there is no lock
    between handles, as on an object store.
    """
    roots, known_first = memory_roots, rival is vacuum
    prepared = roots.new()
    store = ResultStore(Catalog(prepared))
    store.catalog.create_result_tables(rows(*(f"t{number}" for number in range(8))))
    build(store)
    grow(store.catalog, 7, first=8)
    assert len(store.catalog.log.head().runs.segments) == 2
    act = WRITERS[name]
    wanted = roots.copy(prepared)
    act(ResultStore(Catalog(wanted)))
    difference = len(names(Catalog(wanted))) - len(names(Catalog(prepared)))
    for at in itertools.count():
        storage = roots.copy(prepared)
        before = names(Catalog(storage))
        paused = Paused(storage, at, rival, known_first=known_first)
        try:
            act(ResultStore(Catalog(paused)))
            error = None
        except JammiFilesError as problem:
            error = problem
        if not paused.acted:
            break
        acceptable = () if name in PURE else (ConflictError, VersionNotFoundError)
        assert error is None or isinstance(error, acceptable), (at, error)
        found = {each for each in names(Catalog(storage)) if not each.startswith("rival")}
        if error is None:
            assert len(found) == len(before) + difference, at
        else:
            assert found >= before, at
        check_invariants(storage, NOTICES)
        vacuum(storage)
        check_invariants(storage, {Kind.DEAD_BUILD, Kind.ORPHAN_BUILD_STATE})
        assert found <= names(Catalog(storage))
    assert at > 3


READERS = {
    "scan": lambda catalog: catalog.scan(),
    "get": lambda catalog: catalog.get_result_table("t3"),
    "find": lambda catalog: catalog.find_result_tables("docs"),
    "snapshot": lambda catalog: catalog.snapshot().scan(),
    "history": lambda catalog: catalog.as_admin().history(),
    "changes": lambda catalog: catalog.changes(since=catalog.version - 3),
    "resolve": lambda catalog: catalog.list_result_tables_by_status("building"),
}


@pytest.mark.parametrize("rival", [vacuum, compact_and_vacuum])
@pytest.mark.parametrize("name", READERS)
def test_paused_reader(name, rival, roots):
    """`trap 4`, `trap 9`: a reader that comes back late is right, or told what happened."""
    prepared = roots.new()
    grow(Catalog(prepared), 8)
    for at in itertools.count():
        storage = roots.copy(prepared)
        paused = Paused(storage, at, rival)
        with contextlib.suppress(VersionNotFoundError):
            answer = READERS[name](Catalog(paused))
            if name in ("scan", "snapshot"):
                found = set(answer.column("table_name").to_pylist())
                assert {each for each in found if each.startswith("t")} == {
                    f"t{number}" for number in range(8)
                }
            else:
                assert answer is not None
        if not paused.acted:
            break
    assert at > 1


def test_paused_merge_never_lists_a_deleted_segment(roots, monkeypatch):
    """`trap 7`, `trap 19`: the segment of a merge that was overtaken by a vacuum is written anew.

    All that it merges is still listed, so nothing but the vacuum tells the merge that its own
    segment, which no version listed yet, has been deleted.
    """
    monkeypatch.setattr(manifest, "MERGE_IN_COMMIT_ROWS", 1)
    storage = roots.new()
    grow(Catalog(storage), 7)
    segments = []

    def hook(moment, kind, key):
        if (moment, kind) == ("after", "create") and "segments" in key:
            segments.append(key)
        if (moment, kind) == ("before", "lock") and len(segments) == 2 and "done" not in segments:
            segments.append("done")
            Catalog(storage).vacuum(0, dry_run=False)

    catalog = Catalog(HookedStorage(storage, hook))
    grow(catalog, 2, first=7)
    merged = segments[1]
    assert storage.size(merged) is None
    fresh = Catalog(storage)
    assert merged not in {info.key for info in fresh.log.head().header.segments}
    assert len(fresh.log.head().header.segments) == 1
    assert names(fresh) == {f"t{number}" for number in range(9)}
    check_invariants(storage)


def test_a_merge_of_segments_that_another_one_has_merged(roots, monkeypatch):
    """`trap 19`: a merge that comes after another one of the same segments is left out."""
    monkeypatch.setattr(manifest, "FAN_OUT", 99)
    storage = roots.new()
    catalog = Catalog(storage)
    grow(catalog, 15)
    assert len(catalog.log.head().runs.segments) > 1
    begun = []

    def hook(moment, kind, key):
        if (moment, kind) == ("after", "create") and "segments" in key and not begun:
            begun.append(key)
            Catalog(storage).compact()

    late = Catalog(HookedStorage(storage, hook))
    late.compact()
    assert begun
    fresh = Catalog(storage)
    assert len(fresh.log.head().runs.segments) == 1
    assert begun[0] not in {info.key for info in fresh.log.head().header.segments}
    assert names(fresh) == {f"t{number}" for number in range(15)}
    check_invariants(storage, NOTICES)


def rebuild(storage):
    """Finish another vacuum's work, and use the name of a deleted result again."""
    store = ResultStore(Catalog(storage))
    with contextlib.suppress(ConflictError):
        store.catalog.vacuum(0, dry_run=False)
        with contextlib.suppress(AlreadyExistsError):
            _build_named(store)


@pytest.mark.parametrize("rival", [vacuum, compact_and_vacuum, rebuild])
def test_paused_vacuum(rival, tmp_path, monkeypatch):
    """`trap 10`: a vacuum that comes back after another one and new commits deletes no more.

    Names that are in use again by then are looked at once more, with the writers kept out.
    """
    monkeypatch.setattr(local, "LOCK_TIMEOUT", 0.001)
    roots = LocalRoots(tmp_path / "roots")
    (tmp_path / "roots").mkdir()
    prepared = roots.new()
    store = ResultStore(Catalog(prepared))
    grow(store.catalog, 8)
    kept = build(store)
    _build_named(store)
    store.catalog.delete_result_table("new")
    for at in itertools.count():
        storage = roots.copy(prepared)
        outcome = []

        def act(inner, outcome=outcome):
            try:
                rival(inner)
            except (ConflictError, StateError):
                outcome.append("locked out")

        paused = Paused(storage, at, act, locked=True)
        with contextlib.suppress(ConflictError, StateError):
            Catalog(paused).vacuum(0, dry_run=False)
        if not paused.acted:
            break
        fresh = ResultStore(Catalog(storage))
        assert names(fresh.catalog) >= {*(f"t{number}" for number in range(8)), kept}
        for record in fresh.catalog.list_result_tables_by_status("ready"):
            assert fresh.verify_materialization(record.table_name).ok, (at, record.table_name)
        check_invariants(storage, NOTICES)
        fresh.catalog.vacuum(0, dry_run=False)
        check_invariants(storage, {Kind.DEAD_BUILD, Kind.ORPHAN_OBJECT})
    assert at > 20


def test_processes(tmp_path):
    """`trap 3`, `trap 7`, `trap 19`: processes that do everything at once lose nothing."""
    root = str(tmp_path / "root")
    Catalog.open(root, durability="os").create_result_table(**row("t"))
    jobs = [(root, who, number) for number, who in enumerate(["write", "write", "vacuum", "read"])]
    made = run_together(_work, jobs)
    acknowledged = {name for each in made for name in each}
    assert len(acknowledged) > 20
    store = ResultStore(Catalog.open(root))
    assert names(store.catalog) == acknowledged | {"t"}
    for record in store.catalog.list_result_tables_by_status("ready"):
        assert store.verify_materialization(record.table_name).ok
    store.catalog.vacuum(0, dry_run=False)
    check_invariants(root, {Kind.DEAD_BUILD})


def _work(root, who, number):
    manifest.INLINE_ROWS, manifest.FAN_OUT, manifest.MERGE_IN_COMMIT_ROWS = 4, 2, 8
    store = ResultStore(Catalog(LocalStorage(root, "os")))
    catalog, made = store.catalog, []
    for turn in range(25):
        if who == "write":
            made.append(f"w{number}.{turn}")
            catalog.create_result_table(**row(made[-1]))
            doomed, kept = build(store), build(store)
            store.delete_table(doomed)
            made.append(kept)
        elif who == "vacuum":
            catalog.vacuum(0, dry_run=False)
            catalog.compact()
        else:
            with contextlib.suppress(VersionNotFoundError):
                snapshot = catalog.snapshot()
                assert snapshot.scan().num_rows == snapshot.scan().num_rows >= 1
    return made


def test_data_of_a_build_is_whole(roots):
    """`trap 7`: what a build wrote before a vacuum is there when it becomes ready after it."""
    storage = roots.new()
    store = ResultStore(Catalog(storage))
    info = store.create_table("docs", "ner", "model", "m")
    write(store, info.table_name)
    vacuum(storage)
    finalize(store, info.table_name)
    assert store.verify_materialization(info.table_name).ok
    assert store.open_table(info.table_name).count_rows() == DATA.num_rows


@pytest.mark.parametrize("earlier", [False, True])
def test_import_beside_vacuum(earlier, tmp_path, monkeypatch):
    """`trap 7`: an import names only objects that are there, wherever a vacuum comes between.

    Its copies have no row before its one commit; ``earlier`` ones were left by an import that was
    killed. It is imported whole, or refused whole and then imported by a second call.
    """
    monkeypatch.setattr(local, "LOCK_TIMEOUT", 0.001)
    (tmp_path / "roots").mkdir()
    roots = LocalRoots(tmp_path / "roots")
    prepared = roots.new()
    grow(Catalog(prepared), 3)
    if earlier:
        with pytest.raises(StorageError, match="killed"):
            import_jammi(FIXTURE, ResultStore(Catalog(HookedStorage(prepared, _kill_at_commit))))
    refused = 0
    for at in itertools.count():
        storage = roots.copy(prepared)

        def rival(inner):
            with contextlib.suppress(ConflictError, StateError):
                vacuum(inner)

        paused = Paused(storage, at * 23, rival, locked=True)
        try:
            import_jammi(FIXTURE, ResultStore(Catalog(paused)))
        except (ConflictError, StateError):  # without a grace a temporary file may go as well
            refused += 1
            import_jammi(FIXTURE, ResultStore(Catalog(storage)))
        if not paused.acted:
            break
        store = ResultStore(Catalog(storage)).as_admin()
        ready = store.catalog.list_result_tables_by_status("ready")
        assert len(ready) > 3
        assert all(store.verify_materialization(record.table_name).ok for record in ready)
    assert refused


def _kill_at_commit(moment, kind, key):
    if (moment, kind) == ("before", "create") and "manifest" in key:
        raise StorageError("killed")


def test_vacuum_beside_an_import(tmp_path, monkeypatch):
    """`trap 7`: a vacuum that listed a killed import's copies spares them when they get rows."""
    monkeypatch.setattr(local, "LOCK_TIMEOUT", 0.001)
    (tmp_path / "roots").mkdir()
    roots = LocalRoots(tmp_path / "roots")
    prepared = roots.new()
    grow(Catalog(prepared), 3)
    with pytest.raises(StorageError, match="killed"):
        import_jammi(FIXTURE, ResultStore(Catalog(HookedStorage(prepared, _kill_at_commit))))
    for at in itertools.count():
        storage = roots.copy(prepared)

        def rival(inner):
            with contextlib.suppress(ConflictError, StateError):
                import_jammi(FIXTURE, ResultStore(Catalog(inner)))

        paused = Paused(storage, at * 7, rival, locked=True)
        with contextlib.suppress(ConflictError):
            Catalog(paused).vacuum(0, dry_run=False)
        if not paused.acted:
            break
        store = ResultStore(Catalog(storage)).as_admin()
        for record in store.catalog.list_result_tables_by_status("ready"):
            assert store.verify_materialization(record.table_name).ok, (at, record.table_name)
    assert at > 5
