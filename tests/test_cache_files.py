"""The directory of copies: never wrong, never over its bound, never in anybody's way."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hoarders import body_of, hammer, name_of, store_for_ever
from support.processes import run_together

from jammi_files import cache_files
from jammi_files.cache_files import CacheFiles

BLOCK = cache_files._BLOCK
NAME, OTHER = name_of(1), name_of(2)
PLENTY = 1 << 30
OVERHEAD = 48


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def files(directory):
    return CacheFiles(str(directory), PLENTY)


def entries(directory):
    return [path for path in Path(directory).iterdir() if not path.name.startswith("added.")]


def total(directory):
    return sum(path.stat().st_size for path in entries(directory))


def never():
    raise AssertionError("the object itself was asked for")


# --- what is stored is what is found


@pytest.mark.parametrize(
    "size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 17], ids=str
)
def test_round_trip(files, size):
    """An entry gives back its bytes whole and in parts, at every edge of its blocks."""
    data = os.urandom(size)
    files.put(NAME, data)
    assert files.read(NAME) == data
    assert files.read(OTHER) is None
    with files.open(NAME, never) as file:
        for start in (0, 1, BLOCK - 1, BLOCK, size // 2, size):
            for length in (0, 1, BLOCK, BLOCK + 1, size, size + 5):
                file.seek(start)
                assert file.read(length) == data[start : start + length]
        assert file.seek(-min(3, size), os.SEEK_END) == size - min(3, size)
        assert file.read() == data[size - min(3, size) :]
        assert file.tell() == size


def test_an_open_entry_is_a_file(files):
    """Whoever takes a binary file takes an entry: buffered, relative, to its end, closed twice."""
    data = os.urandom(2 * BLOCK + 5)
    files.put(NAME, data)
    file = files.open(NAME, never)
    assert file.readable()
    assert file.seekable()
    buffered = io.BufferedReader(file, 1000)
    assert buffered.read(7) == data[:7]
    buffered.seek(10, os.SEEK_CUR)
    assert buffered.read() == data[17:]
    buffered.close()
    file.close()
    assert file.closed


def test_again(files):
    """Storing a name again is no error, and the later bytes are found."""
    files.put(NAME, b"first")
    files.put(NAME, b"second")
    assert files.read(NAME) == b"second"


# --- damage


def sound_entry(directory, data):
    """Store an entry and return the path of its file."""
    CacheFiles(str(directory), PLENTY).put(NAME, data)
    (path,) = [path for path in entries(directory) if path.name == NAME]
    return path


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_entry_is_never_believed(tmp_path_factory, data):
    """Whatever is done to an entry's file, what is read is its bytes or nothing, whole or part."""
    directory = tmp_path_factory.mktemp("cache") / "c"
    body = body_of(data.draw(st.sampled_from([1, 3]), "body"))
    path = sound_entry(directory, body)
    stored = path.read_bytes()
    cut = data.draw(st.integers(0, len(stored)), "cut")
    at = data.draw(st.integers(0, len(stored) - 1), "at")
    flipped = stored[:at] + bytes([stored[at] ^ data.draw(st.integers(1, 255))]) + stored[at + 1 :]
    damaged = data.draw(
        st.sampled_from([stored[:cut], stored + b"x", flipped, stored[cut:], stored[::-1], b""])
    )
    path.write_bytes(damaged)
    files = CacheFiles(str(directory), PLENTY)
    start, size = data.draw(st.integers(0, len(body))), data.draw(st.integers(0, len(body)))
    file = files.open(NAME, lambda: io.BytesIO(body))
    if file is not None:
        with file:
            file.seek(start)
            assert file.read(size) == body[start : start + size]
    found = CacheFiles(str(directory), PLENTY).read(NAME)
    assert found is None or (found == body and damaged == stored)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * path.stat().st_size),
        lambda path: path.write_bytes(cache_files._TRAILER.pack(b"jammi c1", 1 << 63, bytes(32))),
        lambda path: shutil.copyfile(path.with_name(OTHER), path),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to(path.with_name(OTHER))),
        lambda path: (path.unlink(), os.mkfifo(path)),
    ],
    ids=["cut", "empty", "zeros", "huge", "another's", "directory", "link", "pipe"],
)
def test_a_misplaced_file_is_a_miss(files, directory, damage):
    """A file that is not this entry's is left out; where it can be replaced it is, soundly."""
    files.put(NAME, b"right" * 1000)
    files.put(OTHER, b"wrong" * 1000)
    damage(directory / NAME)
    assert files.read(NAME) is None
    assert files.open(NAME, never) is None
    files.put(NAME, b"right" * 1000)
    assert CacheFiles(str(directory), PLENTY).read(NAME) in (b"right" * 1000, None)
    assert files.read(OTHER) == b"wrong" * 1000


