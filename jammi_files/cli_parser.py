"""The arguments and the help of the command ``jammi-files``."""

from __future__ import annotations

import argparse
import os
from importlib import metadata
from typing import TYPE_CHECKING, NoReturn

from jammi_files.data_files import FileFormat
from jammi_files.errors import InvalidInputError
from jammi_files.schema import ModelTask, ResultTableKind, ResultTableStatus

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction["_Parser"]  # noqa: SLF001 - has no other name

ROOT_VARIABLE = "JAMMI_FILES_ROOT"

_EPILOG = """\
exit codes:
  0    done, and nothing is wrong
  1    something is wrong with a result: a negative verdict, an error found by fsck,
       a table that could not be imported or exported
  2    wrong arguments; nothing was done
  3    an error, e.g. no catalog at the root
  130  interrupted
  141  the reader of the output went away

examples:
  jammi-files import ./engine --root ./results --verify
  jammi-files ls --root ./results --status ready
  export JAMMI_FILES_ROOT=./results
  jammi-files verify --all --json | jq .ok

'jammi-files COMMAND --help' says more of a command and lists the keys of its JSON.
"""

_IMPORT = """\
Rows keep their tenant. All of them are shown, unless --tenant says whose. What is here already is
left alone, so the command may be repeated. Exit code 1: a verdict is negative, or a table was
skipped. The root is created if there is none.

example:
  jammi-files import ./engine --root ./results --verify

json:
  ok, new_catalog, imported[], already_present[], skipped[] and remarks[] of {table_name, problem},
  results[] of {table_name, tenant_id, status, row_count, the keys of 'verify' (null without
  --verify), derives_from[] of {input, derived, kind}: what was made from this table}
"""

_LS = """\
Without --tenant and --admin only results without a tenant are shown; with --tenant also those.

example:
  jammi-files ls --root ./results --source docs --status ready

json:
  version, tables[] of all columns of a row
"""

_SHOW = """\
example:
  jammi-files show "$NAME" --root ./results --json | jq .sidecar.definition_hash

json:
  table (all columns of the row), location, sidecar (null if there is none), sidecar_error (null
  unless it is damaged), derives_from[] of {input, derived, kind}: what was made from this table
"""

_PUBLISH = """\
The file is read in batches and becomes a Parquet result of the tenant (without --tenant: of none).
Its SHA-256 is part of the definition and pins the source as the input. A file that breaks off in
the middle leaves a failed row that says so. The root is created if there is none.

examples:
  jammi-files publish labels.csv --source docs --model my-tagger --root ./results
  jammi-files publish vectors.parquet --source docs --model minilm --task text_embedding \\
      --dimensions 384 --key-column _row_id --root ./results

json:
  new_catalog, and the keys of 'show'
"""

_VERIFY = """\
A verdict is match, match_with_unpinned_inputs (the bytes are right, but an input may have changed
since), mismatch, missing_manifest or missing_artifact. Exit code 1: one of the last three, or a
sidecar that is damaged.

examples:
  jammi-files verify --all --admin --root ./results
  jammi-files verify "$NAME" --root ./results

json:
  ok, results[] of {table_name, ok, verdict, unpinned[], expected, found, error}; verdict is null
  where error says why there is none
"""

_RECOVER = """\
A live build is never touched. Builds of all tenants are ended; --tenant says whose are reported.
Data without attestation stays under a failed row (quarantine) unless --reap deletes it.

example:
  jammi-files recover --dry-run --root ./results

json:
  dry_run, actions[] of {table_name, action, reason}; action is promote, fail, quarantine, reap,
  sweep or skip
"""

_HISTORY = """\
Shown are commits that changed a visible result, with the names of those; --admin shows every one.

example:
  jammi-files history --limit 10 --admin --root ./results

json:
  commits[] of {version, commit_id, operation, committed_at, writer, tables[]}
"""

_FSCK = """\
With --tenant only what that tenant sees is checked, else all rows and the catalog's own objects.
Notices are what a crash may leave: harmless. Exit code 1: an error was found.

With --repair the whole root is mended as far as that loses nothing: a lost catalog is made anew
from the results, dead builds are ended. What loses something is done only with --accept-loss.
Where a result does not say whose it is, --owner must.

examples:
  jammi-files fsck --deep --root ./results
  jammi-files fsck --repair --dry-run --root ./results

json:
  ok, deep, findings[] of {severity, kind, subject, detail, remedy, repair}; remedy is repair,
  recover, vacuum, restore, upgrade or report. repair (null without --repair): {dry_run, version,
  actions[] of {step, subject, reason, loses}}; findings are then those that remain
"""

