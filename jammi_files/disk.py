"""What lies on disk of results: each looked at once, and no further than the caller asked.

A row says which bytes its result has and how they were made, so a look is for what a row cannot
know: whether they are still there and still the same. Rows from before the digest columns, and
rows that were promoted without them, are answered for by their sidecars.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Literal, NamedTuple, TypeAlias, get_args

from jammi_files.artifacts import Artifacts
from jammi_files.errors import FormatError, InvalidInputError
from jammi_files.known import Known
from jammi_files.materialization import MaterializationManifest
from jammi_files.parts import Progress, Workers
from jammi_files.schema import ModelTask, ResultTableKind, ResultTableRecord
from jammi_files.storage import READERS

Check = Literal["exists", "sidecar", "size", "digest"]

CheckBytes: TypeAlias = bool | Check
"""How far an input's bytes are looked at, once for each distinct input.

False: not at all. ``"exists"``: the data object is there. ``"sidecar"`` or True: and its sidecar
still attests the digest (`B215`). ``"size"``: and the data ends with a footer that counts as many
rows as the row does. ``"digest"``: all bytes are read, and their own digest is compared.
"""

OBJECTS_PER_ROW = 4
"""Objects of one result in a root, with index files: how long a listing is expected to be."""

NAMES_PER_REQUEST = 1000
"""Names that one request of a listing returns, on every object store."""

PART = 16
"""Results that an executor is given at a time, where a look at one is a request or two."""


def parse_check(value: CheckBytes) -> Check | None:
    """Return what ``check_bytes`` asks for, None for nothing.

    Raises:
        InvalidInputError: it is no such value.
    """
    if value is True:
        return "sidecar"
    if value is False:
        return None
    if value in get_args(Check) and isinstance(value, str):
        return value
    choices = ", ".join(repr(each) for each in get_args(Check))
    raise InvalidInputError(f"check_bytes must be True, False or one of {choices}, not {value!r}")


class Found(NamedTuple):
    """What there is of one result: its present digest, or None and why it cannot be had."""

    digest: str | None
    why: str = ""


_Asked: TypeAlias = tuple[Known, bool | None]
"""A result, and whether its data object is there, where that is known already."""

_GONE = Found(None, "its row is ready, but its bytes are gone")


class Disk:
    """What lies on disk, each object looked at once."""

    def __init__(self, artifacts: Artifacts, check: Check) -> None:
        self._artifacts = artifacts
        self._check = check
        self._found: dict[str, Found] = {}
        self._names: frozenset[str] | None = None
        self._present: dict[str, bool] = {}
        self._descriptors: dict[str, str | None] = {}

    def look_at(
        self,
        wanted: Sequence[Known],
        among: int,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Look at several results of a catalog of ``among`` rows, all at once on an executor.

        In a bucket one listing of the root answers for all that lie there, where that takes fewer
        requests than asking for each.
        """
        if self._names is None and self._should_list(len(wanted), among):
            objects = self._artifacts.storage.list_objects("")
            self._names = frozenset(each.name for each in objects)
        asked: list[_Asked] = []
        for known in wanted:
            is_there = self._is_listed(known)
            if is_there is False:
                self._found[known.table_name] = _GONE
            elif is_there and self._check == "exists" and known.artifact_digest is not None:
                self._found[known.table_name] = Found(known.artifact_digest)
            else:
                asked.append((known, is_there))
        total = len(wanted)
        done = total - len(asked)
        if done and progress is not None:
            progress(done, total)
        for known, found in self._ask(asked, executor):
            self._found[known.table_name] = found
            done += 1
            if progress is not None:
                progress(done, total)

    def find(self, known: Known) -> Found:
        """Return what there is of a result."""
        if known.table_name not in self._found:
            self.look_at([known], 0)
        return self._found[known.table_name]

    def is_usable(self, known: Known) -> bool:
        """Say whether something could be made from this result, as far as the check can tell."""
        if self._check in ("exists", "sidecar") and known.table_name not in self._found:
            return self._exists(known)
        digest = self.find(known).digest
        return digest is not None and known.artifact_digest in (None, digest)

    def descriptor(self, known: Known) -> str | None:
        """Return the digest of how a result was produced; None if nothing readable says so."""
        if known.descriptor_digest is not None:
            return known.descriptor_digest
        name = known.table_name
        if name not in self._descriptors:
            sidecar = _read(self._artifacts, known)
            self._descriptors[name] = None if sidecar is None else sidecar.descriptor_digest
        return self._descriptors[name]

    def _exists(self, known: Known) -> bool:
        name = known.table_name
        if name not in self._present:
            is_there = self._is_listed(known)
            if is_there is None:
                is_there = self._artifacts.exists(_place(known))
            self._present[name] = is_there
        return self._present[name]

    def _is_listed(self, known: Known) -> bool | None:
        """Say what the listing says of a data object; None if there is none of its place."""
        if self._names is None or "/" in known.parquet_path:
            return None
        return known.parquet_path in self._names

    def _should_list(self, wanted: int, among: int) -> bool:
        if self._artifacts.storage.is_locked:  # a stat costs less than a name of a listing
            return False
        return wanted > 1 + among * OBJECTS_PER_ROW // NAMES_PER_REQUEST

    def _ask(
        self, asked: Sequence[_Asked], executor: Executor | None
    ) -> Iterator[tuple[Known, Found]]:
        """Yield what there is of each, in any order."""
        look_at = partial(look_each, self._artifacts, self._check)
        if executor is not None:
            size = 1 if self._check == "digest" else PART  # where all is read, each is much
            some = [asked[start : start + size] for start in range(0, len(asked), size)]
            with Workers(executor) as workers:
                for number, answers in workers.run(look_at, some, doubt=_is_any_gone):
                    yield from zip((known for known, _ in some[number]), answers, strict=True)
        elif len(asked) < 2 or self._artifacts.storage.is_locked:
            yield from ((each[0], look(self._artifacts, self._check, *each)) for each in asked)
        else:
            with ThreadPoolExecutor(min(READERS, len(asked))) as threads:
                singly = threads.map(look_at, ([each] for each in asked))
                for (known, _), (found,) in zip(asked, singly, strict=True):
                    yield known, found


