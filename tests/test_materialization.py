"""The contract: sidecar bytes, definition hashes, verdicts; against real artifacts of 0.32.0."""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import json
import multiprocessing
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contracts import (
    DESCRIPTORS,
    ENV,
    GOLDEN_ASOF,
    GOLDEN_HASHES,
    SIDECARS,
    canonical,
    engine_hash,
    pretty,
)

import jammi_files
from jammi_files import materialization, producer
from jammi_files.descriptors import Embedding, External, UnknownDescriptor, parse_descriptor
from jammi_files.errors import FormatError, InvalidInputError, UnsupportedVersionError
from jammi_files.materialization import (
    MAX_SIDECAR_BYTES,
    Device,
    DeviceKind,
    Match,
    MatchWithUnpinnedInputs,
    MaterializationEnv,
    MaterializationManifest,
    Mismatch,
    MissingArtifact,
    MissingManifest,
    ModelIdentity,
    artifact_digest,
    canonical_json,
    decide_verdict,
    definition_hash,
    producer_id,
)
from jammi_files.schema import AnchorKind, InputAnchor
from jammi_files.timestamps import parse_timestamp

EXPECTED = json.loads((SIDECARS[0].parent.parent / "expected.json").read_text())
KEYS = [
    "artifact",
    "definition_hash",
    "descriptor",
    "input_anchors",
    "produced_by",
    "produced_at",
    "engine_version",
    "manifest_version",
]
MINILM = ModelIdentity("minilm", "candle")
CPU = MaterializationEnv("0.32.0", Device.cpu(), [MINILM])
EMBEDDING = parse_descriptor(DESCRIPTORS["embedding"])
STORED = {
    "artifact": "ab" * 32,
    "definition_hash": "cd" * 32,
    "descriptor": DESCRIPTORS["embedding"],
    "input_anchors": [
        {"source": "emb", "anchor": "ef" * 32, "kind": "result_digest"},
        {"source": "docs", "anchor": "2026-11-22T21:49:53.5+00:00", "kind": "unpinned_at_instant"},
        {"source": "refs", "anchor": "7", "kind": "mutable_version"},
    ],
    "produced_by": "01" * 16,
    "produced_at": "2026-11-22T21:49:54.047889372+00:00",
    "engine_version": "0.32.0",
    "manifest_version": 3,
}
MANIFEST = MaterializationManifest.from_json_bytes(pretty(STORED))

each_sidecar = pytest.mark.parametrize("path", SIDECARS, ids=lambda path: path.name[:60])


def read(path):
    return MaterializationManifest.from_json_bytes(path.read_bytes())


def parquet_of(path):
    return path.with_name(path.name.replace(".materialization.json", ".parquet"))


def without_source(manifest):
    """Build the manifest anew from its fields, so that nothing is echoed."""
    return dataclasses.replace(manifest, descriptor=dataclasses.replace(manifest.descriptor))


def test_fixtures():
    """`B177`: the real sidecars are here; losing them would empty the tests below."""
    assert len(SIDECARS) == 15
    assert {type(read(path).descriptor).__name__ for path in SIDECARS} == {
        "AsofJoin",
        "Embedding",
        "GraphPropagation",
        "Inference",
        "NeighborGraph",
    }


@each_sidecar
def test_real_sidecar_bytes(path):
    """`B176`, `B177`, `B180`: a real sidecar is written again byte for byte, from its fields."""
    data = path.read_bytes()
    assert read(path).to_json_bytes() == data
    assert without_source(read(path)).to_json_bytes() == data
    assert list(read(path).to_dict()) == KEYS


@each_sidecar
def test_real_artifact_digest(path):
    """`B178`, `B179`: the artifact is the SHA-256 of the Parquet object, and of it alone."""
    assert artifact_digest(parquet_of(path).read_bytes()) == read(path).artifact


@each_sidecar
def test_real_definition_hash(path):
    """`B192`, `B194`: the hash of a real job is computed again from descriptor and environment."""
    manifest = read(path)
    model = getattr(manifest.descriptor, "model_id", None)
    models = [ModelIdentity(model, "candle")] if model else []
    env = MaterializationEnv("0.32.0", Device.cpu(), models)
    assert definition_hash(manifest.descriptor, env) == manifest.definition_hash
    assert definition_hash(dataclasses.replace(manifest.descriptor), env) == (
        manifest.definition_hash
    )


