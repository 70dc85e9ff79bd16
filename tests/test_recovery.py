"""Recovery's decisions, one by one: what each dead build becomes, and what is never touched."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from support.faults import HookedStorage
from support.invariants import AFTER_RECOVERY, check_invariants
from support.results import DATA, TABLE, build, finalize, row, write
from support.roots import contents

from jammi_files import connect, fsck, lease
from jammi_files.artifacts import Artifacts
from jammi_files.catalog import Catalog
from jammi_files.errors import FormatError, StateError, StorageError
from jammi_files.fsck import Kind
from jammi_files.local import LocalStorage
from jammi_files.recovery import RecoveryStep
from jammi_files.schema import ModelTask
from jammi_files.store import ResultStore
from jammi_files.timestamps import CLOCK, format_timestamp

TENANT = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "bbbbbbbb-0000-4000-8000-000000000002"
SIDECAR = ".materialization.json"
HOUR = 3600 * 1_000_000_000


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path / "root", "os")


@pytest.fixture
def store(storage):
    return ResultStore(Catalog(storage))


@pytest.fixture(scope="module")
def gone():
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    return process.pid


@pytest.fixture
def dead(monkeypatch, gone):
    """Make every lease from here on that of a process of this host that is gone."""
    _lease_as(monkeypatch, pid=gone)


def _lease_as(monkeypatch, **fields):
    real = lease.new_lease
    owner = {"owner": "f" * 32, **fields}
    monkeypatch.setattr(lease, "new_lease", lambda: dataclasses.replace(real(), **owner))


def _dead_build(store, *, data=True, sidecar=True, **also):
    """Leave a build as a crash would and return its name."""
    name = store.create_table(*TABLE, **also).table_name
    if data:
        write(store, name)
    if sidecar:
        _stop_before_commit(store, name)
    return name


def _stop_before_commit(store, name):
    """Write the sidecar of a table and do not promote it."""

    class StopError(Exception):
        pass

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock"):
            raise StopError

    stopping = ResultStore(Catalog(HookedStorage(store.storage, hook), scope=store.catalog.scope))
    with pytest.raises(StopError):
        finalize(stopping, name)


def _steps(report):
    return {action.table_name: action.action for action in report.actions}


def _files(store, name):
    return {key.removeprefix(name) for key in contents(store.storage) if key.startswith(name)}


def _all_tenants(store):
    return [store.pinned_to_tenant(tenant) for tenant in (None, TENANT, OTHER)]


@pytest.mark.usefixtures("dead")
def test_every_tenant_is_recovered(store):
    """`B246`, `B251`: every building row ends, whosever it is, and stays its tenant's."""
    names = {own.catalog.tenant: _dead_build(own) for own in _all_tenants(store)}
    store.pinned_to_tenant(TENANT).recover()
    assert store.as_admin().catalog.list_result_tables_by_status("building") == []
    for own in _all_tenants(store):
        name = names[own.catalog.tenant]
        record = own.catalog.get_result_table(name)
        assert (record.status, record.tenant_id) == ("ready", own.catalog.tenant)
    assert store.pinned_to_tenant(OTHER).catalog.get_result_table(names[TENANT]) is None


@pytest.mark.usefixtures("dead")
def test_report_names_what_the_caller_sees(store):
    """`B226`, `B265`: the report is the caller's: it names no row of another tenant."""
    names = {own.catalog.tenant: _dead_build(own) for own in _all_tenants(store)}
    report = store.pinned_to_tenant(TENANT).recover(dry_run=True)
    assert set(_steps(report)) == {names[None], names[TENANT]}
    assert set(_steps(store.as_admin().recover())) == set(names.values())


@pytest.mark.usefixtures("dead")
def test_no_data(store):
    """`B247`: a build without a data object has failed, with no rows."""
    name = _dead_build(store, data=False, sidecar=False)
    assert _steps(store.recover()) == {name: RecoveryStep.FAIL}
    record = store.catalog.get_result_table(name)
    assert (record.status, record.row_count, record.lease) == ("failed", 0, None)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 1000, b"not parquet at all"])
