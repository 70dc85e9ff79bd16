"""A root copied from any storage to any other: the same rows, the same bytes, or a refusal."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pytest
from support.copies import OWN, copied, opened, rows_of, shown
from support.faults import CountingStorage, WrappedStorage
from support.invariants import check_invariants
from support.results import CONTRACT, DATA, TABLE, build, finalize, row, write
from support.roots import LocalRoots, MemoryRoots, contents

import jammi_files
from jammi_files import copy_objects, copy_root, fsck, lease, log, numbering, parts, root_format
from jammi_files.catalog import Catalog
from jammi_files.copy_objects import Pair
from jammi_files.draft import SEGMENTS
from jammi_files.errors import (
    AlreadyExistsError,
    ConflictError,
    FormatError,
    InvalidInputError,
    StateError,
    StorageError,
    VersionNotFoundError,
)
from jammi_files.log import key_of
from jammi_files.materialization import Match, Mismatch, MissingArtifact, MissingManifest
from jammi_files.store import ResultStore

KINDS = ["local", "memory"]
CHANGING = {"create", "replace", "writer", "write", "publish", "delete"}
LEFT = {fsck.Kind.ORPHAN_OBJECT, fsck.Kind.ORPHAN_SEGMENT}
"""What a copy keeps at the destination although the source has deleted it."""


@pytest.fixture
def roots(tmp_path):
    """Return supplies of roots, by kind."""
    supplies = {"local": LocalRoots(tmp_path / "roots"), "memory": MemoryRoots()}
    (tmp_path / "roots").mkdir()
    yield supplies
    for supply in supplies.values():
        supply.close()


@pytest.fixture
def source(roots, small_runs):  # noqa: ARG001 - segments and merges want few rows
    return roots["local"].new()


@pytest.fixture
def target(roots):
    return roots["memory"].new()


def fill(storage, number=8):
    """Build some results; return their names."""
    store = opened(storage)
    return [build(store) for _ in range(number)]


def require_same(source, target, allowed=()):
    """Check that the target shows what the source shows, and is sound."""
    assert rows_of(target) == rows_of(source)
    here, there = shown(source), shown(target)
    keeps = Catalog(source).snapshot()._snapshot.header.retention.keeps
    for version in Catalog(source).log.versions():
        if not keeps(version):  # emptied, or about to be
            assert not there.get(key_of(version))
            here.pop(key_of(version))
    assert {key for key, data in here.items() if there.get(key) != data} == set()
    check_invariants(target, set(allowed))


# --- whole


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("start", KINDS)
def test_between_storages(start, to, roots, small_runs):  # noqa: ARG001 - as above
    """A copy in any storage shows what the source shows: rows, versions, bytes, verdicts."""
    source, target = roots[start].new(), roots[to].new()
    names = fill(source, 9)
    report = copied(source, target)
    assert shown(target) == shown(source)
    assert report.copied == len(shown(source))
    assert report.copied_bytes == sum(map(len, shown(source).values()))
    assert (report.version, report.since, report.resumed, report.ok) == (18, None, False, True)
    assert (report.present, report.present_bytes) == (0, 0)
    assert (report.source, report.destination) == (source.root, target.root)
    require_same(source, target)
    found = opened(target)
    assert [found.verify_materialization(name).ok for name in names] == [True] * 9
    for version in range(1, 19):
        assert rows_of(target, version) == rows_of(source, version)
    assert found.catalog.history() == opened(source).catalog.history()


def test_paths(tmp_path):
    """`copy` takes paths and URLs, and the copied root opens like any other (`B055`)."""
    store = jammi_files.connect(tmp_path / "a", durability="os")
    name = build(store)
    report = jammi_files.copy(tmp_path / "a", f"file://{tmp_path}/b")
    assert report.ok
    (tmp_path / "b").rename(tmp_path / "c")
    moved = jammi_files.connect(str(tmp_path / "c"))
    assert moved.open_table(name).to_table() == DATA
    assert build(moved) != name


def test_an_empty_catalog(source, target):
    """A catalog without versions is copied, and comes forward with the source."""
    root_format.ensure(source)
    report = copied(source, target)
    assert (report.version, report.copied, report.ok) == (0, 0, True)
    assert Catalog(target).exists
    fill(source, 3)
    report = copied(source, target)
    assert (report.version, report.since) == (6, 0)
    require_same(source, target)


def test_large_histories_lie_in_groups(source, target, monkeypatch):
    """Versions lie in the same groups at the copy."""
    monkeypatch.setattr(numbering, "GROUP", 4)
    fill(source, 6)
    copied(source, target)
    assert len(target.list(log.PREFIX)) == 4
    require_same(source, target)
    fill(source, 3)
    copied(source, target)
    require_same(source, target)


def test_the_same_catalog(source, target):
    """A copy has the id of its source: it is a mirror."""
    fill(source, 1)
    report = copied(source, target)
    assert root_format.read(target).catalog_id == root_format.read(source).catalog_id
    assert report.catalog_id == root_format.read(source).catalog_id


def test_every_tenant_is_copied(source, target):
    """A copy is an act on the whole root: rows of all tenants."""
    store = opened(source)
    tenants = ["01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a", "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9b"]
    names = [build(store.pinned_to_tenant(tenant)) for tenant in tenants]
    copied(source, target)
    for tenant, name in zip(tenants, names, strict=True):
        assert ResultStore(Catalog(target)).pinned_to_tenant(tenant).open_table(name).count_rows()


# --- again


def changes(storage):
    return [call for call in storage.calls if call.kind in CHANGING]


def test_again_copies_nothing(source, target):
    """A copy of what has not changed writes nothing and reads no object's bytes."""
    fill(source)
    first = copied(source, target)
    here, there = CountingStorage(source), CountingStorage(target)
    report = copied(here, there)
    assert (report.copied, report.copied_bytes, report.since) == (0, 0, first.version)
    results = [key for key in shown(source) if "/" not in key]
    assert report.present >= len(results)
    assert changes(there) == []
    assert [call for call in here.calls + there.calls if call.key in results] == []


