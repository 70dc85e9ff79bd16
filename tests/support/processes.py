"""Real processes that begin together, answer with a value, and never outlive their test."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import subprocess
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

LIMIT = 120.0
"""Seconds after which a process that has not answered fails the test."""


@contextlib.contextmanager
def running(command: Sequence[str], **how: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a program for a block, with its errors in a pipe."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, **how) as program:
        try:
            yield program
        finally:
            program.kill()


def run_together(
    worker: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, start: str = "spawn"
) -> list[Any]:
    """Run ``worker`` once per tuple, each in a process of its own; return their answers."""
    if start == "fork":
        gc.collect()  # connections that other tests left: a child would wait a second for each
    context = multiprocessing.get_context(start)
    barrier = context.Barrier(len(arguments))
    pipes = [context.Pipe(duplex=False) for _ in arguments]
    processes = [
        context.Process(target=_answer, args=(worker, given, barrier, sender), daemon=True)
        for given, (_, sender) in zip(arguments, pipes, strict=True)
    ]
    try:
        for process in processes:
            process.start()
        return [_receive(receiver) for receiver, _ in pipes]
    finally:
        for process, (receiver, sender) in zip(processes, pipes, strict=True):
            receiver.close()
            sender.close()
            process.join(LIMIT / 10)
            if process.exitcode is None:
                process.kill()
                process.join()


def _answer(
    worker: Callable[..., Any], given: tuple[Any, ...], barrier: Any, sender: Connection
) -> None:
    try:
        barrier.wait(LIMIT)
        sender.send((True, worker(*given)))
    except BaseException:  # noqa: BLE001 - the parent raises it again
        sender.send((False, traceback.format_exc()))


def _receive(receiver: Connection) -> Any:
    assert receiver.poll(LIMIT), "a process gave no answer in time"
    done, answer = receiver.recv()
    assert done, answer
    return answer
