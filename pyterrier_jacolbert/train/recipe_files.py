"""Conversion between nested dataclasses of settings and YAML files."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from pyterrier_jacolbert.index.storage.atomic import replacing
from pyterrier_jacolbert.text_files import read_text

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], path: str | Path) -> Settings:
    """Reads a dataclass of settings from YAML.

    Args:
        kind: dataclass to build. Its fields may be dataclasses, or tuples of them.
        path: file to read.

    Returns:
        An instance of ``kind``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not UTF-8 or not YAML, or does not fit the dataclass.
    """
    import yaml

    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML; repair it: {' '.join(str(error).split())}.") from None
    try:
        return _from_plain(kind, content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_settings(settings: object, path: str | Path) -> None:
    """Writes a dataclass of settings as YAML.

    Args:
        settings: dataclass whose fields hold plain values, mappings, dataclasses, or tuples of these.
        path: file to write; an existing file is replaced.
    """
    import yaml

    content = _to_plain(settings)
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=120)
    if yaml.safe_load(text) != content:  # PyYAML reads U+0085 as a line break but does not escape it
        text = yaml.safe_dump(content, allow_unicode=False, sort_keys=False, width=120)
    with replacing(Path(path)) as file:
        file.write(text)


def _to_plain(value: Any) -> Any:
    """Converts dataclasses to dicts and tuples to lists, recursively."""
    if dataclasses.is_dataclass(value):
        return {one.name: _to_plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _from_plain(kind: type[Settings], content: object) -> Settings:
    """Builds a dataclass from the output of :func:`_to_plain` after checking every key."""
    name = re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).lower()
    subject = f"An {name}" if name[0] in "aeiou" else f"A {name}"
    if not isinstance(content, dict):
        raise ValueError(f"{subject} must be a mapping of settings, not {content!r}.")
    fields = {one.name: one for one in dataclasses.fields(kind)}  # type: ignore[arg-type] # kind is a dataclass
    for key in content:
        if key not in fields:
            nearest = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)[0]
            raise ValueError(f"{subject} has no setting {key!r}; the nearest is {nearest!r}.")
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [key for key in required if key not in content]
    if missing:
        raise ValueError(f"{subject} lacks a setting; add {', '.join(map(repr, missing))}.")
    annotations = typing.get_type_hints(kind)
    return kind(**{key: _field_value(key, annotations[key], value) for key, value in content.items()})


def _field_value(key: str, annotation: Any, value: object) -> object:
    """Converts a plain value to that of a field, which may be a dataclass or a tuple of them."""
    members = (
        typing.get_args(annotation) if typing.get_origin(annotation) in (UnionType, typing.Union) else [annotation]
    )
    if value is None or (isinstance(value, str) and str in members):
        return value
    for member in members:
        item = next(iter(typing.get_args(member)), None) if typing.get_origin(member) is tuple else None
        if dataclasses.is_dataclass(member):
            return _from_plain(member, value)  # type: ignore[arg-type] # a class
        if dataclasses.is_dataclass(item):
            if not isinstance(value, list):
                raise ValueError(f"{key} must be a list, not {value!r}.")
            return tuple(_from_plain(item, one) for one in value)  # type: ignore[arg-type] # a class
    return tuple(value) if isinstance(value, list) else value
