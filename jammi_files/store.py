"""Everything one does with results: produce, ask and `reuse`, verify, trace, delete."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

from jammi_files import (
    attesting,
    drawing,
    events,
    exports,
    lineage,
    parts,
    recovery,
    removal,
    tracing,
)
from jammi_files.artifacts import Artifacts
from jammi_files.catalog import Catalog
from jammi_files.descriptors import Descriptor
from jammi_files.drawing import Lineage
from jammi_files.errors import JammiFilesError, TableNotFoundError
from jammi_files.events import Event
from jammi_files.hooks import Hooks
from jammi_files.lineage import LineageEdge
from jammi_files.materialization import MaterializationManifest, Verdict
from jammi_files.parts import Progress, Workers
from jammi_files.recompute import Recompute
from jammi_files.schema import ResultTableRecord
from jammi_files.signing import Sign, Signing, Verify
from jammi_files.storage import Durability


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """One result of `ResultStore.verify_all`: a verdict, or the error that prevented one."""

    table_name: str
    verdict: Verdict | None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """True for the two kinds of match."""
        return self.verdict is not None and self.verdict.ok


class ResultStore(Recompute):
    """The results under one root, seen from one scope; make one with `connect`."""

    def __reduce__(self) -> tuple[type[ResultStore], tuple[Catalog, Signing]]:
        return ResultStore, (self.catalog, self.signing)

    def __repr__(self) -> str:
        return f"<ResultStore over {self.catalog!r}>"

    @property
    def root(self) -> str:
        """The directory or URL that holds everything."""
        return self.storage.root

    @property
    def hooks(self) -> Hooks:
        """Where to say what is called after a change: ``@store.hooks.on_ready``."""
        return self.catalog.hooks

    def pinned_to_tenant(self, tenant: str | uuid.UUID | None) -> ResultStore:
        """Return a store over the same root bound to ``tenant``, without the admin mark."""
        return ResultStore(self.catalog.pinned_to_tenant(tenant), self.signing)

    def as_admin(self) -> ResultStore:
        """Return a store that sees every tenant's results."""
        return ResultStore(self.catalog.as_admin(), self.signing)

    def read_materialization_manifest(self, table_name: str) -> MaterializationManifest | None:
        """Return a table's sidecar, None if it has none (`B188`).

        Raises:
            TableNotFoundError: no visible row has the name.
            FormatError: the sidecar is damaged (`B185` to `B187`).
        """
        return self._artifacts.read_sidecar(self._record(table_name))

    def producing_descriptor(self, table_name: str) -> Descriptor | None:
        """Return how the table was produced, None if it has no sidecar."""
        manifest = self.read_materialization_manifest(table_name)
        return None if manifest is None else manifest.descriptor

    def verify_materialization(
        self, table_name: str, expected_definition: str | None = None
    ) -> Verdict:
        """Judge a table by its sidecar, bytes and row, reading in blocks (`B220` to `B231`).

        A store with ``verify=`` judges the sidecar's signature first: `Unsigned`, `BadSignature`.

        Raises:
            TableNotFoundError: no visible row has the name.
            FormatError: the sidecar is damaged: an error, no verdict.
        """
        return _judge(self._artifacts, self._record(table_name), expected_definition)

    def seal(self, table_name: str) -> Verdict:
        """Sign a ready result that was made before anybody signed, if its bytes are right.

        Returns the verdict on it; unless it is ok, nothing is signed. A signature that is there
        stays as it is and is judged where the store has ``verify=``.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the table is not ready, or its data lies outside of the root.
            InvalidInputError: the store has no ``sign=``.
            FormatError: the sidecar is damaged.
        """
        return attesting.seal(self._artifacts, self._record(table_name))

    def verify_all(
        self,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> list[Verification]:
        """Verify every visible ready table, oldest first, each once (`B230`).

        ``executor`` is any `concurrent.futures.Executor`, of a cluster too, threads by default;
        `jammi_files.parts` says what is done again when it loses a worker. ``progress`` is called
        with the number done and the total. A table that is deleted meanwhile is answered for by the
        error that says so.

        Raises:
            InvalidInputError: ``executor`` is not an executor.
        """
        records = self.catalog.list_result_tables_by_status("ready")
        verify = functools.partial(_verify, Artifacts(self.storage.uncached(), self.signing))
        with Workers(executor) as workers:
            answers = workers.run(verify, records, doubt=_is_bad)
            found = parts.in_order(answers, len(records), progress)
        if all(verification.ok for verification in found):
            return found
        ready = self.catalog.list_result_tables_by_status("ready")
        now = {record.table_name: record for record in ready}
        return [
            verify_one(self, record.table_name)
            if _is_bad(verification) and now.get(record.table_name) != record
            else verification
            for record, verification in zip(records, found, strict=True)
        ]

    def recover(self, dry_run: bool = False, reap: bool = False) -> recovery.RecoveryReport:  # noqa: FBT001, FBT002 - the published signature
        """End every dead build in one terminal state and report each step (`B246` to `B266`).

        Rows of all tenants are recovered, the report names those that this store sees. A build
        whose process lives is never touched. ``dry_run`` only plans; ``reap`` deletes data that
        has no attestation instead of keeping it under a failed row.
        """
        return recovery.recover(self.catalog, dry_run=dry_run, reap=reap, signing=self.signing)

    def url(self, table_name: str) -> str:
        """Return where any program finds the table's data object."""
        return self._artifacts.url(self._record(table_name).parquet_path)

    def urls(self, table_names: Iterable[str] | None = None) -> dict[str, str]:
        """Return where any program finds the data objects of these tables, by name.

        Without names those of every visible ready table, oldest first. The catalog is asked once.

        Raises:
            TableNotFoundError: no visible row has one of the names.
        """
        now = self.catalog.snapshot()
        if table_names is None:
            ready = now.list_result_tables_by_status("ready")
            return {each.table_name: self._artifacts.url(each.parquet_path) for each in ready}
        found = {name: now.get_result_table(name) for name in table_names}
        urls = {}
        for name, record in found.items():
            if record is None:
                raise TableNotFoundError.named(name)
            urls[name] = self._artifacts.url(record.parquet_path)
        return urls

    def derives_from(self, source: str) -> list[LineageEdge]:
        """Return the edges from ``source`` to each visible ready result made from it (`B131`).

        ``source`` is a result table or a raw source id; nothing derived is an empty list.
        """
        return lineage.derives_from(self.catalog, source)

    def derives_from_closure(
        self, source: str, *, as_of: str | dt.datetime | None = None
    ) -> list[LineageEdge]:
        """Return every edge downstream of ``source``, now or ``as_of`` an instant (`B135`).

        Edges come in depth-first discovery order, each once; the rows are scanned once (`B141`).

        Raises:
            DependencyCycleError: a path leads back to itself (`B138`, `B139`).
        """
        return lineage.derives_from_closure(self.catalog.snapshot(as_of=as_of), source)

    def upstream_closure(
        self, table_name: str, *, as_of: str | dt.datetime | None = None
    ) -> list[LineageEdge]:
        """Return every edge upstream of a table, back to raw sources (`B142`).

        Raises:
            TableNotFoundError: no visible row has the name.
            DependencyCycleError: a path leads back to itself.
        """
        return lineage.upstream_closure(self.catalog.snapshot(as_of=as_of), table_name)

    def lineage(self, table_name: str, *, as_of: str | dt.datetime | None = None) -> Lineage:
        """Return both closures of a table, to be drawn as text, DOT or Mermaid.

        Raises:
            TableNotFoundError: no visible row has the name.
            DependencyCycleError: a path leads back to itself.
        """
        return drawing.trace(self.catalog.snapshot(as_of=as_of), table_name)

    def openlineage_events(
        self, table_name: str | None = None, *, read_files: bool = True
    ) -> list[dict[str, Any]]:
        """Return an OpenLineage ``COMPLETE`` event for each visible ready result, or for one.

        Inputs come before what was made from them. ``read_files`` reads each sidecar and Parquet
        footer for schema, size and version; without it only the catalog is asked.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the table is not ready.
            DependencyCycleError: there is no such order.
        """
        reads = self.catalog.snapshot()
        return exports.openlineage_events(reads, self._artifacts, table_name, read_files=read_files)

    def in_toto_statement(self, table_name: str) -> dict[str, Any]:
        """Return a result's sidecar as in-toto Statement v1 about its bytes, unsigned.

        It says what was attested; `verify_materialization` says whether the bytes are still those.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the table is not ready, or has no sidecar.
            FormatError: the sidecar is damaged.
        """
        return exports.in_toto_statement(self._artifacts, self._record(table_name))

    def delete_table(
        self, table_name: str, *, cascade: bool = False, dry_run: bool = False
    ) -> list[ResultTableRecord]:
        """Remove a result that this tenant owns: its row, then its objects (`B151`).

        Returns the removed records; with ``dry_run`` those that would be removed.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the row belongs to another scope.
            ReferencedError: a result that would stay derives from it.
        """
        if dry_run:
            return self.catalog.plan_delete(table_name, cascade=cascade)
        return self._remove(self.catalog.delete_result_table(table_name, cascade=cascade))

    def delete_source(self, source_id: str, *, cascade: bool = False) -> list[ResultTableRecord]:
        """Remove this tenant's results of a source: rows first, then objects (`B143` to `B150`).

        Raises:
            ReferencedError: a result that would stay derives from one of them.
        """
        return self._remove(
            self.catalog.delete_result_tables_for_source(source_id, cascade=cascade)
        )

    def _remove(self, records: list[ResultTableRecord]) -> list[ResultTableRecord]:
        paths = [record.parquet_path for record in records]
        outcomes = removal.remove(self.catalog, self._artifacts, paths)
        for record in records:
            name, path = record.table_name, record.parquet_path
            if path not in outcomes:
                if removal.find_named(self.catalog.snapshot(), [path], []):
                    text = "kept the data of %s: another row names it"
                    events.warn(Event.KEPT, text, name, table_name=name)
            elif (error := outcomes[path]) is not None:  # the rows are gone (`B147`)
                text = "could not remove the data of %s: %s"
                events.warn(Event.NOT_REMOVED, text, name, error, table_name=name)
        return records


def verify_one(store: ResultStore, table_name: str) -> Verification:
    """Verify one table for `ResultStore.verify_all`; an error is part of the answer."""
    try:
        return Verification(table_name, store.verify_materialization(table_name))
    except JammiFilesError as error:
        return Verification(table_name, None, str(error))


def _verify(artifacts: Artifacts, record: ResultTableRecord) -> Verification:
    """Verify a row that is known already: a worker need not open the catalog."""
    try:
        return Verification(record.table_name, _judge(artifacts, record, None))
    except JammiFilesError as error:
        return Verification(record.table_name, None, str(error))


def _judge(artifacts: Artifacts, record: ResultTableRecord, expected: str | None) -> Verdict:
    """Verify a row in the open: it is traced and logged by the process that reads the bytes."""
    started, root, name = time.perf_counter(), artifacts.storage.root, record.table_name
    with tracing.span("verify", root=root, table_name=name) as span:
        verdict = artifacts.verify(record, expected)
        span.set(verdict=verdict.verdict)
    seconds = time.perf_counter() - started
    found = {"root": root, "table_name": name, "verdict": verdict.verdict}
    text = "%(table_name)s: %(verdict)s"
    events.info(Event.VERIFIED, text, found, seconds=seconds, **found)
    return verdict


def _is_bad(verification: Verification) -> bool:
    return not verification.ok


def connect(  # noqa: PLR0913 - each says one thing of where and how
    root: str | os.PathLike[str],
    *,
    tenant: str | uuid.UUID | None = None,
    storage_options: Mapping[str, Any] | None = None,
    durability: Durability = "fsync",
    max_staleness: float = 0.0,
    cache_dir: str | os.PathLike[str] | None = None,
    sign: Sign | None = None,
    verify: Verify | Iterable[Verify] | None = None,
) -> ResultStore:
    """Open the results under a path or URL; see `Catalog.open` for the arguments and errors.

    ``sign`` signs what this store makes: it takes a message and returns its signature. ``verify``
    takes a message and a signature and says whether it is believed; several are asked in turn.
    `jammi_files.signing` has both for HMAC-SHA256 and for Ed25519. They go along when the store is
    pickled.

    Raises:
        InvalidInputError: one of them is not callable; and as `Catalog.open`.
    """
    signing = Signing.of(sign, verify)
    return ResultStore(
        Catalog.open(
            root,
            tenant=tenant,
            storage_options=storage_options,
            durability=durability,
            max_staleness=max_staleness,
            cache_dir=cache_dir,
        ),
        signing,
    )
