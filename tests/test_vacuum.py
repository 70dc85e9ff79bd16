"""Vacuum: what it removes, what it keeps, and what readers of retired versions are told."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.clocks import DAY, ClockedStorage
from support.faults import CountingStorage, HookedStorage
from support.invariants import check_invariants
from support.results import DATA, TABLE, build, finalize, row, rows, write
from support.roots import LocalRoots, MemoryRoots, contents

from jammi_files import lease, manifest
from jammi_files.catalog import Catalog
from jammi_files.draft import SEGMENTS
from jammi_files.errors import (
    ConflictError,
    FormatError,
    InvalidInputError,
    StateError,
    StorageError,
    VersionNotFoundError,
)
from jammi_files.fsck import Kind
from jammi_files.garbage import VacuumKind
from jammi_files.local import LocalStorage
from jammi_files.log import PREFIX, key_of
from jammi_files.store import ResultStore


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path):
    (tmp_path / "roots").mkdir()
    supply = LocalRoots(tmp_path / "roots") if request.param == "local" else MemoryRoots()
    yield ClockedStorage(supply.new())
    supply.close()


@pytest.fixture
def store(storage):
    return ResultStore(Catalog(storage))


@pytest.fixture
def catalog(store):
    return store.catalog


def grow(catalog, number, first=0):
    for each in range(first, first + number):
        catalog.create_result_table(**row(f"t{each}"))


def names(reads):
    return set(reads.scan(columns=["table_name"]).column(0).to_pylist())


def kinds(report):
    """Return the keys of a report by kind, without their directories."""
    found = {}
    for action in report.actions:
        found.setdefault(str(action.kind), set()).add(action.key.rpartition("/")[2])
    return found


def readable(storage):
    """Return the versions that a fresh handle can read."""
    found = []
    for number in range(1, Catalog(storage).version + 1):
        try:
            Catalog(storage).snapshot(number).scan()
        except VersionNotFoundError:
            continue
        found.append(number)
    return found


def objects(storage):
    return {key for key in contents(storage.inner) if key != "_catalog/lock"}


@pytest.mark.usefixtures("small_runs")
def test_old_versions_are_retired(storage, catalog):
    """Versions that nobody keeps are emptied, their segments deleted; the rows stay."""
    grow(catalog, 30)
    before = catalog.scan().sort_by("table_name")
    report = catalog.vacuum(0, dry_run=False)
    assert report.version == catalog.version == 31
    assert report.floor == 30
    assert report.versions_retired == 29
    assert readable(storage) == [30, 31]
    assert Catalog(storage).scan().sort_by("table_name") == before
    assert catalog.get_result_table("t7").table_name == "t7"
    check_invariants(storage)


@pytest.mark.usefixtures("small_runs")
def test_versions_go_before_their_segments(storage, catalog):
    """`trap 20`: no segment is deleted before every version that lists it is emptied."""
    grow(catalog, 30)
    counting = CountingStorage(storage)
    with counting.counting() as calls:
        Catalog(counting).vacuum(0, dry_run=False)
    places = {"replace": PREFIX, "delete": SEGMENTS}
    done = [call.kind for call in calls if call.key.startswith(places.get(call.kind, "-"))]
    assert done == sorted(done, reverse=True)
    assert set(done) == set(places)


@pytest.mark.usefixtures("small_runs")
def test_nothing_is_leaked(storage, store):
    """What is left after a vacuum is what the newest versions need, and the retired names."""
    catalog = store.catalog
    kept = [build(store) for _ in range(12)]
    for _ in range(12):
        store.delete_table(build(store))
    catalog.delete_result_table(build(store))  # the row alone: its objects are garbage
    catalog.compact()
    catalog.vacuum(0, dry_run=False)
    left = objects(storage)
    listed = {info.key for info in catalog.log.head().header.segments}
    listed |= {info.key for info in catalog.log.at(catalog.version - 1).header.segments}
    results = {f"{name}.parquet" for name in kept} | {f"{n}.materialization.json" for n in kept}
    versions = {key_of(number) for number in range(1, catalog.version + 1)}
    assert left == {"_catalog/format.json", *listed, *results, *versions}
    check_invariants(storage)


def test_version_names_are_never_free(storage, catalog):
    """`B279`, `trap 3`: a retired version keeps its name with no bytes: nobody makes it again."""
    grow(catalog, 5)
    catalog.vacuum(0, dry_run=False)
    assert catalog.log.versions() == [1, 2, 3, 4, 5, 6]
    assert [storage.size(key_of(number)) for number in range(1, 5)] == [0] * 4
    with pytest.raises(FileExistsError):
        storage.create(key_of(3), b"anew")


def test_the_grace_begins_when_the_next_version_is_committed(storage, catalog):
    """`trap 8`: a version that was the newest for years is not garbage for years: it is kept."""
    grow(catalog, 2)
    storage.sleep(400 * DAY)
    grow(catalog, 1, first=2)
    storage.sleep(DAY)
    assert catalog.vacuum("7d", dry_run=False).versions_retired == 1
    assert readable(storage)[:2] == [2, 3]
    storage.sleep(6 * DAY + 2)
    report = catalog.vacuum("7d", dry_run=False)
    assert (report.versions_retired, report.floor) == (1, 3)


@pytest.mark.usefixtures("small_runs")
def test_a_segment_ages_from_the_version_that_dropped_it(storage, catalog):
    """`trap 8`: the segment of a version within the grace stays, however old its bytes are."""
    grow(catalog, 13)
    storage.sleep(400 * DAY)
    catalog.compact()
    storage.sleep(DAY)
    catalog.vacuum("7d", dry_run=False)
    assert names(Catalog(storage).snapshot(13)) == {f"t{number}" for number in range(13)}
    check_invariants(storage)
    storage.sleep(7 * DAY)
    assert kinds(catalog.vacuum("7d", dry_run=False))["segment"]
    assert names(catalog) == {f"t{number}" for number in range(13)}
    check_invariants(storage)


def test_data_ages_from_the_deletion_of_its_row(storage, store):
    """`trap 8`: data without a row goes when the last version with that row is past the grace."""
    name = build(store)
    storage.sleep(400 * DAY)
    store.catalog.delete_result_table(name)
    storage.sleep(DAY)
    assert not kinds(store.catalog.vacuum("7d", dry_run=False)).keys() & {"data", "sidecar"}
    storage.sleep(7 * DAY)
    report = store.catalog.vacuum("7d", dry_run=False)
    assert kinds(report)["data"] == {f"{name}.parquet"}
    assert kinds(report)["sidecar"] == {f"{name}.materialization.json"}
    assert {key for key in objects(storage) if "/" not in key} == set()


def test_data_of_a_tagged_version_stays(storage, store):
    """`trap 20`: data that a row of a tagged version names is live, if the newest has none too."""
    name = build(store)
    store.catalog.tag("a")
    store.catalog.delete_result_table(name)
    assert "data" not in kinds(store.catalog.vacuum(0, dry_run=False))
    pinned = store.catalog.snapshot(tag="a").get_result_table(name)
    assert storage.size(pinned.parquet_path)
    store.catalog.untag("a")
    assert kinds(store.catalog.vacuum(0, dry_run=False))["data"] == {f"{name}.parquet"}


@pytest.mark.parametrize("grace", [0, 1, 60, 7 * DAY])
@pytest.mark.parametrize("early", [True, False])
def test_the_grace_is_over(grace, early, storage, catalog):
    """`trap 10`: stores cut times to whole seconds, so a second more must have passed, except 0."""
    grow(catalog, 3)
    storage.sleep(grace + (0 if early else 1))
    report = catalog.vacuum(grace, dry_run=False)
    assert report.versions_retired == (0 if early and grace else 2)


def test_clocks_are_not_mixed(storage, catalog):
    """`trap 10`: what counts is the store's clock: neither the machine's nor what writers wrote."""
    grow(catalog, 4)
    assert not catalog.vacuum("1h", dry_run=False)  # the machine is 25 years ahead
    assert len(catalog.vacuum("1h", dry_run=True).actions) == 3  # a plan has only its own clock
    storage.now += dt.timedelta(days=36_500)  # the store is 75 years ahead
    assert catalog.vacuum("36499d", dry_run=False).versions_retired == 3


def test_a_clock_that_went_back(storage, catalog):
    """`trap 10`: a version that seems younger than its predecessor keeps all after it."""
    grow(catalog, 3)
    storage.sleep(-DAY)
    grow(catalog, 1, first=3)
    storage.sleep(DAY + 3600)
    catalog.vacuum("2h", dry_run=False)
    assert readable(storage) == [1, 2, 3, 4]
    storage.sleep(3602)
    assert catalog.vacuum("2h", dry_run=False).versions_retired == 3


@pytest.mark.parametrize(
    ("keep_last", "kept"), [(1, [10]), (3, [8, 9, 10]), (99, list(range(1, 11)))]
)
def test_keep_last(keep_last, kept, storage, catalog):
    """The newest versions stay however old they are, not counting those that vacuums make."""
    grow(catalog, 10)
    catalog.vacuum(0, keep_last=keep_last, dry_run=False)
    assert [number for number in readable(storage) if number <= 10] == kept
    assert not catalog.vacuum(0, keep_last=keep_last, dry_run=False)


@pytest.fixture
def gap(storage, catalog):
    """Return a catalog whose version 5 of 9 is lost, on a root with an old object of nobody's."""
    storage.create("orphan.parquet", b"x")
    storage.sleep(DAY)
    grow(catalog, 9)
    storage.delete(key_of(5))
    return catalog


