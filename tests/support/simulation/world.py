"""Simulated time and the threads in it: exactly one runs at a time, in an order that the seed says.

A client is a real thread, as the library tells threads apart; it runs only while it holds the
baton, and hands it on wherever it waits. Whoever waits picks the next event itself.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

SECOND = 1_000_000_000
EPOCH = 1_700_000_000 * SECOND
MOST_EVENTS = 20_000
LONGEST = 300.0
"""Real seconds for a whole run, which takes a fraction of one: more is a hanging thread."""

# The real ones: the library's modules see the simulated ones in their place.
_Thread, _Semaphore, _ident = threading.Thread, threading.Semaphore, threading.get_ident


class Crash(BaseException):
    """The process is dead."""


class StuckError(Exception):
    """Nobody can go on, or nobody comes to an end."""


class Life:
    """One process from its start to its death."""

    def __init__(self, process: Process, number: int) -> None:
        self.process, self.number = process, number
        self.pid = 1000 * (process.index + 1) + number
        self.name = f"{process.name}.{number}"
        self.alive = True
        self.last_instant = 0
        self.store: Any = None
        self.written: dict[Any, Any] = {}


class Process:
    """A program that is started again when it has died; ``skew`` is its machine's clock's error."""

    def __init__(self, index: int, host: int) -> None:
        self.index, self.host, self.name = index, host, f"p{index}"
        self.skew = self.most_skew = 0
        self.life = Life(self, 0)

    def revive(self) -> Life:
        """Return the running life, a new one if the last has ended."""
        if not self.life.alive:
            self.life = Life(self, self.life.number + 1)
        return self.life


class Task:
    """One client's thread."""

    def __init__(self, name: str, process: Process, chance: random.Random) -> None:
        self.name, self.process, self.chance = name, process, chance
        self.life = process.life
        self.baton = _Semaphore(0)
        self.waiting = 0
        self.resumes_at = 0
        self.requests = self.lost = 0
        self.step = ""
        self.done = False


class World:
    """The events to come; `now` is nanoseconds since the start."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0
        self.tasks: list[Task] = []
        self.trace: list[str] = []
        self.failure: BaseException | None = None
        self.events = 0
        self._heap: list[tuple[int, int, Callable[[], Task | None]]] = []
        self._order = itertools.count()
        self._ticket = itertools.count(1)
        self._finished = _Semaphore(0)
        self.task: Task | None = None

    @property
    def digest(self) -> int:
        """A number that only the same trace has."""
        return zlib.crc32("\n".join(self.trace).encode())

    @property
    def current(self) -> Task:
        """Whoever holds the baton."""
        assert self.task is not None
        return self.task

    def note(self, *words: object) -> None:
        """Write a line of the trace."""
        self.trace.append(f"{self.now / SECOND:.6f} {' '.join(map(str, words))}")

    def after(self, seconds: float, action: Callable[[], Task | None]) -> None:
        """Have something done later; it may name a task that goes on then."""
        at = self.now + max(0, int(seconds * SECOND))
        heapq.heappush(self._heap, (at, next(self._order), action))

    def waker(self, task: Task) -> Callable[[], Task | None]:
        """Return what lets ``task`` go on, if it still waits as it is about to."""
        ticket = task.waiting

        def wake() -> Task | None:
            return task if task.waiting == ticket and not task.done else None

        return wake

    def prepare(self) -> Callable[[], Task | None]:
        """Begin to wait; the result ends the wait when it is called as an event."""
        self.current.waiting = next(self._ticket)
        return self.waker(self.current)

    def wait(self) -> None:
        """Hand the baton on until one of this task's wakers was called."""
        me = self.current
        if self.is_over:
            raise Crash
        following = self._next()
        if following is not me:
            if following is None:
                self._finished.release()
            else:
                self._go_on(following)
            me.baton.acquire()
        self.task = me
        if self.is_over:
            raise Crash

    @property
    def is_over(self) -> bool:
        """Whether the running task's process is dead, or the whole run has failed."""
        return self.failure is not None or not self.current.life.alive

    def sleep(self, seconds: float) -> None:
        """Let simulated time pass."""
        if self.is_over:
            raise Crash
        me = self.current
        me.resumes_at = self.now + int(seconds * SECOND)
        self.after(seconds, self.prepare())
        self.wait()

    def next_awakening(self, least: float) -> float:
        """Return in how many seconds the first task goes on that sleeps for ``least`` or more."""
        waits = [task.resumes_at - self.now for task in self.tasks if not task.done]
        long = [wait for wait in waits if wait >= least * SECOND]
        return min(long, default=0) / SECOND

    def kill(self, life: Life) -> None:
        """End a process: all its threads meet `Crash`."""
        life.alive = False
        self.note("crash", life.name)
        for task in self.tasks:
            if task.life is life and task is not self.task:
                self.after(0, self.waker(task))

    def run(self, bodies: list[tuple[Task, Callable[[], None]]]) -> None:
        """Run all tasks to their end.

        Raises:
            StuckError: there is no end.
        """
        threads = []
        for task, body in bodies:
            self.tasks.append(task)
            threads.append(_Thread(target=self._live, args=(task, body), daemon=True))
            task.waiting = next(self._ticket)
            self.after(task.chance.random(), self.waker(task))
        for thread in threads:
            thread.start()
        first = self._next()
        if first is not None:
            self._go_on(first)
            if not self._finished.acquire(timeout=LONGEST):
                raise StuckError(f"a thread waits for something real: {self.trace[-1:]}")
        undone = [task for task in self.tasks if not task.done]
        if undone and self.failure is None:
            self.failure = StuckError(f"waiting for ever: {[(t.name, t.step) for t in undone]}")
        for task in undone:  # let the threads end
            self.task = task
            task.baton.release()
            self._finished.acquire()
        for thread in threads:
            thread.join()
        if self.failure is not None:
            raise self.failure

    def _live(self, task: Task, body: Callable[[], None]) -> None:
        task.baton.acquire()
        self.task = task
        try:
            if self.failure is None:
                body()
        except BaseException as error:  # noqa: BLE001 - `run` raises it
            self.failure = self.failure or error
        task.done = True
        following = None if self.failure else self._next()
        if following is None:
            self._finished.release()
        else:
            self._go_on(following)

    def _go_on(self, task: Task) -> None:
        self.task = task
        task.baton.release()

    def _next(self) -> Task | None:
        while self._heap and self.failure is None:
            self.events += 1
            if self.events > MOST_EVENTS:
                self.failure = StuckError("too many events")
                return None
            self.now, _, action = heapq.heappop(self._heap)
            try:
                task = action()
            except Exception as error:  # noqa: BLE001 - `run` raises it
                self.failure = self.failure or error
                return None
            if task is not None:
                return task
        return None


