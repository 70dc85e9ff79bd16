"""Tenants: of what another tenant holds nothing can be observed (FORMAT section "Tenancy").

Two roots differ in nothing but the rows and objects of ACME. Every public method and every command
is called for BETA on both, and must answer, refuse, print and log the same. Methods are found by
reflection: a new one has to be played here too, or has to say why not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.recomputing import ENV, Summing, at, docs, how, make, table
from support.results import CONTRACT, DATA, SIGNING, TABLE, build, finalize, row, rows, write
from support.scopes import ACME, BETA
from support.worlds import World, copied, determined, erase, holdings, observe, populate

from jammi_files import (
    AlreadyExistsError,
    Catalog,
    CatalogSnapshot,
    CommitEvent,
    InputAnchor,
    Match,
    RecomputePlan,
    ReferencedError,
    ResultStore,
    connect,
    definition_hash,
    interop,
)
from jammi_files.cli import main
from jammi_files.cli_commands import COMMANDS
from jammi_files.recovery import RecoveryStep
from jammi_files.rules import Claim, Contract
from jammi_files.transaction import Transaction

ENGINE = Path(__file__).parent / "data" / "jammi-0.32"
SOURCES = ("docs", "secret", "others", "base", "nobody's", "secret chain")
LABELS = ("report", "slow", "base", "unknown")
STATUSES = ("building", "ready", "failed")

Ask = Callable[[], Any]
Play = Callable[[Any, World], Iterator[Ask]]

EXEMPT = {
    "Catalog.as_admin": "gives another handle, which sees every tenant",
    "Catalog.log": "the versions beneath tenancy, for fsck",
    "Catalog.open": "makes the handles that are tried here",
    "Catalog.pinned_to_tenant": "gives a handle of another tenant",
    "Catalog.storage": "the bytes beneath tenancy",
    "ResultStore.as_admin": "gives another handle, which sees every tenant",
    "ResultStore.pinned_to_tenant": "gives a handle of another tenant",
    "ResultStore.storage": "the bytes beneath tenancy",
}


def public(cls: type) -> set[str]:
    """Return the public names of a class, and the ways to export it that Python underscores."""
    names = {name for name, _ in inspect.getmembers_static(cls) if not name.startswith("_")}
    return names | {name for name in ("__arrow_c_stream__", "__repr__") if name in dir(cls)}


# --- reads: they share one pair of roots


def each(values: Any, call: Callable[[Any], Any]) -> Iterator[Ask]:
    for value in values:
        yield lambda value=value: call(value)


def hashes() -> list[str]:
    return [definition_hash(how(label), ENV) for label in LABELS]


def anchors(world: World) -> list[list[InputAnchor]]:
    digests = [InputAnchor.result_digest(name, "0" * 64) for name in world.acme.values()]
    return [docs("1"), docs("2"), [], digests[:1], [InputAnchor.unpinned_at_instant("docs", "x")]]


def _find(reads: Any, _: World) -> Iterator[Ask]:
    for source in SOURCES:
        yield lambda source=source: reads.find_result_tables(source)
        yield lambda source=source: reads.find_result_tables(source, newest_first=True, limit=2)
    for status in STATUSES:
        yield lambda status=status: reads.find_result_tables("docs", status=status)
    yield lambda: reads.find_result_tables("docs", task="regression", model_id="m")


def _resolve(reads: Any, world: World) -> Iterator[Ask]:
    for source in SOURCES:
        yield lambda source=source: reads.resolve_embedding_table(source)
        for name in world.names:
            yield lambda source=source, name=name: reads.resolve_embedding_table(source, name)


def _scan(reads: Any, world: World) -> Iterator[Ask]:
    secret = pc.field("source_id") == "secret"
    named = pc.field("table_name").isin(list(world.acme.values()))
    for condition in (None, secret, named, ~named):
        yield lambda condition=condition: reads.scan(condition)
        yield lambda condition=condition: reads.scan(condition, ["tenant_id", "table_name"])


READS: dict[str, Play] = {
    "__arrow_c_stream__": lambda reads, _: iter([lambda: pa.table(reads)]),
    "__repr__": lambda reads, _: iter([lambda: repr(reads)]),
    "damaged": lambda reads, _: iter([reads.damaged]),
    "find_ready_result_tables_anchored_on": lambda reads, world: each(
        [*SOURCES, *world.names], reads.find_ready_result_tables_anchored_on
    ),
    "find_ready_result_tables_by_definition": lambda reads, _: each(
        hashes(), reads.find_ready_result_tables_by_definition
    ),
    "find_result_tables": _find,
    "get_result_table": lambda reads, world: each(world.names, reads.get_result_table),
    "list_result_tables_by_status": lambda reads, _: each(
        STATUSES, reads.list_result_tables_by_status
    ),
    "resolve_embedding_table": _resolve,
    "scan": _scan,
}


def _versions(catalog: Catalog) -> range:
    return range(catalog.version + 2)


def _snapshots(catalog: Catalog, _: World) -> Iterator[Ask]:
    for number in _versions(catalog):
        yield lambda number=number: catalog.snapshot(number).scan()
    for commit in catalog.history():
        yield lambda commit=commit: catalog.snapshot(as_of=commit.committed_at).version
    yield lambda: catalog.snapshot(tag="release").scan()
    yield lambda: catalog.snapshot(tag="none")


def _hooks(handle: Any, world: World) -> Iterator[Ask]:
    """Ask what a tenant's hooks are told of a commit that touches rows of others too."""
    heard: list[Any] = []
    for subscribe in (handle.hooks.on_commit, handle.hooks.on_ready, handle.hooks.on_failed):
        subscribe(heard.append)
    whole = (handle if isinstance(handle, Catalog) else handle.catalog).as_admin()
    building = whole.list_result_tables_by_status("building")
    with whole.transaction() as tx:
        for record in building:  # stay as they are
            if record.tenant_id == ACME:
                tx.update_result_table_status(record.table_name, "building", record.row_count)
        tx.fail_result_table(world.beta["leaf"], "by an admin")
    yield lambda: [dataclasses.replace(told, **_untimed(told)) for told in heard]


