"""Long work on other processes and on a Dask cluster: same answers, whoever is lost on the way."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import sys
import uuid
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import dask.dataframe as dd
import duckdb
import polars as pl
import pyarrow as pa
import pytest
from support.copies import shown
from support.crews import Elsewhere, Losing, count, names_of
from support.daskery import dask_client, kill, processes_of
from support.processes import run_together
from support.results import CONTRACT, DATA, TABLE, build, row

import jammi_files
from jammi_files import (
    InvalidInputError,
    Match,
    Mismatch,
    MissingManifest,
    StorageError,
    TableNotFoundError,
    Verification,
    connect,
    copy,
    parts,
    repair,
)
from jammi_files.fsck import Kind, fsck

MANY = 1000
SMALL = 2000
"""Bytes within which every handle has room, however much its root holds."""


@pytest.fixture(scope="module")
def client():
    """Yield a client of a Dask cluster with two processes."""
    with dask_client() as client:
        yield client


@pytest.fixture(scope="module")
def pool():
    """Yield a pool of one process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        yield executor


@pytest.fixture(params=["processes", "dask"])
def executor(request):
    """Yield an executor whose workers are other processes."""
    if request.param == "processes":
        return request.getfixturevalue("pool")
    return request.getfixturevalue("client").get_executor()


class Remote(NamedTuple):
    """A root in a bucket."""

    root: str
    options: dict

    def connect(self):
        return connect(self.root, storage_options=self.options, cache_dir="off")


@pytest.fixture
def remote(s3_server):
    """Return a root in a bucket, with nothing in it."""
    return Remote(*s3_server.root())


def damage(store, names):
    """Make the data of the second another one's, and remove the sidecar of the third."""
    store.storage.replace(f"{names[1]}.parquet", b"other")
    store.storage.delete(f"{names[2]}.materialization.json")


def publish_many(store, server, number):
    """Make results by the hundred: as large as others, and made at once."""
    first = build(store)
    record, storage = store.catalog.get_result_table(first), store.storage
    names = [f"r{n:04}" for n in range(number - 1)]
    for suffix in (".parquet", ".materialization.json"):
        data = storage.read(f"{first}{suffix}")
        for name in names:
            target = f"{store.root.removeprefix('s3:/')}/{name}{suffix}"
            assert server.request("PUT", target, data).status == 200
    with store.catalog.transaction() as tx:
        for name in names:
            tx.create_result_table(**row(name))
            tx.promote_result_table_with_manifest(
                name, DATA.num_rows, record.definition_hash, record.input_anchors
            )
    return [first, *names]


# --- a thousand results, and a worker that is killed


def test_a_thousand_results_and_a_killed_worker(s3_server, remote, client, caplog):
    """Half-way a worker dies: each result is verified, and is once in the answer."""
    store = remote.connect()
    names = publish_many(store, s3_server, MANY)
    victim, seen = processes_of(client)[0], []

    def progress(done, total):
        seen.append((done, total))
        if done == MANY // 2:
            kill(victim)

    with s3_server.log.counting() as exchanges:
        found = store.verify_all(client.get_executor(), progress)
    assert [each.table_name for each in found] == names
    assert {each.verdict for each in found} == {Match()}
    assert seen == [(number, MANY) for number in range(1, MANY + 1)]
    assert "lost with its worker" in caplog.text
    read = {each.key.rsplit("/", 1)[1] for each in exchanges if each.key.endswith(".parquet")}
    assert {f"{name}.parquet" for name in names} <= read
    client.wait_for_workers(2, timeout=120)
    assert victim not in processes_of(client)


# --- each of the calls, on each kind of workers


