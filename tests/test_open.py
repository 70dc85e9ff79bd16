"""Opening a root: what is refused, what reading leaves alone, what damage leaves readable."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import shutil

import orjson
import pyarrow.parquet as pq
import pytest
from conftest import shrink_runs
from support.files import listing, newest_manifest
from support.results import DATA, TABLE, build, row, rows

from jammi_files import (
    Catalog,
    FormatError,
    InvalidInputError,
    StorageError,
    UnsupportedVersionError,
    connect,
    manifest,
)

READS = {
    "get": lambda c: c.get_result_table("t1"),
    "list": lambda c: c.list_result_tables_by_status("building"),
    "find": lambda c: c.find_result_tables("docs"),
    "scan": lambda c: c.scan(),
    "snapshot": lambda c: c.snapshot().scan(),
    "changes": lambda c: c.changes(0),
}
CREATE = {"create": lambda c: c.create_result_table(**row("new"))}


def create(catalog, name, **also):
    return catalog.create_result_table(**row(name, **also))


def again(root):
    return Catalog.open(root, durability="os")


# --- bad data


@pytest.mark.parametrize("keep", [0, 30, 400])
def test_data_with_a_damaged_footer(store, root, keep):
    """Data whose footer is cut off is a format error that names it."""
    name = build(store)
    path = root / f"{name}.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(FormatError, match=rf"{name}\.parquet' is no Parquet file"):
        store.open_table(name)


def test_data_with_a_damaged_schema(store, root):
    """A schema in a footer that is none is one, too: Arrow raises an OSError without a number."""
    name = build(store)
    path = root / f"{name}.parquet"
    whole = path.read_bytes()
    at = whole.index(b"ARROW:schema") + 40
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(FormatError, match=rf"{name}\.parquet' is no Parquet file"):
        store.open_table(name)


# --- bad roots


@pytest.mark.parametrize("root", ["file", "file/below", "file/_catalog"])
def test_root_is_a_file(tmp_path, root):
    """A root that is a file, or lies below one, is refused, and the file stays."""
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(StorageError, match="file"):
        create(Catalog.open(tmp_path / root), "t")
    assert listing(tmp_path) == {"file": b"content"}


FOREIGN = {
    "empty": b"",
    "text": b"hello",
    "truncated": b'{"format": "jammi_files", "form',
    "list": b"[]",
    "null": b"null",
    "number": b"1",
    "nothing": b"{}",
    "other program": b'{"format": "delta", "format_version": 1, "catalog_id": "x"}',
    "no version": b'{"format": "jammi_files", "catalog_id": "x"}',
    "no id": b'{"format": "jammi_files", "format_version": 1}',
    "odd id": b'{"format": "jammi_files", "format_version": 1, "catalog_id": 5}',
    "binary": bytes(range(256)),
    "huge": b'{"format": "jammi_files", "format_version": 1, "catalog_id": "'
    + b"x" * 70_000
    + b'"}',
}
NEWER = {
    "number": b'{"format": "jammi_files", "format_version": 2, "catalog_id": "x", "more": []}',
    "text": b'{"format": "jammi_files", "format_version": "1.1", "catalog_id": "x"}',
    "large": b'{"format": "jammi_files", "format_version": 9999999999999999999, "catalog_id": ""}',
}


@pytest.mark.parametrize("use", READS | CREATE)
@pytest.mark.parametrize("content", FOREIGN)
def test_foreign_format(root, use, content):
    """A ``format.json`` that is not ours is a `FormatError` that names it; nothing is written."""
    (root / "_catalog").mkdir(parents=True)
    (root / "_catalog/format.json").write_bytes(FOREIGN[content])
    before = listing(root)
    with pytest.raises(FormatError, match=r"_catalog/format\.json") as caught:
        (READS | CREATE)[use](again(root))
    assert not isinstance(caught.value, UnsupportedVersionError)
    assert listing(root) == before


@pytest.mark.parametrize("content", NEWER)
def test_newer_format(root, content):
    """A catalog of a newer format is refused with both versions; nothing is written."""
    (root / "_catalog").mkdir(parents=True)
    (root / "_catalog/format.json").write_bytes(NEWER[content])
    before = listing(root)
    version = orjson.loads(NEWER["number"])["format_version"] if content == "number" else ""
    with pytest.raises(FormatError, match=rf"format\.json.*{version}"):
        create(again(root), "t")
    assert listing(root) == before


def test_format_is_a_directory(root):
    """A directory in the place of ``format.json`` is a storage error, not a missing catalog."""
    (root / "_catalog/format.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"format\.json"):
        create(again(root), "t")


def test_format_is_written_once(catalog, root):
    """``format.json`` says what the root is, is made by the first commit, and never again."""
    create(catalog, "t")
    first = (root / "_catalog/format.json").read_bytes()
    fields = json.loads(first)
    assert (fields["format"], fields["format_version"]) == ("jammi_files", 1)
    assert fields["catalog_id"]
    create(again(root), "u")
    assert (root / "_catalog/format.json").read_bytes() == first


def test_other_files_are_left_alone(root):
    """A root with files of other programs in it becomes a catalog beside them."""
    root.mkdir()
    (root / "data.csv").write_bytes(b"1,2")
    (root / "other").mkdir()
    create(again(root), "t")
    assert (root / "data.csv").read_bytes() == b"1,2"
    again(root).delete_result_table("t")
    assert (root / "other").is_dir()


@pytest.mark.parametrize("name", ["stray.txt", "x.parquet", "0.parquet", ".tmp", "٣.parquet"])
def test_strange_names_among_versions(catalog, root, name):
    """Objects that are no version, in the place where versions lie, change no answer."""
    create(catalog, "t")
    for place in (newest_manifest(root).parent, root / "_catalog/manifest"):
        (place / name).write_bytes(b"junk")
    (root / "_catalog/manifest/00000000000000001").mkdir()
    opened = again(root)
    assert opened.version == 1
    create(opened, "u")
    assert again(root).scan().num_rows == 2


# --- reading never writes


def store_reads(store):
    yield from (lambda each=each: each(store.catalog) for each in READS.values())
    yield store.catalog.history
    yield store.catalog.damaged
    yield store.catalog.compact
    yield store.verify_all
    yield lambda: store.derives_from("docs")
    yield lambda: store.recover(dry_run=True)
    yield lambda: store.catalog.snapshot(as_of=dt.datetime.now(dt.UTC))
    yield lambda: store.as_admin().catalog.get_checkpoint("t")
    yield lambda: store.catalog.find_ready_result_tables_by_definition("h")


def test_a_missing_root_stays_missing(root):
    """`B100`, `B266`: neither opening nor any read creates anything where no root is."""
    for read in store_reads(connect(root)):
        read()
        assert not root.exists()


def test_reads_write_nothing(store, root, monkeypatch):
    """`B231`, `B239`, `B266`: reading a full catalog changes no byte of it, cold or warm."""
    shrink_runs(monkeypatch)
    names = [build(store) for _ in range(8)]
    store.delete_table(names[3])
    before = listing(root)
    for opened in (store, connect(root)):
        for read in store_reads(opened):
            read()
        opened.verify_materialization(names[0])
        opened.open_table(names[0]).to_table()
        opened.delete_table(names[1], dry_run=True)
        assert listing(root) == before


def test_a_read_only_root(store, root):
    """A root that cannot be written is read all the same."""
    name = build(store)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        opened = connect(root)
        assert opened.verify_materialization(name).ok
        assert len(opened.catalog.history()) == 2
        if os.geteuid() != 0:
            with pytest.raises(StorageError):
                opened.create_table(*TABLE)
    finally:
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


# --- wrong arguments write nothing


ROW = {"table_name": "t", "source_id": "docs", "model_id": "m", "task": "ner", "parquet_path": "p"}
WRONG_ROWS = [
    {"table_name": bad}
    for bad in ("", None, 5, "a/b", "a\\b", "..", "a..b", ".a", "a\0", "\x7f", "n" * 300, "\ud800")
]
WRONG_ROWS += [{name: bad} for name in ("source_id", "model_id") for bad in ("", None, 5, "\ud800")]
WRONG_ROWS += [{"task": bad} for bad in ("", None, 5, "NER", " ner", [], "text_embedding ")]
WRONG_ROWS += [{"kind": bad} for bad in ("", None, 5, "Model", "graph")]
WRONG_ROWS += [{"parquet_path": bad} for bad in ("", None, 5, "../p", "a/../../p", "a\0", "\ud800")]
WRONG_ROWS += [{"index_path": bad} for bad in ("", 5, "../p", "a\0")]
WRONG_ROWS += [{"derived_from": bad} for bad in ("", 5)]
WRONG_ROWS += [{"dimensions": bad} for bad in (0, -1, 1.5, "3", True, 2**63)]
WRONG_ROWS += [{"key_column": bad} for bad in ("", 5, "\ud800")]
WRONG_ROWS += [{"text_columns": bad} for bad in ("body", 5, [""], [None], [5], ["\ud800"])]
WRONG_ROWS += [
    {"properties": bad}
    for bad in ("a", 5, ["a"], {"a": 1}, {1: "a"}, {"a": None}, {"a": "\ud800"}, {"\ud800": "a"})
]


@pytest.mark.parametrize("wrong", WRONG_ROWS, ids=ascii)
def test_wrong_rows(catalog, root, wrong):
    """`B002` to `B010`, `B050` to `B053`: a wrong value is refused before the root is touched."""
    with pytest.raises(InvalidInputError):
        catalog.create_result_table(**ROW | wrong)
    assert not root.exists()


NOT_A_NAME = ("", None, 5, b"t", ["t"])
WRONG_CALLS = {
    "update status": lambda c, bad: c.update_result_table_status("t", bad, 0),
    "update name": lambda c, bad: c.update_result_table_status(bad, "failed", 0),
    "fail name": lambda c, bad: c.fail_result_table(bad, "why"),
    "promote name": lambda c, bad: c.promote_result_table_with_manifest(bad, 1, "h", []),
    "promote hash": lambda c, bad: c.promote_result_table_with_manifest("t", 1, bad, []),
    "checkpoint name": lambda c, bad: c.set_checkpoint(bad, 1),
    "delete name": lambda c, bad: c.delete_result_table(bad),
    "plan name": lambda c, bad: c.plan_delete(bad),
    "delete source": lambda c, bad: c.delete_result_tables_for_source(bad),
    "find source": lambda c, bad: c.find_result_tables(bad),
    "find hash": lambda c, bad: c.find_ready_result_tables_by_definition(bad),
    "find anchor": lambda c, bad: c.find_ready_result_tables_anchored_on(bad),
    "resolve source": lambda c, bad: c.resolve_embedding_table(bad),
}
NOT_A_COUNT = (-1, 1.5, "1", None, True, 2**63)
WRONG_COUNTS = {
    "update": lambda c, bad: c.update_result_table_status("t", "building", bad),
    "promote": lambda c, bad: c.promote_result_table_with_manifest("t", bad, "h", []),
    "checkpoint": lambda c, bad: c.set_checkpoint("t", bad),
}
NOT_ANCHORS = ("docs", None, 5, ["docs"], [None], [{"source": "a", "anchor": "1"}])


@pytest.mark.parametrize("bad", NOT_A_NAME, ids=repr)
@pytest.mark.parametrize("call", WRONG_CALLS)
@pytest.mark.parametrize("filled", [False, True])
def test_wrong_names(catalog, root, call, bad, *, filled):
    """What is no name is an `InvalidInputError` in every call, however full the catalog is."""
    create(catalog, "t")
    if filled:
        catalog.create_result_tables(rows(*(f"x{index}" for index in range(200))))
    before = listing(root)
    with pytest.raises(InvalidInputError):
        WRONG_CALLS[call](catalog, bad)
    assert listing(root) == before


@pytest.mark.parametrize("bad", NOT_A_COUNT, ids=repr)
@pytest.mark.parametrize("call", WRONG_COUNTS)
def test_wrong_counts(catalog, root, call, bad):
    """`B028`, `B161`: what is no count is refused and changes nothing."""
    create(catalog, "t")
    before = listing(root)
    with pytest.raises(InvalidInputError):
        WRONG_COUNTS[call](catalog, bad)
    assert listing(root) == before


@pytest.mark.parametrize("bad", NOT_ANCHORS, ids=repr)
def test_wrong_anchors(catalog, root, bad):
    """`B011`: what is no list of anchors is refused and changes nothing."""
    create(catalog, "t")
    before = listing(root)
    with pytest.raises(InvalidInputError):
        catalog.promote_result_table_with_manifest("t", 1, "h", bad)
    assert listing(root) == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"durability": "maybe"},
        {"max_staleness": -1},
        {"tenant": "acme"},
        {"storage_options": {"key": "x"}},
    ],
)
def test_wrong_options(root, arguments):
    """An option that means nothing is refused when the root is opened, not ignored."""
    with pytest.raises(InvalidInputError):
        connect(root, **arguments)
    assert not root.exists()


# --- damage

BREAK = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "emptied": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello"),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.fixture
def versions(catalog, root):
    """Return a root with three versions, the newest of which is about to be damaged."""
    for name in ("t1", "t2", "t3"):
        create(catalog, name)
    return root


@pytest.mark.parametrize("damage", BREAK)
@pytest.mark.parametrize("use", READS | CREATE)
def test_damaged_newest_manifest(versions, damage, use):
    """A damaged newest version is a typed error that names it; nothing is written."""
    path = newest_manifest(versions)
    BREAK[damage](path)
    before = listing(versions)
    with pytest.raises((FormatError, StorageError), match=path.name):
        (READS | CREATE)[use](again(versions))
    assert listing(versions) == before


@pytest.mark.parametrize("damage", BREAK)
def test_earlier_versions_stay_readable(versions, damage):
    """A damaged newest version leaves every earlier one readable, as fsck advises."""
    BREAK[damage](newest_manifest(versions))
    for version in (0, 1, 2):
        assert again(versions).snapshot(version).scan().num_rows == version


def test_damaged_earlier_manifest(versions):
    """A damaged earlier version touches neither the newest one nor any commit after it."""
    first = min((versions / "_catalog/manifest").glob("*/*"))
    first.write_bytes(b"hello")
    opened = again(versions)
    assert opened.scan().num_rows == 3
    create(opened, "t4")
    with pytest.raises(FormatError, match=first.name):
        opened.snapshot(1)
    with pytest.raises(FormatError, match=first.name):
        opened.changes(1)


def test_manifest_under_another_name(versions):
    """A version that was copied to another's name is damage, and no commit goes on from it."""
    first, *_, last = sorted((versions / "_catalog/manifest").glob("*/*"))
    shutil.copy(first, last)
    before = listing(versions)
    for use in (READS["scan"], CREATE["create"]):
        with pytest.raises(FormatError, match=last.name):
            use(again(versions))
    assert listing(versions) == before


