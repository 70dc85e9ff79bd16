"""Retire old versions and delete what no kept version reaches, while others read and write.

No clock protects a writer here. Objects are listed first; then a version of vacuum's own is
committed, so that whoever stands on an earlier one loses its create and begins anew; only what was
listed before that and is reached by no version that is kept is removed (FORMAT section "Vacuum";
the numbers below are its steps). Whatever a killed vacuum left, the next one finds by listing.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from itertools import chain, islice
from typing import TypeVar

from jammi_files import garbage, manifest
from jammi_files.draft import SEGMENTS, Draft
from jammi_files.errors import JammiFilesError, StorageError, VersionNotFoundError
from jammi_files.garbage import Age, Listing, Stem, VacuumAction, VacuumKind
from jammi_files.log import Log, key_of
from jammi_files.reach import Reach, Root, building_stems, named_stems
from jammi_files.retention import Retention
from jammi_files.snapshot import Snapshot
from jammi_files.storage import Storage
from jammi_files.timestamps import format_timestamp

OPERATION = "vacuum"
_AT_ONCE = 256
"""Results that are looked at again and deleted while the writers' lock is held once."""

T = TypeVar("T")
Group = tuple[VacuumAction, ...]
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, slots=True)
class VacuumReport:
    """What `Catalog.vacuum` removed, or with ``dry_run`` would remove, in that order.

    ``version`` is the version that it made, None if there was nothing to do. Versions below
    ``floor`` without a tag can no longer be read. ``foreign`` are objects that no row names and
    that vacuum leaves alone, because nothing says that this catalog made them.
    """

    actions: tuple[VacuumAction, ...]
    foreign: tuple[VacuumAction, ...]
    floor: int
    version: int | None
    dry_run: bool

    def __bool__(self) -> bool:
        return bool(self.actions)

    @property
    def done(self) -> tuple[VacuumAction, ...]:
        """The actions without those that failed."""
        return tuple(action for action in self.actions if action.error is None)

    @property
    def bytes_freed(self) -> int:
        """The bytes of all removed objects."""
        return sum(action.size for action in self.done)

    @property
    def versions_retired(self) -> int:
        """The number of versions that were emptied."""
        return sum(action.kind is VacuumKind.VERSION for action in self.done)

    @property
    def objects_deleted(self) -> int:
        """The number of objects that were deleted."""
        return len(self.done) - self.versions_retired


@dataclasses.dataclass(slots=True)
class _Plan:
    state: Snapshot
    retention: Retention
    segments: dict[str, VacuumAction]
    stems: dict[str, Stem]
    loose: dict[str, tuple[str, VacuumAction]]
    """Build states and temporary files: by key, with the table that they belong to."""


def vacuum(
    root: Root, *, grace: int, keep_last: int, dry_run: bool, progress: Progress | None
) -> VacuumReport:
    """Clean one root; see `Catalog.vacuum`. ``grace`` is in seconds."""
    storage = root.storage
    if root.log.head().version == 0:
        return VacuumReport((), (), 1, None, dry_run)
    clock = None if dry_run else f"{garbage.CLOCK}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        now = None if clock is None else _ask_clock(storage, clock)  # 1
        listing = garbage.take_listing(storage, root.executor, without=clock)  # 2
        if not listing.versions:
            where = storage.url(key_of(root.log.known.version))
            raise StorageError(f"'{where}' is there and is not listed; nothing was removed")
        age = Age(now or max(dt.datetime.now(dt.UTC), listing.newest), grace)
        plan = _on_newest(root.log, lambda state: _plan(root, state, listing, age, keep_last))  # 3
        foreign = (*listing.foreign, *_take_foreign(storage, plan))
        groups = _groups(listing, plan)
        if dry_run or not groups:
            actions = tuple(chain.from_iterable(groups))
            return VacuumReport(actions, foreign, plan.retention.floor, None, dry_run)
        version = _commit(root.log, plan)  # 4
        _on_newest(root.log, lambda state: _spare_new(root, state, plan))  # 5
        done = _remove(root, listing, plan, progress)  # 6 to 8
        return VacuumReport(tuple(done), foreign, plan.retention.floor, version, dry_run)
    finally:
        if clock is not None:
            storage.delete(clock)


