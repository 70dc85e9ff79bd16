"""What writers do: one row, many threads, many rows, many processes, the cycle of a result."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

import jammi_files as jf
from benchmarks import engine, workload
from benchmarks.harness import Call, Measurement, floor, timing_of
from benchmarks.peers import PEERS, Peer
from benchmarks.processes import commit_rates
from benchmarks.setting import Setting
from benchmarks.sqlite import Sqlite
from benchmarks.targets import FLOOR, OURS

_HASH = "0" * 64
_SMALL = 100_000
"""Rows above which the peers' tables are not filled: their commits take seconds there."""


def one_row(setting: Setting) -> Iterator[Measurement]:
    """Create one row and make one row ready: synced on both sides, then synced on neither."""
    for count in setting.rows:
        rows = workload.rows_of(count)
        yield from _synced(setting, rows)
        if count <= _SMALL:
            yield from _unsynced(setting, rows)


def _synced(setting: Setting, rows: pa.Table) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
        directory = Path(scratch)
        calls = {OURS: _ours(workload.filled(directory / "root", rows))}
        if setting.has("sqlite3") and rows.num_rows <= _SMALL:
            calls["sqlite3"] = _sqlite(directory, rows)
        calls |= _peers(setting, directory, rows, synced=True)
        yield from _both(setting, "durable", rows, calls, {FLOOR: floor(directory / "floor")})


def _unsynced(setting: Setting, rows: pa.Table) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
        directory = Path(scratch)
        calls = {OURS: _ours(workload.filled(directory / "root", rows, durability="os"))}
        calls |= _peers(setting, directory, rows, synced=False)
        yield from _both(setting, "not synced", rows, calls, {})


def _both(
    setting: Setting,
    how: str,
    rows: pa.Table,
    calls: dict[str, tuple[Call, Call]],
    besides: dict[str, Call],
) -> Iterator[Measurement]:
    creates = {who: create for who, (create, _) in calls.items()} | besides
    created = [*setting.in_turn(f"create one row, {how}", rows.num_rows, creates)]
    yield from created
    promotes = {who: promote for who, (_, promote) in calls.items()}
    least = min(each.timing.times for each in created)
    yield from setting.in_turn(f"promote one row, {how}", rows.num_rows, promotes, times=least)


def _ours(catalog: jf.Catalog) -> tuple[Call, Call]:
    def create(number: int) -> None:
        catalog.create_result_table(**workload.new_row(number + 1))  # type: ignore[arg-type]

    def promote(number: int) -> None:
        name = workload.new_row(number + 1)["table_name"]
        catalog.promote_result_table_with_manifest(str(name), 50, _HASH, ())

    return create, promote


def _sqlite(directory: Path, rows: pa.Table) -> tuple[Call, Call]:
    peer, template = Sqlite(directory / "peer.db"), workload.flat(rows.slice(0, 1))[0]
    peer.insert(workload.flat(rows))
    return (
        lambda number: peer.create((f"new{number}", *template[1:])),
        lambda number: peer.promote(f"new{number}"),
    )


def _theirs(peer: Peer, rows: pa.Table) -> tuple[Call, Call]:
    template = rows.slice(0, 1)

    def create(number: int) -> None:
        name = pa.array([f"new{number}"])
        peer.create(template.set_column(0, rows.schema.field(0), name))

    return create, lambda number: peer.promote(f"new{number}")


def _peers(
    setting: Setting, directory: Path, rows: pa.Table, *, synced: bool
) -> dict[str, tuple[Call, Call]]:
    if rows.num_rows > _SMALL:
        return {}
    wanted = [peer for peer in PEERS if setting.has(peer.name) and peer.is_synced == synced]
    return {peer.name: _theirs(peer(directory, rows), rows) for peer in wanted}


