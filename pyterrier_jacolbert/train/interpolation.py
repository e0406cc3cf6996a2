"""The line between two checkpoints: measured at several points, of which the best is kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyterrier_jacolbert.index.storage.atomic import replacing
from pyterrier_jacolbert.train.averaging import average, check_absent, measure_checkpoint
from pyterrier_jacolbert.train.held_out import HeldOutMeasure

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: File with the measured points, in the folder of the average.
POINTS_FILE = "points.json"


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


def interpolate(
    checkpoints: tuple[str | Path, str | Path],
    measure: Callable[[JaColBERT], float],
    *,
    points: int = 11,
    out: str | Path,
) -> tuple[Path, list[Point]]:
    """Averages two checkpoints with the weights that are best on held-out data.

    Interpolation between a general checkpoint and one that is fine-tuned from it combines the gain of the latter with
    the generalisation of the former (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903).

    Args:
        checkpoints: folders of the two, the more general one first.
        measure: measure of a checkpoint on held-out data, where more is better. One with ``by_dataset``, as recipes
            have it, is recorded by part.
        points: number of points, the two checkpoints included.
        out: folder to write; it must not exist. ``points.json`` in it has the measures.

    Returns:
        ``out`` and the measured points, from the first checkpoint to the second. Among equal measures, the point
        nearest to the first checkpoint is taken.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: the checkpoints differ in their tensors, or a measure is NaN or infinite.
    """
    out = check_absent(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    measured = []
    for weight in np.linspace(0, 1, points).tolist():
        parts: dict[str, float] = {}
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as parent:
            trial = average(checkpoints, weights=(1 - weight, weight), out=Path(parent) / "trial")
            found = measure_checkpoint(trial, partial(_measure_parts, measure, parts))
        measured.append(Point(weight, found, parts))
    best = max(measured, key=lambda point: point.measure)
    average(checkpoints, weights=(1 - best.weight, best.weight), out=out)
    with replacing(out / POINTS_FILE) as file:
        file.write(json.dumps([asdict(point) for point in measured], indent=1) + "\n")
    return out, measured


def _measure_parts(measure: Callable[[JaColBERT], float], parts: dict[str, float], model: JaColBERT) -> float:
    """Returns the measure of a checkpoint, and notes those of its parts if there are any."""
    if not isinstance(measure, HeldOutMeasure):
        return measure(model)
    parts |= measure.by_dataset(model)
    return measure.mean(parts)
