"""A small web server that shows one root, live, to the browser of the same machine.

It only reads, and answers on 127.0.0.1 alone. A page of another site may still let the browser ask
here under a name of its own (DNS rebinding), so a request for another host is refused; and no other
site may read an answer, since none allows it.
"""

from __future__ import annotations

import contextlib
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jammi_files import pages
from jammi_files.errors import InvalidInputError, JammiFilesError, NotFoundError
from jammi_files.store import ResultStore
from jammi_files.terminal import printable

ADDRESS = "127.0.0.1"
_NAMES = (ADDRESS, "localhost")
_JSON = "application/json"


class Server(ThreadingHTTPServer):
    """A page of what ``store`` sees; ``port`` 0 takes any that is free.

    Raises:
        InvalidInputError: the port is taken, or may not be used.
    """

    daemon_threads = True

    def __init__(self, store: ResultStore, port: int) -> None:
        self.store = store
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            message = f"cannot listen on {ADDRESS}:{port}: {error}; choose another port"
            raise InvalidInputError(message) from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - inherited
        """Say on one escaped line what ended a request; a reader that went away is no error.

        A traceback would quote what was asked for, with whatever a terminal makes of it.
        """
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError) and sys.stderr is not None:
            text = printable(f"a request ended in {type(error).__name__}: {error}")
            with contextlib.suppress(OSError):
                sys.stderr.write(f"jammi-files: {text}\n")


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "jammi-files"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._is_for_us():
            self._refuse(HTTPStatus.FORBIDDEN, "this server answers for 127.0.0.1 and localhost")
            return
        try:
            asked = urlsplit(self.path)
            name = parse_qs(asked.query).get("name", [""])[0]
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"this is no path of a page: {error}")
            return
        try:
            status, kind, text = self._answer(asked.path, name)
        except NotFoundError as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))
        except JammiFilesError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        else:
            self._send(status, kind, text)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def _answer(self, path: str, name: str) -> tuple[HTTPStatus, str, str]:
        store = self.server.store
        match path:
            case "/":
                page = pages.render({**pages.overview(store), "live": True})
                return HTTPStatus.OK, "text/html", page
            case "/data":
                document = pages.overview(store)
            case "/version":
                document = {"version": store.catalog.version}
            case "/result":
                document = pages.detail(store, name)
            case "/verdict":
                document = pages.verdict(store, name)
            case _:
                raise NotFoundError(f"there is no page '{path}'")
        return HTTPStatus.OK, _JSON, pages.embedded(document)

    def _is_for_us(self) -> bool:
        hosts = self.headers.get_all("Host", [])
        port = self.server.server_port
        allowed = {f"{name}:{port}" for name in _NAMES} | (set(_NAMES) if port == 80 else set())
        return len(hosts) == 1 and hosts[0].lower() in allowed

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._send(status, _JSON, pages.embedded({"error": message}))

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header(
            "Content-Security-Policy", pages.policy(live=True) + "; frame-ancestors 'none'"
        )
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the inherited signature
        """Log nothing: a request quotes names of the catalog."""
