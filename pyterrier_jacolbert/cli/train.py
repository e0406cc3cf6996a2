"""Commands that run the parts of a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pyterrier_jacolbert.cli.options import Subparsers, add_command, add_device_option
from pyterrier_jacolbert.cli.output import print_line

if TYPE_CHECKING:
    from pyterrier_jacolbert.train.interpolation import Interpolation


def add_commands(subparsers: Subparsers) -> None:
    """Adds ``mine``, ``train`` and ``average``."""
    for name, run, summary in (
        ("mine", run_mine, "mine the training examples of a recipe"),
        ("train", run_train, "run the training stages of a recipe"),
        ("average", run_average, "average the checkpoints of a recipe"),
    ):
        command = add_command(subparsers, name, run, summary)
        command.add_argument("recipe", type=Path, help="recipe in YAML")
        command.add_argument("--output", type=Path, help="folder of the runs (default: beside the recipe)")
        if name != "average":
            add_device_option(command)
        if name == "train":
            command.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard, too")
            degenerate = "what to do with examples that teach nothing, such as those with equal scores (default: drop)"
            command.add_argument("--degenerate", choices=["drop", "error"], default="drop", help=degenerate)


def run_mine(args: argparse.Namespace) -> None:
    """Mines the training examples of a recipe."""
    from pyterrier_jacolbert.train.recipe import Recipe
    from pyterrier_jacolbert.train.run import mine_recipe

    mined = mine_recipe(Recipe.read(args.recipe), _output(args), base=args.recipe.parent, device=args.device)
    for path in mined.values():
        print_line(path)


def run_train(args: argparse.Namespace) -> None:
    """Runs the training stages of a recipe."""
    from pyterrier_jacolbert.train.recipe import Recipe
    from pyterrier_jacolbert.train.run import train_recipe

    settings = {"device": args.device, "tensorboard": args.tensorboard, "degenerate": args.degenerate}
    checkpoints = train_recipe(Recipe.read(args.recipe), _output(args), base=args.recipe.parent, **settings)
    _print_checkpoints(checkpoints)


def run_average(args: argparse.Namespace) -> None:
    """Averages the checkpoints of a recipe."""
    from pyterrier_jacolbert.train.interpolation import Interpolation
    from pyterrier_jacolbert.train.recipe import Recipe
    from pyterrier_jacolbert.train.run import average_recipe

    recipe = Recipe.read(args.recipe)
    averages = average_recipe(recipe, _output(args), base=args.recipe.parent)
    _print_checkpoints(averages)
    for average in recipe.averages:
        if average.points is not None:
            line = Interpolation.read(averages[average.name])
            _print_interpolation(average.name, average.of, line)


def _output(args: argparse.Namespace) -> Path:
    recipe: Path = args.recipe
    return args.output or recipe.with_suffix("")


def _print_checkpoints(checkpoints: dict[str, Path]) -> None:
    for name, checkpoint in checkpoints.items():
        print_line(f"{name}: {checkpoint}")


def _print_interpolation(name: str, checkpoints: tuple[str, ...], line: Interpolation) -> None:
    best = max(line.points, key=lambda point: point.measure)
    first, last = line.points[0], line.points[-1]
    disagreement = "" if line.disagreement is None else f", disagreement {line.disagreement:.3f}"
    print_line(
        f"{name}: {1 - line.weight:.2f} {checkpoints[0]} ({first.measure:.4f}) + {line.weight:.2f} {checkpoints[1]} "
        f"({last.measure:.4f}) has the held-out measure {best.measure:.4f}; barrier {line.barrier:.4f}{disagreement}"
    )
