"""Scorers whose kernels read the quantized documents as they are stored: 8-bit codes, or residuals around centroids.

Queries are rounded to 8 bits per token. :mod:`~pyterrier_jacolbert.index.search.exact` defines the score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pyterrier_jacolbert.index.codecs.residual import ResidualCodec, check_centroid_ids
from pyterrier_jacolbert.index.codecs.scalar import Int8Codec, check_scales
from pyterrier_jacolbert.index.kernels.arguments import Documents, Int8Codes, ResidualCodes
from pyterrier_jacolbert.index.kernels.centroid_scores import dot_int8, quantize_table, score_centroids
from pyterrier_jacolbert.index.kernels.maxsim import LAYOUTS, maxsim_int8, maxsim_residual
from pyterrier_jacolbert.index.kernels.products import matrix_product
from pyterrier_jacolbert.index.kernels.query_layout import (
    DIM_STEP,
    TILE_ROWS,
    TILE_STEP,
    WIDTH,
    ZERO_POINT,
    PackedQuery,
    quantize_rows,
)
from pyterrier_jacolbert.index.search.inverted_lists import InvertedLists, probe
from pyterrier_jacolbert.index.threads import MapFn, cached_attribute, in_threads, thread_count

#: Minimum number of tokens that a thread scores at a time: some tenths of a millisecond, and what fits in a core's
#: second-level cache.
_CHUNK_TOKENS = 8192
#: Rows of a matrix product that a thread computes at a time.
_PRODUCT_ROWS = 2048
_MANY_QUERIES = 8


@dataclass(frozen=True)
class PreparedQuery:
    """A query in the forms that the kernels of a scorer need.

    Attributes:
        packed: in 8 bits.
        vectors: float32 ``(n_tokens, dim)``, rotated like the centroids.
        multiply_centroids: computes :attr:`centroid_products`; needs a scorer with centroids.
        map_fn: applies a function to the pieces of the work for this query.
    """

    packed: PackedQuery
    vectors: np.ndarray
    multiply_centroids: Callable[[PreparedQuery], np.ndarray]
    map_fn: MapFn

    @cached_attribute
    def centroid_products(self) -> np.ndarray:
        """The dot products of centroids and query tokens: float32 ``(n_centroids, b, 32)``."""
        return self.multiply_centroids(self)

    @cached_attribute
    def byte_table(self) -> np.ndarray:
        """The products of centroids and query tokens, rounded to bytes: uint8 ``(n_centroids, b, 32)``."""
        products = self.centroid_products
        table = np.empty(products.shape, dtype=np.uint8)
        quantize_table(products.reshape(len(products), -1), table.reshape(len(table), -1))
        return table

    def best_centroids(self, count: int) -> np.ndarray:
        """Returns the best ``count`` centroids of each query token, including ties with the last: int64, ascending."""
        marks = np.zeros(len(self.byte_table), dtype=np.bool_)
        probe(self.byte_table.reshape(len(marks), -1), len(self.vectors), count, marks)
        return np.flatnonzero(marks)


class QuantizedScorer:
    """Scores quantized documents. Subclasses implement :meth:`prepare` and :meth:`score`.

    Args:
        starts: int64 ``(n_docs + 1,)``.
        centroids: float32 ``(n_centroids, dim)``, needed for first-stage scores; None if there are none.
        centroid_ids: uint16 ``(n_tokens,)``, with ``centroids``.
    """

    queries_per_pass = 64

    def __init__(
        self, starts: np.ndarray, centroids: np.ndarray | None = None, centroid_ids: np.ndarray | None = None
    ) -> None:
        if centroid_ids is not None and centroids is not None:
            check_centroid_ids(centroid_ids, len(centroids))  # kernels do not check bounds
        self.starts = starts
        self._centroids = centroids
        self._centroid_ids = centroid_ids

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def has_centroids(self) -> bool:
        """Whether the scorer can compute first-stage scores."""
        return self._centroids is not None

    def scores(self, queries: Sequence[np.ndarray], docids: np.ndarray | None = None) -> np.ndarray:
        """Scores documents in threads; see :class:`~pyterrier_jacolbert.index.search.exact.Scorer`."""
        docids = np.arange(len(self)) if docids is None else docids
        prepared = [self.prepare(query, in_threads) for query in queries]
        scores = np.empty((len(queries), len(docids)), dtype=np.float32)

        def score(chunk: slice) -> None:
            for number, query in enumerate(prepared):
                self.score(query, docids[chunk], scores[number, chunk])

        for _ in in_threads(score, _chunks(self.starts, docids, len(queries))):
            pass
        return scores

    def scores_of(self, query: PreparedQuery, docids: np.ndarray) -> np.ndarray:
        """Returns the scores of documents for one query: float32 ``(n,)``.

        Args:
            query: prepared by this scorer.
            docids: int64 ``(n,)``.
        """
        scores = np.empty(len(docids), dtype=np.float32)

        def score(chunk: slice) -> None:
            self.score(query, docids[chunk], scores[chunk])

        for _ in query.map_fn(score, _chunks(self.starts, docids)):
            pass
        return scores

    def prepare(self, query: np.ndarray, map_fn: MapFn = map) -> PreparedQuery:
        """Converts a query to the forms that the kernels need.

        Args:
            query: float32 ``(n_tokens, dim)``.
            map_fn: applies a function to the pieces of the work for this query.
        """
        raise NotImplementedError

    def score(self, query: PreparedQuery, docids: np.ndarray, out: np.ndarray) -> None:
        """Scores documents in the calling thread.

        Args:
            query: prepared by this scorer.
            docids: int64 ``(n,)``.
            out: float32 ``(n,)``.
        """
        raise NotImplementedError

    def centroid_scores(self, query: PreparedQuery, docids: np.ndarray) -> np.ndarray:
        """Returns the first-stage scores of documents, which use the centroids of their tokens alone.

        Args:
            query: prepared by this scorer.
            docids: int64 ``(n,)``.

        Returns:
            int32 ``(n,)``, comparable between documents but not between queries; -1 for a document without tokens.
        """
        table = query.byte_table
        scores = np.empty(len(docids), dtype=np.int32)

        def score(chunk: slice) -> None:
            self.score_by_centroids(table, docids[chunk], scores[chunk])

        for _ in query.map_fn(score, _chunks(self.starts, docids)):
            pass
        return scores

    def score_by_centroids(self, table: np.ndarray, docids: np.ndarray, out: np.ndarray) -> None:
        """Computes first-stage scores in the calling thread.

        Args:
            table: uint8 ``(n_centroids, b, 32)``, see :attr:`PreparedQuery.byte_table`.
            docids: int64 ``(n,)``.
            out: int32 ``(n,)``.
        """
        assert self._centroid_ids is not None
        score_centroids(self._centroid_ids, Documents(self.starts, docids), table, out)

    def documents_of_centroids(self, centroids: np.ndarray, docids: np.ndarray) -> np.ndarray:
        """Returns the given documents that have a token of any of the centroids.

        Args:
            centroids: int64 ``(n,)``.
            docids: int64, ascending.

        Returns:
            int64, ascending.
        """
        documents = self._inverted_lists.documents(centroids)
        return documents if len(docids) == len(self) else np.intersect1d(documents, docids, assume_unique=True)

    @cached_attribute
    def _inverted_lists(self) -> InvertedLists:
        """The documents of each centroid; takes memory, so threads share one."""
        assert self._centroids is not None
        assert self._centroid_ids is not None
        return InvertedLists.of(np.asarray(self._centroid_ids), self.starts, len(self._centroids))


class Int8Scorer(QuantizedScorer):
    """Scores documents in the codes of an :class:`~pyterrier_jacolbert.index.codecs.scalar.Int8Codec`.

    Args:
        columns: the codec's columns; ``dim`` is a multiple of 16.
        starts: int64 ``(n_docs + 1,)``.
        codec: the codec of the columns.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], starts: np.ndarray, codec: Int8Codec) -> None:
        centroids = None if codec.centroids is None else codec.centroids.astype(np.float32)
        super().__init__(starts, centroids, columns.get("centroid_ids"))
        check_scales(columns["scales"])
        codes = _pad_to_tiles(columns["codes"]) if len(columns["codes"]) < TILE_ROWS else columns["codes"]
        self._codes = Int8Codes(codes, columns["scales"].view(np.uint16))
        self._rotation = codec.rotation

    @staticmethod
    def takes(dim: int) -> bool:
        """Returns whether the kernels support vectors of ``dim`` dimensions."""
        return dim % DIM_STEP == 0

    def prepare(self, query: np.ndarray, map_fn: MapFn = map) -> PreparedQuery:
        """Rotates and packs a query; see :meth:`QuantizedScorer.prepare`."""
        vectors = matrix_product(query, self._rotation, map)
        packed = PackedQuery.of(vectors, _fastest_layout(self._codes.codes.shape[1]))
        return PreparedQuery(packed, vectors, self._multiply_centroids, map_fn)

    def score(self, query: PreparedQuery, docids: np.ndarray, out: np.ndarray) -> None:
        """Scores documents in the calling thread; see :meth:`QuantizedScorer.score`."""
        maxsim_int8(self._codes, Documents(self.starts, docids), query.packed, out)

    @cached_attribute
    def _quantized_centroids(self) -> tuple[np.ndarray, np.ndarray]:
        """The codes of the centroids, uint8, and their scales, float32; both padded to whole tiles."""
        assert self._centroids is not None
        codes, scales = quantize_rows(self._centroids)
        return _pad_to_tiles(codes.view(np.uint8) + np.uint8(ZERO_POINT)), _pad_to_tiles(scales)

    def _multiply_centroids(self, query: PreparedQuery) -> np.ndarray:
        """Multiplies centroids and query in 8 bits, which is precise enough to select candidates."""
        assert self._centroids is not None
        codes, scales = self._quantized_centroids
        products = np.zeros((len(codes), *query.packed.scales.shape), dtype=np.float32)

        def multiply(rows: slice) -> None:
            dot_int8(codes[rows], scales[rows], query.packed, products[rows])

        for _ in query.map_fn(multiply, _row_slices(len(codes))):
            pass
        return products[: len(self._centroids)]


