"""The row: stored strings of the enums, legal moves, the record and its anchors."""

from __future__ import annotations

import json
import pickle

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_files.errors import FormatError, InvalidInputError
from jammi_files.schema import (
    LOW_CARDINALITY,
    RECORD_FIELDS,
    SCHEMA,
    AnchorKind,
    InputAnchor,
    Lease,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
    find_damage,
    require_anchors,
    require_sound,
)
from jammi_files.validation import INT64_MAX

STORED = {
    ResultTableStatus: ["building", "ready", "failed"],
    ResultTableKind: ["model", "neighbor_graph", "asof_join"],
    ModelTask: [
        "text_embedding",
        "image_embedding",
        "audio_embedding",
        "classification",
        "ner",
        "regression",
    ],
    AnchorKind: ["result_digest", "mutable_version", "source_version", "unpinned_at_instant"],
}
MEMBERS = [member for enum in STORED for member in enum]
DOCS = InputAnchor.mutable_version("docs", 1)
BUILDING = ResultTableRecord(
    table_name="docs__ner",
    source_id="docs",
    model_id="org/model:1",
    task=ModelTask.NER,
    parquet_path="docs__ner.parquet",
    created_at="2026-11-22T21:49:53.517770075Z",
)
FULL = ResultTableRecord(
    table_name="docs__graph",
    source_id="docs",
    model_id="org/model:1",
    task=ModelTask.TEXT_EMBEDDING,
    kind=ResultTableKind.NEIGHBOR_GRAPH,
    derived_from="docs__ner",
    parquet_path="docs__graph.parquet",
    dimensions=8,
    row_count=INT64_MAX,
    status=ResultTableStatus.READY,
    key_column="id",
    text_columns=("title", "body"),
    checkpoint=3,
    created_at="2026-11-22T21:49:53.517770075Z",
    completed_at="2026-11-22T21:49:54.000000000Z",
    tenant_id="01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a",
    definition_hash="ab" * 32,
    input_anchors=(DOCS, InputAnchor.result_digest("b", "cd")),
    properties={"team": "search"},
    lease=Lease(owner="o", host="h", pid=7, process_start="9", expires_at=11),
)


@pytest.mark.parametrize(
    ("enum", "stored"), STORED.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_stored_strings(enum, stored):
    """`B001`, `B003`, `B006`, `B011`: the stored strings, in declaration order."""
    assert [member.value for member in enum] == stored


@pytest.mark.parametrize("member", MEMBERS)
def test_enum_round_trip(member):
    """`B001`, `B003`, `B009`: parsing what a member is shown as gives the member."""
    assert type(member).parse(str(member)) is member
    assert type(member)(json.loads(json.dumps(member))) is member


@pytest.mark.parametrize("member", MEMBERS)
def test_enum_rendering(member):
    """`B005`, `B009`: a member is its stored string in text, in JSON and when compared."""
    assert str(member) == f"{member}" == "%s" % member == member.value  # noqa: UP031 - a way to render
    assert json.dumps(member) == f'"{member.value}"'
    assert orjson.dumps(member) == f'"{member.value}"'.encode()
    assert member == member.value
    assert pickle.loads(pickle.dumps(member)) is member  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("enum", "text"),
    [
        (ResultTableStatus, "Unknown result table status: 'done'"),
        (
            ResultTableKind,
            "Unknown result-table kind 'done'. Expected: model, neighbor_graph, asof_join",
        ),
        (
            ModelTask,
            (
                "Unknown model task 'done'. Expected: text_embedding, image_embedding, "
                "audio_embedding, classification, ner, regression"
            ),
        ),
        (
            AnchorKind,
            (
                "Unknown anchor kind 'done'. Expected: result_digest, mutable_version, "
                "source_version, unpinned_at_instant"
            ),
        ),
    ],
)
def test_unknown_member(enum, text):
    """`B002`, `B004`, `B007`: an unknown string is refused with 0.32's text."""
    with pytest.raises(InvalidInputError) as caught:
        enum.parse("done")
    assert str(caught.value) == text


@pytest.mark.parametrize("member", MEMBERS)
def test_parsing_is_exact(member):
    """`B010`: another case, surrounding blanks and an empty string are refused."""
    near = ["", member.upper(), member.title(), f" {member}", f"{member} ", f"{member}\n", None, 1]
    for wrong in near:
        with pytest.raises(InvalidInputError):
            type(member).parse(wrong)


