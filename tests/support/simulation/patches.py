"""Everything that the library takes from the machine, taken from the simulated world instead."""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pyarrow as pa
from support.simulation.plan import Plan
from support.simulation.world import World, simulated_threading, simulated_time

from jammi_files import draft, lease, manifest, materialization, timestamps


class InlineExecutor(Executor):
    """Does at once what it is given: one order, the same every time."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], /, *args: Any, **also: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **also))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)
        return future


@contextlib.contextmanager
def simulated(world: World, plan: Plan) -> Iterator[None]:
    """Let the library live in ``world``."""
    replaced = [
        *_machine(world),
        *((manifest, name, value) for name, value in plan.knobs),
        *_identity(world),
        *_without_locks(),
        (manifest, "decode_segment", functools.cache(manifest.decode_segment)),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_one_thread_in_arrow())
        for where, name, value in replaced:
            stack.enter_context(mock.patch.object(where, name, value))
        yield


@contextlib.contextmanager
def _one_thread_in_arrow() -> Iterator[None]:
    """Keep Arrow from handing tiny tables to threads, which costs more than it saves."""
    before = pa.cpu_count()
    pa.set_cpu_count(1)
    try:
        yield
    finally:
        pa.set_cpu_count(before)


def _without_locks() -> Iterator[tuple[Any, str, Any]]:
    """Find the real lock that Python 3.11 has in each `functools.cached_property`.

    It serves all instances, also those of other processes here, and waiting for it would be a wait
    that the world knows nothing of. Later Pythons have none.
    """
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("jammi_files."):
            for kind in vars(module).values():
                if isinstance(kind, type) and kind.__module__ == module_name:
                    for value in vars(kind).values():
                        if isinstance(value, functools.cached_property) and hasattr(value, "lock"):
                            yield value, "lock", contextlib.nullcontext()


def _machine(world: World) -> Iterator[tuple[Any, str, Any]]:
    """Find clocks, threads and chance wherever the library has imported them."""
    stands_for = {
        "time": (time, simulated_time(world)),
        "threading": (threading, simulated_threading(world)),
        "random": (random, _Chance(world)),
        "ThreadPoolExecutor": (ThreadPoolExecutor, InlineExecutor),
    }
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("jammi_files."):
            for name, (real, simulated_one) in stands_for.items():
                if getattr(module, name, None) is real:
                    yield module, name, simulated_one


def _identity(world: World) -> list[tuple[Any, str, Any]]:
    """Return what tells one process from another."""

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=world.current.chance.getrandbits(128), version=4)

    def now(_: timestamps.Clock) -> int:
        life = world.current.life
        life.last_instant = max(simulated_time(world).time_ns(), life.last_instant + 1)
        return life.last_instant

    def process_start(pid: int) -> str:
        for task in world.tasks:
            if task.process.life.pid == pid and task.process.life.alive:
                return str(pid)
        return ""

    own = lambda: world.current.life.name  # noqa: E731
    return [
        (uuid, "uuid4", uuid4),
        (timestamps.Clock, "now", now),
        (materialization, "producer_id", own),
        (lease, "producer_id", own),
        (lease, "os", SimpleNamespace(getpid=lambda: world.current.life.pid)),
        (lease, "_host", lambda _: f"host{world.current.process.host}"),
        (lease, "_own_start", str),
        (lease, "_process_start", process_start),
        (lease, "_written", _Written(world)),
        (draft, "_writer", lambda: f"host{world.current.process.host}:{own()}"),
    ]


class _Chance:
    """The module ``random``, drawing for the running task."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.current.chance, name)


class _Written:
    """`lease._written` of the process that asks."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _own(self) -> dict[Any, Any]:
        return self._world.current.life.written

    def __setitem__(self, key: Any, value: Any) -> None:
        self._own()[key] = value

    def __contains__(self, key: Any) -> bool:
        return key in self._own()

    def get(self, key: Any) -> Any:
        return self._own().get(key)

    def pop(self, key: Any, default: Any) -> Any:
        return self._own().pop(key, default)
