"""The command: what it prints, its exit codes, and that nothing untrusted is printed raw."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from support.processes import running
from support.results import DATA, build, finalize, write

from jammi_files import ResultTableKind, ResultTableStatus, connect, copy_root, data_files
from jammi_files.cli import main
from jammi_files.cli_commands import COMMANDS
from jammi_files.cli_parser import make_parser

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
TENANT_A = "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a"
TENANT_B = "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9b"
READING = (
    ["ls"],
    ["show", "x"],
    ["open", "x"],
    ["status"],
    ["why", "x"],
    ["lineage", "x"],
    ["verify", "--all"],
    ["recover"],
    ["history"],
    ["diff", "0"],
    ["watch"],
    ["fsck"],
    ["vacuum"],
    ["tag"],
    ["export", "unused"],
    ["report", "--out", "unused"],
    ["serve"],
)
NO_UTF8 = os.fsdecode(b"\xff")
HOSTILE = "a\x1b[31mred\n\x9b2Jnext\u202elanes\x07"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("JAMMI_FILES_ROOT", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def engine(tmp_path):
    """Return a writable copy of what the real engine wrote."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "engine", copy_function=shutil.copyfile))


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self):
        return True


def listing(directory):
    return {path: path.stat().st_mtime_ns for path in Path(directory).rglob("*") if path.is_file()}


