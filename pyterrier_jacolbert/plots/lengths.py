"""Counts and plots the token vectors per document of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from pyterrier_jacolbert.plots.figure import BLUE, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class StoredLengths(Protocol):
    """The part of an index reader that contains the lengths of the documents."""

    @property
    def starts(self) -> np.ndarray:
        """First row of each document, and the number of rows: int64 ``(n_docs + 1,)``."""
        ...

    @property
    def present(self) -> np.ndarray | None:
        """Docids that are not deleted, int64, ascending; None if none is deleted."""
        ...


class StoresLengths(Protocol):
    """An index of token vectors."""

    def token_vectors(self) -> StoredLengths:
        """Returns the stored token vectors."""
        ...


def length_statistics(index: StoresLengths) -> pd.Series[float]:
    """Summarises the number of token vectors per document of an index, without deleted documents.

    Args:
        index: index of token vectors.

    Returns:
        ``documents``, ``without text`` and ``tokens`` (totals), then ``mean``, ``median``, ``95 %`` (the quantile) and
        ``longest`` of the lengths of the documents.
    """
    lengths = _document_lengths(index)
    lengths_or_zero = lengths if len(lengths) else np.zeros(1, dtype=np.int64)
    return pd.Series(
        {
            "documents": float(len(lengths)),
            "without text": float((lengths == 0).sum()),
            "tokens": float(lengths.sum()),
            "mean": float(lengths_or_zero.mean()),
            "median": float(np.median(lengths_or_zero)),
            "95 %": float(np.quantile(lengths_or_zero, 0.95)),
            "longest": float(lengths_or_zero.max()),
        }
    )


def plot_lengths(index: StoresLengths, *, bins: int = 60) -> Figure:
    """Plots a histogram of the token vectors per document of an index, with the median and the 95 % quantile.

    A peak at the right end indicates documents that were truncated at the checkpoint's maximum length; passages
    (:meth:`~pyterrier_jacolbert.JaColBERT.passages`) keep the text that would be lost.

    Args:
        index: index of token vectors.
        bins: maximum number of bins of the histogram.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    statistics = length_statistics(index)
    longest = int(statistics["longest"])
    figure, axes = new_figure(8.0, 3.6)
    step = max(1, -(-(longest + 1) // bins))
    axes.hist(_document_lengths(index), bins=(np.arange(0, longest + step + 1, step) - 0.5).tolist(), color=BLUE)
    for name, style in (("median", "-"), ("95 %", "--")):
        label = f"{name}: {statistics[name]:.0f}"
        axes.axvline(statistics[name], color=ORANGE, linestyle=style, linewidth=1.4, label=label)
    axes.set_xlabel("token vectors per document")
    axes.set_ylabel("documents")
    documents, tokens, without = (int(statistics[name]) for name in ("documents", "tokens", "without text"))
    axes.set_title(f"{documents:,} documents, {tokens:,} vectors, {without:,} without text", loc="left", fontsize=11)
    axes.legend(frameon=False)
    return figure


def _document_lengths(index: StoresLengths) -> np.ndarray:
    """Returns the number of token vectors of each document that is not deleted: int64 ``(n_documents,)``."""
    reader = index.token_vectors()
    lengths = np.diff(reader.starts)
    return lengths if reader.present is None else lengths[reader.present]
