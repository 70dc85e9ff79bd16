"""An Arrow and Parquet native file catalog for materialised ML results.

A directory is the whole system: `connect` opens one. FORMAT.md, beside this file, is the contract.

A name's module is imported when the name is first asked for: what only opens a catalog does not
wait for lineage, recomputation and copies. Type checkers read `__init__.pyi`.
"""

from importlib import import_module

_HOMES = {
    "cache": "CacheOutcome CachePolicy Obtained",
    "catalog": "Catalog",
    "copy_crew": "CopyProgress",
    "copy_root": "CopyReport CopyTrouble copy",
    "descriptor_parts": (
        "AnnCandidates AsofTolerance EdgeCandidates EdgeGather HybridCandidates "
        "NeighborGraphEdges RegisteredEdges"
    ),
    "descriptors": (
        "AsofJoin ContextSet Embedding External GraphPropagation Inference NeighborGraph"
    ),
    "drawing": "Lineage",
    "errors": (
        "AlreadyExistsError CommitUnknownError ConflictError DependencyCycleError FormatError "
        "InvalidInputError JammiFilesError MissingPackageError NotFoundError "
        "NotRecomputableError ReferencedError StateError StorageError TableNotFoundError "
        "UnsupportedVersionError VersionNotFoundError"
    ),
    "explain": "Difference MissExplanation StaleExplanation",
    "file_versions": "dataset_version directory_version file_version",
    "fingerprints": "object_version source_anchor source_version source_versions unpinned_anchor",
    "funnel": "ResultTableInfo",
    "garbage": "VacuumAction VacuumKind",
    "history": "CommitInfo",
    "hooks": "CommitEvent FailedEvent Hooks ReadyEvent",
    "lineage": "LineageEdge",
    "materialization": (
        "BadSignature Device Match MatchWithUnpinnedInputs MaterializationEnv "
        "MaterializationManifest Mismatch MissingArtifact MissingManifest ModelIdentity Unsigned "
        "artifact_digest definition_hash"
    ),
    "offline": "verify_files",
    "reads": "CatalogSnapshot",
    "reasons": (
        "AncestorStale CurrentAnchor DefinitionChanged Fresh InputAdvanced InputSuperseded "
        "InputVanished NotReady OpenInput Stale Unattested Undecidable"
    ),
    "recompute_job": "RecomputeContext RecomputeParent",
    "recompute_plan": (
        "Cascade Obstacle ParentRecomputed ParentReplaced PlannedParent RecomputePlan "
        "RecomputeStep Requested Unplannable"
    ),
    "recompute_report": "RecomputeOutcome RecomputeProgress RecomputeReport RecomputeResult",
    "recovery": "RecoveryAction RecoveryReport RecoveryStep",
    "repairs": "RepairAction RepairReport RepairStep repair",
    "schema": (
        "AnchorKind InputAnchor ModelTask ResultTableKind ResultTableRecord ResultTableStatus "
        "records_table"
    ),
    "scope": "TenantId",
    "search": "Searcher",
    "store": "ResultStore Verification connect",
    "table_versions": "delta_version git_version iceberg_version",
    "vacuum": "VacuumReport",
}
"""The names of each module that are public."""

_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME)  # noqa: PLE0605 - a list, and told to type checkers elsewhere


def __getattr__(name: str) -> object:
    home = f"{__name__}.{_HOME.get(name, name)}"
    try:
        module = import_module(home)
    except ModuleNotFoundError as error:
        if error.name != home:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    if name not in _HOME:
        return module
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
