"""The documentation is executed: README and every page of `jammi_files/docs` run as they stand."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

import pytest
from support.pages import DOCS, HOME, PAGES, README, fences, matches, run_page

RUN_HERE = {"python", "sh", "console"}
SHOWN_ONLY = {"text", "json"}
RUN_ELSEWHERE: dict[str, str] = {}
"""Fences whose program needs surroundings of its own, and the test file that runs them."""
BUCKET = "s3://my-bucket/"


@pytest.fixture
def bucket(request, monkeypatch):
    """Return a function that gives the page a bucket, by credentials in the environment."""

    def provide():
        server = request.getfixturevalue("s3_server")
        assert server.request("PUT", "/my-bucket").status == 200
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testtest")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    return provide


def names(pages):
    return [page.name for page in pages]


def text(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_page_runs_as_it_stands(page, bucket, tmp_path, monkeypatch):
    """Every block of a page runs in an empty directory; its assertions and its output hold."""
    if BUCKET in text(page):
        bucket()
    directory = tmp_path / "empty"
    directory.mkdir()
    monkeypatch.chdir(directory)
    assert run_page(page, directory) == sum(fence.words in RUN_HERE for fence in fences(page)) - (
        2 if page == README else 0
    )


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_fence_has_a_runner(page):
    """A block is run here, or by the file that the table names, or it shows no command at all."""
    for fence in fences(page):
        assert fence.words in {*RUN_HERE, *SHOWN_ONLY, *RUN_ELSEWHERE}, fence
        if fence.words in RUN_ELSEWHERE:
            runner = HOME / "tests" / RUN_ELSEWHERE[fence.words]
            assert fence.words in runner.read_text(encoding="utf-8")
        if fence.words in SHOWN_ONLY and page.name != "cli.md":  # whose examples test_cli parses
            assert "jammi-files " not in fence.text, fence


def test_no_fence_is_overlooked():
    """Every line that opens or closes a block belongs to a block that was found."""
    for page in PAGES:
        marks = re.findall(r"^\s*```", text(page), re.MULTILINE)
        assert len(marks) == 2 * len(fences(page)), page.name


def test_pages_do_not_share_a_place_in_the_bucket():
    """One server keeps the bucket of all pages, so each page has prefixes of its own."""
    places = Counter(
        place for page in PAGES for place in set(re.findall(f"{BUCKET}([\\w-]+)", text(page)))
    )
    assert places
    assert set(places.values()) == {1}


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


def test_proofs_exist():
    """Every test file that README names as a proof is there."""
    named = set(re.findall(r"`(tests/\w+\.py)`", text(README)))
    assert named
    assert [name for name in named if not (HOME / name).is_file()] == []


def test_links_lead_somewhere():
    """Every relative link of a page names a file that is there."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text(page)):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


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
