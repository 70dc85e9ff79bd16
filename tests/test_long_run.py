"""Builders, recovery and vacuum beside each other, and one of them killed all the time.

CI plays a short run; ``python -m support.long_run --builds 10000 --processes 6`` is the long one.
"""

from __future__ import annotations

from support.long_run import Asked, run
from support.long_run.__main__ import main


def test_what_was_acknowledged_is_there_once(tmp_path):
    """Each of some hundred builds that was acknowledged is there once; nothing is left over."""
    (tmp_path / "notes").mkdir()
    asked = Asked(builds=150, processes=3, kill_every=0.05, builds_between=8)
    figures = run(str(tmp_path / "root"), tmp_path / "notes", asked)
    assert figures["kills"] > 10
    assert figures["acknowledged"] >= 150


def test_the_command(capsys):
    """The command of the long run takes its size and prints what came of it."""
    assert main(["--builds", "5", "--processes", "1", "--kill-every", "2"]) == 0
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert int(told["acknowledged"]) >= 5
