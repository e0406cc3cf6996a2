"""Kernels that compute MaxSim, each beside its numpy reference.

The score of a document is the sum over query tokens of the maximum similarity to any of the document's tokens. A
document without tokens scores -inf.
"""

from __future__ import annotations

import numpy as np

from pyterrier_jacolbert.index.kernels.arguments import (
    EXPONENT_SHIFT,
    CentroidTerms,
    Documents,
    Int8Codes,
    ResidualCodes,
    TokenBlock,
)
from pyterrier_jacolbert.index.kernels.jit import kernel, numba
from pyterrier_jacolbert.index.kernels.query_layout import WIDTH, ZERO_POINT, PackedQuery, unpack

LAYOUTS: tuple[str, ...] = ("generic",)
if numba is not None:
    from pyterrier_jacolbert.index.kernels.amx import configure_tiles, release_tiles
    from pyterrier_jacolbert.index.kernels.dot_products import LAYOUTS as LAYOUTS
    from pyterrier_jacolbert.index.kernels.dot_products import update_max_dot, update_max_dot_with_centroid
    from pyterrier_jacolbert.index.kernels.simd import decode_levels, prefetch_row

#: Tokens per block; their decoded rows, 64 x 128 bytes, stay in the first-level cache.
_BLOCK_TOKENS = 64


