"""The data of a recipe: data sets, files of examples, mining, and what is held out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pyterrier_jacolbert.train.settings import check, check_types

#: Kinds of retrievers and teachers. All but BM25 are followed by a colon and a folder or hub name.
BM25, DENSE, COLBERT, CROSS_ENCODER = "bm25", "dense", "colbert", "cross-encoder"


@dataclass(frozen=True)
class RecipeDataset:
    """Documents, queries and judgements: a data set of PyTerrier, or files.

    Attributes:
        name: name in the recipe.
        dataset: PyTerrier's name of the data set, such as ``"jacolbert:jaquad/train"`` or ``"irds:miracl/ja/train"``;
            None takes the files.
        documents: file of documents, relative to the recipe's file: JSONL with ``docno`` and the text field, or TSV of
            docno and text.
        queries: file of queries, relative to the recipe's file: TSV of qid and query, or JSONL with ``qid`` and
            ``query``.
        qrels: file of judgements, relative to the recipe's file: TREC's ``QID 0 DOCNO LABEL``, or TSV of qid, docno and
            label, where a label that is left out is 1. None if nothing is mined or held out.
        text_field: field with the text, in files.
        title_field: field that is put before the text.
    """

    name: str
    dataset: str | None = None
    documents: str | None = None
    queries: str | None = None
    qrels: str | None = None
    text_field: str = "text"
    title_field: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "name", bool(self.name) and ":" not in self.name, "a name without a colon")
        if (self.dataset is None) == (self.documents is None and self.queries is None and self.qrels is None):
            raise ValueError(
                f"The data set {self.name!r} of a recipe needs either 'dataset', a name that PyTerrier knows, or the "
                "files 'documents' and 'queries' (and 'qrels', to mine or to measure); give one of the two."
            )
        if self.dataset is None:
            for setting in ("documents", "queries"):
                check(self, setting, getattr(self, setting) is not None, "the name of a file")


@dataclass(frozen=True)
class ExampleFile:
    """The examples that a stage takes from one file or published data set.

    A pass over the stage uses each example ``weight`` times, or ``count`` examples in all. Where that is not a whole
    number of times, the rest is drawn with the seed of the stage.

    Attributes:
        file: file of examples, relative to the folder of the runs: one that the recipe mines, or any other.
        released: hub name or folder of a data set in the format of the published one, see
            :func:`~pyterrier_jacolbert.train.read_released`; None takes the file.
        split: split of the published data set.
        dataset: name of the recipe's data set that holds the texts; None if the recipe has only one.
        weight: number of times that a pass uses each example.
        count: number of examples that a pass uses; None leaves it to ``weight``.
    """

    file: str | None = None
    released: str | None = None
    split: str = "M3_full_normalized"
    dataset: str | None = None
    weight: float = 1.0
    count: int | None = None

    @property
    def name(self) -> str:
        """The file or the published data set."""
        return str(self.file if self.released is None else self.released)

    def __post_init__(self) -> None:
        check_types(self)
        if (self.file is None) == (self.released is None):
            raise ValueError("The examples of a stage need either 'file' or 'released'; give one of the two.")
        check(self, "weight", 0 < self.weight < math.inf, "more than 0, and finite")
        check(self, "count", self.count is None or self.count >= 1, "1 or more, or null")
        check(self, "count", self.count is None or self.weight == 1, "null with a weight")


@dataclass(frozen=True)
class Mining:
    """Settings for mining and scoring a file of examples.

    Attributes:
        name: file to write.
        teachers: scorers of the examples: ``"bm25"``, ``"dense:NAME"``, ``"colbert:NAME"`` or ``"cross-encoder:NAME"``,
            where NAME is a folder or hub name. The scores of several teachers are normalised and summed.
        dataset: name of the recipe's data set that is mined; None if the recipe has only one.
        retrievers: retrievers of candidates: ``"bm25"``, ``"dense:NAME"`` or ``"colbert:NAME"``. The results of several
            retrievers are united, and ranked by the sum of their normalised scores.
        depth: number of results of each of several retrievers; None takes ``candidates``.
        normalize: per-query normalisation of scores before they are summed: ``"minmax"`` or ``"zscore"``.
        candidates: number of results from which negatives are drawn.
        n_ways: documents per example, the positive first.
        examples_per_positive: examples with other negatives for each query and relevant document.
        false_negative_margin: share of the positive's score above which a candidate is left out; None keeps all.
        queries: number of queries to draw with the seed; None takes all.
        seed: seed for the draws.
    """

    name: str
    teachers: tuple[str, ...]
    dataset: str | None = None
    retrievers: tuple[str, ...] = (BM25,)
    depth: int | None = None
    normalize: Literal["minmax", "zscore"] = "minmax"
    candidates: int = 250
    n_ways: int = 32
    examples_per_positive: int = 1
    false_negative_margin: float | None = 0.95
    queries: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "n_ways", self.n_ways >= 2, "2 or more")
        check(self, "candidates", self.candidates >= self.n_ways, f"{self.n_ways} (n_ways) or more")
        check(self, "examples_per_positive", self.examples_per_positive >= 1, "1 or more")
        for setting in ("depth", "queries"):
            check(self, setting, getattr(self, setting) is None or getattr(self, setting) >= 1, "1 or more, or null")
        self._check_kinds("retrievers", (DENSE, COLBERT))
        self._check_kinds("teachers", (DENSE, COLBERT, CROSS_ENCODER))

    def _check_kinds(self, setting: str, named: tuple[str, ...]) -> None:
        """Checks the kinds of retrievers or teachers."""
        values = getattr(self, setting)
        kinds = ", ".join(repr(f"{kind}:NAME") for kind in named)
        rule = f"a list of one or more of {BM25!r}, {kinds}"
        check(self, setting, bool(values), rule)
        for value in values:
            kind, _, checkpoint = value.partition(":")
            check(self, setting, value == BM25 or (kind in named and bool(checkpoint)), rule)


@dataclass(frozen=True)
class HeldOut:
    """Queries on which checkpoints are measured, and which no example of the recipe has.

    Several parts are measured separately; a checkpoint's measure is their weighted mean.

    Attributes:
        dataset: name of the recipe's data set.
        measure: measure of ir_measures, where more is better.
        share: share of the data set's queries that is held out, chosen by a hash, and is left out of mining; None holds
            out the whole data set.
        by: what is hashed: the ``"qid"``, or the title of the relevant document (``"title"``), so that all queries
            about an article are on one side.
        queries: number of held-out queries to measure on, drawn with the seed; None takes all.
        documents: number of documents to search: those that are relevant to a held-out query, and others up to this
            number; None searches all.
        document_length: maximum number of tokens per document; None keeps that of the stage.
        weight: weight in the mean.
        seed: seed for the draws.
    """

    dataset: str
    measure: str = "nDCG@10"
    share: float | None = None
    by: Literal["qid", "title"] = "qid"
    queries: int | None = 1000
    documents: int | None = None
    document_length: int | None = None
    weight: float = 1.0
    seed: int = 0

    @property
    def name(self) -> str:
        """The data set."""
        return self.dataset

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "share", self.share is None or 0 < self.share < 1, "between 0 and 1, or null")
        check(self, "weight", 0 < self.weight < math.inf, "more than 0, and finite")
        for setting in ("queries", "documents", "document_length"):
            check(self, setting, getattr(self, setting) is None or getattr(self, setting) >= 1, "1 or more, or null")
