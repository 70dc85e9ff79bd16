"""From a path or URL to the storage that serves it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from jammi_files.errors import InvalidInputError
from jammi_files.local import LocalStorage
from jammi_files.storage import Durability, Storage

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ELSEWHERE = {
    "azure": "write abfs://container/path with storage_options account_name",
    "r2": "write s3://bucket/path with storage_options endpoint_url",
}
"""Schemes that jammi-db knows and fsspec does not -> what to write instead."""


def open_storage(
    root: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    durability: Durability = "fsync",
    cache_dir: str | os.PathLike[str] | None = None,
) -> Storage:
    """Return the storage for a path or URL (`B048`, `B049`); nothing is read or written yet.

    ``storage_options`` belong to a bucket: they go to s3fs, gcsfs or adlfs as they are, and the
    most usual spellings of object_store (Polars, Delta) are understood too. ``cache_dir`` is where
    a bucket's segments are kept for all processes of this user (`object_cache.with_cache`).

    Raises:
        InvalidInputError: an empty root, an unknown scheme, or a chain such as ``simplecache::``,
            which would overwrite where it has to create.
        StorageError: the root is a file, or the store's extra is not installed.
    """
    text = os.fspath(root)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        msg = f"root {text!r} is no path or URL; expected e.g. './catalog' or 'memory://catalog'"
        raise InvalidInputError(msg)
    if "::" in text.split("://", 1)[0]:
        msg = f"'{text}' is a chain of file systems, which overwrite silently; give the last alone"
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
    # The rest is a third of what importing this library costs, and most roots are directories.
    if scheme == "memory":
        from jammi_files.memory import MemoryStorage  # noqa: PLC0415

        return MemoryStorage(text)
    from jammi_files.buckets import SCHEMES, open_bucket  # noqa: PLC0415

    if scheme in SCHEMES:
        return open_bucket(text, scheme, storage_options or {}, cache_dir)
    if scheme in _ELSEWHERE:
        raise InvalidInputError(f"'{text}': {_ELSEWHERE[scheme]}")
    msg = f"invalid storage URL '{text}': unknown scheme '{scheme}://'"
    raise InvalidInputError(msg)
