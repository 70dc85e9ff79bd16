"""What derives from what, read from the anchors of ready rows; there is no second edge store.

An edge runs from an input (a result or a raw source, told apart by nothing but their rows) to the
result that was made from it. Only visible ready rows make edges, at every hop (`B134`, `B140`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import events
from jammi_files.errors import DependencyCycleError, TableNotFoundError
from jammi_files.events import Event
from jammi_files.reads import Reads
from jammi_files.schema import ENUM_COLUMNS, AnchorKind, ResultTableStatus
from jammi_files.validation import require_text


@dataclasses.dataclass(frozen=True, slots=True)
class LineageEdge:
    """``derived`` was made from ``input``, pinned as ``kind`` (`B131`)."""

    input: str
    derived: str
    kind: AnchorKind

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"input": self.input, "derived": self.derived, "kind": self.kind.value}


Links = Mapping[str, Sequence[tuple[str, AnchorKind]]]
"""For each name the names that one step leads to, in order, and how the step is pinned."""


class Step(NamedTuple):
    """One step of `walk`: from ``node`` to ``target``.

    ``depth`` counts from 1, ``again`` says that ``target`` was expanded before, ``last`` that no
    other step from ``node`` follows.
    """

    node: str
    target: str
    kind: AnchorKind
    depth: int
    again: bool
    last: bool


def derives_from(reads: Reads, source: str) -> list[LineageEdge]:
    """Return one edge for every anchor on ``source`` of a visible ready row (`B131` to `B134`)."""
    return [
        LineageEdge(source, record.table_name, anchor.kind)
        for record in reads.find_ready_result_tables_anchored_on(source)
        for anchor in record.input_anchors or ()
        if anchor.source == source
    ]


def derives_from_closure(reads: Reads, source: str) -> list[LineageEdge]:
    """Return every edge downstream of ``source``, in depth-first discovery order (`B135`).

    A table that several paths reach is expanded once, each edge into it is reported (`B137`). The
    rows are scanned once, whatever the depth (`B136`, `B141`).

    Raises:
        DependencyCycleError: a path leads back to itself (`B138`, `B139`).
    """
    return EdgeTable.read(reads).downstream(require_text("source", source))


def upstream_closure(reads: Reads, table_name: str) -> list[LineageEdge]:
    """Return every edge upstream of a table, back to raw sources (`B142`).

    The order and the guarantees are those of `derives_from_closure`; inputs come in producer order.

    Raises:
        TableNotFoundError: no visible row has the name.
        FormatError: the row holds a value that this library does not know (`B037`).
        DependencyCycleError: a path leads back to itself.
    """
    if reads.get_result_table(table_name) is None:
        raise TableNotFoundError.named(table_name)
    return EdgeTable.read(reads).upstream(table_name)


class EdgeTable(NamedTuple):
    """Every edge that one scan sees: by age and name of the derived row, then in producer order."""

    inputs: list[str]
    derived: list[str]
    kinds: list[AnchorKind]

    @classmethod
    def read(cls, reads: Reads) -> EdgeTable:
        """Scan the rows once; a damaged row makes no edges (`B037`)."""
        rows = reads.scan(_sound_and_ready(), ["table_name", "created_at", "input_anchors"])
        rows = rows.sort_by([("created_at", "ascending"), ("table_name", "ascending")])
        anchors = rows.column("input_anchors").combine_chunks()
        members = pc.list_flatten(anchors)
        edges = pa.table(
            {
                "row": pc.list_parent_indices(anchors),
                "input": pc.struct_field(members, "source"),
                "kind": pc.struct_field(members, "kind"),
            }
        )
        names: list[str] = rows.column("table_name").to_pylist()
        edges = _without_damaged(edges, names)
        return cls(
            edges.column("input").to_pylist(),
            [names[row] for row in edges.column("row").to_pylist()],
            [_KINDS[kind] for kind in edges.column("kind").to_pylist()],
        )

    def downstream(self, source: str) -> list[LineageEdge]:
        """Return what `derives_from_closure` does."""
        steps = walk(self.by_input(), source)
        return [LineageEdge(step.node, step.target, step.kind) for step in steps]

    def upstream(self, table_name: str) -> list[LineageEdge]:
        """Return what `upstream_closure` does, or nothing for a name that no row has."""
        steps = walk(self.by_derived(), table_name)
        return [LineageEdge(step.target, step.node, step.kind) for step in steps]

    def by_input(self) -> Links:
        """Return the links from inputs to what was made from them."""
        return link(zip(self.inputs, self.derived, self.kinds, strict=True))

    def by_derived(self) -> Links:
        """Return the links from results to their inputs."""
        return link(zip(self.derived, self.inputs, self.kinds, strict=True))


def link(steps: Iterable[tuple[str, str, AnchorKind]]) -> Links:
    """Return links that take these steps, each a node, its target and the kind of the anchor."""
    links: dict[str, list[tuple[str, AnchorKind]]] = {}
    for node, target, kind in steps:
        links.setdefault(node, []).append((target, kind))
    return links


def inputs_first(by_derived: Links, names: Iterable[str]) -> list[str]:
    """Return ``names`` and all that they were made from, every input before what it went into.

    Raises:
        DependencyCycleError: there is no such order.
    """
    done: dict[str, None] = {}
    for name in names:
        if name not in done:
            for _ in walk(by_derived, name, done):
                pass
    return list(done)


def walk(links: Links, start: str, done: dict[str, None] | None = None) -> Iterator[Step]:
    """Yield each step from ``start`` depth-first; a node's own steps are taken once.

    ``done`` holds the nodes that need no visit any more, and gets every node after all that it
    leads to. Without recursion, so depth costs memory only.

    Raises:
        DependencyCycleError: a step leads back into the path to it (`B138`).
    """
    done = {} if done is None else done
    path = {start}
    frames = [(start, links.get(start, ()), 0)]
    while frames:
        node, targets, position = frames.pop()
        if position == len(targets):
            path.remove(node)
            done[node] = None
            continue
        frames.append((node, targets, position + 1))
        target, kind = targets[position]
        if target in path:
            msg = f"dependency cycle in derives-from lineage at table `{target}`"
            raise DependencyCycleError(msg)
        again = target in done
        last = position + 1 == len(targets)
        yield Step(node, target, kind, len(frames), again=again, last=last)
        if not again:
            path.add(target)
            frames.append((target, links.get(target, ()), 0))


def _without_damaged(edges: pa.Table, names: Sequence[str]) -> pa.Table:
    """Leave out every edge of a row that has an anchor of an unknown kind, as `Reads` does."""
    known = pa.array(list(_KINDS), pa.string())
    unknown = edges.filter(pc.invert(pc.is_in(edges.column("kind"), known))).column("row")
    if not len(unknown):
        return edges
    for row in unknown.unique().to_pylist():
        text = "left out a damaged row: '%s' has an anchor of unknown kind"
        events.warn(Event.LEFT_OUT, text, names[row], table_name=names[row])
    kept = pc.invert(pc.is_in(edges.column("row"), unknown.combine_chunks()))
    return edges.filter(kept)


_KINDS = {kind.value: kind for kind in AnchorKind}


def _sound_and_ready() -> pc.Expression:
    return (
        (pc.field("status") == ResultTableStatus.READY.value)
        & pc.field("task").isin(list(ENUM_COLUMNS["task"]))
        & pc.field("kind").isin(list(ENUM_COLUMNS["kind"]))
    )
