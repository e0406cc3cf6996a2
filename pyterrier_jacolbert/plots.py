"""Pictures: similarities of tokens, systems side by side, the lengths of an index's documents, training curves.

Each function returns a matplotlib figure, which a notebook shows and ``.savefig(path)`` keeps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pyterrier_jacolbert.drawing import name_dots, new_figure, write_in
from pyterrier_jacolbert.fonts import drawable, japanese_fonts
from pyterrier_jacolbert.frames import QID, QUERY
from pyterrier_jacolbert.tokens import TEXT, Token

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyterrier_jacolbert.explain import Explanation
    from pyterrier_jacolbert.searched import SearchedIndex

#: Blue and orange that people who see no red or no green tell apart (Okabe and Ito 2008).
_MORE, _LESS = "#0072b2", "#d55e00"
#: Characters of a query that are shown beside a plot.
_QUERY_CHARACTERS = 22


def plot_similarities(explanation: Explanation, *, special: bool = False, most: int = 60) -> Figure:
    """The similarities of query and document tokens as a heat map, the best of each row framed.

    Args:
        explanation: of a query and a document.
        special: whether to show, beside the query's own words, [CLS], [SEP], what the model puts before a query, and
            [MASK] positions.
        most: where the document has more tokens than this, only those that a shown query token met, and their
            neighbours, are shown.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib or a font with Japanese characters is not installed.
        ValueError: the document has no tokens.
    """
    if not explanation.document_tokens:
        raise ValueError(f"There is nothing to plot: {explanation!r} is of a document without text; take another.")
    rows = np.flatnonzero(explanation.of_kind(TEXT))
    if special or not len(rows):
        rows = np.arange(len(explanation.query_tokens))
    columns = _columns(explanation.best[rows], len(explanation.document_tokens), most)
    matrix = np.full((len(rows), len(columns)), np.nan, dtype=np.float32)
    there = columns >= 0
    matrix[:, there] = explanation.similarities[np.ix_(rows, columns[there])]
    fonts, draw = japanese_fonts(), drawable()
    figure, axes = new_figure(max(4.0, 0.27 * len(columns) + 2.6), max(2.2, 0.3 * len(rows) + 1.7))
    image = axes.imshow(matrix, cmap="YlOrBr", aspect="auto", vmin=float(np.nanmin(matrix)), vmax=1.0)
    from matplotlib.patches import Rectangle

    for number, best in enumerate(explanation.best[rows].tolist()):
        place = int(np.flatnonzero(columns == best)[0])
        axes.add_patch(Rectangle((place - 0.5, number - 0.5), 1, 1, fill=False, edgecolor="#1f2328", linewidth=1.4))
    axes.set_yticks(range(len(rows)), [draw(_label(explanation.query_tokens[row])) for row in rows.tolist()])
    labels = [draw(_label(explanation.document_tokens[column])) if column >= 0 else "…" for column in columns.tolist()]
    axes.set_xticks(range(len(columns)), [_downwards(label) for label in labels])
    for text in axes.get_xticklabels():
        # Japanese stands upright, one character below the other; the rest lies.
        text.set_rotation(0 if "\n" in text.get_text() or len(text.get_text()) == 1 else 90)
    axes.set_title(draw(explanation.query[: 2 * _QUERY_CHARACTERS]), loc="left", fontsize=11)
    figure.colorbar(image, ax=axes, label="cosine", fraction=0.03, pad=0.02)
    axes.tick_params(length=0)
    write_in(axes, fonts)
    return figure


def plot_differences(
    perquery: pd.DataFrame,
    baseline: str,
    system: str,
    *,
    measure: str | None = None,
    topics: pd.DataFrame | None = None,
    named: int = 5,
) -> Figure:
    """What a system gains and loses against another, query by query, greatest gain first.

    Args:
        perquery: what ``pt.Experiment(..., perquery=True)`` gives: ``name``, ``qid``, ``measure``, ``value``.
        baseline: the name of the system that differences are taken from.
        system: the name of the other.
        measure: as the frame names it; None takes the first.
        topics: ``qid`` and ``query``, to name queries by their text; None names them by qid.
        named: how many of the greatest gains and losses are named.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib or a font with Japanese characters is not installed.
        ValueError: the frame does not have the systems or the measure, or they share no query.
    """
    differences = query_differences(perquery, baseline, system, measure=measure)
    measure = measure or str(perquery["measure"].iloc[0])
    fonts, draw = japanese_fonts(), drawable()
    figure, axes = new_figure(9.5, 4.2)
    values = differences.to_numpy()
    places = np.arange(len(values))
    axes.bar(places, values, width=1.0, color=np.where(values > 0, _MORE, _LESS))
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
    lines = _extremes(differences, texts, named)
    axes.text(1.02, 1.0, "\n".join(map(draw, lines)), transform=axes.transAxes, va="top", fontsize=9, linespacing=1.5)
    write_in(axes, fonts)
    return figure


def query_differences(
    perquery: pd.DataFrame, baseline: str, system: str, *, measure: str | None = None
) -> pd.Series[float]:
    """The differences of a measure by qid, greatest first; arguments and errors as of :func:`plot_differences`."""
    missing = {"name", QID, "measure", "value"} - set(perquery.columns)
    if missing:
        raise ValueError(
            f"The frame has no column {sorted(missing)[0]!r}; give what pt.Experiment(..., perquery=True) returns."
        )
    measure = measure or (str(perquery["measure"].iloc[0]) if len(perquery) else "")
    chosen = perquery[perquery["measure"].astype(str) == str(measure)]
    values = []
    for name in (baseline, system):
        rows = chosen[chosen["name"] == name]
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
    """Milliseconds a query against quality: a dot a system, and a line through those that none beats in both.

    Args:
        table: what ``pt.Experiment(systems, topics, qrels, [nDCG @ 10, "mrt"])`` gives: ``name``, ``mrt`` and measures.
        measure: as the table names it; None takes its first.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib or a font with Japanese characters is not installed.
        ValueError: the table has no times, or not the measure.
    """
    measures = [str(name) for name in table.columns if name not in ("name", "mrt") and " " not in str(name)]
    if "mrt" not in table.columns or not measures:
        raise ValueError(
            f"The table has the columns {list(map(str, table.columns))}; give what pt.Experiment returns with the "
            "measures [nDCG @ 10, 'mrt']."
        )
    measure = measures[0] if measure is None else measure
    if measure not in measures:
        raise ValueError(f"The table has no measure {measure!r}; name one of {', '.join(measures)}.")
    fonts, draw = japanese_fonts(), drawable()
    figure, axes = new_figure(8.0, 4.4)
    from matplotlib.ticker import LogLocator, NullFormatter

    ordered = table.sort_values(["mrt", measure], ascending=[True, False], kind="stable")
    times, values = ordered["mrt"].to_numpy(dtype=float), ordered[measure].to_numpy(dtype=float)
    best = values > np.concatenate([[-np.inf], np.maximum.accumulate(values)[:-1]])
    axes.plot(times[best], values[best], color=_MORE, linewidth=1.0, alpha=0.5, zorder=1)
    axes.scatter(times, values, color=np.where(best, _MORE, _LESS), zorder=2)
    if times.min() > 0 and times.max() > 8 * times.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")  # numbers: powers of ten would be formulas
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08, y=0.16)
    axes.set_xlabel("milliseconds a query (mrt)")
    axes.set_ylabel(measure)
    axes.set_title("Quality against time; the line joins what none beats in both", loc="left", fontsize=11)
    name_dots(axes, times, values, [draw(str(name)) for name in ordered["name"]], fonts)
    write_in(axes, fonts)
    return figure


def plot_training(*runs: str | Path) -> Figure:
    """The loss of training runs over their steps, and below it the measure on held-out data where there is one.

    Args:
        *runs: folders that :func:`pyterrier_jacolbert.train.distill.distill` wrote, each named by its own name.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no run is given.
        FileNotFoundError: a folder has no log.
    """
    if not runs:
        raise ValueError("plot_training() needs a run; give it the folder of one.")
    logs = {}
    for run in map(Path, runs):
        path = run / "log.jsonl"
        if not path.is_file():
            raise FileNotFoundError(f"There is no log {path}; give the folder of a training run.")
        logs[run.name] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    measured = any("held_out" in line for log in logs.values() for line in log)
    figure, axes = new_figure(8.0, 5.2 if measured else 3.6)
    from matplotlib.ticker import MaxNLocator

    panels = [("loss", "training loss", axes)]
    if measured:
        axes.remove()
        panels = [
            (key, label, figure.add_subplot(2, 1, number))
            for number, (key, label) in enumerate(
                (("loss", "training loss"), ("held_out", "held-out measure")), start=1
            )
        ]
    for key, label, panel in panels:
        for name, log in logs.items():
            points = [(line["step"], line[key]) for line in log if key in line]
            panel.plot(*np.array(points).reshape(-1, 2).T, label=name, marker="o" if len(points) < 40 else None, ms=3)
        panel.set_ylabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[-1][2].set_xlabel("step")
    panels[0][2].legend(frameon=False)
    return figure


def length_statistics(index: SearchedIndex) -> pd.Series[float]:
    """How many token vectors the documents of an index have; deleted documents do not count.

    Args:
        index: the index.

    Returns:
        ``documents``, ``without text``, ``tokens`` in all, and of the lengths of documents ``mean``, ``median``,
        ``95 %`` (so many have at most that) and ``longest``.
    """
    lengths = _lengths(index)
    some = lengths if len(lengths) else np.zeros(1, dtype=np.int64)
    return pd.Series(
        {
            "documents": float(len(lengths)),
            "without text": float((lengths == 0).sum()),
            "tokens": float(lengths.sum()),
            "mean": float(some.mean()),
            "median": float(np.median(some)),
            "95 %": float(np.quantile(some, 0.95)),
            "longest": float(some.max()),
        }
    )


def plot_lengths(index: SearchedIndex, *, bins: int = 60) -> Figure:
    """How many token vectors the documents of an index have, as a histogram with the median and the 95 % quantile.

    A peak at the right end is documents that were cut at the checkpoint's length: passages
    (:func:`pyterrier_jacolbert.japanese.passages`) keep what they lose.

    Args:
        index: the index.
        bins: of the histogram, at most.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    statistics = length_statistics(index)
    lengths = _lengths(index)
    longest = int(statistics["longest"])
    figure, axes = new_figure(8.0, 3.6)
    step = max(1, -(-(longest + 1) // bins))
    axes.hist(lengths, bins=(np.arange(0, longest + step + 1, step) - 0.5).tolist(), color=_MORE)
    for name, style in (("median", "-"), ("95 %", "--")):
        label = f"{name}: {statistics[name]:.0f}"
        axes.axvline(statistics[name], color=_LESS, linestyle=style, linewidth=1.4, label=label)
    axes.set_xlabel("token vectors of a document")
    axes.set_ylabel("documents")
    documents, tokens, without = (int(statistics[name]) for name in ("documents", "tokens", "without text"))
    axes.set_title(f"{documents:,} documents, {tokens:,} vectors, {without:,} without text", loc="left", fontsize=11)
    axes.legend(frameon=False)
    return figure


def _lengths(index: SearchedIndex) -> np.ndarray:
    """int64 ``(n_documents,)``."""
    stored = index.token_vectors()
    lengths = np.diff(stored.starts)
    return lengths if stored.present is None else lengths[stored.present]


def _columns(best: np.ndarray, count: int, most: int) -> np.ndarray:
    """The document tokens to show, ascending, with -1 where some are left out between two."""
    if count <= most:
        return np.arange(count)
    chosen = np.unique(best)
    for around in range(1, most):
        near = np.unique(np.clip(chosen[:, None] + np.arange(-around, around + 1), 0, count - 1))
        if len(near) > most:
            break
        best = near
    chosen = np.unique(best)
    gaps = np.flatnonzero(np.diff(chosen) > 1) + 1
    return np.insert(chosen, gaps, -1)


def _label(token: Token) -> str:
    return token.spelling.strip() or "␣"


def _downwards(label: str) -> str:
    return "\n".join(label) if all(ord(character) > 0x2E7F for character in label) else label


def _extremes(differences: pd.Series[float], texts: dict[str, str], named: int) -> list[str]:
    """The greatest gains and losses, a line each, under headings."""
    lines: list[str] = []
    gains = differences[differences > 0].head(named)
    losses = differences[differences < 0].tail(named)[::-1]
    for heading, some in (("greatest gains", gains), ("greatest losses", losses)):
        lines += ([""] if lines else []) + [heading]
        for qid, value in some.items():
            text = str(texts.get(str(qid), qid))
            cut = text if len(text) <= _QUERY_CHARACTERS else text[: _QUERY_CHARACTERS - 1] + "…"
            lines.append(f"{value:+.3f}  {cut}")
    return lines
