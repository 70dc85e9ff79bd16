"""A local directory as storage: temporary file, fsync, atomic link, directory fsync; one lock file.

A temporary file is named ``<target>.<8 hex>.tmp`` beside its target, so recovery knows it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from jammi_files import disk_files
from jammi_files.errors import ConflictError, InvalidInputError, StateError, StorageError
from jammi_files.storage import (
    LOCK_TIMEOUT,
    TEMP_SUFFIX,
    Durability,
    ObjectInfo,
    ObjectWriter,
    Storage,
    finished_writer,
    nested_use,
    require_key,
    require_plain_key,
)

_LOCK = "_catalog/lock"
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class LocalStorage(Storage):
    """A directory. ``durability="fsync"`` syncs data and directory before a write returns."""

    def __init__(self, root: str | os.PathLike[str], durability: Durability = "fsync") -> None:
        if durability not in ("fsync", "os"):
            raise InvalidInputError(f"durability must be 'fsync' or 'os', not {durability!r}")
        self.root = os.path.abspath(os.fspath(root))
        self._fsync = durability == "fsync"
        self._durability = durability
        self._peeked = "", ""  # the last key and its path: a reader asks for one again and again
        self._anchored: set[str] = set()
        self._inside: set[str] = set()
        self._lock = _ProcessLock(self._path(_LOCK), self._syncs_directories)
        if Path(self.root).exists() and not Path(self.root).is_dir():
            raise StorageError(f"root '{self.root}' is a file; expected a directory")

    def __reduce__(self) -> tuple[type[LocalStorage], tuple[str, str]]:
        return LocalStorage, (self.root, self._durability)

    def read(self, key: str) -> bytes:
        with _translated("read", self._path(key)) as path:
            return disk_files.read_whole(path, disk_files.most_bytes(key))

    def peek(self, key: str) -> bytes | None:
        peeked = self._peeked
        if key != peeked[0]:
            self._peeked = peeked = key, self._path(key)
        try:
            os.stat(peeked[1])  # tells the usual answer, None, sooner than opening
        except FileNotFoundError:
            return None
        except OSError:
            pass  # reading words it
        return super().peek(key)

    def size(self, key: str) -> int | None:
        try:
            with _translated("look at", self._path(key)) as path:
                return os.stat(path).st_size
        except FileNotFoundError:
            return None

    def open(self, key: str) -> BinaryIO:
        with _translated("open", self._path(key)) as path:
            return disk_files.open_to_read(path)

    def create(self, key: str, data: bytes) -> None:
        with self.writer(key) as out:
            out.write(data)

    def replace(self, key: str, data: bytes) -> None:
        out = _LocalWriter(self, key)
        with out, _translated("write", out.path):
            out.write(data)
            out.overwrite()

    def writer(self, key: str) -> ObjectWriter:
        return _LocalWriter(self, key)

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        try:
            with _translated("list", self._path(prefix)) as path, os.scandir(path) as entries:
                self._require_inside(path)
                return sorted(filter(None, map(disk_files.describe, entries)))
        except FileNotFoundError:
            return []

    def list(self, prefix: str) -> list[str]:
        try:
            with _translated("list", self._path(prefix)) as path:
                return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def delete(self, key: str) -> bool:
        try:
            with _translated("delete", self.place(key)) as path:
                os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def settle(self, key: str) -> None:
        if not self._syncs_directories:
            return
        with _translated("sync", self._path(key)) as path:
            with contextlib.suppress(FileNotFoundError):
                _sync(path)
            with contextlib.suppress(FileNotFoundError):
                self.sync_directory(os.path.dirname(path))

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        self.place(_LOCK)  # the lock file of this root, not of another place
        with self._lock.held() as descriptor:
            yield _mark(descriptor, b"1") == b"1"
            _mark(descriptor, b"0")  # not after an error: what is visible may not be durable

    def url(self, key: str) -> str:
        return f"{self.root}/{key}"

    def arrow_path(self, key: str) -> tuple[str, None]:
        return self._path(key), None

    def _path(self, key: str) -> str:
        return f"{self.root}/{require_key(key)}" if key else self.root

    def place(self, key: str) -> str:
        """Return the path of a key that is to be written or deleted; links lead nowhere."""
        path = self._path(require_plain_key(key))
        directory = os.path.dirname(path)
        if directory not in self._inside:
            self._require_inside(directory)
            self._inside.add(directory)
        return path

    def _require_inside(self, directory: str) -> None:
        """Refuse a directory under the root that is a link to another place."""
        root, real = os.path.realpath(self.root), os.path.realpath(directory)
        if real != root and not real.startswith(f"{root}/"):
            raise StorageError(f"'{directory}' leads out of the root, to '{real}': left alone")

    @property
    def _syncs_directories(self) -> bool:
        return self._fsync and os.name != "nt"

    def sync_directory(self, directory: str) -> None:
        """Make a directory's entries durable; nothing to do under ``durability="os"``.

        Once per process that is done for its own entry too: who made it may have died over that.
        """
        if self._syncs_directories:
            if directory not in self._anchored:
                _anchor(directory)
                self._anchored.add(directory)
            _sync(directory)

    def sync_file(self, descriptor: int) -> None:
        """Make a file's bytes durable; nothing to do under ``durability="os"``."""
        if self._fsync:
            os.fsync(descriptor)

    def make_directory(self, directory: str) -> None:
        """Create a directory and its parents, each durable before anything is put into it."""
        _make_directory(directory, durable=self._syncs_directories)


def _make_directory(directory: str, *, durable: bool) -> None:
    """See `LocalStorage.make_directory`; the entry of the directory itself is yet to be synced."""
    parent = os.path.dirname(directory)
    if not os.path.isdir(parent):
        _make_directory(parent, durable=durable)
    if durable:
        _anchor(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory)


