"""How a result was produced: one class per producer, fields in the order of the stored JSON.

A descriptor says everything that decides the output apart from the environment and the state of
the inputs; each field moves the definition hash. Floats stand as bits: build them with
`float32_bits` and `float64_bits`, read them back through the property without ``_bits``. JSON
objects, lists and strings are taken wherever a nested value, a tuple or an enum is stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from jammi_files.described import (
    OMITTED,
    Described,
    Omitted,
    one_of,
    require_string_map,
)
from jammi_files.descriptor_parts import (
    AsofBoundary,
    AsofDirection,
    Bits64,
    Candidates,
    Columns,
    ContextAggregator,
    Direction,
    EdgeSource,
    Flag,
    OptionalBits32,
    OptionalString,
    OptionalText,
    PropagationOutput,
    PropagationWeighting,
    Size,
    Text,
    Tolerance,
    float_of_bits32,
    float_of_bits64,
)
from jammi_files.errors import InvalidInputError
from jammi_files.schema import ModelTask
from jammi_files.validation import require_text

CONTENT_DIGEST_PARAM = "content_digest"
"""The key of `External.params` that is reserved for the digest of the rows (`B213`)."""


def _precision(what: str, value: object) -> object:
    return value if value is None or value is OMITTED else require_text(what, value)


def _task(_: str, value: Any) -> ModelTask:  # noqa: ANN401 - from JSON or a caller
    return ModelTask.parse(value)


Task = Annotated[ModelTask, _task]


class _Producer(Described):
    __slots__ = ()

    @property
    def producer(self) -> str:
        """The stored name of the producer."""
        return self.label()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inference(_Producer):
    """A model run over columns of a source (`B203`)."""

    tag = ("producer", "inference")
    model_id: Text
    task: Task
    source_id: Text
    content_columns: Columns
    key_column: Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Embedding(_Producer):
    """An embedding of columns of a source (`B204`)."""

    tag = ("producer", "embedding")
    model_id: Text
    task: Task
    source_id: Text
    columns: Columns
    key_column: Text
    dimensions: Size


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NeighborGraph(_Producer):
    """The k nearest neighbours within an embedding table (`B205`).

    ``index_storage_precision`` is what engines since 0.42 record: None when ``exact``, otherwise
    the precision of the index (`B206`). `OMITTED`, the default, is the definition of 0.32.
    """

    tag = ("producer", "neighbor_graph")
    absent: ClassVar[Mapping[str, object]] = {"index_storage_precision": OMITTED}
    source_table: Text
    k: Size
    min_similarity_bits: OptionalBits32 = None
    mutual: Flag
    self_exclude: Flag
    exact: Flag
    exact_max_rows: Size
    index_storage_precision: Annotated[str | Omitted | None, _precision] = OMITTED

    @property
    def min_similarity(self) -> float | None:
        """``min_similarity_bits`` as the float that it stands for."""
        bits = self.min_similarity_bits
        return None if bits is None else float_of_bits32(bits)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GraphPropagation(_Producer):
    """Features propagated over a graph (`B207`); ``hops`` is the depth that was run."""

    tag = ("producer", "graph_propagation")
    source_table: Text
    edge_source: EdgeSource
    kernel_id: Text
    direction: Direction
    hops: Size
    alpha_bits: Bits64
    weighting: Annotated[PropagationWeighting, one_of(PropagationWeighting)]
    output: Annotated[PropagationOutput, one_of(PropagationOutput)]
    dimensions: Size

    @property
    def alpha(self) -> float:
        """``alpha_bits`` as the float that it stands for."""
        return float_of_bits64(self.alpha_bits)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContextSet(_Producer):
    """Per-target pooled context vectors (`B209`).

    ``embedding_table`` is the table that was pooled, after "the newest" was resolved; None only
    in descriptors from before that rule.
    """

    tag = ("producer", "context_set")
    encoder_id: Text
    source_id: Text
    embedding_table: OptionalText
    candidate_source: Candidates
    value_columns: Columns
    aggregator: Annotated[ContextAggregator, one_of(ContextAggregator)]
    exclude_self: Flag
    split: OptionalString = None
    dimensions: Size


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AsofJoin(_Producer):
    """Each spine row with at most one fact valid at its instant (`B211`).

    An empty ``project`` stands for all columns that are no key.
    """

    tag = ("producer", "asof_join")
    spine: Text
    facts: Text
    spine_by: Columns
    facts_by: Columns
    spine_time: Text
    facts_time: Text
    direction: Annotated[AsofDirection, one_of(AsofDirection)]
    boundary: Annotated[AsofBoundary, one_of(AsofBoundary)]
    tolerance: Tolerance = None
    tie_break_column: OptionalText = None
    project: Columns = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class External(_Producer):
    """A producer that the engine does not know (`B212`); it can never be computed again by it.

    ``params`` must name everything that decides the output: what is left out makes two different
    results look the same. It is kept sorted, so insertion order does not matter.
    """

    tag = ("producer", "external")
    producer_id: Text
    params: Annotated[Mapping[str, str], require_string_map] = dataclasses.field(hash=False)

    def with_content_digest(self, digest: str) -> Self:
        """Return the descriptor of these very rows (`B213`).

        Raises:
            InvalidInputError: ``params`` already holds the reserved key.
        """
        if CONTENT_DIGEST_PARAM in self.params:
            msg = f"params must not hold '{CONTENT_DIGEST_PARAM}': it is computed from the rows"
            raise InvalidInputError(msg)
        params = {**self.params, CONTENT_DIGEST_PARAM: digest}
        return dataclasses.replace(self, params=params)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnknownDescriptor(Described):
    """The descriptor of a producer that this version does not know, kept whole in ``extra``.

    It is kept rather than refused because everything but computing it again still works: bytes are
    verified against the sidecar, hashes compared, lineage followed, the sidecar copied unchanged.
    """

    producer: Text

    def __post_init__(self) -> None:
        Described.__post_init__(self)
        if self.producer in _PRODUCERS:
            known = _PRODUCERS[self.producer].__name__
            msg = f"producer '{self.producer}' is known: use {known}"
            raise InvalidInputError(msg)


Descriptor = (
    Inference
    | Embedding
    | NeighborGraph
    | GraphPropagation
    | ContextSet
    | AsofJoin
    | External
    | UnknownDescriptor
)

_PRODUCERS: dict[str, type[_Producer]] = {
    kind.label(): kind
    for kind in (
        Inference,
        Embedding,
        NeighborGraph,
        GraphPropagation,
        ContextSet,
        AsofJoin,
        External,
    )
}


def parse_descriptor(fields: Mapping[str, Any]) -> Descriptor:
    """Build the descriptor that ``producer`` names; an unknown name gives `UnknownDescriptor`.

    Raises:
        InvalidInputError: no ``producer``, or a field of a known producer is missing or wrong.
    """
    name = fields.get("producer") if isinstance(fields, Mapping) else None
    if not isinstance(name, str):
        msg = "a descriptor must be an object with the string field `producer`"
        raise InvalidInputError(msg)
    kind: type[Described] = _PRODUCERS.get(name, UnknownDescriptor)
    return kind.from_dict(fields)  # type: ignore[return-value]  # every kind is a Descriptor


def require_descriptor(_: str, value: Any) -> Descriptor:  # noqa: ANN401 - from JSON or a caller
    """Take a descriptor or its JSON object, as a field's check."""
    return value if isinstance(value, Descriptor) else parse_descriptor(value)
