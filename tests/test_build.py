"""``with store.build(...)``: ready at the end of the block, or failed with nothing left."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from support.faults import HookedStorage
from support.results import DATA, DESCRIPTOR, ENV, INPUTS, TABLE, build, row

from jammi_files import InvalidInputError, Match, StateError, StorageError, connect, lease
from jammi_files.catalog import Catalog
from jammi_files.recovery import RecoveryStep
from jammi_files.store import ResultStore

CONTRACT = {"descriptor": DESCRIPTOR, "env": ENV, "inputs": INPUTS}


def files(store):
    return sorted(path.name for path in Path(store.root).iterdir() if path.name != "_catalog")


def failed(store):
    """Return the one row there is: it failed, and nothing but the catalog is left of it."""
    (record,) = connect(store.root).catalog.find_result_tables("docs")
    assert (record.status, record.row_count) == ("failed", 0)
    assert files(store) == []
    assert list(Path(store.root).glob("_catalog/builds/*")) == []
    return record


def test_build(store):
    """`B087`, `B089`: leaving the block makes the result ready, with all that was written."""
    with store.build(*TABLE, **CONTRACT, dimensions=3, properties={"a": "b"}) as out:
        record = store.catalog.get_result_table(out.table_name)
        assert record.status == "building"
        for _ in range(4):
            out.write(DATA)
        assert out.rows == 12
        assert files(store) == [] or all(name.endswith(".tmp") for name in files(store))
    record = connect(store.root).catalog.get_result_table(out.table_name)
    assert (record.status, record.row_count, record.dimensions) == ("ready", 12, 3)
    assert record.properties == {"a": "b"}
    assert out.manifest == store.read_materialization_manifest(out.table_name)
    assert files(store) == [f"{out.table_name}.materialization.json", f"{out.table_name}.parquet"]
    assert store.verify_materialization(out.table_name) == Match()


def test_build_without_batches(store):
    """A schema alone makes an empty result."""
    with store.build(*TABLE, **CONTRACT, schema=DATA.schema) as out:
        pass
    assert store.catalog.get_result_table(out.table_name).row_count == 0
    assert store.open_table(out.table_name).to_table() == DATA.slice(0, 0)


def test_build_of_nothing(store):
    """Neither schema nor batch is an error that says what to give; the row is failed."""
    with pytest.raises(InvalidInputError, match="schema="), store.build(*TABLE, **CONTRACT):
        pass
    assert "schema=" in failed(store).properties["error"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("written", [0, 1])
def test_exception_in_the_block(store, error, written):
    """`B089`: whatever ends the block early goes on to the caller; the row says what it was."""
    raised = error("out of memory: é")
    with pytest.raises(error) as caught, store.build(*TABLE, **CONTRACT) as out:  # noqa: PT012 - the block is the subject
        for _ in range(written):
            out.write(DATA)
        out.checkpoint(3)
        raise raised
    assert caught.value is raised
    assert failed(store).properties["error"] == f"{error.__name__}: out of memory: é"


def test_exception_with_any_text(store):
    """`B089`: an error that names an undecodable file goes on to the caller as it is."""
    raised = OSError("cannot read " + os.fsdecode(b"caf\xe9"))
    with pytest.raises(OSError, match="cannot read") as caught, store.build(*TABLE, **CONTRACT):
        raise raised
    assert caught.value is raised
    assert failed(store).properties["error"].startswith("OSError: cannot read")


def test_exception_keeps_properties(store):
    """`B089`: the error's text joins the properties given."""
    with pytest.raises(ZeroDivisionError), store.build(*TABLE, **CONTRACT, properties={"a": "b"}):
        1 / 0  # noqa: B018 - the error is the subject
    record = failed(store)
    assert record.properties == {"a": "b", "error": "ZeroDivisionError: division by zero"}


def nested(depth, wrap):
    kind = pa.int64()
    for _ in range(depth):
        kind = wrap(kind)
    return pa.schema([("a", kind)])


UNREADABLE = {
    "two columns of one name": pa.schema([("a", pa.int64()), ("b", pa.int64()), ("a", pa.int8())]),
    "lists": nested(50, pa.list_),
    "structs": nested(99, lambda kind: pa.struct([("s", kind)])),
    "no schema": None,
    "names": ["a"],
}


