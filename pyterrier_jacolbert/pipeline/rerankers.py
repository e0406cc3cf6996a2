"""Re-rankers: a ranking in, the same documents with new scores and ranks out."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pyterrier_jacolbert.pipeline.base import SettingsTransformer
from pyterrier_jacolbert.pipeline.frames import ranked
from pyterrier_jacolbert.pipeline.pairs import index_pairs, text_pairs
from pyterrier_jacolbert.pipeline.protocols import Index, Model


class TextReranker(SettingsTransformer):
    """Re-ranks by encoding the text of documents; each distinct query and text of a frame is encoded once.

    Args:
        model: the checkpoint.
        text_field: column with the text.
        title_field: column put before the text, with a space between, unless it is missing or blank.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Text", "help_url": None}

    def __init__(self, model: Model, *, text_field: str = "text", title_field: str | None = None) -> None:
        self.model = model
        self.text_field = text_field
        self.title_field = title_field

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores the document of each row for its query.

        Args:
            inp: a frame with ``qid``, ``query`` or ``query_embs``, ``docno`` and the text column.

        Returns:
            The rows with new score and rank: queries in order of first appearance, best document first, ties by docno
            descending. A document without text gets the lowest possible score, -1 per query position.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id, query or text is not a string.
        """
        return ranked(inp, text_pairs(self, inp, self.model, self.text_field, self.title_field).scores())


class IndexReranker(SettingsTransformer):
    """Re-ranks with the vectors that an index stores; no document is encoded.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Stored", "help_url": None}

    def __init__(self, index: Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores the document of each row for its query, from the index.

        Args:
            inp: a frame with ``qid``, ``query`` or ``query_embs``, and ``docno``.

        Returns:
            See :meth:`TextReranker.transform`.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: an id or query is not a string, or the index does not have a document.
        """
        return ranked(inp, index_pairs(self, inp, self.index).scores())
