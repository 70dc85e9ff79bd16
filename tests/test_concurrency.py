"""Many processes and threads on one root: nothing lost, nobody hung, every read whole."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections import Counter

import pytest
from support.faults import HookedStorage
from support.invariants import check_invariants
from support.processes import run_together
from support.results import CONTRACT, DATA, TABLE, build, row, rows
from support.roots import LocalRoots, MemoryRoots
from support.threads import begin
from support.workers import (
    Gate,
    count_up,
    create_all,
    create_one,
    hooked,
    open_root,
    read_pairs,
    try_lock,
    write_pairs,
)

from jammi_files import log, manifest, rules
from jammi_files.catalog import Catalog
from jammi_files.errors import (
    AlreadyExistsError,
    CommitUnknownError,
    ConflictError,
    StateError,
    StorageError,
    TableNotFoundError,
)
from jammi_files.fsck import Kind
from jammi_files.local import LocalStorage
from jammi_files.log import key_of
from jammi_files.store import ResultStore

LIMIT = 30.0
TENANT = "aaaaaaaa-0000-4000-8000-000000000001"


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path):
    supply = LocalRoots(tmp_path / "roots") if request.param == "local" else MemoryRoots()
    storage = supply.new()
    Catalog(storage).create_result_table(**row("t"))
    yield storage
    supply.close()


class Queue(list):
    """The tickets that wait for a leader; tells when ``enough`` of them do."""

    def __init__(self, enough, arrived=lambda _: None):
        super().__init__()
        self.full = threading.Event()
        self._enough, self._arrived = enough, arrived

    def append(self, ticket):
        super().append(ticket)
        self._arrived(ticket)
        if len(self) == self._enough:
            self.full.set()


def test_processes_lose_no_update(tmp_path):
    """`B274`, `B278`: 8 processes x 100 read-modify-write commits: 800 versions, all counted."""
    root = str(tmp_path)
    open_root(root).create_result_table(**row("t"))
    run_together(_count_locked, [(root, 100)] * 8)
    catalog = Catalog.open(root)
    assert catalog.get_result_table("t").row_count == 800
    assert catalog.log.versions() == list(range(1, 802))
    writers = Counter(info.writer for info in catalog.history()[1:])
    assert sorted(writers.values()) == [100] * 8
    check_invariants(root)


def _count_locked(root, rounds):
    return count_up(root, rounds, locked=True)


def test_processes_lose_no_update_without_a_lock(tmp_path):
    """`B278`: exclusivity does not rest on the lock: without it conflicts are met, none is lost."""
    root = str(tmp_path)
    open_root(root).create_result_table(**row("t"))
    run_together(_count_unlocked, [(root, 40)] * 4)
    catalog = Catalog.open(root)
    assert catalog.get_result_table("t").row_count == 160
    assert catalog.log.versions() == list(range(1, 162))
    check_invariants(root)


def _count_unlocked(root, rounds):
    return count_up(root, rounds, locked=False)


@pytest.mark.parametrize("locked", [True, False])
def test_processes_agree_on_who_has_a_name(locked, tmp_path):
    """`B058`, `B278`: 8 processes create the same 50 names: every name has exactly one winner."""
    root = str(tmp_path)
    names = [f"t{number}" for number in range(50)]
    worker = _create_locked if locked else _create_unlocked
    won = run_together(worker, [(root, f"process {number}", names) for number in range(8)])
    assert sorted(name for each in won for name in each) == sorted(names)
    catalog = Catalog.open(root)
    for number, each in enumerate(won):
        for name in each:
            assert catalog.get_result_table(name).source_id == f"process {number}"
    check_invariants(root, {Kind.DEAD_BUILD})


def _create_locked(root, who, names):
    return create_all(root, who, names, locked=True)


def _create_unlocked(root, who, names):
    return create_all(root, who, names, locked=False)


def test_readers_see_whole_versions_in_order(tmp_path):
    """`B277`, `B281`: readers beside a writer see versions in order, each whole, pins unmoved."""
    root, rounds = str(tmp_path), 150
    open_root(root).create_result_tables(rows("a", "b"))
    run_together(_write_or_read, [(root, rounds, who) for who in ("writer", "reader", "reader")])
    check_invariants(root, {Kind.DEAD_BUILD})


def _write_or_read(root, rounds, who):
    return (write_pairs if who == "writer" else read_pairs)(root, rounds)


def test_pinned_reader(tmp_path, monkeypatch):
    """`B281`: a reader on version v answers as then, though nothing of it was loaded before."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 2)
    monkeypatch.setattr(manifest, "FAN_OUT", 2)
    writer = Catalog.open(tmp_path, durability="os")
    for number in range(20):
        writer.create_result_table(**row(f"t{number}"))
    expected = writer.scan().sort_by("table_name")
    pinned = Catalog.open(tmp_path).snapshot()
    for number in range(20):
        writer.update_result_table_status(f"t{number}", "building", 7)
        writer.create_result_table(**row(f"u{number}"))
        writer.delete_result_table(f"t{number}")
    writer.compact()
    assert pinned.version == 20
    assert pinned.scan().sort_by("table_name") == expected
    assert pinned.get_result_table("t3").row_count == 0
    assert pinned.get_result_table("u3") is None


