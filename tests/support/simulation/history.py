"""What clients were told, and whether one order explains it all.

Every append adds a word of its own to one list and is told the whole list; every read is told the
list. Then linearizability is decided in linear time: all lists are beginnings of the last one, and
the place of each call in it contradicts nobody's clock.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

READS = frozenset({"read", "end"})
"""The calls that are told the list and append nothing."""


class Result(StrEnum):
    """What a client knows of its call."""

    DONE = "done"
    DENIED = "denied"
    UNKNOWN = "unknown"


@dataclasses.dataclass
class Call:
    """One call: ``word`` is what it appends (None for reads), ``told`` the list it saw."""

    client: str
    kind: str
    word: str | None
    begun: int
    ended: int = 0
    result: Result = Result.UNKNOWN
    told: tuple[str, ...] = ()
    error: str = ""


def check_linearizable(calls: list[Call], final: tuple[str, ...], behind: int = 0) -> None:
    """Check appends and reads against the final list; a read may be ``behind``, in nanoseconds.

    Raises:
        AssertionError: no order explains them.
    """
    assert len(set(final)) == len(final), f"applied twice: {_repeated(final)}"
    place = {word: at for at, word in enumerate(final)}
    for call in calls:
        if call.word is not None and call.result is Result.DONE:
            assert call.word in place, f"acknowledged and lost: {call}"
            assert call.told[-1:] == (call.word,), f"told without itself: {call}"
        if call.word is not None and call.result is Result.DENIED:
            assert call.word not in place, f"denied and applied: {call}"
        assert call.told == final[: len(call.told)], f"told what never was: {call}"
    looked = [call for call in calls if call.word is not None or call.kind in READS]
    known = [call for call in looked if call.result is Result.DONE]
    if behind:
        known = [c if c.word else dataclasses.replace(c, begun=c.begun - behind) for c in known]
    # An append that saw n words comes before the reads of n words and after those of n - 1.
    known.sort(key=lambda call: (len(call.told), call.word is None))
    latest: Call | None = None
    group: list[Call] = []
    for call in known:
        if group and _rank(group[0]) != _rank(call):
            latest = max([*group, *([latest] if latest else [])], key=lambda each: each.begun)
            group = []
        group.append(call)
        assert latest is None or call.ended >= latest.begun, f"{call} ended before {latest} began"


def _rank(call: Call) -> tuple[int, bool]:
    return len(call.told), call.word is None


def _repeated(words: tuple[str, ...]) -> list[str]:
    return sorted({word for word in words if words.count(word) > 1})
