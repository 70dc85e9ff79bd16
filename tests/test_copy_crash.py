"""A copy that is killed at any operation: nobody opens a part of it, and the next call ends it."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import random
import threading
from multiprocessing.connection import Connection

import pytest
from support.copies import copied, opened, require_past, rows_of, shown
from support.faults import CountingStorage, Crash, CrashingStorage, HookedStorage, When
from support.invariants import check_invariants
from support.results import build, finalize, row, write
from support.roots import LocalRoots, MemoryRoots, contents

from jammi_files import copy_root, root_format
from jammi_files.catalog import Catalog
from jammi_files.copy_objects import Pair
from jammi_files.errors import ConflictError, StateError
from jammi_files.fsck import Kind
from jammi_files.local import LocalStorage
from jammi_files.log import key_of

# A dead process closes no file; Python's garbage collector does, and complains.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LIMIT = 60.0
LEFT = {Kind.TEMPORARY_FILE, Kind.ORPHAN_OBJECT, Kind.ORPHAN_SEGMENT, Kind.RETIRED_VERSION}
"""What a cut-off copy may leave at a destination that was a catalog already."""
WRITTEN = ("publish", "create")


@pytest.fixture(params=["local", "memory"])
def roots(request, tmp_path):
    supply = LocalRoots(tmp_path) if request.param == "local" else MemoryRoots()
    yield supply
    supply.close()


@pytest.fixture(autouse=True)
def _in_order(small_runs, monkeypatch):  # noqa: ARG001 - few rows make segments and merges
    """Let every operation have its number: nothing happens side by side."""
    monkeypatch.setattr(copy_root, "_THREADS", 1)


@pytest.fixture
def source(tmp_path_factory):
    """Return a root with segments, a tag, a retired version, and a deleted and a failed result."""
    storage = LocalStorage(tmp_path_factory.mktemp("source") / "root", "os")
    store = opened(storage)
    names = [build(store) for _ in range(2)]
    store.catalog.tag("first", 2)
    store.catalog.vacuum(0, keep_last=3, dry_run=False)
    store.delete_table(names[0])
    store.catalog.create_result_table(**row("failed"))
    store.catalog.fail_result_table("failed", "broken")
    return storage


def go_on(source):
    """Change the source in every way: rows new, deleted and building, versions retired, merged."""
    store = opened(source)
    store.delete_table(build(store))
    build(store)
    store.catalog.create_result_table(**row("building"))
    store.catalog.untag("first")
    store.catalog.vacuum(0, keep_last=3, dry_run=False)
    store.catalog.compact()


def require_end(source, target, report, before):
    """Check that the next call has made the copy whole, out of what was there."""
    assert report.ok
    assert rows_of(target) == rows_of(source)
    check_invariants(target, LEFT)
    assert not [row for row in opened(target).verify_all() if not row.ok]
    here, there = shown(source), shown(target)
    keeps = Catalog(source).snapshot()._snapshot.header.retention.keeps
    for version in Catalog(source).log.versions():
        key = key_of(version)
        assert (here.pop(key) == there.get(key)) if keeps(version) else not here.pop(key)
    names = {key for key in here if "segments" not in key}
    assert {key: there[key] for key in names} == {key: here[key] for key in names}
    assert before is not None


def test_first_copy(source, roots):
    """Wherever a first copy is cut off it cannot be opened, or it is whole; then it is finished."""
    whole = copied(source, roots.new()).copied
    seen = refused = 0
    left = set()
    for target, crashing in _crashes(source, roots.new):
        mark = (crashing.done, crashing.partial)
        if mark in left:
            continue
        left.add(mark)
        seen += 1
        before = shown(target)
        try:
            found = Catalog(target).as_admin()
        except StateError:
            refused += 1
        else:
            assert found.exists or not before
            assert rows_of(target) == (rows_of(source) if found.exists else [])
        counting = CountingStorage(target)
        report = copied(source, counting)
        require_end(source, target, report, before)
        written = [call.key for call in counting.calls if call.kind in WRITTEN]
        kept = set(before) & set(shown(source))
        newest = key_of(report.version)  # it is tried, and found to be there
        assert [key for key in written if key in kept] in ([], [newest])
        if report.since is None:
            assert report.copied + len(kept) >= whole
        assert copied(source, target).copied == 0
    assert refused > 8
    assert seen - refused < 6


def _crashes(source, new):
    for at in itertools.count():
        for when in When:
            target = new()
            if when in (When.TORN, When.LINKED) and not isinstance(target, LocalStorage):
                continue
            crashing = CrashingStorage(target, at, when)
            try:
                copied(source, crashing)
            except Crash:
                yield target, crashing
            else:
                return


def test_brought_forward(source, roots):
    """Wherever a later copy is cut off, it shows what it was or what it becomes, and is sound."""
    prepared = roots.new()
    copied(source, prepared)
    old = rows_of(prepared)
    go_on(source)
    new = rows_of(source)
    assert old != new
    assert Catalog(source).version - Catalog(prepared).version > 5
    left, shows = set(), []
    for target, crashing in _crashes(source, lambda: roots.copy(prepared)):
        mark = (crashing.done, crashing.partial)
        if mark in left:
            continue
        left.add(mark)
        now = rows_of(target)
        assert now in (old, new)
        shows.append(now == new)
        check_invariants(target, LEFT)
        assert not [row for row in opened(target).verify_all() if not row.ok]
        report = copied(source, target)
        require_end(source, target, report, shown(target))
        assert copied(source, target).copied == 0
    assert shows == sorted(shows)
    assert {False, True} == set(shows)
    assert len(shows) > 20


def test_cut_off_again_and_again(source, roots):
    """A copy that is cut off over and over, while the source goes on, ends all the same."""
    target = roots.new()
    for at in range(3, 60, 4):
        crashing = CrashingStorage(target, at % 17 + 2, When.AFTER)
        try:
            copied(source, crashing)
        except Crash:
            pass
        else:
            check_invariants(target, LEFT)
        if at % 3 == 0:
            go_on_a_little(source)
    report = copied(source, target)
    require_end(source, target, report, shown(target))


class _Killed:
    """Dies at the first operation of a kind on a key, before or after it."""

    def __init__(self, target, moment, kind, key):
        self._when = (moment, kind, key)
        self.storage = HookedStorage(target, self._look)

    def _look(self, *what):
        if what == self._when:
            raise Crash


def _copy_killed(source, target, *when):
    with pytest.raises(Crash):
        copied(source, _Killed(target, *when).storage)


def _vacuum(source, *names):
    """Take the source further, to where no version before is kept but tagged ones."""
    catalog = opened(source).catalog
    for name in names:
        catalog.create_result_table(**row(name))
    catalog.vacuum(0, dry_run=False)


def _copied_once(roots):
    """Return a source, its copy at version 1, and the source's catalog."""
    source, target = roots.new(), roots.new()
    catalog = opened(source).catalog
    catalog.create_result_table(**row("first"))
    copied(source, target)
    return source, target, catalog


