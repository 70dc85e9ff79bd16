"""Requests as no client library sends them: each once, told to the letter."""

from __future__ import annotations

import http.client
from urllib.parse import quote, urlsplit

from support.servers.dialects import Dialect
from support.servers.server import Server

SIGNED = {"Authorization": "AWS test:unchecked"}
"""moto looks at no signature, but asks for one."""


def send(
    server: Server,
    method: str,
    target: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes] | None:
    """Send one request; return the status and the body, or None if no answer came."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, target, body, SIGNED | (headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (http.client.RemoteDisconnected, ConnectionError):
        return None
    finally:
        connection.close()


def create(server: Server, url: str, data: bytes) -> int | None:
    """Create an object unless there is one, unsigned; return the status if an answer came."""
    bucket, name = split(url)
    if server.dialect is Dialect.GCS:
        upload = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        told = send(server, "POST", f"{upload}&ifGenerationMatch=0", data)
    else:
        told = send(server, "PUT", f"/{bucket}/{quote(name)}", data, {"If-None-Match": "*"})
    return told and told[0]


def read(server: Server, url: str) -> bytes | None:
    """Return the bytes of an object, or None; neither recorded nor faulted."""
    bucket, name = split(url)
    gcs = f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
    target = gcs if server.dialect is Dialect.GCS else f"/{bucket}/{quote(name)}"
    answer = server.request("GET", target, headers=SIGNED)
    return answer.body if answer.status == 200 else None


def split(url: str) -> tuple[str, str]:
    """Return the bucket and the name of an object's URL."""
    parts = urlsplit(url)
    return parts.netloc, parts.path.lstrip("/")
