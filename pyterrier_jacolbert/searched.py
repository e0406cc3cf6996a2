"""What every index that can be searched shares: its checkpoint, its open files, and what goes into pipelines."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pyterrier_jacolbert.directory_artifact import DirectoryArtifact
from pyterrier_jacolbert.frames import DOC_EMBS, DOCNO
from pyterrier_jacolbert.index.manifest import writing
from pyterrier_jacolbert.model import JaColBERT, as_model

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from pyterrier_jacolbert.explain import Explanation
    from pyterrier_jacolbert.index.docnos import Docnos
    from pyterrier_jacolbert.index.stored import Stored
    from pyterrier_jacolbert.pipeline.explainers import IndexExplainer
    from pyterrier_jacolbert.pipeline.feedback import ColBERTPRF
    from pyterrier_jacolbert.pipeline.loaders import StoredText, StoredVectors
    from pyterrier_jacolbert.pipeline.retrievers import Retriever, TorchRetriever
    from pyterrier_jacolbert.pipeline.scorers import IndexScorer

#: Held while an object keeps or lets go what it opened.
_KEEPING = threading.Lock()


class SearchedIndex(DirectoryArtifact):
    """An index whose token vectors can be opened: :class:`JaColBERTIndex`, or the shards of a :class:`ShardedIndex`.

    Args:
        path: the directory; None makes a temporary one.
        model: encodes the queries; None takes the checkpoint that the index records.
    """

    ARTIFACT_TYPE = "multivec_index"

    def __init__(
        self, path: str | Path | None = None, model: JaColBERT | str | MultiVectorEncoder | None = None
    ) -> None:
        super().__init__(path)
        self._model = None if model is None else as_model(model)
        self._recorded_model: JaColBERT | None = None
        self._open: Stored | None = None
        self._changes = 0

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
                    f"with {type(self).__name__}(path, model=...), or give frames with query_embs."
                )
            self._recorded_model = JaColBERT(**settings)
        return self._recorded_model

    def encode_queries(self, texts: list[str]) -> list[np.ndarray]:
        """Encodes queries with the checkpoint of the index.

        Warns where the checkpoint is not the one that encoded the documents.

        Args:
            texts: queries.

        Returns:
            For each float32 ``(n_positions, dim)``.

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
                f"{self!r} was built with the checkpoint {meta['model']['model']!r} ({recorded[:12]}), and queries are "
                f"encoded with {self.model!r} ({self.model.fingerprint[:12]}), whose weights are others, so its scores "
                "mean nothing; open it with the checkpoint it was built with.",
                stacklevel=2,
            )
        return self.model.encode_queries(texts)

    def retriever(
        self,
        *,
        num_results: int = 1000,
        quality: str = "balanced",
        n_candidates: int | None = None,
        n_probe: int | None = None,
    ) -> Retriever:
        """A retriever: in two stages where the index holds centroids, and exact where it holds none.

        Args:
            num_results: the most documents a query gets.
            quality: ``"fast"``, ``"balanced"`` or ``"exact"``.
            n_candidates: documents that the first stage leaves to the second; None goes by ``quality``.
            n_probe: centroids of each query token whose documents the first stage looks at; None goes by how many
                tokens are searched, and by ``quality``.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.retrievers import Retriever

        return Retriever(self, num_results=num_results, quality=quality, n_candidates=n_candidates, n_probe=n_probe)

    def exact_retriever(self, *, num_results: int = 1000) -> Retriever:
        """A retriever that scores every document by all that is stored of it.

        Args:
            num_results: the most documents a query gets.

        Returns:
            The transformer.
        """
        return self.retriever(num_results=num_results, quality="exact")

    def torch_retriever(
        self, *, num_results: int = 1000, device: str | None = None, dtype: str | None = None
    ) -> TorchRetriever:
        """A retriever that scores every document by torch's matrix products: for GPUs.

        Args:
            num_results: the most documents a query gets.
            device: ``"cuda"``, ``"cuda:1"``, ``"cpu"``; None takes a GPU if there is one.
            dtype: ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"int8"``; None takes float16 on a GPU and float32
                on a CPU.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.retrievers import TorchRetriever

        return TorchRetriever(self, num_results=num_results, device=device, dtype=dtype)

    def scorer(self) -> IndexScorer:
        """A re-ranker that scores the documents of a frame with the stored vectors.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.scorers import IndexScorer

        return IndexScorer(self)

    def explainer(self) -> IndexExplainer:
        """A transformer that adds ``contributions``, what each query token gave to the score, from stored vectors.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.explainers import IndexExplainer

        return IndexExplainer(self)

    def explain(self, query: str, docno: str, text: str | None = None) -> Explanation:
        """Why a document scores as it does for a query: which of its tokens each query token met.

        It looks at the stored vectors, so that its sum is the score of the retrievers, within what these round.

        Args:
            query: a query.
            docno: of a document of the index.
            text: its text as it was indexed, title first; None takes what the index stores (``store_text=True``).

        Returns:
            What a notebook shows as the text with what matched shaded; also ``.to_frame()`` and ``.plot()``.

        Raises:
            ValueError: the index does not have the document, or holds no text and none is given, or the text is not
                the one that was indexed, or the vectors were pooled.
        """
        from pyterrier_jacolbert.explain import explain_stored

        return explain_stored(self, query, docno, text)

    def text_loader(self, fields: str | Sequence[str] = "*", *, verbose: bool = False) -> StoredText:
        """A transformer that adds the stored text to frames with ``docno``, as ``pt.text.get_text(index)`` uses it.

        Args:
            fields: ``"*"`` or ``"text"``, the one field that is stored: title, if it has one, and text.
            verbose: is taken for PyTerrier's sake; there is nothing to show.

        Returns:
            The transformer.

        Raises:
            ValueError: the index was built without ``store_text=True``, or another field is asked for.
        """
        from pyterrier_jacolbert.pipeline.loaders import StoredText

        if not self.meta()["settings"]["store_text"]:
            raise ValueError(f"{self!r} holds no text; build it with store_text=True, or take the data set's.")
        if fields not in ("*", "text") and list(fields) != ["text"]:
            raise ValueError(f"{self!r} stores the field 'text' alone, not {fields!r}; ask for 'text', or for '*'.")
        return StoredText(self)

    def embs_loader(self) -> StoredVectors:
        """A transformer that adds ``doc_embs``, the stored vectors, to frames with ``docno``.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.loaders import StoredVectors

        return StoredVectors(self)

    def prf(self, *, fb_docs: int = 3, fb_embs: int = 10, beta: float = 1.0, k: int = 24) -> ColBERTPRF:
        """Pseudo-relevance feedback on stored vectors: ``retriever >> index.prf() >> retriever``.

        Args:
            fb_docs: documents that are taken for relevant.
            fb_embs: clusters of their vectors that join the query.
            beta: the weight of these.
            k: clusters.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.feedback import ColBERTPRF

        return ColBERTPRF(self, fb_docs=fb_docs, fb_embs=fb_embs, beta=beta, k=k)

    def delete(self, docnos: Sequence[str]) -> Self:
        """Deletes documents: no transformer of this object finds or scores them any more, nor does a later open.

        Their vectors stay in the files until these are compacted or merged. Objects that have the index open keep what
        they see.

        Args:
            docnos: of documents that the index has.

        Returns:
            This index.

        Raises:
            ValueError: the index does not have one of them; nothing is deleted then.
            BlockingIOError: another process is writing to the index.
        """
        from pyterrier_jacolbert.index.change import delete

        with writing(self.path):
            delete(self.path, self._opened(self.meta()), docnos, repr(self))
        return self._changed()

    def compact(self) -> Self:
        """Rewrites the files without the deleted documents; docids move up, docnos and rankings stay.

        Returns:
            This index.

        Raises:
            BlockingIOError: another process is writing to the index.
        """
        raise NotImplementedError

    def stats(self) -> dict[str, Any]:
        """What the index holds.

        Returns:
            ``documents``, ``deleted``, ``tokens``, ``dim``, ``compression``, ``bytes_per_token`` and the settings.
        """
        raise NotImplementedError

    def index_inputs(self) -> list[list[str]]:
        """The columns that :meth:`index` takes."""
        return [[DOCNO, "text"], [DOCNO, DOC_EMBS]]

    def __len__(self) -> int:
        meta = self.meta()
        return int(meta["documents"] - meta["files"].get("deleted", {"shape": [0]})["shape"][0])

    def docnos(self) -> Docnos:
        """The docnos, by docid: a sequence over mapped files, with look-ups both ways.

        Returns:
            The sequence.
        """
        return self._files().docnos

    def token_vectors(self) -> Stored:
        """The stored vectors by docid, decoded when they are asked for.

        Returns:
            What gives rows of float32 ``(n_tokens, dim)`` by docid.
        """
        return self._files()

    def parts(self) -> list[Stored]:
        """The stored vectors as they are in files: of one index, or shard by shard.

        Returns:
            One for each part, in the order of docids.
        """
        return [self._files()]

    def _files(self) -> Stored:
        while True:
            opened, changes = self._open, self._changes
            if opened is not None:
                return opened
            meta = self.meta()
            try:
                opened = self._opened(meta)
            except ValueError:
                # A writer may have replaced the files between the manifest and their opening.
                if self.meta() == meta:
                    raise
                continue
            with _KEEPING:
                if self._changes == changes:
                    self._open = opened

    def _opened(self, meta: dict[str, Any]) -> Stored:
        """The files that a manifest names, open."""
        raise NotImplementedError

    def _changed(self) -> Self:
        """Lets the next look see the files as they are now, in whatever thread."""
        with _KEEPING:
            self._open = None
            self._changes += 1
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_open": None}

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self._model == other._model  # type: ignore[attr-defined]

    __hash__ = DirectoryArtifact.__hash__