def test_a_lost_version_stands_in_no_vacuums_way(storage, gap):
    """What is retired needs no reading; its name is taken again, or it would be made anew."""
    with pytest.raises(FormatError, match=r"version 5 is missing.* kept: restore .* or keep fewer"):
        gap.vacuum("1h", dry_run=False)
    with pytest.raises(FormatError, match="version 5 is missing"):
        gap.vacuum(0, keep_last=5, dry_run=False)
    report = gap.vacuum(0, keep_last=4, dry_run=False)
    assert (report.floor, report.versions_retired) == (6, 5)
    (lost,) = (action for action in report.done if action.key == key_of(5))
    assert (lost.size, lost.reason) == (0, "lost, and below version 6, the oldest that is kept")
    assert storage.size(key_of(5)) == 0
    with pytest.raises(FileExistsError):
        storage.create(key_of(5), b"anew")
    assert not gap.vacuum(0, keep_last=4, dry_run=False)
    storage.delete("orphan.parquet")
    check_invariants(storage)


def test_a_lost_version_with_a_tag(storage, gap):
    """Nobody knows what a lost version needs: while a tag keeps it nothing is removed."""
    gap.tag("paper", 5)
    gap.tag("other", 6)
    with pytest.raises(FormatError, match=r"version 5 is missing.* or untag 'paper';"):
        gap.vacuum(0, dry_run=False)
    assert storage.size(key_of(4))
    gap.untag("paper")
    assert gap.vacuum(0, dry_run=False).versions_retired == 10
    assert storage.size(key_of(5)) == 0
    storage.delete("orphan.parquet")
    check_invariants(storage)


