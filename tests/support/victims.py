"""A build in a process of its own that stops after every step until its parent lets it go on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa
from support.faults import HookedStorage
from support.results import DESCRIPTOR, ENV, INPUTS, TABLE

from jammi_files.catalog import Catalog
from jammi_files.errors import JammiFilesError
from jammi_files.local import LocalStorage
from jammi_files.store import ResultStore

STEPS = ("row", "checkpoint", "writing", "written", "data", "sidecar", "commit")
"""Where a victim stops, in publish order."""

BATCH = pa.table({"id": pa.array(range(100_000), pa.int64())})
LIMIT = 60.0


class Victim:
    """The parent's side: runs the child up to a step, and ends it there or lets it finish."""

    def __init__(self, root: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_build, args=(root, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.table_name = ""

    def run_to(self, step: str) -> None:
        """Let the child go on until it stands after ``step``."""
        while self._next()[0] != step:
            self._pipe.send("go on")

    def finish(self) -> str | None:
        """Let the child run to its end; return the error that it met, if any."""
        while True:
            self._pipe.send("go on")
            step, error = self._next()
            if step == "end":
                self._process.join(LIMIT)
                return error

    def kill(self) -> None:
        """End the child at once, wherever it stands."""
        self._process.kill()
        self._process.join(LIMIT)
        assert self._process.exitcode is not None

    def _next(self) -> tuple[str, str | None]:
        assert self._pipe.poll(LIMIT), "the child did not answer"
        step, told = self._pipe.recv()
        if step == "row":
            self.table_name = told
        return step, told


@contextmanager
def victims(root: str, number: int) -> Iterator[list[Victim]]:
    """Start some children; whatever happens, none outlives the block."""
    started: list[Victim] = []
    try:
        started += [Victim(root) for _ in range(number)]
        yield started
    finally:
        for victim in started:
            victim.kill()


def _build(root: str, pipe: Connection) -> None:
    def stop(step: str, told: str | None = None) -> None:
        pipe.send((step, told))
        pipe.recv()

    def hook(moment: str, kind: str, key: str) -> None:
        step = _step_of(moment, kind, key)
        if step is not None:
            stop(step)

    inner = LocalStorage(root, "os")
    name = ResultStore(Catalog(inner)).create_table(*TABLE).table_name
    store: Any = ResultStore(Catalog(HookedStorage(inner, hook)))
    stop("row", name)
    try:
        store.catalog.set_checkpoint(name, 5)
        stop("checkpoint")
        with store.open_writer(name, BATCH.schema) as out:
            out.write(BATCH)
            stop("writing")
            out.write(BATCH)
        store.finalize_with_manifest(name, 2 * BATCH.num_rows, DESCRIPTOR, ENV, INPUTS)
    except (JammiFilesError, OSError) as error:
        pipe.send(("end", type(error).__name__))
    else:
        pipe.send(("end", None))


def _step_of(moment: str, kind: str, key: str) -> str | None:
    if kind == "publish":
        return "written" if moment == "before" else "data"
    if (moment, kind) == ("after", "create"):
        return "sidecar" if key.endswith(".materialization.json") else "commit"
    return None
