"""Who attests a result: signatures over sidecars, which anybody with a key verifies anywhere.

A signature lies beside the sidecar, in a DSSE envelope: what is signed is the in-toto Statement
that the named table has the attested bytes, with the whole sidecar as its predicate. So data,
definition, anchors, instant and name are covered, and tools for in-toto attestations read it too.
Signer and verifier are any callables; those here are HMAC-SHA256 and Ed25519.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import pickle
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import orjson

from jammi_files import strict_json
from jammi_files.errors import FormatError, InvalidInputError
from jammi_files.extras import load
from jammi_files.materialization import (
    MANIFEST_VERSION,
    MAX_SIDECAR_BYTES,
    BadSignature,
    MaterializationManifest,
    Unsigned,
)

Sign: TypeAlias = Callable[[bytes], bytes]
"""Returns the signature of a message; its attribute ``key_id``, if it has one, names the key."""

Verify: TypeAlias = Callable[[bytes, bytes], bool]
"""Says whether a message has that signature; with a ``key_id`` it is asked of that key's alone."""

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = f"https://pypi.org/project/jammi-files/#materialization-v{MANIFEST_VERSION}"
"""Names the sidecar as what an in-toto Statement says of its subject."""

PAYLOAD_TYPE = "application/vnd.in-toto+json"

MAX_ENVELOPE_BYTES = MAX_SIDECAR_BYTES * 4 // 3 + 65_536
_MAX_SIGNATURES = 16
_SHORTEST_KEY = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Signing:
    """Who signs what a store makes, and whose signatures it believes; by default nobody.

    ``sign`` makes the signatures of new results. ``verifiers`` are asked one after the other: after
    a change of keys give the old one's and the new one's. A store without any judges no signature.
    """

    sign: Sign | None = None
    verifiers: tuple[Verify, ...] = ()

    @classmethod
    def of(cls, sign: Sign | None, verify: Verify | Iterable[Verify] | None) -> Signing:
        """Take what `connect` was given: ``verify`` is one callable or several.

        Raises:
            InvalidInputError: one of them is not callable.
        """
        several = () if verify is None else (verify,) if callable(verify) else verify
        if not isinstance(several, Iterable) or isinstance(several, str | bytes):
            raise InvalidInputError(f"verify must be callable, or several that are, not {verify!r}")
        made = cls(sign, tuple(several))
        for each, name in ((sign, "sign"), *((each, "verify") for each in made.verifiers)):
            if each is not None and not callable(each):
                raise InvalidInputError(f"{name} must be callable, not {type(each).__name__}")
        return made

    def seal(self, table_name: str, sidecar: MaterializationManifest) -> bytes:
        """Return the envelope of a signature over a sidecar.

        Raises:
            InvalidInputError: ``sign`` returned no bytes, or no verifier here believes it: whoever
                reads the result would refuse it.
        """
        payload = strict_json.canonical_json(statement(table_name, sidecar))
        signature = None if self.sign is None else self.sign(encoded(payload))
        if not isinstance(signature, bytes) or not signature:
            raise InvalidInputError(f"sign must return bytes, not {type(signature).__name__}")
        data = envelope(payload, key_id_of(self.sign), signature)
        if self.verifiers and self.judge(table_name, sidecar, data) is not None:
            raise InvalidInputError(
                "no verify= of this store believes what its sign= signs: give that key's verifier"
            )
        return data

    def judge(
        self, table_name: str, sidecar: MaterializationManifest, data: bytes | None
    ) -> Unsigned | BadSignature | None:
        """Say what is wrong with the signature over a sidecar, given as its envelope's bytes.

        None: a verifier believes it, and it is of this table and this sidecar.
        """
        if data is None:
            return Unsigned()
        try:
            payload, signatures = opened(data)
        except FormatError as error:
            return BadSignature(str(error))
        message = encoded(payload)
        if not any(self._believes(message, *each) for each in signatures):
            keys = ", ".join(repr(key_id) for key_id, _ in signatures)
            return BadSignature(f"no key that is trusted here has made it; it names {keys}")
        flaw = find_flaw(table_name, sidecar, payload)
        return None if flaw is None else BadSignature(flaw)

    def _believes(self, message: bytes, key_id: str, signature: bytes) -> bool:
        for verify in self.verifiers:
            own = key_id_of(verify)
            if (not own or not key_id or own == key_id) and verify(message, signature) is True:
                return True
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        for name, each in (("sign", self.sign), *(("verify", each) for each in self.verifiers)):
            try:
                pickle.dumps(each)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise InvalidInputError(
                    f"{name}= cannot be sent to another process ({error}); give a function of a "
                    "module, or an instance of a module's class such as Ed25519Verifier"
                ) from error
        return Signing, (self.sign, self.verifiers)


