"""The shape of the library: imports go down only, and some things are known in one place only."""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.results import row

import jammi_files

HOME = Path(jammi_files.__file__).parent
TREES = {path.stem: ast.parse(path.read_text()) for path in sorted(HOME.glob("*.py"))}

LAYERS = [
    (
        "__main__",
        "cli",
        "cli_commands",
        "cli_asking",
        "cli_page",
        "cli_publishing",
        "cli_verifying",
        "cli_following",
        "cli_answer",
        "cli_result_views",
        "cli_views",
        "cli_completion",
        "cli_parser",
        "cli_help",
    ),
    ("serving", "pages"),
    ("__init__",),
    ("copy_root", "copy_crew", "copy_plan", "copy_versions", "copy_objects"),
    ("repairs", "interop", "fsck", "reformat", "jammi_db", "jammi_rows", "offline"),
    ("store", "recompute", "recompute_job", "reuse", "answers"),
    (
        "sql",
        "search",
        "ann_index",
        "planning",
        "recompute_report",
        "recompute_plan",
        "environments",
        "present",
        "rebuild",
        "salvage",
        "sweep",
        "explain",
        "recovery",
        "funnel",
        "exports",
        "drawing",
        "freshness",
        "cache",
        "evidence",
        "successors",
        "known_rows",
        "descent",
        "disk",
        "known",
        "lineage",
        "fingerprints",
    ),
    ("removal", "build", "embeddings", "writer", "origin", "attesting", "artifacts"),
    ("catalog", "transaction", "upkeep", "operations", "hooks"),
    ("vacuum", "reach", "garbage", "history", "bulk", "rules", "reads"),
    (
        "draft",
        "snapshot",
        "runs",
        "segment",
        "indexes",
        "manifest",
        "header",
        "segment_file",
        "retention",
        "row_pages",
        "rows",
    ),
    (
        "log",
        "numbering",
        "codec",
        "group_commit",
        "turns",
        "lease",
        "roots",
        "buckets",
        "object_cache",
        "cache_files",
        "root_format",
        "local",
        "disk_files",
        "memory",
        "objects",
        "reconnecting",
        "patience",
        "ranges",
        "dialects",
        "store_options",
        "outcomes",
        "retired",
        "storage",
    ),
    ("retarget", "naming", "vectors", "reasons", "file_versions", "table_versions"),
    ("signing", "materialization", "descriptors", "descriptor_parts", "described", "strict_json"),
    ("scope", "producer", "schema", "cells", "timestamps", "validation"),
    (
        "extras",
        "data_files",
        "frames",
        "terminal",
        "ipc_claims",
        "parquet_claims",
        "footer_digest",
        "parquet_footer",
        "parquet_tree",
        "positioned",
        "thrift",
        "parts",
        "events",
        "tracing",
    ),
    ("errors",),
]
"""From the top down: a module may import only those that come after it."""

ORDER = [module for layer in LAYERS for module in layer]

THIRD_PARTY = {"pyarrow", "orjson", "fsspec", "filelock", "rich", "shtab"}
PURE = ["materialization", "descriptors", "descriptor_parts", "described", "schema", "scope"]


def imports_of(module):
    """Yield every absolute module name that a module imports, at whatever depth."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if node.module == "jammi_files":
                yield from (f"jammi_files.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def own_imports(module):
    found = {name.split(".")[1] for name in imports_of(module) if name.startswith("jammi_files.")}
    return found & TREES.keys()


def packages(module):
    return {name.split(".")[0] for name in imports_of(module)} - {"jammi_files"}


def functions(module):
    return [
        node
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_every_module_has_its_place():
    """A new module must be put into the order above, once."""
    assert len(set(ORDER)) == len(ORDER)
    assert TREES.keys() <= set(ORDER)


@pytest.mark.parametrize("module", TREES)
def test_imports_go_down(module):
    """No module imports one above it; so no import cycle of any kind is possible."""
    below = ORDER[ORDER.index(module) + 1 :]
    assert own_imports(module) <= set(below)


@pytest.mark.parametrize("module", TREES)
def test_third_party(module):
    """Nothing is imported but the standard library and the declared dependencies."""
    assert packages(module) <= THIRD_PARTY | set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("fsspec", {"dialects", "local", "memory"}),
        ("filelock", {"local", "memory"}),
        ("sqlite3", {"jammi_rows", "interop"}),
        ("rich", {"terminal"}),
        ("shtab", {"cli_completion"}),
        ("argparse", {name for name in TREES if name.startswith("cli")}),
    ],
)
def test_one_home(package, allowed):
    """What few modules may know, no other imports."""
    assert {module for module in TREES if package in packages(module)} <= allowed


def test_the_log_looks_into_no_bytes():
    """Versions are bytes to the log and to everything below it but rows and results."""
    for module in ("log", "storage", "local", "memory", "roots", "root_format"):
        assert "pyarrow" not in packages(module)


def is_tenant(node):
    """Say whether an expression is a row's owner or a handle's tenant."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("tenant_id", "tenant")
    if isinstance(node, ast.Name):
        return node.id in ("tenant_id", "tenant")
    if isinstance(node, ast.Call):
        return any(
            isinstance(each, ast.Constant) and each.value == "tenant_id" for each in node.args
        )
    return False


