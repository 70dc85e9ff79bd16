"""One root through its handles: scopes, versions, history, changes, compaction, pickling."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import pickle
import subprocess
import sys
import uuid

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import shrink_runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.results import row, rows
from support.scopes import ACME, BETA, HANDLES, OWNED, OWNERS, SEEN

from jammi_files import (
    Catalog,
    InputAnchor,
    InvalidInputError,
    JammiFilesError,
    VersionNotFoundError,
    connect,
)
from jammi_files.schema import SCHEMA

DOCS = InputAnchor.mutable_version("docs", 1)


def create(catalog, name, **also):
    return catalog.create_result_table(**row(name, **also))


def make_ready(catalog, name, **also):
    create(catalog, name, **also)
    return catalog.promote_result_table_with_manifest(name, 1, "hash", [DOCS])


def again(catalog):
    return Catalog.open(catalog.storage.root, durability="os")


def names(reads):
    return sorted(reads.scan(columns=["table_name"])[0].to_pylist())


# --- scopes


@pytest.fixture(params=["inline", "segments"])
def shared(request, catalog, monkeypatch):
    """Return a catalog in which each tenant has a building and a ready row of one source."""
    if request.param == "segments":
        shrink_runs(monkeypatch)
    for who, tenant in OWNERS.items():
        handle = catalog.pinned_to_tenant(tenant)
        make_ready(handle, f"ready {who}", task="text_embedding")
        create(handle, f"building {who}")
    return catalog


def owners_in(answer):
    """Reduce names to whose rows they are."""
    found = answer if isinstance(answer, list) else [answer]
    texts = [item if isinstance(item, str) else item.table_name for item in found]
    return {text.rpartition(" ")[2] for text in texts}


READS = {
    "list ready": lambda h: h.list_result_tables_by_status("ready"),
    "list building": lambda h: h.list_result_tables_by_status("building"),
    "find": lambda h: h.find_result_tables("docs"),
    "by definition": lambda h: h.find_ready_result_tables_by_definition("hash"),
    "anchored on": lambda h: h.find_ready_result_tables_anchored_on("docs"),
    "scan": names,
    "scan by tenant": lambda h: h.scan(pc.field("row_count") >= 0)["table_name"].to_pylist(),
    "capsule": lambda h: pa.table(h)["table_name"].to_pylist(),
    "snapshot": lambda h: names(h.snapshot()),
    "old snapshot": lambda h: names(h.snapshot(h.version)),
    "as of": lambda h: names(h.snapshot(as_of=dt.datetime.now(dt.UTC))),
    "changes": lambda h: h.changes(0)["table_name"].to_pylist(),
    "history": lambda h: [name for commit in h.history() for name in commit.tables],
}


@pytest.mark.parametrize("handle", HANDLES)
@pytest.mark.parametrize("read", READS)
def test_reads_are_scoped(shared, handle, read):
    """`B093`, `B095`, `B099`, `B104`, `B166`, `B174`: every read shows what its handle may see."""
    for opened in (shared, again(shared)):
        assert owners_in(READS[read](HANDLES[handle](opened))) == SEEN[handle]


@pytest.mark.parametrize("handle", HANDLES)
@pytest.mark.parametrize("owner", OWNERS)
def test_single_rows_are_scoped(shared, handle, owner):
    """`B093`, `B161`, `B166`: one row is got, resolved and asked for its checkpoint by scope."""
    opened, seen = HANDLES[handle](shared), owner in SEEN[handle]
    shared.as_admin().set_checkpoint(f"building {owner}", 5)
    assert (opened.get_result_table(f"ready {owner}") is not None) is seen
    assert (opened.snapshot().get_result_table(f"ready {owner}") is not None) is seen
    assert opened.get_checkpoint(f"building {owner}") == (5 if seen else None)
    with opened.transaction() as tx:
        assert (tx.get_result_table(f"ready {owner}") is not None) is seen
    try:
        assert opened.resolve_embedding_table("docs", f"ready {owner}").is_ready is seen
    except JammiFilesError as error:
        assert not seen, error  # noqa: PT017 - both outcomes are in the table


WRITES = {
    "update": (SEEN, lambda h, who: h.update_result_table_status(f"building {who}", "failed", 0)),
    "fail": (SEEN, lambda h, who: h.fail_result_table(f"building {who}", "why")),
    "fail ready": (SEEN, lambda h, who: h.update_result_table_status(f"ready {who}", "failed", 0)),
    "promote": (
        SEEN,
        lambda h, who: h.promote_result_table_with_manifest(f"building {who}", 1, "h", []),
    ),
    "checkpoint": (SEEN, lambda h, who: h.set_checkpoint(f"building {who}", 1)),
    "derive": (SEEN, lambda h, who: create(h, "new", derived_from=f"ready {who}")),
    "derive in bulk": (
        SEEN,
        lambda h, who: h.create_result_tables(rows("new", derived_from=f"ready {who}")),
    ),
    "delete": (OWNED, lambda h, who: h.delete_result_table(f"ready {who}")),
    "plan delete": (OWNED, lambda h, who: h.plan_delete(f"ready {who}")),
}


@pytest.mark.parametrize("handle", HANDLES)
@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("inside", ["catalog", "transaction"])
def test_writes_are_scoped(catalog, handle, owner, write, inside):
    """`B069`, `B077`, `B144`, `B162`: every write obeys the truth table, a refused one is none."""
    for who, tenant in OWNERS.items():
        make_ready(catalog.pinned_to_tenant(tenant), f"ready {who}")
        create(catalog.pinned_to_tenant(tenant), f"building {who}")
    allowed, call = WRITES[write]
    opened, version = HANDLES[handle](catalog), catalog.version
    try:
        if inside == "catalog" or write in ("checkpoint", "plan delete"):
            call(opened, owner)
        else:
            with opened.transaction() as tx:
                call(tx, owner)
    except JammiFilesError:
        assert owner not in allowed[handle]
        assert catalog.version == version
    else:
        assert owner in allowed[handle]


@pytest.mark.parametrize("handle", HANDLES)
def test_delete_source_is_scoped(shared, handle):
    """`B144`, `B145`: deleting a source takes exactly the handle's own rows."""
    gone = HANDLES[handle](shared).delete_result_tables_for_source("docs")
    assert owners_in(gone) == OWNED[handle]
    assert owners_in(names(shared.as_admin())) == OWNERS.keys() - OWNED[handle]


