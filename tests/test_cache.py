"""Reuse: what is an exact match, which of several, and what a probe asks of storage."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.faults import CountingStorage
from support.files import listing
from support.pipelines import docs, hashed, lose, make, on
from support.scopes import ACME, BETA

from jammi_files import (
    AnchorKind,
    CacheOutcome,
    CachePolicy,
    Catalog,
    InputAnchor,
    InvalidInputError,
    ResultStore,
    connect,
    unpinned_anchor,
)
from jammi_files.local import LocalStorage

ROOTS = (f"cache{number}" for number in itertools.count())
PINNED = [
    InputAnchor.result_digest("t", "ab" * 32),
    InputAnchor.mutable_version("m", 7),
    InputAnchor.source_version("s", "v1"),
]


@pytest.fixture
def twice(store):
    """Return two results of one definition over one source, oldest first."""
    return make(store, docs()), make(store, docs())


def probe(store, **verify):
    found = store.probe_cache(hashed(), docs(), **verify)
    return None if found is None else found.table_name


def test_policy_strings():
    """`B013`: the policies are `use` and `bypass`, and `bypass` is the default."""
    assert list(CachePolicy) == ["use", "bypass"]
    assert CachePolicy.default() is CachePolicy.BYPASS
    assert all(CachePolicy.parse(str(policy)) is policy for policy in CachePolicy)


@pytest.mark.parametrize("wrong", ["", "Use", " use", "refresh", None])
def test_unknown_policy(wrong):
    """`B013`: anything else is refused in the engine's words."""
    with pytest.raises(ValueError, match=f"^cache must be 'use' or 'bypass' \\(got '{wrong}'\\)$"):
        CachePolicy.parse(wrong)


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (CacheOutcome.computed(), '{"cache_outcome":"computed"}'),
        (CacheOutcome.reused("t"), '{"cache_outcome":"reused","table":"t"}'),
    ],
)
def test_outcome_json(outcome, text):
    """`B014`, `B124`: an outcome says computed, or reused and from which table."""
    assert json.dumps(outcome.to_dict(), separators=(",", ":")) == text
    assert outcome.is_reused == ("table" in outcome.to_dict())


def test_lookup(store):
    """`B112`: a ready table of the same definition over the same inputs is found, else none."""
    name = make(store, PINNED)
    assert store.lookup_cached(hashed(), PINNED) == name
    assert store.lookup_cached(hashed(seed="2"), PINNED) is None
    assert store.lookup_cached(hashed(), PINNED[:2]) is None


@pytest.mark.parametrize("order", list(itertools.permutations(PINNED)))
def test_order_of_anchors(store, order):
    """`B113`: the order of the inputs does not matter."""
    name = make(store, PINNED)
    assert store.lookup_cached(hashed(), order) == name


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [([*PINNED, PINNED[0]], PINNED), (PINNED, [*PINNED, PINNED[0]])],
    ids=["recorded twice", "asked twice"],
)
def test_anchors_are_counted(store, recorded, asked):
    """`B113`: an input that comes twice is not an input that comes once."""
    make(store, recorded)
    assert store.lookup_cached(hashed(), asked) is None
    assert store.lookup_cached(hashed(), recorded) is not None


@pytest.mark.parametrize(
    "other",
    [
        InputAnchor("t", "ab" * 31 + "ac", "result_digest"),
        InputAnchor("T", "ab" * 32, "result_digest"),
        InputAnchor("t", "ab" * 32, "source_version"),
    ],
    ids=["value", "source", "kind"],
)
def test_one_byte_differs(store, other):
    """`B114`: one other byte in value, source or kind is a miss."""
    make(store, PINNED)
    assert store.lookup_cached(hashed(), [other, *PINNED[1:]]) is None


def test_unpinned_is_a_miss(store):
    """`B115`: an unpinned input never matches, not even itself."""
    inputs = [unpinned_anchor("docs")]
    make(store, inputs)
    assert store.lookup_cached(hashed(), inputs) is None
    assert store.probe_cache(hashed(), inputs) is None


def test_no_anchors(store):
    """`B116`: no inputs match only a row recorded without inputs, not one without a contract."""
    make(store, docs())
    info = store.create_table("docs", "ner", "model", "m")
    store.catalog.update_result_table_status(info.table_name, "ready", 0)
    assert store.lookup_cached(hashed(), []) is None
    name = make(store)
    assert store.lookup_cached(hashed(), []) == name


def test_newest_match(store, twice):
    """`B117`: of several matches the newest is named, each time."""
    assert {store.lookup_cached(hashed(), docs()) for _ in range(5)} == {twice[1]}
    assert probe(store) == twice[1]


def test_probe_returns_the_row(store, twice):
    """`B118`: a probe returns the whole record."""
    assert store.probe_cache(hashed(), docs()) == store.catalog.get_result_table(twice[1])


@pytest.mark.parametrize("lost", [0, 1], ids=["oldest", "newest"])
def test_probe_falls_through(store, twice, lost):
    """`B119`: a match without its bytes is passed over; a miss only when all are gone."""
    lose(store, twice[lost])
    assert probe(store) == twice[1 - lost]
    lose(store, twice[1 - lost])
    assert probe(store) is None


def test_lookup_does_not_look(store, twice):
    """`B120`: the lookup still names a row whose bytes are gone."""
    lose(store, twice[0])
    lose(store, twice[1])
    assert store.lookup_cached(hashed(), docs()) == twice[1]


