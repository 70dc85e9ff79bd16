"""Servers for tests: each starts with the first test that asks for it, once per worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.servers.gcs import GcsServer
from support.servers.s3 import S3Server


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Server]:
    """Run the S3 server for all tests of this worker; tests take `s3_server` instead."""
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_server(s3_process: S3Server) -> Iterator[S3Server]:
    """Yield the S3 server with an empty log and without faults."""
    s3_process.faults.clear()
    yield s3_process
    s3_process.faults.clear()


@pytest.fixture(scope="session")
def gcs_process() -> Iterator[GcsServer]:
    """Run the GCS server for all tests of this worker; tests take `gcs_server` instead."""
    with GcsServer() as server:
        yield server


@pytest.fixture
def gcs_server(gcs_process: GcsServer) -> Iterator[GcsServer]:
    """Yield the GCS server with an empty log and without faults."""
    gcs_process.faults.clear()
    yield gcs_process
    gcs_process.faults.clear()
