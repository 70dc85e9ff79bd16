"""The index files that jammi-db 0.32 keeps beside an embedding table (`B047`), read-only.

``.manifest.json`` says what the index is of. ``.usearch`` is the graph of the usearch library, with
the vectors in it; its keys are the numbers of the rows. ``.rowmap`` names the rows in the order of
these numbers: a u32 with the map's version, 1, then for each row the length of its id in bytes as a
u32, and the id in UTF-8; numbers are little-endian. A graph is mapped into memory from a directory,
and read whole from a bucket.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import orjson

from jammi_files import extras, naming
from jammi_files.artifacts import Artifacts
from jammi_files.errors import FormatError, UnsupportedVersionError
from jammi_files.schema import ResultTableRecord

Array: TypeAlias = Any
"""A NumPy array, which has no type here."""

_GRAPH, _ROWMAP, _MANIFEST = naming.INDEX_SIBLINGS
_VERSION = 1


class AnnIndex:
    """The index of one table: approximate neighbours, and the vectors that it was built from."""

    def __init__(self, graph: Any, row_ids: list[str]) -> None:  # noqa: ANN401 - without types
        self._graph, self._row_ids = graph, row_ids

    def nearest(self, query: Array, count: int) -> tuple[Array, list[str], Array]:
        """Return positions, ids and vectors of at most ``count`` rows near ``query``.

        Raises:
            FormatError: the graph has a row that the map does not name.
        """
        np = extras.load("numpy", extra="search", purpose="search")
        keys = self._graph.search(query.astype(np.float32), min(count, len(self._row_ids))).keys
        strange = [int(key) for key in keys if key >= len(self._row_ids)]
        if strange:
            raise FormatError(f"the index has row {strange[0]}, its rowmap {len(self._row_ids)}")
        vectors = np.stack(self._graph.get(keys))
        return keys.astype(np.int64), [self._row_ids[int(key)] for key in keys], vectors


def open_index(artifacts: Artifacts, record: ResultTableRecord) -> AnnIndex | None:
    """Return the index of an embedding table, None if it has none that answers for its vectors.

    A table whose index files are not all there has none; nor does one whose index keeps the
    vectors in another precision, which would rank them otherwise.

    Raises:
        MissingPackageError: there is one, and usearch is not installed.
        FormatError: a file is damaged, or the index is not of this table; search exactly.
        UnsupportedVersionError: it is of a version that this library does not read.
    """
    described, rowmap = (_read(artifacts, record, suffix) for suffix in (_MANIFEST, _ROWMAP))
    if described is None or rowmap is None:
        return None
    where = f"the index of '{record.table_name}'"
    said = _manifest(where, described)
    row_ids = _row_ids(where, rowmap)
    graph = _open_graph(artifacts, record, where)
    if graph is None or graph.dtype.name != "F32":
        return None
    found = (len(graph), len(row_ids), record.row_count, graph.ndim, graph.metric_kind.name)
    count, dimensions = said.get("count"), said.get("dimensions")
    if found != (count, count, count, dimensions, "Cos"):
        raise FormatError(
            f"{where} is not of this table: graph {len(graph)} rows of {graph.ndim} by "
            f"{graph.metric_kind.name}, rowmap {len(row_ids)}, manifest {count} of {dimensions}, "
            f"catalog {record.row_count}; search with exact=True"
        )
    return AnnIndex(graph, row_ids)


def _read(artifacts: Artifacts, record: ResultTableRecord, suffix: str) -> bytes | None:
    storage, key = artifacts.locate(naming.sibling(record.parquet_path, suffix))
    try:
        return storage.read(key)
    except FileNotFoundError:
        return None


def _manifest(where: str, data: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"{where}: its manifest is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise FormatError(f"{where}: its manifest is no JSON object")
    kind = tuple(said.get(name) for name in ("version", "backend", "metric"))
    if kind != (_VERSION, "usearch", "cosine"):
        raise UnsupportedVersionError(
            f"{where} is version {kind[0]} of {kind[1]} by {kind[2]}; "
            "this library reads version 1 of usearch by cosine; search with exact=True"
        )
    return said


def _row_ids(where: str, data: bytes) -> list[str]:
    def number(at: int) -> int:
        if at + 4 > len(data):
            raise FormatError(f"{where}: its rowmap ends in the middle of a row")
        return int.from_bytes(data[at : at + 4], "little")

    version = number(0)
    if version != _VERSION:
        raise UnsupportedVersionError(
            f"{where}: its rowmap has version {version}; this library reads 1"
        )
    ids, at = [], 4
    while at < len(data):
        start, at = at + 4, at + 4 + number(at)
        if at > len(data):
            raise FormatError(f"{where}: its rowmap ends in the middle of a row")
        try:
            ids.append(data[start:at].decode())
        except UnicodeDecodeError as error:
            raise FormatError(f"{where}: a row id is no UTF-8: {error}") from error
    return ids


def _open_graph(artifacts: Artifacts, record: ResultTableRecord, where: str) -> Any:  # noqa: ANN401
    storage, key = artifacts.locate(naming.sibling(record.parquet_path, _GRAPH))
    if storage.size(key) is None:
        return None
    usearch = extras.load("usearch.index", extra="search", purpose="search by an index")
    path, filesystem = storage.arrow_path(key)
    try:
        if filesystem is None:
            return usearch.Index.restore(path, view=True)
        return usearch.Index.restore(storage.read(key))
    except (ValueError, RuntimeError) as error:
        raise FormatError(f"{where} is damaged: {error}; search with exact=True") from error