def test_tenants(store):
    """`B121`: a tenant reuses GLOBAL tables and its own; nobody else reuses a tenant's."""
    acme, beta = store.pinned_to_tenant(ACME), store.pinned_to_tenant(BETA)
    shared, own = make(store, docs("g")), make(acme, docs("a"))
    assert acme.lookup_cached(hashed(), docs("g")) == shared
    assert acme.lookup_cached(hashed(), docs("a")) == own
    for other in (store, beta):
        assert other.lookup_cached(hashed(), docs("a")) is None
        assert other.probe_cache(hashed(), docs("a")) is None


def test_hits_change_nothing(store, root, twice):
    """`B122`: two hits leave every file as it was."""
    before = listing(root)
    assert probe(store) == probe(store, verify="digest") == twice[1]
    assert listing(root) == before


def test_only_ready_rows_match(store, twice):
    """`B109`: a failed row is no match."""
    store.catalog.fail_result_table(twice[1], "withdrawn")
    assert store.lookup_cached(hashed(), docs()) == twice[0]


def truncate(data):
    return data[:-1]


def append(data):
    return data + b"\0"


def flip(data):
    return data[:10] + bytes([data[10] ^ 1]) + data[11:]


@pytest.mark.parametrize(
    ("verify", "harm", "noticed"),
    [
        (None, truncate, False),
        ("size", truncate, True),
        ("size", append, True),
        ("size", flip, False),
        ("digest", truncate, True),
        ("digest", append, True),
        ("digest", flip, True),
    ],
)
def test_verify(store, twice, verify, harm, noticed):
    """`B126`: damaged bytes are passed over as far as one asks to look."""
    path = Path(store.root) / f"{twice[1]}.parquet"
    path.write_bytes(harm(path.read_bytes()))
    assert probe(store, verify=verify) == twice[0 if noticed else 1]


@pytest.mark.parametrize("verify", [None, "size", "digest"])
def test_verify_of_missing_bytes(store, twice, verify):
    """`B119`, `B126`: missing bytes are no error, however closely one looks."""
    lose(store, twice[1])
    assert probe(store, verify=verify) == twice[0]


@pytest.mark.parametrize("sidecar", [b"{", None], ids=["damaged", "missing"])
def test_verify_without_a_sidecar(store, root, twice, sidecar):
    """`B126`: what no sidecar attests is not verified."""
    path = root / f"{twice[1]}.materialization.json"
    path.unlink()
    if sidecar:
        path.write_bytes(sidecar)
    assert probe(store, verify="digest") == twice[0]


def test_verify_counts_rows(store, root, twice):
    """`B126`: the Parquet file of another result in the place of this one is noticed."""
    pq.write_table(pa.table({"id": ["a", "b"]}), root / f"{twice[1]}.parquet")
    assert probe(store, verify="size") == twice[0]


def test_wrong_verify(store):
    """Another `verify` is refused before anything is looked at."""
    with pytest.raises(InvalidInputError, match="verify must be None, 'size' or 'digest', not 1"):
        store.probe_cache(hashed(), docs(), verify=1)


def test_wrong_inputs(store):
    """An input that is no anchor is refused."""
    with pytest.raises(InvalidInputError, match="InputAnchor"):
        store.lookup_cached(hashed(), ["docs"])


def test_requests_of_a_probe(root, twice):
    """`B118`: on a warm handle a lookup asks one question of storage and a probe two."""
    storage = CountingStorage(LocalStorage(root, "os"))
    warm = ResultStore(Catalog(storage))
    assert probe(warm) == twice[1]
    with storage.counting() as calls:
        assert warm.lookup_cached(hashed(), docs()) == twice[1]
    assert (calls.looks, calls.of_results) == (1, [])
    with storage.counting() as calls:
        assert probe(warm) == twice[1]
    assert (calls.looks, calls.of_results) == (1, [("size", f"{twice[1]}.parquet")])


def test_key_before_the_work(store):
    """`B125`: the hash that one looks up is the hash that is recorded."""
    name = make(store, docs(), seed="3")
    assert store.catalog.get_result_table(name).definition_hash == hashed(seed="3")
    assert store.read_materialization_manifest(name).definition_hash == hashed(seed="3")


def test_derived_results_hit(store):
    """`B112`: a table made from results is found by their digests."""
    parent = make(store, docs())
    child = make(store, on(store, parent), "graph")
    assert store.lookup_cached(hashed("graph"), on(store, parent)) == child


anchors = st.lists(
    st.builds(
        InputAnchor,
        st.sampled_from(["a", "b"]),
        st.sampled_from(["1", "2"]),
        st.sampled_from([AnchorKind.RESULT_DIGEST, AnchorKind.SOURCE_VERSION]),
    ),
    max_size=3,
)


@settings(deadline=None)
@given(recorded=st.lists(anchors, max_size=4), asked=anchors)
def test_against_an_oracle(recorded, asked):
    """`B112` to `B117`: the newest row whose anchors are a permutation of the ones asked for."""
    store = connect(f"memory://{next(ROOTS)}")
    names = [make(store, each) for each in recorded]
    equal = [
        name
        for name, each in zip(names, recorded, strict=True)
        if any(tuple(each) == order for order in itertools.permutations(asked))
    ]
    assert store.lookup_cached(hashed(), asked) == (equal[-1] if equal else None)
