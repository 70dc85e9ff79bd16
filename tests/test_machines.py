"""Two machines and one bucket: a build dies on one, the other ends it, a third reads all along."""

from __future__ import annotations

import time

import pytest
from support.faults import HookedStorage
from support.invariants import AFTER_RECOVERY, check_invariants
from support.machines import Machine, running
from support.results import DATA, build
from support.rivals import open_bucket
from support.servers.backends import FAST

from jammi_files import connect
from jammi_files.catalog import Catalog
from jammi_files.recovery import RecoveryStep
from jammi_files.roots import open_storage
from jammi_files.store import ResultStore

LEASE = 4.0  # seconds
SIDECAR = ".materialization.json"


def build_and_stop(line, url, options, step):
    """Build one result whole, then another up to a step; say both names, and stand there."""
    storage = open_storage(url, storage_options=options)
    line.say(build(ResultStore(Catalog(storage))))

    def hook(moment, kind, key):
        if (moment, kind) == step[0] and key.endswith(step[1]):
            line.say(key.partition(".")[0])
            line.wait()

    build(ResultStore(Catalog(HookedStorage(storage, hook))))


def recover_when_dead(line, url, options):
    """Recover again and again until there is something to do; return it and what came before."""
    store, vain = connect(url, storage_options=options), 0
    line.say("ready")
    line.wait()
    while not (report := store.recover()):
        vain += 1
        time.sleep(0.05)
    return [(action.table_name, action.action) for action in report.actions], vain


def read_all_along(line, url, options):
    """Check every ready result, version after version, until told; return what was seen of each."""
    store, seen, looks = connect(url, storage_options=options), {}, 0
    line.say("ready")
    while not line.is_told():
        looks += 1
        snapshot = store.catalog.snapshot()
        for status in ("building", "ready", "failed"):
            for record in snapshot.list_result_tables_by_status(status):
                states = seen.setdefault(record.table_name, [])
                states += [] if states[-1:] == [status] else [status]
                if status == "ready":
                    assert store.verify_materialization(record.table_name).ok
                    assert store.open_table(record.table_name).to_table() == DATA
                    assert record.row_count == DATA.num_rows
    assert looks > 1
    return seen


@pytest.mark.parametrize(
    ("step", "end", "states"),
    [
        pytest.param(
            (("after", "publish"), ".parquet"),
            RecoveryStep.QUARANTINE,
            ["building", "failed"],
            id="data",
        ),
        pytest.param(
            (("after", "create"), SIDECAR),
            RecoveryStep.PROMOTE,
            ["building", "ready"],
            id="sidecar",
        ),
    ],
)
@pytest.mark.parametrize("server", FAST, indirect=True)
def test_a_build_that_dies_on_another_machine(server, tmp_path, step, end, states):
    """`B246` to `B258`, `B277`: no recovery before the lease ends, one after it, nothing half seen.

    The killed process stood between data and sidecar, or between sidecar and commit.
    """
    url, options = server.root()
    first, second, third = (Machine(name, tmp_path, LEASE) for name in ("one", "two", "three"))
    with (
        running(third, read_all_along, url, options) as reader,
        running(second, recover_when_dead, url, options) as recoverer,
    ):
        assert (reader.hear(), recoverer.hear()) == ("ready", "ready")
        with running(first, build_and_stop, url, options, step) as builder:
            whole, cut_off = builder.hear(), builder.hear()
        recoverer.say("the other one is killed")
        actions, vain = recoverer.hear()
        reader.say("enough")
        seen = reader.hear()
    assert (cut_off, end) in actions
    assert whole not in dict(actions)
    assert vain > 0
    assert seen.keys() <= {whole, cut_off}
    assert seen[cut_off] in (states, states[:1], states[1:])
    store = ResultStore(open_bucket(url, options))
    assert store.catalog.get_result_table(cut_off).status == states[-1]
    assert store.catalog.get_result_table(whole).status == "ready"
    if end is RecoveryStep.PROMOTE:
        assert store.verify_materialization(cut_off).ok
    check_invariants(store.storage, AFTER_RECOVERY)


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_a_machine_comes_back_after_its_build_was_ended(server, tmp_path):
    """`B259`: a build that another machine took for dead is refused when it goes on."""
    url, options = server.root()
    step = (("after", "publish"), ".parquet")
    first, second = (Machine(name, tmp_path, LEASE) for name in ("one", "two"))
    with running(first, build_and_stop, url, options, step) as builder:
        builder.hear()
        cut_off = builder.hear()
        with running(second, recover_when_dead, url, options) as recoverer:
            recoverer.hear()
            recoverer.say("the other one stands still")
            actions, _ = recoverer.hear()
        assert (cut_off, RecoveryStep.QUARANTINE) in actions
        builder.say("go on")
        with pytest.raises(AssertionError, match="StateError"):
            builder.hear()
    store = ResultStore(open_bucket(url, options))
    assert store.catalog.get_result_table(cut_off).status == "failed"
    check_invariants(store.storage, AFTER_RECOVERY)
