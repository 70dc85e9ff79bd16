"""Hooks: who is told of a change, of which, when, and what a hook can and cannot do to it."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import sys
import threading

import pytest
from support.buckets import Bucket
from support.results import CONTRACT, DATA, TABLE, build, row, rows
from support.scopes import ACME, BETA
from support.threads import begin

from jammi_files import (
    CommitEvent,
    FailedEvent,
    InvalidInputError,
    ReadyEvent,
    StateError,
    TableNotFoundError,
    connect,
    lease,
)

LIMIT = 120.0
"""Seconds to wait for another thread; it takes a few milliseconds."""


class Heard(list):
    """All that one handle's hooks are told, in order."""

    def __init__(self, handle):
        for subscribe in (handle.hooks.on_commit, handle.hooks.on_ready, handle.hooks.on_failed):
            subscribe(self.append)

    def commits(self):
        """Return operation and rows of each commit heard of."""
        return [(told.operation, told.rows) for told in self if isinstance(told, CommitEvent)]

    def ended(self):
        """Return the names of the results that became ready or failed."""
        return [told.table_name for told in self if not isinstance(told, CommitEvent)]


@pytest.fixture
def heard(store):
    """Return what the hooks of ``store`` are told."""
    return Heard(store)


def test_ready(store, heard):
    """A hook of ready results is told once of each, with the row as it stands."""
    name = build(store)
    [told] = [each for each in heard if isinstance(each, ReadyEvent)]
    assert told == ReadyEvent(
        root=store.root, version=store.catalog.version, record=store.catalog.get_result_table(name)
    )
    assert told.table_name == name
    assert heard.commits() == [("create", 1), ("ready", 1)]


def test_failed(store, heard):
    """A hook of failed results is told the text of the error."""

    def rows_of():
        yield DATA
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError), store.build(*TABLE, **CONTRACT) as out:
        out.write(rows_of())
    [told] = [each for each in heard if isinstance(each, FailedEvent)]
    assert (told.table_name, told.error) == (out.table_name, "ZeroDivisionError: by zero")
    assert told.record.status == "failed"
    assert heard.commits() == [("create", 1), ("failed", 1)]


def test_failed_without_a_word(catalog):
    """A row that is failed without an error has none."""
    told = []
    catalog.create_result_table(**row("a"))
    catalog.hooks.on_failed(told.append)
    catalog.update_result_table_status("a", "failed", 0)
    assert [each.error for each in told] == [None]


def test_it_is_durable_and_the_lock_is_free(store):
    """When a hook is called, others see the change and can commit, as the hook itself can."""
    other, seen = connect(store.root, durability="os"), []

    @store.hooks.on_ready
    def look(told):
        seen.append(other.catalog.get_result_table(told.table_name).status)
        seen.append(other.verify_materialization(told.table_name).verdict)
        begin(other.catalog.create_result_table, **row("by another")).result(LIMIT)
        begin(store.catalog.create_result_table, **row("by a thread")).result(LIMIT)
        store.catalog.create_result_table(**row("by the hook"))

    build(store)
    assert seen == ["ready", "match"]
    assert store.catalog.scan().num_rows == 4


def test_after_a_transaction(catalog):
    """A transaction is one commit to hooks too, told when it is over."""
    heard = Heard(catalog)
    catalog.hooks.on_commit(lambda _: catalog.tags())
    with catalog.transaction() as tx:
        for name in ("a", "b"):
            tx.create_result_table(**row(name))
        tx.update_result_table_status("a", "ready", 1)
        with pytest.raises(TableNotFoundError):
            tx.fail_result_table("c", "not there")
        assert heard == []
    assert heard.commits() == [("create+ready", 2)]
    assert heard.ended() == ["a"]
    with pytest.raises(TableNotFoundError), catalog.transaction() as tx:
        tx.create_result_table(**row("c", derived_from="nothing"))
    with catalog.transaction():
        pass
    assert len(heard.commits()) == 1


