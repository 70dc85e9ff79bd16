"""The documentation is executed: README and every page of `jammi_files/docs` run as they stand."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tomllib

import filelock
import fsspec
import pytest
from support.pages import DOCS, HOME, PAGES, README, fences, matches, run_page

RUN_HERE = {"python", "sh", "console"}
SHOWN_ONLY = {"text", "json"}
RUN_ELSEWHERE = {
    "python dagster": "test_pipelines.py",
    "python prefect": "test_pipelines.py",
    "python datasets": "test_pipelines.py",
    "python pytest-benchmark": "test_pipelines.py",
    "python otel": "test_tracing.py",
    "python ray": "test_clusters.py",
}
"""Fences whose program needs surroundings of its own, and the test file that runs them."""
ENGINE = HOME / "tests" / "data" / "jammi-0.32"
BUCKET = "s3://my-bucket/"


@pytest.fixture
def bucket(request, monkeypatch, tmp_path_factory):
    """Return a function that gives a page an empty bucket, by credentials in the environment.

    The workers of a test run share the server, so one page at a time has the bucket.
    """
    with contextlib.ExitStack() as stack:

        def provide(page):
            server = request.getfixturevalue("s3_server")
            base = tmp_path_factory.getbasetemp()
            run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
            stack.enter_context(filelock.FileLock(run / "bucket-of-the-pages"))
            assert server.request("PUT", "/my-bucket").status == 200
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testtest")
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            files = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
            for place in sorted(set(re.findall(f"{BUCKET}([\\w-]+)", text(page)))):
                if files.exists(f"my-bucket/{place}"):
                    files.rm(f"my-bucket/{place}", recursive=True)

        yield provide


def names(pages):
    return [page.name for page in pages]


def text(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_page_runs_as_it_stands(page, bucket, tmp_path, monkeypatch):
    """Every block of a page runs in an empty directory; its assertions and its output hold."""
    if BUCKET in text(page):
        bucket(page)
    directory = tmp_path / "empty"
    directory.mkdir()
    if page.name == "migrating.md":
        shutil.copytree(ENGINE, directory / "engine")
    monkeypatch.chdir(directory)
    blocks = sum(fence.words in RUN_HERE for fence in fences(page))
    assert run_page(page, directory) == blocks - (2 if page == README else 0)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_fence_has_a_runner(page):
    """A block is run here, or by the file that the table names, or it shows no command at all."""
    for fence in fences(page):
        assert fence.words in {*RUN_HERE, *SHOWN_ONLY, *RUN_ELSEWHERE}, fence
        if fence.words in RUN_ELSEWHERE:
            runner = HOME / "tests" / RUN_ELSEWHERE[fence.words]
            assert fence.words.split()[-1] in runner.read_text(encoding="utf-8")
        if fence.words in SHOWN_ONLY and page.name != "cli.md":  # whose examples test_cli parses
            assert "jammi-files " not in fence.text, fence


def test_no_fence_is_overlooked():
    """Every line that opens or closes a block belongs to a block that was found."""
    for page in PAGES:
        marks = re.findall(r"^\s*```", text(page), re.MULTILINE)
        assert len(marks) == 2 * len(fences(page)), page.name


def test_one_example_of_readme_is_in_a_bucket():
    """README shows a bucket as a user has it: a URL, and credentials that are not in the text."""
    blocks = [fence.text for fence in fences(README) if fence.words == "python"]
    assert [BUCKET in block for block in blocks].count(True) == 1
    assert "storage_options=" not in text(README)


def test_readme_begins_with_the_two_commands_of_ci():
    """`.ci/run` takes README's first two shell blocks: one line each, the demo and the tests."""
    demo, tests = [fence.text for fence in fences(README) if fence.words == "sh"][:2]
    assert demo.count("\n") == tests.count("\n") == 1
    assert "jammi-files import tests/data/jammi-0.32" in demo
    assert tests.rstrip().endswith("pytest -n 2")


def test_readme_leads_from_nothing_to_an_explained_result():
    """Five commands, or fifteen lines of Python, publish, reuse, verify and explain a result."""
    shell = next(fence.text for fence in fences(README) if fence.words == "console")
    commands = re.findall(r"^\$ jammi-files (\w+)", shell, re.MULTILINE)
    assert commands == ["publish", "publish", "verify", "why", "lineage"]
    program = next(fence.text for fence in fences(README) if fence.words == "python")
    lines = [line for line in program.splitlines() if line and not line.startswith("#")]
    assert len(lines) == 15
    for word in ("get_or_build", "is_reused", "verify_materialization", "explain"):
        assert word in program


def test_proofs_exist():
    """Every test file that README names as a proof is there."""
    named = set(re.findall(r"`(tests/\w+\.py)`", text(README)))
    assert named
    assert [name for name in named if not (HOME / name).is_file()] == []


def links(page):
    """Return the files that a page links to, each with the place in it."""
    found = re.findall(r"\]\(([^)#\s]*)(#[^)\s]+)?\)", text(page))
    return [
        (page if target == "" else (page.parent / target).resolve(), place)
        for target, place in found
        if "://" not in target
    ]


def anchors(page):
    """Return the places of a page as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading).lower() for heading in headings)
    return {"#" + each.replace(" ", "-") for each in words}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page):
    """Every relative link of a page names a file that is there, and a heading in it."""
    for target, place in links(page):
        assert target.exists(), target
        assert not place or place in anchors(target), (target.name, place)


def test_every_page_is_found_from_readme():
    """README links to the index, and the index to every page."""
    index = DOCS / "index.md"
    assert index in [target for target, _ in links(README)]
    assert {*DOCS.glob("*.md")} - {index} <= {target for target, _ in links(index)}


def test_readme_is_short():
    """README stays under 150 lines."""
    assert len(text(README).splitlines()) < 150


def test_data_is_shipped():
    """Pages, and what else the library reads, are package data: pyproject.toml names them."""
    settings = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["jammi_files"]
    package = HOME / "jammi_files"
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    assert {package / "docs" / page.name for page in DOCS.iterdir()} <= shipped
    assert {package / "page" / f"page.{kind}" for kind in ("html", "css", "js")} <= shipped
    assert {package / "FORMAT.md", package / "py.typed"} <= shipped


@pytest.mark.parametrize(
    ("printed", "expected", "answer"),
    [
        ("", "", True),
        ("a\n", "a\n", True),
        ("a  \n\n", "a\n", True),
        ("a\nb\n", "a\n", False),
        ("a\n", "a\nb\n", False),
        ("a 12 b\n", "a ... b\n", True),
        ("a\nx\ny\nb\n", "a\n...\nb\n", True),
        ("a\nb\n", "a\n...\nb\n", True),
        ("a\nx b\n", "a\n...\nb\n", False),
        ("a\nb\n", "a...\n", False),
        ("a.b\n", "a?b\n", False),
    ],
)
def test_output_is_compared(printed, expected, answer):
    """Lines are equal but for ``...``, which is any text of a line or any lines."""
    assert matches(printed, expected) is answer
