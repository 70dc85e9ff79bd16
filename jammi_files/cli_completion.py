"""The script by which a shell completes the command; made by shtab, an extra."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from jammi_files.cli_parser import make_parser
from jammi_files.errors import InvalidInputError

_FILES = {"DIR", "FILE", "SRC", "DST"}
"""What the help calls an argument that is a path."""


def completion(shell: str) -> str:
    """Return the script for bash, zsh or tcsh.

    Raises:
        InvalidInputError: shtab is not installed.
    """
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ImportError as error:
        message = "completion needs shtab: pip install 'jammi_files[cli]'"
        raise InvalidInputError(message) from error
    parser = make_parser()
    for action in _arguments(parser):
        if action.metavar in _FILES or action.dest == "root":
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # as shtab documents it
    return str(shtab.complete(parser, shell))


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse tells it in no other way
        yield action
        for inner in dict(action.choices or {}).values() if action.dest == "command" else ():
            yield from _arguments(inner)
