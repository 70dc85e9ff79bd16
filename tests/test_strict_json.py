"""JSON of sidecars and hashes: canonical bytes, and everything that is not plain JSON refused."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contracts import canonical, pretty

from jammi_files.errors import FormatError, InvalidInputError
from jammi_files.schema import AnchorKind
from jammi_files.strict_json import MAX_DEPTH, canonical_json, loads, plain, pretty_json

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


@given(JSON)
def test_canonical_json(value):
    """`B193`: sorted keys, no blanks, arrays in order, UTF-8 unescaped, nulls kept."""
    assert canonical_json(value) == canonical(value)


@given(JSON)
def test_pretty_json(value):
    """`B177`: two blanks of indent, keys as they come, no trailing newline, UTF-8 unescaped."""
    assert pretty_json(value) == pretty(value)


@given(JSON)
def test_round_trip(value):
    """`B189`: what is written is read back equal, key order included."""
    back = loads(pretty_json(value))
    assert back == value
    assert json.dumps(back) == json.dumps(value)


def test_key_order():
    """`B193`: keys are sorted by their UTF-8 bytes, also where UTF-16 would sort otherwise."""
    value = {"\U0001f600": 1, "\uffff": 2, "b": 3, "B": 4, "é": 5, "": 6}
    assert canonical_json(value) == '{"":6,"B":4,"b":3,"é":5,"\uffff":2,"\U0001f600":1}'.encode()


def test_characters():
    """`B193`: only control characters, quotes and backslashes are escaped."""
    assert (
        canonical_json('\x00\n\x1f"\\/\x7f\u2028') == b'"\\u0000\\n\\u001f\\"\\\\/\x7f\xe2\x80\xa8"'
    )


def test_plain_values():
    """`B193`: tuples, mappings and stored enums count as what they are stored as."""
    value = plain(MappingProxyType({"kind": AnchorKind.RESULT_DIGEST, "items": (1, 2)}))
    assert value == {"kind": "result_digest", "items": [1, 2]}
    assert type(value["kind"]) is str


def test_plain_copies():
    """`B180`: the copy shares nothing that could change later."""
    value = {"a": [{"b": 1}]}
    copy = plain(value)
    value["a"][0]["b"] = 2
    assert copy == {"a": [{"b": 1}]}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "nan is not JSON"),
        ([float("inf")], "inf is not JSON"),
        ({1: 2}, "the key 1 is not a string"),
        ({"a": {None: 2}}, "the key None is not a string"),
        (2**64, "more than 64 bits"),
        (-(2**63) - 1, "more than 64 bits"),
        ("\ud800", "lone surrogate"),
        ({"\ud800": 1}, "lone surrogate"),
        ({1, 2}, "a set is not JSON"),
        (b"a", "a bytes is not JSON"),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "a datetime is not JSON"),
        (uuid.UUID(int=1), "a UUID is not JSON"),
        (nested(MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_not_canonicalisable(value, why):
    """`B201`: what is no JSON is refused with the engine's text and the reason."""
    text = f"^producing descriptor is not canonicalisable: .*{why}"
    with pytest.raises(InvalidInputError, match=text):
        canonical_json(value)


def test_deepest():
    """`B193`: the deepest value that is allowed is written and read."""
    assert loads(canonical_json(nested(MAX_DEPTH))) == nested(MAX_DEPTH)


def test_circle():
    """`B201`: a list that holds itself is refused, not recursed into."""
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(InvalidInputError, match="nested deeper"):
        canonical_json(circle)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no",
        b'{"a": 1',
        b'{"a": 1}x',
        b'{"a": 1}{}',
        b'{"a": 1, "a": 1}',
        b'{"b": [{"a": 1, "\\u0061": 2}]}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": 18446744073709551616}',
        b'{"a": ' + b"1" * 5000 + b"}",
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        '{"a": 1}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"{'a': 1}",
        b'{"a": 01}',
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b"[" * 900 + b"]" * 900,
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_untrusted(data):
    """`B187`, `B190`: doubles, NaN, trailing bytes, other encodings, deep nesting are refused."""
    with pytest.raises(FormatError, match=r"^not a JSON text that can be trusted: "):
        loads(data)


def test_blanks_around():
    """`B187`: blanks and newlines around the value are part of JSON."""
    assert loads(b' \r\n{"a": 1}\n') == {"a": 1}


@pytest.mark.parametrize("number", ["0", "18446744073709551615", "-9223372036854775808", "0.1"])
def test_numbers(number):
    """`B200`: the bits of a double are read exactly."""
    assert canonical_json(loads(number.encode())) == number.encode()
