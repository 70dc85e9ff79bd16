"""Raw sources as they stand now: what resolvers say, and what nobody says."""

from __future__ import annotations

import datetime as dt

import pytest

from jammi_files import (
    AnchorKind,
    CurrentAnchor,
    InputAnchor,
    InvalidInputError,
    NotFoundError,
    StateError,
    unpinned_anchor,
)
from jammi_files.present import PresentSources
from jammi_files.timestamps import parse_instant

VERSION = InputAnchor.source_version("docs", "1")
MUTABLE = InputAnchor.mutable_version("rows", 1)
UNPINNED = InputAnchor.unpinned_at_instant("logs", "2020-01-01T00:00:00+00:00")


def now(recorded, resolver):
    sources = PresentSources({recorded.kind: resolver})
    sources.look_at([recorded])
    return sources.now(recorded)


@pytest.mark.parametrize(
    ("recorded", "answer", "expected"),
    [
        (VERSION, "2", InputAnchor.source_version("docs", "2")),
        (VERSION, 2, InputAnchor.source_version("docs", "2")),
        (MUTABLE, 7, InputAnchor.mutable_version("rows", 7)),
        (MUTABLE, InputAnchor.source_version("rows", "v"), InputAnchor.source_version("rows", "v")),
        (
            VERSION,
            CurrentAnchor.at(AnchorKind.SOURCE_VERSION, "3"),
            InputAnchor.source_version("docs", "3"),
        ),
        (
            UNPINNED,
            InputAnchor.source_version("logs", "v"),
            InputAnchor.source_version("logs", "v"),
        ),
    ],
)
def test_answers(recorded, answer, expected):
    """`B244`: a version keeps the anchor's kind; an anchor is taken as it is."""
    assert now(recorded, lambda _: answer) == expected


@pytest.mark.parametrize("answer", ["2024-01-01T00:00:00Z", dt.datetime(2024, 1, 1, tzinfo=dt.UTC)])
def test_last_change(answer):
    """`B218`: a source whose last change is known is read at the instant before that is asked."""
    looked = []
    anchor = now(UNPINNED, lambda _: looked.append(unpinned_anchor("x").anchor) or answer)
    assert anchor.kind is AnchorKind.UNPINNED_AT_INSTANT
    assert parse_instant("2024-01-02T00:00:00Z") < parse_instant(anchor.anchor)
    assert parse_instant(anchor.anchor) <= parse_instant(looked[0])


@pytest.mark.parametrize("resolver", [lambda _: None, lambda _: CurrentAnchor.undecidable()])
@pytest.mark.parametrize("recorded", [VERSION, MUTABLE, UNPINNED])
def test_open(recorded, resolver):
    """A source that nobody decides is named, with the resolver that would decide it."""
    for given in ({recorded.kind: resolver}, {}, None):
        with pytest.raises(InvalidInputError) as caught:
            PresentSources(given).look_at([recorded])
        assert f"'{recorded.source}'" in str(caught.value)
        assert f"resolvers={{'{recorded.kind.value}': f}}" in str(caught.value)


def test_all_open_sources_are_named():
    """One error names them all, each once."""
    with pytest.raises(InvalidInputError) as caught:
        PresentSources(None).look_at([VERSION, MUTABLE, VERSION])
    assert str(caught.value).count("is read again") == 2


def raising(error):
    def resolve(_):
        raise error

    return resolve


@pytest.mark.parametrize(
    "resolver",
    [
        raising(NotFoundError("no such file")),
        raising(FileNotFoundError("no such file")),
        lambda _: CurrentAnchor.vanished("no such file"),
    ],
)
def test_vanished(resolver):
    """A source that is gone is a `StateError`, even if another is open as well."""
    sources = PresentSources({VERSION.kind: resolver})
    with pytest.raises(StateError, match="have vanished: 'docs': no such file"):
        sources.look_at([MUTABLE, VERSION])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (1.5, "returned 1.5"),
        (True, "returned True"),
        (InputAnchor.source_version("other", "1"), "returned an anchor on 'other' for 'docs'"),
    ],
)
def test_wrong_answers(answer, error):
    """What is no version, or is that of another source, is refused."""
    with pytest.raises(InvalidInputError, match=error):
        now(VERSION, lambda _: answer)


def test_error_of_a_resolver():
    """Any other exception of a resolver is the caller's own and goes to the caller."""
    with pytest.raises(ZeroDivisionError):
        now(VERSION, lambda _: 1 / 0)


def test_asked_once():
    """Each source is asked for once per kind of anchor, whatever was recorded of it."""
    asked = []
    older = InputAnchor.source_version("docs", "0")
    sources = PresentSources({VERSION.kind: lambda source: asked.append(source) or "2"})
    sources.look_at([VERSION, older, VERSION])
    assert asked == ["docs"]
    assert sources.now(older) == sources.now(VERSION)
