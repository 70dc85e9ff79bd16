"""What a bucket holds, read by the store's own client: no fsspec, no code under test.

Its requests are neither recorded nor faulted by the servers of the tests.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from support.servers.controls import UNRECORDED

from jammi_files.objects import ObjectStorage


def objects_in(storage: ObjectStorage) -> dict[str, bytes]:
    """Return every object under a root, by key."""
    bucket, prefix = _place(storage)
    ask = _BY_SCHEME[storage._dialect.scheme][0]
    return {name[len(prefix) :]: data for name, data in ask(storage._options, bucket, prefix)}


def unfinished_in(storage: ObjectStorage) -> list[str]:
    """Return the keys of uploads that were begun and are neither finished nor discarded.

    Of Google Cloud Storage, which lists none, always [].
    """
    bucket, prefix = _place(storage)
    ask = _BY_SCHEME[storage._dialect.scheme][1]
    return sorted(name[len(prefix) :] for name in ask(storage._options, bucket, prefix))


def _place(storage: ObjectStorage) -> tuple[str, str]:
    bucket, _, prefix = storage.root.split("://", 1)[1].partition("/")
    return bucket, f"{prefix}/" if prefix else ""


@contextmanager
def _s3(options: dict[str, Any]) -> Iterator[Any]:
    import boto3  # noqa: PLC0415 - a client that is not there skips its own tests only

    client = boto3.client(
        "s3",
        aws_access_key_id=options["key"],
        aws_secret_access_key=options["secret"],
        endpoint_url=options["endpoint_url"],
        region_name="us-east-1",
    )
    unrecorded = lambda request, **_: request.headers.__setitem__(UNRECORDED, "1")  # noqa: E731
    client.meta.events.register("before-send.s3", unrecorded)
    try:
        yield client
    finally:
        client.close()


def _s3_objects(options: dict[str, Any], bucket: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    with _s3(options) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for name in [each["Key"] for page in pages for each in page.get("Contents", [])]:
            with client.get_object(Bucket=bucket, Key=name)["Body"] as body:
                yield name, body.read()


def _s3_unfinished(options: dict[str, Any], bucket: str, prefix: str) -> Iterator[str]:
    with _s3(options) as client:
        told = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix)
        yield from (each["Key"] for each in told.get("Uploads", []))


def _gcs_objects(options: dict[str, Any], bucket: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    url, page = options["endpoint_url"], ""
    base = f"/storage/v1/b/{bucket}/o"
    while True:
        told = json.loads(_get(url, f"{base}?{urlencode({'prefix': prefix, 'pageToken': page})}"))
        for name in [item["name"] for item in told.get("items", [])]:
            yield name, _get(url, f"{base}/{quote(name, safe='')}?alt=media")
        page = told.get("nextPageToken")
        if not page:
            return


def _get(url: str, target: str) -> bytes:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", target, headers={UNRECORDED: "1"})
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, (answer.status, target)
        return data
    finally:
        connection.close()


@contextmanager
def _azure(options: dict[str, Any], container: str) -> Iterator[Any]:
    from azure.storage.blob import ContainerClient  # noqa: PLC0415 - as boto3

    made = ContainerClient.from_connection_string(options["connection_string"], container)
    with made as client:
        yield client


def _azure_objects(
    options: dict[str, Any], container: str, prefix: str
) -> Iterator[tuple[str, bytes]]:
    with _azure(options, container) as client:
        for name in list(client.list_blob_names(name_starts_with=prefix, headers=_HEADERS)):
            yield name, client.download_blob(name, headers=_HEADERS).readall()


def _azure_unfinished(options: dict[str, Any], container: str, prefix: str) -> Iterator[str]:
    with _azure(options, container) as client:
        told = client.list_blobs(
            name_starts_with=prefix, include=["uncommittedblobs"], headers=_HEADERS
        )
        seen = {each.name for each in told}
        yield from seen - {name for name, _ in _azure_objects(options, container, prefix)}


_HEADERS = {UNRECORDED: "1"}
_BY_SCHEME: dict[str, tuple[Any, Any]] = {
    "s3": (_s3_objects, _s3_unfinished),
    "gs": (_gcs_objects, lambda *_: ()),
    "abfs": (_azure_objects, _azure_unfinished),
}
