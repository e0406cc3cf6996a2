"""ColBERT-PRF: a ranking in, expanded queries out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, QUERY, QUERY_EMBS, RANK, SCORE, check_ids
from pyterrier_jacolbert.index.limits import check_positive
from pyterrier_jacolbert.pipeline.base import SettingsTransformer
from pyterrier_jacolbert.pipeline.frames import first_rows, ranked
from pyterrier_jacolbert.pipeline.protocols import Index, index_queries

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.reader import IndexReader
    from pyterrier_jacolbert.index.search.prf import CentroidIDF


class ColBERTPRF(SettingsTransformer):
    """Expands each query by vectors of what is rare in its best documents.

    ColBERT-PRF (Wang et al., ICTIR 2021, arXiv 2106.11251): the token vectors of the feedback documents are clustered,
    and the clusters with the greatest IDF are appended to the query, each weighted by its IDF and ``beta``. The IDF is
    that of the nearest centroid of the index, instead of the nearest token as in the paper.

    Use it between two retrievals, ``retriever >> index.prf() >> retriever``, or before a re-ranker.

    Args:
        index: the index.
        fb_docs: number of feedback documents per query.
        fb_embs: number of clusters that are appended to the query.
        beta: weight of the expansion.
        k: number of clusters.

    Raises:
        ValueError: a number is not positive, or ``beta`` is negative.
    """

    schematic: dict[str, Any] = {"label": "ColBERT-PRF", "help_url": None}

    def __init__(self, index: Index, *, fb_docs: int = 3, fb_embs: int = 10, beta: float = 1.0, k: int = 24) -> None:
        check_positive(fb_docs=fb_docs, fb_embs=fb_embs, k=k)
        if not beta >= 0:
            raise ValueError(f"beta must be 0 or more, not {beta!r}.")
        self.index = index
        self.fb_docs = fb_docs
        self.fb_embs = fb_embs
        self.beta = beta
        self.k = k
        self._centroid_idf: tuple[IndexReader, CentroidIDF] | None = None

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Expands the queries of a ranking.

        Args:
            inp: a ranking: ``qid``, ``query``, ``docno``, ``rank``.

        Returns:
            One row per query, in the order of the ranking, with the query columns and the expanded ``query_embs``,
            which retrievers and re-rankers of this package prefer to the text. The text stays in ``query``, and is also
            pushed to ``query_0``, as by PyTerrier's own query rewriters.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id or query is not a string, a qid stands for two queries, or the index does not have a
                document.
        """
        with pt.validate.any(inp, context=self) as allowed:
            allowed.result_frame([QUERY], mode="query")
            allowed.result_frame([QUERY_EMBS], mode="vectors")
        firsts = first_rows(inp)
        kept = [column for column in pt.model.query_columns(inp) if column != QUERY_EMBS]
        queries = inp[kept].iloc[firsts].reset_index(drop=True)
        if QUERY in kept:
            queries = pt.model.push_queries(queries, keep_original=True)
        if inp.empty:
            return queries.assign(**{QUERY_EMBS: pd.Series(dtype=object)})
        check_ids(inp, QID, DOCNO)
        reader = self.index.token_vectors()
        numbers, vectors = index_queries(self.index, reader, inp)
        best = ranked(inp, inp[SCORE].to_numpy())
        best = best[best[RANK] < self.fb_docs].reset_index(drop=True)
        docids = reader.docnos.known_docids(best[DOCNO].tolist(), owner=repr(self.index))
        rows = best.groupby(QID, sort=False).indices
        expanded = [
            self._expand(reader, vectors[number], docids[rows[qid]])
            for qid, number in zip(queries[QID], numbers[firsts], strict=True)
        ]
        return queries.assign(**{QUERY_EMBS: pd.Series(expanded, dtype=object)})

    def _expand(self, reader: IndexReader, query: np.ndarray, docids: np.ndarray) -> np.ndarray:
        from pyterrier_jacolbert.index.search.prf import CentroidIDF, expansion

        if self._centroid_idf is None or self._centroid_idf[0] is not reader:
            self._centroid_idf = (reader, CentroidIDF.of(reader))
        feedback = np.concatenate([reader.document_rows(docid) for docid in docids.tolist()])
        if not len(feedback):
            return query
        centres, weights = expansion(feedback, self._centroid_idf[1], self.k, self.fb_embs)
        # Scaling a vector by w scales its greatest similarity by w.
        return np.concatenate([query, centres * (self.beta * weights)[:, None]]).astype(np.float32)

    def compile(self) -> pt.Transformer:
        """Limits the input to the feedback documents."""
        return pt.RankCutoff(self.fb_docs) >> self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_centroid_idf": None}
