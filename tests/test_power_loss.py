"""Power that goes at any moment: what was acknowledged is there, and nothing is half there.

Each case records the file operations of some calls on a local root and looks at every state that a
disk may hold after a cut (`support.power`), also where a process had been killed before and
another one went on. Each state is opened anew, checked, recovered, written to and checked again
(`support.lives`).

``JAMMI_FILES_POWER_LOSS=all`` takes no samples: every torn sector, every process killed before
every single operation.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import functools
import hashlib
import math
import os
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.lives import EXPORTED, ROOT, Call, Explorer, Life, UnsyncedExplorer, Way, life
from support.power import Bounds, torn, without
from support.recording import Kind, ends
from support.results import (
    CONTRACT,
    DATA,
    DESCRIPTOR,
    ENV,
    INPUTS,
    TABLE,
    build,
    build_signed,
    finalize,
    row,
    rows,
    write,
)

from jammi_files import connect, copy, copy_root, lease, local, log, manifest, numbering, repair
from jammi_files.draft import SEGMENTS
from jammi_files.errors import FormatError, JammiFilesError
from jammi_files.interop import export_jammi, import_jammi
from jammi_files.materialization import MaterializationManifest
from jammi_files.storage import Durability
from jammi_files.store import ResultStore

# A dead process ends no Parquet writer; Python's garbage collector tries to, and is refused.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ALL = os.environ.get("JAMMI_FILES_POWER_LOSS") == "all"
BOUNDS = Bounds(1 << 16, 1 << 16) if ALL else Bounds(40, 4)
UNSYNCED = Bounds(4096, 64) if ALL else Bounds(40, 8)
MOST_ENDS = 4
AFTER_A_KILL = BOUNDS if ALL else Bounds(8, 2)
MOST_DECODED = 10_000
"""Objects whose rows are kept in memory for the states to come."""


class Scenario(NamedTuple):
    """Calls, each by a process of its own, after what ``prepare`` has left durable.

    ``knobs`` are constants of `manifest`, and ``GROUP`` of `numbering`.
    """

    calls: tuple[Call, ...]
    prepare: Call | None = None
    knobs: Mapping[str, int] = {}
    way: Way = Way()


class Killing(NamedTuple):
    """A call that is cut off by the death of its process, and what others do then."""

    victim: Call
    scenario: Scenario


def _create(*names: str, **also: Any) -> Call:
    def create(store: ResultStore) -> None:
        for name in names:
            store.catalog.create_result_table(**row(name), **also)

    return create


def _create_many(store: ResultStore) -> None:
    store.catalog.create_result_tables(rows("a", "b", "c", "d"))


def _written(store: ResultStore) -> None:
    store.catalog.create_result_table(**row("t0"))
    write(store, "t0")


def _finalize(store: ResultStore) -> None:
    finalize(store, "t0")


def _finalize_if_written(store: ResultStore) -> None:
    if store.storage.size("t0.parquet") is not None:
        finalize(store, "t0")


def _written_elsewhere(store: ResultStore) -> None:
    """Let a program that knows nothing of syncing write the data."""
    store.catalog.create_result_table(**row("t0"))
    sink = pa.BufferOutputStream()
    pq.write_table(DATA, sink)
    with open(f"{store.root}/t0.parquet", "xb") as file:  # noqa: PTH123 - as any program does
        file.write(sink.getvalue())
    finalize(store, "t0")


def _lock(store: ResultStore) -> None:
    with store.storage.lock():
        pass


def _build(store: ResultStore) -> None:
    with store.build(*TABLE, **CONTRACT) as out:
        out.write(DATA)
        out.checkpoint(1)
        out.write(DATA)


def _build_two(store: ResultStore) -> None:
    build(store)
    build(store)


def _fail(store: ResultStore) -> None:
    with contextlib.suppress(ZeroDivisionError), store.build(*TABLE, **CONTRACT) as out:
        out.write(DATA)
        out.checkpoint(1)
        raise ZeroDivisionError


def _transaction(store: ResultStore) -> None:
    with store.catalog.transaction() as tx:
        tx.create_result_table(**row("t2", derived_from="t0"))
        tx.update_result_table_status("t0", "building", 5)
        tx.update_result_table_status("t2", "failed", 0)
        tx.delete_result_table("t1")


def _checkpoint(number: int) -> Call:
    return lambda store: store.catalog.set_checkpoint("t0", number)


def _delete(store: ResultStore) -> None:
    store.delete_table(store.catalog.list_result_tables_by_status("ready")[0].table_name)


def _delete_row(store: ResultStore) -> None:
    ready = store.catalog.list_result_tables_by_status("ready")
    store.catalog.delete_result_table(ready[0].table_name)


def _dead_builds(store: ResultStore) -> None:
    """Leave a dead build in each state of the table "Recovery"."""
    for name in ("no_data", "no_footer", "no_sidecar", "attested", "other_bytes"):
        store.catalog.create_result_table(**row(name))
    store.storage.create("no_footer.parquet", b"PAR1 and nothing more")
    store.catalog.set_checkpoint("no_sidecar", 3)
    for name in ("no_sidecar", "attested", "other_bytes"):
        write(store, name)
    _attest(store, "attested", hashlib.sha256(store.storage.read("attested.parquet")).hexdigest())
    _attest(store, "other_bytes", "0" * 64)


def _attest(store: ResultStore, name: str, digest: str) -> None:
    at = "2026-11-22T00:00:00+00:00"
    made = MaterializationManifest.attest(DESCRIPTOR, ENV, INPUTS, artifact=digest, produced_at=at)
    store.storage.create(f"{name}.materialization.json", made.to_json_bytes())


def _recover(store: ResultStore) -> None:
    store.recover()


def _reap(store: ResultStore) -> None:
    store.recover(reap=True)


def _garbage(store: ResultStore) -> None:
    """Leave versions, segments, a result without row and one of a name that was given."""
    store.catalog.create_result_table(**row("given"))
    write(store, "given")
    finalize(store, "given")
    _build_two(store)
    store.catalog.compact()
    store.catalog.delete_result_table("given")
    _delete_row(store)


def _vacuum(store: ResultStore) -> None:
    store.catalog.vacuum(0, dry_run=False)


def _elsewhere(root: str | Path, name: str) -> Path:
    """Return a place on another disk, for what is imported or copied."""
    return next(each for each in Path(root).parents if each.name == "test").parent / name


def _engine(store: ResultStore) -> None:
    """Make the artifacts of an engine."""
    directory = _elsewhere(store.root, "artifacts")
    if not directory.exists():
        engine = connect(directory.parent / "engine", durability="os")
        _build_two(engine)
        export_jammi(engine, directory)


def _import(store: ResultStore) -> None:
    import_jammi(_elsewhere(store.root, "artifacts"), store)


def _source(root: Path) -> None:
    """Make the root that is copied."""
    source = _elsewhere(root, "source")
    if not source.exists():
        store = connect(source, durability="os")
        _build_two(store)
        _create("t0", "t1")(store)


def _copied(root: Path) -> None:
    """Leave a finished copy, and a source that has gone on."""
    _source(root)
    _copy(root)
    store = connect(_elsewhere(root, "source"), durability="os")
    if store.catalog.get_result_table("t2") is None:
        _create("t2")(store)
        build(store)
        _delete(store)


def _copy(root: Path) -> None:
    with mock.patch.object(copy_root, "_THREADS", 1):  # the same operations each time
        copy(_elsewhere(root, "source"), root)


def _without_catalog(root: Path) -> None:
    """Leave results that no catalog knows any more."""
    _build_two(connect(root, durability="os"))
    shutil.rmtree(root / "_catalog")


def _repair(root: Path) -> None:
    repair(root, dry_run=False, owner="global")


def _without_versions(root: Path) -> None:
    """Leave two results, and of their catalog all but its versions."""
    _build_two(connect(root, durability="os"))
    for path in root.glob("_catalog/manifest/*/*"):
        path.unlink()


def _restore(root: Path) -> None:
    """Bring a result back from a backup: here from another name of the same bytes."""
    storage = local.LocalStorage(root, "fsync")
    (name, *_) = [key for key in storage.list("") if key.endswith(".parquet")]
    for suffix in (".parquet", ".materialization.json"):
        storage.create(f"restored{suffix}", storage.read(name.removesuffix(".parquet") + suffix))


def _not_opened(root: Path, *, durability: str) -> Path:  # noqa: ARG001 - as connect has it
    return root


def _export(store: ResultStore) -> None:
    export_jammi(store, store.root.removesuffix(ROOT) + EXPORTED)


COPYING = Way(enter=_not_opened, resume=_copy)
TINY = {"INLINE_ROWS": 2, "FAN_OUT": 2}
FOUR = _create("t0", "t1", "t2", "t3")
SIX = _create("t0", "t1", "t2", "t3", "t4", "t5")

SCENARIOS = {
    "first_commit": Scenario((_create("new"),)),
    "create": Scenario((_create("t1"), _create("t2", "t3")), _create("t0")),
    "flush": Scenario((_create("t2"),), _create("t0", "t1"), {"INLINE_ROWS": 2}),
    "merge": Scenario((_create("t4"),), FOUR, TINY),
    "large_merge": Scenario((_create("t4"),), FOUR, {**TINY, "MERGE_IN_COMMIT_ROWS": 1}),
    "bulk": Scenario((_create_many,), _create("t0"), TINY),
    "compact": Scenario((lambda store: store.catalog.compact(),), SIX, {"INLINE_ROWS": 2}),
    "new_group": Scenario((_create("t1", "t2"),), _create("t0"), {"GROUP": 2}),
    "transaction": Scenario((_transaction,), _create("t0", "t1")),
    "checkpoint": Scenario(
        (_checkpoint(4), _checkpoint(5), lambda store: store.catalog.renew_lease("t0")),
        _create("t0"),
    ),
    "build": Scenario((_build, _build)),
    "signed": Scenario((build_signed, build_signed)),
    "finalize": Scenario((_finalize,), _written),
    "written_elsewhere": Scenario((_written_elsewhere,)),
    "fail": Scenario((_fail,)),
    "recover": Scenario((_recover,), _dead_builds),
    "reap": Scenario((_reap,), _dead_builds),
    "delete_table": Scenario((_delete,), _build_two),
    "delete_source": Scenario((lambda store: store.delete_source("docs"),), _build_two),
    "tag": Scenario(
        (lambda store: store.catalog.tag("x"), lambda store: store.catalog.untag("x")),
        _create("t0"),
    ),
    "vacuum": Scenario((_vacuum, _create("new")), _garbage, TINY),
    "import": Scenario((_import,), _engine),
    "export": Scenario((_export,), _build_two),
    "repair": Scenario((_repair,), _without_catalog, {}, Way(enter=_not_opened)),
    "copy": Scenario((_copy,), _source, {}, COPYING),
    "copy_forward": Scenario((_copy,), _copied, TINY, COPYING._replace(rewrites=True)),
}
"""Every public call that writes."""

KILLINGS = {
    "first_commit": Killing(_create("a"), Scenario((_create("b"),))),
    "new_group": Killing(_create("t1"), Scenario((_create("t2"),), _create("t0"), {"GROUP": 2})),
    "flush": Killing(_create("t2"), Scenario((_create("t3"),), _create("t0", "t1"), TINY)),
    "retry": Killing(_create("t1"), Scenario((_create("t1", if_not_exists=True),), _create("t0"))),
    "checkpoint": Killing(_checkpoint(1), Scenario((_checkpoint(2),), _create("t0"))),
    "build": Killing(_build, Scenario((_recover,))),
    "signed": Killing(build_signed, Scenario((_recover,))),
    "write": Killing(
        lambda store: write(store, "t0"), Scenario((_finalize_if_written,), _create("t0"))
    ),
    "finalize": Killing(_finalize, Scenario((_recover,), _written)),
    "recover": Killing(_recover, Scenario((_reap,), _dead_builds)),
    "delete_table": Killing(_delete, Scenario((_vacuum,), _build_two)),
    "vacuum": Killing(_vacuum, Scenario((_vacuum,), _garbage, TINY)),
    "import": Killing(_import, Scenario((_import,), _engine)),
    "repair": Killing(_repair, SCENARIOS["repair"]),
    "restore": Killing(
        _restore, Scenario((_repair,), _without_versions, {}, Way(enter=_not_opened))
    ),
    "copy": Killing(_copy, SCENARIOS["copy"]),
    "copy_forward": Killing(_copy, SCENARIOS["copy_forward"]),
}
"""What a process that dies leaves visible, and not yet durable, for the next one to build on."""

ENTERED = "publish > sync_directory > _anchor > _sync"

SITES: dict[str, tuple[Scenario, *tuple[tuple[Call, int | str], ...]]] = {
    "publish > _finish > sync_file": (SCENARIOS["create"],),
    "publish > sync_directory > _sync": (SCENARIOS["create"],),
    ENTERED: (SCENARIOS["first_commit"],),
    "overwrite > _finish > sync_file": (SCENARIOS["checkpoint"],),
    "overwrite > sync_directory > _sync": (SCENARIOS["checkpoint"],),
    "overwrite > sync_directory > _anchor > _sync": (SCENARIOS["checkpoint"],),
    "settle > _sync": (SCENARIOS["written_elsewhere"],),
    "settle > sync_directory > _sync": (SCENARIOS["delete_table"],),
    "settle > sync_directory > _anchor > _sync": (
        Scenario((_create("t1", if_not_exists=True),), _create("t0"), {"GROUP": 2}),
        (_create("t1"), ENTERED),
    ),
    "make_directory > _make_directory > _anchor > _sync": (SCENARIOS["first_commit"],),
    "_make_directory > _make_directory > _anchor > _sync": (SCENARIOS["first_commit"],),
    "_acquire > _make_directory > _anchor > _sync": (Scenario((_lock, _create("t0"))),),
}
"""Each way to an `fsync` in ``local.py``, and a case that fails without it: processes that die
before one, and what others do then."""


@pytest.fixture(autouse=True)
def _dead_processes(monkeypatch):
    """Every lease is that of a process which is gone."""
    monkeypatch.setattr(lease, "find_death", lambda *_: "its process is gone")


@pytest.fixture(autouse=True)
def _decoded_once(monkeypatch):
    """Thousands of states hold the same objects; from the same bytes the same is decoded."""
    remembered = functools.lru_cache(MOST_DECODED)
    decode_manifest = remembered(manifest.decode_manifest)

    def decode(key, data, _=None):
        header, table, rows = decode_manifest(key, data)
        return header, table, list(rows)

    monkeypatch.setattr(manifest, "decode_manifest", decode)
    monkeypatch.setattr(manifest, "decode_segment", remembered(manifest.decode_segment))


@pytest.fixture
def turn(monkeypatch):
    """Return a function that sets the knobs of a scenario."""

    def turn_all(knobs):
        for knob, value in knobs.items():
            monkeypatch.setattr(numbering if knob == "GROUP" else manifest, knob, value)

    return turn_all


def _live(
    base: Path,
    scenario: Scenario,
    *killed: tuple[Call, int | str],
    durability: Durability = "fsync",
) -> Life:
    way = scenario.way._replace(durability=durability)
    with life(base, scenario.prepare, way) as lived:
        for call, before in killed:
            lived.cut_off(call, before)
        for call in scenario.calls:
            lived.call(call)
    return lived


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_state(name, tmp_path, turn, record_property):
    """`B276`: a cut at any moment loses nothing that was acknowledged and leaves nothing half."""
    scenario = SCENARIOS[name]
    turn(scenario.knobs)
    lived = _live(tmp_path / "test" / "life", scenario)
    explorer = Explorer(lived, tmp_path / "test" / "states", BOUNDS)
    explorer.explore(lived.record.ops)
    assert explorer.states > 1
    for figure in ("states", "moments", "sampled"):
        record_property(figure, getattr(explorer, figure))
    assert all(ends(site, *SITES) for site in lived.record.sites)


@pytest.mark.parametrize("name", KILLINGS)
def test_every_state_after_a_kill(name, tmp_path, turn, record_property):
    """`B276`: so it is where a process built on what one that was killed had left not synced.

    The first one dies before each of its operations in turn; in a usual run before some of its
    syncs, when most of what it leaves is not durable yet.
    """
    victim, scenario = KILLINGS[name]
    turn(scenario.knobs)
    states = 0
    for at in _ends(tmp_path / "whole" / "test" / "life", victim, scenario):
        place = tmp_path / str(at) / "test"
        lived = _live(place / "life", scenario, (victim, at))
        explorer = Explorer(lived, place / "states", AFTER_A_KILL)
        explorer.explore(lived.record.ops)
        states += explorer.states
    assert states > 1
    record_property("states", states)


def _ends(base: Path, victim: Call, scenario: Scenario) -> list[int]:
    """Return the numbers of the operations before which the victim dies."""
    lived = _live(base, scenario._replace(calls=(victim,)))
    ops = [op for op in lived.record.ops if op.kind is not Kind.MARK]
    found = [at for at, op in enumerate(ops) if at and (ALL or op.kind is Kind.SYNC)]
    # Late, too, when nothing is to come that would sync the same directories by the way.
    some = {*found[:: math.ceil(len(found) / MOST_ENDS)], *found[-3:-2]}
    return found if ALL else sorted(some)


@pytest.mark.parametrize("site", SITES)
def test_every_sync_is_needed(site, tmp_path, turn):
    """Without any one `fsync` something acknowledged is lost, or something is half there."""
    scenario, *killed = SITES[site]
    turn(scenario.knobs)
    lived = _live(tmp_path / "test" / "life", scenario, *killed)
    explorer = Explorer(lived, tmp_path / "test" / "states", BOUNDS)
    explorer.explore(lived.record.ops)
    fewer = without(lived.record.ops, site)
    assert len(fewer) < len(lived.record.ops)
    with pytest.raises((AssertionError, JammiFilesError)):
        Explorer(lived, tmp_path / "test" / "states_without", BOUNDS).explore(fewer)


def test_sites_are_all_there_are():
    """Every call in ``local.py`` that leads to an `fsync` is one of those that are taken out."""
    leads = {"fsync", "sync_file", "_sync", "_anchor", "_finish", "sync_directory"}
    leads |= {"make_directory", "_make_directory"}
    steps = {pair for site in SITES for pair in pairwise(site.split(" > "))}
    steps |= {("_sync", "fsync"), ("sync_file", "fsync"), ("__init__", "make_directory")}
    tree = ast.parse(Path(local.__file__).read_text())
    found = set()
    for function in ast.walk(tree):
        for call in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if isinstance(call, ast.Call):
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                found |= {(function.name, name)} if name in leads else set()
    assert found == steps


def test_without_hard_links(tmp_path, monkeypatch):
    """Where a rename stands for the link, a cut finds no less."""

    def refuse(*_):
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", refuse)
    lived = _live(tmp_path / "test" / "life", SCENARIOS["build"])
    assert Kind.RENAME in {op.kind for op in lived.record.ops}
    Explorer(lived, tmp_path / "test" / "states", BOUNDS).explore(lived.record.ops)


@pytest.mark.parametrize("name", ["first_commit", "merge", "build", "vacuum"])
def test_without_syncs(name, tmp_path, turn, record_property):
    """``durability="os"``: a cut may lose anything, but no answer is made of half an object."""
    scenario = SCENARIOS[name]
    turn(scenario.knobs)
    lived = _live(tmp_path / "test" / "life", scenario, durability="os")
    assert not lived.record.sites
    explorer = UnsyncedExplorer(lived, tmp_path / "test" / "states", UNSYNCED)
    explorer.explore(lived.record.ops)
    assert explorer.true
    assert explorer.told
    for figure in ("states", "true", "told"):
        record_property(figure, getattr(explorer, figure))


@pytest.mark.parametrize("rows", [128, 129])
def test_every_torn_form_is_told(rows, tmp_path):
    """A manifest or segment of which any sector is missing is refused, never read in part."""
    catalog = connect(tmp_path, durability="os").catalog
    with catalog.transaction() as tx:
        for number in range(rows):
            tx.create_result_table(**row(f"t{number}", properties={"note": "x" * number}))
    key, segments = log.key_of(1), catalog.storage.list(SEGMENTS)
    forms = [(key, form, manifest.decode_manifest) for form in torn(catalog.storage.read(key))]
    for name in segments:
        data = catalog.storage.read(f"{SEGMENTS}/{name}")
        forms += [(name, form, manifest.decode_segment) for form in torn(data)]
    assert len(segments) == rows - 128
    assert len(forms) > 30
    for name, form, decode in forms:
        with pytest.raises(FormatError, match=name):
            decode(name, form)
