"""The writes of the catalog: create, update, promote, fail, delete, checkpoint."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import re
import subprocess
import sys

import pytest
from support.processes import run_together
from support.results import row
from support.scopes import ACME, BETA

from jammi_files import (
    AlreadyExistsError,
    Catalog,
    InputAnchor,
    ModelTask,
    ReferencedError,
    ResultTableKind,
    ResultTableStatus,
    StateError,
    TableNotFoundError,
    connect,
)
from jammi_files.schema import RECORD_FIELDS

BUILDING, READY, FAILED = ResultTableStatus
DOCS = InputAnchor.mutable_version("docs", 1)
CONTRACT = [
    "table_name",
    "source_id",
    "model_id",
    "task",
    "kind",
    "derived_from",
    "parquet_path",
    "index_path",
    "dimensions",
    "distance_metric",
    "row_count",
    "status",
    "key_column",
    "text_columns",
    "checkpoint",
    "created_at",
    "completed_at",
    "tenant_id",
    "definition_hash",
    "input_anchors_json",
]


def create(catalog, name, **also):
    return catalog.create_result_table(**row(name, **also))


def make(catalog, name, status, **also):
    """Bring a new row to ``status``."""
    create(catalog, name, **also)
    if status is READY:
        return catalog.promote_result_table_with_manifest(name, 3, "hash", [DOCS])
    if status is FAILED:
        return catalog.update_result_table_status(name, "failed", 0)
    return catalog.get_result_table(name)


def again(catalog):
    """Open the same root a second time: nothing is remembered, all is read."""
    return Catalog.open(catalog.storage.root, durability="os")


def names(records):
    return [record.table_name for record in records]


# --- create


def test_row_shape(catalog):
    """`B023`, `B024`: a record has every column of jammi-db, and the required ones are set."""
    record = create(catalog, "t")
    for column in CONTRACT:
        assert hasattr(record, column)
    assert set(CONTRACT) - {"input_anchors_json"} <= set(RECORD_FIELDS)
    required = ["table_name", "source_id", "model_id", "task", "kind", "parquet_path", "status"]
    assert all(getattr(record, column) for column in [*required, "created_at"])


def test_defaults(catalog):
    """`B025`, `B026`, `B027`, `B056`: a new row is building, empty, and NULL where not told."""
    create(catalog, "t")
    record = again(catalog).get_result_table("t")
    assert (record.status, record.row_count, record.kind) == (BUILDING, 0, ResultTableKind.MODEL)
    assert record.distance_metric == "cosine"
    nulls = ["derived_from", "index_path", "dimensions", "key_column", "text_columns", "checkpoint"]
    nulls += ["completed_at", "tenant_id", "definition_hash", "input_anchors", "properties"]
    assert [getattr(record, name) for name in nulls] == [None] * len(nulls)


def test_every_argument_is_kept(catalog):
    """`B033`: what the caller gives comes back as given, column lists in caller order."""
    create(catalog, "parent")
    given = {
        "source_id": 'süß "q" \\ \x01 \'%_',
        "model_id": "/srv/models/é:1",
        "task": "image_embedding",
        "parquet_path": "sub/dir/t.parquet",
        "kind": "neighbor_graph",
        "derived_from": "parent",
        "index_path": "t.idx",
        "dimensions": 384,
        "key_column": "doc id",
        "text_columns": ["b", "a,c", "b"],
        "properties": {"team": "search", "": "é\n"},
    }
    catalog.create_result_table("t", **given)
    record = again(catalog).get_result_table("t")
    given |= {"text_columns": ("b", "a,c", "b")}
    assert {name: getattr(record, name) for name in given} == given
    assert record.task is ModelTask.IMAGE_EMBEDDING
    assert record.kind is ResultTableKind.NEIGHBOR_GRAPH


@pytest.mark.parametrize("empty", [{"text_columns": []}, {"properties": {}}])
def test_empty_is_not_null(catalog, empty):
    """An empty list or map is not an absent one, whatever rewrites the row."""
    create(catalog, "t", **empty)
    ((name, value),) = empty.items()
    assert getattr(again(catalog).get_result_table("t"), name) in (value, tuple(value))


def test_created_at(catalog):
    """`B029`, `B031`: rows are stamped with nanoseconds, each later than the one before."""
    others = [catalog, catalog.pinned_to_tenant(ACME), again(catalog)]
    stamps = [create(others[i % 3], f"t{i}").created_at for i in range(30)]
    assert stamps == sorted(set(stamps))
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamp, re.ASCII) for stamp in stamps
    )
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(stamps[0])
    assert abs(age) < dt.timedelta(hours=1)


@pytest.mark.parametrize("status", ResultTableStatus)
@pytest.mark.parametrize("owner", [None, ACME])
@pytest.mark.parametrize("other", [None, ACME, BETA])
def test_name_is_taken(catalog, status, owner, other):
    """`B057`, `B058`: a name belongs to one row over all tenants and states; that row stays."""
    held = make(catalog.pinned_to_tenant(owner), "t", status)
    version = catalog.version
    with pytest.raises(AlreadyExistsError, match=r"catalog.*table_name 't'"):
        create(catalog.pinned_to_tenant(other), "t", source_id="another")
    assert catalog.version == version
    assert catalog.as_admin().get_result_table("t") == held


def test_names_are_exact(catalog):
    """`B096`: names differ by case, blanks and Unicode form; nothing is folded."""
    for name in ("t", "T", " t", "t ", "caf\u00e9", "cafe\u0301"):
        create(catalog, name)
    assert catalog.scan().num_rows == 6
    assert catalog.get_result_table("t ").table_name == "t "


@pytest.mark.parametrize("tenant", [None, ACME])
@pytest.mark.parametrize("admin", [False, True])
def test_new_row_belongs_to_the_handle(catalog, tenant, admin):
    """`B032`, `B059`: a row belongs to the handle's tenant, GLOBAL if unbound, admin or not."""
    handle = catalog.pinned_to_tenant(tenant)
    record = create(handle.as_admin() if admin else handle, "t")
    assert record.tenant_id == tenant
    assert record == catalog.as_admin().get_result_table("t")


