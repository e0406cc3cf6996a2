"""The manifest of an index, ``pt_meta.json``: it names every file of the index and how much of each counts.

PyTerrier reads the first fields to find the class of an artifact. A manifest may come from anyone: the type of every
field and the names of all files are checked once, where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from pyterrier_jacolbert._version import __version__
from pyterrier_jacolbert.index.limits import COMPRESSIONS, MAX_DIM, MAX_DOCUMENTS, MAX_TEXT_BYTES
from pyterrier_jacolbert.index.storage.atomic import META_FILE, json_digest, read_json
from pyterrier_jacolbert.index.storage.entries import ArrayEntry as ArrayEntry
from pyterrier_jacolbert.index.storage.entries import Entries as Entries
from pyterrier_jacolbert.index.storage.entries import entries_from_json as entries_from_json
from pyterrier_jacolbert.index.storage.entries import entries_to_json as entries_to_json
from pyterrier_jacolbert.index.storage.fields import FieldError, Fields
from pyterrier_jacolbert.index.storage.layout import Sizes, check_sharded_layout, check_single_layout
from pyterrier_jacolbert.index.storage.records import ReadingSettings as ReadingSettings
from pyterrier_jacolbert.index.storage.records import ShardEntry as ShardEntry
from pyterrier_jacolbert.index.storage.records import Training as Training
from pyterrier_jacolbert.index.storage.records import check_recorded_model as check_recorded_model

PACKAGE = "pyterrier-jacolbert"
FORMAT_VERSION = 1
#: Artifact types and formats.
MULTI_VECTOR, SINGLE, SHARDED = "multivec_index", "jacolbert", "jacolbert_shards"
#: Greatest number of a state, which has 15 digits in names.
MAX_GENERATION = 10**15 - 1
_Value = TypeVar("_Value")


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
        training: of the codec; None for float16, which has nothing to train, and if it is not known.
        shards: of a sharded index.
        max_text_bytes: most bytes of a stored text.
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
    training: Training | None = None
    shards: tuple[ShardEntry, ...] = ()
    max_text_bytes: int = MAX_TEXT_BYTES
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
        return read_typed(directory / META_FILE, cls.from_json, content)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Reads a manifest from JSON values.

        Raises:
            FieldError: a field is missing, has another type or is out of its range.
        """
        given = Fields.of(content)
        files = entries_from_json(given.object("files").content)
        if flat := [entry.file for entry in files.values() if "/" not in entry.file]:
            raise FieldError(f"files names {flat[0]!r}, which is in no folder")
        settings = given.object("settings", [part.name for part in fields(ReadingSettings)])
        model = given.optional(given.object, "model")
        sharded = given.choice("format", (SINGLE, SHARDED)) == SHARDED
        shard_entries = given.items("shards") if sharded else []
        shards = [ShardEntry.from_json(shard, f"shards.{number}") for number, shard in enumerate(shard_entries)]
        if len({shard.folder for shard in shards}) != max(sharded, len(shards)):
            raise FieldError("shards names a folder twice, or none")
        generation = given.optional(lambda name: given.whole(name, least=1, most=MAX_GENERATION), "generation") or 1
        generation = max(generation, _generation_of_names(files))
        if generation > MAX_GENERATION:
            raise FieldError(f"files names a generation above {MAX_GENERATION}")
        manifest = cls(
            model=None if model is None else check_recorded_model(model),
            settings=ReadingSettings.from_fields(settings),
            compression=given.choice("compression", COMPRESSIONS),
            documents=given.whole("documents", most=MAX_DOCUMENTS),
            tokens=given.whole("tokens"),
            dim=given.whole("dim", least=1, most=MAX_DIM),
            parameters=given.texts("parameters"),
            files=files,
            generation=generation,
            training=given.optional(lambda name: Training.from_fields(given.object(name)), "training"),
            shards=tuple(shards),
            max_text_bytes=given.optional(lambda name: given.whole(name, 1, MAX_TEXT_BYTES), "max_text_bytes")
            or MAX_TEXT_BYTES,
            package_version=given.text("package_version"),
            format=SHARDED if sharded else SINGLE,
        )
        if manifest.training is not None and manifest.compression == "float16":
            raise FieldError("training is given, and float16 has nothing to train")
        if "raw" in files and (manifest.training is None or manifest.compression == "int8"):
            raise FieldError("files has the array 'raw', which only an index has that trains its codec again")
        sizes = Sizes(manifest.compression, manifest.dim, manifest.documents, manifest.tokens)
        if sharded:
            check_sharded_layout(files, sizes)
            for name in ("documents", "tokens"):
                if sum(getattr(shard, name) for shard in shards) != getattr(manifest, name):
                    raise FieldError(f"{name} is not the sum of the shards'")
        else:
            check_single_layout(files, sizes, manifest.parameters, store_text=manifest.settings.store_text)
        return manifest

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
            "training": None if self.training is None else _as_dict(self.training),
            **shards,
            **({"max_text_bytes": self.max_text_bytes} if self.settings.store_text else {}),
            "files": entries_to_json(self.files),
        }

    def following(self, **changes: Any) -> Self:
        """Returns the manifest of the next state of the index, with some attributes replaced."""
        return replace(self, generation=self.generation + 1, package_version=__version__, **changes)

    @property
    def deleted(self) -> int:
        """Number of deleted documents."""
        return self.files["deleted"].shape[0] if "deleted" in self.files else 0


def read_typed(path: Path, read: Callable[[Any], _Value], content: object) -> _Value:
    """Returns what a typed reader makes of the content of a JSON file of an index.

    Args:
        path: of the file, for the message.
        read: raises :class:`~pyterrier_jacolbert.index.storage.fields.FieldError` for a field that is not as it must
            be.
        content: JSON values.

    Raises:
        ValueError: it does; the message names the field.
    """
    try:
        return read(content)
    except FieldError as error:
        raise ValueError(f"{path} is damaged ({error}); build or fetch the index again.") from None


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
    named = content.get("format")
    if content.get("type") != artifact_type or not isinstance(named, str) or named not in formats:
        raise ValueError(
            f"{directory} holds a {str(content.get('type'))[:60]}.{str(named)[:60]} artifact, not a "
            f"{artifact_type}.{formats[0]}; open it with pt.Artifact.load."
        )
    version, release = (content.get(name) for name in ("format_version", "package_version"))
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ValueError(
            f"{directory} has format version {str(version)[:60]}, of {PACKAGE} {str(release)[:60]}, and {PACKAGE} "
            f"{__version__} reads version {FORMAT_VERSION}; install the former, or build the index again."
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
