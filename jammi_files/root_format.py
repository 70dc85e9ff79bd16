"""``_catalog/format.json``: what says that a root is a catalog of this library, created once."""

from __future__ import annotations

import uuid
from importlib import metadata

import orjson

from jammi_files.errors import FormatError, UnsupportedVersionError
from jammi_files.storage import Storage

KEY = "_catalog/format.json"
FORMAT_VERSION = 1

_MAX_BYTES = 65_536


def read(storage: Storage) -> str | None:
    """Return the catalog's id, None for a root that holds no catalog yet.

    Raises:
        FormatError: the object is not of this library.
        UnsupportedVersionError: a newer library wrote it.
    """
    try:
        data = storage.read(KEY)
    except FileNotFoundError:
        return None
    return decode(storage.url(KEY), data)


def decode(where: str, data: bytes) -> str:
    """Return the catalog's id from the object's bytes; ``where`` names it in errors, as `read`'s.

    Raises:
        FormatError: the object is not of this library.
        UnsupportedVersionError: a newer library wrote it.
    """
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError(f"{len(data)} bytes are too many")
        fields = orjson.loads(data)
        version, catalog_id = fields["format_version"], fields["catalog_id"]
        if fields["format"] != "jammi_files" or not isinstance(catalog_id, str):
            raise ValueError("it names another format")
    except (ValueError, TypeError, KeyError) as error:
        msg = f"'{where}' is not of jammi_files: {error}; choose another root"
        raise FormatError(msg) from error
    if version != FORMAT_VERSION:
        msg = (
            f"'{where}' has format version {version}, this library reads "
            f"{FORMAT_VERSION}; install a newer jammi_files"
        )
        raise UnsupportedVersionError(msg)
    return catalog_id


def ensure(storage: Storage) -> str:
    """Return the catalog's id, creating the object if the root has none."""
    known = read(storage)
    if known is not None:
        return known
    fields = {
        "format": "jammi_files",
        "format_version": FORMAT_VERSION,
        "catalog_id": uuid.uuid4().hex,
        "library_version": metadata.version("jammi_files"),
    }
    try:
        storage.create(KEY, orjson.dumps(fields, option=orjson.OPT_INDENT_2))
    except FileExistsError:
        return ensure(storage)  # another process was first
    return fields["catalog_id"]  # type: ignore[return-value]  # the string above
