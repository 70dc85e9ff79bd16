"""The state machine can fail: it misses each rule that is taken out of the library."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.machine import MemoryMachine

from jammi_files.log import Log
from jammi_files.schema import ResultTableStatus
from jammi_files.scope import Scope


def _run() -> None:
    run_state_machine_as_test(
        MemoryMachine,
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=100,
            phases=[Phase.generate],  # the first divergence will do: no time goes into a small one
            print_blob=False,
            report_multiple_bugs=False,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _append_without_looking_again(log, draft):
    """Put a change that lost its race on top of the winner's rows as it is."""
    while not _append(log, draft):
        head = log._advance()
        draft.base, draft.version = head, head.version + 1
        draft.changes = {
            name: row._replace(seq=draft.version) for name, row in draft.changes.items()
        }
    return True


_append = Log._append


def test_machine_misses_the_tenant_predicate(monkeypatch):
    """`B166`: reads that see every tenant's rows are found out."""
    monkeypatch.setattr(Scope, "sees", lambda *_: True)
    with pytest.raises(AssertionError):
        _run()


def test_machine_misses_the_tenant_expression(monkeypatch):
    """`B166`: a scan that returns every tenant's rows is found out."""
    monkeypatch.setattr(Scope, "visible", lambda _: None)
    with pytest.raises(AssertionError):
        _run()


def test_machine_misses_the_strict_rule_of_delete(monkeypatch):
    """`B144`: a delete of rows that are visible but not owned is found out."""
    monkeypatch.setattr(Scope, "owns", Scope.sees)
    with pytest.raises(AssertionError):
        _run()


def test_machine_misses_the_status_rule(monkeypatch):
    """`B073`: a ready or failed row that may become anything is found out."""
    monkeypatch.setattr(ResultTableStatus, "may_become", lambda *_: True)
    with pytest.raises(AssertionError):
        _run()


def test_machine_misses_the_second_check_of_a_retry(monkeypatch):
    """`B278`: a commit that lost its race and does not check again is found out."""
    monkeypatch.setattr(Log, "_append", _append_without_looking_again)
    with pytest.raises(AssertionError):
        _run()
