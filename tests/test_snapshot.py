"""All rows at one version against a dictionary: the newest row of a name wins, tombstones hide."""

from __future__ import annotations

import dataclasses
import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stored import live, newest, record, segment

from jammi_files import InputAnchor
from jammi_files import runs as runs_module
from jammi_files.draft import merge_segments
from jammi_files.manifest import Header
from jammi_files.reads import vanished
from jammi_files.rows import Row, rows_of
from jammi_files.runs import Runs
from jammi_files.schema import ModelTask, ResultTableStatus
from jammi_files.scope import Scope
from jammi_files.snapshot import INDEXED, Snapshot, empty_snapshot

NAMES = [f"t{number}" for number in range(12)]
HASHES, SOURCES = ["h1", "h2", None], ["docs", "Docs"]
TASKS = [ModelTask.TEXT_EMBEDDING, ModelTask.NER]
ANCHORED = [None, (), (InputAnchor.mutable_version("docs", 1),) * 2]

DRAWN = st.tuples(
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from(SOURCES),
    st.sampled_from(HASHES),
    st.sampled_from(ResultTableStatus),
    st.sampled_from(TASKS),
    st.sampled_from(ANCHORED),
    st.integers(0, 3),
)
RUN = st.lists(DRAWN, min_size=1, max_size=10, unique_by=lambda t: t[0])
HISTORY = st.lists(RUN, min_size=1, max_size=6)


def make_rows(history, *, shuffled=None):
    """Turn what was drawn into rows; every row of a run has its own version, unless shuffled."""
    seqs = list(range(1, 1 + sum(map(len, history))))
    if shuffled is not None:
        shuffled.shuffle(seqs)
    numbers = iter(seqs)
    return [
        [
            Row(
                record(
                    name,
                    born,
                    row_count=seq,
                    source_id=source,
                    definition_hash=digest,
                    status=status,
                    task=task,
                    input_anchors=anchors,
                    derived_from="parent" if seq % 3 else None,
                ),
                seq,
                deleted,
            )
            for (name, deleted, source, digest, status, task, anchors, born), seq in zip(
                run, numbers, strict=False
            )
        ]
        for run in map(tuple, history)
    ]


def header(version):
    return Header(version=version, commit_id="", operation="", committed_at=version, writer="")


def state_of(found):
    return sorted(found, key=lambda row: row.record.table_name)


def check(made, runs_of_rows, inline=()):
    """Compare every answer of a snapshot with the dictionary."""
    expected = live(*runs_of_rows, inline)
    for name in [*NAMES, "absent"]:
        assert made.get(name) == expected.get(name)
        assert made.lookup(name) == newest(*runs_of_rows, inline).get(name)
    tables = list(made.tables())
    assert state_of(row for table in tables for row in rows_of(table)) == state_of(
        expected.values()
    )
    gone = [row for row in newest(*runs_of_rows, inline).values() if row.deleted]
    shown = [row for table in made.tables(deleted=True) for row in rows_of(table)]
    assert state_of(shown) == state_of(gone)
    for since in (1, 5, 20):
        later = [row for row in expected.values() if row.seq > since]
        shown = [row for table in made.tables(since=since) for row in rows_of(table)]
        assert state_of(shown) == state_of(later)
    keys = ["docs", "Docs", "h1", "h2", "parent", "absent", *(s.value for s in ResultTableStatus)]
    for column, key in itertools.product(INDEXED, keys):
        wanted = [row for row in expected.values() if key in INDEXED[column](row.record)]
        assert state_of(made.select(column, key)) == state_of(wanted)
    for source in SOURCES:
        wanted = [
            row
            for row in expected.values()
            if row.record.source_id == source
            and row.record.status is ResultTableStatus.READY
            and row.record.task.is_embedding
        ]
        wanted.sort(key=lambda row: (row.record.created_at, row.record.table_name), reverse=True)
        assert list(made.newest_embeddings(source)) == wanted
    names = pa.chunked_array([pa.array([*NAMES[:6], "absent"])])
    held = set(newest(*runs_of_rows, inline))
    assert set(made.held(names)) == held & set(NAMES[:6])


@settings(max_examples=60, deadline=None)
@given(HISTORY, st.none() | st.randoms(use_true_random=False))
@pytest.mark.parametrize("with_inline", [False, True])
def test_answers_equal_a_dictionary(with_inline, history, random):
    """Whatever runs hold which versions of a name, every answer is the newest row's."""
    made_rows = make_rows(history, shuffled=None if with_inline else random)
    inline_rows = made_rows.pop() if with_inline else []
    runs = Runs([segment(rows) for rows in made_rows])
    inline = {row.record.table_name: row for row in inline_rows}
    check(Snapshot(header(99), runs, inline), made_rows, inline_rows)


def by_key(hidden):
    """Return masks by segment, without those that hide nothing."""
    return {s.info.key: bytes(mask) for s, mask in hidden.items() if any(mask)}


