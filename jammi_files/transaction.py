"""Many changes as one version."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from jammi_files.draft import Draft
from jammi_files.errors import StateError
from jammi_files.operations import Operations
from jammi_files.rows import Row
from jammi_files.scope import Scope
from jammi_files.snapshot import Snapshot
from jammi_files.storage import Storage

R = TypeVar("R")


class Transaction(Operations):
    """The catalog inside ``with catalog.transaction()``: its reads and writes, committed as one."""

    def __init__(self, draft: Draft, storage: Storage, scope: Scope) -> None:
        self._draft: Draft | None = draft
        self._storage = storage
        self._scope = scope
        self.ended: list[str] = []

    @property
    def scope(self) -> Scope:
        """What this handle may see and change."""
        return self._scope

    def close(self) -> None:
        """End the use of this object; the block that made it has ended."""
        self._draft = None

    def _open_draft(self) -> Draft:
        if self._draft is None:
            raise StateError("this transaction has ended; begin another one")
        return self._draft

    def _seen(self) -> tuple[Snapshot, Scope]:
        return self._open_draft().view(), self._scope

    def _commit(self, change: Callable[[Draft], R]) -> R:
        draft = self._open_draft()
        mark = draft.mark()
        try:
            return change(draft)
        except BaseException:
            draft.rollback(mark)
            raise

    def _peek(self, table_name: str) -> Row | None:
        return self._open_draft().get(table_name)

    def _ended(self, table_name: str) -> None:
        self.ended.append(table_name)