def process(*argv, **options):
    command = [sys.executable, "-m", "jammi_files", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def one_line(err):
    assert err.startswith("jammi-files: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err


# --- import and export -------------------------------------------------------------------------


def test_import_verifies_as_the_engine_did(ask):
    """Verdicts and edges after ``import --verify --json`` are those that the real engine gave."""
    expected = orjson.loads((FIXTURE / "expected.json").read_bytes())
    document = ask("import", FIXTURE, "--verify")
    found = {result["table_name"]: result for result in document["results"]}
    assert document["ok"] is True
    assert len(document["imported"]) == len(found) == 15
    for name, verdict in expected["verify"].items():
        assert {key: found[name][key] for key in verdict} == verdict
    for name, edges in expected["derives_from"].items():
        assert sorted(found[name]["derives_from"], key=str) == sorted(edges, key=str)


def test_import_table_tells_verdicts_inputs_and_edges(run):
    """The table names each result whole, with verdict, unpinned inputs and what derives from it."""
    code, out, err = run("import", FIXTURE, "--verify")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith("New catalog at ")
    assert "15 imported, 0 here already" in lines
    graph = "docs__text_embedding__graph_propagate__20261122T214954068297023_f4e25986"
    row = next(line for line in lines if line.endswith(graph) and "cites" in line)
    assert row.startswith("match_with_unpinned_inputs")
    assert "unpinned: cites" in row
    assert any(line.startswith("result_digest") and line.endswith(graph) for line in lines)
    assert lines[-1] == "15 verified: 4 match, 11 match_with_unpinned_inputs"


def test_import_of_damaged_data_exits_with_1(run, engine):
    """A result whose bytes were changed is a mismatch in the table and exit code 1."""
    victim = next((engine / "jammi_db").glob("trades__*.parquet"))
    victim.write_bytes(victim.read_bytes() + b"x")
    code, out, err = run("import", engine, "--verify")
    assert (code, err) == (1, "")
    row = next(line for line in out.splitlines() if line.endswith(victim.stem))
    assert row.startswith("mismatch")
    assert "expected" in row


def test_import_that_skips_a_table_exits_with_1(ask, engine):
    """A table that cannot be imported is named with the reason, and the exit code is 1."""
    victim = next((engine / "jammi_db").glob("trades__*.parquet"))
    victim.unlink()
    document = ask("import", engine, code=1)
    assert document["ok"] is False
    assert [each["table_name"] for each in document["skipped"]] == [victim.stem]
    assert document["skipped"][0]["problem"]


def test_import_is_repeatable(ask):
    """A second import changes nothing and says what was here."""
    first, second = ask("import", FIXTURE), ask("import", FIXTURE)
    assert (first["new_catalog"], second["new_catalog"]) == (True, False)
    assert second["imported"] == []
    assert sorted(second["already_present"]) == sorted(first["imported"])
    assert all(result["verdict"] is None for result in second["results"])


def test_import_by_reference_copies_nothing(ask, root):
    """With ``--reference`` the data stays where it is, and still verifies."""
    document = ask("import", FIXTURE, "--reference", "--verify")
    assert document["ok"] is True
    assert list(root.glob("*.parquet")) == []


def test_import_keeps_tenants_and_shows_only_the_one_named(ask):
    """Every row keeps its tenant whoever imports; ``--tenant`` narrows what is shown."""
    shown = ask("import", FIXTURE, "--verify", "--tenant", TENANT_A)["results"]
    assert {result["tenant_id"] for result in shown} == {None, TENANT_A}
    everything = ask("ls", "--admin")["tables"]
    assert {table["tenant_id"] for table in everything} == {None, TENANT_A, TENANT_B}


def test_import_of_no_engine_directory_is_a_usage_error(run, tmp_path, root):
    """A directory without catalog.db is refused before a catalog is made."""
    code, out, err = run("import", tmp_path)
    assert (code, out) == (2, "")
    assert "catalog.db" in one_line(err)
    assert not root.exists()


def test_import_into_the_engine_directory_is_refused(run, engine):
    """The directory that is imported cannot be the root: the engine owns it."""
    before = listing(engine)
    code, _, err = run("import", engine, at=engine)
    assert code == 2
    assert "--root" in one_line(err)
    assert listing(engine) == before


def test_export_writes_what_is_visible(ask, tmp_path):
    """What was imported comes out again; another tenant's results only for ``--admin``."""
    ask("import", FIXTURE)
    some = ask("export", tmp_path / "some")
    everything = ask("export", tmp_path / "all", "--admin")
    assert (len(some["exported"]), len(everything["exported"])) == (10, 15)
    assert everything["directory"] == str(tmp_path / "all")
    assert (tmp_path / "all" / "catalog.db").is_file()


def test_export_onto_a_catalog_is_an_error(run, ask, engine):
    """A directory that holds a catalog.db is left as it is."""
    ask("import", FIXTURE)
    code, _, err = run("export", engine)
    assert code == 3
    assert "catalog.db" in one_line(err)


# --- publish -----------------------------------------------------------------------------------


def write_feather(table, path):
    pyarrow.feather.write_feather(table, path)


def write_stream(table, path):
    with pyarrow.ipc.new_stream(path, table.schema) as out:
        out.write_table(table)


def write_tsv(table, path):
    pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(delimiter="\t"))


WRITERS = {
    "rows.parquet": pq.write_table,
    "rows.csv": pyarrow.csv.write_csv,
    "rows.tsv": write_tsv,
    "rows.feather": write_feather,
    "rows.arrows": write_stream,
}


@pytest.mark.parametrize("name", WRITERS)
def test_published_file_is_a_verified_result(ask, tmp_path, root, name):
    """Each kind of file becomes a ready result with the file's rows that then verifies."""
    path = tmp_path / name
    WRITERS[name](DATA, path)
    document = ask("publish", path, "--source", "docs")
    table = document["table"]
    assert (table["status"], table["row_count"]) == ("ready", DATA.num_rows)
    assert connect(root).open_table(table["table_name"]).to_table().equals(DATA)
    verified = ask("verify", table["table_name"])["results"]
    assert [each["verdict"] for each in verified] == ["match"]


def test_publish_attests_format_and_digest(ask, tmp_path):
    """The descriptor names format and content digest, and the input is pinned by the digest."""
    path = tmp_path / "rows.csv"
    pyarrow.csv.write_csv(DATA, path)
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    version = f"file:{digest}:{path.stat().st_size}"
    document = ask("publish", path, "--source", "docs")
    descriptor = document["sidecar"]["descriptor"]
    assert descriptor["producer"] == "external"
    assert descriptor["params"] == {"content_digest": digest, "file_format": "csv"}
    anchor = {"source": "docs", "anchor": version, "kind": "source_version"}
    assert document["table"]["input_anchors"] == [anchor]


def test_publish_records_what_it_is_told(ask, tmp_path):
    """Every option ends in the row; a parent also becomes an input pinned by its digest."""
    path = tmp_path / "rows.parquet"
    pq.write_table(DATA, path)
    parent = ask("publish", path, "--source", "docs", "--tenant", TENANT_A)["table"]
    options = "--model m --task ner --kind neighbor_graph --dimensions 3 --key-column id"
    more = "--text-column a --text-column b --property owner=me --property note=a=b"
    child = ask(
        *("publish", path, "--source", "graph", "--tenant", TENANT_A),
        *("--derived-from", parent["table_name"], *options.split(), *more.split()),
    )["table"]
    assert (child["model_id"], child["task"], child["kind"]) == ("m", "ner", "neighbor_graph")
    assert (child["dimensions"], child["key_column"]) == (3, "id")
    assert child["text_columns"] == ["a", "b"]
    assert child["properties"] == {"owner": "me", "note": "a=b"}
    assert child["tenant_id"] == TENANT_A
    assert child["derived_from"] == parent["table_name"]
    kinds = [anchor["kind"] for anchor in child["input_anchors"]]
    assert kinds == ["source_version", "result_digest"]
    edges = ask("show", parent["table_name"], "--tenant", TENANT_A)["derives_from"]
    assert [edge["derived"] for edge in edges] == [child["table_name"]]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("size", [0, 9])
def test_file_without_a_readable_head_creates_nothing(run, tmp_path, root, name, size):
    """An empty file, or one cut off in its head, is one line of error and leaves no catalog."""
    path = tmp_path / name
    WRITERS[name](DATA, path)
    path.write_bytes(path.read_bytes()[:size] if size == 0 else b"\xff\xfe\x00\x81" * 3)
    code, out, err = run("publish", path, "--source", "docs")
    assert (code, out) == (3, "")
    assert str(path) in one_line(err)
    assert not root.exists()


def test_truncated_parquet_creates_nothing(run, tmp_path, root):
    """A Parquet file whose writer was killed has no footer: nothing is created."""
    path = tmp_path / "rows.parquet"
    pq.write_table(DATA, path)
    path.write_bytes(path.read_bytes()[:-20])
    code, _, err = run("publish", path, "--source", "docs")
    assert code == 3
    assert "cannot be read as parquet" in one_line(err)
    assert not root.exists()


def test_file_that_breaks_off_leaves_a_failed_row(run, ask, tmp_path, root, monkeypatch):
    """Damage in the middle of a file marks the row failed with the reason and keeps no bytes."""
    monkeypatch.setattr(data_files, "_CSV_BLOCK", 1000)
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "1,2\n" * 2000 + "1,2,3\n")
    code, out, err = run("publish", path, "--source", "docs")
    assert (code, out) == (3, "")
    assert "cannot be read as csv" in one_line(err)
    [table] = ask("ls")["tables"]
    assert table["status"] == "failed"
    assert "cannot be read as csv" in table["properties"]["error"]
    assert list(root.glob("*.parquet*")) == []


def test_file_of_unknown_format_is_a_usage_error(run, ask, tmp_path, root):
    """A suffix that says nothing asks for ``--format``, which then is believed."""
    path = tmp_path / "rows.txt"
    pyarrow.csv.write_csv(DATA, path)
    code, _, err = run("publish", path, "--source", "docs")
    assert code == 2
    assert "--format" in one_line(err)
    assert not root.exists()
    document = ask("publish", path, "--source", "docs", "--format", "csv")
    assert document["table"]["row_count"] == DATA.num_rows


