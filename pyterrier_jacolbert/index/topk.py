"""The best documents by score, the same ones every time."""

from __future__ import annotations

import numpy as np


def top_k(scores: np.ndarray, k: int, tie_ranks: np.ndarray) -> np.ndarray:
    """The positions of the ``k`` greatest finite scores, best first; ties by greater ``tie_ranks``, at the cut too.

    Returns:
        int64 ``(min(k, n_finite),)``.
    """
    candidates = np.flatnonzero(np.isfinite(scores))
    if len(candidates) > k:
        finite = scores[candidates]
        threshold = np.partition(finite, len(finite) - k)[len(finite) - k]
        candidates = candidates[finite >= threshold]
    order = np.lexsort((-tie_ranks[candidates].astype(np.int64), -scores[candidates]))
    return candidates[order[:k]]
