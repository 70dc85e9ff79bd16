"""Sources that change behind the back of a version: same size, same time, another name, a flag.

The tests of real Delta and Iceberg tables run where `deltalake` and `pyiceberg` are installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support.pipelines import make

from jammi_files import (
    InvalidInputError,
    delta_version,
    directory_version,
    file_version,
    git_version,
    iceberg_version,
    source_anchor,
    source_version,
    source_versions,
)

LONG_AGO = 1_000_000_000_000_000_000


@pytest.fixture
def settled(monkeypatch):
    """Let whatever was written have been written long ago: only then is a digest kept."""
    later = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)


def put(path, data):
    """Write a file as if it had been modified long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return path


def change(path, data, tick=1):
    """Rewrite a file with as many bytes, put its time back, and let the change time tick.

    ``tick`` is how many nanoseconds whoever looks at that time tells apart.
    """
    before = path.stat()
    assert len(data) == before.st_size
    while path.stat().st_ctime_ns // tick == before.st_ctime_ns // tick:
        put(path, data)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )


# --- files --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("settled")
def test_same_size_time_and_inode(tmp_path):
    """`B219`: a file rewritten in place, its time put back, is another version."""
    path = put(tmp_path / "docs.csv", b"one")
    before = file_version(path)
    change(path, b"two")
    assert file_version(path) != before
    change(path, b"one")
    assert file_version(path) == before


@pytest.mark.usefixtures("settled")
def test_inode_of_another_file(tmp_path):
    """`B219`: two names of one inode are one content, and a write through one shows in both."""
    path = put(tmp_path / "a", b"one")
    other = tmp_path / "b"
    os.link(path, other)
    before = file_version(path)
    assert file_version(other) == before
    change(other, b"two")
    assert file_version(path) == file_version(other) != before