def test_missing_file_is_an_error(run, tmp_path, root):
    """A file that does not exist is named, and nothing is created."""
    code, _, err = run("publish", tmp_path / "gone.csv", "--source", "docs")
    assert (code, one_line(err).endswith("gone.csv': No such file or directory\n")) == (3, True)
    assert not root.exists()


def test_publish_reuses_where_it_is_asked_to(run, ask, tmp_path, root):
    """With ``--reuse`` a file that is such a result already makes none, and the answer says so."""
    path = tmp_path / "rows.csv"
    pyarrow.csv.write_csv(DATA, path)
    publish = ("publish", path, "--source", "docs", "--text-column", "a", "--property", "by=me")
    first, second = ask(*publish, "--reuse"), ask(*publish, "--reuse")
    name = first["table"]["table_name"]
    assert (first["reused"], second["reused"]) == (False, True)
    assert second == {**first, "new_catalog": False, "reused": True}
    assert run(*publish, "--reuse")[1] == f"Reused for {path}: {name} (3 rows)\n"
    assert ask(*publish)["reused"] is False
    assert len(ask("ls")["tables"]) == 2
    newest = ask("ls")["tables"][-1]["table_name"]
    assert ask(*publish, "--reuse")["table"]["table_name"] == newest
    (root / f"{newest}.parquet").write_bytes(b"damaged")
    assert ask(*publish, "--reuse")["table"]["table_name"] == name


@pytest.mark.parametrize(
    "option",
    [
        ["--source", "other"],
        ["--model", "m2"],
        ["--task", "ner"],
        ["--kind", "asof_join"],
        ["--dimensions", "2"],
        ["--key-column", "id"],
        ["--text-column", "a"],
        ["--property", "note=x"],
        ["--derived-from", "docs__"],
        [],
    ],
    ids=" ".join,
)
def test_publish_reuses_nothing_else(ask, tmp_path, option):
    """Other content, or any option that the row tells, is another result."""
    path = tmp_path / "rows.csv"
    pyarrow.csv.write_csv(DATA, path)
    ask("publish", path, "--source", "docs")
    if not option:
        path.write_text("id,score\nz,1\n")
    argv = ["publish", path, "--reuse", "--source", "docs", *option]
    assert ask(*argv)["reused"] is False
    if "--derived-from" not in option:  # which now is the beginning of two
        assert ask(*argv)["reused"] is True


def test_publish_reuses_what_its_tenant_sees(ask, tmp_path):
    """A tenant reuses its own results and those of no tenant, never another's."""
    path = tmp_path / "rows.csv"
    pyarrow.csv.write_csv(DATA, path)
    publish = ("publish", path, "--source", "docs", "--reuse")
    assert ask(*publish, "--tenant", TENANT_A)["reused"] is False
    assert ask(*publish, "--tenant", TENANT_B)["reused"] is False
    assert ask(*publish)["reused"] is False
    assert ask(*publish, "--tenant", TENANT_A)["reused"] is True


# --- ls, show, history -------------------------------------------------------------------------


def test_tenants_see_their_own_rows(ask, tmp_path):
    """A tenant sees its own results and those of no tenant, in every command that lists."""
    path = tmp_path / "rows.csv"
    pyarrow.csv.write_csv(DATA, path)
    scopes = {"a": ["--tenant", TENANT_A], "b": ["--tenant", TENANT_B], "none": []}
    names = {
        who: ask("publish", path, "--source", "docs", *scope)["table"]["table_name"]
        for who, scope in scopes.items()
    }
    for who, scope in scopes.items():
        visible = {names[who], names["none"]}
        assert {each["table_name"] for each in ask("ls", *scope)["tables"]} == visible
        assert {each["table_name"] for each in ask("verify", *scope)["results"]} == visible
        touched = {name for each in ask("history", *scope)["commits"] for name in each["tables"]}
        assert touched == visible


def test_result_of_another_tenant_is_not_found(run, ask, tmp_path):
    """``show`` and ``verify`` word an invisible result like an absent one."""
    path = tmp_path / "rows.csv"
    pyarrow.csv.write_csv(DATA, path)
    name = ask("publish", path, "--source", "docs", "--tenant", TENANT_A)["table"]["table_name"]
    for command in ("show", "verify"):
        code, out, err = run(command, name, "--tenant", TENANT_B)
        assert (code, out) == (3, "")
        assert one_line(err) == f"jammi-files: Result table '{name}' not found\n"


def test_beginning_of_a_name_is_enough(run, ask, store):
    """Where a name is wanted the beginning of one result's does; of several they are listed."""
    names = sorted(build(store) for _ in range(5))
    hidden = build(store.pinned_to_tenant(TENANT_A))
    shared = names[0].rpartition("__")[0]
    for command in ("show", "open", "why", "lineage", "verify"):
        assert names[3] in json.dumps(ask(command, names[3][:-1]))
        code, out, err = run(command, shared)
        assert (code, out) == (2, "")
        assert "begins 5 names" in one_line(err)
        assert "and 2 more" in err
        assert (names[0] in err, hidden in err) == (True, False)
        assert run(command, "")[0] == run(command, names[0] + "x")[0] == 3
    store.catalog.create_result_table(
        shared, source_id="s", model_id="m", task="ner", parquet_path="s.parquet"
    )
    assert ask("show", shared)["table"]["table_name"] == shared


def test_ls_filters_by_status_and_source(ask, store):
    """``--status`` and ``--source`` narrow the list, alone and together."""
    ready = build(store)
    building = store.create_table("other", "ner", "model", "m").table_name

    def names(*argv):
        return [table["table_name"] for table in ask("ls", *argv)["tables"]]

    assert names() == [ready, building]
    assert names("--status", "ready") == [ready]
    assert names("--source", "other") == [building]
    assert names("--source", "other", "--status", "ready") == []


def test_ls_of_nothing_says_how_to_see_more(run, store):
    """An empty list is a sentence that names the flags which show other tenants' rows."""
    build(store.pinned_to_tenant(TENANT_A))
    assert "--admin" in run("ls")[1]
    assert run("ls", "--tenant", TENANT_B)[1] == "No results.\n"