def test_newer_manifest(versions):
    """A version in a newer format is refused with its number by reads and writes alike."""
    last = newest_manifest(versions)
    header, table, _ = manifest.decode_manifest("", last.read_bytes())
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr("jammi_files.header.FORMAT_VERSION", 2)
        last.write_bytes(manifest.encode_manifest(header, table))
    before = listing(versions)
    for use in (READS | CREATE).values():
        with pytest.raises(UnsupportedVersionError, match=rf"{last.name}.* 2"):
            use(again(versions))
    assert listing(versions) == before


def test_keys_of_a_newer_library_are_carried_on(versions):
    """What a newer library says in a manifest of this format outlives the commits of this one."""
    last = newest_manifest(versions)
    header, table, _ = manifest.decode_manifest("", last.read_bytes())
    told = dataclasses.replace(header, extra={"checksum": {"sha": ["abc", None]}})
    last.write_bytes(manifest.encode_manifest(told, table))
    catalog = again(versions)
    create(catalog, "t4")
    catalog.delete_result_table("t4")
    newest = manifest.decode_header("", newest_manifest(versions).read_bytes())
    assert newest.version == header.version + 2
    assert newest.extra == told.extra


@pytest.fixture
def segments(catalog, root):
    """Return a root whose newest version has a segment and whose first has none."""
    create(catalog, "first")
    catalog.create_result_tables(rows(*(f"t{index}" for index in range(200))))
    create(catalog, "last")
    (path,) = (root / "_catalog/segments").iterdir()
    return root, path


