"""A test collection as an `ir_datasets` data set: read when it is first used, and checked against published counts."""

# No `from __future__ import annotations` here: PyTerrier's text loader looks for fields annotated with `str` itself.

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc
from ir_datasets.util import MetadataComponent, MetadataProvider


class TitledDoc(NamedTuple):
    """A document with a title; where the source gives none, the title is ""."""

    doc_id: str
    title: str
    text: str

    def default_text(self) -> str:
        """What `ir_datasets` takes for the document's whole text.

        Returns:
            Title and text.
        """
        return f"{self.title} {self.text}" if self.title else self.text


class Collection(NamedTuple):
    """Documents, queries, relevance judgements, and candidates to re-rank where the benchmark gives them."""

    docs: Sequence[TitledDoc]
    queries: list[GenericQuery]
    qrels: list[GenericQrel]
    scoreddocs: list[GenericScoredDoc] = []


class Records(NamedTuple):
    """A collection as a source gives it: the documents perhaps only once, one after the other."""

    docs: Iterable[TitledDoc]
    queries: list[GenericQuery]
    qrels: list[GenericQrel]
    scoreddocs: list[GenericScoredDoc] = []


class Counts(NamedTuple):
    """How many records a collection has, as published; None where no source gives a figure, which is not checked."""

    docs: int | None
    queries: int | None
    qrels: int | None
    scoreddocs: int | None = None

    @staticmethod
    def of(collection: Collection) -> "Counts":
        """How many records a collection has."""
        return Counts(*map(len, collection))

    def known(self) -> dict[str, int]:
        """The published figures, by kind."""
        return {kind: count for kind, count in self._asdict().items() if count is not None}

    def check(self, irds_id: str, found: "Counts") -> None:
        """Checks what was read.

        Raises:
            ValueError: it is not what was published; the message gives both.
        """
        read = found._asdict()
        if any(read[kind] != count for kind, count in self.known().items()):
            raise ValueError(
                f"{irds_id} should have {self}, but {found} was read; remove the copy and get it again, or report it "
                "as a bug if that does not help."
            )


class Documentation:
    """The constituent of a data set that tells what it is.

    Args:
        **entries: `pretty_name`, `desc`, `url`, `licence`, `bibtex`, as in the documentation files of `ir_datasets`;
            `notice`, for a licence that forbids a use: one sentence, which is shown when the data are first fetched.
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
    candidates: bool = False,
) -> Dataset:
    """A data set that is read when it is first used, and checked against the counts.

    Args:
        irds_id: Its id in `ir_datasets`.
        read: Reads the collection.
        counts: How many of each it must have.
        documentation: What it is.
        relevance: What each relevance label means.
        lang: ISO 639-1 code of documents and queries.
        candidates: Whether it gives documents to re-rank for each query.

    Returns:
        The data set, for `ir_datasets.registry`.
    """
    from pyterrier_jacolbert.datasets import _components as components

    lazy = Lazy(irds_id, read, counts)
    constituents = [
        components.Docs(lazy, irds_id, lang),
        components.Queries(lazy, irds_id, lang),
        components.Qrels(lazy, relevance),
        *([components.ScoredDocs(lazy)] if candidates else []),
        documentation,
    ]
    content = Dataset(*constituents)
    metadata = {irds_id: {kind: {"count": count} for kind, count in counts.known().items()}}
    return Dataset(MetadataComponent(irds_id, content, MetadataProvider(lambda: metadata)), content)


class Lazy:
    """A collection read on first use, and whole or not there.

    Args:
        irds_id: Its id, for messages.
        read: Reads it.
        counts: How many of each it must have.
    """

    def __init__(self, irds_id: str, read: Callable[[], Collection], counts: Counts) -> None:
        self.irds_id = irds_id
        self.counts = counts
        self._read = read

    @cached_property
    def collection(self) -> Collection:
        """The collection.

        Raises:
            ValueError: It is not what was published.
            FileNotFoundError: Its files are not on this machine and cannot be downloaded.
        """
        collection = self._read()
        self.counts.check(self.irds_id, Counts.of(collection))
        return collection

    @cached_property
    def positions(self) -> dict[str, int]:
        """Where each document is in `collection.docs`, by id.

        Raises:
            ValueError: Two documents have the same id.
        """
        docs = self.collection.docs
        ids = docs.doc_ids() if hasattr(docs, "doc_ids") else [doc.doc_id for doc in docs]
        positions = {doc_id: position for position, doc_id in enumerate(ids)}
        if len(positions) != len(ids):
            raise ValueError(f"{self.irds_id} gives two documents the same doc_id; report it as a bug.")
        return positions