def test_is_embedding():
    """`B008`: exactly the text, image and audio embeddings are embedding tasks."""
    assert [task for task in ModelTask if task.is_embedding] == list(ModelTask)[:3]


def test_is_terminal():
    """`B068`: ready and failed are the states that carry a completion time."""
    assert [status for status in ResultTableStatus if status.is_terminal] == ["ready", "failed"]


def test_legal_moves():
    """`B073`: building may become anything, ready may only fail, failed is final."""
    moves = {
        (old, new) for old in ResultTableStatus for new in ResultTableStatus if old.may_become(new)
    }
    assert moves == {
        ("building", "building"),
        ("building", "ready"),
        ("building", "failed"),
        ("ready", "failed"),
    }


def test_columns():
    """`B023`: 0.32's columns come first and in its spelling, the anchors as Arrow structs."""
    seed = [
        *("table_name", "source_id", "model_id", "task", "kind", "derived_from", "parquet_path"),
        *("index_path", "dimensions", "distance_metric", "row_count", "status", "key_column"),
        *("text_columns", "checkpoint", "created_at", "completed_at", "tenant_id"),
        *("definition_hash", "input_anchors"),
    ]
    assert SCHEMA.names[: len(seed)] == seed
    ours = ["properties", "storage_precision", "oversample", "lease"]
    assert SCHEMA.names[len(seed) :] == [*ours, "artifact_digest", "descriptor_digest"]


def test_columns_are_the_fields():
    """A record has one field per column, in any order, and no other."""
    assert sorted(RECORD_FIELDS) == sorted(SCHEMA.names)
    assert set(LOW_CARDINALITY) <= set(SCHEMA.names)


def test_not_null():
    """`B024`: the nine columns of 0.32 that are never null, and no other."""
    required = [field.name for field in SCHEMA if not field.nullable]
    assert required == [
        *("table_name", "source_id", "model_id", "task", "kind"),
        *("parquet_path", "row_count", "status", "created_at"),
    ]


def test_counts_are_64_bit():
    """`B028`: a row count or checkpoint beyond 2,147,483,647 is representable."""
    assert SCHEMA.field("row_count").type == pa.int64()
    assert SCHEMA.field("checkpoint").type == pa.int64()


def test_defaults():
    """`B025`, `B027`: a new record is building, empty, of kind model, cosine, all else null."""
    defaults = BUILDING.to_dict()
    assert defaults.pop("status") == "building"
    assert defaults.pop("kind") == "model"
    assert defaults.pop("row_count") == 0
    assert defaults.pop("distance_metric") == "cosine"
    assert {name for name, value in defaults.items() if value is not None} == {
        *("table_name", "source_id", "model_id", "task", "parquet_path", "created_at")
    }


def test_global_owner():
    """`B032`: a GLOBAL row shows no tenant, a tenant's row shows its owner."""
    assert BUILDING.tenant_id is None
    assert FULL.tenant_id == "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a"


def test_derived_from():
    """`B026`: a direct output derives from nothing, a derivation names its parent."""
    assert BUILDING.derived_from is None
    assert FULL.derived_from == "docs__ner"


def test_record_as_dict():
    """`B005`: a record as a dict is JSON-ready and shows no Python enum name."""
    shown = FULL.to_dict()
    assert list(shown) == list(RECORD_FIELDS)
    assert all(type(shown[name]) is str for name in ("task", "kind", "status"))
    assert shown["kind"] == "neighbor_graph"
    assert shown["text_columns"] == ["title", "body"]
    assert shown["input_anchors"][0] == {"source": "docs", "anchor": "1", "kind": "mutable_version"}
    assert shown["lease"]["pid"] == 7
    assert json.loads(json.dumps(shown)) == shown == orjson.loads(orjson.dumps(shown))


def test_record_pickles():
    """A record that crosses a process border is equal, enums and anchors included."""
    for record in (BUILDING, FULL):
        again = pickle.loads(pickle.dumps(record))  # noqa: S301 - our own bytes
        assert again == record
        assert again.status is record.status


