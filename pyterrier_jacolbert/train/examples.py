"""N-way scored examples: made with pipelines and scored by a teacher. Their files are read in ``example_files``."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.batches import batched
from pyterrier_jacolbert.frames import DOCNO, QID, QUERY, SCORE, TEXT, check_ids
from pyterrier_jacolbert.train.example_files import (
    Example,
    Resumable,
    read,
    read_colbert,
    read_released,
    save,
    validate,
)
from pyterrier_jacolbert.transformer import SettingsTransformer

__all__ = [
    "Example",
    "ensemble",
    "mine",
    "minmax",
    "read",
    "read_colbert",
    "read_released",
    "save",
    "score",
    "validate",
]


def mine(
    candidates: pt.Transformer,
    topics: pd.DataFrame,
    qrels: pd.DataFrame,
    *,
    n_ways: int = 32,
    false_negative_margin: float | None = 0.95,
    seed: int = 0,
    batch_size: int = 256,
) -> Mining:
    """Makes an example of every judged query and each of its relevant documents, with negatives from a pipeline.

    Negatives are drawn at random from what the pipeline returns, without the documents that are judged relevant, and
    without those that score more than ``false_negative_margin`` of what the positive scores (they are often relevant
    too; the filter of NV-Retriever, arXiv 2407.15831). A pair with too few candidates is left out, with a warning at
    the end. The draw depends on the seed, the query and the positive alone.

    Args:
        candidates: any retrieval pipeline, e.g. ``bm25 % 250``.
        topics: a frame with ``qid`` and ``query``.
        qrels: a frame with ``qid``, ``docno`` and ``label``.
        n_ways: documents an example, the positive included.
        false_negative_margin: None keeps every candidate.
        seed: of the draw.
        batch_size: queries that go through the pipeline at a time.

    Returns:
        A stream of unscored examples, in the order of the topics.

    Raises:
        ValueError: ``n_ways`` is below 2, or no query of the topics has a relevant document.
    """
    check_ids(topics, QID)
    check_ids(qrels, QID, DOCNO)
    if n_ways < 2:
        raise ValueError(f"n_ways must be 2 or more, a positive and a negative, not {n_ways}.")
    return Mining(candidates, topics, qrels, n_ways, false_negative_margin, seed, batch_size)


def score(
    examples: Iterable[Example] | Resumable,
    teacher: pt.Transformer,
    topics: pd.DataFrame,
    documents: Mapping[str, str] | Callable[[str], str] | None = None,
    *,
    batch_size: int = 64,
) -> Scoring:
    """Scores examples with a re-ranking pipeline.

    Args:
        examples: with or without scores; old ones are replaced.
        teacher: any pipeline that scores the documents it is given: it gets ``qid``, ``query``, ``docno``, a score of
            0, and, with ``documents``, ``text``. E.g. a cross-encoder, ``index.scorer()``, or an :func:`ensemble`.
        topics: a frame with ``qid`` and ``query``.
        documents: the text of a docno, where the teacher needs it.
        batch_size: examples that go through the teacher at a time.

    Returns:
        A stream of the examples with scores, in their order.

    Raises:
        ValueError: (as it is read) the teacher leaves documents out, or a query is not among the topics.
    """
    check_ids(topics, QID)
    return Scoring(examples, teacher, topics, documents, batch_size)


def ensemble(
    *teachers: pt.Transformer,
    weights: Sequence[float] | None = None,
    normalize: Literal["minmax", "zscore"] = "minmax",
) -> pt.Transformer:
    """A re-ranker that adds up the normalised scores of several.

    Args:
        *teachers: re-rankers of the same documents.
        weights: one each; None weighs all alike.
        normalize: per query: ``"minmax"`` to [0, 1], or ``"zscore"`` to mean 0 and standard deviation 1.

    Returns:
        The transformer.

    Raises:
        ValueError: weights that are not one a teacher, or an unknown normalisation.
    """
    if not teachers or (weights is not None and len(weights) != len(teachers)):
        raise ValueError(
            f"ensemble needs a teacher, and a weight for each; give {len(teachers)} weights, not {weights}."
        )
    if normalize not in _NORMALIZATIONS:
        raise ValueError(f"normalize must be one of {', '.join(_NORMALIZATIONS)}, not {normalize!r}.")
    return Ensemble(teachers, tuple(weights or [1.0] * len(teachers)), normalize)


class Mining:
    """What :func:`mine` returns: iterate it, or :func:`save` it."""

    def __init__(
        self,
        candidates: pt.Transformer,
        topics: pd.DataFrame,
        qrels: pd.DataFrame,
        n_ways: int,
        margin: float | None,
        seed: int,
        batch_size: int,
    ) -> None:
        self._candidates = candidates
        self._topics = topics.drop_duplicates(QID).set_index(QID, drop=False)
        self._relevant = qrels[qrels["label"] > 0].groupby(QID, sort=False)[DOCNO].agg(list)
        self._n_ways = n_ways
        self._margin = margin
        self._seed = seed
        self._batch_size = batch_size
        known = self._relevant.index
        self._pairs = [(qid, docno) for qid in self._topics.index if qid in known for docno in self._relevant[qid]]
        if not self._pairs:
            raise ValueError(
                f"None of the {len(self._topics)} queries has a relevant document in qrels; check that the qids agree."
            )

    def __iter__(self) -> Iterator[Example]:
        return (example for example in self.outcomes(0) if example is not None)

    def __repr__(self) -> str:
        pairs = hashlib.sha256(json.dumps(self._pairs).encode()).hexdigest()[:16]
        return f"mine({self._candidates!r}, {self._n_ways}, {self._margin}, {self._seed}, pairs {pairs})"

    def outcomes(self, start: int) -> Iterator[Example | None]:
        """An example for each pair of query and positive from number ``start`` on, None where it is left out."""
        left_out = 0
        for pairs in batched(self._pairs[start:], self._batch_size):
            qids = list(dict.fromkeys(qid for qid, _ in pairs))
            found = pd.DataFrame(self._candidates(self._topics.loc[qids].reset_index(drop=True)))
            if SCORE not in found.columns:
                raise ValueError(
                    f"The candidates of {self._candidates!r} have no scores (those of a union have none); let a scorer "
                    "follow: (one | other) >> scorer."
                )
            by_query = dict(list(found.groupby(QID, sort=False)))
            for qid, positive in pairs:
                example = self._draw(qid, positive, by_query.get(qid))
                left_out += example is None
                yield example
        if left_out:
            warnings.warn(
                f"{left_out} of {len(self._pairs) - start} pairs had fewer than {self._n_ways - 1} negatives and were "
                "left out; take more candidates, a smaller n_ways or a larger false_negative_margin.",
                stacklevel=2,
            )

    def _draw(self, qid: str, positive: str, found: pd.DataFrame | None) -> Example | None:
        if found is None:
            return None
        scores = dict(zip(found[DOCNO], found[SCORE], strict=True))
        limit = math.inf
        if self._margin is not None and scores.get(positive, 0) > 0:
            limit = self._margin * scores[positive]
        excluded = set(self._relevant[qid])
        # Sorted, so that the draw does not depend on how the pipeline breaks ties.
        pool = sorted(docno for docno, value in scores.items() if docno not in excluded and value <= limit)
        if len(pool) < self._n_ways - 1:
            return None
        generator = np.random.default_rng(_number(f"{self._seed}\t{qid}\t{positive}"))
        return Example(qid, (positive, *generator.choice(pool, self._n_ways - 1, replace=False).tolist()))


class Scoring:
    """What :func:`score` returns: iterate it, or :func:`save` it."""

    def __init__(
        self,
        examples: Iterable[Example] | Resumable,
        teacher: pt.Transformer,
        topics: pd.DataFrame,
        documents: Mapping[str, str] | Callable[[str], str] | None,
        batch_size: int,
    ) -> None:
        self._examples = examples
        self._teacher = teacher
        self._queries = dict(zip(topics[QID], topics[QUERY], strict=True))
        self._text = documents.__getitem__ if isinstance(documents, Mapping) else documents
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[Example]:
        return (example for example in self.outcomes(0) if example is not None)

    def __repr__(self) -> str:
        source = repr(self._examples) if hasattr(self._examples, "outcomes") else "examples"
        return f"score({source}, {self._teacher!r})"

    def outcomes(self, start: int) -> Iterator[Example | None]:
        """The examples from number ``start`` on, scored; None where the source leaves one out."""
        if hasattr(self._examples, "outcomes"):
            source = self._examples.outcomes(start)
        else:
            source = itertools.islice(iter(self._examples), start, None)
        for batch in batched(source, self._batch_size):
            found = iter(self._score([example for example in batch if example is not None]))
            yield from (None if example is None else next(found) for example in batch)

    def _score(self, examples: list[Example]) -> list[Example]:
        if not examples:
            return []
        # One query may have several examples in a batch: each gets its own qid, so that no documents are mixed.
        rows: list[dict[str, Any]] = []
        for number, example in enumerate(examples):
            if example.qid not in self._queries:
                raise ValueError(f"The query {example.qid!r} is not among the topics; give those it was mined from.")
            for docno in example.docnos:
                row = {QID: str(number), QUERY: self._queries[example.qid], DOCNO: docno, SCORE: 0.0, "rank": 0}
                rows.append(row if self._text is None else {**row, TEXT: self._text(docno)})
        found = pd.DataFrame(self._teacher(pd.DataFrame(rows)))
        scores = dict(zip(zip(found[QID], found[DOCNO], strict=True), found[SCORE].astype(float), strict=True))
        scored = []
        for number, example in enumerate(examples):
            try:
                values = tuple(scores[str(number), docno] for docno in example.docnos)
            except KeyError as error:
                raise ValueError(
                    f"The teacher gave document {error.args[0][1]!r} of query {example.qid!r} no score; it must score "
                    "every document it is given, as a re-ranker does."
                ) from None
            scored.append(replace(example, scores=values))
        return scored


class Ensemble(SettingsTransformer):
    """Adds up the normalised scores of several re-rankers; :func:`ensemble` makes one.

    Args:
        teachers: the re-rankers.
        weights: one each.
        normalize: ``"minmax"`` or ``"zscore"``.
    """

    def __init__(self, teachers: tuple[pt.Transformer, ...], weights: tuple[float, ...], normalize: str) -> None:
        self.teachers = teachers
        self.weights = weights
        self.normalize = normalize

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores each row.

        Raises:
            ValueError: a teacher leaves rows out.
        """
        from pyterrier_jacolbert.frames import ranked

        pt.validate.result_frame(inp, [QUERY], context=self)
        if inp.empty:
            return ranked(inp, np.empty(0))
        total = np.zeros(len(inp))
        keys = pd.MultiIndex.from_frame(inp[[QID, DOCNO]])
        for teacher, weight in zip(self.teachers, self.weights, strict=True):
            scores = pd.DataFrame(teacher(inp)).set_index([QID, DOCNO])[SCORE].astype(float).reindex(keys)
            if scores.isna().any():
                qid, docno = keys[int(np.flatnonzero(scores.isna())[0])]
                raise ValueError(f"{teacher!r} gave document {docno!r} of query {qid!r} no score; give a re-ranker.")
            groups = scores.groupby(level=0, sort=False)
            total += weight * groups.transform(_NORMALIZATIONS[self.normalize]).to_numpy()
        return ranked(inp, total)


def minmax(scores: np.ndarray | pd.Series) -> Any:  # noqa: ANN401 (what it was given)
    """Scores moved and scaled to [0, 1]; all 0 where they are all alike."""
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else scores * 0.0


def _zscore(scores: pd.Series) -> pd.Series:
    deviation = scores.std(ddof=0)
    return (scores - scores.mean()) / deviation if deviation > 0 else scores * 0.0


_NORMALIZATIONS: dict[str, Callable[[pd.Series], pd.Series]] = {"minmax": minmax, "zscore": _zscore}


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
