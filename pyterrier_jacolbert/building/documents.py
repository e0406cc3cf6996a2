"""Reads documents for the indexers: one pass, each document checked, the first bad one named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, check_text, check_unit_vectors, is_missing, join_title, nearest_field

#: Documents that are encoded and written together by default.
BATCH_DOCUMENTS = 2048

#: What an indexer takes: dicts, one per document, or a frame with one row per document.
Documents = Iterable[Mapping[str, Any]] | pd.DataFrame


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the indexers take it.

    Attributes:
        docno: name of the document.
        text: title, if there is one, and text.
        vectors: token vectors that the document brings, float32 ``(n_tokens, dim)`` with unit rows; None if its text is
            to be encoded.
        known_digest: digest that an index has recorded of the document; None computes it.
    """

    docno: str
    text: str
    vectors: np.ndarray | None = None
    known_digest: int | None = None

    def digest(self) -> int:
        """Returns a 64-bit digest of the docno, the text and the vectors, as they were first given to an indexer."""
        if self.known_digest is not None:
            return self.known_digest
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.docno.encode("utf-8"), self.text.encode("utf-8")):
            digest.update(len(part).to_bytes(8, "little") + part)
        if self.vectors is not None:
            digest.update(self.vectors.tobytes())
        return int.from_bytes(digest.digest(), "little")


def read_documents(
    docs: Documents,
    *,
    text_field: str,
    title_field: str | None = None,
    vectors_field: str | None = None,
    keep_text: bool = False,
    first: int = 0,
    first_batch: int = BATCH_DOCUMENTS,
) -> Iterator[Document]:
    """Reads documents in one pass and checks each.

    Args:
        docs: dicts (any iterable or generator) or a frame, with ``docno`` and the text field.
        text_field: field with the text.
        title_field: field put before the text, with a space between, unless it is missing or blank.
        vectors_field: field with token vectors, which replace the text of documents that have them; a document whose
            vectors are missing (None or NaN) is read as one without the field.
        keep_text: whether to read the text of documents with vectors, too, if they have one; otherwise it is "".
        first: position of the first document, for messages.
        first_batch: number of documents that may lack the title field before its name counts as wrong.

    Yields:
        The documents in order. A text of white space alone is yielded as "".

    Raises:
        pt.validate.InputValidationError: a document lacks ``docno`` or the text field, or none of the first batch has
            the title field (a KeyError).
        ValueError: a docno is not a string, is empty or is repeated; a text is missing or not a string; vectors are not
            a matrix of numbers, hold NaN or infinity, or have a row of zeros; or there are no documents.
    """
    if isinstance(docs, (str, bytes, Mapping)):
        raise ValueError(
            f"Documents must be an iterable of dicts or a frame, not a {type(docs).__name__}; "
            'read the file first, or put a single document in a list: [{"docno": ..., "text": ...}].'
        )
    records = _records(docs)
    if title_field is not None:
        records = _check_title_field(records, title_field, vectors_field, first_batch)
    positions: dict[str, int] = {}
    for position, record in enumerate(records, start=first):
        given = _vectors_of(record, vectors_field)
        _check_fields(record, [DOCNO, text_field] if given is None else [DOCNO], position)
        docno = check_text(record[DOCNO], f"docno at position {position}")
        if not docno:
            raise ValueError(f'The docno at position {position} is ""; give every document a name.')
        if (earlier := positions.setdefault(docno, position)) != position:
            raise ValueError(
                f"The docno {docno!r} is at positions {earlier} and {position}; docnos must be unique, "
                "so rename or drop one of the two."
            )
        owner = f"document {docno!r} (position {position})"
        vectors = None if given is None else check_unit_vectors(given, f"{vectors_field} of document {docno!r}")
        text = ""
        if vectors is None or (keep_text and not is_missing(record.get(text_field))):
            title = None if title_field is None else record.get(title_field)
            text = join_title(title, record[text_field], owner, title_field=title_field, text_field=text_field)
        yield Document(docno, text, vectors)
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


def _vectors_of(record: Mapping[str, Any], vectors_field: str | None) -> Any:
    """Returns the vectors that a document brings as they are; None if it brings none."""
    value = None if vectors_field is None else record.get(vectors_field)
    return None if is_missing(value) else value


def _check_title_field(
    records: Iterable[Mapping[str, Any]], title_field: str, vectors_field: str | None, first_batch: int
) -> Iterator[Mapping[str, Any]]:
    """Yields records after checking that the title field exists; documents with vectors need none.

    Raises:
        pt.validate.InputValidationError: none of the first batch has the field.
    """
    records = iter(records)
    untitled = 0
    last: Mapping[str, Any] = {}
    for record in records:
        if title_field in record:
            yield record
            yield from records
            return
        if _vectors_of(record, vectors_field) is None:
            untitled, last = untitled + 1, record
        if untitled == first_batch:
            break
        yield record
    if untitled:
        problem = f"None of the first {untitled} documents has a {title_field!r} field"
        raise _missing_field(last, title_field, problem, 'or give documents without a title an empty one, ""')


def _check_fields(record: Mapping[str, Any], required: list[str], position: int) -> None:
    """Checks that a document has the required fields.

    Raises:
        pt.validate.InputValidationError: a field is missing.
    """
    for field in required:
        if field not in record:
            name = f"The document at position {position} ({record.get(DOCNO, 'no docno')!r})"
            raise _missing_field(record, field, f"{name} has no {field!r} field", "or add the field")


def _missing_field(record: Mapping[str, Any], field: str, problem: str, alternative: str) -> Exception:
    """Returns the error that PyTerrier's own indexers raise, with a message that names the nearest field."""
    try:
        pt.validate.columns(list(record), includes=[field])
    except pt.validate.InputValidationError as error:
        return pt.validate.InputValidationError(
            f"{problem}; {nearest_field(field, record)}, so name another field, {alternative}.",
            error.modes,
        )
    raise AssertionError(f"{field!r} is not missing")
