"""What a collection's token vectors say of feedback documents: which of their vectors are rare.

ColBERT-PRF (Wang, Macdonald, Tonellotto and Ounis, ICTIR 2021, arXiv 2106.11251) weighs a cluster of feedback vectors
by the idf of the token that it is nearest to. An index here holds no token ids; its centroids take their place, so that
a cluster has the idf of its nearest centroid: the logarithm of how few documents have a token there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pyterrier_jacolbert.index.centroids import Centroids, cluster
from pyterrier_jacolbert.index.residual_codec import ResidualCodec
from pyterrier_jacolbert.index.scalar_codecs import Int8Codec
from pyterrier_jacolbert.index.stored import Stored

#: Centroids where an index holds none.
_CENTROIDS = 4096
#: Vectors that they are made of, and tokens that are looked at together.
_SAMPLE = 2**17
_BLOCK_DOCUMENTS = 2**14


@dataclass(frozen=True)
class Rarity:
    """How many documents have a token near each centroid.

    Attributes:
        centroids: float32 ``(n_centroids, dim)``.
        document_frequencies: int64 ``(n_centroids,)``.
        n_docs: documents in all.
    """

    centroids: np.ndarray
    document_frequencies: np.ndarray
    n_docs: int

    @classmethod
    def of(cls, stored: Stored) -> Rarity:
        """Counts over an open index; where it holds no centroids, some are made of its vectors."""
        codec = stored.codec
        if isinstance(codec, (Int8Codec, ResidualCodec)) and codec.centroids is not None:
            centroids = codec.centroids.astype(np.float32) @ codec.rotation.T
        else:
            tokens = np.arange(0, stored.starts[-1], max(1, stored.starts[-1] // _SAMPLE))
            centroids = cluster(stored.decode(tokens), _CENTROIDS)
        among = None if "centroid_ids" in stored.columns else Centroids(centroids)
        counts = np.zeros(len(centroids), dtype=np.int64)
        for first in range(0, len(stored), _BLOCK_DOCUMENTS):
            end = min(first + _BLOCK_DOCUMENTS, len(stored))
            rows = slice(stored.starts[first], stored.starts[end])
            if among is None:
                ids = np.asarray(stored.columns["centroid_ids"][rows])
            else:
                ids = among.nearest(stored.decode(rows))
            owners = np.repeat(np.arange(end - first), np.diff(stored.starts[first : end + 1]))
            pairs = np.unique(owners * len(centroids) + ids)
            counts += np.bincount(pairs % len(centroids), minlength=len(centroids))
        return cls(centroids, counts, len(stored))

    def idf(self, vectors: np.ndarray) -> np.ndarray:
        """``log((N + 1) / (n + 1))`` of each vector's nearest centroid: float32 ``(n,)``."""
        # All by one product: for a few vectors that is less than looking in groups of centroids first.
        found = self.document_frequencies[np.argmax(vectors @ self.centroids.T - self._halves, axis=1)]
        idf: np.ndarray = np.log((self.n_docs + 1) / (found + 1)).astype(np.float32)
        return idf

    @cached_property
    def _halves(self) -> np.ndarray:
        """Half of each centroid's squared length: float32 ``(n_centroids,)``."""
        halves: np.ndarray = 0.5 * np.einsum("ij,ij->i", self.centroids, self.centroids)
        return halves


def expansion(feedback: np.ndarray, rarity: Rarity, n_clusters: int, fb_embs: int) -> tuple[np.ndarray, np.ndarray]:
    """The centres of the rarest clusters of feedback vectors, and their idf.

    Args:
        feedback: float32 ``(n, dim)``, the token vectors of all feedback documents.
        rarity: of the collection.
        n_clusters: of the feedback vectors.
        fb_embs: clusters that are kept.

    Returns:
        float32 ``(k, dim)`` and float32 ``(k,)``, rarest first, ``k <= fb_embs``.
    """
    centres = cluster(feedback, n_clusters)
    weights = rarity.idf(centres)
    best = np.argsort(-weights, kind="stable")[:fb_embs]
    return centres[best], weights[best]
