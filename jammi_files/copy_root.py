"""A whole root, of all tenants, copied from any storage to any other: `copy`.

The order makes every moment safe (FORMAT section "Copy"; the numbers below are its steps): nobody
opens what is unfinished, and what a kill leaves is what the next call goes on with.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from itertools import chain
from typing import Any, NamedTuple

from jammi_files import copy_versions, events, garbage, root_format, tracing
from jammi_files.copy_crew import Crew, Progress
from jammi_files.copy_objects import Outcome, Pair, copy_object, copy_result, create_equal
from jammi_files.copy_plan import Plan, Planner
from jammi_files.copy_versions import RETIRED, copy_version
from jammi_files.draft import SEGMENTS, CatalogCodec
from jammi_files.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    StorageError,
    VersionNotFoundError,
)
from jammi_files.events import Event
from jammi_files.local import LocalStorage
from jammi_files.log import PREFIX, Log, key_of
from jammi_files.parts import THREADS, Workers, require_executor
from jammi_files.root_format import Commit
from jammi_files.roots import open_storage
from jammi_files.storage import Storage

ROUNDS = 32
"""How often a source is looked at anew that deletes what is being copied."""

_THREADS = THREADS


class CopyTrouble(NamedTuple):
    """Something that the source lacks or has damaged: at the copy it is the same."""

    key: str
    problem: str


@dataclasses.dataclass(frozen=True, slots=True)
class CopyReport:
    """What `copy` did.

    The destination is at ``version``; ``since`` is the version that it had before, None if it was
    no catalog, and ``resumed`` says that an earlier call had begun there. ``copied`` and
    ``present`` count objects, the latter those that needed no copying. ``building`` are the rows
    whose builds were going on: their objects are not copied. ``elsewhere`` are those whose data
    lies outside the source's root, where it stays.
    """

    source: str
    destination: str
    catalog_id: str
    version: int
    since: int | None
    resumed: bool
    copied: int
    copied_bytes: int
    present: int
    present_bytes: int
    troubles: tuple[CopyTrouble, ...]
    building: tuple[str, ...]
    elsewhere: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if the source has everything that its rows promise."""
        return not self.troubles


def copy(  # noqa: PLR0913 - each says one thing of where and how
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    verify: bool = True,
    foreign: bool = False,
    src_storage_options: Mapping[str, Any] | None = None,
    dst_storage_options: Mapping[str, Any] | None = None,
) -> CopyReport:
    """Copy the catalog at ``src``, rows and results of all tenants, to ``dst``.

    Both are paths or URLs; other processes may go on writing to ``src``. The copy is the catalog at
    the version that was the newest when the call began, or at a newer one if results were deleted
    meanwhile. It has the same catalog id: a mirror, which a later call brings forward. Until the
    first call has finished nobody can open ``dst``; a call that was killed is finished by the next
    one, which copies what is missing. Nothing is ever deleted at ``src``, and at ``dst`` only an
    earlier result whose name was used again.

    ``verify`` checks data against its attestation on its way, reads segments back, and compares the
    contents of what an earlier call has left; without it sizes decide. ``foreign`` copies what no
    row names, too. ``executor`` is any `concurrent.futures.Executor`, of a cluster too, threads by
    default; `jammi_files.parts` says what is done again when it loses a worker. ``progress`` is
    called in this thread.

    Raises:
        StorageError: ``src`` holds no catalog, or a storage refused an operation.
        AlreadyExistsError: ``dst`` holds another catalog, or objects whose names are needed;
            nothing was written.
        ConflictError: something else was committed at ``dst``; or the source was changed faster
            than it could be copied.
        InvalidInputError: one root lies in the other; or ``executor`` is not an executor.
        FormatError: the newest version of the source is damaged.
        StateError: ``src`` is itself an unfinished copy.
    """
    source = open_storage(src, storage_options=src_storage_options, cache_dir="off")
    target = open_storage(dst, storage_options=dst_storage_options, cache_dir="off")
    return copy_root(
        Pair(source, target, verify), executor=executor, progress=progress, foreign=foreign
    )


