"""A Dask cluster on this machine: two processes, each watched by one that starts it anew."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import dask
from distributed import Client, LocalCluster

LIMIT = "120s"
"""How long Dask waits for a worker, on a machine that others use too."""

_SETTINGS = {
    # A part whose worker died is given up by Dask itself at once, and comes back to this library.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.comm.timeouts.connect": LIMIT,
    "distributed.comm.timeouts.tcp": LIMIT,
    "distributed.deploy.lost-worker-timeout": LIMIT,
}


@contextlib.contextmanager
def dask_client() -> Iterator[Client]:
    """Yield a client of a fresh cluster; it ends with the block."""
    with (
        dask.config.set(_SETTINGS),
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=True,
            memory_limit=None,
            dashboard_address=":0",
        ) as cluster,
        Client(cluster, timeout=LIMIT) as client,
    ):
        yield client


def processes_of(client: Client) -> list[int]:
    """Return the process ids of the workers that are there now."""
    found: dict[str, Any] = client.run(os.getpid)
    return list(found.values())


def kill(process: int) -> None:
    """End a process without giving it a chance to say so."""
    os.kill(process, signal.SIGKILL)
