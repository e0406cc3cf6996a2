"""From a ranking to pairs of queries and documents, which re-rankers score and explainers explain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, QUERY, QUERY_EMBS, check_ids
from pyterrier_jacolbert.pipeline.encoders import document_texts, encode_texts
from pyterrier_jacolbert.pipeline.frames import factorize, naming_nearest
from pyterrier_jacolbert.pipeline.protocols import Index, Model, check_dimensions, distinct_queries, index_queries

_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Pairs:
    """The pairs of queries and documents in the rows of a ranking.

    Attributes:
        queries: float32 ``(n_positions, dim)`` each, the distinct queries.
        query_numbers: int64 ``(n_pairs,)``, the query of each pair.
        documents: token vectors of the documents; an :class:`~pyterrier_jacolbert.index.reader.IndexReader` or a
            :class:`~pyterrier_jacolbert.index.search.exact.TokenVectors`.
        document_numbers: int64 ``(n_pairs,)``, the document of each pair.
    """

    queries: list[np.ndarray] = field(default_factory=list)
    query_numbers: np.ndarray = field(default_factory=lambda: _NONE)
    documents: Any = None
    document_numbers: np.ndarray = field(default_factory=lambda: _NONE)

    def scores(self) -> np.ndarray:
        """Returns the MaxSim score of each pair: float32 ``(n_pairs,)``."""
        if not len(self.query_numbers):
            return np.empty(0, dtype=np.float32)
        from pyterrier_jacolbert.index.search.pairs import score_pairs

        return score_pairs(self.documents.scorer, self.queries, self.query_numbers, self.document_numbers)

    def contributions(self) -> list[np.ndarray]:
        """Returns the contribution of each query token to the score of each pair: float32 ``(n_positions,)`` each."""
        if not len(self.query_numbers):
            return []
        from pyterrier_jacolbert.index.search.contributions import pair_contributions

        def rows(document: int) -> np.ndarray:
            vectors: np.ndarray = self.documents.rows(document, document + 1)
            return vectors

        return pair_contributions(self.queries, self.query_numbers, rows, self.document_numbers)


def text_pairs(
    transformer: pt.Transformer, inp: pd.DataFrame, model: Model, text_field: str, title_field: str | None
) -> Pairs:
    """Encodes the queries and the texts of a ranking, each distinct one once.

    Args:
        transformer: named in errors.
        inp: a frame with ``qid``, ``query`` or ``query_embs``, ``docno`` and the text column.
        model: the checkpoint.
        text_field: column with the text.
        title_field: column put before the text; None if there is none.

    Raises:
        pt.validate.InputValidationError: a column is missing.
        ValueError: an id, query or text is not a string, a qid stands for two queries, or ``query_embs`` are not
            finite matrices or have other dimensions than the checkpoint's vectors.
    """
    fields = [name for name in (title_field, text_field) if name]
    with naming_nearest(inp, *fields), pt.validate.any(inp, context=transformer) as allowed:
        allowed.result_frame([QUERY, *fields], mode="query")
        allowed.result_frame([QUERY_EMBS, *fields], mode="vectors")
    if inp.empty:
        return Pairs()
    check_ids(inp, QID, DOCNO)
    from pyterrier_jacolbert.index.search.exact import TokenVectors

    query_numbers, queries = distinct_queries(model, inp)
    text_numbers, texts = factorize(document_texts(inp, text_field, title_field))
    vectors = encode_texts(model, texts)
    check_dimensions(queries, vectors[0].shape[1], f"{model!r} encodes documents with")
    return Pairs(queries, query_numbers, TokenVectors.of(vectors), text_numbers)


def index_pairs(transformer: pt.Transformer, inp: pd.DataFrame, index: Index) -> Pairs:
    """Looks up the documents of a ranking in an index, and encodes its queries.

    Args:
        transformer: named in errors.
        inp: a frame with ``qid``, ``query`` or ``query_embs``, and ``docno``.
        index: the index.

    Raises:
        pt.validate.InputValidationError: a column is missing.
        ValueError: an id or query is not a string, or the index does not have a document.
    """
    with pt.validate.any(inp, context=transformer) as allowed:
        allowed.result_frame([QUERY], mode="query")
        allowed.result_frame([QUERY_EMBS], mode="vectors")
    if inp.empty:
        return Pairs()
    check_ids(inp, QID, DOCNO)
    reader = index.token_vectors()  # once: another thread may update the index
    docids = reader.docnos.known_docids(inp[DOCNO].tolist(), owner=repr(index))
    query_numbers, queries = index_queries(index, reader, inp)
    return Pairs(queries, query_numbers, reader, docids)
