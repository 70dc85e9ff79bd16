"""Where a server of ours runs: on threads of this process, or in a process of its own.

A server in a process of its own neither shares its clients' interpreter lock nor imports what it
is made of into the tests. It ends with the process that started it, however that one ends.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.managers import BaseManager, MakeProxyType  # type: ignore[attr-defined]
from typing import Any

from support.servers.controls import Controls
from support.servers.dialects import Dialect
from support.servers.front import Front
from support.servers.messages import Answer

_METHODS = (
    "add_rule",
    "arrived",
    "clear",
    "exchange_count",
    "exchanges",
    "port",
    "release",
    "seen",
    "set_chance",
    "set_latency",
    "set_preconditions",
    "stop",
)


class Hosted(Controls):
    """The controls of a server that answers on `port` until `stop`."""

    def __init__(self, dialect: Dialect, make: Callable[..., Answer], given: tuple[Any, ...]):
        super().__init__(dialect, make(*given))
        self._front = Front(self)
        self._front.start()

    def port(self) -> int:
        """Return the port on loopback."""
        return self._front.port

    def stop(self) -> None:
        """End every connection and stop listening."""
        self._front.stop()


class _Manager(BaseManager):
    """A process that holds one `Hosted`."""


HostedProxy = MakeProxyType("HostedProxy", _METHODS)
HostedProxy.__module__ = __name__  # where a spawned process finds it
_Manager.register("Hosted", Hosted, HostedProxy)


class Host:
    """Runs the server that ``make(*given)`` makes, from its construction to `stop`."""

    def __init__(
        self,
        dialect: Dialect,
        make: Callable[..., Answer],
        *given: Any,
        own_process: bool,
    ) -> None:
        self._manager: _Manager | None = None
        if own_process:
            self._manager = _Manager(ctx=multiprocessing.get_context("spawn"))
            self._manager.start(_end_with_parent)
            self.controls: Hosted = self._manager.Hosted(dialect, make, given)  # type: ignore[attr-defined]
        else:
            self.controls = Hosted(dialect, make, given)

    def stop(self) -> None:
        """Stop the server and, where it has one, its process."""
        self.controls.stop()
        if self._manager is not None:
            self._manager.shutdown()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