@pytest.mark.parametrize("parent", ["absent", "hidden"])
def test_parent_must_be_visible(catalog, parent):
    """`B061`, `B062`: an invisible parent is refused in the words of an absent one."""
    create(catalog.pinned_to_tenant(BETA), "hidden")
    version = catalog.version
    for handle in (catalog, catalog.pinned_to_tenant(ACME)):
        with pytest.raises(TableNotFoundError, match=f"^Result table '{parent}' not found$"):
            create(handle, "t", derived_from=parent)
    assert catalog.version == version


def test_own_name_as_parent(catalog):
    """`B061`: a row cannot derive from itself: it is not there yet."""
    with pytest.raises(TableNotFoundError):
        create(catalog, "t", derived_from="t")


def test_new_row_is_seen_at_once(catalog):
    """`B064`, `B101`: a created row is listed as building by every opening."""
    create(catalog.pinned_to_tenant(ACME), "t1")
    catalog.as_admin().promote_result_table_with_manifest("t1", 1, "h", [])
    create(catalog.pinned_to_tenant(ACME), "t2")
    for opened in (catalog, again(catalog)):
        for handle in (opened.pinned_to_tenant(ACME), opened.as_admin()):
            assert names(handle.list_result_tables_by_status("building")) == ["t2"]
            assert names(handle.list_result_tables_by_status("ready")) == ["t1"]


def test_lease(catalog):
    """`B065`: a building row says which process builds it; a finished one does not."""
    lease = create(catalog, "t").lease
    assert lease.pid == os.getpid()
    assert lease.host
    assert again(catalog).get_result_table("t").lease == lease
    assert catalog.update_result_table_status("t", "building", 5).lease == lease
    assert catalog.update_result_table_status("t", "failed", 0).lease is None


