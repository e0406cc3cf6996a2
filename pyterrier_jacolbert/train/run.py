"""Execution of a recipe: mining, training and averaging, as the command line does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert.columns import QUERY
from pyterrier_jacolbert.encoding.checkpoint import check_available, load_checkpoint, without_progress_bars
from pyterrier_jacolbert.index.storage.atomic import replacing_directory
from pyterrier_jacolbert.index.threads import cached_attribute
from pyterrier_jacolbert.train import example_files
from pyterrier_jacolbert.train.held_out import HeldOutMeasure
from pyterrier_jacolbert.train.mining import Miner
from pyterrier_jacolbert.train.recipe import Recipe
from pyterrier_jacolbert.train.recipe_collections import open_collections
from pyterrier_jacolbert.train.recipe_data import COLBERT, CROSS_ENCODER, DENSE
from pyterrier_jacolbert.train.stage_input import StageInput
from pyterrier_jacolbert.train.stages import STUDENT, WHOLE_STUDENT, Average, Stage

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: A measure of a checkpoint on held-out data.
Measure = Callable[["JaColBERT"], float]
#: What the models of retrievers and teachers are, by kind.
_MODELS = {DENSE: "dense model", COLBERT: "checkpoint", CROSS_ENCODER: "cross-encoder"}
#: Folder of the indexes that mining builds, in the folder of the runs.
_INDEXES = "indexes"


def mine_recipe(
    recipe: Recipe,
    folder: str | Path,
    *,
    base: str | Path = ".",
    device: str | None = None,
    verbose: bool = True,
) -> dict[str, Path]:
    """Mines and scores the examples of a recipe, or resumes after an interruption. Existing files are kept.

    Args:
        recipe: recipe with ``mining`` and ``datasets``.
        folder: folder for the indexes and the examples.
        base: folder to which the recipe's names of files are relative.
        device: device for the teachers; None uses a GPU if there is one.
        verbose: whether to show progress bars.

    Returns:
        The files of examples by name.

    Raises:
        FileNotFoundError: a data set or a model does not exist.
        ValueError: the recipe lacks ``datasets``, or a data set has no judgements.
    """
    from pyterrier_jacolbert.train.training_arguments import available_device

    runs = _Runs(recipe, Path(folder), Path(base), device)
    names = {mining.name: recipe.dataset_name(mining.dataset, f"mining {mining.name!r}") for mining in recipe.mining}
    if not recipe.mining:
        raise ValueError(f"The recipe {recipe.name!r} has nothing to mine; add 'mining', or go on with train.")
    if device is not None:
        device = available_device(device)
    missing = [mining for mining in recipe.mining if not (runs.folder / mining.name).is_file()]
    runs.check_scorers(name for mining in missing for name in (*mining.retrievers, *mining.teachers))
    mined: dict[str, Path] = {}
    for mining in recipe.mining:
        mined[mining.name] = path = runs.folder / mining.name
        if path.is_file():
            continue
        miner = Miner(
            runs.collections[names[mining.name]],
            runs.folder / _INDEXES,
            student=recipe.student,
            resolve=partial(
                runs.resolve,
                checkpoints=runs.students() if _names_student(mining.retrievers + mining.teachers) else {},
            ),
            device=device,
            verbose=verbose,
        )
        example_files.save(miner.mine(mining), path)
    return mined


def train_recipe(
    recipe: Recipe,
    folder: str | Path,
    *,
    base: str | Path = ".",
    examples_folder: str | Path | None = None,
    measure: Measure | None = None,
    **settings: Any,
) -> dict[str, Path]:
    """Runs the stages of a recipe in order. Interrupted stages resume, and finished ones are skipped.

    Args:
        recipe: recipe with ``datasets``.
        folder: folder that receives one folder per stage.
        base: folder to which the recipe's names of files and checkpoints are relative.
        examples_folder: folder to which the stages' files of examples are relative; None takes ``folder``.
        measure: measure of a checkpoint, called at each save, where more is better; None takes the held-out data of the
            recipe. Do not use the data on which results are reported.
        **settings: other arguments of :func:`~pyterrier_jacolbert.train.distill`.

    Returns:
        The final checkpoint of each stage, by name.

    Raises:
        FileNotFoundError: a data set, a file of examples or a checkpoint does not exist.
        ValueError: the recipe names no data set, its examples are not valid, or an example has a held-out query.
    """
    from pyterrier_jacolbert.train.distillation import distill

    runs = _Runs(recipe, Path(folder), Path(base), settings.get("device"))
    inputs = {
        stage.name: StageInput(recipe, stage, runs.collections, Path(examples_folder or folder))
        for stage in recipe.stages
    }
    if recipe.held_out:
        held_out = runs.measure
        for stage_input in inputs.values():
            stage_input.check_held_out(held_out)
        measure = measure if measure is not None else held_out
    runs.check_checkpoints()
    checkpoints = runs.students() if recipe.student is not None else {}
    finals: dict[str, Path] = {}
    for stage in recipe.stages:
        part = inputs[stage.name]
        teacher = None if stage.teacher is None else runs.resolve(stage.teacher, checkpoints)
        finals[stage.name] = checkpoints[stage.name] = distill(
            part.examples(),
            part.queries,
            part.documents,
            stage,
            runs.folder / stage.name,
            model=runs.resolve(stage.start, checkpoints),
            teacher=teacher,
            evaluate=measure,
            **settings,
        )
    return finals


def average_recipe(
    recipe: Recipe, folder: str | Path, *, base: str | Path = ".", measure: Measure | None = None
) -> dict[str, Path]:
    """Writes the averages of a recipe from the checkpoints of :func:`train_recipe`; existing averages are kept.

    Args:
        recipe: recipe whose stages are trained.
        folder: folder of the stages, which also receives one folder per average.
        base: folder to which the recipe's names of files are relative.
        measure: chooses among the points of an average; None takes the held-out data of the recipe.

    Returns:
        The folder of each average, by name.

    Raises:
        ValueError: a checkpoint of an average does not exist, or ``@best``, ``@second`` or ``points`` is used without
            held-out measures.
    """
    from pyterrier_jacolbert.train.averaging import average
    from pyterrier_jacolbert.train.interpolation import interpolate

    runs = _Runs(recipe, Path(folder), Path(base), None)
    averages: dict[str, Path] = {}
    for part in recipe.averages:
        out = runs.folder / part.name
        if not out.exists():
            checkpoints = _checkpoints_to_average(runs, part, averages)
            if part.points is None:
                average(checkpoints, weights=part.weights, out=out)
            else:
                interpolate(
                    (checkpoints[0], checkpoints[1]),
                    measure if measure is not None else runs.measure,
                    points=part.points,
                    out=out,
                )
        averages[part.name] = out
    return averages


class _Runs:
    """The data of a recipe and the folder of its runs."""

    def __init__(self, recipe: Recipe, folder: Path, base: Path, device: str | None) -> None:
        self.recipe = recipe
        self.folder = folder
        self.collections = open_collections(recipe, base)
        self._base = base
        self._device = device

    @cached_attribute
    def measure(self) -> HeldOutMeasure:
        """The measure on the held-out data.

        Raises:
            ValueError: the recipe holds out nothing.
        """
        if not self.recipe.held_out:
            raise ValueError(
                f"The recipe {self.recipe.name!r} holds out nothing to measure checkpoints on; add 'held_out'."
            )
        return HeldOutMeasure(self.recipe.held_out, self.collections)

    def check_scorers(self, names: Iterable[str]) -> None:
        """Checks that the models of retrievers and teachers can be had.

        Raises:
            FileNotFoundError: one cannot.
        """
        for name in dict.fromkeys(names):
            kind, _, checkpoint = name.partition(":")
            if checkpoint in (STUDENT, WHOLE_STUDENT):
                self._check_encoder()
            elif checkpoint:
                check_available(_MODELS[kind], self.resolve(checkpoint, {}))

    def check_checkpoints(self) -> None:
        """Checks that the checkpoints from which unfinished stages start and which they imitate can be had.

        Raises:
            FileNotFoundError: one cannot.
        """
        own = {STUDENT, WHOLE_STUDENT, *(stage.name for stage in self.recipe.stages)}
        if self.recipe.student is not None:
            self._check_encoder()
        for stage in self.recipe.stages:
            if (self.folder / stage.name / "final").is_dir():
                continue
            for name in (stage.start, stage.teacher):
                if name is not None and name not in own:
                    check_available("checkpoint", self.resolve(name, {}))

    def _check_encoder(self) -> None:
        """Checks that the encoder of the student can be had, unless the student is built already."""
        if self.recipe.student is not None and not (self.folder / STUDENT / "modules.json").is_file():
            check_available("encoder", self.resolve(self.recipe.student.encoder, {}))

    def students(self) -> dict[str, Path]:
        """Returns the folders of the student and of the whole student, which are built if necessary."""
        from pyterrier_jacolbert.train.student import build_student

        if self.recipe.student is None:
            return {}
        folders = {name: self.folder / name for name in (STUDENT, WHOLE_STUDENT)}
        if not all((folder / "modules.json").is_file() for folder in folders.values()):
            encoder = self.resolve(self.recipe.student.encoder, {})
            build_student(self.recipe.student, encoder, self._training_texts(), folders, self._device)
        return folders

    def start_of(self, stage: Stage) -> Path:
        """Returns the folder of the checkpoint from which a stage starts, in the layout of the stage's own.

        Raises:
            FileNotFoundError: it is not on this machine and cannot be downloaded.
        """
        if stage.start in (STUDENT, WHOLE_STUDENT):
            return self.folder / stage.start
        if any(stage.start == other.name for other in self.recipe.stages):
            return self.folder / stage.start / "final"
        start = self.folder / stage.name / "start"
        if not start.is_dir():
            with replacing_directory(start) as temporary, without_progress_bars():
                load_checkpoint(self.resolve(stage.start, {}), None, "cpu").save_pretrained(str(temporary))
        return start

    def resolve(self, checkpoint: str, checkpoints: Mapping[str, Path]) -> str:
        """Returns the folder or hub name of a checkpoint.

        Args:
            checkpoint: name of a part of the recipe, folder relative to the recipe's file, or hub name.
            checkpoints: folders of parts of the recipe by name.
        """
        if checkpoint in checkpoints:
            return str(checkpoints[checkpoint])
        local = self._base / checkpoint
        return str(local) if local.is_dir() else checkpoint

    def _training_texts(self) -> list[tuple[list[str], list[str]]]:
        """Returns documents and queries of each data set that is not held out as a whole."""
        whole = {part.dataset for part in self.recipe.held_out if part.share is None}
        return [
            (collection.training_texts(), collection.training_topics[QUERY].tolist())
            for name, collection in self.collections.items()
            if name not in whole
        ]


def _names_student(names: Iterable[str]) -> bool:
    return any(name.partition(":")[2] in (STUDENT, WHOLE_STUDENT) for name in names)


def _checkpoints_to_average(runs: _Runs, average: Average, averages: Mapping[str, Path]) -> list[Path]:
    stages = {stage.name: stage for stage in runs.recipe.stages}
    checkpoints = []
    for reference in average.of:
        name, _, which = reference.partition("@")
        if name in (STUDENT, WHOLE_STUDENT):
            checkpoint = runs.folder / name
        elif name in averages:
            checkpoint = averages[name]
        elif which == "0":
            checkpoint = runs.start_of(stages[name])
        else:
            checkpoint = _stage_checkpoint(stages[name], runs.folder / name, which)
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
            f"{len(measured)} as in {log}; add 'held_out' to the recipe and a smaller 'save_every', or name a step."
        )
    return folder / f"checkpoint-{sorted(measured, reverse=True)[rank][1]}"
