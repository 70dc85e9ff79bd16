"""Servers for tests: each starts with the first test that asks for it.

``s3_server`` and ``gcs_server`` are the two of our own; ``server`` is any of `backends`, by an
indirect parameter. Whichever it is, it comes with an empty log and without faults.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.servers.backends import Servers
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


def _fresh(server: Server) -> Iterator[Server]:
    server.faults.clear()
    yield server
    server.faults.clear()
