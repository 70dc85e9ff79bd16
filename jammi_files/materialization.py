"""The materialization contract: what was produced, how, over which inputs, and whether it still is.

A sidecar binds the SHA-256 of a Parquet object to the definition that produced it (descriptor and
environment, folded into one hash) and to the state of its inputs. It is byte-compatible with
jammi-db 0.32 (FORMAT section "Sidecar and definition hash"); newer engines write the same manifest
version with more fields, which are kept. No I/O happens here.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from jammi_files.described import Described, list_of, one_of, optional, unsigned
from jammi_files.descriptors import Descriptor, require_descriptor
from jammi_files.errors import FormatError, InvalidInputError, UnsupportedVersionError
from jammi_files.producer import producer_id
from jammi_files.schema import InputAnchor
from jammi_files.strict_json import canonical_json, loads, plain, pretty_json
from jammi_files.validation import require_text

__all__ = [
    "MANIFEST_VERSION",
    "MAX_SIDECAR_BYTES",
    "BadSignature",
    "Device",
    "DeviceKind",
    "Match",
    "MatchWithUnpinnedInputs",
    "MaterializationEnv",
    "MaterializationManifest",
    "Mismatch",
    "MissingArtifact",
    "MissingManifest",
    "ModelIdentity",
    "Unsigned",
    "Verdict",
    "artifact_digest",
    "canonical_json",
    "decide_verdict",
    "definition_hash",
    "producer_id",
]

MANIFEST_VERSION = 3
"""The only sidecar version that is read or written (`B184`, `B185`)."""

MAX_SIDECAR_BYTES = 16 * 1024 * 1024
"""A sidecar is a few kB; what is larger than this is refused before it is decoded."""

_DOMAIN = b"jammi.materialization.definition.v1"
_Text = Annotated[str, require_text]


class DeviceKind(StrEnum):
    """Where a model ran."""

    CPU = "cpu"
    CUDA = "cuda"
    METAL = "metal"


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """The compute device; it changes the floats of a model, hence the definition (`B012`)."""

    kind: DeviceKind
    ordinal: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", one_of(DeviceKind)("device", self.kind))
        if self.kind is not DeviceKind.CPU:
            unsigned(32)(f"device {self.kind} ordinal", self.ordinal)
        elif self.ordinal is not None:
            msg = f"device cpu has no ordinal, not {self.ordinal!r}"
            raise InvalidInputError(msg)

    @classmethod
    def cpu(cls) -> Self:
        """Return the CPU."""
        return cls(DeviceKind.CPU)

    @classmethod
    def cuda(cls, ordinal: int) -> Self:
        """Return the CUDA device of that number."""
        return cls(DeviceKind.CUDA, ordinal)

    @classmethod
    def metal(cls, ordinal: int) -> Self:
        """Return the Metal device of that number."""
        return cls(DeviceKind.METAL, ordinal)

    def to_dict(self) -> str | dict[str, dict[str, int | None]]:
        """Return the JSON form: ``"cpu"`` or ``{"cuda": {"ordinal": n}}`` (`B012`)."""
        return self.kind.value if self.ordinal is None else {self.kind: {"ordinal": self.ordinal}}

    @classmethod
    def from_dict(cls, value: str | Mapping[str, Any]) -> Self:
        """Build a device from its JSON form.

        Raises:
            InvalidInputError: no such device, or another shape.
        """
        found = plain(value)
        if isinstance(found, str):
            return cls(one_of(DeviceKind)("device", found))
        match list(found.items()) if isinstance(found, dict) else []:
            case [(kind, {"ordinal": ordinal, **rest})] if not rest:
                return cls(one_of(DeviceKind)("device", kind), ordinal)
        msg = f'a device is "cpu" or {{"cuda": {{"ordinal": 0}}}}, not {found!r}'
        raise InvalidInputError(msg)


def _device(_: str, value: Any) -> Device:  # noqa: ANN401 - from JSON or a caller
    return value if isinstance(value, Device) else Device.from_dict(value)


@dataclasses.dataclass(frozen=True, slots=True)
class ModelIdentity(Described):
    """A model that a producer ran, and what ran it: ``candle``, ``ort`` or ``http`` (`B194`).

    ``compute_precision`` is what engines since 0.42 hash too (`B195`). None leaves the key out,
    which is the definition of 0.32.
    """

    absent: ClassVar[Mapping[str, object]] = {"compute_precision": None}
    model_id: _Text
    backend: _Text
    compute_precision: Annotated[str | None, optional(require_text)] = None


@dataclasses.dataclass(frozen=True, slots=True)
class MaterializationEnv(Described):
    """What decides the output beside the descriptor; models in caller order (`B194`)."""

    engine_version: _Text
    device: Annotated[Device, _device]
    models: Annotated[tuple[ModelIdentity, ...], list_of(ModelIdentity)] = ()


def definition_hash(descriptor: Descriptor, env: MaterializationEnv) -> str:
    """Return the SHA-256, in hex, of how a result is produced (`B192`, `B194`, `B196`, `B197`).

    Anchors, instants and the artifact are no part of it. Results may stand for each other only if
    their hashes are equal, so an environment must name everything that the engine hashed: 0.42 and
    newer hash more than 0.32 (`B195`).

    Raises:
        InvalidInputError: the descriptor cannot be canonicalised (`B201`), or is none.
    """
    if not isinstance(descriptor, Descriptor) or not isinstance(env, MaterializationEnv):
        msg = "definition_hash takes a descriptor and a MaterializationEnv"
        raise InvalidInputError(msg)
    return _fold(canonical_json(descriptor.to_dict()), canonical_json(env.to_dict()))


def artifact_digest(data: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256, in lower-case hex, of a whole data object (`B178`, `B179`)."""
    return hashlib.sha256(data).hexdigest()


