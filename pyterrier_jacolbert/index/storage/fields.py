"""Typed reading of JSON objects that may come from anyone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

_Value = TypeVar("_Value")

#: Numbers in manifests stay below this: sums of a few of them, in bytes, fit in 64 bits.
_LARGEST = 2**53
_LONGEST_TEXT = 2**16


class FieldError(ValueError):
    """A field is missing, or is not what it must be."""


@dataclass(frozen=True)
class Fields:
    """The fields of a JSON object, each read with its type; all methods raise :class:`FieldError`.

    Attributes:
        content: the object.
        place: where it is, for messages: ``"files.starts"``; "" at the top.
    """

    content: Mapping[str, Any]
    place: str = ""

    @classmethod
    def of(cls, value: object, place: str = "", known: Collection[str] | None = None) -> Fields:
        """Returns the fields of a value.

        Args:
            value: must be an object.
            place: where it is.
            known: names that it may have; None allows any.
        """
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise FieldError(f"{place or 'it'} is {_shown(value)}, not an object")
        if known is not None and (others := sorted(value.keys() - known)):
            raise FieldError(f"{place or 'it'} has a field {others[0]!r}")
        return cls(value, place)

    def whole(self, name: str, least: int = 0, most: int = _LARGEST) -> int:
        """Returns a whole number from ``least`` to ``most``; True and False are none."""
        value = self._value(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._error(name, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, least: float = -math.inf, most: float = math.inf) -> float:
        """Returns a finite number from ``least`` to ``most``."""
        value = self._value(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise self._error(name, f"a number from {least} to {most}")
        if not -1e300 < value < 1e300:
            raise self._error(name, "a finite number")
        return float(value)

    def text(self, name: str) -> str:
        """Returns a string."""
        value = self._value(name)
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
            raise self._error(name, "a string")
        return value

    def choice(self, name: str, choices: Collection[str]) -> str:
        """Returns a string that is one of a few."""
        value = self._value(name)
        if not isinstance(value, str) or value not in choices:
            raise self._error(name, f"one of {', '.join(map(repr, choices))}")
        return value

    def flag(self, name: str) -> bool:
        """Returns True or False."""
        value = self._value(name)
        if not isinstance(value, bool):
            raise self._error(name, "true or false")
        return value

    def items(self, name: str) -> list[Any]:
        """Returns the values of a list."""
        value = self._value(name)
        if not isinstance(value, list | tuple):
            raise self._error(name, "a list")
        return list(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Returns the strings of a list, none of them twice."""
        values = self.items(name)
        if not all(isinstance(value, str) for value in values) or len(set(values)) < len(values):
            raise self._error(name, "a list of different strings")
        return tuple(values)

    def object(self, name: str, known: Collection[str] | None = None) -> Fields:
        """Returns the fields of an object; see :meth:`of`."""
        return Fields.of(self._value(name), self.name_of(name), known)

    def optional(self, read: Callable[[str], _Value], name: str) -> _Value | None:
        """Returns what ``read``, a method of this object, returns; None if the field is null or missing."""
        return None if self.content.get(name) is None else read(name)

    def name_of(self, name: str) -> str:
        """Returns the name of a field with its place."""
        return f"{self.place}.{name}" if self.place else name

    def _value(self, name: str) -> Any:
        if name not in self.content:
            raise FieldError(f"{self.name_of(name)} is missing")
        return self.content[name]

    def _error(self, name: str, expected: str) -> FieldError:
        return FieldError(f"{self.name_of(name)} is {_shown(self.content[name])}, not {expected}")


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "a number of more than 40 digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
