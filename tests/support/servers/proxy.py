"""A proxy in front of a server that we did not write: the log and the faults of our own ones."""

from __future__ import annotations

import abc
import http.client
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.servers.front import HOST
from support.servers.hosting import Host
from support.servers.messages import Request, Response, without
from support.servers.server import Server
from support.servers.shared import Running, shared

_TIMEOUT = 120.0
_CONCURRENCY = 64


class ProxyAnswer:
    """Whatever listens on a port of loopback, as a function."""

    def __init__(self, port: int, concurrency: int) -> None:
        self._port = port
        self._slots = threading.BoundedSemaphore(concurrency)

    def __call__(self, request: Request) -> Response:
        """Pass a request on and return the answer.

        Each on a connection of its own: one that is kept may turn out to be closed, and whether
        the server had seen the request then nobody knows.
        """
        with self._slots:
            return self._pass_on(request)

    def _pass_on(self, request: Request) -> Response:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=_TIMEOUT)
        try:
            connection.putrequest(
                request.method, request.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in _passed_on(request):
                connection.putheader(name, value)
            connection.endheaders(request.body or None)
            answer = connection.getresponse()
            return Response(answer.status, tuple(answer.getheaders()), answer.read())
        finally:
            connection.close()


class FaultProxy(Server):
    """Another way to a running server, with a log and faults of its own.

    So that one client meets faults and another one does not.
    """

    def __init__(self, upstream: Server) -> None:
        self._upstream = upstream
        self.dialect = upstream.dialect

    def _run(self, stack: ExitStack) -> Host:  # noqa: ARG002 - nothing besides
        port = int(self._upstream.url.rpartition(":")[2])
        return Host(self.dialect, ProxyAnswer, port, _CONCURRENCY, own_process=True)

    def options_at(self, url: str) -> dict[str, Any]:
        return self._upstream.options_at(url)

    def _make_bucket(self, name: str) -> None:
        self._upstream._make_bucket(name)


class ProxiedServer(Server):
    """A program that the workers of a test run share, each behind a proxy of its own.

    ``directory`` is where the workers meet, and where the program keeps what it needs.
    """

    name: str
    concurrency = _CONCURRENCY

    def __init__(self, directory: Path) -> None:
        self._directory = directory / self.name

    @abc.abstractmethod
    def _start(self, directory: Path) -> Running:
        """Start the program."""

    def _run(self, stack: ExitStack) -> Host:
        self.direct_port = stack.enter_context(shared(self._directory, self._start))
        return Host(self.dialect, ProxyAnswer, self.direct_port, self.concurrency, own_process=True)

    @property
    def direct_url(self) -> str:
        """Where the program itself listens, past the proxy's log and faults."""
        return f"http://{HOST}:{self.direct_port}"


def _passed_on(request: Request) -> list[tuple[str, str]]:
    headers = without(request.headers, "connection", "expect", "transfer-encoding")
    if request.header("transfer-encoding"):
        length = ("Content-Length", str(len(request.body)))
        headers = (*without(headers, "content-length"), length)
    return list(headers)