def test_verify_all(remote, executor):
    """Verdicts are those of this process, the negative ones too, oldest first."""
    store = remote.connect()
    names = [build(store) for _ in range(5)]
    damage(store, names)
    seen = []
    found = store.verify_all(executor, lambda *at: seen.append(at))
    assert found == store.verify_all()
    assert [each.table_name for each in found] == names
    assert [type(each.verdict) for each in found[:3]] == [Match, Mismatch, MissingManifest]
    assert seen == [(number, 5) for number in range(1, 6)]


@pytest.mark.parametrize("deep", [False, True])
def test_fsck(remote, executor, deep):
    """Findings are those of this process, in the same order."""
    store = remote.connect()
    names = [build(store) for _ in range(5)]
    damage(store, names)
    store.create_table(*TABLE)
    catalog, seen = store.catalog.as_admin(), []
    found = fsck(catalog, deep=deep, executor=executor, progress=lambda *at: seen.append(at))
    assert found == fsck(catalog, deep=deep)
    kinds = [Kind.READY_WITHOUT_SIDECAR] + [Kind.DATA_DISAGREES] * deep
    assert {each.kind for each in found} == set(kinds)
    assert seen == [(number, 5) for number in range(1, 6)]


def test_copy(remote, executor, tmp_path):
    """A root goes from the bucket to a directory and to another bucket, by the workers."""
    store, other = remote.connect(), tmp_path / "copy"
    names = [build(store) for _ in range(5)]
    seen = []
    report = copy(
        remote.root, other, src_storage_options=remote.options, executor=executor,
        progress=seen.append,
    )  # fmt: skip
    assert report.ok
    assert seen[-1].objects == seen[-1].total_objects
    assert seen[-1].bytes == seen[-1].total_bytes
    assert shown(connect(other).storage) == shown(store.storage)
    bucket = f"{remote.root.rsplit('/', 1)[0]}/again"
    again = copy(other, bucket, dst_storage_options=remote.options, executor=executor)
    assert (again.ok, again.copied_bytes) == (True, report.copied_bytes)
    there = connect(bucket, storage_options=remote.options, cache_dir="off")
    assert [each.table_name for each in there.verify_all() if each.ok] == names


@pytest.mark.parametrize("check", ["exists", "sidecar", "size", "digest"])
def test_staleness_all(remote, executor, check):
    """Parents are looked at by the workers, each once; the answer is that of this process."""
    stale = {"exists": [1], "sidecar": [1], "size": [0, 1], "digest": [0, 1]}
    store = remote.connect()
    parents = [build_of(store, f"model{number}") for number in range(4)]
    anchors = [store.result_digest_anchor(name) for name in parents]
    for name, anchor in zip(parents, anchors, strict=True):
        build_on(store, name, anchor)
    store.storage.replace(f"{parents[0]}.parquet", b"other")
    store.storage.delete(f"{parents[1]}.parquet")
    seen = []
    docs = CONTRACT["inputs"][0]
    ask = {"check_bytes": check, "resolvers": {docs.kind: lambda _: docs.anchor}}
    found = store.staleness_all(**ask, executor=executor, progress=lambda *at: seen.append(at))
    assert found.equals(store.staleness_all(**ask))
    told = found["staleness"].to_pylist()
    assert told[:4] == ["fresh"] * 4
    assert told[4:] == ["stale" if number in stale[check] else "fresh" for number in range(4)]
    assert seen[-1] == (4, 4)
    assert seen == sorted(set(seen))


def build_of(store, model, *more, derived_from=None):
    contract = CONTRACT | {"inputs": [*CONTRACT["inputs"], *more], "derived_from": derived_from}
    with store.build("docs", "classification", "model", model, **contract) as out:
        out.write(DATA)
    return out.table_name


def build_on(store, parent, anchor):
    return build_of(store, "next", anchor, derived_from=parent)


