"""DocumentEncoder: from documents to batches of token vectors."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from more_itertools import chunked
from tqdm.auto import tqdm

from pyterrier_jacolbert.building.documents import BATCH_DOCUMENTS, Document, Documents, read_documents
from pyterrier_jacolbert.columns import DOC_EMBS
from pyterrier_jacolbert.index.builder import Builder
from pyterrier_jacolbert.index.encoded_batch import EncodedBatch
from pyterrier_jacolbert.index.journal import BuildSettings
from pyterrier_jacolbert.index.limits import MAX_TEXT_BYTES
from pyterrier_jacolbert.index.storage.manifest import Manifest, ReadingSettings
from pyterrier_jacolbert.model import JaColBERT

#: Settings of the training of a codec, which are recorded with it.
TRAINING_SETTINGS = ("n_centroids", "sample_tokens")


@dataclass(frozen=True)
class DocumentEncoder:
    """Reads documents and encodes them in batches.

    Attributes:
        model: the checkpoint; None if there is none, for documents that bring their vectors.
        settings: how documents are read and what is stored of them.
        batch_documents: number of documents that are encoded and written together.
        verbose: whether to show progress bars.
        pooled: whether the vectors that documents bring are pooled already, as those of an index are.
        index: path and manifest of the index that the documents are added to; None builds a new one.
    """

    model: JaColBERT | None
    settings: ReadingSettings = ReadingSettings()
    batch_documents: int = BATCH_DOCUMENTS
    verbose: bool = False
    pooled: bool = False
    index: tuple[Path, Manifest] | None = None

    def adding_to(self, path: Path, manifest: Manifest, asked: BuildSettings | None = None) -> DocumentEncoder:
        """Returns an encoder that reads and encodes documents as those of an index were read and encoded.

        Args:
            path: of the index.
            manifest: of the index.
            asked: settings of the build that were asked for; None asks for the defaults.

        Raises:
            ValueError: a setting of this encoder is neither the default nor that of the index.
        """
        recorded = {"compression": manifest.compression, **asdict(manifest.settings)}
        if manifest.training is not None:
            recorded |= {name: getattr(manifest.training, name) for name in TRAINING_SETTINGS}
        defaults = {**asdict(BuildSettings()), **asdict(ReadingSettings())}
        whole = {**asdict(asked or BuildSettings()), **asdict(self.settings)}
        for name in recorded:
            if (given := whole[name]) not in (defaults[name], recorded[name]):
                raise ValueError(
                    f"The index {path} was built with {name}={recorded[name]!r}, not {given!r}; leave {name} out, so "
                    "that documents are added like those of the index, or build a new index."
                )
        model = recorded_model(manifest) if self.model is None else self.model
        return replace(self, model=model, settings=manifest.settings, index=(path, manifest))

    def read(self, docs: Documents, first: int = 0) -> Iterator[Document]:
        """Reads documents and checks each.

        Args:
            docs: see :func:`~pyterrier_jacolbert.building.documents.read_documents`.
            first: position of the first document, for messages.

        Returns:
            The documents in order.
        """
        return read_documents(
            docs,
            text_field=self.settings.text_field,
            title_field=self.settings.title_field,
            vectors_field=DOC_EMBS,
            keep_text=self.settings.store_text,
            first=first,
            first_batch=self.batch_documents,
        )

    def encode(self, documents: Sequence[Document], progress: Callable[[int], object] = lambda _: None) -> EncodedBatch:
        """Encodes a batch of documents. Documents with ``doc_embs`` keep their vectors.

        Args:
            documents: the batch.
            progress: called with numbers of documents as they are done.

        Returns:
            The documents with their vectors.
        """
        return EncodedBatch(
            [document.docno for document in documents],
            [document.digest() for document in documents],
            self._vectors(documents, progress),
            [_compress(document.docno, document.text) for document in documents] if self.settings.store_text else [],
        )

    def model_settings(self) -> dict[str, Any] | None:
        """Returns what a manifest records of the checkpoint, or None if the checkpoint has not encoded anything."""
        # A model that was never loaded says nothing about vectors that the documents brought.
        return self.model.settings() if self.model is not None and self.model.loaded else None

    def origin(self) -> dict[str, Any]:
        """Returns the settings that decide the vectors, and must be equal when a build is resumed."""
        model = self.model
        return {
            **asdict(self.settings),
            "model": model.model if model is not None and isinstance(model.model, str) else None,
            "batch_documents": self.batch_documents,
            **{
                name: getattr(model, name, None)
                for name in ("revision", "max_document_length", "truncate_dim", "dtype")
            },
        }

    def encode_into(self, builder: Builder, documents: Iterable[Document], total: int | None) -> None:
        """Adds documents to a build. Documents that the build has already are compared and not encoded again.

        Args:
            builder: the build.
            documents: all documents, from the first.
            total: number of documents, for the progress bar; None if it is not known.

        Raises:
            ValueError: the build has more documents than are given, or others.
        """
        with tqdm(desc="indexing", unit=" documents", total=total, disable=not self.verbose) as bar:
            position = 0
            for batch in chunked(documents, self.batch_documents):
                known = batch[: max(0, builder.documents - position)]
                for number, document in enumerate(known, start=position):
                    builder.check(number, document.docno, document.digest())
                bar.update(len(known))
                if len(known) < len(batch):
                    # In a function of its own, so that the vectors are freed before those of the next batch exist.
                    self._encode_to(builder, batch[len(known) :], bar.update)
                position += len(batch)
        if position < builder.documents:
            raise ValueError(
                f"There are {position} documents, and the interrupted build encoded {builder.documents}; give the same "
                "documents, or start again with mode='overwrite'."
            )

    def _encode_to(self, builder: Builder, documents: Sequence[Document], progress: Callable[[int], object]) -> None:
        encoded = self.encode(documents, progress)
        builder.add(encoded, self.model_settings())  # after encoding, which loads the model

    def _checked_model(self, docno: str) -> JaColBERT:
        """Returns the checkpoint, which must be that of the index, to encode a document.

        Raises:
            ValueError: there is none, or another checkpoint encoded the documents of the index.
        """
        if self.model is None:
            owner = "" if self.index is None else f"The index {self.index[0]} records no checkpoint with a name, so "
            raise ValueError(
                f"{owner or 'There is no checkpoint, so '}document {docno!r} cannot be encoded; open the index with "
                "model=..., or give documents with doc_embs."
            )
        if self.index is not None and self.index[1].model is not None:
            check_checkpoint(*self.index, self.model)
        return self.model

    def _vectors(self, documents: Sequence[Document], progress: Callable[[int], object]) -> Sequence[np.ndarray]:
        """Returns the token vectors of documents: given ones, and those of the encoded text of the others."""
        vectors: list[Any] = [document.vectors for document in documents]
        to_encode = [number for number, rows in enumerate(vectors) if rows is None]
        if to_encode:
            model = self._checked_model(documents[to_encode[0]].docno)
            encoded = model.encode_documents([documents[number].text for number in to_encode], progress)
            for number, rows in zip(to_encode, encoded, strict=True):
                vectors[number] = rows
        progress(len(documents) - len(to_encode))
        factor = self.settings.pool_factor
        if factor is None:
            return vectors
        pooled = [self.pooled and document.vectors is not None for document in documents]
        return [rows if done else _pool(rows, factor) for rows, done in zip(vectors, pooled, strict=True)]


def recorded_model(manifest: Manifest) -> JaColBERT | None:
    """Returns the checkpoint that an index records; None if it records none that has a name."""
    settings = dict(manifest.model or {})
    settings.pop("fingerprint", None)
    return None if settings.get("model") is None else JaColBERT(**settings)


def _compress(docno: str, text: str) -> bytes:
    """Compresses the text of a document.

    Raises:
        ValueError: it is longer than an index stores.
    """
    content = text.encode("utf-8")
    if len(content) > MAX_TEXT_BYTES:
        raise ValueError(
            f"The text of document {docno!r} has {len(content):,} bytes, and an index stores at most "
            f"{MAX_TEXT_BYTES:,} of each; split it into passages, or leave out store_text."
        )
    return zlib.compress(content)


def check_checkpoint(path: Path, manifest: Manifest, model: JaColBERT) -> None:
    """Checks that a checkpoint encodes documents as those of an index were encoded. Loads the checkpoint.

    Args:
        path: of the index, for messages.
        manifest: of the index, whose documents a checkpoint encoded.
        model: the checkpoint.

    Raises:
        ValueError: it has other weights, or reads or keeps another length.
    """
    recorded = dict(manifest.model or {})
    fingerprint = recorded.get("fingerprint")
    name = f"the checkpoint {recorded.get('model') or '(without a name)'}"
    remedy = "give the checkpoint that built it, or build a new index."
    if fingerprint not in (None, model.fingerprint):
        raise ValueError(
            f"The index {path} was built with {name} ({fingerprint[:12]}), and {model!r} ({model.fingerprint[:12]}) "
            f"has other weights; {remedy}"
        )
    if model.dim != manifest.dim:
        raise ValueError(
            f"{model!r} encodes vectors of {model.dim} dimensions and the index {path} stores {manifest.dim}; {remedy}"
        )
    there, given = recorded.get("max_document_length"), model.max_document_length
    if model.encoder.document_limit(there) != model.encoder.document_limit(given):
        raise ValueError(
            f"The index {path} was built with max_document_length={there!r}, not {given!r}; give {name} the former, or "
            "build a new index."
        )


def _pool(rows: np.ndarray, factor: float) -> np.ndarray:
    """Pools the vectors of a document by a factor; a document without vectors stays without."""
    import torch
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    pooled: np.ndarray = (
        HierarchicalTokenPooling(factor).pool([torch.from_numpy(rows)])[0].numpy() if len(rows) else rows
    )
    return pooled
