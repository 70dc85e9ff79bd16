"""Tags: names for versions that vacuum never retires, carried by every commit."""

from __future__ import annotations

import pytest
from support.faults import UnlockedStorage
from support.invariants import check_invariants
from support.results import row
from support.scopes import ACME

from jammi_files import repair, retention
from jammi_files.catalog import Catalog
from jammi_files.draft import Draft
from jammi_files.errors import (
    AlreadyExistsError,
    InvalidInputError,
    NotFoundError,
    StateError,
    VersionNotFoundError,
)
from jammi_files.retention import Retention


def grow(catalog, number, first=0):
    """Make that many versions."""
    for each in range(first, first + number):
        catalog.create_result_table(**row(f"t{each}"))


def names(reads):
    return set(reads.scan(columns=["table_name"]).column(0).to_pylist())


def test_tag_names_the_newest_version(catalog):
    """A tag without a number names the version that was the newest; making it is a version."""
    grow(catalog, 3)
    assert catalog.tag("release") == 3
    assert catalog.version == 4
    assert catalog.tags() == {"release": 3}
    grow(catalog, 1, first=3)
    pinned = catalog.snapshot(tag="release")
    assert pinned.version == 3
    assert names(pinned) == {"t0", "t1", "t2"}


def test_tag_of_a_number(catalog):
    """Any version that is kept can be tagged, under several names, also the empty one."""
    grow(catalog, 3)
    assert [catalog.tag(f"v{number}", number) for number in (2, 0)] == [2, 0]
    assert catalog.tag("again", 2) == 2
    assert catalog.tags() == {"again": 2, "v0": 0, "v2": 2}
    assert names(catalog.snapshot(tag="v0")) == set()


@pytest.mark.usefixtures("small_runs")
def test_a_tag_of_the_empty_catalog_hinders_nothing(catalog, root):
    """Version 0 is kept without an object: upkeep reads what is there, and reads see no rows."""
    catalog.tag("start")
    grow(catalog, 20)
    catalog.delete_result_table("t3")
    catalog.compact()
    report = catalog.vacuum(0, dry_run=False)
    assert report
    assert report.done == report.actions
    assert catalog.tags() == {"start": 0}
    check_invariants(root)
    grow(catalog, 1, first=20)
    assert [info.operation for info in catalog.history()] == ["create"]
    assert names(catalog.snapshot(tag="start")) == set()
    changed = catalog.changes(catalog.tags()["start"])
    assert {*changed.column("table_name").to_pylist()} == names(catalog)
    assert repair(root).actions == ()
    catalog.untag("start")
    check_invariants(root)


@pytest.mark.usefixtures("small_runs")
def test_tags_are_carried_by_every_commit(catalog, root):
    """Commits, merges, transactions and other handles keep the tags."""
    grow(catalog, 2)
    catalog.tag("a")
    grow(catalog, 30, first=2)
    with catalog.transaction() as tx:
        tx.create_result_table(**row("tx"))
    catalog.compact()
    assert Catalog.open(root).tags() == {"a": 2}
    assert names(Catalog.open(root).snapshot(tag="a")) == {"t0", "t1"}
    check_invariants(root)


def test_same_tag_again(catalog):
    """The same tag on the same version makes no version; on another it is refused."""
    grow(catalog, 2)
    catalog.tag("a", 1)
    assert catalog.tag("a", 1) == 1
    assert catalog.version == 3
    with pytest.raises(AlreadyExistsError, match=r"'a' names version 1; untag it first"):
        catalog.tag("a", 2)
    assert catalog.tags() == {"a": 1}


def test_untag(catalog):
    """An untagged name is gone and free; what is not there cannot be untagged."""
    grow(catalog, 2)
    catalog.tag("a", 1)
    assert catalog.untag("a") == 1
    assert catalog.tags() == {}
    for missing in (lambda: catalog.untag("a"), lambda: catalog.snapshot(tag="a")):
        with pytest.raises(NotFoundError, match="'a'"):
            missing()
    assert catalog.tag("a", 2) == 2


@pytest.mark.parametrize("number", [5, 10**9])
def test_no_such_version(number, catalog):
    """A version that does not exist yet cannot be tagged."""
    grow(catalog, 2)
    with pytest.raises(VersionNotFoundError, match="the newest is 2"):
        catalog.tag("a", number)
    assert catalog.version == 2


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a\nb", "\x00", "a\u202eb", "é" * 65, "\ud800", 7, None]
)
def test_bad_names(name, catalog):
    """A tag's name prints, is at most 128 bytes long, and is checked before anything is read."""
    with pytest.raises(InvalidInputError):
        catalog.tag(name)
    with pytest.raises(InvalidInputError):
        catalog.untag(name)
    if name is not None:
        with pytest.raises(InvalidInputError):
            catalog.snapshot(tag=name)
    assert catalog.version == 0


@pytest.mark.parametrize("name", ["2026-11-23", "a/b", "v1.0", "..", "日本", "é" * 64])
def test_good_names(name, catalog):
    """A tag is no file: slashes, dots and any script are fine."""
    grow(catalog, 1)
    assert catalog.tag(name) == 1
    assert catalog.snapshot(tag=name).version == 1


def test_number_of_tags_is_bounded(catalog, monkeypatch):
    """Every manifest carries all tags, so there is an end to them; removing one makes room."""
    monkeypatch.setattr(retention, "MAX_TAGS", 2)
    grow(catalog, 1)
    catalog.tag("a")
    catalog.tag("b")
    with pytest.raises(InvalidInputError, match="2 tags already"):
        catalog.tag("c")
    catalog.untag("a")
    assert catalog.tag("c", 1) == 1


