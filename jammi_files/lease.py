"""Who builds what: the lease that keeps recovery away from a live build.

The first lease is written with the ``building`` row itself, so no such row is ever without an
owner and creating one costs no second object. Renewals and checkpoints overwrite the side object
``_catalog/builds/<table>.json``: they are cheap and make no catalog version (`B165`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from jammi_files.errors import FormatError
from jammi_files.producer import producer_id
from jammi_files.schema import Lease, ResultTableRecord
from jammi_files.storage import Storage
from jammi_files.timestamps import CLOCK, parse_timestamp
from jammi_files.validation import require_count

BUILDS = "_catalog/builds"
LEASE_SECONDS = 900
"""How long a build may be silent before a process on another machine takes it for dead."""

_MAX_BYTES = 65_536


@dataclasses.dataclass(frozen=True, slots=True)
class BuildState:
    """The side object of one running build."""

    table_name: str
    lease: Lease
    checkpoint: int | None = None

    def to_json_bytes(self) -> bytes:
        """Return the object's bytes."""
        return orjson.dumps(dataclasses.asdict(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json_bytes(cls, key: str, data: bytes) -> BuildState:
        """Read the object's bytes.

        Raises:
            FormatError: they are not what a build writes.
        """
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError(f"{len(data)} bytes are too many")
            fields = orjson.loads(data)
            lease = Lease(**fields["lease"])
            state = cls(fields["table_name"], lease, fields["checkpoint"])
            for text in (state.table_name, lease.owner, lease.host, lease.process_start):
                if not isinstance(text, str):
                    raise TypeError(f"{text!r} is no text")
            for number in (lease.pid, lease.expires_at):
                require_count("pid or expires_at", number)
            if state.checkpoint is not None:
                require_count("checkpoint", state.checkpoint)
        except (ValueError, TypeError, KeyError) as error:
            raise FormatError(f"build state '{key}' is damaged: {error}") from error
        return state


def key_of(table_name: str) -> str:
    """Return the key of a build's side object."""
    return f"{BUILDS}/{table_name}.json"


def name_of(key: str) -> str:
    """Return the table whose side object has that key."""
    return key.removeprefix(f"{BUILDS}/").removesuffix(".json")


def new_lease() -> Lease:
    """Return a lease of this process that runs `LEASE_SECONDS` from now."""
    pid = os.getpid()
    return Lease(
        owner=producer_id(),
        host=_host(pid),
        pid=pid,
        process_start=_own_start(pid),
        expires_at=CLOCK.now() + int(LEASE_SECONDS * 1e9),
    )


def is_mine(lease: Lease | None) -> bool:
    """Say whether this process holds the lease."""
    return lease is not None and lease.owner == producer_id()


def find_death(lease: Lease | None, created_at: int, now: int) -> str | None:
    """Return why a build is dead, or None while it may be alive (`B258`).

    On this host the process decides: a live owner is never dead, however long it has been silent,
    and a gone one is dead at once. Elsewhere, and for a row without lease, time decides: the
    lease's expiry, or `LEASE_SECONDS` after ``created_at``. Instants are nanoseconds.
    """
    if lease is None:
        if now >= created_at + LEASE_SECONDS * 1_000_000_000:
            return f"it has no lease and is older than {LEASE_SECONDS} s"
        return None
    if lease.host == _host(os.getpid()):
        if _is_running(lease):
            return None
        return f"its process {lease.pid} on this host is gone"
    if now >= lease.expires_at:
        return f"its lease expired {(now - lease.expires_at) / 1e9:.0f} s ago"
    return None


def find_build_death(storage: Storage, record: ResultTableRecord) -> str | None:
    """Return why a ``building`` row's build is dead, or None while it may be alive.

    The side object renews the lease of the row's own owner. Where the two name different owners the
    build was taken over: it is dead only if both are, as their clocks need not agree.

    Raises:
        FormatError: the side object is damaged.
    """
    created, now = parse_timestamp(record.created_at), CLOCK.now()
    state, held = read_state(storage, record.table_name), record.lease
    if state is None:
        return find_death(held, created, now)
    death = find_death(state.lease, created, now)
    if held is None or held.owner == state.lease.owner:
        return death
    return death and find_death(held, created, now)


def read_state(storage: Storage, table_name: str) -> BuildState | None:
    """Return a build's side object, None if it has written none.

    Raises:
        FormatError: the object is damaged.
    """
    key = key_of(table_name)
    try:
        return BuildState.from_json_bytes(key, storage.read(key))
    except FileNotFoundError:
        return None


def write_state(storage: Storage, record: ResultTableRecord, checkpoint: int | None) -> None:
    """Renew the lease and record the checkpoint."""
    name = record.table_name
    state = BuildState(name, new_lease(), checkpoint)
    storage.replace(key_of(name), state.to_json_bytes())
    _written[_written_key(storage, name)] = _Written(record.created_at, checkpoint)


def mend_state(storage: Storage, record: ResultTableRecord) -> bool:
    """Replace a build's damaged side object by a lease of `LEASE_SECONDS`; False if it is sound.

    What it said is lost, and who renews a lease may be on any machine: the build is neither ended
    nor kept for ever. The lease is the row's; if its process on this host is gone it is nobody's,
    as another one may have gone on with the build. An owner that lives renews it in either case.
    """
    try:
        read_state(storage, record.table_name)
    except FormatError:
        pass
    else:
        return False
    now = CLOCK.now()
    nobody = Lease(owner="", host="", pid=0, process_start="", expires_at=0)
    expires_at = now + int(LEASE_SECONDS * 1e9)
    held = dataclasses.replace(record.lease or nobody, expires_at=expires_at)
    if find_death(held, now, now) is not None:
        held = dataclasses.replace(nobody, expires_at=expires_at)
    state = BuildState(record.table_name, held)
    storage.replace(key_of(record.table_name), state.to_json_bytes())
    return True


def delete_state(storage: Storage, table_name: str) -> None:
    """Remove the side object of a build that has ended."""
    _written.pop(_written_key(storage, table_name), None)
    storage.delete(key_of(table_name))


def may_have_state(storage: Storage, record: ResultTableRecord) -> bool:
    """Say without I/O whether a build may have a side object: this process knows its own."""
    return not is_mine(record.lease) or _find_written(storage, record) is not None


def last_checkpoint(storage: Storage, record: ResultTableRecord) -> int | None:
    """Return a build's last checkpoint; reads the side object only of another process's build."""
    if is_mine(record.lease):
        written = _find_written(storage, record)
        return None if written is None else written.checkpoint
    return read_checkpoint(storage, record)


def read_checkpoint(storage: Storage, record: ResultTableRecord) -> int | None:
    """Return a build's last checkpoint; reads the side object unless its owner here wrote it.

    A process knows what it wrote by the root as it opened it, and a root may have two paths.
    """
    written = _find_written(storage, record) if is_mine(record.lease) else None
    if written is not None:
        return written.checkpoint
    state = read_state(storage, record.table_name)
    return None if state is None else state.checkpoint


def names_with_state(storage: Storage) -> Iterator[str]:
    """Yield the table names that have a side object."""
    for name in storage.list(BUILDS):
        if name.endswith(".json"):
            yield name.removesuffix(".json")


class _Written(NamedTuple):
    """What this process has last written of a build, which the row's ``created_at`` tells apart."""

    created_at: str
    checkpoint: int | None


# By process id, root and table. A forked child has none.
_written: dict[tuple[int, str, str], _Written] = {}


def _written_key(storage: Storage, table_name: str) -> tuple[int, str, str]:
    return os.getpid(), storage.root, table_name


def _find_written(storage: Storage, record: ResultTableRecord) -> _Written | None:
    """Return what was written of this very build: another process may have freed the name."""
    written = _written.get(_written_key(storage, record.table_name))
    return written if written is not None and written.created_at == record.created_at else None


@functools.lru_cache(maxsize=1)
def _host(pid: int) -> str:
    """Name this boot of this machine and, on Linux, this process namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink(f"/proc/{pid}/ns/pid"))  # noqa: PTH115 - not a path
    return "/".join(parts)


@functools.lru_cache(maxsize=1)
def _own_start(pid: int) -> str:
    return _process_start(pid) or ""


def _process_start(pid: int) -> str | None:
    """Return when the process started, in clock ticks since boot: "" once it has ended.

    None where that is not shown: on no Linux, or of another user's process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, *fields = stat.rpartition(b")")[2].split()
    return "" if state in b"ZX" else fields[18].decode()


def _is_running(lease: Lease) -> bool:
    start = _process_start(lease.pid)
    if start == "":
        return False
    if start and lease.process_start:
        return start == lease.process_start
    try:  # a system may hide the processes of others: `hidepid`, `ProtectProc`
        os.kill(lease.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True
