"""A row made anew from what lies beside its data: footer, sidecar and name.

What the footer says (`origin`) is the row's own; else the descriptor in the sidecar names source,
model and task, and last the name, where both are sanitised and may be cut. Nothing is invented: a
result of which none of them says what it is gets no row.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_files import naming
from jammi_files.artifacts import BLOCK
from jammi_files.descriptors import (
    AsofJoin,
    ContextSet,
    Descriptor,
    Embedding,
    GraphPropagation,
    Inference,
    NeighborGraph,
)
from jammi_files.errors import FormatError, InvalidInputError, UnsupportedVersionError
from jammi_files.garbage import Stem, VacuumKind
from jammi_files.materialization import MaterializationManifest
from jammi_files.origin import Origin
from jammi_files.schema import (
    AnchorKind,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
)
from jammi_files.storage import Storage
from jammi_files.timestamps import CLOCK, format_timestamp, parse_timestamp
from jammi_files.validation import require_table_name

_NAME = re.compile(
    rf"(?P<source_id>.+)__(?P<task>{'|'.join(ModelTask)})__(?P<model_id>.+)"
    r"__(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{9})_[0-9a-f]{8}",
    re.ASCII | re.DOTALL,
)
_REQUIRED = ("source_id", "model_id", "task")


@dataclasses.dataclass(frozen=True, slots=True)
class Rebuilt:
    """A row made anew; ``problem`` says why it is ``failed`` and not ``ready``.

    ``guessed`` are the columns that only the name says, where they are sanitised; ``is_owned`` is
    False where nothing says whose the result is.
    """

    record: ResultTableRecord
    problem: str | None
    guessed: tuple[str, ...]
    is_owned: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """What lies under one stem, as far as it can be read."""

    name: str
    rows: int | None = None
    digest: str | None = None
    origin: Origin | None = None
    sidecar: MaterializationManifest | None = None
    problem: str | None = None


def rebuild(storage: Storage, stem: Stem) -> Rebuilt | str:
    """Return a result's row, or why there can be none; reads the data once, for its digest."""
    try:
        require_table_name(stem.name)
        found = _look(storage, stem)
    except (InvalidInputError, UnsupportedVersionError) as error:
        return str(error)
    if found is None:
        return "there is no data object"
    said = _said(found)
    missing = [column for column in _REQUIRED if said.get(column) is None]
    if missing:
        return f"neither footer nor sidecar nor name says its {' and '.join(missing)}"
    by_name = _named(found.name)
    guessed = () if found.origin else tuple(c for c in _REQUIRED if said[c] == by_name.get(c))
    record = ResultTableRecord(
        table_name=found.name,
        parquet_path=found.name + naming.DATA_SUFFIX,
        **{"created_at": _produced_at(found), **said},
    )
    if record.task.is_embedding and record.kind is ResultTableKind.MODEL:
        index = found.name + naming.INDEX_SUFFIX
        record = dataclasses.replace(record, index_path=index)
    return Rebuilt(_ended(record, found), found.problem, guessed, found.origin is not None)


def _look(storage: Storage, stem: Stem) -> _Found | None:
    keys = {each.kind: each.key for each in stem.objects}
    if VacuumKind.DATA not in keys:
        return None
    found = _Found(stem.name)
    try:
        with storage.open(keys[VacuumKind.DATA]) as file:
            metadata = pq.read_metadata(file)
            origin = Origin.find(metadata.metadata)
            found = dataclasses.replace(found, rows=metadata.num_rows, origin=origin)
    except (pa.ArrowException, OSError) as error:
        return dataclasses.replace(found, problem=f"the data is no Parquet file: {error}")
    if VacuumKind.SIDECAR not in keys:
        return dataclasses.replace(found, problem="nothing attests the data")
    try:
        sidecar = MaterializationManifest.from_json_bytes(storage.read(keys[VacuumKind.SIDECAR]))
    except UnsupportedVersionError:
        raise
    except FormatError as error:
        return dataclasses.replace(found, problem=f"the sidecar is damaged: {error}")
    found = dataclasses.replace(found, sidecar=sidecar)
    if _digest(storage, keys[VacuumKind.DATA]) != sidecar.artifact:
        return dataclasses.replace(found, problem="the sidecar attests other bytes")
    return found


