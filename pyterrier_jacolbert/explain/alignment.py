"""The alignment of a query with a document: the tokens, their similarities and what each contributes to the score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pyterrier_jacolbert.encoding.token_offsets import MASK, TEXT, Token
from pyterrier_jacolbert.index.search.contributions import contributions
from pyterrier_jacolbert.index.threads import cached_attribute


@dataclass(frozen=True, eq=False)
class Alignment:
    """The data of an :class:`~pyterrier_jacolbert.explain.Explanation`, which documents the attributes.

    The renderers work on this class, so that they need not import the class that calls them.
    """

    query: str
    text: str
    query_tokens: list[Token]
    document_tokens: list[Token]
    similarities: np.ndarray
    docno: str | None = None
    read: int | None = None

    @cached_attribute
    def best(self) -> np.ndarray:
        """Document token that each query token matches, int64 ``(n_query_tokens,)``; -1 if the document has none."""
        if not self.similarities.shape[1]:
            return np.full(len(self.similarities), -1)
        best: np.ndarray = self.similarities.argmax(axis=1)
        return best

    @cached_attribute
    def contributions(self) -> np.ndarray:
        """Contribution of each query token to the score, float32 ``(n_query_tokens,)``; -1 if the document has none."""
        return contributions(self.similarities)

    @property
    def score(self) -> float:
        """Score of the document: the sum of the contributions."""
        return float(self.contributions.sum(dtype=np.float64))

    def of_kind(self, *kinds: str) -> np.ndarray:
        """Tells which query tokens are of the given kinds.

        Args:
            *kinds: ``"text"``, ``"marker"`` or ``"mask"``.

        Returns:
            bool ``(n_query_tokens,)``.
        """
        return np.array([token.kind in kinds for token in self.query_tokens], dtype=bool)

    def received(self, *kinds: str) -> np.ndarray:
        """Sums the contributions that each document token receives from the query tokens of the given kinds.

        Args:
            *kinds: ``"text"``, ``"marker"`` or ``"mask"``. With all three, the sum over the document tokens is the
                score, unless the document has no tokens.

        Returns:
            float32 ``(n_document_tokens,)``.
        """
        sums = np.zeros(len(self.document_tokens), dtype=np.float32)
        selected = self.of_kind(*kinds) & (self.best >= 0)
        np.add.at(sums, self.best[selected], self.contributions[selected])
        return sums

    def to_frame(self) -> pd.DataFrame:
        """Returns the alignment as a table with one row per query token, in the order of the query.

        Returns:
            The columns ``query_token`` (as the query spells it), ``query_piece`` (as the vocabulary spells it),
            ``kind`` (``"text"``; ``"marker"`` for [CLS], [SEP] and the prompt that the model puts before a query;
            ``"mask"``), ``document_token``, ``document_piece``, the characters ``document_start`` to ``document_end``
            (None and 0 if the document has no tokens), ``similarity`` (the contribution) and ``share`` (its share of
            the score).
        """
        matches = [self.document_tokens[number] if number >= 0 else None for number in self.best.tolist()]
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = self.contributions / np.float32(self.score)
        return pd.DataFrame(
            {
                "query_token": [token.spelling for token in self.query_tokens],
                "query_piece": [token.piece for token in self.query_tokens],
                "kind": [token.kind for token in self.query_tokens],
                "document_token": [token.spelling if token else None for token in matches],
                "document_piece": [token.piece if token else None for token in matches],
                "document_start": [token.start if token else 0 for token in matches],
                "document_end": [token.end if token else 0 for token in matches],
                "similarity": self.contributions,
                "share": shares,
            }
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.of_kind(kind).sum()} {name}" for kind, name in ((TEXT, "words"), (MASK, "[MASK]")))
        name = type(self).__name__
        return f"<{name} of {self.query!r} and {self.docno or self.text[:20]!r}: score {self.score:.4f}, {counts}>"
