"""Versions of raw sources: what moves them, what does not, and what is refused."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.pipelines import hashed, make

from jammi_files import (
    AnchorKind,
    Fresh,
    InputAdvanced,
    InputVanished,
    InvalidInputError,
    NotFoundError,
    Stale,
    StateError,
    dataset_version,
    delta_version,
    directory_version,
    file_version,
    file_versions,
    git_version,
    iceberg_version,
    object_version,
    source_anchor,
    source_version,
    source_versions,
    unpinned_anchor,
)
from jammi_files.timestamps import parse_timestamp

LONG_AGO = 1_000_000_000_000_000_000


@pytest.fixture
def file(tmp_path):
    """Return a file that nobody has touched for a long time."""
    return aged(tmp_path / "docs.csv", b"id,text\n1,a\n")


@pytest.fixture
def tree(tmp_path):
    """Return a directory of such files."""
    base = tmp_path / "tree"
    for name in ("a.csv", "b/c.csv", "b/d/e.csv"):
        aged(base / name, name.encode())
    return base


@pytest.fixture
def reads(monkeypatch):
    """Count how often bytes are digested."""
    calls = []
    digest = hashlib.file_digest

    def counting(file, name):
        calls.append(file.name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return calls


def aged(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return path


def settle(monkeypatch):
    """Let every file have been touched long ago: the change time cannot be set, the clock can."""
    later = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)


# --- files --------------------------------------------------------------------------------------


def test_file(file):
    """`B219`: a file's version is its SHA-256 and its size."""
    data = file.read_bytes()
    expected = f"file:sha256:{hashlib.sha256(data).hexdigest()}:{len(data)}"
    assert file_version(file) == source_version(file) == source_version(str(file)) == expected
    assert source_version(f"file://{file}") == expected


def test_anchor(file):
    """`B219`: the anchor of a source is a pinned `source_version`."""
    anchor = source_anchor("docs", file)
    assert (anchor.source, anchor.kind) == ("docs", AnchorKind.SOURCE_VERSION)
    assert anchor.anchor == file_version(file)
    assert anchor.is_pinned


def test_content_alone(tmp_path, file):
    """`B219`: name, place, age and mode do not matter; a byte does."""
    copy = aged(tmp_path / "elsewhere" / "other", file.read_bytes())
    copy.chmod(0o600)
    assert file_version(copy) == file_version(file)
    copy.write_bytes(file.read_bytes() + b"\n")
    assert file_version(copy) != file_version(file)


def test_link_to_a_file(tmp_path, file):
    """`B219`: a link is what it points to."""
    link = tmp_path / "link"
    link.symlink_to(file)
    assert file_version(link) == file_version(file)


def test_a_file_is_read_once(file, reads, monkeypatch):
    """`B219`: an unchanged file is not read again."""
    settle(monkeypatch)
    assert len({file_version(file) for _ in range(3)}) == 1
    assert len(reads) == 1


@pytest.mark.parametrize("change", ["rewrite", "replace", "same size and time"])
def test_a_changed_file_is_read_again(file, reads, monkeypatch, change):
    """`B219`: a new inode, size, modification or change time is a file to be read."""
    settle(monkeypatch)
    before = file_version(file)
    data = file.read_bytes()
    if change == "rewrite":
        file.write_bytes(data + b"2,b\n")
    elif change == "replace":
        os.replace(aged(file.with_name("new"), data[::-1]), file)  # noqa: PTH105 - the very call
    else:
        changed = file.stat().st_ctime_ns
        while file.stat().st_ctime_ns == changed:  # the file system's clock has to tick
            aged(file, data[::-1])
    assert file_version(file) != before
    assert len(reads) == 2


def test_a_fresh_file_is_not_trusted(file, reads):
    """`B219`: a file touched a moment ago is read twice and not kept: a tick hides a change."""
    file.write_bytes(b"now")
    file_version(file)
    file_version(file)
    assert len(reads) == 4
    assert not file_versions._digests.keys() & {file_versions._identity(file.stat())}


def test_memory_is_bounded(tree, monkeypatch):
    """`B219`: the digests that are kept do not grow without end."""
    settle(monkeypatch)
    monkeypatch.setattr(file_versions, "_KNOWN_FILES", 2)
    before = directory_version(tree)
    assert len(file_versions._digests) <= 2
    assert directory_version(tree) == before


