"""Objects with generations, as Google Cloud Storage keeps them: one lock, so linearizable."""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


class RefusalError(Exception):
    """The store answers with this status instead."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Stored:
    """One object: its bytes and its JSON resource."""

    data: bytes
    resource: dict[str, Any]

    @property
    def generation(self) -> str:
        """The number that changes with every write of the name."""
        return str(self.resource["generation"])


@dataclass(frozen=True)
class Page:
    """One page of a listing; ``following`` is where the next one begins."""

    resources: list[dict[str, Any]]
    prefixes: list[str]
    following: str | None


class Objects:
    """Buckets of objects; each method is one atomic step.

    Raises:
        RefusalError: 404 for what is not there, 409 for a bucket that is, 412 or 304 for a
            precondition that does not hold.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, dict[str, Stored]] = {}
        self._generations = itertools.count(time.time_ns() // 1000)

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        with self._lock:
            if name in self._buckets:
                raise RefusalError(409)
            self._buckets[name] = {}

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket."""
        with self._lock:
            if self._bucket(name):
                raise RefusalError(409)
            del self._buckets[name]

    def buckets(self) -> list[str]:
        """Return the names of the buckets."""
        with self._lock:
            return sorted(self._buckets)

    def check(self, bucket: str, name: str, conditions: Mapping[str, str]) -> None:
        """Refuse what `put` would refuse now."""
        with self._lock:
            _check(self._bucket(bucket).get(name), conditions)

    def put(
        self,
        bucket: str,
        name: str,
        data: bytes,
        given: Mapping[str, Any],
        conditions: Mapping[str, str],
    ) -> dict[str, Any]:
        """Write an object if the conditions hold; return its resource."""
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        with self._lock:
            objects = self._bucket(bucket)
            _check(objects.get(name), conditions)
            now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            resource = {
                "kind": "storage#object",
                "name": name,
                "bucket": bucket,
                "size": str(len(data)),
                "generation": str(next(self._generations)),
                "metageneration": "1",
                "contentType": given.get("contentType", "application/octet-stream"),
                "cacheControl": given.get("cacheControl", ""),
                "metadata": given.get("metadata", {}),
                "md5Hash": digest,
                "etag": digest,
                "timeCreated": now,
                "updated": now,
                "storageClass": "STANDARD",
            }
            objects[name] = Stored(data, resource)
            return resource

    def get(self, bucket: str, name: str, conditions: Mapping[str, str]) -> Stored:
        """Return an object if the conditions hold; ``generation`` asks for that one only."""
        with self._lock:
            return self._find(bucket, name, conditions)

    def delete(self, bucket: str, name: str, conditions: Mapping[str, str]) -> None:
        """Delete an object if the conditions hold."""
        with self._lock:
            self._find(bucket, name, conditions)
            del self._buckets[bucket][name]

    def list(self, bucket: str, parameters: Mapping[str, str]) -> Page:
        """Return one page of the names with a prefix, those behind a delimiter folded into one."""
        with self._lock:
            objects = sorted(self._bucket(bucket).items())
        prefix, delimiter = parameters.get("prefix", ""), parameters.get("delimiter", "")
        start = max(parameters.get("startOffset", ""), parameters.get("pageToken", ""))
        end = parameters.get("endOffset")
        limit = min(int(parameters.get("maxResults", 1000)), 1000)
        resources: list[dict[str, Any]] = []
        prefixes: list[str] = []
        for name, stored in objects:
            if not name.startswith(prefix) or name < start or (end is not None and name >= end):
                continue
            folded = _fold(name, prefix, delimiter)
            if folded in prefixes:
                continue
            if len(resources) + len(prefixes) >= limit:
                return Page(resources, prefixes, name)
            if folded is None:
                resources.append(stored.resource)
            else:
                prefixes.append(folded)
        return Page(resources, prefixes, None)

    def _bucket(self, name: str) -> dict[str, Stored]:
        if name not in self._buckets:
            raise RefusalError(404)
        return self._buckets[name]

    def _find(self, bucket: str, name: str, conditions: Mapping[str, str]) -> Stored:
        found = self._bucket(bucket).get(name)
        if found is None or conditions.get("generation", found.generation) != found.generation:
            raise RefusalError(404)
        _check(found, conditions)
        return found


def _check(found: Stored | None, conditions: Mapping[str, str]) -> None:
    generation = found.generation if found else "0"
    if conditions.get("ifGenerationMatch", generation) != generation:
        raise RefusalError(412)
    if conditions.get("ifGenerationNotMatch") == generation:
        raise RefusalError(304)


def _fold(name: str, prefix: str, delimiter: str) -> str | None:
    if not delimiter or delimiter not in name[len(prefix) :]:
        return None
    return prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter
