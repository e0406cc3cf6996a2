"""The journal of a build: its settings and how far it is, so that an interrupted build can be resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pyterrier_jacolbert.index.codecs.training import CodecSettings
from pyterrier_jacolbert.index.limits import COMPRESSIONS, MAX_DIM, MAX_DOCUMENTS
from pyterrier_jacolbert.index.storage.atomic import read_json
from pyterrier_jacolbert.index.storage.directory import JOURNAL_FILE
from pyterrier_jacolbert.index.storage.fields import Fields
from pyterrier_jacolbert.index.storage.files import check_folders
from pyterrier_jacolbert.index.storage.manifest import (
    ArrayEntry,
    Training,
    check_recorded_model,
    entries_from_json,
    entries_to_json,
    read_typed,
)


@dataclass(frozen=True)
class BuildSettings(CodecSettings):
    """Settings that, with the documents and their vectors, decide the bytes of an index.

    Attributes:
        store_text: whether to store the text of documents.
    """

    store_text: bool = False

    @classmethod
    def from_fields(cls, given: Fields) -> Self:
        """Reads settings of a build.

        Raises:
            FieldError: a field is missing, unknown, has another type or is out of its range.
        """
        Fields.of(given.content, given.place, [part.name for part in dataclasses.fields(cls)])
        return cls(
            compression=given.choice("compression", ("auto", *COMPRESSIONS)),
            n_centroids=given.optional(lambda name: given.whole(name, least=1), "n_centroids"),
            sample_tokens=given.whole("sample_tokens", least=1),
            seed=given.whole("seed"),
            store_text=given.flag("store_text"),
        )


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
        training: what it was trained on; None before training, and if nothing is trained.
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
    training: Training | None = None
    model: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, directory: Path, folder: str) -> Self | None:
        """Reads the journal of a build; returns None if there is none.

        Args:
            directory: of the index.
            folder: of the build, within the directory.

        Raises:
            ValueError: the journal is damaged.
        """
        check_folders(directory, f"{folder}/{JOURNAL_FILE}")
        path = directory / folder / JOURNAL_FILE
        content = read_json(path)
        return None if content is None else read_typed(path, cls.from_json, content)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Reads a journal from JSON values.

        Raises:
            FieldError: a field is missing, has another type or is out of its range.
        """
        given = Fields.of(content, known=[part.name for part in dataclasses.fields(cls)])
        model = given.optional(given.object, "model")
        return cls(
            settings=BuildSettings.from_fields(given.object("settings")),
            origin=given.object("origin").content,
            documents=given.whole("documents", most=MAX_DOCUMENTS),
            encoded=given.flag("encoded"),
            dim=given.optional(lambda name: given.whole(name, least=1, most=MAX_DIM), "dim"),
            arrays=entries_from_json(given.object("arrays").content, "arrays"),
            compression=given.optional(lambda name: given.choice(name, COMPRESSIONS), "compression"),
            parameters=entries_from_json(given.object("parameters").content, "parameters"),
            training=given.optional(lambda name: Training.from_fields(given.object(name)), "training"),
            model=None if model is None else check_recorded_model(model),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the journal as JSON values."""
        content = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        arrays, parameters = entries_to_json(self.arrays), entries_to_json(self.parameters)
        settings = dataclasses.asdict(self.settings)
        training = None if self.training is None else dataclasses.asdict(self.training)
        return {**content, "settings": settings, "arrays": arrays, "parameters": parameters, "training": training}

    def head(self) -> dict[str, Mapping[str, Any]]:
        """Returns what must be equal when a build is resumed."""
        return {"settings": dataclasses.asdict(self.settings), "origin": self.origin}


def check_document(position: int, docno: str, digest: int, known: tuple[str, int], owner: str) -> None:
    """Checks that a document is the one that a build or an index has at its position.

    Args:
        position: of the document.
        docno: of the document.
        digest: of the document.
        known: docno and digest at the position; the digest is 0 if it is not known, and only docnos are compared then.
        owner: has the known document; for the message.

    Raises:
        ValueError: it is another document.
    """
    if (digest if known[1] else docno) == (known[1] or known[0]):
        return
    found = "one with the same docno but other content" if known[0] == docno else f"{known[0]!r}"
    raise ValueError(
        f"The document at position {position}, {docno!r}, is not the one that {owner} has there, {found}; give the "
        "same documents in the same order, or start again with mode='overwrite'."
    )


def first_difference(there: Mapping[str, Mapping[str, Any]], given: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Returns the first setting in which two builds differ, with both values, or None if they agree."""
    for part in given:
        for name in {**there[part], **given[part]}:
            one, other = there[part].get(name), given[part].get(name)
            if one != other:
                return f"{name}={one!r}, not {other!r}"
    return None