@pytest.mark.parametrize("schema", UNREADABLE.values(), ids=UNREADABLE)
def test_schema_that_nobody_could_read(store, schema):
    """What Parquet would take and no reader give back is refused before a byte is written."""
    info = store.catalog.create_result_table(**row("t"))
    with pytest.raises(InvalidInputError, match=r"schema|more than one column is named 'a'"):
        store.open_writer(info.table_name, schema)
    assert files(store) == []


def test_rows_that_nobody_could_read(store):
    """A build whose first batch has such a schema fails."""
    rows = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(InvalidInputError, match="'a'"), store.build(*TABLE, **CONTRACT) as out:
        out.write(rows)
    failed(store)


@pytest.mark.parametrize("wrap", [pa.list_, lambda kind: pa.struct([("s", kind)])])
def test_schema_as_deep_as_can_be_read(store, wrap):
    """What Arrow can read is taken, to the last level."""
    schema = nested(49, wrap)
    with store.build(*TABLE, **CONTRACT, schema=schema) as out:
        pass
    assert store.open_table(out.table_name).schema.equals(schema)


@pytest.mark.parametrize("name", [None, 5, b"t"])
def test_writer_of_no_name(store, name):
    """A name that is none is an argument that is wrong, as anywhere else."""
    with pytest.raises(InvalidInputError, match="table_name must be a string"):
        store.open_writer(name, DATA.schema)


@pytest.mark.parametrize("given", [None, [1], pa.table({"id": [1]}), DATA.select(["score", "id"])])
def test_bad_batch(store, given):
    """A batch that does not fit the first one fails the build."""
    with pytest.raises(InvalidInputError), store.build(*TABLE, **CONTRACT) as out:  # noqa: PT012 - the block is the subject
        out.write(DATA)
        out.write(given)
    assert failed(store).properties["error"].startswith("InvalidInputError: ")


def test_refused_batch_may_be_left_out(store):
    """A caller who catches the refusal may go on; the result has the good batches only."""
    with store.build(*TABLE, **CONTRACT) as out:
        out.write(DATA)
        with pytest.raises(InvalidInputError):
            out.write(pa.table({"id": ["a"]}))
        out.write(DATA)
    assert store.open_table(out.table_name).count_rows() == 6
    assert store.verify_materialization(out.table_name) == Match()


@pytest.mark.parametrize(
    "wrong",
    [
        {"inputs": ["docs"]},
        {"inputs": None},
        {"inputs": "docs"},
        {"descriptor": "embedding"},
        {"descriptor": None},
        {"env": None},
        {"env": {"engine_version": "1"}},
        {"dimensions": 0},
        {"text_columns": "body"},
        {"properties": {"a": 1}},
        {"properties": {"a": "\ud800"}},
        {"key_column": ""},
    ],
)
def test_wrong_arguments(store, root, wrong):
    """A wrong argument is refused before the work begins, and before a row is made."""
    with pytest.raises(InvalidInputError), store.build(*TABLE, **CONTRACT | wrong) as out:
        out.write(DATA)
    assert not root.exists()


@pytest.mark.parametrize(
    "place",
    [
        ("", *TABLE[1:]),
        ("docs", "NER", *TABLE[2:]),
        ("docs", "ner", "Model", "m"),
        ("docs", "ner", "model", ""),
    ],
)
def test_wrong_place(store, root, place):
    """`B004`, `B007`, `B050`: source, task, kind and model are checked before a row is made."""
    with pytest.raises(InvalidInputError), store.build(*place, **CONTRACT):
        pass
    assert not root.exists()


def test_build_is_used_in_its_block(store):
    """Before and after the block, and a second time, a build refuses to be used."""
    out = store.build(*TABLE, **CONTRACT)
    for use in (lambda: out.table_name, lambda: out.manifest, lambda: out.write(DATA)):
        with pytest.raises(StateError):
            use()
    with out:
        out.write(DATA)
        with pytest.raises(StateError, match="not ready"):
            _ = out.manifest
    with pytest.raises(StateError):
        out.write(DATA)
    with pytest.raises(StateError, match="once"), out:
        pass
    assert len(store.catalog.find_result_tables("docs")) == 1
    assert store.verify_materialization(out.table_name) == Match()