def changing(monkeypatch, path, times):
    """Change a file each time that it has been read, so many times."""
    digest, left = hashlib.file_digest, [times]

    def meddling(file, name):
        found = digest(file, name)
        if left[0] and Path(file.name) == path:
            left[0] -= 1
            path.write_bytes(path.read_bytes() + b"x")
        return found

    monkeypatch.setattr(hashlib, "file_digest", meddling)


@pytest.mark.parametrize("whole", [file_version, lambda path: directory_version(path.parent)])
def test_a_file_that_changes_while_it_is_read(file, monkeypatch, whole):
    """`B219`: what was read while it changed is read again, and given up if it goes on."""
    changing(monkeypatch, file, 1)
    assert whole(file) == whole(file)
    changing(monkeypatch, file, 1000)
    with pytest.raises(StateError, match=f"'{re.escape(str(file))}' kept changing while it was"):
        whole(file)


def test_a_change_within_one_tick(file, monkeypatch):
    """`B219`: a change that leaves size and times alone is seen by reading a fresh file twice."""
    file.write_bytes(b"now")
    status, digests = file.stat(), iter(["a" * 64, "b" * 64, "c" * 64, "c" * 64])
    monkeypatch.setattr(file_versions, "_read", lambda _: next(digests))
    assert file_version(file) == f"file:sha256:{'c' * 64}:3"
    assert file.stat() == status


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_database_with_changes_beside_it(tmp_path, suffix):
    """A database whose newest changes are in another file is refused; closed, it is a file."""
    path = tmp_path / "docs.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={'wal' if suffix == '-wal' else 'delete'}")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (1)")
    if suffix == "-journal":
        path.with_name("docs.db-journal").write_bytes(b"hot")
    with pytest.raises(InvalidInputError, match=f"changes in 'docs.db{suffix}'"):
        file_version(path)
    with pytest.raises(InvalidInputError, match=f"changes in 'docs.db{suffix}'"):
        dataset_version([path])
    connection.rollback()
    connection.close()
    path.with_name("docs.db-journal").unlink(missing_ok=True)
    assert file_version(path).startswith("file:sha256:")


# --- directories and lists of files -------------------------------------------------------------


def test_directory(tree, tmp_path):
    """`B219`: a directory's version is that of its files by relative path, wherever it lies."""
    version = source_version(tree)
    assert re.fullmatch(r"directory:sha256:[0-9a-f]{64}:3", version)
    assert directory_version(shutil.copytree(tree, tmp_path / "copy")) == version
    (tree / "empty").mkdir()
    assert directory_version(tree) == version


@pytest.mark.parametrize("change", ["content", "name", "new", "gone", "moved"])
def test_directory_changes(tree, change):
    """`B219`: any change of a file below a directory moves its version."""
    before = directory_version(tree)
    if change == "content":
        (tree / "b/d/e.csv").write_bytes(b"other")
    elif change == "name":
        (tree / "a.csv").rename(tree / "z.csv")
    elif change == "new":
        (tree / "b/new").touch()
    elif change == "gone":
        (tree / "a.csv").unlink()
    else:
        (tree / "b/c.csv").rename(tree / "c.csv")
    assert directory_version(tree) != before


def test_nothing_moves_between_names_and_contents(tmp_path):
    """`B219`: a byte cannot move from a name to a content, nor from one file to the next."""
    versions = set()
    for number, files in enumerate([{"ab": b"c"}, {"a": b"bc"}, {"a": b"b", "c": b""}]):
        for name, data in files.items():
            aged(tmp_path / str(number) / name, data)
        versions.add(directory_version(tmp_path / str(number)).rpartition(":")[0])
    assert len(versions) == 3


@pytest.mark.parametrize("kind", ["directory link", "dangling link", "socket"])
def test_what_a_directory_must_not_hold(tree, kind):
    """`B219`: what would be left out in silence is refused by name."""
    odd = tree / "b" / "odd"
    if kind == "directory link":
        odd.symlink_to(tree.parent)
    elif kind == "dangling link":
        odd.symlink_to(tree / "nothing")
    else:
        server = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        os.chdir(tree / "b")  # a socket's path may not be long
        server.bind("odd")
        server.close()
        os.chdir(here)
    with pytest.raises(InvalidInputError, match=f"'{re.escape(str(odd))}' is no regular file"):
        directory_version(tree)


