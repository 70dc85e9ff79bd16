"""The library's protections, each with the smallest edit that removes it and a test that must fail.

``tests/mutants.py`` runs them. The old text of an edit occurs exactly once in its module, so an
entry that the code has left behind is an error and not a pass.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """Replaces ``old``, which occurs once, by ``new``."""

    old: str
    new: str


class Mutant(NamedTuple):
    """A protection of a module that is taken out, and pytest's arguments for tests that notice.

    ``fast`` are those that every run of the tests plays; the others are for the night.
    """

    name: str
    module: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    fast: bool = False


def _mutant(name: str, module: str, old: str, new: str, *tests: str, fast: bool = False) -> Mutant:
    return Mutant(name, module, (Edit(old, new),), tests, fast)


_POWER = "tests/test_power_loss.py"
_STORAGE = "tests/test_storage.py"
_OPERATIONS = "tests/test_operations.py"
_WORLDS = "tests/test_tenants.py"
_HOSTILE = "tests/test_hostile.py"
_PARTS = "tests/test_parts.py"
_CRASH = "tests/test_copy_crash.py"
_CLUSTERS = "tests/test_clusters.py"

LOCAL = (
    _mutant(
        "create: a link cannot overwrite",
        "local",
        "            os.link(self._temp, self.path)\n",
        "            os.replace(self._temp, self.path)\n",
        f"{_STORAGE}::TestLocalOs::test_create_is_exclusive",
        fast=True,
    ),
    _mutant(
        "create: without hard links the name is looked at",
        "local",
        "if os.path.lexists(self.path):",
        "if False:",
        f"{_STORAGE}::TestLocalWithoutHardLinks::test_create_is_exclusive",
    ),
    _mutant(
        "create: bytes go to a temporary file",
        "local",
        'self._temp = f"{self.path}.{uuid.uuid4().hex[:8]}{TEMP_SUFFIX}"',
        "self._temp = self.path",
        f"{_STORAGE}::TestLocalOs::test_writer_shows_nothing_before_publish",
    ),
    _mutant(
        "create: temporary names differ",
        "local",
        "{uuid.uuid4().hex[:8]}{TEMP_SUFFIX}",
        "{'0' * 8}{TEMP_SUFFIX}",
        f"{_STORAGE} -k 'TestLocalOs and test_writers_race'",
    ),
    _mutant(
        "replace: the file is renamed over the old one",
        "local",
        "        os.replace(self._temp, self.path)\n",
        "        os.unlink(self.path) if os.path.exists(self.path) else None\n"
        "        os.replace(self._temp, self.path)\n",
        f"{_POWER}::test_every_state[checkpoint]",
    ),
    _mutant(
        "lock: a thread that holds it is told",
        "local",
        "            if not again or self._descriptor is None:\n",
        "            if self._descriptor is None:\n",
        f"{_STORAGE}::TestLocalOs::test_lock_is_not_for_the_same_thread_twice",
    ),
    _mutant(
        "lock: threads wait for each other",
        "local",
        "if not self._thread.acquire(timeout=LOCK_TIMEOUT):",
        "if not self._thread.acquire(blocking=False) and False:",
        f"{_STORAGE}::TestLocalOs::test_lock_excludes_threads",
    ),
    _mutant(
        "lock: a dead holder is noticed",
        "local",
        'yield _mark(descriptor, b"1") == b"1"',
        'yield _mark(descriptor, b"1") == b"?"',
        f"{_POWER}::test_every_state_after_a_kill[retry]",
    ),
    _mutant(
        "listing: a link out of the root is refused",
        "local",
        "                self._require_inside(path)\n",
        "",
        "tests/test_vacuum.py::test_links_are_not_followed",
    ),
    _mutant(
        "keys stay under the root",
        "storage",
        'or ".." in key.split("/")',
        "",
        f"{_STORAGE} -k 'TestLocalOs and test_keys_stay_under_the_root'",
        fast=True,
    ),
)

SYNCS = (
    _mutant(
        "sync: a file before its name",
        "local",
        "        self._storage.sync_file(self._file.fileno())\n",
        "",
        f"{_POWER}::test_every_state[create]",
    ),
    _mutant(
        "sync: the directory after a link",
        "local",
        '        with _translated("sync the directory of", self.path):\n'
        "            self._storage.sync_directory(os.path.dirname(self.path))\n",
        "",
        f"{_POWER}::test_every_state[create]",
        fast=True,
    ),
    _mutant(
        "sync: the directory after a rename",
        "local",
        "        self._file = None\n"
        "        self._storage.sync_directory(os.path.dirname(self.path))\n",
        "        self._file = None\n",
        f"{_POWER}::test_every_state[checkpoint]",
    ),
    _mutant(
        "sync: a directory that is written to for the first time",
        "local",
        "                _anchor(directory)\n                self._anchored.add(directory)\n",
        "                self._anchored.add(directory)\n",
        f"{_POWER}::test_every_state[first_commit]",
    ),
    _mutant(
        "sync: a directory before something is made in it",
        "local",
        "    if durable:\n        _anchor(parent)\n",
        "",
        f"{_POWER}::test_every_state[first_commit]",
    ),
    _mutant(
        "sync: data that another program wrote",
        "local",
        "            with contextlib.suppress(FileNotFoundError):\n                _sync(path)\n",
        "",
        f"{_POWER}::test_every_state[written_elsewhere]",
    ),
    _mutant(
        "sync: data of another program before its row is ready",
        "artifacts",
        "        self.settle(record)\n        return artifact\n",
        "        return artifact\n",
        f"{_POWER}::test_every_state[written_elsewhere]",
    ),
    _mutant(
        "sync: data and sidecar before recovery promotes",
        "recovery",
        "        reaper.artifacts.settle(record)\n",
        "",
        f"{_POWER}::test_every_state_after_a_kill[build]",
    ),
    _mutant(
        "sync: what recovery has seen",
        "recovery",
        "        everything.log.settle()",
        "        pass",
        f"{_POWER}::test_every_state_after_a_kill[build]",
    ),
    _mutant(
        "sync: deleted data before its sidecar goes",
        "artifacts",
        "            if key == keys[0]:\n                self.storage.settle(key)\n",
        "",
        f"{_POWER}::test_every_state[delete_table]",
    ),
    _mutant(
        "sync: what a resumed copy finds",
        "copy_root",
        "            garbage.settle(target)\n",
        "            pass\n",
        f"{_POWER}::test_every_state_after_a_kill[copy]",
    ),
    _mutant(
        "sync: what a repeated import finds",
        "interop",
        "                target.settle(new_key)\n",
        "",
        f"{_POWER}::test_every_state_after_a_kill[import]",
    ),
    _mutant(
        "sync: what a repeated import leaves alone",
        "interop",
        "    if not names:\n        store.catalog.log.settle()",
        "    if False:\n        store.catalog.log.settle()",
        f"{_POWER}::test_every_state_after_a_kill[import]",
    ),
)

COMMITS = (
    _mutant(
        "commit: a lost race is no success",
        "log",
        "                self._learn(state.version, error.found)\n            return False\n",
        "                self._learn(state.version, error.found)\n            return True\n",
        "tests/test_concurrency.py::test_a_lost_race_is_run_again",
        fast=True,
    ),
    _mutant(
        "commit: a lost race is judged again",
        "log",
        "                self._learn(state.version, error.found)\n            return False\n",
        "                self._learn(state.version, error.found)\n"
        "            head: Any = self._advance()\n"
        "            old: Any = draft\n"
        "            old.base, old.version = head, head.version + 1\n"
        "            rows = {k: r._replace(seq=old.version) for k, r in old.changes.items()}\n"
        "            old.changes = rows\n"
        "            return self._append(draft)\n",
        "tests/test_concurrency.py::test_rules_are_checked_again",
    ),
    _mutant(
        "commit: a transaction that lost is a conflict",
        "log",
        "                if not self._append(draft):\n",
        "                if not self._append(draft) and False:\n",
        "tests/test_concurrency.py::test_a_transaction_that_lost_is_a_conflict",
    ),
    _mutant(
        "commit: a lost answer is unknown",
        "log",
        "if not isinstance(error, AmbiguousError) and self._is_absent(key):",
        "if True:",
        "tests/test_concurrency.py::test_a_lost_answer_is_unknown",
    ),
    _mutant(
        "commit: an unconfirmed create is unknown",
        "log",
        "if not isinstance(error, AmbiguousError) and self._is_absent(key):",
        "if self._is_absent(key):",
        "tests/test_simulation.py::test_cases",
    ),
    _mutant(
        "commit: attempts are bounded",
        "log",
        "while losses < MAX_ATTEMPTS and",
        "while losses < MAX_ATTEMPTS * 9 and",
        "tests/test_concurrency.py::test_a_race_is_lost_a_bounded_number_of_times",
    ),
    _mutant(
        "commit: what was tried on a known state is judged on the newest one",
        "log",
        "            if writes_all or self._advance() is known:\n",
        "            if True:\n",
        "tests/test_simulation.py::test_promises_hold",
    ),
    _mutant(
        "commit: a refused change leaves no trace",
        "log",
        "            self._codec.rollback(draft, mark)\n",
        "",
        "tests/test_concurrency.py::test_errors_reach_only_their_caller",
    ),
    _mutant(
        "commit: what a dead writer left is made durable first",
        "log",
        "            if was_abandoned:\n",
        "            if False:\n",
        f"{_POWER}::test_every_state_after_a_kill[new_group]",
    ),
    _mutant(
        "commit: nobody is refused for what a failed commit would have made",
        "log",
        "                if each.error is not None:\n",
        "                if False:\n",
        "tests/test_concurrency.py -k may_not_be_there",
        "tests/test_simulation.py::test_cases",
    ),
    _mutant(
        "commit: nobody is refused for what never won",
        "group_commit",
        "                        if not each.answered:",
        "                        if not each.error:",
        "tests/test_concurrency.py -k change_that_lost",
    ),
    _mutant(
        "read: a listing that is behind is not believed to be of an empty catalog",
        "log",
        "            if not number and self._storage.is_locked:\n",
        "            if not number:\n",
        "tests/test_simulation.py::test_cases",
    ),
    _mutant(
        "merge: only of segments that are there",
        "catalog",
        "        if len(merging) < len(crowd):",
        "        if False:",
        "tests/test_catalog.py::test_compact_after_another_has",
    ),
    _mutant(
        "read: Arrow's threads ask for nothing of Python's",
        "segment_file",
        "file.read(use_threads=False)",
        "file.read()",
        "tests/test_segment.py -k hold_nothing_of_python",
    ),
    _mutant(
        "read: Arrow's threads own what they read",
        "segment_file",
        '    buffer = pa.allocate_buffer(len(data))\n    memoryview(buffer).cast("B")[:] = data\n',
        "    buffer = pa.py_buffer(data)\n",
        "tests/test_segment.py -k hold_nothing_of_python",
    ),
    _mutant(
        "read: a retired version is no state",
        "log",
        '        if not data:\n            msg = f"version {version} was retired',
        '        if False:\n            msg = f"version {version} was retired',
        "tests/test_vacuum.py::test_old_versions_are_retired",
    ),
    _mutant(
        "read: a manifest says which version it is",
        "draft",
        "        if header.version != version:\n",
        "        if False:\n",
        "tests/test_open.py::test_manifest_under_another_name",
    ),
    _mutant(
        "commit: unknown keys are carried on",
        "draft",
        "            extra=draft.base.header.extra,\n",
        "",
        "tests/test_manifest.py::test_newer_metadata",
    ),
    _mutant(
        "merge: not of segments that a vacuum may have taken",
        "draft",
        "        if len(present) != len(wanted) or self.base.header.retention.vacuumed > since:\n",
        "        if len(present) != len(wanted):\n",
        "tests/test_vacuum_races.py::test_paused_merge_never_lists_a_deleted_segment",
    ),
)

FORMATS = (
    _mutant(
        "manifest: another format version is refused",
        "header",
        "        if found != FORMAT_VERSION:\n",
        "        if False:\n",
        "tests/test_manifest.py::test_other_format_version",
        fast=True,
    ),
    _mutant(
        "root: another format version is refused",
        "root_format",
        "    if version != FORMAT_VERSION:\n",
        "    if False:\n",
        "tests/test_open.py::test_newer_format",
    ),
    _mutant(
        "root: an unfinished copy is not opened",
        "root_format",
        "    if found is not None and found.is_unfinished:\n",
        "    if False:\n",
        "tests/test_copy.py::test_nobody_opens_what_is_unfinished",
    ),
    _mutant(
        "pages carry checksums that are checked",
        "segment_file",
        "        page_checksum_verification=True,\n",
        "",
        "tests/test_manifest.py::test_checksums_are_checked",
    ),
    _mutant(
        "segments are validated",
        "manifest",
        "values, offsets and codes are checked here.\n        table.validate(full=True)\n",
        "values, offsets and codes are checked here.\n",
        "tests/test_manifest.py::test_flipped_byte",
    ),
    _mutant(
        "manifests are validated",
        "manifest",
        "        table = conform(file.read(use_threads=False))\n"
        "        table.validate(full=True)\n",
        "        table = conform(file.read(use_threads=False))\n",
        "tests/test_manifest.py::test_flipped_byte",
    ),
    _mutant(
        "the footer of a manifest is held against its digest",
        "manifest",
        "        footer_digest.require(footer_of(data), found[1])\n",
        "",
        "tests/test_manifest.py::test_flipped_bit_in_the_header",
        fast=True,
    ),
    _mutant(
        "the footer of an open segment is held against its digest",
        "segment_file",
        "        footer_digest.require(self._footer, footers.metadata_at(self._footer, at))\n",
        "",
        "tests/test_manifest.py::test_flipped_bit_in_statistics",
    ),
    _mutant(
        "the footer of a segment is held against its digest",
        "manifest",
        "        footer_digest.require(footer_of(data), said.metadata)\n",
        "",
        "tests/test_manifest.py::test_flipped_bit_in_statistics",
    ),
    _mutant(
        "a segment is the one that the manifest lists",
        "manifest",
        "        if listed and not is_listed(table, listed):\n",
        "        if False:\n",
        "tests/test_segment.py::test_another_segment_is_told",
    ),
    _mutant(
        "an open segment is the one that the manifest lists",
        "manifest",
        "            if listed and (found.rows",
        "            if False and (found.rows",
        "tests/test_segment.py::test_another_segment_is_told",
    ),
    _mutant(
        "repair: a segment under another's key is no whole version",
        "salvage",
        "        if not any(info.key in problems for info in found.segments):\n",
        "        if all(segments[info.key] is not None for info in found.segments):\n",
        "tests/test_repair.py::test_swapped_segments",
    ),
    _mutant(
        "repair: a segment that no version describes is not used",
        "salvage",
        "        if any(manifest.is_listed(table, each) for each in header.segments):\n",
        "        if True:\n",
        "tests/test_repair.py::test_a_segment_of_another_catalog",
    ),
    _mutant(
        "a huge manifest is refused before it is decoded",
        "manifest",
        "    if len(data) > MAX_MANIFEST_BYTES:\n",
        "    if False:\n",
        "tests/test_manifest.py::test_huge_manifest",
    ),
    _mutant(
        "merge: the newest row of a name wins",
        "manifest",
        '("seq", "descending")',
        '("seq", "ascending")',
        "tests/test_manifest.py::test_merge_runs",
    ),
    _mutant(
        "merge: a tombstone stays while it hides something",
        "manifest",
        "    return min(outside) - 1 if outside else max(segment.max_seq for segment in merging)\n",
        "    return max(segment.max_seq for segment in merging)\n",
        "tests/test_manifest.py::test_dropped_tombstones_are_not_missed",
    ),
    _mutant(
        "sidecar: another version is refused",
        "materialization",
        "    if value != MANIFEST_VERSION:\n",
        "    if False:\n",
        "tests/test_materialization.py::test_other_version",
    ),
    _mutant(
        "cache: blocks have digests that are checked",
        "cache_files",
        "            if _digest(memoryview(data)[offset : offset + _BLOCK]) != digest:\n",
        "            if False:\n",
        "tests/test_cache_files.py::test_a_damaged_entry_is_never_believed",
    ),
    _mutant(
        "cache: an entry belongs to its name",
        "cache_files",
        "            if _bind(name, self.length, self._digests) != bound:\n",
        "            if False:\n",
        "tests/test_cache_files.py::test_a_misplaced_file_is_a_miss",
    ),
    _mutant(
        "cache: nobody else may write it",
        "cache_files",
        "            if found.st_uid != os.geteuid() or found.st_mode & 0o077:\n",
        "            if False:\n",
        "tests/test_cache_files.py::test_a_directory_that_is_not_private",
    ),
)

RULES = (
    _mutant(
        "rows: a name is taken once",
        "rules",
        "    if draft.get(record.table_name) is not None:\n        raise taken(record.table_name)\n"
        "    if record.derived_from",
        "    if record.derived_from",
        f"{_OPERATIONS}::test_name_is_taken",
    ),
    _mutant(
        "rows: a name is taken once, in bulk",
        "rules",
        "        if draft.get(name) is not None:\n            raise taken(name)\n",
        "        pass\n",
        "tests/test_bulk.py::test_taken_name",
    ),
    _mutant(
        "rows: a parent is visible",
        "rules",
        "        visible_row(draft, scope, record.derived_from)\n",
        "        pass\n",
        f"{_OPERATIONS}::test_parent_must_be_visible",
    ),
    _mutant(
        "rows: a parent stays",
        "rules",
        "    if staying:\n",
        "    if False:\n",
        f"{_OPERATIONS}::test_delete_of_a_parent",
    ),
    _mutant(
        "status: only legal moves",
        "rules",
        "    if not record.status.may_become(status):\n",
        "    if False:\n",
        f"{_OPERATIONS}::test_moves",
    ),
    _mutant(
        "status: only a building row becomes ready",
        "rules",
        "    if record.status is not ResultTableStatus.BUILDING:\n        msg",
        "    if False:\n        msg",
        f"{_OPERATIONS}::test_promote_needs_a_building_row",
    ),
    _mutant(
        "claim: one result is built once",
        "rules",
        "        if holds_key(row.record, wanted.key) and scope.sees(row.record.tenant_id):\n",
        "        if False:\n",
        "tests/test_reuse.py::test_one_of_many_threads_computes",
    ),
    _mutant(
        "paths stay under the root",
        "operations",
        '(not _is_absolute(text) and ".." in parts)',
        "False",
        "tests/test_naming.py tests/test_store.py tests/test_operations.py -k 'root or path'",
    ),
    _mutant(
        "names stay under the root",
        "validation",
        '    if "/" in text or "\\\\" in text or ".." in text or text.startswith("."):\n',
        "    if False:\n",
        "tests/test_validation.py::test_bad_table_names",
        fast=True,
    ),
)

TENANTS = (
    _mutant(
        "tenants: another tenant's build state is not read",
        "operations",
        "not self.scope.sees(row.record.tenant_id):\n            return None  # nobody",
        "False:\n            return None  # nobody",
        f"{_WORLDS} -k promote_result_table_with_manifest",
    ),
    _mutant(
        "tenants: another tenant's lease is not judged",
        "operations",
        "        if row is None or not self.scope.owns(row.record.tenant_id):\n",
        "        if row is None:\n",
        f"{_WORLDS} -k if_not_exists",
    ),
    _mutant(
        "tenants: nobody renews another tenant's lease",
        "catalog",
        "        record = self._building(table_name)\n        checkpoint",
        "        record = self._head().get(table_name).record\n        checkpoint",
        f"{_WORLDS} -k renew_lease",
    ),
    _mutant(
        "tenants: history leaves out what a shared commit did to others",
        "history",
        'if "+" not in operation or _sees_all(snapshot, scope):',
        "if True:",
        f"{_WORLDS} -k reads",
    ),
    _mutant(
        "tenants: history tells no import where a row was created",
        "history",
        'if "import" in told and not (is_building and "create" in told):',
        'if "import" in told:',
        "tests/test_catalog.py -k shared_commit",
    ),
    _mutant(
        "tenants: fsck asks only for parents that are seen",
        "fsck",
        "if parent is not None and snapshot.get_result_table(parent) is None:",
        "if parent is not None and catalog.as_admin().get_result_table(parent) is None:",
        f"{_WORLDS} -k commands",
    ),
    _mutant(
        "tenants: an import is reported as far as it is seen",
        "interop",
        "if scope.is_catalog_wide or scope.sees(result.tenant)",
        "if True",
        f"{_WORLDS} -k import",
    ),
    _mutant(
        "tenants: who shares a result's bytes is not logged",
        "store",
        " == path).num_rows:\n",
        " == path) is not None:\n",
        f"{_WORLDS} -k ResultStore.delete_table",
    ),
    _mutant(
        "tenants: a row of another one is not seen",
        "scope",
        "        return self.admin or owner is None or owner == self.tenant\n",
        "        return True\n",
        "tests/test_scope.py::test_who_sees_what",
    ),
    _mutant(
        "tenants: a row of another one is not deleted",
        "scope",
        "        return owner == self.tenant\n\n    @property",
        "        return self.sees(owner)\n\n    @property",
        "tests/test_scope.py::test_who_owns_what",
    ),
    _mutant(
        "tenants: an unbound handle scans global rows only",
        "scope",
        "        if self.tenant is None:\n            return is_global\n",
        "        if self.tenant is None:\n            return None\n",
        "tests/test_scope.py::test_expression_equals_predicate",
    ),
    _mutant(
        "tenants: every scan is filtered",
        "reads",
        "    return table.filter(visible)",
        "    return table",
        "tests/test_catalog.py::test_reads_are_scoped",
    ),
    _mutant(
        "tenants: every list is filtered",
        "reads",
        "    if not scope.sees(row.record.tenant_id):\n        return False\n    damage",
        "    damage",
        "tests/test_catalog.py::test_reads_are_scoped",
    ),
    _mutant(
        "tenants: a single row is looked at",
        "reads",
        "row is None or not scope.sees(row.record.tenant_id):\n            return None\n",
        "row is None:\n            return None\n",
        "tests/test_catalog.py::test_single_rows_are_scoped",
    ),
    _mutant(
        "tenants: a write is of a visible row",
        "rules",
        "    if row is None or not scope.sees(row.record.tenant_id):\n        raise TableNotFound",
        "    if row is None:\n        raise TableNotFound",
        "tests/test_catalog.py::test_writes_are_scoped",
    ),
    _mutant(
        "tenants: a delete is of an owned row",
        "rules",
        "    if not scope.owns(row.record.tenant_id):\n",
        "    if False:\n",
        f"{_OPERATIONS}::test_delete_visible_but_not_owned",
    ),
    _mutant(
        "tenants: tags and vacuum are for the whole catalog",
        "upkeep",
        "        if not self.scope.is_catalog_wide:\n",
        "        if False:\n",
        "tests/test_tags.py::test_who_may_tag",
    ),
)

BUILDS = (
    Mutant(
        "publish: the sidecar before the promotion",
        "funnel",
        (
            Edit("        manifest = attesting.put(self._artifacts, record, manifest)\n", ""),
            Edit(
                "        self._written.pop(table_name, None)\n        return manifest\n",
                "        self._written.pop(table_name, None)\n"
                "        return attesting.put(self._artifacts, record, manifest)\n",
            ),
        ),
        ("tests/test_funnel.py::test_publish_order",),
    ),
    _mutant(
        "publish: another sidecar is never overwritten",
        "attesting",
        "        if earlier is None or earlier.statement != manifest.statement:\n",
        "        if earlier is None:\n",
        "tests/test_funnel.py::test_other_sidecar_is_there",
    ),
    _mutant(
        "publish: as many rows as said",
        "funnel",
        "        if artifact.rows != count:\n",
        "        if False:\n",
        "tests/test_funnel.py::test_wrong_row_count",
    ),
    _mutant(
        "publish: a build makes no other one of its name ready",
        "rules",
        "        _require_same_build(record, build)\n",
        "        pass\n",
        "tests/test_funnel.py::test_finalize_the_build_of_another",
    ),
    _mutant(
        "publish: a digest is of what this build wrote",
        "funnel",
        "        if artifact is None or created_at != record.created_at:\n",
        "        if artifact is None:\n",
        "tests/test_funnel.py::test_digest_of_an_earlier_build",
    ),
    _mutant(
        "import: without a lock objects without a row are copied anew",
        "interop",
        "            if not fits and not target.is_locked:\n",
        "            if False:\n",
        "tests/test_interop.py -k beside",
    ),
    _mutant(
        "deletion: writers are kept out",
        "removal",
        "    with catalog.log.writing() if is_locked else contextlib.nullcontext():\n",
        "    with contextlib.nullcontext():\n",
        "tests/test_removal.py::test_no_row_comes_back_while_objects_are_deleted",
    ),
    _mutant(
        "deletion: what a row names by now stays",
        "removal",
        "            if path in named:\n",
        "            if False:\n",
        "tests/test_removal.py::test_a_row_that_came_back",
    ),
    _mutant(
        "deletion: without a lock only what was there before the look",
        "removal",
        "    if not is_locked:\n",
        "    if False:\n",
        "tests/test_removal.py::test_what_a_later_build_writes_is_not_deleted",
    ),
    _mutant(
        "deletion: without a lock what an earlier build left is refused",
        "attesting",
        "    if not artifacts.storage.is_locked and not _is_as_young(earlier, record):\n",
        "    if False:\n",
        "tests/test_removal.py::test_a_name_is_used_again_during_its_deletion",
    ),
    _mutant(
        "build: the build of another process is not failed",
        "funnel",
        "        if not lease.is_mine(record.lease):\n            raise StateError",
        "        if False:\n            raise StateError",
        "tests/test_removal.py::test_the_build_of_another_process_goes_on",
        "publish: the row is failed before bytes go",
        "funnel",
        "        # Only a row that is still building: ",
        "        self._artifacts.remove(self._building(table_name))\n"
        "        # Only a row that is still building: ",
        "tests/test_build.py::test_promoted_by_recovery_before_it_is_failed",
    ),
    _mutant(
        "publish: what recovery made ready is not failed",
        "funnel",
        "self.catalog.fail_unchanged(record, text)",
        "self.catalog.fail_result_table(record.table_name, text)",
        "tests/test_build.py::test_promoted_by_recovery_before_it_is_failed",
    ),
    _mutant(
        "verify: the bytes are digested",
        "artifacts",
        "        bytes_alone = decide_verdict(sidecar, self.digest(record))\n",
        "        bytes_alone = decide_verdict(sidecar, sidecar.artifact)\n",
        "tests/test_store.py::test_damaged_data",
    ),
    _mutant(
        "verify: the row and its sidecar agree",
        "artifacts",
        "        contradiction = disagreement(record, sidecar)\n",
        "        contradiction = None\n",
        "tests/test_store.py::test_row_against_sidecar",
    ),
    _mutant(
        "lease: a running process lives",
        "lease",
        "        if _is_running(lease):\n",
        "        if False:\n",
        "tests/test_recovery.py::test_live_process",
    ),
    _mutant(
        "lease: a process number may be used again",
        "lease",
        "        return _process_start(lease.pid) == lease.process_start\n",
        "        return _process_start(lease.pid) is not None\n",
        "tests/test_recovery.py::test_reused_process_number",
    ),
    _mutant(
        "lease: on another host it lives until it expires",
        "lease",
        "    if now >= lease.expires_at:\n",
        "    if True:\n",
        "tests/test_recovery.py::test_other_host",
    ),
    _mutant(
        "lease: a renewal counts",
        "lease",
        "    if state is None:\n        return find_death(held, created, now)\n",
        "    if held is not None:\n        return find_death(held, created, now)\n",
        "tests/test_recovery.py::test_renewed_lease",
    ),
    _mutant(
        "lease: whoever took a build over lives by his own",
        "lease",
        "    return death and find_death(held, created, now)\n",
        "    return death\n",
        "tests/test_recovery.py::test_taken_over_before_the_clock_was_set_back",
    ),
    _mutant(
        "lease: whoever renews a build keeps it alive",
        "lease",
        "    return death and find_death(held, created, now)\n",
        "    return find_death(held, created, now)\n",
        "tests/test_recovery.py::test_renewed_by_another",
    ),
    _mutant(
        "recovery: it goes by the newest rows",
        "recovery",
        "catalog.as_admin().current()",
        "catalog.as_admin()",
        "tests/test_recovery.py::test_a_handle_that_may_be_stale",
    ),
    _mutant(
        "fsck: it goes by the newest rows",
        "fsck",
        " else catalog.current()",
        " else catalog",
        "tests/test_recovery.py::test_a_handle_that_may_be_stale",
    ),
    _mutant(
        "checkpoint: that of a build is no later one's of the name",
        "lease",
        " if written is not None and written.created_at == record.created_at else None\n",
        "\n",
        f"{_OPERATIONS}::test_checkpoint_of_a_row_that_another_process_deleted",
    ),
    _mutant(
        "recovery: a row that went on is left alone",
        "rules",
        "    if row is None or row.record != seen:\n",
        "    if row is None:\n",
        "tests/test_recovery.py::test_a_build_that_goes_on_wins",
    ),
    _mutant(
        "recovery: a row that was taken over is not promoted",
        "catalog",
        "            rules.require_unchanged(draft, seen)\n            return rules.promote(\n",
        "            return rules.promote(\n",
        "tests/test_recovery.py::test_a_build_that_is_taken_over_is_not_promoted",
    ),
    _mutant(
        "recovery: a sidecar may lie in a directory",
        "recovery",
        "    if not there and storage.size(key) is None:\n",
        "    if not there:\n",
        "tests/test_recovery.py::test_ready_in_a_directory",
    ),
    _mutant(
        "recovery: attested are these very bytes",
        "recovery",
        "    if artifacts.digest(record) != sidecar.artifact:\n",
        "    if False:\n",
        "tests/test_recovery.py::test_sidecar_of_other_bytes",
    ),
    _mutant(
        "recovery: the data is of this very row",
        "recovery",
        "    if origin not in (None, Origin.of(record)):\n",
        "    if False:\n",
        "tests/test_recovery.py::test_data_of_an_earlier_result",
    ),
    _mutant(
        "recovery: the row changes before bytes go",
        "recovery",
        "    if decision.sidecar is not None:\n",
        "    if step is RecoveryStep.REAP:\n        reaper.artifacts.remove(record)\n"
        "    if decision.sidecar is not None:\n",
        "tests/test_recovery.py::test_a_build_that_goes_on_wins",
        "tests/test_crash.py -k reap",
    ),
    _mutant(
        "recovery: temporary files of live builds stay",
        "recovery",
        "        if garbage.is_temporary(name) and table not in in_use:\n",
        "        if garbage.is_temporary(name):\n",
        "tests/test_recovery.py::test_temporary_files_of_live_builds",
    ),
    _mutant(
        "recovery: a temporary file may be that of a row of another name",
        "recovery",
        "names | {garbage.stem_of(record.parquet_path) for record in going_on}",
        "names",
        "tests/test_recovery.py::test_temporary_files_of_live_builds_under_odd_names",
    ),
    _mutant(
        "recovery: a build that was taken over meanwhile keeps its temporary file",
        "recovery",
        "                if mode.dry_run:\n",
        "                if True:\n",
        "tests/test_recovery.py::test_taken_over_while_it_is_judged",
    ),
    _mutant(
        "recovery: a side object whose name is built anew stays",
        "recovery",
        "        if row is not None and row.record.status is ResultTableStatus.BUILDING:\n",
        "        if False:\n",
        "tests/test_recovery.py::test_a_name_is_built_anew_before_its_side_object_is_swept",
    ),
    _mutant(
        "recovery: data goes only of the row that was judged",
        "reaping",
        "            rules.require_unchanged(Draft(state), failed)\n",
        "",
        "tests/test_recovery.py::test_a_name_is_used_again_before_its_data_is_reaped",
    ),
    _mutant(
        "recovery: data that another row names is not to be reaped",
        "reaping",
        "        return any(table.filter(others).num_rows for table in self._named)\n",
        "        return False\n",
        "tests/test_recovery.py::test_shared_data_is_kept",
    ),
    _mutant(
        "recovery: data that another row has come to name is not reaped",
        "reaping",
        "            self._look(state)\n",
        "",
        "tests/test_recovery.py::test_data_becomes_shared_before_it_is_reaped",
    ),
)

VACUUM = (
    _mutant(
        "vacuum: a listing that lacks every version is not believed",
        "vacuum",
        "        if not listing.versions:\n",
        "        if False:\n",
        "tests/test_vacuum.py -k lacks_the_versions",
    ),
    _mutant(
        "vacuum: a retired version keeps its name",
        "vacuum",
        "                    storage.retire(action.key)\n",
        "                    storage.delete(action.key)\n",
        "tests/test_vacuum.py::test_version_names_are_never_free",
        fast=True,
    ),
    _mutant(
        "vacuum: the name of a lost version is taken again",
        "vacuum",
        "        if (info is None or info.size) and not",
        "        if info is not None and info.size and not",
        "tests/test_vacuum.py::test_a_lost_version_stands_in_no_vacuums_way",
    ),
    _mutant(
        "vacuum: a lost version that is kept stops it",
        "reach",
        "        if retention.keeps(version):\n",
        "        if False:\n",
        "tests/test_vacuum.py -k 'lost_version'",
    ),
    _mutant(
        "vacuum: what versions reach is in the segments that they list",
        "reach",
        "manifest.decode_segment(key, data, listed=info)",
        "manifest.decode_segment(key, data)",
        "tests/test_vacuum.py::test_another_segment_stops_a_vacuum",
    ),
    _mutant(
        "vacuum: its own version stops whoever stands on an earlier one",
        "vacuum",
        "        version = _commit(root.log, plan)  # 4\n",
        "        version = plan.state.version\n",
        "tests/test_vacuum_races.py::test_paused_writer",
    ),
    _mutant(
        "vacuum: what came meanwhile is spared",
        "vacuum",
        "        _on_newest(root.log, lambda state: _spare_new(root, state, plan))  # 5\n",
        "",
        "tests/test_vacuum_races.py",
    ),
    _mutant(
        "vacuum: what kept versions reach is spared",
        "vacuum",
        "    _spare(Reach(root, plan.stems), kept, plan)\n    return plan\n",
        "    return plan\n",
        "tests/test_vacuum.py",
    ),
    _mutant(
        "vacuum: the grace",
        "garbage",
        "        return passed >= (self.grace + 1 if self.grace else 0)\n",
        "        return True\n",
        "tests/test_vacuum.py::test_the_grace_begins_when_the_next_version_is_committed",
    ),
    _mutant(
        "vacuum: a live build's objects",
        "vacuum",
        "        if table not in building and age",
        "        if age",
        "tests/test_vacuum.py::test_live_build_is_left_alone",
    ),
    _mutant(
        "vacuum: other programs' files",
        "vacuum",
        "        elif not garbage.is_own(storage, stem):\n",
        "        elif False:\n",
        "tests/test_vacuum.py::test_foreign_files_are_only_reported",
    ),
    _mutant(
        "vacuum: results older than the catalog",
        "vacuum",
        "        if stem.oldest < born:\n",
        "        if False:\n",
        "tests/test_vacuum.py::test_results_older_than_the_catalog",
    ),
    _mutant(
        "vacuum: tags",
        "retention",
        " or version >= self.floor or version in self.tags.values()\n",
        " or version >= self.floor\n",
        "tests/test_tags.py::test_vacuum_never_retires_a_tag",
    ),
    _mutant(
        "vacuum: no tag on what is retired",
        "retention",
        "        if not self.keeps(version):\n",
        "        if False:\n",
        "tests/test_tags.py::test_no_such_version",
        "tests/test_tags.py::test_tag_and_vacuum_never_both_win",
    ),
)

BUCKETS = (
    _mutant(
        "bucket: a create is conditional",
        "objects",
        'self.fs.pipe_file(path, data, mode="create", timeout=patience.limit)',
        "self.fs.pipe_file(path, data, timeout=patience.limit)",
        "tests/test_objects.py -k 'test_create_is_exclusive and moto'",
    ),
    _mutant(
        "bucket: a refused create is read back",
        "objects",
        "            if found in (data, mark_of(data)):  # it may have been retired since\n"
        "                return\n",
        "",
        "tests/test_simulation.py::test_promises_hold",
    ),
    _mutant(
        "bucket: an unanswered create is unknown",
        "objects",
        "        if maybe_done:\n",
        "        if False:\n",
        "tests/test_simulation.py::test_cases",
    ),
    _mutant(
        "bucket: what vacuum has retired may have been one's own",
        "objects",
        "            if found in (data, mark_of(data)):",
        "            if found == data:",
        "tests/test_simulation.py::test_cases",
    ),
    _mutant(
        "bucket: what is empty without a mark may have been one's own",
        "objects",
        "            if found and not refused:",
        "            if found is not None and not refused:",
        "tests/test_traps.py -k without_a_mark",
    ),
    _mutant(
        "bucket: nothing empty is created",
        "objects",
        "        if not data:\n",
        "        if False:\n",
        "tests/test_objects.py -k moto",
    ),
    _mutant(
        "bucket: a store is tried before it is written to",
        "root_format",
        "(known is None or storage.store not in known.stores)",
        "False",
        "tests/test_requests.py::test_a_bucket_is_tried_once",
    ),
)

_SQL = "tests/test_sql.py"
_SEARCH = "tests/test_search.py"

QUERIES = (
    _mutant(
        "sql: no file is reachable",
        "sql",
        '"enable_external_access": False,',
        '"enable_external_access": True,',
        f"{_SQL}::test_no_file_is_reachable",
    ),
    _mutant(
        "sql: it only reads",
        "sql",
        "    if kinds[0] not in _READING:\n",
        "    if False:\n",
        f"{_SQL}::test_what_is_no_statement_that_reads",
    ),
    _mutant(
        "sql: two results are not one name",
        "sql",
        "            _require_one_spelling(reads, statement, name)\n",
        "",
        f"{_SQL}::test_another_spelling",
    ),
    _mutant(
        "sql: only what is ready has data",
        "sql",
        "    if not record.is_ready:\n",
        "    if False:\n",
        f"{_SQL}::test_a_result_that_is_not_ready",
    ),
    _mutant(
        "sql: the rows and the results are of one version",
        "answers",
        "sql.query(self.catalog.snapshot(),",
        "sql.query(self.catalog,",
        f"{_SQL}::test_one_version",
    ),
    _mutant(
        "search: a row alone decides its similarity",
        "search",
        "        products = np.add.reduce(exact * query, axis=1)\n",
        "        products = exact.astype(np.float32) @ query.astype(np.float32)\n",
        f"{_SEARCH} -k 'definition or alone'",
    ),
    _mutant(
        "search: equally near rows go by key",
        "search",
        '(SIMILARITY, "descending"), (self._key, "ascending")',
        '(SIMILARITY, "descending")',
        f"{_SEARCH} -k 'ties or definition'",
    ),
    _mutant(
        "search: a later row that is as near as the last is looked at",
        "search",
        "pa.array(found >= worst)",
        "pa.array(found > worst)",
        f"{_SEARCH}::test_ties_go_to_the_smallest_key",
    ),
    _mutant(
        "search: a query without direction is refused",
        "search",
        "        if not 0 < largest < np.inf:\n",
        "        if False:\n",
        f"{_SEARCH}::test_what_is_no_query",
    ),
    _mutant(
        "search: a row without a vector is told",
        "search",
        "        if lists.null_count:\n",
        "        if False:\n",
        f"{_SEARCH}::test_a_vector_that_has_no_direction",
    ),
    _mutant(
        "search: what an index finds is ranked anew",
        "search",
        'best = self._ranked(pa.table([keys, found, positions], [self._key, SIMILARITY, "at"]), k)',
        'best = pa.table([keys, found, positions], [self._key, SIMILARITY, "at"]).slice(0, k)',
        f"{_SEARCH}::test_a_large_index",
    ),
    _mutant(
        "search: an index is of this table",
        "ann_index",
        '    if found != (count, count, count, dimensions, "Cos"):\n',
        "    if False:\n",
        f"{_SEARCH}::test_a_damaged_index",
    ),
    _mutant(
        "search: an index of less precision is not asked",
        "ann_index",
        'if graph is None or graph.dtype.name != "F32":',
        "if graph is None:",
        f"{_SEARCH}::test_an_index_of_less_precision_is_not_asked",
    ),
)

HOSTILE = (
    _mutant(
        "open: what Arrow says of a damaged footer is typed",
        "artifacts",
        "        except (pa.ArrowException, OSError) as error:\n            if isinstance(",
        "        except pa.ArrowInvalid as error:\n            if isinstance(",
        "tests/test_open.py::test_data_with_a_damaged_schema",
    ),
    _mutant(
        "sql: what DuckDB does not take is typed",
        "sql",
        "            except duckdb.Error as error:\n                raise InvalidInputError(",
        "            except ZeroDivisionError as error:\n                raise InvalidInputError(",
        "tests/test_sql.py::test_data_that_duckdb_does_not_take",
    ),
    _mutant(
        "hostile: nothing is written through a link out of the root",
        "local",
        "        if directory not in self._inside:\n",
        "        if False:\n",
        f"{_HOSTILE} -k through_a_link",
    ),
    _mutant(
        "hostile: a catalog.db holds a table and no program",
        "jammi_rows",
        "    if computed:\n",
        "    if False:\n",
        f"{_HOSTILE} -k is_a_program",
    ),
    _mutant(
        "hostile: a catalog.db has only so many columns",
        "jammi_rows",
        "    if len(columns) > _MOST_COLUMNS:\n",
        "    if False:\n",
        f"{_HOSTILE} -k of_many_columns",
    ),
    _mutant(
        "hostile: values of JSON are counted before they are decoded",
        "strict_json",
        '    if data.count(b",") > MAX_COMMAS:\n        raise FormatError',
        "    if False:\n        raise FormatError",
        f"{_HOSTILE} -k many_values",
    ),
    _mutant(
        "hostile: a build state is checked field by field",
        "lease",
        '                require_count("checkpoint", state.checkpoint)\n',
        "                pass\n",
        f"{_HOSTILE} -k build_state_of_other_types",
    ),
)

WORKERS = (
    _mutant(
        "workers: a part that was lost is done again",
        "parts",
        "        self.begin(task)\n",
        "",
        f"{_PARTS} -k lost_each_time",
    ),
    _mutant(
        "workers: after a few attempts this process does it",
        "parts",
        " and task.attempts < ATTEMPTS:",
        ":",
        f"{_PARTS} -k lost_each_time",
    ),
    _mutant(
        "workers: what failed in a worker is done by this process",
        "parts",
        "            task.is_ours = True\n        self.begin(task)",
        "        self.begin(task)",
        f"{_PARTS} -k in_the_worker_only",
    ),
    _mutant(
        "workers: an executor that takes nothing is not asked again",
        "parts",
        "                self._executor = None\n",
        "                raise\n",
        f"{_PARTS} -k takes_nothing",
    ),
    _mutant(
        "workers: what a worker says is wrong is looked at here",
        "parts",
        "if is_done and not (self._doubt is not None and self._doubt(answer)):",
        "if is_done:",
        f"{_PARTS} -k doubtful",
        f"{_CLUSTERS} -k do_not_see",
    ),
    _mutant(
        "workers: an error is not sent back",
        "parts",
        '        return False, f"{type(error).__name__}: {error}"',
        "        raise",
        f"{_PARTS} -k in_the_worker_only",
    ),
    _mutant(
        "workers: an interrupt is no lost part",
        "parts",
        "        except (KeyboardInterrupt, SystemExit):\n            raise\n",
        "",
        f"{_PARTS} -k interrupt",
    ),
    _mutant(
        "workers: nothing goes on for a caller who has gone",
        "parts",
        "            future.cancel()\n",
        "            pass\n",
        f"{_PARTS} -k stops_listening",
    ),
    _mutant(
        "workers: nothing goes on for a caller who was interrupted",
        "parts",
        "a traceback keeps `run` from ending by itself\n            errand.cancel()\n",
        "\n            pass\n",
        f"{_PARTS} -k progress_that_raises",
    ),
    _mutant(
        "workers: a copy is where the caller looks",
        "copy_crew",
        "        return isinstance(self._target, LocalStorage) and",
        "        return False and",
        f"{_CLUSTERS} -k write_elsewhere",
    ),
    _mutant(
        "workers: a verdict is on what is still there",
        "store",
        "now.get(record.table_name) != record",
        "False",
        f"{_CLUSTERS} -k deleted_meanwhile",
    ),
    _mutant(
        "workers: a root in memory stays in its process",
        "memory",
        "    if process != _PROCESS:\n",
        "    if False:\n",
        f"{_CLUSTERS} -k in_memory",
    ),
    _mutant(
        "workers: a process connects once",
        "reconnecting",
        "    if found is None:\n",
        "    if True:\n",
        f"{_CLUSTERS} -k connects_once",
    ),
    _mutant(
        "workers: few connections are kept",
        "reconnecting",
        "            _storages.pop(old, None)\n",
        "            pass\n",
        f"{_CLUSTERS} -k few_connections",
    ),
)

_BOMBS = "tests/test_bombs.py"

BOMBS = (
    _mutant(
        "bombs: memory is bounded before Arrow sees the bytes",
        "parquet_footer",
        "    if memory > most:\n",
        "    if False:\n",
        f"{_BOMBS} -k 'lies or many_groups'",
        fast=True,
    ),
    _mutant(
        "bombs: a dictionary counts for each of its values",
        "parquet_claims",
        "            memory += count * longest\n",
        "            pass\n",
        f"{_BOMBS}::test_a_dictionary_counts_for_each_value",
    ),
    _mutant(
        "bombs: encodings without a bound are refused",
        "parquet_claims",
        "        if encoding not in _BOUNDED:\n",
        "        if False:\n",
        f"{_BOMBS} -k 'lies or bombs_of_arrow'",
    ),
    _mutant(
        "bombs: pages hold what the footer says",
        "parquet_claims",
        "    if values != chunk.values:\n",
        "    if False:\n",
        f"{_BOMBS}::test_lies",
    ),
    _mutant(
        "bombs: rows of a row group are bounded",
        "parquet_footer",
        "    if rows > MOST_GROUP_ROWS:\n",
        "    if False:\n",
        f"{_BOMBS} -k bombs_of_arrow",
    ),
    _mutant(
        "bombs: columns lie within the pages",
        "parquet_footer",
        "    if min(numbers) < 0 or start < len(MAGIC) or start + packed > end:\n",
        "    if False:\n",
        f"{_BOMBS}::test_lies",
    ),
    _mutant(
        "bombs: Thrift nests only so deep",
        "thrift",
        "    if deepest <= 0:\n        raise ValueError(_TOO_DEEP)\n    count, kind",
        "    count, kind",
        f"{_BOMBS}::test_lists_nest_only_so_deep",
    ),
    _mutant(
        "bombs: only what was made of its pages is told to be ours",
        "row_pages",
        "    if at != end or not data.startswith(layout, end) or",
        "    if at != end or",
        f"{_BOMBS}::test_nothing_else_passes_for_ours",
    ),
    _mutant(
        "bombs: writers stay within what readers take",
        "manifest",
        "    if size > _GROUP_BYTES:\n",
        "    if False:\n",
        f"{_BOMBS}::test_large_rows_come_in_small_groups",
    ),
)

_SIGNED = "tests/test_signing.py"

SIGNATURES = (
    _mutant(
        "signatures: written before the sidecar",
        "attesting",
        "    signed = _put_signature(artifacts, record, manifest)\n"
        "    found = _put_sidecar(artifacts, record, signed)\n",
        "    found = _put_sidecar(artifacts, record, manifest)\n"
        "    signed = _put_signature(artifacts, record, found)\n",
        "tests/test_crash.py::test_every_crash_state[memory-signed]",
    ),
    _mutant(
        "signatures: who verifies asks for one",
        "artifacts",
        "        if unbelieved is not None:\n            return unbelieved\n",
        "",
        f"{_SIGNED} -k 'unsigned_results or another_key'",
        fast=True,
    ),
    _mutant(
        "signatures: of this table and sidecar",
        "signing",
        "        return None if flaw is None else BadSignature(flaw)\n",
        "        return None\n",
        f"{_SIGNED} -k 'swapped or changed_sidecar or another_name'",
    ),
    _mutant(
        "signatures: the name of a key is no proof",
        "signing",
        "(not own or not key_id or own == key_id) and verify(message, signature) is True",
        "own == key_id or verify(message, signature) is True",
        f"{_SIGNED} -k 'is_no_proof'",
    ),
    _mutant(
        "signatures: what is signed is encoded with its type",
        "signing",
        'b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)',
        "payload",
        f"{_SIGNED}::test_the_envelope",
    ),
    _mutant(
        "signatures: JSON is compared as JSON",
        "signing",
        "    if strict_json.canonical_json(said) == strict_json.canonical_json(expected):\n",
        "    if said == expected:\n",
        f"{_SIGNED} -k takes_for_equal",
    ),
    _mutant(
        "signatures: nothing that somebody put there is signed",
        "attesting",
        "    if dataclasses.replace(earlier, produced_by=by, produced_at=at) != manifest:\n",
        "    if False:\n",
        f"{_SIGNED} -k nothing_else_is_signed",
    ),
    _mutant(
        "signatures: a sidecar that was there is signed as it is",
        "attesting",
        "    if found != signed:  # of an attempt that nobody signed\n",
        "    if False:\n",
        f"{_SIGNED} -k by_one_who_signs",
    ),
    _mutant(
        "signatures: what no verifier believes is not written",
        "signing",
        "        if self.verifiers and self.judge(table_name, sidecar, data) is not None:\n",
        "        if False:\n",
        f"{_SIGNED} -k no_verifier_believes",
    ),
    _mutant(
        "signatures: recovery promotes nothing unsigned where somebody asks",
        "recovery",
        "    if artifacts.read_signature(record) is None:\n",
        "    if False:\n",
        f"{_SIGNED} -k test_recovery",
    ),
    _mutant(
        "signatures: deleted with their results",
        "artifacts",
        "suffixes = (naming.SIGNATURE_SUFFIX, naming.SIDECAR_SUFFIX,",
        "suffixes = (naming.SIDECAR_SUFFIX,",
        f"{_SIGNED}::test_deletion",
    ),
    _mutant(
        "signatures: copied",
        "copy_plan",
        "(*naming.INDEX_SIBLINGS, naming.SIGNATURE_SUFFIX, naming.SIDECAR_SUFFIX)",
        "(*naming.INDEX_SIBLINGS, naming.SIDECAR_SUFFIX)",
        f"{_SIGNED}::test_copies",
    ),
)

COPIES = (
    _mutant(
        "copies: the empty catalog has no object",
        "copy_plan",
        "first = max(1, min(kept)) if",
        "first = min(kept) if",
        "tests/test_copy.py::test_a_tag_of_the_empty_catalog",
    ),
    _mutant(
        "copies: what was copied is what the row still says",
        "copy_plan",
        "            if self.done.get(data) == stamp:\n",
        "            if data in self.done:\n",
        "tests/test_copy_races.py::test_a_copied_result_is_made_anew_before_the_rest_is_copied",
    ),
    _mutant(
        "copies: nobody commits to an unfinished one",
        "root_format",
        "        return ensure(storage)  # another process was first\n",
        "        return created\n",
        "tests/test_copy_races.py::test_a_copy_claims_the_root_of_a_first_writer",
        "copies: all that a kill may have left is filled in",
        "copy_root",
        "range(max(1, noted.version) if noted else 1, plan.version)",
        "range(max(1, noted.version if noted else 1, plan.version - 32), plan.version)",
        f"{_CRASH}::test_a_tag_below_many_retired_versions",
    ),
    _mutant(
        "copies: what the source retires under a stand-in is looked at anew",
        "copy_root",
        "        return {key_of(version): (0, RETIRED) for version in gone}\n",
        "        return {}\n",
        "tests/test_copy_races.py::test_versions_that_are_retired_before_they_are_filled_in",
    ),
    _mutant(
        "copies: a stand-in for what is lost does not stay",
        "copy_root",
        "self._retire(v for v in versions if v in lost or not",
        "self._retire(v for v in versions if not",
        "tests/test_copy_races.py::test_a_version_that_is_lost_before_it_is_filled_in",
    ),
    _mutant(
        "copies: what is to come is noted before it is shown",
        "copy_root",
        "            coming = Commit(since, self._standing.commit_id), Commit(",
        "            coming = (Commit(since, self._standing.commit_id),)\n            _ = Commit(",
        f"{_CRASH}::test_killed_where_the_source_retires_all_that_is_known",
    ),
    _mutant(
        "copies: what a killed call has shown stays noted",
        "copy_root",
        "coming = Commit(since, self._standing.commit_id), ",
        "coming = Commit(plan.version, plan.commit_id), ",
        f"{_CRASH}::test_killed_again_before_anything_is_filled_in",
    ),
)

TOLD = (
    _mutant(
        "serve: a reader that goes away is silent",
        "serving",
        " and not isinstance(error, ConnectionError) and ",
        " and ",
        "tests/test_serving.py::test_a_reader_that_goes_away_is_silent",
    ),
    _mutant(
        "serve: what is said of an error is escaped",
        "serving",
        'printable(f"a request ended in {type(error).__name__}: {error}")',
        'f"a request ended in {type(error).__name__}: {error}"',
        "tests/test_serving.py::test_an_error_of_a_request_is_one_escaped_line",
    ),
    _mutant(
        "hooks: a commit is told as far as the hook's scope sees",
        "hooks",
        "            if scope.sees(row.record.tenant_id):\n                done",
        "            if True:\n                done",
        "tests/test_hooks.py::test_a_mixed_commit",
    ),
    _mutant(
        "hooks: only visible rows become ready or fail",
        "hooks",
        "and not row.deleted and scope.sees(row.record.tenant_id)\n",
        "and not row.deleted\n",
        "tests/test_hooks.py::test_a_scope_hears_what_it_sees",
    ),
    _mutant(
        "hooks: what one raises goes no further",
        "hooks",
        "    except Exception as error:  # noqa: BLE001 - the change stands",
        "    except KeyError as error:  # the change stands",
        "tests/test_hooks.py::test_a_hook_that_raises",
    ),
    _mutant(
        "logs: a tenant's recovery says nothing of others",
        "hooks",
        "        scope, version = _HEARD_BY.get() or self.scope, self.change.version\n",
        "        scope, version = self.scope, self.change.version\n",
        f"{_WORLDS}::test_recovery_tells_nothing",
    ),
    _mutant(
        "rows: an index without a name is not dropped unseen",
        "frames",
        "    elif named or ",
        "    elif False and ",
        "tests/test_rows_given.py::test_an_index_is_never_dropped_unseen",
    ),
)

REPAIRS = (
    _mutant(
        "repair: the catalog's id is not given up unasked",
        "repairs",
        "        if action.loses is not None and not accept_loss:\n",
        "        if False:\n",
        "tests/test_repair.py::test_format_is_written_anew",
    ),
    _mutant(
        "repair: the catalog's id is taken from what is left",
        "reformat",
        "catalog_id or (said and said[1].decode())",
        "catalog_id",
        "tests/test_repair.py::test_a_copy_still_knows_its_source",
    ),
    _mutant(
        "repair: a version that says that it is another is not used",
        "draft",
        "        if header.version != version:\n",
        "        if False:\n",
        "tests/test_repair.py::test_another_versions_bytes",
    ),
    _mutant(
        "repair: what an older version kept and is gone is kept no longer",
        "salvage",
        "header = dataclasses.replace(header, retention=retention)",
        "header = dataclasses.replace(header)",
        "tests/test_repair.py::test_a_lost_vacuum_stays_done",
    ),
    _mutant(
        "repair: what a lost version made ready does not stay a build",
        "repairs",
        "    known, building = found.stems, found.building()\n",
        "    known, building = found.stems, {}\n",
        "tests/test_repair.py::test_what_a_lost_version_made_ready",
    ),
    _mutant(
        "repair: a deleted row does not come back ready",
        "repairs",
        "    _fail_vanished(storage, found, listing, result)\n",
        "",
        "tests/test_repair.py::test_a_deleted_row_does_not_come_back_ready",
    ),
    _mutant(
        "repair: a lease that cannot be read is renewed",
        "repairs",
        "(dry_run or lease.mend_state(catalog.storage, record)):",
        "(dry_run or catalog.storage.delete(finding.subject)):",
        "tests/test_repair.py::test_a_damaged_lease_ends_no_build",
    ),
    _mutant(
        "repair: a build that may have been passed on is nobody's",
        "lease",
        "    if find_death(held, now, now) is not None:\n",
        "    if False:\n",
        "tests/test_repair.py::test_a_process_that_is_gone_may_have_passed_its_build_on",
    ),
    _mutant(
        "repair: a sound lease is left alone",
        "lease",
        "    else:\n        return False\n    now = CLOCK.now()\n",
        "    now = CLOCK.now()\n",
        "tests/test_repair.py::test_an_owner_that_renewed_meanwhile",
    ),
)

MUTANTS = (
    *LOCAL,
    *SYNCS,
    *COMMITS,
    *FORMATS,
    *RULES,
    *TENANTS,
    *BUILDS,
    *VACUUM,
    *BUCKETS,
    *QUERIES,
    *HOSTILE,
    *WORKERS,
    *BOMBS,
    *SIGNATURES,
    *COPIES,
    *TOLD,
    *REPAIRS,
)
