"""Files as streams of Arrow data: in parts, with their digest, and refused where they are odd."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from jammi_files import (
    FormatError,
    InvalidInputError,
    StateError,
    data_files,
    frames,
    ipc_claims,
)
from jammi_files.data_files import FileFormat, open_data_file

ROWS = pa.table({"a": pa.array(range(1000)), "b": pa.array([str(n) for n in range(1000)])})


def read(path, **options):
    with open_data_file(path, **options) as file:
        return file.format, list(file.tables)


def test_rows_come_in_parts(tmp_path, monkeypatch):
    """A file of many small parts is yielded in groups, never whole."""
    monkeypatch.setattr(data_files, "_PARQUET_ROWS", 100)
    monkeypatch.setattr(frames, "_GROUP_ROWS", 300)
    path = tmp_path / "rows.parquet"
    pq.write_table(ROWS, path)
    file_format, parts = read(path)
    assert file_format is FileFormat.PARQUET
    assert [part.num_rows for part in parts] == [300, 300, 300, 100]
    assert pa.concat_tables(parts).equals(ROWS)


def test_digest_is_that_of_the_bytes(tmp_path):
    """The digest is the SHA-256 of the file as it lies there."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\n1,2\n")
    with open_data_file(path) as file:
        assert file.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_file_that_changes_while_it_is_read_is_refused(tmp_path):
    """Rows appended after the digest was taken end in an error, not in a false attestation."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\n1,2\n")
    with open_data_file(path) as file:
        with path.open("ab") as out:
            out.write(b"3,4\n")
        with pytest.raises(StateError, match="changed while it was read"):
            list(file.tables)


def test_file_that_is_replaced_is_read_as_it_was(tmp_path):
    """A file moved over the name changes nothing for a reader that has it open."""
    path, other = tmp_path / "rows.csv", tmp_path / "other.csv"
    path.write_bytes(b"a\n1\n")
    other.write_bytes(b"a\n2\n")
    with open_data_file(path) as file:
        os.replace(other, path)  # noqa: PTH105 - the system call is the subject
        assert pa.concat_tables(file.tables).to_pylist() == [{"a": 1}]


def test_quoted_newlines_are_one_value(tmp_path):
    """A newline inside quotes belongs to the value, wherever a block ends."""
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n1,"x\ny"\n')
    _, [table] = read(path)
    assert table.to_pylist() == [{"a": 1, "b": "x\ny"}]


@pytest.mark.parametrize("form", ["file", "stream"])
def test_cut_off_arrow_is_a_format_error(tmp_path, form):
    """Both forms of Arrow IPC that end in the middle are refused with the file's name."""
    path = tmp_path / "rows.arrow"
    new = pyarrow.ipc.new_file if form == "file" else pyarrow.ipc.new_stream
    with new(path, ROWS.schema) as out:
        out.write_table(ROWS)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(FormatError, match=r"rows\.arrow.*cannot be read as arrow"):
        read(path)


def test_damage_in_the_middle_is_a_format_error(tmp_path):
    """A Parquet file with a sound footer and damaged pages is refused when they are read."""
    path = tmp_path / "rows.parquet"
    pq.write_table(ROWS, path)
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(data)
    with pytest.raises(FormatError, match="cannot be read as parquet"):
        read(path)


def test_columns_of_one_name_are_refused(tmp_path):
    """Two columns of one name could be written but never read again by name."""
    path = tmp_path / "rows.csv"
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(FormatError, match="more than one column named 'a'"):
        read(path)


def test_type_that_parquet_lacks_is_refused(tmp_path):
    """A column that no Parquet file can hold is refused before anything is built."""
    path = tmp_path / "rows.feather"
    table = pa.table({"r": pa.RunEndEncodedArray.from_arrays([1], [5])})
    pyarrow.feather.write_feather(table, path, compression="uncompressed")
    with pytest.raises(FormatError, match="Parquet cannot hold"):
        read(path)


# --- Arrow's own format, which is memory as it lies, from anybody

FORMS = {"file": pyarrow.ipc.new_file, "stream": pyarrow.ipc.new_stream}


