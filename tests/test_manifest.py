"""Rows as Parquet and back: every column, older and newer files, damage, and the merge policy."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import io
import re
import uuid
from pathlib import Path

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import shrink_runs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.files import newest_manifest
from support.results import row, rows
from support.stored import NAMES, ROWS, live, newest, record, segment

from jammi_files import (
    Catalog,
    FormatError,
    UnsupportedVersionError,
    draft,
    footer_digest,
    manifest,
)
from jammi_files.header import Header, SegmentInfo
from jammi_files.log import key_of
from jammi_files.retention import Retention
from jammi_files.row_pages import stripe, to_parquet
from jammi_files.rows import STORED, Row, RowReader, conform, rows_of, table_of
from jammi_files.schema import LOW_CARDINALITY, SCHEMA

KEY = "the/key.parquet"
INFO = SegmentInfo("s", rows=3, level=1, min_name="a", max_name="é", min_seq=1, max_seq=9)
HEADER = Header(
    version=7,
    commit_id="c" * 32,
    operation="create+delete",
    committed_at=1_800_000_000_123_456_789,
    writer="host:1",
    segments=(INFO, dataclasses.replace(INFO, key="t")),
    retention=Retention(tags={"paper": 7}),
)
ROW = Row(record("name-of-t", 1), 1)
SOUND = manifest.encode_manifest(HEADER, table_of([ROW]))
OWN = manifest.encode_stripes(HEADER, [stripe(ROW)])
SOUND_SEGMENT = manifest.encode_segment(segment([ROW]).table)


def with_metadata(data, **changes):
    """Rewrite a manifest's own metadata; None drops a field."""
    file = pq.ParquetFile(io.BytesIO(data))
    fields = orjson.loads(file.metadata.metadata[manifest.METADATA_KEY]) | changes
    fields = {name: value for name, value in fields.items() if value is not None}
    return encode(file.read().replace_schema_metadata(), orjson.dumps(fields))


def encode(table, metadata=None):
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema) as writer:
        if metadata is not None:
            writer.add_key_value_metadata({manifest.METADATA_KEY: metadata})
        writer.write_table(table)
    return sink.getvalue()


# --- round trips


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, max_size=6))
def test_manifest_round_trip(given_rows):
    """`B023`: every value of every column comes back from a manifest as it went in."""
    header, table, found = manifest.decode_manifest(
        KEY, manifest.encode_manifest(HEADER, table_of(given_rows))
    )
    assert found == given_rows
    assert header == HEADER
    assert (table.schema.names, table.schema.types) == (STORED.names, STORED.types)
    assert manifest.decode_header(KEY, manifest.encode_manifest(HEADER, table)) == HEADER


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=6))
def test_stripes_are_what_arrow_reads(given_rows):
    """Rows written without Arrow are read by it, checksums verified, as if it had written them."""
    data = to_parquet([stripe(each) for each in given_rows], {b"jammi_files": b"{}"})
    file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    table = file.read()
    table.validate(full=True)
    assert file.schema_arrow.equals(STORED)
    assert file.metadata.metadata == {b"jammi_files": b"{}"}
    assert table.equals(table_of(given_rows))


@pytest.mark.parametrize("count", [0, 1, 2, 127, 128, 129, 1000])
def test_stripes_of_many_rows(count, tmp_path):
    """Pages of every length, packed and unpacked, are read by DuckDB and by Arrow."""
    given_rows = [
        Row(record(f"t{at:05d}", at, checkpoint=at % 3 or None), at, deleted=at % 5 == 0)
        for at in range(count)
    ]
    path = tmp_path / "rows.parquet"
    path.write_bytes(to_parquet([stripe(each) for each in given_rows], {}))
    assert rows_of(conform(pq.read_table(path))) == given_rows
    found = duckdb.sql(
        f"SELECT table_name, checkpoint, seq FROM '{path}' WHERE NOT deleted ORDER BY seq"  # noqa: S608
    ).fetchall()
    assert found == [
        (each.record.table_name, each.record.checkpoint, each.seq)
        for each in given_rows
        if not each.deleted
    ]


