"""From a query to a ranking of docids: exactly, or in two stages.

The two stages: every document is scored by its tokens' centroids alone, through a table of bytes that stays in the
processor's cache; the best of those are scored by all that the index has of them. What follows PLAID (Santhanam et al.,
arXiv 2205.09707) but that all documents are scored so, unless only those of some centroids are asked for, and that
nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pyterrier_jacolbert.index.coded_lanes import CodedLane, Prepared
from pyterrier_jacolbert.index.lanes import Lane
from pyterrier_jacolbert.index.threads import Each, in_threads, thread_count
from pyterrier_jacolbert.index.topk import top_k

#: Memory for the scores of all documents for one group of queries.
_SCORES_BYTES = 2**28

#: docids, int64 ``(k,)``, and scores, float32 ``(k,)``, best first.
Found = tuple[np.ndarray, np.ndarray]


def search_exact(
    documents: Lane,
    queries: Sequence[np.ndarray],
    num_results: int,
    tie_ranks: np.ndarray,
    docids: np.ndarray | None = None,
) -> Iterator[Found]:
    """Finds the best documents of each query by scoring all.

    Args:
        documents: the collection.
        queries: for each, float32 ``(n_tokens, dim)``.
        num_results: the most documents a query gets.
        tie_ranks: ``(n_docs,)``; among equal scores the greater rank comes first.
        docids: int64, ascending: the documents to search; None takes all.

    Yields:
        For each query, in order, what was found.
    """
    count = len(documents.starts) - 1 if docids is None else len(docids)
    ranks = tie_ranks if docids is None else tie_ranks[docids]
    group = min(documents.together, max(1, _SCORES_BYTES // (4 * max(1, count))))
    for first in range(0, len(queries), group):
        for scores in documents.scores(queries[first : first + group], docids):
            best = top_k(scores, num_results, ranks)
            yield best if docids is None else docids[best], scores[best]


def search_two_stage(
    documents: CodedLane,
    queries: Sequence[np.ndarray],
    num_results: int,
    tie_ranks: np.ndarray,
    docids: np.ndarray | None = None,
    *,
    n_candidates: int,
    n_probe: int | None = None,
) -> Iterator[Found]:
    """Finds the best documents of each query among those that are best by their centroids.

    Args:
        documents: a lane with centroids.
        queries: as :func:`search_exact` has them, as the rest.
        num_results: the most documents a query gets.
        tie_ranks: ``(n_docs,)``.
        docids: the documents to search.
        n_candidates: documents that are scored in full; all that score as much as the last of them are too.
        n_probe: the centroids of each query token whose documents are looked at; None looks at all documents.

    Yields:
        For each query, in order, what was found.
    """
    chosen = np.arange(len(documents)) if docids is None else docids
    if n_candidates >= len(chosen):
        yield from search_exact(documents, queries, num_results, tie_ranks, docids)
        return

    def search(query: np.ndarray, each: Each = map) -> Found:
        prepared = documents.prepare(query, each)
        candidates, _ = candidates_of(documents, prepared, chosen, n_candidates, n_probe)
        scores = documents.scores_of(prepared, candidates)
        best = top_k(scores, num_results, tie_ranks[candidates])
        return candidates[best], scores[best]

    if _one_thread_each(queries):
        yield from in_threads(search, queries)
    else:
        yield from (search(query, in_threads) for query in queries)


def candidates_of(
    documents: CodedLane,
    query: Prepared,
    docids: np.ndarray,
    count: int,
    n_probe: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The documents that are best by their centroids, and their rough scores.

    Args:
        documents: a lane with centroids.
        query: prepared by it.
        docids: int64, ascending: the documents to look at.
        count: how many are wanted; all that score as much as the last of them come too.
        n_probe: as :func:`search_two_stage` takes it.

    Returns:
        int64 ``(n,)``, in the order of ``docids``, and int32 ``(n,)``.
    """
    if n_probe is not None:
        docids = documents.probed(query.best_centroids(n_probe), docids)
    rough = documents.rough_scores(query, docids)
    chosen = _best(rough, count)
    return docids[chosen], rough[chosen]


def score_pairs(
    documents: Lane, queries: Sequence[np.ndarray], query_numbers: np.ndarray, docids: np.ndarray
) -> np.ndarray:
    """Scores given pairs of queries and documents.

    A document without tokens gets the least that MaxSim can be, -1 for each query token.

    Args:
        documents: the collection.
        queries: for each, float32 ``(n_tokens, dim)``.
        query_numbers: int64 ``(n_pairs,)``, the query of each pair.
        docids: int64 ``(n_pairs,)``, the document of each pair.

    Returns:
        float32 ``(n_pairs,)``.
    """
    scores = np.empty(len(docids), dtype=np.float32)
    order = np.lexsort((docids, query_numbers))  # memory is read upwards
    bounds = np.searchsorted(query_numbers[order], np.arange(len(queries) + 1))
    coded = documents if isinstance(documents, CodedLane) and _one_thread_each(queries) else None

    def score(number: int) -> None:
        pairs, query = order[bounds[number] : bounds[number + 1]], queries[number]
        if len(pairs):
            if coded is None:
                found = documents.scores([query], docids[pairs])[0]
            else:
                found = coded.scores_of(coded.prepare(query), docids[pairs])
            scores[pairs] = np.maximum(found, -np.float32(len(query)))

    for _ in (map if coded is None else in_threads)(score, range(len(queries))):
        pass
    return scores


def _one_thread_each(queries: Sequence[np.ndarray]) -> bool:
    """Whether there are enough queries for each to have a thread of its own."""
    # Two threads that share a query wait for each other whenever something else wants a core.
    return len(queries) >= 2 * thread_count()


def _best(rough: np.ndarray, count: int) -> np.ndarray:
    """The positions, ascending, of the ``count`` greatest and of all that equal the last of them; none below 0."""
    present = rough[rough >= 0]
    if len(present) <= count:
        return np.flatnonzero(rough >= 0)
    threshold = np.partition(present, len(present) - count)[len(present) - count]
    return np.flatnonzero(rough >= threshold)
