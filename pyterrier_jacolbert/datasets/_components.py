"""The constituents that `ir_datasets` makes a data set of: documents, queries, judgements, candidates."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ir_datasets.formats import (
    BaseDocs,
    BaseQrels,
    BaseQueries,
    BaseScoredDocs,
    GenericQrel,
    GenericQuery,
    GenericScoredDoc,
)
from ir_datasets.indices.base import Docstore

from pyterrier_jacolbert.datasets._collection import Lazy, TitledDoc


class Docs(BaseDocs):  # type: ignore[misc] # ir_datasets has no types
    """The documents of a collection."""

    def __init__(self, lazy: Lazy, namespace: str, lang: str) -> None:
        self._lazy = lazy
        self._namespace = namespace
        self._lang = lang

    def docs_iter(self) -> Iterator[TitledDoc]:
        """The documents, in the order of the source; can be indexed and cut."""
        return _SliceableIterator(self._lazy.collection.docs)

    def docs_cls(self) -> type[TitledDoc]:
        """The type of a document."""
        return TitledDoc

    def docs_store(self) -> Docstore:
        """The documents by id."""
        return _SequenceDocstore(self._lazy)

    def docs_count(self) -> int:
        """How many documents there are; reads the data set where no source tells."""
        published = self._lazy.counts.docs
        return len(self._lazy.collection.docs) if published is None else published

    def docs_namespace(self) -> str:
        """What ids of documents are unique within."""
        return self._namespace

    def docs_lang(self) -> str:
        """ISO 639-1 code."""
        return self._lang


class Queries(BaseQueries):  # type: ignore[misc] # ir_datasets has no types
    """The queries of a collection."""

    def __init__(self, lazy: Lazy, namespace: str, lang: str) -> None:
        self._lazy = lazy
        self._namespace = namespace
        self._lang = lang

    def queries_iter(self) -> Iterator[GenericQuery]:
        """The queries."""
        return iter(self._lazy.collection.queries)

    def queries_cls(self) -> type[GenericQuery]:
        """The type of a query: with a second text field PyTerrier would ask the user which one is the query."""
        query: type[GenericQuery] = GenericQuery
        return query

    def queries_namespace(self) -> str:
        """What ids of queries are unique within."""
        return self._namespace

    def queries_lang(self) -> str:
        """ISO 639-1 code."""
        return self._lang


class Qrels(BaseQrels):  # type: ignore[misc] # ir_datasets has no types
    """The relevance judgements of a collection."""

    def __init__(self, lazy: Lazy, relevance: dict[int, str]) -> None:
        self._lazy = lazy
        self._relevance = relevance

    def qrels_iter(self) -> Iterator[GenericQrel]:
        """The judgements."""
        return iter(self._lazy.collection.qrels)

    def qrels_defs(self) -> dict[int, str]:
        """What each label means."""
        return self._relevance


class ScoredDocs(BaseScoredDocs):  # type: ignore[misc] # ir_datasets has no types
    """The candidates of a collection. Their scores are all 0: a source's order may tell which one is relevant."""

    def __init__(self, lazy: Lazy) -> None:
        self._lazy = lazy

    def scoreddocs_iter(self) -> Iterator[GenericScoredDoc]:
        """The candidates."""
        return iter(self._lazy.collection.scoreddocs)


class _SequenceDocstore(Docstore):  # type: ignore[misc] # ir_datasets has no types
    """Documents by id. The stores of `ir_datasets` copy the collection to disk first, as pickles; this one does not."""

    def __init__(self, lazy: Lazy) -> None:
        super().__init__(TitledDoc)
        self._lazy = lazy

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[TitledDoc]:
        # Like the stores of ir_datasets: ids that are not there are passed over.
        docs, positions = self._lazy.collection.docs, self._lazy.positions
        return (docs[positions[doc_id]] for doc_id in doc_ids if doc_id in positions)

    def __iter__(self) -> Iterator[TitledDoc]:
        return _SliceableIterator(self._lazy.collection.docs)

    def count(self) -> int:
        return len(self._lazy.positions)


class _SliceableIterator:
    """The iterator that `ir_datasets` promises: it can be indexed and cut, `docs_iter()[10:20]`."""

    def __init__(self, docs: Sequence[TitledDoc]) -> None:
        self._docs = docs
        self._rest = iter(docs)

    def __iter__(self) -> "_SliceableIterator":
        return self

    def __next__(self) -> TitledDoc:
        return next(self._rest)

    def __getitem__(self, key: int | slice) -> Any:  # noqa: ANN401 -- a document or an iterator, by the key
        return _SliceableIterator(self._docs[key]) if isinstance(key, slice) else self._docs[key]
