"""The storage that keeps copies: what it spares, what it never keeps, and whom it believes."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import re
import threading
import uuid
from pathlib import Path

import pytest
from support.faults import CountingStorage, HookedStorage
from support.hoarders import read_all
from support.invariants import check_invariants
from support.processes import run_together
from support.results import build, rows
from support.storage_contract import Contract
from support.stored import record, segment
from support.threads import begin

from jammi_files import FormatError, InvalidInputError, fsck, manifest, object_cache, root_format
from jammi_files.catalog import Catalog
from jammi_files.draft import SEGMENTS
from jammi_files.local import LocalStorage
from jammi_files.memory import MemoryStorage
from jammi_files.object_cache import CACHE_BYTES, CachedStorage, with_cache
from jammi_files.rows import Row
from jammi_files.storage import Storage
from jammi_files.store import ResultStore

LIMIT = 60.0
KEY = f"{SEGMENTS}/{'0123456789abcdef' * 2}.parquet"
SEGMENT = manifest.encode_segment(segment([Row(record("t", 1), 1)]).table)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def base(tmp_path):
    """Return a local root that has a catalog's id and nothing else."""
    storage = LocalStorage(tmp_path / "root", "os")
    root_format.ensure(storage)
    return storage


@pytest.fixture
def origin(base):
    return CountingStorage(base)


@pytest.fixture
def cached(origin, directory):
    return CachedStorage(origin, str(directory))


def entries(directory):
    if not Path(directory).exists():
        return []
    return [path for path in Path(directory).iterdir() if re.fullmatch("[0-9a-f]{64}", path.name)]


def asked(origin, *kinds):
    """Return what of segments the storage behind was asked for."""
    kinds = kinds or ("read", "open", "pread")
    return [call.key for call in origin.calls if call.kind in kinds and SEGMENTS in call.key]


class TestCached(Contract):
    """A storage with a cache is a storage."""

    @pytest.fixture
    def storage(self, tmp_path):
        inner = LocalStorage(tmp_path / "root", "os")
        return CachedStorage(inner, str(tmp_path / "cache"))


# --- what is kept


def test_a_segment_is_read_once(cached, origin, directory):
    """What was read once is not asked for again: by this handle, another, or another process."""
    origin.inner.create(KEY, SEGMENT)
    assert cached.read(KEY) == SEGMENT
    again = CachedStorage(origin, str(directory))
    assert [cached.read(KEY), again.read(KEY), again.peek(KEY)] == [SEGMENT] * 3
    assert again.read_many([KEY, KEY]) == [SEGMENT, SEGMENT]
    with again.open(KEY) as file:
        file.seek(-4, os.SEEK_END)
        assert file.read() == b"PAR1"
    assert asked(origin) == [KEY]
    other = CachedStorage(origin.inner, str(directory))
    origin.inner.delete(KEY)
    assert run_together(read_all, [(other, [KEY])]) == [[SEGMENT]]


def test_what_is_written_is_kept(cached, origin):
    """A segment that this machine wrote is read by nobody here."""
    cached.create(KEY, SEGMENT)
    assert origin.inner.read(KEY) == SEGMENT
    assert cached.read(KEY) == SEGMENT
    assert asked(origin) == []


def test_what_was_not_written_is_not_kept(cached, origin, directory):
    """A create that found the key taken leaves no copy of what was not stored."""
    other = SEGMENT[:4] + SEGMENT
    origin.inner.create(KEY, SEGMENT)
    with pytest.raises(FileExistsError):
        cached.create(KEY, other)
    assert entries(directory) == []
    assert cached.read(KEY) == SEGMENT


@pytest.mark.parametrize(
    "key",
    [
        "_catalog/manifest/00000000000000000/00000000000000000001.parquet",
        "_catalog/format.json",
        "_catalog/builds/t.json",
        "t.parquet",
        "t.materialization.json",
        f"{KEY}.0123abcd.tmp",
        KEY.replace("0", "O"),
        f"deeper/{KEY}",
    ],
)
def test_what_may_change_is_always_asked_for(key, cached, origin, directory):
    """Nothing is kept but segments: manifests are emptied, names of results used again."""
    for data in (SEGMENT, SEGMENT + SEGMENT, b""):
        origin.inner.replace(key, data)
        assert cached.read(key) == cached.peek(key) == cached.read_many([key])[0] == data
        assert cached.size(key) == len(data)
        with cached.open(key) as file:
            assert file.read() == data
    assert entries(directory) == []
    cached.replace(key, b"new")
    assert origin.inner.read(key) == b"new"
    origin.inner.delete(key)
    cached.create(key, SEGMENT)
    assert entries(directory) == []


