"""What became of each step of a recomputation, while it runs and after it; values only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from jammi_files.recompute_plan import RecomputePlan, RecomputeStep
from jammi_files.terminal import printable


class RecomputeOutcome(StrEnum):
    """How a step ended (`B270`); `REUSED` also if an earlier run of the plan had computed it."""

    COMPUTED = "computed"
    REUSED = "reused"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def ok(self) -> bool:
        """True if there is a new result."""
        return self in (RecomputeOutcome.COMPUTED, RecomputeOutcome.REUSED)


@dataclasses.dataclass(frozen=True, slots=True)
class RecomputeResult:
    """One step: the old table, the new one (None unless ``ok``), and what happened.

    ``error`` says in words why a step failed or was skipped, ``exception`` is what a failed one
    raised; ``seconds`` is the time it took here, waiting for another process included.
    """

    original: str
    recomputed: str | None
    outcome: RecomputeOutcome
    error: str | None = None
    seconds: float = 0.0
    exception: Exception | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """True if there is a new result."""
        return self.outcome.ok

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: that of jammi-db, then ``error`` and ``seconds``."""
        return {
            "original": self.original,
            "recomputed": self.recomputed,
            "outcome": self.outcome.value,
            "error": self.error,
            "seconds": self.seconds,
        }

    def explain(self) -> str:
        """Return what happened in one line."""
        name = printable(self.original)
        if self.recomputed is not None:
            told = f"{self.outcome} as {printable(self.recomputed)}"
        else:
            told = f"{self.outcome}: {printable(self.error or '')}"
        return f"{name} {told} ({self.seconds:.3g} s)"


@dataclasses.dataclass(frozen=True, slots=True)
class RecomputeProgress:
    """What a progress callback is told: a step begins (``result`` is None) or has ended.

    ``done`` counts the steps that have ended, of ``total``.
    """

    step: RecomputeStep
    result: RecomputeResult | None
    done: int
    total: int

    def __str__(self) -> str:
        told = f"{printable(self.step.table_name)} begins"
        return f"{self.done}/{self.total} {told if self.result is None else self.result.explain()}"


@dataclasses.dataclass(frozen=True, slots=True)
class RecomputeReport:
    """What `ResultStore.recompute` did: one result per step, in the plan's order."""

    plan: RecomputePlan
    results: tuple[RecomputeResult, ...]

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[RecomputeResult]:
        return iter(self.results)

    def __bool__(self) -> bool:
        return True  # one without steps is a report still: `ok` says whether all went well

    def __str__(self) -> str:
        return self.to_text()

    @property
    def ok(self) -> bool:
        """True if every table that the plan is about has been made anew."""
        return not self.plan.unplannable and all(result.ok for result in self.results)

    @property
    def recomputed(self) -> dict[str, str]:
        """The new name of each table that has one, by its old name."""
        return {each.original: each.recomputed for each in self.results if each.recomputed}

    def of(self, outcome: RecomputeOutcome | str) -> tuple[RecomputeResult, ...]:
        """Return the steps that ended so."""
        wanted = RecomputeOutcome(outcome)
        return tuple(result for result in self.results if result.outcome is wanted)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: ``recomputed`` and ``downstream_stale`` are those of jammi-db."""
        return {
            "plan_id": self.plan.plan_id,
            "ok": self.ok,
            "recomputed": [result.to_dict() for result in self.results],
            "downstream_stale": list(self.plan.downstream),
            "unplannable": [each.to_dict() for each in self.plan.unplannable],
        }

    def to_text(self) -> str:
        """Return the report in words, one line for each step."""
        counts = ", ".join(
            f"{len(self.of(outcome))} {outcome}" for outcome in RecomputeOutcome if self.of(outcome)
        )
        lines = [f"recompute {printable(self.plan.table_name)}: {counts or 'nothing to do'}"]
        lines += [f"- {result.explain()}" for result in self.results]
        if self.plan.unplannable:
            obstacles = (f"- {each.explain()}" for each in self.plan.unplannable)
            lines += ["cannot be recomputed:", *obstacles]
        if not all(result.ok for result in self.results):
            lines.append("recompute the same plan again to go on where it stopped")
        return "\n".join(lines)
