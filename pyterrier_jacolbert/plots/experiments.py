"""Plots the results of experiments: one system against another per query, and quality against time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pyterrier_jacolbert.columns import QID, QUERY
from pyterrier_jacolbert.plots.figure import BLUE, ORANGE, label_dots, new_figure, set_fonts
from pyterrier_jacolbert.plots.fonts import drawable, japanese_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Maximum number of characters of a query shown beside a plot.
_QUERY_CHARACTERS = 22


def plot_differences(
    perquery: pd.DataFrame,
    baseline: str,
    system: str,
    *,
    measure: str | None = None,
    topics: pd.DataFrame | None = None,
    named: int = 5,
) -> Figure:
    """Plots the gains and losses of a system against a baseline per query, greatest gain first.

    Args:
        perquery: result of ``pt.Experiment(..., perquery=True)``: ``name``, ``qid``, ``measure``, ``value``.
        baseline: name of the system whose values are subtracted.
        system: name of the system to compare.
        measure: name of the measure in the frame; None uses the first.
        topics: ``qid`` and ``query``, for labelling queries with their text; None labels them with their qid.
        named: number of greatest gains, and of greatest losses, to list beside the plot.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib or a font with Japanese characters is not installed.
        ValueError: the frame lacks a system or the measure, or the systems share no query.
    """
    differences = query_differences(perquery, baseline, system, measure=measure)
    measure = measure or str(perquery["measure"].iloc[0])
    fonts, draw = japanese_fonts(), drawable()
    figure, axes = new_figure(9.5, 4.2)
    values = differences.to_numpy()
    axes.bar(np.arange(len(values)), values, width=1.0, color=np.where(values > 0, BLUE, ORANGE))
    axes.axhline(0, color="#1f2328", linewidth=0.8)
    better, worse = int((values > 0).sum()), int((values < 0).sum())
    axes.set_title(
        draw(f"{system} − {baseline}: mean {values.mean():+.4f}; ")
        + f"{better} better, {len(values) - better - worse} equal, {worse} worse",
        loc="left",
        fontsize=11,
    )
    axes.set_xlabel(f"{len(values)} queries, by difference")
    axes.set_ylabel(f"difference in {measure}")
    axes.margins(x=0.01)
    texts = {} if topics is None else dict(zip(topics[QID], topics[QUERY], strict=True))
    lines = _list_extremes(differences, texts, named)
    axes.text(1.02, 1.0, "\n".join(map(draw, lines)), transform=axes.transAxes, va="top", fontsize=9, linespacing=1.5)
    set_fonts(axes, fonts)
    return figure


def query_differences(
    perquery: pd.DataFrame, baseline: str, system: str, *, measure: str | None = None
) -> pd.Series[float]:
    """Returns the differences between two systems in a measure by qid, greatest gain first.

    Args:
        perquery: result of ``pt.Experiment(..., perquery=True)``: ``name``, ``qid``, ``measure``, ``value``.
        baseline: name of the system whose values are subtracted.
        system: name of the system to compare.
        measure: name of the measure in the frame; None uses the first.

    Returns:
        The differences of the queries that both systems have, by qid.

    Raises:
        ValueError: the frame lacks a column, a system or the measure, or the systems share no query.
    """
    missing = {"name", QID, "measure", "value"} - set(perquery.columns)
    if missing:
        raise ValueError(
            f"The frame has no column {sorted(missing)[0]!r}; give the result of pt.Experiment(..., perquery=True)."
        )
    measure = measure or (str(perquery["measure"].iloc[0]) if len(perquery) else "")
    measured = perquery[perquery["measure"].astype(str) == str(measure)]
    values = []
    for name in (baseline, system):
        rows = measured[measured["name"] == name]
        if rows.empty:
            raise ValueError(
                f"The frame has no values of {measure!r} for {name!r}; it has {sorted(set(perquery['name']))} and "
                f"{sorted(set(perquery['measure'].astype(str)))}."
            )
        values.append(rows.set_index(QID)["value"].astype(float))
    difference = (values[1] - values[0]).dropna()
    if difference.empty:
        raise ValueError(f"{baseline!r} and {system!r} share no query; give runs of the same topics.")
    return difference.sort_values(ascending=False, kind="stable")


def plot_latency(table: pd.DataFrame, *, measure: str | None = None) -> Figure:
    """Plots quality against time per query: one dot per system, and a line through the Pareto-optimal systems.

    Args:
        table: result of ``pt.Experiment(systems, topics, qrels, [nDCG @ 10, "mrt"])``: ``name``, ``mrt`` and measures.
        measure: name of the measure in the table; None uses the first.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib or a font with Japanese characters is not installed.
        ValueError: the table lacks times or the measure.
    """
    measures = [str(name) for name in table.columns if name not in ("name", "mrt") and " " not in str(name)]
    if "mrt" not in table.columns or not measures:
        raise ValueError(
            f"The table has the columns {list(map(str, table.columns))}; give the result of pt.Experiment with the "
            "measures [nDCG @ 10, 'mrt']."
        )
    measure = measures[0] if measure is None else measure
    if measure not in measures:
        raise ValueError(f"The table has no measure {measure!r}; name one of {', '.join(measures)}.")
    fonts, draw = japanese_fonts(), drawable()
    figure, axes = new_figure(8.0, 4.4)
    ordered = table.sort_values(["mrt", measure], ascending=[True, False], kind="stable")
    times, values = ordered["mrt"].to_numpy(dtype=float), ordered[measure].to_numpy(dtype=float)
    optimal = values > np.concatenate([[-np.inf], np.maximum.accumulate(values)[:-1]])
    axes.plot(times[optimal], values[optimal], color=BLUE, linewidth=1.0, alpha=0.5, zorder=1)
    axes.scatter(times, values, color=np.where(optimal, BLUE, ORANGE), zorder=2)
    if times.min() > 0 and times.max() > 8 * times.min():
        _use_log_scale(axes)
    axes.margins(x=0.08, y=0.16)
    axes.set_xlabel("ms per query (mrt)")
    axes.set_ylabel(measure)
    axes.set_title("Quality against time; the line joins the Pareto-optimal systems", loc="left", fontsize=11)
    label_dots(axes, times, values, [draw(str(name)) for name in ordered["name"]], fonts)
    set_fonts(axes, fonts)
    return figure


def _use_log_scale(axes: Axes) -> None:
    """Makes the x axis logarithmic, with plain numbers as labels."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")  # the default would typeset powers of ten as formulas
    axes.xaxis.set_minor_formatter(NullFormatter())


def _list_extremes(differences: pd.Series[float], texts: dict[str, str], named: int) -> list[str]:
    """Lists the greatest gains and losses under headings, one line per query."""
    lines: list[str] = []
    gains = differences[differences > 0].head(named)
    losses = differences[differences < 0].tail(named)[::-1]
    for heading, extremes in (("greatest gains", gains), ("greatest losses", losses)):
        lines += ([""] if lines else []) + [heading]
        for qid, value in extremes.items():
            text = str(texts.get(str(qid), qid))
            shortened = text if len(text) <= _QUERY_CHARACTERS else text[: _QUERY_CHARACTERS - 1] + "…"
            lines.append(f"{value:+.3f}  {shortened}")
    return lines
