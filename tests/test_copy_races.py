"""A copy beside others: writers and vacuums at the source, readers and writers at the copy."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.copies import copied, opened, require_past, rows_of
from support.faults import HookedStorage
from support.invariants import check_invariants
from support.processes import run_together
from support.results import DATA, build, finalize, row, write
from support.roots import LocalRoots, MemoryRoots, contents
from support.threads import begin

from jammi_files import copy_root, copy_versions, fsck, manifest, root_format
from jammi_files.catalog import Catalog
from jammi_files.copy_objects import Pair
from jammi_files.draft import SEGMENTS
from jammi_files.errors import ConflictError, JammiFilesError, StateError
from jammi_files.local import LocalStorage
from jammi_files.log import PREFIX, key_of
from jammi_files.materialization import Match

LIMIT = 120.0
LEFT = {
    fsck.Kind.DEAD_BUILD,  # a writer of another process that has ended meanwhile
    fsck.Kind.ORPHAN_OBJECT,
    fsck.Kind.ORPHAN_SEGMENT,
    fsck.Kind.RETIRED_VERSION,
}


@pytest.fixture(params=["local", "memory"])
def roots(request, tmp_path):
    supply = LocalRoots(tmp_path) if request.param == "local" else MemoryRoots()
    yield supply
    supply.close()


@pytest.fixture
def source(roots, small_runs):  # noqa: ARG001 - few rows make segments and merges
    return roots.new()


@pytest.fixture
def target(roots):
    return roots.new()


class Once:
    """Does something at the first operation of a kind on a key, before or after it."""

    def __init__(self, kind, part, action, *, moment="before", times=1):
        self._what, self._part, self._action, self._times = (moment, kind), part, action, times

    def __call__(self, moment, kind, key):
        """Act if this is the operation."""
        if (moment, kind) == self._what and self._part in key and self._times:
            self._times -= 1
            self._action()


def require_version(source, target, report):
    """Check that the target shows the source at the version that the report names, all of it."""
    assert rows_of(target) == rows_of(source, report.version)
    check_invariants(target, LEFT)
    assert not [each for each in opened(target).verify_all() if not each.ok]


# --- the source is written to


@pytest.mark.parametrize("kind", ["open", "read"])
def test_a_result_that_is_deleted_meanwhile(kind, source, target):
    """A result that is deleted while it is copied is no part of the copy, which is then newer."""
    store = opened(source)
    names = [build(store) for _ in range(4)]
    part = f"{names[2]}.parquet" if kind == "open" else f"{names[2]}.materialization.json"
    hook = Once(kind, part, lambda: store.delete_table(names[2]))
    report = copied(HookedStorage(source, hook), target)
    assert (report.ok, report.version) == (True, 9)
    require_version(source, target, report)


def test_a_result_that_is_deleted_half_way(source, target):
    """Deleted between sidecar and data, or while its blocks are read: it is no part of the copy."""
    store = opened(source)
    names = [build(store) for _ in range(3)]
    hook = Once("read", f"{names[1]}.mat", lambda: store.delete_table(names[1]), moment="after")
    report = copied(HookedStorage(source, hook), target)
    assert report.ok
    require_version(source, target, report)


def make(store, scores, name="again"):
    store.catalog.create_result_table(**row(name))
    with store.open_writer(name, DATA.schema) as out:
        out.write(DATA.set_column(1, "score", pa.array(scores)))
    finalize(store, name)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("at", [("read", "again.mat"), ("open", "again.parquet")])
def test_a_name_that_is_used_again_meanwhile(moment, at, source, target):
    """A result that is deleted and made anew while it is copied is copied as the row says."""
    store = opened(source)
    build(store)
    make(store, [0.5, 0.25, 1.0])

    def renew():
        store.delete_table("again")
        make(store, [0.25, 0.5, 1.0])

    report = copied(HookedStorage(source, Once(*at, renew, moment=moment)), target)
    again = copied(source, target)
    assert report.ok
    assert again.ok
    require_version(source, target, again)
    assert opened(target).verify_materialization("again") == Match()


def test_a_copied_result_is_made_anew_before_the_rest_is_copied(source, target):
    """What a name had when it was copied is not what it has when the copy is shown: the new is."""
    store = opened(source)
    for name in ("a", "b"):
        make(store, [0.5, 0.25, 1.0], name)
    begun = []

    def hook(_moment, _kind, key):
        name = key.partition(".")[0]
        if name not in ("a", "b") or name in begun:
            return
        begun.append(name)
        if len(begun) == 2:  # the first is copied, and the second about to be
            for each in begun:
                store.delete_table(each)
            make(store, [0.25, 0.5, 1.0], begun[0])

    report = copied(HookedStorage(source, hook), target)
    assert report.ok
    require_version(source, target, report)
    assert [each["table_name"] for each in rows_of(target)] == begun[:1]


def test_new_results_are_no_hindrance(source, target):
    """A writer that only adds is not waited for: the copy is what was newest when it began."""
    store = opened(source)
    for _ in range(4):
        build(store)
    hook = Once("open", ".parquet", lambda: build(store), times=20)
    report = copied(HookedStorage(source, hook), target)
    assert (report.version, report.ok) == (8, True)
    require_version(source, target, report)


def _fill_and_vacuum(source):
    store = opened(source)
    build(store)
    store.catalog.vacuum(0, dry_run=False)


@pytest.mark.parametrize("tagged", [False, True])
def test_versions_that_are_retired_before_they_are_filled_in(tagged, source, target):
    """What a vacuum retires before it is filled in is looked at anew, and retired there too."""
    build(opened(source))
    copied(source, target)
    for _ in range(3):
        build(opened(source))
    if tagged:
        opened(source).catalog.tag("kept", 5)
    newest = key_of(opened(source).catalog.version)
    hook = Once("create", newest, lambda: _fill_and_vacuum(source), moment="after")
    report = copied(source, HookedStorage(target, hook))
    assert (report.ok, report.since) == (True, 2)
    assert report.version == opened(source).catalog.version
    require_version(source, target, report)
    require_past(source, target)
    operations = [info.operation for info in opened(target).catalog.history()]
    assert copy_versions.OPERATION not in operations
    assert target.size(key_of(4)) == 0
    assert copied(source, target).copied == 0


@pytest.mark.parametrize("damage", ["emptied", "deleted"])
def test_a_version_that_is_lost_before_it_is_filled_in(damage, source, target):
    """A version that the source keeps and has lost is named, and at the copy it is the same."""
    build(opened(source))
    copied(source, target)
    for _ in range(3):
        build(opened(source))
    newest = key_of(opened(source).catalog.version)

    def lose():
        if damage == "emptied":
            source.replace(key_of(5), b"")
        else:
            source.delete(key_of(5))

    report = copied(source, HookedStorage(target, Once("create", newest, lose, moment="after")))
    assert [trouble.key for trouble in report.troubles] == [key_of(5)]
    assert (report.since, report.version) == (2, 8)
    assert rows_of(target) == rows_of(source)
    assert target.size(key_of(5)) == 0
    assert rows_of(target, 6) == rows_of(source, 6)


@pytest.mark.parametrize("times", [3, 12])
@pytest.mark.parametrize(
    "at", [("read", PREFIX), ("open", SEGMENTS), ("open", ".parquet"), ("list_objects", "")]
)
def test_versions_that_are_retired_meanwhile(at, times, source, target):
    """A vacuum at any moment of a copy: what it retires is no part of the copy."""
    store = opened(source)
    for _ in range(9):
        build(store)

    def vacuum():
        store.catalog.compact()
        store.catalog.create_result_table(**row("more"))
        store.catalog.vacuum(0, dry_run=False)

    hook = Once(*at, Skip(times, vacuum), times=times + 1)
    report = copied(HookedStorage(source, hook), target)
    assert report.ok
    require_version(source, target, report)


class Skip:
    """Acts on the last of so many calls."""

    def __init__(self, times, action):
        self._times, self._action = times, action

    def __call__(self):
        """Count down."""
        if self._times == 0:
            self._action()
        self._times -= 1


def test_a_source_that_deletes_for_ever(source, target, monkeypatch):
    """A source that deletes faster than it is copied is given up on, and the copy not shown."""
    monkeypatch.setattr(copy_root, "ROUNDS", 4)
    store = opened(source)
    for _ in range(8):
        build(store)

    def delete():
        names = [r.table_name for r in store.catalog.list_result_tables_by_status("ready")]
        for name in names:
            store.delete_table(name)
        for _ in range(3):
            build(store)

    with pytest.raises(ConflictError, match="changed 4 times"):
        copied(HookedStorage(source, Once("list_objects", "segments", delete, times=99)), target)
    with pytest.raises(StateError, match="unfinished"):
        Catalog(target)
    report = copied(source, target)
    assert report.ok
    require_version(source, target, report)


def _write_for_a_while(root, rounds, seed):
    store = opened(LocalStorage(root, "os"))
    manifest.INLINE_ROWS, manifest.FAN_OUT = 4, 2
    names = []
    for number in range(rounds):
        names.append(build(store))
        if number % 3 == seed % 3:
            store.delete_table(names.pop(0))
        if number % 7 == seed:
            store.catalog.vacuum(0, keep_last=5, dry_run=False)
    return len(names)


def _copy_for_a_while(root, target, rounds):
    source, copies = LocalStorage(root, "os"), LocalStorage(target, "os")
    versions = []
    for _ in range(rounds):
        report = copy_root.copy_root(Pair(source, copies, verify=True))
        assert report.ok, report
        check_invariants(copies, LEFT)
        found = opened(copies)
        assert found.catalog.version == report.version
        assert not [each for each in found.verify_all() if not each.ok]
        versions.append(report.version)
    return versions


def _act(role, *given):
    return {"write": _write_for_a_while, "copy": _copy_for_a_while}[role](*given)


def test_writers_and_a_mirror(tmp_path):
    """Writers that build, delete and vacuum, and a mirror that follows them: it is always sound."""
    root = str(tmp_path / "root")
    build(opened(LocalStorage(root, "os")))
    jobs = [("write", root, 12, seed) for seed in range(2)]
    jobs.append(("copy", root, str(tmp_path / "mirror"), 5))
    *_, versions = run_together(_act, jobs)
    assert versions == sorted(versions)
    source, target = LocalStorage(root, "os"), LocalStorage(tmp_path / "mirror", "os")
    report = copied(source, target)
    require_version(source, target, report)


# --- the copy is used


def test_readers_see_what_was_or_what_is(source, target):
    """At every operation of a later copy its readers, new and old, see one whole version."""
    store = opened(source)
    gone = [build(store) for _ in range(4)]
    copied(source, target)
    old = rows_of(target)
    warm, pinned = opened(target), Catalog(target).as_admin().snapshot()
    for name in gone[:2]:
        store.delete_table(build(store))
        store.delete_table(name)
    build(store)
    new = rows_of(source)
    seen = []

    def look(*_):
        for found in (warm, opened(target)):
            rows = {each["table_name"] for each in rows_of(target)}
            names = set(found.catalog.scan(columns=["table_name"]).column(0).to_pylist())
            assert names == rows
            for name in names:
                assert found.open_table(name).count_rows() == 3
        rows = rows_of(target)
        assert rows in (old, new)
        seen.append(rows == new)

    copied(source, HookedStorage(target, look))
    assert seen == sorted(seen)
    assert set(seen) == {False, True}
    assert pinned.scan().num_rows == 4


def test_a_writer_at_the_copy(source, target):
    """Whoever commits to a copy that is being brought forward keeps what was acknowledged."""
    build(opened(source))
    copied(source, target)
    for _ in range(3):
        build(opened(source))
    mine = Catalog(target)
    hook = Once("create", PREFIX, lambda: mine.create_result_table(**row("mine")))
    with pytest.raises(ConflictError, match="written to"):
        copied(source, HookedStorage(target, hook))
    assert Catalog(target).get_result_table("mine") is not None
    check_invariants(target, LEFT)
    before = contents(target)
    with pytest.raises(ConflictError, match="does not have"):
        copied(source, target)
    assert contents(target) == before


def test_a_writer_between_two_stand_ins(source, target):
    """Numbers are taken in order, so no writer can slip between the old and the new version."""
    build(opened(source))
    copied(source, target)
    for _ in range(3):
        build(opened(source))
    mine = Catalog(target)
    names = iter(["one", "two", "three", "four", "five", "six"])

    def commit():
        mine.create_result_table(**row(next(names)))

    hook = Once("create", PREFIX, commit, moment="after", times=2)
    with pytest.raises(ConflictError, match="written to"):
        copied(source, HookedStorage(target, hook))
    found = {each["table_name"] for each in rows_of(target)}
    assert "one" in found
    check_invariants(target, LEFT)


def test_an_unfinished_copy_is_nobodys_to_write(source, target):
    """A first writer that comes while a copy is claimed is refused; one before it wins the root."""
    build(opened(source))
    refused = []

    def write_there():
        try:
            Catalog(target).create_result_table(**row("mine"))
        except StateError as error:
            refused.append(error)

    report = copied(source, HookedStorage(target, Once("writer", ".parquet", write_there)))
    assert len(refused) == 1
    require_version(source, target, report)


def test_a_copy_claims_the_root_of_a_first_writer(target):
    """A first writer whose root a copy has just claimed is refused, and commits nothing there."""
    hook = Once("create", root_format.KEY, lambda: root_format.begin_copy(target, "c" * 32))
    with pytest.raises(StateError, match="unfinished"):
        Catalog(HookedStorage(target, hook)).create_result_table(**row("mine"))
    assert set(contents(target)) <= {root_format.KEY, "_catalog/lock"}


def test_another_catalog_is_begun_at_the_same_time(source, target):
    """Of a copy and a new catalog that want one root, one gets it."""
    build(opened(source))
    hook = Once("create", "format.json", lambda: Catalog(target).create_result_table(**row("mine")))
    with pytest.raises(JammiFilesError, match="another catalog"):
        copied(source, HookedStorage(target, hook))
    assert [each["table_name"] for each in rows_of(target)] == ["mine"]
    check_invariants(target)


@pytest.mark.parametrize("later", [False, True])
def test_two_copies_at_once(later, source, target):
    """Two calls to one destination do no harm to each other."""
    store = opened(source)
    for _ in range(4):
        build(store)
    if later:
        copied(source, target)
        for _ in range(4):
            build(store)
    together = threading.Barrier(2)

    def run():
        together.wait(LIMIT)
        return copy_root.copy_root(Pair(source, target, verify=True))

    reports = [begin(run), begin(run)]
    assert all(each.result(LIMIT).ok for each in reports)
    report = copied(source, target)
    assert report.copied == 0
    require_version(source, target, report)


@pytest.mark.parametrize("at", [("list", PREFIX), ("open", ".parquet")])
def test_another_copier_is_faster(at, source, target):
    """A first copy that another call finishes with fewer versions goes on as a later one."""
    store = opened(source)
    for _ in range(3):
        build(store)
    names = []

    def overtake():
        copied(source, target)
        store.delete_table(build(store))
        names.append(build(store))

    late = opened(target)
    seen = []

    def look(_moment, kind, _key):
        if kind in ("create", "replace") and names:
            seen.append(late.catalog.scan().num_rows)

    hook = Once(*at, overtake, moment="after")
    report = copied(HookedStorage(source, hook), HookedStorage(target, look))
    assert report.since is not None
    require_version(source, target, report)
    assert seen == sorted(seen)
    assert set(seen) == {3, 4}


def test_the_caller_s_executor_may_be_shared(source, tmp_path):
    """Several copies may share one executor."""
    store = opened(source)
    for _ in range(3):
        build(store)
    targets = [LocalStorage(tmp_path / f"copy{number}", "os") for number in range(3)]

    def run(target):
        return copy_root.copy_root(Pair(source, target, verify=True), executor=pool)

    with ThreadPoolExecutor(2) as pool:
        reports = [begin(run, target) for target in targets]
        assert all(each.result(LIMIT).ok for each in reports)
    for target in targets:
        assert rows_of(target) == rows_of(source)


# --- anything in any order


class Mirror(RuleBasedStateMachine):
    """A source that does whatever a source may do, and a copy that is brought forward now and then.

    After every copy the two show the same rows, and everything that can be read at the source can
    be read at the copy.
    """

    @initialize()
    def begin(self):
        supply = MemoryRoots()
        self.source, self.target = supply.new(), supply.new()
        self.store = opened(self.source)
        self.names: list[str] = []
        self.numbers = iter(range(10_000))

    @rule(count=st.integers(1, 3))
    def build(self, count):
        self.names += [build(self.store) for _ in range(count)]

    @rule()
    def begin_build(self):
        self.store.catalog.create_result_table(**row(f"building{next(self.numbers)}"))

    @rule()
    def reuse(self):
        if self.store.catalog.get_result_table("again") is not None:
            self.store.delete_table("again")
        number = next(self.numbers)
        make(self.store, [float(number), 0.0, 1.0])

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def delete(self, data):
        name = data.draw(st.sampled_from(self.names))
        self.names.remove(name)
        self.store.delete_table(name)

    @rule()
    def fail(self):
        name = f"failed{next(self.numbers)}"
        self.store.catalog.create_result_table(**row(name))
        write(self.store, name)
        self.store.catalog.fail_result_table(name, "broken")

    @rule()
    def tag(self):
        if self.store.catalog.version:
            self.store.catalog.tag(f"tag{next(self.numbers)}")

    @rule(keep=st.integers(1, 9))
    def vacuum(self, keep):
        if self.store.catalog.version:
            self.store.catalog.vacuum(0, keep_last=keep, dry_run=False)

    @rule()
    def compact(self):
        self.store.catalog.compact()

    @rule(verify=st.booleans())
    def copy(self, verify):
        if not self.store.catalog.exists:
            return
        report = copied(self.source, self.target, verify=verify)
        assert report.ok
        assert report.version == self.store.catalog.version
        assert rows_of(self.target) == rows_of(self.source)
        check_invariants(self.target, LEFT)
        copy = opened(self.target)
        assert not [each for each in copy.verify_all() if not each.ok]
        require_past(self.source, self.target)
        assert copied(self.source, self.target).copied == 0


@pytest.fixture
def _many_segments(small_runs):  # noqa: ARG001 - for every step of the machine
    return None


@pytest.mark.usefixtures("_many_segments")
def test_any_order():
    """Whatever happens at the source between two copies, the copy is the source."""
    from hypothesis.stateful import run_state_machine_as_test  # noqa: PLC0415

    run_state_machine_as_test(
        Mirror, settings=settings(max_examples=15, stateful_step_count=20, deadline=None)
    )
