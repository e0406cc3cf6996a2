"""Matrix products in float32 whose numbers depend on nothing but their own row and column.

A library's product rounds a number differently by its place in the matrix, by the shape of the matrix and by the number
of threads: with OpenBLAS on processors without AVX-512, nearly half of the numbers change in their last bit. So a
document would get another score beside other documents, and a build other bytes. Its threads also do not survive a
fork.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pyterrier_jacolbert.index.kernels.centroid_scores import matmul
from pyterrier_jacolbert.index.kernels.query_layout import WIDTH
from pyterrier_jacolbert.index.threads import in_threads

#: Rows that one thread multiplies at a time: 512 KiB of 64 dimensions.
_ROWS = 2048


def matrix_product(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Multiplies two matrices in several threads, always adding in the same order.

    Args:
        rows: ``(n, k)``, of any floating-point type.
        columns: ``(k, m)``, of any floating-point type.

    Returns:
        float32 ``(n, m)``.
    """
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    out = np.zeros((len(rows), columns.shape[1]), dtype=np.float32)
    if not rows.size or not columns.size:
        return out
    panels = list(column_panels(columns))

    def multiply(first: int) -> None:
        part = rows[first : first + _ROWS]
        products = np.empty((len(part), WIDTH), dtype=np.float32)
        for number, panel in enumerate(panels):
            matmul(part, panel, products)
            chosen = out[first : first + _ROWS, number * WIDTH : (number + 1) * WIDTH]
            chosen[:] = products[:, : chosen.shape[1]]

    for _ in in_threads(multiply, range(0, len(rows), _ROWS)):
        pass
    return out


def column_panels(columns: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the columns of a matrix, 32 at a time, each in memory of its own that the first-level cache holds.

    Args:
        columns: ``(k, m)``, of any floating-point type.

    Yields:
        float32 ``(k, 32)``; the last one is padded with zeros.
    """
    for first in range(0, columns.shape[1], WIDTH):
        panel = np.zeros((len(columns), WIDTH), dtype=np.float32)
        part = columns[:, first : first + WIDTH]
        panel[:, : part.shape[1]] = part
        yield panel
