"""Retrievers: queries in, rankings of an index out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import ALLOWED_DOCNOS, QID, QUERY, QUERY_EMBS, check_ids
from pyterrier_jacolbert.index.limits import TORCH_DTYPES, check_choice, check_positive
from pyterrier_jacolbert.pipeline.base import SettingsTransformer
from pyterrier_jacolbert.pipeline.frames import check_one_query_per_qid, first_rows, results
from pyterrier_jacolbert.pipeline.protocols import Index, index_queries
from pyterrier_jacolbert.pipeline.rerankers import IndexReranker

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.reader import IndexReader
    from pyterrier_jacolbert.index.search.exact import Hits
    from pyterrier_jacolbert.index.search.torch import TorchSearch

#: Trade-offs between speed and recall.
QUALITIES = ("fast", "balanced", "exact")


class BaseRetriever(SettingsTransformer):
    """The common part of retrievers: from a frame of queries to a ranking, and limits on the documents searched."""

    index: Index
    num_results: int
    docnos: tuple[str, ...] | None

    def filter(self, docnos: Sequence[str]) -> Self:
        """Returns a retriever that searches only the given documents; the fewer, the faster.

        Args:
            docnos: the only documents to search.

        Returns:
            A new retriever; this one does not change.

        Raises:
            ValueError: (on searching) the index does not have one of the documents.
        """
        before = None if self.docnos is None else set(self.docnos)
        kept = [docno for docno in docnos if before is None or docno in before]
        filtered = pt.inspect.transformer_apply_attributes(self, docnos=kept)
        assert isinstance(filtered, type(self))
        return filtered

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks the documents of the index for each query of a frame.

        Args:
            inp: a frame with ``qid`` and ``query`` or ``query_embs``.

        Returns:
            The query columns with docno, score and rank: queries in the order of the frame, best document first, ties
            by docno descending. A query that is in several rows with the same qid gets one ranking, with the other
            columns of its first row.

        Raises:
            pt.validate.InputValidationError: ``qid`` is missing, or both ``query`` and ``query_embs`` are; or the frame
                has documents already (re-rank those with ``index.scorer()``).
            ValueError: a qid or query is not a string; a qid stands for two queries, by their text, vectors or allowed
                docnos; vectors are not a finite matrix or have other dimensions; or the index does not have an allowed
                docno.
        """
        with pt.validate.any(inp, context=self) as allowed:
            allowed.query_frame([QUERY], mode="query")
            allowed.query_frame([QUERY_EMBS], mode="vectors")
        if inp.empty:
            return results(inp, np.empty(0, dtype=np.int64), [], np.empty(0))
        check_ids(inp, QID)
        reader = self.index.token_vectors()  # once: another thread may update the index
        query_numbers, vectors = index_queries(self.index, reader, inp)
        firsts = first_rows(inp)
        if len(firsts) < len(inp):
            _check_allowed_docnos(inp)
            inp, query_numbers = inp.iloc[firsts], query_numbers[firsts]
        hits: list[Any] = [None] * len(inp)
        for rows, allowed_docnos in _rows_by_allowed_docnos(inp):
            distinct, positions = np.unique(query_numbers[rows], return_inverse=True)
            docids = self._searched_docids(reader, allowed_docnos)
            rankings = list(self._search(reader, [vectors[number] for number in distinct], docids))
            for row, position in zip(rows, positions, strict=True):
                hits[row] = rankings[position]
        docids = np.concatenate([docids for docids, _ in hits])
        scores = np.concatenate([scores for _, scores in hits])
        rows = np.repeat(np.arange(len(inp)), [len(docids) for docids, _ in hits])
        return results(inp, rows, [reader.docnos[docid] for docid in docids], scores)

    @abstractmethod
    def _search(self, reader: IndexReader, vectors: list[np.ndarray], docids: np.ndarray | None) -> Iterator[Hits]:
        """Yields the hits of each query among the given documents, or among all."""

    def _searched_docids(self, reader: IndexReader, allowed_docnos: Sequence[str] | None) -> np.ndarray | None:
        """Returns the documents to search, ascending; None for all documents."""
        docids = reader.present
        for docnos in (self.docnos, allowed_docnos):
            if docnos is not None:
                chosen = np.unique(reader.docnos.known_docids(docnos, owner=repr(self.index)))
                docids = chosen if docids is None else np.intersect1d(docids, chosen)
        return docids

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """Fuses ``retriever % k`` to a retriever with ``k`` results, unless it has fewer already."""
        return self if k >= self.num_results else pt.inspect.transformer_apply_attributes(self, num_results=k)


