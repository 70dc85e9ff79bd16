"""What each command does that asks about results: rows, data, freshness, lineage."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from fnmatch import fnmatchcase

import pyarrow as pa

from jammi_files import cli_result_views as result_views
from jammi_files import cli_views as views
from jammi_files import terminal
from jammi_files.cli_answer import Answer, nothing, open_store, record_of
from jammi_files.disk import CheckBytes
from jammi_files.drawing import Lineage
from jammi_files.errors import FormatError, InvalidInputError, JammiFilesError
from jammi_files.evidence import Resolvers
from jammi_files.fingerprints import source_versions
from jammi_files.reads import Reads
from jammi_files.reasons import Undecidable
from jammi_files.schema import AnchorKind, ResultTableRecord, ResultTableStatus
from jammi_files.store import ResultStore
from jammi_files.terminal import Block

_LOCATED = (AnchorKind.SOURCE_VERSION,)
"""The anchors that ``--current`` decides."""

_MOST_ROWS = 2**31 - 1
"""What Arrow takes for the head of a dataset."""


def run_ls(args: argparse.Namespace) -> Answer:
    """List the visible results, oldest first unless another order is asked for."""
    snapshot = open_store(args).catalog.snapshot()
    records = _ordered(_wanted(snapshot, args), args.sort, reverse=args.reverse)[: args.limit]
    if args.columns is None:
        tables = [record.to_dict() for record in records]
        view = views.rows(records)
    else:
        tables = [{name: record.to_dict()[name] for name in args.columns} for record in records]
        view = result_views.chosen(tables, args.columns)
    document = {"version": snapshot.version, "tables": tables}
    return Answer(document, [view if records else nothing(args)])


def _wanted(snapshot: Reads, args: argparse.Namespace) -> list[ResultTableRecord]:
    if args.source is None:
        statuses = list(ResultTableStatus) if args.status is None else [args.status]
        found = [r for status in statuses for r in snapshot.list_result_tables_by_status(status)]
    else:
        found = snapshot.find_result_tables(args.source, status=args.status)
    return [
        record
        for record in found
        if args.model in (None, record.model_id)
        and args.task in (None, record.task)
        and args.kind in (None, record.kind)
        and (args.name is None or fnmatchcase(record.table_name, args.name))
    ]


def _ordered(
    records: Iterable[ResultTableRecord], column: str, *, reverse: bool
) -> list[ResultTableRecord]:
    known = sorted(records, key=lambda record: (record.created_at, record.table_name))
    empty = [record for record in known if getattr(record, column) is None]
    full = [record for record in known if getattr(record, column) is not None]
    full.sort(key=lambda record: (getattr(record, column), record.created_at, record.table_name))
    return full[::-1] + empty[::-1] if reverse else full + empty


def run_show(args: argparse.Namespace) -> Answer:
    """Show one result: row, sidecar, location, and what was made from it."""
    store = open_store(args)
    document = views.description(store, record_of(store, args.name))
    return Answer(document, [views.facts(document)])


def run_open(args: argparse.Namespace) -> Answer:
    """Show the head of a result's data.

    Raises:
        InvalidInputError: the data has no such column.
        FormatError: the data cannot be read.
    """
    store = open_store(args)
    record = record_of(store, args.name)
    head = _head(store, record.table_name, args.rows, args.columns)
    document = {
        "table_name": record.table_name,
        "location": store.url(record.table_name),
        "row_count": record.row_count,
        "columns": [{"name": field.name, "type": str(field.type)} for field in head.schema],
        "rows": result_views.plain_rows(head),
    }
    total = f"{head.num_rows} of {record.row_count} rows"
    return Answer(document, [result_views.data(document), total])


def _head(store: ResultStore, name: str, rows: int, columns: list[str] | None) -> pa.Table:
    try:
        dataset = store.open_table(name)
        unknown = [each for each in columns or () if each not in dataset.schema.names]
        if unknown:
            known = ", ".join(dataset.schema.names)
            raise InvalidInputError(f"'{name}' has no column '{unknown[0]}', but {known}")
        most = min(rows, _MOST_ROWS)
        return dataset.head(most, columns=columns, batch_readahead=0, fragment_readahead=0)
    except JammiFilesError:
        raise
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # else Arrow means the bytes
            raise
        first = str(error).partition("\n")[0]
        raise FormatError(f"the data of '{name}' cannot be read: {first}") from error


def run_status(args: argparse.Namespace) -> Answer:
    """Say of every visible ready result whether it still holds."""
    store = open_store(args)
    snapshot = store.catalog.snapshot()
    found = store.staleness_all(resolvers=_resolvers(args), check_bytes=_check(args))
    document = result_views.status_document(found.to_pylist(), snapshot.version)
    results = document["results"]
    view = result_views.status(document) if results else [nothing(args)]
    if "undecidable" in document["counts"] and not args.current:
        view.append("Where sources are now is said by --current SOURCE=PATH.")
    return Answer(document, view, 0 if document["ok"] else 1)


def run_why(args: argparse.Namespace) -> Answer:
    """Say in words why one result holds or not."""
    store = open_store(args)
    name = record_of(store, args.name).table_name
    told = store.explain(name, resolvers=_resolvers(args), check_bytes=_check(args))
    view: list[Block] = [*told.lines()]
    if isinstance(told.staleness, Undecidable):
        open_inputs = [each for each in told.staleness.inputs if each.kind in _LOCATED]
        sources = dict.fromkeys(each.source for each in open_inputs)
        view += [
            f"Where '{source}' is now is said by --current {source}=PATH." for source in sources
        ]
    return Answer(result_views.why_document(told), view, 1 if told.staleness.is_stale else 0)


def _resolvers(args: argparse.Namespace) -> Resolvers | None:
    if not args.current:
        return None
    return dict.fromkeys(_LOCATED, source_versions(dict(args.current)))


def _check(args: argparse.Namespace) -> CheckBytes:
    return False if args.check == "no" else args.check


def run_lineage(args: argparse.Namespace) -> Answer:
    """Show what a result was made from and what was made from it."""
    if args.json and args.format not in (None, "json"):
        raise InvalidInputError("give --json or another --format, not both")
    store = open_store(args)
    lineage = store.lineage(record_of(store, args.name).table_name)
    return Answer(lineage.to_dict(), _drawn(store, lineage, args.format or "tree"))


def _drawn(store: ResultStore, lineage: Lineage, form: str) -> list[Block]:
    match form:
        case "json":
            return [*terminal.to_json(lineage.to_dict()).rstrip("\n").split("\n")]
        case "openlineage":
            events = [event for name in lineage.results() for event in _events(store, name)]
            return [terminal.json_line(event) for event in events]
        case "dot":
            return [*lineage.to_dot().split("\n")]
        case "mermaid":
            return [*lineage.to_mermaid().split("\n")]
        case _:
            return [*lineage.to_text().split("\n")]


def _events(store: ResultStore, name: str) -> list[dict[str, object]]:
    record = store.catalog.get_result_table(name)
    return store.openlineage_events(name) if record is not None and record.is_ready else []
