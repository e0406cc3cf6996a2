"""Open indexes end to end, read and searched as if they were one.

The shards of a collection share their codec, so a document scores the same wherever it stands, and a search of all has
the ranking, to the last bit, of one index that holds them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.coded_lanes import CodedLane, Prepared
from pyterrier_jacolbert.index.docnos import Docnos
from pyterrier_jacolbert.index.files import map_array
from pyterrier_jacolbert.index.lanes import FloatLane, Lane
from pyterrier_jacolbert.index.stored import Stored
from pyterrier_jacolbert.index.threads import Each


class Joined:
    """Arrays end to end, of which rows are read; nothing is copied before.

    Args:
        parts: of one dtype and row shape, at least one.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = parts
        self._bounds = bounds_of([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def __getitem__(self, rows: Any) -> np.ndarray:  # noqa: ANN401 (a slice, or numbers)
        if isinstance(rows, slice):
            first, end, step = rows.indices(len(self))
            if step == 1:
                return self._run(first, end)
            rows = np.arange(first, end, step)
        rows = np.asarray(rows)
        found = np.empty((len(rows), *self._parts[0].shape[1:]), dtype=self._parts[0].dtype)
        for number, places in by_owner(self._bounds, rows):
            found[places] = self._parts[number][rows[places] - self._bounds[number]]
        return found

    def _run(self, first: int, end: int) -> np.ndarray:
        owner = int(np.searchsorted(self._bounds, first, side="right")) - 1
        if first >= end or end <= self._bounds[owner + 1]:
            owner = min(owner, len(self._parts) - 1)
            return self._parts[owner][first - self._bounds[owner] : max(first, end) - self._bounds[owner]]
        runs = [
            part[max(0, first - low) : max(0, end - low)]
            for part, low, high in zip(self._parts, self._bounds[:-1], self._bounds[1:], strict=True)
            if low < end and high > first
        ]
        return np.concatenate(runs)


class StoredShards(Stored):
    """The shards of an index, open. They are coded alike, with the same parameters.

    Memory: 16 bytes a document, besides what is mapped.

    Args:
        directory: the folder of the whole.
        meta: its manifest, with the tables that find and sort the docnos of all.
        parts: the shards, in order.

    Raises:
        ValueError: the shards hold other documents than the manifest says.
    """

    def __init__(self, directory: Path, meta: Mapping[str, Any], parts: Sequence[Stored]) -> None:
        self.meta = meta
        self.parts = list(parts)
        self.parameters = parts[0].parameters
        self.codec = parts[0].codec
        #: int64 ``(n_shards + 1,)``: shard ``i`` holds the docids from ``bounds[i]`` on, below ``bounds[i + 1]``.
        self.bounds = bounds_of([len(part) for part in parts])
        self.columns: Any = {name: Joined([part.columns[name] for part in parts]) for name in parts[0].columns}
        self.starts = _joined_starts([part.starts for part in parts])
        files = dict(meta["files"])
        gone = [map_array(directory, files["deleted"])] if "deleted" in files else []
        gone += [part.deleted + np.uint32(first) for part, first in zip(parts, self.bounds, strict=False)]
        self.deleted = np.unique(np.concatenate(gone)).astype(np.uint32)
        self.docnos = Docnos(directory, files, self.deleted, self.names(parts))
        if len(self.docnos) != len(self):
            raise ValueError(
                f"{directory} names {len(self.docnos)} documents and its shards hold {len(self)}, so the index is "
                "damaged; build it again, or fetch it again."
            )
        self.texts: Any = None
        texts = [part.texts for part in parts if part.texts is not None]
        if len(texts) == len(parts):
            self.texts = Joined([content for content, _ in texts]), _joined_starts([starts for _, starts in texts])

    @staticmethod
    def names(parts: Sequence[Stored]) -> tuple[Any, np.ndarray]:
        """The docnos of shards, as :attr:`Docnos.arrays` has them."""
        names = [part.docnos.arrays for part in parts]
        return Joined([encoded for encoded, _ in names]), _joined_starts([starts for _, starts in names])

    @cached_property
    def lane(self) -> Lane:
        """The documents as the search scores them."""
        if isinstance(self.parts[0].lane, CodedLane):
            return ShardedLane(self.parts, self.starts, self.bounds)
        return FloatLane(self)


class ShardedLane(CodedLane):
    """The lanes of shards as one. A shard's is made when a document of it is first scored.

    Args:
        parts: the shards, whose lanes are coded, alike.
        starts: int64 ``(n_docs + 1,)``, of all.
        bounds: int64 ``(n_shards + 1,)``, in docids.
    """

    def __init__(self, parts: Sequence[Stored], starts: np.ndarray, bounds: np.ndarray) -> None:
        super().__init__(starts)
        self._parts = parts
        self._bounds = bounds

    @property
    def has_centroids(self) -> bool:
        """Whether documents can be scored roughly."""
        return self._lane(0).has_centroids

    def prepare(self, query: np.ndarray, each: Each = map) -> Prepared:
        """As :class:`CodedLane` says."""
        return self._lane(0).prepare(query, each)

    def score(self, query: Prepared, docids: np.ndarray, out: np.ndarray) -> None:
        """As :class:`CodedLane` says."""
        self._by_shard(lambda lane, local, part: lane.score(query, local, part), docids, out)

    def score_roughly(self, table: np.ndarray, docids: np.ndarray, out: np.ndarray) -> None:
        """As :class:`CodedLane` says."""
        self._by_shard(lambda lane, local, part: lane.score_roughly(table, local, part), docids, out)

    def probed(self, centroids: np.ndarray, docids: np.ndarray) -> np.ndarray:
        """As :class:`CodedLane` says."""
        found = [np.empty(0, dtype=np.int64)]
        for number, places in by_owner(self._bounds, docids):
            first = self._bounds[number]
            found.append(self._lane(number).probed(centroids, docids[places] - first) + first)
        return np.concatenate(found)

    def _by_shard(
        self, score: Callable[[CodedLane, np.ndarray, np.ndarray], None], docids: np.ndarray, out: np.ndarray
    ) -> None:
        for number, places in by_owner(self._bounds, docids):
            local = docids[places] - self._bounds[number]
            part = np.empty(len(local), dtype=out.dtype)
            score(self._lane(number), local, part)
            out[places] = part

    def _lane(self, number: int) -> CodedLane:
        lane = self._parts[number].lane
        assert isinstance(lane, CodedLane)
        return lane


def bounds_of(lengths: Sequence[int]) -> np.ndarray:
    """Where each of several pieces starts that stand end to end, and where the last ends: int64 ``(n + 1,)``."""
    bounds = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds


def by_owner(bounds: np.ndarray, numbers: np.ndarray) -> list[tuple[int, slice | np.ndarray]]:
    """For each piece that any of the numbers lie in: the piece, and where those numbers stand, int64, ascending."""
    if len(numbers) > 1 and (numbers[1:] > numbers[:-1]).all():
        cuts = np.searchsorted(numbers, bounds)
        return [
            (piece, slice(first, end))
            for piece, (first, end) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
            if first < end
        ]
    owners = np.searchsorted(bounds, numbers, side="right") - 1
    return [(int(owner), np.flatnonzero(owners == owner)) for owner in np.unique(owners)]


def _joined_starts(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of where pieces start, as one: int64 ``(n + 1,)``."""
    firsts = bounds_of([int(starts[-1]) for starts in parts])
    return np.concatenate(
        [np.zeros(1, dtype=np.int64), *(starts[1:] + first for starts, first in zip(parts, firsts, strict=False))]
    )