class Retriever(BaseRetriever):
    """Retrieves the best documents of an index by MaxSim.

    If the index has centroids (residual compressions, and int8 from 500,000 tokens on), the search has two stages: the
    first scores documents by the centroids of their tokens, the second gives the best of them a full score. If more
    than 5 million tokens are searched, the first stage scores only documents with one of the nearest centroids of a
    query token. Without centroids, or with ``quality="exact"``, every document gets a full score.

    Takes ``query``, or ``query_embs`` if the frame has them (no checkpoint is loaded then). All queries of a frame are
    searched together; each is encoded on its own, so the other queries make no difference. A column ``allowed_docnos``
    with a list of docnos per query limits the documents searched.

    Args:
        index: the index.
        num_results: maximum number of results per query.
        quality: ``"fast"``, ``"balanced"`` or ``"exact"``; the documentation states their recall and time.
        n_candidates: number of documents that the first stage passes to the second; None takes ``num_results + 400`` if
            ``quality`` is fast, and ``3 * num_results + 700`` if it is balanced.
        n_probe: centroids per query token whose documents the first stage scores. None scores all documents if fewer
            than 5 million tokens are searched, and otherwise takes 4 if ``quality`` is fast, and 8 if it is balanced.
        docnos: documents to search; None searches all.

    Raises:
        ValueError: a setting is out of its range.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT", "help_url": None}

    def __init__(
        self,
        index: Index,
        *,
        num_results: int = 1000,
        quality: str = "balanced",
        n_candidates: int | None = None,
        n_probe: int | None = None,
        docnos: Sequence[str] | None = None,
    ) -> None:
        check_choice("quality", quality, QUALITIES)
        check_positive(num_results=num_results)
        check_positive(optional=True, n_candidates=n_candidates, n_probe=n_probe)
        self.index = index
        self.num_results = num_results
        self.quality = quality
        self.n_candidates = n_candidates
        self.n_probe = n_probe
        self.docnos = docno_tuple(docnos)

    def _search(self, reader: IndexReader, vectors: list[np.ndarray], docids: np.ndarray | None) -> Iterator[Hits]:
        from pyterrier_jacolbert.index.search.exact import search_exact
        from pyterrier_jacolbert.index.search.two_stage import default_n_candidates, default_n_probe, search_two_stage

        arguments = (vectors, self.num_results, reader.docnos.ranks, docids)
        if self.quality == "exact" or reader.two_stage_scorer is None:
            return search_exact(reader.scorer, *arguments)
        n_candidates = self.n_candidates or default_n_candidates(self.quality, self.num_results)
        n_probe = self.n_probe or default_n_probe(self.quality, reader.starts, docids)
        return search_two_stage(reader.two_stage_scorer, *arguments, n_candidates=n_candidates, n_probe=n_probe)

    def fuse_right(self, right: pt.Transformer) -> pt.Transformer | None:
        """Fuses ``retriever >> index.scorer()`` to the retriever, whose scores are already those of the re-ranker."""
        return self if isinstance(right, IndexReranker) and right.index == self.index else None


class TorchRetriever(BaseRetriever):
    """Scores every document by matrix products of torch, on a GPU or a CPU, for all queries of a frame together.

    The vectors are copied to the device on the first frame, and stay there if they fit.

    Args:
        index: the index.
        num_results: maximum number of results per query.
        device: ``"cuda"``, ``"cuda:1"``, ``"cpu"``; None takes a GPU if there is one.
        dtype: of the products: ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"int8"``; None takes float16 on a GPU
            and float32 on a CPU.
        docnos: documents to search; None searches all.

    Raises:
        ValueError: a setting is out of its range.
    """

    schematic: dict[str, Any] = {"label": "JaColBERT torch", "help_url": None}

    def __init__(
        self,
        index: Index,
        *,
        num_results: int = 1000,
        device: str | None = None,
        dtype: str | None = None,
        docnos: Sequence[str] | None = None,
    ) -> None:
        check_positive(num_results=num_results)
        check_choice("dtype", dtype, (None, *TORCH_DTYPES))
        self.index = index
        self.num_results = num_results
        self.device = device
        self.dtype = dtype
        self.docnos = docno_tuple(docnos)
        self._on_device: TorchSearch | None = None

    def _search(self, reader: IndexReader, vectors: list[np.ndarray], docids: np.ndarray | None) -> Iterator[Hits]:
        if self._on_device is None or self._on_device.vectors is not reader:
            import torch

            from pyterrier_jacolbert.index.search.torch import TorchSearch

            self._on_device = None  # frees the old vectors before the new ones are copied
            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            dtype = self.dtype or ("float32" if device == "cpu" else "float16")
            self._on_device = TorchSearch(reader, device, dtype)
        return self._on_device.search(vectors, self.num_results, reader.docnos.ranks, docids)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_on_device": None}


def docno_tuple(docnos: Sequence[str] | None) -> tuple[str, ...] | None:
    """Returns docnos as a tuple.

    Raises:
        ValueError: they are a single string.
    """
    if isinstance(docnos, str):
        raise ValueError(f"docnos must be a list of docnos, not the string {docnos!r}.")
    return None if docnos is None else tuple(docnos)


def _check_allowed_docnos(inp: pd.DataFrame) -> None:
    """Checks that the rows of a qid allow the same docnos.

    Raises:
        ValueError: a qid has two lists of allowed docnos.
    """
    numbers = np.empty(len(inp), dtype=np.int64)
    for number, (rows, _) in enumerate(_rows_by_allowed_docnos(inp)):
        numbers[rows] = number
    check_one_query_per_qid(inp, numbers)


def _rows_by_allowed_docnos(inp: pd.DataFrame) -> list[tuple[np.ndarray, tuple[str, ...] | None]]:
    """Groups the rows of a frame by their allowed docnos; without such a column, all rows are one group with None."""
    if ALLOWED_DOCNOS not in inp.columns:
        return [(np.arange(len(inp)), None)]
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, (qid, docnos) in enumerate(zip(inp[QID], inp[ALLOWED_DOCNOS], strict=True)):
        if isinstance(docnos, str) or not hasattr(docnos, "__iter__"):
            raise ValueError(f"The {ALLOWED_DOCNOS} of qid {qid!r} are {docnos!r}; give a list of docnos.")
        groups.setdefault(tuple(docnos), []).append(row)
    return [(np.array(rows), docnos) for docnos, rows in groups.items()]
