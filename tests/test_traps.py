"""What bit other catalogs in buckets: each trap of the commit path is a test that names it.

Requests are held at the server, so every interleaving here is the one that the test says.
"""

from __future__ import annotations

import _thread
import re
import time
from types import SimpleNamespace

import pytest
from support.buckets import Bucket
from support.faults import CountingStorage, HookedStorage
from support.processes import run_together
from support.results import build, finalize, row, rows, write
from support.servers.backends import FAST, backends
from support.servers.controls import Fault, Rule
from support.servers.guarded import denied
from support.threads import begin

from jammi_files import (
    Catalog,
    CommitUnknownError,
    ConflictError,
    Match,
    StorageError,
    log,
    manifest,
    patience,
    turns,
)
from jammi_files.log import PREFIX, key_of
from jammi_files.manifest import decode_header

CLIENTS = backends("moto", "gcs", "azurite")
"""One server for each client library: s3fs, gcsfs, adlfs."""

CLIENT_ASKS_ONCE = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
"""Options of s3fs with which botocore repeats nothing by itself."""

LIMIT = 60.0
WRITES = ("PUT", "POST")


@pytest.fixture
def bucket(server):
    return Bucket(server)


class Hurried:
    """Time in which a pause takes no time, but has passed; remembers the pauses."""

    def __init__(self):
        self.pauses = []

    def monotonic(self):
        return time.monotonic() + sum(self.pauses)

    def time_ns(self):
        return time.time_ns() + int(sum(self.pauses) * 1e9)

    def sleep(self, seconds):
        self.pauses.append(seconds)


@pytest.fixture
def pauses(monkeypatch):
    """Let no pause between two tries take time; return the longest that were asked for."""
    hurried = Hurried()
    for module in (patience, turns):
        chance = SimpleNamespace(uniform=lambda _, longest: longest, randint=lambda _, most: most)
        monkeypatch.setattr(module, "random", chance)
        monkeypatch.setattr(module, "time", hurried)
    return hurried.pauses


def version(number):
    return re.escape(key_of(number))


def is_write(one):
    return one.method in WRITES


# --- 1 and 2: what an answer means


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
@pytest.mark.parametrize("fault", [Fault.LOST_RESPONSE, Fault.APPLIED_500])
def test_trap_1_a_commit_conflicts_with_itself(bucket, fault):
    """`trap 1`: the answer is lost and the client sends the put again: it is our own commit."""
    bucket.server.faults.next(fault, version(2))
    bucket.catalog.create_result_table(**row("mine"))
    puts = list(filter(is_write, bucket.server.log.exchanges().matching(key=version(2))))
    assert [one.applied for one in puts] == [True, *[False] * (len(puts) - 1)]
    assert bucket.catalog.version == bucket.connect().catalog.version == 2
    assert bucket.names() == ["mine", "t"]


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_1_anothers_commit_is_no_own_one(bucket):
    """`trap 1`: if another one wins between put and second put, the change goes on top of it."""
    faults = bucket.server.faults
    faults.next(Fault.LOST_REQUEST, version(2), *WRITES)
    with faults.hold(version(2), *WRITES) as hold:
        mine = begin(bucket.catalog.create_result_table, **row("mine"))
        hold.wait()
        bucket.connect().catalog.create_result_table(**row("other"))
        hold.release()
        mine.result(LIMIT)
    assert bucket.names() == ["mine", "other", "t"]
    assert bucket.catalog.version == 3


