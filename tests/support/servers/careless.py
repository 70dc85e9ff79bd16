"""Servers that take conditional writes and ignore the condition: negative controls.

What passes on the other servers must be refused, or seen to lose updates, on these.
"""

from __future__ import annotations

from pathlib import Path

from support.servers.front import HOST
from support.servers.gcs import SpeaksGcs
from support.servers.installs import from_npm, from_pypi
from support.servers.programs import Listening
from support.servers.proxy import ProxiedServer
from support.servers.s3 import ProxiedS3

S3RVER = "s3rver@3.7.1"
GCP_EMULATOR = "gcp-storage-emulator==2026.7.19"


class S3rver(ProxiedS3):
    """An S3 server from npm that ignores If-None-Match."""

    name = "s3rver"
    credentials = ("S3RVER", "S3RVER")  # the only ones that it knows

    def _start(self, directory: Path) -> Listening:
        data = directory / "data"
        data.mkdir(exist_ok=True)
        options = ["--silent", "--allow-mismatched-signatures", "--no-vhost-buckets"]
        address = ["--directory", str(data), "--address", HOST, "--port", "{port}"]
        return Listening([*from_npm(S3RVER, "s3rver"), *options, *address], directory / "output")


class GcpEmulator(ProxiedServer, SpeaksGcs):
    """A GCS server from PyPI that ignores ifGenerationMatch."""

    name = "gcp-storage-emulator"
    concurrency = 1  # it has one thread and refuses connections meanwhile

    def _start(self, directory: Path) -> Listening:
        options = ["start", "--quiet", "--in-memory", "--host", HOST, "--port", "{port}"]
        command = [*from_pypi(GCP_EMULATOR, "gcp-storage-emulator"), *options]
        return Listening(command, directory / "output")
