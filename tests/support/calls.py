"""The calls that the state machine makes: which there are, and how their arguments are drawn.

The pools are small, so that rows meet, and hold what SQL, JSON, paths and globs give a meaning to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st
from support.oracle import Row

from jammi_files.schema import InputAnchor

TENANTS = (
    None,
    "aaaaaaaa-0000-4000-8000-000000000001",
    "bbbbbbbb-0000-4000-8000-000000000002",
    "cccccccc-0000-4000-8000-000000000003",
)
NAMES = ("t0", "T0", "t0.x", "a::b%2F", '*[q]?# "x"', "日本é", "t1", "t2", "t3", "t4")
SOURCES = ("docs", "Docs", 'd%_"\\\x01\n\x00é', 'dxy"\\\x01\n\x00é')
MODELS = ("org/m:1", "org_m_1")
TASKS = ("text_embedding", "image_embedding", "ner")
KINDS = ("model", "neighbor_graph", "asof_join")
STATUSES = ("building", "ready", "failed")
HASHES = ("0" * 64, "0" * 63 + "1")

# Some are drawn more often, so that rows meet: a find has several answers, a delete is refused.
_names = st.sampled_from((*NAMES, *NAMES[:3]))
_sources = st.sampled_from((*SOURCES, *SOURCES[:1] * 3))
_counts = st.integers(0, 3) | st.just(2**63 - 1)
_anchors = st.lists(
    st.builds(
        InputAnchor,
        _sources | _names,
        st.sampled_from(("1", "2")),
        st.sampled_from(("result_digest", "mutable_version", "unpinned_at_instant")),
    ),
    max_size=3,
)
CONTRACTS = st.fixed_dictionaries(
    {"row_count": _counts, "definition_hash": st.sampled_from(HASHES), "anchors": _anchors}
)
ROWS = st.fixed_dictionaries(
    {
        "table_name": _names,
        "source_id": _sources,
        "model_id": st.sampled_from(MODELS),
        "task": st.sampled_from((*TASKS, *TASKS[:1])),
    },
    optional={
        "kind": st.sampled_from((*KINDS, *KINDS[:1])),
        "derived_from": _names,
        "dimensions": st.sampled_from((1, 384)),
        "key_column": st.just("id"),
        "text_columns": st.sampled_from(([], ["body"], ["b", "a,b", "b"])),
        "properties": st.sampled_from(({}, {"team": "search", "é": ""})),
    },
)
_children = st.builds(lambda row, parent: row | {"derived_from": parent}, ROWS, _names)


def _without_cycles(batch: list[Row]) -> list[Row]:
    """Drop each ``derived_from`` that would close a circle within the batch."""
    parents: dict[str, str | None] = {}
    for row in batch:
        ancestor = row.get("derived_from")
        while ancestor not in (None, row["table_name"]):
            ancestor = parents.get(ancestor)
        parents[row["table_name"]] = row.get("derived_from") if ancestor is None else None
    return [row | {"derived_from": parents[row["table_name"]]} for row in batch]


_any_batches = st.lists(ROWS, max_size=7, unique_by=lambda row: row["table_name"])
_batches = _any_batches.map(_without_cycles) | _any_batches


class Call(NamedTuple):
    """One operation and its arguments."""

    operation: str
    arguments: dict[str, Any]


def _calls(operation: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.builds(Call, st.just(operation), st.fixed_dictionaries(arguments))


_resolver_filters = st.fixed_dictionaries(
    {}, optional={"task": st.sampled_from(TASKS), "model_id": st.sampled_from(MODELS)}
)
_filters = st.fixed_dictionaries(
    {},
    optional={
        "task": st.sampled_from(TASKS),
        "model_id": st.sampled_from(MODELS),
        "kind": st.sampled_from(KINDS),
        "status": st.sampled_from(STATUSES),
        "key_column": st.just("id"),
    },
)
_limits = st.none() | st.integers(0, 2)

WRITES = st.one_of(
    _calls("create", row=ROWS, if_not_exists=st.booleans()),
    _calls("create", row=ROWS | _children, if_not_exists=st.just(False)),
    _calls("create_many", rows=_batches),
    _calls("update", name=_names, status=st.sampled_from(STATUSES), row_count=_counts),
    st.builds(lambda name, call: Call("promote", call | {"name": name}), _names, CONTRACTS),
    _calls("fail", name=_names, error=st.sampled_from(("", "out of memory"))),
    _calls("delete", source=_sources, cascade=st.booleans()),
    _calls("delete_one", name=_names, cascade=st.booleans()),
)
QUERIES = st.one_of(
    _calls("get", name=_names),
    _calls("by_status", status=st.sampled_from(STATUSES)),
    _calls("find", source=_sources, filters=_filters, newest_first=st.booleans(), limit=_limits),
    _calls("by_definition", definition_hash=st.sampled_from(HASHES)),
    _calls("anchored_on", source=_sources | _names),
    _calls("resolve", source=_sources, filters=_resolver_filters, underived=st.booleans()),
    _calls("resolve_named", source=_sources, name=_names),
    _calls("scan", status=st.none() | st.sampled_from(STATUSES)),
)
EVERY_QUESTION = [
    *(Call("get", {"name": name}) for name in NAMES),
    *(Call("get_checkpoint", {"name": name}) for name in NAMES),
    *(Call("by_status", {"status": status}) for status in STATUSES),
    *(Call("by_definition", {"definition_hash": value}) for value in HASHES),
    *(Call("anchored_on", {"source": source}) for source in (*SOURCES, *NAMES)),
    *(
        Call("find", {"source": source, "filters": {}, "newest_first": False, "limit": None})
        for source in SOURCES
    ),
    *(Call("resolve", {"source": s, "filters": {}, "underived": False}) for s in SOURCES),
    Call("scan", {"status": None}),
]
"""The questions without filters, for each name, source, status and definition in use."""

CHECKPOINTS = st.one_of(
    _calls("set_checkpoint", name=_names, batch=st.integers(0, 3)),
    _calls("get_checkpoint", name=_names),
)
