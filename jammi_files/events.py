"""What the library tells the standard logger ``jammi_files``: one record an event, in plain fields.

A record has the attribute ``event``, one of `Event`, and beside it the fields that
``docs/observability.md`` lists for that event. Levels: DEBUG and INFO while all is well, WARNING
where something was left out or given up and the call goes on without it, ERROR where a hook of the
caller raised. The library adds no handler and sets no level.
"""

from __future__ import annotations

import logging
from enum import StrEnum

LOGGER = logging.getLogger("jammi_files")


class Event(StrEnum):
    """What a record of the logger is about: its attribute ``event``."""

    COMMIT = "commit"
    CONFLICT = "conflict"
    MERGED = "merged"
    READY = "ready"
    FAILED = "failed"
    WRITTEN = "written"
    REUSED = "reused"
    WAITING = "waiting"
    VERIFIED = "verified"
    RECOVERED = "recovered"
    VACUUMED = "vacuumed"
    COPIED = "copied"
    DROPPED = "dropped"
    LEFT_OUT = "left_out"
    KEPT = "kept"
    WORKER_LOST = "worker_lost"
    NOT_REMOVED = "not_removed"
    NOT_RENEWED = "not_renewed"
    NOT_MERGED = "not_merged"
    NOT_CACHED = "not_cached"
    HOOK_FAILED = "hook_failed"


def is_heard(level: int) -> bool:
    """Say whether anybody listens at a level: cached by `logging`, 0.1 us."""
    return LOGGER.isEnabledFor(level)


def debug(event: Event, message: str, *args: object, **fields: object) -> None:
    """Tell of a step that is of interest to who looks for a fault."""
    if LOGGER.isEnabledFor(logging.DEBUG):
        LOGGER.debug(message, *args, extra={"event": event.value, **fields}, stacklevel=2)


def info(event: Event, message: str, *args: object, **fields: object) -> None:
    """Tell of something that was done."""
    if LOGGER.isEnabledFor(logging.INFO):
        LOGGER.info(message, *args, extra={"event": event.value, **fields}, stacklevel=2)


def warn(event: Event, message: str, *args: object, **fields: object) -> None:
    """Tell of something that is wrong, and that the call goes on without."""
    LOGGER.warning(message, *args, extra={"event": event.value, **fields}, stacklevel=2)


def failure(error: Exception, event: Event, message: str, *args: object, **fields: object) -> None:
    """Tell of an exception that goes no further, with its traceback."""
    extra = {"event": event.value, **fields}
    LOGGER.error(message, *args, exc_info=error, extra=extra, stacklevel=2)
