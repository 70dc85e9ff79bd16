"""What is known of an input now: its row, its bytes, a newer one of its kind, a resolver's word.

Each question is asked once, however many results have the input. The disk is looked at only if
asked: one stat and one sidecar for each input that is a result, and one sidecar for each definition
that could have made the same output in another environment.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor

from jammi_files.artifacts import Artifacts
from jammi_files.errors import InvalidInputError, NotFoundError
from jammi_files.known import READY, Disk, Known, Pin, Rows
from jammi_files.reasons import (
    CurrentAnchor,
    InputAdvanced,
    InputReason,
    InputSuperseded,
    InputVanished,
    OpenInput,
)
from jammi_files.schema import AnchorKind
from jammi_files.successors import Siblings
from jammi_files.timestamps import parse_instant

Resolver = Callable[[str], "str | int | dt.datetime | CurrentAnchor | None"]
"""Takes a source and returns its present version; None if it cannot tell."""

Resolvers = Mapping[AnchorKind, Resolver] | Mapping[str, Resolver]
"""Resolvers by the kind of anchor that they decide."""


class Evidence:
    """Answers about the inputs of results at one version, each found once."""

    def __init__(
        self, rows: Rows, resolvers: Resolvers | None, artifacts: Artifacts | None
    ) -> None:
        """Take what to ask; without ``artifacts`` nothing is looked at on disk."""
        self._rows = rows
        self._resolvers = checked_resolvers(resolvers)
        self._disk = None if artifacts is None else Disk(artifacts)
        self._parents: dict[str, CurrentAnchor | None] = {}
        self._settled: set[Pin] = set()
        self._versions: dict[tuple[str, str], CurrentAnchor] = {}
        self._siblings: dict[tuple[str, ...], Siblings] = {}

    def look_at(self, parents: Iterable[Known], executor: Executor | None) -> None:
        """Look at these results on disk, all at once on an executor; nothing if not asked to."""
        if self._disk is not None:
            self._disk.look_at(list(parents), executor)

    def judge(self, judged: Known, pin: Pin) -> InputReason | OpenInput | None:
        """Say what is wrong with one input of a result; None if nothing is."""
        if pin.kind != AnchorKind.RESULT_DIGEST:
            return self._judge_version(pin)
        if pin in self._settled:  # nothing is wrong with it for any result
            return None
        now = self._parent(pin.source)
        if now is not None:
            if now.is_vanished:
                return InputVanished(pin.source, now.why)
            if now.value != pin.anchor:
                return InputAdvanced(pin.source, pin.anchor, str(now.value))
        newer = self._newer(pin, judged)
        return None if newer is None else InputSuperseded(pin.source, newer)

    def _judge_version(self, pin: Pin) -> InputReason | OpenInput | None:
        key = (pin.kind, pin.source)
        if key not in self._versions:
            self._versions[key] = self._resolve(*key)
        now = self._versions[key]
        if now.is_vanished:
            return InputVanished(pin.source, now.why)
        if now.value is None:
            return OpenInput(pin.source, pin.kind)
        if now.value == pin.anchor or _not_since(pin, now.value):
            return None
        return InputAdvanced(pin.source, pin.anchor, now.value)

    def _parent(self, name: str) -> CurrentAnchor | None:
        """Return the state of a result; None if it is ready and its bytes are not to be seen."""
        if name not in self._parents:
            self._parents[name] = self._find_parent(name)
        return self._parents[name]

    def _find_parent(self, name: str) -> CurrentAnchor | None:
        known = self._rows.get(name)
        if known is None:
            return CurrentAnchor.vanished("there is no such result here")
        if known.status != READY:
            return CurrentAnchor.vanished(f"its row is {known.status}")
        if self._disk is None:
            return None
        digest = self._disk.digest(known)
        if digest is None:
            return CurrentAnchor.vanished("its row is ready, but its bytes are gone")
        return CurrentAnchor.at(AnchorKind.RESULT_DIGEST, digest)

    def _resolve(self, kind: str, source: str) -> CurrentAnchor:
        resolver = self._resolvers.get(kind)
        if resolver is None:
            return CurrentAnchor.undecidable()
        try:
            answer = resolver(source)
        except (NotFoundError, FileNotFoundError) as error:
            return CurrentAnchor.vanished(str(error))
        if answer is None:
            return CurrentAnchor.undecidable()
        if isinstance(answer, CurrentAnchor):
            return answer
        return CurrentAnchor.at(AnchorKind(kind), version_text(kind, source, answer))

    def _newer(self, pin: Pin, judged: Known) -> str | None:
        known = self._rows.get(pin.source)
        if known is None or not known.is_attested:
            return None
        siblings = self._siblings.get(known.logical)
        if siblings is None:
            siblings = self._siblings[known.logical] = Siblings(self._rows, known, self._disk)
        if siblings.is_newest(known):
            self._settled.add(pin)
            return None
        return siblings.newer(known, judged)


def checked_resolvers(resolvers: Resolvers | None) -> dict[str, Resolver]:
    """Return resolvers by stored kind.

    Raises:
        InvalidInputError: an unknown kind, ``result_digest``, or a value that is no callable.
    """
    checked: dict[str, Resolver] = {}
    for kind, resolver in (resolvers or {}).items():
        parsed = AnchorKind.parse(kind)
        if parsed is AnchorKind.RESULT_DIGEST:
            raise InvalidInputError("result_digest inputs are looked up here; give no resolver")
        if not callable(resolver):
            raise InvalidInputError(f"the resolver of {kind} must be callable, not {resolver!r}")
        checked[parsed.value] = resolver
    return checked


def _not_since(pin: Pin, changed_at: str) -> bool:
    """Say whether a source without versions last changed before it was read."""
    if pin.kind != AnchorKind.UNPINNED_AT_INSTANT:
        return False
    try:
        read_at = parse_instant(pin.anchor)
    except InvalidInputError:  # an instant that another program wrote in another form
        return False
    return parse_instant(changed_at) <= read_at


def version_text(kind: str, source: str, answer: str | int | dt.datetime) -> str:
    """Return what a resolver answered as the value of an anchor of that kind.

    Raises:
        InvalidInputError: it is no version.
    """
    if kind == AnchorKind.UNPINNED_AT_INSTANT and isinstance(answer, (str, dt.datetime)):
        parse_instant(answer)
        return answer if isinstance(answer, str) else answer.astimezone(dt.UTC).isoformat()
    if isinstance(answer, str) or (isinstance(answer, int) and not isinstance(answer, bool)):
        return str(answer)
    raise InvalidInputError(f"the resolver of {kind} returned {answer!r} for '{source}'")
