"""Matrix products in float32 whose numbers depend on nothing but their own row and column.

A library's product rounds a number differently by its place in the matrix, by the shape of the matrix and by the number
of threads: with OpenBLAS on processors without AVX-512, nearly half of the numbers change in their last bit. So a
document would get another score beside other documents, and a build other bytes. Its threads also do not survive a
fork.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.kernels.centroid_scores import matmul
from pyterrier_jacolbert.index.kernels.query_layout import WIDTH
from pyterrier_jacolbert.index.threads import in_threads

#: Rows that one thread multiplies at a time.
_ROWS = 2048


def matrix_product(
    rows: np.ndarray, columns: np.ndarray, map_fn: Callable[..., Iterable[Any]] = in_threads
) -> np.ndarray:
    """Multiplies two matrices, always adding in the same order.

    Args:
        rows: ``(n, k)``, of any floating-point type.
        columns: ``(k, m)``, of any floating-point type.
        map_fn: applies a function to parts of the rows, in several threads or, with ``map``, in this one.

    Returns:
        float32 ``(n, m)``.
    """
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    padded = pad_columns(columns)
    out = np.zeros((len(rows), padded.shape[1]), dtype=np.float32)
    if rows.size and columns.size:
        slices = [slice(first, first + _ROWS) for first in range(0, len(rows), _ROWS)]
        for _ in map_fn(lambda part: matmul(rows[part], padded, out[part]), slices):
            pass
    return out[:, : columns.shape[1]]


def pad_columns(columns: np.ndarray) -> np.ndarray:
    """Pads a matrix with columns of zeros to a multiple of 32, as :func:`matmul` takes them.

    Args:
        columns: ``(k, m)``, of any floating-point type.

    Returns:
        float32 ``(k, 32 b)``.
    """
    padded = np.zeros((columns.shape[0], -(-columns.shape[1] // WIDTH) * WIDTH), dtype=np.float32)
    padded[:, : columns.shape[1]] = columns
    return padded
