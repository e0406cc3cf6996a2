"""Residuals of 4, 2 or 1 bits around centroids; a codec of this kind is trained on a sample of the collection.

A token is its nearest centroid plus a residual. The residual, turned by a fixed rotation so that no dimension carries
much more than another, is rounded dimension by dimension to a few levels (Lloyd's for the sample's distribution), and
lengthened by a factor of its own; the sum is then brought back to length 1, by a second factor. Unit length is what
makes a low-bit code rank well: on real vectors it halves the error of a score (benchmarks/RESULTS.md). What the pieces
have in the literature: centroids and residuals, Santhanam et al., arXiv 2112.01488 and 2205.09707; a rotation before
rounding and a factor a vector, Gao and Long, arXiv 2405.12497.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyterrier_jacolbert.index.codec_kernels import dequantise, quantise
from pyterrier_jacolbert.index.columns import Column

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.centroids import Centroids

#: Bits of a residual's dimension, by compression.
BITS = {"4bit": 4, "2bit": 2, "1bit": 1}
#: The least and greatest length factor of a residual; there is no residual below the least.
_LEAST, _GREATEST = 1e-6, 1e6
#: Residuals from which levels, spreads and ranges are taken.
_RESIDUALS = 2**16


@dataclass(frozen=True)
class ResidualCodec:
    """Centroid, residual of a few bits a dimension, two factors: ``dim * bits / 8 + 4`` bytes.

    Attributes:
        bits: of a residual's dimension: 4, 2 or 1.
        centroids: float16 ``(n_centroids, dim)``, rotated.
        rotation: float32 ``(dim, dim)``, orthogonal; a vector is rotated as ``vector @ rotation``.
        spreads: float32 ``(dim,)``: the standard deviation of the sample's rotated residuals.
        levels: float32 ``(2**bits,)``, ascending: what a code stands for, times its dimension's spread.
        gain_range: float32 ``(2, 2)``: the logarithms of the least and the greatest length factor, and of the least and
            the greatest norm factor; codes from 0 to 255 divide each range evenly.
    """

    bits: int
    centroids: np.ndarray
    rotation: np.ndarray
    spreads: np.ndarray
    levels: np.ndarray
    gain_range: np.ndarray

    @property
    def compression(self) -> str:
        """``"4bit"``, ``"2bit"`` or ``"1bit"``."""
        return f"{self.bits}bit"

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.rotation.shape[0])

    @property
    def columns(self) -> dict[str, Column]:
        """``residuals``, ``centroid_ids`` and ``gains``."""
        return {
            "residuals": Column("|u1", (packed_width(self.dim, self.bits),)),
            "centroid_ids": Column("<u2"),
            "gains": Column("|u1", (2,)),
        }

    def encode(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Finds the centroid, rounds the residual, and the factors that make the most of it."""
        rotated = np.ascontiguousarray(vectors, dtype=np.float32) @ self.rotation
        return self.code(rotated, self._centroids.nearest(rotated))

    def code(self, rotated: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of rotated vectors, float32 ``(n, dim)``, around given centroids, uint16 ``(n,)``."""
        codes, lengths, sums = self._round(rotated, ids)
        gains = np.empty((len(rotated), 2), dtype=np.uint8)
        gains[:, 0] = _to_codes(lengths, self.gain_range[0])
        gains[:, 1] = _to_codes(_norms(_from_codes(gains[:, 0], self.gain_range[0]), sums), self.gain_range[1])
        return {"residuals": codes, "centroid_ids": ids, "gains": gains}

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Adds up centroid and residual, and turns them back.

        Raises:
            ValueError: a centroid that is not there.
        """
        gains, ids = columns["gains"], columns["centroid_ids"]
        check_centroid_ids(ids, len(self.centroids))
        lengths, norms = (table[gains[:, i]] for i, table in enumerate(self.factors()))
        out = np.empty((len(gains), self.dim), dtype=np.float32)
        dequantise(
            columns["residuals"],
            ids,
            lengths,
            norms,
            self.centroids.astype(np.float32),
            self.spreads,
            self.levels,
            self.bits,
            out,
        )
        turned: np.ndarray = out @ self.rotation.T
        return turned

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """The length factor and the norm factor of each gain: float32 ``(256,)`` each."""
        codes = np.arange(256)
        return _from_codes(codes, self.gain_range[0]), _from_codes(codes, self.gain_range[1])

    def with_gains_of(self, rotated: np.ndarray, ids: np.ndarray) -> ResidualCodec:
        """This codec with the ranges of factors that a sample calls for; arguments as :meth:`code` takes them."""
        _, lengths, sums = self._round(rotated, ids)
        return dataclasses.replace(self, gain_range=np.stack([_range(lengths), _range(_norms(lengths, sums))]))

    @cached_property
    def _centroids(self) -> Centroids:
        from pyterrier_jacolbert.index.centroids import Centroids

        return Centroids(self.centroids)

    def _round(self, rotated: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes, the length factor that brings each vector's cosine with its code to its greatest, and products."""
        codes = np.empty((len(rotated), packed_width(self.dim, self.bits)), dtype=np.uint8)
        sums = np.empty((len(rotated), 5), dtype=np.float32)
        quantise(rotated, self._centroids.rows, ids, self.spreads, self.levels, self.bits, codes, sums)
        vc, vr, cc, cr, rr = sums.astype(np.float64).T
        # The cosine of v and c + f r is greatest where its derivative by f is 0.
        over, under = vr * cc - vc * cr, vc * rr - vr * cr
        lengths = np.divide(over, under, out=np.full_like(over, _LEAST), where=under > 1e-12)
        return codes, np.clip(lengths, _LEAST, _GREATEST), sums

    def parameters(self) -> dict[str, np.ndarray]:
        """What :func:`~pyterrier_jacolbert.index.codec.codec_of` needs besides the compression's name."""
        names = ("centroids", "rotation", "spreads", "levels", "gain_range")
        return {name: getattr(self, name) for name in names}


def check_centroid_ids(ids: np.ndarray, n_centroids: int) -> None:
    """Refuses a number that no centroid has.

    Raises:
        ValueError: there is one, so the index is damaged.
    """
    if len(ids) and ids.max() >= n_centroids:
        raise ValueError(
            f"A code names centroid {ids.max()} of {n_centroids}, so the index is damaged; build it again, or fetch it "
            "again."
        )


def packed_width(dim: int, bits: int) -> int:
    """Bytes of a residual. Code ``j`` is in byte ``j % width``, ``bits * (j // width)`` bits up.

    So the first half of the dimensions are the low halves of the bytes, with 4 bits.
    """
    return -(-dim * bits // 8)


def train_residual_codec(sample: np.ndarray, compression: str, n_centroids: int, seed: int = 0) -> ResidualCodec:
    """Trains a codec on a sample of token vectors.

    Args:
        sample: float32 ``(n, dim)``, unit rows; any number of them, also none.
        compression: ``"4bit"``, ``"2bit"`` or ``"1bit"``.
        n_centroids: at most so many, 65,536 or fewer; small samples get fewer.
        seed: of the rotation and of the clustering.
    """
    rotation = random_rotation(sample.shape[1], seed)
    return train_on_rotated(sample.astype(np.float32) @ rotation, rotation, compression, n_centroids, seed)


def train_on_rotated(
    rotated: np.ndarray, rotation: np.ndarray, compression: str, n_centroids: int, seed: int = 0
) -> ResidualCodec:
    """As :func:`train_residual_codec`, with a sample that is rotated already, so that memory holds it once."""
    from pyterrier_jacolbert.index.centroids import cluster, nearest

    centroids = cluster(rotated, n_centroids, seed).astype(np.float16)
    rotated = np.ascontiguousarray(rotated[:: max(1, len(rotated) // _RESIDUALS)])  # residuals are alike enough
    ids = nearest(rotated, centroids.astype(np.float32))
    return codec_around(rotated, ids, centroids, rotation, compression)


def codec_around(
    rotated: np.ndarray, ids: np.ndarray, centroids: np.ndarray, rotation: np.ndarray, compression: str
) -> ResidualCodec:
    """A codec whose centroids are there already.

    Args:
        rotated: a sample, float32 ``(n, dim)``.
        ids: uint16 ``(n,)``, the centroid of each.
        centroids: float16 ``(k, dim)``, rotated too.
        rotation: float32 ``(dim, dim)``.
        compression: ``"4bit"``, ``"2bit"`` or ``"1bit"``.
    """
    bits, dim = BITS[compression], len(rotation)
    residuals = rotated - centroids[ids]
    spreads = residuals.std(axis=0) if len(residuals) else np.zeros(dim, dtype=np.float32)
    spreads = np.maximum(spreads, 1e-6).astype(np.float32)
    scaled = residuals / spreads
    lengths = np.sqrt((scaled**2).mean(axis=1, keepdims=True))
    levels = lloyd_levels((scaled / np.maximum(lengths, 1e-6)).ravel(), bits)
    codec = ResidualCodec(bits, centroids, rotation, spreads, levels, np.zeros((2, 2), dtype=np.float32))
    return codec.with_gains_of(rotated, ids)


def lloyd_levels(values: np.ndarray, bits: int, *, rounds: int = 30, most: int = 2**18) -> np.ndarray:
    """The levels that a distribution is rounded to with the least squared error: float32 ``(2**bits,)``, ascending.

    Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).

    Args:
        values: a sample, evenly thinned to ``most``.
        bits: 1 to 8.
        rounds: of Lloyd's iteration.
        most: values that are looked at.
    """
    count = 2**bits
    if not len(values) or values.min() == values.max():
        return np.linspace(-1, 1, count).astype(np.float32)
    ordered = np.sort(values[:: max(1, len(values) // most)].astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    levels = np.quantile(ordered, (np.arange(count) + 0.5) / count)
    for _ in range(rounds):
        edges = np.concatenate([[0], np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2), [len(ordered)]])
        counts = np.diff(edges)
        means = (sums[edges[1:]] - sums[edges[:-1]]) / np.maximum(counts, 1)
        levels = np.sort(np.where(counts > 0, means, levels))
    found: np.ndarray = levels.astype(np.float32)
    return found


def random_rotation(dim: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix: float32 ``(dim, dim)``."""
    square = np.random.default_rng(seed).standard_normal((dim, dim))
    orthogonal, upper = np.linalg.qr(square)
    return (orthogonal * np.sign(np.diag(upper))).astype(np.float32)


def _norms(lengths: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """What brings centroid + length * rounded to length 1."""
    _, _, cc, cr, rr = sums.astype(np.float64).T
    squares = cc + 2 * lengths * cr + lengths**2 * rr
    inverse: np.ndarray = 1 / np.sqrt(np.maximum(squares, 1e-12))
    return inverse


def _range(factors: np.ndarray) -> np.ndarray:
    """The logarithms of the least and greatest factor but for a few in a thousand, with room: float32 ``(2,)``."""
    if not len(factors):
        return np.array([-1, 1], dtype=np.float32)
    low, high = np.log(np.quantile(factors, [0.0005, 0.9995]))
    room = max(0.25 * (high - low), 0.05)  # for what the sample does not hold
    return np.array([low - room, high + room], dtype=np.float32)


def _to_codes(factors: np.ndarray, limits: np.ndarray) -> np.ndarray:
    steps = (np.log(factors) - limits[0]) / (limits[1] - limits[0]) * 255
    codes: np.ndarray = np.clip(np.rint(steps), 0, 255).astype(np.uint8)
    return codes


def _from_codes(codes: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Factors: float32 ``(n,)``."""
    table = np.exp(limits[0] + np.arange(256) / 255 * (limits[1] - limits[0])).astype(np.float32)
    factors: np.ndarray = table[codes]
    return factors
