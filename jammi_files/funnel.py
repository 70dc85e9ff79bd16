"""The one way from ``building`` to ``ready``: create, write, attest, promote.

The order is fixed (`B080`): the row, the data object durable, its sidecar, then one commit that
makes the row ready together with its contract. Whatever a crash cuts off, `recovery` ends in one
terminal state (FORMAT sections "Publish" and "Recovery").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from jammi_files import attesting, embeddings, lease, naming, removal
from jammi_files.artifacts import NOBODY, Artifact, Artifacts
from jammi_files.build import Build, Steps
from jammi_files.catalog import Catalog
from jammi_files.descriptors import Descriptor
from jammi_files.errors import (
    InvalidInputError,
    StateError,
    TableNotFoundError,
)
from jammi_files.materialization import (
    MaterializationEnv,
    MaterializationManifest,
    definition_hash,
)
from jammi_files.schema import (
    InputAnchor,
    ModelTask,
    ResultTableKind,
    ResultTableRecord,
    ResultTableStatus,
    require_anchors,
)
from jammi_files.signing import Signing
from jammi_files.storage import Storage
from jammi_files.timestamps import CLOCK, format_rfc3339
from jammi_files.validation import require_count
from jammi_files.writer import ResultWriter


@dataclasses.dataclass(frozen=True, slots=True)
class ResultTableInfo:
    """A table that was just created; paths are where any program finds them (`B063`)."""

    table_name: str
    parquet_path: str
    index_path: str | None = None


class Funnel:
    """The producing half of `ResultStore`."""

    def __init__(self, catalog: Catalog, signing: Signing = NOBODY) -> None:
        self.catalog, self.signing = catalog, signing
        self._artifacts = Artifacts(catalog.storage, signing)
        self._written: dict[str, tuple[str, Artifact]] = {}  # by table, with the row's created_at

    @property
    def storage(self) -> Storage:
        """The bytes under the root."""
        return self.catalog.storage

    def create_table(  # noqa: PLR0913 - one keyword per column
        self,
        source_id: str,
        task: ModelTask | str,
        kind: ResultTableKind | str,
        model_id: str,
        *,
        derived_from: str | None = None,
        dimensions: int | None = None,
        key_column: str | None = None,
        text_columns: Sequence[str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> ResultTableInfo:
        """Insert a ``building`` row under a fresh name; nothing exists in storage yet (`B063`).

        A derivation without ``key_column`` takes its parent's (`B034`).

        Raises:
            InvalidInputError: an argument is wrong.
            TableNotFoundError: ``derived_from`` names no visible row.
        """
        row = self._new_row(
            source_id,
            task,
            kind,
            model_id,
            derived_from=derived_from,
            dimensions=dimensions,
            key_column=key_column,
            text_columns=text_columns,
            properties=properties,
        )
        return self._info(self.catalog.create_result_table(**row))

    def open_writer(
        self, info: ResultTableInfo | str, schema: pa.Schema, *, compression: str = "zstd"
    ) -> ResultWriter:
        """Return a writer of the table's data object, which appears whole when it is closed.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the row is not ``building``.
        """
        name: Any = info if isinstance(info, str) else getattr(info, "table_name", info)
        record = self._own_build(name)
        return ResultWriter(
            self.storage.writer(record.parquet_path),
            schema,
            compression=compression,
            record=record,
            renew=lambda: self.catalog.renew_lease(name),
            closed=lambda artifact: self._written.update({name: (record.created_at, artifact)}),
        )

    def finalize_with_manifest(
        self,
        table_name: str,
        row_count: int,
        descriptor: Descriptor,
        env: MaterializationEnv,
        inputs: Sequence[InputAnchor],
    ) -> MaterializationManifest:
        """Attest the written data and make the row ready; return the sidecar (`B076` to `B091`).

        Data that this store's own writer wrote is not read again; other data is digested here. A
        second call after a crash between sidecar and commit finishes what the first began.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the row is not ``building``, or is another build's by now, or there is no
                data object.
            InvalidInputError: ``row_count`` differs from the data's.
            AlreadyExistsError: a sidecar that says something else exists (`B090`).

        A store that signs writes the signature first: no row is ready, and no sidecar there, before
        it. What its ``sign=`` raises fails the call, and nothing has become ready.
        """
        count, anchors = require_count("row_count", row_count), require_anchors(inputs)
        record = self._own_build(table_name)
        artifact = self._find_written(record) or self._artifacts.measure(record)
        if artifact.rows != count:
            raise InvalidInputError(
                f"row_count is {count}, but the data of '{table_name}' has {artifact.rows} rows"
            )
        manifest = MaterializationManifest.attest(
            descriptor,
            env,
            anchors,
            artifact=artifact.digest,
            produced_at=format_rfc3339(CLOCK.now()),
        )
        manifest = attesting.put(self._artifacts, record, manifest)
        self.catalog.promote_result_table_with_manifest(
            table_name,
            count,
            manifest.definition_hash,
            manifest.input_anchors,
            artifact_digest=manifest.artifact,
            descriptor_digest=manifest.descriptor_digest,
            build=record,
        )
        self._written.pop(table_name, None)
        return manifest

    def build(  # noqa: PLR0913 - one keyword per column and part of the contract
        self,
        source_id: str,
        task: ModelTask | str,
        kind: ResultTableKind | str,
        model_id: str,
        *,
        descriptor: Descriptor,
        env: MaterializationEnv,
        inputs: Sequence[InputAnchor],
        schema: pa.Schema | None = None,
        derived_from: str | None = None,
        dimensions: int | None = None,
        key_column: str | None = None,
        text_columns: Sequence[str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Build[ResultTableInfo]:
        """Return ``with store.build(...) as out: out.write(batch)``: the whole funnel (`B089`).

        Leaving the block makes the result ready; ``out.table_name`` and ``out.manifest`` say what
        it became. An exception marks the row failed with its text and removes the bytes. Without
        ``schema`` the first batch gives it.
        """
        require_anchors(inputs)
        definition_hash(descriptor, env)  # refuses what is no descriptor before the work begins

        def create() -> ResultTableInfo:
            return self.create_table(
                source_id,
                task,
                kind,
                model_id,
                derived_from=derived_from,
                dimensions=dimensions,
                key_column=key_column,
                text_columns=text_columns,
                properties=properties,
            )

        return Build(self._steps(create, descriptor, env, inputs), schema)

    def materialize_embedding_table(  # noqa: PLR0913 - one keyword per column and contract part
        self,
        source_id: str,
        model_id: str,
        row_ids: embeddings.Column,
        vectors: embeddings.Column,
        *,
        descriptor: Descriptor,
        env: MaterializationEnv,
        inputs: Sequence[InputAnchor],
        dimensions: int,
        task: ModelTask | str = ModelTask.TEXT_EMBEDDING,
        derived_from: str | None = None,
        key_column: str | None = None,
        text_columns: Sequence[str] | None = None,
    ) -> str:
        """Write vectors as an embedding table through the funnel; return its name (`B087`).

        Raises:
            InvalidInputError: a row has no id, no vector or another width; it names the row.
        """
        table = embeddings.embedding_table(
            source_id, model_id, row_ids, vectors, dimensions=dimensions
        )
        with self.build(
            source_id,
            task,
            ResultTableKind.MODEL,
            model_id,
            descriptor=descriptor,
            env=env,
            inputs=inputs,
            schema=table.schema,
            derived_from=derived_from,
            dimensions=dimensions,
            key_column=key_column,
            text_columns=text_columns,
        ) as out:
            out.write(table)
        return out.table_name

    def materialize_computed_embedding_table(  # noqa: PLR0913 - as above
        self,
        source_id: str,
        model_id: str,
        row_ids: embeddings.Column,
        vectors: embeddings.Column,
        *,
        producer_id: str,
        params: Mapping[str, str],
        env: MaterializationEnv,
        inputs: Sequence[InputAnchor],
        dimensions: int,
        task: ModelTask | str = ModelTask.TEXT_EMBEDDING,
        key_column: str | None = None,
    ) -> str:
        """Register vectors that the caller computed, at unit length; return the name (`B213`).

        The digest of the rows becomes part of the `External` descriptor, so that other vectors
        never pass for the same result.

        Raises:
            InvalidInputError: as above; a zero or non-finite norm; a reserved key in ``params``.
        """
        table, descriptor = embeddings.computed_embedding_table(
            source_id,
            model_id,
            row_ids,
            vectors,
            dimensions=dimensions,
            producer_id=producer_id,
            params=params,
        )
        with self.build(
            source_id,
            task,
            ResultTableKind.MODEL,
            model_id,
            descriptor=descriptor,
            env=env,
            inputs=inputs,
            schema=table.schema,
            dimensions=dimensions,
            key_column=key_column,
        ) as out:
            out.write(table)
        return out.table_name

    def _new_row(  # noqa: PLR0913 - one keyword per column
        self,
        source_id: str,
        task: ModelTask | str,
        kind: ResultTableKind | str,
        model_id: str,
        *,
        derived_from: str | None,
        dimensions: int | None,
        key_column: str | None,
        text_columns: Sequence[str] | None,
        properties: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        """Return the arguments of `create_result_table` for a table under a fresh name."""
        parsed_task, parsed_kind = ModelTask.parse(task), ResultTableKind.parse(kind)
        name = naming.new_table_name(source_id, parsed_task, model_id)
        indexed = parsed_task.is_embedding and parsed_kind is ResultTableKind.MODEL
        if key_column is None and derived_from is not None:
            parent = self.catalog.get_result_table(derived_from)
            key_column = None if parent is None else parent.key_column
        return {
            "table_name": name,
            "source_id": source_id,
            "model_id": model_id,
            "task": parsed_task,
            "kind": parsed_kind,
            "parquet_path": name + naming.DATA_SUFFIX,
            "index_path": name + naming.INDEX_SUFFIX if indexed else None,
            "derived_from": derived_from,
            "dimensions": dimensions,
            "key_column": key_column,
            "text_columns": text_columns,
            "properties": properties,
        }

    def _info(self, record: ResultTableRecord) -> ResultTableInfo:
        index = None if record.index_path is None else self.storage.url(record.index_path)
        return ResultTableInfo(record.table_name, self.storage.url(record.parquet_path), index)

    def _steps(
        self,
        create: Callable[[], ResultTableInfo],
        descriptor: Descriptor,
        env: MaterializationEnv,
        inputs: Sequence[InputAnchor],
    ) -> Steps[ResultTableInfo]:
        return Steps(
            create=create,
            open_writer=self.open_writer,
            finalize=lambda name, rows: self.finalize_with_manifest(
                name, rows, descriptor, env, inputs
            ),
            abandon=self._abandon,
            checkpoint=self.catalog.set_checkpoint,
        )

    def _record(self, table_name: str) -> ResultTableRecord:
        record = self.catalog.get_result_table(table_name)
        if record is None:
            raise TableNotFoundError.named(table_name)
        return record

    def _own_build(self, table_name: str) -> ResultTableRecord:
        """Return a ``building`` row as last seen if this process builds it: promote checks it."""
        known = self.catalog.last_seen().get_result_table(table_name)
        if known is None or not lease.is_mine(known.lease):
            return self._building(table_name)
        return known

    def _find_written(self, record: ResultTableRecord) -> Artifact | None:
        """Return what this store's own writer wrote for this very build, if it is still there."""
        created_at, artifact = self._written.get(record.table_name, ("", None))
        if artifact is None or created_at != record.created_at:
            return None
        return artifact if self._artifacts.still_holds(record, artifact) else None

    def _building(self, table_name: str) -> ResultTableRecord:
        record = self._record(table_name)
        if record.status is not ResultTableStatus.BUILDING:
            raise StateError(f"Result table '{table_name}' is {record.status}, not building")
        return record

    def _abandon(self, table_name: str, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        self._written.pop(table_name, None)
        if self.catalog.get_result_table(table_name) is None:  # deleted meanwhile
            removal.remove(self.catalog, self._artifacts, [table_name + naming.DATA_SUFFIX])
        # Only a row that is still building: a promote that was cut off may have been committed.
        record = self._building(table_name)
        if not lease.is_mine(record.lease):
            raise StateError(f"Result table '{table_name}' is another process's build by now")
        record = self.catalog.fail_unchanged(record, text)
        removal.remove(self.catalog, self._artifacts, [record.parquet_path], ended=[record])
