"""How documents are scored by codes that kernels read as they are: of 8 bits, or residuals around centroids.

The query is rounded to 8 bits, token by token. What a score is, :mod:`~pyterrier_jacolbert.index.lanes` says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pyterrier_jacolbert.index.inverted import InvertedLists, probe
from pyterrier_jacolbert.index.kernels import (
    LAYOUTS,
    maxsim_int8,
    maxsim_residual,
    multiply,
    products_int8,
    score_centroids,
    shrink,
)
from pyterrier_jacolbert.index.panels import DIM_STEP, OFFSET, TILE_ROWS, TILE_STEP, WIDTH, Panel, rounded
from pyterrier_jacolbert.index.residual_codec import ResidualCodec, check_centroid_ids
from pyterrier_jacolbert.index.scalar_codecs import Int8Codec
from pyterrier_jacolbert.index.threads import Each, in_threads, thread_count

#: The fewest tokens that a thread takes up at a time: some tenths of a millisecond, and what fits its second cache.
_CHUNK_TOKENS = 8192
#: Rows of a product that one thread makes at a time.
_PRODUCT_ROWS = 2048
_MANY_QUERIES = 8


class CodedLane:
    """Documents in codes.

    Args:
        starts: int64 ``(n_docs + 1,)``.
        centroids: None, or float32 ``(n_centroids, dim)``, by which documents can be scored roughly.
        centroid_ids: uint16 ``(n_tokens,)``, with ``centroids``.
    """

    together = 64

    def __init__(
        self, starts: np.ndarray, centroids: np.ndarray | None = None, centroid_ids: np.ndarray | None = None
    ) -> None:
        if centroid_ids is not None and centroids is not None:
            check_centroid_ids(centroid_ids, len(centroids))  # the kernels do not look before they read
        self.starts = starts
        self._centroids = centroids
        self._centroid_ids = centroid_ids
        self._inverted_lists: InvertedLists | None = None
        self._making = threading.Lock()

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def has_centroids(self) -> bool:
        """Whether :meth:`rough_scores` can be asked for."""
        return self._centroids is not None

    def scores(self, queries: Sequence[np.ndarray], docids: np.ndarray | None = None) -> np.ndarray:
        """As :class:`Lane` says."""
        chosen = np.arange(len(self)) if docids is None else docids
        prepared = [self.prepare(query, in_threads) for query in queries]
        scores = np.empty((len(queries), len(chosen)), dtype=np.float32)

        def score(chunk: slice) -> None:
            for number, query in enumerate(prepared):
                self.score(query, chosen[chunk], scores[number, chunk])

        for _ in in_threads(score, _chunks(self.starts, chosen, len(queries))):
            pass
        return scores

    def scores_of(self, query: Prepared, docids: np.ndarray) -> np.ndarray:
        """The scores of documents: float32 ``(n,)``; arguments as of :meth:`rough_scores`."""
        scores = np.empty(len(docids), dtype=np.float32)

        def score(chunk: slice) -> None:
            self.score(query, docids[chunk], scores[chunk])

        for _ in query.each(score, _chunks(self.starts, docids)):
            pass
        return scores

    def prepare(self, query: np.ndarray, each: Each = map) -> Prepared:
        """What a query is to the kernels.

        Args:
            query: float32 ``(n_tokens, dim)``.
            each: how the pieces of the work for this query are done.
        """
        raise NotImplementedError

    def score(self, query: Prepared, docids: np.ndarray, out: np.ndarray) -> None:
        """Scores documents, in this thread: float32 ``(n,)`` into ``out``."""
        raise NotImplementedError

    def rough_scores(self, query: Prepared, docids: np.ndarray) -> np.ndarray:
        """Scores documents by their centroids alone: int32 ``(n,)``, of no scale of their own; -1 without tokens.

        Args:
            query: prepared by this lane.
            docids: int64 ``(n,)``.
        """
        table = query.small_table
        out = np.empty(len(docids), dtype=np.int32)

        def score(chunk: slice) -> None:
            self.score_roughly(table, docids[chunk], out[chunk])

        for _ in query.each(score, _chunks(self.starts, docids)):
            pass
        return out

    def probed(self, centroids: np.ndarray, docids: np.ndarray) -> np.ndarray:
        """Those of some documents that have one of some centroids.

        Args:
            centroids: int64 ``(n,)``.
            docids: int64, ascending.

        Returns:
            int64, ascending.
        """
        with self._making:
            if self._inverted_lists is None:
                assert self._centroids is not None
                assert self._centroid_ids is not None
                ids = np.asarray(self._centroid_ids)
                self._inverted_lists = InvertedLists.of(ids, self.starts, len(self._centroids))
        found = self._inverted_lists.documents(centroids)
        return found if len(docids) == len(self) else np.intersect1d(found, docids, assume_unique=True)

    def score_roughly(self, table: np.ndarray, docids: np.ndarray, out: np.ndarray) -> None:
        """Scores documents by their centroids, in this thread.

        Args:
            table: uint8 ``(n_centroids, b, 32)``: the query's products with the centroids, in bytes.
            docids: int64 ``(n,)``.
            out: int32 ``(n,)``.
        """
        assert self._centroid_ids is not None
        score_centroids(self._centroid_ids, self.starts, docids, table, out)


@dataclass(frozen=True)
class Prepared:
    """A query as a lane's kernels take it.

    Attributes:
        panel: in 8 bits.
        query: float32 ``(n_tokens, dim)``, rotated as the centroids are.
        make_table: what makes its table, where there are centroids.
        each: how the pieces of the work for it are done.
    """

    panel: Panel
    query: np.ndarray
    make_table: Callable[[Prepared], np.ndarray]
    each: Each

    @cached_property
    def table(self) -> np.ndarray:
        """The products of the centroids and the query: float32 ``(n_centroids, b, 32)``."""
        return self.make_table(self)

    @cached_property
    def small_table(self) -> np.ndarray:
        """The same in bytes: uint8 ``(n_centroids, b, 32)``."""
        small = np.empty(self.table.shape, dtype=np.uint8)
        shrink(self.table.reshape(len(self.table), -1), small.reshape(len(small), -1))
        return small

    def best_centroids(self, count: int) -> np.ndarray:
        """The best ``count`` centroids of each query token, and what equals the last of them: int64, ascending."""
        chosen = np.zeros(len(self.small_table), dtype=np.bool_)
        probe(self.small_table.reshape(len(chosen), -1), len(self.query), count, chosen)
        return np.flatnonzero(chosen)


class Int8Lane(CodedLane):
    """Documents in the codes of :class:`~pyterrier_jacolbert.index.scalar_codecs.Int8Codec`.

    Args:
        columns: what the codec makes; ``dim`` a multiple of 16.
        starts: int64 ``(n_docs + 1,)``.
        codec: made the columns.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], starts: np.ndarray, codec: Int8Codec) -> None:
        centroids = None if codec.centroids is None else codec.centroids.astype(np.float32)
        super().__init__(starts, centroids, columns.get("centroid_ids"))
        self._codes = _whole_tiles(columns["codes"]) if len(columns["codes"]) < TILE_ROWS else columns["codes"]
        self._scales = columns["scales"].view(np.uint16)
        self._rotation = codec.rotation

    @staticmethod
    def takes(dim: int) -> bool:
        """Whether the kernels take vectors of so many numbers."""
        return dim % DIM_STEP == 0

    def prepare(self, query: np.ndarray, each: Each = map) -> Prepared:
        """As :class:`CodedLane` says."""
        rotated = _product(query, self._rotation)
        return Prepared(Panel.of(rotated, _layout(self._codes.shape[1])), rotated, self._table, each)

    def score(self, query: Prepared, docids: np.ndarray, out: np.ndarray) -> None:
        """As :class:`CodedLane` says."""
        panel = query.panel
        arguments = (self.starts, docids, panel.rows, panel.corrections, panel.steps, panel.tokens, out)
        maxsim_int8(self._codes, self._scales, *arguments)

    @cached_property
    def _coded_centroids(self) -> tuple[np.ndarray, np.ndarray]:
        """The centroids in 8 bits, whole tiles of them, and their steps."""
        assert self._centroids is not None
        rows, steps = rounded(self._centroids)
        return _whole_tiles(rows.view(np.uint8) + np.uint8(OFFSET)), _whole_tiles(steps)

    def _table(self, query: Prepared) -> np.ndarray:
        """The table of a query: of 8-bit centroids, which is enough to choose candidates by."""
        codes, steps = self._coded_centroids
        panel = query.panel
        out = np.zeros((len(codes), *panel.steps.shape), dtype=np.float32)

        def multiply_piece(piece: slice) -> None:
            arguments = (panel.rows, panel.corrections, panel.steps, panel.tokens, out[piece])
            products_int8(codes[piece], steps[piece], *arguments)

        for _ in query.each(multiply_piece, _pieces(len(codes))):
            pass
        assert self._centroids is not None
        return out[: len(self._centroids)]


