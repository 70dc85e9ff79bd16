"""Two roots that differ in nothing but what one tenant holds, and what a handle can observe.

`populate` makes a root in which three owners work side by side; `erase` takes one of them out of
every version, as if that tenant had never been. Whatever a handle of another tenant can observe
must then be the same in both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import itertools
import logging
import random
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from support.recomputing import ENV, docs, how, make, table
from support.results import row
from support.scopes import ACME, BETA

from jammi_files import (
    Catalog,
    Embedding,
    InputAnchor,
    ModelTask,
    ResultStore,
    connect,
    definition_hash,
    lease,
    manifest,
)
from jammi_files.draft import SEGMENTS
from jammi_files.reuse import Job
from jammi_files.rules import Claim
from jammi_files.timestamps import Clock

_START = 1_790_000_000_000_000_000
_CHAIN = ("before", "base", "left")


class World(NamedTuple):
    """A root and the names of what was made in it, by what each is there for."""

    root: Path
    acme: Mapping[str, str]
    beta: Mapping[str, str]
    shared: Mapping[str, str]
    alone: Mapping[int, str]
    """What the operation of a version is called if ACME has no part in it."""
    plan: Mapping[str, Any]
    """A plan that was made by somebody who sees everything."""

    @property
    def names(self) -> list[str]:
        """Every name that somebody may ask for, one of them nobody's."""
        own = [*self.beta.values(), *self.shared.values()]
        return [*self.acme.values(), *own, "nobody's", "acme 001"]


@contextlib.contextmanager
def determined() -> Iterator[None]:
    """Make clock and random names the same in every block, so that two runs can be compared."""
    ticks, names = itertools.count(_START, 1_000_003), random.Random(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Clock, "first_of", lambda *_: next(ticks))
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=names.getrandbits(128), version=4))
        yield


def embedding(store: ResultStore, version: str, value: float) -> str:
    """Make an embedding table of the source ``docs``."""
    descriptor = Embedding(
        source_id="docs",
        model_id="minilm",
        task=ModelTask.TEXT_EMBEDDING,
        columns=["title"],
        key_column="id",
        dimensions=2,
    )
    return store.materialize_embedding_table(
        "docs",
        "minilm",
        pa.array(["a", "b"]),
        pa.array([[value, 0.5], [1.0, 0.25]], pa.list_(pa.float32())),
        descriptor=descriptor,
        env=ENV,
        inputs=docs(version),
        dimensions=2,
    )


def claimed_job(label: str) -> Job:
    """Return the job that `External` of that label over ``docs`` is, as a build claims it."""
    descriptor = how(label)
    inputs = tuple(docs())
    digest = definition_hash(descriptor, ENV)
    return Job(descriptor, ENV, inputs, lambda: table(1), {}, None, digest)


