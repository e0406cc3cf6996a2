"""Queries in 8 bits, packed for the processor's dot-product instructions.

The tokens of a query are padded with zeros to blocks of 32, and the dimensions to a multiple of 16. A layout places the
numbers that one instruction multiplies next to each other. With ``b`` blocks, ``d`` dimensions, and ``q7[4..7]`` for
the dimensions 4 to 7 of query token 7 of a block, memory holds:

``"generic"``, int16 ``(b, d, 32)``: a row per dimension::

    q0[0]  q1[0]  q2[0]  ...  q31[0]
    q0[1]  q1[1]  q2[1]  ...  q31[1]
    ...

``"avx2"``, int16 ``(b, d / 2, 32, 2)``: a row per pair of dimensions; 8 pairs fill a 256-bit register::

    q0[0..1]  q1[0..1]  ...  q7[0..1] | q8[0..1]  ...  q15[0..1] | q16[0..1]  ...  q31[0..1]
    q0[2..3]  q1[2..3]  ...  q7[2..3] | q8[2..3]  ...  q15[2..3] | q16[2..3]  ...  q31[2..3]
    ...

``"vnni"``, int8 ``(b, d / 4, 32, 4)``: a row per four dimensions; 16 groups of four fill a 512-bit register::

    q0[0..3]  q1[0..3]  ...  q15[0..3] | q16[0..3]  q17[0..3]  ...  q31[0..3]
    q0[4..7]  q1[4..7]  ...  q15[4..7] | q16[4..7]  q17[4..7]  ...  q31[4..7]
    ...

``"amx"``, int8 ``(b, d / 64, 16, 32, 4)``: the bytes of ``"vnni"``. Every 16 rows, 64 dimensions, make two tiles of 16
rows of 64 bytes, which lie side by side; the rows of a tile are 128 bytes apart::

          tile of query tokens 0 to 15              tile of query tokens 16 to 31
    q0[0..3]    q1[0..3]    ...  q15[0..3]   | q16[0..3]    q17[0..3]    ...  q31[0..3]
    q0[4..7]    q1[4..7]    ...  q15[4..7]   | q16[4..7]    q17[4..7]    ...  q31[4..7]
    ...
    q0[60..63]  q1[60..63]  ...  q15[60..63] | q16[60..63]  q17[60..63]  ...  q31[60..63]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Query tokens per block.
WIDTH = 32
#: Dimensions are padded to a multiple of this.
DIM_STEP = 16
#: The code that represents 0 in document codes, which are unsigned.
ZERO_POINT = 128
#: Rows (tokens) and bytes per row (dimensions) of a tile, a register of the processor's matrix unit.
TILE_ROWS, TILE_STEP = 16, 64


class PackedQuery(NamedTuple):
    """A query in 8 bits.

    The similarity of a document token and query token ``q`` is
    ``scales[q] * (codes of the document token . codes of q - zero_point_bias[q])``, times a factor of the document
    token.

    Attributes:
        rows: the codes, packed in one of the layouts of
            :mod:`~pyterrier_jacolbert.index.kernels.query_layout`.
        zero_point_bias: int32 ``(b, 32)``, the part of a dot product that is due to the zero point of the document
            codes: 128 times the sum of the query token's codes.
        scales: float32 ``(b, 32)``.
        tokens: number of query tokens, from ``32 (b - 1) + 1`` to ``32 b``; instructions skip the padding behind them
            as far as they can.
    """

    rows: np.ndarray
    zero_point_bias: np.ndarray
    scales: np.ndarray
    tokens: int

    @classmethod
    def of(cls, query: np.ndarray, layout: str) -> PackedQuery:
        """Rounds a query to 8 bits and packs it.

        Args:
            query: float32 ``(n_tokens, dim)``. Rounding moves a number by at most half the scale of its token.
            layout: as :func:`pack` takes it.
        """
        tokens, dim = query.shape
        padded = np.zeros((-(-tokens // WIDTH) * WIDTH, -(-dim // DIM_STEP) * DIM_STEP), dtype=np.float32)
        padded[:tokens, :dim] = query
        codes, scales = quantize_rows(padded)
        zero_point_bias = ZERO_POINT * codes.sum(axis=1, dtype=np.int32)
        return cls(pack(codes, layout), zero_point_bias.reshape(-1, WIDTH), scales.reshape(-1, WIDTH), tokens)


def quantize_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds each row to integers from -127 to 127, which its largest number reaches.

    Args:
        rows: float32 ``(n, dim)``.

    Returns:
        The codes, int8 ``(n, dim)``, and the scale of each row, float32 ``(n,)``, 0 for a row of zeros.
    """
    scales = np.abs(rows).max(axis=1) / np.float32(127)
    return np.rint(rows / np.where(scales > 0, scales, np.float32(1))[:, None]).astype(np.int8), scales


def pack(codes: np.ndarray, layout: str) -> np.ndarray:
    """Packs the codes of a query for the instructions of a layout.

    Args:
        codes: int8 ``(32 b, dim)``, a row per query token.
        layout: ``"amx"``, ``"vnni"``, ``"avx2"`` or ``"generic"``; "amx" needs a multiple of 64 dimensions.
    """
    blocks = codes.reshape(-1, WIDTH, codes.shape[1])
    if layout == "generic":
        return np.ascontiguousarray(blocks.transpose(0, 2, 1).astype(np.int16))
    group, dtype = (2, np.int16) if layout == "avx2" else (4, np.int8)
    grouped = blocks.reshape(*blocks.shape[:2], -1, group).transpose(0, 2, 1, 3)
    packed = np.ascontiguousarray(grouped.astype(dtype))
    return packed.reshape(len(packed), -1, TILE_STEP // group, WIDTH, group) if layout == "amx" else packed


def unpack(packed: np.ndarray) -> np.ndarray:
    """Returns the codes of a packed query by token: int16 ``(b, 32, dim)``."""
    if packed.ndim == 3:
        return packed.transpose(0, 2, 1)
    steps = packed.reshape(packed.shape[0], -1, *packed.shape[-2:])
    return steps.transpose(0, 2, 1, 3).reshape(packed.shape[0], WIDTH, -1).astype(np.int16)
