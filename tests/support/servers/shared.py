"""A server that the workers of one test run share: the first to ask starts and later stops it.

Every user holds a shared lock on one file; the starter, once it is done, asks for that lock alone
and so waits for the others, however they end. Who asks while there is none starts the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

import filelock
from support.servers.installs import NotStartedError
from support.servers.programs import is_listening


class Running(Protocol):
    """What has been started."""

    port: int

    def stop(self) -> None:
        """End it."""


@contextlib.contextmanager
def shared(directory: Path, start: Callable[[Path], Running]) -> Iterator[int]:
    """Yield the port of what ``start`` has started in a new directory below this one."""
    directory.mkdir(parents=True, exist_ok=True)
    port_file = directory / "port"
    started: Running | None = None
    with (directory / "users").open("ab") as users:
        with filelock.FileLock(directory / "starting"):
            fcntl.flock(users, fcntl.LOCK_SH)
            port = _port(port_file)
            if port is None:
                started = _start(directory, start)
                port = started.port
                port_file.write_text(str(port))
        try:
            yield port
        finally:
            if started is not None:
                _stop_after_all_others(users, port_file, started)


def _start(directory: Path, start: Callable[[Path], Running]) -> Running:
    try:
        return start(Path(tempfile.mkdtemp(dir=directory)))
    except NotStartedError:  # a port that was free when it was chosen may be taken by now
        return start(Path(tempfile.mkdtemp(dir=directory)))


def _port(file: Path) -> int | None:
    if not file.exists() or not file.read_text():
        return None
    port = int(file.read_text())
    return port if is_listening(port) else None  # its starter was killed


def _stop_after_all_others(users: IO[bytes], port_file: Path, started: Running) -> None:
    fcntl.flock(users, fcntl.LOCK_EX)
    port_file.unlink()
    started.stop()
