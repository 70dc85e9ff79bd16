"""Single arguments: what is taken, what is refused, and that a refusal names the argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_files.errors import InvalidInputError
from jammi_files.validation import (
    INT64_MAX,
    require_count,
    require_strings,
    require_table_name,
    require_text,
)


def test_text_columns_keep_their_order():
    """`B033`, `B214`: text columns stay in caller order; a column may hold a comma."""
    assert require_strings("text_columns", ["title", "a,b", "body"]) == ("title", "a,b", "body")


@pytest.mark.parametrize("value", ["", None, 7, b"docs", "\ud800"])
def test_bad_text(value):
    """`B050`: text that is empty, of another type or not UTF-8 is refused by its name."""
    with pytest.raises(InvalidInputError, match=r"^source_id "):
        require_text("source_id", value)


def test_empty_text_is_required():
    """`B050`: an empty source id is refused with 0.32's text."""
    with pytest.raises(InvalidInputError, match=r"^source_id is required$"):
        require_text("source_id", "")


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a%b_c", "é", "日本", "a\tb", "a\x00b", " "])
def test_any_other_text(value):
    """`B054`: quotes, backslashes, control and non-ASCII characters are legal in a source id."""
    assert require_text("source_id", value) == value


@pytest.mark.parametrize("value", [0, 1, INT64_MAX])
def test_counts(value):
    """`B028`: a count is any non-negative 64-bit integer."""
    assert require_count("row_count", value) == value


@pytest.mark.parametrize("value", [-1, INT64_MAX + 1, True, 1.0, "1", None])
def test_bad_counts(value):
    """`B028`, `B161`: a negative, too large or non-integer count is refused, booleans too."""
    with pytest.raises(InvalidInputError, match=r"^row_count must be an integer"):
        require_count("row_count", value)


def test_least_count():
    """`B027`: a count may have a lower bound of its own."""
    with pytest.raises(InvalidInputError, match="between 1 and"):
        require_count("dimensions", 0, least=1)


@pytest.mark.parametrize("value", ["body", b"body", None, 7, ["body", ""], [None]])
def test_bad_strings(value):
    """`B033`: one string in the place of a list of strings is refused, not split."""
    with pytest.raises(InvalidInputError):
        require_strings("text_columns", value)


@pytest.mark.parametrize(
    "name",
    [
        "",
        *("a/b", "a\\b", "..", "a..b", ".", ".hidden", "a/../../x", "/abs"),
        *("a\x00b", "a\nb", "a\x7fb", "a\x85b"),
        *("n" * 222, "é" * 111),
        "\ud800",
        None,
        7,
    ],
)
def test_bad_table_names(name):
    """`B050`, `B051`, `B053`: a name that is empty, leaves the root, hides or is too long."""
    with pytest.raises(InvalidInputError, match=r"^table_name "):
        require_table_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "docs__ner",
        "a.x",
        "a b",
        "a%b",
        'a"b',
        "a:b",
        "a*?[b]",
        "#a",
        "~a",
        "日本",
        "n" * 221,
        "é" * 110,
    ],
)
def test_good_table_names(name):
    """`B052`, `B054`: dots, blanks, quotes and wide characters may stand in a name."""
    assert require_table_name(name) == name


@given(st.text())
def test_table_name_stays_in_the_root(name):
    """`B051`: an accepted name is one path component and leaves room for the longest suffix."""
    try:
        require_table_name(name)
    except InvalidInputError:
        return
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\\0")
    assert len(f"{name}.materialization.json.01234567.tmp".encode()) <= 255