def test_handles_do_not_touch_each_other(catalog):
    """`B170` to `B172`: a scoped handle changes no other, and sees what the others write."""
    acme = catalog.pinned_to_tenant(ACME.upper())
    admin = acme.as_admin()
    assert (catalog.tenant, acme.tenant, admin.tenant) == (None, ACME, ACME)
    assert (acme.scope.admin, admin.scope.admin) == (False, True)
    assert not admin.pinned_to_tenant(BETA).scope.admin
    assert not admin.pinned_to_tenant(None).scope.admin
    create(acme, "t")
    assert (names(catalog), names(acme), names(admin)) == ([], ["t"], ["t"])
    assert catalog.version == acme.version == 1


@pytest.mark.parametrize("bad", ["acme", "", "00000000-0000-0000-0000-000000000000", 7])
def test_bad_tenants(catalog, root, bad):
    """`B021`, `B022`: a bad tenant is refused when the handle is made, before anything is there."""
    with pytest.raises(InvalidInputError, match="tenant id"):
        catalog.pinned_to_tenant(bad)
    with pytest.raises(InvalidInputError, match="tenant id"):
        connect(root, tenant=bad)
    assert not root.exists()


def test_tenant_of_connect(root):
    """`B020`, `B171`: a store may be bound from the start, by text or by UUID."""
    for tenant in (ACME, ACME.upper(), uuid.UUID(ACME)):
        assert connect(root, tenant=tenant).catalog.tenant == ACME
    assert "aaaaaaaa" in repr(connect(root, tenant=ACME))


