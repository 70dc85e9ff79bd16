"""Remove each protection of the library, one at a time, and see a test fail.

    python tests/mutants.py [--fast] [--jobs N] [NAME ...]

A NAME is a mutant's name or a part of it. Everything happens in copies of the tree, which are
removed. First the named tests have to pass unmutated. Exit codes: 0 every mutant was found out,
1 one was not, 2 an entry of the table is stale or its tests do not run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from support.mutants import MUTANTS, Mutant

HOME = Path(__file__).resolve().parent.parent
PACKAGE = "jammi_files"
COPIED = (PACKAGE, "tests", "pyproject.toml", "README.md", "benchmarks")
LIMIT = 600
"""Seconds after which tests that neither pass nor fail count as failed."""


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"


class Result(NamedTuple):
    """A mutant's fate; ``told`` is the first failed test, or what was wrong."""

    mutant: Mutant
    fate: Fate
    told: str
    seconds: float


class Tree:
    """A copy of the tree in which one mutant lives at a time."""

    def __init__(self, home: Path, place: Path) -> None:
        self.place = place
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
        for name in COPIED:
            if (home / name).is_dir():
                shutil.copytree(home / name, place / name, ignore=ignored)
            elif (home / name).exists():
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(home / name, place / name)

    @contextlib.contextmanager
    def holding(self, mutant: Mutant) -> Iterator[None]:
        """Let the copy have the mutant's edits for a block."""
        module = self.place / PACKAGE / f"{mutant.module}.py"
        sound = module.read_text(encoding="utf-8")
        module.write_text(mutate(sound, mutant), encoding="utf-8")
        try:
            yield
        finally:
            module.write_text(sound, encoding="utf-8")

    def run(self, tests: Sequence[str]) -> tuple[int | None, str]:
        """Run tests; return pytest's exit code, None if they took too long, and what it wrote."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += [f"--basetemp={self.place / 'tmp'}", *tests]
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self.place),
            "PYTEST_ADDOPTS": "",
        }
        try:
            done = subprocess.run(
                command,
                cwd=self.place,
                env=environment,
                timeout=LIMIT,
                check=False,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired:
            return None, f"more than {LIMIT} s"
        return done.returncode, done.stdout + done.stderr


def mutate(text: str, mutant: Mutant) -> str:
    """Return a module's text without the protection.

    Raises:
        ValueError: an old text is not there exactly once: the entry is stale.
    """
    for old, new in mutant.edits:
        count = text.count(old)
        if count != 1:
            raise ValueError(f"{mutant.name}: {count} times in {mutant.module}.py: {old!r}")
        text = text.replace(old, new)
    return text


def require_current(mutants: Sequence[Mutant]) -> None:
    """Refuse a table of which an entry is stale; every edited module still compiles."""
    for mutant in mutants:
        module = HOME / PACKAGE / f"{mutant.module}.py"
        compile(mutate(module.read_text(encoding="utf-8"), mutant), str(module), "exec")


def judge(tree: Tree, mutant: Mutant) -> Result:
    """Run a mutant's tests on it."""
    started = time.monotonic()
    fate, told = Fate.SURVIVED, "no test failed"
    with tree.holding(mutant):
        for tests in mutant.tests:
            code, output = tree.run(shlex.split(tests))
            if code == 1:
                fate, told = Fate.KILLED, _first_failure(output)
            elif code is None:
                fate, told = Fate.TIMED_OUT, output
            elif code != 0:
                fate, told = Fate.BROKEN, output.strip()[-300:]
            if fate is not Fate.SURVIVED:
                break
    return Result(mutant, fate, told, time.monotonic() - started)


def find_unsound(tree: Tree, mutants: Sequence[Mutant]) -> list[str]:
    """Return the tests that do not pass on the unmutated copy, or do not run there."""
    unsound = []
    for tests in dict.fromkeys(tests for mutant in mutants for tests in mutant.tests):
        code, output = tree.run(shlex.split(tests))
        if code != 0 or " passed" not in output:
            unsound.append(f"{tests}: {output.strip()[-300:]}")
    return unsound


def run(mutants: Sequence[Mutant], jobs: int) -> list[Result]:
    """Judge mutants side by side, each worker in a copy of its own; print one line for each.

    Raises:
        RuntimeError: a named test does not pass on the unmutated tree.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as scratch,
        ThreadPoolExecutor(jobs) as pool,
    ):
        trees: SimpleQueue[Tree] = SimpleQueue()
        for number in range(jobs):
            trees.put(Tree(HOME, Path(scratch) / str(number)))

        def borrowed(function, *args):
            tree = trees.get()
            try:
                return function(tree, *args)
            finally:
                trees.put(tree)

        shares = [mutants[number::jobs] for number in range(jobs)]
        found = pool.map(lambda share: borrowed(find_unsound, share), shares)
        unsound = list(chain.from_iterable(found))
        if unsound:
            raise RuntimeError("\n".join(unsound))
        results = []
        for result in pool.map(lambda mutant: borrowed(judge, mutant), mutants):
            results.append(result)
            print(_line(result), flush=True)
        return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen mutants; return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("names", nargs="*", help="mutants, by name or a part of it")
    parser.add_argument("--fast", action="store_true", help="only those of every run of the tests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    mutants = [each for each in MUTANTS if not chosen.names or _is_named(each, chosen.names)]
    mutants = [each for each in mutants if each.fast or not chosen.fast]
    try:
        require_current(MUTANTS)
        results = run(mutants, min(chosen.jobs, len(mutants) or 1))
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    fates = {fate: sum(result.fate is fate for result in results) for fate in Fate}
    print(f"{len(results)} mutants: " + ", ".join(f"{n} {fate}" for fate, n in fates.items() if n))
    if fates[Fate.BROKEN] or not results:
        return 2
    return 1 if fates[Fate.SURVIVED] else 0


def _is_named(mutant: Mutant, names: Sequence[str]) -> bool:
    return any(name in mutant.name for name in names)


def _first_failure(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0] if lines else output.strip()[-200:]


def _line(result: Result) -> str:
    fate, seconds = result.fate.value, result.seconds
    return f"{fate:9} {seconds:6.1f} s  {result.mutant.name}  <- {result.told}"


if __name__ == "__main__":
    sys.exit(main())
