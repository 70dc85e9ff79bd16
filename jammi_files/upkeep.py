"""Tags and vacuum: what a catalog keeps of its past, which concerns all tenants alike."""

from __future__ import annotations

import abc
import datetime as dt
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING

from jammi_files import events, tracing
from jammi_files.draft import Draft
from jammi_files.errors import StateError
from jammi_files.events import Event
from jammi_files.hooks import Hooks, Observers
from jammi_files.log import Log
from jammi_files.operations import Operations
from jammi_files.retention import require_tag_name
from jammi_files.snapshot import Snapshot
from jammi_files.timestamps import parse_duration
from jammi_files.validation import require_count

if TYPE_CHECKING:
    from jammi_files.vacuum import VacuumReport


class Upkeep(Operations):
    """The operations of a catalog on its own versions and files."""

    _observers: Observers

    @property
    def hooks(self) -> Hooks:
        """Where to say what is called after a change, as far as this handle's scope sees it."""
        return Hooks(self._observers, self.scope)

    @property
    @abc.abstractmethod
    def log(self) -> Log[Snapshot, Draft]:
        """The versions behind this catalog."""

    def tag(self, name: str, version: int | None = None) -> int:
        """Keep a version, the newest if none is given, for as long as it has the tag; return it.

        A tag keeps rows, not bytes: deleting a result still deletes its data. Tags belong to the
        catalog; every handle sees them. The same tag on the same version changes nothing.

        Raises:
            InvalidInputError: the name does not print or is too long, or there are 256 tags.
            AlreadyExistsError: the name is the tag of another version.
            VersionNotFoundError: no such version, or vacuum retired it.
            StateError: the handle is bound to a tenant and has no admin mark.
        """
        require_tag_name(name)
        wanted = None if version is None else require_count("version", version)
        self._require_catalog_wide("tag")

        def change(draft: Draft) -> int:
            newest = draft.base.version
            number = newest if wanted is None else wanted
            draft.retain(draft.retention.tagged(name, number, newest), "tag")
            return number

        return self._commit(change)

    def untag(self, name: str) -> int:
        """Remove a tag and return its version, which the next vacuum may retire.

        Raises:
            VersionNotFoundError: there is no such tag.
            StateError: the handle is bound to a tenant and has no admin mark.
        """
        require_tag_name(name)
        self._require_catalog_wide("untag")

        def change(draft: Draft) -> int:
            version = draft.retention.find(name)
            draft.retain(draft.retention.untagged(name), "untag")
            return version

        return self._commit(change)

    def tags(self) -> dict[str, int]:
        """Return the version of every tag, by name."""
        return dict(sorted(self._seen()[0].header.retention.tags.items()))

    def vacuum(
        self,
        older_than: float | str | dt.timedelta = "7d",
        *,
        keep_last: int = 1,
        dry_run: bool = True,
        executor: Executor | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> VacuumReport:
        """Retire old versions and delete what no kept version reaches (FORMAT section "Vacuum").

        Kept are the ``keep_last`` newest versions, every tagged one, and all that were the newest
        less than ``older_than`` ago: a timedelta, seconds, or text such as ``12h``, ``7d``, ``2w``.
        Everything else under the root that this catalog made is garbage once it is that old:
        segments, data and sidecars without a row in any kept version, side objects of builds that
        are over, temporary files. Rows that failed keep their data. It is safe beside any number
        of readers and writers, and may be killed; a reader that is pinned to a retired version
        gets `VersionNotFoundError`.

        ``dry_run`` only plans, by this machine's clock, and writes nothing. ``executor`` is any
        `concurrent.futures.Executor`, threads by default; ``progress`` is called with the number
        of objects done and the total.

        Raises:
            InvalidInputError: a wrong ``older_than`` or ``keep_last``.
            FormatError: a version that is kept cannot be read, so nobody knows what it needs:
                nothing was removed; see `jammi_files.repair`.
            StateError: the handle is bound to a tenant and has no admin mark.
        """
        grace = parse_duration("older_than", older_than)
        last = require_count("keep_last", keep_last, least=1)
        self._require_catalog_wide("vacuum")
        # Whoever reads or commits does not wait for these modules.
        from jammi_files.reach import Root  # noqa: PLC0415
        from jammi_files.vacuum import vacuum  # noqa: PLC0415

        started = time.perf_counter()
        with (
            ThreadPoolExecutor() as threads,
            tracing.span("vacuum", root=self._storage.root, dry_run=dry_run) as span,
        ):
            root = Root(self.log, self._storage, executor or threads)
            report = vacuum(root, grace=grace, keep_last=last, dry_run=dry_run, progress=progress)
            done: dict[str, int] = {
                "versions": report.versions_retired,
                "objects": report.objects_deleted,
                "bytes": report.bytes_freed,
            }
            span.set(version=report.version, **done)
        if report.version is not None:
            seconds = time.perf_counter() - started
            text = "vacuum made version %s"
            fields = {"root": self._storage.root, "version": report.version, **done}
            events.info(Event.VACUUMED, text, report.version, seconds=seconds, **fields)
            self._observers.tell_upkeep(report.version, "vacuum", seconds, self.scope)
        return report

    def _require_catalog_wide(self, what: str) -> None:
        if not self.scope.is_catalog_wide:
            msg = (
                f"{what} concerns every tenant, and this handle is bound to {self.scope.tenant}; "
                "use an unbound handle or as_admin()"
            )
            raise StateError(msg)