def test_the_version_before_a_vacuum_is_lost(storage, catalog):
    """The version that a vacuum made has the rows of the one before, and stands for it."""
    grow(catalog, 3)
    catalog.vacuum(0, dry_run=False)
    storage.delete(key_of(3))
    assert catalog.vacuum(0, dry_run=False).floor == 4
    assert storage.size(key_of(3)) == 0
    assert names(Catalog(storage)) == {"t0", "t1", "t2"}
    check_invariants(storage)


def test_another_segment_stops_a_vacuum(storage, catalog, monkeypatch):
    """What a kept version reaches is never taken from another segment than the one it lists."""
    monkeypatch.setattr("jammi_files.manifest.INLINE_ROWS", 4)
    for name in "ab":
        catalog.create_result_tables(rows(*(f"{name}{each}" for each in range(6))))
    first, second = (info.key for info in catalog.log.head().header.segments)
    catalog.compact()
    storage.create("orphan.parquet", b"x")
    storage.replace(first, storage.read(second))
    with pytest.raises(FormatError, match="another one than the manifest lists"):
        catalog.vacuum(0, keep_last=3, dry_run=False)
    assert storage.size("orphan.parquet")


def test_floor_never_falls(catalog):
    """A later vacuum that would keep more cannot bring back what was retired."""
    grow(catalog, 6)
    catalog.vacuum(0, dry_run=False)
    report = catalog.vacuum("30d", keep_last=6, dry_run=False)
    assert (report.floor, bool(report)) == (6, False)
    with pytest.raises(VersionNotFoundError):
        catalog.snapshot(3)


def test_second_vacuum_does_nothing(storage, store):
    """What was just cleaned is clean: no version is made, however often and long after."""
    name = build(store)
    store.catalog.delete_result_table(name)
    assert store.catalog.vacuum(0, dry_run=False)
    version, before = store.catalog.version, contents(storage.inner)
    for _ in range(3):
        report = store.catalog.vacuum(0, dry_run=False)
        assert not report
        assert report.version is None
        storage.sleep(30 * DAY)
    assert store.catalog.version == version
    assert contents(storage.inner) == before


@pytest.mark.usefixtures("small_runs")
def test_dry_run_writes_nothing(storage, store):
    """A plan reads and lists, says what would be done, and touches nothing."""
    catalog = store.catalog
    grow(catalog, 13)
    catalog.compact()
    grow(catalog, 1, first=13)
    catalog.delete_result_table(build(store))
    storage.create("junk.parquet.01234567.tmp", b"half")
    storage.sleep(DAY)
    counting = CountingStorage(storage)
    before = contents(storage.inner)
    plan = Catalog(counting).vacuum(0)
    assert set(counting.calls.kinds) <= {"read", "peek", "size", "list", "list_objects", "open"}
    assert contents(storage.inner) == before
    assert (plan.dry_run, plan.version) == (True, None)
    report = catalog.vacuum(0, dry_run=False)
    assert report.actions == plan.actions
    assert {"version", "segment", "data", "sidecar", "temporary_file"} == kinds(plan).keys()
    assert (report.floor, report.bytes_freed) == (plan.floor, plan.bytes_freed)
    assert report.bytes_freed == sum(len(data) for data in before.values()) - sum(
        len(data) for key, data in contents(storage.inner).items() if key in before
    )