# --- versions


def test_versions(catalog):
    """`B281`: a snapshot keeps its rows while others commit, flush and merge."""
    pinned = []
    for index in range(40):
        pinned.append((catalog.snapshot(), names(catalog)))
        create(catalog, f"t{index}")
        if index % 3 == 0:
            catalog.delete_result_table(f"t{index}")
    for snapshot, expected in pinned:
        assert names(snapshot) == expected
        assert names(again(catalog).snapshot(snapshot.version)) == expected


@pytest.mark.usefixtures("small_runs")
def test_versions_in_segments(catalog):
    """`B281`: every old version can be read, however its rows were merged since."""
    test_versions(catalog)


def test_snapshot_of_the_beginning(catalog):
    """Version 0 is the empty catalog."""
    assert catalog.snapshot().version == 0
    assert catalog.snapshot().committed_at is None
    create(catalog, "t")
    assert names(catalog.snapshot(0)) == []
    assert catalog.snapshot(1).get_result_table("t") is not None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"version": 2}, VersionNotFoundError),
        ({"version": 2**63 - 1}, VersionNotFoundError),
        ({"version": -1}, InvalidInputError),
        ({"version": True}, InvalidInputError),
        ({"version": "1"}, InvalidInputError),
        ({"version": 1, "as_of": "2026-01-01T00:00:00Z"}, InvalidInputError),
        ({"as_of": "yesterday"}, InvalidInputError),
        ({"as_of": dt.datetime(2026, 1, 1)}, InvalidInputError),  # noqa: DTZ001 - naive on purpose
        ({"as_of": 5}, InvalidInputError),
    ],
)
def test_snapshot_refuses(catalog, arguments, error):
    """A version that is not there and an instant that is none are typed errors."""
    create(catalog, "t")
    with pytest.raises(error):
        catalog.snapshot(**arguments)


def test_as_of(catalog):
    """An instant means the newest version committed at or before it."""
    committed = []
    for index in range(5):
        create(catalog, f"t{index}")
        committed.append(catalog.snapshot().committed_at)
    for opened in (catalog, again(catalog)):
        for number, instant in enumerate(committed, start=1):
            assert opened.snapshot(as_of=instant).version == number
    before = dt.datetime.fromisoformat(committed[0]) - dt.timedelta(days=1)
    assert catalog.snapshot(as_of=before).version == 0
    assert catalog.snapshot(as_of="2200-01-01T00:00:00Z").version == 5


def test_stale_reads_are_asked_for(root, catalog):
    """``max_staleness`` lets a handle miss others' commits for a while, never its own."""
    lazy = Catalog.open(root, max_staleness=3600, durability="os")
    assert lazy.version == 0
    create(catalog, "t")
    assert lazy.version == 0
    assert again(catalog).version == 1
    create(lazy, "u")
    assert names(lazy) == ["t", "u"]


@pytest.mark.parametrize("bad", [-1, float("nan"), True, "soon", None])
def test_bad_staleness(root, bad):
    """A staleness that is no number of seconds is refused."""
    with pytest.raises(InvalidInputError, match="max_staleness"):
        Catalog.open(root, max_staleness=bad)


# --- history


@pytest.mark.usefixtures("small_runs")
def test_history(catalog):
    """History tells each commit with what it did to which rows, oldest first."""
    create(catalog, "a")
    catalog.promote_result_table_with_manifest("a", 1, "h", [])
    catalog.create_result_tables(rows(*(f"b{index}" for index in range(10))))
    catalog.update_result_table_status("b3", "failed", 0)
    catalog.delete_result_table("a")
    expected = [
        ("create", ("a",)),
        ("ready", ("a",)),
        ("create", tuple(f"b{index}" for index in range(10))),
        ("failed", ("b3",)),
        ("delete", ("a",)),
    ]
    for opened in (catalog, again(catalog)):
        history = opened.history()
        assert [(commit.operation, commit.tables) for commit in history] == expected
        assert [commit.version for commit in history] == [1, 2, 3, 4, 5]
        assert len({commit.commit_id for commit in history}) == 5
        instants = [commit.committed_at for commit in history]
        assert instants == sorted(instants)
        assert all(":" in commit.writer for commit in history)
        assert opened.history(limit=2) == history[-2:]
        assert opened.history(limit=0) == []