@pytest.mark.usefixtures("dead")
def test_no_footer(data, store):
    """`B248`: data without a readable footer is deleted, with the index files, and has failed."""
    name = store.create_table("docs", "text_embedding", "model", "m").table_name
    for suffix in (".parquet", ".usearch", ".rowmap", ".manifest.json"):
        store.storage.create(name + suffix, data)
    assert _steps(store.recover()) == {name: RecoveryStep.REAP}
    assert store.catalog.get_result_table(name).status == "failed"
    assert _files(store, name) == set()


@pytest.mark.parametrize("reap", [False, True])
@pytest.mark.usefixtures("dead")
def test_no_sidecar(reap, store):
    """`B249`, `B262`, `B263`: data without attestation fails; its bytes go only when asked."""
    name = _dead_build(store, sidecar=False)
    expected = RecoveryStep.REAP if reap else RecoveryStep.QUARANTINE
    assert _steps(store.recover(reap=reap)) == {name: expected}
    assert store.catalog.get_result_table(name).status == "failed"
    assert _files(store, name) == (set() if reap else {".parquet"})


@pytest.mark.usefixtures("dead")
def test_attested(store):
    """`B250`: data that its sidecar attests becomes ready, with the footer's count."""
    name = _dead_build(store)
    attested = store.read_materialization_manifest(name)
    assert _steps(store.recover()) == {name: RecoveryStep.PROMOTE}
    record = store.catalog.get_result_table(name)
    assert (record.status, record.row_count) == ("ready", DATA.num_rows)
    assert record.definition_hash == attested.definition_hash
    assert record.input_anchors == attested.input_anchors
    assert store.verify_materialization(name).ok
    assert check_invariants(store.storage) == []


@pytest.mark.usefixtures("dead")
def test_last_checkpoint_lands_in_the_row(store):
    """`B164`, `B250`: the checkpoint of the dead build is the promoted row's; its object goes."""
    name = _dead_build(store)
    Catalog(store.storage).set_checkpoint(name, 42)
    store.recover()
    assert store.catalog.get_result_table(name).checkpoint == 42
    assert store.storage.list(lease.BUILDS) == []


@pytest.mark.parametrize("reap", [False, True])
@pytest.mark.usefixtures("dead")
def test_second_recover(reap, store):
    """`B252`: a second recovery has nothing to do and changes nothing."""
    for data, sidecar in ((False, False), (True, False), (True, True)):
        Catalog(store.storage).set_checkpoint(_dead_build(store, data=data, sidecar=sidecar), 1)
    assert store.recover(reap=reap)
    settled = contents(store.storage)
    assert not store.recover(reap=reap)
    assert contents(store.storage) == settled
    check_invariants(store.storage, AFTER_RECOVERY)


@pytest.mark.parametrize("reap", [False, True])
def test_ready_without_sidecar(reap, store):
    """`B253`, `B263`: a ready row whose attestation is gone fails; its bytes go when asked."""
    name = build(store)
    store.storage.delete(name + SIDECAR)
    assert Kind.READY_WITHOUT_SIDECAR in {finding.kind for finding in fsck.fsck(store.catalog)}
    assert set(_steps(store.recover(reap=reap))) == {name}
    assert store.catalog.get_result_table(name).status == "failed"
    assert _files(store, name) == (set() if reap else {".parquet"})
    assert not store.recover(reap=reap)


@pytest.mark.parametrize("reap", [False, True])
def test_ready_in_a_directory(reap, store):
    """`B253`: a sidecar in a directory under the root is looked for there, and is no lost one."""
    store.catalog.create_result_table(**row("deep", parquet_path="docs/2024/deep.parquet"))
    write(store, "deep")
    finalize(store, "deep")
    before = contents(store.storage)
    assert store.recover(reap=reap).actions == ()
    assert contents(store.storage) == before
    assert store.verify_materialization("deep").ok


def test_ready_without_contract(store):
    """`B254`: a row that was made ready without a contract is left as it is."""
    store.catalog.create_result_table(**row("old"))
    write(store, "old")
    store.catalog.update_result_table_status("old", "ready", 3)
    before = contents(store.storage)
    assert not store.recover(reap=True)
    assert contents(store.storage) == before


