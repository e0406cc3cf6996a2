"""Why a document scored as it did: which of its tokens each query token met, and what that gave to the score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pyterrier_jacolbert.frames import check_text
from pyterrier_jacolbert.tokens import MASK, TEXT, Token, characters_read, document_tokens, query_tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyterrier_jacolbert.encoder import TokenEncoder
    from pyterrier_jacolbert.model import JaColBERT
    from pyterrier_jacolbert.searched import SearchedIndex


@dataclass(frozen=True, eq=False)
class Explanation:
    """The alignment of a query with a document, which in a notebook shows itself.

    Each query position meets the document token that is most like it, and the score is the sum of these similarities
    (MaxSim; Khattab and Zaharia 2020, equation 3).

    Attributes:
        query: the query.
        text: the document's text, title first where the model saw it so.
        query_tokens: the positions of the query, [MASK] positions included.
        document_tokens: the tokens of the document that have a vector.
        similarities: float32 ``(n_query_tokens, n_document_tokens)``, cosines.
        docno: the document's name, where it has one.
        read: how many characters of the text the model took in; the rest was cut.
    """

    query: str
    text: str
    query_tokens: list[Token]
    document_tokens: list[Token]
    similarities: np.ndarray
    docno: str | None = None
    read: int | None = None

    @cached_property
    def best(self) -> np.ndarray:
        """int64 ``(n_query_tokens,)``: the document token that each query token met, -1 where there is none."""
        if not self.similarities.shape[1]:
            return np.full(len(self.similarities), -1)
        best: np.ndarray = self.similarities.argmax(axis=1)
        return best

    @cached_property
    def contributions(self) -> np.ndarray:
        """float32 ``(n_query_tokens,)``: what each gave to the score; -1 where the document has no token."""
        return contributions(self.similarities)

    @property
    def score(self) -> float:
        """The sum of the contributions."""
        return float(self.contributions.sum(dtype=np.float64))

    def of_kind(self, *kinds: str) -> np.ndarray:
        """Tells which query tokens are of some kinds.

        Args:
            kinds: of ``"text"``, ``"marker"``, ``"mask"``.

        Returns:
            bool ``(n_query_tokens,)``.
        """
        return np.array([token.kind in kinds for token in self.query_tokens], dtype=bool)

    def received(self, *kinds: str) -> np.ndarray:
        """Adds up what each document token got from the query tokens of some kinds.

        Args:
            kinds: ``"text"``, ``"marker"``, ``"mask"``; the sum over all three and all tokens is the score, but where
                the document has none.

        Returns:
            float32 ``(n_document_tokens,)``.
        """
        sums = np.zeros(len(self.document_tokens), dtype=np.float32)
        chosen = self.of_kind(*kinds) & (self.best >= 0)
        np.add.at(sums, self.best[chosen], self.contributions[chosen])
        return sums

    def to_frame(self) -> pd.DataFrame:
        """The alignment as a table, one row a query token in the query's order.

        Returns:
            ``query_token`` as the query spells it, ``query_piece`` as the vocabulary does, ``kind`` (``"text"``;
            ``"marker"`` for [CLS], [SEP] and what the model puts before a query; ``"mask"``), ``document_token``,
            ``document_piece`` and the characters ``document_start`` to ``document_end`` (None and 0 where the document
            has no token), ``similarity``, which is the contribution, and ``share``, its part of the score.
        """
        met = [self.document_tokens[number] if number >= 0 else None for number in self.best.tolist()]
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = self.contributions / np.float32(self.score)
        return pd.DataFrame(
            {
                "query_token": [token.spelling for token in self.query_tokens],
                "query_piece": [token.piece for token in self.query_tokens],
                "kind": [token.kind for token in self.query_tokens],
                "document_token": [token.spelling if token else None for token in met],
                "document_piece": [token.piece if token else None for token in met],
                "document_start": [token.start if token else 0 for token in met],
                "document_end": [token.end if token else 0 for token in met],
                "similarity": self.contributions,
                "share": shares,
            }
        )

    def plot(self, *, special: bool = False, most: int = 60) -> Figure:
        """The similarities as a heat map: query tokens down, document tokens across, the best of each row framed.

        Args:
            special: whether to show, beside the query's own words, [CLS], [SEP], what the model puts before a query,
                and [MASK] positions.
            most: where the document has more tokens than this, only those that a shown query token met, and their
                neighbours, are shown.

        Returns:
            A matplotlib figure, which a notebook shows and ``.savefig("why.png")`` keeps.

        Raises:
            ImportError: matplotlib or a font with Japanese characters is not installed.
        """
        from pyterrier_jacolbert.plots import plot_similarities

        return plot_similarities(self, special=special, most=most)

    def _repr_html_(self) -> str:
        from pyterrier_jacolbert.explain_html import to_html

        return to_html(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.of_kind(kind).sum()} {name}" for kind, name in ((TEXT, "words"), (MASK, "[MASK]")))
        return f"<Explanation of {self.query!r} and {self.docno or self.text[:20]!r}: score {self.score:.4f}, {counts}>"


def contributions(similarities: np.ndarray) -> np.ndarray:
    """What each query token gives to the score: float32 ``(n_query_tokens,)``.

    Args:
        similarities: float32 ``(n_query_tokens, n_document_tokens)``; without a document token each gives -1, the least
            that there is, as the re-rankers have it.
    """
    if not similarities.shape[1]:
        return np.full(len(similarities), -1, dtype=np.float32)
    best: np.ndarray = similarities.max(axis=1).astype(np.float32, copy=False)
    return best


def explain_text(model: JaColBERT, query: str, text: str) -> Explanation:
    """Explains the score that ``model.text_scorer()`` gives.

    Args:
        model: encodes both.
        query: a query.
        text: a document's text; put its title before it, with a space between, if the scorer did.

    Raises:
        ValueError: the query or text is not a string or holds a lone surrogate; or the checkpoint's vectors do not
            stand for one token each.
    """
    check_text(query, "query")
    text = _something(check_text(text, "text"))
    rows = model.encode_documents([text])[0]
    return _explanation(model.encoder, query, model.encode_queries([query])[0], text, rows, None, repr(model))


def explain_stored(index: SearchedIndex, query: str, docno: str, text: str | None) -> Explanation:
    """Explains the score that the retrievers and the scorer of an index give: with the vectors that it stores.

    Args:
        index: the index.
        query: a query.
        docno: of a document of the index.
        text: its text as it was indexed, title first; None takes what the index stores.

    Raises:
        ValueError: the index does not have the document, or holds no text and none is given, or the text is not the
            one that was indexed; the query or text is not a string.
    """
    check_text(query, "query")
    stored = index.token_vectors()
    docid = int(stored.docnos.known_docids([docno], owner=repr(index))[0])
    if text is None:
        if stored.texts is None:
            raise ValueError(
                f"{index!r} holds no text to show; build it with store_text=True, or give the text of {docno!r}: "
                "index.explain(query, docno, text=...)."
            )
        text = stored.text(docid)
    text = _something(check_text(text, f"text of docno {docno!r}"))
    if index.meta()["settings"]["pool_factor"] not in (None, 1):
        raise ValueError(
            f"{index!r} was built with pool_factor={index.meta()['settings']['pool_factor']:g}, so its vectors stand "
            "for several tokens each; explain from the text, with index.model.explain(query, text)."
        )
    rows = stored.rows(docid, docid + 1)
    vectors = index.encode_queries([query])[0]
    return _explanation(index.model.encoder, query, vectors, text, rows, docno, repr(index))


def _something(text: str) -> str:
    """The text; "" where there is nothing to read, for such a document has no vectors."""
    return text if text.strip() else ""


def _explanation(
    encoder: TokenEncoder, query: str, vectors: np.ndarray, text: str, rows: np.ndarray, docno: str | None, owner: str
) -> Explanation:
    asked, found = query_tokens(encoder, query), document_tokens(encoder, text)
    if len(found) != len(rows):
        name = "This text" if docno is None else f"The text of {docno!r}"
        raise ValueError(
            f"{name} has {len(found)} tokens and {owner} has {len(rows)} vectors for it, so they cannot be told apart; "
            "give the text as it was indexed, title first, with the checkpoint that built the index."
        )
    similarities = vectors @ rows.T if len(rows) else np.empty((len(vectors), 0), dtype=np.float32)
    return Explanation(query, text, asked, found, similarities, docno, characters_read(encoder, text))


def frame_contributions(
    queries: list[np.ndarray], query_codes: np.ndarray, documents: Any, document_codes: np.ndarray
) -> list[np.ndarray]:
    """The contributions of many pairs.

    Args:
        queries: for each float32 ``(n_query_tokens, dim)``.
        query_codes: int64 ``(n_pairs,)``.
        documents: gives float32 ``(n_tokens, dim)`` for a document's number.
        document_codes: int64 ``(n_pairs,)``.

    Returns:
        For each pair float32 ``(n_query_tokens,)``.
    """
    found: list[np.ndarray] = [np.empty(0)] * len(query_codes)
    order = np.argsort(document_codes, kind="stable")
    last, rows = None, np.empty((0, 0), dtype=np.float32)
    for pair in order.tolist():
        if document_codes[pair] != last:
            last = document_codes[pair]
            rows = documents(int(last))
        query = queries[query_codes[pair]]
        found[pair] = contributions(query @ rows.T if len(rows) else np.empty((len(query), 0), dtype=np.float32))
    return found