@each_sidecar
def test_real_provenance(path):
    """`B181` to `B184`: anchors, process id, instant and versions have their stored forms."""
    manifest = read(path)
    assert re.fullmatch("[0-9a-f]{32}", manifest.produced_by)
    assert manifest.produced_at.endswith("+00:00")
    assert parse_timestamp(manifest.produced_at) > 0
    assert (manifest.engine_version, manifest.manifest_version) == ("0.32.0", 3)
    assert all(isinstance(anchor, InputAnchor) for anchor in manifest.input_anchors)


@pytest.mark.parametrize("name", EXPECTED["verify"])
def test_real_verdict(name):
    """`B015`, `B220` to `B223`: the verdict is the one that 0.32.0 gave."""
    path = SIDECARS[0].with_name(f"{name}.materialization.json")
    verdict = decide_verdict(read(path), artifact_digest(parquet_of(path).read_bytes()))
    assert verdict.to_dict() == EXPECTED["verify"][name]
    assert verdict.ok


@pytest.mark.parametrize("direction", GOLDEN_HASHES)
def test_golden_hashes(direction):
    """`B199`: the golden vectors."""
    fields = {**GOLDEN_ASOF, "direction": direction}
    env = MaterializationEnv("0.32.0", Device.cpu(), [])
    assert definition_hash(parse_descriptor(fields), env) == GOLDEN_HASHES[direction]


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_formula(name):
    """`B192`: two domain-separated, length-prefixed parts, hashed with SHA-256."""
    parsed = parse_descriptor(DESCRIPTORS[name])
    env = MaterializationEnv("0.32.0", Device.cpu(), [])
    assert definition_hash(parsed, env) == engine_hash(DESCRIPTORS[name], ENV)


def test_env_form():
    """`B012`, `B194`: the environment as it is hashed, models in caller order."""
    env = MaterializationEnv("0.32.0", Device.cuda(1), [MINILM, ModelIdentity("a", "ort")])
    assert env.to_dict() == {
        "engine_version": "0.32.0",
        "device": {"cuda": {"ordinal": 1}},
        "models": [
            {"model_id": "minilm", "backend": "candle"},
            {"model_id": "a", "backend": "ort"},
        ],
    }
    assert MaterializationEnv.from_dict(env.to_dict()) == env
    assert definition_hash(EMBEDDING, env) == engine_hash(DESCRIPTORS["embedding"], env.to_dict())


def test_env_without_models():
    """`B194`: no models are an empty list."""
    assert MaterializationEnv("0.32.0", Device.cpu(), []).to_dict() == ENV
    assert MaterializationEnv("0.32.0", "cpu") == MaterializationEnv.from_dict(ENV)


def test_compute_precision():
    """`B195`: without a precision the hash is that of 0.32; with one, each has its own."""
    assert canonical_json(MINILM.to_dict()) == canonical(
        {"model_id": "minilm", "backend": "candle"}
    )
    single, half = (dataclasses.replace(MINILM, compute_precision=each) for each in ("f32", "f16"))
    assert half.to_dict() == {"model_id": "minilm", "backend": "candle", "compute_precision": "f16"}
    assert ModelIdentity.from_dict(half.to_dict()) == half
    envs = [dataclasses.replace(CPU, models=[model]) for model in (MINILM, single, half)]
    assert len({definition_hash(EMBEDDING, env) for env in envs}) == 3


def test_later_environment():
    """`B195`: what newer engines add to an environment can be said, and is hashed."""
    later = ModelIdentity("minilm", "candle", "f32", extra={"quantization": "q4k"})
    env = dataclasses.replace(CPU, models=[later], extra={"region": "eu"})
    assert env.to_dict()["models"][0]["quantization"] == "q4k"
    assert definition_hash(EMBEDDING, env) == engine_hash(DESCRIPTORS["embedding"], env.to_dict())


def test_environment_moves_the_hash():
    """`B198`: engine version, device, ordinal, model, backend and model order all count."""
    other = ModelIdentity("other", "candle")
    envs = [
        CPU,
        dataclasses.replace(CPU, engine_version="0.32.1"),
        dataclasses.replace(CPU, device=Device.cuda(0)),
        dataclasses.replace(CPU, device=Device.cuda(1)),
        dataclasses.replace(CPU, device=Device.metal(0)),
        dataclasses.replace(CPU, models=[]),
        dataclasses.replace(CPU, models=[other]),
        dataclasses.replace(CPU, models=[ModelIdentity("minilm", "ort")]),
        dataclasses.replace(CPU, models=[MINILM, other]),
        dataclasses.replace(CPU, models=[other, MINILM]),
    ]
    assert len({definition_hash(EMBEDDING, env) for env in envs}) == len(envs)


