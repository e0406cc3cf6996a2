"""Workers: the processes of a Ray cluster that encode batches of documents, and what becomes of a batch that kills one.

A worker that dies is replaced. The batches that it held are tried again, each alone on a worker, because any of them
may be the one that took its memory. A batch that dies alone several times is named in an error, after the batches in
flight are done; the caller keeps what is encoded.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

from pyterrier_jacolbert.building.batches import BatchEncoder, DocumentBatch
from pyterrier_jacolbert.distributed.connection import ATTEMPTS, is_death, unwrap

#: Batches at a worker: one waits while another is encoded.
_BATCHES_PER_WORKER = 2
#: Docnos of a batch that a message lists; its note lists all.
_LISTED_DOCNOS = 20


class Worker:
    """A process that encodes batches."""

    def __init__(self, encoder: BatchEncoder) -> None:
        self._encoder = encoder

    def encode(self, batch: DocumentBatch) -> int:
        """Encodes a batch and returns its number."""
        return self._encoder(batch)


class Workers:
    """The workers of a build.

    Args:
        ray: the module.
        start: starts a worker.
        count: number of workers.
        batch_documents: number of documents of each batch but the last.
    """

    def __init__(self, ray: Any, start: Callable[[], Any], count: int, batch_documents: int) -> None:
        self._ray = ray
        self._start = start
        self._batch_documents = batch_documents
        self._actors = [start() for _ in range(count)]
        self._running: dict[Any, tuple[int, DocumentBatch]] = {}  # number of the worker and batch, by reference
        self._suspects: deque[DocumentBatch] = deque()  # held by a worker that died
        self._tried_alone: dict[int, int] = {}  # worker of each suspect that is being tried, by number of the batch
        self._deaths: Counter[int] = Counter()  # of workers that held a batch alone, by number of the batch
        self._failed: DocumentBatch | None = None

    def encode(self, batches: Iterator[DocumentBatch]) -> Generator[int, None, None]:
        """Encodes batches.

        Args:
            batches: taken as workers become free.

        Yields:
            The number of each batch, in the order of completion.

        Raises:
            ChildProcessError: a batch killed every worker that tried it.
        """
        more = True
        while True:
            if self._failed is None:
                self._try_suspects()
                more = more and self._fill(batches)
            if not self._running:
                break
            ready, _ = self._ray.wait(list(self._running), num_returns=1)
            yield from self._finish(ready[0])
        if self._failed is not None:
            raise self._error(self._failed)

    def stop(self) -> None:
        """Ends the processes."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _fill(self, batches: Iterator[DocumentBatch]) -> bool:
        """Gives new batches to workers with room; returns whether there may be more."""
        while not self._suspects:
            loads = self._loads()
            worker = min(loads, key=lambda number: loads[number])
            if loads[worker] >= _BATCHES_PER_WORKER:
                return True
            batch = next(batches, None)
            if batch is None:
                return False
            self._submit(worker, batch)
        return True  # workers run empty first, so that suspects are alone

    def _try_suspects(self) -> None:
        for worker, load in self._loads().items():
            if load == 0 and self._suspects:
                batch = self._suspects.popleft()
                self._tried_alone[batch.number] = worker
                self._submit(worker, batch)

    def _loads(self) -> dict[int, int]:
        """Returns the number of batches at each worker; one that tries a suspect is full."""
        loads = dict.fromkeys(range(len(self._actors)), 0)
        for worker, _ in self._running.values():
            loads[worker] += 1
        return loads | dict.fromkeys(self._tried_alone.values(), _BATCHES_PER_WORKER)

    def _submit(self, worker: int, batch: DocumentBatch) -> None:
        self._running[self._actors[worker].encode.remote(batch)] = worker, batch

    def _finish(self, reference: Any) -> Iterator[int]:
        worker, batch = self._running.pop(reference)
        try:
            number: int = unwrap(lambda: self._ray.get(reference))
        except Exception as error:
            if not is_death(error):
                raise
            self._replace(worker, batch)
        else:
            self._tried_alone.pop(batch.number, None)
            yield number

    def _replace(self, worker: int, batch: DocumentBatch) -> None:
        self._ray.kill(self._actors[worker])
        self._actors[worker] = self._start()
        if self._tried_alone.pop(batch.number, None) is not None:
            self._deaths[batch.number] += 1
            if self._deaths[batch.number] == ATTEMPTS:
                self._failed = batch
                return
        held = [reference for reference, (number, _) in self._running.items() if number == worker]
        self._suspects.extend([batch, *(self._running.pop(reference)[1] for reference in held)])

    def _error(self, batch: DocumentBatch) -> ChildProcessError:
        first = batch.number * self._batch_documents
        docnos = [document.docno for document in batch.documents]
        listed = ", ".join(map(repr, itertools.islice(docnos, _LISTED_DOCNOS)))
        more = f" and {len(docnos) - _LISTED_DOCNOS} more" if len(docnos) > _LISTED_DOCNOS else ""
        error = ChildProcessError(
            f"Batch {batch.number} (positions {first} to {first + len(docnos) - 1}) killed its worker {ATTEMPTS} "
            "times, perhaps for lack of memory; split or drop its longest documents, or encode fewer at a time with "
            f"batch_documents. It holds {listed}{more}."
        )
        if more:
            error.add_note(f"Documents of batch {batch.number}: {docnos}")
        return error
