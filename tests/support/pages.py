"""The pages that people read, README and `jammi_files/docs`, and how a page is run.

A page is one program: its ```python blocks share one namespace, its ```sh and ```console blocks
one shell, and all of them one directory. In a ```console block a line that begins with ``$`` is a
command, and what stands below it is what the command prints, standard error included; there ``...``
stands for any text, and on a line of its own for any lines. A command that ends in an error says so
itself: ``|| echo "exit code $?"``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HOME = Path(__file__).parent.parent.parent
README = HOME / "README.md"
DOCS = HOME / "jammi_files" / "docs"
PAGES = (README, *sorted(DOCS.glob("*.md")))

_FENCE = re.compile(r"(?ms)^(?P<mark>```+)(?P<words>[^`\n]*)\n(?P<text>.*?)^(?P=mark)$")
_DEADLINE = 300
"""Seconds that a command may take, on a machine that has much else to do."""


class Fence(NamedTuple):
    """A block of a page: the words behind the opening fence, its text, its first line's number."""

    words: str
    text: str
    line: int


def fences(page: Path) -> list[Fence]:
    """Return the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Fence(found["words"].strip(), found["text"], text.count("\n", 0, found.start("text")) + 1)
        for found in _FENCE.finditer(text)
    ]


def run_page(page: Path, directory: Path) -> int:
    """Run the blocks of a page in the current ``directory``; return how many there were.

    README's first two commands are left to `.ci/run`, which runs them on clean copies.
    """
    program = _Program(page, directory)
    skipped = 2 if page == README else 0
    ran = 0
    for fence in fences(page):
        if fence.words == "sh" and skipped:
            skipped -= 1
            continue
        action = {
            "python": program.run_python,
            "sh": program.run_sh,
            "console": program.run_console,
        }
        if fence.words in action:
            action[fence.words](fence)
            ran += 1
    return ran


class _Program:
    """What the blocks of one page have in common."""

    def __init__(self, page: Path, directory: Path) -> None:
        self.page, self.directory = page, directory
        self.names: dict[str, object] = {"__name__": "__main__"}
        scripts = str(Path(sys.executable).parent)
        self.environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
        for name in ("JAMMI_FILES_ROOT", "FORCE_COLOR", "COLUMNS"):
            self.environment.pop(name, None)
        self.runners = {
            "python": self.run_python,
            "sh": self.run_sh,
            "console": self.run_console,
        }

    def run_python(self, fence: Fence) -> None:
        source = "\n" * (fence.line - 1) + fence.text  # so that a traceback names the page's line
        exec(compile(source, str(self.page), "exec"), self.names)  # noqa: S102 - the page is the test

    def run_sh(self, fence: Fence) -> None:
        code, printed = self._shell(fence.text)
        assert code == 0, f"{self.page.name}:{fence.line}: exit code {code}\n{printed}"

    def run_console(self, fence: Fence) -> None:
        for command, expected in _commands(fence.text):
            code, printed = self._shell(command)
            where = f"{self.page.name}:{fence.line}: {command}"
            assert code == 0, f"{where}\nexit code {code}\n{printed}"
            assert matches(printed, expected), (
                f"{where}\n--- expected\n{expected}--- got\n{printed}"
            )

    def _shell(self, script: str) -> tuple[int, str]:
        """Run a script; what it exports is there for the next one."""
        kept = self.directory.with_name(f"{self.directory.name}.exported")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"trap 'env -0 > \"$0\"' EXIT\n{script}", kept],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )
        exported = kept.read_text(encoding="utf-8", errors="surrogateescape").split("\0")
        pairs = (line.partition("=") for line in exported if line)
        self.environment = {name: value for name, _, value in pairs}
        return done.returncode, done.stdout


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block and what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        found = re.match(r"(?:.*\\\n)*.*\n", part)
        assert found is not None
        yield found[0], part[found.end() :]


def matches(printed: str, expected: str) -> bool:
    """Say whether ``expected`` describes what was printed; blanks that end a line do not count."""
    pattern = ""
    for line in expected.rstrip().splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            parts = (re.escape(part) for part in line.rstrip().split("..."))
            pattern += f"{'.*?'.join(parts)} *\n"
    stripped = printed.rstrip()
    return re.fullmatch(pattern, stripped + "\n" if stripped else "") is not None
