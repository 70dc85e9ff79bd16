"""The versions of a root at its copy: how far the copy is, and how it is brought forward.

Readers of a copy that is brought forward see it as it was, then as the source was at one version,
and nothing between. What lies between is first created as versions that change nothing
(*stand-ins*, operation `OPERATION`), so that no writer can take their numbers, and filled in once
the newest version is there (FORMAT section "Copy"; the numbers below are its steps).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from concurrent.futures import Executor

from jammi_files import garbage, manifest, root_format
from jammi_files.copy_objects import (
    Outcome,
    Pair,
    Part,
    Tally,
    Tick,
    TroubleError,
    create_equal,
    silent,
)
from jammi_files.errors import AlreadyExistsError, ConflictError, FormatError
from jammi_files.header import Header
from jammi_files.log import key_of
from jammi_files.root_format import Commit, RootFormat
from jammi_files.rows import STORED
from jammi_files.storage import Storage

OPERATION = "copy"
"""The operation of a version that stands in for one that is to come."""

RETIRED = "it was retired, or is gone"
"""What is wrong with a version that a plan has and the source has not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """What a target is before it is copied to.

    ``version`` is the newest of a finished copy, None where there is none. ``is_claimed``: it is an
    unfinished one. ``commit_id`` and ``segments`` are those of the newest version. Rows of versions
    up to ``known`` are what the source's rows were then. ``noted`` is what the target says it is:
    no version below that waits to be filled in.
    """

    version: int | None
    is_claimed: bool
    noted: Commit | None = None
    commit_id: str = ""
    segments: frozenset[str] = frozenset()
    known: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class VersionJob:
    """One version: ``size`` is that of its manifest, 0 if it is retired; ``there`` the target's."""

    pair: Pair
    version: int
    size: int
    there: int | None
    is_settled: bool


def find_standing(pair: Pair, catalog_id: str) -> Standing:
    """Look at the target.

    Raises:
        AlreadyExistsError: it holds another catalog.
        ConflictError: it holds versions that the source does not have.
    """
    found = root_format.look(pair.target)
    if found is None:
        return Standing(None, is_claimed=False)
    if found.catalog_id != catalog_id:
        msg = (
            f"'{pair.target.root}' holds another catalog ({found.catalog_id}, the source is "
            f"{catalog_id}); choose another destination"
        )
        raise AlreadyExistsError(msg)
    if found.is_unfinished:
        return Standing(None, is_claimed=True)
    newest = max(garbage.list_versions(pair.target), default=0)
    if not newest:
        return Standing(0, is_claimed=False, noted=found.copied)
    top = _header(pair.target, newest)
    if top is None:
        msg = f"'{pair.target.url(key_of(newest))}' is the newest version and empty; run fsck there"
        raise FormatError(msg)
    segments = frozenset(info.key for info in top.segments)
    known = _known(pair, top, found)
    return Standing(
        newest,
        is_claimed=False,
        noted=found.copied,
        commit_id=top.commit_id,
        segments=segments,
        known=known,
    )


def _known(pair: Pair, top: Header, found: RootFormat) -> int:
    """Return up to which version the target is what the source was, having made sure that it is.

    One version that is the same is enough: every version was made on top of the one before. Where
    the source has retired the target's version, it is enough that nobody but a copier has
    committed there since; then no more than that is known.
    """
    noted = {found.copied, *found.coming}
    for version in range(top.version, 0, -1):
        theirs, ours = _header(pair.target, version), _header(pair.source, version)
        if ours is not None and theirs is not None and ours.commit_id == theirs.commit_id:
            return top.version
        if ours is not None or theirs is None:
            break
        if (version, theirs.commit_id) in noted and _has_versions_after(pair, version):
            return 0
        if theirs.operation != OPERATION:
            break
    else:  # the copy was empty
        if _has_versions_after(pair, 0):
            return 0
    msg = (
        f"'{pair.target.root}' is at version {top.version}, which the source does not have: "
        "something else was committed to the copy; copy to another destination"
    )
    raise ConflictError(msg)


def _has_versions_after(pair: Pair, version: int) -> bool:
    return max(garbage.list_versions(pair.source), default=0) > version


def copy_version(job: VersionJob, tick: Tick = silent) -> Outcome:
    """Copy one version to a root that nobody can open yet."""
    key = key_of(job.version)
    tally, part = Tally(key, tick), Part(key, job.size)
    try:
        if job.there == job.size:
            tally.present(part)
        else:
            data = _read_version(job, tally) if job.size else b""
            if data:
                create_equal(job.pair.target, key, data)
            else:  # what the source had when an earlier call came by, it has retired since
                job.pair.target.replace(key, data)
            tally.pass_on(job.size)
            tally.copied(part)
    except TroubleError as error:
        tally.trouble = str(error)
    return tally.outcome()


def _read_version(job: VersionJob, tally: Tally) -> bytes:
    key = key_of(job.version)
    data = job.pair.source.peek(key)
    if not data:
        raise TroubleError(RETIRED)
    if job.pair.verify:
        try:
            manifest.decode_columns(key, data, STORED.names)
        except FormatError as error:
            tally.note(settled=job.is_settled, trouble=str(error))
    return data


def bring_forward(pair: Pair, since: int, newest: bytes, between: Iterable[Header]) -> None:
    """Take a finished copy from version ``since`` to the one whose manifest is ``newest``.

    ``between`` are the headers of all versions in between, in order.

    Raises:
        ConflictError: another program committed to the copy.
    """
    base = pair.target.read(key_of(since)) if since else b""
    for header in between:  # 4
        _claim(pair.target, header, _stand_in(since, base, header))
    header = manifest.decode_header("", newest)
    _claim(pair.target, header, newest)  # 5


def _claim(target: Storage, header: Header, data: bytes) -> None:
    key = key_of(header.version)
    try:
        target.create(key, data)
    except FileExistsError:
        found = _header(target, header.version)
        if found is None or found.commit_id != header.commit_id:
            msg = (
                f"'{target.root}' was written to while it was brought forward: its version "
                f"{header.version} is another one; copy to another destination"
            )
            raise ConflictError(msg) from None


def _stand_in(since: int, base: bytes, header: Header) -> bytes:
    """Return a manifest under the number and commit id of ``header`` with the rows of ``since``."""
    if not base:
        shown, table = Header(0, "", "", 0, ""), STORED.empty_table()
    else:
        shown, table, _ = manifest.decode_manifest(key_of(since), base)
    told = dataclasses.replace(
        header,
        operation=OPERATION,
        segments=shown.segments,
        retention=shown.retention,
        extra=shown.extra,
    )
    return manifest.encode_manifest(told, table)


def find_stand_ins(target: Storage, versions: Iterable[int], threads: Executor) -> list[int]:
    """Return those of some versions that a copy has left to be filled in."""
    look = functools.partial(_is_stand_in, target)
    found = zip(versions, threads.map(look, versions), strict=True)
    return [version for version, is_stand_in in found if is_stand_in]


def _is_stand_in(target: Storage, version: int) -> bool:
    try:
        header = _header(target, version)
    except FormatError:  # damaged as it is at the source
        return False
    return header is not None and header.operation == OPERATION


def fill_in(pair: Pair, version: int) -> bool:
    """Give a version that was stood in for the source's bytes; False if that has retired it."""
    data = pair.source.peek(key_of(version))
    if data:
        pair.target.replace(key_of(version), data)
    return bool(data)


def _header(storage: Storage, version: int) -> Header | None:
    data = storage.peek(key_of(version))
    return manifest.decode_header(key_of(version), data) if data else None
