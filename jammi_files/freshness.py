"""Whether results still hold: one by its ancestors, or all in one pass over a snapshot.

A result is stale when an input advanced, vanished or was made again, or when that is so of an
ancestor. Ready results are immutable, so a parent's row says all about it unless ``check_bytes``
looks further: once per distinct parent, never per result. A parent without a contract counts as a
raw source that its digest pins. Nothing is written and nothing recomputed (`B239`).
"""

from __future__ import annotations

from collections.abc import Sequence

from jammi_files.artifacts import Artifacts
from jammi_files.descent import climb, order_of
from jammi_files.disk import CheckBytes, Disk, parse_check
from jammi_files.evidence import Evidence, Judged, Resolvers
from jammi_files.known import READY, Known
from jammi_files.known_rows import Lookup
from jammi_files.reads import Reads
from jammi_files.reasons import (
    MOST_CAUSES,
    AncestorStale,
    DefinitionChanged,
    Fresh,
    NotReady,
    OpenInput,
    Stale,
    Staleness,
    StaleReason,
    Unattested,
    Undecidable,
)
from jammi_files.validation import require_text


def staleness(  # noqa: PLR0913 - what to ask, and what is asked
    reads: Reads,
    artifacts: Artifacts,
    table_name: str,
    current_definition: str | None = None,
    *,
    resolvers: Resolvers | None = None,
    check_bytes: CheckBytes = True,
) -> Staleness:
    """Judge one result; see `ResultStore.staleness`. ``reads`` should stand at one version."""
    if current_definition is not None:
        require_text("current_definition", current_definition)
    check = parse_check(check_bytes)
    rows = Lookup(reads)
    me = rows.require(table_name)
    disk = None if check is None else Disk(artifacts, check)
    evidence = Evidence(rows, resolvers, disk)
    if me.definition_hash is None or me.pins is None:
        return Unattested()
    first: list[StaleReason] = [] if me.status == READY else [NotReady(me.status)]
    if current_definition not in (None, me.definition_hash):
        first.append(DefinitionChanged(me.definition_hash, str(current_definition)))
    family = _Family(rows, me)
    if disk is not None:
        disk.look_at(family.ancestors, len(rows))
    judged = evidence.judge_all([me, *family.ancestors])
    above = [(known, judged[known.table_name]) for known in family.ancestors]
    own = judged[me.table_name]
    return _answer(first, own, above, family, definition_compared=current_definition is not None)


class _Family:
    """The ancestors of a result, nearest first, and the way to each."""

    def __init__(self, rows: Lookup, me: Known) -> None:
        self._child = {me.table_name: ""}
        found = climb([me], rows.parents)
        above = {name: parents for name, (_, parents) in found.items()}
        for name, parents in above.items():
            for parent in parents:
                self._child.setdefault(parent.table_name, name)
        members = [known for known, _ in found.values()]
        order_of(members, above)  # raises if there is a cycle
        self.ancestors = members[1:]

    def path(self, name: str) -> tuple[str, ...]:
        """Return the way from a direct input of the result to ``name``, both included."""
        steps = []
        while self._child[name]:
            steps.append(name)
            name = self._child[name]
        return tuple(reversed(steps))


def _answer(
    first: Sequence[StaleReason],
    own: Judged,
    above: Sequence[tuple[Known, Judged]],
    family: _Family,
    *,
    definition_compared: bool,
) -> Staleness:
    blamed = [(known.table_name, judged.reasons) for known, judged in above if judged.reasons]
    causes = [
        AncestorStale(path, cause)
        for path, found in ((family.path(name), found) for name, found in blamed[:MOST_CAUSES])
        for cause in found
    ]
    reasons = (*first, *own.reasons, *causes)
    more = len(blamed[MOST_CAUSES:])
    # One's own open inputs come before all else (`B237`); those of ancestors only if nothing is
    # known to be stale, since a stale result is stale whatever they turn out to be.
    inherited = [(known.table_name, each) for known, judged in above for each in judged.open]
    if own.open or (inherited and not reasons):
        spelled = [
            OpenInput(each.source, each.kind, family.path(name))
            for name, each in inherited[:MOST_CAUSES]
        ]
        sources = [each.source for each in (*own.open, *(each for _, each in inherited))]
        unpinned = tuple(dict.fromkeys(sources))
        return Undecidable(unpinned, reasons, definition_compared, more, (*own.open, *spelled))
    if reasons:
        return Stale(reasons, definition_compared, more)
    return Fresh(definition_compared)
