"""What derives from what, read from the anchors of ready rows; there is no second edge store."""

from __future__ import annotations

import dataclasses

from jammi_files.reads import Reads
from jammi_files.schema import AnchorKind


@dataclasses.dataclass(frozen=True, slots=True)
class LineageEdge:
    """``derived`` was made from ``input``, pinned as ``kind`` (`B131`)."""

    input: str
    derived: str
    kind: AnchorKind

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"input": self.input, "derived": self.derived, "kind": self.kind.value}


def derives_from(reads: Reads, source: str) -> list[LineageEdge]:
    """Return one edge for every anchor on ``source`` of a visible ready row (`B131` to `B134`)."""
    return [
        LineageEdge(source, record.table_name, anchor.kind)
        for record in reads.find_ready_result_tables_anchored_on(source)
        for anchor in record.input_anchors or ()
        if anchor.source == source
    ]
