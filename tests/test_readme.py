"""README is executed: its example runs as it stands, and the names in it exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def surroundings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work in an empty directory, with an S3 bucket and credentials if they are used."""
    monkeypatch.chdir(tmp_path)
    if "s3://my-bucket/" not in request.node.callspec.params["example"]:
        return
    server = request.getfixturevalue("s3_server")
    assert server.request("PUT", "/my-bucket").status == 200
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testtest")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("example", EXAMPLES)
def test_examples(example: str) -> None:
    """Every Python block of README runs as it stands; its assertions hold."""
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - the documentation is the test


def test_one_example_is_in_a_bucket() -> None:
    """README shows a bucket as a user has it: a URL, and credentials that are not in the text."""
    assert ["s3://my-bucket/" in example for example in EXAMPLES].count(True) == 1
    assert "storage_options=" not in README


def test_there_is_an_example() -> None:
    """README has an example to run."""
    assert EXAMPLES


def test_proofs_exist() -> None:
    """Every test file that README names as a proof is there."""
    named = set(re.findall(r"`(tests/\w+\.py)`", README))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
