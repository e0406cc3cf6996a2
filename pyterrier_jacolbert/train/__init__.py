"""Training: recipes, n-way examples from pipelines and teachers, distillation, and averages of checkpoints.

Requires the extra ``train``. Names load what they need on first use: reading a recipe does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyterrier_jacolbert.train.averaging import average, select, soup
    from pyterrier_jacolbert.train.distillation import distill
    from pyterrier_jacolbert.train.example_files import Example, read, read_colbert, read_released, save
    from pyterrier_jacolbert.train.examples import mine, score
    from pyterrier_jacolbert.train.fine_tuning import fine_tune
    from pyterrier_jacolbert.train.held_out import HeldOutMeasure
    from pyterrier_jacolbert.train.interpolation import Interpolation, interpolate
    from pyterrier_jacolbert.train.recipe import Recipe
    from pyterrier_jacolbert.train.recipe_data import ExampleFile, HeldOut, Mining, RecipeDataset
    from pyterrier_jacolbert.train.run import average_recipe, mine_recipe, train_recipe
    from pyterrier_jacolbert.train.stages import Average, Stage, Student
    from pyterrier_jacolbert.train.student import keep_layers, new_student
    from pyterrier_jacolbert.train.teachers import CrossEncoderScorer, ensemble
    from pyterrier_jacolbert.train.validation import validate

__all__ = [
    "Average",
    "CrossEncoderScorer",
    "Example",
    "ExampleFile",
    "HeldOut",
    "HeldOutMeasure",
    "Interpolation",
    "Mining",
    "Recipe",
    "RecipeDataset",
    "Stage",
    "Student",
    "average",
    "average_recipe",
    "distill",
    "ensemble",
    "fine_tune",
    "interpolate",
    "keep_layers",
    "mine",
    "mine_recipe",
    "new_student",
    "read",
    "read_colbert",
    "read_released",
    "save",
    "score",
    "select",
    "soup",
    "train_recipe",
    "validate",
]

#: The module of each public name. No module shares its name with a public name, which it would hide once imported.
_MODULES = {
    "Average": "stages",
    "CrossEncoderScorer": "teachers",
    "Example": "example_files",
    "ExampleFile": "recipe_data",
    "HeldOut": "recipe_data",
    "HeldOutMeasure": "held_out",
    "Interpolation": "interpolation",
    "Mining": "recipe_data",
    "Recipe": "recipe",
    "RecipeDataset": "recipe_data",
    "Stage": "stages",
    "Student": "stages",
    "average": "averaging",
    "average_recipe": "run",
    "distill": "distillation",
    "ensemble": "teachers",
    "fine_tune": "fine_tuning",
    "interpolate": "interpolation",
    "keep_layers": "student",
    "mine": "examples",
    "mine_recipe": "run",
    "new_student": "student",
    "read": "example_files",
    "read_colbert": "example_files",
    "read_released": "example_files",
    "save": "example_files",
    "score": "examples",
    "select": "averaging",
    "soup": "averaging",
    "train_recipe": "run",
    "validate": "validation",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
