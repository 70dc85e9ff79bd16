"""The names of results: generated, sanitised, encoded, and those of the objects beside them."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.results import DATA, DESCRIPTOR, ENV

from jammi_files import InvalidInputError, Match, ModelTask, connect
from jammi_files.naming import (
    DATA_SUFFIX,
    INDEX_SIBLINGS,
    SIDECAR_SUFFIX,
    new_table_name,
    sanitise_model,
    sibling,
)
from jammi_files.validation import require_table_name

NER = ModelTask.NER
TAIL = re.compile(r"__(\d{8}T\d{6})(\d{9})_([0-9a-f]{8})$", re.ASCII)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400)
ODD_SOURCES = [
    '"',
    "\\",
    "a/b",
    "..",
    "a/../../x",
    ".hidden",
    "\x00",
    "\x1f\x7f\x85",
    "é日本 %_",
    "a.b",
]


def test_shape():
    """`B038` to `B040`: source, task, model, instant in UTC with nanoseconds, random suffix."""
    name = new_table_name("docs", NER, "org/model")
    head, instant, suffix = name[: TAIL.search(name).start()], *TAIL.search(name).group(1, 3)
    assert head == "docs__ner__org_model"
    moment = dt.datetime.strptime(instant, "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC)
    assert abs(dt.datetime.now(dt.UTC) - moment) < dt.timedelta(hours=1)
    assert suffix == suffix.lower()


@pytest.mark.parametrize(
    ("model", "sanitised"),
    [
        ("a/b:c d.e", "a_b_c_d_e"),
        ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("/srv/models/x", "_srv_models_x"),
        ('é\\\n"', 'é\\\n"'),
        ("日" * 65, "日" * 64),
        ("/" * 70, "_" * 64),
    ],
)
def test_sanitise(model, sanitised):
    """`B041`, `B042`: four characters become ``_``; 64 characters, not bytes, are kept."""
    assert sanitise_model(model) == sanitised


def test_names_differ():
    """`B043`, `B044`: names differ although models sanitise alike and calls follow at once."""
    made = [new_table_name("docs", NER, model) for _ in range(500) for model in ("a/b", "a:b")]
    assert len(set(made)) == 1000


def test_one_instant(monkeypatch):
    """`B044`: even in one nanosecond the suffix tells two names apart."""
    monkeypatch.setattr("jammi_files.naming.CLOCK.now", lambda: 1_700_000_000_123_456_789)
    made = {new_table_name("docs", NER, "m") for _ in range(100)}
    assert len(made) == 100
    assert {TAIL.search(name)[1] + TAIL.search(name)[2] for name in made} == {
        "20231114T221320123456789"
    }


@given(source=TEXT, model=TEXT, task=st.sampled_from(ModelTask))
def test_every_name_is_a_safe_file_name(source, model, task):
    """`B051`, `B053`, `B054`: whatever source and model are called, the name can be stored."""
    name = new_table_name(source, task, model)
    assert require_table_name(name) == name
    assert TAIL.search(name)
    assert f"__{task.value}__" in name
    assert len((name + SIDECAR_SUFFIX).encode()) <= 255
    assert Path(name).name == name


@pytest.mark.parametrize("empty", ["", None, 5])
def test_source_is_required(empty):
    """`B050`: a source must be a non-empty string."""
    with pytest.raises(InvalidInputError, match="source_id"):
        new_table_name(empty, NER, "m")


def test_encoding_is_readable():
    """`B051`: only what a file name cannot hold is percent-encoded; a dot stays (`B052`)."""
    assert new_table_name("a/b", NER, "m").startswith("a%2Fb__ner__")
    assert new_table_name("a.b", NER, "m").startswith("a.b__ner__")
    assert new_table_name("é %_", NER, "m").startswith("é %_\u005f_ner__")
    assert "/" not in new_table_name("a/../../x", NER, "m")


def test_long_sources_stay_apart():
    """`B053`: sources that differ beyond the cut keep different heads."""
    heads = {new_table_name("s" * 300 + end, NER, "m").split("__")[0] for end in "ab"}
    assert len(heads) == 2


@pytest.mark.parametrize(
    ("path", "sidecar"),
    [
        ("t.parquet", "t.materialization.json"),
        ("a.b.parquet", "a.b.materialization.json"),
        ("dir.d/t.parquet", "dir.d/t.materialization.json"),
        ("t.parquet.parquet", "t.parquet.materialization.json"),
        ("noext", "noext.materialization.json"),
    ],
)
def test_sibling(path, sidecar):
    """`B045`, `B052`: only ``.parquet`` is taken off; other dots truncate nothing."""
    assert sibling(path, SIDECAR_SUFFIX) == sidecar


def test_siblings_are_distinct():
    """`B047`: the index manifest is never the sidecar."""
    made = {sibling("t" + DATA_SUFFIX, suffix) for suffix in (*INDEX_SIBLINGS, SIDECAR_SUFFIX)}
    assert made == {"t.usearch", "t.rowmap", "t.manifest.json", "t.materialization.json"}


@pytest.mark.parametrize("source", [*ODD_SOURCES, "s" * 300, "é" * 200, "." * 260])
def test_odd_sources_work_from_end_to_end(store, source):
    """`B051` to `B054`: a result of any source is built, found, verified, read and deleted."""
    with store.build(
        source, "ner", "model", "m" * 300, descriptor=DESCRIPTOR, env=ENV, inputs=()
    ) as out:
        out.write(DATA)
        out.checkpoint(1)
    fresh = connect(store.root)
    (record,) = fresh.catalog.find_result_tables(source)
    assert (record.source_id, record.model_id) == (source, "m" * 300)
    assert fresh.verify_materialization(record.table_name) == Match()
    assert fresh.open_table(record.table_name).to_table() == DATA
    assert fresh.delete_source(source) == [record]
    assert [path.name for path in Path(store.root).iterdir()] == ["_catalog"]


@pytest.mark.parametrize("slash", ["", "/", "///"])
def test_trailing_slash(root, slash):
    """`B048`: a root with or without a trailing slash holds the same results."""
    connect(root, durability="os").create_table("docs", "ner", "model", "m")
    assert len(connect(f"{root}{slash}").catalog.find_result_tables("docs")) == 1
    assert len(connect(f"file://{root}{slash}").catalog.find_result_tables("docs")) == 1


@pytest.mark.parametrize("given", ["", "  ", "ftp://host/x", "jammi://x", "a\0b"])
def test_bad_roots(given):
    """`B049`: an empty root and an unknown scheme are refused by name."""
    with pytest.raises(InvalidInputError) as caught:
        connect(given)
    if "://" in given:
        scheme = given.split("://")[0]
        expected = f"invalid storage URL '{given}': unknown scheme '{scheme}://'"
        assert str(caught.value) == expected


@pytest.mark.parametrize("task", ModelTask)
@pytest.mark.parametrize("kind", ["model", "neighbor_graph", "asof_join"])
def test_index_path(store, task, kind):
    """`B045`, `B046`: only an embedding of kind model gets a place for its index."""
    info = store.create_table("docs", task, kind, "m")
    record = store.catalog.get_result_table(info.table_name)
    assert record.parquet_path == f"{info.table_name}.parquet"
    assert info.parquet_path == f"{store.root}/{info.table_name}.parquet"
    if task.is_embedding and kind == "model":
        assert record.index_path == f"{info.table_name}.idx"
        assert info.index_path == f"{store.root}/{info.table_name}.idx"
    else:
        assert record.index_path is info.index_path is None
