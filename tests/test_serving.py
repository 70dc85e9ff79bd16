"""The server of the page: whom it answers, what it tells whom, and that it only reads."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest
from support.processes import running
from support.results import build

from jammi_files import InvalidInputError, TableNotFoundError, connect, pages
from jammi_files.cli import main
from jammi_files.serving import Server

TENANT = "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a"
OTHER = "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9b"
PATHS = ("/", "/data", "/version", "/result?name={name}", "/verdict?name={name}")


@contextmanager
def serving(store):
    """Yield a function that asks a server: (status, headers, body)."""
    with Server(store, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def ask(path, method="GET", **headers):
            at = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
            with closing(at):
                at.request(method, path, headers=headers)
                answer = at.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()

        ask.port = server.server_port
        try:
            yield ask
        finally:
            server.shutdown()
            thread.join()


def listing(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_every_answer(store, root):
    """Page, data, version, attestation and verdict are answered, and nothing is written."""
    name = build(store)
    before = listing(root)
    with serving(connect(root)) as ask:
        found = {path: ask(path.format(name=name)) for path in PATHS}
    assert {status for status, _, _ in found.values()} == {200}
    assert json.loads(found["/version"][2]) == {"version": store.catalog.version}
    assert [row["table_name"] for row in json.loads(found["/data"][2])["results"]] == [name]
    assert json.loads(found["/result?name={name}"][2])["descriptor"]["producer"] == "external"
    assert json.loads(found["/verdict?name={name}"][2])["tag"] == "match"
    assert found["/"][2].startswith(b"<!doctype html>")
    for _, headers, _ in found.values():
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
    assert listing(root) == before


@pytest.mark.parametrize("path", PATHS)
def test_another_host_is_refused(store, path):
    """A name that somebody else's DNS points here is answered nothing; localhost is us."""
    name = build(store)
    with serving(store) as ask:
        for host in ("evil.example", f"evil.example:{ask.port}", "127.0.0.1:1", "", "127.0.0.1.x"):
            status, _, body = ask(path.format(name=name), Host=host)
            assert (status, name.encode() in body) == (403, False)
        for host in (f"127.0.0.1:{ask.port}", f"localhost:{ask.port}", f"LOCALHOST:{ask.port}"):
            assert ask(path.format(name=name), Host=host)[0] == 200


def test_host_must_be_said_once(store):
    """A request with two hosts, or none, is refused."""
    build(store)
    with serving(store) as ask:
        for hosts in ([], [f"127.0.0.1:{ask.port}", "evil.example"]):
            at = http.client.HTTPConnection("127.0.0.1", ask.port, timeout=60)
            with closing(at):
                at.putrequest("GET", "/data", skip_host=True)
                for host in hosts:
                    at.putheader("Host", host)
                at.endheaders()
                assert at.getresponse().status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading(store, root, method):
    """Other methods than GET and HEAD are not known."""
    build(store)
    before = listing(root)
    with serving(store) as ask:
        assert ask("/data", method)[0] == 501
        assert ask("/data", "HEAD")[::2] == (200, b"")
    assert listing(root) == before


def test_tenants(store):
    """A tenant's page tells nothing of another's results, by whatever path."""
    mine, theirs = (build(store.pinned_to_tenant(tenant)) for tenant in (TENANT, OTHER))
    with serving(store.pinned_to_tenant(TENANT)) as ask:
        for path in ("/", "/data"):
            body = ask(path)[2]
            assert (mine.encode() in body, theirs.encode() in body) == (True, False)
        for path in ("/result", "/verdict"):
            hidden, absent = (ask(f"{path}?name={name}") for name in (theirs, "nothing"))
            assert (hidden[0], absent[0]) == (404, 404)
            assert hidden[2].replace(theirs.encode(), b"nothing") == absent[2]
    with serving(store.as_admin()) as ask:
        assert theirs.encode() in ask("/data")[2]


