"""Exact MaxSim in floating point, and the search that scores every document.

The score of a document is the sum over query tokens of the greatest cosine with any document token (Khattab and
Zaharia 2020, equation 3). A document without tokens scores -inf. :mod:`~pyterrier_jacolbert.index.search.quantized`
scores quantized vectors instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pyterrier_jacolbert.index.codecs.base import Codec
from pyterrier_jacolbert.index.search.top_k import top_k
from pyterrier_jacolbert.index.threads import in_threads

#: Tokens of documents that one thread scores at a time, and query tokens whose maxima it holds meanwhile.
_BLOCK_TOKENS = 4096
_BLOCK_COLUMNS = 512
#: Documents whose vectors are gathered at once: 512 documents of 300 tokens of 128 floats take 75 MiB.
_GATHERED_DOCUMENTS = 512
#: Memory for the scores of all documents for one group of queries.
_SCORES_BYTES = 2**28

#: The result for one query, best first: docids, int64 ``(k,)``, and scores, float32 ``(k,)``.
Hits = tuple[np.ndarray, np.ndarray]


class Scorer(Protocol):
    """Scores documents for queries.

    Attributes:
        queries_per_pass: number of queries that are scored together, which bounds the memory.
    """

    queries_per_pass: int

    @property
    def starts(self) -> np.ndarray:
        """int64 ``(n_docs + 1,)``: document ``i`` has the tokens ``starts[i]`` to ``starts[i + 1]``."""
        ...

    def scores(self, queries: Sequence[np.ndarray], docids: np.ndarray | None = None) -> np.ndarray:
        """Scores documents for all queries.

        Args:
            queries: float32 ``(n_tokens, dim)`` each.
            docids: int64 ``(n,)``; None scores all documents.

        Returns:
            float32 ``(n_queries, n)``.
        """
        ...


class Vectors(Protocol):
    """Token vectors of many texts, in memory or in an index."""

    @property
    def starts(self) -> np.ndarray:
        """int64 ``(n_texts + 1,)``: text ``i`` has the rows ``starts[i]`` to ``starts[i + 1]``."""
        ...

    def take(self, docids: np.ndarray) -> TokenVectors:
        """Returns the vectors of the given texts."""
        ...

    def rows(self, first: int, end: int) -> np.ndarray:
        """Returns the vectors of texts ``first`` to ``end``: float32 ``(n_tokens, dim)``."""
        ...


class StoredVectors(Vectors, Protocol):
    """Token vectors in an index, compressed by a codec.

    Attributes:
        codec: compresses the vectors.
        columns: compressed vectors by column name, ``(n_tokens, ...)`` each.
    """

    codec: Codec
    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Number of texts."""
        ...

    def decode(self, rows: Any) -> np.ndarray:
        """Returns the vectors of the given tokens: float32 ``(n, dim)``."""
        ...


@dataclass(frozen=True)
class TokenVectors:
    """Token vectors of many texts, concatenated.

    Attributes:
        vectors: float16 or float32 ``(n_tokens, dim)``, unit rows.
        starts: int64 ``(n_texts + 1,)``: text ``i`` has the rows ``starts[i]`` to ``starts[i + 1]``.
    """

    vectors: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, texts: Sequence[np.ndarray]) -> TokenVectors:
        """Concatenates the vectors of texts, each ``(n_tokens, dim)``."""
        starts = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(rows) for rows in texts], out=starts[1:])
        vectors = np.concatenate(texts) if len(texts) else np.empty((0, 0), dtype=np.float32)
        return cls(vectors, starts)

    @property
    def scorer(self) -> ExactScorer:
        """Scorer of the texts."""
        return ExactScorer(self)

    def take(self, docids: np.ndarray) -> TokenVectors:
        """Returns the vectors of the given texts."""
        texts = [self.vectors[self.starts[docid] : self.starts[docid + 1]] for docid in docids]
        return TokenVectors.of(texts)

    def rows(self, first: int, end: int) -> np.ndarray:
        """Returns the vectors of texts ``first`` to ``end``: float32 ``(n_tokens, dim)``."""
        return self.vectors[self.starts[first] : self.starts[end]].astype(np.float32, copy=False)


