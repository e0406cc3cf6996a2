"""Queries in 8 bits, laid out for the processor's instructions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Query tokens that one pass over a document compares with.
WIDTH = 32
#: Dimensions are brought to a multiple of this.
DIM_STEP = 16
#: What stands for 0 in codes that are stored without sign.
OFFSET = 128
#: A tile of the processor's matrix unit: tokens, and dimensions of each.
TILE_ROWS, TILE_STEP = 16, 64


@dataclass(frozen=True)
class Panel:
    """A query in 8 bits; its tokens are brought to a multiple of 32, and its dimensions of 16, with zeros.

    Attributes:
        rows: the numbers, in a layout of :mod:`~pyterrier_jacolbert.index.dot_products`.
        corrections: int32 ``(b, 32)``: what the offset of a document's codes adds to a product.
        steps: float32 ``(b, 32)``: what a product is multiplied by.
        tokens: of the query; the zeros behind them are not looked at more than the instructions must.
    """

    rows: np.ndarray
    corrections: np.ndarray
    steps: np.ndarray
    tokens: int

    @classmethod
    def of(cls, query: np.ndarray, layout: str) -> Panel:
        """Rounds a query: float32 ``(n_tokens, dim)``. A number is off by at most half its token's step."""
        tokens, dim = query.shape
        padded = np.zeros((-(-tokens // WIDTH) * WIDTH, -(-dim // DIM_STEP) * DIM_STEP), dtype=np.float32)
        padded[:tokens, :dim] = query
        rows, steps = rounded(padded)
        corrections = OFFSET * rows.sum(axis=1, dtype=np.int32)
        return cls(laid_out(rows, layout), corrections.reshape(-1, WIDTH), steps.reshape(-1, WIDTH), tokens)


def rounded(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds rows to 127 steps up to the largest number of each.

    Args:
        rows: float32 ``(n, dim)``.

    Returns:
        int8 ``(n, dim)``, and each row's step: float32 ``(n,)``, 0 for a row of zeros.
    """
    steps = np.abs(rows).max(axis=1) / np.float32(127)
    return np.rint(rows / np.where(steps > 0, steps, np.float32(1))[:, None]).astype(np.int8), steps


def laid_out(rows: np.ndarray, layout: str) -> np.ndarray:
    """Lays out a query for the instructions.

    Args:
        rows: int8 ``(32 b, dim)``, a row a query token.
        layout: ``"tiles"``, ``"bytes"``, ``"pairs"`` or ``"singles"``; for tiles ``dim`` is a multiple of 64.
    """
    blocks = rows.reshape(-1, WIDTH, rows.shape[1])
    if layout == "singles":
        return np.ascontiguousarray(blocks.transpose(0, 2, 1).astype(np.int16))
    size, kind = (2, np.int16) if layout == "pairs" else (4, np.int8)
    grouped = blocks.reshape(*blocks.shape[:2], -1, size).transpose(0, 2, 1, 3)
    panel = np.ascontiguousarray(grouped.astype(kind))
    return panel.reshape(len(panel), -1, TILE_STEP // size, WIDTH, size) if layout == "tiles" else panel


def rows_of(panel: np.ndarray) -> np.ndarray:
    """A panel's numbers by query token: int16 ``(b, 32, dim)``."""
    if panel.ndim == 3:
        return panel.transpose(0, 2, 1)
    steps = panel.reshape(panel.shape[0], -1, *panel.shape[-2:])
    return steps.transpose(0, 2, 1, 3).reshape(panel.shape[0], WIDTH, -1).astype(np.int16)
