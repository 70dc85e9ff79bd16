"""Why there is nothing to reuse, and why a result no longer holds: field by field.

The nearest result is compared: one of the same definition if there is any, else one of the same
producer over the same sources with most fields equal, the newest of those. A sidecar does not hold
the environment but its engine version and the hash. Where the hash betrays it, the rest of the
environment is found by trying what is likely; otherwise the answer says only that it differs.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

from jammi_files import cache
from jammi_files.artifacts import Artifacts
from jammi_files.descriptors import Descriptor, External
from jammi_files.errors import FormatError
from jammi_files.materialization import (
    Device,
    MaterializationEnv,
    MaterializationManifest,
    definition_hash,
)
from jammi_files.reads import Reads
from jammi_files.reasons import Staleness
from jammi_files.schema import InputAnchor, ResultTableRecord, require_anchors
from jammi_files.strict_json import plain

CANDIDATES = 64
"""Results whose sidecars are read in search of the nearest, newest first."""

_SOURCE_FIELDS = ("source_id", "source_table", "embedding_table", "spine", "facts")
_ORDINALS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs: in the ``descriptor``, the ``env`` or the ``anchors``.

    ``recorded`` is what the result has, ``wanted`` what was asked for; None where there is none, or
    where nothing recorded it.
    """

    part: str
    field: str
    recorded: Any
    wanted: Any

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dataclasses.asdict(self)

    def explain(self) -> str:
        """Say what differs."""
        return f"{self.part} {self.field}: recorded {self.recorded!r}, wanted {self.wanted!r}"


@dataclasses.dataclass(frozen=True, slots=True)
class MissExplanation:
    """Why a request finds nothing to reuse; ``hit`` names the table if it does find one.

    ``reason`` is one of ``hit``, ``unpinned_inputs``, ``bytes_gone``, ``anchors_differ``,
    ``env_differs``, ``descriptor_differs``, ``nothing_near``.
    """

    reason: str
    hit: str | None = None
    nearest: str | None = None
    differences: tuple[Difference, ...] = ()
    unpinned: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        differences = [difference.to_dict() for difference in self.differences]
        return {**fields, "differences": differences, "unpinned": list(self.unpinned)}

    def __str__(self) -> str:
        return self.explain()

    def explain(self) -> str:
        """Return the answer in words: what is missing, what helps, what differs."""
        words = _WORDS[self.reason].format(
            hit=self.hit, nearest=self.nearest, unpinned=", ".join(self.unpinned)
        )
        return "\n".join([words, *(f"- {each.explain()}" for each in self.differences)])


_WORDS = {
    "hit": "hit: '{hit}' is this very result",
    "unpinned_inputs": ("miss: an unpinned input never matches; pin {unpinned} by source_anchor"),
    "bytes_gone": "miss: '{nearest}' is this very result, but its bytes are gone; produce it again",
    "anchors_differ": "miss: '{nearest}' has this definition, but was made from other inputs",
    "env_differs": "miss: '{nearest}' was produced in the same way in another environment",
    "descriptor_differs": "miss: never produced in this way; '{nearest}' comes nearest",
    "nothing_near": "miss: nothing of this producer was made from these sources yet; produce it",
}


