"""Results as freshness sees them: a few facts of each row, and what lies on disk of it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from functools import partial
from itertools import repeat
from typing import NamedTuple, Protocol

from jammi_files.artifacts import Artifacts
from jammi_files.errors import FormatError
from jammi_files.schema import AnchorKind, ModelTask, ResultTableKind, ResultTableRecord
from jammi_files.strict_json import canonical_json

READY = "ready"
UNREADABLE = "unreadable"
"""The status, here, of a row that holds values which this version does not know (`B037`)."""


class Pin(NamedTuple):
    """An anchor as stored; its kind may be one that this version does not know."""

    source: str
    anchor: str
    kind: str


class Known(NamedTuple):
    """What freshness needs of a row; ``age`` orders rows, ``shape`` and ``logical`` group them."""

    table_name: str
    status: str
    tenant_id: str | None
    age: tuple[int | str, str]
    definition_hash: str | None
    logical: tuple[str, str, str, str]
    shape: tuple[object, ...]
    parquet_path: str
    pins: tuple[Pin, ...] | None

    @property
    def is_attested(self) -> bool:
        """True if the row carries a contract (`B232`)."""
        return self.definition_hash is not None and self.pins is not None


class Rows(Protocol):
    """The visible rows of one version."""

    def get(self, table_name: str) -> Known | None:
        """Return the row of that name in any status."""

    def siblings(self, known: Known) -> Iterable[Known]:
        """Return the ready rows with the same ``logical`` part, the row itself among them."""


def parents(rows: Rows, known: Known) -> list[Known]:
    """Return the ready results that a result was made from, in anchor order."""
    sources = (pin.source for pin in known.pins or () if pin.kind == AnchorKind.RESULT_DIGEST)
    found = (rows.get(source) for source in sources)
    return [parent for parent in found if parent is not None and parent.status == READY]


class Attested(NamedTuple):
    """What a sidecar says of a result; ``descriptor`` is canonical JSON."""

    digest: str
    descriptor: bytes


class Found(NamedTuple):
    """What lies on disk of one result; its digest is None only if its bytes are gone."""

    digest: str | None
    attested: Attested | None = None


def look(artifacts: Artifacts, known: Known) -> Found:
    """Look at a result on disk: its digest by its sidecar, by its bytes if that is gone (`B215`).

    A damaged sidecar is no better than none. A function of its own, for executors of processes.
    """
    if not artifacts.exists(_place(known)):
        return Found(None)
    attested = _read(artifacts, known)
    digest = artifacts.digest(_place(known)) if attested is None else attested.digest
    return Found(digest, attested)


class Disk:
    """What lies on disk, each object looked at once."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._found: dict[str, Found] = {}
        self._attested: dict[str, Attested | None] = {}

    def look_at(self, wanted: list[Known], executor: Executor | None) -> None:
        """Look at several results, all at once on an executor."""
        run = map if executor is None else partial(executor.map, chunksize=64)
        names = [known.table_name for known in wanted]
        self._found.update(zip(names, run(look, repeat(self._artifacts), wanted), strict=False))

    def digest(self, known: Known) -> str | None:
        """Return the present digest of a result; None if its bytes are gone."""
        if known.table_name not in self._found:
            self.look_at([known], None)
        return self._found[known.table_name].digest

    def descriptor(self, known: Known) -> bytes | None:
        """Return how a result was produced, as canonical JSON; None if nothing readable says so."""
        name = known.table_name
        if name in self._found:
            attested = self._found[name].attested
        elif name in self._attested:
            attested = self._attested[name]
        else:
            attested = self._attested[name] = _read(self._artifacts, known)
        return None if attested is None else attested.descriptor


def _read(artifacts: Artifacts, known: Known) -> Attested | None:
    try:
        sidecar = artifacts.read_sidecar(_place(known))
    except FormatError:
        return None
    if sidecar is None:
        return None
    return Attested(sidecar.artifact, canonical_json(sidecar.descriptor.to_dict()))


def _place(known: Known) -> ResultTableRecord:
    """Return a record that says where a result's objects lie, and nothing else that is true."""
    source, kind, task, model = known.logical
    return ResultTableRecord(
        table_name=known.table_name,
        source_id=source,
        model_id=model,
        task=ModelTask(task),
        kind=ResultTableKind(kind),
        parquet_path=known.parquet_path,
        created_at="",
    )
