"""A bucket as storage: S3, Google Cloud Storage and Azure through their fsspec backends.

``create`` is a conditional put: the store refuses a key that exists. An answer can be lost and a
client sends a request again without being asked, so a refused or unanswered create is read back:
the same bytes are this create's own (FORMAT section "Create on an object store").

One fsspec instance serves one process: a forked child makes its own, as sockets and event loops do
not survive the fork.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar

from pyarrow.fs import PyFileSystem

from jammi_files.dialects import Dialect, Entry
from jammi_files.errors import StorageError
from jammi_files.outcomes import Outcome, answer_of, classify, is_denied, is_without_bucket
from jammi_files.ranges import RangeFiles, open_ranges
from jammi_files.storage import (
    AmbiguousError,
    ObjectExistsError,
    ObjectInfo,
    ObjectWriter,
    Storage,
    ThreadLock,
    finished_writer,
    require_key,
)

T = TypeVar("T")

PART_BYTES = 16 * 2**20
"""The size of one part of a large object; whatever is smaller is one request."""

MAX_ATTEMPTS = 8
MAX_SECONDS = 60.0
_LONGEST_PAUSE = 8.0


class ObjectStorage(Storage):
    """A bucket, or a prefix of one. ``options`` go to the fsspec backend as they are."""

    def __init__(self, root: str, dialect: Dialect, options: Mapping[str, Any]) -> None:
        self.root = root.rstrip("/")
        self._dialect = dialect
        self._options = dialect.options_for(self.root, options)
        self._base = dialect.base_of(self.root)
        self.store = dialect.identity_of(self._base, self._options)
        self.is_locked = False
        self.forget()
        _STORAGES.add(self)

    def __reduce__(self) -> tuple[type[ObjectStorage], tuple[str, Dialect, dict[str, Any]]]:
        return type(self), (self.root, self._dialect, self._options)

    def forget(self) -> None:
        """Let go, in a forked child, of what belongs to the parent."""
        self._fs: Any = None
        self._connecting = threading.Lock()
        self._writers = ThreadLock(self.root)

    @property
    def fs(self) -> Any:  # noqa: ANN401 - fsspec has no types
        """The fsspec file system, of this process alone."""
        if self._fs is None:
            with self._connecting:
                if self._fs is None:
                    self._fs = self._dialect.connect(self._options)
        return self._fs

    def read(self, key: str) -> bytes:
        path = self._path(key)
        return self._ask("read", key, lambda: self._dialect.read(self.fs, path))

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` up to ``end`` of an object that is known to have them."""
        path = self._path(key)

        def send() -> bytes:
            data = bytes(self.fs.cat_file(path, start=start, end=end))
            if len(data) != end - start:
                raise EOFError(f"{len(data)} bytes came where {end - start} are")
            return data

        return self._ask("read", key, send)

    def size(self, key: str) -> int | None:
        path = self._path(key)
        try:
            return self._ask("look at", key, lambda: self._dialect.size(self.fs, path))
        except FileNotFoundError:
            return None

    def open(self, key: str) -> BinaryIO:
        size = self.size(key)
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", self.url(key))
        return open_ranges(lambda start, end: self.read_range(key, start, end), size)

    def create(self, key: str, data: bytes) -> None:
        path = self._path(key)
        if not data:
            msg = f"'{self.url(key)}' would be empty, and stores do not create that exclusively"
            raise StorageError(msg)
        patience = _Patience()
        maybe_done = False
        while True:
            try:
                with patience.observing():
                    self.fs.pipe_file(path, data, mode="create")
            except Exception as error:  # noqa: BLE001 - backends raise whatever they like
                failure, outcome = error, classify(error)
            else:
                return
            if outcome in (Outcome.REFUSED, Outcome.MISSING) and not maybe_done:
                raise self._refused("create", key, failure) from failure
            maybe_done = maybe_done or outcome is Outcome.UNKNOWN
            found = None if outcome is Outcome.BUSY else self._found(key)
            if found == data:
                return
            if found is not None:
                raise ObjectExistsError(self.url(key), found)
            if not patience.wait():
                break
        if maybe_done:
            msg = f"whether '{self.url(key)}' was created is not known: {_words(failure)}"
            raise AmbiguousError(msg) from failure
        raise self._refused("create", key, failure) from failure

    def replace(self, key: str, data: bytes) -> None:
        path = self._path(key)
        self._ask("write", key, lambda: self._dialect.replace(self.fs, path, data))

    def writer(self, key: str) -> ObjectWriter:
        return _PartsWriter(self, key)

    def _entries(self, prefix: str) -> list[tuple[str, Entry]]:
        """Return the names directly under a prefix, each with what the store says of it."""
        bucket, key, _ = self._dialect.split(self._path(prefix))
        start = f"{key}/" if key else ""
        send = lambda: tuple(self._dialect.list(self.fs, bucket, start))  # noqa: E731
        try:
            found = self._ask("list", prefix, send)
        except FileNotFoundError as error:
            raise self._refused("list", prefix, error) from error
        named = [(entry.key[len(start) :].rstrip("/"), entry) for entry in found]
        return [(name, entry) for name, entry in named if name]

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        return sorted(
            ObjectInfo(name, entry.size, entry.modified)
            for name, entry in self._entries(prefix)
            if entry.modified is not None
        )

    def list(self, prefix: str) -> list[str]:
        return sorted({name for name, _ in self._entries(prefix)})

    def delete(self, key: str) -> bool:
        path = self._path(key)
        if not self._dialect.delete_tells and self.size(key) is None:
            return False
        try:
            self._ask("delete", key, lambda: self.fs.rm_file(path))
        except FileNotFoundError:
            return False
        return True

    def lock(self) -> contextlib.AbstractContextManager[None]:
        return self._writers.held()

    def url(self, key: str) -> str:
        return f"{self.root}/{key}"

    def arrow_path(self, key: str) -> tuple[str, Any]:
        return self._path(key), PyFileSystem(RangeFiles(self, self._base))

    def sign(self, key: str, seconds: int) -> str:
        path = self._path(key)
        return str(self._ask("sign", key, lambda: self.fs.sign(path, expiration=seconds)))

    def _path(self, key: str) -> str:
        return f"{self._base}/{require_key(key)}" if key else self._base

    def _found(self, key: str) -> bytes | None:
        """Return what is there after a create failed, None if nothing can be read."""
        try:
            return self.read(key)
        except (FileNotFoundError, StorageError):
            return None

    def _ask(self, action: str, key: str, send: Callable[[], T]) -> T:
        """Send a request that may be sent twice, until it is answered."""
        patience = _Patience()
        while True:
            try:
                with patience.observing():
                    return send()
            except Exception as error:  # noqa: BLE001 - backends raise whatever they like
                failure, outcome = error, classify(error)
            if outcome is Outcome.MISSING:
                message = "no such object"
                raise FileNotFoundError(errno.ENOENT, message, self.url(key)) from failure
            if outcome is Outcome.REFUSED or not patience.wait():
                raise self._refused(action, key, failure) from failure

    def _refused(self, action: str, key: str, failure: BaseException) -> StorageError:
        where = self.url(key)
        if is_without_bucket(failure) or classify(failure) is Outcome.MISSING:
            return StorageError(
                f"could not {action} '{where}': the bucket does not exist; create it first"
            )
        if is_denied(failure):
            return StorageError(
                f"could not {action} '{where}': the store denied it ({_words(failure)}); "
                f"{self._dialect.permissions}"
            )
        return StorageError(f"could not {action} '{where}': {_words(failure)}")


