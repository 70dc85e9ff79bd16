"""Spans of OpenTelemetry around what takes time, in a process that uses OpenTelemetry.

The API package is taken where the process has imported it already, and never imported for this:
spans go nowhere before a program has chosen a provider, and it needs the package for that. So
whoever has not installed it, or does not use it, pays one look into a dictionary for a span.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_API = "opentelemetry.trace"
_PREFIX = "jammi_files."


class Span(Protocol):
    """A context manager around the work; an exception that leaves it is recorded."""

    def set(self, **attributes: str | float | None) -> None:
        """Add attributes, named ``jammi_files.<name>``; None adds nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Nothing:
    """The span of a process that does not use OpenTelemetry."""

    __slots__ = ()

    def set(self, **attributes: str | float | None) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Recorded:
    """A span of OpenTelemetry, the current one inside its block."""

    __slots__ = ("_block", "_span")

    def __init__(self, block: Any) -> None:  # noqa: ANN401 - a class of the package
        self._block = block
        self._span: Any = None

    def set(self, **attributes: str | float | None) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(_PREFIX + name, value)

    def __enter__(self) -> Self:
        self._span = self._block.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, trace)


_NOTHING = _Nothing()


def is_used() -> bool:
    """Say whether this process has imported OpenTelemetry."""
    return _API in sys.modules


def span(name: str, **attributes: str | float | None) -> Span:
    """Return the span ``jammi_files.<name>``, to be entered by ``with``."""
    if _API not in sys.modules:
        return _NOTHING
    known = {_PREFIX + key: value for key, value in attributes.items() if value is not None}
    return _Recorded(_tracer().start_as_current_span(_PREFIX + name, attributes=known))


class Threads(ThreadPoolExecutor):
    """Threads whose spans lie inside the one in which the work was handed to them."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do as any executor."""
        if _API not in sys.modules:
            return super().submit(fn, *args, **kwargs)
        work = functools.partial(fn, *args, **kwargs)
        return super().submit(contextvars.copy_context().run, work)


@functools.cache
def _tracer() -> Any:  # noqa: ANN401 - a class of the package
    # Importing it waits for another thread that is in the middle of it.
    return importlib.import_module(_API).get_tracer("jammi_files", _version())


def _version() -> str | None:
    try:
        return metadata.version("jammi_files")
    except metadata.PackageNotFoundError:  # on the path, but not installed
        return None
