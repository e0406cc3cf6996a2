"""Type and range checks for the dataclasses of a recipe."""

from __future__ import annotations

import typing
from types import UnionType
from typing import Any, Literal, Protocol


class NamedSettings(Protocol):
    """A dataclass of settings, whose name appears in error messages."""

    @property
    def name(self) -> str:
        """Name of the stage, average, mining run or recipe."""
        ...


def check(settings: NamedSettings, setting: str, valid: bool, rule: str) -> None:
    """Checks the value of a setting.

    Args:
        settings: dataclass that holds the setting.
        setting: name of the setting.
        valid: whether its value is valid.
        rule: description of valid values, which completes "must be".

    Raises:
        ValueError: ``valid`` is false.
    """
    if not valid:
        raise ValueError(f"{setting} of {settings.name!r} must be {rule}, not {getattr(settings, setting)!r}.")


def check_types(settings: NamedSettings) -> None:
    """Checks every setting against its annotation.

    Raises:
        ValueError: a setting has a value of another type.
    """
    for setting, annotation in typing.get_type_hints(type(settings)).items():
        check(settings, setting, _has_type(getattr(settings, setting), annotation), _type_name(annotation))


def _has_type(value: object, annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (UnionType, typing.Union):
        return any(_has_type(value, member) for member in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_has_type(item, arguments[0]) for item in value)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or annotation)


def _type_name(annotation: Any) -> str:
    if typing.get_origin(annotation) is Literal:
        return " or ".join(map(repr, typing.get_args(annotation)))
    if typing.get_origin(annotation) is None:
        return getattr(annotation, "__name__", str(annotation))
    return str(annotation)