@dataclasses.dataclass(frozen=True, slots=True)
class StaleExplanation:
    """Why a result holds or not: the verdict, and what differs in definition from the caller's."""

    table_name: str
    staleness: Staleness
    differences: tuple[Difference, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        differences = [difference.to_dict() for difference in self.differences]
        verdict = self.staleness.to_dict()
        return {"table_name": self.table_name, **verdict, "differences": differences}

    def __str__(self) -> str:
        return self.explain()

    def explain(self) -> str:
        """Return the answer in words."""
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return the answer in words, the verdict first, then a line for each reason."""
        verdict, *reasons = self.staleness.lines()
        differences = [f"- {each.explain()}" for each in self.differences]
        return [f"'{self.table_name}' is {verdict}", *reasons, *differences]


def explain_miss(
    reads: Reads,
    artifacts: Artifacts,
    descriptor: Descriptor,
    env: MaterializationEnv,
    inputs: Sequence[InputAnchor],
) -> MissExplanation:
    """Say why a request finds nothing; see `ResultStore.explain_miss`."""
    wanted, anchors = definition_hash(descriptor, env), require_anchors(inputs)
    hit = cache.probe(reads, artifacts, wanted, anchors)
    if hit is not None:
        return MissExplanation("hit", hit=hit.table_name)
    unpinned = tuple(anchor.source for anchor in anchors if not anchor.is_pinned)
    exact = next(cache.matches(reads, wanted, anchors), None)
    if exact is not None:
        return MissExplanation("bytes_gone", nearest=exact.table_name)
    same = reads.find_ready_result_tables_by_definition(wanted)
    if same:
        nearest = max(same, key=lambda record: _shared(record.input_anchors or (), anchors))
        found = tuple(anchor_differences(nearest.input_anchors or (), anchors))
        reason = "unpinned_inputs" if unpinned else "anchors_differ"
        return MissExplanation(reason, None, nearest.table_name, found, unpinned)
    return _by_descriptor(reads, artifacts, descriptor, env, anchors)


def _by_descriptor(
    reads: Reads,
    artifacts: Artifacts,
    descriptor: Descriptor,
    env: MaterializationEnv,
    anchors: tuple[InputAnchor, ...],
) -> MissExplanation:
    unpinned = tuple(anchor.source for anchor in anchors if not anchor.is_pinned)
    best = _nearest(reads, artifacts, descriptor, anchors)
    if best is None:
        reason = "unpinned_inputs" if unpinned else "nothing_near"
        return MissExplanation(reason, unpinned=unpinned)
    record, sidecar = best
    differences = (
        *definition_differences(sidecar, descriptor, env),
        *anchor_differences(sidecar.input_anchors, anchors),
    )
    same = sidecar.descriptor == descriptor
    reason = "env_differs" if same else "descriptor_differs"
    reason = "unpinned_inputs" if unpinned else reason
    return MissExplanation(reason, None, record.table_name, differences, unpinned)


def _nearest(
    reads: Reads,
    artifacts: Artifacts,
    descriptor: Descriptor,
    anchors: tuple[InputAnchor, ...],
) -> tuple[ResultTableRecord, MaterializationManifest] | None:
    """Return the nearest result; the first of equals, so the newest."""
    fields = descriptor.to_dict()
    attested = _attested(artifacts, _candidates(reads, descriptor, anchors))
    near = [
        (_equal(sidecar.descriptor.to_dict(), fields), record, sidecar)
        for record, sidecar in attested
        if _producer(sidecar.descriptor) == _producer(descriptor)
    ]
    best = max(near, key=lambda each: each[0], default=None)
    return None if best is None else best[1:]


def definition_differences(
    sidecar: MaterializationManifest, descriptor: Descriptor, env: MaterializationEnv
) -> Iterator[Difference]:
    """Yield the fields in which a definition differs from the one that a sidecar attests."""
    yield from _differences("descriptor", sidecar.descriptor.to_dict(), descriptor.to_dict())
    if definition_hash(sidecar.descriptor, env) != sidecar.definition_hash:
        yield from _env_differences(sidecar, env)


def anchor_differences(
    recorded: Sequence[InputAnchor], wanted: Sequence[InputAnchor]
) -> Iterator[Difference]:
    """Yield each anchor that only one of the two has, paired by source."""
    extra = list((Counter(recorded) - Counter(wanted)).elements())
    lacking = list((Counter(wanted) - Counter(recorded)).elements())
    for anchor in lacking:
        partner = next((each for each in extra if each.source == anchor.source), None)
        if partner is not None:
            extra.remove(partner)
        yield Difference("anchors", anchor.source, _value(partner), _value(anchor))
    for anchor in extra:
        yield Difference("anchors", anchor.source, _value(anchor), None)


def _env_differences(
    sidecar: MaterializationManifest, env: MaterializationEnv
) -> Iterator[Difference]:
    """Yield what differs in the environment: exactly, if a likely one has the recorded hash."""
    recorded = next(
        (
            likely
            for likely in _likely(env, sidecar.engine_version)
            if definition_hash(sidecar.descriptor, likely) == sidecar.definition_hash
        ),
        None,
    )
    if recorded is not None:
        yield from _differences("env", plain(recorded.to_dict()), plain(env.to_dict()))
        return
    if sidecar.engine_version != env.engine_version:
        yield Difference("env", "engine_version", sidecar.engine_version, env.engine_version)
    rest = {name: value for name, value in env.to_dict().items() if name != "engine_version"}
    yield Difference("env", "device or models", None, plain(rest))


def _differences(
    part: str, recorded: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> Iterator[Difference]:
    """Yield the members in which two JSON objects differ, those of inner objects one by one."""
    for name in dict.fromkeys((*recorded, *wanted)):
        old, new, field = recorded.get(name), wanted.get(name), f"{prefix}{name}"
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(part, old, new, f"{field}.")
        elif (name in recorded, old) != (name in wanted, new):
            yield Difference(part, field, old, new)


def _likely(env: MaterializationEnv, engine_version: str) -> Iterator[MaterializationEnv]:
    """Yield the environments that a recorded hash may stand for: cheap to try, seldom wrong."""
    numbered = [make(n) for n in range(_ORDINALS) for make in (Device.cuda, Device.metal)]
    devices = [env.device, Device.cpu(), *numbered]
    bare = tuple(dataclasses.replace(model, compute_precision=None) for model in env.models)
    models = [env.models, bare, env.models[::-1], ()]
    for chosen, device in product(models, devices):
        yield MaterializationEnv(
            engine_version=engine_version, device=device, models=chosen, extra=env.extra
        )


def _candidates(
    reads: Reads, descriptor: Descriptor, anchors: Iterable[InputAnchor]
) -> Iterator[ResultTableRecord]:
    """Yield the ready results over the same sources, newest first."""
    fields = descriptor.to_dict()
    named = [fields[name] for name in _SOURCE_FIELDS if isinstance(fields.get(name), str)]
    sources = dict.fromkeys(filter(None, (*named, *(anchor.source for anchor in anchors))))
    found: dict[str, ResultTableRecord] = {}
    for source in sources:
        table = reads.get_result_table(source)
        origin = source if table is None else table.source_id
        near = reads.find_result_tables(origin, status="ready", newest_first=True)
        anchored = reads.find_ready_result_tables_anchored_on(source)
        found |= {record.table_name: record for record in (*near, *anchored)}
    if not sources:
        ready = reads.list_result_tables_by_status("ready")
        found = {record.table_name: record for record in ready}
    yield from sorted(
        found.values(), key=lambda record: (record.created_at, record.table_name), reverse=True
    )


def _attested(
    artifacts: Artifacts, records: Iterable[ResultTableRecord]
) -> Iterator[tuple[ResultTableRecord, MaterializationManifest]]:
    for record in islice(records, CANDIDATES):
        try:
            sidecar = artifacts.read_sidecar(record)
        except FormatError:
            continue
        if sidecar is not None:
            yield record, sidecar


def _producer(descriptor: Descriptor) -> tuple[str, str | None]:
    named = descriptor.producer_id if isinstance(descriptor, External) else None
    return descriptor.producer, named


def _equal(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> int:
    return sum(name in recorded and recorded[name] == value for name, value in wanted.items())


def _shared(recorded: Sequence[InputAnchor], wanted: Sequence[InputAnchor]) -> int:
    return (Counter(recorded) & Counter(wanted)).total()


def _value(anchor: InputAnchor | None) -> str | None:
    return None if anchor is None else f"{anchor.kind}:{anchor.anchor}"
