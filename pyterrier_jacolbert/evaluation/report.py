"""The report of an evaluation: Markdown, HTML and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert.evaluation.published import Published, published
from pyterrier_jacolbert.evaluation.results import Results, TaskResult
from pyterrier_jacolbert.evaluation.tables import Table, label, tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLE = "Measured and published results"
_PLOT = "plot.png"
_BLUE, _GREY, _DARK_GREY, _YELLOW = "#1f6feb", "#9aa5b1", "#5b6670", "#d9a441"


def write_report(results: Results, folder: Path) -> list[Path]:
    """Writes ``report.md``, ``report.html`` and ``plot.png``.

    Args:
        results: results to report.
        folder: existing folder of the report.

    Returns:
        The paths of the files.

    Raises:
        ImportError: a package that the report needs is not installed.
    """
    report_tables = tables(results)
    paths = [folder / "report.md", folder / "report.html", folder / _PLOT]
    paths[0].write_text(markdown(report_tables), encoding="utf-8")
    paths[1].write_text(html(report_tables, results), encoding="utf-8")
    plot(results, paths[2])
    return paths


def markdown(report_tables: list[Table]) -> str:
    """Formats the tables as Markdown, with measured systems in bold."""
    lines = [f"# {_TITLE}", ""]
    for table in report_tables:
        lines += [f"## {table.title}", "", _markdown_line(table.header), _markdown_line(["---"] * len(table.header))]
        for row in table.rows:
            lines.append(_markdown_line([f"**{row.name}**" if row.measured else row.name, *row.cells]))
        # An unescaped asterisk at the start of a note would begin a nested list.
        lines += ["", *("- " + note.replace("*", "\\*") for note in table.notes), ""]
    return "\n".join(lines)


def summary(results: Results) -> str:
    """Formats the measured values for the terminal, a line per task and system."""
    lines = []
    for task_result in results.tasks.values():
        for name, system_result in task_result.systems.items():
            values = "  ".join(f"{label(measure)} {value:.4f}" for measure, value in system_result.values.items())
            lines.append(f"{task_result.protocol.task}  {name}  {values}")
    for name in results.systems():
        if (mean := results.mean(name)) is not None:
            lines.append(f"mean of five  {name}  {mean:.4f}")
    return "\n".join(lines)


def html(report_tables: list[Table], results: Results) -> str:
    """Formats the tables as an HTML page that includes the plot.

    Raises:
        ImportError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise _missing_package("Jinja") from None
    template = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(title=_TITLE, tables=report_tables, results=results, plot=_PLOT)


def plot(results: Results, path: Path) -> None:
    """Plots a panel per task: published values as dots on a line, measured values with their names.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise _missing_package("matplotlib") from None
    figure = Figure(figsize=(9, 0.9 + 1.35 * len(results.tasks)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(results.tasks), 1, squeeze=False)[:, 0]
    for axes, (task, task_result) in zip(panels, results.tasks.items(), strict=True):
        rows = [row for row in published() if task_result.protocol.measure in row.scores.get(task, {})]
        _plot_published(axes, rows, task, task_result.protocol.measure)
        _plot_measured(axes, task_result)
        _format_panel(axes, f"{task}, {label(task_result.protocol.measure)}")
    # All labels are Latin because matplotlib's default font has no Japanese characters.
    figure.suptitle(f"Measured (with names) and published results, protocol {results.protocol}", fontsize=11)
    figure.savefig(path, dpi=150)


def _plot_published(axes: Axes, rows: Sequence[Published], task: str, measure: str) -> None:
    """Plots the published values of a task and names the best model."""
    for without, colour, name in ((False, _GREY, "published"), (True, _YELLOW, "published, without projection")):
        values = [row.scores[task][measure] for row in rows if (task in row.without_projection) == without]
        if values:
            axes.scatter(values, [0.0] * len(values), s=34, c=colour, marker="x" if without else "o", label=name)
    best = max(rows, key=lambda row: row.scores[task][measure], default=None)
    if best is not None:
        point = (best.scores[task][measure], 0)
        axes.annotate(best.model, point, (0, -15), ha="right", color=_DARK_GREY, **_annotation_style())


def _plot_measured(axes: Axes, result: TaskResult) -> None:
    """Plots the measured values of a task and names each system at one of three heights."""
    measure = result.protocol.measure
    by_value = sorted(result.systems.items(), key=lambda item: item[1].values[measure])
    line = {"arrowstyle": "-", "lw": 0.5, "color": _BLUE}
    for number, (name, system_result) in enumerate(by_value):
        value = system_result.values[measure]
        axes.scatter([value], [0.0], s=52, c=_BLUE, marker="D", zorder=3, label="" if number else "measured")
        offset = (0, 10 + 12 * (number % 3))
        text = f"{name} {value:.3f}"
        axes.annotate(text, (value, 0), offset, ha="center", color=_BLUE, arrowprops=line, **_annotation_style())


def _annotation_style() -> dict[str, Any]:
    return {"textcoords": "offset points", "fontsize": 8}


def _format_panel(axes: Axes, title: str) -> None:
    axes.set_ylim(-1, 2.2)
    axes.set_yticks([])
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=9, loc="left")
    axes.tick_params(axis="x", labelsize=8)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=7, loc="upper left", frameon=False)


def _markdown_line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _missing_package(package: str) -> ImportError:
    return ImportError(f"The report needs {package}: pip install 'pyterrier-jacolbert[evaluate]'.")
