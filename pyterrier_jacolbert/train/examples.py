"""N-way examples: mining with a retrieval pipeline, and scoring by a teacher."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt
from more_itertools import chunked

from pyterrier_jacolbert.columns import DOCNO, QID, QUERY, RANK, SCORE, TEXT, check_column, check_ids
from pyterrier_jacolbert.pipeline.frames import check_one_query_per_qid, factorize
from pyterrier_jacolbert.train.example_files import Example, Resumable


def mine(
    candidates: pt.Transformer,
    topics: pd.DataFrame,
    qrels: pd.DataFrame,
    *,
    n_ways: int = 32,
    false_negative_margin: float | None = 0.95,
    seed: int = 0,
    examples_per_positive: int = 1,
    batch_size: int = 256,
) -> MinedExamples:
    """Builds an example from each judged query and each of its relevant documents, with negatives from a pipeline.

    Negatives are drawn at random from the results of the pipeline, excluding documents that are judged relevant and
    documents that score more than ``false_negative_margin`` times the positive's score, which are often relevant too
    (the filter of NV-Retriever, arXiv 2407.15831). Pairs with too few candidates are left out, with a warning at the
    end. The draw depends only on the seed, the query and the positive.

    Args:
        candidates: retrieval pipeline, e.g. ``bm25 % 250``.
        topics: frame with ``qid`` and ``query``.
        qrels: frame with ``qid``, ``docno`` and ``label``.
        n_ways: documents per example, including the positive.
        false_negative_margin: share of the positive's score above which a candidate is left out; None keeps all.
        seed: seed for the draw.
        examples_per_positive: examples with other draws for each query and relevant document.
        batch_size: queries per call of the pipeline.

    Returns:
        A stream of unscored examples, in the order of the topics.

    Raises:
        ValueError: ``n_ways`` is below 2, a qid stands for two queries, or no query of the topics has a relevant
            document.
    """
    _check_topics(topics)
    check_ids(qrels, QID, DOCNO)
    if n_ways < 2:
        raise ValueError(f"n_ways must be 2 or more, a positive and a negative, not {n_ways}.")
    return MinedExamples(
        candidates, topics, qrels, n_ways, false_negative_margin, seed, examples_per_positive, batch_size
    )


def score(
    examples: Iterable[Example] | Resumable,
    teacher: pt.Transformer,
    topics: pd.DataFrame,
    documents: Mapping[str, str] | Callable[[str], str] | None = None,
    *,
    batch_size: int = 64,
) -> ScoredExamples:
    """Scores examples with a re-ranking pipeline.

    Args:
        examples: examples with or without scores; existing scores are replaced.
        teacher: pipeline that scores every document it is given, such as a cross-encoder, ``index.scorer()`` or an
            :func:`~pyterrier_jacolbert.train.ensemble`. It receives ``qid``, ``query``, ``docno``, a score of 0 and,
            with ``documents``, ``text``.
        topics: frame with ``qid`` and ``query``.
        documents: text by docno, if the teacher needs it.
        batch_size: examples per call of the teacher.

    Returns:
        A stream of the examples with scores, in the same order.

    Raises:
        ValueError: a qid stands for two queries; or (when the stream is read) the teacher leaves documents out, or a
            query is not among the topics.
    """
    _check_topics(topics)
    return ScoredExamples(examples, teacher, topics, documents, batch_size)


class MinedExamples:
    """A stream of examples from :func:`mine`, which can be iterated or passed to ``save``."""

    def __init__(
        self,
        candidates: pt.Transformer,
        topics: pd.DataFrame,
        qrels: pd.DataFrame,
        n_ways: int,
        margin: float | None,
        seed: int,
        examples_per_positive: int,
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
        self._pairs = [
            (qid, docno, number)
            for qid in self._topics.index
            if qid in known
            for docno in self._relevant[qid]
            for number in range(examples_per_positive)
        ]
        if not self._pairs:
            raise ValueError(
                f"None of the {len(self._topics)} queries has a relevant document in qrels; check that the qids match."
            )

    def __iter__(self) -> Iterator[Example]:
        return (example for example in self.outcomes(0) if example is not None)

    def __repr__(self) -> str:
        pairs = hashlib.sha256(json.dumps(self._pairs).encode()).hexdigest()[:16]
        return f"mine({self._candidates!r}, {self._n_ways}, {self._margin}, {self._seed}, pairs {pairs})"

    def outcomes(self, start: int) -> Iterator[Example | None]:
        """Yields an example, or None if it is left out, per pair of query and positive, from pair number ``start``."""
        n_left_out = 0
        for pairs in chunked(self._pairs[start:], self._batch_size):
            qids = list(dict.fromkeys(qid for qid, _, _ in pairs))
            ranking = pd.DataFrame(self._candidates(self._topics.loc[qids].reset_index(drop=True)))
            if SCORE not in ranking.columns:
                raise ValueError(
                    f"The results of {self._candidates!r} have no scores, as those of a union; add a scorer: "
                    "(one | other) >> scorer."
                )
            rankings = dict(list(ranking.groupby(QID, sort=False)))
            for qid, positive, number in pairs:
                example = self._draw(qid, positive, number, rankings.get(qid))
                n_left_out += example is None
                yield example
        if n_left_out:
            warnings.warn(
                f"{n_left_out} of {len(self._pairs) - start} pairs had fewer than {self._n_ways - 1} negatives and "
                "were left out; use more candidates, a smaller n_ways or a larger false_negative_margin.",
                stacklevel=2,
            )

    def _draw(self, qid: str, positive: str, number: int, ranking: pd.DataFrame | None) -> Example | None:
        if ranking is None:
            return None
        scores = dict(zip(ranking[DOCNO], ranking[SCORE], strict=True))
        limit = math.inf
        if self._margin is not None and scores.get(positive, 0) > 0:
            limit = self._margin * scores[positive]
        excluded = set(self._relevant[qid])
        # Sorted, so that the draw does not depend on how the pipeline breaks ties.
        pool = sorted(docno for docno, value in scores.items() if docno not in excluded and value <= limit)
        if len(pool) < self._n_ways - 1:
            return None
        draw = f"{self._seed}\t{qid}\t{positive}" + (f"\t{number}" if number else "")
        generator = np.random.default_rng(_seed_from(draw))
        return Example(qid, (positive, *generator.choice(pool, self._n_ways - 1, replace=False).tolist()))


class ScoredExamples:
    """A stream of examples from :func:`score`, which can be iterated or passed to ``save``."""

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
        self._text_of = documents.__getitem__ if isinstance(documents, Mapping) else documents
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[Example]:
        return (example for example in self.outcomes(0) if example is not None)

    def __repr__(self) -> str:
        source = repr(self._examples) if hasattr(self._examples, "outcomes") else "examples"
        return f"score({source}, {self._teacher!r})"

    def outcomes(self, start: int) -> Iterator[Example | None]:
        """Yields the scored examples from number ``start``, or None for those that the source leaves out."""
        if hasattr(self._examples, "outcomes"):
            source = self._examples.outcomes(start)
        else:
            source = itertools.islice(iter(self._examples), start, None)
        for batch in chunked(source, self._batch_size):
            scored = iter(self._score([example for example in batch if example is not None]))
            yield from (None if example is None else next(scored) for example in batch)

    def _score(self, examples: list[Example]) -> list[Example]:
        if not examples:
            return []
        # A query may have several examples in a batch. Each gets its own qid, which keeps their documents apart.
        rows: list[dict[str, Any]] = []
        for number, example in enumerate(examples):
            if example.qid not in self._queries:
                raise ValueError(
                    f"The query {example.qid!r} is not among the topics; give the topics that it was mined from."
                )
            for docno in example.docnos:
                row = {QID: str(number), QUERY: self._queries[example.qid], DOCNO: docno, SCORE: 0.0, RANK: 0}
                rows.append(row if self._text_of is None else {**row, TEXT: self._text_of(docno)})
        ranking = pd.DataFrame(self._teacher(pd.DataFrame(rows)))
        scores = dict(zip(zip(ranking[QID], ranking[DOCNO], strict=True), ranking[SCORE].astype(float), strict=True))
        scored = []
        for number, example in enumerate(examples):
            try:
                values = tuple(scores[str(number), docno] for docno in example.docnos)
            except KeyError as error:
                raise ValueError(
                    f"The teacher gave document {error.args[0][1]!r} of query {example.qid!r} no score; use a "
                    "re-ranker, which scores every document that it is given."
                ) from None
            scored.append(replace(example, scores=values))
        return scored


def _check_topics(topics: pd.DataFrame) -> None:
    """Checks that qids and queries are strings, and that no qid stands for two queries."""
    check_ids(topics, QID)
    if QUERY in topics.columns:
        check_one_query_per_qid(topics, factorize(check_column(topics, QUERY, QID))[0])


def _seed_from(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