def test_linked_files_count(tree, file):
    """`B219`: a linked file, as model caches have them, counts with its contents."""
    (tree / "linked").symlink_to(file)
    before = directory_version(tree)
    file.write_bytes(b"other")
    assert directory_version(tree) != before


def test_list_of_files(tree, tmp_path):
    """`B219`: a list of files is pinned by order, contents and names below what they share."""
    files = [tree / "b/c.csv", tree / "b/d/e.csv"]
    version = source_version(files)
    assert re.fullmatch(r"files:sha256:[0-9a-f]{64}:2", version)
    assert dataset_version([str(each) for each in files]) == version
    copy = shutil.copytree(tree, tmp_path / "copy")
    assert dataset_version([copy / "b/c.csv", copy / "b/d/e.csv"]) == version
    assert dataset_version(files[::-1]) != version
    (tree / "b/d").rename(tree / "b/f")
    assert dataset_version([tree / "b/c.csv", tree / "b/f/e.csv"]) != version


def test_parquet_dataset(tmp_path):
    """`B219`: a Parquet dataset is its list of files, partitions included."""
    table = pa.table({"year": [1, 2], "x": ["a", "b"]})
    ds.write_dataset(
        table, tmp_path / "p", format="parquet", partitioning=["year"], partitioning_flavor="hive"
    )
    dataset = ds.dataset(tmp_path / "p", format="parquet", partitioning="hive")
    before = source_version(dataset)
    assert before == dataset_version(dataset.files)
    (tmp_path / "p/year=2").rename(tmp_path / "p/year=3")
    assert source_version(ds.dataset(tmp_path / "p", format="parquet")) != before


@given(st.dictionaries(st.sampled_from(["a", "b", "c/d", "c/e"]), st.binary(max_size=3)))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equal_versions_mean_equal_trees(tmp_path, files):
    """`B219`: two directories have one version exactly if they hold the same files."""
    base = tmp_path / str(time.monotonic_ns())
    base.mkdir()
    for name, data in files.items():
        aged(base / name, data)
    seen = KNOWN_TREES.setdefault(directory_version(base), files)
    assert seen == files
    assert len({str(sorted(each.items())) for each in KNOWN_TREES.values()}) == len(KNOWN_TREES)


KNOWN_TREES = {}

# --- Delta, Iceberg, git ------------------------------------------------------------------------


@pytest.fixture
def delta(tmp_path):
    """Return a Delta table of three commits."""
    log = tmp_path / "delta" / "_delta_log"
    for version in range(3):
        aged(log / f"{version:020}.json", b'{"commitInfo":{"timestamp":%d}}' % version)
    return log.parent


def test_delta(delta):
    """`B219`: a Delta table is pinned by its newest commit."""
    assert re.fullmatch("delta:2:[0-9a-f]{16}", source_version(delta))
    before = delta_version(delta)
    (delta / "part.parquet").write_bytes(b"not committed")
    (delta / "_delta_log" / "_last_checkpoint").write_bytes(b"{}")
    (delta / "_delta_log" / f"{2:020}.crc").write_bytes(b"{}")
    (delta / "_delta_log" / f"{2:020}.checkpoint.parquet").write_bytes(b"x")
    assert delta_version(delta) == before
    (delta / "_delta_log" / f"{3:020}.json").write_bytes(b"{}")
    assert delta_version(delta).startswith("delta:3:")


def test_delta_made_anew(delta):
    """`B219`: a table made anew at the same place counts from 0 and is another one."""
    before = delta_version(delta)
    (delta / "_delta_log" / f"{2:020}.json").write_bytes(b"{}")
    assert delta_version(delta) != before


@pytest.mark.parametrize(
    "name", ["checkpoint.parquet", "checkpoint.0001.0002.parquet", "checkpoint.80a0.parquet"]
)
def test_delta_checkpoint_alone(delta, name):
    """`B219`: a log may have kept only the checkpoint of its newest version."""
    (delta / "_delta_log" / f"{7:020}.{name}").write_bytes(b"x")
    assert delta_version(delta).startswith("delta:7:")


