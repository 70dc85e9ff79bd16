"""The freshness of every ready result, in one pass over the rows of a snapshot.

Rows come out of Arrow columns, not as records. Staleness then flows down from parents to children,
each result looked at once after its inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files.artifacts import Artifacts
from jammi_files.evidence import Evidence, Resolvers
from jammi_files.freshness import Judged, judge, linked
from jammi_files.known import READY, UNREADABLE, Known, Pin, parents
from jammi_files.lineage import inputs_first
from jammi_files.reads import Reads
from jammi_files.schema import ENUM_COLUMNS, AnchorKind

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

_LOGICAL = ("source_id", "kind", "task", "model_id")
_SHAPE = ("derived_from", "dimensions", "key_column", "text_columns")


def staleness_all(
    reads: Reads,
    artifacts: Artifacts,
    *,
    resolvers: Resolvers | None = None,
    check_bytes: bool = True,
    executor: Executor | None = None,
) -> pa.Table:
    """Judge every ready result; see `ResultStore.staleness_all`."""
    rows = _Everything(reads.scan())
    evidence = Evidence(rows, resolvers, artifacts if check_bytes else None)
    evidence.look_at(rows.parents, executor)
    answers = _Answers(rows, evidence)
    columns = zip(*(answers.row(known) for known in rows.ready), strict=True)
    arrays = [
        pa.array(column, field.type)
        for column, field in zip(columns, STALENESS_SCHEMA, strict=False)
    ]
    return pa.table(arrays, STALENESS_SCHEMA) if arrays else STALENESS_SCHEMA.empty_table()


class _Everything:
    """All visible rows of a snapshot."""

    def __init__(self, table: pa.Table) -> None:
        self._by_name = {known.table_name: known for known in _rows(table)}

    @cached_property
    def ready(self) -> list[Known]:
        """The ready rows, oldest first."""
        ready = [known for known in self._by_name.values() if known.status == READY]
        return sorted(ready, key=lambda known: known.age)

    @cached_property
    def inputs(self) -> dict[str, list[Known]]:
        """The ready results that each ready result was made from."""
        return {known.table_name: parents(self, known) for known in self.ready}

    @property
    def inputs_first(self) -> Iterable[str]:
        """The names of the ready results, each after its inputs."""
        if all(each.age < known.age for known in self.ready for each in self.inputs[known[0]]):
            return self.inputs  # age is such an order, as always where the store made the rows
        links = {name: linked(above) for name, above in self.inputs.items()}
        return inputs_first(links, links)

    @property
    def parents(self) -> list[Known]:
        """Every ready result that another was made from, once."""
        return list(
            {each.table_name: each for made in self.inputs.values() for each in made}.values()
        )

    def get(self, table_name: str) -> Known | None:
        """Return the row of that name in any status."""
        return self._by_name.get(table_name)

    def siblings(self, known: Known) -> list[Known]:
        """Return the ready rows with the same ``logical`` part."""
        return self._groups[known.logical]

    @cached_property
    def _groups(self) -> dict[tuple[str, ...], list[Known]]:
        groups: dict[tuple[str, ...], list[Known]] = {}
        for known in self.ready:
            groups.setdefault(known.logical, []).append(known)
        return groups


class _Answers:
    """What was found of each result itself, and which ancestor each inherits staleness from."""

    def __init__(self, rows: _Everything, evidence: Evidence) -> None:
        self._inputs = rows.inputs
        self._own = {known.table_name: judge(evidence, known) for known in rows.ready}
        # For each result: the nearest result with reasons of its own, or with open inputs, that it
        # is or descends from. One each is enough to follow the path, and keeps the pass linear.
        self._stale: dict[str, str] = {}
        self._open: dict[str, str] = {}
        for name in rows.inputs_first:
            own = self._own[name]
            self._inherit(self._stale, name, own=bool(own.reasons))
            self._inherit(self._open, name, own=bool(own.open))

    def _inherit(self, origin: dict[str, str], name: str, *, own: bool) -> None:
        if not own and not origin:
            return
        above = (origin.get(parent.table_name) for parent in self._inputs[name])
        found = name if own else next(filter(None, above), None)
        if found is not None:
            origin[name] = found

    def row(
        self, known: Known
    ) -> tuple[str, str, list[dict[str, str | None]], list[str], str | None]:
        """Return the answer about one result, in the order of `STALENESS_SCHEMA`."""
        name = known.table_name
        if not known.is_attested:
            return name, "missing_manifest", [], [], "the row carries no contract"
        if name not in self._stale and name not in self._open:
            return name, "fresh", [], [], None
        own = self._own[name]
        above = dict.fromkeys(each.table_name for each in self._inputs[name])
        blamed = [(parent, self._stale[parent]) for parent in above if parent in self._stale]
        opened = [(parent, self._open[parent]) for parent in above if parent in self._open]
        reasons = [*map(_flat, _told(own)), *(_inherited(*pair) for pair in blamed)]
        undecided = bool(own.open) or (bool(opened) and not reasons)
        sources = [each.source for each in own.open]
        sources += [each.source for _, origin in opened for each in self._own[origin].open]
        unpinned = list(dict.fromkeys(sources)) if undecided else []
        tag = "undecidable" if undecided else "stale"
        words = list(_words(own, blamed, opened if undecided else []))
        return name, tag, reasons, unpinned, "; ".join(words)


def _told(own: Judged) -> list[dict[str, str]]:
    return [reason.to_dict() for reason in own.reasons]


def _flat(reason: dict[str, str]) -> dict[str, str | None]:
    return {field.name: reason.get(field.name) for field in _REASON}


def _inherited(parent: str, ancestor: str) -> dict[str, str | None]:
    return _flat({"reason": "ancestor_stale", "source": parent, "ancestor": ancestor})


def _words(
    own: Judged, blamed: list[tuple[str, str]], opened: list[tuple[str, str]]
) -> Iterator[str]:
    for each in (*own.reasons, *own.open):
        yield each.explain()
    for tag, found in (("stale", blamed), ("undecidable", opened)):
        for parent, ancestor in found:
            way = "" if parent == ancestor else f", through input '{parent}',"
            yield f"its ancestor '{ancestor}'{way} is {tag}; see there"


def _rows(table: pa.Table) -> Iterator[Known]:
    plain = ("table_name", "status", "tenant_id", "definition_hash", "parquet_path")
    columns = {name: table.column(name).to_pylist() for name in plain}
    ages = table.column("created_at").cast(pa.int64()).to_pylist()
    logical = list(zip(*(table.column(name).to_pylist() for name in _LOGICAL), strict=True))
    shapes = [table.column(name).to_pylist() for name in _SHAPE]
    shapes[-1] = [None if each is None else tuple(each) for each in shapes[-1]]
    pins = list(_pins(table.column("input_anchors")))
    return map(
        Known,
        columns["table_name"],
        _statuses(table, pins),
        columns["tenant_id"],
        zip(ages, columns["table_name"], strict=True),
        columns["definition_hash"],
        logical,
        zip(*shapes, strict=True),
        columns["parquet_path"],
        pins,
    )


def _statuses(table: pa.Table, pins: list[tuple[Pin, ...] | None]) -> list[str]:
    """Return the statuses, `UNREADABLE` where a column holds a value that is not known here."""
    kinds = frozenset(AnchorKind)
    odd = [each is not None and any(pin.kind not in kinds for pin in each) for each in pins]
    sound = pc.invert(pa.array(odd, pa.bool_()))
    for column, enum in ENUM_COLUMNS.items():
        values = pa.array([member.value for member in enum])
        sound = pc.and_(sound, pc.is_in(table.column(column), values))
    statuses: list[str] = pc.if_else(sound, table.column("status"), UNREADABLE).to_pylist()
    return statuses


def _pins(column: pa.ChunkedArray) -> Iterator[tuple[Pin, ...] | None]:
    for chunk in column.chunks:
        flat = pc.list_flatten(chunk)
        fields = (pc.struct_field(flat, name).to_pylist() for name in Pin._fields)
        pins = tuple(map(Pin, *fields))
        lengths = pc.fill_null(pc.list_value_length(chunk), 0).to_pylist()
        start = 0
        for length, is_null in zip(lengths, chunk.is_null().to_pylist(), strict=True):
            yield None if is_null else pins[start : start + length]
            start += length
