"""Storages around any `Storage`: one dies at a chosen operation, one counts, one calls back.

Faults are injected here, at the seam that the library itself writes through, before the storage
acts, half way through its act, or after it: a lost request is not a lost response.
"""

from __future__ import annotations

import abc
import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, BinaryIO, NamedTuple

from jammi_files.local import LocalStorage
from jammi_files.storage import ObjectExistsError, ObjectInfo, ObjectWriter, Storage

CHANGING = frozenset({"create", "replace", "writer", "write", "publish", "abort", "delete", "lock"})
"""The kinds of operation that can change what a root holds; the first lock makes its file."""


TORN_APART = frozenset({"create", "replace", "write", "publish"})
"""Those of them that a crash can cut in two."""


class WrappedStorage(Storage):
    """Passes everything on; a subclass says in `_operation` what happens around it."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.root = inner.root
        self.store, self.is_locked = inner.store, inner.is_locked

    @abc.abstractmethod
    def _operation(
        self, kind: str, key: str, data: bytes = b""
    ) -> contextlib.AbstractContextManager[None]:
        """Enclose one operation."""

    def read(self, key: str) -> bytes:
        with self._operation("read", key):
            return self.inner.read(key)

    def peek(self, key: str) -> bytes | None:
        with self._operation("peek", key):
            return self.inner.peek(key)

    def size(self, key: str) -> int | None:
        with self._operation("size", key):
            return self.inner.size(key)

    def open(self, key: str) -> BinaryIO:
        with self._operation("open", key):
            return self.inner.open(key)

    def create(self, key: str, data: bytes) -> None:
        with self._operation("create", key, data):
            self.inner.create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        with self._operation("replace", key, data):
            self.inner.replace(key, data)

    def retire(self, key: str) -> None:
        with self._operation("replace", key):
            self.inner.retire(key)

    def writer(self, key: str) -> ObjectWriter:
        with self._operation("writer", key):
            return WrappedWriter(self, key, self.inner.writer(key))

    def list(self, prefix: str) -> list[str]:
        with self._operation("list", prefix):
            return self.inner.list(prefix)

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        with self._operation("list_objects", prefix):
            return self.inner.list_objects(prefix)

    def delete(self, key: str) -> bool:
        with self._operation("delete", key):
            return self.inner.delete(key)

    def settle(self, key: str) -> None:
        with self._operation("settle", key):
            self.inner.settle(key)

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        # A dead process keeps no lock: the system lets go of it, so the stack always does.
        with contextlib.ExitStack() as held:
            with self._operation("lock", ""):
                was_abandoned = held.enter_context(self.inner.lock())
            yield was_abandoned

    def url(self, key: str) -> str:
        return self.inner.url(key)

    def arrow_path(self, key: str) -> tuple[str, Any]:
        return self.inner.arrow_path(key)


class WrappedWriter(ObjectWriter):
    """An object on its way, each step an operation of its storage."""

    def __init__(self, storage: WrappedStorage, key: str, inner: ObjectWriter) -> None:
        self.storage, self.key, self.inner = storage, key, inner

    def write(self, data: bytes) -> int:
        with self.storage._operation("write", self.key, data):
            return self.inner.write(data)

    def publish(self) -> None:
        with self.storage._operation("publish", self.key):
            self.inner.publish()

    def abort(self) -> None:
        with self.storage._operation("abort", self.key):
            self.inner.abort()


class Crash(BaseException):
    """The process is dead from here on."""


class When(StrEnum):
    """Where in one storage operation the process dies."""

    BEFORE = "before"
    TORN = "torn"
    LINKED = "linked"
    AFTER = "after"


class CrashingStorage(WrappedStorage):
    """Dies at changing operation number ``at``, from 0, and does nothing any more after that.

    What only reads leaves nothing behind, so dying there is dying before the next change.
    `When.TORN` leaves a temporary file with half of the bytes, `When.LINKED` the finished object
    and its temporary file beside it; both are states of a local directory only, elsewhere and for
    operations without bytes they are the same as `When.BEFORE`. ``done`` counts the finished
    changes, ``partial`` says that one was cut off half way: two crashes of one call that agree in
    both left the same behind.
    """

    def __init__(self, inner: Storage, at: int, when: When) -> None:
        super().__init__(inner)
        self._at, self._when = at, when
        self._open: list[WrappedWriter] = []
        self.done = 0
        self.partial = False
        self.dead = False

    @contextlib.contextmanager
    def _operation(self, kind: str, key: str, data: bytes = b"") -> Iterator[None]:
        if self.dead:
            raise Crash
        if kind not in CHANGING:
            yield
            return
        now = self.done == self._at
        if now and self._when is not When.AFTER:
            if self._when is not When.BEFORE:
                self._do_half(kind, key, data)
            self._die()
        try:
            yield
        finally:
            self.done += 1
            if now:
                self._die()

    def writer(self, key: str) -> ObjectWriter:
        out = super().writer(key)
        assert isinstance(out, WrappedWriter)
        self._open.append(out)
        return out

    def _do_half(self, kind: str, key: str, data: bytes) -> None:
        if not isinstance(self.inner, LocalStorage):
            return
        self.partial = kind in TORN_APART
        linked = self._when is When.LINKED
        if kind == "create" or (kind == "replace" and not linked):
            out = self.inner.writer(key)
            out.write(data if linked else data[: len(data) // 2])
            _cut_off(out, flush=True, link=linked)
        elif kind == "write" and not linked:
            out = self._writer_of(key)
            out.write(data[: len(data) // 2])
            _cut_off(out, flush=True)
        elif kind == "publish":
            _cut_off(self._writer_of(key), flush=True, link=linked)

    def _writer_of(self, key: str) -> ObjectWriter:
        return next(out.inner for out in reversed(self._open) if out.key == key)

    def _die(self) -> None:
        self.dead = True
        for out in self._open:
            _cut_off(out.inner)
        raise Crash


def _cut_off(out: ObjectWriter, *, flush: bool = False, link: bool = False) -> None:
    """Close a local writer's file as the system does for a dead process: nothing is cleaned up."""
    file = getattr(out, "_file", None)
    if file is None:
        return
    if flush and not file.closed:
        file.flush()
    if link:
        out._link()  # type: ignore[attr-defined]  # step 3 of `_LocalWriter.publish`
    file.raw.close()


