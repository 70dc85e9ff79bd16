"""One sorted run: its indexes against a look at every row, loaded whole or by row group."""

from __future__ import annotations

import gc
import os
import threading
import uuid
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.faults import CountingStorage
from support.stored import NAMES, record, segment

from jammi_files import FormatError, InputAnchor, manifest, segment_file
from jammi_files.indexes import Postings, SortedIndex
from jammi_files.memory import MemoryStorage
from jammi_files.rows import Row
from jammi_files.schema import ModelTask, ResultTableKind, ResultTableStatus
from jammi_files.segment import Segment

WORDS = ["", "a", "aa", "b", "é", "日", "\U0001f600", "z" * 70, "\x00", "\uffff"]
VALUES = st.lists(st.sampled_from(WORDS), max_size=300)
READY = ResultTableStatus.READY


def at(values, key):
    return [position for position, value in enumerate(values) if value == key]


# --- indexes


@settings(deadline=None)
@given(VALUES, st.sampled_from([*WORDS, "absent", "A", "\U0010ffff"]))
def test_sorted_index(values, key):
    """A sorted index finds every row of a value and no other, over blocks and code points."""
    index = SortedIndex(pa.array(values, pa.string()))
    found = index.find(key)
    assert sorted(found) == at(values, key)
    assert len(found) == len(list(found))


@settings(deadline=None)
@given(VALUES, st.sampled_from([*WORDS, "absent"]))
def test_ordered_index(values, key):
    """An index over sorted values gives positions in their order, as a range."""
    values.sort()
    found = SortedIndex(pa.array(values, pa.string()), ordered=True).find(key)
    assert list(found) == at(values, key)


@settings(deadline=None)
@given(VALUES, st.randoms(use_true_random=False), st.sampled_from(WORDS))
def test_index_of_some_rows(values, random, key):
    """An index over chosen rows answers with their positions in the whole."""
    rows = list(range(1000, 1000 + len(values)))
    random.shuffle(rows)
    found = SortedIndex(pa.array(values, pa.string()), pa.array(rows, pa.int64())).find(key)
    assert sorted(found) == sorted(rows[position] for position in at(values, key))


@settings(deadline=None)
@given(st.lists(st.sampled_from([*WORDS, None]), max_size=300), st.sampled_from([*WORDS, "absent"]))
def test_postings(values, key):
    """Postings find every row of a value, nulls and unused dictionary entries aside."""
    unused = pa.array(["unused", *values], pa.string()).dictionary_encode().slice(1)
    for column in (pa.array(values, pa.string()).dictionary_encode(), unused):
        found = Postings(column).find(key)
        assert sorted(found) == at(values, key)
        assert list(Postings(column).find("unused")) == []


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 129, 1000])
def test_block_borders(count):
    """Rows at the borders of blocks are found like any other."""
    values = [f"{number:04}" for number in range(count)]
    index = SortedIndex(pa.array(values, pa.string()), ordered=True)
    assert all(list(index.find(value)) == [position] for position, value in enumerate(values))
    assert list(index.find("")) == list(index.find("9999x")) == []


@pytest.mark.parametrize(
    "runs", [(70, 200, 3), (64, 64, 64), (1, 63, 65), (0, 129, 0), (63, 1, 64)]
)
def test_values_over_several_blocks(runs):
    """A value that fills several blocks, or begins or ends at a border, is found whole."""
    values = [value for value, count in zip("abc", runs, strict=True) for _ in range(count)]
    for index in (
        SortedIndex(pa.array(values, pa.string())),
        SortedIndex(pa.array(values, pa.string()), ordered=True),
        Postings(pa.array(values, pa.string()).dictionary_encode()),
    ):
        assert [sorted(index.find(key)) for key in "abcd"] == [at(values, key) for key in "abcd"]


# --- segments

SOURCES = st.sampled_from(["docs", "Docs", "é", ""])
ANCHORS = st.lists(
    st.builds(
        InputAnchor, st.sampled_from(["docs", "x", "日"]), st.just("1"), st.just("mutable_version")
    ),
    max_size=3,
)