def test_a_damaged_entry_goes(files, directory):
    """Damage that was seen once is not looked at again: the file is gone."""
    path = sound_entry(directory, b"data" * 100)
    path.write_bytes(path.read_bytes().replace(b"data", b"dada"))
    assert files.read(NAME) is None
    assert not path.exists()


def test_damage_while_it_is_open(files, directory):
    """An entry that is damaged after it was opened is left; reading goes on where the object is."""
    data = os.urandom(4 * BLOCK)
    path = sound_entry(directory, data)
    opened = []

    def instead():
        opened.append(1)
        return io.BytesIO(data)

    with files.open(NAME, instead) as file:
        assert file.read(BLOCK) == data[:BLOCK]
        with path.open("r+b") as target:
            target.seek(2 * BLOCK)
            target.write(bytes(BLOCK))
        assert file.read(BLOCK) == data[BLOCK : 2 * BLOCK]
        assert opened == []
        assert file.read(BLOCK) == data[2 * BLOCK : 3 * BLOCK]
        assert file.read() == data[3 * BLOCK :]
    assert opened == [1]
    assert not path.exists()


# --- the bound


@settings(max_examples=60, deadline=None)
@given(
    bound=st.integers(1, 400_000),
    puts=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 120_000)), max_size=25),
)
def test_never_over_the_bound(tmp_path_factory, bound, puts):
    """After every call the directory holds at most its bound, and what fits is kept."""
    directory = tmp_path_factory.mktemp("cache") / "c"
    files = CacheFiles(str(directory), bound)
    for number, size in puts:
        files.put(name_of(number), bytes(size))
        if directory.exists():
            assert total(directory) <= bound
        if size + -(-size // BLOCK) * 32 + OVERHEAD <= bound - bound // 16:
            assert files.read(name_of(number)) == bytes(size)


def test_what_was_used_longest_ago_goes_first(directory):
    """A read and an opening count as uses; whole entries go, oldest use first."""
    files = CacheFiles(str(directory), 5 * 10_000)
    for number in range(4):
        files.put(name_of(number), bytes(10_000))
    files.read(name_of(0))
    files.open(name_of(1), never).close()
    files.put(name_of(4), bytes(10_000))
    kept = [number for number in range(5) if (directory / name_of(number)).exists()]
    assert kept == [0, 1, 3, 4]


def test_what_has_not_been_used_for_years_is_not_older_than_a_use(directory):
    """The age of an entry is its last use, whatever the file system keeps of access times."""
    files = CacheFiles(str(directory), 5 * 10_000)
    for number in range(4):
        files.put(name_of(number), bytes(10_000))
        os.utime(directory / name_of(number), (number, number))
    assert files.read(name_of(0)) is not None
    files.put(name_of(4), bytes(10_000))
    kept = [number for number in range(5) if (directory / name_of(number)).exists()]
    assert kept == [0, 2, 3, 4]


def test_what_is_stored_is_newer_than_any_use_before(files, directory):
    """A new entry is never the one to go because the system's clock ticks coarsely."""
    files.put(NAME, b"old")
    for number in range(2, 30):
        files.read(NAME)
        files.put(name_of(number), b"new")
        stored = (directory / name_of(number)).stat().st_mtime_ns
        assert stored > (directory / NAME).stat().st_mtime_ns


def test_the_directory_is_looked_at_now_and_then(directory, monkeypatch):
    """Storing costs no look at every entry, and the bound holds all the same."""
    looked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda at: looked.append(at) or scandir(at))
    for number in range(600):  # as many processes as entries: the count is theirs together
        CacheFiles(str(directory), 4_000_000).put(name_of(number), bytes(10_000))
        if number % 50 == 0:
            assert total(directory) <= 4_000_000
    assert len(looked) <= 600 * 12_288 // (4_000_000 // 16) + 2
    assert total(directory) > 3_000_000


