"""The protections of the library are needed: without each of them a test fails."""

from __future__ import annotations

import mutants
import pytest
from support.mutants import MUTANTS, Edit, Mutant


def test_names_differ():
    """A mutant is chosen by its name."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_entries_are_whole():
    """What an entry gives pytest names a file of tests: no other entry was joined to it."""
    given = [tests.split()[0].partition("::")[0] for mutant in MUTANTS for tests in mutant.tests]
    assert [path for path in given if not (mutants.HOME / path).is_file()] == []
    assert all(mutant.tests for mutant in MUTANTS)


def test_the_table_is_current():
    """Every old text is there, once; whoever edits a protection edits the table too."""
    mutants.require_current(MUTANTS)


@pytest.mark.parametrize("old", ["not in the module", "import"])
def test_a_stale_entry_is_an_error(old):
    """A text that is not there, or not once, is never taken for a pass."""
    with pytest.raises(ValueError, match=r"times in local\.py"):
        mutants.require_current([Mutant("stale", "local", (Edit(old, ""),), ())])


def test_fast_mutants_are_found_out():
    """A share of them, in full; ``python tests/mutants.py`` plays all, which is for the night."""
    assert mutants.main(["--fast", "--jobs", "1"]) == 0


def test_a_survivor_is_told(capsys, monkeypatch):
    """A mutant that no test notices is an exit code of 1, and named."""
    unnoticed = Mutant(
        "unnoticed",
        "scope",
        (Edit("owner == self.tenant\n\n    @property", "(owner == self.tenant)\n\n    @property"),),
        ("tests/test_scope.py::test_nil_tenant",),
    )
    monkeypatch.setattr(mutants, "MUTANTS", (unnoticed,))
    assert mutants.main(["unnoticed"]) == 1
    assert "SURVIVED" in capsys.readouterr().out


def test_tests_that_do_not_run_are_an_error(capsys, monkeypatch):
    """A test that is not there, or fails anyway, proves nothing."""
    gone = MUTANTS[0]._replace(tests=("tests/test_scope.py::test_gone",))
    monkeypatch.setattr(mutants, "MUTANTS", (gone,))
    assert mutants.main([]) == 2
    assert "test_gone" in capsys.readouterr().err
