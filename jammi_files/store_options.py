"""What may stand in ``storage_options``: names that the backend knows, values that nobody prints.

A backend swallows a misspelt option, to fail at the first request or never; here it is refused when
the root is opened, before anything is sent.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jammi_files.errors import InvalidInputError

_OF_FSSPEC = frozenset(
    {"listings_expiry_time", "max_paths", "skip_instance_cache", "use_listings_cache"}
)
_UNSAFE: Mapping[str, Collection[object]] = {
    "asynchronous": (False, None),
    "location_mode": ("primary", None),  # the other location is behind
    "use_listings_cache": (False, None),
}
"""Options with which reads would be stale, or none possible -> their harmless values."""
_SECRET = re.compile(r"key|secret|token|password|credential|connection_string", re.IGNORECASE)
_SECRET_PART = re.compile(r"(?:AccountKey|SharedAccessSignature)=([^;]+)")
_SHORTEST_SECRET = 6


def check(
    options: Mapping[str, Any],
    file_system: type,
    more: Collection[str],
    advice: Mapping[str, str],
) -> None:
    """Check the names and the safety of options in the backend's own spelling.

    ``more`` are names that the backend passes on, ``advice`` what to write instead of some.

    Raises:
        InvalidInputError: an option is unknown, or would make the catalog unsafe.
    """
    for name, harmless in _UNSAFE.items():
        if options.get(name) not in harmless:
            msg = f"storage_options '{name}' cannot be {options[name]!r} for a catalog"
            raise InvalidInputError(msg)
    known = {*more, *_OF_FSSPEC, *_parameters(file_system)}
    for name in options:
        if name not in known:
            likely = difflib.get_close_matches(name, known, 1)
            hint = advice.get(name.lower()) or (f"did you mean '{likely[0]}'?" if likely else "")
            raise InvalidInputError(
                f"storage_options: {file_system.__name__} has no option '{name}'; "
                f"{hint or 'it has ' + ', '.join(sorted(known))}"
            )


def secrets_of(options: Mapping[str, Any]) -> frozenset[str]:
    """Return the strings in the options that no message may show."""
    return frozenset(text for text in _secrets_in(options) if len(text) >= _SHORTEST_SECRET)


def without_secrets(text: str, secrets: Collection[str]) -> str:
    """Return a text in which every secret is replaced."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def without_keys(text: str) -> str:
    """Return a text in which the connection strings of Azure hold no keys."""
    return _SECRET_PART.sub("", text)


def _secrets_in(options: Mapping[str, Any], *, all_of_them: bool = False) -> Iterator[str]:
    for name, value in options.items():
        is_secret = all_of_them or _SECRET.search(str(name)) is not None
        if isinstance(value, Mapping):
            yield from _secrets_in(value, all_of_them=is_secret)
        elif is_secret and isinstance(value, str):
            yield value
            yield from _SECRET_PART.findall(value)


def _parameters(file_system: type) -> Iterator[str]:
    for kind in file_system.__mro__[:-1]:
        made = vars(kind).get("__init__")
        for name, parameter in inspect.signature(made).parameters.items() if made else ():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                yield name