def test_is_ready():
    """A record is ready once it is published, neither before nor after a failure."""
    assert FULL.is_ready
    assert not BUILDING.is_ready


def test_anchors_json():
    """`B085`: the anchors read as compact JSON, keys source, anchor, kind, producer order."""
    assert FULL.input_anchors_json == (
        '[{"source":"docs","anchor":"1","kind":"mutable_version"},'
        '{"source":"b","anchor":"cd","kind":"result_digest"}]'
    )


def test_no_inputs_and_no_contract_differ():
    """`B086`: no inputs read as ``[]``, a row without a contract as null."""
    no_inputs = ResultTableRecord(
        **{name: getattr(BUILDING, name) for name in RECORD_FIELDS} | {"input_anchors": ()}
    )
    assert no_inputs.input_anchors_json == "[]"
    assert no_inputs.to_dict()["input_anchors"] == []
    assert BUILDING.input_anchors_json is None


@pytest.mark.parametrize("column", ["task", "kind", "status"])
def test_damage_is_named(column):
    """`B037`: a stored string that is unknown is reported with its row, column and value."""
    fields = {name: getattr(BUILDING, name) for name in RECORD_FIELDS} | {column: "odd"}
    damaged = ResultTableRecord(**fields)
    with pytest.raises(FormatError) as caught:
        require_sound(damaged)
    assert str(caught.value).startswith(f"row 'docs__ner', column {column}: Unknown ")
    assert "'odd'" in str(caught.value)


def test_sound_record():
    """`B037`: a row of known strings passes as it is."""
    assert find_damage(FULL) is None
    assert require_sound(FULL) is FULL


def test_anchor_constructors():
    """`B181`, `B216`: an anchor's value is always a string, a version in decimal."""
    assert InputAnchor.mutable_version("a", 12) == InputAnchor(
        "a", "12", AnchorKind.MUTABLE_VERSION
    )
    assert InputAnchor.source_version("a", "v1").kind is AnchorKind.SOURCE_VERSION
    assert InputAnchor.result_digest("a", "ab").kind is AnchorKind.RESULT_DIGEST
    assert InputAnchor.unpinned_at_instant("a", "2026").kind is AnchorKind.UNPINNED_AT_INSTANT
    assert InputAnchor("a", "1", "source_version").kind is AnchorKind.SOURCE_VERSION


def test_pinned():
    """`B217`: only an instant leaves an input unpinned."""
    kinds = [kind for kind in AnchorKind if not InputAnchor("a", "1", kind).is_pinned]
    assert kinds == [AnchorKind.UNPINNED_AT_INSTANT]


@given(st.text(min_size=1), st.text(), st.sampled_from(AnchorKind))
def test_anchor_round_trip(source, value, kind):
    """`B130`, `B181`: any text survives the way through an anchor's JSON form."""
    anchor = InputAnchor(source, value, kind)
    assert list(anchor.to_dict()) == ["source", "anchor", "kind"]
    assert InputAnchor.from_dict(json.loads(json.dumps(anchor.to_dict()))) == anchor


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"source": "a", "anchor": "1"},
        {"source": "a", "anchor": 1, "kind": "mutable_version"},
        {"source": "", "anchor": "1", "kind": "mutable_version"},
        {"source": None, "anchor": "1", "kind": "mutable_version"},
        {"source": "a", "anchor": "1", "kind": "MutableVersion"},
        {"source": "\ud800", "anchor": "1", "kind": "mutable_version"},
        {"source": "a", "anchor": "\ud800", "kind": "mutable_version"},
        "source",
        None,
    ],
)
def test_bad_anchor(fields):
    """`B181`: an anchor with a missing, mistyped or unstorable field is refused."""
    with pytest.raises(InvalidInputError):
        InputAnchor.from_dict(fields)


@pytest.mark.parametrize("anchors", [[DOCS.to_dict()], "docs", [None]])
def test_anchors_are_typed(anchors):
    """`B181`: promote takes InputAnchor values, no look-alikes."""
    with pytest.raises(InvalidInputError):
        require_anchors(anchors)


def test_anchors_keep_their_order():
    """`B085`: the anchors stay in producer order, repetitions included."""
    other = InputAnchor.result_digest("a", "0")
    assert require_anchors([DOCS, other, DOCS]) == (DOCS, other, DOCS)