def ipc(path, table, form="stream", rows=None, **options):
    """Write a table in Arrow's own format and return the bytes of the file."""
    with FORMS[form](path, table.schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as out:
        out.write_table(table, max_chunksize=rows)
    return path.read_bytes()


WORDS = pa.table({"w": pa.array(["aa", "bb", "aa"])})
FOLDED = pa.table({"w": WORDS["w"].dictionary_encode()})
LIES = {
    "index beyond its dictionary": (FOLDED, struct.pack("<3i", 0, 1, 0), (0, 2**30, -7)),
    "offset beyond the text": (WORDS, struct.pack("<4i", 0, 2, 4, 6), (0, 2, 2**20, 2**30)),
    "negative offset": (WORDS, struct.pack("<4i", 0, 2, 4, 6), (0, -5, 4, 6)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lie", LIES)
def test_arrow_that_lies(tmp_path, lie, form):
    """Numbers that point out of their buffers are refused: followed, they end the process."""
    table, said, numbers = LIES[lie]
    path = tmp_path / "rows.arrow"
    data = ipc(path, table, form)
    assert data.count(said) == 1
    path.write_bytes(data.replace(said, struct.pack(f"<{len(numbers)}i", *numbers)))
    with pytest.raises(FormatError, match="cannot be read as arrow"):
        read(path)


@pytest.mark.parametrize("form", FORMS)
def test_arrow_text_that_is_no_utf8(tmp_path, form):
    """Text that no reader could show is refused, and not published."""
    path = tmp_path / "rows.arrow"
    path.write_bytes(ipc(path, WORDS, form).replace(b"aabbaa", b"\xff\xfebbaa"))
    with pytest.raises(FormatError, match="UTF8"):
        read(path)


@pytest.fixture
def unread(monkeypatch):
    """Let nothing be decoded: what is refused is refused before."""
    for name in ("open_file", "open_stream"):
        monkeypatch.setattr(pyarrow.ipc, name, lambda *_: pytest.fail("it was opened"))


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("folded", [False, True], ids=["plain", "dictionary"])
def test_arrow_that_unpacks_to_much(tmp_path, monkeypatch, form, compression, folded):
    """A batch or dictionaries that would take too much memory unpacked are refused unopened."""
    monkeypatch.setattr(ipc_claims, "MOST_MEMORY", 1 << 20)
    columns = {name: pa.array([name * 700_000]) for name in "ab"}
    if folded:
        columns = {name: column.dictionary_encode() for name, column in columns.items()}
    table = pa.table(columns)
    path = tmp_path / "rows.arrow"
    assert len(ipc(path, table, form, compression=compression)) < 100_000
    with pytest.raises(FormatError, match=r"a batch would take 1400\d{3} bytes of memory"):
        read(path)


@pytest.mark.usefixtures("unread")
def test_arrow_of_one_buffer_many_times(tmp_path, monkeypatch):
    """Buffers that are the same bytes count each for itself: Arrow may copy them."""
    monkeypatch.setattr(ipc_claims, "MOST_MEMORY", 1 << 20)
    monkeypatch.setattr(ipc_claims, "_MOST_TIMES", 1)
    rows = 10_000
    table = pa.table({str(number): pa.array(range(rows)) for number in range(100)})
    path = tmp_path / "rows.arrow"
    data = ipc(path, table)
    for number in range(2, 100):
        said = struct.pack("<qq", number * 8 * rows, 8 * rows)
        data = data.replace(said, struct.pack("<qq", 0, 8 * rows))
    end = data.index(struct.pack("<q", 800 * rows))
    data = data[:end] + struct.pack("<q", 16 * rows) + data[end + 8 : -784 * rows - 8]
    path.write_bytes(data)
    with pytest.raises(FormatError, match="a batch would take 8000000 bytes of memory"):
        read(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("legacy", [False, True])
def test_arrow_of_many_batches(tmp_path, monkeypatch, form, compression, legacy):
    """Batches are counted one by one, as old writers wrote them, too; dictionaries stay."""
    monkeypatch.setattr(ipc_claims, "MOST_MEMORY", 60_000)
    monkeypatch.setattr(ipc_claims, "_MOST_TIMES", 0)
    table = ROWS.append_column("d", ROWS["b"].dictionary_encode())
    path = tmp_path / "rows.arrow"
    ipc(path, table, form, rows=100, compression=compression, use_legacy_format=legacy)
    _, parts = read(path)
    assert pa.concat_tables(parts).equals(table)
    monkeypatch.setattr(ipc_claims, "MOST_MEMORY", 6000)
    with pytest.raises(FormatError, match="bytes of memory"):
        read(path)


@pytest.mark.parametrize("form", FORMS)
def test_arrow_cut_off_or_changed_anywhere(tmp_path, form):
    """Whatever a file says, it is read or a format error, and no other."""
    path = tmp_path / "rows.arrow"
    data = ipc(path, FOLDED, form, compression="zstd")
    for at in range(0, len(data), 3):
        for other in (data[:at], data[:at] + bytes([data[at] ^ 0x81]) + data[at + 1 :]):
            path.write_bytes(other)
            with contextlib.suppress(FormatError):
                read(path)


def test_directory_and_device_are_refused(tmp_path):
    """Only a regular file can be digested and then read."""
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(InvalidInputError, match="no regular file"):
        read(tmp_path / "dir.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InvalidInputError, match="no regular file"):
        read(tmp_path / "pipe.csv")


def test_errors_of_the_block_are_not_called_damage(tmp_path):
    """What goes wrong in the caller's block stays what it is."""
    path = tmp_path / "rows.csv"
    path.write_text("a\n1\n")
    with pytest.raises(ValueError, match="mine"), open_data_file(path):
        raise ValueError("mine")