def test_if_not_exists(catalog):
    """`B066`: a retried create gets the building row that it made, and makes no version."""
    first = create(catalog, "t", if_not_exists=True)
    version = catalog.version
    assert create(again(catalog), "t", if_not_exists=True) == first
    assert catalog.version == version


def test_if_not_exists_takes_the_build_over(store):
    """`B066`, `B258`: who retries a dead process's create is the builder now; recovery sees him."""
    code = "import pickle, sys; c, r = pickle.load(sys.stdin.buffer); c.create_result_table(**r)"
    first = pickle.dumps((store.catalog, row("t")))
    subprocess.run([sys.executable, "-c", code], input=first, check=True)
    create(store.catalog, "t", if_not_exists=True)
    assert not store.recover()
    assert store.catalog.get_result_table("t").status is BUILDING


def test_if_not_exists_of_another_result(catalog):
    """`B066`: a retry that asks for another source, model, task, kind or path is no retry."""
    create(catalog, "t")
    other = row("t") | {"source_id": "another"}
    with pytest.raises(AlreadyExistsError):
        catalog.create_result_table(**other, if_not_exists=True)


@pytest.mark.parametrize("status", [READY, FAILED])
def test_if_not_exists_of_a_finished_row(catalog, status):
    """`B066`: a finished row is no row to go on with."""
    make(catalog, "t", status)
    with pytest.raises(AlreadyExistsError):
        create(catalog, "t", if_not_exists=True)


@pytest.mark.parametrize(("owner", "other"), [(ACME, None), (None, ACME), (ACME, BETA)])
def test_if_not_exists_of_another_tenant(catalog, owner, other):
    """`B058`, `B066`: another tenant's building row is taken, for admin as well."""
    create(catalog.pinned_to_tenant(owner), "t")
    for handle in (catalog.pinned_to_tenant(other), catalog.pinned_to_tenant(other).as_admin()):
        with pytest.raises(AlreadyExistsError):
            create(handle, "t", if_not_exists=True)


@pytest.mark.parametrize("given", ["{root}/a/t.parquet", "file://{root}/a/t.parquet"])
def test_paths_under_the_root_are_relative(catalog, root, given):
    """`B055`: a path under the root is stored relative to it, any other as it is."""
    assert create(catalog, "t", parquet_path=given.format(root=root)).parquet_path == "a/t.parquet"
    outside = f"{root}-other/t.parquet"
    assert create(catalog, "u", parquet_path=outside).parquet_path == outside


# --- update


@pytest.mark.parametrize("new", ["building", "ready", "failed"])
def test_update(catalog, new):
    """`B067`, `B068`: status and row count change in one version; completed_at if terminal."""
    before, version = create(catalog, "t"), catalog.version
    record = catalog.update_result_table_status("t", new, 42)
    assert catalog.version == version + 1
    assert (record.status, record.row_count) == (new, 42)
    assert (record.completed_at is None) is (new == "building")
    if record.completed_at is not None:
        assert record.completed_at > record.created_at
    changed = {"status", "row_count", "completed_at", "lease"}
    assert all(getattr(record, f) == getattr(before, f) for f in RECORD_FIELDS if f not in changed)
    assert again(catalog).get_result_table("t") == record


MOVES = {
    (BUILDING, BUILDING),
    (BUILDING, READY),
    (BUILDING, FAILED),
    (READY, FAILED),
}


@pytest.mark.parametrize("old", ResultTableStatus)
@pytest.mark.parametrize("new", ResultTableStatus)
@pytest.mark.parametrize("admin", [False, True])
def test_moves(catalog, old, new, admin):
    """`B073`: only the four legal moves are made; any other changes nothing, for admin too."""
    before, version = make(catalog, "t", old), catalog.version
    handle = catalog.as_admin() if admin else catalog
    if (old, new) in MOVES:
        assert handle.update_result_table_status("t", new, 7).status is new
        return
    with pytest.raises(StateError, match=f"'t' is {old} and cannot become {new}"):
        handle.update_result_table_status("t", new, 7)
    assert (catalog.version, catalog.get_result_table("t")) == (version, before)


