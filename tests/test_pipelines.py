"""The examples of docs/pipelines.md that need other tools, run by those tools.

Runs wherever they can be installed, and must run in CI.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from support.orchestrators import find_orchestrators, run_in

import jammi_files

pytestmark = pytest.mark.orchestrators

PAGE = (Path(jammi_files.__file__).parent / "docs" / "pipelines.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python ([\w-]+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="session")
def python():
    """Return the interpreter that has the tools."""
    found, reason = find_orchestrators()
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return found


def test_every_example_is_run_here():
    """No block of the page is marked for a tool that no test knows."""
    assert EXAMPLES.keys() == {"dagster", "prefect", "pytest-benchmark", "datasets"}
    assert len(re.findall(r"```python .", PAGE)) == len(EXAMPLES)


@pytest.mark.parametrize("tool", ["dagster", "prefect", "datasets"])
def test_example(python, tmp_path, tool):
    """The example runs as it stands, and its assertions hold."""
    (tmp_path / "example.py").write_text(EXAMPLES[tool], encoding="utf-8")
    run_in(python, tmp_path, "example.py")


def test_benchmark(python, tmp_path):
    """pytest-benchmark measures; the data are made by the first run, and only by that one."""
    (tmp_path / "test_bench.py").write_text(EXAMPLES["pytest-benchmark"], encoding="utf-8")
    for _ in range(2):
        told = run_in(python, tmp_path, "-m", "pytest", "-p", "no:cacheprovider", "test_bench.py")
        assert "1 passed" in told
        assert "benchmark: 1 tests" in told
    catalog = jammi_files.connect(tmp_path / "bench-data").catalog
    assert [record.status for record in catalog.find_result_tables("bench")] == ["ready"]


def test_datasets(python, tmp_path):
    """Datasets are taken as they are after `select`, `filter` and `shuffle`, streams as streams."""
    script = Path(__file__).parent / "support" / "datasets_given.py"
    told = run_in(python, tmp_path, script, tmp_path / "root")
    assert "all taken\n" in told