def threads(setting: Setting) -> Iterator[Measurement]:
    """Commit one row from each of many threads at once, and as many from one thread."""
    count = setting.threads
    together: list[float] = []
    alone: list[float] = []
    with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
        catalog = jf.Catalog.open(Path(scratch))
        create, _ = _ours(catalog)
        for turn in range(5):
            first = turn * 2 * count
            start = time.perf_counter()
            for number in range(first, first + count):
                create(number)
            alone.append((time.perf_counter() - start) / count * 1e6)
            together.append(_at_once(create, first + count, count) / count * 1e6)
    yield Measurement("one thread, a row", count, OURS, timing_of(alone))
    yield Measurement(f"{count} threads, a row", count, OURS, timing_of(together))


def _at_once(create: Call, first: int, count: int) -> float:
    """Return the seconds from the moment when all threads may go until the last is done."""
    gate = threading.Barrier(count + 1)

    def run(number: int) -> None:
        gate.wait()
        create(number)

    crowd = [threading.Thread(target=run, args=(first + number,)) for number in range(count)]
    for thread in crowd:
        thread.start()
    gate.wait()
    start = time.perf_counter()
    for thread in crowd:
        thread.join()
    return time.perf_counter() - start


def bulk(setting: Setting) -> Iterator[Measurement]:
    """Create many rows in one commit; SQLite gets tuples, made beforehand."""
    count = setting.bulk_rows
    columns = ["table_name", "source_id", "model_id", "task", "parquet_path", "dimensions",
               "key_column", "text_columns"]  # fmt: skip
    given = workload.rows_of(count)
    with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
        directory = Path(scratch)
        tables = [_renamed(given, turn) for turn in range(5)]
        catalogs = [jf.Catalog.open(directory / f"root{turn}") for turn in range(5)]
        calls: dict[str, Call] = {
            OURS: lambda turn: catalogs[turn].create_result_tables(tables[turn].select(columns))
        }
        if setting.has("sqlite3"):
            values = [workload.flat(table) for table in tables]
            peers = [Sqlite(directory / f"peer{turn}.db") for turn in range(5)]
            calls["sqlite3"] = lambda turn: peers[turn].insert(values[turn])
        work = f"create {count:,} rows in one commit"
        yield from setting.in_turn(work, count, calls, times=3)


def _renamed(rows: pa.Table, turn: int) -> pa.Table:
    names = [f"{name}-{turn}" for name in rows.column("table_name").to_pylist()]
    return rows.set_column(0, rows.schema.field(0), pa.array(names))


def processes(setting: Setting) -> Iterator[Measurement]:
    """Commit from one process and from eight at once, for a few seconds each."""
    seconds = 3.0 if setting.quick else 10.0
    for work, count in (("one process, a row", 1), ("8 processes, a row", 8)):
        with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
            series = commit_rates(Path(scratch), count, seconds)
        commits = sum(len(each) for each in series)
        yield Measurement(work, 0, OURS, timing_of([seconds * 1e6 / max(commits, 1)]))
        if count > 1:
            each_commit = [taken for each in series for taken in each]
            yield Measurement("one commit of 8 processes", 0, OURS, timing_of(each_commit))


def cycle(setting: Setting) -> Iterator[Measurement]:
    """Create, write 50 rows, attest, promote; jammi-ai does the same by a join, not all synced."""
    data = pa.table({"id": [f"r{n}" for n in range(50)], "x": [float(n) for n in range(50)]})
    descriptor = jf.AsofJoin(
        spine="trades", facts="quotes", spine_by=("k",), facts_by=("k",), spine_time="t",
        facts_time="t", direction="backward", boundary="inclusive",
    )  # fmt: skip
    env = jf.MaterializationEnv("0.32.0", jf.Device.cpu())
    inputs = [jf.InputAnchor.source_version(name, "1") for name in ("trades", "quotes")]
    with tempfile.TemporaryDirectory(dir=setting.scratch) as scratch:
        store = jf.connect(Path(scratch) / "root")

        def ours(_: int) -> None:
            with store.build(
                "trades", "text_embedding", "asof_join", "asof-join",
                descriptor=descriptor, env=env, inputs=inputs,
            ) as out:  # fmt: skip
                out.write(data)

        calls: dict[str, Call] = {OURS: ours}
        with engine.started(setting, Path(scratch)) as theirs:
            if theirs is not None:
                calls["jammi-ai"] = theirs
            yield from setting.in_turn("whole cycle of a result", 50, calls)
