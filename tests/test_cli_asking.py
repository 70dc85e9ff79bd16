"""The commands that ask: data, freshness, lineage, differences, commits to come, completion."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from support.graphs import adopt_graph
from support.processes import running
from support.reference import PLACE, reference
from support.results import DATA, ENV, INPUTS, build
from support.results import DESCRIPTOR as EXTERNAL

from jammi_files import InputAnchor, connect
from jammi_files.cli import main

HOSTILE = 'a\x1b[31m\n\x9b"\u202e</script>'


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("JAMMI_FILES_ROOT", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def build_on(store, parent):
    """Return the name of a result that is made from another one."""
    with store.build(
        *("docs", "ner", "model", "m"),
        descriptor=EXTERNAL,
        env=ENV,
        inputs=[store.result_digest_anchor(parent)],
    ) as out:
        out.write(DATA)
    return out.table_name


def publish(ask, path, *argv):
    return ask("publish", path, "--source", "docs", *argv)["table"]["table_name"]


@pytest.fixture
def labels(tmp_path):
    """Return a file to publish."""
    path = tmp_path / "labels.csv"
    pyarrow.csv.write_csv(DATA, path)
    return path


# --- ls ----------------------------------------------------------------------------------------


@pytest.fixture
def shelf(store):
    """Make three rows that differ in every column that `ls` filters or sorts by."""
    fields = {
        "b": {"model_id": "m1", "task": "ner", "kind": "model", "source_id": "docs"},
        "c": {"model_id": "m2", "task": "regression", "kind": "model", "source_id": "docs"},
        "a": {"model_id": "m2", "task": "ner", "kind": "neighbor_graph", "source_id": "other"},
    }
    for rows, (name, columns) in enumerate(fields.items()):
        store.catalog.create_result_table(name, parquet_path=f"{name}.parquet", **columns)
        store.catalog.update_result_table_status(name, "building", 10 - rows)
    store.catalog.update_result_table_status("c", "ready", 9)
    return store


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", "b c a"),
        ("--model m2", "c a"),
        ("--task ner", "b a"),
        ("--kind neighbor_graph", "a"),
        ("--name [ab]", "b a"),
        ("--name B", ""),
        ("--source docs --model m2", "c"),
        ("--sort table_name", "a b c"),
        ("--sort table_name --reverse", "c b a"),
        ("--sort row_count", "a c b"),
        ("--sort completed_at", "c b a"),
        ("--sort completed_at --reverse", "c a b"),
        ("--limit 2", "b c"),
        ("--sort table_name --limit 0", ""),
    ],
)
def test_ls_filters_and_sorts(ask, shelf, flags, expected):
    """Each filter narrows the list, each order is kept, and rows without a value come last."""
    assert shelf.catalog.version
    assert [
        table["table_name"] for table in ask("ls", *flags.split())["tables"]
    ] == expected.split()


def test_ls_shows_chosen_columns(run, ask, shelf):
    """``--columns`` chooses and orders what is shown, in the table and in the JSON; names whole."""
    name = "n" * 100
    shelf.catalog.create_result_table(
        name, source_id="s", model_id="m", task="ner", parquet_path="n.parquet"
    )
    assert ask("ls", "--columns", "row_count,table_name", "--limit", 1)["tables"] == [
        {"row_count": 10, "table_name": "b"}
    ]
    lines = run("ls", "--columns", "row_count,dimensions,table_name")[1].splitlines()
    assert lines[0].split() == ["ROW_COUNT", "DIMENSIONS", "TABLE_NAME"]
    assert lines[-1].split() == ["0", "-", name]


# --- open --------------------------------------------------------------------------------------


def test_open_shows_the_head_of_the_data(run, ask, store):
    """The first rows come by column, with types and the number of all rows."""
    name = build(store)
    document = ask("open", name, "--rows", 2)
    assert document["rows"] == DATA.slice(0, 2).to_pylist()
    assert document["columns"] == [
        {"name": "id", "type": "string"},
        {"name": "score", "type": "double"},
    ]
    assert (document["row_count"], document["location"]) == (3, store.url(name))
    out = run("open", name, "--rows", 1, "--columns", "score")[1]
    assert out == "score\n0.5\n1 of 3 rows\n"
    assert ask("open", name, "--rows", 0)["rows"] == []


def test_open_shows_values_of_every_type(run, ask, store):
    """What JSON cannot hold becomes text or null; what is long is cut for people only."""
    table = pa.table(
        {
            "instant": pa.array([1_700_000_000_000_000_001], pa.timestamp("ns", "UTC")),
            "lasts": pa.array([5], pa.duration("ns")),
            "bytes": [b"\x00\xff"],
            "nan": [float("nan")],
            "price": pa.array([1], pa.int64()).cast(pa.decimal128(21, 2)),
            "nested": [{"a": [float("inf"), 1.0]}],
            "vector": [[0.5] * 9],
            "text": ["x" * 100],
            "none": pa.nulls(1, pa.string()),
        }
    )
    with store.build(
        "docs", "ner", "model", "m", descriptor=EXTERNAL, env=ENV, inputs=INPUTS
    ) as out:
        out.write(table)
    [row] = ask("open", out.table_name)["rows"]
    assert row["instant"].startswith("2023-11-14 22:13:20.000000001")
    assert (row["lasts"], row["bytes"], row["nan"], row["price"]) == (5, "AP8=", None, "1.00")
    assert row["nested"] == {"a": [None, 1.0]}
    assert (row["vector"], row["text"], row["none"]) == ([0.5] * 9, "x" * 100, None)
    shown = run("open", out.table_name)[1]
    assert "[0.5, 0.5, 0.5, … 9]" in shown
    assert "x" * 59 + "…" in shown


def test_open_escapes_what_the_data_holds(run, store):
    """Control characters of a column's name or value never reach the terminal."""
    with store.build(
        "docs", "ner", "model", "m", descriptor=EXTERNAL, env=ENV, inputs=INPUTS
    ) as out:
        out.write(pa.table({HOSTILE: [HOSTILE]}))
    for flags in ([], ["--json"]):
        shown = run("open", out.table_name, *flags)[1]
        assert shown.replace("\n", "").isprintable()