def test_report(store):
    """The report names each object, its kind, its size and why, and counts."""
    name = build(store)
    store.catalog.delete_result_table(name)
    report = store.catalog.vacuum(0, dry_run=False)
    assert [action.kind for action in report.actions] == [
        *[VacuumKind.VERSION] * 2,
        VacuumKind.DATA,
        VacuumKind.SIDECAR,
    ]
    assert all(action.size > 100 and action.reason for action in report.actions)
    assert report.actions[0].key == key_of(1)
    assert report.actions[0].reason == "below version 3, the oldest that is kept"
    assert (report.versions_retired, report.objects_deleted) == (2, 2)
    assert report.bytes_freed == sum(action.size for action in report.actions)


def test_no_catalog(storage):
    """Where nothing was ever committed nothing is vacuumed, or written."""
    storage.create("foreign.parquet", b"x")
    report = Catalog(storage).vacuum(0, dry_run=False)
    assert not report
    assert objects(storage) == {"foreign.parquet"}


@pytest.mark.parametrize(
    "older_than", [-1, "7", "d", "7 days", "-1d", float("nan"), float("inf"), True, None, "1e9w"]
)
def test_bad_grace(older_than, catalog):
    """A grace is a timedelta, seconds or text with a unit; anything else is refused."""
    with pytest.raises(InvalidInputError, match="older_than"):
        catalog.vacuum(older_than)


@pytest.mark.parametrize("keep_last", [0, -1, 1.5, "2", True])
def test_bad_keep_last(keep_last, catalog):
    """At least the newest version is kept."""
    with pytest.raises(InvalidInputError, match="keep_last"):
        catalog.vacuum(0, keep_last=keep_last)


@pytest.mark.parametrize(
    "older_than", [dt.timedelta(hours=36), 129_600, 129_599.5, "1.5d", "36h", "2160m", " 129600s "]
)
def test_spellings_of_a_grace(older_than, storage, catalog):
    """All spellings of 36 hours mean the same."""
    grow(catalog, 3)
    storage.sleep(129_600)
    assert not catalog.vacuum(older_than, dry_run=False)
    storage.sleep(1)
    assert catalog.vacuum(older_than, dry_run=False).versions_retired == 2


# Readers


@pytest.mark.usefixtures("small_runs")
def test_pinned_reader_is_told(storage, catalog):
    """`trap 9`: a reader of a retired version is told so, whatever it had loaded."""
    grow(catalog, 13)
    cold, warm = Catalog(storage).snapshot(), Catalog(storage).snapshot()
    answer = warm.scan().sort_by("table_name")
    catalog.compact()
    grow(catalog, 3, first=13)
    catalog.vacuum(0, dry_run=False)
    assert warm.scan().sort_by("table_name") == answer
    for ask in (
        cold.scan,
        lambda: cold.get_result_table("t1"),
        lambda: cold.find_result_tables("docs"),
        lambda: cold.list_result_tables_by_status("building"),
        lambda: cold.resolve_embedding_table("docs"),
        lambda: Catalog(storage).snapshot(13),
        lambda: Catalog(storage).changes(since=13),
    ):
        with pytest.raises(VersionNotFoundError, match=r"version 13 was retired by vacuum"):
            ask()


def test_pinned_reader_of_row_groups_is_told(storage, catalog, monkeypatch):
    """`trap 9`: so is one that reads large segments piece by piece."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 1)
    monkeypatch.setattr(manifest, "ROW_GROUP_ROWS", 2)
    catalog.create_result_tables(rows(*(f"t{number}" for number in range(20))))
    catalog.create_result_tables(rows(*(f"u{number}" for number in range(200))))
    cold = Catalog(storage).snapshot()
    catalog.compact()
    grow(catalog, 1, first=20)
    catalog.vacuum(0, dry_run=False)
    with pytest.raises(VersionNotFoundError, match="retired by vacuum"):
        cold.get_result_table("t1")


@pytest.mark.usefixtures("small_runs")
def test_a_lost_segment_is_no_vacuum(storage, catalog):
    """`trap 9`: a kept version's segment that is not there is damage, and said so."""
    grow(catalog, 9)
    cold = Catalog(storage).snapshot()
    catalog.vacuum(0, keep_last=3, dry_run=False)
    storage.delete(cold._snapshot.header.segments[0].key)
    with pytest.raises(FormatError, match="missing, although a manifest lists it"):
        cold.scan()
    with pytest.raises(FormatError, match="missing"):
        Catalog(storage).scan()


