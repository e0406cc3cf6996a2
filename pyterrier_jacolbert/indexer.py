"""JaColBERTIndexer: from documents to an index, in one pass that resumes where it was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyterrier as pt

from pyterrier_jacolbert.artifacts.index import JaColBERTIndex
from pyterrier_jacolbert.artifacts.sharded import ShardedIndex
from pyterrier_jacolbert.building.documents import BATCH_DOCUMENTS, Documents
from pyterrier_jacolbert.building.separate_shards import encode_shard
from pyterrier_jacolbert.building.settings import IndexerSettings
from pyterrier_jacolbert.building.sharded import build_sharded
from pyterrier_jacolbert.building.single import build_index
from pyterrier_jacolbert.columns import DOC_EMBS, DOCNO
from pyterrier_jacolbert.model import DEFAULT_CHECKPOINT, JaColBERT, as_model
from pyterrier_jacolbert.pipeline.base import describe

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from pyterrier_jacolbert.building.executors import Executor


class JaColBERTIndexer(pt.Indexer):
    """Encodes documents and writes a :class:`JaColBERTIndex`, in one pass over any iterable.

    The index appears at the path when it is complete, and not before. An interrupted build resumes with
    ``mode="resume"`` and the same documents, does not encode them again, and ends with the same bytes. A document
    without text is indexed and never retrieved. Documents with ``doc_embs`` (from ``model.doc_encoder()``, for example)
    are stored without encoding; None or NaN there means that the text is encoded. Every compression stores vectors of
    length 1, so rows of another length are scaled to it, and a row of zeros is refused.

    Memory: the vectors of ``batch_documents`` documents (some 250 MiB for documents of 120 tokens of 128 dimensions),
    ``sample_tokens`` vectors twice in float32 if a residual codec is trained, and about 150 bytes per document for
    docnos.

    Args:
        path: the directory; None creates a temporary one, which lives as long as the returned index.
        model: a :class:`JaColBERT`, the folder or name of a checkpoint, or a ``MultiVectorEncoder``; None takes
            answerdotai/JaColBERTv2.5, or the checkpoint of the index that is appended to.
        text_field: field with the text.
        title_field: field put before the text, with a space between, unless it is missing or blank.
        mode: ``"create"`` refuses a path that exists; ``"overwrite"`` replaces an index, which stays readable until the
            new one is complete; ``"resume"`` continues an interrupted build, starts one if there is none, and returns a
            finished index as it is, if it holds these documents with these settings; ``"append"`` adds
            to an index. Settings that are left at their defaults are then those of the index, and others must be.
        compression: ``"float16"``, ``"int8"``, ``"4bit"``, ``"2bit"`` or ``"1bit"``, fixed for the life of the index;
            ``"auto"`` takes int8 up to 20 million tokens and 4 bits beyond.
        n_centroids: number of centroids of a residual codec; None depends on the number of tokens.
        sample_tokens: maximum number of token vectors that a residual codec is trained on.
        batch_documents: number of documents that are encoded and written together; what a killed build loses, and most
            of its memory.
        pool_factor: reduces the vectors of each document by this factor, to the means of clusters of similar vectors
            (Clavié et al., arXiv 2409.14683; Sentence Transformers' ``HierarchicalTokenPooling``); None keeps all.
        store_text: whether to store the text of documents, title first, for ``text_loader()``.
        executor: None builds a single index in this process; a
            :class:`~pyterrier_jacolbert.distributed.RayExecutor` builds a :class:`ShardedIndex` on a cluster.
        verbose: whether to show progress bars.

    Raises:
        ValueError: a setting is out of its range.

    Example:
        >>> index = JaColBERTIndexer("wiki.jacolbert").index(docs)  # doctest: +SKIP
    """

    schematic: dict[str, Any] = {"help_url": None}

    def __init__(
        self,
        path: str | Path | None = None,
        model: JaColBERT | str | MultiVectorEncoder | None = None,
        *,
        text_field: str = "text",
        title_field: str | None = None,
        mode: str = "create",
        compression: str = "auto",
        n_centroids: int | None = None,
        sample_tokens: int = 2**19,
        batch_documents: int = BATCH_DOCUMENTS,
        pool_factor: float | None = None,
        store_text: bool = False,
        executor: Executor | None = None,
        verbose: bool = False,
    ) -> None:
        self.path = path
        self.model = None if model is None else as_model(model)
        self.text_field = text_field
        self.title_field = title_field
        self.mode = mode
        self.compression = compression
        self.n_centroids = n_centroids
        self.sample_tokens = sample_tokens
        self.batch_documents = batch_documents
        self.pool_factor = pool_factor
        self.store_text = store_text
        self.executor = executor
        self.verbose = verbose
        self._settings()  # checks the settings

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Documents
    ) -> JaColBERTIndex | ShardedIndex:
        """Builds the index.

        Args:
            docs: dicts (any iterable or generator) or a frame, with ``docno`` and the text field or ``doc_embs``: one
                row per token, as an array of any real type, nested lists, or a torch tensor.

        Returns:
            The index, with the model that built it.

        Raises:
            FileExistsError: the path exists, and ``mode`` does not allow what is there.
            pt.validate.InputValidationError: a document lacks a field, or none of the first batch has the title field
                (a KeyError); the message names the nearest field.
            ValueError: a document cannot be indexed, or is not the one of the interrupted build (the message states its
                position); or there are no documents.
            BlockingIOError: another process is writing to the index.
        """
        settings = self._settings()
        model = self.model
        if model is None and self.mode != "append":
            model = as_model(DEFAULT_CHECKPOINT)
        encoder, build_settings = settings.document_encoder(model), settings.build_settings()
        if self.executor is None:
            index = JaColBERTIndex(self.path, model)
            build_index(index.path, docs, encoder, build_settings, mode=self.mode)
            return index
        sharded = ShardedIndex(self.path, model)
        build_sharded(sharded.path, docs, encoder, build_settings, self.executor, mode=self.mode)
        return sharded

    def index_shard(self, docs: Documents, number: int, of: int) -> None:
        """Encodes one of several shards of a :class:`ShardedIndex`, which lie side by side at the path.

        Each may be encoded on another machine. When all are there, :meth:`ShardedIndex.join` makes them an index.

        Args:
            docs: all documents of the collection, for any shard: a list, a frame, or an iterable that can be read
                twice.
            number: of the shard, from 1.
            of: number of shards.

        Raises:
            FileExistsError, ValueError, BlockingIOError: see :meth:`index`; also if there are too few documents.
        """
        if self.path is None:
            raise ValueError("Shards lie side by side at a path; give one to JaColBERTIndexer.")
        settings = self._settings()
        encode_shard(
            Path(self.path),
            docs,
            settings.document_encoder(as_model(DEFAULT_CHECKPOINT) if self.model is None else self.model),
            settings.build_settings(),
            number=number,
            of=of,
            mode=self.mode,
        )

    def index_inputs(self) -> list[list[str]]:
        """Returns the columns that :meth:`index` takes."""
        fields = [field for field in (self.title_field, self.text_field) if field]
        return [[DOCNO, *fields], [DOCNO, DOC_EMBS]]

    def _settings(self) -> IndexerSettings:
        return IndexerSettings(
            text_field=self.text_field,
            title_field=self.title_field,
            mode=self.mode,
            compression=self.compression,
            n_centroids=self.n_centroids,
            sample_tokens=self.sample_tokens,
            batch_documents=self.batch_documents,
            pool_factor=self.pool_factor,
            store_text=self.store_text,
            verbose=self.verbose,
        )

    def __repr__(self) -> str:
        return describe(self)
