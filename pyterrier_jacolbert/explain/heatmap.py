"""Plots the similarities of query and document tokens as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyterrier_jacolbert.encoding.token_offsets import TEXT, Token
from pyterrier_jacolbert.explain.alignment import Alignment
from pyterrier_jacolbert.plots.figure import new_figure, set_fonts
from pyterrier_jacolbert.plots.fonts import drawable, japanese_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Maximum number of characters of the query in the title.
_TITLE_CHARACTERS = 44


def plot_similarities(explanation: Alignment, *, special: bool = False, most: int = 60) -> Figure:
    """Plots the similarities of query and document tokens as a heat map, with the best match of each row framed.

    Args:
        explanation: alignment of a query with a document.
        special: whether to show [CLS], [SEP], the prompt that the model puts before a query, and [MASK] positions
            beside the query's own words.
        most: maximum number of document tokens to show in full; of a longer document, the heat map shows only the
            tokens that a shown query token matches, and their neighbours.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib or a font with Japanese characters is not installed.
        ValueError: the document has no tokens.
    """
    if not explanation.document_tokens:
        raise ValueError(f"There is nothing to plot: the document of {explanation!r} has no text; choose another.")
    rows = np.flatnonzero(explanation.of_kind(TEXT))
    if special or not len(rows):
        rows = np.arange(len(explanation.query_tokens))
    columns = select_columns(explanation.best[rows], len(explanation.document_tokens), most)
    matrix = np.full((len(rows), len(columns)), np.nan, dtype=np.float32)
    shown = columns >= 0
    matrix[:, shown] = explanation.similarities[np.ix_(rows, columns[shown])]
    fonts, draw = japanese_fonts(), drawable()
    figure, axes = new_figure(max(4.0, 0.27 * len(columns) + 2.6), max(2.2, 0.3 * len(rows) + 1.7))
    image = axes.imshow(matrix, cmap="YlOrBr", aspect="auto", vmin=float(np.nanmin(matrix)), vmax=1.0)
    _frame_matches(axes, (explanation.best[rows, None] == columns).argmax(axis=1))
    axes.set_yticks(range(len(rows)), [draw(_label(explanation.query_tokens[row])) for row in rows.tolist()])
    labels = [draw(_label(explanation.document_tokens[column])) if column >= 0 else "…" for column in columns.tolist()]
    axes.set_xticks(range(len(columns)), [_stack(label) for label in labels])
    for text in axes.get_xticklabels():
        # Japanese labels are upright, one character below the other; all others are rotated.
        text.set_rotation(0 if "\n" in text.get_text() or len(text.get_text()) == 1 else 90)
    axes.set_title(draw(explanation.query[:_TITLE_CHARACTERS]), loc="left", fontsize=11)
    figure.colorbar(image, ax=axes, label="cosine", fraction=0.03, pad=0.02)
    axes.tick_params(length=0)
    set_fonts(axes, fonts)
    return figure


def select_columns(best: np.ndarray, count: int, most: int) -> np.ndarray:
    """Selects the document tokens to show: matches first, then as many of their neighbours as fit.

    Args:
        best: int64 ``(n_rows,)``, the document token that each row matches.
        count: number of document tokens.
        most: maximum number of document tokens to show, unless the matches alone exceed it.

    Returns:
        Numbers of document tokens in ascending order, with -1 between two that are not adjacent.
    """
    if count <= most:
        return np.arange(count)
    matches = np.unique(best)
    selected = matches
    for distance in range(1, most):
        nearby = np.unique(np.clip(matches[:, None] + np.arange(-distance, distance + 1), 0, count - 1))
        if len(nearby) > most:
            break
        selected = nearby
    gaps = np.flatnonzero(np.diff(selected) > 1) + 1
    return np.insert(selected, gaps, -1)


def _frame_matches(axes: Axes, columns: np.ndarray) -> None:
    """Draws a frame around one cell of each row."""
    from matplotlib.patches import Rectangle

    for row, column in enumerate(columns.tolist()):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#1f2328", linewidth=1.4))


def _label(token: Token) -> str:
    return token.spelling.strip() or "␣"


def _stack(label: str) -> str:
    """Puts the characters of a Japanese label on lines of their own."""
    return "\n".join(label) if all(ord(character) > 0x2E7F for character in label) else label
