"""What would be computed again, in which order and why: a value that can be kept and sent.

Nothing is computed and nothing is written to make one. `planning` finds it, `recompute` runs it;
the JSON form is how a plan gets into another process, which goes on where the first one stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Self

from jammi_files.described import Described, list_of, one_of, optional, require_flag, tagged
from jammi_files.descriptors import Descriptor, External, require_descriptor
from jammi_files.errors import InvalidInputError
from jammi_files.schema import InputAnchor
from jammi_files.terminal import printable
from jammi_files.validation import require_count, require_strings, require_text

_Text = Annotated[str, require_text]
_OptionalText = Annotated[str | None, optional(require_text)]
_Names = Annotated[tuple[str, ...], require_strings]


class Cascade(StrEnum):
    """How far a recomputation goes (`B019`)."""

    REPORT_ONLY = "report_only"
    DOWNSTREAM = "downstream"

    @classmethod
    def default(cls) -> Self:
        """Return ``report_only``: the named table alone; what depends on it is only listed."""
        return cls("report_only")

    @classmethod
    def parse(cls, value: str) -> Self:
        """Return the cascade stored as ``value``.

        Raises:
            InvalidInputError: with the text of `B019`.
        """
        try:
            return cls(value)
        except ValueError:
            raise InvalidInputError(
                f"cascade must be 'report_only' or 'downstream' (got '{value}')"
            ) from None


def _cascade(_: str, value: Any) -> Cascade:  # noqa: ANN401 - from JSON or a caller
    return Cascade.parse(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Requested(Described):
    """It is the table that the plan was asked for."""

    tag = ("reason", "requested")

    def explain(self) -> str:
        """Say why."""
        return "it was asked for"


@dataclasses.dataclass(frozen=True, slots=True)
class ParentRecomputed(Described):
    """A table that it was made from is made anew by an earlier step."""

    tag = ("reason", "parent_recomputed")
    parent: _Text

    def explain(self) -> str:
        """Say why."""
        return f"its parent '{printable(self.parent)}' is made anew"


@dataclasses.dataclass(frozen=True, slots=True)
class ParentReplaced(Described):
    """Another result, which exists already, takes the place of a table that it was made from."""

    tag = ("reason", "parent_replaced")
    parent: _Text
    replaced_by: _Text

    def explain(self) -> str:
        """Say why."""
        parent, newer = printable(self.parent), printable(self.replaced_by)
        return f"its parent '{parent}' is replaced by '{newer}'"


StepReason = Requested | ParentRecomputed | ParentReplaced
"""Why a table is computed again; ``explain()`` says it in words."""

_one_reason = tagged(Requested, ParentRecomputed, ParentReplaced)


def _reasons(what: str, value: object) -> tuple[StepReason, ...]:
    if not isinstance(value, (list, tuple)):
        raise InvalidInputError(f"{what} must be a list, not {value!r}")
    return tuple(_one_reason(what, each) for each in value)


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedParent(Described):
    """A table that a step's table was made from; ``anew`` if the step takes another instead."""

    table_name: _Text
    anew: Annotated[bool, require_flag]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecomputeStep(Described):
    """One table to compute again, with what its sidecar says of it; all names are the old ones.

    ``inputs`` are its anchors in producer order; ``parents`` those of them that are results.
    """

    table_name: _Text
    definition_hash: _Text
    descriptor: Annotated[Descriptor, require_descriptor]
    inputs: Annotated[tuple[InputAnchor, ...], list_of(InputAnchor)]
    parents: Annotated[tuple[PlannedParent, ...], list_of(PlannedParent)]
    reasons: Annotated[tuple[StepReason, ...], _reasons]

    @property
    def producer(self) -> str:
        """The kind of its descriptor, e.g. ``embedding``."""
        return self.descriptor.producer

    @property
    def sources(self) -> tuple[InputAnchor, ...]:
        """The anchors on raw sources."""
        results = {parent.table_name for parent in self.parents}
        return tuple(anchor for anchor in self.inputs if anchor.source not in results)

    @property
    def producer_keys(self) -> tuple[str, ...]:
        """What may name its producer, the most specific first.

        The table, its definition hash, for an external one ``external:<producer_id>``, the kind.
        """
        own = self.descriptor.producer_id if isinstance(self.descriptor, External) else None
        named = () if own is None else (f"{self.producer}:{own}",)
        return (self.table_name, self.definition_hash, *named, self.producer)


