"""The line between two checkpoints: measured at several points, of which the best is kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyterrier_jacolbert.index.storage.atomic import replacing
from pyterrier_jacolbert.train.averaging import average, check_absent, measure_checkpoint
from pyterrier_jacolbert.train.held_out import HeldOutMeasure, SearchResult

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: File with the measured points, in the folder of the average, and its plot.
POINTS_FILE, PLOT_FILE = "points.json", "points.png"


@dataclass(frozen=True)
class Point:
    """A point on the line between two checkpoints.

    Attributes:
        weight: of the second checkpoint, 0 to 1.
        measure: on all held-out data.
        by_dataset: measure on each held-out part by name; empty if the measure has no parts.
    """

    weight: float
    measure: float
    by_dataset: dict[str, float]


@dataclass(frozen=True)
class Interpolation:
    """The measured line between two checkpoints.

    Attributes:
        points: from the first checkpoint to the second.
        weight: that of the second checkpoint at the chosen point, the one with the best measure. Among equal measures,
            it is the point nearest to the first checkpoint.
        barrier: greatest drop of the measure below the straight line between its values at the two checkpoints, 0 or
            more. Without a barrier the checkpoints lie in one basin of the loss, where averages work (Frankle et al.,
            "Linear mode connectivity and the lottery ticket hypothesis", arXiv 1912.05671).
        disagreement: share of the held-out queries for which the two checkpoints rank different documents first, the
            weighted mean of the held-out parts; None if the measure has no parts. Averages gain more from checkpoints
            that disagree (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903).
    """

    points: tuple[Point, ...]
    weight: float
    barrier: float
    disagreement: float | None

    @classmethod
    def read(cls, folder: str | Path) -> Interpolation:
        """Reads the measured line of an average.

        Args:
            folder: folder of the average.

        Returns:
            The measured line.

        Raises:
            FileNotFoundError: the folder is not that of an average with measured points.
        """
        content = json.loads((Path(folder) / POINTS_FILE).read_text(encoding="utf-8"))
        return cls(**{**content, "points": tuple(Point(**point) for point in content["points"])})


def interpolate(
    checkpoints: tuple[str | Path, str | Path],
    measure: Callable[[JaColBERT], float],
    *,
    points: int = 11,
    out: str | Path,
) -> Interpolation:
    """Averages two checkpoints with the weights that are best on held-out data.

    Interpolation between a general checkpoint and one that is fine-tuned from it combines the gain of the latter with
    the generalisation of the former (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903).

    Args:
        checkpoints: folders of the two, the more general one first.
        measure: measure of a checkpoint on held-out data, where more is better. That of a recipe,
            :class:`~pyterrier_jacolbert.train.HeldOutMeasure`, is recorded by part.
        points: number of points, the two checkpoints included.
        out: folder to write; it must not exist. It also gets ``points.json``, which
            :meth:`Interpolation.read` reads, and ``points.png`` if matplotlib is installed.

    Returns:
        The measured points, the chosen weight, the barrier between the checkpoints and their disagreement.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: the checkpoints differ in their tensors, or a measure is NaN or infinite.
    """
    out = check_absent(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    measured: list[Point] = []
    results: list[dict[str, SearchResult]] = []
    for weight in np.linspace(0, 1, points).tolist():
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as parent:
            trial = average(checkpoints, weights=(1 - weight, weight), out=Path(parent) / "trial")
            found = measure_checkpoint(trial, lambda model: _measure(model, measure, results))
        by_dataset = {name: result.measure for name, result in results[-1].items()} if results else {}
        measured.append(Point(weight, found, by_dataset))
    best = max(measured, key=lambda point: point.measure)
    disagreement = None
    if isinstance(measure, HeldOutMeasure):
        disagreement = measure.mean({name: results[0][name].disagreement(results[-1][name]) for name in results[0]})
    line = Interpolation(tuple(measured), best.weight, _barrier(measured), disagreement)
    average(checkpoints, weights=(1 - best.weight, best.weight), out=out)
    with replacing(out / POINTS_FILE) as file:
        file.write(json.dumps(asdict(line), indent=1) + "\n")
    _plot(out)
    return line


def _measure(model: JaColBERT, measure: Callable[[JaColBERT], float], results: list[dict[str, SearchResult]]) -> float:
    """Returns the measure of a checkpoint, and appends the results of its parts if there are any."""
    if not isinstance(measure, HeldOutMeasure):
        return measure(model)
    results.append(measure.search(model))
    return measure.mean({name: result.measure for name, result in results[-1].items()})


def _barrier(points: list[Point]) -> float:
    first, last = points[0].measure, points[-1].measure
    return max(first + point.weight * (last - first) - point.measure for point in points)


def _plot(folder: Path) -> None:
    """Saves a plot of the measured points, if matplotlib is installed."""
    from pyterrier_jacolbert.plots.interpolation import plot_interpolation

    try:
        figure = plot_interpolation(folder)
    except ImportError:
        return
    figure.savefig(folder / PLOT_FILE, dpi=150)
