"""Chooses the codec of a collection and trains it on a sample of the token vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pyterrier_jacolbert.index.codecs.kmeans import cluster
from pyterrier_jacolbert.index.codecs.registry import evenly_spaced, mean_squared_error
from pyterrier_jacolbert.index.codecs.residual import random_rotation, train_on_rotated
from pyterrier_jacolbert.index.storage.layout import BITS
from pyterrier_jacolbert.index.storage.manifest import Training

#: ``compression="auto"`` is int8 up to this number of tokens: 2.6 GB at 128 dimensions.
AUTO_INT8_TOKENS = 20_000_000
#: From this number of tokens on, int8 has centroids and a two-stage search; below, every document gets a full score.
INT8_CENTROIDS_TOKENS = 500_000
#: Up to this number of tokens, each append trains a residual codec again, on all of them.
RETRAINED_TOKENS = 2**14
#: Up to this number of tokens, an index with a residual codec keeps the vectors that it compresses: 67 MB at 128
#: dimensions.
KEPT_TOKENS = 2**18
#: A codec is trained again once the collection has this many times the tokens that it was trained on ...
_MAX_GROWTH = 2
#: ... or once appended vectors have raised the mean squared error by this factor, and beyond the rounding of float16.
_MAX_ERROR, _LEAST_ERROR = 1.1**2, 1e-5
#: Rows that are rotated at once.
ROTATED_ROWS = 2**16


@dataclass(frozen=True)
class CodecSettings:
    """Settings that, with the token vectors, decide the parameters of a codec.

    Attributes:
        compression: one of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`, or ``"auto"``.
        n_centroids: number of centroids; None takes 16 times the square root of the number of tokens, rounded down to a
            power of two.
        sample_tokens: maximum number of token vectors to train on; memory holds them twice in float32.
        seed: of the sample, the rotation and the clustering.
    """

    compression: str = "auto"
    n_centroids: int | None = None
    sample_tokens: int = 2**19
    seed: int = 0


@dataclass(frozen=True)
class TrainedCodec:
    """The codec of a whole collection.

    Attributes:
        compression: one of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`.
        parameters: of the codec by name; empty if it needs none.
        training: what it was trained on; None if it is not known, or nothing is trained.
    """

    compression: str
    parameters: Mapping[str, np.ndarray]
    training: Training | None = None


class TrainingSource(Protocol):
    """Token vectors of a collection, or of a part of one, to train a codec on."""

    @property
    def dim(self) -> int | None:
        """Dimensions of a vector; None without documents."""
        ...

    @property
    def tokens(self) -> int:
        """Number of token vectors."""
        ...

    def training_rows(self, rows: np.ndarray | slice, compression: str) -> np.ndarray:
        """Returns token vectors to train a compression on: float32 ``(n, dim)``, rotated for int8."""
        ...


def train_codec(parts: Sequence[TrainingSource], settings: CodecSettings) -> TrainedCodec:
    """Chooses and trains the codec of a collection.

    Args:
        parts: token vectors of the collection, in the order of the documents.
        settings: of the codec.

    Raises:
        ValueError: the parts have vectors of different dimensions.
    """
    from pyterrier_jacolbert.index.kernels.products import matrix_product

    dims = sorted({part.dim for part in parts if part.dim is not None})
    if len(dims) > 1:
        raise ValueError(
            f"The shards hold vectors of {dims[0]} and {dims[1]} dimensions; encode all with one checkpoint."
        )
    tokens = sum(part.tokens for part in parts)
    compression = settings.compression
    if compression == "auto":
        compression = auto_compression(tokens)
    if compression == "float16":
        return TrainedCodec(compression, {})
    untrained = Training(tokens, 0, 0.0, 0.0, settings.n_centroids, settings.sample_tokens, settings.seed)
    if compression == "int8" and tokens < INT8_CENTROIDS_TOKENS:
        return TrainedCodec(compression, {}, untrained)
    chosen = _sample_rows(tokens, settings.sample_tokens, settings.seed)
    sample = _take(parts, chosen, compression)
    count = settings.n_centroids or default_n_centroids(tokens)
    training = replace(untrained, sample=len(sample))
    if compression == "int8":
        centroids = cluster(sample, count, settings.seed).astype(np.float16)
        return TrainedCodec(compression, {"centroids": centroids}, training)
    # Not those of the sample, which the codec fits better than the others.
    measured = _take(parts, evenly_spaced(np.arange(tokens)), compression).astype(np.float16)
    rotation = random_rotation(sample.shape[1], settings.seed)
    for first in range(0, len(sample), ROTATED_ROWS):  # in place, so that memory holds the sample once
        sample[first : first + ROTATED_ROWS] = matrix_product(sample[first : first + ROTATED_ROWS], rotation)
    codec = train_on_rotated(sample, rotation, compression, count, settings.seed)
    error = mean_squared_error(codec, measured)
    return TrainedCodec(compression, codec.parameters(), replace(training, error=error, error_now=error))


def keeps_vectors(compression: str, tokens: int) -> bool:
    """Returns whether an index of so many tokens keeps the vectors that it compresses."""
    return compression in BITS and tokens <= KEPT_TOKENS


def has_outgrown(training: Training, compression: str, tokens: int, error_now: float, *, kept: bool) -> bool:
    """Returns whether a collection has outgrown what its codec was trained on, so that it is to be trained again.

    Args:
        training: of the codec.
        compression: of the index.
        tokens: number of token vectors of the collection now.
        error_now: mean squared distance between a vector and its code now.
        kept: whether the vectors are kept, so that training again loses nothing.
    """
    more_centroids = training.n_centroids is None and default_n_centroids(tokens) > default_n_centroids(training.tokens)
    if compression == "int8":
        return tokens >= INT8_CENTROIDS_TOKENS and (more_centroids or not training.sample)
    if kept and (tokens <= RETRAINED_TOKENS or more_centroids or tokens >= _MAX_GROWTH * training.tokens):
        return True
    return error_now > max(_MAX_ERROR * training.error, _LEAST_ERROR)


def auto_compression(tokens: int) -> str:
    """Returns the compression that ``"auto"`` stands for in a collection of a number of tokens."""
    return "int8" if tokens <= AUTO_INT8_TOKENS else "4bit"


def default_n_centroids(tokens: int) -> int:
    """Returns 16 times the square root of the number of tokens, rounded down to a power of two, at most 65,536.

    Source: Santhanam et al., "PLAID", arXiv 2205.09707, and ColBERT's ``collection_indexer.py``.
    """
    return int(2 ** min(16, np.floor(np.log2(max(1.0, 16 * np.sqrt(tokens))))))


def _sample_rows(n: int, count: int, seed: int) -> np.ndarray | slice:
    """Draws ``count`` of ``n`` row numbers, ascending; selects all rows if there are no more."""
    if n <= count:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))


def _take(parts: Sequence[TrainingSource], chosen: np.ndarray | slice, compression: str) -> np.ndarray:
    """Returns the chosen token vectors of a collection; see :meth:`TrainingSource.training_rows`."""
    ends = np.cumsum([part.tokens for part in parts])
    samples = (
        part.training_rows(_within(chosen, int(end) - part.tokens, int(end)), compression)
        for part, end in zip(parts, ends, strict=True)
    )
    return next(samples) if len(parts) == 1 else np.concatenate(list(samples))


def _within(chosen: np.ndarray | slice, first: int, end: int) -> np.ndarray | slice:
    """Returns the chosen rows from ``first`` to ``end``, numbered from ``first``."""
    if isinstance(chosen, slice):
        return chosen
    low, high = np.searchsorted(chosen, [first, end])
    return chosen[low:high] - first
