"""What most tests begin with: an empty root, opened, and runs small enough to flush and merge."""

from __future__ import annotations

import os
import signal

import orjson
import pytest
from hypothesis import settings

from jammi_files import connect, manifest
from jammi_files.cli import main

# A change is judged by the same examples each time; whoever runs the tests elsewhere searches on.
settings.register_profile("search", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "search")

# gcsfs reads this when it is imported; with it each first call asks Google's own hosts and waits a
# minute for their answer.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

pytest_plugins = ["support.servers.fixtures"]


def pytest_terminal_summary(terminalreporter):
    """Say how many states of a disk were looked at, where tests recorded that."""
    passed = terminalreporter.stats.get("passed", ())
    found = [dict(report.user_properties) for report in passed]
    states = [each["states"] for each in found if "states" in each]
    if states:
        samples = sum(each.get("sampled", 0) for each in found)
        terminalreporter.write_line(
            f"{sum(states):,} states of a disk in {len(states)} tests; moments sampled: {samples}"
        )


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep the segments of test buckets out of this user's cache."""
    os.environ["JAMMI_FILES_CACHE"] = str(tmp_path_factory.mktemp("segments"))


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """Answer interrupts, here and in children, also where a shell began this in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def root(tmp_path):
    """Return a path where nothing is yet."""
    return tmp_path / "root"


@pytest.fixture
def store(root):
    """Return the results under ``root``, without the price of syncing."""
    return connect(root, durability="os")


@pytest.fixture
def catalog(store):
    """Return the catalog under ``root``."""
    return store.catalog


@pytest.fixture
def small_runs(monkeypatch):
    """Make five inline rows a segment and two segments of a level one."""
    shrink_runs(monkeypatch)


def shrink_runs(monkeypatch, *, merge_in_commit_rows=8192):
    monkeypatch.setattr(manifest, "INLINE_ROWS", 4)
    monkeypatch.setattr(manifest, "FAN_OUT", 2)
    monkeypatch.setattr(manifest, "MERGE_IN_COMMIT_ROWS", merge_in_commit_rows)


@pytest.fixture
def run(capsys, root):
    """Return a function that runs a command on ``root``: (code, standard output, error)."""

    def call(*argv, at=root):
        code = main([*map(str, argv), "--root", str(at)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def ask(run):
    """Return a function that runs a command and returns its document."""

    def call(*argv, code=0):
        found, out, err = run(*argv, "--json")
        assert (found, err) == (code, "")
        return orjson.loads(out)

    return call
