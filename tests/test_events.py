"""The logger: every event that happens is on the page, with these fields, at this level."""

from __future__ import annotations

import ast
import logging
import re
import threading
from pathlib import Path

import pytest
from support.buckets import Bucket
from support.results import CONTRACT, build, row
from support.threads import begin

import jammi_files
from jammi_files import connect, copy, lease, manifest
from jammi_files.cli import main
from jammi_files.events import LOGGER, Event

HOME = Path(jammi_files.__file__).parent
PAGE = (HOME / "docs" / "observability.md").read_text(encoding="utf-8")
TABLE = {
    event: (level, set(re.findall(r"`(\w+)`", fields)))
    for event, level, fields in re.findall(
        r"^\| `(\w+)` \| ([A-Z]+) \| (.*?) \|", PAGE, re.MULTILINE
    )
}
SOMETIMES = {("commit", "table_name"), ("left_out", "version"), ("left_out", "table_name")}
OF_ANY_RECORD = {*vars(logging.makeLogRecord({})), "message", "event"}
LIMIT = 120.0


@pytest.fixture
def told(caplog):
    """Return a function that gives what was logged of an event, after a look at all that was."""
    caplog.set_level(logging.DEBUG, "jammi_files")

    def of(event):
        records = [each for each in caplog.records if each.name == "jammi_files"]
        for each in records:
            level, documented = TABLE[each.event]
            fields = vars(each).keys() - OF_ANY_RECORD
            optional = {field for name, field in SOMETIMES if name == each.event}
            assert documented - optional <= fields <= documented, each.event
            assert each.levelname == level, each.event
        return [each for each in records if each.event == event]

    return of


def test_the_page_has_every_event():
    """The page lists each event of the library, and no other."""
    assert TABLE.keys() == {event.value for event in Event}


def test_every_event_is_said():
    """There is no event that no code tells of."""
    said = {
        node.attr
        for path in HOME.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Event"
    }
    assert said == {event.name for event in Event}


def test_a_build(store, told):
    """A build tells of its data, of each commit, and that the result is ready."""
    name = build(store)
    [written] = told("written")
    assert (written.table_name, written.rows) == (name, 3)
    assert written.bytes == (Path(store.root) / f"{name}.parquet").stat().st_size
    created, committed = told("commit")
    assert (created.operation, created.version) == ("create", 1)
    assert (committed.operation, committed.rows, committed.attempts) == ("ready", 1, 1)
    assert committed.seconds > 0
    [ready] = told("ready")
    assert (ready.table_name, ready.version, ready.rows) == (name, 2, 3)
    assert ready.getMessage() == f"{name} is ready"


def test_a_failure(store, told):
    """A result that failed is told with the error's text; nothing is a warning."""
    store.catalog.create_result_table(**row("a"))
    store.catalog.fail_result_table("a", "by hand")
    [failed] = told("failed")
    assert (failed.table_name, failed.error) == ("a", "by hand")


def test_reuse(store, told):
    """A result that is reused is told; who waits for another's build says so once."""
    ask = {"source_id": "docs", "task": "ner", "env": CONTRACT["env"], "inputs": ()}
    is_waiting, others = threading.Event(), []
    handler = logging.Handler()
    handler.emit = lambda record: record.event == "waiting" and is_waiting.set()

    def slow():
        others.append(begin(store.get_or_build, CONTRACT["descriptor"], fn=dict, **ask))
        assert is_waiting.wait(LIMIT)
        return {"a": [1]}

    LOGGER.addHandler(handler)
    try:
        first = store.get_or_build(CONTRACT["descriptor"], fn=slow, **ask)
        assert others[0].result(LIMIT).table_name == first.table_name
    finally:
        LOGGER.removeHandler(handler)
    assert [each.table_name for each in told("waiting")] == [first.table_name]
    assert [each.table_name for each in told("reused")] == [first.table_name]


def test_a_verdict(store, told):
    """Every verdict is told, a bad one too, at the same level."""
    name = build(store)
    store.verify_all()
    (Path(store.root) / f"{name}.parquet").unlink()
    store.verify_materialization(name)
    assert [(each.table_name, each.verdict) for each in told("verified")] == [
        (name, "match"),
        (name, "missing_artifact"),
    ]


