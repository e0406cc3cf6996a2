"""Pseudo-relevance feedback: rankings in, longer queries out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.frames import DOCNO, QID, QUERY, QUERY_EMBS, RANK, SCORE, check_ids, ranked
from pyterrier_jacolbert.pipeline.sources import Index, index_queries
from pyterrier_jacolbert.transformer import SettingsTransformer

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.feedback import Rarity
    from pyterrier_jacolbert.index.stored import Stored


class ColBERTPRF(SettingsTransformer):
    """Adds to each query what is rare in the documents that were found for it, as vectors beside its own.

    ColBERT-PRF (Wang et al., ICTIR 2021, arXiv 2106.11251): the token vectors of the first documents are clustered, and
    the clusters with the greatest idf join the query, each times its idf and ``beta``. The idf is that of the index's
    nearest centroid, where the paper has that of the nearest token.

    Use it between two retrievals: ``retriever >> index.prf() >> retriever``, or before a re-ranking.

    Args:
        index: the index.
        fb_docs: documents that are taken for relevant.
        fb_embs: clusters that join the query.
        beta: their weight.
        k: clusters.

    Raises:
        ValueError: a number that is not positive, or a ``beta`` below 0.
    """

    schematic: dict[str, Any] = {"label": "ColBERT-PRF", "help_url": None}

    def __init__(self, index: Index, *, fb_docs: int = 3, fb_embs: int = 10, beta: float = 1.0, k: int = 24) -> None:
        for name, number in (("fb_docs", fb_docs), ("fb_embs", fb_embs), ("k", k)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"{name} must be a positive integer, not {number!r}.")
        if not beta >= 0:
            raise ValueError(f"beta must be 0 or more, not {beta!r}.")
        self.index = index
        self.fb_docs = fb_docs
        self.fb_embs = fb_embs
        self.beta = beta
        self.k = k
        self._counted: tuple[Stored, Rarity] | None = None

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Makes the queries of a ranking longer.

        Args:
            inp: a ranking: ``qid``, ``query``, ``docno``, ``rank``.

        Returns:
            A row a query, in the ranking's order, with the query columns and ``query_embs``; the query's text stands in
            ``query_0``, so that a retriever takes the vectors.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id or query that is not a string, or documents that the index does not have.
        """
        with pt.validate.any(inp, context=self) as allowed:
            allowed.result_frame([QUERY], mode="query")
            allowed.result_frame([QUERY_EMBS], mode="vectors")
        firsts = inp.drop_duplicates(QID)
        kept = [column for column in pt.model.query_columns(inp) if column not in (QUERY, QUERY_EMBS)]
        queries = firsts[kept].reset_index(drop=True)
        if QUERY in inp.columns:
            queries["query_0"] = firsts[QUERY].to_numpy()
        if inp.empty:
            return queries.assign(**{QUERY_EMBS: pd.Series(dtype=object)})
        check_ids(inp, QID, DOCNO)
        best = ranked(inp, inp[SCORE].to_numpy())
        best = best[best[RANK] < self.fb_docs].reset_index(drop=True)
        stored = self.index.token_vectors()
        codes, vectors = index_queries(self.index, stored, best)
        docids = stored.docnos.known_docids(best[DOCNO].tolist(), owner=repr(self.index))
        groups = best.groupby(QID, sort=False).indices
        longer = [self._longer(stored, vectors[codes[groups[qid][0]]], docids[groups[qid]]) for qid in firsts[QID]]
        return queries.assign(**{QUERY_EMBS: pd.Series(longer, dtype=object)})

    def _longer(self, stored: Stored, query: np.ndarray, docids: np.ndarray) -> np.ndarray:
        from pyterrier_jacolbert.index.feedback import Rarity, expansion

        if self._counted is None or self._counted[0] is not stored:
            self._counted = (stored, Rarity.of(stored))
        feedback = np.concatenate([stored.rows(docid, docid + 1) for docid in docids.tolist()])
        if not len(feedback):
            return query
        centres, weights = expansion(feedback, self._counted[1], self.k, self.fb_embs)
        # The greatest similarity with a vector that is w times as long is w times as great.
        return np.concatenate([query, centres * (self.beta * weights)[:, None]]).astype(np.float32)

    def compile(self) -> pt.Transformer:
        """No more documents need to come in than are looked at."""
        return pt.RankCutoff(self.fb_docs) >> self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_counted": None}