def test_ready_without_data(store):
    """`B255`, `B264`: a ready row whose data is gone stays, is not offered, and is found."""
    name = build(store)
    store.storage.delete(f"{name}.parquet")
    assert not store.recover(reap=True)
    assert store.catalog.get_result_table(name).status == "ready"
    with pytest.raises(StateError, match="is gone"):
        store.open_table(name)
    (finding,) = fsck.fsck(store.catalog)
    assert (finding.kind, finding.subject) == (Kind.READY_WITHOUT_DATA, name)
    store.catalog.fail_result_table(name, "the data is gone")
    assert fsck.fsck(store.catalog.as_admin()) == []


@pytest.mark.usefixtures("dead")
def test_index_is_an_accelerator(store):
    """`B256`: an index that is missing or broken does not stop a promotion."""
    names = []
    for broken in (False, True):
        name = store.create_table("docs", "text_embedding", "model", "m").table_name
        write(store, name)
        _stop_before_commit(store, name)
        if broken:
            store.storage.create(f"{name}.usearch", b"broken")
        names.append(name)
    assert _steps(store.recover()) == dict.fromkeys(names, RecoveryStep.PROMOTE)


def test_live_process(store, monkeypatch):
    """`B258`: a build whose process lives is safe, however long ago its lease expired."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", -3600)
    names = [_dead_build(store, sidecar=sidecar) for sidecar in (False, True)]
    before = contents(store.storage)
    assert not store.recover(reap=True)
    assert contents(store.storage) == before
    for name in names:
        finalize(store, name)
        assert store.catalog.get_result_table(name).status == "ready"


def test_reused_process_number(store, monkeypatch):
    """`B258`: a living process that merely has the number of the dead one protects nothing."""
    _lease_as(monkeypatch, process_start="1")
    name = _dead_build(store, sidecar=False)
    assert _steps(store.recover()) == {name: RecoveryStep.QUARANTINE}


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells a zombie")
def test_zombie(store, monkeypatch):
    """`B258`: a process that has ended protects nothing, even one that nobody has waited for."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        _lease_as(monkeypatch, pid=process.pid, process_start=lease._process_start(process.pid))
        name = _dead_build(store, sidecar=False)
        assert store.recover().actions == ()
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert _steps(store.recover()) == {name: RecoveryStep.QUARANTINE}


@pytest.mark.parametrize(
    ("answer", "alive"),
    [(None, True), (PermissionError, True), (ProcessLookupError, False), (OverflowError, False)],
)
def test_hidden_process(answer, alive, store, monkeypatch):
    """`B258`: where the processes of others are not shown, one that is there is taken to live."""

    def kill(_, signal):
        assert signal == 0
        if answer is not None:
            raise answer

    name = _dead_build(store, sidecar=False)
    monkeypatch.setattr(lease, "_process_start", lambda _: None)
    monkeypatch.setattr(os, "kill", kill)
    assert (name in _steps(store.recover())) == (not alive)


def test_process_that_did_not_know_its_start(store, monkeypatch):
    """`B258`: nor is one judged by a start that its lease does not say."""
    _lease_as(monkeypatch, process_start="")
    _dead_build(store, sidecar=False)
    assert store.recover().actions == ()


@pytest.mark.parametrize(("age", "alive"), [(-HOUR, True), (HOUR, False)])
def test_other_host(age, alive, store, monkeypatch, gone):
    """`B258`: of a build on another host only the lease is known, and it decides."""
    _lease_as(monkeypatch, host="elsewhere", pid=gone, expires_at=CLOCK.now() - age)
    name = _dead_build(store, sidecar=False)
    assert (name in _steps(store.recover())) == (not alive)
    assert (store.catalog.get_result_table(name).status == "building") == alive


@pytest.mark.parametrize("other", ["host name", "boot", "process namespace"])
def test_what_makes_another_host(other, store, monkeypatch, gone):
    """`B258`: after a reboot, and in another container, a process number says nothing of ours."""
    boot, namespace = "/proc/sys/kernel/random/boot_id", f"/proc/{os.getpid()}/ns/pid"
    said = {"host name": "host", boot: "first", namespace: "pid:[1]"}
    monkeypatch.setattr(lease.socket, "gethostname", lambda: said["host name"])
    texts, links = lease.Path.read_text, os.readlink
    monkeypatch.setattr(
        lease.Path,
        "read_text",
        lambda path, *how, **hows: said.get(str(path)) or texts(path, *how, **hows),
    )
    monkeypatch.setattr(os, "readlink", lambda path, **at: said.get(path) or links(path, **at))
    monkeypatch.setattr(lease, "_host", lease._host.__wrapped__)
    with monkeypatch.context() as patch:
        _lease_as(patch, pid=gone, expires_at=CLOCK.now() + HOUR)
        store.catalog.create_result_table(**row("x"))
    key = {"boot": boot, "process namespace": namespace}.get(other, other)
    with monkeypatch.context() as patch:
        patch.setitem(said, key, "another")
        assert store.recover().actions == ()
    assert _steps(store.recover()) == {"x": RecoveryStep.FAIL}


