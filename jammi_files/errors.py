"""Every exception of the library, grouped by what a handler does about it.

JammiFilesError
├── ConflictError            certainly not applied: retrying is safe
├── CommitUnknownError       may have been applied: look before you retry (``.commit_id``)
├── NotFoundError            also a KeyError
│   ├── TableNotFoundError
│   └── VersionNotFoundError
├── AlreadyExistsError
├── InvalidInputError        also a ValueError; raised before anything is written
├── StateError               the row is not in a state that allows the call
├── ReferencedError          other rows derive from what would be deleted
├── DependencyCycleError
├── NotRecomputableError
├── MissingPackageError      also an ImportError: an extra is not installed; the message names it
├── StorageError             also an OSError: the directory or bucket refused
└── FormatError              bytes that are not what they should be
    └── UnsupportedVersionError
"""

from __future__ import annotations


class JammiFilesError(Exception):
    """The base of every error that this library raises on purpose."""


class ConflictError(JammiFilesError):
    """Other writers kept winning; the change was certainly not applied, so a retry is safe."""


class CommitUnknownError(JammiFilesError):
    """The outcome of a commit could not be learnt: look for ``commit_id`` before retrying."""

    def __init__(self, message: str, commit_id: str) -> None:
        super().__init__(message, commit_id)
        self.commit_id = commit_id

    def __str__(self) -> str:
        return str(self.args[0])


class NotFoundError(JammiFilesError, KeyError):
    """What was asked for does not exist, or is not visible to the caller's tenant."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return Exception.__str__(self)


class TableNotFoundError(NotFoundError):
    """No visible result table has this name."""

    @classmethod
    def named(cls, table_name: str) -> TableNotFoundError:
        """Word a missing and an invisible row alike (`B071`, `B226`)."""
        return cls(f"Result table '{table_name}' not found")


class VersionNotFoundError(NotFoundError):
    """No such version: it was never committed, or vacuum retired it."""


class AlreadyExistsError(JammiFilesError):
    """The name is taken; names are unique over all tenants (`B058`)."""


class InvalidInputError(JammiFilesError, ValueError):
    """An argument is wrong; nothing was written."""


class StateError(JammiFilesError):
    """The object is not in a state that allows this call; nothing was changed."""


class ReferencedError(JammiFilesError):
    """Rows that would stay derive from rows that would go."""


class DependencyCycleError(JammiFilesError):
    """The derives-from lineage holds a cycle (`B138`)."""


class NotRecomputableError(JammiFilesError):
    """Nothing says how to compute the table again: no contract (`B267`), or no producer for it."""


class MissingPackageError(JammiFilesError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class StorageError(JammiFilesError, OSError):
    """The directory or bucket refused an operation; the message names the object."""


class FormatError(JammiFilesError):
    """Bytes of the catalog or of a sidecar are damaged or of another format."""


class UnsupportedVersionError(FormatError):
    """A well-formed object of a format version that this library does not read."""
