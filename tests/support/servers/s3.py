"""The S3 server that most tests use: moto, made linearizable by one lock.

moto alone decides a conditional PUT in two steps: with a short thread switch interval 18 of 400
races of creates had several winners. One request at a time has none.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import fsspec
from support.servers.dialects import Dialect
from support.servers.front import HOST
from support.servers.hosting import Host
from support.servers.messages import Request, Response
from support.servers.proxy import ProxiedServer
from support.servers.server import Server

S3_KEY, S3_SECRET = "test", "testtest"


class SpeaksS3(Server):
    """A server that s3fs can be sent to; ``credentials`` are its key and secret."""

    dialect = Dialect.S3
    credentials = (S3_KEY, S3_SECRET)

    def options_at(self, url: str) -> dict[str, Any]:
        key, secret = self.credentials
        region = {"region_name": "us-east-1"}  # or s3fs would ask the machine for one
        return {"key": key, "secret": secret, "endpoint_url": url, "client_kwargs": region}


class S3Server(SpeaksS3):
    """moto behind one lock; it honours If-None-Match and If-Match on whole and multipart puts."""

    def __init__(self, *, own_process: bool = True) -> None:
        self._own_process = own_process

    def _run(self, stack: ExitStack) -> Host:  # noqa: ARG002 - nothing besides
        return Host(self.dialect, MotoAnswer, own_process=self._own_process)

    def _make_bucket(self, name: str) -> None:
        assert self.request("PUT", f"/{name}").status == 200


class ProxiedS3(ProxiedServer, SpeaksS3):
    """An S3 server that we did not write, and that looks at signatures."""

    def _make_bucket(self, name: str) -> None:
        options = self.options_at(self.direct_url)
        direct = fsspec.filesystem("s3", skip_instance_cache=True, **options)
        direct.call_s3("create_bucket", Bucket=name)  # `mkdir` names a region, which some refuse


class MotoAnswer:
    """moto's S3 as a function, one request at a time."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import create_backend_app  # noqa: PLC0415 - see below

        # moto is imported where it runs: that takes a second, which the tests' processes spare.
        self._app = create_backend_app("s3")
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        """Answer a request."""
        told: list[Any] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _: object = None, /
        ) -> Callable[[bytes], object]:
            told[:] = [int(status[:3]), tuple(headers)]
            return told.append

        with self._lock:
            parts: Iterable[bytes] = self._app(_environ(request), start_response)
            body = b"".join(parts)
            if hasattr(parts, "close"):
                parts.close()
        return Response(told[0], told[1], body)


def _environ(request: Request) -> dict[str, Any]:
    host, _, port = request.header("host", HOST).partition(":")
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        # WSGI keeps bytes in text: the path is decoded from percents, not from UTF-8.
        "PATH_INFO": request.path.encode().decode("latin-1"),
        "QUERY_STRING": request.query,
        "RAW_URI": request.target,
        "REQUEST_URI": request.target,
        "SERVER_NAME": host,
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": HOST,
        "CONTENT_TYPE": request.header("content-type"),
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": urlsplit(request.target).scheme or "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        if key not in {"CONTENT_TYPE", "CONTENT_LENGTH", "TRANSFER_ENCODING"}:
            environ[f"HTTP_{key}"] = value
    return environ
