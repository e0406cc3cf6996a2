"""k-means clustering of token vectors, and the nearest centroid of each vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.kernels.query_layout import WIDTH
from pyterrier_jacolbert.index.limits import MAX_CENTROIDS
from pyterrier_jacolbert.index.processors import native_bfloat16
from pyterrier_jacolbert.index.threads import by_rows, in_threads

#: Up to this number of centroids, a vector is compared with all of them; beyond, with those of its nearest groups.
_MAX_FLAT_CENTROIDS = 2048
#: Nearest groups that a vector is compared with.
_NEAREST_GROUPS = 8
#: Vectors that are sorted by group at once, and rows of a matrix product.
_SORTED_ROWS = 2**16
_PRODUCT_ROWS = 512
#: Up to this number of centroids, k-means runs in one step.
_MAX_ONE_STEP_CENTROIDS = 1024
_ITERATIONS = 4
_MAX_VALUE = 1e12
#: Vectors that the groups are clustered from.
_GROUPING_ROWS = 2**16


def cluster(vectors: np.ndarray, n_centroids: int, seed: int = 0) -> np.ndarray:
    """Clusters vectors by faiss's k-means; for many centroids, first into groups and then within each group.

    With 16,384 centroids, two steps take a hundredth of the products of one and lose next to nothing
    (benchmarks/RESULTS.md). Each group is the work of one thread, so the result does not depend on the thread count.

    Args:
        vectors: float32 ``(n, dim)``; may be empty, may all be equal.
        n_centroids: maximum number of centroids.
        seed: of the initial centroids.

    Returns:
        float32 ``(k, dim)``, ``1 <= k <= n_centroids``; the distinct vectors if there are no more of them.

    Raises:
        ValueError: ``n_centroids`` is out of range, or a vector is not finite or far from a unit vector.
    """
    if not 1 <= n_centroids <= MAX_CENTROIDS:
        raise ValueError(f"n_centroids must lie between 1 and {MAX_CENTROIDS}, not {n_centroids}.")
    if not len(vectors):
        return np.zeros((1, vectors.shape[1]), dtype=np.float32)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    # Also bounds the squares and sums that faiss computes.
    if not (vectors.min() > -_MAX_VALUE and vectors.max() < _MAX_VALUE):
        raise ValueError(
            f"Vectors to cluster hold NaN or numbers beyond {_MAX_VALUE:.0e}, so the index that they come from is "
            "damaged; build or fetch it again."
        )
    if n_centroids <= _MAX_ONE_STEP_CENTROIDS or len(vectors) <= n_centroids:
        return _kmeans(vectors, n_centroids, seed)
    group_centroids = Centroids(
        _kmeans(vectors[:: max(1, len(vectors) // _GROUPING_ROWS)], int(np.sqrt(n_centroids)), seed)
    )
    groups = np.concatenate(by_rows(lambda rows: group_centroids.nearest(vectors[rows]), len(vectors)))
    sizes = np.bincount(groups)
    order, ends = np.argsort(groups, kind="stable"), np.cumsum(sizes)
    counts = _centroids_per_group(sizes, n_centroids)

    def cluster_group(group: int) -> np.ndarray:
        return _kmeans(vectors[order[ends[group] - sizes[group] : ends[group]]], int(counts[group]), seed)

    return np.concatenate(list(in_threads(cluster_group, np.flatnonzero(counts).tolist())))


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


def _centroids_per_group(sizes: np.ndarray, count: int) -> np.ndarray:
    """Distributes centroids over groups in proportion to their sizes: int64, at least 1 per non-empty group."""
    shares = np.maximum(sizes * (count - np.count_nonzero(sizes)) // sizes.sum(), 0) + (sizes > 0)
    counts: np.ndarray = np.minimum(shares, sizes)
    return counts


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Finds the nearest centroid of each vector; :class:`Centroids` does so repeatedly."""
    return Centroids(centroids).nearest(vectors)