@pytest.mark.parametrize("name", ["absent", "hidden"])
def test_update_needs_a_visible_row(catalog, name):
    """`B070`, `B071`: an invisible row is refused in the words of an absent one, and unchanged."""
    held = create(catalog.pinned_to_tenant(BETA), "hidden")
    version = catalog.version
    for handle in (catalog, catalog.pinned_to_tenant(ACME)):
        for call in (
            lambda h: h.update_result_table_status(name, "failed", 0),
            lambda h: h.fail_result_table(name, "why"),
            lambda h: h.promote_result_table_with_manifest(name, 1, "h", []),
            lambda h: h.set_checkpoint(name, 1),
            lambda h: h.delete_result_table(name),
            lambda h: h.plan_delete(name),
        ):
            with pytest.raises(TableNotFoundError, match=f"^Result table '{name}' not found$"):
                call(handle)
    assert catalog.version == version
    assert catalog.as_admin().get_result_table("hidden") == held


def test_ready_without_contract(catalog):
    """`B074`: a row made ready by update has neither hash nor anchors."""
    create(catalog, "t")
    record = catalog.update_result_table_status("t", "ready", 3)
    assert (record.definition_hash, record.input_anchors_json) == (None, None)


def test_failed_keeps_its_contract(catalog):
    """`B075`: failing a ready row keeps its hash and anchors and takes the count given."""
    ready = make(catalog, "t", READY)
    failed = catalog.update_result_table_status("t", "failed", 0)
    assert failed.row_count == 0
    assert failed.definition_hash == ready.definition_hash == "hash"
    assert failed.input_anchors == ready.input_anchors == (DOCS,)


def test_largest_counts(catalog):
    """`B028`: row counts and checkpoints are 64-bit."""
    create(catalog, "t")
    catalog.set_checkpoint("t", 2**63 - 1)
    catalog.promote_result_table_with_manifest("t", 2**63 - 1, "h", [])
    record = again(catalog).get_result_table("t")
    assert (record.row_count, record.checkpoint) == (2**63 - 1, 2**63 - 1)


def test_fail(catalog):
    """`B089`: a failed row keeps the error's text beside the properties it had."""
    create(catalog, "t", properties={"team": "search"})
    record = catalog.fail_result_table("t", "ValueError: no")
    assert (record.status, record.row_count) == (FAILED, 0)
    assert record.properties == {"team": "search", "error": "ValueError: no"}


def test_fail_with_any_text(catalog):
    """`B089`: no error's text keeps a row from failing, whatever the system put in."""
    create(catalog, "t")
    text = "no such file: " + os.fsdecode(b"caf\xe9")
    assert catalog.fail_result_table("t", text).status is FAILED
    assert "no such file" in again(catalog).get_result_table("t").properties["error"]


# --- promote


def test_promote(catalog):
    """`B076`: status, count, time, hash and anchors change in one version and not before it."""
    create(catalog, "t")
    before = catalog.version
    anchors = [InputAnchor.result_digest("b", "1"), InputAnchor.source_version("a", "2")]
    record = catalog.promote_result_table_with_manifest("t", 9, "hash", anchors)
    assert catalog.version == before + 1
    assert (record.status, record.row_count, record.definition_hash) == (READY, 9, "hash")
    assert record.input_anchors == tuple(anchors)
    assert record.completed_at > record.created_at
    assert again(catalog).get_result_table("t") == record
    earlier = catalog.snapshot(before).get_result_table("t")
    assert (earlier.status, earlier.definition_hash, earlier.input_anchors) == (
        BUILDING,
        None,
        None,
    )


@pytest.mark.parametrize("owner", [None, ACME])
def test_promote_tells_the_owner(catalog, owner):
    """`B078`: the promoted row names its owner, not the one who promoted it."""
    create(catalog.pinned_to_tenant(owner), "t")
    handle = catalog.pinned_to_tenant(BETA).as_admin()
    assert handle.promote_result_table_with_manifest("t", 1, "h", []).tenant_id == owner


