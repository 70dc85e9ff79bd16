"""What the log has to know of what its versions hold; it never looks into their bytes."""

from __future__ import annotations

from typing import Protocol, TypeVar


class State(Protocol):
    """What a version decodes to; immutable."""

    @property
    def version(self) -> int:
        """The version's number; 0 is the empty log."""

    @property
    def commit_id(self) -> str:
        """The id by which a commit whose answer was lost can be recognised."""


S = TypeVar("S", bound=State)
D = TypeVar("D")


class Codec(Protocol[S, D]):
    """How the log's user turns bytes into states and changes into bytes."""

    def empty(self) -> S:
        """Return the state before the first commit."""

    def decode(self, version: int, data: bytes, known: S) -> S:
        """Read a version; what ``known`` has loaded already may be reused."""

    def draft(self, state: S) -> D:
        """Begin a change of ``state``."""

    def mark(self, draft: D) -> object:
        """Return a point in the draft to which `rollback` can go back."""

    def rollback(self, draft: D, mark: object) -> None:
        """Undo what the draft has taken since ``mark``."""

    def is_changed(self, draft: D) -> bool:
        """Return whether there is anything to `encode`."""

    def encode(self, draft: D) -> tuple[bytes, S] | None:
        """Return the next version's bytes and state, or None when the draft holds no change."""
