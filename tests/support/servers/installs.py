"""Servers that no extra of the package brings: installed on first use, into a cache of the user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock

CACHE = Path.home() / ".cache" / "jammi-files-tests"


class UnavailableError(Exception):
    """A server cannot be had on this machine; the text says why, and what would help."""


class NotStartedError(UnavailableError):
    """A server is installed but did not come up; the next try may go better."""


def from_npm(package: str, program: str) -> list[str]:
    """Return the command of a program of an npm package ``name@version``."""
    if not (shutil.which("npm") and (node := shutil.which("node"))):
        raise UnavailableError(f"{package} needs npm and node, which are not on this machine")
    home = CACHE / package.replace("@", "-")
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-save")
    _once(home, lambda part: [["npm", "install", "--prefix", str(part), *quietly, package]])
    return [node, str((home / "node_modules" / ".bin" / program).resolve())]


def from_pypi(requirement: str, program: str) -> list[str]:
    """Return the command of a program of a PyPI package ``name==version``."""
    home = CACHE / requirement.replace("==", "-")

    def commands(part: Path) -> list[list[str]]:
        install = [str(part / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement]
        return [[sys.executable, "-m", "venv", str(part)], install]

    _once(home, commands)
    # By its interpreter: the script's first line names the directory that it was made in.
    return [str(home / "bin" / "python"), str(home / "bin" / program)]


def from_debian(packages: Sequence[str], programs: Sequence[str]) -> None:
    """Make sure that programs of Debian packages are there; only CI installs for the system."""
    if all(map(shutil.which, programs)):
        return
    advice = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if not (shutil.which("apt-get") and os.geteuid() == 0 and os.environ.get("CI")):
        raise UnavailableError(f"{programs[0]} is not installed: as root, {advice}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    CACHE.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(CACHE / "apt.lock"):
        if not all(map(shutil.which, programs)):
            _run(["apt-get", "update", "-q"], environment)
            install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
            _run(install, environment)


def _once(home: Path, commands: Callable[[Path], list[list[str]]]) -> None:
    """Let commands fill a directory, which is there only when all of them went well."""
    CACHE.mkdir(parents=True, exist_ok=True)
    part = home.with_name(home.name + ".part")
    with filelock.FileLock(CACHE / "lock"):  # one worker installs, the others wait
        if home.exists():
            return
        shutil.rmtree(part, ignore_errors=True)
        for command in commands(part):
            _run(command)
        part.rename(home)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    made = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if made.returncode:
        raise UnavailableError(f"{' '.join(command)} failed: {made.stderr[-500:]}")
