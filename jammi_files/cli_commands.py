"""What each command does: ask the layers, return a JSON document, its view, and the exit code."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Literal

from jammi_files import cli_views as views
from jammi_files import interop, terminal
from jammi_files.cli_answer import Answer, Feed, new_catalog, nothing, open_store, record_of
from jammi_files.cli_asking import run_lineage, run_ls, run_open, run_show, run_status, run_why
from jammi_files.cli_completion import completion
from jammi_files.cli_following import run_diff, run_history, run_watch
from jammi_files.cli_page import run_report, run_serve
from jammi_files.cli_publishing import run_publish
from jammi_files.cli_verifying import verify
from jammi_files.copy_root import copy
from jammi_files.errors import InvalidInputError
from jammi_files.fsck import Severity, fsck
from jammi_files.offline import verify_files
from jammi_files.repairs import repair
from jammi_files.schema import ResultTableRecord
from jammi_files.signing import Ed25519Verifier, Signing
from jammi_files.store import ResultStore


def run_import(args: argparse.Namespace) -> Answer:
    """Bring in a directory of jammi-db; with ``--verify`` judge what is now here of it."""
    store = open_store(args, creates=True, whole=True)
    if os.path.realpath(args.directory) == os.path.realpath(store.root):
        raise InvalidInputError(f"'{args.directory}' is the root itself; choose another --root")
    is_new = not store.catalog.exists
    mode: Literal["reference", "copy"] = "reference" if args.reference else "copy"
    with terminal.progress("Importing", sys.stderr, "results") as step:
        report = interop.import_jammi(args.directory, store, mode=mode, progress=step)
    records = _visible(store, (*report.imported, *report.already_present))
    ready = [record.table_name for record in records if record.is_ready]
    found = {each.table_name: each for each in verify(store, ready)} if args.verify else {}
    edges = {record.table_name: store.derives_from(record.table_name) for record in records}
    results = [
        views.imported(record, found.get(record.table_name), edges[record.table_name])
        for record in records
    ]
    ok = all(each.ok for each in found.values()) and not report.skipped
    document = {"ok": ok, "new_catalog": is_new, **dataclasses.asdict(report), "results": results}
    view = [
        *new_catalog(store, is_new=is_new),
        f"{len(report.imported)} imported, {len(report.already_present)} here already",
        *views.remarks(report.skipped, "SKIPPED BECAUSE"),
        *views.remarks(report.remarks, "REMARK"),
        *views.import_tables(records, found, chain.from_iterable(edges.values())),
        *(views.verdict_counts(found.values()) if args.verify else ()),
    ]
    return Answer(document, view, 0 if ok else 1)


def run_verify(args: argparse.Namespace) -> Answer:
    """Judge results by their sidecar, bytes and row."""
    if args.names and args.all:
        raise InvalidInputError("give names or --all, not both")
    keys = tuple(Ed25519Verifier(Path(file).read_bytes()) for file in args.public_key)
    if args.files is None:
        store = ResultStore(open_store(args).catalog, Signing(verifiers=keys))
        named = dict.fromkeys(record_of(store, name).table_name for name in args.names)
        known = store.catalog.list_result_tables_by_status("ready") if not named else ()
        found = verify(store, [*named, *(record.table_name for record in known)])
    elif args.names or args.tenant or args.admin:
        raise InvalidInputError("--files judges all that lies there; it knows no names and tenants")
    else:
        found = verify_files(args.files, keys)
    ok = all(each.ok for each in found)
    document = {"ok": ok, "results": [views.judged(each) for each in found]}
    view = [views.verdicts(found), *views.verdict_counts(found)] if found else [nothing(args)]
    return Answer(document, view, 0 if ok else 1)


def run_recover(args: argparse.Namespace) -> Answer:
    """End dead builds."""
    report = open_store(args, whole=True).recover(dry_run=args.dry_run, reap=args.reap)
    actions = [dataclasses.asdict(action) for action in report.actions]
    document = {"dry_run": report.dry_run, "actions": actions}
    return Answer(document, views.recovery(report))


def run_fsck(args: argparse.Namespace) -> Answer:
    """Check the whole root, or mend it."""
    if args.repair:
        return _repair(args)
    if args.dry_run or args.accept_loss or {args.owner, args.catalog_id} != {None}:
        options = "--dry-run, --owner, --catalog-id and --accept-loss"
        raise InvalidInputError(f"{options} belong to --repair")
    catalog = open_store(args, whole=True).catalog
    with terminal.progress("Checking", sys.stderr, "results") as step:
        findings = fsck(catalog, deep=args.deep, progress=step)
    ok = not any(finding.severity is Severity.ERROR for finding in findings)
    document = {"ok": ok, "deep": args.deep, "findings": [views.finding(each) for each in findings]}
    return Answer(document | {"repair": None}, views.findings(findings), 0 if ok else 1)


def _repair(args: argparse.Namespace) -> Answer:
    if args.tenant is not None or args.deep:
        raise InvalidInputError("--repair mends the whole root: leave out --tenant and --deep")
    with terminal.progress("Reading", sys.stderr, "results") as step:
        report = repair(
            args.root,
            dry_run=args.dry_run,
            owner=args.owner,
            accept_loss=args.accept_loss,
            catalog_id=args.catalog_id,
            progress=step,
        )
    findings = [views.finding(each) for each in report.remaining]
    document = {"ok": report.ok, "deep": False, "findings": findings}
    document["repair"] = views.repair_document(report)
    return Answer(document, views.repaired(report), 0 if report.ok else 1)


def run_vacuum(args: argparse.Namespace) -> Answer:
    """Retire old versions and delete what no kept one needs."""
    catalog = open_store(args, whole=True).catalog
    with terminal.progress("Removing", sys.stderr, "objects") as step:
        report = catalog.vacuum(
            args.older_than, keep_last=args.keep_last, dry_run=args.dry_run, progress=step
        )
    failed = any(action.error is not None for action in report.actions)
    return Answer(views.vacuum_document(report), views.vacuumed(report), 1 if failed else 0)


def run_tag(args: argparse.Namespace) -> Answer:
    """Name a version, remove a name, or list them."""
    catalog = open_store(args, whole=True).catalog
    if args.delete is not None and (args.name is not None or args.version is not None):
        raise InvalidInputError("give a tag to set or one to --delete, not both")
    if args.version is not None and args.name is None:
        raise InvalidInputError("--version belongs to a tag: give its NAME")
    if args.delete is not None:
        catalog.untag(args.delete)
    elif args.name is not None:
        catalog.tag(args.name, args.version)
    return Answer({"tags": catalog.tags()}, [views.tags(catalog.tags())])


def run_export(args: argparse.Namespace) -> Answer:
    """Write the visible results as a directory of jammi-db."""
    store = open_store(args)
    with terminal.progress("Exporting", sys.stderr, "results") as step:
        report = interop.export_jammi(store, args.directory, progress=step)
    home = str(Path(args.directory).absolute())
    document = {"ok": not report.skipped, "directory": home, **dataclasses.asdict(report)}
    view = [
        f"{len(report.exported)} exported to {home}",
        *views.remarks(report.skipped, "SKIPPED BECAUSE"),
        *views.remarks(report.remarks, "REMARK"),
    ]
    return Answer(document, view, 1 if report.skipped else 0)


def run_copy(args: argparse.Namespace) -> Answer:
    """Copy a whole root."""
    with terminal.progress("Copying", sys.stderr, "bytes") as step:
        report = copy(
            args.source,
            args.destination,
            progress=lambda at: step(at.bytes, at.total_bytes),
            verify=args.verify,
            foreign=args.foreign,
        )
    troubles = [each._asdict() for each in report.troubles]
    document = {"ok": report.ok, **dataclasses.asdict(report), "troubles": troubles}
    return Answer(document, views.copied(report), 0 if report.ok else 1)


def run_completion(args: argparse.Namespace) -> Answer:
    """Print the script by which a shell completes this command.

    Raises:
        InvalidInputError: the extra that makes it is not installed.
    """
    script = completion(args.shell)
    return Answer({"shell": args.shell, "script": script}, script.rstrip("\n").split("\n"))


COMMANDS: dict[str, Callable[[argparse.Namespace], Answer | Feed]] = {
    "import": run_import,
    "ls": run_ls,
    "show": run_show,
    "open": run_open,
    "status": run_status,
    "why": run_why,
    "lineage": run_lineage,
    "publish": run_publish,
    "verify": run_verify,
    "recover": run_recover,
    "history": run_history,
    "diff": run_diff,
    "watch": run_watch,
    "fsck": run_fsck,
    "vacuum": run_vacuum,
    "tag": run_tag,
    "export": run_export,
    "copy": run_copy,
    "report": run_report,
    "serve": run_serve,
    "completion": run_completion,
}


def _visible(store: ResultStore, names: Iterable[str]) -> list[ResultTableRecord]:
    snapshot = store.catalog.snapshot()
    found = [snapshot.get_result_table(name) for name in names]
    records = [record for record in found if record is not None]
    return sorted(records, key=lambda record: (record.created_at, record.table_name))
