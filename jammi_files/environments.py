"""The environment that a sidecar's definition hash stands for, found by trying the likely ones.

A sidecar holds the descriptor and the engine's version in clear, device and models only as part of
the hash (FORMAT section "Sidecar and definition hash"). Whatever has that hash is the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from jammi_files.materialization import (
    Device,
    MaterializationEnv,
    MaterializationManifest,
    ModelIdentity,
    definition_hash,
)

_BACKENDS = ("candle", "ort", "http")
_PRECISIONS = (None, "f32", "f16", "bf16")
_ORDINALS = 8


def find_environment(manifest: MaterializationManifest) -> MaterializationEnv | None:
    """Return the environment in which a result was produced, None if it is no likely one.

    Tried are the CPU and the first devices of each kind, without models and with the model that the
    descriptor names, run by a backend of the engine (`B194`, `B195`): some 200 hashes.
    """
    named = (getattr(manifest.descriptor, name, None) for name in ("model_id", "encoder_id"))
    model = next(filter(None, named), None)
    return next(
        (
            likely
            for likely in _likely(manifest.engine_version, model)
            if definition_hash(manifest.descriptor, likely) == manifest.definition_hash
        ),
        None,
    )


def _likely(engine_version: str, model: str | None) -> Iterator[MaterializationEnv]:
    models: list[tuple[ModelIdentity, ...]] = [()]
    if model is not None:
        ran = product(_PRECISIONS, _BACKENDS)
        models += [(ModelIdentity(model, backend, precision),) for precision, backend in ran]
    numbered = [make(n) for n in range(_ORDINALS) for make in (Device.cuda, Device.metal)]
    for device, chosen in product((Device.cpu(), *numbered), models):
        yield MaterializationEnv(engine_version, device, chosen)
