"""An Arrow and Parquet native file catalog for materialised ML results.

A directory is the whole system: `connect` opens one. FORMAT.md, beside this file, is the contract.
"""

from jammi_files.catalog import Catalog, CommitInfo
from jammi_files.descriptor_parts import (
    AnnCandidates,
    AsofTolerance,
    EdgeCandidates,
    EdgeGather,
    HybridCandidates,
    NeighborGraphEdges,
    RegisteredEdges,
)
from jammi_files.descriptors import (
    AsofJoin,
    ContextSet,
    Embedding,
    External,
    GraphPropagation,
    Inference,
    NeighborGraph,
)
from jammi_files.drawing import Lineage
from jammi_files.errors import (
    AlreadyExistsError,
    CommitUnknownError,
    ConflictError,
    DependencyCycleError,
    FormatError,
    InvalidInputError,
    JammiFilesError,
    NotFoundError,
    NotRecomputableError,
    ReferencedError,
    StateError,
    StorageError,
    TableNotFoundError,
    UnsupportedVersionError,
    VersionNotFoundError,
)
from jammi_files.funnel import ResultTableInfo
from jammi_files.lineage import LineageEdge
from jammi_files.materialization import (
    Device,
    Match,
    MatchWithUnpinnedInputs,
    MaterializationEnv,
    MaterializationManifest,
    Mismatch,
    MissingArtifact,
    MissingManifest,
    ModelIdentity,
    artifact_digest,
    definition_hash,
)
from jammi_files.reads import CatalogSnapshot
from jammi_files.recovery import RecoveryAction, RecoveryReport, RecoveryStep
from jammi_files.schema import (
    AnchorKind,
    InputAnchor,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
)
from jammi_files.scope import TenantId
from jammi_files.store import ResultStore, Verification, connect

__all__ = [
    "AlreadyExistsError",
    "AnchorKind",
    "AnnCandidates",
    "AsofJoin",
    "AsofTolerance",
    "Catalog",
    "CatalogSnapshot",
    "CommitInfo",
    "CommitUnknownError",
    "ConflictError",
    "ContextSet",
    "DependencyCycleError",
    "Device",
    "EdgeCandidates",
    "EdgeGather",
    "Embedding",
    "External",
    "FormatError",
    "GraphPropagation",
    "HybridCandidates",
    "Inference",
    "InputAnchor",
    "InvalidInputError",
    "JammiFilesError",
    "Lineage",
    "LineageEdge",
    "Match",
    "MatchWithUnpinnedInputs",
    "MaterializationEnv",
    "MaterializationManifest",
    "Mismatch",
    "MissingArtifact",
    "MissingManifest",
    "ModelIdentity",
    "ModelTask",
    "NeighborGraph",
    "NeighborGraphEdges",
    "NotFoundError",
    "NotRecomputableError",
    "RecoveryAction",
    "RecoveryReport",
    "RecoveryStep",
    "ReferencedError",
    "RegisteredEdges",
    "ResultStore",
    "ResultTableInfo",
    "ResultTableKind",
    "ResultTableRecord",
    "ResultTableStatus",
    "StateError",
    "StorageError",
    "TableNotFoundError",
    "TenantId",
    "UnsupportedVersionError",
    "Verification",
    "VersionNotFoundError",
    "artifact_digest",
    "connect",
    "definition_hash",
]