@pytest.mark.usefixtures("small_runs")
def test_history_of_a_large_delete(catalog):
    """A commit that deletes many rows names them, although their tombstones are merged away."""
    everything = tuple(f"b{index}" for index in range(9))
    catalog.create_result_tables(rows(*everything))
    catalog.delete_result_tables_for_source("docs")
    assert [(c.operation, c.tables) for c in catalog.history()] == [
        ("create", everything),
        ("delete", everything),
    ]


def test_history_hides_strangers(catalog):
    """`B174`: a commit that touched only others' rows is in admin's history alone."""
    create(catalog.pinned_to_tenant(BETA), "hidden")
    with catalog.as_admin().transaction() as tx:
        tx.update_result_table_status("hidden", "failed", 0)
        create(tx, "t")
    assert [commit.tables for commit in catalog.history()] == [("t",)]
    assert [len(commit.tables) for commit in catalog.as_admin().history()] == [1, 2]
    assert catalog.history(limit=1) == catalog.history()


@pytest.mark.parametrize("order", [1, -1])
def test_history_of_a_shared_commit(catalog, order):
    """Of a commit that several tenants share each is told what was done to its own rows."""
    acme, beta = map(catalog.pinned_to_tenant, (ACME, BETA))
    create(beta, "known")
    known = beta.promote_result_table_with_manifest("known", 1, "h", [])
    building = create(beta, "building")
    imported = dataclasses.replace(known, table_name="imported")

    def commit(*changes):
        with acme.as_admin().transaction() as tx:
            for change in changes[::order]:
                change(tx)
        return [each.history()[-1].operation for each in (acme, beta)]

    def adopt(record, tenant, name):
        record = dataclasses.replace(record, table_name=name, tenant_id=tenant)
        return lambda tx: tx.adopt_result_tables([record])

    made = lambda name: lambda tx: create(tx, name)  # noqa: E731
    assert commit(made("a"), adopt(imported, BETA, "b")) == ["create", "import"]
    mixed = commit(adopt(imported, ACME, "c"), adopt(building, BETA, "d"), made("e"))
    assert mixed == ["+".join(["import", "create"][::order]), "create"]
    ends = lambda tx: tx.update_result_table_status("a", "failed", 0)  # noqa: E731
    assert commit(ends, adopt(building, BETA, "f")) == ["failed", "import"]


def test_merges_are_housekeeping(catalog, monkeypatch):
    """A merge after the commit is a version of its own that changes no row; only admin sees it."""
    shrink_runs(monkeypatch, merge_in_commit_rows=0)
    for index in range(30):
        create(catalog, f"t{index}")
    admin = catalog.as_admin().history()
    assert {"create", "merge"} == {commit.operation for commit in admin}
    assert all(not commit.tables for commit in admin if commit.operation == "merge")
    assert len(catalog.history()) == 30
    assert names(again(catalog)) == sorted(f"t{index}" for index in range(30))


# --- changes


