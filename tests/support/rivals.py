"""What the processes of the bucket tests do; importable by a spawned interpreter."""

from __future__ import annotations

import dataclasses
import time
import uuid
from typing import Any

from support.processes import LIMIT

from jammi_files.catalog import Catalog
from jammi_files.draft import Draft
from jammi_files.errors import CommitUnknownError, ConflictError, JammiFilesError
from jammi_files.roots import open_storage
from jammi_files.rules import update_status
from jammi_files.schema import ResultTableRecord, ResultTableStatus
from jammi_files.storage import Storage

JOURNAL = "journal"


def open_bucket(url: str, options: dict[str, Any]) -> Catalog:
    """Open a root in a bucket without the cache of segments."""
    return Catalog(open_storage(url, storage_options=options, cache_dir="off"))


def meet(storage: Storage, crowd: int) -> None:
    """Return once so many processes have come here."""
    storage.create(f"meeting/{uuid.uuid4().hex}", b"here")
    deadline = time.monotonic() + LIMIT
    while len(storage.list("meeting")) < crowd:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def increment(catalog: Catalog, name: str = "t") -> ResultTableRecord:
    """Read and increment a row count as one commit, which goes on until it is applied."""

    def change(draft: Draft) -> ResultTableRecord:
        row = draft.get(name)
        assert row is not None
        count = row.record.row_count + 1
        return update_status(draft, catalog.scope, name, ResultTableStatus.BUILDING, count)

    while True:
        try:
            return catalog.log.commit(change)
        except ConflictError:  # certainly not applied; a starved machine is slow enough for that
            continue


def count_up(url: str, options: dict[str, Any], rounds: int, crowd: int) -> None:
    """Increment as often as that without a pause, once so many processes are connected."""
    catalog = open_bucket(url, options)
    catalog.get_result_table("t")
    meet(catalog.storage, crowd)
    for _ in range(rounds):
        increment(catalog)


def append_word(catalog: Catalog, word: str, name: str = "t") -> None:
    """Append a word to a row's journal as one commit."""

    def change(draft: Draft) -> None:
        row = draft.get(name)
        assert row is not None
        properties = dict(row.record.properties or {})
        properties[JOURNAL] = f"{properties.get(JOURNAL, '')} {word}".strip()
        draft.put(dataclasses.replace(row.record, properties=properties), "update")

    catalog.log.commit(change)


def journal(catalog: Catalog, name: str = "t") -> list[str]:
    """Return the words of a row's journal."""
    record = catalog.get_result_table(name)
    assert record is not None
    return (record.properties or {}).get(JOURNAL, "").split()


def append_words(url: str, options: dict[str, Any], who: int, rounds: int) -> list[list[str]]:
    """Append words one by one; return each with what the call said, and its commit's id if any."""
    catalog = open_bucket(url, options)
    told = []
    for number in range(rounds):
        word, outcome, commit_id = f"{who}-{number}", "done", ""
        try:
            append_word(catalog, word)
        except JammiFilesError as error:
            outcome = type(error).__name__
            commit_id = error.commit_id if isinstance(error, CommitUnknownError) else ""
        told.append([word, outcome, commit_id])
    return told
