"""What the layers return, as plain JSON values and as blocks for people."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jammi_files import fsck, interop
from jammi_files.copy_root import CopyReport
from jammi_files.errors import JammiFilesError
from jammi_files.history import CommitInfo
from jammi_files.lineage import LineageEdge
from jammi_files.materialization import BadSignature, MatchWithUnpinnedInputs, Mismatch
from jammi_files.recovery import RecoveryReport
from jammi_files.repairs import RepairReport
from jammi_files.schema import ResultTableRecord
from jammi_files.store import ResultStore, Verification
from jammi_files.terminal import Block, Table
from jammi_files.vacuum import VacuumReport

_NAMED = 3
_UNJUDGED: dict[str, Any] = {
    "ok": None,
    "verdict": None,
    "unpinned": [],
    "expected": None,
    "found": None,
    "reason": None,
    "error": None,
}


def rows(records: Sequence[ResultTableRecord]) -> Table:
    """Return rows of the catalog as a table, with tenants if there are any."""
    lines = [
        [
            str(record.status),
            str(record.row_count),
            _second(record.created_at),
            record.tenant_id or "-",
            record.table_name,
        ]
        for record in records
    ]
    return _with_tenants(["STATUS", "ROWS", "CREATED", "TENANT", "TABLE"], lines)


def judged(verification: Verification) -> dict[str, Any]:
    """Return a verification with the same keys whatever the verdict."""
    document = {"table_name": verification.table_name, **_UNJUDGED, "ok": verification.ok}
    if verification.verdict is None:
        return document | {"error": verification.error}
    return document | verification.verdict.to_dict()


def verdicts(verifications: Sequence[Verification]) -> Table:
    """Return one row per verification."""
    lines = [[_tag(each), _detail(each), each.table_name] for each in verifications]
    return Table(["VERDICT", "DETAIL", "TABLE"], lines)


def verdict_counts(verifications: Iterable[Verification]) -> list[Block]:
    """Return one line that counts the verdicts."""
    counts = Counter(_tag(each) for each in verifications)
    each = ", ".join(f"{count} {tag}" for tag, count in sorted(counts.items()))
    return [f"{counts.total()} verified{': ' if each else ''}{each}"]


def imported(
    record: ResultTableRecord, verification: Verification | None, edges: Sequence[LineageEdge]
) -> dict[str, Any]:
    """Return an imported result; the keys of `judged` stay empty where nothing was verified."""
    facts = {
        "table_name": record.table_name,
        "tenant_id": record.tenant_id,
        "status": str(record.status),
        "row_count": record.row_count,
    }
    judgement = _UNJUDGED if verification is None else judged(verification)
    return {**facts, **judgement, "derives_from": [edge.to_dict() for edge in edges]}


def import_tables(
    records: Sequence[ResultTableRecord],
    found: Mapping[str, Verification],
    edges: Iterable[LineageEdge],
) -> list[Block]:
    """Return the table of imported results and, with verdicts, the one of their edges."""
    if not records:
        return []
    if not found:
        return [rows(records)]
    lines = []
    for record in records:
        verification = found.get(record.table_name)
        tag = "-" if verification is None else _tag(verification)
        detail = "" if verification is None else _detail(verification)
        status, count = str(record.status), str(record.row_count)
        lines.append([tag, status, count, record.tenant_id or "-", detail, record.table_name])
    columns = ["VERDICT", "STATUS", "ROWS", "TENANT", "DETAIL", "TABLE"]
    made_from = [[str(edge.kind), edge.input, edge.derived] for edge in edges]
    lineage = [Table(["ANCHOR", "FROM", "DERIVED"], made_from)] if made_from else []
    return [_with_tenants(columns, lines), "", *lineage]


def description(store: ResultStore, record: ResultTableRecord) -> dict[str, Any]:
    """Return all that is known of one result; a damaged sidecar hides nothing else."""
    document: dict[str, Any] = {
        "table": record.to_dict(),
        "location": _location(store, record),
        "sidecar": None,
        "sidecar_error": None,
        "derives_from": [edge.to_dict() for edge in store.derives_from(record.table_name)],
    }
    try:
        sidecar = store.read_materialization_manifest(record.table_name)
    except JammiFilesError as error:
        document["sidecar_error"] = str(error)
    else:
        document["sidecar"] = None if sidecar is None else sidecar.to_dict()
    return document


def facts(document: Mapping[str, Any]) -> Table:
    """Return a `description` as names and values; what is unset is left out."""
    lines = [["location", document["location"]]]
    lines += _flattened("", document["table"])
    if document["sidecar_error"] is not None:
        lines.append(["sidecar", f"damaged: {document['sidecar_error']}"])
    elif document["sidecar"] is None:
        lines.append(["sidecar", "none"])
    else:
        lines += _flattened("sidecar.", document["sidecar"])
    lines += [
        ["derived", f"{edge['derived']} ({edge['kind']})"] for edge in document["derives_from"]
    ]
    return Table([], lines)


def recovery(report: RecoveryReport) -> list[Block]:
    """Return what recovery did, or would do."""
    lines = [[str(each.action), each.reason, each.table_name] for each in report.actions]
    if not lines:
        return ["Nothing to recover."]
    dry = ["Nothing was changed: --dry-run."] if report.dry_run else []
    return [Table(["ACTION", "REASON", "TABLE OR OBJECT"], lines), *dry]


def commits(found: Sequence[CommitInfo]) -> Block:
    """Return the history as a table; long lists of names are counted."""
    lines = [
        [str(each.version), _second(each.committed_at), each.operation, _some(each.tables)]
        for each in found
    ]
    return Table(["VERSION", "COMMITTED", "OPERATION", "TABLES"], lines) if lines else "No commits."


def commit_line(each: CommitInfo) -> str:
    """Return a commit as one line, for commits that are told one by one."""
    what = f"{_second(each.committed_at)}  {each.operation}"
    return f"{each.version:>7}  {what}  {_some(each.tables)}"


def finding(each: fsck.Finding) -> dict[str, str]:
    """Return a finding of `fsck`."""
    return {
        "severity": str(each.severity),
        "kind": str(each.kind),
        "subject": each.subject,
        "detail": each.detail,
        "remedy": str(each.remedy),
        "repair": each.repair,
    }


def findings(found: Sequence[fsck.Finding]) -> list[Block]:
    """Return the findings of `fsck` as a table and their number."""
    if not found:
        return ["No findings."]
    columns = ["severity", "kind", "detail", "repair", "subject"]
    lines = [[finding(each)[column] for column in columns] for each in found]
    errors = sum(each.severity is fsck.Severity.ERROR for each in found)
    counts = f"errors: {errors}, notices: {len(found) - errors}"
    return [Table([column.upper() for column in columns], lines), counts]


def repair_document(report: RepairReport) -> dict[str, Any]:
    """Return what a repair did, or would do."""
    actions = [dataclasses.asdict(action) for action in report.actions]
    return {"dry_run": report.dry_run, "version": report.version, "actions": actions}


def repaired(report: RepairReport) -> list[Block]:
    """Return what a repair did, or would do, and what remains."""
    lines = [[str(each.step), each.reason, each.subject] for each in report.actions]
    view: list[Block] = ["Nothing to mend."]
    if lines:
        view = [Table(["STEP", "REASON", "TABLE OR OBJECT"], lines)]
    view += [f"given up: {each.loses}" for each in report.actions if each.loses]
    if report.dry_run:
        return [*view, "Nothing was changed: --dry-run."]
    return [*view, "", *findings(report.remaining)]


def vacuum_document(report: VacuumReport) -> dict[str, Any]:
    """Return what a vacuum removed, or would remove, and what it leaves alone."""
    names = ("dry_run", "version", "floor", "versions_retired", "objects_deleted", "bytes_freed")
    document = {name: getattr(report, name) for name in names}
    for name in ("actions", "foreign"):
        document[name] = [dataclasses.asdict(action) for action in getattr(report, name)]
    return document


def vacuumed(report: VacuumReport) -> list[Block]:
    """Return the same for people: counts, and by name only what needs a look."""
    counts = Counter(str(action.kind) for action in report.done)
    sizes: Counter[str] = Counter()
    for action in report.done:
        sizes[str(action.kind)] += action.size
    failed = [each for each in report.actions if each.error is not None]
    tables = [
        Table(
            ["KIND", "OBJECTS", "BYTES"], [[k, str(n), str(sizes[k])] for k, n in counts.items()]
        ),
        Table(["ERROR", "OBJECT"], [[str(each.error), each.key] for each in failed]),
        Table(["LEFT ALONE BECAUSE", "OBJECT"], [[e.reason, e.key] for e in report.foreign]),
    ]
    view: list[Block] = []
    for table in tables:
        view += [table, ""] if table.rows else []
    total = (
        f"{report.versions_retired} versions retired, {report.objects_deleted} objects deleted, "
        f"{report.bytes_freed} bytes freed"
    )
    view.append(total if report.actions else "Nothing to remove.")
    return [*view, "Nothing was changed: --no-dry-run does it."] if report.dry_run else view


def tags(found: Mapping[str, int]) -> Block:
    """Return tags and their versions."""
    lines = [[str(version), name] for name, version in found.items()]
    return Table(["VERSION", "TAG"], lines) if lines else "No tags."


def remarks(found: Sequence[interop.TableFinding], heading: str) -> list[Block]:
    """Return what an import or export has to say of single tables."""
    lines = [[each.problem, each.table_name] for each in found]
    return [Table([heading, "TABLE"], lines), ""] if lines else []


def copied(report: CopyReport) -> list[Block]:
    """Return what a copy did, and what it found wrong at the source."""
    was = "" if report.since is None else f", was at {report.since}"
    cut_off = " from a copy that was cut off" if report.resumed else ""
    copied = f"{report.copied} objects copied ({report.copied_bytes} bytes)"
    lines: list[Block] = [
        f"{report.destination} is at version {report.version}{was}",
        f"{copied}, {report.present} were there{cut_off}",
    ]
    for count, what in (
        (len(report.building), "still being built, their data not copied"),
        (len(report.elsewhere), "outside of the root, their data left there"),
    ):
        lines += [f"{what}: {count}"] if count else []
    if report.troubles:
        rows = [[each.problem, each.key] for each in report.troubles]
        lines += ["", Table(["WRONG AT THE SOURCE", "OBJECT"], rows)]
    return lines


def _with_tenants(columns: list[str], lines: list[list[str]]) -> Table:
    """Drop the column TENANT where it is empty: 36 wide, it would push the names off the line."""
    place = columns.index("TENANT")
    if any(line[place] != "-" for line in lines):
        return Table(columns, lines)
    columns, *lines = ([*line[:place], *line[place + 1 :]] for line in (columns, *lines))
    return Table(columns, lines)


def _tag(verification: Verification) -> str:
    return "error" if verification.verdict is None else verification.verdict.verdict


def _detail(verification: Verification) -> str:
    match verification.verdict:
        case None:
            return verification.error or ""
        case MatchWithUnpinnedInputs(unpinned):
            return f"unpinned: {', '.join(unpinned)}"
        case Mismatch(expected, found):
            return f"expected {expected}, found {found}"
        case BadSignature(reason):
            return reason
        case _:
            return ""


def _location(store: ResultStore, record: ResultTableRecord) -> str:
    try:
        return store.url(record.table_name)
    except JammiFilesError:  # on storage that this library does not open
        return record.parquet_path


def _flattened(prefix: str, value: Any) -> list[list[str]]:  # noqa: ANN401 - any JSON value
    """Return names and values of nested JSON, one line for each leaf."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        items: Iterable[tuple[object, Any]] = value.items()
    elif isinstance(value, (list, tuple)) and not all(isinstance(item, str) for item in value):
        items = enumerate(value)
    else:
        text = (", ".join(value) or "[]") if isinstance(value, (list, tuple)) else str(value)
        return [[prefix.removesuffix("."), text]]
    return [line for name, inner in items for line in _flattened(f"{prefix}{name}.", inner)]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _second(instant: str) -> str:
    """Return a stored instant without its fraction of a second."""
    return f"{instant[:19]}Z"
