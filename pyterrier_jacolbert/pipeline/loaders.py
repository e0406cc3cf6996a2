"""What an index stores of documents, for frames that name them: their text, and their token vectors."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.frames import DOC_EMBS, DOCNO, check_ids
from pyterrier_jacolbert.pipeline.sources import Index
from pyterrier_jacolbert.transformer import SettingsTransformer


class StoredText(SettingsTransformer):
    """Adds ``text`` to frames with ``docno``, from an index that was built with ``store_text=True``.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "Stored text", "help_url": None}

    def __init__(self, index: Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows with ``text``; a text that is there is replaced.

        Args:
            inp: a frame with ``docno``.

        Returns:
            The frame with ``text``, in its order.

        Raises:
            pt.validate.InputValidationError: ``docno`` is missing.
            ValueError: documents that the index does not have.
        """
        pt.validate.columns(inp, includes=[DOCNO], context=self)
        check_ids(inp, DOCNO)
        stored = self.index.token_vectors()
        docids = stored.docnos.known_docids(inp[DOCNO].tolist(), owner=repr(self.index))
        return inp.assign(text=[stored.text(docid) for docid in docids.tolist()])


class StoredVectors(SettingsTransformer):
    """Adds ``doc_embs`` to frames with ``docno``: float32 ``(n_tokens, dim)`` a document, as the index decodes them.

    Args:
        index: the index.
    """

    schematic: dict[str, Any] = {"label": "Stored vectors", "help_url": None}

    def __init__(self, index: Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows with ``doc_embs``; vectors that are there are replaced.

        Args:
            inp: a frame with ``docno``.

        Returns:
            The frame with ``doc_embs``: for each row float32 ``(n_tokens, dim)``.

        Raises:
            pt.validate.InputValidationError: ``docno`` is missing.
            ValueError: documents that the index does not have.
        """
        pt.validate.columns(inp, includes=[DOCNO], context=self)
        if inp.empty:
            return inp.assign(**{DOC_EMBS: pd.Series(dtype=object, index=inp.index)})
        check_ids(inp, DOCNO)
        stored = self.index.token_vectors()
        docids = stored.docnos.known_docids(inp[DOCNO].tolist(), owner=repr(self.index))
        vectors = {docid: stored.rows(docid, docid + 1) for docid in set(docids.tolist())}
        return inp.assign(**{DOC_EMBS: pd.Series([vectors[i] for i in docids.tolist()], dtype=object, index=inp.index)})

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """Vectors are read after the cut, not before it."""
        return pt.RankCutoff(k) >> self
