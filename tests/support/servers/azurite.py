"""Azurite, Microsoft's emulator of Azure Blob Storage, from npm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
from support.servers.dialects import Dialect
from support.servers.front import HOST
from support.servers.installs import from_npm
from support.servers.programs import Listening
from support.servers.proxy import ProxiedServer

PACKAGE = "azurite@3.35.0"

# The account that every Azurite has, and its published key.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Azurite(ProxiedServer):
    """Blobs in memory; it honours If-None-Match and If-Match."""

    dialect = Dialect.AZURE
    name = "azurite"

    def _start(self, directory: Path) -> Listening:
        options = "--silent --inMemoryPersistence --skipApiVersionCheck --disableTelemetry"
        address = ("--blobHost", HOST, "--blobPort", "{port}")
        command = [*from_npm(PACKAGE, "azurite-blob"), *options.split(), *address]
        return Listening(command, directory / "output")

    def options_at(self, url: str) -> dict[str, Any]:
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": _ACCOUNT,
            "AccountKey": _KEY,
            "BlobEndpoint": f"{url}/{_ACCOUNT}",
        }
        return {"connection_string": ";".join(f"{key}={value}" for key, value in parts.items())}

    def _make_bucket(self, name: str) -> None:
        options = self.options_at(self.direct_url)
        fsspec.filesystem("az", skip_instance_cache=True, **options).mkdir(name)