def _untimed(told: Any) -> dict[str, Any]:
    return {"seconds": 0} if isinstance(told, CommitEvent) else {}


CATALOG_READS: dict[str, Play] = {
    **READS,
    "changes": lambda catalog, _: each(_versions(catalog), catalog.changes),
    "current": lambda catalog, _: iter([lambda: catalog.current().scan()]),
    "exists": lambda catalog, _: iter([lambda: catalog.exists]),
    "get_checkpoint": lambda catalog, world: each(world.names, catalog.get_checkpoint),
    "history": lambda catalog, _: each([None, 0, 1, 3], catalog.history),
    "last_seen": lambda catalog, _: iter([lambda: catalog.last_seen().scan()]),
    "plan_delete": lambda catalog, world: each(world.names, catalog.plan_delete),
    "scope": lambda catalog, _: iter([lambda: catalog.scope]),
    "snapshot": _snapshots,
    "tags": lambda catalog, _: iter([catalog.tags]),
    "tenant": lambda catalog, _: iter([lambda: catalog.tenant]),
    "version": lambda catalog, _: iter([lambda: catalog.version]),
}

SNAPSHOT_READS: dict[str, Play] = {
    **READS,
    "committed_at": lambda snapshot, _: iter([lambda: snapshot.committed_at]),
    "version": lambda snapshot, _: iter([lambda: snapshot.version]),
}


def _lookups(method: str) -> Play:
    def play(store: Any, world: World) -> Iterator[Ask]:
        ask = getattr(store, method)
        for digest in hashes():
            for inputs in anchors(world):
                yield lambda digest=digest, inputs=inputs: ask(digest, inputs)

    return play


def _judgements(method: str) -> Play:
    def play(store: Any, world: World) -> Iterator[Ask]:
        ask = getattr(store, method)
        for name in world.names:
            yield lambda name=name: ask(name)
            yield lambda name=name: ask(name, resolvers=at("2"), check_bytes="digest")

    return play


def _sweeps(store: Any, _: World) -> Iterator[Ask]:
    for check in (False, "exists", True):
        yield lambda check=check: store.staleness_all(check_bytes=check)
    yield lambda: store.staleness_all(resolvers=at("2"))


