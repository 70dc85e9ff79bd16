"""Requests and bytes of an operation in a bucket, counted at a server of S3's interface.

The server is moto on loopback; nothing is timed. Every system holds the same 100 rows.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from benchmarks import peers, workload
from benchmarks.targets import OURS
from jammi_files import Catalog

ROWS = 100
CREATE, PROMOTE, READ = "create one row", "promote one row", "open and get one row"
_BUCKET = "benchmarks"
_ACCOUNT = {"key": "testing", "secret": "testing"}  # of the loopback server, which takes any


class Cost(NamedTuple):
    """What one operation asks of the store; bytes are those of both directions' bodies."""

    work: str
    who: str
    writes: int
    reads: int
    lists: int
    bytes: int


class _Counted:
    """A WSGI application that notes each request before it passes it on."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._mutex = threading.Lock()
        self.seen: list[tuple[str, int]] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        body = b"".join(self._app(environ, start))
        sent = environ.get("CONTENT_LENGTH") or environ.get("HTTP_X_AMZ_DECODED_CONTENT_LENGTH")
        size = int(sent or 0)
        if environ["REQUEST_METHOD"] != "HEAD":
            size += len(body)
        with self._mutex:
            self.seen.append((_kind(environ), size))
        return [body]

    def take(self) -> list[tuple[str, int]]:
        with self._mutex:
            seen, self.seen = self.seen, []
        return seen


def _kind(environ: dict[str, Any]) -> str:
    """Say as what S3 bills a request; deletions are free."""
    method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
    if method == "DELETE" or "delete" in query.split("&"):
        return "free"
    if method in ("GET", "HEAD"):
        return "lists" if "list-type" in query or "prefix=" in query else "reads"
    return "writes"


@contextlib.contextmanager
def _server() -> Iterator[tuple[_Counted, str]]:
    from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415
    from werkzeug.serving import make_server  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = _Counted(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield app, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


def is_possible() -> bool:
    """Say whether the server and a client of it are installed."""
    return all(importlib.util.find_spec(name) for name in ("moto", "flask", "s3fs"))


def measure(wanted: Iterable[str]) -> Iterator[Cost]:
    """Count what each system asks for each operation, one after another: nothing runs at once."""
    systems: dict[str, Callable[[str, Path], dict[str, Callable[[], object]]]] = {
        OURS: _ours,
        "deltalake": _delta,
        "pyiceberg": _iceberg,
        "lance": _lance,
    }
    with _server() as (app, endpoint), tempfile.TemporaryDirectory() as scratch:
        _make_bucket(endpoint)
        for who, begin in systems.items():
            if who != OURS and who not in wanted:
                continue
            for work, call in begin(endpoint, Path(scratch)).items():
                app.take()
                call()
                seen = app.take()
                kinds = [kind for kind, _ in seen]
                counts = (kinds.count(kind) for kind in ("writes", "reads", "lists"))
                yield Cost(work, who, *counts, sum(size for _, size in seen))


def lines(costs: Iterable[Cost]) -> Iterator[str]:
    """Yield the table."""
    yield (
        f"{'in a bucket, ' + str(ROWS) + ' rows':26} {'system':12} {'writes':>6} {'reads':>6} "
        f"{'lists':>6} {'bytes':>10}"
    )
    for cost in sorted(costs, key=lambda cost: cost.work):
        yield (
            f"{cost.work:26} {cost.who:12} {cost.writes:>6} {cost.reads:>6} {cost.lists:>6} "
            f"{cost.bytes:>10,}"
        )


def _make_bucket(endpoint: str) -> None:
    import s3fs  # noqa: PLC0415 - with the extra [bench]

    files = s3fs.S3FileSystem(**_ACCOUNT, endpoint_url=endpoint)
    files.mkdir(_BUCKET)


def _ours(endpoint: str, _: Path) -> dict[str, Callable[[], object]]:
    options = {**_ACCOUNT, "endpoint_url": endpoint}

    def begin() -> Catalog:
        return Catalog.open(f"s3://{_BUCKET}/ours", storage_options=options, cache_dir="off")

    catalog = begin()
    catalog.create_result_table(**workload.new_row(0))  # type: ignore[arg-type]
    catalog.log.commit(lambda draft: draft.add_run(workload.rows_of(ROWS), "import"))
    row = workload.new_row(1)
    name = str(row["table_name"])
    return {
        CREATE: lambda: catalog.create_result_table(**row),  # type: ignore[arg-type]
        PROMOTE: lambda: catalog.promote_result_table_with_manifest(name, 50, "0" * 64, ()),
        READ: lambda: begin().get_result_table(name),
    }


def _delta(endpoint: str, _: Path) -> dict[str, Callable[[], object]]:
    import deltalake  # noqa: PLC0415 - a peer may be absent

    options = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": _ACCOUNT["key"],
        "AWS_SECRET_ACCESS_KEY": _ACCOUNT["secret"],
        "AWS_REGION": "us-east-1",
    }
    where = f"s3://{_BUCKET}/delta"
    rows = peers.microseconds(workload.rows_of(ROWS))
    deltalake.write_deltalake(where, rows, storage_options=options)
    table = deltalake.DeltaTable(where, storage_options=options)
    mine = "table_name = 'new'"

    def read() -> object:
        opened = deltalake.DeltaTable(where, storage_options=options)
        return opened.to_pyarrow_table(filters=[("table_name", "=", "new")])

    return {
        CREATE: lambda: deltalake.write_deltalake(table, _renamed(rows), mode="append"),
        PROMOTE: lambda: table.update(predicate=mine, updates={"status": "'ready'"}),
        READ: read,
    }


def _iceberg(endpoint: str, scratch: Path) -> dict[str, Callable[[], object]]:
    from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415 - a peer may be absent

    options = {
        "uri": f"sqlite:///{scratch}/catalog.db",  # itself outside the bucket: not counted
        "warehouse": f"s3://{_BUCKET}/iceberg",
        "s3.endpoint": endpoint,
        "s3.access-key-id": _ACCOUNT["key"],
        "s3.secret-access-key": _ACCOUNT["secret"],
        "s3.region": "us-east-1",
    }
    catalog = SqlCatalog("peer", **options)
    catalog.create_namespace("peer")
    rows = peers.microseconds(workload.rows_of(ROWS))
    table = catalog.create_table("peer.rows", schema=rows.schema)
    table.append(rows)
    mine = "table_name = 'new'"

    def read() -> object:
        opened = SqlCatalog("peer", **options).load_table("peer.rows")
        return opened.scan(row_filter=mine).to_arrow()

    def promote() -> None:
        row = table.scan(row_filter=mine).to_arrow().cast(rows.schema)
        table.overwrite(row, overwrite_filter=mine)

    return {CREATE: lambda: table.append(_renamed(rows)), PROMOTE: promote, READ: read}


def _lance(endpoint: str, _: Path) -> dict[str, Callable[[], object]]:
    import lance  # noqa: PLC0415 - a peer may be absent

    options = {
        "aws_endpoint": endpoint,
        "allow_http": "true",
        "aws_access_key_id": _ACCOUNT["key"],
        "aws_secret_access_key": _ACCOUNT["secret"],
        "aws_region": "us-east-1",
    }
    where = f"s3://{_BUCKET}/peer.lance"
    rows = peers.simple(workload.rows_of(ROWS))
    data = lance.write_dataset(rows, where, storage_options=options)
    mine = "table_name = 'new'"

    def read() -> object:
        return lance.dataset(where, storage_options=options).to_table(filter=mine)

    return {
        CREATE: lambda: data.insert(_renamed(rows), mode="append"),
        PROMOTE: lambda: data.update({"status": "'ready'"}, where=mine),
        READ: read,
    }


def _renamed(rows: pa.Table) -> pa.Table:
    return rows.slice(0, 1).set_column(0, rows.schema.field(0), pa.array(["new"]))
