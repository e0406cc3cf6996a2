"""Merges indexes into one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.building.documents import Document
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.building.single import build_documents
from pyterrier_jacolbert.columns import DOC_EMBS, DOCNO
from pyterrier_jacolbert.index.journal import BuildSettings, Journal
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.sharded_reader import ShardedIndexReader, open_reader
from pyterrier_jacolbert.index.storage.atomic import json_digest, read_json
from pyterrier_jacolbert.index.storage.directory import (
    JOURNAL_FILE,
    begin_folder,
    check_mode,
    discard_folder,
    interrupted_build,
    is_built,
    next_folder,
    publish,
    remove_if_empty,
    sweep,
    writing,
)
from pyterrier_jacolbert.index.storage.manifest import Manifest
from pyterrier_jacolbert.index.updates import copy_documents

#: Documents whose docnos are looked up at once.
_LOOKED_UP_DOCUMENTS = 4096
#: Field of a journal with the digests of the manifests of the merged indexes.
_MERGED = "merged"
#: What must be equal in the manifests of merged indexes.
_COMMON = ("compression", "dim", "model", "settings")


def merge_indexes(paths: Sequence[Path], out: Path) -> None:
    """Merges indexes, in order and without their deleted documents.

    Compressed vectors are copied. If residual codecs were trained on different samples, vectors are compressed again
    with a codec for all documents, trained with the settings of the first index: those that small indexes keep, and
    decompressed ones of larger indexes. An interrupted merge is simply run again.

    Args:
        paths: of indexes, single or sharded, with the same compression, dimensions and checkpoint.
        out: path of the new index, which must not exist.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: the indexes differ in their settings, or two of them have the same docno.
    """
    if is_built(out):
        raise FileExistsError(f"{out} already exists; choose another path.")
    readers = [open_reader(path) for path in paths]
    _check_settings(paths, readers)
    _check_docnos(paths, readers)
    parts = [part for reader in readers for part in _parts(reader)]
    first = readers[0].manifest
    settings = BuildSettings(compression=first.compression, store_text=first.settings.store_text)
    if (training := first.training) is not None:
        settings = dataclasses.replace(
            settings, n_centroids=training.n_centroids, sample_tokens=training.sample_tokens, seed=training.seed
        )
    origin = {_MERGED: [json_digest(reader.manifest.to_json()) for reader in readers]}
    if all(_equal_arrays(part.parameters, parts[0].parameters) for part in parts[1:]):
        _discard_interrupted(out, None)
        _copy(parts, first, out, Journal(settings, origin))
        return
    encoder = DocumentEncoder(None, first.settings, pooled=True)
    mode = "resume" if _discard_interrupted(out, origin) else "create"
    documents = _documents(readers, encoder)
    build_documents(out, documents, encoder, settings, mode=mode, model=first.model, origin=origin)


def _discard_interrupted(out: Path, origin: Mapping[str, Any] | None) -> bool:
    """Removes what an interrupted merge left, unless it can be resumed.

    Args:
        out: path of the new index.
        origin: of a merge that can be resumed; None resumes none.

    Returns:
        Whether there is one to resume.
    """
    folder = interrupted_build(out, None) if out.is_dir() else None
    content = None if folder is None else read_json(out / folder / JOURNAL_FILE)
    there = (content or {}).get("origin")
    if folder is None or not isinstance(there, dict) or _MERGED not in there:
        return False
    if origin is not None and there[_MERGED] == origin[_MERGED] and "model" in there:  # a copy has no such origin
        return True
    with writing(out):
        discard_folder(out, folder)
    return False


def _copy(parts: Sequence[IndexReader], first: Manifest, out: Path, journal: Journal) -> None:
    """Copies the documents of indexes with a common codec to a new index, which has the settings of the first."""
    with writing(out):
        check_mode("create", out, None, interrupted_build(out, None))
        sweep(out, None)
        folder = next_folder(None)
        begin_folder(out, folder, journal.to_json())
        try:
            copied = copy_documents(parts, out, folder)
        except BaseException:
            discard_folder(out, folder)
            remove_if_empty(out)
            raise
        manifest = Manifest(
            model=first.model,
            settings=first.settings,
            compression=first.compression,
            documents=copied.documents,
            tokens=copied.tokens,
            dim=first.dim,
            parameters=tuple(sorted(parts[0].parameters)),
            training=first.training,
            files=copied.files,
        )
        publish(out, manifest)


def _parts(reader: IndexReader) -> list[IndexReader]:
    return reader.shard_views() if isinstance(reader, ShardedIndexReader) else [reader]


def _equal_arrays(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> bool:
    return some.keys() == others.keys() and all(np.array_equal(some[name], others[name]) for name in some)


def _check_settings(paths: Sequence[Path], readers: Sequence[IndexReader]) -> None:
    """Checks that indexes were built with the same settings.

    Raises:
        ValueError: two differ.
    """
    for path, reader in zip(paths, readers, strict=True):
        for name in _COMMON:
            own, first = getattr(reader.manifest, name), getattr(readers[0].manifest, name)
            if own != first:
                raise ValueError(
                    f"The index {path} has {name}={own!r} and {paths[0]} has {first!r}; merge indexes that were built "
                    "with the same settings."
                )


def _check_docnos(paths: Sequence[Path], readers: Sequence[IndexReader]) -> None:
    """Checks that no two indexes have a document with the same docno.

    Raises:
        ValueError: two do.
    """
    for number, reader in enumerate(readers):
        present = reader.present_docids()
        for some in np.array_split(present, max(1, len(present) // _LOOKED_UP_DOCUMENTS)):
            docnos = [reader.docnos[docid] for docid in some]
            for path, other in zip(paths[:number], readers[:number], strict=True):
                repeated = np.flatnonzero(other.docnos.docids(docnos) >= 0)
                if len(repeated):
                    raise ValueError(
                        f"The indexes {path} and {paths[number]} both have a document {docnos[repeated[0]]!r}; delete "
                        "it in one of them."
                    )


def _documents(readers: Sequence[IndexReader], encoder: DocumentEncoder) -> Iterator[Document]:
    """Yields the documents of indexes with the digests that they recorded."""
    digests = itertools.chain.from_iterable(reader.digests[reader.present_docids()].tolist() for reader in readers)
    for document, digest in zip(encoder.read(_records(readers)), digests, strict=True):
        yield dataclasses.replace(document, known_digest=digest)


def _records(readers: Sequence[IndexReader]) -> Iterator[dict[str, Any]]:
    """Yields the documents of indexes with their vectors and stored texts, as an indexer takes them."""
    for reader in readers:
        settings = reader.manifest.settings
        for docid in reader.present_docids().tolist():
            text = {settings.text_field: reader.text(docid)} if settings.store_text else {}
            yield {DOCNO: reader.docnos[docid], DOC_EMBS: reader.original_rows(docid), **text}
