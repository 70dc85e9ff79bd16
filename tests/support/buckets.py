"""A root in a bucket of a test server, as those see it who work on it and those who come later."""

from __future__ import annotations

from typing import Any

from support.results import row
from support.servers.server import Server
from support.witness import objects_in

from jammi_files import ResultStore, connect
from jammi_files.fsck import fsck
from jammi_files.objects import ObjectStorage
from jammi_files.roots import open_storage


class Bucket:
    """A fresh root, a warm handle on it, which has committed version 1, and more handles."""

    def __init__(self, server: Server, **options: Any) -> None:
        """``options`` are more than what is needed to reach the server."""
        self.server = server
        self.root, reaching = server.root()
        self.options = reaching | options
        self.store = self.connect()
        self.catalog = self.store.catalog
        self.catalog.create_result_table(**row("t"))

    def connect(self, **more: Any) -> ResultStore:
        """Return a handle that shares nothing with the others."""
        return connect(self.root, storage_options=self.options, cache_dir="off", **more)

    def storage(self) -> ObjectStorage:
        """Return the storage of such a handle."""
        made = open_storage(self.root, storage_options=self.options, cache_dir="off")
        assert isinstance(made, ObjectStorage)
        return made

    def objects(self) -> dict[str, bytes]:
        """Return every object, as the store's own client reads them."""
        return objects_in(self.storage())

    def names(self) -> list[str]:
        """Return the names of all rows, as somebody sees them who comes now."""
        found = self.connect().catalog.scan(columns=["table_name"])
        return sorted(found.column(0).to_pylist())

    def errors(self) -> list[str]:
        """Return what fsck finds wrong."""
        found = fsck(self.connect().catalog.as_admin())
        return [str(each) for each in found if each.severity == "error"]