def blind_to(key, *, times=1):
    """Return a guard: what is put there lands, but every answer about it is an error."""

    def guard(request, store):
        if key not in request.path:
            return store(request)
        if request.method != "PUT":
            return denied()
        answers = [store(request) for _ in range(times)]
        return type(answers[0])(500) if times == 1 else answers[-1]

    return guard


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("times", [1, 2], ids=["error", "taken"])
def test_trap_2_nothing_is_cleaned_up_after_an_ambiguous_commit(guarded, times):
    """`trap 2`: a commit that nobody can confirm keeps its objects, and turns out to be done.

    So it is with a key that is taken while nobody can read by whom: perhaps by this very commit.
    """
    bucket = Bucket(guarded, **CLIENT_ASKS_ONCE)
    guarded.guard = blind_to(key_of(2), times=times)
    with guarded.log.counting() as seen, pytest.raises(CommitUnknownError) as caught:
        bucket.catalog.create_result_tables(rows(*(f"n{number:03}" for number in range(200))))
    assert seen.count("DELETE") == 0
    guarded.unguard()
    assert len(bucket.names()) == 201
    header = decode_header(key_of(2), bucket.objects()[key_of(2)])
    assert header.commit_id == caught.value.commit_id
    assert bucket.errors() == []


@pytest.mark.usefixtures("pauses")
def test_trap_2_a_build_whose_promote_is_unknown(guarded):
    """`trap 2`: data and attestation stay, and the result is found to be ready."""
    bucket = Bucket(guarded, **CLIENT_ASKS_ONCE)
    guarded.guard = blind_to(key_of(3))
    with guarded.log.counting() as seen, pytest.raises(CommitUnknownError):
        build(bucket.store)
    assert seen.count("DELETE") == 0
    guarded.unguard()
    store = bucket.connect()
    (ready,) = store.catalog.list_result_tables_by_status("ready")
    assert store.verify_materialization(ready.table_name) == Match()


# --- 3, 4, 7, 10: vacuum beside writers and readers

OTHERS = ["other0", "other1", "other2", "other3"]


def commit_and_vacuum(bucket):
    """Let another process make four versions and retire all but the newest."""
    other = bucket.connect().catalog
    for name in OTHERS:
        other.create_result_table(**row(name))
    assert other.vacuum(0, dry_run=False).versions_retired >= 4


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_3_a_paused_writer_and_a_vacuum(bucket):
    """`trap 3`: a put that was on its way while its version was retired makes no version anew."""
    with bucket.server.faults.hold(version(2), *WRITES) as hold:
        mine = begin(bucket.catalog.create_result_table, **row("mine"))
        hold.wait()
        commit_and_vacuum(bucket)
        hold.release()
        mine.result(LIMIT)
    assert bucket.names() == ["mine", *OTHERS, "t"]
    assert bucket.objects()[key_of(2)].startswith(b"retired ")
    assert bucket.errors() == []


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_3_a_commit_that_is_retired_before_it_is_read_back(bucket):
    """`trap 1`, `trap 3`: the digest that vacuum leaves tells a writer of its own lost commit."""
    bucket.server.faults.next(Fault.LOST_RESPONSE, version(2))
    with bucket.server.faults.hold(version(2), "GET") as hold:
        mine = begin(bucket.catalog.create_result_table, **row("mine"))
        hold.wait()
        commit_and_vacuum(bucket)
        hold.release()
        mine.result(LIMIT)
    assert bucket.names() == ["mine", *OTHERS, "t"]
    assert bucket.catalog.version == bucket.connect().catalog.version


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_3_a_version_that_was_emptied_without_a_mark(bucket):
    """`trap 3`: where nothing says whose an empty version was, its writer is told of the doubt."""
    with bucket.server.faults.hold(version(2), *WRITES) as hold:
        mine = begin(bucket.catalog.create_result_table, **row("mine"))
        hold.wait()
        commit_and_vacuum(bucket)
        bucket.storage().replace(key_of(2), b"")
        hold.release()
        with pytest.raises(CommitUnknownError):
            mine.result(LIMIT)
    assert bucket.names() == [*OTHERS, "t"]
    assert bucket.errors() == []


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_4_an_idle_reader_below_the_floor(bucket):
    """`trap 4`: whoever asks for a version that was retired is not told to be current."""
    reader = bucket.connect().catalog
    assert reader.version == 1
    for number in range(5):
        bucket.catalog.update_result_table_status("t", "building", number)
    bucket.catalog.vacuum(0, dry_run=False)
    assert reader.get_result_table("t").row_count == 4
    assert reader.version == bucket.catalog.version


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_7_a_live_build_and_a_vacuum(bucket):
    """`trap 7`: data that lies in the bucket while its row is building is no garbage."""
    name = bucket.store.create_table("docs", "classification", "model", "org/model").table_name
    write(bucket.store, name)
    bucket.connect().catalog.vacuum(0, dry_run=False)
    finalize(bucket.store, name)
    assert bucket.connect().verify_materialization(name) == Match()


