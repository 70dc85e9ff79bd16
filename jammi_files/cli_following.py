"""What each command does that looks along the versions: history, differences, commits to come."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from jammi_files import cli_result_views as result_views
from jammi_files import cli_views as views
from jammi_files.catalog import Catalog
from jammi_files.cli_answer import Answer, Event, Feed, open_store
from jammi_files.errors import FormatError, InvalidInputError
from jammi_files.reads import CatalogSnapshot
from jammi_files.schema import ResultTableRecord


def run_history(args: argparse.Namespace) -> Answer:
    """List the commits that changed visible rows, oldest first."""
    commits = open_store(args).catalog.history(limit=args.limit)
    document = {"commits": [commit._asdict() for commit in commits]}
    return Answer(document, [views.commits(commits)])


def run_diff(args: argparse.Namespace) -> Answer:
    """Show the net difference between two versions.

    Raises:
        InvalidInputError: the first version is the newer one.
        VersionNotFoundError: there is no such version or tag.
    """
    catalog = open_store(args).catalog
    old = _at(catalog, args.old)
    new = catalog.snapshot() if args.new is None else _at(catalog, args.new)
    if old.version > new.version:
        message = f"version {old.version} is newer than {new.version}: give the older one first"
        raise InvalidInputError(message)
    table = catalog.changes(old.version, new.version).select(
        ["change_type", "version", "table_name"]
    )
    changes = [
        result_views.change(
            change, _row(old, change["table_name"]), _row(new, change["table_name"])
        )
        for change in table.sort_by(
            [("version", "ascending"), ("table_name", "ascending")]
        ).to_pylist()
    ]
    document = {"old": old.version, "new": new.version, "changes": changes}
    return Answer(document, result_views.changes(document))


def _at(catalog: Catalog, version: int | str) -> CatalogSnapshot:
    return catalog.snapshot(tag=version) if isinstance(version, str) else catalog.snapshot(version)


def _row(snapshot: CatalogSnapshot, name: str) -> ResultTableRecord | None:
    try:
        return snapshot.get_result_table(name)
    except FormatError:  # of a newer library: that it changed can be told all the same
        return None


def run_watch(args: argparse.Namespace) -> Feed:
    """Tell each commit as it happens."""
    catalog = open_store(args).catalog
    return Feed(_commits(catalog, args.since, args.limit, args.interval))


def _commits(
    catalog: Catalog, since: int | None, limit: int | None, interval: float
) -> Iterator[Event]:
    seen = catalog.version if since is None else since
    yield Event(None, [f"Watching {catalog.storage.root} after version {seen}; Ctrl-C ends it."])
    told = 0
    while limit is None or told < limit:
        newest = catalog.version
        if newest <= seen:
            time.sleep(interval)
            continue
        for commit in catalog.history(since=seen):
            seen = commit.version
            yield Event(commit._asdict(), [views.commit_line(commit)])
            told += 1
            if told == limit:
                return
        seen = max(seen, newest)