class _PartsWriter(ObjectWriter):
    """Bytes for one new object: sent as they come when they are many, in one request when few.

    The store shows the object when its parts are confirmed. The condition goes with that last
    request. As Ceph ignores it there, the key is looked at right before.
    """

    def __init__(self, storage: ObjectStorage, key: str) -> None:
        self._storage, self._key = storage, key
        storage._path(key)  # noqa: SLF001 - refuse a bad key before anything is sent
        self._buffer: io.BytesIO | None = io.BytesIO()
        self._parts: Any = None
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        if self._buffer is None:
            raise finished_writer(self._storage.url(self._key))
        if self._parts is None and self._buffer.tell() + len(data) > PART_BYTES:
            self._open()
        if self._parts is None:
            return self._buffer.write(data)
        self._send(data)
        return len(data)

    def publish(self) -> None:
        if self._buffer is None:
            return
        try:
            if self._parts is None:
                self._storage.create(self._key, self._buffer.getvalue())
            else:
                self._confirm()
        finally:
            self.abort()

    def abort(self) -> None:
        self._buffer = None
        if self._parts is not None:
            parts, self._parts = self._parts, None
            with contextlib.suppress(Exception), _usable(parts):
                parts.discard()  # not on Azure, which forgets unconfirmed parts in a week

    def _open(self) -> None:
        path = self._storage._path(self._key)  # noqa: SLF001 - one class in two parts
        fs = self._storage.fs
        self._parts = fs.open(path, "xb", block_size=PART_BYTES)
        self._parts.closed = True
        assert self._buffer is not None  # noqa: S101 - `write` has checked
        self._send(self._buffer.getvalue())
        self._buffer = io.BytesIO()

    def _send(self, data: bytes) -> None:
        self._digest.update(data)
        try:
            with _usable(self._parts):
                self._parts.write(data)
        except Exception as error:
            raise self._failed("write", error) from error

    def _confirm(self) -> None:
        if self._storage.size(self._key) is not None:
            raise self._taken()
        try:
            with _usable(self._parts):
                self._parts.close()
        except Exception as error:
            if not self._is_there():  # not only the answer was lost
                raise self._failed("create", error) from error
        self._parts = None

    def _failed(self, action: str, error: Exception) -> OSError:
        """Word a failure; some stores say with the first part already that the key is taken."""
        if classify(error) is Outcome.TAKEN:
            return self._taken()
        return self._storage._refused(action, self._key, error)  # noqa: SLF001

    def _taken(self) -> FileExistsError:
        return FileExistsError(errno.EEXIST, "exists", self._storage.url(self._key))

    def _is_there(self) -> bool:
        try:
            with self._storage.open(self._key) as file:
                found = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        except (FileNotFoundError, StorageError):
            return False
        return found == self._digest.digest()


