"""Verification of many results with a progress bar, which an interrupt ends at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Thread

from jammi_files import terminal
from jammi_files.store import ResultStore, Verification, verify_one


def verify(store: ResultStore, names: Sequence[str]) -> list[Verification]:
    """Verify in threads that die with the process, so that an interrupt ends it at once.

    Not `verify_all`: it takes no names, and the threads of an executor finish what they began.
    """
    waiting: SimpleQueue[str | None] = SimpleQueue()
    answers: SimpleQueue[Verification | BaseException] = SimpleQueue()
    count = min(8, os.cpu_count() or 1, len(names))
    for name in (*names, *[None] * count):
        waiting.put(name)
    for _ in range(count):
        Thread(target=_work, args=(store, waiting, answers), daemon=True).start()
    found: dict[str, Verification] = {}
    rows = _rows(store, names)
    done, total = 0, sum(rows.values())
    with terminal.progress("Verifying", sys.stderr, "rows") as step:
        step(done, total)
        for _ in names:
            answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            found[answer.table_name] = answer
            done += rows[answer.table_name]
            step(done, total)
    return [found[name] for name in names]


def _rows(store: ResultStore, names: Sequence[str]) -> dict[str, int]:
    """Return the rows of each result: they tell better than the number of results what is left."""
    snapshot = store.catalog.snapshot()
    records = {name: snapshot.get_result_table(name) for name in names}
    return {name: 0 if each is None else each.row_count for name, each in records.items()}


def _work(
    store: ResultStore,
    waiting: SimpleQueue[str | None],
    answers: SimpleQueue[Verification | BaseException],
) -> None:
    while (name := waiting.get()) is not None:
        try:
            answers.put(verify_one(store, name))
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            answers.put(error)
