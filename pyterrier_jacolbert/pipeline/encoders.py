"""Encoders as transformers: they add token vectors to frames with text."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyterrier as pt
from tqdm.auto import tqdm

from pyterrier_jacolbert.columns import DOC_EMBS, DOCNO, QID, QUERY, QUERY_EMBS, check_column, check_ids, join_title
from pyterrier_jacolbert.pipeline.base import RowTransformer
from pyterrier_jacolbert.pipeline.frames import naming_nearest
from pyterrier_jacolbert.pipeline.protocols import Model


class QueryEncoder(RowTransformer):
    """Adds ``query_embs`` to frames with ``qid`` and ``query``: float32 ``(n_positions, dim)`` per query, unit rows.

    Args:
        model: the checkpoint.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Query", "help_url": None}

    def __init__(self, model: Model) -> None:
        self.model = model

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Encodes the queries of a frame, each distinct query once.

        Args:
            inp: a frame with ``qid`` and ``query``.

        Returns:
            The frame with ``query_embs``: float32 ``(n_positions, dim)`` per row.

        Raises:
            pt.validate.InputValidationError: ``qid`` or ``query`` is missing.
            ValueError: a qid or query is not a string.
        """
        pt.validate.columns(inp, includes=[QID, QUERY], context=self)
        if inp.empty:
            return inp.assign(**{QUERY_EMBS: pd.Series(dtype=object, index=inp.index)})
        check_ids(inp, QID)
        vectors = self.model.encode_queries(check_column(inp, QUERY, QID))
        return inp.assign(**{QUERY_EMBS: pd.Series(vectors, dtype=object, index=inp.index)})


class DocEncoder(RowTransformer):
    """Adds ``doc_embs`` to frames with documents: float32 ``(n_tokens, dim)`` per document, unit rows.

    Args:
        model: the checkpoint.
        text_field: column with the text.
        title_field: column put before the text, with a space between, unless it is missing or blank.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Doc", "help_url": None}

    def __init__(self, model: Model, *, text_field: str = "text", title_field: str | None = None) -> None:
        self.model = model
        self.text_field = text_field
        self.title_field = title_field

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Encodes the documents of a frame, each distinct text once.

        Args:
            inp: a frame with ``docno`` and the text column.

        Returns:
            The frame with ``doc_embs``: float32 ``(n_tokens, dim)`` per row.

        Raises:
            pt.validate.InputValidationError: ``docno`` or the text column is missing.
            ValueError: a docno or text is not a string.
        """
        fields = [field for field in (self.title_field, self.text_field) if field]
        with naming_nearest(inp, *fields):
            pt.validate.columns(inp, includes=[DOCNO, *fields], context=self)
        if inp.empty:
            return inp.assign(**{DOC_EMBS: pd.Series(dtype=object, index=inp.index)})
        vectors = encode_texts(self.model, document_texts(inp, self.text_field, self.title_field))
        return inp.assign(**{DOC_EMBS: pd.Series(vectors, dtype=object, index=inp.index)})


def document_texts(inp: pd.DataFrame, text_field: str, title_field: str | None) -> list[str]:
    """Returns the checked texts of the documents of a frame, title first; "" for a text of white space alone."""
    check_ids(inp, DOCNO)
    titles = [None] * len(inp) if title_field is None else inp[title_field]
    return [
        join_title(title, text, f"docno {docno!r}", title_field=title_field, text_field=text_field)
        for docno, title, text in zip(inp[DOCNO], titles, inp[text_field], strict=True)
    ]


def encode_texts(model: Model, texts: list[str]) -> list[Any]:
    """Encodes documents, with a progress bar if the model is verbose."""
    with tqdm(total=len(texts), desc="encoding", unit=" documents", disable=not model.verbose) as bar:
        return model.encode_documents(texts, bar.update)