def test_brought_forward(source, target):
    """A later call copies what is new and nothing else; then both are the same, byte for byte."""
    fill(source)
    copied(source, target)
    before = shown(target)
    store = opened(source)
    with store.catalog.transaction() as tx:
        tx.create_result_table(**row("planned"))
    names = fill(source, 3)
    here, there = CountingStorage(source), CountingStorage(target)
    report = copied(here, there)
    new = {key: data for key, data in shown(source).items() if before.get(key) != data}
    assert report.copied == len(new)
    assert report.copied_bytes == sum(map(len, new.values()))
    opened_here = {call.key for call in here.calls if call.kind in ("open", "pread")}
    assert {key for key in opened_here if "/" not in key} == {f"{name}.parquet" for name in names}
    assert {key for key in shown(source) if key not in shown(target)} == set()
    require_same(source, target, LEFT)
    for version in range(1, report.version + 1):
        assert target.read(key_of(version)) == source.read(key_of(version))
    assert opened(target).catalog.history() == opened(source).catalog.history()


def test_brought_forward_by_one_version(source, target):
    """A single new version needs no stand-in: it is one create between two notes."""
    fill(source, 2)
    copied(source, target)
    opened(source).catalog.create_result_table(**row("one"))
    there = CountingStorage(target)
    report = copied(source, there)
    done = [(call.kind, call.key) for call in changes(there)]
    note = ("replace", root_format.KEY)
    assert done == [note, ("create", key_of(5)), note]
    assert (report.copied, report.since, report.version) == (1, 4, 5)
    require_same(source, target)


def test_what_was_deleted_stays_at_the_copy(source, target):
    """The source's deletions reach the copy's rows, not its files."""
    names = fill(source, 5)
    copied(source, target)
    opened(source).delete_table(names[0])
    copied(source, target)
    assert opened(target).catalog.get_result_table(names[0]) is None
    assert target.size(f"{names[0]}.parquet") is not None
    require_same(source, target, LEFT)


def test_a_lost_object_is_copied_again(source, target):
    """What somebody deleted at the copy, or cut off there, is there again after the next call."""
    names = fill(source, 6)
    copied(source, target)
    segment = f"{SEGMENTS}/{target.list(SEGMENTS)[0]}"
    sizes = [source.size(f"{names[0]}.parquet"), source.size(f"{names[1]}.parquet")]
    target.delete(f"{names[0]}.parquet")
    target.replace(f"{names[1]}.parquet", b"cut off")
    target.delete(f"{names[2]}.materialization.json")
    target.delete(segment)
    report = copied(source, target)
    assert report.copied == 4
    assert report.copied_bytes > sum(sizes)
    require_same(source, target)


