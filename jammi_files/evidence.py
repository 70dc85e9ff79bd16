"""What is known of an input now: its row, its bytes, a newer one of its kind, a resolver's word.

Each question is asked once, however many results have the input. Only an input that is a result is
looked at on disk, and only if asked: one stat and one sidecar each.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from itertools import repeat
from typing import NamedTuple, Protocol

from jammi_files.artifacts import Artifacts
from jammi_files.errors import FormatError, InvalidInputError, NotFoundError
from jammi_files.reasons import (
    CurrentAnchor,
    InputAdvanced,
    InputReason,
    InputSuperseded,
    InputVanished,
    OpenInput,
)
from jammi_files.schema import AnchorKind, ModelTask, ResultTableKind, ResultTableRecord
from jammi_files.scope import Scope, TenantId
from jammi_files.strict_json import canonical_json
from jammi_files.timestamps import parse_instant

Resolver = Callable[[str], "str | int | dt.datetime | CurrentAnchor | None"]
"""Takes a source and returns its present version; None if it cannot tell."""

Resolvers = Mapping[AnchorKind, Resolver] | Mapping[str, Resolver]
"""Resolvers by the kind of anchor that they decide."""

READY = "ready"
UNREADABLE = "unreadable"
"""The status, here, of a row that holds values which this version does not know (`B037`)."""


class Pin(NamedTuple):
    """An anchor as stored; its kind may be one that this version does not know."""

    source: str
    anchor: str
    kind: str


class Known(NamedTuple):
    """What freshness needs of a row; ``age`` orders rows, ``shape`` and ``logical`` group them."""

    table_name: str
    status: str
    tenant_id: str | None
    age: tuple[int | str, str]
    definition_hash: str | None
    logical: tuple[str, str, str, str]
    shape: tuple[object, ...]
    parquet_path: str
    pins: tuple[Pin, ...] | None

    @property
    def is_attested(self) -> bool:
        """True if the row carries a contract (`B232`)."""
        return self.definition_hash is not None and self.pins is not None


class Rows(Protocol):
    """The visible rows of one version."""

    def get(self, table_name: str) -> Known | None:
        """Return the row of that name in any status."""

    def siblings(self, known: Known) -> Iterable[Known]:
        """Return the ready rows with the same ``logical`` part, the row itself among them."""


def parents(rows: Rows, known: Known) -> list[Known]:
    """Return the ready results that a result was made from, in anchor order."""
    sources = (pin.source for pin in known.pins or () if pin.kind == AnchorKind.RESULT_DIGEST)
    found = (rows.get(source) for source in sources)
    return [parent for parent in found if parent is not None and parent.status == READY]


class Found(NamedTuple):
    """What lies on disk of one result; ``descriptor`` is canonical JSON."""

    exists: bool
    digest: str | None = None
    descriptor: bytes | None = None


def look(artifacts: Artifacts, known: Known) -> Found:
    """Look at a result on disk: its digest by its sidecar, by its bytes if that is gone (`B215`).

    A damaged sidecar is no better than none. A function of its own, for executors of processes.
    """
    record = _place(known)
    if not artifacts.exists(record):
        return Found(exists=False)
    try:
        sidecar = artifacts.read_sidecar(record)
    except FormatError:
        sidecar = None
    if sidecar is None:
        digest = artifacts.digest(record)
        return Found(digest is not None, digest)
    return Found(True, sidecar.artifact, canonical_json(sidecar.descriptor.to_dict()))


class Evidence:
    """Answers about the inputs of results at one version, each found once."""

    def __init__(
        self, rows: Rows, resolvers: Resolvers | None, artifacts: Artifacts | None
    ) -> None:
        """Take what to ask; without ``artifacts`` nothing is looked at on disk."""
        self._rows = rows
        self._resolvers = checked_resolvers(resolvers)
        self._artifacts = artifacts
        self._found: dict[str, Found] = {}
        self._parents: dict[str, CurrentAnchor | None] = {}
        self._versions: dict[tuple[str, str], CurrentAnchor] = {}
        self._groups: dict[tuple[str, ...], _Group] = {}

    def look_at(self, parents: Iterable[Known], executor: Executor | None) -> None:
        """Look at these results on disk, all at once on an executor; nothing if not asked to."""
        if self._artifacts is None or executor is None:
            return
        wanted = list(parents)
        found = executor.map(look, repeat(self._artifacts), wanted, chunksize=64)
        self._found.update(zip((known.table_name for known in wanted), found, strict=True))

    def judge(self, judged: Known, pin: Pin) -> InputReason | OpenInput | None:
        """Say what is wrong with one input of a result; None if nothing is."""
        if pin.kind != AnchorKind.RESULT_DIGEST:
            return self._judge_version(pin)
        now = self._parent(pin.source)
        if now is not None:
            if now.is_vanished:
                return InputVanished(pin.source, now.why)
            if now.value != pin.anchor:
                return InputAdvanced(pin.source, pin.anchor, str(now.value))
        newer = self._newer(pin.source, judged)
        return None if newer is None else InputSuperseded(pin.source, newer)

    def _judge_version(self, pin: Pin) -> InputReason | OpenInput | None:
        key = (pin.kind, pin.source)
        if key not in self._versions:
            self._versions[key] = self._resolve(*key)
        now = self._versions[key]
        if now.is_vanished:
            return InputVanished(pin.source, now.why)
        if now.value is None:
            return OpenInput(pin.source, pin.kind)
        if now.value == pin.anchor or _not_since(pin, now.value):
            return None
        return InputAdvanced(pin.source, pin.anchor, now.value)

    def _parent(self, name: str) -> CurrentAnchor | None:
        """Return the state of a result; None if it is ready and its bytes are not to be seen."""
        if name not in self._parents:
            self._parents[name] = self._find_parent(name)
        return self._parents[name]

    def _find_parent(self, name: str) -> CurrentAnchor | None:
        known = self._rows.get(name)
        if known is None:
            return CurrentAnchor.vanished("there is no such result here")
        if known.status != READY:
            return CurrentAnchor.vanished(f"its row is {known.status}")
        if self._artifacts is None:
            return None
        found = self._on_disk(known)
        if not found.exists or found.digest is None:
            return CurrentAnchor.vanished("its row is ready, but its bytes are gone")
        return CurrentAnchor.at(AnchorKind.RESULT_DIGEST, found.digest)

    def _on_disk(self, known: Known) -> Found:
        assert self._artifacts is not None  # noqa: S101 - asked only where disk may be looked at
        if known.table_name not in self._found:
            self._found[known.table_name] = look(self._artifacts, known)
        return self._found[known.table_name]

    def _resolve(self, kind: str, source: str) -> CurrentAnchor:
        resolver = self._resolvers.get(kind)
        if resolver is None:
            return CurrentAnchor.undecidable()
        try:
            answer = resolver(source)
        except (NotFoundError, FileNotFoundError) as error:
            return CurrentAnchor.vanished(str(error))
        if answer is None:
            return CurrentAnchor.undecidable()
        if isinstance(answer, CurrentAnchor):
            return answer
        return CurrentAnchor.at(AnchorKind(kind), _version_text(kind, source, answer))

    def _newer(self, name: str, judged: Known) -> str | None:
        known = self._rows.get(name)
        if known is None or not known.is_attested:
            return None
        group = self._groups.get(known.logical)
        if group is None:
            look_at = None if self._artifacts is None else self._on_disk
            group = self._groups[known.logical] = _Group(self._rows, known, look_at)
        return group.newer(known, judged)


class _Group:
    """The ready results of one source, kind, task and model, by descriptor, newest first.

    Rows do not hold the descriptor. Equal definition hashes mean equal descriptors; of unequal ones
    (another engine, device or model file) the sidecars decide, one read per hash, if disk may be
    looked at and the columns that a descriptor decides are equal too.
    """

    def __init__(self, rows: Rows, known: Known, look_at: Callable[[Known], Found] | None) -> None:
        self._rows = rows
        siblings = [each for each in rows.siblings(known) if each.is_attested]
        self._identity = _descriptors(siblings, look_at) if look_at else {}
        self._members: dict[object, list[Known]] = {}
        for each in sorted(siblings, key=_age, reverse=True):
            self._members.setdefault(self._of(each), []).append(each)
        self._floor = min((each.age for each in siblings), default=known.age)
        self._heads: dict[tuple[object, str | None], list[Known]] = {}
        self._above: dict[str, set[str]] = {}

    def newer(self, known: Known, judged: Known) -> str | None:
        """Return the newest of the output of ``known`` that ``judged`` could be made from instead.

        It is one that the owner of ``judged`` sees, and that does not derive from ``judged``: an
        increment derives from what it replaces, and that does not make its own parts stale.
        """
        identity = self._of(known)
        if self._members[identity][0] is known:
            return None
        for head in self._newest(identity, judged.tenant_id):
            if head.age <= known.age:
                return None
            if judged.table_name not in self._ancestors(head):
                return head.table_name
        return None

    def _newest(self, identity: object, owner: str | None) -> list[Known]:
        """Return the results of an output from which no other of them derives, newest first."""
        key = (identity, owner)
        if key not in self._heads:
            scope = Scope(None if owner is None else TenantId(owner))
            seen: set[str] = set()
            self._heads[key] = []
            for each in self._members[identity]:
                if scope.sees(each.tenant_id) and each.table_name not in seen:
                    self._heads[key].append(each)
                    self._climb(each, seen)
        return self._heads[key]

    def _ancestors(self, head: Known) -> set[str]:
        if head.table_name not in self._above:
            self._above[head.table_name] = self._climb(head, set())
        return self._above[head.table_name]

    def _climb(self, start: Known, seen: set[str]) -> set[str]:
        """Add to ``seen`` a result and its ancestors as far as they are younger than the group."""
        seen.add(start.table_name)
        waiting = [start]
        while waiting:
            for parent in parents(self._rows, waiting.pop()):
                if parent.table_name not in seen and parent.age >= self._floor:
                    seen.add(parent.table_name)
                    waiting.append(parent)
        return seen

    def _of(self, known: Known) -> object:
        return self._identity.get(known.definition_hash, known.definition_hash)


def _descriptors(
    members: list[Known], look_at: Callable[[Known], Found]
) -> dict[str | None, bytes]:
    """Return the descriptor of each definition hash that could share one with another hash."""
    shapes: dict[object, dict[str | None, Known]] = {}
    for known in members:
        shapes.setdefault(known.shape, {}).setdefault(known.definition_hash, known)
    found: dict[str | None, bytes] = {}
    for by_hash in shapes.values():
        for hashed, known in by_hash.items():
            if len(by_hash) > 1 and hashed not in found:
                descriptor = look_at(known).descriptor
                if descriptor is not None:
                    found[hashed] = descriptor
    return found


def checked_resolvers(resolvers: Resolvers | None) -> dict[str, Resolver]:
    """Return resolvers by stored kind.

    Raises:
        InvalidInputError: an unknown kind, ``result_digest``, or a value that is no callable.
    """
    checked: dict[str, Resolver] = {}
    for kind, resolver in (resolvers or {}).items():
        parsed = AnchorKind.parse(kind)
        if parsed is AnchorKind.RESULT_DIGEST:
            raise InvalidInputError("result_digest inputs are looked up here; give no resolver")
        if not callable(resolver):
            raise InvalidInputError(f"the resolver of {kind} must be callable, not {resolver!r}")
        checked[parsed.value] = resolver
    return checked


def _not_since(pin: Pin, changed_at: str) -> bool:
    """Say whether a source without versions last changed before it was read."""
    if pin.kind != AnchorKind.UNPINNED_AT_INSTANT:
        return False
    try:
        read_at = parse_instant(pin.anchor)
    except InvalidInputError:  # an instant that another program wrote in another form
        return False
    return parse_instant(changed_at) <= read_at


def _version_text(kind: str, source: str, answer: str | int | dt.datetime) -> str:
    if kind == AnchorKind.UNPINNED_AT_INSTANT and isinstance(answer, (str, dt.datetime)):
        parse_instant(answer)
        return answer if isinstance(answer, str) else answer.astimezone(dt.UTC).isoformat()
    if isinstance(answer, str) or (isinstance(answer, int) and not isinstance(answer, bool)):
        return str(answer)
    raise InvalidInputError(f"the resolver of {kind} returned {answer!r} for '{source}'")


def _age(known: Known) -> tuple[int | str, str]:
    return known.age


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
