"""Every file under a directory as it is, to compare a before with an after."""

from __future__ import annotations

from pathlib import Path


def listing(root) -> dict[str, bytes | None]:
    """Return the bytes of every file below ``root`` by relative path; None for a directory.

    Of the writers' lock only that it is there: its byte says how its last holder ended.
    """
    base = Path(root)
    found = {path.relative_to(base).as_posix(): path for path in sorted(base.rglob("*"))}
    return {
        name: None if path.is_dir() else b"" if name == "_catalog/lock" else path.read_bytes()
        for name, path in found.items()
    }


def newest_manifest(root) -> Path:
    """Return the file of the newest version."""
    return max(Path(root).glob("_catalog/manifest/*/*.parquet"))