def test_changes(catalog):
    """Changes are net: the new row of an insert or update, the last one of a delete."""
    create(catalog, "kept")
    create(catalog, "updated")
    gone = create(catalog, "gone", dimensions=7)
    since = catalog.version
    catalog.update_result_table_status("updated", "building", 1)
    catalog.update_result_table_status("updated", "failed", 2)
    create(catalog, "new")
    create(catalog, "passing")
    catalog.delete_result_table("passing")
    catalog.update_result_table_status("gone", "building", 9)
    catalog.delete_result_table("gone")
    table = catalog.changes(since)
    assert table.column_names == ["change_type", "version", *SCHEMA.names]
    found = {
        r["table_name"]: r for r in table.drop_columns(["created_at", "completed_at"]).to_pylist()
    }
    assert {n: (r["change_type"], r["version"]) for n, r in found.items()} == {
        "updated": ("update", since + 2),
        "new": ("insert", since + 3),
        "gone": ("delete", since + 7),
    }
    assert (found["updated"]["status"], found["updated"]["row_count"]) == ("failed", 2)
    assert (found["gone"]["dimensions"], found["gone"]["row_count"]) == (gone.dimensions, 0)
    assert catalog.changes(catalog.version).num_rows == 0


def test_changes_of_a_replaced_row(catalog):
    """A name deleted and created again since is one update."""
    create(catalog, "t")
    since = catalog.version
    catalog.delete_result_table("t")
    create(catalog, "t", dimensions=3)
    found = catalog.changes(since).select(["change_type", "dimensions"]).to_pylist()
    assert found == [{"change_type": "update", "dimensions": 3}]


def test_changes_as_each_tenant_sees_them(catalog):
    """`B174`: a name that passed to another tenant is a delete here and an insert there."""
    acme, beta = (catalog.pinned_to_tenant(tenant) for tenant in (ACME, BETA))
    create(acme, "t")
    since = catalog.version
    acme.delete_result_table("t")
    create(beta, "t")
    kinds = [h.changes(since)["change_type"].to_pylist() for h in (acme, beta, catalog.as_admin())]
    assert kinds == [["delete"], ["insert"], ["update"]]


@pytest.mark.parametrize("since", [99, -1, None, "1"])
def test_changes_refuse(catalog, since):
    """Changes since a version that never was are a typed error."""
    create(catalog, "t")
    with pytest.raises((VersionNotFoundError, InvalidInputError)):
        catalog.changes(since)


CHANGE = ["change_type", "version", "table_name"]


def state(reads):
    table = reads.scan(columns=["table_name", "row_count", "dimensions"])
    return {r["table_name"]: (r["row_count"], r["dimensions"]) for r in table.to_pylist()}


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "delete", "bulk", "compact"]), st.integers(0, 9)),
        min_size=1,
        max_size=25,
    )
)
@pytest.mark.parametrize("merge_in_commit_rows", [8192, 0])
def test_changes_equal_the_difference(monkeypatch, merge_in_commit_rows, steps):
    """Changes since any version are the difference of the two states, through every merge."""
    shrink_runs(monkeypatch, merge_in_commit_rows=merge_in_commit_rows)
    catalog = connect(f"memory://{uuid.uuid4().hex}").catalog
    numbers = itertools.count(1)
    states = {0: {}}
    for step, at in steps:
        name, number = f"t{at}", next(numbers)
        held = catalog.get_result_table(name)
        if step == "compact":
            catalog.compact()
        elif step == "bulk":
            batch = [f"t{at}-{number}-{each}" for each in range(6)]
            catalog.create_result_tables(rows(*batch, dimensions=number))
        elif step == "delete" and held is not None:
            catalog.delete_result_table(name)
        elif held is None:
            create(catalog, name, dimensions=number)
        else:
            catalog.update_result_table_status(name, "building", number)
        states[catalog.version] = state(catalog)
    now = states[catalog.version]
    for opened in (catalog, again(catalog)):
        for since, then in states.items():
            assert state(opened.snapshot(since)) == then
            found = opened.changes(since).select(CHANGE).to_pydict()
            assert len(set(found["table_name"])) == len(found["table_name"])
            expected = {n: "delete" for n in then if n not in now}
            expected |= {
                n: "update" if n in then else "insert" for n in now if now[n] != then.get(n)
            }
            assert dict(zip(found["table_name"], found["change_type"], strict=True)) == expected
            assert all(since < version <= catalog.version for version in found["version"])