def test_absent_segments(cached, directory):
    """What is not there is not found, and nothing is kept of it."""
    for ask in (cached.read, cached.open, lambda key: cached.read_many([key])):
        with pytest.raises(FileNotFoundError):
            ask(KEY)
    assert cached.peek(KEY) is None
    assert cached.delete(KEY) is False
    assert entries(directory) == []


def test_a_deleted_segment_is_forgotten(cached, origin, directory):
    """What is deleted through this storage is not kept."""
    cached.create(KEY, SEGMENT)
    assert cached.delete(KEY) is True
    assert entries(directory) == []
    assert origin.inner.size(KEY) is None


def test_ranges_of_what_is_not_kept(cached, origin, directory):
    """A part of a segment that is not here is read where it is, without the rest of it."""
    origin.inner.create(KEY, SEGMENT)
    with cached.open(KEY) as file:
        file.seek(10)
        assert file.read(20) == SEGMENT[10:30]
    assert [call.size for call in origin.calls if call.kind == "pread"] == [20]
    assert entries(directory) == []


def test_many_at_once(cached, origin):
    """Of many segments those that are here come from here, the others by one call, in order."""
    keys = [KEY[:-10] + f"{number:02x}.parquet" for number in range(6)]
    bodies = [SEGMENT[:4] + bytes([number]) + SEGMENT for number in range(6)]
    for key, body in zip(keys, bodies, strict=True):
        origin.inner.create(key, body)
    cached.read(keys[1])
    cached.read(keys[4])
    origin.calls.clear()
    calls = []
    origin.read_many = lambda missing: calls.append(missing) or Storage.read_many(origin, missing)
    assert cached.read_many(keys) == bodies
    assert calls == [[keys[0], keys[2], keys[3], keys[5]]]
    assert cached.read_many(keys[::-1]) == bodies[::-1]
    assert len(asked(origin)) == 4


# --- of which catalog


def test_another_catalog_under_the_same_url(directory):
    """A root that was deleted and made anew does not meet what was kept of the old one."""
    root = f"memory://{uuid.uuid4().hex}"
    for body in (SEGMENT, SEGMENT[:4] + SEGMENT):
        storage = MemoryStorage(root)
        cached = CachedStorage(storage, str(directory))
        root_format.ensure(cached)
        storage.create(KEY, body)
        assert cached.read(KEY) == body
        assert cached.read(KEY) == body
        for key in (KEY, root_format.KEY):
            storage.delete(key)
    assert len(entries(directory)) == 2


def test_a_root_without_catalog(tmp_path, directory):
    """Without a catalog's id nothing is kept, and everything is read."""
    cached = CachedStorage(LocalStorage(tmp_path, "os"), str(directory))
    cached.create(KEY, SEGMENT)
    assert cached.read(KEY) == SEGMENT
    assert entries(directory) == []


def test_the_id_costs_no_request(base, directory):
    """The catalog's id is taken from what every opening of a catalog reads, or writes."""

    def requests(root, wrap):
        origin = CountingStorage(LocalStorage(root, "os"))
        catalog = Catalog(wrap(origin))
        catalog.create_result_tables(_many(200))
        assert catalog.scan().num_rows == 200
        return [call.kind for call in origin.calls if call.key == root_format.KEY]

    plain = requests(f"{base.root}-plain", lambda origin: origin)
    assert (
        requests(f"{base.root}-new", lambda origin: CachedStorage(origin, str(directory))) == plain
    )
    assert requests(base.root, lambda origin: CachedStorage(origin, str(directory))) == plain[:1]
    assert len(entries(directory)) == 2


def _many(count):
    return rows(*(f"t{number:03d}" for number in range(count)))


def test_a_foreign_format_is_told_by_whoever_reads_it(base, cached, directory):
    """A root whose format this library does not know is no reason to fail where it is not asked."""
    base.replace(root_format.KEY, b"{}")
    assert cached.read(root_format.KEY) == b"{}"
    with pytest.raises(FormatError):
        root_format.read(cached)
    assert entries(directory) == []


# --- damage


