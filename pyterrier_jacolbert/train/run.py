"""Execution of a recipe: mining, training and averaging, as the command line does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyterrier as pt

from pyterrier_jacolbert.columns import QID, QUERY
from pyterrier_jacolbert.train import example_files, examples
from pyterrier_jacolbert.train.recipe import Recipe
from pyterrier_jacolbert.train.stages import Average, Stage
from pyterrier_jacolbert.train.teachers import CrossEncoderScorer, ensemble
from pyterrier_jacolbert.train.texts import Texts

if TYPE_CHECKING:
    from pyterrier_jacolbert.artifacts.bm25 import JapaneseBM25
    from pyterrier_jacolbert.model import JaColBERT

#: A measure of a checkpoint on held-out data.
Measure = Callable[["JaColBERT"], float]


def mine_recipe(recipe: Recipe, folder: str | Path, *, device: str | None = None, verbose: bool = True) -> Path:
    """Mines and scores the examples of a recipe, or resumes after an interruption.

    Args:
        recipe: recipe with ``mining`` and ``dataset``.
        folder: folder for the BM25 index and the examples.
        device: device for the teachers; None uses a GPU if there is one.
        verbose: whether to show progress bars.

    Returns:
        The file of examples.

    Raises:
        ValueError: the recipe lacks ``mining`` or ``dataset``, or the dataset has no judgements.
    """
    from pyterrier_jacolbert.artifacts.bm25 import JapaneseBM25

    mining = recipe.mining
    if mining is None or recipe.dataset is None:
        raise ValueError(f"The recipe {recipe.name!r} cannot mine examples; add 'mining' and 'dataset' to it.")
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
    teachers = [_load_teacher(name, bm25, device) for name in mining.teachers]
    teacher = teachers[0] if len(teachers) == 1 else ensemble(*teachers, normalize=mining.normalize)
    texts = None if mining.teachers == ("bm25",) else Texts(dataset, recipe.title_field)
    return example_files.save(examples.score(mined, teacher, topics, texts), folder / mining.name)


def train_recipe(
    recipe: Recipe, folder: str | Path, *, examples_folder: str | Path, measure: Measure | None = None, **settings: Any
) -> dict[str, Path]:
    """Runs the stages of a recipe in order. Interrupted stages resume, and finished ones are skipped.

    Args:
        recipe: recipe with ``dataset``.
        folder: folder that receives one folder per stage.
        examples_folder: folder to which the stages' ``examples`` are relative.
        measure: measure of a checkpoint, called at each save, where more is better. Do not use the data on which
            results are reported.
        **settings: other arguments of :func:`~pyterrier_jacolbert.train.distill`.

    Returns:
        The final checkpoint of each stage, by name.

    Raises:
        ValueError: the recipe names no dataset, or its examples are not valid.
    """
    from pyterrier_jacolbert.train.distillation import distill

    if recipe.dataset is None:
        raise ValueError(f"The recipe {recipe.name!r} names no dataset that holds the texts; add 'dataset' to it.")
    dataset = pt.get_dataset(recipe.dataset)
    topics = dataset.get_topics()
    queries = dict(zip(topics[QID], topics[QUERY], strict=True))
    documents = Texts(dataset, recipe.title_field)
    finals: dict[str, Path] = {}
    for stage in recipe.stages:
        lines = example_files.read(Path(examples_folder) / stage.examples)
        start = finals.get(stage.start, stage.start)
        finals[stage.name] = distill(
            lines, queries, documents, stage, Path(folder) / stage.name, model=start, evaluate=measure, **settings
        )
    return finals


def average_recipe(recipe: Recipe, folder: str | Path) -> dict[str, Path]:
    """Writes the averages of a recipe from the checkpoints of :func:`train_recipe`; existing averages are kept.

    Args:
        recipe: recipe whose stages are trained.
        folder: folder of the stages, which also receives one folder per average.

    Returns:
        The folder of each average, by name.

    Raises:
        ValueError: a checkpoint of an average does not exist, or ``@best`` or ``@second`` is used without enough
            held-out measures.
    """
    from pyterrier_jacolbert.train.averaging import average

    averages: dict[str, Path] = {}
    for part in recipe.averages:
        out = Path(folder) / part.name
        if not out.exists():
            average(_checkpoints_to_average(recipe, part, Path(folder), averages), weights=part.weights, out=out)
        averages[part.name] = out
    return averages


def _load_teacher(name: str, bm25: JapaneseBM25, device: str | None) -> pt.Transformer:
    kind, _, checkpoint = name.partition(":")
    if kind == "bm25":
        return bm25.scorer()
    if kind == "colbert":
        from pyterrier_jacolbert.model import JaColBERT

        return JaColBERT(checkpoint, device=device).text_scorer()
    return CrossEncoderScorer(checkpoint, device=device)


def _checkpoints_to_average(recipe: Recipe, average: Average, folder: Path, averages: dict[str, Path]) -> list[Path]:
    stages = {stage.name: stage for stage in recipe.stages}
    checkpoints = []
    for reference in average.of:
        name, _, which = reference.partition("@")
        checkpoint = averages[name] if name in averages else _stage_checkpoint(stages[name], folder / name, which)
        if not checkpoint.is_dir():
            raise ValueError(
                f"The average {average.name!r} needs {reference!r}, but {checkpoint} does not exist; run train first."
            )
        checkpoints.append(checkpoint)
    return checkpoints


def _stage_checkpoint(stage: Stage, folder: Path, which: str) -> Path:
    """Returns the folder of a checkpoint: the final one, that of a step, or the best or second best."""
    from pyterrier_jacolbert.plots.training import read_log
    from pyterrier_jacolbert.train.progress import LOG_FILE

    if not which:
        return folder / "final"
    if which.isdigit():
        return folder / f"checkpoint-{which}"
    rank = {"best": 0, "second": 1}[which]
    log = folder / LOG_FILE
    lines = read_log(log) if log.is_file() else []
    measured = [(line["held_out"], line["step"]) for line in lines if "held_out" in line][:-1]
    if len(measured) <= rank:
        raise ValueError(
            f"{stage.name}@{which} needs at least {rank + 1} checkpoints with a held-out measure before the last, not "
            f"{len(measured)} as in {log}; train with a measure, or name a step."
        )
    return folder / f"checkpoint-{sorted(measured, reverse=True)[rank][1]}"
