"""A test collection small enough to hold in memory, as an `ir_datasets` data set."""

# No `from __future__ import annotations` here: PyTerrier's text loader looks for fields annotated with `str` itself.

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries, GenericQrel, GenericQuery
from ir_datasets.indices.base import Docstore
from ir_datasets.util import MetadataComponent, MetadataProvider


class TitledDoc(NamedTuple):
    """A document with a title."""

    doc_id: str
    title: str
    text: str

    def default_text(self) -> str:
        """What `ir_datasets` takes for the document's whole text.

        Returns:
            Title and text.
        """
        return f"{self.title} {self.text}"


class Collection(NamedTuple):
    """Documents, queries and relevance judgements."""

    docs: list[TitledDoc]
    queries: list[GenericQuery]
    qrels: list[GenericQrel]


class Counts(NamedTuple):
    """How many documents, queries and judgements a collection has, as published."""

    docs: int
    queries: int
    qrels: int


class Documentation:
    """The constituent of a data set that tells what it is.

    Args:
        **entries: `pretty_name`, `desc`, `url`, `licence`, `bibtex`, as in the documentation files of `ir_datasets`.
    """

    def __init__(self, **entries: str) -> None:
        self._entries = entries

    def documentation(self) -> dict[str, str]:
        """What the data set is.

        Returns:
            The entries.
        """
        return dict(self._entries)


def dataset(
    irds_id: str,
    read: Callable[[], Collection],
    *,
    counts: Counts,
    documentation: Documentation,
    relevance: dict[int, str],
    lang: str = "ja",
) -> Dataset:
    """A data set that is read when it is first used, and checked against the counts.

    Args:
        irds_id: Its id in `ir_datasets`.
        read: Reads the collection.
        counts: How many of each it must have.
        documentation: What it is.
        relevance: What each relevance label means.
        lang: ISO 639-1 code of documents and queries.

    Returns:
        The data set, for `ir_datasets.registry`.
    """
    collection = _Lazy(irds_id, read, counts)
    content = Dataset(
        _Docs(collection, irds_id, lang),
        _Queries(collection, irds_id, lang),
        _Qrels(collection, relevance),
        documentation,
    )
    metadata = {irds_id: {kind: {"count": count} for kind, count in counts._asdict().items()}}
    return Dataset(MetadataComponent(irds_id, content, MetadataProvider(lambda: metadata)), content)


class _Lazy:
    """A collection read on first use, and whole or not there."""

    def __init__(self, irds_id: str, read: Callable[[], Collection], counts: Counts) -> None:
        self.irds_id = irds_id
        self.counts = counts
        self._read = read

    @cached_property
    def collection(self) -> Collection:
        collection = self._read()
        found = Counts(*map(len, collection))
        if found != self.counts:
            raise ValueError(f"{self.irds_id} should have {self.counts}, but {found} was read; report it as a bug.")
        return collection

    @cached_property
    def docs_by_id(self) -> dict[str, TitledDoc]:
        docs = {doc.doc_id: doc for doc in self.collection.docs}
        if len(docs) != len(self.collection.docs):
            raise ValueError(f"{self.irds_id} gives two documents the same doc_id; report it as a bug.")
        return docs


class _Docs(BaseDocs):
    def __init__(self, lazy: _Lazy, namespace: str, lang: str) -> None:
        self._lazy = lazy
        self._namespace = namespace
        self._lang = lang

    def docs_iter(self) -> Iterator[TitledDoc]:
        return _SliceableIterator(self._lazy.collection.docs)

    def docs_cls(self) -> type[TitledDoc]:
        return TitledDoc

    def docs_store(self) -> Docstore:
        return _MemoryDocstore(self._lazy.docs_by_id)

    def docs_count(self) -> int:
        return self._lazy.counts.docs

    def docs_namespace(self) -> str:
        return self._namespace

    def docs_lang(self) -> str:
        return self._lang


class _Queries(BaseQueries):
    def __init__(self, lazy: _Lazy, namespace: str, lang: str) -> None:
        self._lazy = lazy
        self._namespace = namespace
        self._lang = lang

    def queries_iter(self) -> Iterator[GenericQuery]:
        return iter(self._lazy.collection.queries)

    # With a second text field PyTerrier would ask the user which one is the query.
    def queries_cls(self) -> type[GenericQuery]:
        return GenericQuery

    def queries_namespace(self) -> str:
        return self._namespace

    def queries_lang(self) -> str:
        return self._lang


class _Qrels(BaseQrels):
    def __init__(self, lazy: _Lazy, relevance: dict[int, str]) -> None:
        self._lazy = lazy
        self._relevance = relevance

    def qrels_iter(self) -> Iterator[GenericQrel]:
        return iter(self._lazy.collection.qrels)

    def qrels_defs(self) -> dict[int, str]:
        return self._relevance


class _MemoryDocstore(Docstore):
    """Documents by id. The stores of `ir_datasets` copy the collection to disk first; this small, memory is simpler."""

    def __init__(self, docs: dict[str, TitledDoc]) -> None:
        super().__init__(TitledDoc)
        self._docs = docs

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[TitledDoc]:
        # Like the stores of ir_datasets: ids that are not there are passed over.
        return (self._docs[doc_id] for doc_id in doc_ids if doc_id in self._docs)

    def __iter__(self) -> Iterator[TitledDoc]:
        return _SliceableIterator(list(self._docs.values()))

    def count(self) -> int:
        return len(self._docs)


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