def test_a_tag_below_many_retired_versions(roots):
    """However many versions are retired above it, what a kill has left is filled in."""
    source, target, catalog = _copied_once(roots)
    catalog.create_result_table(**row("second"))
    tagged = catalog.tag("paper")
    for number in range(40):
        catalog.create_result_table(**row(f"more{number}"))
    catalog.vacuum(0, dry_run=False)
    assert catalog.snapshot(tag="paper").version == tagged
    _copy_killed(source, target, "before", "replace", key_of(tagged))
    _vacuum(source, "last")
    assert copied(source, target).ok
    assert rows_of(target, tagged) == rows_of(source, tagged)
    assert target.read(key_of(tagged)) == source.read(key_of(tagged))
    check_invariants(target, LEFT)


def test_many_kills_over_one_another(roots):
    """However often a copy is killed before it fills in, the next call finds all that waits."""
    source, target, catalog = _copied_once(roots)
    for number in range(36):
        catalog.create_result_table(**row(f"more{number}"))
        if number:
            newest = key_of(catalog.version)
            _copy_killed(source, target, "after", "create", newest)
    assert copied(source, target).ok
    for version in range(1, catalog.version + 1):
        assert target.read(key_of(version)) == source.read(key_of(version))


@pytest.mark.parametrize("at", [2, 3, 4])
@pytest.mark.parametrize("begun", [False, True])
def test_killed_where_the_source_retires_all_that_is_known(begun, at, roots):
    """A mirror that was killed anywhere is no fork, whatever the source has retired since."""
    source, target = roots.new(), roots.new()
    catalog = opened(source).catalog
    root_format.ensure(source)
    if begun:
        catalog.create_result_table(**row("first"))
    copied(source, target)
    for number in range(4 - begun):
        catalog.create_result_table(**row(f"more{number}"))
    _copy_killed(source, target, "after", "create", key_of(at))
    _vacuum(source, "later", "last")
    assert source.size(key_of(at)) == 0
    report = copied(source, target)
    assert (report.ok, report.version) == (True, catalog.version)
    assert rows_of(target) == rows_of(source)
    check_invariants(target, LEFT)
    assert root_format.read(target).coming == ()


def test_killed_again_before_anything_is_filled_in(roots):
    """A second kill forgets nothing of what the first has shown."""
    source, target, catalog = _copied_once(roots)
    catalog.create_result_table(**row("shown"))
    _copy_killed(source, target, "after", "create", key_of(2))
    for name in ("a", "b", "c"):
        catalog.create_result_table(**row(name))
    _copy_killed(source, target, "after", "create", key_of(3))
    _vacuum(source, "later", "last")
    assert copied(source, target).ok
    assert rows_of(target) == rows_of(source)
    check_invariants(target, LEFT)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_fork_of_a_killed_copy(at, roots):
    """What was committed to a copy that was killed is never taken for the source's."""
    source, target, catalog = _copied_once(roots)
    for name in ("a", "b", "c"):
        catalog.create_result_table(**row(name))
    moment = "before" if at == 1 else "after"
    _copy_killed(source, target, moment, "create", key_of(max(at, 2)))
    Catalog(target).create_result_table(**row("mine"))
    _vacuum(source, "later", "last")
    before = contents(target)
    with pytest.raises(ConflictError, match="does not have"):
        copied(source, target)
    assert contents(target) == before