def populate(root: Path) -> World:
    """Make a root in which ACME, BETA and nobody in particular own results of every kind.

    Its builds are those of another process, which lives.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "producer_id", lambda: "another")
        return _populate(root)


def _populate(root: Path) -> World:
    shared = connect(root, durability="os")
    acme, beta = shared.pinned_to_tenant(ACME), shared.pinned_to_tenant(BETA)
    of_acme: dict[str, str] = {}
    of_beta: dict[str, str] = {}
    of_all: dict[str, str] = {}
    of_all["base"] = make(shared, "base", inputs=docs("1"))
    of_acme["base"] = make(acme, "base", inputs=docs("2"))  # would supersede the one above
    of_beta["embedding"] = embedding(beta, "1", 0.25)
    of_acme["embedding"] = embedding(acme, "2", 0.75)  # newer: would be what the resolver finds
    of_all["child"] = make(shared, "child", [of_all["base"]])
    of_beta["child"] = make(beta, "child of beta", [of_all["base"]])
    of_acme["child"] = make(acme, "child of acme", [of_all["base"]])
    of_acme["chain"] = make(acme, "secret chain", [of_acme["child"]])
    of_beta["leaf"] = make(beta, "leaf", [of_beta["child"]])
    of_acme["report"] = make(acme, "report", inputs=docs())  # what BETA will ask for
    of_beta["edited"] = make(beta, "edited", inputs=docs())
    beta.catalog.update_result_table_status(of_beta["edited"], "failed", 0)
    of_beta["building"] = beta.create_table("docs", "regression", "model", "m").table_name
    beta.catalog.set_checkpoint(of_beta["building"], 3)
    of_acme["building"] = acme.create_table("docs", "regression", "model", "m").table_name
    acme.catalog.set_checkpoint(of_acme["building"], 7)
    _claim(acme, of_acme)
    _die(beta, of_beta)
    _die(acme, of_acme)
    _lean_on_acme(shared, of_acme, of_beta)
    _share_bytes(acme, of_acme, of_beta)
    _damage(root, acme, of_acme)
    of_acme["last"] = make(acme, "last of acme", inputs=docs())
    acme.catalog.create_result_tables(
        pa.Table.from_pylist([row(f"acme {each:03}", source_id="secret") for each in range(140)])
    )
    acme.catalog.fail_result_table("acme 001", "secret error")
    acme.catalog.delete_result_table("acme 002")
    for name in ("gone", "again"):
        beta.catalog.create_result_table(**row(name, source_id="docs"))
        beta.catalog.delete_result_table(name)
    beta.catalog.create_result_table(**row("again", source_id="others"))
    shared.catalog.as_admin().tag("release")
    alone = _commit_together(shared.catalog, of_acme["last"])
    plan = shared.as_admin().recompute_plan(of_all["base"], "downstream", plan_id="plan")
    return World(root, of_acme, of_beta, of_all, alone, plan.to_dict())


def _commit_together(shared: Catalog, of_acme: str) -> dict[int, str]:
    """Commit changes of two owners in one version, as threads do; return what BETA sees of it."""
    with shared.pinned_to_tenant(BETA).as_admin().transaction() as tx:
        tx.create_result_table(**row("together"))
        tx.fail_result_table(of_acme, "secret error")
    return {shared.version: "create"}


def _claim(acme: ResultStore, of_acme: dict[str, str]) -> None:
    """Let ACME build what BETA will want: it must not be waited for."""
    job = claimed_job("slow")
    claim = Claim(job.key, job.definition_hash, acme.catalog.version)
    made = acme.catalog.create_result_table(**row("slow"), claim=claim)
    of_acme["slow"] = made.table_name


def _die(store: ResultStore, names: dict[str, str]) -> None:
    """Leave builds whose process is gone: one without data, one with, both with a side object."""
    real = lease.new_lease

    def dead() -> lease.Lease:
        return dataclasses.replace(real(), owner="gone", process_start="0")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "new_lease", dead)
        for role in ("dead", "dead with data"):
            name = store.create_table("docs", "regression", "model", role).table_name
            store.catalog.set_checkpoint(name, 1)
            names[role] = name
        with store.open_writer(names["dead with data"], table(1).schema) as out:
            out.write(table(1))


def _damage(root: Path, acme: ResultStore, of_acme: dict[str, str]) -> None:
    """Leave a build of ACME whose side object nobody can read."""
    made = acme.create_table("docs", "regression", "model", "damaged")
    of_acme["damaged"] = made.table_name
    acme.catalog.set_checkpoint(made.table_name, 1)
    (root / "_catalog" / "builds" / f"{made.table_name}.json").write_bytes(b"{")


def _lean_on_acme(shared: ResultStore, of_acme: dict[str, str], of_beta: dict[str, str]) -> None:
    """Let rows of BETA name a result of ACME, which BETA cannot see, as parent and as input."""
    whole = shared.pinned_to_tenant(BETA).as_admin()
    parent = of_acme["child"]
    of_beta["leaning"] = make(whole, "leaning", [parent])
    of_beta["anchored"] = make(
        whole.pinned_to_tenant(BETA),
        "anchored",
        inputs=[InputAnchor.result_digest(of_acme["report"], "0" * 64), *docs()],
    )


def _share_bytes(acme: ResultStore, of_acme: dict[str, str], of_beta: dict[str, str]) -> None:
    """Let a row of ACME name the data object of a result of BETA."""
    path = of_beta["leaf"] + ".parquet"
    made = acme.catalog.create_result_table(**row("thief", parquet_path=path))
    of_acme["thief"] = made.table_name


def copied(world: World, root: Path) -> World:
    """Return the same world at another place."""
    shutil.copytree(world.root, root)
    lease._written.clear()  # what this process knows of builds under that path
    return world._replace(root=root)


def erase(world: World, tenant: str) -> None:
    """Take every row and object of a tenant out of all versions, keeping their numbers."""
    root = world.root
    gone: set[str] = set()
    kept: dict[str, Any] = {}
    for path in sorted((root / SEGMENTS).glob("*.parquet")):
        key = f"{SEGMENTS}/{path.name}"
        rest = _without(manifest.decode_segment(key, path.read_bytes()), tenant, gone)
        if rest.num_rows:
            path.write_bytes(manifest.encode_segment(rest))
            kept[key] = manifest.describe_segment(key, rest)
        else:
            path.unlink()
    for path in sorted((root / "_catalog" / "manifest").rglob("*.parquet")):
        header, inline, _ = manifest.decode_manifest(path.name, path.read_bytes())
        segments = tuple(kept[each.key] for each in header.segments if each.key in kept)
        operation = world.alone.get(header.version, header.operation)
        header = dataclasses.replace(header, segments=segments, operation=operation)
        path.write_bytes(manifest.encode_manifest(header, _without(inline, tenant, gone)))
    for name in gone:
        for suffix in (".parquet", ".materialization.json"):
            (root / f"{name}{suffix}").unlink(missing_ok=True)
        (root / "_catalog" / "builds" / f"{name}.json").unlink(missing_ok=True)


def _without(rows: pa.Table, tenant: str, gone: set[str]) -> pa.Table:
    theirs = pc.equal(rows["tenant_id"], tenant).fill_null(fill_value=False)
    gone.update(rows.filter(theirs)["table_name"].to_pylist())
    return rows.filter(pc.invert(theirs))


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table, instants as text: Python has no nanoseconds."""
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(pa.string()))
    return table.to_pylist()