def test_delta_that_cannot_be_pinned(delta, tmp_path):
    """`B219`: no log, an empty one, and one whose commits a catalog orders are refused."""
    with pytest.raises(NotFoundError, match="no _delta_log"):
        delta_version(tmp_path)
    staged = delta / "_delta_log" / "_staged_commits"
    staged.mkdir()
    assert delta_version(delta).startswith("delta:2:")
    (staged / f"{3:020}.80a0.json").write_bytes(b"{}")
    with pytest.raises(InvalidInputError, match="give a callable that asks the catalog"):
        source_version(delta)
    shutil.rmtree(delta / "_delta_log")
    (delta / "_delta_log").mkdir()
    with pytest.raises(InvalidInputError, match="has no commit to pin"):
        source_version(delta)


def iceberg(path, snapshot=5, schema=1, hint=None, name="v3.metadata.json"):
    """Write an Iceberg table's metadata and return the table."""
    metadata = path / "metadata"
    metadata.mkdir(parents=True, exist_ok=True)
    fields = {"table-uuid": "u-1", "current-snapshot-id": snapshot, "current-schema-id": schema}
    data = json.dumps(fields).encode()
    (metadata / name).write_bytes(gzip.compress(data) if ".gz." in name else data)
    if hint is not None:
        (metadata / "version-hint.text").write_text(hint)
    return path


@pytest.mark.parametrize("name", ["v3.metadata.json", "v3.gz.metadata.json"])
def test_iceberg(tmp_path, name):
    """`B219`: an Iceberg table is pinned by its current snapshot and schema."""
    table = iceberg(tmp_path / "t", hint="3\n", name=name)
    assert source_version(table) == "iceberg:u-1:5:schema-1"
    assert source_version(table / "metadata" / name) == "iceberg:u-1:5:schema-1"
    iceberg(table, schema=2, name=name)
    assert iceberg_version(table) == "iceberg:u-1:5:schema-2"


@pytest.mark.parametrize("empty", [None, -1])
def test_empty_iceberg(tmp_path, empty):
    """`B219`: a table without a snapshot is pinned as empty."""
    assert iceberg_version(iceberg(tmp_path, empty, hint="3")) == "iceberg:u-1:empty:schema-1"


def test_iceberg_that_cannot_be_pinned(tmp_path):
    """`B219`: without a hint the newest file need not be the current one, so it is not taken."""
    table = iceberg(tmp_path / "t", name="00003-80a0.metadata.json")
    with pytest.raises(InvalidInputError, match="has no version-hint"):
        source_version(table)
    iceberg(table, hint="9")
    with pytest.raises(InvalidInputError, match="no metadata file for its version hint '9'"):
        source_version(table)
    with pytest.raises(NotFoundError, match="no Iceberg table"):
        iceberg_version(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="no Iceberg metadata"):
        iceberg_version(tmp_path / "nothing.metadata.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"format-version":2}'])
def test_damaged_iceberg(tmp_path, data):
    """`B219`: what is no Iceberg metadata is refused."""
    path = tmp_path / "v1.metadata.json"
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match="is no Iceberg metadata"):
        iceberg_version(path)


@pytest.fixture
def checkout(tmp_path):
    """Return a clean checkout of one commit."""
    base = tmp_path / "checkout"
    aged(base / "data/docs.csv", b"a")
    aged(base / "src/main.py", b"print()")
    aged(base / ".gitignore", b"*.log\n")
    git(base, "init", "-q")
    commit(base)
    return base


def git(base, *arguments):
    """Run git as nobody in particular."""
    name = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", base, *name, *arguments], check=True, capture_output=True)


def commit(base):
    git(base, "add", "-A")
    git(base, "commit", "-q", "-m", "m", "--allow-empty")


def test_git(checkout, tmp_path):
    """`B219`: a checkout is pinned by what its commit holds, not by when it was made."""
    version = source_version(checkout)
    assert re.fullmatch("git:[0-9a-f]{40,64}", version)
    commit(checkout)
    assert git_version(checkout) == version
    git(tmp_path, "clone", "-q", str(checkout), "clone")
    assert git_version(tmp_path / "clone") == version
    (checkout / "src/main.py").write_bytes(b"other")
    commit(checkout)
    assert git_version(checkout) != version