def statement(table_name: str, sidecar: MaterializationManifest) -> dict[str, Any]:
    """Return the in-toto Statement that a sidecar makes about its data object."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": table_name, "digest": {"sha256": sidecar.artifact}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": sidecar.to_dict(),
    }


def encoded(payload: bytes) -> bytes:
    """Return what is signed of a payload: DSSE's pre-authentication encoding, version 1."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(payload: bytes, key_id: str, signature: bytes) -> bytes:
    """Return the bytes of a DSSE envelope with one signature: one line of JSON."""
    fields = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return orjson.dumps(fields) + b"\n"


def opened(data: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return an envelope's payload, and its signatures with the names of their keys.

    Raises:
        FormatError: the bytes are no DSSE envelope of an in-toto Statement.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise FormatError(f"a signature of {len(data)} bytes exceeds {MAX_ENVELOPE_BYTES}")
    try:
        fields = strict_json.loads(data)
        kind, several = fields["payloadType"], fields["signatures"]
        if kind != PAYLOAD_TYPE:
            raise FormatError(f"the signature is over '{kind}', not '{PAYLOAD_TYPE}'")
        if not 0 < len(several) <= _MAX_SIGNATURES:
            raise FormatError(f"there are {len(several)} signatures, not 1 to {_MAX_SIGNATURES}")
        found = [(str(each.get("keyid") or ""), _binary(each["sig"])) for each in several]
        return _binary(fields["payload"]), found
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"the signature is no DSSE envelope: {error!r}") from error


def find_flaw(table_name: str, sidecar: MaterializationManifest, payload: bytes) -> str | None:
    """Say why a payload is not the Statement about this table and sidecar, None if it is."""
    try:
        said = strict_json.loads(payload)
    except FormatError as error:
        return str(error)
    expected = statement(table_name, sidecar)
    # Not as values of Python, where true is 1 and 1 is 1.0.
    if strict_json.canonical_json(said) == strict_json.canonical_json(expected):
        return None
    found = said if isinstance(said, dict) else {}
    if found.get("subject") != expected["subject"]:
        return f"it was made for {found.get('subject')!r}, not for {expected['subject']!r}"
    return "it was made for another sidecar than the one that is here"


def covered(data: bytes) -> MaterializationManifest:
    """Return the sidecar that a signature covers, whoever made it.

    Raises:
        FormatError: the bytes are no signature of a sidecar.
    """
    said = strict_json.loads(opened(data)[0])
    predicate = said.get("predicate") if isinstance(said, dict) else None
    return MaterializationManifest.from_json_bytes(orjson.dumps(predicate))


def key_id_of(each: object) -> str:
    """Return the name of the key that a signer or verifier uses, "" if it has none."""
    return str(getattr(each, "key_id", None) or "")


def _binary(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise FormatError(f"the signature is no DSSE envelope: {error}") from error


# --- HMAC-SHA256: who can verify can sign


@dataclasses.dataclass(frozen=True, slots=True)
class _Hmac:
    key: bytes = dataclasses.field(repr=False)
    key_id: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.key, bytes) or len(self.key) < _SHORTEST_KEY:
            raise InvalidInputError(f"a key for HMAC is at least {_SHORTEST_KEY} random bytes")

    def _mac(self, message: bytes) -> bytes:
        return hmac.digest(self.key, message, "sha256")


@dataclasses.dataclass(frozen=True, slots=True)
class HmacSigner(_Hmac):
    """Signs with a secret of at least 16 bytes that signer and verifiers share.

    Raises:
        InvalidInputError: the key is no bytes, or too short.
    """

    def __call__(self, message: bytes) -> bytes:
        """Return the HMAC-SHA256 of a message."""
        return self._mac(message)


