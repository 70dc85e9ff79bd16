"""The arguments and the help of the command ``jammi-files``."""

from __future__ import annotations

import argparse
import contextlib
import os
from importlib import metadata
from typing import TYPE_CHECKING, NoReturn

from jammi_files import cli_help
from jammi_files.data_files import FileFormat
from jammi_files.errors import InvalidInputError
from jammi_files.schema import RECORD_FIELDS, ModelTask, ResultTableKind, ResultTableStatus

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction["_Parser"]  # noqa: SLF001 - has no other name

ROOT_VARIABLE = "JAMMI_FILES_ROOT"
SHELLS = ("bash", "zsh", "tcsh")
_NESTED = {"text_columns", "input_anchors", "properties", "lease"}
SORTABLE = [name for name in RECORD_FIELDS if name not in _NESTED]
"""The columns that hold one value each."""
_LONGEST_WAIT = 86_400
_DIGITS = 19  # of 2**63, which no count reaches
_NAME = "table name, or a beginning that no other has"


class _Parser(argparse.ArgumentParser):
    """Words an error in one line and leaves the printing to `main`."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{message}; see '{self.prog} --help'")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; its errors are `InvalidInputError`."""
    parser = _Parser(
        prog="jammi-files",
        description="Materialised ML results in a directory: publish, verify, trace, recover.",
        epilog=cli_help.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = f"jammi-files {metadata.version('jammi_files')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_import(commands)
    _add_ls(commands)
    _add_show(commands)
    _add_open(commands)
    _add_status(commands)
    _add_why(commands)
    _add_lineage(commands)
    _add_publish(commands)
    _add_verify(commands)
    _add_recover(commands)
    _add_history(commands)
    _add_diff(commands)
    _add_watch(commands)
    _add_fsck(commands)
    _add_vacuum(commands)
    _add_tag(commands)
    _add_export(commands)
    _add_copy(commands)
    _add_report(commands)
    _add_serve(commands)
    _add_completion(commands)
    return parser


def _add_import(commands: _Commands) -> None:
    command = _add(commands, "import", "bring in the results of a jammi-db directory")
    command.add_argument("directory", metavar="DIR", type=_path, help="where catalog.db is")
    reference = "leave the files where they are and record their absolute paths"
    command.add_argument("--reference", action="store_true", help=reference)
    verify = "verify the results afterwards and show verdicts and edges"
    command.add_argument("--verify", action="store_true", help=verify)


def _add_ls(commands: _Commands) -> None:
    command = _add(commands, "ls", "list results, oldest first")
    command.add_argument("--status", choices=_values(ResultTableStatus), help="only of this status")
    command.add_argument("--source", metavar="S", help="only of this source")
    command.add_argument("--model", metavar="M", help="only of this model or program")
    task = "only of this task: one of %(choices)s"
    command.add_argument("--task", metavar="T", choices=_values(ModelTask), help=task)
    kind = "only of this kind: one of %(choices)s"
    command.add_argument("--kind", metavar="K", choices=_values(ResultTableKind), help=kind)
    pattern = "only names that match, e.g. 'docs__*'"
    command.add_argument("--name", metavar="PATTERN", help=pattern)
    order = "order by this column, oldest or smallest first (default: %(default)s)"
    command.add_argument(
        "--sort", metavar="COLUMN", choices=SORTABLE, default="created_at", help=order
    )
    command.add_argument("--reverse", action="store_true", help="turn the order round")
    command.add_argument("--limit", metavar="N", type=_count, help="only the first N")
    columns = "only these columns of the row, separated by commas"
    command.add_argument("--columns", metavar="C,C", type=_columns, help=columns)


def _add_show(commands: _Commands) -> None:
    command = _add(commands, "show", "show one result: row, sidecar, location")
    command.add_argument("name", metavar="NAME", help=_NAME)


def _add_open(commands: _Commands) -> None:
    command = _add(commands, "open", "show the first rows of a result's data")
    command.add_argument("name", metavar="NAME", help=_NAME)
    rows = "how many rows (default: %(default)s)"
    command.add_argument("--rows", metavar="N", type=_count, default=10, help=rows)
    columns = "only these columns of the data, separated by commas"
    command.add_argument("--columns", metavar="C,C", type=_split, help=columns)


def _add_status(commands: _Commands) -> None:
    command = _add(commands, "status", "say which results still hold and which are stale")
    _add_freshness(command, default="exists")


def _add_why(commands: _Commands) -> None:
    command = _add(commands, "why", "say in words why a result still holds or not")
    command.add_argument("name", metavar="NAME", help=_NAME)
    _add_freshness(command, default="sidecar")


def _add_freshness(command: argparse.ArgumentParser, *, default: str) -> None:
    current = "where a source is now, to be compared; may be repeated"
    command.add_argument(
        "--current", metavar="SOURCE=PATH", type=_pair, action="append", default=[], help=current
    )
    check = "look at the data of inputs: one of %(choices)s (default: %(default)s)"
    choices = ["no", "exists", "sidecar", "size", "digest"]
    command.add_argument("--check", metavar="C", choices=choices, default=default, help=check)


def _add_lineage(commands: _Commands) -> None:
    command = _add(commands, "lineage", "show what a result was made from, and what from it")
    command.add_argument("name", metavar="NAME", help=_NAME)
    form = "one of %(choices)s (default: tree)"
    choices = ["tree", "dot", "mermaid", "json", "openlineage"]
    command.add_argument("--format", metavar="F", choices=choices, help=form)


def _add_publish(commands: _Commands) -> None:
    summary = "make a Parquet, CSV or Arrow file a ready, attested result"
    command = _add(commands, "publish", summary)
    command.add_argument(
        "file", metavar="FILE", type=_path, help="the file; its suffix tells the format"
    )
    command.add_argument("--source", metavar="S", required=True, help="id of the source (required)")
    model = "id of the model or program behind the rows (default: %(default)s)"
    command.add_argument("--model", metavar="M", default="external", help=model)
    task = "one of %(choices)s (default: %(default)s)"
    tasks = _values(ModelTask)
    default = ModelTask.CLASSIFICATION.value  # an embedding task would enter the resolver
    command.add_argument("--task", metavar="T", choices=tasks, default=default, help=task)
    kinds, kind = _values(ResultTableKind), ResultTableKind.MODEL.value
    command.add_argument("--kind", metavar="K", choices=kinds, default=kind, help=task)
    formats = _values(FileFormat)
    command.add_argument("--format", choices=formats, help="where the suffix does not tell it")
    again = "if this very file is such a result already, publish nothing and name that one"
    command.add_argument("--reuse", action="store_true", help=again)
    parent = "result that this one derives from; its digest becomes a second input"
    command.add_argument("--derived-from", metavar="NAME", help=parent)
    command.add_argument("--dimensions", metavar="N", type=int, help="width of the vectors")
    command.add_argument("--key-column", metavar="C", help="key column of the source")
    text = "text column of the source; may be repeated"
    command.add_argument(
        "--text-column", dest="text_columns", metavar="C", action="append", help=text
    )
    command.add_argument(
        "--property",
        dest="properties",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="free note; may be repeated",
    )


def _add_verify(commands: _Commands) -> None:
    command = _add(commands, "verify", "judge results by their sidecar, bytes and row")
    command.add_argument("names", metavar="NAME", nargs="*", help="names, or beginnings of names")
    command.add_argument("--all", action="store_true", help="every ready result (default)")
    key = "PEM of an Ed25519 key; results must be signed by it, or by one of several"
    command.add_argument(
        "--public-key", metavar="FILE", type=_path, action="append", default=[], help=key
    )
    files = "judge the files in a directory, without a catalog; needs --public-key"
    command.add_argument("--files", metavar="DIR", type=_path, help=files)


def _add_recover(commands: _Commands) -> None:
    command = _add(commands, "recover", "end what crashed builds have left")
    command.add_argument("--dry-run", action="store_true", help="only say what would be done")
    command.add_argument("--reap", action="store_true", help="delete data that nothing attests")


def _add_history(commands: _Commands) -> None:
    command = _add(commands, "history", "list commits, oldest first")
    command.add_argument("--limit", metavar="N", type=int, help="only the newest N")


def _add_diff(commands: _Commands) -> None:
    command = _add(commands, "diff", "show what differs between two versions")
    version = "a version or a tag"
    command.add_argument("old", metavar="V1", type=_count_or_text, help=version)
    newer = "the same (default: the newest)"
    command.add_argument("new", metavar="V2", type=_count_or_text, nargs="?", help=newer)


def _add_watch(commands: _Commands) -> None:
    command = _add(commands, "watch", "show commits as they happen, until Ctrl-C")
    since = "begin after this version (default: the newest)"
    command.add_argument("--since", metavar="V", type=_count, help=since)
    command.add_argument("--limit", metavar="N", type=_count, help="end after N commits")
    interval = "seconds between two looks (default: %(default)s)"
    command.add_argument("--interval", metavar="S", type=_seconds, default=1.0, help=interval)


def _add_fsck(commands: _Commands) -> None:
    command = _add(commands, "fsck", "check a whole root, or mend it")
    command.add_argument("--deep", action="store_true", help="digest every data object")
    command.add_argument("--repair", action="store_true", help="mend what loses nothing")
    plan = "with --repair: only say what would be done"
    command.add_argument("--dry-run", action="store_true", help=plan)
    owner = "with --repair: whose the results are that do not say it"
    command.add_argument("--owner", metavar="UUID|global", help=owner)
    loss = "with --repair: go back to what is readable, and give up the rest"
    command.add_argument("--accept-loss", action="store_true", help=loss)
    known = "with --repair: the catalog's id, where format.json is lost"
    command.add_argument("--catalog-id", metavar="ID", help=known)


def _add_vacuum(commands: _Commands) -> None:
    command = _add(commands, "vacuum", "retire old versions, delete what nothing needs")
    age = "grace: seconds, or e.g. 12h, 7d, 2w (default: %(default)s)"
    command.add_argument("--older-than", metavar="AGE", type=_count_or_text, default="7d", help=age)
    last = "keep the newest N versions, however old (default: %(default)s)"
    command.add_argument("--keep-last", metavar="N", type=int, default=1, help=last)
    dry = "only say what would be done (default)"
    action = argparse.BooleanOptionalAction
    command.add_argument("--dry-run", action=action, default=True, help=dry)


def _add_tag(commands: _Commands) -> None:
    command = _add(commands, "tag", "name versions that vacuum must keep")
    command.add_argument("name", metavar="NAME", nargs="?", help="the tag")
    version = "the version that it names (default: the newest)"
    command.add_argument("--version", metavar="N", type=int, help=version)
    command.add_argument("--delete", metavar="NAME", help="remove this tag")


def _add_export(commands: _Commands) -> None:
    command = _add(commands, "export", "write results as a jammi-db directory")
    command.add_argument("directory", metavar="DIR", type=_path, help="directory to write to")


def _add_copy(commands: _Commands) -> None:
    command = _begin(commands, "copy", "copy a whole root to another directory or bucket")
    command.add_argument("source", metavar="SRC", type=_path, help="root to copy, of all tenants")
    command.add_argument(
        "destination", metavar="DST", type=_path, help="nothing yet, or an earlier copy"
    )
    foreign = "copy what no row names, too"
    command.add_argument("--foreign", action="store_true", help=foreign)
    fast = "tell objects by their sizes alone; check no digest"
    command.add_argument("--no-verify", dest="verify", action="store_false", help=fast)


def _add_report(commands: _Commands) -> None:
    command = _add(commands, "report", "write one HTML file that shows every result")
    command.add_argument(
        "--out", metavar="FILE", type=_path, required=True, help="the file (required)"
    )
    fast = "read no data: the page shows no verdicts"
    command.add_argument("--no-verify", dest="verify", action="store_false", help=fast)


def _add_serve(commands: _Commands) -> None:
    command = _add(commands, "serve", "show the same page live, until Ctrl-C")
    port = "port on 127.0.0.1, 0 for any that is free (default: %(default)s)"
    command.add_argument("--port", metavar="N", type=_count, default=8321, help=port)


def _add_completion(commands: _Commands) -> None:
    command = _begin(commands, "completion", "print what makes a shell complete this command")
    command.add_argument("shell", choices=SHELLS, help="the shell")


def _begin(commands: _Commands, name: str, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=cli_help.DETAILS[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command


def _add(commands: _Commands, name: str, summary: str) -> argparse.ArgumentParser:
    command = _begin(commands, name, summary)
    where = f"directory or URL of the catalog (default: ${ROOT_VARIABLE})"
    command.add_argument("--root", default=os.environ.get(ROOT_VARIABLE), help=where)
    scope = command.add_mutually_exclusive_group()
    scope.add_argument("--tenant", metavar="UUID", help="act for this tenant")
    scope.add_argument("--admin", action="store_true", help="see the results of every tenant")
    return command


def _values(enum: type[ModelTask | ResultTableKind | ResultTableStatus | FileFormat]) -> list[str]:
    return [member.value for member in enum]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, not {text!r}")
    return key, value


def _path(text: str) -> str:
    if not text:  # as of a variable that is not set: it would be the current directory
        raise argparse.ArgumentTypeError("expected a path, not ''")
    return text


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < _DIGITS:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a count, not {text!r}")


def _count_or_text(text: str) -> int | str:
    return _count(text) if text.isascii() and text.isdecimal() else text


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) <= _LONGEST_WAIT:
            return seconds
    raise argparse.ArgumentTypeError(f"expected seconds up to {_LONGEST_WAIT}, not {text!r}")


def _split(text: str) -> list[str]:
    return list(dict.fromkeys(text.split(",")))


def _columns(text: str) -> list[str]:
    names = _split(text)
    unknown = [name for name in names if name not in RECORD_FIELDS]
    if unknown:
        known = ", ".join(RECORD_FIELDS)
        raise argparse.ArgumentTypeError(f"no column {unknown[0]!r}; the columns are {known}")
    return names