@pytest.mark.parametrize("module", sorted(TREES.keys() - {"scope"}))
def test_one_module_knows_tenancy(module):
    """`B166`, `B174`: whose row may be seen is decided in `scope`; no other compares tenants."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Compare):
            told = all(
                isinstance(side, ast.Constant) and side.value is None for side in node.comparators
            )
            assert told or not any(is_tenant(side) for side in [node.left, *node.comparators])


def test_scope_is_where_it_is_compared():
    """The check above can see a comparison: there are some in `scope`."""
    compares = [node for node in ast.walk(TREES["scope"]) if isinstance(node, ast.Compare)]
    assert any(is_tenant(side) for node in compares for side in [node.left, *node.comparators])


@pytest.mark.parametrize("module", PURE)
def test_pure_modules(module):
    """The contract and the row are values: their modules touch no file."""
    assert not packages(module) & {"io", "pathlib", "shutil", "tempfile", "socket", "subprocess"}
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "os" or node.attr == "getpid"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "open"


@pytest.mark.parametrize("module", TREES)
def test_sizes(module):
    """A module is one page to read: under 400 lines, no function over 60."""
    assert len((HOME / f"{module}.py").read_text().splitlines()) <= 400
    long = [each.name for each in functions(module) if each.end_lineno - each.lineno >= 60]
    assert long == []


@pytest.mark.parametrize("module", TREES)
def test_docstrings(module):
    """Every module opens with a sentence; public classes and functions have one too."""
    assert ast.get_docstring(TREES[module])
    for node in TREES[module].body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_public_names():
    """Every public name is there, named once, in order; type checkers are told of the same ones."""
    assert sorted(set(jammi_files.__all__)) == list(jammi_files.__all__)
    assert all(hasattr(jammi_files, name) for name in jammi_files.__all__)
    told = {}
    for node in ast.parse((HOME / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            told |= {each.name: node.module for each in node.names}
        else:
            assert [each.value for each in node.value.elts] == jammi_files.__all__
    homes = jammi_files._HOMES
    assert told == {n: f"jammi_files.{home}" for home in homes for n in homes[home].split()}


def test_a_name_is_imported_when_it_is_asked_for():
    """The package alone imports nothing; a catalog is read without pandas, datasets, the lock."""
    program = """if True:
        import sys
        import jammi_files
        assert "pyarrow" not in sys.modules
        assert jammi_files.errors.ConflictError is jammi_files.ConflictError
        try:
            jammi_files.nothing
        except AttributeError as error:
            assert str(error) == "module 'jammi_files' has no attribute 'nothing'"
        catalog = jammi_files.Catalog.open(sys.argv[1])
        assert catalog.get_result_table("t").table_name == "t"
        heavy = {"pandas", "pyarrow.dataset", "filelock", "jammi_files.vacuum", "jammi_files.store"}
        print(sorted(heavy & sys.modules.keys()))
        jammi_files.connect(sys.argv[1]).catalog.get_result_table("t")
        print(sorted({"pandas", "pyarrow.dataset", "filelock"} & sys.modules.keys()))
    """
    with tempfile.TemporaryDirectory() as root:
        jammi_files.Catalog.open(root).create_result_table(**row("t"))
        done = subprocess.run(
            [sys.executable, "-c", program, root], capture_output=True, text=True, check=False
        )
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")
