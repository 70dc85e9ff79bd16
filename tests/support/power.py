"""Every state that a disk may hold after a power cut, by what POSIX promises and no more.

Data of a file that no `fsync` of it has covered may be there, missing, cut at any sector, or full
of holes. Entries of a directory that no `fsync` of it has covered may be there or not, each by
itself; a rename is one entry operation, which keeps nothing of the data. An `fsync` of a file says
nothing of its name, and one of a directory nothing of the directory's own name.

Only the moments before a sync and the end are looked at: between two syncs whatever a cut leaves
may be left at the later moment too, when more has been acknowledged.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from support.recording import Kind, Op, Record, Tree, ends

T = TypeVar("T")

SECTOR = 512

Entries = tuple[tuple[str, int], ...]
"""The names in a directory and the nodes that they lead to, sorted."""

State = frozenset[tuple[str, bytes | None]]
"""A `Tree`, hashable."""


class Bounds(NamedTuple):
    """How much of a moment is looked at before a sample of it has to do."""

    states: int
    """States of one moment."""
    contents: int
    """Contents of one file that is not synced."""


class Moment(NamedTuple):
    """A point at which the power may go: what was acknowledged, and what the disk may hold."""

    mark: Any
    states: list[State]
    is_sample: bool


class _Draw:
    """Takes all there is, or where that is too much a sample with the first and the last."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.is_sample = False

    def some(self, values: Sequence[T], limit: int) -> list[T]:
        """Return up to ``limit`` values."""
        if len(values) <= limit:
            return list(values)
        self.is_sample = True
        return [values[0], *self._random.sample(values[1:-1], limit - 2), values[-1]]

    def combinations(self, options: Sequence[Sequence[T]], limit: int) -> Iterator[tuple[T, ...]]:
        """Yield every way to take one of each, or as many as ``limit``."""
        if math.prod(map(len, options)) <= limit:
            yield from itertools.product(*options)
            return
        self.is_sample = True
        yield tuple(each[0] for each in options)
        yield tuple(each[-1] for each in options)
        for _ in range(limit - 2):
            yield tuple(map(self._random.choice, options))

    def parts(self, values: Sequence[T], count: int) -> Iterator[list[T]]:
        """Yield all values, and parts of them of any size, in their order."""
        self.is_sample = True
        yield list(values)
        for _ in range(count):
            share = self._random.random()
            yield [each for each in values if self._random.random() < share]