def test_stripe_of_a_missing_value():
    """A row without a value that no row may lack is refused by name, before anything is written."""
    with pytest.raises(FormatError, match="column 'source_id' is null"):
        stripe(Row(dataclasses.replace(record("t", 1), source_id=None), 1))


def test_rows_are_striped_once(monkeypatch):
    """A commit takes apart the rows that it changes and no others, however many are inline."""
    striped = []

    def counting(row):
        striped.append(row.record.table_name)
        return stripe(row)

    monkeypatch.setattr(draft, "stripe", counting)
    catalog = Catalog.open(f"memory://{uuid.uuid4().hex}")
    for number in range(50):
        catalog.create_result_table(**row(f"t{number}"))
    catalog.fail_result_table("t7", "broken")
    catalog.delete_result_table("t8")
    assert striped == [*(f"t{number}" for number in range(50)), "t7", "t8"]
    assert catalog.get_result_table("t7").status == "failed"


def test_writers_in_turn_stripe_their_own_rows(monkeypatch):
    """A writer that takes over from another takes apart what is new to it, not every inline row."""
    striped = []
    monkeypatch.setattr(draft, "stripe", lambda r: striped.append(r.record.table_name) or stripe(r))
    root = f"memory://{uuid.uuid4().hex}"
    writers = [Catalog.open(root), Catalog.open(root)]
    for number in range(40):
        writers[number % 2].create_result_table(**row(f"t{number}"))
    assert len(striped) <= 2 * 40
    assert Catalog.open(root).scan().num_rows == 40


def test_known_rows_are_not_decoded_again(monkeypatch):
    """A reader makes records of the rows that are new to it; the others it has already."""
    root = f"memory://{uuid.uuid4().hex}"
    writer, reader = Catalog.open(root), Catalog.open(root)
    for number in range(100):
        writer.create_result_table(**row(f"t{number}"))
    old = reader.get_result_table("t5")
    writer.fail_result_table("t7", "broken")
    made = []
    monkeypatch.setattr(manifest, "rows_of", lambda t: made.append(t.num_rows) or rows_of(t))
    assert reader.get_result_table("t7").status == "failed"
    assert made == [1]
    assert reader.get_result_table("t5") is old


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6, unique_by=lambda r: r.record.table_name))
def test_segment_round_trip(given_rows):
    """`B023`: every value of every column comes back from a segment, sorted by name."""
    run = segment(given_rows)
    table = manifest.decode_segment(KEY, manifest.encode_segment(run.table))
    expected = sorted(given_rows, key=lambda r: r.record.table_name)
    assert rows_of(table) == expected
    reader = RowReader(table)
    assert [reader.read(position) for position in range(len(expected))] == expected
    info = run.info
    assert (info.rows, info.min_name) == (len(expected), expected[0].record.table_name)
    assert info.max_name == expected[-1].record.table_name
    assert info.min_seq == min(r.seq for r in given_rows)
    assert info.max_seq == max(r.seq for r in given_rows)


# --- plain Parquet


def test_files_are_plain_parquet(catalog, root):
    """Any Parquet reader reads manifests and segments: pyarrow and DuckDB give the same rows."""
    catalog.create_result_tables(rows(*(f"t{index:03}" for index in range(200)), dimensions=3))
    catalog.create_result_table(**row("late", text_columns=["a", "b"], properties={"k": "v"}))
    (run,) = (root / "_catalog/segments").iterdir()
    for path, count in ((run, 200), (newest_manifest(root), 1)):
        table = pq.read_table(path)
        assert table.num_rows == count
        assert set(STORED.names) == set(table.column_names)
        query = duckdb.sql(f"SELECT table_name FROM read_parquet('{path}') ORDER BY 1")  # noqa: S608 - our own path
        assert [name for (name,) in query.fetchall()] == sorted(table["table_name"].to_pylist())
    inline = duckdb.sql(
        f"SELECT text_columns, properties['k'], status, row_count FROM "  # noqa: S608 - our own path
        f"read_parquet('{newest_manifest(root)}')"
    )
    assert inline.fetchall() == [(["a", "b"], "v", "building", 0)]


