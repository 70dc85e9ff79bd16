"""What an object store's error says about the request that it answers: one classifier for all.

fsspec's backends spell the same answer in many ways: `FileExistsError`, ``OSError(EINVAL)`` over a
botocore response, an Azure ``status_code``, a Google ``code``, a plain text that begins with
``Forbidden``. The causes of an error are followed until one carries an HTTP status.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple


class Outcome(enum.Enum):
    """What is known of the request, and so what may be done next."""

    TAKEN = "taken"
    """The key exists; the request itself, sent twice by the client, may have made it."""
    MISSING = "missing"
    """There is no such object."""
    REFUSED = "refused"
    """Not done, and asking again will not help."""
    BUSY = "busy"
    """Not done, as the store is throttling or another request is under way; ask again."""
    UNKNOWN = "unknown"
    """Nothing is known: it may have been done, or be done later."""


class Answer(NamedTuple):
    """A store's answer as far as the error shows it: HTTP status (0 = none came) and error code."""

    status: int
    code: str


_TAKEN = frozenset({"PreconditionFailed", "BlobAlreadyExists", "ConditionNotMet"})
_BUSY = frozenset(
    {
        "ConditionalRequestConflict",
        "ConcurrentModification",
        "OperationAborted",
        "RequestLimitExceeded",
        "ServerBusy",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)
_LOST = frozenset({"InternalError", "OperationTimedOut", "RequestTimeout", "ServiceUnavailable"})
_BY_STATUS = {
    408: Outcome.UNKNOWN,
    409: Outcome.BUSY,  # S3: a conditional request met another one; nothing was written
    501: Outcome.REFUSED,  # a store that does not know conditional requests
}
_MISTAKES = (TypeError, ValueError, AttributeError, NotImplementedError, ImportError)
"""What a backend raises about its arguments or itself, before or instead of a request."""
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_NO_CREDENTIALS = frozenset(
    {
        "ClientAuthenticationError",
        "CredentialRetrievalError",
        "DefaultCredentialsError",
        "NoCredentialsError",
        "NoRegionError",
        "ParamValidationError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshError",
        "SSOError",
        "TokenRetrievalError",
    }
)


def classify(error: BaseException) -> Outcome:
    """Return what ``error`` says; whatever is not known for certain is `Outcome.UNKNOWN`."""
    answer = answer_of(error)
    status, code = answer
    if code in _LOST:
        return Outcome.UNKNOWN
    if code in _NO_BUCKET or is_denied(error) or isinstance(error, _MISTAKES):
        return Outcome.REFUSED
    if code in _BUSY or status == 429:
        return Outcome.BUSY
    if isinstance(error, FileExistsError) or code in _TAKEN or status == 412:
        return Outcome.TAKEN
    if isinstance(error, FileNotFoundError) or status == 404:
        return Outcome.MISSING
    return _BY_STATUS.get(status, Outcome.REFUSED if 300 <= status < 500 else Outcome.UNKNOWN)


def is_denied(error: BaseException) -> bool:
    """Return whether the store, or the client for want of credentials, refused the caller."""
    if answer_of(error).status in (401, 403):
        return True
    return any(
        isinstance(each, PermissionError)
        or any(kind.__name__ in _NO_CREDENTIALS for kind in type(each).__mro__)
        or (isinstance(each, OSError) and str(each).startswith("Forbidden"))
        for each in _causes(error)
    )


def is_without_bucket(error: BaseException) -> bool:
    """Return whether the bucket or container itself does not exist."""
    return answer_of(error).code in _NO_BUCKET


def answer_of(error: BaseException) -> Answer:
    """Return the HTTP status and error code of the innermost answer that the error carries."""
    for each in _causes(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return Answer(int(status or 0), str(response.get("Error", {}).get("Code", "")))
        for name in ("status_code", "status", "code"):  # Azure, aiohttp, Google
            status = getattr(each, name, None)
            if isinstance(status, (int, str)) and str(status).isdecimal():
                code = getattr(each, "error_code", None) or ""
                return Answer(int(status), str(getattr(code, "value", code)))
    return Answer(0, "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__  # not the context: it may be an earlier, answered request's error
