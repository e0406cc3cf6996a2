"""Clusters of token vectors: centroids of a sample, and the nearest centroid of each vector."""

from __future__ import annotations

import numpy as np

#: Vectors a matrix product; with 16,384 centroids in bfloat16 its result is 128 MiB.
_BLOCK = 4096
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
    return np.minimum(shares, sizes)


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each vector, by bfloat16 products where the processor has them.

    Their rounding may choose another of two centroids that are about equally near. A tie goes to the lower number. The
    result for a vector does not depend on the others.

    Args:
        vectors: float32 ``(n, dim)``.
        centroids: float32 ``(k, dim)``.

    Returns:
        uint16 ``(n,)``.
    """
    import torch

    from pyterrier_jacolbert.index.codec_kernels import argmax_rows

    # |v - c|^2 is least where v.c - |c|^2 / 2 is greatest.
    columns = torch.from_numpy(np.ascontiguousarray(centroids.T, dtype=np.float32))
    bias = torch.from_numpy(-0.5 * np.einsum("ij,ij->i", centroids, centroids, dtype=np.float32))
    out = np.empty(len(vectors), dtype=np.uint16)
    columns16 = columns.to(torch.bfloat16)
    for first in range(0, len(vectors), _BLOCK):
        block = torch.from_numpy(vectors[first : first + _BLOCK]).to(torch.bfloat16)
        products = block @ columns16
        argmax_rows(products.view(torch.int16).numpy(), bias.numpy(), out[first : first + _BLOCK])
    return out
