"""The servers by name: what a test is parametrized with, and how each comes to run.

``@pytest.mark.parametrize("server", HONEST, indirect=True)`` runs a test against each of them.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.servers.installs import UnavailableError
from support.servers.server import Server


@dataclass(frozen=True)
class Backend:
    """A class ``kind`` in a module; ``needs`` are the packages that it and its client are made of.

    The module is imported when the server is wanted: a client that is not installed skips its own
    tests only.
    """

    module: str
    kind: str
    needs: tuple[str, ...]
    honest: bool = True
    shared: bool = True
    marks: tuple[pytest.MarkDecorator, ...] = ()


BACKENDS = {
    "moto": Backend("s3", "S3Server", ("s3fs", "moto", "flask", "flask_cors"), shared=False),
    "gcs": Backend("gcs", "GcsServer", ("gcsfs",), shared=False),
    "azurite": Backend("azurite", "Azurite", ("adlfs",)),
    "ministack": Backend("ministack", "Ministack", ("s3fs",)),
    "ceph": Backend("ceph", "Ceph", ("s3fs",), marks=(pytest.mark.ceph,)),
    "s3rver": Backend("careless", "S3rver", ("s3fs",), honest=False),
    "gcp-storage-emulator": Backend("careless", "GcpEmulator", ("gcsfs",), honest=False),
}


def backends(*names: str) -> list[Any]:
    """Return the parameters of a test that takes the fixture ``server``."""
    return [pytest.param(name, marks=BACKENDS[name].marks, id=name) for name in names]


FAST = backends("moto", "gcs")
"""One server of ours a protocol, there wherever the tests' packages are."""

HONEST = backends(*(name for name, backend in BACKENDS.items() if backend.honest))
"""Every server that honours the precondition of a whole put."""

CARELESS = backends(*(name for name, backend in BACKENDS.items() if not backend.honest))
"""The negative controls: they take preconditions and ignore them."""


class Servers:
    """The servers of one worker, each started when it is first asked for.

    ``directory`` is common to the workers of a run: what is slow to start they share.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._running: dict[str, Server] = {}
        self._refused: dict[str, str] = {}

    def get(self, name: str) -> Server:
        """Return a running server; skip the test where it cannot be had, but fail it in CI."""
        if name not in self._running and name not in self._refused:
            try:
                self._running[name] = self._stack.enter_context(self._make(BACKENDS[name]))
            except UnavailableError as error:
                self._refused[name] = f"{name}: {error}"
        if name in self._refused:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(self._refused[name])
        return self._running[name]

    def stop(self) -> None:
        """Stop those that run."""
        self._stack.close()

    def _make(self, backend: Backend) -> Server:
        for package in backend.needs:
            if importlib.util.find_spec(package) is None:
                raise UnavailableError(f"{package} is missing: install '.[test,s3,gcs,azure]'")
        if os.name != "posix":
            raise UnavailableError("the servers are run on POSIX systems only")
        kind = getattr(importlib.import_module(f"support.servers.{backend.module}"), backend.kind)
        made: Server = kind(self._directory) if backend.shared else kind()
        return made
