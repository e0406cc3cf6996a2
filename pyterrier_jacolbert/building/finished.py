"""Compares a finished index with the documents and the settings of a build that resumes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from more_itertools import chunked

from pyterrier_jacolbert.building.documents import Document
from pyterrier_jacolbert.building.encoding import TRAINING_SETTINGS, DocumentEncoder, check_checkpoint
from pyterrier_jacolbert.index.codecs.training import auto_compression
from pyterrier_jacolbert.index.journal import BuildSettings, check_document, first_difference
from pyterrier_jacolbert.index.reader import IndexReader

#: Documents that are compared at once.
_COMPARED_DOCUMENTS = 4096


def check_finished(
    path: Path, reader: IndexReader, documents: Iterable[Document], encoder: DocumentEncoder, settings: BuildSettings
) -> None:
    """Checks that an index holds the given documents, in order and with the given settings.

    It does not matter how the index came about: appended documents count, and deleted ones do not. Documents are
    compared by their digests, and by their docnos alone in an index of an earlier version, which has no digests.

    Args:
        path: of the index, for messages.
        reader: of the index.
        documents: all documents.
        encoder: of the build; the checkpoint is loaded to compare its weights if it encoded the documents.
        settings: of the build.

    Raises:
        ValueError: a document or a setting differs.
    """
    manifest = reader.manifest
    compression = settings.compression
    if compression == "auto":
        compression = auto_compression(manifest.tokens)
        if manifest.compression == auto_compression(0):
            compression = manifest.compression  # it may have grown beyond the limit since
    there = {"compression": manifest.compression, **dataclasses.asdict(manifest.settings)}
    given = {"compression": compression, **dataclasses.asdict(encoder.settings)}
    if manifest.training is not None:
        for name in TRAINING_SETTINGS:
            there[name], given[name] = getattr(manifest.training, name), getattr(settings, name)
    if difference := first_difference({"settings": there}, {"settings": given}):
        raise ValueError(
            f"The index {path} was built with {difference}; give the same settings to resume it, or start again with "
            "mode='overwrite'."
        )
    if _check_documents(path, reader, documents) and manifest.model is not None and encoder.model is not None:
        check_checkpoint(path, manifest, encoder.model)


def _check_documents(path: Path, reader: IndexReader, documents: Iterable[Document]) -> bool:
    """Checks that an index holds the given documents, and returns whether any of them is to be encoded.

    Raises:
        ValueError: it holds others.
    """
    present = reader.present_docids()
    position, encoded = 0, False
    for batch in chunked(documents, _COMPARED_DOCUMENTS):
        docids = present[position : position + len(batch)]
        digests = reader.digests[docids].tolist()
        for document, docid, known in zip(batch, docids.tolist(), digests, strict=False):
            encoded = encoded or document.vectors is None
            digest = document.digest()
            if known != digest:
                check_document(
                    position, document.docno, digest, (reader.docnos[docid], known), f"the finished index {path}"
                )
            position += 1
        if len(docids) < len(batch):
            raise ValueError(
                f"The finished index {path} holds {len(present)} documents, and {batch[len(docids)].docno!r} is one "
                "more; add documents with mode='append', or start again with mode='overwrite'."
            )
    if position < len(present):
        raise ValueError(
            f"There are {position} documents, and the finished index {path} holds {len(present)}; give the same "
            "documents, or start again with mode='overwrite'."
        )
    return encoded
