"""One step of a recomputation as `reuse` is asked for it, and what its producer is given.

A step whose inputs can be pinned is the same job as `get_or_build` of that result. The named table
must be computed though an equal result exists (`B271`), and an unpinned input matches nothing
(`B115`): those are jobs of their plan alone, found again by the properties of their row.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_files.artifacts import Artifacts
from jammi_files.cache import Verify, is_usable
from jammi_files.descriptors import Descriptor
from jammi_files.errors import InvalidInputError, JammiFilesError, StateError
from jammi_files.frames import tables
from jammi_files.materialization import MaterializationEnv
from jammi_files.reads import Reads
from jammi_files.recompute_plan import RecomputeStep
from jammi_files.reuse import Job, Reuse
from jammi_files.schema import InputAnchor, ResultTableRecord

if TYPE_CHECKING:
    import pyarrow.dataset as ds

PLAN = "recompute_plan"
ORIGINAL = "recompute_of"
"""The properties of a recomputed row: the plan and the old table (FORMAT, "Recompute")."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecomputeParent:
    """A result that a step reads: its old and its present name, equal if it was kept."""

    original: str
    table_name: str
    dataset: ds.Dataset


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecomputeContext:
    """All that a producer needs to compute one result again.

    ``descriptor`` and ``inputs`` already name the new parents, ``step`` holds those of the old
    result, whose row is ``original``. ``store`` sees what the new result's owner sees.
    """

    step: RecomputeStep
    original: ResultTableRecord
    descriptor: Descriptor
    env: MaterializationEnv
    inputs: tuple[InputAnchor, ...]
    parents: tuple[RecomputeParent, ...]
    store: Reuse

    def dataset(self, table_name: str | None = None) -> ds.Dataset:
        """Return the data of a parent by its new or old name; without a name of the only one.

        Raises:
            InvalidInputError: there is no such parent, or none or several and no name was given.
        """
        named = [
            parent
            for parent in self.parents
            if table_name in (None, parent.table_name, parent.original)
        ]
        if len(named) != 1:
            names = ", ".join(f"'{parent.table_name}'" for parent in self.parents)
            raise InvalidInputError(f"name one of its parents: {names or 'it has none'}")
        return named[0].dataset


@dataclasses.dataclass(frozen=True, slots=True)
class StepJob(Job):
    """The job of one step; ``is_named`` for the table that the plan was asked for."""

    plan_id: str
    original: str
    is_named: bool

    @property
    def is_shared(self) -> bool:
        """True: of all who run the plan one computes, whatever the inputs are."""
        return True

    @property
    def is_own(self) -> bool:
        """True if no result outside of the plan can stand for this one."""
        return self.is_named or not all(anchor.is_pinned for anchor in self.inputs)

    def identity(self) -> list[Any]:
        """Return what is claimed: the result itself, or this step of this plan."""
        if not self.is_own:
            return Job.identity(self)
        return [self.definition_hash, _pinned(self.inputs), PLAN, self.plan_id, self.original]

    def find(
        self, reads: Reads, artifacts: Artifacts, verify: Verify | None
    ) -> ResultTableRecord | None:
        """Return the newest usable result that is this one."""
        if not self.is_own:
            return Job.find(self, reads, artifacts, verify)
        made = reads.find_ready_result_tables_by_definition(self.definition_hash)
        mine = (record for record in made if self._made(record))
        return next((record for record in mine if is_usable(artifacts, record, verify)), None)

    def _made(self, record: ResultTableRecord) -> bool:
        told = record.properties or {}
        return (
            (told.get(PLAN), told.get(ORIGINAL)) == (self.plan_id, self.original)
            and record.input_anchors is not None
            and _pinned(record.input_anchors) == _pinned(self.inputs)
        )


def _pinned(anchors: Iterable[InputAnchor]) -> list[list[str]]:
    """Return anchors to be compared within one plan: when an unpinned source was read is no part.

    The plan is one job, and its caller has said that nothing better can be known of that source.
    """
    return sorted(
        [anchor.source, anchor.anchor if anchor.is_pinned else "", anchor.kind.value]
        for anchor in anchors
    )


def stored_schema(artifacts: Artifacts, record: ResultTableRecord) -> pa.Schema | None:
    """Return the schema of a result's data, None if there is nothing left to read."""
    try:
        return artifacts.dataset(record).schema
    except (JammiFilesError, pa.ArrowException, OSError):
        return None


def checked_pieces(made: object, old: pa.Schema | None) -> Iterator[pa.Table]:
    """Yield what a producer returned, if its columns are those of the old result.

    Raises:
        InvalidInputError: nothing was returned, or other columns.
    """
    seen: pa.Schema | None = None
    target: pa.Schema | None = None
    for table in tables(made):
        if target is None or not table.schema.equals(seen, check_metadata=True):
            seen = table.schema
            target = seen if old is None else _fitting(seen, old)
        yield table if target is seen else table.cast(target)
    if target is None:
        raise InvalidInputError(
            "the producer yielded nothing; for an empty result return a table without rows"
        )


def _fitting(new: pa.Schema, old: pa.Schema) -> pa.Schema:
    """Return the schema to write: the producer's own, unless the old one says more.

    Names, order and types must be equal as Parquet stores them. Which columns may be null, and
    metadata where the producer gives none, are the old result's.
    """
    stored = _as_stored(new)
    if _loose(stored) != _loose(old):
        raise InvalidInputError(
            f"the producer returned other columns: {_words(stored)}; expected: {_words(old)}"
        )
    return new if stored.equals(old) and (new.metadata or not old.metadata) else old


def _as_stored(schema: pa.Schema) -> pa.Schema:
    file = io.BytesIO()
    try:
        pq.write_table(schema.empty_table(), file)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InvalidInputError(f"Parquet cannot hold this schema: {error}") from error
    file.seek(0)
    return pq.read_schema(file)


def _loose(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in schema]


def _words(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema) or "none"


def only_ready(record: ResultTableRecord, artifacts: Artifacts) -> ResultTableRecord:
    """Return a row whose data can be read.

    Raises:
        StateError: it is not ready, or its bytes are gone.
    """
    if not record.is_ready or not artifacts.exists(record):
        state = f"is {record.status}" if not record.is_ready else "has lost its bytes"
        raise StateError(f"Result table '{record.table_name}' {state}; make a new plan")
    return record
