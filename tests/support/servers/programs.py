"""Programs that listen on loopback, each ended by the process that started it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.servers.front import HOST
from support.servers.installs import NotStartedError

PATIENCE = 90.0
"""Seconds that a program is given to listen, or to end."""


def free_port() -> int:
    """Return a port on loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Return whether something accepts connections on a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((HOST, port)) == 0


class Program:
    """One process of a program, in the directory of the file that takes what it prints."""

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._output = output
        if tie := shutil.which("setpriv"):  # what kills the tests kills their servers
            command = [tie, "--pdeathsig", "KILL", *command]
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}),
                cwd=output.parent,
            )

    def wait_for(self, port: int) -> None:
        """Return once the program listens on a port."""
        deadline = time.monotonic() + PATIENCE
        while not is_listening(port):
            if self.has_ended() or time.monotonic() > deadline:
                self.stop()
                raise NotStartedError(f"{self._process.args!r} does not listen: {self.told()}")
            time.sleep(0.05)

    def has_ended(self) -> bool:
        """Return whether the process has ended by itself."""
        return self._process.poll() is not None

    def told(self) -> str:
        """Return the end of what the program has printed."""
        return self._output.read_text(errors="replace")[-1000:]

    def stop(self) -> None:
        """End the process, kindly at first."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE / 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Listening(Program):
    """A program that listens on a port of its own, from its construction to `stop`.

    ``{port}`` in its command and in the values of its environment stands for that port.
    """

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        given = {key: value.format(port=self.port) for key, value in (environment or {}).items()}
        super().__init__(
            [word.format(port=self.port) for word in command], output, environment=given
        )
        self.wait_for(self.port)
