"""Executors of the tests that lose what they are given, and what is run in workers elsewhere."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jammi_files.fsck import Finding, Kind, Remedy


class Losing(Executor):
    """Gives each call to ``fate``; what that leaves undone is done, on the thread that submits."""

    def __init__(self, fate: Callable[[int, Future[Any]], bool]) -> None:
        """``fate`` gets the number of the call and its future; True if it has settled that."""
        self.calls: list[Any] = []
        self._fate = fate

    def submit(self, fn: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls.append(given[-1])
        if not self._fate(len(self.calls), future):
            future.set_result(fn(*given, **named))
        return future


class Elsewhere(ThreadPoolExecutor):
    """Workers on a machine where a directory of this one has another name, of the same length."""

    def __init__(self, here: Path, there: Path) -> None:
        super().__init__(2)
        self._here, self._there = os.fsencode(here), os.fsencode(there)
        assert len(self._here) == len(self._there)

    def submit(self, fn: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        sent = pickle.dumps((fn, given)).replace(self._here, self._there)
        assert self._there in sent
        fn, given = pickle.loads(sent)  # noqa: S301 - our own bytes
        return super().submit(fn, *given, **named)


def die_once(part: tuple[str, int]) -> int:
    """Return the square of a number; the first process that is asked for it dies of it."""
    directory, number = part
    try:
        (Path(directory) / f"{number}").touch(exist_ok=False)
    except FileExistsError:
        return number * number
    os._exit(9)


def die_elsewhere(part: tuple[int, int]) -> int:
    """Return the square of a number; every process dies of it but the one with that id."""
    process, number = part
    if os.getpid() != process:
        os._exit(9)
    return number * number


class OddError(Exception):
    """An error that does not survive a pickle."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def fail(part: int) -> int:
    """Fail in a way that cannot be sent to another process."""
    raise OddError("part ", str(part))


def double(number: int) -> int:
    """Return a number's double."""
    return 2 * number


def here(process: int, number: int) -> Finding | int:
    """Return a finding in every process but the one with that id."""
    if os.getpid() == process:
        return number
    return Finding(Kind.READY_WITHOUT_DATA, str(number), "not seen", Remedy.RESTORE, "")


def is_finding(answer: Finding | int) -> bool:
    """Say whether `here` has found something."""
    return isinstance(answer, Finding)


def count(handle: Any, name: str) -> int:
    """Return the number of rows of a result, or of a handle that is the result."""
    dataset = handle.open_table(name) if hasattr(handle, "open_table") else handle
    return int(dataset.count_rows())


def names_of(reads: Any) -> list[str]:
    """Return the names of all rows that a catalog or a snapshot of one shows."""
    found: list[str] = reads.scan(columns=["table_name"]).column(0).to_pylist()
    return sorted(found)