def _misses(store: Any, world: World) -> Iterator[Ask]:
    for label in LABELS:
        for inputs in anchors(world):
            yield lambda label=label, inputs=inputs: store.explain_miss(how(label), ENV, inputs)


def _plans(store: Any, world: World) -> Iterator[Ask]:
    for name in world.names:
        for cascade in ("report_only", "downstream"):
            yield lambda name=name, cascade=cascade: store.recompute_plan(
                name, cascade, plan_id="plan"
            )
        yield lambda name=name: store.recompute_plan(
            world.shared["base"], "downstream", replaced_by=name, plan_id="plan"
        )


def _by_name(method: str) -> Play:
    return lambda store, world: each([*world.names, *SOURCES], getattr(store, method))


def _queries(store: Any, world: World) -> Iterator[Ask]:
    yield lambda: store.sql("FROM catalog ORDER BY table_name")
    yield lambda: store.sql("SHOW TABLES")
    for name in world.names:
        for form in ('FROM "{}"', 'DESCRIBE "{}"', "FROM catalog, \"{}\" WHERE table_name = '{}'"):
            yield lambda name=name, form=form: store.sql(form.format(name, name))


def _searches(store: Any, world: World) -> Iterator[Ask]:
    for name in world.names:
        yield lambda name=name: store.search(name, [1.0])
        yield lambda name=name: store.search(name, [1.0, 0.0], key_column="id", exact=False)


def _places(store, world):
    yield store.urls
    yield from each(world.names, lambda name: store.urls([name]))


STORE_READS: dict[str, Play] = {
    "__repr__": READS["__repr__"],
    "derives_from": _by_name("derives_from"),
    "derives_from_closure": _by_name("derives_from_closure"),
    "explain": _judgements("explain"),
    "explain_miss": _misses,
    "explain_stale": _judgements("explain_stale"),
    "in_toto_statement": _by_name("in_toto_statement"),
    "lineage": _by_name("lineage"),
    "lookup_cached": _lookups("lookup_cached"),
    "open_table": _by_name("open_table"),
    "openlineage_events": lambda store, world: each([None, *world.names], store.openlineage_events),
    "probe_cache": _lookups("probe_cache"),
    "producing_descriptor": _by_name("producing_descriptor"),
    "read_materialization_manifest": _by_name("read_materialization_manifest"),
    "recompute_plan": _plans,
    "result_digest_anchor": _by_name("result_digest_anchor"),
    "root": lambda store, _: iter([lambda: store.root]),
    "search": _searches,
    "searcher": lambda store, world: each(
        world.names, lambda name: bool(store.searcher(name, key_column="id"))
    ),
    "sign": _by_name("sign"),
    "sql": _queries,
    "staleness": _judgements("staleness"),
    "staleness_all": _sweeps,
    "upstream_closure": _by_name("upstream_closure"),
    "url": _by_name("url"),
    "urls": _places,
    "verify_all": lambda store, _: iter([store.verify_all]),
    "verify_materialization": _by_name("verify_materialization"),
}


# --- writes: each method is played on a fresh pair


def _creates(catalog: Any, world: World) -> Iterator[Ask]:
    for parent in world.names:
        yield lambda parent=parent: catalog.create_result_table(**row("new", derived_from=parent))
    yield lambda: catalog.create_result_table(**row("again"), if_not_exists=True)
    claim = Claim("key", hashes()[1], 0)
    yield lambda: catalog.create_result_table(**row("new"), claim=claim)


def _bulk(catalog: Any, world: World) -> Iterator[Ask]:
    yield lambda: catalog.create_result_tables(rows("n1", "n2"))
    for parent in world.acme.values():
        yield lambda parent=parent: catalog.create_result_tables(rows("n1", derived_from=parent))


def _adoptions(catalog: Any, world: World) -> Iterator[Ask]:
    yield lambda: catalog.adopt_result_tables([])
    known = catalog.get_result_table(world.beta["leaf"])
    yield lambda: catalog.adopt_result_tables([known])


