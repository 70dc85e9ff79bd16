"""Manifests and segments that would take more than they look like are refused unread."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import hostile
from support.hostile import TARGETS, Keeper, Target, mutations
from support.stored import record

from jammi_files import FormatError, InvalidInputError, manifest, parquet_claims, parquet_footer
from jammi_files.parquet_tree import element
from jammi_files.row_pages import metadata_of, stripe, to_parquet
from jammi_files.rows import Row, table_of, with_dictionaries
from jammi_files.schema import LOW_CARDINALITY
from jammi_files.thrift import (
    BINARY,
    I32,
    STRUCT,
    binary,
    list_of,
    read_list,
    read_struct,
    struct_of,
    zigzag,
)

I64, LIST = 6, 9
MEGABYTE = 1 << 20

# --- files that Arrow makes


def rows_table(count: int) -> pa.Table:
    return table_of([Row(record("t", 1), 1)]).take(pa.array([0] * count))


def file_of(table: pa.Table, *, row_group_size: int | None = None, **options) -> bytes:
    """Return a file that is a manifest and a segment of these rows."""
    said = manifest.header_to_json(manifest.Header(1, "a" * 32, "create", 10**18, "host:1"))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", **options) as writer:
        writer.add_key_value_metadata({manifest.METADATA_KEY: said})
        writer.write_table(table, row_group_size=row_group_size)
    return sink.getvalue()


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def repeated(text: str, count: int) -> pa.Array:
    """Return the same string many times, which takes a megabyte in memory and on the disk less."""
    codes = pa.array([0] * count, pa.int32())
    return pa.DictionaryArray.from_arrays(codes, pa.array([text]))


def dictionary_bomb() -> bytes:
    """Return 25 kB of which a string column would take 60 GB."""
    table = with_column(rows_table(60_000), "index_path", repeated("x" * MEGABYTE, 60_000))
    return file_of(table, store_schema=False, write_statistics=["table_name"])


def delta_bomb() -> bytes:
    """Return a file in which each string repeats the one before."""
    table = with_column(rows_table(300), "index_path", pa.array(["x" * 10_000] * 300))
    return file_of(table, use_dictionary=False, column_encoding={"index_path": "DELTA_BYTE_ARRAY"})


def nested_bomb() -> bytes:
    """Return a file with a row whose list has a hundred million items, all of them null."""
    items = pa.array([None], pa.string()).take(pa.array([0] * 5_000_000))
    lists = pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items)
    one = rows_table(1)
    return file_of(with_column(one, "text_columns", lists))


def wide_bomb() -> bytes:
    """Return a file of more columns than rows could have."""
    return file_of(pa.table({f"c{each}": [1] for each in range(1100)}), store_schema=False)


def long_bomb() -> bytes:
    """Return a file with one row group of four million equal rows."""
    return file_of(pa.table({"table_name": repeated("t", 1 << 22)}), row_group_size=1 << 22)


BOMBS = {
    "dictionary": (dictionary_bomb, "would take"),
    "delta": (delta_bomb, "encoding 7, which has no bound"),
    "wide": (wide_bomb, "1100 columns, over 1024"),
    "long": (long_bomb, "rows, over 65536"),
}


def decoders(data: bytes):
    """Return every way in which the library reads such bytes."""
    return [
        lambda: manifest.decode_manifest("the/key", data),
        lambda: manifest.decode_header("the/key", data),
        lambda: manifest.decode_columns("the/key", data, ["table_name"]),
        lambda: manifest.decode_segment("the/key", data),
        lambda: read_in_parts(data),
    ]


def read_in_parts(data: bytes) -> list[pa.Table]:
    file = manifest.open_segment("the/key", lambda _: io.BytesIO(data))
    return [manifest.read_group("the/key", file, group) for group in range(len(file))]


def _no_more_than(data: bytes, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feed every decoder in turn, and look at the memory that Arrow had at its peak."""
    monkeypatch.setattr(hostile, "MOST_MEMORY", most)
    for number in range(len(decoders(data))):
        run = lambda given, _, number=number: decoders(given)[number]()  # noqa: E731
        monkeypatch.setitem(TARGETS, "bomb", Target(list, run))
        pool = pa.proxy_memory_pool(pa.system_memory_pool())
        POOLS.append(pool)
        monkeypatch.setattr(hostile, "_watched_pool", lambda: POOLS[-1])
        keeper = Keeper("bomb")
        keeper.feed(data)
        keeper.close()


