"""``memory://`` as storage: fsspec's in-process file system, for tests and throw-away catalogs."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import io
import threading
import uuid
from collections.abc import Callable
from typing import Any, BinaryIO

import fsspec

from jammi_files.errors import StorageError
from jammi_files.storage import (
    ObjectInfo,
    ObjectWriter,
    Storage,
    ThreadLock,
    finished_writer,
    require_key,
    require_plain_key,
)

_PROCESS = uuid.uuid4().hex
"""This process, and its forked children, which begin with a copy of its memory."""


class MemoryStorage(Storage):
    """``memory://name``: fsspec's in-process file system, made exclusive by one lock."""

    _exclusive = threading.RLock()  # one file system per process, so one lock per process

    def __init__(self, root: str) -> None:
        self.root = f"memory://{root.partition('://')[2].rstrip('/')}"
        self._fs, self._base = fsspec.url_to_fs(self.root)
        self._writers = ThreadLock(self.root)

    def __reduce__(self) -> tuple[Callable[..., MemoryStorage], tuple[str, str]]:
        return _reopen, (self.root, _PROCESS)

    def read(self, key: str) -> bytes:
        path = self._path(key)
        if path not in self._fs.store:  # the file system itself would look through every key
            raise FileNotFoundError(errno.ENOENT, "no such object", path)
        return bytes(self._fs.cat_file(path))

    def size(self, key: str) -> int | None:
        file = self._fs.store.get(self._path(key))
        return None if file is None else len(file.getbuffer())

    def open(self, key: str) -> BinaryIO:
        return io.BytesIO(self.read(key))

    def create(self, key: str, data: bytes) -> None:
        path = self._path(require_plain_key(key))
        with self._exclusive:
            if path in self._fs.store:
                raise FileExistsError(errno.EEXIST, "exists", path)
            self._fs.pipe_file(path, bytes(data))

    def replace(self, key: str, data: bytes) -> None:
        path = self._path(require_plain_key(key))
        with self._exclusive:
            self._fs.pipe_file(path, bytes(data))

    def writer(self, key: str) -> ObjectWriter:
        return _BufferedWriter(self, key)

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        with self._exclusive:
            try:
                found = self._fs.ls(self._path(prefix), detail=True)
            except FileNotFoundError:
                return []
            return sorted(
                ObjectInfo(
                    each["name"].rsplit("/", 1)[1], each["size"], self._modified(each["name"])
                )
                for each in found
                if each["type"] == "file"
            )

    def list(self, prefix: str) -> list[str]:
        with self._exclusive:
            try:
                paths = self._fs.ls(self._path(prefix), detail=False)
            except FileNotFoundError:
                return []
        return sorted(path.rsplit("/", 1)[1] for path in paths)

    def delete(self, key: str) -> bool:
        path = self._path(require_plain_key(key))
        with self._exclusive:
            try:
                self._fs.rm_file(path)
            except (FileNotFoundError, KeyError):
                return False
        return True

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        return self._writers.held()

    def url(self, key: str) -> str:
        return f"{self.root}/{key}" if self._base else f"{self.root}{key}"

    def arrow_path(self, key: str) -> tuple[str, Any]:
        return self._path(key), self._fs

    def _modified(self, path: str) -> dt.datetime:
        return self._fs.store[path].modified.astimezone(dt.UTC)  # type: ignore[no-any-return]

    def _path(self, key: str) -> str:
        return f"{self._base}/{require_key(key)}" if key else str(self._base)


class _BufferedWriter(ObjectWriter):
    def __init__(self, storage: Storage, key: str) -> None:
        self._storage, self._key = storage, require_plain_key(key)
        self._buffer: io.BytesIO | None = io.BytesIO()

    def write(self, data: bytes) -> int:
        if self._buffer is None:
            raise finished_writer(self._key)
        return self._buffer.write(data)

    def publish(self) -> None:
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            self._storage.create(self._key, buffer.getvalue())

    def abort(self) -> None:
        self._buffer = None


def _reopen(root: str, process: str) -> MemoryStorage:
    """Unpickle: in another process there would be nothing, which is no answer.

    Raises:
        StorageError: this is another process.
    """
    if process != _PROCESS:
        raise StorageError(f"'{root}' is in the memory of another process; use a directory")
    return MemoryStorage(root)
