"""The door to an index: JaColBERTIndexer builds one, JaColBERTIndex opens it and makes retrievers and scorers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyterrier as pt
from tqdm.auto import tqdm

from pyterrier_jacolbert.batches import batched
from pyterrier_jacolbert.directory_artifact import DirectoryArtifact
from pyterrier_jacolbert.documents import Document, read_documents
from pyterrier_jacolbert.frames import DOC_EMBS, DOCNO
from pyterrier_jacolbert.index.store import atomic_directory, map_array, write_meta
from pyterrier_jacolbert.model import DEFAULT_CHECKPOINT, JaColBERT
from pyterrier_jacolbert.transformer import describe

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from pyterrier_jacolbert.index.docnos import Docnos
    from pyterrier_jacolbert.index.search import TokenVectors
    from pyterrier_jacolbert.pipeline.retrievers import ExactRetriever
    from pyterrier_jacolbert.pipeline.scorers import IndexScorer

#: Documents read, encoded and written at a time; their vectors in float32 are the build's memory (about 250 MiB for
#: documents of 120 tokens of 128 numbers).
_BLOCK_DOCUMENTS = 4096


class JaColBERTIndex(DirectoryArtifact):
    """Token vectors of a collection on disk, and the retrievers and scorers that read them.

    Opening is cheap: files are memory-mapped when first read, and the checkpoint is loaded only when a query has to be
    encoded (frames that carry ``query_embs`` need none).

    Args:
        path: the directory; None makes a temporary one to build in, which lives as long as this object.
        model: encodes the queries (and the documents, in :meth:`index`): a :class:`JaColBERT`, a checkpoint's folder
            or name, or a ``MultiVectorEncoder``. None takes the checkpoint that the index records.

    Example:
        >>> index = JaColBERTIndex("wiki.jacolbert")  # doctest: +SKIP
        >>> (index.retriever() % 10).search("日本で一番高い山は？")  # doctest: +SKIP
    """

    ARTIFACT_TYPE = "multivec_index"
    ARTIFACT_FORMAT = "jacolbert"

    def __init__(
        self, path: str | Path | None = None, model: JaColBERT | str | MultiVectorEncoder | None = None
    ) -> None:
        super().__init__(path)
        self._model = None if model is None else as_model(model)
        self._recorded_model: JaColBERT | None = None
        self._open: tuple[TokenVectors, Docnos] | None = None

    @property
    def model(self) -> JaColBERT:
        """The checkpoint that encodes queries.

        Raises:
            ValueError: none was given, and the index was built with a model object, which no file names.
        """
        if self._model is not None:
            return self._model
        if self._recorded_model is None:
            settings = {**(self.meta()["model"] or {})}
            settings.pop("fingerprint", None)
            if settings.get("model") is None:
                raise ValueError(
                    f"{self!r} was built without a named checkpoint, so it cannot encode queries by itself; open it "
                    "with JaColBERTIndex(path, model=...), or give frames with query_embs."
                )
            self._recorded_model = JaColBERT(**settings)
        return self._recorded_model

    def encode_queries(self, texts: list[str]) -> list[np.ndarray]:
        """Token vectors of queries, by the checkpoint of the index: for each float32 ``(n_positions, dim)``.

        Warns where the checkpoint is not the one that encoded the documents.

        Raises:
            ValueError: its vectors have another dimension than the stored ones.
        """
        meta = self.meta()
        if self.model.dim != meta["dim"]:
            raise ValueError(
                f"{self.model!r} makes vectors of {self.model.dim} numbers and {self!r} stores {meta['dim']}; "
                "open the index with the checkpoint it was built with."
            )
        recorded = (meta["model"] or {}).get("fingerprint")
        if recorded is not None and recorded != self.model.fingerprint:
            warnings.warn(
                f"{self!r} was built with other weights than those of {self.model!r}, so its scores mean nothing; "
                "open it with the checkpoint it was built with.",
                stacklevel=2,
            )
        return self.model.encode_queries(texts)

    def retriever(self, *, num_results: int = 1000) -> ExactRetriever:
        """A retriever that scores every document of the index.

        Args:
            num_results: the most documents a query gets.
        """
        from pyterrier_jacolbert.pipeline.retrievers import ExactRetriever

        return ExactRetriever(self, num_results=num_results)

    def scorer(self) -> IndexScorer:
        """A re-ranker that scores the documents of a frame with the stored vectors."""
        from pyterrier_jacolbert.pipeline.scorers import IndexScorer

        return IndexScorer(self)

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, *, mode: str = "create", **settings: Any
    ) -> JaColBERTIndex:
        """Builds the index at this path; see :class:`JaColBERTIndexer`, whose settings it takes."""
        model = self._model if self._model is not None else DEFAULT_CHECKPOINT
        JaColBERTIndexer(self.path, model, mode=mode, **settings).index(docs)
        self._open = None
        return self

    def index_inputs(self) -> list[list[str]]:
        """The columns that :meth:`index` takes."""
        return [[DOCNO, "text"], [DOCNO, DOC_EMBS]]

    def __len__(self) -> int:
        return int(self.meta()["documents"])

    def docnos(self) -> Docnos:
        """The docnos, by docid: a sequence over mapped files, with look-ups both ways."""
        return self._files()[1]

    def token_vectors(self) -> TokenVectors:
        """The stored vectors, memory-mapped: float16 ``(n_tokens, dim)`` and where each document starts."""
        return self._files()[0]

    def _files(self) -> tuple[TokenVectors, Docnos]:
        if self._open is None:
            from pyterrier_jacolbert.index.docnos import Docnos
            from pyterrier_jacolbert.index.search import TokenVectors

            files = self.meta()["files"]
            vectors = TokenVectors(map_array(self.path, files["vectors"]), map_array(self.path, files["starts"]))
            self._open = vectors, Docnos(self.path, files)
        return self._open

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_open": None}

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self._model == other._model  # type: ignore[attr-defined]

    __hash__ = DirectoryArtifact.__hash__


class JaColBERTIndexer(pt.Indexer):
    """Encodes documents and writes a :class:`JaColBERTIndex`, in one pass over any iterable.

    The index appears at the path when it is complete, and not before. A document without text is indexed, and never
    retrieved. Documents that carry ``doc_embs`` (from ``model.doc_encoder()``, say) are stored without encoding.

    Args:
        path: the directory; None makes a temporary one, which lives as long as the returned index.
        model: a :class:`JaColBERT`, a checkpoint's folder or name, or a ``MultiVectorEncoder``.
        text_field: the field with the text.
        title_field: a field put before the text, with a space between, where it is not empty.
        mode: ``"create"`` refuses a path that exists; ``"overwrite"`` replaces an index, once the new one is complete.
        verbose: whether to show a progress bar.

    Example:
        >>> index = JaColBERTIndexer("wiki.jacolbert").index(docs)  # doctest: +SKIP
    """

    schematic: dict[str, Any] = {"help_url": None}

    def __init__(
        self,
        path: str | Path | None = None,
        model: JaColBERT | str | MultiVectorEncoder = DEFAULT_CHECKPOINT,
        *,
        text_field: str = "text",
        title_field: str | None = None,
        mode: str = "create",
        verbose: bool = False,
    ) -> None:
        self.path = path
        self.model = as_model(model)
        self.text_field = text_field
        self.title_field = title_field
        self.mode = mode
        self.verbose = verbose

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame
    ) -> JaColBERTIndex:
        """Builds the index.

        Args:
            docs: dicts (any iterable or generator) or a frame, with ``docno`` and the text field or ``doc_embs``.

        Returns:
            The index, with the model that built it.

        Raises:
            FileExistsError: the path exists, and ``mode`` does not allow replacing it.
            pt.validate.InputValidationError: a document lacks a field (a KeyError).
            ValueError: a document that cannot be indexed, named with its position; or no documents at all.
        """
        index = JaColBERTIndex(self.path, self.model)
        from pyterrier_jacolbert.index.build import IndexWriter

        documents = read_documents(
            docs, text_field=self.text_field, title_field=self.title_field, vectors_field=DOC_EMBS
        )
        with atomic_directory(index.path, mode=self.mode) as directory, IndexWriter(directory) as writer:
            with tqdm(desc="indexing", unit=" documents", disable=not self.verbose) as bar:
                for block in batched(documents, _BLOCK_DOCUMENTS):
                    writer.add([document.docno for document in block], self._vectors(block, bar))
            # A model that never encoded says nothing of vectors that the documents brought along.
            recorded = self.model.settings() if self.model.loaded else None
            write_meta(directory, index.new_meta(model=recorded, **writer.finish()))
        return index

    def index_inputs(self) -> list[list[str]]:
        """The columns that :meth:`index` takes."""
        fields = [field for field in (self.title_field, self.text_field) if field]
        return [[DOCNO, *fields], [DOCNO, DOC_EMBS]]

    def _vectors(self, block: list[Document], bar: tqdm) -> Sequence[np.ndarray]:
        """The token vectors of documents: those that they carry, and the encoded text of the rest."""
        vectors: list[Any] = [document.fields.get(DOC_EMBS) for document in block]
        plain = [number for number, rows in enumerate(vectors) if rows is None]
        if plain:
            encoded = self.model.encode_documents([block[number].text for number in plain], bar.update)
            for number, rows in zip(plain, encoded, strict=True):
                vectors[number] = rows
        bar.update(len(block) - len(plain))
        return [np.asarray(rows, dtype=np.float32) for rows in vectors]

    def __repr__(self) -> str:
        return describe(self)


def as_model(model: JaColBERT | str | MultiVectorEncoder) -> JaColBERT:
    """A :class:`JaColBERT` of whatever names or is one."""
    return model if isinstance(model, JaColBERT) else JaColBERT(model)
