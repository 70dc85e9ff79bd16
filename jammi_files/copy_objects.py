"""Single objects from one storage to another: streamed, checked, whole or not there at all.

A job is a value and so is its outcome: any executor may do it, in another process too.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator

from jammi_files import manifest
from jammi_files.errors import ConflictError, FormatError, StorageError
from jammi_files.manifest import MissingSegmentError
from jammi_files.materialization import MaterializationManifest
from jammi_files.storage import Storage

BLOCK = 4 << 20
"""Bytes of one object that are in memory at a time."""

Tick = Callable[[int], None]
"""Called with a number of bytes that are done."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """An object as a listing shows it; ``size`` is bytes."""

    key: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """From where to where, and whether contents are looked at where sizes agree."""

    source: Storage
    target: Storage
    verify: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ResultJob:
    """The objects of one result: ``parts`` are all but the sidecar, the data object first.

    ``there`` are those that the target has. ``digest`` is what the row says of the data object. A
    result that is not as its row and sidecar say is not copied, as it may have been deleted or made
    anew meanwhile; ``is_settled`` says that it was not, and then it is copied as it is.
    """

    pair: Pair
    data: str
    parts: tuple[Part, ...]
    sidecar: Part | None
    there: tuple[Part, ...]
    digest: str | None
    is_ready: bool
    is_settled: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectJob:
    """One object by itself: a segment, or one that no row names; ``there`` is its size there."""

    pair: Pair
    part: Part
    there: int | None
    is_segment: bool
    is_settled: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job; ``trouble`` says how the source is not as its rows say."""

    key: str
    copied: int
    copied_bytes: int
    present: int
    present_bytes: int
    trouble: str | None


class TroubleError(Exception):
    """The source is not as its rows say, perhaps because it has just been changed."""


class Tally:
    """Counts what one job does."""

    def __init__(self, key: str, tick: Tick) -> None:
        self.key, self._tick = key, tick
        self._copied: list[int] = []
        self._present: list[int] = []
        self.trouble: str | None = None

    def pass_on(self, size: int) -> None:
        """Count bytes on their way."""
        self._tick(size)

    def copied(self, part: Part) -> None:
        """Count an object whose bytes have been counted."""
        self._copied.append(part.size)

    def present(self, part: Part) -> None:
        """Count an object that the target had."""
        self._present.append(part.size)
        self._tick(part.size)

    def note(self, *, settled: bool, trouble: str) -> None:
        """Take note of trouble; raise it unless it is settled that it is no passing one."""
        if not settled:
            raise TroubleError(trouble)
        self.trouble = self.trouble or trouble

    def outcome(self) -> Outcome:
        """Return the counts."""
        counts = len(self._copied), sum(self._copied), len(self._present), sum(self._present)
        return Outcome(self.key, *counts, self.trouble)


def silent(_: int) -> None:
    """Take no note of bytes."""


def copy_result(job: ResultJob, tick: Tick = silent) -> Outcome:
    """Copy data and index files, then the sidecar that attests them."""
    tally = Tally(job.data, tick)
    try:
        _copy_result(job, tally)
    except TroubleError as error:
        tally.trouble = str(error)
    return tally.outcome()


def copy_object(job: ObjectJob, tick: Tick = silent) -> Outcome:
    """Copy one object; a segment is read back, page by page."""
    pair, part = job.pair, job.part
    tally = Tally(part.key, tick)
    try:
        if job.there == part.size and _is_kept(job):
            tally.present(part)
        else:
            if job.there is not None:
                pair.target.delete(part.key)
            _send(pair, part, None, tally, settled=job.is_settled)
            if job.is_segment and pair.verify:
                _check_segment(job, tally)
            tally.copied(part)
    except TroubleError as error:
        tally.trouble = str(error)
    return tally.outcome()


def _copy_result(job: ResultJob, tally: Tally) -> None:
    pair, there = job.pair, {part.key: part.size for part in job.there}
    sidecar = None if job.sidecar is None else _read(pair.source, job.sidecar.key)
    digest = _attested(job, sidecar, tally)
    is_attested = False
    if job.sidecar is not None and job.sidecar.key in there:
        is_attested = pair.target.peek(job.sidecar.key) == sidecar
        if not is_attested:  # an earlier result of this name; its attestation goes first
            for key in (job.sidecar.key, *(key for key in there if key != job.sidecar.key)):
                pair.target.delete(key)
            there = {}
    for part in job.parts:
        expected = digest if part.key == job.data else None
        is_there = there.get(part.key) == part.size
        if is_there and (is_attested or _has_content(pair, part.key, expected)):
            tally.present(part)
            continue
        if part.key in there:
            pair.target.delete(part.key)
        _send(pair, part, expected, tally, settled=job.is_settled)
        tally.copied(part)
    if job.sidecar is not None and sidecar is not None:
        if is_attested:
            tally.present(job.sidecar)
        else:
            create_equal(pair.target, job.sidecar.key, sidecar)
            tally.pass_on(job.sidecar.size)
            tally.copied(job.sidecar)


