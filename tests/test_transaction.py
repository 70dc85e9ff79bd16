"""Many changes as one version: all of them or none, seen from inside and from outside."""

from __future__ import annotations

import threading

import pytest
from conftest import shrink_runs
from support.files import listing
from support.results import row, rows
from support.scopes import ACME

from jammi_files import AlreadyExistsError, Catalog, InputAnchor, InvalidInputError, StateError


def create(target, name, **also):
    return target.create_result_table(**row(name, **also))


def again(catalog):
    return Catalog.open(catalog.storage.root, durability="os")


def names(reads):
    return sorted(reads.scan(columns=["table_name"])[0].to_pylist())


def test_one_version(catalog):
    """Every change of the block is in one version, with one commit that names their operations."""
    create(catalog, "old")
    version = catalog.version
    with catalog.transaction() as tx:
        create(tx, "a")
        tx.create_result_tables(rows("b", "c"))
        tx.update_result_table_status("b", "failed", 0)
        tx.promote_result_table_with_manifest("a", 3, "h", [InputAnchor.mutable_version("d", 1)])
        tx.delete_result_table("old")
    assert catalog.version == version + 1
    assert names(again(catalog)) == ["a", "b", "c"]
    assert again(catalog).get_result_table("a").definition_hash == "h"
    (commit,) = catalog.history(limit=1)
    assert commit.tables == ("a", "b", "c", "old")
    assert set(commit.operation.split("+")) == {"create", "failed", "ready", "delete"}