def test_renewed_lease(store, monkeypatch):
    """`B258`, `B165`: a side object renews the lease that the row was created with."""
    with monkeypatch.context() as patch:
        _lease_as(patch, host="elsewhere", expires_at=CLOCK.now() - HOUR)
        renewed, silent = (_dead_build(store, sidecar=False) for _ in range(2))
    with monkeypatch.context() as patch:
        _lease_as(patch, host="elsewhere")
        Catalog(store.storage).renew_lease(renewed)
    assert set(_steps(store.recover())) == {silent}
    assert store.catalog.get_result_table(renewed).status == "building"
    assert lease.key_of(renewed) in contents(store.storage)


def test_expired_renewal(store, monkeypatch):
    """`B258`: a renewal expires like any lease, and the row's own older one does not revive it."""
    with monkeypatch.context() as patch:
        _lease_as(patch, host="elsewhere", expires_at=CLOCK.now() + HOUR)
        name = _dead_build(store, sidecar=False)
    with monkeypatch.context() as patch:
        _lease_as(patch, host="elsewhere", expires_at=CLOCK.now() - HOUR)
        Catalog(store.storage).renew_lease(name)
    assert set(_steps(store.recover())) == {name}
    assert lease.key_of(name) not in contents(store.storage)


def test_taken_over_before_the_clock_was_set_back(store, monkeypatch, gone):
    """`B258`: who took a build over lives, however long the dead owner's side object is to last."""
    with monkeypatch.context() as patch:
        _lease_as(patch, pid=gone, expires_at=CLOCK.now() + HOUR)
        store.catalog.create_result_table(**row("x"))
        Catalog(store.storage).set_checkpoint("x", 7)
    taken = store.catalog.create_result_table(**row("x"), if_not_exists=True)
    assert lease.is_mine(taken.lease)
    assert store.recover().actions == ()
    write(store, "x")
    finalize(store, "x")


def test_renewed_by_another(store, monkeypatch, gone):
    """`B258`: a build of which somebody else keeps the side object lives by that one, too."""
    with monkeypatch.context() as patch:
        _lease_as(patch, pid=gone, expires_at=CLOCK.now() + HOUR)
        store.catalog.create_result_table(**row("x"))
    store.catalog.set_checkpoint("x", 7)
    assert store.recover().actions == ()
    with monkeypatch.context() as patch:
        _lease_as(patch, owner="e" * 32, pid=gone)
        Catalog(store.storage).renew_lease("x")
    assert _steps(store.recover()) == {"x": RecoveryStep.FAIL}


@pytest.mark.parametrize(("age", "alive"), [(0, True), (HOUR, False)])
def test_row_without_lease(age, alive, store):
    """`B258`: of an imported row that is still building its age decides."""
    created = store.catalog.create_result_table(**row("seed"))
    fields = {"table_name": "old", "lease": None, "created_at": format_timestamp(CLOCK.now() - age)}
    store.catalog.adopt_result_tables([dataclasses.replace(created, **fields)])
    assert ("old" in _steps(store.recover())) == (not alive)


def test_promote_after_recovery(store, monkeypatch):
    """`B259`: a promote that comes after recovery failed the row is refused, for good."""
    name = _dead_build(store, sidecar=False)
    with monkeypatch.context() as patch:
        patch.setattr(lease, "find_death", lambda *_: "it is taken for dead")
        store.recover(reap=True)
    for attempt in (
        lambda: finalize(store, name),
        lambda: store.catalog.promote_result_table_with_manifest(name, 3, "0" * 64, []),
        lambda: store.catalog.update_result_table_status(name, "ready", 3),
        lambda: store.open_writer(name, DATA.schema),
        lambda: store.catalog.set_checkpoint(name, 1),
    ):
        with pytest.raises(StateError):
            attempt()
    assert store.catalog.get_result_table(name).status == "failed"
    assert _files(store, name) == set()


