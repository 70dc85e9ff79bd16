"""What each command does that shows the catalog in a browser: one file, or a server."""

from __future__ import annotations

import argparse
import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from jammi_files import pages
from jammi_files.cli_answer import Answer, Event, Feed, open_store
from jammi_files.cli_verifying import verify
from jammi_files.errors import StorageError
from jammi_files.serving import Server

_LONGEST_BEGINNING = 200
"""Bytes of a file's name that its temporary one repeats."""


def run_report(args: argparse.Namespace) -> Answer:
    """Write one self-contained HTML file that shows every visible result."""
    store = open_store(args)
    document = pages.overview(store)
    pages.attest(store, document)
    ready = [row["table_name"] for row in document["results"] if row["status"] == "ready"]
    found = verify(store, ready) if args.verify else []
    pages.add_verdicts(document, found)
    data = pages.render(document).encode()
    _write(Path(args.out), data)
    ok = all(each.ok for each in found)
    facts = {"ok": ok, "out": str(Path(args.out).absolute()), "bytes": len(data)}
    facts |= {"version": document["version"], "results": len(document["results"])}
    view = [f"{facts['results']} results in {facts['out']} ({len(data)} bytes)"]
    wrong = [each.table_name for each in found if not each.ok]
    view += [f"negative verdict: {name}" for name in wrong]
    return Answer(facts, view, 0 if ok else 1)


def _write(path: Path, data: bytes) -> None:
    """Replace the file as a whole: who reads it meanwhile sees the old page or the new one."""
    if path.exists() and not path.is_file():  # /dev/stdout is written to, never replaced
        path.write_bytes(data)
        return
    begun = os.fsencode(path.name)[:_LONGEST_BEGINNING].decode(errors="ignore")
    part = path.with_name(f"{begun}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        part.write_bytes(data)
        os.replace(part, path)  # noqa: PTH105 - says that it replaces
    except OSError as error:
        raise StorageError(f"could not write '{path}': {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def run_serve(args: argparse.Namespace) -> Feed:
    """Show the page live until an interrupt."""
    return Feed(_serving(Server(open_store(args), args.port)))


def _serving(server: Server) -> Iterator[Event]:
    with server:
        yield Event({"url": server.url}, [f"Serving {server.store.root} at {server.url}"])
        server.serve_forever(poll_interval=0.1)