def test_a_name_that_was_used_again(source, target):
    """A result that was deleted and made anew under its name, of the same size, is copied anew."""
    store = opened(source)

    def make(scores):
        store.catalog.create_result_table(**row("again"))
        with store.open_writer("again", DATA.schema) as out:
            out.write(DATA.set_column(1, "score", pa.array(scores)))
        finalize(store, "again")

    make([0.5, 0.25, 1.0])
    copied(source, target)
    size = source.size("again.parquet")
    store.delete_table("again")
    make([0.25, 0.5, 1.0])
    assert source.size("again.parquet") == size
    there = CountingStorage(target)
    report = copied(source, there)
    assert report.ok
    kinds = ("delete", "publish", "create")
    order = [call.kind + call.key[5:] for call in there.calls if call.kind in kinds]
    begin = ["delete.materialization.json", "delete.parquet", "publish.parquet"]
    assert order[:4] == [*begin, "create.materialization.json"]
    assert opened(target).verify_materialization("again") == Match()
    require_same(source, target)


@pytest.mark.parametrize("verify", [True, False])
def test_a_name_that_was_used_again_without_attestation(verify, source, target):
    """Where nothing attests the bytes, only looking at them tells two of the same size apart."""
    store = opened(source)
    store.catalog.create_result_table(**row("plain"))
    source.create("plain.parquet", b"12345")
    store.catalog.update_result_table_status("plain", "ready", 1)
    copied(source, target)
    store.catalog.delete_result_table("plain")
    source.replace("plain.parquet", b"54321")
    store.catalog.create_result_table(**row("plain"))
    store.catalog.update_result_table_status("plain", "ready", 1)
    report = copied(source, target, verify=verify)
    assert target.read("plain.parquet") == (b"54321" if verify else b"12345")
    assert report.ok


# --- refused


def test_another_catalog(source, target):
    """A destination that holds another catalog is left alone."""
    fill(source, 2)
    fill(target, 2)
    before = contents(target)
    with pytest.raises(AlreadyExistsError, match="another catalog"):
        copied(source, target)
    assert contents(target) == before


@pytest.mark.parametrize("where", ["data", "sidecar", "segment", "version"])
def test_something_in_the_way(where, source, target):
    """Objects where the copy would lie are named, and nothing is written."""
    name = fill(source, 5)[0]
    key = {
        "data": f"{name}.parquet",
        "sidecar": f"{name}.materialization.json",
        "segment": f"{SEGMENTS}/{'0' * 32}.parquet",
        "version": key_of(7),
    }[where]
    target.create(key, b"mine")
    with pytest.raises(AlreadyExistsError, match="would lie"):
        copied(source, target)
    assert contents(target) == {key: b"mine"}


def test_other_things_are_not_in_the_way(source, target):
    """A directory that holds something else takes a copy, as it takes a new catalog."""
    fill(source, 2)
    target.create("notes.txt", b"mine")
    copied(source, target)
    require_same(source, target)
    assert target.read("notes.txt") == b"mine"


def test_no_catalog(source, target):
    """What is no catalog cannot be copied."""
    with pytest.raises(StorageError, match="no catalog"):
        copied(source, target)
    assert contents(target) == {}


def test_into_itself(tmp_path):
    """A root cannot be copied to itself, into itself or around itself, by whatever name."""
    build(jammi_files.connect(tmp_path / "a"))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for to in ("a", "link", "a/b", "link/b", "a/../a", "."):
        with pytest.raises(InvalidInputError, match="one another"):
            jammi_files.copy(tmp_path / "a", tmp_path / to)
    assert jammi_files.copy(tmp_path / "a", tmp_path / "ab").ok


@pytest.mark.parametrize("how", ["ahead", "aside", "behind"])
def test_a_copy_that_was_written_to(how, source, target):
    """A copy with versions of its own is a fork: it is not brought forward, and keeps them."""
    fill(source, 3)
    copied(source, target)
    opened(target).catalog.create_result_table(**row("mine"))
    if how != "ahead":
        opened(source).catalog.create_result_table(**row("theirs"))
    if how == "behind":
        fill(source, 3)
    before = contents(target)
    with pytest.raises(ConflictError, match="does not have"):
        copied(source, target)
    assert contents(target) == before


def test_a_copy_of_a_copy(source, target, roots):
    """A copy is a source like any other; what came the other way round is recognised."""
    third = roots["local"].new()
    fill(source, 3)
    copied(source, target)
    copied(target, third)
    require_same(source, third)
    fill(source, 2)
    copied(source, third)
    copied(third, target)
    require_same(source, target, LEFT)
    fill(target, 1)
    copied(target, source)
    require_same(target, source, LEFT)


