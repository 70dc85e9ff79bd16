"""Packages that only some calls need: found when such a call is made, or named with their extra."""

from __future__ import annotations

import importlib
from typing import Any

from jammi_files.errors import MissingPackageError


def load(package: str, *, extra: str, purpose: str) -> Any:  # noqa: ANN401 - a module without types
    """Return the module ``package``, e.g. ``duckdb``, which ``purpose`` needs.

    Raises:
        MissingPackageError: it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        msg = f"{purpose} needs {name}: pip install 'jammi_files[{extra}]'"
        raise MissingPackageError(msg) from error
