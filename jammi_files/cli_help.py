"""What ``jammi-files COMMAND --help`` says below its arguments: behaviour, examples, JSON keys."""

from __future__ import annotations

EPILOG = """\
exit codes:
  0    done, and nothing is wrong
  1    something is wrong with a result: a negative verdict, a stale result, an error
       found by fsck, a table that could not be imported or exported
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

IMPORT = """\
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

LS = """\
Without --tenant and --admin only results without a tenant are shown; with --tenant also those.
Every filter given must hold. Rows without a value in the column of --sort come last.

examples:
  jammi-files ls --root ./results --source docs --status ready
  jammi-files ls --sort row_count --reverse --limit 10 --columns table_name,row_count

json:
  version, tables[] of all columns of a row, or of --columns
"""

SHOW = """\
example:
  jammi-files show "$NAME" --root ./results --json | jq .sidecar.definition_hash

json:
  table (all columns of the row), location, sidecar (null if there is none), sidecar_error (null
  unless it is damaged), derives_from[] of {input, derived, kind}: what was made from this table
"""

OPEN = """\
Values are shortened for people: vectors, long text and bytes; with --json they are whole.

example:
  jammi-files open "$NAME" --rows 3 --columns _row_id,vector --root ./results

json:
  table_name, location, row_count (of the whole result), columns[] of {name, type}, rows[] by
  column; bytes are base64, instants and decimals text, NaN and infinities null
"""

STATUS = """\
A result is stale when an input advanced, vanished or was made again, or an ancestor is stale. It is
undecidable when nobody here can look at an input: say with --current where a source is, a file or
a directory. missing_manifest: it carries no contract. Exit code 1: a result is stale.

examples:
  jammi-files status --root ./results
  jammi-files status --current docs=docs.csv --root ./results --json | jq .counts

json:
  ok (nothing is stale), version, counts {staleness: results}, results[] of {table_name, staleness
  (fresh, stale, undecidable or missing_manifest), is_stale, reasons[] of {reason, source, recorded,
  current, newer, ancestor}, unpinned[], explanation}
"""

WHY = """\
Every reason says what helps: first those of the result itself, then its ancestors', nearest first.
Exit code 1: the result is stale.

example:
  jammi-files why "$NAME" --current docs=docs.csv --root ./results

json:
  table_name, staleness, is_stale, reasons[] of {reason, more that depends on it}, unpinned[], more
  (stale ancestors that are left out), explanation
"""

LINEAGE = """\
Only visible ready results take part. dot is for Graphviz; openlineage is one COMPLETE event a line
for each result of the lineage, inputs first.

examples:
  jammi-files lineage "$NAME" --root ./results
  jammi-files lineage "$NAME" --format dot --root ./results | dot -Tsvg -o lineage.svg

json (also --format json):
  table_name, upstream[] and downstream[] of {input, derived, kind}
"""

PUBLISH = """\
The file is read in batches and becomes a Parquet result of the tenant (without --tenant: of none).
Its SHA-256 is part of the definition and pins the source as the input, so that 'status --current'
sees whether the file has changed. A file that breaks off in the middle leaves a failed row that
says so. The root is created if there is none.

Each time is a new result, unless --reuse finds one of the same content, made by these versions of
the libraries, with the same source, model, task and other options, whose bytes are right.

examples:
  jammi-files publish labels.csv --source docs --model my-tagger --reuse --root ./results
  jammi-files publish vectors.parquet --source docs --model minilm --task text_embedding \\
      --dimensions 384 --key-column _row_id --root ./results

json:
  new_catalog, reused, and the keys of 'show'
"""

VERIFY = """\
A verdict is match, match_with_unpinned_inputs (the bytes are right, but an input may have changed
since), mismatch, missing_manifest or missing_artifact; with a key also unsigned or bad_signature.
Exit code 1: one of the last five, or a sidecar that is damaged.

examples:
  jammi-files verify --all --admin --root ./results
  jammi-files verify "$NAME" --root ./results
  jammi-files verify --public-key key.pem --root ./results
  jammi-files verify --public-key key.pem --files ./downloaded

json:
  ok, results[] of {table_name, ok, verdict, unpinned[], expected, found, reason, error}; verdict is
  null where error says why there is none
"""

RECOVER = """\
A live build is never touched. Builds of all tenants are ended; --tenant says whose are reported.
Data without attestation stays under a failed row (quarantine) unless --reap deletes it.

example:
  jammi-files recover --dry-run --root ./results

json:
  dry_run, actions[] of {table_name, action, reason}; action is promote, fail, quarantine, reap,
  sweep or skip
"""