@pytest.mark.parametrize(
    ("device", "stored"),
    [
        (Device.cpu(), "cpu"),
        (Device.cuda(3), {"cuda": {"ordinal": 3}}),
        (Device.metal(2**32 - 1), {"metal": {"ordinal": 2**32 - 1}}),
    ],
)
def test_devices(device, stored):
    """`B012`: the stored form of each device, both ways."""
    assert device.to_dict() == stored
    assert Device.from_dict(stored) == device
    assert json.dumps(device.to_dict()) == json.dumps(stored)


@pytest.mark.parametrize(
    "stored",
    [
        "tpu",
        "cuda",
        "CPU",
        None,
        {},
        {"cpu": {"ordinal": 0}},
        {"cuda": 0},
        {"cuda": {}},
        {"cuda": {"ordinal": -1}},
        {"cuda": {"ordinal": 2**32}},
        {"cuda": {"ordinal": True}},
        {"cuda": {"ordinal": 0, "x": 1}},
        {"cuda": {"ordinal": 0}, "metal": {"ordinal": 0}},
    ],
)
def test_no_device(stored):
    """`B012`: anything else is no device."""
    with pytest.raises(InvalidInputError, match="device"):
        Device.from_dict(stored)


def test_cpu_has_no_ordinal():
    """`B012`: the CPU has no number."""
    with pytest.raises(InvalidInputError, match="device cpu has no ordinal, not 0"):
        Device(DeviceKind.CPU, 0)


@pytest.mark.parametrize("arguments", [("", "cpu"), ("0.32.0", 1), ("0.32.0", "cpu", "minilm")])
def test_bad_environment(arguments):
    """`B194`: a wrong environment is refused before anything is hashed."""
    with pytest.raises(InvalidInputError, match=r"engine_version|device|models"):
        MaterializationEnv(*arguments)


def test_not_hashed():
    """`B196`: anchors, process, instant and artifact do not decide the definition."""
    one = MaterializationManifest.attest(
        EMBEDDING, CPU, [], artifact="a", produced_at="t1", produced_by="p1"
    )
    two = MaterializationManifest.attest(
        EMBEDDING,
        CPU,
        [InputAnchor.mutable_version("refs", 7)],
        artifact="b",
        produced_at="t2",
        produced_by="p2",
    )
    assert one.definition_hash == two.definition_hash == definition_hash(EMBEDDING, CPU)


def test_hash_seeds():
    """`B197`: another process with another hash seed finds the same hash."""
    program = (
        "from jammi_files.descriptors import External\n"
        "from jammi_files.materialization import *\n"
        "params = {key: key for key in {'a', 'b', 'c', 'd'}}\n"
        "env = MaterializationEnv('0.32.0', Device.cpu(), [])\n"
        "print(definition_hash(External(producer_id='p', params=params), env))\n"
    )
    root = Path(jammi_files.__file__).parent.parent
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert hashes == {
        engine_hash(External(producer_id="p", params={k: k for k in "abcd"}).to_dict(), ENV) + "\n"
    }


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ((b"ab", b"c"), (b"a", b"bc")),
        ((b"a", b"\0env\0" + b"\1" + b"\0" * 7 + b"b"), (b"a\0env\0", b"b")),
    ],
)
def test_no_collision(one, two):
    """`B202`: a byte that moves from descriptor to environment gives another hash."""
    assert materialization._fold(*one) != materialization._fold(*two)


def test_not_canonicalisable():
    """`B201`: what JSON cannot say is refused with the engine's text."""
    with pytest.raises(InvalidInputError, match=r"^producing descriptor is not canonicalisable: "):
        canonical_json({"threshold": float("nan")})


@pytest.mark.parametrize(
    "arguments", [(DESCRIPTORS["embedding"], CPU), (EMBEDDING, CPU.to_dict()), (None, CPU)]
)
def test_hash_of_nothing(arguments):
    """`B192`: raw dicts are parsed first: their fields would be unchecked."""
    with pytest.raises(InvalidInputError, match="takes a descriptor and a MaterializationEnv"):
        definition_hash(*arguments)


