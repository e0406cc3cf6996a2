"""The layout of re-ranking benchmarks: for each query some candidates, each with a label.

The candidates are `scoreddocs` in `ir_datasets`, and `dataset.get_results()` in PyTerrier. All have the score 0: the
order in which a source gives them may tell which one is relevant.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc

from pyterrier_jacolbert.datasets._collection import Records, TitledDoc


class Candidate(NamedTuple):
    """A candidate for a query."""

    query: GenericQuery
    doc: TitledDoc
    relevance: int


def collect(candidates: Iterable[Candidate]) -> Records:
    """A collection of the candidates' documents, each once, with every candidate judged.

    Args:
        candidates: In the order of the source.

    Returns:
        Documents and queries in the order of their first appearance; judgements 1 and 0; candidates.
    """
    docs: dict[str, TitledDoc] = {}
    queries: dict[str, GenericQuery] = {}
    judged: dict[tuple[str, str], int] = {}
    for query, doc, relevance in candidates:
        queries.setdefault(query.query_id, query)
        docs.setdefault(doc.doc_id, doc)
        pair = (query.query_id, doc.doc_id)
        # A document that is listed twice for a query is relevant if it is anywhere.
        judged[pair] = max(relevance, judged.get(pair, 0))
    return Records(
        list(docs.values()),
        list(queries.values()),
        [GenericQrel(query_id, doc_id, relevance) for (query_id, doc_id), relevance in judged.items()],
        [GenericScoredDoc(query_id, doc_id, 0.0) for query_id, doc_id in judged],
    )
