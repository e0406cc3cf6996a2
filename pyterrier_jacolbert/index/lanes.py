"""How documents are scored by floats; :mod:`~pyterrier_jacolbert.index.coded_lanes` scores them by codes.

The score of a document is the sum over query tokens of the greatest cosine with any document token (Khattab and
Zaharia 2020, equation 3). A document without tokens scores -inf.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyterrier_jacolbert.index.kernels import segment_max

#: A block of similarities, float32 (tokens, query tokens), is 4,096 x 512 x 4 bytes = 8 MiB: large enough for the
#: matrix product, small enough for a CPU's last cache (benchmarks/search.py).
_BLOCK_TOKENS = 4096
_BLOCK_COLUMNS = 512
#: Documents whose vectors are gathered at once: 512 documents of 300 tokens of 128 floats are 75 MiB.
_TAKEN_AT_ONCE = 512


class Lane(Protocol):
    """Documents that can be scored."""

    #: Queries that are scored together; bounds the memory.
    together: int

    @property
    def starts(self) -> np.ndarray:
        """int64 ``(n_docs + 1,)``: document ``i`` has the tokens ``starts[i]`` to ``starts[i + 1]``."""
        ...

    def scores(self, queries: Sequence[np.ndarray], docids: np.ndarray | None = None) -> np.ndarray:
        """The scores of documents.

        Args:
            queries: for each float32 ``(n_tokens, dim)``.
            docids: int64 ``(n,)``; None takes all.

        Returns:
            float32 ``(n_queries, n)``.
        """
        ...


class Vectors(Protocol):
    """The token vectors of many texts, in memory or in an index."""

    @property
    def starts(self) -> np.ndarray:
        """int64 ``(n_texts + 1,)``: text ``i`` has rows ``starts[i]`` to ``starts[i + 1]``."""
        ...

    def take(self, docids: np.ndarray) -> TokenVectors:
        """The vectors of some texts."""
        ...

    def rows(self, first: int, end: int) -> np.ndarray:
        """The vectors of texts ``first`` to ``end`` in float32: ``(n_tokens, dim)``."""
        ...


@dataclass(frozen=True)
class TokenVectors:
    """The token vectors of many texts, end to end.

    Attributes:
        vectors: float16 or float32 ``(n_tokens, dim)``, unit rows.
        starts: int64 ``(n_texts + 1,)``: text ``i`` has rows ``starts[i]`` to ``starts[i + 1]``.
    """

    vectors: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, texts: Sequence[np.ndarray]) -> TokenVectors:
        """Lays out vectors given text by text, each ``(n_tokens, dim)``."""
        starts = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(rows) for rows in texts], out=starts[1:])
        vectors = np.concatenate(texts) if len(texts) else np.empty((0, 0), dtype=np.float32)
        return cls(vectors, starts)

    def take(self, docids: np.ndarray) -> TokenVectors:
        """The vectors of some texts."""
        texts = [self.vectors[self.starts[docid] : self.starts[docid + 1]] for docid in docids]
        return TokenVectors.of(texts)

    def rows(self, first: int, end: int) -> np.ndarray:
        """The vectors of texts ``first`` to ``end`` in float32: ``(n_tokens, dim)``."""
        return self.vectors[self.starts[first] : self.starts[end]].astype(np.float32, copy=False)


class FloatLane:
    """Matrix products in float32, over blocks of documents and all queries at once.

    Args:
        vectors: of the documents; read block by block.
    """

    together = 2**16

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    @property
    def starts(self) -> np.ndarray:
        """As :class:`Lane` says."""
        return self._vectors.starts

    def scores(self, queries: Sequence[np.ndarray], docids: np.ndarray | None = None) -> np.ndarray:
        """As :class:`Lane` says."""
        if docids is None:
            return _float_scores(self._vectors, queries)
        scores = np.empty((len(queries), len(docids)), dtype=np.float32)
        for first in range(0, len(docids), _TAKEN_AT_ONCE):
            taken = slice(first, first + _TAKEN_AT_ONCE)
            scores[:, taken] = _float_scores(self._vectors.take(docids[taken]), queries)
        return scores


def _float_scores(documents: Vectors, queries: Sequence[np.ndarray]) -> np.ndarray:
    """The scores of all documents: float32 ``(n_queries, n_docs)``."""
    bounds = np.concatenate([[0], np.cumsum([len(query) for query in queries])])
    columns = np.ascontiguousarray(np.concatenate(queries).T, dtype=np.float32)
    starts = documents.starts
    scores = np.empty((len(queries), len(starts) - 1), dtype=np.float32)
    groups = list(_column_groups(bounds))
    for first, end in _document_blocks(starts):
        block = documents.rows(first, end)
        block_starts = starts[first : end + 1] - starts[first]
        for group in groups:
            similarities = block @ columns[:, bounds[group.start] : bounds[group.stop]]
            best = np.empty((end - first, similarities.shape[1]), dtype=np.float32)
            segment_max(similarities, block_starts, best)
            sums = np.add.reduceat(best, bounds[group.start : group.stop] - bounds[group.start], axis=1)
            scores[group.start : group.stop, first:end] = sums.T
    return scores


def _column_groups(bounds: np.ndarray) -> Iterator[range]:
    """Cuts the queries into runs of about ``_BLOCK_COLUMNS`` query tokens (at least one query each)."""
    first = 0
    for query in range(1, len(bounds)):
        if query + 1 == len(bounds) or bounds[query + 1] - bounds[first] > _BLOCK_COLUMNS:
            yield range(first, query)
            first = query


def _document_blocks(starts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cuts the documents into runs of about ``_BLOCK_TOKENS`` tokens (at least one document each)."""
    first, n_docs = 0, len(starts) - 1
    while first < n_docs:
        end = int(np.searchsorted(starts, starts[first] + _BLOCK_TOKENS, side="right")) - 1
        end = min(max(end, first + 1), n_docs)
        yield first, end
        first = end
