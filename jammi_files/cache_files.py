"""Copies of immutable objects in one private directory: bounded in bytes, shared by processes.

An entry is the object's bytes, a SHA-256 of every block of 64 KiB, and a trailer that binds those
to the entry's name; what is read has been checked, so a damaged, cut off or misplaced file is a
miss and never an answer. An entry appears whole (temporary file, rename) and its file stays open
for whoever reads it when it is evicted. There is no state but the directory, so nothing is left to
repair after a fork or a kill, and nothing here raises: a directory that cannot be used is no cache.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from typing import BinaryIO, Self

from jammi_files import events
from jammi_files.events import Event
from jammi_files.positioned import Positioned
from jammi_files.storage import TEMP_SUFFIX

_BLOCK = 1 << 16
_DIGEST_BYTES = 32
_TRAILER = struct.Struct("<8sQ32s")
_MAGIC = b"jammi c1"
_ENTRY = re.compile(rf"[0-9a-f]{{64}}(\.[0-9a-f]{{8}}{re.escape(TEMP_SUFFIX)})?", re.ASCII)

_SLACK = 16
"""The part of the bound that may be added between two looks at the whole directory."""
_PAGE = 4096
_PAUSE_SECONDS = 300.0
"""How long nothing is stored after the directory refused a write: the disk may have room again."""

IS_SUPPORTED = hasattr(os, "geteuid") and hasattr(os, "O_NOFOLLOW")


class _DamageError(Exception):
    """An entry that is not what was stored."""


class CacheFiles:
    """The entries under one directory, by name: 64 hexadecimal digits."""

    def __init__(self, directory: str, max_bytes: int) -> None:
        self.directory = os.path.abspath(directory)
        self.max_bytes = max_bytes
        self._silent_until = float("-inf")
        self._complained = False

    def read(self, name: str) -> bytes | None:
        """Return the whole entry, None if there is no sound one."""
        entry = self._find(name)
        if entry is None:
            return None
        try:
            with entry:
                return entry.read_at(0, entry.length)
        except (OSError, _DamageError) as error:
            self._distrust(name, error)
            return None

    def open(self, name: str, fallback: Callable[[], BinaryIO]) -> BinaryIO | None:
        """Open an entry for random access, None if there is no sound one.

        Should a part of it turn out to be damaged, reading goes on in what ``fallback`` opens.
        """
        entry = self._find(name)
        if entry is None:
            return None

        def instead(error: Exception) -> BinaryIO:
            self._distrust(name, error)
            return fallback()

        return _CheckedFile(entry, instead)  # type: ignore[return-value]  # all that is asked of it

    def put(self, name: str, data: bytes) -> None:
        """Store an entry, and evict what was used longest ago if the directory grows too large."""
        size = len(data) + -(-len(data) // _BLOCK) * _DIGEST_BYTES + _TRAILER.size
        if size > self._target or time.monotonic() < self._silent_until:
            return
        blocks = (data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK))
        digests = b"".join(map(_digest, blocks))
        tail = digests + _TRAILER.pack(_MAGIC, len(data), _bind(name, len(data), digests))
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            with self._opened() as directory:
                self._write(directory, name, (data, tail))
                if self._is_due(directory, size):
                    self._evict(directory)
        except OSError as error:
            self._silent_until = time.monotonic() + _PAUSE_SECONDS
            self._complain(error)

    def drop(self, name: str) -> bool:
        """Remove an entry; False if there was none."""
        with contextlib.suppress(OSError), self._opened() as directory:
            os.unlink(name, dir_fd=directory)
            return True
        return False

    @property
    def _target(self) -> int:
        """What an eviction leaves, so that the bound holds until the next one."""
        return self.max_bytes - self.max_bytes // _SLACK

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the directory if nobody else can read or write it; all access goes through it."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.directory, flags)
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                words = "others may look into it; give it to this user and 'chmod 700' it"
                raise PermissionError(errno.EACCES, words, self.directory)
            yield descriptor
        finally:
            os.close(descriptor)

    def _find(self, name: str) -> _Entry | None:
        """Open a sound entry and note its use."""
        try:
            with self._opened() as directory:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(name, flags, dir_fd=directory)
            entry = _Entry(descriptor, name)
        except FileNotFoundError:
            return None
        except _DamageError as error:
            self._distrust(name, error)
            return None
        except OSError as error:
            self._complain(error)
            return None
        now = time.time_ns()
        with contextlib.suppress(OSError):  # where nothing can be written, nothing is evicted
            os.utime(descriptor, ns=(now, now))
        return entry

    def _write(self, directory: int, name: str, parts: tuple[bytes, bytes]) -> None:
        temp = f"{name}.{uuid.uuid4().hex[:8]}{TEMP_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            # Not synced: what a crash of the machine tears, the digests find.
            with open(os.open(temp, flags, 0o600, dir_fd=directory), "wb") as file:
                file.writelines(parts)
                now = time.time_ns()  # the system's own stamp may be older than the last use's
                os.utime(file.fileno(), ns=(now, now))
            with contextlib.suppress(FileNotFoundError):  # evicted by another process already
                os.rename(temp, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temp, dir_fd=directory)
            raise

    def _is_due(self, directory: int, size: int) -> bool:
        """Count what all processes add, after it is there; say whether it is time to look.

        The length of one file is the count, a byte for each page: appending to it is atomic. It is
        named after the bound, so whoever comes with a new bound looks at once.
        """
        name = f"added.{self.max_bytes}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            ledger = os.open(name, flags, dir_fd=directory)
        except FileNotFoundError:
            os.close(os.open(name, flags | os.O_CREAT, 0o600, dir_fd=directory))
            return True
        try:
            os.write(ledger, bytes(size // _PAGE + 1))
            if os.fstat(ledger).st_size * _PAGE < self.max_bytes // _SLACK:
                return False
            os.ftruncate(ledger, 0)  # first: what comes while the directory is listed counts anew
        finally:
            os.close(ledger)
        return True

    def _evict(self, directory: int) -> None:
        """Remove what was used longest ago, left-over temporary files among it."""
        found: list[tuple[int, int, str]] = []
        with os.scandir(directory) as entries:
            for each in entries:
                if _ENTRY.fullmatch(each.name):
                    with contextlib.suppress(FileNotFoundError):
                        known = each.stat(follow_symlinks=False)
                        found.append((known.st_mtime_ns, known.st_size, each.name))
        total = sum(size for _, size, _ in found)
        for _, size, name in sorted(found):
            if total <= self._target:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            total -= size

    def _distrust(self, name: str, error: Exception) -> None:
        text = "left out the cached object '%s/%s': %s"
        events.info(Event.DROPPED, text, self.directory, name, error)
        self.drop(name)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            text = "'%s' cannot be used as a cache: %s"
            events.warn(Event.NOT_CACHED, text, self.directory, error)


class _Entry:
    """An open entry; every byte that it gives has been checked."""

    def __init__(self, descriptor: int, name: str) -> None:
        """Take over the descriptor, to be closed also if this is no sound entry."""
        self._descriptor: int | None = descriptor
        try:
            found = os.fstat(descriptor)
            size = found.st_size if stat.S_ISREG(found.st_mode) else 0
            magic, self.length, bound = _TRAILER.unpack(
                self._exactly(size - _TRAILER.size, _TRAILER.size)
            )
            blocks = -(-self.length // _BLOCK)
            if magic != _MAGIC or self.length + blocks * _DIGEST_BYTES + _TRAILER.size != size:
                raise _DamageError("it is cut off, or no entry")
            self._digests = self._exactly(self.length, blocks * _DIGEST_BYTES)
            if _bind(name, self.length, self._digests) != bound:
                raise _DamageError("it is not the entry of this name")
        except BaseException:
            self.close()
            raise

    def read_at(self, start: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``start``."""
        end = min(start + size, self.length)
        if start >= end:
            return b""
        first, last = start // _BLOCK, -(-end // _BLOCK)
        at = first * _BLOCK
        data = self._exactly(at, min(last * _BLOCK, self.length) - at)
        for block in range(first, last):
            offset = block * _BLOCK - at
            digest = self._digests[block * _DIGEST_BYTES : (block + 1) * _DIGEST_BYTES]
            if _digest(memoryview(data)[offset : offset + _BLOCK]) != digest:
                raise _DamageError(f"block {block} is damaged")
        return data if len(data) == end - start else data[start - at : end - at]

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exactly(self, start: int, size: int) -> bytes:
        """Read at a place; the file's own position, which a fork shares, is not used."""
        if self._descriptor is None:
            raise ValueError("read of a closed file")
        parts, left = [], size
        while left and start >= 0:
            part = os.pread(self._descriptor, left, start)
            if not part:
                break
            parts.append(part)
            start, left = start + len(part), left - len(part)
        if left:
            raise _DamageError("it is cut off")
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _CheckedFile(Positioned):
    """An entry as a file; from the first damage on, the object itself."""

    def __init__(self, entry: _Entry, instead: Callable[[Exception], BinaryIO]) -> None:
        super().__init__(entry.length)
        self._entry, self._instead = entry, instead
        self._other: BinaryIO | None = None

    def read_at(self, start: int, size: int) -> bytes:
        if self._other is None:
            try:
                return self._entry.read_at(start, size)
            except (OSError, _DamageError) as error:
                self._other = self._instead(error)
        self._other.seek(start)
        return self._other.read(size)

    def close(self) -> None:
        self._entry.close()
        if self._other is not None:
            self._other.close()
        super().close()


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def _bind(name: str, length: int, digests: bytes) -> bytes:
    return _digest(f"{name} {length} ".encode() + digests)
