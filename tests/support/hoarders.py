"""What the processes of the object-cache tests do; importable by a spawned interpreter."""

from __future__ import annotations

import hashlib
import itertools
import random

from jammi_files.cache_files import CacheFiles
from jammi_files.object_cache import CachedStorage


def name_of(number: int) -> str:
    """Return the name of one of the entries that all processes know."""
    return hashlib.sha256(f"entry {number}".encode()).hexdigest()


def body_of(number: int) -> bytes:
    """Return what that entry holds: a little more or less than some blocks."""
    return random.Random(number).randbytes(1000 + 40_000 * (number % 4) + number)


def hammer(directory: str, bound: int, seed: int, rounds: int) -> tuple[int, int]:
    """Read, open, store and drop entries at random; return the hits, and how many were wrong."""
    files, chance = CacheFiles(directory, bound), random.Random(seed)
    hits = wrong = 0
    for _ in range(rounds):
        number = chance.randrange(12)
        name, body = name_of(number), body_of(number)
        found = files.read(name) if chance.random() < 0.7 else _opened(files, name, body, chance)
        if found is None:
            files.put(name, body)
            if chance.random() < 0.05:
                files.drop(name)
        else:
            hits += 1
            wrong += found not in body
    return hits, wrong


def _opened(files: CacheFiles, name: str, body: bytes, chance: random.Random) -> bytes | None:
    at, size = chance.randrange(len(body)), chance.randrange(1, len(body))

    def never() -> None:
        raise AssertionError("an entry was damaged")

    file = files.open(name, never)  # type: ignore[arg-type]  # it opens nothing
    if file is None:
        return None
    with file:
        file.seek(at)
        part = file.read(size)
    return part if len(part) == min(size, len(body) - at) else b"cut off"


def store_for_ever(directory: str, bound: int) -> None:
    """Store entries until somebody kills this process."""
    files = CacheFiles(directory, bound)
    for number in itertools.count():
        files.put(name_of(number % 6), body_of(number % 6) * 10)


def read_all(storage: CachedStorage, keys: list[str]) -> list[bytes]:
    """Read objects through a storage that came from another process."""
    return [storage.read(key) for key in keys]
