"""The whole catalog against an oracle, in random order, over two openings of one root."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from support.machine import LocalMachine, MemoryMachine

STEPS = 2_000 if os.environ.get("CI") else 500


@pytest.mark.parametrize("machine", [LocalMachine, MemoryMachine])
def test_catalog_equals_oracle(machine):
    """`B056` to `B111`, `B128` to `B130`, `B143` to `B175`: every answer is the oracle's."""
    machine.steps = 0
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=STEPS // 28,
            stateful_step_count=50,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert machine.steps >= STEPS
