"""The HTTP/1.1 server on loopback that stands before every test server of ours."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.servers.controls import Controls
from support.servers.messages import Request, Response, header, without

HOST = "127.0.0.1"


class Front:
    """Serves a `Controls` on an ephemeral port, from `start` to `stop`."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._server = _Server((HOST, 0), _Handler)
        self._server.controls = controls
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.daemon = True

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End every connection and wait for the threads that served them."""
        self._controls.close()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that `server_close` waits for them
    request_queue_size = 256
    controls: Controls

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if parsed:  # any method is served alike
            setattr(self, f"do_{self.command}", self._serve)
        return parsed

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is `Controls`'."""

    def _serve(self) -> None:
        request = Request(self.command, self.path, tuple(self.headers.items()), self._body())
        response = self.server.controls.handle(request)
        if response is None:
            self.close_connection = True
            return
        self.wfile.write(self._head(response) + (b"" if self.command == "HEAD" else response.body))

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(chunks)

    def _head(self, response: Response) -> bytes:
        length = str(len(response.body))
        if self.command == "HEAD":  # of the body that a GET would have
            length = header(response.headers, "content-length", length)
        headers = without(response.headers, "content-length", "transfer-encoding", "connection")
        if response.status not in {204, 304}:
            headers += (("Content-Length", length),)
        lines = [f"HTTP/1.1 {response.status} {self.responses.get(response.status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
