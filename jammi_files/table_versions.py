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
_STAGED = ("_staged_commits", "_commits")
"""Where catalogs keep what they have not published: the protocol's name, and that of its draft."""

_ICEBERG_SUFFIX = ".metadata.json"
_ICEBERG_NUMBER = re.compile(r"v?(\d+)[.-]")


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
    if any(any((log / staged).glob("*.json")) for staged in _STAGED):
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


def require_newest_iceberg(path: str | os.PathLike[str]) -> None:
    """Refuse a metadata file that another follows: its own version never moves again.

    Whoever asks the catalog which file is current needs no such check; a fixed path does.

    Raises:
        InvalidInputError: a file of a later number lies beside it.
    """
    file = Path(path)
    own = _ICEBERG_NUMBER.match(file.name)
    beside = sorted(file.parent.glob(f"*{_ICEBERG_SUFFIX}")) if own else []
    numbers = ((_ICEBERG_NUMBER.match(each.name), each.name) for each in beside)
    later = [name for found, name in numbers if found and own and int(found[1]) > int(own[1])]
    if later:
        raise InvalidInputError(
            f"'{file}' is followed by '{later[-1]}', so it says nothing of the table's present"
            " state; give a callable that asks the catalog, e.g."
            " lambda: iceberg_version(table.metadata_location)"
        )


def git_version(path: str | os.PathLike[str]) -> str:
    """Return ``git:<tree id>`` of a directory in a clean checkout.

    The id names the content of that directory: a commit that changes other directories, or none,
    leaves it. Changed and untracked files are refused, since no id covers them, and so are files
    that git was told not to look at; ignored files are no part of it.

    Raises:
        InvalidInputError: no checkout, no commit yet, changed, untracked or hidden files, or no
            ``git``.
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
    flagged = _git(path, "ls-files", "-v", "--", ".").splitlines()
    hidden = [line[2:] for line in flagged if line[0].islower() or line[0] == "S"]
    if hidden:
        raise InvalidInputError(
            f"git does not look at {len(hidden)} files of '{path}' (first '{hidden[0]}': marked"
            " assume-unchanged or skip-worktree), so it cannot pin them; unmark them, or give a"
            " callable such as lambda: directory_version(path)"
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
    # Another repository's variables (inside a hook) must not answer for this one; no locks, no file
    # system monitor that the repository's own configuration would start, and no looser comparison
    # of files: a rewrite that puts size and modification time back shows in the change time alone
    # (in whole seconds, so not within the one in which git wrote the file).
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    look = ("core.fsmonitor=false", "core.trustctime=true", "core.checkStat=default")
    settings = [part for setting in look for part in ("-c", setting)]
    command = [program, *settings, "-C", os.fspath(path), *arguments]
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
