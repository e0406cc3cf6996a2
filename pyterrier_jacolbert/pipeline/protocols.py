"""Protocols of the models and indexes that transformers use, and the distinct queries of a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from pyterrier_jacolbert.columns import QID, QUERY, QUERY_EMBS, check_column
from pyterrier_jacolbert.pipeline.frames import check_one_query_per_qid, factorize

if TYPE_CHECKING:
    from pyterrier_jacolbert.encoding.encoder import TokenEncoder
    from pyterrier_jacolbert.index.reader import IndexReader


class EncodesQueries(Protocol):
    """A checkpoint, or an index that knows its checkpoint."""

    def encode_queries(self, texts: list[str]) -> list[np.ndarray]:
        """Returns float32 ``(n_positions, dim)`` for each text."""
        ...


class Model(EncodesQueries, Protocol):
    """A checkpoint; :class:`~pyterrier_jacolbert.JaColBERT` is one."""

    verbose: bool

    @property
    def encoder(self) -> TokenEncoder:
        """The loaded checkpoint."""
        ...

    def encode_documents(self, texts: list[str], progress: Callable[[int], object] | None = None) -> list[np.ndarray]:
        """Returns float32 ``(n_tokens, dim)`` for each text."""
        ...


class Index(EncodesQueries, Protocol):
    """An index of token vectors; :class:`~pyterrier_jacolbert.JaColBERTIndex` is one."""

    @property
    def model(self) -> Model:
        """The checkpoint that encodes queries."""
        ...

    def token_vectors(self) -> IndexReader:
        """Returns a reader of the index in its current state."""
        ...


def distinct_queries(encoder: EncodesQueries, inp: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the token vectors of the distinct queries of a frame.

    Args:
        encoder: encodes the queries of a frame without ``query_embs``.
        inp: a frame with ``qid`` and ``query`` or ``query_embs``.

    Returns:
        The query of each row: int64 ``(n_rows,)``; the vectors of each query: float32 ``(n_positions, dim)``.

    Raises:
        ValueError: a query is not a string, vectors are not a matrix, or a qid stands for two queries.
    """
    if QUERY_EMBS not in inp.columns:
        numbers, texts = factorize(check_column(inp, QUERY, QID))
        check_one_query_per_qid(inp, numbers)
        return numbers, encoder.encode_queries(texts)
    numbers, qids = factorize(inp[QID])
    firsts = np.unique(numbers, return_index=True)[1]
    vectors = []
    for qid, row in zip(qids, firsts, strict=True):
        matrix = np.asarray(inp[QUERY_EMBS].iloc[row], dtype=np.float32)
        if matrix.ndim != 2 or not len(matrix) or not np.isfinite(matrix).all():
            raise ValueError(
                f"The query_embs of qid {qid!r} are not a finite (n_tokens, dim) matrix but have shape {matrix.shape}; "
                "encode them with model.query_encoder()."
            )
        vectors.append(matrix)
    return numbers, vectors


def index_queries(index: Index, reader: IndexReader, inp: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the token vectors of the distinct queries of a frame, for an index; see :func:`distinct_queries`.

    Args:
        index: encodes the queries of a frame without ``query_embs``.
        reader: of the index.
        inp: a frame with ``qid`` and ``query`` or ``query_embs``.

    Raises:
        ValueError: as :func:`distinct_queries`; also if the vectors have other dimensions than those of the index.
    """
    numbers, vectors = distinct_queries(index, inp)
    dim = reader.codec.dim
    for matrix in vectors:
        if matrix.shape[1] != dim:
            raise ValueError(
                f"The query_embs have {matrix.shape[1]} dimensions and {index!r} stores {dim}; encode the queries with "
                "the checkpoint that built it."
            )
    return numbers, vectors