def _ask_clock(storage: Storage, key: str) -> dt.datetime:
    """Return the storage's own time: that of an object which is written now."""
    storage.create(key, b"clock")
    for info in storage.list_objects(garbage.CATALOG):
        if key == f"{garbage.CATALOG}/{info.name}":
            return info.modified
    raise StorageError(f"'{storage.url(key)}' was written and is not listed; nothing was removed")


def _on_newest(log: Log[Snapshot, Draft], act: Callable[[Snapshot], T]) -> T:
    """Act on the newest state, and again if another vacuum has taken it away meanwhile."""
    while True:
        state = log.head()
        try:
            return act(state)
        except VersionNotFoundError:
            if log.head().version == state.version:
                raise


def _plan(root: Root, state: Snapshot, listing: Listing, age: Age, keep_last: int) -> _Plan:
    floor = _find_floor(root.storage, state, listing, age, keep_last)
    born = format_timestamp(int(listing.oldest_version.timestamp()) * 1_000_000_000)
    retention = state.header.retention.vacuumed_by(state.version + 1, floor, born)
    live, building = named_stems(state.tables()), building_stems(state)
    listed = {segment.info.key for segment in state.runs.segments}
    why = "no kept version lists it"
    segments = {
        key: VacuumAction(key, VacuumKind.SEGMENT, info.size, why)
        for info in listing.segments
        if (key := f"{SEGMENTS}/{info.name}") not in listed and age.is_over(info.modified)
    }
    stems = {
        stem.name: stem
        for stem in listing.stems
        if stem.name not in live and age.is_over(stem.newest)
    }
    loose = {
        action.key: (table, action)
        for table, action, modified in garbage.loose_objects(listing)
        if table not in building and age.for_loose(action.key).is_over(modified)
    }
    plan = _Plan(state, retention, segments, stems, loose)
    kept = [*range(floor, state.version), *(v for v in retention.tags.values() if v < floor)]
    _spare(Reach(root, plan.stems), kept, plan)
    return plan


def _find_floor(
    storage: Storage, state: Snapshot, listing: Listing, age: Age, keep_last: int
) -> int:
    """Return the oldest version that is kept: it was newest within the grace, or counts as last."""
    floor = state.header.retention.floor
    last, header = state.version, state.header
    while header.operation == OPERATION and last > floor:  # its rows are those of the one before
        data = storage.peek(key_of(last - 1))
        if not data:  # another vacuum has retired it meanwhile, or it is lost
            break
        last -= 1
        header = manifest.decode_header(key_of(last), data)
    # A version that is lost stands in nobody's way: the next one there is came after it, too.
    for successor in sorted(listing.versions):
        if floor < successor <= last - keep_last + 1:
            if not age.is_over(listing.versions[successor].modified):
                break
            floor = successor
    return floor


def _take_foreign(storage: Storage, plan: _Plan) -> list[VacuumAction]:
    """Take out of a plan what this catalog may not have made."""
    found: list[VacuumAction] = []
    born = dt.datetime.fromisoformat(str(plan.retention.born))
    for stem in list(plan.stems.values()):
        if stem.oldest < born:
            found += garbage.foreign(stem, "it is older than this catalog, which never knew it")
        elif not garbage.is_own(storage, stem):
            found += garbage.foreign(stem, "no row names it, and nothing says that it is a result")
        else:
            continue
        del plan.stems[stem.name]
    return found


def _commit(log: Log[Snapshot, Draft], plan: _Plan) -> int:
    """Make a version of vacuum's own, which every writer that stands on an earlier one loses to."""

    def change(draft: Draft) -> int:
        planned = plan.retention
        retention = draft.retention.vacuumed_by(draft.version, planned.floor, planned.born)
        draft.retain(retention, OPERATION)
        return draft.version

    return log.commit(change)


def _spare_new(root: Root, state: Snapshot, plan: _Plan) -> None:
    """Take out of a plan what was committed or tagged between the listing and vacuum's version."""
    before, retention = plan.state, state.header.retention
    known = before.header.retention.tags.values()
    tagged = {version for version in retention.tags.values() if version not in known}
    committed = range(before.version + 1, state.version)
    _spare(Reach(root, plan.stems), [*committed, *tagged], plan)
    for segment in state.runs.segments:
        plan.segments.pop(segment.info.key, None)
    _spare_rows_since(plan, state)
    plan.retention = retention