def test_threads_share_a_version(storage):
    """`B274`: what 63 threads commit while one is committing becomes one version, nothing lost."""
    gate = Gate("create", "manifest")
    catalog = Catalog(hooked(storage, gate))
    catalog.log._queue._waiting = queue = Queue(63)
    first = begin(catalog.create_result_table, **row("r0"))
    assert gate.reached.wait(LIMIT)
    others = [begin(catalog.create_result_table, **row(f"r{n}")) for n in range(1, 64)]
    assert queue.full.wait(LIMIT)
    gate.opened.set()
    made = [future.result(LIMIT) for future in (first, *others)]
    assert [record.table_name for record in made] == [f"r{number}" for number in range(64)]
    assert len({record.created_at for record in made}) == 64
    fresh = Catalog(storage)
    assert fresh.version == 3
    assert fresh.scan().num_rows == 65
    check_invariants(storage)


def test_errors_reach_only_their_caller(storage):
    """`B079`: of changes that share a version the refused leave no trace, the others commit."""
    gate = Gate("create", "manifest")
    catalog = Catalog(hooked(storage, gate))
    seen = catalog.get_result_table("t")

    def half_a_change(draft):
        draft.put(dataclasses.replace(seen, table_name="half"), "create")
        rules.fail(draft, catalog.scope, "none", "x")

    catalog.log._queue._waiting = queue = Queue(40)
    first = begin(catalog.create_result_table, **row("r0"))
    assert gate.reached.wait(LIMIT)
    good = [begin(catalog.create_result_table, **row(f"g{n}")) for n in range(10)]
    taken = [begin(catalog.create_result_table, **row("t")) for _ in range(10)]
    once = [begin(catalog.create_result_table, **row("once")) for _ in range(10)]
    gone = [begin(catalog.log.commit, half_a_change) for _ in range(10)]
    assert queue.full.wait(LIMIT)
    gate.opened.set()
    assert first.result(LIMIT).table_name == "r0"
    assert [future.exception(LIMIT) for future in good] == [None] * 10
    assert {type(future.exception(LIMIT)) for future in taken} == {AlreadyExistsError}
    assert sorted(future.exception(LIMIT) is None for future in once) == [False] * 9 + [True]
    assert {type(future.exception(LIMIT)) for future in gone} == {TableNotFoundError}
    assert Catalog(storage).version == 3
    assert Catalog(storage).scan().num_rows == 13
    check_invariants(storage)


@pytest.mark.parametrize(
    ("moment", "answers"),
    [("before", {StorageError: 2}), ("after", {CommitUnknownError: 1, ConflictError: 1})],
)
def test_nobody_is_refused_for_a_change_that_may_not_be_there(moment, answers, storage):
    """`B079`: what a failed commit would have made takes no name; what is wrong anyway still is."""
    gate = Gate("create", "manifest")

    def hook(when, kind, key):
        gate(when, kind, key)
        if (when, kind, key) == (moment, "create", key_of(3)):
            raise StorageError("the disk is gone")

    catalog = Catalog(hooked(storage, hook))
    catalog.log._queue._waiting = queue = Queue(3)
    first = begin(catalog.create_result_table, **row("r0"))
    assert gate.reached.wait(LIMIT)
    same = [begin(_outcome, catalog, "same") for _ in range(2)]
    taken = begin(_outcome, catalog, "t")
    assert queue.full.wait(LIMIT)
    gate.opened.set()
    first.result(LIMIT)
    assert Counter(each.result(LIMIT) for each in same) == answers
    assert taken.result(LIMIT) is AlreadyExistsError
    assert (catalog.get_result_table("same") is not None) == (moment == "after")
    check_invariants(storage)