@pytest.mark.parametrize("damage", [*BREAK, "missing"])
@pytest.mark.parametrize("use", READS | {"create": lambda c: create(c, "t1x")})
def test_damaged_segment(segments, damage, use):
    """A damaged segment is a typed error that names it when it is needed; nothing is written."""
    root, path = segments
    if damage == "missing":
        path.unlink()
    else:
        BREAK[damage](path)
    before = listing(root)
    call = (READS | {"create": lambda c: create(c, "t1x")})[use]
    with pytest.raises((FormatError, StorageError), match=path.name):
        call(again(root))
    assert listing(root) == before


@pytest.mark.parametrize("damage", BREAK)
def test_versions_before_a_damaged_segment(segments, damage):
    """A version that does not list the damaged segment is readable, and so are rows beside it."""
    root, path = segments
    BREAK[damage](path)
    opened = again(root)
    assert opened.snapshot(1).scan().num_rows == 1
    assert opened.get_result_table("first").table_name == "first"
    assert opened.get_result_table("last").table_name == "last"


def test_foreign_parquet_as_segment(segments):
    """A Parquet file of something else in a segment's place is damage like any other."""
    root, path = segments
    pq.write_table(DATA, path)
    with pytest.raises(FormatError, match=path.name):
        again(root).get_result_table("t1")


def test_repaired_manifest(versions):
    """Once the damaged object is restored the catalog goes on as if nothing had been."""
    path = newest_manifest(versions)
    sound = path.read_bytes()
    path.write_bytes(sound[:50])
    opened = again(versions)
    with pytest.raises(FormatError):
        opened.scan()
    path.write_bytes(sound)
    assert opened.scan().num_rows == 3
    create(opened, "t4")
    assert again(versions).version == 4
