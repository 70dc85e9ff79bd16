"""A whole root, of all tenants, copied from any storage to any other: `copy`.

The order makes every moment safe (FORMAT section "Copy"; the numbers below are its steps): nobody
opens what is unfinished, and what a kill leaves is what the next call goes on with.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from itertools import chain
from typing import Any, NamedTuple

from jammi_files import copy_versions, events, garbage, root_format, tracing
from jammi_files.copy_objects import Outcome, Pair, copy_object, copy_result, create_equal
from jammi_files.copy_plan import Plan, Planner
from jammi_files.copy_versions import AT_ONCE, copy_version
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
from jammi_files.roots import open_storage
from jammi_files.storage import Storage

ROUNDS = 32
"""How often a source is looked at anew that deletes what is being copied."""

_THREADS = THREADS


class CopyProgress(NamedTuple):
    """How far a copy is. The totals may grow when the source is changed meanwhile."""

    objects: int
    total_objects: int
    bytes: int
    total_bytes: int


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


Progress = Callable[[CopyProgress], None]


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
        crew = _Crew(workers, pair.target, progress, tells=executor is None)
        report = _Copy(pair, found.catalog_id, crew, foreign=foreign).run()
        done = {"version": report.version, "objects": report.copied, "bytes": report.copied_bytes}
        span.set(**done)
    seconds = time.perf_counter() - started
    fields = {**where, **done, "seconds": seconds}
    events.info(Event.COPIED, "copied '%(root)s' to '%(target)s'", fields, **fields)
    return report


class _Copy:
    """One call of `copy`."""

    def __init__(self, pair: Pair, catalog_id: str, workers: _Crew, *, foreign: bool) -> None:
        self._pair, self._catalog_id = pair, catalog_id
        self._workers, self._foreign = workers, foreign
        self._log = Log(pair.source, CatalogCodec(pair.source))
        self._stand()
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
                continue
            if all(self._settled.get(key) == stamp for key, (stamp, _) in troubles.items()):
                self._publish(plan)
                return self._report(plan, troubles)
            self._settled |= {key: stamp for key, (stamp, _) in troubles.items()}
        msg = (
            f"'{self._pair.source.root}' was changed {ROUNDS} times in a row while it was copied; "
            "what is there stays: run the copy again to finish it"
        )
        raise ConflictError(msg)

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

    def _publish(self, plan: Plan) -> None:
        """Show the copied version."""
        since, target = self._standing.version, self._pair.target
        if since is not None or self._standing.is_claimed:
            garbage.settle(target)
        if since is None:
            if plan.version:
                create_equal(target, key_of(plan.version), plan.newest)  # 5
            self._retire(plan.outdated)
        else:
            if plan.version > since:
                copy_versions.bring_forward(self._pair, since, plan.newest, plan.between)
            self._retire(plan.outdated)
            self._fill_in(plan)
        if self._standing.noted != (plan.version, plan.commit_id):
            root_format.finish_copy(target, self._catalog_id, plan.version, plan.commit_id)  # 6

    def _fill_in(self, plan: Plan) -> None:
        threads = self._workers.threads
        versions = copy_versions.find_stand_ins(self._pair.target, plan.version, threads)
        self._retire(version for version in versions if not plan.retention.keeps(version))
        kept = [version for version in versions if plan.retention.keeps(version)]
        fill = functools.partial(copy_versions.fill_in, self._pair)
        for start in range(0, len(kept), AT_ONCE):
            list(threads.map(fill, kept[start : start + AT_ONCE]))

    def _retire(self, versions: Iterable[int]) -> None:
        list(self._workers.threads.map(functools.partial(_empty, self._pair.target), versions))

    def _report(self, plan: Plan, troubles: Mapping[str, tuple[int, str]]) -> CopyReport:
        copied, copied_bytes, present, present_bytes = self._outcomes
        is_moved = plan.version and plan.version != self._standing.version
        return CopyReport(
            source=self._pair.source.root,
            destination=self._pair.target.root,
            catalog_id=self._catalog_id,
            version=plan.version,
            since=self._standing.version,
            resumed=self._standing.is_claimed,
            copied=copied + len(plan.between) + bool(is_moved),
            copied_bytes=copied_bytes + plan.between_bytes + (len(plan.newest) if is_moved else 0),
            present=present + len(plan.present),
            present_bytes=present_bytes + sum(plan.present),
            troubles=tuple(CopyTrouble(key, text) for key, (_, text) in sorted(troubles.items())),
            building=tuple(plan.building),
            elsewhere=tuple(plan.elsewhere),
        )


class _StoppedError(Exception):
    """The call that this job belongs to has failed or was interrupted."""


class _Crew:
    """Runs jobs and says how far they are; where threads do it, after every block."""

    def __init__(
        self, workers: Workers, target: Storage, progress: Progress | None, *, tells: bool
    ) -> None:
        self.threads = workers.threads
        self._workers, self._target = workers, target
        self._progress, self._tells = progress, tells
        self._mutex = threading.Lock()
        self._is_stopped = False
        self._objects = self._bytes = self._total_objects = self._total_bytes = 0

    def expect(self, sizes: Iterable[int]) -> None:
        """Add to the totals."""
        for size in sizes:
            self._total_objects += 1
            self._total_bytes += size

    def run(self, function: Callable[..., Outcome], jobs: Iterable[Any]) -> Iterator[Outcome]:
        """Yield the outcomes of jobs as they come."""
        work = functools.partial(function, tick=self._tick) if self._tells else function
        try:
            for _, outcome in self._workers.run(work, jobs, doubt=self._doubts, on_beat=self._say):
                self._count(outcome)
                yield outcome
                self._say()
        except BaseException:
            self._is_stopped = True
            raise

    def _doubts(self, outcome: Outcome) -> bool:
        """Say whether a worker may not have seen the roots that this process sees.

        Of another machine's directory it would say that the source is gone, and that it has written
        what is not here.
        """
        if outcome.trouble is not None:
            return True
        return isinstance(self._target, LocalStorage) and self._target.size(outcome.key) is None

    def _tick(self, size: int) -> None:
        if self._is_stopped:
            raise _StoppedError
        with self._mutex:
            self._bytes += size

    def _count(self, outcome: Outcome) -> None:
        self._objects += outcome.copied + outcome.present
        if not self._tells:
            self._tick(outcome.copied_bytes + outcome.present_bytes)

    def _say(self) -> None:
        if self._progress is not None:
            done = self._objects, self._total_objects, self._bytes, self._total_bytes
            self._progress(CopyProgress(*done))


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
