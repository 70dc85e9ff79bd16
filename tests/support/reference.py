"""The page ``jammi_files/docs/cli.md``, made from the parser; run this file to write it anew."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import jammi_files
from jammi_files.cli_parser import ROOT_VARIABLE, make_parser

PLACE = Path(jammi_files.__file__).parent / "docs" / "cli.md"
_SHARED = {"help", "json", "root", "tenant", "admin"}
_HEAD = f"""\
# The command `jammi-files`

Made from the help texts. Every command takes `--json` (one JSON document on standard output) and,
where it opens a catalog, `--root ROOT` (a directory or URL; without it `${ROOT_VARIABLE}`) and
`--tenant UUID` or `--admin`. In a pipe there is neither colour nor progress bar; control characters
of names are printed as escapes.
"""


def reference() -> str:
    """Return the page: each command with its arguments and what its help says below them."""
    parser = make_parser()
    commands = next(each for each in parser._actions if each.dest == "command")
    assert isinstance(commands, argparse._SubParsersAction)
    summaries = {each.dest: each.help for each in commands._choices_actions}
    contents = [f"- [`{name}`](#{name}): {summary}" for name, summary in summaries.items()]
    parts = [_HEAD, "\n".join(contents) + "\n", f"```text\n{parser.epilog}```\n"]
    for name, command in commands.choices.items():
        parts.append(f"## {name}\n\n{command.description}\n")
        arguments = [*_arguments(command)]
        if arguments:
            parts.append("\n".join(["| argument | |", "|---|---|", *arguments]) + "\n")
        parts.append(f"```text\n{command.epilog}```\n")
    return "\n".join(parts)


def _arguments(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in command._actions:
        if action.dest not in _SHARED:
            values = {key: value for key, value in vars(action).items() if value is not None}
            if action.choices:
                values["choices"] = ", ".join(map(str, action.choices))
            text = (action.help or "") % values
            choices = "" if "%(choices)" in (action.help or "") else values.get("choices", "")
            more = f" ({choices})" if choices else ""
            yield f"| `{_spelling(action)}` | {text}{more} |".replace("UUID|", "UUID\\|")


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar or action.dest)
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return ", ".join(action.option_strings) + value


if __name__ == "__main__":
    PLACE.parent.mkdir(exist_ok=True)
    PLACE.write_text(reference(), encoding="utf-8")