class ResidualLane(CodedLane):
    """Documents in the codes of a :class:`~pyterrier_jacolbert.index.residual_codec.ResidualCodec`.

    The centroid's part of a score is in float32; the residual's levels are rounded to 8 bits.

    Args:
        columns: ``residuals``, ``centroid_ids`` and ``gains``.
        starts: int64 ``(n_docs + 1,)``.
        codec: made the columns.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], starts: np.ndarray, codec: ResidualCodec) -> None:
        super().__init__(starts, codec.centroids.astype(np.float32), columns["centroid_ids"])
        self._columns = columns
        self._codec = codec
        self._top = np.abs(codec.levels).max()
        self._levels = np.zeros(16, dtype=np.uint8)
        self._levels[: len(codec.levels)] = np.rint(codec.levels / self._top * 127) + OFFSET
        self._lengths, self._norms = codec.factors()

    def prepare(self, query: np.ndarray, each: Each = map) -> Prepared:
        """As :class:`CodedLane` says."""
        rotated = _product(query, self._codec.rotation)
        panel = Panel.of(rotated * self._codec.spreads, _layout(-(-rotated.shape[1] // DIM_STEP) * DIM_STEP))
        steps = panel.steps * np.float32(self._top / 127)
        prepared = Prepared(replace(panel, steps=steps), rotated, self._table, each)
        _ = prepared.table  # once, before threads ask for it
        return prepared

    def score(self, query: Prepared, docids: np.ndarray, out: np.ndarray) -> None:
        """As :class:`CodedLane` says."""
        panel, columns = query.panel, self._columns
        maxsim_residual(
            columns["residuals"],
            columns["centroid_ids"],
            columns["gains"],
            self.starts,
            docids,
            self._levels,
            self._codec.bits,
            self._lengths,
            self._norms,
            query.table,
            panel.rows,
            panel.corrections,
            panel.steps,
            panel.tokens,
            out,
        )

    def _table(self, query: Prepared) -> np.ndarray:
        assert self._centroids is not None
        columns = np.zeros((query.query.shape[1], query.panel.steps.size), dtype=np.float32)
        columns[:, : len(query.query)] = query.query.T
        return _product(self._centroids, columns, query.each).reshape(len(self._centroids), -1, WIDTH)


def _layout(dim: int) -> str:
    """The fastest layout for vectors of so many numbers."""
    return next(layout for layout in LAYOUTS if layout != "tiles" or dim % TILE_STEP == 0)


def _whole_tiles(rows: np.ndarray) -> np.ndarray:
    """Rows, and zeros behind them up to a multiple of what a tile holds, since a tile is read whole."""
    out = np.zeros((max(1, -(-len(rows) // TILE_ROWS)) * TILE_ROWS, *rows.shape[1:]), dtype=rows.dtype)
    out[: len(rows)] = rows
    return out


def _product(rows: np.ndarray, columns: np.ndarray, each: Each = map) -> np.ndarray:
    """The product of float32 ``(n, k)`` and ``(k, m)``."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    padded = np.zeros((columns.shape[0], -(-columns.shape[1] // WIDTH) * WIDTH), dtype=np.float32)
    padded[:, : columns.shape[1]] = columns
    out = np.empty((len(rows), padded.shape[1]), dtype=np.float32)
    for _ in each(lambda piece: multiply(rows[piece], padded, out[piece]), _pieces(len(rows))):
        pass
    return out[:, : columns.shape[1]]


def _pieces(rows: int) -> list[slice]:
    return [slice(first, first + _PRODUCT_ROWS) for first in range(0, rows, _PRODUCT_ROWS)]


def _chunks(starts: np.ndarray, docids: np.ndarray, n_queries: int = 1) -> Iterator[slice]:
    """Cuts documents into runs for threads to take up, at least one document each.

    With many queries a run's codes stay in a core's cache while one query after the other passes over them; with few,
    handing out runs would take longer than they do, so there are about eight a thread.
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
