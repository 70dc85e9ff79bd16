"""The model of a disk under power loss: it allows what POSIX allows, and a sync ends that."""

from __future__ import annotations

import os

import pytest
from support.power import Bounds, Disk, State, moments, require_complete, without
from support.recording import Kind, Op, dying, recording, tree_of

from jammi_files import local

DATA = b"x" * 700
WRITTEN = (Op(Kind.ADD, 0, "temp", target=1), Op(Kind.WRITE, 1, data=DATA))
SYNCED = (*WRITTEN, Op(Kind.SYNC, 1))
LINKED = (*SYNCED, Op(Kind.ADD, 0, "file", target=1), Op(Kind.REMOVE, 0, "temp"))
ALL = Bounds(1 << 10, 1 << 10)


def states_after(*ops: Op) -> set[State]:
    """Return the states that a cut may leave after these operations in an empty directory."""
    disk = Disk({}, ALL)
    for op in ops:
        disk.tell(op)
    states, is_sample = disk.after_a_cut()
    assert not is_sample
    assert len(set(states)) == len(states)
    return set(states)


def holding(**files: bytes) -> State:
    return frozenset(files.items())


def test_data_without_a_sync():
    """A file that was not synced may be missing, empty, cut at a sector or full of holes."""
    first, last = DATA[:512], DATA[512:]
    torn = (b"", first, bytes(700), bytes(512) + last, first + bytes(188))
    assert states_after(*WRITTEN) == {frozenset(), *(holding(temp=each) for each in (*torn, DATA))}
    assert states_after(*SYNCED) == {frozenset(), holding(temp=DATA)}


def test_names_without_a_sync():
    """Each name of a synced file may be there or not, whatever came first."""
    both = holding(temp=DATA, file=DATA)
    assert states_after(*LINKED) == {frozenset(), holding(temp=DATA), holding(file=DATA), both}
    assert states_after(*LINKED, Op(Kind.SYNC, 0)) == {holding(file=DATA)}


def test_a_rename_without_syncs():
    """A rename is seen or not, as a whole, and keeps nothing of the data."""
    new = (Op(Kind.ADD, 0, "temp", target=2), Op(Kind.WRITE, 2, data=b"y"))
    renamed = Op(Kind.RENAME, 0, "temp", "file", 2)
    data = (b"", b"\0", b"y")
    assert states_after(*LINKED, Op(Kind.SYNC, 0), *new, renamed) == {
        holding(file=DATA),
        *(holding(file=DATA, temp=each) for each in data),
        *(holding(file=each) for each in data),
    }
    synced = (Op(Kind.SYNC, 2), renamed, Op(Kind.SYNC, 0))
    assert states_after(*LINKED, Op(Kind.SYNC, 0), *new, *synced) == {holding(file=b"y")}


def test_directories_without_a_sync():
    """What is durable in a directory is lost with the directory's own name."""
    made = (Op(Kind.ADD, 0, "place", target=3, is_directory=True), Op(Kind.ADD, 3, "a", target=1))
    within = (*made, Op(Kind.SYNC, 1), Op(Kind.SYNC, 3))
    whole = frozenset({("place", None), ("place/a", b"")})
    assert states_after(*within) == {frozenset(), whole}
    assert states_after(*within, Op(Kind.SYNC, 0)) == {whole}


def test_moments():
    """A cut is looked at before each sync and at the end, with what was acknowledged by then."""
    ops = [Op(Kind.MARK, mark="first"), *SYNCED, Op(Kind.MARK, mark="second"), Op(Kind.SYNC, 0)]
    found = [(moment.mark, len(moment.states)) for moment in moments({}, ops, ALL)]
    assert found == [("first", 7), ("second", 2), ("second", 1)]
    assert len(list(moments({}, ops[1:], ALL))) == 2


def test_a_sample_has_both_ends():
    """A sample of too many states keeps to its bound, and to states that there are."""
    ops = [Op(Kind.ADD, 0, f"file{number}", target=number) for number in range(1, 21)]
    disk = Disk({}, Bounds(50, 2), seed=7)
    for op in ops:
        disk.tell(op)
    states, is_sample = disk.after_a_cut()
    assert is_sample
    assert 25 < len(states) <= 50
    assert {frozenset(), disk.current()} <= set(states)
    assert all(state <= disk.current() for state in states)


def test_without_a_site():
    """A sync is taken out by the functions that asked for it, not by parts of their names."""
    ops = [Op(Kind.SYNC, 0, site=site) for site in ("a > publish > sync", "republish > sync")]
    assert without(ops, "publish > sync") == ops[1:]


def _write(path, data=b"data"):
    with open(path, "xb") as file:  # noqa: PTH123 - recorded
        file.write(data)


def test_a_record_is_complete(tmp_path):
    """All that the library does to a directory is recorded."""
    with recording(tmp_path, local.__file__) as record:
        (tmp_path / "place").mkdir()
        _write(tmp_path / "place" / "a")
        os.link(tmp_path / "place" / "a", tmp_path / "b")
        (tmp_path / "b").rename(tmp_path / "c")
        (tmp_path / "place" / "a").unlink()
        _write(tmp_path / "lock")
    require_complete(record, {"place": None, "c": b"data"})
    assert [op.kind for op in record.ops] == ["add", "add", "write", "add", "rename", "remove"]


def test_an_incomplete_record_is_refused(tmp_path):
    """An operation that goes past the record is found out."""
    with recording(tmp_path, local.__file__) as record:
        _write(tmp_path / "file")
        os.truncate(tmp_path / "file", 2)
    with pytest.raises(AssertionError):
        require_complete(record, tree_of(tmp_path))


def test_a_dead_process_does_nothing(tmp_path):
    """From its death on nothing of a process reaches the disk, also once another one lives."""
    with recording(tmp_path, local.__file__) as record:
        with dying(record, 2):
            file = open(tmp_path / "a", "xb")  # noqa: PTH123, SIM115 - recorded, left open
            file.write(b"flushed")
            file.flush()
            file.write(b"buffered")
            (tmp_path / "b").mkdir()
        _write(tmp_path / "c")
        file.close()
    require_complete(record, {"a": b"flushed", "c": b"data"})
    with pytest.raises(AssertionError, match="outlived"), dying(record, 99):
        pass
