"""Scores the documents of several shards as one collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from pyterrier_jacolbert.index.search.exact import Scorer
from pyterrier_jacolbert.index.search.quantized import PreparedQuery, QuantizedScorer
from pyterrier_jacolbert.index.storage.concatenated import positions_by_part
from pyterrier_jacolbert.index.threads import MapFn


class Scored(Protocol):
    """A shard; :class:`~pyterrier_jacolbert.index.reader.IndexReader` is one."""

    @property
    def scorer(self) -> Scorer:
        """Scorer of the documents of the shard."""
        ...


class ShardedScorer(QuantizedScorer):
    """The quantized scorers of several shards as one. Each is created when a document of its shard is first scored.

    Args:
        parts: readers of the shards.
        starts: int64 ``(n_docs + 1,)``, of all shards.
        bounds: int64 ``(n_shards + 1,)``, in docids.
    """

    def __init__(self, parts: Sequence[Scored], starts: np.ndarray, bounds: np.ndarray) -> None:
        super().__init__(starts)
        self._parts = parts
        self._bounds = bounds

    @property
    def has_centroids(self) -> bool:
        """Whether documents have centroid scores."""
        return self._scorer(0).has_centroids

    def prepare(self, query: np.ndarray, map_fn: MapFn = map) -> PreparedQuery:
        """Prepares a query for the kernels; see :meth:`QuantizedScorer.prepare`."""
        return self._scorer(0).prepare(query, map_fn)

    def score(self, query: PreparedQuery, docids: np.ndarray, out: np.ndarray) -> None:
        """Scores documents in this thread; see :meth:`QuantizedScorer.score`."""
        self._by_shard(lambda scorer, local, part: scorer.score(query, local, part), docids, out)

    def score_by_centroids(self, table: np.ndarray, docids: np.ndarray, out: np.ndarray) -> None:
        """Scores documents by their centroids in this thread; see :meth:`QuantizedScorer.score_by_centroids`."""
        self._by_shard(lambda scorer, local, part: scorer.score_by_centroids(table, local, part), docids, out)

    def documents_of_centroids(self, centroids: np.ndarray, docids: np.ndarray) -> np.ndarray:
        """Returns the given documents that have a given centroid: int64, ascending."""
        found = [np.empty(0, dtype=np.int64)]
        for number, positions in positions_by_part(self._bounds, docids):
            first = self._bounds[number]
            local = self._scorer(number).documents_of_centroids(centroids, docids[positions] - first)
            found.append(local + first)
        return np.concatenate(found)

    def _by_shard(
        self, score: Callable[[QuantizedScorer, np.ndarray, np.ndarray], None], docids: np.ndarray, out: np.ndarray
    ) -> None:
        for number, positions in positions_by_part(self._bounds, docids):
            local = docids[positions] - self._bounds[number]
            part = np.empty(len(local), dtype=out.dtype)
            score(self._scorer(number), local, part)
            out[positions] = part

    def _scorer(self, number: int) -> QuantizedScorer:
        scorer = self._parts[number].scorer
        assert isinstance(scorer, QuantizedScorer)
        return scorer
