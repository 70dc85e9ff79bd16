"""The base of every value that is stored as a JSON object and may grow: known fields plus the rest.

A newer engine adds fields. They decide the definition hash as much as the known ones, so they are
kept in ``extra``: compared, carried by `dataclasses.replace`, and written back where they stood.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from typing import Any, ClassVar, Final, Protocol, Self, get_type_hints

from jammi_files.errors import InvalidInputError
from jammi_files.strict_json import plain

Check = Callable[[str, object], Any]
"""Takes the name of a field and its value; returns what is stored, or raises."""


class _Readable(Protocol):
    @classmethod
    def from_dict(cls, fields: Any) -> Self:  # noqa: ANN401 - from JSON
        """Build the value from its JSON form."""


class Omitted(Enum):
    """The type of `OMITTED`."""

    OMITTED = "omitted"


OMITTED: Final = Omitted.OMITTED
"""The key is not in the JSON object, which is another definition than the key with null."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A JSON object with fields that this version knows and ``extra``, those that it does not.

    A subclass annotates each field as ``Annotated[type, check]``, in stored order. ``tag`` is the
    key and value that come first and tell it from its siblings; ``absent`` names the fields that
    may be missing and the value that says so. Mappings are copied in; treat them as read-only.
    """

    tag: ClassVar[tuple[str, str] | None] = None
    absent: ClassVar[Mapping[str, object]] = {}

    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    _source: dict[str, Any] | None = dataclasses.field(
        init=False, default=None, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for name, check in _checks(type(self)).items():
            value = check(f"{self.label()}.{name}", getattr(self, name))
            object.__setattr__(self, name, value)
        extra = _object(f"{self.label()}.extra", self.extra)
        clash = extra.keys() & {*_checks(type(self)), *(self.tag or ())[:1]}
        if clash:
            msg = f"{self.label()}.extra repeats the field {min(clash)!r}"
            raise InvalidInputError(msg)
        object.__setattr__(self, "extra", extra)

    @classmethod
    def label(cls) -> str:
        """Return what messages call this kind of value."""
        return cls.tag[1] if cls.tag else cls.__name__

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: the tag, the fields in stored order, then ``extra``.

        A value that came from `from_dict` gives back exactly that, key order included.
        """
        if self._source is not None:
            return _object(self.label(), self._source)
        members = dict([self.tag] if self.tag else [])
        for name in _checks(type(self)):
            value = getattr(self, name)
            if name not in self.absent or value is not self.absent[name]:
                members[name] = to_json(value)
        return members | _object(self.label(), self.extra)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build the value from its JSON object; unknown keys go to ``extra``.

        Raises:
            InvalidInputError: naming the field that is missing or wrong, or the wrong tag.
        """
        source = _object(cls.label(), fields)
        if cls.tag and source.get(cls.tag[0]) != cls.tag[1]:
            key, value = cls.tag
            found = reprlib.repr(source.get(key))
            msg = f"{value}: field `{key}` must be '{value}', not {found}"
            raise InvalidInputError(msg)
        names = _checks(cls)
        for name in names:
            if name not in source and name not in cls.absent:
                msg = f"{cls.label()}: missing field `{name}`"
                raise InvalidInputError(msg)
        known = {name: source[name] for name in names if name in source}
        others = source.keys() - names.keys() - {*(cls.tag or ())[:1]}
        made = cls(**known, extra={key: source[key] for key in source if key in others})
        object.__setattr__(made, "_source", source)
        return made


def to_json(value: Any) -> Any:  # noqa: ANN401 - any field's value
    """Return the JSON form of a field: values write themselves, tuples become lists."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return plain(value)


def list_of(kind: type[_Readable]) -> Check:
    """Take a list or tuple of values of ``kind`` or of their JSON objects; return a tuple."""

    def check(what: str, value: object) -> tuple[_Readable, ...]:
        if not isinstance(value, (list, tuple)):
            msg = f"{what} must be a list, not {reprlib.repr(value)}"
            raise InvalidInputError(msg)
        return tuple(item if isinstance(item, kind) else kind.from_dict(item) for item in value)

    return check


def optional(check: Check) -> Check:
    """Let None pass, and leave every other value to ``check``."""
    return lambda what, value: None if value is None else check(what, value)


def one_of(kinds: type[StrEnum]) -> Check:
    """Take a member or its stored string."""

    def check(what: str, value: object) -> StrEnum:
        if isinstance(value, str) and value in list(kinds):
            return kinds(value)
        msg = f"{what}: unknown value {reprlib.repr(value)}. Expected: {', '.join(kinds)}"
        raise InvalidInputError(msg)

    return check


def tagged(*kinds: type[Described]) -> Check:
    """Take a value of one of ``kinds``, or the JSON object of one, told apart by their tag."""
    by_tag = {kind.label(): kind for kind in kinds}
    key = next(kind.tag[0] for kind in kinds if kind.tag)

    def check(what: str, value: object) -> Described:
        if isinstance(value, kinds):
            return value
        found = value.get(key) if isinstance(value, Mapping) else value
        if isinstance(value, Mapping) and isinstance(found, str) and found in by_tag:
            return by_tag[found].from_dict(value)
        msg = f"{what}: unknown `{key}` {reprlib.repr(found)}. Expected: {', '.join(by_tag)}"
        raise InvalidInputError(msg)

    return check


def unsigned(bits: int) -> Check:
    """Take an integer that fits the engine's unsigned type of that many bits."""

    def check(what: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**bits:
            msg = f"{what} must be an integer between 0 and 2**{bits}-1, not {reprlib.repr(value)}"
            raise InvalidInputError(msg)
        return value

    return check


def require_flag(what: str, value: object) -> bool:
    """Take True or False and nothing that merely acts like them."""
    if isinstance(value, bool):
        return value
    msg = f"{what} must be true or false, not {reprlib.repr(value)}"
    raise InvalidInputError(msg)


def require_string_map(what: str, value: object) -> dict[str, str]:
    """Return a string-to-string mapping as a dict sorted by key, as the engine writes it."""
    members = _object(what, value)
    for key, item in members.items():
        if not isinstance(item, str):
            msg = f"{what}[{key!r}] must be a string, not {type(item).__name__}"
            raise InvalidInputError(msg)
    return dict(sorted(members.items()))


def _checks(kind: type[Described]) -> dict[str, Check]:
    if kind not in _CHECKS:
        hints = get_type_hints(kind, include_extras=True)
        own = [field.name for field in dataclasses.fields(kind) if field.name not in _INHERITED]
        _CHECKS[kind] = {name: hints[name].__metadata__[0] for name in own}
    return _CHECKS[kind]


_CHECKS: dict[type[Described], dict[str, Check]] = {}


_INHERITED = {field.name for field in dataclasses.fields(Described)}


def _object(what: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        msg = f"{what} must be an object, not {reprlib.repr(value)}"
        raise InvalidInputError(msg)
    try:
        members: dict[str, Any] = plain(value)
    except InvalidInputError as error:
        msg = f"{what}: {error}"
        raise InvalidInputError(msg) from None
    return members