@pytest.mark.parametrize("behind", [1, 3, 12, 40])
@pytest.mark.usefixtures("small_runs")
def test_idle_reader_below_the_floor(behind, storage, catalog, monkeypatch):
    """`trap 4`: a handle whose next version was retired is not current: it finds the newest one."""
    monkeypatch.setattr("jammi_files.numbering.GROUP", 10)
    grow(catalog, 3)
    idle = Catalog(storage)
    assert idle.version == 3
    grow(catalog, behind, first=3)
    catalog.vacuum(0, dry_run=False)
    assert names(idle) == {f"t{number}" for number in range(3 + behind)}
    assert idle.version == catalog.version
    assert idle.create_result_table(**row("mine")).table_name == "mine"
    check_invariants(storage)


@pytest.mark.usefixtures("small_runs")
def test_history_begins_at_the_floor(storage, catalog):
    """The history tells what is kept: retired versions cost no read, tagged ones are still told."""
    grow(catalog, 12)
    catalog.tag("a", 4)
    catalog.vacuum(0, keep_last=2, dry_run=False)
    counting = CountingStorage(storage)
    told = Catalog(counting).as_admin().history()
    assert [info.version for info in told] == [4, 12, 13, 14]
    assert [info.operation for info in told[-2:]] == ["tag", "vacuum"]
    retired = {key_of(number) for number in (1, 2, 3, *range(5, 12))}
    assert not retired & {*counting.calls.keys("read"), *counting.calls.keys("peek")}


def test_time_travel_below_the_floor(catalog):
    """An instant whose version was retired is an error, never the state of another version."""
    grow(catalog, 6)
    then = [catalog.snapshot(number).committed_at for number in range(1, 7)]
    catalog.tag("a", 2)
    catalog.vacuum(0, keep_last=2, dry_run=False)
    assert catalog.snapshot(as_of=then[5]).version == 6
    for instant in then[2:5]:
        with pytest.raises(VersionNotFoundError, match="retired"):
            catalog.snapshot(as_of=instant)


# What vacuum never deletes


def test_failed_rows_keep_their_data(storage, store, monkeypatch):
    """Quarantined bytes have a row, so they are recover's to reap, not vacuum's."""
    store.catalog.create_result_table(**row("t"))
    write(store, "t")
    monkeypatch.setattr(lease, "find_death", lambda *_: "gone")
    store.recover()
    storage.sleep(400 * DAY)
    store.catalog.vacuum(0, dry_run=False)
    assert storage.size("t.parquet")


def test_live_build_is_left_alone(storage, store):
    """`trap 7`: data, temporary file and lease of a row that is building are never garbage."""
    info = store.create_table(*TABLE)
    store.catalog.set_checkpoint(info.table_name, 3)
    storage.create(f"{info.table_name}.materialization.json.0123abcd.tmp", b"half")
    out = store.open_writer(info, DATA.schema)
    out.write(DATA)
    storage.sleep(400 * DAY)
    before = objects(storage)
    grow(store.catalog, 3)
    store.catalog.vacuum(0, dry_run=False)
    assert before <= objects(storage)
    out.close()
    assert store.catalog.get_checkpoint(info.table_name) == 3


def test_live_build_under_another_name_is_left_alone(storage, store):
    """`trap 7`: what a live build writes to is no garbage, be its row called otherwise."""
    store.catalog.create_result_table(**row("t", parquet_path="u.parquet"))
    out = store.open_writer("t", DATA.schema)
    out.write(DATA)
    storage.sleep(400 * DAY)
    store.catalog.vacuum(0, dry_run=False)
    out.close()
    finalize(store, "t")
    assert store.verify_materialization("t").ok


def test_state_of_a_build_that_begins_meanwhile(storage, catalog):
    """`trap 7`: a name that is used again while vacuum works has its state, whatever its path."""
    state = lease.key_of("t")
    grow(catalog, 1)
    storage.create(state, b"of a build that has ended")
    storage.sleep(DAY)
    begun = []

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock") and not begun:
            begun.append(catalog.create_result_table(**row("t", parquet_path="u.parquet")))
            catalog.set_checkpoint("t", 7)

    Catalog(HookedStorage(storage, hook)).vacuum(0, dry_run=False)
    assert begun
    assert storage.size(state) is not None
    assert Catalog(storage).get_checkpoint("t") == 7


def test_what_has_no_row_yet(storage, store):
    """`trap 7`: an import copies data before it names it: within the grace it is no garbage."""
    name, other = build(store), "docs__ner__m__20261122T214953517770075_0123abcd"
    grow(store.catalog, 2)
    for suffix in (".parquet", ".materialization.json"):
        storage.create(f"{other}{suffix}", storage.inner.read(f"{name}{suffix}"))
    storage.sleep(3600)
    storage.create(f"{other}.rowmap", b"index")
    assert not kinds(store.catalog.vacuum("1h", dry_run=False)).keys() & {"data", "sidecar"}
    storage.sleep(3601)
    report = store.catalog.vacuum("1h", dry_run=False)
    assert {"data", "sidecar", "index"} <= kinds(report).keys()
    assert storage.size(f"{name}.parquet")


