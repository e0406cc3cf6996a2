"""RayRetriever: searches a sharded index on a Ray cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from pyterrier_jacolbert.distributed.servers import ShardServers
from pyterrier_jacolbert.index.limits import check_choice, check_positive
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.search.exact import Hits
from pyterrier_jacolbert.index.search.top_k import top_k
from pyterrier_jacolbert.index.search.two_stage import default_n_candidates, default_n_probe
from pyterrier_jacolbert.pipeline.protocols import Index
from pyterrier_jacolbert.pipeline.retrievers import QUALITIES, BaseRetriever, docno_tuple

#: Column that states whether all shards answered.
COMPLETE = "complete"


class ShardedArtifact(Index, Protocol):
    """A sharded index; :class:`~pyterrier_jacolbert.ShardedIndex` is one."""

    path: Path


class RayRetriever(BaseRetriever):
    """Retrieves the best documents of a sharded index whose shards are held by processes of a cluster.

    The processes start with the first frame and serve all retrievers of the index. Each returns the best documents of
    its shards, and the answers are merged to one ranking: that of the same index in one process, also for a two-stage
    search, because the candidates of all shards compete for the second stage. A process that dies is restarted, opens
    its shards again, and is asked again.

    Args:
        index: the index, at a path that every machine sees.
        num_results: maximum number of results per query.
        quality: ``"fast"``, ``"balanced"`` or ``"exact"``.
        n_candidates: number of documents that the first stage passes to the second, over all shards; None depends on
            ``quality``.
        n_probe: centroids per query token whose documents the first stage scores; None depends on the size of the index
            and on ``quality``.
        num_actors: number of processes, which share the shards; None starts one per shard.
        num_cpus_per_actor: CPUs of each.
        num_gpus_per_actor: GPUs of each; with a GPU every document gets a full score there.
        timeout: seconds to wait for the answers to a frame, and for processes to start or restart.
        partial: False raises an error if a shard does not answer; True ranks the documents of the others, and adds the
            column ``complete``.
        docnos: documents to search; None searches all.

    Raises:
        ValueError: a setting is out of its range.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Ray", "help_url": None}

    def __init__(
        self,
        index: ShardedArtifact,
        *,
        num_results: int = 1000,
        quality: str = "balanced",
        n_candidates: int | None = None,
        n_probe: int | None = None,
        num_actors: int | None = None,
        num_cpus_per_actor: float = 1,
        num_gpus_per_actor: float = 0,
        timeout: float = 300,
        partial: bool = False,
        docnos: Sequence[str] | None = None,
    ) -> None:
        check_choice("quality", quality, QUALITIES)
        check_positive(num_results=num_results)
        check_positive(optional=True, n_candidates=n_candidates, n_probe=n_probe, num_actors=num_actors)
        self.index: ShardedArtifact = index
        self.num_results = num_results
        self.quality = quality
        self.n_candidates = n_candidates
        self.n_probe = n_probe
        self.num_actors = num_actors
        self.num_cpus_per_actor = num_cpus_per_actor
        self.num_gpus_per_actor = num_gpus_per_actor
        self.timeout = timeout
        self.partial = partial
        self.docnos = docno_tuple(docnos)
        self._servers: ShardServers | None = None
        self._local = threading.local()

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks the documents of the index for each query of a frame.

        Args:
            inp: a frame with ``qid`` and ``query`` or ``query_embs``.

        Returns:
            See :meth:`~pyterrier_jacolbert.pipeline.Retriever.transform`; with ``partial=True``, also ``complete``.

        Raises:
            RuntimeError: shards did not answer, and ``partial`` is False.
        """
        self._local.complete = True
        ranking = super().transform(inp)
        return ranking.assign(**{COMPLETE: self._local.complete}) if self.partial else ranking

    def _search(self, reader: IndexReader, vectors: list[np.ndarray], docids: np.ndarray | None) -> Iterator[Hits]:
        servers = self._started_servers(reader)
        queries = servers.put(vectors)
        n_searched = len(reader) if docids is None else len(docids)
        exact = self.quality == "exact" or self.num_gpus_per_actor or reader.two_stage_scorer is None
        count = n_searched if exact else self.n_candidates or default_n_candidates(self.quality, self.num_results)
        if count >= n_searched:
            answers = self._ask(servers, "exact", queries, self.num_results, docids)
        else:
            n_probe = self.n_probe or default_n_probe(self.quality, reader.starts, docids)
            first_stage = self._ask(servers, "centroid_scores", queries, count, n_probe, docids)
            thresholds = [
                _threshold([answer[number] for answer in first_stage], count) for number in range(len(vectors))
            ]
            answers = self._ask(servers, "full_scores", queries, count, n_probe, docids, thresholds, self.num_results)
        for number in range(len(vectors)):
            hits = [part for answer in answers for part in answer[number]]
            candidates = np.concatenate([np.empty(0, dtype=np.int64), *(part[0] for part in hits)])
            scores = np.concatenate([np.empty(0, dtype=np.float32), *(part[1] for part in hits)])
            best = top_k(scores, self.num_results, reader.docnos.ranks[candidates])
            yield candidates[best], scores[best]

    def _ask(self, servers: ShardServers, method: str, *arguments: Any) -> list[Any]:
        answers = servers.ask(method, arguments, self.timeout)
        if answers.missing_shards:
            if not self.partial:
                reason = answers.reason or f"no answer within {self.timeout} seconds"
                raise RuntimeError(
                    f"The shards {sorted(answers.missing_shards)} of {self.index!r} did not answer ({reason}); check "
                    "the cluster and search again, or rank the documents of the other shards with partial=True."
                ) from answers.reason
            self._local.complete = False
        return answers.answers

    def _started_servers(self, reader: IndexReader) -> ShardServers:
        if self._servers is None or self._servers.reader.manifest != reader.manifest:
            self._servers = None  # ends the processes with the old files, unless another retriever uses them
            options = {"num_cpus": self.num_cpus_per_actor, "num_gpus": self.num_gpus_per_actor}
            self._servers = ShardServers.of(reader, self.index.path.absolute(), self.num_actors, options)
        return self._servers

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_servers", "_local")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _servers=None, _local=threading.local())


def _threshold(centroid_scores: list[np.ndarray], count: int) -> int:
    """Returns the ``count``-th greatest centroid score over all shards, or 0 if there are no more."""
    scores = np.concatenate([np.empty(0, dtype=np.int32), *centroid_scores])
    return int(np.partition(scores, len(scores) - count)[len(scores) - count]) if len(scores) > count else 0
