"""A state machine that drives two openings of one catalog, under every scope, beside the oracle.

Each step makes the same call on the library and on the oracle and compares both answers in full:
rows, order and refusals. Instants are the library's own, so the oracle is told them; the machine
checks that they only grow. `knobs` makes runs so short that flushes and merges happen all the time.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import shutil
import tempfile
import uuid
from typing import Any, NamedTuple
from unittest import mock

import fsspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.calls import (
    CHECKPOINTS,
    CONTRACTS,
    EVERY_QUESTION,
    NAMES,
    QUERIES,
    ROWS,
    TENANTS,
    WRITES,
    Call,
)
from support.oracle import Oracle, Row, Who
from support.sides import Refusal, instants_of, plan, rows_of_table

from jammi_files import indexes, log, manifest, numbering, runs
from jammi_files.catalog import Catalog
from jammi_files.errors import ConflictError

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
ADMIN = Who(None, admin=True)
KEPT_PINS = 6


class Handle(NamedTuple):
    """Which opening of the catalog asks, and for whom."""

    opening: int
    who: Who


class Pin(NamedTuple):
    """A version that was current once, and the oracle as it was then."""

    snapshot: Any
    who: Who
    then: Oracle


whos = st.builds(Who, st.sampled_from((*TENANTS, *TENANTS[:2])), st.booleans())
handles = st.builds(Handle, st.integers(0, 1), whos)
numbers = st.integers(0, len(NAMES) - 1)
knobs = st.fixed_dictionaries(
    {
        "INLINE_ROWS": st.sampled_from((1, 4)),
        "FAN_OUT": st.sampled_from((2, 3)),
        "MERGE_IN_COMMIT_ROWS": st.sampled_from((5, 8192)),
        "ROW_GROUP_ROWS": st.sampled_from((2, 16_384)),
        "SMALL": st.sampled_from((0, 3, 4096)),
    }
)


class _AbandonedError(Exception):
    """Raised inside a transaction on purpose."""


class CatalogMachine(RuleBasedStateMachine):
    """The steps; a subclass says where the root is and counts in ``steps``."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.patches = contextlib.ExitStack()
        self.root = self.make_root()
        self.oracle = Oracle()
        self.pins: list[Pin] = []
        self.last_instant = ""
        self.told = 0
        self.openings = [self.open(), self.open()]

    @classmethod
    def make_root(cls) -> str:
        raise NotImplementedError

    def remove_root(self) -> None:
        raise NotImplementedError

    def teardown(self) -> None:
        self.patches.close()
        for oracle in [self.oracle, *(pin.then for pin in self.pins)]:
            oracle.close()
        self.remove_root()

    def open(self) -> Catalog:
        return Catalog.open(self.root, durability="os")

    @initialize(values=knobs)
    def turn_knobs(self, values: dict[str, int]) -> None:
        for module in (manifest, runs):
            mine = {name: value for name, value in values.items() if hasattr(module, name)}
            self.patches.enter_context(mock.patch.multiple(module, **mine))
        self.patches.enter_context(mock.patch.object(numbering, "GROUP", 10))
        self.patches.enter_context(mock.patch.object(indexes, "_BLOCK", 2))

    @rule(handle=handles, calls=st.lists(WRITES, min_size=2, max_size=8))
    def write(self, handle: Handle, calls: list[Call]) -> None:
        """Make changes: a version more for each that changes rows, none for a refused one."""
        for call in calls:
            before = self.version()
            self.make(call, self.at(handle), handle.who)
            assert (self.version() > before) == bool(self.oracle.changed_rows)

    @rule(handle=handles, rows=st.lists(ROWS, min_size=1, max_size=4), parent=numbers)
    def add(self, handle: Handle, rows: list[Row], parent: int) -> None:
        """Create rows under free names; the first derives from a row that is there."""
        taken = [row["table_name"] for row in self.oracle.scan(ADMIN)]
        seen = [row["table_name"] for row in self.oracle.scan(handle.who)]
        for name, row in zip((name for name in NAMES if name not in taken), rows, strict=False):
            derived_from = seen[parent % len(seen)] if seen and row is rows[0] else None
            created = row | {"table_name": name, "derived_from": derived_from}
            call = Call("create", {"row": created, "if_not_exists": False})
            self.make(call, self.at(handle), handle.who)

    @rule(handle=handles, index=numbers, contracts=st.lists(CONTRACTS, min_size=1, max_size=3))
    def finish(self, handle: Handle, index: int, contracts: list[dict[str, Any]]) -> None:
        """Promote rows that the handle sees building."""
        building = [row["table_name"] for row in self.oracle.by_status(handle.who, "building")]
        for name, contract in zip(building[index:], contracts, strict=False):
            call = Call("promote", contract | {"name": name})
            self.make(call, self.at(handle), handle.who)

    @rule(opening=st.integers(0, 1), index=numbers, cascade=st.booleans(), one=st.booleans())
    def remove(self, opening: int, index: int, *, cascade: bool, one: bool) -> None:
        """Delete a row that is there, or all of its source, in its owner's name."""
        rows = self.oracle.scan(ADMIN)
        if rows:
            row = rows[index % len(rows)]
            one_call = Call("delete_one", {"name": row["table_name"], "cascade": cascade})
            all_call = Call("delete", {"source": row["source_id"], "cascade": cascade})
            owner = Handle(opening, Who(row["tenant_id"]))
            self.make(one_call if one else all_call, self.at(owner), owner.who)

    @rule(handle=handles, call=QUERIES)
    def query(self, handle: Handle, call: Call) -> None:
        """Ask one question with its filters, then every question without."""
        self.make(call, self.at(handle), handle.who)
        self.ask_everything(self.at(handle), handle.who)

    @rule(handle=handles, call=CHECKPOINTS)
    def checkpoint(self, handle: Handle, call: Call) -> None:
        """Set or read a checkpoint, which makes no version (`B165`)."""
        before = self.version()
        self.make(call, self.at(handle), handle.who)
        assert self.version() == before

    @rule(
        handle=handles,
        calls=st.lists(WRITES | QUERIES, min_size=1, max_size=5),
        end=st.sampled_from(("commit", "raise", "raise if refused")),
    )
    def transaction(self, handle: Handle, calls: list[Call], end: str) -> None:
        """Make several changes one version, or none of them."""
        before, changed, abandoned = self.version(), 0, False
        with (
            contextlib.suppress(_AbandonedError),
            self.oracle.all_or_nothing(),
            self.at(handle).transaction() as tx,
        ):
            for call in calls:
                answer = self.make(call, tx, handle.who)
                changed += self.oracle.changed_rows
                if end == "raise if refused" and isinstance(answer, Refusal):
                    abandoned = True
                    raise _AbandonedError
            if end == "raise":
                abandoned = True
                raise _AbandonedError
        assert (self.version() > before) == (bool(changed) and not abandoned)

    @rule(handle=handles)
    def pin(self, handle: Handle) -> None:
        """Keep a snapshot of now, and the oracle's copy of now beside it."""
        pinned = self.at(handle).snapshot()
        assert pinned.version == self.version()
        self.pins.append(Pin(pinned, handle.who, self.oracle.copy()))
        if len(self.pins) > KEPT_PINS:
            self.pins.pop(0).then.close()

    @precondition(lambda self: self.pins)
    @rule(index=numbers, call=QUERIES)
    def query_kept_snapshot(self, index: int, call: Call) -> None:
        """Ask a snapshot that was taken when its version was current (`B281`)."""
        pin = self.pins[index % len(self.pins)]
        self.make(call, pin.snapshot, pin.who, pin.then)
        self.ask_everything(pin.snapshot, pin.who, pin.then)

    @precondition(lambda self: self.pins)
    @rule(
        handle=handles,
        index=numbers,
        call=QUERIES,
        by_instant=st.booleans(),
        anew=st.booleans(),
    )
    def query_old_version(
        self, handle: Handle, index: int, call: Call, *, by_instant: bool, anew: bool
    ) -> None:
        """Ask a snapshot that is taken now of a version which is current no more."""
        pin = self.pins[index % len(self.pins)]
        catalog = scoped(self.open(), handle.who) if anew else self.at(handle)
        if by_instant and pin.snapshot.version:
            old = catalog.snapshot(as_of=pin.snapshot.committed_at)
        else:
            old = catalog.snapshot(version=pin.snapshot.version)
        assert old.version == pin.snapshot.version
        self.make(call, old, handle.who, pin.then)
        self.ask_everything(old, handle.who, pin.then)

    @precondition(lambda self: self.pins)
    @rule(handle=handles, index=numbers)
    def changes(self, handle: Handle, index: int) -> None:
        """Read the net changes since an old version: with them it becomes the present one."""
        pin = self.pins[index % len(self.pins)]
        table = self.at(handle).changes(since=pin.snapshot.version)
        versions = table.column("version").to_pylist()
        assert all(pin.snapshot.version < version <= self.version() for version in versions)
        changed = table.column("table_name").to_pylist()
        kinds = dict(zip(changed, table.column("change_type").to_pylist(), strict=True))
        assert len(kinds) == len(changed)
        rows = rows_of_table(table.drop_columns(["change_type", "version"]))
        found = {row["table_name"]: (kinds[row["table_name"]], row) for row in rows}
        old = {row["table_name"]: row for row in pin.then.scan(handle.who)}
        new = {row["table_name"]: row for row in self.oracle.scan(handle.who)}
        expected = {name: ("insert", new[name]) for name in new.keys() - old.keys()}
        expected |= {name: ("delete", old[name]) for name in old.keys() - new.keys()}
        for name in old.keys() & new.keys():
            if old[name] != new[name] or name in found:  # written again, with the same values
                expected[name] = ("update", new[name])
        assert found == expected

    @rule(opening=st.integers(0, 1), how=st.sampled_from(("open", "pickle")))
    def reopen(self, opening: int, how: str) -> None:
        """Open the catalog anew, by its root or by way of a pickle."""
        old = self.openings[opening]
        self.openings[opening] = (
            self.open() if how == "open" else pickle.loads(pickle.dumps(old))  # noqa: S301 - our own bytes
        )

    @rule(opening=st.integers(0, 1))
    def compact(self, opening: int) -> None:
        """Merge all segments: the answers stay (the invariant looks)."""
        assert self.openings[opening].compact() == self.version()

    @invariant()
    def both_openings_are_current(self) -> None:
        """Each opening knows of every commit; after one they take turns in telling everything."""
        type(self).steps += 1
        version = self.version()
        assert self.openings[1].version == version
        if version != self.told:
            self.told = version
            self.ask_everything(self.openings[self.steps % 2].as_admin(), ADMIN)

    def ask_everything(self, target: Any, who: Who, oracle: Oracle | None = None) -> None:
        for call in EVERY_QUESTION:
            if hasattr(target, "get_checkpoint") or call.operation != "get_checkpoint":
                self.make(call, target, who, oracle)

    def make(self, call: Call, target: Any, who: Who, oracle: Oracle | None = None) -> Any:
        """Make a call on both sides, compare, and return the answer."""
        oracle = oracle or self.oracle
        ours, theirs = plan(call, who)
        got = ours(target)
        self.compare(call, got, theirs(oracle, got), oracle)
        return got

    def compare(self, call: Call, got: Any, want: Any, oracle: Oracle) -> None:
        assert got == want, f"{call}\nthe library: {got}\nthe oracle:  {want}"
        for instant in instants_of(call, got) if oracle.changed_rows else ():
            assert INSTANT.fullmatch(instant)
            assert instant > self.last_instant
            self.last_instant = instant

    def at(self, handle: Handle) -> Catalog:
        return scoped(self.openings[handle.opening], handle.who)

    def version(self) -> int:
        return self.openings[0].version