def test_leftovers_of_ended_builds(storage, store):
    """Side objects of builds that are over and old temporary files go, wherever they lie."""
    name = build(store)
    grow(store.catalog, 1)
    left = {
        lease.key_of(name): "build_state",
        lease.key_of("never"): "build_state",
        f"{name}.parquet.0123abcd.tmp": "temporary_file",
        "gone.materialization.json.0123abcd.tmp": "temporary_file",
        f"{lease.key_of(name)}.0123abcd.tmp": "temporary_file",
        "_catalog/format.json.0123abcd.tmp": "temporary_file",
        f"{key_of(9)}.0123abcd.tmp": "temporary_file",
        "_catalog/segments/0.parquet.0123abcd.tmp": "temporary_file",
    }
    for key in left:
        storage.create(key, b"left")
    storage.sleep(60)
    assert not kinds(store.catalog.vacuum("60s", dry_run=False))
    storage.sleep(1)
    report = store.catalog.vacuum("60s", dry_run=False)
    found = {action.key: str(action.kind) for action in report.actions}
    assert {key: kind for key, kind in found.items() if kind != "version"} == left
    assert not left.keys() & objects(storage)


@pytest.mark.parametrize(
    "key",
    [
        "notes.txt",
        "data.parquet",
        "table.manifest.json",
        "x.usearch",
        "x.tmp",
        "x.parquet.0123ABCD.tmp",
        "x.parquet.123.tmp",
        "catalog.db",
        "docs__ner__m__20261122T214953517770075.parquet",
    ],
)
def test_foreign_files_are_only_reported(key, storage, catalog):
    """`trap 20`: what has neither a name of this library nor a sidecar is somebody else's."""
    grow(catalog, 3)
    storage.create(key, b"somebody's")
    storage.sleep(400 * DAY)
    report = catalog.vacuum("1d", dry_run=False)
    assert storage.read(key) == b"somebody's"
    assert [(action.key, str(action.kind)) for action in report.foreign] == [(key, "foreign")]
    assert report.foreign[0].reason


def test_an_unreadable_sidecar_proves_nothing(storage, catalog):
    """`trap 20`: files under a name of one's own are a result only if their sidecar can be read."""
    grow(catalog, 2)
    storage.create("mine.parquet", b"data")
    storage.create("mine.materialization.json", b"{}")
    storage.sleep(DAY)
    report = catalog.vacuum(0, dry_run=False)
    assert {action.key for action in report.foreign} == {
        "mine.parquet",
        "mine.materialization.json",
    }
    assert storage.size("mine.parquet")


def test_an_own_name_with_a_sidecar_is_a_result(storage, store):
    """A result under a name that its maker chose is known by its sidecar."""
    store.catalog.create_result_table(**row("mine"))
    write(store, "mine")
    finalize(store, "mine")
    storage.create("mine.usearch", b"index")
    store.catalog.delete_result_table("mine")
    report = store.catalog.vacuum(0, dry_run=False)
    assert [action.key for action in report.actions if "/" not in action.key] == [
        "mine.usearch",
        "mine.parquet",
        "mine.materialization.json",
    ]


@pytest.mark.parametrize("lost", ["_catalog/", "_catalog/manifest/", "_catalog/format.json"])
def test_results_older_than_the_catalog(lost, storage, store):
    """`trap 20`: a catalog that was begun anew takes nothing of a lost one for garbage."""
    name, gone = build(store), build(store)
    store.catalog.delete_result_table(gone)
    storage.sleep(400 * DAY)
    for key in objects(storage):
        if key.startswith(lost):
            storage.delete(key)
    anew = ResultStore(Catalog(storage))
    build(anew)
    for _ in range(2):  # the second has nothing to go by but what the first has noted
        storage.sleep(DAY)
        report = anew.catalog.vacuum(0, dry_run=False)
        build(anew)
        build(anew)
        assert storage.size(f"{name}.parquet")
        if lost == "_catalog/format.json":  # the versions are there: nothing was begun anew
            assert storage.size(f"{gone}.parquet") is None
        else:
            assert storage.size(f"{gone}.parquet")
            assert "older than this catalog" in report.foreign[0].reason