def test_every_operation(catalog, tmp_path):
    """Operations and numbers of rows are those of the change; what changes nothing is not told."""
    heard = Heard(catalog)
    catalog.create_result_tables(rows("a", "b"))
    catalog.create_result_tables(rows(*(f"many {n}" for n in range(300))))
    catalog.create_result_table(**row("a"), if_not_exists=True)
    catalog.create_result_tables(rows("a").slice(1))
    catalog.update_result_table_status("many 1", "ready", 1)
    with pytest.raises(StateError):
        catalog.update_result_table_status("many 1", "building", 1)
    catalog.update_result_table_status("a", "building", 1)
    catalog.delete_result_table("a")
    catalog.tag("kept")
    catalog.tag("kept", catalog.version - 1)
    catalog.untag("kept")
    version = catalog.vacuum(0, dry_run=False).version
    record = catalog.get_result_table("b")
    other = connect(tmp_path / "other", durability="os").catalog
    told_there = Heard(other)
    other.adopt_result_tables([record, catalog.get_result_table("many 1")])
    assert heard.commits() == [
        ("create", 2),
        ("create", 300),
        ("ready", 1),
        ("update", 1),
        ("delete", 1),
        ("tag", 0),
        ("untag", 0),
        ("vacuum", 0),
    ]
    assert heard[-1].version == version
    assert told_there.commits() == [("import", 2)]
    assert told_there.ended() == ["many 1"]


def test_a_hook_that_raises(store, heard, caplog):
    """What a hook raises is logged; the change stands, and the other hooks are called."""
    heard.clear()

    def broken(_):
        raise ZeroDivisionError("by a hook")

    store.hooks.on_commit(broken)
    later = Heard(store)
    name = build(store)
    assert store.verify_materialization(name).ok
    assert heard == later
    assert heard.commits() == [("create", 1), ("ready", 1)]
    records = [each for each in caplog.records if each.name == "jammi_files"]
    assert [(each.levelname, each.event) for each in records] == [("ERROR", "hook_failed")] * 2
    assert "by a hook" in caplog.text
    assert "broken" in records[0].hook


