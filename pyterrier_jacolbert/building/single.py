"""Builds a single index, and appends to one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

from more_itertools import chunked
from tqdm.auto import tqdm

from pyterrier_jacolbert.building.documents import Document, Documents
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.building.finished import check_finished
from pyterrier_jacolbert.index.builder import Builder, FinishedBuild
from pyterrier_jacolbert.index.journal import BuildSettings
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.storage.directory import (
    check_mode,
    current_manifest,
    discard_folder,
    giving_back,
    interrupted_build,
    next_folder,
    publish,
    remove_if_empty,
    sweep,
    writing,
)
from pyterrier_jacolbert.index.storage.docnos import Docnos
from pyterrier_jacolbert.index.storage.manifest import SINGLE, Manifest
from pyterrier_jacolbert.index.updates import Appender


def build_index(
    path: Path,
    docs: Documents,
    encoder: DocumentEncoder,
    settings: BuildSettings,
    *,
    mode: str = "create",
    model: Mapping[str, Any] | None = None,
) -> None:
    """Builds an index at a path.

    Args:
        path: of the index.
        docs: the documents.
        encoder: reads and encodes them.
        settings: of the build.
        mode: one of :data:`~pyterrier_jacolbert.index.storage.directory.MODES`; see :func:`append_to_index`.
        model: settings and fingerprint of the checkpoint, for documents that bring their vectors; None takes those of
            the encoder.

    Raises:
        FileExistsError, FileNotFoundError: the mode does not allow what is at the path.
        ValueError: a document cannot be indexed, or is not the one of the interrupted build.
        BlockingIOError: another process is writing to the index.
    """
    if mode == "append":
        append_to_index(path, docs, encoder, settings)
        return
    total = len(docs) if isinstance(docs, Sized) else None
    build_documents(path, encoder.read(docs), encoder, settings, mode=mode, model=model, total=total)


def build_documents(
    path: Path,
    documents: Iterable[Document],
    encoder: DocumentEncoder,
    settings: BuildSettings,
    *,
    mode: str = "create",
    model: Mapping[str, Any] | None = None,
    total: int | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Builds an index of documents that are read already; see :func:`build_index`.

    Args:
        path: of the index.
        documents: as the encoder reads them.
        encoder: encodes them.
        settings: of the build.
        mode: see :func:`build_index`; not ``"append"``.
        model: see :func:`build_index`.
        total: number of documents, for the progress bar; None if it is not known.
        origin: of documents that come from other indexes; must be equal when the build is resumed.
    """
    with writing(path):
        manifest = current_manifest(path, SINGLE)
        interrupted = interrupted_build(path, manifest)
        check_mode(mode, path, manifest, interrupted)
        sweep(path, manifest)
        if mode == "resume" and manifest is not None and not interrupted:
            check_finished(path, IndexReader(path, manifest), documents, encoder, settings)
        else:
            if interrupted and mode != "resume":
                discard_folder(path, interrupted)
                interrupted = None
            builder = Builder(
                path, interrupted or next_folder(manifest), settings, {**encoder.origin(), **(origin or {})}
            )
            again = "mode='resume'" if origin is None else "the same merge"
            finished = _build(path, builder, documents, encoder, total, again)
            generation = 1 if manifest is None else manifest.generation + 1
            publish(path, finished.manifest(encoder.settings, generation=generation, model=model))


def append_to_index(
    path: Path, docs: Documents, encoder: DocumentEncoder, settings: BuildSettings | None = None
) -> None:
    """Appends documents to an index, read and encoded like those that it has.

    Args:
        path: of the index.
        docs: none of which the index has.
        encoder: with the settings that were given; those of the index take the place of defaults.
        settings: of the build that were given; None stands for the defaults.

    Raises:
        FileNotFoundError: there is no index.
        ValueError: the index has a document already, a document cannot be indexed, or a given setting or the checkpoint
            is not that of the index.
        BlockingIOError: another process is writing to the index.
    """
    with writing(path):
        manifest = current_manifest(path, SINGLE)
        check_mode("append", path, manifest, None)
        assert manifest is not None
        sweep(path, manifest)
        encoder = encoder.adding_to(path, manifest, settings)
        with giving_back(path, lambda: Manifest.read(path, SINGLE)):
            append_documents(path, manifest, encoder.read(docs), encoder)


def append_documents(path: Path, manifest: Manifest, documents: Iterable[Document], encoder: DocumentEncoder) -> None:
    """Appends documents to an index whose only writer this process is.

    Args:
        path: of the index.
        manifest: of the index.
        documents: none of which the index has.
        encoder: encodes them.

    Raises:
        ValueError: the index has a document already, or a document cannot be indexed.
    """
    docnos = IndexReader(path, manifest).docnos
    appender = Appender(path, manifest)
    try:
        with tqdm(desc="appending", unit=" documents", disable=not encoder.verbose) as bar:
            for batch in chunked(documents, encoder.batch_documents):
                check_new(batch, docnos, path)
                appender.add(encoder.encode(batch, bar.update))
        appender.finish()
    finally:
        appender.close()


def check_new(documents: Iterable[Document], docnos: Docnos, path: Path, replaced: range = range(0)) -> None:
    """Checks that an index has none of the given documents.

    Args:
        documents: to be added.
        docnos: of the index.
        path: of the index, for the message.
        replaced: docids of documents that are about to be replaced.

    Raises:
        ValueError: the index has one of them.
    """
    documents = list(documents)
    docids = docnos.docids([document.docno for document in documents])
    for document, docid in zip(documents, docids.tolist(), strict=True):
        if docid >= 0 and docid not in replaced:
            raise ValueError(
                f"The index {path} already has a document {document.docno!r}; delete it first, or leave this one out."
            )


def _build(
    path: Path,
    builder: Builder,
    documents: Iterable[Document],
    encoder: DocumentEncoder,
    total: int | None,
    again: str,
) -> FinishedBuild:
    """Encodes the documents and finishes the build, which is not published yet."""
    try:
        encoder.encode_into(builder, documents, total)
        with tqdm(unit=" tokens", disable=not encoder.verbose) as bar:
            return builder.finish(_show_in(bar))
    except BaseException as error:
        builder.close()
        if builder.documents:
            error.add_note(f"{builder.documents} documents are encoded in {path}; {again} continues from there.")
        else:
            discard_folder(path, builder.path.name)
            remove_if_empty(path)
        raise


def _show_in(bar: tqdm) -> Callable[[str, int, int], object]:
    """Returns a callback that shows steps of a build in a progress bar."""

    def show(step: str, done: int, total: int) -> None:
        bar.set_description(step)
        bar.total = total
        bar.update(done - bar.n)

    return show