def _updates(catalog: Any, world: World) -> Iterator[Ask]:
    for name in world.names:
        for status in STATUSES:
            yield lambda name=name, status=status: catalog.update_result_table_status(
                name, status, 2
            )


def _promotes(catalog: Any, world: World) -> Iterator[Ask]:
    return each(
        world.names,
        lambda name: catalog.promote_result_table_with_manifest(name, 1, "0" * 64, docs()),
    )


def _told_of(world: World) -> list[Any]:
    """Return records as somebody may hold them who was told of them elsewhere."""
    whole = connect(world.root).as_admin().catalog
    found = [whole.get_result_table(name) for name in world.beta.values()]
    return [record for record in found if record is not None]


OPERATIONS: dict[str, Play] = {
    "adopt_result_tables": _adoptions,
    "create_result_table": _creates,
    "create_result_tables": _bulk,
    "delete_result_table": lambda catalog, world: each(world.names, catalog.delete_result_table),
    "delete_result_tables_for_source": lambda catalog, _: each(
        SOURCES, lambda source: catalog.delete_result_tables_for_source(source, cascade=True)
    ),
    "fail_result_table": lambda catalog, world: each(
        world.names, lambda name: catalog.fail_result_table(name, "by beta")
    ),
    "promote_result_table_with_manifest": _promotes,
    "update_result_table_status": _updates,
}


def _transactions(catalog: Any, world: World) -> Iterator[Ask]:
    """Play every operation inside a transaction; `TRANSACTION` says that none is left out."""
    for play in TRANSACTION.values():

        def inside(play: Play = play) -> list[str]:
            with catalog.transaction() as tx:
                return [observe(ask, world.root) for ask in play(tx, world)]

        yield inside


CATALOG_WRITES: dict[str, Play] = {
    **OPERATIONS,
    "compact": lambda catalog, _: iter([catalog.compact]),
    "hooks": _hooks,
    "fail_unchanged": lambda catalog, world: each(
        _told_of(world), lambda record: catalog.fail_unchanged(record, "by beta")
    ),
    "promote_unchanged": lambda catalog, world: each(
        _told_of(world),
        lambda record: catalog.promote_unchanged(record, 1, Contract("0" * 64, ())),
    ),
    "renew_lease": lambda catalog, world: each(world.names, catalog.renew_lease),
    "set_checkpoint": lambda catalog, world: each(
        world.names, lambda name: catalog.set_checkpoint(name, 9)
    ),
    "tag": lambda catalog, _: each(["new", "release"], catalog.tag),
    "transaction": _transactions,
    "untag": lambda catalog, _: each(["release", "none"], catalog.untag),
    "vacuum": lambda catalog, _: each([0, "7d"], catalog.vacuum),
}

TRANSACTION: dict[str, Play] = {**READS, **OPERATIONS}
del TRANSACTION["__repr__"]


def _builds(store: Any, world: World) -> Iterator[Ask]:
    yield lambda: make(store, "new", inputs=docs())
    for parent in world.names:
        yield lambda parent=parent: make(
            store, "new", inputs=docs(), derived_from=parent, key_column=None
        )


def _obtains(store: Any, _: World) -> Iterator[Ask]:
    columns: dict[str, Any] = {"source_id": "docs", "task": "regression", "model_id": "m"}
    for label in LABELS:
        yield lambda label=label: store.get_or_build(
            how(label), ENV, docs(), lambda: table(1), on_busy="fail", **columns
        )
    said = {"source_id": "docs", "task": "regression", "model_id": "m"}
    wrapped = store.cached(descriptor=how("slow"), env=ENV, inputs=docs(), on_busy="fail", **said)
    yield wrapped(lambda: table(1))


def _recomputes(store: Any, world: World) -> Iterator[Ask]:
    """Run plans, also one that somebody made who sees more."""
    own = store.recompute_plan(world.shared["base"], "downstream", plan_id="plan")
    for plan in (own, RecomputePlan.from_dict(world.plan)):
        yield lambda plan=plan: store.recompute(plan, Summing().producers, resolvers=at("3"))


def _finalizes(store: Any, world: World) -> Iterator[Ask]:
    return each(
        world.names, lambda name: store.finalize_with_manifest(name, 1, how("x"), ENV, docs())
    )


