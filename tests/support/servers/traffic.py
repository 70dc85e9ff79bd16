"""What a server was asked and what it told: a log to count in."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.servers.controls import Controls

RECORDED_HEADERS = frozenset(
    {
        "content-range",
        "if-match",
        "if-none-match",
        "range",
        "x-amz-copy-source",
        "x-ms-blob-type",
        "x-ms-copy-source",
        "x-ms-range",
    }
)
"""The request headers that an `Exchange` keeps, in lower case."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, in the order in which they ended.

    ``key`` is ``bucket/object``. ``sent`` and ``received`` count the bytes of the two bodies.
    ``outcome`` is the status that the server itself came to, None where it never saw the request;
    ``status`` is what the client was told, None where it was told nothing; ``fault`` is what stood
    between the two.
    """

    method: str
    key: str
    query: str
    headers: dict[str, str]
    sent: int
    outcome: int | None
    status: int | None
    received: int
    fault: str | None

    @property
    def applied(self) -> bool:
        """Whether the server did what it was asked, whatever the client was told."""
        return self.outcome is not None and self.outcome < 300


class Exchanges(list[Exchange]):
    """Some exchanges in order."""

    def matching(
        self, method: str | None = None, key: str = "", query: str = "", status: int | None = None
    ) -> Exchanges:
        """Return those of a method and status whose key and query hold the regular expressions."""
        return Exchanges(
            one
            for one in self
            if method in (None, one.method)
            and status in (None, one.status)
            and re.search(key, one.key)
            and re.search(query, one.query)
        )

    def count(  # type: ignore[override]  # a list's count of equal items is of no use here
        self, method: str | None = None, key: str = "", query: str = "", status: int | None = None
    ) -> int:
        """Return how many `matching` returns."""
        return len(self.matching(method, key, query, status))

    @property
    def methods(self) -> Counter[str]:
        """How many exchanges of each method there were."""
        return Counter(one.method for one in self)

    @property
    def sent(self) -> int:
        """The bytes of the requests' bodies."""
        return sum(one.sent for one in self)

    @property
    def received(self) -> int:
        """The bytes of the answers' bodies."""
        return sum(one.received for one in self)


class Log:
    """What one server has seen so far; the same from whatever process it is looked at."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    def __len__(self) -> int:
        return self._controls.exchange_count()

    def exchanges(self, start: int = 0) -> Exchanges:
        """Return the exchanges from number ``start`` on."""
        return Exchanges(self._controls.exchanges(start))

    def count(
        self, method: str | None = None, key: str = "", query: str = "", status: int | None = None
    ) -> int:
        """Return how many exchanges there were of these, as `Exchanges.matching` has it."""
        return self.exchanges().count(method, key, query, status)

    @contextlib.contextmanager
    def counting(self) -> Iterator[Exchanges]:
        """Yield the list that fills, at the end of the block, with the block's exchanges."""
        start, seen = len(self), Exchanges()
        try:
            yield seen
        finally:
            seen += self.exchanges(start)
