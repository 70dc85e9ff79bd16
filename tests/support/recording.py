"""The file operations that a block of code makes under one directory, in their order.

The functions of `os` and `open` are wrapped, not the library's own: what the disk is told is what
is recorded, whoever says it. What goes past the record shows when its replay and the directory
differ (`support.power.Disk.current`).
"""

from __future__ import annotations

import builtins
import contextlib
import io
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from support.faults import Crash

IGNORED = frozenset({"lock"})
"""Files that mean nothing: an advisory lock is not kept on a disk."""

Tree = dict[str, bytes | None]
"""Files by relative path with their bytes; None for a directory."""


class Kind(StrEnum):
    """What can be asked of a disk, and `MARK`: what the caller knows by now."""

    ADD = "add"
    REMOVE = "remove"
    RENAME = "rename"
    WRITE = "write"
    SYNC = "sync"
    MARK = "mark"


class Op(NamedTuple):
    """One operation. ``node`` is what it changes, a file or a directory.

    An entry operation names ``name`` in the directory ``node``; `ADD` lets it lead to ``target``,
    `RENAME` moves it to ``new_name``, over whatever that led to. `WRITE` puts ``data`` at
    ``offset``. ``site`` says of a `SYNC` which functions of the library asked for it.
    """

    kind: Kind
    node: int = 0
    name: str = ""
    new_name: str = ""
    target: int = 0
    is_directory: bool = False
    offset: int = 0
    data: bytes = b""
    site: str = ""
    mark: Any = None


class Record:
    """What is under ``base`` at the start, and the operations since; node 0 is ``base``."""

    def __init__(self, base: Path, source: str) -> None:
        self.base = str(base)
        self.start = tree_of(base)
        self.ops: list[Op] = []
        self.die_before: int | str | None = None
        self.dead = False
        self.process = 0
        self._source = source
        self._mutex = threading.RLock()
        self._count = 0
        self._numbers = itertools.count()
        self._nodes: dict[tuple[int, int], int] = {}
        for path in ("", *self.start):
            self._new_node(os.path.join(self.base, path))

    def mark(self, value: object) -> None:
        """Note what has been acknowledged by now."""
        self.ops.append(Op(Kind.MARK, mark=value))

    def forget_marks(self) -> None:
        """Leave out what was noted so far."""
        self.ops = [op for op in self.ops if op.kind is not Kind.MARK]

    def node_at(self, path: str) -> int:
        """Return the node of what is under a path now, which is not followed."""
        return self._nodes[_identity(os.lstat(path))]

    def node_of(self, descriptor: int) -> int | None:
        """Return the node of an open file or directory, None if it is not under the base."""
        return self._nodes.get(_identity(os.fstat(descriptor)))

    @property
    def sites(self) -> set[str]:
        """Who asked for a sync."""
        return {op.site for op in self.ops if op.kind is Kind.SYNC}

    @contextlib.contextmanager
    def changing(self, *paths: Any, site: str = "") -> Iterator[list[Op]]:
        """Enclose a change of a path under the base; yield the list that takes its operation."""
        with self._mutex:
            if self.dead or self._is_last(site):
                self.dead = True
                raise Crash
            assert all(map(self.holds, paths)), f"{paths} leads out of {self.base}"
            taken: list[Op] = []
            yield taken
            self.ops += taken
            self._count += 1

    def holds(self, path: Any) -> bool:
        """Say whether a path lies under the base and matters."""
        text = os.path.abspath(os.fspath(path))
        inside = text.startswith(f"{self.base}/")
        return inside and os.path.basename(text) not in IGNORED

    def entry(self, path: Any) -> tuple[int, str]:
        """Return the directory's node and the name of a path."""
        directory, name = os.path.split(os.path.abspath(os.fspath(path)))
        return self.node_at(directory), name

    def added(self, path: Any, *, new: bool, is_directory: bool = False) -> Op:
        """Return the operation that made a path lead to what it leads to now."""
        node, name = self.entry(path)
        target = self._new_node(path) if new else self.node_at(path)
        return Op(Kind.ADD, node, name, target=target, is_directory=is_directory)

    def site(self) -> str:
        """Name the functions of the library's module that lead to this call, outermost first."""
        names: list[str] = []
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == self._source:
                names.append(frame.f_code.co_name)
            elif names:
                break
            frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
        return " > ".join(reversed(names))

    def _is_last(self, site: str) -> bool:
        if isinstance(self.die_before, str):
            return ends(site, self.die_before)
        return self.die_before == self._count

    def _new_node(self, path: Any) -> int:
        node = self._nodes[_identity(os.lstat(path))] = next(self._numbers)
        return node


