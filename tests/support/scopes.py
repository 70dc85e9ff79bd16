"""The handles that a root can be looked at through, and who may do what, written out."""

from __future__ import annotations

ACME = "aaaaaaaa-0000-4000-8000-000000000001"
BETA = "bbbbbbbb-0000-4000-8000-000000000002"
OWNERS = {"global": None, "acme": ACME, "beta": BETA}

HANDLES = {
    "unbound": lambda opened: opened.pinned_to_tenant(None),
    "acme": lambda opened: opened.pinned_to_tenant(ACME),
    "unbound admin": lambda opened: opened.pinned_to_tenant(None).as_admin(),
    "acme admin": lambda opened: opened.pinned_to_tenant(ACME).as_admin(),
}

SEEN = {
    "unbound": {"global"},
    "acme": {"global", "acme"},
    "unbound admin": {"global", "acme", "beta"},
    "acme admin": {"global", "acme", "beta"},
}
"""Whose rows a handle reads, updates and promotes."""

OWNED = {
    "unbound": {"global"},
    "acme": {"acme"},
    "unbound admin": {"global"},
    "acme admin": {"acme"},
}
"""Whose rows a handle deletes."""
