"""Signed results: what a signature covers, who believes it, and what is said when it is wrong."""

from __future__ import annotations

import base64
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from support.results import CONTRACT, DATA, TABLE, build, finalize, row, write
from support.scopes import ACME, BETA

from jammi_files import (
    AlreadyExistsError,
    BadSignature,
    FormatError,
    InvalidInputError,
    Match,
    MaterializationManifest,
    Mismatch,
    MissingArtifact,
    MissingManifest,
    MissingPackageError,
    RecoveryStep,
    ResultStore,
    StateError,
    StorageError,
    Unsigned,
    connect,
    copy,
    extras,
    interop,
    lease,
    repair,
    signing,
    verify_files,
)
from jammi_files.cli import main
from jammi_files.fsck import Kind, fsck
from jammi_files.signing import (
    Ed25519Signer,
    Ed25519Verifier,
    HmacSigner,
    HmacVerifier,
    Signing,
)

SUFFIXES = (".materialization.json", ".intoto.jsonl", ".parquet")
SECRET, OTHER = b"a secret of more than sixteen", b"another secret, also long"
SIGNER, VERIFIER = HmacSigner(SECRET), HmacVerifier(SECRET)
ED25519 = Ed25519Signer(bytes(range(32)))


@pytest.fixture
def store(tmp_path):
    return connect(tmp_path / "root", sign=SIGNER, verify=VERIFIER, durability="os")


def at(store: ResultStore, name: str, suffix: str) -> Path:
    return Path(store.root, name + suffix)


def signature_of(store: ResultStore, name: str) -> Path:
    return at(store, name, ".intoto.jsonl")


def sidecar_of(store: ResultStore, name: str) -> Path:
    return at(store, name, ".materialization.json")


def reopened(store: ResultStore, **keys) -> ResultStore:
    return connect(store.root, durability="os", **keys)


def changed(path: Path, **fields) -> None:
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | fields))


# --- what is written


def test_a_second_row_of_the_same_data_leaves_its_signature(store):
    """A signature names its table, so that of another table is never replaced."""
    name = build(store)
    signature = signature_of(store, name).read_bytes()
    store.catalog.create_result_table(**row("second", parquet_path=f"{name}.parquet"))
    with pytest.raises(AlreadyExistsError, match="attests something else"):
        finalize(store, "second")
    assert signature_of(store, name).read_bytes() == signature
    assert store.verify_materialization(name).ok


def test_the_envelope(store):
    """The signature is a DSSE envelope over the in-toto Statement that the store gives."""
    name = build(store)
    [line] = signature_of(store, name).read_bytes().splitlines()
    fields = orjson.loads(line)
    payload = base64.b64decode(fields["payload"])
    kind = b"application/vnd.in-toto+json"
    assert fields["payloadType"].encode() == kind
    assert orjson.loads(payload) == store.in_toto_statement(name)
    [signature] = fields["signatures"]
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload)
    assert base64.b64decode(signature["sig"]) == SIGNER(message)
    assert signature["keyid"] == ""


def test_the_sidecar_is_as_without(store):
    """Signing adds no key to the sidecar: jammi-db reads what it has always read."""
    sidecar = orjson.loads(sidecar_of(store, build(store)).read_bytes())
    plain = reopened(store)
    other = orjson.loads(sidecar_of(plain, build(plain)).read_bytes())
    assert list(sidecar) == list(other)