def overwrite_pages(path):
    """Damage the values and leave the footer."""
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\xff" * 60 + data[64:])


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (lambda path: path.write_bytes(b"PAR1 damaged"), 3, "Parquet"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), 3, "Parquet"),
        (overwrite_pages, 3, "cannot be read"),
        (Path.unlink, 3, "is gone"),
        (lambda _: None, 2, "no column 'colour'"),
    ],
    ids=["damaged", "cut", "pages", "gone", "column"],
)
def test_open_of_what_cannot_be_read(run, store, root, damage, code, words):  # noqa: PLR0917 - fixtures
    """Damaged and missing data and an unknown column are one line each."""
    name = build(store)
    damage(root / f"{name}.parquet")
    found, out, err = run("open", name, "--columns", "colour" if code == 2 else "id")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert words in err


def test_open_of_a_build_is_an_error(run, store):
    """A result that is not ready has no data to show."""
    name = store.create_table("docs", "ner", "model", "m").table_name
    code, _, err = run("open", name)
    assert (code, "not ready" in err) == (3, True)


# --- status and why ----------------------------------------------------------------------------


def test_status_compares_with_where_sources_are(run, ask, labels):
    """A published result is fresh while its file is the same, stale with exit code 1 after."""
    name = publish(ask, labels)
    assert ask("status")["counts"] == {"undecidable": 1}
    where = ["--current", f"docs={labels}"]
    document = ask("status", *where)
    assert (document["ok"], document["counts"]) == (True, {"fresh": 1})
    labels.write_text("id,score\nz,1\n")
    document = ask("status", *where, code=1)
    [result] = document["results"]
    assert (document["ok"], result["table_name"]) == (False, name)
    assert (result["staleness"], result["is_stale"]) == ("stale", True)
    assert [reason["reason"] for reason in result["reasons"]] == ["input_advanced"]
    code, out, _ = run("status", *where)
    assert (code, out.splitlines()[-1]) == (1, "1 results: 1 stale")
    labels.unlink()
    [result] = ask("status", *where, code=1)["results"]
    assert [reason["reason"] for reason in result["reasons"]] == ["input_vanished"]


def test_status_passes_staleness_on(ask, labels):
    """What derives from a stale result is stale too, and both are told."""
    parent = publish(ask, labels)
    child = publish(ask, labels, "--derived-from", parent)
    labels.write_text("id,score\nz,1\n")
    document = ask("status", "--current", f"docs={labels}", code=1)
    assert {each["table_name"] for each in document["results"] if each["is_stale"]} == {
        parent,
        child,
    }


def test_decided_reason_beside_an_open_input_is_stale(ask, labels, store):
    """A result with one stale and one unknown input is undecidable, and counts as stale."""
    parent = publish(ask, labels)
    with store.build(
        *("docs", "ner", "model", "m"),
        descriptor=EXTERNAL,
        env=ENV,
        inputs=[*INPUTS, store.result_digest_anchor(parent)],
    ) as out:
        out.write(DATA)
    labels.write_text("id,score\nz,1\n")
    found = {
        each["table_name"]: each
        for each in ask("status", "--current", f"docs={labels}", code=1)["results"]
    }
    child = found[out.table_name]
    assert (child["staleness"], child["is_stale"]) == ("undecidable", True)
    assert ask("why", out.table_name, "--current", f"docs={labels}", code=1)["is_stale"] is True


