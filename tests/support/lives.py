"""Calls on a local root, recorded; what each made known; and the check of what a cut leaves of it.

Rows, tags and checkpoints are compared with what the running system showed, version by version:
nothing of the code under test says what should be there after the cut.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from support.invariants import AFTER_RECOVERY, CRASH_POINTS, check_invariants
from support.power import Bounds, State, moments, require_complete
from support.recording import Op, Record, dying, recording, tree_of
from support.results import require_signed, row

from jammi_files import connect, local
from jammi_files.catalog import Catalog
from jammi_files.errors import FormatError, StateError
from jammi_files.fsck import Kind, Severity, fsck
from jammi_files.local import LocalStorage
from jammi_files.log import key_of
from jammi_files.schema import ResultTableRecord, ResultTableStatus
from jammi_files.storage import Durability
from jammi_files.store import ResultStore, verify_one

HOME = "home"
ROOT = f"{HOME}/results/root"
"""Where the root is: not there at first, and neither is what it lies in."""

EXPORTED = f"{HOME}/exported"
"""Where a scenario exports to."""

Call = Callable[[Any], object]
"""Something that a process does: with a `ResultStore`, or with whatever `Way.enter` returns."""


class Way(NamedTuple):
    """How a life is lived.

    ``enter`` opens the root for a call. ``resume`` ends what a cut has left that cannot be opened
    yet. ``rewrites`` says that versions are replaced later by others of the same number.
    """

    durability: Durability = "fsync"
    enter: Callable[..., Any] = connect
    resume: Callable[[Path], object] | None = None
    rewrites: bool = False


class Seen(NamedTuple):
    """A version as the running system showed it."""

    manifest: bytes
    rows: dict[str, ResultTableRecord]
    tags: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Acknowledged:
    """What must survive: a version, checkpoints, exported files, and that data is gone."""

    version: int = 0
    checkpoints: Mapping[str, int] = dataclasses.field(default_factory=dict)
    exported: State = frozenset()
    gone: frozenset[str] = frozenset()


class Survivor(NamedTuple):
    """What a state showed when it was opened."""

    version: int
    checkpoints: Mapping[str, int]


class Life:
    """A root under ``base``, the record of what is done to it, and what that made known."""

    def __init__(self, base: Path, record: Record, way: Way) -> None:
        self.root = base / ROOT
        self.record = record
        self.way = way
        self.versions: dict[int, Seen] = {}
        self._base = base
        self._data: set[str] = set()
        self.learn()
        self._acknowledged = Acknowledged(max(self.versions))
        record.mark(self._acknowledged)

    @property
    def exported(self) -> State:
        """What an export has left so far."""
        found = tree_of(self._base).items()
        return frozenset((path, data) for path, data in found if path.startswith(EXPORTED))

    def call(self, call: Call) -> None:
        """Do something in a process of its own, and note what holds once it has returned."""
        call(self._enter())
        catalog = self.learn()
        assert catalog is not None
        self._acknowledged = Acknowledged(
            catalog.version,
            _checkpoints(catalog),
            self.exported,
            frozenset(path for path in self._data if not (self.root / path).exists()),
        )
        self.record.mark(self._acknowledged)

    def cut_off(self, call: Call, before: int | str) -> None:
        """Do something in a process that dies over it; cuts before its death are not looked at."""
        with dying(self.record, before):
            call(self._enter())
        self.learn()
        self.record.forget_marks()
        self.record.mark(self._acknowledged)

    def learn(self) -> Catalog | None:
        """Note every version that there is, acknowledged or not; None if it cannot be opened."""
        try:
            catalog = _open(self.root)
        except StateError:
            return None
        for version in _kept(catalog):
            if version not in self.versions:
                self.versions[version] = _see(catalog, version)
        rows = (row for seen in self.versions.values() for row in seen.rows.values())
        paths = {row.parquet_path for row in rows}
        self._data |= {path for path in paths if (self.root / path).exists()}
        return catalog

    def _enter(self) -> Any:
        return self.way.enter(self.root, durability=self.way.durability)


@contextmanager
def life(base: Path, prepare: Call | None, way: Way) -> Iterator[Life]:
    """Yield a life that begins on a disk where all that ``prepare`` did is durable."""
    (base / HOME).mkdir(parents=True)
    if prepare is not None:
        prepare(way.enter(base / ROOT, durability="os"))
    with recording(base, local.__file__) as record:
        yield Life(base, record, way)
    require_complete(record, tree_of(base))


class Explorer:
    """Looks at every state that a cut may leave of a life, once, in directories under ``place``."""

    def __init__(self, lived: Life, place: Path, bounds: Bounds) -> None:
        self._life, self._place, self._bounds = lived, place, bounds
        self._exported = lived.exported
        self._found: dict[State, Survivor] = {}
        self._numbers = itertools.count()
        self.moments = self.sampled = 0

    @property
    def states(self) -> int:
        """How many different states there were."""
        return len(self._found)

    def explore(self, ops: Iterable[Op]) -> None:
        """Check all states of all moments, each against what had been acknowledged by then."""
        for moment in moments(self._life.record.start, ops, self._bounds):
            self.moments += 1
            self.sampled += moment.is_sample
            for state in moment.states:
                if state not in self._found:
                    self._found[state] = self._look(state)
                self._require(moment.mark, state, self._found[state])

    def _require(self, acknowledged: Acknowledged, state: State, survivor: Survivor) -> None:
        require_kept(acknowledged, state, survivor)

    def _look(self, state: State) -> Survivor:
        with self._materialized(state) as root:
            survivor = check(root, self._life)
        if f"{EXPORTED}/catalog.db" in dict(state):
            assert state >= self._exported, "an export that looks finished is not"
        return survivor

    @contextmanager
    def _materialized(self, state: State) -> Iterator[Path]:
        place = self._place / f"state{next(self._numbers)}"
        place.mkdir(parents=True)
        for path, data in sorted(state):
            if data is None:
                (place / path).mkdir()
            else:
                (place / path).write_bytes(data)
        yield place / ROOT
        shutil.rmtree(place)


class UnsyncedExplorer(Explorer):
    """Looks at what a cut leaves of a life without syncs: anything may be lost, nothing be wrong.

    ``told`` counts the states that an error told, ``true`` those that held a version whole.
    """

    told = true = 0

    def _require(self, acknowledged: Acknowledged, state: State, survivor: Survivor) -> None:
        pass

    def _look(self, state: State) -> Survivor:
        with self._materialized(state) as root:
            try:
                survivor = check_true(root, self._life)
                self.true += 1
            except FormatError:
                survivor = Survivor(0, {})
                self.told += 1
                require_found(root)
        return survivor


def check_true(root: Path, lived: Life) -> Survivor:
    """Open what a cut left of a life without syncs; whatever it answers was true of a version.

    Raises:
        FormatError: it does not answer.
    """
    catalog = _open(root)
    found = _see(catalog, catalog.version)
    known = lived.versions[catalog.version]
    assert (found.rows, found.tags) == (known.rows, known.tags)
    store = ResultStore(catalog)
    for name in (name for name, record in found.rows.items() if record.is_ready):
        path = found.rows[name].parquet_path
        verification = verify_one(store, name)
        if verification.ok:
            assert (root / path).read_bytes() == (lived.root / path).read_bytes()
        else:
            assert name in {finding.subject for finding in fsck(catalog, deep=True)}
    store.recover()
    catalog.create_result_table(**row("after the cut"))
    assert _open(root).get_result_table("after the cut") is not None
    return Survivor(catalog.version, {})


def require_found(root: Path) -> None:
    """Refuse a state that does not open and of which fsck has nothing to say."""
    try:
        findings = fsck(_open(root), deep=True)
    except FormatError:
        return  # format.json itself is damaged, which opening says
    assert Severity.ERROR in {finding.severity for finding in findings}


def check(root: Path, lived: Life) -> Survivor:
    """Open what a cut left, check it, recover it, write to it, and check again."""
    unfinished = None
    try:
        catalog = _open(root)
    except StateError:
        assert lived.way.resume is not None
        unfinished = Survivor(0, {})
        lived.way.resume(root)
        catalog = _open(root)
    check_invariants(catalog.storage, CRASH_POINTS)
    require_known(catalog, lived)
    survivor = Survivor(catalog.version, _checkpoints(catalog))
    store = ResultStore(catalog)
    ready = [record.table_name for record in catalog.list_result_tables_by_status("ready")]
    store.recover()
    assert catalog.list_result_tables_by_status("building") == []
    for record in map(catalog.get_result_table, ready):
        assert record is not None
        assert record.is_ready
    require_signed(catalog)
    version = catalog.version
    catalog.create_result_table(**row("after the cut"))
    assert catalog.version > version
    remains = {*AFTER_RECOVERY, Kind.RETIRED_VERSION, Kind.DEAD_BUILD}
    check_invariants(catalog.storage, remains)
    return unfinished or survivor


def require_known(catalog: Catalog, lived: Life) -> None:
    """Refuse versions that the running system has not shown."""
    newest = _see(catalog, catalog.version)
    if lived.way.rewrites:
        assert (newest.rows, newest.tags) in [seen[1:] for seen in lived.versions.values()]
        return
    assert newest == lived.versions[catalog.version]
    for version in _kept(catalog)[1:]:
        data = catalog.storage.read(key_of(version))
        assert data == lived.versions[version].manifest, f"version {version} is another one"


def require_kept(acknowledged: Acknowledged, state: State, survivor: Survivor) -> None:
    """Refuse a state in which something is lost that had been acknowledged."""
    assert survivor.version >= acknowledged.version
    if survivor.version == acknowledged.version:
        for name, number in acknowledged.checkpoints.items():
            assert survivor.checkpoints.get(name, -1) >= number
    assert state >= acknowledged.exported
    paths = {path for path, _ in state}
    assert not {f"{ROOT}/{path}" for path in acknowledged.gone} & paths


def _open(root: Path) -> Catalog:
    return Catalog(LocalStorage(root, "os")).as_admin()


def _kept(catalog: Catalog) -> list[int]:
    keeps = catalog.log.head().header.retention.keeps
    return [version for version in (0, *catalog.log.versions()) if keeps(version)]


def _see(catalog: Catalog, version: int) -> Seen:
    snapshot = catalog.snapshot(version)
    found = [snapshot.list_result_tables_by_status(status) for status in ResultTableStatus]
    rows = {record.table_name: record for record in itertools.chain.from_iterable(found)}
    manifest = catalog.log.read(version) if version else b""
    return Seen(manifest, rows, dict(catalog.log.at(version).header.retention.tags))


def _checkpoints(catalog: Catalog) -> dict[str, int]:
    names = [record.table_name for record in catalog.list_result_tables_by_status("building")]
    found = {name: catalog.get_checkpoint(name) for name in names}
    return {name: number for name, number in found.items() if number is not None}
