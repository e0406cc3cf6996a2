"""Collections as `ir_datasets` datasets: documentation, record counts, and the constituents that serve the records."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ir_datasets.datasets.base import Dataset
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
from ir_datasets.util import MetadataComponent, MetadataProvider

from pyterrier_jacolbert.datasets._collection import Collection, Counts, LazyCollection, TitledDoc


class Documentation:
    """The constituent that describes a dataset.

    Args:
        **entries: `pretty_name`, `desc`, `url`, `licence` and `bibtex`, as in the documentation files of `ir_datasets`.
            `notice` is for licences that forbid a use: one sentence, shown when the data are first fetched.
    """

    def __init__(self, **entries: str) -> None:
        self._entries = entries

    def documentation(self) -> dict[str, str]:
        """Returns the entries."""
        return dict(self._entries)


def lazy_dataset(
    irds_id: str,
    read: Callable[[], Collection],
    *,
    counts: Counts,
    documentation: Documentation,
    relevance: dict[int, str],
    lang: str = "ja",
    candidates: bool = False,
) -> Dataset:
    """Defines a dataset that is read on first use and checked against its record counts.

    Args:
        irds_id: id of the dataset in `ir_datasets`.
        read: reads the collection.
        counts: expected record counts.
        documentation: description of the dataset.
        relevance: meaning of each relevance label.
        lang: ISO 639-1 code of the language of documents and queries.
        candidates: whether the dataset has documents to re-rank for each query.

    Returns:
        The dataset, for `ir_datasets.registry`.
    """
    lazy = LazyCollection(irds_id, read, counts)
    constituents = [
        Docs(lazy, irds_id, lang),
        Queries(lazy, irds_id, lang),
        Qrels(lazy, relevance),
        *([ScoredDocs(lazy)] if candidates else []),
        documentation,
    ]
    content = Dataset(*constituents)
    metadata = {irds_id: {kind: {"count": count} for kind, count in counts.published().items()}}
    return Dataset(MetadataComponent(irds_id, content, MetadataProvider(lambda: metadata)), content)


class Docs(BaseDocs):  # type: ignore[misc] # ir_datasets has no types
    """The documents of a collection."""

    def __init__(self, lazy: LazyCollection, namespace: str, lang: str) -> None:
        self._lazy = lazy
        self._namespace = namespace
        self._lang = lang

    def docs_iter(self) -> Iterator[TitledDoc]:
        """Iterates over the documents in the order of the source; the iterator can be indexed and sliced."""
        return _SliceableIterator(self._lazy.collection.docs)

    def docs_cls(self) -> type[TitledDoc]:
        """Returns the type of a document."""
        return TitledDoc

    def docs_store(self) -> Docstore:
        """Returns a store that looks documents up by id."""
        return _SequenceDocstore(self._lazy)

    def docs_count(self) -> int:
        """Returns the number of documents; reads the collection if no source publishes it."""
        published = self._lazy.counts.docs
        return len(self._lazy.collection.docs) if published is None else published

    def docs_namespace(self) -> str:
        """Returns the namespace in which document ids are unique."""
        return self._namespace

    def docs_lang(self) -> str:
        """Returns the ISO 639-1 code of the language."""
        return self._lang


class Queries(BaseQueries):  # type: ignore[misc] # ir_datasets has no types
    """The queries of a collection."""

    def __init__(self, lazy: LazyCollection, namespace: str, lang: str) -> None:
        self._lazy = lazy
        self._namespace = namespace
        self._lang = lang

    def queries_iter(self) -> Iterator[GenericQuery]:
        """Iterates over the queries."""
        return iter(self._lazy.collection.queries)

    def queries_cls(self) -> type[GenericQuery]:
        """Returns the type of a query. With a second text field, PyTerrier would ask the user which one to use."""
        query: type[GenericQuery] = GenericQuery
        return query

    def queries_namespace(self) -> str:
        """Returns the namespace in which query ids are unique."""
        return self._namespace

    def queries_lang(self) -> str:
        """Returns the ISO 639-1 code of the language."""
        return self._lang


class Qrels(BaseQrels):  # type: ignore[misc] # ir_datasets has no types
    """The relevance judgements of a collection."""

    def __init__(self, lazy: LazyCollection, relevance: dict[int, str]) -> None:
        self._lazy = lazy
        self._relevance = relevance

    def qrels_iter(self) -> Iterator[GenericQrel]:
        """Iterates over the judgements."""
        return iter(self._lazy.collection.qrels)

    def qrels_defs(self) -> dict[int, str]:
        """Returns the meaning of each relevance label."""
        return self._relevance


class ScoredDocs(BaseScoredDocs):  # type: ignore[misc] # ir_datasets has no types
    """The candidates of a collection. All scores are 0 because a source's order may reveal the relevant document."""

    def __init__(self, lazy: LazyCollection) -> None:
        self._lazy = lazy

    def scoreddocs_iter(self) -> Iterator[GenericScoredDoc]:
        """Iterates over the candidates."""
        return iter(self._lazy.collection.scoreddocs)


class _SequenceDocstore(Docstore):  # type: ignore[misc] # ir_datasets has no types
    """Looks documents up in a sequence. The stores of `ir_datasets` first copy the collection to disk as pickles."""

    def __init__(self, lazy: LazyCollection) -> None:
        super().__init__(TitledDoc)
        self._lazy = lazy

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[TitledDoc]:
        # Unknown ids are skipped, as in the stores of ir_datasets.
        docs, positions = self._lazy.collection.docs, self._lazy.positions
        return (docs[positions[doc_id]] for doc_id in doc_ids if doc_id in positions)

    def __iter__(self) -> Iterator[TitledDoc]:
        return _SliceableIterator(self._lazy.collection.docs)

    def count(self) -> int:
        return len(self._lazy.positions)


class _SliceableIterator:
    """An iterator that can be indexed and sliced (`docs_iter()[10:20]`), as `ir_datasets` requires."""

    def __init__(self, docs: Sequence[TitledDoc]) -> None:
        self._docs = docs
        self._remaining = iter(docs)

    def __iter__(self) -> "_SliceableIterator":
        return self

    def __next__(self) -> TitledDoc:
        return next(self._remaining)

    def __getitem__(self, key: int | slice) -> Any:
        return _SliceableIterator(self._docs[key]) if isinstance(key, slice) else self._docs[key]