_VACUUM = """\
Kept are the newest version, tagged ones, and all that were the newest less than --older-than ago.
Versions before that are retired; segments, data and left-overs that no kept version needs are
deleted. Safe beside readers and writers. Nothing is changed without --no-dry-run. Exit code 1:
something could not be removed; the next vacuum tries again.

examples:
  jammi-files vacuum --root ./results
  jammi-files vacuum --older-than 30d --keep-last 5 --no-dry-run --root ./results

json:
  dry_run, version (that it made, or null), floor (the oldest version kept without a tag),
  versions_retired, objects_deleted, bytes_freed, actions[] and foreign[] of {key, kind, size,
  reason, error}; foreign objects are only told
"""

_TAG = """\
A tagged version is never retired by vacuum. Without NAME the tags are listed. Tags belong to the
whole catalog, so --tenant may only list them.

examples:
  jammi-files tag release-7 --root ./results
  jammi-files tag before-migration --version 41 --root ./results
  jammi-files tag --delete release-6 --root ./results

json:
  tags: {name: version}
"""

_EXPORT = """\
Exported is what 'ls' shows: give --admin for all tenants. DIR must hold no catalog.db. Export to
the place where the engine will run: its catalog names files by absolute path.

example:
  jammi-files export /srv/engine --admin --root ./results

json:
  ok, directory, exported[], skipped[] and remarks[] of {table_name, problem}
"""


_COPY = """\
SRC and DST are directories or URLs of roots. The whole root is copied: rows and results of every
tenant; other programs may go on writing to SRC. A copy that was cut off cannot be opened, and the
same command finishes it. Repeated later it brings DST forward to what SRC is then, if nothing else
has written to DST. Exit code 1: SRC lacks something that its rows promise, or it is damaged; at DST
it is the same.

examples:
  jammi-files copy ./results s3://bucket/results
  jammi-files copy s3://bucket/results /mnt/backup/results --json | jq .copied

json:
  ok, source, destination, catalog_id, version, since (the version that DST had; null if it was no
  catalog), resumed, copied and present (objects), copied_bytes, present_bytes, troubles[] of {key,
  problem}, building[] and elsewhere[] (tables whose data was not copied: not ready yet, or outside
  of the root)
"""


