"""A test collection: its documents, queries, judgements and candidates, and the record counts that it must have."""

# No `from __future__ import annotations` here: PyTerrier's text loader looks for fields annotated with `str` itself.

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc

from pyterrier_jacolbert.index.threads import cached_attribute


class TitledDoc(NamedTuple):
    """A document with a title, which is "" if the source gives none."""

    doc_id: str
    title: str
    text: str

    def default_text(self) -> str:
        """Returns title and text, which `ir_datasets` treats as the full text of the document."""
        return f"{self.title} {self.text}" if self.title else self.text


class Collection(NamedTuple):
    """Documents, queries, relevance judgements, and candidates if the benchmark is a re-ranking one."""

    docs: Sequence[TitledDoc]
    queries: list[GenericQuery]
    qrels: list[GenericQrel]
    scoreddocs: list[GenericScoredDoc] = []


class Records(NamedTuple):
    """A collection as read from its source. The documents may be a stream that can be read only once."""

    docs: Iterable[TitledDoc]
    queries: list[GenericQuery]
    qrels: list[GenericQrel]
    scoreddocs: list[GenericScoredDoc] = []


class Counts(NamedTuple):
    """Record counts of a collection. None marks a count that no source publishes and that is therefore not checked."""

    docs: int | None
    queries: int | None
    qrels: int | None
    scoreddocs: int | None = None

    @staticmethod
    def of(collection: Collection) -> "Counts":
        """Counts the records of a collection."""
        return Counts(*map(len, collection))

    def published(self) -> dict[str, int]:
        """Returns the published counts by kind of record."""
        return {kind: count for kind, count in self._asdict().items() if count is not None}

    def check(self, irds_id: str, actual: "Counts") -> None:
        """Checks the actual counts of a collection against the published ones.

        Raises:
            ValueError: the counts differ. The message gives both.
        """
        actual_by_kind = actual._asdict()
        if any(actual_by_kind[kind] != count for kind, count in self.published().items()):
            raise ValueError(
                f"{irds_id} should have {self}, but its files contain {actual}; remove the files and get them again, "
                "and report a bug if the counts still differ."
            )


class LazyCollection:
    """A collection that is read on first use, checked, and never partly available.

    Args:
        irds_id: id of the dataset in `ir_datasets`, for messages.
        read: reads the collection.
        counts: expected record counts.
    """

    def __init__(self, irds_id: str, read: Callable[[], Collection], counts: Counts) -> None:
        self.irds_id = irds_id
        self.counts = counts
        self._read = read

    @cached_attribute
    def collection(self) -> Collection:
        """The collection itself.

        Raises:
            ValueError: the files are not the published ones.
            FileNotFoundError: the files are not on this machine and cannot be downloaded.
        """
        collection = self._read()
        self.counts.check(self.irds_id, Counts.of(collection))
        return collection

    @cached_attribute
    def positions(self) -> dict[str, int]:
        """Positions in `collection.docs` by document id.

        Raises:
            ValueError: two documents have the same id.
        """
        docs = self.collection.docs
        ids = docs.doc_ids() if hasattr(docs, "doc_ids") else [doc.doc_id for doc in docs]
        positions = {doc_id: position for position, doc_id in enumerate(ids)}
        if len(positions) != len(ids):
            raise ValueError(f"{self.irds_id} has two documents with the same doc_id; report it as a bug.")
        return positions