def segment_max_reference(similarities: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Implements :func:`segment_max` in numpy."""
    for document, (first, end) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        out[document] = similarities[first:end].max(axis=0, initial=-np.inf)


@kernel(segment_max_reference)
def segment_max(similarities: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Computes the maximum similarity of each document and query token to any of the document's tokens.

    Args:
        similarities: float32 ``(n_tokens, n_columns)``, a row per document token, a column per query token.
        starts: int64 ``(n_docs + 1,)``, the first row of each document and the end of the last.
        out: float32 ``(n_docs, n_columns)``; -inf for a document without tokens.
    """
    n_columns = similarities.shape[1]
    for document in range(len(starts) - 1):
        best = out[document]
        for column in range(n_columns):
            best[column] = -np.inf
        for row in range(starts[document], starts[document + 1]):
            for column in range(n_columns):
                value = similarities[row, column]
                best[column] = value if value > best[column] else best[column]


def maxsim_int8_reference(codes: Int8Codes, documents: Documents, query: PackedQuery, out: np.ndarray) -> None:
    """Implements :func:`maxsim_int8` in numpy."""
    query_codes = unpack(query.rows).astype(np.float64)
    for number, docid in enumerate(documents.docids):
        rows = slice(documents.starts[docid], documents.starts[docid + 1])
        products = codes.codes[rows].astype(np.float64) @ query_codes.transpose(0, 2, 1)
        products -= query.zero_point_bias[:, None]
        values = products * codes.scales[rows].view(np.float16).astype(np.float64)[:, None]
        best = values.max(axis=1, initial=-np.inf)
        out[number] = (best * query.scales).ravel()[: query.tokens].sum() if len(codes.codes[rows]) else -np.inf


@kernel(maxsim_int8_reference)
def maxsim_int8(codes: Int8Codes, documents: Documents, query: PackedQuery, out: np.ndarray) -> None:
    """Computes MaxSim of a query and documents in int8.

    Args:
        codes: the token vectors.
        documents: the documents to score.
        query: the packed query.
        out: float32 ``(n,)``, the scores.
    """
    starts, docids = documents.starts, documents.docids
    blocks = query.rows.shape[0]
    best = np.empty((blocks, WIDTH), dtype=np.float32)
    factors = np.empty(_BLOCK_TOKENS, dtype=np.float32)
    configure_tiles(query.rows)
    for number in range(len(docids)):
        first, end = starts[docids[number]], starts[docids[number] + 1]
        next_document = starts[docids[min(number + 1, len(docids) - 1)]]
        if first == end:
            out[number] = -np.inf
            continue
        best[:] = -np.inf
        while first < end:
            count = min(_BLOCK_TOKENS, end - first)
            next_row = first + count if first + count < end else next_document
            for i in range(count):
                bits = np.uint32(np.uint32(codes.scales[first + i]) << np.uint32(13))
                factors[i] = bits.view(np.float32) * EXPONENT_SHIFT
            for block in range(blocks):
                tokens = TokenBlock(codes.codes, first, count, factors)
                update_max_dot(tokens, query, block, best[block], next_row)
            first += count
        total = np.float32(0)
        for block in range(blocks):
            for i in range(min(WIDTH, query.tokens - block * WIDTH)):
                total += best[block, i] * query.scales[block, i]
        out[number] = total
    release_tiles(query.rows)


def maxsim_residual_reference(
    codes: ResidualCodes, documents: Documents, query: PackedQuery, centroid_products: np.ndarray, out: np.ndarray
) -> None:
    """Implements :func:`maxsim_residual` in numpy."""
    query_codes = unpack(query.rows).astype(np.float64)
    width = codes.residuals.shape[1]
    positions = np.arange(min(query_codes.shape[2], width * 8 // codes.bits))
    shifts = (codes.bits * (positions // width)).astype(np.uint8)
    for number, docid in enumerate(documents.docids):
        first, end = documents.starts[docid], documents.starts[docid + 1]
        levels = np.full((end - first, query_codes.shape[2]), ZERO_POINT, dtype=np.float64)
        levels[:, positions] = codes.reconstruction_levels[
            (codes.residuals[first:end][:, positions % width] >> shifts) & (2**codes.bits - 1)
        ]
        products = levels @ query_codes.transpose(0, 2, 1) - query.zero_point_bias[:, None]
        length_factors = codes.length_factors[codes.factor_codes[first:end, 0]].astype(np.float64)
        parts = products * length_factors[:, None] * query.scales[:, None]
        sums = centroid_products[codes.centroid_ids[first:end]].transpose(1, 0, 2) + parts
        values = codes.norm_factors[codes.factor_codes[first:end, 1]][:, None] * sums
        out[number] = values.max(axis=1).ravel()[: query.tokens].sum() if len(levels) else -np.inf


@kernel(maxsim_residual_reference)
def maxsim_residual(
    codes: ResidualCodes, documents: Documents, query: PackedQuery, centroid_products: np.ndarray, out: np.ndarray
) -> None:
    """Computes MaxSim of a query and documents in residual codes.

    Args:
        codes: the token vectors.
        documents: the documents to score.
        query: the packed query, each dimension multiplied by its residual standard deviation before packing; its scales
            include that of the reconstruction levels.
        centroid_products: float32 ``(n_centroids, b, 32)``, the dot products of centroids and query tokens.
        out: float32 ``(n,)``, the scores.
    """
    starts, docids = documents.starts, documents.docids
    blocks = query.rows.shape[0]
    best = np.empty((blocks, WIDTH), dtype=np.float32)
    length_factors = np.empty(_BLOCK_TOKENS, dtype=np.float32)
    norm_factors = np.empty(_BLOCK_TOKENS, dtype=np.float32)
    ids = np.empty(_BLOCK_TOKENS, dtype=np.uint16)
    levels = np.full((_BLOCK_TOKENS, query.rows.size // (blocks * WIDTH)), np.uint8(ZERO_POINT), dtype=np.uint8)
    centroids = CentroidTerms(centroid_products, ids, norm_factors)
    configure_tiles(query.rows)
    for number in range(len(docids)):
        first, end = starts[docids[number]], starts[docids[number] + 1]
        next_document = starts[docids[min(number + 1, len(docids) - 1)]]
        if first == end:
            out[number] = -np.inf
            continue
        best[:] = -np.inf
        while first < end:
            count = min(_BLOCK_TOKENS, end - first)
            next_row = first + count if first + count < end else next_document
            for i in range(count):
                length_factors[i] = codes.length_factors[codes.factor_codes[first + i, 0]]
                norm_factors[i] = codes.norm_factors[codes.factor_codes[first + i, 1]]
                ids[i] = codes.centroid_ids[first + i]
                prefetch_row(centroid_products, ids[i])
                prefetch_row(codes.residuals, next_row + i)
            decode_levels(codes, first, count, levels)
            for block in range(blocks):
                tokens = TokenBlock(levels, 0, count, length_factors)
                update_max_dot_with_centroid(tokens, query, block, best[block], centroids)
            first += count
        total = np.float32(0)
        for block in range(blocks):
            for i in range(min(WIDTH, query.tokens - block * WIDTH)):
                total += best[block, i]
        out[number] = total
    release_tiles(query.rows)