@settings(max_examples=80, deadline=None)
@given(HISTORY, st.integers(0, 5), st.randoms(use_true_random=False))
def test_incremental_hiding(history, known, random):
    """What is hidden, found for a few new segments, equals what a look at all of them finds."""
    segments = [segment(rows) for rows in make_rows(history, shuffled=random)]
    before = Runs(segments[:known])
    assert by_key(before.hidden) == by_key(Runs(segments[:known])._compare_all())
    after = Runs(segments, before)
    assert by_key(after.hidden) == by_key(Runs(segments)._compare_all())


@settings(max_examples=80, deadline=None)
@given(HISTORY, st.data())
def test_hiding_after_merges(history, data):
    """Merging any segments, tombstones dropped as allowed, changes no answer, found either way."""
    made_rows = make_rows(history)
    segments = [segment(rows) for rows in made_rows]
    before = Runs(segments)
    assert before.hidden is not None
    chosen = data.draw(st.sets(st.sampled_from(range(len(segments))), min_size=1))
    merged = merge_segments([segments[at] for at in sorted(chosen)], segments)
    rest = [each for at, each in enumerate(segments) if at not in chosen]
    after = [*rest, *([] if merged is None else [merged])]
    expected = live(*made_rows)
    for runs in (Runs(after), Runs(after, before)):
        made = Snapshot(header(99), runs, {})
        assert {n: made.get(n) for n in NAMES if made.get(n)} == expected
        found = [row for table in made.tables() for row in rows_of(table)]
        assert state_of(found) == state_of(expected.values())


@settings(max_examples=30, deadline=None)
@given(HISTORY)
def test_large_and_small_batches_look_up_alike(history):
    """Names are looked up one by one or all at once, with the same outcome."""
    patch = pytest.MonkeyPatch()
    segments = [segment(rows) for rows in make_rows(history)]
    names = pa.chunked_array([pa.array([*NAMES, "absent"])])
    answers = []
    for small in (0, 4096):
        with patch.context() as patched:
            patched.setattr(runs_module, "SMALL", small)
            before = Runs(segments[:1])
            assert before.hidden == {}
            made = Snapshot(header(99), Runs(segments, before), {})
            answers.append((set(made.held(names)), by_key(made.runs.hidden)))
    assert answers[0] == answers[1]


@settings(max_examples=60, deadline=None)
@given(HISTORY, st.data())
def test_vanished(history, data):
    """What an earlier version had and a later one lacks is told once, through merges too."""
    made_rows = make_rows(history)
    segments = [segment(rows) for rows in made_rows]
    cut = data.draw(st.integers(0, len(segments)))
    old_seq = max((row.seq for rows in made_rows[:cut] for row in rows), default=0)
    new_seq = max(row.seq for rows in made_rows for row in rows)
    old = Snapshot(header(old_seq), Runs(segments[:cut]), {})
    merged = merge_segments(segments, segments) if data.draw(st.booleans()) else None
    after = segments if merged is None else [merged]
    new = Snapshot(header(new_seq), Runs(after), {})
    before, now = live(*made_rows[:cut]), live(*made_rows)
    gone = list(vanished(old, new, Scope(admin=True)))
    expected = {name: row for name, row in before.items() if name not in now}
    assert {row.record.table_name: row for row, _ in gone} == expected
    assert len(gone) == len(expected)
    assert all(old_seq < version <= new_seq for _, version in gone)


def test_empty():
    """The empty snapshot answers every question with nothing."""
    empty = empty_snapshot()
    check(empty, [])
    assert (empty.version, empty.commit_id) == (0, "")
    assert list(empty.tables()) == []


def test_order_of_inline_and_stored():
    """`B153`: the newest embedding is found over inline rows and segments, ties by name."""
    fields = {"task": ModelTask.TEXT_EMBEDDING, "status": ResultTableStatus.READY}
    rows = [
        Row(record(n, born, **fields), seq)
        for seq, (n, born) in enumerate(zip("abcd", (3, 1, 3, 2), strict=True), 1)
    ]
    for split in range(5):
        runs = Runs([segment([row]) for row in rows[:split]])
        inline = {row.record.table_name: row for row in rows[split:]}
        made = Snapshot(header(9), runs, inline)
        assert [row.record.table_name for row in made.newest_embeddings("docs")] == list("cadb")


def test_reads_leave_a_snapshot_as_it_is():
    """A snapshot is immutable: asking it changes neither its rows nor those of its successor."""
    run = segment([Row(record("a", 1), 1), Row(record("b", 1), 2)])
    newer = segment([Row(dataclasses.replace(record("a", 1), dimensions=9), 3)])
    old = Runs([run])
    assert old.hidden == {}
    both = Runs([run, newer], old)
    assert Snapshot(header(3), both, {}).get("a").record.dimensions == 9
    assert by_key(both.hidden)
    assert old.hidden == {}
    assert Snapshot(header(2), old, {}).get("a").record.dimensions is None
