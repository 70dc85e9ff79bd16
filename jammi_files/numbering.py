"""The names of versions, and which of them is the newest.

Version N lies at ``<prefix>/<N // 1000, 17 digits>/<N, 20 digits>.parquet``, so two plain listings
find the newest. Names are taken in order and stay taken, so a look at single names does as well.
"""

from __future__ import annotations

import functools
import re

from jammi_files.storage import Storage

PREFIX = "_catalog/manifest"
GROUP = 1000

_GROUP_NAME = re.compile(r"\d{17}", re.ASCII)
_VERSION_NAME = re.compile(r"(\d{20})\.parquet", re.ASCII)


class Numbering:
    """The versions under one storage by their numbers."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._listed: list[int] = []

    def list_ahead(self) -> None:
        """List the groups ahead of the first `newest`, which saves it a round trip."""
        self._listed = self._groups()

    def stride(self, number: int) -> int:
        """Return the newest version, from one on: names are taken in order and stay taken."""
        step = 1
        while self._storage.size(key_of(number + step)) is not None:
            number, step = number + step, step * 2
        while step > 1:
            step //= 2
            if self._storage.size(key_of(number + step)) is not None:
                number += step
        return number

    def newest(self, at_least: int = 0) -> int:
        """Find the newest version by listing: the group of a known one, then the last groups."""
        if at_least:
            newest = self._last_in(at_least // GROUP) or at_least
            if newest % GROUP != GROUP - 1:
                return max(newest, at_least)
        listed, self._listed = self._listed, []
        for group in reversed(listed or self._groups()):  # an empty one is a crash's trace
            if group < at_least // GROUP:
                break
            last = self._last_in(group)
            if last is not None:
                newest = max(last, at_least)
                if listed and newest % GROUP == GROUP - 1:
                    return self.newest(newest)  # a group may have been begun since the listing
                return newest
        return at_least

    def all(self) -> list[int]:
        """Return every version number, ascending, retired ones included."""
        return [number for group in self._groups() for number in self._versions_in(group)]

    def _groups(self) -> list[int]:
        return [int(name) for name in self._storage.list(PREFIX) if _GROUP_NAME.fullmatch(name)]

    def _last_in(self, group: int) -> int | None:
        """Return the last version of a group: all its names are listed, but one is read."""
        names = reversed(self._storage.list(f"{PREFIX}/{group:017d}"))
        return next((int(found[1]) for found in map(_VERSION_NAME.fullmatch, names) if found), None)

    def _versions_in(self, group: int) -> list[int]:
        names = self._storage.list(f"{PREFIX}/{group:017d}")
        return [int(match[1]) for name in names if (match := _VERSION_NAME.fullmatch(name))]


def key_of(version: int) -> str:
    """Return the key of a version's object."""
    return _key(version // GROUP, version)


def number_of(key: str) -> int | None:
    """Return the version whose object has a key, None if no version's has."""
    found = _VERSION_NAME.fullmatch(key.rpartition("/")[2])
    return int(found[1]) if found and key_of(int(found[1])) == key else None


@functools.lru_cache(64)
def _key(group: int, version: int) -> str:
    return f"{PREFIX}/{group:017d}/{version:020d}.parquet"