def _version(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{what} must be an integer, not {value!r}"
        raise InvalidInputError(msg)
    if value != MANIFEST_VERSION:
        msg = (
            f"manifest format version {value} is incompatible with supported version"
            f" {MANIFEST_VERSION}; re-emit the artifact"
        )
        raise UnsupportedVersionError(msg)
    return value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MaterializationManifest(Described):
    """The sidecar ``<table_name>.materialization.json``; fields in stored order (`B176`).

    ``artifact`` is the digest of the data object, ``input_anchors`` are in producer order,
    ``produced_by`` and ``produced_at`` say which process wrote it and when (`B182`, `B183`).
    """

    artifact: _Text
    definition_hash: _Text
    descriptor: Annotated[Descriptor, require_descriptor]
    input_anchors: Annotated[tuple[InputAnchor, ...], list_of(InputAnchor)]
    produced_by: _Text
    produced_at: _Text
    engine_version: _Text
    manifest_version: Annotated[int, _version] = MANIFEST_VERSION

    @classmethod
    def label(cls) -> str:
        """Return what messages call this kind of value."""
        return "sidecar"

    @classmethod
    def attest(  # noqa: PLR0913 - one keyword for each fact that is attested
        cls,
        descriptor: Descriptor,
        env: MaterializationEnv,
        input_anchors: Sequence[InputAnchor],
        *,
        artifact: str,
        produced_at: str,
        produced_by: str | None = None,
    ) -> Self:
        """Bind ``artifact`` to its definition and inputs.

        ``produced_at`` is RFC 3339 (`timestamps.format_rfc3339`); ``produced_by`` is this process
        unless it is given.

        Raises:
            InvalidInputError: as `definition_hash`, or an argument of the wrong type.
        """
        return cls(
            artifact=artifact,
            definition_hash=definition_hash(descriptor, env),
            descriptor=descriptor,
            input_anchors=tuple(input_anchors),
            produced_by=produced_by or producer_id(),
            produced_at=produced_at,
            engine_version=env.engine_version,
        )

    @property
    def descriptor_digest(self) -> str:
        """The digest of how it was produced, whatever the environment (`B242`)."""
        return hashlib.sha256(canonical_json(self.descriptor.to_dict())).hexdigest()

    @property
    def statement(self) -> tuple[str, str, tuple[InputAnchor, ...]]:
        """What is attested of which bytes, whoever said so and when."""
        return self.artifact, self.definition_hash, self.input_anchors

    @property
    def unpinned_inputs(self) -> tuple[str, ...]:
        """The sources of the anchors that pin nothing, in producer order (`B217`)."""
        return tuple(anchor.source for anchor in self.input_anchors if not anchor.is_pinned)

    def to_json_bytes(self) -> bytes:
        """Return the bytes of the sidecar, equal to those of the engine (`B177`).

        A manifest that was read gives back every key that it had, known or not (`B186`).
        """
        return pretty_json(self.to_dict())

    @classmethod
    def from_json_bytes(cls, data: bytes) -> Self:
        """Read a sidecar (`B185` to `B187`, `B189` to `B191`).

        Raises:
            UnsupportedVersionError: another version than 3, whatever else is wrong.
            FormatError: not one JSON object of at most 16 MiB, a key twice, or a field that is
                missing or wrong; the message names it.
        """
        if len(data) > MAX_SIDECAR_BYTES:
            msg = f"a sidecar of {len(data)} bytes exceeds {MAX_SIDECAR_BYTES}"
            raise FormatError(msg)
        try:
            fields = loads(data)
            if isinstance(fields, dict) and "manifest_version" in fields:
                _version("sidecar.manifest_version", fields["manifest_version"])
            return cls.from_dict(fields)
        except InvalidInputError as error:
            raise FormatError(str(error)) from None


class _Verdict:
    __slots__ = ()
    verdict: ClassVar[str]
    ok: ClassVar[bool] = False

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, the tag under ``verdict`` first (`B015`)."""
        names = (field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]
        return {"verdict": self.verdict, **{name: plain(getattr(self, name)) for name in names}}


@dataclasses.dataclass(frozen=True, slots=True)
class Match(_Verdict):
    """The bytes are those that were attested, from the definition that was asked for."""

    verdict = "match"
    ok = True


@dataclasses.dataclass(frozen=True, slots=True)
class Mismatch(_Verdict):
    """The bytes or the definition differ (`B221`, `B222`)."""

    verdict = "mismatch"
    expected: str
    found: str


@dataclasses.dataclass(frozen=True, slots=True)
class MatchWithUnpinnedInputs(_Verdict):
    """A match whose ``unpinned`` sources may have changed since (`B223`)."""

    verdict = "match_with_unpinned_inputs"
    ok = True
    unpinned: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class MissingManifest(_Verdict):
    """There is no sidecar: nothing can be said (`B220`)."""

    verdict = "missing_manifest"


@dataclasses.dataclass(frozen=True, slots=True)
class MissingArtifact(_Verdict):
    """There is a sidecar but no data object (`B228`)."""

    verdict = "missing_artifact"


@dataclasses.dataclass(frozen=True, slots=True)
class Unsigned(_Verdict):
    """There is no signature; only a store with ``verify=`` asks for one."""

    verdict = "unsigned"


@dataclasses.dataclass(frozen=True, slots=True)
class BadSignature(_Verdict):
    """The signature is of no trusted key, or covers something else: ``reason`` says which."""

    verdict = "bad_signature"
    reason: str


Verdict = (
    Match
    | Mismatch
    | MatchWithUnpinnedInputs
    | MissingManifest
    | MissingArtifact
    | Unsigned
    | BadSignature
)
"""``ok`` is true for the two kinds of match, ``verdict`` is the stored tag (`B015`)."""


def decide_verdict(
    manifest: MaterializationManifest | None,
    found_digest: str | None,
    expected_definition: str | None = None,
) -> Verdict:
    """Judge a result by its sidecar and the digest of its bytes, None where there are none.

    In this order: no sidecar (`B220`), no data object (`B228`), other bytes than recorded
    (`B221`), another definition than the caller expects (`B222`), unpinned inputs (`B223`).
    """
    if manifest is None:
        return MissingManifest()
    if found_digest is None:
        return MissingArtifact()
    if found_digest != manifest.artifact:
        return Mismatch(expected=manifest.artifact, found=found_digest)
    if expected_definition not in (None, manifest.definition_hash):
        return Mismatch(expected=str(expected_definition), found=manifest.definition_hash)
    if manifest.unpinned_inputs:
        return MatchWithUnpinnedInputs(manifest.unpinned_inputs)
    return Match()


def _fold(descriptor: bytes, env: bytes) -> str:
    # Lengths before the parts: no byte can move from one to the other unseen (`B202`).
    return hashlib.sha256(
        _DOMAIN
        + b"\0descriptor\0"
        + len(descriptor).to_bytes(8, "little")
        + descriptor
        + b"\0env\0"
        + len(env).to_bytes(8, "little")
        + env
    ).hexdigest()
