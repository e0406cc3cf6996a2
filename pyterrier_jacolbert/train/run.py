"""A recipe carried out: mine, train, merge. What the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.train import examples
from pyterrier_jacolbert.train.recipe import Average, Mining, Recipe, Stage

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: What gives a measure on held-out data.
Measure = Callable[["JaColBERT"], float]


def mine_recipe(recipe: Recipe, folder: str | Path, *, device: str | None = None, verbose: bool = True) -> Path:
    """Mines and scores the examples of a recipe, or goes on where it was interrupted.

    Args:
        recipe: with ``mining`` and ``dataset``.
        folder: gets the BM25 index and the examples.
        device: where teachers run; None takes a GPU if there is one.
        verbose: whether to show progress bars.

    Returns:
        The file of examples.

    Raises:
        ValueError: the recipe does not say how to mine, or the data set has no judgements.
    """
    from pyterrier_jacolbert.bm25 import JapaneseBM25

    mining = recipe.mining
    if mining is None or recipe.dataset is None:
        raise ValueError(f"The recipe {recipe.name!r} does not say how to mine; give it 'mining' and 'dataset'.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = pt.get_dataset(recipe.dataset)
    bm25 = JapaneseBM25(folder / "bm25", title_field=recipe.title_field, verbose=verbose)
    if not bm25.built():
        bm25.index(dataset.get_corpus_iter(verbose=False))
    topics = dataset.get_topics()
    if mining.queries is not None:
        topics = topics.sample(min(mining.queries, len(topics)), random_state=mining.seed)
    mined = examples.mine(
        bm25.retriever() % mining.candidates,
        topics,
        dataset.get_qrels(),
        n_ways=mining.n_ways,
        false_negative_margin=mining.false_negative_margin,
        seed=mining.seed,
    )
    teachers = [_teacher(name, bm25, device) for name in mining.teachers]
    teacher = teachers[0] if len(teachers) == 1 else examples.ensemble(*teachers, normalize=mining.normalize)
    texts = None if mining.teachers == ("bm25",) else Texts(dataset, recipe.title_field)
    return examples.save(examples.score(mined, teacher, topics, texts), folder / mining.name)


def train_recipe(
    recipe: Recipe, folder: str | Path, *, examples_folder: str | Path, measure: Measure | None = None, **settings: Any
) -> dict[str, Path]:
    """Runs the stages of a recipe in order; each resumes, and one that is done is not done again.

    Args:
        recipe: with ``dataset``.
        folder: gets a folder a stage.
        examples_folder: what the stages' ``examples`` are relative to.
        measure: called with a checkpoint at each save; more is better. Never on the data that is reported.
        **settings: as :func:`~pyterrier_jacolbert.train.distill.distill` takes them.

    Returns:
        The final checkpoint of each stage, by name.

    Raises:
        ValueError: the recipe names no data set, or its examples are not usable.
    """
    from pyterrier_jacolbert.train.distill import distill

    if recipe.dataset is None:
        raise ValueError(f"The recipe {recipe.name!r} names no data set to take the texts from; give it 'dataset'.")
    dataset = pt.get_dataset(recipe.dataset)
    topics = dataset.get_topics()
    queries = dict(zip(topics["qid"], topics["query"], strict=True))
    documents = Texts(dataset, recipe.title_field)
    results: dict[str, Path] = {}
    for stage in recipe.stages:
        lines = examples.read(Path(examples_folder) / stage.examples)
        start = results.get(stage.start, stage.start)
        results[stage.name] = distill(
            lines, queries, documents, stage, Path(folder) / stage.name, model=start, evaluate=measure, **settings
        )
    return results


def merge_recipe(recipe: Recipe, folder: str | Path) -> dict[str, Path]:
    """Makes the averages of a recipe from what :func:`train_recipe` left; one that is there is kept.

    Returns:
        The folder of each average, by name.

    Raises:
        ValueError: a checkpoint that an average names is not there, or ``@best`` without held-out measures.
    """
    from pyterrier_jacolbert.train.merge import merge

    results: dict[str, Path] = {}
    for average in recipe.averages:
        out = Path(folder) / average.name
        if not out.exists():
            merge(_parents(recipe, average, Path(folder), results), weights=average.weights, out=out)
        results[average.name] = out
    return results


class Texts(Mapping[str, str]):
    """The texts of a data set's documents by docno, read from its store when asked for.

    Args:
        dataset: a PyTerrier data set; one that is not of ir_datasets is read into memory once.
        title_field: a field put before the text, with a space between.
    """

    def __init__(self, dataset: Any, title_field: str | None = None) -> None:  # noqa: ANN401
        self._fields = ["text"] if title_field is None else [title_field, "text"]
        self._reference = dataset.irds_ref() if hasattr(dataset, "irds_ref") else None
        if self._reference is not None:
            self._store = self._reference.docs_store()
        else:
            self._known = {doc["docno"]: self._join(doc) for doc in dataset.get_corpus_iter()}

    def __getitem__(self, docno: str) -> str:
        return self._known[docno] if self._reference is None else self._join(self._store.get(docno)._asdict())

    def __iter__(self) -> Iterator[str]:
        return iter(self._known) if self._reference is None else (doc.doc_id for doc in self._reference.docs_iter())

    def __len__(self) -> int:
        return len(self._known) if self._reference is None else self._reference.docs_count()

    def _join(self, document: Mapping[str, str]) -> str:
        return " ".join(document[field] for field in self._fields if document[field])


def _teacher(name: str, bm25: Any, device: str | None) -> pt.Transformer:  # noqa: ANN401
    kind, _, checkpoint = name.partition(":")
    if kind == "bm25":
        scorer: pt.Transformer = bm25.scorer()
        return scorer
    if kind == "colbert":
        from pyterrier_jacolbert.model import JaColBERT

        return JaColBERT(checkpoint, device=device).text_scorer()
    return CrossEncoderScorer(checkpoint, device=device)


class CrossEncoderScorer(pt.Transformer):
    """Re-ranks with a cross-encoder of Sentence Transformers.

    Args:
        model: a folder or hub name.
        device: None takes a GPU if there is one.
        batch_size: pairs a forward pass.
    """

    schematic = {"label": "Cross-encoder", "help_url": None}

    def __init__(self, model: str, *, device: str | None = None, batch_size: int = 32) -> None:
        self.model = model
        self.device = device
        self.batch_size = batch_size
        self._loaded: Any = None

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores each row's text for its query."""
        import numpy as np

        from pyterrier_jacolbert.frames import ranked

        pt.validate.result_frame(inp, ["query", "text"], context=self)
        if inp.empty:
            return ranked(inp, np.empty(0))
        if self._loaded is None:
            from sentence_transformers import CrossEncoder

            self._loaded = CrossEncoder(self.model, device=self.device)
        pairs = list(zip(inp["query"], inp["text"], strict=True))
        return ranked(inp, self._loaded.predict(pairs, batch_size=self.batch_size, show_progress_bar=False))

    def __repr__(self) -> str:
        return f"CrossEncoderScorer({self.model!r})"


