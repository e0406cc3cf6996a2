"""Clusters of token vectors: centroids of a sample, and the nearest centroid of each vector."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Up to so many centroids are all compared with a vector, of more those in its nearest groups.
_FLAT = 2048
_GROUPS = 8
#: Vectors a matrix product, of all centroids and of groups.
_BLOCK = 4096
_GROUPED_BLOCK = 65_536
MOST_CENTROIDS = 65_536
#: Up to so many centroids k-means is done in one step.
_AT_ONCE = 1024
_ITERATIONS = 4


def cluster(vectors: np.ndarray, n_centroids: int, seed: int = 0) -> np.ndarray:
    """k-means by faiss; where there are many centroids, of groups that k-means made before.

    With 16,384 centroids the two steps take a hundredth of the products of one, and lose next to nothing
    (benchmarks/RESULTS.md). One thread works, so that the result depends on no thread count.

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
    groups = nearest(vectors, _kmeans(vectors, int(np.sqrt(n_centroids)), seed))
    sizes = np.bincount(groups)
    order, ends = np.argsort(groups, kind="stable"), np.cumsum(sizes)
    members = [vectors[order[end - size : end]] for size, end in zip(sizes, ends, strict=True)]
    shares = _shares(sizes, n_centroids)
    parts = [_kmeans(part, share, seed) for part, share in zip(members, shares, strict=True) if share]
    return np.concatenate(parts)


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
            labels, _ = self._middles.nearest(_bfloat16(self.rows))
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
        size = _GROUPED_BLOCK if self._groups else _BLOCK
        for first in range(0, len(vectors), size):
            block = _bfloat16(vectors[first : first + size])
            out[first : first + size] = self._in_groups(block) if self._groups else self._all.nearest(block)[0]
        return out

    def _in_groups(self, block: Any) -> np.ndarray:  # noqa: ANN401 (a tensor)
        import torch

        chosen = self._middles.scores(block).topk(min(_GROUPS, len(self._groups)), dim=1).indices
        groups = chosen.numpy().astype(np.uint16).ravel()
        order = np.argsort(groups, kind="stable")
        bounds = np.searchsorted(groups[order], np.arange(len(self._groups) + 1))
        owners = order // chosen.shape[1]
        best = np.full(len(block), -np.inf, dtype=np.float32)
        ids = np.full(len(block), MOST_CENTROIDS, dtype=np.int64)
        for number, group in enumerate(self._groups):
            rows = owners[bounds[number] : bounds[number + 1]]
            if len(rows) and len(group.numbers):
                found, scores = group.nearest(block[torch.from_numpy(rows)])
                better = (scores > best[rows]) | ((scores == best[rows]) & (found < ids[rows]))
                best[rows[better]], ids[rows[better]] = scores[better], found[better]
        return ids.astype(np.uint16)


class _Flat:
    """Some centroids, all of which are compared with a vector.

    ``|v - c|^2`` is least where ``v.c - |c|^2 / 2`` is greatest.

    Args:
        rows: float32 ``(k, dim)``.
        numbers: int64 ``(m,)``, ascending: which of the rows.
    """

    def __init__(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        self.numbers = numbers
        chosen = rows[numbers]
        self._columns = _bfloat16(chosen).T.contiguous()
        self._bias = -0.5 * np.einsum("ij,ij->i", chosen, chosen, dtype=np.float32)

    def scores(self, block: Any) -> Any:  # noqa: ANN401 (tensors)
        """What is greatest for the nearest: float32 ``(n, m)``."""
        import torch

        return (block @ self._columns).float() + torch.from_numpy(self._bias)

    def nearest(self, block: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401 (a tensor)
        """The nearest one's number, and its score: int64 and float32 ``(n,)``."""
        import torch

        from pyterrier_jacolbert.index.codec_kernels import argmax_rows

        places, scores = np.empty(len(block), dtype=np.uint16), np.empty(len(block), dtype=np.float32)
        argmax_rows((block @ self._columns).view(torch.int16).numpy(), self._bias, places, scores)
        return self.numbers[places], scores


def _bfloat16(rows: np.ndarray) -> Any:  # noqa: ANN401 (a tensor)
    import torch

    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)).to(torch.bfloat16)
