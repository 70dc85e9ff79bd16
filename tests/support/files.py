"""Every file under a directory as it is, to compare a before with an after."""

from __future__ import annotations

from pathlib import Path


def listing(root) -> dict[str, bytes | None]:
    """Return the bytes of every file below ``root`` by relative path; None for a directory."""
    base = Path(root)
    return {
        path.relative_to(base).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(base.rglob("*"))
    }


def newest_manifest(root) -> Path:
    """Return the file of the newest version."""
    return max(Path(root).glob("_catalog/manifest/*/*.parquet"))
