"""Anchors of raw sources as they stand now, made anew for a result that is made again.

A resolver says which version a source has; what no resolver decides is an error that names the
source and what would help. So no input ever becomes unpinned unless a resolver says so by returning
an `unpinned_anchor`, or by telling when the source last changed (`B218`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping

from jammi_files.errors import InvalidInputError, NotFoundError, StateError
from jammi_files.evidence import checked_resolvers, version_text
from jammi_files.fingerprints import unpinned_anchor
from jammi_files.reasons import CurrentAnchor
from jammi_files.schema import AnchorKind, InputAnchor

AnchorResolver = Callable[[str], "InputAnchor | CurrentAnchor | str | int | dt.datetime | None"]
"""Takes a source and returns its present version, or the anchor itself; None if it cannot tell."""

AnchorResolvers = Mapping[AnchorKind, AnchorResolver] | Mapping[str, AnchorResolver]
"""Resolvers by the kind of the recorded anchor: those of `staleness` serve, and say no less."""


class PresentSources:
    """The raw sources of one recomputation, each looked at once, before anything is read."""

    def __init__(self, resolvers: AnchorResolvers | None) -> None:
        self._resolvers: Mapping[str, AnchorResolver] = checked_resolvers(resolvers)  # type: ignore[arg-type]
        self._found: dict[tuple[str, AnchorKind], InputAnchor] = {}
        self._open: dict[tuple[str, AnchorKind], str] = {}
        self._gone: dict[str, str] = {}

    def look_at(self, recorded: Iterable[InputAnchor]) -> None:
        """Ask the resolvers for every source of these anchors.

        Raises:
            InvalidInputError: no resolver decides a source, or one returned what is no version.
            StateError: a source is gone.
        """
        for anchor in recorded:
            key = (anchor.source, anchor.kind)
            if key not in self._found and key not in self._open:
                found = self._ask(anchor)
                if found is not None:
                    self._found[key] = found
        if self._gone:
            told = "; ".join(f"'{source}': {why}" for source, why in self._gone.items())
            raise StateError(f"sources that are to be read again have vanished: {told}")
        if self._open:
            raise InvalidInputError("; ".join(self._open.values()))

    def now(self, recorded: InputAnchor) -> InputAnchor:
        """Return the present anchor of a source that `look_at` has seen."""
        return self._found[recorded.source, recorded.kind]

    def _ask(self, recorded: InputAnchor) -> InputAnchor | None:
        source, kind = recorded.source, recorded.kind
        before = unpinned_anchor(source)  # taken before anybody looks at the source
        resolver = self._resolvers.get(kind)
        try:
            answer = None if resolver is None else resolver(source)
        except (NotFoundError, FileNotFoundError) as error:
            answer = CurrentAnchor.vanished(str(error))
        if isinstance(answer, CurrentAnchor):
            if answer.is_vanished:
                self._gone[source] = answer.why
                return None
            value = answer.value
            answer = None if value is None else InputAnchor(source, value, _kind_of(answer))
        if isinstance(answer, InputAnchor):
            return _checked(answer, source)
        if answer is None:
            self._open[source, kind] = _what_helps(recorded)
            return None
        value = version_text(kind, source, answer)
        return before if not recorded.is_pinned else InputAnchor(source, value, kind)


def _kind_of(answer: CurrentAnchor) -> AnchorKind:
    return AnchorKind.parse(answer.current_anchor)


def _checked(answer: InputAnchor, source: str) -> InputAnchor:
    if answer.source != source:
        raise InvalidInputError(
            f"the resolver returned an anchor on '{answer.source}' for '{source}'"
        )
    return answer


def _what_helps(recorded: InputAnchor) -> str:
    source, kind = recorded.source, recorded.kind.value
    if recorded.is_pinned:
        return (
            f"source '{source}' is read again, but its present version is unknown; pass"
            f" resolvers={{'{kind}': f}} where f('{source}') returns it, e.g."
            f" source_versions({{'{source}': path}})"
        )
    return (
        f"source '{source}' was read without a version; pass resolvers={{'{kind}': f}} where"
        f" f('{source}') returns source_anchor('{source}', path), which pins it, or"
        f" unpinned_anchor('{source}'), which leaves it open"
    )
