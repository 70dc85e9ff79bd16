"""Where the test servers run: on loopback only, shared by workers, gone with who started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.servers import installs
from support.servers.backends import BACKENDS, HONEST, Backend, Servers
from support.servers.controls import Fault, Rule
from support.servers.faults import Hold
from support.servers.gcs import GcsServer
from support.servers.plain import create
from support.servers.programs import Listening, is_listening
from support.servers.shared import shared
from support.threads import begin

LIMIT = 60.0


def test_a_server_on_threads_of_this_process():
    """The same server, for what must look into it."""
    with GcsServer(own_process=False) as server:
        url, _ = server.root()
        assert create(server, f"{url}/one", b"1") == 200
        port = int(server.url.rpartition(":")[2])
    assert not is_listening(port)


def test_a_stopped_server_is_gone():
    """Its process has ended and its port is free, even with a request held."""
    children = set(multiprocessing.active_children())
    server = GcsServer().start()
    (process,) = set(multiprocessing.active_children()) - children
    url, _ = server.root()
    hold = Hold(server.faults._controls, server.faults._controls.add_rule(Rule(Fault.HELD_BEFORE)))
    held = begin(create, server, f"{url}/one", b"1")
    hold.wait()
    begin(server.stop).result(LIMIT / 2)
    held.result(LIMIT)
    assert not process.is_alive()
    assert not is_listening(int(server.url.rpartition(":")[2]))


_VICTIM = """
import sys
from multiprocessing import active_children
sys.path.insert(0, sys.argv[1])
from support.servers.faults import Hold
from support.servers.gcs import GcsServer
from support.servers.programs import Listening
from pathlib import Path
if __name__ == "__main__":
    server = GcsServer().start()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
    program = Listening(command, Path(sys.argv[2]) / "output")
    print(server.url.rpartition(":")[2], program.port, flush=True)
    print(*(child.pid for child in active_children()), program._process.pid, flush=True)
    sys.stdin.read()
"""


def test_servers_end_with_the_process_that_started_them(tmp_path):
    """Killed tests leave no server behind."""
    script = tmp_path / "victim.py"
    script.write_text(_VICTIM)
    victim = subprocess.Popen(
        [sys.executable, script, Path(__file__).parent, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    ports, children = ([int(word) for word in victim.stdout.readline().split()] for _ in "pc")
    try:
        assert all(map(is_listening, ports))
        victim.kill()
        deadline = time.monotonic() + LIMIT
        while any(map(is_listening, ports)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        victim.kill()
        victim.wait()
        victim.stdin.close()
        victim.stdout.close()
        for child in children:  # what this test is to prove needless
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


class _Started:
    """Something that was started, and knows whether it has been stopped."""

    def __init__(self, directory):
        self.stopped = threading.Event()
        self._program = Listening(
            [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"],
            directory / "output",
        )
        self.port = self._program.port

    def stop(self):
        self._program.stop()
        self.stopped.set()


def test_a_shared_server_is_started_once_and_stopped_last(tmp_path):
    """Its starter waits for everyone else who uses it; the next user starts another."""
    started = []

    def start(directory):
        started.append(_Started(directory))
        return started[-1]

    leave = {name: threading.Event() for name in "ab"}
    joined = {name: threading.Event() for name in "ab"}

    def use(name):
        with shared(tmp_path, start) as port:
            joined[name].set()
            leave[name].wait(LIMIT)
            return port

    users = []
    for name in "ab":
        users.append(begin(use, name))
        assert joined[name].wait(LIMIT)
    leave["a"].set()
    assert not started[0].stopped.wait(0.5)  # it would be long since, if nobody waited
    leave["b"].set()
    port, same = [user.result(LIMIT) for user in users]
    assert port == same
    assert started[0].stopped.is_set()
    (tmp_path / "port").write_text(str(port))  # as a killed starter leaves it
    with shared(tmp_path, start) as third:
        assert is_listening(third)
    assert len(started) == 2


def test_a_shared_server_that_does_not_start_is_tried_again(tmp_path):
    """Once, in a new directory: its port may have been taken."""
    seen = []

    def start(directory):
        seen.append(directory)
        if len(seen) % 2:
            raise installs.NotStartedError("no")
        return _Started(directory)

    with shared(tmp_path, start) as port:
        assert is_listening(port)
    assert len(set(seen)) == 2

    def never(_):
        raise installs.NotStartedError("never")

    with pytest.raises(installs.UnavailableError, match="never"), shared(tmp_path, never):
        pass


LOOPBACK = {"0100007F", f"{'0' * 24}01000000"}
"""127.0.0.1 and ::1, which the driver of the browser takes too, as the kernel writes them."""


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_nothing_listens_to_the_network(server):
    """No process that the tests started accepts connections from another machine."""
    assert server.url.startswith("http://127.0.0.1:")
    top = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    inodes = {inode for pid in _descendants(top) for inode in _sockets(pid)}
    listening = [line for line in _listening() if line[9] in inodes]
    assert listening
    assert {line[1].partition(":")[0] for line in listening} <= LOOPBACK


def _descendants(top):
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(status.parent.name)] = int(fields[1])
    found = {top}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _sockets(pid):
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link)  # noqa: PTH115 - a socket is no path
            if target.startswith("socket:"):
                yield target[8:-1]
    except OSError:  # it has ended meanwhile
        return


def _listening():
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield fields


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip), ("true", pytest.fail)])
def test_a_server_that_cannot_be_had_says_why(monkeypatch, tmp_path, ci, outcome):
    """Its tests are skipped with the reason, or fail with it where nothing may be skipped."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setitem(BACKENDS, "gcs", Backend("gcs", "GcsServer", ("no_such_package",)))
    with pytest.raises(outcome.Exception, match="gcs: no_such_package is missing: install"):
        Servers(tmp_path).get("gcs")


class TestInstalls:
    """Servers from registries: there, or a reason."""

    @pytest.fixture(autouse=True)
    def _cache(self, monkeypatch, tmp_path):
        monkeypatch.setattr(installs, "CACHE", tmp_path / "cache")

    def test_a_missing_npm_is_named(self, monkeypatch, tmp_path):
        """The reason says what is not on the machine."""
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(installs.UnavailableError, match="needs npm and node"):
            installs.from_npm("azurite@1", "azurite")

    def test_an_install_that_fails_is_tried_again(self, monkeypatch):
        """Half an installation is never taken for one."""
        monkeypatch.setattr(installs.sys, "executable", "false")
        for _ in range(2):
            with pytest.raises(installs.UnavailableError, match=r"false -m venv .* failed"):
                installs.from_pypi("ministack==1", "ministack")
        assert [path.name for path in installs.CACHE.iterdir()] == ["lock"]

    def test_nothing_is_installed_for_the_system_but_in_ci(self, monkeypatch):
        """Elsewhere the reason is the command."""
        monkeypatch.delenv("CI", raising=False)
        with pytest.raises(installs.UnavailableError, match=r"apt-get install .* radosgw"):
            installs.from_debian(["radosgw"], ["no-such-program"])
