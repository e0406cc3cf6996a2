"""Encodes batches of documents on workers, and assembles shards from them.

Each encoded batch is a small build in a folder of its own, until all batches of a shard are there.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyterrier_jacolbert.building.documents import Document
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.index.builder import Builder
from pyterrier_jacolbert.index.journal import BuildSettings
from pyterrier_jacolbert.index.storage.atomic import replacing_directory
from pyterrier_jacolbert.index.storage.directory import sweep, writing

#: Folder of the build within a batch or a shard.
BUILD_FOLDER = "data-1"


@dataclass(frozen=True)
class DocumentBatch:
    """Documents that are encoded together.

    Attributes:
        number: of the batch, from 0.
        documents: in order.
    """

    number: int
    documents: list[Document]


@dataclass(frozen=True)
class BatchEncoder:
    """Encodes batches and writes each to a folder.

    Attributes:
        folder: of all encoded batches.
        encoder: encodes the documents.
        settings: of the build.
    """

    folder: Path
    encoder: DocumentEncoder
    settings: BuildSettings

    def __call__(self, batch: DocumentBatch) -> int:
        """Encodes a batch unless it is encoded already, and returns its number."""
        path = batch_folder(self.folder, batch.number)
        if not path.exists():
            try:
                with replacing_directory(path, replace=False) as directory:
                    # "auto" keeps vectors uncompressed until all are there.
                    settings = dataclasses.replace(self.settings, compression="auto")
                    builder = Builder(directory, BUILD_FOLDER, settings, self.encoder.origin())
                    encoded = self.encoder.encode(batch.documents)
                    builder.add(encoded, self.encoder.model_settings())
                    builder.close()
            except OSError:
                # Another worker that was given up for dead may have been first.
                if not path.exists():
                    raise
        return batch.number


def batch_folder(folder: Path, number: int) -> Path:
    """Returns the folder of an encoded batch."""
    return folder / f"{number:08}"


def assemble_shard(directory: Path, batches: list[Path], settings: BuildSettings, origin: Mapping[str, Any]) -> int:
    """Assembles a shard from its encoded batches and removes them.

    Args:
        directory: of the shard.
        batches: folders of the batches, in order.
        settings: of the build of the shard.
        origin: of the build of the shard.

    Returns:
        The number of documents in the shard.
    """
    with writing(directory):
        sweep(directory, None)
        builder = Builder(directory, BUILD_FOLDER, settings, origin)
        position = 0
        for folder in [] if builder.encoded else batches:
            batch = Builder.resume(folder, BUILD_FOLDER)
            if position >= builder.documents:
                builder.add(batch.as_batch(), batch.model)
            position += batch.documents
        builder.stop()
        builder.close()
    for folder in batches:
        shutil.rmtree(folder, ignore_errors=True)
    return builder.documents
