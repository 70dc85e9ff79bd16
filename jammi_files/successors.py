"""What was made again: the results of one output, and the newest that could replace one as input.

Results of one source, kind, task and model are of one output if their descriptors are equal, in
whatever environment they were produced. All questions about one snapshot are answered together:
each asks whether a newer result descends from the one that is judged, and `descent` answers
thousands of these in one walk.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

from jammi_files.disk import Disk
from jammi_files.known import Known
from jammi_files.known_rows import Rows
from jammi_files.scope import Scope, TenantId

DEFINITIONS = 64
"""Rows without descriptor digest whose sidecars are read for it, for each shape of a group."""

FIRST_CHUNK = 8
"""The newest results of an output that are tried first; four times as many each time after."""

BLOCK_BITS = 4096
"""Results that one walk tells apart: bounds the memory of a walk at 512 bytes for each row."""


class Question(NamedTuple):
    """A result that has a newer one of its output, and what was made from it."""

    known: Known
    made_from_it: list[Known]


class Outputs:
    """The ready results by output, newest last, as far as anybody asks for one of them."""

    def __init__(self, rows: Rows, disk: Disk | None) -> None:
        self._rows, self._disk = rows, disk
        self._groups: dict[tuple[str, ...], _Group] = {}

    def is_newest(self, known: Known) -> bool:
        """Say whether there is nothing newer of the output of a result, for anybody."""
        members = self._members(known)
        return not members or members[-1].age <= known.age

    def newer(self, questions: Iterable[Question]) -> dict[tuple[str, str], str]:
        """Return the newest result that something could be made from instead.

        The keys are the names of what it was made from and of itself; where there is no such
        result there is no key. It is one that the owner sees, whose bytes are there (if they may be
        looked at), which does not descend from what is judged and from which no other of its output
        descends: an increment descends from what it replaces, and that does not make its own parts
        stale.
        """
        searches = list(self._searches(questions))
        found: dict[tuple[str, str], str] = {}
        size = FIRST_CHUNK
        while searches:
            for search in searches:
                search.take(size)
            descent = self._rows.descent(each for search in searches for each in search.chunk)
            for block in _blocks(searches):
                marks = descent.spread(dict(_bits(block)))
                shift = 0
                for search in block:
                    found.update(search.settle(marks, shift, self._is_usable))
                    shift += len(search.chunk)
            searches = [search for search in searches if search.is_open]
            size = min(4 * size, BLOCK_BITS)
        return found

    def _searches(self, questions: Iterable[Question]) -> Iterator[_Search]:
        asked: dict[int, tuple[list[Known], list[Question]]] = {}
        for question in questions:
            members = self._members(question.known)
            asked.setdefault(id(members), (members, []))[1].append(question)
        for members, about in asked.values():
            oldest = min(question.known.age for question in about)
            yield _Search(members[_position_after(members, oldest) :], about)

    def _is_usable(self, known: Known) -> bool:
        return self._disk is None or self._disk.is_usable(known)

    def _members(self, known: Known) -> list[Known]:
        group = self._groups.get(known.logical)
        if group is None:
            group = self._groups[known.logical] = _Group(self._rows.siblings(known), self._disk)
        return group.members(known)


class _Group:
    """The ready results of one source, kind, task and model, by output, oldest first."""

    def __init__(self, siblings: Iterable[Known], disk: Disk | None) -> None:
        self._disk = disk
        attested = sorted((each for each in siblings if each.is_attested), key=_age)
        digests = _descriptors(attested, disk)
        self._of_output: dict[str | None, list[Known]] = {}
        self._of_member: dict[str, list[Known]] = {}
        self._unknown: set[str] = set()
        for each in attested:
            hashed = each.definition_hash
            output = each.descriptor_digest or digests.get(hashed)
            if output is None:
                self._unknown.add(each.table_name)
            members = self._of_output.setdefault(output or hashed, [])
            members.append(each)
            self._of_member[each.table_name] = members

    def members(self, known: Known) -> list[Known]:
        """Return the results of the output of one, which may be older than `DEFINITIONS` others."""
        members = self._of_member.get(known.table_name, [])
        if known.table_name in self._unknown and self._disk and len(self._of_output) > 1:
            return self._of_output.get(self._disk.descriptor(known), members)
        return members


class _Search:
    """What was asked about one output, and those of its results that were not looked at yet."""

    def __init__(self, members: list[Known], questions: list[Question]) -> None:
        self._members = members
        self._questions = questions
        self._replaced: dict[str | None, set[str]] = {}
        self.chunk: list[Known] = []

    @property
    def is_open(self) -> bool:
        """True while a question is left, and a result that may answer it."""
        return bool(self._questions and self._members)

    def take(self, size: int) -> None:
        """Take the newest results that are left as the next to look at."""
        self.chunk, self._members = self._members[-size:], self._members[:-size]

    def settle(
        self, marks: Callable[[str], int], shift: int, is_usable: Callable[[Known], bool]
    ) -> Iterator[tuple[tuple[str, str], str]]:
        """Yield the answers that the chunk gives; bit 0 of its oldest is bit ``shift`` of marks."""
        whole = (1 << len(self.chunk)) - 1

        def descendants(name: str) -> int:
            return (marks(name) >> shift) & whole

        @cache
        def newest(fit: int) -> str | None:
            found = (each for each in _newest_first(self.chunk, fit) if is_usable(each))
            return next((each.table_name for each in found), None)

        heads = {owner: self._heads(owner, descendants) for owner in self._owners()}
        questions, self._questions = self._questions, []
        for known, made_from_it in questions:
            first = _position_after(self.chunk, known.age)
            later = whole >> first << first
            left: list[Known] = []
            for judged in made_from_it:
                name = judged.table_name
                answer = newest(heads[judged.tenant_id] & later & ~descendants(name))
                if answer is not None:
                    yield (known.table_name, name), answer
                elif not first:  # all of the chunk is newer, so what comes before it may be too
                    left.append(judged)
            if left:
                self._questions.append(Question(known, left))
        self._leave_out(descendants)

    def _owners(self) -> set[str | None]:
        return {each.tenant_id for question in self._questions for each in question.made_from_it}

    def _heads(self, owner: str | None, descendants: Callable[[str], int]) -> int:
        """Return which of the chunk an owner sees and no other that it sees descends from."""
        visible = self._visible(owner)
        replaced = self._replaced.get(owner, ())
        heads = 0
        for position, each in enumerate(self.chunk):
            bit = 1 << position
            is_head = not descendants(each.table_name) & visible & ~bit
            if visible & bit and is_head and each.table_name not in replaced:
                heads |= bit
        return heads

    def _visible(self, owner: str | None) -> int:
        scope = Scope(None if owner is None else TenantId(owner))
        seen = (scope.sees(each.tenant_id) << at for at, each in enumerate(self.chunk))
        return sum(seen)

    def _leave_out(self, descendants: Callable[[str], int]) -> None:
        """Drop what every owner who still asks sees replaced by a result of the chunk."""
        if not self.is_open:
            return
        for owner in self._owners():
            visible = self._visible(owner)
            replaced = self._replaced.setdefault(owner, set())
            replaced.update(
                each.table_name for each in self._members if descendants(each.table_name) & visible
            )
        everywhere = set.intersection(*(self._replaced[owner] for owner in self._owners()))
        self._members = [each for each in self._members if each.table_name not in everywhere]


def _descriptors(attested: Sequence[Known], disk: Disk | None) -> dict[str | None, str]:
    """Return the descriptor's digest of each definition hash that could share it with another.

    Rows say it of their own hash. Of the others the sidecars are asked, newest first, if disk may
    be looked at, and if the columns that a descriptor decides are equal to those of another hash.
    """
    known = {
        each.definition_hash: each.descriptor_digest
        for each in attested
        if each.descriptor_digest is not None
    }
    if disk is None or all(each.definition_hash in known for each in attested):
        return known
    shapes: dict[tuple[object, ...], dict[str | None, Known]] = {}
    for each in reversed(attested):
        shapes.setdefault(each.shape, {}).setdefault(each.definition_hash, each)
    for by_hash in shapes.values():
        unknown = (each for hashed, each in by_hash.items() if hashed not in known)
        for each in islice(unknown, DEFINITIONS if len(by_hash) > 1 else 0):
            digest = disk.descriptor(each)
            if digest is not None:
                known[each.definition_hash] = digest
    return known


def _blocks(searches: Sequence[_Search]) -> Iterator[list[_Search]]:
    """Yield searches in groups whose chunks have at most `BLOCK_BITS` results together."""
    block: list[_Search] = []
    bits = 0
    for search in searches:
        if block and bits + len(search.chunk) > BLOCK_BITS:
            yield block
            block, bits = [], 0
        block.append(search)
        bits += len(search.chunk)
    yield block


def _bits(block: Iterable[_Search]) -> Iterator[tuple[str, int]]:
    everything = (each for search in block for each in search.chunk)
    for position, each in enumerate(everything):
        yield each.table_name, 1 << position


def _newest_first(chunk: Sequence[Known], fit: int) -> Iterator[Known]:
    while fit:
        position = fit.bit_length() - 1
        yield chunk[position]
        fit ^= 1 << position


def _position_after(members: Sequence[Known], age: tuple[int, str]) -> int:
    return bisect_right(members, age, key=_age)


def _age(known: Known) -> tuple[int, str]:
    return known.age
