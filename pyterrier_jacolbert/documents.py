"""Documents on their way into an index: one pass, each checked, the first bad one named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.frames import DOCNO, check_text


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the indexers take it: its docno, its text (title first), and the fields it came with."""

    docno: str
    text: str
    fields: Mapping[str, Any]


def read_documents(
    docs: Iterable[Mapping[str, Any]] | pd.DataFrame,
    *,
    text_field: str,
    title_field: str | None = None,
    vectors_field: str | None = None,
    first: int = 0,
) -> Iterator[Document]:
    """Reads documents in one pass, checking each.

    Args:
        docs: dicts (any iterable or generator) or a frame, with ``docno`` and the text field.
        text_field: the field with the text.
        title_field: a field put before the text with a space between, where it is not empty.
        vectors_field: a field that stands for the text where a document has it; the text is "" then.
        first: the position of the first document, for messages.

    Yields:
        The documents in order. A text without anything to read ("" or white space) is yielded as "".

    Raises:
        pt.validate.InputValidationError: a document lacks ``docno`` or the text field (a KeyError).
        ValueError: a docno that is not a string, is empty or came before; a text that is missing or not text;
            no documents at all.
    """
    if isinstance(docs, (str, bytes, Mapping)):
        raise ValueError(
            f"Documents must be an iterable of dicts or a frame, not a {type(docs).__name__}; "
            'read the file first, or put the one document in a list: [{"docno": ..., "text": ...}].'
        )
    records: Iterable[Mapping[str, Any]]
    if isinstance(docs, pd.DataFrame):
        columns = [str(column) for column in docs.columns]
        records = (dict(zip(columns, row, strict=True)) for row in docs.itertuples(index=False, name=None))
    else:
        records = docs
    positions: dict[str, int] = {}
    for position, record in enumerate(records, start=first):
        required = [DOCNO] if vectors_field in record else [DOCNO, text_field]
        missing = [field for field in required if field not in record]
        if missing:
            _raise_missing(missing, record, position)
        docno = check_text(record[DOCNO], f"docno at position {position}")
        if not docno:
            raise ValueError(f'The docno at position {position} is ""; give every document a name.')
        if (first := positions.setdefault(docno, position)) != position:
            raise ValueError(
                f"The docno {docno!r} stands at positions {first} and {position}; docnos must be unique, "
                "so rename or drop one of the two."
            )
        owner = f"document {docno!r} (position {position})"
        text = ""
        if vectors_field not in record:
            text = check_text(record[text_field], f"{text_field} of {owner}")
            title = record.get(title_field) if title_field is not None else None
            if title:
                text = f"{check_text(title, f'{title_field} of {owner}')} {text}"
        yield Document(docno, text if text.strip() else "", record)
    if not positions:
        raise ValueError(
            "There are no documents in index(docs); give one or more, and a new generator each time (one runs once)."
        )


def _raise_missing(missing: list[str], record: Mapping[str, Any], position: int) -> None:
    # Raised through pt.validate so that it is the error that PyTerrier's own indexers raise.
    try:
        pt.validate.columns(list(record), includes=missing)
    except pt.validate.InputValidationError as error:
        named = f"The document at position {position} ({record.get(DOCNO, 'no docno')!r}) has no {missing[0]!r} field"
        raise pt.validate.InputValidationError(
            f"{named}; it has {sorted(map(str, record))}, so name one of these, or add it.", error.modes
        ) from None
