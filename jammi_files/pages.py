"""The page that shows a catalog: what it holds, as JSON, and the one HTML file around it.

A name comes from whoever may write to the catalog. It enters the page as JSON in which no character
can end the script element, and the page's script makes text of it, never markup. The policy of the
page lets nothing run or load but its own style and script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import orjson

from jammi_files.artifacts import Artifacts
from jammi_files.errors import (
    DependencyCycleError,
    FormatError,
    JammiFilesError,
    TableNotFoundError,
)
from jammi_files.lineage import EdgeTable
from jammi_files.materialization import MaterializationManifest
from jammi_files.schema import ResultTableRecord, ResultTableStatus
from jammi_files.store import ResultStore, Verification, verify_one

_PLACE = re.compile(r"\{\{(\w+)\}\}")
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_ATTESTED = ("artifact", "engine_version", "produced_at", "produced_by", "manifest_version")


def overview(store: ResultStore) -> dict[str, Any]:
    """Return what a page shows of every visible result, oldest first, without reading sidecars.

    ``staleness`` is as `staleness_all` says; where a cycle keeps it from being known, ``trouble``
    says so. ``edges`` are (input, derived, kind).
    """
    snapshot = store.catalog.snapshot()
    records = [
        record
        for status in ResultTableStatus
        for record in snapshot.list_result_tables_by_status(status)
    ]
    records.sort(key=lambda record: (record.created_at, record.table_name))
    trouble, held = None, {}
    try:
        held = {each["table_name"]: each for each in store.staleness_all().to_pylist()}
    except DependencyCycleError as error:
        trouble = str(error)
    edges = EdgeTable.read(snapshot)
    return {
        "live": False,
        "root": store.root,
        "tenant": None if store.catalog.tenant is None else str(store.catalog.tenant),
        "admin": store.catalog.scope.admin,
        "version": snapshot.version,
        "committed_at": snapshot.committed_at,
        "trouble": trouble,
        "results": [_row(record, held.get(record.table_name)) for record in records],
        "descriptors": [],
        "edges": list(zip(edges.inputs, edges.derived, edges.kinds, strict=True)),
    }


def attest(store: ResultStore, document: dict[str, Any]) -> None:
    """Add to each result of an `overview` what its sidecar says; equal descriptors are one."""
    snapshot = store.catalog.snapshot()
    rows = {row["table_name"]: row for row in document["results"]}
    found = (snapshot.get_result_table(name) for name in rows)
    records = [record for record in found if record is not None]
    numbers: dict[bytes, int] = {}
    sidecars = Artifacts(store.storage).read_sidecars(records)
    for record, sidecar in zip(records, sidecars, strict=True):
        row = rows[record.table_name]
        row.update(attestation(sidecar))
        if "descriptor" in row:
            text = orjson.dumps(row["descriptor"], option=orjson.OPT_SORT_KEYS)
            if text not in numbers:
                numbers[text] = len(numbers)
                document["descriptors"].append(row["descriptor"])
            row["descriptor"] = numbers[text]


def attestation(sidecar: MaterializationManifest | JammiFilesError | None) -> dict[str, Any]:
    """Return what a page shows of a sidecar, or of what is wrong with it."""
    if sidecar is None:
        return {"sidecar": None}
    if isinstance(sidecar, JammiFilesError):
        return {"sidecar": None, "sidecar_error": str(sidecar)}
    fields = sidecar.to_dict()
    proof = {name: fields[name] for name in _ATTESTED if name in fields}
    return {"sidecar": proof, "descriptor": fields["descriptor"]}


def detail(store: ResultStore, table_name: str) -> dict[str, Any]:
    """Return the same for one result.

    Raises:
        TableNotFoundError: no visible row has the name.
    """
    try:
        return attestation(store.read_materialization_manifest(table_name))
    except FormatError as error:
        return attestation(error)


def verdict(store: ResultStore, table_name: str) -> dict[str, Any]:
    """Read a result's bytes and return what a page shows of the verdict.

    Raises:
        TableNotFoundError: no visible row has the name.
    """
    if store.catalog.get_result_table(table_name) is None:
        raise TableNotFoundError.named(table_name)
    return judgement(verify_one(store, table_name))


def judgement(verification: Verification) -> dict[str, Any]:
    """Return what a page shows of a verdict."""
    if verification.verdict is None:
        return {"tag": "error", "error": verification.error}
    fields = verification.verdict.to_dict()
    return {"tag": fields.pop("verdict"), **fields}


def add_verdicts(document: Mapping[str, Any], verifications: Sequence[Verification]) -> None:
    """Add verdicts to the results of an `overview`."""
    rows = {row["table_name"]: row for row in document["results"]}
    for each in verifications:
        rows[each.table_name]["verdict"] = judgement(each)


def render(document: Mapping[str, Any]) -> str:
    """Return the HTML file that shows a document; it loads nothing, a live one asks its server."""
    style, script = asset("page.css"), asset("page.js")
    parts = {
        "policy": policy(live=bool(document["live"])),
        "style": style,
        "script": script,
        "data": embedded(document),
    }
    return _PLACE.sub(lambda match: parts[match[1]], asset("page.html"))


def policy(*, live: bool) -> str:
    """Return the Content-Security-Policy of a page: its own style and script, and nothing else."""
    connect = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; style-src '{_digest(asset('page.css'))}'; "
        f"script-src '{_digest(asset('page.js'))}'; connect-src {connect}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def asset(name: str) -> str:
    """Return a file of the directory ``page`` that ships with the library."""
    return (resources.files("jammi_files") / "page" / name).read_text(encoding="utf-8")


def embedded(document: Mapping[str, Any]) -> str:
    """Return JSON that no HTML parser ends early; what UTF-8 cannot carry is an escape."""
    try:
        text = orjson.dumps(document).decode()
    except TypeError:  # a path that is no UTF-8
        text = json.dumps(document)
    return re.sub("[<>&]", lambda match: _ESCAPES[match[0]], text)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _row(record: ResultTableRecord, held: Mapping[str, Any] | None) -> dict[str, Any]:
    row = {key: value for key, value in record.to_dict().items() if value is not None}
    if held is not None:
        row["staleness"] = held["staleness"]
        if held["explanation"] is not None:
            row["explanation"] = held["explanation"]
    return row