@dataclasses.dataclass(frozen=True, slots=True)
class HmacVerifier(_Hmac):
    """Verifies what an `HmacSigner` of the same key has signed.

    Raises:
        InvalidInputError: the key is no bytes, or too short.
    """

    def __call__(self, message: bytes, signature: bytes) -> bool:
        """Say whether that is the message's signature, in a time that tells nothing."""
        return hmac.compare_digest(self._mac(message), signature)


# --- Ed25519: who verifies has a public key alone


@dataclasses.dataclass(frozen=True, slots=True)
class Ed25519Signer:
    """Signs with a private Ed25519 key; its id is the SHA-256 of the public one.

    ``key`` is the PEM of an unencrypted PKCS #8 key, or its 32 raw bytes. It goes with a pickled
    store: send workers a store that only verifies, unless they are to sign.

    Raises:
        MissingPackageError: ``cryptography`` is not installed; ``jammi_files[sign]`` brings it.
        InvalidInputError: that is no such key.
    """

    key: bytes = dataclasses.field(repr=False)
    verifier: Ed25519Verifier = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        raw = self._private().public_key().public_bytes_raw()
        object.__setattr__(self, "verifier", Ed25519Verifier(raw))

    @classmethod
    def generate(cls) -> Ed25519Signer:
        """Return a signer with a new key."""
        return cls(_ed25519().Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def key_id(self) -> str:
        """The SHA-256 of the public key, in hex."""
        return self.verifier.key_id

    def __call__(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return bytes(self._private().sign(message))

    def _private(self) -> Any:  # noqa: ANN401 - a class of an optional package
        kind = _ed25519().Ed25519PrivateKey
        pem = lambda key: _serialization().load_pem_private_key(key, password=None)  # noqa: E731
        return _key(self.key, kind, kind.from_private_bytes, pem)


@dataclasses.dataclass(frozen=True, slots=True)
class Ed25519Verifier:
    """Verifies what the `Ed25519Signer` of that public key has signed.

    ``key`` is the PEM of the public key, or its 32 raw bytes.

    Raises:
        MissingPackageError: ``cryptography`` is not installed; ``jammi_files[sign]`` brings it.
        InvalidInputError: that is no such key.
    """

    key: bytes
    key_id: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        raw = self._public().public_bytes_raw()
        object.__setattr__(self, "key", raw)
        object.__setattr__(self, "key_id", hashlib.sha256(raw).hexdigest())

    def __call__(self, message: bytes, signature: bytes) -> bool:
        """Say whether that is the message's signature."""
        try:
            self._public().verify(signature, message)
        except load("cryptography.exceptions", extra="sign", purpose="Ed25519").InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """Return the public key as the PEM file that verifiers are given."""
        serialization = _serialization()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return bytes(self._public().public_bytes(serialization.Encoding.PEM, form))

    def _public(self) -> Any:  # noqa: ANN401 - a class of an optional package
        kind = _ed25519().Ed25519PublicKey
        pem = lambda key: _serialization().load_pem_public_key(key)  # noqa: E731
        return _key(self.key, kind, kind.from_public_bytes, pem)


def _ed25519() -> Any:  # noqa: ANN401 - an optional package
    package = "cryptography.hazmat.primitives.asymmetric.ed25519"
    return load(package, extra="sign", purpose="Ed25519")


def _serialization() -> Any:  # noqa: ANN401 - an optional package
    package = "cryptography.hazmat.primitives.serialization"
    return load(package, extra="sign", purpose="Ed25519")


def _key(
    key: bytes, kind: type, read_raw: Callable[[bytes], Any], read_pem: Callable[[bytes], Any]
) -> Any:  # noqa: ANN401 - of an optional package
    try:
        found = read_raw(key) if len(key) == 32 else read_pem(key)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"that is no Ed25519 key: {error}") from error
    if not isinstance(found, kind):
        raise InvalidInputError(f"that is a {type(found).__name__}, not an Ed25519 key")
    return found
