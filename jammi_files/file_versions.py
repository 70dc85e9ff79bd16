"""Versions of local files and directories: what they hold, not where they lie or how old they are.

A file's SHA-256 is kept in this process by its device, inode, size and times, so that an unchanged
file is read once. A file that was touched within the last two seconds is never taken from there,
and is read twice: its times cannot tell a later write from an earlier one.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from jammi_files.errors import InvalidInputError, NotFoundError, StateError

_ATTEMPTS = 3
_RACY_NS = 2_000_000_000
"""The coarsest granularity of file times in use (FAT); ext4 ticks every few milliseconds."""

_KNOWN_FILES = 65_536
_digests: dict[tuple[int, ...], str] = {}


def file_version(path: str | os.PathLike[str]) -> str:
    """Return ``file:sha256:<hex>:<bytes>`` of a file (`B219`).

    Raises:
        NotFoundError: there is none.
        InvalidInputError: no regular file, or an SQLite file with changes beside it.
        StateError: it kept changing while it was read.
    """
    digest, size = _hashed(Path(path))
    _refuse_open_database(Path(path))
    return f"file:sha256:{digest}:{size}"


def directory_version(path: str | os.PathLike[str]) -> str:
    """Return ``directory:sha256:<hex>:<files>`` of every file below a directory, by relative path.

    Links to files count as what they point to. Empty directories do not count.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: it holds a link to a directory, a dangling link, or no regular file.
        StateError: files came, went or changed while they were read.
    """
    base = Path(path)
    for _ in range(_ATTEMPTS):
        seen = sorted(_below(base))
        digest = _fold((name, file) for name, file, _ in seen)
        if sorted(_below(base)) == seen:
            return f"directory:sha256:{digest}:{len(seen)}"
    raise _changing(base)


def dataset_version(files: Sequence[str | os.PathLike[str]]) -> str:
    """Return ``files:sha256:<hex>:<files>`` of a list of files, such as a Parquet dataset's.

    Order counts, and so do the names below the directory that all have in common: partition
    values stand in them.

    Raises:
        InvalidInputError: the list is empty; and as `file_version`.
    """
    paths = [Path(os.path.abspath(file)) for file in files]  # noqa: PTH100 - keeps links as named
    if not paths:
        raise InvalidInputError("an empty list of files pins nothing; give at least one file")
    for path in paths:
        _refuse_open_database(path)
    base = os.path.commonpath([path.parent for path in paths])
    digest = _fold((os.fsencode(path.relative_to(base)), path) for path in paths)
    return f"files:sha256:{digest}:{len(paths)}"


def _fold(files: Iterator[tuple[bytes, Path]]) -> str:
    """Hash names and contents, each with its length before it: no byte can move between them."""
    folded = hashlib.sha256()
    for name, path in files:
        digest, size = _hashed(path)
        folded.update(len(name).to_bytes(8, "little") + name)
        folded.update(size.to_bytes(8, "little") + bytes.fromhex(digest))
    return folded.hexdigest()


def _hashed(path: Path) -> tuple[str, int]:
    """Return a file's SHA-256 and size, from memory if it has not been touched since."""
    for _ in range(_ATTEMPTS):
        before = _look(path)
        racy = _is_racy(before)
        known = None if racy else _digests.get(_identity(before))
        digest = known or _read(path)
        unsure = racy and _read(path) != digest
        if _identity(_look(path)) == _identity(before) and not unsure:
            if known is None and not racy:
                _remember(_identity(before), digest)
            return digest, before.st_size
    raise _changing(path)


def _look(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file '{path}' to pin") from None
    except OSError as error:
        raise InvalidInputError(f"cannot pin '{path}': {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError(f"'{path}' is no regular file; give a callable for its version")
    return status


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file '{path}' to pin") from None
    except OSError as error:
        raise InvalidInputError(f"cannot pin '{path}': {error.strerror}") from error


def _identity(status: os.stat_result) -> tuple[int, ...]:
    # The change time catches a rewrite that put the modification time back (`cp -p`, `touch -r`).
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_racy(status: os.stat_result) -> bool:
    return max(status.st_mtime_ns, status.st_ctime_ns) > time.time_ns() - _RACY_NS


def _remember(identity: tuple[int, ...], digest: str) -> None:
    if len(_digests) >= _KNOWN_FILES:
        _digests.clear()
    _digests[identity] = digest


def _below(base: Path) -> Iterator[tuple[bytes, Path, tuple[int, ...]]]:
    waiting = [base]
    while waiting:
        directory = waiting.pop()
        for entry in _entries(directory):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif _is_file(entry):
                yield os.fsencode(path.relative_to(base)), path, _identity(_look(path))
            else:
                raise InvalidInputError(
                    f"'{path}' is no regular file (a link to a directory, a dangling link or a"
                    " device), so its directory cannot be pinned; give a list of files or a"
                    " callable"
                )


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself, or through what may not be read
        return False


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no directory '{directory}' to pin") from None
    except OSError as error:
        raise InvalidInputError(f"cannot pin '{directory}': {error.strerror}") from error


def _refuse_open_database(path: Path) -> None:
    for log in (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-journal")):
        if log.is_file() and log.stat().st_size:
            raise InvalidInputError(
                f"'{path}' has changes in '{log.name}' that its own bytes do not show; close the"
                " database, or give a callable that returns its version"
            )


def _changing(path: Path) -> StateError:
    return StateError(f"'{path}' kept changing while it was read; pin it when its writer is done")
