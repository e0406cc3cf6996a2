"""The explanation of a score, which a notebook displays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyterrier_jacolbert.explain.alignment import Alignment
from pyterrier_jacolbert.explain.heatmap import plot_similarities
from pyterrier_jacolbert.explain.html import to_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Alignment):
    """The alignment of a query with a document, which a notebook displays as shaded text.

    Each query position matches the document token most similar to it, and the score is the sum of these similarities
    (MaxSim; Khattab and Zaharia 2020, equation 3).

    Attributes:
        query: query.
        text: text of the document, preceded by its title if the model read both.
        query_tokens: positions of the query, [MASK] positions included.
        document_tokens: tokens of the document that have a vector.
        similarities: cosines, float32 ``(n_query_tokens, n_document_tokens)``.
        docno: name of the document, or None if it is unknown.
        read: number of characters of the text that the model read before truncation.
    """

    def plot(self, *, special: bool = False, most: int = 60) -> Figure:
        """Plots the similarities as a heat map: one row per query token and one column per document token.

        A frame marks the best match of each row.

        Args:
            special: whether to show [CLS], [SEP], the prompt that the model puts before a query, and [MASK] positions
                beside the query's own words.
            most: maximum number of document tokens to show in full; of a longer document, the heat map shows only the
                tokens that a shown query token matches, and their neighbours.

        Returns:
            A matplotlib figure, which a notebook displays and ``.savefig("why.png")`` saves.

        Raises:
            ImportError: matplotlib or a font with Japanese characters is not installed.
            ValueError: the document has no tokens.
        """
        return plot_similarities(self, special=special, most=most)

    def _repr_html_(self) -> str:
        return to_html(self)