def simulated_time(world: World) -> SimpleNamespace:
    """Return what a module sees as ``time``."""
    return SimpleNamespace(
        monotonic=lambda: world.now / SECOND,
        time_ns=lambda: EPOCH + world.now + world.current.process.skew,
        sleep=world.sleep,
        perf_counter=lambda: world.now / SECOND,
    )


def simulated_threading(world: World) -> SimpleNamespace:
    """Return what a module sees as ``threading``."""
    return SimpleNamespace(
        Lock=lambda: Lock(world),
        RLock=lambda: Lock(world, again=True),
        Event=lambda: Event(world),
        get_ident=_ident,
        Thread=_Thread,
    )


class Lock:
    """A lock whose waiters wait in simulated time."""

    def __init__(self, world: World, *, again: bool = False) -> None:
        self._world, self._again = world, again
        self._holder: object = None
        self._depth = 0
        self._waiters: list[Callable[[], Task | None]] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002
        """Take the lock as a `threading.Lock` is taken."""
        world, me = self._world, self._world.task
        deadline = world.now + int(timeout * SECOND)
        while self._holder is not None and not (self._again and self._holder is me):
            if not blocking or (timeout >= 0 and world.now >= deadline):
                return False
            wake = world.prepare()
            self._waiters.append(wake)
            if timeout >= 0:
                world.after((deadline - world.now) / SECOND, wake)
            world.wait()
        self._holder = me or self
        self._depth += 1
        return True

    def release(self) -> None:
        """Let go, and let all who wait try."""
        self._depth -= 1
        if not self._depth:
            self._holder = None
            for wake in self._waiters:
                self._world.after(0, wake)
            self._waiters.clear()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Event:
    """An event for which tasks wait in simulated time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_set = False
        self._waiters: list[Callable[[], Task | None]] = []

    def set(self) -> None:
        """Let all who wait go on."""
        self._is_set = True
        for wake in self._waiters:
            self._world.after(0, wake)

    def wait(self) -> bool:
        """Wait until the event is set."""
        while not self._is_set:
            self._waiters.append(self._world.prepare())
            self._world.wait()
        return True
