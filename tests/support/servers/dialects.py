"""What the three object-store protocols call things: an object, a precondition, an error."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from urllib.parse import unquote

from support.servers.messages import Request, Response

CHANGING = ("PUT", "POST", "PATCH", "DELETE")
"""The methods that can change what a server holds."""

_S3_CODES = {
    403: "AccessDenied",
    409: "ConditionalRequestConflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
_GCS_REASONS = {
    403: "forbidden",
    409: "conflict",
    429: "rateLimitExceeded",
    500: "backendError",
    503: "backendError",
}
_AZURE_CODES = {
    403: "AuthorizationPermissionMismatch",
    409: "SystemInUse",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServerBusy",
}
_GCS_OBJECT = re.compile(r"^(?:/download|/upload)?/storage/v1/b/([^/]+)(?:/o(?:/([^/?]+))?)?")
_GCS_COPY = re.compile(r"/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/?]+)")
_GCS_NAME = re.compile(rb'"name": *("(?:[^"\\]|\\.)*")')


class Dialect(StrEnum):
    """A protocol, known by its URL scheme in fsspec."""

    S3 = "s3"
    GCS = "gs"
    AZURE = "az"

    def key(self, request: Request) -> str:
        """Return ``bucket/object`` (or the bucket, or nothing) that a request speaks of.

        Of a copy that is the object it makes.
        """
        if self is Dialect.S3:
            return request.path.lstrip("/")
        if self is Dialect.AZURE:  # behind the account's name
            return request.path.lstrip("/").partition("/")[2]
        return _gcs_key(request)

    def without_preconditions(self, request: Request) -> Request:
        """Return the request as a client without conditional writes would send it."""
        if self is Dialect.GCS:
            return request.without_parameters("ifGenerationMatch", "ifGenerationNotMatch")
        return request.without_headers("if-match", "if-none-match")

    def error(self, status: int) -> Response:
        """Return the protocol's answer of that status: 403, 409, 429, 500 or 503."""
        if self is Dialect.GCS:
            reason = _GCS_REASONS[status]
            errors = [{"reason": reason, "message": "injected", "domain": "global"}]
            told = {"error": {"code": status, "message": "injected", "errors": errors}}
            return Response(
                status, (("Content-Type", "application/json"),), json.dumps(told).encode()
            )
        code = (_S3_CODES if self is Dialect.S3 else _AZURE_CODES)[status]
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        headers = (("Content-Type", "application/xml"), ("x-ms-error-code", code))
        return Response(status, headers, b'<?xml version="1.0" encoding="utf-8"?>' + body)


def _gcs_key(request: Request) -> str:
    found = _GCS_COPY.search(request.target) or _GCS_OBJECT.match(request.target)
    if found is None:
        return ""
    bucket, name = unquote(found[1]), found[2]
    if name is not None:
        return f"{bucket}/{unquote(name)}"
    if "name" in request.parameters:
        return f"{bucket}/{request.parameters['name']}"
    if request.target.startswith("/upload") and (told := _GCS_NAME.search(request.body[:4096])):
        return f"{bucket}/{json.loads(told[1])}"
    return bucket
