"""Dagster, Prefect, pytest-benchmark and Hugging Face datasets, in an environment of their own.

They bring some 130 packages, some of which forbid versions that the tests need. The library under
test is not installed there: its own directory is on the path, and nothing else.
"""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path

from support.venvs import CACHE, find_python

import jammi_files

REQUIREMENTS = (
    "dagster==1.13.29",
    "datasets==5.2.0",
    "pandas>=3",
    "prefect==3.9.1",
    "pytest-benchmark==5.3.1",
)
LIMIT = 600.0
"""Seconds after which an example fails that has not ended; they take some 5, Prefect 20."""

_ENVIRONMENT = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Its server starts in 10 s, and gives up after 20 where others need the processor.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(LIMIT / 2),
    "PYTHONDONTWRITEBYTECODE": "1",
}


def find_orchestrators() -> tuple[Path | None, str]:
    """Return the Python that has them, made on first use; the reason if it cannot be made.

    ``$JAMMI_ORCHESTRATORS_VENV`` says where, else a cache directory of the user.
    """
    needed = sorted({*REQUIREMENTS, *_own_requirements()})
    given = os.environ.get("JAMMI_ORCHESTRATORS_VENV")
    home = Path(given) if given else CACHE / "orchestrators"
    mark = home / "complete.txt"

    def is_complete(python: Path) -> bool:
        return python.exists() and mark.exists() and mark.read_text() == "\n".join(needed)

    python, reason = find_python(home, needed, is_complete)
    if python is not None:
        mark.write_text("\n".join(needed))
    return python, reason


def run_in(python: Path, directory: Path, *arguments: str | Path) -> str:
    """Run Python in a directory, with nothing of this process's environment but its path."""
    library = directory / "library"
    if not library.exists():
        library.mkdir()
        (library / "jammi_files").symlink_to(Path(jammi_files.__file__).parent)
        version = metadata.version("jammi_files")
        known = library / f"jammi_files-{version}.dist-info"
        known.mkdir()
        (known / "METADATA").write_text(f"Name: jammi_files\nVersion: {version}\n")
    home = directory / "home"
    env = {
        **_ENVIRONMENT,
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "PREFECT_HOME": str(home / "prefect"),
        "PYTHONPATH": str(library),
    }
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [python, *arguments],
        cwd=directory,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def _own_requirements() -> list[str]:
    return [each for each in metadata.requires("jammi_files") or [] if "extra ==" not in each]
