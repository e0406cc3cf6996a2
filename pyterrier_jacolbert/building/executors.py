"""Executors: where the work of a sharded build runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pyterrier_jacolbert.building.batches import BatchEncoder, DocumentBatch


class Executor(Protocol):
    """Runs the work of a sharded build."""

    @property
    def documents_per_shard(self) -> int:
        """Number of documents in each shard but the last; a multiple of the indexer's ``batch_documents``."""
        ...

    def encode(self, encoder: BatchEncoder, batches: Iterator[DocumentBatch]) -> Generator[int, None, None]:
        """Calls the encoder with every batch and yields what it returns, in any order."""
        ...

    def start(self, function: Callable[..., Any], *arguments: Any, light: bool = False) -> Callable[[], Any]:
        """Starts a call and returns a function that waits for its result. ``light`` calls only read and write files."""
        ...


@dataclass(frozen=True)
class SerialExecutor:
    """Runs all work in this process, one step after the other.

    Args:
        documents_per_shard: number of documents in each shard but the last; a multiple of the indexer's
            ``batch_documents``.
    """

    documents_per_shard: int = 2**18

    def encode(self, encoder: BatchEncoder, batches: Iterator[DocumentBatch]) -> Generator[int, None, None]:
        """Encodes batches one by one.

        Args:
            encoder: called with each batch.
            batches: of documents.

        Yields:
            What the encoder returns for each batch.
        """
        yield from map(encoder, batches)

    def start(self, function: Callable[..., Any], *arguments: Any, light: bool = False) -> Callable[[], Any]:
        """Calls a function.

        Args:
            function: to call.
            *arguments: of the function.
            light: ignored.

        Returns:
            A function that returns the result.
        """
        result = function(*arguments)
        return lambda: result
