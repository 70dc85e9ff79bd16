"""Who does the jobs of a copy: runs them on workers, judges them, and says how far they are."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from jammi_files.copy_objects import Outcome
from jammi_files.local import LocalStorage
from jammi_files.parts import Workers
from jammi_files.storage import Storage


class CopyProgress(NamedTuple):
    """How far a copy is. The totals may grow when the source is changed meanwhile."""

    objects: int
    total_objects: int
    bytes: int
    total_bytes: int


Progress = Callable[[CopyProgress], None]


class _StoppedError(Exception):
    """The call that this job belongs to has failed or was interrupted."""


class Crew:
    """Runs jobs and says how far they are; where threads do it, after every block."""

    def __init__(
        self, workers: Workers, target: Storage, progress: Progress | None, *, tells: bool
    ) -> None:
        self.threads = workers.threads
        self._workers, self._target = workers, target
        self._progress, self._tells = progress, tells
        self._mutex = threading.Lock()
        self._is_stopped = False
        self._objects = self._bytes = self._total_objects = self._total_bytes = 0

    def expect(self, sizes: Iterable[int]) -> None:
        """Add to the totals."""
        for size in sizes:
            self._total_objects += 1
            self._total_bytes += size

    def run(self, function: Callable[..., Outcome], jobs: Iterable[Any]) -> Iterator[Outcome]:
        """Yield the outcomes of jobs as they come."""
        work = functools.partial(function, tick=self._tick) if self._tells else function
        try:
            for _, outcome in self._workers.run(work, jobs, doubt=self._doubts, on_beat=self._say):
                self._count(outcome)
                yield outcome
                self._say()
        except BaseException:
            self._is_stopped = True
            raise

    def _doubts(self, outcome: Outcome) -> bool:
        """Say whether a worker may not have seen the roots that this process sees.

        Of another machine's directory it would say that the source is gone, and that it has written
        what is not here.
        """
        if outcome.trouble is not None:
            return True
        return isinstance(self._target, LocalStorage) and self._target.size(outcome.key) is None

    def _tick(self, size: int) -> None:
        if self._is_stopped:
            raise _StoppedError
        with self._mutex:
            self._bytes += size

    def _count(self, outcome: Outcome) -> None:
        self._objects += outcome.copied + outcome.present
        if not self._tells:
            self._tick(outcome.copied_bytes + outcome.present_bytes)

    def _say(self) -> None:
        if self._progress is not None:
            done = self._objects, self._total_objects, self._bytes, self._total_bytes
            self._progress(CopyProgress(*done))
