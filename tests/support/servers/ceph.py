"""Ceph's S3 gateway from Debian's packages, a real store: one monitor, one OSD in memory."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

from support.servers.front import HOST
from support.servers.installs import NotStartedError, from_debian
from support.servers.programs import PATIENCE, Program, free_port
from support.servers.s3 import S3_KEY, S3_SECRET, ProxiedS3

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "radosgw-admin", "monmaptool", "ceph")
_TRIES = 10
_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v1:{host}:{monitor}]
mon initial members = a
public addr = {host}
cluster addr = {host}
ms bind ipv4 = true
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd crush update on start = false
osd class load list = *
osd class default list = *
osd objectstore = memstore
memstore device bytes = 2147483648
mon warn on pool no redundancy = false
mon allow pool size one = true
mon allow pool delete = true
mon max pg per osd = 1000
mon data = {directory}/mon
osd data = {directory}/osd
run dir = {directory}/run
admin socket =
pid file = {directory}/run/$name.pid
log file = {directory}/log/$name.log
[client.rgw.a]
rgw frontends = beast endpoint={host}:{gateway} tcp_nodelay=1
rgw enable usage log = false
rgw dns name = localhost
"""


class Ceph(ProxiedS3):
    """Objects in memory, about 14 s to start; it honours If-None-Match on whole puts only.

    A create that loses raises ``OSError`` instead of ``FileExistsError``, and a multipart upload
    overwrites whatever its condition says.
    """

    name = "ceph"

    def _start(self, directory: Path) -> Cluster:
        from_debian(PACKAGES, PROGRAMS)
        return Cluster(directory)


class Cluster:
    """The three processes, from construction to `stop`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._configuration = directory / "ceph.conf"
        self._fsid, self.port, self._monitor = str(uuid.uuid4()), free_port(), free_port()
        with ExitStack() as stack:
            self._write_configuration()
            self._start_monitor(stack)
            self._start_storage(stack)
            self._start_gateway(stack)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """End the processes, the gateway first."""
        self._stack.close()

    def _write_configuration(self) -> None:
        for name in ("mon", "osd", "run", "log"):
            (self._directory / name).mkdir()
        self._configuration.write_text(
            _CONFIGURATION.format(
                fsid=self._fsid,
                host=HOST,
                directory=self._directory,
                monitor=self._monitor,
                gateway=self.port,
            )
        )

    def _start_monitor(self, stack: ExitStack) -> None:
        members = str(self._directory / "monmap")
        address = f"[v1:{HOST}:{self._monitor}]"
        self._tool("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, members)
        self._tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", members)
        self._serve(stack, "ceph-mon", "-i", "a").wait_for(self._monitor)

    def _start_storage(self, stack: ExitStack) -> None:
        number = str(uuid.uuid4())
        self._tool("ceph", "osd", "new", number)
        self._tool("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h0")
        self._tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", number)
        program = self._serve(stack, "ceph-osd", "-i", "0")
        deadline = time.monotonic() + PATIENCE
        while " 1 up" not in self._tool("ceph", "osd", "stat"):
            if time.monotonic() > deadline:
                raise NotStartedError(f"the OSD does not come up: {program.told()}")
            if program.has_ended():  # refused as `_tool` says
                program = self._serve(stack, "ceph-osd", "-i", "0")
            time.sleep(0.1)

    def _start_gateway(self, stack: ExitStack) -> None:
        user = ("--uid=tests", "--display-name=tests")
        keys = (f"--access-key={S3_KEY}", f"--secret-key={S3_SECRET}")
        self._tool("radosgw-admin", "user", "create", *user, *keys)
        self._serve(stack, "radosgw", "-n", "client.rgw.a").wait_for(self.port)

    def _serve(self, stack: ExitStack, name: str, *options: str) -> Program:
        command = [name, "-c", str(self._configuration), *options, "-f"]
        program = Program(command, self._directory / f"{name}.output")
        stack.callback(program.stop)
        return program

    def _tool(self, *command: str) -> str:
        """Run a command to its end.

        A client may send its first command before it has heard the cluster's id, and is refused
        as one of another cluster (EPERM): on a busy machine one of ten is, and tries again.
        """
        environment = os.environ | {"CEPH_CONF": str(self._configuration)}
        for _ in range(_TRIES):
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE,
                env=environment,
            )
            if not done.returncode:
                return done.stdout
            if "EPERM" not in done.stderr:
                break
        raise NotStartedError(f"{' '.join(command)} failed: {done.stderr[-500:]}")
