"""Factory methods of indexes: the transformers that an index contributes to pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyterrier_jacolbert.pipeline.protocols import Index

if TYPE_CHECKING:
    from pyterrier_jacolbert.explain import Explanation
    from pyterrier_jacolbert.pipeline.explainers import IndexExplainer
    from pyterrier_jacolbert.pipeline.loaders import EmbeddingsLoader, TextLoader
    from pyterrier_jacolbert.pipeline.prf import ColBERTPRF
    from pyterrier_jacolbert.pipeline.rerankers import IndexReranker
    from pyterrier_jacolbert.pipeline.retrievers import Retriever, TorchRetriever


class PipelineFactories(Index):
    """Creates retrievers, re-rankers, explainers, loaders and feedback over an index."""

    def retriever(
        self,
        *,
        num_results: int = 1000,
        quality: str = "balanced",
        n_candidates: int | None = None,
        n_probe: int | None = None,
    ) -> Retriever:
        """Creates a retriever: two-stage if the index has centroids, otherwise exact.

        Args:
            num_results: maximum number of results per query.
            quality: ``"fast"``, ``"balanced"`` or ``"exact"``.
            n_candidates: number of documents that the first stage passes to the second; None depends on ``quality``.
            n_probe: centroids per query token whose documents the first stage scores; None depends on the number of
                tokens searched and on ``quality``.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.retrievers import Retriever

        return Retriever(self, num_results=num_results, quality=quality, n_candidates=n_candidates, n_probe=n_probe)

    def exact_retriever(self, *, num_results: int = 1000) -> Retriever:
        """Creates a retriever that gives every document a full score.

        Args:
            num_results: maximum number of results per query.

        Returns:
            The transformer.
        """
        return self.retriever(num_results=num_results, quality="exact")

    def torch_retriever(
        self, *, num_results: int = 1000, device: str | None = None, dtype: str | None = None
    ) -> TorchRetriever:
        """Creates a retriever that scores every document by matrix products of torch, for GPUs.

        Args:
            num_results: maximum number of results per query.
            device: ``"cuda"``, ``"cuda:1"``, ``"cpu"``; None takes a GPU if there is one.
            dtype: ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"int8"``; None takes float16 on a GPU and float32
                on a CPU.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.retrievers import TorchRetriever

        return TorchRetriever(self, num_results=num_results, device=device, dtype=dtype)

    def scorer(self) -> IndexReranker:
        """Creates a re-ranker that scores the documents of a frame with the stored vectors.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.rerankers import IndexReranker

        return IndexReranker(self)

    def explainer(self) -> IndexExplainer:
        """Creates a transformer that adds ``contributions``, the share of each query token in the score.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.explainers import IndexExplainer

        return IndexExplainer(self)

    def explain(self, query: str, docno: str, text: str | None = None) -> Explanation:
        """Explains the score of a document for a query: which of its tokens each query token matched.

        The explanation is computed from the stored vectors, so its sum is the score of the retrievers up to rounding.

        Args:
            query: a query.
            docno: of a document in the index.
            text: text of the document as it was indexed, title first; None takes the stored text
                (``store_text=True``).

        Returns:
            An explanation, which a notebook shows as the text with matches shaded; it also has ``.to_frame()`` and
            ``.plot()``.

        Raises:
            ValueError: the index does not have the document, stores no text and none is given, the text is not the one
                that was indexed, or the vectors were pooled.
        """
        from pyterrier_jacolbert.explain.build import explain_from_index

        return explain_from_index(self, query, docno, text)

    def text_loader(self, fields: str | Sequence[str] = "*", *, verbose: bool = False) -> TextLoader:
        """Creates a transformer that adds the stored text to frames with ``docno``, for ``pt.text.get_text(index)``.

        Args:
            fields: ``"*"`` or ``"text"``, the only stored field: title, if there is one, and text.
            verbose: accepted for compatibility with PyTerrier; there is nothing to show.

        Returns:
            The transformer.

        Raises:
            ValueError: the index was built without ``store_text=True``, or another field is asked for.
        """
        from pyterrier_jacolbert.pipeline.loaders import TextLoader

        if not self.token_vectors().manifest.settings.store_text:
            raise ValueError(
                f"{self!r} stores no text; build it with store_text=True, or take the text of the data set."
            )
        if fields not in ("*", "text") and list(fields) != ["text"]:
            raise ValueError(f"{self!r} stores only the field 'text', not {fields!r}; ask for 'text', or for '*'.")
        return TextLoader(self)

    def embs_loader(self) -> EmbeddingsLoader:
        """Creates a transformer that adds ``doc_embs``, the stored vectors, to frames with ``docno``.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.loaders import EmbeddingsLoader

        return EmbeddingsLoader(self)

    def prf(self, *, fb_docs: int = 3, fb_embs: int = 10, beta: float = 1.0, k: int = 24) -> ColBERTPRF:
        """Creates pseudo-relevance feedback on stored vectors: ``retriever >> index.prf() >> retriever``.

        Args:
            fb_docs: number of feedback documents per query.
            fb_embs: number of clusters of their vectors that expand the query.
            beta: weight of the expansion.
            k: number of clusters.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.prf import ColBERTPRF

        return ColBERTPRF(self, fb_docs=fb_docs, fb_embs=fb_embs, beta=beta, k=k)
