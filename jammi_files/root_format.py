"""``_catalog/format.json``: what says that a root is a catalog of this library, created once.

While a root is being copied to, the object says so, and nobody opens it (FORMAT section "Copy").
"""

from __future__ import annotations

import contextlib
import uuid
from importlib import metadata
from typing import Any, NamedTuple

import orjson

from jammi_files.errors import FormatError, StateError, StorageError, UnsupportedVersionError
from jammi_files.storage import Storage

KEY = "_catalog/format.json"
PROBES = "_catalog/probes"
"""Where a store is tried before its first write."""
FORMAT_VERSION = 1

_MAX_BYTES = 65_536
_FORMAT = "jammi_files"
_UNFINISHED = "jammi_files.copy"


class Commit(NamedTuple):
    """One version of the source of a copy."""

    version: int
    commit_id: str


class RootFormat(NamedTuple):
    """What a root's format object says."""

    catalog_id: str
    stores: tuple[str, ...] = ()
    """`Storage.store` of where the exclusive create was proved before the first write."""
    is_unfinished: bool = False
    """Whether this is what a copy that is on its way, or was cut off, has made so far."""
    copied: Commit | None = None
    """For a copy, what it was last brought to; every version up to that is as at the source."""
    coming: tuple[Commit, ...] = ()
    """While a copy is brought forward, what it was at before, and what is to come."""


def read(storage: Storage) -> RootFormat | None:
    """Return what the root says of itself, None for a root that holds no catalog yet.

    Raises:
        FormatError: the object is not of this library.
        UnsupportedVersionError: a newer library wrote it.
        StateError: the root is the unfinished copy of another.
    """
    found = look(storage)
    if found is not None and found.is_unfinished:
        msg = (
            f"'{storage.root}' is an unfinished copy of catalog {found.catalog_id}; run the copy "
            "again to finish it, or delete it and copy anew"
        )
        raise StateError(msg)
    return found


def look(storage: Storage) -> RootFormat | None:
    """Return what the root says of itself, be it an unfinished copy; errors as `read`."""
    try:
        data = storage.read(KEY)
    except FileNotFoundError:
        return None
    return decode(storage.url(KEY), data)


def decode(where: str, data: bytes) -> RootFormat:
    """Return what the object's bytes say; ``where`` names it in errors, which are `read`'s."""
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError(f"{len(data)} bytes are too many")
        fields = orjson.loads(data)
        version, catalog_id = fields["format_version"], fields["catalog_id"]
        stores = fields.get("exclusive_create", [])
        if fields["format"] not in (_FORMAT, _UNFINISHED) or not isinstance(catalog_id, str):
            raise ValueError("it names another format")
        if not isinstance(stores, list) or not all(isinstance(each, str) for each in stores):
            raise ValueError("'exclusive_create' is no list of stores")
        copied = fields.get("copied")
        copied = None if copied is None else _commit_of(copied)
        coming = tuple(map(_commit_of, fields.get("coming", [])))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        msg = f"'{where}' is not of jammi_files: {error}; choose another root"
        raise FormatError(msg) from error
    if version != FORMAT_VERSION:
        msg = (
            f"'{where}' has format version {version}, this library reads "
            f"{FORMAT_VERSION}; install a newer jammi_files"
        )
        raise UnsupportedVersionError(msg)
    return RootFormat(catalog_id, tuple(stores), fields["format"] == _UNFINISHED, copied, coming)


def _commit_of(fields: dict[str, Any]) -> Commit:
    return Commit(int(fields["version"]), str(fields["commit_id"]))


def ensure(
    storage: Storage, known: RootFormat | None = None, catalog_id: str | None = None
) -> RootFormat:
    """Return what the root says of itself, creating the object if the root has none.

    ``catalog_id`` is the id that the catalog has had before, if it is known.

    To be called before the first write. In a bucket it proves that a create is exclusive there,
    unless the root remembers that it was proved for this very bucket at this endpoint.

    Raises:
        StorageError: the store overwrites where it should create; nothing was written but a probe.
    """
    known = known or read(storage)
    if storage.store is not None and (known is None or storage.store not in known.stores):
        _prove_exclusive_create(storage)
    if known is not None:
        return known
    created = _new(storage, catalog_id or uuid.uuid4().hex)
    try:
        storage.create(KEY, _encode(created))
    except FileExistsError:
        return ensure(storage)  # another process was first
    return created


def renew(storage: Storage, catalog_id: str | None) -> None:
    """Replace a damaged object, under the id that the catalog has had if it is known.

    Raises:
        StorageError: the store overwrites where it should create; nothing was written but a probe.
    """
    if storage.store is not None:
        _prove_exclusive_create(storage)
    storage.replace(KEY, _encode(_new(storage, catalog_id or uuid.uuid4().hex)))


def begin_copy(storage: Storage, catalog_id: str) -> None:
    """Claim a root that is no catalog yet for a copy of that one; errors as `ensure`.

    Raises:
        FileExistsError: another process was first.
    """
    if storage.store is not None:
        _prove_exclusive_create(storage)
    storage.create(KEY, _encode(_new(storage, catalog_id)._replace(is_unfinished=True)))


def finish_copy(storage: Storage, catalog_id: str, copied: Commit) -> None:
    """Make the copy that `begin_copy` began a catalog like any other, or note its new version."""
    finished = _new(storage, catalog_id)._replace(copied=copied)
    storage.replace(KEY, _encode(finished))


def note_coming(
    storage: Storage, catalog_id: str, copied: Commit | None, coming: tuple[Commit, ...]
) -> None:
    """Note which versions a copy may be at until `finish_copy`; ``copied`` stays what it was."""
    brought = _new(storage, catalog_id)._replace(copied=copied, coming=coming)
    storage.replace(KEY, _encode(brought))


def _new(storage: Storage, catalog_id: str) -> RootFormat:
    return RootFormat(catalog_id, () if storage.store is None else (storage.store,))


def _encode(root: RootFormat) -> bytes:
    fields: dict[str, Any] = {
        "format": _UNFINISHED if root.is_unfinished else _FORMAT,
        "format_version": FORMAT_VERSION,
        "catalog_id": root.catalog_id,
        "library_version": metadata.version("jammi_files"),
        "exclusive_create": list(root.stores),
    }
    if root.copied is not None:
        fields["copied"] = root.copied._asdict()
    if root.coming:
        fields["coming"] = [commit._asdict() for commit in root.coming]
    return orjson.dumps(fields, option=orjson.OPT_INDENT_2)


def _prove_exclusive_create(storage: Storage) -> None:
    key = f"{PROBES}/{uuid.uuid4().hex}"
    storage.create(key, b"first")
    try:
        storage.create(key, b"second")
    except FileExistsError:
        return
    finally:
        with contextlib.suppress(StorageError):  # an orphan is vacuum's
            storage.delete(key)
    msg = (
        f"'{storage.root}': this store overwrites an object that was to be created only if absent,"
        " so commits of two writers would undo each other; use one that honours the condition"
        " (S3, Google Cloud Storage, Azure, Ceph, MinIO), or read the catalog only"
    )
    raise StorageError(msg)