def test_show_tells_row_sidecar_and_location(run, ask, store, root):
    """One result is shown with its columns, its attestation and where its data lies."""
    name = build(store)
    document = ask("show", name)
    assert document["table"] == store.catalog.get_result_table(name).to_dict()
    assert document["location"] == str(root / f"{name}.parquet")
    assert document["sidecar"]["definition_hash"] == document["table"]["definition_hash"]
    out = run("show", name)[1]
    for text in (document["location"], document["sidecar"]["artifact"], "org/model"):
        assert text in out


def test_damaged_sidecar_hides_nothing_else(run, ask, store, root):
    """``show`` still shows the row, ``verify`` gives no verdict, says why and exits with 1."""
    name = build(store)
    (root / f"{name}.materialization.json").write_text("{")
    document = ask("show", name)
    assert document["sidecar"] is None
    assert document["sidecar_error"]
    assert "damaged" in run("show", name)[1]
    [found] = ask("verify", name, code=1)["results"]
    assert (found["verdict"], found["ok"]) == (None, False)
    assert found["error"]


def test_history_limits_to_the_newest(ask, store):
    """History is oldest first; ``--limit`` keeps the newest commits."""
    name = build(store)
    everything = ask("history")["commits"]
    assert [each["version"] for each in everything] == sorted(
        each["version"] for each in everything
    )
    assert everything[-1]["tables"] == [name]
    assert ask("history", "--limit", 1)["commits"] == everything[-1:]


# --- verify, recover, fsck ---------------------------------------------------------------------


def test_verify_tells_each_verdict(run, ask, store, root):
    """Changed and missing bytes and a missing sidecar have their own verdicts; the code is 1."""
    changed, bare, gone, whole = (build(store) for _ in range(4))
    (root / f"{changed}.parquet").write_bytes(b"other")
    (root / f"{bare}.materialization.json").unlink()
    (root / f"{gone}.parquet").unlink()
    found = {each["table_name"]: each for each in ask("verify", "--all", code=1)["results"]}
    assert found[changed]["verdict"] == "mismatch"
    assert {found[changed]["expected"], found[changed]["found"]} != {None}
    assert found[bare]["verdict"] == "missing_manifest"
    assert found[gone]["verdict"] == "missing_artifact"
    assert (found[whole]["verdict"], found[whole]["ok"]) == ("match", True)
    assert run("verify", whole)[0] == 0
    assert run("verify", whole, gone)[0] == 1
    assert "4 verified: 1 match" in run("verify")[1]


def test_verify_of_names_and_all_is_a_usage_error(run, store):
    """Names and ``--all`` exclude each other."""
    code, _, err = run("verify", build(store), "--all")
    assert code == 2
    assert "not both" in one_line(err)


def test_recover_plans_then_acts(run, ask, store, root):
    """``--dry-run`` changes nothing and says so; without it the leftover is gone."""
    name = build(store)
    (root / f"{name}.parquet.0123abcd.tmp").write_bytes(b"")
    before = listing(root)
    plan = ask("recover", "--dry-run")
    assert plan["dry_run"] is True
    assert [each["action"] for each in plan["actions"]] == ["sweep"]
    assert "--dry-run" in run("recover", "--dry-run")[1]
    assert listing(root) == before
    assert ask("recover")["actions"] == plan["actions"]
    assert run("recover")[1] == "Nothing to recover.\n"


def test_recover_quarantines_or_reaps(ask, store, root):
    """Data without attestation is kept under a failed row; ``--reap`` deletes it, kept or found."""
    kept = build(store)
    (root / f"{kept}.materialization.json").unlink()
    assert [each["action"] for each in ask("recover")["actions"]] == ["quarantine"]
    assert (root / f"{kept}.parquet").exists()
    reaped = build(store)
    (root / f"{reaped}.materialization.json").unlink()
    actions = ask("recover", "--reap")["actions"]
    assert {each["table_name"]: each["action"] for each in actions} == {
        kept: "reap",
        reaped: "reap",
    }
    assert not (root / f"{reaped}.parquet").exists()
    assert not (root / f"{kept}.parquet").exists()
    assert ask("recover", "--reap")["actions"] == []


def test_live_build_is_left_alone(ask, store):
    """A build of a process that lives is neither recovered nor found fault with."""
    info = store.create_table("docs", "ner", "model", "m")
    assert ask("recover")["actions"] == []
    assert ask("fsck")["findings"] == []
    write(store, info.table_name)
    finalize(store, info.table_name)
    assert ask("verify")["ok"] is True


def test_fsck_exits_by_severity(run, ask, store, root):
    """An error gives exit code 1; a notice, and a sound root, give 0."""
    name = build(store)
    assert run("fsck")[:2] == (0, "No findings.\n")
    (root / "stray.parquet").write_bytes(b"")
    [notice] = ask("fsck")["findings"]
    assert (notice["severity"], notice["kind"]) == ("notice", "orphan_object")
    (root / f"{name}.parquet").write_bytes(b"other")
    assert ask("fsck")["ok"] is True
    document = ask("fsck", "--deep", code=1)
    assert "data_disagrees" in {each["kind"] for each in document["findings"]}
    assert "errors: 1, notices: 1" in run("fsck", "--deep")[1]


def test_fsck_mends(run, ask, store, root):
    """`--repair` makes a lost catalog anew; `--dry-run` only says so; an owner is never guessed."""
    name = build(store)
    shutil.rmtree(root / "_catalog")
    plan = ask("fsck", "--repair", "--dry-run")
    assert (plan["ok"], plan["findings"], plan["repair"]["dry_run"]) == (True, [], True)
    steps = [(each["step"], each["subject"]) for each in plan["repair"]["actions"]]
    assert steps == [("format", "_catalog/format.json"), ("adopt", name)]
    assert not (root / "_catalog").exists()
    code, out, _ = run("fsck", "--repair")
    assert code == 0
    assert "No findings." in out
    assert ask("verify")["ok"] is True
    assert ask("fsck", "--repair")["repair"] == {"dry_run": False, "version": None, "actions": []}


