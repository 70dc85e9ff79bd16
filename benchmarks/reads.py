"""What readers ask: by name, by hash, by source, task and model, the newest, all, after others."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import workload
from benchmarks.harness import Call, Measurement, timing_of
from benchmarks.setting import Setting
from benchmarks.sqlite import JAMMI_DB, Sqlite
from benchmarks.targets import MILLION, OURS
from jammi_files import Catalog

HOT = 1000
"""Rows that are asked for again and again: every system has them in memory."""

Ask = Callable[[int], object]


def lookups(setting: Setting) -> Iterator[Measurement]:
    """Ask every question of ours and of both SQLites; every answer is made of the same records."""
    for count in setting.rows:
        with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
            directory = Path(scratch)
            rows = workload.rows_of(count)
            catalog = workload.filled(directory / "root", rows)
            peers = _sqlites(setting, directory, rows)
            yield from _ask_all(setting, count, catalog, peers)
            yield from _everything(setting, count, catalog, peers, directory)
            for peer in peers.values():
                peer.close()


def _sqlites(setting: Setting, directory: Path, rows: pa.Table) -> dict[str, Sqlite]:
    peers = {}
    values = workload.flat(rows)
    if setting.has("sqlite3"):
        peers["sqlite3"] = Sqlite(directory / "ideal.db")
    if setting.has("sqlite3") and rows.num_rows >= MILLION:
        peers["jammi-db indexes"] = Sqlite(directory / "jammi.db", JAMMI_DB)
    for peer in peers.values():
        peer.insert(values)
    return peers


def _ask_all(
    setting: Setting, count: int, catalog: Catalog, peers: dict[str, Sqlite]
) -> Iterator[Measurement]:
    hot = [step * (count // min(HOT, count)) for step in range(min(HOT, count))]
    many = len(hot)
    names = [workload.name_of(row) for row in hot]
    hashes = [workload.hash_of(row) for row in hot]
    sources = [workload.source_of(row) for row in hot]
    keys = [(workload.source_of(n), workload.task_of(n), workload.model_of(n)) for n in hot]
    find_hash = catalog.find_ready_result_tables_by_definition
    ask_ours: dict[str, Ask] = {
        "get by name": lambda n: catalog.get_result_table(names[n % many]),
        "find by definition hash": lambda n: find_hash(hashes[n % many]),
        "find by source, task, model": lambda n: catalog.find_result_tables(*keys[n % many]),
        "newest ready embedding": lambda n: catalog.resolve_embedding_table(sources[n % many]),
    }
    ask_theirs: dict[str, Callable[[Sqlite], Ask]] = {
        "get by name": lambda peer: lambda n: peer.get(names[n % many]),
        "find by definition hash": lambda peer: lambda n: peer.find_hash(hashes[n % many]),
        "find by source, task, model": lambda peer: lambda n: peer.find(*keys[n % many]),
        "newest ready embedding": lambda peer: lambda n: peer.newest(sources[n % many]),
    }
    for work, ask in ask_ours.items():
        first: dict[str, Call] = {OURS: ask}
        first |= {
            name: ask_theirs[work](peer)
            for name, peer in peers.items()
            if name == "sqlite3" or work != "get by name"
        }
        ask(1)  # builds the index
        yield from setting.in_turn(f"{work}, first time", count, first, times=many - 2)
        for number in range(many):
            ask(number)
        yield from setting.in_turn(work, count, first, burst=10, times=setting.times * 10)


def _everything(
    setting: Setting,
    count: int,
    catalog: Catalog,
    peers: dict[str, Sqlite],
    directory: Path,
) -> Iterator[Measurement]:
    (segment,) = (directory / "root/_catalog/segments").glob("*.parquet")
    ready = pc.field("status") == "ready"
    calls: dict[str, Call] = {
        OURS: lambda _: catalog.scan(ready),
        "pyarrow": lambda _: pq.read_table(segment),
    }
    if "sqlite3" in peers:
        calls["sqlite3"] = lambda _: peers["sqlite3"].ready()
    yield from setting.in_turn("all ready rows into Arrow", count, calls, times=20)


def refresh(setting: Setting) -> Iterator[Measurement]:
    """Read after others have committed 1, 100 and 1,000 versions; nothing is synced.

    All readers read after the same commits, which leave the processor's caches alike to all: one
    that is to be a few versions behind reads once more when so many are left.
    """
    behinds = (1, 100) if setting.quick else (1, 100, 1000)
    name = "new__000000000"
    for count in setting.rows[:1]:
        root = Path(tempfile.mkdtemp(dir=setting.scratch))
        writer = workload.filled(root, workload.rows_of(count), durability="os")
        readers = {behind: Catalog.open(root, durability="os") for behind in behinds}
        taken: dict[int, list[float]] = {behind: [] for behind in behinds}
        for _ in range(10 if setting.quick else 30):
            for left in range(behinds[-1], 0, -1):
                if left in readers:
                    readers[left].get_result_table(name)
                writer.update_result_table_status(name, "building", left)
            for behind, reader in readers.items():
                start = time.perf_counter_ns()
                reader.get_result_table(name)
                taken[behind].append((time.perf_counter_ns() - start) / 1000)
        for behind, series in taken.items():
            yield Measurement(f"refresh, {behind} behind", count, OURS, timing_of(series))
        shutil.rmtree(root)
