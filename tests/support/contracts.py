"""Descriptors as the engine stores them, and its hash written down a second time.

Nothing here calls the code under test: the JSON is spelled out key by key, in stored order.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

FIXTURES = Path(__file__).parent.parent / "data" / "jammi-0.32" / "jammi_db"
SIDECARS = sorted(FIXTURES.glob("*.materialization.json"))

GRAPH_EDGES = {"edge_source": "neighbor_graph", "table_name": "docs__graph"}
REGISTERED_EDGES = {
    "edge_source": "registered",
    "source_id": "cites",
    "src_column": "from",
    "dst_column": "to",
    "type_column": None,
    "weight_column": "w",
    "as_of_column": None,
}
GATHER = {
    "edge_source": REGISTERED_EDGES,
    "hops": 1,
    "fanout": None,
    "direction": "out",
    "edge_types": ["cites", "quotes"],
    "min_weight_bits": 4602678819172646912,
    "as_of": "2026-01-01",
}
ANN = {"candidate": "ann", "k": 5}
EDGES = {"candidate": "edges", "gather": GATHER}
HYBRID = {"candidate": "hybrid", "ann_k": 5, "gather": GATHER, "merge": "union"}

DESCRIPTORS = {
    "inference": {
        "producer": "inference",
        "model_id": "bert",
        "task": "classification",
        "source_id": "docs",
        "content_columns": ["title", "body"],
        "key_column": "doc_id",
    },
    "embedding": {
        "producer": "embedding",
        "model_id": "minilm",
        "task": "text_embedding",
        "source_id": "docs",
        "columns": ["title", "body"],
        "key_column": "doc_id",
        "dimensions": 384,
    },
    "neighbor_graph": {
        "producer": "neighbor_graph",
        "source_table": "docs__emb",
        "k": 3,
        "min_similarity_bits": 1048576000,
        "mutual": False,
        "self_exclude": True,
        "exact": False,
        "exact_max_rows": 50000,
    },
    "graph_propagation": {
        "producer": "graph_propagation",
        "source_table": "docs__emb",
        "edge_source": REGISTERED_EDGES,
        "kernel_id": "graph_propagate",
        "direction": "out",
        "hops": 2,
        "alpha_bits": 4591870180066957722,
        "weighting": "degree_normalized",
        "output": "final",
        "dimensions": 384,
    },
    "context_set": {
        "producer": "context_set",
        "encoder_id": "jammi:context-set",
        "source_id": "patents",
        "embedding_table": "patents__emb",
        "candidate_source": HYBRID,
        "value_columns": ["label", "score"],
        "aggregator": "mean",
        "exclude_self": True,
        "split": "split = 'train'",
        "dimensions": 32,
    },
    "asof_join": {
        "producer": "asof_join",
        "spine": "spine",
        "facts": "facts",
        "spine_by": ["acct", "region"],
        "facts_by": ["acct", "region"],
        "spine_time": "ts",
        "facts_time": "at",
        "direction": "backward",
        "boundary": "inclusive",
        "tolerance": {"duration": 7200000000},
        "tie_break_column": "seq",
        "project": ["px", "qty"],
    },
    "external": {
        "producer": "external",
        "producer_id": "my-pipeline",
        "params": {"alpha": "1", "beta": ""},
    },
}

ENV = {"engine_version": "0.32.0", "device": "cpu", "models": []}

GOLDEN_ASOF = {
    "producer": "asof_join",
    "spine": "spine",
    "facts": "facts",
    "spine_by": ["acct"],
    "facts_by": ["acct"],
    "spine_time": "ts",
    "facts_time": "ts",
    "direction": "backward",
    "boundary": "inclusive",
    "tolerance": None,
    "tie_break_column": None,
    "project": [],
}
GOLDEN_HASHES = {
    "backward": "052f96ca9530ca9d85ab8b14ac31f805c709fc98a62d02cc5e3ad29587fb80ef",
    "forward": "88e28e4373482bc278e78e7d84d86819e9b0ecf82ce46489e492b21322d86d2b",
    "nearest": "f5c049e518bf44f8b8f8042a3953ed796b8fccb226f02a11989a810442ae2b52",
}


def canonical(value) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def engine_hash(descriptor, env) -> str:
    parts = b"jammi.materialization.definition.v1"
    for name, value in (("descriptor", descriptor), ("env", env)):
        text = canonical(value)
        parts += b"\0" + name.encode() + b"\0" + len(text).to_bytes(8, "little") + text
    return hashlib.sha256(parts).hexdigest()


def pretty(value) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def leaves(value, path=()):
    """Yield the path of every scalar and every list below ``value``, tags included."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path


def changed(value, path, new):
    """Copy ``value`` with ``new`` at ``path``."""
    key, *rest = path
    return {**value, key: changed(value[key], rest, new) if rest else new}


def at(value, path):
    for key in path:
        value = value[key]
    return value
