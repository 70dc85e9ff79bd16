"""Virtual environments for programs that have no place in that of the tests: made once, kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock

CACHE = Path.home() / ".cache" / "jammi-files-tests"


def find_python(
    home: Path, requirements: Sequence[str], is_complete: Callable[[Path], bool]
) -> tuple[Path | None, str]:
    """Return the Python of an environment, made on first use; the reason if it cannot be made."""
    CACHE.mkdir(parents=True, exist_ok=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    with filelock.FileLock(CACHE / f"{home.name}.lock"):  # one worker makes it, the others wait
        if not is_complete(python):
            for command in (
                [sys.executable, "-m", "venv", home],
                [python, "-m", "pip", "install", "--quiet", *requirements],
            ):
                made = subprocess.run(command, capture_output=True, text=True, check=False)
                if made.returncode:
                    names = ", ".join(requirements)
                    return None, f"{names} cannot be installed: {made.stderr[-500:]}"
    return python, ""