def _spare(reach: Reach, versions: Sequence[int], plan: _Plan) -> None:
    if not (plan.segments or plan.stems):
        return
    for segments, stems in reach.of(versions):
        for key in segments:
            plan.segments.pop(key, None)
        for stem in stems:
            plan.stems.pop(stem, None)


def _spare_rows_since(plan: _Plan, state: Snapshot) -> None:
    """Take out of a plan what rows name that were written after its own state."""
    fresh = named_stems(state.tables(since=plan.state.version))
    for stem in fresh:
        plan.stems.pop(stem, None)
    for key in [key for key, (table, _) in plan.loose.items() if table in fresh]:
        del plan.loose[key]
    plan.state = state


def _groups(listing: Listing, plan: _Plan) -> list[Group]:
    """Return all that is to be removed; the objects of a group go one after the other."""
    loose = ((action,) for _, action in plan.loose.values())
    stems = (stem.objects for stem in plan.stems.values())
    return [*_retired(listing, plan), *((each,) for each in plan.segments.values()), *stems, *loose]


def _retired(listing: Listing, plan: _Plan) -> Iterator[Group]:
    """Yield what is to be emptied: also where an object is lost, as its name must stay taken."""
    floor, listed = plan.retention.floor, listing.versions
    for version in range(min(listed), min(floor, max(listed))):
        info = listed.get(version)
        if (info is None or info.size) and not plan.retention.keeps(version):
            was = "" if info else "lost, and "
            reason = f"{was}below version {floor}, the oldest that is kept"
            size = info.size if info else 0
            yield (VacuumAction(key_of(version), VacuumKind.VERSION, size, reason),)


def _remove(
    root: Root, listing: Listing, plan: _Plan, progress: Progress | None
) -> Iterator[VacuumAction]:
    total = sum(map(len, _groups(listing, plan)))
    work = _Work(root, total, progress)
    # 6. Versions first: no reader opens one whose segments are going.
    yield from work.do(list(_retired(listing, plan)))
    # 7. Segments: nothing can list them any more.
    yield from work.do([(action,) for action in plan.segments.values()])
    # 8. Results: a name may be used again, so each is looked at once more, with writers kept out.
    waiting = [*plan.stems, *plan.loose]
    while some := waiting[:_AT_ONCE]:
        waiting = waiting[_AT_ONCE:]
        with root.log.writing():
            if root.log.head().version > plan.state.version:
                _on_newest(root.log, lambda state: _spare_rows_since(plan, state))
            stems = [plan.stems[name].objects for name in some if name in plan.stems]
            loose = [(plan.loose[key][1],) for key in some if key in plan.loose]
            done = list(work.do([*stems, *loose]))
        yield from done


class _Work:
    """Removes groups of objects side by side and counts them."""

    def __init__(self, root: Root, total: int, progress: Progress | None) -> None:
        self._root = root
        self._total, self._progress = total, progress
        self._count = 0

    def do(self, groups: Iterable[Group]) -> Iterator[VacuumAction]:
        """Yield the actions in order, each with its error if it failed."""
        remaining = iter(groups)
        while some := list(islice(remaining, _AT_ONCE)):
            submit, storage = self._root.executor.submit, self._root.storage
            futures = [submit(remove_group, storage, each) for each in some]
            for future in as_completed(futures):
                self._count += len(future.result())
                if self._progress is not None:
                    self._progress(min(self._count, self._total), self._total)
            for future in futures:
                yield from future.result()


def remove_group(storage: Storage, group: Group) -> Group:
    """Remove objects one after the other; the first that fails keeps those after it."""
    done: list[VacuumAction] = []
    error = None
    for action in group:
        if error is None:
            try:
                if action.kind is VacuumKind.VERSION:
                    storage.retire(action.key)
                else:
                    if action.kind is VacuumKind.SIDECAR:
                        storage.settle(group[0].key)  # or a power cut might bring the data back
                    storage.delete(action.key)
            except (JammiFilesError, OSError) as problem:
                error = str(problem)
        done.append(dataclasses.replace(action, error=error))
    return tuple(done)
