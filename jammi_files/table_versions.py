"""Versions that something else keeps: a Delta log, an Iceberg metadata file, a git checkout.

Only what is on the local disk is read, and only what says for sure which state is the current one.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson

from jammi_files.errors import InvalidInputError, NotFoundError, StateError

_DELTA = re.compile(r"(\d{20})(\.json|\.checkpoint(\.[\w.-]+)?\.(parquet|json))")
_ICEBERG_SUFFIX = ".metadata.json"


def delta_version(path: str | os.PathLike[str]) -> str:
    """Return ``delta:<version>:<16 hex>`` of the newest commit of a Delta table.

    The hex digits are of the commit's own file, since a table that is made anew counts from 0.

    Raises:
        NotFoundError: there is no ``_delta_log``.
        InvalidInputError: the log has no commit, or a catalog keeps the newest ones elsewhere.
    """
    log = Path(path) / "_delta_log"
    if not log.is_dir():
        raise NotFoundError(f"there is no Delta table at '{path}': no _delta_log")
    if any((log / "_staged_commits").glob("*.json")):
        raise InvalidInputError(
            f"the Delta table at '{path}' has staged commits, which only its catalog can order;"
            " give a callable that asks the catalog for the version"
        )
    names = [name.name for name in log.iterdir() if _DELTA.fullmatch(name.name)]
    if not names:
        raise InvalidInputError(f"the Delta log at '{log}' has no commit to pin")
    newest = max(name[:20] for name in names)
    # A log may have lost the JSON of a version that a checkpoint holds.
    chosen = sorted(name for name in names if name.startswith(newest))
    commit = f"{newest}.json" if f"{newest}.json" in chosen else chosen[0]
    digest = hashlib.sha256((log / commit).read_bytes()).hexdigest()[:16]
    return f"delta:{int(newest)}:{digest}"


def iceberg_version(path: str | os.PathLike[str]) -> str:
    """Return ``iceberg:<table uuid>:<snapshot id>:schema-<id>`` of a table.

    ``path`` is a metadata file (``*.metadata.json``), or a table whose ``metadata`` directory has a
    ``version-hint.text``. Without the hint the newest file may belong to a commit that lost.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: the directory has no hint, or the file is no Iceberg metadata.
    """
    file = _iceberg_file(Path(path))
    metadata = _json_object(file)
    try:
        table, schema = metadata["table-uuid"], metadata.get("current-schema-id", 0)
        snapshot = metadata.get("current-snapshot-id")
    except KeyError:
        raise InvalidInputError(f"'{file}' is no Iceberg metadata: no table-uuid") from None
    return f"iceberg:{table}:{'empty' if snapshot in (None, -1) else snapshot}:schema-{schema}"


def git_version(path: str | os.PathLike[str]) -> str:
    """Return ``git:<tree id>`` of a directory in a clean checkout.

    The id names the content of that directory: a commit that changes other directories, or none,
    leaves it. Changed and untracked files are refused, since no id covers them; ignored files are
    no part of it.

    Raises:
        InvalidInputError: no checkout, no commit yet, changed or untracked files, or no ``git``.
        StateError: the checkout moved in the meantime.
    """
    before = _git(path, "rev-parse", "HEAD:./")
    dirty = _git(path, "status", "--porcelain", "--untracked-files=normal", "--", ".")
    if dirty:
        raise InvalidInputError(
            f"'{path}' differs from its commit ({len(dirty.splitlines())} files, first"
            f" '{dirty.splitlines()[0].strip()}'); commit or stash them, or give a callable such as"
            " lambda: directory_version(path)"
        )
    if _git(path, "rev-parse", "HEAD:./") != before:
        raise StateError(f"the checkout at '{path}' moved while it was looked at")
    return f"git:{before}"


def _iceberg_file(path: Path) -> Path:
    if path.name.endswith(_ICEBERG_SUFFIX):
        return path
    metadata = path / "metadata"
    try:
        hint = (metadata / "version-hint.text").read_text().strip()
    except FileNotFoundError:
        if not metadata.is_dir():
            raise NotFoundError(f"there is no Iceberg table at '{path}'") from None
        raise InvalidInputError(
            f"'{metadata}' has no version-hint.text, so its newest file need not be the current"
            " one; give the *.metadata.json that the catalog names, or a callable that asks it"
        ) from None
    names = (
        f"v{hint}{_ICEBERG_SUFFIX}",
        f"v{hint}.gz{_ICEBERG_SUFFIX}",
        f"{hint}{_ICEBERG_SUFFIX}",
    )
    found = next((metadata / name for name in names if (metadata / name).is_file()), None)
    if found is None:
        raise InvalidInputError(f"'{metadata}' has no metadata file for its version hint {hint!r}")
    return found


def _json_object(file: Path) -> dict[str, Any]:
    try:
        data = file.read_bytes()
        if file.name.endswith(f".gz{_ICEBERG_SUFFIX}"):
            data = gzip.decompress(data)
        value = orjson.loads(data)
    except FileNotFoundError:
        raise NotFoundError(f"there is no Iceberg metadata '{file}'") from None
    except (ValueError, OSError, EOFError) as error:
        raise InvalidInputError(f"'{file}' is no Iceberg metadata: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"'{file}' is no Iceberg metadata: no JSON object")
    return value


def _git(path: str | os.PathLike[str], *arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        raise InvalidInputError("there is no program 'git' to ask; give a callable instead")
    # Another repository's variables (inside a hook) must not answer for this one; no locks, and no
    # file system monitor that the repository's own configuration would start.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = [program, "-c", "core.fsmonitor=false", "-C", os.fspath(path), *arguments]
    done = subprocess.run(  # noqa: S603 - a fixed program, arguments as a list
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**env, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InvalidInputError(f"'{path}' cannot be pinned by git: {why}")
    return done.stdout.strip()