class LocalMachine(CatalogMachine):
    """The root is a directory."""

    @classmethod
    def make_root(cls) -> str:
        return tempfile.mkdtemp(prefix="jammi_files-")

    def remove_root(self) -> None:
        shutil.rmtree(self.root)


class MemoryMachine(CatalogMachine):
    """The root is in memory, where two openings share no lock: their commits can collide."""

    @classmethod
    def make_root(cls) -> str:
        return f"memory://{uuid.uuid4().hex}"

    def remove_root(self) -> None:
        files, base = fsspec.url_to_fs(self.root)
        if files.exists(base):
            files.rm(base, recursive=True)

    @rule(first=handles, call=WRITES, who=whos, other=WRITES)
    def race(self, first: Handle, call: Call, who: Who, other: Call) -> None:
        """Let the other opening commit between this one's check and its create."""
        rival = scoped(self.openings[1 - first.opening], who)
        storage, won = self.openings[first.opening].storage, []

        def create(key: str, data: bytes) -> None:
            if key.startswith(log.PREFIX) and not won:
                won.append(self.make(other, rival, who))
            type(storage).create(storage, key, data)

        with mock.patch.object(storage, "create", create):
            self.make(call, self.at(first), first.who)

    @rule(first=handles, calls=st.lists(WRITES, min_size=1, max_size=3), who=whos, other=WRITES)
    def race_with_transaction(
        self, first: Handle, calls: list[Call], who: Who, other: Call
    ) -> None:
        """Let the other opening commit inside the block: the block must lose as a whole."""
        rival = scoped(self.openings[1 - first.opening], who)
        ours, theirs = plan(other, who)
        served_first, wrote = self.oracle.copy(), 0
        try:
            with self.oracle.all_or_nothing(), self.at(first).transaction() as tx:
                for call in calls:
                    self.make(call, tx, first.who)
                    wrote += self.oracle.changed_rows
                got = ours(rival)
                self.compare(other, got, theirs(served_first, got), served_first)
        except ConflictError:
            assert wrote
            assert served_first.changed_rows
        else:
            assert not (wrote and served_first.changed_rows)
        if served_first.changed_rows:
            self.oracle, served_first = served_first, self.oracle
        served_first.close()


def scoped(catalog: Catalog, who: Who) -> Catalog:
    """Return a handle for the caller; `as_admin` keeps the tenant for what it creates."""
    handle = catalog.pinned_to_tenant(who.tenant)
    return handle.as_admin() if who.admin else handle
