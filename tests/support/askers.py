"""What processes do that ask for one result: at once, or step by step under their parent's eyes."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pyarrow as pa
from support.faults import HookedStorage
from support.results import CONTRACT, DATA

from jammi_files import Catalog, ConflictError, ResultStore, connect
from jammi_files.local import LocalStorage

ROW: dict[str, Any] = {"source_id": "docs", "task": "classification"}
LIMIT = 60.0


def mark(marks: str | Path, step: str) -> None:
    """Leave one more file that says that a step was computed."""
    for number in itertools.count():
        with contextlib.suppress(FileExistsError):
            (Path(marks) / f"{step}.{number}").open("x").close()
            return


def ask(store: ResultStore, fn: Any, **also: Any) -> Any:
    """Ask for the one result that these tests are about."""
    return store.get_or_build(*CONTRACT.values(), fn, **{**ROW, **also})


def ask_marked(root: str, marks: str) -> tuple[str, str]:
    """Ask, leaving a mark if it computes; return what was done, and the table."""

    def compute() -> pa.Table:
        mark(marks, "computed")
        return DATA

    obtained = ask(connect(root, durability="os"), compute)
    return obtained.outcome.cache_outcome, obtained.table_name


def watched(root: Any, looks: int, seen: Any) -> ResultStore:
    """Return a store that calls ``seen`` once it has looked ``looks`` times for a new version."""
    numbers = itertools.count(1)

    def hook(moment: str, kind: str, key: str) -> None:
        is_look = moment == "after" and kind in ("size", "peek") and "_catalog/manifest" in key
        if is_look and next(numbers) == looks:
            seen()

    return ResultStore(Catalog(HookedStorage(LocalStorage(str(root), "os"), hook)))


class Asker:
    """A process that asks and tells its parent: computing, waiting, and how it ended."""

    def __init__(self, root: Any, **also: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        given = (str(root), theirs, also)
        self._process = context.Process(target=_ask_in_steps, args=given, daemon=True)
        self._process.start()
        theirs.close()

    def hear(self, *, waiting: bool = False) -> Any:
        """Return what the process says next, or with ``waiting`` that it does wait."""
        while True:
            assert self._pipe.poll(LIMIT), "the process said nothing"
            told = self._pipe.recv()
            if waiting or told != "waiting":
                return told

    def tell(self, answer: str) -> None:
        """Let a process that computes go on (``ok``) or fail (any other text)."""
        self._pipe.send(answer)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join(LIMIT)


def first_heard(asked: list[Asker]) -> Asker:
    """Return the process that says something first."""
    ready = wait([asker._pipe for asker in asked], LIMIT)
    return next(asker for asker in asked if asker._pipe in ready)


@contextlib.contextmanager
def askers(root: Any, number: int, **also: Any) -> Iterator[list[Asker]]:
    """Start processes that ask; none outlives the block."""
    started: list[Asker] = []
    try:
        started += [Asker(root, **also) for _ in range(number)]
        yield started
    finally:
        for asker in started:
            asker.kill()


def _ask_in_steps(root: str, pipe: Connection, also: dict[str, Any]) -> None:
    def compute() -> pa.Table:
        pipe.send("computing")
        answer = pipe.recv()
        if answer != "ok":
            raise RuntimeError(answer)
        return DATA

    store = watched(root, 4, lambda: pipe.send("waiting"))
    try:
        obtained = ask(store, compute, **also)
    except (RuntimeError, ConflictError) as error:
        pipe.send(("error", str(error)))
    else:
        pipe.send((obtained.outcome.cache_outcome, obtained.table_name))
