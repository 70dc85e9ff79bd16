"""Every public name says what it does, and the errors that it names exist."""

from __future__ import annotations

import builtins
import inspect
import re

import pytest

import jammi_files
from jammi_files import errors

CLASSES = [
    (name, each)
    for name in jammi_files.__all__
    if inspect.isclass(each := getattr(jammi_files, name))
]
FUNCTIONS = [
    (name, each) for name in jammi_files.__all__ if callable(each := getattr(jammi_files, name))
]


def members(owner):
    """Yield the public members of a class that this library wrote."""
    for name, each in inspect.getmembers_static(owner):
        member = each.fget if isinstance(each, property) else getattr(each, "__func__", each)
        module = getattr(member, "__module__", None) or ""
        if not name.startswith("_") and callable(member) and module.startswith("jammi_files"):
            yield f"{owner.__name__}.{name}", member


PUBLIC = dict(FUNCTIONS) | {name: member for _, owner in CLASSES for name, member in members(owner)}


def raised(text):
    """Return the names of the errors in the section ``Raises`` of a docstring."""
    section = re.search(r"(?ms)^Raises[^\n]*:\n(.*)\Z", inspect.cleandoc(text))
    return re.findall(r"^    (\w+(?:, \w+)*): ", section[1], re.MULTILINE) if section else []


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_documented(name):
    """A public class, function or method has a docstring of its own that ends as a sentence."""
    text = inspect.getdoc(PUBLIC[name])
    assert text
    first = text.partition("\n\n")[0].rstrip()
    assert first.endswith((".", ":")), first


@pytest.mark.parametrize(
    "name", [name for name in PUBLIC if "Raises" in (PUBLIC[name].__doc__ or "")]
)
def test_errors_exist(name):
    """What a docstring says is raised is an error of this library, or one of Python's."""
    names = [each for line in raised(PUBLIC[name].__doc__) for each in line.split(", ")]
    assert names
    for each in names:
        found = getattr(errors, each, None) or getattr(builtins, each, None)
        assert inspect.isclass(found), each
        assert issubclass(found, Exception), each
