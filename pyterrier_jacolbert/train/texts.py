"""Texts of a dataset's documents by docno."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Texts(Mapping[str, str]):
    """A mapping from docno to text, which reads the documents of a dataset on access.

    Args:
        dataset: PyTerrier dataset. One that does not come from ir_datasets is read into memory once.
        title_field: field that is put before the text, separated by a space.
    """

    def __init__(self, dataset: Any, title_field: str | None = None) -> None:
        self._fields = ["text"] if title_field is None else [title_field, "text"]
        self._irds = dataset.irds_ref() if hasattr(dataset, "irds_ref") else None
        if self._irds is not None:
            self._store = self._irds.docs_store()
        else:
            self._in_memory = {doc["docno"]: self._join_fields(doc) for doc in dataset.get_corpus_iter()}

    def __getitem__(self, docno: str) -> str:
        return self._in_memory[docno] if self._irds is None else self._join_fields(self._store.get(docno)._asdict())

    def __iter__(self) -> Iterator[str]:
        return iter(self._in_memory) if self._irds is None else (doc.doc_id for doc in self._irds.docs_iter())

    def __len__(self) -> int:
        return len(self._in_memory) if self._irds is None else self._irds.docs_count()

    def _join_fields(self, document: Mapping[str, str]) -> str:
        return " ".join(document[field] for field in self._fields if document[field])
