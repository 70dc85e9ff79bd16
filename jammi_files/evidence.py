"""What is known of an input now: its row, its bytes, a newer one of its kind, a resolver's word.

Each question is asked once, however many results have the input, and the disk is looked at only as
far as the caller wants (`disk`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from jammi_files.disk import Disk, Found
from jammi_files.errors import InvalidInputError, NotFoundError
from jammi_files.known import READY, Known, Pin
from jammi_files.known_rows import Rows
from jammi_files.reasons import (
    CurrentAnchor,
    InputAdvanced,
    InputReason,
    InputSuperseded,
    InputVanished,
    OpenInput,
)
from jammi_files.schema import AnchorKind
from jammi_files.successors import Outputs, Question
from jammi_files.timestamps import parse_instant

Resolver = Callable[[str], "str | int | dt.datetime | CurrentAnchor | None"]
"""Takes a source and returns its present version; None if it cannot tell."""

Resolvers = Mapping[AnchorKind, Resolver] | Mapping[str, Resolver]
"""Resolvers by the kind of anchor that they decide."""


class Judged(NamedTuple):
    """What was found of the inputs of one result, in anchor order."""

    reasons: list[InputReason]
    open: list[OpenInput]


class Evidence:
    """Answers about the inputs of results at one version, each found once."""

    def __init__(self, rows: Rows, resolvers: Resolvers | None, disk: Disk | None) -> None:
        """Take what to ask; without ``disk`` nothing is looked at there."""
        self._rows = rows
        self._resolvers = checked_resolvers(resolvers)
        self._disk = disk
        self._outputs = Outputs(rows, disk)
        self._found: dict[Pin, InputReason | OpenInput | Known | None] = {}
        self._superseded: dict[tuple[str, str], InputSuperseded] = {}
        self._versions: dict[tuple[str, str], CurrentAnchor] = {}

    def judge_all(self, results: Iterable[Known]) -> dict[str, Judged]:
        """Judge the inputs of each result; one without a contract has none that are known."""
        found = self._found
        suspect: dict[str, list[InputReason | OpenInput | Known]] = {}
        judged: dict[str, Judged] = {}
        questions: dict[str, Question] = {}
        for result in results:
            judged[result.table_name] = _NOTHING
            for pin in result.pins or ():
                if pin not in found:
                    found[pin] = self._look_at(pin)
                about = found[pin]
                if about is not None:
                    suspect.setdefault(result.table_name, []).append(about)
                    if isinstance(about, Known):
                        question = questions.setdefault(about.table_name, Question(about, []))
                        question.made_from_it.append(result)
        newer = self._outputs.newer(questions.values())
        for name, about_pins in suspect.items():
            judged[name] = self._judged(name, about_pins, newer)
        return judged

    def _judged(
        self,
        name: str,
        about_pins: Iterable[InputReason | OpenInput | Known],
        newer: Mapping[tuple[str, str], str],
    ) -> Judged:
        judged = Judged([], [])
        for about in about_pins:
            if isinstance(about, OpenInput):
                judged.open.append(about)
            elif not isinstance(about, Known):
                judged.reasons.append(about)
            else:
                found = newer.get((about.table_name, name))
                if found is not None:
                    judged.reasons.append(self._say_superseded(about.table_name, found))
        return judged

    def _say_superseded(self, source: str, newer: str) -> InputSuperseded:
        key = (source, newer)
        if key not in self._superseded:  # many results share it
            self._superseded[key] = InputSuperseded(source, newer)
        return self._superseded[key]

    def _look_at(self, pin: Pin) -> InputReason | OpenInput | Known | None:
        """Say what is wrong with an input for every result; the input itself if that depends."""
        if pin.kind != _RESULT:
            return self._judge_version(pin)
        known = self._rows.get(pin.source)
        if known is None:
            return InputVanished(pin.source, "there is no such result here")
        if known.status != READY:
            return InputVanished(pin.source, f"its row is {known.status}")
        now = Found(known.artifact_digest) if self._disk is None else self._disk.find(known)
        if now.digest is None and now.why:
            return InputVanished(pin.source, now.why)
        if now.digest not in (None, pin.anchor):
            return InputAdvanced(pin.source, pin.anchor, str(now.digest))
        return None if self._outputs.is_newest(known) else known

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


_NOTHING = Judged([], [])
"""Shared by all that nothing was found of."""

_RESULT = AnchorKind.RESULT_DIGEST.value


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
