"""Retrievers: queries in, rankings of the index out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.frames import ALLOWED_DOCNOS, QID, QUERY, QUERY_EMBS, check_ids, results
from pyterrier_jacolbert.index.limits import TORCH_DTYPES, check_num_results
from pyterrier_jacolbert.pipeline.scorers import IndexScorer
from pyterrier_jacolbert.pipeline.sources import Index, index_queries
from pyterrier_jacolbert.transformer import SettingsTransformer

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.stored import Stored
    from pyterrier_jacolbert.index.torch_search import TorchSearch

#: Documents that a two-stage search scores in full: so many times the results, and so many more.
_CANDIDATES = {"fast": (1, 400), "balanced": (3, 700)}
#: Tokens of an index from which on the first stage looks at the documents of some centroids instead of at all
#: (benchmarks/search.py), and how many centroids for each query token.
PROBED_TOKENS = 5_000_000
PROBES = {"fast": 4, "balanced": 8}
QUALITIES = (*_CANDIDATES, "exact")


def candidate_count(quality: str, num_results: int) -> int:
    """Documents that the first stage leaves to the second."""
    times, more = _CANDIDATES[quality]
    return times * num_results + more


def probes_of(quality: str, starts: np.ndarray, docids: np.ndarray | None) -> int | None:
    """Centroids of each query token whose documents the first stage looks at; None where it looks at all documents.

    Args:
        quality: ``"fast"`` or ``"balanced"``.
        starts: of the documents of the index.
        docids: of those that are searched; None stands for all.
    """
    tokens = starts[-1] if docids is None else (starts[docids + 1] - starts[docids]).sum()
    return None if tokens < PROBED_TOKENS else PROBES[quality]


def check_positive(**numbers: int | None) -> None:
    """Checks settings that are whole numbers above 0, or None.

    Raises:
        ValueError: one is not.
    """
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(f"{name} must be a positive integer or None, not {number!r}.")


class BaseRetriever(SettingsTransformer):
    """What retrievers share: frames in, frames out, and the limits on what is searched."""

    index: Index
    num_results: int
    docnos: tuple[str, ...] | None

    def filter(self, docnos: Sequence[str]) -> Self:
        """A retriever of these documents alone; the fewer, the faster.

        Args:
            docnos: the only documents to search.

        Returns:
            A new retriever; this one stays as it is.

        Raises:
            ValueError: (when it searches) the index does not have one of them.
        """
        before = None if self.docnos is None else set(self.docnos)
        kept = [docno for docno in docnos if before is None or docno in before]
        filtered = pt.inspect.transformer_apply_attributes(self, docnos=kept)
        assert isinstance(filtered, type(self))
        return filtered

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks the index for each query of a frame.

        Args:
            inp: a frame with ``qid`` and ``query`` or ``query_embs``.

        Returns:
            The query columns with docno, score and rank: queries in the frame's order, best document first, ties by
            docno descending.

        Raises:
            pt.validate.InputValidationError: ``qid`` is missing, or both ``query`` and ``query_embs``; or the frame
                has documents already (re-rank those with ``index.scorer()``).
            ValueError: a qid or query that is not a string, a repeated qid, vectors of another dimension, or allowed
                docnos that the index does not have.
        """
        with pt.validate.any(inp, context=self) as allowed:
            allowed.query_frame([QUERY], mode="query")
            allowed.query_frame([QUERY_EMBS], mode="vectors")
        if inp.empty:
            return results(inp, np.empty(0, dtype=np.int64), [], np.empty(0))
        check_ids(inp, QID)
        stored = self.index.token_vectors()  # once: another thread may change the index
        codes, vectors = index_queries(self.index, stored, inp)
        groups = _by_allowed(inp)
        found: list[Any] = [None] * len(inp)
        for rows, names in groups:
            distinct, positions = np.unique(codes[rows], return_inverse=True)
            searched = self._searched(stored, names)
            rankings = list(self._search(stored, [vectors[code] for code in distinct], searched))
            for row, position in zip(rows, positions, strict=True):
                found[row] = rankings[position]
        docids = np.concatenate([ranking[0] for ranking in found])
        scores = np.concatenate([ranking[1] for ranking in found])
        rows = np.repeat(np.arange(len(inp)), [len(ranking[0]) for ranking in found])
        return results(inp, rows, [stored.docnos[docid] for docid in docids], scores)

    def _search(
        self, stored: Stored, vectors: list[np.ndarray], docids: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each query docids and scores, best first; of the given documents, or of all."""
        raise NotImplementedError

    def _searched(self, stored: Stored, names: Sequence[str] | None) -> np.ndarray | None:
        """The documents to search, ascending; None where it is all."""
        docids = stored.present
        for given in (self.docnos, names):
            if given is not None:
                chosen = np.unique(stored.docnos.known_docids(given, owner=repr(self.index)))
                docids = chosen if docids is None else np.intersect1d(docids, chosen)
        return docids

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``retriever % k`` searches for ``k`` documents; a looser cut than its own changes nothing."""
        return self if k >= self.num_results else pt.inspect.transformer_apply_attributes(self, num_results=k)


class Retriever(BaseRetriever):
    """Finds the best documents of an index with MaxSim.

    Where the index holds centroids (residual compressions, and int8 from 500,000 tokens on) the search has two stages:
    every document is scored by the centroids of its tokens, and the best of those by all that is stored of them; where
    more than 5 million tokens are searched, every document that has one of the nearest centroids of a query token.
    Where it holds none, or with ``quality="exact"``, every document is scored by all that is stored of it.

    Takes ``query``, or ``query_embs`` where the frame has them (no checkpoint is loaded then). All queries of a frame
    are searched together; each is encoded on its own, so the others of the frame make no difference. A column
    ``allowed_docnos`` with a list of docnos a query limits what is searched.

    Args:
        index: the index.
        num_results: the most documents a query gets.
        quality: ``"fast"``, ``"balanced"`` or ``"exact"``; what they find and take is in the README.
        n_candidates: documents that the first stage leaves; None takes what ``quality`` says: ``num_results + 400`` if
            fast, ``3 * num_results + 700`` if balanced.
        n_probe: centroids of each query token whose documents the first stage looks at. None looks at all documents
            where less than 5 million tokens are searched, and beyond takes 4 if fast, 8 if balanced.
        docnos: the documents to search; None takes all.

    Raises:
        ValueError: a setting that is none of the above.
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
        if quality not in QUALITIES:
            raise ValueError(f"quality must be one of {', '.join(map(repr, QUALITIES))}, not {quality!r}.")
        check_positive(n_candidates=n_candidates, n_probe=n_probe)
        self.index = index
        self.num_results = check_num_results(num_results)
        self.quality = quality
        self.n_candidates = n_candidates
        self.n_probe = n_probe
        self.docnos = docno_tuple(docnos)

    def _search(
        self, stored: Stored, vectors: list[np.ndarray], docids: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        from pyterrier_jacolbert.index.search import search_exact, search_two_stage

        arguments = (vectors, self.num_results, stored.docnos.ranks, docids)
        if self.quality == "exact" or stored.two_stage_lane is None:
            return search_exact(stored.lane, *arguments)
        count = self.n_candidates or candidate_count(self.quality, self.num_results)
        n_probe = self.n_probe or probes_of(self.quality, stored.starts, docids)
        return search_two_stage(stored.two_stage_lane, *arguments, n_candidates=count, n_probe=n_probe)

    def fuse_right(self, right: pt.Transformer) -> pt.Transformer | None:
        """``retriever >> index.scorer()`` is the retriever: its scores are those of the scorer already."""
        return self if isinstance(right, IndexScorer) and right.index == self.index else None


class TorchRetriever(BaseRetriever):
    """Scores every document by torch's matrix products, on a GPU or a CPU, for all queries of a frame together.

    The vectors are brought to the device when the first frame comes, and stay there where they fit.

    Args:
        index: the index.
        num_results: the most documents a query gets.
        device: ``"cuda"``, ``"cuda:1"``, ``"cpu"``; None takes a GPU if there is one.
        dtype: of the products: ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"int8"``; None takes float16 on a GPU
            and float32 on a CPU.
        docnos: the documents to search; None takes all.

    Raises:
        ValueError: a setting that is none of the above.
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
        if dtype not in (None, *TORCH_DTYPES):
            raise ValueError(f"dtype must be one of {', '.join(map(repr, TORCH_DTYPES))}, not {dtype!r}.")
        self.index = index
        self.num_results = check_num_results(num_results)
        self.device = device
        self.dtype = dtype
        self.docnos = docno_tuple(docnos)
        self._open: TorchSearch | None = None

    def _search(
        self, stored: Stored, vectors: list[np.ndarray], docids: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self._open is None or self._open.stored is not stored:
            import torch

            from pyterrier_jacolbert.index.torch_search import TorchSearch

            self._open = None  # frees the old vectors before the new ones come
            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            dtype = self.dtype or ("float32" if device == "cpu" else "float16")
            self._open = TorchSearch(stored, device, dtype)
        return self._open.search(vectors, self.num_results, stored.docnos.ranks, docids)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


def docno_tuple(docnos: Sequence[str] | None) -> tuple[str, ...] | None:
    """Returns docnos as a retriever keeps them.

    Raises:
        ValueError: they are one string.
    """
    if isinstance(docnos, str):
        raise ValueError(f"docnos must be a list of docnos, not the string {docnos!r}.")
    return None if docnos is None else tuple(docnos)


def _by_allowed(inp: pd.DataFrame) -> list[tuple[np.ndarray, tuple[str, ...] | None]]:
    """The rows of each distinct list of allowed docnos; all rows and None where the frame limits nothing."""
    if ALLOWED_DOCNOS not in inp.columns:
        return [(np.arange(len(inp)), None)]
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, (qid, names) in enumerate(zip(inp[QID], inp[ALLOWED_DOCNOS], strict=True)):
        if isinstance(names, str) or not hasattr(names, "__iter__"):
            raise ValueError(f"The {ALLOWED_DOCNOS} of qid {qid!r} are {names!r}; give a list of docnos.")
        groups.setdefault(tuple(names), []).append(row)
    return [(np.array(rows), names) for names, rows in groups.items()]
