"""Codecs that round each number by itself, float16 and int8; they know nothing of the collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyterrier_jacolbert.index.codec_kernels import quantise_int8, widen
from pyterrier_jacolbert.index.columns import Column

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.centroids import Centroids


@dataclass(frozen=True)
class Float16Codec:
    """Vectors as they are, in float16: 2 bytes a dimension; a score moves by less than 5e-3."""

    dim: int
    compression = "float16"

    @property
    def columns(self) -> dict[str, Column]:
        """``vectors``."""
        return {"vectors": Column("<f2", (self.dim,))}

    def encode(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Rounds."""
        return {"vectors": vectors.astype(np.float16)}

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Widens."""
        return single(columns["vectors"])


@dataclass(frozen=True)
class Int8Codec:
    """A scale a token and 8 bits a dimension: ``dim + 2`` bytes, and 2 for a centroid where the search has two stages.

    The vector is rotated, so that no number is much larger than the others (in real vectors one or two carry most of
    the length, and would waste the bits of the rest), rounded, and scaled to the length that it had. Codes are -127 to
    127, stored as 1 to 255: processors multiply unsigned by signed bytes, and the query's are signed.

    Attributes:
        dim: of the vectors.
        centroids: float16 ``(n_centroids, dim)``, rotated; None where there are none.
    """

    dim: int
    centroids: np.ndarray | None = None
    compression = "int8"

    @property
    def columns(self) -> dict[str, Column]:
        """``codes`` and ``scales``, and ``centroid_ids`` with centroids."""
        found = {"codes": Column("|u1", (self.dim,)), "scales": Column("<f2")}
        return found if self.centroids is None else {**found, "centroid_ids": Column("<u2")}

    @cached_property
    def rotation(self) -> np.ndarray:
        """float32 ``(dim, dim)``, orthogonal; a vector is rotated as ``vector @ rotation``."""
        return cosine_transform(self.dim)

    def encode(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Rotates, rounds and scales."""
        codes = np.empty(vectors.shape, dtype=np.uint8)
        scales = np.empty(len(vectors), dtype=np.float32)
        quantise_int8(np.ascontiguousarray(vectors, dtype=np.float32), self.rotation, codes, scales)
        columns: dict[str, np.ndarray] = {"codes": codes, "scales": scales.astype(np.float16)}
        return columns if self.centroids is None else {**columns, "centroid_ids": self.nearest_centroids(columns)}

    def nearest_centroids(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The nearest centroid of each code: uint16 ``(n,)``."""
        return self._centroids.nearest(self.rotated(columns))

    @cached_property
    def _centroids(self) -> Centroids:
        from pyterrier_jacolbert.index.centroids import Centroids

        assert self.centroids is not None
        return Centroids(self.centroids)

    def rotated(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """What codes stand for, before it is turned back: float32 ``(n, dim)``."""
        return (columns["codes"].astype(np.float32) - 128) * columns["scales"].astype(np.float32)[:, None]

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Multiplies codes and scales, and turns them back."""
        turned: np.ndarray = self.rotated(columns) @ self.rotation.T
        return turned


def cosine_transform(dim: int) -> np.ndarray:
    """A rotation that spreads what stands in few dimensions over all: float32 ``(dim, dim)``, always the same.

    Signs are changed by a fixed draw, and then a discrete cosine transform (DCT-II; Ahmed, Natarajan and Rao,
    IEEE Transactions on Computers, 1974) is taken.
    """
    signs = np.where(np.random.default_rng(0).integers(2, size=dim), 1.0, -1.0)
    waves = np.cos(np.pi * (np.arange(dim)[:, None] + 0.5) * np.arange(dim) / dim) * np.sqrt(2 / dim)
    waves[:, 0] /= np.sqrt(2)
    rotation: np.ndarray = (signs[:, None] * waves).astype(np.float32)
    return rotation


def single(halves: np.ndarray) -> np.ndarray:
    """float16 ``(n, dim)`` in float32."""
    widened = np.empty(halves.shape, dtype=np.float32)
    widen(halves.view(np.uint16).reshape(-1), widened.reshape(-1))
    return widened