def test_an_interrupt_in_a_hook(store):
    """An interrupt goes on to the caller, and undoes nothing."""

    def interrupted(_):
        raise KeyboardInterrupt

    store.hooks.on_ready(interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(store)
    [record] = store.catalog.find_result_tables("docs")
    assert store.verify_materialization(record.table_name).ok
    store.catalog.create_result_table(**row("after"))


def test_removed(store, heard):
    """A hook that is removed is called no more; another scope's is another one."""
    with pytest.raises(InvalidInputError, match="no hook of this scope"):
        store.as_admin().hooks.remove(heard.append)
    store.hooks.remove(heard.append)
    build(store)
    assert heard == []
    with pytest.raises(InvalidInputError, match="no hook of this scope"):
        store.hooks.remove(heard.append)


def test_what_cannot_be_called(store):
    """A hook that is none is refused at once."""
    for subscribe in (store.hooks.on_commit, store.hooks.on_ready, store.hooks.on_failed):
        with pytest.raises(InvalidInputError, match="a hook must be callable"):
            subscribe("print")


def test_a_decorator_leaves_the_function(store):
    """Subscribing returns the function as it was."""

    def hook(told):
        return told

    assert store.hooks.on_commit(hook) is hook
    assert store.hooks.on_ready(hook) is hook
    assert store.hooks.on_failed(hook) is hook


# --- scopes


def test_a_scope_hears_what_it_sees(store):
    """Each handle's hooks hear of the rows that it sees, whichever handle changed them, once."""
    acme, beta = store.pinned_to_tenant(ACME), store.pinned_to_tenant(BETA)
    handles = {"unbound": store, "acme": acme, "beta": beta, "admin": store.as_admin()}
    heard = {who: Heard(handle) for who, handle in handles.items()}
    made = {"global": build(store), "acme": build(acme), "beta": build(beta)}
    assert {who: told.ended() for who, told in heard.items()} == {
        "unbound": [made["global"]],
        "acme": [made["global"], made["acme"]],
        "beta": [made["global"], made["beta"]],
        "admin": [made["global"], made["acme"], made["beta"]],
    }
    assert [len(told.commits()) for told in heard.values()] == [2, 4, 4, 6]


def test_a_mixed_commit(store):
    """Of a commit that changes rows of several owners a tenant hears its own part alone."""
    store.pinned_to_tenant(ACME).catalog.create_result_table(**row("of acme"))
    store.pinned_to_tenant(BETA).catalog.create_result_table(**row("of beta"))
    heard, unbound = Heard(store.pinned_to_tenant(ACME)), Heard(store)
    with store.as_admin().catalog.transaction() as tx:
        tx.fail_result_table("of beta", "secret")
        tx.update_result_table_status("of acme", "ready", 1)
    assert heard.commits() == [("ready", 1)]
    assert heard.ended() == ["of acme"]
    assert unbound == []
    bulk = Heard(store.pinned_to_tenant(ACME))
    beta = store.pinned_to_tenant(BETA).catalog
    beta.create_result_tables(rows(*(f"many {n}" for n in range(300))))
    assert bulk == []


def test_threads_that_share_a_version(store):
    """Of a version that several tenants' threads share each hears its own change, once."""
    store.catalog.create_result_table(**row("first"))
    tenants = [f"{n:08d}-0000-4000-8000-000000000000" for n in range(1, 9)]
    handles = [store.pinned_to_tenant(tenant).catalog for tenant in tenants]
    heard = [Heard(handle) for handle in handles]
    queue, waiting = store.catalog.log._queue, len(handles)
    with store.catalog.log.writing():  # all of them wait for the lock meanwhile
        running = [
            begin(handle.create_result_table, **row(f"t{n}")) for n, handle in enumerate(handles)
        ]
        arrived = threading.Event()
        for _ in range(int(LIMIT / 0.01)):
            if len(queue._waiting) == waiting:
                break
            arrived.wait(0.01)
    for each in running:
        each.result(LIMIT)
    assert len({told[0].version for told in heard}) < waiting
    for n, told in enumerate(heard):
        assert told.commits() == [("create", 1)], n


def test_recovery_tells_the_owner(store, monkeypatch):
    """Who recovers ends the builds of all tenants; the hooks of each owner hear of its own."""
    acme, beta = store.pinned_to_tenant(ACME), store.pinned_to_tenant(BETA)
    with monkeypatch.context() as patched:
        patched.setattr(lease, "find_build_death", lambda *_: "its process is gone")
        acme.catalog.create_result_table(**row("lost"))
        heard = {who: Heard(handle) for who, handle in {"acme": acme, "beta": beta}.items()}
        report = beta.recover()
    assert [step.table_name for step in report.actions] == []
    assert heard["acme"].ended() == ["lost"]
    assert heard["beta"] == []


# --- processes and machines


def test_a_lost_race_is_told_once(s3_server):
    """A change that was applied again on a winner's rows is told once, with its attempts."""
    bucket = Bucket(s3_server)
    heard = Heard(bucket.store)
    bucket.connect().catalog.create_result_table(**row("winner"))
    bucket.catalog.create_result_table(**row("loser"))
    assert [(told.version, told.attempts) for told in heard] == [(3, 2)]


def test_a_pickled_handle_has_no_hooks(store, heard):
    """Hooks stay in the process: a handle that was pickled has none, whatever they are."""
    store.hooks.on_ready(lambda _: None)  # which could not be pickled
    twin = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own
    build(twin)
    assert heard == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_hooks(store, heard):
    """A forked child tells its own copies of the hooks, and not its parent's."""
    gc.collect()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            build(store)
            os.write(writer, repr(heard.commits()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        told = answer.read()
    os.waitpid(child, 0)
    assert told == b"[('create', 1), ('ready', 1)]"
    assert heard == []


def test_nobody_is_told_nothing(store, monkeypatch):
    """Without hooks, listeners at INFO and OpenTelemetry, a change goes straight to the log."""
    given = []

    class Recording:
        def commit(self, change):
            given.append(change)

    def change(_):
        pass

    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    assert not logging.getLogger("jammi_files").isEnabledFor(logging.INFO)
    observers = store.catalog._observers
    observers.commit(Recording(), change, store.catalog.scope)
    assert given == [change]
