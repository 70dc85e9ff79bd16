"""What a command returns, and how it opens the root that it was given."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow.compute as pc

from jammi_files.errors import InvalidInputError, StorageError, TableNotFoundError
from jammi_files.jammi_db import CATALOG as JAMMI_CATALOG
from jammi_files.reads import CatalogSnapshot
from jammi_files.schema import ResultTableRecord
from jammi_files.store import ResultStore, connect
from jammi_files.terminal import Block

_NAMED = 3
"""Names that a message lists."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a command found; ``code`` is 1 where something is wrong with a result."""

    document: Mapping[str, Any]
    view: Sequence[Block]
    code: int = 0


class Event(NamedTuple):
    """One thing that a `Feed` tells; without a document it is for people only."""

    document: Mapping[str, Any] | None
    view: Sequence[Block]


@dataclasses.dataclass(frozen=True, slots=True)
class Feed:
    """What a command tells as it happens, until there is no more or an interrupt."""

    events: Iterator[Event]


def open_store(
    args: argparse.Namespace, *, creates: bool = False, whole: bool = False
) -> ResultStore:
    """Open the root; ``whole`` commands see every tenant unless one is named.

    Raises:
        StorageError: the root holds no catalog, and the command does not create one.
    """
    store = connect(args.root, tenant=args.tenant)
    if not creates and not store.catalog.exists:
        raise StorageError(f"no catalog at '{store.root}'{_reason(store)}")
    if args.admin or (whole and args.tenant is None):
        return store.as_admin()
    return store


def record_of(store: ResultStore, name: str) -> ResultTableRecord:
    """Return the visible row of that name, else the only one whose name begins with it.

    Raises:
        TableNotFoundError: there is none.
        InvalidInputError: several names begin so.
    """
    snapshot = store.catalog.snapshot()
    record = snapshot.get_result_table(name)
    if record is not None:
        return record
    found = _beginning_with(snapshot, name)
    if len(found) > 1:
        some = ", ".join(f"'{each}'" for each in sorted(found)[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise InvalidInputError(f"'{name}' begins {len(found)} names: {some}{more}")
    record = snapshot.get_result_table(found[0]) if found else None
    if record is None:
        raise TableNotFoundError.named(name)
    return record


def _beginning_with(snapshot: CatalogSnapshot, name: str) -> list[str]:
    try:
        name.encode()
    except UnicodeEncodeError:  # an argument that is no UTF-8: no name begins so
        return []
    begins = pc.starts_with(pc.field("table_name"), name)
    return snapshot.scan(begins, ["table_name"])["table_name"].to_pylist() if name else []


def new_catalog(store: ResultStore, *, is_new: bool) -> list[Block]:
    """Say that the command has made a catalog, if so."""
    return [f"New catalog at {store.root}"] if is_new else []


def nothing(args: argparse.Namespace) -> Block:
    """Say that there is no result, and what may show others."""
    if args.admin or args.tenant is not None:
        return "No results."
    return "No results without a tenant; --tenant UUID or --admin shows others."


def _reason(store: ResultStore) -> str:
    if store.storage.size(JAMMI_CATALOG) is not None:
        return ": this is a directory of jammi-db; see 'jammi-files import --help'"
    return "" if store.storage.list("") else ": the directory does not exist or is empty"
