"""Compute results again: plan, then run what the caller registers, each step on its new parents.

Results are immutable, so a recomputation makes new ones under new names and the old ones stay
(`B270`). A step is one job of `reuse`: of several processes that run a plan at once one computes
it, and a later run of the plan finds it in the catalog by two properties of its row (FORMAT section
"Recompute"). So a run that was cut off is simply begun again, wherever the plan is.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from jammi_files import planning, rules
from jammi_files.cache import CachePolicy
from jammi_files.described import Described
from jammi_files.environments import find_environment
from jammi_files.errors import FormatError, InvalidInputError, NotRecomputableError, StateError
from jammi_files.materialization import (
    MaterializationEnv,
    MaterializationManifest,
    definition_hash,
)
from jammi_files.present import AnchorResolvers, PresentSources
from jammi_files.recompute_job import (
    ORIGINAL,
    PLAN,
    RecomputeContext,
    RecomputeParent,
    StepJob,
    checked_pieces,
    only_ready,
    stored_schema,
)
from jammi_files.recompute_plan import Cascade, RecomputePlan, RecomputeStep
from jammi_files.recompute_report import (
    RecomputeOutcome,
    RecomputeProgress,
    RecomputeReport,
    RecomputeResult,
)
from jammi_files.retarget import retarget
from jammi_files.reuse import Manner, Reuse
from jammi_files.schema import InputAnchor, ResultTableRecord
from jammi_files.validation import require_text

Producer = Callable[[RecomputeContext], Any]
"""Returns what `Build.write` takes: Arrow data, a DataFrame, or an iterable of it."""

Producers = (
    Mapping[str, Producer]
    | Mapping[type[Described], Producer]
    | Mapping[str | type[Described], Producer]
)
"""Producers by table name, definition hash, ``external:<producer_id>``, or kind of descriptor.

The kind is the stored name or the class: ``"embedding"`` or `Embedding`.
"""

Environments = MaterializationEnv | Mapping[str, MaterializationEnv] | None
"""One environment for every step, or several by the keys of `Producers`."""

T = TypeVar("T")

_NAMED_IN_ERRORS = 10
_CARRIED_NOT = (rules.BUILD_KEY, "error", PLAN, ORIGINAL)


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """A step that can be run: everything but its new parents is known."""

    step: RecomputeStep
    record: ResultTableRecord
    producer: Producer
    env: MaterializationEnv
    owner: Recompute


@dataclasses.dataclass(frozen=True, slots=True)
class _Run:
    """One call of `recompute`: what holds for every step, and how those before have ended."""

    plan: RecomputePlan
    manner: Manner
    sources: PresentSources
    kept: Mapping[str, InputAnchor]
    results: dict[str, RecomputeResult] = dataclasses.field(default_factory=dict)

    def new_name(self, table_name: str) -> str | None:
        """Return the result that takes a table's place, None if that step has not succeeded."""
        if table_name == self.plan.table_name and self.plan.replaced_by is not None:
            return self.plan.replaced_by
        result = self.results.get(table_name)
        return None if result is None else result.recomputed


