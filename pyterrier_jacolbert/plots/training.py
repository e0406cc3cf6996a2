"""Plots the learning curves of training runs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyterrier_jacolbert.plots.figure import hide_spines, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Maximum number of points of a curve that are marked with dots.
_MARKED_POINTS = 40


def plot_training(*runs: str | Path) -> Figure:
    """Plots the loss of training runs by step and, below it, the measure on held-out data if there is one.

    Args:
        *runs: folders written by :func:`pyterrier_jacolbert.train.distill`; each curve is labelled with the
            folder's name.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no run is given.
        FileNotFoundError: a folder contains no log.
    """
    if not runs:
        raise ValueError("plot_training() needs at least one run; give the folder of a training run.")
    logs = {run.name: _read_log(run) for run in map(Path, runs)}
    measured = any("held_out" in line for log in logs.values() for line in log)
    figure, axes = new_figure(8.0, 5.2 if measured else 3.6)
    if measured:
        axes.remove()
        losses, measures = figure.add_subplot(2, 1, 1), figure.add_subplot(2, 1, 2)
        _plot_curves(measures, logs, "held_out", "held-out measure")
    else:
        losses = measures = axes
    _plot_curves(losses, logs, "loss", "training loss")
    measures.set_xlabel("step")
    losses.legend(frameon=False)
    return figure


def read_log(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of a log, without one that a full disk or a power cut left incomplete."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict)]


def _read_log(run: Path) -> list[dict[str, Any]]:
    path = run / "log.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"There is no log {path}; give the folder of a training run.")
    return read_log(path)


def _plot_curves(axes: Axes, logs: dict[str, list[dict[str, Any]]], key: str, label: str) -> None:
    """Plots one value of each run by step."""
    from matplotlib.ticker import MaxNLocator

    for name, log in logs.items():
        points = [(line["step"], line[key]) for line in log if key in line]
        marker = "o" if len(points) < _MARKED_POINTS else None
        axes.plot(*np.array(points).reshape(-1, 2).T, label=name, marker=marker, ms=3)
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    hide_spines(axes)
