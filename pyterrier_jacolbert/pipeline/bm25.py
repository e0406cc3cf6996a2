"""Japanese BM25 in pipelines: a retriever and a re-ranker over a :class:`~pyterrier_jacolbert.JapaneseBM25` index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyterrier as pt
from tqdm.auto import tqdm

from pyterrier_jacolbert.frames import (
    DOCNO,
    QID,
    QUERY,
    check_column,
    check_ids,
    check_one_query_each,
    factorize,
    ranked,
    results,
)
from pyterrier_jacolbert.index.limits import check_num_results
from pyterrier_jacolbert.morphology import tokenize
from pyterrier_jacolbert.transformer import SettingsTransformer

if TYPE_CHECKING:
    from pyterrier_jacolbert.bm25 import JapaneseBM25


class JapaneseBM25Retriever(SettingsTransformer):
    """Ranks the documents of a :class:`JapaneseBM25` index; only those that share a word with the query.

    Args:
        index: the index.
        num_results: the most documents a query gets.

    Raises:
        ValueError: ``num_results`` is not a positive integer.
    """

    schematic: dict[str, Any] = {"label": "Japanese BM25", "help_url": None}

    def __init__(self, index: JapaneseBM25, *, num_results: int = 1000) -> None:
        self.index = index
        self.num_results = check_num_results(num_results)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks the index for each query of a frame.

        Returns:
            The query columns with docno, score and rank: queries in the frame's order, best document first, ties by
            docno descending.

        Raises:
            FileNotFoundError: there is no index at the path yet.
            pt.validate.InputValidationError: ``qid`` or ``query`` is missing, or the frame has documents already.
            ValueError: a qid or query that is not a string, or a qid that stands for two queries.
        """
        pt.validate.query_frame(inp, [QUERY], context=self)
        if inp.empty:
            return results(inp, np.empty(0, dtype=np.int64), [], np.empty(0))
        check_ids(inp, QID)
        queries = check_column(inp, QUERY, QID)
        check_one_query_each(inp, factorize(queries)[0])
        progress = tqdm(queries, desc="BM25", unit=" queries", disable=not self.index.verbose)
        analyzer = self.index.analyzer
        found = [self.index.best_documents(tokenize(query, analyzer), self.num_results) for query in progress]
        docnos = self.index.docnos()
        rows = np.repeat(np.arange(len(inp)), [len(docids) for docids, _ in found])
        docids, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return results(inp, rows, [docnos[docid] for docid in docids], scores)

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``retriever % k`` searches for ``k`` documents; a looser cut than its own changes nothing."""
        return self if k >= self.num_results else pt.inspect.transformer_apply_attributes(self, num_results=k)


class JapaneseBM25Scorer(SettingsTransformer):
    """Re-ranks documents by their BM25 score in a :class:`JapaneseBM25` index.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "Japanese BM25 Scorer", "help_url": None}

    def __init__(self, index: JapaneseBM25) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores each row's document for its query.

        Returns:
            The rows with new score and rank: queries in order of first appearance, best document first, ties by docno
            descending.

        Raises:
            FileNotFoundError: there is no index at the path yet.
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id or query that is not a string, or documents that the index does not have.
        """
        pt.validate.result_frame(inp, [QUERY], context=self)
        if inp.empty:
            return ranked(inp, np.empty(0))
        check_ids(inp, QID, DOCNO)
        query_codes, queries = factorize(check_column(inp, QUERY, QID))
        check_one_query_each(inp, query_codes)
        docids = self.index.docnos().known_docids(inp[DOCNO].tolist(), owner=repr(self.index))
        scores = np.empty(len(inp), dtype=np.float32)
        order = np.argsort(query_codes, kind="stable")
        groups = np.split(order, np.cumsum(np.bincount(query_codes))[:-1])
        analyzer = self.index.analyzer
        for query, rows in zip(queries, groups, strict=True):
            scores[rows] = self.index.scores(tokenize(query, analyzer))[docids[rows]]
        return ranked(inp, scores)
