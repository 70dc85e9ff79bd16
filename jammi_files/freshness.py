"""Whether results still hold: one by its ancestors, or all in one pass over a snapshot.

A result is stale when an input advanced, vanished or was made again, or when that is so of an
ancestor. Ready results are immutable, so a parent's row says all about it unless ``check_bytes``
looks whether its bytes are there and what its sidecar attests: a stat and a read per distinct
parent, never per result. A parent without a contract counts as a raw source that its digest pins.
Nothing is written and nothing recomputed (`B239`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jammi_files.artifacts import Artifacts
from jammi_files.errors import FormatError, TableNotFoundError
from jammi_files.evidence import Evidence, Resolvers
from jammi_files.known import READY, UNREADABLE, Known, Pin, parents
from jammi_files.lineage import inputs_first
from jammi_files.reads import Reads
from jammi_files.reasons import (
    MOST_CAUSES,
    AncestorStale,
    DefinitionChanged,
    Fresh,
    InputReason,
    NotReady,
    OpenInput,
    Stale,
    Staleness,
    StaleReason,
    Unattested,
    Undecidable,
)
from jammi_files.schema import AnchorKind, ResultTableRecord
from jammi_files.validation import require_text


def staleness(  # noqa: PLR0913 - what to ask, and what is asked
    reads: Reads,
    artifacts: Artifacts,
    table_name: str,
    current_definition: str | None = None,
    *,
    resolvers: Resolvers | None = None,
    check_bytes: bool = True,
) -> Staleness:
    """Judge one result; see `ResultStore.staleness`. ``reads`` should stand at one version."""
    if current_definition is not None:
        require_text("current_definition", current_definition)
    rows = _Lookup(reads)
    me = rows.require(table_name)
    evidence = Evidence(rows, resolvers, artifacts if check_bytes else None)
    if me.definition_hash is None or me.pins is None:
        return Unattested()
    first: list[StaleReason] = [] if me.status == READY else [NotReady(me.status)]
    if current_definition not in (None, me.definition_hash):
        first.append(DefinitionChanged(me.definition_hash, str(current_definition)))
    family = _Family(rows, me)
    own = judge(evidence, me)
    above = [(known, judge(evidence, known)) for known in family.ancestors]
    return _answer(first, own, above, family, definition_compared=current_definition is not None)


class Judged(NamedTuple):
    """What was found of the inputs of one result, in anchor order."""

    reasons: list[InputReason]
    open: list[OpenInput]


def judge(evidence: Evidence, known: Known) -> Judged:
    """Judge the inputs of one result; one without a contract has none that are known."""
    judged = Judged([], [])
    for pin in known.pins or ():
        found = evidence.judge(known, pin)
        if isinstance(found, OpenInput):
            judged.open.append(found)
        elif found is not None:
            judged.reasons.append(found)
    return judged


def linked(above: Sequence[Known]) -> list[tuple[str, AnchorKind]]:
    """Return the steps to these parents as `lineage` walks them."""
    return [(parent.table_name, AnchorKind.RESULT_DIGEST) for parent in above]


class _Family:
    """The ancestors of a result, nearest first, and the way to each."""

    def __init__(self, rows: _Lookup, me: Known) -> None:
        self.ancestors: list[Known] = []
        self._child = {me.table_name: ""}
        links: dict[str, list[tuple[str, AnchorKind]]] = {}
        waiting = [me]
        for known in waiting:  # grows as it goes
            above = parents(rows, known)
            links[known.table_name] = linked(above)
            for parent in above:
                if parent.table_name not in self._child:
                    self._child[parent.table_name] = known.table_name
                    waiting.append(parent)
        inputs_first(links, [me.table_name])  # raises if there is a cycle
        self.ancestors = waiting[1:]

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


class _Lookup:
    """Rows looked up by name, for a few of them."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._known: dict[str, Known | None] = {}

    def require(self, table_name: str) -> Known:
        """Return the row of that name, which must be there and readable."""
        record = self._reads.get_result_table(table_name)
        if record is None:
            raise TableNotFoundError.named(table_name)
        return self._remember(record)

    def get(self, table_name: str) -> Known | None:
        """Return the row of that name in any status."""
        if table_name not in self._known:
            self._known[table_name] = self._read(table_name)
        return self._known[table_name]

    def siblings(self, known: Known) -> list[Known]:
        """Return the ready rows with the same ``logical`` part."""
        source, kind, task, model = known.logical
        records = self._reads.find_result_tables(source, task, model, kind=kind, status=READY)
        return [self._remember(record) for record in records]

    def _read(self, table_name: str) -> Known | None:
        try:
            record = self._reads.get_result_table(table_name)
        except FormatError:
            return _unreadable(table_name)
        return None if record is None else _known(record)

    def _remember(self, record: ResultTableRecord) -> Known:
        known = self._known.get(record.table_name)
        if known is None:
            known = self._known[record.table_name] = _known(record)
        return known


def _known(record: ResultTableRecord) -> Known:
    anchors = record.input_anchors
    pins = (
        None
        if anchors is None
        else tuple(Pin(each.source, each.anchor, str(each.kind)) for each in anchors)
    )
    return Known(
        record.table_name,
        str(record.status),
        record.tenant_id,
        (record.created_at, record.table_name),
        record.definition_hash,
        (record.source_id, str(record.kind), str(record.task), record.model_id),
        (record.derived_from, record.dimensions, record.key_column, record.text_columns),
        record.parquet_path,
        pins,
    )


def _unreadable(table_name: str) -> Known:
    return Known(table_name, UNREADABLE, None, ("", ""), None, ("", "", "", ""), (), "", None)