def _parents(recipe: Recipe, average: Average, folder: Path, made: dict[str, Path]) -> list[Path]:
    stages = {stage.name: stage for stage in recipe.stages}
    parents = []
    for of in average.of:
        name, _, which = of.partition("@")
        parent = made[name] if name in made else _checkpoint(stages[name], folder / name, which)
        if not parent.is_dir():
            raise ValueError(f"The average {average.name!r} needs {of!r}, and {parent} is not there; train it first.")
        parents.append(parent)
    return parents


def _checkpoint(stage: Stage, folder: Path, which: str) -> Path:
    import json

    from pyterrier_jacolbert.train.progress import LOG_FILE

    if not which:
        return folder / "final"
    if which.isdigit():
        return folder / f"checkpoint-{which}"
    place = {"best": 0, "second": 1}[which]
    log = folder / LOG_FILE
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    measured = [(line["held_out"], line["step"]) for line in lines if "held_out" in line][:-1]
    if len(measured) <= place:
        raise ValueError(
            f"{stage.name}@{which} needs {place + 1} checkpoints with a held-out measure before the last; there are "
            f"{len(measured)} in {log}."
        )
    return folder / f"checkpoint-{sorted(measured, reverse=True)[place][1]}"


__all__ = ["CrossEncoderScorer", "Mining", "Texts", "merge_recipe", "mine_recipe", "train_recipe"]