def test_artifact_digest():
    """`B178`: lower-case hex SHA-256 of the bytes, of any bytes-like object."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert artifact_digest(b"") == artifact_digest(memoryview(b"")) == empty


@pytest.mark.parametrize("damage", [b"PAR0PAR1", b"PAR1PAR", b"PAR1PAR1\0"])
def test_damaged_artifact(damage):
    """`B224`: one flipped, missing or appended byte has another digest."""
    assert artifact_digest(damage) != artifact_digest(b"PAR1PAR1")


def test_attest():
    """`B176`, `B184`: a new manifest has every field, the engine's version and version 3."""
    anchors = [InputAnchor.from_dict(anchor) for anchor in STORED["input_anchors"]]
    made = MaterializationManifest.attest(
        EMBEDDING,
        CPU,
        anchors,
        artifact=STORED["artifact"],
        produced_at=STORED["produced_at"],
        produced_by=STORED["produced_by"],
    )
    expected = {**STORED, "definition_hash": definition_hash(EMBEDDING, CPU)}
    assert made.to_json_bytes() == pretty(expected)
    assert MaterializationManifest.from_json_bytes(made.to_json_bytes()) == made


def test_attest_here():
    """`B182`: unless told otherwise this process is the producer."""
    made = MaterializationManifest.attest(EMBEDDING, CPU, (), artifact="a", produced_at="t")
    assert made.produced_by == producer_id()


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


@given(
    TEXT,
    st.lists(st.builds(InputAnchor, TEXT, TEXT, st.sampled_from(AnchorKind)), max_size=4),
    st.lists(TEXT, max_size=3),
    st.dictionaries(TEXT, st.integers(-(2**63), 2**64 - 1) | TEXT, max_size=2),
)
def test_round_trip(text, anchors, columns, extra):
    """`B177`, `B189`: what is written reads back equal, whatever the text holds."""
    extra = {f"x-{key}": value for key, value in extra.items()}
    descriptor = Embedding(
        model_id=text,
        task="text_embedding",
        source_id=text,
        columns=columns,
        key_column=text,
        dimensions=3,
        extra=extra,
    )
    made = MaterializationManifest.attest(
        descriptor, CPU, anchors, artifact=text, produced_at=text, produced_by=text
    )
    made = dataclasses.replace(made, extra=extra)
    data = made.to_json_bytes()
    back = MaterializationManifest.from_json_bytes(data)
    assert back == made
    assert back.to_json_bytes() == data == pretty(json.loads(data))


@pytest.mark.parametrize("version", [0, 1, 2, 4, -3, 2**40])
def test_other_version(version):
    """`B185`: any other version is refused with the engine's text, even without a descriptor."""
    text = (
        f"^manifest format version {version} is incompatible with supported version 3; "
        "re-emit the artifact$"
    )
    for data in ({**STORED, "manifest_version": version}, {"manifest_version": version}):
        with pytest.raises(UnsupportedVersionError, match=text):
            MaterializationManifest.from_json_bytes(pretty(data))


@pytest.mark.parametrize("version", ["3", 3.0, True, None, [3]])
def test_no_version(version):
    """`B184`: the version is an integer."""
    with pytest.raises(FormatError, match="manifest_version must be an integer") as caught:
        MaterializationManifest.from_json_bytes(pretty({**STORED, "manifest_version": version}))
    assert not isinstance(caught.value, UnsupportedVersionError)


@pytest.mark.parametrize("key", KEYS)
def test_missing_key(key):
    """`B186`: a manifest without a required key is refused; the message names it."""
    stored = {name: value for name, value in STORED.items() if name != key}
    with pytest.raises(FormatError, match=f"^sidecar: missing field `{key}`$"):
        MaterializationManifest.from_json_bytes(pretty(stored))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("wrong", [None, 1.5, {}, "", [[]]])
def test_wrong_field(key, wrong):
    """`B186`: so is a field of another type, never anything but a FormatError."""
    what = "producer" if key == "descriptor" else "anchor" if key == "input_anchors" else key
    with pytest.raises(FormatError, match=what):
        MaterializationManifest.from_json_bytes(pretty({**STORED, key: wrong}))


@pytest.mark.parametrize("field", ["source", "anchor", "kind"])
@pytest.mark.parametrize("wrong", [None, 7])
def test_wrong_anchor(field, wrong):
    """`B181`: each field of an anchor is a string, versions too."""
    anchor = {**STORED["input_anchors"][2], field: wrong}
    with pytest.raises(FormatError, match="anchor"):
        MaterializationManifest.from_json_bytes(pretty({**STORED, "input_anchors": [anchor]}))