def look_each(artifacts: Artifacts, check: Check, asked: Sequence[_Asked]) -> list[Found]:
    """Look at several results, for executors of processes too."""
    return [look(artifacts, check, known, is_there) for known, is_there in asked]


def _is_any_gone(found: Sequence[Found]) -> bool:
    return any(each.digest is None for each in found)


def look(artifacts: Artifacts, check: Check, known: Known, is_there: bool | None) -> Found:  # noqa: FBT001 - half of an `_Asked`
    """Look at a result on disk; ``is_there`` if that is known.

    A damaged sidecar is no better than none: then the bytes are digested (`B215`).
    """
    place = _place(known)
    if check == "digest":
        digest = artifacts.digest(place)
        return _GONE if digest is None else Found(digest)
    if check == "size":
        damage = _find_damage(artifacts, known)
        if damage is not None:
            return damage
    elif not (is_there or artifacts.exists(place)):
        return _GONE
    if check == "exists" and known.artifact_digest is not None:
        return Found(known.artifact_digest)
    sidecar = _read(artifacts, known)
    digest = artifacts.digest(place) if sidecar is None else sidecar.artifact
    return _GONE if digest is None else Found(digest)


def _find_damage(artifacts: Artifacts, known: Known) -> Found | None:
    try:
        rows = artifacts.count_rows(_place(known))
    except FileNotFoundError:
        return _GONE
    except FormatError as error:
        return Found(None, f"its data is damaged: {error}")
    if rows == known.row_count:
        return None
    return Found(None, f"its data has {rows} rows where its row says {known.row_count}")


def _read(artifacts: Artifacts, known: Known) -> MaterializationManifest | None:
    try:
        return artifacts.read_sidecar(_place(known))
    except FormatError:
        return None


def _place(known: Known) -> ResultTableRecord:
    """Return a record that says where a result's objects lie, and nothing else that is true."""
    source, kind, task, model = known.logical
    return ResultTableRecord(
        table_name=known.table_name,
        source_id=source,
        model_id=model,
        task=ModelTask(task),
        kind=ResultTableKind(kind),
        parquet_path=known.parquet_path,
        created_at="",
    )
