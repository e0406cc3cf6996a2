"""The kernels of the codecs, each beside the numpy code that says the same thing."""

from __future__ import annotations

import numpy as np

from pyterrier_jacolbert.index.jit import kernel
from pyterrier_jacolbert.index.panels import WIDTH

try:
    from pyterrier_jacolbert.index.instructions import place_of_greatest
except ImportError:  # numba is missing, and the references take the kernels' places
    place_of_greatest = None

#: 2**112: what a float16's exponent, moved into a float32's place, is short of.
EXPONENT_SHIFT = np.float32(2.0**112)


def widen_reference(halves: np.ndarray, out: np.ndarray) -> None:
    """What :func:`widen` computes, in numpy."""
    out[:] = halves.view(np.float16)


@kernel(widen_reference)
def widen(halves: np.ndarray, out: np.ndarray) -> None:
    """Converts float16 to float32, about twenty times as fast as numpy's astype (which goes number by number).

    The sign and the other bits move to their places in a float32, and one product sets the exponent right, for
    subnormal numbers too.

    Args:
        halves: uint16 ``(n,)``, the bits of finite float16 numbers.
        out: float32 ``(n,)``.
    """
    for i in range(len(halves)):
        bits = np.uint32(halves[i])
        moved = ((bits & np.uint32(0x8000)) << np.uint32(16)) | ((bits & np.uint32(0x7FFF)) << np.uint32(13))
        out[i] = np.uint32(moved).view(np.float32) * EXPONENT_SHIFT


