"""The measure of a checkpoint on the held-out parts of a recipe."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ir_measures
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, QUERY, TEXT
from pyterrier_jacolbert.index.threads import cached_attribute
from pyterrier_jacolbert.train.example_files import Example
from pyterrier_jacolbert.train.recipe_collections import RecipeCollection
from pyterrier_jacolbert.train.recipe_data import HeldOut
from pyterrier_jacolbert.train.validation import fold_text

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: Results per query, enough for the measures in use.
_NUM_RESULTS = 100


@dataclass(frozen=True)
class SearchResult:
    """The results of a checkpoint on a held-out part.

    Attributes:
        measure: mean over the queries.
        first: docno of the document that is ranked first, by qid; queries without results are left out.
    """

    measure: float
    first: dict[str, str]

    def disagreement(self, other: SearchResult) -> float:
        """Returns the share of the queries for which another checkpoint ranks another document first."""
        qids = self.first.keys() | other.first.keys()
        return sum(self.first.get(qid) != other.first.get(qid) for qid in qids) / max(1, len(qids))


class HeldOutMeasure:
    """A measure of checkpoints, called with a model: the weighted mean over the held-out parts.

    Args:
        parts: held-out parts of a recipe, one or more.
        collections: data sets of the recipe by name.

    Raises:
        ValueError: a measure is unknown, or a part has no query with a relevant document.
    """

    def __init__(self, parts: Iterable[HeldOut], collections: Mapping[str, RecipeCollection]) -> None:
        self.parts = [_Part(part, collections[part.dataset]) for part in parts]

    def __call__(self, model: JaColBERT) -> float:
        """Returns the weighted mean of the measures of a checkpoint."""
        return self.mean(self.by_dataset(model))

    def mean(self, measures: Mapping[str, float]) -> float:
        """Returns the weighted mean of measures by name of the data set."""
        total = sum(part.settings.weight for part in self.parts)
        return sum(part.settings.weight * measures[part.settings.name] for part in self.parts) / total

    def by_dataset(self, model: JaColBERT) -> dict[str, float]:
        """Returns the measure of a checkpoint on each part, by name of the data set."""
        return {name: result.measure for name, result in self.search(model).items()}

    def search(self, model: JaColBERT) -> dict[str, SearchResult]:
        """Returns the results of a checkpoint on each part, by name of the data set."""
        return {part.settings.name: part.search(model) for part in self.parts}

    def check_examples(self, dataset: str, examples: Iterable[Example], queries: Mapping[str, str]) -> None:
        """Checks that no example has a held-out query.

        Args:
            dataset: name of the data set of the examples.
            examples: the examples.
            queries: text by qid.

        Raises:
            ValueError: examples have held-out queries; the message counts them.
        """
        qids = list(dict.fromkeys(example.qid for example in examples))
        for part in self.parts:
            held_out = part.held_out_topics
            ids = set(held_out[QID]) if part.settings.dataset == dataset else set()
            texts = set(map(fold_text, held_out[QUERY]))
            shared = [qid for qid in qids if qid in ids or (qid in queries and fold_text(queries[qid]) in texts)]
            if shared:
                raise ValueError(
                    f"{len(shared)} of {len(qids)} queries of the examples from {dataset!r} are held out in "
                    f"{part.settings.name!r} (first: {shared[0]!r}), so a measure on them would say nothing; mine the "
                    "examples again, or hold out others."
                )


class _Part:
    """A held-out part: its queries, the documents to search, and their judgements."""

    def __init__(self, settings: HeldOut, collection: RecipeCollection) -> None:
        self.settings = settings
        self._collection = collection
        try:
            self._measure = ir_measures.parse_measure(settings.measure)
        except (NameError, ValueError, SyntaxError):
            raise ValueError(
                f"The measure {settings.measure!r} of held_out is unknown; give one of ir_measures, such as nDCG@10."
            ) from None

    @cached_attribute
    def held_out_topics(self) -> pd.DataFrame:
        """All held-out queries that have a relevant document, even those that are not drawn: ``qid`` and ``query``."""
        collection = self._collection
        topics = collection.topics
        if self.settings.share is not None:
            topics = topics[topics[QID].isin(collection.held_out_qids)]
        relevant = collection.qrels[collection.qrels["label"] > 0]
        found = topics[topics[QID].isin(relevant[QID])]
        if found.empty:
            raise ValueError(
                f"The held-out part of {self.settings.name!r} has no query with a relevant document; hold out a "
                "greater share, or another data set."
            )
        return found

    @cached_attribute
    def topics(self) -> pd.DataFrame:
        """The queries to measure on: ``qid`` and ``query``."""
        found, n_queries = self.held_out_topics, self.settings.queries
        if n_queries is None or n_queries >= len(found):
            return found
        return found.sample(n_queries, random_state=self.settings.seed)

    @cached_attribute
    def _qrels(self) -> pd.DataFrame:
        qrels = self._collection.qrels
        return qrels[qrels[QID].isin(self.topics[QID])]

    @cached_attribute
    def _documents(self) -> list[dict[str, Any]]:
        texts = self._collection.texts
        docnos = list(texts)
        limit = self.settings.documents
        if limit is not None and limit < len(docnos):
            qrels = self._collection.qrels
            judged = set(qrels[qrels[QID].isin(self.held_out_topics[QID]) & (qrels["label"] > 0)][DOCNO])
            own = [docno for docno in docnos if docno in judged]
            others = [docno for docno in docnos if docno not in judged]
            docnos = own + others[:: max(1, len(others) // max(1, limit - len(own)))]
        return [{DOCNO: docno, TEXT: texts[docno]} for docno in docnos]

    def search(self, model: JaColBERT) -> SearchResult:
        """Returns the results of a checkpoint, by exact search with float16 vectors."""
        from pyterrier_jacolbert.artifacts.index import JaColBERTIndex
        from pyterrier_jacolbert.model import JaColBERT

        if self.settings.document_length is not None:
            model = JaColBERT(
                model.model, query_length=model.query_length, max_document_length=self.settings.document_length
            )
        with tempfile.TemporaryDirectory(prefix="pyterrier-jacolbert-") as folder:
            index = JaColBERTIndex(Path(folder) / "index", model).index(self._documents, compression="float16")
            run = pd.DataFrame(index.retriever(num_results=_NUM_RESULTS, quality="exact")(self.topics))
        measure = float(pt.Evaluate(run, self._qrels, [self._measure])[str(self._measure)])
        best = run[run["rank"] == 0]
        return SearchResult(measure, dict(zip(best[QID], best[DOCNO], strict=True)))
