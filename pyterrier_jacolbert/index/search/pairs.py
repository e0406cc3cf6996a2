"""Full scores of given pairs of queries and documents, for re-ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyterrier_jacolbert.index.search.exact import Scorer
from pyterrier_jacolbert.index.search.quantized import QuantizedScorer
from pyterrier_jacolbert.index.search.two_stage import one_thread_per_query
from pyterrier_jacolbert.index.threads import in_threads


def score_pairs(
    documents: Scorer, queries: Sequence[np.ndarray], query_numbers: np.ndarray, docids: np.ndarray
) -> np.ndarray:
    """Scores pairs of queries and documents.

    A document without tokens gets the lowest possible MaxSim score, -1 per query token.

    Args:
        documents: scorer of the collection.
        queries: float32 ``(n_tokens, dim)`` each.
        query_numbers: int64 ``(n_pairs,)``, the query of each pair.
        docids: int64 ``(n_pairs,)``, the document of each pair.

    Returns:
        float32 ``(n_pairs,)``.
    """
    scores = np.empty(len(docids), dtype=np.float32)
    order = np.lexsort((docids, query_numbers))  # ascending docids: sequential reads
    bounds = np.searchsorted(query_numbers[order], np.arange(len(queries) + 1))
    threads_per_query = isinstance(documents, QuantizedScorer) and one_thread_per_query(len(queries))

    def score(number: int) -> None:
        pairs, query = order[bounds[number] : bounds[number + 1]], queries[number]
        if not len(pairs):
            return
        if threads_per_query and isinstance(documents, QuantizedScorer):
            found = documents.scores_of(documents.prepare(query), docids[pairs])
        else:
            found = documents.scores([query], docids[pairs])[0]
        scores[pairs] = np.maximum(found, -np.float32(len(query)))

    for _ in (in_threads if threads_per_query else map)(score, range(len(queries))):
        pass
    return scores
