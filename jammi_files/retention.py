"""What a catalog keeps of its past: its tags, and the floor below which vacuum retires versions.

Both stand in the header of every manifest and are changed by commits alone, so a tag and a vacuum
are always in an order: whichever came second has seen the other (FORMAT section "Retention").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from jammi_files.errors import AlreadyExistsError, InvalidInputError, VersionNotFoundError
from jammi_files.timestamps import parse_timestamp
from jammi_files.validation import require_count, require_text

MAX_TAGS = 256
"""Tags of one catalog: every manifest carries them all."""

LONGEST_TAG = 128
"""Bytes of UTF-8 in a tag's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Retention:
    """Which versions can be read: those from ``floor`` on, and those with a tag.

    ``vacuumed`` is the number of the last version that a vacuum made. A segment that was written
    before that version and is listed by none that is kept may be gone. ``born`` is when version 1
    was written, by the storage's clock, once a vacuum has seen it.
    """

    floor: int = 1
    vacuumed: int = 0
    tags: Mapping[str, int] = dataclasses.field(default_factory=dict)
    born: str | None = None

    def keeps(self, version: int) -> bool:
        """Say whether a version is kept; version 0, the empty catalog, always is."""
        return version == 0 or version >= self.floor or version in self.tags.values()

    def tagged(self, name: str, version: int, newest: int) -> Self:
        """Add a tag; one that is there already for the same version changes nothing.

        Raises:
            AlreadyExistsError: the name is the tag of another version.
            VersionNotFoundError: no such version yet, or vacuum retires it.
            InvalidInputError: there are `MAX_TAGS` tags.
        """
        known = self.tags.get(name)
        if known is not None:
            if known == version:
                return self
            msg = f"tag '{name}' names version {known}; untag it first to move it to {version}"
            raise AlreadyExistsError(msg)
        if version > newest:
            msg = f"version {version} does not exist; the newest is {newest}"
            raise VersionNotFoundError(msg)
        if not self.keeps(version):
            msg = f"version {version} was retired by vacuum, which keeps those from {self.floor} on"
            raise VersionNotFoundError(msg)
        if len(self.tags) >= MAX_TAGS:
            msg = f"there are {MAX_TAGS} tags already; untag some that nobody needs"
            raise InvalidInputError(msg)
        return dataclasses.replace(self, tags={**self.tags, name: version})

    def untagged(self, name: str) -> Self:
        """Remove a tag.

        Raises:
            VersionNotFoundError: there is no such tag.
        """
        self.find(name)
        tags = {each: version for each, version in self.tags.items() if each != name}
        return dataclasses.replace(self, tags=tags)

    def find(self, name: str) -> int:
        """Return the version of a tag.

        Raises:
            VersionNotFoundError: there is no such tag.
        """
        if name not in self.tags:
            msg = f"no version is tagged '{name}'; tags() lists those that are"
            raise VersionNotFoundError(msg)
        return self.tags[name]

    def vacuumed_by(self, version: int, floor: int, born: str | None = None) -> Self:
        """Raise the floor, never lowering it, in the version that a vacuum makes."""
        floor, born = max(self.floor, floor), self.born or born
        return dataclasses.replace(self, floor=floor, vacuumed=version, born=born)

    @classmethod
    def parse(
        cls,
        floor: Any,  # noqa: ANN401 - from JSON, as the others
        vacuumed: Any,  # noqa: ANN401
        tags: Any,  # noqa: ANN401
        born: Any,  # noqa: ANN401
    ) -> Self:
        """Build the value from a header's JSON.

        Raises:
            ValueError: a value that no writer of this format writes.
        """
        if not isinstance(tags, Mapping):
            raise TypeError(f"tags must be an object, not {tags!r}")
        for name, version in tags.items():
            require_tag_name(name)
            require_count(f"tag '{name}'", version)
        if born is not None:
            parse_timestamp(born)
        return cls(
            require_count("floor", floor, least=1),
            require_count("vacuumed", vacuumed),
            dict(tags),
            born,
        )


def require_tag_name(name: object) -> str:
    """Return ``name`` if it can name a tag.

    Raises:
        InvalidInputError: it is empty, longer than `LONGEST_TAG` bytes, begins or ends with a
            blank, or holds a character that does not print.
    """
    text = require_text("a tag's name", name)
    if len(text.encode()) > LONGEST_TAG:
        msg = f"a tag's name must be at most {LONGEST_TAG} bytes of UTF-8, not {text[:40]!r}..."
        raise InvalidInputError(msg)
    if not text.isprintable() or text != text.strip():
        msg = f"a tag's name must print and not begin or end with a blank, not {text!r}"
        raise InvalidInputError(msg)
    return text
