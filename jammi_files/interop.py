"""Move results between a store and the artifact directory of a jammi-db engine, both ways.

Bytes are moved as they are: whoever wants them judged calls ``verify_materialization`` after.
Order on both sides: data, sidecar, index files, and last one commit that names them all (`B080`),
so that a crash leaves files that nothing names and the same call, made again, finishes the work.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

from jammi_files.artifacts import BLOCK, Artifacts
from jammi_files.descriptors import External, UnknownDescriptor
from jammi_files.errors import (
    AlreadyExistsError,
    FormatError,
    InvalidInputError,
    JammiFilesError,
    StorageError,
)
from jammi_files.jammi_db import (
    CATALOG,
    DATA_DIRECTORY,
    UNREADABLE,
    JammiResult,
    find_misfit,
    read_jammi_catalog,
    written_catalog,
)
from jammi_files.local import LocalStorage
from jammi_files.naming import DATA_SUFFIX, INDEX_SUFFIX, SIBLINGS, other_stem, sibling
from jammi_files.reads import CatalogSnapshot
from jammi_files.schema import ResultTableRecord, ResultTableStatus, find_damage
from jammi_files.scope import Scope
from jammi_files.storage import Storage
from jammi_files.store import ResultStore
from jammi_files.validation import require_utf8

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class TableFinding:
    """What is wrong, or worth knowing, about one table that was to be moved."""

    table_name: str
    problem: str


@dataclasses.dataclass(frozen=True, slots=True)
class ImportReport:
    """What `import_jammi` did; ``remarks`` are about imported tables, ``skipped`` about others."""

    imported: tuple[str, ...]
    already_present: tuple[str, ...]
    skipped: tuple[TableFinding, ...]
    remarks: tuple[TableFinding, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ExportReport:
    """What `export_jammi` did; ``remarks`` are about exported tables, ``skipped`` about others."""

    exported: tuple[str, ...]
    skipped: tuple[TableFinding, ...]
    remarks: tuple[TableFinding, ...]


class _Skip(Exception):  # noqa: N818 - control flow inside this module, never seen by a caller
    """One table cannot be moved; the text says why."""


class _Occupied(Exception):  # noqa: N818 - likewise
    """An object is where a copy is to be, and somebody may be deleting it."""


def import_jammi(
    directory: str | os.PathLike[str],
    store: ResultStore,
    *,
    mode: Literal["copy", "reference"] = "copy",
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Bring the results of a jammi-db artifact directory into the store, in one commit.

    Rows keep their tenant, times, lineage, hashes and anchors, whatever tenant the store's handle
    is bound to; a tenant is told only of those that it sees. ``copy`` streams each Parquet with its
    sidecar and ANN files into the root; ``reference`` leaves them where they are and records their
    absolute paths. The directory is only read. A table that is already here is left alone, so the
    call may be repeated: after a crash, or for what the engine has written since. Tables that
    cannot be imported are reported; a row whose parent is not here keeps the parent's name, and a
    remark says so. ``progress`` is called with the numbers of results looked at and of all.

    Raises:
        InvalidInputError: an unknown mode, or the directory holds no catalog.db.
        FormatError: the catalog.db is not one of jammi-db.
        StorageError: the catalog.db cannot be read, or the root refused a write.
        ConflictError: vacuum ran meanwhile and may have deleted copies that no row named yet;
            nothing was imported, call again.
    """
    if mode not in ("copy", "reference"):
        msg = f"mode must be 'copy' or 'reference', not {mode!r}"
        raise InvalidInputError(msg)
    present: list[str] = []
    records: list[ResultTableRecord] = []
    skipped: list[TableFinding] = []
    copied: list[str] = []
    known = store.catalog.as_admin().snapshot()  # names are unique over all tenants (`B058`)
    results = read_jammi_catalog(directory)
    for result in _told_of(results, progress):
        try:
            record = _require_sound(result)
            if _is_present(record, known):
                present.append(record.table_name)
            elif mode == "copy":
                records.append(_copy_in(record, result.parquet, store.storage))
                copied += [records[-1].parquet_path] if result.parquet else []
            else:
                records.append(_refer_to(record, result.parquet))
        except (_Skip, FormatError) as reason:
            skipped.append(TableFinding(result.table_name, str(reason)))
    names = store.catalog.adopt_result_tables(records, copied_since=known.version, objects=copied)
    if not names:
        store.catalog.log.settle()  # what is present may be of a process that died over it
    imported = frozenset(names)
    present += [record.table_name for record in records if record.table_name not in imported]
    orphans = _find_orphans(records, imported, store)
    told = _told(results, store.catalog.scope)
    return ImportReport(
        tuple(name for name in names if name in told),
        tuple(name for name in present if name in told),
        tuple(each for each in skipped if each.table_name in told),
        tuple(each for each in orphans if each.table_name in told),
    )


