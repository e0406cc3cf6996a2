"""Plots the held-out measures along the line between two checkpoints."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert.plots.figure import BLUE, ORANGE, new_figure, set_fonts
from pyterrier_jacolbert.plots.fonts import drawable, japanese_fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours that people with red-green colour blindness can tell apart (Okabe and Ito 2008).
_COLOURS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def plot_interpolation(folder: str | Path) -> Figure:
    """Plots how held-out measures change between two checkpoints, with a line per data set, and the chosen weight.

    Lines start at 0, the first checkpoint, so that data sets of different difficulty share a scale. The legend has the
    measures of the first checkpoint and at the chosen weight.

    Args:
        folder: folder of an average with measured points, see :func:`pyterrier_jacolbert.train.interpolate`.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib or a font with Japanese characters is not installed.
        FileNotFoundError: the folder has no ``points.json``.
    """
    path = Path(folder) / "points.json"
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}; give the folder of an average with measured points.")
    content = json.loads(path.read_text(encoding="utf-8"))
    points = content["points"]
    weights = [point["weight"] for point in points]
    chosen = weights.index(content["weight"])
    figure, axes = new_figure(7.0, 4.0)
    fonts, draw = japanese_fonts(), drawable()

    def plot(name: str, values: list[float], **style: Any) -> None:
        label = f"{draw(name)}: {values[0]:.3f} → {values[chosen]:.3f}"
        axes.plot(weights, [value - values[0] for value in values], marker="o", markersize=4, label=label, **style)

    names = list(points[0]["by_dataset"])
    for name, colour in zip(names, itertools.cycle(_COLOURS), strict=False):
        plot(name, [point["by_dataset"][name] for point in points], color=colour)
    if len(names) != 1:
        style = {"color": "0.3", "linestyle": "--"} if names else {"color": BLUE}
        plot("mean" if names else "measure", [point["measure"] for point in points], **style)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    label = f"chosen weight: {weights[chosen]:.2g}"
    axes.axvline(weights[chosen], color="0.5", linewidth=1, linestyle=":", zorder=0, label=label)
    axes.set_xlabel("weight of the second checkpoint")
    axes.set_ylabel("change of the held-out measure")
    set_fonts(axes, fonts)
    axes.legend(frameon=False, prop={"family": fonts, "size": 9})
    return figure
