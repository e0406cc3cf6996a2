"""What a process of a cluster does for a search: it holds some shards, and answers for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.coded_lanes import Prepared
from pyterrier_jacolbert.index.search import Found, candidates_of, search_exact
from pyterrier_jacolbert.index.shards import StoredShards
from pyterrier_jacolbert.index.threads import in_threads
from pyterrier_jacolbert.index.topk import top_k
from pyterrier_jacolbert.sharded import ShardedIndex

#: Frames whose candidates are kept between the two stages: as many as are asked at the same time.
_KEPT = 16

#: A prepared query, its candidates' docids, and their rough scores.
_Rough = tuple[Prepared, np.ndarray, np.ndarray]


class ShardServer:
    """Some shards of an index, searched.

    Docids are those of the whole. The files of the other shards are mapped, and not read.

    Args:
        path: of the index.
        shards: which, from 0.
        gpu: whether to score on a GPU, to which the vectors are brought.
    """

    def __init__(self, path: str, shards: Sequence[int], gpu: bool = False) -> None:
        # Opened when it is first asked: an error is then an answer, and the next question tries again.
        self._path = path
        self._shards = list(shards)
        self._gpu = gpu
        self._kept: OrderedDict[bytes, list[_Rough]] = OrderedDict()

    @cached_property
    def _stored(self) -> StoredShards:
        return ShardedIndex(self._path).opened_shards()

    @cached_property
    def _docids(self) -> np.ndarray:
        """int64, ascending: the documents here that are not deleted."""
        bounds = self._stored.bounds
        ranges = [np.arange(bounds[number], bounds[number + 1]) for number in self._shards]
        return np.setdiff1d(np.concatenate(ranges), self._stored.deleted)

    @cached_property
    def _torch(self) -> dict[int, Any]:
        """The shards on the GPU, by number."""
        from pyterrier_jacolbert.index.torch_search import TorchSearch

        return {number: TorchSearch(self._stored.parts[number], "cuda", "float16") for number in self._shards}

    def exact(self, queries: Sequence[np.ndarray], num_results: int, docids: np.ndarray | None) -> list[list[Found]]:
        """Scores every document.

        Args:
            queries: for each float32 ``(n_tokens, dim)``.
            num_results: the most documents a query gets.
            docids: int64, ascending: the documents to search; None takes all.

        Returns:
            For each query what was found, in one part or in several.
        """
        mine = self._mine(docids)
        if self._gpu:
            by_shard = [self._on_gpu(number, queries, num_results, mine) for number in self._shards]
            return [list(parts) for parts in zip(*by_shard, strict=True)]
        stored = self._stored
        return [[found] for found in search_exact(stored.lane, queries, num_results, stored.docnos.ranks, mine)]

    def rough(
        self, queries: Sequence[np.ndarray], count: int, n_probe: int | None, docids: np.ndarray | None
    ) -> list[np.ndarray]:
        """The rough scores of each query's best ``count`` documents here: for each int32 ``(n,)``."""
        return [scores for _, _, scores in self._roughly(queries, count, n_probe, docids)]

    def full(
        self,
        queries: Sequence[np.ndarray],
        count: int,
        n_probe: int | None,
        docids: np.ndarray | None,
        least: Sequence[int],
        num_results: int,
    ) -> list[list[Found]]:
        """Scores in full what scores roughly no less than ``least``, query by query; the rest as :meth:`rough`."""
        answers = []
        lane = self._stored.two_stage_lane
        assert lane is not None
        candidates_here = self._roughly(queries, count, n_probe, docids)
        for (query, docids_of, scores_of), limit in zip(candidates_here, least, strict=True):
            candidates = docids_of[scores_of >= limit]
            scores = lane.scores_of(query, candidates)
            best = top_k(scores, num_results, self._stored.docnos.ranks[candidates])
            answers.append([(candidates[best], scores[best])])
        return answers

    def _roughly(
        self, queries: Sequence[np.ndarray], count: int, n_probe: int | None, docids: np.ndarray | None
    ) -> list[_Rough]:
        """The candidates of queries, as they were found before, or found now."""
        parts = [*queries, np.array([count, n_probe or 0]), *([] if docids is None else [docids])]
        key = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        if key not in self._kept:
            lane = self._stored.two_stage_lane
            assert lane is not None
            mine = self._mine(docids)
            prepared = [lane.prepare(query, in_threads) for query in queries]
            self._kept[key] = [(query, *candidates_of(lane, query, mine, count, n_probe)) for query in prepared]
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]

    def _mine(self, docids: np.ndarray | None) -> np.ndarray:
        return self._docids if docids is None else np.intersect1d(self._docids, docids, assume_unique=True)

    def _on_gpu(self, number: int, queries: Sequence[np.ndarray], num_results: int, docids: np.ndarray) -> list[Found]:
        part = self._stored.parts[number]
        first, end = self._stored.bounds[number : number + 2].tolist()
        local = docids[slice(*np.searchsorted(docids, [first, end]))] - first
        found = self._torch[number].search(queries, num_results, part.docnos.ranks, local)
        return [(candidates + first, scores) for candidates, scores in found]
