"""Reads documents for the indexers: one pass, each document checked, the first bad one named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOC_EMBS, DOCNO, check_text

#: What an indexer takes: dicts, one per document, or a frame with one row per document.
Documents = Iterable[Mapping[str, Any]] | pd.DataFrame


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the indexers take it.

    Attributes:
        docno: name of the document.
        text: title, if there is one, and text.
        fields: fields of the document.
    """

    docno: str
    text: str
    fields: Mapping[str, Any]

    def digest(self) -> int:
        """Returns a 64-bit digest of the docno and of the text or the vectors."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.docno.encode("utf-8"), self.text.encode("utf-8")):
            digest.update(len(part).to_bytes(8, "little") + part)
        if DOC_EMBS in self.fields:
            digest.update(np.ascontiguousarray(self.fields[DOC_EMBS], dtype=np.float32).tobytes())
        return int.from_bytes(digest.digest(), "little")


def read_documents(
    docs: Documents,
    *,
    text_field: str,
    title_field: str | None = None,
    vectors_field: str | None = None,
    first: int = 0,
) -> Iterator[Document]:
    """Reads documents in one pass and checks each.

    Args:
        docs: dicts (any iterable or generator) or a frame, with ``docno`` and the text field.
        text_field: field with the text.
        title_field: field put before the text, with a space between, unless it is empty.
        vectors_field: field that replaces the text, which is then "", of documents that have it.
        first: position of the first document, for messages.

    Yields:
        The documents in order. A text of white space alone is yielded as "".

    Raises:
        pt.validate.InputValidationError: a document lacks ``docno`` or the text field (a KeyError).
        ValueError: a docno is not a string, is empty or is repeated; a text is missing or not a string; or there are no
            documents.
    """
    if isinstance(docs, (str, bytes, Mapping)):
        raise ValueError(
            f"Documents must be an iterable of dicts or a frame, not a {type(docs).__name__}; "
            'read the file first, or put a single document in a list: [{"docno": ..., "text": ...}].'
        )
    positions: dict[str, int] = {}
    for position, record in enumerate(_records(docs), start=first):
        has_vectors = vectors_field in record
        _check_fields(record, [DOCNO] if has_vectors else [DOCNO, text_field], position)
        docno = check_text(record[DOCNO], f"docno at position {position}")
        if not docno:
            raise ValueError(f'The docno at position {position} is ""; give every document a name.')
        if (earlier := positions.setdefault(docno, position)) != position:
            raise ValueError(
                f"The docno {docno!r} is at positions {earlier} and {position}; docnos must be unique, "
                "so rename or drop one of the two."
            )
        text = "" if has_vectors else _titled_text(record, text_field, title_field, docno, position)
        yield Document(docno, text, record)
    if not positions:
        raise ValueError(
            "There are no documents in index(docs); give at least one, and a new generator each time, since a "
            "generator runs only once."
        )


def _records(docs: Documents) -> Iterable[Mapping[str, Any]]:
    if not isinstance(docs, pd.DataFrame):
        return docs
    columns = [str(column) for column in docs.columns]
    return (dict(zip(columns, row, strict=True)) for row in docs.itertuples(index=False, name=None))


def _titled_text(record: Mapping[str, Any], text_field: str, title_field: str | None, docno: str, position: int) -> str:
    owner = f"document {docno!r} (position {position})"
    text = check_text(record[text_field], f"{text_field} of {owner}")
    title = record.get(title_field) if title_field is not None else None
    if title:
        text = f"{check_text(title, f'{title_field} of {owner}')} {text}"
    return text if text.strip() else ""


def _check_fields(record: Mapping[str, Any], required: list[str], position: int) -> None:
    """Checks that a document has the required fields.

    Raises:
        pt.validate.InputValidationError: a field is missing; the error that PyTerrier's own indexers raise.
    """
    missing = [field for field in required if field not in record]
    if not missing:
        return
    try:
        pt.validate.columns(list(record), includes=missing)
    except pt.validate.InputValidationError as error:
        name = f"The document at position {position} ({record.get(DOCNO, 'no docno')!r})"
        raise pt.validate.InputValidationError(
            f"{name} has no {missing[0]!r} field; it has {sorted(map(str, record))}, so name one of these, or add it.",
            error.modes,
        ) from None
