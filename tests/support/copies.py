"""What the tests of copying share: jobs done at once, and what a faithful copy is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pyarrow as pa
from support.roots import contents

from jammi_files import root_format
from jammi_files.catalog import Catalog
from jammi_files.copy_objects import Pair
from jammi_files.copy_root import CopyReport, copy_root
from jammi_files.log import key_of
from jammi_files.storage import Storage
from jammi_files.store import ResultStore

OWN = ("_catalog/lock", "_catalog/builds/", root_format.KEY)
"""What every root has for itself."""


class InlineExecutor(Executor):
    """Does every job when it is submitted, on the thread that submits it."""

    def submit(self, fn: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*given, **named))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)
        return future


def copied(source: Storage, target: Storage, *, verify: bool = True, **also: Any) -> CopyReport:
    """Copy a root job by job."""
    return copy_root(Pair(source, target, verify), executor=InlineExecutor(), **also)


def shown(storage: Storage) -> dict[str, bytes]:
    """Return every object that is part of what a root shows."""
    found = contents(storage)
    return {
        key: data
        for key, data in found.items()
        if not key.startswith(OWN) and not key.endswith(".tmp")
    }


def rows_of(storage: Storage, version: int | None = None) -> list[dict[str, Any]]:
    """Return all rows of a version, by name."""
    table = Catalog(storage).as_admin().snapshot(version).scan()
    for number, kind in enumerate(table.schema.types):
        if pa.types.is_timestamp(kind):  # of nanoseconds, which Python's own type cannot hold
            name = table.column_names[number]
            table = table.set_column(number, name, table.column(number).cast(pa.int64()))
    found: list[dict[str, Any]] = table.to_pylist()
    return sorted(found, key=lambda row: row["table_name"])


def opened(storage: Storage) -> ResultStore:
    """Open a root as its administrator."""
    return ResultStore(Catalog(storage)).as_admin()


def require_past(source: Storage, target: Storage) -> None:
    """Check that every version which the source keeps, and every tag, is the same at a copy."""
    here, there = opened(source).catalog, opened(target).catalog
    assert there.tags() == here.tags()
    keeps = here.snapshot()._snapshot.header.retention.keeps
    for version in filter(keeps, range(1, here.version + 1)):
        assert rows_of(target, version) == rows_of(source, version), version
        assert target.read(key_of(version)) == source.read(key_of(version)), version
    assert there.history() == here.history()
