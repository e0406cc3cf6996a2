"""Kernels of the first stage, each beside its numpy reference.

They multiply the centroids and the query, round the products to a table of bytes, and score documents by that table.
"""

from __future__ import annotations

import numpy as np

from pyterrier_jacolbert.index.kernels.arguments import Documents, TokenBlock
from pyterrier_jacolbert.index.kernels.jit import kernel, numba
from pyterrier_jacolbert.index.kernels.query_layout import WIDTH, PackedQuery, unpack

if numba is not None:
    from pyterrier_jacolbert.index.kernels.amx import configure_tiles, release_tiles
    from pyterrier_jacolbert.index.kernels.dot_products import write_dots
    from pyterrier_jacolbert.index.kernels.simd import matmul_rows, max_centroid_score


def dot_int8_reference(codes: np.ndarray, factors: np.ndarray, query: PackedQuery, out: np.ndarray) -> None:
    """Implements :func:`dot_int8` in numpy."""
    query_codes = unpack(query.rows).astype(np.float64)
    products = codes.astype(np.float64) @ query_codes.transpose(0, 2, 1) - query.zero_point_bias[:, None]
    out[:] = (products * factors.astype(np.float64)[:, None] * query.scales[:, None]).transpose(1, 0, 2)


@kernel(dot_int8_reference)
def dot_int8(codes: np.ndarray, factors: np.ndarray, query: PackedQuery, out: np.ndarray) -> None:
    """Computes the dot products of 8-bit vectors and the tokens of a query.

    Args:
        codes: uint8 ``(n, dim)``, zero point 128, ``n`` at least 1; ``dim`` is a multiple of 16. The "amx" layout needs
            at least 16 rows.
        factors: float32 ``(n,)``, by which the dot products of each vector are multiplied.
        query: the packed query.
        out: float32 ``(n, b, 32)``; the padding behind the query's tokens may be left as it is.
    """
    best = np.empty(WIDTH, dtype=np.float32)
    tokens = TokenBlock(codes, 0, len(codes), factors)
    configure_tiles(query.rows)
    for block in range(query.rows.shape[0]):
        write_dots(tokens, query, block, best, out)
    release_tiles(query.rows)


def matmul_reference(rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Implements :func:`matmul` in numpy."""
    out[:] = rows.astype(np.float64) @ columns.astype(np.float64)


@kernel(matmul_reference)
def matmul(rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Multiplies two matrices in the calling thread, always adding in the same order.

    A library's matrix product would wake its own threads, which would then spin on the cores that the search needs.

    Args:
        rows: float32 ``(n, k)``.
        columns: float32 ``(k, 32 b)``.
        out: float32 ``(n, 32 b)``.
    """
    for first in range(0, len(rows), 4):
        for block in range(columns.shape[1] // WIDTH):
            matmul_rows(rows, first, columns, block, out)


def quantize_table_reference(products: np.ndarray, out: np.ndarray) -> None:
    """Implements :func:`quantize_table` in numpy."""
    means = products.mean(axis=0, dtype=np.float32)
    span = (products.max(axis=0) - means).max()
    if span <= 0:
        span = np.float32(1)
    out[:] = np.clip((products - means) * (np.float32(255) / span) + np.float32(0.5), 0, 255)


@kernel(quantize_table_reference)
def quantize_table(products: np.ndarray, out: np.ndarray) -> None:
    """Rounds the products of centroids and query tokens to bytes.

    0 represents the mean of a column and anything below it; 255 represents the greatest distance of any number above
    the mean of its column. The scale is the same in every column, so sums of entries compare like sums of products. A
    document that has nothing better than a mean centroid is not among the best, no matter how much worse it is.

    Args:
        products: float32 ``(n_centroids, n_columns)``.
        out: uint8 ``(n_centroids, n_columns)``.
    """
    n, columns = products.shape
    means = np.zeros(columns, dtype=np.float32)
    greatest = np.full(columns, np.float32(-np.inf))
    for row in range(n):
        for column in range(columns):
            value = products[row, column]
            means[column] += value
            greatest[column] = value if value > greatest[column] else greatest[column]
    span = np.float32(0)
    for column in range(columns):
        means[column] /= np.float32(n)
        span = max(span, greatest[column] - means[column])
    scale = np.float32(255) / span if span > 0 else np.float32(255)
    for row in range(n):
        for column in range(columns):
            value = (products[row, column] - means[column]) * scale + np.float32(0.5)
            value = min(max(value, np.float32(0)), np.float32(255))
            out[row, column] = np.uint8(value)


def score_centroids_reference(
    centroid_ids: np.ndarray, documents: Documents, table: np.ndarray, out: np.ndarray
) -> None:
    """Implements :func:`score_centroids` in numpy."""
    for number, docid in enumerate(documents.docids):
        entries = table[centroid_ids[documents.starts[docid] : documents.starts[docid + 1]]]
        out[number] = entries.max(axis=0).sum(dtype=np.int32) if len(entries) else -1


@kernel(score_centroids_reference)
def score_centroids(centroid_ids: np.ndarray, documents: Documents, table: np.ndarray, out: np.ndarray) -> None:
    """Computes MaxSim of a query and documents from the centroids of the documents' tokens alone.

    Args:
        centroid_ids: uint16 ``(n_tokens,)``.
        documents: the documents to score.
        table: uint8 ``(n_centroids, b, 32)``, as :func:`quantize_table` writes it.
        out: int32 ``(n,)``, the scores; -1 for a document without tokens.
    """
    starts, docids = documents.starts, documents.docids
    for number in range(len(docids)):
        first, end = starts[docids[number]], starts[docids[number] + 1]
        total = np.int32(-1) if first == end else np.int32(0)
        if first < end:
            for block in range(table.shape[1]):
                total += max_centroid_score(table, block, centroid_ids, first, end)
        out[number] = total
