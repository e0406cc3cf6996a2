"""Clusters of token vectors: centroids of a sample, and the nearest centroid of each vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.panels import WIDTH
from pyterrier_jacolbert.index.threads import by_rows, in_threads

#: Up to so many centroids are all compared with a vector, of more those in its nearest groups.
_FLAT = 2048
_GROUPS = 8
#: Vectors that are sorted by their groups together, and those of a matrix product.
_BLOCK = 2**16
_TOGETHER = 512
MOST_CENTROIDS = 65_536
#: Up to so many centroids k-means is done in one step.
_AT_ONCE = 1024
_ITERATIONS = 4
#: Vectors of which groups are made.
_GROUPED = 2**16


def cluster(vectors: np.ndarray, n_centroids: int, seed: int = 0) -> np.ndarray:
    """k-means by faiss; where there are many centroids, of groups that k-means made before.

    With 16,384 centroids the two steps take a hundredth of the products of one, and lose next to nothing
    (benchmarks/RESULTS.md). One thread works on a group, so that the result depends on no thread count.

    Args:
        vectors: float32 ``(n, dim)``; any number, also none, also all alike.
        n_centroids: at most so many.
        seed: of the first centroids.

    Returns:
        float32 ``(k, dim)`` with ``1 <= k <= n_centroids``; every vector is a centroid where there are no more vectors.
    """
    if not 1 <= n_centroids <= MOST_CENTROIDS:
        raise ValueError(f"n_centroids must lie between 1 and {MOST_CENTROIDS}, not {n_centroids}.")
    if not len(vectors):
        return np.zeros((1, vectors.shape[1]), dtype=np.float32)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if n_centroids <= _AT_ONCE or len(vectors) <= n_centroids:
        return _kmeans(vectors, n_centroids, seed)
    middles = Centroids(_kmeans(vectors[:: max(1, len(vectors) // _GROUPED)], int(np.sqrt(n_centroids)), seed))
    groups = np.concatenate(by_rows(lambda piece: middles.nearest(vectors[piece]), len(vectors)))
    sizes = np.bincount(groups)
    order, ends = np.argsort(groups, kind="stable"), np.cumsum(sizes)
    shares = _shares(sizes, n_centroids)

    def parted(group: int) -> np.ndarray:
        return _kmeans(vectors[order[ends[group] - sizes[group] : ends[group]]], int(shares[group]), seed)

    return np.concatenate(list(in_threads(parted, np.flatnonzero(shares).tolist())))


def _kmeans(vectors: np.ndarray, n_centroids: int, seed: int) -> np.ndarray:
    if len(vectors) <= n_centroids:
        return np.unique(vectors, axis=0)
    import faiss

    settings = {
        "niter": _ITERATIONS,
        "seed": seed + 1,
        "max_points_per_centroid": 2**31 - 1,
        "min_points_per_centroid": 1,
    }
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        kmeans = faiss.Kmeans(vectors.shape[1], n_centroids, **settings)
        kmeans.train(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    return np.array(kmeans.centroids)


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Divides a number by sizes, with at least one for each that is not 0: int64, with the sum ``count`` or less."""
    shares = np.maximum(sizes * (count - np.count_nonzero(sizes)) // sizes.sum(), 0) + (sizes > 0)
    least: np.ndarray = np.minimum(shares, sizes)
    return least


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each vector; see :class:`Centroids`, which serves when there are vectors again."""
    return Centroids(centroids).nearest(vectors)


class Centroids:
    """Centroids, and which of them is nearest to a vector.

    Products are in bfloat16, where the processor has them: their rounding may choose another of two that are about
    equally near. Of many centroids only those in the vector's nearest groups are compared: their groups are made by
    k-means among the centroids themselves, and the nearest of all is nearly always in one of the first eight
    (benchmarks/RESULTS.md).

    Args:
        rows: float32 ``(k, dim)``.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = np.ascontiguousarray(rows, dtype=np.float32)
        self._groups: list[_Flat] = []
        if len(rows) > _FLAT:
            middles = _kmeans(self.rows, int(np.sqrt(len(rows))), 0)
            self._middles = _Flat(middles, np.arange(len(middles)))
            labels, _ = self._middles.nearest(_bfloat16(self.rows), np.arange(len(rows)))
            self._groups = [_Flat(self.rows, np.flatnonzero(labels == group)) for group in range(len(middles))]
        else:
            self._all = _Flat(self.rows, np.arange(len(rows)))

    def nearest(self, vectors: np.ndarray) -> np.ndarray:
        """The number of each vector's nearest centroid; ties go to the lower one.

        The result for a vector does not depend on the others.

        Args:
            vectors: float32 ``(n, dim)``.

        Returns:
            uint16 ``(n,)``.
        """
        out = np.empty(len(vectors), dtype=np.uint16)
        for first in range(0, len(vectors), _BLOCK):
            block = _bfloat16(vectors[first : first + _BLOCK])
            rows = np.arange(len(block))
            found = self._in_groups(block) if self._groups else self._all.nearest(block, rows)[0]
            out[first : first + _BLOCK] = found
        return out

    def _in_groups(self, block: Any) -> np.ndarray:  # noqa: ANN401 (a tensor)
        groups = self._middles.best(block, min(_GROUPS, len(self._groups)))
        order = np.argsort(groups.ravel(), kind="stable")
        bounds = np.searchsorted(groups.ravel()[order], np.arange(len(self._groups) + 1))
        owners = order // groups.shape[1]
        best = np.full(len(block), -np.inf, dtype=np.float32)
        ids = np.full(len(block), MOST_CENTROIDS, dtype=np.int64)
        for number, group in enumerate(self._groups):
            rows = owners[bounds[number] : bounds[number + 1]]
            if len(rows) and len(group.numbers):
                found, scores = group.nearest(block, rows)
                better = (scores > best[rows]) | ((scores == best[rows]) & (found < ids[rows]))
                best[rows[better]], ids[rows[better]] = scores[better], found[better]
        return ids.astype(np.uint16)


class _Flat:
    """Some centroids, all of which are compared with a vector.

    ``|v - c|^2`` is least where ``v.c - |c|^2 / 2`` is greatest. Every product has the same rows, the last ones
    repeated, and columns in whole 32s: what comes out for a vector then depends on no other, and the library of the
    products need not prepare, and keep, code for one shape after the other.

    Args:
        rows: float32 ``(k, dim)``.
        numbers: int64 ``(m,)``, ascending: which of the rows.
    """

    def __init__(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        self.numbers = numbers
        count = -(-max(1, len(numbers)) // WIDTH) * WIDTH
        chosen = np.zeros((count, rows.shape[1]), dtype=np.float32)
        chosen[: len(numbers)] = rows[numbers]
        self._columns = _bfloat16(chosen)
        self._bias = np.full(count, -np.inf, dtype=np.float32)
        self._bias[: len(numbers)] = -0.5 * np.einsum("ij,ij->i", chosen, chosen, dtype=np.float32)[: len(numbers)]

    def nearest(self, block: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401 (a tensor)
        """The nearest one's number, and its score, of some rows: int64 and float32 ``(n,)``."""
        from pyterrier_jacolbert.index.codec_kernels import argmax_rows

        places, scores = np.empty(_TOGETHER, dtype=np.uint16), np.empty(_TOGETHER, dtype=np.float32)
        found, reached = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.float32)
        for first, products in self._products(block, rows):
            argmax_rows(products, self._bias, places, scores)
            piece = slice(first, min(first + _TOGETHER, len(rows)))
            found[piece] = self.numbers[places[: piece.stop - first]]
            reached[piece] = scores[: piece.stop - first]
        return found, reached

    def best(self, block: Any, count: int) -> np.ndarray:  # noqa: ANN401 (a tensor)
        """The places of the nearest few of each row, in no order: uint16 ``(n, count)``."""
        import torch

        found = np.empty((len(block), count), dtype=np.uint16)
        bias = torch.from_numpy(self._bias)
        for first, products in self._products(block, np.arange(len(block))):
            scores = torch.from_numpy(products).view(torch.bfloat16).float() + bias
            piece = slice(first, min(first + _TOGETHER, len(block)))
            found[piece] = scores.topk(count, dim=1, sorted=False).indices.numpy()[: piece.stop - first]
        return found

    def _products(self, block: Any, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:  # noqa: ANN401 (a tensor)
        """Products of rows and all columns, some rows together: where they start, and bfloat16 bits in int16."""
        import torch

        for first in range(0, len(rows), _TOGETHER):
            chosen = np.full(_TOGETHER, rows[-1])
            chosen[: len(rows) - first] = rows[first : first + _TOGETHER]
            yield first, (block[torch.from_numpy(chosen)] @ self._columns.T).view(torch.int16).numpy()


def _bfloat16(rows: np.ndarray) -> Any:  # noqa: ANN401 (a tensor)
    import torch

    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)).to(torch.bfloat16)
