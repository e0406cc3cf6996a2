"""The common part of indexes of token vectors: checkpoint, open files, deletion and statistics."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pyterrier_jacolbert.artifacts.base import DirectoryArtifact, OpenFiles
from pyterrier_jacolbert.artifacts.factories import PipelineFactories
from pyterrier_jacolbert.building.documents import Documents
from pyterrier_jacolbert.building.encoding import DocumentEncoder, recorded_model
from pyterrier_jacolbert.columns import DOC_EMBS, DOCNO
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.sharded_reader import open_reader
from pyterrier_jacolbert.index.storage.directory import giving_back, read_consistently, sweep, writing
from pyterrier_jacolbert.index.storage.docnos import Docnos
from pyterrier_jacolbert.index.storage.manifest import MULTI_VECTOR, Manifest
from pyterrier_jacolbert.index.updates import delete
from pyterrier_jacolbert.model import JaColBERT, as_model

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder


def trained_on(manifest: Manifest) -> dict[str, Any] | str | None:
    """Returns what the codec of an index was trained on; see :meth:`MultiVectorIndex.stats`."""
    training = manifest.training
    if training is None:
        return "unknown" if manifest.parameters else None
    if not training.sample and not manifest.parameters:
        return None
    return {name: getattr(training, name) for name in ("tokens", "sample", "error", "error_now")}


class MultiVectorIndex(DirectoryArtifact, PipelineFactories):
    """An index of token vectors: :class:`JaColBERTIndex`, or :class:`ShardedIndex`.

    Args:
        path: the directory; None creates a temporary one.
        model: encodes queries; None takes the checkpoint that the index records.
    """

    ARTIFACT_TYPE = MULTI_VECTOR

    def __init__(
        self, path: str | Path | None = None, model: JaColBERT | str | MultiVectorEncoder | None = None
    ) -> None:
        super().__init__(path)
        self._model = None if model is None else as_model(model)
        self._recorded_model: JaColBERT | None = None
        self._files: OpenFiles[IndexReader] = OpenFiles()

    @property
    def model(self) -> JaColBERT:
        """Checkpoint that encodes queries.

        Raises:
            ValueError: no checkpoint was given, and the index was built with a model object, which has no name.
        """
        if self._model is not None:
            return self._model
        if self._recorded_model is None:
            self._recorded_model = recorded_model(self.manifest())
            if self._recorded_model is None:
                raise ValueError(
                    f"{self!r} was built without a named checkpoint, so it cannot encode queries by itself; open it "
                    f"with {type(self).__name__}(path, model=...), or give frames with query_embs."
                )
        return self._recorded_model

    def manifest(self) -> Manifest:
        """Reads the manifest.

        Returns:
            The manifest of the index, typed; :meth:`meta` returns it as JSON values.

        Raises:
            FileNotFoundError: there is no index at the path.
            ValueError: the manifest is damaged, belongs to an artifact of another kind, or has another format version.
        """
        return Manifest.read(self.path, self.ARTIFACT_FORMAT)

    def _check_meta(self, meta: Mapping[str, Any]) -> None:
        Manifest.from_json(meta)

    def verify(self) -> None:
        """Reads every file and compares it with its checksums; then makes every check of opening and searching.

        Raises:
            ValueError: files are damaged; the message names them with the byte ranges.
            BlockingIOError: another process changes the index faster than it can be read.
        """
        super().verify()
        read_consistently(self.manifest, lambda manifest: open_reader(self.path, manifest).check_tokens())

    def encode_queries(self, texts: list[str]) -> list[np.ndarray]:
        """Encodes queries with the checkpoint of the index.

        Warns if the checkpoint is not the one that encoded the documents.

        Args:
            texts: queries.

        Returns:
            float32 ``(n_positions, dim)`` for each query.

        Raises:
            ValueError: the vectors of the checkpoint have other dimensions than those of the index.
        """
        manifest = self.manifest()
        if self.model.dim != manifest.dim:
            raise ValueError(
                f"{self.model!r} encodes vectors of {self.model.dim} dimensions and {self!r} stores {manifest.dim}; "
                "open the index with the checkpoint that built it."
            )
        recorded = manifest.model or {}
        fingerprint = recorded.get("fingerprint")
        if fingerprint is not None and fingerprint != self.model.fingerprint:
            warnings.warn(
                f"{self!r} was built with the checkpoint {recorded['model']!r} ({fingerprint[:12]}), and queries are "
                f"encoded with {self.model!r} ({self.model.fingerprint[:12]}), which has other weights, so scores are "
                "meaningless; open the index with the checkpoint that built it.",
                stacklevel=2,
            )
        return self.model.encode_queries(texts)

    def delete(self, docnos: Sequence[str]) -> Self:
        """Deletes documents: no transformer of this object finds or scores them any more.

        Their vectors stay in the files until the index is compacted or merged. Objects that have the index open keep
        the state that they opened.

        Args:
            docnos: of documents in the index.

        Returns:
            This index.

        Raises:
            ValueError: the index does not have one of the documents; nothing is deleted then.
            BlockingIOError: another process is writing to the index.
        """
        with writing(self.path), giving_back(self.path, self.manifest):
            manifest = self.manifest()
            sweep(self.path, manifest)  # first, so that a full disk has space
            delete(self.path, open_reader(self.path, manifest), docnos, repr(self))
        return self._reopen()

    @abstractmethod
    def append(self, docs: Documents, *, batch_documents: int = 2048, verbose: bool = False) -> Self:
        """Appends documents."""

    @abstractmethod
    def compact(self) -> Self:
        """Rewrites the files without the deleted documents."""

    def stats(self) -> dict[str, Any]:
        """Summarises the index.

        Returns:
            ``documents``, ``deleted``, ``tokens``, ``dim``, ``compression``, ``trained_on``, ``bytes_per_token`` over
            all files, the checkpoint (``model``), and the settings. ``trained_on`` is None if the codec has nothing to
            train, ``"unknown"`` if an earlier release trained it, and otherwise holds the number of ``tokens`` that the
            index had then, the size of the ``sample`` of them, the mean squared ``error`` of a vector then, and with
            the vectors that were appended since, ``error_now``.
        """
        return self._stats(self.manifest())

    def _stats(self, manifest: Manifest) -> dict[str, Any]:
        """Returns the statistics of the index in one of its states."""
        return {
            "documents": manifest.documents - manifest.deleted,
            "deleted": manifest.deleted,
            "tokens": manifest.tokens,
            "dim": manifest.dim,
            "compression": manifest.compression,
            "trained_on": trained_on(manifest),
            "bytes_per_token": _size_of(self.path) / max(1, manifest.tokens),
            "model": manifest.model,
            "settings": dataclasses.asdict(manifest.settings),
        }

    def index_inputs(self) -> list[list[str]]:
        """Returns the columns that :meth:`index` takes."""
        return [[DOCNO, "text"], [DOCNO, DOC_EMBS]]

    def __len__(self) -> int:
        manifest = self.manifest()
        return manifest.documents - manifest.deleted

    def docnos(self) -> Docnos:
        """Returns the docnos by docid.

        Returns:
            A sequence over mapped files, with look-ups both ways.
        """
        return self.token_vectors().docnos

    def token_vectors(self) -> IndexReader:
        """Opens the index, or returns the open one.

        Returns:
            A reader of token vectors by docid, decompressed on demand.
        """
        return self._files.open(lambda: read_consistently(self.manifest, functools.partial(open_reader, self.path)))

    def _document_encoder(self, batch_documents: int, verbose: bool) -> DocumentEncoder:
        """Returns an encoder for more documents, whose other settings are those of the index."""
        named = self._model is not None or (self.manifest().model or {}).get("model") is not None
        return DocumentEncoder(self.model if named else None, batch_documents=batch_documents, verbose=verbose)

    def _reopen(self) -> Self:
        """Drops the open files, so that the next access in any thread sees the current ones."""
        self._files.drop()
        return self

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self._model == other._model  # type: ignore[attr-defined]

    __hash__ = DirectoryArtifact.__hash__


def _size_of(directory: Path) -> int:
    """Returns the bytes of all files in a folder, except those that a writer removes meanwhile."""
    size = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += (Path(folder) / name).stat().st_size
    return size
