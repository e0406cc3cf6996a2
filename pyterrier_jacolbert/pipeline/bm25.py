"""Japanese BM25 in pipelines: a retriever and a re-ranker over a :class:`~pyterrier_jacolbert.JapaneseBM25` index."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyterrier as pt
from tqdm.auto import tqdm

from pyterrier_jacolbert.columns import DOCNO, QID, QUERY, check_column, check_ids
from pyterrier_jacolbert.index.bm25_reader import BM25Reader
from pyterrier_jacolbert.index.limits import check_positive
from pyterrier_jacolbert.index.storage.bm25_manifest import BM25Settings
from pyterrier_jacolbert.japanese.words import tokenize
from pyterrier_jacolbert.pipeline.base import SettingsTransformer
from pyterrier_jacolbert.pipeline.frames import check_one_query_per_qid, factorize, first_rows, ranked, results


class BM25Index(Protocol):
    """A BM25 index; :class:`~pyterrier_jacolbert.JapaneseBM25` is one."""

    verbose: bool

    def reader(self) -> BM25Reader:
        """Returns the open index, in one state."""
        ...


class JapaneseBM25Retriever(SettingsTransformer):
    """Retrieves documents of a :class:`~pyterrier_jacolbert.JapaneseBM25` index that share a word with the query.

    Args:
        index: the index.
        num_results: maximum number of results per query.

    Raises:
        ValueError: ``num_results`` is not a positive integer.
    """

    schematic: dict[str, Any] = {"label": "Japanese BM25", "help_url": None}

    def __init__(self, index: BM25Index, *, num_results: int = 1000) -> None:
        check_positive(num_results=num_results)
        self.index = index
        self.num_results = num_results

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks the documents of the index for each query of a frame.

        Args:
            inp: a frame with ``qid`` and ``query``.

        Returns:
            The query columns with docno, score and rank: queries in the order of the frame, best document first, ties
            by docno descending. A query that is in several rows with the same qid gets one ranking, with the other
            columns of its first row.

        Raises:
            FileNotFoundError: there is no index at the path yet.
            pt.validate.InputValidationError: ``qid`` or ``query`` is missing, or the frame has documents already.
            ValueError: a qid or query is not a string, or a qid stands for two queries.
        """
        pt.validate.query_frame(inp, [QUERY], context=self)
        if inp.empty:
            return results(inp, np.empty(0, dtype=np.int64), [], np.empty(0))
        check_ids(inp, QID)
        queries = check_column(inp, QUERY, QID)
        check_one_query_per_qid(inp, factorize(queries)[0])
        firsts = first_rows(inp)
        inp, queries = inp.iloc[firsts], [queries[row] for row in firsts]
        progress = tqdm(queries, desc="BM25", unit=" queries", disable=not self.index.verbose)
        reader = self.index.reader()
        tokenize = tokenizer_of(reader.manifest.settings)
        hits = [reader.best_documents(tokenize(query), self.num_results) for query in progress]
        rows = np.repeat(np.arange(len(inp)), [len(docids) for docids, _ in hits])
        docids, scores = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        return results(inp, rows, [reader.docnos[docid] for docid in docids], scores)

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """Fuses ``retriever % k`` to a retriever with ``k`` results, unless it has fewer already."""
        return self if k >= self.num_results else pt.inspect.transformer_apply_attributes(self, num_results=k)


class JapaneseBM25Scorer(SettingsTransformer):
    """Re-ranks documents by their BM25 score in a :class:`~pyterrier_jacolbert.JapaneseBM25` index.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "Japanese BM25 Scorer", "help_url": None}

    def __init__(self, index: BM25Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores the document of each row for its query.

        Args:
            inp: a frame with ``qid``, ``query`` and ``docno``.

        Returns:
            The rows with new score and rank: queries in order of first appearance, best document first, ties by docno
            descending.

        Raises:
            FileNotFoundError: there is no index at the path yet.
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id or query is not a string, a qid stands for two queries, or the index does not have a
                document.
        """
        pt.validate.result_frame(inp, [QUERY], context=self)
        if inp.empty:
            return ranked(inp, np.empty(0))
        check_ids(inp, QID, DOCNO)
        query_numbers, queries = factorize(check_column(inp, QUERY, QID))
        check_one_query_per_qid(inp, query_numbers)
        reader = self.index.reader()
        docids = reader.docnos.known_docids(inp[DOCNO].tolist(), owner=repr(self.index))
        scores = np.empty(len(inp), dtype=np.float32)
        order = np.argsort(query_numbers, kind="stable")
        rows_by_query = np.split(order, np.cumsum(np.bincount(query_numbers))[:-1])
        tokenize = tokenizer_of(reader.manifest.settings)
        for query, rows in zip(queries, rows_by_query, strict=True):
            scores[rows] = reader.scores(tokenize(query))[docids[rows]]
        return ranked(inp, scores)


def tokenizer_of(settings: BM25Settings) -> Callable[[str], list[str]]:
    """Returns the function that splits a text into words for an index with these settings."""
    return partial(tokenize, analyzer=settings.analyzer, normalize=settings.normalize)