HISTORY = """\
Shown are commits that changed a visible result, with the names of those; --admin shows every one.

example:
  jammi-files history --limit 10 --admin --root ./results

json:
  commits[] of {version, commit_id, operation, committed_at, writer, tables[]}
"""

DIFF = """\
Shown is the net difference as the tenant sees it. V1 is the older one; a version is a number of
'history' or a tag.

examples:
  jammi-files diff 12 15 --root ./results
  jammi-files diff release-7 --root ./results --json | jq '.changes[].table_name'

json:
  old and new (versions), changes[] of {table_name, change (insert, update or delete), version (that
  made it), columns[] that an update changed, before and after (all columns of the row, or null)}
"""

WATCH = """\
One line a commit that changed a visible result; --admin shows every one. It reads only, and looks
for one object each time. Ctrl-C ends it with exit code 0.

examples:
  jammi-files watch --root ./results
  jammi-files watch --since 0 --limit 5 --json --root ./results

json, one document a line:
  version, commit_id, operation, committed_at, writer, tables[]
"""

FSCK = """\
With --tenant only what that tenant sees is checked, else all rows and the catalog's own objects.
Notices are what a crash may leave: harmless. Exit code 1: an error was found.

With --repair the whole root is mended as far as that loses nothing: a lost catalog is made anew
from the results, dead builds are ended. What loses something is done only with --accept-loss.
Where a result does not say whose it is, --owner must. Where format.json is lost, --catalog-id says
by which id copies know the catalog.

examples:
  jammi-files fsck --deep --root ./results
  jammi-files fsck --repair --dry-run --root ./results

json:
  ok, deep, findings[] of {severity, kind, subject, detail, remedy, repair}; remedy is repair,
  recover, vacuum, restore, upgrade or report. repair (null without --repair): {dry_run, version,
  actions[] of {step, subject, reason, loses}}; findings are then those that remain
"""

VACUUM = """\
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

TAG = """\
A tagged version is never retired by vacuum. Without NAME the tags are listed. Tags belong to the
whole catalog, so --tenant may only list them.

examples:
  jammi-files tag release-7 --root ./results
  jammi-files tag before-migration --version 41 --root ./results
  jammi-files tag --delete release-6 --root ./results

json:
  tags: {name: version}
"""

EXPORT = """\
Exported is what 'ls' shows: give --admin for all tenants. DIR must hold no catalog.db. Export to
the place where the engine will run: its catalog names files by absolute path.

example:
  jammi-files export /srv/engine --admin --root ./results

json:
  ok, directory, exported[], skipped[] and remarks[] of {table_name, problem}
"""

COPY = """\
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

REPORT = """\
The file loads nothing from elsewhere: counts, a table with search and filters, and for each result
its row, anchors, descriptor, verdict and lineage. It shows what 'ls' shows: give --admin for all
tenants. A file that is there is replaced. Exit code 1: a verdict is negative.

example:
  jammi-files report --out report.html --root ./results

json:
  ok, out, bytes, version, results (how many)
"""

SERVE = """\
The page follows the catalog and reads it only. It is answered on 127.0.0.1 alone, to whoever is on
this machine, and shows what 'ls' shows. Verdicts are given where they are asked for. Ctrl-C ends it
with exit code 0.

example:
  jammi-files serve --port 8321 --root ./results

json, on one line:
  url
"""

COMPLETION = """\
Needs jammi_files[cli]. Print it to where the shell looks for it, or evaluate it at the start.

examples:
  jammi-files completion bash > ~/.local/share/bash-completion/completions/jammi-files
  jammi-files completion zsh > ~/.zfunc/_jammi-files

json:
  shell, script
"""

DETAILS = {
    "import": IMPORT,
    "ls": LS,
    "show": SHOW,
    "open": OPEN,
    "status": STATUS,
    "why": WHY,
    "lineage": LINEAGE,
    "publish": PUBLISH,
    "verify": VERIFY,
    "recover": RECOVER,
    "history": HISTORY,
    "diff": DIFF,
    "watch": WATCH,
    "fsck": FSCK,
    "vacuum": VACUUM,
    "tag": TAG,
    "export": EXPORT,
    "copy": COPY,
    "report": REPORT,
    "serve": SERVE,
    "completion": COMPLETION,
}
"""What each command's help says below its arguments."""
