"""What can be said of a result's freshness: four answers, and the reasons behind them in words.

Values only; `freshness` finds them. The JSON forms are those of jammi-db, with a few reasons of our
own (`B016` to `B018`, `B242`, `B243`).
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Self

from jammi_files.schema import AnchorKind

MOST_CAUSES = 100
"""Ancestors whose causes one answer spells out, nearest first; ``more`` counts the rest."""


@dataclasses.dataclass(frozen=True, slots=True)
class CurrentAnchor:
    """The present state of an input: a value of its anchor kind, vanished, or undecidable (`B018`).

    A resolver may return one; `vanished` is how it says that a source is gone.
    """

    current_anchor: str
    value: str | None = None
    why: str = dataclasses.field(default="", compare=False)

    @classmethod
    def at(cls, kind: AnchorKind, value: str) -> Self:
        """Return the state that ``value`` names."""
        return cls(kind.value, value)

    @classmethod
    def vanished(cls, why: str = "it no longer exists") -> Self:
        """Return the state of an input that is gone."""
        return cls("vanished", None, why)

    @classmethod
    def undecidable(cls) -> Self:
        """Return the state of an input that nobody here can look at."""
        return cls("undecidable")

    @property
    def is_vanished(self) -> bool:
        """True for what `vanished` returns."""
        return self.current_anchor == "vanished"

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form (`B018`)."""
        if self.value is None:
            return {"current_anchor": self.current_anchor}
        key = "digest" if self.current_anchor == AnchorKind.RESULT_DIGEST else "version"
        return {"current_anchor": self.current_anchor, key: self.value}


class _Reason:
    __slots__ = ()
    reason: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, the tag under ``reason`` first (`B017`)."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        compared = {field.name: getattr(self, field.name) for field in fields if field.compare}
        return {"reason": self.reason, **compared}