def test_repair(remote, executor):
    """A catalog that is gone is made anew from what the workers read."""
    store = remote.connect()
    names = [build(store) for _ in range(4)]
    damage(store, names)
    for place in store.storage.list("_catalog/manifest"):
        for name in store.storage.list(f"_catalog/manifest/{place}"):
            store.storage.delete(f"_catalog/manifest/{place}/{name}")
    ask = {"owner": "global", "storage_options": remote.options}
    plan = repair(remote.root, executor=executor, **ask)
    assert plan == repair(remote.root, **ask)
    assert [each.step for each in plan.actions if each.subject in names].count("adopt") == 2


@pytest.mark.parametrize("given", ["pool", object()])
def test_what_is_no_executor(store, root, tmp_path, given):
    """It is refused before anything is read or written."""
    build(store)
    calls = [
        lambda: store.verify_all(given),
        lambda: store.staleness_all(executor=given),
        lambda: fsck(store.catalog, executor=given),
        lambda: copy(root, tmp_path / "copy", executor=given),
        lambda: repair(root, executor=given),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match="executor must be"):
            call()
    assert not (tmp_path / "copy").exists()


# --- workers that see something else than the caller


@pytest.fixture
def elsewhere(root):
    """Yield workers of a machine that has no such directory."""
    with Elsewhere(root, root.with_name("toor")) as executor:
        yield executor


def test_workers_that_do_not_see_the_directory(store, root, elsewhere, tmp_path):
    """They condemn nothing, and a copy is none before it is where the caller looks."""
    parent = build(store)
    build_on(store, parent, store.result_digest_anchor(parent))
    assert all(each.ok for each in store.verify_all(elsewhere))
    assert fsck(store.catalog.as_admin(), deep=True, executor=elsewhere) == []
    found = store.staleness_all(check_bytes="digest", executor=elsewhere)
    assert found.equals(store.staleness_all(check_bytes="digest"))
    assert copy(root, tmp_path / "copy", executor=elsewhere).ok
    assert shown(connect(tmp_path / "copy").storage) == shown(store.storage)


def test_workers_that_write_elsewhere(tmp_path):
    """What they have copied to their own disk is copied again to the caller's."""
    source, target = tmp_path / "source", tmp_path / "target"
    store = connect(source, durability="os")
    build(store)
    with Elsewhere(target, target.with_name("tegrat")) as executor:
        assert copy(source, target, executor=executor).ok
    assert shown(connect(target).storage) == shown(store.storage)
    assert target.with_name("tegrat").exists()


def test_results_in_memory(pool):
    """No other process has them: this one does the work, and a handle says why it is useless."""
    store = connect(f"memory://{uuid.uuid4().hex}")
    name = build(store)
    with pytest.raises(StorageError, match="memory of another process"):
        pickle.loads(pickle.dumps(store).replace(*process_token()))  # noqa: S301 - our own bytes
    assert [each.ok for each in store.verify_all(pool)] == [True]
    assert store.open_table(name).count_rows() == DATA.num_rows


def process_token():
    from jammi_files.memory import _PROCESS  # noqa: PLC0415 - what a test looks into

    return _PROCESS.encode(), _PROCESS[::-1].encode()


def test_a_result_that_is_deleted_meanwhile(store, monkeypatch):
    """Its answer is the error that says so, not a verdict on what is gone."""
    monkeypatch.setattr(parts, "WINDOW", 1)
    names = [build(store) for _ in range(3)]

    def progress(done, _):
        if done == 1:
            store.delete_table(names[2])

    found = store.verify_all(Losing(lambda *_: False), progress)
    assert [(each.table_name, each.ok) for each in found[:2]] == [
        (names[0], True),
        (names[1], True),
    ]
    assert found[2] == Verification(names[2], None, f"Result table '{names[2]}' not found")


# --- handles


def handles_of(store, name):
    """Return what somebody may send to a worker, by a word for it."""
    return {
        "store": store,
        "catalog": store.catalog,
        "snapshot": store.catalog.snapshot(),
        "storage": store.storage,
        "dataset": store.open_table(name),
    }


