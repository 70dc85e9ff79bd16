"""Real processes killed at every step of the publish order, beside real ones that live on."""

from __future__ import annotations

import pytest
from support.invariants import check_invariants
from support.results import DESCRIPTOR, ENV, INPUTS
from support.roots import contents
from support.victims import BATCH, STEPS, victims

from jammi_files import connect, definition_hash, lease
from jammi_files.local import LocalStorage
from jammi_files.materialization import Match, MatchWithUnpinnedInputs
from jammi_files.recovery import RecoveryStep

ENDS = {
    "row": RecoveryStep.FAIL,
    "checkpoint": RecoveryStep.FAIL,
    "writing": RecoveryStep.FAIL,
    "written": RecoveryStep.FAIL,
    "data": RecoveryStep.QUARANTINE,
    "sidecar": RecoveryStep.PROMOTE,
    "commit": None,
}
ROWS = 2 * BATCH.num_rows


@pytest.mark.parametrize(
    ("step", "reap"), [*((step, False) for step in STEPS), ("writing", True), ("data", True)]
)
def test_killed_after(step, reap, tmp_path):
    """`B081` to `B083`, `B247` to `B252`, `B257`, `B258`: the dead build ends, the live one lives.

    Two builds stand at the same step; one is killed. Recovery ends it in the one state that its
    step allows, leaves no orphan, and does not touch the other, which then becomes ready.
    """
    root = str(tmp_path)
    with victims(root, 2) as (dead, live):
        # The step "commit" stands inside the lock, so the other build waits one step before it.
        live.run_to("sidecar" if step == "commit" else step)
        dead.run_to(step)
        dead.kill()
        store = connect(root)
        before = contents(LocalStorage(root))
        store.recover(dry_run=True, reap=reap)
        assert contents(LocalStorage(root)) == before
        lives = {key for key in before if live.table_name in key}
        report = store.recover(reap=reap)
        _require_end(store, dead.table_name, step, report, reap=reap)
        after = contents(LocalStorage(root))
        assert {key: after.get(key) for key in lives} == {key: before[key] for key in lives}
        assert live.table_name not in {action.table_name for action in report.actions}
        assert not store.recover(reap=reap)
        assert contents(LocalStorage(root)) == after
        assert live.finish() is None
    record = store.catalog.get_result_table(live.table_name)
    assert (record.status, record.row_count, record.checkpoint) == ("ready", ROWS, 5)
    assert store.verify_materialization(live.table_name) == Match()
    assert check_invariants(root) == []


def _require_end(store, name, step, report, *, reap):
    record = store.catalog.get_result_table(name)
    mine = {a.action for a in report.actions if name in a.table_name}
    expected = RecoveryStep.REAP if reap and step == "data" else ENDS[step]
    assert mine - {RecoveryStep.SWEEP} == ({expected} if expected else set())
    left = {key.removeprefix(name) for key in contents(store.storage) if name in key}
    assert record.lease is None
    if step in ("sidecar", "commit"):
        assert (record.status, record.row_count) == ("ready", ROWS)
        assert record.definition_hash == definition_hash(DESCRIPTOR, ENV)
        assert record.input_anchors == INPUTS
        assert record.checkpoint == 5
        assert isinstance(store.verify_materialization(name), Match | MatchWithUnpinnedInputs)
        assert left == {".parquet", ".materialization.json"}
    else:
        assert (record.status, record.row_count) == ("failed", 0)
        assert "recovery" in record.properties["error"]
        assert left == ({".parquet"} if step == "data" and not reap else set())


@pytest.mark.parametrize(
    ("step", "status"),
    [
        ("checkpoint", "failed"),
        ("writing", "failed"),
        ("data", "failed"),
        ("sidecar", "ready"),
    ],
)
def test_promote_after_recovery(step, status, tmp_path, monkeypatch):
    """`B259`: a build that was taken for dead and goes on is refused; recovery's word stands."""
    root = str(tmp_path)
    with victims(root, 1) as (late,):
        late.run_to(step)
        store = connect(root)
        with monkeypatch.context() as patch:
            patch.setattr(lease, "find_death", lambda *_: "its host is cut off")
            store.recover(reap=True)
        settled = store.catalog.get_result_table(late.table_name)
        assert settled.status == status
        assert late.finish() == "StateError"
    assert store.catalog.get_result_table(late.table_name) == settled