class ExactScorer:
    """Scores documents by float32 products of all token vectors, over blocks of documents and all queries at once.

    Args:
        vectors: of the documents, read block by block.
    """

    queries_per_pass = 2**16

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    @property
    def starts(self) -> np.ndarray:
        """int64 ``(n_docs + 1,)``; see :class:`Scorer`."""
        return self._vectors.starts

    def scores(self, queries: Sequence[np.ndarray], docids: np.ndarray | None = None) -> np.ndarray:
        """Scores documents for all queries; see :class:`Scorer`."""
        if docids is None:
            return _exact_scores(self._vectors, queries)
        scores = np.empty((len(queries), len(docids)), dtype=np.float32)
        for first in range(0, len(docids), _GATHERED_DOCUMENTS):
            chosen = slice(first, first + _GATHERED_DOCUMENTS)
            scores[:, chosen] = _exact_scores(self._vectors.take(docids[chosen]), queries)
        return scores


def search_exact(
    documents: Scorer,
    queries: Sequence[np.ndarray],
    num_results: int,
    tie_ranks: np.ndarray,
    docids: np.ndarray | None = None,
) -> Iterator[Hits]:
    """Finds the best documents for each query by scoring all documents.

    Args:
        documents: scorer of the collection.
        queries: float32 ``(n_tokens, dim)`` each.
        num_results: maximum number of results per query.
        tie_ranks: ``(n_docs,)``; among equal scores the greater rank comes first.
        docids: int64, ascending: documents to search; None searches all.

    Yields:
        The hits of each query, in the order of the queries.
    """
    count = len(documents.starts) - 1 if docids is None else len(docids)
    ranks = tie_ranks if docids is None else tie_ranks[docids]
    group = min(documents.queries_per_pass, max(1, _SCORES_BYTES // (4 * max(1, count))))
    for first in range(0, len(queries), group):
        for scores in documents.scores(queries[first : first + group], docids):
            best = top_k(scores, num_results, ranks)
            yield best if docids is None else docids[best], scores[best]


def _exact_scores(documents: Vectors, queries: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the scores of all documents: float32 ``(n_queries, n_docs)``."""
    from pyterrier_jacolbert.index.kernels.centroid_scores import matmul
    from pyterrier_jacolbert.index.kernels.maxsim import segment_max
    from pyterrier_jacolbert.index.kernels.products import pad_columns

    bounds = np.concatenate([[0], np.cumsum([len(query) for query in queries])])
    columns = np.concatenate(queries).T
    starts = documents.starts
    scores = np.empty((len(queries), len(starts) - 1), dtype=np.float32)
    groups = [
        (group, pad_columns(columns[:, bounds[group.start] : bounds[group.stop]])) for group in _query_groups(bounds)
    ]

    def score_block(block: tuple[int, int]) -> None:
        first, end = block
        rows = np.ascontiguousarray(documents.rows(first, end), dtype=np.float32)
        row_starts = starts[first : end + 1] - starts[first]
        for group, padded in groups:
            similarities = np.empty((len(rows), padded.shape[1]), dtype=np.float32)
            if len(rows):
                matmul(rows, padded, similarities)
            best = np.empty((end - first, padded.shape[1]), dtype=np.float32)
            segment_max(similarities, row_starts, best)
            # Not the padding, which would change how the numbers of the last query are added up.
            best = best[:, : bounds[group.stop] - bounds[group.start]]
            sums = np.add.reduceat(best, bounds[group.start : group.stop] - bounds[group.start], axis=1)
            scores[group.start : group.stop, first:end] = sums.T

    for _ in in_threads(score_block, _document_blocks(starts)):
        pass
    return scores


def _query_groups(bounds: np.ndarray) -> Iterator[range]:
    """Splits the queries into runs of about ``_BLOCK_COLUMNS`` query tokens, at least one query each."""
    first = 0
    for query in range(1, len(bounds)):
        if query + 1 == len(bounds) or bounds[query + 1] - bounds[first] > _BLOCK_COLUMNS:
            yield range(first, query)
            first = query


def _document_blocks(starts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Splits the documents into runs of about ``_BLOCK_TOKENS`` tokens, at least one document each."""
    first, n_docs = 0, len(starts) - 1
    while first < n_docs:
        end = int(np.searchsorted(starts, starts[first] + _BLOCK_TOKENS, side="right")) - 1
        end = min(max(end, first + 1), n_docs)
        yield first, end
        first = end