def test_failure_at_the_end(store):
    """`B089`, `B090`: a build that fails after its data was published takes the data back."""
    with (  # noqa: PT012 - the block is the subject
        pytest.raises(Exception, match=r"materialization\.json"),
        store.build(*TABLE, **CONTRACT) as out,
    ):
        out.write(DATA)
        (Path(store.root) / f"{out.table_name}.materialization.json").write_bytes(b"foreign")
    (record,) = store.catalog.find_result_tables("docs")
    assert record.status == "failed"
    assert f"{out.table_name}.parquet" not in files(store)


def test_failed_meanwhile(store):
    """`B259`: a build whose row was failed by another hand ends with an error, never ready."""
    with pytest.raises(StateError) as caught, store.build(*TABLE, **CONTRACT) as out:  # noqa: PT012 - the block is the subject
        out.write(DATA)
        connect(store.root).catalog.fail_result_table(out.table_name, "recovery")
    assert out.table_name in str(caught.value)
    assert store.catalog.get_result_table(out.table_name).properties["error"] == "recovery"
    assert [name for name in files(store) if name.endswith(".tmp")] == []


def test_promoted_by_recovery_before_it_is_failed(store, monkeypatch):
    """`B082`, `B259`: what recovery makes ready while a refused build gives up stays so."""
    other, tried = connect(store.root, durability="os"), []

    def hook(moment, kind, _):
        attested = any(name.endswith(".materialization.json") for name in store.storage.list(""))
        if (moment, kind) != ("before", "lock") or not attested:
            return
        tried.append(kind)
        if len(tried) == 1:
            raise StorageError("refused")
        if len(tried) == 2:
            with monkeypatch.context() as patch:
                patch.setattr(lease, "find_death", lambda *_: "it is taken for dead")
                report = other.recover()
            assert [action.action for action in report.actions] == [RecoveryStep.PROMOTE]

    refused = ResultStore(Catalog(HookedStorage(store.storage, hook)))
    with pytest.raises(StorageError, match="refused"), refused.build(*TABLE, **CONTRACT) as out:
        out.write(DATA)
    assert store.catalog.get_result_table(out.table_name).status == "ready"
    assert store.verify_materialization(out.table_name) == Match()


def test_deleted_meanwhile(store):
    """A build whose row was deleted ends with an error and leaves no bytes behind."""
    with pytest.raises(Exception, match="not found"), store.build(*TABLE, **CONTRACT) as out:  # noqa: PT012 - the block is the subject
        out.write(DATA)
        connect(store.root).delete_table(out.table_name)
    assert files(store) == []


def test_checkpoints(store):
    """`B161`: the last checkpoint of the block is the row's."""
    with store.build(*TABLE, **CONTRACT) as out:
        for batch in range(3):
            out.write(DATA)
            out.checkpoint(batch)
        assert connect(store.root).catalog.get_checkpoint(out.table_name) == 2
    assert store.catalog.get_result_table(out.table_name).checkpoint == 2
    assert list(Path(store.root).glob("_catalog/builds/*")) == []


def test_builds_side_by_side(store):
    """Builds of one store may be open at the same time."""
    with store.build(*TABLE, **CONTRACT) as one, store.build(*TABLE, **CONTRACT) as two:
        one.write(DATA)
        two.write(DATA.slice(1))
        other = build(store)
    counts = [store.catalog.get_result_table(o.table_name).row_count for o in (one, two)]
    assert counts == [3, 2]
    assert all(verification.ok for verification in store.verify_all())
    assert other in {verification.table_name for verification in store.verify_all()}


def test_nested_in_a_transaction(store):
    """A build inside ``transaction()`` is refused at once and leaves nothing behind."""
    build(store)
    with store.catalog.transaction(), pytest.raises(StateError), store.build(*TABLE, **CONTRACT):
        pytest.fail("the build must not begin")
    assert len(store.catalog.find_result_tables("docs")) == 1


def test_build_in_memory():
    """The whole funnel works on ``memory://``."""
    store = connect("memory://test-build")
    name = build(store)
    assert connect("memory://test-build").verify_materialization(name) == Match()
    assert store.open_table(name).to_table() == DATA
    store.delete_table(name)
    assert store.storage.list("") == ["_catalog"]
