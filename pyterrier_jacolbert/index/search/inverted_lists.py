"""Inverted lists: the documents of each centroid, so that a query skips documents without a token near its own tokens.

PLAID (Santhanam et al., arXiv 2205.09707) and its predecessors call looking up the lists of the best centroids probing.
The lists are built from the centroid ids when an index is first probed, and are not stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyterrier_jacolbert.index.kernels.jit import kernel


@dataclass(frozen=True)
class InvertedLists:
    """The documents of each centroid; 4 bytes per centroid and document, however often the document has the centroid.

    Attributes:
        starts: int64 ``(n_centroids + 1,)``; the documents of centroid ``c`` are
            ``docids[starts[c]:starts[c + 1]]``.
        docids: uint32 ``(n_postings,)``, ascending within a centroid.
        n_docs: documents in the collection.
    """

    starts: np.ndarray
    docids: np.ndarray
    n_docs: int

    @classmethod
    def of(cls, centroid_ids: np.ndarray, doc_starts: np.ndarray, n_centroids: int) -> InvertedLists:
        """Builds the lists of a collection.

        Args:
            centroid_ids: uint16 ``(n_tokens,)``, all below ``n_centroids``.
            doc_starts: int64 ``(n_docs + 1,)``.
            n_centroids: number of centroids.
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
        """Returns the documents that have any of the centroids: int64, ascending."""
        marks = np.zeros(self.n_docs, dtype=np.bool_)
        mark_postings(self.starts, self.docids, centroids, marks)
        return np.flatnonzero(marks)


def count_postings_reference(
    centroid_ids: np.ndarray, doc_starts: np.ndarray, last: np.ndarray, counts: np.ndarray
) -> None:
    """Implements :func:`count_postings` in numpy."""
    for first, end in zip(doc_starts[:-1], doc_starts[1:], strict=True):
        counts[np.unique(centroid_ids[first:end])] += 1


@kernel(count_postings_reference)
def count_postings(centroid_ids: np.ndarray, doc_starts: np.ndarray, last: np.ndarray, counts: np.ndarray) -> None:
    """Adds to each centroid's count the number of documents that have it.

    Args:
        centroid_ids: uint16 ``(n_tokens,)``.
        doc_starts: int64 ``(n_docs + 1,)``.
        last: int64 ``(n_centroids,)``, all -1; used for the last document that each centroid was counted for.
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
    """Implements :func:`fill_postings` in numpy."""
    for document, (first, end) in enumerate(zip(doc_starts[:-1], doc_starts[1:], strict=True)):
        centroids = np.unique(centroid_ids[first:end])
        docids[places[centroids]] = document
        places[centroids] += 1


@kernel(fill_postings_reference)
def fill_postings(
    centroid_ids: np.ndarray, doc_starts: np.ndarray, last: np.ndarray, places: np.ndarray, docids: np.ndarray
) -> None:
    """Writes the documents of each centroid.

    Args:
        centroid_ids: uint16 ``(n_tokens,)``.
        doc_starts: int64 ``(n_docs + 1,)``.
        last: int64 ``(n_centroids,)``, all -1; used for the last document that each centroid was written for.
        places: int64 ``(n_centroids,)``, the position of each centroid's next document; advanced with each document.
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
    """Implements :func:`mark_postings` in numpy."""
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


def probe_reference(table: np.ndarray, columns: int, count: int, marks: np.ndarray) -> None:
    """Implements :func:`probe` in numpy."""
    for column in table.T[:columns]:
        place = max(0, len(column) - count)
        marks |= column >= max(1, np.partition(column, place)[place])


@kernel(probe_reference)
def probe(table: np.ndarray, columns: int, count: int, marks: np.ndarray) -> None:
    """Marks the centroids with the greatest entries of each column, including ties with the last; never those with 0.

    Args:
        table: uint8 ``(n_centroids, n_columns)``.
        columns: number of leading columns to consider.
        count: number of centroids per column, at least 1.
        marks: bool ``(n_centroids,)``, all False; whether any column selects the centroid.
    """
    histogram = np.zeros((columns, 256), dtype=np.int32)
    for row in range(len(table)):
        for column in range(columns):
            histogram[column, table[row, column]] += 1
    least = np.empty(columns, dtype=np.uint8)
    for column in range(columns):
        value, reached = 255, histogram[column, 255]
        while reached < count and value > 1:
            value -= 1
            reached += histogram[column, value]
        least[column] = value
    for row in range(len(table)):
        for column in range(columns):
            if table[row, column] >= least[column]:
                marks[row] = True
