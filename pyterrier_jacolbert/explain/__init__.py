"""Explains scores: the document token that each query token matched, as data, HTML or a heat map."""

from pyterrier_jacolbert.explain.explanation import Explanation
from pyterrier_jacolbert.explain.heatmap import plot_similarities

__all__ = ["Explanation", "plot_similarities"]
