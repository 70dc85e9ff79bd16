"""What clients do, each call judged by what it was told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from support.results import CONTRACT, DATA, TABLE, row, rows
from support.simulation.bucket import ROOT, Bucket, SimulatedDialect
from support.simulation.history import Call, Result
from support.simulation.plan import ClientPlan, Step
from support.simulation.witness import Witness
from support.simulation.world import SECOND, Crash, Task, World

from jammi_files import rules
from jammi_files.catalog import Catalog
from jammi_files.draft import Draft
from jammi_files.errors import (
    AlreadyExistsError,
    CommitUnknownError,
    JammiFilesError,
    VersionNotFoundError,
)
from jammi_files.objects import ObjectStorage
from jammi_files.schema import ModelTask, ResultTableKind, ResultTableRecord, ResultTableStatus
from jammi_files.store import ResultStore

JOURNAL = "journal"
AGES = (0, 0, 5, 3600, 86_400)


def record(name: str, **also: Any) -> ResultTableRecord:
    """Return a row that only its name matters of."""
    fields = {**row(name), "created_at": "2023-11-14T22:13:20.000000000Z", **also}
    return ResultTableRecord(
        **{
            **fields,
            "task": ModelTask.CLASSIFICATION,
            "kind": ResultTableKind.MODEL,
            "derived_from": None,
        }
    )


def words_of(found: ResultTableRecord | None) -> tuple[str, ...]:
    """Return the list that the journal holds."""
    return () if found is None else tuple((found.properties or {}).get("words", "").split())


def appending(word: str, scope: Any, *, name: str | None) -> Callable[[Draft], tuple[str, ...]]:
    """Return a change that adds a word to the journal and, with ``name``, a row."""

    def change(draft: Draft) -> tuple[str, ...]:
        held = draft.get(JOURNAL)
        if held is None:
            rules.adopt(draft, [record(JOURNAL, status=ResultTableStatus.READY)])
            held = draft.get(JOURNAL)
        assert held is not None
        words = (*words_of(held.record), word)
        grown = dataclasses.replace(
            held.record, row_count=len(words), properties={"words": " ".join(words)}
        )
        draft.put(grown, "append")
        if name is not None:
            rules.create(draft, scope, record(name))
        return words

    return change


class Client:
    """One thread's calls."""

    def __init__(
        self, world: World, bucket: Bucket, witness: Witness, plan: ClientPlan, calls: list[Call]
    ) -> None:
        self.world, self.bucket, self.witness = world, bucket, witness
        self.plan, self.calls = plan, calls
        self.own: list[str] = []
        self.seen = 0

    @property
    def task(self) -> Task:
        return self.world.current

    @property
    def store(self) -> ResultStore:
        life = self.task.life
        if life.store is None:
            storage = ObjectStorage(ROOT, SimulatedDialect(self.bucket), {})
            life.store = ResultStore(Catalog(storage))
        found: ResultStore = life.store
        return found

    @property
    def catalog(self) -> Catalog:
        return self.store.catalog

    def run(self) -> None:
        """Make all calls, in one life after the other."""
        for step in self.plan.steps:
            self.task.step = step.kind
            call = Call(self.plan.name, step.kind, None, self.world.now)
            try:
                self._one(step, call)
            except Crash:
                if self.world.failure is not None:
                    raise
                call.error = "Crash"
                self._again(step)
            self._end(call)

    def _one(self, step: Step, call: Call) -> None:
        try:
            getattr(self, f"do_{step.kind}")(step, call)
            call.result = Result.DONE
        except CommitUnknownError as error:
            call.error = repr(error)
        except (JammiFilesError, OSError) as error:
            call.result, call.error = Result.DENIED, repr(error)

    def _end(self, call: Call) -> None:
        call.ended = self.world.now
        self.world.note(self.plan.name, call.kind, call.word, call.result, call.error)
        self.calls.append(call)

    def _again(self, step: Step) -> None:
        self.seen = 0
        while True:
            self.task.life = self.task.process.revive()
            try:
                self.world.sleep(1 + 2000 * step.chance * step.chance)
            except Crash:  # by another thread of the new process
                if self.world.failure is not None:
                    raise
            else:
                return

    # The calls. What they must hold is asserted where it is known.

    def do_append(self, step: Step, call: Call) -> None:
        call.word = word = f"{self.plan.name}.{step.number}"
        name = f"row-{word}" if step.chance < 0.7 else None
        call.told = self.catalog._commit(appending(word, self.catalog.scope, name=name))
        if name is not None:
            self.own.append(name)

    def do_transaction(self, step: Step, call: Call) -> None:
        call.word = word = f"{self.plan.name}.{step.number}"
        name = f"row-{word}"
        with self.catalog.transaction() as tx:
            told = tx._commit(appending(word, tx.scope, name=name))
            if step.chance < 0.3:
                self.world.sleep(3 * step.chance)
        call.told = told
        self.own.append(name)

    def do_claim(self, step: Step, _: Call) -> None:
        name = f"unique-{int(step.chance * 3)}"
        by = f"{self.plan.name}.{step.number}"
        before = self.witness.newest.number
        try:
            self.catalog.create_result_table(**row(name, properties={"by": by}))
        except AlreadyExistsError:
            held = self.witness.newest.rows[name]
            assert (held.properties or {})["by"] != by, f"{by} lost {name} to itself"
            return
        except CommitUnknownError:
            raise
        except JammiFilesError:
            self._require_not_mine(name, by)
            raise
        held = self.witness.newest.rows[name]
        assert (held.properties or {})["by"] == by, f"{name} acknowledged to {by}: {held}"
        assert self.witness.created[name][0] > before, f"{name} created twice"

    def _require_not_mine(self, name: str, by: str) -> None:
        held = self.witness.newest.rows.get(name)
        mine = held is not None and (held.properties or {}).get("by") == by
        assert not mine, f"{name} denied to {by} and made"

    def do_bulk(self, step: Step, _: Call) -> None:
        names = [
            f"bulk-{self.plan.name}.{step.number}-{n}" for n in range(2 + int(4 * step.chance))
        ]
        try:
            self.catalog.create_result_tables(rows(*names))
        except CommitUnknownError:
            raise
        except JammiFilesError:
            assert not any(name in self.witness.created for name in names), "denied and made"
            raise
        assert all(name in self.witness.created for name in names), "acknowledged and lost"

    def do_read(self, _: Step, call: Call) -> None:
        since, newest = self.witness.known_to_all, self.witness.newest.number
        pinned = self.catalog.snapshot()
        self.witness.behind += pinned.version < newest
        assert pinned.version >= self.seen, f"version {pinned.version} after {self.seen}"
        self.seen = pinned.version
        call.told = self._read(pinned, since)

    def do_pinned(self, step: Step, _: Call) -> None:
        """Pin a version and look at it only after a while: it is as it was, or retired."""
        since = self.witness.known_to_all
        pinned = self.catalog.snapshot()
        self.world.sleep(10 * 10 ** (4 * step.chance))
        try:
            self._read(pinned, since)
        except VersionNotFoundError:
            kept = self.witness.newest.retention.keeps(pinned.version)
            assert not kept, f"version {pinned.version} is kept and cannot be read"

    def _read(self, pinned: Any, since: int) -> tuple[str, ...]:
        table = pinned.scan(columns=["table_name", "status"])
        names = [str(name) for name in table.column(0).to_pylist()]
        assert len(set(names)) == len(names), f"rows twice in version {pinned.version}"
        status = map(str, table.column(1).to_pylist())
        self.witness.check_read(pinned.version, dict(zip(names, status, strict=True)), since)
        words = words_of(pinned.get_result_table(JOURNAL))
        for name in names:
            torn = name.startswith("row-") and name.removeprefix("row-") not in words
            assert not torn, f"{name} without its word in version {pinned.version}"
        return words

    def do_build(self, step: Step, _: Call) -> None:
        with self.store.build(*TABLE, **CONTRACT) as out:
            out.write(DATA)
            if step.chance < 0.5:
                out.checkpoint(1)
            if step.chance < 0.25:
                self.world.sleep(6000 * step.chance)
            out.write(DATA)
        made = self.witness.newest.rows.get(out.table_name)
        gone = out.table_name in self.witness.deleting
        assert gone or (made is not None and made.is_ready), f"{out.table_name} is not ready"
        self.own.append(out.table_name)

    def do_delete(self, step: Step, _: Call) -> None:
        if self.own:
            name = self.own.pop(int(step.chance * len(self.own)))
            self.witness.deleting.add(name)
            self.store.delete_table(name)
            assert name not in self.witness.newest.rows, f"{name} was deleted"

    def do_recover(self, step: Step, _: Call) -> None:
        self.store.recover(reap=step.chance < 0.5)

    def do_overtake(self, step: Step, _: Call) -> None:
        """Act just before somebody goes on who has stood still for long."""
        self.world.sleep(5 * step.chance)
        lead = step.chance * 7 % 1 * 0.6
        self.world.sleep(max(0.0, self.world.next_awakening(60) - lead))
        if step.chance < 0.8:
            self.store.recover(reap=step.chance < 0.3)
        else:
            self.catalog.vacuum(0, dry_run=False)

    def do_vacuum(self, step: Step, _: Call) -> None:
        age = AGES[int(step.chance * 1000) % len(AGES)]
        self.catalog.vacuum(age, keep_last=1 + int(step.chance * 3), dry_run=False)

    def do_tag(self, step: Step, _: Call) -> None:
        number = self.catalog.tag(f"tag-{int(step.chance * 3)}")
        newest = self.witness.newest.number
        assert number <= newest, f"tagged version {number} of {newest}"

    def do_untag(self, step: Step, _: Call) -> None:
        self.catalog.untag(f"tag-{int(step.chance * 3)}")

    def do_compact(self, _: Step, __: Call) -> None:
        self.catalog.compact()

    def do_wait(self, step: Step, _: Call) -> None:
        self.world.sleep(0.01 * 10 ** (7 * step.chance))

    def do_end(self, _: Step, call: Call) -> None:
        """Look at everything once nothing is under way any more."""
        self.world.sleep(self.bucket.stale / SECOND)
        pinned = self.catalog.snapshot()
        call.told = self._read(pinned, self.witness.newest.number)
        status = {r.table_name: str(r.status) for r in pinned.list_result_tables_by_status("ready")}
        status |= {
            r.table_name: str(r.status)
            for kind in ("building", "failed")
            for r in pinned.list_result_tables_by_status(kind)
        }
        self.witness.check_end(status)
        tagged = self.witness.newest.retention.tags.values()
        kept = self.witness.kept()
        some = [v for v in kept if v.number in tagged or v in (kept[0], kept[len(kept) // 2])]
        for version in some:
            self._read(self.catalog.snapshot(version.number), version.number)