def test_nobody_is_refused_for_a_change_that_lost(storage, monkeypatch):
    """`B079`: who was refused beside a change that never won is told that nothing was applied."""
    monkeypatch.setattr(log, "MAX_ATTEMPTS", 3)
    gate, rival = Gate("create", "manifest"), Catalog(storage)

    def hook(when, kind, key):
        gate(when, kind, key)
        if (when, kind) == ("before", "create") and key > key_of(2):
            rival.update_result_table_status("t", "building", rival.version)

    catalog = Catalog(hooked(storage, hook, locked=False))
    catalog.log._queue._waiting = queue = Queue(2)
    first = begin(catalog.create_result_table, **row("r0"))
    assert gate.reached.wait(LIMIT)
    same = [begin(_outcome, catalog, "same") for _ in range(2)]
    assert queue.full.wait(LIMIT)
    gate.opened.set()
    first.result(LIMIT)
    assert [each.result(LIMIT) for each in same] == [ConflictError, ConflictError]
    assert catalog.get_result_table("same") is None
    check_invariants(storage)


def test_many_threads(storage):
    """`B274`: 64 threads x 5 rows on one handle: all present, each a row of a contiguous log."""
    catalog = Catalog(storage)
    barrier = threading.Barrier(64)

    def create(number):
        barrier.wait(LIMIT)
        for each in range(5):
            catalog.create_result_table(**row(f"r{number}.{each}"))

    for future in [begin(create, number) for number in range(64)]:
        future.result(LIMIT)
    fresh = Catalog(storage)
    assert fresh.scan().num_rows == 321
    assert fresh.log.versions() == list(range(1, fresh.version + 1))
    assert fresh.version < 321
    check_invariants(storage)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StorageError])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", ["lock", "peek", "create"])
def test_a_failing_leader_hangs_nobody(kind, moment, error, storage):
    """`B275`: whatever strikes the committing thread, all who wait are answered, truthfully."""
    catalog, leader, others = _strike_the_leader(storage, kind, moment, error)
    unknown = error is StorageError and (kind, moment) == ("create", "after")
    assert leader is (CommitUnknownError if unknown else error)
    assert (catalog.get_result_table("r0") is not None) == ((kind, moment) == ("create", "after"))
    for number, answer in enumerate(others, start=1):
        assert answer in (None, StorageError, CommitUnknownError)
        assert (catalog.get_result_table(f"r{number}") is not None) == (answer is None)
    catalog.create_result_table(**row("later"))
    check_invariants(storage)


@pytest.mark.parametrize("error", [KeyboardInterrupt, StorageError])
@pytest.mark.parametrize("kind", ["peek", "create"])
def test_a_failing_leader_fails_only_its_own_batch(kind, error, storage):
    """`B278`: who was not in the version that failed is not told that it may hold their change."""
    catalog, _, others = _strike_the_leader(storage, kind, "after", error)
    assert others == [None] * 9
    assert catalog.get_result_table("r9") is not None


def _strike_the_leader(storage, kind, moment, error):
    """Raise in the thread that commits while nine others wait; return how all ten ended."""
    gate = Gate(kind, moment=moment, error=error)
    catalog = Catalog(hooked(storage, gate))
    assert catalog.version == 1
    # Before the lock is had the leader's own change waits with the others.
    catalog.log._queue._waiting = queue = Queue(10 if kind == "lock" else 9)
    leader = begin(_outcome, catalog, "r0")
    assert gate.reached.wait(LIMIT)
    others = [begin(_outcome, catalog, f"r{number}") for number in range(1, 10)]
    assert queue.full.wait(LIMIT)
    gate.opened.set()
    return catalog, leader.result(LIMIT), [future.result(LIMIT) for future in others]


def _outcome(catalog, name):
    try:
        catalog.create_result_table(**row(name))
    except BaseException as problem:  # noqa: BLE001 - it is what is tested
        return type(problem)
    return None


