"""The interface of codecs, which turn unit vectors into columns, arrays with one row per token, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Column:
    """One of the values that a codec stores per token.

    Attributes:
        dtype: little-endian, as numpy writes it.
        row_shape: shape of the row of one token.
    """

    dtype: str
    row_shape: tuple[int, ...] = ()

    @property
    def row_bytes(self) -> int:
        """Bytes per token."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.row_shape, dtype=int))


class Codec(Protocol):
    """Compresses token vectors."""

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        ...

    @property
    def compression(self) -> str:
        """One of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`."""
        ...

    @property
    def columns(self) -> dict[str, Column]:
        """Stored columns by name."""
        ...

    def encode(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Compresses unit vectors, float32 ``(n, dim)``, to columns; each row depends only on its vector."""
        ...

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Decompresses columns to vectors, float32 ``(n, dim)``."""
        ...
