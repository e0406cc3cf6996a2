"""The kernels of the search, each beside the numpy code that says the same thing.

Documents are given by docid: document ``d`` has the rows ``starts[d]`` to ``starts[d + 1]`` of the columns. A document
without tokens scores -inf.
"""

from __future__ import annotations

import numpy as np

from pyterrier_jacolbert.index.codec_kernels import EXPONENT_SHIFT
from pyterrier_jacolbert.index.jit import kernel
from pyterrier_jacolbert.index.panels import OFFSET, WIDTH, rows_of

try:
    from pyterrier_jacolbert.index.dot_products import (
        LAYOUTS as LAYOUTS,
    )
    from pyterrier_jacolbert.index.dot_products import raise_to_products, raise_to_sums, write_products
    from pyterrier_jacolbert.index.instructions import ask_for_row, look_up, multiply_rows, raise_to_entries
    from pyterrier_jacolbert.index.tiles import close_tiles, open_tiles
except ImportError:  # numba is missing, and the references take the kernels' places
    LAYOUTS = ("singles",)

#: Tokens that are looked at together: their decoded rows, 64 x 128 bytes, stay in the first cache.
_TOGETHER = 64


def segment_max_reference(similarities: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """What :func:`segment_max` computes, in numpy."""
    for document, (first, end) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        out[document] = similarities[first:end].max(axis=0, initial=-np.inf)


@kernel(segment_max_reference)
def segment_max(similarities: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """For each document and query token, the greatest similarity to any of the document's tokens.

    Args:
        similarities: float32 ``(n_tokens, n_columns)``, a row a document token, a column a query token.
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


def maxsim_int8_reference(
    codes: np.ndarray,
    scales: np.ndarray,
    starts: np.ndarray,
    docids: np.ndarray,
    panel: np.ndarray,
    corrections: np.ndarray,
    steps: np.ndarray,
    tokens: int,
    out: np.ndarray,
) -> None:
    """What :func:`maxsim_int8` computes, in numpy."""
    query = rows_of(panel).astype(np.float64)
    for number, docid in enumerate(docids):
        rows = slice(starts[docid], starts[docid + 1])
        products = codes[rows].astype(np.float64) @ query.transpose(0, 2, 1) - corrections[:, None]
        values = products * scales[rows].view(np.float16).astype(np.float64)[:, None]
        best = values.max(axis=1, initial=-np.inf)
        out[number] = (best * steps).ravel()[:tokens].sum() if len(codes[rows]) else -np.inf


@kernel(maxsim_int8_reference)
def maxsim_int8(
    codes: np.ndarray,
    scales: np.ndarray,
    starts: np.ndarray,
    docids: np.ndarray,
    panel: np.ndarray,
    corrections: np.ndarray,
    steps: np.ndarray,
    tokens: int,
    out: np.ndarray,
) -> None:
    """MaxSim of a query and documents in int8.

    Args:
        codes: uint8 ``(n_tokens, dim)``, :class:`~pyterrier_jacolbert.index.scalar_codecs.Int8Codec`'s; ``dim`` is a
            multiple of 16. For a panel in tiles at least 16 rows.
        scales: uint16 ``(n_tokens,)``, the bits of float16 numbers that are not negative.
        starts: int64 ``(n_docs + 1,)``.
        docids: int64 ``(n,)``.
        panel: the query, as ``corrections`` and ``steps``: of a :class:`~pyterrier_jacolbert.index.panels.Panel`.
        corrections: int32 ``(b, 32)``.
        steps: float32 ``(b, 32)``.
        tokens: of the query, from ``32 (b - 1) + 1`` to ``32 b``.
        out: float32 ``(n,)``, the scores.
    """
    blocks = panel.shape[0]
    best = np.empty((blocks, WIDTH), dtype=np.float32)
    factors = np.empty(_TOGETHER, dtype=np.float32)
    open_tiles(panel)
    for number in range(len(docids)):
        first, end = starts[docids[number]], starts[docids[number] + 1]
        following = starts[docids[min(number + 1, len(docids) - 1)]]
        if first == end:
            out[number] = -np.inf
            continue
        best[:] = -np.inf
        while first < end:
            count = min(_TOGETHER, end - first)
            ahead = first + count if first + count < end else following
            for i in range(count):
                factors[i] = np.uint32(np.uint32(scales[first + i]) << np.uint32(13)).view(np.float32) * EXPONENT_SHIFT
            for block in range(blocks):
                columns = tokens - block * WIDTH
                raise_to_products(codes, first, count, factors, panel, block, corrections, best[block], columns, ahead)
            first += count
        total = np.float32(0)
        for block in range(blocks):
            for i in range(min(WIDTH, tokens - block * WIDTH)):
                total += best[block, i] * steps[block, i]
        out[number] = total
    close_tiles(panel)


def maxsim_residual_reference(
    residuals: np.ndarray,
    centroid_ids: np.ndarray,
    gains: np.ndarray,
    starts: np.ndarray,
    docids: np.ndarray,
    levels: np.ndarray,
    bits: int,
    lengths: np.ndarray,
    norms: np.ndarray,
    table: np.ndarray,
    panel: np.ndarray,
    corrections: np.ndarray,
    steps: np.ndarray,
    tokens: int,
    out: np.ndarray,
) -> None:
    """What :func:`maxsim_residual` computes, in numpy."""
    query = rows_of(panel).astype(np.float64)
    width = residuals.shape[1]
    positions = np.arange(min(query.shape[2], width * 8 // bits))
    shifts = (bits * (positions // width)).astype(np.uint8)
    for number, docid in enumerate(docids):
        rows = slice(starts[docid], starts[docid + 1])
        decoded = np.full((rows.stop - rows.start, query.shape[2]), OFFSET, dtype=np.float64)
        decoded[:, positions] = levels[(residuals[rows][:, positions % width] >> shifts) & (2**bits - 1)]
        products = decoded @ query.transpose(0, 2, 1) - corrections[:, None]
        parts = products * lengths[gains[rows, 0]].astype(np.float64)[:, None] * steps[:, None]
        values = norms[gains[rows, 1]][:, None] * (table[centroid_ids[rows]].transpose(1, 0, 2) + parts)
        out[number] = values.max(axis=1).ravel()[:tokens].sum() if len(decoded) else -np.inf


@kernel(maxsim_residual_reference)
def maxsim_residual(
    residuals: np.ndarray,
    centroid_ids: np.ndarray,
    gains: np.ndarray,
    starts: np.ndarray,
    docids: np.ndarray,
    levels: np.ndarray,
    bits: int,
    lengths: np.ndarray,
    norms: np.ndarray,
    table: np.ndarray,
    panel: np.ndarray,
    corrections: np.ndarray,
    steps: np.ndarray,
    tokens: int,
    out: np.ndarray,
) -> None:
    """MaxSim of a query and documents in residual codes.

    Args:
        residuals: uint8 ``(n_tokens, width)``; see :func:`~pyterrier_jacolbert.index.residual_codec.packed_width`.
        centroid_ids: uint16 ``(n_tokens,)``.
        gains: uint8 ``(n_tokens, 2)``.
        starts: int64 ``(n_docs + 1,)``.
        docids: int64 ``(n,)``.
        levels: uint8 ``(16,)``: what each code stands for, in 8 bits with the offset 128.
        bits: of a code.
        lengths: float32 ``(256,)``: the length factor of each first gain.
        norms: float32 ``(256,)``: the norm factor of each second gain.
        table: float32 ``(n_centroids, b, 32)``: the products of the centroids and the query.
        panel: the query, each dimension times its spread, as ``corrections`` and ``steps``: of a
            :class:`~pyterrier_jacolbert.index.panels.Panel`.
        corrections: int32 ``(b, 32)``.
        steps: float32 ``(b, 32)``, of levels and query together.
        tokens: as :func:`maxsim_int8` has them.
        out: float32 ``(n,)``, the scores.
    """
    blocks = panel.shape[0]
    width = residuals.shape[1]
    mask = np.uint8(2**bits - 1)
    dim = panel.size // (blocks * WIDTH)
    best = np.empty((blocks, WIDTH), dtype=np.float32)
    factors = np.empty(_TOGETHER, dtype=np.float32)
    tails = np.empty(_TOGETHER, dtype=np.float32)
    ids = np.empty(_TOGETHER, dtype=np.uint16)
    rows = np.full((_TOGETHER, dim), np.uint8(OFFSET), dtype=np.uint8)
    open_tiles(panel)
    for number in range(len(docids)):
        first, end = starts[docids[number]], starts[docids[number] + 1]
        following = starts[docids[min(number + 1, len(docids) - 1)]]
        if first == end:
            out[number] = -np.inf
            continue
        best[:] = -np.inf
        while first < end:
            count = min(_TOGETHER, end - first)
            ahead = first + count if first + count < end else following
            for i in range(count):
                factors[i] = lengths[gains[first + i, 0]]
                tails[i] = norms[gains[first + i, 1]]
                ids[i] = centroid_ids[first + i]
                ask_for_row(table, ids[i])
                ask_for_row(residuals, ahead + i)
            for part in range(8 // bits):
                shift, target = np.uint8(part * bits), part * width
                codes = min(width, dim - target)
                for column in range(0, codes - 63, 64):
                    for i in range(count):
                        look_up(64, residuals, first + i, column, shift, mask, levels, rows, i, target + column)
                for column in range(codes // 64 * 64, codes - 15, 16):
                    for i in range(count):
                        look_up(16, residuals, first + i, column, shift, mask, levels, rows, i, target + column)
                for column in range(codes // 16 * 16, codes):
                    for i in range(count):
                        rows[i, target + column] = levels[(residuals[first + i, column] >> shift) & mask]
            for block in range(blocks):
                columns = tokens - block * WIDTH
                sums = (steps, table, ids, tails)
                raise_to_sums(rows, 0, count, factors, panel, block, corrections, best[block], columns, *sums)
            first += count
        total = np.float32(0)
        for block in range(blocks):
            for i in range(min(WIDTH, tokens - block * WIDTH)):
                total += best[block, i]
        out[number] = total
    close_tiles(panel)


def products_int8_reference(
    codes: np.ndarray,
    factors: np.ndarray,
    panel: np.ndarray,
    corrections: np.ndarray,
    steps: np.ndarray,
    tokens: int,
    out: np.ndarray,
) -> None:
    """What :func:`products_int8` computes, in numpy."""
    query = rows_of(panel).astype(np.float64)
    products = codes.astype(np.float64) @ query.transpose(0, 2, 1) - corrections[:, None]
    out[:] = (products * factors.astype(np.float64)[:, None] * steps[:, None]).transpose(1, 0, 2)


@kernel(products_int8_reference)
def products_int8(
    codes: np.ndarray,
    factors: np.ndarray,
    panel: np.ndarray,
    corrections: np.ndarray,
    steps: np.ndarray,
    tokens: int,
    out: np.ndarray,
) -> None:
    """The products of 8-bit vectors and a query.

    Args:
        codes: uint8 ``(n, dim)``, as :func:`maxsim_int8` has them, ``n`` at least 1.
        factors: float32 ``(n,)``.
        panel: as :func:`maxsim_int8` has it, as the rest.
        corrections: int32 ``(b, 32)``.
        steps: float32 ``(b, 32)``.
        tokens: of the query.
        out: float32 ``(n, b, 32)``; beyond the query's tokens it may be left as it is.
    """
    best = np.empty(WIDTH, dtype=np.float32)
    open_tiles(panel)
    for block in range(panel.shape[0]):
        columns = tokens - block * WIDTH
        write_products(codes, 0, len(codes), factors, panel, block, corrections, best, columns, steps, out)
    close_tiles(panel)


def score_centroids_reference(
    centroid_ids: np.ndarray, starts: np.ndarray, docids: np.ndarray, table: np.ndarray, out: np.ndarray
) -> None:
    """What :func:`score_centroids` computes, in numpy."""
    for number, docid in enumerate(docids):
        entries = table[centroid_ids[starts[docid] : starts[docid + 1]]]
        out[number] = entries.max(axis=0).sum(dtype=np.int32) if len(entries) else -1


@kernel(score_centroids_reference)
def score_centroids(
    centroid_ids: np.ndarray, starts: np.ndarray, docids: np.ndarray, table: np.ndarray, out: np.ndarray
) -> None:
    """MaxSim of a query and documents of which only the centroids are known.

    Args:
        centroid_ids: uint16 ``(n_tokens,)``.
        starts: int64 ``(n_docs + 1,)``.
        docids: int64 ``(n,)``.
        table: uint8 ``(n_centroids, b, 32)``.
        out: int32 ``(n,)``, the scores; -1 for a document without tokens.
    """
    for number in range(len(docids)):
        first, end = starts[docids[number]], starts[docids[number] + 1]
        total = np.int32(-1) if first == end else np.int32(0)
        if first < end:
            for block in range(table.shape[1]):
                total += raise_to_entries(table, block, centroid_ids, first, end)
        out[number] = total


def multiply_reference(rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """What :func:`multiply` computes, in numpy."""
    out[:] = rows.astype(np.float64) @ columns.astype(np.float64)


@kernel(multiply_reference)
def multiply(rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """A matrix product in this thread alone, always added up in one order.

    A library's product would wake its own threads for it, and they then spin on the cores that the search's need.

    Args:
        rows: float32 ``(n, k)``.
        columns: float32 ``(k, 32 b)``.
        out: float32 ``(n, 32 b)``.
    """
    for first in range(0, len(rows), 4):
        for block in range(columns.shape[1] // WIDTH):
            multiply_rows(rows, first, columns, block, out)


def shrink_reference(table: np.ndarray, out: np.ndarray) -> None:
    """What :func:`shrink` computes, in numpy."""
    means = table.mean(axis=0, dtype=np.float32)
    span = (table.max(axis=0) - means).max()
    if span <= 0:
        span = np.float32(1)
    out[:] = np.clip((table - means) * (np.float32(255) / span) + np.float32(0.5), 0, 255)


@kernel(shrink_reference)
def shrink(table: np.ndarray, out: np.ndarray) -> None:
    """Rounds a table of centroids' scores to bytes: 0 is a column's mean and less, 255 the greatest above any mean.

    One step is as much in every column, so that sums of entries compare as sums of scores; where a document has nothing
    better than a mean centroid, it is not among the best, however much worse it is.

    Args:
        table: float32 ``(n_centroids, n_columns)``.
        out: uint8 ``(n_centroids, n_columns)``.
    """
    n, columns = table.shape
    means = np.zeros(columns, dtype=np.float32)
    greatest = np.full(columns, np.float32(-np.inf))
    for row in range(n):
        for column in range(columns):
            value = table[row, column]
            means[column] += value
            greatest[column] = value if value > greatest[column] else greatest[column]
    span = np.float32(0)
    for column in range(columns):
        means[column] /= np.float32(n)
        span = max(span, greatest[column] - means[column])
    scale = np.float32(255) / span if span > 0 else np.float32(255)
    for row in range(n):
        for column in range(columns):
            value = (table[row, column] - means[column]) * scale + np.float32(0.5)
            value = min(max(value, np.float32(0)), np.float32(255))
            out[row, column] = np.uint8(value)