def test_one_way_to_say_which(catalog):
    """A snapshot is of a version, of an instant or of a tag."""
    grow(catalog, 1)
    catalog.tag("a")
    with pytest.raises(InvalidInputError, match="one of"):
        catalog.snapshot(1, tag="a")
    with pytest.raises(InvalidInputError, match="one of"):
        catalog.snapshot(as_of="2026-01-01T00:00:00Z", tag="a")


def test_who_may_tag(catalog):
    """Tags are the whole catalog's: a tenant's handle sees them, unbound and admin ones set them.

    What a tenant reads at a tag is still only its own.
    """
    grow(catalog, 1)
    mine = catalog.pinned_to_tenant(ACME)
    mine.create_result_table(**row("mine"))
    catalog.tag("a")
    mine.as_admin().tag("b")
    assert mine.tags() == {"a": 2, "b": 3}
    for refused in (lambda: mine.tag("c"), lambda: mine.untag("a"), lambda: mine.vacuum(0)):
        with pytest.raises(StateError, match=f"bound to {ACME}"):
            refused()
    assert names(mine.snapshot(tag="a")) == {"t0", "mine"}
    assert names(catalog.snapshot(tag="a")) == {"t0"}


def test_tags_in_the_history(catalog):
    """Tagging and untagging are commits that the admin sees; they change no row."""
    grow(catalog, 1)
    catalog.tag("a")
    catalog.untag("a")
    assert [info.operation for info in catalog.as_admin().history()] == ["create", "tag", "untag"]
    assert [info.operation for info in catalog.history()] == ["create"]
    assert catalog.changes(since=1).num_rows == 0


def test_a_refused_tag_leaves_no_trace(catalog):
    """Of changes that share a version a refused tag is undone, the others stand."""
    grow(catalog, 1)
    draft = Draft(catalog.log.head())
    mark = draft.mark()
    draft.retain(draft.retention.tagged("a", 1, 1), "tag")
    assert not draft.is_empty
    draft.rollback(mark)
    assert draft.retention == Retention()
    assert draft.is_empty


@pytest.mark.usefixtures("small_runs")
def test_vacuum_never_retires_a_tag(catalog):
    """Tags win: a tagged version keeps its rows and segments; untagged, it goes with the next."""
    grow(catalog, 20)
    catalog.tag("a", 7)
    catalog.tag("b", 13)
    catalog.compact()
    assert catalog.vacuum(0, dry_run=False).versions_retired > 15
    for tag, number in (("a", 7), ("b", 13)):
        assert names(Catalog(catalog.storage).snapshot(tag=tag)) == {f"t{n}" for n in range(number)}
    assert names(catalog.snapshot(7)) == {f"t{n}" for n in range(7)}
    check_invariants(catalog.storage)
    catalog.untag("a")
    with pytest.raises(VersionNotFoundError, match="retired by vacuum, which keeps"):
        catalog.tag("c", 7)
    assert catalog.vacuum(0, dry_run=False).versions_retired
    with pytest.raises(VersionNotFoundError, match="retired by vacuum"):
        catalog.snapshot(7)
    assert names(catalog.snapshot(tag="b")) == {f"t{n}" for n in range(13)}
    check_invariants(catalog.storage)


def test_a_second_tag_on_a_kept_version(catalog):
    """What one tag keeps below the floor another may name too, and then keeps."""
    grow(catalog, 6)
    catalog.tag("a", 2)
    catalog.vacuum(0, dry_run=False)
    assert catalog.tag("b", 2) == 2
    catalog.untag("a")
    catalog.vacuum(0, dry_run=False)
    assert names(catalog.snapshot(tag="b")) == {"t0", "t1"}


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("first", ["tag", "vacuum"])
def test_tag_and_vacuum_never_both_win(first, catalog):
    """Of a tag and a vacuum that race for one version the second to commit learns of the first.

    The tagged version's own segments, which were garbage when the vacuum listed them, are spared.
    """
    grow(catalog, 20)
    catalog.compact()
    other = Catalog(catalog.storage)
    outcome = {}

    def tag():
        try:
            other.tag("a", 7)
        except VersionNotFoundError:
            outcome["tag"] = "refused"
        else:
            outcome["tag"] = "kept"

    def vacuum():
        other.vacuum(0, dry_run=False)

    rival = vacuum if first == "vacuum" else tag
    left = [rival]

    def hook(moment, kind, key):
        if (moment, kind) == ("before", "create") and "manifest" in key and left:
            left.pop()()

    mine = Catalog(UnlockedStorage(catalog.storage, hook))
    if first == "vacuum":
        with pytest.raises(VersionNotFoundError, match="retired by vacuum"):
            mine.tag("a", 7)
        outcome["tag"] = "refused"
    else:
        mine.vacuum(0, dry_run=False)
    assert not left
    fresh = Catalog(catalog.storage)
    assert fresh.tags() == ({} if outcome["tag"] == "refused" else {"a": 7})
    if outcome["tag"] == "kept":
        assert names(fresh.snapshot(tag="a")) == {f"t{n}" for n in range(7)}
    else:
        with pytest.raises(VersionNotFoundError):
            fresh.snapshot(7)
    check_invariants(catalog.storage)