class Recompute(Reuse):
    """Planning and running of recomputations."""

    def recompute_plan(
        self,
        table_name: str,
        cascade: Cascade | str = Cascade.REPORT_ONLY,
        *,
        replaced_by: str | None = None,
        plan_id: str | None = None,
    ) -> RecomputePlan:
        """Return what to compute again so that a table is new, in order; nothing is written.

        ``report_only`` plans the named table and lists its dependants (`B268`), ``downstream``
        plans them all, parents first (`B269`). With ``replaced_by`` the table is not computed: its
        dependants are planned to stand on that ready result, which may have come from anywhere.
        Inputs that no step makes anew stay those that were recorded: name the uppermost stale
        table. Visible rows alone are planned and counted.

        A plan is one job: whoever runs it again, in whichever process, goes on where it stopped,
        and a new plan computes anew. Keep it (``to_dict``, ``from_dict``), or give a ``plan_id`` of
        your own, such as the id of a scheduled run, to make the same plan again later.

        Raises:
            InvalidInputError: another cascade (`B019`), or ``replaced_by`` is not ready.
            TableNotFoundError: no visible row has the name.
            NotRecomputableError: the named table cannot be computed again (`B267`); dependants that
                cannot are in the plan's ``unplannable``.
            FormatError: the named table's sidecar is damaged.
            DependencyCycleError: a table is its own ancestor.
        """
        return planning.plan_recompute(
            self.catalog.snapshot(),
            self._artifacts,
            require_text("table_name", table_name),
            Cascade.parse(cascade),
            plan_id=uuid.uuid4().hex if plan_id is None else require_text("plan_id", plan_id),
            replaced_by=replaced_by,
        )

    def recompute(  # noqa: PLR0913 - what to run, and how
        self,
        plan: RecomputePlan,
        producers: Producers,
        *,
        env: Environments = None,
        resolvers: AnchorResolvers | None = None,
        progress: Callable[[RecomputeProgress], object] | None = None,
        wait_seconds: float | None = None,
    ) -> RecomputeReport:
        """Compute every table of a plan again and say what became of each (`B270` to `B272`).

        The most specific producer wins: by table name, definition hash, ``external:<producer_id>``,
        kind. It is called with a `RecomputeContext` and returns Arrow data with the columns of the
        old result. New results belong to this handle's tenant, those of an admin handle to the
        owner of the old one. Descriptors and anchors name the new parents (`B272`). Raw sources are
        looked at before the first step: ``resolvers`` are those of `staleness`, and may also return
        an `InputAnchor`, such as `source_anchor` or `unpinned_anchor`. Without ``env`` a result's
        own recorded environment is used.

        The named table is computed although nothing has changed (`B271`); a dependant is ``reused``
        if exactly it exists. A step fails alone: what descends from it is ``skipped``, the rest
        goes on. Only what interrupts the process (`KeyboardInterrupt`) leaves this call.

        Raises, before anything is computed or written:
            NotRecomputableError: a step has no producer.
            InvalidInputError: an argument is wrong; an environment is unknown; a source is not
                decided by ``resolvers``.
            TableNotFoundError: a table of the plan is gone.
            StateError: a table is not as it was planned, or an input has vanished.
        """
        if not isinstance(plan, RecomputePlan):
            raise InvalidInputError(
                f"plan must be what recompute_plan or RecomputePlan.from_dict returns, not {plan!r}"
            )
        manner = Manner(CachePolicy.USE, None, "wait", wait_seconds)
        tasks = self._tasks(plan, producers, env)
        kept = self._kept(plan)
        sources = PresentSources(resolvers)
        sources.look_at(anchor for step in plan for anchor in step.sources)
        run = _Run(plan, manner, sources, kept)
        tell = progress or (lambda _: None)
        for number, task in enumerate(tasks):
            tell(RecomputeProgress(task.step, None, number, len(tasks)))
            result = task.owner._run(run, task)  # noqa: SLF001 - this class, its owner's scope
            run.results[task.step.table_name] = result
            tell(RecomputeProgress(task.step, result, number + 1, len(tasks)))
        return RecomputeReport(plan, tuple(run.results.values()))

    def _tasks(self, plan: RecomputePlan, producers: Producers, env: Environments) -> list[_Task]:
        made = _checked_producers(producers)
        envs = _checked_environments(env, plan)
        found = {step.table_name: _chosen(made, step) for step in plan}
        lacking = [step for step in plan if found[step.table_name] is None]
        if lacking:
            raise NotRecomputableError(_no_producer(lacking))
        tasks, unknown = [], []
        for step, record, manifest in self._planned(plan):
            producer = found[step.table_name]
            chosen = _chosen(envs, step) or find_environment(manifest)
            if chosen is None:
                unknown.append(step)
            elif producer is not None:
                tasks.append(_Task(step, record, producer, chosen, self._owner(record)))
        if unknown:
            raise InvalidInputError(
                f"the environment of {_listed(unknown)} is not recorded in clear and is no usual"
                " one; give env=MaterializationEnv(...), or several by the keys of producers"
            )
        return tasks

    def _planned(
        self, plan: RecomputePlan
    ) -> Iterator[tuple[RecomputeStep, ResultTableRecord, MaterializationManifest]]:
        """Yield each step with its table's row and sidecar, which must be as they were planned."""
        records = [self._record(step.table_name) for step in plan]
        sidecars = self._artifacts.read_sidecars(records)
        for step, record, manifest in zip(plan, records, sidecars, strict=True):
            if isinstance(manifest, FormatError):
                raise manifest
            said = (step.definition_hash, step.inputs, step.descriptor)
            if manifest is None or said != (
                manifest.definition_hash,
                manifest.input_anchors,
                manifest.descriptor,
            ):
                raise StateError(
                    f"the sidecar of '{step.table_name}' is not what was planned; make a new plan"
                )
            yield step, record, manifest

    def _owner(self, record: ResultTableRecord) -> Recompute:
        """Return the handle that makes a new result: an admin's results stay with their owners."""
        if not self.catalog.scope.admin:
            return self
        return type(self)(self.catalog.pinned_to_tenant(record.tenant_id), self.signing)

    def _kept(self, plan: RecomputePlan) -> dict[str, InputAnchor]:
        """Return the anchors of the results that steps read and that stay as they are."""
        names = [each.table_name for step in plan for each in step.parents if not each.anew]
        if plan.replaced_by is not None:
            names.append(plan.replaced_by)
        kept = {}
        for name in dict.fromkeys(names):
            only_ready(self._record(name), self._artifacts)
            kept[name] = self.result_digest_anchor(name)
        return kept

    def _run(self, run: _Run, task: _Task) -> RecomputeResult:
        """Obtain one step's result, or say what kept it from being."""
        started = time.perf_counter()
        name, recomputed, exception = task.step.table_name, None, None
        renamed = {
            parent.table_name: run.new_name(parent.table_name)
            for parent in task.step.parents
            if parent.anew
        }
        lost = [old for old, new in renamed.items() if new is None]
        if lost:
            outcome = RecomputeOutcome.SKIPPED
            error: str | None = f"its parent '{lost[0]}' {run.results[lost[0]].outcome}"
        else:
            known = {old: new for old, new in renamed.items() if new is not None}
            try:
                obtained = self._obtain(self._job(run, task, known), run.manner)
            except Exception as raised:  # noqa: BLE001 - a producer may raise anything
                outcome, exception = RecomputeOutcome.FAILED, raised
                error = f"{type(raised).__name__}: {raised}"
            else:
                outcome, error = RecomputeOutcome(obtained.outcome.cache_outcome), None
                recomputed = obtained.table_name
        seconds = time.perf_counter() - started
        return RecomputeResult(name, recomputed, outcome, error, seconds, exception)

    def _job(self, run: _Run, task: _Task, renamed: Mapping[str, str]) -> StepJob:
        step, record = task.step, task.record
        inputs = tuple(self._anchor(run, each, renamed) for each in step.inputs)
        descriptor = retarget(step.descriptor, renamed)
        names = [(each.table_name, renamed.get(each.table_name)) for each in step.parents]

        def compute() -> Any:  # noqa: ANN401 - whatever speaks Arrow
            parents = tuple(
                RecomputeParent(old, new or old, self.open_table(new or old)) for old, new in names
            )
            context = RecomputeContext(
                step=step,
                original=record,
                descriptor=descriptor,
                env=task.env,
                inputs=inputs,
                parents=parents,
                store=self,
            )
            old = stored_schema(self._artifacts, record)
            return checked_pieces(task.producer(context), old)

        return StepJob(
            descriptor,
            task.env,
            inputs,
            compute,
            _columns(run.plan, record, renamed),
            None,
            definition_hash(descriptor, task.env),
            run.plan.plan_id,
            step.table_name,
            is_named=step.table_name == run.plan.table_name,
        )

    def _anchor(self, run: _Run, recorded: InputAnchor, renamed: Mapping[str, str]) -> InputAnchor:
        """Return an input as it is read now: a new parent, a kept one, or a raw source."""
        if recorded.source in renamed:
            return self.result_digest_anchor(renamed[recorded.source])
        return run.kept.get(recorded.source) or run.sources.now(recorded)