# --- compaction


def test_compact(catalog, monkeypatch, root):
    """Compaction leaves one segment, tells its version, and changes no answer or old version."""
    shrink_runs(monkeypatch)
    monkeypatch.setattr("jammi_files.manifest.FAN_OUT", 99)
    for index in range(40):
        create(catalog, f"t{index:02}")
        if index % 4 == 0:
            catalog.delete_result_table(f"t{index:02}")
    before, version = catalog.scan().sort_by("table_name"), catalog.version
    old = names(catalog.snapshot(30))
    assert catalog.compact() == catalog.version == version + 1
    for opened in (catalog, again(catalog)):
        assert opened.scan().sort_by("table_name") == before
        assert names(opened.snapshot(30)) == old
        assert len(opened.log.at(opened.version).runs.segments) == 1
    assert catalog.compact() == catalog.version == version + 1
    assert list(root.glob("**/*.tmp")) == []


def test_compact_after_another_has(catalog, monkeypatch):
    """Segments that another process has merged, and a thread has read of, are not merged again."""
    shrink_runs(monkeypatch)
    monkeypatch.setattr("jammi_files.manifest.FAN_OUT", 99)
    for index in range(40):
        create(catalog, f"t{index:02}")
    before = catalog._head()
    version = again(catalog).compact()
    assert catalog.version == version == before.version + 1
    heads = iter([before])
    newest = catalog._head
    monkeypatch.setattr(catalog, "_head", lambda: next(heads, None) or newest())
    assert catalog.compact() == version
    assert len(catalog.scan()) == 40


def test_compact_nothing(catalog, root):
    """Compacting an empty or a small catalog makes no version and creates nothing."""
    assert catalog.compact() == 0
    assert not root.exists()
    create(catalog, "t")
    assert catalog.compact() == 1


def test_compact_of_nothing_but_tombstones(catalog, monkeypatch):
    """Segments that hold deleted rows only are merged to none."""
    shrink_runs(monkeypatch)
    monkeypatch.setattr("jammi_files.manifest.FAN_OUT", 99)
    for _ in range(2):
        catalog.create_result_tables(rows(*(f"t{index}" for index in range(9))))
        catalog.delete_result_tables_for_source("docs")
    catalog.compact()
    assert again(catalog).scan().num_rows == 0
    assert again(catalog).log.at(catalog.version).runs.segments == ()
    create(catalog, "t0")
    assert names(again(catalog)) == ["t0"]


# --- handles


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_handles_pickle(catalog, protocol):
    """A handle travels with its root, scope and options, and goes on where it arrives."""
    create(catalog.pinned_to_tenant(ACME), "t")
    lazy = Catalog.open(catalog.storage.root, tenant=ACME, max_staleness=60).as_admin()
    copy = pickle.loads(pickle.dumps(lazy, protocol))  # noqa: S301 - our own bytes
    assert (copy.scope, repr(copy)) == (lazy.scope, repr(lazy))
    assert names(copy) == ["t"]
    assert copy.storage.root == lazy.storage.root


def test_handles_travel_to_another_process(store):
    """A store that was pickled works in a process that knows nothing else, with its own scope."""
    acme = store.pinned_to_tenant(ACME)
    code = (
        "import pickle, sys\n"
        "store = pickle.load(sys.stdin.buffer)\n"
        "made = store.create_table('docs', 'ner', 'model', 'm')\n"
        "print(made.table_name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(acme), capture_output=True, check=True
    )
    record = store.as_admin().catalog.get_result_table(done.stdout.decode().strip())
    assert record.tenant_id == ACME


def test_first_write_creates(root):
    """Opening is free; the first commit creates the root, also several levels deep."""
    deep = root / "a" / "b"
    catalog = Catalog.open(deep)
    assert not catalog.exists
    assert not root.exists()
    create(catalog, "t")
    assert catalog.exists
    assert Catalog.open(f"file://{deep}/").get_result_table("t") is not None