class _File:
    def __init__(self, data: bytes) -> None:
        self.durable = self.current = data
        self._dirty: set[int] = set()

    def write(self, offset: int, data: bytes) -> None:
        current = self.current.ljust(offset, b"\0")
        self.current = current[:offset] + data + current[offset + len(data) :]
        self._dirty |= set(range(offset // SECTOR, -(-(offset + len(data)) // SECTOR)))

    def sync(self) -> None:
        self.durable, self._dirty = self.current, set()

    def contents(self, limit: int, draw: _Draw) -> list[bytes]:
        """Return what may be read after a cut: the old bytes, torn ones, the new ones."""
        if not self._dirty:
            return [self.current]
        found = dict.fromkeys([self.durable, *torn(self.current, self._dirty)])
        found.pop(self.current, None)
        return draw.some([*found, self.current], limit)


class _Directory:
    def __init__(self, entries: Mapping[str, int]) -> None:
        self.durable = dict(entries)
        self.current = dict(entries)
        self.pending: list[Op] = []

    def change(self, op: Op) -> None:
        _apply(self.current, op)
        self.pending.append(op)

    def sync(self) -> None:
        self.durable, self.pending = dict(self.current), []

    def possible(self, limit: int, draw: _Draw) -> list[Entries]:
        """Return the entries that may be found after a cut, the oldest first, the newest last."""
        found = {_entries(self.durable)}
        if 1 << len(self.pending) <= 16 * limit:
            for op in self.pending:
                found |= {_entries(_apply(dict(each), op)) for each in found}
        else:
            for some in draw.parts(self.pending, limit):
                entries = dict(self.durable)
                for op in some:
                    _apply(entries, op)
                found.add(_entries(entries))
        old, new = _entries(self.durable), _entries(self.current)
        return [old, *sorted(found - {old, new}), *([new] if new != old else [])]


class Disk:
    """A disk that is told operations, and knows which of them a power cut may undo."""

    def __init__(self, start: Tree, bounds: Bounds, seed: int = 0) -> None:
        self._bounds = bounds
        self._draw = _Draw(seed)
        self._nodes: dict[int, _File | _Directory] = {0: _Directory({})}
        numbers = {"": 0}
        for number, (path, data) in enumerate(start.items(), 1):
            numbers[path] = number
            parent, _, name = path.rpartition("/")
            home = self._directory(numbers[parent])
            home.current[name] = home.durable[name] = number
            self._nodes[number] = _Directory({}) if data is None else _File(data)

    def tell(self, op: Op) -> None:
        """Let an operation happen."""
        if op.kind is Kind.WRITE:
            file = self._nodes[op.node]
            assert isinstance(file, _File)
            file.write(op.offset, op.data)
        elif op.kind is Kind.SYNC:
            self._nodes[op.node].sync()
        elif op.kind is not Kind.MARK:
            if op.kind is Kind.ADD and op.target not in self._nodes:
                self._nodes[op.target] = _Directory({}) if op.is_directory else _File(b"")
            self._directory(op.node).change(op)

    def current(self) -> State:
        """Return what the running system sees: every operation has its effect."""
        chosen = {
            node: _entries(each.current)
            for node, each in self._nodes.items()
            if isinstance(each, _Directory)
        }
        paths = list(_reachable(chosen))
        files = {
            node: each.current for node, each in self._nodes.items() if isinstance(each, _File)
        }
        return frozenset((path, files.get(node)) for path, node in paths)

    def after_a_cut(self) -> tuple[list[State], bool]:
        """Return the states that a cut may leave now, each once, and whether they are a sample."""
        self._draw.is_sample = False
        limit = self._bounds.states
        possible = {
            node: each.possible(limit, self._draw)
            for node, each in self._nodes.items()
            if isinstance(each, _Directory)
        }
        found: dict[State, None] = {}
        for choice in self._draw.combinations(list(possible.values()), limit):
            found |= dict.fromkeys(self._filled(dict(zip(possible, choice, strict=True))))
        return self._draw.some(list(found), limit), self._draw.is_sample

    def _filled(self, chosen: Mapping[int, Entries]) -> Iterator[State]:
        """Yield a tree of names with every content that its files may have."""
        paths = list(_reachable(chosen))
        files: dict[int, list[bytes]] = {}
        for _, node in paths:
            file = self._nodes[node]
            if isinstance(file, _File) and node not in files:
                files[node] = file.contents(self._bounds.contents, self._draw)
        for choice in self._draw.combinations(list(files.values()), self._bounds.states):
            data = dict(zip(files, choice, strict=True))
            yield frozenset((path, data.get(node)) for path, node in paths)

    def _directory(self, node: int) -> _Directory:
        directory = self._nodes[node]
        assert isinstance(directory, _Directory)
        return directory


def torn(data: bytes, sectors: Iterable[int] | None = None) -> list[bytes]:
    """Return data of which some sectors did not reach the disk: a hole, or all from one on."""
    found: list[bytes] = []
    for sector in range(-(-len(data) // SECTOR)) if sectors is None else sorted(sectors):
        start, end = sector * SECTOR, (sector + 1) * SECTOR
        found.append(data[:start] + bytes(len(data[start:end])) + data[end:])
        found.append(data[:start])
        found.append(data[:start].ljust(len(data), b"\0"))
    return list(dict.fromkeys(found))


def moments(start: Tree, ops: Iterable[Op], bounds: Bounds, *, seed: int = 0) -> Iterator[Moment]:
    """Yield every moment at which a cut leaves most, from the first mark on."""
    disk, mark = Disk(start, bounds, seed), None
    for op in ops:
        if op.kind is Kind.SYNC and mark is not None:
            yield Moment(mark, *disk.after_a_cut())
        if op.kind is Kind.MARK:
            mark = op.mark
        disk.tell(op)
    yield Moment(mark, *disk.after_a_cut())


def require_complete(record: Record, now: Tree) -> None:
    """Refuse a record that something went past: its replay must be what is there ``now``."""
    disk = Disk(record.start, Bounds(1, 1))
    for op in record.ops:
        disk.tell(op)
    assert dict(disk.current()) == now


def without(ops: Iterable[Op], site: str) -> list[Op]:
    """Return a record in which the calls of `fsync` at one site were never made."""
    return [op for op in ops if op.kind is not Kind.SYNC or not ends(op.site, site)]


def _apply(entries: dict[str, int], op: Op) -> dict[str, int]:
    if op.kind is Kind.REMOVE:
        entries.pop(op.name, None)
    elif op.kind is Kind.ADD:
        entries[op.name] = op.target
    else:
        entries.pop(op.name, None)
        entries[op.new_name] = op.target
    return entries


def _entries(entries: Mapping[str, int]) -> Entries:
    return tuple(sorted(entries.items()))


def _reachable(chosen: Mapping[int, Entries]) -> Iterator[tuple[str, int]]:
    """Yield every path that the chosen entries lead to, with its node."""
    waiting = [("", 0)]
    while waiting:
        place, node = waiting.pop()
        for name, target in chosen[node]:
            path = f"{place}/{name}" if place else name
            yield path, target
            if target in chosen:
                waiting.append((path, target))