def test_wrong_descriptor_field():
    """`B186`: damage within the descriptor is named."""
    descriptor = {**DESCRIPTORS["embedding"], "dimensions": "many"}
    with pytest.raises(FormatError, match=r"embedding\.dimensions must be an integer"):
        MaterializationManifest.from_json_bytes(pretty({**STORED, "descriptor": descriptor}))


def test_unknown_keys():
    """`B186`: unknown keys are accepted on every level, and written back where they stood."""
    anchors = [{"x": 1, **anchor, "y": [None]} for anchor in STORED["input_anchors"]]
    descriptor = {"new": {"b": 1, "a": 2}, **DESCRIPTORS["embedding"]}
    stored = {
        "first": 1,
        **STORED,
        "descriptor": descriptor,
        "input_anchors": anchors,
        "last": [{"a": 0.5}],
    }
    data = pretty(stored)
    manifest = MaterializationManifest.from_json_bytes(data)
    assert manifest.to_json_bytes() == data
    assert manifest.extra == {"first": 1, "last": [{"a": 0.5}]}
    assert manifest != MANIFEST
    assert dataclasses.replace(manifest, produced_by="me").to_dict()["last"] == [{"a": 0.5}]


@pytest.mark.parametrize(
    "descriptor",
    [
        {**DESCRIPTORS["neighbor_graph"], "exact": True, "index_storage_precision": None},
        {**DESCRIPTORS["neighbor_graph"], "index_storage_precision": "int8"},
        DESCRIPTORS["external"],
    ],
)
def test_later_engine(descriptor):
    """`B191`: a sidecar of 0.47 is read and written like one of 0.32."""
    data = pretty({**STORED, "descriptor": descriptor, "engine_version": "0.47.0"})
    manifest = MaterializationManifest.from_json_bytes(data)
    assert manifest.to_json_bytes() == without_source(manifest).to_json_bytes() == data


def test_unknown_producer():
    """`B191`: a sidecar of an unknown producer can be verified, compared and copied."""
    data = pretty({**STORED, "descriptor": {"producer": "telepathy", "strength": 3}})
    manifest = MaterializationManifest.from_json_bytes(data)
    assert isinstance(manifest.descriptor, UnknownDescriptor)
    assert manifest.to_json_bytes() == data
    assert decide_verdict(manifest, STORED["artifact"], STORED["definition_hash"]).ok


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"3"',
        b"PAR1",
        pretty(STORED) + b"}",
        pretty(STORED) * 2,
        pretty(STORED).replace(b'"produced_by"', b'"produced_at"'),
        pretty(STORED).replace(b'"dimensions": 384', b'"dimensions": 384, "dimensions": 384'),
        pretty(STORED).replace(b"384", b"NaN"),
        pretty(STORED).replace(b"384", b"1e999"),
        pretty(STORED).replace(b"minilm", b"\xff"),
        pretty(STORED).replace(b"minilm", b"\\udfff"),
        pretty(STORED).decode().encode("utf-16"),
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        pretty({**STORED, "extra": json.loads("[" * 80 + "]" * 80)}),
    ],
)
def test_broken(data):
    """`B187`, `B190`, `B227`: what is not one sound JSON object is an error, never "missing"."""
    with pytest.raises(FormatError):
        MaterializationManifest.from_json_bytes(data)


@given(st.binary(max_size=40), st.integers(0, len(pretty(STORED))), st.integers(0, 40))
def test_any_damage(junk, start, length):
    """`B187`: whatever bytes are overwritten, the outcome is a manifest or a FormatError."""
    good = pretty(STORED)
    data = good[:start] + junk + good[start + length :]
    try:
        manifest = MaterializationManifest.from_json_bytes(data)
    except FormatError:
        return
    assert MaterializationManifest.from_json_bytes(manifest.to_json_bytes()) == manifest


def test_size(monkeypatch):
    """`B187`: an object that is too large to be a sidecar is refused before it is decoded."""
    monkeypatch.setattr(materialization, "loads", lambda _: pytest.fail("decoded"))
    with pytest.raises(FormatError, match=f"16777217 bytes exceeds {MAX_SIDECAR_BYTES}"):
        MaterializationManifest.from_json_bytes(b" " * (MAX_SIDECAR_BYTES + 1))


