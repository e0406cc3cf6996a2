"""Residual codecs of 4, 2 or 1 bits per dimension around centroids, trained on a sample of the collection.

A token vector is its nearest centroid plus a residual. The residual is rotated by a fixed rotation, so that no
dimension dominates, rounded per dimension to a few reconstruction levels (Lloyd's, for the distribution of the sample),
and scaled by a length factor of its own; the sum with the centroid is then scaled to norm 1 by a norm factor. Unit norm
is what makes low-bit codes rank well: on real vectors it halves the error of a score (benchmarks/RESULTS.md). Sources
of the parts: centroids and residuals, Santhanam et al., arXiv 2112.01488 and 2205.09707; a rotation before rounding and
a factor per vector, Gao and Long, arXiv 2405.12497.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyterrier_jacolbert.index.codecs.base import Column
from pyterrier_jacolbert.index.codecs.kmeans import Centroids, cluster, nearest
from pyterrier_jacolbert.index.storage.layout import BITS
from pyterrier_jacolbert.index.threads import cached_attribute

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.codecs.kernels import ResidualTables

#: Range of length factors. A residual with the minimum is ignored.
_MIN_LENGTH, _MAX_LENGTH = 1e-6, 1e6
#: Residuals that reconstruction levels, standard deviations and ranges are estimated from.
_RESIDUALS = 2**16
#: Parameters on disk and the attributes of the codec that hold them.
_ATTRIBUTES = {
    "centroids": "centroids",
    "rotation": "rotation",
    "spreads": "residual_stds",
    "levels": "reconstruction_levels",
    "gain_range": "factor_ranges",
}


@dataclass(frozen=True)
class ResidualCodec:
    """A centroid, a residual of a few bits per dimension and two factors: ``dim * bits / 8 + 4`` bytes per token.

    Attributes:
        bits: per dimension of a residual: 4, 2 or 1.
        centroids: float16 ``(n_centroids, dim)``, rotated.
        rotation: float32 ``(dim, dim)``, orthogonal; a vector is rotated as ``vector @ rotation``.
        residual_stds: float32 ``(dim,)``: standard deviation of the rotated residuals of the sample.
        reconstruction_levels: float32 ``(2**bits,)``, ascending: value of each code, in standard deviations of its
            dimension (the bucket weights of PLAID).
        factor_ranges: float32 ``(2, 2)``: logarithms of the smallest and the greatest length factor, and of the
            smallest and the greatest norm factor; codes from 0 to 255 divide each range evenly.
    """

    bits: int
    centroids: np.ndarray
    rotation: np.ndarray
    residual_stds: np.ndarray
    reconstruction_levels: np.ndarray
    factor_ranges: np.ndarray

    @classmethod
    def of_parameters(cls, bits: int, parameters: Mapping[str, np.ndarray]) -> ResidualCodec:
        """Returns the codec with the given parameters, under their names on disk; see :meth:`parameters`."""
        return cls(bits, **{attribute: parameters[name] for name, attribute in _ATTRIBUTES.items()})

    def parameters(self) -> dict[str, np.ndarray]:
        """Returns the parameters of the codec under their names on disk."""
        return {name: getattr(self, attribute) for name, attribute in _ATTRIBUTES.items()}

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
        """``residuals``, ``centroid_ids`` and ``gains``, the codes of the length factor and the norm factor."""
        return {
            "residuals": Column("|u1", (packed_width(self.dim, self.bits),)),
            "centroid_ids": Column("<u2"),
            "gains": Column("|u1", (2,)),
        }

    def encode(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Finds the nearest centroids, rounds the residuals, and chooses the factors that fit best."""
        from pyterrier_jacolbert.index.kernels.products import matrix_product

        rotated = matrix_product(vectors, self.rotation)
        return self.encode_around(rotated, self._centroids.nearest(rotated))

    def encode_around(self, rotated: np.ndarray, centroid_ids: np.ndarray) -> dict[str, np.ndarray]:
        """Compresses rotated vectors, float32 ``(n, dim)``, around the given centroids, uint16 ``(n,)``."""
        residuals, lengths, products = self._quantize(rotated, centroid_ids)
        length_range, norm_range = self.factor_ranges
        factor_codes = np.empty((len(rotated), 2), dtype=np.uint8)
        factor_codes[:, 0] = _to_codes(lengths, length_range)
        norms = _norm_factors(_to_factors(factor_codes[:, 0], length_range), products)
        factor_codes[:, 1] = _to_codes(norms, norm_range)
        return {"residuals": residuals, "centroid_ids": centroid_ids, "gains": factor_codes}

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Adds centroids and residuals and inverts the rotation.

        Raises:
            ValueError: a centroid id is out of range.
        """
        from pyterrier_jacolbert.index.codecs.kernels import TokenFactors, dequantize_residuals
        from pyterrier_jacolbert.index.kernels.products import matrix_product

        factor_codes, ids = columns["gains"], columns["centroid_ids"]
        check_centroid_ids(ids, len(self.centroids))
        factors = TokenFactors(*(table[factor_codes[:, i]] for i, table in enumerate(self.factors())))
        rotated = np.empty((len(factor_codes), self.dim), dtype=np.float32)
        tables = self._tables(self.centroids.astype(np.float32))
        dequantize_residuals(columns["residuals"], ids, factors, tables, rotated)
        return matrix_product(rotated, self.rotation.T)

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the length factor and the norm factor of each code: float32 ``(256,)`` each."""
        codes = np.arange(256)
        return _to_factors(codes, self.factor_ranges[0]), _to_factors(codes, self.factor_ranges[1])

    def with_factor_ranges_of(self, rotated: np.ndarray, centroid_ids: np.ndarray) -> ResidualCodec:
        """Returns the codec with the ranges of factors of a sample; see :meth:`encode_around` for arguments."""
        _, lengths, products = self._quantize(rotated, centroid_ids)
        ranges = np.stack([_factor_range(lengths), _factor_range(_norm_factors(lengths, products))])
        return dataclasses.replace(self, factor_ranges=ranges)

    @cached_attribute
    def _centroids(self) -> Centroids:
        return Centroids(self.centroids)

    def _tables(self, centroids: np.ndarray) -> ResidualTables:
        from pyterrier_jacolbert.index.codecs.kernels import ResidualTables

        return ResidualTables(centroids, self.residual_stds, self.reconstruction_levels, self.bits)

    def _quantize(self, rotated: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Quantizes residuals around the given centroids.

        Returns:
            codes: uint8 ``(n, width)``; length factors that maximise the cosine of vector and code: float64 ``(n,)``;
            the products of vector, centroid and rounded residual: float32 ``(n, 5)``.
        """
        from pyterrier_jacolbert.index.codecs.kernels import quantize_residuals

        codes = np.empty((len(rotated), packed_width(self.dim, self.bits)), dtype=np.uint8)
        products = np.empty((len(rotated), 5), dtype=np.float32)
        quantize_residuals(rotated, ids, self._tables(self._centroids.rows), codes, products)
        vc, vr, cc, cr, rr = products.astype(np.float64).T
        # The cosine of v and c + f r is greatest where its derivative with respect to f is 0.
        over, under = vr * cc - vc * cr, vc * rr - vr * cr
        lengths = np.divide(over, under, out=np.full_like(over, _MIN_LENGTH), where=under > 1e-12)
        return codes, np.clip(lengths, _MIN_LENGTH, _MAX_LENGTH), products


def check_centroid_ids(ids: np.ndarray, n_centroids: int) -> None:
    """Checks that centroid ids are in range.

    Raises:
        ValueError: an id is out of range, so the index is damaged.
    """
    if len(ids) and ids.max() >= n_centroids:
        raise ValueError(
            f"A code names centroid {ids.max()} of {n_centroids}, so the index is damaged; build or fetch it again."
        )


def packed_width(dim: int, bits: int) -> int:
    """Returns the bytes of a packed residual.

    Code ``j`` is in byte ``j % width``, shifted by ``bits * (j // width)`` bits. With 4 bits, the first half of the
    dimensions are the low halves of the bytes.
    """
    return -(-dim * bits // 8)


def train_residual_codec(sample: np.ndarray, compression: str, n_centroids: int, seed: int = 0) -> ResidualCodec:
    """Trains a codec on a sample of token vectors.

    Args:
        sample: float32 ``(n, dim)``, unit rows; may be empty.
        compression: ``"4bit"``, ``"2bit"`` or ``"1bit"``.
        n_centroids: maximum number of centroids, up to 65,536; small samples get fewer.
        seed: of the rotation and the clustering.
    """
    from pyterrier_jacolbert.index.kernels.products import matrix_product

    rotation = random_rotation(sample.shape[1], seed)
    return train_on_rotated(matrix_product(sample, rotation), rotation, compression, n_centroids, seed)


def train_on_rotated(
    rotated: np.ndarray, rotation: np.ndarray, compression: str, n_centroids: int, seed: int = 0
) -> ResidualCodec:
    """Trains a codec on a sample that is already rotated, so that memory holds it once.

    Args:
        rotated: float32 ``(n, dim)``.
        rotation: float32 ``(dim, dim)``.
        compression: ``"4bit"``, ``"2bit"`` or ``"1bit"``.
        n_centroids: as in :func:`train_residual_codec`.
        seed: of the clustering.
    """
    centroids = cluster(rotated, n_centroids, seed).astype(np.float16)
    rotated = np.ascontiguousarray(rotated[:: max(1, len(rotated) // _RESIDUALS)])  # a part of the residuals suffices
    ids = nearest(rotated, centroids.astype(np.float32))
    return codec_around(rotated, ids, centroids, rotation, compression)


def codec_around(
    rotated: np.ndarray, centroid_ids: np.ndarray, centroids: np.ndarray, rotation: np.ndarray, compression: str
) -> ResidualCodec:
    """Trains a codec with given centroids.

    Args:
        rotated: sample, float32 ``(n, dim)``.
        centroid_ids: uint16 ``(n,)``, the centroid of each vector.
        centroids: float16 ``(k, dim)``, rotated.
        rotation: float32 ``(dim, dim)``.
        compression: ``"4bit"``, ``"2bit"`` or ``"1bit"``.
    """
    bits, dim = BITS[compression], len(rotation)
    residuals = rotated - centroids[centroid_ids]
    stds = residuals.std(axis=0) if len(residuals) else np.zeros(dim, dtype=np.float32)
    stds = np.maximum(stds, 1e-6).astype(np.float32)
    standardised = residuals / stds
    lengths = np.sqrt((standardised**2).mean(axis=1, keepdims=True))
    levels = lloyd_levels((standardised / np.maximum(lengths, 1e-6)).ravel(), bits)
    codec = ResidualCodec(bits, centroids, rotation, stds, levels, np.zeros((2, 2), dtype=np.float32))
    return codec.with_factor_ranges_of(rotated, centroid_ids)


def lloyd_levels(values: np.ndarray, bits: int, *, rounds: int = 30, max_values: int = 2**18) -> np.ndarray:
    """Returns the reconstruction levels with the least squared error: float32 ``(2**bits,)``, ascending.

    Source: Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).

    Args:
        values: a sample of the distribution, evenly thinned to ``max_values``.
        bits: 1 to 8.
        rounds: iterations of Lloyd's algorithm.
        max_values: maximum number of values to use.
    """
    count = 2**bits
    if not len(values) or values.min() == values.max():
        return np.linspace(-1, 1, count).astype(np.float32)
    ordered = np.sort(values[:: max(1, len(values) // max_values)].astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    levels = np.quantile(ordered, (np.arange(count) + 0.5) / count)
    for _ in range(rounds):
        edges = np.concatenate([[0], np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2), [len(ordered)]])
        counts = np.diff(edges)
        means = (sums[edges[1:]] - sums[edges[:-1]]) / np.maximum(counts, 1)
        levels = np.sort(np.where(counts > 0, means, levels))
    rounded: np.ndarray = levels.astype(np.float32)
    return rounded


def random_rotation(dim: int, seed: int) -> np.ndarray:
    """Draws a random orthogonal matrix: float32 ``(dim, dim)``."""
    square = np.random.default_rng(seed).standard_normal((dim, dim))
    orthogonal, upper = np.linalg.qr(square)
    return (orthogonal * np.sign(np.diag(upper))).astype(np.float32)


def _norm_factors(lengths: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Returns the factors that scale centroid + length * residual to norm 1."""
    _, _, cc, cr, rr = products.astype(np.float64).T
    squares = cc + 2 * lengths * cr + lengths**2 * rr
    inverse: np.ndarray = 1 / np.sqrt(np.maximum(squares, 1e-12))
    return inverse


def _factor_range(factors: np.ndarray) -> np.ndarray:
    """Returns the logarithms of the smallest and the greatest factor, without outliers and with a margin."""
    if not len(factors):
        return np.array([-1, 1], dtype=np.float32)
    low, high = np.log(np.quantile(factors, [0.0005, 0.9995]))
    margin = max(0.25 * (high - low), 0.05)  # for vectors beyond the sample
    return np.array([low - margin, high + margin], dtype=np.float32)


def _to_codes(factors: np.ndarray, limits: np.ndarray) -> np.ndarray:
    steps = (np.log(factors) - limits[0]) / (limits[1] - limits[0]) * 255
    codes: np.ndarray = np.clip(np.rint(steps), 0, 255).astype(np.uint8)
    return codes


def _to_factors(codes: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Returns the factors of codes: float32 ``(n,)``."""
    table = np.exp(limits[0] + np.arange(256) / 255 * (limits[1] - limits[0])).astype(np.float32)
    factors: np.ndarray = table[codes]
    return factors