@pytest.mark.parametrize("status", [READY, FAILED])
def test_promote_needs_a_building_row(catalog, status):
    """`B079`, `B259`: a row that is ready, or failed by recovery, cannot be promoted."""
    before, version = make(catalog, "t", status), catalog.version
    with pytest.raises(StateError, match=f"'t' is {status}; only a building table"):
        catalog.as_admin().promote_result_table_with_manifest("t", 1, "h", [])
    assert (catalog.version, catalog.get_result_table("t")) == (version, before)


def test_anchors_json(catalog):
    """`B085`: anchors read as compact JSON, keys and list in stored order, names unescaped."""
    create(catalog, "t")
    anchors = [InputAnchor.mutable_version("docs", 1), InputAnchor.source_version('é"', "x")]
    catalog.promote_result_table_with_manifest("t", 1, "h", anchors)
    assert again(catalog).get_result_table("t").input_anchors_json == (
        '[{"source":"docs","anchor":"1","kind":"mutable_version"},'
        '{"source":"é\\"","anchor":"x","kind":"source_version"}]'
    )


def test_no_inputs_is_not_null(catalog):
    """`B086`: a result without inputs has an empty list of anchors."""
    create(catalog, "t")
    catalog.promote_result_table_with_manifest("t", 1, "h", [])
    assert again(catalog).get_result_table("t").input_anchors_json == "[]"


# --- delete


def test_delete_source(catalog):
    """`B143`, `B145`: exactly the source's rows go, in any state, and are returned oldest first."""
    gone = [make(catalog, f"t{status}", status) for status in (READY, FAILED, BUILDING)]
    stays = create(catalog, "other", source_id="Docs")
    assert catalog.delete_result_tables_for_source("docs") == gone
    assert again(catalog).find_result_tables("docs") == []
    assert again(catalog).get_result_table("other") == stays


def test_delete_unknown_source(catalog):
    """`B146`: an unknown source is no error and no version."""
    create(catalog, "t")
    version = catalog.version
    assert catalog.delete_result_tables_for_source("nothing") == []
    assert catalog.version == version


def test_delete_takes_own_rows_only(catalog):
    """`B144`, `B145`: a bound handle leaves GLOBAL rows, an unbound one a tenant's."""
    for tenant in (None, ACME, BETA):
        create(catalog.pinned_to_tenant(tenant), f"of {tenant}")
    acme = catalog.pinned_to_tenant(ACME).as_admin()
    assert names(acme.delete_result_tables_for_source("docs")) == [f"of {ACME}"]
    assert names(catalog.as_admin().delete_result_tables_for_source("docs")) == ["of None"]
    assert catalog.as_admin().scan(columns=["table_name"])[0].to_pylist() == [f"of {BETA}"]


def test_deleted_name_is_free(catalog):
    """A deleted name may be taken again, by anybody, and nothing of the old row comes back."""
    make(catalog, "t", READY, dimensions=3)
    catalog.delete_result_table("t")
    assert catalog.get_result_table("t") is None
    record = create(catalog.pinned_to_tenant(ACME), "t")
    assert (record.dimensions, record.definition_hash, record.tenant_id) == (None, None, ACME)


def test_delete_one(catalog):
    """`B151`: one row goes; planning it says the same and changes nothing."""
    gone, stays = create(catalog, "t"), create(catalog, "u")
    version = catalog.version
    assert catalog.plan_delete("t") == [gone]
    assert (catalog.version, catalog.get_result_table("t")) == (version, gone)
    assert catalog.delete_result_table("t") == [gone]
    assert names(catalog.find_result_tables("docs")) == [stays.table_name]


@pytest.mark.parametrize("admin", [False, True])
def test_delete_visible_but_not_owned(catalog, admin):
    """`B144`: a GLOBAL row is visible to a tenant and not its own to delete, for admin neither."""
    held = create(catalog, "t")
    acme = catalog.pinned_to_tenant(ACME)
    with pytest.raises(StateError, match="another scope"):
        (acme.as_admin() if admin else acme).delete_result_table("t")
    assert catalog.get_result_table("t") == held


