"""Passages as a transformer: documents in, their passages out, each short enough for the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pyterrier as pt
from tqdm.auto import tqdm

from pyterrier_jacolbert.frames import DOCNO, TEXT, check_column, check_ids
from pyterrier_jacolbert.sentences import cut_passages
from pyterrier_jacolbert.transformer import SettingsTransformer

if TYPE_CHECKING:
    from pyterrier_jacolbert.encoder import TokenEncoder
    from pyterrier_jacolbert.model import JaColBERT

#: Between a document's name and the number of its passage; pt.text.max_passage() cuts there.
_MARK = "%p"
#: The fewest tokens that a passage may be limited to.
_LEAST = 8


class JapanesePassages(SettingsTransformer):
    """Cuts documents into passages of whole sentences; :func:`pyterrier_jacolbert.japanese.passages` makes one.

    Args:
        model: counts tokens with its own tokenizer, and gives the most of them that a document may have.
        length: the most tokens of a passage, special tokens and what is prepended not counted; None takes as many as
            the model does beside those.
        stride: the most tokens from the beginning of a passage to the beginning of the next; None takes ``length``.
        prepend: a column put before each passage, with a space between, where it is not empty; or None.
        text_field: the column with the text.

    Raises:
        ValueError: ``length`` is less than 8, or ``stride`` less than 1.
    """

    schematic: dict[str, Any] = {"label": "Japanese Passages", "help_url": None}

    def __init__(
        self,
        model: JaColBERT,
        *,
        length: int | None = None,
        stride: int | None = None,
        prepend: str | None = "title",
        text_field: str = TEXT,
    ) -> None:
        for name, number, least in (("length", length, _LEAST), ("stride", stride, 1)):
            if number is not None and (not isinstance(number, int) or number < least):
                raise ValueError(f"{name} must be a number of tokens ({least} or more) or None, not {number!r}.")
        self.model = model
        self.length = length
        self.stride = stride
        self.prepend = prepend
        self.text_field = text_field

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The passages of each row's document, in the text's order, named ``DOCNO%p0``, ``DOCNO%p1`` and so on.

        A document without text stays, as one passage. The prepended column goes, as ``pt.text.sliding`` has it; the
        others are those of the document, score and rank among them.

        Raises:
            pt.validate.InputValidationError: a column is missing.
            ValueError: a docno, text or title that is not a string; a docno with "%p" in it.
        """
        fields = [field for field in (self.prepend, self.text_field) if field]
        with pt.validate.any(inp, context=self) as allowed:
            allowed.document_frame(fields, mode="documents")
            allowed.result_frame(fields, mode="results")
        kept = inp.drop(columns=[self.prepend]) if self.prepend else inp
        if inp.empty:
            return kept.reset_index(drop=True)
        check_ids(inp, DOCNO)
        _check_docnos(inp[DOCNO])
        texts = check_column(inp, self.text_field, DOCNO)
        titles = check_column(inp, self.prepend, DOCNO) if self.prepend else [""] * len(inp)
        passages: dict[tuple[str, str], list[str]] = {}
        bar = tqdm(
            zip(titles, texts, strict=True),
            desc="passages",
            unit=" documents",
            total=len(inp),
            disable=not self.model.verbose,
        )
        cut = [passages.get(pair) or passages.setdefault(pair, self._passages(*pair)) for pair in bar]
        rows = [row for row, found in enumerate(cut) for _ in found]
        frame = kept.iloc[rows].reset_index(drop=True)
        docnos = [f"{docno}{_MARK}{n}" for docno, found in zip(inp[DOCNO], cut, strict=True) for n in range(len(found))]
        frame[DOCNO] = pd.Series(docnos, dtype="str")
        frame[self.text_field] = pd.Series([passage for found in cut for passage in found], dtype="str")
        return frame

    def _passages(self, title: str, text: str) -> list[str]:
        from pyterrier_jacolbert.tokens import token_counts, token_starts

        encoder = self.model.encoder
        most = encoder.max_document_length
        (plain,) = token_counts(encoder, [""])
        prefix = f"{_shortened(encoder, title, most // 2)} " if title else ""
        before = token_counts(encoder, [prefix])[0]
        length = max(1, min(most - before, self.length or most))

        def fits(passage: str) -> bool:
            own, whole = token_counts(encoder, [passage, prefix + passage])
            return whole <= most and own - plain <= length

        spans = cut_passages(
            text,
            length,
            self.stride or length,
            count=lambda texts: [tokens - plain for tokens in token_counts(encoder, texts)],
            starts=lambda clause: token_starts(encoder, clause),
            fits=fits,
        )
        return [prefix + text[start:end] for start, end in spans]


def _shortened(encoder: TokenEncoder, title: str, most: int) -> str:
    """A title with at most so many tokens: one of hundreds would leave none for the text."""
    from pyterrier_jacolbert.tokens import token_counts, token_starts

    if token_counts(encoder, [title])[0] <= most:
        return title
    starts = token_starts(encoder, title)
    for tokens in range(min(most, len(starts)) - 1, 0, -1):
        if token_counts(encoder, [title[: starts[tokens]]])[0] <= most:
            return title[: starts[tokens]]
    return ""


def _check_docnos(docnos: pd.Series[str]) -> None:
    for docno in docnos:
        if _MARK in docno:
            raise ValueError(
                f"The docno {docno!r} holds {_MARK!r}, where pt.text.max_passage() cuts the passage's number off; "
                "rename the document, or leave passages as they are."
            )