# --- older and newer files


@pytest.mark.parametrize("name", [field.name for field in STORED if field.nullable])
def test_older_file(name):
    """A file from before a nullable column was added is read; the column is NULL."""
    given_row = Row(record("t", 1), 1)
    table = table_of([given_row]).drop_columns(name)
    metadata = orjson.dumps(orjson.loads(pq_metadata(SOUND)))
    _, _, (found,) = manifest.decode_manifest(KEY, encode(table, metadata))
    assert getattr(found.record, name) is None
    assert found.record == dataclasses.replace(given_row.record, **{name: None})
    run = manifest.decode_segment(KEY, encode(table))
    assert run.column_names == STORED.names


def pq_metadata(data):
    return pq.ParquetFile(io.BytesIO(data)).metadata.metadata[manifest.METADATA_KEY]


@pytest.mark.parametrize("name", [field.name for field in STORED if not field.nullable])
def test_required_column_is_missing(name):
    """`B024`: a file without a column that no row may lack is damaged; the error names both."""
    table = table_of([Row(record("t", 1), 1)]).drop_columns(name)
    with pytest.raises(FormatError, match=rf"{KEY}.*'{name}'"):
        manifest.decode_manifest(KEY, encode(table, pq_metadata(SOUND)))
    with pytest.raises(FormatError, match=rf"{KEY}.*'{name}'"):
        manifest.decode_segment(KEY, encode(table))


@pytest.mark.parametrize("name", STORED.names)
def test_column_of_another_type(name):
    """A known column of another type is damage, not a guess."""
    table = table_of([Row(record("t", 1), 1)])
    at = table.schema.get_field_index(name)
    table = table.set_column(at, name, pa.array([1.5]))
    with pytest.raises(FormatError, match=rf"{KEY}.*'{name}' has type double"):
        manifest.decode_manifest(KEY, encode(table, pq_metadata(SOUND)))


@pytest.mark.parametrize("found", [0, 2, 99, "1", None])
def test_other_format_version(found):
    """A manifest of another format version is refused, with both numbers if it has one."""
    data = with_metadata(SOUND, format_version=found)
    for decode in (manifest.decode_manifest, manifest.decode_header):
        with pytest.raises(FormatError if found is None else UnsupportedVersionError, match=KEY):
            decode(KEY, data)


def test_newer_metadata():
    """A field that a newer library added to a manifest of this version is kept as it is."""
    data = with_metadata(SOUND, checksum={"sha": ["abc", None]})
    header = manifest.decode_header(KEY, data)
    assert header.extra == {"checksum": {"sha": ["abc", None]}}
    assert dataclasses.replace(header, extra={}) == HEADER
    assert manifest.decode_header(KEY, manifest.encode_manifest(header, table_of([]))) == header


def test_newer_segment_entry():
    """A field that a newer library added to a segment's entry is no obstacle."""
    entries = [dataclasses.asdict(INFO) | {"bloom": "xyz"}]
    header = manifest.decode_header(KEY, with_metadata(SOUND, segments=entries))
    assert header.segments == (INFO,)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": None},
        {"version": "7"},
        {"commit_id": None},
        {"committed_at": "yesterday"},
        {"committed_at": 5},
        {"segments": None},
        {"segments": "all"},
        {"segments": [1]},
        {"segments": [{"key": "s"}]},
        {"segments": [dataclasses.asdict(INFO) | {"rows": "3"}]},
        {"segments": [dataclasses.asdict(INFO) | {"key": 3}]},
        {"segments": [dataclasses.asdict(INFO) | {"min_name": None}]},
        {"segments": [dataclasses.asdict(INFO) | {"max_seq": None}]},
        {"floor": None},
        {"floor": 0},
        {"floor": "1"},
        {"vacuumed": -1},
        {"vacuumed": True},
        {"tags": []},
        {"tags": {"": 1}},
        {"tags": {"a\n": 1}},
        {"tags": {"a": "1"}},
        {"tags": {"a": -1}},
        {"tags": None},
        {"born": 7},
        {"born": "yesterday"},
    ],
)
def test_damaged_metadata(changes):
    """Metadata of the wrong shape is a `FormatError` that names the manifest."""
    with pytest.raises(FormatError, match=KEY):
        manifest.decode_header(KEY, with_metadata(SOUND, **changes))