def test_a_smaller_bound_is_kept_at_once(directory):
    """Whoever comes with a smaller bound evicts with its first entry."""
    CacheFiles(str(directory), PLENTY).put(NAME, bytes(100_000))
    CacheFiles(str(directory), 50_000).put(OTHER, bytes(1000))
    assert [path.name for path in entries(directory)] == [OTHER]


def test_what_a_dead_writer_left_goes(directory):
    """A temporary file counts and is evicted like an entry; a stranger's file is not touched."""
    files = CacheFiles(str(directory), 50_000)
    files.put(NAME, bytes(1000))
    left = directory / f"{OTHER}.0123abcd.tmp"
    left.write_bytes(bytes(60_000))
    os.utime(left, (1, 1))
    (directory / "README").write_bytes(bytes(90_000))
    files.put(name_of(3), bytes(1000))
    assert sorted(path.name for path in entries(directory)) == sorted([NAME, name_of(3), "README"])


def test_eviction_breaks_no_reader(directory):
    """Whoever has an entry open reads on after it was evicted."""
    files = CacheFiles(str(directory), 500_000)
    data = os.urandom(300_000)
    files.put(NAME, data)
    with files.open(NAME, never) as file:
        assert file.read(10) == data[:10]
        files.put(OTHER, bytes(300_000))
        assert not (directory / NAME).exists()
        assert file.read() == data[10:]


def test_evicted_while_it_was_written(files, monkeypatch):
    """A temporary file that another process evicts is no error, and storing goes on."""
    rename = os.rename

    def late(source, target, **named):
        os.unlink(source, dir_fd=named["src_dir_fd"])
        monkeypatch.setattr(os, "rename", rename)
        rename(source, target, **named)

    monkeypatch.setattr(os, "rename", late)
    files.put(NAME, b"lost")
    assert files.read(NAME) is None
    files.put(NAME, b"kept")
    assert files.read(NAME) == b"kept"


# --- processes


def test_processes_that_hammer_one_directory(directory):
    """Many processes with a tiny bound: no answer is wrong, the bound holds, nothing is left."""
    bound = 400_000
    answers = run_together(hammer, [(str(directory), bound, seed, 250) for seed in range(4)])
    assert sum(wrong for _, wrong in answers) == 0
    assert all(hits > 0 for hits, _ in answers)
    assert total(directory) <= bound
    assert not [path for path in entries(directory) if path.suffix == ".tmp"]


def test_killed_writers(directory):
    """Writers that are killed leave entries that are whole, and at most a temporary file each."""
    context = multiprocessing.get_context("spawn")
    bound = 10_000_000
    for _ in range(3):
        writer = context.Process(target=store_for_ever, args=(str(directory), bound), daemon=True)
        writer.start()
        deadline = time.monotonic() + 60
        before = {path.name for path in entries(directory)} if directory.exists() else set()
        while time.monotonic() < deadline:
            if directory.exists() and {path.name for path in entries(directory)} - before:
                break
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
    files = CacheFiles(str(directory), bound)
    for path in entries(directory):
        if path.suffix != ".tmp":
            assert files.read(path.name) is not None, path
    for number in range(6):
        files.put(name_of(number), body_of(number) * 10)
        assert files.read(name_of(number)) == body_of(number) * 10


