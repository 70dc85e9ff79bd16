"""Processes that take themselves for machines of their own: another name, home and cache."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from support.processes import LIMIT

from jammi_files import lease


@dataclass(frozen=True)
class Machine:
    """A name that no other machine has, a directory for everything, and how long leases run."""

    name: str
    directory: Path
    lease_seconds: float

    def settle(self) -> None:
        """Make the calling process one of this machine."""
        home = self.directory / self.name
        home.mkdir(parents=True, exist_ok=True)
        os.environ["HOME"] = str(home)
        os.environ["JAMMI_FILES_CACHE"] = str(home / "cache")
        lease._host = lambda _: self.name  # type: ignore[assignment]
        lease.LEASE_SECONDS = self.lease_seconds  # type: ignore[assignment]


class Runner:
    """The parent's side of one process on a machine."""

    def __init__(self, machine: Machine, work: Callable[..., Any], *given: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_run, args=(machine, work, given, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def hear(self) -> Any:
        """Return what the work says next, or what it returns; raise what it raised."""
        assert self._pipe.poll(LIMIT), "the process said nothing"
        kind, said = self._pipe.recv()
        assert kind != "raised", said
        return said

    def say(self, word: str) -> None:
        """Say something to the work."""
        self._pipe.send(word)

    def kill(self) -> None:
        """End the process at once, wherever it stands."""
        self._process.kill()
        self._process.join(LIMIT)
        assert self._process.exitcode is not None


@contextmanager
def running(machine: Machine, work: Callable[..., Any], *given: Any) -> Iterator[Runner]:
    """Run ``work(pipe, *given)`` on a machine; it never outlives the block."""
    runner = Runner(machine, work, *given)
    try:
        yield runner
    finally:
        runner.kill()


class Line:
    """The work's side: what it says to the test, and what it is told."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def say(self, what: Any) -> None:
        """Say something that the test `Runner.hear`s."""
        self._pipe.send(("said", what))

    def is_told(self) -> bool:
        """Return whether the test has said something."""
        return self._pipe.poll()

    def wait(self) -> str:
        """Return what the test says next."""
        word: str = self._pipe.recv()
        return word


def _run(
    machine: Machine, work: Callable[..., Any], given: tuple[Any, ...], pipe: Connection
) -> None:
    try:
        machine.settle()
        pipe.send(("returned", work(Line(pipe), *given)))
    except BaseException:  # noqa: BLE001 - the parent raises it again
        pipe.send(("raised", traceback.format_exc()))
