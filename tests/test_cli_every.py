"""Every command, whichever there are: its JSON, its silence in a pipe, and one line for a mistake.

The commands and their arguments are what the parser says; a new command fails here until the table
`arguments` holds how it is used.
"""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pyarrow.csv
import pytest
from support.results import DATA, build
from support.rights import owners_only

from jammi_files.cli import main
from jammi_files.cli_parser import make_parser

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
PARSERS = next(each for each in make_parser()._actions if each.dest == "command").choices
ENDLESS = "serve"
"""The command that ends only by an interrupt; `test_serving` runs it as a process."""
NAMED = [
    name
    for name, parser in PARSERS.items()
    if any(each.metavar == "NAME" for each in parser._actions) and name not in ("tag", "publish")
]
IN_A_ROOT = [
    name for name, parser in PARSERS.items() if any(each.dest == "root" for each in parser._actions)
]
PATHS = [
    (name, each.metavar)
    for name, parser in PARSERS.items()
    for each in parser._actions
    if each.metavar in ("DIR", "FILE", "SRC", "DST")
]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Ask for colours as loudly as an environment can, on a terminal that is narrow."""
    for name in ("JAMMI_FILES_ROOT", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "40", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)


def table(root, place, name):
    """Return how each command is used on ``root``; files go to ``place``."""
    rows = place / "rows.csv"
    pyarrow.csv.write_csv(DATA, rows)
    used = {
        "import": [FIXTURE, "--verify"],
        "ls": [],
        "show": [name],
        "open": [name],
        "status": [],
        "why": [name],
        "lineage": [name],
        "publish": [rows, "--source", "docs"],
        "verify": ["--all"],
        "recover": [],
        "history": [],
        "diff": ["0"],
        "watch": ["--since", "0", "--limit", "1"],
        "fsck": ["--deep"],
        "vacuum": ["--older-than", "0", "--no-dry-run"],
        "tag": ["release"],
        "export": [place / "exported"],
        "copy": [root, place / "copy"],
        "report": ["--out", place / "report.html"],
        "serve": ["--port", "0"],
        "completion": ["bash"],
    }
    return {
        command: [str(each) for each in (command, *argv)]
        + (["--root", str(root)] if command in IN_A_ROOT else [])
        for command, argv in used.items()
    }


@pytest.fixture
def arguments(store, root, tmp_path):
    """Return how each command is used, on a root with two results."""
    build(store)
    return table(root, tmp_path, build(store))


@pytest.fixture
def call(capsys):
    """Return a function that runs a command: (code, standard output, error)."""

    def run(argv):
        code = main(argv)
        return code, *capsys.readouterr()

    return run


def is_one_line(err):
    return err.startswith("jammi-files: ") and err.count("\n") == 1 and err.endswith("\n")


def test_every_command_is_in_the_table(arguments):
    """No command of the parser is left out."""
    assert arguments.keys() == PARSERS.keys()


# --- what it prints ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", sorted(PARSERS.keys() - {ENDLESS}))
def test_json_is_one_document(command, arguments, call):
    """With ``--json`` standard output is one document, whose keys the help names, and no more."""
    code, out, err = call([*arguments[command], "--json"])
    assert (code, err) == (0, "")
    document = orjson.loads(out)
    _, help_text, _ = call([command, "--help"])
    keys = document.keys()
    if command == "publish":
        assert "keys of 'show'" in help_text
        keys = keys - orjson.loads(call([*arguments["show"], "--json"])[1]).keys()
    assert [key for key in keys if key not in help_text] == []
    assert "example" in help_text


@pytest.mark.parametrize("command", sorted(PARSERS.keys() - {ENDLESS}))
def test_pipe_is_plain(command, arguments, call):
    """In a pipe there is neither colour nor bar nor any other control character."""
    code, out, err = call(arguments[command])
    assert (code, err) == (0, "")
    assert out
    assert out.replace("\n", "").replace("\t", "").isprintable()


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


BARS = {
    "publish": ("Publishing", "bytes"),
    "copy": ("Copying", "bytes"),
    "verify": ("Verifying", "rows"),
    "import": ("Importing", "results"),
    "export": ("Exporting", "results"),
    "vacuum": ("Removing", "objects"),
}


@pytest.mark.parametrize("command", BARS)
def test_long_work_has_a_bar(command, arguments, capsys, monkeypatch):
    """On a terminal long work shows a bar with its amount and the time left; JSON stays alone."""
    pytest.importorskip("rich")
    label, amount = BARS[command]
    screen = Screen()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", screen)
    assert main([*arguments[command], "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(rf"{label} .*\d.* {amount}.* (\d:\d\d:\d\d|-:--:--)", shown), shown


def on_a_terminal(argv, **environment):
    """Run a command on a pseudo-terminal of its own; return its code and all that it drew."""
    ours, theirs = pty.openpty()
    with contextlib.closing(os.fdopen(ours, "rb", buffering=0)) as screen:
        program = subprocess.Popen(
            [sys.executable, "-m", "jammi_files", *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "COLUMNS": "200", **environment},
        )
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # how Linux says that nobody holds the other side
            while block := screen.read(4096):
                drawn += block
        return program.wait(timeout=300), drawn.decode()


def test_real_terminal(arguments, monkeypatch):
    """A terminal gets colours and a bar, without colours if it says so, and a dumb one plain text.

    A bar moves the cursor, which a dumb terminal cannot.
    """
    pytest.importorskip("rich")
    monkeypatch.delenv("FORCE_COLOR")
    name = arguments["show"][1]
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9][;m]")
    code, drawn = on_a_terminal(arguments["verify"], TERM="xterm-256color")
    assert (code, "Verifying" in drawn, bool(colour.search(drawn))) == (0, True, True)
    code, drawn = on_a_terminal(arguments["verify"], TERM="xterm-256color", NO_COLOR="1")
    assert (code, "Verifying" in drawn, bool(colour.search(drawn))) == (0, True, False)
    code, drawn = on_a_terminal(arguments["verify"], TERM="dumb")
    assert (code, "Verifying" in drawn, "\x1b" in drawn) == (0, False, False)
    lines = [line.rstrip() for line in drawn.splitlines()]
    assert lines[0].split() == ["VERDICT", "DETAIL", "TABLE"]
    assert [line for line in lines if line.endswith(name)]
    assert lines[-1] == "2 verified: 2 match"


# --- mistakes ----------------------------------------------------------------------------------


def damaged(pattern):
    def damage(root):
        for path in [*root.glob(pattern)]:
            path.write_bytes(b"garbage")

    return damage


def replaced_by(make):
    def replace(root):
        shutil.rmtree(root)
        make(root)

    return replace


ROOTS = {
    "file": (replaced_by(lambda root: root.write_text("x")), {3}),
    "below a file": (lambda root: (root.rename(root.with_name("r")), root.write_text("x")), {3}),
    "symbolic loop": (replaced_by(lambda root: root.symlink_to(root.name)), {3}),
    "garbage format": (damaged("_catalog/format.json"), {0, 1, 3}),
    "garbage versions": (damaged("_catalog/manifest/*/*"), {1, 3}),
    "garbage data": (damaged("*.parquet"), {0, 1, 3}),
    "garbage sidecars": (damaged("*.materialization.json"), {0, 1, 3}),
}


@pytest.mark.parametrize("mistake", ROOTS)
@pytest.mark.parametrize("command", sorted({*IN_A_ROOT, "copy"} - {ENDLESS}))
def test_root_that_is_none_or_damaged(command, mistake, arguments, root, call):
    """A root that is no directory, and garbage in it, is a verdict or one line, never a traceback.

    A file in the place of the catalog is refused; damage of results is told by exit code 1, or 3
    where it leaves nothing to answer.
    """
    damage, codes = ROOTS[mistake]
    damage(root)
    argv = arguments[command]
    if mistake == "below a file":
        argv = [each.replace(str(root), f"{root}/inside") for each in argv]
    code, out, err = call(argv)
    assert code in codes
    assert is_one_line(err) if code == 3 else err == ""
    assert not out or code < 3 or command == "watch"  # which says at once what it watches


@pytest.mark.parametrize("command", sorted(IN_A_ROOT))
def test_bad_tenant(command, arguments, call):
    """A tenant that is no UUID is wrong usage of every command that takes one."""
    code, out, err = call([*arguments[command], "--tenant", "nobody"])
    assert (code, out) == (2, "")
    assert is_one_line(err)


@pytest.mark.parametrize("command", NAMED)
def test_wrong_name(command, arguments, root, call):
    """A name that nothing has is an error of every command that takes one."""
    assert arguments
    code, out, err = call([command, "nothing", "--root", str(root)])
    assert (code, out, err) == (3, "", "jammi-files: Result table 'nothing' not found\n")


@pytest.mark.parametrize("command", sorted(PARSERS))
def test_unknown_option(command, arguments, call):
    """An option that a command has not, or only in full, is wrong usage."""
    for option in ("--nonsense", "--jso"):
        code, out, err = call([*arguments[command], option])
        assert (code, out) == (2, "")
        assert is_one_line(err)
        assert f"jammi-files {command} --help" in err or "jammi-files --help" in err


@pytest.mark.parametrize(("command", "metavar"), PATHS)
def test_wrong_path(command, metavar, arguments, tmp_path, call):
    """A path that is empty, below a file or of the wrong type is one line, and makes nothing."""
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    argv = arguments[command]
    if command == "publish":
        argv += ["--format", "csv"]
    if command == "verify":
        (tmp_path / "key").write_bytes(bytes(32))
        option = {"FILE": ["--public-key"], "DIR": ["--public-key", tmp_path / "key", "--files"]}
        argv[1:2] = [*map(str, option[metavar]), "path"]
    # Options stand behind the paths, but for those that take one; DST is the second of two.
    places = {"report": 2, "copy": 1 + (metavar == "DST"), "verify": 2 + 2 * (metavar == "DIR")}
    place = places.get(command, 1)
    wrong = {"DIR": "file", "FILE": "directory", "SRC": "directory", "DST": "file"}[metavar]
    before = sorted(tmp_path.rglob("*"))
    for path in ("", str(tmp_path / "file" / "x.csv"), str(tmp_path / wrong)):
        argv[place] = path
        code, out, err = call(argv)
        assert (code in (2, 3), out) == (True, "")
        assert path or code == 2
        assert is_one_line(err)
        assert path in err
    assert sorted(tmp_path.rglob("*")) == before


CHANGING = {"import", "publish", "tag", "vacuum"}


@pytest.mark.parametrize("command", sorted({*IN_A_ROOT, "copy"} - {ENDLESS}))
@pytest.mark.parametrize("mode", [0o000, 0o555], ids=["unreadable", "unwritable"])
def test_root_without_permission(command, mode, arguments, root, call):
    """A root that may not be read or written is one line of each command that wants to."""
    within = [root, *root.rglob("*")]
    for path in within:
        path.chmod(mode if path.is_dir() else mode & 0o444)
    try:
        with owners_only():
            code, out, err = call(arguments[command])
    finally:
        for path in within:
            path.chmod(0o755)
    refused = mode == 0 or command in CHANGING
    assert code == (3 if refused else 0), (out, err)
    assert not refused or (is_one_line(err) and "ermission denied" in err), err
    assert bool(out) is not refused or command == "watch"  # which says at once what it watches


@pytest.mark.parametrize("command", sorted({*IN_A_ROOT, "copy"}))
def test_interrupt(command, arguments, root, call, monkeypatch):
    """Ctrl-C while the root is read is exit code 130 and one line, whatever the command."""
    actual = io.FileIO

    def interrupted(path, *more, **options):
        if str(path).startswith(str(root)):
            raise KeyboardInterrupt
        return actual(path, *more, **options)

    monkeypatch.setattr(io, "FileIO", interrupted)
    assert call(arguments[command]) == (130, "", "jammi-files: interrupted\n")