@pytest.mark.parametrize("path", ["/nothing", "/../etc/passwd", "/page.js", "/result"])
def test_unknown_path(store, path):
    """What is not there is 404 with a reason."""
    build(store)
    with serving(store) as ask:
        status, _, body = ask(path)
    assert (status, bool(json.loads(body)["error"])) == (404, True)


def test_a_path_that_is_none(store):
    """A path that cannot be taken apart is 400 with a reason."""
    build(store)
    with (
        serving(store) as ask,
        closing(http.client.HTTPConnection("127.0.0.1", ask.port, timeout=60)) as at,
    ):
        at.putrequest("GET", "http://[", skip_host=True)
        at.putheader("Host", f"127.0.0.1:{ask.port}")
        at.endheaders()
        answer = at.getresponse()
        assert answer.status == 400
        assert "no path of a page" in json.loads(answer.read())["error"]


class Told(Server):
    """Says when a request has ended in an error, and it was dealt with."""

    def handle_error(self, request, client_address):
        super().handle_error(request, client_address)
        self.done.set()


def ended(store, monkeypatch, fails):
    """Ask for a result over a connection that is handed to ``fails`` once the request was read."""
    monkeypatch.setattr(pages, "detail", lambda _, name: fails(client, name))
    with Told(store, 0) as server, socket.create_connection(server.server_address) as client:
        server.done = threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        host = f"Host: localhost:{server.server_port}\r\n\r\n"
        client.sendall(f"GET /result?name=%1b%5d0;x%07 HTTP/1.1\r\n{host}".encode())
        try:
            assert server.done.wait(60)
        finally:
            server.shutdown()
            thread.join()


def test_a_reader_that_goes_away_is_silent(store, monkeypatch, capfd):
    """A connection that is reset leaves no trace on the terminal: not the name, raw, least of all.

    The reset comes while the refusal is written, whose error would be told as the cause.
    """

    def reset(client, name):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        raise TableNotFoundError.named(name)

    ended(store, monkeypatch, reset)
    assert capfd.readouterr() == ("", "")


def test_an_error_of_a_request_is_one_escaped_line(store, monkeypatch, capfd):
    """Whatever else ends a request is told on one line, escaped, without a traceback."""

    def fail(_, name):
        raise RuntimeError(f"of '{name}'\n")

    ended(store, monkeypatch, fail)
    assert capfd.readouterr().err == (
        "jammi-files: a request ended in RuntimeError: of '\\x1b]0;x\\x07'\\n\n"
    )


def test_root_that_fails_is_told(store, root):
    """An error of the storage is 503 with its message, and the server goes on."""
    build(store)
    with serving(connect(root)) as ask:
        manifests = root / "_catalog" / "manifest"
        manifests.rename(root / "away")
        manifests.write_text("")
        status, _, body = ask("/data")
        assert (status, bool(json.loads(body)["error"])) == (503, True)
        manifests.unlink()
        (root / "away").rename(manifests)
        assert ask("/data")[0] == 200


def test_port_that_is_taken(store, capsys):
    """A port in use, or none at all, is a usage error of one line."""
    build(store)
    with Server(store, 0) as server:
        for port in (str(server.server_port), "70000"):
            with pytest.raises(InvalidInputError, match=port):
                Server(store, int(port))
            assert main(["serve", "--port", port, "--root", str(store.root)]) == 2
            assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_command_serves_until_it_is_interrupted(store, root, flags):
    """``serve`` says where it is, answers, and ends by Ctrl-C with 0 and no traceback."""
    name = build(store)
    command = [sys.executable, "-m", "jammi_files", "serve", "--port", "0", "--root", str(root)]
    with running([*command, *flags], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        line = program.stdout.readline()
        url = json.loads(line)["url"] if flags else line.split()[-1]
        with closing(http.client.HTTPConnection(url.split("/")[2], timeout=60)) as at:
            at.request("GET", "/data")
            assert name in at.getresponse().read().decode()
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
