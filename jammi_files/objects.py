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
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar

from pyarrow.fs import PyFileSystem

from jammi_files.dialects import Dialect, Entry
from jammi_files.errors import StorageError
from jammi_files.outcomes import Outcome, answer_of, classify, is_denied, is_without_bucket
from jammi_files.patience import Patience
from jammi_files.ranges import RangeFiles, open_ranges
from jammi_files.reconnecting import reconnect
from jammi_files.retired import mark_of, without_mark
from jammi_files.storage import (
    AmbiguousError,
    ObjectExistsError,
    ObjectInfo,
    ObjectWriter,
    Storage,
    ThreadLock,
    finished_writer,
    require_key,
    require_plain_key,
)
from jammi_files.store_options import secrets_of, without_secrets

T = TypeVar("T")

PART_BYTES = 16 * 2**20
"""The size of one part of a large object; whatever is smaller is one request."""

WHOLE_BYTES = 256 * 2**20
"""How large an object that is read whole may be before a slow line is taken for a dead one."""


class ObjectStorage(Storage):
    """A bucket, or a prefix of one. ``options`` go to the fsspec backend as they are."""

    def __init__(self, root: str, dialect: Dialect, options: Mapping[str, Any]) -> None:
        self.root = root.rstrip("/")
        self._dialect = dialect
        self._options = dialect.options_for(self.root, options)
        self._secrets = secrets_of(self._options)
        self._base = dialect.base_of(self.root)
        self.store = dialect.identity_of(self._base, self._options)
        self.is_locked = False
        self.forget()
        _STORAGES.add(self)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return reconnect, (type(self), self.root, self._dialect, self._options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.root}>"

    def forget(self) -> None:
        """Let go, in a forked child, of what belongs to the parent."""
        self._fs: Any = None
        self._is_reached = False
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
        return without_mark(self._read(key, WHOLE_BYTES))

    def peek(self, key: str) -> bytes | None:
        try:
            return without_mark(self._read(key))
        except FileNotFoundError:
            return None

    def _read(self, key: str, size: int = 0) -> bytes:
        """Return what lies there, be it the mark of a retired object."""
        path = self._path(key)
        return self._ask("read", key, lambda fs, s: self._dialect.read(fs, path, s), size=size)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` up to ``end`` of an object that is known to have them."""
        path = self._path(key)

        def send(fs: Any, within: float) -> bytes:  # noqa: ANN401
            data = bytes(fs.cat_file(path, start=start, end=end, timeout=within))
            if len(data) != end - start:
                raise EOFError(f"{len(data)} bytes came where {end - start} are")
            return data

        return self._ask("read", key, send, size=end - start)

    def size(self, key: str) -> int | None:
        path = self._path(key)
        try:
            return self._ask("look at", key, lambda fs, s: self._dialect.size(fs, path, s))
        except FileNotFoundError:
            return None

    def open(self, key: str) -> BinaryIO:
        size = self.size(key)
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", self.url(key))
        return open_ranges(lambda start, end: self.read_range(key, start, end), size)

    def create(self, key: str, data: bytes) -> None:
        path = self._path(require_plain_key(key))
        self._require_body(key, data)
        patience = Patience(is_reached=self._is_reached, size=len(data))
        maybe_done = False
        while True:
            try:
                with patience.observing():
                    self.fs.pipe_file(path, data, mode="create", timeout=patience.limit)
            except Exception as error:  # noqa: BLE001 - backends raise whatever they like
                failure, outcome = error, self._outcome(error)
            else:
                return
            # Taken, and nobody can read by whom: it may be this very request, sent again.
            maybe_done = maybe_done or outcome in (Outcome.UNKNOWN, Outcome.TAKEN)
            refused = outcome in (Outcome.REFUSED, Outcome.MISSING) and not maybe_done
            if outcome is Outcome.BUSY and patience.wait():
                continue
            # Also what was refused: the client may have sent it before, and lost that answer.
            found = self._found(key)
            if found in (data, mark_of(data)):  # it may have been retired since
                return
            if found and not refused:
                raise ObjectExistsError(self.url(key), without_mark(found))
            if found == b"":  # retired without a mark, as a copy does: nobody knows whose it was
                break
            if refused or outcome is Outcome.BUSY or not patience.wait():
                break
        if maybe_done:
            msg = f"whether '{self.url(key)}' was created is not known: {self._words(failure)}"
            raise AmbiguousError(msg) from failure
        raise self._refused("create", key, failure) from failure

    def replace(self, key: str, data: bytes) -> None:
        path = self._path(require_plain_key(key))
        send = lambda fs, s: self._dialect.replace(fs, path, data, s)  # noqa: E731
        self._ask("write", key, send, size=len(data))

    def retire(self, key: str) -> None:
        try:
            data = self._read(key)
        except FileNotFoundError:  # lost: without a mark, as nobody knows whose it was
            self.replace(key, b"")
        else:
            if without_mark(data):
                self.replace(key, mark_of(data))

    def writer(self, key: str) -> ObjectWriter:
        return _PartsWriter(self, key)

    def _entries(self, prefix: str) -> list[tuple[str, Entry]]:
        """Return the names directly under a prefix, each with what the store says of it."""
        bucket, key, _ = self._dialect.split(self._path(prefix))
        start = f"{key}/" if key else ""
        try:
            found = self._ask(
                "list", prefix, lambda fs, s: tuple(self._dialect.list(fs, bucket, start, s))
            )
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
        path = self._path(require_plain_key(key))
        if not self._dialect.delete_tells and self.size(key) is None:
            return False
        try:
            self._ask("delete", key, lambda fs, s: fs.rm_file(path, timeout=s))
        except FileNotFoundError:
            return False
        return True

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        return self._writers.held()

    def url(self, key: str) -> str:
        return f"{self.root}/{key}"

    def arrow_path(self, key: str) -> tuple[str, Any]:
        return self._path(key), PyFileSystem(RangeFiles(self, self._base))

    def sign(self, key: str, seconds: int) -> str:
        path = self._path(key)
        return str(self._ask("sign", key, lambda fs, _: fs.sign(path, expiration=seconds)))

    def _path(self, key: str) -> str:
        return f"{self._base}/{require_key(key)}" if key else self._base

    def _require_body(self, key: str, data: bytes) -> None:
        if not data:
            msg = f"'{self.url(key)}' would be empty, and stores do not create that exclusively"
            raise StorageError(msg)

    def _found(self, key: str) -> bytes | None:
        """Return what is there after a create failed, None if nothing can be read."""
        try:
            return self._read(key, WHOLE_BYTES)
        except (FileNotFoundError, StorageError):
            return None

    def _ask(self, action: str, key: str, send: Callable[[Any, float], T], *, size: int = 0) -> T:
        """Send a request that may be sent twice, until it is answered.

        ``send`` gets the file system and the seconds that it may take; ``size`` bytes may pass.
        """
        patience = Patience(is_reached=self._is_reached, size=size)
        while True:
            try:
                with patience.observing():
                    answer = send(self.fs, patience.limit)
            except Exception as error:  # noqa: BLE001 - backends raise whatever they like
                failure, outcome = error, self._outcome(error)
            else:
                self._is_reached = True
                return answer
            if outcome is Outcome.MISSING:
                message = "no such object"
                raise FileNotFoundError(errno.ENOENT, message, self.url(key)) from failure
            if outcome is Outcome.REFUSED or not patience.wait():
                raise self._refused(action, key, failure) from failure

    def _outcome(self, error: Exception) -> Outcome:
        """Classify an error, and note whether it is an answer of the store."""
        outcome = classify(error)
        if outcome is not Outcome.UNKNOWN or answer_of(error).status:
            self._is_reached = True
        return outcome

    def _refused(self, action: str, key: str, failure: BaseException) -> StorageError:
        where = self.url(key)
        if is_without_bucket(failure) or classify(failure) is Outcome.MISSING:
            return StorageError(
                f"could not {action} '{where}': the bucket does not exist; create it first"
            )
        if is_denied(failure):
            return StorageError(
                f"could not {action} '{where}': the store denied it ({self._words(failure)}); "
                f"{self._dialect.permissions}"
            )
        msg = f"could not {action} '{where}': {self._words(failure)}"
        if not self._is_reached:
            msg += f"; nothing has ever answered there: check {self._dialect.reach}"
        return StorageError(msg)

    def _words(self, error: BaseException) -> str:
        """Return an error in one line: an empty message says its class, a cause says more."""
        silent = "no answer came in time" if isinstance(error, TimeoutError) else ""
        text = " ".join(str(error).split()) or silent or type(error).__name__
        answer = answer_of(error)
        if answer.status:
            text = f"{text} (HTTP {answer.status} {answer.code})".replace(" )", ")")
        return without_secrets(text, self._secrets)


class _PartsWriter(ObjectWriter):
    """Bytes for one new object: sent as they come when they are many, in one request when few.

    The store shows the object when its parts are confirmed. The condition goes with that last
    request. As Ceph ignores it there, the key is looked at right before.
    """

    def __init__(self, storage: ObjectStorage, key: str) -> None:
        self._storage, self._key = storage, require_plain_key(key)
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


_STORAGES: weakref.WeakSet[ObjectStorage] = weakref.WeakSet()


def _forget_connections() -> None:
    for storage in _STORAGES:
        storage.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)
