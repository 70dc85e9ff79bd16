"""An object-store server of the tests: where it is, what it saw, what goes wrong with it."""

from __future__ import annotations

import abc
import http.client
import uuid
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import fsspec
from support.servers.controls import UNRECORDED
from support.servers.dialects import Dialect
from support.servers.faults import Faults
from support.servers.front import HOST
from support.servers.hosting import Host
from support.servers.messages import Response
from support.servers.traffic import Log


class Server(abc.ABC):
    """Runs from `start` (or the beginning of a ``with`` block) to `stop`, on loopback only.

    ``url``, ``log`` and ``faults`` are there while it runs.
    """

    dialect: Dialect
    url: str
    log: Log
    faults: Faults
    _stack: ExitStack

    @abc.abstractmethod
    def _run(self, stack: ExitStack) -> Host:
        """Start what answers requests; the stack ends whatever that needs besides."""

    @abc.abstractmethod
    def options_at(self, url: str) -> dict[str, Any]:
        """Return what fsspec needs to reach such a server at a URL."""

    @abc.abstractmethod
    def _make_bucket(self, name: str) -> None:
        """Make an empty bucket, without a trace in the log."""

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        with ExitStack() as stack:
            host = self._run(stack)
            stack.callback(host.stop)
            self.url = f"http://{HOST}:{host.controls.port()}"
            self.log, self.faults = Log(host.controls), Faults(host.controls)
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """Stop what `start` started."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def storage_options(self) -> dict[str, Any]:
        """Return what fsspec needs to reach the server."""
        return self.options_at(self.url)

    def root(self, name: str = "root") -> tuple[str, dict[str, Any]]:
        """Make a bucket; return the URL of a root in it and the storage options to reach it."""
        bucket = f"b{uuid.uuid4().hex[:20]}"
        self._make_bucket(bucket)
        return f"{self.dialect}://{bucket}/{name}", self.storage_options()

    def filesystem(self, **more: Any) -> fsspec.AbstractFileSystem:
        """Return an fsspec file system that no other caller gets."""
        options = self.storage_options() | more
        return fsspec.filesystem(self.dialect, skip_instance_cache=True, **options)

    def request(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Response:
        """Send one plain request that is neither recorded nor faulted, and return the answer."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        try:
            connection.request(method, target, body, {UNRECORDED: "1", **(headers or {})})
            answer = connection.getresponse()
            return Response(answer.status, tuple(answer.getheaders()), answer.read())
        finally:
            connection.close()
