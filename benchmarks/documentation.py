"""Writes the tables of the documentation that are facts of the package: tasks, data sets, published results.

    python -m benchmarks.documentation          # writes them into pyterrier_jacolbert/pt_docs/benchmarks.rst

Needs the extra ``evaluate``, and no network. The tests compare the page with what this would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyterrier_jacolbert
from pyterrier_jacolbert.datasets import _DATASETS
from pyterrier_jacolbert.suite.protocols import PAPER_TASKS, TASKS, protocol_of
from pyterrier_jacolbert.suite.published import published
from pyterrier_jacolbert.suite.tables import label

PAGE = Path(pyterrier_jacolbert.__file__).parent / "pt_docs" / "benchmarks.rst"


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


def filled(page: str) -> str:
    """The page with its tables as they should be: each stands after a comment ``.. table: NAME``."""
    for name, table in {"tasks": tasks(), "data sets": data_sets(), "published": results()}.items():
        page, found = re.subn(
            rf"(?<=^\.\. table: {name}\n\n)(?:\.\. csv-table::\n(?:(?:   .*)?\n)*)?", f"{table}\n", page, flags=re.M
        )
        if found != 1:
            raise ValueError(f"{PAGE.name} has {found} places '.. table: {name}'; make it one.")
    return page


def tasks() -> str:
    """A row a task, the paper's first."""
    rows = []
    for task in TASKS:
        how = protocol_of(task)
        done = f"search {how.documents:,}" if how.stage == "retrieve" else f"re-rank {how.candidates} candidates"
        rows.append((f"``{task}``", f"``jacolbert:{how.dataset}``", f"{how.queries:,}", done, label(how.measure)))
    return _table(("task", "data set", "queries", "what is done", "measure"), rows)


def data_sets() -> str:
    """A row a data set of this package."""
    rows = []
    for irds_id, dataset in _DATASETS.items():
        counts = {
            kind: dataset.metadata()[kind].get("count") for kind in ("docs", "queries") if dataset.metadata().get(kind)
        }
        numbers = [f"{counts[kind]:,}" if counts.get(kind) else "" for kind in ("docs", "queries")]
        rows.append((f"``{irds_id.removeprefix('jacolbert-')}``", *numbers, dataset.documentation()["licence"]))
    return _table(("name", "documents", "queries", "licence"), rows)


def results() -> str:
    """The published rows that have all of the paper's five tasks, best mean first."""
    measures = {task: protocol_of(task).measure for task in PAPER_TASKS}
    rows = []
    for row in sorted((row for row in published() if row.mean is not None), key=lambda row: -(row.mean or 0)):
        values = []
        for task in PAPER_TASKS:
            marks = "†" * (task in row.without_projection) + r"\*" * (task in row.in_domain)
            values.append(_short(row.scores[task][measures[task]]) + marks)
        rows.append((row.model, _short(row.mean or 0), *values))
    return _table(("model", "mean", *(f"{task} {label(measures[task])}" for task in PAPER_TASKS)), rows)


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["   " + ", ".join(f'"{cell}"' for cell in row) for row in (header, *rows)]
    return "\n".join([".. csv-table::", "   :header-rows: 1", "", *lines, ""])


if __name__ == "__main__":
    main()