def test_status_of_nothing(run, store):
    """An empty catalog is well."""
    build(store.pinned_to_tenant("01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a"))
    assert run("status")[0] == 0
    assert "--admin" in run("status")[1]


def test_check_looks_at_the_data_of_inputs(ask, store, root):
    """``--check digest`` finds an input whose bytes have changed, ``--check no`` looks at none."""
    parent = build(store)
    child = build_on(store, parent)
    data = root / f"{parent}.parquet"
    data.write_bytes(data.read_bytes()[::-1])
    assert ask("why", child, "--check", "no")["is_stale"] is False
    assert ask("why", child, "--check", "digest", code=1)["is_stale"] is True
    assert ask("status", "--check", "no")["ok"] is True
    assert ask("status", "--check", "digest", code=1)["ok"] is False


def test_why_says_it_in_words(run, ask, labels):
    """The verdict comes first, then a line for each reason; the code is 1 where it is stale."""
    name = publish(ask, labels)
    where = ["--current", f"docs={labels}"]
    document = ask("why", name, *where)
    assert (document["staleness"], document["is_stale"], document["reasons"]) == (
        "fresh",
        False,
        [],
    )
    labels.write_text("id,score\nz,1\n")
    document = ask("why", name, *where, code=1)
    assert (document["staleness"], document["more"], document["unpinned"]) == ("stale", 0, [])
    assert [reason["source"] for reason in document["reasons"]] == ["docs"]
    code, out, _ = run("why", name, *where)
    first, second = out.splitlines()
    assert code == 1
    assert first.startswith(f"'{name}' is stale")
    assert second.startswith("- input 'docs' was read at file:sha256:")
    assert document["explanation"] == out.rstrip("\n")


def test_undecidable_says_what_would_decide(run, ask, labels, store):
    """Where a source could be told, `status` and `why` name the option that tells it."""
    name = publish(ask, labels)
    where = "--current docs=PATH"
    assert where in run("why", name)[1]
    assert "--current SOURCE=PATH" in run("status")[1]
    for argv in (["why", name], ["status"]):
        assert "--current" not in run(*argv, "--current", f"docs={labels}")[1]
    assert where not in run("why", build(store))[1]


@pytest.mark.parametrize("command", ["open", "why", "lineage"])
def test_unknown_result_is_not_found(run, store, command):
    """A name that no visible row has is exit code 3 and one line."""
    build(store)
    code, out, err = run(command, "nothing")
    assert (code, out) == (3, "")
    assert err == "jammi-files: Result table 'nothing' not found\n"


# --- lineage -----------------------------------------------------------------------------------


def test_lineage_in_every_format(run, ask, store):
    """Each format is what the library draws; the JSON is both closures."""
    adopt_graph(
        store, base=(InputAnchor.source_version("docs", "1"),), middle=["base"], top=["middle"]
    )
    lineage = store.lineage("middle")
    assert ask("lineage", "middle") == lineage.to_dict()
    assert json.loads(run("lineage", "middle", "--format", "json")[1]) == lineage.to_dict()
    drawings = {"tree": lineage.to_text(), "dot": lineage.to_dot(), "mermaid": lineage.to_mermaid()}
    for form, text in drawings.items():
        assert run("lineage", "middle", "--format", form)[1] == text + "\n"
    assert run("lineage", "middle")[1] == lineage.to_text() + "\n"


def test_lineage_as_openlineage(run, store):
    """There is one event a line for every ready result of the lineage, inputs first."""
    parent = build(store)
    child = build_on(store, parent)
    build(store)  # of another lineage
    for name in (parent, child):
        lines = run("lineage", name, "--format", "openlineage")[1].splitlines()
        events = [json.loads(line) for line in lines]
        assert events == [
            *store.openlineage_events(parent),
            *store.openlineage_events(child),
        ]


def test_json_lines_are_ascii(run, store):
    """An event whose names hold controls is one line of ASCII that parses."""
    adopt_graph(store, base=(InputAnchor.source_version(HOSTILE, "1"),))
    out = run("lineage", "base", "--format", "openlineage")[1]
    assert out.isascii()
    assert out.replace("\n", "").isprintable()
    assert json.loads(out)["inputs"][0]["name"] == HOSTILE


# --- diff --------------------------------------------------------------------------------------


