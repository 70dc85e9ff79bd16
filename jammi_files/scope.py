"""Who sees what: the one module that knows tenancy (FORMAT section "Tenancy").

A row belongs to one tenant or, with ``tenant_id`` null, to GLOBAL. *Visible* rows may be read,
updated and promoted; *owned* rows may be deleted. Tenancy organises, it does not protect: whoever
can read the files can read every row (`B173`).
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import re
import uuid
from collections.abc import Iterator
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files.errors import InvalidInputError

_FORMS = re.compile(
    r"(?:urn:uuid:)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|\{[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}"
    r"|[0-9a-f]{32}",
    re.IGNORECASE | re.ASCII,
)


class TenantId(str):
    """A tenant: a UUID other than nil, kept lower-case and hyphenated (`B020`, `B021`).

    Takes the hyphenated, simple, braced and urn forms in any case, or a ``uuid.UUID``.

    Raises:
        InvalidInputError: the text is no UUID (`B022`) or the nil UUID.
    """

    __slots__ = ()

    def __new__(cls, value: str | uuid.UUID) -> Self:
        """Parse and normalise ``value``."""
        if isinstance(value, cls):
            return value
        text = str(value)
        if not isinstance(value, (str, uuid.UUID)) or _FORMS.fullmatch(text) is None:
            msg = f"tenant id '{text}': expected a UUID, e.g. 01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a"
            raise InvalidInputError(msg)
        parsed = uuid.UUID(text.lower())  # uuid.UUID knows only a lower-case urn prefix
        if parsed.int == 0:
            msg = "tenant id must not be the nil UUID"
            raise InvalidInputError(msg)
        return super().__new__(cls, parsed)

    def __reduce__(self) -> tuple[type[TenantId], tuple[str]]:
        return TenantId, (str.__str__(self),)


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """What one handle may see and change: a tenant (None = unbound) and the admin mark."""

    tenant: TenantId | None = None
    admin: bool = False

    def sees(self, owner: str | None) -> bool:
        """Read, update and promote: own and GLOBAL rows; admin any row (`B166`, `B069`)."""
        return self.admin or owner is None or owner == self.tenant

    def owns(self, owner: str | None) -> bool:
        """Delete: the handle's own rows, GLOBAL ones if unbound; admin is ignored (`B144`)."""
        return owner == self.tenant

    @property
    def is_catalog_wide(self) -> bool:
        """Whether the handle acts for the catalog as a whole: it is unbound, or has the mark."""
        return self.admin or self.tenant is None

    def sees_all(self, owners: pa.ChunkedArray) -> bool:
        """Say whether `sees` holds for each of many rows, without a look at every one."""
        return self.admin or bool(owners.null_count == len(owners))

    def visible(self) -> pc.Expression | None:
        """`sees` as an Arrow expression over ``tenant_id``; None admits every row."""
        if self.admin:
            return None
        is_global = pc.field("tenant_id").is_null()
        if self.tenant is None:
            return is_global
        return is_global | (pc.field("tenant_id") == str(self.tenant))


_HEARD_BY: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("heard_by", default=None)


@contextlib.contextmanager
def heard_by(scope: Scope) -> Iterator[None]:
    """Let spans and the logger tell of the block's work only what ``scope`` sees.

    For what is done for all tenants, whoever asks for it. Hooks are told by their own scope.
    """
    token = _HEARD_BY.set(scope)
    try:
        yield
    finally:
        _HEARD_BY.reset(token)


def hearer(scope: Scope) -> Scope:
    """Return whose ears what a handle of ``scope`` says is for."""
    return _HEARD_BY.get() or scope