class Centroids:
    """Centroids, searched for the nearest one of each vector.

    Products are in bfloat16, whose rounding may choose the other of two centroids at about the same distance. A vector
    is compared with many centroids only if they are in its nearest groups: k-means groups the centroids themselves, and
    the nearest centroid is nearly always in one of the eight nearest groups (benchmarks/RESULTS.md).

    Args:
        rows: float32 ``(k, dim)``.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = np.ascontiguousarray(rows, dtype=np.float32)
        self._groups: list[_FlatCentroids] = []
        if len(rows) > _MAX_FLAT_CENTROIDS:
            group_centroids = _kmeans(self.rows, int(np.sqrt(len(rows))), 0)
            self._group_centroids = _FlatCentroids(group_centroids, np.arange(len(group_centroids)))
            labels, _ = self._group_centroids.nearest(_bfloat16(self.rows), np.arange(len(rows)))
            self._groups = [
                _FlatCentroids(self.rows, np.flatnonzero(labels == group)) for group in range(len(group_centroids))
            ]
        else:
            self._all = _FlatCentroids(self.rows, np.arange(len(rows)))

    def nearest(self, vectors: np.ndarray) -> np.ndarray:
        """Finds the nearest centroid of each vector; ties go to the lower id.

        The result for a vector does not depend on the others.

        Args:
            vectors: float32 ``(n, dim)``.

        Returns:
            uint16 ``(n,)``.
        """
        out = np.empty(len(vectors), dtype=np.uint16)
        for first in range(0, len(vectors), _SORTED_ROWS):
            block = _bfloat16(vectors[first : first + _SORTED_ROWS])
            rows = np.arange(len(block))
            found = self._nearest_in_groups(block) if self._groups else self._all.nearest(block, rows)[0]
            out[first : first + _SORTED_ROWS] = found
        return out

    def _nearest_in_groups(self, block: Any) -> np.ndarray:
        groups = self._group_centroids.best(block, min(_NEAREST_GROUPS, len(self._groups)))
        order = np.argsort(groups.ravel(), kind="stable")
        bounds = np.searchsorted(groups.ravel()[order], np.arange(len(self._groups) + 1))
        vector_rows = order // groups.shape[1]
        best = np.full(len(block), -np.inf, dtype=np.float32)
        ids = np.full(len(block), MAX_CENTROIDS, dtype=np.int64)
        for number, group in enumerate(self._groups):
            rows = vector_rows[bounds[number] : bounds[number + 1]]
            if len(rows) and len(group.numbers):
                found, scores = group.nearest(block, rows)
                better = (scores > best[rows]) | ((scores == best[rows]) & (found < ids[rows]))
                best[rows[better]], ids[rows[better]] = scores[better], found[better]
        return ids.astype(np.uint16)


class _FlatCentroids:
    """Centroids that are all compared with a vector.

    ``|v - c|^2`` is least where ``v.c - |c|^2 / 2`` is greatest. Every product has the same number of rows, the last
    row repeated, and a multiple of 32 columns: the result for a vector then does not depend on the others, and the
    matrix library prepares and caches code for one shape only.

    Args:
        rows: float32 ``(k, dim)``, all centroids.
        numbers: int64 ``(m,)``, ascending: ids of the centroids to compare.
    """

    def __init__(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        self.numbers = numbers
        count = -(-max(1, len(numbers)) // WIDTH) * WIDTH
        chosen = np.zeros((count, rows.shape[1]), dtype=np.float32)
        chosen[: len(numbers)] = rows[numbers]
        self._columns = _bfloat16(chosen)
        is_native = native_bfloat16(self._columns.device)
        #: Where torch would emulate products of bfloat16, which takes tens of times as long.
        self._float_columns = None if is_native else np.ascontiguousarray(self._columns.float().numpy().T)
        self._bias = np.full(count, -np.inf, dtype=np.float32)
        self._bias[: len(numbers)] = -0.5 * np.einsum("ij,ij->i", chosen, chosen, dtype=np.float32)[: len(numbers)]

    def nearest(self, block: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the nearest centroid of each row and its score: int64 and float32 ``(n,)``."""
        from pyterrier_jacolbert.index.codecs.kernels import argmax_rows

        positions, scores = np.empty(_PRODUCT_ROWS, dtype=np.uint16), np.empty(_PRODUCT_ROWS, dtype=np.float32)
        found, reached = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.float32)
        for first, products in self._products(block, rows):
            argmax_rows(products, self._bias, positions, scores)
            part = slice(first, min(first + _PRODUCT_ROWS, len(rows)))
            found[part] = self.numbers[positions[: part.stop - first]]
            reached[part] = scores[: part.stop - first]
        return found, reached

    def best(self, block: Any, count: int) -> np.ndarray:
        """Returns the positions of the nearest centroids of each row, unordered: uint16 ``(n, count)``."""
        import torch

        found = np.empty((len(block), count), dtype=np.uint16)
        bias = torch.from_numpy(self._bias)
        for first, products in self._products(block, np.arange(len(block))):
            scores = torch.from_numpy(products).view(torch.bfloat16).float() + bias
            part = slice(first, min(first + _PRODUCT_ROWS, len(block)))
            found[part] = scores.topk(count, dim=1, sorted=False).indices.numpy()[: part.stop - first]
        return found

    def _products(self, block: Any, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yields products of rows and all centroids: the number of the first row, and bfloat16 bits as int16."""
        import torch

        from pyterrier_jacolbert.index.kernels.products import matrix_product

        for first in range(0, len(rows), _PRODUCT_ROWS):
            chosen = np.full(_PRODUCT_ROWS, rows[-1])
            chosen[: len(rows) - first] = rows[first : first + _PRODUCT_ROWS]
            part = block[torch.from_numpy(chosen)]
            if self._float_columns is None:
                product = part @ self._columns.T
            else:  # the same up to the last bit
                product = torch.from_numpy(matrix_product(part.float().numpy(), self._float_columns)).bfloat16()
            yield first, product.view(torch.int16).numpy()


def _bfloat16(rows: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)).to(torch.bfloat16)