def _reads_right(file, data):
    right = True
    for number in range(3000):
        at = number % 20 * BLOCK
        file.seek(at)
        right = right and file.read(100) == data[at : at + 100]
    return right


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_forked_child_reads_on(files):
    """A child that inherits an open entry and its parent read it without disturbing each other."""
    data = os.urandom(20 * BLOCK)
    files.put(NAME, data)
    with files.open(NAME, never) as file:
        file.seek(5 * BLOCK)
        child = os.fork()
        if child == 0:  # pragma: no cover - seen through its exit code
            right = _reads_right(file, data)
            files.put(OTHER, b"from the child")
            os._exit(0 if right and files.read(NAME) == data else 1)
        assert _reads_right(file, data)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert files.read(OTHER) == b"from the child"


# --- private, and never in the way


def test_nobody_else_may_look(directory):
    """The directory is 0700 and every file in it 0600, whatever the process's mask."""
    mask = os.umask(0)
    try:
        files = CacheFiles(str(directory), 100_000)
        for number in range(3):
            files.put(name_of(number), bytes(1000))
    finally:
        os.umask(mask)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {0o600}


def _open_to_others(directory):
    directory.chmod(0o755)


def _of_another_user(directory):
    os.chown(directory, 12345, 12345)


def _a_link(directory):
    directory.rename(directory.with_name("real"))
    directory.symlink_to(directory.with_name("real"))


@pytest.mark.parametrize("change", [_open_to_others, _of_another_user, _a_link])
def test_a_directory_that_is_not_private(directory, change, caplog):
    """Nothing is read from or written to a directory that others can change; it is said once."""
    if change is _of_another_user and os.geteuid():
        pytest.skip("only the super-user gives a directory away")
    CacheFiles(str(directory), PLENTY).put(NAME, b"planted")
    change(directory)
    files = CacheFiles(str(directory), PLENTY)
    for _ in range(3):
        assert files.read(NAME) is None
        assert files.open(NAME, never) is None
        files.put(OTHER, b"secret")
        assert files.drop(NAME) is False
    assert not (directory / OTHER).exists()
    assert (directory / NAME).exists()
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert str(directory) in warned[0].getMessage()


def test_a_place_that_cannot_be_a_directory(tmp_path, caplog):
    """Where no directory can be, there is no cache; it is said once."""
    (tmp_path / "file").write_bytes(b"")
    files = CacheFiles(str(tmp_path / "file" / "cache"), PLENTY)
    for _ in range(3):
        files.put(NAME, b"data")
        assert files.read(NAME) is None
        assert files.drop(NAME) is False
    assert len(caplog.records) == 1


FULL = """
import logging, sys, resource
from support.hoarders import name_of
from jammi_files.cache_files import CacheFiles
logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="said: %(message)s")
files = CacheFiles(sys.argv[1], 1 << 30)
files.put(name_of(1), b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for _ in range(3):
    files.put(name_of(2), bytes(100_000))
    assert files.read(name_of(2)) is None
    assert files.read(name_of(1)) == b"small"
"""


def test_a_full_disk(directory):
    """A write that the system refuses leaves nothing behind and is said once; reads go on."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(directory)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.stdout.count("said: ") == 1
    assert [path.name for path in entries(directory)] == [name_of(1)]


def test_a_disk_that_has_room_again(files, monkeypatch):
    """After a refusal nothing is stored for a while, then it is tried again."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    tried = []

    def full(_, data):
        tried.append(len(data))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)  # the count of what was added is written
        files.put(NAME, b"x")
        files.put(NAME, b"x")
        files.put(NAME, b"x")
    assert len(tried) <= 1
    files.put(OTHER, b"y")
    assert files.read(OTHER) is None
    clock[0] += cache_files._PAUSE_SECONDS + 1
    files.put(OTHER, b"y")
    assert files.read(OTHER) == b"y"


def test_a_directory_that_is_removed(files, directory):
    """A cache that somebody deletes is an empty one, and fills again."""
    files.put(NAME, b"data")
    shutil.rmtree(directory)
    assert files.read(NAME) is None
    files.put(NAME, b"data")
    assert files.read(NAME) == b"data"
