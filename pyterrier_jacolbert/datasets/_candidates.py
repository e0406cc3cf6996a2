"""The layout of re-ranking benchmarks: a set of labelled candidates for each query.

The candidates become `scoreddocs` in `ir_datasets` and `dataset.get_results()` in PyTerrier. All have the score 0
because the order in which a source lists them may reveal the relevant one.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc

from pyterrier_jacolbert.datasets._collection import Records, TitledDoc


class Candidate(NamedTuple):
    """A candidate document for a query, with its relevance label."""

    query: GenericQuery
    doc: TitledDoc
    relevance: int


def collect_candidates(candidates: Iterable[Candidate]) -> Records:
    """Collects the distinct queries and documents of candidates, and judges every candidate.

    Args:
        candidates: candidates in the order of the source.

    Returns:
        Documents and queries in order of first appearance, a judgement (1 or 0) per candidate, and the candidates.
    """
    docs: dict[str, TitledDoc] = {}
    queries: dict[str, GenericQuery] = {}
    labels: dict[tuple[str, str], int] = {}
    for query, doc, relevance in candidates:
        queries.setdefault(query.query_id, query)
        docs.setdefault(doc.doc_id, doc)
        pair = (query.query_id, doc.doc_id)
        # A document listed twice for a query is relevant if either entry says so.
        labels[pair] = max(relevance, labels.get(pair, 0))
    return Records(
        list(docs.values()),
        list(queries.values()),
        [GenericQrel(query_id, doc_id, relevance) for (query_id, doc_id), relevance in labels.items()],
        [GenericScoredDoc(query_id, doc_id, 0.0) for query_id, doc_id in labels],
    )