def _anchor(directory: str) -> None:
    """Make a directory's own entry durable, if its parent may be read."""
    with contextlib.suppress(PermissionError):
        _sync(os.path.dirname(directory))


def _mark(descriptor: int, mark: bytes) -> bytes:
    """Write the byte that says whether the lock is held, and return what it was.

    It outlives a process but not a power cut, and needs to: after that all that is seen is durable.
    """
    if os.name == "nt":
        return b""
    before = os.pread(descriptor, 1, 0)
    with contextlib.suppress(OSError):  # a full disk will be told by the commit itself
        os.pwrite(descriptor, mark, 0)
    return before


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _LocalWriter(ObjectWriter):
    """A temporary file beside its target; `publish` links it to the final name."""

    def __init__(self, storage: LocalStorage, key: str) -> None:
        self._storage = storage
        self.path = storage.place(key)
        self._temp = f"{self.path}.{uuid.uuid4().hex[:8]}{TEMP_SUFFIX}"
        self._file: io.BufferedWriter | None = None
        with _translated("write", self.path):
            try:
                self._file = open(self._temp, "xb")  # noqa: SIM115 - closed by publish or abort
            except FileNotFoundError:
                storage.make_directory(os.path.dirname(self.path))
                self._file = open(self._temp, "xb")  # noqa: SIM115

    def write(self, data: bytes) -> int:
        if self._file is None:
            raise finished_writer(self.path)
        with _translated("write", self.path):
            return self._file.write(data)

    def publish(self) -> None:
        """Take the steps of FORMAT's "Create": 1 write, 2 sync, 3 link, 4 sync directory."""
        if self._file is None:
            return
        try:
            with _translated("create", self.path):
                self._finish()
                self._link()
        finally:
            self.abort()
        with _translated("sync the directory of", self.path):
            self._storage.sync_directory(os.path.dirname(self.path))

    def overwrite(self) -> None:
        """Publish over whatever the key holds."""
        self._finish()
        os.replace(self._temp, self.path)
        self._file = None
        self._storage.sync_directory(os.path.dirname(self.path))

    def abort(self) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # the disk may be too full for what is still buffered
            self._file.close()
        self._file = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temp)

    def _finish(self) -> None:
        assert self._file is not None  # noqa: S101 - both callers have checked
        self._file.flush()
        self._storage.sync_file(self._file.fileno())
        self._file.close()

    def _link(self) -> None:
        try:
            os.link(self._temp, self.path)
        except FileNotFoundError:
            msg = f"'{self._temp}' is gone: this write was taken for that of a dead process"
            raise StateError(msg) from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # No hard links here: a rename overwrites, so look first, under the writers' lock.
            with self._storage._lock.held(again=True):  # noqa: SLF001
                if os.path.lexists(self.path):
                    raise FileExistsError(errno.EEXIST, "exists", self.path) from None
                os.rename(self._temp, self.path)


class _ProcessLock:
    """The advisory lock file: one descriptor per process, one thread of it at a time.

    The poll is about a millisecond with jitter: filelock's 50 ms starve all but one busy writer.
    """

    def __init__(self, path: str, durable: bool) -> None:  # noqa: FBT001 - of the directory
        self._path = path
        self._durable = durable
        self._descriptor: int | None = None
        self._thread = threading.Lock()
        self._holder: int | None = None
        _LOCKS.add(self)

    def forget(self) -> None:
        """Let go, in a forked child, of the parent's descriptor: its copy would keep the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = self._holder = None
        self._thread = threading.Lock()

    @contextlib.contextmanager
    def held(self, *, again: bool = False) -> Iterator[int]:
        """Hold the lock and yield its descriptor; ``again`` lets the thread that holds it pass."""
        if self._holder == threading.get_ident():
            if not again or self._descriptor is None:
                raise nested_use()
            yield self._descriptor
            return
        deadline = time.monotonic() + LOCK_TIMEOUT
        if not self._thread.acquire(timeout=LOCK_TIMEOUT):
            raise self._busy()
        try:
            descriptor = self._acquire(deadline)
            self._holder = threading.get_ident()
            try:
                yield descriptor
            finally:
                self._holder = None
                import filelock  # noqa: PLC0415 - see `_acquire`

                filelock.unlock_descriptor(descriptor)
        finally:
            self._thread.release()

    def _acquire(self, deadline: float) -> int:
        import filelock  # noqa: PLC0415 - who only reads does not wait for it

        with _translated("lock", self._path):
            if self._descriptor is None:
                directory = os.path.dirname(self._path)
                if not os.path.isdir(directory):
                    _make_directory(directory, durable=self._durable)
                flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
                self._descriptor = disk_files.open_regular(self._path, flags)
            while not filelock.lock_descriptor(self._descriptor, blocking=False):
                if time.monotonic() > deadline:
                    raise self._busy()
                time.sleep(random.uniform(0.0005, 0.0015))  # noqa: S311 - jitter, not a secret
            return self._descriptor

    def _busy(self) -> ConflictError:
        msg = f"other writers held '{self._path}' for {LOCK_TIMEOUT:g} s; nothing was changed"
        return ConflictError(msg)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at exit `os` is gone
        if self._descriptor is not None:
            close(self._descriptor)


_LOCKS: weakref.WeakSet[_ProcessLock] = weakref.WeakSet()


def _forget_locks() -> None:
    for lock in _LOCKS:
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


@contextlib.contextmanager
def _translated(action: str, path: str) -> Iterator[str]:
    """Turn what the system refuses into a `StorageError` that names the object."""
    try:
        yield path
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        msg = f"could not {action} '{path}': {error.strerror or error}"
        raise StorageError(msg) from error
