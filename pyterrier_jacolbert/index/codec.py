"""The codec of an index, and what codecs do with many vectors, in threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.columns import Codec
from pyterrier_jacolbert.index.limits import check_compression
from pyterrier_jacolbert.index.residual_codec import BITS, ResidualCodec
from pyterrier_jacolbert.index.scalar_codecs import Float16Codec, Int8Codec, single
from pyterrier_jacolbert.index.threads import by_rows


def codec_of(compression: str, dim: int, parameters: Mapping[str, np.ndarray]) -> Codec:
    """The codec of an index.

    Raises:
        ValueError: the compression is not one of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`.
    """
    if compression == "float16":
        return Float16Codec(dim)
    if compression == "int8":
        return Int8Codec(dim, parameters.get("centroids"))
    check_compression(compression)
    values: dict[str, Any] = dict(parameters)
    return ResidualCodec(BITS[compression], **values)


def encode_in_threads(codec: Codec, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of many unit vectors, float16 ``(n, dim)``, as :meth:`Codec.encode` makes them."""
    codec.encode(single(vectors[:0]))  # what is made once is made before threads ask for it
    parts = by_rows(lambda piece: codec.encode(single(vectors[piece])), len(vectors))
    return {name: np.concatenate([part[name] for part in parts]) for name in codec.columns}


def nearest_in_threads(codec: Int8Codec, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The nearest centroid of each of many codes, as :meth:`Int8Codec.nearest_centroids` finds them."""

    def nearest(piece: slice) -> np.ndarray:
        return codec.nearest_centroids({name: column[piece] for name, column in columns.items()})

    nearest(slice(0))  # what is made once is made before threads ask for it
    return np.concatenate(by_rows(nearest, len(columns["codes"])))
