"""Segments in a store that many processes share: they are read side by side, and each once."""

from __future__ import annotations

import itertools
import threading
import uuid

import pytest
from support.faults import CountingStorage, UnlockedStorage
from support.results import row
from support.threads import begin

from jammi_files import FormatError, manifest, segment
from jammi_files.catalog import Catalog
from jammi_files.draft import SEGMENTS
from jammi_files.memory import MemoryStorage

LIMIT = 30.0
NUMBER = 5
NAMES = [f"{letter}{number}" for letter in "abcde" for number in range(3)]


@pytest.fixture
def base(monkeypatch):
    """Return a storage with five segments of three rows, ``a0`` to ``e2``, and none inline."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 2)
    monkeypatch.setattr(manifest, "FAN_OUT", 99)
    storage = MemoryStorage(f"memory://{uuid.uuid4().hex}")
    catalog = Catalog(storage)
    for letter in "abcde":
        with catalog.transaction() as tx:
            for number in range(3):
                tx.create_result_table(**row(f"{letter}{number}"))
    assert len(storage.list(SEGMENTS)) == NUMBER
    return storage


class Meeting:
    """Lets nobody pass who reads a segment before so many read one at the same time."""

    def __init__(self, parties: int) -> None:
        self._barrier = threading.Barrier(parties)

    def __call__(self, moment: str, kind: str, key: str) -> None:
        if moment == "before" and kind in ("read", "open") and key.startswith(SEGMENTS):
            self._barrier.wait(LIMIT)


def far(base, hook=lambda *_: None):
    """Return the storage as a store without a lock, and the calls that it gets."""
    counting = CountingStorage(base)
    storage = UnlockedStorage(counting, hook)
    storage.is_locked = False
    return storage, counting.calls


def segments_of(calls, kind="read"):
    return sorted(key for key in calls.keys(kind) if key.startswith(SEGMENTS))


@pytest.mark.parametrize(
    "ask",
    [
        lambda catalog: catalog.scan(),
        lambda catalog: catalog.find_result_tables("docs"),
        lambda catalog: catalog.list_result_tables_by_status("building"),
        lambda catalog: catalog.find_ready_result_tables_anchored_on("docs"),
        lambda catalog: catalog.snapshot().damaged(),
    ],
)
def test_all_at_once(base, ask):
    """A question about all rows reads every segment once, all at the same time."""
    storage, calls = far(base, Meeting(NUMBER))
    ask(Catalog(storage))
    assert segments_of(calls) == sorted(f"{SEGMENTS}/{name}" for name in base.list(SEGMENTS))
    assert segments_of(calls, "open") == []


def test_the_answer_is_the_same(base):
    """What was read side by side is in the place where it belongs."""
    storage, _ = far(base)
    catalog = Catalog(storage)
    assert sorted(catalog.scan(columns=["table_name"]).column(0).to_pylist()) == NAMES
    assert [catalog.get_result_table(name).table_name for name in NAMES] == NAMES


def test_again_costs_nothing(base):
    """What has been read is kept for every later question and version."""
    storage, calls = far(base)
    catalog = Catalog(storage)
    catalog.scan()
    calls.clear()
    catalog.create_result_table(**row("f"))
    catalog.find_result_tables("docs")
    for name in NAMES:
        catalog.get_result_table(name)
    assert segments_of(calls) == segments_of(calls, "open") == []


def test_threads_share_what_they_read(base):
    """Two threads that begin together read every segment once between them."""
    together = threading.Barrier(2)
    storage, calls = far(base)
    catalog = Catalog(storage)
    snapshot = catalog.snapshot()

    def ask(question):
        together.wait(LIMIT)
        return question()

    asked = [begin(ask, snapshot.scan), begin(ask, lambda: snapshot.find_result_tables("docs"))]
    assert [len(each.result(LIMIT)) for each in asked] == [15, 15]
    assert len(segments_of(calls)) == NUMBER


def test_more_than_are_read_at_a_time(base, monkeypatch):
    """However many segments there are, each is read, a number of them at a time."""
    monkeypatch.setattr("jammi_files.segment.READERS", 2)
    storage, calls = far(base)
    assert Catalog(storage).scan().num_rows == 15
    assert len(segments_of(calls)) == NUMBER


def overlapping(catalog):
    """Make every segment hold names from ``a`` to ``z``."""
    for letter in "abcde":
        with catalog.transaction() as tx:
            for name in (f"a-{letter}", f"m-{letter}", f"z-{letter}"):
                tx.create_result_table(**row(name))


@pytest.mark.parametrize("groups", [2, 1])
def test_one_name(base, monkeypatch, groups):
    """A cold look-up reads what may hold the name at the same time: small ones whole, else parts.

    Segments whose range of names excludes it are not read.
    """
    monkeypatch.setattr(manifest, "ROW_GROUP_ROWS", 2)
    monkeypatch.setattr(segment, "WHOLE_GROUPS", groups)
    overlapping(Catalog(base))
    storage, calls = far(base, Meeting(NUMBER))
    assert Catalog(storage).get_result_table("m-c").table_name == "m-c"
    kinds = ("read", "open") if groups == 2 else ("open", "read")
    assert len(segments_of(calls, kinds[0])) == NUMBER
    assert segments_of(calls, kinds[1]) == []
    if groups == 1:
        whole = sum(base.size(key) for key in segments_of(calls, "open"))
        assert calls.size("pread") < whole * 2  # the footer is read twice, no other group at all


def test_near_segments_are_read_one_by_one(base):
    """On a local root the newest segment that answers spares the older ones."""
    catalog = Catalog(base)
    overlapping(catalog)
    counting = CountingStorage(base)
    assert Catalog(counting).get_result_table("m-e").table_name == "m-e"
    assert len(segments_of(counting.calls)) == 1


def test_a_missing_segment_is_named(base):
    """A segment that is gone is named by whoever needs it; a question that does not still works."""
    storage, _ = far(base)
    gone = base.list(SEGMENTS)[0]
    base.delete(f"{SEGMENTS}/{gone}")
    with pytest.raises(FormatError, match=gone):
        Catalog(storage).scan()
    found = list(map(_found(Catalog(storage)), NAMES))
    assert [len(list(group)) for known, group in itertools.groupby(sorted(found)) if known] == [12]


def _found(catalog):
    def ask(name):
        try:
            return catalog.get_result_table(name) is not None
        except FormatError:
            return False

    return ask
