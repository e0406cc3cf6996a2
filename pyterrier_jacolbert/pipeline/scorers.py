"""Re-rankers: a ranking in, the same documents with new scores and ranks out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.frames import DOCNO, QID, QUERY, QUERY_EMBS, check_ids, factorize, ranked
from pyterrier_jacolbert.pipeline.encoders import document_texts, encode_texts
from pyterrier_jacolbert.pipeline.sources import Index, Model, distinct_queries, index_queries
from pyterrier_jacolbert.transformer import SettingsTransformer


class TextScorer(SettingsTransformer):
    """Re-ranks by encoding the documents' text; each distinct query and each distinct text is encoded once a frame.

    Args:
        model: the checkpoint.
        text_field: the column with the text.
        title_field: a column put before the text, with a space between.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Text", "help_url": None}

    def __init__(self, model: Model, *, text_field: str = "text", title_field: str | None = None) -> None:
        self.model = model
        self.text_field = text_field
        self.title_field = title_field

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores each row's document for its query.

        Args:
            inp: a frame with ``qid``, ``query``, ``docno`` and the text column.

        Returns:
            The rows with new score and rank: queries in order of first appearance, best document first, ties by docno
            descending. A document without text gets the least score there is, -1 for each query position.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id, query or text that is not a string.
        """
        fields = [field for field in (self.title_field, self.text_field) if field]
        with pt.validate.any(inp, context=self) as allowed:
            allowed.result_frame([QUERY, *fields], mode="query")
            allowed.result_frame([QUERY_EMBS, *fields], mode="vectors")
        if inp.empty:
            return ranked(inp, np.empty(0))
        check_ids(inp, QID, DOCNO)
        from pyterrier_jacolbert.index.lanes import FloatLane, TokenVectors
        from pyterrier_jacolbert.index.search import score_pairs

        query_codes, queries = distinct_queries(self.model, inp)
        text_codes, texts = factorize(document_texts(inp, self.text_field, self.title_field))
        documents = FloatLane(TokenVectors.of(encode_texts(self.model, texts)))
        return ranked(inp, score_pairs(documents, queries, query_codes, text_codes))


class IndexScorer(SettingsTransformer):
    """Re-ranks with the vectors that the index stores; no document is encoded.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Stored", "help_url": None}

    def __init__(self, index: Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores each row's document for its query; as :meth:`TextScorer.transform`, from the index.

        Args:
            inp: a frame with ``qid``, ``query`` or ``query_embs``, and ``docno``.

        Returns:
            As :meth:`TextScorer.transform`.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id or query that is not a string, or documents that the index does not have.
        """
        with pt.validate.any(inp, context=self) as allowed:
            allowed.result_frame([QUERY], mode="query")
            allowed.result_frame([QUERY_EMBS], mode="vectors")
        if inp.empty:
            return ranked(inp, np.empty(0))
        check_ids(inp, QID, DOCNO)
        from pyterrier_jacolbert.index.search import score_pairs

        stored = self.index.token_vectors()
        docids = stored.docnos.known_docids(inp[DOCNO].tolist(), owner=repr(self.index))
        query_codes, queries = index_queries(self.index, stored, inp)
        return ranked(inp, score_pairs(stored.lane, queries, query_codes, docids))