class Obstacle(StrEnum):
    """Why a table cannot be computed again."""

    MISSING_SIDECAR = "missing_sidecar"
    DAMAGED_SIDECAR = "damaged_sidecar"
    SIDECAR_DISAGREES = "sidecar_disagrees"
    ROWS_GIVEN = "rows_given"
    INPUT_VANISHED = "input_vanished"
    PARENT_UNPLANNABLE = "parent_unplannable"


@dataclasses.dataclass(frozen=True, slots=True)
class Unplannable(Described):
    """A dependant that cannot be computed again: the obstacle, and what exactly it is in words."""

    table_name: _Text
    obstacle: Annotated[Obstacle, one_of(Obstacle)]
    why: _Text

    def explain(self) -> str:
        """Return the table and why, in one line."""
        return f"{printable(self.table_name)}: {printable(self.why)}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecomputePlan(Described):
    """An order in which a table, and with ``downstream`` all its dependants, are computed again.

    ``steps`` come parents first; of the dependants that one step makes ready, those whose names are
    smaller first (`B269`). ``downstream`` names every dependant in discovery order (`B268`),
    ``unplannable`` those that no step can be made of. ``plan_id`` is what its results are known
    by in the catalog; ``version`` is the version at which it was made. With ``replaced_by`` the
    named table is no step: that result stands for it.
    """

    plan_id: _Text
    table_name: _Text
    cascade: Annotated[Cascade, _cascade]
    version: Annotated[int, require_count]
    replaced_by: _OptionalText = None
    steps: Annotated[tuple[RecomputeStep, ...], list_of(RecomputeStep)]
    downstream: _Names
    unplannable: Annotated[tuple[Unplannable, ...], list_of(Unplannable)] = ()

    def __post_init__(self) -> None:
        Described.__post_init__(self)
        made = set() if self.replaced_by is None else {self.table_name}
        for step in self.steps:
            above = {each.table_name for each in step.parents if each.anew}
            if step.table_name in made or not above <= made:
                raise InvalidInputError(
                    f"a plan has each table once, after its parents: '{step.table_name}' has no"
                    " such place"
                )
            made.add(step.table_name)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[RecomputeStep]:
        return iter(self.steps)

    def __bool__(self) -> bool:
        return True  # a plan without steps is a plan still

    def __str__(self) -> str:
        return self.to_text()

    @property
    def table_names(self) -> tuple[str, ...]:
        """The tables to be computed again, in order, by their old names."""
        return tuple(step.table_name for step in self.steps)

    def to_text(self) -> str:
        """Return the plan in words: each step with its reasons, then what is left out and why."""
        count = f"{len(self)} step{'' if len(self) == 1 else 's'}"
        lines = [f"recompute {printable(self.table_name)} ({self.cascade}): {count}"]
        for number, step in enumerate(self.steps, 1):
            lines += [f"{number}. {printable(step.table_name)} ({step.producer})", *_told(step)]
        if self.unplannable:
            obstacles = (f"- {each.explain()}" for each in self.unplannable)
            lines += ["cannot be recomputed:", *obstacles]
        if self.downstream and self.cascade is Cascade.REPORT_ONLY:
            lines += ["depends on it and stays as it is:"]
            lines += [f"- {printable(name)}" for name in self.downstream]
        return "\n".join(lines)


def _told(step: RecomputeStep) -> Iterator[str]:
    yield from (f"   because {reason.explain()}" for reason in step.reasons)
    kept = [f"'{printable(parent.table_name)}'" for parent in step.parents if not parent.anew]
    kept += [f"source '{printable(anchor.source)}'" for anchor in step.sources]
    if kept:
        yield f"   reads {', '.join(dict.fromkeys(kept))}"
