"""Builds a sharded index: batches of documents are encoded on workers, assembled, trained on together, and compressed.

Documents come in batches, in order; a fixed number of batches is a shard. Any free worker encodes a batch and leaves it
in a folder beside the shards; when all batches of a shard are there, they become its build. When all documents are
encoded, the codec is trained on a sample of all, each shard is compressed with it, and a manifest makes the shards an
index. Nothing on disk is computed twice, and every step takes effect whole or not at all; so whatever is killed,
``mode="resume"`` continues, and the bytes do not depend on which worker did what.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sized
from pathlib import Path

from pyterrier_jacolbert.building.documents import Documents
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.building.executors import Executor
from pyterrier_jacolbert.building.finished import check_finished
from pyterrier_jacolbert.building.shard_encoding import ShardedEncoding
from pyterrier_jacolbert.building.shard_manifest import sweep_shards
from pyterrier_jacolbert.building.sharded_build import ShardedBuild, discard_build
from pyterrier_jacolbert.index.journal import BuildSettings
from pyterrier_jacolbert.index.sharded_reader import ShardedIndexReader
from pyterrier_jacolbert.index.storage.directory import (
    check_mode,
    current_manifest,
    interrupted_build,
    next_folder,
    remove_if_empty,
    sweep,
    writing,
)
from pyterrier_jacolbert.index.storage.manifest import SHARDED


def build_sharded(
    path: Path,
    docs: Documents,
    encoder: DocumentEncoder,
    settings: BuildSettings,
    executor: Executor,
    *,
    mode: str = "create",
) -> None:
    """Builds a sharded index at a path.

    Args:
        path: of the index.
        docs: the documents.
        encoder: reads and encodes them.
        settings: of the build.
        executor: runs the work.
        mode: one of :data:`~pyterrier_jacolbert.index.storage.directory.MODES` except ``"append"``.

    Raises:
        FileExistsError: the mode does not allow what is at the path.
        ValueError: the mode is ``"append"``, or a document cannot be indexed or is not the one of the interrupted
            build.
        BlockingIOError: another process is writing to the index.
    """
    if mode == "append":
        raise ValueError("mode='append' takes no executor; add documents with ShardedIndex.append.")
    documents = encoder.read(docs)
    with writing(path):
        manifest = current_manifest(path, SHARDED)
        interrupted = interrupted_build(path, manifest)
        check_mode(mode, path, manifest, interrupted)
        sweep(path, manifest)
        if manifest is not None:
            sweep_shards(path, manifest)
        if mode == "resume" and manifest is not None and not interrupted:
            check_finished(path, ShardedIndexReader.of_manifest(path, manifest), documents, encoder, settings)
            return
        if interrupted and mode != "resume":
            discard_build(path, interrupted)
            interrupted = None
        origin = {**encoder.origin(), "documents_per_shard": executor.documents_per_shard}
        head = {"settings": dataclasses.asdict(settings), "origin": origin}
        build = ShardedBuild(path, interrupted or next_folder(manifest), head)
        try:
            encoding = ShardedEncoding(build.shards, encoder, settings, executor)
            if build.journal["shards"] is None:
                total = len(docs) if isinstance(docs, Sized) else None
                build.save(shards=encoding.run(documents, total))
            else:
                build.check(encoding.read(documents))
            generation = 1 if manifest is None else manifest.generation + 1
            build.finish(executor, generation=generation, verbose=encoder.verbose)
        except BaseException as error:
            if any(build.shards.glob("*/*")):
                error.add_note(f"What is encoded in {path} is kept; mode='resume' continues from there.")
            else:
                discard_build(path, build.folder)
                remove_if_empty(path)
            raise