POOLS: list[pa.MemoryPool] = []
"""Pools outlive what was allocated from them."""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_of_arrow(name, monkeypatch):
    """A bomb is a `FormatError` that names the object and the limit; next to no memory is used."""
    make, message = BOMBS[name]
    data = make()
    for decode in decoders(data):
        with pytest.raises(FormatError, match=f"'the/key' .*{message}"):
            decode()
    _no_more_than(data, 16 * MEGABYTE, monkeypatch)


def test_a_long_list_is_counted(monkeypatch):
    """What a list would take is counted by its items, however few bytes they are stored in."""
    data = nested_bomb()
    assert len(data) < 20_000
    monkeypatch.setattr(parquet_footer, "MOST_MEMORY", 64 * MEGABYTE)
    with pytest.raises(FormatError, match="would take"):
        manifest.decode_segment("the/key", data)


# --- files that say what is not so


def page(*, values=1, unpacked=5, data=b"\1\0\0\0t", kind=0, encoding=0, packed=None) -> bytes:
    said = struct_of(
        *((n, I32, zigzag(v)) for n, v in ((1, values), (2, encoding), (3, 3), (4, 3)))
    )
    sizes = ((1, kind), (2, unpacked), (3, len(data) if packed is None else packed))
    header = [(n, I32, zigzag(value)) for n, value in sizes]
    return struct_of(*header, ({0: 5, 2: 7, 3: 8}.get(kind, 5), STRUCT, said)) + data


def column(
    pages=b"",
    *,
    values=1,
    unpacked=25,
    start=4,
    packed=None,
    kind=6,
    name=b"table_name",
    dictionary=None,
) -> bytes:
    claims = [
        (1, I32, zigzag(kind)),
        (2, LIST, list_of(I32, [zigzag(0)])),
        (3, LIST, list_of(BINARY, [binary(name)])),
        (4, I32, zigzag(0)),
        (5, I64, zigzag(values)),
        (6, I64, zigzag(unpacked)),
        (7, I64, zigzag(len(pages) if packed is None else packed)),
        (9, I64, zigzag(start)),
    ]
    if dictionary is not None:
        claims.append((11, I64, zigzag(dictionary)))
    return struct_of((2, I64, zigzag(0)), (3, STRUCT, struct_of(*claims)))


def group(columns, rows=1) -> bytes:
    size = (2, I64, zigzag(0))
    return struct_of((1, LIST, list_of(STRUCT, columns)), size, (3, I64, zigzag(rows)))


SCHEMA = [element("schema", None, [(5, I32, zigzag(1))]), element("table_name", 0, [], kind=6)]


def forged(pages=None, *, columns=None, groups=None, rows=1, schema=SCHEMA, length=None) -> bytes:
    """Return a Parquet file of one column that says whatever is wanted."""
    pages = page() if pages is None else pages
    columns = [column(pages)] if columns is None else columns
    groups = [group(columns, rows)] if groups is None else groups
    footer = struct_of(
        (1, I32, zigzag(2)),
        (2, LIST, list_of(STRUCT, schema)),
        (3, I64, zigzag(rows)),
        (4, LIST, list_of(STRUCT, groups)),
    )
    length = len(footer) if length is None else length
    return b"PAR1" + pages + footer + length.to_bytes(4, "little") + b"PAR1"


