"""Training recipes: stages, averages, and the source of every number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyterrier_jacolbert.train import published_recipes as published
from pyterrier_jacolbert.train.recipe_data import HeldOut, Mining, RecipeDataset
from pyterrier_jacolbert.train.recipe_files import read_settings, write_settings
from pyterrier_jacolbert.train.settings import check, check_types
from pyterrier_jacolbert.train.stages import STUDENT, WHOLE_STUDENT, Average, Stage, Student


@dataclass(frozen=True)
class Recipe:
    """Data sets, stages in order, and averages of their checkpoints.

    Attributes:
        name: name of the recipe.
        stages: stages in the order in which they run.
        averages: averages to write after the stages, in order.
        datasets: data sets that hold the texts.
        mining: files of examples to mine; none if they exist already.
        held_out: what checkpoints are measured on, for ``"stage@best"`` and averages with ``points``.
        student: student that stages start from; None if they start from a checkpoint.
        sources: source of each setting's value, by name of the setting.
    """

    name: str
    stages: tuple[Stage, ...]
    averages: tuple[Average, ...] = ()
    datasets: tuple[RecipeDataset, ...] = ()
    mining: tuple[Mining, ...] = ()
    held_out: tuple[HeldOut, ...] = ()
    student: Student | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "stages", bool(self.stages), "a list of one or more stages")
        self._check_parts()
        self._check_datasets()

    def _check_parts(self) -> None:
        """Checks that names are unique, and that parts refer to earlier ones.

        Raises:
            ValueError: they do not.
        """
        known: set[str] = set() if self.student is None else {STUDENT, WHOLE_STUDENT}
        parts: list[Stage | Average] = [*self.stages, *self.averages]
        for part in parts:
            if part.name in {*known, STUDENT, WHOLE_STUDENT}:
                raise ValueError(f"The recipe {self.name!r} has two parts named {part.name!r}; rename one of them.")
            for checkpoint in part.of if isinstance(part, Average) else ():
                if checkpoint.partition("@")[0] not in known:
                    raise ValueError(
                        f"The average {part.name!r} includes {checkpoint!r}, which is not an earlier part of the "
                        f"recipe; choose from {', '.join(sorted(known))}."
                    )
            for other in (part.start, part.teacher) if isinstance(part, Stage) else ():
                if other in (STUDENT, WHOLE_STUDENT) and self.student is None:
                    raise ValueError(
                        f"The stage {part.name!r} names {other!r}, and the recipe {self.name!r} describes no "
                        "student; add 'student', or name a checkpoint."
                    )
            known.add(part.name)

    def _check_datasets(self) -> None:
        """Checks that data sets have unique names, and that all parts name one of them.

        Raises:
            ValueError: they do not.
        """
        names = [dataset.name for dataset in self.datasets]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"The recipe {self.name!r} has two data sets named {repeated[0]!r}; rename one of them.")
        users: list[tuple[str, str | None]] = [(f"mining {mining.name!r}", mining.dataset) for mining in self.mining]
        users += [("held_out", part.dataset) for part in self.held_out]
        users += [(f"the stage {stage.name!r}", file.dataset) for stage in self.stages for file in stage.example_files]
        for user, name in users:
            if name is not None and name not in names:
                raise ValueError(
                    f"In the recipe {self.name!r}, {user} names the data set {name!r}; choose from "
                    f"{', '.join(names) or 'none'}, or add it to 'datasets'."
                )

    def dataset_name(self, name: str | None, user: str) -> str:
        """Returns the name of a data set, which may be left out if there is only one.

        Args:
            name: the name; None stands for the only data set.
            user: what names it, for the message.

        Returns:
            The name.

        Raises:
            ValueError: the name is left out, and there is none or more than one.
        """
        if name is None and len(self.datasets) != 1:
            names = ", ".join(dataset.name for dataset in self.datasets)
            remedy = f"add 'dataset', one of {names}, there" if names else "add 'datasets' to it"
            raise ValueError(f"The recipe {self.name!r} names no data set for {user}; {remedy}.")
        return self.datasets[0].name if name is None else name

    @classmethod
    def jacolbert_v2_5(cls) -> Recipe:
        """Returns the paper's recipe: 3.2M 32-way lines in global batches of 64, two post-trainings, two averages.

        Returns:
            The recipe, with the source of each number in ``sources``.
        """
        return cls(
            name="jacolbert-v2.5",
            stages=published.PAPER_STAGES,
            averages=published.AVERAGES,
            datasets=published.DATASETS,
            mining=published.MINING,
            held_out=published.HELD_OUT,
            sources=published.PAPER_SOURCES,
        )

    @classmethod
    def as_released_code(cls) -> Recipe:
        """Returns the recipe of the published fork.

        Each of the fork's four processes sees the same lines, every fourth of the file, 16 at a time.

        Returns:
            The recipe, with the source of each number in ``sources``.
        """
        return dataclasses.replace(
            cls.jacolbert_v2_5(),
            name="jacolbert-as-released-code",
            stages=published.RELEASED_CODE_STAGES,
            sources=published.RELEASED_CODE_SOURCES,
        )

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Reads a recipe from YAML.

        Args:
            path: file to read.

        Returns:
            The recipe.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is not YAML, lacks a setting, has an unknown setting (the message names the nearest
                one), or has a value of the wrong type.
        """
        return read_settings(cls, path)

    def write(self, path: str | Path) -> None:
        """Writes the recipe as YAML with every setting spelled out, so that :meth:`read` returns an equal recipe.

        Args:
            path: file to write; an existing file is replaced.
        """
        write_settings(self, path)

    def stage(self, name: str) -> Stage:
        """Returns a stage by name.

        Args:
            name: name of the stage.

        Returns:
            The stage.

        Raises:
            KeyError: no stage has this name; the message lists the stages.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(
            f"The recipe {self.name!r} has no stage {name!r}; choose from {', '.join(s.name for s in self.stages)}."
        )
