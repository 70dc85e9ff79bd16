"""The bytes behind a row: its data object, its sidecar, its index files.

A path relative to the root is a key of the root's storage. An absolute one (a result that was
imported by reference) is read where it lies and never deleted: it is not ours.
"""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_files import naming
from jammi_files.errors import FormatError, StateError, StorageError
from jammi_files.materialization import (
    BadSignature,
    MaterializationManifest,
    Mismatch,
    MissingManifest,
    Unsigned,
    Verdict,
    decide_verdict,
)
from jammi_files.roots import open_storage
from jammi_files.schema import InputAnchor, ResultTableRecord
from jammi_files.signing import Signing
from jammi_files.storage import READERS, Storage
from jammi_files.strict_json import canonical_json

if TYPE_CHECKING:
    import pyarrow.dataset as ds

BLOCK = 1 << 20

NOBODY = Signing()
"""Of a store that neither signs nor verifies signatures."""


@dataclasses.dataclass(frozen=True, slots=True)
class Artifact:
    """What is known of a data object: SHA-256 in hex, bytes, rows."""

    digest: str
    size: int
    rows: int


class Artifacts:
    """The objects of the results under one root."""

    def __init__(self, storage: Storage, signing: Signing = NOBODY) -> None:
        self.storage, self.signing = storage, signing

    def locate(self, path: str) -> tuple[Storage, str]:
        """Return the storage and key of a stored path."""
        if path.startswith("/") or "://" in path:
            directory, name = posixpath.split(path)
            return open_storage(directory or "/"), name
        return self.storage, path

    def url(self, path: str) -> str:
        """Return where a reader outside this library finds a stored path."""
        storage, key = self.locate(path)
        return storage.url(key)

    def size(self, record: ResultTableRecord) -> int | None:
        """Return the data object's size in bytes, None if it is not there: one stat."""
        storage, key = self.locate(record.parquet_path)
        return storage.size(key)

    def exists(self, record: ResultTableRecord) -> bool:
        """Say whether the data object is there: one stat."""
        return self.size(record) is not None

    def still_holds(self, record: ResultTableRecord, artifact: Artifact) -> bool:
        """Say whether the data is as large as what this process wrote.

        A file is looked at again. A bucket is not asked: it has acknowledged these very bytes.
        """
        return not self.storage.is_locked or self.size(record) == artifact.size

    def read_sidecar(self, record: ResultTableRecord) -> MaterializationManifest | None:
        """Return the attestation, None if there is none (`B188`).

        Raises:
            FormatError: it is damaged (`B186`, `B187`), or of another version (`B185`).
        """
        storage, key = self.locate(naming.sibling(record.parquet_path, naming.SIDECAR_SUFFIX))
        try:
            data = storage.read(key)
        except FileNotFoundError:
            return None
        try:
            return MaterializationManifest.from_json_bytes(data)
        except FormatError as error:
            raise type(error)(f"sidecar '{storage.url(key)}': {error}") from error

    def read_signature(self, record: ResultTableRecord) -> bytes | None:
        """Return the envelope of the signature over the sidecar, None if there is none."""
        storage, key = self.locate(naming.sibling(record.parquet_path, naming.SIGNATURE_SUFFIX))
        try:
            return storage.read(key)
        except FileNotFoundError:
            return None

    def judge_signature(
        self, record: ResultTableRecord, sidecar: MaterializationManifest
    ) -> Unsigned | BadSignature | None:
        """Say what is wrong with a result's signature; None where nobody is there to say so."""
        if not self.signing.verifiers:
            return None
        return self.signing.judge(record.table_name, sidecar, self.read_signature(record))

    def read_sidecars(
        self, records: Sequence[ResultTableRecord]
    ) -> list[MaterializationManifest | FormatError | None]:
        """Return what `read_sidecar` returns or raises for each, side by side where that helps."""
        if len(records) < 2 or self.storage.is_locked:
            return [self._sidecar_or_damage(record) for record in records]
        with ThreadPoolExecutor(min(READERS, len(records))) as pool:
            return list(pool.map(self._sidecar_or_damage, records))

    def _sidecar_or_damage(
        self, record: ResultTableRecord
    ) -> MaterializationManifest | FormatError | None:
        try:
            return self.read_sidecar(record)
        except FormatError as error:
            return error

    def digest(self, record: ResultTableRecord) -> str | None:
        """Return the SHA-256 of the data object, read in blocks; None if there is none (`B230`)."""
        storage, key = self.locate(record.parquet_path)
        digest = hashlib.sha256()
        try:
            with storage.open(key) as file:
                while block := file.read(BLOCK):
                    digest.update(block)
        except FileNotFoundError:
            return None
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"could not read '{storage.url(key)}': {error}") from error
        return digest.hexdigest()

    def count_rows(self, record: ResultTableRecord) -> int:
        """Return the number of rows that the Parquet footer gives.

        Raises:
            FileNotFoundError: there is no data object.
            FormatError: it has no readable footer.
        """
        storage, key = self.locate(record.parquet_path)
        with storage.open(key) as file:
            try:
                return int(pq.read_metadata(file).num_rows)
            except (pa.ArrowException, OSError) as error:
                raise FormatError(f"'{storage.url(key)}' is no Parquet file: {error}") from error

    def measure(self, record: ResultTableRecord) -> Artifact:
        """Read a data object that another program wrote, and make it durable.

        Raises:
            StateError: there is none: write it before the result is finalized (`B088`).
            FormatError: it is no Parquet file.
        """
        storage, key = self.locate(record.parquet_path)
        size, digest = storage.size(key), self.digest(record)
        if size is None or digest is None:
            raise StateError(
                f"Result table '{record.table_name}' has no data object at "
                f"'{storage.url(key)}'; write it before finalizing"
            )
        artifact = Artifact(digest, size, self.count_rows(record))
        self.settle(record)
        return artifact

    def verify(self, record: ResultTableRecord, expected_definition: str | None) -> Verdict:
        """Judge a result: sidecar, bytes, catalog row, definition, in order (`B220` to `B231`).

        A row whose hash or anchors differ from its sidecar's is a `Mismatch` (`B229`). Where
        signatures are verified, that of the sidecar is judged first.

        Raises:
            FormatError: the sidecar is damaged: an error, no verdict (`B227`).
        """
        sidecar = self.read_sidecar(record)
        if sidecar is None:
            return MissingManifest()
        unbelieved = self.judge_signature(record, sidecar)
        if unbelieved is not None:
            return unbelieved
        bytes_alone = decide_verdict(sidecar, self.digest(record))
        if not bytes_alone.ok:
            return bytes_alone
        contradiction = disagreement(record, sidecar)
        return contradiction or decide_verdict(sidecar, sidecar.artifact, expected_definition)

    def dataset(self, record: ResultTableRecord) -> ds.Dataset:
        """Return the data object as a dataset.

        Raises:
            StateError: the data object is gone.
            StorageError: it cannot be read.
            FormatError: it is no Parquet file, or one that Arrow does not read.
        """
        storage, key = self.locate(record.parquet_path)
        path, filesystem = storage.arrow_path(key)
        import pyarrow.dataset as ds  # noqa: PLC0415 - it loads pandas, where there is one

        try:
            return ds.dataset(path, filesystem=filesystem, format="parquet")
        except FileNotFoundError:
            msg = f"the data of '{record.table_name}' is gone from '{storage.url(key)}'"
            raise StateError(msg) from None
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, StorageError):
                raise
            if getattr(error, "errno", None) is not None:  # else Arrow means the bytes
                raise StorageError(f"could not read '{storage.url(key)}': {error}") from error
            raise FormatError(f"'{storage.url(key)}' is no Parquet file: {error}") from error

    def settle(self, record: ResultTableRecord) -> None:
        """Make data and sidecar durable, which another process may have died over.

        Not the signature: whoever wrote the sidecar has waited for it.
        """
        data = record.parquet_path
        for path in (data, naming.sibling(data, naming.SIDECAR_SUFFIX)):
            storage, key = self.locate(path)
            storage.settle(key)

    def keys_beside(self, path: str) -> list[str]:
        """Return the keys of a result by its data's path, the data first; none outside the root."""
        storage, key = self.locate(path)
        if storage is not self.storage:
            return []
        return [key, *(naming.sibling(key, suffix) for suffix in naming.SIBLINGS)]

    def those_there(self, keys: Sequence[str]) -> list[str]:
        """Return those of a result's keys that have an object; all are asked for at once."""
        with ThreadPoolExecutor(READERS) as pool:
            sizes = pool.map(self.storage.size, keys)
            return [key for key, size in zip(keys, sizes, strict=True) if size is not None]

    def remove_objects(self, keys: Sequence[str]) -> list[str]:
        """Delete a result's objects; return what was there.

        The first, its data, goes before the sidecar and the index files, on the disk too, so that
        what a crash leaves is never data without attestation (`B147`, `B148`).
        """
        gone = []
        for key in keys:
            gone += [key] if self.storage.delete(key) else []
            if key == keys[0]:
                self.storage.settle(key)
        return gone


def disagreement(record: ResultTableRecord, sidecar: MaterializationManifest) -> Mismatch | None:
    """Return how the catalog row contradicts its sidecar, None if it does not (`B229`)."""
    said = (
        (record.definition_hash, sidecar.definition_hash),
        (record.artifact_digest, sidecar.artifact),
        (record.descriptor_digest, sidecar.descriptor_digest),
    )
    for recorded, attested in said:
        if recorded not in (None, attested):
            return Mismatch(expected=str(recorded), found=attested)
    if record.input_anchors not in (None, sidecar.input_anchors):
        return Mismatch(_anchors_text(record.input_anchors), _anchors_text(sidecar.input_anchors))
    return None


def _anchors_text(anchors: tuple[InputAnchor, ...] | None) -> str:
    return canonical_json([anchor.to_dict() for anchor in anchors or ()]).decode()