@pytest.mark.usefixtures("dead")
def test_bad_rows_are_skipped(store):
    """`B260`: a row that cannot be judged is reported and left; every other one is recovered."""
    broken = _dead_build(store)
    store.storage.replace(broken + SIDECAR, b'{"manifest_version": 3, ')
    foreign = store.catalog.create_result_table(**row("foreign", parquet_path="ftp://host/x"))
    odd = dataclasses.replace(foreign, table_name="odd", task=ModelTask.stored("clairvoyance"))
    store.catalog.adopt_result_tables([odd])
    state = _dead_build(store)
    store.storage.replace(lease.key_of(state), b"\xff")
    good = _dead_build(store)
    for _ in range(2):
        steps = _steps(store.recover())
        bad = dict.fromkeys((broken, "foreign", "odd", state), RecoveryStep.SKIP)
        assert bad.items() <= steps.items()
    assert store.catalog.get_result_table(good).status == "ready"
    assert store.catalog.get_result_table(broken).status == "building"
    with pytest.raises(FormatError):
        store.catalog.get_result_table("odd")


def test_bad_ready_rows_are_skipped(store):
    """`B260`: a ready row of unreachable path is reported; the sound one beside it is left."""
    name = build(store)
    ready = store.catalog.get_result_table(name)
    fields = {"table_name": "far", "parquet_path": "ftp://host/far.parquet"}
    store.catalog.adopt_result_tables([dataclasses.replace(ready, **fields)])
    assert _steps(store.recover()) == {"far": RecoveryStep.SKIP}


@pytest.mark.parametrize("reap", [False, True])
@pytest.mark.usefixtures("dead")
def test_sidecar_of_other_bytes(reap, store):
    """`B261`: data that its sidecar does not attest is never promoted."""
    name = _dead_build(store)
    fields = json.loads(store.storage.read(name + SIDECAR))
    fields["artifact"] = "0" * len(fields["artifact"])
    store.storage.replace(name + SIDECAR, json.dumps(fields).encode())
    expected = RecoveryStep.REAP if reap else RecoveryStep.QUARANTINE
    assert _steps(store.recover(reap=reap)) == {name: expected}
    assert store.catalog.get_result_table(name).status == "failed"
    assert _files(store, name) == (set() if reap else {".parquet", SIDECAR})


@pytest.mark.parametrize("reap", [False, True])
@pytest.mark.parametrize(
    "other", [{"source_id": "other"}, {"model_id": "new/model"}, {"key_column": "id"}]
)
@pytest.mark.usefixtures("dead")
def test_data_of_an_earlier_result(other, reap, store, monkeypatch):
    """`B261`: what a cut-off deletion left is no data of the row that has the name now."""
    store.catalog.create_result_table(**row("x"))
    write(store, "x")
    finalize(store, "x")
    with monkeypatch.context() as patch:
        patch.setattr(Artifacts, "remove_objects", lambda *_: [])
        store.delete_table("x")
    store.catalog.create_result_table(**row("x", **other))
    expected = RecoveryStep.REAP if reap else RecoveryStep.QUARANTINE
    assert _steps(store.recover(reap=reap)) == {"x": expected}
    assert store.catalog.get_result_table("x").status == "failed"
    assert _files(store, "x") == (set() if reap else {".parquet", SIDECAR})


@pytest.mark.usefixtures("dead")
def test_data_of_another_program(store):
    """`B250`: data whose footer names no row, as jammi-db writes it, is judged by its sidecar."""
    name = store.create_table(*TABLE).table_name
    sink = io.BytesIO()
    pq.write_table(DATA, sink)
    store.storage.create(f"{name}.parquet", sink.getvalue())
    _stop_before_commit(store, name)
    assert _steps(store.recover()) == {name: RecoveryStep.PROMOTE}
    assert store.verify_materialization(name).ok


@pytest.mark.usefixtures("dead")
def test_reaping_takes_the_sidecar(store):
    """`B262`: what is reaped leaves no orphan sidecar."""
    name = _dead_build(store)
    store.storage.replace(f"{name}.parquet", b"torn")
    assert _steps(store.recover()) == {name: RecoveryStep.REAP}
    assert _files(store, name) == set()
    assert check_invariants(store.storage) == []