@pytest.mark.parametrize("server", CLIENTS, indirect=True)
def test_trap_10_the_clock_of_the_store_decides(bucket):
    """`trap 10`: ages are counted by what the store says of its objects, in its own precision."""
    for number in range(3):
        bucket.catalog.update_result_table_status("t", "building", number)
    assert not bucket.catalog.vacuum(3600, dry_run=False)
    assert bucket.catalog.vacuum(0, dry_run=False).versions_retired == 3
    assert bucket.names() == ["t"]
    assert bucket.errors() == []


# --- 5, 6, 16: contention


class Rival:
    """Commits before each of the first ``wins`` creates of versions that pass through `hook`."""

    def __init__(self, bucket, wins):
        self._catalog, self._left = bucket.connect().catalog, wins
        self.made = []

    def hook(self, moment, kind, key):
        if (moment, kind) == ("before", "create") and key.startswith(PREFIX) and self._left:
            self._left -= 1
            self.made.append(f"rival{self._left}")
            self._catalog.create_result_table(**row(self.made[-1]))


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_5_whoever_loses_reads_the_winner_and_waits(bucket, pauses):
    """`trap 5`: no version is tried twice, and from the second loss on there is a pause."""
    rival = Rival(bucket, 4)
    counting = CountingStorage(bucket.storage())
    mine = Catalog(HookedStorage(counting, rival.hook))
    assert mine.version == 1
    with counting.counting() as calls:
        mine.create_result_table(**row("mine"))
    tried = [key for key in calls.keys("create") if key.startswith(PREFIX)]
    assert tried == [key_of(number) for number in (2, 3, 4, 5, 6)]
    assert len(pauses) == 3
    assert min(pauses) > 0
    assert bucket.names() == sorted(["mine", "t", *rival.made])


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_16_starvation_comes_to_an_end(bucket, monkeypatch):
    """`trap 16`: whoever always loses is told so after so many tries; nothing was applied."""
    monkeypatch.setattr(log, "MAX_ATTEMPTS", 6)
    rival = Rival(bucket, 100)
    mine = Catalog(HookedStorage(bucket.storage(), rival.hook))
    with pytest.raises(ConflictError, match="6 times in a row; nothing was applied"):
        mine.create_result_table(**row("mine"))
    assert bucket.names() == sorted(["t", *rival.made])


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_16_everybody_gets_a_turn(bucket):
    """`trap 16`: of handles that commit without pause on one bucket each comes to its end."""

    def commit_often(who):
        catalog = bucket.connect().catalog
        for number in range(4):
            catalog.create_result_table(**row(f"{who}-{number}"))

    working = [begin(commit_often, who) for who in range(6)]
    for each in working:
        each.result(LIMIT)
    assert len(bucket.names()) == 1 + 6 * 4


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_6_a_409_is_sent_again(bucket, pauses):
    """`trap 6`: a conditional put that met another one was not done: it is repeated, not read."""
    bucket.server.faults.add(Rule(Fault.CONFLICT_409, version(2), times=2))
    with bucket.server.log.counting() as seen:
        bucket.catalog.create_result_table(**row("mine"))
    assert [one.outcome for one in seen.matching(key=version(2))] == [None, None, 200]
    assert len(pauses) == 2
    assert bucket.names() == ["mine", "t"]


def test_trap_6_a_429_is_waited_for(s3_server, pauses):
    """`trap 6`: whoever is told to slow down does, for longer each time."""
    bucket = Bucket(s3_server, **CLIENT_ASKS_ONCE)
    s3_server.faults.add(Rule(Fault.REFUSED_429, version(2), times=4))
    bucket.catalog.create_result_table(**row("mine"))
    assert len(pauses) == 4
    assert pauses == sorted(pauses)
    assert pauses[3] > 2 * pauses[0]
    assert bucket.names() == ["mine", "t"]


