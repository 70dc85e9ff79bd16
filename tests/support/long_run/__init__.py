"""Builds by the thousand, with somebody killed all the time, and the full check at the end.

``python -m support.long_run --builds 10000 --processes 6`` (in ``tests/``). Builders note what they
were told; recovery and vacuum run beside them and are killed like them. In the end every result
that a builder was told of is there once, and nothing is left over that one more recovery and vacuum
do not remove.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from support.invariants import check_invariants
from support.results import CONTRACT, TABLE

from jammi_files import ResultStore, connect, garbage
from jammi_files.errors import ConflictError
from jammi_files.materialization import Match, MatchWithUnpinnedInputs
from jammi_files.vacuum import VacuumKind

LIMIT = 120.0
"""Seconds in which a builder has to be told of something, or all hang."""

_WORK = 0.2
"""Seconds that some builds take at most, with their data half written."""

_NUMBER = "number"
"""The property that says which build a row is of."""


class Asked(NamedTuple):
    """How large a run is."""

    builds: int
    processes: int
    kill_every: float = 1.0
    """Seconds between two kills, on average."""
    builds_between: int = 0
    """Builds that have to be acknowledged between two kills, however long that takes."""
    durability: str = "os"
    seconds: float = float("inf")
    """The longest time to build for, be there enough builds or not."""


# What each process does until there is a file "stop".


def _build_on(root: str, notes: Notes, asked: Asked) -> None:
    store = connect(root, durability=asked.durability)
    count = sum("begun" in line for line in notes.read())
    while not notes.is_over:
        number = f"{notes.name}.{count}"
        data = pa.table({"id": [f"{number}/{row}" for row in range(3 + count % 50)]})
        notes.write(begun=number)
        with store.build(*TABLE, **CONTRACT, properties={_NUMBER: number}) as out:
            out.write(data)
            if count % 3 == 0:
                out.checkpoint(count)
                time.sleep(random.random() * _WORK)
            out.write(data)
        notes.write(done=number, table=out.table_name, digest=out.manifest.artifact)
        count += 1


def _recover_on(root: str, notes: Notes, asked: Asked) -> None:
    store = connect(root, durability=asked.durability)
    while not notes.is_over:
        started = time.monotonic()
        report = store.as_admin().recover(reap=random.random() < 0.5)
        for action in report.actions:
            notes.write(recovered=str(action.action), table=action.table_name)
        time.sleep(max(0.2, time.monotonic() - started))


def _vacuum_on(root: str, notes: Notes, asked: Asked) -> None:
    catalog = connect(root, durability=asked.durability).catalog.as_admin()
    while not notes.is_over:
        started = time.monotonic()
        age, keep = random.choice((0, 0, 1, 5)), random.choice((1, 1, 10, 100))
        _note_vacuum(notes, catalog.vacuum(age, keep_last=keep, dry_run=False))
        time.sleep(max(0.2, time.monotonic() - started))


def _note_vacuum(notes: Notes, report: Any) -> None:
    failed = [action.error for action in report.actions if action.error is not None]
    kinds = Counter(str(action.kind) for action in report.done)
    notes.write(vacuumed=dict(kinds), failed=failed)


class Notes:
    """What one process was told: a line each, kept when it is killed."""

    def __init__(self, directory: Path, name: str) -> None:
        self._stop = directory / "stop"
        self.path = directory / name
        self.name = name

    def write(self, **what: Any) -> None:
        """Add a line by one write, which no kill cuts in two."""
        line = json.dumps(what).encode() + b"\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def read(self) -> list[dict[str, Any]]:
        """Return all lines."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    @property
    def is_over(self) -> bool:
        """Whether everybody is to stop."""
        return self._stop.exists()


Worker = Callable[[str, Notes, Asked], None]


def _live(worker: Worker, root: str, notes: Notes, asked: Asked) -> None:
    while not notes.is_over:
        try:
            worker(root, notes, asked)
        except ConflictError as error:  # certainly not applied: a machine that is much too busy
            notes.write(conflict=str(error))
        except Exception:  # noqa: BLE001 - the check at the end raises it
            notes.write(error=traceback.format_exc())
            return