def _written(store: Any, name: str) -> Any:
    with store.open_writer(name, table(1).schema) as out:
        out.write(table(1))


def _recoveries(store: Any, _: World) -> Iterator[Ask]:
    yield lambda: store.recover(dry_run=True)
    yield store.recover
    yield lambda: store.recover(reap=True)


IDS = pa.array(["a"])
VECTOR = pa.array([[0.6, 0.8]], pa.list_(pa.float32()))
COMPUTED: dict[str, Any] = {
    "producer_id": "p",
    "params": {},
    "env": ENV,
    "inputs": docs(),
    "dimensions": 2,
}
EMBEDDED: dict[str, Any] = {"descriptor": how("e"), "env": ENV, "inputs": docs(), "dimensions": 2}

STORE_WRITES: dict[str, Play] = {
    "build": _builds,
    "cached": _obtains,
    "create_table": lambda store, world: each(
        world.names,
        lambda name: store.create_table("docs", "ner", "model", "m", derived_from=name),
    ),
    "delete_source": lambda store, _: each(
        SOURCES, lambda source: store.delete_source(source, cascade=True)
    ),
    "delete_table": lambda store, world: each(world.names, store.delete_table),
    "finalize_with_manifest": _finalizes,
    "get_or_build": _obtains,
    "hooks": _hooks,
    "materialize_computed_embedding_table": lambda store, _: iter(
        [lambda: store.materialize_computed_embedding_table("docs", "m", IDS, VECTOR, **COMPUTED)]
    ),
    "materialize_embedding_table": lambda store, _: iter(
        [lambda: store.materialize_embedding_table("docs", "m", IDS, VECTOR, **EMBEDDED)]
    ),
    "open_writer": lambda store, world: each(world.names, lambda name: _written(store, name)),
    "recompute": _recomputes,
    "recover": _recoveries,
    "seal": lambda store, world: each(
        world.names, lambda name: ResultStore(store.catalog, SIGNING).seal(name)
    ),
}

PLAYED = {
    Catalog: (CATALOG_READS, CATALOG_WRITES),
    CatalogSnapshot: (SNAPSHOT_READS,),
    ResultStore: (STORE_READS, STORE_WRITES),
    Transaction: (TRANSACTION, {"close": None, "scope": None}),
}


@pytest.mark.parametrize("cls", PLAYED, ids=lambda cls: cls.__name__)
def test_every_public_name_is_played(cls):
    """A method that is added without being tried on two tenants is an error."""
    played = {name for plays in PLAYED[cls] for name in plays}
    exempt = {name.partition(".")[2] for name in EXEMPT if name.startswith(f"{cls.__name__}.")}
    inherited = {"catalog"} if cls is ResultStore else set()
    assert (played | exempt) - public(cls) - inherited == set()
    missing = public(cls) - played - exempt - ({"__repr__"} if cls is Transaction else set())
    assert missing == set(), "play it in this file for two tenants"


@pytest.fixture(scope="module")
def origins(tmp_path_factory):
    """Return a root of three owners, and the same without ACME; tests work on copies of them."""
    base = tmp_path_factory.mktemp("worlds")
    with determined():
        full = populate(base / "full")
    empty = copied(full, base / "empty")
    erase(empty, ACME)
    return full, empty


@pytest.fixture
def play(origins, tmp_path):
    """Return a function that gives what a function finds in the world with ACME, and without.

    Both lie at one path, one after the other, so that no answer differs by where it was asked.
    """

    def both(look: Callable[[World], Any]) -> tuple[Any, Any]:
        found = []
        for origin in origins:
            world = copied(origin, tmp_path / "world" / "root")
            with determined():
                found.append(look(world))
            shutil.rmtree(world.root.parent)
        return found[0], found[1]

    return both


def beta(world: World) -> ResultStore:
    return connect(world.root, tenant=BETA, durability="os")


def on_catalog(world: World) -> Catalog:
    return beta(world).catalog