def test_a_damaged_copy_is_read_anew(cached, origin, directory):
    """A copy that was damaged on disk is fetched again and kept again, soundly."""
    origin.inner.create(KEY, SEGMENT)
    cached.read(KEY)
    (path,) = entries(directory)
    data = bytearray(path.read_bytes())
    data[len(SEGMENT) // 2] ^= 1
    path.write_bytes(data)
    assert cached.read(KEY) == SEGMENT
    assert cached.read(KEY) == SEGMENT
    assert asked(origin) == [KEY, KEY]


@pytest.mark.parametrize("length", [0, 3, 8, len(SEGMENT) - 1])
def test_a_torn_answer_is_not_kept(length, cached, origin, directory):
    """What a store has cut off on its way is not kept for everybody."""
    origin.inner.replace(KEY, SEGMENT[:length])
    assert cached.read(KEY) == SEGMENT[:length]
    assert entries(directory) == []
    origin.inner.replace(KEY, SEGMENT)
    assert cached.read(KEY) == SEGMENT


class Flaky(CountingStorage):
    """Damages a page in the first answers."""

    bad = 1

    def read(self, key):
        data = super().read(key)
        if SEGMENTS in key and self.bad:
            self.bad -= 1
            data = data[:4] + bytes(40) + data[44:]
        return data


def test_a_wrong_answer_does_not_stay(base, directory, monkeypatch):
    """A segment that a store once delivered damaged is fetched again, and what is kept is sound."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 2)
    Catalog(base).create_result_tables(_many(3))
    flaky = Flaky(base)
    assert Catalog(CachedStorage(flaky, str(directory))).scan().num_rows == 3
    assert flaky.calls.kinds["read"] == 4  # format, manifest, and the segment twice
    assert Catalog(CachedStorage(flaky, str(directory))).scan().num_rows == 3
    assert len(asked(flaky)) == 2


def test_a_damaged_segment_is_no_endless_loop(base, directory, monkeypatch):
    """A segment that is damaged where it lies is an error after two looks, and is not kept."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 2)
    Catalog(base).create_result_tables(_many(3))
    flaky = Flaky(base)
    flaky.bad = 99
    with pytest.raises(FormatError, match="damaged"):
        Catalog(CachedStorage(flaky, str(directory))).scan()
    assert len(asked(flaky)) == 2
    flaky.bad = 0
    assert Catalog(CachedStorage(flaky, str(directory))).scan().num_rows == 3


def test_fsck_looks_behind_the_cache(base, directory, monkeypatch):
    """A segment that is lost in the store is found, however well it is kept here."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 2)
    catalog = Catalog(CachedStorage(base, str(directory)))
    catalog.create_result_tables(_many(3))
    (name,) = base.list(SEGMENTS)
    base.delete(f"{SEGMENTS}/{name}")
    assert catalog.scan().num_rows == 3
    found = fsck.fsck(Catalog(CachedStorage(base, str(directory))).as_admin())
    assert fsck.Kind.DAMAGED_SEGMENT in {finding.kind for finding in found}


# --- a catalog over it


def test_a_whole_catalog(base, directory, monkeypatch):
    """A cold process on the same machine reads the newest manifest and no segment."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 4)
    monkeypatch.setattr(manifest, "FAN_OUT", 3)
    store = ResultStore(Catalog(CachedStorage(base, str(directory))))
    built = [build(store) for _ in range(12)]
    origin = CountingStorage(base)
    again = ResultStore(Catalog(CachedStorage(origin, str(directory))))
    assert sorted(again.catalog.scan(columns=["table_name"]).column(0).to_pylist()) == sorted(built)
    assert [again.verify_materialization(name).ok for name in built] == [True] * 12
    assert base.list(SEGMENTS)
    assert asked(origin) == []
    assert check_invariants(base, {fsck.Kind.ORPHAN_SEGMENT}) is not None


def test_a_cold_look_up_in_a_large_segment(base, directory, monkeypatch):
    """A row group of a large segment comes from here once the segment is here, else from there."""
    monkeypatch.setattr(manifest, "ROW_GROUP_ROWS", 50)
    Catalog(base).create_result_tables(_many(1000))
    origin = CountingStorage(base)
    first = Catalog(CachedStorage(origin, str(directory)))
    assert first.get_result_table("t500") is not None
    assert asked(origin, "open")
    assert asked(origin, "read") == []
    assert entries(directory) == []
    first.scan()
    origin.calls.clear()
    assert Catalog(CachedStorage(origin, str(directory))).get_result_table("t501") is not None
    assert asked(origin) == []


def test_threads_that_miss_together(base, directory):
    """Threads that all find nothing all get the object, and one sound copy is left."""
    base.create(KEY, SEGMENT)
    together = threading.Barrier(8)

    def wait(moment, kind, key):
        if (moment, kind, key) == ("before", "read", KEY):
            together.wait(LIMIT)

    cached = CachedStorage(HookedStorage(base, wait), str(directory))
    found = [begin(cached.read, KEY) for _ in range(8)]
    assert [each.result(LIMIT) for each in found] == [SEGMENT] * 8
    assert len(entries(directory)) == 1


def test_it_travels(cached, base, directory):
    """A handle that was pickled has the same cache; its copies are found."""
    base.create(KEY, SEGMENT)
    cached.read(KEY)
    copy = pickle.loads(pickle.dumps(CachedStorage(base, str(directory), 12345)))  # noqa: S301
    assert copy.root == base.root
    assert copy._files.max_bytes == 12345
    base.delete(KEY)
    assert copy.read(KEY) == SEGMENT


def test_no_cache_is_no_trouble(origin, tmp_path, caplog):
    """Where nothing can be kept everything is read, whole or in parts, and it is said once."""
    (tmp_path / "file").write_bytes(b"")
    cached = CachedStorage(origin, str(tmp_path / "file"))
    origin.inner.create(KEY, SEGMENT)
    for _ in range(3):
        assert cached.read(KEY) == SEGMENT
        assert cached.read_many([KEY]) == [SEGMENT]
        with cached.open(KEY) as file:
            assert file.read() == SEGMENT
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_everything_else_is_the_other_storage(cached, origin):
    """Every operation is passed on on purpose: none falls back to what the interface does."""
    own = vars(CachedStorage)
    offered = [
        name for name, _ in inspect.getmembers(Storage, callable) if not name.startswith("_")
    ]
    assert [name for name in offered if name not in own] == []
    assert cached.uncached() is origin
    assert cached.url("k") == origin.url("k")
    assert cached.relative(origin.url("k")) == "k"
    assert cached.arrow_path("k") == origin.arrow_path("k")
    assert (cached.root, cached.store, cached.is_locked) == (origin.root, None, True)


# --- where it is


@pytest.fixture
def plain(monkeypatch, tmp_path):
    for name in ("JAMMI_FILES_CACHE", "JAMMI_FILES_CACHE_BYTES", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return MemoryStorage("memory://anything")


def where(storage):
    return storage._files.directory, storage._files.max_bytes


def test_default_place(plain, tmp_path, monkeypatch):
    """Without a word the cache lies among the user's caches."""
    monkeypatch.setattr("sys.platform", "linux")
    assert where(with_cache(plain)) == (str(tmp_path / "home/.cache/jammi_files"), CACHE_BYTES)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert where(with_cache(plain))[0] == str(tmp_path / "home/.cache/jammi_files")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert where(with_cache(plain))[0] == str(tmp_path / "xdg/jammi_files")
    monkeypatch.setattr("sys.platform", "darwin")
    assert where(with_cache(plain))[0] == str(tmp_path / "home/Library/Caches/jammi_files")


def test_named_place(plain, tmp_path, monkeypatch):
    """An argument wins over the environment, the environment over the default."""
    monkeypatch.setenv("JAMMI_FILES_CACHE", str(tmp_path / "named"))
    monkeypatch.setenv("JAMMI_FILES_CACHE_BYTES", "1000")
    assert where(with_cache(plain)) == (str(tmp_path / "named"), 1000)
    assert where(with_cache(plain, tmp_path / "given", 5)) == (str(tmp_path / "given"), 5)
    assert where(with_cache(plain, "~/c"))[0] == str(tmp_path / "home/c")


@pytest.mark.parametrize("word", ["", "off"])
def test_switched_off(word, plain, monkeypatch):
    """``off``, nothing or no bytes are no cache."""
    assert with_cache(plain, word) is plain
    assert with_cache(plain, "somewhere", 0) is plain
    monkeypatch.setenv("JAMMI_FILES_CACHE", word)
    assert with_cache(plain) is plain
    monkeypatch.setenv("JAMMI_FILES_CACHE", "somewhere")
    monkeypatch.setenv("JAMMI_FILES_CACHE_BYTES", "0")
    assert with_cache(plain) is plain


def test_a_system_without_private_files(plain, monkeypatch):
    """Where files cannot be kept from others there is no cache."""
    monkeypatch.setattr(object_cache, "IS_SUPPORTED", False)
    assert with_cache(plain, "somewhere") is plain


def test_an_account_without_a_home(plain, monkeypatch):
    """Without a home there is no default place, and no error."""
    monkeypatch.setattr("sys.platform", "linux")

    def homeless():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert with_cache(plain) is plain


@pytest.mark.parametrize("bound", [-1, 1.5, True, "many"])
def test_a_bound_that_is_none(bound, plain, monkeypatch):
    """A bound is a whole number of bytes; the error says which is not."""
    with pytest.raises(InvalidInputError, match=re.escape(repr(bound))):
        with_cache(plain, "somewhere", bound)
    monkeypatch.setenv("JAMMI_FILES_CACHE_BYTES", "1 GB")
    with pytest.raises(InvalidInputError, match=r"JAMMI_FILES_CACHE_BYTES.*1 GB"):
        with_cache(plain, "somewhere")
