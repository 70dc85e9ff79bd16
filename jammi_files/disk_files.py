"""The files of a local root: which are opened, how large one may be, how a listing shows it.

Anybody may have put them there: a pipe would be waited for, a device has no end, and a file that
is mostly a hole would be read into memory before it is found to be too large.
"""

from __future__ import annotations

import datetime as dt
import errno
import io
import os
import stat
from typing import BinaryIO

from jammi_files.errors import FormatError
from jammi_files.materialization import MAX_SIDECAR_BYTES
from jammi_files.naming import SIDECAR_SUFFIX, SIGNATURE_SUFFIX
from jammi_files.signing import MAX_ENVELOPE_BYTES
from jammi_files.storage import NoFileError, ObjectInfo

_MOST_OF_THE_CATALOG = {
    "_catalog/manifest/": 64 * 2**20,
    "_catalog/builds/": 65_536,
    "_catalog/format.json": 2**20,  # repair looks into one that is too large for a reader
}
_MOST_OF_A_RESULT = {SIDECAR_SUFFIX: MAX_SIDECAR_BYTES, SIGNATURE_SUFFIX: MAX_ENVELOPE_BYTES}

_FURTHEST = 2**63 // 10**9 - 1
"""Seconds from the epoch, either way: some file systems keep times of any year."""

_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""A pipe is not waited for: it is opened, and told to be one."""


def most_bytes(key: str) -> int | None:
    """Return how large an object of that key may be, None where that has no bound."""
    if key.startswith("_catalog/"):
        found = (most for start, most in _MOST_OF_THE_CATALOG.items() if key.startswith(start))
    else:
        found = (most for end, most in _MOST_OF_A_RESULT.items() if key.endswith(end))
    return next(found, None)


def read_whole(path: str, most: int | None) -> bytes:
    """Return a file's bytes.

    Raises:
        NoFileError: it is a pipe, a socket or a device.
        FormatError: it has more than ``most`` bytes; none of them has been read.
    """

    def opener(path: str, _: int) -> int:
        return open_regular(path, _READING, most)

    with io.FileIO(path, opener=opener) as file:
        return file.readall()


def open_to_read(path: str) -> BinaryIO:
    """Open a file for random access; errors as of `read_whole`."""
    return io.BufferedReader(io.FileIO(path, opener=lambda path, _: open_regular(path, _READING)))


def open_regular(path: str, flags: int, most: int | None = None) -> int:
    """Return the descriptor of a regular file, made with these flags if there is none yet."""
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NoFileError(f"'{path}' is a link, expected a file; remove it") from error
        raise
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(found.st_mode):
            raise NoFileError(f"'{path}' is a pipe, a socket or a device, not a file; remove it")
        if most is not None and found.st_size > most:
            raise FormatError(f"'{path}' has {found.st_size} bytes, over {most}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def describe(entry: os.DirEntry[str]) -> ObjectInfo | None:
    """Describe a file, a link by itself; None for a directory and for what is gone by now."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return None
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return ObjectInfo(entry.name, found.st_size, _instant(found.st_mtime))


def _instant(seconds: float) -> dt.datetime:
    """Return a file's time, or what is nearest to it of the times that the catalog can store."""
    return dt.datetime.fromtimestamp(max(-_FURTHEST, min(seconds, _FURTHEST)), dt.UTC)
