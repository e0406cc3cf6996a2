"""Two-stage search: candidates by centroid scores, then full scores of the candidates.

The first stage scores documents by the centroids of their tokens alone, through a table of bytes that stays in the
processor's cache; the second stage scores the best of them by everything that the index stores. The idea follows PLAID
(Santhanam et al., arXiv 2205.09707), except that the first stage scores all documents unless it probes, and that
nothing is decompressed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyterrier_jacolbert.index.search.exact import Hits, search_exact
from pyterrier_jacolbert.index.search.top_k import at_least_kth, top_k
from pyterrier_jacolbert.index.threads import MapFn, in_threads, thread_count

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.search.quantized import PreparedQuery, QuantizedScorer

#: Candidates per quality: multiple of the number of results, and constant.
_CANDIDATES = {"fast": (1, 400), "balanced": (3, 700)}
#: Number of searched tokens from which the first stage probes instead of scoring all documents (benchmarks/search.py).
PROBED_TOKENS = 5_000_000
#: Probed centroids per query token.
PROBES = {"fast": 4, "balanced": 8}
QUALITIES = (*_CANDIDATES, "exact")


def default_n_candidates(quality: str, num_results: int) -> int:
    """Returns the number of documents that the first stage passes to the second."""
    multiple, constant = _CANDIDATES[quality]
    return multiple * num_results + constant


def default_n_probe(quality: str, starts: np.ndarray, docids: np.ndarray | None) -> int | None:
    """Returns the number of centroids per query token to probe, or None to score all documents.

    Args:
        quality: ``"fast"`` or ``"balanced"``.
        starts: int64 ``(n_docs + 1,)``, of the index.
        docids: documents to search; None searches all.
    """
    tokens = starts[-1] if docids is None else (starts[docids + 1] - starts[docids]).sum()
    return None if tokens < PROBED_TOKENS else PROBES[quality]


def search_two_stage(
    documents: QuantizedScorer,
    queries: Sequence[np.ndarray],
    num_results: int,
    tie_ranks: np.ndarray,
    docids: np.ndarray | None = None,
    *,
    n_candidates: int,
    n_probe: int | None = None,
) -> Iterator[Hits]:
    """Finds the best documents for each query among the candidates of the first stage.

    Args:
        documents: scorer with centroids.
        queries: float32 ``(n_tokens, dim)`` each.
        num_results: maximum number of results per query.
        tie_ranks: ``(n_docs,)``; among equal scores the greater rank comes first.
        docids: int64, ascending: documents to search; None searches all.
        n_candidates: number of documents that get a full score; documents that tie with the last one get one, too.
        n_probe: centroids per query token whose documents the first stage scores; None scores all documents.

    Yields:
        The hits of each query, in the order of the queries.
    """
    searched = np.arange(len(documents)) if docids is None else docids
    if n_candidates >= len(searched):
        yield from search_exact(documents, queries, num_results, tie_ranks, docids)
        return

    def search(query: np.ndarray, map_fn: MapFn = map) -> Hits:
        prepared = documents.prepare(query, map_fn)
        candidates, _ = find_candidates(documents, prepared, searched, n_candidates, n_probe)
        scores = documents.scores_of(prepared, candidates)
        best = top_k(scores, num_results, tie_ranks[candidates])
        return candidates[best], scores[best]

    if one_thread_per_query(len(queries)):
        yield from in_threads(search, queries)
    else:
        yield from (search(query, in_threads) for query in queries)


def find_candidates(
    documents: QuantizedScorer,
    query: PreparedQuery,
    docids: np.ndarray,
    n_candidates: int,
    n_probe: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the documents with the best centroid scores.

    Args:
        documents: scorer with centroids.
        query: prepared by the scorer.
        docids: int64, ascending: documents to look at.
        n_candidates: number of candidates; documents that tie with the last one are candidates, too.
        n_probe: as in :func:`search_two_stage`.

    Returns:
        docids: int64 ``(n,)``, in the order of ``docids``; centroid scores: int32 ``(n,)``.
    """
    if n_probe is not None:
        docids = documents.documents_of_centroids(query.best_centroids(n_probe), docids)
    scores = documents.centroid_scores(query, docids)
    chosen = best_positions(scores, n_candidates)
    return docids[chosen], scores[chosen]


def best_positions(centroid_scores: np.ndarray, count: int) -> np.ndarray:
    """Returns the positions of the ``count`` greatest scores and of their ties, ascending, without negative scores."""
    with_tokens = np.flatnonzero(centroid_scores >= 0)
    return with_tokens[at_least_kth(centroid_scores[with_tokens], count)]


def one_thread_per_query(n_queries: int) -> bool:
    """Returns whether there are enough queries for each to be the work of one thread."""
    # Threads that share a query wait for each other whenever another process wants a core.
    return n_queries >= 2 * thread_count()
