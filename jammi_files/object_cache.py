"""A storage with a bounded local cache of the objects that never change, shared by processes.

Only segments are kept: their keys are random, and a key is written once. A manifest may be emptied
by vacuum and a result's name may be used again, so those are always asked for where they are. An
entry is named after the catalog's id and the key: another catalog under the same URL misses.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from jammi_files import root_format
from jammi_files.cache_files import IS_SUPPORTED, CacheFiles
from jammi_files.errors import InvalidInputError, JammiFilesError
from jammi_files.storage import ObjectInfo, ObjectWriter, Storage

CACHE_VARIABLE = "JAMMI_FILES_CACHE"
"""Environment variable: the cache's directory; ``off`` or empty for no cache."""

CACHE_BYTES_VARIABLE = "JAMMI_FILES_CACHE_BYTES"
CACHE_BYTES = 2**30
"""How large a cache may grow that nobody has given a bound."""

_IMMUTABLE = re.compile(r"_catalog/segments/[0-9a-f]{32}\.parquet", re.ASCII)
_PARQUET = b"PAR1"


class CachedStorage(Storage):
    """Another storage, with what it has of immutable objects kept in a directory."""

    def __init__(self, inner: Storage, directory: str, max_bytes: int = CACHE_BYTES) -> None:
        """``directory`` is made where it is missing; only this user may look into it."""
        self.inner = inner
        self.root, self.store, self.is_locked = inner.root, inner.store, inner.is_locked
        self._files = CacheFiles(directory, max_bytes)
        self._catalog_id: str | None = None

    def __reduce__(self) -> tuple[type[CachedStorage], tuple[Storage, str, int]]:
        return CachedStorage, (self.inner, self._files.directory, self._files.max_bytes)

    def read(self, key: str) -> bytes:
        name = self._name(key)
        data = None if name is None else self._files.read(name)
        if data is None:
            data = self.inner.read(key)
            self._keep(key, name, data)
        return data

    def peek(self, key: str) -> bytes | None:
        if _IMMUTABLE.fullmatch(key):
            return super().peek(key)
        data = self.inner.peek(key)
        if data is not None:
            self._keep(key, None, data)
        return data

    def read_many(self, keys: Sequence[str]) -> list[bytes]:
        names = [self._name(key) for key in keys]
        found = [None if name is None else self._files.read(name) for name in names]
        missing = [key for key, data in zip(keys, found, strict=True) if data is None]
        fetched = iter(self.inner.read_many(missing))
        answers: list[bytes] = []
        for key, name, data in zip(keys, names, found, strict=True):
            answers.append(next(fetched) if data is None else data)
            if data is None:
                self._keep(key, name, answers[-1])
        return answers

    def open(self, key: str) -> BinaryIO:
        name = self._name(key)
        cached = None if name is None else self._files.open(name, lambda: self.inner.open(key))
        # What is read here and there is not worth fetching whole: no entry is made.
        return self.inner.open(key) if cached is None else cached

    def create(self, key: str, data: bytes) -> None:
        self.inner.create(key, data)
        self._keep(key, self._name(key), data)

    def delete(self, key: str) -> bool:
        self.distrust(key)
        return self.inner.delete(key)

    def settle(self, key: str) -> None:
        self.inner.settle(key)

    def distrust(self, key: str) -> bool:
        name = self._name(key)
        return name is not None and self._files.drop(name)

    def uncached(self) -> Storage:
        return self.inner

    def size(self, key: str) -> int | None:
        return self.inner.size(key)

    def replace(self, key: str, data: bytes) -> None:
        self.inner.replace(key, data)

    def retire(self, key: str) -> None:
        self.inner.retire(key)

    def writer(self, key: str) -> ObjectWriter:
        return self.inner.writer(key)

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        return self.inner.list_objects(prefix)

    def list(self, prefix: str) -> list[str]:
        return self.inner.list(prefix)

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        return self.inner.lock()

    def url(self, key: str) -> str:
        return self.inner.url(key)

    def arrow_path(self, key: str) -> tuple[str, Any]:
        return self.inner.arrow_path(key)

    def sign(self, key: str, seconds: int) -> str:
        return self.inner.sign(key, seconds)

    def relative(self, location: str) -> str:
        return self.inner.relative(location)

    def _name(self, key: str) -> str | None:
        """Return the name of the key's entry; None for what may change, or is of no catalog."""
        if not _IMMUTABLE.fullmatch(key):
            return None
        if self._catalog_id is None:
            found = root_format.read(self.inner)
            self._catalog_id = found and found.catalog_id
        if self._catalog_id is None:
            return None
        return hashlib.sha256(f"{self._catalog_id}\0{key}".encode()).hexdigest()

    def _keep(self, key: str, name: str | None, data: bytes) -> None:
        """Store what was read or written, unless it was cut off on its way."""
        if name is not None:
            if len(data) > 8 and data[:4] == data[-4:] == _PARQUET:
                self._files.put(name, data)
        elif key == root_format.KEY and self._catalog_id is None:
            with contextlib.suppress(JammiFilesError):  # whoever asked for it words the error
                self._catalog_id = root_format.decode(self.inner.url(key), data).catalog_id


def with_cache(
    storage: Storage, cache_dir: str | os.PathLike[str] | None = None, max_bytes: int | None = None
) -> Storage:
    """Return the storage with a cache in ``cache_dir``.

    Without ``cache_dir`` the environment variable `CACHE_VARIABLE` names it, else it is
    ``jammi_files`` among the user's caches. ``""`` and ``"off"`` are no cache, and so are
    ``max_bytes`` (default: `CACHE_BYTES_VARIABLE`, else `CACHE_BYTES`) of 0 and a system without
    POSIX permissions.

    Raises:
        InvalidInputError: the bound is no whole number of bytes.
    """
    directory = _directory(cache_dir)
    bound = _bound(max_bytes)
    if directory is None or not bound or not IS_SUPPORTED:
        return storage
    return CachedStorage(storage, directory, bound)


def _directory(given: str | os.PathLike[str] | None) -> str | None:
    named = os.environ.get(CACHE_VARIABLE) if given is None else os.fspath(given)
    if named is None:
        base = _user_caches()
        return None if base is None else str(base / "jammi_files")
    return None if named in ("", "off") else str(Path(named).expanduser())


def _user_caches() -> Path | None:
    """Return where this user's programs keep what can be made again."""
    if sys.platform != "darwin":
        chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if chosen.is_absolute():
            return chosen
    try:
        home = Path.home()
    except RuntimeError:  # an account without a home
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _bound(given: int | None) -> int:
    if given is None:
        text = os.environ.get(CACHE_BYTES_VARIABLE, "")
        if text and not text.isdecimal():
            msg = f"{CACHE_BYTES_VARIABLE} must be a number of bytes, not {text!r}"
            raise InvalidInputError(msg)
        return int(text) if text else CACHE_BYTES
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise InvalidInputError(f"the cache's bound must be bytes >= 0, not {given!r}")
    return given
