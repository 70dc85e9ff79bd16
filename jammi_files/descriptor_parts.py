"""What descriptors are made of: enums, floats as bits, tolerances, edge sources and candidates.

The nested values carry their own tag and keep unknown keys like a descriptor does. Floats stand as
IEEE-754 bits, since the text of a float is not one and the same everywhere (`B200`).
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Annotated, Any, Self

from jammi_files.described import Described, one_of, optional, require_flag, tagged, unsigned
from jammi_files.errors import InvalidInputError
from jammi_files.validation import require_strings, require_text


def float32_bits(value: float) -> int:
    """Return the bits of ``value`` rounded to single precision, as u32 (`B200`).

    Raises:
        InvalidInputError: ``value`` is not finite in single precision.
    """
    return _bits("<f", "<I", value)


def float64_bits(value: float) -> int:
    """Return the bits of ``value`` as u64: 0.1 gives 4591870180066957722 (`B200`).

    Raises:
        InvalidInputError: ``value`` is not finite.
    """
    return _bits("<d", "<Q", value)


def float_of_bits32(bits: int) -> float:
    """Return the float that `float32_bits` was given, in single precision."""
    return _float("<I", "<f", bits)


def float_of_bits64(bits: int) -> float:
    """Return the float that `float64_bits` was given."""
    return _float("<Q", "<d", bits)


class EdgeDirection(StrEnum):
    """Which way a walk follows edges (`B207`)."""

    OUT = "out"
    IN = "in"
    UNDIRECTED = "undirected"


class PropagationWeighting(StrEnum):
    """How neighbours count (`B207`)."""

    UNIFORM = "uniform"
    DEGREE_NORMALIZED = "degree_normalized"
    EDGE_SIMILARITY = "edge_similarity"


class PropagationOutput(StrEnum):
    """The last hop only, or every hop side by side (`B207`)."""

    FINAL = "final"
    JUMPING_KNOWLEDGE = "jumping_knowledge"


class ContextAggregator(StrEnum):
    """How a context is pooled (`B209`)."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"


class HybridMerge(StrEnum):
    """How two candidate sets become one (`B210`)."""

    UNION = "union"


class AsofDirection(StrEnum):
    """Which fact matches a spine row (`B211`)."""

    BACKWARD = "backward"
    FORWARD = "forward"
    NEAREST = "nearest"


class AsofBoundary(StrEnum):
    """Whether a fact of the very same instant matches (`B211`)."""

    INCLUSIVE = "inclusive"
    EXCLUSIVE = "exclusive"


class ToleranceUnit(StrEnum):
    """What an as-of tolerance counts (`B211`)."""

    DURATION = "duration"
    STEPS = "steps"