class _RecordedFile(io.FileIO):
    """A new file whose writes are recorded; one of a dead process swallows them."""

    def __init__(self, record: Record, path: str) -> None:
        self._record, self._process = record, record.process
        with record.changing(path) as ops:
            super().__init__(path, "xb")
            ops.append(record.added(path, new=True))
        self._node = record.node_at(path)

    def write(self, data: Any) -> int:  # type: ignore[override]  # any buffer
        if self._record.dead or self._process != self._record.process:
            return len(data)
        offset = self.tell()
        with self._record.changing() as ops:
            written = super().write(data)
            block = bytes(memoryview(data)[:written])
            ops.append(Op(Kind.WRITE, self._node, offset=offset, data=block))
        return written


def _wrappers(record: Record) -> dict[str, Callable[..., Any]]:
    """Return a function for each that changes what is under the record's base."""
    real = {
        name: getattr(os, name) for name in ("mkdir", "link", "unlink", "replace", "fsync", "open")
    }

    def mkdir(path: Any, *args: Any, **options: Any) -> None:
        if not record.holds(path):
            real["mkdir"](path, *args, **options)
            return
        with record.changing(path) as ops:
            real["mkdir"](path, *args, **options)
            ops.append(record.added(path, new=True, is_directory=True))

    def link(path: Any, new: Any) -> None:
        with record.changing(path, new) as ops:
            real["link"](path, new)
            ops.append(record.added(new, new=False))

    def unlink(path: Any, **options: Any) -> None:
        if options or not record.holds(path):
            real["unlink"](path, **options)
            return
        with record.changing(path) as ops:
            node, name = record.entry(path)
            real["unlink"](path)
            ops.append(Op(Kind.REMOVE, node, name))

    def rename(path: Any, new: Any) -> None:
        with record.changing(path, new) as ops:
            (node, name), (there, new_name) = record.entry(path), record.entry(new)
            assert node == there, "a rename from one directory to another is not modelled"
            real["replace"](path, new)
            ops.append(Op(Kind.RENAME, node, name, new_name, target=record.node_at(new)))

    def fsync(descriptor: int) -> None:
        node = record.node_of(descriptor)
        if node is None:
            real["fsync"](descriptor)
            return
        site = record.site()
        with record.changing(site=site) as ops:
            ops.append(Op(Kind.SYNC, node, site=site))

    def open_(path: Any, flags: int, *args: Any, **options: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        assert not writes or options or not record.holds(path), "os.open is not modelled for writes"
        return real["open"](path, flags, *args, **options)

    return {
        "mkdir": mkdir,
        "link": link,
        "unlink": unlink,
        "remove": unlink,
        "replace": rename,
        "rename": rename,
        "fsync": fsync,
        "fdatasync": fsync,
        "open": open_,
    }


def ends(site: str, *tails: str) -> bool:
    """Say whether the last functions of a site are those of one of ``tails``."""
    return f" > {site}".endswith(tuple(f" > {tail}" for tail in tails))


@contextlib.contextmanager
def recording(base: Path, source: str) -> Iterator[Record]:
    """Yield the record of the block; ``source`` is the file whose functions name the syncs."""
    record = Record(base, source)

    def open_(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+") or not record.holds(file):
            return real_open(file, mode, *args, **options)
        assert mode == "xb", f"open in mode {mode!r} is not modelled"
        return io.BufferedWriter(_RecordedFile(record, os.fspath(file)))

    real_open = builtins.open
    with contextlib.ExitStack() as stack:
        for name, wrapper in _wrappers(record).items():
            stack.enter_context(mock.patch.object(os, name, wrapper))
        for module in (builtins, io):
            stack.enter_context(mock.patch.object(module, "open", open_))
        yield record


@contextlib.contextmanager
def dying(record: Record, before: int | str) -> Iterator[None]:
    """Let a process live in the block that dies before an operation; another goes on after it.

    ``before`` counts operations from the start of the record, or is how the site of a sync ends.
    That operation and all after it raise `Crash` and leave nothing.
    """
    record.die_before = before
    try:
        with contextlib.suppress(Crash):
            yield
        assert record.dead, f"the process outlived its death before {before!r}"
    finally:
        record.die_before, record.dead = None, False
        record.process += 1


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def tree_of(base: Path) -> Tree:
    """Return everything under a directory, directories before what is in them."""
    return {
        path.relative_to(base).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(base.rglob("*"))
        if path.name not in IGNORED
    }
