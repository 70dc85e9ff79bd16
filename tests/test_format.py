"""FORMAT.md says what the code does: its tables, tree, statement and vectors are compared."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from support import documents
from support.documents import bare

import jammi_files
from jammi_files import (
    fsck,
    header,
    lease,
    log,
    manifest,
    numbering,
    objects,
    parquet_footer,
    patience,
    retention,
    root_format,
    rows,
    segment,
    turns,
    validation,
)
from jammi_files.catalog import Catalog
from jammi_files.dialects import DIALECTS
from jammi_files.outcomes import Outcome, classify
from jammi_files.recovery import RecoveryStep
from jammi_files.schema import ResultTableStatus
from jammi_files.scope import Scope, TenantId
from jammi_files.signing import HmacSigner

TEXT = (Path(jammi_files.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
TENANTS = {
    "A": TenantId("01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a"),
    "B": TenantId("01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9b"),
}


def table(first_column: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is ``first_column``."""
    return documents.table(TEXT, first_column)


def test_columns() -> None:
    """The column table is the stored schema: names, order, types, nullability."""
    documented = [(bare(name), kind, null) for name, kind, null, _ in table("column")]
    coded = [
        (field.name, str(field.type), "yes" if field.nullable else "no") for field in rows.STORED
    ]
    assert documented == coded


def test_constants() -> None:
    """Every constant has the documented value."""
    rows_of = (header, manifest, parquet_footer, segment, numbering, retention)
    modules = (*rows_of, lease, validation, objects, patience, turns)
    for name, value, _ in table("constant"):
        found = [getattr(module, bare(name)) for module in modules if hasattr(module, bare(name))]
        assert set(found) == {int(value)}, name
    assert root_format.FORMAT_VERSION == header.FORMAT_VERSION


def test_status_moves() -> None:
    """The table of moves is exactly what the status rule allows."""
    documented = {(bare(old), bare(new)) for old, new in table("from")}
    coded = {
        (old.value, new.value)
        for old in ResultTableStatus
        for new in ResultTableStatus
        if old.may_become(new)
    }
    assert documented == coded


@pytest.mark.parametrize(("handle", "owner", "visible", "owned"), table("handle"))
def test_tenancy(handle: str, owner: str, visible: str, owned: str) -> None:
    """The truth table is what the scope says of a row (`B166`, `B069`, `B144`)."""
    name, _, admin = handle.partition(" ")
    scope = Scope(TENANTS.get(name), admin=admin == "admin")
    tenant = TENANTS.get(owner)
    assert (scope.sees(tenant), scope.owns(tenant)) == (visible == "yes", owned == "yes")
    column = pa.table({"tenant_id": pa.array([tenant], pa.string())})
    expression = scope.visible()
    admitted = column if expression is None else column.filter(expression)
    assert admitted.num_rows == (visible == "yes")


def test_findings() -> None:
    """The table of findings is fsck's list of kinds."""
    documented = [(bare(kind), severity) for kind, severity in table("finding")]
    assert documented == [(kind.value, kind.severity.value) for kind in fsck.Kind]


def test_crash_points_name_notices_only() -> None:
    """No crash point leaves what fsck calls an error."""
    named = {bare(kind) for row in table("crash") for kind in row[2].split(", ")} - {"none"}
    assert named == {k.value for k in fsck.Kind if k.severity is fsck.Severity.NOTICE}


def test_recovery_actions() -> None:
    """The decision table uses every recovery step and no other word."""
    actions = {bare(row[3]) for row in table("state of the row")} - {"none"}
    assert actions == {step.value for step in RecoveryStep}


@pytest.mark.parametrize(("direction", "expected"), table("direction"))
def test_hash_vectors(direction: str, expected: str) -> None:
    """The documented definition hashes are what the library computes (`B199`)."""
    descriptor = jammi_files.AsofJoin(
        spine="spine",
        facts="facts",
        spine_by=["acct"],
        facts_by=["acct"],
        spine_time="ts",
        facts_time="ts",
        direction=bare(direction),
        boundary="inclusive",
        tolerance=None,
        tie_break_column=None,
        project=[],
    )
    env = jammi_files.MaterializationEnv("0.32.0", jammi_files.Device.cpu())
    assert jammi_files.definition_hash(descriptor, env) == bare(expected)


def test_layout(tmp_path: Path) -> None:
    """Every object that the library writes has a place in the documented tree, and the reverse."""
    sign = HmacSigner(b"sixteen bytes or more")
    store = jammi_files.connect(tmp_path / "root", sign=sign)
    rows = pa.table({"a": [1, 2]})
    with store.build(
        "docs",
        "ner",
        "model",
        "m",
        descriptor=jammi_files.External(producer_id="p", params={}),
        env=jammi_files.MaterializationEnv("1", jammi_files.Device.cpu()),
        inputs=[],
    ) as out:
        out.write(rows)
    info = store.create_table("docs", "ner", "model", "m")
    store.catalog.set_checkpoint(info.table_name, 1)
    store.catalog.create_result_tables(many(manifest.INLINE_ROWS + 1))
    patterns = documented_paths()
    written = [
        str(path.relative_to(store.root)) for path in Path(store.root).rglob("*") if path.is_file()
    ]
    used = {pattern for path in written for pattern in patterns if re.fullmatch(pattern, path)}
    unplaced = [path for path in written if not any(re.fullmatch(p, path) for p in patterns)]
    assert unplaced == []
    assert used == set(patterns)


