"""Reads and searches the files of a BM25 index."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyterrier_jacolbert.index.bm25_checks import open_bm25
from pyterrier_jacolbert.index.search.top_k import top_k
from pyterrier_jacolbert.index.storage.bm25_manifest import BM25Manifest
from pyterrier_jacolbert.index.storage.docnos import Docnos


class BM25Reader:
    """The files of a BM25 index in one of its states, mapped.

    Args:
        directory: of the index.
        manifest: of the index.

    Raises:
        ValueError: the index is damaged.
        FileNotFoundError: a writer removed a file at this moment.
    """

    def __init__(self, directory: Path, manifest: BM25Manifest) -> None:
        import bm25s

        self.manifest = manifest
        scores, vocabulary = open_bm25(directory, manifest)
        #: The docnos by docid.
        self.docnos = Docnos(directory, manifest.files)
        # Not bm25s's own load, which makes what the file of parameters says.
        self._model = bm25s.BM25(k1=manifest.settings.k1, b=manifest.settings.b, method="lucene")
        self._model.scores = {**scores, "num_docs": manifest.documents}
        self._model.vocab_dict = vocabulary
        self._model.nonoccurrence_array = None

    def scores(self, words: list[str]) -> np.ndarray:
        """Scores all documents for the words of a query: float32 ``(n_docs,)``. Repeated words count repeatedly."""
        token_ids = self._model.get_tokens_ids(words)
        if not token_ids:
            return np.zeros(len(self.docnos), dtype=np.float32)
        scores: np.ndarray = self._model.get_scores_from_ids(token_ids)
        return scores

    def best_documents(self, words: list[str], num_results: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the best documents for the words of a query.

        Args:
            words: see :meth:`scores`.
            num_results: maximum number of results.

        Returns:
            docids: int64 ``(n,)`` and scores: float32 ``(n,)``, all positive, best first, ties by docno descending
            (also at the cut).
        """
        # Not model.retrieve, which pads with documents that do not match and leaves ties in any order.
        scores = self.scores(words)
        matching = np.flatnonzero(scores > 0)
        docids = matching[top_k(scores[matching], num_results, self.docnos.ranks[matching])]
        return docids, scores[docids]
