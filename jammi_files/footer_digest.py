"""The digest that the footer of a Parquet file carries of itself: only pages have checksums.

It stands last in the key-value metadata, and is that of the footer with zeros in its place. It
finds damage, no forgery; a file of an older library has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from jammi_files.parquet_footer import TAIL, footer_of

KEY = b"jammi_files.footer"
_BLANK = b"0" * 64

UNSEALED = {KEY: _BLANK}
"""The last of the metadata that a file is written with which is then `sealed`."""


def sealed(data: bytes) -> bytes:
    """Return a file that was written with `UNSEALED` with the digest of its footer."""
    footer = footer_of(data)
    before, _, after = footer.rpartition(_BLANK)
    pages = memoryview(data)[: -len(footer) - TAIL]
    return b"".join((pages, before, _digest(footer), after, data[-TAIL:]))


def require(footer: bytes, metadata: Mapping[bytes, bytes]) -> None:
    """Refuse a footer that is not the one whose digest it carries, if it carries any.

    Raises:
        ValueError: it is another one.
    """
    said = metadata.get(KEY)
    if said is None:
        return
    if len(said) != len(_BLANK) or _digest(footer.replace(said, _BLANK)) != said:
        raise ValueError("its footer is not what its digest says")


def _digest(footer: bytes) -> bytes:
    return hashlib.sha256(footer).hexdigest().encode()
