"""The lineage of one table as a value, and its drawings: a text tree, Graphviz DOT, Mermaid.

A name comes from whoever may write to the catalog, so each drawing quotes it by the rules of its
language, after what a terminal would not simply show has become an escape.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from jammi_files.errors import TableNotFoundError
from jammi_files.lineage import EdgeTable, LineageEdge, Links, inputs_first, link, walk
from jammi_files.reads import Reads
from jammi_files.schema import AnchorKind
from jammi_files.terminal import printable

_DEEPEST = 32
"""Levels that a text tree indents; a chain of 100,000 tables would take gigabytes of blanks."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lineage:
    """What a table was made from and what was made from it, as far as the reader's tenant sees.

    ``upstream`` holds the edges back to raw sources, ``downstream`` those to every dependant, both
    in depth-first discovery order (`B135`, `B142`). The drawings hold every edge; they raise
    `DependencyCycleError` if the edges do not come from a catalog and hold a cycle.
    """

    table_name: str
    upstream: tuple[LineageEdge, ...]
    downstream: tuple[LineageEdge, ...]

    @property
    def edges(self) -> tuple[LineageEdge, ...]:
        """Every edge, upstream first; no edge is on both sides."""
        return self.upstream + self.downstream

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "table_name": self.table_name,
            "upstream": [edge.to_dict() for edge in self.upstream],
            "downstream": [edge.to_dict() for edge in self.downstream],
        }

    def to_text(self) -> str:
        """Return a tree for people: inputs under ``made from``, dependants under ``used by``.

        What several paths reach is shown once in full, later with ``(shown above)``. Below 32
        levels a number in brackets stands for the indentation.
        """
        inputs = link((edge.derived, edge.input, edge.kind) for edge in self.upstream)
        dependants = link((edge.input, edge.derived, edge.kind) for edge in self.downstream)
        lines = [printable(self.table_name)]
        for title, links in (("made from", inputs), ("used by", dependants)):
            if links:
                lines += [f"{title}:", *_branches(links, self.table_name)]
        return "\n".join(lines)

    def to_dot(self) -> str:
        """Return a Graphviz digraph from inputs to results; what may be a raw source is round."""
        results = set(self.results())
        lines = ["digraph lineage {", "  rankdir=LR;"]
        for name in self._names():
            shape = "box" if name in results else "ellipse"
            weight = ", style=bold" if name == self.table_name else ""
            lines.append(f"  {_dot_id(name)} [label={_dot_label(name)}, shape={shape}{weight}];")
        lines += [
            f'  {_dot_id(edge.input)} -> {_dot_id(edge.derived)} [label="{edge.kind.value}"];'
            for edge in self.edges
        ]
        return "\n".join([*lines, "}"])

    def to_mermaid(self) -> str:
        """Return a Mermaid flowchart from inputs to results; what may be a raw source is round."""
        results = set(self.results())
        nodes = {name: f"n{number}" for number, name in enumerate(self._names())}
        lines = ["flowchart LR"]
        for name, node in nodes.items():
            box = f'["{_mermaid_text(name)}"]'
            lines.append(f"    {node}{box if name in results else f'({box})'}")
        lines += [
            f"    {nodes[edge.input]} -->|{edge.kind.value}| {nodes[edge.derived]}"
            for edge in self.edges
        ]
        return "\n".join(lines)

    def _names(self) -> list[str]:
        """Return every name once, each input before what was made from it."""
        links = link((edge.derived, edge.input, edge.kind) for edge in self.edges)
        return inputs_first(links, (self.table_name, *(edge.derived for edge in self.edges)))

    def results(self) -> list[str]:
        """Return the names that are certainly results, each before what was made from it."""
        made = {edge.derived for edge in self.edges}
        pinned = {edge.input for edge in self.edges if edge.kind is AnchorKind.RESULT_DIGEST}
        certain = {self.table_name} | made | pinned
        return [name for name in self._names() if name in certain]


def trace(reads: Reads, table_name: str) -> Lineage:
    """Return the lineage of a table in both directions, from one scan of the rows.

    Raises:
        TableNotFoundError: no visible row has the name.
        FormatError: the row holds a value that this library does not know (`B037`).
        DependencyCycleError: a path leads back to itself (`B138`, `B139`).
    """
    if reads.get_result_table(table_name) is None:
        raise TableNotFoundError.named(table_name)
    edges = EdgeTable.read(reads)
    upstream, downstream = edges.upstream(table_name), edges.downstream(table_name)
    return Lineage(table_name, tuple(upstream), tuple(downstream))


def _branches(links: Links, start: str) -> Iterator[str]:
    bars: list[str] = []
    for step in walk(links, start):
        del bars[step.depth - 1 :]
        trunk = "".join(bars[:_DEEPEST])
        branch = "└── " if step.last else "├── "
        fork = branch if step.depth <= _DEEPEST else f"[{step.depth}] "
        mark = " (shown above)" if step.again else ""
        yield f"{trunk}{fork}{printable(step.target)} ({step.kind.value}){mark}"
        bars.append("    " if step.last else "│   ")


def _dot_id(name: str) -> str:
    # The backslash is doubled first: two names never become one node.
    quoted = printable(name.replace("\\", "\\\\")).replace('"', '\\"')
    return f'"{quoted}"'


def _dot_label(name: str) -> str:
    # Unlike an id, a label is an escString with HTML entities.
    text = printable(name).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{text}"'


def _mermaid_text(name: str) -> str:
    return _MERMAID_MARKS.sub(
        lambda match: "".join(f"#{ord(mark)};" for mark in match[0]), printable(name)
    )


_MERMAID_MARKS = re.compile(r"[!-,/:-@\[-^`{-~]|[-.](?= )|\b_+|_+\b")
"""What Mermaid or the Markdown in its labels would read as syntax; ``a_b`` stays as it is."""