@pytest.mark.usefixtures("pauses")
def test_trap_6_a_store_that_is_too_busy_for_long(s3_server):
    """`trap 6`: refused so often, a commit was certainly not applied, and the error is typed."""
    bucket = Bucket(s3_server, **CLIENT_ASKS_ONCE)
    s3_server.faults.add(Rule(Fault.REFUSED_429, version(2), methods=WRITES, times=None))
    with pytest.raises(StorageError, match="429"):
        bucket.catalog.create_result_table(**row("mine"))
    assert bucket.names() == ["t"]
    assert key_of(2) not in bucket.objects()


# --- 18: interrupts and forks


def test_trap_18_an_interrupt_during_a_commit(s3_server):
    """`trap 18`: the put lands after Ctrl-C: others in its batch do not know, nobody loses."""
    bucket = Bucket(s3_server)
    catalog, queue = bucket.catalog, bucket.catalog.log._queue
    faults = s3_server.faults
    with faults.hold(version(2), *WRITES) as first, faults.hold(version(3), *WRITES) as second:
        leader = begin(catalog.create_result_table, **row("leader"))
        first.wait()

        def interrupt():
            wait_until(lambda: len(queue._waiting) == 1)  # the main thread will lead
            other = begin(catalog.create_result_table, **row("other"))
            wait_until(lambda: len(queue._waiting) == 2)
            first.release()
            second.wait()
            _thread.interrupt_main()
            return other

        interrupting = begin(interrupt)
        with s3_server.log.counting() as seen:
            with pytest.raises(KeyboardInterrupt):
                catalog.create_result_table(**row("mine"))
            with pytest.raises(CommitUnknownError):
                interrupting.result(LIMIT).result(LIMIT)
        assert seen.count("DELETE") == 0
        leader.result(LIMIT)
        second.release()
    wait_until(lambda: key_of(3) in bucket.objects())
    catalog.create_result_table(**row("next"))
    assert bucket.names() == ["leader", "mine", "next", "other", "t"]
    assert bucket.errors() == []


def wait_until(is_so):
    end = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.002)


def commit_in_a_child(store, number):
    store.catalog.create_result_table(**row(f"child{number}"))
    return store.catalog.get_result_table("parent").table_name


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_18_a_fork_after_use(bucket):
    """`trap 18`: a child makes connections of its own, and its parent's go on to work."""
    bucket.catalog.create_result_table(**row("parent"))
    children = [(bucket.store, number) for number in range(2)]
    assert run_together(commit_in_a_child, children, start="fork") == ["parent"] * 2
    bucket.catalog.create_result_table(**row("after"))
    assert bucket.names() == ["after", "child0", "child1", "parent", "t"]


# --- 19: a merge


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_trap_19_a_merge_races_with_a_commit(bucket, monkeypatch):
    """`trap 19`: a merge whose create loses is made again on top, and neither is lost."""
    for knob, value in (("INLINE_ROWS", 2), ("MERGE_IN_COMMIT_ROWS", 1)):
        monkeypatch.setattr(manifest, knob, value)
    for number in range(7):
        bucket.catalog.create_result_table(**row(f"n{number}"))
    at = bucket.catalog.version + 1
    with bucket.server.faults.hold(version(at), *WRITES) as hold:
        merging = begin(bucket.catalog.compact)
        hold.wait()
        other = bucket.connect().catalog
        other.delete_result_table("n0")
        other.create_result_tables(rows("m0", "m1", "m2"))
        hold.release()
        merging.result(LIMIT)
    assert bucket.names() == ["m0", "m1", "m2", *(f"n{number}" for number in range(1, 7)), "t"]
    operations = [info.operation for info in bucket.catalog.as_admin().history()]
    assert operations[-3:] == ["delete", "create", "compact"]
    assert bucket.errors() == []
