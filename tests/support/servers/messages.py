"""HTTP requests and answers as values, and the function between them that a server is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

Headers = tuple[tuple[str, str], ...]


def header(headers: Headers, name: str, default: str = "") -> str:
    """Return the first header of a name, whatever its case."""
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), default)


def without(headers: Headers, *names: str) -> Headers:
    """Return the headers except those of the names, which are given in lower case."""
    return tuple(pair for pair in headers if pair[0].lower() not in names)


@dataclass(frozen=True)
class Request:
    """One request, its body read whole and decoded from chunks."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded."""
        return unquote(urlsplit(self.target).path)

    @cached_property
    def query(self) -> str:
        """The query as it was sent."""
        return urlsplit(self.target).query

    @cached_property
    def parameters(self) -> dict[str, str]:
        """The query's parameters, decoded; those without a value have an empty one."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def header(self, name: str, default: str = "") -> str:
        """Return the first header of a name, whatever its case."""
        return header(self.headers, name, default)

    def without_headers(self, *names: str) -> Request:
        """Return the request less the headers of these lower-case names."""
        return replace(self, headers=without(self.headers, *names))

    def without_parameters(self, *names: str) -> Request:
        """Return the request less these parameters of its query."""
        pairs = parse_qsl(self.query, keep_blank_values=True)
        query = urlencode([pair for pair in pairs if pair[0] not in names])
        path = self.target.partition("?")[0]
        return replace(self, target=f"{path}?{query}" if query else path)


@dataclass(frozen=True)
class Response:
    """One answer; the front that sends it adds how long it is."""

    status: int
    headers: Headers = ()
    body: bytes = b""


Answer = Callable[[Request], Response]
"""What a server does: it may be called on many threads at once."""
