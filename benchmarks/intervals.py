"""Confidence intervals of the difference between two systems."""

from __future__ import annotations

import numpy as np

_DRAWS = 10_000


def mean_with_interval(differences: np.ndarray) -> str:
    """Formats the mean of per-question differences with its 95 % interval (bootstrap, 10,000 draws of questions)."""
    means = np.random.default_rng(0).choice(differences, (_DRAWS, len(differences))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{differences.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