@dataclasses.dataclass(frozen=True, slots=True)
class DefinitionChanged(_Reason):
    """The caller would produce it in another way now (`B234`)."""

    reason = "definition_changed"
    recorded: str
    current: str

    def explain(self) -> str:
        """Say what happened and what helps."""
        return (
            f"the definition changed from {self.recorded[:12]} to {self.current[:12]}; produce it"
            " again, or see explain_stale with the descriptor and environment for the fields"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class InputAdvanced(_Reason):
    """An input is no longer in the state in which it was read (`B235`)."""

    reason = "input_advanced"
    source: str
    recorded: str
    current: str

    def explain(self) -> str:
        """Say what happened and what helps."""
        return (
            f"input '{self.source}' was read at {self.recorded} and is now at {self.current};"
            " produce it again"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class InputVanished(_Reason):
    """An input is absent, invisible, not ready, or its bytes are gone (`B236`, `B241`)."""

    reason = "input_vanished"
    source: str
    why: str = dataclasses.field(default="", compare=False)

    def explain(self) -> str:
        """Say what happened and what helps."""
        return (
            f"input '{self.source}' has vanished: {self.why or 'it no longer exists'};"
            " restore it, or produce this from another input"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class InputSuperseded(_Reason):
    """A newer result of the same logical output as the input exists (`B242`)."""

    reason = "input_superseded"
    source: str
    newer: str

    def explain(self) -> str:
        """Say what happened and what helps."""
        return f"input '{self.source}' was made again: produce this from '{self.newer}'"


@dataclasses.dataclass(frozen=True, slots=True)
class NotReady(_Reason):
    """The result itself is not ready: it was failed after it had been attested."""

    reason = "not_ready"
    status: str

    def explain(self) -> str:
        """Say what happened and what helps."""
        return f"the result itself is {self.status}; produce it again"


InputReason = InputAdvanced | InputVanished | InputSuperseded


@dataclasses.dataclass(frozen=True, slots=True)
class AncestorStale(_Reason):
    """An ancestor is stale; ``path`` leads to it from the direct input (`B243`)."""

    reason = "ancestor_stale"
    path: tuple[str, ...]
    cause: InputReason

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with that of the cause inside."""
        return {"reason": self.reason, "path": list(self.path), "cause": self.cause.to_dict()}

    def explain(self) -> str:
        """Say what happened and what helps."""
        path = " -> ".join(f"'{name}'" for name in self.path)
        return f"its ancestor {path} is stale and comes first: {self.cause.explain()}"


StaleReason = (
    DefinitionChanged | InputAdvanced | InputVanished | InputSuperseded | NotReady | AncestorStale
)


@dataclasses.dataclass(frozen=True, slots=True)
class OpenInput:
    """An input whose present state nobody here can look at; ``path`` is () for a direct one."""

    source: str
    kind: str
    path: tuple[str, ...] = ()

    def explain(self) -> str:
        """Say what is unknown and what would decide it."""
        of = f" of its ancestor '{self.path[-1]}'" if self.path else ""
        if self.kind == AnchorKind.UNPINNED_AT_INSTANT:
            return (
                f"input '{self.source}'{of} was read without a version; pin it by source_anchor"
                f" when it is produced again, or pass resolvers={{'{self.kind}': f}} where"
                f" f('{self.source}') returns when it last changed"
            )
        return (
            f"input '{self.source}'{of} is pinned by a {self.kind}; pass"
            f" resolvers={{'{self.kind}': f}} where f('{self.source}') returns its present version"
        )


class _Staleness(abc.ABC):
    __slots__ = ()
    staleness: ClassVar[str]
    ok: ClassVar[bool] = False
    is_stale: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.explain()

    def explain(self) -> str:
        """Return the answer and its reasons in words, one a line."""
        return "\n".join(self.lines())

    @abc.abstractmethod
    def lines(self) -> list[str]:
        """Return the verdict, then a line for each reason."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fresh(_Staleness):
    """Nothing that it was made from or by has changed (`B233`, `B238`).

    ``definition_compared`` is False if the caller gave no definition: inputs alone were compared
    (`B245`).
    """

    staleness = "fresh"
    ok = True
    definition_compared: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (`B016`)."""
        return {"staleness": self.staleness, **_compared(self.definition_compared)}

    def lines(self) -> list[str]:
        """Return the answer in words."""
        return ["fresh: every input is as it was read" + _only_inputs(self.definition_compared)]


@dataclasses.dataclass(frozen=True, slots=True)
class Stale(_Staleness):
    """Something has changed, and every input of its own could be looked at.

    ``more`` counts the stale ancestors that are left out of ``reasons``.
    """

    staleness = "stale"
    is_stale = True
    reasons: tuple[StaleReason, ...]
    definition_compared: bool = True
    more: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (`B016`)."""
        fields = {"staleness": self.staleness, "reasons": [r.to_dict() for r in self.reasons]}
        return {**fields, **_compared(self.definition_compared), **_counted(self.more)}

    def lines(self) -> list[str]:
        """Return the verdict, then a line for each reason."""
        lines = [reason.explain() for reason in self.reasons]
        return _lines("stale" + _only_inputs(self.definition_compared), lines, self.more)


@dataclasses.dataclass(frozen=True, slots=True)
class Undecidable(_Staleness):
    """Some input cannot be looked at, so the result is never called fresh (`B237`).

    ``unpinned`` names the sources: its own in anchor order, then its ancestors'. What could be
    decided stands in ``decided_reasons``; `is_stale` is True if there are any, since one is enough.
    """

    staleness = "undecidable"
    unpinned: tuple[str, ...]
    decided_reasons: tuple[StaleReason, ...] = ()
    definition_compared: bool = True
    more: int = 0
    inputs: tuple[OpenInput, ...] = dataclasses.field(default=(), compare=False)

    @property
    def is_stale(self) -> bool:  # type: ignore[override]  # a constant for its siblings
        """True if one reason was decided, whatever the open inputs turn out to be."""
        return bool(self.decided_reasons)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (`B016`)."""
        return {
            "staleness": self.staleness,
            "unpinned": list(self.unpinned),
            "decided_reasons": [reason.to_dict() for reason in self.decided_reasons],
            **_compared(self.definition_compared),
            **_counted(self.more),
        }

    def lines(self) -> list[str]:
        """Return the verdict, then a line for each reason."""
        told = [*self.decided_reasons, *self.inputs]
        lines = [each.explain() for each in told]
        return _lines("undecidable" + _only_inputs(self.definition_compared), lines, self.more)


@dataclasses.dataclass(frozen=True, slots=True)
class Unattested(_Staleness):
    """The row has no definition hash or no anchors, so nothing can be compared (`B232`)."""

    staleness = "missing_manifest"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (`B016`)."""
        return {"staleness": self.staleness}

    def lines(self) -> list[str]:
        """Return the answer in words."""
        words = "the row carries no contract, so nothing can be compared; produce it again"
        return [f"{self.staleness}: {words} through store.build or finalize_with_manifest"]


Staleness = Fresh | Stale | Undecidable | Unattested
"""``ok`` is true for `Fresh` alone, ``staleness`` is the stored tag (`B016`)."""


def _compared(definition_compared: bool) -> dict[str, bool]:  # noqa: FBT001 - a field's value
    return {} if definition_compared else {"definition_compared": False}


def _counted(more: int) -> dict[str, int]:
    return {"more": more} if more else {}


def _only_inputs(definition_compared: bool) -> str:  # noqa: FBT001 - a field's value
    return "" if definition_compared else " (only inputs were compared: no definition was given)"


def _lines(title: str, lines: list[str], more: int) -> list[str]:
    rest = [f"{more} more ancestors are stale"] if more else []
    return [title, *(f"- {line}" for line in [*lines, *rest])]
