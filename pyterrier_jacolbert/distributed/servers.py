"""ShardServers: the processes of a Ray cluster that hold the shards of an index."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pyterrier_jacolbert.distributed.connection import RESTARTED, import_ray, unwrap
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.storage.atomic import json_digest


@dataclass
class Answers:
    """The answers of several processes.

    Attributes:
        answers: of the processes that answered.
        missing_shards: shards of the others.
        reason: why a process did not answer; None if it was too slow.
    """

    answers: list[Any]
    missing_shards: list[int] = field(default_factory=list)
    reason: Exception | None = None


class ShardServers:
    """The processes that hold an index, shared by all retrievers of this process. They end when no retriever is left.

    Args:
        reader: of the index, in this process.
        path: of the index, on every machine.
        assigned: shards of each process.
        options: Ray's options of each process.
    """

    _shared: ClassVar[weakref.WeakValueDictionary[tuple[Any, ...], ShardServers]] = weakref.WeakValueDictionary()

    def __init__(self, reader: IndexReader, path: Path, assigned: list[list[int]], options: dict[str, Any]) -> None:
        self.reader = reader
        self._ray = import_ray()
        self._path = str(path)
        self._assigned = assigned
        self._options = options
        self._actors = [self._start(shards) for shards in assigned]

    @classmethod
    def of(cls, reader: IndexReader, path: Path, count: int | None, options: dict[str, Any]) -> ShardServers:
        """Returns the running processes of an index, or starts them.

        Args:
            reader: of the index.
            path: of the index, on every machine.
            count: number of processes; None starts one per shard.
            options: Ray's options of each process.
        """
        shards = len(reader.manifest.shards)
        count = min(count or shards, shards)
        key = (path, json_digest(reader.manifest.to_json()), count, *options.values())
        servers = cls._shared.get(key)
        if servers is None:
            assigned = [list(range(first, shards, count)) for first in range(count)]
            servers = cls._shared[key] = cls(reader, path, assigned, options)
        return servers

    def put(self, value: Any) -> Any:
        """Sends a value once, for all processes to read."""
        return self._ray.put(value)

    def ask(self, method: str, arguments: Sequence[Any], timeout: float) -> Answers:
        """Calls a method of every process; calls it again on processes that had to be replaced.

        Args:
            method: of :class:`~pyterrier_jacolbert.distributed.server.ShardServer`.
            arguments: of the method.
            timeout: seconds to wait.
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
            replaced = False
            for number, reference in asked.items():
                try:
                    if reference in ready:
                        answers[number] = unwrap(functools.partial(self._ray.get, reference))
                except errors.RayActorError as error:
                    reason = error
                    replaced = True
                    self._actors[number] = self._start(self._assigned[number])
                except Exception as error:  # the other processes may still answer
                    reason = error
            if not replaced:
                break
        missing = [shard for number, shards in enumerate(self._assigned) if number not in answers for shard in shards]
        return Answers(list(answers.values()), missing, reason)

    def _start(self, shards: list[int]) -> Any:
        from pyterrier_jacolbert.distributed.server import ShardServer  # loads the kernels

        server = self._ray.remote(ShardServer).options(scheduling_strategy="SPREAD", **self._options, **RESTARTED)
        return server.remote(self._path, shards, bool(self._options["num_gpus"]))