def copy_root(
    pair: Pair,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    foreign: bool = False,
) -> CopyReport:
    """Copy what one storage holds to another; see `copy`."""
    require_executor(executor)
    pair = Pair(pair.source.uncached(), pair.target.uncached(), pair.verify)
    _require_apart(pair.source, pair.target)
    found = root_format.read(pair.source)
    if found is None:
        raise StorageError(f"no catalog at '{pair.source.root}'")
    started, where = time.perf_counter(), {"root": pair.source.root, "target": pair.target.root}
    with Workers(executor, threads=_THREADS) as workers, tracing.span("copy", **where) as span:
        crew = Crew(workers, pair.target, progress, tells=executor is None)
        report = _Copy(pair, found.catalog_id, crew, foreign=foreign).run()
        done = {"version": report.version, "objects": report.copied, "bytes": report.copied_bytes}
        span.set(**done)
    seconds = time.perf_counter() - started
    fields = {**where, **done, "seconds": seconds}
    events.info(Event.COPIED, "copied '%(root)s' to '%(target)s'", fields, **fields)
    return report


class _Copy:
    """One call of `copy`."""

    def __init__(self, pair: Pair, catalog_id: str, workers: Crew, *, foreign: bool) -> None:
        self._pair, self._catalog_id = pair, catalog_id
        self._workers, self._foreign = workers, foreign
        self._log = Log(pair.source, CatalogCodec(pair.source))
        self._stand()
        self._before = self._standing
        self._settled: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._outcomes = [0, 0, 0, 0]

    def run(self) -> CopyReport:
        """Copy until nothing was in trouble that may be so because it was just deleted."""
        for _ in range(ROUNDS):
            try:
                plan = self._plan()
            except VersionNotFoundError:
                continue  # retired while it was looked at; a newer one is there
            troubles = self._send(plan) if self._claim(plan) else None
            if troubles is None:  # another copier was faster; what it did is not done again
                self._stand()
                self._before = self._standing
                continue
            if self._knows(troubles):
                troubles |= self._publish(plan)
                if self._knows(troubles):
                    self._finish(plan)
                    return self._report(plan, troubles)
                self._stand()
            self._settled |= {key: stamp for key, (stamp, _) in troubles.items()}
        msg = (
            f"'{self._pair.source.root}' was changed {ROUNDS} times in a row while it was copied; "
            "what is there stays: run the copy again to finish it"
        )
        raise ConflictError(msg)

    def _knows(self, troubles: Mapping[str, tuple[int, str]]) -> bool:
        """Say whether all of it has been met before, so that looking anew would not help."""
        return all(self._settled.get(key) == stamp for key, (stamp, _) in troubles.items())

    def _stand(self) -> None:
        self._standing = copy_versions.find_standing(self._pair, self._catalog_id)
        self._is_claimed = self._standing.is_claimed or self._standing.version is not None

    def _plan(self) -> Plan:
        planner = Planner(
            pair=self._pair,
            log=self._log,
            standing=self._standing,
            threads=self._workers.threads,
            foreign=self._foreign,
            settled=self._settled,
            done=self._done,
        )
        return planner.plan()

    def _claim(self, plan: Plan) -> bool:
        """Make sure that nobody else uses the destination, and that nothing there is in the way."""
        if self._is_claimed:
            return True
        target = self._pair.target
        taken = [part.key for job in plan.results for part in job.there]
        taken += [job.part.key for job in plan.objects if job.there is not None]
        taken += [place for place in (PREFIX, SEGMENTS) if target.list(place)]
        if root_format.look(target) is not None:
            return False
        if taken:
            some = ", ".join(f"'{key}'" for key in sorted(taken)[:3])
            msg = (
                f"'{target.root}' is no catalog, but holds {len(taken)} objects where the copy "
                f"would lie: {some}; choose an empty destination"
            )
            raise AlreadyExistsError(msg)
        try:
            root_format.begin_copy(target, self._catalog_id)  # 1
        except FileExistsError:
            return False
        self._is_claimed = True
        return True

    def _send(self, plan: Plan) -> dict[str, tuple[int, str]] | None:
        """Copy everything but the newest version; return what was in trouble, with its stamp.

        None if another copier has finished the copy meanwhile: what follows is done otherwise then.
        """
        self._workers.expect(plan.parts)
        troubles = dict(plan.troubles)
        results = self._workers.run(copy_result, plan.results)  # 2
        for outcome in chain(results, self._workers.run(copy_object, plan.objects)):  # 3
            self._note(plan, outcome, troubles)
        if self._standing.version is None and not self._is_unfinished():
            return None
        for outcome in self._workers.run(copy_version, plan.versions):  # 4
            self._note(plan, outcome, troubles)
        return troubles

    def _is_unfinished(self) -> bool:
        found = root_format.look(self._pair.target)
        return found is not None and found.is_unfinished

    def _note(self, plan: Plan, outcome: Outcome, troubles: dict[str, tuple[int, str]]) -> None:
        stamp = plan.stamps[outcome.key]
        if outcome.trouble is None:
            self._done[outcome.key] = stamp
        else:
            troubles[outcome.key] = stamp, outcome.trouble
        counts = outcome.copied, outcome.copied_bytes, outcome.present, outcome.present_bytes
        self._outcomes = [a + b for a, b in zip(self._outcomes, counts, strict=True)]

    def _publish(self, plan: Plan) -> dict[str, tuple[int, str]]:
        """Show the copied version; return what the source turns out to lack of earlier ones."""
        since, target = self._standing.version, self._pair.target
        if since is not None or self._standing.is_claimed:
            garbage.settle(target)
        if since is None:
            if plan.version:
                create_equal(target, key_of(plan.version), plan.newest)  # 5
        elif plan.version > since:
            coming = Commit(since, self._standing.commit_id), Commit(plan.version, plan.commit_id)
            root_format.note_coming(target, self._catalog_id, self._standing.noted, coming)
            copy_versions.bring_forward(self._pair, since, plan.newest, plan.between)
        self._count_versions(plan)
        self._retire(plan.outdated)
        return {} if since is None else self._fill_in(plan)

    def _fill_in(self, plan: Plan) -> dict[str, tuple[int, str]]:
        """Fill in the stand-ins that are kept; return those that the source has retired.

        They stay until the source has been looked at anew: a vacuum has made a newer version, which
        does not keep them, or they are lost.
        """
        noted, threads = self._standing.noted, self._workers.threads
        may_be = range(max(1, noted.version) if noted else 1, plan.version)
        versions = copy_versions.find_stand_ins(self._pair.target, may_be, threads)
        kept = [version for version in versions if plan.retention.keeps(version)]
        fill = functools.partial(copy_versions.fill_in, self._pair)
        filled = zip(kept, threads.map(fill, kept), strict=True)
        gone = [version for version, is_filled in filled if not is_filled]
        lost = {version for version in gone if key_of(version) in self._settled}
        self._retire(v for v in versions if v in lost or not plan.retention.keeps(v))
        return {key_of(version): (0, RETIRED) for version in gone}

    def _finish(self, plan: Plan) -> None:
        """Note the version that the copy was brought to."""
        commit = Commit(plan.version, plan.commit_id)
        if self._standing.noted != commit:
            root_format.finish_copy(self._pair.target, self._catalog_id, commit)  # 6

    def _count_versions(self, plan: Plan) -> None:
        """Count the versions that are created last."""
        is_moved = plan.version and plan.version != self._standing.version
        self._outcomes[0] += len(plan.between) + bool(is_moved)
        self._outcomes[1] += plan.between_bytes + (len(plan.newest) if is_moved else 0)

    def _retire(self, versions: Iterable[int]) -> None:
        list(self._workers.threads.map(functools.partial(_empty, self._pair.target), versions))

    def _report(self, plan: Plan, troubles: Mapping[str, tuple[int, str]]) -> CopyReport:
        copied, copied_bytes, present, present_bytes = self._outcomes
        return CopyReport(
            source=self._pair.source.root,
            destination=self._pair.target.root,
            catalog_id=self._catalog_id,
            version=plan.version,
            since=self._before.version,
            resumed=self._before.is_claimed,
            copied=copied,
            copied_bytes=copied_bytes,
            present=present + len(plan.present),
            present_bytes=present_bytes + sum(plan.present),
            troubles=tuple(CopyTrouble(key, text) for key, (_, text) in sorted(troubles.items())),
            building=tuple(plan.building),
            elsewhere=tuple(plan.elsewhere),
        )


def _empty(target: Storage, version: int) -> None:
    target.retire(key_of(version))


def _require_apart(source: Storage, target: Storage) -> None:
    """Refuse to copy a root into itself.

    Raises:
        InvalidInputError: one root is, or lies in, the other.
    """
    ours, theirs = f"{_place(source)}/", f"{_place(target)}/"
    if ours.startswith(theirs) or theirs.startswith(ours):
        msg = f"'{target.root}' and '{source.root}' lie in one another; choose another destination"
        raise InvalidInputError(msg)


def _place(storage: Storage) -> str:
    return os.path.realpath(storage.root) if isinstance(storage, LocalStorage) else storage.root