def test_git_subdirectory(checkout):
    """`B219`: a directory within a checkout moves only with what it holds itself."""
    version = git_version(checkout / "data")
    (checkout / "src/main.py").write_bytes(b"other")
    assert git_version(checkout / "data") == version
    commit(checkout)
    assert git_version(checkout / "data") == version
    assert version != git_version(checkout)
    assert source_version(checkout / "data").startswith("directory:")


@pytest.mark.parametrize("change", ["changed", "staged", "untracked", "deleted"])
def test_dirty_checkout(checkout, change):
    """`B219`: a checkout that differs from its commit is refused; ignored files do not count."""
    (checkout / "run.log").write_bytes(b"ignored")
    assert git_version(checkout)
    if change == "untracked":
        (checkout / "new.csv").touch()
    elif change == "deleted":
        (checkout / "data/docs.csv").unlink()
    else:
        (checkout / "data/docs.csv").write_bytes(b"other")
    if change == "staged":
        git(checkout, "add", "-A")
    with pytest.raises(InvalidInputError, match=r"differs from its commit \(1 files.*directory_ve"):
        source_version(checkout)


def test_git_looks_at_this_checkout(checkout, tmp_path, monkeypatch):
    """`B219`: variables of another repository, as a hook has them, change nothing."""
    version = git_version(checkout)
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "none"))
    assert git_version(checkout) == version


def test_no_checkout(tmp_path, monkeypatch):
    """`B219`: no checkout, no commit, no directory and no git are refused, saying so."""
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InvalidInputError, match="cannot be pinned by git"):
            git_version(path)
    git(tmp_path, "init", "-q")
    with pytest.raises(InvalidInputError, match="cannot be pinned by git"):
        source_version(tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InvalidInputError, match="no program 'git'"):
        git_version(tmp_path)


# --- stores, callables, and what cannot be pinned -----------------------------------------------


def test_memory_object():
    """`B219`: an object in memory is pinned like a file."""
    fsspec.filesystem("memory").pipe_file("/pin/docs.csv", b"abc")
    expected = f"file:sha256:{hashlib.sha256(b'abc').hexdigest()}:3"
    assert source_version("memory://pin/docs.csv") == expected
    with pytest.raises(NotFoundError, match="no object 'memory://pin/none'"):
        source_version("memory://pin/none")


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"name": "b/k", "size": 3, "ETag": '"abc"'}, "etag:abc:3"),
        ({"name": "b/k", "size": 3, "etag": "abc-2", "mtime": 1}, "etag:abc-2:3"),
        ({"size": 3, "generation": "17", "etag": "x"}, "generation:17:3"),
        ({"size": 3, "generation": 17}, "generation:17:3"),
        ({"Size": 3, "VersionId": "v", "ETag": "x"}, "versionid:v:3"),
        ({"size": 3, "VersionId": "null", "ETag": "x"}, "etag:x:3"),
        ({"size": 3, "version_id": None, "etag": "x"}, "etag:x:3"),
    ],
)
def test_object_version(info, version):
    """`B219`: what `fs.info` says of an object pins it: generation, version id or entity tag."""
    assert object_version(info) == version
    assert source_version(lambda: object_version(info)) == version


def test_object_versions():
    """`B219`: several objects are pinned together, in whatever order a listing has them."""
    infos = [{"name": f"b/{each}", "size": 1, "etag": each} for each in "abc"]
    version = object_version(infos)
    assert re.fullmatch("objects:sha256:[0-9a-f]{64}:3", version)
    assert object_version(infos[::-1]) == version
    assert object_version(infos[:2]) != version
    assert object_version([{**infos[0], "name": "z"}, *infos[1:]]) != version


@pytest.mark.parametrize(
    "info",
    [
        {"name": "b/k", "size": 3, "mtime": 1},
        {"name": "b/k", "size": 3, "etag": 'W/"abc"'},
        {"name": "b/k", "size": 3, "etag": ""},
        [],
        [{"name": "b/k", "size": 3, "etag": "x"}, {"name": "b/d", "type": "directory"}],
    ],
)
def test_object_without_a_version(info):
    """`B219`: a size or a time alone, a weak tag and an empty listing pin nothing."""
    with pytest.raises(InvalidInputError, match="nothing"):
        object_version(info)


