"""What hostile bytes and words are given to, and what each of these may do about it.

A target takes any bytes and a scratch directory. It ends in a value or in a `JammiFilesError`;
another exception, Arrow memory beyond `MOST_MEMORY`, or a file written outside of the scratch
directory is a bug of the library.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import logging
import os
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from support.results import SIGNING, build, row
from support.scopes import ACME
from support.stored import record

from jammi_files import (
    JammiFilesError,
    MaterializationManifest,
    RecomputePlan,
    connect,
    interop,
    lease,
    manifest,
    root_format,
    signing,
)
from jammi_files.cli import main
from jammi_files.log import key_of
from jammi_files.rows import Row, RowReader, rows_of, table_of, with_dictionaries

MOST_MEMORY = 1 << 30
"""Bytes that Arrow may allocate for one input: the library's own limit for rows."""

ENGINE = Path(__file__).parent.parent / "data" / "jammi-0.32"
HOSTILE_WORDS = ("a\x1b[31mred\n\x9b2J\u202e\x07", "A", "a", "\u0430", "x" * 221, "é" * 110, "..")


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A reader of bytes: ``seeds`` are what it reads well, ``run`` feeds it."""

    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes, Path], object]


# --- Parquet of rows


def _rows(count: int) -> list[Row]:
    anchored = record("a", 1, tenant_id=ACME, properties={"k": "v"}, text_columns=("t", "u"))
    return [Row(anchored, 1), *(Row(record(f"t{each:03}", each), each) for each in range(2, count))]


def _manifest(**header: Any) -> bytes:
    fields = {"version": 1, "commit_id": "a" * 32, "operation": "create", "committed_at": 10**18}
    said = manifest.Header(**{**fields, "writer": "host:1", **header})
    return manifest.encode_manifest(said, table_of(_rows(4)))


def _without_checksums(data: bytes) -> bytes:
    """Write a file again as one that mutations get deeper into."""
    file = pq.ParquetFile(pa.BufferReader(data))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, file.schema_arrow.remove_metadata(), compression="none") as out:
        out.add_key_value_metadata({manifest.METADATA_KEY: _said(file)})
        out.write_table(file.read())
    return sink.getvalue()


def _said(file: pq.ParquetFile) -> bytes:
    return bytes((file.metadata.metadata or {}).get(manifest.METADATA_KEY, b"{}"))


def _manifests() -> list[bytes]:
    info = manifest.SegmentInfo("_catalog/segments/" + "0" * 32 + ".parquet", 3, 0, "a", "b", 1, 1)
    seeds = [_manifest(), _manifest(segments=(info,))]
    return [*seeds, *map(_without_checksums, seeds)]


def _segments() -> list[bytes]:
    table = with_dictionaries(table_of(_rows(5))).sort_by("table_name").combine_chunks()
    data = manifest.encode_segment(table)
    return [data, _without_checksums(data)]


def _decode_manifest(data: bytes, _: Path) -> None:
    with contextlib.suppress(JammiFilesError):
        manifest.decode_columns("key", data, ["table_name"])
    manifest.decode_manifest("key", data)


def _decode_segment(data: bytes, _: Path) -> None:
    table = manifest.decode_segment("key", data)
    rows_of(table.slice(0, 64))
    if table.num_rows:
        RowReader(table).read(table.num_rows - 1)


def _large_segments() -> list[bytes]:
    table = with_dictionaries(table_of(_rows(9))).sort_by("table_name").combine_chunks()
    seeds = []
    for options in ({"compression": "zstd"}, {"compression": "none", "use_dictionary": False}):
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=3, **options)
        seeds.append(sink.getvalue())
    return seeds


def _read_parts(data: bytes, _: Path) -> None:
    """Look names up in row groups; what Arrow says of columns is never asked: it may abort."""
    file = manifest.open_segment("key", lambda _: io.BytesIO(data))
    assert file.least == sorted(file.least)
    for group in range(len(file)):
        manifest.describe_segment("key", manifest.read_group("key", file, group))


def _headers() -> list[bytes]:
    return [_said(pq.ParquetFile(pa.BufferReader(data))) for data in _manifests()[:2]]


def _decode_header(data: bytes, _: Path) -> None:
    """Give the JSON of a manifest: what mutations of the file hardly ever reach."""
    sink = io.BytesIO()
    table = table_of(_rows(3))
    with pq.ParquetWriter(sink, table.schema) as out:
        out.add_key_value_metadata({manifest.METADATA_KEY: data})
        out.write_table(table)
    manifest.decode_manifest("key", sink.getvalue())


def _open_root(data: bytes, scratch: Path) -> None:
    """Open a root whose newest manifest is given, and ask whatever can be asked of it."""
    root = scratch / "root"
    path = root / key_of(1)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    (root / "_catalog" / "format.json").write_bytes(_format())
    store = connect(root, durability="os").as_admin()
    catalog = store.catalog
    for ask in (
        catalog.scan,
        catalog.history,
        catalog.damaged,
        store.staleness_all,
        store.verify_all,
        lambda: store.recover(dry_run=True),
        lambda: catalog.vacuum(0),
        lambda: catalog.create_result_table(**row("another")),
        lambda: catalog.changes(0),
    ):
        with contextlib.suppress(JammiFilesError):
            ask()
    catalog.scan()


# --- JSON


def _sidecars() -> list[bytes]:
    return [path.read_bytes() for path in sorted(ENGINE.rglob("*.materialization.json"))]


def _read_sidecar(data: bytes, _: Path) -> None:
    found = MaterializationManifest.from_json_bytes(data)
    assert MaterializationManifest.from_json_bytes(found.to_json_bytes()) == found
    assert found.descriptor_digest
    assert found.unpinned_inputs is not None


def _signatures() -> list[bytes]:
    found = [MaterializationManifest.from_json_bytes(data) for data in _sidecars()]
    return [SIGNING.seal("t", sidecar) for sidecar in found]


def _judge_signature(data: bytes, _: Path) -> None:
    """Judge bytes by a key, and by none; whatever they are, they are no exception."""
    sidecar = MaterializationManifest.from_json_bytes(_sidecars()[0])
    SIGNING.judge("t", sidecar, data)
    for believe in (True, False):
        signing.Signing(verifiers=(lambda *_, answer=believe: answer,)).judge("t", sidecar, data)
    signing.covered(data)


@functools.cache
def _format() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        connect(scratch, durability="os").catalog.create_result_table(**row("t"))
        return (Path(scratch) / "_catalog" / "format.json").read_bytes()


def _formats() -> list[bytes]:
    fields = orjson.loads(_format())
    copied = {**fields, "copied": {"version": 3, "commit_id": "a" * 32}}
    return [orjson.dumps(each) for each in (fields, copied, {**fields, "format_version": 2})]


def _leases() -> list[bytes]:
    state = lease.BuildState("table", lease.new_lease(), 3)
    return [state.to_json_bytes(), dataclasses.replace(state, checkpoint=None).to_json_bytes()]


def _read_lease(data: bytes, _: Path) -> None:
    state = lease.BuildState.from_json_bytes("key", data)
    lease.find_death(state.lease, 0, 10**18)
    assert state.checkpoint is None or state.checkpoint >= 0


def _plans() -> list[bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        store = connect(Path(scratch) / "root", durability="os")
        name = build(store)
        return [orjson.dumps(store.recompute_plan(name, "downstream", plan_id="p").to_dict())]


def _read_plan(data: bytes, _: Path) -> None:
    try:
        fields = orjson.loads(data)
    except ValueError:
        return
    str(RecomputePlan.from_dict(fields))


# --- an engine's catalog, and the command


def _catalogs() -> list[bytes]:
    return [(ENGINE / "catalog.db").read_bytes(), _small_catalog()]


def _small_catalog() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "catalog.db"
        with contextlib.closing(sqlite3.connect(ENGINE / "catalog.db")) as whole:
            [(schema,)] = whole.execute("SELECT sql FROM sqlite_schema WHERE name='result_tables'")
            rows = whole.execute("SELECT * FROM result_tables LIMIT 2").fetchall()
        with contextlib.closing(sqlite3.connect(path)) as small, small:
            small.execute(schema)
            marks = ", ".join("?" * len(rows[0]))
            small.executemany(f"INSERT INTO result_tables VALUES ({marks})", rows)  # noqa: S608
        return path.read_bytes()


def _import(data: bytes, scratch: Path) -> None:
    home = scratch / "engine"
    home.mkdir()
    (home / "catalog.db").write_bytes(data)
    interop.import_jammi(home, connect(scratch / "root", durability="os").as_admin())


def _command_lines() -> list[bytes]:
    words = [
        ["ls", "--status", "ready"],
        ["show", "name", "--json"],
        ["history", "--limit", "3", "--admin"],
        ["verify", "--all", "--tenant", ACME],
        ["publish", "file.csv", "--source", "s", "--property", "a=b", "--dimensions", "2"],
        ["fsck", "--deep"],
        ["fsck", "--repair", "--dry-run", "--owner", "global"],
        ["vacuum", "--older-than", "7d", "--keep-last", "2"],
        ["tag", "name", "--version", "1"],
        ["recover", "--dry-run"],
        ["export", "exported"],
        ["import", "engine", "--reference"],
        ["copy", "root", "copied", "--no-verify"],
        *(["show", word] for word in HOSTILE_WORDS),
        *(["publish", "file.csv", "--source", word, "--model", word] for word in HOSTILE_WORDS),
    ]
    return ["\0".join(line).encode() for line in words]


def _run_command(data: bytes, scratch: Path) -> None:
    """Run a command line of words between NULs; none of them names a place outside."""
    if b"/" in data or b".." in data.split(b"\0") or b"=" in data[:2]:
        return
    words = data.decode(errors="surrogateescape").split("\0")
    (scratch / "file.csv").write_text("a,b\n1,2\n")
    out, err = io.StringIO(), io.StringIO()
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with contextlib.chdir(scratch), streams[0], streams[1]:
        code = main([*words, "--root", "root"] if words[0] != "copy" else words)
    shown = (out.getvalue() + err.getvalue()).replace("\n", "")
    assert code in {0, 1, 2, 3}, code
    assert shown.isprintable(), shown


TARGETS = {
    "manifest": Target(_manifests, _decode_manifest),
    "segment": Target(_segments, _decode_segment),
    "parts": Target(_large_segments, _read_parts),
    "header": Target(_headers, _decode_header),
    "root": Target(_manifests, _open_root),
    "sidecar": Target(_sidecars, _read_sidecar),
    "signature": Target(_signatures, _judge_signature),
    "format": Target(_formats, lambda data, _: root_format.decode("where", data)),
    "lease": Target(_leases, _read_lease),
    "plan": Target(_plans, _read_plan),
    "import": Target(_catalogs, _import),
    "cli": Target(_command_lines, _run_command),
}


# --- the contract


@functools.cache
def _watched_pool() -> pa.MemoryPool:
    """Return the pool whose peak is looked at; it must outlive whatever was allocated from it."""
    return pa.proxy_memory_pool(pa.system_memory_pool())


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    logger, nobody = logging.getLogger("jammi_files"), logging.NullHandler()
    logger.addHandler(nobody)
    try:
        yield
    finally:
        logger.removeHandler(nobody)


class Escaped(BaseException):
    """Something was about to be written outside of the scratch directory."""


class Keeper:
    """Runs a target in scratch directories of its own and holds it to the contract."""

    def __init__(self, name: str) -> None:
        self.target = TARGETS[name]
        self.seeds = self.target.seeds()
        self.base = Path(tempfile.mkdtemp(prefix="jammi-hostile-"))
        self.refused = 0

    def feed(self, data: bytes) -> None:
        """Give one input; whatever is raised here breaks the contract."""
        scratch = self.base / "scratch"
        scratch.mkdir()
        pool = _watched_pool()
        before = pa.default_memory_pool()
        pa.set_memory_pool(pool)
        try:
            with _confined(self.base), _silent():
                self.target.run(data, scratch)
        except JammiFilesError:
            self.refused += 1
        finally:
            pa.set_memory_pool(before)
            shutil.rmtree(scratch)
        assert pool.max_memory() <= MOST_MEMORY, f"{pool.max_memory()} bytes for {len(data)}"

    def close(self) -> None:
        shutil.rmtree(self.base)


_WRITING = {"os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.remove"}
_allowed: list[str] = []


def _watch(event: str, args: tuple[Any, ...]) -> None:
    """Refuse what would change a file outside of the directory that is allowed now."""
    if not _allowed:
        return
    if event == "open":
        path, _, flags = args
        written = [path] if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) else []
    elif event in _WRITING:
        written = [each for each in args if isinstance(each, str | bytes | os.PathLike)]
    else:
        return
    descriptors = [each for each in args if isinstance(each, int) and each >= 0]
    home = Path("/proc/self/fd", str(descriptors[0])) if _at(event, descriptors) else Path()
    for path in written:
        if isinstance(path, int) or os.fspath(path) in ("/dev/null", b"/dev/null"):
            continue
        place = os.path.realpath(home / os.fsdecode(path))
        if not place.startswith(_allowed[-1]):
            raise Escaped(f"{event} {place!r}")


def _at(event: str, descriptors: list[int]) -> bool:
    """Say whether the first number is a directory to which paths are relative, and no mode."""
    return bool(descriptors) and event in ("os.remove", "os.rmdir")


_install_watch = functools.cache(lambda: sys.addaudithook(_watch))


@contextlib.contextmanager
def _confined(base: Path) -> Iterator[None]:
    _install_watch()
    before = tempfile.tempdir
    tempfile.tempdir = str(base)
    _allowed.append(os.path.realpath(base))
    try:
        yield
    finally:
        _allowed.pop()
        tempfile.tempdir = before


# --- mutations without a fuzzer

_ODD = (
    b"\0",
    b"\xff",
    b"-1",
    b"0",
    b"9" * 30,
    b"1e999",
    b"1.5",
    b"true",
    b"null",
    b'"x"',
    b"[]",
    b"{}",
    b"[" * 2000,
    b"\\ud800",
    b"../",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\x0f",
    b"\x80" * 9 + b"\x01",
    "\u202e".encode(),
    b"\x1b[2J",
)


def mutations(seeds: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield ``count`` inputs near the seeds: the same ones for the same ``seed``."""
    drawn = random.Random(seed)
    for _ in range(count):
        data = bytearray(drawn.choice(seeds))
        for _ in range(drawn.choice((1, 1, 1, 2, 4, 16))):
            data = _mutated(data, drawn, seeds)
        yield bytes(data)


def _mutated(data: bytearray, drawn: random.Random, seeds: list[bytes]) -> bytearray:
    at, length = drawn.randrange(len(data) + 1), drawn.choice((1, 2, 4, 8, 64))
    match drawn.randrange(6):
        case 0 if at < len(data):
            data[at] ^= 1 << drawn.randrange(8)
        case 1:
            del data[at : at + length]
        case 2:
            data[at:at] = drawn.choice(_ODD)
        case 3:
            odd = drawn.choice(_ODD)
            data[at : at + len(odd)] = odd
        case 4:
            other = drawn.choice(seeds)
            start = drawn.randrange(len(other) + 1)
            data[at:at] = other[start : start + length]
        case _:
            data[at : at + length] = drawn.randbytes(length)
    return data