def export_jammi(
    store: ResultStore,
    directory: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write the results that the store's handle sees as an artifact directory of jammi-db 0.32.

    The rows name the files by absolute path, and the engine marks a table ``failed`` whose sidecar
    it does not find there: export to the place where the engine will run, and do not move the
    directory. Sources and models are not known to a store; register them with the engine again.
    Instants are cut to what 0.32 stores: seconds, and milliseconds for ``completed_at``. Rows that
    0.32 cannot hold, building rows and results without their files are skipped and reported.
    ``progress`` is called with the numbers of results written or skipped and of all.

    Raises:
        AlreadyExistsError: the directory holds a catalog.db; nothing was changed.
        InvalidInputError: the directory's path holds ``%``, ``#`` or ``?``, where the engine's SQL
            would silently find no rows, or is no UTF-8, which no row can name.
        StorageError: the directory refused a write; the call may be repeated.
    """
    home = Path(directory).resolve()
    if UNREADABLE & set(str(home)):
        msg = f"jammi-db 0.32 finds no rows under '{home}'; choose a path without '%', '#' and '?'"
        raise InvalidInputError(msg)
    require_utf8("the directory", str(home))
    if (home / CATALOG).exists():
        raise _taken(home)
    artifacts, target = Artifacts(store.storage), LocalStorage(home)
    records: list[ResultTableRecord] = []
    skipped: list[TableFinding] = []
    remarks: list[TableFinding] = []
    for record in _told_of(_list_visible(store), progress):
        try:
            remarks += tuple(_copy_out(record, artifacts, target))
            records.append(record)
        except _Skip as reason:
            skipped.append(TableFinding(record.table_name, str(reason)))
    detached = list(_detach(records, remarks))
    with written_catalog(detached, home / DATA_DIRECTORY) as file:
        if not _write_new(file, target, CATALOG):
            raise _taken(home)
    names = tuple(record.table_name for record in records)
    return ExportReport(names, tuple(skipped), tuple(remarks))


def _told_of(each_of: Collection[_T], progress: Callable[[int, int], None] | None) -> Iterator[_T]:
    """Yield each one and tell, once it is done with, how many are."""
    for number, one in enumerate(each_of, start=1):
        yield one
        if progress is not None:
            progress(number, len(each_of))


def _told(results: Collection[JammiResult], scope: Scope) -> frozenset[str]:
    """Return the names that a report may hold: all of them, or for a tenant what it sees."""
    return frozenset(
        result.table_name
        for result in results
        if scope.is_catalog_wide or scope.sees(result.tenant)
    )


def _require_sound(result: JammiResult) -> ResultTableRecord:
    if result.record is None or result.problems:
        raise _Skip("; ".join(result.problems))
    return result.record


def _is_present(record: ResultTableRecord, known: CatalogSnapshot) -> bool:
    try:
        found = known.get_result_table(record.table_name)
        is_other = found is not None and _identity(found) != _identity(record)
    except FormatError:  # that its row is damaged is for its owner to know
        is_other = True
    if is_other:
        raise _Skip("another table of this name is in the catalog")
    return found is not None


def _identity(record: ResultTableRecord) -> tuple[object, ...]:
    return record.source_id, record.tenant_id, record.definition_hash


def _copy_in(
    record: ResultTableRecord, parquet: Path | None, storage: Storage
) -> ResultTableRecord:
    key = record.table_name + DATA_SUFFIX
    if parquet is not None:
        source = LocalStorage(parquet.parent)
        try:
            _copy_all(source, parquet.name, storage, key)
        except _Occupied:
            key = other_stem(record.table_name) + DATA_SUFFIX
            _copy_all(source, parquet.name, storage, key)
    return _located(record, key)


def _refer_to(record: ResultTableRecord, parquet: Path | None) -> ResultTableRecord:
    place = parquet or Path(record.parquet_path.removeprefix("file://"))
    return _located(record, place.as_posix())


def _located(record: ResultTableRecord, path: str) -> ResultTableRecord:
    index = record.index_path and sibling(path, INDEX_SUFFIX)
    return dataclasses.replace(record, parquet_path=path, index_path=index)


def _find_orphans(
    records: Collection[ResultTableRecord], imported: Collection[str], store: ResultStore
) -> Iterator[TableFinding]:
    catalog = store.catalog
    known = (catalog.as_admin() if catalog.scope.is_catalog_wide else catalog).snapshot()
    for record in records:
        parent = record.derived_from
        if record.table_name not in imported or parent is None or parent in imported:
            continue
        if known.get_result_table(parent) is None:
            text = f"it derives from '{parent}', which is not in the catalog"
            yield TableFinding(record.table_name, text)


def _list_visible(store: ResultStore) -> list[ResultTableRecord]:
    snapshot = store.catalog.snapshot()
    records = [*snapshot.damaged()]
    for status in ResultTableStatus:
        records += snapshot.list_result_tables_by_status(status)
    return sorted(records, key=lambda record: (record.created_at, record.table_name))


def _copy_out(
    record: ResultTableRecord, artifacts: Artifacts, target: Storage
) -> Iterator[TableFinding]:
    """Copy the files of one result; yield what the engine will find odd about it."""
    if record.status is ResultTableStatus.BUILDING:
        raise _Skip("it is building")
    misfit = find_damage(record) or find_misfit(record)
    if misfit is not None:
        raise _Skip(misfit)
    if not record.is_ready:
        return
    try:
        manifest = artifacts.read_sidecar(record)
    except JammiFilesError as error:
        raise _Skip(str(error)) from error
    if manifest is None and record.definition_hash is not None:
        raise _Skip("its sidecar is missing: the engine would mark it failed")
    if manifest is not None and isinstance(manifest.descriptor, (External, UnknownDescriptor)):
        text = "0.32 does not know its producer: it serves the table but cannot verify it"
        yield TableFinding(record.table_name, text)
    if UNREADABLE & set(record.table_name):
        text = "0.32 verifies it, but its SQL finds no rows under a name with '%', '#' or '?'"
        yield TableFinding(record.table_name, text)
    key = f"{DATA_DIRECTORY}/{record.table_name}{DATA_SUFFIX}"
    _copy_all(*artifacts.locate(record.parquet_path), target, key)


def _detach(
    records: Collection[ResultTableRecord], remarks: list[TableFinding]
) -> Iterator[ResultTableRecord]:
    """Cut the foreign key to a parent that is not exported; its anchors still name it (`B134`)."""
    names = {record.table_name for record in records}
    for record in records:
        if record.derived_from is None or record.derived_from in names:
            yield record
        else:
            text = f"derived_from is left out: '{record.derived_from}' is not exported"
            remarks.append(TableFinding(record.table_name, text))
            yield dataclasses.replace(record, derived_from=None)


def _taken(home: Path) -> AlreadyExistsError:
    return AlreadyExistsError(f"'{home}' holds a {CATALOG} already; export to another directory")


def _copy_all(source: Storage, data: str, target: Storage, key: str) -> None:
    """Copy a data object, then its signature, sidecar and ANN files if there are any."""
    if not _copy(source, data, target, key):
        raise _Skip(f"its Parquet is missing: '{source.url(data)}'")
    for suffix in SIBLINGS:
        _copy(source, sibling(data, suffix), target, sibling(key, suffix))


def _copy(source: Storage, key: str, target: Storage, new_key: str) -> bool:
    """Copy one object; False if there is none.

    An equal one, left by a crash, will do where a lock keeps vacuum and deletions away from it
    until a row names it (FORMAT section "Import").
    """
    try:
        file = source.open(key)
    except FileNotFoundError:
        return False
    except StorageError as error:
        raise _Skip(str(error)) from error
    with closing(file):
        try:
            fits = _write_new(file, target, new_key)
            if not fits and not target.is_locked:
                raise _Occupied
            if not fits and _is_same(file, target, new_key):
                target.settle(new_key)
                fits = True
        except StorageError:
            raise  # the target refused: the next object would fare no better
        except OSError as error:
            raise _Skip(f"'{source.url(key)}' cannot be read: {error}") from error
    if not fits:
        raise _Skip(f"another object '{target.url(new_key)}' is in the way")
    return True


def _write_new(file: BinaryIO, target: Storage, key: str) -> bool:
    if target.size(key) is not None:
        return False
    try:
        with target.writer(key) as out:
            for block in _blocks(file):
                out.write(block)
    except FileExistsError:
        return False
    return True


def _is_same(file: BinaryIO, target: Storage, key: str) -> bool:
    file.seek(0)
    with closing(target.open(key)) as found:
        return _digest(found) == _digest(file)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(BLOCK), b"")


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    for block in _blocks(file):
        digest.update(block)
    return digest.digest()
