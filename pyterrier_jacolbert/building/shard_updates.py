"""Updates of a sharded index: append a shard, replace one, compact."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from more_itertools import chunked

from pyterrier_jacolbert.building.documents import Document, Documents
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.building.shard_manifest import publish_shards, sweep_shards
from pyterrier_jacolbert.building.single import check_new
from pyterrier_jacolbert.index.builder import Builder
from pyterrier_jacolbert.index.codecs.training import TrainedCodec
from pyterrier_jacolbert.index.journal import BuildSettings
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.retraining import copy_with_codec, train_shards_again
from pyterrier_jacolbert.index.sharded_reader import ShardedIndexReader
from pyterrier_jacolbert.index.storage.arrays import write_array
from pyterrier_jacolbert.index.storage.directory import new_folder, next_folder, publish, sweep, writing
from pyterrier_jacolbert.index.storage.manifest import Manifest, Training
from pyterrier_jacolbert.index.updates import copy_documents

#: Documents whose docnos are looked up at once.
_LOOKED_UP_DOCUMENTS = 4096


def append_shard(path: Path, docs: Documents, encoder: DocumentEncoder) -> None:
    """Appends documents to a sharded index, as a new shard.

    Args:
        path: of the index.
        docs: none of which the index has.
        encoder: reads and encodes them.

    Raises:
        ValueError: the index has a document already, or a document cannot be indexed.
        BlockingIOError: another process is writing to the index.
    """
    with _updating(path) as reader:
        manifest = reader.manifest
        encoder = encoder.adding_to(path, manifest)
        folders = [shard.folder for shard in manifest.shards]
        folders.append(_build_shard(path, docs, encoder, reader, range(0)))
        folders, training = _fit_codec(path, folders, len(folders) - 1, manifest)
        generation, deleted = manifest.generation + 1, manifest.files.get("deleted")
        data_folder = new_folder(path, manifest)
        publish_shards(path, folders, data_folder, generation=generation, deleted=deleted, training=training)


def replace_shard(path: Path, number: int, docs: Documents, encoder: DocumentEncoder) -> None:
    """Replaces the documents of a shard.

    Args:
        path: of the index.
        number: of the shard, from 0.
        docs: none of which the other shards have.
        encoder: reads and encodes them.

    Raises:
        IndexError: there is no such shard.
        ValueError, BlockingIOError: as in :func:`append_shard`.
    """
    with _updating(path) as reader:
        manifest = reader.manifest
        folders = [shard.folder for shard in manifest.shards]
        if not 0 <= number < len(folders):
            raise IndexError(f"The index {path} has no shard {number}; give a number from 0 to {len(folders) - 1}.")
        encoder = encoder.adding_to(path, manifest)
        first, end = reader.bounds[number : number + 2].tolist()
        folders[number] = _build_shard(path, docs, encoder, reader, range(first, end))
        data_folder = new_folder(path, manifest)
        (path / data_folder).mkdir(exist_ok=True)
        new_documents = Manifest.read(path / folders[number]).documents
        deleted = _deleted_after(reader.deleted, first, end, new_documents)
        entry = write_array(path, f"{data_folder}/deleted.u4", deleted) if len(deleted) else None
        folders, training = _fit_codec(path, folders, number, manifest)
        generation = manifest.generation + 1
        publish_shards(path, folders, data_folder, generation=generation, deleted=entry, training=training)


def compact_shards(path: Path) -> None:
    """Rewrites the shards that have deleted documents without them.

    Args:
        path: of the index.

    Raises:
        BlockingIOError: another process is writing to the index.
    """
    with _updating(path) as reader:
        manifest = reader.manifest
        folders = [shard.folder for shard in manifest.shards]
        for number, view in enumerate(reader.shard_views()):
            if len(view.deleted):
                folders[number] = _new_shard_folder(path, folders[0])
                directory = path / folders[number]
                with writing(directory):
                    copied = copy_documents([view], directory, next_folder(None))
                    publish(directory, copied.manifest_of(view.manifest))
        generation = manifest.generation + 1
        data_folder = new_folder(path, manifest)
        publish_shards(path, folders, data_folder, generation=generation, training=manifest.training)


def _fit_codec(path: Path, folders: list[str], number: int, manifest: Manifest) -> tuple[list[str], Training | None]:
    """Compresses all shards again if they have outgrown their codec.

    Args:
        path: of the index.
        folders: of the shards, relative to the index.
        number: of the shard that was added, from 0.
        manifest: of the index before.

    Returns:
        The folders of the shards, new ones if they were compressed again, and the training of their codec.
    """
    if manifest.training is None:
        return folders, None
    readers = [IndexReader.open(path / folder) for folder in folders]
    codec = train_shards_again(readers, number, manifest.training)
    if codec.parameters is readers[0].parameters:
        return folders, codec.training
    new_folders = []
    for reader in readers:
        new_folders.append(_new_shard_folder(path, folders[0]))
        directory = path / new_folders[-1]
        with writing(directory):
            codes = copy_with_codec(reader, directory, next_folder(None), codec)
            copied = replace(
                reader.manifest,
                generation=1,
                parameters=codes.parameters,
                files=codes.files,
                training=codes.training,
            )
            publish(directory, copied)
    return new_folders, codec.training


@contextlib.contextmanager
def _updating(path: Path) -> Iterator[ShardedIndexReader]:
    """Opens a sharded index as its only writer; if the block fails, what it has written is removed."""
    with writing(path):
        reader = _open_swept(path)
        try:
            yield reader
        except BaseException:
            with contextlib.suppress(OSError, ValueError):  # the next writer sweeps
                _open_swept(path)
            raise


def _open_swept(path: Path) -> ShardedIndexReader:
    """Opens a sharded index after removing what killed writers left behind."""
    reader = ShardedIndexReader.open(path)
    sweep(path, reader.manifest)
    sweep_shards(path, reader.manifest)
    return reader


def _new_shard_folder(path: Path, sibling: str) -> str:
    """Returns an unused folder for a shard, beside another."""
    parent = (path / sibling).parent
    highest = max(int(folder.name) for folder in parent.glob("[0-9]*") if folder.name.isdecimal())
    return (parent / f"{highest + 1:04}").relative_to(path).as_posix()


def _build_shard(
    path: Path, docs: Documents, encoder: DocumentEncoder, reader: ShardedIndexReader, replaced: range
) -> str:
    """Builds a shard with the codec of the index.

    Args:
        path: of the index.
        docs: may have the docnos of replaced documents.
        encoder: reads and encodes them.
        reader: of the index.
        replaced: docids of documents that the shard replaces.

    Returns:
        The folder of the shard, relative to the index.
    """
    manifest = reader.manifest
    folder = _new_shard_folder(path, manifest.shards[0].folder)
    directory = path / folder
    settings = BuildSettings(compression=manifest.compression, store_text=manifest.settings.store_text)
    try:
        with writing(directory):
            builder = Builder(directory, next_folder(None), settings, encoder.origin())
            try:
                encoder.encode_into(builder, _new_documents(path, encoder.read(docs), reader, replaced), None)
                if builder.dim != manifest.dim:
                    raise ValueError(
                        f"The new documents have vectors of {builder.dim} dimensions and the index {path} stores "
                        f"{manifest.dim}; encode them with the checkpoint that built it."
                    )
                finished = builder.finish(
                    codec=TrainedCodec(manifest.compression, reader.parameters, manifest.training)
                )
            finally:
                builder.close()
            publish(directory, finished.manifest(manifest.settings, generation=1, model=manifest.model))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return folder


def _new_documents(
    path: Path, documents: Iterator[Document], reader: ShardedIndexReader, replaced: range
) -> Iterator[Document]:
    """Yields documents after checking that the index does not have them."""
    for some in chunked(documents, _LOOKED_UP_DOCUMENTS):
        check_new(some, reader.docnos, path, replaced)
        yield from some


def _deleted_after(deleted: np.ndarray, first: int, end: int, new_documents: int) -> np.ndarray:
    """Returns the deleted docids after the documents from ``first`` to ``end`` were replaced: uint32, ascending."""
    docids = deleted.astype(np.int64)
    later = docids[docids >= end] + new_documents - (end - first)
    return np.concatenate([docids[docids < first], later]).astype(np.uint32)
