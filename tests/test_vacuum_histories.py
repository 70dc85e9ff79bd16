"""Any history, vacuumed at any time: nothing that a kept version reaches goes, all else does.

What is kept, and what that reaches, is worked out here a second time, from the rules in prose and
from what fresh handles read before each vacuum.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import NamedTuple
from unittest import mock

import fsspec
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.clocks import DAY, ClockedStorage
from support.invariants import check_invariants
from support.results import build, finalize, row, rows, write

from jammi_files import lease, manifest, numbering
from jammi_files.catalog import Catalog
from jammi_files.errors import AlreadyExistsError, JammiFilesError, VersionNotFoundError
from jammi_files.fsck import Kind
from jammi_files.log import key_of
from jammi_files.memory import MemoryStorage
from jammi_files.store import ResultStore

NAMES = ("a", "b", "c", "d")
TAGS = ("x", "y")
_names = st.sampled_from(NAMES)
_tags = st.sampled_from(TAGS)
_numbers = st.integers(0, 50)

STEPS = st.one_of(
    st.tuples(st.just("create"), st.none()),
    st.tuples(st.just("bulk"), st.sampled_from((2, 5))),
    st.tuples(st.just("publish"), _names),
    st.tuples(st.just("build"), st.none()),
    st.tuples(st.just("delete"), _numbers),
    st.tuples(st.just("forget"), _numbers),
    st.tuples(st.just("forget"), _numbers),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("tag"), st.tuples(_tags, st.integers(0, 40))),
    st.tuples(st.just("untag"), _tags),
    st.tuples(st.just("leave"), st.sampled_from(("tmp", "lease", "segment"))),
    st.tuples(st.just("sleep"), st.sampled_from((1, 3600, DAY, 9 * DAY))),
    st.tuples(
        st.just("vacuum"), st.tuples(st.sampled_from((0, 2, 7200, 7 * DAY)), st.integers(1, 4))
    ),
    st.tuples(
        st.just("vacuum"), st.tuples(st.sampled_from((0, 2, 7200, 7 * DAY)), st.integers(1, 4))
    ),
)


class Reached(NamedTuple):
    """What one version shows and needs."""

    rows: pa.Table
    segments: frozenset[str]
    results: frozenset[str]


class History:
    """One root, what was done to it, and when each version was made."""

    def __init__(self):
        self.inner = MemoryStorage(f"memory://{uuid.uuid4().hex}")
        self.storage = ClockedStorage(self.inner)
        self.store = ResultStore(Catalog(self.storage))
        self.floor, self.made_by_vacuum, self.made = 1, set(), 0

    def close(self):
        files, base = fsspec.url_to_fs(self.inner.root)
        if files.exists(base):
            files.rm(base, recursive=True)

    def step(self, kind, value):
        with contextlib.suppress(AlreadyExistsError, VersionNotFoundError):
            getattr(self, f"do_{kind.replace(' ', '_')}")(value)

    def new_names(self, number):
        self.made += number
        return [f"t{self.made - each}" for each in range(number)]

    def do_create(self, _):
        self.store.catalog.create_result_table(**row(*self.new_names(1)))

    def do_bulk(self, number):
        self.store.catalog.create_result_tables(rows(*self.new_names(number)))

    def do_publish(self, name):
        with contextlib.suppress(JammiFilesError):  # an orphan of that name is in the way
            self.store.catalog.create_result_table(**row(name))
            write(self.store, name)
            finalize(self.store, name)

    def do_build(self, _):
        build(self.store)

    def a_result(self, number):
        """Return one of the results that are there, the named ones as often as the others."""
        ready = self.store.catalog.list_result_tables_by_status("ready")
        return ready[number % len(ready)].table_name if ready else None

    def do_delete(self, number):
        """Delete a result with its objects."""
        if name := self.a_result(number):
            self.store.delete_table(name)

    def do_forget(self, number):
        """Delete the row of a result and leave its objects, as a crash would."""
        if name := self.a_result(number):
            self.store.catalog.delete_result_table(name)

    def do_compact(self, _):
        self.store.catalog.compact()

    def do_tag(self, value):
        self.store.catalog.tag(*value)

    def do_untag(self, name):
        self.store.catalog.untag(name)

    def do_leave(self, what):
        unique = uuid.uuid4().hex
        key = {
            "tmp": f"{NAMES[0]}.parquet.{unique[:8]}.tmp",
            "lease": lease.key_of(unique),
            "segment": f"_catalog/segments/{unique}.parquet",
        }[what]
        self.storage.replace(key, b"left behind")

    def do_sleep(self, seconds):
        self.storage.sleep(seconds)

    def do_vacuum(self, value):
        grace, keep_last = value
        newest = Catalog(self.storage).version
        if not newest:
            return
        kept = self.find_kept(newest, grace, keep_last)
        before = {number: self.reach(number) for number in kept}
        old = self.find_old(grace)
        report = self.store.catalog.vacuum(grace, keep_last=keep_last, dry_run=False)
        if report.version is not None:
            tagged = set(Catalog(self.storage).tags().values())
            assert report.floor <= min(kept - tagged | {newest})  # it may be a tagged version
            self.floor = report.floor
            self.made_by_vacuum.add(report.version)
        gone = {action.key for action in report.actions}
        self.check_kept(before, gone)
        self.check_gone(kept, before, old, gone)

    def find_kept(self, newest, grace, keep_last):
        """Say in the words of FORMAT which versions are kept."""
        last = max((v for v in range(1, newest + 1) if v not in self.made_by_vacuum), default=0)
        oldest = self.floor
        for version in range(self.floor, last - keep_last + 1):
            given_up = self.storage.written[key_of(version + 1)]
            passed = (self.storage.now - given_up).total_seconds()
            if passed < grace + (1 if grace else 0):
                break
            oldest = version + 1
        tagged = Catalog(self.storage).tags().values()
        return {*range(oldest, newest + 1), *tagged} - {0}

    def reach(self, version):
        fresh = Catalog(self.storage).as_admin()
        snapshot = fresh.snapshot(version)
        table = snapshot.scan().sort_by("table_name")
        header = snapshot._snapshot.header
        paths = frozenset(table.column("parquet_path").to_pylist())
        return Reached(table, frozenset(info.key for info in header.segments), paths)

    def find_old(self, grace):
        slack = grace + (1 if grace else 0)
        return {
            key
            for key, written in self.storage.written.items()
            if (self.storage.now - written).total_seconds() >= slack
            and self.inner.size(key) is not None
        }

    def check_kept(self, before, gone):
        """No object that a kept version reaches is among the deleted, and each reads as before."""
        for version, reached in before.items():
            assert key_of(version) not in gone
            assert not reached.segments & gone
            assert not reached.results & gone
            assert self.reach(version).rows == reached.rows

    def check_gone(self, kept, before, old, gone):
        """Whatever is old enough and reached by no kept version is gone."""
        everything = {key for key in self.storage.written if self.inner.size(key) is not None}
        newest = max(kept)
        segments = frozenset().union(*(each.segments for each in before.values()))
        results = frozenset().union(*(each.results for each in before.values()))
        for key in (old & everything) - gone:
            if "/segments/" in key:
                assert key in segments, key
            elif key.startswith("_catalog/manifest/"):
                number = int(key.rpartition("/")[2][:20])
                assert self.inner.size(key) == 0 or number in kept or number > newest, key
            elif key.endswith(".materialization.json"):
                assert key.replace(".materialization.json", ".parquet") in results, key
            elif key.endswith(".parquet"):
                alone = self.inner.size(key.replace(".parquet", ".materialization.json")) is None
                assert key in results or (alone and "__" not in key), key


@given(st.lists(STEPS, min_size=10, max_size=40))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
def test_histories(steps):
    """`trap 20`: no object reachable from a kept version is ever deleted; no other one is left."""
    with (
        mock.patch.multiple(manifest, INLINE_ROWS=3, FAN_OUT=2),
        mock.patch.object(numbering, "GROUP", 7),
        contextlib.closing(History()) as history,
    ):
        for kind, value in [("create", None), *steps]:
            history.step(kind, value)
        history.step("sleep", 1)
        history.step("vacuum", (0, 1))
        check_invariants(history.storage, EXPLAINED)


EXPLAINED = {Kind.DEAD_BUILD, Kind.ORPHAN_BUILD_STATE, Kind.ORPHAN_OBJECT, Kind.TEMPORARY_FILE}
