"""What the transformers work with: a model or an index, and the distinct queries of a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from pyterrier_jacolbert.frames import QID, QUERY, QUERY_EMBS, check_column, check_one_query_each, factorize

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.stored import Stored


class EncodesQueries(Protocol):
    """What has a checkpoint that encodes queries: a model, or an index that knows its model."""

    def encode_queries(self, texts: list[str]) -> list[np.ndarray]:
        """For each text float32 ``(n_positions, dim)``."""
        ...


class Model(EncodesQueries, Protocol):
    """What the transformers ask of a :class:`~pyterrier_jacolbert.model.JaColBERT`."""

    verbose: bool

    def encode_documents(self, texts: list[str], progress: Callable[[int], object] | None = None) -> list[np.ndarray]:
        """For each text float32 ``(n_tokens, dim)``."""
        ...


class Index(EncodesQueries, Protocol):
    """What the transformers ask of a :class:`~pyterrier_jacolbert.artifact.JaColBERTIndex`."""

    def token_vectors(self) -> Stored:
        """The stored vectors, and which documents are deleted."""
        ...


def distinct_queries(encoder: EncodesQueries, inp: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
    """The distinct queries of a frame and their token vectors.

    Args:
        encoder: encodes the queries where the frame has no ``query_embs``.
        inp: a frame with ``qid`` and ``query`` or ``query_embs``.

    Returns:
        codes: int64 ``(n_rows,)``, the query of each row; vectors: for each query float32 ``(n_positions, dim)``.

    Raises:
        ValueError: a query that is not text, vectors that are not a matrix, or a qid that stands for two queries.
    """
    if QUERY_EMBS not in inp.columns:
        codes, texts = factorize(check_column(inp, QUERY, QID))
        check_one_query_each(inp, codes)
        return codes, encoder.encode_queries(texts)
    codes, qids = factorize(inp[QID])
    firsts = np.unique(codes, return_index=True)[1]
    vectors = []
    for qid, row in zip(qids, firsts, strict=True):
        matrix = np.asarray(inp[QUERY_EMBS].iloc[row], dtype=np.float32)
        if matrix.ndim != 2 or not len(matrix) or not np.isfinite(matrix).all():
            raise ValueError(
                f"The query_embs of qid {qid!r} are not a finite (n_tokens, dim) matrix but have shape {matrix.shape}; "
                "make them with model.query_encoder()."
            )
        vectors.append(matrix)
    return codes, vectors


def index_queries(index: Index, stored: Stored, inp: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
    """As :func:`distinct_queries`, for the vectors that an index stores; ``stored`` is the index, open.

    Raises:
        ValueError: also where the vectors have another dimension than the stored ones.
    """
    codes, vectors = distinct_queries(index, inp)
    dim = stored.codec.dim
    for matrix in vectors:
        if matrix.shape[1] != dim:
            raise ValueError(
                f"The query_embs have {matrix.shape[1]} numbers a token and {index!r} stores {dim}; encode the queries "
                "with the checkpoint that built it."
            )
    return codes, vectors