@contextlib.contextmanager
def _usable(parts: Any) -> Iterator[None]:  # noqa: ANN401 - fsspec has no types
    """Let a file be open for one call only: else its finaliser would confirm what was written."""
    parts.closed = False
    try:
        yield
    finally:
        parts.closed = True


class _Patience:
    """How long to go on: full jitter, doubling from the latency seen, bounded in time and tries."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + MAX_SECONDS
        self._attempt = 0
        self._latency = 0.01

    @contextlib.contextmanager
    def observing(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._latency = min(1.0, max(self._latency, time.monotonic() - started))

    def wait(self) -> bool:
        """Pause before the next try; False when there is none."""
        self._attempt += 1
        if self._attempt >= MAX_ATTEMPTS or time.monotonic() > self._deadline:
            return False
        longest = min(_LONGEST_PAUSE, self._latency * 2**self._attempt)
        time.sleep(random.uniform(0, longest))  # noqa: S311 - jitter, not a secret
        return True


def _words(error: BaseException) -> str:
    """Return an error in one line: an empty message says its class, a cause says more."""
    text = " ".join(str(error).split()) or type(error).__name__
    answer = answer_of(error)
    return (
        f"{text} (HTTP {answer.status} {answer.code})".replace(" )", ")") if answer.status else text
    )


_STORAGES: weakref.WeakSet[ObjectStorage] = weakref.WeakSet()


def _forget_connections() -> None:
    for storage in _STORAGES:
        storage.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)