@pytest.mark.usefixtures("dead")
def test_temporary_files(store):
    """`B257`: temporary files of ended builds are swept; those of live ones and strangers stay."""
    ended, sidecar = _dead_build(store, sidecar=False), _dead_build(store, sidecar=False)
    swept = {f"{ended}.parquet.0123abcd.tmp", f"{sidecar}{SIDECAR}.0123abcd.tmp"}
    kept = {"stranger.tmp", "nobody.parquet.0123abcd.tmp", "notes.parquet"}
    for key in swept | kept:
        store.storage.create(key, b"half")
    steps = _steps(store.recover())
    assert {key for key, step in steps.items() if step is RecoveryStep.SWEEP} == swept
    assert {key for key in store.storage.list("") if key in swept | kept} == kept


def test_temporary_files_of_live_builds(store):
    """`B258`: the temporary file of a live build is what it is writing to."""
    name = store.create_table(*TABLE).table_name
    with store.open_writer(name, DATA.schema) as out:
        out.write(DATA)
        assert not store.recover(reap=True)
    finalize(store, name)
    assert store.verify_materialization(name).ok


@pytest.mark.parametrize("name", ["x2", "x.materialization.json"])
def test_temporary_files_of_live_builds_under_odd_names(name, store):
    """`B258`: a temporary file is that of the row that names its path, whatever it looks like."""
    store.catalog.create_result_table(**row("x"))
    store.catalog.fail_result_table("x", "by hand")
    path = "x.parquet" if name == "x2" else f"{name}.parquet"
    store.catalog.create_result_table(**row(name, parquet_path=path))
    with store.open_writer(name, DATA.schema) as out:
        out.write(DATA)
        assert store.recover().actions == ()
    finalize(store, name)


def test_taken_over_while_it_is_judged(store, monkeypatch, gone):
    """`B258`: who takes a build over before it is ended keeps what is being written."""
    with monkeypatch.context() as patch:
        _lease_as(patch, pid=gone)
        store.catalog.create_result_table(**row("x"))
    begun = []

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock") and not begun:
            store.catalog.create_result_table(**row("x"), if_not_exists=True)
            begun.append(store.open_writer("x", DATA.schema))

    report = ResultStore(Catalog(HookedStorage(store.storage, hook))).recover()
    assert _steps(report) == {"x": RecoveryStep.SKIP}
    (out,) = begun
    out.write(DATA)
    out.close()
    finalize(store, "x")


def test_a_name_is_built_anew_before_its_side_object_is_swept(store):
    """`B258`: the side object that an ended build left may be another's when it is to go."""
    store.catalog.create_result_table(**row("x"))
    store.catalog.fail_result_table("x", "by hand")
    lease.write_state(store.storage, store.catalog.get_result_table("x"), 3)
    key, begun = lease.key_of("x"), []
    assert _steps(store.recover(dry_run=True)) == {key: RecoveryStep.SWEEP}

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock") and not begun:
            store.delete_table("x")
            begun.append(store.catalog.create_result_table(**row("x")))
            store.catalog.set_checkpoint("x", 7)

    report = ResultStore(Catalog(HookedStorage(store.storage, hook))).recover()
    assert _steps(report) == {key: RecoveryStep.SKIP}
    assert Catalog(store.storage).get_checkpoint("x") == 7
    store.catalog.fail_result_table("x", "by hand")
    lease.write_state(store.storage, store.catalog.get_result_table("x"), 3)
    assert _steps(store.recover()) == {key: RecoveryStep.SWEEP}
    assert store.storage.list(lease.BUILDS) == []


def test_leftovers_of_rows_that_cannot_be_judged(store):
    """`B037`, `B260`: what may be a newer library's live build keeps its state and its file."""
    seed = store.catalog.create_result_table(**row("seed"))
    odd = dataclasses.replace(seed, table_name="odd", task=ModelTask.stored("clairvoyance"))
    store.catalog.adopt_result_tables([odd])
    kept = {lease.key_of("odd"), "odd.parquet.0123abcd.tmp"}
    for key in kept:
        store.storage.create(key, b"half")
    assert _steps(store.recover(reap=True)) == {"odd": RecoveryStep.SKIP}
    assert kept <= contents(store.storage).keys()