def everything(world: World) -> list[str]:
    """Return what BETA sees of a root after whatever was done to it."""
    store = beta(world)
    asked: list[Ask] = [
        store.catalog.scan,
        lambda: store.catalog.history(limit=20),
        lambda: store.catalog.changes(1),
        store.staleness_all,
        lambda: store.openlineage_events(read_files=False),
        store.verify_all,
    ]
    return [observe(ask, world.root) for ask in asked]


def test_the_worlds_differ(play):
    """ACME holds results in one world and none in the other, and BETA the same in both."""
    full, empty = play(lambda world: holdings(world.root, ACME))
    assert len(full) > 140
    assert empty == {}
    full, empty = play(lambda world: holdings(world.root, BETA))
    assert len(full) > 10
    assert full == empty
    full, empty = play(lambda world: connect(world.root).catalog.version)
    assert full == empty


READ_PLAYS = {
    **{f"Catalog.{name}": (on_catalog, asks) for name, asks in CATALOG_READS.items()},
    **{f"ResultStore.{name}": (beta, asks) for name, asks in STORE_READS.items()},
}


def answers(world: World) -> list[tuple[str, int, str]]:
    """Return the answer to every read."""
    return [
        (name, number, observe(ask, world.root))
        for name, (handle, asks) in READ_PLAYS.items()
        for number, ask in enumerate(asks(handle(world), world))
    ]


def test_reads_tell_nothing(play):
    """`B166`: every read answers and refuses alike, whether another tenant holds anything."""
    full, empty = play(answers)
    assert len(full) > 500
    for one, other in zip(full, empty, strict=True):
        assert one == other


def past_answers(world: World) -> list[tuple[str, int, str]]:
    """Return the answers of every version that can still be looked at."""
    catalog = on_catalog(world)
    return [
        (name, number, observe(ask, world.root))
        for number in range(0, catalog.version + 1, 5)
        for name, asks in SNAPSHOT_READS.items()
        for ask in asks(catalog.snapshot(number), world)
    ]


def test_snapshots_tell_nothing(play):
    """`B281`: no version that can still be looked at tells more than the newest."""
    full, empty = play(past_answers)
    for one, other in zip(full, empty, strict=True):
        assert one == other


WRITE_PLAYS = {
    **{f"Catalog.{name}": (on_catalog, asks) for name, asks in CATALOG_WRITES.items()},
    **{f"ResultStore.{name}": (beta, asks) for name, asks in STORE_WRITES.items()},
}


@pytest.mark.parametrize("name", sorted(WRITE_PLAYS.keys() - {"ResultStore.recover"}))
def test_writes_tell_and_touch_nothing(play, origins, name):
    """`B070`, `B166`: a write answers alike, and leaves what another tenant holds as it was."""
    handle, asks = WRITE_PLAYS[name]

    def write(world: World) -> Any:
        told = [observe(ask, world.root) for ask in asks(handle(world), world)]
        return told, everything(world), holdings(world.root, ACME)

    full, empty = play(write)
    assert full == (*empty[:2], holdings(origins[0].root, ACME))


def test_recovery_tells_nothing(play):
    """`B246`, `B251`: the dead builds of every tenant are ended, those that it sees reported."""

    def recover(world: World) -> Any:
        told = [observe(ask, world.root) for ask in STORE_WRITES["recover"](beta(world), world)]
        left = beta(world).catalog.scan(columns=["table_name", "status", "row_count"])
        return told, sorted(map(repr, left.to_pylist()))

    full, empty = play(recover)
    assert full == empty
    assert RecoveryStep.QUARANTINE.value in full[0][0]


def _damaged(store: ResultStore) -> str:
    """Let ACME have a result of a kind that this library does not know."""
    theirs = store.pinned_to_tenant(ACME)
    known = theirs.catalog.get_result_table(build(theirs))
    secret = dataclasses.replace(
        known, table_name="secret", kind="secret kind", parquet_path="secret.parquet"
    )
    theirs.catalog.adopt_result_tables([secret])
    return secret.table_name


def test_recovery_logs_nothing_of_a_damaged_row(store, caplog):
    """`B037`: recovery looks at the rows of all tenants, and says which it left out to theirs."""
    secret = _damaged(store)
    store.pinned_to_tenant(BETA).recover()
    assert secret not in caplog.text
    store.pinned_to_tenant(ACME).recover()
    assert secret in caplog.text