class Operation(NamedTuple):
    """One call that a `CountingStorage` has passed on; ``size`` counts the bytes moved."""

    kind: str
    key: str
    size: int


class Calls(list[Operation]):
    """The operations of one block, in order."""

    @property
    def kinds(self) -> Counter[str]:
        """How many operations of each kind there were."""
        return Counter(call.kind for call in self)

    def keys(self, kind: str) -> list[str]:
        """Return the keys that the operations of one kind named, in order."""
        return [call.key for call in self if call.kind == kind]

    @property
    def of_results(self) -> list[tuple[str, str]]:
        """Kind and key of what was asked about results, not about the catalog's own objects."""
        return [(call.kind, call.key) for call in self if not call.key.startswith("_catalog/")]

    @property
    def looks(self) -> int:
        """How many operations asked the catalog's own objects, as a look for a new version does."""
        return len(self) - len(self.of_results)

    def size(self, *kinds: str) -> int:
        """Return the bytes that operations of these kinds moved."""
        return sum(call.size for call in self if call.kind in kinds)


class CountingStorage(WrappedStorage):
    """Records every operation with its key and bytes; `counting` looks at one block of them.

    What is read through ``open`` counts as operations ``pread`` of the opened key.
    """

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.calls = Calls()

    @contextlib.contextmanager
    def counting(self) -> Iterator[Calls]:
        """Yield the list that fills with the operations of the block."""
        start, seen = len(self.calls), Calls()
        yield seen
        seen += self.calls[start:]

    @contextlib.contextmanager
    def _operation(self, kind: str, key: str, data: bytes = b"") -> Iterator[None]:
        self.calls.append(Operation(kind, key, len(data)))
        yield

    def read(self, key: str) -> bytes:
        data = b""
        try:
            data = self.inner.read(key)
        finally:
            self.calls.append(Operation("read", key, len(data)))
        return data

    def peek(self, key: str) -> bytes | None:
        data = self.inner.peek(key)
        self.calls.append(Operation("peek", key, len(data or b"")))
        return data

    def open(self, key: str) -> BinaryIO:
        file = super().open(key)
        note = lambda size: self.calls.append(Operation("pread", key, size))  # noqa: E731
        return _CountedFile(file, note)  # type: ignore[return-value]  # all that is asked of it


class _CountedFile(io.RawIOBase):
    def __init__(self, file: BinaryIO, note: Callable[[int], None]) -> None:
        self._file, self._note = file, note

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._note(len(data))
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


Hook = Callable[[str, str, str], None]
"""Called with "before" or "after", the kind of operation and its key."""


class HookedStorage(WrappedStorage):
    """Calls back around every operation, on the thread that makes it: to pause, act or raise."""

    def __init__(self, inner: Storage, hook: Hook) -> None:
        super().__init__(inner)
        self.hook = hook

    @contextlib.contextmanager
    def _operation(self, kind: str, key: str, data: bytes = b"") -> Iterator[None]:  # noqa: ARG002
        self.hook("before", kind, key)
        yield
        self.hook("after", kind, key)


class UnlockedStorage(HookedStorage):
    """A storage without a writers' lock, as object stores are."""

    def __init__(self, inner: Storage, hook: Hook) -> None:
        super().__init__(inner, hook)
        self.is_locked = False

    def create(self, key: str, data: bytes) -> None:
        try:
            super().create(key, data)
        except FileExistsError:
            raise ObjectExistsError(self.inner.url(key), self.inner.read(key)) from None

    def lock(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()