def test_nested_and_absolute_paths(storage, store):
    """`trap 20`: an object that a row names by another path is live; nested ones are not ours."""
    catalog = store.catalog
    name = build(store)
    record = catalog.get_result_table(name)
    catalog.create_result_table(**row("copy", parquet_path=f"/elsewhere/{name}.parquet"))
    catalog.create_result_table(**row("deep", parquet_path="sub/deep.parquet"))
    storage.create("sub/deep.parquet", b"data")
    catalog.delete_result_table(record.table_name)
    catalog.delete_result_table("deep")
    storage.sleep(DAY)
    report = catalog.vacuum(0, dry_run=False)
    assert "data" not in kinds(report)
    assert storage.size("sub/deep.parquet")
    assert storage.size(f"{name}.parquet")


def test_shared_data_stays(storage, store):
    """`trap 20`: data that another row names outlives the row that made it."""
    name = build(store)
    store.catalog.create_result_table(**row("other", parquet_path=f"{name}.parquet"))
    store.catalog.delete_result_table(name)
    store.catalog.vacuum(0, dry_run=False)
    assert storage.size(f"{name}.parquet")


def test_index_files_in_use(storage, store):
    """`trap 20`: index files that a row names by ``index_path`` are live, whatever their stem."""
    name = build(store)
    storage.create(f"{name}.usearch", b"index")
    store.catalog.create_result_table(**row("other", index_path=f"{name}.idx"))
    store.catalog.delete_result_table(name)
    store.catalog.vacuum(0, dry_run=False)
    assert storage.size(f"{name}.usearch")


@pytest.mark.parametrize("what", ["manifest", "segment"])
@pytest.mark.usefixtures("small_runs")
def test_a_damaged_version_stops_vacuum(what, storage, catalog):
    """`trap 20`: while a kept version cannot be read nobody knows what it needs: keep all."""
    grow(catalog, 12)
    catalog.compact()
    grow(catalog, 4, first=12)
    build(ResultStore(catalog))
    key = key_of(10)
    if what == "segment":
        key = catalog.log.at(10).header.segments[0].key
        name = build(ResultStore(catalog))
        catalog.delete_result_table(name)
    storage.replace(key, b"PAR1 damaged")
    before = contents(storage.inner)
    with pytest.raises(FormatError, match="damaged"):
        catalog.vacuum(0, keep_last=10, dry_run=False)
    assert contents(storage.inner) == before
    assert catalog.vacuum(0, dry_run=False)
    check_invariants(storage)


# Only on a directory


@pytest.mark.parametrize("place", ["outside", "root-backup"])
def test_links_are_not_followed(place, tmp_path):
    """`trap 20`: a link out of the root may go, what it leads to never does."""
    outside = tmp_path / place
    outside.mkdir()
    target = outside / "docs__ner__m__20261122T214953517770075_0123abcd.parquet"
    target.write_bytes(b"precious")
    (outside / "never.json").write_bytes(b"precious")
    storage = ClockedStorage(LocalStorage(tmp_path / "root", "os"))
    catalog = Catalog(storage)
    grow(catalog, 3)
    link = Path(storage.root) / target.name
    link.symlink_to(target)
    storage.sleep(DAY)
    report = catalog.vacuum(0, dry_run=False)
    assert kinds(report)["data"] == {target.name}
    assert not link.is_symlink()
    assert target.read_bytes() == b"precious"
    builds = Path(storage.root) / "_catalog" / "builds"
    builds.symlink_to(outside)
    grow(catalog, 1, first=3)
    before = contents(storage.inner)
    with pytest.raises(StorageError, match="leads out of the root"):
        catalog.vacuum(0, dry_run=False)
    assert contents(storage.inner) == before
    assert (outside / "never.json").read_bytes() == b"precious"


def test_real_times_of_a_directory(tmp_path):
    """On a real directory the age of a version is its successor's file time."""
    storage = LocalStorage(tmp_path / "root", "os")
    catalog = Catalog(storage)
    grow(catalog, 5)
    for number in (2, 3):
        os.utime(storage.url(key_of(number)), (1_000_000_000, 1_000_000_000))
    assert catalog.vacuum("1d", dry_run=False).versions_retired == 2
    assert catalog.log.head().header.retention.floor == 3
    check_invariants(storage)


# Cost and trouble


@pytest.mark.usefixtures("small_runs")
def test_requests(storage, catalog, monkeypatch):
    """`trap 12`: one listing for each group of versions, one read for each version that is kept."""
    monkeypatch.setattr("jammi_files.numbering.GROUP", 10)
    grow(catalog, 39)
    catalog.compact()
    counting = CountingStorage(storage)
    watched = Catalog(counting)
    assert watched.version == 40
    with counting.counting() as seen:
        report = watched.vacuum(0, keep_last=5, dry_run=False)
    assert report.versions_retired == 35
    lists = seen.keys("list_objects")
    order = [call.kind for call in seen if call.kind == "list_objects" or "manifest" in call.key]
    assert "list_objects" not in order[order.index("create") :]  # what is new after it is safe
    groups = [f"_catalog/manifest/{number:017d}" for number in range(5)]
    kinds = ("builds", "manifest", "probes", "segments")
    places = ["", "_catalog", *(f"_catalog/{kind}" for kind in kinds)]
    assert sorted(lists) == sorted(["_catalog", *places, *groups])
    assert len(seen.keys("replace")) == 35
    assert len(seen.keys("delete")) == report.objects_deleted + 1
    reads = [key for key in (*seen.keys("read"), *seen.keys("peek")) if "manifest" in key]
    there = {key for key in reads if storage.size(key)} - {key_of(report.version)}
    assert sorted(there) == [key_of(number) for number in range(36, 40)]