@pytest.mark.parametrize("woken", [False, True])
def test_an_interrupted_waiter_hangs_nobody(woken, storage):
    """`B275`: a thread interrupted while it waits commits nothing and keeps nobody from leading."""
    gate = Gate("create", "manifest")
    catalog = Catalog(hooked(storage, gate))

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            if woken:
                assert super().wait(timeout or LIMIT)
            raise KeyboardInterrupt

    def arrived(ticket):
        if len(queue) == 1 and gate.reached.is_set() and not caught:
            caught.append(ticket)
            ticket.wake = Interrupted()
            struck_waits.set()

    caught, struck_waits = [], threading.Event()
    catalog.log._queue._waiting = queue = Queue(4 if woken else 3, arrived)
    first = begin(catalog.create_result_table, **row("first"))
    assert gate.reached.wait(LIMIT)
    struck = begin(_outcome, catalog, "struck")
    assert struck_waits.wait(LIMIT)
    if not woken:
        assert struck.result(LIMIT) is KeyboardInterrupt
    others = [begin(catalog.create_result_table, **row(f"r{n}")) for n in range(3)]
    assert queue.full.wait(LIMIT)
    gate.opened.set()
    assert first.result(LIMIT).table_name == "first"
    assert struck.result(LIMIT) is KeyboardInterrupt
    assert [future.result(LIMIT).table_name for future in others] == ["r0", "r1", "r2"]
    assert Catalog(storage).get_result_table("struck") is None
    assert Catalog(storage).version == 3
    catalog.create_result_table(**row("later"))


class Rival:
    """Commits once through another handle just before the first one creates a version."""

    def __init__(self, storage, change, times=1):
        self._catalog, self._change, self.left = Catalog(storage), change, times

    def __call__(self, moment, kind, key):
        if (moment, kind) == ("before", "create") and "manifest" in key and self.left:
            self.left -= 1
            self._change(self._catalog)


def test_what_is_known_refuses_nobody(storage):
    """Without a lock, a change that what is known refuses or has no need of is held to the newest.

    One that writes is tried on what is known: it shows that by creating the next version.
    """
    catalog, other = Catalog(hooked(storage, lambda *_: None, locked=False)), Catalog(storage)
    seen = catalog.get_result_table("t")
    other.create_result_table(**row("theirs"))
    catalog.log.commit(lambda draft: rules.fail(draft, catalog.scope, "theirs", "x"))
    assert other.get_result_table("theirs").status == "failed"
    other.delete_result_table("t")
    catalog.log.commit(lambda draft: draft.get("t") or draft.put(seen, "create"))
    assert other.get_result_table("t") == seen


def test_a_lost_race_is_run_again(storage):
    """`B278`: a commit that lost its version is applied to the winner's rows; both are there."""
    rival = Rival(storage, lambda other: other.create_result_table(**row("rival")))
    catalog = Catalog(hooked(storage, rival, locked=False))
    catalog.create_result_table(**row("mine"))
    names = Catalog(storage).scan(columns=["table_name"]).column(0).to_pylist()
    assert sorted(names) == ["mine", "rival", "t"]
    assert catalog.version == 3
    check_invariants(storage)


@pytest.mark.parametrize(
    ("theirs", "mine", "error"),
    [
        (
            lambda other: other.create_result_table(**row("same")),
            lambda catalog: catalog.create_result_table(**row("same")),
            AlreadyExistsError,
        ),
        (
            lambda other: other.fail_result_table("t", "recovered"),
            lambda catalog: catalog.promote_result_table_with_manifest("t", 1, "0" * 64, []),
            StateError,
        ),
        (
            lambda other: other.delete_result_table("t"),
            lambda catalog: catalog.create_result_table(**row("child", derived_from="t")),
            KeyError,
        ),
        (
            lambda other: other.create_result_tables(rows("a", "b")),
            lambda catalog: catalog.create_result_tables(rows("b", "c")),
            AlreadyExistsError,
        ),
    ],
)
def test_rules_are_checked_again(theirs, mine, error, storage):
    """`B058`, `B061`, `B079`, `B259`: a rule that held when the commit began may not hold now."""
    catalog = Catalog(hooked(storage, Rival(storage, theirs), locked=False))
    with pytest.raises(error):
        mine(catalog)
    assert catalog.version == Catalog(storage).version == 2
    check_invariants(storage)