def test_a_damaged_source(source, target):
    """A source whose newest version cannot be read is not copied, and nothing is written."""
    fill(source, 5)
    source.delete(f"{SEGMENTS}/{source.list(SEGMENTS)[0]}")
    with pytest.raises(FormatError, match="missing"):
        copied(source, target)
    assert contents(target) == {}


# --- unfinished


class _Stop(Exception):  # noqa: N818 - no error of the code under test
    pass


def cut_off(source, target, after):
    """Copy until so many reports of progress have come."""
    seen = []

    def progress(at):
        seen.append(at)
        if len(seen) == after:
            raise _Stop

    with pytest.raises(_Stop):
        copied(source, target, progress=progress)


def test_nobody_opens_what_is_unfinished(source, target):
    """An unfinished copy is refused by every way to open it, for reading and for writing."""
    fill(source, 4)
    early = Catalog(target)
    assert early.get_result_table("x") is None
    cut_off(source, target, 5)
    for ask in (
        lambda: Catalog(target),
        lambda: early.create_result_table(**row("x")),
        lambda: copied(target, source),
        lambda: early.exists,
    ):
        with pytest.raises(StateError, match="unfinished copy"):
            ask()
    before = contents(target)
    assert copied(source, target).resumed
    assert contents(target).keys() > before.keys()
    assert early.scan().num_rows == 4
    early.create_result_table(**row("x"))
    assert Catalog(target).version == 9


def test_an_early_handle_sees_no_part(source, target):
    """A handle that was opened before the copy began sees nothing of it, or all."""
    fill(source, 6)
    early, seen = Catalog(target), set()

    def look(_):
        try:
            seen.add(early.scan().num_rows)
        except StateError:
            seen.add("refused")

    copied(source, target, progress=look)
    look(None)
    assert seen == {0, "refused", 6}


def test_resumed_after_the_source_went_on(source, target):
    """A copy that is resumed is of the newest version then; what has gone since is not in it."""
    names = fill(source, 6)
    cut_off(source, target, 8)
    opened(source).delete_table(names[0])
    fill(source, 2)
    report = copied(source, target)
    assert (report.resumed, report.since, report.version) == (True, None, 17)
    assert report.present > 0
    require_same(source, target, LEFT)


def test_resumed_after_versions_were_retired(source, target):
    """What an interrupted copy has of versions that the source has retired since is emptied."""
    fill(source, 6)
    cut_off(source, target, 12)
    assert any(key.startswith(log.PREFIX) for key in shown(target))
    opened(source).catalog.vacuum(0, dry_run=False)
    copied(source, target)
    require_same(source, target, LEFT)


def test_a_resumed_copy_trusts_no_other_bytes(source, target):
    """What lies at an unfinished copy under the right name and size, but is wrong, is replaced."""
    names = fill(source, 6)
    cut_off(source, target, 4)
    data = f"{names[0]}.parquet"
    assert target.size(data) is not None
    target.delete(f"{names[0]}.materialization.json")
    target.replace(data, bytes(target.size(data)))
    segment = f"{SEGMENTS}/{source.list(SEGMENTS)[0]}"
    target.replace(segment, bytes(source.size(segment)))
    copied(source, target)
    require_same(source, target)


