"""The freshness of every ready result, in one pass over the rows of a snapshot.

Rows come out of Arrow columns, not as records. Staleness then flows down from parents to children,
each result looked at once after its inputs, and the answers go into Arrow columns again.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from itertools import accumulate, chain, islice

import pyarrow as pa

from jammi_files.artifacts import Artifacts
from jammi_files.disk import CheckBytes, Disk, parse_check
from jammi_files.evidence import Evidence, Judged, Resolvers
from jammi_files.known import Known
from jammi_files.known_rows import Everything
from jammi_files.parts import Progress, require_executor
from jammi_files.reads import Reads
from jammi_files.reasons import MOST_CAUSES, InputReason, OpenInput, Unattested

_REASON = pa.struct(
    [
        pa.field("reason", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("recorded", pa.string()),
        pa.field("current", pa.string()),
        pa.field("newer", pa.string()),
        pa.field("ancestor", pa.string()),
    ]
)
STALENESS_SCHEMA = pa.schema(
    [
        pa.field("table_name", pa.string(), nullable=False),
        pa.field("staleness", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(_REASON), nullable=False),
        pa.field("unpinned", pa.list_(pa.string()), nullable=False),
        pa.field("explanation", pa.string()),
    ]
)
"""The columns of `staleness_all`; ``explanation`` is null for what is fresh."""

_Reason = tuple[str | None, ...]
_Answer = tuple[str, list[_Reason], list[str], str | None]
"""The columns after ``table_name``."""


def staleness_all(  # noqa: PLR0913 - what to ask, whom, and who does it
    reads: Reads,
    artifacts: Artifacts,
    *,
    resolvers: Resolvers | None = None,
    check_bytes: CheckBytes = "exists",
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """Judge every ready result; see `ResultStore.staleness_all`."""
    check = parse_check(check_bytes)
    require_executor(executor)
    rows = Everything(reads)
    disk = None if check is None else Disk(Artifacts(artifacts.storage.uncached()), check)
    evidence = Evidence(rows, resolvers, disk)
    if disk is not None:
        disk.look_at(rows.used, len(rows), executor, progress)
    answers = _Answers(rows, evidence.judge_all(rows.ready))
    return _table([known.table_name for known in rows.ready], list(map(answers.about, rows.ready)))


class _Answers:
    """What was found of each result itself, and which ancestor each inherits staleness from."""

    def __init__(self, rows: Everything, judged: dict[str, Judged]) -> None:
        self._inputs = rows.inputs
        self._own = judged
        self._told: dict[int, tuple[_Reason, str]] = {}
        # For each result: the nearest result with reasons of its own, or with open inputs, that it
        # is or descends from. One each is enough to follow the path, and keeps the pass linear.
        self._stale: dict[str, str] = {}
        self._open: dict[str, str] = {}
        for name in rows.family.order:
            own = judged[name]
            self._inherit(self._stale, name, own=bool(own.reasons))
            self._inherit(self._open, name, own=bool(own.open))

    def _inherit(self, origin: dict[str, str], name: str, *, own: bool) -> None:
        if own:
            origin[name] = name
        elif origin:
            for parent in self._inputs[name]:
                if parent.table_name in origin:
                    origin[name] = origin[parent.table_name]
                    return

    def about(self, known: Known) -> _Answer:
        """Return the answer about one result."""
        name = known.table_name
        if not known.is_attested:
            return _UNATTESTED
        if name not in self._stale and name not in self._open:
            return _FRESH
        own = self._own[name]
        above = dict.fromkeys(each.table_name for each in self._inputs[name])
        blamed = [(parent, self._stale[parent]) for parent in above if parent in self._stale]
        told = [self._tell(reason) for reason in own.reasons]
        reasons = [fields for fields, _ in told]
        reasons += [
            ("ancestor_stale", parent, None, None, None, ancestor) for parent, ancestor in blamed
        ]
        words = [word for _, word in told]
        words += [each.explain() for each in own.open]
        words += [_inherited(*pair, "stale") for pair in blamed]
        if not own.open and reasons:
            return "stale", reasons, [], "; ".join(words)
        opened = [(parent, self._open[parent]) for parent in above if parent in self._open]
        words += [_inherited(*pair, "undecidable") for pair in opened]
        inherited = islice(self._open_above(opened), MOST_CAUSES)
        unpinned = dict.fromkeys(each.source for each in chain(own.open, inherited))
        return "undecidable", reasons, list(unpinned), "; ".join(words)

    def _open_above(self, opened: list[tuple[str, str]]) -> Iterator[OpenInput]:
        for _, ancestor in opened:
            yield from self._own[ancestor].open

    def _tell(self, reason: InputReason) -> tuple[_Reason, str]:
        """Return a reason in columns and in words; many results share one."""
        told = self._told.get(id(reason))
        if told is None:
            fields = reason.to_dict()
            told = tuple(fields.get(field.name) for field in _REASON), reason.explain()
            self._told[id(reason)] = told
        return told


_FRESH: _Answer = ("fresh", [], [], None)
_UNATTESTED: _Answer = (Unattested.staleness, [], [], Unattested().explain())


def _inherited(parent: str, ancestor: str, tag: str) -> str:
    way = "" if parent == ancestor else f", through input '{parent}',"
    return f"its ancestor '{ancestor}'{way} is {tag} and comes first; see there"


def _table(names: list[str], answers: list[_Answer]) -> pa.Table:
    tags, reasons, unpinned, explanations = zip(*answers, strict=True) if answers else [()] * 4
    fields = list(zip(*chain.from_iterable(reasons), strict=True)) or [()] * len(_REASON)
    flat = [pa.array(values, field.type) for values, field in zip(fields, _REASON, strict=True)]
    structs = pa.StructArray.from_arrays(flat, fields=list(_REASON))
    sources = pa.array(list(chain.from_iterable(unpinned)), pa.string())
    arrays = [
        pa.array(names, pa.string()),
        pa.array(tags, pa.string()),
        pa.ListArray.from_arrays(_offsets(reasons), structs),
        pa.ListArray.from_arrays(_offsets(unpinned), sources),
        pa.array(explanations, pa.string()),
    ]
    return pa.table(arrays, schema=STALENESS_SCHEMA)


def _offsets(lists: tuple[list[object], ...]) -> pa.Array:
    return pa.array(accumulate(map(len, lists), initial=0), pa.int32())