def test_progress_and_executor(catalog):
    """`trap 12`: objects are removed side by side by the caller's executor, and counted."""
    grow(catalog, 20)
    seen = []
    with ThreadPoolExecutor(4) as executor:
        report = catalog.vacuum(
            0, dry_run=False, executor=executor, progress=lambda *at: seen.append(at)
        )
    assert seen == [(number, 19) for number in range(1, 20)]
    assert report.versions_retired == 19


@pytest.mark.parametrize("kind", ["replace", "delete"])
def test_one_refused_object_is_not_the_end(kind, storage, store):
    """What cannot be removed is reported with its error; the rest goes on, and so does the next."""
    doomed = [build(store) for _ in range(3)]
    for name in doomed:
        store.catalog.delete_result_table(name)
    refused = key_of(2) if kind == "replace" else f"{doomed[1]}.parquet"

    def hook(moment, what, key):
        if (moment, what, key) == ("before", kind, refused):
            raise StorageError("read-only")

    report = Catalog(HookedStorage(storage, hook)).vacuum(0, dry_run=False)
    failed = {action.key for action in report.actions if action.error}
    sidecar = f"{doomed[1]}.materialization.json"
    assert failed == ({refused} if kind == "replace" else {refused, sidecar})
    assert report.bytes_freed == sum(each.size for each in report.actions if not each.error)
    assert storage.size(refused)
    check_invariants(storage, {Kind.RETIRED_VERSION, Kind.ORPHAN_OBJECT})
    again = store.catalog.vacuum(0, dry_run=False)
    assert {action.key for action in again.actions} >= failed
    check_invariants(storage)


def test_not_inside_a_transaction(storage, catalog):
    """Inside its own transaction a thread is told so; nothing is written."""
    grow(catalog, 3)
    with pytest.raises(StateError, match="inside"), catalog.transaction():
        catalog.vacuum(0, dry_run=False)
    assert readable(storage) == [1, 2, 3]


def test_copies_without_rows(storage, store):
    """`trap 7`: rows of copied objects are refused where a vacuum may have deleted the copies."""
    catalog, name = store.catalog, build(store)
    record = dataclasses.replace(catalog.get_result_table(name), table_name="copy")
    since = catalog.version
    with pytest.raises(ConflictError, match="'gone' was deleted before a row named it"):
        catalog.adopt_result_tables(
            [record], copied_since=since, objects=[f"{name}.parquet", "gone"]
        )
    grow(catalog, 1)
    catalog.vacuum(0, dry_run=False)
    with pytest.raises(ConflictError, match="vacuum made version 4 while objects were copied"):
        catalog.adopt_result_tables([record], copied_since=since)
    assert catalog.version == 4
    assert catalog.adopt_result_tables([record], copied_since=4, objects=[f"{name}.parquet"])
    assert storage.size(f"{name}.parquet")


def test_unknown_header_keys_survive(storage, catalog):
    """What a newer library keeps in the header is carried on by commits, tags and vacuums."""
    grow(catalog, 2)
    state = catalog.log.head()
    header = manifest.Header(
        **{
            name: getattr(state.header, name)
            for name in state.header.__slots__
            if name not in ("version", "extra")
        },
        version=3,
        extra={"pins": {"x": [1]}},
    )
    storage.create(key_of(3), manifest.encode_manifest(header, state.inline_table))
    catalog.tag("a")
    grow(catalog, 2, first=2)
    catalog.vacuum(0, dry_run=False)
    assert Catalog(storage).log.head().header.extra == {"pins": {"x": [1]}}


class _Behind(HookedStorage):
    """Lists no version, as a store might that is behind."""

    def list(self, prefix):
        return [] if prefix == PREFIX else super().list(prefix)


def test_a_listing_that_lacks_the_versions(catalog, storage):
    """A listing without the version that is known is refused, and nothing is written."""
    grow(catalog, 5)
    stale = Catalog(_Behind(storage, lambda *_: None))
    assert stale.log.reach(catalog.version)
    before = contents(storage)
    with pytest.raises(StorageError, match="is there and is not listed; nothing was removed"):
        stale.vacuum(0, dry_run=False)
    assert contents(storage) == before
