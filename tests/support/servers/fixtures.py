"""Servers for tests: each starts with the first test that asks for it, once per worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
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
