"""Pseudo-relevance feedback: the rare clusters of the token vectors of feedback documents.

ColBERT-PRF (Wang, Macdonald, Tonellotto and Ounis, ICTIR 2021, arXiv 2106.11251) weights a cluster of feedback vectors
by the IDF of its nearest token. An index here stores no token ids, so centroids take their place: a cluster gets the
IDF of its nearest centroid, which counts the documents with a token there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyterrier_jacolbert.index.codecs.kmeans import Centroids, cluster
from pyterrier_jacolbert.index.codecs.residual import ResidualCodec, check_centroid_ids
from pyterrier_jacolbert.index.codecs.scalar import Int8Codec
from pyterrier_jacolbert.index.search.exact import StoredVectors
from pyterrier_jacolbert.index.threads import cached_attribute

#: Number of centroids for an index without centroids, and number of vectors that they are trained on.
_CENTROIDS = 4096
_SAMPLE = 2**17
#: Documents whose tokens are counted at once.
_BATCH_DOCUMENTS = 2**14


@dataclass(frozen=True)
class CentroidIDF:
    """Document frequencies of centroids.

    Attributes:
        centroids: float32 ``(n_centroids, dim)``.
        document_frequencies: int64 ``(n_centroids,)``: number of documents with a token nearest to each centroid.
        n_docs: number of documents in the collection.
    """

    centroids: np.ndarray
    document_frequencies: np.ndarray
    n_docs: int

    @classmethod
    def of(cls, vectors: StoredVectors) -> CentroidIDF:
        """Counts document frequencies in an index; clusters its vectors first if it has no centroids."""
        from pyterrier_jacolbert.index.kernels.products import matrix_product

        codec = vectors.codec
        if isinstance(codec, (Int8Codec, ResidualCodec)) and codec.centroids is not None:
            centroids = matrix_product(codec.centroids, codec.rotation.T)
        else:
            tokens = np.arange(0, vectors.starts[-1], max(1, vectors.starts[-1] // _SAMPLE))
            centroids = cluster(vectors.decode(tokens), _CENTROIDS)
        nearest = None if "centroid_ids" in vectors.columns else Centroids(centroids)
        counts = np.zeros(len(centroids), dtype=np.int64)
        for first in range(0, len(vectors), _BATCH_DOCUMENTS):
            end = min(first + _BATCH_DOCUMENTS, len(vectors))
            rows = slice(vectors.starts[first], vectors.starts[end])
            if nearest is None:
                ids = np.asarray(vectors.columns["centroid_ids"][rows])
                check_centroid_ids(ids, len(centroids))
            else:
                ids = nearest.nearest(vectors.decode(rows))
            documents = np.repeat(np.arange(end - first), np.diff(vectors.starts[first : end + 1]))
            pairs = np.unique(documents * len(centroids) + ids)
            counts += np.bincount(pairs % len(centroids), minlength=len(centroids))
        return cls(centroids, counts, len(vectors))

    def idf(self, vectors: np.ndarray) -> np.ndarray:
        """Returns ``log((N + 1) / (n + 1))`` of the nearest centroid of each vector: float32 ``(n,)``."""
        from pyterrier_jacolbert.index.kernels.products import matrix_product

        # One product with all centroids: for a few vectors that is faster than searching groups of centroids.
        nearest = np.argmax(matrix_product(vectors, self.centroids.T) - self._half_squared_norms, axis=1)
        idf: np.ndarray = np.log((self.n_docs + 1) / (self.document_frequencies[nearest] + 1)).astype(np.float32)
        return idf

    @cached_attribute
    def _half_squared_norms(self) -> np.ndarray:
        """float32 ``(n_centroids,)``."""
        halves: np.ndarray = 0.5 * np.einsum("ij,ij->i", self.centroids, self.centroids)
        return halves


def expansion(
    feedback: np.ndarray, centroid_idf: CentroidIDF, n_clusters: int, fb_embs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters feedback vectors and returns the centres with the greatest IDF.

    Args:
        feedback: float32 ``(n, dim)``, the token vectors of all feedback documents.
        centroid_idf: of the collection.
        n_clusters: number of clusters.
        fb_embs: maximum number of clusters to return.

    Returns:
        centres: float32 ``(k, dim)``, greatest IDF first, ``k <= fb_embs``; IDF: float32 ``(k,)``.
    """
    centres = cluster(feedback, n_clusters)
    weights = centroid_idf.idf(centres)
    best = np.argsort(-weights, kind="stable")[:fb_embs]
    return centres[best], weights[best]
