"""Spans of OpenTelemetry: where they are, how they nest, and what they cost who uses none."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.results import CONTRACT, DATA, TABLE, build

import jammi_files
from jammi_files import copy, tracing

PAGE = (Path(jammi_files.__file__).parent / "docs" / "observability.md").read_text(encoding="utf-8")
TABLE_OF_SPANS = {
    name: {f"jammi_files.{each}" for each in re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", text))}
    for name, text in re.findall(r"^\| `(jammi_files\.\w+)` \| (.*?) \|$", PAGE, re.MULTILINE)
}
SOMETIMES = {"jammi_files.table_name", "jammi_files.version", "jammi_files.definition_hash"}


@pytest.fixture(scope="module")
def otel():
    """Use OpenTelemetry in this process for as long as these tests run."""
    trace = importlib.import_module("opentelemetry.trace")
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    memory = importlib.import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    tracing._tracer.cache_clear()
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield SimpleNamespace(trace=trace, exporter=exporter)
    provider.shutdown()
    tracing._tracer.cache_clear()
    for name in [each for each in sys.modules if each.startswith("opentelemetry")]:
        del sys.modules[name]


@pytest.fixture
def trace(otel):
    """Return the API of OpenTelemetry."""
    return otel.trace


@pytest.fixture
def spans(otel):
    """Return a function that gives the finished spans, in the order in which they began."""
    otel.exporter.clear()

    def finished():
        found = sorted(otel.exporter.get_finished_spans(), key=lambda span: span.start_time)
        for span in found:
            documented = TABLE_OF_SPANS[span.name]
            assert span.attributes.keys() <= documented, span.name
            if span.status.is_ok or not span.events:
                assert documented - SOMETIMES <= span.attributes.keys(), span.name
        return found

    return finished


def tree(spans):
    """Return the names of spans, each with that of its parent."""
    by_id = {span.context.span_id: span for span in spans}
    return [
        (short(span), short(by_id[span.parent.span_id]) if span.parent else None) for span in spans
    ]


def short(span):
    return span.name.removeprefix("jammi_files.")


def test_a_build(store, spans, trace):
    """A build is a span with the work in its block and its commits inside it."""
    with store.build(*TABLE, **CONTRACT) as out:
        assert trace.get_current_span().name == "jammi_files.build"
        out.write(DATA)
    building, created, promoted = spans()
    assert tree([building, created, promoted]) == [
        ("build", None),
        ("commit", "build"),
        ("commit", "build"),
    ]
    assert building.attributes["jammi_files.table_name"] == out.table_name
    assert building.attributes["jammi_files.rows"] == 3
    assert building.attributes["jammi_files.definition_hash"] == out.manifest.definition_hash
    assert promoted.attributes["jammi_files.operation"] == "ready"
    assert promoted.attributes["jammi_files.version"] == 2
    assert not trace.get_current_span().is_recording()


def test_a_build_that_fails(store, spans, trace):
    """An exception ends the span and is recorded, whether it was the block's or its end's."""

    def failing():
        yield DATA
        raise ZeroDivisionError("by zero")

    for given in (failing(), ()):
        with pytest.raises((ZeroDivisionError, ValueError)):
            publish(store, given)
        assert not trace.get_current_span().is_recording()
    failed = [span for span in spans() if span.name == "jammi_files.build"]
    assert [span.status.is_ok for span in failed] == [False, False]
    assert "by zero" in failed[0].events[0].attributes["exception.message"]
    with pytest.raises(ValueError, match="not a"):
        store.build("docs", "not a task", "model", "m", **CONTRACT).__enter__()
    assert not trace.get_current_span().is_recording()


def publish(store, given):
    with store.build(*TABLE, **CONTRACT) as out:
        out.write(given)


def test_reuse(store, spans):
    """`get_or_build` says in its span whether it computed."""
    ask = {"source_id": "docs", "task": "ner", "env": CONTRACT["env"], "inputs": ()}
    for _ in range(2):
        store.get_or_build(CONTRACT["descriptor"], fn=lambda: DATA, **ask)
    asked = [span for span in spans() if span.name == "jammi_files.get_or_build"]
    assert [span.attributes["jammi_files.outcome"] for span in asked] == ["computed", "reused"]


def test_threads_keep_the_parent(store, spans, trace):
    """What `verify_all` does on threads lies inside the span in which it was called."""
    name = build(store)
    sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    outer = trace.NonRecordingSpan(trace.SpanContext(7, 9, is_remote=False, trace_flags=sampled))
    with trace.use_span(outer):
        store.verify_all()
    [verified] = [span for span in spans() if span.name == "jammi_files.verify"]
    assert (verified.context.trace_id, verified.parent.span_id) == (7, 9)
    assert verified.attributes["jammi_files.verdict"] == "match"
    assert verified.attributes["jammi_files.table_name"] == name


def test_upkeep(store, spans, tmp_path):
    """Recovery, vacuum and copy are spans with what they did."""
    store.delete_table(build(store))
    store.recover()
    report = store.catalog.vacuum(0, dry_run=False)
    copy(store.root, tmp_path / "copy")
    found = {short(span): span.attributes for span in spans()}
    assert found["recover"]["jammi_files.actions"] == 0
    assert found["vacuum"]["jammi_files.versions"] == report.versions_retired
    assert found["copy"]["jammi_files.target"] == str(tmp_path / "copy")


def run(script, directory):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example(tmp_path):
    """The page's example runs as it stands, in a process that chooses its provider."""
    [example] = re.findall(r"```python otel\n(.*?)```", PAGE, re.DOTALL)
    run(example, tmp_path)


def test_it_is_never_imported(tmp_path):
    """A process that does not use OpenTelemetry does not import it for us, whatever it does."""
    script = """
import sys, jammi_files as jf
store = jf.connect("root", durability="os")
how, env = jf.External(producer_id="p", params={}), jf.MaterializationEnv("1", jf.Device.cpu())
for _ in range(2):
    store.get_or_build(how, env, [], lambda: {"a": [1]}, source_id="s", task="ner")
store.verify_all(); store.recover(); store.catalog.vacuum(0, dry_run=False)
jf.copy("root", "copy")
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert run(script, tmp_path) == "[]\n"


def test_without_a_provider(tmp_path):
    """Where the API is imported and nothing is configured, everything works and nothing is kept."""
    script = """
import opentelemetry.trace, jammi_files as jf
store = jf.connect("root", durability="os")
how, env = jf.External(producer_id="p", params={}), jf.MaterializationEnv("1", jf.Device.cpu())
made = store.get_or_build(how, env, [], lambda: {"a": [1]}, source_id="s", task="ner")
assert store.verify_all()[0].ok
"""
    run(script, tmp_path)


def test_a_library_that_is_not_installed(monkeypatch):
    """A copy of the library on the path has no version to give, and works."""

    def missing(_):
        raise tracing.metadata.PackageNotFoundError

    monkeypatch.setattr(tracing.metadata, "version", missing)
    assert tracing._version() is None
