"""Deleting the objects of results whose rows are gone, and never those of a row that came since.

A name may be used again at once. Where there is a lock, nobody commits a row between the look at
the newest rows and the deletion. Where there is none, only what was there before that look is
deleted: no later row can have put it there (FORMAT section "Deletion").
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

import pyarrow.compute as pc

from jammi_files import naming
from jammi_files.artifacts import Artifacts
from jammi_files.catalog import Catalog
from jammi_files.errors import JammiFilesError
from jammi_files.reads import CatalogSnapshot
from jammi_files.schema import ResultTableRecord
from jammi_files.scope import Scope

_AT_ONCE = 256
"""Results that are looked for and deleted while the writers' lock is held once."""

Outcomes = dict[str, JammiFilesError | None]
"""The paths that no row names, each with the error that kept the rest of its objects."""


def remove(
    catalog: Catalog,
    artifacts: Artifacts,
    paths: Sequence[str],
    *,
    ended: Collection[ResultTableRecord] = (),
) -> Outcomes:
    """Delete the data objects at stored paths, and what lies beside them, that no row names.

    Rows of all tenants count, those that are still as in ``ended`` do not. One result's trouble is
    not the others' (`B147`).
    """
    outcomes: Outcomes = {}
    waiting = list(dict.fromkeys(paths))
    while some := waiting[:_AT_ONCE]:
        waiting = waiting[_AT_ONCE:]
        try:
            outcomes |= _remove_some(catalog, artifacts, some, ended)
        except JammiFilesError as error:  # of the lock, or of the look
            outcomes |= dict.fromkeys(some, error)
    return outcomes


def _remove_some(
    catalog: Catalog,
    artifacts: Artifacts,
    paths: Sequence[str],
    ended: Collection[ResultTableRecord],
) -> Outcomes:
    is_locked = artifacts.storage.is_locked
    keys = {path: artifacts.keys_beside(path) for path in paths}
    if not is_locked:
        keys = {path: artifacts.those_there(beside) for path, beside in keys.items()}
    outcomes: Outcomes = {}
    with catalog.log.writing() if is_locked else contextlib.nullcontext():
        # The newest version, whatever staleness the handle allows.
        now = CatalogSnapshot(catalog.log.head(), Scope(admin=True), catalog)
        named = find_named(now, paths, ended)
        for path in paths:
            if path in named:
                continue
            try:
                artifacts.remove_objects(keys[path])
                outcomes[path] = None
            except JammiFilesError as error:
                outcomes[path] = error
    return outcomes


def find_named(
    snapshot: CatalogSnapshot, paths: Sequence[str], ended: Collection[ResultTableRecord]
) -> set[str]:
    """Return those of the stored paths of which a row names an object, or one beside it.

    Only rows that the snapshot sees count, and none that is still as in ``ended``.
    """
    beside = {path: naming.beside(path) for path in paths}
    wanted = sorted(frozenset[str]().union(*beside.values()))
    found = snapshot.scan(pc.field("parquet_path").isin(wanted), ["table_name", "parquet_path"])
    over = {
        record.table_name
        for record in ended
        if snapshot.get_result_table(record.table_name) == record
    }
    named = {row["parquet_path"] for row in found.to_pylist() if row["table_name"] not in over}
    return {path for path in paths if not beside[path].isdisjoint(named)}