def documented_paths() -> list[str]:
    """Return the tree's files as patterns of paths relative to the root."""
    tree = TEXT.partition("```tree\n")[2].partition("```")[0]
    patterns, parents = [], {0: ""}
    for line in tree.splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2
        text = line.strip()
        text = re.sub(r"<table_name>", r"\0name\0", text)
        text = re.sub(r"<[^>]*?(\d+) (digits|hex)>", lambda m: f"\0{m[2]}{m[1]}\0", text)
        pattern = re.escape(text).replace("/", "/")
        pattern = pattern.replace("\\\0", "\0").replace("\0name\0", "[^/]+")
        pattern = re.sub(r"\0digits(\d+)\0", r"\\d{\1}", pattern)
        pattern = re.sub(r"\0hex(\d+)\0", r"[0-9a-f]{\1}", pattern)
        path = parents[depth - 1] + pattern
        if text.endswith("/"):
            parents[depth] = path
        else:
            patterns.append(path)
    return patterns


def many(count: int) -> pa.Table:
    names = [f"t{number:06d}" for number in range(count)]
    constant = {"source_id": "docs", "model_id": "m", "task": "ner"}
    columns = {name: [value] * count for name, value in constant.items()}
    paths = [f"{name}.parquet" for name in names]
    return pa.table({"table_name": names, **columns, "parquet_path": paths})


def test_statement(tmp_path: Path) -> None:
    """The documented SQL statement over the files gives the rows that the catalog gives."""
    catalog = Catalog.open(tmp_path / "root")
    catalog.create_result_tables(many(300))
    for number in range(0, 300, 3):
        catalog.update_result_table_status(f"t{number:06d}", "failed", 0)
    catalog.create_result_table(
        "kept", source_id="other", model_id="m", task="ner", parquet_path="kept.parquet"
    )
    catalog.delete_result_tables_for_source("docs")
    catalog.create_result_tables(many(200))
    statement = TEXT.partition("```sql\n")[2].partition("```")[0]
    header = catalog.snapshot()._snapshot.header
    keys = [log.key_of(header.version), *(segment.key for segment in header.segments)]
    files = [catalog.storage.url(key) for key in keys]
    found = duckdb.sql(statement.replace("FILES", str(files))).to_arrow_table()
    expected = catalog.scan()
    assert sorted(found["table_name"].to_pylist()) == sorted(expected["table_name"].to_pylist())
    assert found.sort_by("table_name").select(["status", "row_count"]).to_pylist() == (
        expected.sort_by("table_name").select(["status", "row_count"]).to_pylist()
    )


def test_metadata_fields() -> None:
    """The manifest's metadata fields are the documented ones."""
    prose = TEXT.partition("**The manifest.**")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", prose)) - {"INLINE_ROWS", "jammi_files"}
    coded = {*manifest.Header.__slots__, *manifest.SegmentInfo.__slots__, "format_version"}
    coded |= {*retention.Retention.__slots__}
    coded -= {"retention", "extra"}  # a group of fields, and those of a newer library
    assert named - {"host", "pid"} == coded


class HttpError(OSError):
    """An error that carries an answer as Azure's do."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__("told")
        self.status_code, self.error_code = status, code


def test_answers_to_a_create() -> None:
    """Every documented answer of a store is taken for what the table says."""
    meanings = {}
    for answer, meaning, _ in table("answer to a create"):
        status, _, code = answer.partition(" ")
        if status == "none":
            meanings[answer] = (meaning, classify(TimeoutError()).value)
        elif status != "200":
            meanings[answer] = (meaning, classify(HttpError(int(status), bare(code))).value)
    assert [answer for answer, (said, done) in meanings.items() if said != done] == []
    assert {said for said, _ in meanings.values()} == {each.value for each in Outcome}


def test_permissions() -> None:
    """What is documented to be needed is what an error of that store asks for."""
    documented = {store: f"{reading}, {writing}" for store, reading, writing in table("store")}
    s3, gcs, azure = (DIALECTS[scheme].permissions for scheme in ("s3", "gs", "abfs"))
    assert set(re.findall(r"s3:\w+", documented["S3"])) == set(re.findall(r"s3:\w+", s3))
    for name in re.findall(r"storage.objects.(\w+)", documented["GCS"]):
        assert re.search(rf"\b{name}\b", gcs)
    assert documented["Azure"].split(", ")[1] in azure


def test_releases_that_are_refused() -> None:
    """The oldest releases of the clients are those that the text names."""
    for dialect in DIALECTS.values():
        for package, least in dialect.minimums.items():
            assert re.search(rf"{package}[^.]*?before {'.'.join(map(str, least))}", TEXT)


def test_proofs() -> None:
    """Every test that is named as a proof of a guarantee is there."""
    tests = Path(__file__).parent
    for guarantee, proofs in table("guarantee"):
        for proof in proofs.split(", "):
            module, _, name = bare(proof).partition("::")
            source = (tests / f"{module}.py").read_text(encoding="utf-8")
            assert f"def {name}(" in source or not name, f"{guarantee}: {proof}"


def test_code_names_sections_that_are_there():
    """Whatever section of FORMAT a docstring names has a heading or a bold word of its own."""
    code = "".join(
        path.read_text("utf-8") for path in sorted(Path(jammi_files.__file__).parent.glob("*.py"))
    )
    flat = re.sub(r"\s+", " ", code)
    named = set(re.findall(r'FORMAT section "([^"]+)"', flat))
    there = set(re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE))
    assert named
    assert sorted(named - there) == []