@pytest.mark.usefixtures("dead")
def test_dry_run(store):
    """`B265`: a dry run changes nothing and plans what recovery then reports."""
    for data, sidecar in ((False, False), (True, False), (True, True)):
        _dead_build(store, data=data, sidecar=sidecar)
    before = contents(store.storage)
    planned = store.recover(dry_run=True)
    assert planned.dry_run
    assert contents(store.storage) == before
    done = store.recover()
    assert not done.dry_run
    assert planned.actions == done.actions
    assert all(action.reason for action in done.actions)


@pytest.mark.usefixtures("dead")
def test_dry_run_plans_the_sweep(store):
    """`B265`: what recovery would sweep is part of the plan."""
    name = _dead_build(store, sidecar=False)
    store.storage.create(f"{name}.parquet.0123abcd.tmp", b"half")
    planned = store.recover(dry_run=True)
    assert planned.actions == store.recover().actions


@pytest.mark.usefixtures("dead")
def test_opening_recovers_nothing(store):
    """`B266`: recovery happens when it is asked for; opening and reading change nothing."""
    name = _dead_build(store)
    before = contents(store.storage)
    opened = connect(store.root)
    assert opened.catalog.get_result_table(name).status == "building"
    assert opened.catalog.scan().num_rows == 1
    assert contents(store.storage) == before


@pytest.mark.usefixtures("dead")
def test_a_build_that_goes_on_wins(store):
    """`B258`, `B259`: a row that changed since recovery looked at it is left alone."""
    name = _dead_build(store, sidecar=False)
    other, moved = Catalog(store.storage), []

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock") and not moved:
            moved.append(other.update_result_table_status(name, "building", 2))

    report = ResultStore(Catalog(HookedStorage(store.storage, hook))).recover(reap=True)
    assert _steps(report) == {name: RecoveryStep.SKIP}
    assert store.catalog.get_result_table(name) == moved[0]
    assert _files(store, name) == {".parquet"}


def test_a_build_that_is_taken_over_is_not_promoted(store, monkeypatch, gone):
    """`B258`, `B259`: a dead build that a retry has just taken over is the retry's to finish."""
    with monkeypatch.context() as patch:
        _lease_as(patch, pid=gone)
        store.catalog.create_result_table(**row("x"))
        write(store, "x")
        _stop_before_commit(store, "x")
    other, taken = Catalog(store.storage), []

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock") and not taken:
            taken.append(other.create_result_table(**row("x"), if_not_exists=True))

    report = ResultStore(Catalog(HookedStorage(store.storage, hook))).recover()
    assert _steps(report) == {"x": RecoveryStep.SKIP}
    assert lease.is_mine(taken[0].lease)
    assert store.catalog.get_result_table("x") == taken[0]
    assert taken[0].status == "building"


def test_a_build_that_begins_meanwhile_is_safe(store):
    """`B258`: a live build that begins while recovery runs keeps its checkpoint and lease."""
    store.catalog.create_result_table(**row("old"))
    other, begun = Catalog(store.storage), []

    def hook(moment, kind, key):
        if (moment, kind, key) == ("before", "list", lease.BUILDS) and not begun:
            begun.append(other.create_result_table(**row("new")))
            other.set_checkpoint("new", 7)

    ResultStore(Catalog(HookedStorage(store.storage, hook))).recover()
    assert begun
    assert Catalog(store.storage).get_checkpoint("new") == 7


def test_a_handle_that_may_be_stale(store):
    """`B258`: recovery and fsck go by the newest rows, however stale a handle's reads may be."""
    lazy = ResultStore(Catalog(store.storage, max_staleness=3600)).as_admin()
    build(store)
    assert lazy.catalog.version
    store.catalog.create_result_table(**row("live"))
    store.catalog.set_checkpoint("live", 7)
    with store.open_writer("live", DATA.schema) as out:
        out.write(DATA)
        assert lazy.recover().actions == ()
    assert store.storage.list(lease.BUILDS) == ["live.json"]
    behind = ResultStore(Catalog(store.storage, max_staleness=3600)).as_admin()
    assert behind.catalog.version
    finalize(store, "live")
    store.delete_table("live")
    store.catalog.create_result_table(**row("next"))
    store.catalog.set_checkpoint("next", 7)
    assert fsck.fsck(behind.catalog) == []


