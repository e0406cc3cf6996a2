"""The codec of each compression, and multi-threaded compression."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyterrier_jacolbert.index.codecs.base import Codec
from pyterrier_jacolbert.index.codecs.residual import ResidualCodec
from pyterrier_jacolbert.index.codecs.scalar import Float16Codec, Int8Codec, to_float32
from pyterrier_jacolbert.index.limits import COMPRESSIONS, check_choice
from pyterrier_jacolbert.index.storage.layout import BITS
from pyterrier_jacolbert.index.threads import by_rows

#: Vectors that the error of a codec is measured on.
_MEASURED_ROWS = 2**13


def codec_of(compression: str, dim: int, parameters: Mapping[str, np.ndarray]) -> Codec:
    """Returns the codec of a compression.

    Args:
        compression: one of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`.
        dim: dimensions of a vector.
        parameters: of the codec by name; empty if it needs none.

    Raises:
        ValueError: unknown compression.
    """
    if compression == "float16":
        return Float16Codec(dim)
    if compression == "int8":
        return Int8Codec(dim, parameters.get("centroids"))
    check_choice("compression", compression, COMPRESSIONS)
    return ResidualCodec.of_parameters(BITS[compression], parameters)


def encode_in_threads(codec: Codec, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Compresses many unit vectors, float16 ``(n, dim)``; see :meth:`Codec.encode`."""
    codec.encode(to_float32(vectors[:0]))  # creates what is cached before threads ask for it
    parts = by_rows(lambda rows: codec.encode(to_float32(vectors[rows])), len(vectors))
    return {name: np.concatenate([part[name] for part in parts]) for name in codec.columns}


def evenly_spaced(vectors: np.ndarray) -> np.ndarray:
    """Returns evenly spaced rows, enough to measure the error of a codec on."""
    return vectors[:: max(1, -(-len(vectors) // _MEASURED_ROWS))]


def mean_squared_error(codec: Codec, vectors: np.ndarray) -> float:
    """Measures the mean squared distance between vectors and their codes, on evenly spaced vectors.

    Args:
        codec: compresses the vectors.
        vectors: float16 ``(n, dim)``; may be empty.

    Returns:
        Four significant digits, so that the last bits of products, which differ between processors, do not show.
    """
    chosen = np.ascontiguousarray(evenly_spaced(vectors))
    if not len(chosen):
        return 0.0
    differences = codec.decode(encode_in_threads(codec, chosen)) - to_float32(chosen)
    error = np.einsum("ij,ij->i", differences, differences, dtype=np.float64).mean()
    return float(f"{error:.4g}")


def nearest_in_threads(codec: Int8Codec, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Finds the nearest centroid of many codes; see :meth:`Int8Codec.nearest_centroids`."""

    def nearest(rows: slice) -> np.ndarray:
        return codec.nearest_centroids({name: column[rows] for name, column in columns.items()})

    nearest(slice(0))  # creates what is cached before threads ask for it
    return np.concatenate(by_rows(nearest, len(columns["codes"])))