def create_equal(target: Storage, key: str, data: bytes) -> None:
    """Create an object that another copier may create with the same bytes.

    Raises:
        ConflictError: there is another one of that name.
    """
    try:
        target.create(key, data)
    except FileExistsError:
        if target.peek(key) != data:
            raise _written_meanwhile(target, key) from None


def _attested(job: ResultJob, sidecar: bytes | None, tally: Tally) -> str | None:
    """Return the digest that the data must have; None if nothing says or nobody asks."""
    if not job.pair.verify or not job.is_ready:
        return None
    if sidecar is None:
        return job.digest
    try:
        artifact = MaterializationManifest.from_json_bytes(sidecar).artifact
    except FormatError as error:
        tally.note(settled=job.is_settled, trouble=f"its sidecar is damaged: {error}")
        return job.digest
    if job.digest not in (None, artifact):
        trouble = f"its row says {job.digest}, its sidecar {artifact}"
        tally.note(settled=job.is_settled, trouble=trouble)
    return artifact


def _send(pair: Pair, part: Part, digest: str | None, tally: Tally, *, settled: bool) -> None:
    if not part.size:  # what is empty cannot be created exclusively in a bucket
        pair.target.replace(part.key, b"")
        return
    actual, size = hashlib.sha256(), 0
    out = pair.target.writer(part.key)
    try:
        for block in _blocks(pair.source, part.key):
            out.write(block)
            actual.update(block)
            size += len(block)
            tally.pass_on(len(block))
        found = actual.hexdigest()
        if size != part.size:
            raise TroubleError(f"'{part.key}' has {size} bytes where {part.size} were listed")
        if digest not in (None, found):
            if digest_of(pair.source, part.key) != found:
                raise _unsteady(pair.source, part.key)
            trouble = f"its data has the digest {found}, attested is {digest}"
            tally.note(settled=settled, trouble=trouble)
        try:
            out.publish()
        except FileExistsError:
            if digest_of(pair.target, part.key) != found:
                raise _written_meanwhile(pair.target, part.key) from None
    finally:
        out.abort()


def _is_kept(job: ObjectJob) -> bool:
    """Say whether an object of the right size at the target is the right one."""
    key = job.part.key
    if not job.pair.verify or (job.is_segment and _is_sound(job.pair.target, key)):
        return True
    return _has_content(job.pair, key, None)


def _has_content(pair: Pair, key: str, digest: str | None) -> bool:
    if not pair.verify:
        return True
    return digest_of(pair.target, key) == (digest or digest_of(pair.source, key))


def _check_segment(job: ObjectJob, tally: Tally) -> None:
    """Read a copied segment back; what is damaged is so at the source, or is not left there."""
    pair, key = job.pair, job.part.key
    if _is_sound(pair.target, key):
        return
    if job.is_settled and not _is_sound(pair.source, key):
        tally.note(settled=True, trouble="it is damaged")
        return
    pair.target.delete(key)
    if _is_sound(pair.source, key):
        raise _unsteady(pair.target, key)
    raise TroubleError("it is damaged")


def _is_sound(storage: Storage, key: str) -> bool:
    """Say whether every page of a segment is what its checksum says; one row group at a time."""
    try:
        file = manifest.open_segment(key, storage.open)
    except MissingSegmentError:
        raise TroubleError("it is gone") from None
    except FormatError:
        return False
    try:
        for group in range(len(file)):
            manifest.read_group(key, file, group)
    except FormatError:
        return False
    finally:
        file.close()
    return True


def digest_of(storage: Storage, key: str) -> str:
    """Return the SHA-256 of an object, read in blocks.

    Raises:
        TroubleError: it is gone.
    """
    digest = hashlib.sha256()
    for block in _blocks(storage, key):
        digest.update(block)
    return digest.hexdigest()


def _blocks(storage: Storage, key: str) -> Iterator[bytes]:
    try:
        with storage.open(key) as file:
            while block := file.read(BLOCK):
                yield block
    except FileNotFoundError:
        raise TroubleError(f"'{key}' is gone") from None
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"could not read '{storage.url(key)}': {error}") from error


def _read(storage: Storage, key: str) -> bytes:
    try:
        return storage.read(key)
    except FileNotFoundError:
        raise TroubleError(f"'{key}' is gone") from None


def _unsteady(storage: Storage, key: str) -> StorageError:
    return StorageError(
        f"'{storage.url(key)}' reads differently each time; look after the storage, then run the "
        "copy again"
    )


def _written_meanwhile(storage: Storage, key: str) -> ConflictError:
    return ConflictError(
        f"'{storage.url(key)}' was written by another program during the copy; nothing writes to a "
        "copy until it is finished"
    )