@pytest.mark.usefixtures("dead")
def test_what_was_kept_can_be_reaped_later(store):
    """`B263`: data kept under a row that recovery failed goes when a later run is told to reap."""
    kept = _dead_build(store, sidecar=False)
    failed = build(store)
    store.catalog.fail_result_table(failed, "by hand")
    assert _steps(store.recover()) == {kept: RecoveryStep.QUARANTINE}
    assert not store.recover()
    assert _steps(store.recover(dry_run=True, reap=True)) == {kept: RecoveryStep.REAP}
    assert _steps(store.recover(reap=True)) == {kept: RecoveryStep.REAP}
    assert _files(store, kept) == set()
    assert _files(store, failed) == {".parquet", ".materialization.json"}


def _meanwhile(store, act, *, when):
    """Return a store over the same root that acts once before the lock is taken for that time."""
    locks = []

    def hook(moment, kind, _):
        if (moment, kind) == ("before", "lock"):
            locks.append(kind)
            if len(locks) == when:
                act()

    return ResultStore(Catalog(HookedStorage(store.storage, hook)))


@pytest.mark.parametrize("status", ["building", "failed"])
def test_a_name_is_used_again_before_its_data_is_reaped(status, store, monkeypatch, gone):
    """`B263`: between judgement and deletion a name may be deleted and made ready again."""
    with monkeypatch.context() as patch:
        _lease_as(patch, pid=gone)
        store.catalog.create_result_table(**row("x"))
    write(store, "x")
    if status == "failed":
        store.recover()

    def again():
        store.delete_table("x")
        store.catalog.create_result_table(**row("x"))
        write(store, "x")
        finalize(store, "x")

    # Of a build the first lock is for its failure, the second for its side object.
    racing = _meanwhile(store, again, when=1 if status == "failed" else 3)
    assert _steps(racing.recover(reap=True)) == {"x": RecoveryStep.SKIP}
    assert store.verify_materialization("x").ok


def _shared_by_dead(store, monkeypatch, gone):
    """Leave ``b``, a dead build that names the data of ``x``."""
    with monkeypatch.context() as patch:
        _lease_as(patch, pid=gone)
        store.catalog.create_result_table(**row("b", parquet_path="x.parquet"))


def _make_x(store):
    store.catalog.create_result_table(**row("x"))
    write(store, "x")
    finalize(store, "x")


def test_shared_data_is_kept(store, monkeypatch, gone):
    """`B263`: data that another row names is neither that of a dead build nor deleted with it."""
    _shared_by_dead(store, monkeypatch, gone)
    store.recover()
    _make_x(store)
    assert not store.recover(reap=True)
    store.catalog.create_result_table(**row("c", parquet_path="x.parquet"))
    assert store.verify_materialization("x").ok
    store.storage.delete("x" + SIDECAR)
    assert _steps(store.recover(dry_run=True, reap=True)) == {"x": RecoveryStep.QUARANTINE}
    assert _steps(store.recover(reap=True)) == {"x": RecoveryStep.QUARANTINE}
    assert "x.parquet" in contents(store.storage)


def test_data_becomes_shared_before_it_is_reaped(store, monkeypatch, gone):
    """`B263`: another row may come to name the data when it is to go."""
    _shared_by_dead(store, monkeypatch, gone)
    store.recover()
    store.storage.create("x.parquet", b"somebody's")
    racing = _meanwhile(store, lambda: store.catalog.create_result_table(**row("x")), when=1)
    assert _steps(racing.recover(reap=True)) == {"b": RecoveryStep.SKIP}
    assert "x.parquet" in contents(store.storage)


@pytest.mark.usefixtures("dead")
def test_one_refused_object_is_not_the_end(store):
    """`B260`: an object that the storage will not give up is reported; the other rows go on."""
    first, second = (_dead_build(store, sidecar=False) for _ in range(2))

    def hook(moment, kind, key):
        if (moment, kind, key) == ("before", "delete", f"{first}.parquet"):
            raise StorageError("busy")

    report = ResultStore(Catalog(HookedStorage(store.storage, hook))).recover(reap=True)
    assert _steps(report) == {first: RecoveryStep.SKIP, second: RecoveryStep.REAP}
    assert "busy" in report.actions[0].reason
    assert _steps(store.recover(reap=True)) == {first: RecoveryStep.REAP}
    assert _files(store, first) == set()
