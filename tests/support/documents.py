"""The tables of a Markdown document, as the tests that compare them with the code read them."""

from __future__ import annotations

from collections.abc import Iterator


def table(text: str, first_column: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is ``first_column``."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first_column} |"):
            next(lines)
            return [_cells(row) for row in _body(lines)]
    raise AssertionError(first_column)


def bare(cell: str) -> str:
    """Return a cell's text without the marks of code."""
    return cell.strip("`")


def _body(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]
