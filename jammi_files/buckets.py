"""From a bucket's URL to the storage that serves it: imported when a root is one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from jammi_files.dialects import DIALECTS
from jammi_files.errors import InvalidInputError
from jammi_files.object_cache import with_cache
from jammi_files.objects import ObjectStorage
from jammi_files.storage import Storage

SCHEMES = frozenset(DIALECTS)
"""Schemes of URLs that are buckets."""


def open_bucket(
    root: str, scheme: str, options: Mapping[str, Any], cache_dir: str | os.PathLike[str] | None
) -> Storage:
    """Return the storage for a bucket's URL; see `roots.open_storage`."""
    dialect = DIALECTS[scheme]
    if not root.split("://", 1)[1].strip("/"):
        msg = f"root '{root}' names no bucket; expected e.g. '{dialect.scheme}://bucket/path'"
        raise InvalidInputError(msg)
    user, at, _ = root.split("://", 1)[1].split("/", 1)[0].rpartition("@")
    if at and (":" in user or dialect.scheme != "abfs"):  # of Azure it is container@account
        msg = f"a {dialect.scheme}:// root takes no credentials; give them by storage_options"
        raise InvalidInputError(msg)
    dialect.require()
    return with_cache(ObjectStorage(root, dialect, options), cache_dir)
