"""ministack, an S3 server from PyPI: a second dialect of S3, with errors as Ceph words them."""

from __future__ import annotations

from pathlib import Path

from support.servers.front import HOST
from support.servers.installs import from_pypi
from support.servers.programs import Listening
from support.servers.s3 import ProxiedS3

REQUIREMENT = "ministack==1.5.33"


class Ministack(ProxiedS3):
    """Objects in memory; it honours If-None-Match and If-Match, on multipart uploads too."""

    name = "ministack"

    def _start(self, directory: Path) -> Listening:
        environment = {
            "SERVICES": "s3",
            "BIND_HOST": HOST,  # without it every interface of the machine is listened on
            "GATEWAY_PORT": "{port}",
            "LOG_LEVEL": "WARNING",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",
        }
        command = from_pypi(REQUIREMENT, "ministack")
        return Listening(command, directory / "output", environment=environment)
