"""Builders, recovery and vacuum beside each other, and one of them killed all the time.

CI plays a short run; ``python -m support.long_run --builds 10000 --processes 6`` is the long one.
"""

from __future__ import annotations

from support.long_run import Asked, run


def test_what_was_acknowledged_is_there_once(tmp_path):
    """Each of some hundred builds that was acknowledged is there once; nothing is left over."""
    (tmp_path / "notes").mkdir()
    asked = Asked(builds=150, processes=3, kill_every=0.05, builds_between=8)
    figures = run(str(tmp_path / "root"), tmp_path / "notes", asked)
    assert figures["kills"] > 10
    assert figures["acknowledged"] >= 150
