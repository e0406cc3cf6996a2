"""Retrievers: queries in, rankings of the whole index out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.frames import QID, QUERY, QUERY_EMBS, check_ids, results
from pyterrier_jacolbert.index.limits import check_num_results
from pyterrier_jacolbert.pipeline.sources import Index, distinct_queries
from pyterrier_jacolbert.transformer import SettingsTransformer


class ExactRetriever(SettingsTransformer):
    """Scores every document of the index with MaxSim and returns the best.

    Takes ``query``, or ``query_embs`` where the frame has them (no checkpoint is loaded then). All queries of a frame
    are searched together; each is encoded on its own, so the others of the frame make no difference.

    Args:
        index: the index.
        num_results: the most documents a query gets.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Exact", "help_url": None}

    def __init__(self, index: Index, *, num_results: int = 1000) -> None:
        self.index = index
        self.num_results = check_num_results(num_results)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks the index for each query of a frame.

        Returns:
            The query columns with docno, score and rank: queries in the frame's order, best document first, ties by
            docno descending.

        Raises:
            pt.validate.InputValidationError: ``qid`` is missing, or both ``query`` and ``query_embs``; or the frame
                has documents already (re-rank those with ``index.scorer()``).
            ValueError: a qid or query that is not a string, a repeated qid, or vectors of another dimension.
        """
        with pt.validate.any(inp, context=self) as allowed:
            allowed.query_frame([QUERY], mode="query")
            allowed.query_frame([QUERY_EMBS], mode="vectors")
        if inp.empty:
            return results(inp, np.empty(0, dtype=np.int64), [], np.empty(0))
        check_ids(inp, QID)
        codes, vectors = distinct_queries(self.index, inp)
        from pyterrier_jacolbert.index.search import search_exact

        documents, docnos = self.index.token_vectors(), self.index.docnos()
        found = list(search_exact(documents, vectors, self.num_results, docnos.ranks, documents.deleted))
        docids = np.concatenate([found[code][0] for code in codes])
        scores = np.concatenate([found[code][1] for code in codes])
        rows = np.repeat(np.arange(len(inp)), [len(found[code][0]) for code in codes])
        return results(inp, rows, [docnos[docid] for docid in docids], scores)

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``retriever % k`` searches for ``k`` documents; a looser cut than its own changes nothing."""
        return self if k >= self.num_results else pt.inspect.transformer_apply_attributes(self, num_results=k)
