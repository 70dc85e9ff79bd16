"""What ``publish`` does: a file becomes a ready, attested result, or is found to be one already."""

from __future__ import annotations

import argparse
import sys
from importlib import metadata

import pyarrow as pa

from jammi_files import cli_views as views
from jammi_files import terminal
from jammi_files.cli_answer import Answer, new_catalog, open_store, record_of
from jammi_files.data_files import DataFile, FileFormat, open_data_file
from jammi_files.descriptors import External
from jammi_files.materialization import Device, MaterializationEnv, definition_hash
from jammi_files.schema import InputAnchor, ResultTableRecord
from jammi_files.store import ResultStore

PRODUCER = "jammi-files publish"
"""The producer that the descriptor of a published file names."""


def run_publish(args: argparse.Namespace) -> Answer:
    """Make a file a ready, attested result; with ``--reuse`` only if there is none of it."""
    store = open_store(args, creates=True)
    is_new = not store.catalog.exists
    chosen = None if args.format is None else FileFormat(args.format)
    if args.derived_from is not None:
        args.derived_from = record_of(store, args.derived_from).table_name
    with (
        terminal.progress("Publishing", sys.stderr, "bytes") as step,
        open_data_file(args.file, chosen, progress=step) as file,
    ):
        wanted = _Wanted(args, store, file)
        reused = wanted.find() if args.reuse else None
        record = reused or record_of(store, wanted.make())
    document = views.description(store, record)
    done = f"Published {args.file} as" if reused is None else f"Reused for {args.file}:"
    view = [
        *new_catalog(store, is_new=is_new),
        f"{done} {record.table_name} ({record.row_count} rows)",
    ]
    return Answer({"new_catalog": is_new, "reused": reused is not None, **document}, view)


class _Wanted:
    """The result that a file is to be: its contract, and what its row says."""

    def __init__(self, args: argparse.Namespace, store: ResultStore, file: DataFile) -> None:
        self.store, self.file = store, file
        digest = f"sha256:{file.digest}"
        how = External(producer_id=PRODUCER, params={"file_format": file.format.value})
        self.how = how.with_content_digest(digest)
        versions = f"jammi_files {metadata.version('jammi_files')}, pyarrow {pa.__version__}"
        self.env = MaterializationEnv(versions, Device.cpu())
        self.inputs = [InputAnchor.source_version(args.source, f"file:{digest}:{file.size}")]
        if args.derived_from is not None:
            self.inputs.append(store.result_digest_anchor(args.derived_from))
        names = ("task", "kind", "derived_from", "dimensions", "key_column", "text_columns")
        self.columns = {name: getattr(args, name) for name in names}
        self.columns |= {"source_id": args.source, "model_id": args.model}
        self.properties = dict(args.properties) or None

    def find(self) -> ResultTableRecord | None:
        """Return the newest result of the same content whose row says the same.

        Not `get_or_build`: to it the definition is all, and here it holds only the file, so that
        another ``--model`` would be answered by what was published for the first.
        """
        snapshot = self.store.catalog.snapshot()
        found = snapshot.find_ready_result_tables_by_definition(definition_hash(self.how, self.env))
        return next((record for record in found if self._is(record)), None)

    def _is(self, record: ResultTableRecord) -> bool:
        said = {name: getattr(record, name) for name in self.columns}
        inputs = record.input_anchors
        return (
            inputs is not None
            and sorted(inputs) == sorted(self.inputs)
            and said | {"text_columns": record.text_columns and list(record.text_columns)}
            == self.columns
            and dict(record.properties or {}) == (self.properties or {})
            and self.store.verify_materialization(record.table_name).ok
        )

    def make(self) -> str:
        """Publish the file and return the result's name."""
        with self.store.build(
            **self.columns,
            descriptor=self.how,
            env=self.env,
            inputs=self.inputs,
            schema=self.file.schema,
            properties=self.properties,
        ) as out:
            for table in self.file.tables:
                out.write(table)
        return out.table_name
