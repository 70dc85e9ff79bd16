"""What holds at every moment of a root's life, whatever crashed or raced: one check for all tests.

It is `jammi_files.fsck` in full depth: no finding may be an error, and the notices are only those
that the caller's situation explains.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from jammi_files.catalog import Catalog
from jammi_files.fsck import Finding, Kind, Severity, fsck
from jammi_files.storage import Storage

CRASH_POINTS = {
    Kind.DEAD_BUILD: "after the row was created and before it became ready or failed",
    Kind.TEMPORARY_FILE: "while an object was written, or before its temporary name was removed",
    Kind.ORPHAN_SEGMENT: "after a segment was written and before the manifest that lists it",
    Kind.ORPHAN_OBJECT: "after a row was deleted and before its objects were",
    Kind.RETIRED_VERSION: "after vacuum's version and before the retired ones were emptied",
    Kind.ORPHAN_BUILD_STATE: "after a build's row ended and before its side object was removed",
}
"""Every notice that a crash may leave, and where the crash was."""

AFTER_RECOVERY = frozenset({Kind.TEMPORARY_FILE, Kind.ORPHAN_SEGMENT, Kind.ORPHAN_OBJECT})
"""What recovery leaves to vacuum: it costs space and changes no answer."""


def check_invariants(
    where: Storage | str | os.PathLike[str], allowed: Collection[Kind] = ()
) -> list[Finding]:
    """Check a whole root, opened afresh, and return its findings, which are all ``allowed``."""
    catalog = Catalog(where) if isinstance(where, Storage) else Catalog.open(where)
    findings = fsck(catalog.as_admin(), deep=True)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    assert not errors, errors
    unexplained = [finding for finding in findings if finding.kind not in allowed]
    assert not unexplained, unexplained
    assert {finding.kind for finding in findings} <= CRASH_POINTS.keys()
    return findings