class ResidualScorer(QuantizedScorer):
    """Scores documents in the codes of a :class:`~pyterrier_jacolbert.index.codecs.residual.ResidualCodec`.

    The centroids' part of a score is in float32; the reconstruction levels of the residuals are rounded to 8 bits.

    Args:
        columns: ``residuals``, ``centroid_ids`` and ``gains``.
        starts: int64 ``(n_docs + 1,)``.
        codec: the codec of the columns.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], starts: np.ndarray, codec: ResidualCodec) -> None:
        super().__init__(starts, codec.centroids.astype(np.float32), columns["centroid_ids"])
        self._codec = codec
        self._top_level = np.abs(codec.reconstruction_levels).max() or np.float32(1)
        levels = np.zeros(16, dtype=np.uint8)
        scaled = codec.reconstruction_levels / self._top_level * 127
        levels[: len(scaled)] = np.rint(scaled) + ZERO_POINT
        self._codes = ResidualCodes(
            columns["residuals"], columns["centroid_ids"], columns["gains"], levels, codec.bits, *codec.factors()
        )

    def prepare(self, query: np.ndarray, map_fn: MapFn = map) -> PreparedQuery:
        """Rotates and packs a query, and multiplies centroids and query; see :meth:`QuantizedScorer.prepare`."""
        vectors = matrix_product(query, self._codec.rotation, map)
        layout = _fastest_layout(-(-vectors.shape[1] // DIM_STEP) * DIM_STEP)
        packed = PackedQuery.of(vectors * self._codec.residual_stds, layout)
        packed = packed._replace(scales=packed.scales * np.float32(self._top_level / 127))
        prepared = PreparedQuery(packed, vectors, self._multiply_centroids, map_fn)
        _ = prepared.centroid_products  # once, before threads need it
        return prepared

    def score(self, query: PreparedQuery, docids: np.ndarray, out: np.ndarray) -> None:
        """Scores documents in the calling thread; see :meth:`QuantizedScorer.score`."""
        maxsim_residual(self._codes, Documents(self.starts, docids), query.packed, query.centroid_products, out)

    def _multiply_centroids(self, query: PreparedQuery) -> np.ndarray:
        assert self._centroids is not None
        columns = np.zeros((query.vectors.shape[1], query.packed.scales.size), dtype=np.float32)
        columns[:, : len(query.vectors)] = query.vectors.T
        return matrix_product(self._centroids, columns, query.map_fn).reshape(len(self._centroids), -1, WIDTH)


def _fastest_layout(dim: int) -> str:
    """Returns the fastest layout of this processor for vectors of ``dim`` dimensions."""
    return next(layout for layout in LAYOUTS if layout != "amx" or dim % TILE_STEP == 0)


def _pad_to_tiles(rows: np.ndarray) -> np.ndarray:
    """Pads rows with zeros to a multiple of a tile's rows, because instructions read whole tiles."""
    padded = np.zeros((max(1, -(-len(rows) // TILE_ROWS)) * TILE_ROWS, *rows.shape[1:]), dtype=rows.dtype)
    padded[: len(rows)] = rows
    return padded


def _row_slices(n_rows: int) -> list[slice]:
    return [slice(first, first + _PRODUCT_ROWS) for first in range(0, n_rows, _PRODUCT_ROWS)]


def _chunks(starts: np.ndarray, docids: np.ndarray, n_queries: int = 1) -> Iterator[slice]:
    """Cuts documents into chunks for threads, of at least one document each.

    With many queries, the codes of a chunk stay in a core's cache while each query passes over them. With few queries,
    distributing such chunks would take longer than scoring them, so each thread gets about eight chunks.
    """
    ends = np.cumsum(starts[docids + 1] - starts[docids])
    size = _CHUNK_TOKENS
    if len(docids) and n_queries < _MANY_QUERIES:
        size = max(size, int(ends[-1]) // (8 * thread_count()))
    first, done = 0, 0
    while first < len(docids):
        end = max(first + 1, int(np.searchsorted(ends, done + size, side="right")))
        yield slice(first, end)
        first, done = end, int(ends[end - 1])
