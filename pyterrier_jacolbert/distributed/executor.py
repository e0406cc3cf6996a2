"""RayExecutor: builds a sharded index on a Ray cluster.

Ray starts processes where there is room, restarts dead ones, and repeats their calls. Calls can be repeated because an
encoded batch stays on disk (see :mod:`pyterrier_jacolbert.building.sharded`). Every machine must see the folder of the
index at the same path, and have the same packages.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from pyterrier_jacolbert.building.batches import BatchEncoder, DocumentBatch
from pyterrier_jacolbert.distributed.connection import RESTARTED, import_ray, unwrap
from pyterrier_jacolbert.index.limits import check_positive


@dataclass(frozen=True)
class RayExecutor:
    """Builds on a Ray cluster: ``JaColBERTIndexer(path, model, executor=RayExecutor(num_workers=4))``.

    Each worker holds a model and takes batches of ``batch_documents`` documents as it becomes free, two at a time, so
    that at most ``2 * num_workers`` batches are in flight. The index does not depend on the number of workers. Batches
    go through an ActorPool, because Ray Data takes no iterator (ray-project/ray#39737); documents read by Ray Data are
    passed as ``index(dataset.iter_rows())``, with the same docids every time if it preserves their order.

    Without a running cluster, Ray is started on this machine; with one worker per GPU, it uses several GPUs.

    Args:
        num_workers: number of processes that encode.
        num_gpus_per_worker: GPUs of each; 0 encodes on CPUs.
        num_cpus_per_worker: CPUs of each, and of the compression of a shard.
        documents_per_shard: number of documents in each shard but the last; a multiple of the indexer's
            ``batch_documents``.

    Raises:
        ValueError: ``num_workers`` is not a positive integer.
    """

    num_workers: int = 1
    num_gpus_per_worker: float = 0
    num_cpus_per_worker: float = 1
    documents_per_shard: int = 2**18

    def __post_init__(self) -> None:
        check_positive(num_workers=self.num_workers)

    def encode(self, encoder: BatchEncoder, batches: Iterator[DocumentBatch]) -> Generator[int, None, None]:
        """Encodes batches on the workers.

        Args:
            encoder: sent to every worker.
            batches: of documents; a worker gets one when it is free.

        Yields:
            What the encoder returns for each batch, in the order of completion.
        """
        ray = import_ray()
        from ray.util import ActorPool

        options = {"num_cpus": self.num_cpus_per_worker, "num_gpus": self.num_gpus_per_worker, **RESTARTED}
        worker = ray.remote(_Worker).options(scheduling_strategy="SPREAD", **options)
        workers = [worker.remote(encoder) for _ in range(self.num_workers)]
        try:
            pool: Any = ActorPool(workers * 2)  # one batch waits at each worker while another is encoded
            for batch in batches:
                while not pool.has_free():
                    yield unwrap(pool.get_next_unordered)
                pool.submit(lambda actor, value: actor.encode.remote(value), batch)
            while pool.has_next():
                yield unwrap(pool.get_next_unordered)
        finally:
            for actor in workers:
                ray.kill(actor)

    def start(self, function: Callable[..., Any], *arguments: Any, light: bool = False) -> Callable[[], Any]:
        """Starts a call on the cluster.

        Args:
            function: to call.
            *arguments: of the function.
            light: whether the call only reads and writes files, and takes no CPU of its own.

        Returns:
            A function that waits for the result.
        """
        ray = import_ray()
        cpus = 0 if light else self.num_cpus_per_worker
        task = ray.remote(function).options(num_cpus=cpus, max_retries=-1, scheduling_strategy="SPREAD")
        reference = task.remote(*arguments)
        return functools.partial(unwrap, functools.partial(ray.get, reference))


class _Worker:
    """A process that encodes batches."""

    def __init__(self, encoder: BatchEncoder) -> None:
        self._encoder = encoder

    def encode(self, batch: DocumentBatch) -> int:
        """Encodes a batch and returns its number."""
        return self._encoder(batch)