def test_import_of_a_name_that_a_damaged_row_has(store, tmp_path, engine):
    """That the name is taken is all that an import says of it."""
    secret = _damaged(store)
    given = shutil.copytree(engine, tmp_path / "given")
    with contextlib.closing(sqlite3.connect(given / "catalog.db")) as db, db:
        (number,) = db.execute("SELECT max(rowid) FROM result_tables").fetchone()
        statement = "UPDATE result_tables SET tenant_id = ?, table_name = ? WHERE rowid = ?"
        db.execute(statement, (BETA, secret, number))
        db.execute("UPDATE result_tables SET status = 'failed' WHERE rowid = ?", (number,))
    report = interop.import_jammi(given, store.pinned_to_tenant(BETA))
    told = {each.table_name: each.problem for each in report.skipped}
    assert told[secret] == "another table of this name is in the catalog"


# --- results of one name or path


def _cut_off(out: Any, then: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError), out:
        out.write(DATA)
        then()
        raise RuntimeError


def test_a_build_that_is_cut_off_keeps_what_another_tenant_made_of_its_name(store):
    """A row that it does not see is not one that is gone."""
    ours, theirs = store.pinned_to_tenant(ACME), store.pinned_to_tenant(BETA)
    out = ours.build(*TABLE, **CONTRACT)

    def use_the_name_again() -> None:
        connect(store.root, durability="os", tenant=ACME).delete_table(out.table_name)
        theirs.catalog.create_result_table(**row(out.table_name))
        write(theirs, out.table_name)
        finalize(theirs, out.table_name)

    _cut_off(out, use_the_name_again)
    assert theirs.verify_materialization(out.table_name) == Match()


def test_a_build_that_is_cut_off_keeps_what_another_tenant_made_of_its_path(store):
    """Its own row has failed; the bytes are those of a ready one."""
    ours, theirs = store.pinned_to_tenant(ACME), store.pinned_to_tenant(BETA)
    out = ours.build(*TABLE, **CONTRACT)

    def use_the_path() -> None:
        path = f"{out.table_name}.parquet"
        theirs.catalog.create_result_table(**row("theirs", parquet_path=path))
        write(theirs, "theirs")
        finalize(theirs, "theirs")

    with contextlib.suppress(AlreadyExistsError):
        _cut_off(out, use_the_path)
    assert theirs.verify_materialization("theirs") == Match()


# --- refusals that cannot be hidden


def test_a_refusal_for_the_sake_of_others_does_not_say_whose_or_how_many(catalog):
    """`B149`: that results of others derive from a table is all that the error tells."""
    for count in (1, 2):
        catalog.create_result_table(**row("parent"))
        for number in range(count):
            catalog.pinned_to_tenant(ACME).create_result_table(
                **row(f"secret {number}", derived_from="parent")
            )
        with pytest.raises(ReferencedError) as caught:
            catalog.delete_result_table("parent")
        expected = "still derived from by tables of other tenants; delete those first"
        assert str(caught.value).startswith(expected)
        assert "secret" not in str(caught.value)
        catalog.pinned_to_tenant(ACME).delete_result_tables_for_source("docs")
        catalog.delete_result_table("parent")


def test_if_not_exists_does_not_look_into_the_builds_of_others(play):
    """`B058`: that a name is taken is told alike, whatever has become of the build that has it."""

    def refusals(world: World) -> set[str]:
        taken = [world.acme[role] for role in ("damaged", "building", "dead", "report")]
        asked = [row(name, parquet_path="x") for name in taken]
        create = on_catalog(world).create_result_table
        told = [observe(lambda r=r: create(**r, if_not_exists=True), world.root) for r in asked]
        return {text.replace(name, "NAME") for name, text in zip(taken, told, strict=True)}

    full, _ = play(refusals)
    assert len(full) == 1


# --- the command


