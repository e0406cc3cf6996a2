"""Deterministic selection of the best documents by score."""

from __future__ import annotations

import numpy as np


def top_k(scores: np.ndarray, k: int, tie_ranks: np.ndarray) -> np.ndarray:
    """Returns the positions of the ``k`` greatest finite scores, best first.

    Among equal scores the greater ``tie_ranks`` come first, also at the cut.

    Returns:
        int64 ``(min(k, n_finite),)``.
    """
    candidates = np.flatnonzero(np.isfinite(scores))
    candidates = candidates[at_least_kth(scores[candidates], k)]
    order = np.lexsort((-tie_ranks[candidates].astype(np.int64), -scores[candidates]))
    return candidates[order[:k]]


def at_least_kth(scores: np.ndarray, k: int) -> np.ndarray | slice:
    """Returns an index that selects the scores that are not below the ``k``-th greatest, ties included."""
    if len(scores) <= k:
        return slice(None)
    selected: np.ndarray = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
    return selected
