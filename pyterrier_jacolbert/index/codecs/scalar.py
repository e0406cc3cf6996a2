"""Codecs that round each value on its own, float16 and int8, independently of the collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pyterrier_jacolbert.index.codecs.base import Column
from pyterrier_jacolbert.index.codecs.kmeans import Centroids
from pyterrier_jacolbert.index.kernels.query_layout import ZERO_POINT
from pyterrier_jacolbert.index.threads import cached_attribute

#: Bits of infinity in float16.
_INFINITY_BITS = 0x7C00


@dataclass(frozen=True)
class Float16Codec:
    """Float16 vectors: 2 bytes per dimension; scores change by less than 5e-3."""

    dim: int
    compression = "float16"

    @property
    def columns(self) -> dict[str, Column]:
        """``vectors``."""
        return {"vectors": Column("<f2", (self.dim,))}

    def encode(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Rounds vectors to float16."""
        return {"vectors": vectors.astype(np.float16)}

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Converts vectors to float32."""
        return to_float32(columns["vectors"])


@dataclass(frozen=True)
class Int8Codec:
    """8 bits per dimension and a scale: ``dim + 2`` bytes per token, and 2 for a centroid id in a two-stage index.

    A vector is rotated, so that no dimension dominates (in real vectors one or two carry most of the norm and would
    waste the bits of the rest), rounded, and scaled to its original norm. Codes are -127 to 127, stored as 1 to 255:
    processors multiply unsigned by signed bytes, and the query's are signed.

    Attributes:
        dim: dimensions of a vector.
        centroids: float16 ``(n_centroids, dim)``, rotated; None without centroids.
    """

    dim: int
    centroids: np.ndarray | None = None
    compression = "int8"

    @property
    def columns(self) -> dict[str, Column]:
        """``codes`` and ``scales``, and ``centroid_ids`` if there are centroids."""
        columns = {"codes": Column("|u1", (self.dim,)), "scales": Column("<f2")}
        return columns if self.centroids is None else {**columns, "centroid_ids": Column("<u2")}

    @cached_attribute
    def rotation(self) -> np.ndarray:
        """float32 ``(dim, dim)``, orthogonal; a vector is rotated as ``vector @ rotation``."""
        return cosine_transform(self.dim)

    def encode(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Rotates, rounds and scales vectors."""
        from pyterrier_jacolbert.index.codecs.kernels import quantize_int8

        codes = np.empty(vectors.shape, dtype=np.uint8)
        scales = np.empty(len(vectors), dtype=np.float32)
        quantize_int8(np.ascontiguousarray(vectors, dtype=np.float32), self.rotation, codes, scales)
        columns: dict[str, np.ndarray] = {"codes": codes, "scales": scales.astype(np.float16)}
        return columns if self.centroids is None else {**columns, "centroid_ids": self.nearest_centroids(columns)}

    def nearest_centroids(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Finds the nearest centroid of each code: uint16 ``(n,)``."""
        return self._nearest.nearest(self.rotated(columns))

    def rotated(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns decompressed vectors before the inverse rotation: float32 ``(n, dim)``."""
        return (columns["codes"].astype(np.float32) - ZERO_POINT) * columns["scales"].astype(np.float32)[:, None]

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Multiplies codes by scales and inverts the rotation."""
        from pyterrier_jacolbert.index.kernels.products import matrix_product

        return matrix_product(self.rotated(columns), self.rotation.T)

    @cached_attribute
    def _nearest(self) -> Centroids:
        assert self.centroids is not None
        return Centroids(self.centroids)


def check_scales(scales: np.ndarray) -> None:
    """Checks that scales, float16 ``(n,)``, are finite and not negative.

    Raises:
        ValueError: one is not, so the index is damaged.
    """
    # The bits of such numbers, as integers, are those below infinity's.
    if len(scales) and scales.view(np.uint16).max() >= _INFINITY_BITS:
        raise ValueError("A scale is not a finite number, so the index is damaged; build or fetch it again.")


def cosine_transform(dim: int) -> np.ndarray:
    """Returns a fixed rotation that spreads the norm of a vector over all dimensions: float32 ``(dim, dim)``.

    A fixed draw of signs is followed by a discrete cosine transform (DCT-II; Ahmed, Natarajan and Rao, IEEE
    Transactions on Computers, 1974).
    """
    signs = np.where(np.random.default_rng(0).integers(2, size=dim), 1.0, -1.0)
    waves = np.cos(np.pi * (np.arange(dim)[:, None] + 0.5) * np.arange(dim) / dim) * np.sqrt(2 / dim)
    waves[:, 0] /= np.sqrt(2)
    rotation: np.ndarray = (signs[:, None] * waves).astype(np.float32)
    return rotation


def to_float32(halves: np.ndarray) -> np.ndarray:
    """Converts float16 ``(n, dim)`` to float32."""
    from pyterrier_jacolbert.index.codecs.kernels import float16_to_float32

    converted = np.empty(halves.shape, dtype=np.float32)
    float16_to_float32(halves.view(np.uint16).reshape(-1), converted.reshape(-1))
    return converted