def quantise_int8_reference(vectors: np.ndarray, rotation: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> None:
    """What :func:`quantise_int8` computes, in numpy."""
    rotated = vectors @ rotation
    largest = np.abs(rotated).max(axis=1, keepdims=True)
    rounded = np.rint(np.divide(rotated * 127, largest, out=np.zeros_like(rotated), where=largest > 0))
    lengths, squares = (np.linalg.norm(rows, axis=1) for rows in (rotated, rounded))
    codes[:] = rounded + 128
    scales[:] = np.divide(lengths, squares, out=np.zeros_like(lengths), where=squares > 0)


@kernel(quantise_int8_reference)
def quantise_int8(vectors: np.ndarray, rotation: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> None:
    """Rotates vectors, rounds each to 127 steps up to its largest number, and gives the scale that keeps its length.

    Row by row and in one order, unlike a matrix product, so that a row's bytes depend on nothing else.

    Args:
        vectors: float32 ``(n, dim)``.
        rotation: float32 ``(dim, dim)``; a vector is rotated as ``vector @ rotation``.
        codes: uint8 ``(n, dim)``, 128 for 0.
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
    """What :func:`argmax_rows` computes, in numpy."""
    sums = (products.view(np.uint16).astype(np.uint32) << 16).view(np.float32) + bias
    places[:], greatest[:] = sums.argmax(axis=1), sums.max(axis=1)


@kernel(argmax_rows_reference)
def argmax_rows(products: np.ndarray, bias: np.ndarray, places: np.ndarray, greatest: np.ndarray) -> None:
    """The greatest sum of product and bias in each row, and its position; the first of several.

    Args:
        products: int16 ``(n, k)``, the bits of bfloat16 numbers.
        bias: float32 ``(k,)``.
        places: uint16 ``(n,)``.
        greatest: float32 ``(n,)``.
    """
    columns = products.shape[1]
    whole = columns // WIDTH * WIDTH
    for row in range(len(products)):
        place, top = -1, np.float32(-np.inf)
        if whole:
            place = place_of_greatest(products, bias, row, whole)
            bits = np.uint32(np.uint16(products[row, place])) << np.uint32(16)
            top = np.uint32(bits).view(np.float32) + bias[place]
        for column in range(whole, columns):
            bits = np.uint32(np.uint16(products[row, column])) << np.uint32(16)
            value = np.uint32(bits).view(np.float32) + bias[column]
            if value > top or place < 0:
                place, top = column, value
        places[row] = place
        greatest[row] = top


def quantise_reference(
    vectors: np.ndarray,
    centroids: np.ndarray,
    ids: np.ndarray,
    spreads: np.ndarray,
    levels: np.ndarray,
    bits: int,
    codes: np.ndarray,
    sums: np.ndarray,
) -> None:
    """What :func:`quantise` computes, in numpy."""
    chosen = centroids[ids]
    scaled = (vectors - chosen) / spreads
    lengths = np.sqrt((scaled**2).mean(axis=1, keepdims=True))
    scaled = np.divide(scaled, lengths, out=np.zeros_like(scaled), where=lengths > 0)
    unpacked = np.searchsorted((levels[1:] + levels[:-1]) / 2, scaled, side="left")
    rounded = levels[unpacked] * spreads
    codes[:] = 0
    width = codes.shape[1]
    for j in range(vectors.shape[1]):
        codes[:, j % width] |= (unpacked[:, j] << (bits * (j // width))).astype(np.uint8)
    pairs = [(vectors, chosen), (vectors, rounded), (chosen, chosen), (chosen, rounded), (rounded, rounded)]
    sums[:] = np.stack([np.einsum("ij,ij->i", a, b) for a, b in pairs], axis=1)


@kernel(quantise_reference)
def quantise(
    vectors: np.ndarray,
    centroids: np.ndarray,
    ids: np.ndarray,
    spreads: np.ndarray,
    levels: np.ndarray,
    bits: int,
    codes: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Rounds residuals to levels, each scaled to its own length first, and packs the codes.

    Args:
        vectors: float32 ``(n, dim)``.
        centroids: float32 ``(k, dim)``.
        ids: uint16 ``(n,)``, the centroid of each vector.
        spreads: float32 ``(dim,)``.
        levels: float32 ``(2**bits,)``, ascending.
        bits: of a code.
        codes: uint8 ``(n, width)``; code ``j`` goes to byte ``j % width``, ``bits * (j // width)`` bits up.
        sums: float32 ``(n, 5)``: the products vector.centroid, vector.rounded, centroid.centroid, centroid.rounded and
            rounded.rounded, where rounded is the residual that the codes stand for.
    """
    n, dim = vectors.shape
    width = codes.shape[1]
    middles = (levels[1:] + levels[:-1]) / np.float32(2)
    for i in range(n):
        centroid = centroids[ids[i]]
        length = np.float32(0)
        for j in range(dim):
            scaled = (vectors[i, j] - centroid[j]) / spreads[j]
            length += scaled * scaled
        length = np.sqrt(length / np.float32(dim))
        inverse = np.float32(1) / length if length > 0 else np.float32(0)
        for j in range(width):
            codes[i, j] = 0
        vc = vr = cc = cr = rr = np.float32(0)
        for j in range(dim):
            scaled = (vectors[i, j] - centroid[j]) / spreads[j] * inverse
            code = 0
            for k in range(len(middles)):
                code += scaled > middles[k]
            codes[i, j % width] |= np.uint8(code << (bits * (j // width)))
            rounded = levels[code] * spreads[j]
            vc += vectors[i, j] * centroid[j]
            vr += vectors[i, j] * rounded
            cc += centroid[j] * centroid[j]
            cr += centroid[j] * rounded
            rr += rounded * rounded
        sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3], sums[i, 4] = vc, vr, cc, cr, rr


def dequantise_reference(
    codes: np.ndarray,
    ids: np.ndarray,
    lengths: np.ndarray,
    norms: np.ndarray,
    centroids: np.ndarray,
    spreads: np.ndarray,
    levels: np.ndarray,
    bits: int,
    out: np.ndarray,
) -> None:
    """What :func:`dequantise` computes, in numpy."""
    positions = np.arange(centroids.shape[1])
    width = codes.shape[1]
    unpacked = (codes[:, positions % width] >> (bits * (positions // width)).astype(np.uint8)) & (2**bits - 1)
    out[:] = norms[:, None] * (centroids[ids] + lengths[:, None] * levels[unpacked] * spreads)


@kernel(dequantise_reference)
def dequantise(
    codes: np.ndarray,
    ids: np.ndarray,
    lengths: np.ndarray,
    norms: np.ndarray,
    centroids: np.ndarray,
    spreads: np.ndarray,
    levels: np.ndarray,
    bits: int,
    out: np.ndarray,
) -> None:
    """Adds centroids and what the codes stand for: ``norm * (centroid + length * level * spread)``.

    Args:
        codes: uint8 ``(n, width)``, as :func:`quantise` packs them.
        ids: uint16 ``(n,)``.
        lengths: float32 ``(n,)``.
        norms: float32 ``(n,)``.
        centroids: float32 ``(k, dim)``.
        spreads: float32 ``(dim,)``.
        levels: float32 ``(2**bits,)``.
        bits: of a code.
        out: float32 ``(n, dim)``.
    """
    width = codes.shape[1]
    mask = np.uint8(2**bits - 1)
    for i in range(len(codes)):
        for j in range(out.shape[1]):
            level = levels[(codes[i, j % width] >> np.uint8(bits * (j // width))) & mask]
            out[i, j] = norms[i] * (centroids[ids[i], j] + lengths[i] * level * spreads[j])
