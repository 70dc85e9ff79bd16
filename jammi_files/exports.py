"""What other programs are told about results: OpenLineage run events, in-toto Statements.

Both are JSON-ready dictionaries; nothing is sent anywhere. OpenLineage follows version 2-0-2 of its
specification, the Statement version 1 of in-toto's.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_files import events
from jammi_files.artifacts import Artifacts
from jammi_files.errors import JammiFilesError, StateError, TableNotFoundError
from jammi_files.events import Event
from jammi_files.lineage import inputs_first, link, upstream_closure
from jammi_files.materialization import MaterializationManifest
from jammi_files.reads import Reads
from jammi_files.schema import InputAnchor, ResultTableRecord, ResultTableStatus
from jammi_files.signing import statement

_SPEC = "https://openlineage.io/spec"
_RUN_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = {
    "schema": f"{_SPEC}/facets/1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
    "version": (
        f"{_SPEC}/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
    ),
    "dataSource": f"{_SPEC}/facets/1-0-1/DatasourceDatasetFacet.json#/$defs/DatasourceDatasetFacet",
    "outputStatistics": (
        f"{_SPEC}/facets/1-0-2/OutputStatisticsOutputDatasetFacet.json"
        "#/$defs/OutputStatisticsOutputDatasetFacet"
    ),
    "processing_engine": (
        f"{_SPEC}/facets/1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet"
    ),
    # Our own facets extend the base ones, which allow further members.
    "jammi_anchors": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/DatasetFacet",
    "jammi_materialization": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunFacet",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What only a result's objects know; None where one is missing or damaged."""

    sidecar: MaterializationManifest | None = None
    schema: pa.Schema | None = None
    size: int | None = None


def openlineage_events(
    reads: Reads, artifacts: Artifacts, table_name: str | None, *, read_files: bool
) -> list[dict[str, Any]]:
    """Return one event for each ready result, or for one; see `ResultStore.openlineage_events`."""
    namespace = uri_of(artifacts.storage.root)
    return [
        run_event(
            record,
            look(artifacts, record) if read_files else Found(),
            namespace,
            uri_of(artifacts.url(record.parquet_path)),
        )
        for record in _published(reads, table_name)
    ]


def run_event(record: ResultTableRecord, found: Found, namespace: str, uri: str) -> dict[str, Any]:
    """Return the OpenLineage event ``COMPLETE`` of the run that made a ready result.

    Results and raw sources are datasets of one ``namespace``, named as anchors name them, so that
    the output of one event is the input of the next. A job is what makes results of one source,
    task, kind and model; each result is one run of it.
    """
    job = f"{record.kind}/{record.task}/{record.source_id}/{record.model_id}"
    output = _output(record, found, namespace, uri)
    return {
        "eventTime": record.completed_at or record.created_at,
        "eventType": "COMPLETE",
        "producer": producer(),
        "schemaURL": _RUN_EVENT,
        "run": {"runId": str(run_id(record, namespace)), "facets": _run_facets(record, found)},
        "job": {"namespace": namespace, "name": job, "facets": {}},
        "inputs": list(_inputs(record.input_anchors or (), namespace)),
        "outputs": [output],
    }


def run_id(record: ResultTableRecord, namespace: str) -> uuid.UUID:
    """Return the id of a result's run: always the same, and new for a name that is used again."""
    name = f"{namespace}/{quote(record.table_name, safe='')}#{record.created_at}"
    return uuid.uuid5(uuid.NAMESPACE_URL, name)


def uri_of(place: str) -> str:
    """Return the URI of a root, which is its namespace, or of an object."""
    return place if "://" in place else Path(place).as_uri()


def in_toto_statement(artifacts: Artifacts, record: ResultTableRecord) -> dict[str, Any]:
    """Return the Statement about a ready result; see `ResultStore.in_toto_statement`."""
    _require_ready(record)
    sidecar = artifacts.read_sidecar(record)
    if sidecar is None:
        raise StateError(f"Result table '{record.table_name}' has no sidecar: nothing is attested")
    return statement(record.table_name, sidecar)


