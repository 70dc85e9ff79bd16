"""What a result's data is attested by: the signature, where somebody signs, then the sidecar.

In this order, so that whatever a crash leaves, a sidecar of a signed result has its signature; and
without a sidecar no recovery makes a row ready (FORMAT section "Publish").
"""

from __future__ import annotations

import dataclasses

from jammi_files import naming
from jammi_files.artifacts import Artifacts
from jammi_files.errors import AlreadyExistsError, FormatError, InvalidInputError, StateError
from jammi_files.materialization import MaterializationManifest, Verdict
from jammi_files.schema import ResultTableRecord
from jammi_files.signing import covered, find_flaw, opened
from jammi_files.timestamps import parse_timestamp


def put(
    artifacts: Artifacts, record: ResultTableRecord, manifest: MaterializationManifest
) -> MaterializationManifest:
    """Write signature and sidecar if there are none; equal earlier ones are as good (`B090`).

    Return the sidecar that is there now.

    Raises:
        AlreadyExistsError: one that says something else exists.
        InvalidInputError: as `Signing.seal`.
    """
    if artifacts.signing.sign is None:
        return _put_sidecar(artifacts, record, manifest)
    signed = _put_signature(artifacts, record, manifest)
    found = _put_sidecar(artifacts, record, signed)
    if found != signed:  # of an attempt that nobody signed
        _require_same(artifacts, record, found, manifest)
        key = naming.sibling(record.parquet_path, naming.SIGNATURE_SUFFIX)
        artifacts.storage.replace(key, artifacts.signing.seal(record.table_name, found))
    return found


def seal(artifacts: Artifacts, record: ResultTableRecord) -> Verdict:
    """Sign a ready result that has no signature; see `ResultStore.seal`."""
    if artifacts.signing.sign is None:
        raise InvalidInputError("this store signs nothing: connect with sign=")
    if not record.is_ready:
        raise StateError(f"Result table '{record.table_name}' is {record.status}, not ready")
    storage, key = artifacts.locate(record.parquet_path)
    if storage is not artifacts.storage:
        raise StateError(f"the data of '{record.table_name}' lies outside of the root")
    verdict = Artifacts(artifacts.storage).verify(record, record.definition_hash)
    sidecar = artifacts.read_sidecar(record) if verdict.ok else None
    if sidecar is None:
        return verdict
    try:
        data = artifacts.signing.seal(record.table_name, sidecar)
        storage.create(naming.sibling(key, naming.SIGNATURE_SUFFIX), data)
    except FileExistsError:
        return artifacts.judge_signature(record, sidecar) or verdict
    return verdict


def _put_signature(
    artifacts: Artifacts, record: ResultTableRecord, manifest: MaterializationManifest
) -> MaterializationManifest:
    key = naming.sibling(record.parquet_path, naming.SIGNATURE_SUFFIX)
    data = artifacts.signing.seal(record.table_name, manifest)
    try:
        artifacts.storage.create(key, data)
    except FileExistsError:
        earlier = _covered_before(artifacts, record)
        _require_same(artifacts, record, earlier, manifest)
        _require_of_this_build(artifacts, record, earlier)
        # Anybody may have put it there: what it is worth is this signer's word again.
        artifacts.storage.replace(key, artifacts.signing.seal(record.table_name, earlier))
        return earlier
    return manifest


def _covered_before(artifacts: Artifacts, record: ResultTableRecord) -> MaterializationManifest:
    data = artifacts.read_signature(record) or b""
    try:
        earlier = covered(data)
    except FormatError as error:
        raise _taken(artifacts, record, naming.SIGNATURE_SUFFIX) from error
    if find_flaw(record.table_name, earlier, opened(data)[0]):  # of another table with this data
        raise _taken(artifacts, record, naming.SIGNATURE_SUFFIX)
    return earlier


def _put_sidecar(
    artifacts: Artifacts, record: ResultTableRecord, manifest: MaterializationManifest
) -> MaterializationManifest:
    key = naming.sibling(record.parquet_path, naming.SIDECAR_SUFFIX)
    try:
        artifacts.storage.create(key, manifest.to_json_bytes())
    except FileExistsError:
        earlier = artifacts.read_sidecar(record)
        if earlier is None or earlier.statement != manifest.statement:
            raise _taken(artifacts, record, naming.SIDECAR_SUFFIX) from None
        _require_of_this_build(artifacts, record, earlier)
        artifacts.settle(record)
        return earlier
    return manifest


def _require_same(
    artifacts: Artifacts,
    record: ResultTableRecord,
    earlier: MaterializationManifest,
    manifest: MaterializationManifest,
) -> None:
    """Refuse to sign what differs in more than who attested it, and when."""
    by, at = manifest.produced_by, manifest.produced_at
    if dataclasses.replace(earlier, produced_by=by, produced_at=at) != manifest:
        raise _taken(artifacts, record, naming.SIGNATURE_SUFFIX)


def _require_of_this_build(
    artifacts: Artifacts, record: ResultTableRecord, earlier: MaterializationManifest
) -> None:
    """Refuse an earlier build's attestation, which somebody may be deleting, if no lock forbids it.

    One that says the same is told by its time alone (FORMAT section "Deletion").
    """
    if not artifacts.storage.is_locked and not _is_as_young(earlier, record):
        msg = f"'{record.table_name}' was used before, and its objects may be under deletion still"
        raise AlreadyExistsError(f"{msg}; build this result under a new name, or again later")


def _is_as_young(earlier: MaterializationManifest, record: ResultTableRecord) -> bool:
    try:
        return parse_timestamp(earlier.produced_at) >= parse_timestamp(record.created_at)
    except InvalidInputError:  # whoever wrote it may write any text
        return False


def _taken(artifacts: Artifacts, record: ResultTableRecord, suffix: str) -> AlreadyExistsError:
    url = artifacts.url(naming.sibling(record.parquet_path, suffix))
    return AlreadyExistsError(f"'{url}' attests something else; it is never overwritten")
