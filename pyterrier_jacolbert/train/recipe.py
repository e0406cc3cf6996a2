"""Training recipes: stages, averages, and the source of every number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyterrier_jacolbert.train import published_recipes as published
from pyterrier_jacolbert.train.recipe_files import read_settings, write_settings
from pyterrier_jacolbert.train.settings import check, check_types
from pyterrier_jacolbert.train.stages import Average, Mining, Stage


@dataclass(frozen=True)
class Recipe:
    """Stages in order, and averages of their checkpoints.

    Attributes:
        name: name of the recipe.
        stages: stages in the order in which they run.
        averages: averages to write after the stages, in order.
        dataset: PyTerrier dataset that holds the texts, such as ``"irds:mmarco/v2/ja/train"``.
        title_field: field of its documents that is put before the text.
        mining: how to mine examples; None if the examples exist already.
        sources: source of each setting's value, by name of the setting.
    """

    name: str
    stages: tuple[Stage, ...]
    averages: tuple[Average, ...] = ()
    dataset: str | None = None
    title_field: str | None = None
    mining: Mining | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "stages", bool(self.stages), "a list of one or more stages")
        known: set[str] = set()
        parts: list[Stage | Average] = [*self.stages, *self.averages]
        for part in parts:
            if part.name in known:
                raise ValueError(f"The recipe {self.name!r} has two parts named {part.name!r}; rename one of them.")
            for checkpoint in part.of if isinstance(part, Average) else ():
                if checkpoint.partition("@")[0] not in known:
                    raise ValueError(
                        f"The average {part.name!r} includes {checkpoint!r}, which is not an earlier part of the "
                        f"recipe; choose from {', '.join(sorted(known))}."
                    )
            known.add(part.name)

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
            dataset=published.DATASET,
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
