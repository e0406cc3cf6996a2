"""Retrievers and teachers that a recipe names, over one of its data sets. Their indexes are built once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING

import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, TEXT
from pyterrier_jacolbert.index.threads import cached_attribute
from pyterrier_jacolbert.pipeline.dense import DenseIndex, dense_encoder
from pyterrier_jacolbert.train import examples
from pyterrier_jacolbert.train.recipe_collections import RecipeCollection
from pyterrier_jacolbert.train.recipe_data import BM25, COLBERT, CROSS_ENCODER, DENSE, Mining
from pyterrier_jacolbert.train.stages import Student
from pyterrier_jacolbert.train.teachers import CrossEncoderScorer, ensemble

if TYPE_CHECKING:
    from pyterrier_jacolbert.artifacts.bm25 import JapaneseBM25
    from pyterrier_jacolbert.artifacts.index import JaColBERTIndex
    from pyterrier_jacolbert.model import JaColBERT


class Miner:
    """Mines the examples of a data set.

    Args:
        collection: the data set.
        folder: folder for the indexes.
        student: of the recipe, whose prompts its encoder gets as a dense retriever; None if there is none.
        resolve: returns the folder or hub name of a checkpoint that a recipe names.
        device: device for the models; None uses a GPU if there is one.
        verbose: whether to show progress bars.
    """

    def __init__(
        self,
        collection: RecipeCollection,
        folder: Path,
        *,
        student: Student | None = None,
        resolve: Callable[[str], str] = str,
        device: str | None = None,
        verbose: bool = True,
    ) -> None:
        self._collection = collection
        self._folder = folder
        self._student = student
        self._resolve = resolve
        self._device = device
        self._verbose = verbose
        self._dense_indexes: dict[str, DenseIndex] = {}
        self._colberts: dict[str, JaColBERT] = {}
        self._cross_encoders: dict[str, CrossEncoderScorer] = {}

    def mine(self, mining: Mining) -> examples.ScoredExamples:
        """Returns a stream of mined and scored examples.

        Args:
            mining: settings.
        """
        topics = self._collection.training_topics
        if mining.queries is not None:
            topics = topics.sample(min(mining.queries, len(topics)), random_state=mining.seed)
        self._check_models(mining)
        mined = examples.mine(
            self._candidates(mining),
            topics,
            self._collection.qrels,
            n_ways=mining.n_ways,
            false_negative_margin=mining.false_negative_margin,
            seed=mining.seed,
            examples_per_positive=mining.examples_per_positive,
        )
        teachers = [self._scorer(name, indexed=name in mining.retrievers) for name in mining.teachers]
        teacher = teachers[0] if len(teachers) == 1 else ensemble(*teachers, normalize=mining.normalize)
        needs_texts = any(name != BM25 and name not in mining.retrievers for name in mining.teachers)
        return examples.score(mined, teacher, topics, self._collection.texts if needs_texts else None)

    def _check_models(self, mining: Mining) -> None:
        """Loads every model that is named, so that one that is missing is told before an index is built.

        Raises:
            FileNotFoundError: a model is not on this machine and cannot be downloaded.
        """
        for name in (*mining.retrievers, *mining.teachers):
            kind, _, checkpoint = name.partition(":")
            if kind == DENSE:
                self._dense(checkpoint)
            elif kind == COLBERT:
                self._colbert(checkpoint).encoder  # noqa: B018 # loads it
            elif kind == CROSS_ENCODER:
                self._cross_encoder(checkpoint).load()

    def _candidates(self, mining: Mining) -> pt.Transformer:
        if len(mining.retrievers) == 1:
            return self._retriever(mining.retrievers[0]) % mining.candidates
        depth = mining.depth or mining.candidates
        pool = reduce(or_, [self._retriever(name) % depth for name in mining.retrievers])
        scorers = [self._scorer(name, indexed=True) for name in mining.retrievers]
        return pool >> ensemble(*scorers, normalize=mining.normalize) % mining.candidates

    def _retriever(self, name: str) -> pt.Transformer:
        kind, _, checkpoint = name.partition(":")
        if kind == BM25:
            return self._bm25.retriever()
        if kind == COLBERT:
            return self._colbert_index(checkpoint).retriever()
        return self._dense(checkpoint).retriever()

    def _scorer(self, name: str, *, indexed: bool) -> pt.Transformer:
        """Returns a re-ranker, which reads an index or scores texts."""
        kind, _, checkpoint = name.partition(":")
        if kind == BM25:
            return self._bm25.scorer()
        if kind == CROSS_ENCODER:
            return self._cross_encoder(checkpoint)
        if kind == DENSE:
            return self._dense(checkpoint).scorer() if indexed else self._dense(checkpoint).text_scorer()
        if indexed:
            return self._colbert_index(checkpoint).scorer()
        return self._colbert(checkpoint).text_scorer()

    @cached_attribute
    def _bm25(self) -> JapaneseBM25:
        from pyterrier_jacolbert.artifacts.bm25 import JapaneseBM25

        title_field = self._collection.settings.title_field
        bm25 = JapaneseBM25(self._index_path(BM25), title_field=title_field, verbose=self._verbose)
        return bm25 if bm25.built() else bm25.index(self._collection.dataset.get_corpus_iter(verbose=False))

    def _colbert(self, checkpoint: str) -> JaColBERT:
        from pyterrier_jacolbert.model import JaColBERT

        if checkpoint not in self._colberts:
            self._colberts[checkpoint] = JaColBERT(self._resolve(checkpoint), device=self._device)
        return self._colberts[checkpoint]

    def _cross_encoder(self, checkpoint: str) -> CrossEncoderScorer:
        if checkpoint not in self._cross_encoders:
            self._cross_encoders[checkpoint] = CrossEncoderScorer(self._resolve(checkpoint), device=self._device)
        return self._cross_encoders[checkpoint]

    def _colbert_index(self, checkpoint: str) -> JaColBERTIndex:
        from pyterrier_jacolbert.artifacts.index import JaColBERTIndex

        index = JaColBERTIndex(self._index_path(f"{COLBERT}:{checkpoint}"), self._colbert(checkpoint))
        if not index.built():
            settings = {"title_field": self._collection.settings.title_field, "verbose": self._verbose}
            index.index(self._collection.dataset.get_corpus_iter(verbose=False), mode="resume", **settings)
        return index

    def _dense(self, checkpoint: str) -> DenseIndex:
        if checkpoint in self._dense_indexes:
            return self._dense_indexes[checkpoint]
        prompts = None
        if self._student is not None and checkpoint == self._student.encoder:
            prompts = {"query": self._student.query_prompt, "document": self._student.document_prompt}
        encoder = dense_encoder(self._resolve(checkpoint), device=self._device, prompts=prompts)
        index = DenseIndex(self._index_path(f"{DENSE}:{checkpoint}"), encoder, self._documents)
        self._dense_indexes[checkpoint] = index
        return index

    def _documents(self) -> Iterator[dict[str, str]]:
        """Yields the documents with their whole text."""
        texts = self._collection.texts
        for docno in texts:
            yield {DOCNO: docno, TEXT: texts[docno]}

    def _index_path(self, name: str) -> Path:
        """Returns the folder of an index; names that differ only in forbidden characters get folders of their own."""
        plain = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{self._collection.settings.name}-{name}")
        if plain != f"{self._collection.settings.name}-{name}":
            plain += f"-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
        return self._folder / plain