@pytest.fixture(params=["local", "bucket"])
def place(request, tmp_path):
    """Return how a root is opened: a directory's, or a bucket's with a cache."""
    if request.param == "local":
        return {"root": tmp_path / "root"}
    remote = request.getfixturevalue("remote")
    return {"root": remote.root, "storage_options": remote.options, "cache_dir": tmp_path / "cache"}


def test_handles_are_small(place):
    """What travels is where the root is and who asks, however many rows there are."""
    store = connect(**place)
    name = build(store)
    before = {word: len(pickle.dumps(each)) for word, each in handles_of(store, name).items()}
    assert max(before.values()) < 2 * SMALL
    assert max(before[word] for word in before.keys() - {"dataset"}) < SMALL / 2
    store.catalog.create_result_tables(
        pa.Table.from_pylist([row(f"more{number}") for number in range(3000)])
    )
    assert store.catalog.scan().num_rows == 3001
    after = handles_of(store, name)
    assert after["dataset"].to_table().num_rows == DATA.num_rows
    grown = {word: len(pickle.dumps(each)) - before[word] for word, each in after.items()}
    assert max(grown.values()) <= 16


def test_handles_work_in_a_process(place):
    """They connect there anew: from the pickle alone, with the scope that they had."""
    store = connect(**place)
    name = build(store)
    build(store.pinned_to_tenant("11111111-1111-1111-1111-111111111111"))
    handles = handles_of(store, name)
    given = [(handles[word], name) for word in ("store", "dataset")]
    assert run_together(count, given) == [DATA.num_rows] * 2
    given = [(handles[word],) for word in ("catalog", "snapshot")]
    assert run_together(names_of, given) == [[name]] * 2


def test_handles_work_on_a_cluster(remote, client):
    """Each result is opened by whichever worker, from one handle or from its own dataset."""
    store = remote.connect()
    names = [build(store) for _ in range(3)]
    counts = client.map(count, [store] * 3, names, pure=False)
    counts += client.map(count, [store.open_table(name) for name in names], names, pure=False)
    assert client.gather(counts) == [DATA.num_rows] * 6
    pinned = store.catalog.snapshot()
    build(store)
    assert client.submit(names_of, pinned, pure=False).result() == sorted(names)
    assert len(client.submit(names_of, store.catalog, pure=False).result()) == 4


def test_a_worker_connects_once(remote):
    """What is unpickled again is the same connection; another one's arguments are another."""
    store = remote.connect()
    name = build(store)
    again = pickle.loads(pickle.dumps(store.storage))  # noqa: S301 - our own bytes
    dataset = pickle.loads(pickle.dumps(store.open_table(name)))  # noqa: S301 - our own bytes
    assert again is not store.storage
    assert pickle.loads(pickle.dumps(store)).storage is again  # noqa: S301 - our own bytes
    assert pickle.loads(pickle.dumps(again)) is again  # noqa: S301 - our own bytes
    assert dataset.filesystem.handler.fs is again.fs
    assert dataset.count_rows() == DATA.num_rows
    options = remote.options | {"secret": "of-another"}
    other = connect(remote.root, storage_options=options, cache_dir="off").storage
    assert pickle.loads(pickle.dumps(other)) is not again  # noqa: S301 - our own bytes


def test_few_connections_are_kept(s3_server):
    """A process that sees one bucket after the other does not keep them all."""
    roots = [Remote(*s3_server.root()).connect().storage for _ in range(6)]
    kept = [pickle.loads(pickle.dumps(each)) for each in roots]  # noqa: S301 - our own bytes
    again = [pickle.loads(pickle.dumps(each)) for each in roots[::-1]]  # noqa: S301 - our own bytes
    shared = [one is two for one, two in zip(kept[::-1], again, strict=True)]
    assert shared == [True] * 4 + [False] * 2


