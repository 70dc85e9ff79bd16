"""Results that sum their parents, producers that compute them again, and who was asked for what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa
from support.askers import mark
from support.graphs import adopt, result

from jammi_files import (
    AnchorKind,
    Device,
    External,
    InputAnchor,
    MaterializationEnv,
    MaterializationManifest,
    RecomputePlan,
    ResultStore,
    connect,
    unpinned_anchor,
)

ENV = MaterializationEnv("1", Device.cpu())
DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def how(label: str, parents: Iterable[str] = ()) -> External:
    """Return how a result is produced: under a name of its own, told which tables it reads."""
    return External(producer_id=label, params={"of": ",".join(parents)})


def table(total: int) -> pa.Table:
    """Return the data of a result."""
    return pa.table({"total": pa.array([total], pa.int64())})


def total(store: ResultStore, name: str) -> int:
    """Return the one number that a result holds."""
    return int(store.open_table(name).to_table()["total"][0].as_py())


def make(
    store: ResultStore, label: str, parents: Sequence[str] = (), *, value: int = 1, **also: Any
) -> str:
    """Produce one result: ``value`` and what its parents hold; return its name."""
    also.setdefault("inputs", [store.result_digest_anchor(parent) for parent in parents])
    also.setdefault("descriptor", how(label, parents))
    also.setdefault("env", ENV)
    also.setdefault("derived_from", parents[0] if parents else None)
    with store.build(label, "regression", "model", label, **also) as out:
        out.write(table(value + sum(total(store, parent) for parent in parents)))
    return out.table_name


def docs(version: str = "1") -> list[InputAnchor]:
    """Return the anchors of a result that reads one versioned source."""
    return [InputAnchor.source_version("docs", version)]


def at(version: str) -> Mapping[str, Any]:
    """Return resolvers that say where every source stands."""
    return {AnchorKind.SOURCE_VERSION.value: lambda _: version}


def make_graph(
    store: ResultStore, links: Mapping[str, Sequence[str]], **roots: Any
) -> dict[str, str]:
    """Produce one result for each label, from the labels that its value names; return the names."""
    names: dict[str, str] = {}
    for label, parents in links.items():
        also = {} if parents else {"inputs": docs(), **roots}
        names[label] = make(store, label, [names[parent] for parent in parents], **also)
    return names


def adopt_attested(store: ResultStore, links: Mapping[str, Sequence[InputAnchor | str]]) -> None:
    """Commit one ready row with a sidecar for each name, whatever graph they make."""
    rows = []
    for name, anchors in links.items():
        row = result(name, anchors)
        manifest = MaterializationManifest.attest(
            how(name), ENV, row.input_anchors or (), artifact="0" * 64, produced_at="then"
        )
        store.storage.create(f"{name}.materialization.json", manifest.to_json_bytes())
        store.storage.create(f"{name}.parquet", b"there")
        rows.append(result(name, anchors, definition_hash=manifest.definition_hash))
    adopt(store, rows)


class Summing:
    """A producer: as `make`, counting its calls; ``values`` are what each label adds.

    ``failing`` maps labels to the exception that they raise, ``returning`` to what they return.
    """

    def __init__(self, **values: int) -> None:
        self.values = values
        self.failing: dict[str, BaseException] = {}
        self.returning: dict[str, Any] = {}
        self.calls: list[str] = []
        self.contexts: dict[str, Any] = {}

    def __call__(self, context: Any) -> Any:
        label = context.descriptor.producer_id
        self.calls.append(label)
        self.contexts[label] = context
        if label in self.failing:
            raise self.failing[label]
        if label in self.returning:
            return self.returning[label]
        tables = [parent.dataset.to_table() for parent in context.parents]
        return table(self.values.get(label, 1) + sum(each["total"][0].as_py() for each in tables))

    @property
    def producers(self) -> dict[str, Any]:
        """What `recompute` takes: this one for every result of `make`."""
        return {"external": self}


def run_marked(
    root: str, plan: dict[str, Any], marks: str, *, progress: Any = None
) -> dict[str, tuple[str, str | None]]:
    """Run a plan in this process, leaving a mark for each result that is computed."""
    summing = Summing()

    def compute(context: Any) -> Any:
        mark(marks, context.descriptor.producer_id)
        return summing(context)

    report = connect(root, durability="os").recompute(
        RecomputePlan.from_dict(plan),
        {"external": compute},
        resolvers={**at("1"), "unpinned_at_instant": unpinned_anchor},
        progress=progress,
    )
    return {each.original: (each.outcome.value, each.recomputed) for each in report}


def plan_and_run(root: str, table_name: str, marks: str) -> dict[str, tuple[str, str | None]]:
    """Make the plan of a job that every process knows by one id, and run it."""
    plan = connect(root).recompute_plan(table_name, "downstream", plan_id="job of today")
    return run_marked(root, plan.to_dict(), marks)


def run_and_tell(root: str, plan: dict[str, Any], marks: str, pipe: Connection) -> None:
    """Run a plan; tell what each step became when it ends, and "begins" when it begins."""

    def tell(event: Any) -> None:
        pipe.send("begins" if event.result is None else event.result.outcome.value)

    run_marked(root, plan, marks, progress=tell)


def run_stopping(root: str, plan: dict[str, Any], pipe: Connection, written: bool) -> None:  # noqa: FBT001 - of a process
    """Run a plan, standing still inside each producer until the parent lets it go on."""
    summing = Summing()

    def compute(context: Any) -> Iterator[pa.Table]:
        made = summing(context)
        if written:
            yield made
        pipe.send(context.descriptor.producer_id)
        pipe.recv()
        yield made.slice(0, 0) if written else made

    connect(root, durability="os").recompute(
        RecomputePlan.from_dict(plan), {"external": compute}, resolvers=at("1")
    )