def go_on_a_little(source):
    store = opened(source)
    store.delete_table(build(store))
    build(store)


class Histories:
    """A source that does what sources do, and a copy that is killed again and again."""

    def __init__(self, seed, supply):
        self.random = random.Random(seed)
        self.source, self.target = supply.new(), supply.new()
        self.store = opened(self.source)
        self.numbers = itertools.count()

    def go_on(self, most):
        """Change the source up to so many times."""
        for _ in range(self.random.randint(0, most)):
            act = self.random.choice(
                [self.create] * 4 + [build] + [self.use_again] + [self.tag] * 2 + [self.vacuum] * 2
                + [self.delete, self.untag, self.compact]
            )  # fmt: skip
            act(self.store)

    def create(self, store):
        store.catalog.create_result_table(**row(f"row{next(self.numbers)}"))

    def use_again(self, store):
        if store.catalog.get_result_table("again") is not None:
            store.delete_table("again")
        store.catalog.create_result_table(**row("again"))
        write(store, "again")
        finalize(store, "again")

    def delete(self, store):
        names = sorted(store.catalog.scan(columns=["table_name"]).column(0).to_pylist())
        if names:
            store.delete_table(self.random.choice(names))

    def tag(self, store):
        store.catalog.tag(f"tag{next(self.numbers)}")

    def untag(self, store):
        for name in self.random.sample(sorted(store.catalog.tags()), k=len(store.catalog.tags()))[
            :1
        ]:
            store.catalog.untag(name)

    def vacuum(self, store):
        if store.catalog.version:
            keep = self.random.choice([1, 1, 3, 12])
            store.catalog.vacuum(0, keep_last=keep, dry_run=False)

    def compact(self, store):
        store.catalog.compact()

    def copy_killed(self):
        """Copy, to be killed at any operation."""
        crashing = CrashingStorage(self.target, self.random.randint(0, 40), When.AFTER)
        with contextlib.suppress(Crash):
            copied(self.source, crashing)

    def copy_beside(self):
        """Copy, while the source goes on once, at any change of the copy."""
        left = self.random.randint(0, 20)

        def hook(moment, kind, _key):
            nonlocal left
            left -= moment == "after" and kind in ("create", "replace", "publish")
            if left == 0:
                left = -1
                self.go_on(4)

        return copied(self.source, HookedStorage(self.target, hook))


@pytest.mark.parametrize("seed", range(4))
def test_histories(seed):
    """Whatever was killed and retired, after a copy that is fine no answer of the past differs."""
    supply = MemoryRoots()
    history = Histories(seed, supply)
    history.create(history.store)
    for _ in range(6):
        history.go_on(12)
        for _ in range(history.random.randint(0, 2)):
            history.copy_killed()
            history.go_on(6)
        assert history.copy_beside().ok
        assert copied(history.source, history.target).ok
        require_past(history.source, history.target)
    check_invariants(history.target, LEFT | {Kind.DEAD_BUILD})
    supply.close()


# --- killed


def _copy_until_told(source: str, target: str, pipe: Connection) -> None:
    """Copy, and stop before every object that is shown until the parent says to go on."""
    mutex = threading.Lock()  # a pipe is no thing for two threads at once

    def hook(moment: str, kind: str, key: str) -> None:
        if moment == "before" and kind in ("publish", "create", "replace"):
            with mutex:
                pipe.send(key)
                pipe.recv()

    here, there = LocalStorage(source, "os"), LocalStorage(target, "os")
    copy_root._THREADS = 2
    copy_root.copy_root(Pair(here, HookedStorage(there, hook), verify=True))
    pipe.send(None)


@pytest.mark.parametrize("steps", [1, 3, 7, 12])
def test_killed(steps, source, tmp_path):
    """A process that is killed in the middle of a copy leaves what the next one finishes."""
    target = LocalStorage(tmp_path / "target", "os")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(
        target=_copy_until_told, args=(source.root, target.root, theirs), daemon=True
    )
    child.start()
    theirs.close()
    try:
        for step in range(steps):
            assert ours.poll(LIMIT)
            assert ours.recv() is not None
            if step < steps - 1:
                ours.send("go on")
    finally:
        child.kill()
        child.join(LIMIT)
    before = contents(target)
    if before:
        with pytest.raises(StateError, match="unfinished") if steps > 1 else _nothing():
            Catalog(target)
    report = copied(source, target)
    assert report.resumed is (steps > 1)
    require_end(source, target, report, before)
    check_invariants(target, LEFT)


def _nothing():
    return contextlib.nullcontext()
