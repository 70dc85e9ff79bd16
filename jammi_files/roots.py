"""From a path or URL to the storage that serves it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from jammi_files.errors import InvalidInputError, StorageError
from jammi_files.local import LocalStorage
from jammi_files.memory import MemoryStorage
from jammi_files.storage import Durability, Storage

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKETS = frozenset({"s3", "gs", "gcs", "azure", "abfs", "abfss", "r2"})


def open_storage(
    root: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    durability: Durability = "fsync",
) -> Storage:
    """Return the storage for a path or URL (`B048`, `B049`); nothing is read or written yet.

    Raises:
        InvalidInputError: an empty root or an unknown scheme.
        StorageError: the root is a file.
    """
    text = os.fspath(root)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        msg = f"root {text!r} is no path or URL; expected e.g. './catalog' or 'memory://catalog'"
        raise InvalidInputError(msg)
    match = _SCHEME.match(text)
    if storage_options and (match is None or match[1].lower() in ("file", "memory")):
        msg = f"root '{text}' takes no storage_options, got {sorted(storage_options)}"
        raise InvalidInputError(msg)
    if match is None:
        return LocalStorage(text, durability)
    scheme = match[1].lower()
    if scheme == "file":
        return LocalStorage(text[len("file://") :], durability)
    if scheme == "memory":
        return MemoryStorage(text)
    if scheme in _BUCKETS:
        msg = f"'{text}': this version keeps catalogs in a local directory or memory:// only"
        raise StorageError(msg)
    msg = f"invalid storage URL '{text}': unknown scheme '{scheme}://'"
    raise InvalidInputError(msg)
