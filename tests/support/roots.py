"""Fresh roots of each backend, copies of a root, and everything that a root holds."""

from __future__ import annotations

import abc
import itertools
import shutil
import uuid
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from support.servers.server import Server
from support.witness import objects_in

from jammi_files.local import LocalStorage
from jammi_files.memory import MemoryStorage
from jammi_files.objects import ObjectStorage
from jammi_files.roots import open_storage
from jammi_files.storage import Storage


class Roots(abc.ABC):
    """A supply of roots, none of which exists before it is used."""

    @abc.abstractmethod
    def new(self) -> Storage:
        """Return the storage of a fresh root."""

    @abc.abstractmethod
    def copy(self, storage: Storage) -> Storage:
        """Return the storage of a copy of a root."""

    @abc.abstractmethod
    def close(self) -> None:
        """Remove every root."""


class LocalRoots(Roots):
    """Directories under one directory."""

    def __init__(self, base: Path) -> None:
        self._base, self._numbers = base, itertools.count()

    def new(self) -> Storage:
        return LocalStorage(self._base / f"root{next(self._numbers)}", "os")

    def copy(self, storage: Storage) -> Storage:
        copy = self.new()
        if Path(storage.root).exists():
            shutil.copytree(storage.root, copy.root)
        return copy

    def close(self) -> None:
        shutil.rmtree(self._base)


class MemoryRoots(Roots):
    """Directories of fsspec's in-process file system."""

    def __init__(self) -> None:
        self._base, self._numbers = f"memory://{uuid.uuid4().hex}", itertools.count()
        self._fs = fsspec.filesystem("memory")

    def new(self) -> Storage:
        return MemoryStorage(f"{self._base}/root{next(self._numbers)}")

    def copy(self, storage: Storage) -> Storage:
        copy = self.new()
        for key, data in contents(storage).items():
            copy.create(key, data)
        return copy

    def close(self) -> None:
        if self._fs.exists(self._base):
            self._fs.rm(self._base, recursive=True)


class BucketRoots(Roots):
    """Prefixes of a bucket that each server has one of; what is opened has no local cache."""

    _buckets: ClassVar[dict[str, tuple[str, dict[str, Any]]]] = {}

    def __init__(self, server: Server) -> None:
        if server.url not in self._buckets:
            self._buckets[server.url] = server.root()
        self._base, self._options = self._buckets[server.url]

    def new(self) -> Storage:
        url = f"{self._base}/{uuid.uuid4().hex}"
        return open_storage(url, storage_options=self._options, cache_dir="off")

    def copy(self, storage: Storage) -> Storage:
        copy = self.new()
        for key, data in contents(storage).items():
            copy.replace(key, data)
        return copy

    def close(self) -> None:
        """Leave them: the server forgets everything when it ends."""


def contents(storage: Storage) -> dict[str, bytes]:
    """Return every object under a root, read beside the code under test and what wraps it."""
    while hasattr(storage, "inner"):
        storage = storage.inner
    if isinstance(storage, LocalStorage):
        base = Path(storage.root)
        files = [path for path in base.rglob("*") if path.is_file()]
        return {str(path.relative_to(base)): path.read_bytes() for path in files}
    if isinstance(storage, ObjectStorage):
        return objects_in(storage)
    fs, base = fsspec.url_to_fs(storage.root)
    return {path[len(base) + 1 :]: fs.cat_file(path) for path in fs.find(base)}