@st.composite
def drawn_rows(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=40, unique=True))
    return [
        Row(
            record(
                name,
                draw(st.integers(1, 5)),
                source_id=draw(SOURCES),
                derived_from=draw(st.none() | NAMES),
                definition_hash=draw(st.none() | st.sampled_from(["h1", "h2"])),
                status=draw(st.sampled_from(ResultTableStatus)),
                kind=draw(st.sampled_from(ResultTableKind)),
                task=draw(st.sampled_from(ModelTask)),
                input_anchors=draw(st.none() | ANCHORS.map(tuple)),
            ),
            seq,
        )
        for seq, name in enumerate(names, start=1)
    ]


def stored(run):
    """Return the segment as another process finds it, nothing loaded, and the storage's calls."""
    storage = CountingStorage(MemoryStorage("memory://test_segment"))
    storage.inner.replace(run.info.key, manifest.encode_segment(run.table))
    return Segment(run.info, storage), storage.calls


VALUE_OF = {
    "source_id": lambda r: [r.source_id],
    "derived_from": lambda r: [r.derived_from],
    "definition_hash": lambda r: [r.definition_hash],
    "status": lambda r: [r.status.value],
    "anchor": lambda r: [anchor.source for anchor in r.input_anchors or ()],
}


@settings(max_examples=40, deadline=None)
@given(drawn_rows())
def test_positions(rows):
    """Every index of a segment finds what a look at every row finds, each row once."""
    run = segment(rows)
    for opened in (run, stored(run)[0]):
        for column, values_of in VALUE_OF.items():
            keys = {value for row in rows for value in values_of(row.record)} - {None} | {"absent"}
            for key in keys:
                found = [opened.row(p).record.table_name for p in opened.positions(column, key)]
                expected = [r.record.table_name for r in rows if key in values_of(r.record)]
                assert sorted(found) == sorted(expected)


@settings(max_examples=40, deadline=None)
@given(drawn_rows(), SOURCES)
def test_embedding_positions(rows, source):
    """`B152`, `B153`: ready embeddings of kind model come newest first, ties by greatest name."""
    wanted = [
        row.record
        for row in rows
        if (row.record.source_id, row.record.status) == (source, READY)
        and row.record.kind is ResultTableKind.MODEL
        and row.record.task.is_embedding
    ]
    wanted.sort(key=lambda r: (r.created_at, r.table_name), reverse=True)
    opened, _ = stored(segment(rows))
    found = [opened.row(position).record for position in opened.positions("embedding", source)]
    assert found == wanted


@settings(max_examples=40, deadline=None)
@given(drawn_rows(), NAMES)
@pytest.mark.parametrize("group_rows", [1, 3, 16_384])
def test_lookup(group_rows, rows, other):
    """A name's row is found whether the segment is loaded whole or read by row group."""
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(manifest, "ROW_GROUP_ROWS", group_rows)
        run = segment(rows)
        by_name = {row.record.table_name: row for row in rows}
        for opened in (run, stored(run)[0]):
            assert {name: opened.lookup(name) for name in by_name} == by_name
            assert opened.lookup(other) == by_name.get(other)
        loaded, _ = stored(run)
        assert [loaded.row(p) for p in range(len(rows))] == [by_name[n] for n in sorted(by_name)]
        assert all(loaded.seq(loaded.position(n)) == row.seq for n, row in by_name.items())


def test_loading_is_lazy(monkeypatch):
    """A name outside a segment's range opens nothing; one inside opens its file once."""
    monkeypatch.setattr(manifest, "ROW_GROUP_ROWS", 2)
    found, opened = stored(segment(Row(record(name, 1), 1) for name in "bcdefg"))
    assert found.lookup("a") is found.lookup("h") is found.position("zz") is None
    assert opened == []
    assert found.lookup("c").record.table_name == "c"
    assert found.lookup("ca") is None
    assert found.lookup("g").record.table_name == "g"
    assert opened.kinds["open"] == 1
    assert opened.kinds["read"] == 0


