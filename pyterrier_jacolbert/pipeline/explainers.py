"""Explainers: a ranking in, the same rows with the contribution of each query token to the score out."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pyterrier_jacolbert.columns import CONTRIBUTIONS
from pyterrier_jacolbert.pipeline.base import RowTransformer
from pyterrier_jacolbert.pipeline.pairs import Pairs, index_pairs, text_pairs
from pyterrier_jacolbert.pipeline.protocols import Index, Model


class TextExplainer(RowTransformer):
    """Adds ``contributions`` by encoding the text of documents: float32 ``(n_query_tokens,)`` per row.

    They sum to the score of :class:`~pyterrier_jacolbert.pipeline.TextReranker`. Rows, scores and ranks stay.

    Args:
        model: the checkpoint.
        text_field: column with the text.
        title_field: column put before the text, with a space between, unless it is missing or blank.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Explain", "help_url": None}

    def __init__(self, model: Model, *, text_field: str = "text", title_field: str | None = None) -> None:
        self.model = model
        self.text_field = text_field
        self.title_field = title_field

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Adds ``contributions`` to each row.

        Args:
            inp: a frame with ``qid``, ``query`` or ``query_embs``, ``docno`` and the text column.

        Returns:
            The frame with ``contributions``: float32 ``(n_query_tokens,)`` per row, whose sum is the score.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id, query or text is not a string.
        """
        return _with_contributions(inp, text_pairs(self, inp, self.model, self.text_field, self.title_field))


class IndexExplainer(RowTransformer):
    """Adds ``contributions`` from the stored vectors: float32 ``(n_query_tokens,)`` per row.

    They sum to the scores of the index's retrievers and re-ranker up to their rounding (8 bits per dimension of the
    query if the index is compressed). Rows, scores and ranks stay.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "Stored Explain", "help_url": None}

    def __init__(self, index: Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Adds ``contributions`` to each row.

        Args:
            inp: a frame with ``qid``, ``query`` or ``query_embs``, and ``docno``.

        Returns:
            The frame with ``contributions``: float32 ``(n_query_tokens,)`` per row, whose sum is the score.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id or query is not a string, or the index does not have a document.
        """
        return _with_contributions(inp, index_pairs(self, inp, self.index))


def _with_contributions(inp: pd.DataFrame, pairs: Pairs) -> pd.DataFrame:
    column = pd.Series(pairs.contributions(), dtype=object, index=inp.index)
    return inp.assign(**{CONTRIBUTIONS: column})
