"""Publishes a sharded index: its manifest names the shards, and other shards are swept away."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pyterrier_jacolbert.index.limits import MAX_DOCUMENTS
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.sharded_reader import ShardedIndexReader, concatenated_docnos
from pyterrier_jacolbert.index.storage.directory import JOURNAL_FILE, publish
from pyterrier_jacolbert.index.storage.docnos import write_docno_tables
from pyterrier_jacolbert.index.storage.files import is_folder, remove
from pyterrier_jacolbert.index.storage.manifest import (
    SHARDED,
    ArrayEntry,
    Manifest,
    ShardEntry,
    Training,
    manifest_digest,
)


def shards_folder(data_folder: str) -> str:
    """Returns the folder of the shards that are built together with a folder ``data-N``."""
    return data_folder.replace("data", "shards")


def shard_folder(directory: Path, number: int) -> Path:
    """Returns the folder of a shard. Numbers start from 0, names from 1."""
    return directory / f"{number + 1:04}"


def publish_shards(
    path: Path,
    folders: Sequence[str],
    data_folder: str,
    *,
    generation: int,
    deleted: ArrayEntry | None = None,
    training: Training | None = None,
) -> None:
    """Makes shards the index, in one step, and removes shards that are no longer part of it.

    Args:
        path: of the index, whose only writer this process is.
        folders: of the shards, relative to the index.
        data_folder: folder in the index for the tables that look up and rank docnos.
        generation: of the index.
        deleted: entry of the file with deleted docids; None if no document is deleted.
        training: of the codec; None takes what the first shard records.

    Raises:
        ValueError: a docno is repeated, or there are too many documents.
    """
    readers = [IndexReader.open(path / folder) for folder in folders]
    manifests = [reader.manifest for reader in readers]
    documents = sum(manifest.documents for manifest in manifests)
    if documents > MAX_DOCUMENTS:
        raise ValueError(f"An index holds at most {MAX_DOCUMENTS} documents; split the collection.")
    (path / data_folder).mkdir(exist_ok=True)
    files = write_docno_tables(path, f"{data_folder}/", *concatenated_docnos(readers))
    if deleted is not None:
        files["deleted"] = deleted
    shards = [
        ShardEntry(folder, manifest.documents, manifest.tokens, manifest_digest(path / folder))
        for folder, manifest in zip(folders, manifests, strict=True)
    ]
    manifest = Manifest(
        model=manifests[0].model,
        settings=manifests[0].settings,
        compression=manifests[0].compression,
        documents=documents,
        tokens=sum(manifest.tokens for manifest in manifests),
        dim=manifests[0].dim,
        parameters=manifests[0].parameters,
        files=files,
        generation=generation,
        training=training or manifests[0].training,
        shards=tuple(shards),
        format=SHARDED,
    )
    _check_docnos(path, folders, ShardedIndexReader(path, manifest, readers))
    publish(path, manifest)
    sweep_shards(path, manifest)


def sweep_shards(path: Path, manifest: Manifest) -> None:
    """Removes shards that the manifest does not name, except those of an interrupted build; of links, only the link."""
    named = {path / shard.folder for shard in manifest.shards}
    for generation in path.glob("shards-*"):
        if generation.is_symlink():
            generation.unlink()
        if not is_folder(generation):
            continue
        journal = path / generation.name.replace("shards", "data") / JOURNAL_FILE
        if journal.is_file():
            continue
        for folder in [*generation.glob("*"), *generation.glob(".*")]:
            if folder not in named:
                with contextlib.suppress(OSError):
                    remove(folder)
        if not any(generation.iterdir()):
            generation.rmdir()


def _check_docnos(path: Path, folders: Sequence[str], reader: ShardedIndexReader) -> None:
    """Checks that no two shards have a document with the same docno.

    Raises:
        ValueError: two shards do.
    """
    repeated = reader.docnos.repeated()
    if repeated is None:
        return
    one, other = (folders[int(np.searchsorted(reader.bounds, docid, side="right")) - 1] for docid in repeated)
    raise ValueError(
        f"{path / one} and {path / other} both have a document {reader.docnos[repeated[0]]!r}; rename or drop one of "
        "the two, and build again."
    )
