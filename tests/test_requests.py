"""What each call costs in a bucket: requests and round trips, counted at the server.

The table of FORMAT.md ("Costs in a bucket") states them; each row is made to happen here.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pyarrow as pa
import pytest
from support.buckets import Bucket
from support.documents import bare, table
from support.results import (
    DATA,
    DESCRIPTOR,
    ENV,
    INPUTS,
    SIGNING,
    TABLE,
    build,
    build_signed,
    row,
)
from support.servers.backends import FAST
from support.servers.plain import split
from support.threads import begin

import jammi_files
from jammi_files import Catalog, ConflictError, Match, ResultStore, definition_hash, reuse
from jammi_files.log import key_of
from jammi_files.root_format import PROBES

TEXT = (Path(jammi_files.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
WRITE_PRICE = LIST_PRICE = 0.005
READ_PRICE = 0.0004
"""US dollars for a thousand requests: S3 Standard (us-east-1), GCS Standard (one region)."""

LIMIT = 60.0


class Cost(NamedTuple):
    """A documented row: requests by what they are billed as, and the sizes of its round trips."""

    writes: int
    reads: int
    lists: int
    rounds: tuple[int, ...]
    price: float


def documented():
    costs = {}
    for name, writes, reads, lists, rounds, price in table(TEXT, "in a bucket"):
        sizes = tuple(map(int, rounds.split()))
        costs[bare(name)] = Cost(int(writes), int(reads), int(lists), sizes, float(price))
    return costs


COSTS = documented()


def billed(seen):
    """Return how many requests are billed as what; deletions are free."""
    kinds = Counter()
    for one in seen:
        if one.method in ("PUT", "POST"):
            kinds["writes"] += 1
        elif one.method in ("GET", "HEAD"):
            is_list = "/" not in one.key and ("list-type=2" in one.query or "prefix=" in one.query)
            kinds["lists" if is_list else "reads"] += 1
        else:
            assert one.method == "DELETE"
    return kinds


def warm_read(bucket):
    return lambda: bucket.catalog.get_result_table("t")


def stale_read(bucket):
    catalog = bucket.connect(max_staleness=3600).catalog
    catalog.get_result_table("t")
    return lambda: catalog.get_result_table("t")


def read_behind(versions):
    def prepare(bucket):
        other = bucket.connect().catalog
        for number in range(versions):
            other.update_result_table_status("t", "building", number)

        def ask():
            assert bucket.catalog.get_result_table("t").row_count == versions - 1

        return ask

    return prepare


def cold_read(bucket):
    return lambda: bucket.connect().catalog.get_result_table("t")


def cold_read_of_many(bucket):
    bucket.catalog.create_result_tables(many(100_000))

    def ask():
        assert bucket.connect().catalog.get_result_table("n054321") is not None

    return ask


def commit(bucket):
    return lambda: bucket.catalog.create_result_table(**row("new"))


def lost_commit(bucket):
    bucket.connect().catalog.create_result_table(**row("other"))
    return commit(bucket)


def transaction(bucket):
    def ask():
        with bucket.catalog.transaction() as tx:
            for number in range(100):
                tx.create_result_table(**row(f"n{number}"))

    return ask


def bulk(bucket):
    return lambda: bucket.catalog.create_result_tables(many(1000))


def checkpoint(bucket):
    return lambda: bucket.catalog.set_checkpoint("t", 7)


def whole_build(bucket):
    return lambda: build(bucket.store)


def signed_build(bucket):
    return lambda: build_signed(bucket.store)


def signed_verify(bucket):
    name = build_signed(bucket.store)
    store = ResultStore(bucket.catalog, SIGNING)
    return lambda: verify(store, name)


def of_a_result(call):
    def prepare(bucket):
        name = build(bucket.store)
        return lambda: call(bucket.store, name)

    return prepare


def lookup(store, name):
    assert store.lookup_cached(definition_hash(DESCRIPTOR, ENV), INPUTS) == name


def reuse_result(store, name):
    columns = {"source_id": "docs", "task": "classification", "model_id": "org/model"}
    found = store.get_or_build(DESCRIPTOR, ENV, INPUTS, lambda: DATA, **columns)
    assert found.table_name == name


def verify(store, name):
    assert store.verify_materialization(name) == Match()


def read_data(store, name):
    assert store.open_table(name).to_table() == DATA


OPERATIONS = {
    "read": warm_read,
    "read within max_staleness": stale_read,
    "read, one version behind": read_behind(1),
    "read, 100 versions behind": read_behind(100),
    "open and read": cold_read,
    "open and read one of 100,000 rows": cold_read_of_many,
    "commit": commit,
    "commit that lost to another": lost_commit,
    "transaction of 100 changes": transaction,
    "create 1,000 rows": bulk,
    "checkpoint": checkpoint,
    "build a result": whole_build,
    "look up a result": of_a_result(lookup),
    "reuse a result": of_a_result(reuse_result),
    "open a result's data": of_a_result(lambda store, name: store.open_table(name)),
    "open and read a result's data": of_a_result(read_data),
    "verify a result": of_a_result(verify),
    "build a signed result": signed_build,
    "verify a signed result": signed_verify,
    "judge a result's freshness": of_a_result(lambda store, name: store.staleness(name)),
}


def many(count):
    names = [f"n{number:06d}" for number in range(count)]
    columns = {"source_id": "docs", "model_id": "org/model", "task": "classification"}
    return pa.table(
        {
            "table_name": names,
            **{name: [value] * count for name, value in columns.items()},
            "parquet_path": [f"{name}.parquet" for name in names],
        }
    )


def test_every_documented_operation_is_counted():
    """The table has a row for every operation here, and the reverse."""
    assert list(COSTS) == list(OPERATIONS)


@pytest.mark.parametrize("name", COSTS)
def test_prices(name):
    """A price is that of the requests, for a thousand calls; round trips hold all requests."""
    cost = COSTS[name]
    paid = cost.writes * WRITE_PRICE + cost.lists * LIST_PRICE + cost.reads * READ_PRICE
    assert cost.price == pytest.approx(paid, abs=1e-9)
    assert sum(cost.rounds) == cost.writes + cost.reads + cost.lists


@pytest.mark.parametrize("server", FAST, indirect=True)
@pytest.mark.parametrize("name", OPERATIONS)
def test_costs(server, name):
    """A call makes the documented requests, in no more round trips than are documented."""
    bucket = Bucket(server)
    ask = OPERATIONS[name](bucket)
    with server.log.counting() as seen:
        server.faults.in_rounds(ask, *COSTS[name].rounds)
    cost = COSTS[name]
    assert billed(seen) == Counter(writes=cost.writes, reads=cost.reads, lists=cost.lists)


def test_who_waits_asks_ever_more_seldom(s3_server, monkeypatch):
    """Waiting for a build in a bucket is one read a look, and in the end a look every 5 s."""
    bucket = Bucket(s3_server)
    columns = {"source_id": "docs", "task": "classification", "model_id": "org/model"}
    waiting, pauses, clock = bucket.connect(), [], itertools.count()
    stopped_clock = SimpleNamespace(monotonic=lambda: next(clock), sleep=pauses.append)
    no_jitter = SimpleNamespace(uniform=lambda _, longest: longest)

    def ask(seconds):
        with pytest.raises(ConflictError):
            waiting.get_or_build(
                DESCRIPTOR, ENV, INPUTS, lambda: DATA, wait_seconds=seconds, **columns
            )

    def compute():
        ask(0)
        with monkeypatch.context() as patched, s3_server.log.counting() as seen:
            patched.setattr(reuse, "time", stopped_clock)
            patched.setattr(reuse, "random", no_jitter)
            ask(40)
        assert billed(seen) == Counter(reads=len(pauses) + 1)
        return DATA

    bucket.store.get_or_build(DESCRIPTOR, ENV, INPUTS, compute, **columns)
    assert pauses[0] < 0.1
    assert max(pauses) == reuse.LONGEST_FAR_PAUSE
    assert len(pauses) < 40


def test_threads_share_their_commits(s3_server):
    """While one commit is on its way, 64 threads wait; the next one carries all their changes."""
    bucket = Bucket(s3_server)
    catalog = bucket.catalog
    with s3_server.log.counting() as seen, s3_server.faults.hold(key_of(2)) as hold:
        first = begin(catalog.create_result_table, **row("first"))
        hold.wait()
        others = [begin(catalog.create_result_table, **row(f"n{n}")) for n in range(64)]
        while len(catalog.log._queue._waiting) < len(others):
            time.sleep(0.001)
        hold.release()
        for each in (first, *others):
            each.result(LIMIT)
    assert billed(seen) == Counter(writes=2)
    assert catalog.version == 3
    assert bucket.connect().catalog.scan().num_rows == 66


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_a_bucket_is_tried_once(server):
    """Whether creates are exclusive is tried before the first write; the root remembers."""
    root, options = server.root()

    def probes(ask):
        with server.log.counting() as seen:
            ask()
        return billed(seen.matching(key=PROBES))["writes"]

    def write(name, root=root):
        catalog = Catalog.open(root, storage_options=options, cache_dir="off")
        return lambda: catalog.create_result_table(**row(name))

    assert probes(write("first")) == 2
    assert probes(write("second")) == 0
    other, _ = server.root()
    fs = server.filesystem()
    for path in fs.find(root):
        fs.pipe_file(path.replace(split(root)[0], split(other)[0]), fs.cat_file(path))
    assert probes(write("third", other)) == 2
    again = Catalog.open(other, storage_options=options, cache_dir="off")
    assert len(again.list_result_tables_by_status("building")) == 3


@pytest.mark.parametrize("check", [False, "exists"])
def test_judging_all_results(s3_server, check):
    """Whether all results hold is one look, and where their data is asked for one listing."""
    bucket = Bucket(s3_server)
    parents = [build(bucket.store) for _ in range(5)]
    for parent in parents:
        anchor = bucket.store.result_digest_anchor(parent)
        with bucket.store.build(
            *TABLE, descriptor=DESCRIPTOR, env=ENV, inputs=[anchor], derived_from=parent
        ) as out:
            out.write(DATA)
    with s3_server.log.counting() as seen:
        assert bucket.store.staleness_all(check_bytes=check).num_rows == 10
    assert billed(seen) == Counter(reads=1, lists=int(check == "exists"))


def test_verifying_streams_in_growing_windows(s3_server):
    """A large result is read once to be verified, in few requests."""
    bucket = Bucket(s3_server)
    data = pa.table({"noise": [random.Random(n).randbytes(2**22) for n in range(10)]})
    with bucket.store.build(*TABLE, descriptor=DESCRIPTOR, env=ENV, inputs=INPUTS) as out:
        out.write(data)
    size = bucket.store.storage.size(f"{out.table_name}.parquet")
    with s3_server.log.counting() as seen:
        assert bucket.store.verify_materialization(out.table_name) == Match()
    parts = seen.matching("GET", rf"{out.table_name}\.parquet$")
    assert sum(one.received for one in parts) == size > 40 * 2**20
    assert len(parts) <= 12
