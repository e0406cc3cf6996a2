"""The manifest of an index, ``pt_meta.json``: it names every file of the index and how much of each counts.

PyTerrier reads the first fields to find the class of an artifact. A manifest is checked once, where it is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from pyterrier_jacolbert._version import __version__
from pyterrier_jacolbert.index.storage.atomic import META_FILE, json_digest, read_json

PACKAGE = "pyterrier-jacolbert"
FORMAT_VERSION = 1
#: Artifact types and formats.
MULTI_VECTOR, SINGLE, SHARDED = "multivec_index", "jacolbert", "jacolbert_shards"


@dataclass(frozen=True)
class ArrayEntry:
    """An array in a file.

    Attributes:
        file: name of the file, relative to the index.
        dtype: as numpy writes it, little-endian.
        shape: of the rows that count; the file may be longer.
        rest: checksum, in hexadecimal, of what follows the last whole block; "" if nothing does.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]
    rest: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads an entry."""
        return cls(value["file"], value["dtype"], tuple(value["shape"]), value["rest"])

    def to_json(self) -> dict[str, Any]:
        """Returns the entry as JSON values."""
        return {"file": self.file, "dtype": self.dtype, "shape": list(self.shape), "rest": self.rest}

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that count."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


#: The files of an index by the name of their content.
Entries = Mapping[str, ArrayEntry]


def entries_from_json(value: Mapping[str, Any]) -> dict[str, ArrayEntry]:
    """Reads the entries of several arrays by name."""
    return {name: ArrayEntry.from_json(entry) for name, entry in value.items()}


def entries_to_json(entries: Entries) -> dict[str, Any]:
    """Returns the entries of several arrays as JSON values."""
    return {name: entry.to_json() for name, entry in entries.items()}


@dataclass(frozen=True)
class ShardEntry:
    """A shard of a sharded index.

    Attributes:
        folder: of the shard, relative to the index.
        documents: number of documents.
        tokens: number of token vectors.
        digest: checksum of the shard's own manifest.
    """

    folder: str
    documents: int
    tokens: int
    digest: str


@dataclass(frozen=True)
class ReadingSettings:
    """Settings that documents were read and stored with.

    Attributes:
        text_field: field with the text.
        title_field: field put before the text; None if there is none.
        store_text: whether the text is stored.
        pool_factor: token pooling factor; None if nothing was pooled.
    """

    text_field: str = "text"
    title_field: str | None = None
    store_text: bool = False
    pool_factor: float | None = None


@dataclass(frozen=True)
class Manifest:
    """The manifest of an index of token vectors, single or sharded.

    Attributes:
        model: settings and fingerprint of the checkpoint that encoded the documents; None if the documents brought
            their vectors.
        settings: how documents were read.
        compression: one of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`.
        documents: number of documents, deleted ones included.
        tokens: number of token vectors.
        dim: dimensions of a vector.
        parameters: names of the files with the parameters of the codec.
        files: entries of the files by name.
        generation: number of this state of the index; each change adds one.
        shards: of a sharded index.
        package_version: release that wrote the manifest.
    """

    model: Mapping[str, Any] | None
    settings: ReadingSettings
    compression: str
    documents: int
    tokens: int
    dim: int
    parameters: tuple[str, ...]
    files: Entries
    generation: int = 1
    shards: tuple[ShardEntry, ...] = ()
    package_version: str = __version__
    format: str = field(default=SINGLE)

    @classmethod
    def read(cls, directory: Path, *formats: str) -> Self:
        """Reads the manifest of an index.

        Args:
            directory: of the index.
            *formats: allowed formats; none allows single and sharded indexes.

        Raises:
            FileNotFoundError: there is no index.
            ValueError: the manifest is damaged, belongs to an artifact of another kind, or has another format version.
            OSError: the file cannot be read.
        """
        content = read_meta(directory)
        check_kind(directory, content, MULTI_VECTOR, formats or (SINGLE, SHARDED))
        try:
            return cls.from_json(content)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{directory / META_FILE} is damaged ({error!r} is missing or of the wrong type); build or fetch the "
                "index again."
            ) from None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Reads a manifest from JSON values."""
        files = entries_from_json(content["files"])
        return cls(
            model=content["model"],
            settings=ReadingSettings(**content["settings"]),
            compression=str(content["compression"]),
            documents=int(content["documents"]),
            tokens=int(content["tokens"]),
            dim=int(content["dim"]),
            parameters=tuple(content["parameters"]),
            files=files,
            generation=max(int(content.get("generation", 1)), _generation_of_names(files)),
            shards=tuple(ShardEntry(**shard) for shard in content.get("shards", ())),
            package_version=str(content["package_version"]),
            format=str(content["format"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the manifest as JSON values, header first."""
        shards = {"shards": [_as_dict(shard) for shard in self.shards]} if self.format == SHARDED else {}
        return {
            **header(MULTI_VECTOR, self.format, self.package_version),
            "generation": self.generation,
            "model": None if self.model is None else dict(self.model),
            "settings": _as_dict(self.settings),
            "compression": self.compression,
            "documents": self.documents,
            "tokens": self.tokens,
            "dim": self.dim,
            "parameters": list(self.parameters),
            **shards,
            "files": entries_to_json(self.files),
        }

    def following(self, **changes: Any) -> Self:
        """Returns the manifest of the next state of the index, with some attributes replaced."""
        return replace(self, generation=self.generation + 1, package_version=__version__, **changes)

    @property
    def deleted(self) -> int:
        """Number of deleted documents."""
        return self.files["deleted"].shape[0] if "deleted" in self.files else 0


def header(artifact_type: str, artifact_format: str, package_version: str = __version__) -> dict[str, Any]:
    """Returns the fields that begin every manifest."""
    return {
        "type": artifact_type,
        "format": artifact_format,
        "package_hint": PACKAGE,
        "format_version": FORMAT_VERSION,
        "package_version": package_version,
    }


def read_meta(directory: Path) -> dict[str, Any]:
    """Reads ``pt_meta.json`` as JSON values.

    Raises:
        FileNotFoundError: there is no index in the directory.
        ValueError: the content is not what was written.
        OSError: the file cannot be read.
    """
    try:
        content = read_json(directory / META_FILE)
    except OSError as error:
        raise type(error)(
            error.errno, f"Cannot read the index at {directory} ({error.strerror}); check its permissions"
        ) from None
    if content is None:
        raise FileNotFoundError(f"There is no index at {directory}; build one there with .index(docs).")
    return content


def manifest_digest(directory: Path) -> str:
    """Returns the checksum of a manifest as it is on disk, by which a sharded index recognises its shards.

    Raises:
        FileNotFoundError, ValueError, OSError: as :func:`read_meta`.
    """
    return json_digest(read_meta(directory))


def check_kind(directory: Path, content: Mapping[str, Any], artifact_type: str, formats: Sequence[str]) -> None:
    """Checks the kind and the format version of an artifact.

    Raises:
        ValueError: it is an artifact of another kind, or has a format version that this release does not read.
    """
    if content.get("type") != artifact_type or content.get("format") not in formats:
        raise ValueError(
            f"{directory} holds a {content.get('type')}.{content.get('format')} artifact, not a "
            f"{artifact_type}.{formats[0]}; open it with pt.Artifact.load."
        )
    if content.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{directory} has format version {content.get('format_version')}, of {PACKAGE} "
            f"{content.get('package_version')}, and {PACKAGE} {__version__} reads version {FORMAT_VERSION}; install "
            "the former, or build the index again."
        )


def _as_dict(record: Any) -> dict[str, Any]:
    return {part.name: getattr(record, part.name) for part in fields(record)}


def _generation_of_names(files: Entries) -> int:
    """Returns the greatest generation in the names of files: ``data-FOLDER/NAME`` or ``data-FOLDER/TABLE.NAME``.

    The first releases record no generation, and leave a recorded one as it is; both numbers only grow.
    """
    numbers = [1]
    for entry in files.values():
        folder, _, name = entry.file.partition("/")
        numbers += [int(part) for part in (folder.removeprefix("data-"), name.partition(".")[0]) if part.isdigit()]
    return max(numbers)
