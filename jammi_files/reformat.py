"""``format.json`` made anew where it is missing or damaged, under the same id where one is known.

Only that object holds the catalog's id, by which a copy knows its source (FORMAT section "Copy").
"""

from __future__ import annotations

import dataclasses
import re

import orjson

from jammi_files import garbage, root_format
from jammi_files.errors import FormatError, InvalidInputError, UnsupportedVersionError
from jammi_files.jammi_db import CATALOG as JAMMI_CATALOG
from jammi_files.storage import Storage

_ID = re.compile(rb'"catalog_id":\s*"([0-9a-f]{32})"')


@dataclasses.dataclass(frozen=True, slots=True)
class LostFormat:
    """Why the object has to be written anew; ``catalog_id`` is None if nothing says the id."""

    reason: str
    catalog_id: str | None


def find_loss(storage: Storage, catalog_id: str | None) -> LostFormat | None:
    """Say whether ``format.json`` has to be written anew, and under which id.

    Raises:
        InvalidInputError: ``catalog_id`` is no such id, or the root has another one; or the root is
            a directory of jammi-db.
        FormatError: the root is the catalog of another program.
        UnsupportedVersionError: a newer library wrote the object.
        StateError: the root is an unfinished copy.
    """
    if catalog_id is not None and not re.fullmatch("[0-9a-f]{32}", catalog_id):
        msg = f"catalog_id must be 32 hex digits, as format.json has them, not {catalog_id!r}"
        raise InvalidInputError(msg)
    try:
        known = root_format.read(storage)
    except UnsupportedVersionError:
        raise
    except FormatError as error:
        data = storage.read(root_format.KEY)
        if _names_another_format(data):
            raise
        said = _ID.search(data)
        return LostFormat(str(error), catalog_id or (said and said[1].decode()))
    if known is not None:
        if catalog_id not in (None, known.catalog_id):
            msg = f"the id of this catalog is {known.catalog_id}, not {catalog_id}; leave it out"
            raise InvalidInputError(msg)
        return None
    if storage.size(JAMMI_CATALOG) is not None:
        msg = f"'{storage.root}' is a directory of jammi-db: import it into a root of its own"
        raise InvalidInputError(msg)
    if storage.list("") or storage.list(garbage.CATALOG):
        return LostFormat("it is missing", catalog_id)
    return None


def _names_another_format(data: bytes) -> bool:
    try:
        name = orjson.loads(data)["format"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(name, str) and not name.startswith("jammi_files")


def write(storage: Storage, lost: LostFormat | None) -> None:
    """Write the object where there is none that can be read; errors as `root_format.ensure`."""
    try:
        known = root_format.read(storage)
    except FormatError:
        root_format.renew(storage, None if lost is None else lost.catalog_id)
    else:
        root_format.ensure(storage, known, None if lost is None else lost.catalog_id)
