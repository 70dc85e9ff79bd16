"""Sees every change of the bucket as it takes effect, and knows what must never happen.

It reads manifests with the library's codec but keeps its own account of the rows: version by
version, from the changes alone. What readers are told is compared with that account.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from support.simulation.bucket import Bucket
from support.simulation.world import EPOCH, World

from jammi_files import lease, manifest
from jammi_files.log import PREFIX, key_of
from jammi_files.retention import Retention
from jammi_files.rows import Row, rows_of
from jammi_files.schema import Lease, ResultTableRecord

BASE = "bucket/root/"
RETIRED = b"retired "
DATA, SIDECAR = ".parquet", ".materialization.json"


@dataclasses.dataclass
class Version:
    """One version: its rows by name, its segments, and when and by whom it was made."""

    number: int
    rows: dict[str, ResultTableRecord]
    segments: frozenset[str]
    retention: Retention
    at: int
    writer: str
    operation: str


class Witness:
    """Raises `AssertionError` at the very event that breaks a promise."""

    def __init__(self, world: World, bucket: Bucket) -> None:
        self.world, self.bucket = world, bucket
        self.versions = [Version(0, {}, frozenset(), Retention(), 0, "", "")]
        self.deleting: set[str] = set()
        """Names that somebody has begun to delete."""
        self.behind = 0
        """Reads of a version that was not the newest any more when they began."""
        self.created: dict[str, list[int]] = {}
        """The versions in which a name came into being."""
        self._rows: dict[str, list[Row]] = {}
        """Of each segment, by its key."""
        bucket.watch = self

    @property
    def newest(self) -> Version:
        """The newest version."""
        return self.versions[-1]

    @property
    def known_to_all(self) -> int:
        """The newest version that no listing can lack any more."""
        then = max(0, self.world.now - self.bucket.stale)
        return next(each.number for each in reversed(self.versions) if each.at <= then)

    def before_put(self, key: str, data: bytes) -> None:
        """Judge a write."""
        name = key.removeprefix(BASE)
        old = self.bucket.objects.get(key)
        if name.startswith(f"{PREFIX}/"):
            number = int(name.rpartition("/")[2].removesuffix(".parquet"))
            if data.startswith(RETIRED):
                assert old is not None, f"version {number} emptied before it was made"
                marked = RETIRED + hashlib.sha256(old.data).hexdigest().encode()
                assert data in (marked, old.data), f"version {number} marked as another"
                assert number != self.newest.number, f"the newest version {number} emptied"
                kept = self.newest.retention.keeps(number)
                assert not kept, f"version {number} emptied, which {self.newest.number} keeps"
                return
            assert old is None, f"version {number} made twice"
            expected = self.newest.number + 1
            assert number == expected, f"version {number} made where {expected} is next"
        elif "_catalog/" not in name and old is not None:
            assert old.data == data, f"{name} overwritten"

    def after_put(self, key: str, data: bytes) -> None:
        """Take a new version into the account."""
        name = key.removeprefix(BASE)
        if "/segments/" in name:
            self._rows[name] = rows_of(manifest.decode_segment(name, data))
        elif name.startswith(f"{PREFIX}/") and not data.startswith(RETIRED):
            self._commit(name, data)

    def before_delete(self, key: str) -> None:
        """Judge a deletion: nothing that a kept version, a tag or a live build needs."""
        name = key.removeprefix(BASE)
        assert not name.startswith(f"{PREFIX}/"), f"{name}: version numbers are never free again"
        assert name != "_catalog/format.json", "the root's format deleted"
        if name.startswith("_catalog/segments/"):
            users = [each.number for each in self.kept() if name in each.segments]
            assert not users, f"{name} deleted, listed by kept versions {users}"
        elif name.startswith(f"{lease.BUILDS}/"):
            row = self.newest.rows.get(name.rpartition("/")[2].removesuffix(".json"))
            alive = row is not None and row.status == "building"
            assert not alive, f"{name} of a build that goes on deleted"
        elif "/" not in name:
            self._judge_result(name)

    def _judge_result(self, name: str) -> None:
        table = name.removesuffix(SIDECAR).removesuffix(DATA)
        row = self.newest.rows.get(table)
        if row is not None:
            assert row.status == "failed", f"{name} of a row that is {row.status} deleted"
        by = self.world.task
        if by is not None and by.step == "vacuum":
            users = [each.number for each in self.kept() if table in each.rows]
            assert not users, f"vacuum deleted {name}, named by kept versions {users}"

    def kept(self) -> list[Version]:
        """Return the versions that can be read."""
        keeps = self.newest.retention.keeps
        return [each for each in self.versions if each.number and keeps(each.number)]

    def _commit(self, name: str, data: bytes) -> None:
        header, _, rows = manifest.decode_manifest(name, data)
        number, before = header.version, self.newest
        assert key_of(number) == name
        for info in header.segments:
            present = BASE + info.key in self.bucket.objects
            assert present, f"version {number} lists {info.key}, which is not there"
            rows = [*rows, *self._rows[info.key]]
        held = {row.record.table_name: row for row in sorted(rows, key=lambda row: row.seq)}
        now = dict(before.rows)
        for row in held.values():
            if row.seq == number:
                self._change(now, row.record, header.writer, number, deleted=row.deleted)
        # A merge of everything takes a tombstone with it in the very version that wrote it.
        for record in [now[gone] for gone in now.keys() - held.keys()]:
            self._change(now, record, header.writer, number, deleted=True)
        told = {name: row.record for name, row in held.items() if not row.deleted}
        assert told == now, f"version {number} holds other rows than were written"
        segments = frozenset(info.key for info in header.segments)
        found = Version(
            number, now, segments, header.retention, self.world.now, header.writer, header.operation
        )
        self.versions.append(found)

    def _change(
        self,
        rows: dict[str, ResultTableRecord],
        new: ResultTableRecord,
        writer: str,
        version: int,
        *,
        deleted: bool,
    ) -> None:
        name, old = new.table_name, rows.get(new.table_name)
        if deleted:
            if old is not None:
                assert name in self.deleting, f"{name} vanished in version {version}"
            rows.pop(name, None)
            return
        if old is None:
            self.created.setdefault(name, []).append(version)
            assert len(self.created[name]) == 1, f"{name} created in {self.created[name]}"
        elif old.status == "ready" and name != "journal":
            assert new.status == "ready", f"{name} was ready and is {new.status} in {version}"
        elif old.status == "building" and new.status == "failed":
            self._judge_death(old, writer)
        if new.is_ready and new.definition_hash is not None:
            self._judge_ready(new)
        rows[name] = new

    def _judge_death(self, row: ResultTableRecord, writer: str) -> None:
        held: Lease | None = row.lease
        if held is None:
            return
        host, life = writer.split(":")
        owners = [task for task in self.world.tasks if task.process.life.name == held.owner]
        if life == held.owner or not any(task.process.life.alive for task in owners):
            return
        # By its process: a put may land when the life that sent it is over.
        judge = next(t.process for t in self.world.tasks if life.startswith(f"{t.process.name}."))
        clock = EPOCH + self.world.now + judge.most_skew
        expired = host != held.host and clock >= held.expires_at
        assert expired, f"{life} failed {row.table_name}, which {held.owner} still builds"

    def _judge_ready(self, row: ResultTableRecord) -> None:
        data = self.bucket.objects.get(BASE + row.parquet_path)
        sidecar = self.bucket.objects.get(BASE + row.table_name + SIDECAR)
        assert sidecar is not None, f"{row.table_name} is ready without a sidecar"
        assert data is not None, f"{row.table_name} is ready without bytes"
        digest = hashlib.sha256(data.data).hexdigest()
        assert digest == row.artifact_digest, f"{row.table_name} is ready with other bytes"
        assert digest.encode() in sidecar.data, f"{row.table_name}'s sidecar attests other bytes"

    def check_read(self, version: int, names: dict[str, str], since: int) -> None:
        """Compare what a reader was told, rows and status, with the account.

        ``since`` is what everybody could know when the reader asked: it sees that or a newer one.
        """
        assert version >= since, f"read version {version} after {since} was committed"
        assert version <= self.newest.number, f"read version {version}, which nobody made"
        expected = {name: str(row.status) for name, row in self.versions[version].rows.items()}
        assert names == expected, f"version {version} read as {_difference(names, expected)}"

    def check_end(self, rows: dict[str, Any]) -> None:
        """Check the objects of every ready row once nothing is under way any more."""
        for name, row in self.newest.rows.items():
            assert rows[name] == str(row.status)
            if row.is_ready and row.definition_hash is not None:
                self._judge_ready(row)


def _difference(found: dict[str, str], expected: dict[str, str]) -> str:
    return (
        f"{sorted(found.items() - expected.items())} for {sorted(expected.items() - found.items())}"
    )
