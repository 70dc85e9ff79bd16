"""Anchors for raw sources: a version for whatever can be seen, an error for whatever cannot.

An unpinned anchor makes a result that is never reused and never known to be fresh; so none is made
unless `unpinned_anchor` asks for it by name. Take an anchor before the input is read (`B218`): a
change that comes later then shows as a change.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard
from urllib.parse import unquote

import pyarrow.fs as pafs

from jammi_files.errors import InvalidInputError, NotFoundError
from jammi_files.file_versions import dataset_version, directory_version, file_version
from jammi_files.roots import open_storage
from jammi_files.schema import InputAnchor
from jammi_files.table_versions import (
    delta_version,
    git_version,
    iceberg_version,
    require_newest_iceberg,
)
from jammi_files.timestamps import CLOCK, format_rfc3339
from jammi_files.validation import require_text

if TYPE_CHECKING:
    import pyarrow.dataset as ds

PathName = str | os.PathLike[str]
Files = list[str] | list[Path] | tuple[PathName, ...]
Location: TypeAlias = "PathName | Files | ds.Dataset | Callable[[], str | int]"
"""What `source_version` takes: a path, a list of files, a dataset of files, or a callable."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_WHAT_WORKS = (
    "give a path to a file or directory, a list of files, or a callable that returns the version"
)


def source_anchor(source_id: str, location: Location) -> InputAnchor:
    """Return the ``source_version`` anchor that pins a raw source as it is now (`B219`).

    See `source_version` for what can be a location, and for the errors.
    """
    require_text("source_id", source_id)
    return InputAnchor.source_version(source_id, source_version(location))


def unpinned_anchor(source_id: str) -> InputAnchor:
    """Return an anchor that says only when a source was read; call it before the read (`B218`).

    A result with one is never reused (`B115`), and whether it is fresh is undecidable (`B237`).
    """
    return InputAnchor.unpinned_at_instant(source_id, format_rfc3339(CLOCK.now()))


def source_version(location: Location) -> str:
    """Return a version that changes whenever what is at ``location`` does.

    In this order: a callable's own answer; a list of files or a `pyarrow` dataset of files by names
    and contents (`dataset_version`); an Iceberg metadata file, a file (`file_version`); a directory
    with ``_delta_log`` (`delta_version`), with ``metadata/*.metadata.json`` (`iceberg_version`),
    with ``.git`` (`git_version`), any other (`directory_version`). ``file://`` and ``memory://``
    URLs are read; for objects in a bucket ask their store, by a callable with `object_version`. A
    dataset has the files that it had when it was opened: to notice new ones give a callable that
    opens it again, or the directory. An Iceberg metadata file that another follows is refused.

    Raises:
        NotFoundError: there is nothing at the path.
        InvalidInputError: it cannot be pinned; the message says what would work.
        StateError: it kept changing while it was read.
    """
    if callable(location):
        return _answered(location)
    if isinstance(location, (str, os.PathLike)):
        return _at(os.fspath(location))
    if isinstance(location, (list, tuple)):
        return dataset_version(location)
    if _is_dataset(location):
        return dataset_version(_files_of(location))
    kind = type(location).__name__
    raise InvalidInputError(f"a value of type {kind} cannot be pinned; {_WHAT_WORKS}")


def source_versions(locations: Mapping[str, Location]) -> Callable[[str], str | None]:
    """Return a resolver for `staleness`: it looks at each source where ``locations`` has it.

    A source that is not in ``locations`` stays undecided (None); one with nothing at its place
    counts as vanished, by its `NotFoundError` (`B244`).
    """

    def resolve(source: str) -> str | None:
        return source_version(locations[source]) if source in locations else None

    return resolve


def object_version(info: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> str:
    """Return the version that an object store gives: of what ``fs.info`` or ``fs.ls`` returned.

    Takes the generation (GCS), the version id (S3), or a strong entity tag, and the size. Several
    objects give ``objects:sha256:<hex>:<objects>``, in whatever order they come.

    Raises:
        InvalidInputError: an entry has none of them; a size or a time alone pins nothing.
    """
    if isinstance(info, Mapping):
        return _object_version(info)
    versions = sorted(f"{entry.get('name', '')}\n{_object_version(entry)}" for entry in info)
    if not versions:
        raise InvalidInputError("no objects, so nothing to pin")
    digest = hashlib.sha256("\0".join(versions).encode()).hexdigest()
    return f"objects:sha256:{digest}:{len(versions)}"


def _answered(location: Callable[[], str | int]) -> str:
    answer = location()
    if isinstance(answer, int) and not isinstance(answer, bool):
        return str(answer)
    return require_text("the version that a source's callable returned", answer)


def _at(location: str) -> str:
    match = _URL.match(location)
    scheme = match[1].lower() if match else ""
    if scheme == "memory":
        return _stored(location)
    if scheme not in ("", "file"):
        raise InvalidInputError(
            f"'{location}' cannot be pinned without its store; give a callable that asks it, e.g."
            f" lambda: object_version(fsspec.filesystem('{scheme}').info('{location}'))"
        )
    text = unquote(location[len("file://") :]) if scheme else location
    if not text or "\0" in text:
        raise InvalidInputError(f"{location!r} is no path; {_WHAT_WORKS}")
    return _on_disk(Path(text))


def _on_disk(path: Path) -> str:
    if path.name.endswith(".metadata.json"):
        require_newest_iceberg(path)
        return iceberg_version(path)
    if not path.is_dir():
        return file_version(path)
    if (path / "_delta_log").is_dir():
        return delta_version(path)
    if any((path / "metadata").glob("*.metadata.json")):
        return iceberg_version(path)
    if (path / ".git").exists():
        return git_version(path)
    return directory_version(path)


def _stored(url: str) -> str:
    directory, name = posixpath.split(url)
    try:
        with open_storage(directory).open(name) as file:
            digest = hashlib.sha256(file.read()).hexdigest()
            return f"file:sha256:{digest}:{file.seek(0, os.SEEK_END)}"
    except FileNotFoundError:
        raise NotFoundError(f"there is no object '{url}' to pin") from None


def _is_dataset(location: object) -> TypeGuard[ds.Dataset]:
    import pyarrow.dataset as ds  # noqa: PLC0415 - it loads pandas, where there is one

    return isinstance(location, ds.Dataset)


def _files_of(dataset: ds.Dataset) -> list[str]:
    if isinstance(getattr(dataset, "filesystem", None), pafs.LocalFileSystem):
        return list(dataset.files)
    raise InvalidInputError(
        "only a dataset of local files can be pinned; give a callable, e.g."
        " lambda: object_version(fs.ls(directory, detail=True))"
    )


def _object_version(info: Mapping[str, Any]) -> str:
    by_name = {key.lower().replace("_", ""): value for key, value in info.items()}
    size = by_name.get("size")
    for name in ("generation", "versionid", "etag"):
        value = by_name.get(name)
        text = "" if value is None else str(value).strip('"')
        if text and text != "null" and not text.startswith("W/"):
            return f"{name}:{text}:{size}"
    raise InvalidInputError(
        f"{info.get('name', 'an object')!r} has no generation, version id or strong entity tag"
        f" ({', '.join(sorted(info))}); a size or a time alone pins nothing. Give a callable for"
        " its version"
    )
