"""Named tuples that kernels and intrinsics take as arguments.

numba compiles named tuples, and its disk cache finds the compiled code again because the classes can be imported.
:class:`~pyterrier_jacolbert.index.kernels.query_layout.PackedQuery` is the argument that holds the query.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: 2**112, the difference between the exponent biases of float32 and float16: multiplying by it corrects a float16 whose
#: exponent and mantissa bits were moved to their places in a float32.
EXPONENT_SHIFT = np.float32(2.0**112)


class Documents(NamedTuple):
    """The documents to score.

    Attributes:
        starts: int64 ``(n_docs + 1,)``; document ``d`` has the tokens ``starts[d]`` to ``starts[d + 1]``.
        docids: int64 ``(n,)``.
    """

    starts: np.ndarray
    docids: np.ndarray


class Int8Codes(NamedTuple):
    """Token vectors of an :class:`~pyterrier_jacolbert.index.codecs.scalar.Int8Codec`.

    Attributes:
        codes: uint8 ``(n_tokens, dim)``, zero point 128; ``dim`` is a multiple of 16. The "amx" layout needs at least
            16 rows.
        scales: uint16 ``(n_tokens,)``, the bits of non-negative float16 numbers.
    """

    codes: np.ndarray
    scales: np.ndarray


class ResidualCodes(NamedTuple):
    """Token vectors of a :class:`~pyterrier_jacolbert.index.codecs.residual.ResidualCodec`, with its tables.

    Attributes:
        residuals: uint8 ``(n_tokens, width)``; see :func:`~pyterrier_jacolbert.index.codecs.residual.packed_width`.
        centroid_ids: uint16 ``(n_tokens,)``.
        factor_codes: uint8 ``(n_tokens, 2)``, the codes of the length factor and of the norm factor.
        reconstruction_levels: uint8 ``(16,)``, the level of each code, zero point 128.
        bits: bits per code: 4, 2 or 1.
        length_factors: float32 ``(256,)``, by the first column of ``factor_codes``.
        norm_factors: float32 ``(256,)``, by the second column of ``factor_codes``.
    """

    residuals: np.ndarray
    centroid_ids: np.ndarray
    factor_codes: np.ndarray
    reconstruction_levels: np.ndarray
    bits: int
    length_factors: np.ndarray
    norm_factors: np.ndarray


class TokenBlock(NamedTuple):
    """Consecutive document tokens in 8 bits.

    Attributes:
        rows: uint8 ``(n, dim)``, zero point 128.
        first: first row of the block.
        length: number of tokens, at least 1.
        factors: float32, at least ``length`` elements; ``factors[t]`` multiplies the dot products of token ``t``.
    """

    rows: np.ndarray
    first: int
    length: int
    factors: np.ndarray


class CentroidTerms(NamedTuple):
    """The centroids' part of the similarities of a block of document tokens.

    Attributes:
        products: float32 ``(n_centroids, b, 32)``, the dot products of centroids and query tokens.
        ids: uint16, the centroid of each token of the block.
        norm_factors: float32, the norm factor of each token of the block.
    """

    products: np.ndarray
    ids: np.ndarray
    norm_factors: np.ndarray