class _Crowd:
    """The processes, each replaced when it is dead."""

    def __init__(self, root: str, directory: Path, asked: Asked) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_live.__module__])
        self._root, self._directory, self._asked = root, directory, asked
        workers = [_build_on] * asked.processes + [_recover_on, _vacuum_on]
        self._lives = [
            (worker, *self._start(worker, slot, 0)) for slot, worker in enumerate(workers)
        ]
        self.kills = self.acknowledged = 0

    def run(self) -> None:
        """Kill at random until there are enough builds; then let everybody finish."""
        chance, quiet, last = random.Random(), time.monotonic(), 0
        end = quiet + self._asked.seconds
        while self._count() < self._asked.builds and time.monotonic() < end:
            before = self.acknowledged
            time.sleep(self._asked.kill_every * chance.uniform(0.5, 1.5))
            if self._count() > before:
                quiet = time.monotonic()
            assert time.monotonic() - quiet < LIMIT, "no build ends any more"
            if self.acknowledged >= last + self._asked.builds_between:
                self._kill(chance.randrange(len(self._lives)))
                last = self.acknowledged
        (self._directory / "stop").touch()
        for _, process, _ in self._lives:
            process.join(LIMIT)
            assert process.exitcode == 0, f"{process.name} did not end: {process.exitcode}"

    def end(self) -> None:
        """Leave nobody behind, whatever happened."""
        for _, process, _ in self._lives:
            process.kill()
            process.join()

    def _start(self, worker: Worker, slot: int, life: int) -> tuple[Any, Notes]:
        notes = Notes(self._directory, f"{worker.__name__.strip('_')}.{slot}.{life}")
        arguments = (worker, self._root, notes, self._asked)
        process = self._context.Process(target=_live, args=arguments, daemon=True)
        process.start()
        return process, notes

    def _kill(self, slot: int) -> None:
        worker, process, notes = self._lives[slot]
        process.kill()
        process.join()
        self.kills += 1
        life = int(notes.name.rpartition(".")[2]) + 1
        self._lives[slot] = (worker, *self._start(worker, slot, life))

    def _count(self) -> int:
        self.acknowledged = sum(
            path.read_bytes().count(b'"done"') for path in self._directory.glob("build_on.*")
        )
        return self.acknowledged


def run(root: str, directory: Path, asked: Asked) -> dict[str, Any]:
    """Run and check everything; return the figures.

    Raises:
        AssertionError: a promise was broken.
    """
    started = time.monotonic()
    crowd = _Crowd(root, directory, asked)
    try:
        crowd.run()
    finally:
        crowd.end()
    ran = time.monotonic() - started
    lines = [line for path in directory.iterdir() for line in Notes(directory, path.name).read()]
    errors = [line["error"] for line in lines if "error" in line]
    assert not errors, errors[0]
    assert not [line for line in lines if line.get("failed")], "vacuum failed to remove"
    figures = {"kills": crowd.kills, **_check(connect(root, durability="os"), lines)}
    figures["seconds"], figures["seconds_of_check"] = ran, time.monotonic() - started - ran
    return figures


def _check(store: ResultStore, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Check a root at rest against all that was noted."""
    root = store.storage.root
    findings = check_invariants(root, allowed=_Anything())
    recovered = store.as_admin().recover(reap=True)
    _let_an_hour_pass(Path(root))
    vacuumed = store.catalog.as_admin().vacuum(0, dry_run=False)
    check_invariants(root)
    assert not store.as_admin().recover(reap=True)
    rows = store.catalog.scan(columns=["table_name", "status", "properties", "artifact_digest"])
    by_number: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        by_number.setdefault(dict(row["properties"])[_NUMBER], []).append(row)
    assert all(len(found) == 1 for found in by_number.values()), "a build has two rows"
    begun = {line["begun"] for line in lines if "begun" in line}
    assert by_number.keys() <= begun, "a row of no build"
    told = [line for line in lines if "done" in line]
    for line in told:
        row = by_number[line["done"]][0]
        assert (row["status"], row["table_name"]) == ("ready", line["table"]), (row, line)
        assert row["artifact_digest"] == line["digest"], (row, line)
    verified = store.verify_all()
    wrong = [
        each for each in verified if not isinstance(each.verdict, Match | MatchWithUnpinnedInputs)
    ]
    assert not wrong, wrong[:3]
    status = Counter(found[0]["status"] for found in by_number.values())
    assert len(verified) == status["ready"], status
    assert set(status) <= {"ready", "failed"}, status
    return _figures(lines, status) | {
        "begun": len(begun),
        "acknowledged": len(told),
        "ready and not acknowledged": status["ready"] - len(told),
        "findings at rest": dict(Counter(str(each.kind) for each in findings)),
        "last recovery": len(recovered.actions),
        "last vacuum": len(vacuumed.done),
        "versions": store.catalog.version,
    }


def _let_an_hour_pass(root: Path) -> None:
    """Make the clocks of killed vacuums as old as they have to be for another one to take them."""
    past = time.time() - 2 * 3600
    for clock in root.glob(f"{garbage.CLOCK}.*"):
        os.utime(clock, (past, past))


def _figures(lines: list[dict[str, Any]], status: Counter[str]) -> dict[str, Any]:
    removed: Counter[str] = Counter()
    for line in lines:
        removed.update(line.get("vacuumed", {}))
    return {
        "ready": status["ready"],
        "failed": status["failed"],
        "recovered": dict(Counter(line["recovered"] for line in lines if "recovered" in line)),
        "conflicts": sum("conflict" in line for line in lines),
        "vacuums": sum("vacuumed" in line for line in lines),
        "retired versions": removed.pop(str(VacuumKind.VERSION), 0),
        "removed objects": dict(removed),
    }


class _Anything:
    """Contains every kind of finding: what is there before the last recovery is only counted."""

    def __contains__(self, _: object) -> bool:
        return True
