"""A storage with a clock of its own, which stands still until the test moves it on."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator

from support.faults import WrappedStorage

from jammi_files.storage import ObjectInfo, Storage

DAY = 86_400


class ClockedStorage(WrappedStorage):
    """Says of every object that it was written when its own clock showed ``now``.

    The clock begins in 2001: what a test's machine thinks of the time must not matter.
    """

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.now = dt.datetime(2001, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
        self.written: dict[str, dt.datetime] = {}

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += dt.timedelta(seconds=seconds)

    @contextlib.contextmanager
    def _operation(self, kind: str, key: str, data: bytes = b"") -> Iterator[None]:  # noqa: ARG002
        yield
        if kind in ("create", "replace", "publish"):
            self.written[key] = self.now

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        place = f"{prefix}/" if prefix else ""
        return [
            info._replace(modified=self.written.get(f"{place}{info.name}", self.now))
            for info in self.inner.list_objects(prefix)
        ]
