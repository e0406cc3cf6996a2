"""Builds a BM25 index in one pass: all files in a new folder, then the manifest that names them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from pyterrier_jacolbert.building.documents import Document, Documents, read_documents
from pyterrier_jacolbert.index.storage.atomic import disk_space_for, read_json
from pyterrier_jacolbert.index.storage.blocks import check_saved, seal_file, sums_file
from pyterrier_jacolbert.index.storage.bm25_manifest import BM25, BM25S_FILES, SPARSE, BM25Manifest, BM25Settings
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
from pyterrier_jacolbert.index.storage.docnos import write_docnos
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry
from pyterrier_jacolbert.japanese.words import tokenize, tokenizer_metadata

if TYPE_CHECKING:
    import bm25s

#: What to do with a path that may exist. A build is one pass, so there is nothing to resume.
BM25_MODES = ("create", "overwrite")
_DOCNO_FILES = ("docno_bytes.u1", "docno_starts.i8", "docno_hashes.u8", "docno_by_hash.u4", "docno_ranks.u4")
#: Files that the first releases wrote to the folder of the index itself.
_FLAT_FILES = [name for file in (*BM25S_FILES.values(), *_DOCNO_FILES) for name in (file, sums_file(file))]


def build_bm25(
    path: Path, docs: Documents, settings: BM25Settings, *, mode: str = "create", verbose: bool = False
) -> None:
    """Builds a BM25 index at a path. What a killed build left there is removed first.

    Args:
        path: of the index.
        docs: the documents.
        settings: of the build.
        mode: one of :data:`BM25_MODES`.
        verbose: whether to show progress bars.

    Raises:
        FileExistsError: the mode does not allow what is at the path.
        ValueError: a document cannot be indexed, or there are none; the mode is unknown; or the path holds an index of
            another kind, or a damaged one.
        BlockingIOError: another process is writing to the index.
        OSError: the path cannot be written, or the disk is full.
    """
    if mode not in BM25_MODES:
        raise ValueError(f"mode must be 'create' or 'overwrite', not {mode!r}.")
    documents = read_documents(docs, text_field=settings.text_field, title_field=settings.title_field)
    if path.is_dir():
        _check_mode(path, mode)  # before a file is written to a folder that is no index
    with writing(path):
        manifest, interrupted = _check_mode(path, mode)
        if interrupted is not None:
            discard_folder(path, interrupted)
        _sweep(path, manifest)
        try:
            docnos, model = _index_words(documents, settings, verbose)
            files = _write(path, next_folder(manifest), docnos, model)
            generation = 1 if manifest is None else manifest.generation + 1
            tokenizer = tokenizer_metadata(settings.analyzer)
            following = BM25Manifest(len(docnos), settings, tokenizer, files, generation)
            publish(path, following)
        except BaseException:
            _discard_unpublished(path)
            raise
        _sweep(path, following)


def _check_mode(path: Path, mode: str) -> tuple[BM25Manifest | None, str | None]:
    """Checks that a mode allows what is at a path.

    Returns:
        The manifest of the index there, if there is one, and the folder of a killed build, if there is one.
    """
    manifest = BM25Manifest.read(path) if is_built(path) else None
    interrupted = interrupted_build(path, manifest)
    if interrupted is not None and (read_json(path / interrupted / JOURNAL_FILE) or {}).get("format") != BM25:
        raise FileExistsError(
            f"{path} holds an interrupted build of another kind of index; choose another path, or remove the folder."
        )
    killed = manifest is None and interrupted is not None
    check_mode("overwrite" if killed else mode, path, manifest, interrupted)
    return manifest, interrupted


def _index_words(documents: Iterable[Document], settings: BM25Settings, verbose: bool) -> tuple[list[str], bm25s.BM25]:
    """Splits documents into words and computes the score of each word in each document."""
    import bm25s

    docnos: list[str] = []
    vocabulary: dict[str, int] = {}
    token_ids: list[array[int]] = []
    for document in tqdm(documents, desc="tokenizing", unit=" documents", disable=not verbose):
        words = tokenize(document.text, settings.analyzer, settings.normalize)
        docnos.append(document.docno)
        token_ids.append(array("i", [vocabulary.setdefault(word, len(vocabulary)) for word in words]))
    model = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene")
    # A collection without words has a mean length of 0, by which bm25s divides.
    with np.errstate(invalid="ignore"):
        model.index((token_ids, vocabulary), create_empty_token=False, show_progress=verbose)
    return docnos, model


def _write(path: Path, folder: str, docnos: list[str], model: bm25s.BM25) -> dict[str, ArrayEntry]:
    """Writes the files of an index to a new folder and returns their entries by name."""
    # The journal marks the folder as an unfinished build until the manifest names its files.
    begin_folder(path, folder, {"type": SPARSE, "format": BM25})
    arrays = {BM25S_FILES[f"{name}_name"]: model.scores[name] for name in ("data", "indices", "indptr")}
    words = sum(len(word.encode("utf-8")) for word in model.vocab_dict)
    with disk_space_for(path, sum(array.nbytes for array in arrays.values()) + words):
        model.save(path / folder, show_progress=False, **BM25S_FILES)
        for name, values in arrays.items():
            check_saved(path / folder / name, values)
        files = {name: seal_file(path, f"{folder}/{name}") for name in BM25S_FILES.values()}
    return files | write_docnos(path, docnos, f"{folder}/")


def _sweep(path: Path, manifest: BM25Manifest | None) -> None:
    """Removes files of earlier builds that the manifest does not name; files of other origin stay."""
    sweep(path, manifest)
    if manifest is not None and all("/" in entry.file for entry in manifest.files.values()):
        for name in _FLAT_FILES:
            if not (path / name).is_dir():
                (path / name).unlink(missing_ok=True)


def _discard_unpublished(path: Path) -> None:
    """Removes the folder of a failed build, unless the manifest already names it, and the path if nothing is there."""
    manifest = BM25Manifest.read(path) if is_built(path) else None
    if (folder := interrupted_build(path, manifest)) is not None:
        discard_folder(path, folder)
    if manifest is None:
        remove_if_empty(path)
