"""Protocols of the models and indexes that transformers use, and the distinct queries of a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from pyterrier_jacolbert.columns import QID, QUERY, QUERY_EMBS, check_column, check_vectors, is_missing
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
        encoder: encodes the queries that bring no ``query_embs``.
        inp: a frame with ``qid`` and ``query`` or ``query_embs``. Vectors win over text; where they are missing (None
            or NaN), the text is encoded.

    Returns:
        The query of each row: int64 ``(n_rows,)``; the vectors of each query: float32 ``(n_positions, dim)``.

    Raises:
        ValueError: a query is not a string, vectors are not a finite matrix, or a qid stands for two queries.
    """
    cells: list[Any] = inp[QUERY_EMBS].tolist() if QUERY_EMBS in inp.columns else [None] * len(inp)
    given = np.array([not is_missing(cell) for cell in cells], dtype=bool)
    numbers = np.empty(len(inp), dtype=np.int64)
    with_text = inp[~given]
    vectors: list[np.ndarray] = []
    if len(with_text):
        if QUERY not in inp.columns:
            raise ValueError(
                f"The query_embs of qid {with_text[QID].iloc[0]!r} are missing (None or NaN), and the frame has no "
                "query to encode; give one of the two."
            )
        numbers[~given], texts = factorize(check_column(with_text, QUERY, QID))
        vectors = encoder.encode_queries(texts)
    numbers[given], matrices = _given_queries(
        inp[QID][given].tolist(), [cell for cell in cells if not is_missing(cell)]
    )
    numbers[given] += len(vectors)
    check_one_query_per_qid(inp, numbers)
    return numbers, [*vectors, *matrices]


def _given_queries(qids: list[str], cells: list[Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the query of each row with vectors, and the vectors of each query.

    Rows of a qid have the same query if they hold the same object, as in the ranking of a query, or equal values.
    """
    numbers = np.empty(len(cells), dtype=np.int64)
    first_by_qid: dict[str, int] = {}
    queries: list[tuple[Any, np.ndarray]] = []
    for row, (qid, cell) in enumerate(zip(qids, cells, strict=True)):
        number = first_by_qid.setdefault(qid, len(queries))
        if number == len(queries) or queries[number][0] is not cell:
            matrix = check_vectors(cell, f"query_embs of qid {qid!r}")
            if not len(matrix):
                raise ValueError(f"The query_embs of qid {qid!r} have no rows; encode it with model.query_encoder().")
            if number == len(queries) or not np.array_equal(queries[number][1], matrix):
                number = len(queries)
                queries.append((cell, matrix))
        numbers[row] = number
    return numbers, [matrix for _, matrix in queries]


def check_dimensions(queries: Sequence[np.ndarray], dim: int, owner: str) -> None:
    """Checks that queries have the dimensions of the documents.

    Args:
        queries: float32 ``(n_positions, dim)`` each.
        dim: dimensions of the documents' vectors.
        owner: what has the documents, and what it does, for the message.

    Raises:
        ValueError: a query has other dimensions.
    """
    for matrix in queries:
        if matrix.shape[1] != dim:
            raise ValueError(
                f"The query_embs have {matrix.shape[1]} dimensions and {owner} {dim}; encode the queries with the same "
                "checkpoint as the documents."
            )


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
    check_dimensions(vectors, reader.codec.dim, f"{index!r} stores")
    return numbers, vectors
