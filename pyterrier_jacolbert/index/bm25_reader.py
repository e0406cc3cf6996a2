"""Reads and searches the files of a BM25 index."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyterrier_jacolbert.index.search.top_k import top_k
from pyterrier_jacolbert.index.storage.arrays import map_array
from pyterrier_jacolbert.index.storage.bm25_manifest import BM25Manifest
from pyterrier_jacolbert.index.storage.docnos import Docnos

#: Files that bm25s writes, by the arguments of its ``load`` and ``save``.
BM25S_FILES = {
    "data_name": "data.csc.index.npy",
    "indices_name": "indices.csc.index.npy",
    "indptr_name": "indptr.csc.index.npy",
    "vocab_name": "vocab.index.json",
    "params_name": "params.index.json",
}


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
        for entry in manifest.files.values():
            map_array(directory, entry)  # bm25s would raise an error of its own for a missing or short file
        #: The docnos by docid.
        self.docnos = Docnos(directory, manifest.files)
        names = {argument: manifest.files[name].file for argument, name in BM25S_FILES.items()}
        self._model = bm25s.BM25.load(directory, mmap=True, **names)

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
