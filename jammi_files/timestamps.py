"""Instants as the catalog stores and shows them: UTC nanoseconds, strictly increasing per process.

The text form is ``2026-11-22T21:49:53.517770075Z`` (`B029`); its lexical order is time order.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import threading
import time

from jammi_files.errors import InvalidInputError

_NS = 1_000_000_000
_TEXT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?", re.ASCII
)


def format_timestamp(nanoseconds: int) -> str:
    """Write nanoseconds since the epoch as UTC text with nine fractional digits."""
    return f"{_whole_seconds(nanoseconds)}.{nanoseconds % _NS:09d}Z"


def format_rfc3339(nanoseconds: int) -> str:
    """Write nanoseconds since the epoch with ``+00:00``, as sidecars carry it (`B183`)."""
    return f"{_whole_seconds(nanoseconds)}.{nanoseconds % _NS:09d}+00:00"


def parse_timestamp(text: str) -> int:
    """Read UTC text into nanoseconds since the epoch.

    Takes 0 to 9 fractional digits, ``T`` or a blank, ``Z``, ``+00:00`` or nothing: the forms that
    jammi-db writes into its catalog (`B029`, `B030`) and sidecars (`B183`).

    Raises:
        InvalidInputError: the text is no UTC timestamp, or outside the years 1677 to 2262.
    """
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        msg = f"'{text}' is not a UTC timestamp; expected e.g. 2026-11-22T21:49:53.517770075Z"
        raise InvalidInputError(msg)
    *whole, fraction = match.groups()
    try:
        moment = dt.datetime(*map(int, whole), tzinfo=dt.UTC)  # type: ignore[arg-type, misc]
    except ValueError as error:
        msg = f"'{text}' is not a UTC timestamp: {error}"
        raise InvalidInputError(msg) from None
    seconds = int((moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).total_seconds())
    nanoseconds = seconds * _NS + int((fraction or "").ljust(9, "0"))
    if not -(2**63) <= nanoseconds < 2**63:
        msg = f"'{text}' is not a UTC timestamp that 64-bit nanoseconds can hold (1677 to 2262)"
        raise InvalidInputError(msg)
    return nanoseconds


def parse_instant(value: str | dt.datetime) -> int:
    """Read UTC text or a datetime that says its time zone into nanoseconds since the epoch.

    Raises:
        InvalidInputError: the text is no UTC timestamp, or the datetime is naive or, in UTC, of
            no year of the calendar.
    """
    if not isinstance(value, dt.datetime):
        return parse_timestamp(value)
    if value.tzinfo is None:
        msg = f"{value!r} has no time zone; give e.g. datetime.now(timezone.utc)"
        raise InvalidInputError(msg)
    try:
        moment = value.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"{value!r} is not an instant of UTC: {error}") from None
    return parse_timestamp(moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?([smhdw])", re.ASCII)


def parse_duration(what: str, value: float | str | dt.timedelta) -> int:
    """Return a length of time in whole seconds, rounded up.

    ``value`` is a timedelta, a number of seconds, or text such as ``90s``, ``12h``, ``7d``, ``2w``.

    Raises:
        InvalidInputError: it is none of these, negative, or longer than 1000 years.
    """
    seconds: float = -1
    if isinstance(value, dt.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        seconds = -1 if match is None else float(match[1]) * _UNITS[match[2]]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    if not 0 <= seconds <= 1000 * 365 * _UNITS["d"]:
        msg = f"{what} must be a timedelta, seconds >= 0, or text like '12h' or '7d', not {value!r}"
        raise InvalidInputError(msg)
    return math.ceil(seconds)


class Clock:
    """The wall clock, made strictly increasing over the process (`B031`).

    Equal ticks and a clock that goes backwards are bumped by one nanosecond, so that "newest" is
    well defined among the rows of one process.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def now(self) -> int:
        """Return nanoseconds since the epoch, larger than every earlier answer."""
        return self.first_of(1)

    def first_of(self, count: int) -> int:
        """Return the first of so many instants in a row, which no other answer will repeat."""
        with self._lock:
            first = max(time.time_ns(), self._last + 1)
            self._last = first + count - 1
            return first


CLOCK = Clock()


def _whole_seconds(nanoseconds: int) -> str:
    seconds = dt.timedelta(seconds=nanoseconds // _NS)
    return (dt.datetime(1970, 1, 1) + seconds).isoformat()  # noqa: DTZ001 - UTC by construction