@settings(max_examples=40, deadline=None)
@given(drawn_rows(), st.sets(NAMES, max_size=20))
def test_without(rows, names):
    """A segment without some names has exactly the other rows, and describes itself anew."""
    run = segment(rows)
    rest = run.without(names)
    expected = {r.record.table_name: r for r in rows if r.record.table_name not in names}
    if not expected:
        assert rest is None
        return
    assert {name: rest.lookup(name) for name in expected} == expected
    assert all(rest.lookup(name) is None for name in names)
    assert rest.info.rows == len(expected)
    assert (rest.info.min_name, rest.info.max_name) == (min(expected), max(expected))
    assert (rest is run) is (len(expected) == len(rows))


def test_damage_shows_at_the_first_use():
    """A missing or damaged segment is an error that names it, when something first needs it."""
    run = segment([Row(record("t", 1), 1)])
    for data in (None, b"PAR1" * 9):
        storage = MemoryStorage(f"memory://{uuid.uuid4().hex}")
        if data is not None:
            storage.create(run.info.key, data)
        for use in (
            lambda s: s.lookup("t"),
            lambda s: s.table,
            lambda s: s.positions("source_id", "docs"),
        ):
            with pytest.raises(FormatError, match=run.info.key):
                use(Segment(run.info, storage))


OTHERS = {
    "more rows": [Row(record(name, 1), 1) for name in "abcdefg"],
    "other names": [Row(record(name, 1), 1) for name in "cdefgh"],
    "other versions": [Row(record(name, 2), 2) for name in "bcdefg"],
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("group", [2, 100])
def test_another_segment_is_told(other, group, monkeypatch):
    """A sound segment under the key of another is an error that says so, however it is read."""
    monkeypatch.setattr(manifest, "ROW_GROUP_ROWS", group)
    run = segment(Row(record(name, 1), 1) for name in "bcdefg")
    data = manifest.encode_segment(segment(OTHERS[other]).table)
    storage = MemoryStorage(f"memory://{uuid.uuid4().hex}")
    storage.create(run.info.key, data)
    uses = [lambda s: s.table, lambda s: s.load(data), lambda s: s.positions("source_id", "docs")]
    if other != "other versions" or group > len("bcdefg"):  # a row group alone does not tell them
        uses.append(lambda s: s.lookup("c"))
    for use in uses:
        with pytest.raises(FormatError, match=rf"{run.info.key}.*6 rows from 'b' to 'g'"):
            use(Segment(run.info, storage))


def test_many_cached_rows(monkeypatch):
    """The cache of single rows is bounded and never wrong."""
    monkeypatch.setattr("jammi_files.segment._CACHED_ROWS", 3)
    run = segment(Row(record(f"t{number}", number), number) for number in range(9))
    for _ in range(2):
        assert [run.row(p).record.table_name for p in range(9)] == [f"t{n}" for n in range(9)]


def test_threads_of_arrow_hold_nothing_of_python(monkeypatch):
    """What Arrow's threads read from is Arrow's own; one that lets go last aborts no process.

    A thread may do so when its process is ending, where it may ask for the interpreter no more.
    """
    let_go_by = Counter()
    read_at = segment_file._Pieces.read_at

    class Noted(bytes):
        def __del__(self):
            let_go_by[threading.get_ident()] += 1

    monkeypatch.setattr(segment_file._Pieces, "read_at", lambda *args: Noted(read_at(*args)))
    monkeypatch.setattr(manifest, "ROW_GROUP_ROWS", 2)
    run = segment(Row(record(name, 1), 1) for name in "bcdefg")
    assert stored(run)[0].lookup("d").record.table_name == "d"
    assert let_go_by.keys() == {threading.get_ident()}
    data = bytearray(manifest.encode_segment(run.table))
    copy = segment_file.owned(data)
    data.clear()  # refused while anything looks into it
    assert copy.parent is None
    assert pq.read_table(pa.BufferReader(copy)).num_rows == 6


def test_a_file_is_closed_before_it_is_collected(tmp_path):
    """Whoever lets go of an open segment, be it in a cycle, leaves no file open and no warning."""
    path = tmp_path / "segment"
    path.write_bytes(manifest.encode_segment(segment([Row(record("a", 1), 1)]).table))
    file = path.open("rb")
    number = file.fileno()
    opened = segment_file.SegmentFile(file, ())
    opened.itself = opened
    del file, opened
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
