"""Threads that a hung test leaves behind without hanging the run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def begin(function: Callable[..., Any], *given: Any, **named: Any) -> Future[Any]:
    """Run a function on a thread of its own, which does not keep the interpreter alive."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*given, **named))
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