@pytest.mark.parametrize(("answer", "version"), [("v7", "v7"), (7, "7"), (0, "0")])
def test_callable(answer, version):
    """`B219`: a callable's own answer is the version."""
    assert source_anchor("docs", lambda: answer).anchor == version


@pytest.mark.parametrize("answer", [None, "", True, 1.5, b"v", ["v"]])
def test_callable_without_an_answer(answer):
    """`B219`: a callable that returns no version makes no anchor."""
    with pytest.raises(InvalidInputError, match="the version that a source's callable returned"):
        source_anchor("docs", lambda: answer)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://bucket/docs.csv", r"lambda: object_version\(fsspec.filesystem\('s3'\).info"),
        ("https://x/docs.csv", "give a callable that asks it"),
        ("postgres://host/db", "give a callable that asks it"),
        ("", "give a path to a file or directory, a list of files, or a callable"),
        (None, "a value of type NoneType cannot be pinned; give a path"),
        (7, "a value of type int cannot be pinned; give a path"),
        (pa.table({"x": [1]}), "a value of type Table cannot be pinned; give a path"),
        ([], "an empty list of files pins nothing"),
        (ds.dataset(pa.table({"x": [1]})), "only a dataset of local files can be pinned"),
        ("/dev/null", "is no regular file; give a callable"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_cannot_be_pinned(location, message):
    """`B219`: what cannot be pinned is an error that says what would work, never an anchor."""
    with pytest.raises(InvalidInputError, match=message):
        source_anchor("docs", location)


def test_nothing_there(tmp_path):
    """`B219`: a path where nothing is, is not found."""
    for missing in (tmp_path / "none", [tmp_path / "none"]):
        with pytest.raises(NotFoundError, match="there is no file"):
            source_version(missing)
    with pytest.raises(NotFoundError, match="there is no directory"):
        directory_version(tmp_path / "none")


@pytest.mark.parametrize("source", ["", None, 7])
def test_wrong_source(source, file):
    """A source id must be text."""
    with pytest.raises(InvalidInputError, match="source_id"):
        source_anchor(source, file)


def test_unreadable_file(file):
    """`B219`: a file that may not be read is refused, not skipped."""
    file.chmod(0)
    with _not_as_super_user(), pytest.raises(InvalidInputError, match="cannot pin"):
        file_version(file)


@contextlib.contextmanager
def _not_as_super_user():
    """Give up, for a while, the right to read everything."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def test_unpinned_anchor():
    """`B218`: the instant of an unpinned anchor is the one before the read."""
    before = time.time_ns()
    anchor = unpinned_anchor("docs")
    assert before <= parse_timestamp(anchor.anchor) <= time.time_ns() + 1_000_000
    assert (anchor.source, anchor.kind) == ("docs", AnchorKind.UNPINNED_AT_INSTANT)
    assert anchor.anchor.endswith("+00:00")


# --- what they are for --------------------------------------------------------------------------


def test_a_pinned_source_is_cacheable(store, file):
    """`B219`: a result over a pinned file is reused until the file changes."""
    name = make(store, [source_anchor("docs", file)])
    assert store.lookup_cached(hashed(), [source_anchor("docs", file)]) == name
    file.write_bytes(b"other")
    assert store.lookup_cached(hashed(), [source_anchor("docs", file)]) is None


def test_sources_resolve_themselves(store, file):
    """`B244`: the places of sources are a resolver: fresh, advanced, vanished, or not known."""
    name = make(store, [source_anchor("docs", file)])

    def ask(**places):
        resolvers = {AnchorKind.SOURCE_VERSION: source_versions(places)}
        return store.staleness(name, hashed(), resolvers=resolvers)

    recorded = file_version(file)
    assert ask(docs=file) == Fresh()
    assert ask(mail=file).staleness == "undecidable"
    file.write_bytes(b"other")
    assert ask(docs=file) == Stale((InputAdvanced("docs", recorded, file_version(file)),))
    file.unlink()
    assert ask(docs=file) == Stale((InputVanished("docs"),))
