"""Long work done in parts, by any executor, until each part has its answer: `Workers`.

Verifying, copying, checking and repairing a root, and asking for the freshness of all, split their
work by result or object and hand it out here. An executor may lose a part: its process was killed
(`BrokenProcessPool`, Dask's ``KilledWorker``, Ray's ``WorkerCrashedError``), somebody cancelled it,
it could not be sent. The rule, for all of them:

1. A part that was lost is handed to the executor again, until it was given `ATTEMPTS` times.
2. After that, or as soon as the executor takes no more parts, the calling process does it.
3. The calling process also does again what failed in a worker, and what a worker says is wrong:
   a machine that does not see the caller's directory, or lacks a package, condemns no result.
4. Every part is answered once, however often it was done; so doing it twice does no harm.

A part is a value that can be pickled, and so is what is made of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from jammi_files import events, tracing
from jammi_files.errors import InvalidInputError
from jammi_files.events import Event

P = TypeVar("P")
R = TypeVar("R")

Progress = Callable[[int, int], None]
"""Called with the number of parts done and the total, in the calling thread."""

ATTEMPTS = 3
"""How often the executor is given a part that it loses each time."""

THREADS = 8
"""Threads of the calling process, where there is no executor or where it has lost parts."""

WINDOW = 1024
"""Parts that an executor of the caller's has at a time; one for every core of a large cluster."""

BEAT = 0.1
"""Seconds after which a caller who wants to hear of it is told that nothing has come."""


class Workers:
    """Who does the parts: an executor, else ``threads`` of this process; use it in a ``with``.

    Raises:
        InvalidInputError: ``executor`` is not an executor.
    """

    def __init__(self, executor: Executor | None = None, *, threads: int = THREADS) -> None:
        self._executor = require_executor(executor)
        self._window = 2 * threads if executor is None else WINDOW
        self._errands: set[_Errand[Any, Any]] = set()
        self.threads: Executor = tracing.Threads(threads)
        """The threads of this process, for work that should not leave it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for errand in self._errands:  # a traceback keeps `run` from ending by itself
            errand.cancel()
        self.threads.shutdown()

    def run(
        self,
        function: Callable[[P], R],
        parts: Iterable[P],
        *,
        doubt: Callable[[R], bool] | None = None,
        on_beat: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, R]]:
        """Yield the number of each part and what ``function`` makes of it, as they come.

        ``doubt`` says of an answer that something is wrong by it. ``parts`` is drawn from as they
        are done. An error is one that the part raised in this process. Whoever stops listening
        cancels what has not begun.
        """
        waiting = enumerate(parts)
        errand = _Errand(self._executor, self.threads, function, doubt)
        self._errands.add(errand)
        try:
            while True:
                for number, part in islice(waiting, self._window - len(errand.pending)):
                    errand.begin(_Task(number, part))
                if not errand.pending:
                    return
                try:
                    task, future = errand.ended.get(timeout=None if on_beat is None else BEAT)
                except Empty:
                    assert on_beat is not None  # noqa: S101 - only then there is a limit
                    on_beat()
                    continue
                answers = errand.settle(task, future)
                yield from ((task.number, answer) for answer in answers)
        finally:
            errand.cancel()
            self._errands.discard(errand)


def require_executor(executor: Executor | None) -> Executor | None:
    """Return what a caller gave as an executor.

    Raises:
        InvalidInputError: it is none.
    """
    if executor is None or isinstance(executor, Executor):
        return executor
    hint = "; give its get_executor()" if hasattr(executor, "get_executor") else ""
    msg = f"executor must be a concurrent.futures.Executor, not a {type(executor).__name__}{hint}"
    raise InvalidInputError(msg)


def in_order(answers: Iterator[tuple[int, R]], total: int, progress: Progress | None) -> list[R]:
    """Return the answers of `Workers.run` in the order of their parts, and count them."""
    found: dict[int, R] = {}
    for number, answer in answers:
        found[number] = answer
        if progress is not None:
            progress(len(found), total)
    return [found[number] for number in range(total)]


@dataclasses.dataclass(slots=True, eq=False)
class _Task(Generic[P]):
    """A part on its way; ``is_ours`` once it is this process that does it."""

    number: int
    part: P
    attempts: int = 0
    is_ours: bool = False


class _Errand(Generic[P, R]):
    """One call of `Workers.run`: what has been handed out, and what came of it."""

    def __init__(
        self,
        executor: Executor | None,
        threads: Executor,
        function: Callable[[P], R],
        doubt: Callable[[R], bool] | None,
    ) -> None:
        self._executor, self._threads = executor, threads
        self._function, self._doubt = function, doubt
        self._has_told = False
        self.pending: dict[_Task[P], Future[Any]] = {}
        # Not `wait`, which looks at every pending future each time that one has ended.
        self.ended: SimpleQueue[tuple[_Task[P], Future[Any]]] = SimpleQueue()

    def begin(self, task: _Task[P]) -> None:
        """Hand out a part, to the executor if it takes it."""
        if self._executor is not None and not task.is_ours and task.attempts < ATTEMPTS:
            task.attempts += 1
            try:
                future: Future[Any] = self._executor.submit(attempt, self._function, task.part)
            except Exception as error:  # noqa: BLE001 - executors raise whatever they like
                self._tell("the executor takes no more parts: the rest is done here", error)
                self._executor = None
            else:
                self._await(task, future)
                return
        task.is_ours = True
        self._await(task, self._threads.submit(self._function, task.part))

    def settle(self, task: _Task[P], future: Future[Any]) -> Iterator[R]:
        """Yield the answer that a part has, if it has one now; else do the part again."""
        del self.pending[task]
        if task.is_ours:
            yield future.result()
            return
        try:
            is_done, answer = future.result()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - as above, and asyncio's CancelledError
            self._tell("a part was lost with its worker and is done again", error)
        else:
            if is_done and not (self._doubt is not None and self._doubt(answer)):
                yield answer
                return
            if not is_done:
                self._tell("a part failed in a worker and is done here", answer)
            task.is_ours = True
        self.begin(task)

    def cancel(self) -> None:
        """Do no more of what has not begun."""
        for future in self.pending.values():
            future.cancel()

    def _await(self, task: _Task[P], future: Future[Any]) -> None:
        self.pending[task] = future
        future.add_done_callback(lambda done: self.ended.put((task, done)))

    def _tell(self, what: str, why: object) -> None:
        """Log a loss: the first as a warning, as a pool that breaks loses all at once."""
        tell = events.debug if self._has_told else events.warn
        tell(Event.WORKER_LOST, "%s (%s)", what, why)
        self._has_told = True


def attempt(function: Callable[[P], R], part: P) -> tuple[bool, R | str]:
    """Do a part in a worker: True and the answer, or False and how it failed.

    An error is not sent back: not every one survives a pickle, and one that does not takes a whole
    process pool with it. Without one on its way, any error of a future is the executor's own.
    """
    try:
        return True, function(part)
    except Exception as error:  # noqa: BLE001 - the calling process meets it again
        return False, f"{type(error).__name__}: {error}"