@dataclasses.dataclass(frozen=True, slots=True)
class AsofTolerance:
    """How far a fact may lie from the spine row: microseconds or steps of an integer key."""

    unit: ToleranceUnit
    amount: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", one_of(ToleranceUnit)("tolerance", self.unit))
        unsigned(63)(f"tolerance.{self.unit}", self.amount)

    @classmethod
    def duration(cls, microseconds: int) -> Self:
        """Limit the distance in time."""
        return cls(ToleranceUnit.DURATION, microseconds)

    @classmethod
    def steps(cls, count: int) -> Self:
        """Limit the distance of an integer key."""
        return cls(ToleranceUnit.STEPS, count)

    def to_dict(self) -> dict[str, int]:
        """Return ``{"duration": n}`` or ``{"steps": n}``."""
        return {self.unit.value: self.amount}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build a tolerance from its one-key object.

        Raises:
            InvalidInputError: another number of keys, another unit, or no such integer.
        """
        if isinstance(fields, Mapping) and len(fields) == 1:
            ((unit, amount),) = fields.items()
            return cls(one_of(ToleranceUnit)("tolerance", unit), amount)
        msg = f'a tolerance is {{"duration": n}} or {{"steps": n}}, not {fields!r}'
        raise InvalidInputError(msg)


def _string(what: str, value: object) -> str:
    if isinstance(value, str):
        return value and require_text(what, value)
    msg = f"{what} must be a string, not {type(value).__name__}"
    raise InvalidInputError(msg)


def _columns(what: str, value: object) -> tuple[str, ...]:
    if isinstance(value, (AbstractSet, Mapping)):
        msg = f"{what} must be a list: a {type(value).__name__} has no order to keep"
        raise InvalidInputError(msg)
    return require_strings(what, value)


def _tolerance(_: str, value: Any) -> AsofTolerance:  # noqa: ANN401 - from JSON or a caller
    return value if isinstance(value, AsofTolerance) else AsofTolerance.from_dict(value)


Text = Annotated[str, require_text]
OptionalText = Annotated[str | None, optional(require_text)]
OptionalString = Annotated[str | None, optional(_string)]
Columns = Annotated[tuple[str, ...], _columns]
OptionalStrings = Annotated[tuple[str, ...] | None, optional(_columns)]
Flag = Annotated[bool, require_flag]
Size = Annotated[int, unsigned(64)]  # the engine's usize: its "no limit" is 2**64-1
OptionalSize = Annotated[int | None, optional(unsigned(64))]
Bits64 = Annotated[int, unsigned(64)]
OptionalBits64 = Annotated[int | None, optional(unsigned(64))]
OptionalBits32 = Annotated[int | None, optional(unsigned(32))]
Direction = Annotated[EdgeDirection, one_of(EdgeDirection)]
Tolerance = Annotated[AsofTolerance | None, optional(_tolerance)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NeighborGraphEdges(Described):
    """Edges of a ``neighbor_graph`` result, by table name (`B208`)."""

    tag = ("edge_source", "neighbor_graph")
    table_name: Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredEdges(Described):
    """Edges of a registered source, with the columns that were read (`B208`)."""

    tag = ("edge_source", "registered")
    source_id: Text
    src_column: Text
    dst_column: Text
    type_column: OptionalText = None
    weight_column: OptionalText = None
    as_of_column: OptionalText = None


EdgeSource = Annotated[
    NeighborGraphEdges | RegisteredEdges, tagged(NeighborGraphEdges, RegisteredEdges)
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EdgeGather(Described):
    """A bounded walk over edges (`B210`); ``hops`` is the depth that was walked."""

    edge_source: EdgeSource
    hops: Size
    fanout: OptionalSize = None
    direction: Direction
    edge_types: OptionalStrings = None
    min_weight_bits: OptionalBits64 = None
    as_of: OptionalString = None

    @property
    def min_weight(self) -> float | None:
        """``min_weight_bits`` as the float that it stands for."""
        bits = self.min_weight_bits
        return None if bits is None else float_of_bits64(bits)


def _gather(_: str, value: Any) -> EdgeGather:  # noqa: ANN401 - from JSON or a caller
    return value if isinstance(value, EdgeGather) else EdgeGather.from_dict(value)


Gather = Annotated[EdgeGather, _gather]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AnnCandidates(Described):
    """Candidates from a vector search (`B210`)."""

    tag = ("candidate", "ann")
    k: Size


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EdgeCandidates(Described):
    """Candidates from a walk (`B210`)."""

    tag = ("candidate", "edges")
    gather: Gather


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HybridCandidates(Described):
    """Candidates from both (`B210`)."""

    tag = ("candidate", "hybrid")
    ann_k: Size
    gather: Gather
    merge: Annotated[HybridMerge, one_of(HybridMerge)] = HybridMerge.UNION


Candidates = Annotated[
    AnnCandidates | EdgeCandidates | HybridCandidates,
    tagged(AnnCandidates, EdgeCandidates, HybridCandidates),
]


def _bits(float_code: str, bits_code: str, value: float) -> int:
    try:
        packed = struct.pack(float_code, value)
    except (struct.error, OverflowError):
        packed = struct.pack(float_code, math.inf)
    if not math.isfinite(struct.unpack(float_code, packed)[0]):
        msg = f"{value!r} is not a finite number of {8 * len(packed)} bits"
        raise InvalidInputError(msg)
    bits: int = struct.unpack(bits_code, packed)[0]
    return bits


def _float(bits_code: str, float_code: str, bits: int) -> float:
    value: float = struct.unpack(float_code, struct.pack(bits_code, bits))[0]
    return value