def look(artifacts: Artifacts, record: ResultTableRecord) -> Found:
    """Read a result's sidecar and the footer of its data; what cannot be read is left out."""
    try:
        sidecar = artifacts.read_sidecar(record)
    except JammiFilesError as error:
        name = record.table_name
        events.warn(Event.LEFT_OUT, "an event without sidecar: %s", error, table_name=name)
        sidecar = None
    storage, key = artifacts.locate(record.parquet_path)
    try:
        with storage.open(key) as file:
            size = file.seek(0, os.SEEK_END)
            return Found(sidecar, pq.read_schema(file), size)
    except (OSError, pa.ArrowException) as error:
        url, name = storage.url(key), record.table_name
        text = "an event without schema: '%s': %s"
        events.warn(Event.LEFT_OUT, text, url, error, table_name=name)
        return Found(sidecar)


@functools.cache
def producer() -> str:
    """Return the URI by which events name this library and its version."""
    return f"pkg:pypi/jammi-files@{metadata.version('jammi_files')}"


def _published(reads: Reads, table_name: str | None) -> list[ResultTableRecord]:
    """Return ready records, inputs first; refuse what takes part in a cycle."""
    if table_name is not None:
        record = reads.get_result_table(table_name)
        if record is None:
            raise TableNotFoundError.named(table_name)
        upstream_closure(reads, table_name)
        return [_require_ready(record)]
    records = reads.list_result_tables_by_status(ResultTableStatus.READY)
    by_name = {record.table_name: record for record in records}
    anchors = ((record, anchor) for record in records for anchor in record.input_anchors or ())
    links = link((record.table_name, anchor.source, anchor.kind) for record, anchor in anchors)
    return [by_name[name] for name in inputs_first(links, by_name) if name in by_name]


def _require_ready(record: ResultTableRecord) -> ResultTableRecord:
    if not record.is_ready:
        raise StateError(f"Result table '{record.table_name}' is {record.status}, not ready")
    return record


def _inputs(anchors: Iterable[InputAnchor], namespace: str) -> Iterator[dict[str, Any]]:
    """Yield one dataset for each source; its version is that of the first anchor that pins it."""
    by_source: dict[str, list[InputAnchor]] = {}
    for anchor in anchors:
        by_source.setdefault(anchor.source, []).append(anchor)
    for source, several in by_source.items():
        recorded = [{"anchor": anchor.anchor, "kind": anchor.kind.value} for anchor in several]
        facets = {"jammi_anchors": _facet("jammi_anchors", {"anchors": recorded})}
        pinned = next((anchor.anchor for anchor in several if anchor.is_pinned), None)
        if pinned is not None:
            facets["version"] = _facet("version", {"datasetVersion": pinned})
        yield _dataset(namespace, source, facets)


def _output(record: ResultTableRecord, found: Found, namespace: str, uri: str) -> dict[str, Any]:
    facets = {"dataSource": _facet("dataSource", {"name": namespace, "uri": uri})}
    if found.schema is not None:
        fields = [{"name": field.name, "type": str(field.type)} for field in found.schema]
        facets["schema"] = _facet("schema", {"fields": fields})
    if found.sidecar is not None:
        facets["version"] = _facet("version", {"datasetVersion": found.sidecar.artifact})
    statistics = _facet("outputStatistics", _counts(record, found))
    return {
        **_dataset(namespace, record.table_name, facets),
        "outputFacets": {"outputStatistics": statistics},
    }


def _counts(record: ResultTableRecord, found: Found) -> dict[str, int]:
    counts = {"rowCount": record.row_count, "fileCount": 1}
    if found.size is not None:
        counts["size"] = found.size
    return counts


def _run_facets(record: ResultTableRecord, found: Found) -> dict[str, Any]:
    """Return how the result was made, as far as it is known."""
    facets = {}
    members: dict[str, Any] = {}
    if record.definition_hash is not None:
        members["definition_hash"] = record.definition_hash
    if found.sidecar is not None:
        members["descriptor"] = found.sidecar.descriptor.to_dict()
        engine = found.sidecar.engine_version
        facets["processing_engine"] = _facet("processing_engine", {"version": engine})
    if members:
        facets["jammi_materialization"] = _facet("jammi_materialization", members)
    return facets


def _dataset(namespace: str, name: str, facets: dict[str, Any]) -> dict[str, Any]:
    return {"namespace": namespace, "name": name, "facets": facets}


def _facet(name: str, members: Mapping[str, Any]) -> dict[str, Any]:
    return {"_producer": producer(), "_schemaURL": _FACETS[name], **members}