def _columns(
    plan: RecomputePlan, record: ResultTableRecord, renamed: Mapping[str, str]
) -> dict[str, Any]:
    """Return the arguments of `create_table` for the new result: the old one's, names replaced."""
    carried = (record.properties or {}).items()
    properties = {name: value for name, value in carried if name not in _CARRIED_NOT}
    parent = record.derived_from
    return {
        "source_id": renamed.get(record.source_id, record.source_id),
        "task": record.task,
        "kind": record.kind,
        "model_id": record.model_id,
        "derived_from": None if parent is None else renamed.get(parent, parent),
        "dimensions": record.dimensions,
        "key_column": record.key_column,
        "text_columns": record.text_columns,
        "properties": {**properties, PLAN: plan.plan_id, ORIGINAL: record.table_name},
    }


def _checked_producers(producers: Producers) -> dict[str, Producer]:
    if not isinstance(producers, Mapping):
        raise InvalidInputError(f"producers must be a mapping, not {producers!r}")
    checked = {_key("producers", key): producer for key, producer in producers.items()}
    for key, producer in checked.items():
        if not callable(producer):
            raise InvalidInputError(f"producers['{key}'] must be callable, not {producer!r}")
    return checked


def _checked_environments(env: Environments, plan: RecomputePlan) -> dict[str, MaterializationEnv]:
    if env is None:
        return {}
    if isinstance(env, MaterializationEnv):
        return dict.fromkeys(plan.table_names, env)
    if not isinstance(env, Mapping) or not all(
        isinstance(each, MaterializationEnv) for each in env.values()
    ):
        raise InvalidInputError(
            f"env must be a MaterializationEnv, or a mapping to several, not {env!r}"
        )
    return {_key("env", key): each for key, each in env.items()}


def _key(what: str, key: object) -> str:
    if isinstance(key, type) and issubclass(key, Described):
        return key.label()
    return require_text(f"a key of {what}", key)


def _chosen(given: Mapping[str, T], step: RecomputeStep) -> T | None:
    return next((given[key] for key in step.producer_keys if key in given), None)


def _no_producer(lacking: list[RecomputeStep]) -> str:
    kinds = ", ".join(f"'{kind}': f" for kind in dict.fromkeys(step.producer for step in lacking))
    return (
        f"no producer is registered for {_listed(lacking)}; give producers={{{kinds}}} where f"
        " takes a RecomputeContext and returns Arrow data"
    )


def _listed(steps: list[RecomputeStep]) -> str:
    named = [f"`{step.table_name}` ({step.producer})" for step in steps[:_NAMED_IN_ERRORS]]
    more = len(steps) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
