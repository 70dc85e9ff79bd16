"""Instants: the text forms that are written and read, and the strictly increasing clock."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_files import timestamps
from jammi_files.errors import InvalidInputError
from jammi_files.timestamps import (
    Clock,
    format_rfc3339,
    format_timestamp,
    parse_instant,
    parse_timestamp,
)

SEED = 1_795_384_193_517_770_075  # 2026-11-22T21:49:53.517770075Z
instants = st.integers(0, 2**63 - 1)


def test_created_at_text():
    """`B029`: an instant is written as UTC text with nine fractional digits and a Z."""
    assert format_timestamp(SEED) == "2026-11-22T21:49:53.517770075Z"
    assert format_timestamp(1) == "1970-01-01T00:00:00.000000001Z"


def test_sidecar_text():
    """`B183`: a sidecar's instant ends in ``+00:00``."""
    assert format_rfc3339(SEED) == "2026-11-22T21:49:53.517770075+00:00"


@given(instants)
def test_round_trip(nanoseconds):
    """`B029`: what is written is read back to the nanosecond, in both forms."""
    assert parse_timestamp(format_timestamp(nanoseconds)) == nanoseconds
    assert parse_timestamp(format_rfc3339(nanoseconds)) == nanoseconds


@given(instants, instants)
def test_lexical_order_is_time_order(one, other):
    """`B029`: sorting the texts sorts the instants."""
    assert (format_timestamp(one) < format_timestamp(other)) == (one < other)


@given(instants)
def test_agrees_with_arrow(nanoseconds):
    """An instant's text is the one that Arrow gives to the stored ``timestamp('ns', 'UTC')``."""
    arrow = pa.scalar(nanoseconds, pa.timestamp("ns", "UTC")).cast(pa.string()).as_py()
    assert arrow.replace(" ", "T") == format_timestamp(nanoseconds)


@pytest.mark.parametrize(
    ("text", "fraction"),
    [
        ("2026-11-22T21:49:53Z", 0),
        ("2026-11-22 21:49:53", 0),
        ("2026-11-22T21:49:53.5Z", 500_000_000),
        ("2026-11-22T21:49:53.517Z", 517_000_000),
        ("2026-11-22T21:49:53.517770+00:00", 517_770_000),
        ("2026-11-22T21:49:53.517770075Z", 517_770_075),
    ],
)
def test_reads_older_forms(text, fraction):
    """`B030`: the 0-, 3-, 6- and 9-digit forms of jammi-db and of SQLite are all read."""
    assert parse_timestamp(text) == SEED - 517_770_075 + fraction


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-22",
        "2026-11-22T21:49:53.5177700751Z",
        "2026-11-22T21:49:53.Z",
        "2026-11-22T21:49:53+01:00",
        "2026-13-22T21:49:53Z",
        "2026-02-30T21:49:53Z",
        "2026-11-22T24:49:53Z",
        "2026-11-22T21:49:60Z",
        "0000-11-22T21:49:53Z",
        " 2026-11-22T21:49:53Z",
        "2026-11-22T21:49:53Z\n",
        "\u0662\u0660\u0662\u0666-11-22T21:49:53Z",
    ],
)
def test_refuses_other_text(text):
    """A text that is no UTC instant raises an InvalidInputError that quotes it."""
    with pytest.raises(InvalidInputError) as caught:
        parse_timestamp(text)
    assert f"'{text}' is not a UTC timestamp" in str(caught.value)


@pytest.mark.parametrize("text", ["1600-01-01T00:00:00Z", "2300-01-01T00:00:00Z"])
def test_refuses_what_arrow_cannot_store(text):
    """An instant outside of int64 nanoseconds is refused at the edge, not by Arrow at the write."""
    with pytest.raises(InvalidInputError):
        parse_timestamp(text)


@pytest.mark.parametrize(("year", "hours"), [(9999, -23), (1, 23), (1, 0)])
def test_refuses_the_edges_of_the_calendar(year, hours, catalog):
    """A datetime that UTC has no year for is refused like any other wrong instant."""
    zone = dt.timezone(dt.timedelta(hours=hours))
    value = dt.datetime(year, *((12, 31) if year > 1 else (1, 1)), hours and 12, tzinfo=zone)
    for attempt in (
        parse_instant,
        lambda value: catalog.snapshot(as_of=value),
        lambda value: catalog.find_result_tables("docs", created_after=value),
    ):
        with pytest.raises(InvalidInputError):
            attempt(value)


def test_clock_survives_a_stopped_and_a_backward_clock(monkeypatch):
    """`B031`: equal ticks and a clock that goes backwards are bumped by one nanosecond."""
    ticks = iter([100, 100, 50, 101, 500, 102])
    monkeypatch.setattr(timestamps.time, "time_ns", lambda: next(ticks))
    clock = Clock()
    assert [clock.now() for _ in range(6)] == [100, 101, 102, 103, 500, 501]


def test_clock_over_threads():
    """`B031`: no two threads of a process are given the same instant."""
    clock = Clock()
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: [clock.now() for _ in range(500)], range(8)))
    assert all(run == sorted(run) for run in runs)
    assert len({instant for run in runs for instant in run}) == 8 * 500


def test_clock_tells_the_time():
    """`B029`: the clock's instants are the wall clock's, in UTC."""
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    shown = dt.datetime.fromisoformat(format_timestamp(Clock().now())[:19] + "+00:00")
    assert before <= shown <= dt.datetime.now(dt.UTC)