def test_largest_size():
    """`B187`: one of exactly that size is read."""
    data = pretty(STORED)
    padded = data + b" " * (MAX_SIDECAR_BYTES - len(data))
    assert MaterializationManifest.from_json_bytes(padded) == MANIFEST


def test_unpinned_inputs():
    """`B217`: the sources of unpinned anchors, in producer order, each as often as it occurs."""
    anchors = [
        InputAnchor.unpinned_at_instant("z", "t"),
        InputAnchor.result_digest("r", "d"),
        InputAnchor.unpinned_at_instant("a", "t"),
        InputAnchor.source_version("s", "v"),
        InputAnchor.unpinned_at_instant("z", "t"),
    ]
    assert dataclasses.replace(MANIFEST, input_anchors=anchors).unpinned_inputs == ("z", "a", "z")
    assert dataclasses.replace(MANIFEST, input_anchors=()).unpinned_inputs == ()


def test_manifest_is_a_value():
    """`B189`: manifests are frozen, compare, hash, pickle and copy as values."""
    again = MaterializationManifest.from_json_bytes(pretty(STORED))
    assert {MANIFEST: 1}[again] == 1
    assert pickle.loads(pickle.dumps(MANIFEST)) == MANIFEST  # noqa: S301 - our own bytes
    assert copy.deepcopy(MANIFEST).to_json_bytes() == pretty(STORED)
    with pytest.raises(dataclasses.FrozenInstanceError):
        MANIFEST.artifact = "x"


@pytest.mark.parametrize(
    ("verdict", "stored", "ok"),
    [
        (Match(), {"verdict": "match"}, True),
        (
            Mismatch(expected="a", found="b"),
            {"verdict": "mismatch", "expected": "a", "found": "b"},
            False,
        ),
        (
            MatchWithUnpinnedInputs(("docs", "cites")),
            {"verdict": "match_with_unpinned_inputs", "unpinned": ["docs", "cites"]},
            True,
        ),
        (MissingManifest(), {"verdict": "missing_manifest"}, False),
        (MissingArtifact(), {"verdict": "missing_artifact"}, False),
    ],
)
def test_verdict_form(verdict, stored, ok):
    """`B015`, `B228`: each verdict's stored form, and whether the result may be used."""
    assert json.dumps(verdict.to_dict()) == json.dumps(stored)
    assert verdict.verdict == stored["verdict"]
    assert verdict.ok is ok


PINNED = dataclasses.replace(MANIFEST, input_anchors=[InputAnchor.mutable_version("refs", 7)])
SAME = STORED["artifact"]
DEFINED = STORED["definition_hash"]


@pytest.mark.parametrize(
    ("manifest", "found", "definition", "verdict"),
    [
        (None, SAME, None, MissingManifest()),
        (None, None, DEFINED, MissingManifest()),
        (PINNED, None, DEFINED, MissingArtifact()),
        (PINNED, "00", None, Mismatch(expected=SAME, found="00")),
        (PINNED, "00", "11", Mismatch(expected=SAME, found="00")),
        (PINNED, SAME, "11", Mismatch(expected="11", found=DEFINED)),
        (PINNED, SAME, "", Mismatch(expected="", found=DEFINED)),
        (MANIFEST, SAME, "11", Mismatch(expected="11", found=DEFINED)),
        (PINNED, SAME, None, Match()),
        (PINNED, SAME, DEFINED, Match()),
        (MANIFEST, SAME, None, MatchWithUnpinnedInputs(("docs",))),
        (MANIFEST, SAME, DEFINED, MatchWithUnpinnedInputs(("docs",))),
    ],
)
def test_decision(manifest, found, definition, verdict):
    """`B220` to `B223`, `B228`: sidecar, bytes, definition, inputs: the first to fail decides."""
    assert decide_verdict(manifest, found, definition) == verdict


def test_producer_id():
    """`B182`: 32 lower-case hex digits, the same for the life of the process."""
    assert re.fullmatch("[0-9a-f]{32}", producer_id())
    assert producer_id() == producer_id()


def test_producer_id_of_threads(monkeypatch):
    """`B182`: threads that ask first at the same moment are given one id."""
    monkeypatch.setattr(producer, "_PRODUCER_IDS", {})
    barrier = threading.Barrier(8)

    def ask(_):
        barrier.wait()
        return producer_id()

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the platform has no fork"
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_producer_id_of_child():
    """`B182`: a forked child is another process and has another id."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        child = pool.apply(producer_id)
        assert child == pool.apply(producer_id)
    assert child != producer_id()