def test_a_transaction_that_lost_is_a_conflict(storage):
    """`B278`: without a lock a transaction that another commit overtook applies nothing."""
    rival = Rival(storage, lambda other: other.create_result_table(**row("rival")))
    catalog = Catalog(hooked(storage, rival, locked=False))
    with pytest.raises(ConflictError), catalog.transaction() as tx:
        tx.update_result_table_status("t", "building", 1)
    assert catalog.get_result_table("t").row_count == 0
    assert catalog.version == 2


def test_a_race_is_lost_a_bounded_number_of_times(storage, monkeypatch):
    """`B278`: a writer that always loses gives up with an error that says nothing was applied."""
    monkeypatch.setattr(log, "MAX_ATTEMPTS", 3)
    numbers = iter(range(100))
    rival = Rival(storage, lambda other: other.create_result_table(**row(f"r{next(numbers)}")), 99)
    catalog = Catalog(hooked(storage, rival, locked=False))
    with pytest.raises(ConflictError, match=r"3 times in a row; nothing was applied"):
        catalog.create_result_table(**row("mine"))
    assert Catalog(storage).get_result_table("mine") is None
    assert Catalog(storage).version == 4


def test_a_lost_race_may_leave_a_segment(storage, monkeypatch):
    """`B278`: the segment of a version that was never made is a notice, and never listed."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 1)
    rival = Rival(storage, lambda other: other.create_result_table(**row("rival")))
    catalog = Catalog(hooked(storage, rival, locked=False))
    catalog.create_result_table(**row("mine"))
    assert Catalog(storage).scan().num_rows == 3
    found = check_invariants(storage, {Kind.ORPHAN_SEGMENT})
    assert len(found) == 1


def _fails_once(moment, *, key, number=1):
    """Return a hook that refuses the numbered create of such a key, before or after it acts."""
    left = [number]

    def hook(when, kind, name):
        if (when, kind) == (moment, "create") and key in name:
            left[0] -= 1
            if left[0] == 0:
                raise StorageError(f"no answer for '{name}'")

    return hook


def test_a_lost_answer_is_unknown(storage):
    """`B278`: a commit whose answer was lost is neither acknowledged nor called a conflict."""
    catalog = Catalog(hooked(storage, _fails_once("after", key="manifest")))
    with pytest.raises(CommitUnknownError) as caught:
        catalog.create_result_table(**row("maybe"))
    newest = Catalog(storage).as_admin().history()[-1]
    assert newest.commit_id == caught.value.commit_id
    assert newest.tables == ("maybe",)
    assert catalog.get_result_table("maybe") is not None


def test_a_lost_request_is_an_error(storage):
    """`B278`: a commit that the storage refused was certainly not applied."""
    catalog = Catalog(hooked(storage, _fails_once("before", key="manifest")))
    with pytest.raises(StorageError, match="no answer"):
        catalog.create_result_table(**row("never"))
    assert catalog.get_result_table("never") is None
    catalog.create_result_table(**row("never"))


def test_an_unknown_promote_keeps_its_data(storage):
    """`B083`, `B278`: data is never cleaned up after a commit whose outcome is unknown."""
    hook = _fails_once("after", key="manifest", number=2)
    with pytest.raises(CommitUnknownError) as caught:
        build(ResultStore(Catalog(hooked(storage, hook))))
    assert ["recover() settles" in note for note in caught.value.__notes__] == [True]
    store = ResultStore(Catalog(storage))
    (record,) = store.catalog.list_result_tables_by_status("ready")
    assert store.verify_materialization(record.table_name).ok
    check_invariants(storage)


@pytest.mark.parametrize("error", [StorageError, KeyboardInterrupt])
def test_a_published_result_keeps_its_data(error, storage):
    """`B083`, `B278`: an interrupt after the promotion does not take back what others may read."""
    promoted = []

    def hook(moment, kind, key):
        if (moment, kind) == ("after", "create") and "manifest" in key:
            promoted.append(key)
        if len(promoted) == 2 and (kind == "delete" or error is KeyboardInterrupt):
            promoted.append("struck")
            raise error("struck")

    store = ResultStore(Catalog(hooked(storage, hook)))
    with contextlib.suppress(error), store.build(*TABLE, **CONTRACT) as out:
        out.write(DATA)
        out.checkpoint(1)
    assert promoted[-1] == "struck"
    fresh = ResultStore(Catalog(storage))
    (record,) = fresh.catalog.list_result_tables_by_status("ready")
    assert fresh.verify_materialization(record.table_name).ok


def test_a_failed_merge_is_no_failed_commit(storage, monkeypatch):
    """`B276`: a commit that was made is acknowledged, though the merge after it was refused."""
    for knob, value in (("INLINE_ROWS", 2), ("FAN_OUT", 2), ("MERGE_IN_COMMIT_ROWS", 1)):
        monkeypatch.setattr(manifest, knob, value)
    refusing = []

    def hook(moment, kind, key):
        if refusing and moment == "before" and kind == "create" and "segments" in key:
            raise StorageError("disk full")
        if moment == "after" and kind == "create" and "manifest" in key:
            refusing.append(key)
        if moment == "before" and kind == "lock":
            refusing.clear()

    catalog = Catalog(hooked(storage, hook))
    for number in range(8):
        catalog.create_result_table(**row(f"r{number}"))
    assert Catalog(storage).scan().num_rows == 9


def test_transactions_exclude_each_other(storage):
    """`B274`: while one transaction is open the commits of other threads wait, and then happen."""
    catalog = Catalog(storage)
    with catalog.transaction() as tx:
        waiting = [begin(catalog.create_result_table, **row(f"r{n}")) for n in range(4)]
        tx.create_result_table(**row("tx"))
        assert not any(future.done() for future in waiting)
    for future in waiting:
        assert future.result(LIMIT)
    assert catalog.history()[1].tables == ("tx",)
    assert catalog.scan().num_rows == 6


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_with_an_open_handle(tmp_path):
    """`B274`: forked processes use the handle they inherited, and none shares its lock."""
    catalog = open_root(str(tmp_path))
    catalog.create_result_table(**row("t"))
    made = run_together(create_one, [(catalog, f"r{n}") for n in range(4)], start="fork")
    assert max(version for version, _ in made) == 5
    catalog.create_result_table(**row("parent"))
    assert catalog.version == 6
    assert catalog.scan().num_rows == 6
    with catalog.storage.lock():
        assert run_together(try_lock, [(catalog,)], start="fork") == ["held"]
    assert run_together(try_lock, [(catalog,)], start="fork") == ["free"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_during_a_commit(tmp_path):
    """`B274`: a process forked while a thread of its parent commits can commit itself."""
    gate = Gate("create", "manifest")
    open_root(str(tmp_path)).create_result_table(**row("t"))
    catalog = Catalog(hooked(LocalStorage(tmp_path, "os"), gate))
    committing = begin(catalog.create_result_table, **row("parent"))
    assert gate.reached.wait(LIMIT)
    child = os.fork()
    if child == 0:
        status = 1
        signal.alarm(5)  # the system ends a child that hangs
        try:
            catalog.create_result_table(**row("child"))
            status = 0
        finally:
            os._exit(status)
    gate.opened.set()
    assert committing.result(LIMIT).table_name == "parent"
    assert os.waitpid(child, 0)[1] == 0
    assert catalog.get_result_table("child") is not None


def test_spawn_with_a_pickled_handle(tmp_path):
    """`B274`: a handle sent to another process opens the same root there, under the same scope."""
    catalog = open_root(str(tmp_path)).pinned_to_tenant(TENANT)
    made = run_together(create_one, [(catalog, f"r{n}") for n in range(2)])
    assert {tenant for _, tenant in made} == {TENANT}
    assert catalog.version == 2
    assert catalog.pinned_to_tenant(None).scan().num_rows == 0


def test_handles_of_one_root_lose_nothing(tmp_path):
    """`B274`: threads that each opened the root themselves are writers like any others."""
    storage = LocalStorage(tmp_path, "os")
    Catalog(storage).create_result_table(**row("t"))

    def work(_):
        catalog = open_root(str(tmp_path))
        for _ in range(10):
            with catalog.transaction() as tx:
                count = tx.get_result_table("t").row_count
                tx.update_result_table_status("t", "building", count + 1)

    for future in [begin(work, number) for number in range(8)]:
        future.result(LIMIT)
    assert Catalog(storage).get_result_table("t").row_count == 80
    with contextlib.suppress(AlreadyExistsError):
        Catalog(HookedStorage(storage, lambda *_: None)).create_result_table(**row("t"))
    check_invariants(storage)