def test_diff_tells_what_became_of_each_row(run, ask, store):
    """Inserts, updates and deletes are told once, net, with rows and changed columns."""
    catalog = store.catalog
    for name in ("kept", "gone"):
        catalog.create_result_table(
            name, source_id=name, model_id="m", task="ner", parquet_path=f"{name}.parquet"
        )
    catalog.tag("before")
    old = catalog.version
    catalog.fail_result_table("kept", "why")
    catalog.delete_result_tables_for_source("gone")
    build(store)
    document = ask("diff", "before")
    assert (document["old"], document["new"]) == (old - 1, catalog.version)
    found = {each["change"]: each for each in document["changes"]}
    assert found.keys() == {"insert", "update", "delete"}
    assert found["update"]["columns"] == ["status", "completed_at", "properties", "lease"]
    assert found["update"]["before"]["status"] == "building"
    assert found["update"]["after"]["status"] == "failed"
    assert (found["delete"]["table_name"], found["delete"]["after"]) == ("gone", None)
    assert (found["insert"]["before"], found["insert"]["after"]["status"]) == (None, "ready")
    out = run("diff", "before")[1]
    assert "status building -> failed, completed_at, properties" in out
    assert out.splitlines()[-1].startswith("1 delete, 1 insert, 1 update between version")
    assert ask("diff", "0", "1")["changes"][0]["table_name"] == "kept"
    assert ask("diff", str(old), str(old))["changes"] == []
    assert run("diff", str(old), str(old))[1] == f"No difference between version {old} and {old}.\n"


@pytest.mark.parametrize(("versions", "code"), [(["2", "1"], 2), (["99"], 3), (["none"], 3)])
def test_diff_of_versions_that_are_not_there(run, store, versions, code):
    """An unknown version or tag is not found; the older version comes first."""
    build(store)
    found, out, err = run("diff", *versions)
    assert (found, out, err.count("\n")) == (code, "", 1)


# --- watch -------------------------------------------------------------------------------------


def test_watch_tells_what_was_since(run, store):
    """``--since`` begins in the past, ``--limit`` ends after so many commits of those visible."""
    name = build(store)
    build(store.pinned_to_tenant("01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a"))
    second = build(store)
    code, out, err = run("watch", "--since", "1", "--limit", "2", "--json")
    commits = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [commit["tables"] for commit in commits] == [[name], [second]]
    assert commits[0] == store.catalog.history(since=1)[0]._asdict() | {"tables": [name]}
    lines = run("watch", "--since", "1", "--limit", "1")[1].splitlines()
    assert lines[0].startswith("Watching ")
    assert lines[1].endswith(name)


def test_watch_follows_until_it_is_interrupted(store, root):
    """A commit of another process is told as it happens; Ctrl-C ends with 0 and no traceback."""
    name = build(store)
    command = [sys.executable, "-m", "jammi_files", "watch", "--since", "0", "--interval", "0.01"]
    command += ["--json", "--root", str(root)]
    with running(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        told = [json.loads(program.stdout.readline()) for _ in store.catalog.history()]
        assert told[-1]["tables"] == [name]
        later = build(connect(root, durability="os"))
        assert json.loads(program.stdout.readline())["tables"] == [later]
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, b"")


def test_watch_that_loses_its_root_is_an_error(run, store, root, monkeypatch):
    """A failure between two commits is exit code 3, not an end."""
    build(store)
    monkeypatch.setattr("time.sleep", lambda _: (root / "_catalog").rename(root / "gone"))
    code, out, err = run("watch")
    assert (code, out.count("\n"), err.count("\n")) == (3, 1, 1)


# --- completion --------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(capsys, shell):
    """The script of each shell names the commands and their options."""
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("lineage", "publish", "openlineage", "accept-loss"):
        assert word in script


def test_bash_completes(capsys, tmp_path):
    """Bash itself, with the script, completes commands, choices and options."""
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)
    ask = f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
    ask += '$(complete -p jammi-files | sed "s/.* -F \\([^ ]*\\) .*/\\1/"); echo "${COMPREPLY[@]}"'

    def completed(*words):
        line = ["bash", "-c", ask, "bash", *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()

    assert completed("jammi-files", "li") == ["lineage"]
    assert completed("jammi-files", "lineage", "--form") == ["--format"]
    assert "openlineage" in completed("jammi-files", "lineage", "x", "--format", "")


def test_completion_without_its_extra(capsys, monkeypatch):
    """Without shtab one line says what to install."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    out, err = capsys.readouterr()
    assert (out, "pip install 'jammi_files[cli]'" in err) == ("", True)


# --- the reference -----------------------------------------------------------------------------


def test_reference_is_current():
    """``docs/cli.md`` is what the parser says now; `tests/support/reference.py` writes it anew."""
    assert PLACE.read_text(encoding="utf-8") == reference()
