"""What the processes of the concurrency tests do; importable by a spawned interpreter."""

from __future__ import annotations

import random
import threading
from typing import Any

from support.faults import HookedStorage, UnlockedStorage
from support.results import row

from jammi_files import local, manifest
from jammi_files.catalog import Catalog
from jammi_files.errors import AlreadyExistsError, ConflictError
from jammi_files.local import LocalStorage


def open_root(root: str, *, locked: bool = True) -> Catalog:
    """Open a root that no test needs synced, with or without its lock."""
    storage = LocalStorage(root, "os")
    return Catalog(storage if locked else UnlockedStorage(storage, lambda *_: None))


def count_up(root: str, rounds: int, *, locked: bool) -> int:
    """Read and increment the row count of ``t`` in transactions; return the conflicts met."""
    catalog, conflicts, done = open_root(root, locked=locked), 0, 0
    while done < rounds:
        try:
            with catalog.transaction() as tx:
                record = tx.get_result_table("t")
                assert record is not None
                tx.update_result_table_status("t", "building", record.row_count + 1)
        except ConflictError:
            assert not locked
            conflicts += 1
        else:
            done += 1
    return conflicts


def create_all(root: str, who: str, names: list[str], *, locked: bool) -> list[str]:
    """Try to create every name, in an order of one's own; return those that were won."""
    catalog, won = open_root(root, locked=locked), []
    for name in random.Random(who).sample(names, len(names)):
        try:
            catalog.create_result_table(**row(name, source_id=who))
        except AlreadyExistsError:
            continue
        won.append(name)
    return won


def write_pairs(root: str, rounds: int) -> None:
    """Set ``a`` and ``b`` to the same count, version after version, merging all the time."""
    manifest.INLINE_ROWS = manifest.FAN_OUT = 2  # type: ignore[assignment]
    catalog = open_root(root)
    for number in range(1, rounds + 1):
        with catalog.transaction() as tx:
            tx.update_result_table_status("a", "building", number)
            tx.create_result_table(**row(f"between{number}"))
            tx.update_result_table_status("b", "building", number)


def read_pairs(root: str, rounds: int) -> int:
    """Read both rows until the last round; each look is whole, none is older than the last."""
    catalog = open_root(root)
    pinned = catalog.snapshot()
    first, versions = pinned.scan(columns=["table_name", "row_count"]), set()
    last = 0
    while last < rounds:
        seen = catalog.snapshot()
        a, b = seen.get_result_table("a"), seen.get_result_table("b")
        assert a is not None
        assert b is not None
        assert a.row_count == b.row_count >= last
        assert seen.version >= max(versions, default=0)
        assert seen.scan().num_rows == 2 + a.row_count
        last = a.row_count
        versions.add(seen.version)
    assert pinned.scan(columns=["table_name", "row_count"]) == first
    return len(versions)


def create_one(catalog: Catalog, name: str) -> tuple[int, str | None]:
    """Create one row with a handle that came from another process."""
    record = catalog.create_result_table(**row(name))
    return catalog.version, record.tenant_id


def try_lock(catalog: Catalog) -> str:
    """Say whether the root's lock can be had right now."""
    local.LOCK_TIMEOUT = 0.05  # type: ignore[misc]
    try:
        with catalog.storage.lock():
            return "free"
    except ConflictError:
        return "held"


class Gate:
    """Stops the first thread that reaches one operation until the test lets it go, or on."""

    def __init__(
        self,
        kind: str,
        key: str = "",
        moment: str = "before",
        error: type[BaseException] | None = None,
    ) -> None:
        self._what = (moment, kind)
        self._key, self._error = key, error
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, moment: str, kind: str, key: str) -> None:
        """Wait if this is the operation and nobody has waited yet; then raise what is given."""
        if (moment, kind) == self._what and self._key in key and not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(60)
            if self._error is not None:
                raise self._error("struck")


def hooked(storage: Any, hook: Any, *, locked: bool = True) -> HookedStorage:
    """Return a storage that calls back, with or without its lock."""
    return (HookedStorage if locked else UnlockedStorage)(storage, hook)