def test_reads_its_own_changes(catalog):
    """Inside the block its changes are seen by every read; outside nothing is before the end."""
    create(catalog, "old")
    with catalog.transaction() as tx:
        create(tx, "new")
        tx.delete_result_table("old")
        assert [r.table_name for r in tx.find_result_tables("docs")] == ["new"]
        assert tx.get_result_table("old") is None
        assert [r.table_name for r in tx.list_result_tables_by_status("building")] == ["new"]
        assert names(tx) == ["new"]
        assert names(catalog) == names(again(catalog)) == ["old"]
    assert names(catalog) == ["new"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_exception_leaves_no_trace(catalog, root, error):
    """`B275`: whatever ends the block early, no version, row, segment or lock is left."""
    create(catalog, "t")
    before = listing(root)
    with pytest.raises(error), catalog.transaction() as tx:  # noqa: PT012 - the block is the subject
        create(tx, "u")
        tx.create_result_tables(rows(*(f"x{index}" for index in range(300))))
        tx.delete_result_table("t")
        raise error
    assert listing(root) == before
    create(catalog, "u")
    assert names(again(catalog)) == ["t", "u"]


def test_refused_change_is_undone_alone(catalog):
    """A change that is refused leaves nothing; the block may catch the error and go on."""
    create(catalog, "t")
    with catalog.transaction() as tx:
        create(tx, "u")
        with pytest.raises(AlreadyExistsError):
            tx.create_result_tables(rows("v", "t", "w"))
        with pytest.raises(InvalidInputError):
            create(tx, "")
        create(tx, "w")
    assert names(again(catalog)) == ["t", "u", "w"]


def test_nothing_is_no_version(catalog):
    """A block that changes nothing commits nothing."""
    create(catalog, "t")
    version = catalog.version
    with catalog.transaction() as tx:
        assert tx.get_result_table("t") is not None
        tx.delete_result_tables_for_source("nothing")
    assert catalog.version == version


def test_use_after_the_end(catalog):
    """After the block the object refuses every use, whether the block ended well or not."""
    with catalog.transaction() as tx:
        create(tx, "t")
    with pytest.raises(RuntimeError), catalog.transaction() as failed:
        raise RuntimeError
    for ended in (tx, failed):
        for use in (
            lambda tx: create(tx, "u"),
            lambda tx: tx.get_result_table("t"),
            lambda tx: tx.scan(),
        ):
            with pytest.raises(StateError, match="has ended"):
                use(ended)
    assert names(catalog) == ["t"]


@pytest.mark.parametrize(
    "use",
    [
        lambda catalog: create(catalog, "u"),
        lambda catalog: catalog.pinned_to_tenant(ACME).create_result_tables(rows("u")),
        lambda catalog: catalog.as_admin().transaction().__enter__(),
    ],
)
def test_nested_use(catalog, use):
    """The catalog's own writes inside the block are refused at once instead of waiting for ever."""
    with catalog.transaction() as tx:
        create(tx, "t")
        with pytest.raises(StateError, match="transaction"):
            use(catalog)
        create(tx, "v")
    assert names(catalog) == ["t", "v"]


def test_scope(catalog):
    """A transaction has the scope of the handle that began it."""
    create(catalog, "global")
    with catalog.pinned_to_tenant(ACME).transaction() as tx:
        assert create(tx, "own").tenant_id == ACME
        with pytest.raises(StateError):
            tx.delete_result_table("global")
    assert names(catalog) == ["global"]


def test_other_thread_waits(catalog):
    """A writer in another thread waits for the block and then commits after it."""
    started = threading.Event()

    def write():
        started.set()
        create(catalog, "other")

    thread = threading.Thread(target=write)
    with catalog.transaction() as tx:
        thread.start()
        started.wait()
        create(tx, "t")
        inside = tx.get_result_table("other")
    thread.join()
    assert inside is None
    assert [commit.tables for commit in catalog.history()] == [("t",), ("other",)]


@pytest.mark.parametrize("bulk", [3, 200], ids=["inline", "segment"])
def test_row_changed_many_times(catalog, bulk):
    """One draft may create, change, delete and create a row again; its last word counts."""
    batch = rows("x", *(f"b{index:03}" for index in range(bulk)))
    create(catalog, "x", dimensions=1)
    with catalog.transaction() as tx:
        tx.delete_result_table("x")
        tx.create_result_tables(batch)
        assert tx.get_result_table("x").dimensions is None
        tx.update_result_table_status("x", "building", 5)
        assert tx.get_result_table("x").row_count == 5
        tx.delete_result_table("b001")
    assert again(catalog).get_result_table("x").row_count == 5
    assert again(catalog).get_result_table("b001") is None
    assert again(catalog).scan().num_rows == bulk
    with catalog.transaction() as tx:
        tx.delete_result_tables_for_source("docs")
        tx.create_result_tables(batch)
        tx.delete_result_tables_for_source("docs")
        tx.create_result_tables(batch)
    assert again(catalog).scan().num_rows == bulk + 1


def test_many_changes_flush(catalog, monkeypatch):
    """A block of any size is one version, although it writes and merges segments."""
    shrink_runs(monkeypatch)
    version = catalog.version
    with catalog.transaction() as tx:
        for index in range(50):
            create(tx, f"t{index:02}")
        for index in range(0, 50, 2):
            tx.delete_result_table(f"t{index:02}")
    assert catalog.version == version + 1
    assert names(again(catalog)) == [f"t{index:02}" for index in range(1, 50, 2)]


def test_builds_go_on_if_the_transaction_does_not_end_them(catalog, root):
    """`B161`, `B275`: a build that an aborted block was to end keeps its side object."""
    create(catalog, "a")
    catalog.set_checkpoint("a", 4)
    with pytest.raises(RuntimeError), catalog.transaction() as tx:  # noqa: PT012 - the block is the subject
        tx.fail_result_table("a", "to be undone")
        raise RuntimeError
    assert [path.name for path in root.glob("_catalog/builds/*")] == ["a.json"]
    assert again(catalog).get_checkpoint("a") == 4


def test_ended_builds_are_forgotten(catalog, root):
    """`B161`: a build that a transaction ends leaves no side object, one it keeps does."""
    for name in ("a", "b"):
        create(catalog, name)
        catalog.set_checkpoint(name, 4)
    with catalog.transaction() as tx:
        assert tx.promote_result_table_with_manifest("a", 1, "h", []).checkpoint == 4
    assert [path.name for path in root.glob("_catalog/builds/*")] == ["b.json"]