def family(catalog):
    """Create parent <- child <- grandchild, each of a source of its own."""
    create(catalog, "parent", source_id="docs")
    create(catalog, "child", source_id="graphs", derived_from="parent")
    create(catalog, "grandchild", source_id="more", derived_from="child")


@pytest.mark.parametrize(
    "delete",
    [
        lambda c, **how: c.delete_result_table("parent", **how),
        lambda c, **how: c.delete_result_tables_for_source("docs", **how),
        lambda c, **how: c.plan_delete("parent", **how),
    ],
)
def test_delete_of_a_parent(catalog, delete):
    """`B149`: a row from which a staying row derives is not deleted; the error names that row."""
    family(catalog)
    version = catalog.version
    with pytest.raises(ReferencedError, match="'child'") as caught:
        delete(catalog)
    assert "grandchild" not in str(caught.value)
    assert catalog.version == version


def test_cascade(catalog):
    """`B149`: cascade takes every descendant along, of whatever source, oldest first."""
    family(catalog)
    create(catalog, "bystander")
    assert names(catalog.plan_delete("parent", cascade=True)) == ["parent", "child", "grandchild"]
    gone = catalog.delete_result_table("parent", cascade=True)
    assert names(gone) == ["parent", "child", "grandchild"]
    assert catalog.scan(columns=["table_name"])[0].to_pylist() == ["bystander"]


def test_delete_of_a_whole_family(catalog):
    """`B149`: rows that go together do not hold each other."""
    create(catalog, "parent")
    create(catalog, "child", derived_from="parent")
    assert names(catalog.delete_result_tables_for_source("docs")) == ["parent", "child"]


@pytest.mark.parametrize("cascade", [False, True])
def test_children_of_other_tenants(catalog, cascade):
    """`B149`: another tenant's child holds a GLOBAL row; it is never named, counted or taken."""
    create(catalog, "parent")
    for tenant in (ACME, BETA):
        create(catalog.pinned_to_tenant(tenant), f"secret {tenant}", derived_from="parent")
    before = catalog.version
    with pytest.raises(ReferencedError, match="by tables of other tenants") as caught:
        catalog.delete_result_table("parent", cascade=cascade)
    assert "secret" not in str(caught.value)
    assert catalog.version == before


def test_cascade_stops_at_a_stranger(catalog):
    """`B149`: if a descendant far down belongs to another tenant, nothing at all is deleted."""
    family(catalog)
    create(catalog.pinned_to_tenant(ACME), "secret", derived_from="grandchild")
    with pytest.raises(ReferencedError, match="by tables of other tenants"):
        catalog.delete_result_table("parent", cascade=True)
    assert catalog.scan().num_rows == 3


def test_deleted_child_holds_nothing(catalog):
    """`B149`: once the child is deleted its parent can be."""
    family(catalog)
    for name in ("grandchild", "child", "parent"):
        catalog.delete_result_table(name)
    assert catalog.scan().num_rows == 0


# --- checkpoint


def test_checkpoint(catalog):
    """`B161`, `B162`, `B165`: a checkpoint is read back, changes no column and makes no version."""
    held, version = create(catalog, "t"), catalog.version
    assert catalog.get_checkpoint("t") is None
    for batch in (0, 1, 1, 500):
        catalog.set_checkpoint("t", batch)
        assert catalog.get_checkpoint("t") == again(catalog).get_checkpoint("t") == batch
    assert (catalog.version, catalog.get_result_table("t")) == (version, held)


def test_checkpoint_of_nothing(catalog):
    """`B161`: an unknown or invisible row has no checkpoint."""
    create(catalog.pinned_to_tenant(ACME), "t")
    catalog.as_admin().set_checkpoint("t", 3)
    assert catalog.get_checkpoint("t") is None
    assert catalog.get_checkpoint("absent") is None
    assert catalog.pinned_to_tenant(ACME).get_checkpoint("t") == 3


