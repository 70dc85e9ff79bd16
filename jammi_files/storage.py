"""What the catalog asks of a root: read, create exclusively, replace, list, delete, by key.

A key is a relative path with ``/``. Everything above speaks only this interface; `local` and
`memory` implement it, and only they import fsspec and filelock. What is required of a storage
stands in FORMAT.md: ``create`` has exactly one winner and never shows a part of its bytes;
``replace`` shows the old bytes or the new; ``read`` sees every finished write.

Two built-in errors are part of the interface: `FileNotFoundError` from ``read`` and ``open``,
`FileExistsError` from ``create``. Whatever else the system refuses is a `StorageError`; of a create
whose outcome could not be learnt it is an `AmbiguousError`.
"""

from __future__ import annotations

import abc
import contextlib
import datetime as dt
import errno
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO, Literal, NamedTuple, Self

from jammi_files.errors import ConflictError, InvalidInputError, StateError, StorageError

Durability = Literal["fsync", "os"]

TEMP_SUFFIX = ".tmp"
LOCK_TIMEOUT = 60.0
"""Seconds that a writer waits for the lock before it gives up with `ConflictError`."""

READERS = 16
"""How many objects `Storage.read_many` asks for at a time."""


class AmbiguousError(StorageError):
    """A create that may have been done, or may be done yet: nothing may be cleaned up after it."""


class NoFileError(StorageError):
    """What lies at a key of a local root is a pipe, a socket or a device: nobody reads it."""


class ObjectExistsError(FileExistsError):
    """The key of a create is taken by ``found``, the other writer's bytes."""

    def __init__(self, where: str, found: bytes) -> None:
        super().__init__(errno.EEXIST, "exists", where)
        self.found = found


class ObjectInfo(NamedTuple):
    """One object as a listing shows it."""

    name: str
    size: int
    """Bytes."""
    modified: dt.datetime
    """When the object was written, by the clock of the storage, not of this machine; UTC."""


