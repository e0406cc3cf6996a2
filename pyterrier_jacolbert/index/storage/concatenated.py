"""Arrays read end to end as one, without copying."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class ConcatenatedArray:
    """Several arrays, indexed as their concatenation. Only the rows that are read are copied.

    Args:
        parts: at least one array, all of the same dtype and row shape.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = parts
        self._bounds = bounds_of([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            first, end, step = rows.indices(len(self))
            if step == 1:
                return self._slice(first, end)
            rows = np.arange(first, end, step)
        rows = np.asarray(rows)
        found = np.empty((len(rows), *self._parts[0].shape[1:]), dtype=self._parts[0].dtype)
        for number, positions in positions_by_part(self._bounds, rows):
            found[positions] = self._parts[number][rows[positions] - self._bounds[number]]
        return found

    def _slice(self, first: int, end: int) -> np.ndarray:
        part = int(np.searchsorted(self._bounds, first, side="right")) - 1
        if first >= end or end <= self._bounds[part + 1]:
            part = min(part, len(self._parts) - 1)
            return self._parts[part][first - self._bounds[part] : max(first, end) - self._bounds[part]]
        slices = [
            rows[max(0, first - low) : max(0, end - low)]
            for rows, low, high in zip(self._parts, self._bounds[:-1], self._bounds[1:], strict=True)
            if low < end and high > first
        ]
        return np.concatenate(slices)


def bounds_of(lengths: Sequence[int]) -> np.ndarray:
    """Returns where each of several concatenated parts starts, and where the last ends: int64 ``(n + 1,)``."""
    bounds = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds


def positions_by_part(bounds: np.ndarray, numbers: np.ndarray) -> list[tuple[int, slice | np.ndarray]]:
    """Groups row numbers of a concatenation by the part that they fall in.

    Args:
        bounds: int64 ``(n_parts + 1,)``; see :func:`bounds_of`.
        numbers: int64 ``(n,)``.

    Returns:
        Each part with rows among the numbers, ascending, and the positions of its rows in ``numbers``, ascending.
    """
    if len(numbers) > 1 and (numbers[1:] > numbers[:-1]).all():
        cuts = np.searchsorted(numbers, bounds)
        return [
            (part, slice(first, end))
            for part, (first, end) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
            if first < end
        ]
    parts = np.searchsorted(bounds, numbers, side="right") - 1
    return [(int(part), np.flatnonzero(parts == part)) for part in np.unique(parts)]


def concatenate_starts(starts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenates arrays of starts, each ``(n_i + 1,)`` from 0, to one: int64 ``(n + 1,)``."""
    firsts = bounds_of([int(part[-1]) for part in starts])
    return np.concatenate(
        [np.zeros(1, dtype=np.int64), *(part[1:] + first for part, first in zip(starts, firsts, strict=False))]
    )