def test_fsck_falls_back_only_with_consent(run, ask, store, root):
    """A damaged newest version is exit code 3 that names the object; `--accept-loss` goes on."""
    build(store)
    newest = max((root / "_catalog" / "manifest").rglob("*.parquet"))
    newest.write_bytes(b"PAR1 damaged")
    code, _, err = run("fsck", "--repair")
    assert (code, newest.name in one_line(err)) == (3, True)
    document = ask("fsck", "--repair", "--accept-loss", code=1)
    assert document["repair"]["version"] == 3
    assert newest.name in document["repair"]["actions"][0]["loses"]
    assert [each["remedy"] for each in document["findings"]] == ["vacuum"]
    for wrong in (["--owner", "global"], ["--dry-run"], ["--repair", "--deep"]):
        assert run("fsck", *wrong)[0] == 2
    assert run("fsck", "--repair", "--tenant", TENANT_A)[0] == 2


def test_vacuum(run, ask, store, root):
    """Without `--no-dry-run` nothing changes; with it versions go, and foreign files never do."""
    for _ in range(3):
        build(store)
    (root / "notes.txt").write_text("mine")
    plan = ask("vacuum", "--older-than", "0")
    assert (plan["dry_run"], plan["version"], plan["versions_retired"]) == (True, None, 5)
    before = listing(root)
    code, out, _ = run("vacuum", "--older-than", "0s")
    assert code == 0
    assert "5 versions retired, 0 objects deleted" in out
    assert "Nothing was changed" in out
    assert "notes.txt" in out
    assert listing(root) == before
    done = ask("vacuum", "--older-than", "0", "--keep-last", "2", "--no-dry-run")
    assert (done["version"], done["floor"], done["versions_retired"]) == (7, 5, 4)
    assert [each["key"] for each in done["foreign"]] == ["notes.txt"]
    assert ask("vacuum", "--older-than", "30d", "--no-dry-run")["actions"] == []
    assert run("vacuum", "--older-than", "soon")[0] == 2
    assert run("vacuum", "--keep-last", "0")[0] == 2
    assert run("vacuum", "--tenant", TENANT_A)[0] == 3


def test_tags(run, ask, store):
    """A tag names the newest version or the one that is given, and is removed by its name."""
    build(store)
    assert ask("tag")["tags"] == {}
    assert run("tag")[1] == "No tags.\n"
    assert ask("tag", "release 1")["tags"] == {"release 1": 2}
    assert ask("tag", "first", "--version", "1")["tags"] == {"first": 1, "release 1": 2}
    assert "release 1" in run("tag")[1]
    assert ask("tag", "--delete", "first")["tags"] == {"release 1": 2}
    assert run("tag", "release 1", "--version", "1")[0] == 3
    assert run("tag", "--delete", "gone")[0] == 3
    for wrong in (["a", "--delete", "b"], ["--version", "1"], [""]):
        assert run("tag", *wrong)[0] == 2
    assert ask("tag", "--tenant", TENANT_A)["tags"] == {"release 1": 2}
    assert run("tag", "mine", "--tenant", TENANT_A)[0] == 3


# --- the root, usage, exit codes ---------------------------------------------------------------


@pytest.mark.parametrize("argv", READING, ids=lambda argv: argv[0])
def test_missing_root_is_an_error_and_stays_missing(run, root, argv):
    """A mistyped root is exit code 3, and no command but import and publish creates it."""
    code, out, err = run(*argv)
    assert (code, out) == (3, "")
    assert f"no catalog at '{root}'" in one_line(err)
    assert not root.exists()


@pytest.mark.parametrize("argv", READING, ids=lambda argv: argv[0])
def test_directory_that_is_no_catalog_stays_as_it_is(run, engine, argv):
    """A directory of the engine is no root; the message says what to do."""
    before = listing(engine)
    code, _, err = run(*argv, at=engine)
    assert code == 3
    assert "jammi-files import" in one_line(err)
    assert listing(engine) == before


def test_reading_commands_write_nothing(run, store, root):
    """Listing, showing, verifying and checking leave every file as it was."""
    name = build(store)
    before = listing(root)
    looks = (["ls"], ["show", name], ["verify"], ["history"], ["fsck"], ["recover"])
    asks = (["open", name], ["status"], ["why", name], ["lineage", name], ["diff", "0"])
    for argv in (
        *looks,
        *asks,
        ["watch", "--since", "0", "--limit", "1"],
        ["vacuum"],
        ["tag"],
        ["fsck", "--repair", "--dry-run"],
    ):
        assert run(*argv)[0] == 0
    assert listing(root) == before


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["ls", "--nonsense"],
        ["ls", "--stat", "ready"],
        ["ls", "--status", "almost"],
        ["ls", "--tenant", "not-a-uuid"],
        ["ls", "--tenant", ""],
        ["ls", "--tenant", "00000000-0000-0000-0000-000000000000"],
        ["ls", "--tenant", TENANT_A, "--admin"],
        ["show"],
        ["publish", "rows.csv"],
        ["publish", "rows.csv", "--source", "s", "--task", "x"],
        ["publish", "rows.csv", "--source", "s", "--property", "x"],
        ["history", "--limit", "many"],
        ["history", "--limit", "-1"],
        ["ls", "--root", "unknown://place"],
        ["ls", "--columns", "table_name,colour"],
        ["ls", "--sort", "lease"],
        ["ls", "--limit", "-1"],
        ["open", "x", "--rows", "some"],
        ["open", "x", "--rows", "9" * 19],
        ["status", "--current", "docs"],
        ["status", "--check", "twice"],
        ["lineage", "x", "--format", "png"],
        ["lineage", "x", "--format", "dot", "--json"],
        ["diff"],
        ["diff", "2", "1"],
        ["diff", "9" * 5000],
        ["diff", "0", "9" * 19],
        ["vacuum", "--older-than", "9" * 5000],
        ["vacuum", "--older-than", "9" * 5000 + "d"],
        ["export", NO_UTF8],
        ["watch", "--since", "-1"],
        ["watch", "--interval", "0"],
        ["watch", "--interval", "nan"],
        ["completion", "fish"],
        ["report"],
        ["serve", "--port", "http"],
        ["serve", "--port", "70000"],
    ],
    ids=lambda argv: repr(" ".join(argv))[:60],
)
def test_wrong_arguments_are_a_usage_error(argv, store, root, capsys, monkeypatch):
    """Whatever is wrong with the arguments is exit code 2 and one line."""
    build(store)
    monkeypatch.setenv("JAMMI_FILES_ROOT", str(root))
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    one_line(err)