TWO_PAGES = page() + page()
DICTIONARY = page(kind=2, data=b"\1\0\0\0t")
DEEP = [element("g", 1, [(5, I32, zigzag(1))]) for _ in range(60)]
LIES = {
    "footer longer than the file": (forged(length=1 << 30), "footer is said to have"),
    "values": (forged(columns=[column(page(), values=1 << 40)]), "would take"),
    "size of a column": (forged(columns=[column(page(), unpacked=1 << 40)]), "would take"),
    "size of a page": (forged(page(unpacked=(1 << 31) - 1)), "would take"),
    "negative size": (forged(page(unpacked=-1)), "longer than the column|no count"),
    "negative packed": (forged(page(packed=-1)), "longer than the column|no count"),
    "page past its column": (forged(page(packed=99)), "longer than the column"),
    "values of a page": (forged(page(values=2)), "pages hold 2 values"),
    "a page too many": (forged(TWO_PAGES), "pages hold 2 values"),
    "no page": (forged(b"", columns=[column(b"", packed=0)]), "pages hold 0 values"),
    "kind of a page": (forged(page(kind=9)), "a page is of kind 9"),
    "encoding of a page": (forged(page(encoding=77)), "encoding 77"),
    "column outside": (forged(columns=[column(page(), start=90)]), "outside"),
    "column before": (forged(columns=[column(page(), start=0)]), "outside"),
    "negative values": (forged(columns=[column(page(), values=-1)]), "outside|no count"),
    "type of a column": (forged(columns=[column(page(), kind=2)]), "of the type"),
    "name of a column": (forged(columns=[column(page(), name=b"other")]), "where the schema says"),
    "a column too many": (forged(columns=[column(page())] * 2), "has 2 columns, the schema 1"),
    "rows of a group": (forged(rows=70_000), "has 70000 rows"),
    "rows of the file": (forged(groups=[group([column(page())], 2)]), "do not have the 1 rows"),
    "nesting": (forged(schema=[SCHEMA[0], *DEEP, SCHEMA[1]]), "nested more than"),
    "no tree": (forged(schema=[*SCHEMA, SCHEMA[1]]), "no tree"),
    "lacking columns": (forged(schema=SCHEMA[:1]), "no tree"),
    "elements": (forged(schema=[SCHEMA[0], *SCHEMA[1:] * 5000]), "5001 elements"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies(name):
    """A file whose footer or pages say what cannot be, or is too much, is refused for that."""
    data, message = LIES[name]
    with pytest.raises(FormatError, match=f"'the/key' .*({message})"):
        manifest.decode_segment("the/key", data)
    with pytest.raises(FormatError, match="'the/key'"):
        manifest.decode_manifest("the/key", data)
    with pytest.raises(FormatError, match="'the/key'"):
        read_in_parts(data)


def test_the_forgery_is_sound_otherwise():
    """What the files above say wrong is all that is wrong with them."""
    found, folded = parquet_claims.require_bounded(forged(), (), 1 << 20)
    assert (found.rows, folded, len(found.groups)) == (1, [], 1)
    assert pq.read_table(pa.BufferReader(forged())).to_pylist() == [{"table_name": b"t"}]


def test_many_groups_over_the_same_pages():
    """The row groups of a segment are bounded together, not each by itself."""
    groups = [group([column(page(), unpacked=1 << 29)])] * 3
    with pytest.raises(FormatError, match="it would take"):
        manifest.decode_segment("the/key", forged(groups=groups, rows=3))


def test_a_dictionary_counts_for_each_value():
    """A dictionary that is written out counts once for every value, one that is kept once."""
    pages = page(kind=2, unpacked=1000, data=bytes(9)) + page(values=9, encoding=8, unpacked=3)
    footer = parquet_footer.Group(
        9, (parquet_footer.Chunk(parquet_footer.Leaf(6, (b"s",), b""), 0, len(pages), 9, 0, None),)
    )
    levels = parquet_footer.VALUE_BYTES * 9
    assert parquet_claims.check_pages(pages, 0, footer, ()) == levels + 1003 + 9 * 1000
    assert parquet_claims.check_pages(pages, 0, footer, ["s"]) == levels + 1003


# --- Thrift


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x1c" * 100_000, "nested more than"),
        (b"\x19\x19" * 50_000, "too deep|nested|there is no type|longer"),
        (b"\x18\xff\xff\xff\xff\x0f", "longer than what is left"),
        (b"\x19\xfc\xff\xff\xff\xff\x0f", "longer than what is left"),
        (b"\x15" + b"\xff" * 10 + b"\x01\0", "64 bits"),
        (b"\x15\x02\x05\x02\x02\0", "out of order"),
        (b"\x1b\0", "there is no type 11"),
        (b"\x15\x02", "end within"),
    ],
)
def test_hostile_thrift(data, message):
    """Bytes that are no struct are refused in time and memory that follow their length."""
    with pytest.raises(ValueError, match=message):
        read_struct(data, 0)


