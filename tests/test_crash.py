"""Every state that a crash can leave, one storage operation at a time.

Each case dies at one operation of one call: before it, half way through, or after it. What the
disk then holds is opened anew, checked, and recovered.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from support.faults import CountingStorage, Crash, CrashingStorage, When
from support.invariants import CRASH_POINTS, check_invariants
from support.results import (
    TABLE,
    build,
    build_signed,
    finalize,
    require_signed,
    row,
    rows,
    write,
)
from support.roots import LocalRoots, MemoryRoots, contents

from jammi_files import lease, manifest
from jammi_files.catalog import Catalog
from jammi_files.draft import SEGMENTS
from jammi_files.fsck import Kind
from jammi_files.reads import Reads
from jammi_files.storage import Storage
from jammi_files.store import ResultStore

# A dead process ends no Parquet writer; Python's garbage collector tries to, and is refused.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

COLUMNS = [
    "table_name",
    "source_id",
    "status",
    "row_count",
    "checkpoint",
    "derived_from",
    "definition_hash",
]
State = list[tuple[Any, ...]]


class Scenario(NamedTuple):
    """A call, what was acknowledged before it, and what it is known to write.

    ``operations`` are those of its versions and ``segments`` the number that it writes, so that a
    scenario cannot miss what it is named for. ``leaves`` are the notices that may outlive recovery,
    beside the temporary files of a local root.
    """

    prepare: Callable[[ResultStore], object]
    act: Callable[[ResultStore], object]
    operations: tuple[str, ...] = ()
    segments: int = 0
    leaves: frozenset[Kind] = frozenset()
    knobs: Mapping[str, int] = {}


def _nothing(_: ResultStore) -> None:
    pass


def _rows_named(*names: str) -> Callable[[ResultStore], None]:
    def create(store: ResultStore) -> None:
        for name in names:
            store.catalog.create_result_table(**row(name))

    return create


def _built(store: ResultStore) -> None:
    build(store)
    _rows_named("other")(store)


def _written(store: ResultStore) -> None:
    store.catalog.create_result_table(**row("t0"))
    write(store, "t0")


def _many(store: ResultStore) -> None:
    names = [f"bulk{number}" for number in range(manifest.INLINE_ROWS + 2)]
    store.catalog.create_result_tables(rows(*names))


def _transaction(store: ResultStore) -> None:
    with store.catalog.transaction() as tx:
        tx.create_result_table(**row("t2", derived_from="t0"))
        tx.update_result_table_status("t0", "building", 5)
        tx.promote_result_table_with_manifest("t2", 2, "0" * 64, [])
        tx.update_result_table_status("t2", "failed", 0)
        tx.delete_result_table("t1")


def _delete(store: ResultStore) -> None:
    name = store.catalog.list_result_tables_by_status("ready")[0].table_name
    store.delete_table(name)


def _dead_builds(store: ResultStore) -> None:
    """Leave a row in each state of the table "Recovery"."""
    for name in ("no_data", "no_footer", "no_sidecar", "attested", "other_bytes"):
        store.catalog.create_result_table(**row(name))
    store.storage.create("no_footer.parquet", b"PAR1 and nothing more")
    write(store, "no_sidecar")
    store.catalog.set_checkpoint("no_sidecar", 3)
    write(store, "attested")
    write(store, "other_bytes")
    _attest(store, "attested", "attested")
    _attest(store, "attested", "other_bytes", b'"artifact": "', b'"artifact": "00')
    build(store)


def _attest(store: ResultStore, name: str, target: str, *swap: bytes) -> None:
    """Write the sidecar of a row that stays building."""
    twin = f"{target}_twin"
    store.catalog.create_result_table(**row(twin))
    write(store, twin)
    finalize(store, twin)
    sidecar = store.storage.read(f"{twin}.materialization.json")
    store.delete_table(twin)
    if swap:
        start = sidecar.index(swap[0]) + len(swap[0])
        sidecar = sidecar[:start] + b"00000000" + sidecar[start + 8 :]
    store.storage.create(f"{target}.materialization.json", sidecar)
    assert name


def _create(store: ResultStore) -> None:
    store.catalog.create_result_table(**row("new"))


TINY = {"INLINE_ROWS": 2, "FAN_OUT": 2}
LARGE_MERGE = {**TINY, "MERGE_IN_COMMIT_ROWS": 1}
ORPHAN_SEGMENT = frozenset({Kind.ORPHAN_SEGMENT})
ORPHAN_OBJECT = frozenset({Kind.ORPHAN_OBJECT})

SCENARIOS = {
    "first_commit": Scenario(_nothing, _create, ("create",)),
    "create": Scenario(_rows_named("t0"), _create, ("create",)),
    "flush": Scenario(
        _rows_named("t0", "t1"), _create, ("create",), 1, ORPHAN_SEGMENT, {"INLINE_ROWS": 2}
    ),
    "merge": Scenario(
        _rows_named("t0", "t1", "t2", "t3"), _create, ("create",), 1, ORPHAN_SEGMENT, TINY
    ),
    "large_merge": Scenario(
        _rows_named("t0", "t1", "t2", "t3"),
        _create,
        ("create", "merge"),
        2,
        ORPHAN_SEGMENT,
        LARGE_MERGE,
    ),
    "bulk": Scenario(_rows_named("t0"), _many, ("create",), 1, ORPHAN_SEGMENT),
    "update": Scenario(
        _rows_named("t0"),
        lambda store: store.catalog.update_result_table_status("t0", "building", 9),
        ("update",),
    ),
    "checkpoint": Scenario(
        _rows_named("t0"), lambda store: store.catalog.set_checkpoint("t0", 4), ()
    ),
    "fail": Scenario(
        _written, lambda store: store.catalog.fail_result_table("t0", "x"), ("failed",)
    ),
    "create_table": Scenario(_built, lambda store: store.create_table(*TABLE), ("create",)),
    "build": Scenario(_rows_named("t0"), build, ("create", "ready")),
    "signed": Scenario(_rows_named("t0"), build_signed, ("create", "ready")),
    "delete_signed": Scenario(build_signed, _delete, ("delete",), 0, ORPHAN_OBJECT),
    "finalize": Scenario(_written, lambda store: finalize(store, "t0"), ("ready",)),
    "recover": Scenario(_dead_builds, lambda store: store.recover(), ("failed",) * 4 + ("ready",)),
    "reap": Scenario(
        _dead_builds, lambda store: store.recover(reap=True), ("failed",) * 4 + ("ready",)
    ),
    "delete_table": Scenario(_built, _delete, ("delete",), 0, ORPHAN_OBJECT),
    "delete_source": Scenario(
        _built, lambda store: store.delete_source("docs"), ("delete",), 0, ORPHAN_OBJECT
    ),
    "transaction": Scenario(
        _rows_named("t0", "t1"), _transaction, ("create+update+ready+failed+delete",)
    ),
    "compact": Scenario(
        _rows_named("t0", "t1", "t2", "t3", "t4", "t5"),
        lambda store: store.catalog.compact(),
        ("compact",),
        1,
        ORPHAN_SEGMENT,
        {"INLINE_ROWS": 2},
    ),
}


@pytest.fixture(params=["local", "memory"])
def roots(request, tmp_path):
    supply = LocalRoots(tmp_path) if request.param == "local" else MemoryRoots()
    yield supply
    supply.close()


@pytest.fixture(autouse=True)
def _dead_process(monkeypatch):
    """Every lease is that of a process which is gone."""
    monkeypatch.setattr(lease, "find_death", lambda *_: "its process is gone")


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_crash_state(name, roots, monkeypatch):
    """`B257`, `B273`, `B276`: wherever a call is cut off, it is wholly there or not at all."""
    scenario = SCENARIOS[name]
    for knob, value in scenario.knobs.items():
        monkeypatch.setattr(manifest, knob, value)
    prepared = roots.new()
    scenario.prepare(_open(prepared))
    states = _states_of(scenario, roots.copy(prepared))
    whens = list(When) if isinstance(roots, LocalRoots) else [When.BEFORE, When.AFTER]
    reached, checked = 0, set()
    for at, when in ((at, when) for at in itertools.count() for when in whens):
        storage = roots.copy(prepared)
        crashing = CrashingStorage(storage, at, when)
        try:
            scenario.act(_open(crashing))
        except Crash:
            left = (crashing.done, crashing.partial and when)
            if left not in checked:
                checked.add(left)
                reached = _check(storage, scenario, states, reached)
        else:
            break
    assert len(checked) >= len(whens)
    assert states[reached] == states[-1]


def test_dead_storage_refuses_everything(roots):
    """No cleanup of the code under test can reach the disk after the crash."""
    storage = roots.new()
    crashing = CrashingStorage(storage, 1, When.BEFORE)
    out = crashing.writer("half")
    with pytest.raises(Crash):
        out.write(b"data")
    before = contents(storage)
    for attempt in (
        out.abort,
        out.publish,
        lambda: crashing.create("a", b"x"),
        lambda: crashing.replace("a", b"x"),
        lambda: crashing.delete("half"),
        lambda: crashing.writer("b"),
        lambda: crashing.size("a"),
        crashing.lock().__enter__,
    ):
        with pytest.raises(Crash):
            attempt()
    assert contents(storage) == before


def _states_of(scenario: Scenario, storage: Storage) -> list[State]:
    """Run the call to its end and return the rows after each version that it made."""
    first = Catalog(storage).version
    counting = CountingStorage(storage)
    scenario.act(_open(counting))
    catalog = Catalog(storage).as_admin()
    made = catalog.history()[first:]
    assert sorted(info.operation for info in made) == sorted(scenario.operations)
    written = [key for key in counting.calls.keys("create") if key.startswith(SEGMENTS)]
    assert len(written) == scenario.segments
    check_invariants(storage, {Kind.DEAD_BUILD})
    return [_state(catalog.snapshot(version)) for version in range(first, catalog.version + 1)]


def _check(storage: Storage, scenario: Scenario, states: list[State], reached: int) -> int:
    """Check what a crash left, recover it, check that; return how far the call had come."""
    check_invariants(storage, CRASH_POINTS)
    reached = states.index(_state(Catalog(storage).as_admin()), reached)
    store = _open(storage).as_admin()
    store.recover()
    settled = contents(storage)
    for record in store.catalog.list_result_tables_by_status("ready"):
        assert store.verify_materialization(record.table_name).ok
    require_signed(store.catalog)
    assert store.catalog.list_result_tables_by_status("building") == []
    found = check_invariants(storage, scenario.leaves | {Kind.TEMPORARY_FILE})
    for finding in found:  # data outlives its row only with the sidecar that says what it is
        if finding.kind is Kind.ORPHAN_OBJECT:
            sidecar = finding.subject.replace(".parquet", ".materialization.json")
            assert storage.size(sidecar) is not None
    in_root = [finding for finding in found if "/" not in finding.subject]
    assert all(finding.kind in scenario.leaves for finding in in_root)
    assert not _open(storage).as_admin().recover()
    assert contents(storage) == settled
    return reached


def _state(catalog: Reads) -> State:
    """Return the rows, without what differs from run to run: the instant in a name."""
    found = catalog.scan(columns=COLUMNS).to_pylist()
    return sorted(
        ((fields["table_name"].partition("__2")[0], *map(str, list(fields.values())[1:])))
        for fields in found
    )


def _open(storage: Storage) -> ResultStore:
    return ResultStore(Catalog(storage))
