"""Explainers: a ranking in, the same rows with what each query token gave to the score."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.frames import CONTRIBUTIONS, DOCNO, QID, QUERY, QUERY_EMBS, check_ids, factorize
from pyterrier_jacolbert.pipeline.encoders import document_texts, encode_texts
from pyterrier_jacolbert.pipeline.sources import Index, Model, distinct_queries, index_queries
from pyterrier_jacolbert.transformer import SettingsTransformer


class TextExplainer(SettingsTransformer):
    """Adds ``contributions`` by encoding the documents' text: float32 ``(n_query_tokens,)`` a row.

    They sum to the score of :class:`~pyterrier_jacolbert.pipeline.scorers.TextScorer`. Rows, scores and ranks stay.

    Args:
        model: the checkpoint.
        text_field: the column with the text.
        title_field: a column put before the text, with a space between.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Explain", "help_url": None}

    def __init__(self, model: Model, *, text_field: str = "text", title_field: str | None = None) -> None:
        self.model = model
        self.text_field = text_field
        self.title_field = title_field

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows with ``contributions``.

        Args:
            inp: a frame with ``qid``, ``query``, ``docno`` and the text column.

        Returns:
            The frame with ``contributions``: for each row float32 ``(n_query_tokens,)``, whose sum is the score.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id, query or text that is not a string.
        """
        fields = [field for field in (self.title_field, self.text_field) if field]
        with pt.validate.any(inp, context=self) as allowed:
            allowed.result_frame([QUERY, *fields], mode="query")
            allowed.result_frame([QUERY_EMBS, *fields], mode="vectors")
        if inp.empty:
            return _with(inp, [])
        check_ids(inp, QID, DOCNO)
        from pyterrier_jacolbert.explain import frame_contributions

        query_codes, queries = distinct_queries(self.model, inp)
        text_codes, texts = factorize(document_texts(inp, self.text_field, self.title_field))
        vectors = encode_texts(self.model, texts)
        return _with(inp, frame_contributions(queries, query_codes, vectors.__getitem__, text_codes))

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``... >> explainer % k`` cuts first: rows that go need no explanation."""
        return pt.RankCutoff(k) >> self


class IndexExplainer(SettingsTransformer):
    """Adds ``contributions`` from the stored vectors: float32 ``(n_query_tokens,)`` a row.

    They sum to the scores of the index's retrievers and scorer, within what these round (8 bits a query number where
    the index is compressed). Rows, scores and ranks stay.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "Stored Explain", "help_url": None}

    def __init__(self, index: Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows with ``contributions``.

        Args:
            inp: a frame with ``qid``, ``query`` or ``query_embs``, and ``docno``.

        Returns:
            The frame with ``contributions``: for each row float32 ``(n_query_tokens,)``, whose sum is the score.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id or query that is not a string, or documents that the index does not have.
        """
        with pt.validate.any(inp, context=self) as allowed:
            allowed.result_frame([QUERY], mode="query")
            allowed.result_frame([QUERY_EMBS], mode="vectors")
        if inp.empty:
            return _with(inp, [])
        check_ids(inp, QID, DOCNO)
        from pyterrier_jacolbert.explain import frame_contributions

        # One look at the index: it may change between two.
        stored = self.index.token_vectors()
        docids = stored.docnos.known_docids(inp[DOCNO].tolist(), owner=repr(self.index))
        query_codes, queries = index_queries(self.index, stored, inp)
        return _with(
            inp, frame_contributions(queries, query_codes, lambda docid: stored.rows(docid, docid + 1), docids)
        )

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``... >> explainer % k`` cuts first: rows that go need no explanation."""
        return pt.RankCutoff(k) >> self


def _with(inp: pd.DataFrame, contributions: list[Any]) -> pd.DataFrame:
    return inp.assign(**{CONTRIBUTIONS: pd.Series(contributions, dtype=object, index=inp.index)})