def _said(found: _Found) -> dict[str, Any]:
    """Return the columns that are known, those that the most trustworthy witness says."""
    said: dict[str, Any] = _named(found.name)
    if found.sidecar is not None:
        said |= _said_by(found.sidecar.descriptor)
        said.setdefault("derived_from", _only_parent(found.sidecar))
    if found.origin is not None:
        said |= {
            field.name: getattr(found.origin, field.name)
            for field in dataclasses.fields(found.origin)
        }
    return said


def _said_by(descriptor: Descriptor) -> dict[str, Any]:
    match descriptor:
        case Inference() | Embedding():
            names = ["source_id", "task", "model_id", "key_column"]
            names += ["dimensions"] if isinstance(descriptor, Embedding) else []
            return {name: getattr(descriptor, name) for name in names}
        case NeighborGraph():
            kind = ResultTableKind.NEIGHBOR_GRAPH
            return {"kind": kind, "model_id": kind.value, "derived_from": descriptor.source_table}
        case GraphPropagation(source_table=parent, dimensions=dimensions):
            return {"dimensions": dimensions, "derived_from": parent}
        case ContextSet(source_id=source, encoder_id=model, dimensions=dimensions):
            said = {"source_id": source, "model_id": model, "dimensions": dimensions}
            return {**said, "derived_from": descriptor.embedding_table}
        case AsofJoin():
            return {"kind": ResultTableKind.ASOF_JOIN}
    return {}


def _only_parent(sidecar: MaterializationManifest) -> str | None:
    """Return the one result that it was made from; of several none is *the* parent (`B134`)."""
    kind = AnchorKind.RESULT_DIGEST
    parents = {anchor.source for anchor in sidecar.input_anchors if anchor.kind is kind}
    return parents.pop() if len(parents) == 1 else None


def _named(name: str) -> dict[str, Any]:
    match = _NAME.fullmatch(name)
    if match is None:
        return {}
    year, month, day, hour, minute, second, fraction = match.groups()[3:]
    said: dict[str, Any] = {**match.groupdict(), "task": ModelTask(match["task"])}
    try:
        text = f"{year}-{month}-{day}T{hour}:{minute}:{second}.{fraction}Z"
        said["created_at"] = format_timestamp(parse_timestamp(text))
    except InvalidInputError:
        pass
    return said


def _produced_at(found: _Found) -> str:
    try:
        return format_timestamp(parse_timestamp(found.sidecar.produced_at))  # type: ignore[union-attr]
    except (AttributeError, InvalidInputError):  # no sidecar, or one of another program
        return format_timestamp(CLOCK.now())


def _ended(record: ResultTableRecord, found: _Found) -> ResultTableRecord:
    """Make the row ready with its contract, or failed with what is wrong."""
    if found.problem is not None or found.sidecar is None or found.rows is None:
        return dataclasses.replace(
            record,
            status=ResultTableStatus.FAILED,
            completed_at=format_timestamp(CLOCK.now()),
            properties={"error": f"repair: {found.problem}"},
        )
    return dataclasses.replace(
        record,
        status=ResultTableStatus.READY,
        row_count=found.rows,
        completed_at=max(_produced_at(found), record.created_at),
        definition_hash=found.sidecar.definition_hash,
        input_anchors=found.sidecar.input_anchors,
        artifact_digest=found.sidecar.artifact,
        descriptor_digest=found.sidecar.descriptor_digest,
    )


def _digest(storage: Storage, key: str) -> str:
    digest = hashlib.sha256()
    with storage.open(key) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
