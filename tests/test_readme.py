"""README is executed: its example runs as it stands, and the names in it exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of README runs in an empty directory; its assertions hold."""
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - the documentation is the test


def test_there_is_an_example() -> None:
    """README has an example to run."""
    assert EXAMPLES


def test_proofs_exist() -> None:
    """Every test file that README names as a proof is there."""
    named = set(re.findall(r"`(tests/\w+\.py)`", README))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
