"""Kernels of the codecs, each beside its numpy reference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pyterrier_jacolbert.index.kernels.arguments import EXPONENT_SHIFT
from pyterrier_jacolbert.index.kernels.jit import kernel, numba
from pyterrier_jacolbert.index.kernels.query_layout import WIDTH

if numba is not None:
    from pyterrier_jacolbert.index.kernels.simd import argmax_sum


class ResidualTables(NamedTuple):
    """The trained tables of a :class:`~pyterrier_jacolbert.index.codecs.residual.ResidualCodec`.

    Attributes:
        centroids: float32 ``(k, dim)``, rotated.
        residual_stds: float32 ``(dim,)``, the standard deviation of each dimension of the residuals.
        reconstruction_levels: float32 ``(2**bits,)``, ascending, in units of ``residual_stds``.
        bits: bits per code.
    """

    centroids: np.ndarray
    residual_stds: np.ndarray
    reconstruction_levels: np.ndarray
    bits: int


class TokenFactors(NamedTuple):
    """The factors of token vectors.

    Attributes:
        length_factors: float32 ``(n,)``, by which each residual is multiplied.
        norm_factors: float32 ``(n,)``, by which the sum of each centroid and residual is multiplied.
    """

    length_factors: np.ndarray
    norm_factors: np.ndarray


def float16_to_float32_reference(halves: np.ndarray, out: np.ndarray) -> None:
    """Implements :func:`float16_to_float32` in numpy."""
    out[:] = halves.view(np.float16)


@kernel(float16_to_float32_reference)
def float16_to_float32(halves: np.ndarray, out: np.ndarray) -> None:
    """Converts float16 to float32, about twenty times as fast as numpy's astype, which converts number by number.

    The sign and the other bits move to their places in a float32, and one multiplication corrects the exponent, also of
    subnormal numbers.

    Args:
        halves: uint16 ``(n,)``, the bits of finite float16 numbers.
        out: float32 ``(n,)``.
    """
    for i in range(len(halves)):
        bits = np.uint32(halves[i])
        moved = ((bits & np.uint32(0x8000)) << np.uint32(16)) | ((bits & np.uint32(0x7FFF)) << np.uint32(13))
        out[i] = np.uint32(moved).view(np.float32) * EXPONENT_SHIFT


def quantize_int8_reference(vectors: np.ndarray, rotation: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> None:
    """Implements :func:`quantize_int8` in numpy."""
    rotated = vectors @ rotation
    largest = np.abs(rotated).max(axis=1, keepdims=True)
    rounded = np.rint(np.divide(rotated * 127, largest, out=np.zeros_like(rotated), where=largest > 0))
    lengths, squares = (np.linalg.norm(rows, axis=1) for rows in (rotated, rounded))
    codes[:] = rounded + 128
    scales[:] = np.divide(lengths, squares, out=np.zeros_like(lengths), where=squares > 0)


@kernel(quantize_int8_reference)
def quantize_int8(vectors: np.ndarray, rotation: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> None:
    """Rotates vectors and rounds each to integers from -127 to 127, with the scale that preserves its length.

    Unlike a matrix product, it rotates each row by itself and always adds in the same order, so the bytes of a row
    depend on nothing else.

    Args:
        vectors: float32 ``(n, dim)``.
        rotation: float32 ``(dim, dim)``; a vector is rotated as ``vector @ rotation``.
        codes: uint8 ``(n, dim)``, zero point 128.
        scales: float32 ``(n,)``.
    """
    n, dim = vectors.shape
    rotated = np.empty(dim, dtype=np.float32)
    for i in range(n):
        rotated[:] = 0
        for k in range(dim):
            number = vectors[i, k]
            for j in range(dim):
                rotated[j] += number * rotation[k, j]
        largest = length = np.float32(0)
        for j in range(dim):
            largest = max(largest, abs(rotated[j]))
            length += rotated[j] * rotated[j]
        step = np.float32(127) / largest if largest > 0 else np.float32(0)
        squares = np.float32(0)
        for j in range(dim):
            code = np.rint(rotated[j] * step)
            squares += code * code
            codes[i, j] = np.uint8(code + np.float32(128))
        scales[i] = np.sqrt(length / squares) if squares > 0 else np.float32(0)


def argmax_rows_reference(products: np.ndarray, bias: np.ndarray, places: np.ndarray, greatest: np.ndarray) -> None:
    """Implements :func:`argmax_rows` in numpy."""
    sums = (products.view(np.uint16).astype(np.uint32) << 16).view(np.float32) + bias
    places[:], greatest[:] = sums.argmax(axis=1), sums.max(axis=1)


@kernel(argmax_rows_reference)
def argmax_rows(products: np.ndarray, bias: np.ndarray, places: np.ndarray, greatest: np.ndarray) -> None:
    """Finds the maximum sum of product and bias in each row, and its position; ties go to the first.

    Args:
        products: int16 ``(n, k)``, the bits of bfloat16 numbers.
        bias: float32 ``(k,)``.
        places: uint16 ``(n,)``, the positions.
        greatest: float32 ``(n,)``, the maxima.
    """
    columns = products.shape[1]
    whole = columns // WIDTH * WIDTH
    for row in range(len(products)):
        place, top = -1, np.float32(-np.inf)
        if whole:
            place = argmax_sum(products, bias, row, whole)
            bits = np.uint32(np.uint16(products[row, place])) << np.uint32(16)
            top = np.uint32(bits).view(np.float32) + bias[place]
        for column in range(whole, columns):
            bits = np.uint32(np.uint16(products[row, column])) << np.uint32(16)
            value = np.uint32(bits).view(np.float32) + bias[column]
            if value > top or place < 0:
                place, top = column, value
        places[row] = place
        greatest[row] = top


def quantize_residuals_reference(
    vectors: np.ndarray, ids: np.ndarray, tables: ResidualTables, codes: np.ndarray, sums: np.ndarray
) -> None:
    """Implements :func:`quantize_residuals` in numpy."""
    levels = tables.reconstruction_levels
    centroids = tables.centroids[ids]
    scaled = (vectors - centroids) / tables.residual_stds
    lengths = np.sqrt((scaled**2).mean(axis=1, keepdims=True))
    scaled = np.divide(scaled, lengths, out=np.zeros_like(scaled), where=lengths > 0)
    unpacked = np.searchsorted((levels[1:] + levels[:-1]) / 2, scaled, side="left")
    rounded = levels[unpacked] * tables.residual_stds
    codes[:] = 0
    width = codes.shape[1]
    for j in range(vectors.shape[1]):
        codes[:, j % width] |= (unpacked[:, j] << (tables.bits * (j // width))).astype(np.uint8)
    pairs = [
        (vectors, centroids),
        (vectors, rounded),
        (centroids, centroids),
        (centroids, rounded),
        (rounded, rounded),
    ]
    sums[:] = np.stack([np.einsum("ij,ij->i", a, b) for a, b in pairs], axis=1)


@kernel(quantize_residuals_reference)
def quantize_residuals(
    vectors: np.ndarray, ids: np.ndarray, tables: ResidualTables, codes: np.ndarray, sums: np.ndarray
) -> None:
    """Rounds residuals to reconstruction levels, after scaling each to length 1, and packs the codes.

    Args:
        vectors: float32 ``(n, dim)``.
        ids: uint16 ``(n,)``, the centroid of each vector.
        tables: the codec's tables.
        codes: uint8 ``(n, width)``; code ``j`` is in byte ``j % width``, shifted left by ``bits * (j // width)`` bits.
        sums: float32 ``(n, 5)``, the dot products vector.centroid, vector.rounded, centroid.centroid, centroid.rounded
            and rounded.rounded, where rounded is the residual that the codes represent.
    """
    n, dim = vectors.shape
    width = codes.shape[1]
    stds, levels, bits = tables.residual_stds, tables.reconstruction_levels, tables.bits
    middles = (levels[1:] + levels[:-1]) / np.float32(2)
    for i in range(n):
        centroid = tables.centroids[ids[i]]
        length = np.float32(0)
        for j in range(dim):
            scaled = (vectors[i, j] - centroid[j]) / stds[j]
            length += scaled * scaled
        length = np.sqrt(length / np.float32(dim))
        inverse = np.float32(1) / length if length > 0 else np.float32(0)
        for j in range(width):
            codes[i, j] = 0
        vc = vr = cc = cr = rr = np.float32(0)
        for j in range(dim):
            scaled = (vectors[i, j] - centroid[j]) / stds[j] * inverse
            code = 0
            for k in range(len(middles)):
                code += scaled > middles[k]
            codes[i, j % width] |= np.uint8(code << (bits * (j // width)))
            rounded = levels[code] * stds[j]
            vc += vectors[i, j] * centroid[j]
            vr += vectors[i, j] * rounded
            cc += centroid[j] * centroid[j]
            cr += centroid[j] * rounded
            rr += rounded * rounded
        sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3], sums[i, 4] = vc, vr, cc, cr, rr


def dequantize_residuals_reference(
    codes: np.ndarray, ids: np.ndarray, factors: TokenFactors, tables: ResidualTables, out: np.ndarray
) -> None:
    """Implements :func:`dequantize_residuals` in numpy."""
    positions = np.arange(tables.centroids.shape[1])
    width = codes.shape[1]
    shifts = (tables.bits * (positions // width)).astype(np.uint8)
    unpacked = (codes[:, positions % width] >> shifts) & (2**tables.bits - 1)
    levels = tables.reconstruction_levels[unpacked]
    residuals = factors.length_factors[:, None] * levels * tables.residual_stds
    out[:] = factors.norm_factors[:, None] * (tables.centroids[ids] + residuals)


@kernel(dequantize_residuals_reference)
def dequantize_residuals(
    codes: np.ndarray, ids: np.ndarray, factors: TokenFactors, tables: ResidualTables, out: np.ndarray
) -> None:
    """Adds centroids and the residuals that codes represent.

    ``out = norm_factor * (centroid + length_factor * reconstruction_level * residual_std)``.

    Args:
        codes: uint8 ``(n, width)``, as :func:`quantize_residuals` packs them.
        ids: uint16 ``(n,)``, the centroid of each vector.
        factors: the factors of each vector.
        tables: the codec's tables.
        out: float32 ``(n, dim)``.
    """
    length_factors, norm_factors = factors.length_factors, factors.norm_factors
    centroids, stds, levels = tables.centroids, tables.residual_stds, tables.reconstruction_levels
    width = codes.shape[1]
    mask = np.uint8(2**tables.bits - 1)
    for i in range(len(codes)):
        for j in range(out.shape[1]):
            level = levels[(codes[i, j % width] >> np.uint8(tables.bits * (j // width))) & mask]
            out[i, j] = norm_factors[i] * (centroids[ids[i], j] + length_factors[i] * level * stds[j])
