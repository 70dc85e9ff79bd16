"""Reuse an exact result or build it, once however many ask at the same time (`B122` to `B127`).

A build that may be reused claims its key in the very commit that makes its ``building`` row, so of
all who ask one computes. The others look again and again, one freshness check each time, until the
result is ready, or the row has failed or its process died: then one of them claims the key anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, ParamSpec

import pyarrow as pa

from jammi_files import cache, events, lease, rules, tracing
from jammi_files.answers import Answers
from jammi_files.artifacts import Artifacts
from jammi_files.build import Build
from jammi_files.cache import CacheOutcome, CachePolicy, Obtained, Verify
from jammi_files.catalog import Catalog
from jammi_files.descriptors import (
    AsofJoin,
    ContextSet,
    Descriptor,
    Embedding,
    External,
    GraphPropagation,
    Inference,
    NeighborGraph,
)
from jammi_files.errors import (
    ConflictError,
    InvalidInputError,
    JammiFilesError,
    StateError,
    TableNotFoundError,
)
from jammi_files.events import Event
from jammi_files.funnel import ResultTableInfo
from jammi_files.materialization import MaterializationEnv, definition_hash
from jammi_files.reads import CatalogSnapshot, Reads
from jammi_files.schema import (
    InputAnchor,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    require_anchors,
)
from jammi_files.strict_json import canonical_json
from jammi_files.timestamps import CLOCK, parse_timestamp

P = ParamSpec("P")

OnBusy = Literal["wait", "fail", "compute"]
"""What to do while another process builds the same result (`B127`)."""

FIRST_PAUSE, LONGEST_PAUSE, LONGEST_FAR_PAUSE = 0.01, 0.5, 5.0
"""Seconds between two looks at a build that is awaited, before jitter; a bucket bills each look."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A result that is wanted, and how to compute it; ``columns`` are those of `create_table`."""

    descriptor: Descriptor
    env: MaterializationEnv
    inputs: tuple[InputAnchor, ...]
    fn: Callable[[], Any]
    columns: dict[str, Any]
    schema: pa.Schema | None
    definition_hash: str

    @property
    def key(self) -> str:
        """The SHA-256 of `identity`."""
        return hashlib.sha256(canonical_json(self.identity())).hexdigest()

    def identity(self) -> list[Any]:
        """Return the definition and the inputs, in whatever order those came."""
        return [self.definition_hash, [anchor.to_dict() for anchor in sorted(self.inputs)]]

    @property
    def is_shared(self) -> bool:
        """False if nobody else's result can stand for this one (`B115`)."""
        return all(anchor.is_pinned for anchor in self.inputs)

    def find(
        self, reads: Reads, artifacts: Artifacts, verify: Verify | None
    ) -> ResultTableRecord | None:
        """Return the newest usable result that is this one."""
        return cache.probe(reads, artifacts, self.definition_hash, self.inputs, verify)


@dataclasses.dataclass(frozen=True, slots=True)
class Manner:
    """How a job is asked for: the keywords of `Reuse.get_or_build` of the same names."""

    policy: CachePolicy
    verify: Verify | None
    on_busy: OnBusy
    wait_seconds: float | None

    def __post_init__(self) -> None:
        if self.on_busy not in ("wait", "fail", "compute"):
            raise InvalidInputError(
                f"on_busy must be 'wait', 'fail' or 'compute', not {self.on_busy!r}"
            )
        wait = self.wait_seconds
        is_number = isinstance(wait, (int, float)) and not isinstance(wait, bool)
        if wait is not None and not (is_number and wait >= 0):
            raise InvalidInputError(f"wait_seconds must be None or seconds >= 0, not {wait!r}")

    def deadline(self) -> float:
        """Return the instant of the monotonic clock at which waiting ends."""
        return math.inf if self.wait_seconds is None else time.monotonic() + self.wait_seconds