def holdings(root: Path, tenant: str) -> dict[str, Any]:
    """Return the rows and the bytes of a tenant's results and build states, read as they lie."""
    rows = rows_of(connect(root).as_admin().catalog.scan())
    own = [each for each in rows if each["tenant_id"] == tenant]
    found: dict[str, Any] = {each["table_name"]: each for each in own}
    for each in own:
        beside = each["parquet_path"].removesuffix(".parquet") + ".materialization.json"
        state = f"_catalog/builds/{each['table_name']}.json"
        for key in (each["parquet_path"], beside, state):
            path = root / key
            found[key] = path.read_bytes() if path.exists() else None
    return found


# --- what can be observed

_BY_CHANCE = (
    (re.compile(r"\b[0-9a-f]{32}\b"), "COMMIT"),
    (re.compile(r"\d[\d.e-]* s\b|(?<='seconds': ')[^']+|(?<=seconds=)[^,)]+"), "DURATION"),
)
"""What no two runs have in common: random ids, and how long something took."""

_DRAWINGS = ("explain", "to_text", "to_dot", "to_mermaid")


def observe(ask: Callable[[], Any], root: Path) -> str:
    """Return all that an answer or a refusal shows, and what was logged, as one text."""
    with _logged() as said:
        try:
            seen = _plain(ask())
        except Exception as error:  # noqa: BLE001 - of whichever kind: it is compared
            seen = _error(error)
    told = sorted(said, key=repr)  # threads speak in any order
    text = repr((seen, told)).replace(str(root), "ROOT")
    for pattern, name in _BY_CHANCE:
        text = pattern.sub(name, text)
    return text


@contextlib.contextmanager
def _logged() -> Iterator[list[Any]]:
    said: list[Any] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(_said(record))  # type: ignore[method-assign]
    logger = logging.getLogger("jammi_files")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield said
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _said(record: logging.LogRecord) -> tuple[Any, ...]:
    fields = vars(record).keys() - _OF_ANY_RECORD
    return record.levelname, record.getMessage(), {key: vars(record)[key] for key in sorted(fields)}


_OF_ANY_RECORD = {*vars(logging.makeLogRecord({})), "message", "seconds"}


def _error(error: BaseException | None) -> Any:
    if error is None:
        return None
    notes = getattr(error, "__notes__", None)
    return type(error).__name__, str(error), notes, _error(error.__cause__)


def _plain(value: Any) -> Any:
    found: Any = repr(value)
    if isinstance(value, pa.Table):  # in no order, as `scan` says
        found = value.schema.names, sorted(map(repr, rows_of(value)))
    elif isinstance(value, ds.Dataset):
        found = value.files, value.to_table().to_pylist()
    elif isinstance(value, BaseException):
        found = _error(value)
    elif isinstance(value, enum.Enum | str | bytes | int | float) or value is None:
        found = str(value)
    elif isinstance(value, Mapping):
        found = {str(key): _plain(item) for key, item in value.items()}
    elif dataclasses.is_dataclass(value):
        drawn = {name: str(getattr(value, name)()) for name in _DRAWINGS if hasattr(value, name)}
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        found = type(value).__name__, _plain(fields), drawn, str(value) if drawn else None
    elif isinstance(value, Iterable):
        found = [_plain(item) for item in value]
    return found