@pytest.mark.usefixtures("settled")
def test_link_that_is_turned(tmp_path):
    """`B219`: a link is what it points to now, though it was not touched itself in between."""
    first, second = put(tmp_path / "v1", b"one"), put(tmp_path / "v2", b"two")
    link, folder = tmp_path / "current", tmp_path / "folder"
    link.symlink_to(first)
    folder.mkdir()
    (folder / "data").symlink_to(link)
    before = file_version(link), directory_version(folder)
    link.unlink()
    link.symlink_to(second)
    after = file_version(link), directory_version(folder)
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_links_in_a_circle(tmp_path):
    """`B219`: a link that leads to itself is refused, not followed for ever."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InvalidInputError):
        source_version(tmp_path / "a")
    with pytest.raises(InvalidInputError, match="no regular file"):
        source_version(tmp_path)


@pytest.mark.usefixtures("settled")
def test_directory_with_equal_listing(tmp_path):
    """`B219`: contents that change places, all names, sizes and times alike, are another one."""
    one, two = put(tmp_path / "d/a", b"one"), put(tmp_path / "d/b", b"two")
    before = directory_version(tmp_path / "d")
    change(one, b"two")
    change(two, b"one")
    assert directory_version(tmp_path / "d") != before


def test_named_pipe(tmp_path):
    """`B219`: what would block its reader is refused before it is opened."""
    os.mkfifo(tmp_path / "pipe")
    for location in (tmp_path / "pipe", tmp_path, [tmp_path / "pipe"]):
        with pytest.raises(InvalidInputError, match="no regular file"):
            source_version(location)


# --- Parquet datasets ---------------------------------------------------------------------------


@pytest.mark.usefixtures("settled")
def test_parquet_file_of_equal_shape(tmp_path):
    """`B219`: a data file of the same schema, rows and bytes long is told by its contents."""
    for number in (1, 2):
        part = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"x": [number]}), part, compression=None)
    first, second = tmp_path / "1.parquet", (tmp_path / "2.parquet").read_bytes()
    dataset = ds.dataset([str(first)])
    put(first, first.read_bytes())
    before = source_version(dataset)
    change(first, second)
    assert source_version(dataset) != before


def test_files_added_to_a_dataset(tmp_path):
    """`B219`: a dataset has the files it was opened with; opened again, or as a path, all."""
    pq.write_table(pa.table({"x": [1]}), tmp_path / "1.parquet")
    dataset = ds.dataset(tmp_path)

    def opened_again():
        return source_version(ds.dataset(tmp_path))

    before = source_version(dataset), source_version(opened_again), source_version(tmp_path)
    pq.write_table(pa.table({"x": [2]}), tmp_path / "2.parquet")
    after = source_version(dataset), source_version(opened_again), source_version(tmp_path)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]


# --- git ----------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """Return a clean checkout of one commit."""
    base = tmp_path / "checkout"
    put(base / "docs.csv", b"one")
    git(base, "init", "-q")
    git(base, "add", "-A")
    git(base, "commit", "-q", "-m", "m")
    return base


def git(base, *arguments):
    name = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", base, *name, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_files_that_git_overlooks(checkout, flag):
    """`B219`: git calls a checkout clean whose flagged files have changed; it is refused."""
    git(checkout, "update-index", flag, "docs.csv")
    (checkout / "docs.csv").write_bytes(b"two")
    assert not subprocess.check_output(["git", "-C", checkout, "status", "--porcelain"])
    with pytest.raises(InvalidInputError, match=r"1 files .* \(first 'docs.csv'.*directory_versi"):
        source_version(checkout)
    git(checkout, "update-index", f"--no-{flag[2:]}", "docs.csv")
    with pytest.raises(InvalidInputError, match="differs from its commit"):
        source_version(checkout)


def test_configured_to_look_less_closely(checkout):
    """`B219`: a configuration that compares sizes and times alone does not hide a rewrite."""
    git(checkout, "config", "core.trustctime", "false")
    git(checkout, "config", "core.checkStat", "minimal")
    assert git_version(checkout).startswith("git:")
    change(checkout / "docs.csv", b"two", tick=10**9)  # git compares whole seconds
    with pytest.raises(InvalidInputError, match="differs from its commit"):
        git_version(checkout)


# --- Delta and Iceberg --------------------------------------------------------------------------


@pytest.mark.parametrize("staged", ["_staged_commits", "_commits"])
def test_delta_commits_that_a_catalog_holds(tmp_path, staged):
    """`B219`: commits that only a catalog can order are refused under either name."""
    put(tmp_path / "_delta_log" / f"{0:020}.json", b"{}")
    assert delta_version(tmp_path).startswith("delta:0:")
    put(tmp_path / "_delta_log" / staged / f"{1:020}.80a0.json", b"{}")
    with pytest.raises(InvalidInputError, match="asks the catalog"):
        delta_version(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("00009-80a0.metadata.json", "00010-90b1.metadata.json"),
        ("v9.metadata.json", "v10.metadata.json"),
        ("v9.metadata.json", "v10.gz.metadata.json"),
    ],
)
def test_iceberg_file_that_another_follows(tmp_path, store, old, new):
    """`B219`, `B244`: a table that moved on is never called fresh by its old metadata file."""
    data = b'{"table-uuid":"u","current-snapshot-id":%d}'
    path = put(tmp_path / "metadata" / old, data % 1)
    name = make(store, [source_anchor("docs", path)])
    resolvers = {"source_version": source_versions({"docs": path})}
    assert store.staleness(name, resolvers=resolvers).ok
    put(tmp_path / "metadata" / new, data % 2)
    with pytest.raises(InvalidInputError, match=f"followed by '{new}'.*asks the catalog"):
        store.staleness(name, resolvers=resolvers)
    asked = {"source_version": source_versions({"docs": lambda: iceberg_version(path)})}
    assert store.staleness(name, resolvers=asked).ok  # whoever asked the catalog knows better


def test_real_delta_table(tmp_path):
    """`B219`: every commit of a real table moves its version; reading it does not."""
    deltalake = pytest.importorskip("deltalake")
    path = str(tmp_path / "t")
    seen = []
    for number in range(3):
        deltalake.write_deltalake(path, pa.table({"x": [number]}), mode="append")
        seen.append(source_version(path))
    table = deltalake.DeltaTable(path)
    table.to_pyarrow_table()
    table.create_checkpoint()
    assert source_version(path) == seen[-1]
    table.delete("x = 1")
    seen.append(source_version(path))
    table.restore(1)
    seen.append(source_version(path))
    assert len(set(seen)) == len(seen) == 5
    assert [each.split(":")[1] for each in seen] == ["0", "1", "2", "3", "4"]
    shutil.rmtree(path)
    deltalake.write_deltalake(path, pa.table({"x": [7]}))
    assert source_version(path).startswith("delta:0:")
    assert source_version(path) not in seen


def test_real_iceberg_table(tmp_path):
    """`B219`: every snapshot of a real table moves its version, a rollback moves it back."""
    catalogs = pytest.importorskip("pyiceberg.catalog.sql")
    home = f"file://{tmp_path}"
    catalog = catalogs.SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=home)
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=pa.schema([("x", pa.int64())]))

    def now():
        location = catalog.load_table("n.t").metadata_location
        return iceberg_version(location.removeprefix("file://"))

    seen = [source_version(now)]
    first = table.metadata_location.removeprefix("file://")
    for number in range(2):
        table.append(pa.table({"x": [number]}))
        seen.append(source_version(now))
    assert len(set(seen)) == 3
    with pytest.raises(InvalidInputError, match="is followed by"):
        source_version(first)
