"""Texts of a dataset's documents by docno."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pyterrier_jacolbert.columns import DOCNO, TEXT, join_title, nearest_field


class Texts(Mapping[str, str]):
    """A mapping from docno to text, which reads the documents of a dataset on access.

    Args:
        dataset: PyTerrier dataset. One that does not come from ir_datasets is read into memory once.
        title_field: field that is put before the text, separated by a space, unless it is missing or blank.

    Raises:
        KeyError: the documents have no text, or none has the title field; the message names the nearest field.
    """

    def __init__(self, dataset: Any, title_field: str | None = None) -> None:
        self._title_field = title_field
        self._irds = dataset.irds_ref() if hasattr(dataset, "irds_ref") else None
        if self._irds is not None:
            _check_field(TEXT, self._irds.docs_cls()._fields)
            _check_field(title_field, self._irds.docs_cls()._fields)
            self._store = self._irds.docs_store()
        else:
            self._in_memory, fields = {}, {}
            for document in dataset.get_corpus_iter():
                _check_field(TEXT, document)
                fields.update(dict.fromkeys(document))
                self._in_memory[document[DOCNO]] = self._join_fields(document)
            _check_field(title_field, fields)

    def __getitem__(self, docno: str) -> str:
        return self._in_memory[docno] if self._irds is None else self._join_fields(self._store.get(docno)._asdict())

    def __iter__(self) -> Iterator[str]:
        return iter(self._in_memory) if self._irds is None else (doc.doc_id for doc in self._irds.docs_iter())

    def __len__(self) -> int:
        return len(self._in_memory) if self._irds is None else self._irds.docs_count()

    def _join_fields(self, document: Mapping[str, Any]) -> str:
        title = None if self._title_field is None else document.get(self._title_field)
        owner = f"document {document.get(DOCNO, document.get('doc_id'))!r}"
        return join_title(title, document[TEXT], owner, title_field=self._title_field, text_field=TEXT)


def _check_field(field: str | None, fields: Collection[str]) -> None:
    """Checks that the documents of a dataset have a field; None and a dataset without documents pass.

    Raises:
        KeyError: they do not.
    """
    if field is not None and fields and field not in fields:
        raise KeyError(
            f"The documents of the dataset have no {field!r} field; {nearest_field(field, fields)}, so name another."
        )