def test_handles_show_no_secret(remote):
    """Neither a handle nor a dataset prints what it travels with."""
    secret = remote.options["secret"]
    store = remote.connect()
    name = build(store)
    for each in handles_of(store, name).values():
        assert secret not in f"{each!r} {each!s}"
    dataset = store.open_table(name)
    assert secret not in f"{dataset.filesystem!r} {dataset.filesystem.handler!r} {dataset.files}"


# --- other programs read the bucket themselves


def spelled(options):
    """Return the options as object_store spells them, which this library understands too."""
    return {
        "aws_access_key_id": options["key"],
        "aws_secret_access_key": options["secret"],
        "aws_endpoint_url": options["endpoint_url"],
        "aws_region": options["client_kwargs"]["region_name"],
    }


def test_urls(store, remote):
    """All ready tables by name, oldest first; or those that are named, ready or not."""
    names = [build(store) for _ in range(3)]
    building = store.create_table(*TABLE).table_name
    build(store.pinned_to_tenant("11111111-1111-1111-1111-111111111111"))
    assert list(store.urls()) == names
    assert store.urls() == {name: store.url(name) for name in names}
    some = [names[2], building]
    assert store.urls(iter(some)) == {name: store.url(name) for name in some}
    with pytest.raises(TableNotFoundError, match="'absent'"):
        store.urls([names[0], "absent"])
    far = remote.connect()
    name = build(far)
    assert far.urls() == {name: f"{remote.root}/{name}.parquet"}


def test_urls_ask_once(remote, s3_server):
    """The catalog is asked once, however many tables there are."""
    store = remote.connect()
    names = [build(store) for _ in range(4)]
    store.urls()
    with s3_server.log.counting() as seen:
        assert list(store.urls(names)) == names
    assert len(seen) == 1


@pytest.fixture
def results(remote):
    """Return a store with three results in a bucket, opened as Polars would open it."""
    store = connect(remote.root, storage_options=spelled(remote.options), cache_dir="off")
    for _ in range(3):
        build(store)
    return store


def test_dask_reads_the_bucket(results, remote, client):
    """The workers read it themselves, from the URLs that the store tells."""
    frame = dd.read_parquet(list(results.urls().values()), storage_options=remote.options)
    assert frame["score"].sum().compute(scheduler=client) == 3 * sum(DATA["score"].to_pylist())


def test_polars_reads_the_bucket(results, remote):
    """The same options open the store and scan its results."""
    urls = list(results.urls().values())
    frame = pl.scan_parquet(urls, storage_options=spelled(remote.options))
    assert frame.select(pl.len(), pl.col("score").sum()).collect().rows() == [(9, 5.25)]


def test_duckdb_reads_the_bucket(results, s3_server):
    """It reads through fsspec, what the store itself connects with."""
    connection = duckdb.connect()
    connection.register_filesystem(s3_server.filesystem())
    urls = list(results.urls().values())
    found = connection.execute("SELECT count(*), sum(score) FROM read_parquet(?)", [urls])
    assert found.fetchall() == [(9, 5.25)]
    connection.close()


class _Ray(ModuleType):
    """What the page uses of Ray, done by threads: functions that are called remotely."""

    def __init__(self):
        super().__init__("ray")
        self.threads, self.calls = ThreadPoolExecutor(2), 0

    def remote(self, function):
        def begin(*args):
            self.calls += 1
            return SimpleNamespace(future=lambda: self.threads.submit(function, *args))

        return SimpleNamespace(remote=begin)


def test_the_adapter_to_ray(tmp_path, monkeypatch):
    """The page's adapter is an executor as it stands: each result is judged by a remote call."""
    page = Path(jammi_files.__file__).parent / "docs" / "clusters.md"
    (block,) = re.findall(r"```python ray\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ray = _Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.chdir(tmp_path)
    build(connect("results", durability="os"))
    exec(compile(block, "clusters.md", "exec"), {})  # noqa: S102 - the documentation is the test
    ray.threads.shutdown()
    assert ray.calls == 1