def test_an_interrupt_stops_the_threads(source, target):
    """An interrupt ends a copy without waiting for what is left, and the next call finishes it."""
    fill(source, 6)

    def progress(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_root.copy_root(Pair(source, target, verify=True), progress=progress)
    with pytest.raises(StateError):
        Catalog(target)
    assert not [key for key in contents(target) if key.endswith(".tmp")]
    assert copy_root.copy_root(Pair(source, target, verify=True)).resumed
    require_same(source, target)


# --- builds, failures, files beside


def test_builds_that_are_going_on(source, target, monkeypatch):
    """Nothing of a running build is copied but its row; it can never become ready at the copy."""
    store = opened(source)
    fill(source, 2)
    store.catalog.create_result_table(**row("going_on"))
    write(store, "going_on")
    store.catalog.set_checkpoint("going_on", 3)
    twin = build(store)
    source.create("going_on.materialization.json", source.read(f"{twin}.materialization.json"))
    report = copied(source, target)
    assert report.building == ("going_on",)
    assert not [key for key in contents(target) if "going_on" in key]
    require_same_rows = rows_of(target) == rows_of(source)
    assert require_same_rows
    found = opened(target)
    assert not found.recover()  # its process lives, on this host
    monkeypatch.setattr(lease, "find_death", lambda *_: "its process is gone")
    assert [step.action for step in found.recover().actions] == ["fail"]
    assert found.catalog.get_result_table("going_on").status == "failed"
    with pytest.raises(ConflictError):
        copied(source, target)


def test_a_build_that_ends_after_the_copy(source, target):
    """A build that was going on is brought over once it is ready."""
    store = opened(source)
    store.catalog.create_result_table(**row("t"))
    write(store, "t")
    copied(source, target)
    finalize(store, "t")
    report = copied(source, target)
    assert (report.building, report.copied) == ((), 3)
    assert opened(target).verify_materialization("t").ok
    require_same(source, target)


def test_failed_rows_keep_their_data(source, target):
    """What lies under a failed row is copied as it is, attested or not."""
    store = opened(source)
    store.catalog.create_result_table(**row("kept"))
    write(store, "kept")
    source.create("kept.materialization.json", b"not even JSON")
    store.catalog.fail_result_table("kept", "broken")
    report = copied(source, target)
    assert report.ok
    assert target.read("kept.materialization.json") == b"not even JSON"
    require_same(source, target)


def test_files_beside_a_result(source, target):
    """Index files are copied, wherever under the root the row says; data may lie deeper, too."""
    store = opened(source)
    paths = {"parquet_path": "deep/er/t.parquet", "index_path": "indexes/t.idx"}
    store.catalog.create_result_table(**row("t", **paths))
    write(store, "t")
    finalize(store, "t")
    beside = ["deep/er/t.usearch", "deep/er/t.rowmap", "deep/er/t.manifest.json", "indexes/t.idx"]
    for key in beside:
        source.create(key, key.encode())
    report = copied(source, target)
    assert report.copied == 2 + len(beside) + 2
    require_same(source, target)
    source.replace("indexes/t.idx", b"built again, larger")
    report = copied(source, target)
    assert report.copied == 1
    require_same(source, target)


def test_two_rows_of_one_object(source, target):
    """An object that two rows name is copied once."""
    store = opened(source)
    name = build(store)
    store.catalog.create_result_table(**row("second", parquet_path=f"{name}.parquet"))
    store.catalog.update_result_table_status("second", "ready", 3)
    report = copied(source, target)
    assert (report.copied, report.ok) == (len(shown(source)), True)
    require_same(source, target)


def test_data_that_lies_elsewhere(source, target, tmp_path):
    """Data outside the root stays where it is; the report names the rows, the copy reads it."""
    outside = tmp_path / "elsewhere.parquet"
    store = opened(source)
    build(store)
    store.catalog.create_result_table(**row("far", parquet_path=str(outside)))
    with store.build(*TABLE, **CONTRACT) as out:
        out.write(DATA)
    outside.write_bytes(source.read(f"{out.table_name}.parquet"))
    store.catalog.update_result_table_status("far", "ready", 3)
    report = copied(source, target)
    assert report.elsewhere == ("far",)
    assert opened(target).open_table("far").to_table() == DATA
    require_same(source, target)


def test_foreign_objects(source, target):
    """What no row names is copied only when asked for: at any depth, whole, empty, never twice."""
    store = opened(source)
    names = fill(source, 3)
    store.catalog.create_result_table(**row("going_on"))
    write(store, "going_on")
    store.delete_table(names[0])
    foreign = {
        "notes.txt": b"hello",
        "left.parquet": b"of nobody",
        "deep/er/empty": b"",
        "deep/large": bytes(10_000),
    }
    for key, data in foreign.items():
        source.replace(key, data)
    source.create("write.0123abcd.tmp", b"cut off")
    assert copied(source, target).copied == len(shown(source)) - len(foreign) - 1
    require_not = set(foreign) & set(contents(target))
    assert require_not == set()
    report = copied(source, target, foreign=True)
    assert report.copied == len(foreign)
    assert {key: contents(target)[key] for key in foreign} == foreign
    own = [key for key in contents(target) if "going_on" in key or key.endswith(".tmp")]
    assert own == []
    assert copied(source, target, foreign=True).copied == 0
    source.replace("notes.txt", b"HELLO")
    assert copied(source, target, foreign=True).copied == 1
    assert target.read("notes.txt") == b"HELLO"


# --- troubles of the source


def _no_data(source, name):
    source.delete(f"{name}.parquet")


def _no_sidecar(source, name):
    source.delete(f"{name}.materialization.json")


def _other_bytes(source, name):
    data = source.read(f"{name}.parquet")
    source.replace(f"{name}.parquet", data.replace(b"PAR1", b"RAP1"))


def _torn_sidecar(source, name):
    source.replace(f"{name}.materialization.json", b"{")


def _other_sidecar(source, name):
    data = source.read(f"{name}.materialization.json")
    start = data.index(b'"artifact": "') + 13
    source.replace(f"{name}.materialization.json", data[:start] + b"0" * 64 + data[start + 64 :])


@pytest.mark.parametrize(
    ("damage", "words", "verdict"),
    [
        (_no_data, "data is gone", MissingArtifact),
        (_no_sidecar, "sidecar is gone", MissingManifest),
        (_other_bytes, "digest", Mismatch),
        (_torn_sidecar, "sidecar is damaged", FormatError),
        (_other_sidecar, "its row says", Mismatch),
    ],
)
def test_a_result_that_is_not_as_promised(damage, words, verdict, source, target):
    """What is wrong at the source is named, is the same at the copy, and hinders nothing else."""
    names = fill(source, 5)
    damage(source, names[2])
    report = copied(source, target)
    assert not report.ok
    ((key, problem),) = report.troubles
    assert key == f"{names[2]}.parquet"
    assert words in problem
    assert shown(target) == shown(source)
    assert rows_of(target) == rows_of(source)
    found = opened(target)
    others = [name for name in names if name != names[2]]
    assert all(found.verify_materialization(name).ok for name in others)
    if verdict is FormatError:
        with pytest.raises(FormatError):
            found.verify_materialization(names[2])
    else:
        assert isinstance(found.verify_materialization(names[2]), verdict)


def test_damage_is_not_looked_for_where_nothing_is_attested(source, target):
    """Data without attestation is copied as it is; without `verify` all data is."""
    store = opened(source)
    store.catalog.create_result_table(**row("plain"))
    source.create("plain.parquet", b"whatever")
    store.catalog.update_result_table_status("plain", "ready", 1)
    _other_bytes(source, build(store))
    report = copied(source, target, verify=False)
    assert report.ok
    assert shown(target) == shown(source)


def old_segment(source):
    """Return the key of a segment that only earlier versions list."""
    newest = {info.key for info in Catalog(source).snapshot()._snapshot.header.segments}
    keys = [f"{SEGMENTS}/{name}" for name in source.list(SEGMENTS)]
    return next(key for key in keys if key not in newest)


def _without_segment(source):
    key = old_segment(source)
    source.delete(key)
    return key


def _with_torn_segment(source):
    key = old_segment(source)
    data = source.read(key)
    source.replace(key, data[:4] + bytes(40) + data[44:])
    return key


def _with_torn_version(source):
    data = source.read(key_of(3))
    source.replace(key_of(3), data[: len(data) // 2])
    return key_of(3)


def _without_version(source):
    source.delete(key_of(3))
    return key_of(3)


def _with_empty_version(source):
    source.replace(key_of(3), b"")
    return key_of(3)


@pytest.mark.parametrize(
    "damage",
    [
        _without_segment,
        _with_torn_segment,
        _with_torn_version,
        _with_empty_version,
        _without_version,
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_damage_of_the_past(damage, later, source, target):
    """Damage of an earlier version hinders nobody: it is named, and the same at the copy."""
    if later:
        fill(source, 1)
        copied(source, target)
    fill(source, 9 - later)
    key = damage(source)
    report = copied(source, target)
    assert [trouble.key for trouble in report.troubles] == [key]
    assert rows_of(target) == rows_of(source)
    errors = [
        (finding.kind, finding.subject)
        for finding in fsck.fsck(opened(source).catalog)
        if finding.severity is fsck.Severity.ERROR
    ]
    assert errors
    if not later:
        assert errors == [
            (finding.kind, finding.subject)
            for finding in fsck.fsck(opened(target).catalog)
            if finding.severity is fsck.Severity.ERROR
        ]


class Unsteady(WrappedStorage):
    """Delivers one object wrong every time but the last."""

    def __init__(self, inner, key, times):
        super().__init__(inner)
        self.key, self.times = key, times

    def _operation(self, kind, key, data=b""):  # noqa: ARG002
        return contextlib.nullcontext()

    def open(self, key):
        if key == self.key and self.times:
            self.times -= 1
            data = self.inner.read(key)
            return io.BytesIO(data[:9] + bytes([data[9] ^ (1 + self.times)]) + data[10:])
        return self.inner.open(key)


def test_a_source_that_reads_differently_each_time(source, target):
    """Bytes that change from one reading to the next are never shown."""
    name = fill(source, 3)[1]
    with pytest.raises(StorageError, match="reads differently"):
        copied(Unsteady(source, f"{name}.parquet", 3), target)
    with pytest.raises(StateError, match="unfinished"):
        Catalog(target)
    assert target.size(f"{name}.parquet") is None
    copied(source, target)
    require_same(source, target)


class Short(Unsteady):
    """Breaks off in the middle of one object, without a word."""

    def open(self, key):
        if key != self.key or not self.times:
            return self.inner.open(key)
        self.times -= 1
        return io.BytesIO(self.inner.read(key)[:-1])


def test_an_answer_that_breaks_off(source, target):
    """What nothing attests must at least be as long as it was listed: it is never shown cut off."""
    store = opened(source)
    store.catalog.create_result_table(**row("plain"))
    source.create("plain.parquet", b"whatever it is")
    store.catalog.update_result_table_status("plain", "ready", 1)
    report = copied(Short(source, "plain.parquet", 1), target)
    assert report.ok
    assert target.read("plain.parquet") == b"whatever it is"
    require_same(source, target)


def test_a_segment_that_arrived_damaged(source, target):
    """A segment is read back; one that was damaged on its way is not left there."""
    fill(source, 5)
    key = f"{SEGMENTS}/{source.list(SEGMENTS)[0]}"

    class Bad(Unsteady):
        def open(self, key):
            if key != self.key or not self.times:
                return self.inner.open(key)
            self.times -= 1
            data = self.inner.read(key)
            return io.BytesIO(data[:4] + bytes(40) + data[44:])

    with pytest.raises(StorageError, match="reads differently"):
        copy_root.copy_root(Pair(Bad(source, key, 1), target, verify=True))
    assert target.size(key) is None
    copied(Bad(source, key, 1), target)  # an executor's part that fails is done again
    require_same(source, target)


# --- the past


def test_retired_versions(source, target):
    """Versions that vacuum retired are not there at a copy; tagged and later ones are readable."""
    fill(source, 4)
    catalog = opened(source).catalog
    catalog.tag("before", 3)
    fill(source, 4)
    catalog.vacuum(0, dry_run=False)
    fill(source, 2)
    copied(source, target)
    require_same(source, target)
    found = opened(target).catalog
    assert found.tags() == {"before": 3}
    assert found.snapshot(tag="before").scan().num_rows == 2
    assert found.history() == catalog.history()
    for version in (1, 2, 4, 9):
        with pytest.raises(VersionNotFoundError):
            found.snapshot(version)
    assert [target.size(key_of(version)) for version in (1, 2, 4)] == [None, None, 0]


@pytest.mark.parametrize("later", [False, True])
def test_a_tag_of_the_empty_catalog(later, source, target):
    """Version 0 can be tagged and has no object: a copy lacks nothing, and makes none."""
    catalog = opened(source).catalog
    fill(source, 1)
    if later:
        copied(source, target)
    catalog.tag("start", 0)
    fill(source, 2)
    catalog.vacuum(0, dry_run=False)
    report = copied(source, target)
    assert (report.ok, report.troubles) == (True, ())
    assert target.size(key_of(0)) is None
    require_same(source, target, LEFT)
    assert opened(target).catalog.tags() == {"start": 0}
    assert rows_of(target, 0) == []


def test_retired_after_the_copy(source, target):
    """A copy whose own version the source has retired is brought forward all the same."""
    fill(source, 5)
    copied(source, target)
    fill(source, 3)
    catalog = opened(source).catalog
    catalog.tag("kept", 13)
    catalog.vacuum(0, dry_run=False)
    assert source.size(key_of(10)) == 0
    report = copied(source, target)
    assert (report.since, report.version) == (10, catalog.version)
    require_same(source, target, LEFT)
    assert opened(target).catalog.history() == catalog.history()
    assert copied(source, target).copied == 0


def test_a_fork_whose_beginning_was_retired(source, target):
    """What was committed to a copy is not mistaken for a version that the source has retired."""
    fill(source, 5)
    copied(source, target)
    fill(target, 1)
    fill(source, 3)
    opened(source).catalog.vacuum(0, dry_run=False)
    before = contents(target)
    with pytest.raises(ConflictError, match="does not have"):
        copied(source, target)
    assert contents(target) == before


def test_a_fork_of_a_fork(source, target, roots):
    """Where the source's version is gone nothing of the copy is taken for the source's unseen."""
    third = roots["local"].new()
    store = opened(source)
    fill(source, 3)
    copied(source, target)
    for storage, scores in ((source, [0.5, 0.25, 1.0]), (target, [0.25, 0.5, 1.0])):
        store = opened(storage)
        store.catalog.create_result_table(**row("same_name"))
        with store.open_writer("same_name", DATA.schema) as out:
            out.write(DATA.set_column(1, "score", pa.array(scores)))
        finalize(store, "same_name")
    copied(target, third)
    opened(source).catalog.create_result_table(**row("later"))
    opened(source).catalog.vacuum(0, dry_run=False)
    copied(source, third)
    assert opened(third).verify_materialization("same_name") == Match()
    require_same(source, third, LEFT)


def test_a_mirror_keeps_up_with_vacuum(source, target):
    """A copy that is brought forward after every vacuum retires what the source has retired."""
    catalog = opened(source).catalog
    for round_ in range(4):
        fill(source, 3)
        catalog.tag(f"round{round_}")
        copied(source, target)
        fill(source, 2)
        catalog.vacuum(0, dry_run=False)
        if round_ > 1:
            catalog.untag(f"round{round_ - 2}")
        report = copied(source, target)
        assert report.since is not None
        require_same(source, target, LEFT)
        assert opened(target).catalog.history() == catalog.history()
    sizes = [target.size(key_of(version)) for version in range(1, report.version)]
    assert [size for size in sizes if size is None] == []
    assert sizes.count(0) > 10


# --- how


def test_progress(source, target):
    """Progress is told in the caller's thread, never goes back, and ends at its totals."""
    fill(source, 6)
    seen, threads = [], set()

    def progress(at):
        seen.append(at)
        threads.add(threading.get_ident())

    copy_root.copy_root(Pair(source, target, verify=True), progress=progress)
    assert threads == {threading.get_ident()}
    assert seen == sorted(seen)
    last = seen[-1]
    assert last.objects == last.total_objects == len(shown(source)) - 1  # the newest version
    assert last.bytes == last.total_bytes


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_executors(kind, roots, small_runs):  # noqa: ARG001 - as above
    """Any executor does the work, in other processes too."""
    source, target = roots["local"].new(), roots["local"].new()
    fill(source, 6)
    pool = (
        ThreadPoolExecutor(3)
        if kind == "threads"
        else ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    )
    seen = []
    with pool:
        report = copy_root.copy_root(
            Pair(source, target, verify=True), executor=pool, progress=seen.append
        )
    assert report.ok
    assert (seen[-1].objects, seen[-1].bytes) == (seen[-1].total_objects, seen[-1].total_bytes)
    require_same(source, target)


def test_blocks(source, target, monkeypatch):
    """An object of any size passes in blocks: no more of it is in memory."""
    monkeypatch.setattr(copy_objects, "BLOCK", 1000)
    store = opened(source)
    with store.build(*TABLE, **CONTRACT) as out:
        out.write(pa.table({"id": [f"{number:x}" for number in range(5000)]}))
    here, there = CountingStorage(source), CountingStorage(target)
    copied(here, there)
    data = f"{out.table_name}.parquet"
    read = [call.size for call in here.calls if (call.kind, call.key) == ("pread", data)]
    written = [call.size for call in there.calls if (call.kind, call.key) == ("write", data)]
    assert len(read) > 10
    assert max(read) == max(written) == 1000
    assert sum(read) == sum(written) == source.size(data)
    assert data not in here.calls.keys("read")


def test_jobs_wait_in_small_numbers(source, target, monkeypatch):
    """However many objects there are, few jobs are handed out at a time."""
    monkeypatch.setattr(parts, "WINDOW", 3)
    fill(source, 20)
    outstanding = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *given, **named):
            future = super().submit(*given, **named)
            pending.add(future)
            outstanding.append(sum(not each.done() for each in pending))
            return future

    pending: set = set()
    with Pool(2) as pool:
        copy_root.copy_root(Pair(source, target, verify=True), executor=pool)
    assert 0 < max(outstanding) <= 3


def test_the_report_is_a_value(source, target):
    """A report can be compared, kept and turned into JSON."""
    fill(source, 1)
    report = copied(source, target)
    assert dataclasses.asdict(report)["copied"] == report.copied
    assert report == dataclasses.replace(report)
    assert not any(key.startswith(OWN) for key in shown(source))
    assert Path(report.source).is_dir()