class ObjectWriter(abc.ABC):
    """Bytes on their way to one new key: nothing is visible before `publish`."""

    @abc.abstractmethod
    def write(self, data: bytes) -> int:
        """Append ``data``."""

    @abc.abstractmethod
    def publish(self) -> None:
        """Make the object durable and visible under its key, whole and exclusively.

        Raises:
            FileExistsError: the key exists; the bytes written here are discarded.
        """

    @abc.abstractmethod
    def abort(self) -> None:
        """Discard what was written; does nothing after `publish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self.publish()
        else:
            self.abort()


class Storage(abc.ABC):
    """One root. Instances are safe to share between threads."""

    root: str
    store: str | None = None
    """What the exclusive create has to be proved for once before anything is written there: an
    endpoint and bucket. None where it holds by construction."""
    is_locked: bool = True
    """Whether `lock` keeps every other writer out, or only those of this process."""

    @abc.abstractmethod
    def read(self, key: str) -> bytes:
        """Return the whole object; `FileNotFoundError` if there is none.

        On a disk one that is too large for its kind is a `FormatError` before it is read.
        """

    def peek(self, key: str) -> bytes | None:
        """Return the whole object, None if there is none: one request either way."""
        try:
            return self.read(key)
        except FileNotFoundError:
            return None

    def read_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return whole objects in the order of ``keys``, read side by side where that helps."""
        if len(keys) < 2 or self.is_locked:
            return [self.read(key) for key in keys]
        with ThreadPoolExecutor(min(READERS, len(keys))) as pool:
            return list(pool.map(self.read, keys))

    @abc.abstractmethod
    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, None if it does not exist: one stat."""

    @abc.abstractmethod
    def open(self, key: str) -> BinaryIO:
        """Open the object for random access; `FileNotFoundError` if there is none."""

    @abc.abstractmethod
    def create(self, key: str, data: bytes) -> None:
        """Create the object, whole and durable; `FileExistsError` if the key is taken."""

    @abc.abstractmethod
    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object atomically."""

    def retire(self, key: str) -> None:
        """Give up an object's bytes and keep its key taken: it reads as empty from now on.

        Where the answer to a create can be lost, the bytes are remembered by their digest, so that
        whoever made them still learns that it did (FORMAT section "Create on an object store").
        """
        self.replace(key, b"")

    @abc.abstractmethod
    def writer(self, key: str) -> ObjectWriter:
        """Begin a new object of any size."""

    @abc.abstractmethod
    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects directly under ``prefix``, by name, without directories."""

    @abc.abstractmethod
    def list(self, prefix: str) -> list[str]:
        """Return the sorted names directly under ``prefix`` (``""`` = the root); [] if none."""

    @abc.abstractmethod
    def delete(self, key: str) -> bool:
        """Remove the object; False if there was none."""

    def settle(self, key: str) -> None:  # noqa: B027 - most storages have nothing to do
        """Make durable that an object is there, or is gone, whoever did that.

        ``key`` may be a prefix: then so is made what lies directly under it, except for its bytes.
        On a disk, what another process did is seen before it is durable, and that process may die
        over it; what is built on it must not outlive it. Elsewhere there is nothing to do.
        """

    @abc.abstractmethod
    def lock(self) -> contextlib.AbstractContextManager[bool]:
        """Hold the root's writer lock, where the storage has one.

        The lock gives throughput and fairness; exclusivity rests on `create` alone. It yields True
        if its last holder died over it: then what is there may not be durable yet (`settle`).

        Raises:
            ConflictError: other writers held it for `LOCK_TIMEOUT` seconds.
            StateError: this thread holds it already, inside ``catalog.transaction()``.
        """

    @abc.abstractmethod
    def url(self, key: str) -> str:
        """Return where a reader outside this library finds the object."""

    @abc.abstractmethod
    def arrow_path(self, key: str) -> tuple[str, Any]:
        """Return the object's path and file system (None = local) for `pyarrow.dataset`."""

    def sign(self, key: str, seconds: int) -> str:
        """Return a URL that lets anybody read the object for a while, without credentials.

        Raises:
            StorageError: this storage has no such URLs.
        """
        msg = f"'{self.url(key)}' cannot be signed for {seconds} s: only objects of a bucket can"
        raise StorageError(msg)

    def distrust(self, key: str) -> bool:  # noqa: ARG002 - a storage with copies needs it
        """Drop the copy of an object that turned out to be damaged; False if there was none.

        After True it may help to read the object again.
        """
        return False

    def uncached(self) -> Storage:
        """Return the storage that keeps no copies: what fsck has to judge."""
        return self

    def relative(self, location: str) -> str:
        """Return the key of a location under this root, any other location as it is (`B055`)."""
        prefix = self.url("")
        text = location.removeprefix("file://")
        return text[len(prefix) :] if text.startswith(prefix) and text != prefix else location


class ThreadLock:
    """The writers' lock of a storage that one process has, or that needs none between processes."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._holder: int | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock; answer and errors as of `Storage.lock`."""
        if self._holder == threading.get_ident():
            raise nested_use()
        if not self._lock.acquire(timeout=LOCK_TIMEOUT):
            msg = (
                f"other threads wrote to '{self._root}' for {LOCK_TIMEOUT:g} s; nothing was changed"
            )
            raise ConflictError(msg)
        self._holder = threading.get_ident()
        try:
            yield False
        finally:
            self._holder = None
            self._lock.release()


def require_key(key: str) -> str:
    """Return ``key`` if it stays under the root; every backend asks before it touches anything."""
    if key.startswith("/") or "\0" in key or ".." in key.split("/"):
        msg = f"key {key!r} leaves the root"
        raise InvalidInputError(msg)
    return key


def require_plain_key(key: str) -> str:
    """Return ``key`` if no other key names its object; asked before one is written or deleted.

    On a disk ``a//b`` and ``./a/b`` are ``a/b``, and whoever compares keys takes them for others.
    """
    if not {"", "."}.isdisjoint(require_key(key).split("/")):
        msg = f"key {key!r} has an empty part or '.'; nothing is written or deleted under it"
        raise InvalidInputError(msg)
    return key


def nested_use() -> StateError:
    """Word the error of a thread that asks for a lock which it already holds."""
    return StateError("this thread is inside catalog.transaction(); use the transaction's methods")


def finished_writer(where: str) -> StateError:
    """Word the error of a write after `ObjectWriter.publish` or `ObjectWriter.abort`."""
    return StateError(f"'{where}' is finished; open a new writer")
