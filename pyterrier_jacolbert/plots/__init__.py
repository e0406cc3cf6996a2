"""Plots experiments, document lengths, training runs and interpolations between checkpoints.

Each function returns a matplotlib figure, which a notebook displays and ``.savefig(path)`` saves.
"""

from pyterrier_jacolbert.plots.experiments import plot_differences, plot_latency, query_differences
from pyterrier_jacolbert.plots.interpolation import plot_interpolation
from pyterrier_jacolbert.plots.lengths import length_statistics, plot_lengths
from pyterrier_jacolbert.plots.training import plot_training

__all__ = [
    "length_statistics",
    "plot_differences",
    "plot_interpolation",
    "plot_latency",
    "plot_lengths",
    "plot_training",
    "query_differences",
]
