"""The journal of a build: its settings and how far it is, so that an interrupted build can be resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pyterrier_jacolbert.index.codecs.training import CodecSettings
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry, entries_from_json, entries_to_json


@dataclass(frozen=True)
class BuildSettings(CodecSettings):
    """Settings that, with the documents and their vectors, decide the bytes of an index.

    Attributes:
        store_text: whether to store the text of documents.
    """

    store_text: bool = False


@dataclass(frozen=True)
class Journal:
    """The state of a build.

    Attributes:
        settings: of the build.
        origin: everything else that decides the bytes, such as the checkpoint.
        documents: number of documents on disk.
        encoded: whether all documents are on disk.
        dim: dimensions of a vector; None before the first document.
        arrays: entries of the arrays by name.
        compression: of the trained codec; None before training.
        parameters: entries of its parameters by name.
        model: settings and fingerprint of the checkpoint; None if it is not known.
    """

    settings: BuildSettings
    origin: Mapping[str, Any]
    documents: int = 0
    encoded: bool = False
    dim: int | None = None
    arrays: Mapping[str, ArrayEntry] = dataclasses.field(default_factory=dict)
    compression: str | None = None
    parameters: Mapping[str, ArrayEntry] = dataclasses.field(default_factory=dict)
    model: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Reads a journal from JSON values."""
        known = {
            "settings": BuildSettings(**content["settings"]),
            "arrays": entries_from_json(content["arrays"]),
            "parameters": entries_from_json(content["parameters"]),
        }
        return cls(**{**content, **known})

    def to_json(self) -> dict[str, Any]:
        """Returns the journal as JSON values."""
        content = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        arrays, parameters = entries_to_json(self.arrays), entries_to_json(self.parameters)
        settings = dataclasses.asdict(self.settings)
        return {**content, "settings": settings, "arrays": arrays, "parameters": parameters}

    def head(self) -> dict[str, Mapping[str, Any]]:
        """Returns what must be equal when a build is resumed."""
        return {"settings": dataclasses.asdict(self.settings), "origin": self.origin}


def first_difference(there: Mapping[str, Mapping[str, Any]], given: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Returns the first setting in which two builds differ, with both values, or None if they agree."""
    for part in given:
        for name in {**there[part], **given[part]}:
            one, other = there[part].get(name), given[part].get(name)
            if one != other:
                return f"{name}={one!r}, not {other!r}"
    return None
