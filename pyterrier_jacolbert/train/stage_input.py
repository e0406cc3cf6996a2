"""Input of a stage of a recipe: the examples of one or more files, and the texts of their data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from pyterrier_jacolbert.columns import QID, QUERY
from pyterrier_jacolbert.train import example_files
from pyterrier_jacolbert.train.example_files import Example
from pyterrier_jacolbert.train.held_out import HeldOutMeasure
from pyterrier_jacolbert.train.recipe import Recipe
from pyterrier_jacolbert.train.recipe_collections import PrefixedTexts, RecipeCollection, prefixed
from pyterrier_jacolbert.train.recipe_data import ExampleFile
from pyterrier_jacolbert.train.stages import Stage


class StageInput:
    """The examples of a stage and their texts, with ids that are unique in the recipe.

    Args:
        recipe: the recipe.
        stage: the stage.
        collections: data sets of the recipe by name.
        folder: folder to which names of files of examples are relative.

    Raises:
        ValueError: the stage does not say which of several data sets holds the texts.
        FileNotFoundError: a file of examples does not exist.
    """

    def __init__(self, recipe: Recipe, stage: Stage, collections: Mapping[str, RecipeCollection], folder: Path) -> None:
        self._stage = stage
        self._folder = folder
        self._files = [
            (file, recipe.dataset_name(file.dataset, f"the examples {file.name!r}")) for file in stage.example_files
        ]
        self._collections = {name: collections[name] for _, name in self._files}
        self._is_prefixed = len(self._collections) > 1
        mined = {mining.name for mining in recipe.mining}
        for file in stage.example_files:
            if file.file is not None and not (folder / file.file).is_file():
                remedy = "mine them first" if file.file in mined else "put the file there, or correct its name"
                raise FileNotFoundError(
                    f"The stage {stage.name!r} takes its examples from {folder / file.file}, which does not exist; "
                    f"{remedy}."
                )

    @property
    def queries(self) -> Mapping[str, str]:
        """Queries by qid."""
        return self._mapping({name: self._queries_of(name) for name in self._collections})

    @property
    def documents(self) -> Mapping[str, str]:
        """Texts by docno."""
        return self._mapping({name: collection.texts for name, collection in self._collections.items()})

    def examples(self) -> Iterator[Example]:
        """Yields the examples of all files, as often as a pass uses them."""
        for file, name in self._files:
            for example in _repeated(file, partial(self._read, file), self._stage.seed):
                if self._is_prefixed:
                    docnos = tuple(prefixed(name, docno) for docno in example.docnos)
                    yield Example(prefixed(name, example.qid), docnos, example.scores)
                else:
                    yield example

    def check_held_out(self, measure: HeldOutMeasure) -> None:
        """Checks that no example has a held-out query.

        Raises:
            ValueError: examples have.
        """
        for file, name in self._files:
            measure.check_examples(name, self._read(file), self._queries_of(name))

    def _read(self, file: ExampleFile) -> Iterator[Example]:
        if file.file is not None:
            return example_files.read(self._folder / file.file)
        return example_files.read_released(file.split, str(file.released))

    def _queries_of(self, name: str) -> dict[str, str]:
        topics = self._collections[name].topics
        return dict(zip(topics[QID], topics[QUERY], strict=True))

    def _mapping(self, texts: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
        return PrefixedTexts(texts) if self._is_prefixed else next(iter(texts.values()))


def _repeated(file: ExampleFile, read: Callable[[], Iterable[Example]], seed: int) -> Iterator[Example]:
    """Yields each example as often as a pass uses it: a whole number of times, and a draw for the rest."""
    if file.count is None and file.weight == 1:
        yield from read()
        return
    n_examples = sum(1 for _ in read())
    wanted = file.count if file.count is not None else round(file.weight * n_examples)
    times, rest = divmod(wanted, max(1, n_examples))
    for _ in range(times):
        yield from read()
    drawn = set(np.random.default_rng(seed).permutation(n_examples)[:rest].tolist())
    yield from (example for position, example in enumerate(read()) if position in drawn)
