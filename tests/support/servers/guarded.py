"""S3 servers that refuse or disguise some answers, as permissions and other stores do.

They run on threads of the tests' own process, so a test changes their `guard` as it likes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import ExitStack

from support.servers.hosting import Host
from support.servers.messages import Answer, Request, Response
from support.servers.s3 import MotoAnswer, S3Server

Guard = Callable[[Request, Answer], Response]
"""Answers a request, with the help of the store behind it."""

_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class GuardedS3(S3Server):
    """moto behind a `guard`, which passes everything on until a test sets another one."""

    guard: Guard

    def __init__(self) -> None:
        super().__init__(own_process=False)
        self._store = MotoAnswer()
        self.unguard()

    def unguard(self) -> None:
        """Pass everything on."""
        self.guard = passing_on

    def _run(self, stack: ExitStack) -> Host:  # noqa: ARG002 - nothing besides
        return Host(self.dialect, lambda: self._answer, own_process=False)

    def _answer(self, request: Request) -> Response:
        return self.guard(request, self._store)


def passing_on(request: Request, store: Answer) -> Response:
    """Let the store answer."""
    return store(request)


def without_listing(request: Request, store: Answer) -> Response:
    """Answer as S3 does to whoever lacks s3:ListBucket: what is missing is forbidden."""
    if _is_listing(request):
        return denied()
    answer = store(request)
    is_read = request.method in ("GET", "HEAD")
    return denied() if is_read and answer.status == 404 else answer


def read_only(request: Request, store: Answer) -> Response:
    """Answer as to whoever may only read."""
    return store(request) if request.method in ("GET", "HEAD") else denied()


def write_only(request: Request, store: Answer) -> Response:
    """Answer as to whoever may write and not read."""
    return denied() if request.method in ("GET", "HEAD") else store(request)


def unordered(request: Request, store: Answer) -> Response:
    """List in no order, as S3 directory buckets do."""
    answer = store(request)
    if not _is_listing(request):
        return answer
    text = answer.body.decode()
    for tag in ("Contents", "CommonPrefixes"):
        found = re.findall(f"<{tag}>.*?</{tag}>", text, re.DOTALL)
        shuffled = iter(random.Random(len(found)).sample(found, len(found)))
        text = re.sub(f"<{tag}>.*?</{tag}>", lambda _, by=shuffled: next(by), text, flags=re.DOTALL)
    return Response(answer.status, answer.headers, text.encode())


def opaque_tags(request: Request, store: Answer) -> Response:
    """Give entity tags that are no digests, as for uploads in parts and for some encryptions.

    Those of parts stay, as a client hands them back.
    """
    answer = store(request)
    if "uploadId" in request.parameters:
        return answer
    headers = tuple(
        (name, '"opaque-2"') if name.lower() == "etag" else (name, value)
        for name, value in answer.headers
    )
    return Response(answer.status, headers, answer.body)


def denied() -> Response:
    """Return S3's answer 403."""
    return Response(403, (("Content-Type", "application/xml"),), _DENIED)


def _is_listing(request: Request) -> bool:
    return request.method == "GET" and "list-type" in request.parameters
