"""Reuse of an exact result: the same definition over the same pinned inputs, newest first.

Reads only: a hit makes no row and no object (`B122`). What a miss lacks, `explain` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Literal, Self

from jammi_files.artifacts import Artifacts
from jammi_files.errors import FormatError, InvalidInputError
from jammi_files.reads import Reads
from jammi_files.schema import InputAnchor, ResultTableRecord, require_anchors

Verify = Literal["size", "digest"]
"""How far `probe` trusts bytes that exist (`B126`)."""


class CachePolicy(StrEnum):
    """Whether a producer looks for an exact result before it computes (`B013`)."""

    USE = "use"
    BYPASS = "bypass"

    @classmethod
    def default(cls) -> Self:
        """Return ``bypass``: reuse is asked for, never assumed (`B123`)."""
        return cls("bypass")

    @classmethod
    def parse(cls, value: str) -> Self:
        """Return the policy stored as ``value``.

        Raises:
            InvalidInputError: with the text of `B013`.
        """
        try:
            return cls(value)
        except ValueError:
            raise InvalidInputError(f"cache must be 'use' or 'bypass' (got '{value}')") from None


@dataclasses.dataclass(frozen=True, slots=True)
class CacheOutcome:
    """What a producer did: computed, or reused a table that it names (`B014`, `B124`)."""

    reused_table: str | None = None

    @classmethod
    def computed(cls) -> Self:
        """Return the outcome of a result that was made now."""
        return cls()

    @classmethod
    def reused(cls, table_name: str) -> Self:
        """Return the outcome of a result that existed."""
        return cls(table_name)

    @property
    def is_reused(self) -> bool:
        """True when nothing was computed."""
        return self.reused_table is not None

    @property
    def cache_outcome(self) -> str:
        """The stored tag: ``computed`` or ``reused``."""
        return "reused" if self.is_reused else "computed"

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form (`B014`)."""
        table = {} if self.reused_table is None else {"table": self.reused_table}
        return {"cache_outcome": self.cache_outcome, **table}


@dataclasses.dataclass(frozen=True, slots=True)
class Obtained:
    """A result that was asked for: its row, and whether it was computed or reused (`B124`)."""

    record: ResultTableRecord
    outcome: CacheOutcome

    @property
    def table_name(self) -> str:
        """The result's name."""
        return self.record.table_name


def lookup(reads: Reads, definition_hash: str, inputs: Sequence[InputAnchor]) -> str | None:
    """Return the name of the newest exact match without looking at its bytes (`B117`, `B120`)."""
    match = next(matches(reads, definition_hash, inputs), None)
    return None if match is None else match.table_name


def probe(
    reads: Reads,
    artifacts: Artifacts,
    definition_hash: str,
    inputs: Sequence[InputAnchor],
    verify: Verify | None = None,
) -> ResultTableRecord | None:
    """Return the newest exact match whose data is there (`B118`, `B119`, `B126`).

    Raises:
        InvalidInputError: ``verify`` is none of None, ``"size"`` and ``"digest"``.
    """
    if verify not in (None, "size", "digest"):
        raise InvalidInputError(f"verify must be None, 'size' or 'digest', not {verify!r}")
    found = matches(reads, definition_hash, inputs)
    return next((record for record in found if is_usable(artifacts, record, verify)), None)


def matches(
    reads: Reads, definition_hash: str, inputs: Sequence[InputAnchor]
) -> Iterator[ResultTableRecord]:
    """Yield the visible ready rows of this very result, newest first (`B112` to `B116`, `B121`).

    Anchors are compared as a multiset of source, value and kind; an unpinned one matches nothing.
    """
    wanted = sorted(require_anchors(inputs))
    if not all(anchor.is_pinned for anchor in wanted):
        return
    for record in reads.find_ready_result_tables_by_definition(definition_hash):
        if record.input_anchors is not None and sorted(record.input_anchors) == wanted:
            yield record


def is_usable(artifacts: Artifacts, record: ResultTableRecord, verify: Verify | None) -> bool:
    """Say whether the data of a match can be handed out.

    None asks whether it exists: one stat. ``"size"`` reads its end, which a truncated object or one
    with bytes appended does not have, and compares the row count. ``"digest"`` reads all of it.
    """
    try:
        if verify is None:
            return artifacts.exists(record)
        if verify == "size":
            return artifacts.count_rows(record) == record.row_count
        return artifacts.verify(record, record.definition_hash).ok
    except (FileNotFoundError, FormatError):
        return False
