"""Environments that a sidecar only hashes, found again by trying the likely ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from jammi_files import (
    Device,
    Embedding,
    External,
    MaterializationEnv,
    MaterializationManifest,
    ModelIdentity,
    definition_hash,
)
from jammi_files.environments import find_environment

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32" / "jammi_db"
EMBEDDING = Embedding(
    model_id="m",
    task="text_embedding",
    source_id="docs",
    columns=["body"],
    key_column="id",
    dimensions=2,
)


def attested(descriptor, env):
    return MaterializationManifest.attest(
        descriptor, env, (), artifact="0" * 64, produced_at="then"
    )


@pytest.mark.parametrize(
    "path", sorted(FIXTURE.glob("*.materialization.json")), ids=lambda p: p.stem
)
def test_sidecars_of_the_engine(path):
    """`B194`: the environment of every real sidecar is found, and it has the recorded hash."""
    manifest = MaterializationManifest.from_json_bytes(path.read_bytes())
    env = find_environment(manifest)
    assert definition_hash(manifest.descriptor, env) == manifest.definition_hash
    model = getattr(manifest.descriptor, "model_id", None)
    assert env.models == (() if model is None else (ModelIdentity(model, "candle"),))
    assert env.device == Device.cpu()


@pytest.mark.parametrize(
    "env",
    [
        MaterializationEnv("9", Device.cpu()),
        MaterializationEnv("9", Device.cuda(7), [ModelIdentity("m", "ort")]),
        MaterializationEnv("9", Device.metal(0), [ModelIdentity("m", "http", "f16")]),
    ],
)
def test_likely(env):
    """`B195`, `B198`: version, device and the one model with its precision are found."""
    assert find_environment(attested(EMBEDDING, env)) == env


@pytest.mark.parametrize(
    "env",
    [
        MaterializationEnv("9", Device.cuda(8)),
        MaterializationEnv("9", Device.cpu(), [ModelIdentity("other", "ort")]),
        MaterializationEnv("9", Device.cpu(), [ModelIdentity("m", "ort")] * 2),
        MaterializationEnv("9", Device.cpu(), extra={"seed": 1}),
    ],
)
def test_unlikely(env):
    """What is not found is None and never a guess."""
    assert find_environment(attested(EMBEDDING, env)) is None


def test_no_model_named():
    """A descriptor without a model was run without one, as far as can be told."""
    plain = MaterializationEnv("9", Device.cpu())
    descriptor = External(producer_id="p", params={})
    assert find_environment(attested(descriptor, plain)) == plain
