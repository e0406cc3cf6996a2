"""ShardServer: searches some shards of an index, in a process of a cluster."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.search.exact import Hits, search_exact
from pyterrier_jacolbert.index.search.quantized import PreparedQuery, QuantizedScorer
from pyterrier_jacolbert.index.search.top_k import top_k
from pyterrier_jacolbert.index.search.two_stage import find_candidates
from pyterrier_jacolbert.index.sharded_reader import ShardedIndexReader
from pyterrier_jacolbert.index.threads import cached_attribute, in_threads

#: Frames whose candidates are kept between the two stages, which limits the number of concurrent frames.
_KEPT_FRAMES = 16

#: A prepared query, the docids of its candidates, and their centroid scores.
_Candidates = tuple[PreparedQuery, np.ndarray, np.ndarray]


class ShardServer:
    """Searches some shards of an index.

    Docids are those of the whole index. The files of other shards are mapped and not read.

    Args:
        path: of the index.
        shards: numbers of the shards, from 0.
        gpu: whether to score on a GPU, to which the vectors are copied.
    """

    def __init__(self, path: str, shards: Sequence[int], gpu: bool = False) -> None:
        # The index is opened on the first call: an error is then an answer, and the next call tries again.
        self._path = Path(path)
        self._shards = list(shards)
        self._gpu = gpu
        self._kept: OrderedDict[bytes, list[_Candidates]] = OrderedDict()

    @cached_attribute
    def _reader(self) -> ShardedIndexReader:
        return ShardedIndexReader.open(self._path)

    @cached_attribute
    def _docids(self) -> np.ndarray:
        """int64, ascending: documents of the shards that are not deleted."""
        bounds = self._reader.bounds
        ranges = [np.arange(bounds[number], bounds[number + 1]) for number in self._shards]
        return np.setdiff1d(np.concatenate(ranges), self._reader.deleted)

    @cached_attribute
    def _torch(self) -> dict[int, Any]:
        """The shards on the GPU by number."""
        from pyterrier_jacolbert.index.search.torch import TorchSearch

        return {number: TorchSearch(self._reader.parts[number], "cuda", "float16") for number in self._shards}

    def exact(self, queries: Sequence[np.ndarray], num_results: int, docids: np.ndarray | None) -> list[list[Hits]]:
        """Gives every document a full score.

        Args:
            queries: float32 ``(n_tokens, dim)`` each.
            num_results: maximum number of results per query.
            docids: int64, ascending: documents to search; None searches all.

        Returns:
            The hits of each query, in one or several parts.
        """
        searched = self._searched(docids)
        if self._gpu:
            by_shard = [self._search_on_gpu(number, queries, num_results, searched) for number in self._shards]
            return [list(parts) for parts in zip(*by_shard, strict=True)]
        ranks = self._reader.docnos.ranks
        return [[hits] for hits in search_exact(self._reader.scorer, queries, num_results, ranks, searched)]

    def centroid_scores(
        self, queries: Sequence[np.ndarray], count: int, n_probe: int | None, docids: np.ndarray | None
    ) -> list[np.ndarray]:
        """Returns the centroid scores of the best documents.

        Args:
            queries: float32 ``(n_tokens, dim)`` each.
            count: number of documents per query.
            n_probe: centroids per query token to probe; None scores all documents.
            docids: int64, ascending: documents to search; None searches all.

        Returns:
            int32 ``(n,)`` for each query.
        """
        return [scores for _, _, scores in self._candidates(queries, count, n_probe, docids)]

    def full_scores(
        self,
        queries: Sequence[np.ndarray],
        count: int,
        n_probe: int | None,
        docids: np.ndarray | None,
        thresholds: Sequence[int],
        num_results: int,
    ) -> list[list[Hits]]:
        """Gives full scores to documents whose centroid score reaches a threshold.

        Args:
            queries: see :meth:`centroid_scores`, also for the next three.
            count: number of candidates per query.
            n_probe: centroids per query token to probe.
            docids: documents to search.
            thresholds: of each query.
            num_results: maximum number of results per query.

        Returns:
            The hits of each query, in one part.
        """
        answers = []
        of_queries = self._candidates(queries, count, n_probe, docids)
        for (query, candidates, centroid_scores), threshold in zip(of_queries, thresholds, strict=True):
            passed = candidates[centroid_scores >= threshold]
            scores = self._scorer.scores_of(query, passed)
            best = top_k(scores, num_results, self._reader.docnos.ranks[passed])
            answers.append([(passed[best], scores[best])])
        return answers

    @property
    def _scorer(self) -> QuantizedScorer:
        scorer = self._reader.two_stage_scorer
        assert scorer is not None
        return scorer

    def _candidates(
        self, queries: Sequence[np.ndarray], count: int, n_probe: int | None, docids: np.ndarray | None
    ) -> list[_Candidates]:
        """Finds the candidates of queries, or returns those of an earlier call."""
        parts = [*queries, np.array([count, n_probe or 0]), *([] if docids is None else [docids])]
        key = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        if key not in self._kept:
            searched = self._searched(docids)
            prepared = [self._scorer.prepare(query, in_threads) for query in queries]
            self._kept[key] = [
                (query, *find_candidates(self._scorer, query, searched, count, n_probe)) for query in prepared
            ]
            while len(self._kept) > _KEPT_FRAMES:
                self._kept.popitem(last=False)
        return self._kept[key]

    def _searched(self, docids: np.ndarray | None) -> np.ndarray:
        """Returns the given documents that are in the shards."""
        return self._docids if docids is None else np.intersect1d(self._docids, docids, assume_unique=True)

    def _search_on_gpu(
        self, number: int, queries: Sequence[np.ndarray], num_results: int, docids: np.ndarray
    ) -> list[Hits]:
        part = self._reader.parts[number]
        first, end = self._reader.bounds[number : number + 2].tolist()
        local = docids[slice(*np.searchsorted(docids, [first, end]))] - first
        hits = self._torch[number].search(queries, num_results, part.docnos.ranks, local)
        return [(candidates + first, scores) for candidates, scores in hits]