def _commands(world: World, engine: Path) -> dict[str, list[list[str]]]:
    """Return what every command that takes a tenant is asked, but `serve`: it has its own tests."""
    names = [
        *(world.acme[role] for role in ("child", "building", "thief")),
        *(world.beta[role] for role in ("leaf", "leaning", "anchored")),
        "nobody's",
    ]
    beginnings = sorted({name[:length] for name in names for length in (1, 4, len(name) - 1)})
    return {
        "ls": [["ls"], ["ls", "--source", "secret"], *(["ls", "--status", s] for s in STATUSES)],
        **{
            command: [[command, name] for name in (*names, *beginnings)]
            for command in ("show", "open", "why", "lineage")
        },
        "status": [["status"], ["status", "--check", "digest"]],
        "diff": [["diff", "0"], ["diff", "1", "2"], ["diff", "release"], ["diff", "none"]],
        "watch": [["watch", "--since", "0", "--limit", "1"]],
        "publish": [
            ["publish", str(engine / "labels.csv"), "--source", "docs", "--derived-from", name]
            for name in (*names[:3], *beginnings)
        ]
        + [["publish", str(engine / "labels.csv"), "--source", "docs", "--reuse"]] * 2,
        "verify": [["verify"], *(["verify", name] for name in (*names, *beginnings))],
        "history": [["history"], ["history", "--limit", "2"]],
        "fsck": [["fsck"], ["fsck", "--deep"], ["fsck", "--repair"]],
        "vacuum": [["vacuum"], ["vacuum", "--older-than", "0"]],
        "tag": [["tag"], ["tag", "new"], ["tag", "--delete", "release"]],
        "export": [["export", str(world.root.parent / "exported")]],
        "import": [["import", str(engine)], ["import", str(engine), "--verify"]],
        "report": [["report", "--out", str(world.root.parent / "report.html")]],
        "recover": [["recover", "--dry-run"], ["recover"]],
    }


def shown(argv: list[str]) -> tuple[int, str, str]:
    """Run the command and return its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def engine(tmp_path):
    """Return a directory of jammi-db in which one result is ACME's, and a file to publish."""
    home = Path(shutil.copytree(ENGINE, tmp_path / "engine", copy_function=shutil.copyfile))
    (home / "labels.csv").write_text("id,label\n1,a\n")
    return home


def test_every_command_is_played(origins, engine):
    """A command that is added without being tried on two tenants is an error."""
    assert _commands(origins[0], engine).keys() == COMMANDS.keys() - {"copy", "completion", "serve"}


def test_commands_tell_nothing(play, engine):
    """`B174`: what the command prints for a tenant, and its exit code, do not depend on others."""

    def run(world: World) -> list[str]:
        told = []
        for asked in _commands(world, engine).values():
            for argv in asked:
                for flags in ([], ["--json"]):
                    line = [*argv, "--root", str(world.root), "--tenant", BETA, *flags]
                    told.append(observe(lambda line=line: shown(line), world.root))
        return told

    full, empty = play(run)
    for one, other in zip(full, empty, strict=True):
        assert one == other


def test_import_tells_a_tenant_nothing_of_the_others_rows(tmp_path, engine):
    """`B166`: all rows are brought in, whoever imports; a tenant is told of those it sees."""
    with contextlib.closing(sqlite3.connect(engine / "catalog.db")) as db, db:
        query = "SELECT table_name FROM result_tables WHERE source_id = 'trades'"
        secret, broken, *_ = [name for (name,) in db.execute(query)]
        statement = "UPDATE result_tables SET tenant_id = ? WHERE table_name = ?"
        db.execute(statement, (ACME, secret))
        db.execute(statement, (ACME, broken))
        db.execute("UPDATE result_tables SET status = 'odd' WHERE table_name = ?", (broken,))
    for attempt in ("imported", "already_present"):
        root = str(tmp_path / "root")
        code, out, _ = shown(["import", str(engine), "--root", root, "--tenant", BETA, "--json"])
        assert secret not in out, attempt
        assert broken not in out, attempt
        assert code == 0
    whole = connect(tmp_path / "root").as_admin()
    assert whole.catalog.get_result_table(secret).tenant_id == ACME
    report = interop.import_jammi(engine, whole)
    assert secret in report.already_present
    assert broken in [each.table_name for each in report.skipped]
