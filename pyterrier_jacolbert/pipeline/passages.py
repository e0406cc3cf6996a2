"""Passages as a transformer: documents in, passages of whole sentences out, each short enough for the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pyterrier as pt
from tqdm.auto import tqdm

from pyterrier_jacolbert.columns import DOCNO, TEXT, check_column, check_ids, check_titles
from pyterrier_jacolbert.japanese.sentences import cut_passages
from pyterrier_jacolbert.pipeline.base import SettingsTransformer
from pyterrier_jacolbert.pipeline.frames import naming_nearest
from pyterrier_jacolbert.pipeline.protocols import Model

if TYPE_CHECKING:
    from pyterrier_jacolbert.encoding.encoder import TokenEncoder

#: Separates the docno of a document from the number of its passage; pt.text.max_passage() splits there.
_SEPARATOR = "%p"
#: Smallest limit on the tokens of a passage.
_MIN_LENGTH = 8


class JapanesePassages(SettingsTransformer):
    """Splits long documents into passages of whole sentences, each short enough for the model.

    ``pt.text.sliding`` splits at spaces, which Japanese text does not have. ``pt.text.max_passage()`` is the inverse:
    it gives each document the score of its best passage. To re-rank long documents, and to index and retrieve them by
    passages::

        reranker = bm25 >> pt.text.get_text(data) >> model.passages() >> model.text_scorer() >> pt.text.max_passage()

        index = (model.passages() >> JaColBERTIndexer("long.jacolbert", model)).index(docs)
        retriever = index.retriever() >> pt.text.max_passage()

    Passages keep the spelling of their document. Their tokens are counted after the normalisation that
    :func:`~pyterrier_jacolbert.japanese.normalize` describes, as when a passage is encoded.

    Args:
        model: counts tokens with its own tokenizer, and limits them to its ``max_document_length`` (300 for
            JaColBERTv2.5); no passage has more.
        length: maximum number of tokens of a passage, without special tokens and what is prepended; None takes as many
            as the model leaves.
        stride: maximum number of tokens from the start of a passage to the start of the next; None takes ``length``.
            With ``stride >= length`` passages do not overlap, and with ``prepend=None`` they concatenate to the text.
        prepend: column put before each passage, with a space between, unless it is missing or blank (a title longer
            than half the model's length is cut there); None prepends nothing.
        text_field: column with the text.

    Raises:
        ValueError: ``length`` is less than 8, or ``stride`` less than 1.
    """

    schematic: dict[str, Any] = {"label": "Japanese Passages", "help_url": None}

    def __init__(
        self,
        model: Model,
        *,
        length: int | None = None,
        stride: int | None = None,
        prepend: str | None = "title",
        text_field: str = TEXT,
    ) -> None:
        for name, number, smallest in (("length", length, _MIN_LENGTH), ("stride", stride, 1)):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < smallest):
                raise ValueError(f"{name} must be a number of tokens ({smallest} or more) or None, not {number!r}.")
        self.model = model
        self.length = length
        self.stride = stride
        self.prepend = prepend
        self.text_field = text_field

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Splits the document of each row into passages named ``DOCNO%p0``, ``DOCNO%p1`` and so on.

        Args:
            inp: a frame with ``docno`` and the text, with or without queries.

        Returns:
            One row per passage, in the order of the text. A document without text stays, as one passage. The prepended
            column is removed, as in ``pt.text.sliding``; the others are those of the document, score and rank included.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: a docno, text or title is not a string, or a docno contains "%p".
        """
        fields = [field for field in (self.prepend, self.text_field) if field]
        with naming_nearest(inp, *fields), pt.validate.any(inp, context=self) as allowed:
            allowed.document_frame(fields, mode="documents")
            allowed.result_frame(fields, mode="results")
        kept = inp.drop(columns=[self.prepend]) if self.prepend else inp
        if inp.empty:
            return kept.reset_index(drop=True)
        check_ids(inp, DOCNO)
        _check_docnos(inp[DOCNO])
        texts = check_column(inp, self.text_field, DOCNO)
        titles = check_titles(inp, self.prepend) if self.prepend else [""] * len(inp)
        by_document: dict[tuple[str, str], list[str]] = {}
        documents = tqdm(
            zip(titles, texts, strict=True),
            desc="passages",
            unit=" documents",
            total=len(inp),
            disable=not self.model.verbose,
        )
        passages = [
            by_document.get(document) or by_document.setdefault(document, self._passages(*document))
            for document in documents
        ]
        rows = [row for row, of_row in enumerate(passages) for _ in of_row]
        frame = kept.iloc[rows].reset_index(drop=True)
        docnos = [
            f"{docno}{_SEPARATOR}{number}"
            for docno, of_row in zip(inp[DOCNO], passages, strict=True)
            for number in range(len(of_row))
        ]
        frame[DOCNO] = pd.Series(docnos, dtype="str")
        frame[self.text_field] = pd.Series([passage for of_row in passages for passage in of_row], dtype="str")
        return frame

    def _passages(self, title: str, text: str) -> list[str]:
        from pyterrier_jacolbert.encoding.token_offsets import token_counts, token_starts

        encoder = self.model.encoder
        limit = encoder.max_document_length
        (special,) = token_counts(encoder, [""])
        prefix = f"{_shortened(encoder, title, limit // 2)} " if title else ""
        prefix_tokens = token_counts(encoder, [prefix])[0]
        length = max(1, min(limit - prefix_tokens, self.length or limit))

        def fits(passage: str) -> bool:
            own, whole = token_counts(encoder, [passage, prefix + passage])
            return whole <= limit and own - special <= length

        spans = cut_passages(
            text,
            length,
            self.stride or length,
            count=lambda texts: [tokens - special for tokens in token_counts(encoder, texts)],
            starts=lambda clause: token_starts(encoder, clause),
            fits=fits,
        )
        return [prefix + text[start:end] for start, end in spans]


def _shortened(encoder: TokenEncoder, title: str, limit: int) -> str:
    """Cuts a title to a number of tokens, so that it leaves some for the text."""
    from pyterrier_jacolbert.encoding.token_offsets import token_counts, token_starts

    if token_counts(encoder, [title])[0] <= limit:
        return title
    starts = token_starts(encoder, title)
    for tokens in range(min(limit, len(starts)) - 1, 0, -1):
        if token_counts(encoder, [title[: starts[tokens]]])[0] <= limit:
            return title[: starts[tokens]]
    return ""


def _check_docnos(docnos: pd.Series[str]) -> None:
    """Checks that docnos can be extended by the number of a passage.

    Raises:
        ValueError: a docno contains the separator.
    """
    for docno in docnos:
        if _SEPARATOR in docno:
            raise ValueError(
                f"The docno {docno!r} contains {_SEPARATOR!r}, where pt.text.max_passage() splits off the number of a "
                "passage; rename the document, or leave passages as they are."
            )