def test_checkpoint_of_a_global_row(catalog):
    """`B162`: a tenant may report progress on a GLOBAL row."""
    create(catalog, "t")
    catalog.pinned_to_tenant(ACME).set_checkpoint("t", 3)
    assert catalog.get_checkpoint("t") == 3


def test_checkpoint_under_another_path(tmp_path):
    """`B161`: who opens a root by a link to it sees what was reported, also in the same process."""
    (tmp_path / "link").symlink_to(tmp_path / "root")
    catalog = Catalog.open(tmp_path / "root")
    create(catalog, "t")
    catalog.set_checkpoint("t", 5)
    assert Catalog.open(tmp_path / "link").get_checkpoint("t") == 5


def test_checkpoint_goes_forward(catalog):
    """`B163`: a smaller checkpoint is refused unless it is forced."""
    create(catalog, "t")
    catalog.set_checkpoint("t", 5)
    with pytest.raises(StateError, match="behind 5"):
        again(catalog).set_checkpoint("t", 4)
    assert catalog.get_checkpoint("t") == 5
    catalog.set_checkpoint("t", 4, force=True)
    assert catalog.get_checkpoint("t") == 4


@pytest.mark.parametrize("status", [READY, FAILED])
def test_checkpoint_of_a_finished_row(catalog, status):
    """`B163`: only a building row has progress to report."""
    make(catalog, "t", status)
    with pytest.raises(StateError, match=f"'t' is {status}"):
        catalog.set_checkpoint("t", 1)


@pytest.mark.parametrize("setter", ["same handle", "other handle", "other opening"])
def test_last_checkpoint_lands_in_the_row(catalog, root, setter):
    """`B161`: the last checkpoint is the promoted row's, whoever reported it."""
    create(catalog, "t")
    by = {
        "same handle": catalog,
        "other handle": catalog.as_admin(),
        "other opening": again(catalog),
    }
    by[setter].set_checkpoint("t", 1)
    by[setter].set_checkpoint("t", 7)
    assert catalog.promote_result_table_with_manifest("t", 1, "h", []).checkpoint == 7
    assert again(catalog).get_checkpoint("t") == 7
    assert list(root.glob("_catalog/builds/*")) == []


def test_checkpoint_of_a_deleted_row(catalog, root):
    """`B161`: a new row of a deleted name has no checkpoint: none was ever set for it."""
    create(catalog, "t")
    catalog.set_checkpoint("t", 7)
    catalog.delete_result_table("t")
    assert list(root.glob("_catalog/builds/*")) == []
    create(catalog, "t")
    assert catalog.get_checkpoint("t") is None
    assert catalog.promote_result_table_with_manifest("t", 1, "h", []).checkpoint is None


def test_checkpoint_of_a_row_that_another_process_deleted(catalog, root):
    """`B161`: so it is too where another process has freed the name of a build of this one."""
    create(catalog, "t")
    catalog.set_checkpoint("t", 7)
    run_together(_delete, [(root, "t")])
    create(catalog, "t")
    assert catalog.get_checkpoint("t") is None
    catalog.set_checkpoint("t", 1)
    assert catalog.promote_result_table_with_manifest("t", 1, "h", []).checkpoint == 1


def _delete(root, name):
    connect(root).delete_table(name)


# --- adopt


def test_adopt(catalog):
    """Complete rows of any state and tenant are taken over as they are; taken names are left."""
    kept = create(catalog, "kept")
    ready = make(catalog.pinned_to_tenant(ACME), "ready", READY, properties={"a": "b"})
    catalog.pinned_to_tenant(ACME).delete_result_table("ready")
    other = catalog.adopt_result_tables([ready, kept])
    assert other == ["ready"]
    assert again(catalog).as_admin().get_result_table("ready") == ready
    version = catalog.version
    assert catalog.adopt_result_tables([ready, kept]) == []
    assert catalog.adopt_result_tables([]) == []
    assert catalog.version == version
