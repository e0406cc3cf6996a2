"""The contribution of each query token to the score of a document: its greatest similarity to a document token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def contributions(similarities: np.ndarray) -> np.ndarray:
    """Returns the contribution of each query token to the score: float32 ``(n_query_tokens,)``.

    Args:
        similarities: float32 ``(n_query_tokens, n_document_tokens)``. If the document has no tokens, each query token
            contributes -1, the minimum similarity, as in the re-rankers.
    """
    if not similarities.shape[1]:
        return np.full(len(similarities), -1, dtype=np.float32)
    greatest: np.ndarray = similarities.max(axis=1).astype(np.float32, copy=False)
    return greatest


def token_similarities(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the similarities of query and document tokens: float32 ``(n_query_tokens, n_document_tokens)``.

    Args:
        query: float32 ``(n_query_tokens, dim)``.
        rows: float32 ``(n_document_tokens, dim)``; a document without tokens may have any ``dim``.
    """
    from pyterrier_jacolbert.index.kernels.products import matrix_product

    return matrix_product(query, rows.T) if len(rows) else np.empty((len(query), 0), dtype=np.float32)


def pair_contributions(
    queries: Sequence[np.ndarray],
    query_numbers: np.ndarray,
    document_rows: Callable[[int], np.ndarray],
    document_numbers: np.ndarray,
) -> list[np.ndarray]:
    """Returns the contributions of each pair of a query and a document: float32 ``(n_query_tokens,)`` per pair.

    Args:
        queries: float32 ``(n_query_tokens, dim)`` per query.
        query_numbers: int64 ``(n_pairs,)``, the query of each pair.
        document_rows: returns float32 ``(n_tokens, dim)`` for a document number; called once per distinct document.
        document_numbers: int64 ``(n_pairs,)``, the document of each pair.
    """
    pairs: list[np.ndarray] = [np.empty(0)] * len(query_numbers)
    order = np.argsort(document_numbers, kind="stable")
    previous, rows = None, np.empty((0, 0), dtype=np.float32)
    for pair in order.tolist():
        if document_numbers[pair] != previous:
            previous = document_numbers[pair]
            rows = document_rows(int(previous))
        pairs[pair] = contributions(token_similarities(queries[query_numbers[pair]], rows))
    return pairs
