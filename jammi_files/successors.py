"""What was made after what: the results of one output, and the newest that could replace one."""

from __future__ import annotations

from itertools import islice

from jammi_files.known import Disk, Known, Rows, parents
from jammi_files.scope import Scope, TenantId

DEFINITIONS = 64
"""Definitions of one source, kind, task and model whose descriptors are compared, newest first."""


class Siblings:
    """The ready results of one source, kind, task and model, by descriptor, newest first.

    Rows do not hold the descriptor. Equal definition hashes mean equal descriptors; of unequal ones
    (another engine, device or model file) the sidecars decide, one read per hash, if disk may be
    looked at and the columns that a descriptor decides are equal too.
    """

    def __init__(self, rows: Rows, known: Known, disk: Disk | None) -> None:
        self._rows, self._disk = rows, disk
        siblings = [each for each in rows.siblings(known) if each.is_attested]
        siblings.sort(key=_age, reverse=True)
        self._identity = {} if disk is None else _descriptors(siblings, disk)
        self._members: dict[object, list[Known]] = {}
        for each in siblings:
            self._members.setdefault(self._of(each), []).append(each)
        self._floor = min((each.age for each in siblings), default=known.age)
        self._heads: dict[tuple[object, str | None], list[Known]] = {}
        self._above: dict[str, set[str]] = {}

    def newer(self, known: Known, judged: Known) -> str | None:
        """Return the newest of the output of ``known`` that ``judged`` could be made from instead.

        It is one that the owner of ``judged`` sees, whose bytes are there (if they may be looked
        at), and that does not derive from ``judged``: an increment derives from what it replaces,
        and that does not make its own parts stale.
        """
        for head in self._newest(self._output(known), judged.tenant_id):
            if head.age <= known.age:
                return None
            if judged.table_name not in self._ancestors(head) and self._is_there(head):
                return head.table_name
        return None

    def is_newest(self, known: Known) -> bool:
        """Say whether there is nothing newer of the output for anybody."""
        return self._members[self._output(known)][0] is known

    def _is_there(self, head: Known) -> bool:
        return self._disk is None or self._disk.digest(head) is not None

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

    def _output(self, known: Known) -> object:
        """Return what its members are listed by, also for one older than `DEFINITIONS` others."""
        if (
            self._disk is not None
            and self._identity
            and known.definition_hash not in self._identity
        ):
            descriptor = self._disk.descriptor(known)
            if descriptor in self._members:
                return descriptor
        return self._of(known)


def _descriptors(siblings: list[Known], disk: Disk) -> dict[str | None, bytes]:
    """Return the descriptor of each definition hash that could share one with another hash."""
    shapes: dict[object, dict[str | None, Known]] = {}
    for known in siblings:
        shapes.setdefault(known.shape, {}).setdefault(known.definition_hash, known)
    found: dict[str | None, bytes] = {}
    for by_hash in shapes.values():
        for hashed, known in islice(by_hash.items(), DEFINITIONS if len(by_hash) > 1 else 0):
            descriptor = disk.descriptor(known)
            if descriptor is not None:
                found[hashed] = descriptor
    return found


def _age(known: Known) -> tuple[int | str, str]:
    return known.age
