"""The pages of `jammi_files/docs`: their Python blocks, run one after the other as one program."""

from __future__ import annotations

import re
from pathlib import Path

import jammi_files

DOCS = Path(jammi_files.__file__).parent / "docs"


def run_page(name: str) -> int:
    """Run the blocks of a page in the current directory; return how many there were."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text("utf-8"), re.DOTALL)
    surroundings: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), surroundings)  # noqa: S102 - documentation is a test
    return len(blocks)