def test_lists_nest_only_so_deep():
    """Lists of lists are refused before the interpreter runs out of its stack."""
    with pytest.raises(ValueError, match="nested"):
        read_list(b"\x19" * 100_000, 0)


# --- ours


def own_manifest(count: int) -> bytes:
    stripes = [stripe(Row(record(f"t{each:03}", each), each)) for each in range(1, count + 1)]
    said = manifest.header_to_json(manifest.Header(1, "a" * 32, "create", 10**18, "host:1"))
    return to_parquet(stripes, {manifest.METADATA_KEY: said})


@pytest.mark.parametrize("count", [0, 1, 2, 127, 128])
def test_own_manifests_are_told(count):
    """A manifest that this library wrote is told by its bytes, and read as any other would be."""
    data = own_manifest(count)
    found = metadata_of(data, 1 << 30)
    said, _ = parquet_claims.require_bounded(data, (), 1 << 30)
    assert found == (count, said.metadata)


def test_many_rows_are_looked_at_as_anybodys():
    """A manifest with more rows than ours have is read, but is not told to be ours."""
    data = own_manifest(1100)
    assert metadata_of(data, 1 << 30) is None
    assert manifest.decode_manifest("the/key", data)[1].num_rows == 1100


def test_nothing_else_passes_for_ours():
    """A manifest with one byte changed in its layout is read as one that anybody wrote."""
    data = own_manifest(3)
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    said = data.index(b'{"', start)
    for at in [*range(4), *range(start, said - 20), *range(len(data) - 8, len(data))]:
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert metadata_of(changed, 1 << 30) is None, at
    assert metadata_of(data, 100) is None


def test_both_readers_of_columns_and_pages_agree(monkeypatch):
    """The patterns that read most columns and pages find what Thrift's own rules find there."""
    seeds = [*TARGETS["segment"].seeds(), *TARGETS["manifest"].seeds()]

    def looked_at(data: bytes):
        try:
            return parquet_claims.require_bounded(data, LOW_CARDINALITY, 1 << 30)
        except ValueError:
            return None

    inputs = [*seeds, *mutations(seeds, 600, 11)]
    fast = [looked_at(data) for data in inputs]
    never = re.compile(b"(?!)")
    monkeypatch.setattr(parquet_footer, "_HEAD", never)
    monkeypatch.setattr(parquet_claims, "_PAGE", never)
    monkeypatch.setattr(parquet_claims, "_FOLDER", never)
    assert [looked_at(data) for data in inputs] == fast
    assert all(fast[: len(seeds)])


def segment_table(count: int) -> pa.Table:
    rows = [Row(record(f"t{each:05}", each), each) for each in range(1, count + 1)]
    return with_dictionaries(table_of(rows)).sort_by("table_name").combine_chunks()


