"""The asking half of `ResultStore`: what can be read and reused, what still holds, and why not.

Nothing here writes or computes. Each call looks at one version of the catalog.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from jammi_files import cache, explain, freshness, sql, sweep
from jammi_files.cache import Verify
from jammi_files.descriptors import Descriptor
from jammi_files.disk import CheckBytes
from jammi_files.errors import InvalidInputError, StateError
from jammi_files.evidence import Resolvers
from jammi_files.explain import MissExplanation, StaleExplanation
from jammi_files.funnel import Funnel
from jammi_files.materialization import MaterializationEnv, definition_hash
from jammi_files.parts import Progress
from jammi_files.reasons import Staleness
from jammi_files.schema import InputAnchor, ResultTableRecord
from jammi_files.search import VECTOR, Searcher, Vector

if TYPE_CHECKING:
    import pyarrow.dataset as ds

_WEEK = 7 * 24 * 3600
"""How long S3 and Google Cloud Storage let a signature hold."""


class Answers(Funnel):
    """Data, cache lookups, freshness and explanations."""

    def lookup_cached(self, definition_hash: str, inputs: Sequence[InputAnchor]) -> str | None:
        """Return the newest ready table of this definition over these inputs (`B112` to `B117`).

        Inputs are compared as a multiset; an unpinned one is always a miss. Only the catalog is
        asked, so the table's data may be gone (`B120`); own and GLOBAL tables count (`B121`).
        """
        return cache.lookup(self.catalog, definition_hash, inputs)

    def probe_cache(
        self,
        definition_hash: str,
        inputs: Sequence[InputAnchor],
        *,
        verify: Verify | None = None,
    ) -> ResultTableRecord | None:
        """Return the newest exact match whose data can be read (`B118`, `B119`, `B126`).

        A match whose data is gone is passed over for the next newest; with ``verify="size"`` also
        one that was truncated or appended to, with ``"digest"`` one that differs from what its
        sidecar attests in any byte. A hit on a warm handle costs two stats: of the next version and
        of the data.

        Raises:
            InvalidInputError: another ``verify``.
        """
        return cache.probe(self.catalog, self._artifacts, definition_hash, inputs, verify)

    def staleness(
        self,
        table_name: str,
        current_definition: str | None = None,
        *,
        resolvers: Resolvers | None = None,
        check_bytes: CheckBytes = True,
    ) -> Staleness:
        """Say whether a table still holds, and if not why (`B232` to `B245`).

        Reasons come in this order: the table itself, its definition against
        ``current_definition`` (None compares inputs only and says so), its inputs in anchor order,
        then its ancestors, nearest first, each with the path to it. An input or ancestor that
        nobody can look at makes the answer `Undecidable`, never `Fresh`, unless ``resolvers``
        decides it: by anchor kind, a function from the source to its present version, or for
        ``unpinned_at_instant`` to the instant of its last change. None from it means that it cannot
        tell; `NotFoundError` or `FileNotFoundError`, that the source is gone.

        ``check_bytes`` says how far the data of the ancestors is looked at, each once: with False
        their ready rows are trusted; with ``"exists"`` the data must be there (one stat); with True
        its sidecar must also attest what was read (one read more); with ``"size"`` it must also
        end as a whole file of as many rows; with ``"digest"`` all of it is read.

        Raises:
            TableNotFoundError: no visible row has the name (`B240`).
            DependencyCycleError: the table is its own ancestor, or an ancestor is.
            InvalidInputError: another ``check_bytes``, a resolver for an unknown kind, or one that
                returned no version.
        """
        return freshness.staleness(
            self.catalog.snapshot(),
            self._artifacts,
            table_name,
            current_definition,
            resolvers=resolvers,
            check_bytes=check_bytes,
        )

    def staleness_all(
        self,
        *,
        resolvers: Resolvers | None = None,
        check_bytes: CheckBytes = "exists",
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> pa.Table:
        """Judge the inputs of every visible ready table in one pass, oldest first.

        Columns: ``table_name``, ``staleness`` (as in `staleness`, definitions not compared),
        ``reasons`` (``reason``, ``source``, ``recorded``, ``current``, ``newer``, ``ancestor``),
        ``unpinned``, ``explanation``. What an input passes on is one reason ``ancestor_stale`` with
        the input as ``source`` and as ``ancestor`` the result that has the cause. Storage is asked
        as `staleness` says, once per distinct parent and per result that would replace one, never
        per table; in a bucket one listing of the root answers whether many are there. ``executor``,
        any `concurrent.futures.Executor`, of a cluster too, looks at the parents at once;
        `jammi_files.parts` says what is done again when it loses a worker. ``progress`` is called
        with the number of parents looked at and the total.

        Raises:
            DependencyCycleError: a table is its own ancestor.
            InvalidInputError: as `staleness`; or ``executor`` is not an executor.
        """
        return sweep.staleness_all(
            self.catalog.snapshot(),
            self._artifacts,
            resolvers=resolvers,
            check_bytes=check_bytes,
            executor=executor,
            progress=progress,
        )

    def explain(
        self,
        table_name: str,
        current_definition: str | None = None,
        *,
        resolvers: Resolvers | None = None,
        check_bytes: CheckBytes = True,
    ) -> StaleExplanation:
        """Say in words why a table holds or not: `explain_stale` for a name."""
        verdict = self.staleness(
            table_name, current_definition, resolvers=resolvers, check_bytes=check_bytes
        )
        return StaleExplanation(table_name, verdict)

    def explain_stale(
        self,
        table_name: str,
        descriptor: Descriptor | None = None,
        env: MaterializationEnv | None = None,
        *,
        resolvers: Resolvers | None = None,
        check_bytes: CheckBytes = True,
    ) -> StaleExplanation:
        """Say why a table holds or not, and which fields of its definition changed.

        Give the descriptor and environment with which it would be produced now, or neither.

        Raises:
            InvalidInputError: one of them without the other.
            FormatError: the table's sidecar is damaged; and as `staleness`.
        """
        if (descriptor is None) != (env is None):
            raise InvalidInputError("give descriptor and env, or neither")
        if descriptor is None or env is None:
            return self.explain(table_name, resolvers=resolvers, check_bytes=check_bytes)
        current = definition_hash(descriptor, env)
        told = self.explain(table_name, current, resolvers=resolvers, check_bytes=check_bytes)
        sidecar = self._artifacts.read_sidecar(self._record(table_name))
        if sidecar is None:
            return told
        differences = tuple(explain.definition_differences(sidecar, descriptor, env))
        return StaleExplanation(table_name, told.staleness, differences)

    def explain_miss(
        self, descriptor: Descriptor, env: MaterializationEnv, inputs: Sequence[InputAnchor]
    ) -> MissExplanation:
        """Say why nothing can be reused: what the nearest table has differently, field by field.

        Raises:
            InvalidInputError: as `definition_hash`.
        """
        return explain.explain_miss(
            self.catalog.snapshot(), self._artifacts, descriptor, env, inputs
        )

    def result_digest_anchor(self, table_name: str) -> InputAnchor:
        """Return the anchor that pins a table as an input (`B215`).

        It takes the digest that the table's sidecar records, else that of its bytes.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the table has neither sidecar nor data.
        """
        record = self._record(table_name)
        manifest = self._artifacts.read_sidecar(record)
        digest = self._artifacts.digest(record) if manifest is None else manifest.artifact
        if digest is None:
            raise StateError(f"Result table '{table_name}' has neither sidecar nor data")
        return InputAnchor.result_digest(table_name, digest)

    def open_table(self, table_name: str) -> ds.Dataset:
        """Return a ready table's data as a `pyarrow.dataset.Dataset` (`B174`).

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the table is not ready, or its data is gone.
            FormatError: its data is damaged.
        """
        return self._artifacts.dataset(self._ready(table_name))

    def search(  # noqa: PLR0913 - what is looked for, and in what
        self,
        table_name: str,
        query: Vector,
        k: int = 10,
        *,
        exact: bool = True,
        filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's own word for it
        columns: Sequence[str] = (),
        key_column: str | None = None,
        vector_column: str = VECTOR,
    ) -> pa.Table:
        """Return the ``k`` rows of an embedding table whose vectors are nearest to ``query``.

        Columns: the key, ``similarity`` (float32, the cosine, from -1 to 1), then ``columns`` of
        the table. The nearest come first, equal ones by key. The key is ``_row_id``, else the
        table's ``key_column``, else the one given. ``query`` is a sequence of numbers, a NumPy or
        an Arrow array; its length does not matter. ``filter`` leaves rows out before they are
        ranked. A zero vector in the table has similarity 0, as in jammi-db.

        All vectors are compared, streamed in batches. With ``exact`` False the index that jammi-db
        wrote beside the table is asked, where there is one and no filter: it may miss a row, but
        the similarity and order of those it finds are the same.

        Raises:
            MissingPackageError: NumPy (or for an index usearch) is not installed;
                ``jammi_files[search]`` brings both.
            TableNotFoundError: no visible row has the name.
            StateError: the table is not ready, its data is gone, its metric is not cosine, or a
                vector is null or not finite: the message names the row.
            InvalidInputError: the query is zero, not finite, of another width, or no vector; or a
                column is not there or cannot be used as asked.
            FormatError: data or index is damaged.
        """
        searcher = self.searcher(table_name, key_column=key_column, vector_column=vector_column)
        return searcher.search(query, k, exact=exact, filter=filter, columns=columns)

    def searcher(
        self, table_name: str, *, key_column: str | None = None, vector_column: str = VECTOR
    ) -> Searcher:
        """Open an embedding table, and its index if asked for one, once for many searches.

        ``searcher.search(query, k)`` takes and raises what `search` does for one table.
        """
        return Searcher(
            self._artifacts,
            self._ready(table_name),
            key_column=key_column,
            vector_column=vector_column,
        )

    def sql(self, statement: str, parameters: sql.Parameters | None = None) -> pa.Table:
        """Run one SQL statement that reads, with DuckDB, and return its rows.

        It sees one version of the catalog: the rows of `scan` as ``catalog``, and each visible
        ready result by its name, of whose data it reads the columns and row groups that it needs.
        Only what it names is opened. A result named ``catalog`` is not reachable, and a name of
        DuckDB's own, such as ``pg_class``, is that one. No other file is reachable. ``parameters``
        stand for ``?`` or ``$1`` as a sequence, for ``$name`` as a mapping.

        Raises:
            MissingPackageError: DuckDB is not installed; ``jammi_files[duckdb]`` brings it.
            TableNotFoundError: the statement names no visible result.
            StateError: it names one that is not ready, or whose data is gone.
            InvalidInputError: it is not one statement that reads, names a file, or DuckDB refuses
                it, or its parameters, or a value that it meets.
            FormatError: the data of a result is damaged where it begins or ends.
            StorageError: it cannot be read.
        """
        return sql.query(self.catalog.snapshot(), self._artifacts.dataset, statement, parameters)

    def sign(self, table_name: str, *, expires: int = 3600) -> str:
        """Return a URL with which anybody can read a ready table's data for ``expires`` seconds.

        The URL carries a signature of this handle's credentials and no tenant: whoever has it can
        read that one object. The store is not asked.

        Raises:
            TableNotFoundError: no visible row has the name.
            StateError: the table is not ready.
            InvalidInputError: ``expires`` is no whole number of seconds from 1 to 7 days.
            StorageError: the data is in no bucket, or the credentials cannot sign.
        """
        if isinstance(expires, bool) or not isinstance(expires, int) or not 0 < expires <= _WEEK:
            raise InvalidInputError(f"expires must be from 1 to {_WEEK} seconds, not {expires!r}")
        storage, key = self._artifacts.locate(self._ready(table_name).parquet_path)
        return storage.sign(key, expires)

    def _ready(self, table_name: str) -> ResultTableRecord:
        record = self._record(table_name)
        if not record.is_ready:
            raise StateError(f"Result table '{table_name}' is {record.status}, not ready")
        return record
