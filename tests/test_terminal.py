"""Tables, plain and on a narrow terminal, and the escapes of text and JSON."""

from __future__ import annotations

import io
import json
import sys

import pytest

from jammi_files import terminal
from jammi_files.terminal import Table, printable


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def plain(*blocks):
    out = io.StringIO()
    terminal.write(blocks, out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("naïve 日本語 🙂", "naïve 日本語 🙂"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\u2028\ufeff\U000e0001", "\\u2028\\ufeff\\U000e0001"),
        ("\udcff", "\\udcff"),
    ],
    ids=ascii,
)
def test_only_what_a_terminal_simply_shows_stays(text, expected):
    """Controls, bidirectional marks and line separators become escapes, letters stay."""
    assert printable(text) == expected


def test_columns_are_aligned():
    """Cells begin at the same column, numbers end there, and no line ends in blanks."""
    table = Table(["NAME", "ROWS", "NOTE"], [["a", "5", ""], ["long", "1234", "x"]])
    assert plain(table) == "NAME  ROWS  NOTE\na        5\nlong  1234  x\n"


def test_table_without_rows_is_its_heading():
    """Headings stand alone where there is nothing below them."""
    assert plain(Table(["A", "B"], [])) == "A  B\n"


def test_wide_letters_take_two_columns():
    """East Asian letters and combining marks are counted as a terminal draws them."""
    table = Table([], [["日本", "x"], ["a\u0301bcd", "x"], ["abcd", "x"]])
    assert plain(table) == "日本  x\na\u0301bcd  x\nabcd  x\n"


def test_escapes_are_counted_as_they_are_printed():
    """A column is as wide as its escaped cells."""
    assert plain(Table(["A", "B"], [["\n", "x"], ["yy", "z"]])) == "A   B\n\\n  x\nyy  z\n"


@pytest.mark.parametrize("hidden", [True, False], ids=["plain", "rich"])
def test_narrow_terminal_gets_the_last_cell_on_its_own_line(monkeypatch, hidden):
    """A row that does not fit is two lines, so that the name in its last cell stays whole."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    if hidden:
        monkeypatch.setitem(sys.modules, "rich", None)
    else:
        pytest.importorskip("rich")
    screen = Screen()
    table = Table(["STATUS", "NOTE", "TABLE"], [["ready", "", "n" * 60], ["failed", "why", "m"]])
    terminal.write([table], screen)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert lines == ["n" * 60, "  status  ready", "m", "  status  failed  note  why"]


def test_markup_of_rich_is_text(monkeypatch):
    """A name that looks like rich's markup or an emoji code is printed as it is."""
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen()
    terminal.write(["[red]x[/red] :smile:", Table(["[b]A"], [["[link=x]y :heart:"]])], screen)
    for text in ("[red]x[/red] :smile:", "[b]A", "[link=x]y :heart:"):
        assert text in screen.getvalue()


def test_json_spells_controls_as_escapes():
    """The document holds no raw control or bidirectional character and means the same."""
    document = {"name\x9b": ["\u202e", "\x7f", "\U000e0001", 'ä"\\'], "path": "\udcff"}
    for each in (document, {"name\x9b": document["name\x9b"]}):
        out = io.StringIO()
        terminal.write_json(each, out)
        assert out.getvalue().replace("\n", "").isprintable()
        assert json.loads(out.getvalue()) == each


def test_progress_without_a_terminal_is_silent():
    """Nothing is written to a stream that is no terminal, or to none."""
    out = io.StringIO()
    for stream in (out, None):
        with terminal.progress("Working", stream, "rows") as step:
            step(1, 2)
    assert out.getvalue() == ""
