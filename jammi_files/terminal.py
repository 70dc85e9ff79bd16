"""What people read: lines and tables, plain or drawn by rich; and the JSON that programs read.

A name comes from whoever may write to the catalog, so it may hold terminal escape sequences,
bidirectional controls and newlines. Every string passes `printable` on its way out, and every such
character of a JSON document becomes an escape, which leaves its value as it is.

rich draws only on a terminal: what goes to a file or a pipe is plain, and nothing in it is folded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import orjson


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings; without ``columns`` there is no heading."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = str | Table
"""One line of text, or a table."""

_STYLES = {
    "match": "green",
    "match_with_unpinned_inputs": "yellow",
    "mismatch": "red",
    "missing_manifest": "red",
    "missing_artifact": "red",
    "unsigned": "red",
    "bad_signature": "red",
    "ready": "green",
    "building": "cyan",
    "failed": "red",
    "error": "bold red",
    "fresh": "green",
    "stale": "red",
    "undecidable": "yellow",
    "insert": "green",
    "update": "yellow",
    "delete": "red",
    "notice": "yellow",
}
_GAP = "  "
_DUMB = ("dumb", "unknown")
"""Terminals that cannot move their cursor; rich takes them for 80 columns wide and cuts names."""


def printable(text: str) -> str:
    """Return ``text`` on one line, with an escape for what a terminal would not simply show."""
    if text.isprintable():
        return text
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text
    )


def write(blocks: Sequence[Block], stream: TextIO) -> None:
    """Write blocks for people and flush; what the encoding cannot carry is escaped."""
    draw = _draw if _has_rich(stream) else _plain
    text = draw(blocks, stream)
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def write_json(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON document in UTF-8 and flush."""
    _write_utf8(to_json(document), stream)


def write_json_line(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON document on a line of its own and flush."""
    _write_utf8(json_line(document) + "\n", stream)


def json_line(document: Mapping[str, Any]) -> str:
    """Return a JSON document as one line of ASCII, which every terminal and encoding carries."""
    return json.dumps(document)


def _write_utf8(text: str, stream: TextIO) -> None:
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(text)
    else:
        buffer.write(text.encode())
    stream.flush()


@contextlib.contextmanager
def progress(label: str, stream: TextIO | None, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs, if ``stream`` can; yield what takes (done, total).

    ``unit`` names what is counted; of ``bytes`` the speed is shown, too.
    """
    if not _has_rich(stream):
        yield lambda _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.progress import Progress  # noqa: PLC0415 - an extra

    console = Console(file=stream, no_color=_no_color())
    with Progress(*_bar_columns(unit), console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _bar_columns(unit: str) -> list[Any]:
    from rich import progress as parts  # noqa: PLC0415 - an extra

    amount: list[Any] = [parts.DownloadColumn(), parts.TransferSpeedColumn()]
    if unit != "bytes":
        amount = [parts.MofNCompleteColumn(), parts.TextColumn(unit)]
    label = parts.TextColumn("{task.description}")
    return [label, parts.BarColumn(), *amount, parts.TimeRemainingColumn()]


def _has_rich(stream: TextIO | None) -> bool:
    if stream is None or not stream.isatty() or os.environ.get("TERM") in _DUMB:
        return False
    try:
        import rich  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return False
    return True


def _no_color() -> bool:
    return bool(os.environ.get("NO_COLOR"))


def _plain(blocks: Sequence[Block], stream: TextIO) -> str:
    lines = (line for block in blocks for line in _lines(block, _room(stream)))
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def _room(stream: TextIO) -> float:
    """Return the columns that a line may take: no end of them where no terminal folds it."""
    return shutil.get_terminal_size().columns if stream.isatty() else math.inf


_Piece = tuple[str, str]
"""A piece of a line and its style."""


def _lines(block: Block, room: float) -> Iterator[list[_Piece]]:
    """Yield the lines of a block; a table that is too wide has the last cell on a line of its own.

    A terminal may still break such a line, but a name can be read and copied.
    """
    if isinstance(block, str):
        yield [(printable(block), "")]
        return
    rows = [[printable(cell) for cell in row] for row in block.rows]
    lines = [list(block.columns), *rows] if block.columns else rows
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    if block.columns and sum(widths) + len(_GAP) * (len(widths) - 1) > room:
        for row in rows:
            yield from _stacked(block.columns, row)
        return
    right = _numeric(block)
    for row in lines:
        style = "bold" if row is lines[0] and block.columns else ""
        cells = [
            (_aligned(cell, width, is_number), style or _STYLES.get(cell, ""))
            for cell, width, is_number in zip(row, widths, right, strict=True)
        ]
        yield _joined(cells)


def _stacked(columns: Sequence[str], row: Sequence[str]) -> Iterator[list[_Piece]]:
    """Yield the last cell, then the others with their headings, empty ones left out."""
    yield [(row[-1], "bold")]
    pairs = zip(columns[:-1], row[:-1], strict=True)
    yield _joined(
        [
            piece
            for heading, cell in pairs
            if cell
            for piece in ((heading.lower(), "dim"), (cell, _STYLES.get(cell, "")))
        ],
        indent=_GAP,
    )


def _joined(cells: Sequence[_Piece], indent: str = "") -> list[_Piece]:
    return [(indent, ""), *(piece for cell in cells for piece in (cell, (_GAP, "")))][:-1]


def _aligned(cell: str, width: int, right: bool) -> str:  # noqa: FBT001 - mapped over columns
    blank = " " * (width - _width(cell))
    return blank + cell if right else cell + blank


def _numeric(table: Table) -> list[bool]:
    """Say of each column whether all its cells are numbers, to be aligned right."""
    columns = zip(*table.rows, strict=True)
    return [all(map(str.isdecimal, column)) for column in columns] or [False] * len(table.columns)


def _width(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(mark) else 2 if unicodedata.east_asian_width(mark) in "WF" else 1
        for mark in text
    )


def _draw(blocks: Sequence[Block], stream: TextIO) -> str:
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.text import Text  # noqa: PLC0415 - an extra

    room = _room(stream)
    console = Console(file=stream, width=int(room), no_color=_no_color(), highlight=False)
    endless = console.options.update_width(1 << 20)
    with console.capture() as capture:
        for block in blocks:
            table = _rich_table(block)
            if table and console.measure(table, options=endless).maximum <= room:
                console.print(table)
                continue
            for line in _lines(block, room):
                console.print(Text.assemble(*line), soft_wrap=True)
    return str(capture.get())


def _rich_table(block: Block) -> Any:  # noqa: ANN401 - rich is an extra: its types may be missing
    from rich import box  # noqa: PLC0415 - an extra
    from rich.table import Table as RichTable  # noqa: PLC0415 - an extra
    from rich.text import Text  # noqa: PLC0415 - an extra

    if isinstance(block, str) or not block.columns:
        return None
    table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading, is_number in zip(block.columns, _numeric(block), strict=True):
        table.add_column(Text(heading), justify="right" if is_number else "left")
    for row in block.rows:
        table.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    return table


def to_json(document: Mapping[str, Any]) -> str:
    """Return an indented JSON document in which what a terminal does not show is an escape."""
    try:
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        text = data.decode()
    except TypeError:  # a path that is no UTF-8, which orjson refuses
        text = json.dumps(document, indent=2) + "\n"
    return "\n".join(map(_json_printable, text.split("\n")))


def _json_printable(line: str) -> str:
    """Escape what orjson leaves raw, C1 and bidirectional controls: it stands inside strings."""
    if line.isprintable():
        return line
    return "".join(mark if mark.isprintable() else json.dumps(mark)[1:-1] for mark in line)
