"""The common state of the shards of an index under construction: codec and journal."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from pyterrier_jacolbert.building.batches import BUILD_FOLDER
from pyterrier_jacolbert.building.executors import Executor
from pyterrier_jacolbert.building.shard_manifest import publish_shards, shard_folder, shards_folder
from pyterrier_jacolbert.index.builder import Builder
from pyterrier_jacolbert.index.checks import open_parameters
from pyterrier_jacolbert.index.codecs.training import TrainedCodec, train_codec
from pyterrier_jacolbert.index.journal import BuildSettings, first_difference
from pyterrier_jacolbert.index.limits import COMPRESSIONS, MAX_DOCUMENTS
from pyterrier_jacolbert.index.storage.arrays import write_array
from pyterrier_jacolbert.index.storage.atomic import read_json, replace_json
from pyterrier_jacolbert.index.storage.directory import (
    JOURNAL_FILE,
    begin_folder,
    discard_folder,
    is_built,
    publish,
    sweep,
    writing,
)
from pyterrier_jacolbert.index.storage.fields import FieldError, Fields
from pyterrier_jacolbert.index.storage.files import check_folders, damaged
from pyterrier_jacolbert.index.storage.manifest import (
    ArrayEntry,
    Manifest,
    ReadingSettings,
    Training,
    check_recorded_model,
    entries_from_json,
    entries_to_json,
    read_typed,
)


class ShardedBuild:
    """The common part of the build of shards, with a journal of its own, new or resumed.

    Args:
        path: of the index.
        folder: of the journal, within the index.
        head: settings and origin, which must be equal on resuming; None takes the recorded ones.
        shards: content of the shards, for a new build whose shards are encoded already.

    Attributes:
        folder: of the journal, within the index.
        shards: folder of the shards.
        journal: state of the build: ``shards``, once all documents are encoded, and ``compression``, ``parameters``
            and ``model``, once the codec is trained.
    """

    def __init__(
        self,
        path: Path,
        folder: str,
        head: Mapping[str, Any] | None,
        shards: list[dict[str, Any]] | None = None,
    ) -> None:
        self._path = path
        self.folder = folder
        self.shards = path / shards_folder(folder)
        check_no_links(path, folder, shards_folder(folder))
        file = path / folder / JOURNAL_FILE
        content = read_json(file)
        journal = None if content is None else read_typed(file, _read_journal, content)
        if journal is None:
            journal = {
                **(head or {}),
                "shards": shards,
                "compression": None,
                "parameters": None,
                "training": None,
                "model": None,
            }
            begin_folder(path, folder, journal)
        elif head and (difference := first_difference({key: journal[key] for key in head}, head)):
            raise ValueError(
                f"The interrupted build in {path} was started with {difference}; give the same settings to resume it, "
                "or start again with mode='overwrite'."
            )
        self.journal: dict[str, Any] = journal

    def save(self, **changes: Any) -> None:
        """Writes changes of the state to disk."""
        self.journal |= changes
        replace_json(self._path / self.folder / JOURNAL_FILE, self.journal)

    def check(self, shards: Sequence[Mapping[str, Any]]) -> None:
        """Checks that the documents are those that were encoded.

        Args:
            shards: number and digest of the documents of each shard.

        Raises:
            ValueError: a shard differs.
        """
        for number, (there, now) in enumerate(itertools.zip_longest(self.journal["shards"], shards), start=1):
            if there != now:
                raise ValueError(
                    f"The documents of shard {number} are not those that the interrupted build in {self._path} "
                    "encoded; give the same documents in the same order, or start again with mode='overwrite'."
                )

    def finish(self, executor: Executor, *, generation: int, verbose: bool) -> None:
        """Trains the codec, compresses the shards and publishes the index."""
        folders = [shard_folder(self.shards, number) for number in range(len(self.journal["shards"]))]
        if self.journal["compression"] is None:
            self._train(folders)
        origin = self.journal["origin"]
        journal = self._path / self.folder / JOURNAL_FILE
        reading = read_typed(journal, lambda given: ReadingSettings.from_fields(Fields.of(given, "origin")), origin)
        codec = ShardCodec(
            self._path.absolute(),
            self.journal["compression"],
            entries_from_json(self.journal["parameters"]),
            self.journal["model"],
            reading,
            Fields.of(self.journal).optional(
                lambda name: Training.from_fields(Fields.of(self.journal[name])), "training"
            ),
        )
        waits = [executor.start(compress_shard, folder.absolute(), codec) for folder in folders]
        for wait in tqdm(waits, desc="compressing", unit=" shards", disable=not verbose):
            wait()
        names = [folder.relative_to(self._path).as_posix() for folder in folders]
        publish_shards(self._path, names, self.folder, generation=generation)

    def _train(self, folders: Sequence[Path]) -> None:
        builds = [Builder.resume(folder, BUILD_FOLDER) for folder in folders]
        models = [build.model for build in builds if build.model is not None]
        for model in models:
            if model != models[0]:
                raise ValueError(f"Shards were encoded with {models[0]} and {model}; encode all with one checkpoint.")
        codec = train_codec(builds, builds[0].settings)
        parameters = {
            name: write_array(self._path, f"{self.folder}/{name}", array) for name, array in codec.parameters.items()
        }
        self.save(
            compression=codec.compression,
            parameters=entries_to_json(parameters),
            training=None if codec.training is None else dataclasses.asdict(codec.training),
            model=models[0] if models else None,
        )


def discard_build(path: Path, folder: str) -> None:
    """Removes a build, damaged or not.

    If that is interrupted, the build can be resumed, and encodes its documents again.

    Args:
        path: of the index.
        folder: of the journal, within the index.
    """
    with contextlib.suppress(OSError, ValueError):  # a full disk, which this will help, or a damaged journal
        build = ShardedBuild(path, folder, None)
        if build.journal["shards"] is not None:
            build.save(shards=None, compression=None, parameters=None, model=None)
    for name in (shards_folder(folder), folder):
        discard_folder(path, name)


@dataclasses.dataclass(frozen=True)
class ShardCodec:
    """The codec and the settings that all shards of an index share.

    Attributes:
        directory: of the index, which holds the parameters.
        compression: of the codec.
        parameters: entries of its parameters by name.
        model: settings and fingerprint of the checkpoint.
        settings: how documents were read.
        training: of the codec.
    """

    directory: Path
    compression: str
    parameters: Mapping[str, ArrayEntry]
    model: Mapping[str, Any] | None
    settings: ReadingSettings
    training: Training | None = None


def compress_shard(directory: Path, codec: ShardCodec) -> None:
    """Compresses an encoded shard and makes it an index, unless it is one already.

    Args:
        directory: of the shard.
        codec: of all shards.
    """
    with writing(directory):
        if is_built(directory):
            sweep(directory, Manifest.read(directory))  # a killed process may have left its journal
            return
        builder = Builder.resume(directory, BUILD_FOLDER)
        parameters = open_parameters(codec.directory, codec.parameters, codec.compression, builder.dim or 1)
        finished = builder.finish(codec=TrainedCodec(codec.compression, parameters, codec.training))
        publish(directory, finished.manifest(codec.settings, generation=1, model=codec.model))


def check_no_links(path: Path, *folders: str) -> None:
    """Checks that folders of an index, and all folders in them, are no symbolic links; they may be missing.

    Args:
        path: of the index.
        *folders: relative to it.

    Raises:
        ValueError: one is.
    """
    for folder in folders:
        check_folders(path, f"{folder}/file")
        for part in sorted((path / folder).glob("*")) + sorted((path / folder).glob("*/*")):
            if part.is_symlink():
                raise damaged(part, "is a symbolic link")


def _read_journal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Checks and returns the journal of a build of shards.

    Raises:
        FieldError: a field is missing, has another type or is out of its range.
    """
    known = ("settings", "origin", "shards", "compression", "parameters", "training", "model")
    given = Fields.of(content, known=known)
    BuildSettings.from_fields(given.object("settings"))
    given.object("origin")
    for number, shard in enumerate(given.optional(given.items, "shards") or []):
        fields = Fields.of(shard, f"shards.{number}", ("documents", "digest"))
        fields.whole("documents", most=MAX_DOCUMENTS)
        fields.optional(fields.text, "digest")
    compression = given.optional(lambda name: given.choice(name, COMPRESSIONS), "compression")
    parameters = given.optional(given.object, "parameters")
    entries_from_json({} if parameters is None else parameters.content, "parameters")
    if (compression is None) != (parameters is None):
        raise FieldError("compression and parameters do not belong together")
    given.optional(lambda name: Training.from_fields(given.object(name)), "training")
    model = given.optional(given.object, "model")
    if model is not None:
        check_recorded_model(model)
    return {name: content.get(name) for name in known}