@pytest.mark.parametrize("metadata", [None, b"", b"{", b"[]", b"null", b"5", b"\xff"])
def test_foreign_parquet(metadata):
    """A Parquet file that is no manifest is a `FormatError` that names it."""
    for table in (pa.table({"a": [1]}), table_of([])):
        with pytest.raises(FormatError, match=KEY):
            manifest.decode_manifest(KEY, encode(table, metadata))


# Types that a newer library might give a column, with a value that only it can hold.
NEWER = {
    "int64": pa.array([2**62 + 1]),
    "bool": pa.array([True]),
    "double": pa.array([0.1]),
    "string": pa.array(["é"]),
    "large_string": pa.array(["é"], pa.large_string()),
    "binary": pa.array([b"\xff\0"]),
    "date32": pa.array([dt.date(2026, 1, 1)]),
    "timestamp us": pa.array([1_800_000_000_123_456], pa.timestamp("us", "UTC")),
    "timestamp ns": pa.array([1_800_000_000_123_456_789], pa.timestamp("ns", "UTC")),
    "time64 ns": pa.array([123_456_789], pa.time64("ns")),
    "duration ns": pa.array([123_456_789], pa.duration("ns")),
    "decimal": pa.array([decimal.Decimal("1.10")]),
    "list": pa.array([["a", None]]),
    "struct": pa.array([{"a": 1, "b": None}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "anchors": pa.array(
        [[{"source": "a", "at": 1_800_000_000_123_456_789}]],
        pa.list_(pa.struct([("source", pa.string()), ("at", pa.timestamp("ns"))])),
    ),
    "dictionary": pa.array(["x"]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", NEWER)
def test_newer_columns_survive(catalog, root, monkeypatch, kind):
    """Columns that a newer library added stay with their rows through commit, flush and merge."""
    shrink_runs(monkeypatch)
    for name in ("kept", "changed", "gone"):
        catalog.create_result_table(**row(name))
    value = NEWER[kind]
    add_newer_column(catalog, pa.concat_arrays([value] * 3))
    catalog.update_result_table_status("changed", "building", 1)
    catalog.delete_result_table("gone")
    assert newer_values(root) == {"kept": value[0], "changed": value[0]}
    for index in range(20):
        catalog.create_result_table(**row(f"t{index}"))
    catalog.create_result_table(**row("gone"))
    catalog.compact()
    assert newer_values(root) == {"kept": value[0], "changed": value[0]}
    fresh = Catalog.open(root, durability="os")
    fresh.update_result_table_status("changed", "failed", 0)
    assert newer_values(root) == {"kept": value[0], "changed": value[0]}
    assert fresh.scan().num_rows == 23
    assert fresh.scan().schema == SCHEMA


def add_newer_column(catalog, values):
    """Write a version as a newer library would: its rows have one column more."""
    version = catalog.version
    header, table, _ = manifest.decode_manifest("", catalog.storage.read(key_of(version)))
    header = dataclasses.replace(header, version=version + 1, commit_id="f" * 32)
    data = manifest.encode_manifest(header, table.append_column("newer", values))
    catalog.storage.create(key_of(version + 1), data)


def newer_values(root):
    """Return what the files of the newest version say of live rows in the column ``newer``."""
    header = manifest.decode_header("", newest_manifest(root).read_bytes())
    found = []
    for path in [newest_manifest(root), *(root / info.key for info in header.segments)]:
        table = pq.read_table(path)
        if "newer" in table.column_names:
            columns = [table[name] for name in ("table_name", "seq", "deleted", "newer")]
            found += list(zip(*columns, strict=True))
        else:
            columns = [table[name] for name in ("table_name", "seq", "deleted")]
            found += [(*each, None) for each in zip(*columns, strict=True)]
    best = {}
    for name, _, deleted, value in sorted(found, key=lambda each: each[1].as_py()):
        best[name.as_py()] = None if deleted.as_py() else value
    return {name: value for name, value in best.items() if value is not None and value.is_valid}


def test_newer_column_in_a_segment():
    """A merge of runs with and without a newer column keeps it where it was."""
    old = segment([Row(record("a", 1), 1), Row(record("b", 2), 2)]).table
    new = segment([Row(record("b", 3), 3), Row(record("c", 4), 4)]).table
    new = new.append_column("newer", pa.array([10, 20]))
    for runs in ([old, new], [new, old]):
        merged = manifest.merge_runs(runs)
        assert merged["table_name"].to_pylist() == ["a", "b", "c"]
        assert merged["newer"].to_pylist() == [None, 10, 20]


# --- damage


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"PAR1")
@example(data=b"PAR1" + b"\0" * 8 + b"PAR1")
def test_random_bytes(data):
    """Bytes that are no Parquet are a `FormatError` that names the object."""
    for decode in (manifest.decode_manifest, manifest.decode_header):
        with pytest.raises(FormatError, match=KEY):
            decode(KEY, data)
    with pytest.raises(FormatError, match=KEY):
        manifest.decode_segment(KEY, data)


@given(st.integers(0, len(SOUND) - 1))
def test_truncated_manifest(length):
    """A manifest cut off anywhere is a `FormatError` that names the object."""
    with pytest.raises(FormatError, match=KEY):
        manifest.decode_manifest(KEY, SOUND[:length])


@given(st.integers(0, len(SOUND_SEGMENT) - 1))
def test_truncated_segment(length):
    """A segment cut off anywhere is a `FormatError` that names the object."""
    with pytest.raises(FormatError, match=KEY):
        manifest.decode_segment(KEY, SOUND_SEGMENT[:length])


@settings(max_examples=300, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_flipped_byte(at, flip):
    """One other byte anywhere changes nothing, or is a `FormatError` that names the object."""
    for sound, decode in (
        (SOUND, lambda data: manifest.decode_manifest(KEY, data)),
        (OWN, lambda data: manifest.decode_manifest(KEY, data)),
        (SOUND_SEGMENT, lambda data: rows_of(manifest.decode_segment(KEY, data))),
    ):
        index = int(at * len(sound))
        damaged = sound[:index] + bytes([sound[index] ^ flip]) + sound[index + 1 :]
        try:
            assert decode(damaged) == decode(sound)
        except FormatError as error:
            assert KEY in str(error)  # noqa: PT017 - both outcomes are legal


@pytest.mark.parametrize(
    ("before", "after"), [(b'"floor":1', b'"floor":5'), (b'"paper"', b'"qaper"')]
)
def test_flipped_bit_in_the_header(before, after):
    """One bit of what a manifest says of its version, of which JSON knows no better, is told."""
    for data in (SOUND, OWN):
        assert data.count(before) == 1
        for decode in (manifest.decode_manifest, manifest.decode_header):
            with pytest.raises(FormatError, match=f"{KEY}.*footer.*digest"):
                decode(KEY, data.replace(before, after))


def test_flipped_bit_in_statistics():
    """One bit of the first name of a row group, by which names are looked up, is told."""
    at = SOUND_SEGMENT.rindex(b"name-of-t")  # in the footer
    damaged = SOUND_SEGMENT[:at] + b"o" + SOUND_SEGMENT[at + 1 :]
    with pytest.raises(FormatError, match=f"{KEY}.*footer.*digest"):
        manifest.open_segment(KEY, lambda _: io.BytesIO(damaged))
    with pytest.raises(FormatError, match=f"{KEY}.*footer.*digest"):
        manifest.decode_segment(KEY, damaged)


def test_no_digest():
    """A manifest or segment of a release that wrote no digest is read as it was."""
    file = pq.ParquetFile(io.BytesIO(SOUND))
    old = encode(file.read().replace_schema_metadata(), pq_metadata(SOUND))
    assert footer_digest.KEY in pq.read_metadata(io.BytesIO(SOUND)).metadata
    assert footer_digest.KEY not in pq.read_metadata(io.BytesIO(old)).metadata
    assert manifest.decode_manifest(KEY, old) == manifest.decode_manifest(KEY, SOUND)


@pytest.mark.parametrize("digest", [b"", b"0" * 63, b"0" * 64, b"0" * 65])
def test_wrong_digest(digest):
    """A digest of whatever form that is not the footer's is told."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, STORED) as writer:
        said = {manifest.METADATA_KEY: pq_metadata(SOUND), footer_digest.KEY: digest}
        writer.add_key_value_metadata(said)
    with pytest.raises(FormatError, match=f"{KEY}.*footer.*digest"):
        manifest.decode_header(KEY, sink.getvalue())


def test_missing_segment():
    """A segment that is not there although it is listed is a `FormatError` that says so."""

    def missing(key):
        raise FileNotFoundError(key)

    with pytest.raises(FormatError, match=f"{KEY}.*missing"):
        manifest.open_segment(KEY, missing)


def test_huge_manifest(monkeypatch):
    """A manifest too large to be one is refused before it is parsed."""
    monkeypatch.setattr(manifest, "MAX_MANIFEST_BYTES", len(SOUND) - 1)
    with pytest.raises(FormatError, match=f"{KEY}.*{len(SOUND)} bytes"):
        manifest.decode_manifest(KEY, SOUND)


# --- merge policy


@given(st.integers(1, 10**9))
def test_levels(count):
    """A run's level is how often eight runs of the last level fit in it."""
    level = manifest.level_of(count)
    assert count <= 128 * 8**level
    assert level == 0 or count > 128 * 8 ** (level - 1)


@given(st.lists(st.integers(0, 3), max_size=40))
def test_find_merge(levels):
    """A level with eight runs is merged, the lowest first; with fewer nothing is."""
    infos = [dataclasses.replace(INFO, key=str(i), level=level) for i, level in enumerate(levels)]
    crowded = [level for level in range(4) if levels.count(level) >= 8]
    crowd = manifest.find_merge(infos)
    if not crowded:
        assert crowd == ()
    else:
        assert list(crowd) == [info for info in infos if info.level == crowded[0]]


RUNS = st.lists(
    st.lists(st.tuples(NAMES, st.booleans()), min_size=1, max_size=8, unique_by=lambda t: t[0]),
    min_size=1,
    max_size=5,
)


def numbered(runs):
    """Give every row of every run its own version."""
    seqs = iter(range(1, 100))
    made = []
    for run in runs:
        made.append([])
        for name, deleted in run:
            seq = next(seqs)
            made[-1].append(Row(record(name, seq), seq, deleted))
    return made


@settings(max_examples=40, deadline=None)
@given(RUNS, st.integers(0, 99))
def test_merge_runs(drawn, limit):
    """A merge keeps the newest row of every name, sorted, less the tombstones up to the limit."""
    runs = numbered(drawn)
    merged = manifest.merge_runs([segment(run).table for run in runs], drop_deleted_up_to=limit)
    expected = newest(*runs)
    expected = {n: r for n, r in expected.items() if not (r.deleted and r.seq <= limit)}
    assert rows_of(merged) == [expected[name] for name in sorted(expected)]
    assert merged.schema.field("status").type == pa.dictionary(pa.int32(), pa.string())


@settings(max_examples=40, deadline=None)
@given(RUNS, st.data())
def test_dropped_tombstones_are_not_missed(drawn, data):
    """Merging any of the runs, tombstones dropped as allowed, changes no live row of the whole."""
    runs = numbered(drawn)
    chosen = data.draw(st.sets(st.sampled_from(range(len(runs))), min_size=1))
    infos = [segment(run).info for run in runs]
    limit = manifest.droppable_tombstones([infos[at] for at in sorted(chosen)], infos)
    merged = manifest.merge_runs(
        [segment(runs[at]).table for at in sorted(chosen)], drop_deleted_up_to=max(limit, 0)
    )
    rest = [run for at, run in enumerate(runs) if at not in chosen]
    assert live(rows_of(merged), *rest) == live(*runs)


def test_a_tombstone_stays_while_it_hides_something():
    """One that is older than every row outside the merge goes, and no other one."""
    old = segment([Row(record("a", 2), 2)])
    new = segment([Row(record("a", 3), 3, deleted=True), Row(record("b", 1), 1, deleted=True)])
    limit = manifest.droppable_tombstones([new.info], [old.info, new.info])
    merged = manifest.merge_runs([new.table], drop_deleted_up_to=limit)
    assert [(row.record.table_name, row.deleted) for row in rows_of(merged)] == [("a", True)]
    assert manifest.droppable_tombstones([old.info, new.info], [old.info, new.info]) == 3


# --- conforming


def test_conform():
    """A table's columns are brought into stored order; dictionaries and unknown ones stay."""
    table = table_of([Row(record("t", 1), 1)]).append_column("newer", pa.array([1]))
    shuffled = table.select(table.column_names[::-1])
    assert conform(shuffled).column_names == [*STORED.names, "newer"]
    assert all(
        pa.types.is_dictionary(conform(segment([Row(record("t", 1), 1)]).table)[name].type)
        for name in LOW_CARDINALITY
    )


def test_documented_limits():
    """`FORMAT.md` states the numbers that other implementations must share."""
    text = (Path(manifest.__file__).parent / "FORMAT.md").read_text()
    assert re.search(rf"\b{manifest.INLINE_ROWS}\b", text)


def with_unsound_text(table):
    """Return a table of one row whose path is no UTF-8: nothing but validation gives it away."""
    offsets, text = pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    unsound = pa.Array.from_buffers(pa.string(), 1, [None, offsets, text])
    at = table.column_names.index("parquet_path")
    return table.set_column(at, "parquet_path", unsound)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_segment_of_unsound_values(sealed):
    """Values that no checksum and no digest gives away, because they cover them, are told."""
    table = with_unsound_text(segment([ROW]).table)
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True, write_statistics=False)
    data = manifest.encode_segment(table) if sealed else sink.getvalue()
    with pytest.raises(FormatError, match=f"segment '{KEY}' is damaged: .*UTF8"):
        manifest.decode_segment(KEY, data)


def test_a_manifest_of_unsound_values():
    """So it is in a manifest, also if nobody looks at its rows because they are known."""
    told = pq.ParquetFile(io.BytesIO(SOUND)).metadata.metadata[manifest.METADATA_KEY]
    data = encode(with_unsound_text(table_of([ROW])), told)
    with pytest.raises(FormatError, match=f"manifest '{KEY}' is damaged: .*UTF8"):
        manifest.decode_manifest(KEY, data, {ROW.record.table_name: ROW})


def test_checksums_are_checked():
    """A value that was changed to another sound one is told: by its page's checksum alone."""
    given_row = Row(record("name-of-a", 1), 1)
    sink = io.BytesIO()
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table_of([given_row]), sink, write_page_checksum=True, **options)
    own = manifest.encode_stripes(HEADER, [stripe(given_row)])
    files = (own, manifest.decode_manifest), (sink.getvalue(), manifest.decode_segment)
    for data, decode in files:
        decode(KEY, data)
        changed = data.replace(b"name-of-a", b"name-of-b")
        assert changed != data
        with pytest.raises(FormatError, match=f"{KEY}.*CRC"):
            decode(KEY, changed)
