"""What is deleted of a result whose row is gone, while others use its name again."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid

import pytest
from support.faults import HookedStorage, UnlockedStorage
from support.invariants import check_invariants
from support.results import CONTRACT, DATA, TABLE, build, finalize, row, write
from support.roots import contents

from jammi_files import AlreadyExistsError, Match, StateError
from jammi_files.catalog import Catalog
from jammi_files.local import LocalStorage
from jammi_files.memory import MemoryStorage
from jammi_files.store import ResultStore


class Guarded(HookedStorage):
    """Knows whether its lock is held."""

    held = False

    @contextlib.contextmanager
    def lock(self):
        with super().lock() as was_abandoned:
            self.held = True
            try:
                yield was_abandoned
            finally:
                self.held = False


@pytest.fixture(params=["local", "memory"])
def base(request, root):
    if request.param == "local":
        return LocalStorage(root, "os")
    return MemoryStorage(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def far():
    """Return a root that has no lock between processes, as a bucket."""
    return MemoryStorage(f"memory://{uuid.uuid4().hex}")


def bucket(base, hook=lambda *_: None):
    return ResultStore(Catalog(UnlockedStorage(base, hook)))


def once(wanted, act):
    """Return a hook that acts before or after one operation, the first time only."""
    waiting = [wanted]

    def hook(*operation):
        if operation in waiting:
            waiting.clear()
            act()

    return hook


def test_a_row_that_came_back(base):
    """The objects of a deleted row stay if a row names them by the time they are to be deleted."""
    other = ResultStore(Catalog(base))
    name = build(other)
    record = other.catalog.get_result_table(name)
    locks = []

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock"):
            locks.append(kind)
            if len(locks) == 2:
                other.catalog.adopt_result_tables([record])

    ResultStore(Catalog(HookedStorage(base, hook))).delete_table(name)
    assert other.verify_materialization(name) == Match()
    check_invariants(base)


def test_no_row_comes_back_while_objects_are_deleted(base):
    """The writers' lock is held from the look at the newest rows to the last deletion."""
    deleted = []

    def hook(moment, kind, key):
        if (moment, kind) == ("before", "delete") and not key.startswith("_catalog/"):
            deleted.append(storage.held)

    storage = Guarded(base, hook)
    store = ResultStore(Catalog(storage))
    store.delete_table(build(store))
    assert deleted
    assert all(deleted)


def test_a_name_is_used_again_during_its_deletion(far):
    """Without a lock, an equal sidecar of an earlier build is refused: it may go yet."""
    other = bucket(far)
    make(other, "x")

    def act():
        other.catalog.create_result_table(**row("x"))
        write(other, "x")
        with pytest.raises(AlreadyExistsError, match="may be under deletion still"):
            finalize(other, "x")

    hook = once(("before", "delete", "x.materialization.json"), act)
    bucket(far, hook).delete_table("x")
    finalize(other, "x")
    assert other.verify_materialization("x") == Match()
    check_invariants(far)


@pytest.mark.parametrize("moment", [("before", "peek"), ("after", "peek")])
def test_what_a_later_build_writes_is_not_deleted(far, moment):
    """Without a lock, only what was there before the last look at the rows is deleted."""
    other, listed = bucket(far), []
    other.catalog.create_result_table(**row("x"))

    def hook(when, kind, key):
        if key == "x.manifest.json":
            listed.append(key)
        elif listed and (when, kind) == moment and other.catalog.get_result_table("x") is None:
            make(other, "x")

    bucket(far, hook).delete_table("x")
    assert listed
    assert other.verify_materialization("x") == Match()
    check_invariants(far)


def test_the_build_of_another_process_goes_on(base):
    """`B089`: a build that has lost its name to another one fails itself, not the other."""
    store, other = ResultStore(Catalog(base)), ResultStore(Catalog(base))
    with pytest.raises(StateError, match="taken over"), store.build(*TABLE, **CONTRACT) as out:  # noqa: PT012 - the block is the subject
        out.write(DATA)
        record = other.catalog.get_result_table(out.table_name)
        lease = dataclasses.replace(record.lease, owner="0" * 32, host="elsewhere")
        other.catalog.delete_result_table(out.table_name)
        theirs = dataclasses.replace(record, lease=lease)
        other.catalog.adopt_result_tables([theirs])
    assert other.catalog.get_result_table(out.table_name) == theirs
    assert f"{out.table_name}.parquet" in contents(base)


def make(store, name):
    store.catalog.create_result_table(**row(name))
    write(store, name)
    finalize(store, name)