def in_groups(count: int, rows: int, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(segment_table(count), sink, row_group_size=rows, **options)
    return sink.getvalue()


def test_row_groups_are_read_one_by_one():
    """Each row group of a large segment is read as Arrow would read it from the whole file."""
    data = in_groups(100, 30)
    whole = manifest.decode_segment("the/key", data)
    file = manifest.open_segment("the/key", lambda _: io.BytesIO(data))
    assert file.least == ["t00001", "t00031", "t00061", "t00091"]
    assert pa.concat_tables(read_in_parts(data)).to_pylist() == whole.to_pylist()


def test_row_groups_of_a_long_footer():
    """A footer that is longer than what is read of a file at first is read in full."""
    data = in_groups(90, 1)
    assert int.from_bytes(data[-8:-4], "little") > 1 << 16
    tables = read_in_parts(data)
    assert pa.concat_tables(tables).column("table_name").to_pylist() == [
        f"t{each:05}" for each in range(1, 91)
    ]


def test_row_groups_of_another_writer():
    """Where names are not the first column row groups are found all the same."""
    table = segment_table(50)
    sink = io.BytesIO()
    pq.write_table(table.select(table.column_names[::-1]), sink, row_group_size=20)
    file = manifest.open_segment("the/key", lambda _: io.BytesIO(sink.getvalue()))
    assert file.least == ["t00001", "t00021", "t00041"]


def test_row_groups_without_rows():
    """A row group that is said to have no rows is damage, not an exception of another kind."""
    data = in_groups(60, 30)
    said = re.search(rb"\x16[\x80-\xff]*.(\x16\x3c)\x26\x08", data, re.DOTALL)
    assert said is not None
    empty = data[: said.start(1)] + b"\x16\0" + data[said.end(1) :]
    file = manifest.open_segment("the/key", lambda _: io.BytesIO(empty))
    with pytest.raises(FormatError, match="a row group has no rows"):
        manifest.read_group("the/key", file, 0)


def test_row_groups_without_statistics():
    """A segment in which no name can be looked for is damaged, says why, and does not stay open."""
    file = io.BytesIO(in_groups(50, 20, write_statistics=False))
    with pytest.raises(FormatError, match="no statistics of 'table_name'"):
        manifest.open_segment("the/key", lambda _: file)
    assert file.closed


def test_large_rows_come_in_small_groups(monkeypatch):
    """Rows with much in them are written in row groups that every reader takes."""
    monkeypatch.setattr(manifest, "_GROUP_BYTES", 10_000)
    data = manifest.encode_segment(segment_table(300))
    assert pq.ParquetFile(pa.BufferReader(data)).num_row_groups > 5
    assert manifest.decode_segment("the/key", data).num_rows == 300
    monkeypatch.setattr(manifest, "MOST_MEMORY", 1)
    monkeypatch.setattr(manifest, "MOST_TIMES", 1)
    with pytest.raises(InvalidInputError, match="rows are too large"):
        manifest.encode_segment(segment_table(300))


def test_rows_that_pack_well_are_no_manifest():
    """A small manifest that would unpack to more than readers take has its rows in a segment."""
    data = own_manifest(128)
    assert not manifest.is_too_large(data)
    large = data + bytes(manifest.INLINE_BYTES // 4)
    assert manifest.is_too_large(large)


# --- what Arrow ends the process over

ABORTS = """
import io, sys
from jammi_files import FormatError, manifest
from jammi_files.segment import _RowGroups

data = sys.stdin.buffer.read()
try:
    groups = _RowGroups("key", manifest.open_segment("key", lambda _: io.BytesIO(data)))
    groups.lookup("t00001"), groups.lookup("t00050")
except FormatError as error:
    print("refused:", error)
"""


def test_statistics_that_end_the_process():
    """Damaged statistics of a column are an error of the library, not the end of the process."""
    data = in_groups(60, 30)
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    sizes = re.search(rb"\x3c\x16..?\x19\x06\x19\x06\x00", footer, re.DOTALL)
    assert sizes is not None
    damaged = bytearray(footer)
    damaged[sizes.end() - 5 : sizes.end() - 3] = b"\x19\x26\x00\x00"  # two levels where none are
    whole = data[: -8 - length] + damaged + len(damaged).to_bytes(4, "little") + b"PAR1"
    arrow = textwrap.dedent(
        """
        import sys, pyarrow as pa, pyarrow.parquet as pq
        file = pq.ParquetFile(pa.BufferReader(sys.stdin.buffer.read()))
        print(file.metadata.row_group(0).column(0).statistics.min)
        """
    )
    run = lambda code: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code], input=whole, capture_output=True, check=False
    )
    assert run(arrow).returncode != 0  # which is why the library asks Arrow nothing of the kind
    ours = run(ABORTS)
    assert ours.returncode == 0, ours.stderr[-500:]
