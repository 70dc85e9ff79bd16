"""Repair of random damage to random roots: what is intact survives, and nothing is left to mend."""

from __future__ import annotations

import random

import pytest
from support.results import build, row, rows
from support.roots import MemoryRoots, contents

from jammi_files import lease, repair
from jammi_files.catalog import Catalog
from jammi_files.errors import FormatError, StorageError
from jammi_files.fsck import Kind, Remedy, Severity, fsck
from jammi_files.store import ResultStore

SEEDS = 5
PLACES = {
    "manifests": lambda key: "/manifest/" in key,
    "segments": lambda key: "/segments/" in key,
    "catalog": lambda key: key.startswith("_catalog/"),
    "results": lambda key: not key.startswith("_catalog/"),
    "everything": lambda _: True,
}


@pytest.fixture
def roots():
    supply = MemoryRoots()
    yield supply
    supply.close()


def history(rng, storage):
    """Do what users do, in any order; return the store."""
    store = ResultStore(Catalog(storage))
    catalog = store.catalog
    for number in range(rng.randint(5, 25)):
        names = sorted(catalog.scan(columns=["table_name"]).column(0).to_pylist())
        building = catalog.list_result_tables_by_status("building")
        what = rng.choice(["build", "build", "row", "rows", "delete", "tag", "untag", "vacuum"])
        if what == "build":
            build(store)
        elif what == "row":
            catalog.create_result_table(**row(f"t{number}"))
        elif what == "rows":
            many = rng.randint(3, 9)
            catalog.create_result_tables(rows(*(f"t{number}_{each}" for each in range(many))))
        elif what == "delete" and names:
            store.delete_table(rng.choice(names))
        elif what == "tag" and catalog.version:
            catalog.tag(f"tag{number}")
        elif what == "untag" and catalog.tags():
            catalog.untag(rng.choice(sorted(catalog.tags())))
        elif what == "vacuum":
            catalog.vacuum(0, keep_last=rng.choice([1, 3, 8]), dry_run=False)
        elif building:
            catalog.fail_result_table(rng.choice(building).table_name, "no")
    return store


def harm(rng, storage, place):
    """Damage a few objects of a place; return their keys.

    Manifests are not flipped: a checksum covers their rows, but not the header.
    """
    keys = sorted(key for key in contents(storage) if PLACES[place](key))
    chosen = rng.sample(keys, min(len(keys), rng.randint(1, 3)))
    for key in chosen:
        data = storage.read(key)
        how = rng.choice(["delete", "truncate", "empty", "flip"])
        if how == "delete":
            storage.delete(key)
        elif how == "empty":
            storage.replace(key, b"")
        elif how == "truncate" or "/manifest/" in key:
            storage.replace(key, data[: rng.randrange(max(1, len(data)))])
        elif data:
            at = rng.randrange(len(data))
            flipped = data[at] ^ (1 << rng.randrange(8))
            storage.replace(key, data[:at] + bytes([flipped]) + data[at + 1 :])
    return chosen


def errors(storage):
    found = fsck(Catalog(storage).as_admin(), deep=True)
    return [finding for finding in found if finding.severity is Severity.ERROR]


def mend(storage):
    return repair(storage, dry_run=False, accept_loss=True, owner="global")


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_damage(seed, place, roots, monkeypatch):
    """No damage is too odd to repair, twice is as once, and whatever is intact stays ready."""
    rng = random.Random(f"{place} {seed}")
    storage = roots.new()
    store = history(rng, storage)
    assert errors(storage) == []
    ready = {each.table_name for each in store.catalog.list_result_tables_by_status("ready")}
    before = contents(storage)
    touched = harm(rng, storage, place)
    damaged = contents(storage)
    monkeypatch.setattr(lease, "find_death", lambda *_: "gone")
    try:
        report = mend(storage)
    except StorageError:  # neither a catalog nor a result is left
        assert not [key for key in damaged if "/manifest/" in key or "/" not in key]
        return
    for finding in report.remaining:
        if finding.severity is Severity.ERROR:
            assert finding.remedy is not Remedy.REPAIR
            assert any(key.startswith(finding.subject) for key in touched)
    again = mend(storage)
    assert [each for each in again.actions if each.step != "leave"] == []
    assert again.version is None
    catalog = Catalog(storage).as_admin()
    for name in ready:
        keys = (f"{name}.parquet", f"{name}.materialization.json")
        if all(damaged.get(key) == before[key] for key in keys):
            assert catalog.get_result_table(name).is_ready
            assert ResultStore(catalog).verify_materialization(name).ok
    _vacuum(catalog, report)


def _vacuum(catalog, report):
    """Vacuum runs, unless a version that it keeps is damaged: then it names that, as fsck did."""
    catalog.create_result_table(**row("later"))
    catalog.delete_result_table("later")
    try:
        catalog.vacuum(0, dry_run=False)
    except FormatError as error:
        kinds = {Kind.MISSING_VERSION, Kind.DAMAGED_MANIFEST, Kind.DAMAGED_SEGMENT}
        assert any(finding.kind in kinds for finding in report.remaining)
        keeps_what_is_gone = "is missing or empty" in str(error)
        assert not (report.version and keeps_what_is_gone)  # a fall-back keeps no such version
