"""The common parts of all plots: a figure, its colours and fonts, and labels beside dots."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pyterrier_jacolbert.plots.fonts import FONT_PACKAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Line
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

#: Two colours that people with red-green colour blindness can tell apart (Okabe and Ito 2008).
BLUE, ORANGE = "#0072b2", "#d55e00"
#: Offsets of a label from its dot, in points, nearest first.
_DISTANCES = (7, 40, 80)
_HEIGHTS = (7, -13, 20, -26, 33, -39, 46, -52, 59, -65)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Creates a figure that a notebook displays only once, where it is returned.

    Args:
        width: width in inches.
        height: height in inches.

    Returns:
        The figure and its axes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(f"Plots need matplotlib ({error}); pip install matplotlib {FONT_PACKAGE}") from error
    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained", dpi=120)
    pyplot.close(figure)
    hide_spines(axes)
    return figure, axes


def hide_spines(axes: Axes) -> None:
    """Hides the top and right borders of a plot."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def set_fonts(axes: Axes, fonts: list[str]) -> None:
    """Sets the fonts of all text of a plot and draws the text literally, so that ``$`` starts no formula."""
    for text in [axes.title, *axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts, *_titles(axes)]:
        text.set_fontfamily(fonts)
        text.set_parse_math(False)


def label_dots(axes: Axes, x: np.ndarray, y: np.ndarray, labels: list[str], fonts: list[str]) -> None:
    """Writes labels beside dots, avoiding other labels and dots if possible; a line connects a distant label.

    Args:
        axes: plot that shows the dots.
        x: float ``(n,)``, positions of the dots.
        y: float ``(n,)``, positions of the dots.
        labels: text of each dot's label.
        fonts: font families.
    """
    from matplotlib.transforms import Bbox

    cast("Figure", axes.figure).draw_without_rendering()  # computes the positions of the dots
    dots = axes.transData.transform(np.column_stack([x, y]))
    boxes = [Bbox.from_bounds(across - 5, up - 5, 10, 10) for across, up in dots.tolist()]
    lines: list[Line] = []
    for number, (dot, label) in enumerate(zip(dots, labels, strict=True)):
        others = boxes[:number] + boxes[number + 1 :]
        best: _Placement | None = None
        for placement in _placements(axes, (x[number], y[number]), dot, label, fonts):
            placement.cost = _cost(axes, placement, boxes, others, lines)
            if best is None or placement.cost < best.cost:
                if best is not None:
                    best.text.remove()
                best = placement
            else:
                placement.text.remove()
            if best.cost == 0:
                break
        assert best is not None
        boxes.append(best.box)
        lines += [] if best.line is None else [best.line]


@dataclass
class _Placement:
    """A label at a position.

    Attributes:
        text: label on the plot.
        box: extent of the words, in pixels.
        line: connection between the dot and a distant label; None if the label is near.
        cost: number of overlaps, weighted.
    """

    text: Text
    box: Bbox
    line: Line | None
    cost: float = 0


def _placements(
    axes: Axes, position: tuple[float, float], dot: np.ndarray, label: str, fonts: list[str]
) -> Iterator[_Placement]:
    """Yields the possible placements of a label, nearest first; each adds a text to the plot.

    Args:
        axes: plot that shows the dot.
        position: position of the dot in the units of the data.
        dot: position of the dot in pixels.
        label: text of the label.
        fonts: font families.
    """
    from matplotlib.path import Path as Line
    from matplotlib.text import Text

    align = "right" if dot[0] > axes.bbox.x0 + 0.6 * axes.bbox.width else "left"
    for distance, height in itertools.product(_DISTANCES, _HEIGHTS):
        near = height in _HEIGHTS[:2] and distance == _DISTANCES[0]
        text = axes.annotate(
            label,
            position,
            (-distance if align == "right" else distance, height),
            textcoords="offset points",
            ha=align,
            fontsize=9,
            fontfamily=fonts,
            arrowprops=None if near else {"arrowstyle": "-", "linewidth": 0.5},
        )
        text.set_in_layout(False)  # otherwise the dots would move
        text.get_window_extent()  # moves the words to their position
        box = Text.get_window_extent(text)  # of the words without the line
        foot = (np.clip(dot[0], box.x0, box.x1), box.y0 if height > 0 else box.y1)
        yield _Placement(text, box, None if near else Line(np.array([dot, foot])))


def _cost(axes: Axes, placement: _Placement, boxes: list[Bbox], others: list[Bbox], lines: list[Line]) -> float:
    """Returns 100 per overlap with a box or the border of the plot, and 1 per crossing of a line and a box.

    Args:
        axes: plot that shows the dots.
        placement: position of a label.
        boxes: boxes of all dots and of the labels placed so far.
        others: the same boxes without that of the label's own dot.
        lines: connections of the labels placed so far.
    """
    box, line = placement.box, placement.line
    outside = not (axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1 and axes.bbox.x0 < box.x0)
    crossings = sum(other.intersects_bbox(box) for other in lines)
    crossings += 0 if line is None else sum(map(line.intersects_bbox, others))
    return 100 * (outside + sum(map(box.overlaps, boxes))) + crossings


def _titles(axes: Any) -> list[Any]:
    # matplotlib has no public attribute for the left title.
    return [axes._left_title, axes.xaxis.label, axes.yaxis.label]
