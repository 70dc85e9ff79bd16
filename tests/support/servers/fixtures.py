"""Servers for tests: each starts with the first test that asks for it.

``s3_server`` and ``gcs_server`` are the two of our own, ``guarded`` an S3 server whose answers a
test can change; ``server`` is any of `backends`, by an indirect parameter. Whichever it is, it
comes with an empty log and without faults.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.servers.backends import BACKENDS, Servers
from support.servers.server import Server


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Yield the servers of this worker."""
    base = tmp_path_factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    running = Servers(run / "servers")
    yield running
    running.stop()


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Server]:
    """Yield the server that the parameter names."""
    yield from _fresh(servers.get(request.param))


@pytest.fixture
def s3_server(servers: Servers) -> Iterator[Server]:
    """Yield the S3 server."""
    yield from _fresh(servers.get("moto"))


@pytest.fixture
def gcs_server(servers: Servers) -> Iterator[Server]:
    """Yield the GCS server."""
    yield from _fresh(servers.get("gcs"))


@pytest.fixture(scope="session")
def guarded_server() -> Iterator[Server]:
    """Yield the S3 server that runs in this process, whatever its guard is."""
    for package in BACKENDS["moto"].needs:
        pytest.importorskip(package)
    from support.servers.guarded import GuardedS3  # noqa: PLC0415 - moto takes a second to import

    with GuardedS3() as server:
        yield server


@pytest.fixture
def guarded(guarded_server: Any) -> Iterator[Any]:
    """Yield an S3 server with a guard, which at first passes everything on."""
    guarded_server.unguard()
    yield from _fresh(guarded_server)
    guarded_server.unguard()


def _fresh(server: Server) -> Iterator[Server]:
    server.faults.clear()
    yield server
    server.faults.clear()
