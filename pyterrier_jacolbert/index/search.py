"""Exact MaxSim: matrix products over blocks of documents and all queries at once.

The score of a document is the sum over query tokens of the greatest cosine with any document token (Khattab and
Zaharia 2020, equation 3). A document without tokens cannot match: retrieval leaves it out, and scoring gives it the
least that MaxSim can be, -1 for each query token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyterrier_jacolbert.index.kernels import segment_max
from pyterrier_jacolbert.index.topk import top_k

#: A block of similarities, float32 (tokens, query tokens), is 4,096 x 512 x 4 bytes = 8 MiB: large enough for the
#: matrix product, small enough for a CPU's last cache (benchmarks/search.py).
_BLOCK_TOKENS = 4096
_BLOCK_COLUMNS = 512
#: Memory for the scores of all documents for one group of queries.
_SCORES_BYTES = 2**28
#: Documents of a query whose vectors are gathered at once: 512 documents of 300 tokens of 128 floats are 75 MiB.
_PAIRS_AT_ONCE = 512


class Vectors(Protocol):
    """The token vectors of many texts, in memory or in an index."""

    @property
    def starts(self) -> np.ndarray:
        """int64 ``(n_texts + 1,)``: text ``i`` has rows ``starts[i]`` to ``starts[i + 1]``."""
        ...

    def __len__(self) -> int: ...

    def take(self, docids: np.ndarray) -> TokenVectors:
        """The vectors of some texts."""
        ...

    def rows(self, first: int, end: int) -> np.ndarray:
        """The vectors of texts ``first`` to ``end`` in float32: ``(n_tokens, dim)``."""
        ...


@dataclass(frozen=True)
class TokenVectors:
    """The token vectors of many texts, end to end.

    Attributes:
        vectors: float16 or float32 ``(n_tokens, dim)``, unit rows.
        starts: int64 ``(n_texts + 1,)``: text ``i`` has rows ``starts[i]`` to ``starts[i + 1]``.
    """

    vectors: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, texts: Sequence[np.ndarray]) -> TokenVectors:
        """Lays out vectors given text by text, each ``(n_tokens, dim)``."""
        starts = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(rows) for rows in texts], out=starts[1:])
        vectors = np.concatenate(texts) if len(texts) else np.empty((0, 0), dtype=np.float32)
        return cls(vectors, starts)

    def take(self, docids: np.ndarray) -> TokenVectors:
        """The vectors of some texts."""
        texts = [self.vectors[self.starts[docid] : self.starts[docid + 1]] for docid in docids]
        return TokenVectors.of(texts)

    def rows(self, first: int, end: int) -> np.ndarray:
        """The vectors of texts ``first`` to ``end`` in float32: ``(n_tokens, dim)``."""
        return self.vectors[self.starts[first] : self.starts[end]].astype(np.float32, copy=False)


def search_exact(
    documents: Vectors,
    queries: Sequence[np.ndarray],
    num_results: int,
    tie_ranks: np.ndarray,
    deleted: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Finds the best documents of each query among all.

    Args:
        documents: the collection; it is read block by block.
        queries: for each, float32 ``(n_tokens, dim)``.
        num_results: the most documents a query gets.
        tie_ranks: ``(n_docs,)``; among equal scores the greater rank comes first.
        deleted: the docids that no query gets.

    Yields:
        For each query, in order: docids, int64 ``(k,)``, and scores, float32 ``(k,)``, best first.
    """
    group = max(1, _SCORES_BYTES // (4 * max(1, len(documents))))
    for first in range(0, len(queries), group):
        for scores in _score_all(documents, queries[first : first + group]):
            if deleted is not None:
                scores[deleted] = -np.inf
            docids = top_k(scores, num_results, tie_ranks)
            yield docids, scores[docids]


def score_pairs(
    documents: Vectors, queries: Sequence[np.ndarray], query_numbers: np.ndarray, docids: np.ndarray
) -> np.ndarray:
    """Scores given pairs of queries and documents.

    Args:
        documents: the collection.
        queries: for each, float32 ``(n_tokens, dim)``.
        query_numbers: int64 ``(n_pairs,)``, the query of each pair.
        docids: int64 ``(n_pairs,)``, the document of each pair.

    Returns:
        float32 ``(n_pairs,)``.
    """
    scores = np.empty(len(docids), dtype=np.float32)
    order = np.argsort(query_numbers, kind="stable")
    bounds = np.searchsorted(query_numbers[order], np.arange(len(queries) + 1))
    for number, query in enumerate(queries):
        for first in range(bounds[number], bounds[number + 1], _PAIRS_AT_ONCE):
            pairs = order[first : min(first + _PAIRS_AT_ONCE, bounds[number + 1])]
            found = next(_score_all(documents.take(docids[pairs]), [query]))
            scores[pairs] = np.maximum(found, -np.float32(len(query)))
    return scores


def _score_all(documents: Vectors, queries: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Scores every document for every query: for each query, float32 ``(n_docs,)``, -inf without tokens."""
    bounds = np.concatenate([[0], np.cumsum([len(query) for query in queries])])
    columns = np.ascontiguousarray(np.concatenate(queries).T, dtype=np.float32)
    scores = np.empty((len(queries), len(documents)), dtype=np.float32)
    groups = list(_column_groups(bounds))
    for first, end in _document_blocks(documents.starts):
        block = documents.rows(first, end)
        starts = documents.starts[first : end + 1] - documents.starts[first]
        for group in groups:
            similarities = block @ columns[:, bounds[group.start] : bounds[group.stop]]
            best = np.empty((end - first, similarities.shape[1]), dtype=np.float32)
            segment_max(similarities, starts, best)
            sums = np.add.reduceat(best, bounds[group.start : group.stop] - bounds[group.start], axis=1)
            scores[group.start : group.stop, first:end] = sums.T
    yield from scores


def _column_groups(bounds: np.ndarray) -> Iterator[range]:
    """Cuts the queries into runs of about ``_BLOCK_COLUMNS`` query tokens (at least one query each)."""
    first = 0
    for query in range(1, len(bounds)):
        if query + 1 == len(bounds) or bounds[query + 1] - bounds[first] > _BLOCK_COLUMNS:
            yield range(first, query)
            first = query


def _document_blocks(starts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cuts the documents into runs of about ``_BLOCK_TOKENS`` tokens (at least one document each)."""
    first, n_docs = 0, len(starts) - 1
    while first < n_docs:
        end = int(np.searchsorted(starts, starts[first] + _BLOCK_TOKENS, side="right")) - 1
        end = min(max(end, first + 1), n_docs)
        yield first, end
        first = end