def test_recovery(store, told, monkeypatch):
    """Recovery tells what it has done; a dry run tells nothing."""
    store.catalog.create_result_table(**row("lost"))
    monkeypatch.setattr(lease, "find_build_death", lambda *_: "its process is gone")
    store.recover(dry_run=True)
    assert told("recovered") == []
    store.recover()
    [recovered] = told("recovered")
    assert (recovered.table_name, recovered.action) == ("lost", "fail")
    assert "its process is gone" in recovered.reason


def test_vacuum(store, told):
    """Vacuum tells what it removed; a dry run, and one without work, tell nothing."""
    name = build(store)
    store.delete_table(name)
    store.catalog.vacuum(0)
    assert told("vacuumed") == []
    report = store.catalog.vacuum(0, dry_run=False)
    [vacuumed] = told("vacuumed")
    assert (vacuumed.version, vacuumed.bytes) == (report.version, report.bytes_freed)
    assert (vacuumed.versions, vacuumed.objects) == (
        report.versions_retired,
        report.objects_deleted,
    )


def test_a_copy(store, told, tmp_path):
    """A copy tells how much it copied."""
    build(store)
    report = copy(store.root, tmp_path / "copy")
    [copied] = told("copied")
    assert (copied.objects, copied.bytes) == (report.copied, report.copied_bytes)
    assert (copied.root, copied.target) == (store.root, str(tmp_path / "copy"))


def test_a_merge(catalog, told, monkeypatch):
    """Merges of segments are told."""
    monkeypatch.setattr(manifest, "INLINE_ROWS", 4)
    for number in range(12):
        catalog.create_result_table(**row(f"r{number}"))
    count = len(catalog.log.known.runs.segments)
    catalog.compact()
    assert count > 1
    assert [each.segments for each in told("merged")] == [count]


def test_a_conflict(s3_server, told):
    """A version that another writer made first is told, and how many in a row."""
    bucket = Bucket(s3_server)
    bucket.connect().catalog.create_result_table(**row("winner"))
    bucket.catalog.create_result_table(**row("loser"))
    assert [(each.version, each.losses) for each in told("conflict")] == [(2, 1)]
    assert told("commit")[-1].attempts == 2


def test_a_hook_that_raises(store, told):
    """A hook's exception is told with its traceback."""
    store.hooks.on_commit(lambda _: 1 / 0)
    store.catalog.create_result_table(**row("a"))
    [failed] = told("hook_failed")
    assert "lambda" in failed.hook
    assert failed.exc_info[0] is ZeroDivisionError


def test_what_is_wrong_is_a_warning(store, told):
    """What was kept or left out is told at WARNING, with the name of the result."""
    name = build(store)
    record = store.catalog.get_result_table(name)
    store.catalog.create_result_table(**row("twin", parquet_path=record.parquet_path))
    store.delete_table(name)
    assert [each.table_name for each in told("kept")] == [name]


def test_nothing_at_warning(store, tmp_path, caplog):
    """A user who set nothing up hears nothing while all is well."""
    caplog.set_level(logging.WARNING, "jammi_files")
    name = build(store)
    with pytest.raises(ZeroDivisionError):
        store.get_or_build(
            CONTRACT["descriptor"],
            CONTRACT["env"],
            (),
            lambda: 1 / 0,
            source_id="docs",
            task="ner",
        )
    store.verify_all()
    store.recover()
    store.delete_table(name)
    store.catalog.vacuum(0, dry_run=False)
    copy(store.root, tmp_path / "copy")
    assert caplog.records == []
    assert main(["verify", "--root", store.root]) == 0
    assert caplog.records == []


def test_where_it_was_said(store, caplog):
    """A record names the line that tells, not the helper through which it goes."""
    caplog.set_level(logging.DEBUG, "jammi_files")
    build(connect(store.root, durability="os"))
    assert {each.module for each in caplog.records} == {"hooks", "writer"}
