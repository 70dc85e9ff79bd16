"""The end of data that recovery gives up: of one row only, and only while it is still that row.

A name may be deleted and used again, and several rows may name one data object. So the newest rows
are looked at right before anything goes, with writers kept out where the storage has a lock.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import naming, rules
from jammi_files.artifacts import Artifacts
from jammi_files.draft import Draft
from jammi_files.errors import StateError
from jammi_files.log import Log
from jammi_files.schema import ResultTableRecord
from jammi_files.snapshot import Snapshot

_COLUMNS = ["table_name", "parquet_path"]


class Reaper:
    """Deletes the objects of failed rows."""

    def __init__(self, log: Log[Snapshot, Draft], artifacts: Artifacts) -> None:
        self.artifacts = artifacts
        self._log = log
        self._version = 0
        self._named: list[pa.Table] = []
        """What rows have named up to that version; those that are gone since may be among them."""

    def is_shared(self, record: ResultTableRecord) -> bool:
        """Say whether another row, of whichever tenant, names the same objects."""
        if not self._named:
            self._look(self._log.known)
        stem = naming.sibling(record.parquet_path, "")
        paths = pa.array([stem, stem + naming.DATA_SUFFIX])
        others = pc.is_in(pc.field("parquet_path"), paths)
        others &= pc.field("table_name") != record.table_name
        return any(table.filter(others).num_rows for table in self._named)

    def remove(self, failed: ResultTableRecord) -> None:
        """Delete the objects of a row that can no longer become ready.

        Raises:
            StateError: it is not that row any more, or another one names its data: nothing is
                deleted.
        """
        with self._log.writing():
            state = self._log.head()
            rules.require_unchanged(Draft(state), failed)
            self._look(state)
            if self.is_shared(failed):
                raise StateError(f"another row names the data of '{failed.table_name}'")
            self.artifacts.remove(failed)

    def _look(self, state: Snapshot) -> None:
        if state.version > self._version:
            self._named += [table.select(_COLUMNS) for table in state.tables(since=self._version)]
            self._version = state.version
