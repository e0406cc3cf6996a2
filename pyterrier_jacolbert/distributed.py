"""Building and searching sharded indexes on Ray (the extra ``ray``).

Ray does the cluster's part: it starts processes where there is room, starts dead ones again, and repeats what they were
asked. What is asked may be repeated, because a block that is encoded stays on the disk (see
:mod:`pyterrier_jacolbert.shard_build`) and a search changes nothing. Every machine must see the index's folder at the
same path, and have the same packages.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from pyterrier_jacolbert.index.files import digest_of
from pyterrier_jacolbert.index.limits import check_num_results
from pyterrier_jacolbert.pipeline.retrievers import (
    QUALITIES,
    BaseRetriever,
    candidate_count,
    check_positive,
    docno_tuple,
    probes_of,
)

if TYPE_CHECKING:
    from pyterrier_jacolbert.executors import Block, BlockEncoder
    from pyterrier_jacolbert.index.search import Found
    from pyterrier_jacolbert.index.stored import Stored
    from pyterrier_jacolbert.sharded import ShardedIndex

#: The column that says whether every shard answered.
COMPLETE = "complete"
#: A process that dies is started anew, and what it was asked is asked again, as often as it takes.
_FOREVER = {"max_restarts": -1, "max_task_retries": -1}


@dataclass(frozen=True)
class RayExecutor:
    """Builds on a Ray cluster: ``JaColBERTIndexer(path, model, executor=RayExecutor(num_workers=4))``.

    Workers hold a model each, and take blocks of ``shard_documents`` documents as they are free, two at a time, so that
    no more than ``2 * num_workers`` blocks are under way. The index does not depend on their number. Blocks go through
    an ActorPool, because Ray Data takes no iterator (ray-project/ray#39737); documents that Ray Data reads come as
    ``index(dataset.iter_rows())``, with the same docids every time if it is told to preserve their order.

    Without a running Ray, one is started on this machine; with one worker a GPU, several GPUs of one machine serve.

    Args:
        num_workers: processes that encode.
        num_gpus_per_worker: of each; 0 encodes on CPUs.
        num_cpus_per_worker: of each, and of a shard's coding.
        documents_per_shard: documents of each shard but the last; a multiple of the indexer's ``shard_documents``.
    """

    num_workers: int = 1
    num_gpus_per_worker: float = 0
    num_cpus_per_worker: float = 1
    documents_per_shard: int = 2**18

    def __post_init__(self) -> None:
        if not isinstance(self.num_workers, int) or self.num_workers < 1:
            raise ValueError(f"num_workers must be a positive integer, not {self.num_workers!r}.")

    def encode(self, encoder: BlockEncoder, blocks: Iterator[Block]) -> Generator[int, None, None]:
        """Has the workers encode blocks.

        Args:
            encoder: goes to every worker.
            blocks: of documents; a worker gets one when it is free.

        Yields:
            What the encoder gives for a block, in the order in which they are done.
        """
        ray = import_ray()
        from ray.util import ActorPool

        settings = {"num_cpus": self.num_cpus_per_worker, "num_gpus": self.num_gpus_per_worker, **_FOREVER}
        worker = ray.remote(_Worker).options(scheduling_strategy="SPREAD", **settings)
        workers = [worker.remote(encoder) for _ in range(self.num_workers)]
        try:
            pool: Any = ActorPool(workers * 2)  # a block waits at each worker while another is encoded
            for block in blocks:
                while not pool.has_free():
                    yield _unwrapped(pool.get_next_unordered)
                pool.submit(lambda actor, value: actor.encode.remote(value), block)
            while pool.has_next():
                yield _unwrapped(pool.get_next_unordered)
        finally:
            for actor in workers:
                ray.kill(actor)

    def start(self, function: Callable[..., Any], *arguments: Any, light: bool = False) -> Callable[[], Any]:  # noqa: ANN401
        """Begins to call a function somewhere on the cluster.

        Args:
            function: what is called.
            *arguments: what it is called with.
            light: whether it only reads and writes, and takes no CPU of its own.

        Returns:
            A function that waits for the result.
        """
        ray = import_ray()
        cpus = 0 if light else self.num_cpus_per_worker
        task = ray.remote(function).options(num_cpus=cpus, max_retries=-1, scheduling_strategy="SPREAD")
        reference = task.remote(*arguments)
        return functools.partial(_unwrapped, functools.partial(ray.get, reference))


class _Worker:
    """A process that encodes."""

    def __init__(self, encoder: BlockEncoder) -> None:
        self._encoder = encoder

    def encode(self, block: Block) -> int:
        return self._encoder(block)


class RayRetriever(BaseRetriever):
    """As :class:`~pyterrier_jacolbert.pipeline.retrievers.Retriever`, with the shards held by processes of a cluster.

    The processes are started when the first frame comes, and serve all retrievers of the index. Each is asked for the
    best of its shards, and the answers make one ranking: that of the same index in one process, also where the search
    has two stages, because the shards' candidates compete with each other for the second. A process that dies is
    started anew, opens its shards again and is asked again.

    Args:
        index: the index, at a path that every machine sees.
        num_results: the most documents a query gets.
        quality: ``"fast"``, ``"balanced"`` or ``"exact"``.
        n_candidates: documents that the first stage leaves, of all shards together; None goes by ``quality``.
        n_probe: centroids of each query token whose documents the first stage looks at; None goes by the size of the
            index and ``quality``.
        num_actors: processes, among which the shards are dealt; None takes one a shard.
        num_cpus_per_actor: of each.
        num_gpus_per_actor: of each; with a GPU every document is scored there.
        timeout: seconds to wait for the answers to a frame; also for processes to start, or to start again.
        partial: False makes a query that not all shards answer an error; True ranks what the others hold, and a column
            ``complete`` tells.
        docnos: the documents to search; None takes all.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT Ray", "help_url": None}

    def __init__(
        self,
        index: ShardedIndex,
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
        if quality not in QUALITIES:
            raise ValueError(f"quality must be one of {', '.join(map(repr, QUALITIES))}, not {quality!r}.")
        check_positive(n_candidates=n_candidates, n_probe=n_probe, num_actors=num_actors)
        self.index: Any = index
        self.num_results = check_num_results(num_results)
        self.quality = quality
        self.n_candidates = n_candidates
        self.n_probe = n_probe
        self.num_actors = num_actors
        self.num_cpus_per_actor = num_cpus_per_actor
        self.num_gpus_per_actor = num_gpus_per_actor
        self.timeout = timeout
        self.partial = partial
        self.docnos = docno_tuple(docnos)
        self._servers: _Servers | None = None
        self._local = threading.local()

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks the index for each query of a frame; see :class:`Retriever`.

        Raises:
            RuntimeError: shards did not answer, and ``partial`` is False.
        """
        self._local.complete = True
        ranking = super().transform(inp)
        return ranking.assign(**{COMPLETE: self._local.complete}) if self.partial else ranking

    def _search(self, stored: Stored, vectors: list[np.ndarray], docids: np.ndarray | None) -> Iterator[Found]:
        from pyterrier_jacolbert.index.topk import top_k

        servers = self._started(stored)
        queries = servers.put(vectors)
        searched = len(stored) if docids is None else len(docids)
        every = self.quality == "exact" or self.num_gpus_per_actor or stored.two_stage_lane is None
        count = searched if every else self.n_candidates or candidate_count(self.quality, self.num_results)
        if count >= searched:
            answers = self._answers(servers, "exact", queries, self.num_results, docids)
        else:
            n_probe = self.n_probe or probes_of(self.quality, stored.starts, docids)
            rough = self._answers(servers, "rough", queries, count, n_probe, docids)
            least = [_least([answer[number] for answer in rough], count) for number in range(len(vectors))]
            answers = self._answers(servers, "full", queries, count, n_probe, docids, least, self.num_results)
        for number in range(len(vectors)):
            found = [part for answer in answers for part in answer[number]]
            candidates = np.concatenate([np.empty(0, dtype=np.int64), *(part[0] for part in found)])
            scores = np.concatenate([np.empty(0, dtype=np.float32), *(part[1] for part in found)])
            best = top_k(scores, self.num_results, stored.docnos.ranks[candidates])
            yield candidates[best], scores[best]

    def _answers(self, servers: _Servers, method: str, *arguments: Any) -> list[Any]:  # noqa: ANN401
        answers, missing, reason = servers.ask(method, arguments, self.timeout)
        if missing:
            if not self.partial:
                raise RuntimeError(
                    f"The shards {sorted(missing)} of {self.index!r} did not answer ("
                    f"{reason or f'{self.timeout} seconds are over'}); see to the cluster and ask again, or take what "
                    "the others hold with partial=True."
                ) from reason
            self._local.complete = False
        return answers

    def _started(self, stored: Stored) -> _Servers:
        if self._servers is None or self._servers.stored.meta != stored.meta:
            self._servers = None  # ends the processes that hold the files of before, if no other retriever needs them
            options = {"num_cpus": self.num_cpus_per_actor, "num_gpus": self.num_gpus_per_actor}
            self._servers = _Servers.of(stored, self.index.path.absolute(), self.num_actors, options)
        return self._servers

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_servers", "_local")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _servers=None, _local=threading.local())


class _Servers:
    """The processes that hold an index, for all retrievers of this process; they end when none refers to this.

    Args:
        stored: the index, as it is open here.
        path: of the index, everywhere.
        dealt: the shards of each process.
        options: what Ray gives each.
    """

    _shared: ClassVar[weakref.WeakValueDictionary[tuple[Any, ...], _Servers]] = weakref.WeakValueDictionary()

    def __init__(self, stored: Stored, path: Path, dealt: list[list[int]], options: dict[str, Any]) -> None:
        self.stored = stored
        self._ray = import_ray()
        self._path = str(path)
        self._dealt = dealt
        self._options = options
        self._actors = [self._start(shards) for shards in dealt]

    @classmethod
    def of(cls, stored: Stored, path: Path, count: int | None, options: dict[str, Any]) -> _Servers:
        """The processes that there are, or new ones: so many, or one a shard."""
        shards = len(stored.meta["shards"])
        count = min(count or shards, shards)
        key = (path, digest_of(dict(stored.meta)), count, *options.values())
        found = cls._shared.get(key)
        if found is None:
            dealt = [list(range(first, shards, count)) for first in range(count)]
            found = cls._shared[key] = cls(stored, path, dealt, options)
        return found

    def put(self, value: Any) -> Any:  # noqa: ANN401
        """Sends something once, for all to read."""
        return self._ray.put(value)

    def ask(
        self, method: str, arguments: Sequence[Any], timeout: float
    ) -> tuple[list[Any], list[int], Exception | None]:
        """Calls a method of every process, once more where that is dead for good and has been replaced.

        Returns:
            The answers; the shards of those that gave none; and why they did not.
        """
        errors = self._ray.exceptions
        answers: dict[int, Any] = {}
        reason: Exception | None = None
        for _ in range(2):
            asked = {
                number: getattr(actor, method).remote(*arguments)
                for number, actor in enumerate(self._actors)
                if number not in answers
            }
            ready, _late = self._ray.wait(list(asked.values()), num_returns=len(asked), timeout=timeout)
            dead = []
            for number, reference in asked.items():
                try:
                    if reference in ready:
                        answers[number] = _unwrapped(functools.partial(self._ray.get, reference))
                except errors.RayActorError as error:
                    reason = error
                    dead.append(number)
                    self._actors[number] = self._start(self._dealt[number])
                except Exception as error:  # whatever it could not do, the others may answer
                    reason = error
            if not dead:
                break
        missing = [shard for number, shards in enumerate(self._dealt) if number not in answers for shard in shards]
        return list(answers.values()), missing, reason

    def _start(self, shards: list[int]) -> Any:  # noqa: ANN401 (Ray's)
        from pyterrier_jacolbert.shard_server import ShardServer

        server = self._ray.remote(ShardServer).options(scheduling_strategy="SPREAD", **self._options, **_FOREVER)
        return server.remote(self._path, shards, bool(self._options["num_gpus"]))


def _least(rough: list[np.ndarray], count: int) -> int:
    """The ``count``-th greatest of rough scores; 0 where there are no more."""
    scores = np.concatenate([np.empty(0, dtype=np.int32), *rough])
    return int(np.partition(scores, len(scores) - count)[len(scores) - count]) if len(scores) > count else 0


def import_ray() -> Any:  # noqa: ANN401 (a module)
    """Ray, connected; where none runs, one is started on this machine.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ImportError("This needs Ray, which is not installed: pip install 'pyterrier-jacolbert[ray]'.") from None
    if not ray.is_initialized():
        ray.init(include_dashboard=False)
    return ray


def _unwrapped(get: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Calls; an error of ours that happened elsewhere is raised as it was."""
    from ray.exceptions import RayTaskError

    try:
        return get()
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise
