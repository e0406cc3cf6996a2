"""RayExecutor: builds a sharded index on a Ray cluster.

Ray starts processes where there is room. Dead ones are replaced, and their calls repeated up to a limit. Calls can be
repeated because an encoded batch stays on disk (see :mod:`pyterrier_jacolbert.building.sharded`). Every machine must
see the folder of the index at the same path, and have the same packages.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from pyterrier_jacolbert.building.batches import BatchEncoder, DocumentBatch
from pyterrier_jacolbert.distributed.connection import ATTEMPTS, import_ray, is_death, unwrap
from pyterrier_jacolbert.distributed.workers import Worker, Workers
from pyterrier_jacolbert.index.limits import check_positive


@dataclass(frozen=True)
class RayExecutor:
    """Builds on a Ray cluster: ``JaColBERTIndexer(path, model, executor=RayExecutor(num_workers=4))``.

    Each worker holds a model and takes batches of ``batch_documents`` documents as it becomes free, two at a time, so
    that at most ``2 * num_workers`` batches are in flight. The index does not depend on the number of workers. A batch
    that kills its worker, for lack of memory for example, is tried three times alone and then named in an error; what
    is encoded is kept, and ``mode="resume"`` continues. Ray Data takes no iterator (ray-project/ray#39737); documents
    read by Ray Data are passed as ``index(dataset.iter_rows())``, with the same docids every time if it preserves their
    order.

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

        Raises:
            ChildProcessError: a batch killed its worker several times; the message names its documents.
        """
        ray = import_ray()
        options = {"num_cpus": self.num_cpus_per_worker, "num_gpus": self.num_gpus_per_worker}
        worker = ray.remote(Worker).options(scheduling_strategy="SPREAD", max_restarts=0, max_task_retries=0, **options)
        batch_documents = encoder.encoder.batch_documents
        workers = Workers(ray, lambda: worker.remote(encoder), self.num_workers, batch_documents)
        try:
            yield from workers.encode(batches)
        finally:
            workers.stop()

    def start(self, function: Callable[..., Any], *arguments: Any, light: bool = False) -> Callable[[], Any]:
        """Starts a call on the cluster.

        Args:
            function: to call.
            *arguments: of the function.
            light: whether the call only reads and writes files, and takes no CPU of its own.

        Returns:
            A function that waits for the result.

        Raises:
            ChildProcessError: (on waiting) the call killed its process every time it was tried.
        """
        ray = import_ray()
        cpus = 0 if light else self.num_cpus_per_worker
        # Ray itself repeats calls that run out of memory without limit, unless it is to repeat none.
        task = ray.remote(function).options(num_cpus=cpus, max_retries=0, scheduling_strategy="SPREAD")
        first = task.remote(*arguments)

        def wait() -> Any:
            reference = first
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return unwrap(functools.partial(ray.get, reference))
                except Exception as error:
                    if not is_death(error):
                        raise
                    if attempt < ATTEMPTS:
                        reference = task.remote(*arguments)
            raise ChildProcessError(
                f"{function.__name__} of {arguments[0]} killed its process {ATTEMPTS} times, perhaps for lack of "
                "memory; use machines with more memory, or make smaller shards with documents_per_shard."
            )

        return wait
