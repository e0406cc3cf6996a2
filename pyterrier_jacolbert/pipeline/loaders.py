"""Loaders: they add the stored text or the stored token vectors of documents to frames."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOC_EMBS, DOCNO, check_ids
from pyterrier_jacolbert.pipeline.base import RowTransformer, SettingsTransformer
from pyterrier_jacolbert.pipeline.protocols import Index


class TextLoader(SettingsTransformer):
    """Adds ``text`` to frames with ``docno``, from an index that was built with ``store_text=True``.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "Stored text", "help_url": None}

    def __init__(self, index: Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Adds ``text`` to each row; an existing column is replaced.

        Args:
            inp: a frame with ``docno``.

        Returns:
            The frame with ``text``, in its order.

        Raises:
            pt.validate.InputValidationError: ``docno`` is missing.
            ValueError: the index does not have a document.
        """
        pt.validate.columns(inp, includes=[DOCNO], context=self)
        check_ids(inp, DOCNO)
        reader = self.index.token_vectors()
        docids = reader.docnos.known_docids(inp[DOCNO].tolist(), owner=repr(self.index))
        return inp.assign(text=[reader.text(docid) for docid in docids.tolist()])


class EmbeddingsLoader(RowTransformer):
    """Adds ``doc_embs`` to frames with ``docno``: the decompressed vectors, float32 ``(n_tokens, dim)`` per document.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "Stored vectors", "help_url": None}

    def __init__(self, index: Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Adds ``doc_embs`` to each row; an existing column is replaced.

        Args:
            inp: a frame with ``docno``.

        Returns:
            The frame with ``doc_embs``: float32 ``(n_tokens, dim)`` per row.

        Raises:
            pt.validate.InputValidationError: ``docno`` is missing.
            ValueError: the index does not have a document.
        """
        pt.validate.columns(inp, includes=[DOCNO], context=self)
        if inp.empty:
            return inp.assign(**{DOC_EMBS: pd.Series(dtype=object, index=inp.index)})
        check_ids(inp, DOCNO)
        reader = self.index.token_vectors()
        docids = reader.docnos.known_docids(inp[DOCNO].tolist(), owner=repr(self.index))
        vectors = {docid: reader.document_rows(docid) for docid in set(docids.tolist())}
        return inp.assign(**{DOC_EMBS: pd.Series([vectors[i] for i in docids.tolist()], dtype=object, index=inp.index)})