def test_known_ed25519_vector():
    """Ed25519 is that of RFC 8032: its first test vector."""
    signer = Ed25519Signer(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    assert signer.verifier.key.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert (
        signer(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522")
    )


def test_names_as_long_as_they_may_be(store):
    """The signature of the longest name fits a file name, also while it is written."""
    name = "n" * 221
    store.catalog.create_result_table(**row(name))
    write(store, name)
    finalize(store, name)
    assert store.verify_materialization(name) == Match()


# --- who believes it


@pytest.mark.parametrize("signer", [SIGNER, ED25519], ids=["hmac", "ed25519"])
def test_what_is_signed_is_believed(tmp_path, signer):
    """A result is a match for whoever has the key, and for whoever does not ask."""
    verifier = VERIFIER if signer is SIGNER else Ed25519Verifier(ED25519.verifier.to_pem())
    store = connect(tmp_path / "root", sign=signer, verify=verifier, durability="os")
    name = build(store)
    assert store.verify_materialization(name) == Match()
    assert reopened(store).verify_materialization(name) == Match()
    assert [each.ok for each in store.verify_all()] == [True]


@pytest.mark.parametrize(
    "verifier", [HmacVerifier(OTHER), Ed25519Signer(bytes(32)).verifier], ids=["hmac", "ed25519"]
)
def test_another_key(store, verifier):
    """A signature of a key that the reader does not trust is told, and names the key."""
    name = build(store)
    verdict = reopened(store, verify=verifier).verify_materialization(name)
    assert isinstance(verdict, BadSignature)
    assert "no key that is trusted here has made it; it names ''" in verdict.reason
    assert not verdict.ok
    assert verdict.to_dict() == {"verdict": "bad_signature", "reason": verdict.reason}


def test_after_a_change_of_keys(store):
    """With the verifiers of both keys, results of the old and of the new one are believed."""
    old = build(store)
    new_key = ED25519.verifier
    newer = reopened(store, sign=ED25519, verify=[new_key, VERIFIER])
    new = build(newer)
    assert [each.ok for each in newer.verify_all()] == [True, True]
    only_new = reopened(store, verify=new_key)
    assert only_new.verify_materialization(new) == Match()
    assert isinstance(only_new.verify_materialization(old), BadSignature)


def test_a_key_id_says_whom_to_ask(store):
    """A verifier with a key's name is not asked about signatures of another key's name."""
    asked = []

    class Named:
        def __init__(self, key_id):
            self.key_id = key_id

        def __call__(self, message, signature):
            asked.append(self.key_id)
            return HmacVerifier(SECRET)(message, signature)

    signer = HmacSigner(SECRET, "second")
    keys = [Named("first"), Named("second")]
    name = build(reopened(store, sign=signer))
    assert reopened(store, verify=keys).verify_materialization(name) == Match()
    assert set(asked) == {"second"}


def test_a_key_id_is_no_proof(store):
    """A forger may write any key's name: the signature itself is what is believed."""
    forger = HmacSigner(OTHER, ED25519.key_id)
    name = build(reopened(store, sign=forger))
    verdict = reopened(store, verify=ED25519.verifier).verify_materialization(name)
    assert isinstance(verdict, BadSignature)


@pytest.mark.parametrize("answer", [1, "yes", None, False])
def test_only_true_is_true(store, answer):
    """A verifier that answers anything but True does not believe."""
    name = build(store)
    doubting = reopened(store, verify=lambda *_: answer)
    assert isinstance(doubting.verify_materialization(name), BadSignature)


def test_unsigned_results(store):
    """What nobody signed is told as such by who asks for signatures, and by nobody else."""
    name = build(reopened(store))
    assert not signature_of(store, name).exists()
    assert store.verify_materialization(name) == Unsigned()
    assert Unsigned().to_dict() == {"verdict": "unsigned"}
    [told] = store.verify_all()
    assert not told.ok
    assert reopened(store).verify_materialization(name) == Match()


def test_results_of_other_tenants(tmp_path):
    """Every tenant's results are signed alike, and each handle keeps the keys."""
    store = connect(tmp_path / "root", sign=SIGNER, verify=VERIFIER, durability="os")
    names = [build(store.pinned_to_tenant(tenant)) for tenant in (ACME, BETA, None)]
    assert [each.table_name for each in store.as_admin().verify_all() if each.ok] == names
    assert store.pinned_to_tenant(ACME).verify_materialization(names[0]) == Match()


def test_a_cache_that_verifies(store):
    """A result that is not believed is not reused where bytes are verified."""
    name = build(store)
    record = store.catalog.get_result_table(name)
    ask = record.definition_hash, CONTRACT["inputs"]
    assert store.probe_cache(*ask, verify="digest").table_name == name
    signature_of(store, name).unlink()
    assert store.probe_cache(*ask, verify="digest") is None
    assert reopened(store).probe_cache(*ask, verify="digest").table_name == name


# --- tampering


def test_changed_data(store):
    """Data that was exchanged is a mismatch, although its signature is sound."""
    name = build(store)
    data = at(store, name, ".parquet")
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert isinstance(store.verify_materialization(name), Mismatch)
    data.unlink()
    assert store.verify_materialization(name) == MissingArtifact()


@pytest.mark.parametrize(
    "change",
    [
        {"artifact": "0" * 64},
        {"definition_hash": "0" * 64},
        {"input_anchors": []},
        {"produced_at": "2020-01-01T00:00:00Z"},
        {"produced_by": "somebody else"},
        {"engine_version": "9"},
        {"another": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_sidecar(store, change):
    """Whichever key of a sidecar is changed, the signature is of another one."""
    name = build(store)
    changed(sidecar_of(store, name), **change)
    verdict = store.verify_materialization(name)
    assert isinstance(verdict, BadSignature)
    assert "it was made for" in verdict.reason
    assert any(found.kind is Kind.SIGNATURE_DISAGREES for found in fsck(store.catalog))


def test_values_that_python_takes_for_equal(store):
    """True is not 1: what a sidecar says is compared as JSON."""
    name = build(store)
    sidecar = store.read_materialization_manifest(name)
    payload = orjson.loads(base64.b64decode(_envelope(store, name)["payload"]))
    payload["predicate"]["manifest_version"] = 3.0
    assert payload == signing.statement(name, sidecar)
    assert signing.find_flaw(name, sidecar, orjson.dumps(payload)) is not None


def _envelope(store, name):
    return orjson.loads(signature_of(store, name).read_bytes())


def test_data_and_sidecar_exchanged_together(store):
    """Who exchanges data and sidecar for those of an unsigned forgery is found out."""
    name, forgery = build(store), build(reopened(store))
    for suffix in (".parquet", ".materialization.json"):
        shutil.copy(at(store, forgery, suffix), at(store, name, suffix))
    assert isinstance(store.verify_materialization(name), BadSignature)


def test_a_whole_result_under_another_name(store):
    """A signed result that is put in the place of another one is told by its name."""
    first, second = build(store), build(store)
    for suffix in (".parquet", ".materialization.json", ".intoto.jsonl"):
        shutil.copy(at(store, first, suffix), at(store, second, suffix))
    verdict = store.verify_materialization(second)
    assert isinstance(verdict, BadSignature)
    assert f"'name': '{first}'" in verdict.reason


def test_swapped_signatures(store):
    """The signatures of two results do not pass for each other's, even of the same bytes."""
    first, second = build(store), build(store)
    one, two = signature_of(store, first), signature_of(store, second)
    before = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(before)
    for name in (first, second):
        assert isinstance(store.verify_materialization(name), BadSignature)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payloadType": "text/plain"}, "is over 'text/plain'"),
        ({"signatures": []}, "there are 0 signatures"),
        ({"signatures": [{"sig": "AAAA"}] * 17}, "there are 17 signatures"),
        ({"signatures": [{"sig": "?"}]}, "no DSSE envelope"),
        ({"signatures": [7]}, "no DSSE envelope"),
        ({"signatures": 7}, "no DSSE envelope"),
        ({"payload": "e30="}, "no key that is trusted"),
        ({"payload": 5}, "no DSSE envelope"),
    ],
)
def test_changed_signature(store, change, reason):
    """Whatever is done to an envelope is told, with what is wrong about it."""
    name = build(store)
    changed(signature_of(store, name), **change)
    verdict = store.verify_materialization(name)
    assert isinstance(verdict, BadSignature)
    assert reason in verdict.reason


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 9999, b"{}" * 2])
def test_no_envelope(store, data):
    """Bytes that are no envelope are a bad signature, not an exception."""
    name = build(store)
    signature_of(store, name).write_bytes(data)
    assert isinstance(store.verify_materialization(name), BadSignature)


def test_too_large_an_envelope(store, monkeypatch):
    """A signature of many megabytes is refused before it is decoded."""
    name = build(store)
    monkeypatch.setattr(signing, "MAX_ENVELOPE_BYTES", 100)
    verdict = store.verify_materialization(name)
    assert isinstance(verdict, BadSignature)
    assert "exceeds 100" in verdict.reason


def test_signed_by_the_right_key_but_no_statement(store):
    """A good signature over something else attests nothing."""
    name = build(store)
    for payload in (b"not json", b"[]", b"{}"):
        data = signing.envelope(payload, "", SIGNER(signing.encoded(payload)))
        signature_of(store, name).write_bytes(data)
        assert isinstance(store.verify_materialization(name), BadSignature)


def test_several_signatures(store):
    """One believed signature is enough, whoever else has signed."""
    name = build(store)
    own = _envelope(store, name)["signatures"]
    foreign = {"keyid": "other", "sig": base64.b64encode(b"other").decode()}
    changed(signature_of(store, name), signatures=[foreign, *own])
    assert store.verify_materialization(name) == Match()


# --- what can go wrong while it is made


@pytest.mark.parametrize("signature", [None, "text", b"", 7])
def test_a_signer_that_returns_no_bytes(tmp_path, signature):
    """A build whose signer returns nonsense fails, and is never ready."""
    store = connect(tmp_path / "root", sign=lambda _: signature, durability="os")
    with pytest.raises(InvalidInputError, match="sign must return bytes"):
        build(store)
    assert store.catalog.list_result_tables_by_status("ready") == []


def test_a_signer_that_fails(tmp_path):
    """What a signer raises goes on to the builder; the row is failed, its bytes are removed."""

    def sign(_):
        raise ConnectionError("the key server is down")

    store = connect(tmp_path / "root", sign=sign, durability="os")
    with pytest.raises(ConnectionError):
        build(store)
    [record] = store.catalog.list_result_tables_by_status("failed")
    assert "the key server is down" in record.properties["error"]
    assert not [each for each in Path(store.root).iterdir() if each.is_file()]


def test_a_signer_that_no_verifier_believes(store):
    """Who signs with one key and verifies with another is told before anything is written."""
    wrong = reopened(store, sign=HmacSigner(OTHER), verify=VERIFIER)
    with pytest.raises(InvalidInputError, match="give that key's verifier"):
        build(wrong)


@pytest.mark.parametrize(
    ("sign", "verify"), [(b"key", None), (None, "key"), (None, [SIGNER, 7]), (None, 7)]
)
def test_keys_are_callables(tmp_path, sign, verify):
    """A key where a callable is wanted is refused at once."""
    with pytest.raises(InvalidInputError, match="must be callable"):
        connect(tmp_path / "root", sign=sign, verify=verify)
    assert not (tmp_path / "root").exists()


def test_a_call_that_is_repeated(store):
    """A second finalize takes the sidecar that the first one signed, and signs that."""
    store.catalog.create_result_table(**row("t"))
    write(store, "t")
    made = _attested(store, "t", reopened(store, sign=HmacSigner(OTHER)))
    finalize(store, "t")
    assert sidecar_of(store, "t").read_bytes() == made.to_json_bytes()
    assert store.verify_materialization("t") == Match()


def test_a_call_that_is_repeated_by_one_who_signs(store):
    """A sidecar that an unsigned attempt has left gets its signature before the row is ready."""
    store.catalog.create_result_table(**row("t"))
    write(store, "t")
    made = _attested(store, "t", reopened(store))
    finalize(store, "t")
    assert sidecar_of(store, "t").read_bytes() == made.to_json_bytes()
    assert store.verify_materialization("t") == Match()


def _attested(store, name, by) -> MaterializationManifest:
    """Leave what a build leaves that dies after its sidecar: it is built under another name."""
    finished = build(by)
    made = by.read_materialization_manifest(finished)
    digest = store._artifacts.digest(store.catalog.get_result_table(name))
    fields = made.to_dict() | {"artifact": digest}
    made = MaterializationManifest.from_dict(fields)
    if by.signing.sign is not None:
        signature_of(store, name).write_bytes(by.signing.seal(name, made))
    sidecar_of(store, name).write_bytes(made.to_json_bytes())
    return made


@pytest.mark.parametrize("suffix", [".materialization.json", ".intoto.jsonl"])
def test_nothing_else_is_signed(store, suffix):
    """What somebody has put in the place of a sidecar or signature gets no signature."""
    store.catalog.create_result_table(**row("t"))
    write(store, "t")
    made = _attested(store, "t", store)
    forged = made.to_dict() | {"engine_version": "forged"}
    (at(store, "t", ".intoto.jsonl")).unlink()
    (at(store, "t", ".materialization.json")).unlink()
    if suffix == ".materialization.json":
        sidecar_of(store, "t").write_bytes(orjson.dumps(forged))
    else:
        forgery = MaterializationManifest.from_dict(forged)
        signature_of(store, "t").write_bytes(Signing(HmacSigner(OTHER)).seal("t", forgery))
    with pytest.raises(AlreadyExistsError, match="attests something else"):
        finalize(store, "t")
    assert store.catalog.get_result_table("t").status == "building"


def test_damage_in_the_place_of_a_signature(store):
    """Bytes that are no envelope are not overwritten either."""
    store.catalog.create_result_table(**row("t"))
    write(store, "t")
    signature_of(store, "t").write_bytes(b"?")
    with pytest.raises(AlreadyExistsError, match="intoto"):
        finalize(store, "t")


# --- results that are there already


def test_seal(store):
    """Results from before get a signature, once, and only if their bytes are right."""
    plain = reopened(store)
    name, broken = build(plain), build(plain)
    at(store, broken, ".parquet").write_bytes(b"?")
    assert store.seal(name) == Match()
    assert store.verify_materialization(name) == Match()
    before = signature_of(store, name).read_bytes()
    assert store.seal(name) == Match()
    assert isinstance(store.seal(broken), Mismatch)
    assert not signature_of(store, broken).exists()
    other = reopened(store, sign=HmacSigner(OTHER), verify=HmacVerifier(OTHER))
    assert isinstance(other.seal(name), BadSignature)
    assert signature_of(store, name).read_bytes() == before


def test_what_cannot_be_sealed(store):
    """Without a signer, and of what is not ready, there is nothing to sign."""
    info = store.create_table(*TABLE)
    with pytest.raises(StateError, match="not ready"):
        store.seal(info.table_name)
    with pytest.raises(InvalidInputError, match="connect with sign="):
        reopened(store).seal(build(store))
    store.catalog.update_result_table_status(info.table_name, "ready", 0)
    assert store.seal(info.table_name) == MissingManifest()


# --- the rest of a result's life


@pytest.fixture
def _dead(monkeypatch):
    """Every lease is that of a process which is gone."""
    monkeypatch.setattr(lease, "find_death", lambda *_: "its process is gone")


@pytest.mark.usefixtures("_dead")
@pytest.mark.parametrize(
    ("signed_by", "recovered_by", "step"),
    [
        (SIGNER, "verifier", RecoveryStep.PROMOTE),
        (SIGNER, "signer", RecoveryStep.PROMOTE),
        (SIGNER, "nobody", RecoveryStep.PROMOTE),
        (HmacSigner(OTHER), "verifier", RecoveryStep.QUARANTINE),
        (None, "verifier", RecoveryStep.QUARANTINE),
        (None, "signer", RecoveryStep.QUARANTINE),
        (None, "nobody", RecoveryStep.PROMOTE),
    ],
)
def test_recovery(store, signed_by, recovered_by, step):
    """Who signs or verifies makes no dead build ready that nobody signed; nobody signs it then."""
    keys = {"verifier": {"verify": VERIFIER}, "signer": {"sign": SIGNER}, "nobody": {}}
    store.catalog.create_result_table(**row("t"))
    write(store, "t")
    _attested(store, "t", reopened(store, sign=signed_by))
    [action] = reopened(store, **keys[recovered_by]).recover().actions
    assert (action.table_name, action.action) == ("t", step)
    assert signature_of(store, "t").exists() == (signed_by is not None)


@pytest.mark.usefixtures("_dead")
def test_recovery_without_sidecar(store):
    """A build that died after its signature has no sidecar: it never becomes ready."""
    store.catalog.create_result_table(**row("t"))
    write(store, "t")
    _attested(store, "t", store)
    sidecar_of(store, "t").unlink()
    [action] = reopened(store).recover().actions
    assert action.action is RecoveryStep.QUARANTINE


@pytest.mark.usefixtures("_dead")
def test_temporary_files_are_swept(store):
    """A signature that was cut off while it was written is swept as other temporary files are."""
    name = build(store)
    left = at(store, name, ".intoto.jsonl.01234567.tmp")
    left.write_bytes(b"half")
    [action] = store.recover().actions
    assert (action.table_name, action.action) == (left.name, RecoveryStep.SWEEP)
    assert not left.exists()


def test_deletion(store):
    """A deleted result leaves no signature behind, whoever deletes it."""
    for each in (store, reopened(store)):
        name = build(store)
        each.delete_table(name)
        assert [path.name for path in Path(store.root).iterdir() if path.is_file()] == []


def test_an_orphan(store):
    """A signature whose row is gone is a finding of fsck, and vacuum's to delete."""
    name = build(store)
    store.catalog.delete_result_table(name)
    store.catalog.create_result_table(**row("newer"))
    admin = store.as_admin()
    orphans = {each.subject for each in fsck(admin.catalog) if each.kind is Kind.ORPHAN_OBJECT}
    assert signature_of(store, name).name in orphans
    report = admin.catalog.vacuum(0, dry_run=False)
    assert "signature" in {action.kind for action in report.actions}
    assert not signature_of(store, name).exists()


def test_fsck_needs_no_key(store):
    """A sound root has no findings; a signature of another table's is one, without any key."""
    first, second = build(store), build(store)
    catalog = reopened(store).as_admin().catalog
    assert fsck(catalog, deep=True) == []
    signature_of(store, first).write_bytes(signature_of(store, second).read_bytes())
    signature_of(store, second).write_bytes(b"?")
    kinds = {(found.kind, found.subject) for found in fsck(catalog)}
    assert kinds == {(Kind.SIGNATURE_DISAGREES, first), (Kind.SIGNATURE_DISAGREES, second)}


def test_copies(store, tmp_path):
    """A copy has the signatures, also those that came after it was made."""
    signed, later = build(store), build(reopened(store))
    target = str(tmp_path / "copy")
    copy(store.root, target)
    there = connect(target, verify=VERIFIER, durability="os")
    assert there.verify_materialization(signed) == Match()
    assert there.verify_materialization(later) == Unsigned()
    store.seal(later)
    copy(store.root, target)
    assert there.verify_materialization(later) == Match()


def test_a_lost_catalog(store, monkeypatch):
    """A catalog that is made anew from the results finds their signatures."""
    name = build(store)
    shutil.rmtree(Path(store.root, "_catalog"))
    monkeypatch.setattr(lease, "find_death", lambda *_: None)
    anew = reopened(store, verify=VERIFIER)
    repair(store.root, dry_run=False)
    assert anew.verify_materialization(name) == Match()


def test_exports(store, tmp_path):
    """An export for the engine has the signatures, and an import brings them back."""
    name = build(store)
    home = tmp_path / "engine"
    interop.export_jammi(store, home)
    again = connect(tmp_path / "again", verify=VERIFIER, durability="os")
    interop.import_jammi(home, again)
    assert again.verify_materialization(name) == Match()


# --- other processes


def _verdicts(store: ResultStore) -> list[bool]:
    return [each.ok for each in store.verify_all()]


def test_stores_take_their_keys_along(tmp_path):
    """A store that is sent to another process signs and verifies there."""
    store = connect(tmp_path / "root", sign=ED25519, verify=ED25519.verifier, durability="os")
    sent = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own
    assert sent.verify_materialization(build(sent)) == Match()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as workers:
        assert workers.submit(_verdicts, store).result(timeout=300) == [True]


@pytest.mark.parametrize("keyword", ["sign", "verify"])
def test_keys_that_cannot_be_sent(store, keyword):
    """A lambda cannot go to another process: the error says what can."""
    local = reopened(store, **{keyword: lambda *_: True})
    with pytest.raises(InvalidInputError, match=f"{keyword}= cannot be sent .* module"):
        pickle.dumps(local)


def test_secrets_are_not_shown():
    """No representation of a key shows it."""
    for each in (SIGNER, VERIFIER, ED25519, Signing(SIGNER, (VERIFIER,))):
        assert "secret" not in repr(each)
        assert repr(bytes(range(32)))[2:-1] not in repr(each)


# --- keys


@pytest.mark.parametrize("key", [b"short", b"", "a text of some length", None])
def test_keys_for_hmac(key):
    """A key that is no bytes, or so short that it can be guessed, is refused."""
    for kind in (HmacSigner, HmacVerifier):
        with pytest.raises(InvalidInputError, match="at least 16"):
            kind(key)


def test_keys_for_ed25519():
    """Keys come as PEM or as raw bytes; what is none, or of another kind, is refused."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - of an extra
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415 - likewise

    private = ed25519.Ed25519PrivateKey.generate()
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = private.private_bytes(*form, serialization.NoEncryption())
    signer = Ed25519Signer(pem)
    assert signer.verifier == Ed25519Verifier(private.public_key().public_bytes_raw())
    assert Ed25519Verifier(signer.verifier.to_pem()).key_id == signer.key_id
    assert signer.verifier(b"message", signer(b"message"))
    assert not signer.verifier(b"other", signer(b"message"))
    assert Ed25519Signer.generate().key_id != Ed25519Signer.generate().key_id
    curve = ec.generate_private_key(ec.SECP256R1())
    other = curve.private_bytes(*form, serialization.NoEncryption())
    for wrong in (b"", b"?" * 31, other):
        with pytest.raises(InvalidInputError, match="Ed25519 key"):
            Ed25519Signer(wrong)
        with pytest.raises(InvalidInputError, match="Ed25519 key"):
            Ed25519Verifier(wrong)


def test_without_cryptography(monkeypatch):
    """Without the package Ed25519 names the extra that brings it; the module needs it not."""
    real = extras.importlib.import_module

    def absent(name):
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(extras.importlib, "import_module", absent)
    with pytest.raises(MissingPackageError, match=r"jammi_files\[sign\]"):
        Ed25519Signer(bytes(32))
    code = "import sys, jammi_files; assert 'cryptography' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- files alone


def test_files_without_a_catalog(store, tmp_path):
    """Files that were handed on are verified with the key alone, by name."""
    good, swapped, unsigned, bare = (build(store) for _ in range(4))
    signature_of(store, swapped).write_bytes(signature_of(store, good).read_bytes())
    signature_of(store, unsigned).unlink()
    sidecar_of(store, bare).unlink()
    handed = tmp_path / "handed"
    handed.mkdir()
    for path in Path(store.root).iterdir():
        if path.is_file():
            shutil.copy(path, handed)
    (handed / "notes.txt").write_text("nothing of ours")
    found = {each.table_name: each.verdict for each in verify_files(handed, VERIFIER)}
    assert found.pop(good) == Match()
    assert isinstance(found.pop(swapped), BadSignature)
    assert found.pop(unsigned) == Unsigned()
    assert found.pop(bare) == MissingManifest()
    assert found == {}


def test_damaged_files_without_a_catalog(store):
    """Data that was changed or is gone, and a damaged sidecar, are told as in a store."""
    changed_data, gone, damaged = (build(store) for _ in range(3))
    at(store, changed_data, ".parquet").write_bytes(b"?")
    at(store, gone, ".parquet").unlink()
    sidecar_of(store, damaged).write_bytes(b"?")
    found = {each.table_name: each for each in verify_files(store.root, [VERIFIER])}
    assert isinstance(found[changed_data].verdict, Mismatch)
    assert found[gone].verdict == MissingArtifact()
    assert found[damaged].verdict is None
    assert "JSON" in found[damaged].error


def test_nothing_to_verify_with(tmp_path):
    """Without a key there is nothing to believe, and without a directory nothing to read."""
    with pytest.raises(InvalidInputError, match="give verify="):
        verify_files(tmp_path, ())
    with pytest.raises(StorageError, match="could not list"):
        verify_files(tmp_path / "absent", VERIFIER)
    with pytest.raises(InvalidInputError, match="no directory's path"):
        verify_files("a\0b", VERIFIER)


def test_what_are_no_files(store):
    """A pipe in the place of a sidecar, a signature or data is told, and the others are judged."""
    good, *odd = (build(store) for _ in range(4))
    for name, suffix in zip(odd, SUFFIXES, strict=True):
        at(store, name, suffix).unlink()
        os.mkfifo(at(store, name, suffix))
    found = {each.table_name: each for each in verify_files(store.root, VERIFIER)}
    assert found.pop(good).verdict == Match()
    assert sorted(found) == sorted(odd)
    assert all("is a pipe" in each.error for each in found.values())


def test_files_that_are_too_large(store):
    """A sidecar or signature that is mostly a hole is refused before it is read."""
    odd = [build(store) for _ in range(2)]
    for name, suffix in zip(odd, SUFFIXES[:2], strict=True):
        os.truncate(at(store, name, suffix), 2**40)
    assert all("over" in each.error for each in verify_files(store.root, VERIFIER))


def test_covered_refuses_what_is_no_statement():
    """What a signature covers is a sidecar, or the bytes are refused."""
    for payload in (b"[]", b"{}", b'{"predicate": 5}'):
        with pytest.raises(FormatError):
            signing.covered(signing.envelope(payload, "", b"s"))


def test_schema_is_untouched(store):
    """Signing changes nothing of a result's data."""
    assert store.open_table(build(store)).to_table().replace_schema_metadata() == pa.table(DATA)


# --- the command


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(ED25519.verifier.to_pem())
    return str(path)


def run(capsys, *words) -> tuple[int, dict, str]:
    code = main(["verify", *words, "--json"])
    out, err = capsys.readouterr()
    return code, orjson.loads(out) if out else {}, err


def test_the_command_verifies_signatures(store, key_file, capsys):
    """With a public key the command judges signatures: of a root, and of files alone."""
    signed = build(reopened(store, sign=ED25519))
    for place in (("--root", store.root), ("--files", store.root)):
        code, told, _ = run(capsys, "--public-key", key_file, *place)
        assert (code, told["ok"]) == (0, True)
    other = build(store)
    for place in (("--root", store.root), ("--files", store.root)):
        code, told, _ = run(capsys, "--public-key", key_file, *place)
        verdicts = {each["table_name"]: each for each in told["results"]}
        assert code == 1
        assert verdicts[signed]["verdict"] == "match"
        assert verdicts[other]["verdict"] == "bad_signature"
        assert "no key that is trusted" in verdicts[other]["reason"]
    assert main(["verify", "--public-key", key_file, "--files", store.root]) == 1
    assert "no key that is trusted" in capsys.readouterr().out
    assert run(capsys, "--root", store.root)[0] == 0


def test_the_command_with_wrong_arguments(store, key_file, tmp_path, capsys):
    """A missing key, a file that is none, and names beside files are refused in one line."""
    build(store)
    refused = [
        (["--files", store.root], 2, "give verify="),
        (["--files", store.root, "--public-key", key_file, "a name"], 2, "knows no names"),
        (["--root", store.root, "--public-key", str(tmp_path / "absent")], 3, "absent"),
        (["--root", store.root, "--public-key", __file__], 2, "no Ed25519 key"),
    ]
    for words, expected, message in refused:
        code, _, err = run(capsys, *words)
        assert (code, message in err) == (expected, True), err
