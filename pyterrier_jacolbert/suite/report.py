"""The report of an evaluation: Markdown, HTML and a plot."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert.suite.evaluate import Results
from pyterrier_jacolbert.suite.published import published
from pyterrier_jacolbert.suite.tables import Table, label, tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLOT = "plot.png"
_BLUE = "#1f6feb"


def write_report(results: Results, folder: Path) -> list[Path]:
    """Writes ``report.md``, ``report.html`` and ``plot.png``.

    Args:
        results: what was measured.
        folder: where; it must exist.

    Returns:
        The files.

    Raises:
        ImportError: a package that the report needs is not installed.
    """
    found = tables(results)
    written = [folder / "report.md", folder / "report.html", folder / _PLOT]
    written[0].write_text(markdown(found), encoding="utf-8")
    written[1].write_text(html(found, results), encoding="utf-8")
    plot(results, written[2])
    return written


def markdown(found: list[Table]) -> str:
    """The tables as Markdown; what was measured is in bold."""
    lines = ["# Measured beside published", ""]
    for table in found:
        lines += [f"## {table.title}", "", _line(table.header), _line(["---"] * len(table.header))]
        for row in table.rows:
            lines.append(_line([f"**{row.name}**" if row.measured else row.name, *row.cells]))
        lines += ["", *(f"- {note}" for note in table.notes), ""]
    return "\n".join(lines)


def summary(results: Results) -> str:
    """What was measured, a line a system and task: for the terminal."""
    lines = []
    for result in results.tasks.values():
        for name, measured in result.systems.items():
            values = "  ".join(f"{label(measure)} {value:.4f}" for measure, value in measured.values.items())
            lines.append(f"{result.protocol.task}  {name}  {values}")
    for name in results.systems():
        if (mean := results.mean(name)) is not None:
            lines.append(f"mean of five  {name}  {mean:.4f}")
    return "\n".join(lines)


def html(found: list[Table], results: Results) -> str:
    """The tables as a page of its own, with the plot beside it.

    Raises:
        ImportError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise _needs("Jinja") from None
    template = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(tables=found, results=results, plot=_PLOT)


def plot(results: Results, path: Path) -> None:
    """A panel a task: published values as dots on a line, measured ones with their names.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise _needs("matplotlib") from None
    figure = Figure(figsize=(9, 0.9 + 1.35 * len(results.tasks)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(results.tasks), 1, squeeze=False)[:, 0]
    for axes, task in zip(panels, results.tasks, strict=True):
        _panel(axes, results, task)
    # The labels are Latin: matplotlib's own font has no Japanese.
    figure.suptitle(f"Measured (names above) beside published, {results.protocol}", fontsize=11)
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, results: Results, task: str) -> None:
    result = results.tasks[task]
    measure = result.protocol.measure
    rows = [row for row in published() if measure in row.scores.get(task, {})]
    for crossed, colour, name in ((False, "#9aa5b1", "published"), (True, "#d9a441", "published, without projection")):
        values = [row.scores[task][measure] for row in rows if (task in row.without_projection) == crossed]
        if values:
            axes.scatter(values, [0.0] * len(values), s=34, c=colour, marker="x" if crossed else "o", label=name)
    beside: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8}
    best = max(rows, key=lambda row: row.scores[task][measure], default=None)
    if best is not None:
        axes.annotate(best.model, (best.scores[task][measure], 0), (0, -15), ha="right", color="#5b6670", **beside)
    ordered = sorted(result.systems.items(), key=lambda item: item[1].values[measure])
    line = {"arrowstyle": "-", "lw": 0.5, "color": _BLUE}
    for number, (name, measured) in enumerate(ordered):
        value = measured.values[measure]
        axes.scatter([value], [0.0], s=52, c=_BLUE, marker="D", zorder=3, label="" if number else "measured")
        place = (0, 10 + 12 * (number % 3))
        axes.annotate(f"{name} {value:.3f}", (value, 0), place, ha="center", color=_BLUE, arrowprops=line, **beside)
    axes.set_ylim(-1, 2.2)
    axes.set_yticks([])
    axes.margins(x=0.12)
    axes.set_title(f"{task}, {label(measure)}", fontsize=9, loc="left")
    axes.tick_params(axis="x", labelsize=8)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=7, loc="upper left", frameon=False)


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _needs(what: str) -> ImportError:
    return ImportError(f"The report needs {what}: pip install 'pyterrier-jacolbert[evaluate]'.")