def test_root_comes_from_the_environment(capsys, store, root, monkeypatch):
    """``JAMMI_FILES_ROOT`` stands in for ``--root``; without either the message names both."""
    name = build(store)
    assert main(["ls"]) == 2
    err = one_line(capsys.readouterr().err)
    assert "--root" in err
    assert "JAMMI_FILES_ROOT" in err
    monkeypatch.setenv("JAMMI_FILES_ROOT", str(root))
    assert main(["ls"]) == 0
    assert name in capsys.readouterr().out


def test_library_warning_is_one_escaped_line(run, store):
    """A row of a newer library is left out of the list, and one escaped line warns of it."""
    record = store.catalog.get_result_table(build(store))
    kind = ResultTableKind.stored(HOSTILE)
    store.catalog.adopt_result_tables([dataclasses.replace(record, table_name="odd", kind=kind)])
    code, out, err = run("ls")
    assert (code, len(out.splitlines())) == (0, 2)
    assert one_line(err).startswith("jammi-files: warning: ")
    assert err.replace("\n", "").isprintable()


# --- copy ---------------------------------------------------------------------------------------


@pytest.fixture
def run_copy(capsys):
    """Return a function that runs `copy`: (code, standard output, error)."""

    def call(*argv):
        code = main(["copy", *map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_copy_says_what_it_did(run_copy, store, tmp_path):
    """A first copy, the same again, and a later one say what was copied and what was there."""
    names = [build(store) for _ in range(2)]
    code, out, err = run_copy(store.root, tmp_path / "b")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{tmp_path / 'b'} is at version 4"
    assert out.splitlines()[1].startswith("8 objects copied (")
    assert run_copy(store.root, tmp_path / "b")[1].splitlines()[1].startswith("0 objects copied")
    store.create_table("docs", "ner", "model", "m")
    out = run_copy(store.root, tmp_path / "b")[1]
    assert "is at version 5, was at 4" in out
    assert "still being built, their data not copied: 1" in out
    copy = connect(tmp_path / "b").as_admin()
    assert [copy.verify_materialization(name).ok for name in names] == [True, True]


def test_copy_of_every_tenant(run_copy, store, tmp_path):
    """A copy takes the whole root, and knows no tenants."""
    name = build(store.pinned_to_tenant(TENANT_A))
    assert run_copy(store.root, tmp_path / "b")[0] == 0
    assert connect(tmp_path / "b", tenant=TENANT_A).open_table(name).count_rows() == 3
    code, out, err = run_copy(store.root, tmp_path / "c", "--tenant", TENANT_A)
    assert (code, out) == (2, "")
    assert "--tenant" in one_line(err)
    assert not (tmp_path / "c").exists()


def test_copy_of_a_damaged_root(run_copy, store, root, tmp_path):
    """What is wrong at the source is listed, with exit code 1; the rest is copied."""
    names = [build(store) for _ in range(2)]
    (root / f"{names[0]}.parquet").unlink()
    code, out, err = run_copy(root, tmp_path / "b")
    assert (code, err) == (1, "")
    assert "its data is gone" in out
    code, out, err = run_copy(root, tmp_path / "c", "--json")
    document = orjson.loads(out)
    assert (code, document["ok"]) == (1, False)
    assert document["troubles"] == [
        {"key": f"{names[0]}.parquet", "problem": "it is ready, and its data is gone"}
    ]


def test_copy_refused(run_copy, store, tmp_path):
    """Another catalog, no catalog and a root inside the other are one line each."""
    build(store)
    build(connect(tmp_path / "other"))
    for argv, code, words in (
        ((store.root, tmp_path / "other"), 3, "another catalog"),
        ((tmp_path / "none", tmp_path / "b"), 3, "no catalog at"),
        ((store.root, f"{store.root}/b"), 2, "one another"),
        ((store.root,), 2, "DST"),
    ):
        found, out, err = run_copy(*argv)
        assert (found, out) == (code, "")
        assert words in one_line(err)


def test_copy_options(run_copy, store, root, tmp_path):
    """``--foreign`` copies other files, ``--no-verify`` checks nothing."""
    name = build(store)
    (root / "notes.txt").write_text("mine")
    data = root / f"{name}.parquet"
    data.write_bytes(data.read_bytes()[::-1])
    assert run_copy(root, tmp_path / "b", "--no-verify")[0] == 0
    assert not (tmp_path / "b/notes.txt").exists()
    assert run_copy(root, tmp_path / "c", "--foreign")[0] == 1
    assert (tmp_path / "c/notes.txt").read_text() == "mine"


def test_an_unfinished_copy_is_said(run, run_copy, root, tmp_path, monkeypatch):
    """An interrupted copy is exit code 130; the root is refused until the same command ends it."""
    build(connect(root))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(copy_root, "copy_version", interrupted)
        assert run_copy(root, tmp_path / "b")[0] == 130
    code, _, err = run("ls", at=tmp_path / "b")
    assert code == 3
    assert "unfinished copy" in one_line(err)
    assert "from a copy that was cut off" in run_copy(root, tmp_path / "b")[1]
    assert run("ls", at=tmp_path / "b")[0] == 0


# --- help --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_examples_in_the_help_parse(command, capsys):
    """Every example that the help shows is accepted by the parser."""
    assert main(["--help"] if command is None else [command, "--help"]) == 0
    text = capsys.readouterr().out.replace("\\\n", " ")
    examples = [line.strip() for line in text.splitlines() if line.startswith("  jammi-files ")]
    assert examples
    for example in examples:
        words = shlex.split(re.split(" [|>] ", example)[0])
        assert make_parser().parse_args(words[1:]).command in COMMANDS


# --- what reaches the terminal -----------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["table", "json"])
def test_hostile_names_are_escaped(run, store, tmp_path, flags):
    """Escape sequences, newlines and bidirectional controls of the catalog never appear raw."""
    with store.catalog.transaction() as tx:
        tx.create_result_table(
            "evil\u202ename",
            source_id=HOSTILE,
            model_id=HOSTILE,
            task="ner",
            parquet_path="evil.parquet",
            properties={HOSTILE: HOSTILE},
        )
    store.catalog.fail_result_table("evil\u202ename", HOSTILE)
    name = "evil\u202ename"
    looks = (["ls"], ["show", name], ["history"], ["fsck"], ["verify"], ["status"], ["diff", "0"])
    more = (["why", name], ["lineage", name], ["watch", "--since", "0", "--limit", "2"])
    page = tmp_path / "report.html"
    for argv in (
        *looks,
        *more,
        ["report", "--out", page],
        ["ls", "--columns", "source_id,properties,table_name"],
    ):
        _, out, err = run(*argv, *flags)
        assert (out + err).replace("\n", "").isprintable()
        if flags:
            for line in out.splitlines() if argv[0] == "watch" else [out]:
                json.loads(line)
    _, _, err = run("show", f"no{HOSTILE}")
    assert one_line(err).replace("\n", "").isprintable()
    assert "noa\\x1b[31m" in err


def test_json_keeps_the_value_of_hostile_names(ask, store):
    """Escaping changes how the JSON is spelt, not what it says."""
    store.catalog.create_result_table(
        "t", source_id=HOSTILE, model_id="m\U000e0001", task="ner", parquet_path="t.parquet"
    )
    [table] = ask("ls")["tables"]
    assert (table["source_id"], table["model_id"]) == (HOSTILE, "m\U000e0001")


def hide_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)


def drawn(monkeypatch, *argv):
    """Run a command on a terminal and return what it drew, with and without the styles."""
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        patch.setenv("TERM", "xterm-256color")
        assert main([*map(str, argv)]) == 0
    raw = terminal.getvalue()
    return raw, re.sub(r"\x1b\[[0-9;]*m", "", raw)


@pytest.mark.parametrize("columns", ["80", "200"])
def test_same_content_with_and_without_rich(monkeypatch, store, root, columns):
    """On a terminal, wide or narrow, rich draws the words that are printed without it."""
    pytest.importorskip("rich")
    name = build(store)
    monkeypatch.setenv("COLUMNS", columns)
    looks = (["ls"], ["verify"], ["show", name], ["history"], ["open", name], ["status"])
    for argv in (*looks, ["why", name], ["lineage", name], ["diff", "0"]):
        raw, with_rich = drawn(monkeypatch, *argv, "--root", root)
        assert ("\x1b[" in raw) == (argv[0] not in ("why", "lineage"))  # lines, no table
        with monkeypatch.context() as patch:
            hide_rich(patch)
            raw, without = drawn(patch, *argv, "--root", root)
        assert "\x1b" not in raw
        assert with_rich.replace("─", "").split() == without.replace("─", "").split()
        assert name in with_rich or argv[0] == "open"


def test_no_color_is_respected(monkeypatch, store, root):
    """With ``NO_COLOR`` a terminal gets no colours."""
    pytest.importorskip("rich")
    build(store)
    monkeypatch.setenv("COLUMNS", "200")
    assert "\x1b[32m" in drawn(monkeypatch, "ls", "--root", root)[0]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in drawn(monkeypatch, "ls", "--root", root)[0]


def test_pipe_gets_whole_names_and_no_styles(run, store, monkeypatch):
    """Output that is no terminal is plain and keeps each row on one line, however narrow."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    name = build(store)
    out = run("ls")[1]
    assert "\x1b" not in out
    assert [line.split()[-1] for line in out.splitlines()] == ["TABLE", name]


# --- real processes ----------------------------------------------------------------------------


def test_module_runs_as_a_program(store, root):
    """``python -m jammi_files`` lists what the library wrote and passes on the exit code."""
    name = build(store)
    done = process("ls", "--root", root)
    assert (done.returncode, done.stderr) == (0, "")
    assert name in done.stdout
    (root / f"{name}.parquet").unlink()
    assert process("verify", "--root", root).returncode == 1
    assert process("ls", "--root", root / "gone").returncode == 3
    assert process("ls").returncode == 2


def test_interrupt_ends_a_long_verify_at_once(store, root, tmp_path):
    """An interrupt in the middle of a data object does not wait for its end."""
    os.truncate(root / f"{build(store)}.parquet", 2**42)  # an object that is read for an hour
    reading = tmp_path / "reading"
    (tmp_path / "sitecustomize.py").write_text(
        "import hashlib, pathlib\n"
        "plain = hashlib.sha256\n"
        "class Told:\n"
        "    def __init__(self, *data):\n"
        "        self.plain = plain(*data)\n"
        "    def update(self, block):\n"
        f"        pathlib.Path({str(reading)!r}).touch()\n"
        "        self.plain.update(block)\n"
        "    def __getattr__(self, name):\n"
        "        return getattr(self.plain, name)\n"
        "hashlib.sha256 = Told\n"
    )
    command = [sys.executable, "-m", "jammi_files", "verify", "--root", str(root)]
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": paths}
    with running(command, stdout=subprocess.PIPE, env=env) as program:
        while not reading.exists():
            assert program.poll() is None
            time.sleep(0.01)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert (program.returncode, out, err) == (130, b"", b"jammi-files: interrupted\n")


@pytest.mark.parametrize("ignored", [False, True])
def test_interrupt_while_the_command_is_loaded(ignored, tmp_path):
    """It ends the program by the signal itself, without a word; `nohup` still has it ignored."""
    loading, end = tmp_path / "loading", tmp_path / "end"
    (tmp_path / "pyarrow.py").write_text(
        "import pathlib, time\n"
        f"pathlib.Path({str(loading)!r}).touch()\n"
        f"while not pathlib.Path({str(end)!r}).exists():\n"
        "    time.sleep(0.01)\n"
        "raise SystemExit(7)\n"
    )
    command = [sys.executable, "-m", "jammi_files", "ls", "--root", str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    with contextlib.ExitStack() as stack:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL)
        try:
            program = stack.enter_context(running(command, env=env))
        finally:
            signal.signal(signal.SIGINT, before)
        while not loading.exists():
            assert program.poll() is None
            time.sleep(0.01)
        program.send_signal(signal.SIGINT)
        if ignored:
            end.touch()
        _, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (7 if ignored else -signal.SIGINT, b"")


def test_version_is_one_line():
    """``--version`` names the command and its version."""
    done = process("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("jammi-files ")


def test_reader_that_goes_away_is_no_error(store, root):
    """When nobody reads the pipe any more the command ends quietly."""
    build(store)
    read, write_end = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "jammi_files", "ls", "--root", str(root)]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
@pytest.mark.parametrize("argv", ["ls --json", "ls", "--help"])
def test_lost_output_is_an_error(store, root, where, argv):
    """Output that could not be written is exit code 3 and one line, whatever was printed."""
    build(store)
    place = "" if argv == "--help" else f"--root {shlex.quote(str(root))}"
    command = f"{shlex.quote(sys.executable)} -m jammi_files {argv} {place} {where}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "standard output" in one_line(done.stderr)


def test_ascii_terminal_gets_every_name(store, root):
    """Where the encoding cannot carry a name it is escaped; the JSON is UTF-8 everywhere."""
    store.catalog.create_result_table(
        "täble", source_id="s", model_id="m", task="ner", parquet_path="t.parquet"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = process("ls", "--root", root, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "t\\xe4ble" in done.stdout
    done = process("ls", "--json", "--root", root, env=environment, encoding="utf-8")
    assert json.loads(done.stdout)["tables"][0]["table_name"] == "täble"


def test_root_whose_name_is_no_utf8(run, tmp_path):
    """A root with a name that UTF-8 cannot carry is shown escaped, in the table and in JSON."""
    root = tmp_path / os.fsdecode(b"r\xff")
    name = build(connect(root, durability="os"))
    assert "r\\udcff" in run("show", name, at=root)[1]
    location = json.loads(run("show", name, "--json", at=root)[1])["location"]
    assert location == str(root / f"{name}.parquet")


@pytest.mark.parametrize(
    "argv",
    [
        *(["show"], ["open"], ["why"], ["lineage"], ["verify"]),
        ["publish", "rows.csv", "--source", "s", "--derived-from"],
    ],
    ids=" ".join,
)
def test_name_that_is_no_utf8(run, store, argv):
    """A name that UTF-8 cannot carry is that of no result."""
    build(store)
    code, out, err = run(*argv, NO_UTF8)
    assert (code, out) == (3, "")
    assert "'\\udcff' not found" in one_line(err)


def test_export_to_a_path_that_is_no_utf8(run, store, tmp_path):
    """No row could name the files: the path is refused before any is copied."""
    build(store)
    code, _, err = run("export", tmp_path / NO_UTF8)
    assert (code, "UTF-8" in one_line(err)) == (2, True)
    assert not (tmp_path / NO_UTF8).exists()


def test_header_that_is_no_utf8(run, ask, store, tmp_path):
    """A CSV whose columns have no names that can be read is refused, and nothing is built."""
    build(store)
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xff\xfe,b\n1,2\n")
    code, _, err = run("publish", path, "--source", "docs")
    assert (code, "cannot be read as csv" in one_line(err)) == (3, True)
    assert len(ask("ls")["tables"]) == 1


def test_more_rows_than_any_result_has(ask, store):
    """The largest count of rows shows them all."""
    name = build(store)
    assert len(ask("open", name, "--rows", "9" * 18)["rows"]) == 3


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1], pa.timestamp("ns", "Europe/Nowhere")),
        pa.array([[1]], pa.list_(pa.timestamp("us", "Europe/Nowhere"))),
        pa.array([[2**62]], pa.list_(pa.timestamp("us"))),
    ],
    ids=["zone", "zone in a list", "year"],
)
def test_instant_that_has_no_text(run, ask, tmp_path, column):
    """An instant that nothing here can word is one line that names its column."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"when": column, "n": [1]}), path)
    name = ask("publish", path, "--source", "docs")["table"]["table_name"]
    code, _, err = run("open", name)
    assert (code, "column 'when' has no JSON form" in one_line(err)) == (3, True)
    assert ask("open", name, "--columns", "n")["rows"] == [{"n": 1}]


def test_every_status_can_be_listed(ask, store):
    """The choices of ``--status`` are the statuses of the catalog."""
    build(store)
    for status in ResultTableStatus:
        assert isinstance(ask("ls", "--status", status.value)["tables"], list)


def test_empty_table_is_published(ask, tmp_path):
    """A file with columns and no rows is a ready result of no rows."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    document = ask("publish", path, "--source", "docs")
    assert (document["table"]["status"], document["table"]["row_count"]) == ("ready", 0)
