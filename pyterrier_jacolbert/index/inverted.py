"""The documents of each centroid, so that a query looks only at documents that have a token near one of its own.

What PLAID (Santhanam et al., arXiv 2205.09707) and its forebears call inverted lists and probes. They are made of the
centroid ids when an index is first searched by them, and are in no file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyterrier_jacolbert.index.jit import kernel


@dataclass(frozen=True)
class InvertedLists:
    """The documents of each centroid: 4 bytes for each centroid that a document has, however often.

    Attributes:
        starts: int64 ``(n_centroids + 1,)``: where each centroid's documents start.
        docids: uint32 ``(n_postings,)``, ascending within a centroid.
        n_docs: of the collection.
    """

    starts: np.ndarray
    docids: np.ndarray
    n_docs: int

    @classmethod
    def of(cls, centroid_ids: np.ndarray, doc_starts: np.ndarray, n_centroids: int) -> InvertedLists:
        """Makes them.

        Args:
            centroid_ids: uint16 ``(n_tokens,)``.
            doc_starts: int64 ``(n_docs + 1,)``.
            n_centroids: all ids are below it.
        """
        starts = np.zeros(n_centroids + 1, dtype=np.int64)
        last = np.full(n_centroids, -1, dtype=np.int64)
        count_postings(centroid_ids, doc_starts, last, starts[1:])
        np.cumsum(starts, out=starts)
        docids = np.empty(int(starts[-1]), dtype=np.uint32)
        last[:] = -1
        fill_postings(centroid_ids, doc_starts, last, starts[:-1].copy(), docids)
        return cls(starts, docids, len(doc_starts) - 1)

    def documents(self, centroids: np.ndarray) -> np.ndarray:
        """The documents that have any of the centroids: int64, ascending."""
        marks = np.zeros(self.n_docs, dtype=np.bool_)
        mark_postings(self.starts, self.docids, centroids, marks)
        return np.flatnonzero(marks)


def count_postings_reference(
    centroid_ids: np.ndarray, doc_starts: np.ndarray, last: np.ndarray, counts: np.ndarray
) -> None:
    """What :func:`count_postings` computes, in numpy."""
    for first, end in zip(doc_starts[:-1], doc_starts[1:], strict=True):
        counts[np.unique(centroid_ids[first:end])] += 1


@kernel(count_postings_reference)
def count_postings(centroid_ids: np.ndarray, doc_starts: np.ndarray, last: np.ndarray, counts: np.ndarray) -> None:
    """Adds to each centroid's count the documents that have it.

    Args:
        centroid_ids: uint16 ``(n_tokens,)``.
        doc_starts: int64 ``(n_docs + 1,)``.
        last: int64 ``(n_centroids,)``, all -1: the last document that was counted.
        counts: int64 ``(n_centroids,)``.
    """
    for document in range(len(doc_starts) - 1):
        for token in range(doc_starts[document], doc_starts[document + 1]):
            centroid = centroid_ids[token]
            if last[centroid] != document:
                last[centroid] = document
                counts[centroid] += 1


def fill_postings_reference(
    centroid_ids: np.ndarray, doc_starts: np.ndarray, last: np.ndarray, places: np.ndarray, docids: np.ndarray
) -> None:
    """What :func:`fill_postings` computes, in numpy."""
    for document, (first, end) in enumerate(zip(doc_starts[:-1], doc_starts[1:], strict=True)):
        found = np.unique(centroid_ids[first:end])
        docids[places[found]] = document
        places[found] += 1


@kernel(fill_postings_reference)
def fill_postings(
    centroid_ids: np.ndarray, doc_starts: np.ndarray, last: np.ndarray, places: np.ndarray, docids: np.ndarray
) -> None:
    """Writes the documents of each centroid.

    Args:
        centroid_ids: uint16 ``(n_tokens,)``.
        doc_starts: int64 ``(n_docs + 1,)``.
        last: int64 ``(n_centroids,)``, all -1.
        places: int64 ``(n_centroids,)``: where each centroid's next document goes.
        docids: uint32 ``(n_postings,)``.
    """
    for document in range(len(doc_starts) - 1):
        for token in range(doc_starts[document], doc_starts[document + 1]):
            centroid = centroid_ids[token]
            if last[centroid] != document:
                last[centroid] = document
                docids[places[centroid]] = document
                places[centroid] += 1


def mark_postings_reference(starts: np.ndarray, docids: np.ndarray, centroids: np.ndarray, marks: np.ndarray) -> None:
    """What :func:`mark_postings` computes, in numpy."""
    for centroid in centroids:
        marks[docids[starts[centroid] : starts[centroid + 1]]] = True


@kernel(mark_postings_reference)
def mark_postings(starts: np.ndarray, docids: np.ndarray, centroids: np.ndarray, marks: np.ndarray) -> None:
    """Marks the documents that have any of the centroids.

    Args:
        starts: int64 ``(n_centroids + 1,)``.
        docids: uint32 ``(n_postings,)``.
        centroids: int64 ``(n,)``.
        marks: bool ``(n_docs,)``.
    """
    for number in range(len(centroids)):
        for place in range(starts[centroids[number]], starts[centroids[number] + 1]):
            marks[docids[place]] = True


def probe_reference(table: np.ndarray, columns: int, count: int, chosen: np.ndarray) -> None:
    """What :func:`probe` computes, in numpy."""
    for column in table.T[:columns]:
        place = max(0, len(column) - count)
        chosen |= column >= max(1, np.partition(column, place)[place])


@kernel(probe_reference)
def probe(table: np.ndarray, columns: int, count: int, chosen: np.ndarray) -> None:
    """Chooses the greatest entries of each column, and all that equal the last of them, but those that are 0.

    Args:
        table: uint8 ``(n_centroids, n_columns)``.
        columns: the first so many are looked at.
        count: of a column, at least 1.
        chosen: bool ``(n_centroids,)``, all False: whether any column chose it.
    """
    histogram = np.zeros((columns, 256), dtype=np.int32)
    for row in range(len(table)):
        for column in range(columns):
            histogram[column, table[row, column]] += 1
    least = np.empty(columns, dtype=np.uint8)
    for column in range(columns):
        value, found = 255, histogram[column, 255]
        while found < count and value > 1:
            value -= 1
            found += histogram[column, value]
        least[column] = value
    for row in range(len(table)):
        for column in range(columns):
            if table[row, column] >= least[column]:
                chosen[row] = True
