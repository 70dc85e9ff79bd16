"""A vacuum killed at every storage operation: nothing live is lost, and the next one finishes."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.faults import Crash, CrashingStorage, When
from support.invariants import CRASH_POINTS, check_invariants
from support.results import build, finalize, row, write
from support.roots import LocalRoots, MemoryRoots, contents

from jammi_files import lease
from jammi_files.catalog import Catalog
from jammi_files.fsck import Kind
from jammi_files.store import ResultStore


@pytest.fixture(params=["local", "memory"])
def roots(request, tmp_path):
    (tmp_path / "roots").mkdir()
    supply = LocalRoots(tmp_path / "roots") if request.param == "local" else MemoryRoots()
    yield supply
    supply.close()


def _prepare(storage):
    """Leave something of every kind that vacuum removes, and something live beside it."""
    store = ResultStore(Catalog(storage))
    catalog = store.catalog
    for number in range(7):
        catalog.create_result_table(**row(f"t{number}"))
    catalog.tag("a", 3)
    build(store)
    catalog.create_result_table(**row("mine"))
    write(store, "mine")
    finalize(store, "mine")
    catalog.delete_result_table("mine")
    storage.create("mine.usearch", b"index")
    catalog.compact()
    storage.create(lease.key_of("over"), b"{}")
    storage.create("over.parquet.0123abcd.tmp", b"half")
    storage.create("somebody's.txt", b"foreign")


def _vacuum(storage):
    with ThreadPoolExecutor(1) as executor:
        return Catalog(storage).vacuum(0, dry_run=False, executor=executor)


def _left(storage):
    """Return what a root holds, but for versions and segments, whose names and bytes differ."""
    return {key for key in contents(storage) if key.count("/") < 2 and key != "_catalog/lock"}


def _rows(storage, **which):
    return Catalog(storage).snapshot(**which).scan().sort_by("table_name")


@pytest.mark.usefixtures("small_runs")
def test_killed_vacuum(roots):
    """`trap 2`, `trap 20`: wherever it stopped kept versions answer; the next one ends clean."""
    prepared = roots.new()
    _prepare(prepared)
    undisturbed = roots.copy(prepared)
    report = _vacuum(undisturbed)
    assert {str(action.kind) for action in report.actions} == {
        *("version", "segment", "index", "data", "sidecar", "build_state", "temporary_file")
    }
    whens = list(When) if isinstance(roots, LocalRoots) else [When.BEFORE, When.AFTER]
    newest = Catalog(prepared).version
    stopped = 0
    for at, when in ((at, when) for at in itertools.count() for when in whens):
        storage = roots.copy(prepared)
        try:
            _vacuum(CrashingStorage(storage, at, when))
        except Crash:
            stopped += 1
        else:
            break
        check_invariants(storage, CRASH_POINTS)
        assert _rows(storage) == _rows(prepared)
        _vacuum(storage)
        for which in ({}, {"tag": "a"}, {"version": newest}):
            assert _rows(storage, **which) == _rows(prepared, **which)
        clocks = {key for key in _left(storage) if key.startswith("_catalog/vacuum.")}
        assert _left(storage) - clocks == _left(undisturbed)
        check_invariants(storage, {Kind.DEAD_BUILD} | ({Kind.TEMPORARY_FILE} if clocks else set()))
    assert stopped > 20
