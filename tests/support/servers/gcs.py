"""The Google Cloud Storage server of the tests: the JSON API as far as gcsfs speaks it.

Whole, multipart and resumable uploads, ranged reads, listings in pages, copies, deletes and
batches of them, each with its preconditions as
https://cloud.google.com/storage/docs/request-preconditions has them: a resumable upload's are
looked at when it begins and again when it ends.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from support.servers.dialects import Dialect
from support.servers.gcs_objects import Objects, RefusalError
from support.servers.hosting import Host
from support.servers.messages import Request, Response
from support.servers.server import Server

_CHUNK = 1 << 18  # every part of a resumable upload but the last is a multiple of this


class SpeaksGcs(Server):
    """A server that gcsfs can be sent to."""

    dialect = Dialect.GCS

    def options_at(self, url: str) -> dict[str, Any]:
        return {"endpoint_url": url, "token": "anon", "project": "tests"}

    def _make_bucket(self, name: str) -> None:
        told = json.dumps({"name": name}).encode()
        made = self.request("POST", "/storage/v1/b", told, {"Content-Type": "application/json"})
        assert made.status == 200


class GcsServer(SpeaksGcs):
    """An in-memory store that honours ifGenerationMatch on every request that takes it."""

    def __init__(self, *, own_process: bool = True) -> None:
        self._own_process = own_process

    def _run(self, stack: ExitStack) -> Host:  # noqa: ARG002 - nothing besides
        return Host(self.dialect, GcsAnswer, own_process=self._own_process)


@dataclass
class _Upload:
    """A resumable upload that has begun; ``told`` is its answer once it has ended."""

    bucket: str
    name: str
    given: dict[str, Any]
    conditions: dict[str, str]
    data: bytearray = field(default_factory=bytearray)
    told: Response | None = None


class GcsAnswer:
    """The JSON API over `Objects` as a function."""

    def __init__(self) -> None:
        self._objects = Objects()
        self._uploads: dict[str, _Upload] = {}
        self._upload_numbers = itertools.count(1)
        self._upload_lock = threading.Lock()
        name = "([^/?]+)"
        bucket, one = f"/b/{name}", f"/b/{name}/o/{name}"
        self._routes: tuple[tuple[str, Callable[..., Response]], ...] = (
            ("/batch/storage/v1", self._batch),
            (f"/upload/storage/v1{bucket}/o", self._upload),
            ("/storage/v1/b", self._buckets),
            (f"/storage/v1{bucket}", self._bucket),
            (f"/storage/v1{bucket}/o", self._list),
            (f"/storage/v1{one}/(?:rewriteTo|copyTo){one}", self._copy),
            (f"(?:/download)?/storage/v1{one}", self._object),
        )

    def __call__(self, request: Request) -> Response:
        """Answer a request."""
        path = request.target.partition("?")[0]
        for pattern, answer in self._routes:
            if found := re.fullmatch(pattern, path):
                try:
                    return answer(request, *map(unquote, found.groups()))
                except RefusalError as refusal:
                    return _refusal(refusal.status)
        return _refusal(400)

    def _buckets(self, request: Request) -> Response:
        if request.method == "POST":
            name = json.loads(request.body)["name"]
            self._objects.make_bucket(name)
            return _json({"kind": "storage#bucket", "name": name, "id": name})
        items = [{"name": name, "id": name} for name in self._objects.buckets()]
        return _json({"kind": "storage#buckets", "items": items})

    def _bucket(self, request: Request, name: str) -> Response:
        if request.method == "DELETE":
            self._objects.delete_bucket(name)
            return Response(204)
        if name not in self._objects.buckets():
            raise RefusalError(404)
        return _json({"kind": "storage#bucket", "name": name, "id": name})

    def _list(self, request: Request, bucket: str) -> Response:
        page = self._objects.list(bucket, request.parameters)
        told = {"kind": "storage#objects", "items": page.resources, "prefixes": page.prefixes}
        return _json(told | ({"nextPageToken": page.following} if page.following else {}))

    def _copy(
        self, request: Request, bucket: str, name: str, to_bucket: str, to_name: str
    ) -> Response:
        conditions = request.parameters
        source = {
            "generation": conditions.get("sourceGeneration"),
            "ifGenerationMatch": conditions.get("ifSourceGenerationMatch"),
        }
        wanted = {key: value for key, value in source.items() if value is not None}
        found = self._objects.get(bucket, name, wanted)
        made = self._objects.put(to_bucket, to_name, found.data, found.resource, conditions)
        if "/copyTo/" in request.target:
            return _json(made)
        return _json({"kind": "storage#rewriteResponse", "done": True, "resource": made})

    def _object(self, request: Request, bucket: str, name: str) -> Response:
        if request.method == "DELETE":
            self._objects.delete(bucket, name, request.parameters)
            return Response(204)
        if request.method != "GET":
            return _refusal(400)
        found = self._objects.get(bucket, name, request.parameters)
        if request.parameters.get("alt") != "media":
            return _json(found.resource)
        headers = (
            ("Content-Type", found.resource["contentType"]),
            ("X-Goog-Generation", found.generation),
            ("ETag", found.resource["etag"]),
        )
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", request.header("range"))
        if span is None:
            return Response(200, headers, found.data)
        start, stop = _limits(span[1], span[2], len(found.data))
        told = ("Content-Range", f"bytes {start}-{stop - 1}/{len(found.data)}")
        return Response(206, (*headers, told), found.data[start:stop])

    def _upload(self, request: Request, bucket: str) -> Response:
        parameters = request.parameters
        if "upload_id" in parameters:
            return self._resume(request, parameters["upload_id"])
        kind = parameters.get("uploadType")
        if kind == "resumable":
            return self._begin(request, bucket)
        if kind == "media":
            given: dict[str, Any] = {"contentType": request.header("content-type")}
            data = request.body
        else:
            given, data = _parts(request)
        name = given.get("name") or parameters["name"]
        return _json(self._objects.put(bucket, name, data, given, parameters))

    def _begin(self, request: Request, bucket: str) -> Response:
        given = json.loads(request.body or b"{}")
        name = given.get("name") or request.parameters["name"]
        self._objects.check(bucket, name, request.parameters)
        number = str(next(self._upload_numbers))
        self._uploads[number] = _Upload(bucket, name, given, request.parameters)
        location = f"http://{request.header('host')}{request.target}&upload_id={number}"
        return replace(_json({}), headers=(("Location", location),))

    def _resume(self, request: Request, number: str) -> Response:
        upload = self._uploads.get(number)
        if upload is None:
            return _refusal(404)
        with self._upload_lock:
            if request.method == "DELETE":
                del self._uploads[number]
                return _refusal(499)
            if upload.told is None:
                upload.told = self._append(upload, request)
            if upload.told is not None:
                return upload.told
            seen = (("Range", f"bytes=0-{len(upload.data) - 1}"),) if upload.data else ()
            return Response(308, seen)

    def _append(self, upload: _Upload, request: Request) -> Response | None:
        length = len(request.body)
        whole = f"bytes 0-{length - 1}/{length}"
        span = re.fullmatch(
            r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", request.header("content-range", whole)
        )
        if span is None or (span[2] == "*" and length % _CHUNK):
            return _refusal(400)
        if span[1] is not None:
            upload.data[int(span[1]) :] = request.body
        if span[2] != str(len(upload.data)):
            return None
        try:
            data, given = bytes(upload.data), upload.given
            return _json(
                self._objects.put(upload.bucket, upload.name, data, given, upload.conditions)
            )
        except RefusalError as refusal:
            return _refusal(refusal.status)

    def _batch(self, request: Request) -> Response:
        lines = re.findall(rb"\n(DELETE) (?:https?://[^/]+)?(\S+) HTTP", request.body)
        parts = []
        for number, (method, target) in enumerate(lines, 1):
            answer = self(Request(method.decode(), target.decode(), ()))
            parts.append(
                f"--batch_x\r\nContent-Type: application/http\r\n"
                f"Content-ID: <response-{number}>\r\n\r\n"
                f"HTTP/1.1 {answer.status} X\r\nContent-Length: {len(answer.body)}\r\n\r\n"
                f"{answer.body.decode()}\r\n"
            )
        headers = (("Content-Type", "multipart/mixed; boundary=batch_x"),)
        return Response(200, headers, ("".join(parts) + "--batch_x--").encode())


def _json(told: dict[str, Any], status: int = 200) -> Response:
    return Response(status, (("Content-Type", "application/json"),), json.dumps(told).encode())


def _refusal(status: int) -> Response:
    if status == 304:
        return Response(304)
    messages = {404: "No such object", 412: "conditionNotMet", 416: "not satisfiable"}
    return _json({"error": {"code": status, "message": messages.get(status, "refused")}}, status)


def _limits(first: str, last: str, size: int) -> tuple[int, int]:
    """Return where a Range header begins and ends in an object of ``size`` bytes."""
    if not first:
        return max(0, size - int(last)), size
    if int(first) >= size:
        raise RefusalError(416)
    return int(first), min(int(last) + 1, size) if last else size


def _parts(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return the JSON and the media of a multipart/related body."""
    found = re.search(r'boundary="?([^";]+)', request.header("content-type"))
    if found is None:
        raise RefusalError(400)
    mark = b"--" + found[1].encode()
    end = b"\r\n" if request.body.startswith((mark + b"\r\n", b"\r\n" + mark)) else b"\n"
    _, first, rest = request.body.split(mark + end, 2)
    _, media = rest.split(end + end, 1)
    given = json.loads(first.split(end + end, 1)[1])
    return given, media[: media.rindex(end + mark + b"--")]
