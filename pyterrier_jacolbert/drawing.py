"""What all pictures have in common: a figure, its fonts, names beside dots."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pyterrier_jacolbert.fonts import FONT_PACKAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches, which a notebook shows once: where it is returned."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(f"Plots need matplotlib ({error}); pip install matplotlib {FONT_PACKAGE}") from error
    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained", dpi=120)
    pyplot.close(figure)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def name_dots(axes: Axes, x: np.ndarray, y: np.ndarray, names: list[str], fonts: list[str]) -> None:
    """Writes names beside dots, each where it covers no other name and no dot, if it can; a line leads to a far one."""
    from matplotlib.path import Path as Line
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    cast("Figure", axes.figure).draw_without_rendering()  # where the dots are is known after that
    dots = axes.transData.transform(np.column_stack([x, y]))
    middle = axes.bbox.x0 + 0.6 * axes.bbox.width
    taken = [Bbox.from_bounds(across - 5, up - 5, 10, 10) for across, up in dots.tolist()]
    lines: list[Line] = []
    heights = (7, -13, 20, -26, 33, -39, 46, -52, 59, -65)
    for number, (dot, name) in enumerate(zip(dots, names, strict=True)):
        align = "right" if dot[0] > middle else "left"
        beside = [-across if align == "right" else across for across in (7, 40, 80)]
        others = taken[:number] + taken[number + 1 :]
        best: tuple[int, Text, Bbox, Line | None] | None = None
        for across, height in itertools.product(beside, heights):
            near = height in heights[:2] and across == beside[0]
            text = axes.annotate(
                name,
                (x[number], y[number]),
                (across, height),
                textcoords="offset points",
                ha=align,
                fontsize=9,
                fontfamily=fonts,
                arrowprops=None if near else {"arrowstyle": "-", "linewidth": 0.5},
            )
            text.set_in_layout(False)  # or the dots would move
            text.get_window_extent()  # puts the words in their place
            box = Text.get_window_extent(text)  # of the words, without the line
            foot = (np.clip(dot[0], box.x0, box.x1), box.y0 if height > 0 else box.y1)
            line = None if near else Line([dot, foot])
            outside = not (axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1 and axes.bbox.x0 < box.x0)
            crossed = sum(other.intersects_bbox(box) for other in lines)
            crossed += 0 if line is None else sum(map(line.intersects_bbox, others))
            cost = 100 * (outside + sum(map(box.overlaps, taken))) + crossed
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, text, box, line)
            else:
                text.remove()
            if best[0] == 0:
                break
        assert best is not None
        taken.append(best[2])
        lines += [best[3]] if best[3] is not None else []


def write_in(axes: Axes, fonts: list[str]) -> None:
    """Sets all text of a plot in the fonts, as it stands: a ``$`` is no formula."""
    for text in [axes.title, *axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts, *_titles(axes)]:
        text.set_fontfamily(fonts)
        text.set_parse_math(False)


def _titles(axes: Any) -> list[Any]:  # noqa: ANN401 (matplotlib keeps the left title to itself)
    return [axes._left_title, axes.xaxis.label, axes.yaxis.label]
