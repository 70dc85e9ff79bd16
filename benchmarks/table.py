"""The figures of a run as text: where we lose comes first, and every target says met or missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.harness import Measurement, Timing
from benchmarks.targets import FLOOR, OURS, Verdict, judge


def show(value: float, unit: str) -> str:
    """Write a value with its unit, three digits long."""
    if unit != "us":
        return f"{value:,.0f} {unit}"
    for limit, factor, name in ((1e3, 1, "us"), (1e6, 1e3, "ms")):
        if value < limit:
            return f"{value / factor:.3g} {name}"
    return f"{value / 1e6:.3g} s"


def comparisons(found: Sequence[Measurement]) -> Iterator[tuple[float, Measurement, Measurement]]:
    """Yield (theirs / ours, ours, theirs) for every other system, where we lose first."""
    ours = {(each.work, each.rows): each for each in found if each.who == OURS}
    pairs = [
        (each.timing.p50 / ours[each.work, each.rows].timing.p50, ours[each.work, each.rows], each)
        for each in found
        if each.who != OURS and (each.work, each.rows) in ours
    ]
    yield from sorted(pairs, key=lambda pair: (pair[2].who == FLOOR, pair[0]))


def alone(found: Sequence[Measurement]) -> list[Measurement]:
    """Return what no other system was asked to do."""
    compared = {(ours.work, ours.rows) for _, ours, _ in comparisons(found)}
    return [each for each in found if (each.work, each.rows) not in compared]


def lines(found: Sequence[Measurement]) -> Iterator[str]:
    """Yield the table of all comparisons, the rest of ours, and the targets."""
    yield (
        f"{'work':34} {'rows':>9} {'against':17} {'ours p50':>9} {'p99':>9} "
        f"{'theirs p50':>10} {'p99':>9} {'theirs/ours':>11}"
    )
    for ratio, ours, theirs in comparisons(found):
        yield (
            f"{ours.work:34} {ours.rows:>9,} {theirs.who:17} {_both(ours.timing)} "
            f"{_both(theirs.timing, 10)} {ratio:>11.3g}"
        )
    for each in alone(found):
        yield f"{each.work:34} {each.rows:>9,} {'':17} {_both(each.timing)}"
    yield ""
    yield from (_judged(verdict) for verdict in judge(found))


def _both(timing: Timing, width: int = 9) -> str:
    return f"{show(timing.p50, timing.unit):>{width}} {show(timing.p99, timing.unit):>9}"


def _judged(verdict: Verdict) -> str:
    word = "met   " if verdict.is_met else "MISSED"
    return f"{word} {words(verdict)}: {figure(verdict)}"


def words(verdict: Verdict) -> str:
    """Say what a target asks for."""
    target = verdict.target
    at = f" at {verdict.rows:,} rows" if verdict.rows else ""
    what = f"{target.work}{at}"
    if target.percentile != "p50":
        what = f"{target.percentile} of {what}"
    if target.relation == "below":
        return f"{what} at most {show(target.bound, verdict.ours.unit)}"
    against = target.other or target.against
    if target.other_rows is not None:
        against = f"that at {target.other_rows:,} rows"
    if target.relation == "within":
        return f"{what} at most {target.bound:g} x {against}"
    return f"{what} at least {target.bound:,g} x as fast as {against}"


def figure(verdict: Verdict) -> str:
    """Write what was measured, in the terms of the target."""
    if verdict.theirs is None:
        return show(verdict.figure, verdict.ours.unit)
    return f"{verdict.figure:.3g} x"
