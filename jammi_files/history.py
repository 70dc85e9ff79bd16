"""The commits behind a catalog: who changed what and when, as one scope sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import NamedTuple

from jammi_files import events, manifest
from jammi_files.draft import Draft
from jammi_files.errors import FormatError, VersionNotFoundError
from jammi_files.events import Event
from jammi_files.log import Log, key_of
from jammi_files.reads import admit_table, seen_row, vanished
from jammi_files.rows import Row
from jammi_files.schema import ResultTableStatus
from jammi_files.scope import Scope
from jammi_files.snapshot import Snapshot
from jammi_files.timestamps import format_timestamp


class CommitInfo(NamedTuple):
    """One entry of `Catalog.history`; ``tables`` are the visible names that it changed."""

    version: int
    commit_id: str
    operation: str
    committed_at: str
    writer: str
    tables: tuple[str, ...]


def read_history(
    log: Log[Snapshot, Draft], scope: Scope, limit: int | None, since: int
) -> list[CommitInfo]:
    """Return the newest ``limit`` commits after ``since`` that the scope may know of, in order."""
    retention = log.head().header.retention
    found: list[CommitInfo] = []
    for version in filter(retention.keeps, reversed(log.versions())):
        if version <= since or (limit is not None and len(found) >= limit):
            break
        with contextlib.suppress(VersionNotFoundError):  # retired meanwhile
            try:
                found += _commit_info(log, log.at(version), scope)
            except FormatError as error:  # the others can be told all the same
                text = "left out version %s: %s"
                events.warn(Event.LEFT_OUT, text, version, error, version=version)
    return found[::-1]


def find_version_at(log: Log[Snapshot, Draft], instant: int) -> int:
    """Find the newest version committed at or before ``instant``, by bisection."""
    versions = log.versions()
    low, high = 0, len(versions)
    while low < high:
        middle = (low + high) // 2
        try:
            number = versions[middle]
            header = manifest.decode_header(key_of(number), log.read(number))
            late = header.committed_at > instant
        except VersionNotFoundError:
            late = False  # retired versions are older than every readable one
        low, high = (low, middle) if late else (middle + 1, high)
    return versions[low - 1] if low else 0


def _commit_info(
    log: Log[Snapshot, Draft], snapshot: Snapshot, scope: Scope
) -> Iterator[CommitInfo]:
    header = snapshot.header
    written = admit_table(snapshot.tables(since=header.version - 1), scope, ["table_name"])
    names = set(written.column("table_name").to_pylist())
    before: Snapshot | None = None
    with contextlib.suppress(VersionNotFoundError):
        # Tombstones may be merged away already; and threads of several tenants share commits.
        if "delete" in header.operation or "+" in header.operation:
            before = log.at(header.version - 1)
            names |= {row.record.table_name for row, _ in vanished(before, snapshot, scope)}
    if names or scope.admin:
        yield CommitInfo(
            header.version,
            header.commit_id,
            _operation(before, snapshot, names, scope),
            format_timestamp(header.committed_at),
            header.writer,
            tuple(sorted(names)),
        )


def _operation(
    before: Snapshot | None, snapshot: Snapshot, names: Collection[str], scope: Scope
) -> str:
    """Return what a commit did, without what it did to rows that the scope does not see."""
    operation = snapshot.header.operation
    if "+" not in operation or _sees_all(snapshot, scope):
        return operation
    told, done = operation.split("+"), set[str]()
    for name in names:
        old = None if before is None else seen_row(before, name, scope)
        done |= _steps(old, seen_row(snapshot, name, scope), told)
    return "+".join(each for each in told if each in done) or "update"


def _sees_all(snapshot: Snapshot, scope: Scope) -> bool:
    """Say whether every row and tombstone that a commit wrote is visible."""
    for deleted in (False, True):
        for table in snapshot.tables(since=snapshot.version - 1, deleted=deleted):
            if admit_table([table], scope, ["table_name"]).num_rows < table.num_rows:
                return False
    return True


def _steps(old: Row | None, new: Row | None, told: Collection[str]) -> set[str]:
    """Return those operations of a commit by which a row became another one.

    A new row was created or imported. Where the commit did both, one that is still being built was
    created; any other one was imported, as nearly all of them are, and that alone is said.
    """
    if new is None:
        return {"delete"}
    status = new.record.status
    if old is not None and old.record.created_at == new.record.created_at:
        return {"update"} if old.record.status == status else {status.value}
    replaced = set() if old is None else {"delete"}
    is_building = status is ResultTableStatus.BUILDING
    if "import" in told and not (is_building and "create" in told):
        return {"import", *replaced}
    return {"create", status.value, *replaced}
