"""An object-store server of the tests: where it is, what it saw, what goes wrong with it."""

from __future__ import annotations

import abc
import http.client
import uuid
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
    _host: Host

    @abc.abstractmethod
    def _run(self) -> Host:
        """Start what answers requests."""

    @abc.abstractmethod
    def storage_options(self) -> dict[str, Any]:
        """Return what fsspec needs to reach the server."""

    @abc.abstractmethod
    def _make_bucket(self, name: str) -> None:
        """Make an empty bucket, without a trace in the log."""

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        self._host = self._run()
        self.url = f"http://{HOST}:{self._host.controls.port()}"
        self.log, self.faults = Log(self._host.controls), Faults(self._host.controls)
        return self

    def stop(self) -> None:
        """Stop what `start` started."""
        self._host.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

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
