"""From a table to the plan of its recomputation: order, reasons, and what stands in the way.

One version of the catalog is looked at, through one scope: what a handle does not see is neither
planned nor counted. Each table's sidecar is read once, since only it says how to compute it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jammi_files.artifacts import Artifacts, disagreement
from jammi_files.descriptors import CONTENT_DIGEST_PARAM, External
from jammi_files.errors import (
    FormatError,
    InvalidInputError,
    NotRecomputableError,
    TableNotFoundError,
)
from jammi_files.lineage import EdgeTable, LineageEdge, walk
from jammi_files.materialization import MaterializationManifest
from jammi_files.reads import CatalogSnapshot
from jammi_files.recompute_plan import (
    Cascade,
    Obstacle,
    ParentRecomputed,
    ParentReplaced,
    PlannedParent,
    RecomputePlan,
    RecomputeStep,
    Requested,
    StepReason,
    Unplannable,
)
from jammi_files.schema import AnchorKind, ResultTableRecord


def plan_recompute(  # noqa: PLR0913 - what to ask, and what is asked
    reads: CatalogSnapshot,
    artifacts: Artifacts,
    table_name: str,
    cascade: Cascade,
    *,
    plan_id: str,
    replaced_by: str | None = None,
) -> RecomputePlan:
    """Plan the recomputation of a table; see `ResultStore.recompute_plan`."""
    _require(reads, table_name)
    if replaced_by is not None:
        _require_successor(reads, table_name, replaced_by, cascade)
    edges = _downstream(reads, table_name, replaced_by)
    downstream = tuple(dict.fromkeys(edge.derived for edge in edges))
    cascading = cascade is Cascade.DOWNSTREAM
    order = level_order(table_name, edges) if cascading else [table_name]
    records = [_require(reads, name) for name in order]
    planner = _Planner(reads, artifacts, table_name, replaced_by, records)
    if replaced_by is None:
        planner.add_named(records[0])
    for record in records[1:]:
        planner.add_dependant(record)
    return RecomputePlan(
        plan_id=plan_id,
        table_name=table_name,
        cascade=cascade,
        version=reads.version,
        replaced_by=replaced_by,
        steps=tuple(planner.steps),
        downstream=downstream,
        unplannable=tuple(planner.unplannable.values()),
    )


def level_order(start: str, edges: Iterable[LineageEdge]) -> list[str]:
    """Return ``start`` and what ``edges`` lead to, parents first, each once (`B269`).

    It is the order of 0.32: breadth first, what one table makes ready by name.
    """
    dependants: dict[str, set[str]] = {}
    for edge in edges:
        dependants.setdefault(edge.input, set()).add(edge.derived)
    waiting_for: dict[str, int] = {}
    for derived in dependants.values():
        for name in derived:
            waiting_for[name] = waiting_for.get(name, 0) + 1
    order = [start]
    for name in order:  # grows as it goes
        for derived_name in sorted(dependants.get(name, ())):
            waiting_for[derived_name] -= 1
            if not waiting_for[derived_name]:
                order.append(derived_name)
    return order


class _Planner:
    """Makes steps, each after those of its parents."""

    def __init__(
        self,
        reads: CatalogSnapshot,
        artifacts: Artifacts,
        table_name: str,
        replaced_by: str | None,
        records: Sequence[ResultTableRecord],
    ) -> None:
        self._reads = reads
        self._artifacts = artifacts
        self._named = table_name
        self._replaced_by = replaced_by
        self._sidecars = dict(
            zip(
                [record.table_name for record in records],
                artifacts.read_sidecars(records),
                strict=True,
            )
        )
        self._anew = self._sidecars.keys()
        self._outside: dict[str, str | None] = {}
        self.steps: list[RecomputeStep] = []
        self.unplannable: dict[str, Unplannable] = {}

    def add_named(self, record: ResultTableRecord) -> None:
        """Make the first step.

        Raises:
            NotRecomputableError: it cannot be computed again (`B267`).
            FormatError: its sidecar is damaged.
        """
        sidecar = self._sidecars[record.table_name]
        if isinstance(sidecar, FormatError):
            raise sidecar
        found = self._read(record)
        if isinstance(found, Unplannable):
            raise NotRecomputableError(_refusal(found))
        self.steps.append(self._step(record, found, (Requested(),)))

    def add_dependant(self, record: ResultTableRecord) -> None:
        """Make a step of a dependant, or note why there is none."""
        found = self._read(record)
        if isinstance(found, Unplannable):
            self.unplannable[record.table_name] = found
            return
        parents = dict.fromkeys(anchor.source for anchor in found.input_anchors)
        reasons = tuple(self._reason(name) for name in parents if name in self._anew)
        self.steps.append(self._step(record, found, reasons))

    def _reason(self, parent: str) -> StepReason:
        if parent == self._named and self._replaced_by is not None:
            return ParentReplaced(parent, self._replaced_by)
        return ParentRecomputed(parent)

    def _step(
        self,
        record: ResultTableRecord,
        manifest: MaterializationManifest,
        reasons: tuple[StepReason, ...],
    ) -> RecomputeStep:
        results = [
            anchor.source
            for anchor in manifest.input_anchors
            if anchor.kind is AnchorKind.RESULT_DIGEST or self._is_anew(record, anchor.source)
        ]
        parents = tuple(
            PlannedParent(name, self._is_anew(record, name)) for name in dict.fromkeys(results)
        )
        return RecomputeStep(
            table_name=record.table_name,
            definition_hash=manifest.definition_hash,
            descriptor=manifest.descriptor,
            inputs=manifest.input_anchors,
            parents=parents,
            reasons=reasons,
        )

    def _is_anew(self, record: ResultTableRecord, source: str) -> bool:
        # Nothing is made anew before the named table, which may bear the name of its own source.
        return source in self._anew and record.table_name != self._named

    def _read(self, record: ResultTableRecord) -> MaterializationManifest | Unplannable:
        name = record.table_name
        manifest = self._sidecars[name]
        if isinstance(manifest, FormatError):
            return Unplannable(name, Obstacle.DAMAGED_SIDECAR, str(manifest))
        if manifest is None:
            return Unplannable(name, Obstacle.MISSING_SIDECAR, "it has no sidecar")
        contradiction = disagreement(record, manifest)
        if contradiction is not None:
            why = (
                f"its sidecar says {contradiction.found} where its row says"
                f" {contradiction.expected}"
            )
            return Unplannable(name, Obstacle.SIDECAR_DISAGREES, why)
        descriptor = manifest.descriptor
        if isinstance(descriptor, External) and CONTENT_DIGEST_PARAM in descriptor.params:
            return Unplannable(name, Obstacle.ROWS_GIVEN, _ROWS_GIVEN)
        return self._find_missing_input(record, manifest) or manifest

    def _find_missing_input(
        self, record: ResultTableRecord, manifest: MaterializationManifest
    ) -> Unplannable | None:
        for anchor in manifest.input_anchors:
            if anchor.source in self.unplannable:
                why = f"its parent '{anchor.source}' cannot be recomputed"
                return Unplannable(record.table_name, Obstacle.PARENT_UNPLANNABLE, why)
            is_result = anchor.kind is AnchorKind.RESULT_DIGEST
            if is_result and not self._is_anew(record, anchor.source):
                why_gone = self._find_loss(anchor.source)
                if why_gone is not None:
                    why = f"its input '{anchor.source}' has vanished: {why_gone}"
                    return Unplannable(record.table_name, Obstacle.INPUT_VANISHED, why)
        return None

    def _find_loss(self, table_name: str) -> str | None:
        """Say why a table that is kept cannot be read again; None if it can (one stat each)."""
        if table_name not in self._outside:
            self._outside[table_name] = self._lost(table_name)
        return self._outside[table_name]

    def _lost(self, table_name: str) -> str | None:
        try:
            record = self._reads.get_result_table(table_name)
        except FormatError as error:
            return str(error)
        if record is None:
            return "there is no such result here"
        if not record.is_ready:
            return f"its row is {record.status}"
        return None if self._artifacts.exists(record) else "its bytes are gone"


_ROWS_GIVEN = (
    "its definition is the digest of rows that a caller computed; register new ones with"
    " materialize_computed_embedding_table, and rebuild its dependants with replaced_by="
)


def _require(reads: CatalogSnapshot, table_name: str) -> ResultTableRecord:
    record = reads.get_result_table(table_name)
    if record is None:
        raise TableNotFoundError.named(table_name)
    return record


def _require_successor(
    reads: CatalogSnapshot, table_name: str, replaced_by: str, cascade: Cascade
) -> None:
    if cascade is not Cascade.DOWNSTREAM:
        raise InvalidInputError("replaced_by rebuilds dependants: give cascade='downstream' too")
    if replaced_by == table_name:
        raise InvalidInputError("replaced_by must be another result than the table itself")
    successor = _require(reads, replaced_by)
    if not successor.is_ready:
        raise InvalidInputError(f"Result table '{replaced_by}' is {successor.status}, not ready")


def _downstream(
    reads: CatalogSnapshot, table_name: str, replaced_by: str | None
) -> list[LineageEdge]:
    """Return the edges from a table to its dependants, without those of its replacement."""
    links: Mapping[str, Sequence[tuple[str, AnchorKind]]] = EdgeTable.read(reads).by_input()
    if replaced_by is not None:  # an increment derives from what it replaces; it stays
        links = {
            name: [step for step in steps if step[0] != replaced_by]
            for name, steps in links.items()
        }
    return [LineageEdge(step.node, step.target, step.kind) for step in walk(links, table_name)]


def _refusal(found: Unplannable) -> str:
    name = found.table_name
    if found.obstacle is Obstacle.MISSING_SIDECAR:
        return f"table `{name}` carries no materialization contract and cannot be recomputed"
    if found.obstacle is Obstacle.ROWS_GIVEN:
        prefix = f"table `{name}` has no engine-recomputable producer and cannot be recomputed"
        return f"{prefix}: {found.why}"
    return f"table `{name}` cannot be recomputed: {found.why}"
