"""Results verified with keys and files alone: no catalog, no credentials, nobody is asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from jammi_files import naming
from jammi_files.errors import FormatError, InvalidInputError, StorageError
from jammi_files.local import LocalStorage
from jammi_files.materialization import (
    MaterializationManifest,
    MissingManifest,
    Verdict,
    decide_verdict,
)
from jammi_files.signing import Signing, Verify
from jammi_files.store import Verification

_SUFFIXES = (naming.DATA_SUFFIX, naming.SIDECAR_SUFFIX, naming.SIGNATURE_SUFFIX)


def verify_files(
    directory: str | os.PathLike[str], verify: Verify | Iterable[Verify]
) -> list[Verification]:
    """Judge every result whose files lie directly in a directory, by name.

    What a store with ``verify=`` judges, except for the catalog's rows, which need not be there:
    signature, table name, sidecar, and the digest of the data. So a result that was downloaded or
    handed on is verified by whoever has the public key. A Parquet file without sidecar is
    `MissingManifest`, an error is part of the answer.

    Raises:
        InvalidInputError: ``verify`` is not callable, or empty, or no path has such characters.
        StorageError: there is no such directory.
    """
    signing = Signing.of(None, verify)
    if not signing.verifiers:
        raise InvalidInputError("give verify=, or there is nothing that could be believed")
    place = os.fspath(directory)
    if "\0" in place:
        raise InvalidInputError(f"{place!r} is no directory's path")
    try:
        names = {entry.name for entry in os.scandir(place) if entry.is_file()}
    except OSError as error:
        raise StorageError(f"could not list '{place}': {error}") from error
    storage, found = LocalStorage(place), {_stem(name) for name in names} - {None}
    return [_verify_one(storage, str(each), signing) for each in sorted(map(str, found))]


def _stem(name: str) -> str | None:
    suffix = next((each for each in _SUFFIXES if name.endswith(each)), None)
    return None if suffix is None else name.removesuffix(suffix)


def _verify_one(storage: LocalStorage, name: str, signing: Signing) -> Verification:
    try:
        return Verification(name, _verdict(storage, name, signing))
    except (FormatError, OSError) as error:
        return Verification(name, None, str(error))


def _verdict(storage: LocalStorage, name: str, signing: Signing) -> Verdict:
    sidecar_bytes = storage.peek(name + naming.SIDECAR_SUFFIX)
    if sidecar_bytes is None:
        return MissingManifest()
    sidecar = MaterializationManifest.from_json_bytes(sidecar_bytes)
    signature = storage.peek(name + naming.SIGNATURE_SUFFIX)
    unbelieved = signing.judge(name, sidecar, signature)
    return unbelieved or decide_verdict(sidecar, _digest(storage, name + naming.DATA_SUFFIX))


def _digest(storage: LocalStorage, key: str) -> str | None:
    try:
        with storage.open(key) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except FileNotFoundError:
        return None
