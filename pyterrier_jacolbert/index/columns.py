"""Token vectors in fewer bytes: what a codec stores of a token, and what every codec does.

A codec turns unit vectors into columns, arrays with a row a token, and columns back into vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Column:
    """What a codec stores of each token.

    Attributes:
        dtype: little-endian, as numpy writes it.
        row_shape: the shape of one token's row.
    """

    dtype: str
    row_shape: tuple[int, ...] = ()

    @property
    def row_bytes(self) -> int:
        """Bytes a token."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.row_shape, dtype=int))


class Codec(Protocol):
    """Vectors to columns and back."""

    @property
    def dim(self) -> int:
        """Numbers a vector."""
        ...

    @property
    def compression(self) -> str:
        """One of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`."""
        ...

    @property
    def columns(self) -> dict[str, Column]:
        """What is stored of each token, by name."""
        ...

    def encode(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of unit vectors, float32 ``(n, dim)``; each row depends on its vector alone."""
        ...

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Vectors, float32 ``(n, dim)``, of columns."""
        ...