class Reuse(Answers):
    """Asking and producing in one call."""

    def get_or_build(  # noqa: PLR0913 - one keyword per column and per choice
        self,
        descriptor: Descriptor,
        env: MaterializationEnv,
        inputs: Sequence[InputAnchor],
        fn: Callable[[], Any],
        *,
        source_id: str | None = None,
        task: ModelTask | str | None = None,
        kind: ResultTableKind | str | None = None,
        model_id: str | None = None,
        policy: CachePolicy | str = CachePolicy.USE,
        verify: Verify | None = None,
        on_busy: OnBusy = "wait",
        wait_seconds: float | None = None,
        derived_from: str | None = None,
        dimensions: int | None = None,
        key_column: str | None = None,
        text_columns: Sequence[str] | None = None,
        properties: Mapping[str, str] | None = None,
        schema: pa.Schema | None = None,
    ) -> Obtained:
        """Return the newest usable exact match, else compute it with ``fn`` (`B122` to `B127`).

        ``fn`` returns what `Build.write` takes: Arrow data, a DataFrame, or an iterable of it. Of
        all who ask at once one calls it. If it fails, its row says why and the exception is that
        caller's alone; if it dies, its row is failed: either way one of those who wait computes.
        ``on_busy="fail"`` raises instead of waiting, ``"compute"`` computes too. ``fn`` must not
        ask for its own result. ``verify`` is that of `probe_cache`.

        Policy ``bypass`` never looks (`B123`), and a result with an unpinned input is never reused
        (`B115`): then every caller computes. What the row says (``source_id`` and so on) comes from
        the descriptor and its parent table as far as they hold it. What `build` makes is reused
        once it is ready, but not awaited.

        Raises:
            InvalidInputError: an argument is wrong, or neither given nor in the descriptor.
            ConflictError: the result is being built: with ``on_busy="fail"``, or for longer than
                ``wait_seconds``.
        """
        given = {
            "source_id": source_id,
            "task": task,
            "kind": kind,
            "model_id": model_id,
            "derived_from": derived_from,
            "dimensions": dimensions,
            "key_column": key_column,
            "text_columns": text_columns,
            "properties": properties,
        }
        manner = Manner(CachePolicy.parse(policy), verify, on_busy, wait_seconds)
        columns, digest = self._columns(descriptor, given), definition_hash(descriptor, env)
        job = Job(descriptor, env, require_anchors(inputs), fn, columns, schema, digest)
        return self._ask(job, manner)

    def cached(  # noqa: PLR0913 - as above
        self,
        *,
        descriptor: Descriptor | Callable[P, Descriptor],
        env: MaterializationEnv | Callable[P, MaterializationEnv],
        inputs: Sequence[InputAnchor] | Callable[P, Sequence[InputAnchor]],
        source_id: str | None = None,
        task: ModelTask | str | None = None,
        kind: ResultTableKind | str | None = None,
        model_id: str | None = None,
        policy: CachePolicy | str = CachePolicy.USE,
        verify: Verify | None = None,
        on_busy: OnBusy = "wait",
        wait_seconds: float | None = None,
        derived_from: str | None = None,
        dimensions: int | None = None,
        key_column: str | None = None,
        text_columns: Sequence[str] | None = None,
        properties: Mapping[str, str] | None = None,
        schema: pa.Schema | None = None,
    ) -> Callable[[Callable[P, Any]], Callable[P, Obtained]]:
        """Return a decorator: calling the function is `get_or_build` of what it returns.

        ``descriptor``, ``env`` and ``inputs`` may each be a function of the call's arguments; an
        argument that decides the output must be part of one of them. The rest is as above.
        """

        def decorate(function: Callable[P, Any]) -> Callable[P, Obtained]:
            @functools.wraps(function)
            def obtain(*args: P.args, **kwargs: P.kwargs) -> Obtained:
                return self.get_or_build(
                    descriptor(*args, **kwargs) if callable(descriptor) else descriptor,
                    env(*args, **kwargs) if callable(env) else env,
                    inputs(*args, **kwargs) if callable(inputs) else inputs,
                    functools.partial(function, *args, **kwargs),
                    source_id=source_id,
                    task=task,
                    kind=kind,
                    model_id=model_id,
                    policy=policy,
                    verify=verify,
                    on_busy=on_busy,
                    wait_seconds=wait_seconds,
                    derived_from=derived_from,
                    dimensions=dimensions,
                    key_column=key_column,
                    text_columns=text_columns,
                    properties=properties,
                    schema=schema,
                )

            return obtain

        return decorate

    def _ask(self, job: Job, manner: Manner) -> Obtained:
        about = {"root": self.storage.root, "definition_hash": job.definition_hash}
        with tracing.span("get_or_build", **about) as span:
            obtained = self._obtain(job, manner)
            name = obtained.table_name
            span.set(table_name=name, outcome=obtained.outcome.cache_outcome)
        if obtained.outcome.is_reused:
            events.info(Event.REUSED, "reused %s", name, table_name=name)
        return obtained

    def _obtain(self, job: Job, manner: Manner) -> Obtained:
        if manner.policy is CachePolicy.BYPASS or not job.is_shared:
            return self._compute(job)
        deadline, pause = manner.deadline(), FIRST_PAUSE
        while True:
            # Always the newest version: a handle's max_staleness would only prolong the wait.
            seen = CatalogSnapshot(self.catalog.log.head(), self.catalog.scope, self.catalog)
            match = job.find(seen, self._artifacts, manner.verify)
            if match is not None:
                return Obtained(match, CacheOutcome.reused(match.table_name))
            holder = _find_holder(seen, job.key)
            if holder is None:
                row = self._new_row(**job.columns)
                claim = rules.Claim(job.key, job.definition_hash, seen.version)
                with _working_on(row["table_name"]):
                    holder = self.catalog.create_result_table(**row, claim=claim)
                    if holder.table_name == row["table_name"]:
                        return self._compute(job, claimed=holder)
            if holder.is_ready:
                continue  # between the look and the claim
            if self._bury_if_dead(holder):
                continue
            if manner.on_busy == "compute":
                return self._compute(job)
            left = deadline - time.monotonic()
            if manner.on_busy == "fail" or left <= 0:
                raise ConflictError(f"this result is being built as '{holder.table_name}'")
            _wait(holder, min(left, random.uniform(pause / 2, pause)), pause)  # noqa: S311 - jitter
            pause = min(2 * pause, LONGEST_PAUSE if self.storage.is_locked else LONGEST_FAR_PAUSE)

    def _compute(self, job: Job, *, claimed: ResultTableRecord | None = None) -> Obtained:
        def create() -> ResultTableInfo:
            return self._info(claimed) if claimed else self.create_table(**job.columns)

        steps = self._steps(create, job.descriptor, job.env, job.inputs)
        with Build(steps, job.schema) as out, _renewed(self.catalog, out.table_name):
            out.write(job.fn())
        made = self.catalog.last_seen().get_result_table(out.table_name)
        return Obtained(made or self._record(out.table_name), CacheOutcome.computed())

    def _bury_if_dead(self, holder: ResultTableRecord) -> bool:
        """Fail a build whose process is gone, unless somebody else does; True if it is dead."""
        death = self._find_death(holder)
        if death is None:
            return False
        with contextlib.suppress(StateError, TableNotFoundError):  # another one was first
            self.catalog.fail_unchanged(holder, f"another build takes over: {death}")
        return True

    def _find_death(self, holder: ResultTableRecord) -> str | None:
        if lease.is_mine(holder.lease) and holder.table_name not in _at_work:
            return "it was interrupted"
        created, now = parse_timestamp(holder.created_at), CLOCK.now()
        if lease.find_death(holder.lease, created, now) is None:
            return None
        return lease.find_build_death(self.storage, holder)  # its renewals, if any

    def _columns(self, descriptor: Descriptor, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of `create_table`: those given, else what the descriptor says."""
        if isinstance(given["properties"], Mapping) and rules.BUILD_KEY in given["properties"]:
            raise InvalidInputError(f"properties must not hold '{rules.BUILD_KEY}': it is computed")
        said: dict[str, Any] = {"kind": ResultTableKind.MODEL, **self._said_by(descriptor)}
        columns: dict[str, Any] = {
            name: said.get(name) if value is None else value for name, value in given.items()
        }
        missing = [name for name in ("source_id", "task", "model_id") if columns.get(name) is None]
        if missing:
            raise InvalidInputError(
                f"a {type(descriptor).__name__} descriptor does not say {' and '.join(missing)};"
                " give it as a keyword"
            )
        task, kind = ModelTask.parse(columns["task"]), ResultTableKind.parse(columns["kind"])
        return {**columns, "task": task, "kind": kind}

    def _said_by(self, descriptor: Descriptor) -> dict[str, Any]:
        said: dict[str, Any] = {}
        match descriptor:
            case Inference() | Embedding():
                names = ["source_id", "task", "model_id", "key_column"]
                names += ["dimensions"] if isinstance(descriptor, Embedding) else []
                said = {name: getattr(descriptor, name) for name in names}
            case NeighborGraph():
                kind = ResultTableKind.NEIGHBOR_GRAPH
                said = {"kind": kind, "model_id": kind.value}
                said |= self._said_by_parent(descriptor.source_table)
            case GraphPropagation(source_table=parent, dimensions=dimensions):
                said = {"dimensions": dimensions, **self._said_by_parent(parent)}
            case ContextSet(source_id=source, encoder_id=model, dimensions=dimensions):
                said = {"source_id": source, "model_id": model, "dimensions": dimensions}
            case AsofJoin():
                said = {"kind": ResultTableKind.ASOF_JOIN}
            case External():
                said = {"model_id": descriptor.producer_id}
        return said

    def _said_by_parent(self, table_name: str) -> dict[str, Any]:
        parent = self.catalog.get_result_table(table_name)
        if parent is None:
            return {}
        return {"source_id": parent.source_id, "task": parent.task, "derived_from": table_name}


def _wait(holder: ResultTableRecord, seconds: float, pause: float) -> None:
    if pause == FIRST_PAUSE:
        name = holder.table_name
        events.info(Event.WAITING, "waiting for %s", name, table_name=name)
    time.sleep(seconds)


_at_work: set[str] = set()
"""The tables whose claims a thread of this process works on, or tries to get."""


@contextlib.contextmanager
def _working_on(table_name: str) -> Iterator[None]:
    # From before the claim is committed: a claim of this process that is not here was interrupted.
    _at_work.add(table_name)
    try:
        yield
    finally:
        _at_work.discard(table_name)


def _find_holder(reads: CatalogSnapshot, key: str) -> ResultTableRecord | None:
    building = reads.list_result_tables_by_status("building")
    return next((record for record in building if rules.holds_key(record, key)), None)


@contextlib.contextmanager
def _renewed(catalog: Catalog, table_name: str) -> Iterator[None]:
    """Renew a build's lease while the block runs: a function may compute long before it writes."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(lease.LEASE_SECONDS / 3):
            try:
                catalog.renew_lease(table_name)
            except JammiFilesError as error:
                text = "could not renew the lease of %s: %s"
                events.warn(Event.NOT_RENEWED, text, table_name, error, table_name=table_name)

    thread = threading.Thread(target=renew, name=f"lease of {table_name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