class _Parser(argparse.ArgumentParser):
    """Words an error in one line and leaves the printing to `main`."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{message}; see '{self.prog} --help'")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; its errors are `InvalidInputError`."""
    parser = _Parser(
        prog="jammi-files",
        description="Materialised ML results in a directory: publish, verify, trace, recover.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = f"jammi-files {metadata.version('jammi_files')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_import(commands)
    _add_ls(commands)
    _add_show(commands)
    _add_publish(commands)
    _add_verify(commands)
    _add_recover(commands)
    _add_history(commands)
    _add_fsck(commands)
    _add_vacuum(commands)
    _add_tag(commands)
    _add_export(commands)
    _add_copy(commands)
    return parser


def _add_import(commands: _Commands) -> None:
    command = _add(commands, "import", "bring in the results of a jammi-db directory", _IMPORT)
    command.add_argument("directory", metavar="DIR", help="directory that holds catalog.db")
    reference = "leave the files where they are and record their absolute paths"
    command.add_argument("--reference", action="store_true", help=reference)
    verify = "verify the results afterwards and show verdicts and edges"
    command.add_argument("--verify", action="store_true", help=verify)


def _add_ls(commands: _Commands) -> None:
    command = _add(commands, "ls", "list results, oldest first", _LS)
    command.add_argument("--status", choices=_values(ResultTableStatus), help="only of this status")
    command.add_argument("--source", metavar="S", help="only of this source")


def _add_show(commands: _Commands) -> None:
    command = _add(commands, "show", "show one result: row, sidecar, location", _SHOW)
    command.add_argument("name", metavar="NAME", help="table name")


def _add_publish(commands: _Commands) -> None:
    summary = "make a Parquet, CSV or Arrow file a ready, attested result"
    command = _add(commands, "publish", summary, _PUBLISH)
    command.add_argument("file", metavar="FILE", help="the file; its suffix tells the format")
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
        type=_property,
        action="append",
        default=[],
        help="free note; may be repeated",
    )


def _add_verify(commands: _Commands) -> None:
    command = _add(commands, "verify", "judge results by their sidecar, bytes and row", _VERIFY)
    command.add_argument("names", metavar="NAME", nargs="*", help="table names")
    command.add_argument("--all", action="store_true", help="every ready result (default)")


def _add_recover(commands: _Commands) -> None:
    command = _add(commands, "recover", "end what crashed builds have left", _RECOVER)
    command.add_argument("--dry-run", action="store_true", help="only say what would be done")
    command.add_argument("--reap", action="store_true", help="delete data that nothing attests")


def _add_history(commands: _Commands) -> None:
    command = _add(commands, "history", "list commits, oldest first", _HISTORY)
    command.add_argument("--limit", metavar="N", type=int, help="only the newest N")


def _add_fsck(commands: _Commands) -> None:
    command = _add(commands, "fsck", "check a whole root, or mend it", _FSCK)
    command.add_argument("--deep", action="store_true", help="digest every data object")
    command.add_argument("--repair", action="store_true", help="mend what loses nothing")
    plan = "with --repair: only say what would be done"
    command.add_argument("--dry-run", action="store_true", help=plan)
    owner = "with --repair: whose the results are that do not say it"
    command.add_argument("--owner", metavar="UUID|global", help=owner)
    loss = "with --repair: go back to what is readable, and give up the rest"
    command.add_argument("--accept-loss", action="store_true", help=loss)


def _add_vacuum(commands: _Commands) -> None:
    command = _add(commands, "vacuum", "retire old versions, delete what nothing needs", _VACUUM)
    age = "grace: seconds, or e.g. 12h, 7d, 2w (default: %(default)s)"
    command.add_argument("--older-than", metavar="AGE", default="7d", help=age)
    last = "keep the newest N versions, however old (default: %(default)s)"
    command.add_argument("--keep-last", metavar="N", type=int, default=1, help=last)
    dry = "only say what would be done (default)"
    action = argparse.BooleanOptionalAction
    command.add_argument("--dry-run", action=action, default=True, help=dry)


def _add_tag(commands: _Commands) -> None:
    command = _add(commands, "tag", "name versions that vacuum must keep", _TAG)
    command.add_argument("name", metavar="NAME", nargs="?", help="the tag")
    version = "the version that it names (default: the newest)"
    command.add_argument("--version", metavar="N", type=int, help=version)
    command.add_argument("--delete", metavar="NAME", help="remove this tag")


def _add_export(commands: _Commands) -> None:
    command = _add(commands, "export", "write results as a jammi-db directory", _EXPORT)
    command.add_argument("directory", metavar="DIR", help="directory to write to")


def _add_copy(commands: _Commands) -> None:
    command = _begin(commands, "copy", "copy a whole root to another directory or bucket", _COPY)
    command.add_argument("source", metavar="SRC", help="root to copy, of all tenants")
    command.add_argument("destination", metavar="DST", help="nothing yet, or an earlier copy")
    foreign = "copy what no row names, too"
    command.add_argument("--foreign", action="store_true", help=foreign)
    fast = "tell objects by their sizes alone; check no digest"
    command.add_argument("--no-verify", dest="verify", action="store_false", help=fast)


def _begin(commands: _Commands, name: str, summary: str, details: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command


def _add(commands: _Commands, name: str, summary: str, details: str) -> argparse.ArgumentParser:
    command = _begin(commands, name, summary, details)
    where = f"directory or URL of the catalog (default: ${ROOT_VARIABLE})"
    command.add_argument("--root", default=os.environ.get(ROOT_VARIABLE), help=where)
    scope = command.add_mutually_exclusive_group()
    scope.add_argument("--tenant", metavar="UUID", help="act for this tenant")
    scope.add_argument("--admin", action="store_true", help="see the results of every tenant")
    return command


def _values(enum: type[ModelTask | ResultTableKind | ResultTableStatus | FileFormat]) -> list[str]:
    return [member.value for member in enum]


def _property(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, not {text!r}")
    return key, value
