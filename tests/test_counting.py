"""What each call costs in storage operations: counted, never timed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from support.faults import CountingStorage
from support.results import DATA, DESCRIPTOR, ENV, INPUTS, TABLE, build, row

from jammi_files.catalog import Catalog
from jammi_files.draft import SEGMENTS
from jammi_files.interop import import_jammi
from jammi_files.local import LocalStorage
from jammi_files.log import key_of
from jammi_files.manifest import ROW_GROUP_ROWS
from jammi_files.memory import MemoryStorage
from jammi_files.store import ResultStore

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
MANY = 100_000
COMMIT = {"lock": 1, "peek": 1, "create": 1}


@pytest.fixture
def storage(tmp_path):
    return CountingStorage(LocalStorage(tmp_path, "os"))


@pytest.fixture(scope="module")
def large_root(tmp_path_factory):
    """Return a root with 100,000 rows, made in one commit."""
    root = tmp_path_factory.mktemp("large")
    names = [f"t{number:06d}" for number in range(MANY)]
    columns = {
        "table_name": names,
        "source_id": ["docs"] * MANY,
        "model_id": ["org/model"] * MANY,
        "task": ["classification"] * MANY,
        "parquet_path": [f"{name}.parquet" for name in names],
    }
    assert Catalog.open(root, durability="os").create_result_tables(pa.table(columns)) == MANY
    return root


def test_warm_read(storage):
    """A read of a catalog that did not change is one existence check, hit or miss."""
    catalog = Catalog(storage)
    catalog.create_result_table(**row("t"))
    for read in (
        lambda: catalog.get_result_table("t"),
        lambda: catalog.get_result_table("none"),
        lambda: catalog.find_result_tables("docs"),
        lambda: catalog.list_result_tables_by_status("building"),
        catalog.scan,
        lambda: catalog.version,
        lambda: catalog.pinned_to_tenant(None).as_admin().get_result_table("t"),
    ):
        with storage.counting() as seen:
            read()
        assert [(call.kind, call.key) for call in seen] == [("peek", key_of(2))]


def test_read_within_max_staleness(storage):
    """A read that may be stale costs nothing while the last check is young enough."""
    catalog = Catalog(storage, max_staleness=3600)
    catalog.create_result_table(**row("t"))
    assert catalog.get_result_table("t") is not None
    with storage.counting() as seen:
        for _ in range(100):
            catalog.get_result_table("t")
            catalog.find_result_tables("docs")
    assert seen == []


def test_pinned_read(storage):
    """`B281`: a snapshot in hand asks the storage nothing."""
    catalog = Catalog(storage)
    catalog.create_result_table(**row("t"))
    snapshot = catalog.snapshot()
    with storage.counting() as seen:
        assert snapshot.get_result_table("t") is not None
    assert seen == []


def test_warm_commits(storage):
    """Every commit of one row is one lock, one existence check and one create, nothing read."""
    catalog = Catalog(storage)
    catalog.create_result_table(**row("first"))
    for number, change in enumerate(
        (
            lambda: catalog.create_result_table(**row("t")),
            lambda: catalog.update_result_table_status("t", "building", 1),
            lambda: catalog.promote_result_table_with_manifest("t", 1, "0" * 64, []),
            lambda: catalog.fail_result_table("t", "broken"),
            lambda: catalog.delete_result_table("t"),
        ),
        start=2,
    ):
        with storage.counting() as seen:
            change()
        assert seen.kinds == COMMIT
        assert seen.keys("peek") == seen.keys("create") == [key_of(number)]


def test_bytes_of_a_commit(storage):
    """A manifest of one row has little over 4 kB, one of 128 rows under 16: few disk pages."""
    catalog = Catalog(storage)
    sizes = []
    for number in range(128):
        with storage.counting() as seen:
            catalog.create_result_table(**row(f"table-of-results-{number:04d}"))
        sizes.append(seen.size("create"))
    assert sizes[1] < 4352
    assert max(sizes) < 16_384


def test_refused_change(storage):
    """A change that a rule refuses creates nothing."""
    catalog = Catalog(storage)
    catalog.create_result_table(**row("t"))
    with storage.counting() as seen, pytest.raises(KeyError):
        catalog.update_result_table_status("none", "ready", 1)
    assert seen.kinds == {"lock": 1, "peek": 1}


def test_first_commit(storage):
    """The first commit looks for a catalog, creates its format file, lists once, creates."""
    catalog = Catalog(storage)
    with storage.counting() as seen:
        catalog.create_result_table(**row("t"))
    assert seen.kinds == {"read": 1, "lock": 1, "list": 1, "create": 2}
    assert seen.keys("create") == ["_catalog/format.json", key_of(1)]


def test_transaction(storage):
    """Twenty changes in a transaction are one lock and one create."""
    catalog = Catalog(storage)
    catalog.create_result_table(**row("first"))
    with storage.counting() as seen, catalog.transaction() as tx:
        for number in range(20):
            tx.create_result_table(**row(f"t{number}"))
    assert seen.kinds == COMMIT


@pytest.mark.parametrize(
    ("behind", "looks", "reads"), [(1, 1, 0), (2, 3, 1), (100, 13, 1), (1000, 19, 1)]
)
def test_refresh(behind, looks, reads, storage):
    """A reader asks for the next version by name; far behind, it strides on and reads the last."""
    writer, reader = Catalog(storage), Catalog(storage)
    writer.create_result_table(**row("t"))
    assert reader.version == 1
    for number in range(behind):
        writer.update_result_table_status("t", "building", number)
    with storage.counting() as seen:
        record = reader.get_result_table("t")
    assert record.row_count == behind - 1
    assert seen.kinds == Counter(peek=1, size=looks, read=reads)


def test_history_of_thousands_is_listed_in_groups(storage):
    """A cold open lists two directories, not the history."""
    catalog = Catalog(storage)
    for number in range(5):
        catalog.create_result_table(**row(f"t{number}"))
    with storage.counting() as seen:
        Catalog(storage).get_result_table("t3")
    assert seen.kinds == {"read": 2, "list": 2}
    assert seen.keys("list") == ["_catalog/manifest", f"_catalog/manifest/{0:017d}"]


def test_cold_get_of_a_large_catalog(large_root):
    """A cold read of one row of 100,000 reads one row group of its segment, not the whole."""
    storage = CountingStorage(LocalStorage(large_root, "os"))
    (segment,) = storage.inner.list(SEGMENTS)
    whole = storage.inner.size(f"{SEGMENTS}/{segment}")
    catalog = Catalog(storage)
    with storage.counting() as seen:
        assert catalog.get_result_table("t054321") is not None
    kinds = seen.kinds
    assert kinds.pop("pread") > 0
    assert kinds == {"read": 1, "list": 2, "open": 1}
    assert 0 < seen.size("pread") < whole * 2.5 * ROW_GROUP_ROWS / MANY
    with storage.counting() as seen:
        assert catalog.get_result_table("t054322") is not None
    assert seen.kinds == {"peek": 1}


def test_one_row_into_a_large_catalog(large_root):
    """A commit into 100,000 rows writes under 64 kB and reads only whether it is the next."""
    storage = CountingStorage(LocalStorage(large_root, "os"))
    catalog = Catalog(storage)
    assert catalog.get_result_table("t054321x") is None
    for number in range(3):
        with storage.counting() as seen:
            catalog.create_result_table(**row(f"t054321x{number}"))
        assert seen.kinds == COMMIT
        assert seen.size("create") < 64 * 1024
        assert seen.size("read", "pread", "peek") == 0


def many(catalog, count):
    """Create rows of one source in one segment; the eighth is of another task and model."""
    odd = range(7, 8)
    columns = {
        "table_name": [f"t{number:06d}" for number in range(count)],
        "source_id": ["docs"] * count,
        "model_id": ["org/other" if at in odd else "org/model" for at in range(count)],
        "task": ["ner" if at in odd else "classification" for at in range(count)],
        "parquet_path": [f"t{number:06d}.parquet" for number in range(count)],
    }
    catalog.create_result_tables(pa.table(columns))
    (run,) = catalog.log.head().runs.segments
    return run


def test_an_answer_is_kept_over_commits(storage):
    """Rows found once are found again without a look at any segment, after further commits too."""
    catalog = Catalog(storage)
    run, looks = many(catalog, 600), []
    asked = run.positions
    run.positions = lambda column, key: looks.append(column) or asked(column, key)
    for turn in range(3):
        (found,) = catalog.find_result_tables("docs", "ner", "org/other")
        assert found.table_name == "t000007"
        with pytest.raises(KeyError):
            catalog.resolve_embedding_table("docs")
        assert catalog.find_ready_result_tables_by_definition("none") == []
        catalog.create_result_table(**row(f"other{turn}", source_id="other"))
    assert looks == ["source_id", "embedding", "definition_hash"]


def test_a_kept_answer_is_the_newest(storage):
    """What has changed since an answer was kept is told as it is now: changed, gone, new."""
    catalog = Catalog(storage)
    many(catalog, 200)
    assert catalog.find_result_tables("docs", "ner")[0].row_count == 0
    catalog.update_result_table_status("t000007", "building", 5)
    assert catalog.find_result_tables("docs", "ner")[0].row_count == 5
    catalog.create_result_table(**row("new", task="ner"))
    assert [r.table_name for r in catalog.find_result_tables("docs", "ner")] == ["t000007", "new"]
    catalog.delete_result_table("t000007")
    assert [r.table_name for r in catalog.find_result_tables("docs", "ner")] == ["new"]
    for number in range(130):  # what was inline is in a segment now
        catalog.create_result_table(**row(f"other{number}", source_id="other"))
    assert [r.table_name for r in catalog.find_result_tables("docs", "ner")] == ["new"]


def test_rows_made_by_a_lookup(storage):
    """A lookup by source, task and model makes records of the rows that it returns, no others."""
    catalog = Catalog(storage)
    run, made = many(catalog, 600), []
    read = run.row
    run.row = lambda position: made.append(position) or read(position)
    for also in ({}, {"kind": "model"}, {"status": "building"}):
        found = catalog.find_result_tables("docs", "ner", "org/other", **also)
        assert [record.table_name for record in found] == ["t000007"]
    for also in ({"kind": "asof_join"}, {"status": "ready"}):
        assert catalog.find_result_tables("docs", "ner", "org/other", **also) == []
    assert catalog.find_result_tables("docs", "ner", "none") == []
    assert len(made) == 3


def test_long_answers_are_not_kept(storage):
    """An answer of very many rows is made anew each time: what is kept is bounded."""
    catalog = Catalog(storage)
    many(catalog, 600)
    runs = catalog.log.head().runs
    for _ in range(2):
        assert len(catalog.find_result_tables("docs")) == 600
        assert len(catalog.find_result_tables("docs", "ner")) == 1
    assert sum(map(len, runs._answers.values())) == 1


def test_a_scan_copies_nothing_that_it_shows_as_it_is(storage):
    """Where no row is hidden, gone or another tenant's, the columns of a scan are the segment's."""
    catalog = Catalog(storage)
    run = many(catalog, 600)

    def addresses(table):
        return [b.address for b in table.column("table_name").chunk(0).buffers() if b]

    assert addresses(catalog.scan()) == addresses(run.table)
    catalog.delete_result_table("t000007")
    assert "t000007" not in catalog.scan().column("table_name").to_pylist()


def test_flush_is_amortised(tmp_path):
    """A thousand commits of one row write about 1.01 objects each, and no segment twice as much."""
    storage = CountingStorage(LocalStorage(tmp_path, "os"))
    catalog = Catalog(storage)
    with storage.counting() as seen:
        for number in range(1000):
            catalog.create_result_table(**row(f"t{number:04d}"))
    assert seen.kinds["create"] <= 1000 + 1 + 1000 // 128 + 1
    assert seen.kinds["peek"] <= 1000
    assert seen.size("read", "pread", "peek") == 0


def test_build(storage):
    """`B091`: a build costs two commits, a stream, a sidecar and one look at the data."""
    store = ResultStore(Catalog(storage))
    store.catalog.create_result_table(**row("first"))
    with storage.counting() as seen:
        name = build(store)
    kinds = seen.kinds
    assert kinds.pop("write") > 0
    assert kinds == {
        "lock": 2,
        "peek": 2,
        "size": 1,
        "create": 3,
        "writer": 1,
        "publish": 1,
        "abort": 1,
    }
    assert seen.keys("create") == [key_of(2), f"{name}.materialization.json", key_of(3)]
    assert seen.keys("writer") == [f"{name}.parquet"]
    assert seen.keys("size") == [f"{name}.parquet"]
    assert seen.size("write") == storage.inner.size(f"{name}.parquet")
    order = [call.kind for call in seen if call.kind in ("create", "publish")]
    assert order == ["create", "publish", "create", "create"]


def test_finalize_reads_foreign_data_once(storage):
    """`B091`: data that this store wrote is never read again; foreign data is digested once."""
    store = ResultStore(Catalog(storage))
    info = store.create_table(*TABLE)
    with store.open_writer(info, DATA.schema) as out:
        out.write(DATA)
    other = ResultStore(Catalog(storage))
    with storage.counting() as seen:
        other.finalize_with_manifest(info.table_name, 3, DESCRIPTOR, ENV, INPUTS)
    data = f"{info.table_name}.parquet"
    assert seen.keys("open") == [data, data]
    assert seen.size("pread") <= 2 * storage.inner.size(data)


def test_set_checkpoint(storage):
    """`B165`: a checkpoint overwrites one small object and makes no version."""
    catalog = Catalog(storage)
    catalog.create_result_table(**row("t"))
    catalog.set_checkpoint("t", 1)
    with storage.counting() as seen:
        catalog.set_checkpoint("t", 2)
    assert seen.kinds == {"peek": 1, "replace": 1}
    assert seen.keys("replace") == ["_catalog/builds/t.json"]
    assert seen.size("replace") < 1024
    assert catalog.version == 1


def test_recover_with_nothing_to_do(storage):
    """`B252`: recovery of a healthy root writes nothing and opens no data object.

    It makes the newest version durable, once: its writer may have died over that.
    """
    store = ResultStore(Catalog(storage))
    for _ in range(3):
        build(store)
    with storage.counting() as seen:
        assert not store.recover()
    assert set(seen.kinds) <= {"size", "peek", "list", "settle"}
    assert seen.keys("settle") == [key_of(6)]
    with storage.counting() as seen:
        assert not store.recover()
    assert set(seen.kinds) <= {"size", "peek", "list"}


def test_import_of_what_is_present(storage):
    """A repeated import makes the newest version durable: who imported it may have died over it."""
    import_jammi(FIXTURE, ResultStore(Catalog(storage)))
    with storage.counting() as seen:
        assert not import_jammi(FIXTURE, ResultStore(Catalog(storage))).imported
    assert seen.keys("settle") == [key_of(1)]
    assert not seen.kinds.keys() & {"create", "replace", "delete"}


def test_import_of_what_was_copied(storage, monkeypatch):
    """What an import copied that died before its commit is made durable and not copied again."""

    def die(*_, **__):
        raise KeyboardInterrupt

    store = ResultStore(Catalog(storage))
    with monkeypatch.context() as patch, storage.counting() as first:
        patch.setattr(Catalog, "adopt_result_tables", die)
        with pytest.raises(KeyboardInterrupt):
            import_jammi(FIXTURE, store)
    with storage.counting() as second:
        assert import_jammi(FIXTURE, store).imported
    copied = first.keys("publish")
    assert copied
    assert second.keys("settle") == copied
    assert not second.keys("publish")


def test_empty_memory_root_is_left_empty():
    """`B266`: opening and reading write nothing."""
    storage = CountingStorage(MemoryStorage("memory://never_written"))
    catalog = Catalog(storage)
    assert catalog.get_result_table("t") is None
    assert catalog.scan().num_rows == 0
    assert not ResultStore(catalog).recover()
    assert set(storage.calls.kinds) <= {"read", "peek", "list", "size"}
    assert storage.list("") == []
