"""The commits behind a catalog: who changed what and when, as one scope sees it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import NamedTuple

from jammi_files import manifest
from jammi_files.draft import Draft
from jammi_files.errors import FormatError, VersionNotFoundError
from jammi_files.log import Log, key_of
from jammi_files.reads import admit_table, vanished
from jammi_files.scope import Scope
from jammi_files.snapshot import Snapshot
from jammi_files.timestamps import format_timestamp

_log = logging.getLogger("jammi_files")


class CommitInfo(NamedTuple):
    """One entry of `Catalog.history`; ``tables`` are the visible names that it changed."""

    version: int
    commit_id: str
    operation: str
    committed_at: str
    writer: str
    tables: tuple[str, ...]


def read_history(log: Log[Snapshot, Draft], scope: Scope, limit: int | None) -> list[CommitInfo]:
    """Return the newest ``limit`` commits that the scope may know of, oldest first."""
    retention = log.head().header.retention
    found: list[CommitInfo] = []
    for version in filter(retention.keeps, reversed(log.versions())):
        if limit is not None and len(found) >= limit:
            break
        with contextlib.suppress(VersionNotFoundError):  # retired meanwhile
            try:
                found += _commit_info(log, log.at(version), scope)
            except FormatError as error:  # the others can be told all the same
                _log.warning("left out version %s: %s", version, error)
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
    with contextlib.suppress(VersionNotFoundError):
        if "delete" in header.operation:  # the tombstones may be merged away already
            before = log.at(header.version - 1)
            names |= {row.record.table_name for row, _ in vanished(before, snapshot, scope)}
    if names or scope.admin:
        yield CommitInfo(
            header.version,
            header.commit_id,
            header.operation,
            format_timestamp(header.committed_at),
            header.writer,
            tuple(sorted(names)),
        )
